/** How free the data of a source is: the score, its arithmetic term by term, and what would raise it. */
import { delay, percent, plural, span } from '../core/format'
import type { Freedom, Term } from '../core/source'
import { Badge, Section } from './bits'
import { Figures } from './page'
import { inline } from './prose'

const ROUND = 2 * Math.PI * 42

const points = (value: number): string => String(Math.round(value * 10) / 10)

/** What was measured, in a row of figures. */
export function Facts({ freedom }: { freedom: Freedom }) {
  const { frequency_s: every, jitter, load } = freedom
  return (
    <Figures
      items={[
        { name: 'Extraction', value: freedom.extraction, text: `${freedom.programmatic ? 'by program' : 'handed over by people'}${freedom.kind ? `, ${freedom.kind}` : ''}` },
        {
          name: 'Cadence',
          value: delay(every),
          text: every === null ? 'no rhythm is known yet' : jitter === null ? 'jitter is unknown' : `rare gaps are ${jitter}× as long`,
        },
        { name: 'Delay', value: delay(freedom.delay_p50_s), text: freedom.delay_p99_s === null ? 'not known yet' : `99 % within ${delay(freedom.delay_p99_s)}` },
        { name: 'Completeness', value: percent(freedom.completeness), text: freedom.completeness === null ? 'not known yet' : 'came and could be read' },
        {
          name: 'History',
          value: freedom.history_days >= 1 ? `${Math.round(freedom.history_days)}d` : span(freedom.history_days * 86_400),
          text: 'oldest to newest record',
        },
        {
          name: 'Schema',
          value: freedom.schema_changes === null ? '–' : freedom.schema_changes ? plural(freedom.schema_changes, 'change') : 'stable',
          text: freedom.schema_changes === null ? 'models are still learning' : 'in 30 days',
        },
        ...(load ? [{ name: 'Load on it', value: `${points(load.requests)}/min`, text: `${points(load.bytes / 1000)} kB a minute` }] : []),
      ]}
    />
  )
}

function Ring({ score }: { score: number | null }) {
  return (
    <div class="ring" role="img" aria-label={score === null ? 'Freedom is not measured yet' : `Freedom ${score} of 100`}>
      <svg viewBox="0 0 100 100" aria-hidden="true">
        <circle cx="50" cy="50" r="42" />
        {score !== null && <circle class="done" cx="50" cy="50" r="42" stroke-dasharray={`${(score / 100) * ROUND} ${ROUND}`} transform="rotate(-90 50 50)" />}
      </svg>
      <span class="ring-value">{score === null ? '–' : Math.round(score)}</span>
      <span class="ring-word soft">of 100</span>
    </div>
  )
}

function Bar({ term }: { term: Term }) {
  const width = 6 * term.most
  return (
    <svg class={term.points === null ? 'term-bar unknown' : 'term-bar'} width={width} height="6" aria-hidden="true">
      <rect class="rail" width={width} height="6" rx="3" />
      {term.points !== null && <rect class="fill" width={(width * term.points) / term.most} height="6" rx="3" />}
    </svg>
  )
}

/** The score with every term of its sum. */
export function FreedomScore({ freedom }: { freedom: Freedom }) {
  return (
    <Section title="Data freedom" note="measured, not asked: what cannot be measured yet gives no points and takes none">
      <div class="freedom">
        <Ring score={freedom.score} />
        <div class="table-wrap">
          <table class="table terms">
            <thead>
              <tr>
                <th>Term</th>
                <th class="number">Points</th>
                <th>Share</th>
                <th>Measured</th>
                <th>How it is counted</th>
              </tr>
            </thead>
            <tbody>
              {freedom.terms.map((term) => (
                <tr key={term.name}>
                  <td>
                    <strong>{term.name}</strong>
                  </td>
                  <td class="number">
                    {term.points === null ? <span class="soft">–</span> : points(term.points)}
                    <span class="soft"> of {term.most}</span>
                  </td>
                  <td>
                    <Bar term={term} />
                  </td>
                  <td class="wrap">{term.measured}</td>
                  <td class="wrap soft how">{term.how}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </div>
      {freedom.score !== null && (
        <p class="arithmetic mono soft" aria-label="The sum">
          {freedom.arithmetic}
        </p>
      )}
    </Section>
  )
}

/** One advice for each weakness, the greatest first. */
export function Advice({ freedom }: { freedom: Freedom }) {
  if (freedom.score === null) return null
  return (
    <Section title="What would free it more">
      {!freedom.advice.length && <p class="soft">Nothing that matters: every measured term has most of its points.</p>}
      <ul class="advice">
        {freedom.advice.map(({ term, lost, text }) => (
          <li key={term}>
            <Badge tone="accent">{`up to +${lost}`}</Badge>
            <strong>{term}</strong>
            <span>{inline(text)}.</span>
          </li>
        ))}
      </ul>
    </Section>
  )
}
