/** The dialogs about schedules: who takes turns, who stands in, which calendar is read. */
import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { me, post, put } from '../core/api'
import { field, pathOf, type Layer, type OnCall, type Schedule } from '../core/oncall'
import { Button } from './bits'
import { Dialog } from './dialog'
import { attempt } from './toast'

const DAYS = ['MO', 'TU', 'WE', 'TH', 'FR', 'SA', 'SU'] as const
const DAY_NAMES = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'] as const
const DAY_MS = 86_400_000
const HAND_OVERS = [
  ['FREQ=DAILY', 'every day'],
  ['FREQ=WEEKLY', 'every week'],
  ['FREQ=WEEKLY;INTERVAL=2', 'every two weeks'],
  ['FREQ=MONTHLY', 'every month'],
  ['FREQ=HOURLY;INTERVAL=12', 'every 12 hours'],
  ['', 'never'],
] as const

interface Known {
  whole: OnCall
  onClose: () => void
}

/** A form in a dialog that closes when it could be saved. */
export function Saving(props: { title: string; save: () => Promise<unknown>; done: string; button: string; onClose: () => void; children: ComponentChildren; ready?: boolean }) {
  const save = async (): Promise<void> => {
    if ((await attempt(() => props.save().then(() => true), props.done)) !== undefined) props.onClose()
  }
  return (
    <Dialog title={props.title} onClose={props.onClose} size="wide">
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          void save()
        }}
      >
        {props.children}
        <div class="form-end">
          <Button type="submit" kind="primary" disabled={props.ready === false}>
            {props.button}
          </Button>
        </div>
      </form>
    </Dialog>
  )
}

/** The name by which something is kept; one that exists keeps it. */
export function NameField({ name, set, known }: { name: string; set: (name: string) => void; known: boolean }) {
  return (
    <label>
      Name
      <input required pattern="[A-Za-z0-9][A-Za-z0-9._@\-]*" maxLength={80} value={name} disabled={known} onInput={(event) => set(event.currentTarget.value)} />
    </label>
  )
}

/** Text with commas as a list. */
export const split = (text: string): string[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)

export function OverrideDialog({ whole, schedule, onClose }: Known & { schedule: string }) {
  const names = whole.people.map(({ name }) => name)
  const mine = me.value?.name ?? ''
  const [on, setOn] = useState(schedule || (whole.schedules[0]?.name ?? ''))
  const [person, setPerson] = useState(names.includes(mine) ? mine : (names[0] ?? ''))
  const [starts, setStarts] = useState(field(Date.now()))
  const [ends, setEnds] = useState(field(Date.now() + DAY_MS))
  const [reason, setReason] = useState('')
  const save = (): Promise<unknown> =>
    post(`${pathOf('schedules', on)}/overrides`, { person, starts: new Date(starts).toISOString(), ends: new Date(ends).toISOString(), reason })
  return (
    <Saving title="Stand in" save={save} done={`${person} stands in.`} button="Stand in" onClose={onClose}>
      <div class="form-row">
        <label>
          Schedule
          <select value={on} onChange={(event) => setOn(event.currentTarget.value)}>
            {whole.schedules.map(({ name }) => (
              <option value={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          Who
          <select value={person} onChange={(event) => setPerson(event.currentTarget.value)}>
            {names.map((name) => (
              <option value={name}>{name}</option>
            ))}
          </select>
        </label>
      </div>
      <div class="form-row">
        <label>
          From
          <input type="datetime-local" required value={starts} onInput={(event) => setStarts(event.currentTarget.value)} />
        </label>
        <label>
          To
          <input type="datetime-local" required value={ends} min={starts} onInput={(event) => setEnds(event.currentTarget.value)} />
        </label>
      </div>
      <label>
        Reason
        <input maxLength={500} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
    </Saving>
  )
}

const fresh = (): Layer => ({ name: '', people: [], starts: `${field(Date.now()).slice(0, 10)}T09:00`, ends: '', rrule: 'FREQ=WEEKLY', restrictions: [] })

export function ScheduleDialog({ whole, known, onClose }: Known & { known: Schedule | undefined }) {
  const [name, setName] = useState(known?.name ?? '')
  const [title, setTitle] = useState(known?.title ?? '')
  const [timezone, setTimezone] = useState(known?.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone)
  const [layers, setLayers] = useState<readonly Layer[]>(known?.layers ?? [fresh()])
  const change = (at: number, next: Layer): void => setLayers(layers.map((layer, index) => (index === at ? next : layer)))
  const save = (): Promise<unknown> => put(`${pathOf('schedules', name)}?version=${known?.version ?? 0}`, { title, timezone, layers })
  return (
    <Saving title={known ? `Change schedule ${known.name}` : 'New schedule'} save={save} done={`The schedule ${name} is kept.`} button="Save" onClose={onClose}>
      <div class="form-row">
        <NameField name={name} set={setName} known={Boolean(known)} />
        <label>
          Title
          <input maxLength={200} value={title} onInput={(event) => setTitle(event.currentTarget.value)} />
        </label>
        <label>
          Time zone
          <input required value={timezone} onInput={(event) => setTimezone(event.currentTarget.value)} />
        </label>
      </div>
      <datalist id="people">
        {whole.people.map((each) => (
          <option value={each.name} />
        ))}
      </datalist>
      {layers.map((layer, index) => (
        <LayerFields key={index} number={index + 1} layer={layer} change={(next) => change(index, next)} drop={() => setLayers(layers.filter((_, at) => at !== index))} />
      ))}
      <p>
        <Button onClick={() => setLayers([...layers, fresh()])}>Add a layer</Button> <span class="soft">A later layer counts before those above it.</span>
      </p>
    </Saving>
  )
}

function LayerFields({ number, layer, change, drop }: { number: number; layer: Layer; change: (layer: Layer) => void; drop: () => void }) {
  const [people, setPeople] = useState(layer.people.join(', '))
  const [hours] = layer.restrictions
  const several = layer.restrictions.length > 1
  const limit = (next: Partial<NonNullable<typeof hours>> | null): void =>
    change({ ...layer, restrictions: next ? [{ days: [], starts: '09:00', ends: '17:00', ...hours, ...next }] : [] })
  return (
    <fieldset class="layer">
      <legend>Layer {number}</legend>
      <label>
        People, in the order of their turns, with commas
        <input
          required
          list="people"
          value={people}
          onInput={(event) => {
            setPeople(event.currentTarget.value)
            change({ ...layer, people: split(event.currentTarget.value) })
          }}
        />
      </label>
      <div class="form-row">
        <label>
          First turn begins
          <input type="datetime-local" required value={layer.starts.slice(0, 16)} onInput={(event) => change({ ...layer, starts: event.currentTarget.value })} />
        </label>
        <label>
          Hand-over
          <select value={layer.rrule} onChange={(event) => change({ ...layer, rrule: event.currentTarget.value })}>
            {!HAND_OVERS.some(([rule]) => rule === layer.rrule) && <option value={layer.rrule}>{layer.rrule}</option>}
            {HAND_OVERS.map(([rule, text]) => (
              <option value={rule}>{text}</option>
            ))}
          </select>
        </label>
      </div>
      {several ? (
        <p class="soft">It covers several ranges of hours, which stay as they are.</p>
      ) : (
        <label class="check">
          <input type="checkbox" checked={Boolean(hours)} onChange={(event) => limit(event.currentTarget.checked ? {} : null)} /> Only at some hours
        </label>
      )}
      {hours && !several && (
        <>
          <div class="checks" role="group" aria-label="Days; all when none is chosen">
            {DAYS.map((day, index) => (
              <label class="check" key={day}>
                <input type="checkbox" checked={hours.days.includes(day)} onChange={(event) => limit({ days: DAYS.filter((each) => (each === day ? event.currentTarget.checked : hours.days.includes(each))) })} /> {DAY_NAMES[index]}
              </label>
            ))}
          </div>
          <div class="form-row">
            <label>
              From
              <input type="time" required value={hours.starts} onInput={(event) => limit({ starts: event.currentTarget.value })} />
            </label>
            <label>
              To
              <input type="time" required value={hours.ends} onInput={(event) => limit({ ends: event.currentTarget.value })} />
            </label>
          </div>
        </>
      )}
      <Button kind="danger" onClick={drop}>
        Remove layer {String(number)}
      </Button>
    </fieldset>
  )
}

export function CalendarDialog({ name, onClose }: { name: string; onClose: () => void }) {
  const [url, setUrl] = useState('')
  const [text, setText] = useState('')
  const save = (): Promise<unknown> => put(`${pathOf('schedules', name)}/calendar`, { url, text })
  return (
    <Saving title={`Read ${name} from a calendar`} save={save} done={url || text ? 'The calendar is read.' : 'No calendar is read any more.'} button="Save" onClose={onClose}>
      <p class="soft">An event counts for those whose names stand in its summary or whose names are addresses of its attendees. Leave both empty to read none.</p>
      <label>
        Address, read every 15 minutes; it is a secret and not shown again
        <input type="url" placeholder="https://" value={url} onInput={(event) => setUrl(event.currentTarget.value)} disabled={Boolean(text)} />
      </label>
      <label>
        Or the text of an .ics file, read this once
        <textarea rows={6} value={text} onInput={(event) => setText(event.currentTarget.value)} disabled={Boolean(url)} spellcheck={false} />
      </label>
      <label>
        Or such a file
        <input type="file" accept=".ics,text/calendar" onChange={(event) => void event.currentTarget.files?.[0]?.text().then(setText)} />
      </label>
    </Saving>
  )
}
