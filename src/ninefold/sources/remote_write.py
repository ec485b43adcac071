"""Prometheus remote write 1.0: a `prometheus.WriteRequest` becomes metric points and descriptions of series not seen before.

The raw bytes of a series' labels are the key to its id, so a known series costs one look-up and its labels are never read again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ninefold.ground.errors import BadData
from ninefold.model.entity import entity_of, hash64, series_id
from ninefold.model.signal import Batch, Decoded, batch_of, quarantine
from ninefold.plugin import Answer, Asked, Door, Lent, Source, Strict
from ninefold.sources.protobuf import Plan, Table, frame
from ninefold.sources.series import Known, described, points

_REQUEST = Plan({
    "write_request": {1: "row timeseries", 3: "row metadata"},
    "timeseries": {1: "run labels", 2: "row samples", 3: "row exemplars", 4: "row histograms"},
    "samples": {1: "fixed value", 2: "varint time"},
    "exemplars": {},
    "histograms": {},
    "metadata": {1: "varint type", 2: "bytes family", 5: "bytes unit"},
})  # fmt: skip
_LABELS = Plan({"write_request": {1: "row timeseries"}, "timeseries": {1: "row labels"}, "labels": {1: "bytes name", 2: "bytes value"}})
_MILLISECOND = 1_000_000
_LATEST_MS = (1 << 63) // _MILLISECOND
_COUNTER, _GAUGE, _HISTOGRAM, _SUMMARY = 1, 2, 3, 5
_TOTALS = ("_total", "_count", "_sum", "_bucket")
_FORMAT = "remote_write"

Row = dict[str, Any]


class RemoteWrite:
    """The decoder; one instance a program, because it remembers which series were described. Thread-safe."""

    def __init__(self) -> None:
        self._known = Known()
        self._families: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()

    def decode(self, body: bytes, source: str, received: int) -> Decoded:
        """The batches of an uncompressed request: points, new or changed series, and a quarantine of what cannot be kept.

        `rejected` counts the samples of series whose labels break Prometheus' rules and those at a time that no store can hold.

        Raises:
            BadData: the body is not a WriteRequest; `where` names message and offset.
            TooLarge: it is made of more parts than any sender has reason to send.
        """
        tables = _REQUEST.scan(body)
        series, samples = tables["timeseries"], tables["samples"]
        described: dict[int, Row] = {}
        refused: dict[str, list[int]] = {}
        ids, good = self._identify(body, series, described, refused)
        described |= self._learn(body, tables["metadata"])
        time = samples["time"]
        late = (time < 0) | (time >= _LATEST_MS)
        outside = np.unique(samples.parent[late & good[samples.parent]]).tolist()
        if outside:
            refused["a sample's time is before 1970 or after 2262"] = outside
        kept = good[samples.parent] & ~late
        bad = [_refusal(body, series, reason, rows) for reason, rows in refused.items()] + _unstored(body, tables, good)
        batches = []
        if described:
            batches.append(batch_of("series", source, received, [{**row, "seen": received} for row in described.values()]))
        if kept.any():
            which = slice(None) if kept.all() else kept
            value = samples["value"].view(np.float64)
            batches.append(points(source, received, ids[samples.parent[which]], time[which] * _MILLISECOND, value[which]))
        if bad:
            batches.append(quarantine(source, received, "metric", _FORMAT, bad))
        return Decoded(batches, len(samples) - int(kept.sum()), "; ".join(reason for reason, _, _ in bad))

    def forget(self, series: Iterable[int]) -> None:
        """Describe these series again with their next points: the batch that described them was not kept."""
        self._known.forget(series)

    def _identify(
        self, body: bytes, series: Table, described: dict[int, Row], refused: dict[str, list[int]]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """The id of every series and which of them are good; new ones go to `described`, bad ones by reason to `refused`."""
        offsets, lengths = series.text("labels")
        ids, good = self._known.find(body, offsets, lengths, np.zeros(len(series), np.int64))
        torn = series.torn("labels")
        good &= ~torn
        new = np.flatnonzero(~good).tolist()
        keys: list[tuple[bytes, int, int]] = []
        for row, labels in zip(new, _labels(body, series, new), strict=True):
            try:
                description = self._describe(labels)
            except BadData as error:
                refused.setdefault(error.reason, []).append(row)
                continue
            number = description["series"]
            described[number] = description
            ids[row], good[row] = number, True
            if not torn[row]:
                keys.append((body[offsets[row] : offsets[row] + lengths[row]], number, _tag(description["name"])))
        if keys:
            blocks, numbers, tags = zip(*keys, strict=True)
            self._known.add(blocks, numbers, [0] * len(keys), tags)
        return ids, good

    def _describe(self, labels: Sequence[tuple[bytes, bytes]]) -> Row:
        """The series row of a label set.

        Raises:
            BadData: the labels break Prometheus' rules.
        """
        names = [name for name, _ in labels]
        if any(one >= other for one, other in pairwise(names)):
            raise BadData("the labels are not sorted by name, or a name occurs twice")
        try:
            attributes = {name.decode(): value.decode() for name, value in labels}
        except UnicodeDecodeError:
            raise BadData("a label is not UTF-8") from None
        name = attributes.pop("__name__", "")
        if not name or "" in attributes:
            raise BadData("the label __name__ is missing" if not name else "a label has no name")
        kind, unit = self._nature(name)
        number = series_id(name, attributes)
        return {
            "series": number, "name": name, "unit": unit, "kind": kind, "entity": entity_of(attributes), "attributes": attributes,
        }  # fmt: skip

    def _nature(self, name: str) -> tuple[str, str]:
        """The kind and unit of a metric: what metadata says of its family, else what the ending of its name says."""
        suffix = next((ending for ending in _TOTALS if name.endswith(ending)), "")
        type_, unit = self._families.get(name) or self._families.get(name.removesuffix(suffix), (0, ""))
        if type_ == 0:
            return "counter" if suffix else "unknown", unit
        return "counter" if type_ == _COUNTER or (suffix and type_ in (_HISTOGRAM, _SUMMARY)) else "gauge", unit

    def _learn(self, body: bytes, metadata: Table) -> dict[int, Row]:
        """Take in metadata; the rows of known series about which it says something new."""
        told: dict[str, tuple[int, str]] = {}
        for type_, start, size, place, length in metadata.cells("type", "family", "unit"):
            told[body[start : start + size].decode("utf-8", "replace")] = type_, body[place : place + length].decode("utf-8", "replace")
        with self._lock:
            news = {family: about for family, about in told.items() if self._families.get(family) != about}
            names = [family + ending for family in news for ending in ("", *_TOTALS)]
            before = [self._nature(name) for name in names]
            self._families.update(news)
            changed = [name for name, nature in zip(names, before, strict=True) if self._nature(name) != nature]
        if not changed:
            return {}
        blocks = self._known.tagged(map(_tag, changed))
        excerpt = b"".join(frame(1, block) for block in blocks)
        tables = _LABELS.scan(excerpt)
        rows = [self._describe(labels) for labels in _labels(excerpt, tables["timeseries"], range(len(blocks)))]
        return {row["series"]: row for row in rows}


@lru_cache(maxsize=4096)
def _tag(name: str) -> int:
    """The number by which the known series of a name are found."""
    return hash64((name,)) >> 1


def _labels(body: bytes, series: Table, rows: Sequence[int]) -> list[list[tuple[bytes, bytes]]]:
    """The labels of some series.

    Raises:
        BadData: a label is not a protobuf message.
    """
    if not rows:
        return []
    excerpt = b"".join(frame(1, message) for message in series.slices(body, rows))
    try:
        labels = _LABELS.scan(excerpt)["labels"]
    except BadData:
        _LABELS.scan(body)  # fails as well, and names the offset in the body that was sent
        raise
    found: list[list[tuple[bytes, bytes]]] = [[] for _ in rows]
    for row, (name, name_size, value, value_size) in zip(labels.parent.tolist(), labels.cells("name", "value"), strict=True):
        found[row].append((excerpt[name : name + name_size], excerpt[value : value + value_size]))
    return found


def _refusal(body: bytes, series: Table, reason: str, rows: Sequence[int]) -> tuple[str, str, bytes]:
    """One quarantine entry for all series refused for one reason: a request of its own, to be replayed as it is."""
    where = ", ".join(f"timeseries[{row}]" for row in rows[:5]) + (", …" if len(rows) > 5 else "")
    return f"{reason} ({len(rows)} series)", where, b"".join(frame(1, message) for message in series.slices(body, rows))


def _unstored(body: bytes, tables: dict[str, Table], good: npt.NDArray[np.bool_]) -> list[tuple[str, str, bytes]]:
    """Quarantine entries for the exemplars and native histograms of good series: the labels with those, without the samples."""
    found = []
    series = tables["timeseries"]
    offsets, lengths = series.text("labels")
    for name, number in (("exemplars", 3), ("histograms", 4)):
        table = tables[name]
        payload: dict[int, bytes] = {}
        wanted = np.flatnonzero(good[table.parent])
        for row, message in zip(table.parent[wanted].tolist(), table.slices(body, wanted), strict=True):
            start = payload.get(row, body[offsets[row] : offsets[row] + lengths[row]])
            payload[row] = start + frame(number, message)
        if payload:
            what = "native histograms" if name == "histograms" else name
            found.append((f"not stored yet: {len(wanted)} {what}", name, b"".join(frame(1, message) for message in payload.values())))
    return found


class PrometheusRemoteWrite(Source):
    """Prometheus remote write at ``/api/v1/write``."""

    kind = "remote_write"
    title = "Prometheus remote write"
    extraction = "push"
    signals = frozenset(("metric",))
    always = True
    Config = Strict

    def __init__(self, name: str, config: Strict, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._decoder = RemoteWrite()

    def doors(self) -> list[Door]:
        """The write endpoint."""
        protobuf = ("application/x-protobuf",)
        return [Door("/api/v1/write", self._accept, _no_content, None, self._forget, protobuf, "snappy", source="prometheus")]

    def _accept(self, asked: Asked) -> Decoded:
        return self._decoder.decode(asked.body, asked.source, asked.received)

    def _forget(self, batches: Sequence[Batch]) -> None:
        self._decoder.forget(described(batches))


def _no_content(asked: Asked, decoded: Decoded) -> Answer:
    return Answer(204)
