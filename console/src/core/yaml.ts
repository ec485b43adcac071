/** Plain data as YAML, as little quoted as is safe. */

const PLAIN = /^[A-Za-z_][\w ./@-]*(?<! )$/
const WORDS = new Set(['true', 'false', 'null', 'yes', 'no', 'on', 'off', 'y', 'n'])

function scalar(value: unknown): string {
  if (typeof value === 'string' && PLAIN.test(value) && !WORDS.has(value.toLowerCase())) return value
  return JSON.stringify(value) ?? 'null'
}

/** YAML of tables, lists and scalars, in their order. */
export function toYaml(value: unknown, indent = ''): string {
  if (Array.isArray(value)) return value.map((item) => `${indent}- ${nested(item, `${indent}  `).trimStart()}`).join('')
  return Object.entries(value as object)
    .map(([key, item]) => `${indent}${scalar(key)}:${nested(item, `${indent}  `)}`)
    .join('')
}

function nested(item: unknown, indent: string): string {
  if (item === null || typeof item !== 'object') return ` ${scalar(item)}\n`
  const empty = Array.isArray(item) ? !item.length : !Object.keys(item).length
  if (empty) return Array.isArray(item) ? ' []\n' : ' {}\n'
  return `\n${toYaml(item, indent)}`
}
