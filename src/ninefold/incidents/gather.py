"""The telemetry around one incident, out of the store in a few aggregated queries: its own minutes, and quiet ones before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.analytics.alerts.evidence import LOGS, METRICS
from ninefold.analytics.alerts.invocations import SPANS
from ninefold.analytics.logs.templates import Miner
from ninefold.ground.clock import SECOND

Query = Callable[[str, Mapping[str, Any] | None], pa.Table]

STEP_NS = 60 * SECOND
GUARD_NS = 60 * SECOND
"""Quiet buckets end this long before the incident's begin."""
BACK_NS = 3 * 3600 * SECOND
"""How far back quiet buckets are looked for."""
_QUIET, _QUIET_METRIC = 30, 40
_SPANS, _LINES, _PATTERNS, _SERIES = 300_000, 400_000, 3000, 20_000

_BUCKET = "toInt32(floor((toUnixTimestamp64Nano(time) - {start:Int64}) / {step:Int64}))"
_RANGE = "time >= fromUnixTimestamp64Nano({oldest:Int64}) AND time < fromUnixTimestamp64Nano({end:Int64})"
_CHOSEN = "AND bucket IN {chosen:Array(Int32)}"
_SIZES = "SELECT <bucket> AS bucket, count() AS rows FROM <table> WHERE <range> <inside> GROUP BY bucket"
_SPAN = """
SELECT cityHash64(trace_id, span_id) AS id, if(parent_span_id = '', 0, cityHash64(trace_id, parent_span_id)) AS parent,
  toString(entity) AS entity, toString(name) AS name, <bucket> AS bucket, duration, status = 'error' AS error
FROM span WHERE <range> <inside> <chosen> AND cityHash64(trace_id) % {sample:UInt64} = 0"""
_BODY = """
SELECT pattern, min(body) AS body, count() AS lines FROM log WHERE <range> <inside> AND <bucket> IN {chosen:Array(Int32)}
GROUP BY pattern ORDER BY lines DESC, pattern LIMIT {limit:UInt32}"""
_LOG = """
SELECT toString(entity) AS entity, if(span_id = '', 0, cityHash64(trace_id, span_id)) AS span, pattern, <bucket> AS bucket,
  toInt64(count()) AS count, max(severity_number) AS severity
FROM log WHERE <range> <inside> <chosen> AND cityHash64(if(trace_id = '', toString(time), trace_id)) % {sample:UInt64} = 0
GROUP BY entity, span, pattern, bucket"""
_SERIES_LIKE = "NOT startsWith(name, 'ninefold.span.') AND NOT endsWith(name, '_bucket') AND entity != '' <inside>"
"""Figures that were themselves made from spans would tell the same twice."""
_ABOUT = """
SELECT series, toString(name) AS name, toString(unit) AS unit, toString(kind) AS kind, toString(entity) AS entity
FROM series WHERE <like> ORDER BY series LIMIT {limit:UInt32}"""
_POINT = """
SELECT series, <bucket> AS bucket, avg(value) AS mean, argMax(value, time) AS last FROM metric
WHERE series IN (SELECT series FROM series WHERE <like> ORDER BY series LIMIT {limit:UInt32}) AND <range> <chosen>
GROUP BY series, bucket ORDER BY series, bucket"""


class Gather:
    """The queries of one incident.

    Args:
        query: the store's.
        start, end: the incident's minutes in ns; bucket 0 begins at `start`.
        busy: windows in ns that are not quiet, because other incidents were going on.
        entities: whose telemetry is looked at; all when empty.
        homes: the service of each pod, whose rows are given to it.
    """

    def __init__(
        self, query: Query, start: int, end: int, busy: Sequence[tuple[int, int]], entities: Sequence[str], homes: Mapping[str, str]
    ) -> None:
        self._query, self._start, self._end, self._busy, self._homes = query, start, end, busy, homes
        self._inside = "AND entity IN {entities:Array(String)}" if entities else ""
        self._values: dict[str, Any] = {"start": start, "step": STEP_NS, "oldest": start - BACK_NS, "end": end, "entities": list(entities)}
        self._sample = 1
        self.series: dict[int, tuple[str, str, str]] = {}
        """Series that were looked at: name, unit, entity."""

    def spans(self) -> pa.Table:
        """The spans of the incident's and of quiet buckets, whole traces, thinned out when there are too many."""
        sizes = self._sizes("span")
        chosen = self._choose(sizes)
        self._sample = max(1, -(-sum(sizes[bucket] for bucket in chosen) // _SPANS))
        if not chosen:
            return SPANS.empty_table()
        spans = self._ask(_SPAN, chosen=chosen, sample=self._sample).select(SPANS.names).cast(SPANS)
        return self._home(_sorted(spans, "id", "parent", "bucket", "entity", "name", "duration"))

    def logs(self) -> tuple[pa.Table, dict[int, str]]:
        """Lines by entity, span and template, and the templates' texts. Patterns that are one template are counted together."""
        sizes = self._sizes("log")
        chosen = self._choose(sizes)
        if not chosen:
            return LOGS.empty_table(), {}
        sample = max(self._sample, -(-sum(sizes[bucket] for bucket in chosen) // _LINES))
        same, texts = _templates(self._ask(_BODY, chosen=chosen, limit=_PATTERNS))
        table = _sorted(self._ask(_LOG, chosen=chosen, sample=sample).select(LOGS.names).cast(LOGS), "span", "pattern", "bucket", "entity")
        known = pa.array([same.get(number, number) for number in table.column("pattern").to_pylist()], pa.uint64())
        return self._home(table.set_column(LOGS.get_field_index("pattern"), LOGS.field("pattern"), known)), texts

    def metrics(self) -> pa.Table:
        """Bucket means of gauges, increases of counters."""
        about = self._ask(_ABOUT, limit=_SERIES)
        if not about.num_rows:
            return METRICS.empty_table()
        columns = [about.column(name).to_pylist() for name in ("series", "name", "unit", "entity")]
        self.series = {number: (name, unit, entity) for number, name, unit, entity in zip(*columns, strict=True)}
        quiet = [bucket for bucket in range(-_QUIET_METRIC, 0) if not self._is_busy(bucket)]
        before = quiet if len(quiet) >= 5 else list(range(-_QUIET_METRIC, -1))
        chosen = [*before, *range((self._end - self._start) // STEP_NS + 1)]
        points = self._ask(_POINT, limit=_SERIES, oldest=self._start - (_QUIET_METRIC + 1) * STEP_NS, chosen=chosen)
        return self._home(_measured(points, about))

    def _sizes(self, table: str) -> dict[int, int]:
        found = self._ask(_SIZES.replace("<table>", table))
        return dict(zip(found.column("bucket").to_pylist(), found.column("rows").to_pylist(), strict=True))

    def _choose(self, sizes: Mapping[int, int]) -> list[int]:
        """The incident's buckets and the latest quiet ones that have rows; busy ones only when hardly any other is left."""
        before = sorted((bucket for bucket in sizes if bucket * STEP_NS < -GUARD_NS), reverse=True)
        quiet = [bucket for bucket in before if not self._is_busy(bucket)]
        return [*(quiet if len(quiet) >= 2 else before)[:_QUIET], *(bucket for bucket in sizes if bucket >= 0)]

    def _is_busy(self, bucket: int) -> bool:
        begin = self._start + bucket * STEP_NS
        end = begin + STEP_NS
        return end > self._start - GUARD_NS or any(begin < last and end > first for first, last in self._busy)

    def _ask(self, sql: str, **values: Any) -> pa.Table:
        for mark, text in (
            ("<like>", _SERIES_LIKE),
            ("<range>", _RANGE),
            ("<inside>", self._inside),
            ("<chosen>", _CHOSEN),
            ("<bucket>", _BUCKET),
        ):
            sql = sql.replace(mark, text)
        return self._query(sql, {**self._values, **values})

    def _home(self, table: pa.Table) -> pa.Table:
        """The table with pods' rows given to their services."""
        if not self._homes or not table.num_rows:
            return table
        coded = table.column("entity").combine_chunks().dictionary_encode()
        names = pa.array([self._homes.get(name, name) for name in coded.dictionary.to_pylist()], pa.string())
        place = table.schema.get_field_index("entity")
        return table.set_column(place, table.schema.field(place), names.take(coded.indices))


def _sorted(table: pa.Table, *keys: str) -> pa.Table:
    """The rows in an order of their own: the store gives them in whichever order its threads found them."""
    return table.sort_by([(key, "ascending") for key in keys])


def _templates(bodies: pa.Table) -> tuple[dict[int, int], dict[int, str]]:
    """Pattern keys that are one template, under the key of the first; and the texts. A key is finer than a template."""
    miner, keys, ids = Miner(), bodies.column("pattern").to_pylist(), []
    for body in bodies.column("body").to_pylist():
        ids.append(miner.add(body))
    first: dict[int, int] = {}
    same, texts = {}, {}
    for key, number in zip(keys, ids, strict=True):
        root = miner.find(number)
        same[key] = first.setdefault(root, key)
        texts[same[key]] = miner.text(root)
    return same, texts


def _measured(points: pa.Table, about: pa.Table) -> pa.Table:
    """Points (by series and bucket) with what their series are; `about` is sorted by series."""
    series, bucket = points.column("series").to_numpy(), points.column("bucket").to_numpy().astype(np.int64)
    numbers = about.column("series").to_numpy()
    place = np.minimum(np.searchsorted(numbers, series), len(numbers) - 1)
    counter = pc.equal(about.column("kind"), "counter").to_numpy()[place]
    last = points.column("last").to_numpy()
    step, rise = np.diff(bucket, prepend=bucket[:1]), np.diff(last, prepend=last[:1])
    follows = np.diff(place, prepend=-1) == 0
    with np.errstate(all="ignore"):
        rate = np.where(follows & (step > 0) & (rise >= 0), rise / np.maximum(step, 1), np.nan)
    value = np.where(counter, rate, points.column("mean").to_numpy())
    rows = np.flatnonzero(np.isfinite(value) & (numbers[place] == series))
    texts = [about.column(name).take(pa.array(place[rows])) for name in ("entity", "name", "unit")]
    return pa.table([pa.array(series[rows]), *texts, pa.array(bucket[rows], pa.int32()), pa.array(value[rows])], schema=METRICS)
