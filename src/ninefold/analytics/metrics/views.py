"""A series seen through a logarithm where that makes its tails lighter. Compiled as part of `kernel`."""

from __future__ import annotations

import math

from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.compiling import cold, hot

_HEAVY, _LIGHTER = 0.4, 0.75
"""Ratio of mean excess to the 95 % quantile from which a tail is heavy (normal 0.25, exponential 0.33); by how much it must gain."""


@hot
def seen(scale, value):  # type: ignore[no-untyped-def]
    """A value as it is judged: itself (`scale` 0), or log(1 + value / scale), odd about 0."""
    return value if scale == 0.0 else math.copysign(math.log1p(abs(value) / scale), value)


@hot
def meant(scale, value):  # type: ignore[no-untyped-def]
    """The value in its own unit of what is judged; the inverse of `seen`."""
    return value if scale == 0.0 else math.copysign(scale * math.expm1(min(abs(value), 80.0)), value)


@hot
def _turned(old, new, value):  # type: ignore[no-untyped-def]
    return seen(new, meant(old, value))


@hot
def _worst(cells, i, old, new):  # type: ignore[no-untyped-def]
    """The heavier of the two tails of single points under another view."""
    level, worst = float(cells[i, c.LEVEL]), 0.0
    base = _turned(old, new, level)
    for at, side in ((c.TAILS, 1.0), (c.TAILS + 4, -1.0)):
        q, mean = float(cells[i, at]), float(cells[i, at + 1])
        edge = _turned(old, new, level + side * q)
        if edge != base:
            worst = max(worst, (_turned(old, new, level + side * (q + mean)) - edge) / (edge - base))
    return worst


@cold
def choose(cells, profile, days, means, counts, i, floor):  # type: ignore[no-untyped-def]
    """See whether another view of the series has lighter tails, and change to it with all that was learned."""
    old = float(cells[i, c.SCALE])
    level, new = float(cells[i, c.LEVEL]), 0.0
    if cells[i, c.FIRING] or (old == 0.0 and (cells[i, c.LOWEST] < 0.0 or level <= 0.0 or cells[i, c.MOVES] < 0.5)):
        return
    worst = _worst(cells, i, old, old)
    if old == 0.0:
        weak, strong = max(level, 0.5 * floor), max(0.1 * level, 0.5 * floor)
        new = strong if _worst(cells, i, old, strong) < 0.75 * _worst(cells, i, old, weak) else weak
    if worst < _HEAVY or _worst(cells, i, old, new) > _LIGHTER * worst:
        return
    base = _turned(old, new, level)
    for at in range(c.TAILS, c.TAILS + 32, 4):
        side = 1.0 if (at - c.TAILS) % 8 == 0 else -1.0
        q, mean = float(cells[i, at]), max(float(cells[i, at + 1]), 1e-30)
        edge = _turned(old, new, level + side * q)
        excess = max(abs(_turned(old, new, level + side * (q + mean)) - edge), 1e-9)
        cells[i, at], cells[i, at + 1] = abs(edge - base), excess
        cells[i, at + 2] *= excess / mean
    for at in (c.ERR_LEVEL, c.ERR_FAST, c.ERR_DAILY, c.HOURLY, c.ASTRAY):
        cells[i, at] = _turned(old, new, level + cells[i, at]) - base
    for at in range(24):
        if days[i, at] > 0:
            profile[i, at] = _turned(old, new, profile[i, at] + cells[i, c.LIFT])
    if cells[i, c.WEEK] > 0.0:
        row = int(cells[i, c.WEEK]) - 1
        for at in range(168):
            if counts[row, at] > 0:
                means[row, at] = _turned(old, new, means[row, at] + means[row, c.W_LIFT])
        means[row, c.W_LIFT], means[row, c.W_ERR] = 0.0, _turned(old, new, level + means[row, c.W_ERR]) - base
    if cells[i, c.HOUR_COUNT] > 0.0:
        cells[i, c.HOUR_SUM] = cells[i, c.HOUR_COUNT] * _turned(old, new, cells[i, c.HOUR_SUM] / cells[i, c.HOUR_COUNT])
    for at in (c.LEVEL, c.FAST, c.RECENT):
        cells[i, at] = _turned(old, new, cells[i, at])
    for at in (c.LIFT, c.SHORT, c.LONG, c.BEFORE, c.SUM_UP, c.SUM_DOWN, c.FOR_UP, c.FOR_DOWN):
        cells[i, at] = 0.0
    cells[i, c.OFF], cells[i, c.PATH], cells[i, c.MISSED] = math.nan, 0.0, 0.0
    cells[i, c.SCALE] = new
