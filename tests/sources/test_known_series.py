"""The table of known series, and the scan of messages into tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.ground.errors import BadData, TooLarge
from ninefold.sources import kernel
from ninefold.sources.protobuf import Plan, frame
from ninefold.sources.series import Known, digests


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    kernel.warm()


def look_up(known: Known, keys: list[tuple[int, bytes]]) -> list[int | None]:
    lengths = np.array([len(key) for _, key in keys], np.int64)
    groups = np.array([group for group, _ in keys], np.int64)
    ids, found = known.find(b"".join(key for _, key in keys), np.cumsum(lengths) - lengths, lengths, groups)
    return [int(number) if there else None for number, there in zip(ids, found, strict=True)]


_keys = st.dictionaries(st.tuples(st.integers(0, 3), st.binary(max_size=20)), st.integers(0, 2**64 - 1), max_size=60)


@given(_keys, _keys, st.data())
@settings(deadline=None)
def test_it_is_a_dictionary(first: dict[tuple[int, bytes], int], second: dict[tuple[int, bytes], int], draw: st.DataObject) -> None:
    known, model = Known(), {}
    for more in (first, second):
        fresh = {key: number for key, number in more.items() if key not in model}
        model |= fresh
        known.add([key for _, key in fresh], list(fresh.values()), [group for group, _ in fresh], [7] * len(fresh))
        asked = [*first, *second, (9, b"never")]
        assert look_up(known, asked) == [model.get(key) for key in asked]
    gone = set(draw.draw(st.lists(st.sampled_from(sorted(model.values())), max_size=5)) if model else [])
    known.forget(gone)
    kept = {key: number for key, number in model.items() if number not in gone}
    assert look_up(known, list(model)) == [kept.get(key) for key in model]
    known.forget_tagged([8])
    assert look_up(known, list(model)) == [kept.get(key) for key in model]
    known.forget_tagged([7])
    assert look_up(known, list(model)) == [None] * len(model)


def test_it_grows_and_starts_anew_when_it_is_full() -> None:
    known = Known(most=8_000)
    for start in range(0, 20_000, 500):
        numbers = range(start, start + 500)
        known.add([b"key-%06d" % i for i in numbers], list(numbers), [0] * 500, [0] * 500)
        assert look_up(known, [(0, b"key-%06d" % i) for i in numbers]) == list(numbers)
        assert len(known) <= 8192
    assert look_up(known, [(0, b"key-000000")]) == [None]


@given(st.binary(max_size=2500), st.integers(0, 2**62), st.integers(0, 2499), st.integers(1, 255))
@settings(deadline=None)
def test_a_digest_is_the_same_interpreted_and_compiled_and_no_other_key_has_it(key: bytes, group: int, place: int, change: int) -> None:
    offsets, lengths, groups = np.zeros(1, np.int64), np.array([len(key)]), np.array([group])
    compiled = digests(key, offsets, lengths, groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_current", kernel.interpreted)
        assert (digests(key, offsets, lengths, groups) == compiled).all()
    other = bytearray(key or b"x")
    other[place % len(other)] ^= change
    assert (digests(bytes(other), offsets, np.array([len(other)]), groups) != compiled).any()
    assert (digests(key, offsets, lengths, groups + 1) != compiled).any()
    assert (digests(key + b"\0", offsets, lengths + 1, groups) != compiled).any()
    assert (compiled >= 0).all()


PLAN = Plan({
    "root": {1: "row items", 2: "varint total"},
    "items": {1: "varint number", 2: "fixed exact", 3: "bytes text", 4: "run tags", 5: "one inner", 6: "varint odd which"},
    "inner": {1: "bytes inside which", 2: "row leaves"},
    "leaves": {1: "bytes name"},
})  # fmt: skip


def varint(value: int) -> bytes:
    value %= 1 << 64
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])


_numbers = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(_numbers, _numbers, st.binary(max_size=200), st.lists(st.binary(max_size=5), max_size=4)), max_size=9))
@settings(deadline=None)
def test_a_scan_finds_what_was_written(items: list[tuple[int, int, bytes, list[bytes]]]) -> None:
    body = b""
    for number, exact, text, tags in items:
        leaf = frame(2, frame(1, text)) + frame(1, b"x")
        item = b"\x08" + varint(number) + b"\x11" + exact.to_bytes(8, "little", signed=True) + frame(3, text)
        body += frame(1, item + b"".join(frame(4, tag) for tag in tags) + frame(30, b"unknown") + b"\xf8\x01\x05" + frame(5, leaf))
    tables = PLAN.scan(body)
    table = tables["items"]
    assert table["number"].tolist() == [item[0] for item in items]
    assert table["exact"].tolist() == [item[1] for item in items]
    assert [body[start : start + size] for start, size in zip(*table.text("text"), strict=True)] == [item[2] for item in items]
    runs = [body[start : start + size] for start, size in zip(*table.text("tags"), strict=True)]
    assert runs == [b"".join(frame(4, tag) for tag in tags) for *_, tags in items]
    assert not table.torn("tags").any()
    assert table["which"].tolist() == [1] * len(items)
    assert tables["leaves"].parent.tolist() == list(range(len(items)))


def test_a_torn_run_is_seen() -> None:
    item = frame(4, b"a") + frame(3, b"between") + frame(4, b"b")
    assert PLAN.scan(frame(1, item) + frame(1, frame(4, b"a") * 3))["items"].torn("tags").tolist() == [True, False]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\x0a\x05\x08", "ends behind"), (b"\x10" + b"\xff" * 10, "longer than ten"), (b"\x02\x00", "number 0"), (b"\x0b", "wire type"),
        (b"\x10", "ends behind"), (b"\x80", "ends behind"), (b"\x0a\x03\x11\x00\x00", "ends behind"), (b"\x0f", "wire type"),
    ],
)  # fmt: skip
def test_malformed_messages(body: bytes, why: str) -> None:
    with pytest.raises(BadData, match=why) as caught:
        PLAN.scan(body)
    assert caught.value.where.endswith("byte 0") or "items" in caught.value.where


def test_more_parts_than_any_sender_has_reason_to_send() -> None:
    with pytest.raises(TooLarge):
        PLAN.scan(b"\x0a\x00" * 10_000)
