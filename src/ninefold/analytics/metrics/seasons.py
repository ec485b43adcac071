"""A series on a regular grid, and the day's and the week's profile in it, where they explain something."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ninefold.ground.clock import SECOND

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

_STEPS_S = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
DAY_S, WEEK_S = 86400, 7 * 86400
_GAIN = 0.15
"""A profile must take this share off what the level alone leaves, measured on periods it has not seen."""


class Grid(NamedTuple):
    """Values at equal distances; NaN where nothing was measured.

    Attributes:
        start: ns, the beginning of the first cell.
        step_s: the width of a cell.
        values: means of the cells.
    """

    start: int
    step_s: int
    values: F64

    @property
    def times(self) -> I64:
        """The cells' beginnings in ns."""
        return self.start + np.arange(len(self.values), dtype=np.int64) * (self.step_s * SECOND)


def grid(times: I64, values: F64, most: int, step_s: int = 0) -> Grid:
    """Means over cells of a round width, at most `most` of them, none narrower than the usual distance of two points.

    Args:
        times: ns, ascending, at least one.
        values: NaN is left out.
        most: how many cells at most.
        step_s: the least width; 0 takes the usual distance.
    """
    kept = np.isfinite(values)
    times, values = times[kept], values[kept]
    if not len(times):
        return Grid(0, step_s or 60, np.empty(0))
    usual = float(np.median(np.diff(times))) / SECOND if len(times) > 1 else 60.0
    wanted = max(step_s, 0.9 * usual, (int(times[-1]) - int(times[0])) / SECOND / most)
    step = next((s for s in _STEPS_S if s >= wanted), int(-(-wanted // DAY_S) * DAY_S))
    cell = times // (step * SECOND)
    at = cell - cell[0]
    counts = np.bincount(at)
    with np.errstate(invalid="ignore"):
        means = np.bincount(at, values) / counts
    return Grid(int(cell[0]) * step * SECOND, step, means)


def profile(values: F64, period: int) -> F64 | None:
    """The repeating part of a regular series, mean zero, `period` values long and beginning with the series; None when it explains too
    little: its gain is measured on each period with the profile of the others, so two periods (more than half known) are the least.
    """
    whole = len(values) // period
    if whole < 2 or period < 4:
        return None
    table = values[len(values) - whole * period :].reshape(whole, period)
    full = np.flatnonzero(np.isfinite(table).mean(axis=1) >= 0.5)
    if len(full) < 2:
        return None
    table = table[full]
    known = np.isfinite(table)
    middles = np.nanmedian(table, axis=1, keepdims=True)
    slope = float(np.median(np.diff(middles[:, 0]) / np.diff(full))) / period  # so that a trend is no sawtooth, and a new level no trend
    centred = table - middles - slope * (np.arange(period) - 0.5 * (period - 1))
    size = np.abs(centred[known])
    most = max(6.0 * float(np.median(size)), float(np.quantile(size, 0.95)))
    tame = np.where(known, np.clip(centred, -most, most), 0.0)
    kernel = max(1, min(period // 48, period // (12 * len(full))))
    seen = _smooth(known.sum(axis=0).astype(np.float64), kernel)
    total = _smooth(tame.sum(axis=0), kernel)
    one = _smooth(tame, kernel)
    of_one = _smooth(known.astype(np.float64), kernel)
    others = (total - one) / np.maximum(seen - of_one, 1e-9)
    before, after = np.abs(tame[known]).sum(), np.abs((tame - others)[known]).sum()
    if before <= 0.0 or after > (1.0 - _GAIN) * before:
        return None
    found = total / np.maximum(seen, 1e-9)
    found -= found.mean()
    return np.roll(found, len(values) - whole * period)


def _smooth(rows: F64, width: int) -> F64:
    """Circular means over `width` neighbours (made odd) along the last axis."""
    half = width // 2
    if not half:
        return rows
    padded = np.concatenate((rows[..., -half:], rows, rows[..., :half]), axis=-1)
    sums = np.cumsum(padded, axis=-1)
    sums = np.concatenate((np.zeros((*rows.shape[:-1], 1)), sums), axis=-1)
    window = 2 * half + 1
    return (sums[..., window:] - sums[..., :-window]) / window


def seasonal_part(values: F64, step_s: int) -> tuple[F64, list[int]]:
    """What repeats by day and by week in a regular series, at each of its points; and the periods (in points) that were adopted."""
    part, adopted = np.zeros(len(values)), []
    for span in (DAY_S, WEEK_S):
        if span % step_s or span // step_s < 4:
            continue
        found = profile(values - part, span // step_s)
        if found is not None:
            part += np.resize(found, len(values))
            adopted.append(span // step_s)
    return part, adopted
