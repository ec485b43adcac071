"""Files: read one to its end (`read_file`), or follow one as it grows (`FileFollow`).

CSV and JSON Lines with a mapping become `raw` rows for the webhook's reader; without one their rows become log records. Log text
becomes log records, a stack trace with the line it belongs to. CSV of metrics becomes points and series.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ninefold.config import FileConfig, FileFormat
from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, Unavailable
from ninefold.ground.log import get
from ninefold.model.signal import Decoded
from ninefold.plugin import Asked, Door, Emit, Source, Strict
from ninefold.sources.tables import CsvParser, JsonLinesParser, MetricsParser
from ninefold.sources.text import TextParser

BLOCK_BYTES = 1 << 20
_LONGEST_RECORD = 8 * BLOCK_BYTES
_HEAD_BYTES = 256
_FORMATS: dict[str, FileFormat] = {"csv": "csv", "jsonl": "jsonl", "log": "log", "metrics": "metrics"}
Parser = TextParser | CsvParser | JsonLinesParser | MetricsParser
_PARSERS: dict[str, type[Parser]] = {"log": TextParser, "csv": CsvParser, "jsonl": JsonLinesParser, "metrics": MetricsParser}

_log = get("files")


def parser_of(config: FileConfig, source: str, entity: str = "") -> Parser:
    """The parser of a file's format; `entity` is what its log lines are about when they do not say so themselves."""
    return _PARSERS[config.format](config.name or config.path.name, str(config.path), config.mapping, source, entity)


def accept(body: bytes, format_: FileFormat, mapping: str, source: str, received: int) -> Decoded:
    """The records of one block of a file that was sent over the network: whole lines only, for CSV with the header line first.

    Raises:
        BadData: the block has no header that can be used, or no time column if it holds metrics.
    """
    return parser_of(FileConfig(path=Path(source), format=format_, mapping=mapping), source).parse(body, 0, received)


def read_file(config: FileConfig, source: str, received: int | None = None) -> Iterator[Decoded]:
    """The records of a whole file, block by block.

    Raises:
        OSError: the file cannot be read.
        BadData: a CSV file has no header that can be used.
    """
    parser = parser_of(config, source)
    with config.path.open("rb") as file:
        offset, buffer, final = 0, b"", False
        while not final:
            piece = file.read(BLOCK_BYTES)
            buffer, final = buffer + piece, not piece
            size = parser.complete(buffer, final) or (len(buffer) if len(buffer) > _LONGEST_RECORD else 0)
            if size:
                yield parser.parse(buffer[:size], offset, received or now())
                buffer, offset = buffer[size:], offset + size


class FileFollow:
    """Follows a file as ``tail -F`` does: through rotation (the old file is read to its end first) and truncation.

    Args:
        config: the file and its format.
        load: gives the position that `save` kept last under this source's name, ``{}`` the first time: the file is then read from
            its beginning.
        save: keeps a position under this source's name; it is called once everything before that position is in the journal.
        poll_s: how often to look for more.
    """

    def __init__(
        self, config: FileConfig, load: Callable[[str], dict[str, Any]], save: Callable[[str, dict[str, Any]], None], poll_s: float = 0.2
    ) -> None:
        self.name = config.name or str(config.path)
        self._config, self._load, self._save, self._poll_s = config, load, save, poll_s
        self._file: BinaryIO | None = None
        self._offset, self._buffer = 0, b""
        self._parser = self._fresh()

    async def run(self, emit: Emit) -> None:
        """Deliver until cancelled. What was not yet in the journal is delivered again after a restart."""
        await asyncio.to_thread(self._resume)
        quiet = False
        try:
            while True:
                decoded, size = await asyncio.to_thread(self._next, quiet)
                if decoded is not None and decoded.batches:
                    await self._deliver(emit, decoded)
                if size:
                    self._buffer, self._offset = self._buffer[size:], self._offset + size
                    await asyncio.to_thread(self._save, self.name, self._position())
                quiet = not size
                if quiet:
                    await asyncio.sleep(self._poll_s)
        finally:
            self._close()

    async def _deliver(self, emit: Emit, decoded: Decoded) -> None:
        while True:
            try:
                return await emit(decoded.batches)
            except Unavailable as error:
                await asyncio.sleep(error.retry_after_s)

    def _fresh(self) -> Parser:
        return parser_of(self._config, self.name, f"host:{socket.gethostname()}")

    def _next(self, quiet: bool) -> tuple[Decoded | None, int]:
        """What can be delivered now, and how many bytes that is. After a quiet poll the last record is taken as complete."""
        if self._file is None and not self._open(self._config.path, 0):
            return None, 0
        assert self._file is not None
        piece = self._file.read(BLOCK_BYTES)
        self._buffer += piece
        over = not piece and self._replaced()
        ended = not piece and (quiet or over)
        last_line = len(self._buffer) if over else self._buffer.rfind(b"\n") + 1
        size = self._parser.complete(self._buffer[:last_line], ended)
        if not size and len(self._buffer) > _LONGEST_RECORD:
            size = len(self._buffer)
        if size:
            return self._parser.parse(self._buffer[:size], self._offset, now()), size
        if over:
            self._close()
        return None, 0

    def _replaced(self) -> bool:
        """Whether the path now names another file, or this one was cut; a cut file is read again from its start."""
        assert self._file is not None
        mine = os.fstat(self._file.fileno())
        if mine.st_size < self._offset + len(self._buffer):
            _log.warning("%s was cut to %d bytes and is read again from its start", self._config.path, mine.st_size)
            self._file.seek(0)
            self._offset, self._buffer, self._parser = 0, b"", self._fresh()
            return False
        try:
            there = self._config.path.stat()
        except FileNotFoundError:
            return False  # between the two steps of a rotation; the old file may still grow
        return (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev)

    def _open(self, path: Path, offset: int) -> bool:
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            return False
        self._offset, self._buffer, self._parser = offset, b"", self._fresh()
        if offset:
            self._parser.start(self._file.readline())
        self._file.seek(offset)
        return True

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._buffer = None, b""

    def _position(self) -> dict[str, Any]:
        assert self._file is not None
        return {"inode": os.fstat(self._file.fileno()).st_ino, "offset": self._offset, "head": _head(self._file, self._offset)}

    def _resume(self) -> None:
        """Open the file the saved position speaks of, which may have been rotated away since; else start the path afresh."""
        saved = self._load(self.name)
        if not saved:
            return
        path, offset = self._config.path, int(saved["offset"])
        for candidate in (path, *sorted(path.parent.glob(f"{path.name}*"))):
            try:
                with candidate.open("rb") as file:
                    status = os.fstat(file.fileno())
                    same = status.st_ino == saved["inode"] and status.st_size >= offset and _head(file, offset) == saved["head"]
            except OSError:
                continue
            if same:
                self._open(candidate, offset)
                return


def _head(file: BinaryIO, offset: int) -> str:
    """A digest of the first bytes, which tells a file from a later one that got the same inode number."""
    return hashlib.blake2b(os.pread(file.fileno(), min(_HEAD_BYTES, offset), 0), digest_size=8).hexdigest()


class FileUpload(Source):
    """Files sent over HTTP, as `ninefold replay` does: ``POST /files?format=csv|jsonl|log|metrics&mapping=<name>``."""

    kind = "upload"
    title = "Files sent over HTTP"
    extraction = "file"
    signals = frozenset(("metric", "log", "event"))
    always = True
    Config = Strict

    def doors(self) -> list[Door]:
        """The upload."""
        return [Door("/files", _upload, media_types=("text/csv", "application/x-ndjson", "text/plain"), source="file")]


def _upload(asked: Asked) -> Decoded:
    format_ = asked.query.get("format", "")
    if format_ not in _FORMATS:
        raise BadData(f"the format {format_!r} is none of {', '.join(_FORMATS)}", "query parameter format")
    return accept(asked.body, _FORMATS[format_], asked.query.get("mapping", ""), asked.source, asked.received)
