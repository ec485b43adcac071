"""The demo as its user runs it: the whole program, the whole recording, what it must make of it, and all that can be asked of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_ENVIRONMENT = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


class Played(NamedTuple):
    """A demo that has ended: what it said, and its data."""

    said: str
    folder: Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ninefold(*words: str) -> list[str]:
    return [sys.executable, "-m", "ninefold", *words]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("demo") / "data"
    command = _ninefold("demo", "--once", "--data", str(folder), "--port", str(_free_port()), "--otlp-port", str(_free_port()))
    done = subprocess.run(command, capture_output=True, text=True, env=_ENVIRONMENT, timeout=500, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    return Played(said, folder)


@pytest.fixture
def client(played: Played, tmp_path: Path) -> Iterator[httpx.Client]:
    """A program that serves what the demo left."""
    made = subprocess.run(
        _ninefold("token", "create", "asking", "--role", "admin", "--data", str(played.folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    token = re.search(r"n9_[\w-]+", made.stdout)
    assert token is not None, made.stdout + made.stderr
    port = _free_port()
    (tmp_path / "ninefold.yaml").write_text(
        f"data: {played.folder}\nserver: {{port: {port}, otlp_port: 0}}\n"
        "sources: {otlp_grpc: {enabled: false}, syslog: {enabled: false}}\n"
    )
    with subprocess.Popen(_ninefold("serve", "--config", str(tmp_path / "ninefold.yaml")), env=_ENVIRONMENT) as process:
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token[0]}"}, timeout=60, trust_env=False
            ) as http:
                _ready(http, process)
                yield http
        finally:
            process.send_signal(signal.SIGTERM)


def _ready(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if http.get("/-/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("the program was not ready in time")


def test_the_demo_explains_its_faults_and_its_workflows_run(played: Played) -> None:
    said = played.said
    first = re.search(r"True cause first for (\d) of 8 faults", said)
    assert first is not None, said[-3000:]
    assert int(first[1]) >= 5, said[-3000:]
    runs = re.search(r"workflow runs: ([^.]+)\.", said)
    assert runs is not None, said[-3000:]
    assert "failed" not in runs[1], said[-3000:]
    assert "succeeded" in runs[1], said[-3000:]
    assert "tries again" not in said, said[-3000:]
    assert "Traceback" not in said, said[-3000:]


def test_everything_that_can_be_asked_is_answered(client: httpx.Client) -> None:
    """Every GET of the API, for something that is there."""

    def first(path: str, *names: str, **params: Any) -> str:
        items = client.get(f"/api/v1/{path}", params=params).raise_for_status().json()["items"]
        assert items, path
        return str(next(items[0][name] for name in names if items[0].get(name)))

    known = {
        "series": first("series", "series"), "entity": first("operations", "entity"), "operation": first("operations", "operation"),
        "run": first("runs", "id"),
        "name": first("sources", "name"), "fingerprint": first("alerts", "fingerprint", state="all"),
        "identity": first("log-templates", "id"), "key": first("incidents", "id", status="all"),
    }  # fmt: skip
    client.put("/api/v1/oncall/schedules/night", json={}).raise_for_status()
    secret = client.post("/api/v1/oncall/schedules/night/link").raise_for_status().json()["path"].partition("token=")[2]
    marks = {
        "/api/v1/anomalies/{fingerprint}/why": {"fingerprint": first("anomalies", "fingerprint")},
        "/api/v1/events/{key}/why": {"key": first("alerts", "event", state="all")},
        "/api/v1/oncall/schedules/{name}": {"name": "night"},
        "/api/v1/oncall/schedules/{name}.ics": {"name": "night", "token": secret},
    }
    absent = {"/api/v1/regressions/{key}", "/api/v1/sources/{name}/mapping"}
    paths = client.get("/api/v1/openapi.json").raise_for_status().json()["paths"]
    wrong = []
    for path, methods in paths.items():
        if "get" in methods:
            needed = {each["name"]: known.get(each["name"], "1") for each in methods["get"].get("parameters", []) if each.get("required")}
            needed |= marks.get(path, {})
            answer = client.get(path.format_map(needed), params={k: v for k, v in needed.items() if f"{{{k}}}" not in path})
            if answer.status_code not in ((200, 404) if path in absent else (200,)):
                wrong.append(f"{path}: {answer.status_code} {answer.text[:300]}")
    assert wrong == []
