/** Every view is a URL: the address bar is the only navigation state. */
import { computed, signal } from '@preact/signals'

const here = signal(location.pathname + location.search)

/** The current path, without its query. */
export const path = computed(() => here.value.split('?', 1)[0] ?? '/')

/** The current query parameters. */
export const params = computed(() => new URLSearchParams(here.value.split('?')[1] ?? ''))

function arrived(): void {
  here.value = location.pathname + location.search
}

/** Go to a path of the console; `replace` leaves no entry in the history. */
export function go(href: string, replace = false): void {
  if (href === here.value) return
  history[replace ? 'replaceState' : 'pushState'](null, '', href)
  arrived()
}

/** The current address with some query parameters changed; empty values are removed. */
export function withParams(changes: Record<string, string | null>): string {
  const next = new URLSearchParams(params.value)
  for (const [key, value] of Object.entries(changes)) {
    if (value) next.set(key, value)
    else next.delete(key)
  }
  const query = next.toString()
  return query ? `${path.value}?${query}` : path.value
}

/** Follow links inside the console without loading a page. */
export function startRouter(): void {
  addEventListener('popstate', arrived)
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    const link = (event.target as Element | null)?.closest('a')
    if (!link || link.origin !== location.origin || link.target || link.hasAttribute('download') || /^\/[^/]+\.\w+$/.test(link.pathname)) return
    event.preventDefault()
    go(link.pathname + link.search)
  })
}
