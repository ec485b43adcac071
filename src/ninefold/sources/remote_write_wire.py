"""The two messages of Prometheus remote write on the wire, read into one shape.

In 1.0 a series' labels stand in it; in 2.0 they are references to a table of texts of the request. There the key of a series is
made of the digests of the texts it refers to, so that it is the same in every request, however its table is ordered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ninefold.ground.errors import BadData
from ninefold.sources.columns import Mask
from ninefold.sources.kernel import Ints
from ninefold.sources.native_histograms import unpack
from ninefold.sources.protobuf import Plan, Table, frame
from ninefold.sources.series import digests

_SAMPLE = {1: "fixed value", 2: "varint time"}
_FIRST = Plan({
    "write_request": {1: "row timeseries", 3: "row metadata"},
    "timeseries": {1: "run labels", 2: "row samples", 3: "row exemplars", 4: "row histograms"},
    "samples": _SAMPLE,
    "exemplars": {},
    "histograms": {},
    "metadata": {1: "varint type", 2: "bytes family", 5: "bytes unit"},
})  # fmt: skip
_SECOND = Plan({
    "request": {4: "leaf symbols", 5: "row timeseries"},
    "symbols": {},
    "timeseries": {1: "bytes labels", 2: "row samples", 3: "row histograms", 4: "row exemplars", 5: "one metadata"},
    "metadata": {1: "varint type", 4: "varint unit"},
    "samples": _SAMPLE,
    "exemplars": {},
    "histograms": {},
})  # fmt: skip
_EXEMPLARS = Plan(
    {
        "body": {1: "row exemplars"},
        "exemplars": {1: "row labels", 2: "fixed value", 3: "varint time"},
        "labels": {1: "bytes name", 2: "bytes value"},
    }
)
_REFERRING = Plan({"body": {1: "row exemplars"}, "exemplars": {1: "bytes labels", 2: "fixed value", 3: "varint time"}})
_LABELS = Plan({"write_request": {1: "row timeseries"}, "timeseries": {1: "row labels"}, "labels": {1: "bytes name", 2: "bytes value"}})
_SYMBOLS, _TIMESERIES = 4, 5
_DIGEST_BYTES = 16
_GROUPS = 32
"""Group numbers are multiples of this, so that the series beside a series have room between them."""

Labels = Sequence[tuple[bytes, bytes]]
Exemplar = tuple[int, int, float, Labels | str]
"""The row of its series, its time in ms, its value, its labels or what is wrong with them."""


@dataclass(slots=True)
class Request:
    """A request: the tables of its messages, and of every series the key and the group by which it is known.

    Attributes:
        buffer, offsets, lengths: where the key of each series stands.
        groups: a number that is part of the key.
        torn: series whose key is not all there, so that it must be read every time.
    """

    body: bytes
    series: Table
    samples: Table
    histograms: Table
    exemplar_rows: Table
    buffer: bytes
    offsets: Ints
    lengths: Ints
    groups: Ints
    torn: Mask

    def key(self, row: int) -> bytes:
        """The key of a series."""
        return self.buffer[self.offsets[row] : self.offsets[row] + self.lengths[row]]

    def labels(self, rows: Ints) -> list[Labels | str]:
        """The labels of some series, or what is wrong with them."""
        raise NotImplementedError

    def about(self, row: int) -> tuple[int, str]:
        """Type and unit of a series' metric as its own metadata has them; (0, "") when there is none."""
        return 0, ""

    def families(self) -> dict[str, tuple[int, str]]:
        """Type and unit of the metric families the request speaks of."""
        return {}

    def exemplars(self) -> Iterator[Exemplar]:
        """The exemplars of all series."""
        raise NotImplementedError

    def excerpt(self, rows: Iterable[int]) -> bytes:
        """A request with some series only."""
        raise NotImplementedError


@dataclass(slots=True)
class _First(Request):
    """``prometheus.WriteRequest``."""

    metadata: Table

    def labels(self, rows: Ints) -> list[Labels | str]:
        if not len(rows):
            return []
        excerpt = self.excerpt(rows)
        try:
            labels = _LABELS.scan(excerpt)["labels"]
        except BadData:
            _LABELS.scan(self.body)  # fails as well, and names the offset in the body that was sent
            raise
        found: list[list[tuple[bytes, bytes]]] = [[] for _ in rows]
        for row, (name, name_size, value, value_size) in zip(labels.parent.tolist(), labels.cells("name", "value"), strict=True):
            found[row].append((excerpt[name : name + name_size], excerpt[value : value + value_size]))
        return list(found)

    def families(self) -> dict[str, tuple[int, str]]:
        told = {}
        for type_, start, size, place, length in self.metadata.cells("type", "family", "unit"):
            unit = self.body[place : place + length].decode("utf-8", "replace")
            told[self.body[start : start + size].decode("utf-8", "replace")] = type_, unit
        return told

    def exemplars(self) -> Iterator[Exemplar]:
        if not len(self.exemplar_rows):
            return
        body = b"".join(frame(1, message) for message in self.exemplar_rows.slices(self.body))
        tables = _EXEMPLARS.scan(body)
        table, labels = tables["exemplars"], tables["labels"]
        found: list[list[tuple[bytes, bytes]]] = [[] for _ in range(len(table))]
        for row, (name, name_size, value, value_size) in zip(labels.parent.tolist(), labels.cells("name", "value"), strict=True):
            found[row].append((body[name : name + name_size], body[value : value + value_size]))
        values = table["value"].view(np.float64).tolist()
        yield from zip(self.exemplar_rows.parent.tolist(), table["time"].tolist(), values, found, strict=True)

    def excerpt(self, rows: Iterable[int]) -> bytes:
        return b"".join(frame(1, message) for message in self.series.slices(self.body, rows))


@dataclass(slots=True)
class _Second(Request):
    """``io.prometheus.write.v2.Request``; a reference to a text that is not there is kept as -1."""

    symbols: Table
    references: Ints
    edges: Ints
    types: Ints
    units: Ints

    def labels(self, rows: Ints) -> list[Labels | str]:
        return [self._resolve(self.references[self.edges[row] : self.edges[row + 1]]) for row in rows]

    def about(self, row: int) -> tuple[int, str]:
        unit = int(self.units[row])
        text = self.symbols.slices(self.body, [unit])[0] if 0 <= unit < len(self.symbols) else b""
        return int(self.types[row]), text.decode("utf-8", "replace")

    def exemplars(self) -> Iterator[Exemplar]:
        if not len(self.exemplar_rows):
            return
        body = b"".join(frame(1, message) for message in self.exemplar_rows.slices(self.body))
        table = _REFERRING.scan(body)["exemplars"]
        references, edges = unpack(body, *table.text("labels"))
        labels = [self._resolve(references[start:end]) for start, end in pairwise(edges.tolist())]
        values = table["value"].view(np.float64).tolist()
        yield from zip(self.exemplar_rows.parent.tolist(), table["time"].tolist(), values, labels, strict=True)

    def excerpt(self, rows: Iterable[int]) -> bytes:
        symbols = b"".join(frame(_SYMBOLS, symbol) for symbol in self.symbols.slices(self.body))
        return symbols + b"".join(frame(_TIMESERIES, message) for message in self.series.slices(self.body, rows))

    def _resolve(self, references: Ints) -> Labels | str:
        if len(references) % 2 or ((references < 0) | (references >= len(self.symbols))).any():
            return "a label refers to a text that is not there"
        texts = self.symbols.slices(self.body, references)
        return list(zip(texts[::2], texts[1::2], strict=True))


def read(body: bytes) -> Request:
    """The request in an uncompressed body; the fields of the two messages do not overlap, so the first one tells which it is.

    Raises:
        BadData: the body is neither; `where` names message and offset.
        TooLarge: it is made of more parts than any sender has reason to send.
    """
    if body[:1] and body[0] >> 3 in (_SYMBOLS, _TIMESERIES):
        return _read_second(body)
    tables = _FIRST.scan(body)
    series = tables["timeseries"]
    offsets, lengths = series.text("labels")
    shared = (body, series, tables["samples"], tables["histograms"], tables["exemplars"])
    return _First(*shared, body, offsets, lengths, np.zeros(len(series), np.int64), series.torn("labels"), tables["metadata"])


def _read_second(body: bytes) -> _Second:
    tables = _SECOND.scan(body)
    series, symbols = tables["timeseries"], tables["symbols"]
    references, edges = unpack(body, *series.text("labels"))
    places, sizes = symbols.places()
    texts = np.concatenate((digests(body, places, sizes, np.zeros(len(symbols), np.int64)), [[-1, -1]]))
    there = (references >= 0) & (references < len(symbols))
    buffer = texts[np.where(there, references, -1)].tobytes()
    unit, types = series["unit"], series["type"]
    units = texts[np.where((unit > 0) & (unit < len(symbols)), unit, -1), 0]
    groups = ((units << 3 | types & 7) & ((1 << 56) - 1)) * _GROUPS + _GROUPS
    counts = np.diff(edges)
    torn = np.zeros(len(series), np.bool_)
    torn[np.repeat(np.arange(len(series)), counts)[~there]] = True
    torn |= counts % 2 != 0
    shared = (body, series, tables["samples"], tables["histograms"], tables["exemplars"])
    keys = (buffer, edges[:-1] * _DIGEST_BYTES, counts * _DIGEST_BYTES, groups, torn)
    return _Second(*shared, *keys, symbols, references, edges, types, unit)
