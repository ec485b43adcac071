"""OTLP in JSON, turned into protobuf: hexadecimal ids, enums as numbers, 64-bit integers as text; unknown fields are ignored.

Each record is read for itself, so one with a wrong type does not cost its neighbours.
"""

from __future__ import annotations

import binascii
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ninefold.ground.errors import BadData
from ninefold.sources.protobuf import frame

JSON_FORMAT = "otlp_json"
_NAMES: dict[str, tuple[str, str, str, type[Message]]] = {
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics", Metric),
    "logs": ("resourceLogs", "scopeLogs", "logRecords", LogRecord),
    "traces": ("resourceSpans", "scopeSpans", "spans", Span),
}
_IDS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_WITH_IDS = (
    "links",
    "exemplars",
    "dataPoints",
    "data_points",
    "gauge",
    "sum",
    "histogram",
    "exponentialHistogram",
    "exponential_histogram",
)

Entry = tuple[str, str, bytes]


def from_json(kind: str, body: bytes) -> tuple[bytes, list[Entry], int]:
    """The protobuf body of a JSON Export request, quarantine entries for what cannot be read, and how many records that is.

    Raises:
        BadData: the body is not JSON, or not an Export request; `where` names the offset or the field.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadData(f"the body is not JSON: {error.msg}", f"offset {error.pos}") from None
    outer, middle, inner, record_type = _NAMES[kind]
    if not isinstance(request, dict):
        raise BadData("the body is not a JSON object", "offset 0")
    parts, bad, rejected = [], [], 0
    for i, group in enumerate(_objects(request, outer, "")):
        where = f"{outer}[{i}]"
        resource = group.get("resource", {})
        framed = frame(1, _message(resource, Resource(), f"{where}.resource"))
        unread: list[dict[str, Any]] = []
        faults: list[BadData] = []
        for j, part in enumerate(_objects(group, middle, f"{where}.")):
            place = f"{where}.{middle}[{j}]"
            scope = part.get("scope", {})
            good = [frame(1, _message(scope, InstrumentationScope(), f"{place}.scope"))]
            refused: list[Any] = []
            for k, record in enumerate(_list(part, inner, f"{place}.")):
                try:
                    good.append(frame(2, _message(record, record_type(), f"{place}.{inner}[{k}]")))
                except BadData as error:
                    refused.append(record)
                    faults.append(error)
            framed += frame(2, b"".join(good))
            if refused:
                unread.append({"scope": scope, inner: refused})
                rejected += sum(map(_weight, refused))
        parts.append(frame(1, framed))
        if faults:
            again = {outer: [{"resource": resource, middle: unread}]}
            bad.append((f"{faults[0].reason} ({len(faults)} {inner})", faults[0].where, _dump(again, where)))
    return b"".join(parts), bad, rejected


def _dump(value: Any, where: str) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise BadData("a record is nested too deeply to be kept", where) from None


def _list(group: dict[str, Any], name: str, where: str) -> list[Any]:
    found = group.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadData("a list is expected", where + name)
    return found


def _objects(group: dict[str, Any], name: str, where: str) -> Iterator[dict[str, Any]]:
    for i, item in enumerate(_list(group, name, where)):
        if not isinstance(item, dict):
            raise BadData("an object is expected", f"{where}{name}[{i}]")
        yield item


def _message(value: Any, message: Message, where: str) -> bytes:
    """The protobuf bytes of a JSON object; null is an empty one.

    Raises:
        BadData: it does not fit the message.
    """
    if value is None:
        return b""
    if not isinstance(value, dict):
        raise BadData("an object is expected", where)
    try:
        return ParseDict(_with_base64_ids(value), message, ignore_unknown_fields=True).SerializeToString()
    except (ParseError, ValueError, RecursionError) as error:
        raise BadData(f"the record cannot be read: {str(error).splitlines()[0]}", where) from None


def _with_base64_ids(value: Any) -> Any:
    """The same object with its hexadecimal ids as base64, which protobuf's own JSON reader expects."""
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {name: _with_base64_ids(value[name]) for name in _WITH_IDS if isinstance(value.get(name), dict | list)}
    changed |= {name: b64encode(binascii.unhexlify(value[name])).decode() for name in _IDS if isinstance(value.get(name), str)}
    return {**value, **changed} if changed else value


def _weight(record: Any) -> int:
    """How many rejected records one unread object counts for: a metric its data points, anything else one."""
    abouts = record.values() if isinstance(record, dict) else ()
    points = (about.get("dataPoints") for about in abouts if isinstance(about, dict))
    return sum(len(found) for found in points if isinstance(found, list)) or 1
