"""Which kind of deviation it is, and when an episode begins and ends. Compiled as part of `kernel`."""

from __future__ import annotations

import math

from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.compiling import cold, hot
from ninefold.analytics.metrics.courses import HOUR, astray, course

SLACK, CLIPPED = 0.3, 4.0
"""What the cumulative sum lets pass, and the most it takes from one point, in standard deviations."""
_GROWN, _FLOWN = 0.75, 0.55
"""The part of the present deviation that its mean since the onset is in a trend: a half when it grows evenly, all of it after a step;
and the least part of the mean over 12 that the mean over 48 is, which a fresh step has not reached."""
_SHARE, _BEYOND, _WIDER = 0.05, 0.2, 1.6
"""The variance has changed when more than the nominal share of points and so much beyond it lies beyond the 95 % quantile on both sides,
and that is by a factor more than it ever was without a change."""
_OFTEN, _WORSE = 1.2, 1.15
_DOUBTFUL, _KNOWN, _PLAIN, _HEAVIEST, _DOUBT = 3.0, 30.0, 0.3, 0.6, 0.6
"""From which score and how many excesses on a tail may be too heavy for its far end to be known; from which ratio of mean excess to 95 %
quantile on (normal 0.25, Laplace 0.43, Student t with 3 degrees of freedom 0.59), up to which it counts, and how much that adds to the
threshold of single points and pairs."""
_EARLY, _LATE, _RISEN, _LASTS, _SLOWLY = 12.0, 16.0, 1.4, 40.0, 0.65
"""Points outside after which an episode is looked at again; points from there to another look; the factor between the two that a step does
not reach, of which the mean over 12 points has by then 86 and 99 %; points since the onset after which even a small trend shows,
and the part of `_GROWN` then."""


_STUCK = 86_400.0
"""Seconds after which a line that stays flat, for twice the run that alarmed, is the new normal."""


@hot
def _longest(cells, i):  # type: ignore[no-untyped-def]
    """The longest run of equal values that is no news."""
    return 3.0 * cells[i, c.LONGEST] + 12.0


@cold
def _named(cells, profile, days, means, counts, i, t, reason, horizon, r, sigma, lasting, slow, expert):  # type: ignore[no-untyped-def]
    """The kind of an episode that opens, from how it came about; returns the reason and the horizon.

    A profile that moved away from a value that stayed is a season broken. Points far out on both sides are a change of variance. Where
    the mean deviation since the sum was last 0 is about half of the present one, it has been growing: a trend.
    """
    points = float(cells[i, c.FOR_UP if r >= 0.0 else c.FOR_DOWN])
    if expert >= c.OF_DAY:
        then = t - max(int(points * cells[i, c.INTERVAL] * 1e9), HOUR)
        if expert == c.OF_DAY:
            moved = course(profile, days, i, 24, t) - course(profile, days, i, 24, then)
        else:
            row = int(cells[i, c.WEEK]) - 1
            moved = course(means, counts, row, 168, t) - course(means, counts, row, 168, then)
        if moved * r < 0.0 and abs(moved) >= 0.6 * abs(r) and abs(lasting + slow - cells[i, c.RECENT]) <= 0.5 * abs(r):
            return c.SEASON, expert
    if reason == c.SPIKE:
        return (c.VARIANCE if min(cells[i, c.OUT_UP], cells[i, c.OUT_DOWN]) >= 0.1 else c.SPIKE), horizon
    if points >= 16.0 and _growing(cells, i, r, sigma, points, _GROWN):
        return c.TREND, horizon
    return (c.SHIFT if horizon == c.SUM else reason), horizon


@hot
def _growing(cells, i, r, sigma, points, most):  # type: ignore[no-untyped-def]
    grown = cells[i, c.SUM_UP if r >= 0.0 else c.SUM_DOWN] / points + SLACK
    short = abs(cells[i, c.SHORT])
    return abs(cells[i, c.LONG]) > _FLOWN * short and grown < most * min(short / sigma, CLIPPED)


@cold
def _renamed(cells, i, reason, outside, lasting, slow, r, sigma, sure):  # type: ignore[no-untyped-def]
    """The kind of an episode that lasts, now that more is known: what was a spike lasts, what was a shift goes on growing, or what
    alarmed was the course of the day that is not followed any more."""
    if reason == c.SEASON:
        return reason
    if cells[i, c.HOUR_COUNT] == 1.0 and astray(cells, i, sigma) >= sure:
        return c.SEASON
    if reason not in (c.SPIKE, c.SHIFT, c.DRIFT):
        return reason
    now = cells[i, c.RECENT] - slow
    cells[i, c.MARKED] += 1.0
    if outside and cells[i, c.AWAY] == _EARLY:
        cells[i, c.MARK], cells[i, c.MARKED] = now, 0.0
        return c.SHIFT if reason == c.SPIKE and abs(cells[i, c.STREAK]) >= 0.5 * _EARLY else reason
    if cells[i, c.MARKED] == _LATE and now * lasting > 0.0 and abs(now) > _RISEN * abs(cells[i, c.MARK]):
        return c.TREND
    points = cells[i, c.FOR_UP if lasting >= 0.0 else c.FOR_DOWN]
    if points == _LASTS and abs(cells[i, c.SHORT]) < CLIPPED * sigma and _growing(cells, i, lasting, sigma, _LASTS, _SLOWLY):
        return c.TREND
    return reason


@cold
def _doubted(cells, i):  # type: ignore[no-untyped-def]
    """The factor on thresholds for tails so heavy that what was seen says little about how far they reach."""
    heavy = _PLAIN
    for at in (c.TAILS, c.TAILS + 4):
        if cells[i, at] > 0.0 and cells[i, at + 3] >= _KNOWN:
            heavy = max(heavy, min(cells[i, at + 1] / cells[i, at], _HEAVIEST))
    return 1.0 + _DOUBT * (heavy - _PLAIN)


@hot
def _spoken(cells, settings, i, once, alone, pair, short, long, sums, outside, sigma, bar, doubt, sure, steady, wide, score):  # type: ignore[no-untyped-def]
    """What alarms, if anything: its reason, the horizon that speaks, and the score. A point, two, means, sums, spread, hours, a run."""
    reason, horizon = 0, 0
    if alone >= settings[c.S_ALONE] * bar * doubt * (1.0 + 50.0 * once):
        reason, horizon = c.SPIKE, c.POINT
    elif pair >= sure and outside:
        reason, horizon = c.SPIKE, c.PAIR
    elif short >= steady:
        reason, horizon = c.SHIFT, c.SHORTER
    elif long >= steady:
        reason, horizon = c.DRIFT, c.LONGER
    elif sums >= steady:
        reason, horizon = c.DRIFT, c.SUM
    elif wide >= max(_SHARE + _BEYOND * bar, _WIDER * cells[i, c.WIDEST]) and once < 0.005:
        reason, horizon, score = c.VARIANCE, c.SPREAD, max(score, settings[c.S_SURE])
    elif cells[i, c.HOUR_COUNT] == 1.0 and astray(cells, i, sigma) >= steady:
        reason, horizon, score = c.SEASON, c.OF_HOURS, max(score, astray(cells, i, sigma))
    elif cells[i, c.COUNT] > 50.0 and cells[i, c.MOVES] > 0.3 and cells[i, c.RUN] > _longest(cells, i):
        reason, horizon = c.FLAT, c.STILL
    return reason, horizon, score


@hot
def judge(  # type: ignore[no-untyped-def]
    cells, profile, days, means, counts, settings, i, t, held, once, alone, pair, short, long, sums, outside, r, sigma, lasting, slow,
    expert,
):  # fmt: skip
    """The episode: opens on two points that agree, on one very extreme one or on a sustained shift; closes after calm.

    Returns what happened (0, `FIRED`, `RESOLVED` or `RENAMED`), the reason of the episode, the horizon that spoke, and how many alarms
    there were lately where this one is no worse.
    """
    side = 1.0 if r >= 0.0 else -1.0
    if not held:
        cells[i, c.FATIGUE] *= 1.0 - 1.0 / settings[c.S_REST]
    bar = (cells[i, c.BAR] or 1.0) * (1.0 + settings[c.S_FATIGUE] * cells[i, c.FATIGUE])
    score = max(alone, pair, short, long, sums)
    doubt = _doubted(cells, i) if score >= _DOUBTFUL else 1.0
    sure, steady = settings[c.S_SURE] * bar * doubt, settings[c.S_LASTING] * bar
    cells[i, c.STREAK] = (side if cells[i, c.STREAK] * side <= 0.0 else cells[i, c.STREAK] + side) if outside else 0.0
    cells[i, c.CALM] = 0.0 if outside else cells[i, c.CALM] + 1.0
    cells[i, c.AWAY] = cells[i, c.AWAY] + 1.0 if outside else (cells[i, c.AWAY] if cells[i, c.CALM] < 3.0 else 0.0)
    status, reason, horizon, often = 0, int(cells[i, c.FIRING]), 0, 0
    wide = min(cells[i, c.OUT_UP], cells[i, c.OUT_DOWN])
    if reason == 0:
        reason, horizon, score = _spoken(
            cells, settings, i, once, alone, pair, short, long, sums, outside, sigma, bar, doubt, sure, steady, wide, score
        )
        if reason:
            if horizon <= c.SUM:
                reason, horizon = _named(cells, profile, days, means, counts, i, t, reason, horizon, r, sigma, lasting, slow, expert)
            if cells[i, c.FATIGUE] >= _OFTEN and score <= _WORSE * cells[i, c.HABIT]:
                often = int(cells[i, c.FATIGUE] + 1.0)
            cells[i, c.FIRING], cells[i, c.PEAK] = reason, 0.0
            cells[i, c.FATIGUE] += 0.0 if held else 1.0
            cells[i, c.MARKED] = _LATE
            status = c.FIRED
    else:
        over = cells[i, c.CALM] >= 3.0 and (reason == c.SPIKE or max(short, long, sums) < 3.0)
        if reason == c.VARIANCE:
            over = over and wide < 0.1
        elif reason == c.SEASON:
            over = over and astray(cells, i, 0.0) < 0.5 * steady
        if reason == c.FLAT:
            over = cells[i, c.RUN] == 0.0
            if not (over or held) and cells[i, c.RUN] * cells[i, c.INTERVAL] >= _STUCK and cells[i, c.RUN] >= 2.0 * _longest(cells, i):
                over, horizon, cells[i, c.LONGEST] = True, c.STILL, cells[i, c.RUN]
        if over:
            status = c.RESOLVED
            close(cells, i)
        else:
            kind = _renamed(cells, i, reason, outside, lasting, slow, r, sigma, steady)
            if kind != reason:
                reason, horizon, status = kind, c.OF_HOURS if kind == c.SEASON else c.SHORTER, c.RENAMED
                cells[i, c.FIRING] = kind
                if cells[i, c.FATIGUE] >= 1.0 + _OFTEN and max(score, cells[i, c.PEAK]) <= _WORSE * cells[i, c.HABIT]:
                    often = int(cells[i, c.FATIGUE])
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
