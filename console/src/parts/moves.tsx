/** What was learned and why, each with its way back. */
import { useState } from 'preact/hooks'
import type { Move } from '../core/anomalies'
import { mayAct, post } from '../core/api'
import { At, Button, More } from './bits'
import { attempt } from './toast'

const SETTLED_MS = 1500
const SHOWN = 12

const told = (value: Move['before']): string =>
  typeof value === 'number'
    ? value.toFixed(3)
    : Object.entries(value)
        .map(([name, each]) => `${name} ${each}`)
        .join(', ')

/** What a factor above 1 does. */
const EFFECTS: Record<string, string> = {
  rule: 'noise, so less severe when alone: rule',
  pair: 'rather one incident:',
  cause: 'points rather to the cause: evidence',
}

/** What moved; a series by the chart of it, since its id tells nobody anything. */
function Target({ move: { about, scope, target } }: { move: Move }) {
  if (scope === 'series') return <a href={`/explore?series=${target}`}>one series</a>
  if (about === 'incidents') return <>{`${EFFECTS[scope] ?? scope} ${target.replaceAll('|', ' ').replace('\n', ' with ')}`}</>
  return <>{`${scope}${target && ` ${target}`}`}</>
}

export function Moves({ items, reload }: { items: readonly Move[]; reload?: () => void }) {
  const undo = async ({ about, id }: Move): Promise<void> => {
    if ((await attempt(() => post(`detection/learned/${about === 'incidents' ? 'incidents/' : ''}${id}/undo`, {}), 'Taken back.')) && reload) setTimeout(reload, SETTLED_MS)
  }
  const [all, show] = useState(false)
  if (!items.length) return <p class="soft">Nothing has been learned yet.</p>
  return (
    <>
    <ul class="moves">
      {items.slice(0, all ? Infinity : SHOWN).map((move) => (
        <li key={`${move.about} ${move.id}`} class={move.undone ? 'faint' : ''}>
          <span class="number soft">
            <At time={move.time} seconds={false} />
          </span>
          <span class="grow">
            {move.why} <span class="soft"><Target move={move} />{`: ${told(move.before)} → ${told(move.after)}${move.actor && `, ${move.actor}`}`}</span>
          </span>
          {move.undone ? (
            <span class="soft">undone</span>
          ) : (
            reload && (
              <Button disabled={!mayAct()} onClick={() => void undo(move)}>
                Undo
              </Button>
            )
          )}
        </li>
      ))}
    </ul>
    <More count={items.length - SHOWN} what="changes" all={all} toggle={() => show(!all)} />
    </>
  )
}
