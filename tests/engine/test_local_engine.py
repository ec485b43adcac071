"""Followers of the journal are exactly-once: whatever fails and whenever they stop, nothing is missing and nothing is doubled."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from ninefold.engine import local
from ninefold.engine.local import EventFollower, StoreWriter
from ninefold.engine.techniques import TechniqueRunner
from ninefold.ground.errors import BadData, NotFound, Unavailable
from ninefold.ground.meter import Meter
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch, batch_of
from ninefold.sources import replay


def event(number: int) -> Batch:
    return batch_of("event", "test", 10**9, [{"id": str(number), "time": number, "kind": "note", "entity": "service:a"}])


def ids(batches: Sequence[Batch]) -> list[int]:
    ours = (batch for batch in batches if batch.source != "ninefold.engine")
    return [int(name) for batch in ours for name in batch.rows.column("id").to_pylist()]


def same(batch: Batch) -> list[Batch]:
    return [batch]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 20 s"
        time.sleep(0.005)


class TokenStore:
    """Keeps rows by token as the real store does, and fails now and then before or after it has kept them."""

    def __init__(self, seed: int) -> None:
        self.kept: dict[str, list[int]] = {}
        self.random = random.Random(seed)

    def append(self, batches: Sequence[Batch], token: str) -> int:
        if self.random.random() < 0.2:
            raise Unavailable("before")
        self.kept.setdefault(token, ids(batches))
        if self.random.random() < 0.2:
            raise Unavailable("after")
        return len(self.kept[token])

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        raise NotImplementedError


class Doubler:
    """A technique whose state matters: it numbers the events it sees and puts out one event for each."""

    name: ClassVar[str] = "doubler"
    signals: ClassVar[frozenset[str]] = frozenset({"event"})

    def __init__(self) -> None:
        self.seen = 0

    def process(self, batch: Batch) -> list[Batch]:
        outputs = []
        for number in ids([batch]):
            if number < 1_000_000:
                self.seen += 1
                outputs.append(event(1_000_000 + self.seen))
        return outputs

    def snapshot(self) -> bytes:
        return struct.pack("<q", self.seen)

    def restore(self, state: bytes) -> None:
        self.seen = struct.unpack("<q", state)[0] if state else 0


@pytest.fixture
def journal(tmp_path: Path):
    made = SqliteJournal(tmp_path / "journal.db", ("store", "techniques", "incidents"), 1 << 30, Meter())
    yield made
    made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninefold.engine.local._BACK_OFF_S", (0.001,))


def test_store_writer_keeps_everything_once_through_failures_and_restarts(journal: SqliteJournal) -> None:
    store = TokenStore(7)
    for round_ in range(6):
        writer = StoreWriter(journal, store, same, Meter(), gather_s=0.001)
        writer.start()
        for number in range(round_ * 50, round_ * 50 + 50):
            journal.append([event(number)]).result()
        if round_ < 5:
            writer.stop()  # in the middle of whatever it does
        else:
            until(lambda: journal.position("store") == 300)
            writer.stop()
    kept = [number for numbers in store.kept.values() for number in numbers]
    assert sorted(kept) == list(range(300))


def test_store_writer_redoes_a_planned_insert_with_the_same_token(journal: SqliteJournal) -> None:
    for number in range(10):
        journal.append([event(number)]).result()
    journal.commit("store", 4, struct.pack("<q", 7)).result()  # as a crash between plan and commit leaves it
    store = TokenStore(0)
    store.random.random = lambda: 1.0  # type: ignore[method-assign]
    writer = StoreWriter(journal, store, same, Meter(), gather_s=0.001)
    writer.start()
    until(lambda: journal.position("store") == 10)
    writer.stop()
    assert store.kept == {f"{journal.id}-4-7": [4, 5, 6], f"{journal.id}-7-10": [7, 8, 9]}


class Fragile(Doubler):
    """Loses its memory in the middle of a batch now and then, as a crash would."""

    random = random.Random(3)

    def process(self, batch: Batch) -> list[Batch]:
        outputs = super().process(batch)
        if self.random.random() < 0.01:
            raise RuntimeError("crashed")
        return outputs


def test_technique_runner_commits_state_position_and_findings_together(journal: SqliteJournal) -> None:
    for round_ in range(4):
        runner = TechniqueRunner(journal, [Fragile()], same, Meter(), commit_s=0.02)
        runner.start()
        for number in range(round_ * 50, round_ * 50 + 50):
            journal.append([event(number)]).result()
        if round_ == 3:
            until(lambda: journal.position("techniques") >= 200 and journal.position("techniques") == journal.head())
        runner.stop()
    found = [number for number in ids(journal.read(0, limit=100_000)) if number >= 1_000_000]
    assert found == [1_000_001 + i for i in range(200)]


class Slow(Doubler):
    """Is in the middle of a batch until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go = threading.Event(), threading.Event()
        self.steps: list[str] = []

    def process(self, batch: Batch) -> list[Batch]:
        self.inside.set()
        self.go.wait(20)
        self.steps.append("processed")
        return super().process(batch)


def test_a_technique_is_asked_between_two_batches(journal: SqliteJournal) -> None:
    slow = Slow()
    runner = TechniqueRunner(journal, [slow], same, Meter(), commit_s=0.02)
    runner.start()
    journal.append([event(1)]).result()
    assert slow.inside.wait(20)
    asking = threading.Thread(target=runner.ask, args=(slow.name, lambda technique: technique.steps.append("asked")))
    asking.start()
    slow.go.set()
    asking.join(20)
    runner.stop()
    assert slow.steps == ["processed", "asked"]
    with pytest.raises(NotFound, match=f"there is no technique 'other'; there are {slow.name}"):
        runner.ask("other", len)


def test_event_follower_resumes_at_the_consumers_own_position(journal: SqliteJournal) -> None:
    consumed: list[int] = []
    position = [0]

    def consume(batches: list[Batch], upto: int) -> None:
        if len(consumed) == 3 and position[0] == 3:
            position[0] = -3
            raise Unavailable("once")
        consumed.extend(ids(batches))
        position[0] = upto

    follower = EventFollower(journal, same, consume, lambda: abs(position[0]), lambda: None, Meter())
    follower.start()
    for number in range(3):
        journal.append([event(number)]).result()
    until(lambda: consumed == [0, 1, 2])
    metric = batch_of("metric", "test", 1, [{"series": 1, "time": 1, "value": 1.0}])
    journal.append([metric]).result()
    for number in range(3, 6):
        journal.append([event(number)]).result()
    until(lambda: consumed == [0, 1, 2, 3, 4, 5])
    until(lambda: journal.position("incidents") == journal.head())
    follower.stop()
    assert follower.problem == ""


class Allergic(Doubler):
    """Cannot take one number."""

    name: ClassVar[str] = "allergic"
    bad: ClassVar[set[int]] = {13}

    def process(self, batch: Batch) -> list[Batch]:
        outputs = super().process(batch)  # what it learned of it before it fails must not stay
        if self.bad.intersection(ids([batch])):
            raise ValueError("thirteen")
        return [batch_of("event", "test", 10**9, [{"id": str(2_000_000 + number)}]) for number in ids(outputs)]


def numbers(found: Sequence[Batch], kind: str) -> list[int]:
    least = {"doubler": 1_000_000, "allergic": 3_000_000}[kind]
    return [number - least for number in ids([one for one in found if one.signal == "event"]) if least <= number < least + 1_000_000]


def test_a_batch_one_technique_cannot_take_is_kept_from_it_alone(journal: SqliteJournal) -> None:
    for number in range(10, 16):
        journal.append([event(number)]).result()
    runner = TechniqueRunner(journal, [Allergic(), Doubler()], same, Meter(), commit_s=0.02)
    runner.start()
    until(lambda: journal.position("techniques") >= 6 and journal.position("techniques") == journal.head())
    runner.stop()
    found = journal.read(0, limit=1000)
    assert numbers(found, "doubler") == [1, 2, 3, 4, 5, 6]
    assert numbers(found, "allergic") == [1, 2, 3, 4, 5]
    (bad,) = [batch for batch in found if batch.signal == "quarantine"]
    assert bad.rows["reason"].to_pylist() == ["allergic failed on it: thirteen"]
    (again,) = replay.batches(pa.Table.from_batches([bad.rows]), 5)
    assert (again.signal, "only the analytics" in again.rows["reason"][0].as_py()) == ("quarantine", True)
    told = [row for batch in found for row in (batch.rows.to_pylist() if batch.source == "ninefold.engine" else ())]
    assert [(row["status"], dict(row["attributes"])["failing"]) for row in told] == [("firing", "allergic")]
    assert "thirteen" in runner.notices()["technique allergic"]


def test_a_technique_that_fails_on_everything_is_set_aside_and_comes_back(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("ninefold.engine.aside.time.monotonic", lambda: clock[0])
    calls = []

    class Broken(Allergic):
        bad: ClassVar[set[int]] = set(range(3, 20))

        def process(self, batch: Batch) -> list[Batch]:
            calls.append(ids([batch]))
            return super().process(batch)

    meter = Meter()
    runner = TechniqueRunner(journal, [Broken(), Doubler()], same, meter)
    runner.begin()
    for number in range(30):
        runner.handle([Batch("event", "test", 10**9, event(number).rows, journal.append([event(number)]).result())])
        clock[0] += 0.9
        if number == 25:
            clock[0] += 600
    runner.settle()
    found = journal.read(0, limit=1000)
    assert numbers(found, "doubler") == list(range(1, 31))
    assert len(calls) < 60, "it was let alone for a while"
    told = [row for batch in found for row in (batch.rows.to_pylist() if batch.source == "ninefold.engine" else ())]
    assert [row["status"] for row in told] == ["firing", "resolved"]
    assert "works again" in told[1]["title"]
    assert runner.notices() == {}
    missed = {labels: value for name, _, labels, value in meter.samples() if name == "ninefold_techniques_missed_total"}
    assert sum(missed.values()) == 30 - len(numbers(found, "allergic")) > 20


class Mute(Doubler):
    """Cannot say its state from its third event on."""

    name: ClassVar[str] = "mute"

    def snapshot(self) -> bytes:
        if self.seen > 2:
            raise RuntimeError("no words")
        return super().snapshot()


def test_a_technique_that_cannot_say_its_state_does_not_keep_the_others_from_theirs(journal: SqliteJournal) -> None:
    for number in range(5):
        journal.append([event(number)]).result()
    techniques = [Mute(), Doubler()]
    runner = TechniqueRunner(journal, techniques, same, Meter())
    runner.begin()
    runner.handle(journal.read(0))
    runner.settle()
    assert (journal.position("techniques"), techniques[0].seen) == (5, 0)
    again = [Mute(), Doubler()]
    TechniqueRunner(journal, again, same, Meter()).begin()
    assert [technique.seen for technique in again] == [0, 5]


def test_a_batch_the_store_refuses_goes_to_quarantine_and_the_rest_is_stored(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_BACK_OFF_S", (0.001,))

    class Picky(TokenStore):
        def append(self, batches: Sequence[Batch], token: str) -> int:
            if 3 in ids(batches):
                raise BadData("it has other columns than its signal")
            return super().append(batches, token)

    store = Picky(0)
    store.random.random = lambda: 1.0  # type: ignore[method-assign]
    for number in range(6):
        journal.append([event(number)]).result()
    writer = StoreWriter(journal, store, lambda batch: [batch] if batch.signal == "event" else [], Meter(), gather_s=0.001)
    writer.start()
    until(lambda: journal.position("store") >= 6)
    writer.stop()
    assert sorted(n for kept in store.kept.values() for n in kept) == [0, 1, 2, 4, 5]
    (bad,) = [batch for batch in journal.read(0, limit=100) if batch.signal == "quarantine"]
    assert bad.rows["reason"].to_pylist() == ["the store refuses it: it has other columns than its signal"]
    assert ids(replay.batches(pa.Table.from_batches([bad.rows]), 5)) == [3]


def test_another_journal_starts_tokens_of_its_own_behind_a_known_position(tmp_path: Path) -> None:
    made = [SqliteJournal(tmp_path / name, ("store",), 1 << 30, Meter(), floor) for name, floor in (("a.db", 0), ("b.db", 1000))]
    assert made[0].id != made[1].id
    assert [journal.append([event(1)]).result() for journal in made] == [1, 1001]
    for journal in made:
        journal.close()
    again = SqliteJournal(tmp_path / "a.db", ("store",), 1 << 30, Meter())
    assert again.id == made[0].id
    again.close()


def test_a_caller_who_gives_up_does_not_stop_the_journal(journal: SqliteJournal) -> None:
    futures = [journal.append([event(number)]) for number in range(50)]
    for future in futures:
        future.cancel()
    assert journal.append([event(99)]).result(10) == 51
    assert len(journal.read(0, limit=100)) == 51


def test_a_snapshot_that_cannot_be_read_lets_the_technique_learn_afresh(journal: SqliteJournal) -> None:
    class Newer(Doubler):
        def restore(self, state: bytes) -> None:
            if state:
                raise BadData("the snapshot is of version 9")
            super().restore(state)

    journal.append([event(1)]).result()
    first = TechniqueRunner(journal, [Doubler()], same, Meter(), commit_s=0.02)
    first.start()
    until(lambda: journal.position("techniques") == journal.head() >= 2)
    first.stop()
    second = TechniqueRunner(journal, [Newer()], same, Meter(), commit_s=0.02)
    second.start()
    journal.append([event(2)]).result()
    until(lambda: journal.position("techniques") == journal.head() >= 4)
    second.stop()
