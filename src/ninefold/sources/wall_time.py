"""Times without a zone: what a clock on the wall showed, in the zone where it hangs. The zone None is the machine's own."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from ninefold.ground.clock import SECOND

_WALL = re.compile(r"\s*\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s*")


def zone_of(name: str) -> tzinfo | None:
    """The zone of a name in the time zone database, the machine's for "".

    Raises:
        ValueError: there is none of this name.
    """
    if name in ("", "UTC"):
        return UTC if name else None
    try:
        return ZoneInfo(name)
    except (OSError, KeyError, ValueError):
        raise ValueError(f"{name!r} is no name of the time zone database, such as Europe/Berlin") from None


def checked_zone(name: str) -> str:
    """The name of a zone as it stands in settings.

    Raises:
        ValueError: there is none of this name.
    """
    zone_of(name)
    return name


def is_wall_time(value: Any) -> bool:
    """Whether a value is a date and a time without a zone."""
    return isinstance(value, str) and _WALL.fullmatch(value) is not None


def moved_to(time: int, zone: tzinfo | None) -> int:
    """The time in ns at which a clock in `zone` shows what one in UTC shows at `time`; of two such times the first."""
    if zone is UTC:
        return time
    seconds, rest = divmod(time, SECOND)
    try:
        return int(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=zone).timestamp()) * SECOND + rest
    except (ValueError, OverflowError, OSError):
        return time
