/** Data of the server as signals: fetched once, shared by all who show it, fetched again when the live view says it changed. */
import { signal, type Signal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { get, Problem } from './api'
import type { Topic } from './types'

const KEPT = 30
const GAP_MS = 400
const FIRST_MS = 10

class Resource<T> {
  readonly data: Signal<T | undefined> = signal(undefined)
  readonly problem: Signal<Problem | null> = signal(null)
  users = 0
  private asking = false
  private again = false
  private asked = 0
  private timer = 0

  constructor(
    readonly path: string,
    public topics: readonly Topic[],
  ) {}

  /** Fetch now; a second call while one is under way runs once more after it. */
  async load(): Promise<void> {
    if (this.asking) {
      this.again = true
      return
    }
    this.asking = true
    this.asked = performance.now()
    try {
      this.data.value = await get<T>(this.path)
      this.problem.value = null
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      this.problem.value = error
    } finally {
      this.asking = false
      if (this.again) {
        this.again = false
        this.soon()
      }
    }
  }

  /** Fetch soon: at once after quiet, at most about once a second in a storm of changes. */
  soon(): void {
    if (this.timer) return
    const wait = Math.max(FIRST_MS, this.asked + GAP_MS - performance.now())
    this.timer = setTimeout(() => {
      this.timer = 0
      if (this.users) void this.load()
    }, wait)
  }
}

const resources = new Map<string, Resource<unknown>>()

function resource<T>(path: string, topics: readonly Topic[]): Resource<T> {
  const known = resources.get(path) as Resource<T> | undefined
  if (known) {
    resources.delete(path)
    resources.set(path, known)
    return known
  }
  for (const [old, { users }] of resources) {
    if (resources.size < KEPT) break
    if (!users) resources.delete(old)
  }
  const made = new Resource<T>(path, topics)
  resources.set(path, made)
  return made
}

export interface Loaded<T> {
  data: T | undefined
  problem: Problem | null
  reload: () => void
}

/** The answer of GET `path`, refreshed on changes of `topics`; a null path asks nothing. */
export function useResource<T>(path: string | null, ...topics: Topic[]): Loaded<T> {
  const found = useMemo(() => (path === null ? null : resource<T>(path, topics)), [path])
  useEffect(() => {
    if (!found) return
    found.users++
    void found.load()
    return () => void found.users--
  }, [found])
  return { data: found?.data.value, problem: found?.problem.value ?? null, reload: () => void found?.load() }
}

/** The answers of several paths, in their order; which ones may change from one drawing to the next. */
export function useResources<T>(paths: readonly string[], ...topics: Topic[]): Loaded<T>[] {
  const found = useMemo(() => paths.map((path) => resource<T>(path, topics)), [paths.join('\n')])
  useEffect(() => {
    for (const each of found) {
      each.users++
      void each.load()
    }
    return () => {
      for (const each of found) each.users--
    }
  }, [found])
  return found.map((each) => ({ data: each.data.value, problem: each.problem.value, reload: () => void each.load() }))
}

/** Put a fresh answer in place without asking, e.g. the one an action returned. */
export function place<T>(path: string, change: (old: T) => T): void {
  const known = resources.get(path) as Resource<T> | undefined
  if (known?.data.value !== undefined) known.data.value = change(known.data.value)
}

/** Fetch again whatever is on the screen and depends on one of these topics; all of it without topics. */
export function refresh(topics?: ReadonlySet<Topic>): void {
  for (const each of resources.values()) {
    if (each.users && (!topics || each.topics.some((topic) => topics.has(topic)))) each.soon()
  }
}

/** Forget everything, at sign-out. */
export function forget(): void {
  resources.clear()
}
