"""Compiled loop that adds points to the minutes that are still open. See `gathering`."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from ninefold.analytics.minutes import GRACE as _GRACE
from ninefold.analytics.tables import IN, SPREAD
from ninefold.ground.clock import MINUTE as _MINUTE
from ninefold.ground.clock import SECOND as _SECOND

GAUGE, COUNTER, DELTA = range(3)
"""What a series is."""
RING = 4
"""Minutes that can be open at once: the clock's, the one before while its grace lasts, and the two that may lie ahead."""
AHEAD = 2
"""Minutes before the clock in which a point may lie; beyond, its sender's clock is wrong."""
FREE = -(1 << 62)
"""In `numbers`: no minute."""

_I, _F = types.int64[::1], types.float64[::1]


@njit(
    types.int64(
        IN["uint64"], IN["int64"], IN["float64"], types.int64, types.int64, types.int64[::1], types.uint64[::1], types.int32[::1],
        types.uint8[::1], _I, _F, _I, types.float64[:, ::1], types.uint32[:, ::1],
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def collect(ids, times, values, begin, received, clock, keys, places, kinds, when, before, numbers, sums, counts):  # type: ignore[no-untyped-def]
    """Add the rows from `begin` on to their minutes.

    A counter's point counts with its rate since the one before; one that is not later than that is passed over, and of a delta one of the
    same time, which is a repetition.

    Args:
        ids, times, values: the rows; times in ns.
        begin: the first row that was not taken yet.
        received: when the batch came, ns.
        clock: in and out, of `minutes.Minutes`: its own time (ns) and the first minute that is not closed.
        keys, places: the table of `tables.lookup`.
        kinds, when, before: of each slot: what it is, its latest point's time (0: none yet) and value.
        numbers: minutes that are open, `FREE` where there is none; minute n has place n mod `RING`.
        sums, counts: [RING, slots], of the open minutes.

    Returns:
        the row before which the clock closes a minute that has points, or the number of rows.
    """
    mask, latest = np.uint64(len(keys) - 1), received // _MINUTE + AHEAD
    oldest = -FREE
    for ring in range(RING):
        if numbers[ring] != FREE:
            oldest = min(oldest, numbers[ring])
    for i in range(begin, len(ids)):
        time, value = times[i], values[i]
        clock[0] = max(clock[0], min(time, received))
        clock[1] = max(clock[1], (clock[0] - _GRACE) // _MINUTE)
        if clock[1] > oldest:
            return i
        minute = time // _MINUTE
        if minute < clock[1] or minute > latest or not np.isfinite(value):
            continue
        place = (ids[i] * SPREAD >> np.uint64(20)) & mask
        while places[place] >= 0 and keys[place] != ids[i]:
            place = (place + np.uint64(1)) & mask
        slot = places[place]
        if slot < 0:
            continue
        if kinds[slot] != GAUGE:
            last, base = when[slot], before[slot]
            if last > 0 and (time == last or (kinds[slot] == COUNTER and time < last)):
                continue
            if time > last:
                when[slot], before[slot] = time, value
            if kinds[slot] == COUNTER:
                if last == 0:
                    continue
                value = (value if value < base else value - base) / ((time - last) / _SECOND)
        ring = minute % RING
        numbers[ring] = minute
        oldest = min(oldest, minute)
        sums[ring, slot] += value
        counts[ring, slot] += 1
    return len(ids)
