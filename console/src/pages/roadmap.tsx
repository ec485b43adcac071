/** The nine steps of the roadmap, in its own words and order, each with what is measured and what is not yet. */
import { useEffect, useState } from 'preact/hooks'
import { delay } from '../core/format'
import { useResource } from '../core/resource'
import { measured, STEPS } from '../core/steps'
import type { Figure, RoadmapStep } from '../core/types'
import { Empty, More, Section, Trouble, Waiting } from '../parts/bits'
import { Page } from '../parts/page'

const FIGURES = 5
const STAGES = [
  ['early', 'Early stage'],
  ['middle', 'Middle stage'],
  ['late', 'Late stage'],
] as const

export function RoadmapPage({ number }: { number: number }) {
  const { data, problem, reload } = useResource<{ steps: RoadmapStep[] }>('roadmap', 'source', 'incident', 'run')
  const ready = data !== undefined
  useEffect(() => {
    if (ready && number) document.getElementById(`step-${number}`)?.scrollIntoView({ block: 'center' })
  }, [ready, number])
  const done = data?.steps.filter(measured).length ?? 0
  return (
    <Page title="Roadmap" tabs={data && <span class="soft head-note">{done} of 9 steps measured from the data that flows</span>}>
      {problem && !data && <Trouble problem={problem} retry={reload} />}
      {!data && !problem && <Waiting what="the roadmap" />}
      {data && !data.steps.length && <Empty title="The roadmap has no steps." />}
      {data &&
        STAGES.map(([stage, name]) => (
          <Section key={stage} title={name}>
            <div class="stage">
              {data.steps
                .filter((step) => step.stage === stage)
                .map((step) => (
                  <Step key={step.number} step={step} here={step.number === number} />
                ))}
            </div>
          </Section>
        ))}
    </Page>
  )
}

function Score({ score, how }: { score: number | null; how: string }) {
  if (score === null) return <span class="score none">not yet measured</span>
  return (
    <span class="score" role="img" aria-label={`${Math.round(score)} of 100`} title={how}>
      <svg width="64" height="4" aria-hidden="true">
        <rect class="rail" width="64" height="4" rx="2" />
        <rect class="fill" width={0.64 * Math.min(100, score)} height="4" rx="2" />
      </svg>
      {Math.round(score)}
    </span>
  )
}

function shown({ value, unit }: Figure): string {
  if (value === null) return '–'
  if (typeof value === 'number' && unit === 's') return delay(value)
  const number = typeof value === 'number' ? value.toLocaleString('en', { maximumFractionDigits: 2 }) : value
  return unit && unit !== '1' ? `${number} ${unit.replace(/[{}]/g, '')}` : number
}

function Step({ step, here }: { step: RoadmapStep; here: boolean }) {
  const [all, showAll] = useState(false)
  return (
    <article class={`step ${here ? 'here' : ''}`} id={`step-${step.number}`} aria-labelledby={`step-title-${step.number}`}>
      <header>
        <span class={`step-number ${measured(step) ? 'measured' : ''}`}>{step.number}</span>
        <h3 id={`step-title-${step.number}`}>{STEPS[step.number - 1] ?? step.title}</h3>
        <Score score={step.score} how={step.how} />
      </header>
      <p class="question">{step.question}</p>
      {step.figures.length > 0 && (
        <dl class="step-figures">
          {step.figures.slice(0, all ? undefined : FIGURES).map((figure) => (
            <div title={figure.how}>
              <dt>{figure.name}</dt>
              <dd>{shown(figure)}</dd>
              {figure.text && <dd class="soft">{figure.text}</dd>}
            </div>
          ))}
        </dl>
      )}
      <More count={step.figures.length - FIGURES} what="figures" all={all} toggle={() => showAll(!all)} />
      {step.missing.length > 0 && (
        <ul class="missing">
          {step.missing.map(({ text, hint }) => (
            <li>
              <span>{text}</span> {hint && <span class="soft">{hint}</span>}
            </li>
          ))}
        </ul>
      )}
    </article>
  )
}
