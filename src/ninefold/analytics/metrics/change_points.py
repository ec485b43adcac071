"""When a series changed for good: its level, its slope or its spread, in history and while it happens.

In history: the daily and weekly profile is taken off, single wild values are drawn in (Hampel), neighbours' dependence is taken off by
the robust AR(1) of Chakar et al. (Bernoulli 2017), and the rest is cut exactly by PELT (Killick, Fearnhead & Eckley 2012) under the
modified BIC (Zhang & Siegmund 2007), in units of a noise that counts what dependence is left. Levels and lines both are tried and the
cheaper is believed. Spread is cut the same way in the residuals' roots. The interval of an onset holds every place whose likelihood ratio
is within the 95 % of the two-sided walk (1 - sqrt(0.95) on each side). While it happens: `onset`, the one-change posterior at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from scipy.ndimage import median_filter

from ninefold.analytics import warm
from ninefold.analytics.metrics.seasons import grid, seasonal_part

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
Kind = Literal["level", "slope", "spread"]

MOST = 2000
"""So many points are cut; a longer series is first averaged to so many, and its onsets sought again among its own points."""
_LEAST, _FEWEST = 5, 20
_WITHIN = -2.0 * math.log(1.0 - math.sqrt(0.95))
_HAMPEL = 3.0
_PHI = 0.99
_NEAR = 61


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """One lasting change.

    Attributes:
        time: ns, the first point after it; `earliest` and `latest` enclose it with 95 %.
        kind: level, slope or spread.
        before, after: level: the values; slope: the rise an hour; spread: the standard deviation.
        size: ``after - before``; of a spread the ratio.
        spreads: the size in standard deviations of the points around it; of a spread the binary logarithm of the ratio.
        confidence: how much likelier the change is than none, 0.5 to 1.
    """

    time: int
    earliest: int
    latest: int
    kind: Kind
    before: float
    after: float
    size: float
    spreads: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Onset:
    """Since when the end of a series is elsewhere: place and its 95 % interval (positions), the shift in standard deviations of what was
    before, and how likely there was a change at all (0 to 1)."""

    place: int
    earliest: int
    latest: int
    shift: float
    confidence: float


def change_points(times: I64, values: F64, *, deseason: bool = True, most: int = MOST) -> list[ChangePoint]:
    """All lasting changes of a series, in order of time. Deterministic; scaling and shifting the values changes nothing but the sizes.

    Args:
        times: ns, ascending.
        values: NaN is left out; of a counter give the rate.
        most: into how many points a longer series is drawn together at first.
        deseason: take off the profile of day and week where it explains enough.
    """
    kept = np.isfinite(values)
    times, values = np.asarray(times)[kept], np.asarray(values, np.float64)[kept]
    if len(values) < _FEWEST or values.min() == values.max():
        return []
    scale = float(np.median(np.abs(values - np.median(values)))) or float(np.abs(values - values.mean()).max())
    coarse = grid(times, values, most)
    plain = (values - np.median(values)) / scale
    if len(values) > most:
        inside = np.isfinite(coarse.values)
        at, x = coarse.times[inside], (coarse.values[inside] - np.median(values)) / scale
    else:
        at, x = times, plain
    if deseason:
        part, _ = seasonal_part((coarse.values - np.median(values)) / scale, coarse.step_s)
        cells = (at - coarse.start) // (coarse.step_s * 1_000_000_000)
        x = x - part[np.clip(cells, 0, len(part) - 1)]
        cells = (times - coarse.start) // (coarse.step_s * 1_000_000_000)
        plain = plain - part[np.clip(cells, 0, len(part) - 1)]
    found = _cut(at, x)
    if len(values) > most:
        found = [_refined(change, times, plain, coarse.step_s * 1_000_000_000) for change in found]
    middle = float(np.median(values))
    return [_rescaled(change, scale, middle) for change in found]


def onset(values: F64, quiet: int = 0) -> Onset | None:
    """Since when a running shift lasts: the place of one change of level in `values`, by its posterior under a flat prior
    (Bayesian on-line detection of Adams & MacKay 2007, restricted to one change that is not over yet).

    Args:
        values: in order of time, the shift at the end; NaN is passed over.
        quiet: the first so many are known to be from before it.

    Returns:
        None when there are fewer than eight values.
    """
    places = np.flatnonzero(np.isfinite(values))
    x = np.asarray(values, np.float64)[places]
    n = len(x)
    if n < 8:
        return None
    low = max(3, int(np.searchsorted(places, quiet)))
    if low > n - 1:
        return None
    noise = _noise(_drawn_in(x))
    if noise <= 0.0:
        noise = 1e-9 * max(1.0, float(np.abs(x).max()))
    x = x / noise
    centre = float(np.median(x[:low]))
    x = np.clip(x - centre, -1e6, 1e6)
    # Beyond so many spreads a value says no more: one wild value must not be a shift.
    reach = max(8.0, float(np.median(np.abs(x[-min(n, 5) :]))))
    x = np.clip(x, -reach, reach)
    sums = np.cumsum(x)
    cuts = np.arange(low, n)
    left, right = sums[cuts - 1] / cuts, (sums[-1] - sums[cuts - 1]) / (n - cuts)
    gain = cuts * (n - cuts) / n * (right - left) ** 2
    best = int(gain.argmax())
    chance = np.exp(0.5 * (gain - gain[best]))
    near = np.flatnonzero(gain >= gain[best] - _WITHIN)
    odds = 0.5 * (gain[best] - 2.0 * math.log(n)) + math.log(chance.sum() / len(cuts)) + 0.5 * math.log(n)
    return Onset(
        int(places[cuts[best]]), int(places[cuts[near[0]]]), int(places[cuts[near[-1]]]), float(right[best] - left[best]), _sure(odds)
    )


def _sure(odds: float) -> float:
    """A probability from the logarithm of its odds."""
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, odds))))


def _drawn_in(x: F64) -> F64:
    """Values no further than three spreads from the median of their neighbours."""
    near = median_filter(x, min(7, len(x) | 1), mode="nearest")
    away = np.abs(x - near)
    local = median_filter(away, min(_NEAR, len(x) | 1), mode="nearest")
    spread = 1.4826 * np.maximum(local, float(np.median(away)))
    spread = np.where(spread > 0.0, spread, max(float(away.mean()), 1e-300))
    return np.clip(x, near - _HAMPEL * spread, near + _HAMPEL * spread)


def _dependence(x: F64) -> float:
    """The AR(1) coefficient from differences, which changes of level hardly touch; 0 where values mostly repeat."""
    one, two = float(np.median(np.abs(x[1:] - x[:-1]))), float(np.median(np.abs(x[2:] - x[:-2])))
    return min(max((two / one) ** 2 - 1.0, 0.0), _PHI) if one > 0.0 else 0.0


def _noise(x: F64) -> float:
    """The standard deviation that means of `x` behave as if they had (its long-run one), from differences of means of neighbouring blocks
    of 1 to n/16 values; changes are few among them. Never less than a third of the smallest step of the values.
    """
    found, width = 0.0, 1
    while width == 1 or len(x) // width >= 16:
        means = x[: len(x) // width * width].reshape(-1, width).mean(axis=1)
        steps = np.diff(means)
        size = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) * math.sqrt(width / 2.0)
        found, width = max(found, size), 2 * width
    steps = np.abs(np.diff(x))
    steps = steps[steps > 0.0]
    if found == 0.0 and len(steps):
        found = float(np.sqrt(np.mean(np.minimum(np.abs(np.diff(x)), np.median(steps)) ** 2) / 2.0))
    return max(found, float(steps.min()) / 3.0 if len(steps) else 0.0)


def _ends(begins: I64, n: int) -> list[int]:
    """Where pieces begin, without the first."""
    found, at = [], int(begins[n])
    while at > 0:
        found.append(at)
        at = int(begins[at])
    return found[::-1]


def _cut(times: I64, x: F64) -> list[ChangePoint]:
    """Changes of level, slope and spread of a clean-scaled series."""
    cut = warm.loops("metrics.segmenting").cut
    n, log = len(x), math.log(len(x))
    tame = _drawn_in(x)
    phi = _dependence(tame)
    apart = phi > 0.0
    spreads, weight = _spreads(times, x, phi)
    white = np.concatenate((tame[:1] * (1.0 - phi), tame[1:] - phi * tame[:-1]))
    white = (white - np.median(white)) / weight
    noise = _noise(white)
    if noise <= 0.0:
        return []
    unit, penalty, linear = white / noise, 3.0 * log, False
    cost, begins = cut(unit, False, apart, _LEAST, penalty)
    if begins[n] > 0:  # lines are dearer than one level, so they are tried only where one level is not enough
        line_cost, lines = cut(unit, True, apart, _LEAST, 4.0 * log)
        if line_cost + log < cost:
            begins, penalty, linear = lines, 4.0 * log, True
    places = _ends(begins, n)
    edges = [0, *places, n]
    found = [_described(times, x, tame, unit, edges[i : i + 3], linear, penalty, apart) for i in range(len(places))]
    strong = [place for place, change in zip(places, found, strict=True) if abs(change.spreads) > 3.0]
    apart_from = [change for place, change in spreads if all(abs(place - other) > 2 * _LEAST for other in strong)]
    return sorted(found + apart_from, key=lambda change: (change.time, change.kind))


def _lines(x: F64, first: int, last: int, linear: bool) -> tuple[float, float]:
    """Level at `first` and slope a point of a piece."""
    piece = x[first:last]
    if not linear or len(piece) < 3:
        return float(np.median(piece)), 0.0
    k = np.arange(len(piece)) - (len(piece) - 1) / 2.0
    slope = float((k * piece).sum() / (k * k).sum())
    return float(piece.mean()) - slope * (len(piece) - 1) / 2.0, slope


def _squares(sums: F64, first: I64 | int, last: I64 | int, linear: bool) -> F64:
    """What pieces ``[first, last)`` leave; see `segmenting.cut`."""
    count = np.maximum(np.asarray(last) - first, 1)
    total = sums[last, 0] - sums[first, 0]
    left = sums[last, 1] - sums[first, 1] - total**2 / count
    if linear:
        moment = sums[last, 2] - sums[first, 2] - 0.5 * (np.asarray(first) + last - 1) * total
        left = left - np.where(count > 2, 12.0 * moment**2 / np.maximum(count * (count**2 - 1.0), 1.0), 0.0)
    out: F64 = np.maximum(left, 0.0)
    return out


def _gains(unit: F64, begin: int, end: int, linear: bool, apart: bool) -> tuple[I64, F64]:
    """Every place between two neighbours where a cut may be, and what it takes off the squares there."""
    piece = unit[begin:end]
    k = np.arange(len(piece), dtype=np.float64)
    sums = np.zeros((len(piece) + 1, 3))
    sums[1:] = np.cumsum(np.stack((piece, piece**2, piece * k), axis=1), axis=0)
    cuts = np.arange(3, len(piece) - 2)
    skip = 1 if apart else 0
    whole = _squares(sums, 0, len(piece), linear)
    split = _squares(sums, 0, cuts, linear) + _squares(sums, np.minimum(cuts + skip, len(piece)), len(piece), linear)
    return begin + cuts, whole - split


def _described(
    times: I64, x: F64, tame: F64, unit: F64, edges: list[int], linear: bool, penalty: float, apart: bool
) -> ChangePoint:  # fmt: skip
    """A cut of level or slope with its interval, size and confidence."""
    begin, place, end = edges
    cuts, gains = _gains(unit, begin, end, linear, apart)
    best = gains[cuts == place][0] if (cuts == place).any() else gains.max(initial=penalty)
    near = cuts[gains >= best - _WITHIN]
    earliest, latest = (int(near[0]), int(near[-1])) if len(near) else (place, place)
    (a, slope_a), (b, slope_b) = _lines(tame, begin, place, linear), _lines(tame, place, end, linear)
    ends_at = a + slope_a * (place - begin)
    rest = np.concatenate((x[begin:place] - a - slope_a * np.arange(place - begin), x[place:end] - b - slope_b * np.arange(end - place)))
    spread = max(1.4826 * float(np.median(np.abs(rest))), float(np.abs(rest).mean()), _noise(tame))
    jump, bend = b - ends_at, (slope_b - slope_a) * min(place - begin, end - place)
    kind: Kind = "slope" if linear and abs(bend) > abs(jump) else "level"
    sure = _sure(0.5 * (best - penalty) if len(gains) else 0.0)
    edge = [int(times[max(earliest - 1, 0)]), int(times[place]), int(times[min(latest, len(times) - 1)])]
    if kind == "slope":
        hour = 3.6e12 / max(float(np.median(np.diff(times))), 1.0)
        before, after, spreads = slope_a * hour, slope_b * hour, bend / spread
    else:
        before, after, spreads = (ends_at, b, jump / spread) if linear else (a, b, (b - a) / spread)
    return ChangePoint(edge[1], min(edge[0], edge[1]), max(edge[2], edge[1]), kind, before, after, after - before, spreads, max(sure, 0.5))


def _spreads(times: I64, x: F64, phi: float) -> tuple[list[tuple[int, ChangePoint]], F64]:
    """Changes of spread by place, and the spread at each point relative to the others': cuts in the mean of the root of what is left about
    a running median, which is nearly normal. Changes of level are short there, and wild values are drawn in.
    """
    n = len(x)
    rest = x.copy()
    rest[1:] -= phi * x[:-1]
    rest -= median_filter(rest, min(_NEAR, n | 1), mode="nearest")
    root, weight = _drawn_in(np.sqrt(np.abs(rest))), np.ones(n)
    noise = _noise(root)
    if noise <= 0.0:
        return [], weight
    unit, penalty = (root - np.median(root)) / noise, 3.0 * math.log(n)
    _, begins = warm.loops("metrics.segmenting").cut(unit, False, False, 2 * _LEAST, penalty)
    own = _ends(begins, n)
    found, edges = [], [0, *own, n]
    sizes = [1.2533 * float(np.abs(rest[a:b]).mean()) for a, b in pairwise(edges)]
    if min(sizes) <= 0.0:  # it stands still for a while: no measure of spread
        return [], weight
    for i, place in enumerate(own):
        change = _described(times, root, root, unit, edges[i : i + 3], False, penalty, False)
        ratio = sizes[i + 1] / sizes[i]
        change = replace(change, kind="spread", before=sizes[i], after=sizes[i + 1], size=ratio, spreads=math.log2(ratio))
        found.append((place, change))
    weight = np.repeat(sizes, np.diff(edges))
    return found, weight / float(np.median(weight))


def _refined(change: ChangePoint, times: I64, x: F64, width: int) -> ChangePoint:
    """A change of averages sought again among the points themselves, within two cells about its interval."""
    begin, end = np.searchsorted(times, (change.earliest - 2 * width, change.latest + 3 * width)).tolist()
    if change.kind == "spread" or end - begin < 4 * _LEAST:
        return change
    piece = _drawn_in(x[begin:end])
    noise = _noise(piece)
    if noise <= 0.0:
        return change
    cuts, gains = _gains((piece - np.median(piece)) / noise, 0, end - begin, False, False)
    best = int(gains.argmax())
    near = begin + cuts[gains >= gains[best] - _WITHIN]
    at = begin + int(cuts[best])
    return replace(change, time=int(times[at]), earliest=int(times[max(near[0] - 1, 0)]), latest=int(times[near[-1]]))


def _rescaled(change: ChangePoint, scale: float, middle: float) -> ChangePoint:
    """A change in the units of the series."""
    if change.kind == "spread":
        return replace(change, before=change.before * scale, after=change.after * scale)
    shift = middle if change.kind == "level" else 0.0
    return replace(change, before=change.before * scale + shift, after=change.after * scale + shift, size=change.size * scale)
