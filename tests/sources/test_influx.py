"""Line protocol: values, times, escapes, texts, what is refused and how it is told; the fast and the general reading agree."""

from __future__ import annotations

import json
import math
import time
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, TooLarge
from ninefold.model.signal import Decoded
from ninefold.plugin import Answer, Asked, Door, Lent, Strict
from ninefold.sources import influx_line
from ninefold.sources.influx import Influx, InfluxDb

RECEIVED = parse("2026-11-22T15:00:00Z")
TELEGRAF = (
    b"cpu,cpu=cpu-total,host=web-1 usage_user=1.25,usage_idle=98.5,cores=2i 1795354770000000000\n"
    b"mem,host=web-1 used=1753559040i,active=t,slab=12u 1795354770000000000\n"
    b"ping,host=web-1,url=example.org value=-1e-3 1795354770000000000\n"
)
"""In the form in which Telegraf serialises its metrics."""
CLIENT = (
    b'cpu\\ load,host=web\\ 1\\,\\=x msg="a \\"q\\" \\\\ \n b",n=3i,ok=true,usage=1.5 1795354777123456789\n'
    b"temp value=-3.25e-07 1795354777000000000"
)
"""What influxdb-client 1.50 (Python) sent to ``/api/v2/write?org=o&bucket=b&precision=ns``."""


def points(decoded: Decoded, known: dict[int, dict[str, Any]] | None = None) -> list[tuple[str, dict[str, str], int, float]]:
    """Name, attributes, time and value of every point."""
    series = {} if known is None else known
    found = []
    for batch in decoded.batches:
        if batch.signal == "series":
            series |= {row["series"]: row for row in batch.rows.to_pylist()}
        if batch.signal == "metric":
            times = batch.rows.column("time").cast("int64").to_pylist()
            for row, time, value in zip(
                batch.rows.column("series").to_pylist(), times, batch.rows.column("value").to_pylist(), strict=True
            ):
                found.append((series[row]["name"], dict(series[row]["attributes"]), time, value))
    return found


def logs(decoded: Decoded) -> list[dict[str, Any]]:
    return [row for batch in decoded.batches if batch.signal == "log" for row in batch.rows.to_pylist()]


def bad(decoded: Decoded) -> list[dict[str, Any]]:
    return [row for batch in decoded.batches if batch.signal == "quarantine" for row in batch.rows.to_pylist()]


def read(body: bytes, precision: str = "ns") -> Decoded:
    return Influx().parse(body, "influx", RECEIVED, precision)


def test_what_telegraf_sends_value_by_value() -> None:
    decoded = read(TELEGRAF)
    time, host = 1795354770 * 10**9, {"host.name": "web-1"}
    assert points(decoded) == [
        ("cpu_usage_user", {"cpu": "cpu-total", **host}, time, 1.25), ("cpu_usage_idle", {"cpu": "cpu-total", **host}, time, 98.5),
        ("cpu_cores", {"cpu": "cpu-total", **host}, time, 2.0), ("mem_used", host, time, 1753559040.0), ("mem_active", host, time, 1.0),
        ("mem_slab", host, time, 12.0), ("ping", {"url": "example.org", **host}, time, -0.001),
    ]  # fmt: skip
    assert decoded.batches[0].signal == "series", "a series is described before its points"
    assert {row["entity"] for row in decoded.batches[0].rows.to_pylist()} == {"host:web-1"}
    assert (decoded.rejected, decoded.reason) == (0, "")


def test_captured_bytes_of_the_client_library() -> None:
    decoded = read(CLIENT)
    time, host = 1795354777123456789, {"host.name": "web 1,=x"}
    assert sorted(points(decoded)) == [
        ("cpu load_n", host, time, 3.0), ("cpu load_ok", host, time, 1.0), ("cpu load_usage", host, time, 1.5),
        ("temp", {}, 1795354777 * 10**9, -3.25e-07),
    ]  # fmt: skip
    (row,) = logs(decoded)
    assert (row["body"], row["time"].value, row["entity"]) == ('a "q" \\ \n b', time, "host:web 1,=x")
    assert dict(row["attributes"]) == {"event.name": "cpu load", "n": "3", "ok": "1", "usage": "1.5"}
    assert decoded.rejected == 0


def test_a_known_series_is_described_once_until_it_is_forgotten() -> None:
    decoder = Influx()
    first = decoder.parse(TELEGRAF, "influx", RECEIVED)
    series: dict[int, dict[str, Any]] = {}
    before = points(first, series)
    again = decoder.parse(TELEGRAF, "influx", RECEIVED)
    assert [batch.signal for batch in again.batches] == ["metric"]
    assert points(again, series) == before
    decoder.forget(first.batches)
    assert [batch.signal for batch in decoder.parse(TELEGRAF, "influx", RECEIVED).batches] == ["series", "metric"]


SCALES = {"": 1, "n": 1, "u": 10**3, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 6 * 10**10, "h": 36 * 10**11}


@pytest.mark.parametrize(("precision", "factor"), SCALES.items())
def test_precisions(precision: str, factor: int) -> None:
    assert points(read(b"m v=1 500000", precision))[0][2] == 500000 * factor


def test_without_a_timestamp_it_is_the_receipt() -> None:
    assert points(read(b"m v=1\n\nm v=2 1795354770000000000"))[0][2] == RECEIVED
    assert [row["format"] for row in bad(read(b"nonsense", "ms"))] == ["influx:ms"], "what is read again needs its precision"
    with pytest.raises(BadData, match="precision"):
        read(b"m v=1", "fortnight")


def test_escapes() -> None:
    body = b"my\\ m\\,x,ta\\ g=v\\,1\\=2\\ 3,p=C:\\temp fi\\ eld=1,o\\=k=2i 1795354770000000000"
    tags = {"ta g": "v,1=2 3", "p": "C:\\temp"}
    assert [(name, found, value) for name, found, _, value in points(read(body))] == [
        ("my m,x_fi eld", tags, 1.0), ("my m,x_o=k", tags, 2.0)
    ]  # fmt: skip


def test_text_becomes_a_log_record_and_nothing_of_the_line_is_lost() -> None:
    body = (
        b'syslog,host=web-1,severity=err,appname=cron message="disk \\"sda\\" full, a=b",version=1i,facility="kern" 1795354770000000000\n'
    )
    decoded = read(body)
    (row,) = logs(decoded)
    assert (row["body"], row["severity_text"], row["severity_number"], row["entity"]) == ('disk "sda" full, a=b', "err", 17, "host:web-1")
    assert dict(row["attributes"]) == {"event.name": "syslog", "facility": "kern", "version": "1"}
    assert dict(row["resource"]) == {"host.name": "web-1", "severity": "err", "appname": "cron"}
    assert [(name, value) for name, _, _, value in points(decoded)] == [("syslog_version", 1.0)]
    several = logs(read(b'state,host=a was="up",is="down"'))[0]
    assert json.loads(several["body"]) == {"was": "up", "is": "down"}
    assert dict(several["attributes"])["is"] == "down"


def test_a_text_may_hold_line_breaks() -> None:
    decoded = read(b'a v=1 5\nevent,host=x text="line 1\n# 2\nb v=9 9\n3" 7\nc v=2 6\n')
    assert [(name, time, value) for name, _, time, value in points(decoded)] == [("a_v", 5, 1.0), ("c_v", 6, 2.0)]
    assert [(row["body"], row["time"].value) for row in logs(decoded)] == [("line 1\n# 2\nb v=9 9\n3", 7)]
    assert decoded.rejected == 0


REFUSED = [
    (b"m", "missing fields"), (b"m ", "missing fields"), (b"m v", "invalid field format"), (b"m v=", "invalid field format"),
    (b"m =1", "invalid field format"), (b"m v=x", "invalid number"), (b"m v=1 2 3", "invalid field format"),
    (b"m v=1 soon", "bad timestamp"),
    (b"m v=1,", "invalid field format"), (b"m,t v=1", "missing tag key or value"), (b"m,t= v=1", "missing tag key or value"),
    (b",t=1 v=1", "missing measurement"), (b"m,t=1,t=2 v=1", "duplicate tags"), (b'm v="open', "unbalanced quotes"),
    (b"m v=NaN", "invalid number"), (b"m v=1e999", "invalid number"), (b"m v=0x1f", "invalid number"), (b"m v=1 0x1f", "bad timestamp"),
    (b"m v=1 99999999999999999999", "bad timestamp"), (b"m,t=\xff v=1", "not UTF-8"), (b"m \xff=1", "not UTF-8"),
    (b'm t="\xff"', "not UTF-8"), (b"m v=1 -5", "time outside range 1970 - 2262"), (b"m v=1i2", "invalid number"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason"), REFUSED)
def test_a_bad_line_is_in_quarantine_and_the_others_are_kept(line: bytes, reason: str) -> None:
    decoded = read(b"ok v=1 5\n" + b"ok v=2 6\n" + line)
    assert [value for *_, value in points(decoded)] == [1.0, 2.0]
    (row,) = bad(decoded)
    assert (row["reason"], row["where"], row["format"], row["signal"]) == (reason, "line 3", "influx", "metric")
    assert row["payload"].rstrip() == line.rstrip()
    assert decoded.rejected == 1
    assert reason in decoded.reason


def doors() -> dict[str, Door]:
    return {door.path: door for door in InfluxDb("influx", Strict(), Lent()).doors()}


def ask(path: str, body: bytes = b"", **query: str) -> Answer:
    door = doors()[path]
    asked = Asked("influx", RECEIVED, body, query=query)
    return door.answer(asked, door.accept(asked))


def test_answers_as_influxdb_gives_them() -> None:
    assert ask("/write", TELEGRAF, db="telegraf", precision="ns").status == 204
    assert ask("/api/v2/write", TELEGRAF, bucket="b", org="o").status == 204
    half = ask("/write", b"m v=1 5\nnonsense\n", db="d")
    assert (half.status, json.loads(half.body)) == (400, {"error": "partial write: unable to parse 'nonsense': missing fields dropped=1"})
    assert half.headers["X-Influxdb-Error"].startswith("partial write: ")
    none = ask("/write", b"nonsense")
    assert json.loads(none.body) == {"error": "unable to parse 'nonsense': missing fields"}
    second = ask("/api/v2/write", b"m v=1 5\nnonsense\n")
    assert (second.status, json.loads(second.body)["code"]) == (400, "invalid")
    door = doors()["/api/v2/write"]
    assert door.refuse is not None
    refused = door.refuse(Asked("", RECEIVED, b""), 401, "a token is needed")
    assert refused is not None
    assert (refused.status, json.loads(refused.body)) == (401, {"code": "unauthorized", "message": "a token is needed"})
    assert door.token_keywords == ("Token",)


def test_ping_and_the_database_that_telegraf_makes_first() -> None:
    assert (ask("/ping").status, ask("/ping").headers["X-Influxdb-Version"]) == (204, "1.8.10")
    made = ask("/query", b"q=CREATE+DATABASE+%22telegraf%22")
    assert (made.status, json.loads(made.body)) == (200, {"results": [{"statement_id": 0}]})
    with pytest.raises(BadData, match="queries"):
        ask("/query", q="SELECT * FROM cpu")


def test_a_body_cannot_grow_in_memory_or_take_for_ever() -> None:
    blanks = b" " * 2_000_000
    decoded = read(blanks + b"m" + blanks + b"v=1" + blanks + b"5" + blanks + b"\n" + b"a v=2 6\n" * 3)
    assert [(name, time, value) for name, _, time, value in points(decoded)] == [("m_v", 5, 1.0)] + [("a_v", 6, 2.0)] * 3
    with pytest.raises(TooLarge):
        read(b"m,t=" + b"x" * 1_000_000 + b" " + b",".join(b"f%d=1" % i for i in range(300)))
    with pytest.raises(TooLarge):
        read(bytes(25_000_001))


_NAME = st.text('abcXYZ_09.\\"', min_size=1, max_size=5)
_VALUE = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr), st.integers(-(1 << 40), 1 << 40).map("{}i".format),
    st.sampled_from(["t", "F", "true", "FALSE", "3u", '"text"', '"a b,c=d"', "x", "", "1e400"]),
)  # fmt: skip
_TAGS = st.dictionaries(_NAME, _NAME, max_size=2).map(lambda tags: "".join(f",{k}={v}" for k, v in tags.items()))
_FIELDS = st.dictionaries(_NAME, _VALUE, min_size=1, max_size=3).map(lambda found: ",".join(f"{k}={v}" for k, v in found.items()))
_TIME = st.sampled_from(["", " 5", "  77", " 1795354770000000000", " x"])
_LINE = st.tuples(_NAME, _TAGS, st.sampled_from([" ", "  "]), _FIELDS, _TIME, st.sampled_from(["", " ", "\r"])).map("".join)
_BODY = st.lists(_LINE | st.sampled_from(["", "# comment", "  ", "a b c d e", "#", '# "x']), max_size=6).map(
    lambda lines: "\n".join(lines).encode()
)


def summary(decoded: Decoded) -> Any:
    return (
        sorted(map(str, points(decoded))), [str(row) for row in logs(decoded)], [(row["where"], row["payload"]) for row in bad(decoded)]
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_BODY)
def test_the_fast_and_the_general_reading_agree(body: bytes) -> None:
    fast = read(body)
    with patch.object(influx_line, "_holding", lambda buffer, starts, ends, marks: np.ones(len(starts), np.bool_)):
        general = read(body)
    assert summary(fast) == summary(general)
    assert all(math.isfinite(value) for *_, value in points(fast))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120) | st.text('m,=" \\\n1ti#.', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_quarantined(body: bytes) -> None:
    decoded = read(body)
    assert len(bad(decoded)) == decoded.rejected


@given(st.one_of(st.text("0123456789.eEiu+-_ntTf", max_size=24), st.floats().map(repr), st.integers(0, 10**21).map(lambda i: f"{i}u")))
def test_one_number_is_read_as_many_are(text: str) -> None:
    value, good = influx_line._values(pa.array([text]))
    assert influx_line._number(text.encode()) == (float(value[0]) if good[0] else None)


def test_lines_with_escapes_and_numbers_are_read_quickly() -> None:
    fields = ",".join(f"f{i}=1.5" for i in range(27))
    body = "\n".join(f'm\\ x,host=h {fields},s="t" {i}' for i in range(1, 301)).encode()
    took = []
    for _ in range(3):  # the first loads what is compiled
        begin = time.process_time()
        assert len(influx_line.scan(body).value) == 27 * 300
        took.append(time.process_time() - begin)
    assert min(took) < 0.6  # it took 2.6 s
