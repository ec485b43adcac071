/** One WebSocket a tab: says what changed, and how far away the server is. */
import { signal } from '@preact/signals'
import { me, whoAmI } from './api'
import { refresh } from './resource'
import { TOPICS, type Topic } from './types'

const PING_MS = 5_000
const PATIENCE_MS = 10_000
const TOKEN_ENDED = 4401
const BACK_OFF_MS = [300, 600, 1_200, 2_500, 5_000, 10_000]

/** Milliseconds to the server and back; null while there is no connection. */
export const distance = signal<number | null>(null)

/** The latest changes' topics; everything that pages by itself listens here. */
export const changed = signal<{ topics: ReadonlySet<Topic> } | null>(null)

let socket: WebSocket | null = null
let failures = 0
let retry = 0

function announce(topics: readonly Topic[] = TOPICS): void {
  const said = new Set(topics)
  changed.value = { topics: said }
  refresh(said)
}

interface Message {
  changes?: { topic: Topic }[]
  pong?: string
}

function connect(): void {
  clearTimeout(retry)
  const url = new URL('/api/v1/live', location.href)
  url.protocol = url.protocol.replace('http', 'ws')
  const opened = new WebSocket(url)
  socket = opened
  let pinged = 0
  let deadline = 0

  const ping = (): void => {
    pinged = performance.now()
    opened.send('ping')
    clearTimeout(deadline)
    deadline = setTimeout(() => opened.close(), PATIENCE_MS)
  }
  const pinging = setInterval(() => opened.readyState === WebSocket.OPEN && ping(), PING_MS)

  opened.onopen = () => {
    announce() // what changed between a page's first look and now was told to nobody
    failures = 0
    ping()
  }
  opened.onmessage = ({ data }: MessageEvent<string>) => {
    const message = JSON.parse(data) as Message
    if (message.pong !== undefined) {
      clearTimeout(deadline)
      distance.value = Math.max(1, Math.round(performance.now() - pinged))
    }
    if (message.changes?.length) {
      announce(message.changes.map((change) => change.topic))
    }
  }
  opened.onclose = ({ code }) => {
    clearInterval(pinging)
    clearTimeout(deadline)
    if (socket !== opened) return
    distance.value = null
    socket = null
    if (code === TOKEN_ENDED) void whoAmI().catch(() => undefined)
    const wait = BACK_OFF_MS[Math.min(failures++, BACK_OFF_MS.length - 1)] ?? 0
    retry = setTimeout(comeBack, wait * (0.75 + Math.random() / 2))
  }
}

async function comeBack(): Promise<void> {
  // A refused handshake looks like a lost line to a browser; only asking tells whether the session has ended.
  if (failures > 1) await whoAmI().catch(() => undefined)
  if (me.value) connect()
}

/** Connect, and stay connected while someone is signed in. */
export function startLive(): void {
  me.subscribe((caller) => {
    if (caller && !socket) connect()
    if (caller === null && socket) {
      const old = socket
      socket = null
      distance.value = null
      old.close()
    }
  })
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && me.value && !socket) connect()
  })
}
