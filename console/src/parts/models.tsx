/** The data models of a source, as found in its records: fields by type, and how the versions differ. */
import { useState } from 'preact/hooks'
import { plural, whole } from '../core/format'
import { go, params, withParams } from '../core/router'
import type { Change, Field, Model } from '../core/source'
import { At, Badge, Empty, More, Section } from './bits'
import { Lens } from './icons'

const FIRST = 60
const CHANGES: Record<Change['change'], [sign: string, tone: string]> = {
  new: ['+', 'good'],
  vanished: ['−', 'warning'],
  returned: ['+', 'info'],
  retyped: ['~', 'warning'],
}

const nameOf = ({ signal, type }: Model): string => [signal, type].filter(Boolean).join(' · ')

/** All models, one at a time; which one is in the address. */
export function Models({ models }: { models: readonly Model[] }) {
  if (!models.length) {
    return (
      <Empty title="No data model yet.">
        <p>It is discovered from the records themselves: send some logs, spans, events or series from this source and look again in a minute.</p>
      </Empty>
    )
  }
  const wanted = params.value.get('model')
  const shown = models.find((model) => nameOf(model) === wanted) ?? models[0]
  return (
    <div class="models">
      <nav class="model-list" aria-label="Types of records">
        {models.map((model) => (
          <button type="button" class={model === shown ? 'here' : ''} aria-pressed={model === shown} onClick={() => go(withParams({ model: nameOf(model) }))}>
            <span class="cut strong">{nameOf(model)}</span>
            <span class="cut soft">
              {plural(model.fields.length, 'field')}, {model.learning ? 'learning' : `version ${model.version}`}
            </span>
          </button>
        ))}
      </nav>
      {shown && <One key={nameOf(shown)} model={shown} />}
    </div>
  )
}

function One({ model }: { model: Model }) {
  const [words, search] = useState('')
  const [all, showAll] = useState(false)
  const asked = words.toLowerCase().split(/\s+/)
  const found = model.fields.filter(({ path, examples }) => asked.every((word) => `${path} ${examples.join(' ')}`.toLowerCase().includes(word)))
  return (
    <div class="model">
      <Section
        title="Fields"
        note={`${plural(model.sampled, 'record')} sampled${model.learning ? '; learning: version 1 comes after an hour and 200 of them' : ''}${
          model.overflow ? `; ${whole(model.overflow)} values of further fields are not followed` : ''
        }`}
        aside={
          <search class="search">
            <Lens />
            <input type="search" placeholder="Search a field" aria-label="Search a field" value={words} onInput={(event) => search(event.currentTarget.value)} />
          </search>
        }
      >
        <div class="table-wrap">
          <table class="table fields">
            <thead>
              <tr>
                <th>Field</th>
                <th>Type</th>
                <th>Unit</th>
                <th class="number">Empty</th>
                <th class="number">Different</th>
                <th>Examples</th>
                <th>First seen</th>
              </tr>
            </thead>
            <tbody>
              {found.slice(0, all ? undefined : FIRST).map((field) => (
                <Row key={field.path} field={field} />
              ))}
            </tbody>
          </table>
        </div>
        {!found.length && <p class="soft">No field matches “{words}”.</p>}
        <More count={found.length - FIRST} what="fields" all={all} toggle={() => showAll(!all)} />
      </Section>
      <Section title="Versions" note={model.versions.length ? plural(model.versions.length, 'version') : undefined}>
        {!model.versions.length && <p class="soft">None yet: what comes in the first hour is the model, what changes after it makes the next version.</p>}
        <ol class="versions">
          {model.versions.map(({ version, since, changes }) => (
            <li key={version}>
              <strong class="number">{version}</strong>
              <span class="soft">
                <At time={since} seconds={false} />
              </span>
              {changes.length ? (
                <ul class="changes">
                  {changes.map((change) => (
                    <Difference key={`${change.field} ${change.change}`} change={change} />
                  ))}
                </ul>
              ) : (
                <span class="soft">the first one, as it was learned</span>
              )}
            </li>
          ))}
        </ol>
      </Section>
    </div>
  )
}

function Difference({ change: { field, change, was, now } }: { change: Change }) {
  const [sign, tone] = CHANGES[change]
  return (
    <li>
      <span class={`sign ${tone}`} aria-hidden="true">
        {sign}
      </span>
      <code>{field}</code>
      <Badge tone={tone}>{change}</Badge>
      <span class="soft">{[was, now].filter(Boolean).join(' → ')}</span>
    </li>
  )
}

/** The types of a field: one, or all with their shares. */
function types({ type, types: counts }: Field): string {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const found = Object.entries(counts).sort(([, one], [, other]) => other - one)
  if (found.length < 2 || !total) return type
  return found.map(([name, count]) => `${name} ${Math.round((100 * count) / total) || '<1'} %`).join(', ')
}

function Row({ field }: { field: Field }) {
  return (
    <tr class={field.gone ? 'gone' : ''}>
      <td class="wrap">
        <code>{field.path}</code> {field.gone && <Badge tone="warning">vanished</Badge>}
      </td>
      <td class="wrap type">{types(field)}</td>
      <td class="soft">{field.unit || '–'}</td>
      <td class="number">{field.null_rate ? `${Number((100 * field.null_rate).toPrecision(2))} %` : <span class="soft">0</span>}</td>
      <td class="number" title={field.distinct_exact ? undefined : 'an estimate'}>
        {field.distinct_exact ? '' : '≈ '}
        {whole(field.distinct)}
      </td>
      <td class="examples">
        <span class="cut mono soft" title={field.examples.join('\n')}>
          {field.examples.join('  ·  ')}
        </span>
      </td>
      <td class="soft number-left">
        <At time={field.first_seen} seconds={false} />
      </td>
    </tr>
  )
}
