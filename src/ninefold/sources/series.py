"""Which metric series are known: described once, when they are first seen, and found again by their raw bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ninefold.model.signal import METRIC, TIME, Batch
from ninefold.sources import kernel
from ninefold.sources.kernel import Ints

ARENA_BYTES = 256 << 20
"""Known keys are all forgotten beyond this; every series is then described once more, which is harmless."""
STALE: float = np.array([0x7FF0000000000002], np.int64).view(np.float64)[0]
"""Prometheus' staleness marker: a NaN of its own that says the series has ended."""


class Known:
    """A hash table from (group number, key bytes) to a series id. Thread-safe; every byte of a key is compared."""

    def __init__(self, arena_bytes: int = ARENA_BYTES) -> None:
        self._limit = arena_bytes
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._size = self._used = 0
        self._slots = np.full(2048, -1, np.int64)
        self._entries = np.empty((1024, 5), np.int64)
        self._arena = np.empty(1 << 16, np.uint8)
        self._ids = np.empty(1024, np.uint64)

    def __len__(self) -> int:
        return self._size

    def find(self, body: bytes, offsets: Ints, lengths: Ints, groups: Ints) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """The series ids of the keys ``body[offset:][:length]`` of `groups`, and which of them are known."""
        found = np.empty(len(offsets), np.int64)
        with self._lock:
            kernel.kernels().find(np.frombuffer(body, np.uint8), offsets, lengths, groups, self._slots, self._entries, self._arena, found)
            return self._ids[np.maximum(found, 0)], found >= 0

    def add(self, keys: Sequence[bytes], series: Sequence[int], groups: Sequence[int], tags: Sequence[int]) -> None:
        """Remember keys that were not found; a tag is a number of the caller's to find keys by."""
        lengths = np.fromiter(map(len, keys), np.int64, len(keys))
        offsets = np.cumsum(lengths) - lengths
        body = np.frombuffer(b"".join(keys), np.uint8)
        found = np.empty(len(keys), np.int64)
        with self._lock:
            if self._used + len(body) > self._limit:
                self._clear()
            self._reserve(len(keys), len(body))
            kernel.kernels().find(body, offsets, lengths, np.array(groups, np.int64), self._slots, self._entries, self._arena, found)
            rows = slice(self._size, self._size + len(keys))
            hashes = np.where(found < 0, -1 - found, self._entries[np.maximum(found, 0), 0])
            self._arena[self._used : self._used + len(body)] = body
            self._entries[rows] = np.column_stack((hashes, groups, self._used + offsets, lengths, tags))
            self._ids[rows] = np.array(series, np.uint64)
            self._place(self._size, hashes.tolist())
            self._size += len(keys)
            self._used += len(body)

    def tagged(self, tags: Iterable[int]) -> list[bytes]:
        """The keys that were added with one of these tags."""
        with self._lock:
            entries = self._entries[: self._size]
            chosen = entries[np.isin(entries[:, 4], np.fromiter(tags, np.int64)) & (entries[:, 3] >= 0)]
            return [self._arena[start : start + length].tobytes() for start, length in chosen[:, 2:4].tolist()]

    def forget(self, series: Iterable[int]) -> None:
        """Make these series new again, so that they are described with their next points."""
        with self._lock:
            gone = np.isin(self._ids[: self._size], np.fromiter(series, np.uint64))
            self._entries[: self._size][gone, 3] = -1  # a length no key has: the row stays in the chain of its slot

    def _reserve(self, keys: int, size_bytes: int) -> None:
        """Make room for so many more keys and bytes; the slots stay at most half full."""
        while self._used + size_bytes > len(self._arena):
            self._arena = np.concatenate((self._arena, np.empty_like(self._arena)))
        if self._size + keys > len(self._entries):
            while self._size + keys > len(self._entries):
                self._entries = np.concatenate((self._entries, np.empty_like(self._entries)))
                self._ids = np.concatenate((self._ids, np.empty_like(self._ids)))
            self._slots = np.full(2 * len(self._entries), -1, np.int64)
            self._place(0, self._entries[: self._size, 0].tolist())

    def _place(self, entry: int, hashes: Iterable[int]) -> None:
        """Give the entries from `entry` on a slot each."""
        slots, last = self._slots, len(self._slots) - 1
        for hashed in hashes:
            slot = hashed & last
            while slots[slot] >= 0:
                slot = (slot + 1) & last
            slots[slot] = entry
            entry += 1


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
