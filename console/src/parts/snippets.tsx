/** The few lines that point a tool at this Ninefold, with this server's own address in them. */
import { useState } from 'preact/hooks'
import { Copyable } from './bits'

export interface Snippet {
  name: string
  where: string
  text: string
}

const OTLP_PORT = 4318
const SYSLOG_PORT = 5514

/** An alert by hand. */
export const curlAlert = (): Snippet => ({
  name: 'curl',
  where: 'in any shell',
  text: `curl ${location.origin}/api/v2/alerts \\
  -H "Authorization: Bearer $NINEFOLD_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '[{"labels": {"alertname": "DiskWillFill",
                   "service": "checkout", "severity": "critical"},
        "annotations": {"summary": "disk will be full in 9 h"}}]'`,
})

/** Every snippet, first the simplest. */
export function snippets(): Snippet[] {
  const { origin, hostname } = location
  return [
    curlAlert(),
    {
      name: 'Prometheus',
      where: 'prometheus.yml',
      text: `remote_write:
  - url: ${origin}/api/v1/write
    authorization: {credentials_file: /etc/prometheus/ninefold.token}
alerting:
  alertmanagers:
    - static_configs: [{targets: ["${location.host}"]}]
      authorization: {credentials_file: /etc/prometheus/ninefold.token}`,
    },
    {
      name: 'Alertmanager',
      where: 'alertmanager.yml',
      text: `receivers:
  - name: ninefold
    webhook_configs:
      - url: ${origin}/webhook/alertmanager
        http_config: {authorization: {credentials_file: /etc/alertmanager/ninefold.token}}`,
    },
    {
      name: 'OpenTelemetry SDK',
      where: 'the environment of your program',
      text: `export OTEL_SERVICE_NAME=checkout
export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
export OTEL_EXPORTER_OTLP_ENDPOINT=http://${hostname}:${OTLP_PORT}
export OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20$NINEFOLD_TOKEN"`,
    },
    {
      name: 'rsyslog',
      where: '/etc/rsyslog.d/ninefold.conf',
      text: `*.* action(type="omfwd" target="${hostname}" port="${SYSLOG_PORT}" protocol="tcp"
           TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format")`,
    },
  ]
}

/** One snippet with its place and a button that copies it. */
export function Snippet({ snippet }: { snippet: Snippet }) {
  return (
    <div class="snippet">
      <p class="soft">{snippet.where}</p>
      <Copyable text={snippet.text} label={`${snippet.name}: ${snippet.where}`} />
    </div>
  )
}

/** All snippets, one at a time. */
export function Connect() {
  const all = snippets()
  const [at, setAt] = useState(0)
  const shown = all[at]
  return (
    <div class="connect">
      <div class="pills" role="group" aria-label="Tools to connect">
        {all.map(({ name }, index) => (
          <button type="button" class={index === at ? 'here' : ''} aria-pressed={index === at} onClick={() => setAt(index)}>
            {name}
          </button>
        ))}
      </div>
      {shown && <Snippet snippet={shown} />}
    </div>
  )
}
