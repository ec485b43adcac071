/** Sources: what flows in, how fast, how late, and what could not be understood. */
import { useState } from 'preact/hooks'
import { mayAct, post, query } from '../core/api'
import { delay, plural, whole } from '../core/format'
import { useCommands } from '../core/keys'
import { refresh, useResource } from '../core/resource'
import { go, params, withParams } from '../core/router'
import type { Items, Quarantined, Source } from '../core/types'
import { Age, At, Badge, Button, Empty, Section, Trouble, Waiting } from '../parts/bits'
import { ConnectDialog } from '../parts/connect'
import { Shape, type Health } from '../parts/icons'
import { Page } from '../parts/page'
import { Connect } from '../parts/snippets'
import { attempt, say } from '../parts/toast'

const STATE: Record<Source['state'], Health> = { flowing: 'good', quiet: 'info', silent: 'warning' }
const HEADS: Record<string, string> = { metric: 'Metrics', log: 'Logs', span: 'Spans', event: 'Events', relation: 'Relations', raw: 'Raw' }
const SIGNALS = Object.keys(HEADS)

export function SourcesPage() {
  const { data, problem, reload } = useResource<Items<Source>>('sources', 'source')
  const connecting = params.value.get('connect')
  const connect = (kind: string | null): void => go(withParams({ connect: kind }), connecting !== null)
  useCommands([{ key: 'c', label: 'Connect a source', run: () => connect('any') }], [])
  return (
    <Page
      title="Sources"
      controls={
        <Button kind="primary" hint="c" onClick={() => connect('any')}>
          Connect a source
        </Button>
      }
    >
      {problem && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what="the sources" />}
      {data && !data.items.length && (
        <Empty title="Nothing flows in yet.">
          <p>Send one alert from a shell to see it arrive, or point a tool you already have at this address.</p>
          <Connect />
        </Empty>
      )}
      {data && data.items.length > 0 && <Table sources={data.items} />}
      {data && data.items.length > 0 && <Quarantine />}
      {connecting && <ConnectDialog kind={connecting} choose={connect} onClose={() => connect(null)} />}
    </Page>
  )
}

/** How a source is doing, as shape and word. */
export const SourceState = ({ state }: { state: Source['state'] }) => (
  <span class={`state ${STATE[state]}`}>
    <Shape health={STATE[state]} size={9} label={state} /> {state}
  </span>
)

function rate(perSecond: number): string {
  if (perSecond === 0) return '0/s'
  if (perSecond >= 10) return `${whole(perSecond)}/s`
  return perSecond >= 0.1 ? `${perSecond.toFixed(1)}/s` : `${(perSecond * 60).toFixed(1)}/min`
}

function Table({ sources }: { sources: readonly Source[] }) {
  const shown = SIGNALS.filter((signal) => sources.some((source) => source.signals[signal]))
  return (
    <Section title="What flows in" note={plural(sources.length, 'source')}>
      <div class="table-wrap">
        <table class="table sources">
          <thead>
            <tr>
              <th>Source</th>
              <th>State</th>
              <th>Drifting</th>
              <th class="number">Freedom</th>
              {shown.map((signal) => (
                <th class="number">{HEADS[signal]}</th>
              ))}
              <th class="number">Delay p50</th>
              <th class="number">Delay p99</th>
              <th class="number">Quarantined</th>
              <th class="number">Last seen</th>
            </tr>
          </thead>
          <tbody>
            {sources.map((source) => (
              <tr key={source.name}>
                <td>
                  <a href={`/sources/${encodeURIComponent(source.name)}`}>
                    <strong>{source.name}</strong>
                  </a>{' '}
                  <span class="soft">{source.kind}</span>
                </td>
                <td>
                  <SourceState state={source.state} />
                </td>
                <td>
                  {source.drifting ? (
                    <a class="warning-text" href={`/sources/${encodeURIComponent(source.name)}/watch`}>
                      {plural(source.drifting, 'drift')}
                    </a>
                  ) : (
                    <span class="soft">no</span>
                  )}
                </td>
                <td class="number">{source.score === null ? <span class="soft">–</span> : Math.round(source.score)}</td>
                {shown.map((signal) => {
                  const flow = source.signals[signal]
                  return (
                    <td class="number">
                      {flow ? (
                        <>
                          {rate(flow.rate_per_s)}
                          <span class="soft sub">{whole(flow.rows)} in all</span>
                        </>
                      ) : (
                        <span class="soft">–</span>
                      )}
                    </td>
                  )
                })}
                <td class="number">{delay(source.delay_p50_s)}</td>
                <td class="number">{delay(source.delay_p99_s)}</td>
                <td class="number">
                  {source.quarantined ? (
                    <a class="warning-text" href={withParams({ source: source.name })}>
                      {whole(source.quarantined)}
                    </a>
                  ) : (
                    <span class="soft">0</span>
                  )}
                </td>
                <td class="number soft">{source.last_seen ? <Age time={source.last_seen} /> : '–'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  )
}

function Quarantine() {
  const source = params.value.get('source') ?? ''
  const path = query('quarantine', { source, limit: 100 })
  const { data, problem, reload } = useResource<Items<Quarantined> & { total: number }>(path, 'source')
  const [busy, setBusy] = useState(false)
  const replay = async (body: { ids: string[] } | { source: string }): Promise<void> => {
    setBusy(true)
    const answer = await attempt(() => post<{ replayed: number; still_bad: number }>('quarantine/replay', body))
    if (answer) say(`Replayed ${plural(answer.replayed, 'record')}; ${answer.still_bad || 'none'} could still not be understood.`)
    setBusy(false)
    refresh()
  }
  const waiting = data?.items.filter(({ state }) => state === 'waiting') ?? []
  const filter = source && (
    <span class="filter">
      only {source}
      <button type="button" class="link" onClick={() => go(withParams({ source: null }))}>
        show all
      </button>
    </span>
  )
  return (
    <Section
      title="Quarantine"
      note={filter || (data?.total ? `${plural(data.total, 'record')} kept with the reason they were not understood` : undefined)}
      aside={
        waiting.length > 0 && (
          <Button
            disabled={busy || !mayAct()}
            title="Read them again, e.g. after a mapping was corrected"
            onClick={() => void replay(source ? { source } : { ids: waiting.map(({ id }) => id) })}
          >
            Replay {source ? `all of ${source}` : `these ${waiting.length}`}
          </Button>
        )
      }
    >
      {problem && <Trouble problem={problem} retry={reload} />}
      {data && !data.items.length && <p class="soft">Empty: every record was understood.</p>}
      {data && data.items.length > 0 && (
        <ul class="quarantine">
          {data.items.map((record) => (
            <li key={record.id}>
              <details>
                <summary>
                  <span class="soft number">
                    <At time={record.time} />
                  </span>
                  <strong>{record.source}</strong>
                  <Badge>{record.format || record.signal}</Badge>
                  <span class="cut grow" title={record.reason}>
                    {record.reason}
                  </span>
                  {record.state === 'replayed' && <Badge tone="good">replayed</Badge>}
                </summary>
                <div class="quarantine-body">
                  {record.where && (
                    <p class="soft">
                      at <code>{record.where}</code>
                    </p>
                  )}
                  <pre tabIndex={0} aria-label="The record as it came">
                    {record.payload}
                  </pre>
                  {record.state === 'waiting' && (
                    <Button disabled={busy || !mayAct()} onClick={() => void replay({ ids: [record.id] })}>
                      Replay
                    </Button>
                  )}
                </div>
              </details>
            </li>
          ))}
        </ul>
      )}
    </Section>
  )
}
