"""When a mute holds: once from its start to its end, or again and again by a recurrence rule (RFC 5545) and a wall clock."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData
from ninefold.store.records.mutes import Mute

NEVER = 1 << 62
_LONGEST_S = 366 * 86_400
_DAILY = re.compile(r"(?i)\bFREQ=(DAILY|WEEKLY|MONTHLY|YEARLY)\b")
_ENDLESS = re.compile(r"(?i)\bINTERVAL=0*(;|$)|\bBY(HOUR|MINUTE|SECOND)=")


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
        _rule(mute)
    except BadData as error:
        return str(error)
    return ""


def window(mute: Mute, at: int) -> tuple[int, int] | None:
    """Start and end (ns) of the time `at` (ns) lies in, None when the mute does not hold then."""
    if not mute.starts <= at < mute.ends:
        return None
    if not mute.rrule:
        return mute.starts, mute.ends
    begin = _rule(mute).before(_local(mute, at), inc=True)
    if begin is None:
        return None
    start = _ns(begin)
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
    following = _rule(mute).after(_local(mute, at))
    return min(_ns(following), mute.ends) if following is not None else mute.ends


def _local(mute: Mute, at: int) -> datetime:
    return datetime.fromtimestamp(at // SECOND, ZoneInfo(mute.timezone))


def _ns(local: datetime) -> int:
    return int(local.timestamp()) * SECOND


def _rule(mute: Mute) -> rrule:
    # Finer than daily, a rule of years would have too many occurrences to walk through; one with an interval of 0 never ends.
    if not _DAILY.search(mute.rrule) or _ENDLESS.search(mute.rrule):
        raise BadData(f"the recurrence rule {mute.rrule!r} does not recur daily, weekly, monthly or yearly")
    try:
        rule = rrulestr(mute.rrule, dtstart=_local(mute, mute.starts))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadData(f"the recurrence rule {mute.rrule!r} cannot be read ({error}); write one such as FREQ=WEEKLY;BYDAY=SU") from error
    if not isinstance(rule, rrule):
        raise BadData(f"the recurrence rule {mute.rrule!r} is more than one rule; write a mute for each")
    return rule
