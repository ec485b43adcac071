"""Looking ahead: every hour, each series that could run full, run out or expire is forecast; the forecasts are kept and judged later, and
a threshold that will be met soon is told as an anomaly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ninefold.config import ForecastConfig
from ninefold.foresight.looking import View, look, windows
from ninefold.foresight.thresholds import Threshold, thresholds
from ninefold.foresight.told import SOURCE, kept, over, warning
from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import Unavailable
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.model.signal import Batch, batch_of
from ninefold.plugin import Emit, Store

__all__ = ["Foresight"]

_log = get("foresight")
_DAY = 86400
_LATELY_S = 2 * _DAY
_REACH = 2.0
"""A warning is told when its earliest breach is no farther ahead than this many times the span the forecast was learned from."""
_CALM = 0.5
"""A warning ends when its chance has fallen below this share of what raises one."""
_GIVEN_UP = 3
"""A warning ends when its series could not be forecast so many rounds in a row."""
_SERIES = """SELECT series, name, unit, kind, entity, attributes FROM series WHERE series IN (
    SELECT DISTINCT series FROM metric_1h WHERE time >= fromUnixTimestamp64Second({since:Int64}, 'UTC') SETTINGS final = 0)"""


class Foresight:
    """The hourly look ahead, as a feed of events.

    Args:
        store: where the past is.
        config: how far, how often, which thresholds beside those that names tell.
        load: the warnings that were firing when the program ended.
        meter: counts what was forecast.
    """

    name = SOURCE

    def __init__(self, store: Store, config: ForecastConfig, load: Callable[[], dict[str, Any]], meter: Meter) -> None:
        self._store, self._config, self._load = store, config, load
        self._made = meter.counter("ninefold_forecasts_total", "Forecasts made of series that have a threshold.")
        self._failing: dict[str, int] = {}
        self._failed = meter.counter("ninefold_forecasts_failed_total", "Series whose forecast failed; the log says why.")

    async def run(self, emit: Emit) -> None:
        """Look ahead until cancelled, the first time when the store has had a while to fill.

        Raises:
            Unavailable: the store cannot be read now.
        """
        firing: dict[str, int] = await asyncio.to_thread(lambda: dict(self._load().get("firing", {})))
        await asyncio.sleep(self._config.first_after_s)
        while True:
            batches, firing_now = await asyncio.to_thread(self.once, now(), firing)
            while batches:
                try:
                    await emit(batches, {"firing": firing_now})
                    break
                except Unavailable as error:
                    await asyncio.sleep(error.retry_after_s)
            firing = firing_now
            await asyncio.sleep(self._config.every_s)

    @property
    def fresh_ns(self) -> int:
        """How long a forecast counts as the newest: two rounds and a little."""
        return int((2.0 * self._config.every_s + 600.0) * SECOND)

    def threshold(self, series: Mapping[str, Any]) -> Threshold | None:
        """The threshold of one series, by what else its entity has.

        Raises:
            Unavailable: the store cannot be read now.
        """
        sql = "SELECT series, name, unit, kind, entity, attributes FROM series WHERE entity = {entity:String} LIMIT 10000"
        rows = self._store.query(sql, {"entity": series["entity"]}).to_pylist()
        return thresholds([{**row, "attributes": dict(row["attributes"])} for row in rows], self._config.thresholds).get(
            int(series["series"])
        )

    def candidates(self, at: int) -> list[tuple[dict[str, Any], Threshold]]:
        """The series heard of lately (ns `at`) that have a threshold, as many as the configuration allows.

        Raises:
            Unavailable: the store cannot be read now.
        """
        rows = self._store.query(_SERIES, {"since": at // SECOND - _LATELY_S}).to_pylist()
        described = [{**row, "attributes": dict(row["attributes"])} for row in rows]
        found = thresholds(described, self._config.thresholds)
        chosen = [(row, found[int(row["series"])]) for row in described if int(row["series"]) in found]
        chosen.sort(key=lambda pair: (pair[1].why != "as configured", int(pair[0]["series"])))
        if len(chosen) > self._config.series:
            _log.warning("%d series have a threshold, %d are forecast; raise forecast.series", len(chosen), self._config.series)
        return chosen[: self._config.series]

    def once(self, at: int, firing: Mapping[str, int]) -> tuple[list[Batch], dict[str, int]]:
        """One round at time `at` (ns): the events of its forecasts and warnings, and the warnings that fire after it, by series with their
        beginning (ns).

        Raises:
            Unavailable: the store cannot be read now.
        """
        config, still = self._config, dict(firing)
        horizon_s = config.horizon_days * _DAY
        events: list[dict[str, Any]] = []
        judged: set[str] = set()
        apart = windows(self._store, at - int(config.history_days * _DAY) * SECOND)
        for row, threshold in self.candidates(at):
            key = str(row["series"])
            try:
                view = look(self._store, row, at, config.history_days * _DAY, horizon_s, threshold=threshold, apart=apart)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one series that trips a defect must not keep the others from being looked at
                _log.error("series %s could not be forecast", key, exc_info=error)
                self._failed.add(1)
                self._failing[key] = failures = self._failing.get(key, 0) + 1
                if failures < _GIVEN_UP or key not in still:
                    judged.add(key)
                continue
            self._failing.pop(key, None)
            if view.breach is None:
                continue
            judged.add(key)
            self._made.add(1)
            events.append(kept(row, view, threshold, at, horizon_s))
            due = view.breach.likely is not None and view.breach.chance >= config.confidence and _within_reach(view, at)
            if key not in still and due:
                still[key] = at
                events.append(warning(row, view, threshold, now=at, since=at, firing=True, horizon_s=horizon_s))
            elif key in still and view.breach.chance < _CALM * config.confidence:
                events.append(warning(row, view, threshold, now=at, since=still.pop(key), firing=False, horizon_s=horizon_s))
        events += [over(row, now=at, since=still.pop(str(row["series"]))) for row in self._described(sorted(still.keys() - judged))]
        return ([batch_of("event", SOURCE, at, events)] if events else []), still

    def _described(self, series: Sequence[str]) -> list[dict[str, Any]]:
        """Their rows; of those that are not known any more nothing but the id."""
        if not series:
            return []
        rows = self._store.query(
            "SELECT series, name, unit, entity FROM series WHERE series IN {ids:Array(UInt64)}", {"ids": [int(one) for one in series]}
        ).to_pylist()
        known = {str(row["series"]): row for row in rows}
        return [known.get(one, {"series": one, "name": f"series {one}", "unit": "", "entity": ""}) for one in series]


def _within_reach(view: View, at: int) -> bool:
    """Whether what was learned reaches as far as the breach: hours of data say nothing about weeks."""
    if view.forecast is None or view.breach is None:
        return True  # a date is known, however far ahead
    first = view.breach.earliest or view.breach.likely
    return first is None or first - at <= _REACH * (at - view.forecast.trained_from)
