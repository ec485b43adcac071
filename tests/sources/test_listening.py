"""What listening sources share: lines, limits of blocks and connections, ports that are given back, libraries that are missing."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sockets import Journal, Meters, lent, make, running, send, until

from ninefold.ground.errors import BadData, ConfigError
from ninefold.model.signal import Batch
from ninefold.plugin import Source
from ninefold.sources import listening
from ninefold.sources.collectd_network import CollectdNetwork
from ninefold.sources.fluent_forward import FluentForward
from ninefold.sources.graphite import Graphite
from ninefold.sources.listening import Lines
from ninefold.sources.otlp_grpc import OtlpGrpc
from ninefold.sources.snmp import Snmp
from ninefold.sources.snmp_message import SEQUENCE, TRAP, wrap, wrap_number, wrap_oid
from ninefold.sources.statsd import Statsd
from ninefold.sources.syslog import Syslog


@given(st.lists(st.sampled_from([b"a", b"bb 1", b"", b"c\r"]), max_size=8), st.booleans(), st.lists(st.integers(1, 9), max_size=20))
def test_lines_cut_anywhere_are_the_same(lines: list[bytes], ended: bool, sizes: list[int]) -> None:
    stream = b"\n".join(lines) + (b"\n" if ended else b"")
    reader, blocks, rest = Lines(), [], stream
    for size in [*sizes, len(stream)]:
        blocks += reader.feed(rest[:size])[0]
        rest = rest[size:]
    assert reader.close() == []
    blocks += reader.tail()
    found = [line for block in blocks for line in block.split(b"\n")]
    assert [line for line in found if line] == [line for line in lines if line]


def test_a_line_has_a_limit() -> None:
    reader = Lines(limit=10)
    assert reader.feed(b"0123456789\n0123456789") == ([b"0123456789"], [])
    assert reader.feed(b"x") == ([], [b"0123456789x"])
    with pytest.raises(BadData, match="longer than 10 bytes"):
        reader.feed(b"x")


def test_good_lines_before_one_that_is_too_long_are_kept() -> None:
    reader = Lines(limit=10)
    assert reader.feed(b"a 1 1\nb 1 1\n" + b"x" * 11) == ([b"a 1 1\nb 1 1"], [b"x" * 11])
    with pytest.raises(BadData, match="longer than 10 bytes"):
        reader.feed(b"c 1 1\n")


@pytest.mark.parametrize(("source", "line", "cut"), [(Graphite, b"a.b 5 1700000000\n", b"a.b 5 17000"), (Statsd, b"a.b:5|c\n", b"a.b:5|c")])
def test_lines_that_are_cut_short_are_set_aside_and_those_before_are_kept(source: type[Source], line: bytes, cut: bytes) -> None:
    async def scenario() -> None:
        journal = Journal()

        def aside() -> bytes:
            return b"\n".join(row["payload"] for row in journal.rows("quarantine"))

        async with running(make(source, {"port": 0}), journal) as listener:
            for rest in (cut, b"x" * 70_000):
                _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                writer.write(line * 100 + rest)
                await writer.drain()
                writer.close()
                await until(lambda rest=rest: rest[: 64 << 10] in aside())  # type: ignore[misc]
        assert sum(row["value"] for row in journal.rows("metric")) == 1000
        assert source is not Graphite or {row["time"] for row in journal.rows("metric")} == {1_700_000_000 * 10**9}

    asyncio.run(scenario())


def test_blocks_have_a_limit_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_BATCH_BYTES", 1000)

    async def scenario() -> None:
        journal = Journal()
        journal.open = False
        async with running(make(Syslog, {"port": 0}), journal) as source:
            for i in range(20):
                send(source.port, b"<13>Nov 22 12:00:00 h a: %d %b" % (i, b"x" * 300))
            await until(lambda: journal.refused > 0)
            journal.open = True
            await until(lambda: len(journal.rows("log")) == 20)
        sizes = [batch.rows.num_rows for batch in journal.batches]
        assert max(sizes[1:]) <= 4, sizes

    asyncio.run(scenario())


def _trap(number: int) -> bytes:
    """A trap of version 2c with a number."""
    binds = [(b"\x2b\6\1\2\1\1\3\0", wrap_number(number, 0x43)), (b"\x2b\6\1\6\3\1\1\4\1\0", wrap_oid("1.3.6.1.6.3.1.1.5.3"))]
    pairs = wrap(SEQUENCE, *(wrap(SEQUENCE, wrap(6, oid), value) for oid, value in binds))
    return wrap(SEQUENCE, wrap_number(1), wrap(4, b"public"), wrap(TRAP, *[wrap_number(0)] * 3, pairs))


def _value_list(number: int) -> bytes:
    """A packet of collectd with one gauge."""
    texts = b"".join(struct.pack("!HH", kind, 5 + len(text)) + text + b"\0" for kind, text in ((0, b"h"), (2, b"load"), (4, b"gauge")))
    return texts + struct.pack("!HHQ", 1, 12, 1_700_000_000 + number) + struct.pack("!HHHB", 6, 15, 1, 1) + struct.pack("<d", number)


@pytest.mark.parametrize(
    ("source", "settings", "signal", "record"),
    [
        (Syslog, {}, "log", lambda number: b"<13>Nov 22 12:00:00 h a: %d" % number),
        (Graphite, {}, "metric", lambda number: b"a.b %d 1700000000" % number),
        (Statsd, {}, "event", lambda number: b"_e{1,1}:a|b|k:%d" % number),
        (CollectdNetwork, {}, "metric", _value_list),
        (Snmp, {"communities": ["public"]}, "event", _trap),
    ],
)
def test_what_a_full_journal_costs_is_counted_to_the_last_datagram(
    monkeypatch: pytest.MonkeyPatch, source: type[Source], settings: dict[str, Any], signal: str, record: Callable[[int], bytes]
) -> None:
    monkeypatch.setattr(listening, "_QUEUE_RECORDS", 5)

    async def scenario() -> None:
        journal, meters = Journal(), Meters()
        journal.open = False

        def count(what: str) -> int:
            return int(meters[f"ninefold_{source.kind}_{what}_total"])

        async with running(make(source, {"port": 0, **settings}, lent(meters)), journal) as listener:
            for number in range(40):
                send(listener.port, record(number))
            await until(lambda: count("received") + count("dropped") == 40 and journal.refused > 1)
            assert count("dropped") > 0
            assert journal.batches == []
            journal.open = True
            await until(lambda: len(journal.rows(signal)) >= count("received"))
        assert len(journal.rows(signal)) == count("received")

    asyncio.run(scenario())


def test_connections_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_CONNECTIONS", 2)

    async def scenario() -> None:
        async with running(make(Syslog, {"port": 0}), Journal()) as source:
            writers = []
            for expected in (1, 2):
                writers.append((await asyncio.open_connection("127.0.0.1", source.port))[1])
                await until(lambda expected=expected: len(source.listener.streams) == expected)  # type: ignore[misc]
            reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
            assert await asyncio.wait_for(reader.read(), 30) == b""
            for each in (*writers, writer):
                each.close()
            await until(lambda: not source.listener.streams)

    asyncio.run(scenario())


def test_a_journal_that_breaks_gives_the_ports_back_and_what_waits_is_delivered_later() -> None:
    async def broken(batches: Sequence[Batch]) -> None:
        raise RuntimeError("a defect")

    async def scenario() -> None:
        source = make(Graphite, {"port": 0})
        failing = asyncio.create_task(source.run(broken))
        await source.started.wait()
        port = source.port
        send(port, b"a 1 1")
        with pytest.raises(RuntimeError, match="a defect"):
            await failing
        other = make(Graphite, {"port": port})
        async with running(other, Journal()):
            assert other.port == port
        journal = Journal()
        async with running(source, journal):
            await until(lambda: len(journal.rows("metric")) == 1)

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_told() -> None:
    async def scenario() -> None:
        async with running(make(Graphite, {"port": 0}), Journal()) as source:
            with pytest.raises(OSError, match="in use"):
                await make(Graphite, {"port": source.port}).run(Journal().emit)

    asyncio.run(scenario())


_PRIVATE = {"auth": "sha", "auth_password": "longenough", "privacy": "aes", "privacy_password": "longenough"}


@pytest.mark.parametrize(
    ("source", "library", "settings"),
    [
        (OtlpGrpc, "grpc", {}),
        (FluentForward, "msgpack", {}),
        (Snmp, "cryptography", {"users": {"u": _PRIVATE}}),
        (CollectdNetwork, "cryptography", {"security_level": "encrypt", "users": {"u": "secret"}}),
    ],
)
def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, source: type[Source], library: str, settings: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=r"install ninefold\["):
        asyncio.run(make(source, {"port": 0, **settings}).run(Journal().emit))
