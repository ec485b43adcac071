/** What moved thresholds and why, each with its way back. */
import type { Move } from '../core/anomalies'
import { mayAct, post } from '../core/api'
import { At, Button } from './bits'
import { attempt } from './toast'

const SETTLED_MS = 1500

const told = (value: Move['before']): string =>
  typeof value === 'number'
    ? value.toFixed(2)
    : Object.entries(value)
        .map(([name, each]) => `${name} ${each}`)
        .join(', ')

export function Moves({ items, reload }: { items: readonly Move[]; reload?: () => void }) {
  const undo = async ({ id }: Move): Promise<void> => {
    if ((await attempt(() => post(`detection/learned/${id}/undo`, {}), 'Taken back.')) && reload) setTimeout(reload, SETTLED_MS)
  }
  if (!items.length) return <p class="soft">Nothing has moved the thresholds.</p>
  return (
    <ul class="moves">
      {items.map((move) => (
        <li key={move.id} class={move.undone ? 'faint' : ''}>
          <span class="number soft">
            <At time={move.time} seconds={false} />
          </span>
          <span class="grow">
            {move.why} <span class="soft">{`${move.scope}${move.target && ` ${move.target}`}: ${told(move.before)} → ${told(move.after)}${move.actor && `, ${move.actor}`}`}</span>
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
  )
}
