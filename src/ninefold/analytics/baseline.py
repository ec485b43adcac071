"""Streaming baselines: an expected band for every metric series, and an alarm when a series leaves it for good reason.

Each series has 432 bytes of state and is judged and learned in constant time by `kernel.fold`: three experts (slow
level, fast level, hour-of-day profile; the one that has lately explained best is believed), tails of the residual as
generalised Pareto beyond the 95 % quantile (peaks over threshold, Siffer et al. 2017), seen raw and smoothed over 12 and 48
points, so that spikes, level shifts and drifts are told apart. Flat lines and silence are classes of their own. After
`cells.WARM_UP` points a series has a cautious band that narrows as it learns. A series that keeps alarming raises its own bar.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from ninefold.analytics import cells as c
from ninefold.analytics import keeping, warm
from ninefold.analytics.findings import anomaly, quantity
from ninefold.analytics.texts import Texts
from ninefold.ground.clock import MINUTE, iso
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, batch_of

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

_KINDS = {"delta": c.DELTA}
_COUNTER_ENDS = ("_total", "_count", "_sum", "_bucket")
_FLOORS = {"%": 2.0, "1": 0.02, "ms": 2.0, "s": 0.002, "By": 65536.0, "By/s": 1024.0}
"""The smallest deviation that matters, by unit."""
_HIGH = 10.0
_LATELY = 10 * MINUTE
_FORGET, _FORGET_INTERVALS, _DAY = 2880, 20, 1440
"""A series is forgotten when others have been heard for two days (in minutes), and for twenty of its intervals, since its last point.
Whoever describes a series only once must describe it again after a day of silence."""
_NAMES = {
    "ninefold.span.duration.p95": "latency p95", "ninefold.span.duration.mean": "mean latency", "ninefold.span.gap.p50": "time in transit",
    "ninefold.span.calls": "calls per minute", "ninefold.span.errors": "errors per minute",
    "ninefold.log.records": "log records per minute",
}  # fmt: skip
_OF_THE_ENTITY = ("service.", "host.", "k8s.", "container.", "deployment.", "ninefold.entity", "telemetry.")
_LABELS_OF_THE_ENTITY = frozenset(
    ("job", "instance", "pod", "namespace", "service", "host", "node", "app", "cluster", "env", "environment")
)
_VERSION = 2
_GROWTH, _BLOCK = 16384, 8192
"""The tables double until they grow by so many series at a time; so many are written in one part of a snapshot (4 MB)."""


class About(NamedTuple):
    """What is known of a series beside its numbers; `label` is its name for people."""

    metric: str
    label: str
    unit: str
    kind: str
    entity: str
    source: str


_SOURCE = About._fields.index("source")


@dataclass(frozen=True, slots=True)
class Finding:
    """One episode of a replayed series: from `time` to `until` (ns; None while it lasts)."""

    time: int
    until: int | None
    reason: str
    severity: str
    score: float
    value: float
    expected: float
    text: str


class Baseline:
    """The technique over all metric series. Its state is one table that grows; a batch is one call of the compiled fold."""

    name: ClassVar[str] = "baseline"
    signals: ClassVar[frozenset[str]] = frozenset({"metric", "series"})

    def __init__(self) -> None:
        self._reset(1024)

    def _reset(self, room: int) -> None:
        self._used = 0
        self._state = c.state(room)
        self._clock: I64 = np.zeros(2, np.int64)
        self._ids = np.zeros(room, np.uint64)
        self._about = np.zeros((room, len(About._fields)), np.int32)
        self._texts = Texts()
        self._announced: set[int] = set()
        self._rehash()

    def __len__(self) -> int:
        """The number of series known."""
        return self._used

    def process(self, batch: Batch) -> list[Batch]:
        """Learn descriptions from a `series` batch, values from a `metric` batch; returns at most one batch of anomaly events."""
        if batch.signal == "series":
            self._describe(batch)
            return []
        ids, day = batch.rows.column("series").to_numpy(zero_copy_only=False), self._clock[0] // _DAY
        values, numbers = self._fold(
            self._slots(ids, batch.source),
            batch.rows.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False),
            batch.rows.column("value").to_numpy(zero_copy_only=False),
            batch.received,
        )
        rows = self._events(values, numbers)
        if self._clock[0] // _DAY != day:
            rows += self._forget()
        return [batch_of("event", f"ninefold.{self.name}", batch.received, rows)] if rows else []

    def snapshot(self) -> bytes:
        """All state in one; the vnode of a series is its id modulo 4096."""
        return keeping.joined(self.parts())

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; empty bytes start afresh.

        Raises:
            BadData: it is of another version.
        """
        self.assemble(keeping.separated(state))

    def parts(self) -> Iterator[bytes]:
        """All state, 4 MB at a time; nothing may be processed before the last part was taken."""
        head = {"series": self._used, "announced": sorted(self._announced)}
        yield keeping.pack(self.name, _VERSION, head, clock=self._clock)
        for first in range(0, self._used, _BLOCK):
            some = slice(first, min(first + _BLOCK, self._used))
            texts, about = self._texts.extract(self._about[some])
            state = {name: part[some] for name, part in self._state._asdict().items()}
            yield keeping.pack(self.name, _VERSION, texts, ids=self._ids[some], about=about, **state)

    def assemble(self, parts: Iterable[bytes]) -> None:
        """Take over the parts of a snapshot in their order; none start afresh.

        Raises:
            BadData: it is of another version, or parts are missing or too many.
        """
        self._reset(1024)
        used, first = 0, 0
        for number, part in enumerate(parts):
            texts, arrays = keeping.unpack(self.name, _VERSION, part)
            if not number:
                used = texts["series"]
                self._reset(max(1024, used + min(used, _GROWTH)))
                self._clock, self._announced = arrays["clock"], set(texts["announced"])
                continue
            some = slice(first, first + len(arrays["ids"]))
            if some.stop > used:
                raise BadData(f"the snapshot of {self.name} has more than its {used} series; start afresh")
            self._ids[some], self._about[some] = arrays["ids"], self._texts.include(texts, arrays["about"])
            for name, array in self._state._asdict().items():
                array[some] = arrays[name]
            first = some.stop
        if first != used:
            raise BadData(f"the snapshot of {self.name} has {first} of {used} series; start afresh")
        self._used = used
        self._rehash()

    def _forget(self) -> list[dict[str, Any]]:
        """Let go of series not heard for days; returns the events that end their episodes."""
        used, cells = self._used, self._state.cells
        patience = np.maximum(_FORGET, _FORGET_INTERVALS * cells[:used, c.INTERVAL] / 60)
        gone = self._clock[1] - self._state.times[:used, c.TICK] > patience
        if not gone.any():
            return []
        firing = cells[:used, c.FIRING]
        told = (firing != 0) & (firing != c.MISSING)
        told[list(self._announced)] = True
        rows = [self._over(slot) for slot in np.flatnonzero(gone & told).tolist()]
        place = np.cumsum(~gone) - 1
        self._announced = {int(place[slot]) for slot in self._announced if not gone[slot]}
        self._close_up(np.flatnonzero(~gone))
        return rows

    def _close_up(self, kept: I64) -> None:
        """Move the series that are kept together, a block at a time: they only ever move forwards."""
        used, self._used = self._used, len(kept)
        for array in (*self._state, self._ids, self._about):
            for first in range(0, len(kept), _BLOCK):
                some = kept[first : first + _BLOCK]
                array[first : first + len(some)] = array[some]
            array[len(kept) : used] = 0
        texts, about = self._texts.extract(self._about[: len(kept)])
        self._texts = Texts()
        self._about[: len(kept)] = self._texts.include(texts, about)
        self._rehash()

    def _of(self, slot: int) -> About:
        """What is known of the series in a slot."""
        about = About(*(self._texts[number] for number in self._about[slot].tolist()))
        return about if about.label else about._replace(label=f"series {self._ids[slot]}")

    def _over(self, slot: int) -> dict[str, Any]:
        """The end of an episode of a series that will not be heard of again."""
        cells, about = self._state.cells[slot], self._of(slot)
        value = np.array([np.nan, cells[c.LEVEL], np.nan, np.nan, cells[c.PEAK]])
        reason, since = int(cells[c.FIRING]), int(self._state.times[slot, c.SINCE])
        found = [-1, slot, reason, c.RESOLVED, int(self._clock[0]) * MINUTE, since]
        entity = about.entity.partition(":")[2]
        what = f"{about.label} of {entity}" if entity else about.label
        return self._event(value, found) | {"title": f"{what} has not been reported for days and is not expected any more"}

    def _fold(self, slots: np.ndarray[Any, Any], times: I64, points: F64, received: int) -> tuple[F64, I64]:
        room = 2 * (len(slots) + self._used)
        values, numbers = np.empty((room, 5)), np.empty((room, 6), np.int64)
        band = np.empty((len(slots), 3))
        found = warm.kernels().fold(self._state, self._clock, self._used, slots, times, points, received, band, values, numbers)
        return values[:found], numbers[:found]

    def _slots(self, ids: np.ndarray[Any, Any], source: str) -> np.ndarray[Any, Any]:
        kernels = warm.kernels()
        slots = np.empty(len(ids), np.int32)
        if kernels.lookup(ids, self._keys, self._numbers, slots):
            new, first = np.unique(ids[slots < 0], return_index=True)
            self._add(new[np.argsort(first)], source)
            kernels.lookup(ids, self._keys, self._numbers, slots)
        return slots

    def _add(self, ids: np.ndarray[Any, Any], source: str) -> None:
        """Make room for series of which nothing is known yet."""
        first, self._used = self._used, self._used + len(ids)
        room = len(self._ids)
        while room < self._used:
            room += min(room, _GROWTH)
        for array in (*self._state, self._ids, self._about):
            if len(array) < room:
                array.resize((room, *array.shape[1:]), refcheck=False)  # in its place: a copy would need the memory twice
        self._ids[first : self._used] = ids
        self._about[first : self._used] = self._texts.numbers(About("", "", "", "unknown", "", source))
        self._state.times[first : self._used, c.TICK] = self._clock[1]
        if 2 * self._used > len(self._keys):
            self._rehash()
        else:
            warm.kernels().insert(ids, np.arange(first, self._used, dtype=np.int32), self._keys, self._numbers)

    def _rehash(self) -> None:
        size = max(4096, 1 << (2 * self._used).bit_length())
        self._keys, self._numbers = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        if self._used:
            warm.kernels().insert(self._ids[: self._used], np.arange(self._used, dtype=np.int32), self._keys, self._numbers)

    def _describe(self, batch: Batch) -> None:
        rows, cells = batch.rows, self._state.cells
        ids = rows.column("series").to_numpy(zero_copy_only=False)
        slots = self._slots(ids, batch.source)
        columns = (rows.column(name).to_pylist() for name in ("name", "unit", "kind", "entity", "source"))
        for slot, attributes, fields in zip(slots.tolist(), rows.column("attributes").to_pylist(), zip(*columns, strict=True), strict=True):
            name, unit, kind, entity, source = fields
            about = About(name, _label(name, dict(attributes), entity), unit, kind, entity, source)
            numbers = self._texts.numbers(about)
            if self._about[slot].tolist() == numbers:
                continue
            if _kind(self._of(slot)) != _kind(about):
                for array in self._state:
                    array[slot] = 0
                self._state.times[slot, c.TICK] = self._clock[1]
            self._about[slot] = numbers
            _prepare(cells[slot], about)

    def _events(self, values: F64, numbers: I64) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        silent: dict[tuple[int, int], list[int]] = defaultdict(list)
        for value, found in zip(values, numbers.tolist(), strict=True):
            slot = found[c.I_SLOT]
            if found[c.I_REASON] != c.MISSING:
                rows.append(self._event(value, found))
            elif found[c.I_STATUS] == c.FIRED:
                silent[found[c.I_TIME], int(self._about[slot, _SOURCE])].append(slot)
            elif slot in self._announced:
                self._announced.discard(slot)
                rows.append(self._event(value, found))
        for (time, source), slots in silent.items():
            # When half of a source's series stop together, it is the source that fell silent, not the things it speaks of.
            if len(slots) < 4 or len(slots) < self._speaking(source, time):
                rows += self._silence(time, slots)
        return rows

    def _speaking(self, source: int, time: int) -> int:
        """How many series of a source have been heard lately; the source as the number of its name."""
        cells, times, about = (array[: self._used] for array in (self._state.cells, self._state.times, self._about))
        lately = (times[:, c.LAST] > time - _LATELY) & (cells[:, c.FIRING] != c.MISSING) & (cells[:, c.KIND] != c.PART)
        return int(np.count_nonzero(lately & (about[:, _SOURCE] == source)))

    def _silence(self, time: int, slots: list[int]) -> list[dict[str, Any]]:
        """One event an entity, in the name of its first series."""
        by_entity: dict[str, list[int]] = defaultdict(list)
        for slot in slots:
            by_entity[self._of(slot).entity or str(slot)].append(slot)
        rows = []
        for group in by_entity.values():
            first = group[0]
            self._announced.add(first)
            value = np.array([np.nan, self._state.cells[first, c.LEVEL], np.nan, np.nan, 6.0])
            found = [-1, first, c.MISSING, c.FIRED, time, int(self._state.times[first, c.SINCE])]
            rows.append(self._event(value, found, len(group) - 1))
        return rows

    def _event(self, value: F64, found: list[int], others: int = 0) -> dict[str, Any]:
        about, series = self._of(found[c.I_SLOT]), int(self._ids[found[c.I_SLOT]])
        firing = found[c.I_STATUS] == c.FIRED
        reason, score = c.REASONS[found[c.I_REASON]], float(value[c.F_SCORE])
        title = describe(about, value, found[c.I_REASON], found[c.I_SINCE], firing=firing)
        numbers = zip(("value", "expected", "lower", "upper", "score"), value.tolist(), strict=True)
        attributes = {"metric": about.metric, "unit": _unit(about), "reason": reason}
        attributes |= {name: f"{number:.6g}" for name, number in numbers if number == number}
        if others:
            title, attributes["others"] = f"{title} and {others} more series", str(others)
        return anomaly(
            self.name, {"series": str(series)}, entity=about.entity, time=found[c.I_TIME], since=found[c.I_SINCE], firing=firing,
            title=title, severity=severity(score), attributes=attributes,
        )  # fmt: skip


def band(times: I64, values: F64, kind: str, unit: str = "", label: str = "") -> tuple[F64, F64, F64, list[Finding]]:
    """Replay one series: expected value, lower and upper bound at each point, and the episodes found.

    The same fold as streaming, so the same points give the same bits. Bounds are NaN during warm-up and at points that are
    passed over. For a counter they speak about its `rate`.

    Args:
        times: ns, ascending.
        values: as received (a counter's raw values).
        kind: gauge, counter, delta or unknown.
        unit, label: for the floor of the unit; the metric's name, for texts.
    """
    about = About(label, label or "the value", unit, kind, "", "")
    state = c.state(1)
    _prepare(state.cells[0], about)
    room = 2 * len(times) + 2
    numbers, found = np.empty((room, 5)), np.empty((room, 6), np.int64)
    bounds = np.empty((len(times), 3))
    count = warm.kernels().fold(
        state, np.zeros(2, np.int64), 1, np.zeros(len(times), np.int32), np.ascontiguousarray(times, np.int64),
        np.ascontiguousarray(values, np.float64), int(times[-1]) if len(times) else 0, bounds, numbers, found,
    )  # fmt: skip
    findings: list[Finding] = []
    for value, row in zip(numbers[:count], found[:count].tolist(), strict=True):
        if row[c.I_STATUS] == c.FIRED:
            text = describe(about, value, row[c.I_REASON], row[c.I_SINCE], firing=True)
            reason, score = c.REASONS[row[c.I_REASON]], float(value[c.F_SCORE])
            expected = float(value[c.F_EXPECTED])
            findings.append(Finding(row[c.I_SINCE], None, reason, severity(score), score, float(value[c.F_VALUE]), expected, text))
        elif findings:
            last = findings[-1]
            peak = float(value[c.F_SCORE])
            findings[-1] = Finding(last.time, row[c.I_TIME], last.reason, severity(peak), peak, last.value, last.expected, last.text)
    return bounds[:, 0], bounds[:, 1], bounds[:, 2], findings


def rate(times: I64, values: F64) -> F64:
    """The rate a second of a cumulative counter at each point; a fall is a restart from 0; NaN at the first point."""
    rates = np.full(len(values), np.nan)
    steps = np.diff(values)
    rates[1:] = np.where(steps >= 0, steps, values[1:]) / (np.diff(times) * 1e-9)
    return rates


def severity(score: float) -> str:
    """The severity word of a score (-log10 of a probability)."""
    return "high" if score >= _HIGH else "warning"


def describe(about: About, value: F64, reason: int, since: int, *, firing: bool) -> str:
    """One sentence about a finding, e.g. ``latency p95 of ts-basic-service is 3.1x its usual 120 ms``."""
    entity = about.entity.partition(":")[2] or about.entity
    what = f"{about.label} of {entity}" if entity else about.label
    now, usual, lower, upper = (float(number) for number in value[:4])
    unit = _unit(about)
    if reason == c.MISSING:
        return f"{what} is not reported any more" if firing else f"{what} is reported again"
    if reason == c.FLAT:
        return f"{what} has not moved from {quantity(now, unit)} since {iso(since)[11:16]}" if firing else f"{what} moves again"
    if not firing:
        return f"{what} is back at {quantity(now, unit)}"
    if usual > 0 and now >= 1.5 * usual and now < 1000 * usual:
        return f"{what} is {now / usual:.1f}x its usual {quantity(usual, unit)}"
    if usual > 0 and 0 <= now < usual:
        return f"{what} fell to {quantity(now, unit)}, usually {quantity(usual, unit)}"
    return f"{what} is {quantity(now, unit)}, usually {quantity(lower, unit)} to {quantity(upper, unit)}"


def is_counter(kind: str, name: str) -> bool:
    """Whether a metric only grows, so that its `rate` is what is judged; an unknown kind is decided by the name's ending."""
    return kind == "counter" or (kind == "unknown" and name.endswith(_COUNTER_ENDS))


def _kind(about: About) -> int:
    """What the fold makes of a series. Buckets of a histogram are parts: its count and its sum are judged, not each of them."""
    if about.metric.endswith("_bucket"):
        return c.PART
    return c.COUNTER if is_counter(about.kind, about.metric) else _KINDS.get(about.kind, c.GAUGE)


def _unit(about: About) -> str:
    if _kind(about) != c.COUNTER:
        return about.unit
    return "/s" if about.unit in ("", "1") or about.unit.startswith("{") else f"{about.unit}/s"


def _prepare(cells: c.F32, about: About) -> None:
    cells[c.KIND], cells[c.FLOOR] = _kind(about), _FLOORS.get(_unit(about), 0.0)


def _label(name: str, attributes: Mapping[str, str], entity: str) -> str:
    """The series' name for people: its metric, with up to two attributes that are not the entity's."""
    said = [
        value for key, value in sorted(attributes.items())
        if not key.startswith(_OF_THE_ENTITY) and key not in _LABELS_OF_THE_ENTITY and value and value not in entity
    ]  # fmt: skip
    label = _NAMES.get(name, name)
    return f"{label} ({', '.join(said[:2])})" if said else label
