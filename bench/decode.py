"""How fast telemetry bodies become batches: records per second of CPU, beside the straightforward decoding in the same process.

``python bench/decode.py`` prints a Markdown table. The peers walk the classes that protobuf generates, the way receivers usually do,
and only read the values: they make no batches, no ids, no checks. For syslog the peer is one regular expression a line.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from ninefold.sources import kernel
from ninefold.sources.body import decompress
from ninefold.sources.otlp import Otlp
from ninefold.sources.remote_write import RemoteWrite
from ninefold.sources.syslog_message import parse, read

NOW = 1_795_350_857_000_000_000
ROUNDS = 12


def generated_write_request() -> Any:
    """The class of `prometheus.WriteRequest` that protoc would generate."""
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="bench", syntax="proto3")
    kinds = {"string": 9, "double": 1, "int64": 3}
    for name, fields in {
        "Label": [("name", 1, "string", False), ("value", 2, "string", False)],
        "Sample": [("value", 1, "double", False), ("timestamp", 2, "int64", False)],
        "TimeSeries": [("labels", 1, "Label", True), ("samples", 2, "Sample", True)],
        "WriteRequest": [("timeseries", 1, "TimeSeries", True)],
    }.items():
        message = file.message_type.add(name=name)
        for field, number, kind, many in fields:
            made = message.field.add(name=field, number=number, label=3 if many else 1, type=kinds.get(kind, 11))
            if kind not in kinds:
                made.type_name = f".bench.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.WriteRequest"))


def write_request(series: int, samples: int) -> bytes:
    """A snappy-compressed remote write body; nine labels a series, as Prometheus in a cluster sends them."""
    request = generated_write_request()()
    for i in range(series):
        one = request.timeseries.add()
        for name, value in {
            "__name__": "http_request_duration_seconds_bucket", "cluster": "prod-eu-west-1", "code": "200",
            "handler": f"/api/v1/query/{i % 50}", "instance": f"10.0.{i % 250}.{i // 250}:9090", "job": "prometheus-k8s",
            "le": "0.5", "namespace": "monitoring", "pod": f"pod-{i}",
        }.items():  # fmt: skip
            one.labels.add(name=name, value=value)
        for j in range(samples):
            one.samples.add(value=i * 1.5 + j, timestamp=NOW // 1_000_000 + 15_000 * j)
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def attributes(**values: object) -> list[KeyValue]:
    """Attributes as OTLP has them."""
    return [
        KeyValue(
            key=key.replace("_", "."), value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=str(value))
        )
        for key, value in values.items()
    ]


RESOURCE = attributes(
    service_name="checkout", service_namespace="shop", service_version="1.4.2", service_instance_id="abd9e6ba-13e1-4d23",
    host_name="web-1", k8s_pod_name="checkout-7d9f8", k8s_namespace_name="shop", deployment_environment_name="prod",
)  # fmt: skip


def metrics_request(points: int) -> bytes:
    """Sums and gauges, four attributes a point, fifty points a metric."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(RESOURCE)
    scope = group.scope_metrics.add()
    scope.scope.name = "bench"
    for m in range(points // 50):
        metric = scope.metrics.add(name=f"http.server.requests.{m}", unit="1")
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        for i in range(50):
            point = metric.sum.data_points.add(start_time_unix_nano=NOW - 10**9, time_unix_nano=NOW, as_double=i * 1.5)
            point.attributes.extend(attributes(http_route=f"/api/{i}", http_method="GET", http_status_code=200, net_host_name="web"))
    return request.SerializeToString()


def logs_request(records: int) -> bytes:
    """Log records of about eighty characters with three attributes and trace context."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(RESOURCE)
    scope = group.scope_logs.add()
    scope.scope.name = "checkout.orders"
    for i in range(records):
        record = scope.log_records.add(time_unix_nano=NOW + i, observed_time_unix_nano=NOW + i, severity_number=9, severity_text="INFO")
        record.body.string_value = f"order {i} of customer {i % 977} accepted, 3 items, total 129.50 EUR, warehouse north-2"
        record.attributes.extend(attributes(code_file_path="/srv/app/orders.py", code_function_name="accept", code_line_number=88))
        record.trace_id, record.span_id = struct.pack(">QQ", 77, i + 1), struct.pack(">Q", i + 1)
    return request.SerializeToString()


def traces_request(spans: int) -> bytes:
    """Server spans with eight attributes; one in twenty carries an exception."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(RESOURCE)
    scope = group.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.flask"
    for i in range(spans):
        span = scope.spans.add(name="GET /pay", kind=2, start_time_unix_nano=NOW, end_time_unix_nano=NOW + 10**6 + i)
        span.trace_id, span.span_id, span.parent_span_id = struct.pack(">QQ", 7, i // 9 + 1), struct.pack(">Q", i + 1), b"parent01"
        span.attributes.extend(
            attributes(
                http_method="GET",
                http_scheme="http",
                http_target="/pay",
                http_route="/pay",
                http_status_code=200,
                net_peer_ip="10.1.2.3",
                net_peer_port=40216,
                http_user_agent="python-requests/2.34.2",
            )
        )
        if i % 20 == 0:
            span.status.code = 2
            event = span.events.add(time_unix_nano=NOW, name="exception")
            event.attributes.extend(attributes(exception_type="RuntimeError", exception_message="connection to db-1 refused"))
    return request.SerializeToString()


def syslog_lines(lines: int) -> list[bytes]:
    """RFC 5424 lines as rsyslog forwards them."""
    return [
        f"<131>1 2026-11-22T12:35:{i // 100 % 60:02d}.{i % 1000:03d}377+00:00 web-{i % 20} checkout {700 + i % 5} TCPIN "
        f'[timeQuality tzKnown="1" isSynced="0"] payment failed order={i} err="timeout after 3000ms"'.encode()
        for i in range(lines)
    ]


def walk_write(raw: bytes, kind: Any) -> int:
    """The peer for remote write."""
    rows = []
    for series in kind.FromString(bytes(cramjam.snappy.decompress_raw(raw))).timeseries:
        labels = {label.name: label.value for label in series.labels}
        rows += [(labels, sample.timestamp * 1_000_000, sample.value) for sample in series.samples]
    return len(rows)


def walk_metrics(raw: bytes) -> int:
    """The peer for OTLP metrics."""
    rows = []
    for group in ExportMetricsServiceRequest.FromString(raw).resource_metrics:
        shared = {pair.key: pair.value.string_value for pair in group.resource.attributes}
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                for point in metric.sum.data_points:
                    own = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in point.attributes}
                    rows.append((metric.name, shared, own, point.time_unix_nano, point.as_double))
    return len(rows)


def walk_logs(raw: bytes) -> int:
    """The peer for OTLP logs."""
    rows = []
    for group in ExportLogsServiceRequest.FromString(raw).resource_logs:
        shared = {pair.key: pair.value.string_value for pair in group.resource.attributes}
        for scope in group.scope_logs:
            for r in scope.log_records:
                own = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in r.attributes}
                ids = r.trace_id.hex(), r.span_id.hex()
                rows.append((shared, own, ids, r.time_unix_nano, r.severity_number, r.severity_text, r.body.string_value))
    return len(rows)


def walk_traces(raw: bytes) -> int:
    """The peer for OTLP traces."""
    rows = []
    for group in ExportTraceServiceRequest.FromString(raw).resource_spans:
        shared = {pair.key: pair.value.string_value for pair in group.resource.attributes}
        for scope in group.scope_spans:
            for s in scope.spans:
                own = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in s.attributes}
                events = [{pair.key: pair.value.string_value for pair in event.attributes} for event in s.events]
                ids = s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex()
                rows.append((shared, own, ids, events, s.name, s.kind, s.start_time_unix_nano, s.end_time_unix_nano, s.status.code))
    return len(rows)


def rate(work: Callable[[], object], records: int) -> float:
    """Records per second of CPU, the best of some rounds after one to warm up."""
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return records / best


def run() -> list[dict[str, Any]]:
    """All figures: name, value, unit, target, peer (the same unit) and their ratio."""
    kernel.warm()
    limit = 64 << 20
    kind = generated_write_request()
    writer, otlp = RemoteWrite(), Otlp()
    one, many = write_request(10_000, 1), write_request(2_000, 5)
    metrics, logs, traces, lines = metrics_request(10_000), logs_request(10_000), traces_request(5_000), syslog_lines(10_000)
    protobuf = "application/x-protobuf"

    def write(raw: bytes) -> object:
        return writer.decode(decompress(raw, "snappy", limit), "bench", NOW)

    cases: list[tuple[str, str, int, int | None, Callable[[], object], Callable[[], object]]] = [
        ("remote write, one sample a series", "samples", 10_000, 1_000_000, lambda: write(one), lambda: walk_write(one, kind)),
        ("remote write, five samples a series", "samples", 10_000, 300_000, lambda: write(many), lambda: walk_write(many, kind)),
        ("OTLP metrics", "points", 10_000, 300_000, lambda: otlp.metrics(metrics, protobuf, "b", NOW), lambda: walk_metrics(metrics)),
        ("OTLP logs", "records", 10_000, 200_000, lambda: otlp.logs(logs, protobuf, "b", NOW), lambda: walk_logs(logs)),
        ("OTLP traces", "spans", 5_000, None, lambda: otlp.traces(traces, protobuf, "b", NOW), lambda: walk_traces(traces)),
        ("syslog RFC 5424", "lines", 10_000, None, lambda: parse(lines, "b", NOW), lambda: [read(line, NOW) for line in lines]),
    ]
    results = []
    for name, noun, records, target, work, peer in cases:
        value = rate(work, records)
        other = rate(peer, records)
        results.append({"name": name, "value": value, "unit": f"{noun}/CPU-s", "target": target, "peer": other, "ratio": value / other})
    return results


def main() -> None:
    """Print the table."""
    print("| decoding | here | target | straightforward | ratio |\n|---|---|---|---|---|")
    for row in run():
        target = f"{row['target']:,}" if row["target"] else "–"
        print(f"| {row['name']} | {row['value']:,.0f} {row['unit']} | {target} | {row['peer']:,.0f} | {row['ratio']:.1f}× |")


if __name__ == "__main__":
    main()
