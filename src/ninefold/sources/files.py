"""Files, followed as they grow: ``sources: {orders: {type: file, path: /var/log/orders/*.csv, format: csv, mapping: orders}}``.

``path`` may be a pattern; new files that match it are read from their beginning. ``format`` says what the rows are:

* ``log``: lines of text become log records, a stack trace with the line it belongs to; the time at the head of a line is its time.
* ``jsonl`` and ``csv``: with a ``mapping`` (see webhooks) each row becomes an event, without one a log record.
* ``metrics``: CSV with a time column and either the columns ``name`` and ``value`` or one column a metric; text columns are labels.
* ``postgresql``: PostgreSQL's own log, ``jsonlog`` or ``csvlog`` (see [postgresql_log](postgresql_log.md)).
* ``parquet``: each row as with ``csv``; a file whose name ends with ``.parquet`` and whose format is ``metrics`` is read as metrics.
  A Parquet file is read once it is complete, row group by row group.

Files that end with ``.gz`` are read decompressed. Rotation is followed: a renamed file is read to its end first; one that was copied
and cut (``copytruncate``) is finished from its copy; what was rotated and compressed while Ninefold was down is found again. The place in
each file is kept in one transaction with the rows before it, so after a crash none is missing and none comes twice. What cannot be
read is in quarantine, and reading goes on behind it.

A time without a zone is one of ``timezone``, by default of this machine; in events with a mapping it is one of the mapping's ``timezone``,
by default UTC.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, tzinfo
from glob import glob
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from pydantic import Field, field_validator

from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, Unavailable
from ninefold.ground.log import get
from ninefold.model.signal import Decoded, quarantine
from ninefold.plugin import Asked, Door, Emit, Lent, Reached, Source, Strict
from ninefold.sources.delivery import deliver
from ninefold.sources.parquet import Parquet
from ninefold.sources.postgresql_log import PostgresqlLog
from ninefold.sources.tables import CsvParser, JsonLinesParser, MetricsParser
from ninefold.sources.tailing import BLOCK_BYTES, LONGEST_RECORD, Parser, Place, Tail, find, open_file, places
from ninefold.sources.text import TextParser
from ninefold.sources.wall_time import checked_zone, zone_of

FileFormat = Literal["csv", "jsonl", "log", "metrics", "parquet", "postgresql"]
_TEXTUAL: dict[str, FileFormat] = {"csv": "csv", "jsonl": "jsonl", "log": "log", "metrics": "metrics", "postgresql": "postgresql"}
_PARSERS: dict[str, type[Parser]] = {
    "log": TextParser, "csv": CsvParser, "jsonl": JsonLinesParser, "metrics": MetricsParser, "postgresql": PostgresqlLog,
}  # fmt: skip
_SWEEP_BLOCKS = 16
_LIST_EVERY = 5
_LINGER_S = 5.0
_REMEMBERED = 1000
"""How many places in files that are gone are remembered, lest they come back under another name."""
Key = tuple[int, int]
"""A file whatever its name: device and inode."""
Step = tuple[Decoded | None, Callable[[], None]]
"""What can be delivered, and what notes that it has been."""

_log = get("files")


class FileConfig(Strict):
    """A file to follow."""

    path: str = Field(min_length=1, description="The file, or a pattern such as /var/log/app/*.log; ** goes through folders.")
    format: FileFormat = Field("log", description="What the rows are.")
    mapping: str = Field("", description="For csv, jsonl and parquet: the webhook mapping that reads each row; empty: log records.")
    start: Literal["beginning", "end"] = Field("beginning", description="Where to begin in files that are there at the very first start.")
    entity: str = Field("", description="What log records are about when they do not say so; this host by default.")
    timezone: str = Field("", description="Zone of times that name none, such as Europe/Berlin or UTC; this machine's by default.")
    poll_s: float = Field(0.2, gt=0, description="How often to look for more.")

    _known_zone = field_validator("timezone")(checked_zone)


def parser_of(format_: FileFormat, path: Path, mapping: str, source: str, entity: str = "", zone: tzinfo | None = UTC) -> Parser:
    """The parser of a text format; `entity` is what log lines are about when they do not say so themselves, `zone` that of times without
    one."""
    return _PARSERS[format_](path.name, str(path), mapping, source, entity, zone)


def accept(body: bytes, format_: FileFormat, mapping: str, source: str, received: int, zone: tzinfo | None = UTC) -> Decoded:
    """The records of one block of a file that was sent over the network: whole lines only, for CSV with the header line first.
    `zone` is that of times without one.

    Raises:
        BadData: the block has no header that can be used, or no time column if it holds metrics.
    """
    return parser_of(format_, Path(source), mapping, source, zone=zone).parse(body, 0, received)


def read_file(path: Path, format_: FileFormat, source: str, mapping: str = "", received: int | None = None) -> Iterator[Decoded]:
    """The records of a whole file, block by block.

    Raises:
        OSError: the file cannot be read.
        BadData: a CSV file has no header that can be used, or a Parquet file is none.
    """
    if _is_parquet(path, format_):
        table = Parquet(path, format_ == "metrics", mapping, source, "")
        for group in range(table.groups):
            yield table.read(group, received or now())
        return
    parser = parser_of(format_, path, mapping, source)
    with open_file(path) as file:
        offset, buffer, final = 0, b"", False
        while not final:
            piece = file.read(BLOCK_BYTES)
            buffer, final = buffer + piece, not piece
            size = parser.complete(buffer, final) or (len(buffer) if len(buffer) > LONGEST_RECORD else 0)
            if size:
                yield parser.parse(buffer[:size], offset, received or now())
                buffer, offset = buffer[size:], offset + size


def _is_parquet(path: Path, format_: FileFormat) -> bool:
    return format_ == "parquet" or path.suffix == ".parquet"


class Files(Source):
    """Follows the files of a pattern."""

    kind = "file"
    title = "Files"
    extraction = "file"
    signals = frozenset(("metric", "log", "event"))
    Config = FileConfig

    def __init__(self, name: str, config: FileConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._entity = config.entity or f"host:{socket.gethostname()}"
        self._zone = zone_of(config.timezone)
        self._tails: dict[Key, Tail] = {}
        self._gone: list[Place] = []
        self._whole: dict[str, list[int]] = {}
        self._quiet: dict[Key, float] = {}
        self._refused: set[tuple[str, int]] = set()
        self._listed: tuple[float, list[Path]] = (-1e9, [])

    async def run(self, emit: Emit) -> None:
        """Deliver until cancelled. What was not yet in the journal is delivered again after a restart."""
        if await asyncio.to_thread(self._resume):
            await deliver(emit, (), keep=self._position())
        try:
            while True:
                moved = False
                for decoded, advance in await asyncio.to_thread(self._sweep):
                    place = await asyncio.to_thread(self._behind, advance)
                    await deliver(emit, decoded.batches if decoded is not None else (), keep=place)
                    moved = True
                if not moved:
                    await asyncio.sleep(self.config.poll_s)
        finally:
            for tail in self._tails.values():
                tail.close()
            self._tails.clear()

    async def check(self) -> Reached:
        """Show the first rows of the first file."""
        paths = self._paths()
        if not paths:
            return Reached(f"No file matches {self.config.path} yet; it is waited for.")
        try:
            decoded = next(await asyncio.to_thread(read_file, paths[0], self.config.format, self.name, self.config.mapping), Decoded())
        except OSError as error:
            raise Unavailable(f"{paths[0]} cannot be read: {error.strerror}; let this user read it") from error
        return Reached(f"{len(paths)} files match; rows of {paths[0]}.", decoded.batches)

    def _behind(self, advance: Callable[[], None]) -> dict[str, Any]:
        """Where reading stands once a step is delivered. When that fails this run ends, and the next one resumes from what was kept."""
        advance()
        return self._position()

    def _paths(self) -> list[Path]:
        return [path for path in map(Path, sorted(glob(self.config.path, recursive=True))) if path.is_file()]

    def _sweep(self) -> list[Step]:
        """One look at all files: what can be delivered now, and what to do once it is durable."""
        found: list[Step] = []
        named: dict[Key, Path] = {}
        if monotonic() - self._listed[0] > _LIST_EVERY * self.config.poll_s:
            self._listed = monotonic(), self._paths()
        for path in self._listed[1]:
            try:
                if _is_parquet(path, self.config.format):
                    found += self._parquet(path)
                else:
                    named[self._open(path)] = path
            except FileNotFoundError:
                self._listed = -1e9, self._listed[1]  # it is gone: look again at once
            except OSError as error:
                if (str(path), error.errno or 0) not in self._refused:
                    self._refused.add((str(path), error.errno or 0))
                    _log.warning("%s cannot be read: %s", path, error.strerror)
        taken = {str(path) for path in named.values()}
        for key, tail in list(self._tails.items()):
            if len(found) >= _SWEEP_BLOCKS:
                break
            found += self._read(key, tail, key in named, str(tail.path) in taken)
        return found

    def _open(self, path: Path) -> Key:
        """Make sure that a file is followed; its key."""
        status = path.stat()
        key = status.st_dev, status.st_ino
        if key in self._tails:
            self._tails[key].path = path
            return key
        file = open_file(path)
        known = (*self._gone, *(tail.place() for tail in self._tails.values()))
        place = next((one for one in known if (one.inode == key[1] or path in _beside(one)[1:]) and one.is_in(file)), None)
        tail = Tail(path, file, self.name, self._fresh(path), place.offset if place else 0)
        self._tails[tail.key] = tail
        return tail.key

    def _fresh(self, path: Path) -> Callable[[], Parser]:
        return lambda: parser_of(self.config.format, path, self.config.mapping, self.name, self._entity, self._zone)

    def _read(self, key: Key, tail: Tail, named: bool, succeeded: bool) -> list[Step]:
        """The next block of a file. A quiet one gives its last record; one that was renamed is finished once it has been quiet for long,
        because between the steps of a rotation it may still grow."""
        if tail.cut():
            self._finish_copy(tail)
            tail.restart()
        since = self._quiet.get(key)
        left = not named and since is not None and (succeeded or monotonic() - since > _LINGER_S)
        decoded, size = tail.next(left)
        if not size and since is not None:
            decoded, size = tail.settle()
        if size:
            self._quiet.pop(key, None)
            return [(decoded, lambda: tail.advance(size))]
        if left and since is not None and monotonic() - since > _LINGER_S:
            self._forget(key)
        else:
            self._quiet.setdefault(key, monotonic())
        return []

    def _finish_copy(self, tail: Tail) -> None:
        """Follow the copy of a file that was then cut, which holds what had not been read of it."""
        place = tail.place()
        copy = find(place, [path for path in _beside(place) if path != tail.path])
        if copy is not None:
            rest = Tail(*copy, self.name, self._fresh(tail.path), place.offset)
            self._tails.setdefault(rest.key, rest)

    def _forget(self, key: Key) -> None:
        tail = self._tails.pop(key)
        self._quiet.pop(key, None)
        self._gone = [*self._gone, tail.place()][-_REMEMBERED:]
        tail.close()

    def _parquet(self, path: Path) -> list[Step]:
        """The next row group of a Parquet file that has not been read to its end."""
        status = path.stat()
        state = [status.st_ino, status.st_size, status.st_mtime_ns]
        done = self._whole.get(str(path), [])
        first = done[3] if done[:3] == state else 0
        if first < 0 or not status.st_size:
            return []
        try:
            table = Parquet(path, self.config.format == "metrics", self.config.mapping, self.name, self._entity, self._zone)
            decoded = table.read(first, now()) if first < table.groups else None
            last = first + 1 >= table.groups
        except BadData as error:
            if now() - status.st_mtime_ns < _WRITTEN_NS:
                return []  # it may still be in writing
            decoded = Decoded([quarantine(self.name, now(), "log", "file", [(error.reason, str(path), b"")])])
            last = True
        return [(decoded, lambda: self._whole.__setitem__(str(path), [*state, -1 if last else first + 1]))]

    def _position(self) -> dict[str, Any]:
        there = (tail.place() for tail in self._tails.values())
        whole = dict(list(self._whole.items())[-_REMEMBERED:])
        return {"places": [asdict(place) for place in (*self._gone, *there)], "parquet": whole}

    def _resume(self) -> bool:
        """Open the files the saved position speaks of, which may have been rotated away since; whether files there are were skipped."""
        saved = self.lent.load()
        self._whole = {str(path): list(state) for path, state in saved.get("parquet", {}).items()}
        if skipped := not saved and self.config.start == "end":
            self._skip()
        for place in places(saved):
            found = find(place, _beside(place))
            if found is not None:
                tail = Tail(*found, self.name, self._fresh(Path(place.path)), place.offset)
                self._tails.setdefault(tail.key, tail)
        return skipped

    def _skip(self) -> None:
        """Begin at the end of the files that are there."""
        for path in self._paths():
            if _is_parquet(path, self.config.format):
                status = path.stat()
                self._whole[str(path)] = [status.st_ino, status.st_size, status.st_mtime_ns, -1]
            else:
                with open_file(path) as file:
                    end = file.seek(0, 2)
                tail = Tail(path, open_file(path), self.name, self._fresh(path), end)
                self._tails[tail.key] = tail


_WRITTEN_NS = 10_000_000_000
"""A Parquet file that is not whole this long after it was last written is damaged."""


def _beside(place: Place) -> list[Path]:
    """The files in which what was at a place may be now: the path itself, and its rotations."""
    path = Path(place.path)
    stem = path.name.removesuffix(".gz")
    return [path, *sorted(other for other in path.parent.glob(f"{_plain(stem)}*") if other != path)]


def _plain(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


class FileUpload(Source):
    """Files sent over HTTP, as `ninefold replay` does: ``POST /files?format=csv|jsonl|log|metrics|postgresql&mapping=<name>``.

    ``&timezone=Europe/Berlin`` says which zone times without one are of, by default UTC; events with a mapping go by the mapping's.
    """

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
    if format_ not in _TEXTUAL:
        raise BadData(f"the format {format_!r} is none of {', '.join(_TEXTUAL)}", "query parameter format")
    try:
        zone = zone_of(asked.query.get("timezone", "UTC"))
    except ValueError as error:
        raise BadData(str(error), "query parameter timezone") from None
    return accept(asked.body, _TEXTUAL[format_], asked.query.get("mapping", ""), asked.source, asked.received, zone)
