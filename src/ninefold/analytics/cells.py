"""The state of one series as cells of a float64 row and an int64 row: about a kilobyte.

`kernel` is compiled against these numbers and its cache on disk does not notice a change here: touch `kernel.py` with it.
A row per series (not an array per field) keeps all that one point needs in neighbouring cache lines. Cells not named here
are zero at birth and filled by `kernel.fold`.
"""

from __future__ import annotations

# float64 cells
KIND, FLOOR = 0, 1  # set at birth: GAUGE, COUNTER, DELTA or PART (not judged); the smallest deviation that matters
COUNT, RAW, VALUE = 2, 3, 4  # points learned; the last raw and the last detected value
INTERVAL, JITTER = 5, 6  # seconds between points, and their mean deviation
RUN, LONGEST, MOVES = 7, 8, 9  # equal values in a row, the longest such run, the share of points that differ from the last
LOWEST, LARGEST = 10, 11  # the smallest value seen; the largest absolute value seen, slowly forgotten
LEVEL, FAST, RECENT = 12, 13, 14  # slow and fast robust level; plain mean of about 12 points
ERR_LEVEL, ERR_FAST, ERR_DAILY, LIFT = 15, 16, 17, 18  # clipped mean absolute errors of the experts; daily profile's offset
SHORT, LONG = 19, 20  # residual smoothed over 12 and over 48 points
STREAK, CALM, AWAY = 21, 22, 23  # points outside (signed by side), back inside, and outside altogether in this episode
BEFORE, PEAK, FATIGUE = 24, 25, 26  # residual of the point before, the episode's peak score, the leaky count of own alarms
FIRING = 27  # reason code of the episode that runs, 0 without
HOUR, HOUR_SUM, HOUR_COUNT = 28, 29, 30  # the hour being collected for the daily profile
TAILS = 32  # 4 views (point, pair, short, long) x 2 sides x (quantile, mean excess, mean squared excess, count)
BUFFER = 64  # the first WARM_UP values
PROFILE = 76  # 24 hourly means
DAYS = 100  # 24 counts of days behind them
WIDTH = 124

# int64 cells
LAST, TICK, SINCE, LAG = 0, 1, 2, 3  # last point's time (ns), minute ticks of the clock then; episode's start; delay of receipt
BORN = 4  # first point's time (ns)
TIMES = 5

WARM_UP = 12
GAUGE, COUNTER, DELTA, PART = 0, 1, 2, 3
SPIKE, SHIFT, DRIFT, FLAT, MISSING = 1, 2, 3, 4, 5
REASONS = ("", "spike", "level-shift", "drift", "flat-line", "missing")

# columns of a finding: float64 and int64
F_VALUE, F_EXPECTED, F_LOWER, F_UPPER, F_SCORE = range(5)
I_ROW, I_SLOT, I_REASON, I_STATUS, I_TIME, I_SINCE = range(6)
FIRED, RESOLVED = 1, 2
