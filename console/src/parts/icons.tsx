/** Every shape of the console. Health is never told by colour alone: each colour has its own shape. */
import type { ComponentChildren } from 'preact'
import type { Severity } from '../core/types'

function Icon({ children, size = 16 }: { children: ComponentChildren; size?: number }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width={size} height={size} aria-hidden="true" fill="none" stroke="currentColor">
      {children}
    </svg>
  )
}

// Path data and not elements: an element kept in a constant would keep the last page it stood on alive.
const SHAPES = {
  critical: 'M8 2.2 14.4 13.6H1.6Z',
  high: 'M8 1.4 14.6 8 8 14.6 1.4 8Z',
  warning: 'M4.8 2.6h6.4a2.2 2.2 0 0 1 2.2 2.2v6.4a2.2 2.2 0 0 1-2.2 2.2H4.8a2.2 2.2 0 0 1-2.2-2.2V4.8a2.2 2.2 0 0 1 2.2-2.2Z',
  info: 'M8 2.4a5.6 5.6 0 1 0 0 11.2A5.6 5.6 0 0 0 8 2.4Z',
  good: 'M8 2.4a5.6 5.6 0 1 0 0 11.2A5.6 5.6 0 0 0 8 2.4ZM8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6Z',
} as const

export type Health = keyof typeof SHAPES

/** A severity (or good health) as shape and colour, with its word for those who do not see it. */
export function Shape({ health, size = 11, label }: { health: Health; size?: number; label?: string }) {
  const word = label ?? health
  return (
    <svg class={`shape ${health}`} viewBox="0 0 16 16" width={size} height={size} role="img" aria-label={word} fill="currentColor" fill-rule="evenodd">
      <title>{word}</title>
      <path d={SHAPES[health]} />
    </svg>
  )
}

/** The health to show for a severity that may be empty. */
export const healthOf = (severity: Severity | ''): Health => severity || 'info'

export const Logo = () => (
  <svg class="logo" viewBox="0 0 18 18" width="18" height="18" aria-hidden="true">
    {[0, 1, 2].flatMap((row) =>
      [0, 1, 2].map((column) => (
        <rect class={(row + column) % 2 ? 'dim' : ''} x={column * 6.4} y={row * 6.4} width="5.2" height="5.2" rx="1.4" />
      )),
    )}
  </svg>
)

export const Sun = () => (
  <Icon>
    <circle cx="8" cy="8" r="2.8" />
    <path d="M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1" />
  </Icon>
)
export const Moon = () => (
  <Icon>
    <path d="M13.4 9.6A5.8 5.8 0 0 1 6.4 2.6a5.8 5.8 0 1 0 7 7Z" />
  </Icon>
)
export const Question = () => (
  <Icon>
    <circle cx="8" cy="8" r="6" />
    <path d="M6.3 6.2a1.75 1.75 0 1 1 2.5 1.6c-.6.3-.8.7-.8 1.3M8 11.3v.2" stroke-linecap="round" />
  </Icon>
)
export const Leave = () => (
  <Icon>
    <path d="M9.5 2.5h-6v11h6M6.5 8h7.6M11.6 5.4 14.2 8l-2.6 2.6" />
  </Icon>
)
export const Close = () => (
  <Icon size={14}>
    <path d="m4 4 8 8M12 4l-8 8" />
  </Icon>
)
export const Arrow = () => (
  <Icon size={14}>
    <path d="M2.5 8h10.4M9.2 4.2 13 8l-3.8 3.8" />
  </Icon>
)
export const Back = () => (
  <Icon size={14}>
    <path d="M9.8 3.6 5.4 8l4.4 4.4" />
  </Icon>
)
export const Tick = () => (
  <Icon size={14}>
    <path d="m3 8.6 3.2 3.2L13 4.8" />
  </Icon>
)
export const Cross = Close
export const Lens = () => (
  <Icon size={14}>
    <circle cx="7" cy="7" r="4.4" />
    <path d="m10.4 10.4 3.4 3.4" />
  </Icon>
)
