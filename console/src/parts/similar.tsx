/** Past incidents like this one: why, and what fixed them. */
import { entityName, offset } from '../core/format'
import { useResource } from '../core/resource'
import type { IncidentDetail, Items, Remedy, Similar as Like } from '../core/types'
import { Badge, Section } from './bits'

const REASONS = 2

/** What was done about an earlier incident, told from its opening. */
function Remedies({ items, zero }: { items: readonly Remedy[]; zero: string }) {
  if (!items.length) return <p class="soft">Nothing is on record of what was done.</p>
  return (
    <ol class="lines">
      {items.map((done) => (
        <li key={`${done.time} ${done.kind} ${done.text}`}>
          <span class="number soft">{offset(done.time, zero)}</span>
          <Badge>{done.kind}</Badge>
          <span class="wrap">
            {done.text}
            {done.status && <span class="soft"> · {done.status}</span>}
            {done.actor && !done.text.includes(done.actor) && <span class="soft"> · {done.actor}</span>}
          </span>
        </li>
      ))}
    </ol>
  )
}

function Line({ like, remedies }: { like: Like; remedies?: readonly Remedy[] }) {
  return (
    <li key={like.id}>
      <a href={`/incidents/${like.id}`}>{like.id}</a>
      <span class="cut" title={like.title}>
        {like.title}
        <span class="soft cut">
          {like.cause && `cause ${entityName(like.cause)}`}
          {like.fixed_by && ` · fixed by ${like.fixed_by}`}
        </span>
        {like.reasons.slice(0, REASONS).map((reason) => (
          <span key={reason} class="soft cut" title={reason}>
            {reason}
          </span>
        ))}
        {remedies && (
          <details>
            <summary>What was done ({remedies.length})</summary>
            <Remedies items={remedies} zero={like.opened} />
          </details>
        )}
      </span>
      <span class="push number soft" title="likeness">
        {Math.round(like.score * 100)} %
      </span>
    </li>
  )
}

/** The pane of an incident's page; what the incident itself says stands there until the remedies have come. */
export function Similar({ incident }: { incident: IncidentDetail }) {
  const { data } = useResource<Items<Like & { remedies: Remedy[] }>>(`incidents/${incident.id}/similar`)
  const remedies = new Map(data?.items.map((like) => [like.id, like.remedies]))
  const shown: readonly Like[] = data?.items ?? incident.similar
  return (
    <Section title="Similar incidents">
      {shown.length ? (
        <ul class="lines similar">
          {shown.map((like) => (
            <Line key={like.id} like={like} remedies={remedies.get(like.id)} />
          ))}
        </ul>
      ) : (
        <p class="soft">Nothing like it has happened before.</p>
      )}
    </Section>
  )
}
