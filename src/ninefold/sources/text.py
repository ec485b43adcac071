"""Log text: lines with a time in one of the usual spellings; continuation lines belong to the line before them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

import pyarrow as pa

from ninefold.ground.clock import SECOND
from ninefold.model.signal import TIME, Batch, Decoded, batch_of
from ninefold.sources.reading import time_of
from ninefold.sources.wall_time import moved_to

_CONTINUES = (b" ", b"\t", b"Caused by:")
_MONTHS = {"Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6, "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12}
_DAY = 86400 * SECOND


class TextParser:
    """Parses blocks of log text.

    Args:
        name: the file's name, kept as ``log.file.name``.
        path: its path, kept as ``log.file.path``.
        mapping: not used by text.
        source: the source of the batches.
        entity: what the lines are about.
        zone: that of times without one; None: the machine's.
    """

    def __init__(self, name: str, path: str, mapping: str, source: str, entity: str, zone: tzinfo | None = UTC) -> None:
        self._source, self._entity = source, entity
        self._attributes = {"log.file.name": name, "log.file.path": path}
        self._clock = LineClock(zone)

    def start(self, first_line: bytes) -> None:
        """Log text has no header: nothing to learn from a file's first line."""

    def complete(self, buffer: bytes, final: bool) -> int:
        """How many bytes of the buffer are whole records; the last one may still get continuation lines unless `final`."""
        if final:
            return len(buffer)
        end = buffer.rfind(b"\n") + 1
        while end > 0:
            start = buffer.rfind(b"\n", 0, end - 1) + 1
            line = buffer[start:end]
            if line.strip() and not line.startswith(_CONTINUES):
                return start
            end = start
        return 0

    def parse(self, block: bytes, offset: int, received: int) -> Decoded:
        """Log rows of a block of whole lines; only the newline splits lines, and bytes that are not UTF-8 are replaced."""
        records: list[bytes] = []
        for line in block.split(b"\n"):
            if not line.strip():
                continue
            if records and line.startswith(_CONTINUES):
                records[-1] += b"\n" + line.rstrip(b"\r")
            else:
                records.append(line.rstrip(b"\r"))
        bodies = [record.decode("utf-8", "replace") for record in records]
        times = self._clock.read(bodies, received)
        return Decoded([log_batch(self._source, received, times, bodies, self._entity, self._attributes)] if bodies else [])


def log_batch(source: str, received: int, times: list[int], bodies: list[str], entity: str, attributes: dict[str, str]) -> Batch:
    """A log batch whose rows differ in time and body only."""
    one = batch_of("log", source, received, [{"time": received, "entity": entity, "attributes": attributes}]).rows
    place = pa.array([0] * len(bodies), pa.int32())
    own = {"time": pa.array(times, TIME), "body": pa.array(bodies, pa.string())}
    columns = [own[name] if name in own else column.take(place) for name, column in zip(one.schema.names, one, strict=True)]
    return Batch("log", source, received, pa.RecordBatch.from_arrays(columns, schema=one.schema))


class LineClock:
    """Finds the time at the head of log lines; remembers which spelling a file uses.

    Args:
        zone: that of times without one; None: the machine's.
    """

    def __init__(self, zone: tzinfo | None = UTC) -> None:
        self._spellings, self._zone = list(_SPELLINGS), zone

    def read(self, lines: list[str], received: int) -> list[int]:
        """The time of each line in ns; a line without one has the time of the line before it, or of its receipt."""
        last = received
        times: list[int] = []
        for line in lines:
            last = self._one(line, received) or last
            times.append(last)
        return times

    def _one(self, line: str, received: int) -> int | None:
        for place, (pattern, read) in enumerate(self._spellings):
            match = pattern.match(line)
            if match:
                found = read(match, received, self._zone)
                if found is not None:
                    if place:
                        self._spellings.insert(0, self._spellings.pop(place))
                    return found
        return None


@lru_cache(maxsize=4096)
def _second(text: str, zone: str) -> int | None:
    return time_of(text.replace(" ", "T") + ("" if zone in ("", "Z", "UTC", "GMT") else zone))


@lru_cache(maxsize=4096)
def _wall(text: str, zone: tzinfo | None) -> int | None:
    time = time_of(text)
    return None if time is None else moved_to(time, zone)


def _fraction(digits: str | None) -> int:
    return int(digits.ljust(9, "0")[:9]) if digits else 0


def _iso(match: re.Match[str], received: int, zone: tzinfo | None) -> int | None:
    second = _second(match[1], match[3]) if match[3] else _wall(match[1].replace(" ", "T"), zone)
    return None if second is None else second + _fraction(match[2])


def _slashed(match: re.Match[str], received: int, zone: tzinfo | None) -> int | None:
    year = match[1] if len(match[1]) == 4 else f"20{match[1]}"
    return _wall(f"{year}-{match[2]}-{match[3]}T{match[4]}", zone)


def _syslog(match: re.Match[str], received: int, zone: tzinfo | None) -> int | None:
    """RFC 3164 has no year: the one that brings the time nearest before its receipt."""
    month = _MONTHS.get(match[1])
    if month is None:
        return None
    year = datetime.fromtimestamp(received // SECOND, UTC).year
    for candidate in (year + 1, year, year - 1):
        time = _wall(f"{candidate}-{month:02d}-{int(match[2]):02d}T{match[3]}", zone)
        if time is not None and time <= received + _DAY:
            return time
    return None


def _apache(match: re.Match[str], received: int, zone: tzinfo | None) -> int | None:
    return time_of(match[1])


def _apache_error(match: re.Match[str], received: int, zone: tzinfo | None) -> int | None:
    time = _wall(f"{match[1]} {match[3]}", zone)
    return None if time is None else time + _fraction(match[2])


def _epoch(match: re.Match[str], received: int, zone: tzinfo | None) -> int | None:
    return time_of(match[1])


def _time_only(match: re.Match[str], received: int, zone: tzinfo | None) -> int | None:
    """A clock without a date: the nearest such moment that is not after its receipt."""
    day = datetime.fromtimestamp(received // SECOND, UTC).strftime("%Y-%m-%d")
    second = _wall(f"{day}T{match[1]}", zone)
    if second is None:
        return None
    time = second + _fraction(match[2])
    return next(found for found in (time + _DAY, time, time - _DAY) if found <= received + 60 * SECOND or found < time)


_SPELLINGS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], int, tzinfo | None], int | None]], ...] = (
    (re.compile(r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?: ?(Z|UTC|GMT|[+-]\d\d:?\d\d))?"), _iso),
    (re.compile(r"(?:<\d{1,3}>)?([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d)"), _syslog),
    (re.compile(r"\S+ \S+ \S+ \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]"), _apache),
    (re.compile(r"\[([A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d)(?:\.(\d{1,9}))? (\d{4})\]"), _apache_error),
    (re.compile(r"\[(\d{10})\]"), _epoch),
    (re.compile(r"(\d{4}|\d\d)/(\d\d)/(\d\d) (\d\d:\d\d:\d\d)"), _slashed),
    (re.compile(r"(\d\d:\d\d:\d\d)[.,](\d{1,9}) "), _time_only),
)
"""ISO 8601 (log4j's comma too), syslog, Apache's access and error logs, epoch seconds (Nagios), slashed dates (nginx, Go, Spark),
a bare clock."""
