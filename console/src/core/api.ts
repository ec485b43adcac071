/** Talks to /api/v1 and turns its problems (RFC 9457) into sentences. */
import { signal } from '@preact/signals'
import type { Me } from './types'

/** An answer that is not the one hoped for; `message` is a sentence for people. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

/** The caller; null while nobody is signed in, undefined before the first answer. */
export const me = signal<Me | null | undefined>(undefined)

/** Whether the caller may act, which takes the role operator or, for some approvals, admin. */
export const mayAct = (role: 'operator' | 'admin' = 'operator'): boolean => me.value?.role === 'admin' || me.value?.role === role

async function ask(method: string, path: string, body?: unknown, abort?: AbortSignal): Promise<Response> {
  let answer: Response
  try {
    answer = await fetch(`/api/v1/${path}`, {
      method,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
      signal: abort ?? null,
    })
  } catch (error) {
    if (abort?.aborted) throw error
    throw new Problem(0, 'The server does not answer; it may be restarting.')
  }
  if (answer.ok) return answer
  if (answer.status === 401 && path !== 'session') me.value = null
  throw await problemOf(answer)
}

async function request(method: string, path: string, body?: unknown, abort?: AbortSignal): Promise<unknown> {
  const answer = await ask(method, path, body, abort)
  return answer.status === 204 ? undefined : answer.json()
}

async function problemOf(answer: Response): Promise<Problem> {
  try {
    const { title, detail } = (await answer.json()) as { title?: string; detail?: string }
    return new Problem(answer.status, sentence(detail || title || answer.statusText))
  } catch {
    return new Problem(answer.status, `The server answered ${answer.status} without a reason.`)
  }
}

function sentence(text: string): string {
  const said = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(said) ? said : `${said}.`
}

/** GET a path below /api/v1. */
export const get = <T>(path: string, abort?: AbortSignal): Promise<T> => request('GET', path, undefined, abort) as Promise<T>

/** GET a path below /api/v1 that answers with text. */
export const getText = (path: string): Promise<string> => ask('GET', path).then((answer) => answer.text())

/** POST a JSON body to a path below /api/v1. */
export const post = <T>(path: string, body: unknown): Promise<T> => request('POST', path, body) as Promise<T>

/** PUT a JSON body to a path below /api/v1. */
export const put = <T>(path: string, body: unknown): Promise<T> => request('PUT', path, body) as Promise<T>

/** DELETE a path below /api/v1. */
export const remove = (path: string): Promise<void> => request('DELETE', path) as Promise<void>

/** A path with its query; empty and missing values are left out. */
export function query(path: string, values: Record<string, string | number | null | undefined>): string {
  const search = new URLSearchParams()
  for (const [key, value] of Object.entries(values)) if (value !== null && value !== undefined && value !== '') search.set(key, String(value))
  const text = search.toString()
  return text ? `${path}?${text}` : path
}

/** Ask who is calling. */
export async function whoAmI(): Promise<void> {
  me.value = await get<Me>('me').catch((error: unknown) => {
    if (error instanceof Problem && error.status === 401) return null
    throw error
  })
}

/** Begin a session with a token; the server answers with a cookie. */
export async function signIn(token: string): Promise<void> {
  me.value = await post<Me>('session', { token })
}

/** End the session of this browser. */
export async function signOut(): Promise<void> {
  await remove('session')
  me.value = null
}
