"""Backup and export by the API and the command line: for administrators, on the server's paths."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from typer.testing import CliRunner

from ninefold.cli import app as cli
from ninefold.cli import data
from ninefold.cli.client import Client
from ninefold.config import Config
from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import NinefoldError
from ninefold.ground.meter import Meter
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import batch_of
from ninefold.store.records.access import ROLES, Tokens, create_token
from ninefold.store.records.base import Records
from ninefold.store.records.migrate import upgrade
from ninefold.store.telemetry import Telemetry
from ninefold.web import problems
from ninefold.web.api import query, upkeep

pytestmark = pytest.mark.filterwarnings("ignore:You should not use the 'timeout'")
AT = now() - 3 * 86400 * SECOND


class Writer:
    """A store writer at rest."""

    def resting(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Served(SimpleNamespace):
    """A client of the API with an administrator's token, and the tokens of the others."""

    http: TestClient
    secrets: dict[str, str]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    config = Config(data=tmp_path / "data")
    records = Records(config.records_url)
    upgrade(records)
    journal = SqliteJournal(config.data / "journal.db", ("store",), 1 << 30, Meter())
    store = Telemetry(config.store_url)
    store.open()
    store.append([batch_of("log", "s", AT, [{"time": AT, "body": f"line {n}"} for n in range(5)])], "t")
    with records.session() as session:
        secrets = {role: create_token(session, role, role) for role in ROLES}
    api = FastAPI()
    api.state.ninefold = SimpleNamespace(
        config=config, records=records, tokens=Tokens(records), journal=journal, store=store, writer=Writer()
    )
    problems.install(api)
    for noun in (query, upkeep):
        api.include_router(noun.router, prefix="/api/v1")
    yield Served(http=TestClient(api, headers={"Authorization": f"Bearer {secrets['admin']}"}), secrets=secrets)
    store.close()
    journal.close()
    records.close()


@pytest.fixture
def command(served: Served, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command against the served API; standard output as bytes."""

    def connected() -> Client:
        client = Client("http://testserver")
        client._http = served.http
        return client

    monkeypatch.setattr(data, "Client", connected)

    def run(*arguments: str) -> bytes:
        result = CliRunner().invoke(cli, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return bytes(result.stdout_bytes)

    return run


def test_only_an_administrator_may(served: Served, tmp_path: Path) -> None:
    for role in ("viewer", "operator"):
        headers = {"Authorization": f"Bearer {served.secrets[role]}"}
        assert served.http.post("/api/v1/backup", json={"to": str(tmp_path / "b")}, headers=headers).status_code == 403
        order = {"to": str(tmp_path / "e"), "before": "2030-01-01T00:00:00Z"}
        assert served.http.post("/api/v1/export", json=order, headers=headers).status_code == 403
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "e").exists()


def test_paths_and_times_are_checked(served: Served, tmp_path: Path) -> None:
    assert served.http.post("/api/v1/backup", json={"to": "here"}).json()["where"] == "to"
    assert served.http.post("/api/v1/export", json={"to": str(tmp_path / "e"), "before": "soon"}).json()["where"] == "before"
    assert served.http.post("/api/v1/backup", json={"to": str(tmp_path)}).status_code == 409


def test_backup_and_restore_from_the_command_line(served: Served, command: Any, tmp_path: Path) -> None:
    manifest = json.loads(command("backup", str(tmp_path / "b")))
    assert set(manifest["files"]) == {"journal.db", "records.db"}
    assert (tmp_path / "b" / "store").is_dir()
    with pytest.raises(NinefoldError, match="not empty"):
        command("restore", str(tmp_path / "b"), "--data", str(tmp_path / "data"))


def test_export_from_the_command_line(command: Any, tmp_path: Path) -> None:
    files = json.loads(command("export", "--older-than", "2", "--to", str(tmp_path / "e")))
    assert [(file["path"].partition("/")[0], file["rows"]) for file in files] == [
        ("log", 5),
        ("series.parquet", 0),
        ("relation.parquet", 0),
    ]
    assert json.loads(command("export", "--before", "2026-01-01", "--to", str(tmp_path / "e"))) == [], "nothing is new"
    for wrong in ([], ["--before", "2026-01-01", "--older-than", "2"], ["--before", "soon"]):
        with pytest.raises(NinefoldError):
            command("export", "--to", str(tmp_path / "e"), *wrong)


def test_a_query_from_the_command_line_in_every_form(command: Any, tmp_path: Path) -> None:
    sql = "select body from log order by body limit 2"
    assert json.loads(command("query", sql)) == [{"body": "line 0"}, {"body": "line 1"}]
    assert command("query", sql, "--format", "csv") == b'"body"\n"line 0"\n"line 1"\n'
    command("query", sql, "--format", "arrow", "-o", str(tmp_path / "rows.arrows"))
    assert pa.ipc.open_stream((tmp_path / "rows.arrows").read_bytes()).read_all().to_pylist() == [{"body": "line 0"}, {"body": "line 1"}]
    with pytest.raises(NinefoldError, match="--format"):
        command("query", sql, "-o", str(tmp_path / "x"))
    with pytest.raises(NinefoldError, match="takes too long"):
        command("query", "select sum(cityHash64(number)) from numbers(100000000000)", "--timeout", "0.3")
