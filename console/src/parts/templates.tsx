/** Log templates: new, surging, vanished and rare ones, with what stands in their holes. */
import type { Template, TemplateDetail } from '../core/anomalies'
import { query } from '../core/api'
import { entityName, percent, plural, whole } from '../core/format'
import { useResource } from '../core/resource'
import { go, params, withParams } from '../core/router'
import { Age, At, Badge, Empty, Pills, Section, Trouble, Waiting } from './bits'
import { Beside, chosen, Opener } from './beside'

const KINDS = ['all', 'new', 'surging', 'vanished', 'rare'] as const
const TONES: Record<string, string> = { new: 'accent', surging: 'high', vanished: 'warning', rare: 'plain' }
const LEVELS: readonly [number, string, string][] = [[21, 'fatal', 'critical'], [17, 'error', 'high'], [13, 'warning', 'warning'], [9, 'info', 'info'], [1, 'debug', 'plain']]

function Level({ number }: { number: number }) {
  const found = LEVELS.find(([from]) => number >= from)
  return found ? <Badge tone={found[2]}>{found[1]}</Badge> : <span class="soft">–</span>
}

/** A template with its typed holes set apart. */
function Holes({ text }: { text: string }) {
  return (
    <code class="template">
      {text.split(/(<[\w*]+>)/).map((part, i) => (i % 2 ? <mark class="hole">{part.slice(1, -1)}</mark> : part))}
    </code>
  )
}

const rate = (lines: number): string => (lines >= 10 ? whole(lines) : lines.toFixed(1).replace(/\.0$/, ''))

export function Templates() {
  const kind = params.value.get('kind') ?? 'all'
  const { data, problem, reload } = useResource<{ items: Template[]; total: number }>(query('log-templates', { kind: kind === 'all' ? null : kind, limit: 200 }), 'source')
  return (
    <Beside keys={data?.items.map(({ id }) => id) ?? []} label="Log template" pane={<Pane key={chosen()} id={chosen()} />}>
      <div class="filters">
        <Pills label="Kind" items={KINDS} here={kind} choose={(next) => go(withParams({ kind: next === 'all' ? null : next, selected: null }))} />
        {data && <span class="soft">{plural(data.total, 'template')}</span>}
      </div>
      {problem && !data && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what="the templates" />}
      {data && !data.items.length && <Empty title={kind === 'all' ? 'No log line has arrived yet.' : `No template is ${kind}.`} />}
      {data && data.items.length > 0 && (
        <div class="table-wrap">
          <table class="table" aria-label="Log templates">
            <thead>
              <tr>
                <th>Template</th>
                <th>Kinds</th>
                <th>Severity</th>
                <th class="number">Lines</th>
                <th class="number">A minute</th>
                <th class="number">Usual</th>
                <th class="number">Last</th>
              </tr>
            </thead>
            <tbody>
              {data.items.map((one) => (
                <tr key={one.id} aria-selected={one.id === chosen()}>
                  <td class="wrap">
                    <Opener id={one.id}>
                      <Holes text={one.text} />
                    </Opener>
                  </td>
                  <td>
                    {one.kinds.map((each) => (
                      <Badge key={each} tone={TONES[each] ?? 'plain'}>
                        {each}
                      </Badge>
                    ))}
                  </td>
                  <td>
                    <Level number={one.severity} />
                  </td>
                  <td class="number">{whole(one.count)}</td>
                  <td class="number">{rate(one.rate_now)}</td>
                  <td class="number soft">{rate(one.rate_usual)}</td>
                  <td class="number">
                    <Age time={one.last_seen} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Beside>
  )
}

function Pane({ id }: { id: string }) {
  const { data, problem, reload } = useResource<TemplateDetail>(`log-templates/${encodeURIComponent(id)}`, 'source')
  if (problem && !data) return <Trouble problem={problem} retry={reload} />
  if (!data) return <Waiting what="the template" />
  return (
    <>
      <h2 class="pane-title">
        <Holes text={data.text} />
      </h2>
      <p class="soft">
        first <At time={data.first_seen} />, last <At time={data.last_seen} />; {data.entities.map(entityName).join(', ')}
      </p>
      <Bars rate={data.rate} />
      {data.surges.map((surge) => (
        <Section key={surge.entity} title="What its surge has in common" note={entityName(surge.entity)}>
          {!surge.fields.length && <p class="soft">Nothing stands out.</p>}
          <ul class="moves">
            {surge.fields.map((field) => (
              <li>
                <span class="grow">{field.text}</span> <span class="soft">explains {percent(field.explained)}</span>
              </li>
            ))}
          </ul>
        </Section>
      ))}
      <Section title="Values">
        {!data.holes.length && <p class="soft">The line is always the same.</p>}
        <ul class="moves">
          {data.holes.map((hole, index) => (
            <li>
              <span class="soft number">{index + 1}</span> <mark class="hole">{hole.type}</mark>
              <span class="grow cut">{hole.examples.join(', ')}</span>
              <span class="soft">
                {whole(hole.distinct)} of {whole(hole.looked)}
              </span>
            </li>
          ))}
        </ul>
      </Section>
      <Section title="First line">
        <code class="template">{data.example}</code>
      </Section>
    </>
  )
}

/** Lines by minute, as bars. */
function Bars({ rate: minutes }: { rate: TemplateDetail['rate'] }) {
  const [first, last] = [minutes[0]?.time, minutes.at(-1)?.time]
  if (first === undefined || last === undefined) return null
  const most = Math.max(...minutes.map(({ lines }) => lines))
  const count = Math.round((last - first) / 60) + 1
  return (
    <figure class="bars">
      <svg viewBox={`0 0 ${count} 100`} preserveAspectRatio="none" role="img" aria-label={`Lines a minute, at most ${whole(most)}`}>
        {minutes.map(({ time, lines }) => (
          <rect class="fill" x={(time - first) / 60} width={0.85} y={100 - (100 * lines) / most} height={(100 * lines) / most} />
        ))}
      </svg>
      <figcaption class="soft">
        lines a minute, at most {whole(most)}; {plural(count, 'minute')} up to <At time={new Date(last * 1000).toISOString()} seconds={false} />
      </figcaption>
    </figure>
  )
}
