/** The shapes of the API about one source and about kinds of sources. Times are RFC 3339 strings; spans are seconds. */

export interface Term {
  name: string
  points: number | null
  most: number
  measured: string
  how: string
}

export interface Freedom {
  source: string
  kind: string
  extraction: string
  programmatic: boolean
  types: string[]
  frequency_s: number | null
  jitter: number | null
  delay_p50_s: number | null
  delay_p99_s: number | null
  completeness: number | null
  history_days: number
  schema_changes: number | null
  load: { requests: number; bytes: number } | null
  terms: Term[]
  score: number | null
  arithmetic: string
  advice: { term: string; lost: string; text: string }[]
}

export interface Stream {
  signal: string
  rows: number
  deliveries: number
  regular: boolean
  every_s: number | null
  silent_after_s: number | null
  rows_usual: number | null
  delay_p50_s: number | null
  delay_p99_s: number | null
  step_s: number | null
  points_missing: number
  variety: number
  oldest: string | null
  newest: string | null
}

export interface Field {
  path: string
  type: string
  types: Record<string, number>
  unit: string
  examples: string[]
  distinct: number
  distinct_exact: boolean
  null_rate: number
  first_seen: string
  last_seen: string
  gone: boolean
}

export interface Change {
  field: string
  change: 'new' | 'vanished' | 'returned' | 'retyped'
  was: string
  now: string
}

export interface Model {
  signal: string
  type: string
  version: number
  learning: boolean
  sampled: number
  first_seen: string
  last_seen: string
  fields: Field[]
  /** Fields beyond those that are followed. */
  overflow: number
  versions: { version: number; since: string; changes: Change[] }[]
}

/** What would be blind, late or wrong without the source. */
export interface Radius {
  series: number
  detectors: number
  entities: number
  rules: string[]
  incidents_30d: number
  workflows: string[]
  kpis: string[]
  use_cases: Record<string, 'lost' | 'weaker'>
  only_source_of: string[]
}

/** A drift that is not over. */
export interface Drifting {
  source: string
  signal: string
  what: string
  since: string
  usual: string
  now: string
  text: string
  detail: string
}

export interface Drift {
  id: string
  signal: string
  what: string
  title: string
  severity: 'critical' | 'high' | 'warning' | 'info'
  usual: string
  now: string
  since: string
  until: string | null
  ending: string
  radius: Radius
  notice: 'none' | 'waiting' | 'held' | 'sent' | 'recovered'
}

export interface SourceDetail {
  name: string
  /** The name of the mapping that reads it; empty when nothing it sends has to be mapped. */
  mapping: string
  freedom: Freedom
  streams: Stream[]
  models: Model[]
  drifting: Drifting[]
  drifts: Drift[]
  radius: Radius
}

export interface MappingTable {
  records: string
  kind: string
  fields: Record<string, string>
  fingerprint: string[]
  timezone?: string
}

export interface Suggestion {
  target: string
  path: string
  confidence: number
  example: string
}

export interface MappingInfo {
  name: string
  origin: 'saved' | 'configuration' | 'none'
  version: number
  mapping: MappingTable | null
  yaml: string
  versions: { version: number; author: string; note: string; time: string; mapping: MappingTable }[]
  suggestions: Suggestion[]
}

export type Reading = Record<string, unknown>

export interface Preview {
  items: { id: string; raw: string; before: Reading; after: Reading | null; changed: string[]; error: string }[]
  changed: number
  failed: number
}

export interface Applied {
  read: number
  replaced: number
  superseded: number
  unreadable: number
  reasons: Record<string, number>
}

/** A JSON schema, as far as settings of sources use it. */
export interface Schema {
  type?: string
  format?: string
  title?: string
  description?: string
  default?: unknown
  enum?: (string | number)[]
  const?: unknown
  minimum?: number
  maximum?: number
  items?: Schema
  anyOf?: Schema[]
  $ref?: string
  properties?: Record<string, Schema>
  required?: string[]
  $defs?: Record<string, Schema>
}

export interface Kind {
  kind: string
  title: string
  extraction: 'push' | 'stream' | 'poll' | 'file'
  signals: string[]
  /** It runs by itself, without being configured. */
  always: boolean
  docs: string
  schema: Schema
}

export interface Attempt {
  said: string
  samples: { signal: string; rows: number; first: Reading[] }[]
  suggestions: Suggestion[]
  mapping: string
  /** As what its records are read without a mapping. */
  kind: string
  cadence: string
  settings: Record<string, unknown>
}
