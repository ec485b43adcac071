"""How surprising the newest point of a series is, beside everything the series has shown before. Compiled into `kernel.fold`.

Five views of the value are watched (see `ranking.VIEWS`), of the value to the power 9/16 with its sign, which tames bursts and leaves
scores unchanged when a series is multiplied. A view surprises by a record: under exchangeability the chance that the n-th point is a new
extreme is 1/n (Rényi 1962), so it scores log10 n and false alarms die out by themselves, with no threshold; and by its tail, exponential
beyond the 95 % quantile. A view that keeps surprising in this series loses its vote, and a series that keeps surprising its rank: alert
fatigue, without labels.
"""

from __future__ import annotations

import math

from numba import njit

from ninefold.analytics.metrics import ranking as r

_hot = njit(nogil=True, error_model="numpy", forceinline=True)

_WARM = 50.0  # points a view must have shown before it may surprise
_TOLERANCE = 0.02  # a new extreme less than this share of the range beyond the old one is none
_CAP = 10.0  # beyond this many ranges all records are alike
_RECENT, _LASTING = 1.0 - 1.0 / 1000.0, 1.0 - 1.0 / 10_000.0  # forgetting of votes and of the total, a point
_FATIGUE, _WEARY = 0.1, 0.02
_REST = 100.0  # points for which only a higher score than the last is emitted
_BLOCK, _FORGET = 1024, 1024.0 / 1_000_000.0  # so often, and so much of its range, an extreme is forgotten
_MANY = 8_388_608.0


@_hot
def _bend(v):  # type: ignore[no-untyped-def]
    """The value to the power 9/16 with its sign, by square roots: half the cost of a power."""
    root = math.sqrt(abs(v))
    return math.copysign(root * math.sqrt(math.sqrt(math.sqrt(root))), v)


@_hot
def _record(ranks, i, view, x, n):  # type: ignore[no-untyped-def]
    """The surprise of a new extreme, which is remembered."""
    high, low = float(ranks[i, r.HIGH + view]), float(ranks[i, r.LOW + view])
    if n == 0.0:
        ranks[i, r.HIGH + view] = ranks[i, r.LOW + view] = x
        return 0.0
    beyond = max(x - high, low - x)
    if beyond <= 0.0:
        return 0.0
    if x > high:
        ranks[i, r.HIGH + view] = x
    else:
        ranks[i, r.LOW + view] = x
    share = min(beyond / (high - low), _CAP) if high > low else _CAP
    return math.log10(n) + 0.5 * math.log10(1.0 + 20.0 * share) if share > _TOLERANCE else 0.0


@_hot
def _tail(ranks, i, at, d, n):  # type: ignore[no-untyped-def]
    """The surprise of an absolute deviation `d`, -log10 of its chance less one; the tail learns it."""
    if n == 0.0:
        ranks[i, at], ranks[i, at + 1] = d, 0.3 * d
        return 0.0
    q, e = float(ranks[i, at]), float(ranks[i, at + 1])
    step = 0.02 * max(e, 0.05 * q) * (5.0 if n < _WARM else 1.0)
    if d <= q:
        ranks[i, at] = max(q - 0.05 * step, 0.0)
        return 0.0
    ranks[i, at] = q + 0.95 * step
    ranks[i, at + 1] = e + (0.03 * (min(d - q, 8.0 * e) - e) if n > _WARM else 0.1 * (d - q - e))
    return min(0.3 + (d - q) / e / math.log(10.0), 8.0) if n > _WARM and e > 0.0 else 0.0


@_hot
def _vote(ranks, i, view, n, surprise):  # type: ignore[no-untyped-def]
    """What a view's surprise counts after it lost trust; it loses more by it."""
    before = float(ranks[i, r.VOTE + view]) * _RECENT
    counted = surprise / (1.0 + _FATIGUE * before) if n >= _WARM else 0.0
    ranks[i, r.VOTE + view] = before + counted
    return counted


@_hot
def _experts(ranks, i, x, daily, n, days):  # type: ignore[no-untyped-def]
    """Move the slow levels and the experts' errors; returns the distance from the slow level as it was before."""
    drift = x - ranks[i, r.SLOW] if n > 0.0 else 0.0
    if n == 0.0:
        ranks[i, r.SLOW] = ranks[i, r.LONG] = x
    weight, wrong = max(0.005, 1.0 / (n + 1.0)), float(ranks[i, r.ERR_SLOW])
    known = daily == daily
    best = x - daily if known and days > _WARM and ranks[i, r.ERR_DAILY] < 0.9 * wrong else drift
    ranks[i, r.REST] += 0.1 * (best - ranks[i, r.REST])
    ranks[i, r.LONG] += max(2.0 / 49.0, 1.0 / (n + 1.0)) * (x - ranks[i, r.LONG])
    ranks[i, r.SLOW] += weight * drift
    if known:
        off, usual = abs(x - daily), float(ranks[i, r.ERR_DAILY])
        ranks[i, r.ERR_DAILY] = usual + weight * ((off if n < 400.0 else min(off, 4.0 * usual + 0.1 * wrong)) - usual)
    else:
        ranks[i, r.ERR_DAILY] = wrong
    ranks[i, r.ERR_SLOW] = wrong + weight * ((abs(drift) if n < _WARM else min(abs(drift), 4.0 * wrong)) - wrong)
    return drift


@_hot
def rank(ranks, i, v, daily, age):  # type: ignore[no-untyped-def]
    """Score the newest value of series `i` and learn it.

    Args:
        ranks: a row a series, cells of `ranking`.
        v: the value (of a counter: its rate), finite.
        daily: what is usual at this time of the day, NaN while unknown; learned from earlier hours only.
        age: seconds since the series' first point.

    Returns:
        The score with its cool-down (0 when there is nothing new to say), and the anomalous state.
    """
    n, days = float(ranks[i, r.SEEN]), float(ranks[i, r.SEEN_DAILY])
    x, usual = _bend(v), _bend(daily)
    drift = _experts(ranks, i, x, usual, n, days)
    slow, long = float(ranks[i, r.SLOW]), float(ranks[i, r.LONG])
    level = _vote(ranks, i, r.LEVEL, n, _record(ranks, i, r.LEVEL, x, n))
    drifted = _vote(ranks, i, r.DRIFT, n, _record(ranks, i, r.DRIFT, drift, n) + 0.5 * _tail(ranks, i, r.TAIL, abs(drift), n))
    apart = 0.5 * _tail(ranks, i, r.TAIL + 2, abs(long - slow), n)
    lasting = _vote(ranks, i, r.SUSTAINED, n, _record(ranks, i, r.SUSTAINED, long, n) + apart)
    off = _vote(ranks, i, r.EXPECTED, n, 1.5 * _record(ranks, i, r.EXPECTED, ranks[i, r.REST], n))
    at_hour = 0.0
    if usual == usual:
        tail = 0.5 * _tail(ranks, i, r.TAIL + 4, abs(x - usual), days)
        at_hour = _vote(ranks, i, r.DAILY, days, 2.0 * _record(ranks, i, r.DAILY, x - usual, days) + tail)
        ranks[i, r.SEEN_DAILY] = min(days + 1.0, _MANY)
    total = level + drifted + lasting + at_hour + off
    ranks[i, r.SEEN] = min(n + 1.0, _MANY)
    if int(n) % _BLOCK == _BLOCK - 1:
        for view in range(r.HIGH, r.LOW):
            fade = _FORGET * (ranks[i, view + r.LOW] - ranks[i, view])
            ranks[i, view] += fade
            ranks[i, view + r.LOW] -= fade
    weary = float(ranks[i, r.TOTAL]) * _LASTING
    raw = max(total - _WEARY * weary, 0.0)
    ranks[i, r.TOTAL] = weary + raw
    held = float(ranks[i, r.STATE]) * r.HOLD
    if held < r.SETTLED and raw >= r.RISEN:
        ranks[i, r.SINCE] = age
    if raw > held:
        half = 0.5 * max(level, drifted, lasting, at_hour, off)
        ranks[i, r.KINDS] = (level >= half) + 2 * (drifted >= half) + 4 * (lasting >= half) + 8 * (at_hour >= half) + 16 * (off >= half)
    ranks[i, r.STATE] = max(held, raw)
    ranks[i, r.AGE] = min(ranks[i, r.AGE] + 1.0, _MANY)
    if raw > 0.0 and (raw > ranks[i, r.PEAK] or ranks[i, r.AGE] > _REST):
        ranks[i, r.PEAK], ranks[i, r.AGE] = raw, 0.0
        return raw, ranks[i, r.STATE]
    return 0.0, ranks[i, r.STATE]
