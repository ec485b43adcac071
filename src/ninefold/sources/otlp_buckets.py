"""Histograms with explicit bounds as columns: the points whose series are known already, without an object for any of them.

A point is `sure` when the fields known here fill it to its last byte, so nothing about it is odd: no exemplars, no flags, no field twice
or in pieces. It is found by its metric, the raw bytes of its attributes and of its bounds, and by which of sum, min and max it has; under
that key are the ids of all its series, in the order in which `otlp_histograms.histogram` would give the samples.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ninefold.sources.columns import Mask
from ninefold.sources.kernel import Ints
from ninefold.sources.native_histograms import Floats
from ninefold.sources.protobuf import Table
from ninefold.sources.series import Ids, Known, digests

EXPLICIT = {
    2: "fixed start start_kind", 3: "fixed time time_kind", 4: "fixed count count_kind", 5: "fixed sum sum_kind", 6: "run counts",
    7: "run bounds", 9: "run attributes", 11: "fixed min min_kind", 12: "fixed max max_kind",
}  # fmt: skip
"""What a plan takes from a HistogramDataPoint."""
_OPTIONAL = ("sum", "min", "max")
_FIXED = 9
"""The bytes of a fixed64 field with its tag."""
_COUNTS, _BOUNDS = 6 << 3 | 2, 7 << 3 | 2
_LARGEST = 1 << 40
"""A larger count in a bucket is left to the general reader, so that sums are exact as floats."""
_MOST_IDS = 8 << 20
"""Ids are all forgotten beyond this; every point is then read in the general way once more, which is harmless."""


@dataclass(frozen=True, slots=True)
class Explicit:
    """Which rows of a table were read, which only need their series known for that, and the points of those that were read."""

    rows: Mask
    new: Mask
    columns: tuple[Ids, Ints, Floats]
    keys: tuple[Ints, Ints, Ints]
    """Offset, length and group of each row's key."""


class _Shelf:
    """The ids of the series of points by key; what is on it stays where it is, so readers need no lock."""

    def __init__(self) -> None:
        self.known = Known()
        self.ids = np.empty(1024, np.uint64)
        self.starts = np.zeros(256, np.int64)
        self.slots = 0

    @property
    def size(self) -> int:
        return int(self.starts[self.slots])

    def put(self, ids: Sequence[int]) -> int:
        """The slot in which they are from now on."""
        begin, end = self.size, self.size + len(ids)
        if end > len(self.ids):
            self.ids = np.concatenate((self.ids, np.empty(end, np.uint64)))
        if self.slots + 2 > len(self.starts):
            self.starts = np.concatenate((self.starts, np.zeros_like(self.starts)))
        self.ids[begin:end] = np.array(ids, np.uint64)
        self.starts[self.slots + 1] = end
        self.slots += 1
        return self.slots - 1


class Buckets:
    """The fast reader of histograms with explicit bounds. Thread-safe."""

    def __init__(self) -> None:
        self._shelf = _Shelf()
        self._lock = threading.Lock()

    def scan(self, body: bytes, table: Table, numbers: Ints, good: Mask) -> Explicit:
        """Read what can be read of a table; `numbers` are those of the rows' metrics, `good` the rows without faults."""
        if not len(table):
            none = np.empty(0, np.int64)
            return Explicit(good, good, (np.empty(0, np.uint64), none, np.empty(0)), (none, none, none))
        (at, sizes, whole), (_, bounds, alone) = (_packed(body, table, *field) for field in (("counts", _COUNTS), ("bounds", _BOUNDS)))
        sure = good & whole & alone & _filled(table) & ((sizes == bounds + 1) | ((sizes == 0) & (bounds == 0)))
        sizes[~sure] = 0
        counts = _numbers(body, at, sizes)
        wrong = (counts < 0) | (counts >= _LARGEST)
        if wrong.any():
            sure &= np.bincount(np.repeat(np.arange(len(sizes)), sizes)[wrong], minlength=len(sizes)) == 0
        has = {name: table[f"{name}_kind"] != 0 for name in _OPTIONAL}
        shape = has["sum"] | has["min"] * 2 | has["max"] * 4
        groups = digests(body, *table.text("bounds"), numbers * 8 + shape)[:, 0]
        offsets, lengths = table.text("attributes")
        shelf = self._shelf
        slots, known = shelf.known.find(body, offsets, lengths, groups)
        rows = sure & known
        picked = counts[np.repeat(rows, sizes)]
        columns = _samples(table, np.flatnonzero(rows), has, picked, sizes[rows], shelf, slots[rows].astype(np.int64))
        return Explicit(rows, sure & ~known, columns, (offsets, lengths, groups))

    def learn(self, body: bytes, found: Explicit, read: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Know the series of `new` rows from now on: (row, the ids of its series in the order of its samples)."""
        rows = np.array([row for row, _ in read], np.int64)
        offsets, lengths, groups = found.keys
        with self._lock:
            if self._shelf.size > _MOST_IDS:
                self._shelf = _Shelf()
            slots = [self._shelf.put(ids) for _, ids in read]
            self._shelf.known.add_found(body, offsets[rows], lengths[rows], groups[rows], slots, [0] * len(slots))

    def forget(self, series: Iterable[int]) -> None:
        """Leave points with one of these series to the general reader once more."""
        with self._lock:
            shelf = self._shelf
            places = np.flatnonzero(np.isin(shelf.ids[: shelf.size], np.fromiter(series, np.uint64)))
            slots = np.searchsorted(shelf.starts[: shelf.slots + 1], places, side="right") - 1
            shelf.known.forget(np.unique(slots).tolist())


def _filled(table: Table) -> Mask:
    """The points that hold nothing but the fields of the plan, each once."""
    size = sum(table.text(name)[1] for name in ("counts", "bounds", "attributes"))
    size = size + _FIXED * sum((table[f"{name}_kind"] != 0).astype(np.int64) for name in ("start", "time", "count", *_OPTIONAL))
    filled: Mask = (size == table.places()[1]) & ~table.torn("attributes")
    return filled


def _packed(body: bytes, table: Table, name: str, tag: int) -> tuple[Ints, Ints, Mask]:
    """Where the 64-bit numbers of a packed field begin, how many they are, and which rows are sure: they have it once or not at all."""
    data = np.frombuffer(body, np.uint8)
    offsets, lengths = table.text(name)
    short = lengths <= 129
    heads = np.where(short, 2, 3)
    sizes = lengths - heads
    first, second, third = (data[np.minimum(offsets + i, len(data) - 1)].astype(np.int64) for i in range(3))
    told = np.where(short, second, (second & 127) | third << 7)
    sure = (first == tag) & (told == sizes) & (short == (second < 128)) & (short | (third < 128)) & (sizes % 8 == 0)
    absent = lengths == 0
    return offsets + heads, np.where(absent | ~sure, 0, sizes // 8), (absent | sure) & ~table.torn(name)


def _numbers(body: bytes, offsets: Ints, sizes: Ints) -> Ints:
    """The numbers of all rows, one behind the other."""
    parts = [body[start : start + 8 * size] for start, size in zip(offsets.tolist(), sizes.tolist(), strict=True) if size]
    return np.frombuffer(b"".join(parts), np.int64)


def _samples(
    table: Table, rows: Ints, has: dict[str, Mask], counts: Ints, sizes: Ints, shelf: _Shelf, slots: Ints
) -> tuple[Ids, Ints, Floats]:
    """The series, times and values of some rows, of which `counts` are the buckets, `sizes` of them in each."""
    widths = 1 + sum(has[name][rows].astype(np.int64) for name in _OPTIONAL) + sizes
    edges = np.cumsum(widths) - widths
    index = np.repeat(shelf.starts[slots] - edges, widths) + np.arange(int(widths.sum()))
    value: npt.NDArray[np.float64] = np.empty(len(index))
    value[edges] = table["count"][rows].view(np.uint64)
    place = edges + 1
    for name in _OPTIONAL:
        there = has[name][rows]
        value[place[there]] = table[name][rows][there].view(np.float64)
        place += there
    ends = np.cumsum(sizes)
    totals = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    buckets = np.repeat(place - (ends - sizes), sizes) + np.arange(len(counts))
    value[buckets] = totals[1:] - np.repeat(totals[ends - sizes], sizes)
    return shelf.ids[index], np.repeat(table["time"][rows], widths), value
