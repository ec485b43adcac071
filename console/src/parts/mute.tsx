/** Making or changing a mute: what it hides, until when, whose it is, and what it would have hidden. */
import { useEffect, useState } from 'preact/hooks'
import { readMatchers, writeMatchers, type Matcher, type Mute, type MutePreview } from '../core/alerts'
import { me, post, Problem, put } from '../core/api'
import { clockTime, plural } from '../core/format'
import { refresh } from '../core/resource'
import { Button, Trouble } from './bits'
import { Dialog } from './dialog'
import { attempt } from './toast'

const WAIT_MS = 400
const LENGTHS = [
  ['1 hour', 3600],
  ['4 hours', 4 * 3600],
  ['1 day', 86_400],
  ['1 week', 7 * 86_400],
] as const
const REPEATS = [
  ['', 'once'],
  ['FREQ=DAILY', 'every day'],
  ['FREQ=WEEKLY', 'every week'],
  ['FREQ=MONTHLY', 'every month'],
] as const
const YEAR_S = 365 * 86_400

/** Local time as a field of the browser has it. */
const field = (seconds: number): string => new Date((seconds - new Date(seconds * 1000).getTimezoneOffset() * 60) * 1000).toISOString().slice(0, 16)

interface MuteDialogProps {
  matchers: readonly Matcher[]
  known?: Mute | undefined
  onClose: () => void
}

export function MuteDialog({ matchers, known, onClose }: MuteDialogProps) {
  const now = Math.floor(Date.now() / 1000)
  const [text, setText] = useState(writeMatchers(known?.matchers ?? matchers))
  const [reason, setReason] = useState(known?.reason ?? '')
  const [owner, setOwner] = useState(known?.owner ?? me.value?.name ?? '')
  const [starts, setStarts] = useState(field(known ? Date.parse(known.starts) / 1000 : now))
  const [length, setLength] = useState<number>(known ? known.duration_s || (Date.parse(known.ends) - Date.parse(known.starts)) / 1000 : 3600)
  const [rule, setRule] = useState(known?.rrule ?? '')
  const read = readMatchers(text)
  const wrong = typeof read === 'string' ? read : ''
  const begun = known && starts === field(Date.parse(known.starts) / 1000)
  const save = async (): Promise<void> => {
    if (typeof read === 'string') return
    const from = begun ? Date.parse(known.starts) / 1000 : Date.parse(starts) / 1000
    const ends = rule ? (known?.rrule ? Date.parse(known.ends) / 1000 : from + YEAR_S) : from + length
    const body = {
      matchers: read,
      starts: begun ? known.starts : new Date(Math.max(from, known ? 0 : Date.now() / 1000) * 1000).toISOString(),
      ends: new Date(ends * 1000).toISOString(),
      rrule: rule,
      duration_s: rule ? length : 0,
      timezone: known?.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
      owner,
      reason,
    }
    const done = await attempt(() => (known ? put<Mute>(`mutes/${known.id}`, body) : post<Mute>('mutes', body)), known ? 'Mute changed.' : 'Muted.')
    if (!done) return
    refresh()
    onClose()
  }
  return (
    <Dialog title={known ? 'Change the mute' : 'Mute alerts'} onClose={onClose} size="wide">
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          void save()
        }}
      >
        <label>
          Matchers, one a line; all must hold
          <textarea rows={3} required value={text} onInput={(event) => setText(event.currentTarget.value)} aria-invalid={Boolean(wrong)} spellcheck={false} />
        </label>
        {wrong ? <p class="trouble">{wrong}</p> : <Preview matchers={read as Matcher[]} />}
        <div class="form-row">
          <label>
            From
            <input type="datetime-local" required value={starts} onInput={(event) => setStarts(event.currentTarget.value)} />
          </label>
          <label>
            For
            <select value={length} onChange={(event) => setLength(Number(event.currentTarget.value))}>
              {!LENGTHS.some(([, seconds]) => seconds === length) && <option value={length}>{plural(Math.round(length / 60), 'minute')}</option>}
              {LENGTHS.map(([name, seconds]) => (
                <option value={seconds}>{name}</option>
              ))}
            </select>
          </label>
          <label>
            Repeats
            <select value={rule} onChange={(event) => setRule(event.currentTarget.value)}>
              {!REPEATS.some(([value]) => value === rule) && <option value={rule}>{rule}</option>}
              {REPEATS.map(([value, name]) => (
                <option value={value}>{name}</option>
              ))}
            </select>
          </label>
        </div>
        <label>
          Reason
          <input required maxLength={2000} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
        <label>
          Owner
          <input required maxLength={200} value={owner} onInput={(event) => setOwner(event.currentTarget.value)} />
        </label>
        <div class="form-end">
          <Button type="submit" kind="primary" disabled={Boolean(wrong)}>
            {known ? 'Change' : 'Mute'}
          </Button>
        </div>
      </form>
    </Dialog>
  )
}

/** What the matchers would have hidden in the last days, asked when typing pauses. */
function Preview({ matchers }: { matchers: readonly Matcher[] }) {
  const [found, setFound] = useState<MutePreview | Problem | null>(null)
  const asked = JSON.stringify(matchers)
  useEffect(() => {
    let current = true
    const timer = setTimeout(() => {
      if (!matchers.length) return setFound(null)
      post<MutePreview>('mutes/preview', { matchers }).then(
        (answer) => current && setFound(answer),
        (error: unknown) => {
          if (!(error instanceof Problem)) throw error
          if (current) setFound(error)
        },
      )
    }, WAIT_MS)
    return () => {
      current = false
      clearTimeout(timer)
    }
  }, [asked])
  if (found instanceof Problem) return <Trouble problem={found} />
  if (!found) return <p class="soft" role="status" />
  return (
    <div class="preview" role="status">
      <p>
        Since {clockTime(found.since, false)} it would have hidden <strong>{plural(found.alerts, 'alert')}</strong> of {found.of_alerts}
        {found.firing > 0 && <>, {found.firing} of them firing now</>}
        {found.incidents.length > 0 && <>, and {plural(found.incidents.length, 'incident')} would not have been opened: {found.incidents.slice(0, 5).join(', ')}</>}.
      </p>
      {found.rules.length > 0 && <p class="soft cut">{found.rules.map(({ rule, events }) => `${rule} (${events})`).join(', ')}</p>}
    </div>
  )
}
