/** What else one can say of an incident: mitigated, how bad, whose; and its post-mortem draft. */
import { useEffect, useState } from 'preact/hooks'
import { getText, mayAct, Problem } from '../core/api'
import { act } from '../core/incidents'
import { useCommands } from '../core/keys'
import type { OnCall } from '../core/oncall'
import { useResource } from '../core/resource'
import type { Incident, Severity } from '../core/types'
import { Button, Copyable, Trouble, Waiting } from './bits'
import { Dialog } from './dialog'
import { attempt } from './toast'

const SEVERITIES = ['critical', 'high', 'warning', 'info'] as const

export function Handling({ incident }: { incident: Incident }) {
  const [asked, ask] = useState<'teams' | 'postmortem' | null>(null)
  const { id, status } = incident
  const may = mayAct()
  const why = may ? undefined : 'Your token may only read; this needs the role operator'
  const mitigate = (): void => void attempt(() => act(id, 'mitigate'), `${id} is mitigated.`)
  const rate = (severity: string): void => void attempt(() => act(id, 'severity', { severity: severity as Severity }), `${id} is ${severity}.`)
  const unmitigated = status === 'open' || status === 'acknowledged'
  useCommands(
    [
      { key: 'p', label: `Post-mortem of ${id}`, run: () => ask('postmortem') },
      ...(may && unmitigated ? [{ key: '', label: `${id} is mitigated`, run: mitigate }] : []),
      ...(may ? [{ key: '', label: `Set the teams of ${id}`, run: () => ask('teams') }] : []),
    ],
    [id, status, may],
  )
  return (
    <div class="actions">
      <label class="rating">
        <span class="hidden">Severity</span>
        <select value={incident.severity} disabled={!may} title={why} onChange={(event) => rate(event.currentTarget.value)}>
          {SEVERITIES.map((each) => (
            <option value={each}>{each}</option>
          ))}
        </select>
      </label>
      <Button onClick={() => ask('teams')} disabled={!may} title={why}>
        {incident.teams.join(', ') || 'No team'}
      </Button>
      {unmitigated && (
        <Button onClick={mitigate} disabled={!may} title={why}>
          Mitigated
        </Button>
      )}
      <Button onClick={() => ask('postmortem')} hint="p">
        Post-mortem
      </Button>
      {asked === 'teams' && <TeamsDialog incident={incident} onClose={() => ask(null)} />}
      {asked === 'postmortem' && <PostMortem id={id} onClose={() => ask(null)} />}
    </div>
  )
}

function TeamsDialog({ incident, onClose }: { incident: Incident; onClose: () => void }) {
  const { data, problem } = useResource<OnCall>('oncall', 'oncall')
  const [teams, setTeams] = useState<readonly string[]>(incident.teams)
  const known = [...new Set([...(data?.teams.map(({ name }) => name) ?? []), ...incident.teams])]
  const save = (): void => {
    onClose()
    void attempt(() => act(incident.id, 'teams', { teams: [...teams] }), teams.length ? `${incident.id} belongs to ${teams.join(', ')}.` : `${incident.id} belongs to no team.`)
  }
  return (
    <Dialog title={`Whose is ${incident.id}?`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          save()
        }}
      >
        {problem && <Trouble problem={problem} />}
        {!data && !problem && <Waiting what="the teams" />}
        {data && !known.length && (
          <p class="soft">
            There is no team yet; make one on <a href="/on-call/people">On-call</a>.
          </p>
        )}
        <div class="checks" role="group" aria-label="Teams">
          {known.map((name) => (
            <label class="check" key={name}>
              <input type="checkbox" checked={teams.includes(name)} onChange={(event) => setTeams(event.currentTarget.checked ? [...teams, name] : teams.filter((each) => each !== name))} /> {name}
            </label>
          ))}
        </div>
        <div class="form-end">
          <Button type="submit" kind="primary">
            Save
          </Button>
        </div>
      </form>
    </Dialog>
  )
}

/** The draft as Markdown, to copy or to download. */
function PostMortem({ id, onClose }: { id: string; onClose: () => void }) {
  const [found, setFound] = useState<string | Problem | null>(null)
  const path = `incidents/${id}/postmortem`
  useEffect(() => {
    getText(path).then(setFound, (error: unknown) => {
      if (!(error instanceof Problem)) throw error
      setFound(error)
    })
  }, [path])
  return (
    <Dialog title={`Post-mortem of ${id}`} onClose={onClose} size="huge">
      {found === null && <Waiting what="the draft" />}
      {found instanceof Problem && <Trouble problem={found} />}
      {typeof found === 'string' && (
        <>
          <p class="soft">The facts of the record; the rest is to be written.</p>
          <Copyable text={found} label="Post-mortem draft" />
          <p>
            <a class="button" href={`/api/v1/${path}`} download={`${id}.md`}>
              Download
            </a>
          </p>
        </>
      )}
    </Dialog>
  )
}
