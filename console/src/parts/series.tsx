/** One series on the screen: its name, its chart, what was found in it. */
import { useEffect, useMemo, useRef } from 'preact/hooks'
import type { ChangePoint, Forecast } from '../core/anomalies'
import { query } from '../core/api'
import { amount, clockTime, entityName, epoch, plural, readable, span, unitName } from '../core/format'
import { useResource } from '../core/resource'
import type { Points } from '../core/types'
import { Badge, Empty, Trouble, Waiting } from './bits'
import { Chart, interpolates, outside, type Window } from './chart'
import { Close, healthOf, Shape } from './icons'

interface SeriesChartProps {
  series: string
  title?: string
  /** Undefined bounds ask for all there is. */
  window: Partial<Window>
  height?: number
  sync?: string
  times?: boolean
  onZoom?: (window: Window) => void
  onRemove?: () => void
  details?: boolean
  /** Seconds between two points, measured or not; 0 draws what is there. */
  step?: number
  /** Seconds between looks for new points; 0 looks once. */
  every?: number
  /** Seconds to look ahead; 0 forecasts nothing. */
  ahead?: number
  /** Whether lasting changes of the series are marked. */
  shifts?: boolean
  /** Told which entity the series is of, when that is known. */
  onEntity?: ((entity: string) => void) | undefined
}

const rfc = (seconds: number | undefined): string | null => (seconds === undefined ? null : new Date(seconds * 1000).toISOString())

/** Where the points of a series over a window are asked. */
export const pointsPath = (series: string, window: Partial<Window>, step = 0): string =>
  query(`series/${encodeURIComponent(series)}/points`, { from: rfc(window.from), to: rfc(window.to), points: 600, step: step || null })

const READ = { raw: '', '1m': 'means of minutes', '1h': 'means of hours' } as const

/** How fine the data are: what was read, how far apart, and how much of it lies between measurements. */
export function grain(points: Points): string {
  const apart = points.step_s ? `every ${span(points.step_s)}` : ''
  const read = READ[points.resolution] || (apart && `measured ${apart}`)
  const drawn = points.value.filter((v) => v !== null).length
  const between = points.value.filter((v, i) => v !== null && !points.measured[i]).length
  return between ? `${read} · ${between} of ${plural(drawn, 'point')} interpolated` : read
}

/** What a series will be in the next so many seconds, and its lasting changes, as marks among the others. */
function useMore(props: SeriesChartProps): { ahead: Forecast | undefined; changes: Points['changes']; trouble: string } {
  const { series, window, ahead, shifts } = props
  const place = `series/${encodeURIComponent(series)}`
  const told = useResource<Forecast>(ahead ? query(`${place}/forecast`, { horizon_s: Math.min(90 * 86_400, Math.max(60, Math.round(ahead))) }) : null)
  const found = useResource<{ items: ChangePoint[] }>(shifts ? query(`${place}/change-points`, { from: rfc(window.from), to: rfc(window.to) }) : null)
  const changes = (found.data?.items ?? []).map(({ time, kind, before, after }) => ({ time, title: `${kind} ${amount(before, '1')} → ${amount(after, '1')}` }))
  const young = told.data && !told.data.time.length ? 'too little is known for a forecast' : ''
  return { ahead: told.data, changes, trouble: told.problem?.message ?? found.problem?.message ?? young }
}

function said(points: Points): string {
  const { since } = outside(points)
  const at = points.time[since]
  if (at === undefined) return ''
  const last = points.value.findLastIndex((v, i) => v !== null && points.measured[i] !== false)
  const [v, lower, upper] = [points.value[last] ?? 0, points.lower[last] ?? -Infinity, points.upper[last] ?? Infinity]
  const still = v < lower || v > upper
  return `${still ? 'outside its band since' : 'was outside its band at'} ${clockTime(at, false)}`
}

/** Fetches and draws a series over a window of time. */
export function SeriesChart(props: SeriesChartProps) {
  const { series, window, height = 190 } = props
  const path = pointsPath(series, window, props.step)
  const { data, problem, reload } = useResource<Points>(path)
  const last = useRef<Points | undefined>(undefined)
  if (data) last.current = data
  const more = useMore(props)
  const asked = data ?? (last.current?.series === series ? last.current : undefined)
  const points = useMemo(() => asked && { ...asked, changes: [...asked.changes, ...more.changes] }, [asked, more.changes.length])

  useEffect(() => {
    if (!props.every) return
    const timer = setInterval(() => !document.hidden && reload(), props.every * 1000)
    return () => clearInterval(timer)
  }, [props.every, path])

  useEffect(() => {
    if (points?.entity) props.onEntity?.(points.entity)
  }, [points?.entity, Boolean(props.onEntity)])

  if (problem) return <Trouble problem={problem} retry={reload} />
  if (!points) {
    return (
      <div style={{ minHeight: `${height + 44}px` }}>
        <Waiting what="the chart" />
      </div>
    )
  }
  const [first, end] = [points.time[0], points.time.at(-1)]
  const shown = { from: window.from ?? first ?? 0, to: Math.max(window.to ?? end ?? 1, more.ahead?.time.at(-1) ?? 0) }
  const name = props.title || points.name
  const unit = unitName(points.unit)
  return (
    <article class="series" aria-label={`${name} of ${entityName(points.entity)}`}>
      <header>
        <strong>{name}</strong>
        {points.entity && !props.title?.includes(entityName(points.entity)) && (
          <span class="soft" title={points.entity}>
            {entityName(points.entity)}
          </span>
        )}
        {unit && !props.title?.endsWith(unit) && <span class="soft">{unit}</span>}
        {(props.details || interpolates(points) || points.resolution !== 'raw') && points.time.length > 0 && <span class="soft grain">{grain(points)}</span>}
        <span class="out">{said(points)}</span>
        {more.trouble && <span class="soft">{more.trouble}</span>}
        {props.onRemove && (
          <button type="button" class="icon-button push" aria-label={`Remove ${name}`} onClick={props.onRemove}>
            <Close />
          </button>
        )}
      </header>
      {points.time.length ? (
        <Chart
          points={points}
          window={shown}
          height={height}
          times={props.times ?? true}
          ahead={more.ahead}
          {...(props.sync ? { sync: props.sync } : {})}
          {...(props.onZoom ? { onZoom: props.onZoom } : {})}
        />
      ) : (
        <Empty title="No points in this time." />
      )}
      {props.details && <Marks points={points} window={shown} />}
    </article>
  )
}

/** What was found and what changed in the time, as a list. */
export function Marks({ points, window }: { points: Pick<Points, 'findings' | 'changes'>; window: Window }) {
  const findings = points.findings.filter(({ time, until }) => epoch(time) <= window.to && (!until || epoch(until) >= window.from))
  const changes = points.changes.filter(({ time }) => epoch(time) <= window.to && epoch(time) >= window.from)
  if (!findings.length && !changes.length) return null
  return (
    <ul class="marks">
      {findings.map((finding) => (
        <li class={finding.demoted ? 'faint' : ''}>
          <Badge tone={finding.demoted ? 'plain' : finding.severity}>{finding.kind}</Badge> <Shape health={healthOf(finding.severity)} size={9} /> <span class="number">{clockTime(finding.time)}</span> {readable(finding.text)}{' '}
          <span class="soft">{finding.until ? `until ${clockTime(finding.until)}` : 'still going on'}
            {finding.demoted && ', frequent but not worsening'}</span>
        </li>
      ))}
      {changes.map((change) => (
        <li>
          <span class="change-mark" aria-hidden="true" /> <span class="number">{clockTime(change.time)}</span> {change.title} <span class="soft">change</span>
        </li>
      ))}
    </ul>
  )
}
