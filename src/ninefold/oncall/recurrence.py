"""Recurrence rules (RFC 5545) by the wall clock, only such as can be walked through quickly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

from dateutil.rrule import rrule, rrulestr

from ninefold.ground.errors import BadData

_PART = re.compile(r"(FREQ|INTERVAL|COUNT|UNTIL|WKST|BYDAY|BYMONTHDAY|BYMONTH|BYSETPOS)=([A-Z0-9,+-]+)")
_FREQUENCIES = ("HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")


def rule_of(text: str, starts: datetime) -> rrule:
    """A rule, counted from a time of the wall clock (without a zone); its occurrences are remembered.

    Raises:
        BadData: it cannot be read, recurs more than once an hour, or never.
    """
    return _rule(text.strip().upper().removeprefix("RRULE:"), starts)


@lru_cache(maxsize=512)
def _rule(text: str, starts: datetime) -> rrule:
    parts = {}
    for part in filter(None, text.split(";")):
        found = _PART.fullmatch(part)
        if found is None:
            raise BadData(f"the part {part!r} of the recurrence rule {text!r} is not understood; write one such as FREQ=WEEKLY;BYDAY=MO")
        parts[found[1]] = found[2]
    if parts.get("FREQ") not in _FREQUENCIES:
        raise BadData(f"the recurrence rule {text!r} needs a FREQ: {', '.join(_FREQUENCIES)}")
    if parts["FREQ"] == "HOURLY" and any(name.startswith("BY") for name in parts):
        raise BadData(f"the recurrence rule {text!r} is HOURLY and may have an INTERVAL only; for some hours use restrictions")
    if not 0 < int(parts.get("INTERVAL", "1") if parts.get("INTERVAL", "1").isdigit() else 0) <= 1000:
        raise BadData(f"the INTERVAL of the recurrence rule {text!r} must be between 1 and 1000")
    try:
        rule = rrulestr(text, dtstart=starts, cache=True)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadData(f"the recurrence rule {text!r} cannot be read ({error}); write one such as FREQ=WEEKLY;BYDAY=MO") from error
    if not isinstance(rule, rrule):
        raise BadData(f"the recurrence rule {text!r} is more than one rule")
    return rule


def occurrences(rule: rrule, until: datetime) -> Iterator[datetime]:
    """The rule's times in order, those before `until`."""
    for time in rule:
        if time >= until:
            return
        yield time
