/** What meets its threshold, the soonest first, and how good past forecasts were. */
import type { Ahead, Quality } from '../core/anomalies'
import { present } from '../core/clock'
import { amount, epoch, percent, readable, span, whole } from '../core/format'
import { useResource } from '../core/resource'
import type { Items } from '../core/types'
import { At, Empty, Entity, Section, Trouble, Waiting } from './bits'
import { Beside, chosen, Opener } from './beside'
import { SeriesChart } from './series'

const DAY = 86_400

const Within = ({ time }: { time: string | null }) =>
  time === null ? <span class="soft">–</span> : <time dateTime={time} title={time}>{epoch(time) <= present.value ? 'now' : `in ${span(epoch(time) - present.value)}`}</time>

export function Forecasts() {
  const { data, problem, reload } = useResource<Items<Ahead> & { quality: Quality[] }>('forecasts', 'forecast')
  if (problem && !data) return <Trouble problem={problem} retry={reload} />
  if (!data) return <Waiting what="the forecasts" />
  const one = data.items.find(({ series }) => series === chosen())
  return (
    <Beside keys={data.items.map(({ series }) => series)} label="Forecast" pane={one ? <Pane key={one.series} one={one} /> : <Empty title="This series meets no threshold." />}>
      {!data.items.length && (
        <Empty title="Nothing runs full, runs out or expires within the horizon.">
          <p>Series with a threshold are looked ahead of every hour. Any series shows its forecast in Explore.</p>
        </Empty>
      )}
      {data.items.length > 0 && (
        <div class="table-wrap">
          <table class="table" aria-label="Forecasts">
            <thead>
              <tr>
                <th>What</th>
                <th>Where</th>
                <th class="number">Now</th>
                <th class="number">Threshold</th>
                <th class="number">Likely</th>
                <th class="number">Earliest</th>
                <th class="number">Latest</th>
                <th class="number">Chance</th>
              </tr>
            </thead>
            <tbody>
              {data.items.map((each) => (
                <tr key={each.series} aria-selected={each.series === chosen()}>
                  <td class="wrap">
                    <Opener id={each.series}>{readable(each.title)}</Opener>
                  </td>
                  <td>
                    <Entity name={each.entity} />
                  </td>
                  <td class="number">{amount(each.last, each.unit)}</td>
                  <td class="number">{amount(each.threshold, each.unit)}</td>
                  <td class="number strong">
                    <Within time={each.breach.likely} />
                  </td>
                  <td class="number">
                    <Within time={each.breach.earliest} />
                  </td>
                  <td class="number">
                    <Within time={each.breach.latest} />
                  </td>
                  <td class="number">{percent(each.breach.chance)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Section title="How good past forecasts were" note="an error below 1 beats the last known value; coverage should be 95% and 80%">
        <QualityTable items={data.quality} />
      </Section>
    </Beside>
  )
}

function QualityTable({ items }: { items: readonly Quality[] }) {
  if (!items.some(({ judged }) => judged)) return <p class="soft">No forecast’s time has come yet.</p>
  return (
    <div class="table-wrap">
      <table class="table" aria-label="Quality of forecasts">
        <thead>
          <tr>
            <th>Ahead</th>
            <th class="number">Judged</th>
            <th class="number">Error</th>
            <th class="number">In 95%</th>
            <th class="number">In 80%</th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={one.lead}>
              <td>{one.lead}</td>
              <td class="number">
                {whole(one.judged)} <span class="soft">of {whole(one.issued)}</span>
              </td>
              <td class="number">{one.relative_error === null ? '–' : one.relative_error.toFixed(2)}</td>
              <td class="number">{percent(one.coverage_95)}</td>
              <td class="number">{percent(one.coverage_80)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Pane({ one }: { one: Ahead }) {
  const now = Math.floor(Date.now() / 60_000) * 60
  const end = one.breach.latest ?? one.breach.likely
  const horizon = Math.min(90 * DAY, Math.max(3600, Math.round((end ? (epoch(end) - now) * 1.25 : DAY) / 3600) * 3600))
  return (
    <>
      <h2 class="pane-title">{readable(one.title)}</h2>
      <p class="soft">{one.why}</p>
      <SeriesChart series={one.series} window={{ from: now - horizon, to: now }} height={200} ahead={horizon} />
      {one.breach.likely && (
        <p>
          likely <At time={one.breach.likely} seconds={false} />
        </p>
      )}
      <a href={`/explore?series=${one.series}&ahead=1`}>Open in Explore</a>
    </>
  )
}
