"""Which metric series are known: described once, when they are first seen, and found again by a digest of their raw bytes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ninefold.model.entity import entity_of
from ninefold.model.signal import METRIC, SERIES, TIME, Batch, batch_of
from ninefold.sources import kernel
from ninefold.sources.kernel import Ints

MOST_SERIES = 8 << 20
"""Known keys are all forgotten beyond this; every series is then described once more, which is harmless."""
STALE: float = np.array([0x7FF0000000000002], np.int64).view(np.float64)[0]
"""Prometheus' staleness marker: a NaN of its own that says the series has ended."""
_SECRET = np.frombuffer(os.urandom(4 * kernel.SECRETS), np.uint32).astype(np.int64)
_ONE, _TWO, _TAG, _SERIES = range(4)


def digests(body: bytes, offsets: Ints, lengths: Ints, groups: Ints) -> npt.NDArray[np.int64]:
    """124 bits of each key ``body[offset:][:length]`` of a group, in two columns; they mean the same only within this process."""
    out = np.empty((len(offsets), 2), np.int64)
    buffer = np.frombuffer(body, np.uint8)
    kernel.kernels().digest(buffer, offsets, lengths, np.ascontiguousarray(groups, np.int64), _SECRET, out)
    return out


_DAY_S = 86400.0
_GATHERED = 1024

Ids = npt.NDArray[np.uint64]


class Descriptions:
    """The series that one request describes. A request of new series may have a hundred thousand of them: their rows become Arrow
    columns a few thousand at a time, because as dictionaries they fill thirty times the memory."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()
        self._rows: list[dict[str, Any]] = []
        self._full: list[pa.RecordBatch] = []

    def add(self, number: int, name: str, unit: str, kind: str, attributes: Mapping[str, str]) -> None:
        """Describe a series, unless it was described before."""
        if number in self._numbers:
            return
        self._numbers.add(number)
        entity = entity_of(attributes)
        self._rows.append({"series": number, "name": name, "unit": unit, "kind": kind, "entity": entity, "attributes": attributes})
        if len(self._rows) >= _GATHERED:
            self._full.append(batch_of("series", "", 0, self._rows).rows)
            self._rows = []

    def batch(self, source: str, received: int) -> list[Batch]:
        """Their one batch, none when there are none; nothing is added afterwards."""
        if self._rows:
            self._full.append(batch_of("series", "", 0, self._rows).rows)
        if not self._full:
            return []
        rows = pa.concat_batches(self._full)
        for name, value in (("source", pa.scalar(source)), ("seen", pa.scalar(received, TIME))):
            rows = rows.set_column(SERIES.get_field_index(name), SERIES.field(name), pa.repeat(value, rows.num_rows))
        return [Batch("series", source, received, rows)]


class Known:
    """A hash table from (group number, key bytes) to a series id. Thread-safe.

    Keys are not kept, only digests of 124 bits under a secret of this process: 32 bytes a series and 8 for its slot, however long
    its labels are.
    """

    def __init__(self, most: int = MOST_SERIES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._size = 0
        self._since = time.monotonic()
        self._slots = np.full(2048, -1, np.int32)
        self._entries = np.empty((1024, 4), np.int64)

    def __len__(self) -> int:
        return self._size

    def find(self, body: bytes, offsets: Ints, lengths: Ints, groups: Ints) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """The series ids of the keys ``body[offset:][:length]`` of `groups`, and which of them are known."""
        wanted = digests(body, offsets, lengths, groups)
        found = np.empty(len(offsets), np.int64)
        with self._lock:
            if time.monotonic() - self._since > _DAY_S:  # who listens forgets what is silent for long, and must be told again
                self._clear()
            kernel.kernels().find(wanted, self._slots, self._entries, found)
            return self._entries[np.maximum(found, 0), _SERIES].view(np.uint64), found >= 0

    def add(self, keys: Sequence[bytes], series: Sequence[int], groups: Sequence[int], tags: Sequence[int]) -> None:
        """Remember keys that were not found; a tag is a number of the caller's to forget keys by."""
        lengths = np.fromiter(map(len, keys), np.int64, len(keys))
        self.add_found(b"".join(keys), np.cumsum(lengths) - lengths, lengths, np.array(groups, np.int64), series, tags)

    def add_found(
        self, body: bytes, offsets: Ints, lengths: Ints, groups: Ints, series: Sequence[int] | Ids, tags: Sequence[int] | Ints
    ) -> None:
        """Remember keys where they stand, as `find` was asked for them."""
        fresh = digests(body, offsets, lengths, groups)
        with self._lock:
            self._reserve(len(fresh))
            rows = slice(self._size, self._size + len(fresh))
            self._entries[rows, :2] = fresh
            self._entries[rows, _TAG] = tags
            self._entries[rows, _SERIES] = np.array(series, np.uint64).view(np.int64)
            self._size += len(fresh)
            kernel.kernels().place(self._slots, self._entries, rows.start, rows.stop)

    def forget(self, series: Iterable[int]) -> None:
        """Make these series new again, so that they are described with their next points."""
        self._forget(_SERIES, np.fromiter(series, np.uint64).view(np.int64))

    def forget_tagged(self, tags: Iterable[int]) -> None:
        """Make the series that were added with one of these tags new again."""
        self._forget(_TAG, np.fromiter(tags, np.int64))

    def _forget(self, column: int, values: Ints) -> None:
        with self._lock:
            entries = self._entries[: self._size]
            entries[np.isin(entries[:, column], values), _TWO] = -1  # no digest is negative; the row stays in the chain of its slot

    def _reserve(self, keys: int) -> None:
        """Make room for so many more keys, without those forgotten; the slots stay at most half full."""
        if self._size + keys <= len(self._entries):
            return
        kept = self._entries[: self._size]
        kept = kept[kept[:, _TWO] >= 0]
        if len(kept) + keys > self._most:
            self._clear()
            kept = self._entries[:0]
        capacity = len(self._entries)
        while len(kept) + keys > capacity - capacity // 64:
            capacity *= 2
        self._entries = np.empty((capacity, 4), np.int64)
        self._entries[: len(kept)] = kept
        self._slots = np.full(2 * capacity, -1, np.int32)
        self._size = len(kept)
        kernel.kernels().place(self._slots, self._entries, 0, self._size)


def points(source: str, received: int, series: Sequence[int] | npt.NDArray[np.uint64], time: Ints, value: npt.NDArray[np.float64]) -> Batch:
    """A metric batch of three columns that are already in order; times in ns. The arrays are used as they are, not copied."""
    columns = [
        pa.Array.from_buffers(kind, len(time), [None, pa.py_buffer(np.ascontiguousarray(column, dtype))])
        for kind, column, dtype in ((pa.uint64(), series, np.uint64), (TIME, time, np.int64), (pa.float64(), value, np.float64))
    ]
    return Batch("metric", source, received, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def described(batches: Iterable[Batch]) -> list[int]:
    """The series that these batches describe: what a decoder must describe again when they were not kept."""
    return [number for batch in batches if batch.signal == "series" for number in batch.rows.column("series").to_pylist()]
