/** Incidents: the list, sorted by "needs you", and the chosen one beside it. */
import { useEffect, useRef } from 'preact/hooks'
import { delay, entityName, percent, plural, readable, span, whole } from '../core/format'
import { useIncidents, windowOf } from '../core/incidents'
import { useCommands } from '../core/keys'
import { later } from '../core/later'
import { useResource } from '../core/resource'
import { go, params, withParams } from '../core/router'
import type { Incident, IncidentDetail, Summary } from '../core/types'
import { IncidentActions } from '../parts/actions'
import { ApprovalCard } from '../parts/approval'
import { Age, Confidence, Empty, Entity, Key, StatusBadge, Trouble, Waiting } from '../parts/bits'
import { CauseLine, TrueFault } from '../parts/cause'
import { Arrow, Lens, Shape } from '../parts/icons'
import { AffectedMap } from '../parts/map'
import { Figures, Page, Tabs } from '../parts/page'
import { curlAlert, Snippet } from '../parts/snippets'
import { VirtualList } from '../parts/virtual'

const SeriesChart = later('incidents', '', () => import('../parts/series').then((file) => file.SeriesChart))

const STATUSES = ['open', 'acknowledged', 'mitigated', 'resolved', 'all'] as const
const ROW = 36
const TYPING_MS = 150

export function IncidentsPage() {
  const status = params.value.get('status') ?? 'open'
  const search = params.value.get('q') ?? ''
  const chosen = params.value.get('selected') ?? ''
  const { items, counts, problem, more, reload } = useIncidents(status, search)
  const field = useRef<HTMLInputElement>(null)
  const typing = useRef(0)

  // An acknowledged incident leaves the list of open ones but stays in the pane; j and k go on from where it stood.
  const index = items.findIndex(({ id }) => id === chosen)
  const stood = useRef(0)
  if (index >= 0) stood.current = index
  const select = (next: number): void => {
    const incident = items[Math.max(0, Math.min(items.length - 1, next))]
    if (incident) go(withParams({ selected: incident.id }), true)
  }
  const open = (at: number): void => {
    const incident = items[at]
    if (incident) go(`/incidents/${incident.id}`)
  }
  useEffect(() => {
    if (!chosen && items.length) select(0)
  }, [items, chosen])
  useEffect(() => {
    if (field.current && field.current !== document.activeElement) field.current.value = search
  }, [search])

  useCommands(
    [
      { key: 'j', label: 'Next incident', run: () => select(index < 0 ? stood.current : index + 1), quiet: true },
      { key: 'k', label: 'Previous incident', run: () => select((index < 0 ? stood.current : index) - 1), quiet: true },
      { key: 'ArrowDown', label: 'Next incident', run: () => select(index < 0 ? stood.current : index + 1), quiet: true },
      { key: 'ArrowUp', label: 'Previous incident', run: () => select((index < 0 ? stood.current : index) - 1), quiet: true },
      { key: 'Enter', label: `Open ${chosen || 'the incident'}`, run: () => open(index) },
      { key: '/', label: 'Search incidents', run: () => field.current?.select() },
    ],
    [index, items, status, search],
  )

  const tabs = STATUSES.map((each) => ({
    href: withParams({ status: each === 'open' ? null : each, selected: null }),
    text: each.charAt(0).toUpperCase() + each.slice(1),
    count: counts?.[each],
    here: each === status,
  }))

  return (
    <Page
      title="Incidents"
      fixed
      tabs={<Tabs label="Status" items={tabs} />}
      controls={
        <search class="search">
          <Lens />
          <input
            ref={field}
            type="search"
            placeholder="Search incidents"
            aria-label="Search incidents"
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
      <Strip />
      <div class={counts && !items.length && !chosen ? 'split alone' : 'split'}>
        <div class="split-list">
          {problem && !counts ? (
            <Trouble problem={problem} retry={reload} />
          ) : counts && !items.length ? (
            <NoIncidents status={status} search={search} all={counts.all} />
          ) : counts ? (
            <VirtualList
              items={items}
              height={ROW}
              label={`Incidents, ${status}`}
              columns={8}
              total={counts[status as keyof typeof counts]}
              selected={index}
              id={({ id }) => id}
              onSelect={(at) => (innerWidth < 1000 ? open(at) : select(at))}
              onOpen={open}
              onEnd={more}
              head={<Head />}
              row={(incident) => <Row incident={incident} />}
            />
          ) : (
            <Waiting what="the incidents" />
          )}
        </div>
        <aside class="split-pane" aria-label="The chosen incident">
          {chosen && <Pane id={chosen} known={items[index]} />}
        </aside>
      </div>
    </Page>
  )
}

const middle = (seconds: number | null | undefined): string => (seconds == null ? '–' : span(seconds))

function Strip() {
  const { data } = useResource<Summary>('summary', 'incident', 'alert', 'approval', 'source')
  const none = 'not measured yet'
  const figures = [
    { name: 'Open', value: data ? whole(data.open) : '–', text: data ? `${whole(data.acknowledged)} more acknowledged` : ' ' },
    {
      name: 'Noise cut',
      value: percent(data?.noise_cut ?? null),
      text: data ? (data.noise_cut === null ? none : `${plural(data.alerts, 'alert')} in ${plural(data.incidents, 'incident')}`) : ' ',
    },
    { name: 'Time to acknowledge', value: middle(data?.time_to_acknowledge_s), text: data?.time_to_acknowledge_s === null ? none : 'mean of the acknowledged' },
    { name: 'Time to resolve', value: middle(data?.time_to_resolve_s), text: data?.time_to_resolve_s === null ? none : 'mean of the resolved' },
    data?.approvals_waiting
      ? { name: 'Waiting for you', value: String(data.approvals_waiting), text: data.approvals_waiting === 1 ? 'approval to answer' : 'approvals to answer', href: '/workflows', tone: 'accent' }
      : { name: 'Delay', value: delay(data?.delay_s ?? null), text: data?.sources ? `event to store, ${plural(data.sources, 'source')}` : none },
  ]
  return <Figures items={figures} />
}

function NoIncidents({ status, search, all }: { status: string; search: string; all: number }) {
  if (search) return <Empty title={`Nothing matches “${search}”.`} />
  if (all) return <Empty title={status === 'open' ? 'All quiet: no incident is open.' : `No incident is ${status}.`} />
  return (
    <Empty title="No incident yet.">
      <p>
        Send an alert to see one, or <a href="/sources">connect your own tools</a>.
      </p>
      <Snippet snippet={curlAlert()} />
    </Empty>
  )
}

function Head() {
  return (
    <>
      <span role="columnheader" class="c-shape">
        <span class="hidden">Severity</span>
      </span>
      <span role="columnheader">ID</span>
      <span role="columnheader">Incident</span>
      <span role="columnheader" class="c-entity">
        Service
      </span>
      <span role="columnheader">Status</span>
      <span role="columnheader" class="number">
        Alerts
      </span>
      <span role="columnheader" class="number c-confidence">
        Confidence
      </span>
      <span role="columnheader" class="number">
        Age
      </span>
    </>
  )
}

/** The title without its entity, which has a column of its own; where that column is hidden, the title keeps it. */
function Title({ incident }: { incident: Incident }) {
  const title = readable(incident.title)
  const about = ` of ${entityName(incident.entity)}`
  const at = incident.entity ? title.indexOf(about) : -1
  if (at < 0) return <>{title}</>
  return (
    <>
      {title.slice(0, at)}
      <span class="title-entity">{about}</span>
      {title.slice(at + about.length)}
    </>
  )
}

function Row({ incident }: { incident: Incident }) {
  return (
    <>
      <span role="gridcell" class="c-shape">
        <Shape health={incident.status === 'resolved' ? 'good' : incident.severity} label={incident.status === 'resolved' ? 'resolved' : incident.severity} />
      </span>
      <span role="gridcell" class="soft id">
        {incident.id}
      </span>
      <span role="gridcell" class="strong cut" title={incident.title}>
        <Title incident={incident} />
      </span>
      <span role="gridcell" class="cut c-entity">
        <Entity name={incident.entity} />
      </span>
      <span role="gridcell">
        <StatusBadge incident={incident} />
      </span>
      <span role="gridcell" class="number">
        {whole(incident.alerts)}
      </span>
      <span role="gridcell" class="number c-confidence">
        <Confidence value={incident.confidence} />
      </span>
      <span role="gridcell" class="number soft">
        <Age time={incident.opened} />
      </span>
    </>
  )
}

function Pane({ id, known }: { id: string; known: Incident | undefined }) {
  const { data, problem, reload } = useResource<IncidentDetail>(`incidents/${id}`, 'incident', 'alert', 'run', 'approval')
  const incident: Incident | undefined = data ?? known
  if (!incident) return problem ? <Trouble problem={problem} retry={reload} /> : <Waiting what={id} />
  const waiting = data?.approvals.filter(({ status }) => status === 'waiting') ?? []
  const chart = data?.charts[0]
  return (
    <div class="pane" key={id}>
      <header class="pane-head">
        <Shape health={incident.severity} />
        <span class="soft id">{incident.id}</span>
        <StatusBadge incident={{ ...incident, needs: '' }} />
        <span class="soft cut">
          <Age time={incident.opened} />
          {incident.owner && ` · ${incident.owner}`}
        </span>
        <IncidentActions incident={incident} />
      </header>
      <h2 class="pane-title">
        <a href={`/incidents/${id}`}>{readable(incident.title)}</a>{' '}
        {incident.entity && !incident.title.includes(entityName(incident.entity)) && (
          <span class="soft">
            on <Entity name={incident.entity} />
          </span>
        )}
      </h2>
      {data ? (
        <>
          {waiting.map((approval) => (
            <ApprovalCard key={approval.id} approval={approval} />
          ))}
          {chart && <SeriesChart series={chart.series} title={chart.title} window={windowOf(data)} height={184} />}
          <div class="pane-cause">
            <h3>Probable cause</h3>
            <CauseLine incident={data} />
            <TrueFault incident={data} candidates={data.candidates} />
          </div>
          {data.map.nodes.length > 0 && <AffectedMap map={data.map} label={`Services around ${id}`} />}
          <p class="pane-more">
            <a href={`/incidents/${id}`}>
              {plural(data.alerts, 'alert')} on {plural(data.entities, 'entity', 'entities')}, evidence, timeline and why <Arrow />
            </a>
            <Key>enter</Key>
          </p>
        </>
      ) : problem ? (
        <Trouble problem={problem} retry={reload} />
      ) : (
        <Waiting what={id} />
      )}
    </div>
  )
}
