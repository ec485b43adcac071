/** Alerts: their state, why each of them is where it is, and the rules that say when one counts. */
import { useEffect, useRef, useState } from 'preact/hooks'
import { STATES, type Alert, type AlertDetail, type AlertPage, type Matcher } from '../core/alerts'
import { mayAct, query } from '../core/api'
import { readable, whole } from '../core/format'
import { useCommands } from '../core/keys'
import { useResource } from '../core/resource'
import { go, params, withParams } from '../core/router'
import { Age, At, Badge, Button, Empty, Entity, Key, Section, Trouble, Waiting } from '../parts/bits'
import { Beside, chosen, Opener } from '../parts/beside'
import { Lens, Shape } from '../parts/icons'
import { AlertRules } from '../parts/alert-rules'
import { MuteDialog } from '../parts/mute'
import { Page, Tabs } from '../parts/page'
import { WhyEventPane } from '../parts/why'

const RULES = 'rules'
const SHOWN = 200
const TYPING_MS = 150

export function AlertsPage() {
  const state = params.value.get('state') ?? 'firing'
  const ruling = state === RULES
  const search = params.value.get('q') ?? ''
  const { data, problem, reload } = useResource<AlertPage>(query('alerts', { state: ruling ? 'firing' : state, q: search, limit: SHOWN }), 'incident', 'mute')
  const box = useRef<HTMLInputElement>(null)
  const typing = useRef(0)
  useEffect(() => {
    if (box.current && box.current !== document.activeElement) box.current.value = search
  }, [search])
  useCommands([{ key: '/', label: 'Search alerts', run: () => box.current?.select() }], [])
  const tabs = [...STATES, 'all', RULES].map((each) => ({
    href: withParams({ state: each === 'firing' ? null : each, selected: null }),
    text: each.charAt(0).toUpperCase() + each.slice(1),
    count: data?.counts[each as keyof AlertPage['counts']],
    here: each === state,
  }))
  const items = data?.items ?? []
  if (ruling)
    return (
      <Page title="Alerts" tabs={<Tabs label="State" items={tabs} />}>
        <AlertRules />
      </Page>
    )
  return (
    <Page
      title="Alerts"
      tabs={<Tabs label="State" items={tabs} />}
      controls={
        <search class="search">
          <Lens />
          <input
            ref={box}
            type="search"
            placeholder="Search alerts"
            aria-label="Search alerts"
            defaultValue={search}
            onInput={({ currentTarget: { value } }) => {
              clearTimeout(typing.current)
              typing.current = setTimeout(() => go(withParams({ q: value, selected: null }), true), TYPING_MS)
            }}
            onKeyDown={(event) => {
              if (event.key === 'Escape' || event.key === 'Enter') event.currentTarget.blur()
            }}
          />
          <Key>/</Key>
        </search>
      }
    >
      <Beside keys={items.map(({ fingerprint }) => fingerprint)} label="Why" pane={<Pane key={chosen()} fingerprint={chosen()} />}>
        {problem && !data && <Trouble problem={problem} retry={reload} />}
        {!data && !problem && <Waiting what="the alerts" />}
        {data && !items.length && <Empty title={search ? `Nothing matches “${search}”.` : state === 'all' ? 'No alert yet.' : `No alert is ${state}.`} />}
        {items.length > 0 && <Found items={items} />}
        {data?.next && <p class="soft">The {whole(SHOWN)} that changed last; search to find others.</p>}
      </Beside>
    </Page>
  )
}

const TONE: Record<string, string> = { acknowledged: 'info', pending: 'plain', suppressed: 'info', resolved: 'good', expired: 'plain' }

function Found({ items }: { items: readonly Alert[] }) {
  return (
    <div class="table-wrap">
      <table class="table" aria-label="Alerts">
        <thead>
          <tr>
            <th>Alert</th>
            <th>State</th>
            <th>Where</th>
            <th>Incident</th>
            <th class="number">Told</th>
            <th class="number">Changed</th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={one.fingerprint} class={one.state === 'resolved' || one.state === 'expired' ? 'faint' : ''} aria-selected={one.fingerprint === chosen()}>
              <td class="wrap">
                <Opener id={one.fingerprint}>
                  <Shape health={one.severity} size={9} label={one.severity} /> {readable(one.title)}
                </Opener>
              </td>
              <td>
                <Badge tone={TONE[one.state] ?? one.severity}>{one.state}</Badge>
              </td>
              <td>
                <Entity name={one.entity} />
              </td>
              <td>{one.incident && <a href={`/incidents/${one.incident}`}>{one.incident}</a>}</td>
              <td class="number">{whole(one.count)}</td>
              <td class="number">
                <Age time={one.last} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** What a mute of alerts like this one would ask for. */
function like(one: Alert): Matcher[] {
  const named: Matcher[] = [{ name: 'alertname', op: '=', value: one.rule }]
  return one.entity ? [...named, { name: 'entity', op: '=', value: one.entity }] : named
}

function Pane({ fingerprint }: { fingerprint: string }) {
  const { data, problem, reload } = useResource<AlertDetail>(fingerprint ? `alerts/${encodeURIComponent(fingerprint)}` : null, 'incident', 'mute')
  const [muting, mute] = useState(false)
  if (!data) return problem ? <Trouble problem={problem} retry={reload} /> : <Waiting what="the alert" />
  const hidden = new Set(['ninefold.normaliser', 'ninefold.fingerprint'])
  const attributes = Object.entries(data.attributes).filter(([name]) => !hidden.has(name))
  return (
    <>
      <h2 class="pane-title">{readable(data.title)}</h2>
      <p class="soft">
        {data.state} since <At time={data.since} />
        {data.until && (
          <>
            , counts from <At time={data.until} />
          </>
        )}
        , told {whole(data.count)} times by {data.source || 'its source'}
        {data.heard && (
          <>
            , last <Age time={data.heard} /> ago
          </>
        )}
      </p>
      <div class="verdicts">
        <Button onClick={() => mute(true)} disabled={!mayAct()} title={mayAct() ? undefined : 'Your token may only read; this needs the role operator'}>
          Mute alerts like this
        </Button>
        {data.incident && <a href={`/incidents/${data.incident}`}>{data.incident}</a>}
        {data.inhibitions.map(({ rule, by, title }) => (
          <a key={rule} href={withParams({ selected: by, state: 'all' })}>
            hidden while {title} fires
          </a>
        ))}
        {data.mutes.map((id) => (
          <a key={id} href={`/mutes?selected=${id}`}>
            the mute that hides it
          </a>
        ))}
      </div>
      <Section title="Why its last event is where it is">
        <WhyEventPane event={data.event} />
      </Section>
      <Section title="Decisions">
        {!data.why.length && <p class="soft">Its decisions are older than what is kept.</p>}
        <ol class="decisions">
          {data.why.map((one) => (
            <li key={`${one.time} ${one.text}`}>
              <At time={one.time} /> <Badge>{one.step}</Badge> {one.text}
            </li>
          ))}
        </ol>
      </Section>
      <Section title="Attributes">
        <dl class="facts">
          {attributes.map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd class="wrap">{value}</dd>
            </div>
          ))}
        </dl>
      </Section>
      {muting && <MuteDialog matchers={like(data)} onClose={() => mute(false)} />}
    </>
  )
}
