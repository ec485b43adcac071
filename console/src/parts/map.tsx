/** Who needs whom, laid out by the server in layers from left to right; what is affected stands out. */
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { MapNode, ServiceMap } from '../core/types'

const ROW = 38
const ROOMY = 560
const SIDE = 52
const TOP = 26

interface Placed extends MapNode {
  px: number
  py: number
}

function curve(a: Placed, b: Placed): string {
  const middle = (a.px + b.px) / 2
  return `M${a.px} ${a.py}C${middle} ${a.py} ${middle} ${b.py} ${b.px} ${b.py}`
}

function heightOf(nodes: readonly MapNode[]): number {
  const layers = new Map<number, number>()
  for (const { x } of nodes) {
    const layer = Math.round(x * 100)
    layers.set(layer, (layers.get(layer) ?? 0) + 1)
  }
  return Math.min(520, Math.max(150, Math.max(0, ...layers.values()) * ROW + 2 * TOP))
}

function Mark({ node }: { node: Placed }) {
  const { px, py } = node
  if (node.state === 'cause') {
    return (
      <>
        <circle class="halo" cx={px} cy={py} r="10" />
        <path d={`M${px} ${py - 7}l6.6 12h-13.2Z`} />
      </>
    )
  }
  if (node.state === 'affected') return <path d={`M${px} ${py - 5.6}l5.6 5.6-5.6 5.6-5.6-5.6Z`} />
  if (node.state === 'silent') return <circle class="hollow" cx={px} cy={py} r="4" />
  return <circle cx={px} cy={py} r="4" />
}

const short = (label: string): string => (label.length > 18 ? `${label.slice(0, 17)}…` : label)

const WORDS: Record<MapNode['state'], string> = {
  cause: 'probable cause',
  affected: 'affected',
  silent: 'silent',
  healthy: 'healthy',
}

/** The map as one drawing: a path for all calm edges, one dashed path for all affected ones. */
export function AffectedMap({ map, label }: { map: ServiceMap; label: string }) {
  const [near, setNear] = useState('')
  const [width, setWidth] = useState(640)
  const box = useRef<HTMLElement>(null)
  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    const watch = new ResizeObserver(() => setWidth(element.clientWidth))
    watch.observe(element)
    return () => watch.disconnect()
  }, [])
  const height = heightOf(map.nodes)
  const nodes = map.nodes.map((node) => ({ ...node, px: SIDE + node.x * (width - 2 * SIDE), py: TOP + node.y * (height - 2 * TOP) }))
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const path = (chosen: (edge: ServiceMap['edges'][number]) => boolean): string =>
    map.edges
      .filter(chosen)
      .map(({ from, to }) => {
        const [a, b] = [byId.get(from), byId.get(to)]
        return a && b ? curve(a, b) : ''
      })
      .join('')
  const states = (Object.keys(WORDS) as MapNode['state'][]).filter((state) => nodes.some((node) => node.state === state))
  const told = nodes.filter(({ state }) => state === 'cause' || state === 'affected').map(({ label: name, state }) => `${name}: ${WORDS[state]}`)

  return (
    <figure class={`map ${width < ROOMY ? 'tight' : ''}`} ref={box}>
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${label}. ${told.join(', ')}`} onMouseLeave={() => setNear('')}>
        <path class="edge" d={path((edge) => !edge.affected)} />
        <path class="edge affected" d={path((edge) => edge.affected)} />
        {near && <path class="edge near" d={path(({ from, to }) => from === near || to === near)} />}
        {nodes.map((node) => (
          <g key={node.id} class={`node ${node.state} ${node.id === near ? 'near' : ''}`} onMouseEnter={() => setNear(node.id)}>
            <title>{`${node.id}: ${WORDS[node.state]}`}</title>
            <Mark node={node} />
            <text x={node.px} y={node.py - 11}>
              {node.id === near ? node.label : short(node.label)}
            </text>
          </g>
        ))}
      </svg>
      <figcaption>
        {states.map((state) => (
          <span class={`legend ${state}`}>
            <svg viewBox="-8 -8 16 16" width="12" height="12" aria-hidden="true" class={`node ${state}`}>
              <Mark node={{ id: '', label: '', x: 0, y: 0, px: 0, py: 0, state }} />
            </svg>
            {WORDS[state]}
          </span>
        ))}
      </figcaption>
    </figure>
  )
}
