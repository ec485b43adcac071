/** A series chosen by typing some of its name. */
import { useEffect, useId, useState } from 'preact/hooks'
import { query } from '../core/api'
import { entityName } from '../core/format'
import { useResource } from '../core/resource'
import type { Items, Series } from '../core/types'

const TYPING_MS = 150
const SHOWN = 20

/** A series in one line, by name and where it is. */
export const inWords = ({ name, entity, attributes }: Series): string => {
  const of = entity ? entityName(entity) : Object.entries(attributes).map((pair) => pair.join('=')).join(', ')
  return of ? `${name} of ${of}` : name
}

/** A field that searches series; arrows and Enter choose, as in a list of the browser. */
export function SeriesPicker({ label, choose }: { label: string; choose: (series: Series) => void }) {
  const [typed, type] = useState('')
  const [asked, ask] = useState('')
  const [open, show] = useState(false)
  const [at, move] = useState(0)
  const list = useId()
  useEffect(() => {
    const timer = setTimeout(() => (ask(typed), move(0)), TYPING_MS)
    return () => clearTimeout(timer)
  }, [typed])
  const { data, problem } = useResource<Items<Series>>(open ? query('series', { q: asked, limit: SHOWN }) : null, 'source')
  const items = data?.items ?? []
  const take = (one: Series | undefined): void => {
    if (!one) return
    choose(one)
    type('')
    show(false)
  }
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === 'Escape') show(false)
    else if (event.key === 'ArrowDown') (show(true), move(Math.min(items.length - 1, at + 1)))
    else if (event.key === 'ArrowUp') move(Math.max(0, at - 1))
    else if (event.key === 'Enter' && typed === asked) take(items[at])
    else return
    event.preventDefault()
  }
  return (
    <div class="picker">
      <input
        type="text"
        role="combobox"
        aria-label={label}
        aria-expanded={open}
        aria-controls={list}
        aria-autocomplete="list"
        aria-activedescendant={open && items[at] ? `${list}-${at}` : undefined}
        placeholder={label}
        autocomplete="off"
        spellcheck={false}
        value={typed}
        onFocus={() => show(true)}
        onBlur={() => show(false)}
        onInput={(event) => (type(event.currentTarget.value), show(true))}
        onKeyDown={onKey}
      />
      <ul id={list} role="listbox" aria-label={label} hidden={!open}>
        {items.map((one, index) => (
          <li key={one.series} id={`${list}-${index}`} role="option" aria-selected={index === at} onMouseDown={(event) => (event.preventDefault(), take(one))}>
            {inWords(one)}
          </li>
        ))}
        {problem && <li role="option" aria-selected="false" aria-disabled="true">{problem.message}</li>}
        {data && !items.length && (
          <li role="option" aria-selected="false" aria-disabled="true">
            No series matches.
          </li>
        )}
      </ul>
    </div>
  )
}
