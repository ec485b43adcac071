/** The way in: a token, typed or carried by the link that Ninefold prints at its first start. */
import { useEffect, useState } from 'preact/hooks'
import { Problem, signIn } from '../core/api'
import { Button } from '../parts/bits'
import { Logo } from '../parts/icons'

export function LoginPage({ said }: { said: string }) {
  const [token, setToken] = useState('')
  const [problem, setProblem] = useState(said)
  const [busy, setBusy] = useState(false)
  useEffect(() => {
    document.title = 'Sign in · Ninefold'
  }, [])
  const enter = async (): Promise<void> => {
    setBusy(true)
    setProblem('')
    try {
      await signIn(token.trim())
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      setProblem(error.message)
      setBusy(false)
    }
  }
  return (
    <main class="login">
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void enter()
        }}
      >
        <h1>
          <Logo /> Ninefold
        </h1>
        <label>
          Token
          <input
            type="password"
            autocomplete="current-password"
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
            aria-describedby="token-help"
            autoFocus
            required
          />
        </label>
        {problem && (
          <p class="bad-text" role="alert">
            {problem}
          </p>
        )}
        <Button type="submit" kind="primary" disabled={busy}>
          Sign in
        </Button>
        <p class="soft" id="token-help">
          Ninefold printed a token when it started for the first time. On the machine it runs on, make another one with
        </p>
        <pre tabIndex={0} aria-label="Command to run there">
          ninefold token create my-name --role operator --data ninefold-data
        </pre>
      </form>
    </main>
  )
}
