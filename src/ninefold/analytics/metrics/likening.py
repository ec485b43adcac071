"""Compiled loop over groups of siblings, one call a minute. See `peers`."""

from __future__ import annotations

import numpy as np
from numba import njit, types

FEWEST = 4
"""Members that must have a value in a minute."""
WARM_UP = 60
"""Minutes of a member among its siblings before it is judged."""
SEEN, PLACE, WANDER, SMOOTH, VALUE, USUAL, OFF, WHEN = range(8)
"""Columns of the state by slot: minutes compared, usual distance from the median in spreads, variance of the smoothed departure from it,
that departure, the last value, the value expected of it then, how far off it is in its own terms, and the minute of it."""
CELLS = 8
_SLOWEST, _SMOOTH, _REACH = 1 / 1440, 0.3, 3.0
_LEAST, _CALM, _SLOW_SPREAD, _FAR, _CARE, _MOST = 0.02, 0.1, 0.01, 60.0, 0.05, 1e3
_ONSET, _STEP = 3.0, 0.9

_1, _2, _I = types.float64[::1], types.float64[:, ::1], types.int64[::1]


@njit(types.float64(_1, types.int64), cache=True, nogil=True, error_model="numpy")
def median(values, n):  # type: ignore[no-untyped-def]
    """The median of the first `n` (at least one) values, whose order is lost: Hoare's selection (CACM 4(7), 1961, algorithm 65)."""
    k, left, right = (n - 1) // 2, 0, n - 1
    while left < right:
        pivot, i, j = values[k], left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        left, right = (i if j < k else left), (j if k < i else right)
    if n % 2:
        return values[k]
    above = values[k + 1]
    for i in range(k + 2, n):
        above = min(above, values[i])
    return 0.5 * (values[k] + above)


@njit(
    types.float64(_1, types.float64, types.float64, types.float64, types.float64, types.boolean),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def learn(state, value, middle, spread, number, teach):  # type: ignore[no-untyped-def]
    """Judge and, unless it is held, learn one member's minute; returns its score."""
    z = min(max((value - middle) / spread, -_MOST), _MOST)
    seen, place, own = state[SEEN], state[PLACE], np.sqrt(max(state[WANDER], _CALM))
    judged = seen >= WARM_UP
    smooth = 0.0
    if seen > 0:
        smooth = state[SMOOTH] + _SMOOTH * (min(max(z - place, -_FAR * own), _FAR * own) - state[SMOOTH])
    off = smooth / own if judged else 0.0
    state[SMOOTH], state[VALUE], state[OFF], state[WHEN] = smooth, value, off, number
    state[USUAL] = middle + place * spread if judged else middle
    score = _STEP * max(abs(off) - _ONSET, 0.0)
    if not teach:
        return score
    # Beyond so many spreads a minute teaches little, so a departure is not learned while it lasts for hours.
    reach = _REACH * own if judged else np.inf
    weight = max(1.0 / (seen + 1.0), _SLOWEST) * (_CARE if abs(off) > _ONSET else 1.0)
    state[PLACE] += weight * min(max(z - place, -2.0 * reach), 2.0 * reach)
    state[WANDER] += weight * (min(abs(smooth), reach) ** 2 - state[WANDER])
    state[SEEN] += 1.0
    return score


@njit(types.void(types.float64, _1, _I, _I, types.boolean[::1], _2, _2, _1), cache=True, nogil=True, error_model="numpy")
def compare(number, values, members, first, held, state, spreads, score):  # type: ignore[no-untyped-def]
    """Judge and learn one minute.

    Args:
        number: the minute's.
        values: of each slot, NaN where there is none.
        members, first: the slots of all groups, one group after the other; where each begins in them, and the end of the last.
        held: of each slot, whether it is judged only; bool.
        state: [slots, CELLS], see the columns above.
        spreads: of each group: minutes compared, usual spread.
        score: out, of each slot, 0 where there are too few siblings.
    """
    near = np.empty(len(members))
    for group in range(len(first) - 1):
        n = resting = 0
        for place in range(first[group], first[group + 1]):
            value = values[members[place]]
            if value == value:
                near[n] = value
                n += 1
                resting += held[members[place]]
        if n < FEWEST:
            continue
        middle = median(near, n)
        for i in range(n):
            near[i] = abs(near[i] - middle)
        now = 1.4826 * median(near, n)
        # Of few members a single minute's spread is hardly an estimate: the larger of this and the usual one.
        if 2 * resting < n:
            spreads[group, 0] += 1.0
            spreads[group, 1] += max(1.0 / spreads[group, 0], _SLOW_SPREAD) * (now - spreads[group, 1])
        spread = max(now, spreads[group, 1], _LEAST * abs(middle)) + 1e-12
        for place in range(first[group], first[group + 1]):
            slot = members[place]
            if values[slot] == values[slot]:
                score[slot] = learn(state[slot], values[slot], middle, spread, number, not held[slot])
