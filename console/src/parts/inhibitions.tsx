/** Inhibitions: which alerts hide others while they fire. */
import {  useState } from 'preact/hooks'
import { readMatchers, type Inhibition, type Settings } from '../core/alerts'
import { mayAct, put, remove } from '../core/api'
import { refresh, useResource } from '../core/resource'
import { Button, Empty, Section, Trouble, Waiting } from './bits'
import { Dialog } from './dialog'
import { attempt } from './toast'

const lines = (text: string): string[] => text.split('\n').map((line) => line.trim()).filter(Boolean)

export function Inhibitions() {
  const { data, problem, reload } = useResource<Settings<Inhibition>>('inhibitions', 'mute', 'incident')
  const [open, show] = useState<{ known?: Inhibition } | null>(null)
  const may = mayAct()
  const drop = async (name: string): Promise<void> => {
    if (await attempt(() => remove(`inhibitions/${encodeURIComponent(name)}`).then(() => true), `The inhibition ${name} is gone; what still fires is seen again.`)) refresh()
  }
  if (!data) return problem ? <Trouble problem={problem} retry={reload} /> : <Waiting what="the inhibitions" />
  return (
    <>
      <Section title="Inhibitions">
        <p class="soft">
          While an alert on the left fires, those on the right are hidden, if they have the same values of the labels named.{' '}
          <Button onClick={() => show({})} disabled={!may} title={may ? undefined : 'Your token may only read; this needs the role operator'}>
            New inhibition
          </Button>
        </p>
        {!data.items.length && <Empty title="No alert inhibits others." />}
        {data.items.length > 0 && (
          <div class="table-wrap">
            <table class="table" aria-label="Inhibitions">
              <thead>
                <tr>
                  <th>Name</th>
                  <th>While this fires</th>
                  <th>These are hidden</th>
                  <th>Equal</th>
                  <th>From</th>
                  <th class="number">Hides</th>
                  <th />
                </tr>
              </thead>
              <tbody>
                {data.items.map((one) => (
                  <tr key={one.name}>
                    <td>{one.name}</td>
                    <td class="wrap">
                      <code>{one.source_matchers.join(', ')}</code>
                    </td>
                    <td class="wrap">
                      <code>{one.target_matchers.join(', ')}</code>
                    </td>
                    <td class="wrap">{one.equal.join(', ')}</td>
                    <td>{one.author || 'the configuration'}</td>
                    <td class="number">{one.hides}</td>
                    <td>
                      {one.origin === 'saved' && may && (
                        <div class="verdicts">
                          <Button onClick={() => show({ known: one })}>Change</Button>
                          <Button kind="danger" onClick={() => void drop(one.name)}>
                            Remove
                          </Button>
                        </div>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Section>
      {open && <Editor {...open} onClose={() => show(null)} />}
    </>
  )
}

function Editor({ known, onClose }: { known?: Inhibition; onClose: () => void }) {
  const [name, setName] = useState(known?.name ?? '')
  const [source, setSource] = useState(known?.source_matchers.join('\n') ?? '')
  const [target, setTarget] = useState(known?.target_matchers.join('\n') ?? '')
  const [equal, setEqual] = useState(known?.equal.join(', ') ?? '')
  const wrong = [source, target].map(readMatchers).find((read) => typeof read === 'string')
  const save = async (): Promise<void> => {
    const body = {
      source_matchers: lines(source),
      target_matchers: lines(target),
      equal: equal.split(/[,\s]+/).filter(Boolean),
      version: known?.version ?? 0,
    }
    if (!(await attempt(() => put(`inhibitions/${encodeURIComponent(name)}`, body).then(() => true), `The inhibition ${name} is saved.`))) return
    refresh()
    onClose()
  }
  return (
    <Dialog title={`${known ? 'Change the' : 'New'} inhibition`} onClose={onClose} size="wide">
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          void save()
        }}
      >
        <label>
          Name
          <input required maxLength={100} pattern="[^\s\/][^\/]*" value={name} disabled={Boolean(known)} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <label>
          While alerts fire that these matchers fit, one a line
          <textarea rows={3} required value={source} onInput={(event) => setSource(event.currentTarget.value)} spellcheck={false} />
        </label>
        <label>
          Hide those that these fit, one a line
          <textarea rows={3} required value={target} onInput={(event) => setTarget(event.currentTarget.value)} spellcheck={false} />
        </label>
        <label>
          Labels that must be equal
          <input maxLength={500} placeholder="node, service" value={equal} onInput={(event) => setEqual(event.currentTarget.value)} />
        </label>
        {wrong && <p class="trouble">{wrong}</p>}
        <div class="form-end">
          <Button type="submit" kind="primary" disabled={Boolean(wrong)}>
            Save
          </Button>
        </div>
      </form>
    </Dialog>
  )
}
