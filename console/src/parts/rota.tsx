/** Who is on call over the coming days: one line a schedule, a bar a shift, gaps marked. */
import { clockTime, epoch } from '../core/format'
import type { OnCall, Schedule } from '../core/oncall'

const DAY_S = 86_400
const TONES = ['accent', 'info', 'good', 'warning', 'high'] as const

export function Rota({ whole }: { whole: OnCall }) {
  const from = epoch(whole.at)
  const length = epoch(whole.end) - from
  const people = whole.people.map(({ name }) => name)
  const share = (time: number): string => `${(100 * Math.min(length, Math.max(0, time - from))) / length}%`
  const midnight = new Date(from * 1000).setHours(24, 0, 0, 0) / 1000
  const days = Array.from({ length: Math.ceil(length / DAY_S) }, (_, index) => midnight + index * DAY_S).filter((day) => day < from + length)
  const bar = (start: number, end: number) => ({ left: share(start), width: `calc(${share(end)} - ${share(start)})` })
  return (
    <div class="rota" role="group" aria-label="The coming two weeks" tabIndex={0}>
      <div class="rota-body">
        <div class="rota-days" aria-hidden="true">
          {days.map((day) => (
            <span key={day} style={{ left: share(day) }}>
              {new Date(day * 1000).toLocaleDateString('en', { weekday: 'short', day: 'numeric' })}
            </span>
          ))}
        </div>
        {whole.schedules.map((each) => (
          <div key={each.name} class="rota-line">
            <strong>{each.title || each.name}</strong>
            <ol aria-label={`Shifts of ${each.name}`}>
              {each.shifts.map((shift) => (
                <li
                  key={`${shift.start}${shift.person}`}
                  class={`shift ${TONES[people.indexOf(shift.person) % TONES.length] ?? 'plain'} ${shift.of === 'override' ? 'instead' : ''}`}
                  style={bar(epoch(shift.start), epoch(shift.end))}
                  title={said(shift.person, shift.start, shift.end, shift.of)}
                >
                  <span aria-hidden="true">{shift.person}</span>
                  <span class="hidden">{said(shift.person, shift.start, shift.end, shift.of)}</span>
                </li>
              ))}
              {each.gaps.map((gap) => (
                <li key={gap.start} class="shift gap critical" style={bar(epoch(gap.start), epoch(gap.end))} title={said('nobody', gap.start, gap.end, '')}>
                  <span class="hidden">{said('nobody', gap.start, gap.end, '')}</span>
                </li>
              ))}
            </ol>
          </div>
        ))}
      </div>
    </div>
  )
}

const said = (who: string, start: string, end: string, of: string): string => `${who}, ${clockTime(start, false)} to ${clockTime(end, false)}${of === 'override' ? ', standing in' : ''}`

/** What is wrong with a schedule, in words. */
export function faults(each: Schedule, people: readonly { name: string; contacts: readonly unknown[] }[]): string[] {
  const silent = new Set(people.filter(({ contacts }) => !contacts.length).map(({ name }) => name))
  const unreachable = [...new Set(each.shifts.map(({ person }) => person).filter((person) => silent.has(person)))]
  const [gap] = each.gaps
  return [
    ...(gap ? [`${each.name}: nobody is on call from ${clockTime(gap.start, false)} to ${clockTime(gap.end, false)}${each.gaps.length > 1 ? `, and ${each.gaps.length - 1} times more` : ''}.`] : []),
    ...(unreachable.length ? [`${each.name}: ${unreachable.join(', ')} cannot be reached; add a contact method.`] : []),
    ...each.problems.map((problem) => `${each.name}: ${problem}.`),
  ]
}
