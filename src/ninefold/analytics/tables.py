"""The compiled table that finds the slot of an id, and the types compiled loops take. Imported only by `warm` and other loops."""

from __future__ import annotations

import numpy as np
from numba import njit, types

IN = {dtype: types.Array(getattr(types, dtype), 1, "C", readonly=True) for dtype in ("uint8", "int32", "int64", "uint64", "float64")}
"""Types of read-only columns: Arrow's buffers are."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiplying by it spreads neighbouring ids over the upper bits (Knuth, TAOCP 6.4)."""


@njit(types.int64(IN["uint64"], types.uint64[::1], types.int32[::1], types.int32[::1]), cache=True, nogil=True, error_model="numpy")
def lookup(ids, keys, slots, out):  # type: ignore[no-untyped-def]
    """Slots of series ids in an open-addressing table (`keys`, `slots`, a power of two long, slot -1 = free) into `out`.

    Unknown ids get -1; their number is returned.
    """
    mask = np.uint64(len(keys) - 1)
    unknown = 0
    for i in range(len(ids)):
        place = (ids[i] * SPREAD >> np.uint64(20)) & mask
        while slots[place] >= 0 and keys[place] != ids[i]:
            place = (place + np.uint64(1)) & mask
        out[i] = slots[place]
        unknown += slots[place] < 0
    return unknown


@njit(types.void(IN["uint64"], IN["int32"], types.uint64[::1], types.int32[::1]), cache=True, nogil=True, error_model="numpy")
def insert(ids, numbers, keys, slots):  # type: ignore[no-untyped-def]
    """Put ids that are not there yet into the table of `lookup`, which must have room."""
    mask = np.uint64(len(keys) - 1)
    for i in range(len(ids)):
        place = (ids[i] * SPREAD >> np.uint64(20)) & mask
        while slots[place] >= 0:
            place = (place + np.uint64(1)) & mask
        keys[place], slots[place] = ids[i], numbers[i]
