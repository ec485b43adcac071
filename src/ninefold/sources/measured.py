"""Metric points of sources that measure a few things at a time: statistics, check results, rows of a query."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ninefold.model.entity import entity_of, series_id
from ninefold.model.signal import Batch, batch_of
from ninefold.sources.series import described, points

_REMEMBERED = 200_000


class Sample(NamedTuple):
    """One measurement; `time` in ns, `kind` and `unit` as in the series schema, `entity` when the attributes do not say it."""

    name: str
    attributes: Mapping[str, str]
    time: int
    value: float
    kind: str = "gauge"
    unit: str = ""
    entity: str = ""


class Measured:
    """Turns samples into points, and describes each series with its first one."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._known: dict[tuple[Any, ...], int] = {}

    def batches(self, samples: Iterable[Sample], received: int) -> list[Batch]:
        """The points of these samples and the series that are new; a value that is not a number (NaN) is left out."""
        rows: list[dict[str, Any]] = []
        series, times, values = [], [], []
        for sample in samples:
            if math.isnan(sample.value):
                continue
            key = (sample.name, *sample.attributes.items())
            number = self._known.get(key)
            if number is None:
                number = series_id(sample.name, sample.attributes)
                rows.append(_row(number, sample, received))
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = number
            series.append(number)
            times.append(sample.time)
            values.append(sample.value)
        found = [batch_of("series", self._source, received, rows)] if rows else []
        if series:
            columns = np.array(series, np.uint64), np.array(times, np.int64), np.array(values, np.float64)
            found.append(points(self._source, received, *columns))
        return found

    def forget(self, batches: Sequence[Batch]) -> None:
        """Describe the series of these batches again: they were not kept."""
        gone = set(described(batches))
        self._known = {key: number for key, number in self._known.items() if number not in gone}


def _row(number: int, sample: Sample, received: int) -> dict[str, Any]:
    return {
        "series": number, "name": sample.name, "unit": sample.unit, "kind": sample.kind, "seen": received,
        "entity": entity_of(sample.attributes) or sample.entity, "attributes": dict(sample.attributes),
    }  # fmt: skip
