/** The console: who is calling, which view the address names, and the frame around it. */
import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import 'uplot/dist/uPlot.min.css'
import { me, Problem, signIn, whoAmI } from './core/api'
import { startClock } from './core/clock'
import { startKeys } from './core/keys'
import { later, loadAhead } from './core/later'
import { startLive } from './core/live'
import { go, path, startRouter } from './core/router'
import { IncidentsPage } from './pages/incidents'
import { LoginPage } from './pages/login'
import { Empty, Trouble } from './parts/bits'
import { Page } from './parts/page'
import { Shell } from './parts/shell'
import { Toast } from './parts/toast'
import './style/base.css'
import './style/frame.css'
import './style/parts.css'
import './style/blocks.css'
import './style/incidents.css'
import './style/drawings.css'
import './style/runs.css'
import './style/views.css'
import './style/sources.css'
import './style/connect.css'
import './style/anomalies.css'
import './style/alerts.css'
import './style/oncall.css'

const AlertsPage = later('alerts', 'Alerts', () => import('./pages/alerts').then((file) => file.AlertsPage))
const AnomaliesPage = later('anomalies', 'Anomalies', () => import('./pages/anomalies').then((file) => file.AnomaliesPage))
const ExplorePage = later('explore', 'Explore', () => import('./pages/explore').then((file) => file.ExplorePage))
const IncidentPage = later('incidents', 'Incident', () => import('./pages/incident').then((file) => file.IncidentPage))
const MutesPage = later('mutes', 'Mutes', () => import('./pages/mutes').then((file) => file.MutesPage))
const OnCallPage = later('on-call', 'On-call', () => import('./pages/oncall').then((file) => file.OnCallPage))
const QueryPage = later('query', 'Query', () => import('./pages/query').then((file) => file.QueryPage))
const RoadmapPage = later('roadmap', 'Roadmap', () => import('./pages/roadmap').then((file) => file.RoadmapPage))
const SourcePage = later('sources', 'Source', () => import('./pages/source').then((file) => file.SourcePage))
const SourcesPage = later('sources', 'Sources', () => import('./pages/sources').then((file) => file.SourcesPage))
const RunPage = later('runs', 'Run', () => import('./pages/workflows').then((file) => file.RunPage))
const WorkflowPage = later('workflows', 'Workflow', () => import('./pages/workflows').then((file) => file.WorkflowPage))
const WorkflowsPage = later('workflows', 'Workflows', () => import('./pages/workflows').then((file) => file.WorkflowsPage))

function Home() {
  useEffect(() => go('/incidents', true), [])
  return null
}

/** A part of the address as people mean it; one that is no valid encoding stands for itself. */
function plain(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

function View() {
  const [, root = '', name = '', tab = ''] = path.value.split('/').map(plain)
  switch (root) {
    case '':
    case 'login':
      return <Home />
    case 'incidents':
      return name ? <IncidentPage key={name} id={name} tab={tab} /> : <IncidentsPage />
    case 'alerts':
      return <AlertsPage />
    case 'mutes':
      return <MutesPage />
    case 'on-call':
      return <OnCallPage tab={name} />
    case 'anomalies':
      return <AnomaliesPage tab={name} />
    case 'explore':
      return <ExplorePage />
    case 'workflows':
      return name ? <WorkflowPage key={name} name={name} /> : <WorkflowsPage />
    case 'runs':
      return name ? <RunPage key={name} id={name} /> : <WorkflowsPage />
    case 'sources':
      return name ? <SourcePage key={name} name={name} tab={tab} /> : <SourcesPage />
    case 'query':
      return <QueryPage />
    case 'roadmap':
      return <RoadmapPage number={Number(name) || 0} />
    default:
      return (
        <Page title="Not found">
          <Empty title={`There is no page at ${path.value}.`}>
            <p>
              <a href="/incidents">Go to the incidents</a>
            </p>
          </Empty>
        </Page>
      )
  }
}

/** A link with `#token=…` signs in once; the token leaves the address before anything else happens. */
async function arrive(): Promise<string> {
  const token = new URLSearchParams(location.hash.slice(1)).get('token')
  if (!token) {
    await whoAmI()
    return ''
  }
  history.replaceState(null, '', location.pathname + location.search)
  try {
    await signIn(token)
    return ''
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    me.value = null
    return error.message
  }
}

function Console() {
  const [said, say] = useState('')
  const [problem, setProblem] = useState<Problem | null>(null)
  const begin = (): void => {
    setProblem(null)
    arrive().then(say, (error: Problem) => setProblem(error))
  }
  useEffect(() => {
    const linked = (): void => {
      if (location.hash.startsWith('#token=')) begin()
    }
    begin()
    addEventListener('hashchange', linked)
    return () => removeEventListener('hashchange', linked)
  }, [])
  if (problem) {
    return (
      <main class="login">
        <Trouble problem={problem} retry={begin} />
      </main>
    )
  }
  if (me.value === undefined) return null
  if (me.value === null) return <LoginPage said={said} />
  return (
    <>
      <div class="frame">
        <Shell />
        <View />
      </div>
      <Toast />
    </>
  )
}

loadAhead()
startRouter()
startClock()
startKeys()
startLive()
render(<Console />, document.body)
