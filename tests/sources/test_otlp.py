"""OTLP: every captured body value by value against the generated classes, JSON beside protobuf, bad records beside good ones."""

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
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from ninefold.ground.errors import BadData, TooLarge
from ninefold.model.entity import entity_of, series_id, vnode_of
from ninefold.model.signal import SCHEMAS, Decoded
from ninefold.sources import kernel
from ninefold.sources.otlp import Otlp, error_status, response

RECEIVED = 1_795_350_900_000_000_000
NOW = 1_795_350_857_000_000_123
PROTOBUF, JSON = "application/x-protobuf", "application/json"
REQUESTS = {"metrics": ExportMetricsServiceRequest, "logs": ExportLogsServiceRequest, "traces": ExportTraceServiceRequest}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> kernel.Kernels:
    kernel.warm()
    return kernel.kernels()


@pytest.fixture(params=["interpreted", "compiled"])
def loops(request: pytest.FixtureRequest, compiled: kernel.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds before Numba has compiled and after."""
    monkeypatch.setattr(kernel, "_current", compiled if request.param == "compiled" else kernel.interpreted)


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


# The straightforward reading that everything is compared with.


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


@pytest.mark.usefixtures("loops")
def test_every_captured_body_value_by_value(data: Path) -> None:
    otlp, known = Otlp(), {}
    for kind, body in captured(data):
        decoded = check(otlp, known, kind, REQUESTS[kind].FromString(body))
        assert (decoded.rejected, decoded.reason) == (0, "")
    assert len(known) > 300


def test_the_same_in_json(data: Path) -> None:
    otlp, known = Otlp(), {}
    for kind, body in captured(data):
        request = REQUESTS[kind].FromString(body)
        decoded = check(otlp, known, kind, request, JSON)
        again = decode(otlp, kind, body)
        assert [batch.rows for batch in again.batches] == [batch.rows for batch in decoded.batches if batch.signal != "series"]


def test_known_series_are_described_once_and_forgotten_ones_again(data: Path) -> None:
    otlp = Otlp()
    body = max((body for kind, body in captured(data) if kind == "metrics"), key=len)
    described = rows(decode(otlp, "metrics", body), "series")
    assert all(row["vnode"] == row["series"] % 4096 and row["seen"] == RECEIVED for row in described)
    assert all(row["entity"] == "service:checkout" for row in described)
    assert rows(decode(otlp, "metrics", body), "series") == []
    lost = {row["series"] for row in described[::3]}
    assert any(row["name"].endswith("_bucket") for row in described if row["series"] in lost)
    otlp.forget(lost)
    assert {row["series"] for row in rows(decode(otlp, "metrics", body), "series")} == lost


def metric(**fields: Any) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.add(key="service.name", value=AnyValue(string_value="shop"))
    group.scope_metrics.add().metrics.add(name="m", unit="s", **fields)
    return request


def only_metric(request: ExportMetricsServiceRequest) -> Any:
    return request.resource_metrics[0].scope_metrics[0].metrics[0]


@pytest.mark.parametrize("temporality", [0, 1, 2])
@pytest.mark.parametrize("monotonic", [False, True])
def test_kinds_of_sums(temporality: int, monotonic: bool) -> None:
    request = metric()
    total = only_metric(request).sum
    total.aggregation_temporality, total.is_monotonic = temporality, monotonic
    total.data_points.add(time_unix_nano=NOW, as_int=2**62 + 1)
    check(Otlp(), {}, "metrics", request)


def test_histograms_and_summaries() -> None:
    request = metric()
    histogram = only_metric(request).histogram
    histogram.aggregation_temporality = 2
    histogram.data_points.add(
        time_unix_nano=NOW, count=6, sum=9.5, min=0.1, max=7, bucket_counts=[1, 2, 0, 3], explicit_bounds=[0.005, 1, 2.5]
    )
    histogram.data_points.add(time_unix_nano=NOW, count=2, attributes=[KeyValue(key="route", value=AnyValue(string_value="/"))])
    summary = request.resource_metrics[0].scope_metrics[0].metrics.add(name="rpc", unit="ms").summary
    point = summary.data_points.add(time_unix_nano=NOW, count=10, sum=5.5)
    point.quantile_values.add(quantile=0.5, value=0.4)
    point.quantile_values.add(quantile=1, value=0.9)
    otlp, known = Otlp(), {}
    check(otlp, known, "metrics", request)
    assert {row["name"] for row in known.values()} == {"m_count", "m_sum", "m_min", "m_max", "m_bucket", "rpc_count", "rpc_sum", "rpc"}
    assert rows(check(otlp, known, "metrics", request), "series") == []


def test_exponential_histograms_become_cumulative_buckets() -> None:
    request = metric()
    histogram = only_metric(request).exponential_histogram
    histogram.aggregation_temporality = 1
    point = histogram.data_points.add(time_unix_nano=NOW, count=11, sum=20, scale=1, zero_count=2, zero_threshold=0.25)
    point.positive.offset = 1
    point.positive.bucket_counts.extend([3, 0, 2])
    point.negative.offset = -1
    point.negative.bucket_counts.extend([1, 3])
    known: dict[int, dict[str, Any]] = {}
    found = {
        (name, dict(attributes).get("le")): struct.unpack("<d", struct.pack("<q", value))[0]
        for name, _, kind, attributes, _, value in points(decode(Otlp(), "metrics", request.SerializeToString()), known)
        if kind == "delta"
    }
    root = math.sqrt(2)
    assert found == {
        ("m_count", None): 11, ("m_sum", None): 20,
        ("m_bucket", "-1"): 3, ("m_bucket", f"{-1 / root:.12g}"): 4, ("m_bucket", "0.25"): 6,
        ("m_bucket", "2"): 9, ("m_bucket", "4"): 11, ("m_bucket", "+Inf"): 11,
    }  # fmt: skip


def test_points_without_a_recorded_value_are_stale() -> None:
    request = metric()
    only_metric(request).gauge.data_points.add(time_unix_nano=NOW, flags=1)
    extra = request.resource_metrics[0].scope_metrics[0].metrics.add(name="h")
    extra.histogram.data_points.add(time_unix_nano=NOW, flags=1)
    found = points(decode(Otlp(), "metrics", request.SerializeToString()), {})
    assert {(name, value) for name, *_, value in found} == {("m", 0x7FF0000000000002), ("h_count", 0x7FF0000000000002)}


def test_attributes_of_a_point_win_over_the_resource() -> None:
    request = metric()
    point = only_metric(request).gauge.data_points.add(time_unix_nano=NOW, as_double=1)
    point.attributes.add(key="service.name", value=AnyValue(string_value="other"))
    known: dict[int, dict[str, Any]] = {}
    check(Otlp(), known, "metrics", request)
    assert [row["entity"] for row in known.values()] == ["service:other"]


def logs(*records: dict[str, Any]) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.add(key="service.name", value=AnyValue(string_value="shop"))
    for record in records:
        group.scope_logs.add().log_records.add(**{"time_unix_nano": NOW, **record})
    return request


def test_bad_log_records_go_to_quarantine_and_the_good_ones_stay() -> None:
    request = logs(
        {"body": AnyValue(string_value="good")},
        {"time_unix_nano": 0, "body": AnyValue(string_value="no time")},
        {"trace_id": b"short"},
        {"time_unix_nano": 0, "observed_time_unix_nano": 5, "trace_id": bytes(16), "span_id": bytes(8)},
        {"time_unix_nano": 2**63},
        {"span_id": b"nine byte"},
    )
    decoded = decode(Otlp(), "logs", request.SerializeToString())
    assert [(row["time"], row["trace_id"], row["body"]) for row in rows(decoded, "log")] == [(NOW, "", "good"), (5, "", "")]
    bad = rows(decoded, "quarantine")
    assert [row["reason"] for row in bad] == [
        "neither the time nor the observed time is set (1 log_records)",
        "the time is after 2262 (1 log_records)",
        "the trace_id is not 16 bytes long (1 log_records)",
        "the span_id is not 8 bytes long (1 log_records)",
    ]
    assert [row["where"] for row in bad] == ["log_records 1", "log_records 4", "log_records 2", "log_records 5"]
    assert {(row["signal"], row["format"]) for row in bad} == {("log", "otlp_proto")}
    again = ExportLogsServiceRequest.FromString(bad[2]["payload"])
    assert again.resource_logs[0].scope_logs[0].log_records == request.resource_logs[0].scope_logs[2].log_records
    assert again.resource_logs[0].resource == request.resource_logs[0].resource
    assert decoded.rejected == 4
    partial = ExportLogsServiceResponse.FromString(response("logs", decoded, PROTOBUF)).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (4, decoded.reason)
    assert "trace_id" in decoded.reason


def test_text_that_is_not_utf8_costs_only_its_record() -> None:
    request = logs({"body": AnyValue(string_value="abcd")}, {"body": AnyValue(string_value="good")})
    for pattern in (b"abcd", b"key1"):
        request.resource_logs[0].scope_logs[0].log_records[0].attributes.add(key="key1", value=AnyValue(string_value="x"))
        body = request.SerializeToString().replace(pattern, b"\xff\xfe\xfd\xfc")
        decoded = decode(Otlp(), "logs", body)
        assert [row["body"] for row in rows(decoded, "log")] == ["good"]
        assert "not UTF-8" in decoded.reason


def test_severity_words_speak_where_no_number_is_given() -> None:
    request = logs({"severity_text": "ERROR"}, {"severity_text": "odd"}, {"severity_number": 9, "severity_text": "ERROR"}, {})
    assert [row["severity_number"] for row in rows(decode(Otlp(), "logs", request.SerializeToString()), "log")] == [17, 0, 9, 0]


def test_bad_spans() -> None:
    request = ExportTraceServiceRequest()
    part = request.resource_spans.add().scope_spans.add()
    good = {"trace_id": b"t" * 16, "span_id": b"s" * 8, "start_time_unix_nano": NOW, "end_time_unix_nano": NOW + 5, "name": "x"}
    for change in (
        {}, {"trace_id": b""}, {"trace_id": bytes(16)}, {"span_id": b"1"}, {"parent_span_id": b"1"}, {"end_time_unix_nano": NOW - 1},
        {"start_time_unix_nano": 0},
    ):  # fmt: skip
        part.spans.add(**{**good, **change})
    decoded = decode(Otlp(), "traces", request.SerializeToString())
    assert len(rows(decoded, "span")) == 1
    assert decoded.rejected == 6
    partial = ExportTraceServiceResponse.FromString(response("traces", decoded, PROTOBUF)).partial_success
    assert partial.rejected_spans == 6


def test_bad_points() -> None:
    request = metric()
    gauge = only_metric(request).gauge
    gauge.data_points.add(time_unix_nano=NOW, as_double=1)
    gauge.data_points.add(as_double=2)
    gauge.data_points.add(time_unix_nano=NOW)
    part = request.resource_metrics[0].scope_metrics[0]
    part.metrics.add().gauge.data_points.add(time_unix_nano=NOW, as_int=1)
    histograms = part.metrics.add(name="h", unit="s").histogram
    histograms.aggregation_temporality = 2
    histograms.data_points.add(time_unix_nano=NOW, bucket_counts=[1], explicit_bounds=[1, 2])
    histograms.data_points.add(time_unix_nano=NOW, bucket_counts=[1, 1, 1], explicit_bounds=[2, 1])
    part.metrics.add(name="e").exponential_histogram.data_points.add(time_unix_nano=NOW, scale=99)
    decoded = decode(Otlp(), "metrics", request.SerializeToString())
    assert [name for name, *_ in points(decoded, {})] == ["m"]
    assert decoded.rejected == 6
    bad = {row["reason"].rpartition(" (")[0]: ExportMetricsServiceRequest.FromString(row["payload"]) for row in rows(decoded, "quarantine")}
    assert set(bad) == {
        "the time is not set", "the metric has no name, or its name is not UTF-8", "the point has no value",
        "a histogram needs one more bucket count than bounds", "the bounds of a histogram do not rise",
        "the scale of an exponential histogram is outside -10 to 20",
    }  # fmt: skip
    (kept,) = bad["the time is not set"].resource_metrics[0].scope_metrics[0].metrics
    assert (kept.name, kept.unit, list(kept.gauge.data_points)) == ("m", "s", [gauge.data_points[1]])
    (kept,) = bad["the bounds of a histogram do not rise"].resource_metrics[0].scope_metrics[0].metrics
    assert (kept.histogram.aggregation_temporality, list(kept.histogram.data_points)) == (2, [histograms.data_points[1]])
    partial = ExportMetricsServiceResponse.FromString(response("metrics", decoded, PROTOBUF)).partial_success
    assert partial.rejected_data_points == 6


def test_a_bad_record_in_json_costs_only_itself() -> None:
    record = {"timeUnixNano": str(NOW), "body": {"stringValue": "good"}, "somethingNew": {"a": [1]}, "severityNumber": 9}
    bad = [{**record, "traceId": "xyz"}, {**record, "timeUnixNano": "never"}, 7, {**record, "attributes": {"a": 1}}]
    group = {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}, "unknown": 1}
    body = {
        "resourceLogs": [{**group, "scopeLogs": [{"scope": {"name": "s"}, "logRecords": [record, *bad, {**record, "traceId": "0a" * 16}]}]}]
    }
    decoded = decode(Otlp(), "logs", json.dumps(body).encode(), JSON)
    found = rows(decoded, "log")
    assert [(row["body"], row["entity"], row["trace_id"]) for row in found] == [
        ("good", "service:shop", ""),
        ("good", "service:shop", "0a" * 16),
    ]
    (row,) = rows(decoded, "quarantine")
    assert (decoded.rejected, row["format"], row["where"]) == (4, "otlp_json", "resourceLogs[0].scopeLogs[0].logRecords[1]")
    again = json.loads(row["payload"])["resourceLogs"][0]
    assert again["scopeLogs"] == [{"scope": {"name": "s"}, "logRecords": bad}]
    answer = json.loads(response("logs", decoded, JSON))
    assert answer["partialSuccess"]["rejectedLogRecords"] == "4"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", "offset 1"), (b"[]", "offset 0"), (b'{"resourceLogs": 3}', "resourceLogs"), (b'{"resourceLogs": [3]}', "resourceLogs[0]"),
        (b'{"resourceLogs": [{"scopeLogs": {}}]}', "resourceLogs[0].scopeLogs"), (b"\xff", "offset 0"),
        (b'{"resourceLogs": [{"resource": {"attributes": 1}}]}', "resourceLogs[0].resource"),
    ],
)  # fmt: skip
def test_json_that_is_no_request(body: bytes, where: str) -> None:
    with pytest.raises(BadData) as caught:
        decode(Otlp(), "logs", body, JSON)
    assert caught.value.where == where


def test_deeply_nested_json_is_bad_data_or_is_kept() -> None:
    deep = '{"sum":' * 900 + "{}" + "}" * 900
    nested = '{"kvlistValue":{"values":[{"key":"a","value":' * 200 + "{}" + "}]}}" * 200
    for record in (deep, '{"gauge":{"dataPoints":[{"attributes":[{"key":"a","value":' + nested + "}]}]}}"):
        body = ('{"resourceMetrics":[{"scopeMetrics":[{"metrics":[' + record + "]}]}]}").encode()
        try:
            assert decode(Otlp(), "metrics", body, JSON).batches[0].signal == "quarantine"
        except BadData as error:
            assert "nested" in error.reason or "JSON" in error.reason  # noqa: PT017 - too deep to be kept is an answer as well


def test_requests_with_nothing_in_them() -> None:
    for kind, request in REQUESTS.items():
        for body, content_type in ((b"", PROTOBUF), (b"{}", JSON), (request().SerializeToString(), PROTOBUF)):
            decoded = decode(Otlp(), kind, body, content_type)
            assert (decoded.batches, decoded.rejected) == ([], 0)
            assert response(kind, decoded, content_type) == (b"" if content_type == PROTOBUF else b"{}")


def test_errors_are_told_as_a_status() -> None:
    status = Status.FromString(error_status("the body is not protobuf", 3, PROTOBUF))
    assert (status.code, status.message) == (3, "the body is not protobuf")
    assert json.loads(error_status("no", 16, JSON)) == {"code": 16, "message": "no"}


def test_a_large_resource_is_not_multiplied_into_a_flood() -> None:
    request = logs(*[{} for _ in range(3)])
    request.resource_logs[0].resource.attributes.add(key="big", value=AnyValue(string_value="x" * 1_000_000))
    records = request.resource_logs[0].scope_logs[0].log_records
    records.extend([records[0]] * 2000)
    with pytest.raises(TooLarge):
        decode(Otlp(), "logs", request.SerializeToString())
    wide = metric()
    wide.resource_metrics[0].resource.attributes.add(key="big", value=AnyValue(string_value="x" * 1_000_000))
    for i in range(400):
        wide.resource_metrics[0].scope_metrics[0].metrics.add(name=f"g{i}").gauge.data_points.add(time_unix_nano=NOW, as_int=1)
    otlp = Otlp()
    with pytest.raises(TooLarge):
        decode(otlp, "metrics", wide.SerializeToString())
    del wide.resource_metrics[0].scope_metrics[0].metrics[20:]
    assert len(rows(decode(otlp, "metrics", wide.SerializeToString()), "series")) == 19


def test_every_beginning_of_every_captured_body_decodes_or_is_bad_data(data: Path) -> None:
    for kind, body in captured(data)[:12]:
        otlp = Otlp()
        for end in range(0, len(body), 7):
            try:
                decode(otlp, kind, body[:end])
            except BadData as error:
                assert "byte" in error.where  # noqa: PT017 - both outcomes are right, what is raised must say where


_values = st.recursive(
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
_attributes = st.dictionaries(st.text(max_size=5), _values, max_size=4)
_ids = st.sampled_from([b"", bytes(16), b"0123456789abcdef"])


def _pairs(attributes: dict[str, AnyValue]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value) for key, value in attributes.items()]


@given(
    st.lists(
        st.tuples(
            _attributes, st.text(max_size=4),
            st.lists(st.tuples(st.integers(1, 2**63 - 1), _values, _attributes, st.text(max_size=6), _ids, st.integers(1, 24)), max_size=4),
        ),
        max_size=4,
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_logs_are_sent_come_out(groups: list[Any]) -> None:
    request = ExportLogsServiceRequest()
    for resource, scope, records in groups:
        group = request.resource_logs.add()
        group.resource.attributes.extend(_pairs(resource))
        part = group.scope_logs.add()
        part.scope.name = scope
        for time, body, attributes, text, trace_id, severity in records:
            part.log_records.add(
                time_unix_nano=time, body=body, attributes=_pairs(attributes), event_name=text, trace_id=trace_id, severity_number=severity
            )
    check(Otlp(), {}, "logs", request)


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=2), _attributes, st.floats(), st.integers(1, 2**63 - 1)), max_size=8))
@settings(max_examples=60, deadline=None)
def test_whatever_points_are_sent_come_out(sent: list[tuple[str, dict[str, AnyValue], float, int]]) -> None:
    request = ExportMetricsServiceRequest()
    part = request.resource_metrics.add().scope_metrics.add()
    for name, attributes, value, time in sent:
        part.metrics.add(name=name).gauge.data_points.add(time_unix_nano=time, as_double=value, attributes=_pairs(attributes))
    otlp, known = Otlp(), {}
    for _ in range(2):
        check(otlp, known, "metrics", request)


@pytest.fixture(scope="module")
def wires(data: Path) -> list[tuple[str, bytes]]:
    found = {kind: body for kind, body in captured(data) if len(body) < 13_000}
    return list(found.items())


@given(st.integers(0, 2), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=10))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_bodies_decode_or_are_bad_data_alike_in_both_loops(
    wires: list[tuple[str, bytes]], compiled: kernel.Kernels, monkeypatch: pytest.MonkeyPatch, which: int, changes: list[tuple[float, int]]
) -> None:
    kind, wire = wires[which]
    body = bytearray(wire)
    for place, byte in changes:
        body[int(place * len(body))] = byte
    outcomes = []
    for loops in (kernel.interpreted, compiled):
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "_current", loops)
            try:
                decoded = decode(Otlp(), kind, bytes(body))
                outcomes.append(([repr(batch.rows.to_pylist()) for batch in decoded.batches], decoded.rejected, decoded.reason))
            except BadData as error:
                outcomes.append((error.reason, error.where))
    assert outcomes[0] == outcomes[1]


_words = ["resourceSpans", "scopeSpans", "spans", "resource", "scope", "attributes", "traceId", "key", "value", "links", "events"]
_documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_words), inner, max_size=4),
    max_leaves=12,
)


@given(_documents)
@settings(max_examples=100, deadline=None)
def test_no_json_breaks_the_decoder(document: Any) -> None:
    for body in (document, {"resourceSpans": [{"scopeSpans": [{"spans": [document]}]}]}):
        try:
            decode(Otlp(), "traces", orjson.dumps(body), JSON)
        except BadData as error:
            assert error.where  # noqa: PT017 - both outcomes are right, what is raised must say where
