"""Metric series found by the raw bytes of their keys, for protocols that are text: a known series is never described again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ninefold.ground.errors import BadData, TooLarge
from ninefold.model.entity import entity_of, series_id
from ninefold.model.signal import Batch, batch_of
from ninefold.sources.kernel import Ints
from ninefold.sources.series import Known, described, points

_KEY_BYTES = 256 << 20
_TOO_LARGE = "the names and attributes of the series are too large; send smaller batches"

Row = dict[str, Any]
Identified = tuple[npt.NDArray[np.uint64], list[Row], list[tuple[int, str]]]


class Cells:
    """Values that come one by one, with the keys of their series."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.times: list[int] = []
        self.values: list[float] = []
        self._size = 0

    def add(self, key: bytes, time: int, value: float) -> None:
        """One value; `time` in ns.

        Raises:
            TooLarge: the keys together would fill the memory.
        """
        self._size += len(key)
        if self._size > _KEY_BYTES:
            raise TooLarge(_TOO_LARGE)
        self.keys.append(key)
        self.times.append(time)
        self.values.append(value)


class Keyed:
    """The series of one decoder by their keys. Thread-safe."""

    def __init__(self) -> None:
        self._known = Known()

    def identify(self, body: bytes, offsets: Ints, lengths: Ints, groups: Ints, describe: Callable[[int], Row]) -> Identified:
        """The series of the keys ``body[offset:][:length]`` of `groups`, the rows of those not seen before, and the keys that
        `describe` refused with the reason; ids of these are 0.

        Raises:
            TooLarge: the keys together are so long that describing them would fill the memory.
        """
        if int(lengths.sum()) > _KEY_BYTES:
            raise TooLarge(_TOO_LARGE)
        ids, good = self._known.find(body, offsets, lengths, groups)
        ids = np.where(good, ids, np.uint64(0))
        fresh: dict[tuple[bytes, int], int] = {}
        rows: dict[int, Row] = {}
        bad: list[tuple[int, str]] = []
        for i in np.flatnonzero(~good).tolist():
            key = body[offsets[i] : offsets[i] + lengths[i]], int(groups[i])
            if key not in fresh:
                try:
                    row = describe(i)
                except BadData as error:
                    bad.append((i, error.reason))
                    continue
                fresh[key] = row["series"]
                rows[row["series"]] = row
            ids[i] = fresh[key]
        if fresh:
            blocks, numbers = zip(*fresh, strict=True)
            self._known.add(blocks, list(fresh.values()), numbers, [0] * len(fresh))
        return ids, list(rows.values()), bad

    def batches(self, cells: Cells, describe: Callable[[bytes], Row], source: str, received: int) -> list[Batch]:
        """Values that were gathered one by one, as batches; `describe` tells a series from its key."""
        lengths = np.fromiter(map(len, cells.keys), np.int64, len(cells.keys))
        offsets, groups = np.cumsum(lengths) - lengths, np.zeros(len(lengths), np.int64)
        ids, rows, _ = self.identify(b"".join(cells.keys), offsets, lengths, groups, lambda place: describe(cells.keys[place]))
        return metric_batches(source, received, rows, ids, np.array(cells.times, np.int64), np.array(cells.values, np.float64))

    def forget(self, batches: Iterable[Batch]) -> None:
        """Describe the series of these batches again with their next points: they were not kept."""
        self._known.forget(described(batches))


def series_row(name: str, attributes: dict[str, str], kind: str = "unknown", unit: str = "") -> Row:
    """The description of a series."""
    number = series_id(name, attributes)
    return {"series": number, "name": name, "unit": unit, "kind": kind, "entity": entity_of(attributes), "attributes": attributes}


def metric_batches(
    source: str, received: int, rows: Sequence[Row], ids: npt.NDArray[np.uint64], time: Ints, value: npt.NDArray[np.float64]
) -> list[Batch]:
    """The descriptions first, then the points."""
    found = [batch_of("series", source, received, [row | {"seen": received} for row in rows])] if rows else []
    return [*found, points(source, received, ids, time, value)] if len(ids) else found
