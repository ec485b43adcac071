"""Snapshots of techniques: large ones are written in parts, seen whole or not at all, and findings still come exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from ninefold.engine import snapshots
from ninefold.engine.snapshots import Snapshots
from ninefold.engine.techniques import TechniqueRunner
from ninefold.ground.errors import BadData, Unavailable
from ninefold.ground.meter import Meter
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch, batch_of

BASE = 1_000_000


def event(number: int) -> Batch:
    return batch_of("event", "test", 10**9, [{"id": str(number), "time": number, "kind": "note", "entity": "service:a"}])


def ids(batches: Sequence[Batch]) -> list[int]:
    return [int(name) for batch in batches for name in batch.rows.column("id").to_pylist()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 20 s"
        time.sleep(0.005)


class Hoarder:
    """Keeps every number it sees, a part each, and puts out an event that says how many there were."""

    name: ClassVar[str] = "hoarder"
    signals: ClassVar[frozenset[str]] = frozenset({"event"})

    whole = False
    """Only tens of numbers are a state."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def process(self, batch: Batch) -> list[Batch]:
        outputs = []
        for number in ids([batch]):
            if number < BASE:
                self.seen.append(number)
                outputs.append(event(BASE + len(self.seen)))
        return outputs

    def snapshot(self) -> bytes:
        return b",".join(self.parts())

    def restore(self, state: bytes) -> None:
        self.assemble(state.split(b",") if state else [])

    def parts(self) -> Iterator[bytes]:
        yield from (str(number).encode() for number in self.seen)

    def assemble(self, parts: Iterable[bytes]) -> None:
        self.seen = [int(part) for part in parts]
        if self.whole and len(self.seen) % 10:
            raise BadData("parts are missing")


class Small(Hoarder):
    """The same in one blob."""

    name: ClassVar[str] = "small"
    parts = assemble = None  # type: ignore[assignment]

    def snapshot(self) -> bytes:
        return b",".join(str(number).encode() for number in self.seen)

    def restore(self, state: bytes) -> None:
        self.seen = [int(part) for part in state.split(b",")] if state else []


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteJournal]:
    monkeypatch.setattr(snapshots, "_PART_BYTES", 4)
    monkeypatch.setattr("ninefold.engine.local._BACK_OFF_S", (0.001,))
    made = SqliteJournal(tmp_path / "journal.db", ("store", "techniques"), 1 << 30, Meter())
    yield made
    made.close()


def arrives(journal: SqliteJournal, after: int, number: int) -> None:
    until(lambda: number in ids(journal.read(after, limit=10_000)))


def keep(journal: SqliteJournal, *techniques: Hoarder) -> None:
    writer = Snapshots(journal, "techniques")
    writer.restore([])
    journal.commit("techniques", 1, writer.write(techniques)).result()
    writer.written()


def kept(journal: SqliteJournal) -> list[int]:
    technique = Hoarder()
    Snapshots(journal, "techniques").restore([technique])
    return technique.seen


def test_a_snapshot_in_parts_is_read_back_whole_and_the_next_one_replaces_it(journal: SqliteJournal) -> None:
    technique, small = Hoarder(), Small()
    for size in (50, 3, 0, 120, 121):
        technique.seen, small.seen = list(range(size)), [size]
        keep(journal, small, technique)
        assert kept(journal) == technique.seen
        both = Small(), Hoarder()
        both[0].seen = [-1]
        Snapshots(journal, "techniques").restore(both)
        assert [one.seen for one in both] == [[size], technique.seen]


def test_a_snapshot_that_was_not_finished_leaves_the_one_before(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    technique = Hoarder()
    technique.seen = list(range(100, 150))
    keep(journal, technique)
    keep(journal, technique)  # both sets of parts are there now
    technique.seen = list(range(500, 560))
    writer, put, written = Snapshots(journal, "techniques"), journal.put, []

    def fails_at_last(reader: str, number: int, blob: bytes) -> Future[int]:
        written.append(number)
        if len(written) == 20:
            raise Unavailable("the disk is full")
        return put(reader, number, blob)

    monkeypatch.setattr(journal, "put", fails_at_last)
    writer.restore([])
    with pytest.raises(Unavailable):
        writer.write([technique])
    assert kept(journal) == list(range(100, 150))
    written.extend(range(20))
    state = writer.write([technique])  # all parts are there, the commit is not
    assert kept(journal) == list(range(100, 150))
    journal.commit("techniques", 2, state).result()
    assert kept(journal) == list(range(500, 560))


def test_a_state_from_before_there_were_parts_is_read(journal: SqliteJournal) -> None:
    table = pa.table({"name": pa.array(["hoarder"]), "state": pa.array([b"17"], pa.large_binary())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    journal.commit("techniques", 1, sink.getvalue().to_pybytes()).result()
    assert kept(journal) == [17]


def test_parts_that_cannot_be_read_do_not_disturb_the_neighbours(journal: SqliteJournal) -> None:
    class Newer(Hoarder):
        def assemble(self, parts: Iterable[bytes]) -> None:
            self.seen = [int(part) for part, _ in zip(parts, range(3), strict=False)]
            if self.seen:
                raise BadData("the snapshot is of version 9")

    technique, small = Hoarder(), Small()
    technique.seen, small.seen = list(range(40)), [5]
    keep(journal, technique, small)
    newer, again = Newer(), Small()
    Snapshots(journal, "techniques").restore([newer, again])
    assert newer.seen == []
    assert again.seen == [5]


def test_findings_of_a_large_state_go_at_once_and_come_once_whenever_it_ends(journal: SqliteJournal) -> None:
    class Fragile(Hoarder):
        doomed: ClassVar[set[int]] = {3, 25, 47, 48, 71}

        def process(self, batch: Batch) -> list[Batch]:
            outputs = super().process(batch)
            for number in self.doomed.intersection(ids([batch])):
                self.doomed.discard(number)
                raise RuntimeError("crashed")
            return outputs

    for number in range(20):
        journal.append([event(number)]).result()
    runner = TechniqueRunner(journal, [Fragile()], lambda batch: [batch], Meter(), commit_s=0.01)
    runner.start()
    until(lambda: journal.position("techniques") >= 20)
    runner.stop()
    for round_ in range(1, 4):
        runner = TechniqueRunner(journal, [Fragile()], lambda batch: [batch], Meter(), commit_s=60.0)
        runner.start()
        before = journal.position("techniques")
        for number in range(round_ * 20, round_ * 20 + 20):
            journal.append([event(number)]).result()
        arrives(journal, before, BASE + round_ * 20 + 20)
        assert journal.position("techniques") == before, "the state is not due yet"
        assert journal.position("techniques.told") > before
        if round_ != 2:  # the second one ends as a crash does: its state is lost, what it told is not
            runner.stop()
        else:
            runner._dirty_since, runner._outputs = 0.0, []
            runner.idle = lambda: None  # type: ignore[method-assign]
            runner.stop()
    assert kept(journal) == list(range(80))
    found = [number for number in ids(journal.read(0, limit=10_000)) if number >= BASE]
    assert found == [BASE + 1 + i for i in range(80)]


def test_a_part_of_another_snapshot_is_not_mixed_in(journal: SqliteJournal, caplog: pytest.LogCaptureFixture) -> None:
    technique, small = Hoarder(), Small()
    technique.seen, small.seen = list(range(40)), [5]
    keep(journal, technique, small)
    older = journal.part("techniques", 3)
    for _ in range(2):
        keep(journal, technique, small)
    assert journal.part("techniques", 3) != older
    journal.put("techniques", 3, older).result()
    found = Hoarder(), Small()
    found[0].seen, found[0].whole = [-1], True
    Snapshots(journal, "techniques").restore(found)
    assert [one.seen for one in found] == [[], [5]], "what is small does not depend on the parts"
    assert "part 1 of the snapshot is lost" in caplog.text


def test_a_snapshot_that_shrank_leaves_no_parts_behind(journal: SqliteJournal) -> None:
    technique = Hoarder()
    for size in (300, 300, 40, 40):
        technique.seen = list(range(size))
        keep(journal, technique)
    assert any(journal.part("techniques", number) for number in range(20))
    assert not any(journal.part("techniques", number) for number in range(36, 400))
