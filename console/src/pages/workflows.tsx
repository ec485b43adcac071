/** Workflows: what waits for a person first, then what runs, then what there is. */
import { useState } from 'preact/hooks'
import { mayAct, post, query, remove } from '../core/api'
import { whole } from '../core/format'
import { refresh, useResource } from '../core/resource'
import type { Approval, Items, Run, Workflow, WorkflowList } from '../core/types'
import { ApprovalCard, Risk } from '../parts/approval'
import { Age, At, Badge, Button, Copyable, Empty, Section, Trouble, Waiting } from '../parts/bits'
import { Dialog } from '../parts/dialog'
import { Back, Shape } from '../parts/icons'
import { Page } from '../parts/page'
import { RunBadge, RunTable, Steps, took } from '../parts/run'
import { attempt } from '../parts/toast'

const FIRST = `name: tell-the-team
description: Say it where the team reads it.
mode: auto
trigger:
  incident: {on: [opened], when: 'incident.severity == "critical"'}
steps:
  - id: tell
    uses: team.send
    with: {title: "\${{ incident.title }}", body: "\${{ incident.id }} on \${{ incident.entity }}"}`

export function WorkflowsPage() {
  const workflows = useResource<WorkflowList>('workflows', 'run', 'approval')
  const stopped = workflows.data?.stopped ?? ''
  const approvals = useResource<Items<Approval>>('approvals?status=waiting', 'approval', 'run')
  const runs = useResource<Items<Run>>('runs?limit=100', 'run', 'approval')
  const problem = workflows.problem ?? approvals.problem ?? runs.problem
  return (
    <Page title="Workflows" controls={<Brake stopped={stopped} />}>
      {stopped && (
        <p class="stopped" role="status">
          <Shape health="warning" /> Nothing starts and no further step begins: {stopped}.
        </p>
      )}
      {problem && <Trouble problem={problem} retry={() => refresh()} />}
      {approvals.data && approvals.data.items.length > 0 && (
        <Section title="Waiting for you" note={whole(approvals.data.items.length)}>
          {approvals.data.items.map((approval) => (
            <ApprovalCard key={approval.id} approval={approval} showIncident />
          ))}
        </Section>
      )}
      <Section title="Workflows">
        {!workflows.data && !problem && <Waiting what="the workflows" />}
        {workflows.data && !workflows.data.items.length && (
          <Empty title="No workflow yet.">
            <p>
              Put a YAML file like this into a folder and name the folder in ninefold.yaml: <code>workflows: {'{path: workflows}'}</code>
            </p>
            <Copyable text={FIRST} label="A first workflow" />
          </Empty>
        )}
        {workflows.data && workflows.data.items.length > 0 && <Table workflows={workflows.data.items} />}
      </Section>
      <Section title="Runs">
        {runs.data && !runs.data.items.length && <p class="soft">Nothing has run yet.</p>}
        {runs.data && runs.data.items.length > 0 && <RunTable runs={runs.data.items} />}
      </Section>
    </Page>
  )
}

/** The global stop: one button that holds all automation, and lets it go on. */
function Brake({ stopped }: { stopped: string }) {
  const change = async (): Promise<void> => {
    await (stopped
      ? attempt(() => remove('workflows/stop'), 'Automation goes on.')
      : attempt(() => post('workflows/stop', { reason: '' }), 'All automation is stopped.'))
    refresh()
  }
  return (
    <Button kind={stopped ? 'primary' : 'danger'} disabled={!mayAct()} onClick={() => void change()}>
      {stopped ? 'Let automation go on' : 'Stop all automation'}
    </Button>
  )
}

function Table({ workflows }: { workflows: readonly Workflow[] }) {
  return (
    <div class="table-wrap">
      <table class="table">
        <thead>
          <tr>
            <th>Workflow</th>
            <th>Mode</th>
            <th>Starts when</th>
            <th>Steps</th>
            <th class="number">Succeeded</th>
            <th class="number">Failed</th>
            <th class="number">Waiting</th>
            <th class="number">Last run</th>
          </tr>
        </thead>
        <tbody>
          {workflows.map((workflow) => (
            <tr key={workflow.name}>
              <td class="wrap">
                <a href={`/workflows/${encodeURIComponent(workflow.name)}`}>
                  <strong>{workflow.name}</strong>
                </a>
                <span class={workflow.problem ? 'bad-text sub' : 'soft sub'}>{workflow.problem || workflow.description}</span>
              </td>
              <td>
                <Mode workflow={workflow} />
              </td>
              <td class="wrap soft mono">{workflow.trigger}</td>
              <td class="soft">{workflow.steps.length}</td>
              <td class="number">{whole(workflow.runs.succeeded)}</td>
              <td class={`number ${workflow.runs.failed ? 'bad-text' : ''}`}>{whole(workflow.runs.failed)}</td>
              <td class="number">{whole(workflow.runs.waiting)}</td>
              <td class="number soft">{workflow.last_run ? <Age time={workflow.last_run} /> : 'never'}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Mode({ workflow }: { workflow: Workflow }) {
  if (workflow.problem) return <Badge tone="critical">cannot run</Badge>
  if (!workflow.enabled) return <Badge>off</Badge>
  return <Badge tone={workflow.mode === 'auto' ? 'good' : workflow.mode === 'approve' ? 'accent' : 'plain'}>{workflow.mode}</Badge>
}

export function WorkflowPage({ name }: { name: string }) {
  const { data, problem } = useResource<WorkflowList>('workflows', 'run', 'approval')
  const runs = useResource<Items<Run>>(query('runs', { workflow: name, limit: 100 }), 'run', 'approval')
  const [asking, ask] = useState(false)
  const workflow = data?.items.find((each) => each.name === name)
  return (
    <Page
      title={name}
      heading={<Crumbs name={name} />}
      controls={
        workflow && (
          <Button kind="primary" disabled={!mayAct() || !workflow.enabled || workflow.mode === 'observe' || Boolean(workflow.problem)} onClick={() => ask(true)}>
            Run
          </Button>
        )
      }
    >
      {problem && <Trouble problem={problem} />}
      {data && !workflow && <Empty title={`There is no workflow named ${name}.`} />}
      {workflow && (
        <>
          <p class="lead">{workflow.description}</p>
          <p class="facts soft">
            <Mode workflow={workflow} />
            <span>
              starts when <code>{workflow.trigger}</code>
            </span>
          </p>
          {workflow.problem && <p class="bad-text">{workflow.problem}</p>}
          <Section title="Steps">
            <ol class="plain-steps">
              {workflow.steps.map((step) => (
                <li key={step.id}>
                  <strong>{step.id}</strong> <code>{step.uses}</code> <Risk risk={step.risk} />
                </li>
              ))}
            </ol>
          </Section>
        </>
      )}
      <Section title="Runs">
        {runs.data && !runs.data.items.length && <p class="soft">It has not run yet.</p>}
        {runs.data && runs.data.items.length > 0 && <RunTable runs={runs.data.items} />}
      </Section>
      {asking && <RunFor name={name} onClose={() => ask(false)} />}
    </Page>
  )
}

function RunFor({ name, onClose }: { name: string; onClose: () => void }) {
  const [incident, setIncident] = useState('')
  const run = (): void => {
    onClose()
    void attempt(() => post<Run>(`workflows/${encodeURIComponent(name)}/run`, { incident: incident || null }), `Started ${name}.`).then(() => refresh())
  }
  return (
    <Dialog title={`Run ${name}`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          run()
        }}
      >
        <label>
          For which incident
          <input type="text" placeholder="INC-12" value={incident} onInput={(event) => setIncident(event.currentTarget.value.trim())} autoFocus required />
        </label>
        <div class="form-end">
          <Button type="submit" kind="primary">
            Run
          </Button>
        </div>
      </form>
    </Dialog>
  )
}

const Crumbs = ({ name }: { name: string }) => (
  <h1 class="crumbs">
    <a href="/workflows">
      <Back /> Workflows
    </a>
    <span>{name}</span>
  </h1>
)

const UNDER_WAY: readonly string[] = ['queued', 'running', 'waiting']

export function RunPage({ id }: { id: string }) {
  const { data: run, problem, reload } = useResource<Run>(`runs/${encodeURIComponent(id)}`, 'run', 'approval')
  const approvals = useResource<Items<Approval>>('approvals?status=waiting', 'approval')
  const waiting = approvals.data?.items.filter((approval) => String(approval.run) === id) ?? []
  return (
    <Page
      title={`Run ${id}`}
      heading={<Crumbs name={`Run ${id}`} />}
      controls={
        run &&
        UNDER_WAY.includes(run.status) && (
          <Button kind="danger" disabled={!mayAct()} onClick={() => void attempt(() => post<Run>(`runs/${id}/cancel`, {}), `Cancelled run ${id}.`).then(reload)}>
            Cancel the run
          </Button>
        )
      }
    >
      {problem && !run && <Trouble problem={problem} retry={reload} />}
      {!run && !problem && <Waiting what="the run" />}
      {run && (
        <div class="narrow">
          <p class="lead">
            <a href={`/workflows/${encodeURIComponent(run.workflow)}`}>{run.workflow}</a> <RunBadge status={run.status} />
          </p>
          <p class="facts soft">
            {run.incident && (
              <span>
                for <a href={`/incidents/${run.incident}`}>{run.incident}</a>
              </span>
            )}
            <span>started by {run.trigger}</span>
            <span>
              <At time={run.started} />
            </span>
            {run.finished && <span>took {took(run)}</span>}
          </p>
          {run.error && <p class="bad-text">{run.error}</p>}
          {waiting.map((approval) => (
            <ApprovalCard key={approval.id} approval={approval} />
          ))}
          <Section title="Steps" note="what went in and what came out">
            <Steps run={run} open />
          </Section>
        </div>
      )}
    </Page>
  )
}
