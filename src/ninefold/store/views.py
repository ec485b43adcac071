# ruff: noqa: S608 - all names are ours
"""The views that BI tools and people read, in ClickHouse's words; ``docs/store.md`` lists their columns.

They say ``FINAL`` themselves where rows may arrive twice, so that a client without our settings sees what the program sees. What a view's
columns mean does not change between versions; columns may be added at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

_SERIES = "s.name AS name, s.entity AS entity, s.unit AS unit, s.kind AS kind, s.source AS source, s.attributes AS attributes"
_JOINED = "AS m INNER JOIN {database}.series AS s FINAL ON m.series = s.series"
_MINUTE = "toDateTime64(toStartOfMinute(time), 0, 'UTC')"


def _rolled(table: str) -> str:
    return (
        f"SELECT m.time AS time, {_SERIES}, m.series AS series, m.count AS samples, m.sum / m.count AS average, m.min AS lowest, "
        f"m.max AS highest, finalizeAggregation(m.last) AS last, m.last_time AS last_time "
        f"FROM (SELECT * FROM {{database}}.{table} FINAL) {_JOINED}"
    )


VIEWS: Mapping[str, str] = {
    "v_series": "SELECT series, name, unit, kind, entity, source, attributes, seen FROM {database}.series FINAL",
    "v_metric": f"SELECT m.time AS time, {_SERIES}, m.series AS series, m.value AS value FROM {{database}}.metric {_JOINED}",
    "v_metric_1m": _rolled("metric_1m"),
    "v_metric_1h": _rolled("metric_1h"),
    "v_log": (
        "SELECT time, received, source, entity, severity_number, severity_text, body, pattern, trace_id, span_id, attributes, resource "
        "FROM {database}.log"
    ),
    "v_event": (
        "SELECT time, received, kind, source, source_id, entity, title, body, severity, status, fingerprint, attributes, id "
        "FROM {database}.event FINAL"
    ),
    "v_span": (
        "SELECT time, source, entity, trace_id, span_id, parent_span_id, name, kind, duration / 1e6 AS duration_ms, status, "
        "status_message, attributes, resource FROM {database}.span"
    ),
    "v_span_red": (
        f"SELECT {_MINUTE} AS minute, entity, name, kind, count() AS requests, countIf(status = 'error') AS errors, "
        "errors / requests AS error_share, quantile(0.5)(duration / 1e6) AS p50_ms, quantile(0.95)(duration / 1e6) AS p95_ms, "
        f"quantile(0.99)(duration / 1e6) AS p99_ms FROM {{database}}.span WHERE kind IN ('server', 'consumer') "
        f"GROUP BY {_MINUTE}, entity, name, kind"
    ),
    "v_relation": ("SELECT from_entity, to_entity, kind, source, first_seen, time AS last_seen FROM {database}.relation FINAL"),
}
"""Name -> statement, with ``{database}`` still open."""
