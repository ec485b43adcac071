/** A series over time: its line, the band it was expected in, red where it left it, changes and findings on the same axis. */
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { amount, clockTime, epoch, isBytes, unitName } from '../core/format'
import type { Forecast } from '../core/anomalies'
import { colour, theme } from '../core/theme'
import type { Points } from '../core/types'

export interface Window {
  from: number
  to: number
}

export interface ChartProps {
  points: Points
  window: Window
  height?: number
  /** Charts with the same word share one cursor. */
  sync?: string
  /** Whether the times stand below it; in a stack only the last one shows them. */
  times?: boolean
  onZoom?: (window: Window) => void
  /** What it will be, drawn after its last point. */
  ahead?: Forecast | undefined
}

export const AXIS_FONT = '11px "Inter Variable", sans-serif'
export const TOP = 20
export const DOTS = [1.5, 3.5]
const BYTE_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power)
export const STEPS = [1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000]

export type Column = (number | null)[]

/** Whether anything of it was not measured but lies between two measurements. */
export const interpolates = ({ measured, value }: Points): boolean => measured.some((was, i) => !was && value[i] !== null)

/** The line as it was measured, and the stretches between measurements, which are drawn thinner and dotted. */
export function strokes({ value, measured }: Points): { solid: Column; between: Column } {
  return {
    solid: value.map((v, i) => (measured[i] === false ? null : v)),
    between: value.map((v, i) => (measured[i] === false || measured[i - 1] === false || measured[i + 1] === false ? v : null)),
  }
}

/** The measured values outside the band, with their neighbours, so that a lone point still draws a stroke. */
export function outside({ value, lower, upper, measured }: Points): { line: Column; since: number } {
  const out = value.map((v, i) => v !== null && measured[i] !== false && ((upper[i] ?? Infinity) < v || (lower[i] ?? -Infinity) > v))
  const line = value.map((v, i) => (measured[i] !== false && (out[i] || out[i - 1] || out[i + 1]) ? v : null))
  for (let i = 1; i < out.length; i++) if (measured[i] === false) out[i] = out[i - 1] ?? false // what lies between is taken as what was measured before
  return { line, since: out.lastIndexOf(true) < 0 ? -1 : start(out) }
}

function start(out: boolean[]): number {
  let index = out.lastIndexOf(true)
  while (index > 0 && (out[index - 1] || out[index - 2])) index--
  return index
}

function columns({ points, ahead }: ChartProps): uPlot.AlignedData {
  const { solid, between } = strokes(points)
  const last = points.time.at(-1) ?? 0
  const begin = ahead?.time.findIndex((at) => at > last) ?? -1
  const time = begin < 0 ? [] : (ahead?.time.slice(begin) ?? [])
  const past = points.time.map(() => null)
  const future = time.map(() => null)
  const measured = [points.upper, points.lower, between, solid, outside(points).line].map((column) => [...column, ...future])
  const told = [ahead?.upper, ahead?.lower, ahead?.centre].map((column) => [...past, ...(begin < 0 ? [] : (column?.slice(begin) ?? []))])
  return [[...points.time, ...time], ...measured, ...told, [...past, ...time.map(() => ahead?.threshold ?? null)]]
}

/** How times stand below a chart. */
export function ticks(_: uPlot, splits: number[]): string[] {
  const step = (splits[1] ?? 0) - (splits[0] ?? 0)
  let day = ''
  return splits.map((at) => {
    const date = new Date(at * 1000)
    const time = `${String(date.getHours()).padStart(2, '0')}:${String(date.getMinutes()).padStart(2, '0')}`
    const text = step < 60 ? `${time}:${String(date.getSeconds()).padStart(2, '0')}` : time
    const today = date.toLocaleDateString('en', { day: 'numeric', month: 'short' })
    const first = today !== day
    day = today
    return first ? `${text}\n${today}` : step >= 86_400 ? today : text
  })
}

function options(props: ChartProps, width: number, legend: HTMLElement, current: () => ChartProps): uPlot.Options {
  const { points, height = 190 } = props
  const grid = { stroke: colour('line'), width: 1 }
  const axis = { stroke: colour('soft'), font: AXIS_FONT, grid, ticks: { show: false } }
  return {
    width,
    height,
    padding: [TOP, 20, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: Boolean(props.onZoom), y: false, setScale: false },
      ...(props.sync ? { sync: { key: props.sync, setSeries: false } } : {}),
    },
    scales: { x: { time: false, range: () => [current().window.from, current().window.to] } },
    axes: [
      { ...axis, incrs: STEPS, space: 70, values: props.times === false ? () => [] : ticks, size: props.times === false ? 8 : 40, gap: 6 },
      {
        ...axis,
        size: 62,
        gap: 8,
        space: 34,
        ...measure(points.unit),
      },
    ],
    series: [
      {},
      { stroke: 'transparent', points: { show: false } },
      { stroke: 'transparent', points: { show: false } },
      { stroke: colour('accent'), width: 1, dash: DOTS, points: { show: false } },
      { stroke: colour('accent'), width: 1.5, points: { show: () => interpolates(current().points), size: 5, fill: colour('accent') } },
      { stroke: colour('critical'), width: 2, points: { show: () => interpolates(current().points), size: 6, fill: colour('critical') } },
      { stroke: colour('soft'), width: 1, dash: DOTS, points: { show: false } },
      { stroke: colour('soft'), width: 1, dash: DOTS, points: { show: false } },
      { stroke: colour('accent'), width: 1.5, dash: [5, 4], points: { show: false } },
      { stroke: colour('critical'), width: 1, dash: [8, 4], points: { show: false } },
    ],
    bands: [1, 6].map((at) => ({ series: [at, at + 1] as [number, number], fill: colour('band') })),
    hooks: {
      draw: [(plot) => drawMarks(plot, current().points)],
      setCursor: [(plot) => (legend.textContent = under(plot, current().points))],
      setSelect: [
        (plot) => {
          const { left, width: wide } = plot.select
          if (wide < 4) return
          current().onZoom?.({ from: plot.posToVal(left, 'x'), to: plot.posToVal(left + wide, 'x') })
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
        },
      ],
    },
  }
}

/** How the values of a unit stand beside a chart. */
export const measure = (unit: string): Pick<uPlot.Axis, 'incrs' | 'values'> => ({
  ...(isBytes(unit) ? { incrs: BYTE_STEPS } : {}),
  values: (_, splits) => splits.map((v) => bare(amount(v, unit), ` ${unitName(unit)}`)),
})

/** An amount without its unit, which may hold any characters its sender likes. */
const bare = (text: string, unit: string): string => (text.endsWith(unit) ? text.slice(0, -unit.length) : text)

function under(plot: uPlot, points: Points): string {
  const i = plot.cursor.idx
  if (i === null || i === undefined) return ''
  const [time, lower] = [points.time[i], points.lower[i]]
  if (time === undefined) return foretold(plot, i, points.unit)
  const band = lower === null || lower === undefined ? '' : ` · expected ${amount(lower, points.unit)} to ${amount(points.upper[i], points.unit)}`
  return `${clockTime(time)} · ${told(points, i)}${band}`
}

function foretold(plot: uPlot, i: number, unit: string): string {
  const [time, upper, lower, centre] = [0, 6, 7, 8].map((at) => plot.data[at]?.[i])
  if (time == null || centre == null) return ''
  return `${clockTime(time)} · forecast ${amount(centre, unit)} · 95 % within ${amount(lower, unit)} to ${amount(upper, unit)}`
}

/** One point in words: its value, what it stands for, and whether it was measured. */
export function told(points: Points, i: number): string {
  const { unit, value, low, high, measured } = points
  if (value[i] === null || value[i] === undefined) return 'nothing was measured'
  const text = amount(value[i], unit)
  if (measured[i] === false) return `${text} · interpolated, not measured`
  const spread = low[i] === high[i] ? '' : ` (${amount(low[i], unit)} to ${amount(high[i], unit)})`
  return `${text}${spread}${interpolates(points) ? ' · measured' : ''}`
}

/** Findings as a line at the foot of a chart, changes as marks across it. */
export function drawMarks(plot: uPlot, points: Pick<Points, 'findings' | 'changes'>): void {
  const { ctx, bbox } = plot
  const ratio = devicePixelRatio
  const at = (seconds: number): number => plot.valToPos(seconds, 'x', true)
  const [left, right, bottom] = [bbox.left, bbox.left + bbox.width, bbox.top + bbox.height]
  ctx.save()
  ctx.font = `${10.5 * ratio}px "Inter Variable", sans-serif`
  ctx.textAlign = 'left'
  ctx.textBaseline = 'alphabetic'
  let worded = -Infinity
  for (const finding of points.findings) {
    const from = Math.max(left, at(epoch(finding.time)))
    const to = Math.min(right, finding.until ? at(epoch(finding.until)) : right)
    if (to < left || from > right) continue
    ctx.globalAlpha = finding.demoted ? 0.35 : 1 // frequent but not worsening
    ctx.fillStyle = colour(finding.severity)
    ctx.fillRect(from, bottom - 3 * ratio, Math.max(3 * ratio, to - from), 3 * ratio)
    const word = fitting(ctx, finding.kind, right - from)
    if (word && from > worded) {
      ctx.fillText(word, from, bottom - 6 * ratio)
      worded = from + ctx.measureText(word).width + 6 * ratio
    }
  }
  ctx.globalAlpha = 1
  ctx.strokeStyle = ctx.fillStyle = colour('text')
  ctx.lineWidth = ratio
  ctx.setLineDash([3 * ratio, 3 * ratio])
  let free = left
  for (const change of points.changes) {
    const x = Math.round(at(epoch(change.time)))
    if (x < left || x > right) continue
    ctx.beginPath()
    ctx.moveTo(x, bbox.top)
    ctx.lineTo(x, bottom)
    ctx.stroke()
    const size = 4 * ratio
    ctx.beginPath()
    ctx.moveTo(x, bbox.top - size)
    ctx.lineTo(x + size, bbox.top)
    ctx.lineTo(x, bbox.top + size)
    ctx.lineTo(x - size, bbox.top)
    ctx.fill()
    const gap = 2 * size
    const after = right - x >= x - free
    const title = fitting(ctx, change.title, (after ? right - x : x - free) - gap)
    if (title && x > free) ctx.fillText(title, after ? x + gap : x - gap - ctx.measureText(title).width, bbox.top - 6 * ratio)
    free = x + gap + (after ? ctx.measureText(title).width + gap : 0)
  }
  ctx.restore()
}

function fitting(ctx: CanvasRenderingContext2D, text: string, room: number): string {
  if (ctx.measureText(text).width <= room) return text
  let length = text.length
  while (length > 3 && ctx.measureText(`${text.slice(0, length)}…`).width > room) length--
  return length > 3 ? `${text.slice(0, length)}…` : ''
}

function spoken({ name, value, unit, findings }: Points): string {
  let [low, high] = [Infinity, -Infinity]
  for (const v of value) {
    if (v === null) continue
    low = Math.min(low, v)
    high = Math.max(high, v)
  }
  if (low > high) return `${name}: no values`
  const found = findings.map((finding) => `${finding.text} at ${clockTime(finding.time)}`).join('; ')
  return `${name}: between ${amount(low, unit)} and ${amount(high, unit)}${found && `; ${found}`}`
}

/** One chart. The line of text above it shows the values under the cursor. */
export function Chart(props: ChartProps) {
  const box = useRef<HTMLDivElement>(null)
  const legend = useRef<HTMLParagraphElement>(null)
  const plot = useRef<uPlot | null>(null)
  const latest = useRef(props)
  latest.current = props
  const { points } = props
  const height = props.height ?? 190

  useLayoutEffect(() => {
    const [element, text] = [box.current, legend.current]
    if (!element || !text) return
    const made = new uPlot(options(latest.current, element.clientWidth, text, () => latest.current), columns(latest.current), element)
    plot.current = made
    const watch = new ResizeObserver(() => {
      const width = element.clientWidth
      if (width && width !== made.width) made.setSize({ width, height })
    })
    watch.observe(element)
    return () => {
      watch.disconnect()
      made.destroy()
      plot.current = null
    }
  }, [theme.value, points.series, points.unit, height, Boolean(props.onZoom), props.times])

  useEffect(() => plot.current?.setData(columns(props)), [points, props.ahead, props.window.from, props.window.to])

  return (
    <figure class="chart">
      <p class="chart-value" ref={legend} aria-hidden="true" />
      <div ref={box} class="chart-box" role="img" aria-label={spoken(points)} style={{ height: `${height}px` }} />
    </figure>
  )
}
