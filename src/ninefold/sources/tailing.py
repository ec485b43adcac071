"""One growing file, read as ``tail -F`` does: what was read to which place, and how that place is found again.

A place is an inode, an offset, and a mark: a digest of the file's first bytes and of those before the offset. The mark tells a file from a
later one with the same inode number, and finds a rotated file again under another name, copied or compressed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ninefold.ground.clock import now
from ninefold.ground.errors import BadData
from ninefold.ground.log import get
from ninefold.model.signal import Decoded, quarantine
from ninefold.sources.postgresql_log import PostgresqlLog
from ninefold.sources.tables import CsvParser, JsonLinesParser, MetricsParser
from ninefold.sources.text import TextParser

BLOCK_BYTES = 1 << 20
LONGEST_RECORD = 8 * BLOCK_BYTES
_MARK_BYTES = 256
Parser = TextParser | CsvParser | JsonLinesParser | MetricsParser | PostgresqlLog

_log = get("files")


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read."""

    path: str
    inode: int
    offset: int
    mark: str

    def is_in(self, file: BinaryIO) -> bool:
        """Whether this is the file, or a copy of it, and goes on at least to the offset."""
        return self.offset > 0 and _mark(*_ends(file, self.offset)) == self.mark


def _mark(first: bytes, last: bytes) -> str:
    """A digest of the first bytes before an offset and of the last ones."""
    return hashlib.blake2b(first + last, digest_size=8).hexdigest()


def _ends(file: BinaryIO, offset: int) -> tuple[bytes, bytes]:
    """The first bytes before `offset` and the last ones; it moves the file's position."""
    size = min(_MARK_BYTES, offset)
    file.seek(0)
    first = file.read(size)
    file.seek(offset - size)
    return first, file.read(size)


def open_file(path: Path) -> BinaryIO:
    """A file, decompressed while it is read when its name ends with ``.gz``.

    Raises:
        OSError: it cannot be opened.
    """
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


class Tail:
    """A file that is read from a place on.

    Args:
        path: where the file is now.
        file: the open file.
        source: whose records these are.
        fresh: makes a parser.
        offset: how far it was read before.
    """

    def __init__(self, path: Path, file: BinaryIO, source: str, fresh: Callable[[], Parser], offset: int = 0) -> None:
        self.path, self._file, self._source, self._fresh = path, file, source, fresh
        status = os.fstat(file.fileno())
        self.key = status.st_dev, status.st_ino
        self.offset, self._buffer = offset, b""
        self._parser = fresh()
        self._first, self._last = _ends(file, offset)
        if offset:
            file.seek(0)
            self._parser.start(file.readline())
        file.seek(offset)

    def next(self, whole: bool) -> tuple[Decoded | None, int]:
        """What can be delivered now, and how many bytes that is; `whole` says that nothing more will come, so the last record is one."""
        piece = self._file.read(BLOCK_BYTES)
        self._buffer += piece
        final = whole and not piece
        last_line = len(self._buffer) if final else self._buffer.rfind(b"\n") + 1
        size = self._parser.complete(self._buffer[:last_line], final)
        return self._parsed(size or (len(self._buffer) if len(self._buffer) > LONGEST_RECORD else 0))

    def settle(self) -> tuple[Decoded | None, int]:
        """The last whole lines of a file that has been quiet, though the last record might have gone on."""
        return self._parsed(self._buffer.rfind(b"\n") + 1)

    def _parsed(self, size: int) -> tuple[Decoded | None, int]:
        block = self._buffer[:size]
        try:
            return (self._parser.parse(block, self.offset, now()), size) if size else (None, 0)
        except BadData as error:
            reason = error.reason
        except Exception as error:  # noqa: BLE001 - a record that trips a defect would stop the file at this place for ever
            _log.error("%s could not be read at byte %d; the block is in quarantine", self.path, self.offset, exc_info=error)
            reason = f"reading it failed: {error}; report this record"
        bad = [(reason, f"{self.path}, byte {self.offset}", block)]
        return Decoded([quarantine(self._source, now(), "log", "file", bad)], 1, reason), size

    def advance(self, size: int) -> None:
        """Note that so many bytes have been delivered."""
        block = self._buffer[:size]
        self._buffer, self.offset = self._buffer[size:], self.offset + size
        self._first = (self._first + block)[:_MARK_BYTES]
        self._last = (self._last + block)[-_MARK_BYTES:]

    def cut(self) -> bool:
        """Whether the file was cut since, even if it has grown again beyond where reading stands."""
        descriptor, read = self._file.fileno(), self.offset + len(self._buffer)
        size = os.fstat(descriptor).st_size
        if self.path.suffix == ".gz" or size == read:
            return False
        there = os.pread(descriptor, len(self._last), self.offset - len(self._last))
        return size < read or there != self._last or os.pread(descriptor, len(self._first), 0) != self._first

    def restart(self) -> None:
        """Read the file again from its start."""
        _log.warning("%s was cut and is read again from its start", self.path)
        self._file.seek(0)
        self.offset, self._buffer, self._first, self._last, self._parser = 0, b"", b"", b"", self._fresh()

    def place(self) -> Place:
        """How far it was delivered."""
        return Place(str(self.path), self.key[1], self.offset, _mark(self._first, self._last))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def find(place: Place, among: Iterable[Path]) -> tuple[Path, BinaryIO] | None:
    """The file that a place lies in, opened: by its inode, else by its mark under another name."""
    for path in among:
        try:
            file = open_file(path)
        except OSError:
            continue
        try:
            if place.is_in(file):
                return path, file
        except (OSError, EOFError):
            pass  # a compressed file that is not all there yet
        file.close()
    return None


def places(saved: dict[str, Any]) -> list[Place]:
    """The places in a saved position."""
    return [Place(**place) for place in saved.get("places", ())]
