"""What the pages of a damaged SQLite file still hold, read without SQLite: one broken page hides no other.

Every page of the file and of its write-ahead log that has records is taken by itself. What a page says is believed only when the caller's
checksum agrees, so old copies and garbage do no harm. The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

PAGE_BYTES = 16384
_TABLE, _INDEX, _INNER = 0x0D, 0x0A, 0x02
"""The pages with records: the leaves of a table and of an index, and the inner pages of an index."""
_WAL_HEADER, _FRAME_HEADER = 32, 24
_MAGIC = (0x377F0682, 0x377F0683)
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_Pages = Callable[[int], bytes]


class Record(NamedTuple):
    """A record as a page holds it: its row id (0 in an index) and its values. Text is bytes."""

    row: int
    values: list[Any]


def records(path: Path, wal: Path) -> Iterator[list[Record]]:
    """The possible readings of every record, in the order in which they were written as far as that is known: those of the file, then
    those of its write-ahead log. A record that goes on in other pages has one reading with the newest of these and one with older ones.

    Raises:
        OSError: a file cannot be read.
    """
    with ExitStack() as stack:
        main, log = (stack.enter_context(closing(_File(one))) for one in (path, wal))
        size = _page_bytes(main, log)
        frames = _frames(log, size)
        newest = dict(frames)

        def older(page: int) -> bytes:
            return main.read((page - 1) * size, size)

        def latest(page: int) -> bytes:
            at = newest.get(page)
            return older(page) if at is None else log.read(at, size)

        for at in range(size, main.size - size + 1, size):
            yield from _page(main.read(at, size), latest, older)
        for _, at in frames:
            yield from _page(log.read(at, size), latest, older)


class _File:
    """A file on a disk that may fail; one that is missing is empty.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY) if path.exists() else -1
        self.size = os.fstat(self._descriptor).st_size if path.exists() else 0

    def read(self, at: int, size: int) -> bytes:
        """So many bytes, fewer at the end; zeros where the disk cannot read them."""
        if at >= self.size:
            return b""
        try:
            return os.pread(self._descriptor, size, at)
        except OSError:
            return bytes(size)

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _page_bytes(main: _File, log: _File) -> int:
    """The size of a page as either file says, otherwise the one that journals have."""
    head = main.read(0, 18)
    said = int.from_bytes(head[16:18] if head.startswith(b"SQLite format 3") else log.read(8, 4), "big")
    size = 65536 if said == 1 else said
    return size if 512 <= size <= 65536 and not size & (size - 1) else PAGE_BYTES


def _frames(log: _File, size: int) -> list[tuple[int, int]]:
    """(page number, where its content begins) of the frames of this generation of a write-ahead log up to the last commit."""
    found = []
    for at in range(_WAL_HEADER, log.size - size - _FRAME_HEADER + 1, size + _FRAME_HEADER):
        page, committed, salt = struct.unpack(">IIQ", log.read(at, 16))
        found.append((page, committed, salt, at + _FRAME_HEADER))
    if not found:
        return []
    if int.from_bytes(log.read(0, 4), "big") in _MAGIC:
        salt = int.from_bytes(log.read(16, 8), "big")
    else:
        salt = Counter(frame[2] for frame in found).most_common(1)[0][0]
    found = [frame for frame in found if frame[2] == salt]
    while found and not found[-1][1]:
        found.pop()
    return [(page, at) for page, _, _, at in found]


def _page(page: bytes, latest: _Pages, older: _Pages) -> Iterator[list[Record]]:
    kind = page[0]
    if kind not in (_TABLE, _INDEX, _INNER):
        return
    child = 4 if kind == _INNER else 0  # the number of a page, in the header and before each record
    count = int.from_bytes(page[3:5], "big")
    for place in range(8 + child, min(8 + child + 2 * count, len(page) - 1), 2):
        at = int.from_bytes(page[place : place + 2], "big") + child
        readings = []
        for pages in (latest, older):
            try:
                record = _record(page, at, kind == _TABLE, pages)
            except (IndexError, ValueError):
                continue
            if record not in readings:
                readings.append(record)
        if readings:
            yield readings


def _record(page: bytes, at: int, is_table: bool, pages: _Pages) -> Record:
    """One record.

    Raises:
        IndexError, ValueError: there is none that can be read.
    """
    size, at = _varint(page, at)
    row = 0
    if is_table:
        row, at = _varint(page, at)
    usable = len(page)
    least = (usable - 12) * 32 // 255 - 23
    most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    local = size
    if size < 0:
        raise ValueError("no record has this size")
    if size > most:
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
    if at + local + (4 if local < size else 0) > usable:
        raise ValueError("the record ends behind its page")
    content = page[at : at + local]
    if local < size:
        content += _overflow(int.from_bytes(page[at + local : at + local + 4], "big"), size - local, usable, pages)
    return Record(row, _values(content))


def _overflow(page: int, size: int, usable: int, pages: _Pages) -> bytes:
    parts, seen = [], set[int]()
    while size > 0:
        content = pages(page) if page > 0 else b""
        if len(content) < usable or page in seen:
            raise ValueError("a page is missing")
        seen.add(page)
        parts.append(content[4 : 4 + size])
        size -= usable - 4
        page = int.from_bytes(content[:4], "big")
    return b"".join(parts)


def _values(content: bytes) -> list[Any]:
    end, at = _varint(content, 0)
    place, values = end, list[Any]()
    while at < end:
        kind, at = _varint(content, at)
        if kind in (10, 11):
            raise ValueError("no such type")
        size = _SIZES[kind] if kind < len(_SIZES) else (kind - 12) // 2
        raw = content[place : place + size]
        if len(raw) < size:
            raise ValueError("a value ends behind its record")
        values.append(_value(kind, raw))
        place += size
    return values


def _value(kind: int, raw: bytes) -> Any:
    if kind >= 12:
        return raw
    if kind in (8, 9):
        return kind - 8
    if kind == 7:
        return struct.unpack(">d", raw)[0]
    return int.from_bytes(raw, "big", signed=True) if kind else None


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where the next begins."""
    value = 0
    for place in range(at, at + 8):
        byte = content[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    value = value << 8 | content[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9
