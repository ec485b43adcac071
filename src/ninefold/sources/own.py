"""Ninefold's own doings as data: its records' changes become events, its meters become metrics, through the one front door.

This is what makes "results feed back as a secondary source" true: an incident opened, a workflow step's result and an
approval are events like any other, and Ninefold's own queues and delays are watched like any other service's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from ninefold.ground.clock import now
from ninefold.ground.errors import Unavailable
from ninefold.ground.meter import Meter
from ninefold.model.entity import series_id
from ninefold.model.signal import Batch, batch_of, event_id
from ninefold.plugin import Emit

SOURCE = "ninefold"
ENTITY = "service:ninefold"
_KINDS = {
    "incident": "incident", "run": "workflow", "approval": "approval", "setting": "setting", "page": "page", "heartbeat": "alert",
    "maintenance": "maintenance",
}  # fmt: skip
_METER_KINDS = {"counter": "counter", "gauge": "gauge", "histogram": "unknown"}


class Change(Protocol):
    """One row of the records' change feed."""

    id: int
    time: int
    topic: str
    kind: str
    key: str
    data: dict[str, Any]


class OwnEvents:
    """Follows the change feed and emits one event per change of an incident, a run, an approval or a page.

    Args:
        changes: the changes behind an id, in order.
        position: the id of the last change emitted.
        advance: keeps that id. An event's id is made from the change's, so a repeat after a crash is the same event.
    """

    name = SOURCE

    def __init__(self, changes: Callable[[int], Sequence[Change]], position: Callable[[], int], advance: Callable[[int], None]) -> None:
        self._changes, self._position, self._advance = changes, position, advance

    async def run(self, emit: Emit) -> None:
        """Emit until cancelled."""
        after = await asyncio.to_thread(self._position)
        while True:
            last, batches = await asyncio.to_thread(self._after, after)
            if last > after:
                try:
                    if batches:
                        await emit(batches)
                    after = last
                    await asyncio.to_thread(self._advance, after)
                except Unavailable as error:
                    await asyncio.sleep(error.retry_after_s)
            else:
                await asyncio.sleep(0.2)

    def _after(self, after: int) -> tuple[int, list[Batch]]:
        changes = self._changes(after)
        rows = [_event(change) for change in changes if change.topic in _KINDS and not _passing(change)]
        return changes[-1].id if changes else after, [batch_of("event", SOURCE, now(), rows)] if rows else []


def _passing(change: Change) -> bool:
    """A step that began, an incident that only counts more alerts: for those who look on, nothing anybody could learn from later."""
    return change.kind == "progress" or bool(change.data.get("grown"))


def _event(change: Change) -> dict[str, Any]:
    data = change.data
    incident = str(data.get("incident", change.key if change.topic == "incident" else "") or "")
    attributes = {"ninefold.change": change.kind, "ninefold.key": change.key}
    if incident:
        attributes["ninefold.incident"] = incident
    for key, value in data.items():
        if isinstance(value, str | int | float | bool) and key not in ("title", "entity", "body"):
            attributes.setdefault(key, str(value))
    return {
        "id": event_id(SOURCE, "outbox", str(change.id)),
        "time": change.time,
        "kind": _KINDS[change.topic],
        "source_id": change.key,
        "entity": str(data.get("entity", "") or ENTITY),
        "title": str(data.get("title", "") or f"{change.topic} {change.key} {change.kind}"),
        "body": str(data.get("body", "") or ""),
        "severity": str(data.get("severity", "") or "info"),
        "status": change.kind,
        "attributes": attributes,
    }


class OwnMetrics:
    """Emits the program's own meters every `interval_s` seconds."""

    name = SOURCE

    def __init__(self, meter: Meter, interval_s: float = 15.0) -> None:
        self._meter, self._interval_s = meter, interval_s
        self._sent: set[int] = set()

    async def run(self, emit: Emit) -> None:
        """Emit until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                batches, fresh = self._batches()
                await emit(batches)
                self._sent |= fresh
            except Unavailable:
                continue  # the journal is full: the next interval's figures say so

    def _batches(self) -> tuple[list[Batch], set[int]]:
        time = now()
        metrics: list[dict[str, Any]] = []
        series: list[dict[str, Any]] = []
        fresh: set[int] = set()
        for name, kind, labels, value in _without_buckets(self._meter.samples()):
            attributes = {"service.name": "ninefold", **dict(labels)}
            number = series_id(name, attributes)
            metrics.append({"series": number, "time": time, "value": value})
            if number not in self._sent:
                row = {"series": number, "name": name, "unit": _unit(name), "kind": _METER_KINDS[kind], "entity": ENTITY}
                series.append({**row, "seen": time, "attributes": attributes})
                fresh.add(number)
        batches = [batch_of("series", SOURCE, time, series)] if series else []
        return [*batches, batch_of("metric", SOURCE, time, metrics)], fresh


def _without_buckets(samples: Iterable[tuple[str, str, Any, float]]) -> Iterable[tuple[str, str, Any, float]]:
    return (sample for sample in samples if not sample[0].endswith("_bucket"))


def _unit(name: str) -> str:
    return "s" if name.endswith(("_seconds", "_seconds_sum", "_seconds_total")) else "By" if name.endswith("_bytes") else ""
