"""The points of one series over a time: as they were received, or from the roll-ups to minutes or hours when those are too many or gone.

The finest form is read that is small enough and reaches as far back as the coarsest. Of a roll-up's span come the mean and the extremes, so
that no extreme is lost; of a counter comes a counter that never falls, whose rise over each span is what the counter rose, restarts
included. (One case cannot be told from the last value and the extremes: a counter that restarts and overtakes its old height within one
span; what it rose before the restart is then missing.)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from ninefold.ground.clock import SECOND
from ninefold.plugin import Store
from ninefold.store.downsample import F64, I64

ROWS = 20_000
"""As many rows are read and judged in a few hundredths of a second; a week of a sample every 15 s is read by the minute."""
_MOST = 1_000_000
_HOUR = 3600
Resolution = Literal["raw", "1m", "1h"]
_ALL: tuple[Resolution, ...] = ("raw", "1m", "1h")
SPAN_S = {"raw": 1, "1m": 60, "1h": _HOUR}
_RAW = """SELECT toUnixTimestamp64Nano(time) AS at, value FROM metric WHERE series = {series:UInt64}
    AND time BETWEEN fromUnixTimestamp64Nano({begin:Int64}, 'UTC') AND fromUnixTimestamp64Nano({end:Int64}, 'UTC')
    ORDER BY time DESC LIMIT {limit:UInt32}"""
_WITHIN = """series = {series:UInt64} AND time BETWEEN fromUnixTimestamp64Second({first:Int64}, 'UTC')
    AND fromUnixTimestamp64Second({last:Int64}, 'UTC')"""
_ROLLED = f"""SELECT toUnixTimestamp64Second(r.time) AS at, sum(r.count) AS n, min(r.min) AS low, max(r.max) AS high, <more>
    FROM <table> AS r WHERE {_WITHIN} GROUP BY r.time ORDER BY at DESC LIMIT {{limit:UInt32}} SETTINGS final = 0"""  # noqa: S608 - our names
_GAUGE = "sum(r.sum) AS total"
_COUNTER = "argMaxMerge(r.last) AS final, toUnixTimestamp64Milli(max(r.last_time)) AS final_at"
_HOURS = f"""SELECT sum(count) AS samples, uniqExact(time) AS spans, min(toUnixTimestamp64Second(time)) AS start FROM metric_1h
    WHERE {_WITHIN} SETTINGS final = 0"""  # noqa: S608 - our names


class Line(NamedTuple):
    """Points in order, each time once. Of raw points `low`, `high` and `value` are one and `count` is 1.

    Attributes:
        times: ns; a span's beginning, of a counter the time of its last sample.
        values: samples or means; of a counter its height.
        low, high: the extremes in each span; of a counter its height.
        counts: how many samples each point stands for.
        resolution: what was read.
    """

    times: I64
    values: F64
    low: F64
    high: F64
    counts: I64
    resolution: Resolution


def read(store: Store, series: int, begin: int, end: int, *, counter: bool, step_s: int = 0, rows: int = ROWS) -> Line:
    """The points of a series from `begin` to `end` (ns), the newest million when there are more.

    Args:
        store: where they are.
        series, begin, end: what is wanted.
        counter: whether the series only grows.
        step_s: the spans that the caller makes of the points; no roll-up is read that does not fit into them. 0: any.
        rows: about how many rows to read at most, where there is a roll-up.
    """
    asked = {"series": series, "begin": begin, "end": end, "limit": _MOST, "first": begin // SECOND // _HOUR * _HOUR, "last": end // SECOND}
    (hours,) = store.query(_HOURS, asked).to_pylist()
    fit = [name for name in _ALL if not step_s or step_s % SPAN_S[name] == 0]
    sizes = {"raw": hours["samples"], "1m": min(hours["samples"], 60 * hours["spans"]), "1h": hours["spans"]}
    small = [name for name in fit if sizes[name] <= rows] or fit[-1:]
    for name in [*small, *(name for name in _ALL if name not in fit)]:
        line = _line(store, name, asked, counter)
        if not hours["samples"] or (len(line.times) and line.times[0] // SECOND // _HOUR * _HOUR <= hours["start"]):
            break
    return line


def _line(store: Store, resolution: Resolution, asked: dict[str, int], counter: bool) -> Line:
    if resolution == "raw":
        return _raw(store.query(_RAW, asked))
    span = SPAN_S[resolution]
    asked = {**asked, "first": asked["begin"] // SECOND // span * span}
    sql = _ROLLED.replace("<table>", f"metric_{resolution}").replace("<more>", _COUNTER if counter else _GAUGE)
    return _rolled(store.query(sql, asked), resolution, counter)


def _raw(found: pa.Table) -> Line:
    times, values = (found.column(name).to_numpy()[::-1] for name in ("at", "value"))
    once = np.append(np.diff(times) > 0, True)[: len(times)]
    times, values = times[once], values[once]
    return Line(times, values, values, values, np.ones(len(times), np.int64), "raw")


def _rolled(found: pa.Table, resolution: Resolution, counter: bool) -> Line:
    at, n, low, high, *more = (column.to_numpy()[::-1] for column in found.columns)
    counts = n.astype(np.int64)
    if not counter:
        return Line(at * SECOND, more[0] / np.maximum(counts, 1), low, high, counts, resolution)
    height = unbroken(low, high, more[0])
    return Line(more[1] * 1_000_000, height, height, height, counts, resolution)


def unbroken(low: F64, high: F64, last: F64) -> F64:
    """A counter that rises as one did that may have restarted, from the extremes and the last value of each span."""
    before, least, most, after = last[:-1], low[1:], high[1:], last[1:]
    peak = np.maximum(np.where(most > after, most, before), before)  # as high as it came before it restarted
    rise = np.where(least < before, peak - before + after, after - before)
    return np.concatenate((last[:1], last[:1] + np.cumsum(rise)))
