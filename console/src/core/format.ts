/** Numbers, times and names as people read them. */

const SECOND = 1
const MINUTE = 60
const HOUR = 3600
const DAY = 86_400

/** A span of seconds in its two largest parts: 57s, 3m 12s, 1h 48m, 4d. */
export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds))
  if (s < MINUTE) return `${s}s`
  if (s < HOUR) return s % MINUTE && s < 10 * MINUTE ? `${Math.floor(s / MINUTE)}m ${s % MINUTE}s` : `${Math.round(s / MINUTE)}m`
  if (s < DAY) {
    const minutes = Math.round((s % HOUR) / MINUTE)
    return minutes && minutes < 60 ? `${Math.floor(s / HOUR)}h ${minutes}m` : `${Math.round(s / HOUR)}h`
  }
  return `${Math.round(s / DAY)}d`
}

/** A span in one part: 57s, 3m, 2h, 4d. */
export function age(seconds: number): string {
  const s = Math.max(0, seconds)
  if (s < MINUTE) return `${Math.floor(s)}s`
  if (s < HOUR) return `${Math.floor(s / MINUTE)}m`
  if (s < 2 * DAY) return `${Math.floor(s / HOUR)}h`
  return `${Math.floor(s / DAY)}d`
}

/** A delay, small ones in milliseconds. */
export function delay(seconds: number | null): string {
  if (seconds === null) return '–'
  if (seconds < 0) return `${delay(-seconds)} ahead`
  if (seconds < SECOND) return `${Math.round(seconds * 1000)} ms`
  return seconds < 10 ? `${seconds.toFixed(1)} s` : span(seconds)
}

/** Epoch seconds of an RFC 3339 time. */
export const epoch = (time: string): number => Date.parse(time) / 1000

const pad = (n: number): string => String(n).padStart(2, '0')

/** The local time of day, with the date when it is not today. */
export function clockTime(time: string | number, seconds = true): string {
  const at = new Date(typeof time === 'number' ? time * 1000 : time)
  const day = at.toDateString() === new Date().toDateString() ? '' : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} `
  return `${day}${pad(at.getHours())}:${pad(at.getMinutes())}${seconds ? `:${pad(at.getSeconds())}` : ''}`
}

/** The weekday and the local time of day: Tue 24, 09:00. */
export function dayTime(time: string): string {
  const at = new Date(time)
  return `${at.toLocaleDateString('en', { weekday: 'short' })} ${at.getDate()}, ${pad(at.getHours())}:${pad(at.getMinutes())}`
}

/** The offset of a time from another one: +1m 20s, −12s. */
export function offset(time: string, zero: string): string {
  const seconds = epoch(time) - epoch(zero)
  return `${seconds < 0 ? '−' : '+'}${span(Math.abs(seconds))}`
}

const count = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
const THOUSANDS = ['', 'k', 'M', 'G', 'T']

/** A whole number with separators. */
export const whole = (n: number): string => count.format(n)

function scaled(value: number, base: number, names: readonly string[]): string {
  let power = 0
  let size = Math.abs(value)
  while (size >= base && power < names.length - 1) {
    size /= base
    power++
  }
  const text = `${digits(value < 0 ? -size : size)} ${names[power]}`
  return text.trim().replace(/ (?=[kMGT]$)/, '')
}

function digits(value: number): string {
  const size = Math.abs(value)
  if (size === 0) return '0'
  if (size >= 100) return value.toFixed(0)
  if (size >= 10) return trim(value.toFixed(1))
  if (size >= 0.01) return trim(value.toFixed(2))
  return value.toExponential(1)
}

const trim = (text: string): string => text.replace(/\.?0+$/, '')

/** A measured value in its UCUM unit. */
export function amount(value: number | null | undefined, unit: string): string {
  if (value === null || value === undefined) return '–'
  if (isBytes(unit)) return scaled(value, 1024, BYTES)
  if (unit === 's' || unit === 'seconds') return Math.abs(value) < 1 && value !== 0 ? `${digits(value * 1000)} ms` : `${digits(value)} s`
  if (unit === '%') return `${digits(value)} %`
  const name = unitName(unit)
  const number = scaled(value, 1000, THOUSANDS)
  return name ? `${number} ${name}` : number
}

/** Whether a unit counts bytes, which are scaled by 1024. */
export const isBytes = (unit: string): boolean => unit === 'By' || unit === 'bytes'

/** The printed name of a unit; dimensionless ones and those that are scaled have none. */
export const unitName = (unit: string): string => (unit === '1' || isBytes(unit) ? '' : unit.replace(/[{}]/g, ''))

/** A share of one as a percentage. */
export const percent = (share: number | null): string => (share === null ? '–' : `${trim((share * 100).toFixed(1))}%`)

/** The plain name of an entity: `service:shop/cart` is `cart`. */
export function entityName(entity: string): string {
  const name = entity.slice(entity.indexOf(':') + 1)
  return entity.startsWith('instance:') ? name : name.slice(name.lastIndexOf('/') + 1) || entity
}

/** A sentence of the server with entities by their plain names and units without braces. */
export const readable = (text: string): string =>
  text
    .replace(/\b(?:service|pod|host):[\w./-]*[\w-]/g, entityName)
    .replace(/(\d\s?[a-zµ]?)\{(\w+)\}/gi, '$1$2')

/** A text that names an entity first, without that name: it stands beside it already. */
export const without = (entity: string, text: string): string => {
  const plainer = readable(text)
  const start = `${entityName(entity)}: `
  return plainer.startsWith(start) ? plainer.slice(start.length) : plainer
}

/** `1 alert`, `2 alerts`. */
export const plural = (n: number, one: string, many = `${one}s`): string => `${whole(n)} ${n === 1 ? one : many}`

/** Any value as text for a table cell or a block of details. */
export function plain(value: unknown): string {
  if (value === null || value === undefined) return ''
  return typeof value === 'object' ? JSON.stringify(value, null, 2) : String(value)
}
