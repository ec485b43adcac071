"""The compiled loop that cuts a series where its mean or slope changes: PELT (Killick et al., JASA 2012). See `change_points`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

_PARTS = types.Tuple((types.float64, types.int64[::1]))(  # type: ignore[no-untyped-call]
    types.Array(types.float64, 1, "C", readonly=True), types.boolean, types.boolean, types.int64, types.float64
)


_FINITE = {"nnan", "ninf", "nsz", "contract", "reassoc"}
"""Values are finite here, so minima may be sought several at a time."""


@njit(nogil=True, error_model="numpy", fastmath=_FINITE, forceinline=True)
def _costs(out, rows, shares, end, of_end, count, linear):  # type: ignore[no-untyped-def]
    """The cost of the best cut up to each open place and of the piece from there to `end`; one of `rows` for each place: it, its cost,
    its three sums. No branches but one, so that it is worked off several places at a time.
    """
    for k in range(count):
        total = of_end[0] - rows[2, k]
        out[k] = rows[1, k] + of_end[1] - rows[3, k] - total * total * shares[end - int(rows[0, k])]
    if linear:
        for k in range(count):
            size = end - rows[0, k]
            moment = of_end[2] - rows[4, k] - 0.5 * (rows[0, k] + end - 1.0) * (of_end[0] - rows[2, k])
            out[k] -= 12.0 * moment * moment / (size * (size * size - 1.0))


@njit(_PARTS, cache=True, nogil=True, error_model="numpy")
def cut(values, linear, apart, least, penalty):  # type: ignore[no-untyped-def]
    """The cheapest cut of `values` into pieces, exactly.

    A piece costs its squares (about its mean, or its line when `linear`), `penalty` and ``log(length / n)``, the last term of the modified
    BIC (Zhang & Siegmund, Biometrics 2007); both make two pieces dearer than one, so that pruning loses nothing.

    Args:
        values: in units of their noise.
        linear: pieces are lines.
        apart: the first value of a piece belongs to neither side (it is the difference across the cut) and costs nothing.
        least: the shortest piece.
        penalty: for each cut.

    Returns:
        The cost, and for each end of a piece (1 to n) where the piece begins.
    """
    n, skip = len(values), 1 if apart else 0
    sums, logs, shares = np.zeros((n + 1, 3)), np.zeros(n + 1), np.zeros(n + 1)
    for i in range(n):
        value = values[i]
        sums[i + 1, 0], sums[i + 1, 1], sums[i + 1, 2] = sums[i, 0] + value, sums[i, 1] + value * value, sums[i, 2] + value * i
        logs[i + 1], shares[i + 1] = math.log((i + 1) / n), 1.0 / (i + 1)
    best, begins = np.full(n + 1, np.inf), np.zeros(n + 1, np.int64)
    best[0] = -penalty
    rows, costs = np.zeros((5, n + 1)), np.zeros(n + 1)
    closes, count = np.full(n + 1, n + 1), 0
    for end in range(least, n + 1):
        if end == least or end - least >= least:
            begin = end - least
            inner = begin + skip if begin else 0
            rows[0, count], rows[1, count] = inner, best[begin]
            rows[2, count], rows[3, count], rows[4, count] = sums[inner, 0], sums[inner, 1], sums[inner, 2]
            count += 1
        _costs(costs, rows, shares, end, sums[end], count, linear)
        least_cost, place = np.inf, 0
        for k in range(count):
            whole = costs[k] + logs[end - int(rows[0, k])]
            if whole < least_cost:
                least_cost, place = whole, k
        best[end] = least_cost + penalty
        begins[end] = int(rows[0, place]) - skip if rows[0, place] else 0
        kept = 0
        for k in range(count):
            begin = int(rows[0, k])
            if costs[k] > best[end] and closes[begin] > n:
                closes[begin] = end + least  # from there on the cut at `end` is open too, and never dearer
            if closes[begin] > end:
                if kept < k:
                    rows[:, kept] = rows[:, k]
                kept += 1
        count = kept
    return best[n], begins
