/** Regression of any series on any others: tried on a time, and saved to be watched live. */
import { useEffect, useRef, useState } from 'preact/hooks'
import { mayAct, post, Problem, remove } from '../core/api'
import { plural, span, whole } from '../core/format'
import { driverText, number, readDriver, Z95, type Driver, type Regression as Found, type Saved, type SavedHistory } from '../core/regression'
import { useResource } from '../core/resource'
import { go, params, withParams } from '../core/router'
import type { Items, Points, Series } from '../core/types'
import { Age, Badge, Button, Empty, Entity, Pills, Section, Trouble, Waiting } from './bits'
import { Beside, chosen, Opener } from './beside'
import { Fit, LiveFit } from './fit'
import { Close } from './icons'
import { inWords, SeriesPicker } from './picker'
import { pointsPath } from './series'
import { attempt } from './toast'

const RANGES: Record<string, number> = { '1h': 3600, '6h': 21_600, '24h': 86_400, '7d': 604_800 }
const STEPS: Record<string, number> = { '1m': 60, '5m': 300, '1h': 3600 }
const METHODS = ['robust', 'recursive']
const MOST = 10
const RECENT_S = 600
const TONES = { learning: 'plain', 'as explained': 'good', alarm: 'high' } as const

const pick = (table: Record<string, number>, name: string, otherwise: string): string => {
  const here = params.value.get(name) ?? ''
  return here in table ? here : otherwise
}

/** The page's address with other drivers. */
function withDrivers(drivers: readonly Driver[]): string {
  const next = new URLSearchParams(params.value)
  next.delete('driver')
  for (const each of drivers) next.append('driver', driverText(each))
  return `/anomalies/regression?${next}`
}

export function Regression() {
  const { data, problem, reload } = useResource<Items<Saved>>('regressions', 'detection')
  const one = data?.items.find(({ id }) => id === chosen())
  const pane = one ? <SavedPane key={one.id} one={one} reload={reload} /> : <Empty title="There is no such saved regression." />
  return (
    <Beside keys={data?.items.map(({ id }) => id) ?? []} label="Saved regression" pane={pane}>
      <Try reload={reload} />
      <Section title="Watched live" note="they learn from each step, and alarm when the drivers no longer explain the target">
        {problem && !data && <Trouble problem={problem} retry={reload} />}
        {!data && !problem && <Waiting what="the saved regressions" />}
        {data && !data.items.length && <p class="soft">None is saved. Try one above; if it explains its target, watch it live.</p>}
        {data && data.items.length > 0 && <SavedTable items={data.items} />}
      </Section>
    </Beside>
  )
}

function Try({ reload }: { reload: () => void }) {
  const target = params.value.get('target') ?? ''
  const drivers = params.value.getAll('driver').map(readDriver)
  const range = pick(RANGES, 'range', '6h')
  const step = pick(STEPS, 'step', '1m')
  const method = params.value.get('method') === 'recursive' ? 'recursive' : 'robust'
  const known = useRef(new Map<string, string>())
  const learn = (one: Series): string => (known.current.set(one.series, inWords(one)), one.series)
  const add = (one: Series): void => {
    const series = learn(one)
    if (series !== target && !drivers.some((each) => each.series === series)) go(withDrivers([...drivers, { series, lag_s: 0 }]))
  }
  return (
    <Section title="Try one" note="a target, and what may explain it">
      <div class="regress">
        <div class="regress-part">
          <span class="soft">Target</span>
          {target ? (
            <Chip series={target} known={known.current} drop={() => go(withParams({ target: null }))} />
          ) : (
            <SeriesPicker label="Search the target" choose={(one) => go(withParams({ target: learn(one) }))} />
          )}
        </div>
        <div class="regress-part">
          <span class="soft">Drivers</span>
          {drivers.map((driver) => (
            <Chip
              key={driver.series}
              series={driver.series}
              known={known.current}
              lag={driver.lag_s}
              delay={(lag_s) => go(withDrivers(drivers.map((each) => (each.series === driver.series ? { ...each, lag_s } : each))))}
              drop={() => go(withDrivers(drivers.filter((each) => each !== driver)))}
            />
          ))}
          {drivers.length < MOST && <SeriesPicker label="Add a driver" choose={add} />}
        </div>
        <div class="regress-part">
          <span class="soft">Over</span>
          <Pills label="Time" items={Object.keys(RANGES)} here={range} choose={(name) => go(withParams({ range: name }))} />
          <span class="soft">in steps of</span>
          <Pills label="Step" items={Object.keys(STEPS)} here={step} choose={(name) => go(withParams({ step: name }))} />
        </div>
        <div class="regress-part">
          <span class="soft">Method</span>
          <Pills label="Method" items={METHODS} here={method} choose={(name) => go(withParams({ method: name }))} />
          <span class="soft">{method === 'robust' ? 'one set of coefficients that wild points do not move' : 'coefficients that may drift'}</span>
        </div>
      </div>
      {target && drivers.length > 0 ? (
        <Tried target={target} drivers={drivers} length={RANGES[range] ?? 0} step={STEPS[step] ?? 0} method={method} reload={reload} />
      ) : (
        <p class="soft">{target ? 'Add a driver to fit it.' : 'Choose a target and at least one driver; it is fitted at once.'}</p>
      )}
    </Section>
  )
}

/** A series that was chosen; its name is asked for when only the address knows it. */
function Chip(props: { series: string; known: Map<string, string>; lag?: number; delay?: (seconds: number) => void; drop: () => void }) {
  const { series, known, lag, delay, drop } = props
  const now = Math.floor(Date.now() / 1000 / RECENT_S) * RECENT_S
  const { data, problem } = useResource<Points>(known.has(series) ? null : pointsPath(series, { from: now - RECENT_S, to: now }))
  const text = known.get(series) ?? (data ? inWords({ ...data, attributes: {}, source: '' }) : series)
  return (
    <span class="chip" title={problem?.message ?? series}>
      <span class="cut">{text}</span>
      {delay && (
        <label class="soft">
          <input
            type="number"
            min={0}
            max={604_800}
            step={1}
            value={lag ?? 0}
            aria-label={`Seconds ${text} goes before`}
            onChange={(event) => delay(Math.max(0, Math.min(604_800, Math.round(Number(event.currentTarget.value)) || 0)))}
          />{' '}
          s before
        </label>
      )}
      <button type="button" class="icon-button" aria-label={`Remove ${text}`} onClick={drop}>
        <Close />
      </button>
    </span>
  )
}

interface TriedProps {
  target: string
  drivers: readonly Driver[]
  length: number
  step: number
  method: string
  reload: () => void
}

function Tried({ target, drivers, length, step, method, reload }: TriedProps) {
  const [found, setFound] = useState<Found | Problem | null>(null)
  const [name, setName] = useState('')
  const [again, setAgain] = useState(0)
  const asked = JSON.stringify([target, drivers, length, step, method, again])
  useEffect(() => {
    let current = true
    const end = Date.now()
    const body = { target, drivers, from: new Date(end - length * 1000).toISOString(), to: new Date(end).toISOString(), step_s: step, method }
    post<Found>('regression', body).then(
      (answer) => current && setFound(answer),
      (error: unknown) => {
        if (!(error instanceof Problem)) throw error
        if (current) setFound(error)
      },
    )
    return () => {
      current = false
    }
  }, [asked])
  if (found instanceof Problem) return <Trouble problem={found} retry={() => setAgain(again + 1)} />
  if (!found) return <Waiting what="the regression" />
  const save = async (): Promise<void> => {
    const given = name.trim() || `${found.target} by ${plural(drivers.length, 'driver')}`
    const done = await attempt(() => post('regressions', { name: given, target, drivers, step_s: step }), `${given} is watched from now on.`)
    if (!done) return
    setName('')
    reload()
  }
  return (
    <>
      <Fit found={found} />
      {mayAct() && (
        <form
          class="filters"
          onSubmit={(event) => {
            event.preventDefault()
            void save()
          }}
        >
          <input maxLength={200} placeholder="a name for it" aria-label="Name of the regression" value={name} onInput={(event) => setName(event.currentTarget.value)} />
          <Button type="submit" kind="primary">
            Watch live
          </Button>
        </form>
      )}
    </>
  )
}

function SavedTable({ items }: { items: readonly Saved[] }) {
  return (
    <div class="table-wrap">
      <table class="table" aria-label="Saved regressions">
        <thead>
          <tr>
            <th>Name</th>
            <th>Target</th>
            <th>State</th>
            <th class="number">Steps</th>
            <th class="number">Step</th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={one.id} aria-selected={one.id === chosen()}>
              <td class="wrap">
                <Opener id={one.id}>{one.name}</Opener>
              </td>
              <td class="wrap">
                {one.target} <span class="soft">{one.entity && <Entity name={one.entity} />}</span>
              </td>
              <td>
                <Badge tone={TONES[one.state]}>{one.state}</Badge>
                {one.since && (
                  <span class="sub">
                    {' '}
                    <Age time={one.since} />
                  </span>
                )}
              </td>
              <td class="number">
                {whole(one.points)} {one.skipped > 0 && <span class="soft">{whole(one.skipped)} left out</span>}
              </td>
              <td class="number">{span(one.step_s)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function SavedPane({ one, reload }: { one: Saved; reload: () => void }) {
  const { data, problem, reload: again } = useResource<SavedHistory>(`regressions/${one.id}`, 'detection')
  const drop = async (): Promise<void> => {
    if (await attempt(() => remove(`regressions/${one.id}`), `${one.name} is watched no more.`)) reload()
  }
  return (
    <>
      <h2 class="pane-title">{one.name}</h2>
      <p class="soft para">
        {one.target}
        {one.entity && <> of {<Entity name={one.entity} />}</>} by {one.drivers.join('; ')}
      </p>
      <p class="para">
        <Badge tone={TONES[one.state]}>{one.state}</Badge>
        {one.forgetting !== null && <span class="soft"> forgets by {one.forgetting} a step</span>}
      </p>
      {one.coefficients.length > 0 && (
        <dl class="facts">
          {['constant', ...one.drivers].map((name, i) => (
            <div key={name}>
              <dt class="cut" title={name}>
                {name}
              </dt>
              <dd>
                {number(one.coefficients[i] ?? 0)} <span class="soft">± {number(Z95 * (one.errors[i] ?? 0))}</span>
              </dd>
            </div>
          ))}
        </dl>
      )}
      {problem && <Trouble problem={problem} retry={again} />}
      {data && <LiveFit one={one} past={data} />}
      {mayAct() && (
        <div class="verdicts">
          <Button kind="danger" onClick={() => void drop()}>
            Remove
          </Button>
        </div>
      )}
    </>
  )
}
