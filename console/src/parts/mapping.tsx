/** The mapping of a source to the common model: edited as a table or as YAML, tried on stored records while one types, saved, applied to the past. */
import { useEffect, useState } from 'preact/hooks'
import { mayAct, post, Problem, put } from '../core/api'
import { plural, whole } from '../core/format'
import { place, useResource } from '../core/resource'
import type { Applied, MappingInfo, MappingTable, Preview, Suggestion } from '../core/source'
import { toYaml } from '../core/yaml'
import { At, Badge, Button, Confidence, Empty, Pills, Section, Trouble, Waiting } from './bits'
import { Close } from './icons'
import { Readings } from './readings'
import { attempt, say } from './toast'

const TARGETS = ['title', 'body', 'time', 'severity', 'status', 'source_id', 'entity']
const ORIGIN = { saved: 'saved here', configuration: 'from ninefold.yaml', none: 'none: the usual keys are read' } as const
const NONE = { records: '@', fields: {}, fingerprint: [] }
const TYPING_MS = 500
const TRIED = 20
const RANGES: Record<string, number> = { 'last hour': 3600, 'last day': 86_400, 'last week': 604_800, everything: 0 }

/** What is being written; in YAML the server reads it. */
interface Draft {
  table: MappingTable
  yaml: string | null
  touched: boolean
}

const begin = (info: MappingInfo, kind: string): Draft => ({ table: info.mapping ?? { ...NONE, kind }, yaml: null, touched: false })

/** What is sent: a field without a path is none. */
function given({ table, yaml }: Draft): { mapping: MappingTable } | { yaml: string } {
  return yaml === null ? { mapping: { ...table, fields: Object.fromEntries(Object.entries(table.fields).filter(([, path]) => path)) } } : { yaml }
}

interface MappingProps {
  source: string
  /** The name of the mapping that reads its records; empty when none does. */
  mapped: string
  /** What its records are read as now. */
  kind: string
}

export function Mapping({ source, mapped, kind }: MappingProps) {
  const path = `sources/${encodeURIComponent(source)}/mapping`
  const { data, problem, reload } = useResource<MappingInfo>(mapped ? path : null)
  if (!mapped) {
    return (
      <Empty title="Nothing it sends has to be mapped.">
        <p>Metrics, logs and spans arrive in the common model. JSON records of webhooks, queues, files, tables and REST APIs are mapped; once this source sends some, their mapping is suggested here.</p>
      </Empty>
    )
  }
  if (problem) return <Trouble problem={problem} retry={reload} />
  if (!data) return <Waiting what="the mapping" />
  return <Editor key={`${data.name} ${data.version}`} info={data} kind={kind} path={path} source={source} />
}

function Editor({ info, kind, path, source }: { info: MappingInfo; kind: string; path: string; source: string }) {
  const [draft, write] = useState(() => begin(info, kind))
  const [note, setNote] = useState('')
  const [busy, setBusy] = useState(false)
  const preview = usePreview(path, draft)
  const change = (table: MappingTable): void => write({ table, yaml: null, touched: true })
  const set = (target: string, expression: string | null): void => {
    const { [target]: _, ...others } = draft.table.fields
    change({ ...draft.table, fields: expression === null ? others : { ...draft.table.fields, [target]: expression } })
  }
  const save = async (): Promise<void> => {
    setBusy(true)
    const answer = await attempt(() => put<MappingInfo>(path, { ...given(draft), note }))
    setBusy(false)
    if (!answer) return
    place<MappingInfo>(path, () => answer)
    say(`Saved as version ${answer.version}; it reads records from now on.`)
  }
  const missing = info.suggestions.filter(({ target }) => !draft.table.fields[target])
  const inYaml = draft.yaml !== null
  return (
    <>
      <Section
        title={`Mapping ${info.name}`}
        note={`${ORIGIN[info.origin]}${info.version ? `, version ${info.version}` : ''}; each value is a JMESPath over one record`}
        aside={
          <Pills
            label="Form of the mapping"
            items={['table', 'YAML']}
            here={inYaml ? 'YAML' : 'table'}
            choose={(form) => {
              if (form === 'YAML' && !inYaml) write({ ...draft, yaml: !draft.touched && info.yaml ? info.yaml : toYaml(draft.table) })
              if (form === 'table' && inYaml) {
                if (draft.touched && draft.yaml !== toYaml(draft.table)) say('Save first: the server turns YAML into the table.', true)
                else write({ ...draft, yaml: null })
              }
            }}
          />
        }
      >
        {inYaml ? (
          <textarea
            class="mono mapping-yaml"
            aria-label="The mapping as YAML"
            rows={14}
            spellcheck={false}
            value={draft.yaml ?? ''}
            onInput={(event) => write({ ...draft, yaml: event.currentTarget.value, touched: true })}
          />
        ) : (
          <Fields table={draft.table} suggestions={info.suggestions} set={set} change={change} />
        )}
        <div class="mapping-bar">
          {!inYaml && missing.length > 0 && (
            <Button
              onClick={() => change({ ...draft.table, fields: { ...draft.table.fields, ...Object.fromEntries(missing.map(({ target, path: found }) => [target, found])) } })}
            >
              {`Take ${plural(missing.length, 'suggestion')}`}
            </Button>
          )}
          <input class="grow" type="text" aria-label="Note" placeholder="Why it is changed (kept with the version)" value={note} onInput={(event) => setNote(event.currentTarget.value)} />
          {draft.touched && <Button onClick={() => write(begin(info, kind))}>Discard</Button>}
          <Button
            kind="primary"
            disabled={busy || !draft.touched || !mayAct() || preview.problem !== null}
            title={mayAct() ? 'It reads records from now on' : 'An operator may save it'}
            onClick={() => void save()}
          >
            Save
          </Button>
        </div>
      </Section>
      <Readings {...preview} />
      <Past path={path} source={source} info={info} touched={draft.touched} />
      <Versions info={info} take={change} />
    </>
  )
}

/** The draft's reading of the newest stored records, a moment after the last key. */
function usePreview(path: string, draft: Draft): { preview: Preview | null; problem: Problem | null } {
  const [state, setState] = useState<{ preview: Preview | null; problem: Problem | null }>({ preview: null, problem: null })
  const text = JSON.stringify(given(draft))
  useEffect(() => {
    let current = true
    const timer = setTimeout(
      () => {
        post<Preview>(`${path}/preview`, { ...(JSON.parse(text) as object), count: TRIED }).then(
          (preview) => current && setState({ preview, problem: null }),
          (problem: unknown) => {
            if (!(problem instanceof Problem)) throw problem
            if (current) setState((old) => ({ ...old, problem }))
          },
        )
      },
      draft.touched ? TYPING_MS : 0,
    )
    return () => {
      current = false
      clearTimeout(timer)
    }
  }, [path, text])
  return state
}

interface FieldsProps {
  table: MappingTable
  suggestions: readonly Suggestion[]
  set: (target: string, path: string | null) => void
  change: (table: MappingTable) => void
}

function Fields({ table, suggestions, set, change }: FieldsProps) {
  const [added, add] = useState('')
  const others = Object.keys(table.fields).filter((target) => !TARGETS.includes(target))
  const adding = added.trim() && (/^(kind|attributes\..+)$/.test(added.trim()) ? added.trim() : `attributes.${added.trim()}`)
  return (
    <>
      <div class="mapping-top form">
        <label>
          Records
          <input class="mono" type="text" value={table.records} onInput={(event) => change({ ...table, records: event.currentTarget.value || '@' })} />
        </label>
        <label>
          Kind of event
          <input class="mono" type="text" value={table.kind} onInput={(event) => change({ ...table, kind: event.currentTarget.value })} />
        </label>
        <label>
          Zone of times that name none
          <input
            class="mono"
            type="text"
            placeholder="Europe/Berlin"
            value={table.timezone ?? 'UTC'}
            onChange={(event) => change({ ...table, timezone: event.currentTarget.value.trim() || 'UTC' })}
          />
        </label>
        <label class="grow">
          The same alert has the same
          <input
            class="mono"
            type="text"
            placeholder="entity, attributes.check"
            value={table.fingerprint.join(', ')}
            onChange={(event) => change({ ...table, fingerprint: event.currentTarget.value.split(',').map((part) => part.trim()).filter(Boolean) })}
          />
        </label>
      </div>
      <div class="table-wrap">
        <table class="table mapping">
          <thead>
            <tr>
              <th>Field</th>
              <th>Path in the record</th>
              <th>Suggested</th>
              <th>Confidence</th>
              <th>Example</th>
            </tr>
          </thead>
          <tbody>
            {[...TARGETS, ...others].map((target) => (
              <FieldRow
                key={target}
                target={target}
                path={table.fields[target] ?? ''}
                suggestion={suggestions.find((each) => each.target === target)}
                set={(path) => set(target, path)}
                removable={!TARGETS.includes(target)}
              />
            ))}
          </tbody>
        </table>
      </div>
      <form
        class="mapping-add"
        onSubmit={(event) => {
          event.preventDefault()
          if (!adding) return
          set(adding, '')
          add('')
        }}
      >
        <input class="mono" type="text" aria-label="Another field" placeholder="attributes.team" value={added} onInput={(event) => add(event.currentTarget.value)} />
        <Button type="submit" disabled={!adding}>
          Add a field
        </Button>
      </form>
    </>
  )
}

interface FieldRowProps {
  target: string
  path: string
  suggestion: Suggestion | undefined
  set: (path: string | null) => void
  removable: boolean
}

function FieldRow({ target, path, suggestion, set, removable }: FieldRowProps) {
  const same = suggestion?.path === path
  return (
    <tr>
      <td>
        <strong>{target}</strong>
      </td>
      <td class="mapping-path">
        <span>
          <input class="mono" type="text" aria-label={`Path of ${target}`} placeholder="the usual keys" spellcheck={false} value={path} onInput={(event) => set(event.currentTarget.value)} />
          {removable && (
            <button type="button" class="icon-button" aria-label={`Remove ${target}`} onClick={() => set(null)}>
              <Close />
            </button>
          )}
        </span>
      </td>
      <td class="wrap">
        {suggestion && !same && (
          <button type="button" class="link mono" title={`Use it for ${target}`} onClick={() => set(suggestion.path)}>
            {suggestion.path}
          </button>
        )}
        {suggestion && same && <Badge tone="good">as suggested</Badge>}
        {!suggestion && <span class="soft">–</span>}
      </td>
      <td>{suggestion && <Confidence value={suggestion.confidence} width={48} />}</td>
      <td class="examples">
        <span class="cut mono soft" title={suggestion?.example}>
          {suggestion?.example}
        </span>
      </td>
    </tr>
  )
}

/** Reading stored records again by the mapping in force. */
function Past({ path, source, info, touched }: { path: string; source: string; info: MappingInfo; touched: boolean }) {
  const [range, setRange] = useState('last day')
  const [only, setOnly] = useState(true)
  const [busy, setBusy] = useState(false)
  const [done, setDone] = useState<Applied | null>(null)
  const reason = !mayAct() ? 'An operator may do that' : info.origin === 'none' ? 'Save a mapping first' : touched ? 'Save or discard what is written first' : ''
  const apply = async (): Promise<void> => {
    setBusy(true)
    const length = RANGES[range]
    const from = length ? new Date(Date.now() - length * 1000).toISOString() : ''
    const answer = await attempt(() => post<Applied>(`${path}/replay`, { from, source: only ? source : '' }))
    if (answer) setDone(answer)
    setBusy(false)
  }
  return (
    <Section title="Apply it to the past" note="corrected events take the place of the old readings; incidents made of those are history and stay">
      <div class="mapping-bar">
        <Pills label="Records received in the" items={Object.keys(RANGES)} here={range} choose={setRange} />
        <label class="check">
          <input type="checkbox" checked={only} onInput={(event) => setOnly(event.currentTarget.checked)} /> only of {source}
        </label>
        <Button disabled={busy || Boolean(reason)} title={reason || 'Read the stored records again'} onClick={() => void apply()}>
          {busy ? 'Reading …' : 'Read them again'}
        </Button>
        {reason && <span class="soft">{reason}.</span>}
      </div>
      {done && (
        <div class="applied" role="status">
          <p>
            {plural(done.read, 'record')} read: {whole(done.replaced)} replaced in place, {whole(done.superseded)} superseded by a new event, {whole(done.unreadable)} left as they were.
          </p>
          <ul>
            {Object.entries(done.reasons).map(([text, count]) => (
              <li class="soft" key={text}>
                {whole(count)} × {text}
              </li>
            ))}
          </ul>
        </div>
      )}
    </Section>
  )
}

function Versions({ info, take }: { info: MappingInfo; take: (table: MappingTable) => void }) {
  return (
    <Section title="Versions">
      {!info.versions.length && <p class="soft">None saved yet{info.origin === 'configuration' ? ': the one of ninefold.yaml is in force' : ''}.</p>}
      <ol class="versions">
        {info.versions.map(({ version, author, note, time, mapping }) => (
          <li key={version}>
            <strong class="number">{version}</strong>
            <span class="soft">
              <At time={time} seconds={false} />
            </span>
            <span class="version-note">
              <span class="grow">
                {note || <span class="soft">without a note</span>} <span class="soft">by {author}</span>
              </span>
              {version === info.version ? (
                <Badge tone="good">in force</Badge>
              ) : (
                <button type="button" class="link" onClick={() => take(mapping)}>
                  take it up again
                </button>
              )}
            </span>
          </li>
        ))}
      </ol>
    </Section>
  )
}
