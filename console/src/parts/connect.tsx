/** Connecting a source: choose its kind, fill in what it needs, try it, take the lines for ninefold.yaml. */
import { useEffect, useRef, useState } from 'preact/hooks'
import { mayAct, post, Problem } from '../core/api'
import { plain, plural } from '../core/format'
import { useResource } from '../core/resource'
import { filled, settingsOf, variable, withoutSecrets, type Setting, type Typed } from '../core/settings'
import type { Attempt, Kind } from '../core/source'
import type { Items } from '../core/types'
import { toYaml } from '../core/yaml'
import { Badge, Button, Confidence, Copyable, Empty, Section, Trouble, Waiting } from './bits'
import { Dialog } from './dialog'
import { Lens, Shape } from './icons'
import { blocks, Prose } from './prose'
import { Snippet, snippets } from './snippets'

const BY_ITSELF: Record<string, string> = { otlp: 'OpenTelemetry SDK', remote_write: 'Prometheus', alertmanager: 'Alertmanager', syslog: 'rsyslog', webhook: 'curl' }
const WORDS: Record<Kind['extraction'], string> = { push: 'it pushes', stream: 'a stream', poll: 'it is asked', file: 'files' }
const COLUMNS = 7
const NAME = /^[\w.-]+$/

interface ConnectProps {
  /** The kind that is shown; any other word shows none yet. */
  kind: string
  choose: (kind: string) => void
  onClose: () => void
}

/** The kinds that hold all the words: by name first, then those whose documentation speaks of them. */
function search(kinds: readonly Kind[], words: string): Kind[] {
  const asked = words.toLowerCase().split(/\s+/)
  const hold = (text: string): boolean => asked.every((word) => text.toLowerCase().includes(word))
  const named = kinds.filter(({ title, kind, signals }) => hold(`${title} ${kind} ${signals.join(' ')}`))
  return [...named, ...kinds.filter((each) => !named.includes(each) && hold(`${each.title} ${each.docs}`))]
}

export function ConnectDialog({ kind, choose, onClose }: ConnectProps) {
  const { data, problem, reload } = useResource<Items<Kind>>('source-kinds')
  const [words, type] = useState('')
  const list = useRef<HTMLUListElement>(null)
  useEffect(() => list.current?.querySelector('.here')?.scrollIntoView({ block: 'nearest' }), [Boolean(data)])
  const found = data ? search(data.items, words) : []
  const shown = data?.items.find((each) => each.kind === kind)
  return (
    <Dialog title="Connect a source" onClose={onClose} size="huge">
      <div class="kinds">
        <div class="kinds-list">
          <search class="search wide">
            <Lens />
            <input
              type="search"
              placeholder="Search a tool or protocol"
              aria-label="Search a tool or protocol"
              value={words}
              onInput={(event) => type(event.currentTarget.value)}
              onKeyDown={(event) => event.key === 'Enter' && found[0] && choose(found[0].kind)}
            />
          </search>
          <ul aria-label="Kinds of sources" ref={list}>
            {found.map((each) => (
              <li key={each.kind}>
                <button type="button" class={each.kind === kind ? 'here' : ''} aria-pressed={each.kind === kind} onClick={() => choose(each.kind)}>
                  <span class="cut strong">{each.title}</span>
                  <span class="cut soft">{each.signals.join(', ')}</span>
                </button>
              </li>
            ))}
          </ul>
          {data && !found.length && <p class="soft none">Nothing matches “{words}”. A webhook or REST takes almost anything.</p>}
        </div>
        <div class="kinds-pane">
          {problem && <Trouble problem={problem} retry={reload} />}
          {!data && !problem && <Waiting what="the kinds of sources" />}
          {data && !shown && (
            <Empty title={`${plural(data.items.length, 'kind')} of sources.`}>
              <p>Choose one on the left. Those marked “runs by itself” need no configuration: point the tool here and look at Sources.</p>
              <p>What pushes needs a token; the role ingest is enough.</p>
              <Copyable text="ninefold token create my-prometheus --role ingest" label="A token for a sender" />
            </Empty>
          )}
          {shown && <One key={shown.kind} kind={shown} />}
        </div>
      </div>
    </Dialog>
  )
}

function One({ kind }: { kind: Kind }) {
  const pane = useRef<HTMLElement>(null)
  const [first = '', ...rest] = blocks(kind.docs)
  const snippet = snippets().find(({ name }) => name === BY_ITSELF[kind.kind])
  useEffect(() => pane.current?.parentElement?.scrollTo(0, 0), [])
  return (
    <article class="kind" ref={pane} aria-label={kind.title}>
      <header>
        <h3>{kind.title}</h3>
        <Badge>{WORDS[kind.extraction]}</Badge>
        {kind.signals.map((signal) => (
          <Badge>{signal}</Badge>
        ))}
        {kind.always && <Badge tone="good">runs by itself</Badge>}
      </header>
      <Prose text={first} />
      {rest.length > 0 && (
        <details class="disclosure">
          <summary>How to point it here, and what becomes of each field</summary>
          <Prose text={rest.join('\n\n')} />
        </details>
      )}
      {kind.always && snippet && <Snippet snippet={snippet} />}
      <Settings kind={kind} />
    </article>
  )
}

function Settings({ kind }: { kind: Kind }) {
  const settings = settingsOf(kind.schema)
  const [name, rename] = useState(kind.kind)
  const [typed, type] = useState<Typed>({})
  const [state, setState] = useState<{ attempt: Attempt | null; problem: Problem | null; busy: boolean }>({ attempt: null, problem: null, busy: false })
  const { table, wrong, secrets } = filled(settings, typed)
  const needed = settings.filter(({ required }) => required)
  const optional = settings.filter(({ required }) => !required)
  const badName = name && !NAME.test(name) ? 'may have letters, digits, dots and dashes' : name ? '' : 'is needed'
  const missing = [...(badName ? ['name'] : []), ...Object.keys(wrong)]
  const reason = !mayAct('admin') ? 'An admin may try a connection' : missing.length ? `Fill in ${missing.join(', ')}` : ''
  const attempt = state.attempt

  const check = async (): Promise<void> => {
    setState({ attempt: null, problem: null, busy: true })
    try {
      const answer = await post<Attempt>(`source-kinds/${kind.kind}/check`, { name, settings: table })
      setState({ attempt: answer, problem: null, busy: false })
      type((old) => ({ ...Object.fromEntries(Object.entries(answer.settings).map(([key, value]) => [key, plain(value)])), ...old }))
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      setState({ attempt: null, problem: error, busy: false })
    }
  }
  if (kind.always && !settings.length) return <p class="soft">There is nothing to configure: it listens already.</p>
  const field = (setting: Setting) => (
    <Field key={setting.name} setting={setting} value={typed[setting.name]} wrong={typed[setting.name] ? wrong[setting.name] : ''} set={(value) => type({ ...typed, [setting.name]: value })} />
  )
  const mapped = attempt?.mapping && attempt.suggestions.length ? { webhooks: { [attempt.mapping]: { kind: attempt.kind || 'alert', fields: Object.fromEntries(attempt.suggestions.map(({ target, path }) => [target, path])) } } } : {}
  const yaml = toYaml({ sources: { [name || kind.kind]: { type: kind.kind, ...withoutSecrets(name, table, secrets) } }, ...mapped })
  return (
    <form
      class="settings"
      onSubmit={(event) => {
        event.preventDefault()
        if (!reason) void check()
      }}
    >
      <label class="setting">
        <span class="setting-name">
          name <span class="soft">needed</span>
        </span>
        <input type="text" class="mono" value={name} onInput={(event) => rename(event.currentTarget.value.trim())} />
        <span class={badName ? 'bad-text about' : 'soft about'}>{badName || 'What it is called on Sources.'}</span>
      </label>
      {needed.map(field)}
      {optional.length > 0 && (
        <details class="disclosure">
          <summary>{`${plural(optional.length, 'more setting')} with good defaults`}</summary>
          {optional.map(field)}
        </details>
      )}
      <div class="mapping-bar">
        <Button type="submit" kind="primary" disabled={state.busy || Boolean(reason)} title={reason || 'Connect, take nothing away, show what would come'}>
          {state.busy ? 'Trying …' : 'Try it'}
        </Button>
        <span class="soft">{reason ? `${reason}.` : 'Nothing is taken away from it, and nothing is kept.'}</span>
      </div>
      {state.problem && <Trouble problem={state.problem} />}
      {attempt && <Tried attempt={attempt} />}
      <Section title="For ninefold.yaml" note="add these lines and restart Ninefold">
        <Copyable text={yaml} label="Lines for ninefold.yaml" />
        {secrets.length > 0 && (
          <p class="soft">
            Secrets stay out of the file: set {secrets.map((secret) => variable(name, secret)).join(' and ')} in Ninefold’s environment.
          </p>
        )}
      </Section>
    </form>
  )
}

interface FieldProps {
  setting: Setting
  value: string | boolean | undefined
  wrong: string | undefined
  set: (value: string | boolean) => void
}

function Field({ setting, value, wrong, set }: FieldProps) {
  const { name, control, about, required } = setting
  const initial = setting.initial === null || setting.initial === undefined || typeof setting.initial === 'object' ? '' : String(setting.initial)
  const text = typeof value === 'string' ? value : ''
  const write = (event: { currentTarget: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement }): void => set(event.currentTarget.value)
  return (
    <label class="setting">
      <span class="setting-name">
        {name} {required && <span class="soft">needed</span>}
      </span>
      {control === 'flag' && (
        <span class="check">
          <input type="checkbox" checked={typeof value === 'boolean' ? value : Boolean(setting.initial)} onInput={(event) => set(event.currentTarget.checked)} />
        </span>
      )}
      {control === 'choice' && (
        <select value={text || initial} onInput={write}>
          {setting.choices.map((choice) => (
            <option value={String(choice)}>{String(choice) || '–'}</option>
          ))}
        </select>
      )}
      {control === 'lines' && <textarea class="mono" rows={2} placeholder="one a line" value={text} onInput={write} />}
      {control === 'json' && <textarea class="mono" rows={2} placeholder="JSON" spellcheck={false} value={text} onInput={write} />}
      {(control === 'text' || control === 'number') && (
        <input
          class="mono"
          type={(setting.secret ? 'password' : control) as 'text'}
          step="any"
          autocomplete="off"
          placeholder={initial}
          value={text}
          onInput={write}
        />
      )}
      <span class={wrong ? 'bad-text about' : 'soft about'}>{wrong || about.replaceAll('``', '')}</span>
    </label>
  )
}

function Tried({ attempt }: { attempt: Attempt }) {
  return (
    <div class="tried" role="status">
      <p>
        <Shape health="good" size={10} label="it works" /> <strong>{attempt.said}</strong> <span class="soft">{attempt.cadence}</span>
      </p>
      {!attempt.samples.length && <p class="soft">It gave no rows just now.</p>}
      {attempt.samples.map(({ signal, rows, first }) => {
        const columns = [...new Set(first.flatMap((row) => Object.keys(row)))].slice(0, COLUMNS)
        return (
          <div key={signal} class="table-wrap">
            <table class="table dense samples">
              <caption class="soft">
                {signal}: the first {first.length} of {plural(rows, 'row')}
              </caption>
              <thead>
                <tr>
                  {columns.map((column) => (
                    <th>{column}</th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {first.map((row) => (
                  <tr>
                    {columns.map((column) => (
                      <td title={plain(row[column])}>{typeof row[column] === 'object' ? JSON.stringify(row[column]) : plain(row[column])}</td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )
      })}
      {attempt.suggestions.length > 0 && (
        <>
          <p class="soft">A mapping for these records; it is in the lines below, and can be corrected on the source’s page later.</p>
          <ul class="suggested">
            {attempt.suggestions.map(({ target, path, confidence, example }) => (
              <li key={target}>
                <strong>{target}</strong>
                <code class="cut">{path}</code>
                <Confidence value={confidence} width={48} />
                <span class="cut mono soft">{example}</span>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  )
}
