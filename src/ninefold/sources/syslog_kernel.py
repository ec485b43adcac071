"""The loop over bytes that reads well-formed syslog lines; like `ninefold.sources.kernel` it runs as it is and compiled.

What it is not sure of it leaves to `ninefold.sources.syslog_message.read`, which reads the same lines to the same result.
"""

from __future__ import annotations

import numpy as np

from ninefold.sources.kernel import Bytes, Ints

CELLS = 16
STATE, FACILITY, SEVERITY, TIME, HOST, APP, PROCID, MSGID, STRUCTURED, BODY = 0, 1, 2, 3, 4, 6, 8, 10, 12, 14
"""The cells of a row: UNSURE or SURE, facility, severity, time in ns (0 for none), then offset and length of each text."""
UNSURE, SURE = 0, 1
_MONTHS = np.frombuffer(b"JanFebMarAprMayJunJulAugSepOctNovDec", np.uint8)
_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_SECOND = 1_000_000_000


def _digits(buffer: Bytes, start: int, count: int, end: int) -> int:
    """The number in exactly so many decimal digits, -1 when there are other characters."""
    if start + count > end:
        return -1
    value = 0
    for i in range(start, start + count):
        digit = int(buffer[i]) - 48
        if digit < 0 or digit > 9:
            return -1
        value = 10 * value + digit
    return value


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Seconds since the epoch of a UTC time, -1 when there is no such time."""
    if month < 1 or month > 12 or day < 1 or hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return -1
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    if year < 1970 or year > 2260 or day > _DAYS[month - 1] + (1 if leap and month == 2 else 0):
        return -1
    # Howard Hinnant, "chrono-compatible low-level date algorithms": days from civil, years counted from March.
    shifted = year - (1 if month <= 2 else 0)
    era, month_from_march = shifted // 400, (month + 9) % 12
    year_of_era = shifted - era * 400
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + (153 * month_from_march + 2) // 5 + day - 1
    return (era * 146097 + day_of_era - 719468) * 86400 + hour * 3600 + minute * 60 + second


def _fraction(buffer: Bytes, start: int, end: int) -> tuple[int, int]:
    """Nanoseconds behind a decimal point or comma at `start`, and where they end; (0, start) when there are none."""
    if start >= end or (buffer[start] != 46 and buffer[start] != 44):
        return 0, start
    value, count, position = 0, 0, start + 1
    while position < end and 48 <= buffer[position] <= 57:
        if count < 9:
            value, count = value * 10 + int(buffer[position]) - 48, count + 1
        position += 1
    if count == 0:
        return 0, start
    while count < 9:
        value, count = value * 10, count + 1
    return value, position


def _iso(buffer: Bytes, start: int, end: int) -> tuple[int, int]:
    """The time in ns of an RFC 3339 time stamp and where it ends; the end is -1 when it is not one."""
    if end - start < 19 or buffer[start + 4] != 45 or buffer[start + 7] != 45 or buffer[start + 10] != 84:
        return 0, -1
    if buffer[start + 13] != 58 or buffer[start + 16] != 58:
        return 0, -1
    seconds = _seconds(
        _digits(buffer, start, 4, end), _digits(buffer, start + 5, 2, end), _digits(buffer, start + 8, 2, end),
        _digits(buffer, start + 11, 2, end), _digits(buffer, start + 14, 2, end), _digits(buffer, start + 17, 2, end),
    )  # fmt: skip
    if seconds < 0:
        return 0, -1
    nanos, position = _fraction(buffer, start + 19, end)
    if position < end and buffer[position] == 90:
        return seconds * _SECOND + nanos, position + 1
    if position < end and (buffer[position] == 43 or buffer[position] == 45):
        sign = 1 if buffer[position] == 45 else -1
        colon = 1 if position + 3 < end and buffer[position + 3] == 58 else 0
        hours, minutes = _digits(buffer, position + 1, 2, end), _digits(buffer, position + 3 + colon, 2, end)
        if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
            return 0, -1
        seconds, position = seconds + sign * (hours * 3600 + minutes * 60), position + 5 + colon
    return (seconds * _SECOND + nanos, position) if seconds > 0 else (0, -1)


def _bsd(buffer: Bytes, start: int, end: int, year: int, noon: int) -> tuple[int, int]:
    """The time in ns of ``Nov  2 12:35:43``, in the year that brings it closest to `noon`, and where it ends (-1: it is none)."""
    if end - start < 15 or buffer[start + 3] != 32 or buffer[start + 6] != 32 or buffer[start + 9] != 58 or buffer[start + 12] != 58:
        return 0, -1
    month = 0
    for i in range(12):
        if buffer[start] == _MONTHS[3 * i] and buffer[start + 1] == _MONTHS[3 * i + 1] and buffer[start + 2] == _MONTHS[3 * i + 2]:
            month = i + 1
    day = _digits(buffer, start + 5, 1, end) if buffer[start + 4] == 32 else _digits(buffer, start + 4, 2, end)
    hour, minute, second = _digits(buffer, start + 7, 2, end), _digits(buffer, start + 10, 2, end), _digits(buffer, start + 13, 2, end)
    best = -1
    for candidate in range(year - 1, year + 2):
        found = _seconds(candidate, month, day, hour, minute, second)
        if found >= 0 and (best < 0 or abs(found - noon) < abs(best - noon)):
            best = found
    return (best * _SECOND, start + 15) if best > 0 else (0, -1)


def _token(buffer: Bytes, start: int, end: int) -> int:
    """Where the text up to the next space ends."""
    while start < end and buffer[start] != 32:
        start += 1
    return start


def _structured(buffer: Bytes, start: int, end: int) -> int:
    """Where the structured data at `start` ends, -1 when it is not well-formed."""
    position = start
    while position < end and buffer[position] == 91:
        quoted = False
        position += 1
        while position < end and (quoted or buffer[position] != 93):
            if quoted and buffer[position] == 92:
                position += 1
            elif buffer[position] == 34:
                quoted = not quoted
            position += 1
        if position >= end:
            return -1
        position += 1
    return position if position > start else -1


def _modern(buffer: Bytes, start: int, end: int, row: Ints) -> bool:
    """Read RFC 5424 from its time stamp on; whether this is sure."""
    position = start + 1
    if buffer[start] != 45:
        row[TIME], position = _iso(buffer, start, end)
    for cell in (HOST, APP, PROCID, MSGID):
        if position < 0 or position >= end or buffer[position] != 32:
            return False
        stop = _token(buffer, position + 1, end)
        if stop == position + 1:
            return False
        nil = stop == position + 2 and buffer[position + 1] == 45
        row[cell], row[cell + 1] = position + 1, 0 if nil else stop - position - 1
        position = stop
    if row[APP + 1] == 1 and buffer[row[APP]] == 49:
        return False
    if position + 1 >= end or buffer[position] != 32:
        return False
    stop = position + 2
    if buffer[position + 1] != 45:
        stop = _structured(buffer, position + 1, end)
        row[STRUCTURED], row[STRUCTURED + 1] = position + 1, stop - position - 1
    if stop < 0 or (stop < end and buffer[stop] != 32):
        return False
    position = min(stop + 1, end)
    if end - position >= 3 and buffer[position] == 0xEF and buffer[position + 1] == 0xBB and buffer[position + 2] == 0xBF:
        position += 3
    if position < end and buffer[position] == 32:
        position += 1
    row[BODY], row[BODY + 1] = position, end - position
    return True


def _classic(buffer: Bytes, start: int, end: int, row: Ints, year: int, noon: int) -> bool:
    """Read RFC 3164 from its time stamp on; whether this is sure."""
    position = -1
    if 48 <= buffer[start] <= 57:
        row[TIME], position = _iso(buffer, start, end)
    else:
        row[TIME], position = _bsd(buffer, start, end, year, noon)
    if position < 0 or position + 1 >= end or buffer[position] != 32 or buffer[position + 1] == 32:
        return False
    stop = _token(buffer, position + 1, end)
    row[HOST], row[HOST + 1] = position + 1, stop - position - 1
    position = start = stop + 1
    while position < end and (
        buffer[position] == 45 or buffer[position] == 46 or buffer[position] == 47 or buffer[position] == 95
        or 48 <= buffer[position] <= 57 or 65 <= buffer[position] <= 90 or 97 <= buffer[position] <= 122
    ):  # fmt: skip
        position += 1
    row[APP], row[APP + 1] = start, position - start
    if position == start or position - start > 48 or (position - start == 1 and buffer[start] == 49):
        return False
    if position < end and buffer[position] == 91:
        start = position + 1
        while position < end and buffer[position] != 93 and buffer[position] != 32 and buffer[position] < 128:
            position += 1
        if position >= end or buffer[position] != 93 or position - start > 64:
            return False
        row[PROCID], row[PROCID + 1] = start, position - start
        position += 1
    if position < end and buffer[position] == 58:
        position += 1
    if position < end and buffer[position] != 32:
        return False
    position = min(position + 1, end)
    row[BODY], row[BODY + 1] = position, end - position
    return position == end or buffer[position] != 0xEF


def _lines(buffer: Bytes, starts: Ints, ends: Ints, year: int, noon: int, out: Ints) -> None:
    """Read lines into rows of `CELLS` cells each; `year` and `noon` (seconds) say when they were received."""
    for i in range(len(starts)):
        row = out[i * CELLS : (i + 1) * CELLS]
        for k in range(CELLS):
            row[k] = 0
        start, end = starts[i], ends[i]
        while end > start and (buffer[end - 1] == 10 or buffer[end - 1] == 13 or buffer[end - 1] == 0):
            end -= 1
        position = start + 1
        while position < end and position < start + 4 and 48 <= buffer[position] <= 57:
            position += 1
        priority = _digits(buffer, start + 1, position - start - 1, end)
        if position == start + 1 or position + 3 >= end or buffer[start] != 60 or buffer[position] != 62 or priority > 191:
            continue
        row[FACILITY], row[SEVERITY] = priority // 8, priority % 8
        if buffer[position + 1] == 49 and buffer[position + 2] == 32:
            sure = _modern(buffer, position + 3, end, row)
        else:
            sure = _classic(buffer, position + 1, end, row, year, noon)
        if sure:
            row[STATE] = SURE
