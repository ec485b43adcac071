"""What a series is, beside its numbers, and the words for what is found in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ninefold.analytics.findings import quantity
from ninefold.analytics.metrics import cells as c
from ninefold.ground.clock import iso

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

_KINDS = {"delta": c.DELTA}
_COUNTER_ENDS = ("_total", "_count", "_sum", "_bucket")
_FLOORS = {"%": 2.0, "1": 0.02, "ms": 2.0, "s": 0.002, "By": 65536.0, "By/s": 1024.0}
"""The smallest deviation that matters, by unit."""
_HIGH = 10.0
_NAMES = {
    "ninefold.span.duration.p95": "latency p95", "ninefold.span.duration.mean": "mean latency", "ninefold.span.gap.p50": "time in transit",
    "ninefold.span.calls": "calls per minute", "ninefold.span.errors": "errors per minute",
    "ninefold.log.records": "log records per minute",
}  # fmt: skip
_OF_THE_ENTITY = ("service.", "host.", "k8s.", "container.", "deployment.", "ninefold.entity", "telemetry.")
_LABELS_OF_THE_ENTITY = frozenset(
    ("job", "instance", "pod", "namespace", "service", "host", "node", "app", "cluster", "env", "environment")
)


class About(NamedTuple):
    """What is known of a series beside its numbers; `label` is its name for people."""

    metric: str
    label: str
    unit: str
    kind: str
    entity: str
    source: str


def rate(times: I64, values: F64) -> F64:
    """The rate a second of a cumulative counter at each point; a fall is a restart from 0; NaN at the first point."""
    rates = np.full(len(values), np.nan)
    steps = np.diff(values)
    rates[1:] = np.where(steps >= 0, steps, values[1:]) / (np.diff(times) * 1e-9)
    return rates


def severity(score: float, often: int = 0) -> str:
    """The severity word of a score (-log10 of a probability); `often` alarms lately that were no milder take it down."""
    if often:
        return "info"
    return "high" if score >= _HIGH else "warning"


def describe(about: About, value: F64, reason: int, since: int, *, firing: bool, still: bool = False) -> str:
    """One sentence about a finding, e.g. ``latency p95 of ts-basic-service is 3.1x its usual 120 ms``.

    `still`: a flat line that is over has lasted so long that it is usual now.
    """
    entity = about.entity.partition(":")[2] or about.entity
    what = f"{about.label} of {entity}" if entity else about.label
    now, usual, lower, upper = (float(number) for number in value[:4])
    unit = unit_of(about)
    if reason == c.MISSING:
        return f"{what} is not reported any more" if firing else f"{what} is reported again"
    if reason == c.FLAT and still and not firing:
        return f"{what} has stood at {quantity(now, unit)} for so long that this is usual now"
    if reason == c.FLAT:
        return f"{what} has not moved from {quantity(now, unit)} since {iso(since)[11:16]}" if firing else f"{what} moves again"
    if not firing:
        return f"{what} is back at {quantity(now, unit)}"
    if reason == c.VARIANCE:
        return f"{what} varies more than usual, now {quantity(now, unit)}, usually {quantity(lower, unit)} to {quantity(upper, unit)}"
    if reason == c.TREND:
        way = "climbing" if now >= usual else "falling"
        return f"{what} has been {way} since {iso(since)[11:16]}, now {quantity(now, unit)}, usually {quantity(usual, unit)}"
    if reason == c.SEASON:
        return f"{what} does not follow its usual course any more: {quantity(now, unit)}, usually {quantity(usual, unit)} at this time"
    if usual > 0 and now >= 1.5 * usual and now < 1000 * usual:
        return f"{what} is {now / usual:.1f}x its usual {quantity(usual, unit)}"
    if usual > 0 and 0 <= now < usual:
        return f"{what} fell to {quantity(now, unit)}, usually {quantity(usual, unit)}"
    return f"{what} is {quantity(now, unit)}, usually {quantity(lower, unit)} to {quantity(upper, unit)}"


def deviating(about: About, value: F64) -> str:
    """How far a value is from what was expected, in words: ``+290 ms, 3.4 times the usual margin``; empty where neither is known."""
    now, usual, lower, upper = (float(number) for number in value[:4])
    margin = upper - usual if now >= usual else usual - lower
    if not margin > 0:
        return ""
    sign = "+" if now >= usual else "-"
    return f"{sign}{quantity(abs(now - usual), unit_of(about))}, {abs(now - usual) / margin:.2g} times the usual margin"


def is_counter(kind: str, name: str) -> bool:
    """Whether a metric only grows, so that its `rate` is what is judged; an unknown kind is decided by the name's ending."""
    return kind == "counter" or (kind == "unknown" and name.endswith(_COUNTER_ENDS))


def kind_of(about: About) -> int:
    """What the fold makes of a series. Buckets of a histogram are parts: its count and its sum are judged, not each of them."""
    if about.metric.endswith("_bucket"):
        return c.PART
    return c.COUNTER if is_counter(about.kind, about.metric) else _KINDS.get(about.kind, c.GAUGE)


def unit_of(about: About) -> str:
    """The unit of what is judged: of a counter that of its rate."""
    if kind_of(about) != c.COUNTER:
        return about.unit
    return "/s" if about.unit in ("", "1") or about.unit.startswith("{") else f"{about.unit}/s"


def prepare(cells: c.F32, about: About) -> None:
    """Set the cells of a series at its birth."""
    cells[c.KIND], cells[c.FLOOR] = kind_of(about), _FLOORS.get(unit_of(about), 0.0)


def label_of(name: str, attributes: Mapping[str, str], entity: str) -> str:
    """The series' name for people: its metric, with up to two attributes that are not the entity's."""
    said = [
        value for key, value in sorted(attributes.items())
        if not key.startswith(_OF_THE_ENTITY) and key not in _LABELS_OF_THE_ENTITY and value and value not in entity
    ]  # fmt: skip
    label = _NAMES.get(name, name)
    return f"{label} ({', '.join(said[:2])})" if said else label
