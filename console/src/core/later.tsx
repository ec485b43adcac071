/** Pages that are loaded when they are wanted, or before, when the browser has nothing else to do. */
import type { ComponentType } from 'preact'
import { useLayoutEffect, useState } from 'preact/hooks'
import { Problem } from './api'
import { holdKeys } from './keys'
import { Trouble, Waiting } from '../parts/bits'
import { Page } from '../parts/page'

const RELOADED = 'ninefold.reloaded'
const IDLE_MS = 3000
const loads: { root: string; load: () => Promise<unknown> }[] = []

/**
 * A page that stands in a file of its own. When the file is gone because the server was updated, the console is loaded again, once.
 *
 * @param root the first part of its address
 * @param title the page's title until it is there; empty for a part of a page
 * @param load imports the page
 */
export function later<Props extends object>(root: string, title: string, load: () => Promise<ComponentType<Props>>): ComponentType<Props> {
  let page: ComponentType<Props> | undefined
  const fetch = async (): Promise<ComponentType<Props>> => (page ??= await load())
  loads.push({ root, load: fetch })
  return function Later(props: Props) {
    const [, arrived] = useState(page !== undefined)
    const [failed, fail] = useState(false)
    const begin = (): void => {
      fail(false)
      fetch().then(
        () => {
          sessionStorage.removeItem(RELOADED)
          arrived(true)
        },
        () => {
          if (sessionStorage.getItem(RELOADED)) return fail(true)
          sessionStorage.setItem(RELOADED, 'yes')
          location.reload()
        },
      )
    }
    useLayoutEffect(() => {
      if (page) return
      begin()
      return holdKeys()
    }, [page])
    if (page) {
      const Found = page
      return <Found {...props} />
    }
    const trouble = failed && <Trouble problem={new Problem(0, `This ${title ? 'page' : 'part'} could not be loaded; the server may be restarting.`)} retry={begin} />
    return title ? <Page title={title}>{trouble || <Waiting what="the page" />}</Page> : <>{trouble}</>
  }
}

/** Load those of the address at once, and all others while nothing else is to be done. */
export function loadAhead(): void {
  const some = (wanted: (root: string) => boolean): void => {
    for (const { root, load } of loads) if (wanted(root)) load().catch(() => undefined) // asked again when the page is wanted
  }
  const here = location.pathname.split('/')[1]
  some((root) => root === here)
  if ('requestIdleCallback' in window) requestIdleCallback(() => some(() => true), { timeout: IDLE_MS })
  else setTimeout(() => some(() => true), IDLE_MS)
}
