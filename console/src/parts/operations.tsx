/** Operations seen in traces: rate, errors and latency beside what is usual, and what whole traces spend their time on. */
import type { CriticalPath, Operation } from '../core/anomalies'
import { query } from '../core/api'
import { delay, percent, whole } from '../core/format'
import { useResource } from '../core/resource'
import type { Items } from '../core/types'
import { Age, Badge, Empty, Entity, Section, Trouble, Waiting } from './bits'
import { Beside, chosen, Opener } from './beside'

const keyOf = ({ entity, operation }: Operation): string => `${entity} ${operation}`
const ms = (value: number | null): string => (value === null ? '–' : delay(value / 1000))
const often = (calls: number): string => (calls >= 10 ? whole(calls) : calls.toFixed(1))

export function Operations() {
  const { data, problem, reload } = useResource<Items<Operation>>('operations?limit=300', 'source')
  if (problem && !data) return <Trouble problem={problem} retry={reload} />
  if (!data) return <Waiting what="the operations" />
  if (!data.items.length) return <Empty title="No trace has arrived yet." />
  const one = data.items.find((each) => keyOf(each) === chosen())
  return (
    <Beside keys={data.items.map(keyOf)} label="Operation" pane={one ? <Pane key={keyOf(one)} one={one} /> : <Empty title="This operation is not known any more." />}>
      <div class="table-wrap">
        <table class="table" aria-label="Operations">
          <thead>
            <tr>
              <th>Operation</th>
              <th>Where</th>
              <th class="number">Calls a minute</th>
              <th class="number">Errors</th>
              <th class="number">p50</th>
              <th class="number">p95</th>
              <th class="number">p99</th>
            </tr>
          </thead>
          <tbody>
            {data.items.map((each) => (
              <tr key={keyOf(each)} aria-selected={keyOf(each) === chosen()}>
                <td class="wrap">
                  <Opener id={keyOf(each)}>{each.operation}</Opener>{' '}
                  {each.shifted_since && (
                    <Badge tone="high">
                      latency shifted <Age time={each.shifted_since} />
                    </Badge>
                  )}
                </td>
                <td>
                  <Entity name={each.entity} />
                </td>
                <Pair now={often(each.calls_per_min)} usual={often(each.usual_calls_per_min)} />
                <Pair now={percent(each.error_share)} usual={percent(each.usual_error_share)} />
                <Pair now={ms(each.p50_ms)} usual={ms(each.usual_p50_ms)} />
                <Pair now={ms(each.p95_ms)} usual={ms(each.usual_p95_ms)} />
                <Pair now={ms(each.p99_ms)} usual={ms(each.usual_p99_ms)} />
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Beside>
  )
}

const Pair = ({ now, usual }: { now: string; usual: string }) => (
  <td class="number">
    {now} <span class="soft">/ {usual}</span>
  </td>
)

function Pane({ one }: { one: Operation }) {
  const { data, problem } = useResource<CriticalPath>(query('operations/critical-path', { entity: one.entity, operation: one.operation }), 'source')
  return (
    <>
      <h2 class="pane-title">{one.operation}</h2>
      <p class="soft">
        <Entity name={one.entity} />; everywhere: now / usual
      </p>
      <Section title="Errors">
        {!one.errors.length && <p class="soft">No error was seen.</p>}
        <ul class="moves">
          {one.errors.map((kind) => (
            <li>
              <span class="grow">{kind.kind}</span>
              {kind.since && <Badge tone="high">unusual</Badge>}
              <span class="number">
                {percent(kind.share)} <span class="soft">/ {percent(kind.usual_share)}</span>
              </span>
            </li>
          ))}
        </ul>
      </Section>
      <Section title="Critical path" note={data ? 'of whole traces that begin here' : ''}>
        {problem && <p class="soft">{problem.status === 404 ? 'No trace begins with this operation.' : problem.message}</p>}
        {data && !data.contributors.length && <p class="soft">Too few traces begin with this operation.</p>}
        {data && (
          <ul class="moves">
            {data.contributors.map((part) => (
              <li>
                <span class="grow">
                  {part.operation} <span class="soft"><Entity name={part.entity} />{part.in_transit && ', on the way'}</span>
                </span>
                {part.since && <Badge tone="high">more than usual</Badge>}
                <svg width="60" height="4" aria-hidden="true">
                  <rect class="rail" width="60" height="4" rx="2" />
                  <rect class="fill" width={60 * Math.min(1, part.share)} height="4" rx="2" />
                </svg>
                <span class="number">
                  {percent(part.share)} <span class="soft">/ {percent(part.usual_share)}</span>
                </span>
              </li>
            ))}
          </ul>
        )}
      </Section>
    </>
  )
}
