/** What happened, in order; and why the program decided as it did. */
import { offset, plain } from '../core/format'
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
          <span class="rail">{item.severity ? <Shape health={healthOf(item.severity)} size={10} /> : <i class="dot plain" />}</span>
          <div class="what">
            <p>
              <Badge>{item.kind}</Badge> <strong>{item.title}</strong> {item.entity && <span class="soft">on <Entity name={item.entity} /></span>}
            </p>
            {item.body && <p class="body">{item.body}</p>}
          </div>
          <span class="soft from">{[...new Set([item.actor, item.source])].filter(Boolean).join(' · ')}</span>
        </li>
      ))}
    </ol>
  )
}

/** The decision ledger: one row a decision, with all it was decided on. */
export function Ledger({ items }: { items: readonly LedgerItem[] }) {
  if (!items.length) return <Empty title="No decision has been recorded for this incident." />
  return (
    <ol class="ledger">
      {items.map((item, index) => (
        <li key={index}>
          <span class="when soft">
            <At time={item.time} />
          </span>
          <Badge tone={item.step === 'cause' ? 'accent' : 'plain'}>{item.step}</Badge>
          <div class="what">
            <p>{item.text}</p>
            {item.detail !== null && item.detail !== undefined && plain(item.detail) !== '{}' && (
              <details>
                <summary>on what it was decided</summary>
                <pre tabIndex={0} aria-label="Details of the decision">
                  {plain(item.detail)}
                </pre>
              </details>
            )}
          </div>
        </li>
      ))}
    </ol>
  )
}
