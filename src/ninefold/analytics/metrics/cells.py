"""The state of one series: a row in each of a few arrays, 520 bytes in all.

`kernel` is compiled against these numbers, with what it takes from `tails`, `courses`, `views` and `kinds`; its cache on disk does not
notice a change there: touch `kernel.py` with it.
Most of it is kept in single precision, so that a million series fit in memory: nothing below a hundredth of a level is ever remarkable,
and single precision is a hundred thousand times finer. Whatever is compared for equality or subtracted from its like (raw counters, the
last value, times) stays exact. Cells not named here are zero at
birth and filled by `kernel.fold`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ninefold.analytics.metrics import ranking

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
BAR = 29  # set from outside: a factor on the alarm thresholds of this series; 0 means 1
HOLD, HELD = 30, 31  # set from outside: while not 0 the series is judged but nothing is learned; for how long (s) that has been so
TAILS = 32  # 4 views (point, pair, short, long) x 2 sides x (quantile, mean excess, root mean squared excess, count)
SUMS = 64  # the tail of the cumulative sums, like one of TAILS, both sides in one
SUM_UP, SUM_DOWN, FOR_UP, FOR_DOWN = 68, 69, 70, 71  # cumulative sums of deviations, and points since each was 0
OUT_UP, OUT_DOWN = 72, 73  # share of the last 32 points or so beyond the 95 % quantile of each side
HABIT = 74  # mean peak score of earlier episodes
SCALE = 75  # 0: judged as it is; else as log(1 + value / SCALE)
WEEK = 76  # 1 + the row of its weekly profile in `Weeks`; ASKED: it waits for one; below: hours until it may have one; 0: none
HOURLY = 77  # mean absolute difference between an hour's mean and the daily profile
WIDEST = 78  # the largest share of points beyond both quantiles that was nothing new, slowly forgotten
OFF, ASTRAY = 79, 80  # the last hour's mean less the daily profile, NaN after a gap; the usual mean absolute change of that
PATH, MISSED = 81, 82  # leaky sums over hours: how far the profile moved, and how much of that the values did not
MARK, MARKED = 83, 84  # how far the mean of about 12 points was from what is slow to change when twelve had been outside; points since then
BUFFER = 32  # the first WARM_UP values, before there are tails
ROUGH = 85  # the most of the course that was missed and came back, slowly forgotten
WIDTH = 86

# settings of the fold, the same for all series: float64
S_SURE, S_ALONE = 0, 1  # -log10 of the probability a point at which an alarm is raised; of a point that nothing confirms
S_FATIGUE, S_REST = 2, 3  # how much each own alarm raises a series' bar; points after which that is mostly forgotten
S_HOLD = 4  # seconds after which a series that is held learns all the same: a hold nobody ended must not blind it
S_LASTING = 6  # -log10 of the probability at which what is smoothed or summed is an alarm
S_WEEKS = 5  # the most weekly profiles there may be; 860 bytes each

# the clock, int64, common to all series: last minute seen, minute ticks, rows of `Weeks` ever used, first free one plus 1, points taken
CLOCK = 5

# a row of Weeks.means beyond its 168 hours: offset, clipped mean absolute error, hours predicted, share of them in which it was best
W_LIFT, W_ERR, W_HOURS, W_WINS = 168, 169, 170, 171
W_WIDTH = 172
ASKED = -0.5

# float64 cells
RAW, VALUE = 0, 1  # the last raw and the last detected value
EXACT = 2

# int64 cells
LAST, TICK, SINCE, LAG = 0, 1, 2, 3  # last point's time (ns), minute ticks of the clock then; episode's start; delay of receipt
BORN = 4  # first point's time (ns)
TIMES = 5

BAND = 5  # what is written of a point: centre, lower and upper bound, score and state of the ranking
HOURS = 24
WARM_UP = 12
GAUGE, COUNTER, DELTA, PART = 0, 1, 2, 3
SPIKE, SHIFT, DRIFT, FLAT, MISSING, VARIANCE, TREND, SEASON = range(1, 9)
REASONS = ("", "spike", "level-shift", "drift", "flat-line", "missing", "variance", "trend", "season")
POINT, PAIR, SHORTER, LONGER, SUM, SPREAD, STILL, SILENCE, OF_DAY, OF_WEEK, OF_HOURS = range(1, 12)
HORIZONS = ("", "point", "pair", "12", "48", "sum", "32", "run", "cadence", "profile-day", "profile-week", "hours")
"""What spoke: one point, two, the mean of 12 or 48, the cumulative sum, the spread of 32, a run of equal values, silence, a profile,
the means of hours."""

# columns of a finding: float64 and int64
F_VALUE, F_EXPECTED, F_LOWER, F_UPPER, F_SCORE = range(5)
I_ROW, I_SLOT, I_REASON, I_STATUS, I_TIME, I_SINCE, I_HORIZON, I_OFTEN = range(8)
"""`I_OFTEN`: how many alarms the series had lately, where this one is no worse than those; else 0."""
INTEGERS = 8
FIRED, RESOLVED, RENAMED = 1, 2, 3
"""What happened to an episode; one that lasts may turn out to be of another kind."""


class State(NamedTuple):
    """The state of many series, a row a slot: `WIDTH` cells, `EXACT` cells, `TIMES` cells, 24 hourly means and the counts of days
    behind them, and the cells of `ranking`."""

    cells: F32
    exact: F64
    times: I64
    profile: F32
    days: np.ndarray[Any, np.dtype[np.uint8]]
    ranks: F32


class Weeks(NamedTuple):
    """Weekly profiles of those series that earn one: `W_WIDTH` cells, and counts of weeks behind each of 168 hours."""

    means: F32
    counts: np.ndarray[Any, np.dtype[np.uint8]]


def weeks(room: int) -> Weeks:
    """So many weekly profiles of which nothing is known yet."""
    return Weeks(np.zeros((room, W_WIDTH), np.float32), np.zeros((room, 168), np.uint8))


def state(room: int) -> State:
    """The state of so many series of which nothing is known yet."""
    return State(
        np.zeros((room, WIDTH), np.float32),
        np.zeros((room, EXACT)),
        np.zeros((room, TIMES), np.int64),
        np.zeros((room, HOURS), np.float32),
        np.zeros((room, HOURS), np.uint8),
        np.zeros((room, ranking.WIDTH), np.float32),
    )


def settings(
    sure: float = 4.7, alone: float = 6.0, fatigue: float = 0.3, rest: float = 300.0, hold: float = 172_800.0, weeks: float = 1e5,
    lasting: float = 4.5,
) -> F64:  # fmt: skip
    """The settings of the fold, see `S_SURE` and following."""
    return np.array([sure, alone, fatigue, rest, hold, weeks, lasting])


def tuned(given: F64, wanted: Mapping[str, float]) -> F64:
    """Settings with some changed: `wanted` has names of the arguments of `settings`."""
    changed = given.copy()
    for name, value in wanted.items():
        changed[("sure", "alone", "fatigue", "rest", "hold", "weeks", "lasting").index(name)] = value
    return changed
