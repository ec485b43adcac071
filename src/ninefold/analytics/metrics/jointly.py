"""Compiled loop over entities whose metrics are judged together, one call a minute. See `together`."""

from __future__ import annotations

import numpy as np
from numba import njit, types

SEEN, TICKS, SMOOTH, TAIL, EXCESS, SCORE, RUN, MEAN, RANK = range(9)
"""Columns of `cells`: learned minutes; minutes since the inverse was made; smoothed surprise; its tracked quantile; mean excess beyond it;
-log10 of the chance of the last minute; how long it has been beyond (leaks in quiet minutes); mean surprise; smoothed mean of
its parts squared, which ranks minutes."""
CELLS = 9
FEWEST, HOLD = 3, 5
"""Metrics an entity must have; for so many minutes a value stands for those after it."""
WARM_UP = 60
"""Minutes an entity is learned before it is judged, plus two for each of its metrics."""
_SLOWEST, _REFRESH = 1 / 2880, 60
_SHRINK, _RIDGE, _LEAST = 0.05, 0.05, 0.01
_SWEEPS = 5
_TEACH, _LOOK, _WILD = 10.0, 20.0, 8.0
_SHARE, _QUANTILE_STEP = 0.01, 0.005
_SMOOTH, _LEAK, _CARE, _TRUST = 0.2, 0.6, 4.0, 2880
_NEW = 4320.0
"""After so many minutes beyond, what was unusual is the new normal."""

_1, _2, _3 = types.float64[::1], types.float64[:, ::1], types.float32[:, :, ::1]
_I = types.int64[::1]


@njit(types.void(_2, _2), cache=True, nogil=True, error_model="numpy")
def invert(a, out):  # type: ignore[no-untyped-def]
    """The inverse of a symmetric positive definite matrix into `out` (Gauss-Jordan without pivots); `a` is used up."""
    n = len(a)
    for i in range(n):
        for j in range(n):
            out[i, j] = 1.0 if i == j else 0.0
    for k in range(n):
        factor = 1.0 / a[k, k]
        for j in range(n):
            a[k, j] *= factor
            out[k, j] *= factor
        for i in range(n):
            if i != k:
                factor = a[i, k]
                if factor != 0.0:
                    for j in range(n):
                        a[i, j] -= factor * a[k, j]
                        out[i, j] -= factor * out[k, j]


@njit(types.void(_1, types.float64, types.float64), cache=True, nogil=True, error_model="numpy")
def tail(cells, value, judged):  # type: ignore[no-untyped-def]
    """Learn the tail of the surprise: its quantile by stochastic approximation, and the mean of what is beyond it."""
    if judged == 0:
        cells[TAIL], cells[EXCESS], cells[MEAN] = value, 0.1 * value + 1e-6, value
        return
    care = 1.0 / (1.0 + cells[RUN]) if cells[RUN] < _NEW else 1.0
    cells[MEAN] += care * max(1.0 / (judged + 1.0), _SLOWEST) * (value - cells[MEAN])
    step = care * cells[EXCESS] * max(4.0 / (judged + 1.0), _QUANTILE_STEP)
    if value > cells[TAIL]:
        over = min(value - cells[TAIL], 8.0 * cells[EXCESS])
        cells[EXCESS] += care * 0.02 * (over - cells[EXCESS])
        cells[TAIL] += step * (1.0 - _SHARE)
    else:
        cells[TAIL] -= step * _SHARE


@njit(types.void(_1, types.float64, types.float64, types.boolean), cache=True, nogil=True, error_model="numpy")
def notice(cells, surprise, judged, teach):  # type: ignore[no-untyped-def]
    """Smooth a minute's surprise, give it its chance, and count how long it has been beyond; `judged` minutes were before it."""
    cells[SMOOTH] += _SMOOTH * (surprise - cells[SMOOTH])
    smooth = cells[SMOOTH]
    cells[SCORE] = 0.0
    if judged >= WARM_UP:
        over = smooth - cells[TAIL]
        if over > 0:
            cells[SCORE] = (np.log(1.0 / _SHARE) + over / cells[EXCESS]) / np.log(10.0)
        if judged >= _TRUST:
            if over > 0:
                cells[RUN] += 1.0
            elif 2.0 * smooth < cells[MEAN] + cells[TAIL]:  # between the two nothing is decided
                cells[RUN] = max(cells[RUN] - _LEAK, 0.0)
    if teach:
        tail(cells, smooth, judged)


@njit(types.void(_1, _1, _1, _1, _1, types.float32[:, ::1], types.float32[:, ::1], _1), cache=True, nogil=True, error_model="numpy")
def learn(x, learned, level, spread, seen, cov, inverse, cells):  # type: ignore[no-untyped-def]
    """Take a minute of one entity into levels, spreads and covariance, renew the inverse now and then; `learned` is standardised."""
    cells[SEEN] += 1
    care = 1.0 / (1.0 + cells[RUN]) ** _CARE if cells[RUN] < _NEW else 1.0
    width = len(x)
    here, weight = np.empty(width), np.empty(width)
    for j in range(width):
        here[j] = 1.0 if x[j] == x[j] else 0.0
        weight[j] = here[j] * care * max(1.0 / (seen[j] + 1.0), _SLOWEST)
    for j in range(width):
        value = x[j]
        if value != value:
            continue
        seen[j] += 1
        w = weight[j]
        floor = (1e-3 * abs(level[j])) ** 2 + 1e-24
        gap = value - level[j]
        if seen[j] > 10:
            reach = _TEACH * np.sqrt(spread[j] + floor)
            gap = min(max(gap, -reach), reach)
        level[j] += w * gap
        spread[j] = (1.0 - w) * (spread[j] + w * gap * gap)
        for k in range(width):
            more = here[k] * (w if w > weight[k] else weight[k])  # of a pair the younger one's
            cov[j, k] += more * (learned[j] * learned[k] - cov[j, k])
    cells[TICKS] += 1
    if cells[TICKS] >= _REFRESH:
        cells[TICKS] = 0
        known = np.count_nonzero(seen)
        work, result, kept = np.empty((width, width)), np.empty((width, width)), np.empty(width)
        for j in range(width):
            kept[j] = 1.0 - max(_SHRINK, known / (known + seen[j])) if seen[j] > 0 else 0.0
        for j in range(width):
            for k in range(width):
                work[j, k] = np.sqrt(kept[j] * kept[k]) * cov[j, k]
            work[j, j] = max(cov[j, j], _LEAST) + (1.0 - kept[j]) * _RIDGE if seen[j] > 0 else 1.0
        invert(work, result)
        sound = True
        for j in range(width):
            sound = sound and 0.0 < result[j, j] < np.inf
        if sound:  # metrics learned for unlike times may give no covariance; the last one stands
            inverse[:, :] = result


@njit(
    types.int64(_I, _1, types.int64, types.int64, _I, _I, _I, _2, _2, _I, _2), cache=True, nogil=True, error_model="numpy"
)  # fmt: skip
def gather(slots, values, number, width, widths, places, columns, last, when, rows, x):  # type: ignore[no-untyped-def]
    """Put a minute's values where they belong, and say who is to be judged.

    Args:
        slots, values, number: the minute.
        width: of the table; of the series in others nothing is done.
        widths, places, columns: of each slot: its table, row and column.
        last, when: the table's last values and their minutes, [entities, metrics].
        rows, x: out, [entities] and [entities, metrics]: the rows with at least `FEWEST` values, one of them of this minute, and their
            values, NaN where there is none in `HOLD` minutes.

    Returns:
        how many there are.
    """
    fresh = np.zeros(len(last), np.uint8)
    for i in range(len(slots)):
        slot = slots[i]
        if widths[slot] == width:
            row, column = places[slot], columns[slot]
            last[row, column], when[row, column], fresh[row] = values[i], number, 1
    n = 0
    for row in range(len(last)):
        if not fresh[row]:
            continue
        known = 0
        for j in range(width):
            held = when[row, j] > number - HOLD
            x[n, j] = last[row, j] if held else np.nan
            known += held
        if known >= FEWEST:
            rows[n] = row
            n += 1
    return n


@njit(types.void(_1, types.float32[::1], types.float32[:, ::1]), cache=True, nogil=True, error_model="numpy")
def fill(x, u, inverse):  # type: ignore[no-untyped-def]
    """What is missing of the standardised `u` becomes what the others let expect (Gauss-Seidel)."""
    for _ in range(_SWEEPS):
        for j in range(len(x)):
            if x[j] != x[j]:
                total = inverse[j, j] * u[j]
                for k in range(len(x)):
                    total -= inverse[j, k] * u[k]
                u[j] = total / inverse[j, j]


@njit(types.void(types.int64[::1], _2, types.boolean[::1], _2, _2, _2, _3, _3, _2, _2, _2), cache=True, nogil=True, error_model="numpy")
def judge(rows, x, teach, level, spread, seen, cov, inverse, cells, usual, rest):  # type: ignore[no-untyped-def]
    """Judge and learn one minute of the entities in `rows`.

    Args:
        rows: places in the state, int64[n].
        x: values [n, metrics], NaN where there is none.
        teach: whether this minute may be learned, bool[n].
        level, spread, seen: of each metric, [entities, metrics]; the spread is a variance.
        cov, inverse: of the standardised metrics, [entities, metrics, metrics].
        cells: see the columns above; ``cells[:, SCORE]`` is the answer.
        usual, rest: out, [n, metrics]: the value the other metrics let expect, and how far off it is in conditional spreads; 0 while
            nothing is judged.
    """
    width = x.shape[1]
    u, learned, away = np.empty(width, np.float32), np.empty(width), np.empty(width, np.float32)
    for i in range(len(rows)):
        row = rows[i]
        known, present = 0, 0
        for j in range(width):
            rest[i, j] = learned[j] = 0.0
            u[j] = 0.0
            usual[i, j] = level[row, j]
            known += seen[row, j] > 0
            value = x[i, j]
            if value != value:
                continue
            present += 1
            if seen[row, j] == 0:
                level[row, j] = value
            floor = (1e-3 * abs(level[row, j])) ** 2 + 1e-24
            gap = (value - level[row, j]) / np.sqrt(spread[row, j] + floor)
            if seen[row, j] >= 10:
                u[j] = min(max(gap, -_LOOK), _LOOK)
                learned[j] = min(max(gap, -_WILD), _WILD)
        warm = WARM_UP + 2 * known
        surprise, squares = 0.0, 0.0
        if cells[row, SEEN] >= warm and present > 0:
            if present < known:
                fill(x[i], u, inverse[row])
            away[:] = 0.0
            for k in range(width):
                for j in range(width):  # the inverse is symmetric; along its rows is faster
                    away[j] += inverse[row, k, j] * u[k]
            for j in range(width):
                if x[i, j] != x[i, j]:
                    continue
                total = away[j]
                rest[i, j] = min(max(total / np.sqrt(inverse[row, j, j]), -_LOOK), _LOOK)
                part = np.log1p(rest[i, j] ** 2)
                surprise, squares = surprise + part, squares + part * part
                floor = (1e-3 * abs(level[row, j])) ** 2 + 1e-24
                usual[i, j] = level[row, j] + (u[j] - total / inverse[row, j, j]) * np.sqrt(spread[row, j] + floor)
            cells[row, RANK] += _SMOOTH * (squares / present - cells[row, RANK])
            notice(cells[row], surprise / present, cells[row, SEEN] - warm, teach[i])
        if teach[i] and present > 0:
            learn(x[i], learned, level[row], spread[row], seen[row], cov[row], inverse[row], cells[row])
