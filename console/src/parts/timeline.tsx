/** What happened, in order; and why the program decided as it did. */
import { useState } from 'preact/hooks'
import { entityName, offset, plain, readable } from '../core/format'
import type { LedgerItem, TimelineItem } from '../core/types'
import { At, Badge, Empty, Entity } from './bits'
import { healthOf, Shape } from './icons'

/** Everything that belongs to an incident, oldest first: alerts, findings, changes, steps, tickets, people. */
export function Timeline({ items, zero }: { items: readonly TimelineItem[]; zero: string }) {
  if (!items.length) return <Empty title="Nothing has happened yet." />
  return (
    <ol class="timeline">
      {items.map((item, index) => (
        <li key={index}>
          <span class="when">
            <At time={item.time} />
            <span class="soft">{offset(item.time, zero)}</span>
          </span>
          <span class="rail">{item.severity ? <Shape health={item.kind.endsWith('resolved') ? 'good' : healthOf(item.severity)} size={10} /> : <i class="dot plain" />}</span>
          <div class="what">
            <p>
              <Badge>{item.kind}</Badge> <strong>{readable(item.title)}</strong>{' '}
              {item.entity && !item.title.includes(entityName(item.entity)) && (
                <span class="soft">
                  on <Entity name={item.entity} />
                </span>
              )}
            </p>
            {item.body && <p class="body" title={item.body}>{item.body}</p>}
          </div>
          <span class="soft from">{[...new Set([item.actor, item.source])].filter(Boolean).join(' · ')}</span>
        </li>
      ))}
    </ol>
  )
}

/** The decision ledger: one row a decision, with all it was decided on; one kind of step at a time, if asked. */
export function Ledger({ items }: { items: readonly LedgerItem[] }) {
  const [step, setStep] = useState('')
  if (!items.length) return <Empty title="No decision has been recorded for this incident." />
  const counts = new Map<string, number>()
  for (const item of items) counts.set(item.step, (counts.get(item.step) ?? 0) + 1)
  return (
    <>
      <div class="pills" role="group" aria-label="Kind of decision">
        {[['', items.length] as const, ...counts].map(([name, count]) => (
          <button type="button" class={name === step ? 'here' : ''} aria-pressed={name === step} onClick={() => setStep(name)}>
            {name || 'all'} <span class="count">{count}</span>
          </button>
        ))}
      </div>
      <ol class="ledger">
        {items
          .filter((item) => !step || item.step === step)
          .map((item, index) => (
            <li key={index}>
              <span class="when soft">
                <At time={item.time} />
              </span>
              <Badge tone={item.step === 'cause' ? 'accent' : 'plain'}>{item.step}</Badge>
              <Decision item={item} />
            </li>
          ))}
      </ol>
    </>
  )
}

function Decision({ item }: { item: LedgerItem }) {
  const detail = plain(item.detail)
  if (!detail || detail === '{}') return <p class="what">{readable(item.text)}</p>
  return (
    <details class="what">
      <summary>{readable(item.text)}</summary>
      <pre tabIndex={0} aria-label="Details of the decision">
        {detail}
      </pre>
    </details>
  )
}
