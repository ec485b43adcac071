"""The compiled loop that lets small forecasters run over a series and notes what each would have said. See `forecast`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

ALPHA, BETA, PHI, GAMMA, PERIOD, CLIP, LINE = range(7)
"""The columns of a forecaster: gains of level, trend and season, damping of the trend, period in points (0: none), after how many usual
errors an error is drawn in (0: never), and 1 where it is a line through all points since the last restart."""
_RUN = 3
"""So many wild errors on one side in a row are a new level."""
_IN = types.Array(types.float64, 1, "C", readonly=True)
_PLACES = types.Array(types.int64, 1, "C", readonly=True)
_SAID = types.void(
    _IN, types.Array(types.float64, 2, "C", readonly=True), _PLACES, _PLACES, _PLACES,
    types.float64[:, :, ::1], types.float64[:, ::1], types.float64[:, ::1],
)  # fmt: skip


@njit(nogil=True, error_model="numpy")
def _begin(y, period, season):  # type: ignore[no-untyped-def]
    """Level, slope and usual error from the first values, and the season from the first two periods."""
    n, first = len(y), min(len(y), max(8, period))
    total = count = 0.0
    for i in range(first):
        if y[i] == y[i]:
            total, count = total + y[i], count + 1.0
    level = total / max(count, 1.0)
    if period:
        for j in range(period):
            total = count = 0.0
            for i in range(j, min(n, 2 * period), period):
                if y[i] == y[i]:
                    total, count = total + y[i] - level, count + 1.0
            season[j] = total / count if count else 0.0
    moved, count, last = 0.0, 0.0, math.nan
    for i in range(first):
        if y[i] == y[i]:
            if last == last:
                moved, count = moved + abs(y[i] - last), count + 1.0
            last = y[i]
    return level, max(moved / max(count, 1.0), 1e-12)


@njit(nogil=True, error_model="numpy")
def _slope(y, first, last):  # type: ignore[no-untyped-def]
    """The least-squares slope of ``[first, last)``."""
    n = sx = sy = sxx = sxy = 0.0
    for i in range(first, last):
        if y[i] == y[i]:
            x = float(i - first)
            n, sx, sy, sxx, sxy = n + 1.0, sx + x, sy + y[i], sxx + x * x, sxy + x * y[i]
    below = n * sxx - sx * sx
    return (n * sxy - sx * sy) / below if below > 0.0 else 0.0


@njit(nogil=True, error_model="numpy", forceinline=True)
def _ahead(h, phi, slope):  # type: ignore[no-untyped-def]
    """What a damped slope adds in `h` steps."""
    if phi >= 1.0:
        return h * slope
    return slope * phi * (1.0 - phi**h) / (1.0 - phi)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _tame(error, clip, usual, run, side):  # type: ignore[no-untyped-def]
    """An error drawn in, the usual error after it, and how many wild ones in a row there were on which side."""
    if clip <= 0.0:
        return error, usual + 0.05 * (abs(error) - usual), run, side
    most, size = clip * usual, abs(error)
    usual += 0.05 * (min(size, 3.0 * most) - usual)
    if size <= most:
        return error, usual, 0, side
    now = 1.0 if error > 0.0 else -1.0
    return now * most, usual, (run + 1 if now == side and clip > 1.0 else 1), now


@njit(nogil=True, error_model="numpy")
def _draw(sums, value, t, n):  # type: ignore[no-untyped-def]
    """Level and slope at `t` of the line through all points since the last restart; a level while there are fewer than eight."""
    x = t / n
    sums[0] += 1.0
    sums[1] += x
    sums[2] += value
    sums[3] += x * x
    sums[4] += x * value
    m, sx, sy = sums[0], sums[1], sums[2]
    below = m * sums[3] - sx * sx
    slope = (m * sums[4] - sx * sy) / below / n if m >= 8.0 and below > 0.0 else 0.0
    return sy / m + slope * (t - n * sx / m), slope


@njit(_SAID, cache=True, nogil=True, error_model="numpy")
def replay(y, models, restarts, origins, horizons, said, fitted, path):  # type: ignore[no-untyped-def]
    """Let every forecaster read `y` once: robust exponential smoothing with damped trend and season (Gelper, Fried & Croux, J. Forecasting
    2010), or a growing line. None sees a value before it has said something about it.

    Args:
        y: values on a grid; NaN is a gap.
        models: a row of `ALPHA` … `LINE` each.
        restarts: where lines begin anew, ascending.
        origins, horizons: places after which, and steps ahead for which, is asked, ascending.
        said: out, [model, origin, horizon].
        fitted: out, [model, place]: what was said one step before.
        path: out, [model, step]: what is said after the last value.
    """
    n = len(y)
    for k in range(len(models)):
        alpha, beta, phi, gamma = models[k, ALPHA], models[k, BETA], models[k, PHI], models[k, GAMMA]
        period, clip, line = int(models[k, PERIOD]), models[k, CLIP], models[k, LINE] > 0.0
        season, sums = np.zeros(max(period, 1)), np.zeros(5)
        width, at, asked, restart, run, side = len(season), 0, 0, 0, 0, 0.0
        level, usual = _begin(y, period, season)
        slope = _slope(y, 0, min(n, 8)) if phi >= 1.0 and not period else 0.0
        level -= slope * 0.5 * (min(n, 8) + 1)
        for t in range(n):
            level += slope * phi
            slope *= phi
            fitted[k, t] = expected = level + season[at]
            if y[t] == y[t]:
                if line:
                    if restart < len(restarts) and t >= restarts[restart]:
                        restart += 1
                        sums[:] = 0.0
                    level, slope = _draw(sums, y[t], t, n)
                else:
                    tame, usual, run, side = _tame(y[t] - expected, clip, usual, run, side)
                    if run >= _RUN:
                        level, run = y[t] - season[at], 0
                    else:
                        level, slope = level + alpha * tame, slope + beta * tame
                        season[at] += gamma * (1.0 - alpha) * tame if period else 0.0
            at = at + 1 if at + 1 < width else 0
            if asked < len(origins) and origins[asked] == t:
                for j in range(len(horizons)):
                    said[k, asked, j] = level + _ahead(horizons[j], phi, slope) + season[(t + horizons[j]) % width]
                asked += 1
        for h in range(1, path.shape[1] + 1):
            path[k, h - 1] = level + _ahead(h, phi, slope) + season[(n - 1 + h) % width]
