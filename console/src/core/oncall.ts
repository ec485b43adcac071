/** On-call: who it is, what people arranged, who was paged. Times are RFC 3339 strings. */
import type { Matcher } from './alerts'

export interface Shift {
  start: string
  end: string
  person: string
  of: string
}

export interface Restriction {
  days: string[]
  starts: string
  ends: string
}

export interface Layer {
  name: string
  people: string[]
  starts: string
  ends: string
  rrule: string
  restrictions: Restriction[]
}

export interface Override {
  id: number
  schedule: string
  person: string
  starts: string
  ends: string
  reason: string
  actor: string
}

export interface Schedule {
  name: string
  title: string
  timezone: string
  layers: Layer[]
  on_call: string[]
  until: string | null
  next: string[]
  shifts: Shift[]
  gaps: { start: string; end: string }[]
  overrides: Override[]
  calendar: { from: '' | 'url' | 'text'; read: string | null; linked: boolean }
  problems: string[]
  version: number
}

export interface Team {
  name: string
  title: string
  members: string[]
  schedules: string[]
  matchers: Matcher[]
  on_call: { schedule: string; people: string[]; until: string | null; next: string[] }[]
  version: number
}

export interface Target {
  kind: 'schedule' | 'person' | 'team'
  name: string
}

export interface PolicyStep {
  after_s: number
  targets: Target[]
}

export interface Policy {
  name: string
  title: string
  order: number
  matchers: Matcher[]
  steps: PolicyStep[]
  wait_s: number
  repeat: number
  enabled: boolean
  version: number
}

export interface Person {
  name: string
  live: boolean
  contacts: { name: string; uses: string; after_s: number; asks: string[] }[]
}

export interface Page {
  id: number
  incident: string | null
  person: string
  contact: string
  uses: string
  reason: string
  status: 'due' | 'sending' | 'delivered' | 'failed' | 'unknown' | 'cancelled'
  attempts: number
  due: string
  sent: string | null
  finished: string | null
  error: string
}

export interface OnCall {
  at: string
  end: string
  schedules: Schedule[]
  teams: Team[]
  policies: Policy[]
  people: Person[]
}

/** The path of something arranged. */
export const pathOf = (kind: 'schedules' | 'teams' | 'policies' | 'people', name: string): string => `oncall/${kind}/${encodeURIComponent(name)}`

/** Local time as a field of the browser has it. */
export const field = (ms: number): string => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
