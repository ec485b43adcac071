"""Saved regressions, live: each target is forecast from its drivers step by step, and an alarm says when they do not explain it any more.

A model comes as a ``setting`` event of the program itself, through the journal like anything else. Its series are averaged over steps of a
grid; a counter is taken as its rate a second. A step counts when the target and every driver, at its lag, were measured in it; it is
judged and learned from a step after its end. The first steps give the scales; see `regression.Recursive` for what follows. An alarm ends
when the drivers explain the target again, when the model is removed or saved anew, and when nothing could be judged for a while.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ninefold.analytics import keeping
from ninefold.analytics.findings import anomaly, quantity
from ninefold.analytics.metrics.regression import Alarms, Recursive
from ninefold.ground.clock import SECOND
from ninefold.model.signal import Batch, batch_of

LIMIT, KEPT = 100, 300
"""Models, and steps of each that are shown."""
_WARM_UP = 30
_SILENT_STEPS, _SILENT = 10, 600 * SECOND
"""After so many steps, and so long, in which nothing could be judged, an alarm is over."""
_SOURCE, _SETTING = "ninefold", "regression"
_VERSION = 1


class Model:
    """One saved regression and what became of it.

    Args:
        spec: `id`, `name`, `target` and `drivers` (each with `series`, `name`, `counter`; a driver with `lag_s`; the target with `unit` and
            `entity`), and `step_s`.
        state: what `state` gave.
    """

    def __init__(self, spec: dict[str, Any], state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self.spec, self.step = spec, int(spec["step_s"]) * SECOND
        terms = [spec["target"], *spec["drivers"]]
        self.series = [int(term["series"]) for term in terms]
        self.counter = [bool(term["counter"]) for term in terms]
        self.lags = [0] + [round(driver["lag_s"] / spec["step_s"]) for driver in spec["drivers"]]
        self.clock, self.closed, self.since = state.get("clock", 0), state.get("closed", 0), state.get("since", 0)
        self.last: list[list[float] | None] = state.get("last", [None] * len(terms))
        self.cells: list[dict[int, list[float]]] = [{int(k): v for k, v in cells} for cells in state.get("cells", [[]] * len(terms))]
        self.waiting: list[list[float]] = state.get("waiting", [])
        self.filter = Recursive.resume(state["filter"]) if state.get("filter") else None
        self.alarms = Alarms(state.get("recent", ()), state.get("firing", False))
        self.history: list[list[Any]] = state.get("history", [])
        """Of each step judged: begin (ns), value, forecast, studentised residual, coefficients, their standard errors."""
        self.skipped = state.get("skipped", 0)
        self.now: int = state.get("now", 0)
        self.heard: int = state.get("heard", 0)
        """When a step was last judged; like `now` by the time of receipt (ns)."""

    def state(self) -> dict[str, Any]:
        """Plain data from which the constructor continues."""
        return {
            "clock": self.clock, "closed": self.closed, "since": self.since, "last": self.last,
            "cells": [list(cells.items()) for cells in self.cells], "waiting": self.waiting,
            "filter": self.filter.state() if self.filter else None, "recent": self.alarms.recent, "firing": self.alarms.firing,
            "history": self.history, "skipped": self.skipped, "heard": self.heard, "now": self.now,
        }  # fmt: skip

    def take(self, term: int, time: int, value: float, received: int) -> list[dict[str, Any]]:
        """Take in a point of a term; the events of the steps that are over by it."""
        if self.counter[term]:
            before = self.last[term]
            if not np.isfinite(value) or (before is not None and time <= before[0]):
                return []  # no value, or one that is late: what it rose by is in a later one
            self.last[term] = [time, value]
            if before is None:
                return []
            rise = value - before[1] if value >= before[1] else value  # a fall is a restart from 0
            value = rise / ((time - before[0]) / SECOND)
        step = time // self.step
        if step >= self.closed and np.isfinite(value) and time <= received + self.step:
            cell = self.cells[term].setdefault(step, [0.0, 0.0])
            cell[0] += value
            cell[1] += 1.0
        self.clock = max(self.clock, min(time, received))
        over = self.clock // self.step - 1
        events = []
        if over > self.closed:
            first = self.closed
            self.closed = over
            for due in sorted({s for s in self.cells[0] if first <= s < over}):
                events += self._close(due, received)
            oldest = over - 1 - max(self.lags)
            self.cells = [{s: cell for s, cell in cells.items() if s >= oldest} for cells in self.cells]
        return events

    def pass_to(self, received: int) -> list[dict[str, Any]]:
        """Before anything received then is taken in: the end of an alarm, if nothing could be judged for long."""
        before, self.now = self.now, max(self.now, received)
        if self.now == before or before - self.heard <= max(_SILENT_STEPS * self.step, _SILENT):
            return []
        return self.end(before, "could not be compared with its drivers for a while: something is not measured")

    def end(self, now: int, why: str) -> list[dict[str, Any]]:
        """The end of its alarm, if it fires, for a reason that is not in the data."""
        if not self.alarms.firing:
            return []
        self.alarms = Alarms()
        return [self._told(now, f"{self.spec['target']['name']} {why}", {}, firing=False)]

    def _close(self, step: int, received: int) -> list[dict[str, Any]]:
        """Judge one step."""
        parts = [cells.get(step - lag) for cells, lag in zip(self.cells, self.lags, strict=True)]
        row = [cell[0] / cell[1] for cell in parts if cell is not None]
        if len(row) < len(parts):
            self.skipped += 1
            return []
        self.heard = max(self.heard, received)
        if self.filter is None:
            self.waiting.append([float(step), *row])
            if len(self.waiting) < _WARM_UP:
                return []
            table = np.array(self.waiting)[:, 1:]
            scale = table.std(axis=0)
            order = [*range(1, len(row)), 0]
            self.filter = Recursive(table.mean(axis=0)[order], np.where(scale > 0, scale, 1.0)[order])
            rows, self.waiting = self.waiting, []
            return [event for at, *values in rows for event in self._judge(int(at), values)]
        return self._judge(step, row)

    def _judge(self, step: int, row: list[float]) -> list[dict[str, Any]]:
        filter_, begin = self.filter, step * self.step
        if filter_ is None:
            return []
        ready, best = filter_.ready, filter_.best
        made = filter_.step(np.array(row[1:]), row[0])
        forecast, error, residual = (float(part[best]) for part in made)
        values, errors = filter_.coefficients()
        self.history = [*self.history[-(KEPT - 1) :], [begin, row[0], forecast, residual, values.tolist(), errors.tolist()]]
        said = self.alarms.judge(residual) if ready else ""
        if said == "fired":
            self.since = begin
        return [self._event(begin, said == "fired", row[0], forecast, error, residual)] if said else []

    def _event(self, begin: int, firing: bool, value: float, forecast: float, error: float, residual: float) -> dict[str, Any]:
        target, unit = self.spec["target"], self.spec["target"]["unit"]
        drivers = ", ".join(driver["name"] for driver in self.spec["drivers"])
        title = f"{target['name']} is {quantity(value, unit)} where {drivers} explain {quantity(forecast, unit)}"
        if not firing:
            title = f"{target['name']} is again what {drivers} explain"
        numbers = {
            "value": value,
            "expected": forecast,
            "lower": forecast - 4 * error,
            "upper": forecast + 4 * error,
            "score": abs(residual),
        }
        return self._told(begin + self.step, title, numbers, firing=firing)

    def _told(self, time: int, title: str, numbers: dict[str, float], *, firing: bool) -> dict[str, Any]:
        target = self.spec["target"]
        return anomaly(
            Regressions.name, {"model": self.spec["id"], "series": str(target["series"])}, entity=target["entity"], time=time,
            since=self.since, firing=firing, title=title, severity="warning",
            attributes={"reason": "residual", "metric": target["name"], "unit": target["unit"], "horizon": f"{self.step // SECOND} s",
                        "regression": self.spec["name"], **{name: f"{number:.6g}" for name, number in numbers.items()}},
        )  # fmt: skip

    def told(self) -> dict[str, Any]:
        """How the model stands now: copies."""
        latest = self.history[-1] if self.history else None
        return {
            "points": self.filter.points if self.filter else len(self.waiting), "skipped": self.skipped, "firing": self.alarms.firing,
            "since": self.since if self.alarms.firing else 0, "coefficients": list(latest[4]) if latest else [],
            "errors": list(latest[5]) if latest else [], "history": [list(row) for row in self.history],
            "forgetting": float(self.filter.forgetting[self.filter.best]) if self.filter else None,
        }  # fmt: skip


class Regressions:
    """The technique over the series of saved models; others cost a look at their id."""

    name: ClassVar[str] = "regression"
    signals: ClassVar[frozenset[str]] = frozenset({"metric", "event"})

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._find()

    def process(self, batch: Batch) -> list[Batch]:
        """Take in settings and points; returns the alarms that begin or end."""
        events: list[dict[str, Any]] = []
        if batch.signal == "event":
            if batch.source == _SOURCE:
                events = self._set(batch)
        elif self._models:
            events = [event for model in self._models.values() for event in model.pass_to(batch.received)]
            events += self._points(batch)
        return [batch_of("event", f"ninefold.{self.name}", batch.received, events)] if events else []

    def _points(self, batch: Batch) -> list[dict[str, Any]]:
        ids = batch.rows.column("series").to_numpy(zero_copy_only=False)
        hits = np.flatnonzero(np.isin(ids, self._wanted))
        if not len(hits):
            return []
        some = batch.rows.take(pa.array(hits))
        times, values = some.column("time").cast(pa.int64()).to_pylist(), some.column("value").to_pylist()
        events: list[dict[str, Any]] = []
        for series, time, value in zip(ids[hits].tolist(), times, values, strict=True):
            for key, term in self._terms[series]:
                events += self._models[key].take(term, time, value, batch.received)
        return events

    def snapshot(self) -> bytes:
        """All models with all they learned."""
        return keeping.pack(self.name, _VERSION, [[model.spec, model.state()] for model in self._models.values()])

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; empty bytes start afresh.

        Raises:
            BadData: it is of another version.
        """
        models = keeping.unpack(self.name, _VERSION, state)[0] if state else []
        self._models = {spec["id"]: Model(spec, kept) for spec, kept in models}
        self._find()

    def told(self) -> dict[str, dict[str, Any]]:
        """How every model stands now, by id."""
        return {key: model.told() for key, model in self._models.items()}

    def _set(self, batch: Batch) -> list[dict[str, Any]]:
        """Add and remove models; the ends of alarms of those that are no more as they were."""
        events: list[dict[str, Any]] = []
        for kind, attributes in zip(batch.rows.column("kind").to_pylist(), batch.rows.column("attributes").to_pylist(), strict=True):
            about = dict(attributes)
            if kind != "setting" or about.get("setting") != _SETTING:
                continue
            key = about["ninefold.key"]
            if key in self._models:
                events += self._models.pop(key).end(batch.received, f"is not watched as it was any more: {about['ninefold.change']}")
            if about["ninefold.change"] == "saved" and len(self._models) < LIMIT:
                self._models[key] = Model(json.loads(about["value"]))
            self._find()
        return events

    def _find(self) -> None:
        """Which series are looked at, and for which terms of which models."""
        self._terms: dict[int, list[tuple[str, int]]] = {}
        for key, model in self._models.items():
            for term, series in enumerate(model.series):
                self._terms.setdefault(series, []).append((key, term))
        self._wanted = np.array(sorted(self._terms), np.uint64)
