/** Explore: any series with the band it was expected in; several below one another, or in one chart. */
import { useEffect, useRef, useState } from 'preact/hooks'
import { query } from '../core/api'
import { clockTime, entityName, epoch, unitName } from '../core/format'
import { useCommands } from '../core/keys'
import { useResource } from '../core/resource'
import { go, params, withParams } from '../core/router'
import type { Items, Series } from '../core/types'
import { Behaviour } from '../parts/behaviour'
import { Badge, Button, Empty, Key, Pills, Trouble, Waiting } from '../parts/bits'
import type { Window } from '../parts/chart'
import { Lens } from '../parts/icons'
import { Page } from '../parts/page'
import { SeriesChart } from '../parts/series'
import { Together } from '../parts/together'

const RANGES: Record<string, number> = { '15m': 900, '1h': 3600, '6h': 21_600, '24h': 86_400, all: 0 }
const STEPS: Record<string, number> = { 'as measured': 0, '1m': 60, '5m': 300, '1h': 3600 }
const DEFAULT = '1h'
const FRESH_S = 15
const TYPING_MS = 150
const MANY = 60

interface View {
  range: string
  window: Partial<Window>
  zoomed: boolean
}

function useView(): View {
  const [now, setNow] = useState(Date.now() / 1000)
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && setNow(Date.now() / 1000), FRESH_S * 1000)
    return () => clearInterval(timer)
  }, [])
  const [from, to] = [params.value.get('from'), params.value.get('to')]
  const range = params.value.get('range') ?? DEFAULT
  if (from && to) return { range: '', window: { from: epoch(from), to: epoch(to) }, zoomed: true }
  const length = RANGES[range]
  return { range, zoomed: false, window: length ? { from: Math.floor(now) - length, to: Math.floor(now) } : {} }
}

export function ExplorePage() {
  const chosen = params.value.getAll('series')
  const view = useView()
  const [typed, type] = useState(params.value.get('q') ?? '')
  const [asked, ask] = useState(typed)
  const together = params.value.get('chart') === 'one'
  const stepName = params.value.get('step') ?? 'as measured'
  const step = STEPS[stepName] ?? 0
  const [foretells, shifts, behaves] = ['ahead', 'shifts', 'behaviour'].map((name) => params.value.get(name) === '1')
  const [entities, know] = useState<Record<string, string>>({})
  const length = (view.window.to ?? 0) - (view.window.from ?? 0)
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => {
    const timer = setTimeout(() => ask(typed), TYPING_MS)
    return () => clearTimeout(timer)
  }, [typed])
  const found = useResource<Items<Series>>(query('series', { q: asked, limit: MANY }), 'source')
  const arrange = (one: boolean): void => go(withParams({ chart: one ? 'one' : null }))
  const flip = (name: string, is: boolean | undefined) => (): void => go(withParams({ [name]: is ? null : '1' }))
  useCommands(
    [
      { key: '/', label: 'Search a series', run: () => field.current?.select() },
      { key: 'o', label: together ? 'Draw each series in a chart of its own' : 'Draw all series in one chart', run: () => arrange(!together) },
      { key: 'f', label: foretells ? 'Hide the forecast' : 'Show the forecast', run: flip('ahead', foretells) },
      { key: 'c', label: shifts ? 'Hide change points' : 'Show change points', run: flip('shifts', shifts) },
      { key: 'b', label: behaves ? 'Hide behaviour' : 'Show how the entities behave', run: flip('behaviour', behaves) },
    ],
    [together, foretells, shifts, behaves],
  )

  const show = (series: string[]): void => {
    const next = new URLSearchParams(params.value)
    next.delete('series')
    for (const each of series) next.append('series', each)
    go(`/explore?${next}`)
  }
  const toggle = (id: string): void => show(chosen.includes(id) ? chosen.filter((each) => each !== id) : [...chosen, id])
  const zoom = ({ from, to }: Window): void =>
    go(withParams({ range: null, from: new Date(from * 1000).toISOString(), to: new Date(to * 1000).toISOString() }))

  return (
    <Page
      title="Explore"
      fixed
      controls={
        <>
          {view.zoomed && (
            <span class="zoomed">
              <span class="number">
                {clockTime(view.window.from ?? 0, false)} to {clockTime(view.window.to ?? 0, false)}
              </span>
              <Button onClick={() => go(withParams({ from: null, to: null, range: null }))}>Reset zoom</Button>
            </span>
          )}
          <Pills
            label="Time range"
            items={Object.keys(RANGES)}
            here={view.range}
            choose={(range) => go(withParams({ range: range === DEFAULT ? null : range, from: null, to: null }))}
          />
        </>
      }
    >
      <div class="explore">
        <section class="finder" aria-label="Series">
          <search class="search wide">
            <Lens />
            <input
              ref={field}
              type="search"
              placeholder="Search a series"
              aria-label="Search a series"
              value={typed}
              onInput={(event) => type(event.currentTarget.value)}
              onKeyDown={(event) => {
                const first = found.data?.items[0]
                if (event.key === 'Enter' && first) toggle(first.series)
                if (event.key === 'Escape') event.currentTarget.blur()
              }}
            />
            <Key>/</Key>
          </search>
          {found.problem && <Trouble problem={found.problem} retry={found.reload} />}
          {found.data && <SeriesList items={found.data.items} chosen={chosen} toggle={toggle} searched={asked} />}
          {!found.data && !found.problem && <Waiting what="the series" />}
        </section>
        <div class="explore-charts">
          {chosen.length > 0 && (
            <div class="explore-bar">
              <Pills label="Charts" items={['stacked', 'one chart']} here={together ? 'one chart' : 'stacked'} choose={(name) => arrange(name === 'one chart')} />
              <Key>o</Key>
              {!together && (
                <>
                  <Button pressed={Boolean(foretells)} hint="f" onClick={flip('ahead', foretells)}>
                    Forecast
                  </Button>
                  <Button pressed={Boolean(shifts)} hint="c" onClick={flip('shifts', shifts)}>
                    Change points
                  </Button>
                  <Button pressed={Boolean(behaves)} hint="b" onClick={flip('behaviour', behaves)}>
                    Behaviour
                  </Button>
                </>
              )}
              <span class="push soft">A point each</span>
              <Pills
                label="Time between points"
                items={Object.keys(STEPS)}
                here={stepName}
                choose={(name) => go(withParams({ step: STEPS[name] ? name : null }))}
              />
            </div>
          )}
          {together && chosen.length > 0 && (
            <Together
              series={chosen}
              window={view.window}
              step={step}
              onZoom={zoom}
              onRemove={toggle}
              every={view.range === 'all' ? FRESH_S : 0}
            />
          )}
          {!together && chosen.map((series) => (
            <SeriesChart
              key={series}
              series={series}
              window={view.window}
              height={chosen.length > 2 ? 150 : 210}
              sync="explore"
              onZoom={zoom}
              onRemove={() => toggle(series)}
              details
              step={step}
              every={view.range === 'all' ? FRESH_S : 0}
              ahead={foretells ? Math.min(604_800, Math.max(3600, Math.round(length / 2))) : 0}
              shifts={Boolean(shifts)}
              onEntity={behaves ? (entity) => know((old) => ({ ...old, [series]: entity })) : undefined}
            />
          ))}
          {behaves && !together && [...new Set(chosen.map((series) => entities[series]))].map((entity) => entity && <Behaviour key={entity} entity={entity} />)}
          {!chosen.length && Boolean(found.data?.items.length) && (
            <Empty title="Choose a series on the left.">
              <p>It is drawn with the band Ninefold expects it in; points outside the band are red, changes are marked ◆. Drag over a chart to zoom.</p>
            </Empty>
          )}
        </div>
      </div>
    </Page>
  )
}

function SeriesList(props: { items: readonly Series[]; chosen: readonly string[]; toggle: (id: string) => void; searched: string }) {
  const { items, chosen, toggle, searched } = props
  if (!items.length && searched) return <Empty title={`No series matches “${searched}”.`} />
  if (!items.length) {
    return (
      <Empty title="No metric has arrived yet.">
        <p>
          Point Prometheus or an OpenTelemetry SDK here: the lines are on <a href="/sources">Sources</a>.
        </p>
      </Empty>
    )
  }
  return (
    <ul class="series-list">
      {items.map((each) => {
        const here = chosen.includes(each.series)
        return (
          <li key={each.series}>
            <button type="button" class={here ? 'here' : ''} aria-pressed={here} onClick={() => toggle(each.series)} title={labels(each)}>
              <span class="cut strong">{each.name}</span>
              <span class="cut soft">{each.entity ? entityName(each.entity) : labels(each)}</span>
              {unitName(each.unit) && <Badge>{unitName(each.unit)}</Badge>}
            </button>
          </li>
        )
      })}
    </ul>
  )
}

const labels = ({ attributes }: Series): string =>
  Object.entries(attributes)
    .map(([key, value]) => `${key}=${value}`)
    .join(', ')
