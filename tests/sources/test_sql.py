"""SQL polling on SQLite and PostgreSQL: nothing lost, nothing twice, late rows found, the database left in peace."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import peers
import psycopg
import pytest

from ninefold.ground.clock import parse
from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.sources.rows import Rows, RowsConfig
from ninefold.sources.sql import Sql, _packed, _unpacked

BY_ID = "SELECT id, at, title, amount FROM orders WHERE id > :cursor ORDER BY id"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    connection.execute("CREATE TABLE orders (id INTEGER, at TEXT, title TEXT, amount REAL, status TEXT DEFAULT 'new')")
    yield connection
    connection.close()


def insert(database: sqlite3.Connection, *ids: int, at: str = "2026-11-22 13:00:00") -> None:
    database.executemany("INSERT INTO orders (id, at, title, amount) VALUES (?, ?, ?, ?)", [(i, at, f"order {i}", i / 2) for i in ids])


def source(tmp_path: Path, kept: peers.Kept, query: str = BY_ID, **more: Any) -> Sql:
    settings = {"url": f"sqlite:///{tmp_path}/shop.db", "query": query, "cursor": "id", "every_s": 0.02} | more
    return Sql("shop", Sql.Config(**settings), kept.lent())


def titles(journal: peers.Journal) -> list[str]:
    return [json.loads(row["payload"])["title"] for row in journal.rows("raw")]


def test_pages_full_journal_and_growth_give_every_row_once_in_order(tmp_path: Path, database: sqlite3.Connection) -> None:
    insert(database, *range(1, 251))
    kept, journal = peers.Kept(), peers.Journal(full=3)
    seen: list[dict[str, Any]] = []

    async def look() -> None:
        seen.append(kept.position)

    journal.before = look
    peers.run(peers.while_running(source(tmp_path, kept, page_rows=100), journal, lambda: kept.position == {"cursor": 250}))
    assert seen[:4] == [{}] * 4, "the position is kept only once the journal has the rows"
    insert(database, 251)
    peers.run(peers.while_running(source(tmp_path, kept, page_rows=100), journal, lambda: kept.position == {"cursor": 251}))
    assert titles(journal) == [f"order {i}" for i in range(1, 252)]


def test_a_crash_before_the_journal_answered_brings_the_page_again(tmp_path: Path, database: sqlite3.Connection) -> None:
    insert(database, 1, 2)
    kept, journal = peers.Kept(), peers.Journal()
    assert peers.run(peers.crashing(source(tmp_path, kept)))
    assert kept.position == {}
    peers.run(peers.while_running(source(tmp_path, kept), journal, lambda: kept.position == {"cursor": 2}))
    assert titles(journal) == ["order 1", "order 2"]


def test_rows_of_equal_cursor_are_never_cut_apart(tmp_path: Path, database: sqlite3.Connection) -> None:
    insert(database, 1, 2, 3, at="2026-11-22 13:00:00")
    insert(database, 4, 5, at="2026-11-22 13:00:01")
    query = "SELECT * FROM orders WHERE at > :cursor ORDER BY at"
    found = peers.run(source(tmp_path, peers.Kept(), query, cursor="at", start="", page_rows=2).page({}))
    assert (found.batches[0].rows.num_rows, found.position, found.more) == (3, {"cursor": "2026-11-22 13:00:00"}, True)


def test_late_rows_and_changed_rows_are_found_and_the_rest_not_repeated(tmp_path: Path, database: sqlite3.Connection) -> None:
    query = "SELECT * FROM orders WHERE at > :cursor ORDER BY at"
    kept, journal = peers.Kept(), peers.Journal()

    def run(count: int) -> None:
        late = source(tmp_path, kept, query, cursor="at", start="2026-01-01 00:00:00", late=60, page_rows=2)
        peers.run(peers.while_running(late, journal, lambda: len(titles(journal)) >= count and kept.saves >= len(journal.batches)))
        with pytest.raises(TimeoutError):
            peers.run(peers.while_running(late, journal, lambda: len(titles(journal)) > count, 0.15))

    insert(database, 1, at="2026-11-22 12:00:00")
    insert(database, *range(2, 8), at="2026-11-22 13:00:00")
    run(7)
    insert(database, 8, at="2026-11-22 12:59:30")
    database.execute("UPDATE orders SET title = 'order 2 paid' WHERE id = 2")
    run(9)
    assert set(titles(journal)) == {f"order {i}" for i in range(1, 9)} | {"order 2 paid"}
    insert(database, 9, at="2026-11-22 12:58:00")
    run(9)


def test_the_same_row_is_the_same_event(tmp_path: Path, database: sqlite3.Connection) -> None:
    from ninefold.sources.webhook import Reader

    insert(database, 1)
    payloads = [peers.run(source(tmp_path, peers.Kept(), time="at").page({})).batches[0].rows.column("payload")[0].as_py() for _ in "ab"]
    first, again = (Reader("shop").to_event(payload, received) for received, payload in enumerate(payloads, 1795353440 * 10**9))
    assert first["id"] == again["id"]
    assert first["time"] == parse("2026-11-22T13:00:00Z")


def test_rows_as_metrics_and_as_logs(tmp_path: Path, database: sqlite3.Connection) -> None:
    insert(database, 1, 2)
    by_status = "SELECT status, count(*) AS orders, sum(amount) AS revenue FROM orders GROUP BY status"
    kept, journal = peers.Kept(), peers.Journal()
    metrics = source(tmp_path, kept, by_status, cursor="", shape="metrics", prefix="shop.", entity="service:shop")
    peers.run(peers.while_running(metrics, journal, lambda: len(journal.rows("metric")) >= 4))
    assert {(row["name"], dict(row["attributes"])["status"], row["entity"]) for row in journal.rows("series")} == {
        ("shop.orders", "new", "service:shop"), ("shop.revenue", "new", "service:shop"),
    }  # fmt: skip
    assert len(journal.rows("series")) == 2
    assert [row["value"] for row in journal.rows("metric")][:2] == [2.0, 1.5]
    assert kept.position == {}
    logs = source(
        tmp_path,
        kept,
        "SELECT id, at AS time, 'error' AS level, title AS message FROM orders WHERE id > :cursor ORDER BY id",
        shape="logs",
    )
    (row, _) = peers.run(logs.page({})).batches[0].rows.to_pylist()
    assert (row["body"], row["severity_number"], row["time"].value) == ("order 1", 17, parse("2026-11-22T13:00:00Z"))


def test_a_long_text_is_kept_whole() -> None:
    config = RowsConfig(shape="logs")
    text = "x" * 20_000
    (batch,) = Rows(config, "s").batches([{"message": text, "level": "error", "host": "a"}], 7)
    (row,) = batch.rows.to_pylist()
    assert row["body"] == text
    assert "message" not in dict(row["attributes"])


def test_mistakes_in_the_settings_are_named(tmp_path: Path, database: sqlite3.Connection) -> None:
    insert(database, 1, 2)
    with pytest.raises(ConfigError, match="cursor"):
        source(tmp_path, peers.Kept(), "SELECT 1", cursor="id")
    with pytest.raises(ConfigError, match="ORDER BY id"):
        peers.run(source(tmp_path, peers.Kept(), "SELECT * FROM orders WHERE id > :cursor ORDER BY id DESC").page({}))
    with pytest.raises(ConfigError, match="no column 'nr'"):
        peers.run(source(tmp_path, peers.Kept(), cursor="nr").page({}))
    with pytest.raises(ConfigError, match="driver"):
        peers.run(source(tmp_path, peers.Kept(), url="nosuch://x").page({}))


def test_a_query_may_neither_write_nor_run_for_ever(tmp_path: Path, database: sqlite3.Connection) -> None:
    with pytest.raises((Refused, Unavailable), match=r"readonly|read-only"):
        peers.run(source(tmp_path, peers.Kept(), "DELETE FROM orders WHERE id > :cursor RETURNING id").page({}))
    endless = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT max(id) AS id FROM n WHERE id > :cursor"
    with pytest.raises(Unavailable, match="interrupted"):
        peers.run(source(tmp_path, peers.Kept(), endless, timeout_s=0.2).page({}))


def test_a_failing_database_is_asked_again_and_caught_up_with(tmp_path: Path) -> None:
    kept, journal = peers.Kept(), peers.Journal()

    async def both() -> None:
        shop = source(tmp_path, kept, longest_wait_s=0.1)
        task = asyncio.create_task(shop.run(peers.emit_of(shop, journal)))
        await asyncio.sleep(0.1)
        connection = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
        connection.execute("CREATE TABLE orders (id INTEGER, at TEXT, title TEXT, amount REAL)")
        insert(connection, 1)
        connection.close()
        await peers.true(lambda: bool(journal.batches))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    peers.run(both())
    assert titles(journal) == ["order 1"]


def test_check_shows_rows_and_keeps_no_position(tmp_path: Path, database: sqlite3.Connection) -> None:
    insert(database, *range(1, 31))
    kept = peers.Kept()
    reached = peers.run(source(tmp_path, kept, page_rows=10).check())
    assert "10 records and has more" in reached.said
    assert reached.batches[0].rows.num_rows == 5
    assert kept.position == {}


@pytest.mark.real
def test_postgresql_with_times_numbers_and_limits(tmp_path_factory: pytest.TempPathFactory) -> None:
    with peers.postgresql(tmp_path_factory.mktemp("sql")) as address:
        with psycopg.connect(f"postgresql://{address}", autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (at timestamptz, title text, amount numeric(9,2), tags jsonb)")
            start = datetime(2026, 11, 22, 13, tzinfo=UTC)
            for i in range(5):
                connection.execute("INSERT INTO orders VALUES (%s, %s, 1.50, '[\"a\"]')", (start + timedelta(seconds=i), f"order {i}"))
        query = "SELECT * FROM orders WHERE at > :cursor ORDER BY at"
        kept, journal = peers.Kept(), peers.Journal()

        def orders(query: str = query, **more: Any) -> Sql:
            settings = {"url": f"postgresql+psycopg://{address}", "query": query, "every_s": 0.05, "late": 2} | more
            return Sql("shop", Sql.Config(**{"cursor": "at", "start": "2026-01-01", **settings}), kept.lent())

        peers.run(
            peers.while_running(orders(page_rows=2), journal, lambda: len(titles(journal)) >= 5 and kept.saves >= len(journal.batches))
        )
        assert titles(journal) == [f"order {i}" for i in range(5)]
        assert json.loads(journal.rows("raw")[0]["payload"])["amount"] == 1.5
        assert kept.position["cursor"][0] == "datetime"
        with pytest.raises(TimeoutError):
            peers.run(peers.while_running(orders(), journal, lambda: len(titles(journal)) > 5, 0.3))
        with pytest.raises(Refused):
            peers.run(orders("DELETE FROM orders WHERE at > :cursor RETURNING at").page({}))
        with pytest.raises((Refused, Unavailable), match="timeout"):
            peers.run(orders("SELECT pg_sleep(5), now() AS at WHERE now() > :cursor", timeout_s=0.2).page({}))
    with pytest.raises(Unavailable):
        peers.run(orders().page({}))


@pytest.mark.parametrize(
    "value", [b"\x00\xff", UUID(int=7), Decimal("1.5"), date(2026, 11, 22), datetime(2026, 11, 22, 1), clock_time(13), "a"]
)
def test_a_cursor_of_any_kind_is_kept_as_json(value: Any) -> None:
    assert _unpacked(json.loads(json.dumps(_packed(value)))) == value


def test_a_cursor_of_bytes_goes_on_and_one_of_another_kind_is_named(tmp_path: Path, database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE v (v BLOB)")
    database.executemany("INSERT INTO v VALUES (?)", [(b"\x01",), (b"\xff",)])
    rows = source(tmp_path, peers.Kept(), "SELECT v FROM v WHERE v > :cursor ORDER BY v", cursor="v", start="")
    position = json.loads(json.dumps(peers.run(rows.page({})).position))
    assert peers.run(rows.page(position)).batches == []
    with pytest.raises(ConfigError, match="list cannot be a cursor"):
        rows._keepable([1])


def test_texts_are_ordered_as_the_database_says(tmp_path: Path, database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE n (n TEXT COLLATE NOCASE)")
    database.executemany("INSERT INTO n VALUES (?)", [("a",), ("B",), ("b",), ("c",), ("D",)])
    names = source(tmp_path, peers.Kept(), "SELECT n FROM n WHERE n > :cursor ORDER BY n", cursor="n", start="", page_rows=2)
    first = peers.run(names.page({}))
    assert (first.batches[0].rows.num_rows, first.more) == (3, True), "B and b are one value"
    rest = peers.run(names.page(first.position))
    assert (rest.batches[0].rows.num_rows, rest.position) == (2, {"cursor": "D"})


def test_an_address_that_cannot_be_read_shows_no_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="percent-encode") as caught:
        peers.run(source(tmp_path, peers.Kept(), url="postgresql://u:se:cr/et@db:x/y").page({}))
    assert "cr" not in str(caught.value).replace("percent", "").replace("encode", "")
    assert caught.value.__cause__ is None
