"""The compiled fold of `baseline`. Imported only by `warm`, since importing it compiles (or loads the cache).

Every public function has one explicit signature, so nothing is compiled behind anybody's back, and takes read-only inputs,
because Arrow's buffers are. None allocates; all release the GIL. No fast-math: NaN must stay visible.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics import ranking as r
from ninefold.analytics.metrics.compiling import borrowed, cold, hot
from ninefold.analytics.metrics.courses import DAY, HOUR, collect, course, explained, granted, lost, proven, weekly
from ninefold.analytics.metrics.kinds import CLIPPED, SLACK, close, judge, onset
from ninefold.analytics.metrics.surprise import rank
from ninefold.analytics.metrics.tails import learn, severity
from ninefold.analytics.metrics.views import choose, meant, seen
from ninefold.analytics.tables import IN

_SECOND = 1_000_000_000
_MINUTE = 60 * _SECOND
_AHEAD = 5 * _MINUTE
_RMS = math.sqrt(0.6)
_SUM = 4.4
"""What one cumulative sum in twenty of independent normal deviations exceeds."""
_SAMPLED = 3.0
"""How much faster a tail learns that sees only one number in a window."""
_AGAIN = 512
"""Points after which a series is asked again whether a logarithm becomes it."""
_MOST = 1e30
"""Values are judged as if none were larger: single precision ends at 3e38, and sums and multiples must have room."""
_MANY = 9_600_000.0
"""Points counted before half of them are forgotten, a multiple of 96: single precision counts to 16.7 million."""


@cold
def _median(cells, i):  # type: ignore[no-untyped-def]
    """Sort the buffer in place; its median."""
    for j in range(c.BUFFER + 1, c.BUFFER + c.WARM_UP):
        value, k = cells[i, j], j - 1
        while k >= c.BUFFER and cells[i, k] > value:
            cells[i, k + 1] = cells[i, k]
            k -= 1
        cells[i, k + 1] = value
    return 0.5 * (cells[i, c.BUFFER + c.WARM_UP // 2 - 1] + cells[i, c.BUFFER + c.WARM_UP // 2])


@cold
def _begin(cells, i):  # type: ignore[no-untyped-def]
    """Levels and cautious tails from the warm-up values: their median, and the widest of three robust spreads."""
    level, first, last = _median(cells, i), c.BUFFER, c.BUFFER + c.WARM_UP - 1
    spread = max((cells[i, last - 3] - cells[i, first + 3]) / 1.35, (cells[i, last] - cells[i, first]) / 6.0)
    for j in range(first, last + 1):
        cells[i, j] = abs(cells[i, j] - level)
    spread = max(spread, 1.4826 * _median(cells, i))
    cells[i, c.LEVEL] = cells[i, c.FAST] = level
    cells[i, c.ERR_LEVEL] = cells[i, c.ERR_FAST] = 0.8 * spread
    for view, share in enumerate((1.0, 0.8, 0.5, 0.35)):
        width = share * spread
        for at in (c.TAILS + 8 * view, c.TAILS + 8 * view + 4):
            cells[i, at], cells[i, at + 1], cells[i, at + 2], cells[i, at + 3] = 1.65 * width, 0.5 * width, _RMS * width, 0.0
    cells[i, c.SUMS], cells[i, c.SUMS + 1], cells[i, c.SUMS + 2] = _SUM, 0.5 * _SUM, 0.7 * _SUM


@hot
def _cadence(cells, exact, i, dt, v):  # type: ignore[no-untyped-def]
    """Learn the interval between points (s) and how the values move."""
    n = float(cells[i, c.COUNT])
    if n > 0.0:
        once = 1.0 / n
        weight, interval = max(0.05, once), float(cells[i, c.INTERVAL]) or dt
        cells[i, c.JITTER] += weight * (min(abs(dt - interval), 3.0 * interval) - cells[i, c.JITTER])
        cells[i, c.INTERVAL] = interval + weight * min(max(dt - interval, -0.5 * interval), interval)
        run = cells[i, c.RUN] + 1.0 if v == exact[i, c.VALUE] else 0.0
        cells[i, c.MOVES] += max(0.02, once) * ((1.0 if run == 0.0 else 0.0) - cells[i, c.MOVES])
        if run == 0.0:
            cells[i, c.LONGEST] = max(cells[i, c.LONGEST], cells[i, c.RUN])
        cells[i, c.RUN] = run
    cells[i, c.LARGEST] = max(abs(v), 0.9999 * cells[i, c.LARGEST])
    cells[i, c.LOWEST] = min(v, cells[i, c.LOWEST]) if n > 0.0 else v
    exact[i, c.VALUE] = v
    cells[i, c.COUNT] = n + 1.0 if n < _MANY else n + 1.0 - _MANY / 2.0


@hot
def _held(cells, exact, settings, i, dt, v):  # type: ignore[no-untyped-def]
    """Whether nothing may be learned from a value: the series is on hold, and not for so long that it must be taken for forgotten.

    Only the run of equal values goes on, since it is what is judged.
    """
    if cells[i, c.HOLD] == 0.0:
        cells[i, c.HELD] = 0.0
        return False
    if cells[i, c.HELD] >= settings[c.S_HOLD]:
        return False
    cells[i, c.HELD] += dt
    cells[i, c.RUN] = cells[i, c.RUN] + 1.0 if v == exact[i, c.VALUE] else 0.0
    exact[i, c.VALUE] = v
    return True


@hot
def _floor(cells, i, level, once):  # type: ignore[no-untyped-def]
    """The deviation below which nothing is remarkable: given, relative (10 %, later 2 %), and that of counting."""
    level = abs(level)
    floor = max(cells[i, c.FLOOR], (0.02 + 0.08 * min(1.0, 100.0 * once)) * level)
    if cells[i, c.KIND] == c.DELTA:
        floor = max(floor, math.sqrt(max(level, 1.0)))
    elif cells[i, c.KIND] == c.COUNTER and cells[i, c.INTERVAL] > 0.0:
        floor = max(floor, math.sqrt(max(level * cells[i, c.INTERVAL], 1.0)) / cells[i, c.INTERVAL])
    if cells[i, c.MOVES] < 0.1:
        floor = max(floor, 0.1 * cells[i, c.LARGEST])
    return floor


@hot
def _adapt(cells, means, i, v, once, daily, week, half, floor):  # type: ignore[no-untyped-def]
    """Let the experts learn a value, each from a residual that is clipped to what it finds credible."""
    weight = max(0.02, once)
    if daily == daily:
        e = v - daily
        cells[i, c.LIFT] += weight * min(max(e, -half), half)
        cells[i, c.ERR_DAILY] += weight * (min(abs(e), 4.0 * cells[i, c.ERR_DAILY] + floor) - cells[i, c.ERR_DAILY])
    else:
        cells[i, c.ERR_DAILY] = cells[i, c.ERR_LEVEL]
    if week == week:
        row, e = int(cells[i, c.WEEK]) - 1, v - week
        means[row, c.W_LIFT] += weight * min(max(e, -half), half)
        means[row, c.W_ERR] += weight * (min(abs(e), 4.0 * means[row, c.W_ERR] + floor) - means[row, c.W_ERR])
    for level, error, speed in ((c.LEVEL, c.ERR_LEVEL, max(0.005, once)), (c.FAST, c.ERR_FAST, 0.25)):
        e = v - cells[i, level]
        limit = max(half, 3.0 * cells[i, error])
        cells[i, error] += weight * (min(abs(e), 4.0 * cells[i, error] + floor) - cells[i, error])
        cells[i, level] += speed * min(max(e, -limit), limit)
    cells[i, c.RECENT] += 0.15 * (v - cells[i, c.RECENT])


@hot
def _accumulate(cells, i, lasting, sigma):  # type: ignore[no-untyped-def]
    """Page's cumulative sums of what is lasting, one a side, and how many points ago each was 0; the larger one."""
    z = min(max(lasting / sigma, -CLIPPED), CLIPPED)
    up, down = max(cells[i, c.SUM_UP] + z - SLACK, 0.0), max(cells[i, c.SUM_DOWN] - z - SLACK, 0.0)
    cells[i, c.SUM_UP], cells[i, c.SUM_DOWN] = up, down
    cells[i, c.FOR_UP] = cells[i, c.FOR_UP] + 1.0 if up > 0.0 else 0.0
    cells[i, c.FOR_DOWN] = cells[i, c.FOR_DOWN] + 1.0 if down > 0.0 else 0.0
    return max(up, down)


@hot
def _weigh(cells, profile, days, means, counts, settings, i, t, held, r, slow, lasting, half, floor, once, grown, expert):  # type: ignore[no-untyped-def]
    """See a residual alone and paired, the one from what is slow to change (`lasting`) smoothed and summed; judge; let the tails learn."""
    up, down = c.TAILS, c.TAILS + 4
    at = up if r >= 0.0 else down
    inflate, n = 1.0 + 15.0 * once, cells[i, c.COUNT]
    sigma = max((cells[i, up] + cells[i, down]) / 3.3, 0.3 * floor)
    limit = max(2.0 * half, 4.0 * cells[i, c.ERR_LEVEL])
    lasting = min(max(lasting, -limit), limit)
    short = cells[i, c.SHORT] = cells[i, c.SHORT] + 2.0 / 13.0 * (lasting - cells[i, c.SHORT])
    long = cells[i, c.LONG] = cells[i, c.LONG] + 2.0 / 49.0 * (lasting - cells[i, c.LONG])
    summed = _accumulate(cells, i, lasting, sigma)
    before, cells[i, c.BEFORE] = cells[i, c.BEFORE], r
    agreed_up, agreed_down = max(min(r, before), 0.0), max(min(-r, -before), 0.0)
    beyond = 1.0 if abs(r) > max(cells[i, at], 0.5 * floor) * inflate else 0.0
    cells[i, c.OUT_UP] += ((beyond if r >= 0.0 else 0.0) - cells[i, c.OUT_UP]) / 32.0
    cells[i, c.OUT_DOWN] += ((beyond if r < 0.0 else 0.0) - cells[i, c.OUT_DOWN]) / 32.0
    alone = severity(cells, i, at, abs(r), floor, inflate)
    pair = severity(cells, i, at + 8, agreed_up + agreed_down, floor, inflate)
    of_short = of_long = of_sum = 0.0
    if n > 2 * c.WARM_UP:
        of_short = severity(cells, i, up + 16 if short >= 0.0 else down + 16, abs(short), 0.6 * floor, 1.0 + 100.0 * once)
    if grown:  # before a day is over, its course would be a drift
        of_long = severity(cells, i, up + 24 if long >= 0.0 else down + 24, abs(long), 0.4 * floor, 1.0 + 100.0 * once)
        of_sum = severity(cells, i, c.SUMS, summed, 2.0 * _SUM, 1.0 + 100.0 * once)
    status, reason, horizon, often = judge(
        cells, profile, days, means, counts, settings, i, t, held, once, alone, pair, of_short, of_long, of_sum, abs(r) > half, r, sigma,
        lasting, slow, expert,
    )  # fmt: skip
    if held:
        return status, reason, horizon, often
    if cells[i, c.AWAY] <= 2.0:
        learn(cells, i, up, r, floor, 1.0)
        learn(cells, i, down, -r, floor, 1.0)
        learn(cells, i, up + 8, agreed_up, floor, 1.0)
        learn(cells, i, down + 8, agreed_down, floor, 1.0)
    # A smoothed residual changes slowly: one number in a window is enough, more would teach it its own drift. For the same
    # reason it learns nothing while under suspicion; each alarm teaches it once.
    quiet = cells[i, c.FIRING] == 0.0
    if status == c.FIRED or (quiet and int(n) % 12 == 0 and of_short < 3.0):
        learn(cells, i, up + 16, short, 0.6 * floor, _SAMPLED)
        learn(cells, i, down + 16, -short, 0.6 * floor, _SAMPLED)
    if status == c.FIRED or (quiet and int(n) % 48 == 0 and of_long < 3.0):
        learn(cells, i, up + 24, long, 0.4 * floor, _SAMPLED)
        learn(cells, i, down + 24, -long, 0.4 * floor, _SAMPLED)
    if status == c.FIRED or (quiet and int(n) % 48 == 0 and of_sum < 3.0):
        learn(cells, i, c.SUMS, summed, 2.0 * _SUM, _SAMPLED)
    return status, reason, horizon, often


@hot
def _believed(cells, means, i, daily, week):  # type: ignore[no-untyped-def]
    """The expert that has lately explained best: what it expects, what is slow to change, and the profile it is (0: a level)."""
    centre, best, slow, expert = float(cells[i, c.LEVEL]), float(cells[i, c.ERR_LEVEL]), float(cells[i, c.LEVEL]), 0
    if cells[i, c.ERR_FAST] < 0.5 * best:
        centre, best = cells[i, c.FAST], cells[i, c.ERR_FAST]
    if daily == daily and cells[i, c.ERR_DAILY] < 0.8 * best:
        centre, best, slow, expert = daily, cells[i, c.ERR_DAILY], daily, c.OF_DAY
    if week == week and proven(cells, means, i, best):
        centre, slow, expert = week, week, c.OF_WEEK
    return centre, slow, expert


@hot
def _settle(cells, means, i, daily, week):  # type: ignore[no-untyped-def]
    """This is how it is now: learn the new level."""
    cells[i, c.LIFT] += cells[i, c.RECENT] - daily if daily == daily else 0.0
    if week == week:
        means[int(cells[i, c.WEEK]) - 1, c.W_LIFT] += cells[i, c.RECENT] - week
    cells[i, c.LEVEL] = cells[i, c.FAST] = cells[i, c.RECENT]
    cells[i, c.SHORT] = cells[i, c.LONG] = cells[i, c.AWAY] = cells[i, c.STREAK] = 0.0
    cells[i, c.SUM_UP] = cells[i, c.SUM_DOWN] = cells[i, c.FOR_UP] = cells[i, c.FOR_DOWN] = 0.0


@hot
def _point(cells, exact, profile, days, means, counts, clock, settings, i, t, dt, age, value):  # type: ignore[no-untyped-def]
    """Judge one value, then learn from it; `dt` in s since the last point, `age` in ns since the first.

    Returns centre, lower and upper bound (NaN during warm-up), what happened, the reason, the horizon and `I_OFTEN`.
    """
    held = _held(cells, exact, settings, i, dt, value)
    if not held:
        _cadence(cells, exact, i, dt, value)
    n = float(cells[i, c.COUNT])
    if n < c.WARM_UP or (n == c.WARM_UP and not held):
        if not held:
            cells[i, c.BUFFER + int(n) - 1] = value
            cells[i, c.RECENT] += (value - cells[i, c.RECENT]) / n
            collect(cells, profile, days, means, counts, clock, i, t, age, value)
            if n == c.WARM_UP:
                _begin(cells, i)
        return math.nan, math.nan, math.nan, 0, 0, 0, 0
    once, scale = 1.0 / n, float(cells[i, c.SCALE])
    v = seen(scale, value)
    daily = course(profile, days, i, 24, t) + cells[i, c.LIFT]
    week = weekly(cells, means, counts, i, t)
    centre, slow, expert = _believed(cells, means, i, daily, week)
    level = meant(scale, float(cells[i, c.LEVEL]))
    floor, inflate = _floor(cells, i, level, once), 1.0 + 15.0 * once
    if scale > 0.0:
        floor /= scale + abs(level)
    up, down = c.TAILS, c.TAILS + 4
    over = (max(cells[i, up], 0.5 * floor) + 2.3 * max(cells[i, up + 1], 0.3 * floor)) * inflate
    under = (max(cells[i, down], 0.5 * floor) + 2.3 * max(cells[i, down + 1], 0.3 * floor)) * inflate
    r, back = v - centre, v - cells[i, c.LEVEL]
    if expert == 0 and abs(back) < abs(r) and abs(r - back) <= (over if r < 0.0 else under):
        r = back  # the fast level has followed what was still within the band of the slow one: going back there is no deviation
    half = over if r >= 0.0 else under
    if abs(r) > half and week == week:
        near = explained(cells, means, counts, i, t, v, half)
        if near == near:
            centre, slow, expert, r = near, near, c.OF_WEEK, v - near
            half = over if r >= 0.0 else under
    status, reason, horizon, often = _weigh(
        cells, profile, days, means, counts, settings, i, t, held, r, slow, v - slow, half, floor, once, age > DAY, expert
    )
    lower, upper = meant(scale, centre - under), meant(scale, centre + over)
    if cells[i, c.LOWEST] >= 0.0:
        lower = max(lower, 0.0)
    if held:
        cells[i, c.AWAY] = min(cells[i, c.AWAY], 3.0)  # time away counts towards a new level only while that is learned
        return meant(scale, centre), lower, upper, status, reason, horizon, often
    _adapt(cells, means, i, v, once, daily, week, half, floor)
    collect(cells, profile, days, means, counts, clock, i, t, age, centre + min(max(r, -2.0 * half), 2.0 * half))
    if cells[i, c.AWAY] >= 30.0:
        _settle(cells, means, i, daily, week)
        if cells[i, c.FIRING] and cells[i, c.FIRING] != c.SEASON and status == 0:
            status = c.RESOLVED
            close(cells, i)
    if n % _AGAIN == 0.0:
        choose(cells, profile, days, means, counts, i, floor)
    return meant(scale, centre), lower, upper, status, reason, horizon, often


@cold
def _silent(cells, times, clock, used, values, numbers, found):  # type: ignore[no-untyped-def]
    """Series that kept a regular cadence and have stopped, seen from the minute ticks of the others' clock."""
    now = clock[0] * _MINUTE
    for slot in range(used):
        patience = 5.0 * cells[slot, c.INTERVAL] + 60.0
        if (
            cells[slot, c.COUNT] < 30.0
            or cells[slot, c.FIRING]
            or cells[slot, c.JITTER] > 0.25 * cells[slot, c.INTERVAL]
            or times[slot, c.LAG] > 600_000_000_000
            or (now - times[slot, c.LAST]) * 1e-9 <= patience
            or (clock[1] - times[slot, c.TICK]) * 60.0 <= patience
        ):
            continue
        cells[slot, c.FIRING], cells[slot, c.PEAK], times[slot, c.SINCE] = c.MISSING, 6.0, times[slot, c.LAST]
        values[found, c.F_VALUE] = values[found, c.F_LOWER] = values[found, c.F_UPPER] = math.nan
        values[found, c.F_EXPECTED], values[found, c.F_SCORE] = meant(float(cells[slot, c.SCALE]), float(cells[slot, c.LEVEL])), 6.0
        numbers[found, c.I_ROW], numbers[found, c.I_SLOT], numbers[found, c.I_REASON] = -1, slot, c.MISSING
        numbers[found, c.I_STATUS], numbers[found, c.I_TIME], numbers[found, c.I_SINCE] = c.FIRED, now, times[slot, c.LAST]
        numbers[found, c.I_HORIZON], numbers[found, c.I_OFTEN] = c.SILENCE, 0
        found += 1
    return found


_STATE = types.NamedTuple(  # type: ignore[no-untyped-call]
    (types.float32[:, ::1], types.float64[:, ::1], types.int64[:, ::1], types.float32[:, ::1], types.uint8[:, ::1], types.float32[:, ::1]),
    c.State,
)
_WEEKS = types.NamedTuple((types.float32[:, ::1], types.uint8[:, ::1]), c.Weeks)  # type: ignore[no-untyped-call]
_FOLD = types.int64(
    _STATE, _WEEKS, types.int64[::1], types.int64, IN["float64"], IN["int32"], IN["int64"], IN["float64"], types.int64,
    types.float64[:, ::1], types.float64[:, ::1], types.int64[:, ::1],
)  # fmt: skip


@hot
def _usual(cells, profile, days, i, t):  # type: ignore[no-untyped-def]
    """What is usual at this time of the day, as the value is measured; NaN while unknown."""
    usual = course(profile, days, i, 24, t)
    return meant(float(cells[i, c.SCALE]), usual) if usual == usual else math.nan


@hot
def _due(cells, exact, times, clock, i, t, v, received):  # type: ignore[no-untyped-def]
    """Seconds since the series' last point, and the value or rate to judge; NaN for a point that is passed over."""
    last, lag = times[i, c.LAST], received - t
    if last == 0:
        times[i, c.TICK] = clock[1]  # heard of, though perhaps nothing that can be judged
    if t <= last:
        if last - received <= _AHEAD:
            return math.nan, v
        last = 0  # an older version believed a time ahead
    if lag < -_AHEAD or not math.isfinite(v):
        return math.nan, v
    times[i, c.LAST], times[i, c.TICK], times[i, c.LAG] = t, clock[1], lag
    if cells[i, c.KIND] == c.PART:
        return math.nan, v
    if last == 0:
        times[i, c.BORN] = last = t
    dt = (t - last) * 1e-9
    if cells[i, c.KIND] == c.COUNTER:
        raw, exact[i, c.RAW] = exact[i, c.RAW], v
        if dt == 0.0:
            return math.nan, v
        v = (v - raw if v >= raw else v) / dt
    return dt, v


@hot
def _began(cells, times, i, t, status, reason, horizon, up):  # type: ignore[no-untyped-def]
    """Keep since when the episode that runs, or would, has been going on."""
    if abs(cells[i, c.STREAK]) <= 1.0 and (status == c.FIRED or (status == 0 and cells[i, c.FIRING] == 0.0)):
        times[i, c.SINCE] = t
    if status == c.FIRED and (c.SHORTER <= horizon <= c.SUM or c.OF_DAY <= horizon <= c.OF_WEEK):  # it began when the sum last was 0
        gone = onset(cells, i, reason, up) - 1.0
        times[i, c.SINCE] = max(t - int(gone * cells[i, c.INTERVAL]) * _SECOND, times[i, c.BORN])
    if status == c.FIRED and horizon == c.OF_HOURS:
        times[i, c.SINCE] = max(t - int(lost(cells, i) * HOUR), times[i, c.BORN])


@hot
def _note(cells, times, values, numbers, at, row, i, t, v, centre, lower, upper, status, reason, horizon, often):  # type: ignore[no-untyped-def]
    """Write a finding."""
    values[at, c.F_VALUE], values[at, c.F_EXPECTED] = v, centre
    values[at, c.F_LOWER], values[at, c.F_UPPER], values[at, c.F_SCORE] = lower, upper, cells[i, c.PEAK]
    numbers[at, c.I_ROW], numbers[at, c.I_SLOT], numbers[at, c.I_REASON] = row, i, reason
    numbers[at, c.I_STATUS], numbers[at, c.I_TIME], numbers[at, c.I_SINCE] = status, t, times[i, c.SINCE]
    numbers[at, c.I_HORIZON], numbers[at, c.I_OFTEN] = horizon, often


@hot
def _ranked(cells, ranks, kept, settings, slot, v, usual, age):  # type: ignore[no-untyped-def]
    """The score and state of a point; nothing is learned of a series that is held."""
    held = cells[slot, c.HOLD] != 0.0 and cells[slot, c.HELD] < settings[c.S_HOLD]
    if held:
        for k in range(r.PEAK):
            kept[k] = ranks[slot, k]
    score, state = rank(ranks, slot, v, usual, age)
    if held:
        for k in range(r.PEAK):
            ranks[slot, k] = kept[k]
    return score, state


@njit(_FOLD, cache=True, nogil=True, error_model="numpy")
def fold(state, weeks, clock, used, settings, slots, moments, points, received, band, values, numbers):  # type: ignore[no-untyped-def]
    """Take points in order: judge, learn, and write findings.

    Args:
        state, used, weeks: a row per slot, see `cells.State`; slots in use; weekly profiles, see `cells.Weeks`.
        clock: see `cells.CLOCK`. The last of it says on return how many points were taken: fewer than given when series were found
            silent, which are then the last findings, or when one asked for a weekly profile and there is no room; give it more, and the
            rest of the points.
        settings: thresholds, see `cells.settings`.
        slots, moments, points: slot, time (ns) and value of each point; a time not after the series' last or minutes ahead of the
            receipt (it would hide all that follow) and a value that is not finite are passed over.
        received: when the points were received (ns); the clock never runs ahead of it.
        band: centre, lower and upper bound of each point before it was learned, NaN where there is none yet; score and state of `rank`.
        values, numbers: findings, columns `F_` and `I_` of `cells`; room for two a point and two a slot.

    Returns:
        The number of findings.
    """
    (cells, exact, times, profile, days, ranks), (means, counts) = state, weeks
    cells, exact, times, profile, days = borrowed(cells), borrowed(exact), borrowed(times), borrowed(profile), borrowed(days)
    ranks, means, counts, clock = borrowed(ranks), borrowed(means), borrowed(counts), borrowed(clock)
    settings, slots, moments, points, band = borrowed(settings), borrowed(slots), borrowed(moments), borrowed(points), borrowed(band)
    values, numbers, kept = borrowed(values), borrowed(numbers), np.empty(r.PEAK, np.float32)
    found = clock[4] = 0
    for i in range(len(slots)):
        t, v, slot = moments[i], points[i], np.uintp(slots[i])
        if cells[slot, c.WEEK] == c.ASKED and not granted(cells, means, counts, clock, settings, slot):
            break
        clock[4] = i + 1
        band[i, 0] = band[i, 1] = band[i, 2] = math.nan
        band[i, 3] = band[i, 4] = 0.0
        minute = min(t, received) // _MINUTE
        if minute > clock[0]:
            clock[0], clock[1] = minute, clock[1] + 1
            silent = _silent(cells, times, clock, used, values, numbers, found)
            if silent > found:  # who tells of it must see the others as they are at this point
                found, clock[4] = silent, i
                break
        dt, v = _due(cells, exact, times, clock, slot, t, v, received)
        if dt != dt:
            continue
        v, usual, age = min(max(v, -_MOST), _MOST), _usual(cells, profile, days, slot, t), (t - times[slot, c.BORN]) * 1e-9
        band[i, 3], band[i, 4] = _ranked(cells, ranks, kept, settings, slot, v, usual, age)
        if cells[slot, c.FIRING] == c.MISSING:
            status, reason, horizon, often = c.RESOLVED, c.MISSING, 0, 0
            cells[slot, c.FIRING] = cells[slot, c.STREAK] = cells[slot, c.SHORT] = cells[slot, c.LONG] = 0.0
            centre = lower = upper = math.nan
            exact[slot, c.VALUE] = v
        else:
            centre, lower, upper, status, reason, horizon, often = _point(
                cells, exact, profile, days, means, counts, clock, settings, slot, t, dt, t - times[slot, c.BORN], v
            )
        band[i, 0], band[i, 1], band[i, 2] = centre, lower, upper
        ranks[slot, r.CENTRE], ranks[slot, r.LOWER], ranks[slot, r.UPPER] = centre, lower, upper
        _began(cells, times, slot, t, status, reason, horizon, v >= centre)
        if status:
            _note(cells, times, values, numbers, found, i, slot, t, v, centre, lower, upper, status, reason, horizon, often)
            found += 1
    return found
