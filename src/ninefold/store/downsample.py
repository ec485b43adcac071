"""Fewer points that look the same: every extreme of a line survives (the M4 idea of Jugel et al., VLDB 2014, with two per bucket)."""

from __future__ import annotations

from typing import Any

import numpy as np

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]


def pick(times: I64, values: F64, points: int) -> I64:
    """Which of a line's points to draw: of each of ``points / 2`` equal spans of time the lowest and the highest, and both ends.

    Args:
        times: ns, ascending.
        values: NaN where there is none; such points are chosen only when a span has nothing else.
        points: about how many to choose, at least 4.

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
    ends = np.append(starts[1:], count) - 1
    lowest = np.lexsort((np.nan_to_num(values, nan=np.inf), span))[starts]
    highest = np.lexsort((np.nan_to_num(values, nan=-np.inf), span))[ends]
    return np.unique(np.concatenate(([0, count - 1], lowest, highest)))
