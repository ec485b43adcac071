"""Who may manage a new installation, and who may when everybody has been locked out; and that the end is an orderly one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from served import Program
from sqlalchemy import select

from ninefold.cli import running
from ninefold.connectors.shell import Shell
from ninefold.store.records.access import Token, create_token, find_token
from ninefold.store.records.base import Audit, Records, Setting
from ninefold.store.records.migrate import upgrade


def ninefold(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ninefold", *arguments], capture_output=True, text=True, timeout=60, **options)


def records_of(folder: Path) -> Records:
    return Records(f"sqlite:///{folder / 'records.db'}")


def test_the_first_token_is_not_made_before_anybody_can_be_told(make_program: Any) -> None:
    program: Program = make_program()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", program.otlp_port))
        taken.listen()
        refused = ninefold("serve", "--config", str(program.config))
        assert (refused.returncode, "cannot be used" in refused.stderr) == (1, True)
    program.start()
    assert program.token
    assert program.http.get("/api/v1/me").json() == {"name": "admin", "role": "admin"}

    # an orderly end: SIGTERM drains, and what is kept in memory is written down
    assert program.process is not None
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(30) == 0
    records = records_of(program.folder / "data")
    with records.reading() as session:
        assert session.get(Setting, "traffic") is not None

    # without a living admin the next start makes one, under a name of its own
    with records.session() as session:
        session.get_one(Token, "admin").revoked = 1
    records.close()
    lost, program.token = program.token, ""
    program.start()
    assert program.token not in ("", lost)
    assert program.http.get("/api/v1/me").json() == {"name": "admin-2", "role": "admin"}


def test_who_owns_the_machine_makes_a_token_without_one(tmp_path: Path) -> None:
    assert "does not exist" in ninefold("token", "create", "me", "--data", str(tmp_path / "typo")).stderr
    records = records_of(tmp_path)
    upgrade(records)
    with records.session() as session:
        create_token(session, "taken", "viewer")
    environment = {**os.environ, "NINEFOLD_URL": "http://127.0.0.1:9", "XDG_CONFIG_HOME": str(tmp_path)}
    made = ninefold("token", "create", "me", "--role", "admin", "--data", str(tmp_path), env=environment, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    answer = json.loads(made.stdout)
    assert (answer["name"], answer["role"]) == ("me", "admin")
    with records.reading() as session:
        found = find_token(session, answer["token"])
        assert found is not None
        assert (found.name, found.role) == ("me", "admin")
        assert [(a.actor, a.action, a.target) for a in session.scalars(select(Audit))] == [("local", "token created", "me")]
    records.close()
    for name, said in (("taken", "exists"), ("a/b", "letters, digits"), ("x", "king")):
        role = "king" if name == "x" else "viewer"
        refused = ninefold("token", "create", name, "--role", role, "--data", str(tmp_path), env=environment, cwd=tmp_path)
        assert refused.returncode != 0
        assert said in refused.stderr


@pytest.mark.parametrize(("uses", "works"), [("host.run", True), ("nobody.run", False)])
def test_check_says_whether_workflows_can_work(tmp_path: Path, uses: str, works: bool) -> None:
    (tmp_path / "flows").mkdir()
    flow = f"name: flow\ntrigger: {{manual: true}}\nsteps:\n- {{id: a, uses: {uses}, with: {{command: c}}}}\n"
    (tmp_path / "flows" / "flow.yaml").write_text(flow)
    (tmp_path / "ninefold.yaml").write_text(
        "workflows: {path: flows}\nconnectors: {host: {type: shell, commands: {c: {argv: ['true']}}}}\n"
    )
    done = ninefold("check", cwd=tmp_path)
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert rows["connector host"]["result"] == "ok"
    assert rows["workflow flow"]["result"] == ("ok" if works else "bad"), done.stdout
    assert works or "no connector is named 'nobody'" in rows["workflow flow"]["detail"]
    assert done.returncode == (0 if works else 1)


def test_a_connector_whose_check_has_a_defect_is_one_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    async def defect(_: Shell) -> str:
        raise KeyError("Version")

    monkeypatch.setattr(Shell, "check", defect)
    (tmp_path / "n.yaml").write_text("connectors: {host: {type: shell, commands: {c: {argv: ['true']}}}}\n")
    assert not running.check(tmp_path / "n.yaml", tmp_path)
    rows = json.loads(capsysbinary.readouterr().out)
    assert (rows[1]["result"], rows[1]["detail"]) == ("bad", "the check failed: KeyError: 'Version'")
