"""The compiled loops of the streaming analytics. Imported only by `warm`, since importing it compiles (or loads the cache).

Every public function has one explicit signature, so nothing is compiled behind anybody's back, and takes read-only inputs,
because Arrow's buffers are. None allocates; all release the GIL. No fast-math: NaN must stay visible. This file has the
fold of `baseline`; `scanning` and `joining` have the others.
"""

from __future__ import annotations

import math

from numba import njit, types

from ninefold.analytics import cells as c
from ninefold.analytics.joining import CLIENT, SERVER, link
from ninefold.analytics.scanning import IN, insert, lookup, scan

__all__ = ["CLIENT", "SERVER", "fold", "insert", "link", "lookup", "scan"]

_MINUTE = 60_000_000_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_AHEAD = 5 * _MINUTE
_LN10 = math.log(10.0)
_RMS = math.sqrt(0.6)
_MOST = 1e30
"""Values are judged as if none were larger: single precision ends at 3e38, and sums and multiples must have room."""
_MANY = 9_600_000.0
"""Points counted before half of them are forgotten, a multiple of 96: single precision counts to 16.7 million."""
_SURE, _ALONE = 4.5, 6.0  # -log10 of the probability a point at which an alarm is raised; of a point that nothing confirms
_hot = njit(nogil=True, error_model="numpy", forceinline=True)
_cold = njit(nogil=True, error_model="numpy")


@_hot
def _severity(cells, i, at, x, floor, inflate):  # type: ignore[no-untyped-def]
    """-log10 of the probability that a residual reaches `x` on one side: a generalised Pareto tail beyond the 95 % quantile; 0 below.

    The shape comes from the first two moments of the excess (Hosking & Wallis 1987), drawn towards 0.2 while excesses are
    few and clipped to [0, 0.6], since a negative one would give the tail an end.
    """
    q = max(cells[i, at], 0.5 * floor) * inflate
    if x <= q:
        return 0.0
    mean, root, count = float(cells[i, at + 1]), float(cells[i, at + 2]), min(cells[i, at + 3], 200.0)
    variance = root * root - mean * mean
    shape = min(max(0.5 - 0.5 * mean * mean / variance, 0.0), 0.6) if variance > 0.0 else 0.0
    shape = (1.0 + count * shape) / (5.0 + count)
    e = (x - q) / (max(mean, 0.3 * floor) * inflate * (1.0 - shape))
    return 1.3 + (math.log1p(shape * e) / shape if shape > 1e-3 else e) / _LN10


@_hot
def _learn(cells, i, at, x, floor):  # type: ignore[no-untyped-def]
    """Track the 95 % quantile by stochastic gradient and the excess beyond it by exponentially weighted moments."""
    q, mean, root = float(cells[i, at]), float(cells[i, at + 1]), float(cells[i, at + 2])
    step = 0.02 * max(mean, 0.05 * floor)
    if x <= q:
        cells[i, at] = max(q - 0.05 * step, 0.0)
        return
    cells[i, at] = q + 0.95 * step
    cells[i, at + 3] += 1.0
    weight = max(0.03, 1.0 / (cells[i, at + 3] + 4.0))
    e = min(x - q, 8.0 * max(mean, 0.1 * floor))
    cells[i, at + 1] += weight * (e - mean)
    cells[i, at + 2] = math.sqrt(root * root + weight * (e * e - root * root))


@_cold
def _median(cells, i):  # type: ignore[no-untyped-def]
    """Sort the buffer in place; its median."""
    for j in range(c.BUFFER + 1, c.BUFFER + c.WARM_UP):
        value, k = cells[i, j], j - 1
        while k >= c.BUFFER and cells[i, k] > value:
            cells[i, k + 1] = cells[i, k]
            k -= 1
        cells[i, k + 1] = value
    return 0.5 * (cells[i, c.BUFFER + c.WARM_UP // 2 - 1] + cells[i, c.BUFFER + c.WARM_UP // 2])


@_cold
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


@_hot
def _hour(cells, profile, days, i, t, value):  # type: ignore[no-untyped-def]
    """Collect a value for the daily profile; an hour enters it when it is over, so it never predicts itself."""
    hour = t // _HOUR
    if hour != cells[i, c.HOUR]:
        if cells[i, c.HOUR_COUNT] > 0.0:
            at = int(cells[i, c.HOUR]) % 24
            days[i, at] = min(days[i, at] + 1, 255)
            weight = max(0.2, 1.0 / days[i, at])
            profile[i, at] += weight * (cells[i, c.HOUR_SUM] / cells[i, c.HOUR_COUNT] - profile[i, at])
        cells[i, c.HOUR], cells[i, c.HOUR_SUM], cells[i, c.HOUR_COUNT] = hour, 0.0, 0.0
    cells[i, c.HOUR_SUM] += value
    cells[i, c.HOUR_COUNT] += 1.0


@_hot
def _daily(cells, profile, days, i, t):  # type: ignore[no-untyped-def]
    """The daily profile at a time, between the middles of two hours; NaN while it does not know the hour."""
    at = (t // _HOUR) % 24
    if days[i, at] == 0:
        return math.nan
    place = (t % _HOUR) / _HOUR - 0.5
    other = (at + (1 if place > 0.0 else 23)) % 24
    weight = abs(place) if days[i, other] > 0 else 0.0
    return (1.0 - weight) * profile[i, at] + weight * profile[i, other] + cells[i, c.LIFT]


@_hot
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


@_hot
def _floor(cells, i, once):  # type: ignore[no-untyped-def]
    """The deviation below which nothing is remarkable: given, relative (10 %, later 2 %), and that of counting."""
    level = abs(float(cells[i, c.LEVEL]))
    floor = max(cells[i, c.FLOOR], (0.02 + 0.08 * min(1.0, 100.0 * once)) * level)
    if cells[i, c.KIND] == c.DELTA:
        floor = max(floor, math.sqrt(max(level, 1.0)))
    elif cells[i, c.KIND] == c.COUNTER and cells[i, c.INTERVAL] > 0.0:
        floor = max(floor, math.sqrt(max(level * cells[i, c.INTERVAL], 1.0)) / cells[i, c.INTERVAL])
    if cells[i, c.MOVES] < 0.1:
        floor = max(floor, 0.1 * cells[i, c.LARGEST])
    return floor


@_hot
def _judge(cells, i, once, alone, pair, short, long, outside, side):  # type: ignore[no-untyped-def]
    """The episode: opens on two points that agree, on one very extreme one or on a sustained shift; closes after calm.

    Returns what happened (0, `FIRED` or `RESOLVED`) and the reason of the episode.
    """
    cells[i, c.FATIGUE] *= 1.0 - 1.0 / 300.0
    bar = 1.0 + 0.3 * cells[i, c.FATIGUE]
    cells[i, c.STREAK] = (side if cells[i, c.STREAK] * side <= 0.0 else cells[i, c.STREAK] + side) if outside else 0.0
    cells[i, c.CALM] = 0.0 if outside else cells[i, c.CALM] + 1.0
    cells[i, c.AWAY] = cells[i, c.AWAY] + 1.0 if outside else (cells[i, c.AWAY] if cells[i, c.CALM] < 3.0 else 0.0)
    status, reason = 0, int(cells[i, c.FIRING])
    if reason == 0:
        if alone >= _ALONE * bar * (1.0 + 50.0 * once) or (pair >= _SURE * bar and outside):
            reason = c.SPIKE
        elif short >= _SURE * bar:
            reason = c.SHIFT
        elif long >= _SURE * bar:
            reason = c.DRIFT
        elif cells[i, c.COUNT] > 50.0 and cells[i, c.MOVES] > 0.3 and cells[i, c.RUN] > 3.0 * cells[i, c.LONGEST] + 12.0:
            reason = c.FLAT
        if reason:
            cells[i, c.FIRING], cells[i, c.PEAK] = reason, 0.0
            cells[i, c.FATIGUE] += 1.0
            status = c.FIRED
    else:
        over = cells[i, c.CALM] >= 3.0 and (reason == c.SPIKE or max(short, long) < 3.0)
        if cells[i, c.RUN] == 0.0 if reason == c.FLAT else over:
            status = c.RESOLVED
            cells[i, c.FIRING] = cells[i, c.SHORT] = cells[i, c.LONG] = 0.0
    cells[i, c.PEAK] = max(cells[i, c.PEAK], alone, pair, short, long)
    return status, reason


@_hot
def _adapt(cells, i, v, once, daily, half, floor):  # type: ignore[no-untyped-def]
    """Let the experts learn a value, each from a residual that is clipped to what it finds credible."""
    weight = max(0.02, once)
    if daily == daily:
        e = v - daily
        cells[i, c.LIFT] += weight * min(max(e, -half), half)
        cells[i, c.ERR_DAILY] += weight * (min(abs(e), 4.0 * cells[i, c.ERR_DAILY] + floor) - cells[i, c.ERR_DAILY])
    else:
        cells[i, c.ERR_DAILY] = cells[i, c.ERR_LEVEL]
    for level, error, speed in ((c.LEVEL, c.ERR_LEVEL, max(0.005, once)), (c.FAST, c.ERR_FAST, 0.25)):
        e = v - cells[i, level]
        limit = max(half, 3.0 * cells[i, error])
        cells[i, error] += weight * (min(abs(e), 4.0 * cells[i, error] + floor) - cells[i, error])
        cells[i, level] += speed * min(max(e, -limit), limit)
    cells[i, c.RECENT] += 0.15 * (v - cells[i, c.RECENT])


@_hot
def _weigh(cells, i, r, lasting, half, floor, once, grown):  # type: ignore[no-untyped-def]
    """See a residual alone and paired, and the one from what is slow to change (`lasting`) smoothed; judge; let the tails learn."""
    up, down = c.TAILS, c.TAILS + 4
    side = 1.0 if r >= 0.0 else -1.0
    at = up if r >= 0.0 else down
    limit = max(2.0 * half, 4.0 * cells[i, c.ERR_LEVEL])
    lasting = min(max(lasting, -limit), limit)
    short = cells[i, c.SHORT] = cells[i, c.SHORT] + 2.0 / 13.0 * (lasting - cells[i, c.SHORT])
    long = cells[i, c.LONG] = cells[i, c.LONG] + 2.0 / 49.0 * (lasting - cells[i, c.LONG])
    before, cells[i, c.BEFORE] = cells[i, c.BEFORE], r
    agreed_up, agreed_down = max(min(r, before), 0.0), max(min(-r, -before), 0.0)
    inflate, n = 1.0 + 15.0 * once, cells[i, c.COUNT]
    alone = _severity(cells, i, at, abs(r), floor, inflate)
    pair = _severity(cells, i, at + 8, agreed_up + agreed_down, floor, inflate)
    of_short = of_long = 0.0
    if n > 2 * c.WARM_UP:
        of_short = _severity(cells, i, up + 16 if short >= 0.0 else down + 16, abs(short), 0.6 * floor, 1.0 + 100.0 * once)
    if grown:  # before a day is over, its course would be a drift
        of_long = _severity(cells, i, up + 24 if long >= 0.0 else down + 24, abs(long), 0.4 * floor, 1.0 + 100.0 * once)
    status, reason = _judge(cells, i, once, alone, pair, of_short, of_long, abs(r) > half, side)
    if cells[i, c.AWAY] <= 2.0:
        _learn(cells, i, up, r, floor)
        _learn(cells, i, down, -r, floor)
        _learn(cells, i, up + 8, agreed_up, floor)
        _learn(cells, i, down + 8, agreed_down, floor)
    # A smoothed residual changes slowly: one number in a window is enough, more would teach it its own drift. For the same
    # reason it learns nothing while under suspicion; each alarm teaches it once.
    quiet = cells[i, c.FIRING] == 0.0
    if status == c.FIRED or (quiet and int(n) % 12 == 0 and of_short < 3.0):
        _learn(cells, i, up + 16, short, 0.6 * floor)
        _learn(cells, i, down + 16, -short, 0.6 * floor)
    if status == c.FIRED or (quiet and int(n) % 48 == 0 and of_long < 3.0):
        _learn(cells, i, up + 24, long, 0.4 * floor)
        _learn(cells, i, down + 24, -long, 0.4 * floor)
    return status, reason


@_hot
def _point(cells, exact, profile, days, i, t, dt, age, v):  # type: ignore[no-untyped-def]
    """Judge one value, then learn from it; `dt` in s since the last point, `age` in ns since the first.

    Returns centre, lower and upper bound (NaN during warm-up), what happened and the reason.
    """
    _cadence(cells, exact, i, dt, v)
    n = float(cells[i, c.COUNT])
    once = 1.0 / n
    if n <= c.WARM_UP:
        cells[i, c.BUFFER + int(n) - 1] = v
        cells[i, c.RECENT] += (v - cells[i, c.RECENT]) * once
        _hour(cells, profile, days, i, t, v)
        if n == c.WARM_UP:
            _begin(cells, i)
        return math.nan, math.nan, math.nan, 0, 0
    daily = _daily(cells, profile, days, i, t)
    centre, best, slow = float(cells[i, c.LEVEL]), float(cells[i, c.ERR_LEVEL]), float(cells[i, c.LEVEL])
    if cells[i, c.ERR_FAST] < 0.5 * best:
        centre, best = cells[i, c.FAST], cells[i, c.ERR_FAST]
    if daily == daily and cells[i, c.ERR_DAILY] < 0.8 * best:
        centre = slow = daily
    floor, inflate = _floor(cells, i, once), 1.0 + 15.0 * once
    up, down = c.TAILS, c.TAILS + 4
    over = (max(cells[i, up], 0.5 * floor) + 2.3 * max(cells[i, up + 1], 0.3 * floor)) * inflate
    under = (max(cells[i, down], 0.5 * floor) + 2.3 * max(cells[i, down + 1], 0.3 * floor)) * inflate
    lower = max(centre - under, 0.0) if cells[i, c.LOWEST] >= 0.0 else centre - under
    r = v - centre
    half = over if r >= 0.0 else under
    status, reason = _weigh(cells, i, r, v - slow, half, floor, once, age > _DAY)
    _adapt(cells, i, v, once, daily, half, floor)
    _hour(cells, profile, days, i, t, centre + min(max(r, -2.0 * half), 2.0 * half))
    if cells[i, c.AWAY] >= 30.0:  # this is how it is now: learn the new level
        cells[i, c.LIFT] += cells[i, c.RECENT] - daily if daily == daily else 0.0
        cells[i, c.LEVEL] = cells[i, c.FAST] = cells[i, c.RECENT]
        cells[i, c.SHORT] = cells[i, c.LONG] = cells[i, c.AWAY] = cells[i, c.STREAK] = 0.0
        if cells[i, c.FIRING] and status == 0:
            status, cells[i, c.FIRING] = c.RESOLVED, 0.0
    return centre, lower, centre + over, status, reason


@_cold
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
        values[found, c.F_EXPECTED], values[found, c.F_SCORE] = cells[slot, c.LEVEL], 6.0
        numbers[found, c.I_ROW], numbers[found, c.I_SLOT], numbers[found, c.I_REASON] = -1, slot, c.MISSING
        numbers[found, c.I_STATUS], numbers[found, c.I_TIME], numbers[found, c.I_SINCE] = c.FIRED, now, times[slot, c.LAST]
        found += 1
    return found


_STATE = types.NamedTuple(  # type: ignore[no-untyped-call]
    (types.float32[:, ::1], types.float64[:, ::1], types.int64[:, ::1], types.float32[:, ::1], types.uint8[:, ::1]), c.State
)
_FOLD = types.int64(
    _STATE, types.int64[::1], types.int64, IN["int32"], IN["int64"], IN["float64"], types.int64, types.float64[:, ::1],
    types.float64[:, ::1], types.int64[:, ::1],
)  # fmt: skip


@njit(_FOLD, cache=True, nogil=True, error_model="numpy")
def fold(state, clock, used, slots, moments, points, received, band, values, numbers):  # type: ignore[no-untyped-def]
    """Take points in order: judge, learn, and write findings.

    Args:
        state, used: a row per slot, see `cells.State`; slots in use.
        clock: the last minute seen and the number of minute ticks, common to all series.
        slots, moments, points: slot, time (ns) and value of each point; a time not after the series' last, one that lies minutes
            ahead of the receipt (it would hide all that follow) and a value that is not finite are passed over.
        received: when the points were received (ns); the clock never runs ahead of it.
        band: centre, lower and upper bound of each point before it was learned; NaN where there is none yet.
        values, numbers: findings, columns `F_` and `I_` of `cells`; room for two a point and two a slot.

    Returns:
        The number of findings.
    """
    cells, exact, times, profile, days = state
    found = 0
    for i in range(len(slots)):
        t, v, slot = moments[i], points[i], slots[i]
        band[i, 0] = band[i, 1] = band[i, 2] = math.nan
        minute = min(t, received) // _MINUTE
        if minute > clock[0]:
            clock[0], clock[1] = minute, clock[1] + 1
            found = _silent(cells, times, clock, used, values, numbers, found)
        last, lag = times[slot, c.LAST], received - t
        if t <= last:
            if last - received <= _AHEAD:
                continue
            last = 0  # an older version believed a time ahead
        if lag < -_AHEAD or not math.isfinite(v):
            continue
        times[slot, c.LAST], times[slot, c.TICK], times[slot, c.LAG] = t, clock[1], lag
        if cells[slot, c.KIND] == c.PART:
            continue
        if last == 0:
            times[slot, c.BORN] = last = t
        dt = (t - last) * 1e-9
        if cells[slot, c.KIND] == c.COUNTER:
            raw, exact[slot, c.RAW] = exact[slot, c.RAW], v
            if dt == 0.0:
                continue
            v = (v - raw if v >= raw else v) / dt
        v = min(max(v, -_MOST), _MOST)
        if cells[slot, c.FIRING] == c.MISSING:
            cells[slot, c.FIRING] = cells[slot, c.STREAK] = cells[slot, c.SHORT] = cells[slot, c.LONG] = 0.0
            centre, lower, upper, status, reason = math.nan, math.nan, math.nan, c.RESOLVED, c.MISSING
            exact[slot, c.VALUE] = v
        else:
            centre, lower, upper, status, reason = _point(cells, exact, profile, days, slot, t, dt, t - times[slot, c.BORN], v)
        band[i, 0], band[i, 1], band[i, 2] = centre, lower, upper
        if abs(cells[slot, c.STREAK]) <= 1.0 and (status == c.FIRED or (status == 0 and cells[slot, c.FIRING] == 0.0)):
            times[slot, c.SINCE] = t
        if status:
            values[found, c.F_VALUE], values[found, c.F_EXPECTED] = v, centre
            values[found, c.F_LOWER], values[found, c.F_UPPER], values[found, c.F_SCORE] = lower, upper, cells[slot, c.PEAK]
            numbers[found, c.I_ROW], numbers[found, c.I_SLOT], numbers[found, c.I_REASON] = i, slot, reason
            numbers[found, c.I_STATUS], numbers[found, c.I_TIME], numbers[found, c.I_SINCE] = status, t, times[slot, c.SINCE]
            found += 1
    return found
