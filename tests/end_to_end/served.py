"""The whole program as its users run it: `ninefold serve` in a process of its own, spoken to over its ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], timeout_s: float = 60, what: str = "the condition") -> Any:
    """Poll until `condition` gives something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.05)


class Program:
    """One `ninefold serve` on its own folder and ports; survives kill and start."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.port, self.otlp_port, self.syslog_port = free_port(), free_port(), free_port()
        self.token = ""
        self.process: subprocess.Popen[str] | None = None
        server = {"port": self.port, "otlp_port": self.otlp_port, **settings.pop("server", {})}
        listeners = {
            "syslog": {"type": "syslog", "port": self.syslog_port},
            "otlp_grpc": {"type": "otlp_grpc", "enabled": False},
        }
        sources = {**listeners, **settings.pop("sources", {})}
        # Recorded payloads must not expire before they can be looked at, whenever the tests run.
        kept = {"retention_days": dict.fromkeys(("metric", "log", "span", "event"), 3650)}
        config = {"data": str(folder / "data"), "server": server, "store": kept, "sources": sources, **settings}
        self.config = folder / "ninefold.yaml"
        self.config.write_text(yaml.safe_dump(config))
        self.errors: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def otlp_url(self) -> str:
        return f"http://127.0.0.1:{self.otlp_port}"

    def start(self) -> Program:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ninefold", "serve", "--config", str(self.config)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1"},
        )
        ready = threading.Event()
        threading.Thread(target=self._listen, args=(self.process, ready), daemon=True).start()
        until(lambda: ready.is_set() or self.process is None or self.process.poll() is not None, what="the start")
        assert self.process.poll() is None, "".join(self.errors[-30:])
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60, trust_env=False)
        return self

    def _listen(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.errors.append(line)
            if found := re.search(r"shown this once: (\S+)", line):
                self.token = found[1]
            if f"Open {self.url}" in line or ("is ready" in line and self.token):
                ready.set()

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        answer = self.http.post(f"/api/v1/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def query(self, sql: str) -> list[list[Any]]:
        return self.post("query", {"sql": sql, "limit": 100_000})["rows"]

    def wait_for_row(self, sql: str, timeout_s: float = 60) -> list[Any]:
        """The first row of a query, once there is one whose first value is not zero or empty."""
        found = until(lambda: [row for row in self.query(sql) if row[0]], timeout_s, sql)
        return found[0]
