// Bundles the console into the folder given as the only argument: hashed files, one index.html, the licences of what is inside.
import { build } from 'esbuild'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'

const out = process.argv[2] ?? '../src/ninefold/web/static'
await mkdir(out, { recursive: true })

const { metafile } = await build({
  entryPoints: { app: 'src/main.tsx', theme: 'src/theme.ts', icon: 'src/icon.svg' },
  outdir: out,
  bundle: true,
  splitting: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  loader: { '.woff2': 'file', '.svg': 'copy' },
  entryNames: '[name]-[hash]',
  chunkNames: '[name]-[hash]',
  assetNames: '[name]-[hash]',
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
})

const files = Object.keys(metafile.outputs).map((path) => basename(path))
const named = (start, end) => files.find((file) => file.startsWith(start) && file.endsWith(end))
// What the first page needs beside its own script; the browser would otherwise learn of it only when it has read that.
const needed = metafile.outputs[Object.keys(metafile.outputs).find((path) => basename(path) === named('app-', '.js'))].imports
  .filter(({ kind, external }) => kind === 'import-statement' && !external)
  .map(({ path }) => `<link rel="modulepreload" href="/${basename(path)}" />`)
const page = await readFile('src/index.html', 'utf8')
const links = {
  THEME: named('theme-', '.js'),
  APP: named('app-', '.js'),
  STYLE: named('app-', '.css'),
  FONT: named('inter-', '.woff2'),
  ICON: named('icon-', '.svg'),
}
const index = page.replace('%NEEDED%', needed.join('\n    ')).replace(/%(\w+)%/g, (_, name) => `/${links[name]}`)
await writeFile(join(out, 'index.html'), index)

const { dependencies } = JSON.parse(await readFile('package.json', 'utf8'))
const parts = [...Object.keys(dependencies), '@preact/signals-core'].map(async (name) => {
  const { version, license } = JSON.parse(await readFile(`node_modules/${name}/package.json`, 'utf8'))
  return `${name} ${version} (${license})\n\n${await readFile(`node_modules/${name}/LICENSE`, 'utf8')}`
})
await writeFile(join(out, 'licenses.txt'), (await Promise.all(parts)).join(`\n${'-'.repeat(80)}\n\n`))
