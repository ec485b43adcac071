"""The telemetry store: what a sample and a log line weigh, what inserting them costs, how fast the last hour answers.

Metrics: a mix as Prometheus scrapes give it (40 % gauges with two decimals, 30 % counters, 15 % constants, 15 % fractions; 15 s
with jitter of milliseconds), and the recorded gauges of 12 application servers (ASD). Logs: the recorded lines of TrainTicket
(Nezha). Questions over a week: 50 million made samples, 1,250 series of 15 s. The peer is SQLite (WAL, synchronous=FULL, keyed by series
and time) with the same rows and questions in the same run.

    python bench/store.py        prints a Markdown table
"""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold.analytics.logs.mining import pattern_keys
from ninefold.ground.clock import SECOND, iso, now
from ninefold.model.entity import vnode_of
from ninefold.model.signal import LOG, MAP, METRIC, TIME, Batch
from ninefold.store import schema
from ninefold.store.points import ROWS, Line, read
from ninefold.store.telemetry import Telemetry
from ninefold.web.api.series import points

DATA = Path(os.environ.get("NINEFOLD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SERIES, SCRAPES, STEP = 4000, 500, 15 * SECOND
BATCH = 200_000
PEER_ROWS = 300_000
WEEK_S, WEEK_SERIES = 7 * 86400, 1250
_WEEK = """INSERT INTO metric SELECT cityHash64(number % {series:UInt64}) AS series,
    fromUnixTimestamp64Milli(({begin:Int64} + intDiv(number, {series:UInt64}) * 15) * 1000 + cityHash64(number) % 20, 'UTC') AS time,
    multiIf(number % 10 < 5, 50 + intDiv(cityHash64(number, 1) % 1000, 10) / 100, number % 10 < 8, intDiv(number, 100), 7.) AS value
    FROM numbers({rows:UInt64}) SETTINGS max_execution_time = 0"""
_IDLE = """
import sys
from pathlib import Path

def rss():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

from ninefold.store.telemetry import Telemetry
before = rss()
store = Telemetry("chdb://" + sys.argv[1])
store.open()
store.query("SELECT count() FROM metric")
print(rss() - before, rss())
store.close()
"""


class Columns(NamedTuple):
    """Metric points in order of arrival."""

    series: np.ndarray
    times: np.ndarray
    values: np.ndarray


def cpu_s() -> float:
    """CPU seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def scraped(end: int) -> Columns:
    """The mix: every scrape brings one value of every series."""
    rng = np.random.default_rng(7)
    ids = rng.integers(0, 2**63, SERIES, dtype=np.uint64)
    values = np.empty((SCRAPES, SERIES))
    a, b, c = int(0.4 * SERIES), int(0.7 * SERIES), int(0.85 * SERIES)
    values[:, :a] = np.round(50 + np.cumsum(rng.normal(0, 0.5, (SCRAPES, a)), axis=0), 2)
    values[:, a:b] = np.cumsum(rng.poisson(20, (SCRAPES, b - a)), axis=0)
    values[:, b:c] = rng.integers(0, 1000, c - b)
    values[:, c:] = rng.lognormal(0, 1, (SCRAPES, SERIES - c))
    begin = end - SCRAPES * STEP
    offset = rng.integers(0, STEP, SERIES)
    jitter = rng.integers(0, 20, (SCRAPES, SERIES)) * 1_000_000
    times = begin + np.arange(SCRAPES)[:, None] * STEP + offset + jitter
    return Columns(np.tile(ids, SCRAPES), (times // 1_000_000 * 1_000_000).ravel(), values.ravel())


def recorded(end: int) -> Columns:
    """The gauges of 12 servers, 19 each, at the end of the store's time."""
    frame = pd.read_parquet(DATA / "timeseries" / "asd" / "series.parquet")
    names = [name for name in frame.columns if name.startswith("m")]
    server = frame.entity.astype("category").cat.codes.to_numpy().astype(np.uint64)
    series = (server[:, None] * 1000 + np.arange(len(names), dtype=np.uint64)).ravel()
    rows = frame.t.to_numpy(np.int64)
    times = np.repeat(end - (rows.max() - rows) * 60 * SECOND, len(names))
    order = np.argsort(times, kind="stable")
    return Columns(series[order], times[order], frame[names].to_numpy(np.float64).ravel()[order])


def lines(end: int) -> pa.RecordBatch:
    """The recorded log lines as rows of the store."""
    parts = [pd.read_parquet(DATA / "rca" / f"nezha_trainticket_{day}" / "logs.parquet") for day in ("0129", "0130")]
    frame = pd.concat(parts, ignore_index=True)
    count = len(frame)
    service = frame.pod.str.rsplit("-", n=2).str[0]
    times = (frame.ts_us.to_numpy(np.int64) - int(frame.ts_us.max())) * 1000 + end
    pods = pa.array(frame.pod.tolist(), pa.string())
    entities = "service:" + service
    vnodes = {entity: vnode_of(entity) for entity in entities.unique()}
    body = pa.array(frame.message.astype(str).tolist(), pa.string())
    columns: dict[str, Any] = {
        "vnode": pa.array(entities.map(vnodes), pa.uint16()),
        "time": pa.array(times).cast(TIME),
        "received": pa.array(times + 50_000_000).cast(TIME),
        "source": pa.array(["otlp"] * count),
        "entity": pa.array(entities.tolist(), pa.string()),
        "severity_number": pa.array(np.full(count, 9, np.uint8)),
        "severity_text": pa.array(["INFO"] * count),
        "body": body,
        "pattern": pa.array(pattern_keys(body), pa.uint64()),
        "trace_id": pa.array([f"{number & (2**64 - 1):032x}" for number in frame.trace_no]),
        "span_id": pa.array([f"{number & (2**64 - 1):016x}" for number in frame.span_no]),
        "attributes": pa.MapArray.from_arrays(np.zeros(count + 1, np.int32), pa.array([], pa.string()), pa.array([], pa.string()), MAP),
        "resource": pa.MapArray.from_arrays(np.arange(count + 1, dtype=np.int32), pa.array(["k8s.pod.name"] * count), pods, MAP),
    }
    return pa.RecordBatch.from_arrays([columns[field.name] for field in LOG], schema=LOG)


def batches(columns: Columns) -> Iterator[Batch]:
    """Metric batches in order."""
    for i in range(0, len(columns.times), BATCH):
        part = slice(i, i + BATCH)
        arrays = [pa.array(columns.series[part]), pa.array(columns.times[part]).cast(TIME), pa.array(columns.values[part])]
        yield Batch("metric", "bench", now(), pa.RecordBatch.from_arrays(arrays, schema=METRIC))


def timed(work: Callable[[], Any], times: int = 5) -> tuple[float, float]:
    """Median CPU and wall milliseconds."""
    costs = []
    for _ in range(times):
        used, started = cpu_s(), time.perf_counter()
        work()
        costs.append((cpu_s() - used, time.perf_counter() - started))
    middle = np.median(np.array(costs), axis=0) * 1000
    return float(middle[0]), float(middle[1])


def insert(store: Telemetry, name: str, parts: list[Batch]) -> float:
    """Rows per CPU second."""
    used, rows = cpu_s(), 0
    for i, part in enumerate(parts):
        rows += store.append([part], f"{name}-{i}")
    return rows / (cpu_s() - used)


def bytes_a_row(store: Telemetry, table: str) -> float:
    """Bytes on disk for a row, everything included, once the parts are merged."""
    with store._writers.client() as client:
        client.command(f"OPTIMIZE TABLE {table} FINAL")
    sql = "SELECT sum(bytes_on_disk) / sum(rows) AS b FROM system.parts WHERE active AND database = 'ninefold' AND table = {table:String}"
    return float(store.query(sql, {"table": table})["b"][0].as_py())


class Peer:
    """The same rows in SQLite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.executescript(
            "pragma journal_mode=wal; pragma synchronous=full; create table metric(series integer, time integer, value real, "
            "primary key(series, time)) without rowid; create table log(entity text, time integer, body text, rest text);"
        )

    def insert(self, sql: str, rows: list[tuple[Any, ...]], size: int) -> tuple[float, float]:
        """Rows per CPU second and bytes a row."""
        before, used = self._size(), cpu_s()
        for i in range(0, len(rows), size):
            self.db.execute("begin")
            self.db.executemany(sql, rows[i : i + size])
            self.db.execute("commit")
        self.db.execute("pragma wal_checkpoint(truncate)")
        return len(rows) / (cpu_s() - used), (self._size() - before) / len(rows)

    def _size(self) -> int:
        return self.path.stat().st_size


def figure(
    name: str, value: float, unit: str, target: float | None = None, peer: float | None = None, lower: bool = False
) -> dict[str, Any]:
    """One row of the table; the peer is in the same unit."""
    row = {"name": name, "value": value, "unit": unit, "target": target, "lower": lower}
    return {**row, "peer": None if peer is None else f"SQLite {peer:,.4g}", "ratio": None if peer is None else value / peer}


def questions(store: Telemetry, peer: Peer, columns: Columns, end: int) -> list[dict[str, Any]]:
    """CPU time of the usual questions."""
    hour, one = end - 3600 * SECOND, int(columns.series[0])
    asked: list[tuple[str, str, dict[str, Any], str | None, tuple[Any, ...]]] = [
        (
            "one series, all its samples",
            "SELECT time, value FROM metric WHERE series = {s:UInt64} ORDER BY time",
            {"s": one}, "select time, value from metric where series = ? order by time", (one,),
        ),
        (
            f"last hour of {SERIES:,} series, average a minute and series",
            "SELECT series, toStartOfMinute(time) AS t, avg(value) FROM metric WHERE time > fromUnixTimestamp64Nano({f:Int64}, 'UTC') "
            "GROUP BY series, t", {"f": hour}, None, (),
        ),
        (
            "log lines with a word",
            "SELECT count() FROM log WHERE hasToken(body, {w:String})", {"w": "TravelServiceImpl"},
            "select count(*) from log where body like ?", ("%TravelServiceImpl%",),
        ),
        (
            "log patterns by count", "SELECT pattern, any(body), count() AS n FROM log GROUP BY pattern ORDER BY n DESC LIMIT 20", {},
            None, (),
        ),
    ]  # fmt: skip
    rows = []
    for name, sql, parameters, other, values in asked:
        mine = timed(lambda sql=sql, parameters=parameters: store.query(sql, parameters))[0]
        theirs = timed(lambda other=other, values=values: peer.db.execute(other, values).fetchall())[0] if other else None
        note = "a question costs the engine about 6 ms whatever it reads; the peer holds 300,000 rows" if name.startswith("one") else ""
        rows.append(figure(name, mine, "CPU ms", None, theirs, lower=True) | ({"note": note} if note else {}))
    return rows


def week(folder: Path) -> list[dict[str, Any]]:
    """Questions over a week of 50 million samples; minutes and hours are made from the samples at once, as an upgrade makes them."""
    store = Telemetry(f"chdb://{folder / 'week'}")
    store.open()
    end, rows = now() // SECOND // 3600 * 3600, WEEK_SERIES * WEEK_S // 15
    (fill,) = (text for text in schema.UPGRADES[1] if text.startswith("INSERT INTO"))
    with store._writers.client() as client:
        client.command("DROP TABLE fill_metric_1m")
        client.command(_WEEK, {"series": WEEK_SERIES, "begin": end - WEEK_S, "rows": rows})
        client.command("OPTIMIZE TABLE metric FINAL", settings={"max_execution_time": "0"})  # as it is once the merges have caught up
        client.command(fill.format(database="ninefold"))
        client.command("INSERT INTO series (series, name, kind, seen) SELECT DISTINCT series, 'm', 'gauge', now() FROM metric_1h")
    one = store.query("SELECT any(series) AS s FROM metric_1h")["s"][0].as_py()
    grouped = "SELECT series, time, sum(sum) / sum(count) AS mean, max(max) FROM metric_1h GROUP BY series, time SETTINGS final = 0"
    raw = "SELECT toStartOfHour(time) AS h, avg(value) FROM metric GROUP BY h"
    begin, app = (end - WEEK_S) * SECOND, SimpleNamespace(store=store)

    def samples(rows: int) -> Line:
        return read(store, one, begin, end * SECOND, counter=False, rows=rows)

    last = "SELECT time, sum(sum) / sum(count) AS mean FROM metric_1h GROUP BY time SETTINGS final = 0"
    made = [
        ("one series over seven days, 40,320 samples", lambda: samples(ROWS * 9), None),
        ("the same, as a chart reads it: minutes", lambda: samples(ROWS), 50),
        ("the same with at most 1,000 rows: hours", lambda: read(store, one, 0, end * SECOND, counter=False, rows=1000), None),
        (f"{rows:,} samples by series and hour, from hours", lambda: store.query(grouped), 1000),
        (f"{rows:,} samples by hour, from hours", lambda: store.query(last), 1000),
        (f"{rows:,} samples by hour, from samples", lambda: store.query(raw), None),
    ]
    found = [figure(name, timed(work)[0], "CPU ms", target, None, lower=True) for name, work, target in made]
    used, wall = timed(lambda: points(str(one), None, app, iso(begin), iso(end * SECOND), 600, 0).model_dump_json())
    name = "a chart of one series over seven days: band, findings, 600 points, JSON"
    found.insert(2, figure(name, wall, "ms", 50, None, lower=True) | {"note": f"{used:.0f} ms of CPU"})
    store.close()
    return found


def measure(folder: Path) -> list[dict[str, Any]]:
    """All figures on a fresh store in `folder`."""
    end = now() - 60 * SECOND
    mix, gauges, log = scraped(end), recorded(end), lines(end)
    store, peer = Telemetry(f"chdb://{folder / 'store'}"), Peer(folder / "peer.db")
    store.open()
    store.append(list(batches(Columns(*(column[:10] for column in mix)))), "warm")
    parts = list(batches(mix))
    mine = insert(store, "mix", parts)
    weight, minute = bytes_a_row(store, "metric"), bytes_a_row(store, "metric_1m")
    some = np.arange(min(PEER_ROWS, len(mix.times)))
    tuples = list(zip(mix.series[some].tolist(), mix.times[some].tolist(), mix.values[some].tolist(), strict=True))
    theirs = peer.insert("insert or replace into metric values(?, ?, ?)", tuples, 10_000)
    small = parts[0].rows
    few = [Batch("metric", "bench", end, small.slice(i, 10_000)) for i in range(0, BATCH, 10_000)]
    text = [Batch("log", "bench", end, log.slice(i, 20_000)) for i in range(0, log.num_rows, 20_000)]
    written = insert(store, "log", text)
    rest = [f"{r}" for r in log.column("resource").to_pylist()[:PEER_ROWS]]
    entities, times, bodies = (
        log.column(name).cast(kind).to_pylist() for name, kind in (("entity", "string"), ("time", "int64"), ("body", "string"))
    )
    beside = peer.insert("insert into log values(?, ?, ?, ?)", list(zip(entities, times, bodies, rest, strict=True)), 10_000)
    raw = (log.column("body").nbytes + log.column("resource").nbytes) / log.num_rows
    rows = [
        figure("metric insert, 200,000 rows at a time", mine, "rows/CPU-s", 1e6 / 1.2, theirs[0]),
        figure("metric insert, 10,000 rows at a time", insert(store, "few", few), "rows/CPU-s", None, theirs[0]),
        figure("log insert, 20,000 lines at a time", written, "lines/CPU-s", None, beside[0]),
        figure("metric sample on disk, mix", weight, "bytes", 5.0, theirs[1], lower=True),
        figure("a minute of a series on disk, roll-up", minute, "bytes", None, None, lower=True),
        figure(f"log line on disk ({raw:.0f} bytes of text and resource)", bytes_a_row(store, "log"), "bytes", None, beside[1], lower=True),
        *questions(store, peer, mix, end),
    ]
    with store._writers.client() as client:
        client.command("TRUNCATE TABLE metric")
    insert(store, "recorded", list(batches(gauges)))
    rows.insert(5, figure("metric sample on disk, recorded gauges", bytes_a_row(store, "metric"), "bytes", 5.0, None, lower=True))
    store.close()
    peer.db.close()
    return rows


def run() -> list[dict[str, Any]]:
    """All figures."""
    folder = Path(tempfile.mkdtemp(prefix="ninefold-bench-"))
    try:
        said = subprocess.run([sys.executable, "-c", _IDLE, str(folder / "idle")], capture_output=True, text=True, check=True)
        engine, whole = (float(word) for word in said.stdout.split())
        return [
            figure("memory of the open engine at rest", engine, "MB", 250, None, lower=True),
            figure("memory of the process around it", whole, "MB", 450, None, lower=True),
            *measure(folder),
            *week(folder),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Print the table."""
    print("| the store | measured | target | peer | ratio |\n|---|---:|---:|---:|---:|")
    for row in run():
        target = f"{row['target']:,.4g}" if row["target"] else ""
        ratio = f"{row['ratio']:.3g}×" if row["ratio"] else ""
        print(f"| {row['name']} | {row['value']:,.4g} {row['unit']} | {target} | {row['peer'] or ''} | {ratio} |")


if __name__ == "__main__":
    main()
