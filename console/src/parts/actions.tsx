/** What one can do about an incident: buttons here, the same as keys and in the palette. */
import { useState } from 'preact/hooks'
import { mayAct, me, post } from '../core/api'
import { act } from '../core/incidents'
import { useCommands, type Command } from '../core/keys'
import { refresh, useResource } from '../core/resource'
import type { Incident, Items, Run, Workflow } from '../core/types'
import { Risk } from './approval'
import { Badge, Button, Empty, Trouble, Waiting } from './bits'
import { Dialog } from './dialog'
import { attempt } from './toast'

type Asked = 'workflow' | 'assign' | 'resolve' | null

/** The buttons of an incident, with the dialogs they open. */
export function IncidentActions({ incident, full }: { incident: Incident; full?: boolean }) {
  const [asked, ask] = useState<Asked>(null)
  const { id, status } = incident
  const may = mayAct()
  const why = may ? undefined : 'Your token may only read; this needs the role operator'
  const acknowledge = (): void => void attempt(() => act(id, 'acknowledge'), `Acknowledged ${id}.`)
  const reopen = (): void => void attempt(() => act(id, 'reopen'), `Reopened ${id}.`)

  const commands: Command[] = []
  if (may && status === 'open') commands.push({ key: 'a', label: `Acknowledge ${id}`, run: acknowledge })
  if (may) commands.push({ key: 'w', label: `Run a workflow for ${id}`, run: () => ask('workflow') })
  if (may && status !== 'resolved') commands.push({ key: 'r', label: `Resolve ${id}`, run: () => ask('resolve') })
  if (may) commands.push({ key: 'o', label: `Set the owner of ${id}`, run: () => ask('assign') })
  useCommands(commands, [id, status, may])

  return (
    <div class="actions">
      {full && (
        <Button onClick={() => ask('assign')} hint="o" disabled={!may} title={why}>
          {incident.owner ? 'Reassign' : 'Assign'}
        </Button>
      )}
      {(full || status === 'acknowledged') && status !== 'resolved' && (
        <Button onClick={() => ask('resolve')} hint="r" disabled={!may} title={why}>
          Resolve
        </Button>
      )}
      {status === 'resolved' && (
        <Button onClick={reopen} disabled={!may} title={why}>
          Reopen
        </Button>
      )}
      {status === 'open' && (
        <Button onClick={acknowledge} hint="a" disabled={!may} title={why}>
          Acknowledge
        </Button>
      )}
      <Button kind="primary" onClick={() => ask('workflow')} hint="w" disabled={!may} title={why}>
        Run workflow
      </Button>
      {asked === 'workflow' && <RunDialog incident={incident} onClose={() => ask(null)} />}
      {asked === 'assign' && <AssignDialog incident={incident} onClose={() => ask(null)} />}
      {asked === 'resolve' && <ResolveDialog incident={incident} onClose={() => ask(null)} />}
    </div>
  )
}

function RunDialog({ incident, onClose }: { incident: Incident; onClose: () => void }) {
  const { data, problem } = useResource<Items<Workflow>>('workflows')
  const usable = data?.items.filter((workflow) => workflow.enabled && !workflow.problem && workflow.mode !== 'observe') ?? []
  const run = (name: string): void => {
    onClose()
    void attempt(
      () => post<Run>(`workflows/${encodeURIComponent(name)}/run`, { incident: incident.id }),
      `Started ${name} for ${incident.id}.`,
    ).then(() => refresh())
  }
  return (
    <Dialog title={`Run a workflow for ${incident.id}`} onClose={onClose}>
      {problem && <Trouble problem={problem} />}
      {!data && !problem && <Waiting what="the workflows" />}
      {data && !usable.length && (
        <Empty title="No workflow is ready to run.">
          <p>
            What there is, and how to write one, is on <a href="/workflows">Workflows</a>.
          </p>
        </Empty>
      )}
      <ul class="choices">
        {usable.map((workflow) => (
          <li key={workflow.name}>
            <button type="button" onClick={() => run(workflow.name)}>
              <strong>{workflow.name}</strong>
              <Badge>{workflow.mode}</Badge>
              {workflow.steps.some((step) => step.risk === 'dangerous') && <Risk risk="dangerous" />}
              <span class="soft">{workflow.description}</span>
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  )
}

function AssignDialog({ incident, onClose }: { incident: Incident; onClose: () => void }) {
  const [owner, setOwner] = useState(incident.owner || me.value?.name || '')
  const assign = (): void => {
    onClose()
    void attempt(() => act(incident.id, 'assign', { owner }), owner ? `${incident.id} belongs to ${owner}.` : `${incident.id} belongs to nobody.`)
  }
  return (
    <Dialog title={`Who takes ${incident.id}?`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          assign()
        }}
      >
        <label>
          Owner
          <input type="text" value={owner} onInput={(event) => setOwner(event.currentTarget.value)} autoFocus />
        </label>
        <div class="form-end">
          <Button type="submit" kind="primary">
            Assign
          </Button>
        </div>
      </form>
    </Dialog>
  )
}

function ResolveDialog({ incident, onClose }: { incident: Incident; onClose: () => void }) {
  const [note, setNote] = useState('')
  const resolve = (): void => {
    onClose()
    void attempt(() => act(incident.id, 'resolve', { note }), `Resolved ${incident.id}.`)
  }
  return (
    <Dialog title={`Resolve ${incident.id}`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          resolve()
        }}
      >
        <label>
          What fixed it (kept on the timeline and shown beside similar incidents)
          <textarea rows={3} value={note} onInput={(event) => setNote(event.currentTarget.value)} autoFocus />
        </label>
        <div class="form-end">
          <Button type="submit" kind="primary">
            Resolve
          </Button>
        </div>
      </form>
    </Dialog>
  )
}

const VERDICTS = [
  ['useful', 'Useful'],
  ['noise', 'Noise'],
  ['wrong_cause', 'Wrong cause'],
] as const

/** A person's judgement, which trains what comes next. */
export function Verdict({ incident, candidates }: { incident: Incident; candidates: readonly string[] }) {
  return (
    <div class="verdict" role="group" aria-label="Your verdict on this incident">
      <span class="soft">Was this incident right?</span>
      {VERDICTS.map(([verdict, word]) => (
        <Button
          key={verdict}
          pressed={incident.feedback === verdict}
          disabled={!mayAct()}
          onClick={() => void attempt(() => act(incident.id, 'verdict', { verdict }), `Noted: ${incident.id} is ${word.toLowerCase()}.`)}
        >
          {word}
        </Button>
      ))}
      {incident.feedback === 'wrong_cause' && mayAct() && (
        <form
          class="filters"
          onSubmit={(event) => {
            event.preventDefault()
            const entity = String(new FormData(event.currentTarget).get('entity'))
            void attempt(() => act(incident.id, 'verdict', { verdict: 'wrong_cause', entity }), `Noted: it was ${entity}.`)
          }}
        >
          <input name="entity" required list="candidates" placeholder="service:shop/cart" aria-label="What was the cause?" maxLength={500} />
          <datalist id="candidates">
            {candidates.map((entity) => (
              <option key={entity} value={entity} />
            ))}
          </datalist>
          <Button type="submit">It was this</Button>
        </form>
      )}
    </div>
  )
}
