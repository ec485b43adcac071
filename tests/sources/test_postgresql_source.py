"""PostgreSQL: its log as a real one wrote it, and a real one's statistics and log over a connection."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import peers
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.ground.clock import SECOND, parse
from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.model.signal import Batch
from ninefold.plugin import Lent
from ninefold.sources.files import FileConfig, Files, read_file
from ninefold.sources.postgresql import _NEXT_FILE, Postgresql
from ninefold.sources.postgresql_log import PostgresqlLog


def parser() -> PostgresqlLog:
    return PostgresqlLog("", "", "", "db", "service:db")


def logs(block: bytes) -> list[dict[str, Any]]:
    decoded = parser().parse(block, 0, 0)
    return [row for batch in decoded.batches if batch.signal == "log" for row in batch.rows.to_pylist()]


@pytest.mark.parametrize("name", ["sample.json", "sample.csv"])
def test_both_formats_say_the_same(data: Path, name: str) -> None:
    block = (data / "payloads/postgresql" / name).read_bytes()
    decoded = parser().parse(block, 0, 0)
    assert decoded.rejected == 0
    rows = logs(block)
    assert {row["entity"] for row in rows} == {"service:db"}
    assert all(row["time"].value > parse("2026-11-22T00:00:00Z") for row in rows)
    about = dict(rows[0]["attributes"])
    assert (about["db.namespace"], about["user.name"], about["client.address"]) == ("dbos3", "postgres", "127.0.0.1")


def test_a_deadlock_a_slow_query_and_severities_are_recognised(data: Path) -> None:
    everything = logs((data / "payloads/postgresql/sample.json").read_bytes()) + logs(
        (data / "payloads/postgresql/sample.csv").read_bytes()
    )
    by_event: dict[str, dict[str, Any]] = {}
    for row in everything:
        by_event.setdefault(dict(row["attributes"]).get("postgresql.event", ""), row)
    assert {"deadlock", "slow_query"} <= by_event.keys()
    deadlock = by_event["deadlock"]
    assert (deadlock["severity_text"], deadlock["severity_number"]) == ("ERROR", 17)
    assert dict(deadlock["attributes"])["db.response.status_code"] == "40P01"
    assert "waits for" in dict(deadlock["attributes"])["postgresql.detail"]
    assert float(dict(by_event["slow_query"]["attributes"])["postgresql.duration_ms"]) >= 1000


def test_its_log_is_followed_as_a_file_and_a_time_of_an_abbreviated_zone_is_one_of_the_files_zone(data: Path, tmp_path: Path) -> None:
    sample = (data / "payloads/postgresql/sample.csv").read_bytes()
    path = tmp_path / "postgresql.csv"
    path.write_bytes(sample)
    utc = [row for found in read_file(path, "postgresql", "db") for batch in found.batches for row in batch.rows.to_pylist()]
    assert [row["body"] for row in utc] == [row["body"] for row in logs(sample)]
    path.write_bytes(sample.replace(b" UTC,", b" CET,"))
    kept: list[Batch] = []

    async def follow() -> None:
        reached = asyncio.Event()

        async def emit(batches: Sequence[Batch], keep: Mapping[str, Any] | None = None) -> None:
            kept.extend(batches)
            reached.set()

        config = FileConfig(path=str(path), format="postgresql", timezone="Europe/Berlin", poll_s=0.01)
        task = asyncio.create_task(Files("db", config, Lent()).run(emit))
        async with asyncio.timeout(20):
            await reached.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(follow())
    rows = [row for batch in kept for row in batch.rows.to_pylist()]
    assert rows[0]["body"] == utc[0]["body"]
    assert utc[0]["time"].value - rows[0]["time"].value == 3600 * SECOND


@given(st.binary(max_size=200))
def test_any_bytes_are_logs_or_quarantine(block: bytes) -> None:
    for start in (b"", b"{"):
        decoded = parser().parse(start + block, 0, 0)
        assert bool(decoded.rejected) == any(batch.signal == "quarantine" for batch in decoded.batches)


@pytest.mark.parametrize("name", ["sample.json", "sample.csv"])
def test_cut_anywhere_the_rows_are_the_same(data: Path, name: str) -> None:
    block = (data / "payloads/postgresql" / name).read_bytes()
    expected = [row["body"] for row in logs(block)]
    for cut in range(0, len(block), 211):
        whole = parser().complete(block[:cut], False)
        assert [row["body"] for part in (block[:whole], block[whole:]) for row in logs(part)] == expected


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = ("logging_collector=on", "log_destination=jsonlog", "shared_preload_libraries=pg_stat_statements", "deadlock_timeout=100ms",
                "log_timezone=UTC", "log_directory=log")  # fmt: skip
    with peers.postgresql(tmp_path_factory.mktemp("postgresql"), *settings) as address:
        url = f"postgresql://{address}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
            connection.execute("INSERT INTO t VALUES (1, 0), (2, 0)")
        yield url


def source(dsn: str, kept: peers.Kept, **more: Any) -> Postgresql:
    return Postgresql("db", Postgresql.Config(**{"dsn": dsn, "every_s": 0.05} | more), kept.lent())


def deadlock(url: str) -> None:
    """Two transactions that wait for one another."""
    both = threading.Barrier(2)

    def one(first: int, second: int) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE t SET n = n + 1 WHERE id = %s", (first,))
            both.wait(30)
            try:
                connection.execute("UPDATE t SET n = n + 1 WHERE id = %s", (second,))
            except psycopg.errors.DeadlockDetected:
                connection.rollback()

    threads = [threading.Thread(target=one, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.real
def test_statistics_of_a_real_server(server: str) -> None:
    journal = peers.Journal()
    with psycopg.connect(server) as connection:
        connection.execute("LOCK TABLE t IN SHARE MODE")
        shop = source(server, peers.Kept(), service="shop-db", log=False)
        peers.run(peers.while_running(shop, journal, lambda: len(journal.batches) >= 4))
    series = {row["series"]: row for row in journal.rows("series")}
    assert len(series) == len(journal.rows("series"))
    names = {row["name"] for row in series.values()}
    assert names >= {
        "postgresql.commits", "postgresql.backends", "postgresql.deadlocks", "postgresql.db.size", "postgresql.connections.max",
        "postgresql.locks", "postgresql.statement.time", "postgresql.session.time",
    }  # fmt: skip
    commits = next(row for row in series.values() if row["name"] == "postgresql.commits")
    assert (commits["kind"], commits["entity"]) == ("counter", "service:shop-db")
    size = next(row for row in series.values() if row["name"] == "postgresql.db.size")
    assert size["unit"] == "By"
    values = {series[row["series"]]["name"]: row["value"] for row in journal.rows("metric")}
    assert values["postgresql.connections.max"] == 100
    assert values["postgresql.db.size"] > 1e6


@pytest.mark.real
def test_the_log_of_a_real_server_over_its_rotation_a_full_journal_and_a_crash(server: str) -> None:
    kept, journal = peers.Kept(), peers.Journal(full=2)
    quiet = {"statements": 0, "sizes": False}
    peers.run(peers.while_running(source(server, kept, **quiet), peers.Journal(), lambda: "offset" in kept.position))
    with psycopg.connect(server, autocommit=True) as connection:
        deadlock(server)
        peers.run(peers.crashing(source(server, kept, **quiet)))
        time.sleep(1.1)  # a log file's name has seconds
        connection.execute("SELECT pg_rotate_logfile()")
        peers.until(
            lambda: connection.execute("SELECT pg_current_logfile('jsonlog')").fetchone() != (kept.position["file"],), "rotation", 10
        )
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")

    def seen(body: str) -> list[dict[str, Any]]:
        return [row for row in journal.rows("log") if row["body"] == body]

    peers.run(peers.while_running(source(server, kept, **quiet), journal, lambda: bool(seen("division by zero"))))
    (found,) = seen("deadlock detected")
    assert dict(found["attributes"])["postgresql.event"] == "deadlock"
    assert dict(found["attributes"])["db.query.text"].startswith("UPDATE t")
    assert len(seen("division by zero")) == 1


@pytest.mark.real
def test_what_may_not_be_read_is_left_out_and_who_may_not_come_in_is_refused(server: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE ROLE nobody LOGIN")
    page = peers.run(source(server.replace("postgres@", "nobody@"), peers.Kept()).page({}))
    assert {batch.signal for batch in page.batches} == {"series", "metric"}
    reached = peers.run(source(server, peers.Kept()).check())
    assert "answered with" in reached.said
    with pytest.raises(Refused):
        peers.run(source(server.replace("postgres@", "stranger@"), peers.Kept()).check())
    with pytest.raises(ConfigError):
        peers.run(source("nonsense", peers.Kept()).check())
    with pytest.raises(Unavailable):
        peers.run(source(f"host=127.0.0.1 port={peers.free_port()}", peers.Kept()).check())


@pytest.mark.real
def test_the_next_log_file_is_the_one_written_next_whatever_its_name(server: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        (place,) = connection.execute("SELECT current_setting('data_directory')").fetchone() or ("",)
        for name, at in (("week-Mon.x", 3000), ("week-Tue.x", 1000), ("week-Sun.x", 4000)):
            path = Path(place) / "log" / name
            path.write_text("")
            os.utime(path, (at, at))
        found = [connection.execute(_NEXT_FILE, {"file": f"log/week-{day}.x"}).fetchone() for day in ("Tue", "Mon", "Sun")]
        assert found == [("log/week-Mon.x",), ("log/week-Sun.x",), None]


@pytest.mark.real
def test_a_password_in_a_statement_becomes_no_label(server: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("/* select */ CREATE ROLE guarded PASSWORD 'hush-1' /* b */")
        connection.execute("/* app */ SELECT 4711 AS masked")
    page = peers.run(source(server, peers.Kept(), log=False, statements=1000).page({}))
    texts = [dict(row["attributes"]).get("db.query.text", "") for b in page.batches if b.signal == "series" for row in b.rows.to_pylist()]
    assert any("masked" in text for text in texts)
    assert not any("hush-1" in text for text in texts)
