/** How keen the detection is, what moved it, and a candidate that runs in its shadow. */
import { useRef } from 'preact/hooks'
import type { Comparison, Move, Sensitivity } from '../core/anomalies'
import { mayAct, post, put, query, remove } from '../core/api'
import { clockTime, percent, plural, whole } from '../core/format'
import { useResource } from '../core/resource'
import type { Items } from '../core/types'
import { Button, Pills, Section, Trouble, Waiting } from './bits'
import { Moves } from './moves'
import { attempt } from './toast'

const SETTLED_MS = 1500
const WORDS = ['calm', 'normal', 'keen']
const SCOPES = ['entity', 'metric', 'source', 'series']

export function Learned() {
  const { data, problem, reload } = useResource<Items<Move>>('detection/learned', 'detection', 'incident')
  return (
    <>
      <Words />
      <Shadow />
      <Section title="What was learned" note="from verdicts, words, merges, splits and what became of incidents; each can be taken back">
        {problem && !data && <Trouble problem={problem} retry={reload} />}
        {!data && !problem && <Waiting what="what was learned" />}
        {data && <Moves items={data.items} reload={reload} />}
      </Section>
    </>
  )
}

function Words() {
  const { data, problem, reload } = useResource<Items<Sensitivity> & { experts: Record<string, number> }>('detection/sensitivity', 'detection')
  const form = useRef<HTMLFormElement>(null)
  const soon = (): void => void setTimeout(reload, SETTLED_MS)
  const set = async (scope: string, name: string, word: string): Promise<void> => {
    if (!(await attempt(() => put('detection/sensitivity', { scope, name, word }), `${name || 'Everything'} is ${word} from now on.`))) return
    form.current?.reset()
    soon()
  }
  const take = async ({ scope, name }: Sensitivity): Promise<void> => {
    await attempt(() => remove(query('detection/sensitivity', { scope, name })), 'The next wider scope decides.')
    soon()
  }
  const experts = Object.entries(data?.experts ?? {}).map(([name, count]) => `${whole(count)} ${name}`)
  return (
    <Section title="Sensitivity" note={experts.length ? `series by the model they believe now: ${experts.join(', ')}` : ''}>
      {problem && !data && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what="the sensitivity" />}
      {data && (
        <div class="table-wrap">
          <table class="table" aria-label="Sensitivity">
            <thead>
              <tr>
                <th>Scope</th>
                <th>Word</th>
                <th class="number">Target a series-week</th>
                <th class="number">Measured</th>
                <th class="number">Alarms</th>
                <th class="number">Series</th>
                <th>
                  <span class="hidden">Take back</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {data.items.map((one) => (
                <tr key={`${one.scope} ${one.name}`}>
                  <td>
                    {one.name ? <span class="soft">{one.scope} </span> : null}
                    {one.name || one.scope}
                  </td>
                  <td>
                    <Pills label={`Sensitivity of ${one.name || one.scope}`} items={WORDS} here={one.word} disabled={!mayAct()} choose={(word) => void set(one.scope, one.name, word)} />
                  </td>
                  <td class="number">{one.target}</td>
                  <td class="number">{one.measured === null ? '–' : one.measured.toFixed(2)}</td>
                  <td class="number">
                    {whole(one.alarms)} {one.useful > 0 && <span class="soft">{whole(one.useful)} useful</span>}
                  </td>
                  <td class="number">{whole(one.series)}</td>
                  <td>{one.name && mayAct() && <Button onClick={() => void take(one)}>Take back</Button>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {mayAct() && (
        <form
          ref={form}
          class="filters"
          onSubmit={(event) => {
            event.preventDefault()
            const given = new FormData(event.currentTarget)
            void set(String(given.get('scope')), String(given.get('name')), String(given.get('word')))
          }}
        >
          <select name="scope" aria-label="Scope">
            {SCOPES.map((scope) => (
              <option>{scope}</option>
            ))}
          </select>
          <input name="name" required placeholder="its name" aria-label="Name" maxLength={300} />
          <select name="word" aria-label="Word">
            {WORDS.map((word) => (
              <option>{word}</option>
            ))}
          </select>
          <Button type="submit">Set</Button>
        </form>
      )}
    </Section>
  )
}

const rated = ({ rate, low, high }: Comparison['current']): string =>
  rate === null ? '–' : `${rate.toFixed(2)}${low === null || high === null ? '' : ` (${low.toFixed(2)} to ${high.toFixed(2)})`}`

const TRIED = [
  ['sure', 'Two views agree', 4.5, 3, 9, 0.1],
  ['alone', 'One point alone', 6, 4, 14, 0.1],
  ['fatigue', 'Bar raised by an alarm', 0.3, 0, 2, 0.05],
  ['rest', 'Points until that is forgotten', 300, 10, 5000, 10],
] as const

/** Settings to try beside the current ones; what is left empty stays as it is. */
function Candidate({ done }: { done: () => void }) {
  const begin = async (form: HTMLFormElement): Promise<void> => {
    const given = [...new FormData(form)].filter(([, text]) => text !== '').map(([name, text]) => [name, Number(text)] as const)
    if (await attempt(() => post('detection/shadow', Object.fromEntries(given)), 'The candidate runs in the shadow.')) done()
  }
  return (
    <form
      class="form"
      aria-label="A candidate"
      onSubmit={(event) => {
        event.preventDefault()
        void begin(event.currentTarget)
      }}
    >
      <p class="soft">There is no candidate. Thresholds are -log10 of a chance: higher alarms less.</p>
      <div class="form-row">
        {TRIED.map(([name, label, now, least, most, step]) => (
          <label key={name}>
            {label}
            <input type="number" name={name} min={least} max={most} step={step} placeholder={String(now)} disabled={!mayAct()} />
          </label>
        ))}
      </div>
      <Button type="submit" disabled={!mayAct()}>
        Try it in the shadow
      </Button>
    </form>
  )
}

function Shadow() {
  const { data, problem, reload } = useResource<{ comparison: Comparison | null }>('detection/shadow', 'detection')
  const soon = (): void => void setTimeout(reload, SETTLED_MS)
  const found = data?.comparison
  return (
    <Section title="In the shadow" note="a candidate judges a sample of the series beside the current settings and alarms nobody">
      {problem && !data && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what="the shadow" />}
      {data && !found && <Candidate done={soon} />}
      {found && (
        <>
          <p>
            {Object.entries(found.candidate)
              .map(([name, value]) => `${name} ${value}`)
              .join(', ')}
            {found.since && <span class="soft"> since {clockTime(found.since, false)}</span>}, on {plural(found.series, 'series', 'series')}
          </p>
          <div class="table-wrap">
            <table class="table" aria-label="Candidate beside current">
              <thead>
                <tr>
                  <th>
                    <span class="hidden">Side</span>
                  </th>
                  <th class="number">Alarms</th>
                  <th class="number">A series-week</th>
                  <th class="number">Only its own</th>
                </tr>
              </thead>
              <tbody>
                <tr>
                  <td>current</td>
                  <td class="number">{whole(found.current.alarms)}</td>
                  <td class="number">{rated(found.current)}</td>
                  <td class="number">{whole(found.only_current)}</td>
                </tr>
                <tr>
                  <td>candidate</td>
                  <td class="number">{whole(found.candidate_side.alarms)}</td>
                  <td class="number">{rated(found.candidate_side)}</td>
                  <td class="number">{whole(found.only_candidate)}</td>
                </tr>
              </tbody>
            </table>
          </div>
          <p class="soft">
            {plural(found.both, 'alarm')} of both: the candidate was earlier in {whole(found.earlier)}, later in {whole(found.later)}. Two alike would differ as much with a
            chance of {percent(found.chance)}.
          </p>
          {mayAct() && (
            <div class="verdicts">
              <Button kind="primary" onClick={() => void attempt(() => post('detection/shadow/promote', {}), 'The candidate is current.').then(soon)}>
                Promote
              </Button>
              <Button onClick={() => void attempt(() => remove('detection/shadow'), 'Discarded.').then(soon)}>Discard</Button>
            </div>
          )}
        </>
      )}
    </Section>
  )
}
