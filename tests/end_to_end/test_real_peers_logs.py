"""Real programs that forward: syslog-ng over TCP and TLS, rotel between the OpenTelemetry SDK and here, Buildbot's builds."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from real_programs import PEERS, need, running
from served import Program, free_port, until

pytestmark = [pytest.mark.real, pytest.mark.slow]

_COLUMNS = "severity_number, resource['host.name'], resource['service.name'], attributes['syslog.procid'], toUnixTimestamp(time)"


def _libraries(binary: str) -> Mapping[str, str]:
    """What an unpacked syslog-ng needs in its environment; one that is installed needs nothing."""
    if not binary.startswith(str(PEERS)):
        return {}
    root = PEERS / "syslog-ng"
    return {
        "LD_LIBRARY_PATH": ":".join(
            map(str, (root / "usr/lib/syslog-ng", *root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")))
        )
    }


def test_syslog_ng_forwards_over_tcp_and_tls(make_program: Callable[..., Program], tmp_path: Path) -> None:
    syslog_ng, openssl, port, tls_port = need("syslog-ng"), need("openssl"), free_port(), free_port()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-days", "2"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [openssl, "req", "-x509", *curve, *subject, "-keyout", "key.pem", "-out", "ca.pem"], check=True, capture_output=True, cwd=tmp_path
    )
    tls = {"port": tls_port, "certificate": str(tmp_path / "ca.pem"), "key": str(tmp_path / "key.pem")}
    program = make_program(sources={"over_tls": {"type": "syslog", "port": free_port(), "tls": tls}}).start()
    (tmp_path / "ng.conf").write_text(f"""@version: 3.38
source local {{ syslog(ip(127.0.0.1) port({port}) transport("tcp")); }};
destination tcp {{ syslog("127.0.0.1" port({program.syslog_port}) transport("tcp")); }};
destination tls {{ syslog("127.0.0.1" port({tls_port}) transport("tls")
    tls(ca-file("{tmp_path}/ca.pem") peer-verify(required-trusted))); }};
options {{ keep-hostname(yes); time-reopen(1); }};
log {{ source(local); destination(tcp); destination(tls); }};
""")
    modules = (
        [f"--module-path={path}" for path in PEERS.glob("syslog-ng/usr/lib/syslog-ng/3.*")] if syslog_ng.startswith(str(PEERS)) else []
    )
    places = [f"--persist-file={tmp_path}/persist", f"--pidfile={tmp_path}/pid", f"--control={tmp_path}/ctl", "--no-caps"]
    said = b'<27>1 2026-11-22T10:11:12.500+01:00 web-1 nginx 42 ID7 [origin@32473 zone="blue"] upstream refused'
    with running(syslog_ng, "-F", "-f", str(tmp_path / "ng.conf"), *modules, *places, cwd=tmp_path, env=_libraries(syslog_ng)):

        def sent() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as sender:
                    sender.sendall(b"%d %s" % (len(said), said))
                return True
            except OSError:
                return False

        until(sent, timeout_s=30, what="syslog-ng's port")
        for source in ("syslog", "over_tls"):
            where = f"source = '{source}' and body = 'upstream refused'"
            row = program.wait_for_row(f"select {_COLUMNS}, mapValues(attributes) from log where {where}")
            assert row[:5] == [17, "web-1", "nginx", "42", 1795338672]
            assert {"ID7", "blue"} <= set(row[5])
        assert not program.query("select * from quarantine")


def test_rotel_passes_on_what_the_opentelemetry_sdk_exports(program: Program, tmp_path: Path) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    rotel, port = need("rotel-agent"), free_port()
    command = [rotel, "start", "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}"]
    command += ["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", program.otlp_url]
    command += ["--otlp-exporter-custom-headers", f"Authorization=Bearer {program.token}"]
    with running(*command, cwd=tmp_path):
        until(lambda: _listens(port), what="rotel's port")
        traces = TracerProvider(resource=Resource.create({"service.name": "checkout"}))
        traces.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")))
        with traces.get_tracer("t").start_as_current_span("GET /cart") as span:
            trace_id, began = f"{span.get_span_context().trace_id:032x}", time.time()
        traces.shutdown()
        row = program.wait_for_row("select name, entity, trace_id, toUnixTimestamp(time) from span")
        assert row[:3] == ["GET /cart", "service:checkout", trace_id]
        assert abs(row[3] - began) < 60
        assert "Failed" not in (tmp_path / "peer.log").read_text()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


_MASTER = """
from buildbot.plugins import changes, reporters, schedulers, steps, util, worker
BuildmasterConfig = {
    "workers": [worker.LocalWorker("local")],
    "protocols": {"pb": {"port": "tcp:%(port)d:interface=127.0.0.1"}},
    "change_source": [changes.PBChangeSource(user="lab", passwd="lab")],
    "schedulers": [schedulers.AnyBranchScheduler(name="all", builderNames=["deploy-shop"], treeStableTimer=None)],
    "builders": [util.BuilderConfig("deploy-shop", workernames=["local"], factory=util.BuildFactory([
        steps.ShellCommand(command=["false"] if %(fails)r else ["true"])]))],
    "services": [reporters.HttpStatusPush(serverUrl="%(url)s", headers={"Authorization": "Bearer %(token)s"})],
    "buildbotNetUsageData": None,
    "db": {"db_url": "sqlite:///state.sqlite"},
}
"""


def test_buildbot_tells_its_builds(program: Program, tmp_path: Path) -> None:
    buildbot, port = need("buildbot"), free_port()
    need("buildbot-worker")
    path = {"PATH": f"{Path(buildbot).parent}:{os.environ['PATH']}"}
    subprocess.run([buildbot, "create-master", "master"], check=True, capture_output=True, cwd=tmp_path, timeout=60)
    told = {"port": port, "fails": True, "url": f"{program.url}/webhook/buildbot", "token": program.token}
    (tmp_path / "master" / "master.cfg").write_text(_MASTER % told)
    change = ["--who", "Ada <ada@example.org>", "--branch", "main", "--revision", "4be1ef3", "--project", "shop", "--comments", "faster"]
    with running(buildbot, "start", "--nodaemon", "master", cwd=tmp_path, env=path):
        until(lambda: _listens(port), timeout_s=30, what="Buildbot's port")
        send = [
            buildbot,
            "sendchange",
            "--master",
            f"127.0.0.1:{port}",
            "--auth",
            "lab:lab",
            "--vc",
            "git",
            *change,
            "--repository",
            "shop.git",
            "a.py",
        ]
        subprocess.run(send, check=True, capture_output=True, cwd=tmp_path, timeout=60)
        program.wait_for_row("select title from event final where source = 'buildbot' and title like '%failure%'")
        rows = program.query(
            "select kind, severity, entity, attributes['vcs.ref.head.revision'], attributes['vcs.ref.head.name'], attributes['user.name'],"
            " attributes['cicd.pipeline.result'], fingerprint from event final where source = 'buildbot' order by time"
        )
        assert [row[:6] for row in rows] == [
            ["deployment", severity, "service:shop", "4be1ef3", "main", "Ada <ada@example.org>"] for severity in ("info", "warning")
        ]
        assert rows[-1][6] == "failure"
        assert rows[0][7] == rows[1][7]
