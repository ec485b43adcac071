"""Schedules as iCalendar (RFC 5545): shifts read from somebody's calendar, and a schedule's shifts written for calendars of others.

An event's people are those known whose names are its attendees' addresses or stand in its summary, divided by commas, semicolons,
slashes, ampersands or plus signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
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
class Found:
    """The shifts of a calendar, and what of it could not be used, one sentence each."""

    shifts: list[Shift]
    problems: list[str]


def read(text: str, people: Iterable[str], zone: ZoneInfo, start: int, end: int) -> Found:
    """The shifts between two times (ns).

    Args:
        text: the calendar.
        people: those who are known.
        zone: of times that name none, and of whole days.
        start, end: ns.

    Raises:
        BadData: it is no calendar, or too large.
    """
    events = _events(text)
    known = {name.casefold(): name for name in people}
    moved: dict[str, set[datetime]] = {}
    for event in events:
        if "RECURRENCE-ID" in event:
            moved.setdefault(str(event.get("UID", "")), set()).add(_time(event["RECURRENCE-ID"].dt, zone))
    found, problems = Found([], []), set()
    for event in events:
        summary = str(event.get("SUMMARY", "")).strip()
        try:
            names = list(_named(event, summary, known))
            if not names:
                problems.add(f"the event {summary[:80]!r} names nobody who is known here")
                continue
            for begin, over in _times(event, zone, moved.get(str(event.get("UID", "")), set()), start, end):
                found.shifts.extend(Shift(begin, over, name, "calendar") for name in names)
        except (BadData, ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            problems.add(f"the event {summary[:80]!r} cannot be used: {error}")
    found.shifts.sort(key=lambda shift: (shift.start, shift.end, shift.person))
    found.problems.extend(sorted(problems))
    return found


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


def _events(text: str) -> list[Any]:
    from icalendar import Calendar

    if len(text.encode()) > LIMIT_BYTES:
        raise BadData(f"the calendar has more than {LIMIT_BYTES} bytes; publish one of on-call shifts only")
    try:
        calendar = Calendar.from_ical(text)
        events = [
            event for event in calendar.walk("VEVENT") if str(event.get("STATUS", "")).upper() != "CANCELLED" or "RECURRENCE-ID" in event
        ]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadData(f"this is no iCalendar that can be read ({error}); it begins with BEGIN:VCALENDAR") from error
    if len(events) > _EVENTS:
        raise BadData(f"the calendar has {len(events)} events, more than {_EVENTS}; publish one of on-call shifts only")
    return events


def _named(event: Any, summary: str, known: dict[str, str]) -> Iterator[str]:
    attendees = event.get("ATTENDEE", [])
    attendees = attendees if isinstance(attendees, list) else [attendees]
    said = [str(each).casefold().removeprefix("mailto:") for each in attendees]
    said += [part.strip().casefold() for part in _DIVIDED.split(summary)]
    for name in dict.fromkeys(said):
        if name in known:
            yield known[name]


def _times(event: Any, zone: ZoneInfo, moved: set[datetime], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end (ns) of an event's occurrences that touch the time between `start` and `end`."""
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return
    first = _time(event["DTSTART"].dt, zone)
    length = _length(event, first, zone)
    if not timedelta(0) < length <= _LONGEST:
        raise BadData("it does not end after it starts, or lasts longer than a year")
    own = first.tzinfo or zone
    begins = {first}
    if "RECURRENCE-ID" not in event:
        rules = event.get("RRULE", [])
        for rule in rules if isinstance(rules, list) else [rules]:
            begins |= set(_recurring(rule.to_ical().decode(), first, own, datetime.fromtimestamp(end / SECOND, own)))
        begins |= set(_dates(event.get("RDATE"), zone))
        begins -= set(_dates(event.get("EXDATE"), zone)) | moved
    for begin in begins:
        if isinstance(event["DTSTART"].dt, datetime):
            begin_ns = int(begin.timestamp()) * SECOND
            over_ns = begin_ns + int(length.total_seconds()) * SECOND
        else:  # whole days are days of the wall clock, whatever their hours
            begin_ns = int(begin.timestamp()) * SECOND
            over_ns = int((begin.replace(tzinfo=None) + length).replace(tzinfo=own).timestamp()) * SECOND
        if begin_ns < end and over_ns > start:
            yield begin_ns, over_ns


def _recurring(text: str, first: datetime, own: tzinfo, until: datetime) -> Iterator[datetime]:
    """By the wall clock of the event's own zone, as the standard says."""

    def local(found: re.Match[str]) -> str:
        at = datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).astimezone(own)
        return f"UNTIL={at:%Y%m%dT%H%M%S}"

    rule = rule_of(_UNTIL.sub(local, text.upper()), first.replace(tzinfo=None))
    for time_ in occurrences(rule, until.replace(tzinfo=None)):
        yield time_.replace(tzinfo=own)


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
