/** Mutes: what is hidden now, by whom and until when. */
import { useState } from 'preact/hooks'
import type { Mute, MutePage } from '../core/alerts'
import { mayAct, remove } from '../core/api'
import { plural, readable, span } from '../core/format'
import { useCommands } from '../core/keys'
import { refresh, useResource } from '../core/resource'
import { params, withParams } from '../core/router'
import { Age, At, Badge, Button, Empty, Entity, Section, Trouble, Waiting } from '../parts/bits'
import { Beside, chosen, Opener } from '../parts/beside'
import { Shape } from '../parts/icons'
import { Inhibitions } from '../parts/inhibitions'
import { MuteDialog } from '../parts/mute'
import { Page, Tabs } from '../parts/page'
import { attempt } from '../parts/toast'

const INHIBITIONS = 'inhibitions'
const STATES = ['active', 'pending', 'expired'] as const
const TONE = { active: 'info', pending: 'plain', expired: 'plain' } as const

export function MutesPage() {
  const here = params.value.get('state') ?? ''
  const { data, problem, reload } = useResource<MutePage>('mutes', 'mute', 'incident')
  const [making, make] = useState(false)
  const may = mayAct()
  useCommands(may ? [{ key: 'n', label: 'New mute', run: () => make(true) }] : [], [may])
  const tabs = ['', ...STATES, INHIBITIONS].map((each) => ({
    href: withParams({ state: each || null, selected: null }),
    text: each ? each.charAt(0).toUpperCase() + each.slice(1) : 'All',
    count: each ? data?.counts[each as Mute['state']] : undefined,
    here: each === here,
  }))
  if (here === INHIBITIONS)
    return (
      <Page title="Mutes" tabs={<Tabs label="State" items={tabs} />}>
        <Inhibitions />
      </Page>
    )
  const known = data?.items ?? []
  const items = known.filter(({ state }) => !here || state === here)
  const one = known.find(({ id }) => id === chosen())
  return (
    <Page
      title="Mutes"
      tabs={<Tabs label="State" items={tabs} />}
      controls={
        <Button kind="primary" hint="n" onClick={() => make(true)} disabled={!may} title={may ? undefined : 'Your token may only read; this needs the role operator'}>
          New mute
        </Button>
      }
    >
      <Beside keys={items.map(({ id }) => id)} label="Mute" pane={one ? <Pane key={one.id} one={one} /> : <Empty title="This mute is not among the latest." />}>
        {problem && !data && <Trouble problem={problem} retry={reload} />}
        {!data && !problem && <Waiting what="the mutes" />}
        {data && <p class="soft">{data.hidden ? `${plural(data.hidden, 'alert')} hidden now` : 'No alert is hidden now'}</p>}
        {data && !items.length && <Empty title={here ? `No mute is ${here}.` : 'Nothing was ever muted.'} />}
        {items.length > 0 && <Found items={items} />}
      </Beside>
      {making && <MuteDialog matchers={[]} onClose={() => make(false)} />}
    </Page>
  )
}

function Found({ items }: { items: readonly Mute[] }) {
  return (
    <div class="table-wrap">
      <table class="table" aria-label="Mutes">
        <thead>
          <tr>
            <th>What</th>
            <th>State</th>
            <th>Until</th>
            <th>Reason</th>
            <th>Owner</th>
            <th class="number">Hides</th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={one.id} class={one.state === 'expired' ? 'faint' : ''} aria-selected={one.id === chosen()}>
              <td class="wrap">
                <Opener id={one.id}>
                  <code>{one.text}</code>
                </Opener>
              </td>
              <td>
                <Badge tone={TONE[one.state]}>{one.state}</Badge> {one.kind !== 'silence' && <span class="sub">{one.kind === 'change' ? 'by a ticket' : 'recurs'}</span>}
              </td>
              <td>
                <At time={one.until ?? one.ends} seconds={false} />
              </td>
              <td class="wrap">{one.reason}</td>
              <td>{one.owner}</td>
              <td class="number">{one.hides}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** A mute that is over, from now on. */
function again(one: Mute): Mute {
  const now = Date.now()
  return { ...one, starts: new Date(now).toISOString(), ends: new Date(now + Date.parse(one.ends) - Date.parse(one.starts)).toISOString() }
}

function Pane({ one }: { one: Mute }) {
  const [changing, change] = useState(false)
  const may = mayAct()
  const expire = async (): Promise<void> => {
    if ((await attempt(() => remove(`mutes/${one.id}`).then(() => true), 'The mute is over; what still fires is seen again.')) !== undefined) refresh()
  }
  return (
    <>
      <h2 class="pane-title">{one.reason}</h2>
      <p class="soft">
        {one.kind} of {one.owner}, {one.state}
      </p>
      <div class="verdicts">
        <Button onClick={() => change(true)} disabled={!may}>
          {one.state === 'expired' ? 'Mute again' : 'Change'}
        </Button>
        {one.state !== 'expired' && (
          <Button kind="danger" onClick={() => void expire()} disabled={!may}>
            End it now
          </Button>
        )}
      </div>
      <dl class="facts">
        {one.matchers.map((matcher) => (
          <div key={`${matcher.name}${matcher.op}${matcher.value}`}>
            <dt>{matcher.name}</dt>
            <dd class="wrap">
              <code>
                {matcher.op} {matcher.value}
              </code>
            </dd>
          </div>
        ))}
        <div>
          <dt>From</dt>
          <dd>
            <At time={one.starts} seconds={false} />
          </dd>
        </div>
        <div>
          <dt>To</dt>
          <dd>
            <At time={one.ends} seconds={false} />
          </dd>
        </div>
        {one.rrule && (
          <div>
            <dt>Recurs</dt>
            <dd>
              {one.rrule}, {span(one.duration_s)} each, by the clock of {one.timezone}
            </dd>
          </div>
        )}
      </dl>
      <Section title="Hidden now" note={plural(one.hides, 'alert')}>
        {!one.hides && <p class="soft">It hides nothing now.</p>}
        <ul class="hidden-alerts">
          {one.examples.map((each) => (
            <li key={each.fingerprint}>
              <Shape health={each.severity} size={9} label={each.severity} />{' '}
              <a href={`/alerts?state=suppressed&selected=${encodeURIComponent(each.fingerprint)}`}>{readable(each.title)}</a> on <Entity name={each.entity} />,{' '}
              <Age time={each.since} />
            </li>
          ))}
        </ul>
      </Section>
      {changing && <MuteDialog matchers={one.matchers} known={one.state === 'expired' ? again(one) : one} onClose={() => change(false)} />}
    </>
  )
}
