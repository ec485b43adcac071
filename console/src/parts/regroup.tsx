/** Which alerts belong together: other incidents merged into this one, alerts split out of it, and the way back. */
import { useState } from 'preact/hooks'
import { mayAct, post, query } from '../core/api'
import { readable, without } from '../core/format'
import { refresh, useResource } from '../core/resource'
import type { Incident, IncidentDetail, Items, Topic } from '../core/types'
import { At, Button, Section } from './bits'
import { attempt } from './toast'

interface Regrouping {
  id: number
  time: string
  title: string
  note: string
  undone: string
}

export function Regroup({ incident }: { incident: IncidentDetail }) {
  const { data, reload } = useResource<Items<Regrouping>>(query('regroupings', { incident: incident.id }), 'incident')
  const may = mayAct()
  const carryOut = async (path: string, body: object, done: string): Promise<void> => {
    if (!(await attempt(() => post(path, body), done))) return
    refresh(new Set<Topic>(['incident']))
    reload()
  }
  return (
    <Section title="Belongs together?" note="what people decide here no machine undoes; correlation learns from it">
      {may && !incident.merged_into && (
        <>
          <Merge incident={incident} merge={(others, note) => carryOut(`incidents/${incident.id}/merge`, { incidents: others, note }, `Merged into ${incident.id}.`)} />
          <Split incident={incident} split={(alerts, note) => carryOut(`incidents/${incident.id}/split`, { alerts, note }, `Split out of ${incident.id}.`)} />
        </>
      )}
      {data && data.items.length > 0 && (
        <ul class="moves" aria-label="Merges and splits">
          {data.items.map((one) => (
            <li key={one.id} class={one.undone ? 'faint' : ''}>
              <span class="number soft">
                <At time={one.time} seconds={false} />
              </span>
              <span class="grow">
                {one.title} {one.note && <span class="soft">{one.note}</span>}
              </span>
              {one.undone ? (
                <span class="soft">taken back by {one.undone}</span>
              ) : (
                <Button disabled={!may} onClick={() => void carryOut(`regroupings/${one.id}/undo`, {}, 'Taken back.')}>
                  Undo
                </Button>
              )}
            </li>
          ))}
        </ul>
      )}
    </Section>
  )
}

function Merge({ incident, merge }: { incident: IncidentDetail; merge: (others: string[], note: string) => Promise<void> }) {
  const { data } = useResource<Items<Incident>>(query('incidents', { status: 'open' }), 'incident')
  const others = data?.items.filter(({ id }) => id !== incident.id) ?? []
  if (!others.length) return null
  return (
    <form
      class="filters"
      aria-label="Merge"
      onSubmit={(event) => {
        event.preventDefault()
        const given = new FormData(event.currentTarget)
        void merge([String(given.get('other'))], String(given.get('note')))
      }}
    >
      <select name="other" aria-label="Incident that is the same problem">
        {others.map(({ id, title }) => (
          <option key={id} value={id}>
            {id} {readable(title)}
          </option>
        ))}
      </select>
      <input name="note" placeholder="why it is the same problem" aria-label="Why the same" maxLength={2000} />
      <Button type="submit">Merge into {incident.id}</Button>
    </form>
  )
}

function Split({ incident, split }: { incident: IncidentDetail; split: (alerts: string[], note: string) => Promise<void> }) {
  const [open, show] = useState(false)
  const alerts = [...new Map(incident.events.map((event) => [event.fingerprint || event.id, event]))]
  if (alerts.length < 2) return null
  if (!open) {
    return (
      <p>
        <Button onClick={() => show(true)}>Split alerts out</Button>
      </p>
    )
  }
  return (
    <form
      class="form"
      aria-label="Split"
      onSubmit={(event) => {
        event.preventDefault()
        const given = new FormData(event.currentTarget)
        show(false)
        void split(given.getAll('alert').map(String), String(given.get('note')))
      }}
    >
      {alerts.map(([mark, { entity, title }]) => (
        <div key={mark}>
          <label class="check">
            <input type="checkbox" name="alert" value={mark} /> {without(entity, readable(title))} <span class="soft">{entity}</span>
          </label>
        </div>
      ))}
      <input name="note" placeholder="why it is another problem" aria-label="Why another" maxLength={2000} />
      <Button type="submit">Split out of {incident.id}</Button>
    </form>
  )
}
