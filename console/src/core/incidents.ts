/** The list of incidents: pages from the server, one list on the screen, kept fresh by the live view. */
import { useSignal, useSignalEffect } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { get, post, Problem, query } from './api'
import { epoch } from './format'
import { changed } from './live'
import { place, refresh } from './resource'
import type { Incident, IncidentDetail, IncidentPage, Topic } from './types'

const PAGE = 200
const GAP_MS = 400
const BEFORE_S = 1800
const AFTER_S = 600
const TOPICS: readonly Topic[] = ['incident', 'alert', 'approval']

export interface IncidentList {
  items: readonly Incident[]
  counts: IncidentPage['counts'] | undefined
  problem: Problem | null
  more: () => void
  reload: () => void
}

/** The incidents of a status that match a search, as far as they have been scrolled to. */
export function useIncidents(status: string, search: string): IncidentList {
  const page = useSignal<IncidentPage | undefined>(undefined)
  const problem = useSignal<Problem | null>(null)
  const work = useRef({ abort: new AbortController(), busy: false, asked: 0, timer: 0 }).current

  const fetchPages = async (known: IncidentPage | null, wanted: number): Promise<void> => {
    work.abort.abort()
    const { signal } = (work.abort = new AbortController())
    work.busy = true
    try {
      let { items, next, counts } = known ?? { items: [], next: '', counts: undefined }
      while (next !== null && items.length < wanted) {
        const got: IncidentPage = await get(query('incidents', { status, q: search, limit: PAGE, after: next }), signal)
        const seen = new Set(items.map(({ id }) => id))
        items = [...items, ...got.items.filter(({ id }) => !seen.has(id))]
        next = got.next
        counts ??= got.counts
        if (!got.items.length) break
      }
      if (counts) page.value = { items, next, counts }
      problem.value = null
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof Problem)) throw error
      problem.value = error
    }
    work.busy = false
  }
  const load = (): Promise<void> => {
    work.asked = performance.now()
    return fetchPages(null, Math.max(PAGE, page.peek()?.items.length ?? 0))
  }
  const soon = (): void => {
    clearTimeout(work.timer)
    work.timer = setTimeout(() => void load(), Math.max(10, work.asked + GAP_MS - performance.now()))
  }

  useEffect(() => {
    void fetchPages(null, PAGE)
    return () => {
      work.abort.abort()
      clearTimeout(work.timer)
    }
  }, [status, search])
  useSignalEffect(() => {
    if (changed.value && TOPICS.some((topic) => changed.value?.topics.has(topic))) soon()
  })

  return {
    items: page.value?.items ?? [],
    counts: page.value?.counts,
    problem: problem.value,
    more: () => {
      const known = page.peek()
      if (known?.next && !work.busy) void fetchPages(known, known.items.length + PAGE)
    },
    reload: () => void load(),
  }
}

/** Do something to an incident and put the answer on the screen. */
export async function act(id: string, action: string, body: object = {}): Promise<Incident> {
  const answer = await post<Incident>(`incidents/${id}/${action}`, { note: '', ...body })
  place<Incident>(`incidents/${id}`, (old) => ({ ...old, ...answer }))
  changed.value = { topics: new Set<Topic>(['incident']) }
  refresh(new Set<Topic>(['incident']))
  return answer
}

/** The time an incident's charts show: some calm before it, some quiet after it, on whole minutes. */
export function windowOf(incident: IncidentDetail): { from: number; to: number } {
  const ends = epoch(incident.resolved ?? incident.last_event)
  const minute = (seconds: number): number => Math.round(seconds / 60) * 60
  return { from: minute(epoch(incident.opened) - BEFORE_S), to: minute(Math.min(Date.now() / 1000, ends + AFTER_S)) }
}
