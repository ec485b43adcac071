"""Roll-ups say the same as the samples they stand for, whenever they were made, and the points of a series come from what fits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.ground.clock import SECOND, now
from ninefold.model.signal import METRIC, TIME, Batch, batch_of
from ninefold.store import schema
from ninefold.store.points import read, unbroken
from ninefold.store.telemetry import Telemetry

OpenStore = Callable[..., Telemetry]
HOUR = 3600 * SECOND
DAY = 24 * HOUR
FROM_RAW = """SELECT series, toStartOf<span>(time) AS at, count() AS n, min(value) AS low, max(value) AS high, round(avg(value), 6) AS mean,
    argMax(value, metric.time) AS final FROM metric WHERE NOT isNaN(value) GROUP BY series, at ORDER BY series, at"""
FROM_ROLLED = """SELECT series, time AS at, count AS n, min AS low, max AS high, round(sum / count, 6) AS mean,
    finalizeAggregation(last) AS final FROM <table> ORDER BY series, at"""


def metrics(values: np.ndarray, end: int, step: int = 15 * SECOND, series: int = 1) -> Batch:
    times = end - np.arange(len(values), dtype=np.int64)[::-1] * step
    columns = [pa.array(np.full(len(values), series, np.uint64)), pa.array(times).cast(TIME), pa.array(values.astype(np.float64))]
    return Batch("metric", "test", end, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def ask(store: Telemetry, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = store.query(sql).to_pylist()
    return rows


def agree(store: Telemetry) -> None:
    """Both roll-ups say what the samples say, row by row."""
    for span, table in (("Minute", "metric_1m"), ("Hour", "metric_1h")):
        raw = ask(store, f"SELECT * REPLACE (toDateTime64(at, 0, 'UTC') AS at) FROM ({FROM_RAW.replace('<span>', span)})")
        assert raw
        assert ask(store, FROM_ROLLED.replace("<table>", table)) == raw


def test_inserts_fill_the_roll_ups_and_a_repeated_token_does_not_double_them(store: Telemetry) -> None:
    rng, at = np.random.default_rng(4), now()
    values = rng.normal(5, 2, 20_000)
    values[::7] = np.nan
    parts = [metrics(values, at), metrics(rng.integers(0, 9, 3000), at, 60 * SECOND, series=2**63 + 5)]
    for token in ("a", "a", "b", "b", "a"):
        store.append([parts["ab".index(token)]], token)
    agree(store)
    store.append([metrics(rng.normal(5, 2, 20_000), at + 7 * SECOND)], "late")  # falls into the same spans again
    store.append([metrics(rng.normal(5, 2, 20_000), at + 7 * SECOND)], "late")
    agree(store)


def test_points_that_were_there_before_are_rolled_up(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    at = now()
    monkeypatch.setattr(schema, "UPGRADES", schema.UPGRADES[:1])
    store = open_store()
    store.append([metrics(np.arange(30_000) % 97, at), metrics(np.arange(500), at, series=2)], "old")
    store.close()
    monkeypatch.undo()
    store = open_store()
    agree(store)
    with store._writers.client() as client:
        client.command("ALTER TABLE schema_version DELETE WHERE version >= 2 SETTINGS mutations_sync = 2")
    store.close()  # as if the program had ended before it could note that it was done
    store = open_store()
    agree(store)
    store.append([metrics(np.arange(1000), at + HOUR + SECOND)], "new")
    agree(store)


def test_a_series_is_read_in_the_finest_form_that_fits(store: Telemetry) -> None:
    end = now() // HOUR * HOUR
    values = np.sin(np.arange(20_000) / 500)
    values[[7777, 12345]] = -400.0, 900.0
    store.append([metrics(values, end)], "t")
    begin = end - 3 * DAY
    raw, minutes, hours = (read(store, 1, begin, end, counter=False, rows=rows) for rows in (60_000, 10_000, 100))
    assert [line.resolution for line in (raw, minutes, hours)] == ["raw", "1m", "1h"]
    assert len(raw.times) == 3 * 5760 + 1
    for line in (minutes, hours):
        assert (line.low.min(), line.high.max()) == (-400.0, 900.0), "no extreme is lost"
        assert line.counts.sum() == len(raw.times) + (line.times[0] - begin) // (15 * SECOND)
        assert (np.diff(line.times) > 0).all()
        assert np.average(line.values, weights=line.counts) == pytest.approx(raw.values.mean(), abs=1e-3)
    assert read(store, 1, begin, end, counter=False, step_s=60, rows=100).resolution == "1m", "hours do not fit into minutes"
    assert read(store, 1, begin, end, counter=False, step_s=7, rows=100).resolution == "raw"
    assert len(read(store, 99, begin, end, counter=False).times) == 0


def test_what_retention_has_taken_from_the_samples_is_read_from_the_roll_ups(open_store: OpenStore) -> None:
    end = now() // HOUR * HOUR
    store = open_store(retention_days={"metric": 2})
    store.append([metrics(np.arange(4000), end, 300 * SECOND)], "t")  # a fortnight
    line = read(store, 1, end - 10 * DAY, end, counter=False)
    assert line.resolution == "1m"
    assert line.times[0] == end - 10 * DAY
    assert len(line.times) == 10 * 288 + 1
    assert read(store, 1, end - DAY, end, counter=False).resolution == "raw"


def test_a_counter_from_hours_rises_as_its_samples_do(store: Telemetry) -> None:
    end = now() // HOUR * HOUR
    steps = np.random.default_rng(1).poisson(3, 5000)
    values = np.cumsum(steps).astype(float)
    values[2000:] -= values[1999]
    store.append([metrics(values, end, 60 * SECOND)], "t")
    line = read(store, 1, 0, 2**63 - 1, counter=True, rows=10)
    assert line.resolution == "1h"
    whole = int(np.flatnonzero(end - np.arange(5000)[::-1] * 60 * SECOND == line.times[0])[0])
    assert line.values[-1] - line.values[0] == steps[whole + 1 :].sum()


STEPS = st.lists(st.integers(0, 50), min_size=1, max_size=4)


@given(st.lists(st.tuples(STEPS, STEPS, st.booleans()), min_size=2, max_size=12))
def test_restarts_are_seen_in_extremes_and_last_values(spans: list[tuple[list[int], list[int], bool]]) -> None:
    """With at most one restart a span, and the counter not again as high as before the span, the rise is exact."""
    height, seen, rises = 0, [], []
    for before, after, wanted in spans:
        restarts = wanted and sum(after) < height
        first = height + np.cumsum(before)
        second = np.cumsum(after) + (0 if restarts else first[-1])
        inside = np.concatenate((first, second))
        seen.append((inside.min(), inside.max(), inside[-1]))
        rises.append(sum(before) + sum(after))
        height = int(inside[-1])
    low, high, last = np.array(seen, float).T
    assert np.diff(unbroken(low, high, last)).tolist() == rises[1:]


def test_a_source_may_be_kept_longer_or_shorter_than_its_signal(open_store: OpenStore) -> None:
    at = now()
    store = open_store(
        retention_days={"metric": 30, "log": 14},
        source_retention_days={"chatty": {"log": 2, "metric": 3}, "audit": {"log": 40}},
    )
    lines = [{"time": at - days * DAY, "body": f"{days}"} for days in (1, 5, 20, 39)]
    about = [{"series": number, "name": "n", "seen": at} for number in (1, 2)]
    store.append([batch_of("log", source, at, lines) for source in ("chatty", "audit", "other")], "log")
    store.append([batch_of("series", "chatty", at, about[:1]), batch_of("series", "other", at, about[1:])], "series")
    store.append([metrics(np.zeros(8), at - HOUR, DAY, series=number) for number in (1, 2)], "metric")
    with store._connect() as client:
        client.command("SYSTEM STOP MERGES")
        try:
            assert sorted(store.expire()) == ["log", "log", "metric"]
            assert store.expire() == [], "the deletions before are still running"
        finally:
            client.command("SYSTEM START MERGES")
    deadline = time.monotonic() + 30
    running = "SELECT count() AS n FROM system.mutations WHERE NOT is_done AND database = currentDatabase()"
    while ask(store, running)[0]["n"] and time.monotonic() < deadline:  # the engine deletes in the background
        time.sleep(0.02)
    left = {row["source"]: row["n"] for row in ask(store, "SELECT source, count() AS n FROM log GROUP BY source")}
    assert left == {"chatty": 1, "audit": 4, "other": 2}
    assert {row["series"]: row["n"] for row in ask(store, "SELECT series, count() AS n FROM metric GROUP BY series")} == {1: 3, 2: 8}
    assert store.expire() == []


def test_views_show_names_beside_values(store: Telemetry) -> None:
    at = now()
    spans = [
        {"time": at, "entity": "service:a", "trace_id": "1", "span_id": f"{n}", "name": "GET /", "kind": "server", "duration": 2_000_000,
         "status": "error" if n < 2 else "ok"}
        for n in range(8)
    ]  # fmt: skip
    about = {"series": 1, "name": "load", "unit": "1", "kind": "gauge", "entity": "host:x", "seen": at, "attributes": {"cpu": "0"}}
    store.append([batch_of("series", "prom", at, [about, {**about, "seen": at + 1}])], "s1")
    store.append([batch_of("series", "prom", at, [about])], "s2")
    store.append([metrics(np.array([1.0, 2.0, 6.0]), at // HOUR * HOUR, SECOND), batch_of("span", "otlp", at, spans)], "t")
    assert ask(store, "SELECT name, entity, value FROM v_metric ORDER BY time") == [
        {"name": "load", "entity": "host:x", "value": value} for value in (1.0, 2.0, 6.0)
    ]
    (first, *_) = ask(store, "SELECT name, samples, average, lowest, highest, last FROM v_metric_1m ORDER BY time")
    assert first == {"name": "load", "samples": 2, "average": 1.5, "lowest": 1.0, "highest": 2.0, "last": 2.0}
    assert ask(store, "SELECT name, requests, errors, error_share, p95_ms FROM v_span_red") == [
        {"name": "GET /", "requests": 8, "errors": 2, "error_share": 0.25, "p95_ms": 2.0}
    ]
    for view in schema.READABLE:
        assert store.select(f"SELECT * FROM {view} LIMIT 1").columns, view
        assert store.select(f"DESCRIBE {view}").rows, view
