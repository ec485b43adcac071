"""Remote write beside Prometheus and VictoriaMetrics: the same bytes, one sender, on the same machine.

``python bench/ingest.py`` starts each program on a folder of its own, posts the same bodies one after the other over loopback and reads
the CPU time of the program's process. Ninefold's time includes what the peers do not do: an fsync before each answer and detection on
every series. A peer that is not installed (Debian: prometheus, victoria-metrics) is left out.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent))
from end_to_end import BODIES, SAMPLES_PER_BODY, server, write_bodies

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
QUIET_S = 3.0


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settled_cpu_s(pid: int) -> float:
    """CPU seconds of a process once it has been quiet for a while."""
    while True:
        before = cpu_s(pid)
        time.sleep(QUIET_S)
        if cpu_s(pid) - before < 0.05 * QUIET_S:
            return cpu_s(pid)


@contextmanager
def peer(name: str) -> Iterator[tuple[str, int] | None]:
    """The write endpoint and process of a running peer; None when it is not installed."""
    path = shutil.which(name)
    if path is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ninefold-bench-") as folder:
        (Path(folder) / "prometheus.yml").write_text("{}\n")
        options = {
            "prometheus": [
                f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
                "--web.enable-remote-write-receiver",
            ],
            "victoria-metrics": [f"-storageDataPath={folder}/data", f"-httpListenAddr=127.0.0.1:{port}"],
        }  # fmt: skip
        process = subprocess.Popen([path, *options[name]], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            ready = {"prometheus": "/-/ready", "victoria-metrics": "/health"}[name]
            deadline = time.monotonic() + 60
            while True:
                try:
                    if httpx.get(f"http://127.0.0.1:{port}{ready}", trust_env=False).is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{name} did not start")
            yield f"http://127.0.0.1:{port}/api/v1/write", process.pid
        finally:
            process.kill()
            process.wait()


def post_all(http: httpx.Client, url: str, bodies: list[bytes]) -> tuple[float, float]:
    """Post bodies one after the other, patient with 503; (seconds, 99th percentile of an answer in ms)."""
    answers = []
    started = time.monotonic()
    for body in bodies:
        while True:
            asked = time.monotonic()
            answer = http.post(url, content=body, headers=HEADERS)
            if answer.status_code != 503:
                answer.raise_for_status()
                answers.append(time.monotonic() - asked)
                break
            time.sleep(0.1)
    return time.monotonic() - started, sorted(answers)[int(len(answers) * 0.99)] * 1000


def beside_peers() -> list[dict[str, Any]]:
    """CPU per sample and samples a second of each program."""
    bodies = write_bodies()
    samples = SAMPLES_PER_BODY * (BODIES - 2)
    found: dict[str, tuple[float, float, float]] = {}
    for name in ("prometheus", "victoria-metrics"):
        with peer(name) as there:
            if there is None:
                continue
            url, pid = there
            with httpx.Client(timeout=120, trust_env=False) as http:
                post_all(http, url, bodies[:2])
                before = settled_cpu_s(pid)
                wall, p99 = post_all(http, url, bodies[2:])
                found[name] = ((settled_cpu_s(pid) - before) / samples * 1e6, samples / wall, p99)
    with server() as one:
        post_all(one.http, "/api/v1/write", bodies[:2])
        before = settled_cpu_s(one.process.pid)
        wall, p99 = post_all(one.http, "/api/v1/write", bodies[2:])
        cpu, rate = (settled_cpu_s(one.process.pid) - before) / samples * 1e6, samples / wall
    rows: list[dict[str, Any]] = []
    for name, (their_cpu, their_rate, their_p99) in found.items():
        row = {"name": f"CPU per sample, beside {name}", "value": cpu, "unit": "µs", "target": None, "lower": True}
        rows.append({**row, "peer": their_cpu, "ratio": cpu / their_cpu, "note": f"{name} answers with p99 {their_p99:.1f} ms"})
        row = {"name": f"accepted from one sender, beside {name}", "value": rate, "unit": "samples/s", "target": None}
        rows.append({**row, "peer": their_rate, "ratio": rate / their_rate})
    rows.append({"name": "answer, 99th percentile", "value": p99, "unit": "ms", "target": 100, "peer": None, "ratio": None, "lower": True})
    return rows


def run() -> list[dict[str, Any]]:
    """All figures."""
    return beside_peers()


if __name__ == "__main__":
    for row in run():
        print(f"| {row['name']} | {row['value']:,.2f} {row['unit']} | peer {row['peer']} | {row.get('note', '')} |")
