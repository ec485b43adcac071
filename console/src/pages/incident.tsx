/** One incident: cause, first failures, impact; then all that speaks for it. */
import { useState } from 'preact/hooks'
import { clockTime, entityName, epoch, offset, plural, readable, span, whole, without } from '../core/format'
import { useCommands } from '../core/keys'
import { windowOf } from '../core/incidents'
import { useResource } from '../core/resource'
import { go } from '../core/router'
import type { IncidentDetail, Items, LedgerItem, OpsEvent, TimelineItem } from '../core/types'
import { IncidentActions, Verdict } from '../parts/actions'
import { ApprovalCard } from '../parts/approval'
import { Age, At, Badge, Confidence, Empty, Entity, More, Section, StatusBadge, Trouble, Waiting } from '../parts/bits'
import { Beside, chosen, Opener } from '../parts/beside'
import { Candidates, TrueFault } from '../parts/cause'
import type { Window } from '../parts/chart'
import { Handling } from '../parts/handling'
import { Arrow, Back, healthOf, Shape } from '../parts/icons'
import { AffectedMap } from '../parts/map'
import { Page, Tabs } from '../parts/page'
import { Regroup } from '../parts/regroup'
import { RunLine } from '../parts/run'
import { SeriesChart } from '../parts/series'
import { Similar } from '../parts/similar'
import { Ledger, Timeline } from '../parts/timeline'
import { WhyEventPane } from '../parts/why'

const FIRST_FAILURES = 3
const PATTERNS = 5

export function IncidentPage({ id, tab }: { id: string; tab: string }) {
  const { data, problem, reload } = useResource<IncidentDetail>(`incidents/${id}`, 'incident', 'alert', 'run', 'approval', 'page')
  useCommands([{ key: 'Backspace', label: 'Back to the incidents', run: () => go(`/incidents?selected=${id}`) }], [id])
  const root = `/incidents/${id}`
  const tabs = [
    { href: root, text: 'Overview', here: tab === '' },
    { href: `${root}/timeline`, text: 'Timeline', here: tab === 'timeline' },
    { href: `${root}/alerts`, text: 'Alerts', count: data?.alerts, here: tab === 'alerts' },
    { href: `${root}/why`, text: 'Why?', here: tab === 'why' },
  ]
  return (
    <Page
      title={`${id}${data ? ` ${data.title}` : ''}`}
      heading={
        <h1 class="crumbs">
          <a href={`/incidents?selected=${id}`} aria-label="Incidents">
            <Back /> Incidents
          </a>
          <span>{id}</span>
        </h1>
      }
      tabs={<Tabs label="Parts of the incident" items={tabs} />}
    >
      {problem && !data && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what={id} />}
      {data && (
        <div class="incident">
          {data.merged_into && (
            <p class="stopped">
              <Shape health="info" /> This incident was merged into <a href={`/incidents/${data.merged_into}`}>{data.merged_into}</a>.
            </p>
          )}
          <IncidentHead incident={data} />
          {tab === '' && <Overview incident={data} />}
          {tab === 'timeline' && <TimelineTab incident={data} />}
          {tab === 'alerts' && (
            <>
              <Alerts events={data.events} zero={data.opened} />
              <Regroup incident={data} />
            </>
          )}
          {tab === 'why' && <WhyTab incident={data} />}
        </div>
      )}
    </Page>
  )
}

function IncidentHead({ incident }: { incident: IncidentDetail }) {
  const ended = incident.resolved
  return (
    <header class="incident-head">
      <div>
        <h2>
          <Shape health={incident.severity} size={13} /> {readable(incident.title)}{' '}
          {incident.entity && !incident.title.includes(entityName(incident.entity)) && (
            <span class="soft">
              on <Entity name={incident.entity} />
            </span>
          )}
        </h2>
        <p class="soft facts">
          <StatusBadge incident={{ ...incident, needs: '' }} />
          <span>
            opened <At time={incident.opened} />
          </span>
          <span>
            {ended ? (
              `lasted ${span(epoch(ended) - epoch(incident.opened))}`
            ) : (
              <>
                for <Age time={incident.opened} />
              </>
            )}
          </span>
          <span>
            {plural(incident.alerts, 'alert')} on {plural(incident.entities, 'entity', 'entities')}
          </span>
          <span>{incident.owner ? `owner ${incident.owner}` : 'no owner'}</span>
          <Paging incident={incident} />
        </p>
      </div>
      <div class="incident-actions">
        <IncidentActions incident={incident} full />
        <Handling incident={incident} />
      </div>
    </header>
  )
}

/** Whom it is waiting for, or that nobody answered. */
function Paging({ incident }: { incident: IncidentDetail }) {
  const found = incident.escalation
  if (!found || incident.status !== 'open') return null
  if (found.status === 'unanswered') return <span class="bad-text">nobody answered, {found.policy} was followed to its end</span>
  return (
    <span>
      paging by {found.policy}, step {found.step} of {found.steps}
      {found.due && (
        <>
          , next at <At time={found.due} />
        </>
      )}
    </span>
  )
}

function Overview({ incident }: { incident: IncidentDetail }) {
  const [zoom, setZoom] = useState<Window | null>(null)
  const waiting = incident.approvals.filter(({ status }) => status === 'waiting')
  const shown = zoom ?? windowOf(incident)
  return (
    <>
      {waiting.map((approval) => (
        <ApprovalCard key={approval.id} approval={approval} />
      ))}
      <Story incident={incident} />
      <div class="columns">
        <div class="column-main">
          {incident.charts.length > 0 && (
            <Section
              title="What moved"
              note="value, expected band, changes ◆"
              aside={
                zoom ? (
                  <button type="button" class="button small" onClick={() => setZoom(null)}>
                    Reset zoom
                  </button>
                ) : (
                  <span class="soft">drag to zoom</span>
                )
              }
            >
              {incident.charts.map((chart, index) => (
                <SeriesChart
                  key={chart.series}
                  series={chart.series}
                  title={chart.title}
                  window={shown}
                  height={index === incident.charts.length - 1 ? 166 : 134}
                  times={index === incident.charts.length - 1}
                  sync={incident.id}
                  onZoom={setZoom}
                />
              ))}
            </Section>
          )}
          <Section title="Affected services" note={plural(incident.map.nodes.length, 'entity', 'entities')}>
            {incident.map.nodes.length ? (
              <AffectedMap map={incident.map} label={`Services around ${incident.id}`} />
            ) : (
              <Empty title="No relation between entities is known; send traces to draw the map." />
            )}
          </Section>
          {incident.patterns.length > 0 && <Patterns incident={incident} />}
        </div>
        <div class="column-side">
          <Section title={incident.verdict === 'determined' ? 'Why this cause' : 'Candidates'} note={incident.verdict === 'undetermined' ? <Badge tone="warning">undetermined</Badge> : undefined}>
            {incident.reason && <p class="reason">{incident.reason}</p>}
            <TrueFault incident={incident} candidates={incident.candidates} />
            <Candidates incident={incident} />
            <Verdict incident={incident} candidates={incident.candidates.map(({ entity }) => entity)} />
          </Section>
          <Section title="Workflow runs">
            {incident.runs.map((run) => (
              <RunLine key={run.id} run={run} />
            ))}
            {!incident.runs.length && <p class="soft">None yet; press w or “Run workflow” to start one.</p>}
          </Section>
          <Tickets incident={incident} />
          <Similar incident={incident} />
        </div>
      </div>
    </>
  )
}

/** Cause, first failures, impact: the incident read from left to right. */
function Story({ incident }: { incident: IncidentDetail }) {
  const failures = incident.events.filter(({ kind }) => kind === 'alert' || kind === 'anomaly').toSorted((a, b) => epoch(a.time) - epoch(b.time))
  const first = failures.slice(0, FIRST_FAILURES)
  const worst = incident.map.nodes.filter(({ state }) => state === 'affected').toSorted((a, b) => a.x - b.x)
  const change = incident.changes.find(({ entity }) => entity === incident.cause?.entity) ?? incident.changes[0]
  return (
    <section class="story" aria-label="Cause, first failures, impact">
      <div>
        <h3>Cause</h3>
        {incident.cause ? (
          <>
            <p class="story-main cause-text">
              <Entity name={incident.cause.entity} /> <Confidence value={incident.confidence} />
            </p>
            <p class="clamp" title={incident.cause.summary}>
              {without(incident.cause.entity, incident.cause.summary || incident.cause.kind)}
            </p>
          </>
        ) : (
          <>
            <p class="story-main">Undetermined</p>
            <p>{incident.reason || 'The evidence does not single out one entity.'}</p>
          </>
        )}
        {change && (
          <p class="soft">
            <span class="change-mark" aria-hidden="true" /> {clockTime(change.time)} {change.title}
          </p>
        )}
      </div>
      <span class="story-arrow">
        <Arrow />
      </span>
      <div>
        <h3>First failures</h3>
        {first.map((event) => (
          <p key={event.id} class="story-event">
            <Shape health={healthOf(event.severity)} size={9} />
            <span class="number soft">{offset(event.time, first[0]?.time ?? event.time)}</span>
            <span class="clamp" title={event.title}>
              {event.entity && !event.title.includes(entityName(event.entity)) && <strong>{entityName(event.entity)} </strong>}
              {readable(event.title)}
            </span>
          </p>
        ))}
        {!first.length && <p class="soft">No alert has been kept.</p>}
      </div>
      <span class="story-arrow">
        <Arrow />
      </span>
      <div>
        <h3>Impact</h3>
        <p class="story-main">
          {plural(incident.entities, 'entity', 'entities')}, {plural(incident.alerts, 'alert')}
        </p>
        {worst.length > 0 && <p class="clamp">{worst.map(({ label }) => label).join(', ')}</p>}
        <p class="soft">
          last event <At time={incident.last_event} />
        </p>
      </div>
    </section>
  )
}

function Patterns({ incident }: { incident: IncidentDetail }) {
  const [all, showAll] = useState(false)
  return (
    <Section title="Log patterns that surged" note="during the incident against the usual">
      <div class="table-wrap">
        <table class="table">
          <thead>
            <tr>
              <th>
                <span class="hidden">Severity</span>
              </th>
              <th>Pattern</th>
              <th class="number">Lines</th>
              <th class="number">Usual</th>
            </tr>
          </thead>
          <tbody>
            {incident.patterns.slice(0, all ? undefined : PATTERNS).map((pattern) => (
              <tr key={pattern.pattern}>
                <td>
                  <Shape health={healthOf(pattern.severity)} size={10} />
                </td>
                <td class="wrap">
                  <span class="mono template" title={pattern.template}>
                    {pattern.template}
                  </span>
                </td>
                <td class="number strong">{whole(pattern.count)}</td>
                <td class="number soft">{pattern.usual < 10 ? Number(pattern.usual.toFixed(1)) : whole(pattern.usual)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <More count={incident.patterns.length - PATTERNS} what="patterns" all={all} toggle={() => showAll(!all)} />
    </Section>
  )
}

function Tickets({ incident }: { incident: IncidentDetail }) {
  if (!incident.tickets.length) return null
  return (
    <Section title="Tickets">
      <ul class="lines">
        {incident.tickets.map((ticket) => (
          <li key={ticket.id}>
            {/^https?:/.test(ticket.url) ? (
              <a href={ticket.url} target="_blank" rel="noreferrer">
                {ticket.system} #{ticket.id}
              </a>
            ) : (
              <strong>
                {ticket.system} #{ticket.id}
              </strong>
            )}
            <span class="push">
              {ticket.owner && <span class="soft">{ticket.owner} </span>}
              <Badge>{ticket.status}</Badge>
            </span>
          </li>
        ))}
      </ul>
    </Section>
  )
}

function TimelineTab({ incident }: { incident: IncidentDetail }) {
  const { data, problem, reload } = useResource<Items<TimelineItem>>(`incidents/${incident.id}/timeline`, 'incident', 'alert', 'run', 'approval')
  if (!data) return problem ? <Trouble problem={problem} retry={reload} /> : <Waiting what="the timeline" />
  return (
    <Section title="Timeline" note={`oldest first, times from the opening at ${clockTime(incident.opened)}`}>
      <Timeline items={data.items} zero={incident.opened} />
    </Section>
  )
}

function WhyTab({ incident }: { incident: IncidentDetail }) {
  const { data, problem, reload } = useResource<Items<LedgerItem>>(`incidents/${incident.id}/why`, 'incident', 'alert', 'run')
  if (!data) return problem ? <Trouble problem={problem} retry={reload} /> : <Waiting what="the ledger" />
  return (
    <Section title="Why?" note="every decision about this incident, and what it was decided on">
      <Ledger items={data.items} />
    </Section>
  )
}

function Alerts({ events, zero }: { events: readonly OpsEvent[]; zero: string }) {
  if (!events.length) return <Empty title="No alert has been kept." />
  return (
    <Beside keys={events.map(({ id }) => id)} label="Why" pane={<WhyEventPane key={chosen()} event={chosen()} />}>
      <Section title="Alerts and findings" note={plural(events.length, 'record')}>
        <div class="table-wrap">
          <table class="table">
            <thead>
              <tr>
                <th>
                  <span class="hidden">Severity</span>
                </th>
                <th>Time</th>
                <th class="number">After opening</th>
                <th>Kind</th>
                <th>Entity</th>
                <th>Title</th>
                <th>Source</th>
                <th>Status</th>
              </tr>
            </thead>
            <tbody>
              {events.map((event) => (
                <tr key={event.id} aria-selected={event.id === chosen()}>
                  <td>
                    <Shape health={healthOf(event.severity)} size={10} />
                  </td>
                  <td>
                    <At time={event.time} />
                  </td>
                  <td class="number soft">{offset(event.time, zero)}</td>
                  <td>
                    <Badge>{event.kind}</Badge>
                  </td>
                  <td>
                    <Entity name={event.entity} />
                  </td>
                  <td class="strong wrap">
                    <Opener id={event.id}>{readable(event.title)}</Opener>
                  </td>
                  <td class="soft">{event.source}</td>
                  <td class="soft">{event.status}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </Section>
    </Beside>
  )
}
