/** A list and, beside it, what was chosen from it; on a narrow screen what was chosen comes first. */
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { useCommands } from '../core/keys'
import { go, params, withParams } from '../core/router'
import { Close } from './icons'

/** The key of what is chosen, as the address says. */
export const chosen = (): string => params.value.get('selected') ?? ''

/** Choose something; nothing with an empty key. */
export const choose = (key: string): void => go(withParams({ selected: key || null }), true)

/** A row of a table that opens the pane, by mouse, or by its button from the keyboard. */
export function Opener({ id, children }: { id: string; children: ComponentChildren }) {
  const here = chosen() === id
  return (
    <button type="button" class="opener" aria-pressed={here} onClick={() => choose(here ? '' : id)}>
      {children}
    </button>
  )
}

export function Beside(props: { keys: readonly string[]; label: string; pane: ComponentChildren; children: ComponentChildren }) {
  const pane = useRef<HTMLElement>(null)
  const here = chosen()
  const at = props.keys.indexOf(here)
  const move = (by: number): void => {
    const next = props.keys[Math.max(0, Math.min(props.keys.length - 1, at + by))]
    if (next) choose(next)
  }
  useCommands(
    [
      { key: 'j', label: 'Next row', run: () => move(1), quiet: true },
      { key: 'k', label: 'Previous row', run: () => move(at < 0 ? 1 : -1), quiet: true },
      { key: 'Escape', label: 'Close the pane', run: () => choose(''), quiet: true },
    ],
    [at, props.keys.join('\n')],
  )
  useEffect(() => {
    if (here && innerWidth < 1100) pane.current?.scrollIntoView({ block: 'start' })
  }, [here])
  return (
    <div class={here ? 'beside open' : 'beside'}>
      <div class="beside-list">{props.children}</div>
      {here && (
        <aside ref={pane} class="beside-pane" aria-label={props.label}>
          <button type="button" class="icon-button beside-close" aria-label="Close the pane" onClick={() => choose('')}>
            <Close />
          </button>
          {props.pane}
        </aside>
      )}
    </div>
  )
}
