"""People's SQL may read our tables, and nothing else."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, NinefoldError, Refused
from ninefold.model.signal import batch_of
from ninefold.store import readonly
from ninefold.store.telemetry import Telemetry

TABLES = ("log", "metric")
ALLOWED = [
    "SELECT 1",
    "select count() from log;",
    "-- a comment ; with a semicolon\nSELECT /* drop table log; */ body FROM log",
    "WITH 1 AS a, b AS (SELECT 2 AS c) SELECT a, c FROM b",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t",
    "FROM log SELECT body",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT attributes['k'], mapKeys(attributes), l.body FROM event AS l FINAL WHERE has(mapKeys(attributes), 'k')",
    "SELECT entity, countIf(body LIKE '%;%'), quantiles(0.5, 0.99)(severity_number), uniqExactIf(body, 1) FROM log GROUP BY ALL",
    "SELECT sum(value) OVER (PARTITION BY series ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM metric",
    "SELECT * EXCEPT (body) REPLACE (upper(entity) AS entity) FROM log ORDER BY time DESC NULLS LAST LIMIT 1 BY entity LIMIT 5",
    "SELECT m.value FROM metric m LEFT ANY JOIN metric n ON m.series = n.series AND m.time = n.time",
    "SELECT body FROM log WHERE entity IN (SELECT entity FROM log) AND time > now() - INTERVAL 1 DAY AND NOT EXISTS (SELECT 1 FROM span)",
    "SELECT toStartOfInterval(time, INTERVAL 5 MINUTE) AS t, CASE WHEN 1 THEN 'a' ELSE 'b' END, CAST(1 AS String), 2::UInt8 FROM log",
    "SELECT arrayMap(x -> x + 1, [1, 2]), (1, 'a').2, tuple(1), DATE '2026-01-01', extract(year FROM now())",
    'SELECT \'settings; into outfile\', "settings" FROM (SELECT 1 AS "settings")',
    "SELECT number FROM numbers(3)",
    "SHOW TABLES",
    "DESCRIBE TABLE log",
    "SHOW CREATE TABLE metric",
    "EXPLAIN SELECT count() FROM log",
    "EXPLAIN indexes = 1, actions = 1 SELECT count() FROM log",
]
REFUSED = [
    "DROP TABLE log",
    "INSERT INTO log (body) VALUES ('x')",
    "ALTER TABLE log DELETE WHERE 1",
    "CREATE TABLE x (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE x (a Int8)",
    "SET max_threads = 1",
    "USE system",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "BACKUP TABLE log TO File('/tmp/x')",
    "ATTACH TABLE x FROM '/tmp'",
    "EXPLAIN INSERT INTO log (body) VALUES ('x')",
    "EXPLAIN TABLE OVERRIDE mysql('a', 'b', 'c')",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE log",
    "SELECT 1 INTO OUTFILE '/tmp/ninefold-must-not-exist'",
    "SELECT 1 FORMAT CSV",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = 0)",
    "SELECT 1 PARALLEL WITH SELECT 2",
    "SELECT * FROM system.tables",
    'SELECT * FROM "system".`tables`',
    "SELECT * FROM information_schema.tables",
    "SELECT 1 IN system.one",
    "SELECT in(1, system.one)",
    "WITH system.one AS t SELECT 0 IN t",
    "WITH x AS (SELECT * FROM system.one) SELECT * FROM x",
    "SELECT (SELECT count() FROM system.parts)",
    "SELECT 1 FROM log ORDER BY body WITH FILL FROM (SELECT max(number) FROM system.numbers)",
    "SELECT * APPLY(x -> x IN (SELECT 1 FROM system.one)) FROM log",
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM `file`('/etc/passwd', 'LineAsString')",
    "DESCRIBE TABLE file('/etc/passwd', 'LineAsString')",
    "DESCRIBE system.tables",
    "SHOW CREATE TABLE system.tables",
    "SHOW TABLES FROM system",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM url('http://127.0.0.1:9/', 'CSV', 'a String')",
    "SELECT * FROM s3('http://127.0.0.1:9/b/k', 'CSV')",
    "SELECT * FROM remote('127.0.0.1', 'system', 'one')",
    "SELECT * FROM remoteSecure('127.0.0.1', 'system', 'one')",
    "SELECT * FROM cluster('default', 'system', 'one')",
    "SELECT * FROM executable('x.sh', 'CSV', 'a String')",
    "SELECT * FROM input('a String')",
    "SELECT * FROM merge('system', '.*')",
    "SELECT * FROM mysql('127.0.0.1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM sqlite('/tmp/x.db', 't')",
    "SELECT * FROM python(store)",
    "SELECT * FROM Python(store)",
    "SELECT * FROM dictionary('x')",
    "SELECT * FROM view(SELECT * FROM system.one)",
    "SELECT * FROM loop(system.one)",
    "SELECT * FROM generateRandom('a String')",
    "SELECT file('/etc/passwd')",
    "SELECT sleep(3)",
    "SELECT sleepEachRow(1) FROM numbers(100)",
    "SELECT dictGet('x', 'y', 1)",
    "SELECT joinGet('system.one', 'dummy', 0)",
    "SELECT hasColumnInTable('system', 'one', 'dummy')",
    "SELECT getServerSetting('max_server_memory_usage')",
    "SELECT hostName()",
    "SELECT no_such_function(1)",
    "SELECT fileIf('/etc/passwd', 1)",
    "SELECT x'\\' ; DROP TABLE log; --'",
]  # fmt: skip
UNREADABLE = ["", "  -- nothing\n", "SELECT 'open", "SELECT /* open", "SELECT $$heredoc$$", "SELECT ‘x’", "SELECT 1 # x", "SELECT `a\0b`"]


@pytest.fixture
def filled(store: Telemetry) -> Telemetry:
    at = now()
    lines = [{"time": at + i, "entity": f"host:{i % 2}", "body": f"line; {i}", "attributes": {"k": str(i)}} for i in range(20)]
    store.append(
        [batch_of("log", "s", at, lines), batch_of("metric", "s", at, [{"series": 2**60, "time": at, "value": float("nan")}])], "t"
    )
    return store


def test_reading_is_allowed(filled: Telemetry) -> None:
    for sql in ALLOWED:
        try:
            filled.select(sql)
        except NinefoldError as error:
            pytest.fail(f"{sql}: {error}")


def test_everything_else_is_refused_and_changes_nothing(filled: Telemetry) -> None:
    before = filled.query("SELECT name, total_rows FROM system.tables WHERE database = currentDatabase() ORDER BY name").to_pylist()
    for sql in REFUSED:
        with pytest.raises((Refused, BadData)) as caught:
            filled.select(sql)
        assert isinstance(caught.value, Refused) or "syntax" in str(caught.value).lower(), f"{sql}: {caught.value}"
    assert filled.query("SELECT name, total_rows FROM system.tables WHERE database = currentDatabase() ORDER BY name").to_pylist() == before


def test_what_cannot_be_read_says_where(filled: Telemetry) -> None:
    for sql in UNREADABLE:
        with pytest.raises(BadData):
            filled.select(sql)
    with pytest.raises(BadData, match="nothing_like_it"):
        filled.select("SELECT nothing_like_it FROM log")
    with pytest.raises(BadData, match=r"(?i)syntax error"):
        filled.select("SELECT FROM WHERE")


def test_the_second_fence_holds_alone(filled: Telemetry) -> None:
    """The engine's own read-only mode, without our reading of the statement before it."""
    for sql in ("SELECT * FROM url('http://127.0.0.1:9/', 'CSV', 'a String')", "SELECT * FROM file('/etc/passwd', 'LineAsString')"):
        with pytest.raises(BadData, match=r"(?i)readonly"):
            filled.query(f"{sql} SETTINGS readonly = 1")


def test_answers_are_json_values_with_types(filled: Telemetry) -> None:
    columns, rows, truncated = filled.select(
        "SELECT time, series, value, count() OVER () AS n, [1, 2] AS a, map('k', 1) AS m, NULL AS x FROM metric"
    )
    assert [column["type"] for column in columns][:4] == ["DateTime64(9, 'UTC')", "UInt64", "Float64", "UInt64"]
    (row,) = rows
    assert row[0].endswith("Z")
    assert row[1:] == [str(2**60), None, 1, [1, 2], {"k": 1}, None], "a 64-bit id is text, a small count a number, NaN is null"
    assert not truncated


def test_rows_beyond_the_limit_are_cut_and_it_says_so(filled: Telemetry) -> None:
    _, rows, truncated = filled.select("SELECT body FROM log ORDER BY time", limit=7)
    assert len(rows) == 7
    assert truncated
    assert not filled.select("SELECT body FROM log", limit=20).truncated


@pytest.mark.parametrize(
    ("sql", "limits", "why"),
    [
        ("SELECT sum(number) FROM numbers(100000000000000)", {"timeout_s": 0.5}, "takes too long"),
        ("SELECT length(groupArray(toString(number))) FROM numbers(100000000)", {"memory_bytes": 50 << 20, "timeout_s": 30}, "memory"),
        ("SELECT repeat(toString(number), 50000) FROM numbers(1000)", {"timeout_s": 30}, "too much data"),
    ],
)
def test_limits_are_kept_and_the_next_query_is_right(filled: Telemetry, sql: str, limits: dict[str, float], why: str) -> None:
    started = time.monotonic()
    with pytest.raises(Refused, match=why):
        filled.select(sql, **limits)  # type: ignore[arg-type]
    assert time.monotonic() - started < 20
    assert filled.select("SELECT count() FROM log").rows == [[20]]


def test_export_as_arrow_and_csv(filled: Telemetry) -> None:
    table = pa.ipc.open_stream(filled.export("SELECT time, body FROM log ORDER BY time", "arrow")).read_all()
    assert table.column("body").to_pylist() == [f"line; {i}" for i in range(20)]
    rows = list(csv.reader(io.StringIO(filled.export("SELECT body, entity FROM log ORDER BY time", "csv", limit=2).decode())))
    assert rows == [["body", "entity"], ["line; 0", "host:0"], ["line; 1", "host:1"]]


@given(st.text(max_size=60) | st.text(alphabet="'\"`\\;-/*#$ \n\tx0123()", max_size=30))
def test_no_text_ends_the_statement_early(text: str) -> None:
    try:
        statement = readonly.read(f"SELECT {text}", "ninefold", TABLES)
    except (BadData, Refused):
        return
    assert ";" not in statement.text
    assert statement.select == statement.text


def _literal(value: str, escape: Callable[[str], str]) -> str:
    return "'" + "".join(escape(c) if c in "'\\" else c for c in value) + "'"


def test_quoted_values_survive_the_reading(filled: Telemetry) -> None:
    values = ["a;b", "a\\;b", ";;", "it's; fine", "\\", "\\x3B;", "ä;“", "--;", "/*;*/", '";`']
    for escape in (lambda c: "\\" + c, lambda c: {"'": "''", "\\": "\\\\"}[c]):
        sql = "SELECT " + ", ".join(_literal(value, escape) for value in values)
        assert filled.select(sql).rows == [values]
