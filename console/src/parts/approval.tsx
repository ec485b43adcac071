/** A step that waits for a person, with all one needs to decide. */
import { useState } from 'preact/hooks'
import { mayAct, post } from '../core/api'
import { present } from '../core/clock'
import { epoch, plain, readable, span } from '../core/format'
import { refresh } from '../core/resource'
import type { Approval } from '../core/types'
import { Age, Badge, Button } from './bits'
import { Tick } from './icons'
import { attempt } from './toast'

const RISK_TONE: Record<string, string> = { dangerous: 'critical', write: 'warning', read: 'good' }

/** How much a step can break. */
export const Risk = ({ risk }: { risk: string }) => (risk ? <Badge tone={RISK_TONE[risk] ?? 'plain'}>{risk}</Badge> : null)

const DONE = { approve: 'Approved', reject: 'Rejected', skip: 'Skipped' } as const

/** What is asked, and the answers; a step whose outcome nobody knows may also be skipped. */
export function ApprovalCard({ approval, showIncident }: { approval: Approval; showIncident?: boolean }) {
  const [note, setNote] = useState('')
  const [busy, setBusy] = useState(false)
  const { workflow, step, kind } = approval
  const what = kind === 'run' ? workflow : `${step} of ${workflow}`
  const idle = busy || !mayAct(approval.role)
  const why = mayAct(approval.role) ? undefined : `This needs the role ${approval.role}`
  const decide = async (decision: keyof typeof DONE): Promise<void> => {
    setBusy(true)
    await attempt(() => post<Approval>(`approvals/${approval.id}`, { decision, note }), `${DONE[decision]} ${what}.`)
    setBusy(false)
    refresh()
  }
  const left = approval.expires ? epoch(approval.expires) - present.value : 0
  const sent = plain(approval.ask)
  return (
    <article class="approval" aria-label={`Approval for ${what}`}>
      <header>
        <strong>{kind === 'unknown' ? 'Outcome unknown' : 'Approval needed'}</strong>
        <Risk risk={approval.risk} />
        <span class="soft">
          asked <Age time={approval.requested} /> ago{left > 0 && `, expires in ${span(left)}`}
        </span>
      </header>
      <p class="ask">{approval.question}</p>
      <p class="soft">
        {kind !== 'run' && (
          <>
            Step <a href={`/runs/${approval.run}`}>{step}</a> of{' '}
          </>
        )}
        <a href={`/workflows/${encodeURIComponent(workflow)}`}>{workflow}</a>
        {approval.uses && (
          <>
            {' '}
            uses <code>{approval.uses}</code>
          </>
        )}
        {showIncident && approval.incident && (
          <>
            {' '}
            for <a href={`/incidents/${approval.incident}`}>{approval.incident}</a> {readable(approval.incident_title)}
          </>
        )}
      </p>
      {sent && sent !== '{}' && (
        <details class="sent">
          <summary>
            <span>sends</span> <code class="cut">{JSON.stringify(approval.ask)}</code>
          </summary>
          <pre tabIndex={0} aria-label="What will be sent">
            {sent}
          </pre>
        </details>
      )}
      <form
        class="decide"
        onSubmit={(event) => {
          event.preventDefault()
          void decide('approve')
        }}
      >
        <input
          type="text"
          placeholder="Note (optional)"
          aria-label="Note for this decision"
          value={note}
          onInput={(event) => setNote(event.currentTarget.value)}
        />
        <Button type="submit" kind="primary" disabled={idle} title={why}>
          <Tick /> Approve
        </Button>
        {kind === 'unknown' && (
          <Button disabled={idle} title={why} onClick={() => void decide('skip')}>
            Skip
          </Button>
        )}
        <Button kind="danger" disabled={idle} title={why} onClick={() => void decide('reject')}>
          Reject
        </Button>
      </form>
    </article>
  )
}
