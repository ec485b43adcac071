"""A journal that was damaged on disk: what can be read is saved under its positions, what is lost is told, no position comes twice."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from damaging import event, flip, ids, opened, page_of, truncate, wal

from ninefold.ground.errors import Unavailable
from ninefold.ground.meter import Meter
from ninefold.journal import salvage
from ninefold.journal.mark import MarkFile
from ninefold.journal.pages import PAGE_BYTES
from ninefold.journal.salvage import GAP

COUNT = 200
READ = 20


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a journal as kill -9 leaves them: half in the file, half in its write-ahead log; some batches have overflow pages."""
    path = tmp_path_factory.mktemp("killed") / "a" / "journal.db"
    journal = opened(path)
    for first in range(0, COUNT, 20):
        size = 40_000 if first % 100 == 40 else 3000
        journal.append([event(str(i), size) for i in range(first, first + 20)], ("source:files", str(first + 20).encode())).result()
        if first == COUNT // 2:
            with sqlite3.connect(path) as other:
                other.execute("pragma wal_checkpoint(truncate)")
            other.close()
    journal.commit("store", READ, b"plan").result()
    journal.commit("techniques", READ + 30, b"t" * 100_000).result()
    copy = path.parent.parent / "b"
    shutil.copytree(path.parent, copy)
    journal.close()
    return copy


@pytest.fixture
def path(killed: Path, tmp_path: Path) -> Path:
    shutil.copytree(killed, tmp_path / "data")
    return tmp_path / "data" / "journal.db"


def test_what_kill_9_leaves_is_no_damage(path: Path) -> None:
    journal = opened(path)
    assert journal.loss is None
    assert ids(journal) == {i + 1: str(i) for i in range(COUNT)}
    assert journal.append([event("next")]).result() == COUNT + 1
    assert journal.state("source:files") == b"200"
    journal.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.db", "journal.mark"]


def half_file(path: Path) -> None:
    truncate(path, lambda size: size // 2)


def quarter_file_without_log(path: Path) -> None:
    truncate(path, lambda size: size // 4 + 77)
    wal(path).unlink()


def flipped_page_header(path: Path) -> None:
    flip(path, page_of(path, 13, 3))


def flipped_first_page(path: Path) -> None:
    opened(path).close()
    flip(path, 0, 4096)


def garbage_log(path: Path) -> None:
    wal(path).write_bytes(os.urandom(100_000))


def no_log(path: Path) -> None:
    wal(path).unlink()


def log_cut_at_a_frame(path: Path) -> None:
    truncate(wal(path), lambda size: 32 + (size - 32) // (PAGE_BYTES + 24) // 2 * (PAGE_BYTES + 24))


def log_flipped_in_the_middle(path: Path) -> None:
    flip(wal(path), 32 + 5 * (PAGE_BYTES + 24) + 9000)


def log_without_its_header(path: Path) -> None:
    flip(wal(path), 0, 32)


def empty_file(path: Path) -> None:
    truncate(path, lambda size: 0)


def empty_file_and_no_log(path: Path) -> None:
    truncate(path, lambda size: 0)
    wal(path).unlink()


def no_sqlite(path: Path) -> None:
    path.write_bytes(b"these are the wrong trousers\n" * 5000)
    wal(path).unlink()


DAMAGES = [
    half_file, quarter_file_without_log, flipped_page_header, flipped_first_page, garbage_log, no_log, log_cut_at_a_frame,
    log_flipped_in_the_middle, log_without_its_header, empty_file, empty_file_and_no_log, no_sqlite,
]  # fmt: skip
LEAST = {flipped_page_header: 150, log_flipped_in_the_middle: 160, log_without_its_header: 170, flipped_first_page: 170, empty_file: 60}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_can_be_read_is_saved_and_the_rest_is_told(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith(("-shm", ".mark"))}
    name = MarkFile(path.with_suffix(".mark")).read()
    assert name is not None
    meter = Meter()
    journal = opened(path, meter)
    loss = journal.loss
    assert loss is not None
    found = ids(journal)
    assert all(found[position] == str(position - 1) for position in found)
    assert min(found, default=READ + 1) > READ
    lost = set(range(READ + 1, COUNT + 1)) - set(found)
    assert (loss.saved, loss.lost, loss.exact) == (len(found), len(lost), True)
    assert {position for first, last in loss.ranges for position in range(first, last + 1)} == lost
    assert len(found) >= LEAST.get(damage, 0)
    assert f"ninefold_journal_lost_batches_total {float(len(lost))}" in meter.text() or not lost
    assert any(str(loss) == record.message for record in caplog.records)

    assert journal.id == name.id
    assert (journal.position("store"), journal.state("store"), journal.position("techniques")) == (READ, b"plan", READ + 30)
    notice = journal.read(COUNT)[-1]
    assert (notice.position, notice.rows.column("title")[0].as_py()) == (journal.head(), str(loss))
    assert journal.append([event("next")]).result() > COUNT + GAP
    for file, content in before.items():
        assert path.with_name(file.replace("journal.db", loss.kept.name)).read_bytes() == content
    journal.close()

    again = opened(path)
    assert again.loss is None
    assert ids(again).items() >= found.items()
    again.close()


def test_a_state_that_went_with_its_pages_is_told(path: Path) -> None:
    no_sqlite(path)
    journal = opened(path)
    assert journal.loss is not None
    assert journal.loss.readers == ["source:files", "techniques"]
    assert (journal.state("source:files"), journal.state("techniques")) == (b"", b"")
    journal.close()


def test_without_a_mark_what_is_there_is_saved(path: Path) -> None:
    path.with_suffix(".mark").unlink()
    half_file(path)
    journal = opened(path)
    assert journal.loss is not None
    assert not journal.loss.exact
    assert "perhaps more" in str(journal.loss)
    assert ids(journal)
    journal.close()


def test_flipped_bits_in_a_batch_cost_that_batch_only(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(path).close()
    content = path.read_bytes()
    flip(path, content.index(b"3" * 2000) + 500, 1)
    journal = opened(path, meter := Meter())
    assert journal.loss is None
    lost = set(range(1, COUNT + 1)) - set(ids(journal))
    assert len(lost) == 1
    assert "ninefold_journal_lost_batches_total 1.0" in meter.text()
    assert any("checksum" in record.message for record in caplog.records)
    journal.close()


def test_an_overflow_page_broken_while_running_costs_one_batch_and_is_mended_at_the_next_start(path: Path) -> None:
    opened(path).close()
    content = path.read_bytes()
    at = next(at for at in range(0, len(content), PAGE_BYTES) if content[at + 4 : at + 15_000] == b"4" * 14_996)
    journal = opened(path)
    flip(path, at, 4)  # what points to the next page
    found = ids(journal)
    assert len(found) == COUNT - 1
    assert "restart" in journal.problem
    journal.close()
    again = opened(path)
    assert again.loss is not None
    assert ids(again) == {position: name for position, name in found.items() if position > READ}
    again.close()


def test_a_leaf_page_broken_while_running_stops_reading_until_the_next_start(path: Path) -> None:
    opened(path).close()
    at = page_of(path, 13, 8)
    journal = opened(path)
    flip(path, at, 1)
    with pytest.raises(Unavailable, match="restart"):
        ids(journal)
    journal.close()
    again = opened(path)
    assert again.loss is not None
    assert 0 < again.loss.lost < 20
    assert len(ids(again)) + again.loss.lost == COUNT - READ
    again.close()


def test_a_salvage_that_was_interrupted_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    garbage_log(path)
    replace = os.replace

    def die(source: object, target: object) -> None:
        raise Killed

    monkeypatch.setattr(salvage.os, "replace", die)
    with pytest.raises(Killed):
        opened(path)
    assert not path.exists()
    monkeypatch.setattr(salvage.os, "replace", replace)
    journal = opened(path)
    assert journal.loss is None
    assert journal.read(COUNT)[-1].source == "ninefold.journal"
    assert ids(journal)
    assert journal.append([event("next")]).result() > COUNT + GAP
    journal.close()


def test_a_file_of_an_older_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = opened(path)
    journal.append([event("0")]).result()
    journal.commit("store", 0, b"state").result()
    journal.close()
    path.with_suffix(".mark").unlink()
    with sqlite3.connect(path) as old:
        old.executescript("alter table log drop column crc; drop table part")
        old.execute("alter table reader drop column crc")
    old.close()
    journal = opened(path)
    journal.append([event("1")]).result()
    assert ids(journal) == {1: "0", 2: "1"}
    assert journal.state("store") == b"state"
    journal.close()
    no_sqlite_header = path.read_bytes()
    path.write_bytes(b"x" * 100 + no_sqlite_header[100:])
    journal = opened(path)
    assert journal.loss is not None
    assert ids(journal) == {1: "0", 2: "1"}
    journal.close()


def test_a_senders_place_is_kept_with_its_batches(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = opened(path)
    journal.append([event("0")], ("source:orders", b"place 1")).result()
    journal.append([], ("source:orders", b"place 2")).result()
    journal.close()
    journal = opened(path)
    assert journal.state("source:orders") == b"place 2"
    assert journal.head() == 1
    journal.close()
