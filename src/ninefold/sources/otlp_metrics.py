"""OTLP metrics: data points become points of series, histograms and summaries several series each, named as Prometheus names them.

A series' attributes are those of its resource, its scope (``otel.scope.*``) and its point in one map. Number points, by far the
most, and histograms are found by the raw bytes of their attributes without being read; the others are read one by one. Exemplars become
`exemplar` rows, exponential histograms `histogram` rows beside the points of their count and sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
    SummaryDataPoint,
)

from ninefold.ground.errors import BadData, TooLarge
from ninefold.model.entity import series_id
from ninefold.model.signal import Batch, batch_of
from ninefold.sources.columns import Mask
from ninefold.sources.kernel import Ints
from ninefold.sources.origin import Origin
from ninefold.sources.otlp_buckets import EXPLICIT, Buckets, Explicit
from ninefold.sources.otlp_histograms import (
    EXPONENTIAL,
    MEMBERS,
    WHOLE,
    Member,
    Sample,
    bucket_of,
    buckets,
    exemplars,
    exponential,
    histogram,
    scan,
    summary,
)
from ninefold.sources.otlp_origin import Faults, Origins, excerpt, refusal
from ninefold.sources.otlp_values import attributes_of
from ninefold.sources.protobuf import Plan, Table, frame
from ninefold.sources.series import STALE, Descriptions, Known, points

_POINT = {3: "fixed time", 5: "leaf exemplars", 4: "fixed value type", 6: "fixed value type", 7: "run attributes", 8: "varint flags"}
_METRICS = Plan({
    "export_metrics": {1: "row resource_metrics"},
    "resource_metrics": {1: "bytes resource", 2: "row scope_metrics"},
    "scope_metrics": {1: "bytes scope", 2: "row metrics"},
    "metrics": {
        1: "bytes name", 3: "bytes unit", 5: "one gauge data", 7: "one sum data", 9: "one histogram data",
        10: "one exponential_histogram data", 11: "one summary data",
    },
    "gauge": {1: "row number_points"},
    "sum": {1: "row number_points", 2: "varint temporality", 3: "varint monotonic"},
    "histogram": {1: "row histogram_points", 2: "varint temporality"},
    "exponential_histogram": {1: "row exponential_points", 2: "varint temporality"},
    "summary": {1: "row summary_points"},
    "number_points": _POINT,
    "histogram_points": EXPLICIT,
    **EXPONENTIAL,
    "summary_points": {3: "fixed time", 7: "run attributes"},
    "exemplars": {},
})  # fmt: skip
_GAUGE, _SUM, _HISTOGRAM, _EXPONENTIAL, _SUMMARY = 5, 7, 9, 10, 11
_DELTA, _CUMULATIVE = 1, 2
_AS_INT = 6
_NO_RECORDED_VALUE = 1
_CACHED_GROUPS, _CACHED_MEMBERS = 100_000, 1_000_000
_DESCRIPTION_BYTES = 256 << 20
"""What the series one request describes may fill: its resource attributes are repeated in each of them."""

Row = dict[str, Any]


class Group(NamedTuple):
    """One metric of one origin: what its series have in common. `kind` is that of a series which counts."""

    number: int
    origin: Origin
    name: str
    unit: str
    kind: str


class _Fresh:
    """The series one request describes for the first time, what to remember of them once it is understood to its end, and the rows that
    are not points."""

    def __init__(self) -> None:
        self.series = Descriptions()
        self.exemplars: list[Row] = []
        self.histograms: list[Row] = []
        self.keys: list[tuple[bytes, int, int]] = []
        self.wholes: list[tuple[bytes, int, int]] = []
        self.explicit: list[tuple[int, list[int]]] = []
        self.members: dict[tuple[int, bytes], dict[Member, int]] = {}
        self._size_bytes = 0

    def describe(self, group: Group, attributes: dict[str, str], member: Member = ("", "", ""), counts: bool = True) -> int:
        """The id of a series, which is described by the way; `member` and `counts` as in `otlp_histograms`.

        Raises:
            TooLarge: the descriptions of this request fill more memory than a batch may.
        """
        suffix, label, text = member
        merged = group.origin.attributes | attributes | ({label: text} if label else {})
        name = group.name + suffix
        number = series_id(name, merged)
        self._size_bytes += group.origin.size_bytes + sum(len(key) + len(value) for key, value in attributes.items())
        if self._size_bytes > _DESCRIPTION_BYTES:
            raise TooLarge("the resource attributes are too large for so many new series; send smaller batches", "resource")
        unit = "" if suffix in ("_count", "_bucket") else group.unit
        self.series.add(number, name, unit, group.kind if counts else "gauge", merged)
        return number


class Metrics:
    """The decoder of metrics. Thread-safe."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._known, self._wholes, self._buckets = Known(), Known(), Buckets()
        self._groups: dict[tuple[object, ...], Group] = {}
        self._numbers = count()
        self._members: dict[tuple[int, bytes], dict[Member, int]] = {}
        self._member_count = 0
        self._lock = threading.Lock()

    def decode(self, body: bytes, source: str, received: int) -> tuple[list[Batch], list[tuple[str, str, bytes]], int]:
        """(batches, quarantine entries, rejected data points) of an Export request.

        Raises:
            BadData: the body is not an Export request.
            TooLarge: the series it describes would fill the memory.
        """
        tables = _METRICS.scan(body)
        groups = self._groups_of(body, tables)
        fresh = _Fresh()
        found = {"number_points": self._numbers_of(body, tables, groups, fresh)}
        scanned = self._scanned(body, tables["exponential_points"], groups, source, received)
        explicit = self._explicit(body, tables["histogram_points"], groups)
        fast: dict[str, _Scanned | Explicit] = {"exponential_points": scanned, "histogram_points": explicit}
        for name in _READERS:
            found[name] = self._compound(body, tables[name], name, groups, fresh, fast.get(name))
        self._remember(fresh)
        if fresh.explicit:
            self._buckets.learn(body, explicit, fresh.explicit)
        batches = fresh.series.batch(source, received)
        columns = [scanned.columns, explicit.columns, *(part.columns for part in found.values())]
        series, time, value = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        if len(series):
            batches.append(points(source, received, series, time, value))
        batches += scanned.histograms
        for signal, beside in (("exemplar", fresh.exemplars), ("histogram", fresh.histograms)):
            if beside:
                batches.append(batch_of(signal, source, received, beside))
        bad = []
        for name, part in found.items():
            for reason, rows in part.faults.reasons:
                bad.append(refusal("data points", reason, rows, _again(body, tables, name, rows)))
        return batches, bad, sum(int(part.faults.bad.sum()) for part in found.values())

    def forget(self, series: Iterable[int]) -> None:
        """Describe these series again with their next points."""
        gone = set(series)
        self._known.forget(gone)
        self._wholes.forget(gone)
        self._buckets.forget(gone)
        with self._lock:
            for key, members in list(self._members.items()):
                self._members[key] = {member: number for member, number in members.items() if number not in gone}

    def _groups_of(self, body: bytes, tables: dict[str, Table]) -> list[Group | None]:
        """The group of every metric; None for one without a readable name."""
        metrics = tables["metrics"]
        origins, index = self._origins.read(body, tables["resource_metrics"], tables["scope_metrics"])
        which = index[metrics.parent].tolist()
        groups: list[Group | None] = []
        cells = metrics.cells("name", "unit", "data", "temporality", "monotonic")
        for origin_index, (start, size, place, length, data, temporality, monotonic) in zip(which, cells, strict=True):
            origin = origins[origin_index]
            key = (origin.number, body[start : start + size], body[place : place + length], data, temporality, monotonic)
            group = self._groups.get(key)
            if group is None and size:
                try:
                    name, unit = key[1].decode(), key[2].decode()
                except UnicodeDecodeError:
                    groups.append(None)
                    continue
                if len(self._groups) > _CACHED_GROUPS:
                    self._groups.clear()
                group = self._groups[key] = Group(next(self._numbers), origin, name, unit, _kind(data, temporality, bool(monotonic)))
            groups.append(group)
        return groups

    def _numbers_of(self, body: bytes, tables: dict[str, Table], groups: list[Group | None], fresh: _Fresh) -> _Found:
        """The points of gauges and sums."""
        table = tables["number_points"]
        faults = _faults(table, groups)
        stale = table["flags"] & _NO_RECORDED_VALUE != 0
        faults.mark((table["type"] == 0) & ~stale, "the point has no value")
        numbers = np.array([-1 if group is None else group.number for group in groups], np.int64)
        offsets, lengths = table.text("attributes")
        ids, known = self._known.find(body, offsets, lengths, numbers[table.parent])
        torn = table.torn("attributes")
        malformed = np.zeros(len(table), np.bool_)
        for row in np.flatnonzero((~known | torn) & ~faults.bad).tolist():
            group = groups[table.parent[row]]
            assert group is not None
            block = table.slices(body, [row])[0] if torn[row] else body[offsets[row] : offsets[row] + lengths[row]]
            try:
                attributes = attributes_of(NumberDataPoint.FromString(block).attributes)
            except DecodeError:
                malformed[row] = True
                continue
            ids[row] = fresh.describe(group, attributes)
            if not torn[row]:
                fresh.keys.append((block, int(ids[row]), group.number))
        faults.mark(malformed, "an attribute is malformed or not UTF-8")
        raw = table["value"]
        value = np.where(table["type"] == _AS_INT, raw.astype(np.float64), raw.view(np.float64))
        value[stale] = STALE
        found = _exemplars(body, tables["exemplars"], table, faults)
        good = ~faults.bad
        fresh.exemplars += [{**row, "series": int(ids[place])} for place, row in found if good[place]]
        return _Found((ids[good], table["time"][good], value[good]), faults)

    def _scanned(self, body: bytes, table: Table, groups: list[Group | None], source: str, received: int) -> _Scanned:
        """The exponential histograms that need not be read one by one: nothing is odd about them, and all their series are known."""
        nothing = np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0)
        found = scan(body, table) if len(table) else None
        if found is None:
            return _Scanned(np.zeros(len(table), np.bool_), np.zeros(len(table), np.bool_), nothing, [])
        rows = sure = found.sure & ~_faults(table, groups).bad
        numbers = np.array([-1 if group is None else group.number for group in groups], np.int64)[table.parent] * len(MEMBERS)
        offsets, lengths = table.text("attributes")
        ids = {}
        for place, member in enumerate(MEMBERS):
            ids[member], known = self._wholes.find(body, offsets, lengths, numbers + place)
            rows = rows & (known | ~found.values[member][0])
        parts = [nothing]
        for member in MEMBERS[1:]:
            there = rows & found.values[member][0]
            parts.append((ids[member][there], found.time[there], found.values[member][1][there]))
        series, time, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        histograms = [found.batch(source, received, ids[WHOLE], np.flatnonzero(rows))] if rows.any() else []
        return _Scanned(rows, sure & ~rows, (series, time, value), histograms)

    def _explicit(self, body: bytes, table: Table, groups: list[Group | None]) -> Explicit:
        """The histograms with explicit bounds that need not be read one by one."""
        numbers = np.array([-1 if group is None else group.number for group in groups], np.int64)[table.parent]
        return self._buckets.scan(body, table, numbers, ~_faults(table, groups).bad)

    def _compound(
        self, body: bytes, table: Table, name: str, groups: list[Group | None], fresh: _Fresh, scanned: _Scanned | Explicit | None
    ) -> _Found:
        """The points of histograms and summaries, without those that were scanned."""
        message, samples = _READERS[name]
        faults = _faults(table, groups)
        offsets, lengths = table.text("attributes")
        blocks = np.column_stack((offsets, offsets + lengths)).tolist()
        times, torn = table["time"].tolist(), table.torn("attributes")
        series: list[int] = []
        time: list[int] = []
        value: list[float] = []
        why: dict[str, list[int]] = {}
        for row in np.flatnonzero(~faults.bad if scanned is None else ~(faults.bad | scanned.rows)).tolist():
            group = groups[table.parent[row]]
            assert group is not None
            whole = table.slices(body, [row])[0]
            try:
                point: Any = message.FromString(whole)
                found = list(samples(point))
            except DecodeError:
                why.setdefault("the point is malformed, or a text in it is not UTF-8", []).append(row)
                continue
            except BadData as error:
                why.setdefault(error.reason, []).append(row)
                continue
            key = group.number, whole if torn[row] else body[slice(*blocks[row])]
            numbers = self._members_of(key, group, point, found, fresh)
            series += numbers
            if not point.flags & _NO_RECORDED_VALUE:
                self._beside(key, group, point, times[row], fresh)
            if isinstance(scanned, Explicit) and scanned.new[row]:
                fresh.explicit.append((row, numbers))
            elif scanned is not None and scanned.new[row]:
                known = self._members.get(key, {}) | fresh.members.get(key, {})
                at = ((place, known[member]) for place, member in enumerate(MEMBERS) if member in known)
                fresh.wholes += [(key[1], number, group.number * len(MEMBERS) + place) for place, number in at]
            time += [times[row]] * len(found)
            value += [STALE] * len(found) if point.flags & _NO_RECORDED_VALUE else [sample.value for sample in found]
        for reason, rows in why.items():
            mask = np.zeros(len(table), np.bool_)
            mask[rows] = True
            faults.mark(mask, reason)
        return _Found((np.array(series, np.uint64), np.array(time, np.int64), np.array(value, np.float64)), faults)

    def _members_of(self, key: tuple[int, bytes], group: Group, point: Any, found: list[Sample], fresh: _Fresh) -> list[int]:
        """The series ids of one compound point's samples."""
        known = self._members.get(key, {})
        if all(sample.member in known for sample in found):
            return [known[sample.member] for sample in found]
        new = fresh.members.setdefault(key, {})
        attributes = attributes_of(point.attributes)
        for sample in found:
            if sample.member not in known and sample.member not in new:
                new[sample.member] = fresh.describe(group, attributes, sample.member, sample.counts)
        return [known[sample.member] if sample.member in known else new[sample.member] for sample in found]

    def _beside(self, key: tuple[int, bytes], group: Group, point: Any, time: int, fresh: _Fresh) -> None:
        """The rows of a compound point that are not points: its exemplars, and its exponential buckets."""
        whole = isinstance(point, ExponentialHistogramDataPoint)
        if isinstance(point, SummaryDataPoint) or not (whole or point.exemplars):
            return
        rows = list(exemplars(point.exemplars, time))
        members = [WHOLE if whole else bucket_of(point, row["value"]) for row in rows]
        samples = [Sample(member, 0.0, True) for member in (*members, *([WHOLE] if whole else []))]
        series = self._members_of(key, group, point, samples, fresh)
        fresh.exemplars += [{**row, "series": number} for row, number in zip(rows, series, strict=False)]
        if whole:
            fresh.histograms.append({**buckets(point), "series": series[-1], "time": time})

    def _remember(self, fresh: _Fresh) -> None:
        if fresh.keys:
            blocks, ids, numbers = zip(*fresh.keys, strict=True)
            self._known.add(blocks, ids, numbers, [0] * len(blocks))
        if fresh.wholes:
            blocks, ids, numbers = zip(*dict.fromkeys(fresh.wholes), strict=True)
            self._wholes.add(blocks, ids, numbers, [0] * len(blocks))
        with self._lock:
            if self._member_count > _CACHED_MEMBERS:
                self._members.clear()
                self._member_count = 0
            for key, members in fresh.members.items():
                self._members[key] = self._members.get(key, {}) | members
                self._member_count += len(members)


class _Found(NamedTuple):
    """What one table of points came to: series ids, times, values; and which rows were bad."""

    columns: tuple[npt.NDArray[np.uint64], Ints, npt.NDArray[np.float64]]
    faults: Faults


class _Scanned(NamedTuple):
    """Which exponential histograms were scanned, which only need their series known for that, their points, their `histogram` batch."""

    rows: Mask
    new: Mask
    columns: tuple[npt.NDArray[np.uint64], Ints, npt.NDArray[np.float64]]
    histograms: list[Batch]


_READERS: dict[str, tuple[type[Message], Callable[[Any], Iterator[Sample]]]] = {
    "histogram_points": (HistogramDataPoint, histogram),
    "exponential_points": (ExponentialHistogramDataPoint, exponential),
    "summary_points": (SummaryDataPoint, summary),
}


def _exemplars(body: bytes, table: Table, of: Table, faults: Faults) -> list[tuple[int, Row]]:
    """The exemplars of number points, each with the row of its point; points with a malformed one are marked."""
    if not len(table):
        return []
    times = of["time"]
    found: list[tuple[int, Row]] = []
    malformed = np.zeros(len(of), np.bool_)
    for place, message in zip(table.parent.tolist(), table.slices(body), strict=True):
        try:
            found += [(place, row) for row in exemplars([Exemplar.FromString(message)], int(times[place]))]
        except DecodeError:
            malformed[place] = True
    faults.mark(malformed, "an exemplar is malformed")
    return found


def _kind(data: int, temporality: int, monotonic: bool) -> str:
    """The kind of a metric's series: of a histogram's and a summary's that of its counts."""
    if data == _GAUGE:
        return "gauge"
    if data == _SUMMARY:
        return "counter"
    if temporality == _DELTA:
        return "delta"
    if temporality != _CUMULATIVE:
        return "unknown"
    return "gauge" if data == _SUM and not monotonic else "counter"


def _faults(table: Table, groups: list[Group | None]) -> Faults:
    """The faults that all kinds of points share."""
    faults = Faults(len(table))
    time = table["time"]
    faults.mark(time == 0, "the time is not set")
    faults.mark(time < 0, "the time is after 2262")
    unnamed = np.array([group is None for group in groups], np.bool_)
    faults.mark(unnamed[table.parent], "the metric has no name, or its name is not UTF-8")
    return faults


def _again(body: bytes, tables: dict[str, Table], name: str, rows: list[int]) -> bytes:
    """An Export request with these points only."""
    table, metrics = tables[name], tables["metrics"]
    by_metric: dict[int, list[bytes]] = {}
    for metric, point in zip(table.parent[rows].tolist(), table.slices(body, rows), strict=True):
        by_metric.setdefault(metric, []).append(frame(1, point))
    by_scope: dict[int, list[bytes]] = {}
    cells = metrics.cells("name", "unit", "data", "temporality", "monotonic")
    for metric, parts in by_metric.items():
        start, size, place, length, data, temporality, monotonic = cells[metric]
        inner = b"".join(parts)
        if data not in (_GAUGE, _SUMMARY):
            inner += bytes([2 << 3, temporality & 3])
        if data == _SUM:
            inner += bytes([3 << 3, monotonic != 0])
        whole = frame(1, body[start : start + size]) + frame(3, body[place : place + length]) + frame(data, inner)
        by_scope.setdefault(int(metrics.parent[metric]), []).append(whole)
    return excerpt(body, tables["resource_metrics"], tables["scope_metrics"], by_scope)
