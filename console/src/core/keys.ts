/** Commands: what can be done here, by key, by button, and in the palette. */
import { computed, signal } from '@preact/signals'
import { useLayoutEffect } from 'preact/hooks'

/** Something to do. `key` is one key, or two typed after one another ("g i"). */
export interface Command {
  key: string
  label: string
  run: () => void
  quiet?: boolean
}

const layers = signal<readonly (readonly Command[])[]>([])

/** All commands of the moment; those of the innermost view first. */
export const commands = computed(() => layers.value.toReversed().flat())

/** Offer commands while a component is shown. */
export function useCommands(offered: readonly Command[], deps: readonly unknown[]): void {
  useLayoutEffect(() => {
    layers.value = [...layers.peek(), offered]
    return () => {
      layers.value = layers.peek().filter((layer) => layer !== offered)
    }
  }, deps)
}

const SEQUENCE_MS = 900
let prefix = ''
let pressed = 0
let holds = 0
let held: string[] = []

/** Keep keys nobody knows yet, while a page is on its way, until what is returned is called; then they are pressed. */
export function holdKeys(): () => void {
  holds++
  return () => {
    if (--holds) return
    const typed = held
    held = []
    for (const key of typed) run(key)
  }
}

function writing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
}

function onKey(event: KeyboardEvent): void {
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === 'k') {
    event.preventDefault()
    run('palette')
    return
  }
  if (event.metaKey || event.ctrlKey || event.altKey || event.isComposing) return
  if (writing(event.target) || document.querySelector('dialog[open]')) return
  if (event.key === 'Enter' && event.target instanceof Element && event.target.closest('a,button,summary')) return
  const sequence = performance.now() - pressed < SEQUENCE_MS && prefix ? `${prefix} ${event.key}` : event.key
  const starts = commands.value.some((command) => command.key.startsWith(`${event.key} `))
  prefix = sequence === event.key && starts ? event.key : ''
  pressed = performance.now()
  if (run(sequence)) {
    event.preventDefault()
    prefix = ''
  } else if (holds && !prefix) held.push(event.key)
}

function run(key: string): boolean {
  const command = commands.value.find((each) => each.key === key)
  command?.run()
  return command !== undefined
}

/** Listen to the keyboard. */
export function startKeys(): void {
  document.addEventListener('keydown', onKey)
}
