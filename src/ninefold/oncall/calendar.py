"""Schedules as iCalendar (RFC 5545): shifts read from somebody's calendar, and a schedule's shifts written for calendars of others.

An event's people are those known whose names are its attendees' addresses or stand in its summary, divided by commas, semicolons,
slashes, ampersands or plus signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData
from ninefold.oncall.recurrence import occurrences, rule_of
from ninefold.oncall.rotation import Shift

LIMIT_BYTES = 1 << 20
_EVENTS = 5000
_DIVIDED = re.compile(r"[,;/&+]")
_UNTIL = re.compile(r"UNTIL=(\d{8}T\d{6})Z")
_LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class _Event:
    """What matters of an event: the names it may mean, its first start in its own zone, how long it lasts, when it recurs, without what."""

    summary: str
    said: tuple[str, ...]
    first: datetime
    own: tzinfo
    length: timedelta
    whole: bool
    rules: tuple[str, ...]
    begins: tuple[datetime, ...]
    without: frozenset[datetime]


@dataclass(frozen=True, slots=True)
class Found:
    """The shifts of a calendar, and what of it could not be used, one sentence each."""

    shifts: list[Shift]
    problems: list[str]


def read(text: str, people: Iterable[str], zone: ZoneInfo, start: int, end: int) -> Found:
    """The shifts between two times (ns). A text is taken apart once and remembered.

    Args:
        text: the calendar.
        people: those who are known.
        zone: of times that name none, and of whole days.
        start, end: ns.

    Raises:
        BadData: it is no calendar, or too large.
    """
    events, faults = _parsed(text, zone)
    known = {name.casefold(): name for name in people}
    shifts, problems = [], set(faults)
    for event in events:
        names = [known[name] for name in event.said if name in known]
        if not names:
            problems.add(f"the event {event.summary!r} names nobody who is known here")
            continue
        for begin, over in _occurrences(event, start, end):
            shifts += [Shift(begin, over, name, "calendar") for name in names]
    shifts.sort(key=lambda shift: (shift.start, shift.end, shift.person))
    return Found(shifts, sorted(problems))


def write(name: str, title: str, found: Sequence[Shift], at: int) -> bytes:
    """A calendar of shifts, as of `at` (ns)."""
    from icalendar import Calendar, Event  # here, because only calendars need its tenth of a second

    calendar = Calendar()
    calendar.add("prodid", "-//Ninefold//on-call//EN")
    calendar.add("version", "2.0")
    calendar.calendar_name = " ".join(title.split()) or name
    calendar.add("refresh-interval", timedelta(minutes=30), parameters={"VALUE": "DURATION"})
    for shift in found:
        event = Event()
        event.add("uid", f"{name}-{shift.person}-{shift.start // SECOND}@ninefold")
        event.add("summary", shift.person)
        event.add("description", f"On call by {shift.of} of {name}")
        event.add("dtstamp", _utc(at))
        event.add("dtstart", _utc(shift.start))
        event.add("dtend", _utc(shift.end))
        event.add("transp", "TRANSPARENT")
        calendar.add_component(event)
    return bytes(calendar.to_ical())


@lru_cache(maxsize=16)
def _parsed(text: str, zone: ZoneInfo) -> tuple[list[_Event], list[str]]:
    """A calendar's events, and why some cannot be used."""
    found = _components(text)
    moved: dict[str, set[datetime]] = {}
    for each in found:
        if "RECURRENCE-ID" in each:
            moved.setdefault(str(each.get("UID", "")), set()).add(_time(each["RECURRENCE-ID"].dt, zone))
    events, problems = [], []
    for each in found:
        if str(each.get("STATUS", "")).upper() == "CANCELLED":
            continue  # in place of an occurrence, it has taken that away already
        try:
            events.append(_event(each, zone, moved.get(str(each.get("UID", "")), set())))
        except (BadData, ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            problems.append(f"the event {_summary(each)!r} cannot be used: {error}")
    return events, problems


def _components(text: str) -> list[Any]:
    from icalendar import Calendar

    if len(text.encode()) > LIMIT_BYTES:
        raise BadData(f"the calendar has more than {LIMIT_BYTES} bytes; publish one of on-call shifts only")
    try:
        found = list(Calendar.from_ical(text).walk("VEVENT"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadData(f"this is no iCalendar that can be read ({error}); it begins with BEGIN:VCALENDAR") from error
    if len(found) > _EVENTS:
        raise BadData(f"the calendar has {len(found)} events, more than {_EVENTS}; publish one of on-call shifts only")
    return found


def _event(component: Any, zone: ZoneInfo, moved: set[datetime]) -> _Event:
    """One event as far as it matters here."""
    first = _time(component["DTSTART"].dt, zone)
    whole, own = not isinstance(component["DTSTART"].dt, datetime), first.tzinfo or zone
    length = _length(component, first, zone)
    if not timedelta(0) < length <= _LONGEST:
        raise BadData("it does not end after it starts, or lasts longer than a year")
    alone = "RECURRENCE-ID" in component
    rules = [] if alone else component.get("RRULE", [])
    texts = [_by_wall(rule.to_ical().decode(), own) for rule in (rules if isinstance(rules, list) else [rules])]
    begins = {first} if alone else {first, *_dates(component.get("RDATE"), zone)}
    without = frozenset() if alone else frozenset({*_dates(component.get("EXDATE"), zone), *moved})
    for text in texts:
        rule_of(text, first.replace(tzinfo=None))  # refused now rather than when it is needed
    return _Event(_summary(component), tuple(_said(component)), first, own, length, whole, tuple(texts), tuple(begins), without)


def _summary(component: Any) -> str:
    return str(component.get("SUMMARY", "")).strip()[:80]


def _said(component: Any) -> Iterator[str]:
    """The names an event may mean, in small letters."""
    attendees = component.get("ATTENDEE", [])
    found = [str(each).casefold().removeprefix("mailto:") for each in (attendees if isinstance(attendees, list) else [attendees])]
    found += [part.strip().casefold() for part in _DIVIDED.split(str(component.get("SUMMARY", "")))]
    yield from dict.fromkeys(found)


def _occurrences(event: _Event, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end (ns) of an event's occurrences that touch the time between `start` and `end`."""
    begins = set(event.begins)
    for text in event.rules:
        until = datetime.fromtimestamp(end // SECOND, event.own).replace(tzinfo=None)
        begins.update(each.replace(tzinfo=event.own) for each in occurrences(rule_of(text, event.first.replace(tzinfo=None)), until))
    for begin in begins - event.without if event.without else begins:
        begin_ns = int(begin.timestamp()) * SECOND
        if event.whole:  # days of the wall clock, whatever their hours
            over_ns = int((begin.replace(tzinfo=None) + event.length).replace(tzinfo=event.own).timestamp()) * SECOND
        else:
            over_ns = begin_ns + int(event.length.total_seconds()) * SECOND
        if begin_ns < end and over_ns > start:
            yield begin_ns, over_ns


def _by_wall(text: str, own: tzinfo) -> str:
    """A rule by the wall clock of the event's own zone, its UNTIL too."""

    def local(found: re.Match[str]) -> str:
        at = datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).astimezone(own)
        return f"UNTIL={at:%Y%m%dT%H%M%S}"

    return _UNTIL.sub(local, text.upper())


def _length(event: Any, first: datetime, zone: ZoneInfo) -> timedelta:
    if "DTEND" in event:
        last = _time(event["DTEND"].dt, zone)
        if not isinstance(event["DTSTART"].dt, datetime):
            return last.replace(tzinfo=None) - first.replace(tzinfo=None)
        return last.astimezone(UTC) - first.astimezone(UTC)
    if "DURATION" in event:
        return timedelta(seconds=event["DURATION"].dt.total_seconds())
    return timedelta(0) if isinstance(event["DTSTART"].dt, datetime) else timedelta(days=1)


def _dates(values: Any, zone: ZoneInfo) -> Iterator[datetime]:
    for value in values if isinstance(values, list) else [values] if values is not None else []:
        for each in value.dts:
            if not isinstance(each.dt, date):
                raise BadData("its RDATE is a period, which is not understood")
            yield _time(each.dt, zone)


def _time(value: date | datetime, zone: ZoneInfo) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=zone)
    return datetime.combine(value, time(), zone)


def _utc(at: int) -> datetime:
    return datetime.fromtimestamp(at // SECOND, UTC)
