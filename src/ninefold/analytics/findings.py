"""What techniques put out: anomaly events with deterministic identity, series with their points, and words for numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ninefold.ground.clock import iso
from ninefold.model.entity import fingerprint, series_id
from ninefold.model.signal import METRIC, Batch, event_id


def anomaly(
    technique: str, identity: Mapping[str, str], *, entity: str, time: int, since: int, firing: bool, title: str, body: str = "",
    severity: str = "warning", attributes: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """An event row (for `batch_of`) of kind anomaly.

    `identity` is what makes two findings the same alert; with `since` (ns, the start of the episode) and the status it makes
    the id, so a second run over the same data gives the same event.
    """
    status = "firing" if firing else "resolved"
    mark = fingerprint({"technique": technique, **identity})
    return {
        "id": event_id(technique, mark, str(since), status), "time": time, "kind": "anomaly", "source_id": f"{mark}-{since}",
        "entity": entity, "title": title, "body": body, "severity": severity, "severity_raw": severity, "status": status,
        "fingerprint": mark, "attributes": {"technique": technique, **identity, **attributes, "since": iso(since)},
    }  # fmt: skip


def number(value: float) -> str:
    """A number for people: three significant digits, no exponent below a million: ``0.00123``, ``12.3``, ``1,230``."""
    if not math.isfinite(value):
        return "nothing"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.2g}"


_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "ms": ((1e3, "s"), (1.0, "ms"), (1e-3, "µs")),
    "By": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "By/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")),
}


def figures(value: float, expected: float, spreads: float, unit: str) -> dict[str, str]:
    """A value with its band as attributes of a finding: three spreads around what was expected, of which it is `spreads` away."""
    margin = 3.0 * abs((value - expected) / spreads) if spreads else 0.0
    numbers = {"value": value, "expected": expected, "lower": expected - margin, "upper": expected + margin}
    return {name: f"{number:.6g}" for name, number in numbers.items()} | {"unit": unit}


def quantity(value: float, unit: str) -> str:
    """A value with its UCUM unit for people: ``120 ms``, ``3.2 GB``, ``12 %``; annotations such as ``{call}`` are left out."""
    for factor, name in _SCALES.get(unit, ()):
        if abs(value) >= factor:
            return f"{number(value / factor)} {name}"
    if unit in ("", "1") or unit.startswith("{"):
        return number(value)
    return f"{number(value)} {unit}"


def points(source: str, received: int, series: np.ndarray[Any, Any], time: int, values: np.ndarray[Any, Any]) -> Batch:
    """A metric batch of one value per series, all at one time (ns)."""
    times = pa.array(np.full(len(series), time, np.int64), METRIC.field("time").type)
    columns = [pa.array(series, pa.uint64()), times, pa.array(values, pa.float64())]
    return Batch("metric", source, received, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def described(name: str, unit: str, kind: str, entity: str, attributes: Mapping[str, str], seen: int) -> dict[str, Any]:
    """A series row (for `batch_of`); the entity is part of the identity, as attribute ``ninefold.entity``."""
    attributes = {"ninefold.entity": entity, **attributes}
    return {
        "series": series_id(name, attributes), "name": name, "unit": unit, "kind": kind, "entity": entity,
        "attributes": attributes, "seen": seen,
    }  # fmt: skip
