/** The shapes of the API under /api/v1. Times are RFC 3339 strings; chart arrays are epoch seconds. */

export type Severity = 'critical' | 'high' | 'warning' | 'info'
export type IncidentStatus = 'open' | 'acknowledged' | 'mitigated' | 'resolved'
export type RunStatus = 'queued' | 'running' | 'waiting' | 'succeeded' | 'failed' | 'rejected' | 'cancelled'
export const TOPICS = ['incident', 'alert', 'mute', 'run', 'approval', 'source', 'detection', 'forecast', 'oncall', 'page', 'heartbeat'] as const
export type Topic = (typeof TOPICS)[number]

export interface Summary {
  open: number
  acknowledged: number
  mitigated: number
  resolved: number
  all: number
  alerts: number
  incidents: number
  noise_cut: number | null
  time_to_acknowledge_s: number | null
  time_to_resolve_s: number | null
  approvals_waiting: number
  sources: number
  quarantined: number
  delay_s: number | null
  version: string
}

export interface Incident {
  id: string
  title: string
  status: IncidentStatus
  severity: Severity
  entity: string
  alerts: number
  entities: number
  opened: string
  acknowledged: string | null
  resolved: string | null
  last_event: string
  owner: string
  teams: string[]
  mitigated: string | null
  confidence: number | null
  cause: { entity: string; kind: string; summary: string } | null
  needs: 'acknowledge' | 'approval' | ''
  truth: { entity: string; kind: string; text: string } | null
  feedback: 'useful' | 'noise' | 'wrong_cause' | ''
  merged_into: string | null
}

export interface IncidentPage {
  items: Incident[]
  next: string | null
  counts: Record<IncidentStatus | 'all', number>
}

export interface Evidence {
  kind: string
  text: string
  weight: number
  series: string | null
  time: string | null
}

export interface Candidate {
  entity: string
  score: number
  confidence: number
  evidence: Evidence[]
}

export interface OpsEvent {
  id: string
  time: string
  kind: string
  source: string
  entity: string
  title: string
  severity: Severity
  status: string
  fingerprint: string
  attributes: Record<string, unknown>
}

export interface MapNode {
  id: string
  label: string
  x: number
  y: number
  state: 'cause' | 'affected' | 'silent' | 'healthy'
}

export interface ServiceMap {
  nodes: MapNode[]
  edges: { from: string; to: string; kind: string; affected: boolean }[]
}

export interface IncidentDetail extends Incident {
  verdict: 'determined' | 'undetermined'
  reason: string
  candidates: Candidate[]
  events: OpsEvent[]
  changes: OpsEvent[]
  map: ServiceMap
  charts: { series: string; title: string; unit: string; entity: string }[]
  patterns: { pattern: string; template: string; count: number; usual: number; severity: Severity }[]
  similar: Similar[]
  runs: Run[]
  approvals: Approval[]
  tickets: { system: string; id: string; url: string; status: string; owner: string }[]
  escalation: { policy: string; status: string; step: number; steps: number; round: number; due: string | null } | null
}

export interface Similar {
  id: string
  title: string
  opened: string
  resolved: string | null
  cause: string
  fixed_by: string
  score: number
  reasons: string[]
}

/** One thing that was done about an incident: a run, a change, or what somebody did. */
export interface Remedy {
  time: string
  kind: string
  text: string
  actor: string
  status: string
}

export interface TimelineItem {
  time: string
  kind: string
  title: string
  body: string
  actor: string
  source: string
  entity: string
  severity: Severity | ''
}

export interface LedgerItem {
  time: string
  step: string
  text: string
  detail: unknown
}

export interface Series {
  series: string
  name: string
  unit: string
  kind: string
  entity: string
  attributes: Record<string, string>
  source: string
}

export interface Points {
  series: string
  name: string
  unit: string
  kind: string
  entity: string
  time: number[]
  value: (number | null)[]
  low: (number | null)[]
  high: (number | null)[]
  measured: boolean[]
  lower: (number | null)[]
  upper: (number | null)[]
  centre: (number | null)[]
  findings: { time: string; until: string | null; kind: string; severity: Severity; text: string; demoted: boolean }[]
  changes: { time: string; title: string }[]
  samples: number
  step_s: number
  resolution: 'raw' | '1m' | '1h'
}

export interface Source {
  name: string
  kind: string
  signals: Record<string, { rows: number; rate_per_s: number }>
  first_seen: string | null
  last_seen: string | null
  delay_p50_s: number | null
  delay_p99_s: number | null
  quarantined: number
  state: 'flowing' | 'quiet' | 'silent'
  /** Its freedom, 0 to 100; null while it is not known. */
  score: number | null
  /** How many of its drifts are not over. */
  drifting: number
}

export interface Quarantined {
  id: string
  time: string
  source: string
  signal: string
  format: string
  reason: string
  where: string
  payload: string
  state: 'waiting' | 'replayed'
}

export interface Workflow {
  name: string
  description: string
  enabled: boolean
  mode: string
  trigger: string
  steps: { id: string; uses: string; risk: string }[]
  runs: { succeeded: number; failed: number; waiting: number }
  last_run: string | null
  problem: string
}

export interface Step {
  id: string
  uses: string
  risk: string
  status: string
  started: string | null
  finished: string | null
  attempts: number
  input: unknown
  output: unknown
  error: string
}

export interface Run {
  id: number
  workflow: string
  incident: string | null
  status: RunStatus
  started: string
  finished: string | null
  trigger: string
  error: string
  steps: Step[]
}

/** A question to a person; `ask` is exactly what will be sent. `unknown` asks about a step whose outcome nobody knows. */
export interface Approval {
  id: number
  run: number
  workflow: string
  step: string
  kind: 'step' | 'run' | 'unknown'
  incident: string | null
  incident_title: string
  uses: string
  risk: string
  role: 'operator' | 'admin'
  question: string
  ask: Record<string, unknown>
  requested: string
  expires: string | null
  decided: string | null
  status: 'waiting' | 'approved' | 'rejected' | 'skipped' | 'expired' | 'cancelled'
  actor: string
  note: string
}

/** `stopped` says why nothing starts at all; empty when it does. */
export interface WorkflowList {
  items: Workflow[]
  stopped: string
}

export interface Figure {
  name: string
  value: number | string | null
  unit: string
  text: string
  how: string
}

export interface RoadmapStep {
  number: number
  key: string
  title: string
  stage: 'early' | 'middle' | 'late'
  question: string
  score: number | null
  how: string
  figures: Figure[]
  missing: { text: string; hint: string }[]
}

export interface QueryResult {
  columns: { name: string; type: string }[]
  rows: unknown[][]
  truncated: boolean
  elapsed_s: number
}

export interface Me {
  name: string
  role: 'ingest' | 'viewer' | 'operator' | 'admin'
}

export interface Items<T> {
  items: T[]
}
