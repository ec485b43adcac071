"""Real programs deliver into Ninefold with the settings the README gives: Prometheus, Alertmanager, the OpenTelemetry SDK, rsyslog."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from real_programs import need, running
from served import Program, free_port, until

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_prometheus_remote_writes_its_samples_and_points_its_alerts_here(program: Program, tmp_path: Path) -> None:
    prometheus, port = need("prometheus"), free_port()
    (tmp_path / "token").write_text(program.token)
    rules = {
        "groups": [
            {"name": "g", "rules": [{"alert": "AlwaysThere", "expr": "vector(1)", "labels": {"severity": "critical", "service": "shop"}}]}
        ]
    }
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    credentials = {"type": "Bearer", "credentials_file": str(tmp_path / "token")}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "rules.yml")],
        "scrape_configs": [{"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
        "remote_write": [{"url": f"{program.url}/api/v1/write", "authorization": credentials}],
        "alerting": {"alertmanagers": [{"authorization": credentials, "static_configs": [{"targets": [f"127.0.0.1:{program.port}"]}]}]},
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    arguments = [
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(prometheus, *arguments, "--rules.alert.resend-delay=1s", cwd=tmp_path):
        program.wait_for_row("select count() from metric m join series s final on m.series = s.series where s.name = 'up' and m.value = 1")
        row = program.wait_for_row("select title, severity, entity, status from event final where kind = 'alert' and title = 'AlwaysThere'")
        assert row == ["AlwaysThere", "critical", "service:shop", "firing"]
        until(lambda: program.get("incidents", status="open")["items"], what="the incident of a critical alert")
        theirs = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": "prometheus_build_info"}, trust_env=False).json()[
            "data"
        ]["result"]
        ours = program.wait_for_row("select toString(attributes) from series final where name = 'prometheus_build_info'")[0]
        assert theirs[0]["metric"]["version"] in ours


def test_alertmanager_delivers_firing_and_resolved(program: Program, tmp_path: Path) -> None:
    alertmanager, port = need("prometheus-alertmanager"), free_port()
    webhook = {
        "url": f"{program.url}/webhook/alertmanager",
        "send_resolved": True,
        "http_config": {"authorization": {"type": "Bearer", "credentials": program.token}},
    }
    config = {
        "route": {"receiver": "ninefold", "group_wait": "1s", "group_interval": "1s", "group_by": ["alertname"]},
        "receivers": [{"name": "ninefold", "webhook_configs": [webhook]}],
    }
    (tmp_path / "am.yml").write_text(yaml.safe_dump(config))
    arguments = [
        f"--config.file={tmp_path}/am.yml",
        f"--storage.path={tmp_path}/am",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(alertmanager, *arguments, cwd=tmp_path):
        url = f"http://127.0.0.1:{port}"

        def up() -> bool:
            try:
                return httpx.get(f"{url}/-/ready", trust_env=False).is_success
            except httpx.TransportError:
                return False

        until(up, what="Alertmanager")
        alert: dict[str, Any] = {"labels": {"alertname": "DiskFull", "severity": "critical", "instance": "db-1:9100", "job": "node"}}
        httpx.post(f"{url}/api/v2/alerts", json=[alert], trust_env=False).raise_for_status()
        statuses = "select groupArray(status) from event final where title = 'DiskFull' and source = 'alertmanager'"
        until(lambda: program.query(statuses)[0][0] == ["firing"], what="the firing alert")
        alert["endsAt"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        httpx.post(f"{url}/api/v2/alerts", json=[alert], trust_env=False).raise_for_status()
        until(lambda: sorted(program.query(statuses)[0][0]) == ["firing", "resolved"], what="the resolved alert")
        theirs = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
        ours = program.query("select distinct fingerprint from event final where title = 'DiskFull'")
        assert not theirs or ours == [[theirs[0]["fingerprint"]]]


def test_the_opentelemetry_sdk_delivers_all_three_signals(program: Program) -> None:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind

    resource = Resource.create({"service.name": "checkout", "deployment.environment.name": "test"})
    headers = {"Authorization": f"Bearer {program.token}"}

    def to(path: str) -> dict[str, Any]:
        return {"endpoint": f"{program.otlp_url}/v1/{path}", "headers": headers, "compression": Compression.Gzip}

    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(**to("traces"))))
    metrics = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(**to("metrics")), 60_000)], resource=resource)
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(**to("logs"))))
    logger = logging.getLogger("checkout")
    logger.addHandler(LoggingHandler(logger_provider=logs))
    with traces.get_tracer("t").start_as_current_span("POST /pay", kind=SpanKind.SERVER) as span:
        span.record_exception(ValueError("card declined"))
        logger.error("payment %s failed", 42)
        trace_id = f"{span.get_span_context().trace_id:032x}"
    metrics.get_meter("m").create_counter("orders").add(3, {"shop": "north"})
    for provider in (traces, logs, metrics):
        assert provider.force_flush() is not False
    assert program.wait_for_row("select name, entity, kind, position(events, 'card declined') > 0 from span")[:4] == [
        "POST /pay", "service:checkout", "server", True,
    ]  # fmt: skip
    assert program.wait_for_row("select body, severity_number, trace_id, entity from log where entity = 'service:checkout'") == [
        "payment 42 failed", 17, trace_id, "service:checkout",
    ]  # fmt: skip
    assert program.wait_for_row(
        "select m.value, s.kind, s.attributes['shop'] from metric m join series s final on m.series = s.series where s.name = 'orders'"
    ) == [3.0, "counter", "north"]
    for provider in (traces, logs, metrics):
        provider.shutdown()


def test_rsyslog_forwards_over_udp_and_tcp(program: Program, tmp_path: Path) -> None:
    rsyslogd, port = need("rsyslogd"), free_port()
    (tmp_path / "rsyslog.conf").write_text(f"""
global(workDirectory="{tmp_path}")
module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{port}")
*.* action(type="omfwd" target="127.0.0.1" port="{program.syslog_port}" protocol="udp" template="RSYSLOG_SyslogProtocol23Format")
*.* action(type="omfwd" target="127.0.0.1" port="{program.syslog_port}" protocol="tcp" TCP_Framing="octet-counted"
           template="RSYSLOG_SyslogProtocol23Format")
""")
    with running(rsyslogd, "-n", "-f", str(tmp_path / "rsyslog.conf"), "-i", str(tmp_path / "pid"), cwd=tmp_path):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

            def both() -> bool:
                sender.sendto(b"<27>Nov 22 10:11:12 web-1 nginx[42]: upstream refused", ("127.0.0.1", port))
                return program.query("select count() from log where position(body, 'upstream refused') > 0")[0][0] >= 2

            until(both, what="a line over both transports")
        columns = "severity_number, resource['host.name'], resource['service.name']"
        row = program.query(f"select {columns} from log where position(body, 'upstream refused') > 0 limit 1")
        assert row == [[17, "web-1", "nginx"]]
