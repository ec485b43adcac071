/** On-call: who it is now and in the coming two weeks, what was arranged, who was paged. */
import { useState } from 'preact/hooks'
import { writeMatchers } from '../core/alerts'
import { mayAct, post, remove } from '../core/api'
import { clockTime, dayTime, plural, span } from '../core/format'
import { useCommands } from '../core/keys'
import { pathOf, type OnCall, type Page as Paged, type Person, type Policy, type Schedule, type Team } from '../core/oncall'
import { refresh, useResource } from '../core/resource'
import type { Items } from '../core/types'
import { At, Badge, Button, Empty, Section, Trouble, Waiting } from '../parts/bits'
import { PersonDialog, PolicyDialog, TeamDialog } from '../parts/arrange'
import { Figures, Page, Tabs } from '../parts/page'
import { faults, Rota } from '../parts/rota'
import { CalendarDialog, OverrideDialog, ScheduleDialog } from '../parts/schedule'
import { attempt } from '../parts/toast'

const PARTS = ['', 'schedules', 'policies', 'people', 'pages'] as const
const NAMES = { '': 'Now', schedules: 'Schedules', policies: 'Policies', people: 'Teams and people', pages: 'Pages' } as const
const READ_ONLY = 'Your token may only read; this needs the role operator'
const ADMIN_ONLY = 'This needs the role admin'

/** What a dialog is open about. */
type Asked = { what: 'override'; schedule?: string } | { what: 'schedule' | 'calendar' | 'policy' | 'team' | 'person'; name: string } | null

export function OnCallPage({ tab }: { tab: string }) {
  const { data, problem, reload } = useResource<OnCall>('oncall', 'oncall')
  const [asked, ask] = useState<Asked>(null)
  const may = mayAct()
  const here = PARTS.find((part) => part === tab) ?? ''
  useCommands(may ? [{ key: 'o', label: 'Stand in for somebody on call', run: () => ask({ what: 'override' }) }] : [], [may])
  const close = (): void => {
    ask(null)
    refresh()
  }
  return (
    <Page
      title="On-call"
      tabs={<Tabs label="Parts of on-call" items={PARTS.map((part) => ({ href: part ? `/on-call/${part}` : '/on-call', text: NAMES[part], here: part === here }))} />}
      controls={
        <Button kind="primary" hint="o" onClick={() => ask({ what: 'override' })} disabled={!may || !data?.schedules.length} title={may ? undefined : READ_ONLY}>
          Stand in
        </Button>
      }
    >
      {problem && !data && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what="who is on call" />}
      {data && here === '' && <Now whole={data} />}
      {data && here === 'schedules' && <Schedules whole={data} ask={ask} />}
      {data && here === 'policies' && <Policies whole={data} ask={ask} />}
      {data && here === 'people' && <People whole={data} ask={ask} />}
      {here === 'pages' && <Pages />}
      {data && asked?.what === 'override' && <OverrideDialog whole={data} schedule={asked.schedule ?? ''} onClose={close} />}
      {data && asked?.what === 'schedule' && <ScheduleDialog whole={data} known={data.schedules.find(({ name }) => name === asked.name)} onClose={close} />}
      {data && asked?.what === 'calendar' && <CalendarDialog name={asked.name} onClose={close} />}
      {data && asked?.what === 'policy' && <PolicyDialog whole={data} known={data.policies.find(({ name }) => name === asked.name)} onClose={close} />}
      {data && asked?.what === 'team' && <TeamDialog whole={data} known={data.teams.find(({ name }) => name === asked.name)} onClose={close} />}
      {data && asked?.what === 'person' && <PersonDialog known={data.people.find(({ name }) => name === asked.name)} onClose={close} />}
    </Page>
  )
}

function Now({ whole }: { whole: OnCall }) {
  if (!whole.schedules.length) {
    return (
      <Empty title="Nobody is on call yet.">
        <p>
          Say how people are reached under <a href="/on-call/people">Teams and people</a>, who takes turns under <a href="/on-call/schedules">Schedules</a>, and who is paged about which incidents under{' '}
          <a href="/on-call/policies">Policies</a>.
        </p>
      </Empty>
    )
  }
  const wrong = whole.schedules.flatMap((each) => faults(each, whole.people))
  const teamed = new Set(whole.teams.flatMap(({ schedules }) => schedules))
  const cards = [
    ...whole.teams.flatMap((team) => team.on_call.map((each) => ({ ...each, name: `${team.title || team.name} · ${each.schedule}` }))),
    ...whole.schedules.filter(({ name }) => !teamed.has(name)).map((each) => ({ people: each.on_call, until: each.until, next: each.next, name: each.title || each.name })),
  ]
  return (
    <>
      {wrong.length > 0 && (
        <div class="trouble" role="alert">
          <ul>
            {wrong.map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        </div>
      )}
      {!whole.policies.some(({ enabled }) => enabled) && (
        <p class="trouble" role="alert">
          No escalation policy is in force, so nobody is paged. <a href="/on-call/policies">Make one</a>.
        </p>
      )}
      <Figures
        items={cards.map(({ name, people, until, next }) => ({
          name,
          value: people.join(', ') || 'nobody',
          text: until ? `until ${dayTime(until)}, then ${next.join(', ') || 'nobody'}` : 'no hand-over in two weeks',
          tone: people.length ? '' : 'bad-text',
        }))}
      />
      <Section title="The coming two weeks" note={`from ${clockTime(whole.at, false)}, your time`}>
        <Rota whole={whole} />
      </Section>
      <Overrides whole={whole} />
    </>
  )
}

function Overrides({ whole }: { whole: OnCall }) {
  const all = whole.schedules.flatMap(({ overrides }) => overrides)
  const end = (schedule: string, id: number): void =>
    void attempt(() => remove(`${pathOf('schedules', schedule)}/overrides/${id}`).then(() => true), 'The override was taken back.').then((done) => done && refresh())
  if (!all.length) return null
  return (
    <Section title="Overrides" note={plural(all.length, 'override')}>
      <ul class="lines">
        {all.map((each) => (
          <li key={each.id}>
            <span>
              <strong>{each.person}</strong> for {each.schedule}, <At time={each.starts} seconds={false} /> to <At time={each.ends} seconds={false} />
              {each.reason && <span class="soft"> · {each.reason}</span>}
            </span>
            <span class="push">
              <Button onClick={() => end(each.schedule, each.id)} disabled={!mayAct()}>
                Take back
              </Button>
            </span>
          </li>
        ))}
      </ul>
    </Section>
  )
}

interface Part {
  whole: OnCall
  ask: (asked: Asked) => void
}

/** The button above a list that makes one more. */
function Add({ text, run }: { text: string; run: () => void }) {
  const may = me()
  return (
    <p>
      <Button onClick={run} disabled={!may} title={may ? undefined : ADMIN_ONLY}>
        {text}
      </Button>
    </p>
  )
}

function Edit({ name, change, path }: { name: string; change: () => void; path: string }) {
  const may = me()
  const away = (): void => void attempt(() => remove(path).then(() => true), `${name} was removed.`).then((done) => done && refresh())
  return (
    <span class="push verdicts">
      <Button onClick={change} disabled={!may} title={may ? undefined : ADMIN_ONLY}>
        Change
        <span class="hidden"> {name}</span>
      </Button>
      <Button kind="danger" onClick={away} disabled={!may} title={may ? undefined : ADMIN_ONLY}>
        Remove
        <span class="hidden"> {name}</span>
      </Button>
    </span>
  )
}

function Schedules({ whole, ask }: Part) {
  return (
    <>
      <Add text="New schedule" run={() => ask({ what: 'schedule', name: '' })} />
      {!whole.schedules.length && <Empty title="There is no schedule yet." />}
      {whole.schedules.map((each) => (
        <OneSchedule key={each.name} each={each} ask={ask} />
      ))}
    </>
  )
}

function OneSchedule({ each, ask }: { each: Schedule; ask: Part['ask'] }) {
  const [link, setLink] = useState('')
  const share = async (): Promise<void> => {
    const made = await attempt(() => post<{ path: string }>(`${pathOf('schedules', each.name)}/link`, {}), 'The address is shown this once; the one before has ended.')
    if (made) setLink(`${location.origin}${made.path}`)
    refresh()
  }
  const revoke = (): void =>
    void attempt(() => remove(`${pathOf('schedules', each.name)}/link`).then(() => true), 'The address has ended.').then(() => {
      setLink('')
      refresh()
    })
  return (
    <Section title={each.title || each.name} note={`${each.name}, by the clock of ${each.timezone}`} aside={<Edit name={each.name} change={() => ask({ what: 'schedule', name: each.name })} path={pathOf('schedules', each.name)} />}>
      <ul class="lines">
        {each.layers.map((layer, index) => (
          <li key={index} class="wrap">
            <span>
              <strong>{layer.people.join(', ')}</strong> from {layer.starts.replace('T', ' ')}
              {layer.ends && ` to ${layer.ends.replace('T', ' ')}`}
              <span class="soft">
                {' '}
                {layer.rrule || 'no hand-over'}
                {layer.restrictions.map(({ days, starts, ends }) => ` · ${days.join(' ') || 'every day'} ${starts}–${ends}`)}
              </span>
            </span>
          </li>
        ))}
        {each.calendar.from && (
          <li>
            <span>
              Read from a calendar{each.calendar.from === 'url' && ' by URL'} {each.calendar.read ? <>at {clockTime(each.calendar.read)}</> : <Badge tone="warning">not read yet</Badge>}
            </span>
          </li>
        )}
      </ul>
      {each.problems.map((problem) => (
        <p key={problem} class="bad-text">
          {problem}
        </p>
      ))}
      <div class="verdicts">
        <Button onClick={() => ask({ what: 'override', schedule: each.name })} disabled={!mayAct()}>
          Stand in
        </Button>
        <Button onClick={() => ask({ what: 'calendar', name: each.name })} disabled={!me()} title={me() ? undefined : ADMIN_ONLY}>
          Read a calendar
        </Button>
        <Button onClick={() => void share()} disabled={!mayAct()}>
          {each.calendar.linked ? 'New calendar address' : 'Calendar address'}
        </Button>
        {each.calendar.linked && (
          <Button kind="danger" onClick={revoke} disabled={!mayAct()}>
            End the address
          </Button>
        )}
      </div>
      {link && (
        <label class="soft">
          For your calendar; whoever has it can read the schedule
          <input readOnly value={link} onFocus={(event) => event.currentTarget.select()} />
        </label>
      )}
    </Section>
  )
}

function Policies({ whole, ask }: Part) {
  return (
    <>
      <Add text="New policy" run={() => ask({ what: 'policy', name: '' })} />
      {!whole.policies.length && <Empty title="There is no policy yet, so nobody is paged." />}
      {whole.policies.map((each: Policy) => (
        <Section
          key={each.name}
          title={each.title || each.name}
          note={each.enabled ? `for ${each.matchers.length ? writeMatchers(each.matchers).replaceAll('\n', ', ') : 'every incident'}` : 'switched off'}
          aside={<Edit name={each.name} change={() => ask({ what: 'policy', name: each.name })} path={pathOf('policies', each.name)} />}
        >
          <ol class="lines">
            {each.steps.map((step, index) => (
              <li key={index}>
                <span class="soft">{index || step.after_s ? `after ${span(step.after_s)}` : 'at once'}</span>
                <span>{step.targets.map(({ kind, name }) => `${kind} ${name}`).join(', ')}</span>
              </li>
            ))}
            <li>
              <span class="soft">after {span(each.wait_s)}</span>
              <span>{each.repeat ? `all again, ${plural(each.repeat, 'time')}` : 'the administrators hear that nobody answered'}</span>
            </li>
          </ol>
        </Section>
      ))}
    </>
  )
}

function People({ whole, ask }: Part) {
  const test = (each: Person): void => void attempt(() => post('oncall/pages', { person: each.name }), `A test page is on its way to ${each.name}.`)
  return (
    <>
      <Section title="Teams">
        <Add text="New team" run={() => ask({ what: 'team', name: '' })} />
        {!whole.teams.length && <p class="soft">There is no team yet.</p>}
        <ul class="lines">
          {whole.teams.map((each: Team) => (
            <li key={each.name} class="wrap">
              <span>
                <strong>{each.title || each.name}</strong> <span class="soft">{each.members.join(', ') || 'nobody'}</span>
                {each.matchers.length > 0 && <code> {writeMatchers(each.matchers).replaceAll('\n', ', ')}</code>}
              </span>
              <Edit name={each.name} change={() => ask({ what: 'team', name: each.name })} path={pathOf('teams', each.name)} />
            </li>
          ))}
        </ul>
      </Section>
      <Section title="People" note="holders of tokens">
        <ul class="lines">
          {whole.people.map((each) => (
            <li key={each.name} class="wrap">
              <span>
                <strong>{each.name}</strong> {!each.live && <Badge tone="warning">token revoked</Badge>}{' '}
                <span class="soft">{each.contacts.map(({ name, uses, after_s }) => `${name} by ${uses}${after_s ? ` after ${span(after_s)}` : ''}`).join(', ') || 'cannot be reached'}</span>
              </span>
              <span class="push verdicts">
                <Button onClick={() => test(each)} disabled={!mayAct() || !each.contacts.length}>
                  Test page
                  <span class="hidden"> to {each.name}</span>
                </Button>
                <Button onClick={() => ask({ what: 'person', name: each.name })} disabled={!me()} title={me() ? undefined : ADMIN_ONLY}>
                  Change
                  <span class="hidden"> how {each.name} is reached</span>
                </Button>
              </span>
            </li>
          ))}
        </ul>
      </Section>
    </>
  )
}

const TONE = { due: 'info', sending: 'info', delivered: 'good', failed: 'critical', unknown: 'warning', cancelled: 'plain' } as const

function Pages() {
  const { data, problem, reload } = useResource<Items<Paged>>('oncall/pages', 'page')
  if (!data) return problem ? <Trouble problem={problem} retry={reload} /> : <Waiting what="the pages" />
  if (!data.items.length) return <Empty title="Nobody was paged yet." />
  const again = (id: number): void => void attempt(() => post(`oncall/pages/${id}/again`, {}), 'It is sent again.').then(() => refresh())
  return (
    <div class="table-wrap" tabIndex={0} role="group" aria-label="Pages">
      <table class="table" aria-label="Pages">
        <thead>
          <tr>
            <th>Time</th>
            <th>Who</th>
            <th>Incident</th>
            <th>How</th>
            <th>Outcome</th>
            <th>Why</th>
          </tr>
        </thead>
        <tbody>
          {data.items.map((each) => (
            <tr key={each.id}>
              <td>
                <At time={each.sent ?? each.due} />
              </td>
              <td class="strong">{each.person}</td>
              <td>{each.incident ? <a href={`/incidents/${each.incident}`}>{each.incident}</a> : 'test'}</td>
              <td>{each.contact || '–'}</td>
              <td class="wrap">
                <Badge tone={TONE[each.status]}>{each.status}</Badge> <span class="soft">{each.error}</span>{' '}
                {(each.status === 'failed' || each.status === 'unknown') && each.uses && (
                  <Button onClick={() => again(each.id)} disabled={!mayAct()}>
                    Send again
                  </Button>
                )}
              </td>
              <td class="wrap soft">{each.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** Whether the caller may arrange things. */
const me = (): boolean => mayAct('admin')
