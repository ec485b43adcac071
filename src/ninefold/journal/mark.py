"""The mark beside a journal: a line that says how far the journal had come, so that an end that is missing is noticed.

SQLite says nothing when the end of its write-ahead log is cut off or cannot be read: the file is then simply older than it was. The mark is
written after each commit without waiting for the disk. After a killed process it is exact; after a power cut it may be older than the
journal, never newer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal
from zlib import crc32

import orjson

from ninefold.ground.log import get

_log = get("journal")
SHORT_STATE_BYTES = 64
"""A reader's state of at most this size is in the mark."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a journal had come.

    Attributes:
        id: the journal's.
        head: its last durable position.
        base: positions behind this one were given out one by one, without a gap.
        condition: whether it was closed, or is open (and was killed if nobody has it open), or was seen to be damaged.
        readers: each reader's position, and its state in hexadecimal if that is short.
    """

    id: str
    head: int
    base: int = 0
    condition: Literal["open", "closed", "damaged"] = "open"
    readers: Mapping[str, tuple[int, str | None]] = field(default_factory=dict)


class MarkFile:
    """The file that holds the mark.

    Args:
        path: where it is or will be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._failed = False

    def read(self) -> Mark | None:
        """The mark; None when there is none that can be read."""
        with suppress(OSError, ValueError, TypeError):
            digest, _, line = self._path.read_bytes().split(b"\n")[0].partition(b" ")
            if int(digest, 16) == crc32(line):
                return Mark(**orjson.loads(line))
        return None

    def write(self, mark: Mark, durable: bool = False) -> None:
        """Replace the mark; `durable` waits for the disk. A mark that cannot be written is said once: the journal is whole without it."""
        line = orjson.dumps(asdict(mark))
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._file, b"%08x %s\n" % (crc32(line), line), 0)
            if durable:
                os.fsync(self._file)
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.warning("%s cannot be written: %s; damage at the journal's end might go unnoticed", self._path, error.strerror)
            self._failed = True

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
