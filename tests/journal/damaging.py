"""Journals to damage, and ways to damage them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ninefold.ground.meter import Meter
from ninefold.journal.pages import PAGE_BYTES
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch, batch_of

READERS = ("store", "techniques")


def event(name: str, size: int = 3000) -> Batch:
    return batch_of("event", "test", 1, [{"id": name, "time": 1, "kind": "note", "entity": "service:a", "body": name[0] * size}])


def ids(journal: SqliteJournal, after: int = 0) -> dict[int, str]:
    found = dict[int, str]()
    while batches := journal.read(after, limit=10_000, size_bytes=1 << 30):
        found |= {batch.position: batch.rows.column("id")[0].as_py() for batch in batches if batch.source == "test"}
        after = batches[-1].position
    return found


def opened(path: Path, meter: Meter | None = None) -> SqliteJournal:
    return SqliteJournal(path, READERS, 1 << 30, meter or Meter())


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def flip(path: Path, at: int, size: int = 8) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(size)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in old))


def truncate(path: Path, to: Callable[[int], int]) -> None:
    os.truncate(path, to(path.stat().st_size))


def page_of(path: Path, kind: int, which: int) -> int:
    """Where the page of this kind (13: rows) begins in the main file."""
    content = path.read_bytes()
    starts = [at for at in range(PAGE_BYTES, len(content), PAGE_BYTES) if content[at] == kind]
    return starts[which]
