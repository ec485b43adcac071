/** What is unusual now: anomalies, and why one of them was raised; series worth a look that nothing alarmed about. */
import { useState } from 'preact/hooks'
import { lookedOver, type Anomaly, type Interesting, type Thresholds as Limits, type Why } from '../core/anomalies'
import { mayAct, post, query } from '../core/api'
import { amount, clockTime, epoch, readable } from '../core/format'
import { useResource } from '../core/resource'
import { params, go, withParams } from '../core/router'
import type { Items } from '../core/types'
import { Age, At, Badge, Button, Empty, Entity, Section, Trouble, Waiting } from './bits'
import { Behaviour } from './behaviour'
import { Beside, chosen, Opener } from './beside'
import { healthOf, Shape } from './icons'
import { Moves } from './moves'
import { SeriesChart } from './series'
import { attempt } from './toast'

const SHOWN = 200
const AROUND_S = 3600
const SETTLED_MS = 1500
const VERDICTS = ['useful', 'noise', 'expected'] as const

const band = ({ lower, upper, unit }: Pick<Anomaly, 'lower' | 'upper' | 'unit'>): string =>
  lower === null && upper === null ? '–' : `${amount(lower, unit)} to ${amount(upper, unit)}`

function Filter({ name, values }: { name: string; values: readonly string[] }) {
  const here = params.value.get(name) ?? ''
  return (
    <label class="filter">
      <span class="soft">{name}</span>
      <select value={here} onChange={(event) => go(withParams({ [name]: event.currentTarget.value, selected: null }))}>
        <option value="">all</option>
        {[...new Set(here ? [here, ...values] : values)].sort().map((value) => (
          <option value={value}>{value}</option>
        ))}
      </select>
    </label>
  )
}

export function Unusual() {
  const wanted = (name: string): string => params.value.get(name) ?? ''
  const asked = { limit: SHOWN, reason: wanted('kind'), entity: wanted('entity'), technique: wanted('technique') }
  const { data, problem, reload } = useResource<Items<Anomaly>>(query('anomalies', asked), 'detection')
  const { data: worth, problem: trouble } = useResource<Items<Interesting>>('interesting?limit=20', 'detection')
  const items = data?.items ?? []
  const filtered = Boolean(asked.reason || asked.entity || asked.technique)
  const listed = items.find(({ fingerprint }) => fingerprint === chosen())
  const pane = listed ? <WhyPane key={listed.fingerprint} one={listed} reload={reload} /> : data || problem ? <Older key={chosen()} /> : <Waiting what="the anomaly" />
  return (
    <Beside keys={items.map(({ fingerprint }) => fingerprint)} label="Why" pane={pane}>
      <div class="filters">
        <Filter name="kind" values={items.map(({ reason }) => reason).filter(Boolean)} />
        <Filter name="entity" values={items.map(({ entity }) => entity).filter(Boolean)} />
        <Filter name="technique" values={items.map(({ technique }) => technique).filter(Boolean)} />
      </div>
      {problem && !data && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what="the anomalies" />}
      {data && !items.length && <Empty title={filtered ? 'No anomaly matches.' : 'All as expected: no anomaly was found yet.'} />}
      {items.length > 0 && <Found items={items} />}
      <Section title="Worth a look" note="series by how unusually they behave; nothing here alarms">
        {trouble && <Trouble problem={trouble} />}
        {worth && !worth.items.length && <p class="soft">Every series behaves as it usually does, or is too young to tell.</p>}
        {worth && worth.items.length > 0 && <Worth items={worth.items} />}
      </Section>
    </Beside>
  )
}

/** The chosen anomaly when it is not among those listed. */
function Older() {
  const { data, problem, reload } = useResource<Anomaly>(chosen() ? `anomalies/${encodeURIComponent(chosen())}` : null, 'detection')
  if (!data) return problem ? <Trouble problem={problem} retry={reload} /> : <Waiting what="the anomaly" />
  return <WhyPane one={data} reload={reload} />
}

function Found({ items }: { items: readonly Anomaly[] }) {
  return (
    <div class="table-wrap">
      <table class="table" aria-label="Anomalies">
        <thead>
          <tr>
            <th>Anomaly</th>
            <th>Kind</th>
            <th class="wide-only">Where</th>
            <th class="number">Value</th>
            <th class="wide-only">Expected</th>
            <th class="number wide-only">Score</th>
            <th class="number">Since</th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={one.fingerprint} class={one.status === 'resolved' || one.demoted ? 'faint' : ''} aria-selected={one.fingerprint === chosen()}>
              <td class="wrap">
                <Opener id={one.fingerprint}>
                  <Shape health={healthOf(one.severity)} size={9} label={one.severity} /> {readable(one.title)}
                </Opener>
                {one.verdict && <Badge>{one.verdict}</Badge>}
                {one.demoted && <span class="sub"> frequent but not worsening</span>}
              </td>
              <td>
                <Badge tone={one.status === 'firing' && !one.demoted ? one.severity : 'plain'}>{one.reason || one.technique}</Badge>
                {lookedOver(one) && <span class="sub"> {lookedOver(one)}</span>}
              </td>
              <td class="wide-only">
                <Entity name={one.entity} />
              </td>
              <td class="number">{amount(one.value, one.unit)}</td>
              <td class="wide-only">{band(one)}</td>
              <td class="number wide-only">{one.score === null ? '–' : one.score.toFixed(1)}</td>
              <td class="number">
                {one.since && <Age time={one.since} />} {one.status === 'resolved' && <span class="soft">over</span>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Worth({ items }: { items: readonly Interesting[] }) {
  return (
    <div class="table-wrap">
      <table class="table" aria-label="Worth a look">
        <thead>
          <tr>
            <th>Series</th>
            <th>Unusual in</th>
            <th class="number">Value</th>
            <th>Expected</th>
            <th class="number">Strength</th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={one.series}>
              <td class="wrap">
                <a href={`/explore?series=${one.series}`} title={one.name}>
                  {readable(one.text)}
                </a>
              </td>
              <td>
                {one.kinds.map((kind) => (
                  <Badge key={kind}>{kind}</Badge>
                ))}
              </td>
              <td class="number">{amount(one.value, one.unit)}</td>
              <td>{band(one)}</td>
              <td class="number">{one.strength.toFixed(1)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function WhyPane({ one, reload }: { one: Anomaly; reload: () => void }) {
  const { data, problem, reload: again } = useResource<Why>(`anomalies/${one.fingerprint}/why`, 'detection')
  const [given, give] = useState(one.verdict)
  const judge = async (verdict: (typeof VERDICTS)[number]): Promise<void> => {
    const done = await attempt(() => post(`anomalies/${one.fingerprint}/verdict`, { verdict }), `Noted as ${verdict}; thresholds follow.`)
    if (!done) return
    give(verdict)
    setTimeout(() => (reload(), again()), SETTLED_MS)
  }
  const to = one.until ? epoch(one.until) : Math.floor(Date.now() / 1000)
  return (
    <>
      <h2 class="pane-title">{readable(one.title)}</h2>
      <p class="soft">
        {one.status === 'firing' ? 'going on' : 'over'} since <At time={one.since} />
        {one.until && <> until {clockTime(one.until)}</>}
        {one.demoted && <>; frequent but not worsening, so it asks for less attention</>}
      </p>
      <div class="verdicts" role="group" aria-label="What was it worth?">
        {VERDICTS.map((verdict) => (
          <Button key={verdict} pressed={given === verdict} disabled={!mayAct()} onClick={() => void judge(verdict)}>
            {verdict}
          </Button>
        ))}
      </div>
      {/^\d+$/.test(one.series) && <SeriesChart series={one.series} window={{ from: epoch(one.since) - AROUND_S, to: to + AROUND_S / 6 }} height={180} />}
      <dl class="facts">
        <Fact name="Kind">{[one.reason, lookedOver(one) && `seen over ${lookedOver(one)}`].filter(Boolean).join(', ') || '–'}</Fact>
        <Fact name="Where">
          <Entity name={one.entity} />
        </Fact>
        <Fact name="Value">{amount(one.value, one.unit)}</Fact>
        <Fact name="Expected">
          {amount(one.expected, one.unit)} <span class="soft">({band(one)})</span>
        </Fact>
        {data?.deviation_words && !data.details.deviation && <Fact name="Deviation">{data.deviation_words}</Fact>}
        <Fact name="Found by">{one.technique}</Fact>
        {Object.entries(data?.details ?? {}).map(([name, text]) => (
          <Fact key={name} name={readable(name)}>
            <span class="wrap">{text}</span>
          </Fact>
        ))}
      </dl>
      {problem && <Trouble problem={problem} retry={again} />}
      {data?.thresholds && <Thresholds why={data.thresholds} />}
      {one.entity && <Behaviour entity={one.entity} />}
    </>
  )
}

const Fact = ({ name, children }: { name: string; children: preact.ComponentChildren }) => (
  <div>
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
)

const factor = (value: number): string => (value === 1 ? 'no change' : `× ${value.toFixed(2)}`)

function Thresholds({ why }: { why: Limits }) {
  return (
    <Section title="Threshold in force" note="one chance in 10 to the power of it">
      <dl class="facts">
        <Fact name="Now">
          {why.threshold.toFixed(2)} <span class="soft">from {why.base.toFixed(2)}</span>
        </Fact>
        <Fact name="Sensitivity">
          {why.word} for {why.scope_name || why.scope}, {factor(why.word_factor)}
        </Fact>
        <Fact name="Verdicts">{factor(why.verdict_factor)}</Fact>
        <Fact name="Own alarms">{factor(why.fatigue_factor)}</Fact>
      </dl>
      {why.held && <p class="soft">Judged but not learned just now: an incident or a maintenance window is open.</p>}
      <Moves items={why.learned} />
    </Section>
  )
}
