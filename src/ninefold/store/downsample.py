"""A line's points for drawing: fewer that look the same, or one for each step of a grid.

Of fewer points every extreme survives (the M4 idea of Jugel et al., VLDB 2014, with two per bucket). On a grid it is said which
points were measured; between two measurements that follow one another the others are interpolated, and a gap stays a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
_GAP = 1.5
"""Two measurements follow one another when they are at most so many of the usual distances apart."""


def pick(times: I64, low: F64, points: int, high: F64 | None = None) -> I64:
    """Which of a line's points to draw: of each of ``points / 2`` equal spans of time the lowest and the highest, and both ends.

    Args:
        times: ns, ascending.
        low: NaN where there is no value; such points are chosen only when a span has nothing else.
        points: about how many to choose, at least 4.
        high: when points stand for spans, the highest values in them, `low` being the lowest.

    Returns:
        Ascending positions, at most `points`; all of them when there are no more.
    """
    count = len(times)
    if count <= points:
        return np.arange(count)
    spans = max(1, (points - 2) // 2)
    width = (times[-1] - times[0]) // spans + 1
    span = (times - times[0]) // width
    starts = np.flatnonzero(np.diff(span, prepend=-1))
    lowest = _least(np.nan_to_num(low, nan=np.inf), starts)
    highest = _least(-np.nan_to_num(low if high is None else high, nan=-np.inf), starts)
    return np.unique(np.concatenate(([0, count - 1], lowest, highest)))


def _least(values: F64, starts: I64) -> I64:
    """Where the least value is in each of the pieces that begin at `starts`, the first of equal ones."""
    least = np.repeat(np.minimum.reduceat(values, starts), np.diff(starts, append=len(values)))
    hits = np.flatnonzero(values == least)
    piece = np.searchsorted(starts, hits, side="right")
    return hits[np.diff(piece, prepend=0) > 0]


def usual_distance(times: I64) -> float:
    """The median distance (ns) of neighbours, 0 when there are none."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def on_grid(times: I64, lines: Sequence[F64], low: F64, high: F64, counts: I64, step: int) -> tuple[I64, list[F64], F64, F64, Bools]:
    """One point for each `step` (ns) from the first to the last of `times`.

    Args:
        times: ns, ascending, at least one.
        lines: values at these times; NaN where there is none.
        low, high: the extremes at these times.
        counts: how many samples each point stands for.
        step: the grid's; its points are whole multiples.

    Returns:
        The grid; the lines on it (means over the samples within a step, else interpolated, NaN in gaps); the extremes; and whether anything
        was measured within each step.
    """
    cell = times // step
    starts = np.flatnonzero(np.diff(cell, prepend=cell[0] - 1))
    grid = np.arange(cell[0], cell[-1] + 1)
    at, measured = cell[starts] - cell[0], np.zeros(len(grid), np.bool_)
    measured[at] = True
    empty = np.flatnonzero(~measured)
    after = np.searchsorted(times, grid[empty] * step)
    share = (grid[empty] * step - times[after - 1]) / (times[after] - times[after - 1])
    share[times[after] - times[after - 1] > _GAP * usual_distance(times)] = np.nan

    def spread(values: F64, kept: F64) -> F64:
        whole = np.empty(len(grid))
        whole[at], whole[empty] = kept, values[after - 1] + share * (values[after] - values[after - 1])
        return whole

    def mean(values: F64) -> F64:
        weight = np.where(np.isnan(values), 0, counts)
        total, weights = np.add.reduceat(np.where(weight, values, 0) * weight, starts), np.add.reduceat(weight, starts)
        kept: F64 = np.divide(total, weights, out=np.full(len(starts), np.nan), where=weights > 0)
        return kept

    means = [spread(line, mean(line)) for line in lines]
    return grid * step, means, spread(low, np.fmin.reduceat(low, starts)), spread(high, np.fmax.reduceat(high, starts)), measured
