/** The navigation that stands on every page. */
import { useState } from 'preact/hooks'
import { me, signOut } from '../core/api'
import { useCommands } from '../core/keys'
import { forget, useResource } from '../core/resource'
import { go, path } from '../core/router'
import { measured, STEPS } from '../core/steps'
import { theme, toggleTheme } from '../core/theme'
import type { RoadmapStep, Summary } from '../core/types'
import { Key } from './bits'
import { Help } from './help'
import { Leave, Logo, Moon, Question, Sun } from './icons'
import { Palette } from './palette'
import { attempt } from './toast'

/** Every page one can go to, with its key after `g`. */
export const PLACES = [
  { key: 'i', href: '/incidents', name: 'Incidents', also: [] },
  { key: 'l', href: '/alerts', name: 'Alerts', also: [] },
  { key: 'm', href: '/mutes', name: 'Mutes', also: [] },
  { key: 'o', href: '/on-call', name: 'On-call', also: [] },
  { key: 'a', href: '/anomalies', name: 'Anomalies', also: [] },
  { key: 'e', href: '/explore', name: 'Explore', also: [] },
  { key: 'w', href: '/workflows', name: 'Workflows', also: ['/runs'] },
  { key: 's', href: '/sources', name: 'Sources', also: [] },
  { key: 'q', href: '/query', name: 'Query', also: [] },
  { key: 'r', href: '/roadmap', name: 'Roadmap', also: [] },
] as const

const isHere = ({ href, also }: (typeof PLACES)[number]): boolean => [href, ...also].some((root) => path.value === root || path.value.startsWith(`${root}/`))

export function Shell() {
  const [shown, show] = useState<'palette' | 'help' | null>(null)
  const { data: roadmap } = useResource<{ steps: RoadmapStep[] }>('roadmap', 'source', 'incident', 'run')
  const { data: summary } = useResource<Summary>('summary', 'incident', 'alert', 'approval', 'source')
  const leave = (): void => void attempt(signOut).then(forget)
  const other = theme.value === 'dark' ? 'light' : 'dark'

  useCommands(
    [
      ...PLACES.map(({ key, href, name }) => ({ key: `g ${key}`, label: `Go to ${name}`, run: () => go(href) })),
      { key: 'palette', label: 'Command palette', run: () => show('palette'), quiet: true },
      { key: '?', label: 'Keyboard help', run: () => show('help') },
      { key: 't', label: `Use the ${other} theme`, run: toggleTheme },
      { key: '', label: 'Sign out', run: leave },
    ],
    [other],
  )

  return (
    <>
      <a class="skip" href="#content">
        Skip to the content
      </a>
      <nav class="shell" aria-label="Ninefold">
        <a class="brand" href="/incidents">
          <Logo /> Ninefold
        </a>
        <ul class="places">
          {PLACES.map((each) => (
            <li key={each.key}>
              <a href={each.href} aria-current={isHere(each) ? 'page' : undefined}>
                <span>{each.name}</span>
                {each.key === 'w' && summary && summary.approvals_waiting > 0 && (
                  <span class="waiting-count" title="approvals waiting">
                    {summary.approvals_waiting}
                  </span>
                )}
                <Key>{`g ${each.key}`}</Key>
              </a>
            </li>
          ))}
        </ul>
        <div class="nine">
          <h2>Nine steps</h2>
          <ol>
            {STEPS.map((name, index) => {
              const done = measured(roadmap?.steps.find((step) => step.number === index + 1))
              return (
                <li key={name}>
                  <a href={`/roadmap/${index + 1}`} class={done ? 'measured' : ''} aria-current={path.value === `/roadmap/${index + 1}` ? 'page' : undefined}>
                    <span class={`step-number ${done ? 'measured' : ''}`} aria-hidden="true">
                      {index + 1}
                    </span>
                    <span class="cut">{name}</span>
                    <span class="hidden">{done ? 'measured' : 'not measured yet'}</span>
                  </a>
                </li>
              )
            })}
          </ol>
        </div>
        <div class="foot">
          <button type="button" class="button small palette-button" onClick={() => show('palette')}>
            Go to or do … <Key>{navigator.platform.startsWith('Mac') ? '⌘K' : 'ctrl K'}</Key>
          </button>
          <span class="who cut" title={`${me.value?.name}, ${me.value?.role}`}>
            {me.value?.name} <span class="soft">{me.value?.role}</span>
          </span>
          <button type="button" class="icon-button" aria-label={`Use the ${other} theme`} title={`Use the ${other} theme (t)`} onClick={toggleTheme}>
            {other === 'light' ? <Sun /> : <Moon />}
          </button>
          <button type="button" class="icon-button" aria-label="Keyboard help" title="Keyboard help (?)" onClick={() => show('help')}>
            <Question />
          </button>
          <button type="button" class="icon-button" aria-label="Sign out" title="Sign out" onClick={leave}>
            <Leave />
          </button>
        </div>
      </nav>
      {shown === 'palette' && <Palette onClose={() => show(null)} />}
      {shown === 'help' && <Help version={summary?.version ?? ''} onClose={() => show(null)} />}
    </>
  )
}
