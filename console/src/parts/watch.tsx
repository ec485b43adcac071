/** The watch over a source: each check as it stands, every drift with what was usual and what is now, and who depends on it. */
import { delay, epoch, plural, span, whole } from '../core/format'
import type { Drift, Drifting, Model, Radius, SourceDetail, Stream } from '../core/source'
import { At, Badge, Empty, Section } from './bits'
import { healthOf, Shape, type Health } from './icons'

const CHECKS = [
  ['silence', 'Silence', 'it says nothing for longer than ever'],
  ['volume', 'Volume', 'rows in five minutes, by hour of the week'],
  ['cadence', 'Cadence', 'how far its deliveries or points are apart'],
  ['lag', 'Lag', 'a record’s own time to its receipt'],
  ['skew', 'Clock skew', 'records from the future'],
  ['duplicates', 'Duplicates', 'records that came before'],
  ['severity', 'Severity mix', 'shares of the last half hour'],
  ['cardinality', 'Cardinality', 'new series, templates, operations'],
  ['fields', 'Fields', 'new, vanished, retyped'],
] as const
type What = (typeof CHECKS)[number][0]

const NOTICES: Record<Drift['notice'], string> = {
  none: 'nobody had to be told',
  waiting: 'a notice is on its way',
  held: 'held back by the cool-down',
  sent: 'administrators were told',
  recovered: 'administrators were told, and of its end',
}

interface State {
  health: Health
  word: string
  detail: string
}

const ofSignal = (signal: string): string => (signal === 'series' ? 'metric' : signal)

function state(what: What, stream: Stream, drifting: readonly Drifting[], models: readonly Model[]): State | null {
  const found = drifting.find((each) => ofSignal(each.signal) === stream.signal && each.what.split(' ', 1)[0] === what)
  if (found) return { health: what === 'silence' ? 'high' : what === 'fields' ? 'info' : 'warning', word: found.now, detail: `usually ${found.usual}` }
  const fine = (detail = '', word = 'no drift'): State => ({ health: 'good', word, detail })
  const unsure = (detail: string): State => ({ health: 'info', word: 'learning', detail })
  switch (what) {
    case 'silence':
      return stream.silent_after_s === null ? unsure('how often it speaks') : fine(`silent after ${span(stream.silent_after_s)}`, 'heard')
    case 'volume':
      if (!stream.regular) return { health: 'info', word: 'not judged', detail: 'it has no rhythm' }
      return stream.rows_usual === null ? unsure('how much is usual') : fine(`${whole(stream.rows_usual)} in 5 min`, 'as usual')
    case 'cadence':
      if (!stream.regular) return { health: 'info', word: 'not judged', detail: 'it has no rhythm' }
      return stream.every_s === null ? unsure('how often it delivers') : fine(`every ${span(stream.step_s ?? stream.every_s)}`, 'as usual')
    case 'lag':
      return stream.delay_p50_s === null ? unsure('how late it is') : fine(`half within ${delay(stream.delay_p50_s)}`)
    case 'severity':
      return stream.signal === 'metric' ? null : fine()
    case 'cardinality':
      return fine(`${whole(stream.variety)} known`)
    case 'fields': {
      const mine = models.filter(({ signal }) => ofSignal(signal) === stream.signal)
      if (!mine.length) return null
      return mine.every(({ learning }) => learning) ? unsure('its data model') : fine(plural(mine.length, 'model'))
    }
    default:
      return fine()
  }
}

/** Every check for every signal. */
export function Checks({ source }: { source: SourceDetail }) {
  const { streams, drifting, models } = source
  if (!streams.length) {
    return (
      <Empty title="It is not watched.">
        <p>Ninefold’s own sources move the clock of the watch and are not watched themselves; any other source is, from its first record on.</p>
      </Empty>
    )
  }
  return (
    <div class="table-wrap">
      <table class="table checks">
        <thead>
          <tr>
            <th>Check</th>
            {streams.map(({ signal }) => (
              <th>{signal}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {CHECKS.map(([what, title, about]) => (
            <tr key={what}>
              <td>
                <strong>{title}</strong>
                <span class="soft sub">{about}</span>
              </td>
              {streams.map((stream) => {
                const found = state(what, stream, drifting, models)
                return (
                  <td key={stream.signal} class="wrap">
                    {found ? (
                      <>
                        <span class={`state ${found.health}`}>
                          <Shape health={found.health} size={9} label={found.health === 'good' ? 'good' : found.word} /> {found.word}
                        </span>
                        <span class="soft sub">{found.detail}</span>
                      </>
                    ) : (
                      <span class="soft">–</span>
                    )}
                  </td>
                )
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Usual({ usual, now }: { usual: string; now: string }) {
  return (
    <dl class="usual">
      <div>
        <dt>usual</dt>
        <dd>{usual || '–'}</dd>
      </div>
      <div>
        <dt>now</dt>
        <dd>{now || '–'}</dd>
      </div>
    </dl>
  )
}

/** What is not as usual at this moment. */
export function NotAsUsual({ drifting }: { drifting: readonly Drifting[] }) {
  return (
    <ul class="drifting">
      {drifting.map((each) => (
        <li key={`${each.signal} ${each.what}`}>
          <Shape health={each.what === 'silence' ? 'high' : 'warning'} />
          <div class="grow">
            <strong>{each.text}</strong>
            <span class="soft sub">
              {each.what} of {each.signal}s since <At time={each.since} />
            </span>
          </div>
          <Usual usual={each.usual} now={each.now} />
        </li>
      ))}
    </ul>
  )
}

/** All drifts so far, newest first; each opens to what depended on the source then. */
export function Drifts({ drifts }: { drifts: readonly Drift[] }) {
  if (!drifts.length) return <p class="soft">Nothing has drifted since it is watched.</p>
  return (
    <ul class="quarantine drifts">
      {drifts.map((drift) => (
        <li key={drift.id}>
          <details>
            <summary>
              <span class="soft number">
                <At time={drift.since} />
              </span>
              <Shape health={drift.until ? 'good' : healthOf(drift.severity)} size={10} label={drift.until ? 'over' : drift.severity} />
              <Badge>{drift.what.split(' ', 1)[0] ?? drift.what}</Badge>
              <span class="cut grow" title={drift.title}>
                {drift.title}
              </span>
              <span class="soft">{drift.until ? `lasted ${span(epoch(drift.until) - epoch(drift.since))}` : 'still going on'}</span>
            </summary>
            <div class="quarantine-body">
              <Usual usual={drift.usual} now={drift.now} />
              {drift.ending && <p>{drift.ending}.</p>}
              <p class="soft">{NOTICES[drift.notice]}</p>
              <BlastRadius radius={drift.radius} source="" />
            </div>
          </details>
        </li>
      ))}
    </ul>
  )
}

const link = (names: readonly string[], href: (name: string) => string) =>
  names.map((name) => (
    <a key={name} href={href(name)}>
      {name}
    </a>
  ))

/** Everything that would be blind, late or wrong without the source, each with its page. */
export function BlastRadius({ radius, source }: { radius: Radius; source: string }) {
  const sql = `SELECT name, entity, unit, attributes\nFROM series\nWHERE source = '${source.replaceAll("'", "''")}'\nLIMIT 1000`
  const feeds = `${plural(radius.series, 'series', 'series')} with their detectors, of ${plural(radius.entities, 'entity', 'entities')}`
  const cases = Object.entries(radius.use_cases)
  const rows = [
    ['Series', radius.series > 0 && (source ? <a href={`/query?${new URLSearchParams({ sql })}`}>{feeds}</a> : feeds)],
    ['Alert rules', radius.rules.length > 0 && link(radius.rules, (rule) => `/incidents?${new URLSearchParams({ status: 'all', q: rule })}`)],
    ['Workflows', radius.workflows.length > 0 && link(radius.workflows, (name) => `/workflows/${encodeURIComponent(name)}`)],
    ['KPIs', radius.kpis.length > 0 && link(radius.kpis, () => '/roadmap/3')],
    [
      'Use cases',
      cases.length > 0 &&
        cases.map(([name, how]) => (
          <span key={name} class="state">
            <Shape health={how === 'lost' ? 'high' : 'warning'} size={9} label={how} /> <a href="/roadmap/1">{name}</a>
            <span class="soft">{how}</span>
          </span>
        )),
    ],
    ['Incidents', radius.incidents_30d > 0 && `${whole(radius.incidents_30d)} in 30 days had something of it`],
    ['Only source of', radius.only_source_of.length > 0 && radius.only_source_of.join(', ')],
  ] as const
  const shown = rows.filter(([, content]) => content)
  if (!shown.length) return <p class="soft">Nothing is known to depend on it.</p>
  return (
    <dl class="radius">
      {shown.map(([name, content]) => (
        <div key={name}>
          <dt class="soft">{name}</dt>
          <dd>{content}</dd>
        </div>
      ))}
    </dl>
  )
}

/** The watch as one page. */
export function Watch({ source }: { source: SourceDetail }) {
  return (
    <>
      {source.drifting.length > 0 && (
        <Section title="Not as usual">
          <NotAsUsual drifting={source.drifting} />
        </Section>
      )}
      <Section title="Checks" note="against its own past, every five minutes; silence every 15 seconds">
        <Checks source={source} />
      </Section>
      <Section title="What depends on it" note="the blast radius, as it stands">
        <BlastRadius radius={source.radius} source={source.name} />
      </Section>
      <Section title="Drifts so far" note={source.drifts.length ? whole(source.drifts.length) : undefined}>
        <Drifts drifts={source.drifts} />
      </Section>
    </>
  )
}
