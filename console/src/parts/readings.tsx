/** Stored records as they were read and as the mapping on the screen reads them. */
import type { Problem } from '../core/api'
import { plain, plural } from '../core/format'
import type { Preview, Reading } from '../core/source'
import { Badge, Section } from './bits'
import { Shape } from './icons'

/** The preview of a mapping; while one types, the last one that could be read stays. */
export function Readings({ preview, problem }: { preview: Preview | null; problem: Problem | null }) {
  const first = preview?.items.findIndex(({ changed, error }) => changed.length || error) ?? -1
  return (
    <Section title="Preview" note={preview?.items.length ? `the newest ${plural(preview.items.length, 'stored record')}: ${summary(preview)}` : undefined}>
      {problem && (
        <p class="bad-text" role="status">
          {problem.message}
        </p>
      )}
      {preview && !preview.items.length && <p class="soft">No record of this mapping is stored yet: send one, and see here how it is read.</p>}
      {preview && preview.items.length > 0 && (
        <ul class="quarantine readings">
          {preview.items.map((item, place) => (
            <li key={item.id}>
              <details open={place === first}>
                <summary>
                  <Shape health={item.error ? 'high' : item.changed.length ? 'info' : 'good'} size={9} label={item.error ? 'cannot be read' : item.changed.length ? 'read differently' : 'the same'} />
                  <span class="cut grow">{String((item.after ?? item.before).title ?? '')}</span>
                  {item.error ? <Badge tone="critical">cannot be read</Badge> : item.changed.map((field) => <Badge tone="accent">{field}</Badge>)}
                </summary>
                <div class="reading">
                  {item.error ? <p class="bad-text">{item.error}</p> : <Compare before={item.before} after={item.after ?? {}} changed={item.changed} />}
                  <pre tabIndex={0} aria-label="The record as it came">
                    {pretty(item.raw)}
                  </pre>
                </div>
              </details>
            </li>
          ))}
        </ul>
      )}
    </Section>
  )
}

function summary({ changed, failed }: Preview): string {
  const parts = [changed ? `${changed} read differently` : 'none read differently', failed ? `${failed} cannot be read` : '']
  return parts.filter(Boolean).join(', ')
}

function pretty(raw: string): string {
  try {
    return JSON.stringify(JSON.parse(raw), null, 2)
  } catch {
    return raw
  }
}

function Compare({ before, after, changed }: { before: Reading; after: Reading; changed: readonly string[] }) {
  return (
    <table class="table compare">
      <thead>
        <tr>
          <th>Field</th>
          <th>As it was read</th>
          <th>By this mapping</th>
        </tr>
      </thead>
      <tbody>
        {Object.keys(before).map((field) => {
          const differs = changed.includes(field)
          return (
            <tr key={field} class={differs ? 'differs' : ''}>
              <td>{differs ? <strong>{field}</strong> : <span class="soft">{field}</span>}</td>
              <td class="wrap soft">{plain(before[field]) || '–'}</td>
              <td class={differs ? 'wrap' : 'wrap soft'}>{differs ? plain(after[field]) || '–' : 'the same'}</td>
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}
