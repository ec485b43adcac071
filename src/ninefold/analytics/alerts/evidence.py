"""Evidence that an entity behaves unlike itself: metrics, spans and log patterns of an incident's minutes against quiet minutes.

Every kind of evidence follows one scheme. A feature (a metric, an edge, the calls or lines per invocation of an operation) has
a value in each bucket of time; buckets from 0 on are the incident's, negative ones are quiet. Its deviation in a bucket is
robust: distance from the quiet median over a spread that cannot fall below a floor. The logarithm tames single spikes, an entity
gets the mean of its two worst features, and what the entity shows in quiet buckets anyway is subtracted.

Sources: robust deviation with floors after BARO (Pham et al., FSE 2024); logs and calls per invocation against several normal
windows after Nezha (Yu et al., FSE 2023); network time as client minus server duration is this program's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ninefold.analytics.alerts.deviation import (
    F64,
    I64,
    Bool,
    calibrated,
    codes,
    companions,
    deviation,
    first_bucket,
    grid,
    lasting,
    median,
    pack,
    squash,
    surprise,
    worst,
)  # fmt: skip
from ninefold.analytics.alerts.invocations import Evidence, Invocations, Line
from ninefold.analytics.findings import quantity
from ninefold.analytics.metrics.change_points import onset

LOGS = pa.schema(
    {"entity": pa.string(), "span": pa.uint64(), "pattern": pa.uint64(), "bucket": pa.int32(), "count": pa.int64(), "severity": pa.uint8()}
)
"""Lines counted by entity, span (0: none), pattern and bucket; `severity` is the worst severity_number."""
METRICS = pa.schema(
    {"series": pa.uint64(), "entity": pa.string(), "name": pa.string(), "unit": pa.string(), "bucket": pa.int32(), "value": pa.float64()}
)
"""One value a series and bucket; of counters, the increase."""

_ERROR, _SHIFTED, _NEWS = 17, 0.9, 0.1
_FLOORS = (
    (("%",), 2.0), (("s",), 0.01), (("ms",), 10.0), (("m{cpu}",), 20.0), (("{cpu}",), 0.02), (("1",), 0.02),
)  # fmt: skip
"""Smallest spread of a metric by its unit; else a tenth of its usual value."""
_SHARE = 0.5
"""That of a percentage that is no resource, in points."""
FELT = ("s", "ms", "us", "ns", "%", "1")
"""Units of what callers feel."""
_CALLS = ("{request}", "{operation}", "{call}")
_SYMPTOM, _VOLUME = 0.5, 0.15
_RESOURCES = ("cpu", "mem", "disk", "fs", "heap", "gc", "queue", "connection", "thread", "fd")


def metric_evidence(table: pa.Table) -> Evidence:
    """Metrics far from their usual values, and more so than the same metric of most other entities in these minutes.

    A spike that many entities show, or that this series shows in quiet minutes too, says little about a cause. Resources
    (CPU, memory, disk, ...) count fully; what callers feel (latency, success) half, and less at an entity that few calls go
    through; how much passes (bytes, requests) hardly.
    """
    if not table.num_rows:
        return Evidence()
    buckets, at = np.unique(table.column("bucket").to_numpy(), return_inverse=True)
    quiet = buckets < 0
    if quiet.sum() < 3 or quiet.all():
        return Evidence()
    series, first, row = np.unique(table.column("series").to_numpy(), return_index=True, return_inverse=True)
    values = np.full((len(series), len(buckets)), np.nan)
    values[row, at] = table.column("value").to_numpy()
    entity, entities = codes(table.column("entity").take(pa.array(first)))
    name, names = codes(table.column("name").take(pa.array(first)))
    units = table.column("unit").take(pa.array(first)).to_pylist()
    resource = np.array([is_resource(text) for text in names])[name]
    z, base = deviation(values, quiet, 0.1, _floors(units, resource, values[:, quiet]), np.array([unit == "%" for unit in units]))
    scores = squash(z)
    gain = np.maximum(lasting(scores, buckets) - np.quantile(scores[:, quiet], 0.9, axis=1), 0.0)
    gain = _specific(gain, name, len(names))
    felt = np.array([unit in FELT for unit in units])
    gain *= np.where(resource, 1.0, np.where(felt, _SYMPTOM, _VOLUME) * _traffic(base[:, 0], units, entity, len(entities))[entity])
    total = worst(entity, gain[:, None], len(entities))[:, 0]
    found = Evidence({entities[e]: float(total[e]) for e in range(len(entities))})
    peak = np.where(np.isfinite(values[:, ~quiet]), np.abs(z[:, ~quiet]), -1).argmax(axis=1)
    for i in np.argsort(-gain, kind="stable")[:400]:
        if gain[i] <= 0:
            break
        value = values[i, ~quiet][peak[i]]
        text = f"{names[name[i]]} is {quantity(value, units[i])}, usually {quantity(base[i, 0], units[i])}"
        line = Line(float(gain[i]), text, int(series[i]), 0, _since(values[i], scores[i], buckets))
        found.lines.setdefault(entities[entity[i]], []).append(line)
    return found


def _floors(units: Sequence[str], resource: Bool, usual: F64) -> F64:
    """The smallest spread of each series by its unit; of counts what chance alone makes of them (Poisson)."""
    fixed = [next((floor for some, floor in _FLOORS if unit in some), 1e-9) for unit in units]
    fixed = [_SHARE if unit == "%" and not used else floor for unit, used, floor in zip(units, resource, fixed, strict=True)]
    counted = np.array([unit.startswith("{") and unit != "{cpu}" for unit in units])
    floors: F64 = np.maximum(np.array(fixed)[:, None], counted[:, None] * (1 + np.sqrt(np.abs(median(usual)))))
    return floors


def _traffic(base: F64, units: Sequence[str], entity: I64, count: int) -> F64:
    """By entity the fourth root of its share of the busiest one's calls, 1 where none are counted: many calls explain more."""
    calls = np.array([unit.startswith(_CALLS) for unit in units])
    usual = np.full(count, -1.0)
    np.maximum.at(usual, entity[calls], base[calls])
    top = max(float(usual.max(initial=0.0)), 1e-9)
    share: F64 = np.where(usual < 0, 1.0, np.maximum(usual / top, 1e-3) ** 0.25)
    return share


def _since(values: F64, scores: F64, buckets: I64) -> int:
    """The incident bucket in which a metric's lasting shift began; that in which it first deviates when no shift is sure."""
    said = onset(values, int((buckets < 0).sum()))
    return int(buckets[said.place]) if said is not None and said.confidence > _SHIFTED else first_bucket(scores, buckets)


def is_resource(name: str) -> bool:
    """Whether a metric of this name tells of something that is used up, rather than of how it feels to callers."""
    return any(word in name.lower() for word in _RESOURCES)


def _specific(gain: F64, name: I64, count: int) -> F64:
    """Of each metric, what exceeds the upper quartile of the other series with this name."""
    out = gain.copy()
    for n in range(count):
        rows = np.flatnonzero(name == n)
        if len(rows) < 2:
            continue
        ordered = np.sort(gain[rows])
        place = min(len(rows) - 1, int(np.ceil(0.75 * (len(rows) - 1))))
        others = np.where(gain[rows] >= ordered[place], ordered[place - 1], ordered[place])
        out[rows] = np.maximum(gain[rows] - others, 0.0)
    return out


@dataclass(slots=True)
class Surge:
    """A log pattern in the incident: how often it was written and how often that many invocations usually write it."""

    pattern: int
    entity: str
    count: float
    usual: float
    severity: int
    score: float


def log_evidence(logs: pa.Table, invocations: Invocations, texts: dict[int, str]) -> tuple[dict[str, Evidence], list[Surge]]:
    """New or surging error patterns, lines that are no longer written, and other surges, each per invocation of the operation
    that writes them; without spans, per bucket. `texts` are the patterns' templates.

    Returns:
        Evidence by name (errors, missing, more) and the patterns that changed most.
    """
    empty = {name: Evidence() for name in ("errors", "missing", "more")}
    if not logs.num_rows:
        return empty, []
    own_buckets = logs.column("bucket").to_numpy()
    buckets = np.union1d(invocations.buckets, own_buckets)
    quiet = buckets < 0
    if quiet.all() or not quiet.any():
        return empty, []
    entity, entities = codes(logs.column("entity"))
    span = invocations.find(logs.column("span").to_numpy())
    known = np.array([invocations.entities.index(e) if e in invocations.entities else -1 for e in entities], np.int64)
    home = known[entity]
    inside = (span >= 0) & (home >= 0)
    inside[inside] &= invocations.entity[span[inside]] == home[inside]
    operation = np.where(inside, invocations.operation[np.maximum(span, 0)] if len(invocations.operation) else -1, -1)
    pattern, pattern_code = np.unique(logs.column("pattern").to_numpy(), return_inverse=True)
    keys, first = pack(entity, operation + 1, pattern_code)
    at = np.searchsorted(buckets, own_buckets)
    shape = (len(first), len(buckets))
    counts = grid(keys, at, shape, logs.column("count").to_numpy())
    exposure = _exposure(invocations, buckets, operation[first], home[first])
    exposure = companions(counts, exposure, pack(entity[first], operation[first] + 1)[0], quiet)
    z, expected = surprise(counts, exposure, quiet)
    severity = np.zeros(len(first))
    np.maximum.at(severity, keys, logs.column("severity").to_numpy())
    bad = (severity >= _ERROR)[:, None]
    owner = entity[first]
    up = np.maximum(z, 0)
    kinds = {"errors": squash(np.where(bad, up, 0)), "missing": squash(np.minimum(z, 0)), "more": squash(np.where(bad, 0, up))}
    surges: list[Surge] = []
    for name, scores in kinds.items():
        loud = lasting(scores, buckets)
        total = calibrated(worst(owner, scores, len(entities), 1 if name == "errors" else 2), buckets)
        if name == "errors":  # a line that was hardly ever written before is news whatever else the entity complains of
            news = np.where((scores[:, quiet] > 0).mean(axis=1) < _NEWS, loud, 0.0)
            total = np.maximum(total, worst(owner, news[:, None], len(entities), 1)[:, 0])
        empty[name].scores = {entities[e]: float(total[e]) for e in np.flatnonzero(total > 0)}
        for i in np.argsort(-loud, kind="stable")[:100]:
            if loud[i] <= 0:
                break
            number, usual = counts[i, ~quiet].sum(), expected[i, ~quiet].sum()
            text = texts.get(int(pattern[pattern_code[first[i]]]), "")[:160]
            words = f"{'error ' if bad[i, 0] else ''}line written {number:.0f} times, usually {usual:.0f}: {text}"
            line = Line(float(loud[i]), words, 0, int(pattern[pattern_code[first[i]]]), first_bucket(scores[i], buckets))
            empty[name].lines.setdefault(entities[owner[i]], []).append(line)
            surges.append(Surge(line.pattern, entities[owner[i]], float(number), float(usual), int(severity[i]), float(loud[i])))
    surges.sort(key=lambda surge: (surge.severity < _ERROR, -surge.score))
    return empty, surges


def _exposure(invocations: Invocations, buckets: I64, operation: I64, home: I64) -> F64:
    """Invocations behind each log feature, by bucket: of its operation, else of its entity, else one a bucket."""
    out = np.ones((len(operation), len(buckets)))
    if not len(invocations.buckets):
        return out
    place = np.searchsorted(buckets, invocations.buckets)
    of_entity = np.zeros((len(invocations.entities), invocations.invoked.shape[1]))
    np.add.at(of_entity, invocations.operation_entity, invocations.invoked)
    traced = operation >= 0
    wide = np.zeros((len(operation), len(buckets)))
    wide[np.ix_(traced, place)] = invocations.invoked[operation[traced]]
    whole = ~traced & (home >= 0)
    wide[np.ix_(whole, place)] = of_entity[home[whole]]
    return np.where((traced | whole)[:, None], wide, out)
