"""How good past forecasts were: what was foretold against what came."""

from __future__ import annotations

import math
from typing import Any

from ninefold.foresight.told import LEADS, SOURCE
from ninefold.ground.clock import SECOND
from ninefold.plugin import Store

_DAYS = 60
_SAID = """toFloat64OrZero(attributes[concat('plus_', lead, '{0}')])"""
_TOLD = f"""SELECT toUInt64OrZero(source_id) AS series, lead, toDateTime(toStartOfHour(time + toIntervalSecond(lead_s)), 'UTC') AS hour,
    toFloat64OrZero(attributes['last']) AS last, {_SAID.format("")} AS centre, {_SAID.format("_lower")} AS lower,
    {_SAID.format("_upper")} AS upper, {_SAID.format("_lower_80")} AS lower_80, {_SAID.format("_upper_80")} AS upper_80
    FROM event ARRAY JOIN {{leads:Array(String)}} AS lead, {{leads_s:Array(UInt32)}} AS lead_s
    WHERE kind = 'forecast' AND source = {{source:String}}
    AND received >= fromUnixTimestamp64Second({{begin:Int64}}, 'UTC') AND ({{id:String}} = '' OR source_id = {{id:String}})
    AND mapContains(attributes, concat('plus_', lead)) AND attributes['of'] != 'rate'"""  # noqa: S608 - our names
_CAME = """SELECT series, toDateTime(time, 'UTC') AS hour, sum(r.sum) / sum(r.count) AS actual, 1 AS there FROM metric_1h AS r
    WHERE series IN (SELECT DISTINCT toUInt64OrZero(source_id) FROM event WHERE kind = 'forecast' AND source = {source:String}
    AND received >= fromUnixTimestamp64Second({begin:Int64}, 'UTC') AND ({id:String} = '' OR source_id = {id:String}))
    AND time < fromUnixTimestamp64Second({end:Int64}, 'UTC')
    AND time >= fromUnixTimestamp64Second({begin:Int64}, 'UTC') GROUP BY series, hour"""
_EACH = f"""SELECT t.lead AS name, t.series AS series, count() AS issued, sum(c.there) AS judged,
    sum(c.there * abs(t.centre - c.actual)) AS missed, sum(c.there * abs(t.last - c.actual)) AS naive, sum(c.there * abs(c.actual)) AS size,
    sum(c.there * (c.actual BETWEEN t.lower AND t.upper)) AS inside,
    sum(c.there * (c.actual BETWEEN t.lower_80 AND t.upper_80)) AS inside_80
    FROM ({_TOLD}) AS t LEFT JOIN ({_CAME}) AS c ON t.series = c.series AND t.hour = c.hour GROUP BY name, series"""  # noqa: S608 - our names
_JUDGED = f"""SELECT name, sum(issued) AS issued_all, sum(judged) AS judged_all, sum(inside) AS inside_all, sum(inside_80) AS inside_80_all,
    medianIf(missed / naive, naive > 0) AS relative, medianIf(missed / size, size > 0) AS wape FROM ({_EACH}) GROUP BY name"""  # noqa: S608 - our names


def judge(store: Store, now: int, series: int | None = None) -> list[dict[str, Any]]:
    """Quality by lead of the last 60 days' forecasts, of one series or of all: how many were issued and judged, their mean absolute error
    relative to that of the last value known when they were made (`relative_error`) and to the size of what came (`wape`), both the
    median over series, and the shares of what came that lay within the bounds of 95 and 80 % (None where nothing could be judged). What
    came is the mean of an hour that is over; forecasts of a counter's rate are not judged.

    Raises:
        Unavailable: the store cannot be read now.
    """
    asked = {
        "id": "" if series is None else str(series), "leads": list(LEADS), "leads_s": list(LEADS.values()), "source": SOURCE,
        "begin": now // SECOND - _DAYS * 86400, "end": now // SECOND // 3600 * 3600,
    }  # fmt: skip
    rows = {row["name"]: row for row in store.query(_JUDGED, asked).to_pylist()}
    return [_quality(name, seconds, rows[name]) for name, seconds in LEADS.items() if name in rows]


def _quality(name: str, seconds: int, row: dict[str, Any]) -> dict[str, Any]:
    judged = int(row["judged_all"])
    errors = {key: float(row[column]) for key, column in (("relative_error", "relative"), ("wape", "wape"))}
    inside = {key: float(row[column]) / judged if judged else None
              for key, column in (("coverage_95", "inside_all"), ("coverage_80", "inside_80_all"))}  # fmt: skip
    return {
        "lead": name, "lead_s": seconds, "issued": int(row["issued_all"]), "judged": judged,
        **{key: value if math.isfinite(value) else None for key, value in errors.items()}, **inside,
    }  # fmt: skip
