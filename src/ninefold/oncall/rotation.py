"""Who is on call when: turns by recurrence rules of a wall clock, hours, layers upon layers, what is left open.

All is worked out in wall-clock time of the schedule's zone and turned into ns last, so a hand-over at nine is at nine before and after
the clocks change; an hour that is skipped counts as the one after it, of one that comes twice the first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from ninefold.ground.clock import SECOND
from ninefold.oncall.plans import DAYS, Layer, Restriction, Schedule
from ninefold.oncall.recurrence import occurrences, rule_of

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Shift:
    """Somebody on call from `start` to `end` (ns); `of` says by which layer, calendar or override."""

    start: int
    end: int
    person: str
    of: str


def shifts(schedule: Schedule, start: int, end: int, calendar: Sequence[Shift] = (), overrides: Sequence[Shift] = ()) -> list[Shift]:
    """The shifts between two times (ns), in order and cut there: overrides before the calendar, that before the layers, of these the
    later before the earlier. Only a calendar can name several people at once."""
    found: list[Shift] = []
    for layer in schedule.layers:
        found = _over(found, _layer(layer, schedule.zone, start, end))
    found = _over(found, _cut(calendar, start, end))
    for override in overrides:
        found = _over(found, _cut([override], start, end))
    return _joined(found)


def on_call(found: Iterable[Shift], at: int) -> list[Shift]:
    """The shifts that hold at a time."""
    return [shift for shift in found if shift.start <= at < shift.end]


def gaps(found: Iterable[Shift], start: int, end: int) -> list[tuple[int, int]]:
    """The times (ns) between two at which nobody is on call."""
    left, reached = [], start
    for shift in sorted(found, key=lambda shift: shift.start):
        if shift.start > reached:
            left.append((reached, min(shift.start, end)))
        reached = max(reached, shift.end)
    return [*left, (reached, end)] if reached < end else left


def _layer(layer: Layer, zone: ZoneInfo, start: int, end: int) -> list[Shift]:
    """The layer's shifts that touch the time between `start` and `end`, cut there."""
    first, last = layer.begins(), layer.ceases()
    until = _wall(end, zone) + _DAY
    begins = [first]
    if layer.rrule:
        begins += [time for time in occurrences(rule_of(layer.rrule, first), until) if time > first]
    earlier = max(0, bisect_right(begins, _wall(start, zone) - _DAY) - 1)
    edges = [ns(local, zone) for local in begins[earlier:]]
    finish = ns(last, zone) if last else max(end, edges[-1])
    turns = []
    for number, (begin, over) in enumerate(zip(edges, [*edges[1:], finish], strict=True), earlier):
        turns.append(Shift(begin, min(over, finish), layer.people[number % len(layer.people)], layer.name or "rotation"))
    found = _cut(turns, start, end)
    return _within(found, _hours(layer.restrictions, zone, start, end)) if layer.restrictions else found


def _hours(restrictions: Sequence[Restriction], zone: ZoneInfo, start: int, end: int) -> list[tuple[int, int]]:
    """The restricted hours between two times (ns), in order, those that touch one another joined."""
    found = []
    day = datetime.combine(_wall(start, zone).date(), time()) - _DAY
    until = _wall(end, zone)
    while day <= until:
        for each in restrictions:
            if each.days and DAYS[day.weekday()] not in each.days:
                continue
            begin = datetime.combine(day.date(), time.fromisoformat(each.starts))
            over = datetime.combine(day.date(), time.fromisoformat(each.ends))
            found.append((ns(begin, zone), ns(over if over > begin else over + _DAY, zone)))
        day += _DAY
    joined: list[tuple[int, int]] = []
    for begin_ns, over_ns in sorted(found):
        if joined and begin_ns <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], over_ns)
        else:
            joined.append((begin_ns, over_ns))
    return joined


def _within(found: Sequence[Shift], hours: Sequence[tuple[int, int]]) -> list[Shift]:
    parts = []
    for shift in found:
        for begin, over in hours:
            if begin < shift.end and over > shift.start:
                parts.append(replace(shift, start=max(begin, shift.start), end=min(over, shift.end)))
    return parts


def _over(below: Sequence[Shift], above: Sequence[Shift]) -> list[Shift]:
    """Both, with what is below cut away where there is something above."""
    left = list(below)
    for top in above:
        parts = []
        for shift in left:
            if shift.start < top.start:
                parts.append(replace(shift, end=min(shift.end, top.start)))
            if shift.end > top.end:
                parts.append(replace(shift, start=max(shift.start, top.end)))
        left = [part for part in parts if part.start < part.end]
    return sorted([*left, *above], key=lambda shift: (shift.start, shift.end, shift.person))


def _cut(found: Iterable[Shift], start: int, end: int) -> list[Shift]:
    cut = (replace(shift, start=max(shift.start, start), end=min(shift.end, end)) for shift in found)
    return [shift for shift in cut if shift.start < shift.end]


def _joined(found: Sequence[Shift]) -> list[Shift]:
    """Shifts of the same person and origin that follow one another without a pause as one."""
    joined: list[Shift] = []
    for shift in found:
        last = joined[-1] if joined else None
        if last and (last.end, last.person, last.of) == (shift.start, shift.person, shift.of):
            joined[-1] = replace(last, end=shift.end)
        else:
            joined.append(shift)
    return joined


def ns(local: datetime, zone: ZoneInfo) -> int:
    """A time of the wall clock in ns since the epoch."""
    return int(local.replace(tzinfo=zone).timestamp()) * SECOND


def _wall(at: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at // SECOND, zone).replace(tzinfo=None)
