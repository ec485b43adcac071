"""Profiles of the hours of a day and of a week, an expert each. Compiled as part of `kernel`."""

from __future__ import annotations

import math

from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.compiling import cold, hot

HOUR = 3600 * 1_000_000_000
DAY = 24 * HOUR
_WEEK = 168
_SEEN, _PROVEN, _AGAIN = 84.0, 252.0, -672.0
"""Hours a weekly profile must have predicted before it is believed; before it may be given up; until there may be another."""
_HEARD = 24.0
"""Hours it must have predicted before it may explain what surprises the others."""
_DAYS = 7
"""Days behind an hour before its course can be missed: by then every day of the week was seen."""
_LEFT, _HOURLY = 0.8, 3.3
"""What is left of a missed course an hour later; the most one hour adds to it, in usual errors: a single step proves nothing."""
_HALF, _SURE = 0.5, 1.7
"""The part of the profile's movement that must be missing; usual errors to a unit of `astray`: about eight to an alarm, three hours."""
_FADES, _MOST, _ROUGHER = 0.995, 9.0, 1.6
"""What is left an hour later of what was missed before; the most of that, in usual errors; by how much it must be exceeded."""


@hot
def course(table, counts, row, hours, t):  # type: ignore[no-untyped-def]
    """A profile at a time, between the middles of two hours; NaN while it does not know the hour."""
    at = (t // HOUR) % hours
    if counts[row, at] == 0:
        return math.nan
    place = (t % HOUR) / HOUR - 0.5
    other = (at + (1 if place > 0.0 else hours - 1)) % hours
    weight = abs(place) if counts[row, other] > 0 else 0.0
    return (1.0 - weight) * table[row, at] + weight * table[row, other]


@cold
def _followed(cells, profile, days, means, counts, i, at, mean):  # type: ignore[no-untyped-def]
    """How an hour's mean moved since the hour before, beside how the daily profile moved, or the weekly one where that comes closer.

    Movements, not values: a level that shifted follows its course ever after, but for the hour of the shift.
    """
    off, before, last = mean - profile[i, at], float(cells[i, c.OFF]), (at + 23) % 24
    cells[i, c.OFF] = off
    if before != before or days[i, last] < 2:  # the first day predicts the second badly
        return
    moved = profile[i, at] - profile[i, last] + max(0.2, 1.0 / days[i, last]) * before  # as it was before it learned the last hour
    came = off - before + moved
    if cells[i, c.WEEK] > 0.0:
        row, now = int(cells[i, c.WEEK]) - 1, int(cells[i, c.HOUR]) % _WEEK
        then = (now + _WEEK - 1) % _WEEK
        if counts[row, now] > 0 and counts[row, then] > 1:
            learned = max(0.3, 1.0 / counts[row, then])
            weekly = means[row, now] - (means[row, then] - learned * (mean - came)) / (1.0 - learned)
            moved = weekly if abs(came - weekly) < abs(came - moved) else moved
    usual = float(cells[i, c.ASTRAY]) or float(cells[i, c.ERR_DAILY])
    if days[i, at] >= _DAYS:
        path = min(abs(moved), _HOURLY * usual)
        missed = (moved - came) * math.copysign(1.0, moved)
        cells[i, c.PATH] = _LEFT * cells[i, c.PATH] + path
        before, now = float(cells[i, c.MISSED]), max(_LEFT * cells[i, c.MISSED] + min(max(missed, -path), path), 0.0)
        cells[i, c.MISSED] = now
        cells[i, c.ROUGH] = max(_FADES * cells[i, c.ROUGH], min(before, _MOST * usual) if now < before else 0.0)
    most = (2.0 if astray(cells, i, 0.0) > 2.0 else 4.0) * usual
    cells[i, c.ASTRAY] = usual + max(0.02, 0.1 / days[i, at]) * (min(abs(came - moved), most) - usual)


@hot
def astray(cells, i, sigma):  # type: ignore[no-untyped-def]
    """How surely the course of the day is not followed any more, comparable with -log10 of a probability.

    0 while half of it is, and while it was missed nearly as much before and came back; `sigma`, the standard deviation of points, is the
    least that must have been missed.
    """
    missed, usual = float(cells[i, c.MISSED]), float(cells[i, c.ASTRAY])
    if missed <= max(sigma, _HALF * cells[i, c.PATH], _ROUGHER * cells[i, c.ROUGH]) or usual <= 0.0:
        return 0.0
    return missed / (_SURE * usual)


@cold
def lost(cells, i):  # type: ignore[no-untyped-def]
    """For how many hours the course has not been followed, if not at all since then: what was missed is that part of a leaky sum."""
    share = min(cells[i, c.MISSED] / max(cells[i, c.PATH], 1e-30), 0.95)
    return math.log(1.0 - share) / math.log(_LEFT)


@cold
def _closed(cells, profile, days, means, counts, clock, i, age):  # type: ignore[no-untyped-def]
    """An hour is over: it enters the profiles, so that it never predicts itself; see whether a weekly one is worth its room."""
    mean = cells[i, c.HOUR_SUM] / cells[i, c.HOUR_COUNT]
    at = int(cells[i, c.HOUR]) % 24
    if days[i, at] > 0:
        cells[i, c.HOURLY] += 0.02 * (abs(mean - profile[i, at]) - cells[i, c.HOURLY])
        _followed(cells, profile, days, means, counts, i, at, mean)
    days[i, at] = min(days[i, at] + 1, 255)
    profile[i, at] += max(0.2, 1.0 / days[i, at]) * (mean - profile[i, at])
    week = cells[i, c.WEEK]
    if week > 0.0:
        row, at = int(week) - 1, int(cells[i, c.HOUR]) % _WEEK
        if counts[row, at] > 0:
            means[row, c.W_HOURS] += 1.0
            won = 1.0 if means[row, c.W_ERR] < 0.9 * min(cells[i, c.ERR_DAILY], cells[i, c.ERR_LEVEL]) else 0.0
            means[row, c.W_WINS] += max(0.02, 1.0 / means[row, c.W_HOURS]) * (won - means[row, c.W_WINS])
        counts[row, at] = min(counts[row, at] + 1, 255)
        means[row, at] += max(0.3, 1.0 / counts[row, at]) * (mean - means[row, at])
        if means[row, c.W_HOURS] >= _PROVEN and means[row, c.W_WINS] < 0.2:
            give_up(cells, means, clock, i)
            cells[i, c.WEEK] = _AGAIN
    elif week <= -1.0:
        cells[i, c.WEEK] = week + 1.0
    elif age > 3 * DAY and cells[i, c.HOURLY] > cells[i, c.ERR_DAILY] and cells[i, c.MOVES] > 0.1:
        cells[i, c.WEEK] = c.ASKED


@cold
def granted(cells, means, counts, clock, settings, i):  # type: ignore[no-untyped-def]
    """Take a free row for a weekly profile, or put it off when there are as many as there may be; False where more room is needed."""
    row = clock[3] - 1
    if row >= 0:
        clock[3] = int(means[row, 0])
    elif clock[2] < len(means):
        row = clock[2]
        clock[2] += 1
    elif clock[2] < settings[c.S_WEEKS]:
        return False
    else:
        cells[i, c.WEEK] = _AGAIN
        return True
    means[row] = 0.0
    counts[row] = 0
    means[row, c.W_ERR] = cells[i, c.ERR_LEVEL]
    cells[i, c.WEEK] = row + 1.0
    return True


@cold
def give_up(cells, means, clock, i):  # type: ignore[no-untyped-def]
    """The weekly profile of a series is free for another."""
    row = int(cells[i, c.WEEK]) - 1
    means[row, 0], clock[3] = clock[3], row + 1
    cells[i, c.WEEK] = 0.0


@hot
def collect(cells, profile, days, means, counts, clock, i, t, age, value):  # type: ignore[no-untyped-def]
    """Collect a value for the profiles."""
    hour = t // HOUR
    if hour != cells[i, c.HOUR]:
        if cells[i, c.HOUR_COUNT] > 0.0:
            _closed(cells, profile, days, means, counts, clock, i, age)
            if hour != cells[i, c.HOUR] + 1:
                cells[i, c.OFF], cells[i, c.PATH], cells[i, c.MISSED] = math.nan, 0.0, 0.0
        cells[i, c.HOUR], cells[i, c.HOUR_SUM], cells[i, c.HOUR_COUNT] = hour, 0.0, 0.0
    cells[i, c.HOUR_SUM] += value
    cells[i, c.HOUR_COUNT] += 1.0


@hot
def weekly(cells, means, counts, i, t):  # type: ignore[no-untyped-def]
    """The weekly profile at a time; NaN without one, and while it does not know the hour."""
    if cells[i, c.WEEK] <= 0.0:
        return math.nan
    row = int(cells[i, c.WEEK]) - 1
    return course(means, counts, row, _WEEK, t) + means[row, c.W_LIFT]


@hot
def proven(cells, means, i, best):  # type: ignore[no-untyped-def]
    """Whether the weekly profile explains more than what has the mean error `best`."""
    row = int(cells[i, c.WEEK]) - 1
    return means[row, c.W_HOURS] >= _SEEN and means[row, c.W_WINS] > 0.5 and means[row, c.W_ERR] < 0.9 * best


@cold
def explained(cells, means, counts, i, t, v, half):  # type: ignore[no-untyped-def]
    """The nearest to a value that surprises everybody else of what the weekly profile knows around this hour, where that is near; else NaN.

    The first of its weekends are few, and between them it predicts no better than the day does: so it is heard here before it is
    believed. Between two hours it may jump at any moment. One that explains is kept for a week and longer.
    """
    row, at = int(cells[i, c.WEEK]) - 1, t // HOUR
    if means[row, c.W_HOURS] < _HEARD:
        return math.nan
    low, high = math.inf, -math.inf
    for hour in range(at - 1, at + 2):
        if counts[row, hour % _WEEK] > 0:
            low, high = min(low, means[row, hour % _WEEK]), max(high, means[row, hour % _WEEK])
    near = min(max(v, low + means[row, c.W_LIFT]), high + means[row, c.W_LIFT])
    if not abs(v - near) < half:
        return math.nan
    if abs(v - near) < 0.5 * half:  # not by chance
        means[row, c.W_HOURS] = min(means[row, c.W_HOURS], _SEEN)
    return near
