/** Documentation as the server writes it: paragraphs, lists, tables, blocks of code. */
import type { ComponentChildren } from 'preact'

/** A line with code between backticks, and links by their words. */
export function inline(text: string): ComponentChildren {
  const plain = text.replace(/\[([^\]]+)\]\([^)]*\)/g, '$1')
  return plain.split(/(``.+?``|`[^`]+`)/).map((part) => (part.startsWith('`') ? <code>{part.replace(/^`+|`+$/g, '')}</code> : part))
}

const cells = (line: string): string[] => line.replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim())

function Table({ lines }: { lines: readonly string[] }) {
  const [head = '', , ...rows] = lines
  return (
    <div class="table-wrap">
      <table class="table prose-table">
        <thead>
          <tr>
            {cells(head).map((cell) => (
              <th>{inline(cell)}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>
              {cells(row).map((cell) => (
                <td class="wrap">{inline(cell)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** The blocks of a text: what stands between empty lines, a fenced block as one. */
export const blocks = (text: string): string[] => text.match(/```[\s\S]*?```|(?:(?!```)[^\n]+(?:\n|$))+/g)?.map((block) => block.trimEnd()) ?? []

function Block({ text }: { text: string }) {
  const lines = text.split('\n')
  if (text.startsWith('```')) return <pre tabIndex={0} aria-label="Example">{lines.slice(1, -1).join('\n')}</pre>
  if (lines.every((line) => line.startsWith('    '))) return <pre tabIndex={0} aria-label="Example">{lines.map((line) => line.slice(4)).join('\n')}</pre>
  if (lines.length > 2 && lines.every((line) => line.startsWith('|'))) return <Table lines={lines} />
  if (lines[0]?.startsWith('- ')) {
    return (
      <ul class="dashes">
        {text.split(/\n(?=- )/).map((item) => (
          <li>{inline(item.slice(2))}</li>
        ))}
      </ul>
    )
  }
  return <p>{inline(text)}</p>
}

export function Prose({ text }: { text: string }) {
  return (
    <div class="prose">
      {blocks(text).map((block) => (
        <Block text={block} />
      ))}
    </div>
  )
}
