"""The whole program under load: HTTP -> journal fsync -> store, alerts -> incidents, start, idle memory.

``python bench/end_to_end.py`` starts a server of its own for each figure, sends real protocol bodies over loopback from this
process, and waits until the last record can be queried. Server and sender share the machine.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cramjam
import httpx
import orjson
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

SAMPLES_PER_BODY, BODIES = 10_000, 400
LINES_PER_BODY, LINE_BODIES = 2_000, 200
ALERTS_PER_BODY, ALERT_BODIES = 100, 200
STORM_BODIES, STORM_S, AFTER_S = 1_000, 60, 120


class Server:
    """`ninefold serve` on a temporary folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = folder / "ninefold.yaml"
        server = {"port": self.port, "otlp_port": 0}
        config.write_text(yaml.safe_dump({"data": str(folder / "data"), "server": server, "log_level": "ERROR"}))
        started = time.monotonic()
        command = [sys.executable, "-m", "ninefold", "serve", "-c", str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "300"})
        assert self.process.stderr is not None
        token, lines = "", []
        while "Open http" not in (line := self.process.stderr.readline()):
            lines.append(line)
            assert line, "".join(lines)
            token = found[1] if (found := re.search(r"shown this once: (\S+)", line)) else token
        self.ready_s = time.monotonic() - started
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {token}"}, timeout=120, trust_env=False,
            limits=httpx.Limits(max_connections=16),
        )  # fmt: skip

    def value(self, sql: str) -> Any:
        """The first value of a query."""
        return self.http.post("/api/v1/query", json={"sql": sql, "limit": 1}).json()["rows"][0][0]

    def folded(self, _: str) -> int:
        """Alerts that stand in incidents."""
        return int(self.http.get("/api/v1/summary").json()["alerts"])

    def memory_mb(self) -> float:
        """Resident memory of the server, MB."""
        return self._memory_mb("VmRSS")

    def peak_mb(self) -> float:
        """The most resident memory the server has had, MB."""
        return self._memory_mb("VmHWM")

    def _memory_mb(self, name: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]

    def cpu_s(self) -> float:
        """CPU seconds the server has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server() -> Iterator[Server]:
    """A fresh server, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="ninefold-bench-") as folder:
        one = Server(Path(folder))
        try:
            yield one
        finally:
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(60)


def varint(number: int) -> bytes:
    """A protobuf varint."""
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def framed(field: int, data: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return bytes([field << 3 | 2]) + varint(len(data)) + data


def write_bodies() -> list[bytes]:
    """Remote-write bodies: 10,000 series, one sample each, a body per tick of 15 s."""
    labels = []
    for i in range(SAMPLES_PER_BODY):
        pairs = {"__name__": f"metric_{i % 200}", "instance": f"host-{i // 200}:9100", "job": "node", "mode": "user"}
        labels.append(b"".join(framed(1, framed(1, k.encode()) + framed(2, v.encode())) for k, v in pairs.items()))
    start = int(time.time() * 1000) - BODIES * 15_000
    bodies = []
    for tick in range(BODIES):
        stamp = varint(start + tick * 15_000)
        sample = framed(2, b"\x09" + bytes(6) + b"\x24\x40" + b"\x10" + stamp)
        bodies.append(bytes(cramjam.snappy.compress_raw(b"".join(framed(1, series + sample) for series in labels))))
    return bodies


def log_bodies() -> list[bytes]:
    """OTLP log bodies of 2,000 lines that vary as real ones do."""
    bodies = []
    for block in range(LINE_BODIES):
        request = ExportLogsServiceRequest()
        scope = request.resource_logs.add()
        attribute = scope.resource.attributes.add()
        attribute.key, attribute.value.string_value = "service.name", f"service-{block % 20}"
        records = scope.scope_logs.add().log_records
        for i in range(LINES_PER_BODY):
            record = records.add()
            record.time_unix_nano = time.time_ns()
            record.severity_number = 9 if i % 50 else 17
            record.body.string_value = (
                f"request {block * LINES_PER_BODY + i} from 10.0.{i % 256}.7 to /api/orders/{i % 97} took {i % 1000} ms"
            )
        bodies.append(request.SerializeToString())
    return bodies


def alert_bodies(count: int = ALERT_BODIES) -> list[bytes]:
    """Bodies of 100 distinct alerts over 500 services, as Prometheus posts them."""
    starts = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    bodies = []
    for block in range(count):
        alerts = [
            {
                "labels": {"alertname": f"Rule{i % 37}", "service": f"svc-{(block * 7 + i) % 500}", "n": f"{block}-{i}"},
                "annotations": {"summary": f"rule {i % 37} is over its threshold"}, "startsAt": starts,
            }
            for i in range(ALERTS_PER_BODY)
        ]  # fmt: skip
        bodies.append(orjson.dumps(alerts))
    return bodies


def send(one: Server, path: str, bodies: list[bytes], content_type: str, threads: int = 2) -> list[float]:
    """Post all bodies from a few threads, patient with 503; the answer times in seconds."""

    def post(body: bytes) -> float:
        while True:
            started = time.monotonic()
            answer = one.http.post(path, content=body, headers={"Content-Type": content_type})
            if answer.status_code != 503:
                answer.raise_for_status()
                return time.monotonic() - started
            time.sleep(0.1)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(post, bodies))


def timed(
    path: str, bodies: list[bytes], content_type: str, count_sql: str, total: int, unit: str, target: float, name: str
) -> list[dict[str, Any]]:
    """Send everything to a fresh server and wait until the last record can be queried, or without a query, is in an incident."""
    with server() as one:
        send(one, path, bodies[:2], content_type)  # the first requests compile and open; they are not timed
        first = total // len(bodies) * 2
        count = one.value if count_sql else one.folded
        while count(count_sql) < first:
            time.sleep(0.05)
        cpu, started = one.cpu_s(), time.monotonic()
        answers = sorted(send(one, path, bodies[2:], content_type))
        accepted = time.monotonic() - started
        while count(count_sql) < total:
            time.sleep(0.05)
        stored, cpu = time.monotonic() - started, one.cpu_s() - cpu
        sent = total - first
        p99 = answers[int(len(answers) * 0.99)] * 1000
        note = (
            f"accepted at {sent / accepted:,.0f}/s, {cpu / sent * 1e6:.1f} µs CPU of the server each, "
            f"answer p99 {p99:.0f} ms, memory after {one.memory_mb():.0f} MB"
        )
        return [{"name": name, "value": sent / stored, "unit": unit, "target": target, "peer": None, "ratio": None, "note": note}]


def storm() -> list[dict[str, Any]]:
    """100,000 distinct alerts, evenly within a minute: how many are lost, and the most memory the server took for them."""
    bodies, share = alert_bodies(STORM_BODIES), -(-STORM_BODIES // STORM_S)
    total = STORM_BODIES * ALERTS_PER_BODY
    with server() as one:
        started, cpu = time.monotonic(), one.cpu_s()
        for second in range(STORM_S):
            time.sleep(max(0.0, started + second - time.monotonic()))
            send(one, "/api/v2/alerts", bodies[second * share : (second + 1) * share], "application/json")
        accepted = time.monotonic() - started
        while (folded := one.folded("")) < total and time.monotonic() - started < accepted + AFTER_S:
            time.sleep(0.25)
        behind, used = time.monotonic() - started - accepted, one.cpu_s() - cpu
        name = f"alert storm, {total:,} in {STORM_S} s"
        each = used / total * 1e6
        note = f"accepted in {accepted:.1f} s, the last in an incident {behind:.1f} s later, {each:.0f} µs CPU of the server each"
        lost = {"name": f"{name}: lost", "value": total - folded, "unit": "alerts", "target": 0, "note": note}
        peak = {"name": f"{name}: peak memory", "value": one.peak_mb(), "unit": "MB", "target": 2_000}
        return [{**row, "peer": None, "ratio": None, "lower": True} for row in (lost, peak)]


def start_and_idle() -> list[dict[str, Any]]:
    """Start to ready, and memory when nothing has happened for ten seconds."""
    with server() as one:
        time.sleep(10)
        return [
            {"name": "start to ready", "value": one.ready_s, "unit": "s", "target": 5, "peer": None, "ratio": None, "lower": True},
            {"name": "idle memory", "value": one.memory_mb(), "unit": "MB", "target": 450, "peer": None, "ratio": None, "lower": True},
        ]


def run() -> list[dict[str, Any]]:
    """All figures."""
    rows = start_and_idle()
    rows += timed(
        "/api/v1/write", write_bodies(), "application/x-protobuf", "select count() from metric where value = 10", SAMPLES_PER_BODY * BODIES,
        "samples/s", 200_000, "remote write, HTTP to journal to store",
    )  # fmt: skip
    rows += timed(
        "/v1/logs", log_bodies(), "application/x-protobuf", "select count() from log", LINES_PER_BODY * LINE_BODIES,
        "lines/s", 50_000, "OTLP logs, HTTP to journal to store",
    )  # fmt: skip
    rows += timed(
        "/api/v2/alerts", alert_bodies(), "application/json", "",
        ALERTS_PER_BODY * ALERT_BODIES, "alerts/s", 5_000, "alerts, HTTP to journal to incident",
    )  # fmt: skip
    return rows + storm()


if __name__ == "__main__":
    for row in run():
        print(f"| {row['name']} | {row['value']:,.1f} {row['unit']} | target {row['target']:,} | {row.get('note', '')} |")
