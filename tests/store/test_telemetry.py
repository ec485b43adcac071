"""The telemetry store keeps what it was given, once, for as long as it was told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import BadData, ConfigError, Unavailable
from ninefold.model.signal import METRIC, SCHEMAS, TIME, Batch, batch_of, quarantine
from ninefold.store import schema
from ninefold.store.telemetry import Telemetry

DAY = 86400 * SECOND
OpenStore = Callable[..., Telemetry]


def metrics(count: int, end: int, step: int = SECOND, series: int = 1) -> Batch:
    times = end - np.arange(count, dtype=np.int64)[::-1] * step
    columns = [pa.array(np.full(count, series, np.uint64)), pa.array(times).cast(TIME), pa.array(np.arange(count, dtype=np.float64))]
    return Batch("metric", "test", end, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def one(store: Telemetry, sql: str, **parameters: Any) -> Any:
    (value,) = store.query(sql, parameters).column(0).to_pylist()
    return value


def count(store: Telemetry, table: str) -> int:
    return int(one(store, f"SELECT count() FROM {table}"))


def eventually(check: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.1)
    return check()


def all_signals(at: int) -> list[Batch]:
    big, trace = 2**63 + 12345, "ab" * 16
    series = {"series": big, "name": "up", "unit": "1", "kind": "gauge", "entity": "service:x", "attributes": {"job": "ä\n"}, "seen": at}
    points = [{"series": big, "time": at, "value": 1.25}, {"series": 2, "time": at - 1, "value": float("inf")}]
    log = {
        "time": at, "entity": "host:h", "severity_number": 17, "severity_text": "err", "body": "it's; “odd” \\ \x00", "pattern": big,
        "trace_id": trace, "span_id": "cd" * 8, "attributes": {"a": "1", "": "empty key"}, "resource": {"host.name": "h"},
    }  # fmt: skip
    span = {
        "time": at, "entity": "service:x", "trace_id": trace, "span_id": "ef" * 8, "name": "GET /", "kind": "server", "duration": -5,
        "status": "error", "status_message": "no", "resource": {"k": "v"}, "events": "[]",
    }  # fmt: skip
    event = {"id": "e1", "time": at, "kind": "alert", "title": "High", "severity": "high", "attributes": {"x": "y"}, "raw": "{}"}
    exemplar = {"series": big, "time": at, "value": 0.25, "trace_id": trace, "span_id": "cd" * 8, "attributes": {"le": "1"}}
    histogram = {
        "series": big, "time": at, "count": 7.0, "sum": 1.5, "scale": -3, "zero_threshold": 1e-9, "zero_count": 1.0,
        "positive_index": [-2, 5], "positive_count": [4.0, 2.0], "bounds": [0.1, 1.0],
    }  # fmt: skip
    return [
        batch_of("exemplar", "prom", at, [exemplar]),
        batch_of("histogram", "prom", at, [histogram]),
        batch_of("series", "prom", at, [series]),
        batch_of("metric", "prom", at, points),
        batch_of("log", "sys", at, [log]),
        batch_of("span", "otlp", at, [span]),
        batch_of("event", "am", at, [event]),
        batch_of("relation", "otlp", at, [{"time": at, "from_entity": "service:a", "to_entity": "service:b", "kind": "calls"}]),
        quarantine("am", at, "event", "alertmanager", [("not JSON", "0", b"\x00\xff{")]),
    ]


def test_every_signal_comes_back_as_it_was(store: Telemetry) -> None:
    batches = all_signals(now())
    assert store.append(batches, "t") == sum(batch.rows.num_rows for batch in batches)
    for batch in batches:
        columns = ", ".join(f"`{name}`" for name in SCHEMAS[batch.signal].names)
        found = store.query(f"SELECT {columns} FROM {batch.signal} ORDER BY 1, 2 DESC")
        wanted = pa.Table.from_batches([batch.rows])
        expected = sorted(wanted.cast(wanted.schema).to_pylist(), key=str)
        assert sorted(found.to_pylist(), key=str) == expected, batch.signal


def test_the_partition_of_a_metric_is_part_of_its_series(store: Telemetry) -> None:
    store.append([metrics(3, now(), series=4096 * 7 + 99)], "t")
    assert one(store, "SELECT groupUniqArray(vnode) FROM metric") == [99]


def test_parameters_are_values_never_sql(store: Telemetry) -> None:
    at = now()
    store.append([batch_of("log", "s", at, [{"time": at, "body": "x' OR 1=1 --"}, {"time": at, "body": "other"}])], "t")
    assert one(store, "SELECT count() FROM log WHERE body = {body:String}", body="x' OR 1=1 --") == 1
    assert one(store, "SELECT count() FROM log WHERE body IN {bodies:Array(String)}", bodies=["other", "it's"]) == 1
    assert one(store, "SELECT count() FROM log WHERE time >= fromUnixTimestamp64Nano({t:Int64}, 'UTC')", t=at + 1) == 0


def test_a_token_counts_once_also_after_reopening(open_store: OpenStore) -> None:
    at = now()
    store = open_store()
    store.append([metrics(1000, at)], "1-10")
    store.append([metrics(1000, at)], "1-10")
    assert count(store, "metric") == 1000
    store.close()
    store = open_store()
    store.append([metrics(1000, at)], "1-10")
    assert count(store, "metric") == 1000
    store.append([metrics(1000, at)], "11-20")
    assert count(store, "metric") == 2000


def test_an_append_that_stopped_halfway_is_completed(store: Telemetry) -> None:
    at = now()
    batches = [metrics(10, at), batch_of("log", "s", at, [{"time": at, "body": "x"}])]
    store.append(batches[:1], "5-9")  # as if the program had ended between two tables
    store.append(batches, "5-9")
    assert (count(store, "metric"), count(store, "log")) == (10, 1)


def test_a_large_append_over_many_days_counts_once(store: Telemetry) -> None:
    # 27 days, less than the rows are kept for: many partitions, more rows than one of the engine's blocks.
    batch = metrics(1_300_000, now(), step=9 * SECOND // 5)
    for _ in range(2):
        store.append([batch, metrics(5, now(), series=3)], "big")
    assert count(store, "metric") == 1_300_005


def test_what_arrives_twice_is_seen_once(store: Telemetry) -> None:
    at = now()
    for token, shift in (("a", 0), ("b", 5), ("c", -7)):
        store.append(
            [
                batch_of("event", "s", at + shift, [{"id": "same", "time": at, "kind": "alert"}]),
                batch_of("series", "s", at, [{"series": 1, "name": "n", "unit": str(shift), "seen": at + shift}]),
                batch_of("relation", "s", at, [{"time": at + shift, "from_entity": "a", "to_entity": "b", "kind": "calls"}]),
            ],
            token,
        )
    assert count(store, "event") == 1
    assert store.query("SELECT unit FROM series").to_pylist() == [{"unit": "5"}]
    span = store.query("SELECT toUnixTimestamp64Nano(first_seen) AS a, toUnixTimestamp64Nano(time) AS b FROM relation").to_pylist()
    assert span == [{"a": at - 7, "b": at + 5}]


def test_a_replayed_record_stays_replayed(store: Telemetry) -> None:
    at = now()
    bad = quarantine("s", at, "event", "webhook:x", [("no title", "title", b"{}"), ("no time", "time", b"[]")])
    store.append([bad], "a")
    first = bad.rows.column("id")[0].as_py()
    store.mark_replayed([first])
    store.append([bad], "b")  # the same rows under another token
    states = store.query("SELECT reason, state FROM quarantine ORDER BY reason").to_pylist()
    assert states == [{"reason": "no time", "state": "waiting"}, {"reason": "no title", "state": "replayed"}]


def test_expired_rows_vanish_and_a_changed_retention_is_applied(open_store: OpenStore) -> None:
    at = now()
    store = open_store(retention_days={"metric": 30})
    store.append([metrics(10, at), metrics(10, at - 5 * DAY), metrics(10, at - 40 * DAY)], "t")
    assert eventually(lambda: count(store, "metric") == 20), "40 days is beyond 30"
    store.close()
    store = open_store(retention_days={"metric": 2})
    assert eventually(lambda: count(store, "metric") == 10), "5 days is beyond 2"
    kept = one(store, "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'log'")
    assert "toIntervalDay(14)" in kept, "the others keep their default"


def test_signals_without_a_table_are_refused(store: Telemetry) -> None:
    at = now()
    assert store.append([batch_of("raw", "s", at, [{"format": "webhook:x", "payload": b"{}"}])], "raw") == 0
    with pytest.raises(BadData, match="no table for the signal 'smell'"):
        store.append([Batch("smell", "s", at, metrics(1, at).rows)], "t")
    with pytest.raises(BadData, match="other columns"):
        store.append([Batch("log", "s", at, metrics(1, at).rows)], "t")


def test_readers_see_whole_appends_while_one_writes(store: Telemetry) -> None:
    done = threading.Event()

    def read(_: int) -> int:
        last = 0
        while not done.is_set():
            rows = count(store, "metric")
            assert rows >= last, "rows disappeared"
            assert rows % 5000 == 0, "half an append was seen"
            last = rows
        return last

    at = now()
    with ThreadPoolExecutor(4) as threads:
        readers = threads.map(read, range(4))
        for i in range(20):
            store.append([metrics(5000, at, series=i, step=1000)], f"t{i}")
        done.set()
        assert max(readers) > 0
    assert count(store, "metric") == 100_000


def test_a_failed_query_does_not_spoil_the_next(store: Telemetry) -> None:
    for _ in range(3):
        with pytest.raises(BadData):
            store.query("SELECT number, throwIf(number = 200000) FROM numbers(300000)")
        assert store.query("SELECT 42 AS answer").to_pylist() == [{"answer": 42}]


def test_opening_again_changes_nothing(open_store: OpenStore) -> None:
    store = open_store()
    store.append([metrics(5, now())], "t")
    store.open()
    assert count(store, "metric") == 5
    assert store.query("SELECT version FROM schema_version").num_rows == len(schema.UPGRADES)


def test_a_store_of_a_newer_version_is_left_alone(open_store: OpenStore) -> None:
    store = open_store()
    with store._writers.client() as client:
        client.command("INSERT INTO schema_version (version) VALUES (999)")
    store.close()
    with pytest.raises(ConfigError, match="schema version 999"):
        open_store()


def test_a_closed_store_says_so(store: Telemetry) -> None:
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.query("SELECT 1")
    with pytest.raises(Unavailable, match="closed"):
        store.append([metrics(1, now())], "t")


def test_memory_can_be_given_back(store: Telemetry) -> None:
    store.append([metrics(1000, now())], "t")
    store.trim()
    assert count(store, "metric") == 1000
