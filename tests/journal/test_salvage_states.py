"""What a journal keeps of states, places and parts when its file is damaged, and what its mark is good for."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from damaging import READERS, event, flip, ids, opened, page_of

from ninefold.engine.local import StoreWriter
from ninefold.ground.meter import Meter
from ninefold.journal import salvage
from ninefold.journal.mark import MarkFile
from ninefold.journal.pages import PAGE_BYTES
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Where a new journal may be made."""
    return tmp_path / "small" / "journal.db"


def break_chain(path: Path, letter: bytes) -> None:
    """Break what points to the next page in an overflow page full of a letter."""
    content = path.read_bytes()
    flip(path, next(at for at in range(0, len(content), PAGE_BYTES) if content[at + 4 : at + 10_004] == letter * 10_000), 4)


def break_header(path: Path) -> None:
    flip(path, 100, 10)


def test_a_long_state_with_a_broken_page_is_lost_alone(small: Path) -> None:
    journal = opened(small)
    journal.append([event("0")]).result()
    journal.commit("techniques", 1, b"z" * 100_000).result()
    journal.close()
    break_chain(small, b"z")
    journal = opened(small)
    assert journal.loss is not None
    assert journal.loss.readers == ["techniques"]
    assert (journal.position("techniques"), journal.state("techniques"), ids(journal)) == (1, b"", {1: "0"})
    journal.close()


@pytest.mark.parametrize("part", [False, True])
def test_a_state_that_breaks_while_running_is_lost_without_an_error(small: Path, part: bool) -> None:
    journal = opened(small)
    journal.commit("techniques", 0, b"z" * 100_000).result()
    journal.put("techniques", 0, b"y" * 100_000).result()
    journal.close()
    journal = opened(small)
    break_chain(small, b"y" if part else b"z")
    with ThreadPoolExecutor(1) as other:  # whose connection has none of the pages in its cache
        assert other.submit(lambda: journal.part("techniques", 0) if part else journal.state("techniques")).result() == b""
    assert "restart" in journal.problem
    journal.close()
    journal = opened(small)
    assert journal.loss is not None
    assert (len(journal.part("techniques", 0)), len(journal.state("techniques"))) == ((0, 100_000) if part else (100_000, 0))
    journal.close()


def test_a_flipped_bit_in_a_short_state_is_mended_from_the_mark(small: Path) -> None:
    journal = opened(small)
    journal.commit("store", 0, b"the plan").result()
    journal.close()
    flip(small, small.read_bytes().index(b"the plan"), 1)
    journal = opened(small)
    assert journal.loss is not None
    assert (journal.loss.reason, journal.loss.readers, journal.state("store")) == ("the state of store is damaged", [], b"the plan")
    journal.close()


def test_a_short_state_outlives_damage_while_running(small: Path) -> None:
    journal = opened(small)
    journal.commit("store", 0, b"the plan").result()
    with sqlite3.connect(small) as damage:
        damage.execute("update reader set state = zeroblob(8)")
    damage.close()
    assert journal.state("store") == b"the plan"
    journal.close()


class Counting:
    """A store that only counts what it is given."""

    given = 0

    def append(self, batches: Sequence[Batch], token: str) -> int:
        self.given += len(batches)
        return len(batches)


def test_an_older_mark_does_not_take_the_store_back(small: Path) -> None:
    journal = opened(small)
    journal.append([event(str(i), 10) for i in range(30)]).result()
    journal.commit("store", 5, struct.pack("<q", 10)).result()
    mark = small.with_suffix(".mark").read_bytes()
    journal.commit("store", 10, b"").result()
    journal.commit("store", 30, b"").result()
    journal.close()
    small.with_suffix(".mark").write_bytes(mark)
    break_header(small)
    journal = opened(small)
    assert journal.loss is not None
    assert (journal.position("store"), journal.state("store")) == (30, b"")
    journal.commit("store", 30, struct.pack("<q", 10)).result()
    store = Counting()
    assert StoreWriter(journal, store, lambda batch: [batch], Meter()).begin() == 30  # type: ignore[arg-type]
    assert (store.given, journal.position("store"), journal.state("store")) == (0, 30, b"")
    journal.close()


def test_readers_in_the_inner_pages_of_their_index_are_saved(small: Path) -> None:
    journal = opened(small)
    for done in [journal.append([], (f"source:{i:03}", b"x" * 900)) for i in range(60)]:
        done.result()
    journal.close()
    break_header(small)
    journal = opened(small)
    assert journal.loss is not None
    assert all(journal.state(f"source:{i:03}") == b"x" * 900 for i in range(60))
    journal.close()


def test_what_the_disk_cannot_read_costs_what_is_there(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(small)
    journal.append([event(str(i)) for i in range(30)]).result()
    journal.close()
    bad, pread = page_of(small, 13, -1), os.pread
    break_header(small)

    def failing(descriptor: int, size: int, at: int) -> bytes:
        if at <= bad < at + size:
            raise OSError(5, "Input/output error")
        return pread(descriptor, size, at)

    monkeypatch.setattr("ninefold.journal.pages.os.pread", failing)
    journal = opened(small)
    assert journal.loss is not None
    assert 0 < journal.loss.lost < 20
    assert len(ids(journal)) + journal.loss.lost == 30
    journal.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_CORRUPT_INDEX, sqlite3.SQLITE_IOERR_WRITE])
def test_an_error_of_reading_is_damage_and_one_of_writing_is_not(code: int) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert salvage.is_damage(error) == (code != sqlite3.SQLITE_IOERR_WRITE)


def test_a_salvage_without_a_mark_after_it_is_not_told_as_a_loss_by_the_next(small: Path) -> None:
    journal = opened(small)
    journal.append([event("0")]).result()
    journal.close()
    mark = small.with_suffix(".mark").read_bytes()
    break_header(small)
    opened(small).close()
    small.with_suffix(".mark").write_bytes(mark)
    journal = opened(small)
    assert journal.loss is None
    journal.append([event("1")]).result()
    journal.close()
    break_header(small)
    journal = opened(small)
    assert journal.loss is not None
    assert (journal.loss.lost, sorted(ids(journal).values())) == (0, ["0", "1"])
    journal.close()


def test_a_new_journal_behind_a_floor_is_whole_and_its_end_is_still_watched(small: Path) -> None:
    for _ in range(2):
        journal = SqliteJournal(small, READERS, 1 << 30, Meter(), 1000)
        assert journal.loss is None
        journal.close()
    journal = SqliteJournal(small, READERS, 1 << 30, Meter(), 1000)
    assert journal.append([event("0")]).result() == 1001
    journal.close()
    with sqlite3.connect(small) as other:
        other.execute("delete from log")
    other.close()
    journal = SqliteJournal(small, READERS, 1 << 30, Meter(), 1001)
    assert journal.loss is not None
    assert journal.loss.ranges == [(1001, 1001)]
    journal.close()


def test_a_reader_that_nobody_waits_for_is_in_the_mark(small: Path) -> None:
    journal = opened(small)
    journal.commit("techniques.told", 5).result()
    journal.close()
    mark = MarkFile(small.with_suffix(".mark")).read()
    assert mark is not None
    assert list(mark.readers["techniques.told"]) == [5, None]


def test_without_a_mark_a_reader_that_is_not_found_is_doubtful(small: Path) -> None:
    journal = opened(small)
    journal.commit("store", 0, b"plan").result()
    journal.close()
    small.with_suffix(".mark").unlink()
    break_header(small)
    journal = opened(small)
    assert journal.loss is not None
    assert journal.loss.readers == ["techniques"]
    journal.close()


def test_the_newest_part_is_saved(small: Path) -> None:
    journal = opened(small)
    for blob in (b"one", b"two", b"three"):
        journal.put("techniques", 0, blob).result()
    journal.close()
    break_header(small)
    journal = opened(small)
    assert journal.loss is not None
    assert journal.part("techniques", 0) == b"three"
    journal.close()
