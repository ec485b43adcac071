/** The keys of the moment. */
import { commands } from '../core/keys'
import { Key } from './bits'
import { Dialog } from './dialog'

const ALWAYS = [
  ['ctrl K', 'Command palette (⌘K on a Mac)'],
  ['j', 'Next incident'],
  ['k', 'Previous incident'],
  ['Escape', 'Close, or leave a field'],
] as const

export function Help({ version, onClose }: { version: string; onClose: () => void }) {
  const now = commands.value.filter(({ key, quiet }) => key && !quiet)
  return (
    <Dialog title="Keyboard" onClose={onClose}>
      <dl class="keys">
        {[...ALWAYS, ...now.map(({ key, label }) => [key, label] as const)].map(([key, label]) => (
          <div>
            <dt>
              <Key>{key}</Key>
            </dt>
            <dd>{label}</dd>
          </div>
        ))}
      </dl>
      <p class="soft">
        Ninefold {version}, Apache-2.0. <a href="/licenses.txt">Licences of the console’s parts</a>. <a href="/api/v1/openapi.json">API</a>.
      </p>
    </Dialog>
  )
}
