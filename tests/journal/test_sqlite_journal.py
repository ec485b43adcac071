"""The journal keeps what it acknowledged, in order, through crashes; readers are exactly-once."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ninefold.ground.errors import Unavailable
from ninefold.ground.meter import Meter
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch, batch_of


def event(name: str, body: str = "") -> Batch:
    return batch_of("event", "test", 1, [{"id": name, "time": 1, "kind": "note", "entity": "service:a", "body": body}])


def names(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.rows.column("id").to_pylist()]


@pytest.fixture
def journal(tmp_path: Path):
    made = SqliteJournal(tmp_path / "journal.db", ("a", "b"), 1 << 30, Meter())
    yield made
    made.close()


def test_appends_are_read_back_in_order_with_positions(journal: SqliteJournal) -> None:
    ends = [journal.append([event(f"{i}"), event(f"{i}x")]).result() for i in range(5)]
    assert ends == [2, 4, 6, 8, 10]
    batches = journal.read(0)
    assert [batch.position for batch in batches] == list(range(1, 11))
    assert names(journal.read(8)) == ["4", "4x"]
    assert names(journal.read(0, limit=1)) == ["0"]
    assert journal.read(0, signals=("metric",)) == []
    assert journal.head() == 10


def test_many_threads_share_commits_and_lose_nothing(journal: SqliteJournal) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: journal.append([event(str(i))]).result(), range(400)))
    assert sorted(map(int, names(journal.read(0, limit=1000)))) == list(range(400))


def test_position_state_and_outputs_commit_together_and_survive(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path, ("a",), 1 << 30, Meter())
    journal.append([event("in")]).result()
    journal.commit("a", 1, b"state", [event("out")]).result()
    journal.commit("a", 1).result()  # a position alone leaves the state as it is
    journal.close()
    journal = SqliteJournal(path, ("a",), 1 << 30, Meter())
    assert (journal.position("a"), journal.state("a"), names(journal.read(1))) == (1, b"state", ["out"])
    assert journal.append([event("next")]).result() == 3
    journal.close()


def test_what_every_reader_has_passed_is_deleted_and_positions_never_restart(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path, ("a", "b"), 1 << 30, Meter())
    for i in range(3):
        journal.append([event(str(i))]).result()
    journal.commit("a", 3).result()
    deadline = time.monotonic() + 30
    while names(journal.read(0)) and time.monotonic() < deadline:
        journal.commit("b", 3).result()
    assert journal.read(0) == []
    assert journal.size_bytes() == 0
    journal.close()
    journal = SqliteJournal(path, ("a", "b"), 1 << 30, Meter())
    assert journal.append([event("later")]).result() == 4
    journal.close()


def test_a_full_journal_refuses_and_recovers(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db", ("a",), 10_000, Meter())
    journal.append([event("big", "x" * 20_000)]).result()
    with pytest.raises(Unavailable, match="full") as refusal:
        journal.append([event("more")])
    assert refusal.value.retry_after_s > 0
    journal.commit("a", 1, None, [event("own")]).result()  # a reader's own outputs are never refused: that would be a deadlock
    deadline = time.monotonic() + 30
    while journal.size_bytes() > 10_000 and time.monotonic() < deadline:
        journal.commit("a", 1).result()
    journal.append([event("more")]).result()
    assert names(journal.read(1)) == ["own", "more"]
    journal.close()


def test_a_full_journal_names_the_reader_that_holds_it(tmp_path: Path) -> None:
    meter = Meter()
    journal = SqliteJournal(tmp_path / "journal.db", ("quick", "slow"), 10_000, meter)
    assert journal.problem == ""
    journal.append([event("big", "x" * 20_000)]).result()
    journal.commit("quick", 1).result()
    assert "the reader slow is 1 batches behind" in journal.problem
    with pytest.raises(Unavailable, match="reader slow"):
        journal.append([event("more")])
    assert 'ninefold_journal_lag_batches{reader="slow"} 1.0' in meter.text()
    assert 'ninefold_journal_lag_batches{reader="quick"} 0.0' in meter.text()
    journal.close()


def test_a_damaged_batch_is_passed_over_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, meter = tmp_path / "journal.db", Meter()
    journal = SqliteJournal(path, ("a",), 1 << 30, meter)
    journal.append([event("0"), event("1"), event("2"), event("3")]).result()
    with sqlite3.connect(path) as damage:
        damage.execute("update log set blob = zeroblob(length(blob)) where position in (1, 2)")
    damage.close()
    assert names(journal.read(0)) == ["2", "3"]
    assert names(journal.read(0, limit=1)) == ["2"]  # two that cannot be read are not the end
    assert "ninefold_journal_lost_batches_total 2.0" in meter.text()
    assert sum("is lost" in record.message for record in caplog.records) == 2
    journal.close()


def test_wait_returns_when_something_arrives(journal: SqliteJournal) -> None:
    assert journal.wait(0, 0.01) is False
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(journal.wait, 0, 10)
        journal.append([event("a")]).result()
        assert waiting.result() is True


WRITER = """
    import sys
    from pathlib import Path
    from ninefold.ground.meter import Meter
    from ninefold.journal.sqlite import SqliteJournal
    from ninefold.model.signal import batch_of
    journal = SqliteJournal(Path(sys.argv[1]), ("a",), 1 << 30, Meter())
    i = int(sys.argv[2])
    while True:
        rows = [{"id": str(i + k), "time": 1, "kind": "n", "entity": "e"} for k in range(5)]
        futures = [journal.append([batch_of("event", "t", 1, [row])]) for row in rows]
        for k, future in enumerate(futures):
            future.result()
            print(i + k, flush=True)
        i += 5
"""


@pytest.mark.slow
def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path, acknowledged, start = tmp_path / "journal.db", set(), 0
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(start)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(random.randint(20, 400)):
            acknowledged.add(int(writer.stdout.readline()))
        writer.kill()
        acknowledged |= {int(line) for line in writer.stdout.read().split("\n")[:-1]}
        writer.wait()
        start = max(acknowledged) + 100
    journal = SqliteJournal(path, ("a",), 1 << 30, Meter())
    kept = [int(name) for name in names(journal.read(0, limit=1_000_000, size_bytes=1 << 30))]
    journal.close()
    assert acknowledged <= set(kept)
    assert len(kept) == len(set(kept))


def test_parts_of_a_state_are_kept_by_number_and_leave_the_position_alone(journal: SqliteJournal) -> None:
    journal.commit("a", 1, b"state").result()
    for number, blob in ((0, b"one"), (7, b"two"), (0, b"three")):
        journal.put("a", number, blob).result()
    assert [journal.part("a", number) for number in (0, 7, 1)] == [b"three", b"two", b""]
    assert (journal.position("a"), journal.state("a"), journal.part("b", 0)) == (1, b"state", b"")


def test_an_empty_part_gives_the_room_of_the_old_one_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path, ("a",), 1 << 30, Meter())
    for number in range(40):  # each in the pages of the one before
        journal.put("a", number, b"x" * 1_000_000).result()
        journal.put("a", number, b"").result()
    assert journal.part("a", 39) == b""
    journal.close()
    assert path.stat().st_size < 8_000_000


def test_a_reader_that_nobody_waits_for_has_a_position_too(journal: SqliteJournal) -> None:
    journal.commit("a.told", 5, None, [event("found")]).result()
    assert journal.position("a.told") == 5
    assert "found" in names(journal.read(0))
