"""Files with what should not be in them: it goes to quarantine, the rest is kept, and no place is met for ever."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData
from ninefold.model.signal import Decoded
from ninefold.plugin import Asked, Lent
from ninefold.sources import replay
from ninefold.sources.files import FileConfig, FileUpload, accept, parser_of, read_file
from ninefold.sources.parquet import Parquet
from ninefold.sources.postgresql_log import PostgresqlLog
from ninefold.sources.tables import MetricsParser, whole_rows
from ninefold.sources.tailing import Tail
from ninefold.sources.text import LineClock

RECEIVED = parse("2026-11-22T15:00:00Z")
DEEP = b"[" * 300 + b"]" * 300


def rows(found: list[Decoded], signal: str) -> list[dict[str, Any]]:
    return [row for part in found for batch in part.batches if batch.signal == signal for row in batch.rows.to_pylist()]


def followed(path: Path, content: bytes, format_: Any) -> list[Decoded]:
    """What following a file gives; it must come to its end."""
    path.write_bytes(content)
    tail = Tail(path, path.open("rb"), "file", lambda: parser_of(format_, path, "", "file"))
    found: list[Decoded] = []
    for _ in range(100):
        decoded, size = tail.next(True)
        found += [decoded] if decoded else []
        tail.advance(size)
    assert tail.offset == len(content)
    Tail(path, path.open("rb"), "file", lambda: parser_of(format_, path, "", "file"), tail.offset).close()
    tail.close()
    return found


def upload(body: bytes, format_: str, **more: str) -> Decoded:
    (door,) = FileUpload("upload", FileUpload.Config(), Lent()).doors()
    return door.accept(Asked("file", RECEIVED, body, query={"format": format_} | more))


def test_an_upload_says_which_zone_its_times_are_of() -> None:
    for format_, content in (
        ("csv", b"time,message\n2026-11-22 14:30:00,a\n"),
        ("jsonl", b'{"time":"2026-11-22T14:30:00","message":"a"}\n'),
        ("log", b"2026-11-22 14:30:00 a\n"),
    ):
        for more, expected in (({}, "2026-11-22T14:30:00Z"), ({"timezone": "Europe/Berlin"}, "2026-11-22T13:30:00Z")):
            (row,) = rows([upload(content, format_, **more)], "log")
            assert row["time"].value == parse(expected), format_
    with pytest.raises(BadData, match="'Berlin' is no name of the time zone database"):
        upload(b"a\n", "log", timezone="Berlin")


def test_a_record_nested_too_deeply_is_set_aside_alone(tmp_path: Path) -> None:
    lines = b'{"message":"a"}\n{"message":"b","x":' + DEEP + b'}\n{"message":"c"}\n'
    for found in (followed(tmp_path / "f", lines, "jsonl"), [upload(lines, "jsonl")]):
        assert [row["body"] for row in rows(found, "log")] == ["a", "c"]
        (bad,) = rows(found, "quarantine")
        assert bad["payload"] == lines.split(b"\n")[1]
        assert "nested" in bad["reason"] or "Recursion" in bad["reason"]


def test_json_in_a_text_that_is_nested_too_deeply_stays_text(tmp_path: Path) -> None:
    line = orjson.dumps({"message": "a", "x": DEEP.decode()}) + b"\n"
    (row,) = rows(followed(tmp_path / "f", line, "jsonl"), "log")
    assert dict(row["attributes"])["x"] == DEEP.decode()
    (row,) = rows([upload(b"message,x\na," + DEEP + b"\n", "csv")], "log")
    assert dict(row["attributes"])["x"] == DEEP.decode()


def test_a_row_of_several_mebibytes_is_a_row(tmp_path: Path) -> None:
    long = "x" * (3 << 20)
    found = followed(tmp_path / "f", f"message,n\na,1\n{long},2\nc,3\n".encode(), "csv")
    assert [row["body"] for row in rows(found, "log")] == ["a", long, "c"]


@pytest.mark.parametrize("format_", ["csv", "metrics"])
@pytest.mark.parametrize("content", [b"time,a\r1,2\r3,4\r", b"a" * 140_000 + b",b\n1,2\n", b"a,a\n1,2\n"])
def test_a_file_without_a_header_is_set_aside_to_its_end(tmp_path: Path, content: bytes, format_: Any) -> None:
    found = followed(tmp_path / "f", content + b"5,6\n" * 300_000, format_)
    assert not rows(found, "log") + rows(found, "metric")
    assert b"".join(row["payload"] for row in rows(found, "quarantine")).startswith(content)
    with pytest.raises(BadData, match="header"):
        upload(content, format_)


def test_metrics_without_a_column_of_numbers_are_refused(tmp_path: Path) -> None:
    content = b"time,host\n2026-11-22T10:00:00Z,a\n"
    assert "column of numbers" in rows(followed(tmp_path / "f", content, "metrics"), "quarantine")[0]["reason"]
    with pytest.raises(BadData, match="column of numbers"):
        upload(content, "metrics")
    with pytest.raises(BadData, match="column of numbers"):
        upload(b"time\n2026-11-22T10:00:00Z\n", "metrics")


def test_a_column_is_what_its_first_cells_say_however_late_they_come() -> None:
    parser = MetricsParser("f", "f", "", "file", "")
    head = b"time,host,cpu,load\n"
    blocks = [b"1795000000,,,1\n", b"1795000001,a,,2\n", b"1795000002,b,0.5,NaN\n", b"1795000003,b,x,3\n"]
    found = [parser.parse(head * (i == 0) + block, 0, RECEIVED) for i, block in enumerate(blocks)]
    series = {row["series"]: (row["name"], dict(row["attributes"])) for row in rows(found, "series")}
    points = [(*series[row["series"]], row["value"]) for row in rows(found, "metric")]
    assert [point for point in points if point[0] == "cpu"] == [("cpu", {"host": "b"}, 0.5)]
    assert [point[:2] for point in points if point[0] == "load"] == [("load", {}), ("load", {"host": "a"}), ("load", {"host": "b"})]
    assert len(rows(found, "quarantine")) == 1, "cpu is a value by now, and x is none"
    only_nan = MetricsParser("f", "f", "", "file", "").parse(b"time,cpu\n1795000000,NaN\n", 0, RECEIVED)
    assert len(rows([only_nan], "metric")) == 1


def test_a_lone_quote_takes_no_time() -> None:
    started = time.thread_time()
    for size in (whole_rows(b'"' + b"a,b\n" * 500_000), PostgresqlLog("f", "f", "", "s", "").complete(b'"' + b"a,b\n" * 500_000, False)):
        assert size == 0
    assert time.thread_time() - started < 2
    assert whole_rows(b'a,"b\nc"\nd,"e\n') == 8


def test_a_defect_does_not_stop_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trip(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("ninefold.sources.tables._Parser._log_row", trip)
    (bad,) = rows(followed(tmp_path / "f", b'{"a":1}\n', "jsonl"), "quarantine")
    assert bad["payload"] == b'{"a":1}\n'
    assert "a defect" in bad["reason"]


def test_parquet_values_that_json_has_not(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    table = {
        "time": pa.array([1795000000123456789], pa.timestamp("ns")), "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        "message": ["x"], "bytes": [b"\xff"],
    }  # fmt: skip
    pq.write_table(pa.table(table), path)
    (row,) = rows(list(read_file(path, "parquet", "file", "", RECEIVED)), "log")
    assert (row["body"], row["time"].value) == ("x", 1795000000123456789)


def test_text_in_parquet_that_is_not_utf8_is_kept_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"message": pa.array([b"caf\xe9"]).view(pa.string())}), path)
    (row,) = rows(list(read_file(path, "parquet", "file", "", RECEIVED)), "log")
    assert row["body"] == "caf\ufffd"


def test_damage_in_parquet_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"message": ["x"]}), path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with contextlib.suppress(BadData):
            list(read_file(path, "parquet", "file", "", RECEIVED))
    with pytest.raises(FileNotFoundError):
        Parquet(tmp_path / "none", False, "", "file", "")


@pytest.mark.parametrize(("format_", "payload"), [("batch.log", b"{}"), ("rows.log", b'[{"time":1795000000000000000000}]')])
def test_what_is_damaged_in_quarantine_stays_there(format_: str, payload: bytes) -> None:
    table = pa.table({"source": ["s"], "signal": ["log"], "format": [format_], "payload": [payload]})
    (batch,) = replay.batches(table, RECEIVED)
    assert batch.signal == "quarantine"


def test_times_without_a_zone_are_of_the_configured_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    berlin, at = ZoneInfo("Europe/Berlin"), parse("2026-11-22T10:00:00Z")
    clock = LineClock(berlin)
    for line in (
        "2026-11-22 11:00:00 x", "2026-11-22T10:00:00Z x", "2026-11-22T12:00:00+02:00 x", "Nov 22 11:00:00 h x", "2026/11/22 11:00:00 x",
        "[Sun Nov 22 11:00:00 2026] x", "[1795341600] x", '- - - [22/Nov/2026:10:00:00 +0000] "GET /"', "11:00:00.0 x",
    ):  # fmt: skip
        assert clock.read([line], RECEIVED) == [at], line
    midnight = parse("2026-11-22T23:30:00Z")  # 0:30 of the next day in Berlin
    assert LineClock(berlin).read(["00:29:59.0 x"], midnight) == [midnight - 1_000_000_000]
    summer = LineClock(berlin).read(["2026-07-01 12:00:00 x"], RECEIVED)
    assert summer == [parse("2026-07-01T10:00:00Z")]
    for format_, content in (
        ("csv", b"time,message\n2026-11-22 11:00:00,x\n"), ("jsonl", b'{"time":"2026-11-22T11:00:00","message":"x"}\n'),
        ("csv", b"time,message\n2026-11-22 11:00:00+01:00,x\n"), ("metrics", b"time,cpu\n2026-11-22 11:00:00,1\n"),
    ):  # fmt: skip
        found = [parser_of(format_, tmp_path, "", "file", "", berlin).parse(content, 0, RECEIVED)]
        (row,) = rows(found, "metric" if format_ == "metrics" else "log")
        assert row["time"].value == at, content
    assert rows([accept(b"2026-11-22 10:00:00 x\n", "log", "", "file", RECEIVED)], "log")[0]["time"].value == at
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert LineClock(None).read(["2026-11-22 19:00:00.5 x"], RECEIVED) == [at + 500_000_000]
    finally:
        monkeypatch.undo()
        time.tzset()
    with pytest.raises(ValidationError, match="time zone database"):
        FileConfig.model_validate({"path": "x", "timezone": "Mars/Olympus"})
