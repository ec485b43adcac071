/** What the server said about the last action, for a few seconds. */
import { signal } from '@preact/signals'
import { Problem } from '../core/api'

const SHOWN_MS = 6000
const said = signal<{ text: string; bad: boolean } | null>(null)
let timer = 0

/** Say one sentence. */
export function say(text: string, bad = false): void {
  said.value = { text, bad }
  clearTimeout(timer)
  timer = setTimeout(() => (said.value = null), SHOWN_MS)
}

/** Run an action; a problem becomes a sentence on the screen. Returns undefined when it failed. */
export async function attempt<T>(action: () => Promise<T>, done?: string): Promise<T | undefined> {
  try {
    const result = await action()
    if (done) say(done)
    return result
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    say(error.message, true)
    return undefined
  }
}

export function Toast() {
  return (
    <div class="toast-place" role="status" aria-live="polite">
      {said.value && <div class={`toast ${said.value.bad ? 'bad' : ''}`}>{said.value.text}</div>}
    </div>
  )
}
