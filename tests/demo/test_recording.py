"""The recording as OTLP requests holds what its tables hold: no more, no less, only moved in time."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ninefold.demo.recording import METRICS, NODE_METRICS, Recording, Request, service_of
from ninefold.ground.clock import SECOND

END = 1_800_000_000 * SECOND + 123
LAST = 1675083355


def table(name: str) -> pa.Table:
    return pq.read_table(str(files("ninefold.demo") / "data" / name))


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording(END, fill=False)


@pytest.fixture(scope="module")
def minutes(recording: Recording) -> list[list[Request]]:
    return list(recording.requests())


def bodies(minutes: list[list[Request]], signal: str) -> list[bytes]:
    return [request.body for minute in minutes for request in minute if request.signal == signal]


def test_every_log_line_is_there_as_recorded(recording: Recording, minutes: list[list[Request]]) -> None:
    sent = Counter(
        (record.time_unix_nano - recording.shift, record.body.string_value, resource.resource.attributes[1].value.string_value)
        for body in bodies(minutes, "logs")
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for record in resource.scope_logs[0].log_records
    )
    recorded = Counter(
        (row["ts_us"] * 1000, row["message"], row["pod"])
        for name in ("normal_logs", "logs")
        for row in table(f"{name}.parquet").to_pylist()
    )
    assert sent == recorded
    assert sent.total() == 48_714


def test_logs_have_severity_ids_and_resource(minutes: list[list[Request]]) -> None:
    severities: Counter[tuple[str, int]] = Counter()
    for body in bodies(minutes, "logs"):
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
            assert attributes["service.name"] == service_of(attributes["k8s.pod.name"])
            for record in resource.scope_logs[0].log_records:
                severities[record.severity_text, record.severity_number] += 1
                assert f"TraceID: {record.trace_id.hex()} SpanID: {record.span_id.hex()}" in record.body.string_value
                assert f" {record.severity_text} " in record.body.string_value
    assert severities.keys() == {("INFO", 9), ("WARN", 13), ("ERROR", 17)}
    assert severities["ERROR", 17] >= 249


def test_every_span_is_there_with_its_place_in_the_trace(recording: Recording, minutes: list[list[Request]]) -> None:
    spans: dict[tuple[bytes, bytes], tuple[str, Span]] = {}
    for body in bodies(minutes, "traces"):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            pod = {item.key: item.value.string_value for item in resource.resource.attributes}["k8s.pod.name"]
            spans |= {(span.trace_id, span.span_id): (pod, span) for span in resource.scope_spans[0].spans}
    rows = [row for name in ("normal_traces", "traces") for row in table(f"{name}.parquet").to_pylist()]
    assert len(spans) == len(rows) == 92_511
    assert Counter(
        (pod, s.name, s.start_time_unix_nano - recording.shift, s.end_time_unix_nano - s.start_time_unix_nano) for pod, s in spans.values()
    ) == Counter((row["pod"], row["operation"], row["start_us"] * 1000, row["duration_us"] * 1000) for row in rows)
    roots = [span for _, span in spans.values() if not span.parent_span_id]
    assert len(roots) == sum(row["parent_no"] == -1 for row in rows) == 1288
    for pod, span in spans.values():
        if not span.parent_span_id:
            assert span.kind == Span.SPAN_KIND_SERVER
            continue
        above_pod, above = spans[span.trace_id, span.parent_span_id]
        assert (span.kind == Span.SPAN_KIND_SERVER) == (above_pod != pod)
        if above_pod != pod:
            assert above.kind in (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER)
    kinds = Counter(span.kind for _, span in spans.values())
    assert kinds[Span.SPAN_KIND_SERVER] - len(roots) >= kinds[Span.SPAN_KIND_CLIENT] > 14_000


def test_logs_point_at_spans_that_are_there(recording: Recording) -> None:
    spans = {(row["trace"], row["span"]): row["pod"] for row in recording.spans}
    assert all(spans[row["trace"], row["span"]] == row["pod"] for row in recording.logs)


def test_every_figure_is_there_as_recorded(recording: Recording, minutes: list[list[Request]]) -> None:
    sent: dict[tuple[str, str, int], float] = {}
    units = dict((*METRICS.values(), *NODE_METRICS.values()))
    for body in bodies(minutes, "metrics"):
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
            where = attributes.get("k8s.pod.name") or attributes["host.name"]
            for metric in resource.scope_metrics[0].metrics:
                (point,) = metric.gauge.data_points
                assert metric.unit == units[metric.name]
                sent[where, metric.name, (point.time_unix_nano - recording.shift) // SECOND] = point.as_double
    rows = table("metrics.parquet").to_pylist()
    pods = {(row["pod"], name, row["ts"]): row[column] for row in rows for column, (name, _) in METRICS.items() if row[column] is not None}
    assert {key: value for key, value in sent.items() if not key[0].startswith("node-")} == pods
    nodes = {key: value for key, value in sent.items() if key[0].startswith("node-")}
    assert {where for where, _, _ in nodes} == {f"node-{i}" for i in range(1, 11)}
    for row in rows:
        for column, (name, _) in NODE_METRICS.items():
            value = nodes.get((recording.nodes[row["pod"]], name, row["ts"]))
            assert value is None or value == pytest.approx(row[column])


def test_the_recording_ends_at_the_end_and_comes_in_time_order(recording: Recording, minutes: list[list[Request]]) -> None:
    assert END - 60 * SECOND - SECOND < LAST * SECOND + recording.shift <= END
    assert (1675078740 - 8 + recording.shift // SECOND) % 60 == 0, "a recorded minute is a whole minute, whenever the demo runs"
    begins = [
        [
            record.time_unix_nano
            for resource in ExportLogsServiceRequest.FromString(r.body).resource_logs
            for record in resource.scope_logs[0].log_records
        ]
        for minute in minutes
        for r in minute
        if r.signal == "logs"
    ]
    assert all(max(one) < min(other) + 3 * SECOND for one, other in itertools.pairwise(begins))
    assert len(minutes) == recording.steps == 78
    assert [r.records for r in minutes[0]] == [4595, 2485]


def test_faults_are_as_labelled_and_within_recorded_minutes(recording: Recording) -> None:
    faults = recording.faults()
    assert [(fault.number, fault.service.removeprefix("ts-").removesuffix("-service"), fault.kind) for fault in faults] == [
        (1, "contacts", "network_delay"), (2, "basic", "cpu_contention"), (3, "basic", "network_delay"), (4, "basic", "network_delay"),
        (5, "verification-code", "network_delay"), (6, "verification-code", "network_delay"), (7, "food", "cpu_contention"),
        (8, "food", "network_delay"),
    ]  # fmt: skip
    for fault in faults:
        assert service_of(fault.pod) == fault.service
        near = [row for row in recording.spans if 0 <= row["start_us"] * 1000 + recording.shift - fault.time < 120 * SECOND]
        assert near, fault


def test_minutes_without_a_recording_hold_traces_of_the_normal_minute(recording: Recording) -> None:
    filled = Recording(END)
    stream = filled.requests()
    next(stream)
    for step, minute in enumerate(itertools.islice(stream, 11), 1):
        requests = {request.signal: request for request in minute}
        spans = [
            span for r in ExportTraceServiceRequest.FromString(requests["traces"].body).resource_spans for span in r.scope_spans[0].spans
        ]
        logs = [
            log for r in ExportLogsServiceRequest.FromString(requests["logs"].body).resource_logs for log in r.scope_logs[0].log_records
        ]
        traces = {span.trace_id for span in spans}
        assert 38 <= len(traces) <= 66
        assert all(record.trace_id in traces for record in logs)
        assert all(item.key == "demo.drawn" and item.value.bool_value for span in spans for item in span.attributes)
        assert all(record.attributes[-1].key == "demo.drawn" for record in logs)
        begin = (1675078740 - 8 + step * 60) * SECOND + filled.shift
        assert all(-SECOND <= span.start_time_unix_nano - begin < 63 * SECOND for span in spans)
    assert len(filled._normal) == 62
    assert filled._drawn(5, [40]) == filled._drawn(5, [40]), "always the same draw"


def test_the_packaged_files_are_the_published_ones(data: Path) -> None:
    folder = data / "rca/nezha_trainticket_0130"
    for name in (
        "traces.parquet",
        "logs.parquet",
        "metrics.parquet",
        "normal_traces.parquet",
        "normal_logs.parquet",
        "faults.csv",
        "LICENSE.txt",
    ):
        packaged = (files("ninefold.demo") / "data" / name).read_bytes()
        assert hashlib.sha256(packaged).digest() == hashlib.sha256((folder / name).read_bytes()).digest(), name
    assert "MIT" in (files("ninefold.demo") / "data" / "ATTRIBUTION.md").read_text()
    assert pc.count_distinct(table("metrics.parquet").column("pod")).as_py() == 46
