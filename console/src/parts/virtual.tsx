/** A list that draws only the rows one can see. */
import type { ComponentChildren } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'

const SPARE = 6

export interface VirtualProps<T> {
  items: readonly T[]
  height: number
  label: string
  selected: number
  columns: number
  head: ComponentChildren
  row: (item: T) => ComponentChildren
  id: (item: T) => string
  /** Called when the end comes near, to fetch more. */
  onEnd?: () => void
  onSelect: (index: number) => void
  onOpen: (index: number) => void
  /** How many rows there are in all, when more are on the server. */
  total?: number
}

/** What can be seen of a scrolling box. A function of its own, so that its observer holds on to nothing but the box. */
function useSight(box: { readonly current: HTMLElement | null }): { top: number; size: number } {
  const [sight, setSight] = useState({ top: 0, size: 900 })
  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    const look = (): void => setSight({ top: element.scrollTop, size: element.clientHeight })
    const watch = new ResizeObserver(look)
    watch.observe(element)
    element.addEventListener('scroll', look, { passive: true })
    return () => {
      watch.disconnect()
      element.removeEventListener('scroll', look)
    }
  }, [])
  return sight
}

const rowOf = (event: Event): number => Number((event.target as Element).closest<HTMLElement>('[data-index]')?.dataset.index ?? -1)

/** Rows of one height in a scrolling grid; the selected one is kept in view. Rows have no handlers of their own. */
export function VirtualList<T>(props: VirtualProps<T>) {
  const { items, height, selected } = props
  const box = useRef<HTMLDivElement>(null)
  const sight = useSight(box)

  const last = useRef(selected)
  useEffect(() => {
    const element = box.current
    if (!element || selected < 0 || selected === last.current) return
    last.current = selected
    const top = selected * height
    if (top < element.scrollTop) element.scrollTop = top
    else if (top + height > element.scrollTop + element.clientHeight) element.scrollTop = top + height - element.clientHeight
  }, [selected])

  const first = Math.max(0, Math.floor(sight.top / height) - SPARE)
  const end = Math.min(items.length, Math.ceil((sight.top + sight.size) / height) + SPARE)
  useEffect(() => {
    if (items.length && end >= items.length - 2 * SPARE) props.onEnd?.()
  }, [end, items])

  return (
    <div class="grid" role="grid" aria-label={props.label} aria-rowcount={(props.total ?? items.length) + 1} aria-colcount={props.columns}>
      <div class="grid-head" role="row" aria-rowindex={1}>
        {props.head}
      </div>
      <div class="grid-body" role="rowgroup" ref={box} tabIndex={0} aria-label={props.label}>
        <div
          class="grid-canvas"
          style={{ height: `${items.length * height}px` }}
          role="presentation"
          onClick={(event) => rowOf(event) >= 0 && props.onSelect(rowOf(event))}
          onDblClick={(event) => rowOf(event) >= 0 && props.onOpen(rowOf(event))}
        >
          {items.slice(first, end).map((item, offset) => {
            const index = first + offset
            return (
              <div
                key={props.id(item)}
                class={`grid-row ${index === selected ? 'selected' : ''}`}
                style={{ transform: `translateY(${index * height}px)`, height: `${height}px` }}
                role="row"
                data-index={index}
                aria-rowindex={index + 2}
                aria-selected={index === selected}
              >
                {props.row(item)}
              </div>
            )
          })}
        </div>
      </div>
    </div>
  )
}
