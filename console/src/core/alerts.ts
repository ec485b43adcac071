/** Alerts, the mutes that hide them, and what people write of mutes. */
import type { Severity } from './types'

export const STATES = ['firing', 'acknowledged', 'pending', 'suppressed', 'resolved', 'expired'] as const
export type AlertState = (typeof STATES)[number]

export interface Alert {
  fingerprint: string
  title: string
  entity: string
  kind: string
  rule: string
  severity: Severity
  state: AlertState
  since: string
  /** When one that is pending begins to count. */
  until: string | null
  first: string
  last: string
  heard: string | null
  count: number
  incident: string | null
  mutes: string[]
  inhibitions: { rule: string; by: string; title: string }[]
  /** The id of its last event. */
  event: string
  source: string
  source_id: string
  attributes: Record<string, string>
}

export interface AlertPage {
  items: Alert[]
  next: string | null
  counts: Record<AlertState | 'all', number>
}

export interface AlertDetail extends Alert {
  why: { time: string; step: string; text: string }[]
}

/** What somebody saved, or the configuration says. */
interface Setting {
  name: string
  origin: 'saved' | 'configuration'
  author: string
  version: number
  matchers: string[]
}

export interface AlertRule extends Setting {
  for_s?: number
  keep_firing_for_s?: number
  samples?: number
  samples_within_s?: number
  flapping?: number
  flapping_within_s?: number
  expire_after_s?: number
}

export interface Heartbeat extends Setting {
  every_s: number
  grace_s: number
  severity: Severity
  entity: string
  state: 'waiting' | 'beating' | 'late'
  last: string | null
  late: string | null
  beats: number
  event: string
}

export interface Inhibition extends Omit<Setting, 'matchers'> {
  source_matchers: string[]
  target_matchers: string[]
  equal: string[]
  hides: number
}

export interface Settings<T> {
  items: T[]
}

export type Op = '=' | '!=' | '=~' | '!~'

export interface Matcher {
  name: string
  op: Op
  value: string
}

export interface Mute {
  id: string
  kind: 'silence' | 'maintenance' | 'change'
  /** The ticket that opened it. */
  origin: string
  state: 'active' | 'pending' | 'expired'
  matchers: Matcher[]
  text: string
  starts: string
  ends: string
  rrule: string
  duration_s: number
  timezone: string
  until: string | null
  owner: string
  reason: string
  created: string
  changed: string
  hides: number
  examples: { fingerprint: string; title: string; entity: string; severity: Severity; since: string }[]
}

export interface MutePage {
  items: Mute[]
  counts: Record<Mute['state'], number>
  hidden: number
}

export interface MutePreview {
  since: string
  events: number
  of_events: number
  alerts: number
  of_alerts: number
  firing: number
  rules: { rule: string; events: number }[]
  incidents: string[]
  examples: { fingerprint: string; title: string; entity: string; severity: Severity; time: string; firing: boolean }[]
}

const WRITTEN = /^\s*([^\s=!~{}"',]+)\s*(=~|!~|!=|=)\s*(.*?)\s*$/

/** Matchers of text, one a line; a line that is none is an error in a sentence. */
export function readMatchers(text: string): Matcher[] | string {
  const found: Matcher[] = []
  for (const line of text.split('\n').filter((each) => each.trim())) {
    const parts = WRITTEN.exec(line)
    if (!parts) return `“${line.trim()}” is no matcher; write one such as service=cart or service=~cart|web.`
    const quoted = /^"(.*)"$/.exec(parts[3]!)
    found.push({ name: parts[1]!, op: parts[2] as Op, value: quoted ? (JSON.parse(parts[3]!) as string) : parts[3]! })
  }
  return found
}

/** Matchers as text, one a line. */
export const writeMatchers = (matchers: readonly Matcher[]): string => matchers.map(({ name, op, value }) => `${name}${op}${value}`).join('\n')
