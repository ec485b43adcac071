"""Graphite's plaintext protocol: what collectd sent, lines as the world writes them, both transports, any bytes."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sockets import Journal, make, rows, running, send, until

from ninefold.ground.clock import SECOND
from ninefold.sources import kernel
from ninefold.sources.graphite import Graphite, Plaintext

RECEIVED = 1_780_000_000 * SECOND


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    kernel.warm()


def read(body: bytes, decoder: Plaintext | None = None) -> tuple[dict[tuple[str, int], float], list[dict[str, object]]]:
    """(name, time) -> value, and the quarantine."""
    decoded = (decoder or Plaintext()).decode(body, "graphite", RECEIVED)
    names = {row["series"]: row["name"] for row in rows(decoded, "series")}
    return {(names[row["series"]], row["time"]): row["value"] for row in rows(decoded, "metric")}, rows(decoded, "quarantine")


def test_what_collectd_sends(data: Path) -> None:
    body = (data / "payloads" / "collectd" / "graphite_tcp.raw").read_bytes()
    found, bad = read(body)
    expected = {}
    for line in body.decode().split("\n"):
        if line.strip():
            path, value, time = line.split()
            if not math.isnan(float(value)):
                expected[path, int(time) * SECOND] = float(value)
    assert (found, bad) == (expected, [])
    assert len(found) > 10


def test_the_host_is_in_the_path_where_no_tag_names_one_as_netdata_exports() -> None:
    line = b"netdata.web-1.system.load.load1;_is_ephemeral=false;_has_unstable_connection=false 0.46 1780000000\n"
    (row,) = rows(Plaintext(host_part=1).decode(line, "graphite", RECEIVED), "series")
    assert row["entity"] == "host:web-1"
    assert dict(row["attributes"]) == {"_is_ephemeral": "false", "_has_unstable_connection": "false", "host.name": "web-1"}


def test_tags_and_the_host_of_a_path() -> None:
    decoder = Plaintext(host_part=1)
    decoded = decoder.decode(b"disk.used;host=db-1;mount=/var 5 1780000000\nservers.web-1.load 0.5 1780000000\nload 1 1780000000",
                             "graphite", RECEIVED)  # fmt: skip
    found = [(row["name"], dict(row["attributes"]), row["entity"], row["kind"]) for row in rows(decoded, "series")]
    assert found == [
        ("disk.used", {"host": "db-1", "mount": "/var"}, "host:db-1", "unknown"),
        ("servers.web-1.load", {"host.name": "web-1"}, "host:web-1", "unknown"),
        ("load", {}, "", "unknown"),
    ]
    again = decoder.decode(b"servers.web-1.load 0.75 1780000060\n", "graphite", RECEIVED)
    assert [batch.signal for batch in again.batches] == ["metric"]
    decoder.forget(row["series"] for row in rows(decoded, "series"))
    assert [batch.signal for batch in decoder.decode(b"load 1 1780000000", "graphite", RECEIVED).batches] == ["series", "metric"]


@pytest.mark.parametrize(
    ("line", "time", "value"),
    [
        (b"a 1 1780000000", 1780000000 * SECOND, 1.0), (b"a 1e3 1780000000.25", 1780000000 * SECOND + SECOND // 4, 1000.0),
        (b"a +5 -1", RECEIVED, 5.0), (b"a -5 N\r", RECEIVED, -5.0), (b" a\t1  0 ", 0, 1.0), (b"a inf 1", SECOND, math.inf),
    ],
)  # fmt: skip
def test_lines_as_the_world_writes_them(line: bytes, time: int, value: float) -> None:
    assert read(line) == ({("a", time): value}, [])
    assert read(line + b"\nb x 1\n" + line)[0] == {("a", time): value}


def test_what_is_wrong_is_set_apart_and_the_rest_is_kept() -> None:
    found, bad = read(
        b"good 1 1\nno value\n\na x 1\na 1 -7\na 1 99999999999\n;t=1 1 1\na;t= 1 1\n\xff 1 1\na 1_0 1\nlong a line 1\nnan nan 1\n"
    )
    assert found == {("good", SECOND): 1.0}
    assert {row["reason"]: row["payload"] for row in bad} == {
        "the value is not a number (2 lines)": b"a x 1\na 1_0 1",
        "the time is not between 1970 and 2262, in seconds (2 lines)": b"a 1 -7\na 1 99999999999",
        "the path or a tag is empty or not UTF-8 (3 lines)": b";t=1 1 1\na;t= 1 1\n\xff 1 1",
        "a line is `path value time` (2 lines)": b"no value\nlong a line 1",
    }


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    read(body)


_word = st.text("ab1.;=-+e N\t", max_size=6).map(str.encode)


@given(st.lists(st.tuples(_word, _word, _word).map(b" ".join), max_size=6))
def test_lines_do_not_depend_on_their_neighbours(lines: list[bytes]) -> None:
    together, bad = read(b"\n".join(lines))
    alone: dict[tuple[str, int], float] = {}
    for line in lines:
        alone |= read(line)[0]
    assert repr(sorted(together.items())) == repr(sorted(alone.items()))
    assert sum(str(row["payload"]).count("\\n") + 1 for row in bad) <= len(lines)


_part = st.text(st.characters(min_codepoint=33, exclude_characters=";=", exclude_categories=["Cs"]), min_size=1, max_size=4)
_point = st.tuples(
    _part, st.dictionaries(_part, _part, max_size=2), st.floats(allow_nan=False), st.integers(0, 9_223_372_035)
)  # fmt: skip


@given(st.lists(st.one_of(_point, st.sampled_from([b"no value", b"a x 1", b"a 1 -7", b";t=1 1 1", b"\xff 1 1"])), max_size=8))
@settings(max_examples=30, deadline=None)
def test_what_was_sent_comes_out_whichever_way_its_numbers_are_read(sent: list[Any]) -> None:
    lines, expected = [], []
    for one in sent:
        if isinstance(one, bytes):
            lines.append(one)
            continue
        name, tags, value, time = one
        lines.append(f"{name}{''.join(f';{k}={v}' for k, v in tags.items())} {value!r} {time}".encode())
        expected.append((name, tuple(sorted(tags.items())), time * SECOND, value))
    decoder = Plaintext()
    known: dict[int, tuple[str, tuple[tuple[str, str], ...]]] = {}
    for more in ([], [], [b"slow 1_0 1"]):  # new series, known ones, and numbers that are read one by one
        decoded = decoder.decode(b"\n".join([*lines, *more]), "graphite", RECEIVED)
        known |= {row["series"]: (row["name"], tuple(sorted(row["attributes"]))) for row in rows(decoded, "series")}
        found = [(*known[row["series"]], row["time"], row["value"]) for row in rows(decoded, "metric")]
        assert sorted(found) == sorted(expected)
        refused = [line for row in rows(decoded, "quarantine") for line in row["payload"].split(b"\n")]
        assert sorted(refused) == sorted([*(line for line in sent if isinstance(line, bytes)), *more])


def test_over_udp_and_tcp_cut_anywhere() -> None:
    async def scenario() -> None:
        journal = Journal()
        async with running(make(Graphite, {"port": 0}), journal) as source:
            send(source.port, b"udp.a 1 1\nudp.b 2 1\n")
            _, writer = await asyncio.open_connection("127.0.0.1", source.port)
            for piece in (b"tcp.a 3", b" 1\ntcp.b", b" 4 1\ntcp.c 5 1"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            await until(lambda: len(journal.rows("metric")) == 4)
            writer.close()
            await until(lambda: len(journal.rows("quarantine")) == 1)
        assert journal.rows("quarantine")[0]["payload"] == b"tcp.c 5 1", "without a newline it may be cut short"
        names = {row["series"]: row["name"] for row in journal.rows("series")}
        assert {names[row["series"]]: row["value"] for row in journal.rows("metric")} == {
            "udp.a": 1, "udp.b": 2, "tcp.a": 3, "tcp.b": 4,
        }  # fmt: skip

    asyncio.run(scenario())


def test_a_line_without_end_closes_the_connection() -> None:
    async def scenario() -> None:
        journal = Journal()
        async with running(make(Graphite, {"port": 0}), journal) as source:
            reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
            writer.write(b"x" * 100_000)
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()

    asyncio.run(scenario())
