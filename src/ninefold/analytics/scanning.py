"""Compiled loops over lines and ids: the pattern scan, and the table that finds the slot of a series. See `kernel`."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from ninefold.analytics.keys import CLASS, DIGIT, LETTER, LIMIT, MULTIPLIER, SEED, SEPARATOR, SYMBOL

IN = {dtype: types.Array(getattr(types, dtype), 1, "C", readonly=True) for dtype in ("uint8", "int32", "int64", "uint64", "float64")}
"""Types of read-only columns: Arrow's buffers are."""
_M, _SEED = np.uint64(MULTIPLIER), np.uint64(SEED)
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


@njit(types.void(IN["uint8"], IN["int64"], types.uint64[::1]), cache=True, nogil=True, error_model="numpy")
def scan(data, edges, keys):  # type: ignore[no-untyped-def]
    """`keys.pattern_keys` over ``data[edges[i]:edges[i + 1]]`` into `keys`, one multiplication a byte."""
    for i in range(len(keys)):
        begin, end = edges[i], min(edges[i + 1], edges[i] + LIMIT)
        value = run_value = _SEED
        run_start, digits, plain = begin, False, False
        for j in range(begin, end + 1):
            kind = CLASS[data[j]] if j < end else SEPARATOR
            if kind == SEPARATOR:
                if digits:
                    value = (value if plain else run_value) * _M + SYMBOL[256]
                if j == end:
                    break
                value = value * _M + SYMBOL[data[j]]
                run_value, run_start, digits, plain = value, j + 1, False, False
            elif kind == DIGIT:
                digits = True
            else:
                value = value * _M + SYMBOL[data[j]]
                if kind == LETTER and not (j == run_start + 1 and data[j] == 120 and data[run_start] == 48):
                    plain = True
        value = (value ^ (value >> _30)) * _A
        value = (value ^ (value >> _27)) * _B
        value ^= value >> _31
        keys[i] = value if value != np.uint64(0) else np.uint64(1)


@njit(types.int64(IN["uint64"], types.uint64[::1], types.int32[::1], types.int32[::1]), cache=True, nogil=True, error_model="numpy")
def lookup(ids, keys, slots, out):  # type: ignore[no-untyped-def]
    """Slots of series ids in an open-addressing table (`keys`, `slots`, a power of two long, slot -1 = free) into `out`.

    Unknown ids get -1; their number is returned.
    """
    mask = np.uint64(len(keys) - 1)
    unknown = 0
    for i in range(len(ids)):
        place = (ids[i] * _M >> np.uint64(20)) & mask
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
        place = (ids[i] * _M >> np.uint64(20)) & mask
        while slots[place] >= 0:
            place = (place + np.uint64(1)) & mask
        keys[place], slots[place] = ids[i], numbers[i]
