"""Loki's push API: JSON and protobuf, structured metadata, what is refused and how, and the probes."""

from __future__ import annotations

import contextlib
from typing import Any

import cramjam
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, NinefoldError
from ninefold.model.signal import Decoded
from ninefold.plugin import Answer, Asked, Door, Lent, Strict
from ninefold.sources.loki import Loki, decode_json
from ninefold.sources.protobuf import frame

RECEIVED = parse("2026-11-22T15:00:00Z")
TIME = 1795354777123456789
JSON, PROTOBUF = "application/json", "application/x-protobuf"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def doors() -> dict[str, Door]:
    return {door.path: door for door in Loki("loki", Strict(), Lent()).doors()}


def push(body: bytes, media_type: str = JSON, **headers: str) -> tuple[Decoded, Answer]:
    door = doors()["/loki/api/v1/push"]
    asked = Asked("loki", RECEIVED, body, headers={"content-type": media_type, **headers})
    decoded = door.accept(asked)
    return decoded, door.answer(asked, decoded)


def rows(decoded: Decoded, signal: str = "log") -> list[dict[str, Any]]:
    return [row for batch in decoded.batches if batch.signal == signal for row in batch.rows.to_pylist()]


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def entry(time: int, line: bytes, **metadata: str) -> bytes:
    stamp = b"\x08" + varint(time // 10**9) + b"\x10" + varint(time % 10**9)
    pairs = b"".join(frame(3, frame(1, key.encode()) + frame(2, value.encode())) for key, value in metadata.items())
    return frame(1, stamp) + frame(2, line) + pairs


def request(*streams: tuple[bytes, list[bytes]]) -> bytes:
    """A ``logproto.PushRequest``, snappy-compressed, as Promtail sends it."""
    body = b"".join(frame(1, frame(1, labels) + b"".join(frame(2, one) for one in entries) + b"\x18\x05") for labels, entries in streams)
    return bytes(cramjam.snappy.compress_raw(body))


LABELS = b'{service_name="checkout", level="error", namespace="shop", filename="/var/log/a b.log", quoted="a \\"b\\" {,}"}'
EXPECTED = {
    "time": TIME, "received": RECEIVED, "source": "loki", "entity": "service:checkout", "severity_number": 17, "severity_text": "error",
    "body": "payment failed", "pattern": 0, "trace_id": TRACE, "span_id": SPAN, "attributes": {"user": "u1"},
    "resource": {
        "service.name": "checkout", "k8s.namespace.name": "shop", "log.file.path": "/var/log/a b.log", "quoted": 'a "b" {,}',
        "loki.tenant": "lab",
    },
}  # fmt: skip


def plain(row: dict[str, Any]) -> dict[str, Any]:
    found = row | {key: dict(row[key]) for key in ("attributes", "resource")}
    found |= {key: row[key].value for key in ("time", "received")}
    del found["vnode"]
    return found


def test_protobuf_value_by_value() -> None:
    body = request((LABELS, [entry(TIME, b"payment failed", trace_id=TRACE, span_id=SPAN, user="u1")]))
    decoded, answer = push(body, PROTOBUF, **{"x-scope-orgid": "lab"})
    assert [plain(row) for row in rows(decoded)] == [EXPECTED]
    assert answer.status == 204
    again, _ = push(cramjam.snappy.decompress_raw(body).read(), PROTOBUF, **{"x-scope-orgid": "lab", "content-encoding": "snappy"})
    assert [plain(row) for row in rows(again)] == [EXPECTED], "the server has decompressed it already"


def test_json_value_by_value() -> None:
    stream = {"service_name": "checkout", "level": "error", "namespace": "shop", "filename": "/var/log/a b.log", "quoted": 'a "b" {,}'}
    metadata = {"trace_id": TRACE, "span_id": SPAN, "user": "u1"}
    decoded, answer = push(
        orjson.dumps({"streams": [{"stream": stream, "values": [[str(TIME), "payment failed", metadata], [str(TIME + 1), "two"]]}]}),
        **{"x-scope-orgid": "lab"},
    )
    first, second = rows(decoded)
    assert plain(first) == EXPECTED
    assert (second["body"], dict(second["attributes"]), second["time"].value) == ("two", {}, TIME + 1)
    assert answer.status == 204


def test_level_from_metadata_and_odd_ids_stay_attributes() -> None:
    metadata = {"detected_level": "warn", "trace_id": "not hex"}
    decoded, _ = push(orjson.dumps({"streams": [{"stream": {"job": "a"}, "values": [[str(TIME), "x", metadata]]}]}))
    (row,) = rows(decoded)
    assert (row["severity_text"], row["severity_number"], row["trace_id"]) == ("warn", 13, "")
    assert (dict(row["attributes"]), row["entity"]) == ({"trace_id": "not hex"}, "service:a")


def test_bad_parts_of_json_are_in_quarantine_and_the_rest_is_kept() -> None:
    good = [str(TIME), "kept"]
    values = [good, ["soon", "x"], [str(TIME)], [str(TIME), 5], [str(TIME), "x", []], [str(1 << 63), "x"], 3]
    body = {"streams": [{"stream": {}, "values": [good]}, {"stream": {"a": "b"}, "values": values}, 7]}
    decoded, answer = push(orjson.dumps(body))
    assert [row["body"] for row in rows(decoded)] == ["kept"]
    refused = rows(decoded, "quarantine")
    assert len(refused) == decoded.rejected == 8
    assert orjson.loads(refused[1]["payload"]) == {"streams": [{"stream": {"a": "b"}, "values": [["soon", "x"]]}]}, "it can be pushed again"
    assert (answer.status, answer.body.decode().startswith("error at least one label pair is required per stream")) == (400, True)


def test_bad_parts_of_protobuf_are_in_quarantine_and_can_be_pushed_again() -> None:
    body = request(
        (b"{}", [entry(TIME, b"lost")]), (b'{a="b"}', [entry(TIME, b"\xff"), entry(TIME, b"kept"), entry(0, b"no time")]), (b"a=b", []),
        (b'{a="b" c="d"}', []),
    )  # fmt: skip
    decoded, answer = push(body, PROTOBUF)
    assert [row["body"] for row in rows(decoded)] == ["kept"]
    refused = rows(decoded, "quarantine")
    assert [row["where"] for row in refused] == ["streams[0]", "streams[2]", "streams[3]", "entries[1]", "entries[3]"]
    assert answer.status == 400
    again, _ = push(bytes(cramjam.snappy.compress_raw(refused[3]["payload"])), PROTOBUF)
    assert [row["reason"] for row in rows(again, "quarantine")] == ["the line is not UTF-8"]


def test_what_cannot_be_read_at_all() -> None:
    for body, media_type in ((b"{", JSON), (b"[]", JSON), (b'{"streams": 3}', JSON), (b"\xff\xff", PROTOBUF), (b"\x03abc", PROTOBUF)):
        with pytest.raises(BadData):
            push(body, media_type)
    door = doors()["/loki/api/v1/push"]
    assert door.refuse is not None
    refused = door.refuse(Asked("loki", RECEIVED, b""), 503, "the journal is full")
    assert refused is not None
    assert (refused.status, refused.body) == (503, b"the journal is full\n")


def test_probes() -> None:
    for path, says in (("/ready", b"ready\n"), ("/loki/api/v1/status/buildinfo", b'"version"')):
        door = doors()[path]
        asked = Asked("loki", RECEIVED, b"")
        answer = door.answer(asked, door.accept(asked))
        assert answer.status == 200
        assert says in answer.body
        assert door.methods == ("GET",)


_JSONS = st.recursive(
    st.none() | st.integers(-3, 1 << 62) | st.text(max_size=4) | st.just(str(TIME)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["stream", "values", "a"]), inner, max_size=3),
    max_leaves=8,
)


@given(_JSONS)
def test_any_json_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(NinefoldError):
        push(orjson.dumps({"streams": value}))


@given(st.binary(max_size=80), st.integers(0, 400), st.integers(0, 255))
def test_any_protobuf_is_read_or_refused(junk: bytes, place: int, byte: int) -> None:
    good = bytes(cramjam.snappy.decompress_raw(request((LABELS, [entry(TIME, b"payment failed", user="u1")]))))
    for body in (junk, good[:place], good[: place % len(good)] + bytes([byte]) + good[place % len(good) + 1 :]):
        with contextlib.suppress(NinefoldError):
            push(body, PROTOBUF, **{"content-encoding": "snappy"})


_TEXTS = st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs"]), max_size=5)
_WORDS = st.text("abc_", min_size=1, max_size=3)
_ENTRIES = st.lists(st.tuples(st.integers(0, (1 << 63) - 1), _TEXTS, st.dictionaries(_WORDS, _TEXTS, max_size=2)), max_size=3)


@given(st.lists(st.tuples(st.dictionaries(_WORDS, _TEXTS, max_size=2), _ENTRIES), max_size=3))
@settings(max_examples=30, deadline=None)
def test_json_and_protobuf_say_the_same_and_nothing_is_lost(streams: list[Any]) -> None:
    expected = [(time, line, about, labels) for labels, entries in streams if labels for time, line, about in entries if time]
    refused = sum(1 if not labels else sum(not time for time, *_ in entries) for labels, entries in streams)
    values = [{"stream": labels, "values": [[str(time), *rest] for time, *rest in entries]} for labels, entries in streams]
    packed = request(*[
        (f"{{{', '.join(f'{key}={orjson.dumps(value).decode()}' for key, value in labels.items())}}}".encode(),
         [entry(time, line.encode(), **about) for time, line, about in entries])
        for labels, entries in streams
    ])  # fmt: skip
    for decoded, _ in (push(orjson.dumps({"streams": values})), push(packed, PROTOBUF)):
        found = [(row["time"].value, row["body"], dict(row["attributes"]), dict(row["resource"])) for row in rows(decoded)]
        assert found == expected
        assert decoded.rejected == len(rows(decoded, "quarantine")) == refused


def test_a_time_of_too_many_digits_is_in_quarantine() -> None:
    body = orjson.dumps({"streams": [{"stream": {"app": "a"}, "values": [["0590701000079500000000", "x"], ["1795000000000000000", "y"]]}]})
    decoded = decode_json(body, "", "loki", 1)
    assert decoded.rejected == 1
    assert [batch.signal for batch in decoded.batches] == ["log", "quarantine"]
