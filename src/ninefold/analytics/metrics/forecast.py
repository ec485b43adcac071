"""What a series will be: trend, day and week, with intervals whose coverage is measured, and when it meets a threshold.

A few dozen small forecasters (naive, robust exponential smoothing with damped trend and season, seasonal naive, a line since the last
change) read the series once; at up to `_ORIGINS` places each says what comes, and never sees it before. For each horizon the better ones
are averaged by their past errors; the errors of that average give the intervals (conformal prediction with weights for age: Barber et al.,
Annals of Statistics 2023). Nothing is fitted to a distribution and nothing is set by hand for a series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from ninefold.analytics import warm
from ninefold.analytics.metrics.change_points import change_points
from ninefold.analytics.metrics.seasons import WEEK_S, grid, seasonal_part
from ninefold.ground.clock import SECOND

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

FEWEST, MOST = 20, 10_000
"""Points that are needed, and that are kept at most: a year of hours."""
LEVELS = (0.8, 0.95)
_ORIGINS, _HORIZONS = 200, 20
_POWER, _FADE = 6.0, 1.5
_POOLED = 2
_CHANGES_FROM = 400
_PLAIN = ((0.5, 3), (0.2, 3), (0.07, 3), (0.02, 3), (0.005, 3), (0.5, 0.3), (0.1, 0.3))
_TRENDS = ((0.5, 0.05, 0.9), (0.3, 0.02, 0.98), (0.3, 0.01, 1.0), (0.1, 0.002, 1.0), (1.0, 0.002, 1.0))
_SEASONAL = (
    (0.5, 0, 0.3, 3), (0.1, 0, 0.3, 3), (0.1, 0, 0.1, 3), (0.02, 0, 0.3, 3), (0.02, 0, 0.1, 3), (0.003, 0, 0.2, 3), (0.05, 5e-4, 0.2, 3),
    (0.05, 0, 0.2, 0.3),
)  # fmt: skip
"""The forecasters beside the last value, a line since the last change and the same time a day or a week before: gains of level (and trend,
season), damping, and after how many usual errors an error is drawn in: after so few as 0.3 a level is nearly a median, as counts that are
mostly zero need."""


class Window(NamedTuple):
    """A time with its own laws (holiday, maintenance, incident): left out of learning. A future one gets what past ones of its label did.

    Attributes:
        begin, end: ns.
        label: windows of one label are alike; "" means that nothing of it comes again.
    """

    begin: int
    end: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected. All arrays have one element a step.

    Attributes:
        times: ns, the middle of each step ahead.
        centre: the expected value.
        lower, upper: the bounds by `LEVELS`, ``[level, step]``.
        model: what had the most say, in words.
        trained_from: ns: since when the series has been as it is now.
        step_s: the width of a step.
        last: the last value known, and `last_time` its step's middle.
        error: mean absolute error at each step that the same forecasters made in the past, `naive` that of the last value.
    """

    times: I64
    centre: F64
    lower: F64
    upper: F64
    model: str
    trained_from: int
    step_s: int
    last: float
    last_time: int
    error: F64
    naive: F64

    def at(self, time: int) -> tuple[float, F64, F64] | None:
        """Centre, lower and upper bounds (by level) at a time (ns); None beyond what was foretold."""
        place = round((time - int(self.times[0])) / (self.step_s * SECOND))
        if not 0 <= place < len(self.times):
            return None
        return float(self.centre[place]), self.lower[:, place], self.upper[:, place]

    def within(self, low: float, high: float) -> Forecast:
        """The same within bounds that the values cannot leave."""
        centre, lower, upper = (np.clip(part, low, high) for part in (self.centre, self.lower, self.upper))
        return replace(self, centre=centre, lower=lower, upper=upper)


@dataclass(frozen=True, slots=True)
class Breach:
    """When a threshold is met (ns; None: not within what was foretold): `earliest` and `latest` by the bounds of 80 %, `likely` by the
    centre; `chance` is the probability that it is met by the end of the forecast.
    """

    earliest: int | None
    likely: int | None
    latest: int | None
    chance: float


class _Learned(NamedTuple):
    """Forecasters with their weights by horizon, what their average got wrong (by origin and horizon, with a weight for the age of each
    origin), the mean size of that and of the last value's errors by horizon, and over how many places the origins are spread."""

    names: list[str]
    horizons: I64
    weights: F64
    errors: F64
    ages: F64
    size: F64
    naive: F64
    span: int


def forecast(
    times: I64, values: F64, horizon_s: float, *, most: int = MOST, step_s: int = 0, windows: Sequence[Window] = ()
) -> Forecast | None:  # fmt: skip
    """Forecast a series; None when it has fewer than `FEWEST` points. Scaling and shifting the values scales and shifts the forecast.

    Args:
        times: ns, ascending.
        values: NaN is left out.
        horizon_s: how far ahead.
        most: into how many steps the past is drawn together at most.
        step_s: the least width of a step.
        windows: what to leave out, and what is known to come.
    """
    past = grid(times, values, most, step_s)
    y = past.values.copy()
    if np.isfinite(y).sum() < FEWEST:
        return None
    shut = _shut(past.times, past.step_s, windows)
    y[shut] = np.nan
    if np.isfinite(y).sum() < FEWEST:
        return None
    middle = float(np.nanmedian(y))
    scale = float(np.nanmedian(np.abs(y - middle))) or float(np.nanmean(np.abs(y - middle))) or 1.0
    y = (y - middle) / scale
    steps = max(1, math.ceil(horizon_s / past.step_s))
    periods = [p for p in seasonal_part(y, past.step_s)[1] if len(y) >= 2.25 * p]
    changes, since = _changes(past.times, y)
    learned, path, fitted = _learn(y, changes, periods, past.step_s, steps)
    share = _spread_over(learned.horizons, learned.weights, steps)
    centre = (share * path).sum(axis=0)
    lower, upper = _bands(learned, steps)
    ahead = past.times[-1] + (np.arange(1, steps + 1) * past.step_s + past.step_s // 2) * SECOND
    lift = _effects(past.times, past.step_s, (past.values - middle) / scale, fitted[int(learned.weights[:, 0].argmax())], windows, ahead)
    centre = centre + lift
    out = [middle + scale * part for part in (centre, centre + lower, centre + upper)]
    known = np.flatnonzero(np.isfinite(y))
    last = middle + scale * float(y[known[-1]])
    return Forecast(
        ahead, out[0], out[1], out[2], learned.names[int(learned.weights.mean(axis=1).argmax())], int(past.times[since]), past.step_s, last,
        int(past.times[known[-1]]) + past.step_s * SECOND // 2, _along(learned.horizons, learned.size * scale, steps),
        _along(learned.horizons, learned.naive * scale, steps),
    )  # fmt: skip


def breach(found: Forecast, threshold: float, *, above: bool = True) -> Breach:
    """When a forecast meets a threshold from below (`above`) or from above."""
    sign = 1.0 if above else -1.0
    centre, limit = sign * found.centre, sign * threshold
    near, far = (found.upper[0], found.lower[0]) if above else (-found.lower[0], -found.upper[0])
    half = np.maximum(near - centre, 1e-12 * max(1.0, abs(limit)))
    chance = float(ndtr((centre - limit) / (half / ndtri(0.5 + LEVELS[0] / 2))).max())

    def first(line: F64) -> int | None:
        hit = line >= limit
        return int(found.times[hit.argmax()]) if hit.any() else None

    return Breach(first(near), first(centre), first(far), chance)


def natural_bounds(unit: str, values: F64) -> tuple[float, float]:
    """What a series cannot leave, by its unit and what it has been: percent stay in 0..100, shares in 0..1, what was never negative so."""
    low, high = (float(np.nanmin(values)), float(np.nanmax(values))) if np.isfinite(values).any() else (-math.inf, math.inf)
    top = 100.0 if unit == "%" and high <= 100.0 else math.inf
    return (0.0 if low >= 0.0 else -math.inf), top


def _shut(times: I64, step_s: int, windows: Sequence[Window]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    shut = np.zeros(len(times), np.bool_)
    for window in windows:
        shut |= (times + step_s * SECOND > window.begin) & (times < window.end)
    return shut


def _changes(times: I64, y: F64) -> tuple[I64, int]:
    """Where lines begin anew, and where the last stretch begins."""
    inside = np.isfinite(y)
    found = [c for c in change_points(times[inside], y[inside], most=_CHANGES_FROM) if c.kind != "spread" and c.confidence > 0.9]
    places = np.searchsorted(times, [c.time for c in found]).astype(np.int64)
    places = places[places <= len(y) - 8]
    return places, int(places[-1]) if len(places) else 0


def _forecasters(periods: Sequence[int], step_s: float) -> tuple[F64, list[str]]:
    """Rows for `smoothing.replay`, and a word for each."""
    rows: list[tuple[float, ...]] = [(1.0, 0, 1, 0, 0, 0, 0), *((alpha, 0, 1, 0, 0, clip, 0) for alpha, clip in _PLAIN)]
    names = ["last value", *("level" for _ in _PLAIN)]
    for alpha, beta, phi in _TRENDS:
        rows.append((alpha, beta, phi, 0, 0, 3, 0))
        names.append("damped trend" if phi < 1 else "trend")
    rows.append((0, 0, 1, 0, 0, 0, 1))
    names.append("line since the last change")
    for period in periods:
        word = "week" if period * step_s >= WEEK_S else "day"
        rows.append((0, 0, 1, 1, period, 0, 0))
        names.append(f"the {word} before")
        for alpha, beta, gamma, clip in _SEASONAL:
            rows.append((alpha, beta, 1.0, gamma, period, clip, 0))
            names.append(f"{'trend' if beta else 'level'} and {word}")
    return np.array(rows), names


def _learn(y: F64, changes: I64, periods: Sequence[int], step_s: float, steps: int) -> tuple[_Learned, F64, F64]:
    """Run the forecasters; how they are averaged and what that got wrong, what each says will come, and what each said one step before."""
    models, names = _forecasters(periods, step_s)
    n = len(y)
    begin = max(8, 2 * max(periods, default=0), n // 4)
    reach = max(1, min(steps, (n - 1 - begin) * 2 // 3))
    horizons = np.unique(np.round(np.geomspace(1, reach, _HORIZONS)).astype(np.int64))
    origins = np.unique(np.linspace(begin - 1, n - 2, min(_ORIGINS, n - begin)).astype(np.int64))
    said = np.empty((len(models), len(origins), len(horizons)))
    fitted, path = np.empty((len(models), n)), np.empty((len(models), steps))
    warm.loops("metrics.smoothing").replay(np.ascontiguousarray(y), models, changes, origins, horizons, said, fitted, path)
    places = origins[:, None] + horizons
    truth = np.where(places < n, y[np.minimum(places, n - 1)], np.nan)
    age = np.exp(-_FADE * (n - 1 - origins) / (n - begin))
    errors = np.abs(said - truth)
    seen = np.isfinite(truth) * age[:, None]
    weights = _weights(np.where(np.isfinite(errors), errors, 0.0), seen)
    rest = truth - (weights[:, None, :] * said).sum(axis=0)
    size, naive = (
        (np.where(np.isfinite(error), error, 0.0) * seen).sum(axis=0) / np.maximum(seen.sum(axis=0), 1e-12)
        for error in (np.abs(rest), errors[0])
    )
    return _Learned(names, horizons, weights, rest, age, size + 1e-12, naive, n - begin), path, fitted


def _weights(errors: F64, seen: F64) -> F64:
    """Shares of the forecasters by horizon, ``[model, horizon]``: a power of their mean errors, smoothed over neighbouring horizons."""
    mean = (errors * seen).sum(axis=1) / np.maximum(seen.sum(axis=0), 1e-12)
    score = np.log(mean + 1e-9)
    padded = np.concatenate((score[:, :1], score, score[:, -1:]), axis=1)
    score = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3.0
    share = np.exp(-_POWER * (score - score.min(axis=0)))
    out: F64 = share / share.sum(axis=0)
    return out


def _bands(learned: _Learned, steps: int) -> tuple[F64, F64]:
    """Bounds about the centre, ``[level, step]``: weighted quantiles of past errors, at neighbouring horizons scaled to this one; wider
    where few errors do not overlap, as Student's quantiles are wider than normal ones."""
    rest, horizons = learned.errors, learned.horizons
    seen = np.isfinite(rest)
    flat = np.where(seen, rest, 0.0)
    weight = seen * learned.ages[:, None]
    size = learned.size
    low, high = np.empty((len(LEVELS), len(horizons))), np.empty((len(LEVELS), len(horizons)))
    levels = np.array(LEVELS)
    ends = 0.5 + levels / 2
    for j in range(len(horizons)):
        near = slice(max(0, j - _POOLED), j + _POOLED + 1)
        pool = (flat[:, near] / size[near])[seen[:, near]]
        shares = weight[:, near][seen[:, near]]
        alone = max(2.0, learned.span / float(horizons[j]))
        own = min(1.0, alone / 30.0)
        wider = stdtrit(alone, ends) / ndtri(ends) * size[j]
        both = _quantiles(np.abs(pool), shares, levels)
        low[:, j] = wider * (own * np.minimum(_quantiles(pool, shares, 1 - ends), 0.0) - (1 - own) * both)
        high[:, j] = wider * (own * np.maximum(_quantiles(pool, shares, ends), 0.0) + (1 - own) * both)
    return _along(horizons, low, steps), _along(horizons, high, steps)


def _quantiles(values: F64, shares: F64, q: F64) -> F64:
    """Weighted quantiles; 0 of nothing."""
    if not len(values):
        return np.zeros(len(q))
    order = np.argsort(values)
    total = np.cumsum(shares[order])
    out: F64 = values[order[np.minimum(np.searchsorted(total, q * total[-1]), len(values) - 1)]]
    return out


def _spread_over(horizons: I64, weights: F64, steps: int) -> F64:
    """Shares at every step, between those of the horizons that were measured."""
    at = np.interp(np.log(np.arange(1, steps + 1)), np.log(horizons), np.arange(len(horizons), dtype=np.float64))
    before = np.minimum(at.astype(np.int64), max(len(horizons) - 2, 0))
    after = np.minimum(before + 1, len(horizons) - 1)
    rest = at - before
    out: F64 = weights[:, before] * (1.0 - rest) + weights[:, after] * rest
    return out


def _along(horizons: I64, sizes: F64, steps: int) -> F64:
    """Sizes of errors at every step; beyond the last horizon they grow on as they did over its second half, at least as a random walk."""
    rows = np.atleast_2d(sizes)
    h, known = np.log(np.arange(1, steps + 1)), np.log(horizons)
    out = np.stack([np.interp(h, known, row) for row in rows])
    if steps > horizons[-1]:
        half = np.abs(rows[:, int(np.searchsorted(horizons, horizons[-1] / 2, side="left"))])
        last, ratio = np.abs(rows[:, -1]), max(float(horizons[-1]) / max(1.0, horizons[-1] / 2), 1.5)
        growth = np.clip(np.log(np.maximum(last, 1e-300) / np.maximum(half, 1e-300)) / math.log(ratio), 0.5, 1.0)
        beyond = np.maximum(h - known[-1], 0.0)
        out = out * np.exp(growth[:, None] * beyond)
    return out[0] if sizes.ndim == 1 else out


def _effects(times: I64, step_s: int, y: F64, fitted: F64, windows: Sequence[Window], ahead: I64) -> F64:
    """What windows that are still to come will add: what past ones of their label added to what was expected."""
    lift = np.zeros(len(ahead))
    for label in {window.label for window in windows if window.label and window.end > ahead[0] - step_s * SECOND}:
        alike = [window for window in windows if window.label == label]
        past = _shut(times, step_s, alike) & np.isfinite(y)
        if past.sum() >= 3:
            lift[_shut(ahead - step_s * SECOND // 2, step_s, alike)] = float(np.median((y - fitted)[past]))
    return lift
