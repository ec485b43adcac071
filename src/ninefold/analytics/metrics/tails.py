"""Tails of a residual: how improbable it is, learned in constant time. Compiled as part of `kernel`."""

from __future__ import annotations

import math

from ninefold.analytics.metrics.compiling import hot

_LN10 = math.log(10.0)
_FAR, _SHAPED = 20.0, 0.004
"""The largest excess that counts for the shape, in mean excesses; how fast the shape is forgotten: slower than the width."""


@hot
def severity(cells, i, at, x, floor, inflate):  # type: ignore[no-untyped-def]
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


@hot
def learn(cells, i, at, x, floor, speed):  # type: ignore[no-untyped-def]
    """Track the 95 % quantile by stochastic gradient and the excess beyond it by exponentially weighted moments."""
    q, mean, root = float(cells[i, at]), float(cells[i, at + 1]), float(cells[i, at + 2])
    step = 0.02 * speed * max(mean, 0.05 * floor)
    if x <= q:
        cells[i, at] = max(q - 0.05 * step, 0.0)
        return
    cells[i, at] = q + 0.95 * step
    cells[i, at + 3] += 1.0
    weight = max(0.015 * speed, 1.0 / (cells[i, at + 3] + 4.0))
    e, most = x - q, max(mean, 0.1 * floor)
    cells[i, at + 1] += weight * (min(e, 12.0 * most) - mean)
    e, weight = min(e, _FAR * most), max(_SHAPED * speed, 1.0 / (cells[i, at + 3] + 4.0))
    cells[i, at + 2] = math.sqrt(root * root + weight * (e * e - root * root))
