/** One run of a workflow: its steps in order, each with what went in and what came out. */
import { delay, epoch, plain } from '../core/format'
import type { Run, RunStatus, Step } from '../core/types'
import { Risk } from './approval'
import { Age, At, Badge } from './bits'

const TONE: Record<string, string> = {
  succeeded: 'good',
  failed: 'critical',
  waiting: 'accent',
  running: 'info',
  queued: 'plain',
  rejected: 'high',
  cancelled: 'plain',
  skipped: 'plain',
}

export const RunBadge = ({ status }: { status: RunStatus | string }) => <Badge tone={TONE[status] ?? 'plain'}>{status}</Badge>

/** How long a run or a step took; nothing while it is under way. */
export const took = ({ started, finished }: { started: string | null; finished: string | null }): string =>
  started && finished ? delay(Math.max(0, epoch(finished) - epoch(started))) : ''

function Block({ name, value }: { name: string; value: unknown }) {
  const text = plain(value)
  if (!text || text === '{}') return null
  return (
    <div class="block">
      <span class="soft">{name}</span>
      <pre tabIndex={0} aria-label={`${name} of the step`}>
        {text}
      </pre>
    </div>
  )
}

function StepRow({ step, open }: { step: Step; open: boolean }) {
  return (
    <li>
      <details open={open}>
        <summary>
          <span class={`dot ${TONE[step.status] ?? 'plain'}`} aria-hidden="true" />
          <span class="step-id">{step.id}</span>
          <code>{step.uses}</code>
          {step.risk !== 'read' && <Risk risk={step.risk} />}
          <span class="push soft">
            {step.attempts > 1 && `${step.attempts} attempts · `}
            {took(step)}
          </span>
          <RunBadge status={step.status} />
        </summary>
        <div class="step-body">
          {step.error && <p class="bad-text">{step.error}</p>}
          <Block name="in" value={step.input} />
          <Block name="out" value={step.output} />
          {!step.error && !plain(step.input) && !plain(step.output) && (
            <p class="soft">{step.started ? 'Nothing went in and nothing came out.' : 'Has not started.'}</p>
          )}
        </div>
      </details>
    </li>
  )
}

/** The steps of a run; `open` unfolds all of them. */
export function Steps({ run, open = false }: { run: Run; open?: boolean }) {
  return (
    <ol class="steps">
      {run.steps.map((step) => (
        <StepRow key={step.id} step={step} open={open || step.status === 'failed'} />
      ))}
    </ol>
  )
}

/** A run as one line with its steps below it. */
export function RunLine({ run }: { run: Run }) {
  return (
    <article class="run" aria-label={`Run of ${run.workflow}`}>
      <header>
        <a href={`/runs/${run.id}`}>
          <strong>{run.workflow}</strong>
        </a>
        <RunBadge status={run.status} />
        <span class="soft push">
          <Age time={run.started} /> ago{run.finished && ` · took ${took(run)}`}
        </span>
      </header>
      {run.error && <p class="bad-text">{run.error}</p>}
      <Steps run={run} />
    </article>
  )
}

/** Runs as a table. */
export function RunTable({ runs }: { runs: readonly Run[] }) {
  return (
    <div class="table-wrap">
      <table class="table">
        <thead>
          <tr>
            <th>Run</th>
            <th>Workflow</th>
            <th>Status</th>
            <th>Incident</th>
            <th>Started by</th>
            <th>Started</th>
            <th class="number">Took</th>
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.id}>
              <td>
                <a href={`/runs/${run.id}`}>#{run.id}</a>
              </td>
              <td class="strong">{run.workflow}</td>
              <td>
                <RunBadge status={run.status} />
              </td>
              <td>{run.incident ? <a href={`/incidents/${run.incident}`}>{run.incident}</a> : <span class="soft">–</span>}</td>
              <td class="soft">{run.trigger}</td>
              <td class="soft">
                <At time={run.started} />
              </td>
              <td class="number">{took(run) || '–'}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
