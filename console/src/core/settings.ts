/** Settings of a source as a form: what its JSON schema asks for, what was typed, and what that makes. */
import type { Schema } from './source'

/** One field of a form; `path` leads to it through nested tables. */
export interface Setting {
  path: string[]
  name: string
  about: string
  required: boolean
  secret: boolean
  control: 'text' | 'number' | 'flag' | 'choice' | 'lines' | 'json'
  choices: (string | number)[]
  initial: unknown
}

const REFERENCE = /^#\/\$defs\//
const NUMBERS = ['integer', 'number']

/** What a schema really is: references and "or nothing" removed. */
function plainly(schema: Schema, root: Schema): Schema {
  const chosen = schema.anyOf ? (schema.anyOf.find(({ type }) => type !== 'null') ?? schema) : schema
  const target = chosen.$ref ? (root.$defs?.[chosen.$ref.replace(REFERENCE, '')] ?? {}) : chosen
  return { ...target, ...(schema.description ? { description: schema.description } : {}), ...('default' in schema ? { default: schema.default } : {}) }
}

function controlOf({ type, enum: choices, items }: Schema, root: Schema): Setting['control'] {
  if (choices) return 'choice'
  if (type === 'boolean') return 'flag'
  if (type && NUMBERS.includes(type)) return 'number'
  if (type === 'array' && items && plainly(items, root).type === 'string') return 'lines'
  return type === 'string' ? 'text' : 'json'
}

/** Every field of a schema, nested ones by their path; required ones first. */
export function settingsOf(root: Schema): Setting[] {
  const walk = (schema: Schema, path: string[], needed: boolean): Setting[] =>
    Object.entries(schema.properties ?? {}).flatMap(([key, raw]) => {
      const found = plainly(raw, root)
      const place = [...path, key]
      const required = needed && Boolean(schema.required?.includes(key))
      if (found.properties) return walk(found, place, required)
      return [
        {
          path: place,
          name: place.join('.'),
          about: found.description ?? '',
          required,
          secret: found.format === 'password',
          control: controlOf(found, root),
          choices: found.enum ?? [],
          initial: found.default,
        },
      ]
    })
  const all = walk(root, [], true)
  return [...all.filter(({ required }) => required), ...all.filter(({ required }) => !required)]
}

export type Typed = Record<string, string | boolean>
export type Table = { [key: string]: unknown }

/** The value of what was typed; undefined when nothing was, or what is there anyway. */
function valueOf(setting: Setting, typed: string | boolean | undefined): unknown {
  if (typed === undefined || typed === '') return undefined
  if (typeof typed === 'boolean') return typed === Boolean(setting.initial) ? undefined : typed
  switch (setting.control) {
    case 'number':
      return Number(typed)
    case 'choice':
      return setting.choices.find((choice) => String(choice) === typed)
    case 'lines':
      return typed
        .split('\n')
        .map((line) => line.trim())
        .filter(Boolean)
    case 'json':
      return JSON.parse(typed) as unknown
    default:
      return typed
  }
}

/** What a form says: the settings that differ from their defaults, those that are missing or wrong, and where the secrets are. */
export function filled(settings: readonly Setting[], typed: Typed): { table: Table; wrong: Record<string, string>; secrets: Setting[] } {
  const table: Table = {}
  const wrong: Record<string, string> = {}
  const secrets: Setting[] = []
  for (const setting of settings) {
    try {
      const value = valueOf(setting, typed[setting.name])
      if (value === undefined) {
        if (setting.required) wrong[setting.name] = 'is needed'
        continue
      }
      place(table, setting.path, value)
      if (setting.secret) secrets.push(setting)
    } catch {
      wrong[setting.name] = 'is not JSON'
    }
  }
  return { table, wrong, secrets }
}

function place(table: Table, [key = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length) place((table[key] ??= {}) as Table, rest, value)
  else table[key] = value
}

/** The environment variable that holds a secret of a source. */
export const variable = (source: string, { path }: Setting): string => [source, ...path].join('_').toUpperCase().replace(/[^A-Z0-9_]/g, '_')

/** The settings with references to the environment in place of secrets. */
export function withoutSecrets(source: string, table: Table, secrets: readonly Setting[]): Table {
  const copy = structuredClone(table)
  for (const secret of secrets) place(copy, secret.path, `\${${variable(source, secret)}}`)
  return copy
}
