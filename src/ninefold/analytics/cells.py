"""The state of one series: a row in each of a few arrays, 432 bytes in all.

`kernel` is compiled against these numbers and its cache on disk does not notice a change here: touch `kernel.py` with it.
Most of it is kept in single precision, so that a million series fit in memory: nothing below a hundredth of a level is ever remarkable,
and single precision is a hundred thousand times finer. Whatever is compared for equality or subtracted from its like (raw counters, the
last value, times) stays exact. Cells not named here are zero at
birth and filled by `kernel.fold`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

F32 = np.ndarray[Any, np.dtype[np.float32]]
F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

# float32 cells
KIND, FLOOR = 0, 1  # set at birth: GAUGE, COUNTER, DELTA or PART (not judged); the smallest deviation that matters
COUNT = 2  # points learned
INTERVAL, JITTER = 3, 4  # seconds between points, and their mean deviation
RUN, LONGEST, MOVES = 5, 6, 7  # equal values in a row, the longest such run, the share of points that differ from the last
LOWEST, LARGEST = 8, 9  # the smallest value seen; the largest absolute value seen, slowly forgotten
LEVEL, FAST, RECENT = 10, 11, 12  # slow and fast robust level; plain mean of about 12 points
ERR_LEVEL, ERR_FAST, ERR_DAILY, LIFT = 13, 14, 15, 16  # clipped mean absolute errors of the experts; daily profile's offset
SHORT, LONG = 17, 18  # residual smoothed over 12 and over 48 points
STREAK, CALM, AWAY = 19, 20, 21  # points outside (signed by side), back inside, and outside altogether in this episode
BEFORE, PEAK, FATIGUE = 22, 23, 24  # residual of the point before, the episode's peak score, the leaky count of own alarms
FIRING = 25  # reason code of the episode that runs, 0 without
HOUR, HOUR_SUM, HOUR_COUNT = 26, 27, 28  # the hour being collected for the daily profile
TAILS = 32  # 4 views (point, pair, short, long) x 2 sides x (quantile, mean excess, root mean squared excess, count)
BUFFER = 32  # the first WARM_UP values, before there are tails
WIDTH = 64

# float64 cells
RAW, VALUE = 0, 1  # the last raw and the last detected value
EXACT = 2

# int64 cells
LAST, TICK, SINCE, LAG = 0, 1, 2, 3  # last point's time (ns), minute ticks of the clock then; episode's start; delay of receipt
BORN = 4  # first point's time (ns)
TIMES = 5

HOURS = 24
WARM_UP = 12
GAUGE, COUNTER, DELTA, PART = 0, 1, 2, 3
SPIKE, SHIFT, DRIFT, FLAT, MISSING = 1, 2, 3, 4, 5
REASONS = ("", "spike", "level-shift", "drift", "flat-line", "missing")

# columns of a finding: float64 and int64
F_VALUE, F_EXPECTED, F_LOWER, F_UPPER, F_SCORE = range(5)
I_ROW, I_SLOT, I_REASON, I_STATUS, I_TIME, I_SINCE = range(6)
FIRED, RESOLVED = 1, 2


class State(NamedTuple):
    """The state of many series, a row a slot: `WIDTH` cells, `EXACT` cells, `TIMES` cells, 24 hourly means and the counts of days
    behind them."""

    cells: F32
    exact: F64
    times: I64
    profile: F32
    days: np.ndarray[Any, np.dtype[np.uint8]]


def state(room: int) -> State:
    """The state of so many series of which nothing is known yet."""
    return State(
        np.zeros((room, WIDTH), np.float32),
        np.zeros((room, EXACT)),
        np.zeros((room, TIMES), np.int64),
        np.zeros((room, HOURS), np.float32),
        np.zeros((room, HOURS), np.uint8),
    )
