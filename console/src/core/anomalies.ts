/** What the analytics answer: anomalies, thresholds, forecasts, log templates, operations. */
import { span } from './format'
import type { Severity } from './types'

export interface Anomaly {
  fingerprint: string
  title: string
  entity: string
  series: string
  metric: string
  unit: string
  reason: string
  horizon: string
  technique: string
  severity: Severity
  status: 'firing' | 'resolved'
  value: number | null
  expected: number | null
  lower: number | null
  upper: number | null
  score: number | null
  since: string
  until: string | null
  /** Frequent but no worse than before. */
  demoted: boolean
  verdict: '' | 'useful' | 'noise' | 'expected'
}

const VIEWS: Record<string, string> = {
  point: 'one point',
  pair: 'two points',
  sum: 'a slow sum',
  run: 'a run of points',
  minute: 'one minute',
  minutes: 'minutes',
  absence: 'minutes without it',
  first: 'the first line of its kind',
  session: 'whole sessions',
  siblings: 'five minutes beside its siblings',
  metrics: 'one minute of all its metrics',
  cadence: 'its regular times',
  'profile-day': 'the time of day',
  'profile-week': 'the time of week',
}

/** What the technique looked over when it saw the anomaly; empty when that says nothing. */
export function lookedOver({ horizon }: Pick<Anomaly, 'horizon'>): string {
  const [, seconds] = /^(\d+) s$/.exec(horizon) ?? []
  if (seconds) return span(Number(seconds))
  return /^\d+$/.test(horizon) ? `${horizon} points` : (VIEWS[horizon] ?? horizon)
}

/** A series that behaves as it rarely does; nothing alarmed. */
export interface Interesting {
  series: string
  name: string
  label: string
  entity: string
  unit: string
  strength: number
  value: number
  lower: number | null
  upper: number | null
  kinds: string[]
  since: string
  text: string
  deviation: string
}

/** One change of what is believed of thresholds, or from verdicts on incidents. */
export interface Move {
  about: 'thresholds' | 'incidents'
  id: number
  time: string
  scope: string
  target: string
  before: number | Record<string, number>
  after: number | Record<string, number>
  why: string
  actor: string
  undone: boolean
}

/** What was expected, what came, and what made an alarm of it; thresholds are of one series. */
export interface Why {
  anomaly: Anomaly
  expected_band: [number | null, number | null]
  deviation: number | null
  deviation_words: string
  details: Record<string, string>
  thresholds: Thresholds | null
}

export interface Thresholds {
  threshold: number
  base: number
  scope: string
  scope_name: string
  word: string
  word_factor: number
  verdict_factor: number
  fatigue_factor: number
  held: boolean
  learned: Move[]
}

export interface Sensitivity {
  scope: string
  name: string
  word: string
  target: number
  measured: number | null
  alarms: number
  useful: number
  series: number
}

interface Side {
  alarms: number
  rate: number | null
  low: number | null
  high: number | null
}

export interface Comparison {
  candidate: Record<string, number>
  since: string | null
  series: number
  series_weeks: number
  current: Side
  candidate_side: Side
  both: number
  only_current: number
  only_candidate: number
  earlier: number
  later: number
  chance: number
}

interface Breach {
  earliest: string | null
  likely: string | null
  latest: string | null
  chance: number
}

export interface Quality {
  lead: string
  issued: number
  judged: number
  relative_error: number | null
  coverage_95: number | null
  coverage_80: number | null
}

export interface Ahead {
  series: string
  name: string
  unit: string
  entity: string
  title: string
  threshold: number | null
  direction: string
  why: string
  last: number | null
  breach: Breach
}

/** What a series will be; arrays are of one length. */
export interface Forecast {
  time: number[]
  centre: number[]
  lower: number[]
  upper: number[]
  model: string
  backtest_error: number | null
  threshold: number | null
  why: string | null
  breach: Breach | null
  quality: Quality[]
}

export interface ChangePoint {
  time: string
  kind: 'level' | 'slope' | 'spread'
  before: number
  after: number
  confidence: number
}

export interface Template {
  id: string
  text: string
  count: number
  rate_now: number
  rate_usual: number
  severity: number
  first_seen: string
  last_seen: string
  entities: string[]
  kinds: string[]
  example: string
}

export interface TemplateDetail extends Template {
  holes: { type: string; distinct: number; looked: number; examples: string[] }[]
  surges: { entity: string; fields: { text: string; explained: number }[] }[]
  rate: { time: number; lines: number }[]
}

export interface Operation {
  entity: string
  operation: string
  calls_per_min: number
  usual_calls_per_min: number
  error_share: number
  usual_error_share: number
  p50_ms: number | null
  p95_ms: number | null
  p99_ms: number | null
  usual_p50_ms: number | null
  usual_p95_ms: number | null
  usual_p99_ms: number | null
  errors: { kind: string; share: number; usual_share: number; since: string | null }[]
  shifted_since: string | null
}

export interface CriticalPath {
  traces: number
  contributors: { entity: string; operation: string; in_transit: boolean; share: number; usual_share: number; usual_ms: number; since: string | null }[]
}
