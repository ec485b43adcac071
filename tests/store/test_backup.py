"""A backup taken while data flows is one moment of the program: restored and resumed it has everything once."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_process import Server

from ninefold.engine.local import StoreWriter
from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, Conflict, NinefoldError, NotFound, Refused, Unavailable
from ninefold.ground.meter import Meter
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch, batch_of
from ninefold.store import backup, schema
from ninefold.store.backup import back_up, restore
from ninefold.store.records.base import Audit, Outbox, Position, Records, Setting
from ninefold.store.records.incidents import Incident
from ninefold.store.records.migrate import upgrade
from ninefold.store.telemetry import Telemetry

READERS = ("store", "other")
TABLES = ("log", "metric", "metric_1m", "series", "event")
BEGIN = now()


class Program:
    """Journal, store writer, store and records of one data folder; a second reader commits to the records, as incidents do."""

    def __init__(self, data: Path, url: str = "", database: str = "ninefold") -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.path = data / "journal.db"
        self.records = Records(f"sqlite:///{data / 'records.db'}")
        upgrade(self.records)
        self.journal = SqliteJournal(self.path, READERS, 1 << 30, Meter())
        self.store = Telemetry(url or f"chdb://{data / 'store'}", database)
        self.store.open()
        self.writer = StoreWriter(self.journal, self.store, lambda batch: [batch], Meter(), gather_s=0.02)
        self.writer.start()

    def send(self, number: int) -> None:
        """Batches that can be told apart, acknowledged; and a change of the records that depends on the journal's position."""
        at = BEGIN + number * 1_000_000
        batches: list[Batch] = [
            batch_of("log", "s", at, [{"time": at, "body": f"{number}"}]),
            batch_of("series", "s", at, [{"series": number % 5, "name": "n", "seen": at}]),
            batch_of("metric", "s", at, [{"series": number % 5, "time": at, "value": float(number)}]),
            batch_of("event", "s", at, [{"id": f"{number}", "time": at}]),
        ]
        position = self.journal.append(batches).result()
        with self.records.session() as session:
            session.add(Outbox(topic="test", kind="sent", key=f"{number}"))
            session.merge(Position(reader="other", position=position))
        self.journal.commit("other", position).result()

    def drained(self) -> bool:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.journal.position("store") == self.journal.head() and not self.journal.state("store"):
                return True
            time.sleep(0.02)
        return False

    def numbers(self) -> list[int]:
        found = self.store.query("SELECT toUInt64(body) AS n FROM log ORDER BY n").column("n")
        return [int(number) for number in found.to_pylist()]

    def counts(self) -> dict[str, int]:
        counted = {name: "sum(count)" if name == "metric_1m" else "count()" for name in TABLES}
        return {name: self.store.query(f"SELECT {what} AS n FROM {name}").to_pylist()[0]["n"] for name, what in counted.items()}

    def close(self) -> None:
        self.writer.stop()
        self.store.close()
        self.journal.close()
        self.records.close()


def content(program: Program) -> dict[str, list[Any]]:
    """All rows of all tables of the store, and the records as statements."""
    columns = dict.fromkeys(schema.TABLES, "*")
    columns |= dict.fromkeys(
        ("metric_1m", "metric_1h"), "* REPLACE (finalizeAggregation(last) AS last)"
    )  # a state's bytes are the engine's
    rows = {name: sorted(map(str, program.store.query(f"SELECT {what} FROM {name}").to_pylist())) for name, what in columns.items()}
    with contextlib.closing(sqlite3.connect(str(program.records.engine.url.database))) as records:
        return {**rows, "records": list(records.iterdump())}


@pytest.fixture
def flowing(tmp_path: Path) -> Iterator[tuple[Program, list[int]]]:
    program, sent, stop = Program(tmp_path / "data"), [0], threading.Event()

    def flow() -> None:
        while not stop.is_set():
            program.send(sent[0])
            sent[0] += 1

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield program, sent
    finally:
        stop.set()
        thread.join()
        program.close()


def wait_for(sent: list[int], count: int) -> None:
    deadline = time.monotonic() + 60
    while sent[0] < count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent[0] >= count


def test_a_backup_while_data_flows_restores_to_one_moment(flowing: tuple[Program, list[int]], tmp_path: Path) -> None:
    program, sent = flowing
    wait_for(sent, 60)
    first = sent[0]
    manifest = back_up(tmp_path / "backup", program.path, program.records, program.store, program.writer.resting())
    last = sent[0] + 1
    assert set(manifest["files"]) == {"journal.db", "records.db"}
    wait_for(sent, last + 20)
    program.writer.stop()
    program.store.close()  # one process has one embedded engine at a time
    restore(tmp_path / "backup", tmp_path / "new", "", "ninefold")
    assert not list(tmp_path.glob(".*unfinished"))
    again = Program(tmp_path / "new")
    try:
        assert again.drained()
        numbers = again.numbers()
        assert numbers == list(range(len(numbers))), "missing or doubled"
        assert first <= len(numbers) <= last, "what was acknowledged before is in it"
        counts = again.counts()
        assert counts == {"log": len(numbers), "metric": len(numbers), "metric_1m": len(numbers), "series": 5, "event": len(numbers)}
        with again.records.reading() as session:
            position = session.get(Position, "other")
            assert position is not None
            assert again.journal.position("other") <= position.position <= again.journal.head()
        changes = [int(change.key) for change in again.records.outbox(0, 10**6)]
        assert changes == list(range(len(changes)))
        assert len(numbers) - 1 <= len(changes) <= len(numbers), "records and journal are of the same moment"
        for number in range(len(numbers), len(numbers) + 30):
            again.send(number)
        assert again.drained()
        assert again.numbers() == list(range(len(numbers) + 30)), "it goes on where it had committed"
    finally:
        again.close()


def test_the_backup_of_a_quiet_program_is_equal(tmp_path: Path) -> None:
    program = Program(tmp_path / "data")
    for number in range(40):
        program.send(number)
    assert program.drained()
    at = {
        "time": BEGIN,
        "seen": BEGIN,
        "series": 1,
        "value": 2.0,
        "entity": "host:a",
        "from_entity": "a",
        "to_entity": "b",
        "kind": "calls",
    }
    program.journal.append([batch_of(name, "s", BEGIN, [{"id": "x", **at}]) for name in schema.TABLES]).result()
    with program.records.session() as session:
        session.add_all([Audit(actor="ann", action="x"), Setting(key="k", value={"a": 1})])
        session.add(Incident(title="x", status="open", opened=BEGIN, first_event=BEGIN, last_event=BEGIN))
    assert program.drained()
    before, positions = content(program), [program.journal.position(reader) for reader in READERS]
    assert all(before.values()), "nothing is compared with nothing"
    back_up(tmp_path / "backup", program.path, program.records, program.store, program.writer.resting())
    program.close()
    restore(tmp_path / "backup", tmp_path / "new", "", "ninefold")
    again = Program(tmp_path / "new")
    try:
        assert content(again) == before
        assert [again.journal.position(reader) for reader in READERS] == positions
        assert again.journal.head() == program.journal.head()
    finally:
        again.close()


def test_what_cannot_be_backed_up_or_restored_says_why(tmp_path: Path) -> None:
    program = Program(tmp_path / "data")
    program.send(0)
    assert program.drained()
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("keep")
    with backup._running, pytest.raises(Conflict, match="another backup"):
        back_up(tmp_path / "b", program.path, program.records, program.store, program.writer.resting())
    with pytest.raises(Conflict, match="not empty"):
        back_up(full, program.path, program.records, program.store, contextlib.nullcontext())
    program.journal.commit("store", 1, b"12345678").result()  # an insert that is planned and not done
    with pytest.raises(Unavailable, match="last insert"):
        back_up(tmp_path / "b", program.path, program.records, program.store, program.writer.resting())
    program.journal.commit("store", 1, b"").result()
    back_up(tmp_path / "b", program.path, program.records, program.store, program.writer.resting())
    with pytest.raises(NinefoldError):
        back_up(tmp_path / "c", program.path, program.records, program.store, program.writer.resting(), "File('/proc/nowhere')")
    assert not list(tmp_path.glob(".*unfinished"))
    program.close()
    with pytest.raises(NotFound, match="no backup"):
        restore(tmp_path / "nowhere", tmp_path / "new", "", "ninefold")
    with pytest.raises(Conflict, match="not empty"):
        restore(tmp_path / "b", full, "", "ninefold")
    with (tmp_path / "b" / "journal.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff")
    with pytest.raises(BadData, match="not as it was written"):
        restore(tmp_path / "b", tmp_path / "new", "", "ninefold")
    assert not (tmp_path / "new").exists()
    assert (full / "mine").read_text() == "keep"


def test_records_elsewhere_are_not_backed_up(tmp_path: Path) -> None:
    class Elsewhere:
        class engine:  # noqa: N801 - as the attribute is called
            class dialect:  # noqa: N801
                name = "postgresql"

    with pytest.raises(Refused, match="not in SQLite"):
        back_up(tmp_path / "b", tmp_path / "j", Elsewhere(), None, contextlib.nullcontext())  # type: ignore[arg-type]


@pytest.mark.real
def test_a_store_on_a_server_goes_where_the_server_writes(clickhouse: Server, tmp_path: Path) -> None:
    program = Program(tmp_path / "data", clickhouse.url, "to_back_up")
    for number in range(20):
        program.send(number)
    assert program.drained()
    counts = program.counts()
    target = f"File('{clickhouse.folder}/backups/{{name}}')"
    back_up(tmp_path / "backup", program.path, program.records, program.store, program.writer.resting(), target)
    assert json.loads((tmp_path / "backup" / "manifest.json").read_text())["store"] == target.replace("{name}", "backup")
    with program.store._writers.client() as client:
        client.command("DROP DATABASE to_back_up SYNC")
    program.close()
    restore(tmp_path / "backup", tmp_path / "new", clickhouse.url, "to_back_up")
    again = Program(tmp_path / "new", clickhouse.url, "to_back_up")
    try:
        assert again.counts() == counts
        assert again.drained()
        assert again.counts() == counts
    finally:
        again.close()
