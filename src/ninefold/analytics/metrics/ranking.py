"""The ranking of series by how interesting they are now: the state of one series in `surprise.rank`, and words for it.

Severity decides what pages somebody and is calibrated in false alarms; this score orders what to look at and is not. Cells are single
precision, 148 bytes a series, zero at birth. `surprise` is compiled against these numbers: touch it with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ninefold.ground.clock import SECOND

F32 = np.ndarray[Any, np.dtype[np.float32]]
F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

VIEWS = ("level", "drift", "sustained", "daily", "expected")
"""What of a series may surprise: the value, its distance from the slow level, its mean over 48 points, its distance from the usual at this
hour, and its lasting distance from whatever of the two has explained it best."""
LEVEL, DRIFT, SUSTAINED, DAILY, EXPECTED = range(5)

# of a series that is held nothing before PEAK changes
HIGH, LOW = 0, 5  # the highest and lowest each view has shown
TAIL = 10  # 95 % quantile and mean excess of drift, sustained and daily
VOTE = 16  # how much each view has surprised lately: a view that often does loses its vote
SEEN, SEEN_DAILY = 21, 22  # points seen, and those with a daily profile
SLOW, LONG, REST = 23, 24, 25  # slow level, mean over 48 points, smoothed distance from what was expected
ERR_SLOW, ERR_DAILY = 26, 27  # mean absolute errors of the two experts
TOTAL = 28  # how much the series has surprised in the long run
PEAK, AGE = 29, 30  # the score that was emitted last, and points since then
STATE, SINCE = 31, 32  # the anomalous state: the score, held and decaying; when it rose (s since the series' first point)
KINDS = 33  # the views that made the state what it is, a bit each: those with at least half of the strongest one's share
CENTRE, LOWER, UPPER = 34, 35, 36  # what was expected of the last point
WIDTH = 37

HOLD = 1.0 - 1.0 / 50.0
"""What is left of the anomalous state a point later."""
RISEN, SETTLED = 1.0, 0.5
"""A state that reaches the first from below the second begins anew; below the second nothing is worth a look."""
_SILENT_S = 3600.0
_MARGINS = 10.0


def strength(state: F64, value: F64, centre: F32 | F64, lower: F32 | F64, upper: F32 | F64) -> F64:
    """How interesting a series is: its anomalous state, the more the farther its value lies outside what was expected, in margins.

    One that has come back into its band is less interesting than one that has not, although what it did is as rare.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        margins = np.abs(value - centre) / np.where(value >= centre, upper - centre, centre - lower)
    return np.asarray(state * (1.0 + np.clip(np.nan_to_num(margins, nan=0.0, posinf=_MARGINS), 0.0, _MARGINS)))


class Standing(NamedTuple):
    """Where a series stands: its row, its `strength` now, the views that surprised, since when and its last point's time (ns),
    that point's value and what was expected of it (centre, lower and upper bound; NaN where unknown)."""

    slot: int
    strength: float
    kinds: list[str]
    since: int
    time: int
    last: F64


def kinds(mask: int) -> list[str]:
    """The views in a mask of `KINDS`."""
    return [name for view, name in enumerate(VIEWS) if mask >> view & 1]


def strangest(ranks: F32, values: F64, last: I64, born: I64, interval: F32, now: int, limit: int, chosen: Mask) -> list[Standing]:
    """The series that are the most interesting at a time; one that fell silent has decayed as if its points had come.

    Args:
        ranks, values: a row and the last value of each series.
        last, born, interval: time of each series' last and first point (ns), and the usual distance of its points (s).
        now: ns.
        limit: at most so many.
        chosen: only these series.
    """
    missed = np.maximum(now - last, 0) * 1e-9 / np.maximum(interval, 1.0)
    silent = (now - last) * 1e-9 > np.maximum(_SILENT_S, 10.0 * interval)
    state = np.where(silent, 0.0, ranks[:, STATE] * HOLD ** np.minimum(missed, 1e4))
    state = strength(np.where(chosen & (state >= SETTLED), state, 0.0), values, ranks[:, CENTRE], ranks[:, LOWER], ranks[:, UPPER])
    order = np.argsort(-state, kind="stable")[:limit]
    found = []
    for slot in order[state[order] > 0.0].tolist():
        since = int(born[slot]) + int(ranks[slot, SINCE]) * SECOND
        point = np.array([values[slot], *ranks[slot, CENTRE : UPPER + 1]])
        found.append(Standing(slot, float(state[slot]), kinds(int(ranks[slot, KINDS])), since, int(last[slot]), point))
    return found
