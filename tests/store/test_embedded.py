"""What is particular to the embedded engine, and that it answers as a server does."""

from __future__ import annotations

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_process import Server

from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import ConfigError, Unavailable
from ninefold.model.signal import METRIC, TIME, Batch, batch_of
from ninefold.store.telemetry import Telemetry

QUESTIONS = [
    "SELECT count() AS n, min(time) AS a, max(time) AS b, uniqExact(series) AS s FROM metric",
    "SELECT series, vnode, count() AS n, min(value) AS lo, max(value) AS hi FROM metric GROUP BY series, vnode ORDER BY series",
    "SELECT series, quantileExact(0.99)(value) AS q FROM metric GROUP BY series ORDER BY q DESC, series LIMIT 20",
    "SELECT toStartOfMinute(time) AS t, s.name, round(avg(value), 6) AS v FROM metric JOIN series AS s USING (series) GROUP BY ALL"
    " ORDER BY ALL",
    "SELECT time, value FROM metric WHERE series = 7 ORDER BY time",
    "SELECT entity, countIf(hasToken(body, 'failed')) AS failed, arraySort(groupUniqArray(attributes['k'])) AS k FROM log GROUP BY entity"
    " ORDER BY entity",
    "SELECT body, resource, attributes FROM log WHERE body LIKE '%7 failed%' ORDER BY time, body",
    "SELECT from_entity, to_entity, kind, first_seen, time FROM relation ORDER BY from_entity, to_entity",
    "SELECT id, status, title FROM event ORDER BY id",
]  # fmt: skip


def fill(store: Telemetry, at: int) -> None:
    rng = np.random.default_rng(9)
    for i in range(5):
        series = rng.integers(0, 40, 5000).astype(np.uint64)
        times = at - rng.integers(0, 7200 * SECOND, 5000)
        columns = [pa.array(series), pa.array(times).cast(TIME), pa.array(np.round(rng.normal(50, 9, 5000), 3))]
        lines = [
            {
                "time": at - j * SECOND,
                "entity": f"host:{j % 7}",
                "body": f"job {j} {'failed' if j % 3 else 'done'}",
                "attributes": {"k": str(j % 4)},
            }
            for j in range(200)
        ]
        store.append(
            [
                Batch("metric", "p", at, pa.RecordBatch.from_arrays(columns, schema=METRIC)),
                batch_of("series", "p", at, [{"series": s, "name": f"m{s % 5}", "kind": "gauge", "seen": at} for s in range(40)]),
                batch_of("log", "l", at, lines),
                batch_of(
                    "relation", "r", at, [{"time": at - i, "from_entity": "a", "to_entity": f"b{j}", "kind": "calls"} for j in range(3)]
                ),
                batch_of("event", "e", at, [{"id": f"e{j % 6}", "time": at, "title": "t", "status": "firing"} for j in range(i + 3)]),
            ],
            f"t{i}",
        )


@pytest.mark.real
def test_embedded_and_server_give_the_same_answers(clickhouse: Server, tmp_path: Path) -> None:
    at = now() // (60 * SECOND) * 60 * SECOND
    embedded, server = Telemetry(f"chdb://{tmp_path / 'store'}"), Telemetry(clickhouse.url, f"test_{uuid.uuid4().hex[:12]}")
    try:
        for store in (embedded, server):
            store.open()
            fill(store, at)
        for sql in QUESTIONS:
            one, other = embedded.query(sql), server.query(sql)
            assert one.num_rows > 0, sql
            assert one.schema == other.schema, sql
            assert one.to_pylist() == other.to_pylist(), sql
            assert embedded.select(sql) == server.select(sql), sql
    finally:
        embedded.close()
        server.close()


@pytest.mark.slow
def test_large_groupings_never_wait_for_ever(tmp_path: Path) -> None:
    """With several threads a query, engine 26.5 stopped here within a few rounds; pytest's own time limit would end the test."""
    store = Telemetry(f"chdb://{tmp_path / 'store'}")
    store.open()
    at = now()
    for i in range(4):
        series = np.arange(i * 100_000, (i + 1) * 100_000, dtype=np.uint64)
        columns = [pa.array(series), pa.array(np.full(100_000, at)).cast(TIME), pa.array(series.astype(np.float64))]
        store.append([Batch("metric", "p", at, pa.RecordBatch.from_arrays(columns, schema=METRIC))], f"t{i}")
    grouped = "SELECT series, toStartOfMinute(time) AS t, avg(value) AS v FROM metric GROUP BY series, t"
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: store.query(grouped).num_rows, range(12))) == [400_000] * 12
    store.close()


def test_after_close_another_path_can_be_opened(tmp_path: Path) -> None:
    for name in ("a", "b", "a"):
        store = Telemetry(f"chdb://{tmp_path / name}")
        store.open()
        found = store.query("SELECT count() AS n FROM metric").to_pylist()[0]["n"]
        store.append([batch_of("metric", "s", now(), [{"series": 1, "time": now(), "value": 1.0}])], f"{name}-{found}")
        store.close()
    assert found == 1, "the first path still has its row"


def test_a_folder_in_use_by_another_process_says_so(tmp_path: Path) -> None:
    url = f"chdb://{tmp_path / 'store'}"
    code = f"from ninefold.store.telemetry import Telemetry; t = Telemetry({url!r}); t.open(); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(Unavailable, match="in use by another process"):
            Telemetry(url).open()
        other.kill()
    store = Telemetry(url)
    store.open()
    store.close()


@pytest.mark.parametrize("url", ["sqlite:///x", "chdb://relative/path", "ninefold", "http://"])
def test_a_wrong_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        Telemetry(url).open()


def test_a_server_that_is_not_there_is_unavailable_and_its_password_stays_secret() -> None:
    with pytest.raises(Unavailable) as caught:
        Telemetry("http://user:hunter2@127.0.0.1:9").open()
    assert "hunter2" not in str(caught.value)


@pytest.mark.real
def test_a_wrong_password_is_a_configuration_error(clickhouse: Server) -> None:
    with pytest.raises(ConfigError, match="user or the password"):
        Telemetry(clickhouse.url.replace("http://", "http://default:wrong@")).open()
