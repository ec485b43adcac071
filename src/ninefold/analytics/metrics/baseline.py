"""Streaming baselines: an expected band for every metric series, and an alarm when a series leaves it for good reason.

Each series has 520 bytes of state and is judged and learned in constant time by `kernel.fold`: four experts (slow level, fast level,
profiles of the day and, where it is worth its room, of the week; the one that has lately explained best is believed), tails of the
residual as generalised Pareto beyond the 95 % quantile (peaks over threshold, Siffer et al. 2017), seen raw, smoothed over 12 and 48
points and summed (Page 1954), so that spikes, level shifts, trends and drifts are told apart, as are a change of variance and a broken
season. A series with a heavy tail is seen through a logarithm. Flat lines and silence are classes of their own. After `cells.WARM_UP`
points a series has a cautious band that narrows as it learns. A series that keeps alarming raises its own bar.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ninefold.analytics import keeping, warm
from ninefold.analytics.findings import anomaly
from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.describing import F64, I64, About, describe, deviating, kind_of, label_of, prepare, severity, unit_of
from ninefold.analytics.metrics.ranking import Standing, strangest
from ninefold.analytics.metrics.silences import Silence, Silences
from ninefold.analytics.metrics.steering import Steering
from ninefold.analytics.metrics.texts import Texts
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData, NotFound
from ninefold.model.signal import Batch, batch_of, event_id

_LATELY = 10 * MINUTE
_FORGET, _FORGET_INTERVALS, _DAY = 2880, 20, 1440
"""A series is forgotten when others have been heard for two days (in minutes), and for twenty of its intervals, since its last point.
Whoever describes a series only once must describe it again after a day of silence."""
_VERSION, _BEFORE = 3, 2
"""A snapshot of the version before is taken over: its series had fewer cells."""
_GROWTH, _BLOCK = 16384, 8192
"""The tables double until they grow by so many series at a time; so many are written in one part of a snapshot (4 MB)."""


_UNHEARD = "has not been reported for days and is not expected any more"
_ANEW = "is described as another kind of metric and learned anew"
_SOURCE, _ENTITY = About._fields.index("source"), About._fields.index("entity")


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
    horizon: str
    lower: float
    upper: float
    demoted: bool


class Baseline:
    """The technique over all metric series. Its state is one table that grows; a batch is one call of the compiled fold."""

    name: ClassVar[str] = "baseline"
    signals: ClassVar[frozenset[str]] = frozenset({"metric", "series", "event"})

    def __init__(self, settings: F64 | None = None, steering: Mapping[str, Any] | None = None) -> None:
        """`settings` of the fold, see `cells.settings`, and what `Steering.state` gave; another one can run with others beside it."""
        self._given = c.settings() if settings is None else settings
        self._reset(1024)
        self._steered_by(Steering(steering))

    def _reset(self, room: int) -> None:
        self._used = 0
        self._state = c.state(room)
        self._weeks = c.weeks(0)
        self._clock: I64 = np.zeros(c.CLOCK, np.int64)
        self._ids = np.zeros(room, np.uint64)
        self._about = np.zeros((room, len(About._fields)), np.int32)
        self._texts = Texts()
        self._silences = Silences()
        self._steered_by(Steering())
        self._rehash()

    def _steered_by(self, steering: Steering) -> None:
        self.steering = steering
        self._settings = c.tuned(self._given, steering.settings)

    def __len__(self) -> int:
        """The number of series known."""
        return self._used

    def process(self, batch: Batch) -> list[Batch]:
        """Learn descriptions from a `series` batch, values from a `metric` batch, and from an `event` batch what people make of alarms
        (`steering`); returns at most one batch of anomaly events."""
        if self.steering.hear(batch) if batch.signal == "event" else self.steering.due(batch.received):
            self._settings = c.tuned(self._given, self.steering.settings)
            self._steer(slice(0, self._used))
        if batch.signal == "event":
            return []
        rows = self._describe(batch) if batch.signal == "series" else self._learn(batch)
        return [batch_of("event", f"ninefold.{self.name}", batch.received, rows)] if rows else []

    def _learn(self, batch: Batch) -> list[dict[str, Any]]:
        ids, values = (batch.rows.column(name).to_numpy(zero_copy_only=False) for name in ("series", "value"))
        times = batch.rows.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
        rows: list[dict[str, Any]] = []
        for some in self._days(times, batch.received):
            day = self._clock[0] // _DAY
            rows += self._fold(self._slots(ids[some], batch.source), times[some], values[some], batch.received)
            if self._clock[0] // _DAY != day:
                rows += self._forget()
        return rows

    def _days(self, times: I64, received: int) -> list[slice]:
        """The points in pieces, each up to and with the one that begins a day of the fold's clock: what is forgotten then does not
        depend on how batches are cut."""
        minutes, day = np.minimum(times, received) // MINUTE, self._clock[0] // _DAY
        if not len(times) or minutes.max() // _DAY <= day:
            return [slice(None)]
        ends = np.flatnonzero(np.diff(np.maximum.accumulate(minutes // _DAY).clip(day), prepend=day)) + 1
        return [slice(a, b) for a, b in pairwise((0, *ends.tolist(), len(times))) if a < b]

    def interesting(self, limit: int, entity: str = "") -> list[tuple[About, int, Standing]]:
        """The series that behave most unusually now, the strangest first, each with its id; those of one entity when it is given."""
        used, now, (cells, exact, times, *_) = self._used, int(self._clock[0]) * MINUTE, self._state
        of = self._about[:used, _ENTITY]
        wanted = [number for number in np.unique(of).tolist() if not entity or self._texts[number] == entity]
        chosen = np.isin(of, wanted) & (cells[:used, c.KIND] != c.PART)
        last, born, apart = times[:used, c.LAST], times[:used, c.BORN], cells[:used, c.INTERVAL]
        found = strangest(self._state.ranks[:used], exact[:used, c.VALUE], last, born, apart, now, limit, chosen)
        return [(self._of(one.slot), int(self._ids[one.slot]), one) for one in found]

    def _steer(self, slots: slice | list[int]) -> None:
        """Set the thresholds' factor and the hold of some series."""
        cells, ids, about = self._state.cells, self._ids[slots], self._about[slots]
        cells[slots, c.BAR] = self.steering.bars(ids, about, self._texts)
        cells[slots, c.HOLD] = self.steering.holds(ids, about, self._texts)

    def known(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Texts, c.F32]:
        """Ids of the series, what is known of each (`About` in numbers of the texts), the texts, and their cells: to look at."""
        return self._ids[: self._used], self._about[: self._used], self._texts, self._state.cells[: self._used]

    def thresholds(self, series: int) -> dict[str, Any]:
        """The threshold in force of a series, and what made it so.

        Raises:
            NotFound: the series has been forgotten.
        """
        slot = int(np.append(np.flatnonzero(self._ids[: self._used] == np.uint64(series)), -1)[0])
        if slot < 0:
            raise NotFound(f"series {series} has not been heard for days and its thresholds are forgotten")
        return self.steering.explain(str(series), self._of(slot), self._state.cells[slot], self._settings)

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
        head = {"series": self._used, "silences": self._silences.state(), "steering": self.steering.state()}
        weekly = self._state.cells[: self._used, c.WEEK] > 0
        yield keeping.pack(self.name, _VERSION, head, clock=np.array([*self._clock[:2], np.count_nonzero(weekly), 0, 0]))
        for first in range(0, self._used, _BLOCK):
            some = slice(first, min(first + _BLOCK, self._used))
            texts, about = self._texts.extract(self._about[some])
            state = {name: part[some] for name, part in self._state._asdict().items()}
            rows = state["cells"][weekly[some], c.WEEK].astype(int) - 1
            state["cells"] = state["cells"].copy()
            state["cells"][weekly[some], c.WEEK] = np.count_nonzero(weekly[:first]) + np.arange(1, len(rows) + 1)
            weeks = {name: part[rows] for name, part in self._weeks._asdict().items()}
            yield keeping.pack(self.name, _VERSION, texts, ids=self._ids[some], about=about, **state, **weeks)

    def assemble(self, parts: Iterable[bytes]) -> None:
        """Take over the parts of a snapshot in their order; none start afresh.

        Raises:
            BadData: it is of another version, or parts are missing or too many.
        """
        self._reset(1024)
        used = first = row = 0
        for number, part in enumerate(parts):
            texts, arrays = _unpacked(part)
            if not number:
                used = texts["series"]
                self._reset(max(1024, used + min(used, _GROWTH)))
                self._clock, self._silences = np.resize(arrays["clock"], c.CLOCK), Silences(texts.get("silences", ()))
                self._steered_by(Steering(texts.get("steering")))
                self._weeks = c.weeks(int(self._clock[2]))
                continue
            some = slice(first, first + len(arrays["ids"]))
            if some.stop > used:
                raise BadData(f"the snapshot of {self.name} has more than its {used} series; start afresh")
            self._ids[some], self._about[some] = arrays["ids"], self._texts.include(texts, arrays["about"])
            for name, array in self._state._asdict().items():
                array[some, : arrays[name].shape[1]] = arrays[name]
            rows = slice(row, row + len(arrays["means"]))
            self._weeks.means[rows], self._weeks.counts[rows] = arrays["means"], arrays["counts"]
            first, row = some.stop, rows.stop
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
        rows = [row for slot in np.flatnonzero(gone & (cells[:used, c.FIRING] != 0)).tolist() for row in self._over(slot, _UNHEARD)]
        self._silences.move(np.cumsum(~gone) - 1)
        self._close_up(np.flatnonzero(~gone))
        return rows

    def _close_up(self, kept: I64) -> None:
        """Move the series that are kept together, a block at a time: they only ever move forwards."""
        used, self._used = self._used, len(kept)
        self._release(np.setdiff1d(np.arange(used), kept, assume_unique=True))
        for array in (*self._state, self._ids, self._about):
            for first in range(0, len(kept), _BLOCK):
                some = kept[first : first + _BLOCK]
                array[first : first + len(some)] = array[some]
            array[len(kept) : used] = 0
        texts, about = self._texts.extract(self._about[: len(kept)])
        self._texts = Texts()
        self._about[: len(kept)] = self._texts.include(texts, about)
        self._rehash()

    def _release(self, slots: I64) -> None:
        """The weekly profiles of series that are let go are free for others."""
        cells = self._state.cells
        for slot in slots[cells[slots, c.WEEK] > 0].tolist():
            row = int(cells[slot, c.WEEK]) - 1
            self._weeks.means[row, 0], self._clock[3] = self._clock[3], row + 1

    def _of(self, slot: int) -> About:
        """What is known of the series in a slot."""
        about = About(*(self._texts[number] for number in self._about[slot].tolist()))
        return about if about.label else about._replace(label=f"series {self._ids[slot]}")

    def _over(self, slot: int, why: str) -> list[dict[str, Any]]:
        """The end of the episode of a series of which nothing more will be heard, if it was told; `why` ends the sentence."""
        silence, reason = self._silences.heard(slot), int(self._state.cells[slot, c.FIRING])
        if reason == c.MISSING and silence is None:
            return []
        about, since = (silence.about, silence.since) if silence else (self._of(slot), int(self._state.times[slot, c.SINCE]))
        level, peak = self._state.cells[slot, [c.LEVEL, c.PEAK]].tolist()
        value = np.array([np.nan, silence.level if silence else level, np.nan, np.nan, peak])
        found = [-1, slot, reason, c.RESOLVED, int(self._clock[0]) * MINUTE, since, 0, 0]
        entity = about.entity.partition(":")[2]
        what = f"{about.label} of {entity}" if entity else about.label
        return [self._event(value, found, silence) | {"title": f"{what} {why}"}]

    def _fold(self, slots: np.ndarray[Any, Any], times: I64, points: F64, received: int) -> list[dict[str, Any]]:
        room = 2 * (len(slots) + self._used)
        values, numbers = np.empty((room, 5)), np.empty((room, c.INTEGERS), np.int64)
        band, rows, done = np.empty((len(slots), c.BAND)), [], 0
        while done < len(slots):
            rest = slice(done, None)
            found = warm.loops("metrics.kernel").fold(
                self._state, self._weeks, self._clock, self._used, self._settings, slots[rest], times[rest], points[rest], received,
                band[rest], values, numbers,
            )  # fmt: skip
            done += int(self._clock[4])
            rows += self._events(values[:found], numbers[:found])
            if done < len(slots) and not (found and _silent(numbers[found - 1])):
                self._widen()
        return rows

    def _widen(self) -> None:
        """Make room for twice as many weekly profiles, within what the settings allow."""
        more = c.weeks(min(max(64, 2 * len(self._weeks.means)), int(self._settings[c.S_WEEKS])))
        more.means[: len(self._weeks.means)], more.counts[: len(self._weeks.counts)] = self._weeks
        self._weeks = more

    def _slots(self, ids: np.ndarray[Any, Any], source: str) -> np.ndarray[Any, Any]:
        tables = warm.loops("tables")
        slots = np.empty(len(ids), np.int32)
        if tables.lookup(ids, self._keys, self._numbers, slots):
            new, first = np.unique(ids[slots < 0], return_index=True)
            self._add(new[np.argsort(first)], source)
            tables.lookup(ids, self._keys, self._numbers, slots)
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
        if self.steering.active:
            self._steer(slice(first, self._used))
        if 2 * self._used > len(self._keys):
            self._rehash()
        else:
            warm.loops("tables").insert(ids, np.arange(first, self._used, dtype=np.int32), self._keys, self._numbers)

    def _rehash(self) -> None:
        size = max(4096, 1 << (2 * self._used).bit_length())
        self._keys, self._numbers = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        if self._used:
            warm.loops("tables").insert(self._ids[: self._used], np.arange(self._used, dtype=np.int32), self._keys, self._numbers)

    def _describe(self, batch: Batch) -> list[dict[str, Any]]:
        """Take in what series are; returns the ends of the episodes of those that are of another kind than was known."""
        rows, cells = batch.rows, self._state.cells
        ids = rows.column("series").to_numpy(zero_copy_only=False)
        slots = self._slots(ids, batch.source)
        columns = (rows.column(name).to_pylist() for name in ("name", "unit", "kind", "entity", "source"))
        steered: list[int] = []
        ended: list[dict[str, Any]] = []
        for slot, attributes, fields in zip(slots.tolist(), rows.column("attributes").to_pylist(), zip(*columns, strict=True), strict=True):
            name, unit, kind, entity, source = fields
            about = About(name, label_of(name, dict(attributes), entity), unit, kind, entity, source)
            numbers = self._texts.numbers(about)
            if self._about[slot].tolist() == numbers:
                continue
            if kind_of(self._of(slot)) != kind_of(about):
                ended += self._over(slot, _ANEW) if self._state.cells[slot, c.FIRING] else []
                self._release(np.array([slot]))
                for array in self._state:
                    array[slot] = 0
                self._state.times[slot, c.TICK] = self._clock[1]
            self._about[slot] = numbers
            prepare(cells[slot], about)
            steered.append(slot)
        if steered and self.steering.active:
            self._steer(steered)
        return ended

    def _events(self, values: F64, numbers: I64) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        silent: dict[tuple[int, int], list[int]] = defaultdict(list)
        for value, found in zip(values, numbers.tolist(), strict=True):
            slot = found[c.I_SLOT]
            if found[c.I_REASON] != c.MISSING:
                rows.append(self._event(value, found))
            elif _silent(found):
                silent[found[c.I_TIME], int(self._about[slot, _SOURCE])].append(slot)
            elif silence := self._silences.heard(slot):
                other = self._ids[slot] != silence.series  # the last to be heard again is another than the one it was told of
                said = np.array([np.nan, silence.level, np.nan, np.nan, value[c.F_SCORE]]) if other else value
                found[c.I_SINCE] = silence.since
                rows.append(self._event(said, found, silence))
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
        for slot in self._silences.rejoin({slot: int(self._ids[slot]) for slot in slots}):
            by_entity[self._of(slot).entity or str(slot)].append(slot)
        rows = []
        for group in by_entity.values():
            first = group[0]
            level, since = float(self._state.cells[first, c.LEVEL]), int(self._state.times[first, c.SINCE])
            silence = Silence(int(self._ids[first]), self._of(first), level, since, set(group))
            self._silences.begin(silence)
            found = [-1, first, c.MISSING, c.FIRED, time, since, c.SILENCE, 0]
            rows.append(self._event(np.array([np.nan, level, np.nan, np.nan, 6.0]), found, silence))
        return rows

    def _event(self, value: F64, found: list[int], silence: Silence | None = None) -> dict[str, Any]:
        about, series = self._of(found[c.I_SLOT]), int(self._ids[found[c.I_SLOT]])
        if silence:
            about, series = silence.about, silence.series
        firing = found[c.I_STATUS] != c.RESOLVED
        reason, score = c.REASONS[found[c.I_REASON]], float(value[c.F_SCORE])
        title = describe(about, value, found[c.I_REASON], found[c.I_SINCE], firing=firing, still=found[c.I_HORIZON] == c.STILL)
        numbers = zip(("value", "expected", "lower", "upper", "score"), value.tolist(), strict=True)
        attributes = {"metric": about.metric, "unit": unit_of(about), "reason": reason}
        attributes |= {name: f"{number:.6g}" for name, number in numbers if number == number}
        if deviation := deviating(about, value):
            attributes["deviation"] = deviation
        if found[c.I_HORIZON]:
            attributes["horizon"] = c.HORIZONS[found[c.I_HORIZON]]
        if often := found[c.I_OFTEN]:
            attributes["demoted"] = f"{often} alarms lately, this one no worse than those before"
        if found[c.I_STATUS] == c.RENAMED:
            attributes["again"] = "the same episode, which turned out to be of this kind"
        if silence and firing and (others := len(silence.slots) - 1):
            title, attributes["others"] = f"{title} and {others} more series", str(others)
        row = anomaly(
            self.name, {"series": str(series)}, entity=about.entity, time=found[c.I_TIME], since=found[c.I_SINCE], firing=firing,
            title=title, severity=severity(score, often), attributes=attributes,
        )  # fmt: skip
        if found[c.I_STATUS] == c.RENAMED:
            row["id"] = event_id(row["id"], reason)
        return row


def _silent(found: Sequence[int] | I64) -> bool:
    """Whether a finding is a series that stopped: it is the last one of a call of the fold, which looks no further before it is told."""
    return bool(found[c.I_REASON] == c.MISSING and found[c.I_STATUS] == c.FIRED)


def _unpacked(part: bytes) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    try:
        return keeping.unpack(Baseline.name, _VERSION, part)
    except BadData:
        texts, arrays = keeping.unpack(Baseline.name, _BEFORE, part)
        none = {"ranks": np.zeros((len(arrays.get("ids", ())), 0), np.float32)}
        return texts, arrays | c.weeks(0)._asdict() | none


def replayed(times: I64, values: F64, about: About) -> tuple[F64, F64, I64]:
    """Fold one series alone: what `kernel.fold` writes for each point, and its findings; times in ns, ascending."""
    state = c.state(1)
    prepare(state.cells[0], about)
    room = 2 * len(times) + 2
    numbers, found = np.empty((room, 5)), np.empty((room, c.INTEGERS), np.int64)
    bounds = np.empty((len(times), c.BAND))
    count = warm.loops("metrics.kernel").fold(
        state, c.weeks(1), np.zeros(c.CLOCK, np.int64), 1, c.settings(), np.zeros(len(times), np.int32),
        np.ascontiguousarray(times, np.int64), np.ascontiguousarray(values, np.float64),
        int(times[-1]) if len(times) else 0, bounds, numbers, found,
    )  # fmt: skip
    return bounds, numbers[:count], found[:count]


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
    bounds, numbers, found = replayed(times, values, about)
    findings: list[Finding] = []
    for value, row in zip(numbers, found.tolist(), strict=True):
        if row[c.I_STATUS] != c.RESOLVED:
            text = describe(about, value, row[c.I_REASON], row[c.I_SINCE], firing=True)
            if row[c.I_STATUS] == c.RENAMED:
                findings[-1] = replace(findings[-1], reason=c.REASONS[row[c.I_REASON]], text=text, horizon=c.HORIZONS[row[c.I_HORIZON]])
                continue
            reason, score = c.REASONS[row[c.I_REASON]], float(value[c.F_SCORE])
            expected = float(value[c.F_EXPECTED])
            findings.append(
                Finding(
                    row[c.I_SINCE], None, reason, severity(score, row[c.I_OFTEN]), score, float(value[c.F_VALUE]), expected, text,
                    c.HORIZONS[row[c.I_HORIZON]], float(value[c.F_LOWER]), float(value[c.F_UPPER]), row[c.I_OFTEN] > 0,
                )
            )  # fmt: skip
        elif findings:
            last = findings[-1]
            peak = float(value[c.F_SCORE])
            findings[-1] = replace(last, until=row[c.I_TIME], severity=severity(peak, int(last.demoted)), score=peak)
    return bounds[:, 0], bounds[:, 1], bounds[:, 2], findings
