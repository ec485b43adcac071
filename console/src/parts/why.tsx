/** Why one event is where it is: how it was read, recognised, placed, hidden and followed up. */
import type { ComponentChildren } from 'preact'
import { readable } from '../core/format'
import { useResource } from '../core/resource'
import type { LedgerItem } from '../core/types'
import { At, Badge, Trouble, Waiting } from './bits'

interface Answer<T> {
  text: string
  items: T[]
}

export interface WhyEvent {
  outcome: string
  reading: string[]
  dedup: { verdict: string; text: string }
  groups: Answer<{ incident: string; score: number; because: { text: string; weight: number }[] }>
  mutes: Answer<{ id: string; text: string; owner: string; reason: string; until: string; hid: boolean }>
  inhibitions: { rule: string; by: string; title: string }[]
  workflows: Answer<{ workflow: string; incident: string; change: string; verdict: string; reason: string; time: string }>
  decisions: LedgerItem[]
}

function Question({ ask, answer, children }: { ask: string; answer: string; children?: ComponentChildren }) {
  return (
    <div>
      <dt>{ask}</dt>
      <dd class="wrap">
        {readable(answer)}
        {children}
      </dd>
    </div>
  )
}

/** The answer for one event, by its id. */
export function WhyEventPane({ event }: { event: string }) {
  const { data, problem, reload } = useResource<WhyEvent>(`events/${encodeURIComponent(event)}/why`, 'incident', 'mute', 'run')
  if (!data) return problem ? <Trouble problem={problem} retry={reload} /> : <Waiting what="its decisions" />
  return (
    <div class="why-event">
      <p>{readable(data.outcome)}</p>
      <dl class="facts">
        <Question ask="Read" answer={data.reading.join(' ')} />
        <Question ask="News?" answer={data.dedup.text} />
        <Question ask="Put where" answer={data.groups.text}>
          <ul>
            {data.groups.items.map((one) => (
              <li key={one.incident}>
                <a href={`/incidents/${one.incident}`}>{one.incident}</a> {one.score.toFixed(2)}: {one.because.map((each) => `${each.text} ${each.weight.toFixed(2)}`).join(', ')}
              </li>
            ))}
          </ul>
        </Question>
        <Question ask="Hidden by" answer={data.mutes.text}>
          <ul>
            {data.mutes.items.map((one) => (
              <li key={one.id}>
                <a href={`/mutes?selected=${one.id}`}>
                  <code>{one.text}</code>
                </a>{' '}
                of {one.owner} until <At time={one.until} seconds={false} />: {one.reason}
              </li>
            ))}
          </ul>
        </Question>
        {data.inhibitions.length > 0 && (
          <Question ask="Inhibited by" answer={data.inhibitions.map(({ rule, title }) => `${title} (${rule})`).join(', ')} />
        )}
        <Question ask="Workflows" answer={data.workflows.text}>
          <ul>
            {data.workflows.items.map((one) => (
              <li key={`${one.workflow} ${one.time}`}>
                {one.workflow}, {one.incident} {one.change}: <Badge>{one.verdict.replace('_', ' ')}</Badge> {one.reason}
              </li>
            ))}
          </ul>
        </Question>
      </dl>
    </div>
  )
}
