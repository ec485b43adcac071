"""Time: nanoseconds since the epoch, UTC, everywhere."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def now() -> int:
    """The current time in ns since the epoch."""
    return time.time_ns()


def iso(time_ns: int) -> str:
    """RFC 3339 text in UTC with microseconds for a time in ns, e.g. ``2026-01-02T03:04:05.000006Z``."""
    seconds, rest = divmod(time_ns, SECOND)
    return f"{_to_the_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(1024)
def _to_the_second(seconds: int) -> str:
    """What is told together began in few different seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse(text: str) -> int:
    """Time in ns of an RFC 3339 / ISO 8601 text; a text without a zone is read as UTC.

    Raises:
        ValueError: the text is not a date and time.
    """
    text = text.strip()
    nanos = 0
    if "." in text:
        head, _, tail = text.partition(".")
        digits = len(tail) - len(tail.lstrip("0123456789"))
        nanos = int(tail[:digits][:9].ljust(9, "0")) if digits else 0
        text = head + tail[digits:]
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * SECOND + nanos
