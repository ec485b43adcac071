/** Regression of a series on others: what is asked, what is answered, and how it is drawn. */
import { amount, clockTime } from './format'
import type { Points } from './types'

export interface Driver {
  series: string
  lag_s: number
}

/** What is to be fitted; a part of the page's address. */
export interface Ask {
  target: string
  drivers: Driver[]
  from: string
  to: string
  step_s: number
  method: 'robust' | 'recursive'
}

export interface Coefficient {
  name: string
  series: string
  lag_s: number
  value: number
  lower: number
  upper: number
  effect: number | null
  inflation: number | null
}

export interface Alarm {
  time: string
  until: string | null
  peak: number
}

export interface Regression {
  target: string
  unit: string
  entity: string
  method: string
  step_s: number
  points: number
  left_out: number
  coefficients: Coefficient[]
  explained: number
  forgetting: number
  ridge: number
  condition: number | null
  out_of_time: { model: number; mean: number; last: number }
  time: number[]
  value: number[]
  fitted: number[]
  residual: number[]
  history: { time: number[]; values: number[][]; lower: number[][]; upper: number[][] }
  alarms: Alarm[]
  words: string[]
}

export interface Saved {
  id: string
  name: string
  target: string
  series: string
  entity: string
  drivers: string[]
  step_s: number
  points: number
  skipped: number
  state: 'learning' | 'as explained' | 'alarm'
  since: string | null
  forgetting: number | null
  coefficients: number[]
  errors: number[]
}

export interface SavedHistory {
  id: string
  time: number[]
  value: number[]
  fitted: number[]
  residual: number[]
  coefficients: number[][]
  errors: number[][]
}

export const Z95 = 1.96
/** Standard errors beyond which a residual speaks for an alarm. */
export const ALARM = 4
const GAP_STEPS = 1.5
/** A band so many times the usual width says that nothing is known yet; drawn, it would leave no room for the rest. */
const WIDE = 10

/** A driver as the address has it: its id, and after a colon the seconds it goes before. */
export const driverText = ({ series, lag_s }: Driver): string => (lag_s ? `${series}:${lag_s}` : series)

export function readDriver(text: string): Driver {
  const [series = '', lag = '0'] = text.split(':')
  return { series, lag_s: Number(lag) || 0 }
}

/** A coefficient or its bound: few digits, and none of the units that do not fit it. */
export const number = (value: number): string => amount(Math.abs(value) < 1e-12 ? 0 : value, '1')

interface Line {
  name: string
  unit: string
  entity?: string
  step_s: number
  time: readonly number[]
  value: readonly number[]
  lower: readonly number[]
  upper: readonly number[]
  alarms?: readonly Alarm[]
}

/** A line with its band as a chart draws it; where steps were left out it is interrupted. */
export function drawn({ name, unit, entity = '', step_s, time, value, lower, upper, alarms = [] }: Line): Points {
  const widths = upper.map((each, i) => each - (lower[i] ?? each))
  const usual = [...widths].sort((one, other) => one - other)[widths.length >> 1] ?? 0
  const rows: (readonly [number, number | null, number | null, number | null])[] = []
  for (const [i, at] of time.entries()) {
    const before = time[i - 1]
    if (before !== undefined && at - before > GAP_STEPS * step_s) rows.push([before + step_s, null, null, null])
    const known = (widths[i] ?? 0) <= WIDE * usual
    rows.push([at, value[i] ?? null, known ? (lower[i] ?? null) : null, known ? (upper[i] ?? null) : null])
  }
  const column = rows.map(([, each]) => each)
  return {
    series: name,
    name,
    unit,
    kind: 'gauge',
    entity,
    time: rows.map(([at]) => at),
    value: column,
    low: column,
    high: column,
    measured: column.map(() => true),
    lower: rows.map(([, , each]) => each),
    upper: rows.map(([, , , each]) => each),
    centre: column.map(() => null),
    findings: alarms.map((alarm) => ({
      time: alarm.time,
      until: alarm.until,
      kind: 'not explained',
      severity: 'high',
      text: `${Math.abs(alarm.peak).toFixed(1)} standard errors ${alarm.peak < 0 ? 'below' : 'above'} what the drivers explain`,
      demoted: false,
    })),
    changes: [],
    samples: time.length,
    step_s,
    resolution: 'raw',
  }
}

/** How far a residual may go from what was fitted before it speaks for an alarm, at each step. */
export function around({ value, fitted, residual }: Pick<Regression, 'value' | 'fitted' | 'residual'>): { lower: number[]; upper: number[] } {
  const errors = value.map((each, i) => Math.abs((each - (fitted[i] ?? each)) / (residual[i] || Infinity)))
  const some = errors.filter((error) => error > 0).sort((one, other) => one - other)
  const usual = some[some.length >> 1] ?? 0
  const half = errors.map((error) => ALARM * (error || usual))
  return { lower: fitted.map((each, i) => each - (half[i] ?? 0)), upper: fitted.map((each, i) => each + (half[i] ?? 0)) }
}

/** An alarm in words. */
export const alarmText = ({ time, until, peak }: Alarm): string =>
  `${clockTime(time, false)} ${until ? `to ${clockTime(until, false)}` : 'until the end'}: up to ${Math.abs(peak).toFixed(1)} standard errors ${peak < 0 ? 'below' : 'above'}`
