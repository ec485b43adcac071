/** What is asked of alerts before they count, and what must be heard of again and again. */
import { useState } from 'preact/hooks'
import type { AlertRule, Heartbeat, Settings } from '../core/alerts'
import { readMatchers } from '../core/alerts'
import { mayAct, put, remove } from '../core/api'
import { plural, span } from '../core/format'
import { refresh, useResource } from '../core/resource'
import { Age, Badge, Button, Empty, Section, Trouble, Waiting } from './bits'
import { Dialog } from './dialog'
import { attempt } from './toast'

type Kind = 'rules' | 'heartbeats'
interface Field {
  name: string
  label: string
  hint: string
}

const RULE: readonly Field[] = [
  { name: 'for_s', label: 'Pending for, seconds', hint: 'in no incident until it has held so long' },
  { name: 'keep_firing_for_s', label: 'Keep firing for, seconds', hint: 'an end counts once it has lasted so long' },
  { name: 'samples', label: 'Samples', hint: 'pending until it was told so often' },
  { name: 'samples_within_s', label: 'Samples within, seconds', hint: 'any time when empty' },
  { name: 'flapping', label: 'Flapping above, changes', hint: 'held as one alert while it changes more often' },
  { name: 'flapping_within_s', label: 'Flapping within, seconds', hint: '600 when empty' },
  { name: 'expire_after_s', label: 'Expires after, seconds', hint: 'over when nobody has told of it for so long' },
]
const HEARTBEAT: readonly Field[] = [
  { name: 'every_s', label: 'Every, seconds', hint: 'the longest time from one to the next' },
  { name: 'grace_s', label: 'Grace, seconds', hint: 'how much later one may be' },
]
const WORD = { rules: 'rule', heartbeats: 'heartbeat' } as const
const TONE = { beating: 'good', waiting: 'plain', late: 'critical' } as const

/** What a rule asks, in words. */
function asks(rule: AlertRule): string {
  const texts: string[] = []
  if (rule.for_s) texts.push(`pending for ${span(rule.for_s)}`)
  if (rule.samples) texts.push(`${plural(rule.samples, 'sample')}${rule.samples_within_s ? ` within ${span(rule.samples_within_s)}` : ''}`)
  if (rule.keep_firing_for_s) texts.push(`keeps firing for ${span(rule.keep_firing_for_s)}`)
  if (rule.flapping) texts.push(`flapping above ${plural(rule.flapping, 'change')} in ${span(rule.flapping_within_s ?? 600)}`)
  if (rule.expire_after_s) texts.push(`expires after ${span(rule.expire_after_s)}`)
  return texts.join(', ') || 'nothing'
}

export function AlertRules() {
  const rules = useResource<Settings<AlertRule>>('alerts/rules')
  const heartbeats = useResource<Settings<Heartbeat>>('alerts/heartbeats', 'heartbeat')
  const [open, show] = useState<{ kind: Kind; known?: AlertRule | Heartbeat } | null>(null)
  const may = mayAct()
  const adder = (kind: Kind) => (
    <Button onClick={() => show({ kind })} disabled={!may} title={may ? undefined : 'Your token may only read; this needs the role operator'}>
      New {WORD[kind]}
    </Button>
  )
  return (
    <>
      <Section title="Rules">
        <p class="soft">Of each setting the first rule that fits decides; an alert no rule fits counts at once. {adder('rules')}</p>
        {rules.problem && !rules.data && <Trouble problem={rules.problem} retry={rules.reload} />}
        {!rules.data && !rules.problem && <Waiting what="the rules" />}
        {rules.data && !rules.data.items.length && <Empty title="No rule: alerts are what their senders say." />}
        {rules.data && rules.data.items.length > 0 && (
          <Table
            label="Rules"
            kind="rules"
            heads={['Asks']}
            items={rules.data.items}
            cells={(rule) => <td class="wrap">{asks(rule)}</td>}
            change={(known) => show({ kind: 'rules', known })}
          />
        )}
      </Section>
      <Section title="Heartbeats">
        <p class="soft">Events that are expected again and again, such as Watchdog; an alert is raised when one stays away. {adder('heartbeats')}</p>
        {heartbeats.problem && !heartbeats.data && <Trouble problem={heartbeats.problem} retry={heartbeats.reload} />}
        {heartbeats.data && !heartbeats.data.items.length && <Empty title="No heartbeat is expected." />}
        {heartbeats.data && heartbeats.data.items.length > 0 && (
          <Table
            label="Heartbeats"
            kind="heartbeats"
            heads={['State', 'Heard', 'Every']}
            items={heartbeats.data.items}
            cells={(beat) => (
              <>
                <td>
                  <Badge tone={TONE[beat.state]}>{beat.state}</Badge>
                </td>
                <td>{beat.last ? <Age time={beat.last} /> : 'never'}</td>
                <td>{span(beat.every_s)}</td>
              </>
            )}
            change={(known) => show({ kind: 'heartbeats', known })}
          />
        )}
      </Section>
      {open && <Editor {...open} onClose={() => show(null)} />}
    </>
  )
}

interface TableProps<T> {
  label: string
  kind: Kind
  heads: readonly string[]
  items: readonly T[]
  cells: (item: T) => preact.ComponentChildren
  change: (item: T) => void
}

function Table<T extends AlertRule | Heartbeat>({ label, kind, heads, items, cells, change }: TableProps<T>) {
  const may = mayAct()
  const drop = async (name: string): Promise<void> => {
    const done = await attempt(() => remove(`alerts/${kind}/${encodeURIComponent(name)}`).then(() => true), `The ${WORD[kind]} ${name} is gone.`)
    if (done) refresh()
  }
  return (
    <div class="table-wrap">
      <table class="table" aria-label={label}>
        <thead>
          <tr>
            <th>Name</th>
            <th>Alerts</th>
            {heads.map((head) => (
              <th key={head}>{head}</th>
            ))}
            <th>From</th>
            <th />
          </tr>
        </thead>
        <tbody>
          {items.map((item) => (
            <tr key={item.name}>
              <td>{item.name}</td>
              <td class="wrap">
                <code>{item.matchers.join(', ')}</code>
              </td>
              {cells(item)}
              <td>{item.author || 'the configuration'}</td>
              <td>
                {item.origin === 'saved' && may && (
                  <div class="verdicts">
                    <Button onClick={() => change(item)}>Change</Button>
                    <Button kind="danger" onClick={() => void drop(item.name)}>
                      Remove
                    </Button>
                  </div>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Editor({ kind, known, onClose }: { kind: Kind; known?: AlertRule | Heartbeat; onClose: () => void }) {
  const fields = kind === 'rules' ? RULE : HEARTBEAT
  const before = (known ?? {}) as Record<string, unknown>
  const [name, setName] = useState(known?.name ?? '')
  const [text, setText] = useState(known?.matchers.join('\n') ?? '')
  const [entity, setEntity] = useState(String(before.entity ?? ''))
  const [values, setValues] = useState<Record<string, string>>(Object.fromEntries(fields.map((field) => [field.name, String(before[field.name] ?? '')])))
  const read = readMatchers(text)
  const wrong = typeof read === 'string' ? read : ''
  const save = async (): Promise<void> => {
    const numbers = Object.entries(values).filter(([, value]) => value !== '')
    const body = {
      ...(kind === 'heartbeats' && { entity, severity: before.severity ?? 'critical' }),
      ...Object.fromEntries(numbers.map(([key, value]) => [key, Number(value)])),
      matchers: text.split('\n').map((line) => line.trim()).filter(Boolean),
      version: known?.version ?? 0,
    }
    if (!(await attempt(() => put(`alerts/${kind}/${encodeURIComponent(name)}`, body).then(() => true), `The ${WORD[kind]} ${name} is saved.`))) return
    refresh()
    onClose()
  }
  return (
    <Dialog title={`${known ? 'Change the' : 'New'} ${WORD[kind]}`} onClose={onClose} size="wide">
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          void save()
        }}
      >
        <label>
          Name
          <input required maxLength={100} pattern="[^\s\/][^\/]*" value={name} disabled={Boolean(known)} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <label>
          Matchers, one a line; all must hold
          <textarea rows={3} required value={text} onInput={(event) => setText(event.currentTarget.value)} aria-invalid={Boolean(wrong)} spellcheck={false} />
        </label>
        {wrong && <p class="trouble">{wrong}</p>}
        {kind === 'heartbeats' && (
          <label>
            What the alert is about
            <input maxLength={500} placeholder="service:ninefold" value={entity} onInput={(event) => setEntity(event.currentTarget.value)} />
          </label>
        )}
        {fields.map((field) => (
          <label key={field.name}>
            {field.label}
            <input
              type="number"
              min={0}
              step="any"
              required={field.name === 'every_s'}
              placeholder={field.hint}
              value={values[field.name]}
              onInput={(event) => setValues({ ...values, [field.name]: event.currentTarget.value })}
            />
          </label>
        ))}
        <div class="form-end">
          <Button type="submit" kind="primary" disabled={Boolean(wrong)}>
            Save
          </Button>
        </div>
      </form>
    </Dialog>
  )
}
