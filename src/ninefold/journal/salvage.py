"""A damaged journal: seeing that it is one, and making a new file of all that can still be read.

The look at the start reads what the start reads anyway, compares it with the mark (see `mark`), and lets SQLite check all pages when the
program did not end by itself and the file is small. Flipped bits within a batch are found when it is read, by its checksum.

Salvage never changes the damaged file. The new one is made beside it, then the damaged one gets a dated name, then the new one takes its
place; after a crash in between the next start goes on where that stood.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any
from zlib import crc32

import pyarrow as pa

from ninefold.ground.clock import now
from ninefold.ground.errors import Unavailable
from ninefold.ground.log import get
from ninefold.journal.mark import Mark
from ninefold.journal.pages import PAGE_BYTES, Record, records
from ninefold.model.signal import Batch, batch_of, event_id, from_ipc, to_ipc

_SCHEMA = """
create table if not exists log(position integer primary key, signal text not null, source text not null,
                               received integer not null, rows integer not null, blob blob not null, crc integer);
create table if not exists meta(id text not null);
create table if not exists reader(name text primary key, position integer not null, state blob not null, crc integer) without rowid;
create table if not exists part(reader text not null, number integer not null, blob blob not null, crc integer,
                                primary key(reader, number));
"""
"""`crc` is null in what an older version wrote."""
_log = get("journal")
_SOURCE = "ninefold.journal"
_CHECKED_BYTES = 256 << 20
"""SQLite checks all pages of a file of at most this size; a larger one would make the start wait."""
GAP = 1 << 20
"""New positions begin so far behind all known ones: those given out since the mark last reached the disk must not come again."""
_UNREADABLE = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)
_RANGES = 10
_SIDE_FILES = ("", "-wal", "-shm")
_ID = re.compile(rb"[0-9a-f]{16}")
Row = tuple[str, str, int, int, bytes, int]


def batch_sum(signal: str, source: str, received: int, blob: bytes) -> int:
    """The checksum of a batch before it has a position."""
    return crc32(blob, crc32(f"{signal} {source} {received}".encode()))


def row_sum(position: int, sum_: int) -> int:
    """The checksum of a row of the log: its batch's, with the position."""
    return crc32(position.to_bytes(8, "big", signed=True), sum_)


def row_of(batch: Batch) -> Row:
    """A batch as a row of the log before it has a position; the last value is its `batch_sum`."""
    blob = to_ipc(batch.rows)
    sum_ = batch_sum(batch.signal, batch.source, batch.received, blob)
    return batch.signal, batch.source, batch.received, batch.rows.num_rows, blob, sum_


def placed(position: int, row: Row) -> tuple[Any, ...]:
    """The row of the log at a position."""
    return position, *row[:-1], row_sum(position, row[-1])


def state_sum(name: str, state: bytes) -> int:
    """The checksum of a reader's state."""
    return crc32(state, crc32(name.encode()))


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, and add what those of an older version lack."""
    connection.executescript(_SCHEMA)
    for table in ("log", "reader", "part"):
        if not any(column[1] == "crc" for column in connection.execute(f"pragma table_info({table})")):
            connection.execute(f"alter table {table} add column crc integer")


def mend(path: Path, mark: Mark | None, readers: Sequence[str], floor: int) -> tuple[Loss | None, int]:
    """Make a journal's file whole if it is damaged; what that cost, None when nothing is wrong, and how many bytes wait in it.

    Raises:
        Unavailable: it cannot be opened, or what can be read of it cannot be saved.
    """
    try:
        finish(path)
    except OSError as error:
        raise Unavailable(f"the journal {path} cannot be replaced by what was salvaged of it: {error}; check the folder") from error
    reason, size = _look(path, mark)
    if not reason:
        return None, size
    loss = _salvage(path, reason, mark, readers, floor)
    _log.error("%s", loss)
    return loss, loss.size


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file's content is broken or cannot be read, not that it is locked or the disk full."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in _UNREADABLE or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _look(path: Path, mark: Mark | None) -> tuple[str, int]:
    """What is wrong with a journal's file, "" when nothing is seen, and how many bytes wait in it. The file stays as it is, and so does its
    write-ahead log.

    Raises:
        Unavailable: it cannot be opened.
    """
    known = mark is not None and (mark.head > 0 or bool(mark.readers))
    if not path.exists() or not path.stat().st_size:
        return ("the file is empty" if path.exists() else "the file is missing") if known else "", 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            connection.text_factory = _text
            tables = connection.execute("select count(*) from sqlite_schema where name in ('log', 'reader', 'meta')").fetchone()[0]
            if tables < 3:  # a process may have been killed while it made them
                return "its tables are missing" if known else "", 0
            identity = connection.execute("select max(id) from meta").fetchone()[0]
            top, size = connection.execute("select coalesce(max(position), 0), coalesce(sum(length(blob)), 0) from log").fetchone()
            for row in connection.execute("select * from reader"):
                if not _is_whole(*row):
                    return f"the state of {row[0]} is damaged", 0
                top = max(top, row[1])
            if mark is not None and mark.id == identity and max(top, mark.base) < mark.head:
                return f"its end is missing: it reaches position {top} and had reached {mark.head}", 0
            condition = mark.condition if mark else "open"
            if condition == "damaged" or (condition == "open" and path.stat().st_size <= _CHECKED_BYTES):
                said = connection.execute("pragma quick_check(1)").fetchone()[0]
                return "" if said == "ok" else " ".join(str(said).split()), size
            return "", size
    except sqlite3.Error as error:
        if is_damage(error):
            return str(error), 0
        raise Unavailable(f"the journal {path} cannot be opened: {error}; check the folder and its owner") from error


def _is_whole(name: Any, position: Any, state: Any, crc: int | None = None) -> bool:
    """Whether a reader's row is as it was written; an older version wrote no checksum."""
    types = isinstance(name, str), isinstance(position, int), isinstance(state, bytes)
    return all(types) and crc in (None, state_sum(name, state))


def _text(raw: bytes) -> str:
    """Text in which bits may have flipped."""
    return raw.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Loss:
    """What a salvage saved and lost.

    Attributes:
        reason: what was wrong.
        kept: the damaged file under its new name.
        saved: the batches saved.
        lost: the batches lost, as far as that is known.
        ranges: the first and last position of each gap.
        exact: whether the end was known, so that `lost` counts all.
        head: the position at which the new file begins.
        size: the bytes that wait in it.
        readers: who lost its state, or goes on with an older one.
    """

    reason: str
    kept: Path
    saved: int
    lost: int
    ranges: Sequence[tuple[int, int]]
    exact: bool
    head: int
    size: int
    readers: Sequence[str]

    def __str__(self) -> str:
        at = ", ".join(f"{first}–{last}" if last > first else str(first) for first, last in self.ranges[:_RANGES])
        at += f" and {len(self.ranges) - _RANGES:,} more ranges" if len(self.ranges) > _RANGES else ""
        lost = f"{self.lost:,} batches are lost" + (f" (positions {at})" if at else "") + ("" if self.exact else ", and perhaps more")
        again = f"; the state of {', '.join(self.readers)} is lost or older, so something may come twice" if self.readers else ""
        saved = f"the journal was damaged ({self.reason}): {self.saved:,} waiting batches were saved"
        return f"{saved}, {lost}{again}; the damaged file is {self.kept}"


@dataclass(slots=True)
class _Found:
    """What was read of a damaged file besides its batches and the parts of states."""

    id: str = ""
    parts: dict[tuple[str, int], int] = field(default_factory=dict)
    """The row id, which grows with each version, of every part."""
    readers: dict[str, tuple[int, bytes]] = field(default_factory=dict)


def _salvage(path: Path, reason: str, mark: Mark | None, readers: Sequence[str], floor: int) -> Loss:
    """Make a new file of what can be read, with the same id, the same positions, and an event that tells of the loss.

    Args:
        path: the journal's file.
        reason: what is wrong with it.
        mark: what its mark says.
        readers: who must have passed a batch; what all have passed is left out.
        floor: a position that is known elsewhere.

    Raises:
        Unavailable: the new file cannot be written; the damaged one is where it was.
    """
    unfinished, stamp = path.with_name(f"{path.name}.unfinished"), f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    try:
        unfinished.unlink(missing_ok=True)
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as new:
            new.executescript(f"pragma page_size={PAGE_BYTES}; pragma journal_mode=off; pragma synchronous=off; {_SCHEMA} begin")
            found = _copy(path, new)
            loss = _settle(new, found, reason, mark, readers, floor, path.with_name(f"{path.name}.damaged-{stamp}"))
            new.execute("commit")
        sync(unfinished)
        unfinished.rename(path.with_name(f"{path.name}.salvaged-{stamp}"))
        finish(path)
    except (OSError, sqlite3.Error) as error:
        unfinished.unlink(missing_ok=True)
        raise Unavailable(f"the journal {path} is damaged ({reason}) and cannot be salvaged: {error}; make room beside it") from error
    return loss


def finish(path: Path) -> None:
    """Put a salvaged file, if there is one, in the place of the damaged one, which is kept under a dated name.

    Raises:
        OSError: a file cannot be renamed.
    """
    salvaged = next(path.parent.glob(f"{path.name}.salvaged-*"), None)
    if salvaged is None:
        return
    for end in _SIDE_FILES:
        old, new = path.with_name(path.name + end), path.with_name(salvaged.name.replace(".salvaged-", ".damaged-") + end)
        if old.exists() and not new.exists():
            old.rename(new)
    sync(path.parent)  # the old write-ahead log must never be taken for the new file's
    os.replace(salvaged, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(path: Path, new: sqlite3.Connection) -> _Found:
    """Put every batch and part that can be read into the new file; what else was found."""
    found = _Found()
    for readings in records(path, path.with_name(f"{path.name}-wal")):
        row = next(filter(None, map(_batch, readings)), None)
        if row is not None:
            new.execute("insert or ignore into log values(?,?,?,?,?,?,?)", row)
            continue
        reader = next(filter(None, map(_reader, readings)), None)
        if reader is not None and reader[1] >= found.readers.get(reader[0], (0, b""))[0]:
            found.readers[reader[0]] = reader[1:]
        part = next(filter(None, map(_part, readings)), None)
        if part is not None and part[1] >= found.parts.get(part[0], 0):
            (name, number), found.parts[part[0]], blob, crc = part
            new.execute("insert or replace into part values(?,?,?,?)", (name, number, blob, crc))
        match readings[0]:
            case Record(1, [bytes(text)]) if _ID.fullmatch(text):
                found.id = text.decode()
    return found


def _batch(record: Record) -> tuple[Any, ...] | None:
    """A row of the log whose checksum is right, or that an older version wrote and that holds so many rows as it says."""
    match record.values:
        case [None, bytes(signal), bytes(source), int(received), int(rows), bytes(blob), *rest] if len(rest) < 2:
            try:
                texts = signal.decode(), source.decode()
                crc = rest[0] if rest else None
                sum_ = row_sum(record.row, batch_sum(*texts, received, blob))
                right = from_ipc(blob).num_rows == rows if crc is None else crc == sum_
            except (ValueError, OSError, pa.ArrowException):
                return None
            return (record.row, *texts, received, rows, blob, crc) if right else None
    return None


def _reader(record: Record) -> tuple[str, int, bytes] | None:
    match record.values:
        case [bytes(name), int(position), bytes(state), *rest] if len(rest) < 2:
            try:
                text = name.decode()
            except ValueError:
                return None
            return (text, position, state) if not rest or rest[0] in (None, state_sum(text, state)) else None
    return None


def _part(record: Record) -> tuple[tuple[str, int], int, bytes, int] | None:
    match record.values:
        case [bytes(name), int(number), bytes(blob), int(crc)] if record.row:
            text = _text(name)
            return ((text, number), record.row, blob, crc) if crc == state_sum(f"part {number} of {text}", blob) else None
    return None


def _settle(new: sqlite3.Connection, found: _Found, reason: str, mark: Mark | None, readers: Sequence[str], floor: int, kept: Path) -> Loss:
    """Set readers, id and the event of the loss; drop what every reader has passed."""
    known: Mapping[str, tuple[int, str | None]] = mark.readers if mark else {}
    doubtful = []
    for name in sorted({*readers, *known, *found.readers}):
        position, state = found.readers.get(name, (0, b""))
        last, short = known.get(name, (0, None))
        if short is None and (last > position or name not in found.readers):
            doubtful.append(name)
        if short is not None and (last > position or (last == position and not state)):  # either of the two may be older
            state = bytes.fromhex(short)
        position = max(position, last)
        found.readers[name] = position, state
        new.execute("insert into reader values(?,?,?,?)", (name, position, state, state_sum(name, state)))
    passed = min((found.readers[name][0] for name in readers), default=0)
    new.execute("delete from log where position <= ?", (passed,))
    positions = [row[0] for row in new.execute("select position from log order by position")]
    top = max(positions[-1] if positions else 0, *(position for position, _ in found.readers.values()), 0)
    begin = max(passed, mark.base) if mark else positions[0] - 1 if positions else passed
    ranges = _gaps(positions, begin, max(top, mark.head if mark else 0))
    head = max(top, floor, mark.head if mark else 0) + GAP
    lost = sum(last - first + 1 for first, last in ranges)
    loss = Loss(reason, kept, len(positions), lost, ranges, mark is not None, head, 0, doubtful)
    new.execute("insert into meta values(?)", ((mark.id if mark else "") or found.id or token_hex(8),))
    new.execute("insert into log values(?,?,?,?,?,?,?)", placed(head, row_of(_notice(loss))))
    return replace(loss, size=new.execute("select sum(length(blob)) from log").fetchone()[0])


def _gaps(positions: Sequence[int], begin: int, end: int) -> list[tuple[int, int]]:
    """The ranges in (begin, end] that are not among the ordered positions."""
    ranges, last = [], begin
    for position in [*(one for one in positions if begin < one <= end), end + 1]:
        if position > last + 1:
            ranges.append((last + 1, position - 1))
        last = position
    return ranges


def _notice(loss: Loss) -> Batch:
    at = now()
    row = {
        "id": event_id(_SOURCE, str(loss.head)), "time": at, "kind": "drift", "entity": "source:ninefold", "title": str(loss),
        "severity": "high", "severity_raw": "error", "source_id": str(loss.head),
        "attributes": {
            "what": "journal_damaged", "reason": loss.reason, "file": str(loss.kept), "saved_batches": str(loss.saved),
            "lost_batches": str(loss.lost), "lost_positions": " ".join(f"{first}-{last}" for first, last in loss.ranges[:_RANGES]),
        },
    }  # fmt: skip
    return batch_of("event", _SOURCE, at, [row])
