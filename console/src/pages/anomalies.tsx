/** Anomalies: what is unusual now, what will be, what explains what, and what the detection learned; each view at its own address. */
import { useCommands } from '../core/keys'
import { go } from '../core/router'
import { Empty } from '../parts/bits'
import { Forecasts } from '../parts/ahead'
import { Learned } from '../parts/learned'
import { Operations } from '../parts/operations'
import { Page, Tabs } from '../parts/page'
import { Regression } from '../parts/regression'
import { Templates } from '../parts/templates'
import { Unusual } from '../parts/unusual'

const VIEWS = { '': Unusual, forecasts: Forecasts, templates: Templates, operations: Operations, regression: Regression, learned: Learned } as const
const NAMES = { '': 'Now', forecasts: 'Forecasts', templates: 'Log templates', operations: 'Operations', regression: 'Regression', learned: 'Learned' } as const
type Tab = keyof typeof VIEWS
const hrefOf = (tab: string): string => (tab ? `/anomalies/${tab}` : '/anomalies')

export function AnomaliesPage({ tab }: { tab: string }) {
  useCommands(
    (Object.keys(NAMES) as Tab[]).map((each, index) => ({ key: String(index + 1), label: `Show ${NAMES[each]}`, run: () => go(hrefOf(each)) })),
    [],
  )
  const View = tab in VIEWS ? VIEWS[tab as Tab] : null
  const items = Object.entries(NAMES).map(([key, text]) => ({ href: hrefOf(key), text, here: key === tab }))
  return (
    <Page title="Anomalies" tabs={<Tabs label="Views" items={items} />}>
      {View ? <View /> : <Empty title={`Anomalies have no view named ${tab}.`} />}
    </Page>
  )
}
