/** Query: SQL over everything that is kept. */
import { useRef, useState } from 'preact/hooks'
import { post, Problem } from '../core/api'
import { delay, plain, plural } from '../core/format'
import { useCommands } from '../core/keys'
import { go, params } from '../core/router'
import type { QueryResult } from '../core/types'
import { Button, Empty, Trouble } from '../parts/bits'
import { Page } from '../parts/page'

const LIMIT = 1000
const EXAMPLES = [
  ['Alerts by hour', "SELECT toStartOfHour(time) AS hour, severity, count() AS alerts\nFROM event FINAL\nWHERE kind = 'alert'\nGROUP BY hour, severity\nORDER BY hour DESC\nLIMIT 100"],
  ['Log patterns', 'SELECT entity, pattern, count() AS lines, any(body) AS example\nFROM log\nGROUP BY entity, pattern\nORDER BY lines DESC\nLIMIT 50'],
  ['Slowest services', 'SELECT entity, count() AS spans, quantile(0.99)(duration) / 1e6 AS p99_ms\nFROM span\nGROUP BY entity\nORDER BY p99_ms DESC\nLIMIT 50'],
  ['Series', 'SELECT name, unit, count() AS series\nFROM series FINAL\nGROUP BY name, unit\nORDER BY series DESC\nLIMIT 100'],
] as const

type State = { result: QueryResult } | { problem: Problem } | null

export function QueryPage() {
  const [sql, setSql] = useState(params.value.get('sql') ?? EXAMPLES[0][1])
  const [state, setState] = useState<State>(null)
  const [busy, setBusy] = useState(false)
  const field = useRef<HTMLTextAreaElement>(null)
  const run = async (text: string): Promise<void> => {
    setBusy(true)
    go(`/query?${new URLSearchParams({ sql: text })}`, true)
    try {
      setState({ result: await post<QueryResult>('query', { sql: text, limit: LIMIT }) })
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      setState({ problem: error })
    }
    setBusy(false)
  }
  useCommands([{ key: '/', label: 'Write a query', run: () => field.current?.focus() }], [])
  return (
    <Page
      title="Query"
      fixed
      tabs={
        <div class="pills" role="group" aria-label="Examples">
          <span class="soft">Examples</span>
          {EXAMPLES.map(([name, text]) => (
            <button
              type="button"
              onClick={() => {
                setSql(text)
                void run(text)
              }}
            >
              {name}
            </button>
          ))}
        </div>
      }
    >
      <form
        class="query"
        onSubmit={(event) => {
          event.preventDefault()
          void run(sql)
        }}
      >
        <textarea
          ref={field}
          aria-label="SQL"
          spellcheck={false}
          rows={7}
          value={sql}
          onInput={(event) => setSql(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void run(sql)
            if (event.key === 'Escape') event.currentTarget.blur()
          }}
        />
        <div class="query-bar">
          <span class="soft">Read only. Tables: metric, series, log, span, event, relation, quarantine.</span>
          <span class="push soft number">
            {state && 'result' in state &&
              `${plural(state.result.rows.length, 'row')}${state.result.truncated ? `, cut at ${LIMIT}` : ''} in ${delay(state.result.elapsed_s)}`}
          </span>
          <Button type="submit" kind="primary" hint="ctrl ↵" disabled={busy}>
            Run
          </Button>
        </div>
      </form>
      <div class="query-result">
        {!state && (
          <Empty title="Ask anything of the data that is kept.">
            <p>Write SQL above (the dialect is ClickHouse’s) or take one of the examples. The same works in a shell: ninefold query "select …"</p>
          </Empty>
        )}
        {state && 'problem' in state && <Trouble problem={state.problem} />}
        {state && 'result' in state && <Result result={state.result} />}
      </div>
    </Page>
  )
}

const isNumber = (type: string): boolean => /^(Nullable\()?(U?Int|Float|Decimal|u?int|float|double)/.test(type)

function Result({ result }: { result: QueryResult }) {
  if (!result.rows.length) return <Empty title="No row answers this query." />
  return (
    <div class="table-wrap tall" tabIndex={0} role="region" aria-label="Result">
      <table class="table dense">
        <thead>
          <tr>
            {result.columns.map(({ name, type }) => (
              <th class={isNumber(type) ? 'number' : ''} title={type}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {result.rows.map((row) => (
            <tr>
              {row.map((value, column) => (
                <td class={isNumber(result.columns[column]?.type ?? '') ? 'number' : ''} title={plain(value)}>
                  {typeof value === 'number' ? Number(value.toPrecision(8)) : plain(value)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
