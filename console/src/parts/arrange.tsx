/** The dialogs about policies, teams and persons. */
import { useState } from 'preact/hooks'
import { readMatchers, writeMatchers } from '../core/alerts'
import { put } from '../core/api'
import { pathOf, type OnCall, type Person, type Policy, type PolicyStep, type Target, type Team } from '../core/oncall'
import { Button } from './bits'
import { NameField, Saving, split } from './schedule'

interface Known {
  whole: OnCall
  onClose: () => void
}

const said = ({ kind, name }: Target): string => `${kind} ${name}`

function read(text: string): Target {
  const [kind, ...name] = text.split(' ')
  return { kind: kind as Target['kind'], name: name.join(' ') }
}

function Matchers({ text, set }: { text: string; set: (text: string) => void }) {
  const found = text.trim() ? readMatchers(text) : []
  return (
    <>
      <label>
        Incidents, one condition a line on entity, severity, title or team; all must hold
        <textarea rows={2} value={text} onInput={(event) => set(event.currentTarget.value)} aria-invalid={typeof found === 'string'} spellcheck={false} placeholder={'severity=critical'} />
      </label>
      {typeof found === 'string' && <p class="trouble">{found}</p>}
    </>
  )
}

/** What was written of matchers; nothing when it cannot be read. */
function matchersOf(text: string): ReturnType<typeof readMatchers> {
  return text.trim() ? readMatchers(text) : []
}

export function PolicyDialog({ whole, known, onClose }: Known & { known: Policy | undefined }) {
  const [name, setName] = useState(known?.name ?? '')
  const [order, setOrder] = useState(known?.order ?? 100)
  const [matchers, setMatchers] = useState(writeMatchers(known?.matchers ?? []))
  const [steps, setSteps] = useState<readonly PolicyStep[]>(known?.steps ?? [{ after_s: 0, targets: [] }])
  const [wait, setWait] = useState((known?.wait_s ?? 300) / 60)
  const [repeat, setRepeat] = useState(known?.repeat ?? 0)
  const [enabled, setEnabled] = useState(known?.enabled ?? true)
  const conditions = matchersOf(matchers)
  const options = [
    ...whole.schedules.map((each) => `schedule ${each.name}`),
    ...whole.teams.map((each) => `team ${each.name}`),
    ...whole.people.map((each) => `person ${each.name}`),
  ]
  const change = (at: number, next: Partial<PolicyStep>): void => setSteps(steps.map((step, index) => (index === at ? { ...step, ...next } : step)))
  const save = (): Promise<unknown> =>
    put(`${pathOf('policies', name)}?version=${known?.version ?? 0}`, { title: known?.title ?? '', order, matchers: conditions, steps, wait_s: Math.round(wait * 60), repeat, enabled })
  const ready = typeof conditions !== 'string' && steps.length > 0 && steps.every(({ targets }) => targets.length)
  return (
    <Saving title={known ? `Change policy ${known.name}` : 'New policy'} save={save} done={`The policy ${name} is kept.`} button="Save" onClose={onClose} ready={ready}>
      <div class="form-row">
        <NameField name={name} set={setName} known={Boolean(known)} />
        <label>
          Order; the first that matches counts
          <input type="number" min={0} max={10_000} required value={order} onInput={(event) => setOrder(Number(event.currentTarget.value))} />
        </label>
      </div>
      <Matchers text={matchers} set={setMatchers} />
      {steps.map((step, index) => (
        <fieldset class="layer" key={index}>
          <legend>Step {index + 1}</legend>
          <label>
            {index ? 'Minutes after the step before, if nobody acknowledged' : 'Minutes after the incident opened'}
            <input type="number" min={0} step="any" required value={step.after_s / 60} onInput={(event) => change(index, { after_s: Math.round(Number(event.currentTarget.value) * 60) })} />
          </label>
          <p class="verdicts">
            {step.targets.map((target) => (
              <Button key={said(target)} title={`Do not page ${said(target)}`} onClick={() => change(index, { targets: step.targets.filter((each) => each !== target) })}>
                {said(target)} ×
              </Button>
            ))}
          </p>
          <label>
            Page also
            <select value="" onChange={(event) => event.currentTarget.value && change(index, { targets: [...step.targets, read(event.currentTarget.value)] })}>
              <option value="">choose …</option>
              {options
                .filter((option) => !step.targets.some((target) => said(target) === option))
                .map((option) => (
                  <option value={option}>{option}</option>
                ))}
            </select>
          </label>
          {steps.length > 1 && (
            <Button kind="danger" onClick={() => setSteps(steps.filter((_, at) => at !== index))}>
              Remove step {String(index + 1)}
            </Button>
          )}
        </fieldset>
      ))}
      <p>
        <Button onClick={() => setSteps([...steps, { after_s: 300, targets: [] }])}>Add a step</Button>
      </p>
      <div class="form-row">
        <label>
          Minutes the last step waits
          <input type="number" min={0.2} step="any" required value={wait} onInput={(event) => setWait(Number(event.currentTarget.value))} />
        </label>
        <label>
          Times all is repeated
          <input type="number" min={0} max={20} required value={repeat} onInput={(event) => setRepeat(Number(event.currentTarget.value))} />
        </label>
      </div>
      <label class="check">
        <input type="checkbox" checked={enabled} onChange={(event) => setEnabled(event.currentTarget.checked)} /> In force
      </label>
    </Saving>
  )
}

export function TeamDialog({ whole, known, onClose }: Known & { known: Team | undefined }) {
  const [name, setName] = useState(known?.name ?? '')
  const [title, setTitle] = useState(known?.title ?? '')
  const [members, setMembers] = useState(known?.members.join(', ') ?? '')
  const [schedules, setSchedules] = useState<readonly string[]>(known?.schedules ?? [])
  const [matchers, setMatchers] = useState(writeMatchers(known?.matchers ?? []))
  const conditions = matchersOf(matchers)
  const save = (): Promise<unknown> => put(`${pathOf('teams', name)}?version=${known?.version ?? 0}`, { title, members: split(members), schedules, matchers: conditions })
  return (
    <Saving title={known ? `Change team ${known.name}` : 'New team'} save={save} done={`The team ${name} is kept.`} button="Save" onClose={onClose} ready={typeof conditions !== 'string'}>
      <div class="form-row">
        <NameField name={name} set={setName} known={Boolean(known)} />
        <label>
          Title
          <input maxLength={200} value={title} onInput={(event) => setTitle(event.currentTarget.value)} />
        </label>
      </div>
      <label>
        Members, with commas: {whole.people.map((each) => each.name).join(', ')}
        <input value={members} onInput={(event) => setMembers(event.currentTarget.value)} />
      </label>
      <div class="checks" role="group" aria-label="Schedules of the team">
        {whole.schedules.map((each) => (
          <label class="check" key={each.name}>
            <input
              type="checkbox"
              checked={schedules.includes(each.name)}
              onChange={(event) => setSchedules(event.currentTarget.checked ? [...schedules, each.name] : schedules.filter((one) => one !== each.name))}
            />{' '}
            {each.name}
          </label>
        ))}
      </div>
      <Matchers text={matchers} set={setMatchers} />
    </Saving>
  )
}

interface Method {
  name: string
  uses: string
  after: number
  ask: string
}

export function PersonDialog({ known, onClose }: { known: Person | undefined; onClose: () => void }) {
  const name = known?.name ?? ''
  const [methods, setMethods] = useState<readonly Method[]>(known?.contacts.map(({ name, uses, after_s }) => ({ name, uses, after: after_s / 60, ask: '' })) ?? [])
  const change = (at: number, next: Partial<Method>): void => setMethods(methods.map((method, index) => (index === at ? { ...method, ...next } : method)))
  const wrong = methods.some(({ ask }) => ask.trim() && !isObject(ask))
  const save = (): Promise<unknown> =>
    put(pathOf('people', name), { contacts: methods.map(({ name, uses, after, ask }) => ({ name, uses, after_s: Math.round(after * 60), ask: ask.trim() ? JSON.parse(ask) : null })) })
  return (
    <Saving title={`How ${name} is reached`} save={save} done={`How ${name} is reached is kept.`} button="Save" onClose={onClose} ready={!wrong}>
      {!methods.length && <p class="soft">There is no contact method yet. One is an action of a connector, such as anna_phone.send of a notify connector.</p>}
      {methods.map((method, index) => (
        <fieldset class="layer" key={index}>
          <legend>Contact method {index + 1}</legend>
          <div class="form-row">
            <label>
              Name
              <input required value={method.name} onInput={(event) => change(index, { name: event.currentTarget.value })} />
            </label>
            <label>
              Connector and action
              <input required placeholder="anna_phone.send" value={method.uses} onInput={(event) => change(index, { uses: event.currentTarget.value })} />
            </label>
            <label>
              Minutes after the first
              <input type="number" min={0} max={60} step="any" required value={method.after} onInput={(event) => change(index, { after: Number(event.currentTarget.value) })} />
            </label>
          </div>
          <label>
            {'What it is asked, as JSON with {title}, {body}, {incident}, {url}; left empty, as it was, or title and body'}
            <textarea rows={2} value={method.ask} onInput={(event) => change(index, { ask: event.currentTarget.value })} aria-invalid={Boolean(method.ask.trim()) && !isObject(method.ask)} spellcheck={false} />
          </label>
          <Button kind="danger" onClick={() => setMethods(methods.filter((_, at) => at !== index))}>
            Remove contact method {String(index + 1)}
          </Button>
        </fieldset>
      ))}
      <p>
        <Button onClick={() => setMethods([...methods, { name: '', uses: '', after: 0, ask: '' }])}>Add a contact method</Button>
      </p>
    </Saving>
  )
}

function isObject(text: string): boolean {
  try {
    const found: unknown = JSON.parse(text)
    return typeof found === 'object' && found !== null && !Array.isArray(found)
  } catch {
    return false
  }
}
