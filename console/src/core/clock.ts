/** The present, once a second, for everything that shows an age. */
import { signal } from '@preact/signals'

/** Epoch seconds; stands still while nobody looks. */
export const present = signal(Date.now() / 1000)

/** Let time pass. */
export function startClock(): void {
  setInterval(() => {
    if (!document.hidden) present.value = Date.now() / 1000
  }, 1000)
}
