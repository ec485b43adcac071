"""The tables of the telemetry store, in ClickHouse's words: one per stored signal, with the columns of `model.signal`.

Codecs and keys come from measurements on realistic data: plain ZSTD beats Gorilla on Prometheus-like values, times are kept as
differences, days are partitions so that retention drops whole parts. What may arrive twice (series, event, relation,
quarantine) is folded by its key; the session setting ``final = 1`` makes every query see the folded rows.
"""

from __future__ import annotations

from collections.abc import Mapping

TABLES = ("series", "metric", "log", "span", "event", "relation", "quarantine")
"""The stored signals, in the order in which one append fills them: what a metric is comes before its points."""

RETENTION_DAYS: Mapping[str, int] = {"metric": 30, "log": 14, "span": 7, "event": 400}

_KEPT: Mapping[str, tuple[str, str]] = {
    "metric": ("metric", "time"), "log": ("log", "time"), "span": ("span", "time"), "event": ("event", "time"),
    "relation": ("event", "time"), "quarantine": ("event", "received"),
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
_QUARANTINE = (
    f"id String, received {_TIME}, source {_WORD}, signal {_WORD}, format {_WORD}, reason {_TEXT}, where {_TEXT}, payload {_TEXT}, "
    "replayed DateTime64(9, 'UTC') DEFAULT toDateTime64(0, 9, 'UTC'), state String ALIAS if(replayed = 0, 'waiting', 'replayed')"
)


def _table(name: str, columns: str, engine: str, key: str, partition: str = "") -> str:
    """The statement that makes a table; ``{database}`` and ``{<retention>}`` are still open."""
    daily = partition.startswith("toDate(")
    clauses = [f"CREATE TABLE IF NOT EXISTS {{database}}.{name} ({columns}) ENGINE = {engine}"]
    clauses += [f"PARTITION BY {partition}"] if partition else []
    clauses += [f"ORDER BY {key}"]
    if name in _KEPT:
        retention, column = _KEPT[name]
        clauses += [f"TTL toDateTime({column}) + toIntervalDay({{{retention}}})"]
    return " ".join(clauses) + f" SETTINGS {_DURABLE}{', ttl_only_drop_parts = 1' if daily else ''}"


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
)
"""What each version of the schema adds to the one before: version n is ``UPGRADES[n - 1]``. One that was released is never edited."""


def statements(version: int, database: str, retention_days: Mapping[str, int]) -> list[str]:
    """The statements that lead from `version - 1` to `version`."""
    return [text.format(database=database, **retention_days) for text in UPGRADES[version - 1]]


def retention(table: str, retention_days: Mapping[str, int]) -> tuple[int, str] | None:
    """How many days a table is kept and the TTL expression that says so; None when it is kept for good."""
    if table not in _KEPT:
        return None
    signal, column = _KEPT[table]
    return retention_days[signal], f"toDateTime({column}) + toIntervalDay({retention_days[signal]})"
