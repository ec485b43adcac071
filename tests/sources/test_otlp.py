"""OTLP logs and traces, JSON and answers: every captured body value by value, bad records beside good ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from plain_otlp import (
    JSON,
    NOW,
    PROTOBUF,
    REQUESTS,
    any_values,
    attribute_maps,
    captured,
    check,
    decode,
    key_values,
    rows,
)

from ninefold.ground.errors import BadData, TooLarge
from ninefold.sources import kernel
from ninefold.sources.otlp import Otlp, error_status, response


@pytest.fixture(scope="module", autouse=True)
def compiled() -> kernel.Kernels:
    kernel.warm()
    return kernel.kernels()


@pytest.fixture(params=["interpreted", "compiled"])
def loops(request: pytest.FixtureRequest, compiled: kernel.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds before Numba has compiled and after."""
    monkeypatch.setattr(kernel, "_current", compiled if request.param == "compiled" else kernel.interpreted)


_ids = st.sampled_from([b"", bytes(16), b"0123456789abcdef"])


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


def test_every_beginning_of_every_captured_body_decodes_or_is_bad_data(data: Path) -> None:
    for kind, body in captured(data)[:12]:
        otlp = Otlp()
        for end in range(0, len(body), 7):
            try:
                decode(otlp, kind, body[:end])
            except BadData as error:
                assert "byte" in error.where  # noqa: PT017 - both outcomes are right, what is raised must say where


@given(
    st.lists(
        st.tuples(
            attribute_maps, st.text(max_size=4),
            st.lists(st.tuples(st.integers(1, 2**63 - 1), any_values, attribute_maps, st.text(max_size=6), _ids, st.integers(1, 24)),
                max_size=4,
            ),
        ),
        max_size=4,
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_logs_are_sent_come_out(groups: list[Any]) -> None:
    request = ExportLogsServiceRequest()
    for resource, scope, records in groups:
        group = request.resource_logs.add()
        group.resource.attributes.extend(key_values(resource))
        part = group.scope_logs.add()
        part.scope.name = scope
        for time, body, attributes, text, trace_id, severity in records:
            part.log_records.add(
                time_unix_nano=time,
                body=body,
                attributes=key_values(attributes),
                event_name=text,
                trace_id=trace_id,
                severity_number=severity,
            )
    check(Otlp(), {}, "logs", request)


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
