"""The compiled scan of lines for their patterns. Imported only by `warm`."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from ninefold.analytics.logs.keys import CLASS, DIGIT, LIMIT, MULTIPLIER, SEED, SYMBOL
from ninefold.analytics.tables import IN

_M, _SEED = np.uint64(MULTIPLIER), np.uint64(SEED)
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_DIGIT, _HEX, _PLAIN = np.uint8(1), np.uint8(2), np.uint8(4)
_KIND = np.array([0, _DIGIT, _HEX, _PLAIN], np.uint8)[CLASS]
_FACTOR, _ADDED = np.where(CLASS == DIGIT, np.uint64(1), _M), np.where(CLASS == DIGIT, np.uint64(0), SYMBOL[:256])
"""What a byte of a word does to the hash, without a branch: a digit does nothing."""
_WILD = SYMBOL[256]
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


@njit(types.void(IN["uint8"], IN["int64"], types.uint64[::1]), cache=True, nogil=True, error_model="numpy")
def scan(data, edges, keys):  # type: ignore[no-untyped-def]
    """`keys.pattern_keys` over ``data[edges[i]:edges[i + 1]]`` into `keys`, one multiplication a byte."""
    for i in range(len(keys)):
        begin = np.uint64(edges[i])
        end = np.uint64(min(edges[i + 1], edges[i] + LIMIT))
        value = run_value = _SEED
        run_start, flags = begin, np.uint8(0)
        for j in range(begin, end):
            byte = data[j]
            kind = _KIND[byte]
            if kind == 0:
                if flags & _DIGIT:
                    value = (value if flags & _PLAIN else run_value) * _M + _WILD
                value = value * _M + SYMBOL[byte]
                run_value, run_start, flags = value, j + np.uint64(1), np.uint8(0)
            else:
                if byte == 120 and j == run_start + np.uint64(1) and data[run_start] == 48:
                    kind = _HEX  # the x of 0x
                value = value * _FACTOR[byte] + _ADDED[byte]
                flags |= kind
        if flags & _DIGIT:
            value = (value if flags & _PLAIN else run_value) * _M + _WILD
        value = (value ^ (value >> _30)) * _A
        value = (value ^ (value >> _27)) * _B
        value ^= value >> _31
        keys[i] = value if value != np.uint64(0) else np.uint64(1)
