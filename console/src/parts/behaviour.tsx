/** How an entity behaves right now: its metrics beside each other, and itself beside its siblings. */
import { useState } from 'preact/hooks'
import { amount, entityName, percent, plural } from '../core/format'
import { useResource } from '../core/resource'
import { Age, Badge, More, Section, Trouble, Waiting } from './bits'

interface MetricBehaviour {
  metric: string
  unit: string
  value: number | null
  usual: number | null
  deviation: number
  contribution: number
}

interface PeerMetric {
  metric: string
  unit: string
  value: number
  usual: number
  median: number
  siblings: number
  deviation: number
}

interface Found {
  entity: string
  together: { judged: boolean; learned_minutes: number; score: number; since: string | null; metrics: MetricBehaviour[] } | null
  peers: { group: string; since: string | null; metrics: PeerMetric[] } | null
}

const SHOWN = 5
/** Spreads from which on a metric is far from where it usually is among its siblings. */
const FAR = 9
const GONE = 404
const signed = (value: number): string => `${value > 0 ? '+' : ''}${value.toFixed(1)}`
/** Who is compared: `pod:shop/cart` are the pods of shop/cart, `host:` all hosts. */
function siblings(group: string): string {
  const colon = group.indexOf(':')
  const [kind, name] = [group.slice(0, colon), group.slice(colon + 1)]
  return name ? `${kind}s of ${name}` : `all ${kind}s`
}
const where = (entity: string): string => `entities/${entity.split('/').map(encodeURIComponent).join('/')}/behaviour`

/** Both views of one entity, asked when shown. */
export function Behaviour({ entity }: { entity: string }) {
  const { data, problem, reload } = useResource<Found>(where(entity), 'detection')
  const name = entityName(entity)
  if (problem && !data) {
    if (problem.status !== GONE) return <Trouble problem={problem} retry={reload} />
    return (
      <Section title={`Behaviour of ${name}`}>
        <p class="soft">It has too few metrics, and too few siblings, to be judged as a whole.</p>
      </Section>
    )
  }
  if (!data) return <Waiting what={`the behaviour of ${name}`} />
  return (
    <Section title={`Behaviour of ${name}`} note={data.peers ? `beside ${siblings(data.peers.group)}` : ''}>
      <Together found={data.together} />
      <Peers found={data.peers} />
    </Section>
  )
}

function Together({ found }: { found: Found['together'] }) {
  const [all, show] = useState(false)
  if (!found) return <p class="soft para">It has fewer than three metrics to be judged together.</p>
  if (!found.judged) return <p class="soft para">{plural(found.learned_minutes, 'minute')} learned of how its metrics go together; more are needed before it is judged.</p>
  return (
    <>
      <p class="para">
        {found.since ? <Badge tone="high">do not go together</Badge> : <Badge tone="good">go together</Badge>} Its metrics beside each other: surprise{' '}
        {found.score.toFixed(1)}
        <span class="soft"> (5 twice is an alarm)</span>
        {found.since && (
          <>
            , since <Age time={found.since} />
          </>
        )}
      </p>
      <div class="table-wrap">
        <table class="table" aria-label="Metrics together">
          <thead>
            <tr>
              <th>Metric</th>
              <th class="number">Value</th>
              <th class="number">Expected</th>
              <th class="number" title="In spreads of what the other metrics do not explain">
                Off by
              </th>
              <th class="number" title="Of the entity's surprise">
                Share
              </th>
            </tr>
          </thead>
          <tbody>
            {found.metrics.slice(0, all ? Infinity : SHOWN).map((one) => (
              <tr key={one.metric}>
                <td class="wrap">{one.metric}</td>
                <td class="number">{amount(one.value, one.unit)}</td>
                <td class="number">{amount(one.usual, one.unit)}</td>
                <td class="number">{signed(one.deviation)}</td>
                <td class="number">{percent(one.contribution)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <More count={found.metrics.length - SHOWN} what="metrics" all={all} toggle={() => show(!all)} />
    </>
  )
}

function Peers({ found }: { found: Found['peers'] }) {
  const [all, show] = useState(false)
  if (!found) return <p class="soft para">It has fewer than three siblings to be compared with.</p>
  return (
    <>
      <p class="para">
        {found.since ? <Badge tone="high">unlike its siblings</Badge> : <Badge tone="good">like its siblings</Badge>} Beside its siblings
        {found.since && (
          <>
            , since <Age time={found.since} />
          </>
        )}
        <span class="soft"> (off by {FAR} spreads and more is an alarm)</span>
      </p>
      <div class="table-wrap">
        <table class="table" aria-label="Beside siblings">
          <thead>
            <tr>
              <th>Metric</th>
              <th class="number">Value</th>
              <th class="number">Expected</th>
              <th class="number">Siblings’ median</th>
              <th class="number">Siblings</th>
              <th class="number">Off by</th>
            </tr>
          </thead>
          <tbody>
            {found.metrics.slice(0, all ? Infinity : SHOWN).map((one) => (
              <tr key={one.metric}>
                <td class="wrap">{one.metric}</td>
                <td class="number">{amount(one.value, one.unit)}</td>
                <td class="number">{amount(one.usual, one.unit)}</td>
                <td class="number">{amount(one.median, one.unit)}</td>
                <td class="number">{one.siblings}</td>
                <td class={`number ${Math.abs(one.deviation) >= FAR ? 'strong' : ''}`}>{signed(one.deviation)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <More count={found.metrics.length - SHOWN} what="metrics" all={all} toggle={() => show(!all)} />
    </>
  )
}
