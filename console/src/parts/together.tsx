/** Several series in one chart: one time axis, a value axis for each of the first two units, the last values beside their names. */
import { useSignal, type Signal } from '@preact/signals'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { amount, clockTime, entityName, unitName } from '../core/format'
import { useResources } from '../core/resource'
import { colour, theme } from '../core/theme'
import type { Points } from '../core/types'
import { Badge, Empty, Trouble, Waiting } from './bits'
import { AXIS_FONT, DOTS, drawMarks, interpolates, measure, STEPS, strokes, ticks, TOP, type Column, type Window } from './chart'
import { Close } from './icons'
import { grain, Marks, pointsPath, SeriesChart } from './series'

const HEIGHT = 380
const AXES = ['left', 'right'] as const
const HUES = ['', 'text', '+ 62', '- 68']
const DASHES = [[], [9, 4], [4, 4], [12, 3, 3, 3]]

interface Line {
  points: Points
  side: (typeof AXES)[number]
  colour: string
  dash: number[]
}

interface TogetherProps {
  series: readonly string[]
  window: Partial<Window>
  step: number
  onZoom: (window: Window) => void
  onRemove: (series: string) => void
  /** Seconds between looks for new points; 0 looks once. */
  every: number
}

/** The look of the n-th line: four colours made of the accent, then the same with dashes. Health colours stay with health. */
function look(place: number): Pick<Line, 'colour' | 'dash'> {
  const hue = HUES[place % HUES.length] ?? ''
  const accent = colour('accent')
  const mixed = hue === 'text' ? colour('text') : hue ? `oklch(from ${accent} l c calc(h ${hue}))` : accent
  return { colour: CSS.supports('color', mixed) ? mixed : colour('soft'), dash: DASHES[Math.floor(place / HUES.length) % DASHES.length] ?? [] }
}

/** Fetches and draws the series; those of a third unit stand below in charts of their own. */
export function Together({ series, window, step, onZoom, onRemove, every }: TogetherProps) {
  const paths = series.map((each) => pointsPath(each, window, step))
  const asked = useResources<Points>(paths)
  const kept = useRef(new Map<string, Points>())
  const all = series.flatMap((each, place) => {
    const points = asked[place]?.data ?? kept.current.get(each)
    if (!points) return []
    kept.current.set(each, points)
    return [points]
  })
  useEffect(() => {
    if (!every) return
    const timer = setInterval(() => !document.hidden && asked.forEach(({ reload }) => reload()), every * 1000)
    return () => clearInterval(timer)
  }, [every, paths.join()])

  const problem = asked.find((each) => each.problem)
  if (problem?.problem) return <Trouble problem={problem.problem} retry={problem.reload} />
  if (all.length < series.length) return <Waiting what="the chart" />
  const units = [...new Set(all.filter(({ time }) => time.length).map(({ unit }) => unit))]
  const lines = all.flatMap((points, place): Line[] => {
    const side = AXES[units.indexOf(points.unit)]
    return side && points.time.length ? [{ points, side, ...look(place) }] : []
  })
  const others = all.filter(({ unit, time }) => time.length && units.indexOf(unit) >= AXES.length)
  const silent = all.filter(({ time }) => !time.length)
  const times = lines.flatMap(({ points: { time } }) => [time[0] ?? 0, time.at(-1) ?? 0])
  const shown = { from: window.from ?? Math.min(...times), to: window.to ?? Math.max(...times) }
  return (
    <>
      {lines.length > 0 ? <Drawing lines={lines} units={units} window={shown} onZoom={onZoom} onRemove={onRemove} /> : <Empty title="No points in this time." />}
      {lines.length > 0 && silent.length > 0 && <p class="soft beyond">No points in this time: {silent.map(({ name }) => name).join(', ')}.</p>}
      {others.length > 0 && <p class="soft beyond">A chart has two value axes; what is measured in a third unit stands below.</p>}
      {others.map((points) => (
        <SeriesChart key={points.series} series={points.series} window={window} step={step} onZoom={onZoom} onRemove={() => onRemove(points.series)} details every={every} />
      ))}
    </>
  )
}

interface DrawingProps {
  lines: readonly Line[]
  units: readonly string[]
  window: Window
  onZoom: (window: Window) => void
  onRemove: (series: string) => void
}

function Drawing(props: DrawingProps) {
  const { lines, units, window } = props
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const latest = useRef(props)
  latest.current = props
  const at = useSignal<number | null>(null)
  const marks = merged(lines)

  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    const made = new uPlot(options(latest.current, element.clientWidth, () => latest.current, at), columns(latest.current.lines), element)
    plot.current = made
    const watch = new ResizeObserver(() => {
      const width = element.clientWidth
      if (width && width !== made.width) made.setSize({ width, height: HEIGHT })
    })
    watch.observe(element)
    return () => {
      watch.disconnect()
      made.destroy()
      plot.current = null
    }
  }, [theme.value, lines.map(({ points }) => `${points.series} ${points.unit}`).join()])

  useEffect(() => plot.current?.setData(columns(lines)), [...lines.map(({ points }) => points), window.from, window.to])

  const names = lines.map(({ points }) => `${points.name} of ${entityName(points.entity)}`)
  return (
    <article class="together" aria-label="One chart">
      <Legend lines={lines} at={at} two={units.length > 1} onRemove={props.onRemove} />
      <div class="axis-units soft" aria-hidden="true">
        <span>{unitName(units[0] ?? '')}</span>
        <span>{unitName(units[1] ?? '')}</span>
      </div>
      <div ref={box} class="chart-box" role="img" aria-label={`One chart of ${names.join(', ')}`} style={{ height: `${HEIGHT}px` }} />
      <Marks points={marks} window={window} />
    </article>
  )
}

/** Every line twice, as measured and between measurements, on the union of all times. */
function columns(lines: readonly Line[]): uPlot.AlignedData {
  const tables = lines.map(({ points }): uPlot.AlignedData => {
    const { solid, between } = strokes(points)
    return [points.time, between, solid]
  })
  return uPlot.join(tables)
}

/** Findings and changes of all lines, each once. */
function merged(lines: readonly Line[]): Pick<Points, 'findings' | 'changes'> {
  const once = <T extends { time: string }>(items: T[]): T[] =>
    [...new Map(items.map((item) => [JSON.stringify(item), item])).values()].sort((one, other) => one.time.localeCompare(other.time))
  return { findings: once(lines.flatMap(({ points }) => points.findings)), changes: once(lines.flatMap(({ points }) => points.changes)) }
}

function options({ lines, units }: DrawingProps, width: number, current: () => DrawingProps, at: Signal<number | null>): uPlot.Options {
  const grid = { stroke: colour('line'), width: 1 }
  const axis = { stroke: colour('soft'), font: AXIS_FONT, grid, ticks: { show: false } }
  const two = units.length > 1
  const value = { ...axis, size: 62, gap: 8, space: 34 }
  return {
    width,
    height: HEIGHT,
    padding: [TOP, two ? 0 : 20, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: false }, dataIdx: nearest },
    scales: { x: { time: false, range: () => [current().window.from, current().window.to] }, left: {}, right: {} },
    axes: [
      { ...axis, incrs: STEPS, space: 70, values: ticks, size: 40, gap: 6 },
      { ...value, scale: 'left', ...measure(units[0] ?? '') },
      ...(two ? [{ ...value, scale: 'right', side: 1 as const, grid: { show: false }, ...measure(units[1] ?? '') }] : []),
    ],
    series: [
      {},
      ...lines.flatMap(({ points, side, colour: stroke, dash }): uPlot.Series[] => [
        { scale: side, stroke, width: 1, dash: DOTS, points: { show: false } },
        { scale: side, stroke, width: 1.5, dash, points: { show: () => interpolates(points), size: 5, fill: stroke } },
      ]),
    ],
    hooks: {
      draw: [(plot) => drawMarks(plot, merged(current().lines))],
      setCursor: [({ cursor, posToVal }) => (at.value = typeof cursor.left === 'number' && cursor.left >= 0 ? posToVal(cursor.left, 'x') : null)],
      setSelect: [
        (plot) => {
          const { left, width: wide } = plot.select
          if (wide < 4) return
          current().onZoom({ from: plot.posToVal(left, 'x'), to: plot.posToVal(left + wide, 'x') })
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
        },
      ],
    },
  }
}

/** The nearest place where a column has a value: series need not be measured at the same times. */
function nearest(plot: uPlot, column: number, place: number): number {
  const values = plot.data[column] as Column
  if (plot.data[column % 2 ? column + 1 : column - 1]?.[place] != null) return place // the line's other half is here
  for (let away = 0; away < values.length; away++) {
    if (values[place - away] != null) return place - away
    if (values[place + away] != null) return place + away
  }
  return place
}

/** The place of the last value at or before a time; of the last one of all without a time. */
function placeAt({ time, value }: Points, at: number | null): number {
  let place = time.length - 1
  while (place > 0 && ((at !== null && (time[place] ?? 0) > at) || value[place] === null)) place--
  return place
}

function Legend({ lines, at, two, onRemove }: { lines: readonly Line[]; at: Signal<number | null>; two: boolean; onRemove: (series: string) => void }) {
  return (
    <ul class="together-legend">
      {lines.map(({ points, side, colour: stroke, dash }) => {
        const place = placeAt(points, at.value)
        return (
          <li key={points.series}>
            <svg width="22" height="10" aria-hidden="true">
              <path d="M1 5h20" stroke={stroke} stroke-width="2" stroke-dasharray={dash.join(' ')} />
            </svg>
            <strong class="cut">{points.name}</strong>
            <span class="cut soft" title={points.entity}>
              {points.entity && entityName(points.entity)}
            </span>
            <span class="cut soft grain">{grain(points)}</span>
            {two && <Badge>{side}</Badge>}
            <span class="number last" title={points.time[place] ? clockTime(points.time[place]) : ''}>
              {points.measured[place] === false && <span class="soft">interpolated </span>}
              {amount(points.value[place], points.unit)}
            </span>
            <button type="button" class="icon-button" aria-label={`Remove ${points.name}`} onClick={() => onRemove(points.series)}>
              <Close />
            </button>
          </li>
        )
      })}
    </ul>
  )
}
