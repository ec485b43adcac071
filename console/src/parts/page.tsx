/** The frame of every page: its title and controls on one line, its content below. */
import type { ComponentChildren } from 'preact'
import { useEffect } from 'preact/hooks'
import { distance } from '../core/live'

interface PageProps {
  title: string
  /** Stands in place of the title's plain text. */
  heading?: ComponentChildren
  tabs?: ComponentChildren
  controls?: ComponentChildren
  children: ComponentChildren
  /** The content scrolls in parts of its own. */
  fixed?: boolean
}

function Live() {
  const near = distance.value
  return (
    <span class={`live ${near === null ? 'lost' : ''}`} role="status" aria-label={near === null ? 'reconnecting' : 'live'}>
      <i aria-hidden="true" />
      {near === null ? 'reconnecting' : `live · ${near} ms`}
    </span>
  )
}

export function Page(props: PageProps) {
  useEffect(() => {
    document.title = `${props.title} · Ninefold`
  }, [props.title])
  return (
    <main class="page" id="content">
      <header class="page-head">
        {props.heading ?? <h1>{props.title}</h1>}
        {props.tabs}
        <div class="page-controls">
          {props.controls}
          <Live />
        </div>
      </header>
      <div class={props.fixed ? 'page-fixed' : 'page-body'}>{props.children}</div>
    </main>
  )
}

/** Tabs that are links: each is a view with its own URL. */
export function Tabs({ label, items }: { label: string; items: { href: string; text: string; count?: number | undefined; here: boolean }[] }) {
  return (
    <nav class="tabs" aria-label={label}>
      {items.map(({ href, text, count, here }) => (
        <a href={href} aria-current={here ? 'page' : undefined}>
          {text}
          {count !== undefined && <span class="count">{count}</span>}
        </a>
      ))}
    </nav>
  )
}

/** A row of figures under the title. */
export function Figures({ items }: { items: { name: string; value: string; text: string; href?: string; tone?: string }[] }) {
  return (
    <dl class="figures">
      {items.map(({ name, value, text, href, tone }) => (
        <div>
          <dt>{name}</dt>
          <dd class={`figure ${tone ?? ''}`}>{href ? <a href={href}>{value}</a> : value}</dd>
          <dd class="soft">{text}</dd>
        </div>
      ))}
    </dl>
  )
}
