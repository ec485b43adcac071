/** What a regression found: its coefficients, how far to trust it, the target beside what was fitted, coefficients over time. */
import { useState } from 'preact/hooks'
import { amount, percent, plural, unitName, whole } from '../core/format'
import { alarmText, ALARM, around, drawn, number, Z95, type Coefficient, type Regression, type Saved, type SavedHistory } from '../core/regression'
import type { Points } from '../core/types'
import { Empty, More, Section } from './bits'
import { Chart } from './chart'

const SHOWN = 5

function Drawn({ points, height }: { points: Points; height?: number }) {
  const [from, to] = [points.time[0], points.time.at(-1)]
  if (from === undefined || to === undefined || to <= from) return null
  return (
    <article class="series" aria-label={points.name}>
      <header>
        <strong>{points.name}</strong>
        {unitName(points.unit) && <span class="soft">{unitName(points.unit)}</span>}
      </header>
      <Chart points={points} window={{ from, to }} height={height ?? 120} sync="regression" />
    </article>
  )
}

/** A fit to a time. */
export function Fit({ found }: { found: Regression }) {
  const [all, show] = useState(false)
  const errors = found.out_of_time
  return (
    <>
      <ul class="said">
        {found.words.map((word) => (
          <li key={word}>{word}</li>
        ))}
      </ul>
      <Section title="Coefficients" note="what one unit more of a driver makes of the target, with intervals of 95%">
        <Coefficients items={found.coefficients} />
        <dl class="facts inline">
          <div>
            <dt>Explained (R²)</dt>
            <dd>{percent(found.explained)}</dd>
          </div>
          <div>
            <dt>Steps used</dt>
            <dd>
              {whole(found.points)} {found.left_out > 0 && <span class="soft">{whole(found.left_out)} left out</span>}
            </dd>
          </div>
          <div>
            <dt>Error out of time</dt>
            <dd title="mean absolute error over the last three tenths, fitted to what comes before">
              {amount(errors.model, found.unit)}{' '}
              <span class="soft">
                usual value {amount(errors.mean, found.unit)}, value before {amount(errors.last, found.unit)}
              </span>
            </dd>
          </div>
          {found.method === 'recursive' && (
            <div>
              <dt>Forgetting</dt>
              <dd>{found.forgetting} a step</dd>
            </div>
          )}
        </dl>
      </Section>
      <Section title="Target and what the drivers explain" note={`the band is ${ALARM} standard errors; beyond it is red`}>
        <Drawn points={drawn({ ...found, name: found.target, ...around(found) })} height={200} />
        {!found.alarms.length && <p class="soft">At no time did the drivers leave it unexplained.</p>}
        <ul class="marks">
          {found.alarms.slice(0, all ? Infinity : SHOWN).map((alarm) => (
            <li key={alarm.time}>{alarmText(alarm)}</li>
          ))}
        </ul>
        <More count={found.alarms.length - SHOWN} what="times" all={all} toggle={() => show(!all)} />
      </Section>
      {found.history.time.length > 1 && (
        <Section title="Coefficients over time" note="with their intervals of 95%">
          {found.coefficients.map(({ name }, i) => {
            const pick = (rows: number[][]): number[] => rows.map((row) => row[i] ?? 0)
            const { time, values, lower, upper } = found.history
            return <Drawn key={`${name} ${i}`} points={drawn({ name, unit: '1', step_s: Infinity, time, value: pick(values), lower: pick(lower), upper: pick(upper) })} />
          })}
        </Section>
      )}
    </>
  )
}

function Coefficients({ items }: { items: readonly Coefficient[] }) {
  return (
    <div class="table-wrap">
      <table class="table" aria-label="Coefficients">
        <thead>
          <tr>
            <th>Driver</th>
            <th class="number">Coefficient</th>
            <th class="number">95% interval</th>
            <th class="number" title="Standard deviations of the target for one of the driver">
              Effect
            </th>
            <th class="number" title="Variance inflation factor: above 10 it moves with the others">
              Inflation
            </th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={`${one.series} ${one.lag_s}`} class={one.series && one.lower < 0 && one.upper > 0 ? 'faint' : ''}>
              <td class="wrap">{one.name}</td>
              <td class="number">{number(one.value)}</td>
              <td class="number">
                {number(one.lower)} to {number(one.upper)}
              </td>
              <td class="number">{one.effect === null ? '–' : one.effect.toFixed(2)}</td>
              <td class="number">{one.series ? (one.inflation === null ? '∞' : one.inflation.toFixed(1)) : '–'}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** The last steps of a regression that is watched live. */
export function LiveFit({ one, past }: { one: Saved; past: SavedHistory }) {
  if (past.time.length < 2) {
    return <Empty title={`${plural(one.points, 'step')} measured so far; it speaks when some dozens are.`} />
  }
  const names = ['constant', ...one.drivers]
  return (
    <>
      <Drawn points={drawn({ name: one.target, unit: '1', step_s: one.step_s, ...past, ...around(past) })} height={170} />
      <p class="soft">The band is {ALARM} standard errors around what the drivers explain.</p>
      {names.map((name, i) => {
        const [value, half] = [past.coefficients, past.errors].map((rows) => rows.map((row) => row[i] ?? 0)) as [number[], number[]]
        const band = (sign: number): number[] => value.map((each, k) => each + sign * Z95 * (half[k] ?? 0))
        return <Drawn key={`${name} ${i}`} points={drawn({ name: `coefficient of ${name}`, unit: '1', step_s: one.step_s, time: past.time, value, lower: band(-1), upper: band(1) })} />
      })}
    </>
  )
}
