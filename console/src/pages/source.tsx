/** One source: how free its data is, how it behaves, what its records look like, how they are mapped. */
import { delay, plural, span, whole } from '../core/format'
import { useResource } from '../core/resource'
import type { SourceDetail, Stream } from '../core/source'
import type { Items, Source } from '../core/types'
import { Age, At, Empty, Section, Trouble, Waiting } from '../parts/bits'
import { Advice, Facts, FreedomScore } from '../parts/freedom'
import { Back, Shape } from '../parts/icons'
import { Mapping } from '../parts/mapping'
import { Models } from '../parts/models'
import { Page, Tabs } from '../parts/page'
import { BlastRadius, NotAsUsual, Watch } from '../parts/watch'
import { SourceState } from './sources'

const TABS = { '': 'Freedom', watch: 'Watch', models: 'Data models', mapping: 'Mapping' } as const

export function SourcePage({ name, tab }: { name: string; tab: string }) {
  const path = `sources/${encodeURIComponent(name)}`
  const { data, problem, reload } = useResource<SourceDetail>(path, 'source')
  const { data: list } = useResource<Items<Source>>('sources', 'source')
  const flow = list?.items.find((each) => each.name === name)
  const counts: Record<string, number | undefined> = { watch: data?.drifting.length || undefined, models: data?.models.length }
  return (
    <Page
      title={name}
      heading={
        <h1 class="crumbs">
          <a href="/sources">
            <Back /> Sources
          </a>
          <span>{name}</span>
        </h1>
      }
      tabs={
        <Tabs
          label={`Views of ${name}`}
          items={Object.entries(TABS).map(([key, text]) => ({ href: `/${path}${key && `/${key}`}`, text, count: counts[key], here: key === tab }))}
        />
      }
      controls={flow && <SourceState state={flow.state} />}
    >
      {problem && !data && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what="the source" />}
      {data && tab === '' && <Overview source={data} flow={flow} />}
      {data && tab === 'watch' && <Watch source={data} />}
      {data && tab === 'models' && <Models models={data.models} />}
      {data && tab === 'mapping' && <Mapping source={name} mapped={data.mapping} kind={kindRead(data)} />}
      {!(tab in TABS) && <Empty title={`A source has no view named ${tab}.`} />}
    </Page>
  )
}

/** What the records of its mapping are read as now: the first word of their model's type. */
const kindRead = ({ models, mapping }: SourceDetail): string =>
  models.find(({ signal, type }) => signal === 'event' && type.endsWith(`webhook:${mapping}`))?.type.split(' ', 1)[0] ?? 'alert'

function Overview({ source, flow }: { source: SourceDetail; flow: Source | undefined }) {
  return (
    <div class="flush">
      <Facts freedom={source.freedom} />
      {source.drifting.length > 0 && (
        <Section title="Not as usual" aside={<a href={`/sources/${encodeURIComponent(source.name)}/watch`}>all checks</a>}>
          <NotAsUsual drifting={source.drifting} />
        </Section>
      )}
      <FreedomScore freedom={source.freedom} />
      <Advice freedom={source.freedom} />
      <Streams streams={source.streams} flow={flow} name={source.name} />
      <Section title="What depends on it">
        <BlastRadius radius={source.radius} source={source.name} />
      </Section>
    </div>
  )
}

function Streams({ streams, flow, name }: { streams: readonly Stream[]; flow: Source | undefined; name: string }) {
  const note = flow && (
    <>
      {flow.last_seen && (
        <>
          last seen <Age time={flow.last_seen} /> ago
        </>
      )}
      {flow.quarantined > 0 && (
        <>
          {', '}
          <a class="warning-text" href={`/sources?source=${encodeURIComponent(name)}`}>
            {plural(flow.quarantined, 'record')} in quarantine
          </a>
        </>
      )}
    </>
  )
  return (
    <Section title="What it delivers" note={note}>
      {!streams.length && <p class="soft">Nothing has been measured yet; a source is, from its next record on. Ninefold’s own are not.</p>}
      {streams.length > 0 && (
        <div class="table-wrap">
          <table class="table">
            <thead>
              <tr>
                <th>Signal</th>
                <th class="number">Rows</th>
                <th class="number">Deliveries</th>
                <th>Rhythm</th>
                <th class="number">Usual in 5 min</th>
                <th class="number">Delay p50</th>
                <th class="number">Delay p99</th>
                <th class="number">Points apart</th>
                <th class="number">Points missing</th>
                <th>Oldest</th>
                <th>Newest</th>
              </tr>
            </thead>
            <tbody>
              {streams.map((stream) => (
                <tr key={stream.signal}>
                  <td>
                    <strong>{stream.signal}</strong>
                  </td>
                  <td class="number">{whole(stream.rows)}</td>
                  <td class="number">{whole(stream.deliveries)}</td>
                  <td>
                    {stream.every_s === null ? '–' : `every ${delay(stream.every_s)}`} <span class="soft">{stream.regular ? 'steady' : 'when it happens'}</span>
                  </td>
                  <td class="number">{stream.rows_usual === null ? <span class="soft">learning</span> : whole(stream.rows_usual)}</td>
                  <td class="number">{delay(stream.delay_p50_s)}</td>
                  <td class="number">{delay(stream.delay_p99_s)}</td>
                  <td class="number">{stream.step_s === null ? '–' : span(stream.step_s)}</td>
                  <td class="number">
                    {stream.points_missing > 0 && <Shape health="warning" size={9} label="missing" />} {whole(stream.points_missing)}
                  </td>
                  <td class="soft">{stream.oldest ? <At time={stream.oldest} seconds={false} /> : '–'}</td>
                  <td class="soft">{stream.newest ? <At time={stream.newest} seconds={false} /> : '–'}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Section>
  )
}
