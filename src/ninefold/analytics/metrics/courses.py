"""Profiles of the hours of a day and of a week, an expert each. Compiled as part of `kernel`."""

from __future__ import annotations

import math

from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.compiling import cold, hot

HOUR = 3600 * 1_000_000_000
DAY = 24 * HOUR
_WEEK = 168
_SEEN, _PROVEN, _AGAIN = 84.0, 168.0, -672.0
"""Hours a weekly profile must have predicted before it is believed; before it may be given up; until there may be another."""


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
def _closed(cells, profile, days, means, counts, clock, i, age):  # type: ignore[no-untyped-def]
    """An hour is over: it enters the profiles, so that it never predicts itself; see whether a weekly one is worth its room."""
    mean = cells[i, c.HOUR_SUM] / cells[i, c.HOUR_COUNT]
    at = int(cells[i, c.HOUR]) % 24
    if days[i, at] > 0:
        cells[i, c.HOURLY] += 0.02 * (abs(mean - profile[i, at]) - cells[i, c.HOURLY])
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
