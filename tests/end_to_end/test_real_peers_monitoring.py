"""Real monitoring systems deliver with the settings their pages give: Icinga 2, Nagios, Netdata."""

from __future__ import annotations

import os
import pwd
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from real_programs import as_user, folder_of, need, own, running
from served import Program, free_port, until

pytestmark = [pytest.mark.real, pytest.mark.slow]

_EVENTS = (
    "select status, severity, entity, fingerprint, toUnixTimestamp(time) from event final"
    " where kind = 'alert' and source = '{}' order by time, status"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_of("nagios") as made:
        yield made


def _told(program: Program, source: str, statuses: list[str]) -> list[list[object]]:
    """The alerts of a source in order, once their statuses are these; all are of one problem of this minute."""
    rows = until(
        lambda: (found := program.query(_EVENTS.format(source)))[:] and [row[0] for row in found] == statuses and found,
        40,
        f"{statuses} of {source}",
    )
    assert len({row[3] for row in rows}) == 1, "a problem and its recovery have one fingerprint"
    assert all(abs(row[4] - time.time()) < 120 for row in rows)
    return [row[:3] for row in rows]


_ICINGA = """
const NodeName = "localhost"
const PluginDir = "/usr/lib/nagios/plugins"
include <itl>
object Endpoint NodeName {{ host = "127.0.0.1" }}
object Zone "lab" {{ endpoints = [ NodeName ] }}
object ApiListener "api" {{ bind_host = "127.0.0.1"; bind_port = {port} }}
object ApiUser "ninefold" {{ password = "icinga"; permissions = [ "*" ] }}
object CheckerComponent "checker" {{ }}
object NotificationComponent "notification" {{ }}
object Host "web-1" {{ check_command = "dummy"; vars.dummy_state = 0; check_interval = 1h }}
object Service "checkout" {{ host_name = "web-1"; check_command = "passive"; enable_active_checks = false; max_check_attempts = 1 }}
object User "ops" {{ }}
object NotificationCommand "ninefold" {{
  command = [ "{curl}", "-sf", "-H", "@{folder}/header", "{url}/webhook/icinga-told",
    "--data-urlencode", "type=$notification.type$", "--data-urlencode", "host=$host.name$", "--data-urlencode", "service=$service.name$",
    "--data-urlencode", "state=$service.state$", "--data-urlencode", "output=$service.output$", "--data-urlencode", "time=$icinga.timet$" ]
}}
object Notification "told" {{ host_name = "web-1"; service_name = "checkout"; command = "ninefold"; users = [ "ops" ]; interval = 0 }}
"""


def _icinga_certificate(icinga2: str, folder: Path, defines: list[str]) -> None:
    certs = folder / "data" / "certs"
    for name in ("data/certs", "conf", "run", "log", "cache", "spool"):
        (folder / name).mkdir(parents=True)
    own(folder, "nagios")
    pair = ["--key", f"{certs}/localhost.key", "--csr", f"{certs}/localhost.csr"]
    signed = ["--csr", f"{certs}/localhost.csr", "--cert", f"{certs}/localhost.crt"]
    for step in (["new-ca"], ["new-cert", "--cn", "localhost", *pair], ["sign-csr", *signed]):
        subprocess.run([*as_user("nagios"), icinga2, "pki", *step, *defines], check=True, capture_output=True, cwd=folder, timeout=60)
    (certs / "ca.crt").write_bytes((folder / "data" / "ca" / "ca.crt").read_bytes())


def test_icinga_streams_its_events_and_its_notification_command_posts(make_program: Callable[..., Program], folder: Path) -> None:
    icinga2, curl, port = need("icinga2"), need("curl"), free_port()
    places = {"ConfigDir": "conf", "DataDir": "data", "InitRunDir": "run", "LogDir": "log", "CacheDir": "cache", "SpoolDir": "spool"}
    defines = [part for key, value in places.items() for part in ("-D", f"{key}={folder}/{value}")]
    if os.geteuid():
        defines += ["-D", f"RunAsUser={os.getuid()}", "-D", f"RunAsGroup={os.getgid()}"]
    _icinga_certificate(icinga2, folder, defines)
    ca = folder / "data" / "certs" / "ca.crt"
    source = {
        "type": "icinga",
        "url": f"https://localhost:{port}",
        "user": "ninefold",
        "password": "icinga",
        "tls": {"enabled": True, "ca": str(ca)},
    }
    program = make_program(sources={"icinga": source})
    (folder / "conf" / "icinga2.conf").write_text(_ICINGA.format(port=port, curl=curl, folder=folder, url=program.url))
    own(folder, "nagios")
    theirs = httpx.Client(base_url=f"https://localhost:{port}/v1", auth=("ninefold", "icinga"), headers={"Accept": "application/json"},
                          verify=ssl.create_default_context(cafile=str(ca)), trust_env=False)  # fmt: skip

    def act(name: str, **wish: object) -> bool:
        try:
            answer = theirs.post(f"/actions/{name}", json={"type": "Service", "filter": 'service.name == "checkout"', **wish})
        except httpx.TransportError:
            return False
        return answer.is_success and bool(answer.json()["results"])

    def check(state: int, text: str) -> bool:
        return act("process-check-result", exit_status=state, plugin_output=text, performance_data=["p95=500ms;200;400", "errors=12c"])

    with running(*as_user("nagios"), icinga2, "daemon", "-c", str(folder / "conf" / "icinga2.conf"), *defines, cwd=folder):
        until(lambda: check(0, "fresh"), 30, "Icinga")
        _header(folder, program.start())
        until(lambda: "GET /v1/objects/services" in (folder / "peer.log").read_text(), 30, "our catching up")
        assert check(2, "checkout 5xx")
        _told(program, "icinga-told", ["firing"])
        assert act("acknowledge-problem", author="ada", comment="looking")
        assert check(0, "checkout fine")
        assert _told(program, "icinga-told", ["firing", "resolved"]) == [
            ["firing", "critical", "host:web-1"],
            ["resolved", "info", "host:web-1"],
        ]
        streamed = _EVENTS.format("icinga")
        until(lambda: "resolved" in {row[0] for row in program.query(streamed)}, 40, "the streamed recovery")
        rows = program.query(streamed)
        assert {row[0] for row in rows} == {"firing", "acknowledged", "resolved"}
        assert {row[2] for row in rows} == {"host:web-1"}
        assert len({row[3] for row in rows}) == 1
        names = "s.name, s.unit, s.kind, m.value from metric m join series s final on m.series = s.series"
        series = f"select {names} where s.entity = 'host:web-1' and s.name like 'icinga.perf.%' order by s.name limit 1 by s.name"
        until(lambda: len(program.query(series)) == 2, 40, "the performance data")
        assert program.query(series) == [["icinga.perf.errors", "", "counter", 12.0], ["icinga.perf.p95", "s", "gauge", 0.5]]
    assert not program.query("select * from quarantine")


def _header(folder: Path, program: Program, user: str = "nagios") -> None:
    """The token as curl reads it, for the monitoring system's eyes only."""
    (folder / "header").write_text(f"Authorization: Bearer {program.token}\n")
    (folder / "header").chmod(0o600)
    own(folder, user)


_NAGIOS_FIELDS = {
    "type": "$NOTIFICATIONTYPE$", "host": "$HOSTNAME$", "service": "$SERVICEDESC$", "state": "$SERVICESTATE$",
    "problemid": "$SERVICEPROBLEMID$", "time": "$TIMET$", "output": "$SERVICEOUTPUT$",
}  # fmt: skip
_NAGIOS = """
define command {{
  command_name ninefold
  command_line {curl} -sf -H @{folder}/header {fields} {url}/webhook/nagios
}}
define timeperiod {{
  timeperiod_name always
  alias always
  sunday 00:00-24:00
  monday 00:00-24:00
  tuesday 00:00-24:00
  wednesday 00:00-24:00
  thursday 00:00-24:00
  friday 00:00-24:00
  saturday 00:00-24:00
}}
define contact {{
  contact_name ops
  service_notification_period always
  host_notification_period always
  service_notification_options w,u,c,r
  host_notification_options d,u,r
  service_notification_commands ninefold
  host_notification_commands ninefold
}}
define host {{
  host_name web-1
  address 127.0.0.1
  max_check_attempts 1
  notification_period always
  check_period always
  contacts ops
}}
define service {{
  host_name web-1
  service_description checkout
  check_command ninefold
  active_checks_enabled 0
  passive_checks_enabled 1
  max_check_attempts 1
  check_interval 5
  check_period always
  notification_period always
  notification_interval 0
  contacts ops
}}
"""


def test_nagios_posts_by_its_notification_command(program: Program, folder: Path) -> None:
    nagios, curl = need("nagios4"), need("curl")
    fields = " ".join(f'--data-urlencode "{key}={value}"' for key, value in _NAGIOS_FIELDS.items())
    (folder / "objects.cfg").write_text(_NAGIOS.format(curl=curl, folder=folder, url=program.url, fields=fields))
    (folder / "results").mkdir()
    settings = {
        "cfg_file": "objects.cfg", "log_file": "nagios.log", "command_file": "commands", "temp_file": "temp", "temp_path": "",
        "lock_file": "lock", "check_result_path": "results", "object_cache_file": "objects.cache", "status_file": "status.dat",
        "state_retention_file": "retention", "query_socket": "query",
    }  # fmt: skip
    lines = [f"{key}={folder}/{value}" for key, value in settings.items()]
    lines += [
        "nagios_user=nagios",
        "nagios_group=nagios",
        "check_external_commands=1",
        "check_result_reaper_frequency=1",
        "enable_notifications=1",
    ]
    (folder / "nagios.cfg").write_text("\n".join([*lines, "illegal_macro_output_chars=`~$&|'\"<>", ""]))
    _header(folder, program)
    pipe = folder / "commands"

    def result(state: int, text: str) -> None:
        with pipe.open("w") as into:
            into.write(f"[{int(time.time())}] PROCESS_SERVICE_CHECK_RESULT;web-1;checkout;{state};{text}\n")

    with running(*as_user("nagios"), nagios, str(folder / "nagios.cfg"), cwd=folder):
        until(pipe.is_fifo, what="Nagios' command file")
        result(2, "5xx: 12 % & more")
        assert _told(program, "nagios", ["firing"]) == [["firing", "critical", "host:web-1"]]
        result(0, "fine")
        assert _told(program, "nagios", ["firing", "resolved"])[1] == ["resolved", "info", "host:web-1"]
    assert program.query("select title, body, attributes['problemid'] from event final where source = 'nagios' order by time, status") == [
        ["checkout on web-1 is CRITICAL", "5xx: 12 %  more", "1"],
        ["checkout on web-1 is OK", "fine", "1"],
    ]


_NETDATA = """
[global]
  hostname = web-1
  run as user = {user}
[directories]
  config = {folder}
  stock config = {folder}
  lib = {folder}
  cache = {folder}
  log = {folder}
  registry = {folder}
  health config = {folder}/health.d
  stock health config = {folder}/none
[logs]
  error = stderr
  access = none
[db]
  mode = ram
[web]
  bind to = 127.0.0.1
  default port = {port}
[plugins]
{off}
  enable running new plugins = no
[health]
  script to execute on alarm = /usr/lib/netdata/plugins.d/alarm-notify.sh
[statsd]
  bind to = udp:127.0.0.1:{statsd}
  update every (flushInterval) = 1
"""
_NETDATA_OFF = (
    "proc", "diskspace", "cgroups", "tc", "idlejitter", "apps", "python.d", "charts.d", "ebpf", "timex", "slabinfo", "perf", "nfacct",
    "fping", "ioping", "freeipmi",
)  # fmt: skip
_NETDATA_ALARM = """
alarm: checkout_errors
on: statsd_lab.errors_gauge
calc: $gauge
every: 1s
warn: $this > 2
crit: $this > 5
units: errors
info: errors of the checkout
to: sysadmin
"""
_NETDATA_SENDER = """
SEND_CUSTOM="YES"
DEFAULT_RECIPIENT_CUSTOM="ninefold"
custom_sender() {{
  local fields=() name
  for name in host unique_id when name chart family status old_status value value_string info calc_expression; do
    fields+=(--data-urlencode "$name=${{!name}}")
  done
  {curl} -sf -H @{folder}/header "${{fields[@]}}" {url}/webhook/netdata
}}
"""
_NETDATA_EXPORT = """
[exporting:global]
  enabled = yes
[graphite:ninefold]
  enabled = yes
  destination = 127.0.0.1:{port}
  data source = average
  update every = 1
  send charts matching = statsd_*
"""


def test_netdata_notifies_and_exports(make_program: Callable[..., Program]) -> None:
    netdata, curl, statsd, graphite = need("netdata"), need("curl"), free_port(), free_port()
    user = "netdata" if not os.geteuid() else pwd.getpwuid(os.getuid()).pw_name
    program = make_program(sources={"graphite": {"type": "graphite", "port": graphite, "host_part": 1}}).start()
    with folder_of("netdata") as folder:
        off = "\n".join(f"  {name} = no" for name in _NETDATA_OFF)
        files = {
            ".opt-out-from-anonymous-statistics": "",
            "netdata.conf": _NETDATA.format(user=user, folder=folder, port=free_port(), statsd=statsd, off=off),
            "health.d/checkout.conf": _NETDATA_ALARM,
            "health_alarm_notify.conf": _NETDATA_SENDER.format(curl=curl, folder=folder, url=program.url),
            "exporting.conf": _NETDATA_EXPORT.format(port=graphite),
        }
        (folder / "health.d").mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        _header(folder, program, "netdata")
        with running(netdata, "-D", "-c", str(folder / "netdata.conf"), cwd=folder), socket.socket(type=socket.SOCK_DGRAM) as sender:

            def told(errors: int, status: str) -> bool:
                sender.sendto(b"lab.errors:%d|g" % errors, ("127.0.0.1", statsd))
                return status in {row[0] for row in program.query(_EVENTS.format("netdata"))}

            until(lambda: told(9, "firing"), 40, "Netdata's alarm")
            until(lambda: told(0, "resolved"), 40, "Netdata's all-clear")
            assert _told(program, "netdata", ["firing", "resolved"]) == [
                ["firing", "critical", "host:web-1"],
                ["resolved", "info", "host:web-1"],
            ]
            points = (
                "select max(m.value), any(s.entity) from metric m join series s final on m.series = s.series where s.source = 'graphite'"
            )
            assert program.wait_for_row(f"{points} and s.name = 'netdata.web-1.statsd_lab.errors_gauge.gauge'") == [9.0, "host:web-1"]
    texts = "select body, attributes['value_string'] from event final where source = 'netdata' order by time, status"
    assert program.query(texts) == [["errors of the checkout", "9 errors"], ["errors of the checkout", "0 errors"]]
    assert not program.query("select * from quarantine")
