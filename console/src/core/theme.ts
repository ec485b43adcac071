/** Dark and light: the system's wish until someone chooses. */
import { computed, signal } from '@preact/signals'

export type Theme = 'dark' | 'light'

const system = matchMedia('(prefers-color-scheme: light)')
const wished = signal<Theme>(system.matches ? 'light' : 'dark')
const chosen = signal<Theme | null>((document.documentElement.dataset.theme as Theme | undefined) ?? null)

/** The theme in force. */
export const theme = computed<Theme>(() => chosen.value ?? wished.value)

system.addEventListener('change', () => {
  wished.value = system.matches ? 'light' : 'dark'
})

/** Choose the other theme; choosing what the system wishes anyway is remembered as no choice. */
export function toggleTheme(): void {
  const next: Theme = theme.value === 'dark' ? 'light' : 'dark'
  chosen.value = next === wished.value ? null : next
  if (chosen.value) {
    document.documentElement.dataset.theme = chosen.value
    localStorage.setItem('ninefold.theme', chosen.value)
  } else {
    delete document.documentElement.dataset.theme
    localStorage.removeItem('ninefold.theme')
  }
}

/** A colour of the theme in force, for drawings on a canvas. */
export function colour(name: string): string {
  const probe = document.documentElement
  probe.style.setProperty('outline-color', `var(--${name})`)
  const value = getComputedStyle(probe).outlineColor
  probe.style.removeProperty('outline-color')
  return value
}
