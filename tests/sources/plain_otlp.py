"""The straightforward reading of OTLP that the decoder is compared with, value by value."""

from __future__ import annotations

import base64
import gzip
import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from google.protobuf.json_format import MessageToDict
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from ninefold.model.entity import entity_of, series_id, vnode_of
from ninefold.model.signal import SCHEMAS, Decoded
from ninefold.sources.otlp import Otlp

RECEIVED = 1_795_350_900_000_000_000
NOW = 1_795_350_857_000_000_123
PROTOBUF, JSON = "application/x-protobuf", "application/json"
REQUESTS = {"metrics": ExportMetricsServiceRequest, "logs": ExportLogsServiceRequest, "traces": ExportTraceServiceRequest}


def captured(data: Path) -> list[tuple[str, bytes]]:
    """(metrics, logs or traces; body) of every captured request: HTTP, HTTP with gzip, gRPC, and forwarded by a collector."""
    found = []
    for folder in ("otlp_http", "otlp_http_gzip", "otlp_grpc", "rotel_forwarded"):
        for path in sorted((data / "payloads" / folder).glob("*.body.*")):
            kind = next(kind for kind in ("metrics", "logs", "trace") if kind in path.name)
            body = path.read_bytes()
            found.append(("traces" if kind == "trace" else kind, gzip.decompress(body) if path.suffix == ".gzip" else body))
    assert len(found) == 25
    return found


def decode(otlp: Otlp, kind: str, body: bytes, content_type: str = PROTOBUF) -> Decoded:
    decoded: Decoded = getattr(otlp, kind)(body, content_type, "app", RECEIVED)
    for batch in decoded.batches:
        assert batch.rows.schema == SCHEMAS[batch.signal]
        batch.rows.validate(full=True)
        assert (batch.source, batch.received) == ("app", RECEIVED)
    return decoded


def rows(decoded: Decoded, signal: str) -> list[dict[str, Any]]:
    """Rows as dictionaries, times as ns, maps as lists of pairs."""
    found = []
    for batch in decoded.batches:
        if batch.signal == signal:
            columns = {
                name: column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
                for name, column in zip(batch.rows.schema.names, batch.rows.columns, strict=True)
            }
            found += pa.table(columns).to_pylist()
    return found


def value_of(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [value_of(item) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "double_value" if math.isnan(value.double_value):
            return "NaN"
        case "double_value" if math.isinf(value.double_value):
            return "Infinity" if value.double_value > 0 else "-Infinity"
        case name:
            return getattr(value, name)


def text_of(value: AnyValue) -> str:
    plain = value_of(value)
    if plain is None or isinstance(plain, str):
        return plain or ""
    return orjson.dumps(plain).decode()


def pairs(attributes: Any) -> list[tuple[str, str]]:
    return [(pair.key, text_of(pair.value)) for pair in attributes]


def scope_pairs(scope: Any) -> list[tuple[str, str]]:
    about = [("name", scope.name), ("version", scope.version), *pairs(scope.attributes)]
    return [(f"otel.scope.{key}", value) for key, value in about if value]


def shared(resource: list[tuple[str, str]], scope: Any) -> dict[str, Any]:
    entity = entity_of(dict(resource))
    return {
        "vnode": vnode_of(entity), "entity": entity, "source": "app", "received": RECEIVED,
        "resource": list({**dict(resource), **dict(scope_pairs(scope))}.items()),
    }  # fmt: skip


def expected_logs(request: ExportLogsServiceRequest) -> list[dict[str, Any]]:
    return [
        {
            **shared(pairs(group.resource.attributes), part.scope), "time": record.time_unix_nano or record.observed_time_unix_nano,
            "severity_number": record.severity_number, "severity_text": record.severity_text, "body": text_of(record.body), "pattern": 0,
            "trace_id": record.trace_id.hex() if any(record.trace_id) else "",
            "span_id": record.span_id.hex() if any(record.span_id) else "",
            "attributes": pairs(record.attributes) + ([("event.name", record.event_name)] if record.event_name else []),
        }
        for group in request.resource_logs for part in group.scope_logs for record in part.log_records
    ]  # fmt: skip


def expected_spans(request: ExportTraceServiceRequest) -> list[dict[str, Any]]:
    found = []
    for group in request.resource_spans:
        for part in group.scope_spans:
            for span in part.spans:
                events = [
                    {"time": event.time_unix_nano, "name": event.name, "attributes": dict(pairs(event.attributes))} for event in span.events
                ]
                links = [
                    {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": dict(pairs(link.attributes))}
                    for link in span.links
                ]
                extra = [("otel.trace_state", span.trace_state)] if span.trace_state else []
                extra += [("otel.links", json.dumps(links, separators=(",", ":"), ensure_ascii=False))] if links else []
                found.append({
                    **shared(pairs(group.resource.attributes), part.scope), "time": span.start_time_unix_nano,
                    "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex(),
                    "parent_span_id": span.parent_span_id.hex() if any(span.parent_span_id) else "", "name": span.name,
                    "kind": ["internal", "internal", "server", "client", "producer", "consumer"][span.kind],
                    "duration": span.end_time_unix_nano - span.start_time_unix_nano,
                    "status": ["unset", "ok", "error"][span.status.code], "status_message": span.status.message,
                    "attributes": pairs(span.attributes) + extra,
                    "events": json.dumps(events, separators=(",", ":"), ensure_ascii=False),
                })  # fmt: skip
    return found


def bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


Point = tuple[str, str, str, frozenset[tuple[str, str]], int, int]
"""Name, unit, kind, attributes, time, value's bits."""


def number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def expected_points(request: ExportMetricsServiceRequest) -> list[Point]:
    """Gauges, sums, explicit histograms and summaries."""
    found: list[Point] = []
    for group in request.resource_metrics:
        for part in group.scope_metrics:
            for metric in part.metrics:
                which = metric.WhichOneof("data")
                data = getattr(metric, which)
                kind = {"gauge": "gauge", "summary": "counter"}.get(which) or ["unknown", "delta", "counter"][data.aggregation_temporality]
                if which == "sum" and kind == "counter" and not data.is_monotonic:
                    kind = "gauge"
                for point in data.data_points:
                    attributes = dict(pairs(group.resource.attributes)) | dict(scope_pairs(part.scope)) | dict(pairs(point.attributes))

                    def add(suffix: str, unit: str, kind: str, value: float, **extra: str) -> None:
                        mine = frozenset((attributes | extra).items())  # noqa: B023 - called before the loop goes on
                        found.append((metric.name + suffix, unit, kind, mine, point.time_unix_nano, bits(value)))  # noqa: B023

                    if which in ("gauge", "sum"):
                        add("", metric.unit, kind, float(getattr(point, point.WhichOneof("value"))))
                        continue
                    add("_count", "", kind, float(point.count))
                    if which == "summary" or point.HasField("sum"):
                        add("_sum", metric.unit, kind, point.sum)
                    for name in ("min", "max"):
                        if which == "histogram" and point.HasField(name):
                            add(f"_{name}", metric.unit, "gauge", getattr(point, name))
                    if which == "summary":
                        for at in point.quantile_values:
                            add("", metric.unit, "gauge", at.value, quantile=number(at.quantile))
                    else:
                        bounds = [*map(number, point.explicit_bounds), "+Inf"]
                        for i, bound in enumerate(bounds if point.bucket_counts else []):
                            add("_bucket", "", kind, float(sum(point.bucket_counts[: i + 1])), le=bound)
    return found


def points(decoded: Decoded, known: dict[int, dict[str, Any]]) -> list[Point]:
    known.update({row["series"]: row for row in rows(decoded, "series")})
    found: list[Point] = []
    for batch in decoded.batches:
        if batch.signal == "metric":
            values = np.asarray(batch.rows.column("value")).view(np.int64).tolist()
            times = batch.rows.column("time").cast(pa.int64()).to_pylist()
            for series, time, value in zip(batch.rows.column("series").to_pylist(), times, values, strict=True):
                row = known[series]
                assert series == series_id(row["name"], dict(row["attributes"]))
                found.append((row["name"], row["unit"], row["kind"], frozenset(row["attributes"]), time, value))
    return found


def check(otlp: Otlp, known: dict[int, dict[str, Any]], kind: str, request: Any, content_type: str = PROTOBUF) -> Decoded:
    """Decode a request and compare every value."""
    body = request.SerializeToString() if content_type == PROTOBUF else json.dumps(to_json(request)).encode()
    decoded = decode(otlp, kind, body, content_type)
    if kind == "logs":
        assert rows(decoded, "log") == expected_logs(request)
    elif kind == "traces":
        assert rows(decoded, "span") == expected_spans(request)
    else:
        assert Counter(points(decoded, known)) == Counter(expected_points(request))
    return decoded


def to_json(request: Any) -> Any:
    """The request as OTLP's JSON: protobuf's JSON, but enums as numbers and ids in hexadecimal."""

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: base64.b64decode(item).hex() if key in ("traceId", "spanId", "parentSpanId") else walk(item) for key, item in value.items()
        }

    return walk(MessageToDict(request, use_integers_for_enums=True))


any_values = st.recursive(
    st.one_of(
        st.builds(lambda v: AnyValue(string_value=v), st.text(max_size=9)), st.builds(lambda v: AnyValue(bool_value=v), st.booleans()),
        st.builds(lambda v: AnyValue(int_value=v), st.integers(-(2**63), 2**63 - 1)), st.just(AnyValue()),
        st.builds(lambda v: AnyValue(double_value=v), st.floats()), st.builds(lambda v: AnyValue(bytes_value=v), st.binary(max_size=5)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda v: AnyValue(array_value=ArrayValue(values=v)), st.lists(inner, max_size=3)),
        st.builds(
            lambda v: AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key=k, value=x) for k, x in v.items()])),
            st.dictionaries(st.text(max_size=4), inner, max_size=3),
        ),
    ),
    max_leaves=4,
)  # fmt: skip
attribute_maps = st.dictionaries(st.text(max_size=5), any_values, max_size=4)


def key_values(attributes: dict[str, AnyValue]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value) for key, value in attributes.items()]
