"""Looking ahead for one series: its past from the store, its forecast, and when it meets its threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ninefold.analytics.metrics.describing import is_counter, rate
from ninefold.analytics.metrics.forecast import Breach, Forecast, Window, breach, forecast, natural_bounds
from ninefold.foresight.thresholds import Threshold
from ninefold.ground.clock import SECOND, parse
from ninefold.plugin import Store
from ninefold.store.points import read

_ROWS, _CELLS = 3000, 2000
_YEAR = 366 * 86400 * SECOND
_KINDS = ("holiday", "maintenance")
_ANNOUNCED = 400 * 86400 * SECOND
"""How long before it begins a window may have been announced."""
"""Events that say, by an attribute `until`, how long what they tell of lasts; such times are left out of learning."""


@dataclass(frozen=True, slots=True)
class View:
    """What is seen ahead of a series: the forecast (None while too little is known), and the breach where there is a threshold."""

    forecast: Forecast | None
    threshold: float | None
    breach: Breach | None


def look(
    store: Store, series: Mapping[str, Any], now: int, history_s: float, horizon_s: float, *, threshold: Threshold | None = None,
    apart: Sequence[tuple[str, Window]] = (),
) -> View:  # fmt: skip
    """Forecast one series. A counter is seen as its rate.

    Args:
        store: where its points are.
        series: its row (series, name, unit, kind, entity).
        now: ns.
        history_s: how far back to learn from;
        horizon_s: how far ahead.
        threshold: what it must not meet.
        apart: times to leave out of learning, as `windows` gives them.

    Raises:
        Unavailable: the store cannot be read now.
    """
    value = limit_of(store, threshold) if threshold is not None else None
    if threshold is not None and threshold.date:
        return _date(store, int(series["series"]), now, horizon_s)
    counter = is_counter(series["kind"], series["name"])
    line = read(store, int(series["series"]), max(0, now - int(history_s * SECOND)), now, counter=counter, rows=_ROWS)
    times, values = line.times, rate(line.times, line.values) if counter else line.values
    if not len(times):
        return View(None, value, None)
    own = [window for entity, window in apart if entity in ("", series["entity"])]
    found = forecast(times, values, horizon_s + (now - int(times[-1])) / SECOND, most=_CELLS, windows=own)
    if found is None:
        return View(None, value, None)
    met = breach(found, value, above=threshold.above) if threshold and value is not None else None
    return View(found.within(*natural_bounds(series["unit"], values)), value, met)


def limit_of(store: Store, threshold: Threshold) -> float | None:
    """The threshold's value; of one that another series holds, the newest there; None when that has none."""
    if not threshold.beside:
        return threshold.value
    rows = store.query(
        "SELECT argMaxMerge(last) AS value, max(time) AS at FROM metric_1h WHERE series = {id:UInt64} GROUP BY series SETTINGS final = 0",
        {"id": threshold.beside},
    ).to_pylist()
    return float(rows[0]["value"]) if rows and np.isfinite(rows[0]["value"]) and rows[0]["value"] > 0 else None


def windows(store: Store, begin: int) -> list[tuple[str, Window]]:
    """Holidays and maintenance since `begin` (ns) and to come, with the entity they concern ("": everything).

    Raises:
        Unavailable: the store cannot be read now.
    """
    rows = store.query(
        """SELECT toUnixTimestamp64Nano(time) AS at, kind, entity, attributes['start'] AS start,
            if(attributes['end'] != '', attributes['end'], attributes['until']) AS until FROM event
        WHERE kind IN {kinds:Array(String)} AND until != ''
        AND time >= fromUnixTimestamp64Nano({begin:Int64}, 'UTC') ORDER BY at DESC LIMIT 10000""",
        {"kinds": list(_KINDS), "begin": max(0, int(begin) - _ANNOUNCED)},
    ).to_pylist()
    found = []
    for row in reversed(rows):
        try:
            start = parse(row["start"]) if row["start"] else row["at"]
            window = Window(start, parse(row["until"]), row["kind"])
        except ValueError:
            continue  # whoever sent it wrote no time there: it names no window
        if window.end >= begin:
            found.append((row["entity"], window))
    return found


def _date(store: Store, series: int, now: int, horizon_s: float) -> View:
    """Of a value that is itself a time nothing needs to be foretold."""
    line = read(store, series, now - 30 * 86400 * SECOND, now, counter=False, rows=_ROWS)
    ends = int(line.values[-1] * SECOND) if len(line.values) and 0 < line.values[-1] < 2**33 else None
    if ends is None:
        return View(None, None, None)
    inside = ends <= now + horizon_s * SECOND
    at = max(ends, now) if inside else None
    return View(None, ends / SECOND, Breach(at, at, at, 1.0 if inside else 0.0))
