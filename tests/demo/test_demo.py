"""The demo as its user runs it: the whole program, the whole recording, and what it must make of it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_explains_its_faults_and_its_workflows_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ninefold", "demo", "--once", "--data", str(tmp_path / "data")]
    command += ["--port", str(_free_port()), "--otlp-port", str(_free_port())]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}, timeout=390, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    first = re.search(r"True cause first for (\d) of 8 faults", said)
    assert first is not None, said[-3000:]
    assert int(first[1]) >= 5, said[-3000:]
    runs = re.search(r"workflow runs: ([^.]+)\.", said)
    assert runs is not None, said[-3000:]
    assert "failed" not in runs[1], said[-3000:]
    assert "succeeded" in runs[1], said[-3000:]
