"""OpenTelemetry's AnyValue as text: strings as they are, numbers in decimal, lists and maps as JSON, bytes in base64."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from math import isfinite
from typing import Any

import numpy as np
import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from ninefold.sources.columns import Mask, Texts
from ninefold.sources.kernel import Ints
from ninefold.sources.protobuf import Table

ANY_VALUE = {
    1: "bytes value type", 2: "varint value type", 3: "varint value type", 4: "fixed value type",
    5: "bytes value type", 6: "bytes value type", 7: "bytes value type",
}  # fmt: skip
"""The fields of AnyValue for a `Plan`: `type` says which one was set."""
KEY_VALUE = {1: "bytes key", 2: "one any_value"}
_STRING, _BOOL, _INT, _DOUBLE, _ARRAY, _MAP, _BYTES = range(1, 8)


def plain(value: AnyValue) -> Any:
    """A value as JSON knows it; what JSON has no word for (bytes, NaN, infinities) as OTLP's JSON writes it."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return b64encode(value.bytes_value).decode()
    if kind == "double_value":
        return value.double_value if isfinite(value.double_value) else _endless(value.double_value)
    return getattr(value, kind)


def text_of(value: AnyValue) -> str:
    """A value as text; one that is not set is ""."""
    found = plain(value)
    if isinstance(found, str):
        return found
    return "" if found is None else orjson.dumps(found).decode()


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes as text; of equal keys the last one counts."""
    return {pair.key: text_of(pair.value) for pair in pairs}


def _endless(number: float) -> str:
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def render(texts: Texts, body: bytes, table: Table) -> tuple[Ints, Ints, Mask]:
    """The places of the texts of a table's `value` cells, as `text_of` gives them, and which of them cannot be read."""
    offsets, lengths = table.text("value")
    raw = table["value"]
    kinds = table["type"]
    bad = np.zeros(len(kinds), np.bool_)
    lengths[kinds == 0] = 0
    if (kinds <= _STRING).all():
        return offsets, lengths, bad
    if (ints := kinds == _INT).any():
        offsets[ints], lengths[ints] = texts.add_numbers(raw[ints])
    if (flags := kinds == _BOOL).any():
        words = texts.add(b"truefalse")
        offsets[flags] = np.where(raw[flags] != 0, words, words + 4)
        lengths[flags] = np.where(raw[flags] != 0, 4, 5)
    if (doubles := kinds == _DOUBLE).any():
        numbers = raw[doubles].view(np.float64).tolist()
        offsets[doubles], lengths[doubles] = texts.add_all([text_of(AnyValue(double_value=number)).encode() for number in numbers])
    for row in np.flatnonzero(kinds >= _ARRAY).tolist():
        data = body[offsets[row] : offsets[row] + lengths[row]]
        try:
            text = text_of(_nested(int(kinds[row]), data)).encode()
        except DecodeError:
            bad[row] = True
            continue
        offsets[row], lengths[row] = texts.add(text), len(text)
    return offsets, lengths, bad


def _nested(kind: int, data: bytes) -> AnyValue:
    if kind == _BYTES:
        return AnyValue(bytes_value=data)
    if kind == _ARRAY:
        return AnyValue(array_value=ArrayValue.FromString(data))
    return AnyValue(kvlist_value=KeyValueList.FromString(data))
