/** Small pieces that every page uses. */
import type { ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Problem } from '../core/api'
import { present } from '../core/clock'
import { age, clockTime, entityName, epoch } from '../core/format'
import type { Incident } from '../core/types'

/** A word with a tinted ground; `tone` is one of the health colours or neutral. */
export function Badge({ tone = 'plain', children }: { tone?: string; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>
}

const STATUS_TONE = { open: 'critical', acknowledged: 'info', mitigated: 'info', resolved: 'good' } as const

/** What an incident is, or what it waits for. */
export function StatusBadge({ incident }: { incident: Pick<Incident, 'status' | 'needs'> }) {
  if (incident.needs === 'approval') return <Badge tone="accent">approval</Badge>
  return <Badge tone={STATUS_TONE[incident.status]}>{incident.status}</Badge>
}

/** How sure the ranking of causes is: a bar and its number. */
export function Confidence({ value, width = 34 }: { value: number | null; width?: number }) {
  if (value === null) return <span class="confidence none">undetermined</span>
  return (
    <span class="confidence" title={`confidence ${value.toFixed(2)}`}>
      <svg width={width} height="4" aria-hidden="true">
        <rect class="rail" width={width} height="4" rx="2" />
        <rect class="fill" width={width * Math.min(1, value)} height="4" rx="2" />
      </svg>
      <span class="number">{value.toFixed(2)}</span>
    </span>
  )
}

/** How long ago, ticking. */
export function Age({ time }: { time: string }) {
  return (
    <time dateTime={time} title={clockTime(time)}>
      {age(present.value - epoch(time))}
    </time>
  )
}

/** A point in time, local; its RFC 3339 form on hover. */
export function At({ time, seconds = true }: { time: string; seconds?: boolean }) {
  return (
    <time dateTime={time} title={time}>
      {clockTime(time, seconds)}
    </time>
  )
}

/** The plain name of an entity, with the whole on hover. */
export function Entity({ name }: { name: string }) {
  return <span title={name}>{name ? entityName(name) : 'unknown'}</span>
}

/** A key as a small cap. */
export const Key = ({ children }: { children: string }) => <kbd>{children}</kbd>

/** A button, with its key beside the word. */
export function Button(props: {
  children: ComponentChildren
  onClick?: () => void
  hint?: string
  kind?: 'primary' | 'danger' | 'ghost'
  disabled?: boolean
  pressed?: boolean
  title?: string
  type?: 'button' | 'submit'
}) {
  return (
    <button type={props.type ?? 'button'} class={`button ${props.kind ?? ''}`} onClick={props.onClick} disabled={props.disabled} aria-pressed={props.pressed} title={props.title}>
      {props.children}
      {props.hint && <Key>{props.hint}</Key>}
    </button>
  )
}

/** A choice of one of a few words. */
export function Pills(props: { label: string; items: readonly string[]; here: string; choose: (item: string) => void; disabled?: boolean }) {
  const { label, items, here, choose, disabled } = props
  return (
    <div class="pills" role="group" aria-label={label}>
      {items.map((item) => (
        <button type="button" class={item === here ? 'here' : ''} aria-pressed={item === here} disabled={disabled} onClick={() => choose(item)}>
          {item}
        </button>
      ))}
    </div>
  )
}

/** Text to take away, with a button that copies it. */
export function Copyable({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false)
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(text)
    setCopied(true)
    setTimeout(() => setCopied(false), 1500)
  }
  return (
    <div class="copyable">
      <pre tabIndex={0} aria-label={label}>
        {text}
      </pre>
      <button type="button" class="button small" onClick={() => void copy()}>
        {copied ? 'Copied' : 'Copy'}
      </button>
    </div>
  )
}

/** Nothing here yet, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  )
}

/** A sentence about what went wrong. */
export function Trouble({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="trouble" role="alert">
      <span>{problem.message}</span>
      {retry && <Button onClick={retry}>Try again</Button>}
    </div>
  )
}

/** A quiet word while data is on its way; it shows only after 300 ms. */
export function Waiting({ what }: { what: string }) {
  const [late, setLate] = useState(false)
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 300)
    return () => clearTimeout(timer)
  }, [])
  return (
    <p class="waiting" role="status">
      {late ? `Loading ${what} …` : ''}
    </p>
  )
}

/** The rest of a list, on demand; nothing when there is no rest. */
export function More({ count, what, all, toggle }: { count: number; what: string; all: boolean; toggle: () => void }) {
  if (count <= 0) return null
  return (
    <button type="button" class="link more" onClick={toggle} aria-expanded={all}>
      {all ? 'Show fewer' : `Show ${count} more ${what}`}
    </button>
  )
}

/** A titled part of a page; `aside` stands at the right end of the title's line. */
export function Section(props: { title: string; note?: ComponentChildren; aside?: ComponentChildren; children: ComponentChildren; id?: string }) {
  return (
    <section class="section" id={props.id} aria-label={props.title}>
      <header class="section-head">
        <h2>{props.title}</h2>
        {props.note && <span class="note">{props.note}</span>}
        {props.aside && <span class="aside">{props.aside}</span>}
      </header>
      {props.children}
    </section>
  )
}
