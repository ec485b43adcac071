"""An insert that a kill cut off between its token and its part: the rows are inserted again, and nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ninefold.model.signal import Batch, batch_of
from ninefold.store.telemetry import Telemetry
from ninefold.store.unfinished import take_back

BASE = 1_790_000_000_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextmanager
def opened(folder: Path) -> Iterator[Telemetry]:
    store = Telemetry(f"chdb://{folder}", retention_days=dict.fromkeys(("metric", "log", "span", "event"), 3650))
    store.open()
    try:
        yield store
    finally:
        store.close()


def spans(number: int) -> Batch:
    rows = [{"time": BASE + number, "trace_id": "a" * 32, "span_id": f"{number:016x}", "name": "call", "entity": "service:a"}]
    return batch_of("span", "test", BASE, rows)


def parts(folder: Path) -> set[Path]:
    return {path for path in folder.glob("store/*/*/*_*_*_*") if path.is_dir() and path.name[0].isdigit()}


def known(store: Telemetry) -> list[int]:
    return sorted(int(number, 16) for number in store.query("select span_id from span")["span_id"].to_pylist())


def test_rows_whose_token_was_written_and_whose_part_was_not_are_taken_again(folder: Path) -> None:
    with opened(folder) as store:
        store.append([spans(1)], "j-0-1")
        before = parts(folder)
        store.append([spans(2)], "j-1-2")
        (lost,) = parts(folder) - before
    shutil.rmtree(lost)  # as after a kill before the part got its name
    with opened(folder) as store:
        assert known(store) == [1]
        store.append([spans(1)], "j-0-1")
        store.append([spans(2)], "j-1-2")
        assert known(store) == [1, 2], "what is there is not doubled, what is not is taken"
        store.append([spans(2)], "j-1-2")
        assert known(store) == [1, 2]


def test_tokens_of_merged_parts_stay(folder: Path) -> None:
    with opened(folder) as store:
        for number in range(1, 6):
            store.append([spans(number)], f"j-{number}")
        with store._writers.client() as client:
            client.command("optimize table ninefold.span final")
    assert take_back(folder) == 0
    with opened(folder) as store:
        store.append([spans(3)], "j-3")
        assert known(store) == [1, 2, 3, 4, 5]


def test_a_token_is_taken_back_once(folder: Path) -> None:
    with opened(folder) as store:
        store.append([spans(1)], "j-0-1")
        (lost,) = parts(folder)
    shutil.rmtree(lost)
    assert take_back(folder) > 0
    assert take_back(folder) == 0
