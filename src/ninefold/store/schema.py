# ruff: noqa: S608 - all names are ours
"""The tables of the telemetry store, in ClickHouse's words: one per stored signal, with the columns of `model.signal`, and the roll-ups.

Codecs and keys come from measurements on realistic data: plain ZSTD beats Gorilla on Prometheus-like values, times are kept as
differences, days are partitions so that retention drops whole parts. What may arrive twice (series, event, relation,
quarantine) is folded by its key, an event to the reading that was stored last; the session setting ``final = 1`` makes every query see
the folded rows.

Roll-ups are filled by the inserts themselves: ``metric`` fills ``metric_1m``, that fills ``metric_1h``. The token of an insert counts
for them too, so an append that is repeated after a crash completes what is missing of them and doubles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from ninefold.model.signal import SCHEMAS
from ninefold.store.views import VIEWS

TABLES = ("series", "metric", "exemplar", "histogram", "log", "span", "event", "relation", "quarantine")
"""The stored signals, in the order in which one append fills them: what a metric is comes before its points."""
READABLE = (*TABLES, "metric_1m", "metric_1h", *VIEWS)
"""What people may read: the stored signals, the roll-ups and the views."""

RETENTION_DAYS: Mapping[str, int] = {"metric": 30, "log": 14, "span": 7, "event": 400, "metric_1m": 90, "metric_1h": 730}

KEPT: Mapping[str, tuple[str, str]] = {
    "metric": ("metric", "time"), "exemplar": ("metric", "time"), "histogram": ("metric", "time"), "log": ("log", "time"),
    "span": ("span", "time"), "event": ("event", "time"), "relation": ("event", "time"), "quarantine": ("event", "received"),
    "metric_1m": ("metric_1m", "time"), "metric_1h": ("metric_1h", "time"),
}  # fmt: skip
"""Table -> the retention it follows and the column that ages; series are kept as long as the store."""

# Power-loss safe: the journal forgets a batch once the store has it, so inserts and merges must reach the disk before they
# count, and the parts a merge replaces stay until the new part has been on disk for a while.
_DURABLE = (
    "fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480, "
    "non_replicated_deduplication_window = 1000"
)
_TIME = "DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1))"
_WORD = "LowCardinality(String)"
_TEXT = "String CODEC(ZSTD(1))"
_MAP = "Map(LowCardinality(String), String) CODEC(ZSTD(1))"
_TRACE = "INDEX trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1"

_METRIC = f"series UInt64 CODEC(ZSTD(1)), time {_TIME}, value Float64 CODEC(ZSTD(1)), vnode UInt16 ALIAS toUInt16(bitAnd(series, 4095))"
_SERIES = (
    f"vnode UInt16, series UInt64, name {_WORD}, unit {_WORD}, kind {_WORD}, entity {_WORD}, source {_WORD}, attributes {_MAP}, "
    f"seen {_TIME}"
)
_LOG = (
    f"vnode UInt16, time {_TIME}, received {_TIME}, source {_WORD}, entity {_WORD}, severity_number UInt8, severity_text {_WORD}, "
    f"body {_TEXT}, pattern UInt64 CODEC(ZSTD(1)), trace_id {_TEXT}, span_id {_TEXT}, attributes {_MAP}, resource {_MAP}, "
    f"INDEX words body TYPE text(tokenizer = 'splitByNonAlpha'), {_TRACE}"
)
_SPAN = (
    f"vnode UInt16, time {_TIME}, received {_TIME}, source {_WORD}, entity {_WORD}, trace_id {_TEXT}, span_id {_TEXT}, "
    f"parent_span_id {_TEXT}, name {_WORD}, kind {_WORD}, duration Int64 CODEC(ZSTD(1)), status {_WORD}, status_message {_TEXT}, "
    f"attributes {_MAP}, resource {_MAP}, events {_TEXT}, {_TRACE}"
)
_EVENT = (
    f"vnode UInt16, id String, time {_TIME}, received {_TIME}, kind {_WORD}, source {_WORD}, source_id {_TEXT}, entity {_WORD}, "
    f"title {_TEXT}, body {_TEXT}, severity {_WORD}, severity_raw {_WORD}, status {_WORD}, fingerprint {_TEXT}, attributes {_MAP}, "
    f"raw {_TEXT}"
)
_RELATION = (
    "vnode SimpleAggregateFunction(any, UInt16), time SimpleAggregateFunction(max, DateTime64(9, 'UTC')), "
    "first_seen SimpleAggregateFunction(min, DateTime64(9, 'UTC')) DEFAULT time, source SimpleAggregateFunction(anyLast, String), "
    "from_entity String, to_entity String, kind LowCardinality(String)"
)
_EXEMPLAR = (
    f"series UInt64 CODEC(ZSTD(1)), time {_TIME}, value Float64 CODEC(ZSTD(1)), trace_id {_TEXT}, span_id {_TEXT}, attributes {_MAP}, "
    f"{_TRACE}"
)
_BUCKETS = "`positive_index` {0}, `positive_count` {1}, `negative_index` {0}, `negative_count` {1}, `bounds` {1}".format(
    "Array(Int32) CODEC(ZSTD(1))", "Array(Float64) CODEC(ZSTD(1))"
)
_HISTOGRAM = (
    f"series UInt64 CODEC(ZSTD(1)), time {_TIME}, count Float64 CODEC(ZSTD(1)), sum Float64 CODEC(ZSTD(1)), scale Int8, "
    f"zero_threshold Float64 CODEC(ZSTD(1)), zero_count Float64 CODEC(ZSTD(1)), {_BUCKETS}"
)
# The last value and its time, with the extremes, are all that the increase of a counter needs, restarts included: see `points`. Times of a
# millisecond weigh less than those of a nanosecond. A tuple of time and value under `max` would be plainer to read, but the engine does
# not merge a tuple's elements under FINAL.
_ROLL_UP = (
    "series UInt64 CODEC(ZSTD(1)), time DateTime64(0, 'UTC') CODEC(Delta(8), ZSTD(1)), "
    "count SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)), sum SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)), "
    "min SimpleAggregateFunction(min, Float64) CODEC(ZSTD(1)), "
    "max SimpleAggregateFunction(max, Float64) CODEC(ZSTD(1)), "
    "last AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')) CODEC(ZSTD(1)), "
    "last_time SimpleAggregateFunction(max, DateTime64(3, 'UTC')) CODEC(Delta(8), ZSTD(1))"
)
_QUARANTINE = (
    f"id String, received {_TIME}, source {_WORD}, signal {_WORD}, format {_WORD}, reason {_TEXT}, where {_TEXT}, payload {_TEXT}, "
    "replayed DateTime64(9, 'UTC') DEFAULT toDateTime64(0, 9, 'UTC'), state String ALIAS if(replayed = 0, 'waiting', 'replayed')"
)


def _table(name: str, columns: str, engine: str, key: str, partition: str = "", successor_of: str = "") -> str:
    """The statement that makes a table, or the one that takes its place; ``{database}`` and ``{<retention>}`` are still open."""
    daily = partition.startswith("toDate(")
    clauses = [f"CREATE TABLE IF NOT EXISTS {{database}}.{name} ({columns}) ENGINE = {engine}"]
    clauses += [f"PARTITION BY {partition}"] if partition else []
    clauses += [f"ORDER BY {key}"]
    if (successor_of or name) in KEPT:
        retention, column = KEPT[successor_of or name]
        clauses += [f"TTL toDateTime({column}) + toIntervalDay({{{retention}}})"]
    return " ".join(clauses) + f" SETTINGS {_DURABLE}{', ttl_only_drop_parts = 1' if daily else ''}"


_MINUTE = "toDateTime64(toStartOfMinute(m.time), 0, 'UTC')"
_HOUR = "toDateTime64(toStartOfHour(m.time), 0, 'UTC')"
_FROM_METRIC = (
    f"SELECT m.series AS series, {_MINUTE} AS time, count() AS count, sum(m.value) AS sum, min(m.value) AS min, max(m.value) AS max, "
    "argMaxState(m.value, toDateTime64(m.time, 3, 'UTC')) AS last, toDateTime64(max(m.time), 3, 'UTC') AS last_time "
    f"FROM {{database}}.metric AS m WHERE NOT isNaN(m.value) GROUP BY m.series, {_MINUTE}"
)
_FROM_MINUTES = (
    f"SELECT m.series AS series, {_HOUR} AS time, sum(m.count) AS count, sum(m.sum) AS sum, min(m.min) AS min, max(m.max) AS max, "
    "argMaxMergeState(m.last) AS last, max(m.last_time) AS last_time "
    f"FROM {{database}}.metric_1m AS m GROUP BY m.series, {_HOUR}"
)
# In an order that may be repeated when the program ended in its midst: what a half-done run filled is emptied first, and the points that
# are already there are rolled up before new ones flow by themselves.
_ROLL_UPS = (
    _table("metric_1m", _ROLL_UP, "AggregatingMergeTree", "(series, time)", "toMonday(time)"),
    _table("metric_1h", _ROLL_UP, "AggregatingMergeTree", "(series, time)", "toYYYYMM(time)"),
    "DROP TABLE IF EXISTS {database}.fill_metric_1m",
    "DROP TABLE IF EXISTS {database}.fill_metric_1h",
    "TRUNCATE TABLE {database}.metric_1m",
    "TRUNCATE TABLE {database}.metric_1h",
    f"CREATE MATERIALIZED VIEW {{database}}.fill_metric_1h TO {{database}}.metric_1h AS {_FROM_MINUTES}",
    f"INSERT INTO {{database}}.metric_1m {_FROM_METRIC} "
    "SETTINGS insert_deduplicate = 0, optimize_aggregation_in_order = 1, max_execution_time = 0, max_partitions_per_insert_block = 0",
    f"CREATE MATERIALIZED VIEW {{database}}.fill_metric_1m TO {{database}}.metric_1m AS {_FROM_METRIC}",
)
# An event may be read again by another mapping, which may move its time but not its receipt: by the month of receipt all its readings share
# a partition, and a window of time cannot hide one of them. The reading that was inserted last counts. What version 2 holds twice is told
# apart by the version of its mapping. Every statement may be repeated: `event` is whole before and after the exchange. A synchronous drop
# would wait for minutes in the embedded engine.
_EVENT_NAMES = ", ".join(SCHEMAS["event"].names)
_EVENTS_BY_RECEIPT = (
    "DROP TABLE IF EXISTS {database}.event_next",
    _table(
        "event_next", f"{_EVENT}, revision UInt64 MATERIALIZED toUnixTimestamp64Nano(now64(9)) CODEC(Delta(8), ZSTD(1))",
        "ReplacingMergeTree(revision)", "id", "toYYYYMM(received)", successor_of="event",
    ),
    f"INSERT INTO {{database}}.event_next ({_EVENT_NAMES}) SELECT {_EVENT_NAMES} FROM {{database}}.event ORDER BY id, received DESC, "
    "toUInt64OrZero(extract(attributes['ninefold.mapping'], ' v([0-9]+)$')) DESC LIMIT 1 BY id "
    "SETTINGS final = 0, insert_deduplicate = 0, max_execution_time = 0, max_partitions_per_insert_block = 0",
    "EXCHANGE TABLES {database}.event AND {database}.event_next",
    "DROP TABLE {database}.event_next",
)  # fmt: skip

UPGRADES: tuple[tuple[str, ...], ...] = (
    (
        _table("series", _SERIES, "ReplacingMergeTree(seen)", "series"),
        _table("metric", _METRIC, "MergeTree", "(series, time)", "toDate(time)"),
        _table("log", _LOG, "MergeTree", "(entity, time)", "toDate(time)"),
        _table("span", _SPAN, "MergeTree", "(entity, time)", "toDate(time)"),
        _table("event", _EVENT, "ReplacingMergeTree(received)", "id", "toYYYYMM(time)"),
        _table("relation", _RELATION, "AggregatingMergeTree", "(from_entity, to_entity, kind)"),
        _table("quarantine", _QUARANTINE, "ReplacingMergeTree(replayed)", "id", "toYYYYMM(received)"),
    ),
    (
        _table("exemplar", _EXEMPLAR, "MergeTree", "(series, time)", "toDate(time)"),
        _table("histogram", _HISTOGRAM, "MergeTree", "(series, time)", "toDate(time)"),
        *_ROLL_UPS,
        *(f"CREATE OR REPLACE VIEW {{database}}.{name} AS {select}" for name, select in VIEWS.items()),
    ),
    _EVENTS_BY_RECEIPT,
)
"""What each version of the schema adds to the one before: version n is ``UPGRADES[n - 1]``. One that was released is never edited."""


def statements(version: int, database: str, ttl_days: Mapping[str, int]) -> list[str]:
    """The statements that lead from `version - 1` to `version`; `ttl_days` as `retention.Retention.ttl_days` gives them."""
    return [text.format(database=database, **ttl_days) for text in UPGRADES[version - 1]]
