"""When a mute holds: once from its start to its end, or again and again by a recurrence rule (RFC 5545) and a wall clock."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData
from ninefold.store.records.mutes import Mute

NEVER = 1 << 62
_LONGEST_S = 366 * 86_400
_DAILY = re.compile(r"(?i)\bFREQ=(DAILY|WEEKLY|MONTHLY|YEARLY)\b")
_SHIFT = timedelta(days=1)
"""More than any change of the clock moves a wall clock."""
_ENDLESS = re.compile(r"(?i)\bINTERVAL=0*(;|$)|\bBY(HOUR|MINUTE|SECOND)=")


_OWN_START = re.compile(r"(?i)DTSTART|\s")
"""A mute starts when it says; a rule with a start of its own would be about another clock."""


def problem(mute: Mute) -> str:
    """What is wrong with a mute's times, "" when nothing is."""
    if mute.ends <= mute.starts:
        return "a mute ends after it starts"
    try:
        ZoneInfo(mute.timezone)
    except (ValueError, KeyError, OSError):
        return f"the time zone {mute.timezone!r} is not known; use a name such as Europe/Berlin"
    if not mute.rrule:
        return ""
    if not 0 < mute.duration_s <= _LONGEST_S:
        return "a recurring mute needs a duration between a second and a year"
    try:
        first = _rule(mute).after(_local(mute.timezone, mute.starts), inc=True)
    except BadData as error:
        return str(error)
    return "" if first is not None else f"the recurrence rule {mute.rrule!r} names no day that there is"


def window(mute: Mute, at: int) -> tuple[int, int] | None:
    """Start and end (ns) of the time `at` (ns) lies in, None when the mute does not hold then."""
    if not mute.starts <= at < mute.ends:
        return None
    if not mute.rrule:
        return mute.starts, mute.ends
    start = _last(mute, at)
    if start is None:
        return None
    end = min(start + mute.duration_s * SECOND, mute.ends)
    return (start, end) if at < end else None


def edge(mute: Mute, at: int) -> int:
    """The next time (ns) after `at` at which the mute begins or ceases to hold, `NEVER` when it never does."""
    if at >= mute.ends:
        return NEVER
    if at < mute.starts:
        return mute.starts
    now = window(mute, at)
    if now is not None:
        return now[1]
    following = _next(mute, at)
    return min(following, mute.ends) if following is not None else mute.ends


# Wall clocks go back and leap: they only say near which occurrence a time is, and the occurrences' own times decide.
def _last(mute: Mute, at: int) -> int | None:
    """When the newest occurrence that has begun at `at` began (ns)."""
    rule, end = _rule(mute), _local(mute.timezone, at) + _SHIFT
    while (begin := rule.before(end, inc=True)) is not None:
        if _ns(begin) <= at:
            return _ns(begin)
        end = begin - timedelta(seconds=1)
    return None


def _next(mute: Mute, at: int) -> int | None:
    """When the next occurrence after `at` begins (ns)."""
    rule, start = _rule(mute), _local(mute.timezone, at) - _SHIFT
    while (begin := rule.after(start)) is not None:
        if _ns(begin) > at:
            return _ns(begin)
        start = begin
    return None


def _local(timezone: str, at: int) -> datetime:
    return datetime.fromtimestamp(at // SECOND, ZoneInfo(timezone))


def _ns(local: datetime) -> int:
    return int(local.timestamp()) * SECOND


def _rule(mute: Mute) -> rrule:
    return _parsed(mute.rrule, mute.starts, mute.timezone)


@lru_cache(maxsize=4096)
def _parsed(text: str, starts: int, timezone: str) -> rrule:
    # Finer than daily, a rule of years would have too many occurrences to walk through; one with an interval of 0 never ends.
    if not _DAILY.search(text) or _ENDLESS.search(text) or _OWN_START.search(text):
        raise BadData(f"the recurrence rule {text!r} does not recur daily, weekly, monthly or yearly")
    try:
        rule = rrulestr(text, dtstart=_local(timezone, starts), cache=True)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadData(f"the recurrence rule {text!r} cannot be read ({error}); write one such as FREQ=WEEKLY;BYDAY=SU") from error
    if not isinstance(rule, rrule):
        raise BadData(f"the recurrence rule {text!r} is more than one rule; write a mute for each")
    return rule
