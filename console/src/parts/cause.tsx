/** The probable cause with its evidence, beside the true fault where the data says what it was. */
import { useState } from 'preact/hooks'
import { clockTime, entityName, readable, without } from '../core/format'
import type { Candidate, Incident, IncidentDetail } from '../core/types'
import { Badge, Confidence, Empty, More } from './bits'
import { Shape } from './icons'

const SHOWN = 3
const PIECES = 5

/** One line: what most likely caused it, how sure that is, and the strongest reason. */
export function CauseLine({ incident }: { incident: Incident }) {
  const { cause, confidence } = incident
  if (!cause) return <p class="cause-line none">undetermined: the evidence does not single out one entity</p>
  return (
    <p class="cause-line" title={cause.entity}>
      <strong>{entityName(cause.entity)}</strong>
      {confidence !== null && <span class="number"> · {confidence.toFixed(2)}</span>} · {without(cause.entity, cause.summary || cause.kind)}
    </p>
  )
}

/** Whether the ranking found the labelled fault, in words. */
export function judged(incident: Incident, candidates: readonly Candidate[]): { good: boolean; text: string } {
  if (!incident.truth) return { good: false, text: '' }
  const rank = candidates.findIndex(({ entity }) => entity === incident.truth?.entity)
  if (rank === 0 && incident.cause) return { good: true, text: 'found: ranked first' }
  if (rank >= 0) return { good: false, text: `ranked ${rank + 1} of ${candidates.length}${incident.cause ? '' : ', not sure enough to say'}` }
  return { good: false, text: 'missed: not among the candidates' }
}

/** What really was injected; only labelled data has it. */
export function TrueFault({ incident, candidates }: { incident: Incident; candidates: readonly Candidate[] }) {
  if (!incident.truth) return null
  const { good, text } = judged(incident, candidates)
  return (
    <p class="truth">
      <span class="soft">True fault</span> <strong title={incident.truth.entity}>{entityName(incident.truth.entity)}</strong>{' '}
      <Badge tone={good ? 'good' : 'warning'}>
        <Shape health={good ? 'good' : 'warning'} size={9} label={good ? 'right' : 'not right'} /> {text}
      </Badge>{' '}
      {readable(incident.truth.text || incident.truth.kind)}
    </p>
  )
}

function CandidateBlock({ candidate, rank, truth, sure }: { candidate: Candidate; rank: number; truth: boolean; sure: boolean }) {
  const [all, showAll] = useState(false)
  const strongest = Math.max(...candidate.evidence.map(({ weight }) => Math.abs(weight)), 1e-9)
  return (
    <li class={`candidate ${sure && rank === 0 ? 'first' : ''}`}>
      <header>
        <span class="rank">{rank + 1}</span>
        <strong title={candidate.entity}>{entityName(candidate.entity)}</strong>
        {truth && <Badge tone="good">true fault</Badge>}
        <span class="push">
          <Confidence value={candidate.confidence} width={48} />
        </span>
      </header>
      <ul class="evidence">
        {candidate.evidence.slice(0, all ? undefined : PIECES).map((piece) => (
          <li>
            <Badge>{piece.kind}</Badge>
            <span class="evidence-text" title={piece.text}>
              {piece.series ? <a href={`/explore?series=${encodeURIComponent(piece.series)}&range=all`}>{readable(piece.text)}</a> : readable(piece.text)}
              {piece.time && <span class="soft"> at {clockTime(piece.time)}</span>}
            </span>
            <svg width="48" height="4" aria-hidden="true">
              <rect class="rail" width="48" height="4" rx="2" />
              <rect class={piece.weight < 0 ? 'fill against' : 'fill'} width={(48 * Math.abs(piece.weight)) / strongest} height="4" rx="2" />
            </svg>
            <span class="number weight" aria-label={`weight ${piece.weight.toFixed(2)}`}>
              {piece.weight.toFixed(2)}
            </span>
          </li>
        ))}
      </ul>
      <More count={candidate.evidence.length - PIECES} what="pieces of evidence" all={all} toggle={() => showAll(!all)} />
    </li>
  )
}

/** All candidates in their order, each with its evidence in words and weights. */
export function Candidates({ incident }: { incident: IncidentDetail }) {
  const [all, showAll] = useState(false)
  const { candidates, truth } = incident
  if (!candidates.length) return <Empty title={incident.reason || 'No entity stands out.'} />
  const shown = all ? candidates : candidates.slice(0, SHOWN)
  return (
    <>
      <ol class="candidates">
        {shown.map((candidate, rank) => (
          <CandidateBlock key={candidate.entity} candidate={candidate} rank={rank} truth={candidate.entity === truth?.entity} sure={incident.verdict === 'determined'} />
        ))}
      </ol>
      <More count={candidates.length - SHOWN} what="candidates" all={all} toggle={() => showAll(!all)} />
    </>
  )
}
