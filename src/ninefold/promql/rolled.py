"""Where retention has taken the samples of a series: what the roll-ups still know of them.

A minute is its last sample, which is a true one, so that rates between minutes are right but for what a restart within one hides. Of
an hour that has no minutes any more stand twelve points on the line between the last samples, as instant selectors look back five
minutes; where the line would fall it is level, since for a counter that is a restart. What `avg_over_time`, `sum_over_time`,
`count_over_time`, `min_over_time` and `max_over_time` need is kept exactly, but for the spans at a window's edges.

Where there are samples no roll-up is read, however long the range: a window is open on its left and a minute on its right, so samples on
the minute would count in other windows.
"""

from __future__ import annotations

import time
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ninefold.ground.errors import BadData
from ninefold.plugin import Store
from ninefold.promql.matrix import F64, I64

Want = Literal["last", "mean", "low", "high"]
"""What stands for a span: its last sample, or a figure of all its samples."""
WANTS: dict[str, Want] = {
    "avg_over_time": "mean", "sum_over_time": "mean", "count_over_time": "mean", "min_over_time": "low", "max_over_time": "high",
}  # fmt: skip
"""Range function -> what it needs of a span; all others need the last sample."""
WARNING = "samples of this time are no longer kept; part of the answer was made from roll-ups to minutes or hours (docs/store.md)"
_KEPT_MS = 86_400_000
"""Samples are kept for a day at least."""
_MINUTE, _HOUR, _APART = 60_000, 3_600_000, 300_000
_VALUES: dict[Want, str] = {"last": "argMaxMerge(r.last)", "mean": "sum(r.sum) / sum(r.count)", "low": "min(r.min)", "high": "max(r.max)"}
_SPANS = """SELECT r.series AS series, toUnixTimestamp64Milli(toDateTime64(r.time, 3, 'UTC')) AS start,
    toUnixTimestamp64Milli(max(r.last_time)) AS at, <value> AS value, toFloat64(sum(r.count)) AS n
    FROM <table> AS r WHERE <within> <more> GROUP BY r.series, r.time HAVING at > {begin:Int64}
    ORDER BY series, start LIMIT {limit:UInt64} SETTINGS final = 0"""
_WITHIN = """series IN {ids:Array(UInt64)} AND time >= toStartOfHour(fromUnixTimestamp64Milli({begin:Int64}, 'UTC'))
    AND time <= fromUnixTimestamp64Milli({end:Int64}, 'UTC')"""
_NOWHERE_ELSE = "".join(
    f" AND (series, toUnixTimestamp(time)) NOT IN (SELECT series, toUnixTimestamp(toStartOfHour(time)) FROM {finer} WHERE {_WITHIN})"  # noqa: S608 - our names
    for finer in ("metric_1m", "metric")
)


class Points(NamedTuple):
    """Points of several series, one series behind the other, each in time order.

    `times` are in ms; `weights` are how many samples each point stands for.
    """

    owner: npt.NDArray[np.uint64]
    times: I64
    values: F64
    weights: F64


def complete(store: Store, ids: list[int], raw: Points, begin: int, end: int, want: Want, limit: int) -> Points:
    """`raw`, and before each series' first sample after `begin` what the roll-ups have of it; `raw` itself when that is nothing.

    Args:
        store: where the roll-ups are.
        ids: the series.
        raw: their samples after `begin` and up to `end` (ms).
        begin, end: what was asked for.
        want: what is to stand for a span.
        limit: most rows to read of each roll-up.

    Raises:
        BadData: there are more.
    """
    if begin > time.time() * 1000 - _KEPT_MS:
        return raw
    if lacking := _incomplete(ids, raw, begin + _MINUTE):
        found = _spans(store, "metric_1m", "", lacking, begin, end, want, limit)
        raw = _before(raw, Points(found["series"], found["at"], found["value"], found["n"]), begin, end)
    if lacking := _incomplete(ids, raw, begin + _HOUR):
        found = _spans(store, "metric_1h", _NOWHERE_ELSE, lacking, begin - _HOUR, end, want, limit)
        raw = _before(raw, _twelve(found, want), begin, end)
    return raw


def _incomplete(ids: list[int], points: Points, since: int) -> list[int]:
    """The series that have nothing up to `since`."""
    early = set(points.owner[points.times <= since].tolist())
    return [series for series in ids if series not in early]


def _spans(store: Store, table: str, more: str, ids: list[int], begin: int, end: int, want: Want, limit: int) -> dict[str, Any]:
    sql = _SPANS.replace("<value>", _VALUES[want]).replace("<table>", table).replace("<within>", _WITHIN).replace("<more>", more)
    found = store.query(sql, {"ids": ids, "begin": begin, "end": end, "limit": limit + 1})
    if found.num_rows > limit:
        raise BadData(f"the query would read more than {limit:,} minutes or hours; narrow the selector or shorten the range")
    return {name: found[name].to_numpy() for name in found.column_names}


def _before(points: Points, more: Points, begin: int, end: int) -> Points:
    """Both, of `more` what lies within the time and before the series' first of `points`."""
    series, first = np.unique(points.owner, return_index=True)
    known = np.append(points.times[first], end + 1)
    place = np.searchsorted(series, more.owner)
    has = np.append(series, 0)[place] == more.owner
    known = np.where(has & (place < len(series)), known[np.minimum(place, len(series))], end + 1)
    chosen = (more.times > begin) & (more.times < known)
    if not chosen.any():
        return points
    both = [np.concatenate((part[chosen], there)) for part, there in zip(more, points, strict=True)]
    order = np.lexsort((both[1], both[0]))
    return Points(*(part[order] for part in both))


def _twelve(hours: dict[str, Any], want: Want) -> Points:
    """Twelve points for each hour."""
    owner, start, value = hours["series"], hours["start"], hours["value"]
    steps = np.arange(1, _HOUR // _APART + 1)
    times = (start[:, None] + steps * _APART).ravel()
    values = np.repeat(value, len(steps))
    if want == "last" and len(value):
        before = np.append(value[0], value[:-1])
        follows = np.append(False, (np.diff(owner) == 0) & (np.diff(start) == _HOUR)) & (value >= before)
        values = np.where(follows[:, None], before[:, None] + (value - before)[:, None] * steps / len(steps), value[:, None]).ravel()
    return Points(np.repeat(owner, len(steps)), times, values, np.repeat(hours["n"] / len(steps), len(steps)))
