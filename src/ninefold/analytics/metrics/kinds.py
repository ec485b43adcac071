"""Which kind of deviation it is, and when an episode begins and ends. Compiled as part of `kernel`."""

from __future__ import annotations

import math

from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.compiling import cold, hot
from ninefold.analytics.metrics.courses import course

SLACK, CLIPPED = 0.3, 4.0
"""What the cumulative sum lets pass, and the most it takes from one point, in standard deviations."""
_GROWN, _FLOWN = 0.75, 0.55
"""The part of the present deviation that its mean since the onset is in a trend: a half when it grows evenly, all of it after a step;
and the least part of the mean over 12 that the mean over 48 is, which a fresh step has not reached."""
_SHARE, _BEYOND, _WIDER = 0.05, 0.2, 1.6
"""The variance has changed when more than the nominal share of points and so much beyond it lies beyond the 95 % quantile on both sides,
and that is by a factor more than it ever was without a change."""
_OFTEN, _WORSE = 1.2, 1.15


@cold
def _named(cells, profile, days, means, counts, i, t, reason, horizon, r, sigma, expert):  # type: ignore[no-untyped-def]
    """The kind of an episode that opens, from how it came about; returns the reason and the horizon.

    A profile that moved away from a value that stayed is a season broken. Points far out on both sides are a change of variance. Where
    the mean deviation since the sum was last 0 is about half of the present one, it has been growing: a trend.
    """
    side = c.FOR_UP if r >= 0.0 else c.FOR_DOWN
    points = float(cells[i, side])
    if expert >= c.OF_DAY and points >= 2.0:
        then = t - int(points * cells[i, c.INTERVAL] * 1e9)
        if expert == c.OF_DAY:
            moved = course(profile, days, i, 24, t) - course(profile, days, i, 24, then)
        else:
            row = int(cells[i, c.WEEK]) - 1
            moved = course(means, counts, row, 168, t) - course(means, counts, row, 168, then)
        if moved * r < 0.0 and abs(moved) >= 0.6 * abs(r):
            return c.SEASON, expert
    if reason == c.SPIKE:
        return (c.VARIANCE if min(cells[i, c.OUT_UP], cells[i, c.OUT_DOWN]) >= 0.1 else c.SPIKE), horizon
    if points >= 16.0:
        grown = cells[i, c.SUM_UP if r >= 0.0 else c.SUM_DOWN] / points + SLACK
        if abs(cells[i, c.LONG]) > _FLOWN * abs(cells[i, c.SHORT]) and grown < _GROWN * min(abs(cells[i, c.SHORT]) / sigma, CLIPPED):
            return c.TREND, horizon
    return (c.SHIFT if horizon == c.SUM else reason), horizon


@hot
def judge(cells, profile, days, means, counts, settings, i, t, held, once, alone, pair, short, long, sums, outside, r, sigma, expert):  # type: ignore[no-untyped-def]
    """The episode: opens on two points that agree, on one very extreme one or on a sustained shift; closes after calm.

    Returns what happened (0, `FIRED` or `RESOLVED`), the reason of the episode, the horizon that spoke, and how many alarms there
    were lately where this one is no worse.
    """
    side = 1.0 if r >= 0.0 else -1.0
    if not held:
        cells[i, c.FATIGUE] *= 1.0 - 1.0 / settings[c.S_REST]
    bar = (cells[i, c.BAR] or 1.0) * (1.0 + settings[c.S_FATIGUE] * cells[i, c.FATIGUE])
    sure, lasting = settings[c.S_SURE] * bar, settings[c.S_LASTING] * bar
    cells[i, c.STREAK] = (side if cells[i, c.STREAK] * side <= 0.0 else cells[i, c.STREAK] + side) if outside else 0.0
    cells[i, c.CALM] = 0.0 if outside else cells[i, c.CALM] + 1.0
    cells[i, c.AWAY] = cells[i, c.AWAY] + 1.0 if outside else (cells[i, c.AWAY] if cells[i, c.CALM] < 3.0 else 0.0)
    status, reason, horizon, often = 0, int(cells[i, c.FIRING]), 0, 0
    score, wide = max(alone, pair, short, long, sums), min(cells[i, c.OUT_UP], cells[i, c.OUT_DOWN])
    if reason == 0:
        if alone >= settings[c.S_ALONE] * bar * (1.0 + 50.0 * once):
            reason, horizon = c.SPIKE, c.POINT
        elif pair >= sure and outside:
            reason, horizon = c.SPIKE, c.PAIR
        elif short >= lasting:
            reason, horizon = c.SHIFT, c.SHORTER
        elif long >= lasting:
            reason, horizon = c.DRIFT, c.LONGER
        elif sums >= lasting:
            reason, horizon = c.DRIFT, c.SUM
        elif wide >= max(_SHARE + _BEYOND * bar, _WIDER * cells[i, c.WIDEST]) and once < 0.005:
            reason, horizon, score = c.VARIANCE, c.SPREAD, max(score, settings[c.S_SURE])
        elif cells[i, c.COUNT] > 50.0 and cells[i, c.MOVES] > 0.3 and cells[i, c.RUN] > 3.0 * cells[i, c.LONGEST] + 12.0:
            reason, horizon = c.FLAT, c.STILL
        if reason:
            if horizon <= c.SUM:
                reason, horizon = _named(cells, profile, days, means, counts, i, t, reason, horizon, r, sigma, expert)
            if cells[i, c.FATIGUE] >= _OFTEN and score <= _WORSE * cells[i, c.HABIT]:
                often = int(cells[i, c.FATIGUE] + 1.0)
            cells[i, c.FIRING], cells[i, c.PEAK] = reason, 0.0
            cells[i, c.FATIGUE] += 0.0 if held else 1.0
            status = c.FIRED
    else:
        over = cells[i, c.CALM] >= 3.0 and (reason == c.SPIKE or max(short, long, sums) < 3.0)
        if reason == c.VARIANCE:
            over = over and wide < 0.1
        if cells[i, c.RUN] == 0.0 if reason == c.FLAT else over:
            status = c.RESOLVED
            close(cells, i)
    if not held and (status == c.FIRED or (cells[i, c.FIRING] == 0.0 and int(cells[i, c.COUNT]) % 64 == 0)):
        cells[i, c.WIDEST] = max(wide, 0.99 * cells[i, c.WIDEST])
    cells[i, c.PEAK] = max(cells[i, c.PEAK], score)
    return status, reason, horizon, often


@cold
def onset(cells, i, reason, up):  # type: ignore[no-untyped-def]
    """How many points ago it began, the present one included.

    The sum was last 0 when it began (Page 1954), or some points before, by chance: after a step it is that many times the present
    deviation as there were points since, and the mean over 12 shows that deviation only little by little; a trend needs twice as many.
    """
    points, sums = float(cells[i, c.FOR_UP if up else c.FOR_DOWN]), float(cells[i, c.SUM_UP if up else c.SUM_DOWN])
    now = min(abs(cells[i, c.SHORT]) * 3.3 / (cells[i, c.TAILS] + cells[i, c.TAILS + 4]), CLIPPED)
    if now > SLACK:
        total = last = sums + SLACK * points
        for _ in range(4):
            last = total * (1.0 - (11.0 / 13.0) ** max(last, 1.0)) / now
        points = min(points, math.ceil(2.0 * last if reason == c.TREND else last))
    return max(points, 1.0)


@hot
def close(cells, i):  # type: ignore[no-untyped-def]
    """An episode is over: what was smoothed and summed starts again."""
    cells[i, c.HABIT] += (0.3 if cells[i, c.HABIT] > 0.0 else 1.0) * (cells[i, c.PEAK] - cells[i, c.HABIT])
    cells[i, c.FIRING] = cells[i, c.SHORT] = cells[i, c.LONG] = 0.0
    cells[i, c.SUM_UP] = cells[i, c.SUM_DOWN] = cells[i, c.FOR_UP] = cells[i, c.FOR_DOWN] = 0.0
