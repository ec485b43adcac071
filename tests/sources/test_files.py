"""Files: every format read to its end and followed as it grows."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import io
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, Unavailable
from ninefold.model.signal import Batch, Decoded
from ninefold.plugin import Lent
from ninefold.sources import files
from ninefold.sources.files import FileConfig, Files, read_file
from ninefold.sources.text import LineClock, TextParser

RECEIVED = parse("2026-11-22T15:00:00Z")


def rows(decoded: Sequence[Decoded], signal: str) -> list[dict[str, Any]]:
    return [row for part in decoded for batch in part.batches if batch.signal == signal for row in batch.rows.to_pylist()]


def read(path: Path, format_: Any, mapping: str = "") -> list[Decoded]:
    return list(read_file(path, format_, "file", mapping, RECEIVED))


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def ns(row: dict[str, Any]) -> int:
    return int(row["time"].value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026-11-22 13:39:53.689 UTC [15587] LOG:  x", "2026-11-22T13:39:53.689Z"),
        ("2026-11-22T13:39:53+02:00 host x", "2026-11-22T11:39:53Z"),
        ("[2026-11-22 13:39:53,123] ERROR x", "2026-11-22T13:39:53.123Z"),
        ("Nov 22 13:39:53 vm sshd[1]: x", "2026-11-22T13:39:53Z"),
        ("<34>Dec  3 13:39:53 vm su: x", "2025-12-03T13:39:53Z"),
        ('127.0.0.1 - - [22/Nov/2026:13:03:48 +0100] "GET / HTTP/1.1" 200 6', "2026-11-22T12:03:48Z"),
        ("[Sun Nov 22 13:03:48.123456 2026] [error] x", "2026-11-22T13:03:48.123456Z"),
        ("2026/11/22 13:03:48 [error] 1#1: x", "2026-11-22T13:03:48Z"),
        ("26/11/22 13:03:48 INFO x", "2026-11-22T13:03:48Z"),
        ("[1795354788] SERVICE ALERT: x", "2026-11-22T13:39:48Z"),
        ("13:03:48.327 INFO x", "2026-11-22T13:03:48.327Z"),
        ("23:03:48.327 INFO x", "2026-11-21T23:03:48.327Z"),
        ("no time at all", "2026-11-22T15:00:00Z"),
        ("2026-99-99 00:00:00 x", "2026-11-22T15:00:00Z"),
    ],
)
def test_times_at_the_head_of_a_line(line: str, expected: str) -> None:
    assert LineClock().read([line], RECEIVED) == [parse(expected)]


def test_a_line_without_a_time_has_the_one_before_it() -> None:
    assert LineClock().read(["2026-11-22 10:00:00 a", "b"], RECEIVED) == [parse("2026-11-22T10:00:00Z")] * 2


def test_log_text_splits_at_newlines_only_and_joins_stack_traces(tmp_path: Path) -> None:
    text = (
        "2026-11-22 10:00:00 ERROR boom\u2028 still the same line\n"
        "java.lang.IllegalStateException: x\n\tat a.b(C.java:1)\n\nCaused by: y\r\n\t... 3 more\n"
        "2026-11-22 10:00:01 INFO next\r\nlast without newline"
    )
    (decoded,) = [*read(written(tmp_path, text), "log")][:1]
    found = [row for part in read(written(tmp_path, text), "log") for row in rows([part], "log")]
    assert [row["body"] for row in found] == [
        "2026-11-22 10:00:00 ERROR boom\u2028 still the same line",
        "java.lang.IllegalStateException: x\n\tat a.b(C.java:1)\nCaused by: y\n\t... 3 more",
        "2026-11-22 10:00:01 INFO next",
        "last without newline",
    ]
    assert dict(found[0]["attributes"]) == {"log.file.name": "file", "log.file.path": str(tmp_path / "file")}
    assert decoded.rejected == 0


def test_captured_log_files_lose_no_line(data: Path) -> None:
    for name, first_time in (
        ("postgresql/sample.log", "2026-11-22T13:39:53.689Z"), ("nginx/access.log", "2026-11-22T13:03:48Z"),
        ("nginx/nginx.err", "2026-11-22T13:03:48Z"), ("nagios/nagios.log", "2026-11-22T13:35:15Z"),
    ):  # fmt: skip
        path = data / "payloads" / name
        found = rows(read(path, "log"), "log")
        text = "\n".join(row["body"] for row in found)
        assert text == "\n".join(line for line in path.read_text().split("\n") if line.strip())
        assert ns(found[0]) == parse(first_time), name
    postgres = rows(read(data / "payloads/postgresql/sample.log", "log"), "log")
    deadlock = next(row for row in postgres if "DETAIL:  Process 15587 waits" in row["body"])
    assert deadlock["body"].count("\n") == 3


def test_bytes_that_are_not_utf8_are_kept_as_far_as_they_go(tmp_path: Path) -> None:
    (row,) = rows(read(written(tmp_path, b"caf\xe9 \xff\n"), "log"), "log")
    assert row["body"] == "caf\ufffd \ufffd"


def test_json_lines_as_log_records(data: Path) -> None:
    path = data / "payloads/postgresql/sample.json"
    found = rows(read(path, "jsonl"), "log")
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [row["body"] for row in found] == [line["message"] for line in lines]
    assert ns(found[0]) == parse("2026-11-22T13:32:44.899Z")
    assert found[0]["severity_text"] == "LOG"
    assert dict(found[0]["attributes"]).items() >= {"dbname": "dbos3", "pid": "6156", "session_id": "6b02eee3.180c"}.items()


def test_json_lines_with_a_mapping_are_raw_rows_and_bad_lines_quarantined(tmp_path: Path) -> None:
    path = written(tmp_path, '{"title": "a"}\nnot json\n[1]\n\n{"title": "b"}')
    decoded = read(path, "jsonl", "orders")
    raw, bad = rows(decoded, "raw"), rows(decoded, "quarantine")
    assert [(row["format"], row["payload"]) for row in raw] == [
        ("webhook:orders", b'{"title": "a"}'),
        ("webhook:orders", b'{"title": "b"}'),
    ]
    assert [(row["where"], row["payload"]) for row in bad] == [("byte 15", b"not json"), ("byte 24", b"[1]")]
    plain = rows(read(path, "jsonl"), "log")
    assert [row["body"] for row in plain] == ['{"title": "a"}', "not json", "[1]", '{"title": "b"}']


def test_csv_rows(tmp_path: Path) -> None:
    path = written(
        tmp_path, 'time,title,note\r\n2026-11-22 10:00:00,a,"x, ""y""\nz"\r\n2026-11-22 10:00:01,b\r\n2026-11-22 10:00:02,c,\r\n'
    )
    decoded = read(path, "csv", "orders")
    assert [orjson.loads(row["payload"]) for row in rows(decoded, "raw")] == [
        {"time": "2026-11-22 10:00:00", "title": "a", "note": 'x, "y"\nz'},
        {"time": "2026-11-22 10:00:02", "title": "c", "note": ""},
    ]
    (bad,) = rows(decoded, "quarantine")
    assert bad["reason"] == "the row has 2 columns where the header has 3"
    assert bad["payload"] == b"2026-11-22 10:00:01,b"
    log = rows(read(path, "csv"), "log")
    assert ns(log[0]) == parse("2026-11-22T10:00:00Z")


def test_a_csv_without_a_usable_header_is_refused(tmp_path: Path) -> None:
    for text in ("a,a\n1,2\n", "\n1,2\n"):
        with pytest.raises(BadData, match="header"):
            read(written(tmp_path, text), "csv")


def test_metrics_one_column_each(tmp_path: Path) -> None:
    path = written(
        tmp_path, "timestamp,pod,cpu,requests_total\n1795000000,p1,0.5,10\n1795000000,p2,,20\n1795000060,p1,oops,11\nnever,p1,1,2\n"
    )
    decoded = read(path, "metrics")
    series = {row["series"]: row for row in rows(decoded, "series")}
    points = [
        (series[row["series"]]["name"], dict(series[row["series"]]["attributes"])["pod"], ns(row) // 10**9, row["value"])
        for row in rows(decoded, "metric")
    ]
    assert sorted(points) == [
        ("cpu", "p1", 1795000000, 0.5), ("requests_total", "p1", 1795000000, 10.0), ("requests_total", "p2", 1795000000, 20.0),
    ]  # fmt: skip
    assert {(row["name"], row["kind"], row["entity"]) for row in series.values()} >= {
        ("cpu", "gauge", "pod:p1"),
        ("requests_total", "counter", "pod:p2"),
    }
    bad = rows(decoded, "quarantine")
    assert [orjson.loads(row["payload"])["timestamp"] for row in bad] == ["1795000060", "never"]


def test_metrics_one_row_each(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "time,name,value,service\n2026-11-22T10:00:00Z,latency,1.5,cart\n2026-11-22T10:00:00Z,latency,NaN,cart\n2026-11-22T10:01:00Z,load,2,\n",
    )
    decoded = read(path, "metrics")
    assert {(row["name"], row["entity"]) for row in rows(decoded, "series")} == {("latency", "service:cart"), ("load", "")}
    assert [row["value"] for row in rows(decoded, "metric")][::2] == [1.5, 2.0]
    with pytest.raises(BadData, match="time"):
        read(written(tmp_path, "when,name,value\n1,a,2\n"), "metrics")


def in_blocks(format_: Any, data: bytes, size: int) -> list[Any]:
    """Bodies and payloads of a file read in blocks of `size` bytes, sorted."""
    parser = files.parser_of(format_, Path("x"), "", "f")
    found, buffer = [], b""
    for start in range(0, len(data) + size, size):
        buffer += data[start : start + size]
        whole = parser.complete(buffer, start >= len(data))
        if whole:
            decoded = parser.parse(buffer[:whole], 0, RECEIVED)
            found += [(row.get("body"), row.get("payload")) for batch in decoded.batches for row in batch.rows.to_pylist()]
            buffer = buffer[whole:]
    return sorted(found, key=str)


@given(st.lists(st.text('ab \t\u2028\r,"{}:1', max_size=30), max_size=30), st.sampled_from(["log", "jsonl"]), st.integers(1, 40))
def test_however_text_is_cut_into_blocks_its_rows_are_the_same(lines: list[str], format_: Any, block: int) -> None:
    data = "\n".join(lines).encode()
    assert in_blocks(format_, data, block) == in_blocks(format_, data, len(data) + 1)


@settings(deadline=None)
@given(st.lists(st.lists(st.text('a \t\n\u2028,"1', max_size=10), min_size=1, max_size=3), max_size=20), st.integers(1, 40))
def test_however_a_csv_is_cut_into_blocks_its_rows_are_the_same(table: list[list[str]], block: int) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["h", "i"])
    writer.writerows(table)
    data = out.getvalue().encode()
    assert in_blocks("csv", data, block) == in_blocks("csv", data, len(data) + 1)
    good = [row for row in table if len(row) == 2]
    assert sum(body is not None for body, _ in in_blocks("csv", data, block)) == len(good)


class Following:
    """A source of files in a running loop, what it delivered, and the position it kept."""

    def __init__(self, config: FileConfig, kept: dict[str, Any] | None = None, fail: int = 0) -> None:
        self.batches: list[Batch] = []
        self.kept = kept if kept is not None else {}
        self._fail = fail
        self.follow = Files("orders", config, Lent(lambda: self.kept))

    async def emit(self, batches: Sequence[Batch], keep: dict[str, Any] | None = None) -> None:
        if self._fail:
            self._fail -= 1
            raise Unavailable("full", 0.01)
        self.batches += batches
        self.kept.update(keep or {})

    def bodies(self) -> list[str]:
        return [row["body"] for batch in self.batches for row in batch.rows.to_pylist()]

    async def until(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not there():
            assert time.monotonic() < deadline, self.bodies()
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def following(config: FileConfig, kept: dict[str, Any] | None = None, fail: int = 0) -> Any:
    one = Following(config, kept, fail)
    task = asyncio.create_task(one.follow.run(one.emit))
    try:
        yield one
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_following_survives_growth_rotation_and_truncation(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    config = FileConfig(path=str(path), poll_s=0.01)

    async def run() -> None:
        async with following(config, fail=2) as one:
            add(path, "one\ntwo\n\tof two\nthr")
            await one.until(lambda: one.bodies() == ["one", "two\n\tof two"])
            add(path, "ee\n")
            await one.until(lambda: one.bodies()[-1] == "three")
            add(path, "four, no newline")
            path.rename(tmp_path / "app.log.1")
            add(path, "five\n")
            await one.until(lambda: one.bodies()[-2:] == ["four, no newline", "five"])
            path.write_text("")
            await one.until(lambda: os.stat(path).st_size == 0)
            await asyncio.sleep(0.05)
            add(path, "six\n")
            await one.until(lambda: one.bodies()[-1] == "six")
            assert one.bodies() == ["one", "two\n\tof two", "three", "four, no newline", "five", "six"]
            assert {batch.source for batch in one.batches} == {"orders"}

    asyncio.run(run())


def test_a_restart_continues_where_the_journal_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    config = FileConfig(path=str(path), format="csv", mapping="orders", poll_s=0.01)
    kept: dict[str, Any] = {}

    def payloads(one: Following) -> list[Any]:
        return [orjson.loads(row["payload"])["n"] for batch in one.batches for row in batch.rows.to_pylist()]

    async def run() -> None:
        add(path, "n,m\n1,a\n2,b\n")
        async with following(config, kept) as one:
            await one.until(lambda: payloads(one) == ["1", "2"])
        assert [place["offset"] for place in kept["places"]] == [12]
        add(path, "3,c\n")
        path.rename(tmp_path / "rows.csv.1")
        add(path, "n,m\n4,d\n")
        async with following(config, kept) as one:
            await one.until(lambda: payloads(one) == ["3", "4"])
        async with following(config, dict(kept)) as one:  # it keeps its place elsewhere
            add(path, "5,e\n")
            await one.until(lambda: payloads(one) == ["5"])
        (tmp_path / "rows.csv.1").unlink()
        path.unlink()
        add(path, "n,m\n6,f\n")
        async with following(config, kept) as one:
            await one.until(lambda: payloads(one) == ["6"])

    asyncio.run(run())


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with following(FileConfig(path=str(tmp_path / "late.log"), poll_s=0.01)) as one:
            await asyncio.sleep(0.05)
            add(tmp_path / "late.log", "here\n")
            await one.until(lambda: one.bodies() == ["here"])
            row = one.batches[0].rows.to_pylist()[0]
            assert row["entity"].startswith("host:")

    asyncio.run(run())


def test_a_record_without_an_end_is_cut_rather_than_kept_in_memory(tmp_path: Path) -> None:
    found = rows(read(written(tmp_path, b"x" * (20 << 20)), "log"), "log")
    assert sum(len(row["body"]) for row in found) == 20 << 20
    assert TextParser("", "", "", "", "").complete(b"abc", False) == 0


def test_long_attributes_are_whole_and_of_too_many_the_rest_is_counted(tmp_path: Path) -> None:
    record = {"message": "m", "long": "x" * 20_000} | {f"a{i}": i + 1 for i in range(300)}
    (row,) = rows(read(written(tmp_path, orjson.dumps(record) + b"\n"), "jsonl"), "log")
    attributes = dict(row["attributes"])
    assert attributes["long"] == "x" * 20_000
    assert attributes["ninefold.attributes_left_out"] == str(302 - 256)
    assert "a253" in attributes
    assert "a254" not in attributes


def bodies_of(one: Following) -> list[str]:
    return sorted(one.bodies())


def test_a_pattern_takes_in_new_files_and_never_a_rotated_one_twice(tmp_path: Path) -> None:
    config = FileConfig(path=str(tmp_path / "app*"), poll_s=0.01)

    async def run() -> None:
        add(tmp_path / "app.log", "one\n")
        async with following(config) as one:
            await one.until(lambda: bodies_of(one) == ["one"])
            add(tmp_path / "app-2.log", "two\n")
            await one.until(lambda: bodies_of(one) == ["one", "two"])
            (tmp_path / "app.log").rename(tmp_path / "app.log.1")
            add(tmp_path / "app.log", "three\n")
            await one.until(lambda: bodies_of(one) == ["one", "three", "two"])
            zipped = gzip.compress((tmp_path / "app.log.1").read_bytes())
            (tmp_path / "app.log.2.gz").write_bytes(zipped)
            (tmp_path / "app.log.1").unlink()
            add(tmp_path / "app.log", "four\n")
            await one.until(lambda: "four" in one.bodies())
            await asyncio.sleep(0.2)
            assert bodies_of(one) == ["four", "one", "three", "two"]

    asyncio.run(run())


def test_what_was_copied_cut_or_compressed_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    config = FileConfig(path=str(path), poll_s=0.01)
    kept: dict[str, Any] = {}

    async def run() -> None:
        add(path, "one\n")
        async with following(config, kept) as one:
            await one.until(lambda: one.bodies() == ["one"])
        add(path, "two, while it was down\n")
        (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        add(path, "three\n")
        async with following(config, kept) as one:
            await one.until(lambda: bodies_of(one) == ["three", "two, while it was down"])
        add(path, "four, copied only\n")
        (tmp_path / "app.log.1").write_bytes(path.read_bytes())
        path.write_text("five, longer than all that was there before it was cut\n")
        async with following(config, kept) as one:
            await one.until(lambda: bodies_of(one) == ["five, longer than all that was there before it was cut", "four, copied only"])

    asyncio.run(run())


def test_a_file_may_be_read_from_its_end_on(tmp_path: Path) -> None:
    add(tmp_path / "a.log", "old\n")
    kept: dict[str, Any] = {}

    async def run() -> None:
        async with following(FileConfig(path=str(tmp_path / "*.log"), start="end", poll_s=0.01), kept) as one:
            await one.until(lambda: bool(kept))
            add(tmp_path / "a.log", "new\n")
            add(tmp_path / "b.log", "other\n")
            await one.until(lambda: bodies_of(one) == ["new", "other"])

    asyncio.run(run())


def test_one_unreadable_file_does_not_stop_the_others(tmp_path: Path) -> None:
    add(tmp_path / "a.csv", "x,x\n1,2\n")
    add(tmp_path / "b.csv", "n\n1\n")

    async def run() -> None:
        async with following(FileConfig(path=str(tmp_path / "*.csv"), format="csv", mapping="orders", poll_s=0.01)) as one:
            await one.until(lambda: len(one.batches) == 2)
            bad, good = sorted(one.batches, key=lambda batch: batch.signal)
            assert bad.rows.to_pylist()[0]["payload"] == b"x,x\n1,2\n"
            assert good.rows.to_pylist()[0]["payload"] == b'{"n":"1"}'

    asyncio.run(run())


def parquet(path: Path, size: int = 2) -> None:
    table = pa.table({
        "time": pa.array([RECEIVED, RECEIVED + 10**9, RECEIVED + 2 * 10**9]).cast(pa.timestamp("ns", "UTC")),
        "service": pa.array(["cart", "cart", "shop"]).dictionary_encode(), "orders": [1, 2, None], "revenue": [0.1, 2.5, 3.0],
    })  # fmt: skip
    pq.write_table(table, path, row_group_size=size)


def test_parquet_as_records_as_log_and_as_metrics(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet(path)
    raw = [orjson.loads(row["payload"]) for row in rows(read(path, "parquet", "orders"), "raw")]
    assert [(row["service"], row.get("orders"), row["revenue"]) for row in raw] == [("cart", 1, 0.1), ("cart", 2, 2.5), ("shop", None, 3.0)]
    log = rows(read(path, "parquet"), "log")
    assert [ns(row) for row in log] == [RECEIVED, RECEIVED + 10**9, RECEIVED + 2 * 10**9]
    assert log[0]["entity"] == "service:cart"
    found = read(path, "metrics")
    series = {row["series"]: (row["name"], row["entity"]) for row in rows(found, "series")}
    assert sorted((*series[row["series"]], ns(row) - RECEIVED, row["value"]) for row in rows(found, "metric")) == [
        ("orders", "service:cart", 0, 1.0), ("orders", "service:cart", 10**9, 2.0),
        ("revenue", "service:cart", 0, 0.1), ("revenue", "service:cart", 10**9, 2.5), ("revenue", "service:shop", 2 * 10**9, 3.0),
    ]  # fmt: skip
    with pytest.raises(BadData, match="not a whole Parquet"):
        read(written(tmp_path, b"PAR1 no"), "parquet")


def test_parquet_files_are_read_once_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    kept: dict[str, Any] = {}
    config = FileConfig(path=str(tmp_path / "*.parquet"), format="parquet", mapping="orders", poll_s=0.01)

    async def run() -> None:
        async with following(config, kept) as one:
            await asyncio.sleep(0.05)
            assert one.batches == []
            path.write_bytes(whole)
            await one.until(lambda: [batch.rows.num_rows for batch in one.batches] == [2, 1])
        async with following(config, kept) as one:
            parquet(tmp_path / "y.parquet", 9)
            await one.until(lambda: [batch.rows.num_rows for batch in one.batches] == [3])
            assert (await one.follow.check()).batches

    asyncio.run(run())
