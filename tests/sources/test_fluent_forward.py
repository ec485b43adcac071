"""The Forward protocol: every mode and time, handshake and acknowledgements over real sockets, bytes that are wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sockets import Journal, certificates, make, rows, running, until

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData, ConfigError
from ninefold.model.signal import Decoded
from ninefold.sources import fluent_forward
from ninefold.sources.fluent_forward import Entries, FluentForward, FluentForwardConfig, Message, Session

msgpack = pytest.importorskip("msgpack")
RECEIVED = 1_780_000_100 * SECOND
T = 1_780_000_000


def event_time(seconds: int, nanos: int) -> Any:
    return msgpack.ExtType(0, seconds.to_bytes(4, "big") + nanos.to_bytes(4, "big"))


def read(*messages: Any) -> Decoded:
    packed = [message if isinstance(message, bytes) else msgpack.packb(message) for message in messages]
    return Entries().decode([Message(data, lambda answer: None) for data in packed], [], "fluent", RECEIVED)


def found(*messages: Any) -> list[tuple[int, str]]:
    decoded = read(*messages)
    assert decoded.rejected == 0, decoded.reason
    return [(row["time"], row["body"]) for row in rows(decoded, "log")]


ENTRIES = [[T, {"log": "one"}], [event_time(T, 5), {"log": "two"}]]
STREAM = b"".join(map(msgpack.packb, ENTRIES))
EXPECTED = [(T * SECOND, "one"), (T * SECOND + 5, "two")]


@pytest.mark.parametrize(
    "messages",
    [
        [["app", *entry] for entry in ENTRIES],
        [["app", *ENTRIES[0], {}], ["app", *ENTRIES[1], {"chunk": "c"}]],
        [["app", ENTRIES]],
        [["app", ENTRIES, {"size": 2}]],
        [["app", STREAM]],
        [msgpack.packb(["app", STREAM, {"size": 2}], use_bin_type=False)],
        [["app", gzip.compress(STREAM), {"compressed": "gzip"}]],
        [["app", gzip.compress(STREAM[:10]) + gzip.compress(STREAM[10:]), {"compressed": "gzip"}]],
        [["app", STREAM, {"compressed": "text"}]],
        [["app", [[[time, {}], record] for time, record in ENTRIES]]],
        [["app", [[float(T), {"message": "one"}], [event_time(T, 5), {"msg": "two\n"}]]]],
    ],
)
def test_every_mode(messages: list[Any]) -> None:
    assert found(*messages) == EXPECTED


def test_what_becomes_of_each_field() -> None:
    record = {
        "log": "2026 ERROR it broke\n", "stream": "stderr", "level": "error", "trace_id": "0AF7651916CD43DD8448EB211C80319C",
        "kubernetes": {"pod_name": "cart-1", "namespace_name": "shop", "host": "node-1", "labels": {"app": "cart"}, "n": 5},
        "raw": b"\xff\x00", "list": [1, {"a": None}], 7: "number", "none": None, "when": msgpack.Timestamp(T),
    }  # fmt: skip
    row, whole = rows(read(["kube.cart", [[msgpack.Timestamp(T, 9), record], [T, {"a": 1, "b": {"c": "d"}}]]]), "log")
    assert (row["time"], row["body"], row["severity_text"], row["severity_number"]) == (T * SECOND + 9, "2026 ERROR it broke", "error", 17)
    assert (row["entity"], row["trace_id"]) == ("pod:shop/cart-1", "0af7651916cd43dd8448eb211c80319c")
    assert dict(row["resource"]) == {"k8s.pod.name": "cart-1", "k8s.namespace.name": "shop", "k8s.node.name": "node-1"}
    attributes = dict(row["attributes"])
    assert attributes.pop("when").startswith("Timestamp")
    assert attributes == {
        "stream": "stderr", "kubernetes.labels.app": "cart", "kubernetes.n": "5", "raw": "ff00", "list": '[1,{"a":null}]', "7": "number",
        "fluent.tag": "kube.cart",
    }  # fmt: skip
    assert whole["body"] == '{"a":1,"b":{"c":"d"}}'
    assert [rows(read(["t", T, {"log": "x", key: "web"}]), "log")[0]["entity"] for key in ("host", "ident")] == ["host:web", "service:web"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (["t"], "a message is"), ([5, []], "a message is"), (["t", T], "a message is"), (["t", T, {}, {}, 5], "a message is"),
        (["t", b"no gzip", {"compressed": "gzip"}], "not gzip"),
        (["t", b"x", {"compressed": "lzma"}], "lzma"), (["t", [], {"fluent_signal": 1}], "OTLP"),
        (["t", gzip.compress(bytes(80 << 20)), {"compressed": "gzip"}], "longer than the limit"),
        (b"\x93\xa1t\x05\x81\x90\x01", "not MessagePack"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be_read_at_all(message: Any, reason: str) -> None:
    decoded = read(message, ["t", ENTRIES])
    assert len(rows(decoded, "log")) == 2
    (bad,) = rows(decoded, "quarantine")
    assert reason in bad["reason"]
    assert bad["payload"] == (message if isinstance(message, bytes) else msgpack.packb(message))


@pytest.mark.parametrize("torn", [msgpack.packb(ENTRIES[0])[:-1], b"\xc1", b"\x81\x90\x01"])
@pytest.mark.parametrize("compress", [False, True])
def test_entries_before_the_first_that_cannot_be_followed_are_kept(torn: bytes, compress: bool) -> None:
    entries = STREAM + torn
    decoded = read(["t", gzip.compress(entries), {"compressed": "gzip"}] if compress else ["t", entries])
    assert [row["body"] for row in rows(decoded, "log")] == ["one", "two"]
    (bad,) = rows(decoded, "quarantine")
    assert msgpack.unpackb(bad["payload"]) == ["t", torn]


def test_single_entries_that_cannot_be_read_are_messages_of_their_own() -> None:
    deep: Any = "x"
    for _ in range(80):
        deep = {"d": deep}
    decoded = read(["t", [*ENTRIES, "no entry", [T, "no record"], ["no time", {}], [-1, {}], [True, {}], [T, deep]]])
    assert len(rows(decoded, "log")) == 2
    assert {row["reason"]: msgpack.unpackb(row["payload"])[1] for row in rows(decoded, "quarantine")} == {
        "an entry is [time, record] (2 entries)": ["no entry", [T, "no record"]],
        "the time is not between 1970 and 2262 (3 entries)": [["no time", {}], [-1, {}], [True, {}]],
        "a record is nested more than 64 levels deep; flatten it (1 entries)": [[T, deep]],
    }


_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3),
    max_leaves=8,
)


@given(st.one_of(_value.map(msgpack.packb), st.tuples(st.just("t"), st.lists(_value | st.tuples(_value, _value), max_size=3), _value)
                 .map(msgpack.packb), st.binary(max_size=50)))  # fmt: skip
@settings(deadline=None)
def test_no_bytes_break_the_reader(data: bytes) -> None:
    decoded = read(data)
    rows(decoded, "log")
    with contextlib.suppress(BadData):
        Session(FluentForwardConfig(), lambda answer: None).feed(data)


@given(st.lists(st.integers(1, 40), max_size=40))
def test_a_stream_cut_anywhere_is_the_same_messages(sizes: list[int]) -> None:
    messages = [msgpack.packb(message) for message in (["a", ENTRIES], ["b", STREAM, {"chunk": "x"}], ["c", T, {"log": "y" * 50}])]
    stream, session, got = b"".join(messages), Session(FluentForwardConfig(), lambda answer: None), []
    for size in [*sizes, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        got += [bytes(message) for message in session.feed(piece)[0]]
    assert got == messages


def test_what_is_not_the_protocol_ends_the_connection() -> None:
    for data in (b"GET / HTTP/1.1\r\n", b"\x93\xc1", msgpack.packb({"a": 1})):
        with pytest.raises(BadData):
            Session(FluentForwardConfig(), lambda answer: None).feed(data)
    session = Session(FluentForwardConfig(), lambda answer: None)
    got, rest = session.feed(msgpack.packb(["a", ENTRIES]) + b"\xc1 and so on")
    assert (len(got), rest) == (1, [b"\xc1 and so on"])
    with pytest.raises(BadData):
        session.feed(b"more")
    with pytest.raises(BadData):
        Session(FluentForwardConfig(message_limit_bytes=1024), lambda answer: None).feed(msgpack.packb(["a", b"x" * 2000])[:1500])


class Sender:
    """A client of the protocol, written from its specification."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._unpacker = reader, writer, msgpack.Unpacker()

    async def answer(self) -> Any:
        while True:
            with contextlib.suppress(msgpack.OutOfData):
                return self._unpacker.unpack()
            data = await asyncio.wait_for(self._reader.read(1000), 30)
            if not data:
                raise EOFError
            self._unpacker.feed(data)

    async def say(self, message: Any) -> None:
        self._writer.write(msgpack.packb(message))
        await self._writer.drain()

    async def greet(self, key: str, user: str = "", password: str = "") -> Any:
        name, about = await self.answer()
        assert name == "HELO"
        salt, nonce, auth = os.urandom(8), about["nonce"], about["auth"]
        digest = hashlib.sha512(salt + b"client" + nonce + key.encode()).hexdigest()
        secret = hashlib.sha512(auth + user.encode() + password.encode()).hexdigest() if auth else ""
        await self.say(["PING", "client", salt, digest, user, secret])
        pong = await self.answer()
        if pong[1]:
            assert pong[4] == hashlib.sha512(salt + pong[3].encode() + nonce + key.encode()).hexdigest()
        return pong

    def close(self) -> None:
        self._writer.close()


async def connect(port: int, context: ssl.SSLContext | None = None) -> Sender:
    return Sender(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="server.lab" if context else None))


def test_chunks_are_acknowledged_only_when_they_are_durable() -> None:
    async def scenario() -> None:
        journal = Journal()
        journal.open = False
        async with running(make(FluentForward, {"port": 0}), journal) as source:
            sender = await connect(source.port)
            await sender.say(["app", ENTRIES, {"chunk": "first"}])
            await sender.say(["app", STREAM])
            await sender.say(["app", T, {"log": "three"}, {"chunk": "second"}])
            waiting = asyncio.create_task(sender.answer())
            await until(lambda: journal.refused > 2)
            assert not waiting.done()
            journal.open = True
            assert [await waiting, await sender.answer()] == [{"ack": "first"}, {"ack": "second"}]
            assert [row["body"] for row in journal.rows("log")] == ["one", "two", "one", "two", "three"]
            sender.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("key", "user", "password", "why"),
    [("key", "u", "secret", ""), ("wrong", "u", "secret", "shared_key"), ("key", "u", "wrong", "password"), ("key", "x", "", "password")],
)
def test_the_handshake(key: str, user: str, password: str, why: str) -> None:
    async def scenario() -> None:
        journal = Journal()
        async with running(make(FluentForward, {"port": 0, "shared_key": "key", "users": {"u": "secret"}}), journal) as source:
            sender = await connect(source.port)
            pong = await sender.greet(key, user, password)
            assert (pong[0], pong[1], why in pong[2], pong[3]) == ("PONG", not why, True, "ninefold")
            with contextlib.suppress(ConnectionError, EOFError):
                await sender.say(["app", ENTRIES, {"chunk": "c"}])
                assert await sender.answer() == {"ack": "c"}
            assert len(journal.rows("log")) == (0 if why else 2)
            sender.close()
            silent = await connect(source.port)
            assert (await silent.answer())[0] == "HELO"
            await silent.say(["app", ENTRIES])
            with pytest.raises((EOFError, ConnectionError)):
                await silent.answer()
            silent.close()
        assert len(journal.rows("log")) == (0 if why else 2)

    asyncio.run(scenario())


def test_over_tls(tmp_path: Path) -> None:
    certificates(tmp_path)

    async def scenario() -> None:
        journal = Journal()
        tls = {"port": 0, "certificate": tmp_path / "server.pem", "key": tmp_path / "server.key"}
        async with running(make(FluentForward, {"port": 0, "tls": tls, "shared_key": "key"}), journal) as source:
            sender = await connect(source.tls_port, ssl.create_default_context(cafile=tmp_path / "ca.pem"))
            assert (await sender.greet("key"))[1]
            await sender.say(["app", ENTRIES, {"chunk": "c"}])
            assert await sender.answer() == {"ack": "c"}
            sender.close()
        assert len(journal.rows("log")) == 2

    asyncio.run(scenario())


def test_users_need_a_key() -> None:
    with pytest.raises(ConfigError, match="shared_key"):
        asyncio.run(make(FluentForward, {"port": 0, "users": {"u": "secret"}}).run(Journal().emit))


def test_what_is_large_when_unpacked_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fluent_forward, "_PART_BYTES", 20_000)
    entries = [[T, {"log": f"{i}" + "x" * 100}] for i in range(200)]
    plain = b"".join(map(msgpack.packb, [*entries, [T, "no record"]]))
    message = Message(msgpack.packb(["t", gzip.compress(plain), {"compressed": "gzip", "chunk": "c"}]), lambda answer: None)
    parts = list(Entries().parts([message, message], [], "fluent", RECEIVED))
    sizes = [len(rows(part, "log")) for part in parts]
    assert (sum(sizes), max(sizes) < 60, sum(part.rejected for part in parts)) == (400, True, 2)
    assert message.chunk == "c"


def test_an_event_time_of_more_nanoseconds_than_a_second_has_is_none() -> None:
    packed = msgpack.packb(["t", [[msgpack.ExtType(0, b"\xff" * 8), {"log": "x"}], [1, {"log": "y"}]]])
    decoded = Entries().decode([Message(packed, lambda answer: None)], [], "fluent", RECEIVED)
    assert [row["body"] for row in rows(decoded, "log")] == ["y"]
    (bad,) = rows(decoded, "quarantine")
    assert msgpack.unpackb(bad["payload"])[1] == [[msgpack.ExtType(0, b"\xff" * 8), {"log": "x"}]]
