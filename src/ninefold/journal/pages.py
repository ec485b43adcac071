"""What the pages of a damaged SQLite file still hold, read without SQLite: one broken page hides no other.

Every leaf page of the file and of its write-ahead log is taken by itself. What a page says is believed only when the caller's checksum
agrees, so old copies and garbage do no harm. The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

PAGE_BYTES = 16384
_TABLE, _INDEX = 0x0D, 0x0A
_WAL_HEADER, _FRAME_HEADER = 32, 24
_MAGIC = (0x377F0682, 0x377F0683)
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_Bytes = bytes | mmap.mmap
_Pages = Callable[[int], bytes]


class Record(NamedTuple):
    """A record as a leaf page holds it: its row id (0 in an index) and its values. Text is bytes."""

    row: int
    values: list[Any]


def records(path: Path, wal: Path) -> Iterator[list[Record]]:
    """The possible readings of every record, in the order in which they were written as far as that is known: those of the file, then
    those of its write-ahead log. A record that goes on in other pages has one reading with the newest of these and one with older ones.

    Raises:
        OSError: a file cannot be read.
    """
    with ExitStack() as stack:
        main, log = _mapped(stack, path), _mapped(stack, wal)
        size = _page_bytes(main, log)
        frames = _frames(log, size)
        newest = dict(frames)

        def older(page: int) -> bytes:
            return main[(page - 1) * size : page * size]

        def latest(page: int) -> bytes:
            at = newest.get(page)
            return older(page) if at is None else log[at : at + size]

        for at in range(size, len(main) - size + 1, size):
            yield from _leaf(main[at : at + size], latest, older)
        for _, at in frames:
            yield from _leaf(log[at : at + size], latest, older)


def _mapped(stack: ExitStack, path: Path) -> _Bytes:
    """A file as bytes that are read when they are looked at; none for one that is missing or empty."""
    if not path.exists() or not path.stat().st_size:
        return b""
    file = stack.enter_context(path.open("rb"))
    return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _page_bytes(main: _Bytes, log: _Bytes) -> int:
    """The size of a page as either file says, otherwise the one that journals have."""
    said = int.from_bytes(main[16:18], "big") if main[:15] == b"SQLite format 3" else int.from_bytes(log[8:12], "big")
    size = 65536 if said == 1 else said
    return size if 512 <= size <= 65536 and not size & (size - 1) else PAGE_BYTES


def _frames(log: _Bytes, size: int) -> list[tuple[int, int]]:
    """(page number, where its content begins) of the frames of this generation of a write-ahead log up to the last commit."""
    found = []
    for at in range(_WAL_HEADER, len(log) - size - _FRAME_HEADER + 1, size + _FRAME_HEADER):
        page, committed, salt = struct.unpack_from(">IIQ", log, at)
        found.append((page, committed, salt, at + _FRAME_HEADER))
    if not found:
        return []
    if int.from_bytes(log[:4], "big") in _MAGIC:
        (salt,) = struct.unpack_from(">Q", log, 16)
    else:
        salt = Counter(frame[2] for frame in found).most_common(1)[0][0]
    found = [frame for frame in found if frame[2] == salt]
    while found and not found[-1][1]:
        found.pop()
    return [(page, at) for page, _, _, at in found]


def _leaf(page: bytes, latest: _Pages, older: _Pages) -> Iterator[list[Record]]:
    kind = page[0]
    if kind not in (_TABLE, _INDEX):
        return
    count = int.from_bytes(page[3:5], "big")
    for place in range(8, min(8 + 2 * count, len(page) - 1), 2):
        at = int.from_bytes(page[place : place + 2], "big")
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
