/** Ctrl K: every place, action, incident, series and workflow behind one line of text. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { query } from '../core/api'
import { entityName } from '../core/format'
import { commands } from '../core/keys'
import { useResource } from '../core/resource'
import { go } from '../core/router'
import type { IncidentPage, Items, Series, Workflow } from '../core/types'
import { Key } from './bits'

interface Choice {
  group: string
  label: string
  note: string
  key: string
  run: () => void
}

const TYPING_MS = 120
const EACH = 6

/** Whether the letters of `typed` occur in `text` in their order. */
export function matches(text: string, typed: string): boolean {
  let at = 0
  const low = text.toLowerCase()
  for (const letter of typed.toLowerCase().replaceAll(' ', '')) {
    at = low.indexOf(letter, at) + 1
    if (!at) return false
  }
  return true
}

function useChoices(typed: string): Choice[] {
  const [asked, ask] = useState('')
  useEffect(() => {
    const timer = setTimeout(() => ask(typed.trim()), TYPING_MS)
    return () => clearTimeout(timer)
  }, [typed])
  const incidents = useResource<IncidentPage>(asked ? query('incidents', { status: 'all', q: asked, limit: EACH }) : null)
  const series = useResource<Items<Series>>(asked ? query('series', { q: asked, limit: EACH }) : null)
  const workflows = useResource<Items<Workflow>>(asked ? 'workflows' : null)
  const own = commands.value
    .filter(({ label, quiet }) => !quiet && matches(label, typed))
    .map(({ label, key, run }) => ({ group: 'Do', label, note: '', key, run }))
  if (!asked) return own
  return [
    ...own,
    ...(incidents.data?.items ?? []).map(({ id, title, entity, status }) => ({
      group: 'Incidents',
      label: `${id} ${title}`,
      note: `${entityName(entity)} · ${status}`,
      key: '',
      run: () => go(`/incidents/${id}`),
    })),
    ...(workflows.data?.items ?? [])
      .filter(({ name }) => matches(name, asked))
      .slice(0, EACH)
      .map(({ name, description }) => ({ group: 'Workflows', label: name, note: description, key: '', run: () => go(`/workflows/${encodeURIComponent(name)}`) })),
    ...(series.data?.items ?? []).map(({ series: id, name, entity }) => ({
      group: 'Series',
      label: name,
      note: entityName(entity),
      key: '',
      run: () => go(`/explore?series=${encodeURIComponent(id)}`),
    })),
  ]
}

export function Palette({ onClose }: { onClose: () => void }) {
  const element = useRef<HTMLDialogElement>(null)
  const [typed, type] = useState('')
  const [at, setAt] = useState(0)
  const choices = useChoices(typed)
  const here = Math.min(at, choices.length - 1)
  // Before the next key arrives: an effect after the paint would leave the first letters to the page and its shortcuts.
  useLayoutEffect(() => element.current?.showModal(), [])
  useEffect(() => element.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' }), [here])
  const take = (choice: Choice | undefined): void => {
    if (!choice) return
    element.current?.close()
    onClose()
    choice.run()
  }
  return (
    <dialog ref={element} class="palette" aria-label="Command palette" onClose={onClose} onClick={(event) => event.target === element.current && onClose()}>
      <input
        type="text"
        role="combobox"
        aria-expanded="true"
        aria-controls="choices"
        aria-activedescendant={choices.length ? `choice-${here}` : undefined}
        aria-label="Go to or do"
        placeholder="Go to, do, or find an incident, series or workflow"
        value={typed}
        autoFocus
        onInput={(event) => {
          type(event.currentTarget.value)
          setAt(0)
        }}
        onKeyDown={(event) => {
          if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
            event.preventDefault()
            const step = event.key === 'ArrowDown' ? 1 : -1
            setAt((here + step + choices.length) % Math.max(1, choices.length))
          } else if (event.key === 'Enter') {
            event.preventDefault()
            take(choices[here])
          }
        }}
      />
      <ul id="choices" role="listbox" aria-label="Choices">
        {choices.map((choice, index) => (
          <li
            id={`choice-${index}`}
            role="option"
            aria-selected={index === here}
            class={choice.group !== choices[index - 1]?.group ? 'starts' : ''}
            data-group={choice.group}
            onMouseMove={() => setAt(index)}
            onClick={() => take(choice)}
          >
            <span class="cut">{choice.label}</span>
            {choice.note && <span class="soft cut">{choice.note}</span>}
            {choice.key && <Key>{choice.key}</Key>}
          </li>
        ))}
        {!choices.length && (
          <li role="option" aria-selected="false" aria-disabled="true" class="soft">
            Nothing matches.
          </li>
        )}
      </ul>
    </dialog>
  )
}
