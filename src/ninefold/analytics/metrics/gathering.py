"""Metric points by minute: descriptions of series, rates of counters, means over each closed minute. For techniques that compare series.

A gauge counts with the mean of its minute, a counter (a falling one has restarted) with its mean rate a second, a delta with its sum. A
minute is closed when `minutes.Minutes` says so, so the result does not depend on how batches are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ninefold.analytics import keeping, warm
from ninefold.analytics.metrics.describing import is_counter
from ninefold.analytics.minutes import Minutes, times_of
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import Batch

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

LIMIT = 20_000
"""Series that are followed; more are left to the techniques that look at each series alone."""
FORGET = 2880
"""A series is let go of after so many minutes without a point."""
_AHEAD = 2
"""Minutes before the clock in which a point may lie; beyond, its sender's clock is wrong."""
_GAUGE, _COUNTER, _DELTA = range(3)
_VERSION = 1


class About(NamedTuple):
    """What a series is; `kind` is 0 gauge, 1 counter, 2 delta; `attributes` are all it has."""

    name: str
    unit: str
    kind: int
    entity: str
    attributes: dict[str, str]


class Minute(NamedTuple):
    """A closed minute: its number since the epoch, the slots that had points (ascending), and their values."""

    number: int
    slots: I64
    values: F64


class Gathering:
    """The series by slot, and the points of minutes that are still open. Points of series nobody has described are passed over."""

    def __init__(self) -> None:
        self.about: list[About] = []
        self._ids: list[int] = []
        self._slots: dict[int, int] = {}
        self._minutes = Minutes()
        self._open: dict[int, list[tuple[I64, F64]]] = {}
        self._kinds, self._heard, self._when = (np.zeros(0, np.int64) for _ in range(3))
        self._count = np.zeros(0)
        self._rehash()

    def describe(self, batch: Batch) -> list[int]:
        """Take in a `series` batch; returns the slots that are new. Buckets of histograms and series of no entity are left out."""
        rows, new = batch.rows, []
        columns = (rows.column(name).to_pylist() for name in ("series", "name", "unit", "kind", "entity", "attributes"))
        for series, name, unit, kind, entity, attributes in zip(*columns, strict=True):
            if series in self._slots or not entity or name.endswith("_bucket") or len(self.about) >= LIMIT:
                continue
            number = _COUNTER if is_counter(kind, name) else _DELTA if kind == "delta" else _GAUGE
            self._slots[series] = len(self.about)
            new.append(len(self.about))
            self.about.append(About(name, unit, number, entity, dict(attributes)))
            self._ids.append(series)
        if new:
            self._grow(batch.received // MINUTE)
        return new

    def add(self, batch: Batch) -> Iterator[Minute]:
        """Take in a `metric` batch and yield the minutes it closes, in order."""
        times, ids = times_of(batch), batch.rows.column("series").to_numpy(zero_copy_only=False)
        values = batch.rows.column("value").to_numpy(zero_copy_only=False)
        minutes, first = self._minutes.admit(times, batch.received)
        found = np.empty(len(ids), np.int32)
        warm.loops("tables").lookup(ids, self._keys, self._places, found)
        slots = found.astype(np.int64)
        good = (slots >= 0) & np.isfinite(values) & (minutes >= first) & (minutes <= batch.received // MINUTE + _AHEAD)
        if good.any():
            self._keep(slots[good], times[good], values[good], minutes[good])
        closed = self._minutes.open()
        for number in sorted(minute for minute in self._open if minute < closed):
            yield self._close(number)

    def watch(self, batch: Batch) -> Iterator[Minute]:
        """Notice by a batch of another signal that time passes."""
        self._minutes.watch(batch)
        closed = self._minutes.open()
        for number in sorted(minute for minute in self._open if minute < closed):
            yield self._close(number)

    def forget(self, minute: int) -> I64 | None:
        """Let go of series not heard for days; the new slot of each old one, -1 of those let go; None when all stay."""
        keep = self._heard >= minute - FORGET
        if keep.all():
            return None
        places = np.where(keep, np.cumsum(keep) - 1, -1)
        self.about = [about for about, kept in zip(self.about, keep.tolist(), strict=True) if kept]
        self._ids = [series for series, kept in zip(self._ids, keep.tolist(), strict=True) if kept]
        self._slots = {series: slot for slot, series in enumerate(self._ids)}
        self._kinds, self._heard, self._when = self._kinds[keep], self._heard[keep], self._when[keep]
        self._count = self._count[keep]
        for number, parts in self._open.items():
            self._open[number] = [(places[slots[keep[slots]]], values[keep[slots]]) for slots, values in parts]
        self._rehash()
        return places

    def state(self) -> bytes:
        """All of it as one blob for `restore`."""
        numbers = sorted(self._open)
        flat = [(number, slots, values) for number in numbers for slots, values in self._open[number]]
        texts = {"clock": self._minutes.state(), "about": [list(about) for about in self.about]}
        return keeping.pack(
            "gathering", _VERSION, texts, ids=np.array(self._ids, np.uint64), kinds=self._kinds, heard=self._heard, when=self._when,
            count=self._count, minutes=np.concatenate([np.full(len(slots), number, np.int64) for number, slots, _ in flat] or [_NONE]),
            slots=np.concatenate([slots for _, slots, _ in flat] or [_NONE]),
            values=np.concatenate([values for _, _, values in flat] or [np.empty(0)]),
        )  # fmt: skip

    def restore(self, state: bytes) -> None:
        """Continue where `state` was taken.

        Raises:
            BadData: it is of another version.
        """
        texts, arrays = keeping.unpack("gathering", _VERSION, state)
        self.about = [About(*fields) for fields in texts["about"]]
        self._ids = arrays["ids"].tolist()
        self._slots = {series: slot for slot, series in enumerate(self._ids)}
        self._minutes = Minutes(*texts["clock"])
        self._kinds, self._heard, self._when, self._count = (arrays[name] for name in ("kinds", "heard", "when", "count"))
        minutes = arrays["minutes"]
        self._open = {
            number: [(arrays["slots"][minutes == number], arrays["values"][minutes == number])] for number in np.unique(minutes).tolist()
        }
        self._rehash()

    def _grow(self, now: int) -> None:
        more = len(self.about) - len(self._kinds)
        kinds = np.array([about.kind for about in self.about[-more:]], np.int64)
        self._kinds = np.concatenate((self._kinds, kinds))
        self._heard = np.concatenate((self._heard, np.full(more, now, np.int64)))
        self._when, self._count = np.concatenate((self._when, np.zeros(more, np.int64))), np.concatenate((self._count, np.zeros(more)))
        self._rehash()

    def _rehash(self) -> None:
        size = max(1024, 1 << (2 * len(self._ids)).bit_length())
        self._keys, self._places = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        if self._ids:
            ids = np.array(self._ids, np.uint64)
            warm.loops("tables").insert(ids, np.arange(len(ids), dtype=np.int32), self._keys, self._places)

    def _keep(self, slots: I64, times: I64, values: F64, minutes: I64) -> None:
        counters = self._kinds[slots] == _COUNTER
        if counters.any():
            values = values.copy()
            values[counters] = self._rates(slots[counters], times[counters], values[counters])
            known = np.isfinite(values)
            slots, values, minutes = slots[known], values[known], minutes[known]
        if len(minutes) and minutes.min() == minutes.max():
            self._open.setdefault(int(minutes[0]), []).append((slots, values))
            return
        for number in np.unique(minutes).tolist():
            here = minutes == number
            self._open.setdefault(number, []).append((slots[here], values[here]))

    def _rates(self, slots: I64, times: I64, values: F64) -> F64:
        """The rate a second at each point of counters, in order of arrival; NaN at the first point and at one that is not later."""
        order = np.argsort(slots, kind="stable")
        slot, time, value = slots[order], times[order], values[order]
        first = np.flatnonzero(np.diff(slot, prepend=-1))
        before, base = np.roll(time, 1), np.roll(value, 1)
        before[first], base[first] = self._when[slot[first]], self._count[slot[first]]
        last = np.append(first[1:], len(slot)) - 1
        self._when[slot[last]], self._count[slot[last]] = time[last], value[last]
        step = (time - before) / SECOND
        rates = np.full(len(slot), np.nan)
        good = (before > 0) & (step > 0)
        rates[good] = (np.where(value < base, value, value - base)[good]) / step[good]
        result = np.empty(len(slot))
        result[order] = rates
        return result

    def _close(self, number: int) -> Minute:
        parts = self._open.pop(number)
        slots, values = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        room = len(self.about)
        count = np.bincount(slots, minlength=room)
        total = np.bincount(slots, weights=values, minlength=room)
        here = np.flatnonzero(count)
        self._heard[here] = np.maximum(self._heard[here], number)
        return Minute(number, here, np.where(self._kinds[here] == _DELTA, total[here], total[here] / count[here]))


_NONE = np.empty(0, np.int64)


def plain(about: About) -> tuple[tuple[str, str], ...]:
    """The attributes of a series that do not name its entity, sorted: what tells its metric from the others of the entity."""
    return tuple(
        (key, value) for key, value in sorted(about.attributes.items()) if value and not key.startswith(_RESOURCE) and key not in _LABELS
    )  # fmt: skip


_RESOURCE = (
    "service.",
    "host.",
    "k8s.",
    "container.",
    "deployment.",
    "ninefold.entity",
    "telemetry.",
    "process.",
    "os.",
    "cloud.",
    "faas.",
)
_LABELS = frozenset(
    ("job", "instance", "pod", "pod_name", "namespace", "service", "service_name", "host", "hostname", "node", "nodename", "app",
     "cluster", "env", "environment", "container", "uid", "id", "pod_ip", "host_ip", "ip")
)  # fmt: skip


def label(about: About) -> str:
    """The metric's name for people, with up to two attributes."""
    said = [value for _, value in plain(about) if value not in about.entity]
    return f"{about.name} ({', '.join(said[:2])})" if said else about.name


def unit(about: About) -> str:
    """The unit of what is compared: of counters a second."""
    if about.kind != _COUNTER:
        return about.unit
    return "/s" if about.unit in ("", "1") or about.unit.startswith("{") else f"{about.unit}/s"
