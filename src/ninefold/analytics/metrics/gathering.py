"""Metric points by minute: descriptions of series, rates of counters, means over each closed minute. For techniques that compare series.

A gauge counts with the mean of its minute, a counter (a falling one has restarted) with its mean rate a second, a delta with its sum. A
minute is closed when `minutes.Minutes` says so, so the result does not depend on how batches are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ninefold.analytics import keeping, warm
from ninefold.analytics.metrics.describing import is_counter
from ninefold.analytics.minutes import Minutes, times_of
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
Anything = np.ndarray[Any, Any]

LIMIT = 100_000
"""Series that are followed; more are left to the techniques that look at each series alone."""
FORGET = 2880
"""A series is let go of after so many minutes without a point."""
_GAUGE, _COUNTER, _DELTA = range(3)
_MOST = 1e150
"""Values beyond are no measurements, and their squares no numbers."""
_BLOCK = 16_384
"""Series in one part of a snapshot."""
_VERSION = 2


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
    """The series by slot, and the sums of minutes that are still open. Points of series nobody has described are passed over."""

    def __init__(self) -> None:
        self._loops = warm.loops("metrics.collecting")
        self.about: list[About] = []
        self._slots: dict[int, int] = {}
        self._known: dict[Any, Any] = {}
        self._minutes = Minutes()
        self._numbers = np.full(self._loops.RING, self._loops.FREE, np.int64)
        self._kinds, self._heard, self._when = (np.zeros(0, np.int64) for _ in range(3))
        self._before = np.zeros(0)
        self._sums, self._counts = np.zeros((self._loops.RING, 0)), np.zeros((self._loops.RING, 0), np.int64)
        self._rehash()

    def describe(self, batch: Batch) -> list[int]:
        """Take in a `series` batch; returns the slots that are new. Buckets of histograms and series of no entity are left out."""
        rows, old = batch.rows, len(self.about)
        columns = (rows.column(name).to_pylist() for name in ("series", "name", "unit", "kind", "entity", "attributes"))
        for series, name, unit, kind, entity, attributes in zip(*columns, strict=True):
            if series in self._slots or not entity or name.endswith("_bucket") or len(self.about) >= LIMIT:
                continue
            number = _COUNTER if is_counter(kind, name) else _DELTA if kind == "delta" else _GAUGE
            self._slots[series] = len(self.about)
            self.about.append(self._shared(About(name, unit, number, entity, dict(attributes))))
        if len(self.about) > old:
            self._grow(old)
            self._heard[old : len(self.about)] = batch.received // MINUTE
        return list(range(old, len(self.about)))

    def add(self, batch: Batch) -> Iterator[Minute]:
        """Take in a `metric` batch and yield the minutes it closes, in order."""
        times, ids = times_of(batch), batch.rows.column("series").to_numpy(zero_copy_only=False)
        values = batch.rows.column("value").to_numpy(zero_copy_only=False)
        clock, place = np.array((self._minutes.own, self._minutes.closed)), 0
        self._minutes.received = max(self._minutes.received, batch.received)
        while True:
            place = self._loops.collect(
                ids, times, values, place, batch.received, clock, self._keys, self._places, self._kinds, self._when, self._before,
                self._numbers, self._sums, self._counts,
            )  # fmt: skip
            self._minutes.own, self._minutes.closed = clock.tolist()
            yield from self._over()
            if place == len(ids):
                return

    def watch(self, batch: Batch) -> Iterator[Minute]:
        """Notice by a batch of another signal that time passes."""
        self._minutes.watch(batch)
        self._minutes.open()
        yield from self._over()

    def forget(self, minute: int) -> I64 | None:
        """Let go of series not heard for days; the new slot of each old one, -1 of those let go; None when all stay."""
        keep = self._heard[: len(self.about)] >= minute - FORGET
        if keep.all():
            return None
        places = np.where(keep, np.cumsum(keep) - 1, -1)
        stay = np.flatnonzero(keep)
        ids, self._known = list(self._slots), {}
        self.about = [self._shared(self.about[slot]) for slot in stay.tolist()]
        self._slots = {ids[slot]: place for place, slot in enumerate(stay.tolist())}
        self._kinds, self._heard, self._when, self._before, self._sums, self._counts = (
            np.ascontiguousarray(array[..., stay])
            for array in (self._kinds, self._heard, self._when, self._before, self._sums, self._counts)
        )
        self._rehash()
        return places

    def parts(self) -> Iterator[bytes]:
        """All of it in parts of a few megabytes for `assemble`."""
        rings = np.flatnonzero(self._numbers != self._loops.FREE)
        yield keeping.pack("gathering", _VERSION, {"series": len(self.about), "clock": self._minutes.state()}, numbers=self._numbers)
        ids = np.array(list(self._slots), np.uint64)
        for first in range(0, len(ids), _BLOCK):
            some = slice(first, min(first + _BLOCK, len(ids)))
            sets: dict[int, tuple[int, dict[str, str]]] = {}
            about = [[one.name, one.unit, one.kind, one.entity, sets.setdefault(id(one.attributes), (len(sets), one.attributes))[0]]
                     for one in self.about[some]]  # fmt: skip
            yield keeping.pack(
                "gathering", _VERSION, {"about": about, "sets": [one for _, one in sets.values()]}, ids=ids[some], heard=self._heard[some],
                when=self._when[some], before=self._before[some], sums=self._sums[rings, some], counts=self._counts[rings, some],
            )  # fmt: skip

    def assemble(self, parts: Iterator[bytes]) -> None:
        """Continue, from new, where `parts` were taken; as many are read as belong to it.

        Raises:
            BadData: they are of another version, or some are missing.
        """
        head, arrays = _unpacked(parts)
        self._minutes, self._numbers = Minutes(*head["clock"]), arrays["numbers"]
        rings = np.flatnonzero(self._numbers != self._loops.FREE)
        while (first := len(self.about)) < head["series"]:
            texts, arrays = _unpacked(parts)
            self.about += [
                self._shared(About(name, unit, kind, entity, texts["sets"][place])) for name, unit, kind, entity, place in texts["about"]
            ]
            self._slots |= zip(arrays["ids"].tolist(), range(first, len(self.about)), strict=True)
            self._grow(first)
            some = slice(first, len(self.about))
            self._heard[some], self._when[some], self._before[some] = arrays["heard"], arrays["when"], arrays["before"]
            self._sums[rings, some], self._counts[rings, some] = arrays["sums"], arrays["counts"]

    def _shared(self, about: About) -> About:
        """The same with texts and attributes that are kept once: those of an entity's series are mostly alike."""
        known = self._known.setdefault
        attributes = {known(key, key): known(value, value) for key, value in about.attributes.items()}
        attributes = known(tuple(attributes.items()), attributes)
        return About(
            known(about.name, about.name), known(about.unit, about.unit), about.kind, known(about.entity, about.entity), attributes
        )

    def _grow(self, old: int) -> None:
        """Make room for the series from slot `old` on, and let them be found."""
        number, room = len(self.about), len(self._kinds)
        if number > room:
            more = max(1024, number, 2 * room) - room
            self._kinds, self._heard, self._when, self._before, self._sums, self._counts = (
                np.concatenate((array, np.zeros((*array.shape[:-1], more), array.dtype)), axis=-1)
                for array in (self._kinds, self._heard, self._when, self._before, self._sums, self._counts)
            )
        self._kinds[old:number] = [about.kind for about in self.about[old:]]
        if 2 * number > len(self._keys):
            self._rehash()
        else:
            self._insert(old)

    def _rehash(self) -> None:
        size = max(1024, 1 << (2 * len(self._slots)).bit_length())
        self._keys, self._places = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        self._insert(0)

    def _insert(self, first: int) -> None:
        ids = np.fromiter(islice(self._slots, first, None), np.uint64, len(self._slots) - first)
        warm.loops("tables").insert(ids, np.arange(first, first + len(ids), dtype=np.int32), self._keys, self._places)

    def _over(self) -> Iterator[Minute]:
        """The minutes with points that are closed by now."""
        for number in sorted(number for number in self._numbers.tolist() if self._loops.FREE < number < self._minutes.closed):
            ring = number % self._loops.RING
            here = np.flatnonzero(self._counts[ring])
            total, count = self._sums[ring, here], self._counts[ring, here]
            self._sums[ring, here] = self._counts[ring, here] = 0
            self._numbers[ring] = self._loops.FREE
            self._heard[here] = np.maximum(self._heard[here], number)
            values = np.where(self._kinds[here] == _DELTA, total, total / count)
            good = np.abs(values) < _MOST
            yield Minute(number, here[good], values[good])


def _unpacked(parts: Iterator[bytes]) -> tuple[Any, dict[str, Anything]]:
    part = next(parts, None)
    if part is None:
        raise BadData("the snapshot of the gathered minutes is not whole; start afresh")
    return keeping.unpack("gathering", _VERSION, part)


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
