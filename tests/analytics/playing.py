"""Series played into the baseline, a point a batch, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ninefold.analytics.metrics.baseline import Baseline
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import METRIC, Batch, batch_of

START = 1_700_000_000 * SECOND // MINUTE * MINUTE


def described(
    series: int, name: str = "latency", unit: str = "ms", kind: str = "gauge", entity: str = "service:shop", **more: Any
) -> Batch:
    row = {"series": series, "name": name, "unit": unit, "kind": kind, "entity": entity, "source": "test", **more}
    return batch_of("series", "test", START, [row])


def metric(series: Sequence[int], times: Sequence[int], values: Sequence[float], received: int = 0) -> Batch:
    columns = [pa.array(series, pa.uint64()), pa.array(times, METRIC.field("time").type), pa.array(values, pa.float64())]
    return Batch("metric", "test", received or max(times), pa.RecordBatch.from_arrays(columns, schema=METRIC))


def events(outputs: Sequence[Batch]) -> list[dict[str, Any]]:
    return [row for output in outputs for row in output.rows.to_pylist(maps_as_pydicts="lossy")]


def stream(
    values: Sequence[float], step: int = MINUTE, technique: Baseline | None = None, series: int = 1, **about: Any
) -> list[dict[str, Any]]:
    """The events of one series, a point a batch."""
    technique = Baseline() if technique is None else technique
    found = technique.process(described(series, **about))
    for i, value in enumerate(values):
        found += technique.process(metric([series], [START + i * step], [value]))
    return events(found)


def noise(size: int, level: float = 120.0, width: float = 6.0, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(level, width, size).tolist()


def reasons(found: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["status"], row["attributes"]["reason"]) for row in found]
