"""Metric points by minute: descriptions of series, rates of counters, means over each closed minute. For techniques that compare series.

A gauge counts with the mean of its minute, a counter (a falling one has restarted) with its mean rate a second, a delta with its sum. A
minute is closed when `minutes.Minutes` says so, so the result does not depend on how batches are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ninefold.analytics import keeping, warm
from ninefold.analytics.metrics.describing import is_counter
from ninefold.analytics.metrics.leftout import LeftOut
from ninefold.analytics.metrics.texts import Texts
from ninefold.analytics.minutes import Minutes, times_of
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
U64 = np.ndarray[Any, np.dtype[np.uint64]]
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
_VERSION = 3


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
        self._number = 0
        self._texts = Texts()
        self._sets: list[tuple[int, ...]] = []
        self._places_of: dict[tuple[int, ...], int] = {}
        self._left_out = LeftOut()
        self._minutes = Minutes()
        self._numbers = np.full(self._loops.RING, self._loops.FREE, np.int64)
        self._ids, self._what = np.zeros(0, np.uint64), np.zeros((0, 4), np.int32)
        self._kinds, self._heard, self._when = np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int64)
        self._before = np.zeros(0)
        self._sums, self._counts = np.zeros((self._loops.RING, 0)), np.zeros((self._loops.RING, 0), np.uint32)
        self._rehash()

    def __len__(self) -> int:
        """The number of slots."""
        return self._number

    def __getitem__(self, slot: int) -> About:
        """What the series in a slot is."""
        name, unit, entity, place = self._what[slot].tolist()
        said = [self._texts[number] for number in self._sets[place]]
        return About(
            self._texts[name], self._texts[unit], int(self._kinds[slot]), self._texts[entity], dict(zip(said[::2], said[1::2], strict=True))
        )

    def entity(self, slot: int) -> str:
        """Whose series it is."""
        return self._texts[int(self._what[slot, 2])]

    def describe(self, batch: Batch) -> tuple[list[int], list[int]]:
        """Take in a `series` batch; returns the slots of series that are new and of those that are something else than was known, which
        begin again. Buckets of histograms and series of no entity are left out."""
        rows, old = batch.rows, self._number
        slots = np.empty(rows.num_rows, np.int32)
        warm.loops("tables").lookup(rows.column("series").to_numpy(zero_copy_only=False), self._keys, self._places, slots)
        columns = (rows.column(name).to_pylist() for name in ("series", "name", "unit", "kind", "entity", "attributes"))
        new: dict[int, tuple[int, list[int]]] = {}
        changed: dict[int, None] = {}
        for slot, series, name, unit, kind, entity, attributes in zip(slots.tolist(), *columns, strict=True):
            if not entity or name.endswith("_bucket"):
                continue
            if slot < 0 and series not in new and old + len(new) >= LIMIT:
                self._left_out.add(series)
                continue
            number = _COUNTER if is_counter(kind, name) else _DELTA if kind == "delta" else _GAUGE
            what = [*self._texts.numbers((name, unit, entity)), self._set(attributes)]
            if slot < 0:
                new[series] = number, what
            elif self._kinds[slot] != number or self._what[slot].tolist() != what:
                self._kinds[slot], self._what[slot] = number, what
                self._when[slot] = self._sums[:, slot] = self._counts[:, slot] = 0
                changed[slot] = None
        if new:
            self._grow(np.array(list(new), np.uint64))
            self._heard[old : self._number] = batch.received // MINUTE
            self._kinds[old : self._number] = [kind for kind, _ in new.values()]
            self._what[old : self._number] = [what for _, what in new.values()]
        return list(range(old, self._number)), list(changed)

    def _set(self, attributes: Iterable[tuple[str, str]]) -> int:
        """The place of a set of attributes; the series of an entity have mostly the same."""
        numbers = tuple(self._texts.number(text) for pair in attributes for text in pair)
        place = self._places_of.setdefault(numbers, len(self._sets))
        if place == len(self._sets):
            self._sets.append(numbers)
        return place

    def full(self, technique: str, received: int) -> list[dict[str, Any]]:
        """The event that series are left out of a technique, once, or that there is room again."""
        return self._left_out.told(technique, LIMIT, received, full=self._number >= LIMIT)

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
        keep = self._heard[: self._number] >= minute - FORGET
        if keep.all():
            return None
        stay = np.flatnonzero(keep)
        texts, what = self._texts.extract(self._what[stay, :3])
        sets, places = np.unique(self._what[stay, 3], return_inverse=True)
        kept = [[self._texts[number] for number in self._sets[place]] for place in sets.tolist()]
        self._texts, self._sets, self._places_of = Texts(), [], {}
        self._what = np.column_stack((self._texts.include(texts, what), places)).astype(np.int32)
        for said in kept:
            self._set(zip(said[::2], said[1::2], strict=True))
        self._number = len(stay)
        self._ids, self._kinds, self._heard, self._when, self._before, self._sums, self._counts = (
            np.ascontiguousarray(array[..., stay])
            for array in (self._ids, self._kinds, self._heard, self._when, self._before, self._sums, self._counts)
        )
        self._rehash()
        return np.where(keep, np.cumsum(keep) - 1, -1)

    def parts(self) -> Iterator[bytes]:
        """All of it in parts of a few megabytes for `assemble`."""
        rings = np.flatnonzero(self._numbers != self._loops.FREE)
        head = {"series": self._number, "clock": self._minutes.state(), "left out": self._left_out.state()}
        yield keeping.pack("gathering", _VERSION, head, numbers=self._numbers)
        for first in range(0, self._number, _BLOCK):
            some = slice(first, min(first + _BLOCK, self._number))
            texts, what = self._texts.extract(self._what[some, :3])
            sets, places = np.unique(self._what[some, 3], return_inverse=True)
            said = [[self._texts[number] for number in self._sets[place]] for place in sets.tolist()]
            yield keeping.pack(
                "gathering", _VERSION, {"texts": texts, "sets": said}, ids=self._ids[some], what=np.column_stack((what, places)),
                kinds=self._kinds[some], heard=self._heard[some], when=self._when[some], before=self._before[some],
                sums=self._sums[rings, some], counts=self._counts[rings, some],
            )  # fmt: skip

    def assemble(self, parts: Iterator[bytes]) -> None:
        """Continue, from new, where `parts` were taken; as many are read as belong to it.

        Raises:
            BadData: they are of another version, or some are missing.
        """
        head, arrays = _unpacked(parts)
        self._minutes, self._numbers, self._left_out = Minutes(*head["clock"]), arrays["numbers"], LeftOut(*head["left out"])
        rings = np.flatnonzero(self._numbers != self._loops.FREE)
        while (first := self._number) < head["series"]:
            texts, arrays = _unpacked(parts)
            self._grow(arrays["ids"])
            some, what = slice(first, self._number), arrays["what"]
            self._what[some, :3] = self._texts.include(texts["texts"], what[:, :3])
            sets = np.array([self._set(zip(said[::2], said[1::2], strict=True)) for said in texts["sets"]], np.int32)
            self._what[some, 3] = sets[what[:, 3]]
            self._kinds[some], self._heard[some] = arrays["kinds"], arrays["heard"]
            self._when[some], self._before[some] = arrays["when"], arrays["before"]
            self._sums[rings, some], self._counts[rings, some] = arrays["sums"], arrays["counts"]

    def _grow(self, ids: U64) -> None:
        """Make room for new series, and let them be found."""
        old, self._number = self._number, self._number + len(ids)
        if (more := max(1024, self._number, old + old // 4) - len(self._ids)) > 0 and self._number > len(self._ids):
            self._ids, self._kinds, self._heard, self._when, self._before, self._sums, self._counts = (
                np.concatenate((array, np.zeros((*array.shape[:-1], more), array.dtype)), axis=-1)
                for array in (self._ids, self._kinds, self._heard, self._when, self._before, self._sums, self._counts)
            )
            self._what = np.concatenate((self._what, np.zeros((more, 4), np.int32)))
        self._ids[old : self._number] = ids
        if 2 * self._number > len(self._keys):
            self._rehash()
        else:
            self._insert(old)

    def _rehash(self) -> None:
        size = max(1024, 1 << (2 * self._number).bit_length())
        self._keys, self._places = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        self._insert(0)

    def _insert(self, first: int) -> None:
        places = np.arange(first, self._number, dtype=np.int32)
        warm.loops("tables").insert(self._ids[first : self._number], places, self._keys, self._places)

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
