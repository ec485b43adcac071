"""The command line against a running server: tables for people, JSON for programs, one sentence for errors."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import Program, until


@pytest.fixture
def ninefold(program: Program, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `ninefold …` as somebody whose home folder is empty."""
    environment = {**os.environ, "NINEFOLD_URL": program.url, "NINEFOLD_TOKEN": program.token, "XDG_CONFIG_HOME": str(tmp_path / "home")}

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        env = {**environment, **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "ninefold", *arguments], capture_output=True, text=True, env=env, timeout=60, **options
        )

    return run


def test_the_command_line(program: Program, ninefold: Any, tmp_path: Path) -> None:
    # files through the front door, with all rows arriving
    (tmp_path / "orders.csv").write_text(
        "time,name,value,shop\n" + "".join(f"2026-11-22T10:{i:02d}:00Z,orders,{i},north\n" for i in range(60))
    )
    (tmp_path / "app.log").write_text("".join(f"2026-11-22T10:00:{i:02d}Z ERROR payment {i} failed\n" for i in range(60)))
    for arguments in (["orders.csv", "--format", "metrics"], ["app.log"]):
        sent = ninefold("replay", *arguments, cwd=tmp_path)
        assert sent.returncode == 0, sent.stderr
    program.wait_for_row("select count() = 60 from metric m join series s on m.series = s.series where s.name = 'orders'")
    program.wait_for_row("select count() = 60 from log where severity_number = 17 and source = 'app'")

    # SQL: JSON when piped
    asked = ninefold("query", "select sum(value) as total from metric m join series s on m.series = s.series where s.name = 'orders'")
    assert json.loads(asked.stdout) == [{"total": 1770}]
    refused = ninefold("query", "drop table metric")
    assert refused.returncode == 1
    assert refused.stderr.startswith("ninefold: ")
    assert len(refused.stderr.splitlines()) == 1

    # an incident, handled from the command line
    alert = [{"labels": {"alertname": "PaymentsDown", "service": "payments", "severity": "critical"}}]
    assert program.http.post("/api/v2/alerts", json=alert).status_code == 200
    found = until(lambda: json.loads(ninefold("incident", "list").stdout), what="the incident")
    assert "PaymentsDown" in found[0]["title"]
    name = found[0]["id"]
    assert json.loads(ninefold("incident", "ack", name, "-m", "on it").stdout)[0]["status"] == "acknowledged"
    assert any("on it" in str(row) for row in json.loads(ninefold("incident", "timeline", name).stdout))
    assert {row["step"] for row in json.loads(ninefold("incident", "why", name).stdout)} >= {"fingerprint", "correlate"}
    assert json.loads(ninefold("incident", "resolve", name).stdout)[0]["status"] == "resolved"
    missing = ninefold("incident", "show", "INC-999999")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)

    # tokens: least privilege holds, revoking works, every mutating call is audited
    made = json.loads(ninefold("token", "create", "watcher", "--role", "viewer").stdout)
    as_watcher = {"NINEFOLD_TOKEN": made["token"]}
    assert ninefold("incident", "list", env=as_watcher).returncode == 0
    assert "needs operator" in ninefold("incident", "ack", name, env=as_watcher).stderr
    assert ninefold("token", "revoke", "watcher").returncode == 0
    assert "ninefold login" in until(lambda: ninefold("incident", "list", env=as_watcher).stderr, what="the revocation")

    # login keeps the credentials for their owner only
    login = ninefold("login", input=program.token + "\n")
    assert login.returncode == 0, login.stderr
    kept = tmp_path / "home" / "ninefold" / "credentials.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert ninefold("workflow", "list", env={"NINEFOLD_TOKEN": "", "NINEFOLD_URL": ""}).returncode == 0
    assert program.token not in login.stdout + login.stderr


def test_a_terminal_gets_a_table(program: Program) -> None:
    env = {**os.environ, "NINEFOLD_URL": program.url, "NINEFOLD_TOKEN": program.token, "TERM": "xterm", "COLUMNS": "100"}
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.executable, "-m", "ninefold", "query", "select 1 as one, 'x' as two"], stdout=theirs, env=env, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "one" in shown
    assert "{" not in shown


def test_without_a_server_the_error_is_one_sentence(tmp_path: Path) -> None:
    env = {**os.environ, "NINEFOLD_URL": "http://127.0.0.1:9", "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "ninefold", "incident", "list"], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1
    assert "ninefold serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_configuration_refuses_to_start_and_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "ninefold.yaml").write_text("server:\n  prot: 1\n")
    done = subprocess.run([sys.executable, "-m", "ninefold", "serve"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 1
    assert "server.prot" in done.stderr
    assert "Traceback" not in done.stderr
