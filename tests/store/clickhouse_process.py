"""Starts and kills a real ClickHouse server process."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest


class Server:
    """A ClickHouse server process on a folder, listening on a loopback port."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python, self.folder = python, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        script = str(Path(__file__).with_name("clickhouse_server.py"))
        self.process = subprocess.Popen([self.python, script, str(self.folder), str(self.port)], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/ping", timeout=2) as answer:
                if answer.status == 200:
                    return
            assert self.process.poll() is None, "the ClickHouse server ended by itself"
            time.sleep(0.05)
        pytest.fail("the ClickHouse server did not answer within a minute")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
