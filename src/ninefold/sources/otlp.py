"""OTLP over HTTP, protobuf or JSON: metrics, logs and traces.

Resource attributes stay apart from a record's own; the scope's name, version and attributes stand beside them as ``otel.scope.*``.
Not kept: counts of dropped attributes, trace flags, schema URLs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ninefold.model.severity import log_severity_number
from ninefold.model.signal import SCHEMAS, Batch, Decoded, quarantine
from ninefold.plugin import Answer, Asked, Door, Lent, Source, Strict
from ninefold.sources.columns import Entries, Texts, invalid, same, times
from ninefold.sources.kernel import Ints
from ninefold.sources.origin import origin_columns
from ninefold.sources.otlp_json import JSON_FORMAT, Entry, from_json
from ninefold.sources.otlp_metrics import Metrics
from ninefold.sources.otlp_origin import Faults, Origins, excerpt, refusal
from ninefold.sources.otlp_values import ANY_VALUE, KEY_VALUE, attributes_of, render
from ninefold.sources.protobuf import Plan, Table
from ninefold.sources.series import described

_LOGS = Plan({
    "export_logs": {1: "row resource_logs"},
    "resource_logs": {1: "bytes resource", 2: "row scope_logs"},
    "scope_logs": {1: "bytes scope", 2: "row log_records"},
    "log_records": {
        1: "fixed time", 2: "varint severity_number", 3: "bytes severity_text", 5: "one body", 6: "row attributes",
        9: "bytes trace_id", 10: "bytes span_id", 11: "fixed observed_time", 12: "bytes event_name",
    },
    "body": ANY_VALUE,
    "attributes": KEY_VALUE,
    "any_value": ANY_VALUE,
})  # fmt: skip
_TRACES = Plan({
    "export_traces": {1: "row resource_spans"},
    "resource_spans": {1: "bytes resource", 2: "row scope_spans"},
    "scope_spans": {1: "bytes scope", 2: "row spans"},
    "spans": {
        1: "bytes trace_id", 2: "bytes span_id", 3: "bytes trace_state", 4: "bytes parent_span_id", 5: "bytes name",
        6: "varint kind", 7: "fixed start", 8: "fixed end", 9: "row attributes", 11: "row events", 13: "row links", 15: "one status",
    },
    "status": {2: "bytes status_message", 3: "varint status_code"},
    "attributes": KEY_VALUE,
    "any_value": ANY_VALUE,
    "events": {},
    "links": {},
})  # fmt: skip
_TRACE_ID, _SPAN_ID = 16, 8
_KINDS = pa.array(["internal", "internal", "server", "client", "producer", "consumer"])
_STATUSES = pa.array(["unset", "ok", "error"])
_RESPONSES = {
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
}
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_PROTOBUF_FORMAT = "otlp_proto"


class Otlp:
    """The decoder; one instance a program, because it remembers which series were described. Thread-safe.

    Each method takes an uncompressed Export request, raises `BadData` (`where` names message and offset) when it cannot be
    read and `TooLarge` when it would fill the memory; single bad records go to quarantine and count as `rejected`.
    """

    def __init__(self) -> None:
        self._origins = Origins()
        self._metrics = Metrics(self._origins)

    def metrics(self, body: bytes, content_type: str, source: str, received: int) -> Decoded:
        """Points, and the description of series not seen before."""
        return self._decode("metrics", body, content_type, source, received)

    def logs(self, body: bytes, content_type: str, source: str, received: int) -> Decoded:
        """Log records."""
        return self._decode("logs", body, content_type, source, received)

    def traces(self, body: bytes, content_type: str, source: str, received: int) -> Decoded:
        """Spans."""
        return self._decode("traces", body, content_type, source, received)

    def forget(self, series: Iterable[int]) -> None:
        """Describe these series again with their next points: the batch that described them was not kept."""
        self._metrics.forget(series)

    def _decode(self, kind: str, body: bytes, content_type: str, source: str, received: int) -> Decoded:
        unread: list[Entry] = []
        rejected = 0
        if content_type == _JSON:
            body, unread, rejected = from_json(kind, body)
        if kind == "metrics":
            batches, bad, more = self._metrics.decode(body, source, received)
        else:
            batches, bad, more = (self._logs if kind == "logs" else self._traces)(body, source, received)
        signal = {"metrics": "metric", "logs": "log", "traces": "span"}[kind]
        for format_, entries in ((JSON_FORMAT, unread), (_PROTOBUF_FORMAT, bad)):
            if entries:
                batches.append(quarantine(source, received, signal, format_, entries))
        return Decoded(batches, rejected + more, "; ".join(reason for reason, _, _ in (*unread, *bad)))

    def _logs(self, body: bytes, source: str, received: int) -> tuple[list[Batch], list[Entry], int]:
        tables = _LOGS.scan(body)
        records = tables["log_records"]
        faults, texts = Faults(len(records)), Texts(body)
        observed = records["observed_time"]
        time = np.where(records["time"] != 0, records["time"], observed)
        faults.mark(time == 0, "neither the time nor the observed time is set")
        faults.mark(time < 0, "the time is after 2262")
        columns: dict[str, pa.Array] = {"time": times(time)}
        for name, size in (("trace_id", _TRACE_ID), ("span_id", _SPAN_ID)):
            columns[name], _, wrong = texts.ids(*records.text(name), size)
            faults.mark(wrong, f"the {name} is not {size} bytes long")
        offsets, lengths, unreadable = render(texts, body, records)
        faults.mark(unreadable, "the body cannot be read")
        entries = _own(texts, body, tables["attributes"], faults)
        _add_present(entries, texts, "event.name", *records.text("event_name"))
        columns["attributes"] = _column(entries, texts, faults)
        columns |= {"body": texts.cut(offsets, lengths), "severity_text": texts.cut(*records.text("severity_text"))}
        columns["severity_number"] = _severity(records["severity_number"], columns["severity_text"])
        columns["pattern"] = pa.array(np.zeros(len(records), np.uint64))
        return self._finish("log", body, tables, columns, faults, source, received)

    def _traces(self, body: bytes, source: str, received: int) -> tuple[list[Batch], list[Entry], int]:
        tables = _TRACES.scan(body)
        spans = tables["spans"]
        faults, texts = Faults(len(spans)), Texts(body)
        start, end = spans["start"], spans["end"]
        faults.mark((start <= 0) | (end <= 0), "the start or the end is not set, or is after 2262")
        faults.mark(end < start, "the span ends before it starts")
        columns: dict[str, pa.Array] = {"time": times(start), "duration": pa.array(end - start)}
        for name, size in (("trace_id", _TRACE_ID), ("span_id", _SPAN_ID), ("parent_span_id", _SPAN_ID)):
            columns[name], present, wrong = texts.ids(*spans.text(name), size)
            faults.mark(wrong if name == "parent_span_id" else ~present, f"the {name} is not {size} bytes long, or all zero")
        for name in ("name", "status_message"):
            columns[name] = texts.cut(*spans.text(name))
        for name, cell, words in (("kind", "kind", _KINDS), ("status", "status_code", _STATUSES)):
            number = spans[cell]
            columns[name] = words.take(pa.array(np.where((number >= 0) & (number < len(words)), number, 0)))
        columns["events"] = _events(texts, body, tables["events"], faults)
        entries = _own(texts, body, tables["attributes"], faults)
        _add_present(entries, texts, "otel.trace_state", *spans.text("trace_state"))
        _add_links(entries, texts, body, tables["links"], faults)
        columns["attributes"] = _column(entries, texts, faults)
        return self._finish("span", body, tables, columns, faults, source, received)

    def _finish(
        self,
        signal: str,
        body: bytes,
        tables: Mapping[str, Table],
        columns: dict[str, pa.Array],
        faults: Faults,
        source: str,
        received: int,
    ) -> tuple[list[Batch], list[Entry], int]:
        """Add what all records have, set the bad ones apart; (batches, quarantine entries, rejected)."""
        _, resources, scopes, records = list(tables.values())[:4]
        noun = list(tables)[3]
        origins, index = self._origins.read(body, resources, scopes)
        columns |= origin_columns(origins, index[records.parent])
        columns |= {"source": same(source, len(records)), "received": times(np.full(len(records), received))}
        for name, column in columns.items():
            if pa.types.is_string(column.type):
                faults.mark(invalid(column), f"the {name} is not UTF-8")
        schema = SCHEMAS[signal]
        rows = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
        entries = []
        for reason, bad in faults.reasons:
            by_scope: dict[int, list[bytes]] = {}
            for scope, message in zip(records.parent[bad].tolist(), records.slices(body, bad), strict=True):
                by_scope.setdefault(scope, []).append(message)
            entries.append(refusal(noun, reason, bad, excerpt(body, resources, scopes, by_scope)))
        if faults.reasons:
            rows = rows.filter(pa.array(~faults.bad))
        return ([Batch(signal, source, received, rows)] if rows.num_rows else []), entries, int(faults.bad.sum())


def _own(texts: Texts, body: bytes, table: Table, faults: Faults) -> Entries:
    """The attributes of all records; those with one that cannot be read are marked."""
    entries = Entries()
    offsets, lengths, bad = render(texts, body, table)
    entries.add(table.parent, table.text("key"), (offsets, lengths))
    faults.mark(np.bincount(table.parent[bad], minlength=len(faults.bad)) > 0, "an attribute cannot be read")
    return entries


def _add_present(entries: Entries, texts: Texts, key: str, offsets: Ints, lengths: Ints) -> None:
    """A field as one more attribute of the records that have it."""
    rows = np.flatnonzero(lengths)
    entries.add_named(texts, rows, key, (offsets[rows], lengths[rows]))


def _column(entries: Entries, texts: Texts, faults: Faults) -> pa.MapArray:
    column, bad = entries.column(texts, len(faults.bad))
    faults.mark(bad, "an attribute is not UTF-8")
    return column


def _severity(numbers: Ints, words: pa.StringArray) -> pa.Array:
    """Severity numbers; where none is given the word speaks, one that OpenTelemetry does not know is 0."""
    found = np.where((numbers > 0) & (numbers <= 24), numbers, 0).astype(np.uint8)
    missing = np.flatnonzero((numbers == 0) & (np.diff(np.frombuffer(words.buffers()[1], np.int32)[: len(words) + 1]) > 0))
    if missing.size:
        by_word = {word: log_severity_number(word.decode("utf-8", "replace")) for word in pc.unique(words.view(pa.binary())).to_pylist()}
        found[missing] = [by_word[word] for word in words.view(pa.binary()).take(pa.array(missing)).to_pylist()]
    return pa.array(found)


def _events(texts: Texts, body: bytes, table: Table, faults: Faults) -> pa.StringArray:
    """The events of each span (exceptions above all) as a JSON list of time in ns, name and attributes."""

    def read(message: bytes) -> object:
        event = Span.Event.FromString(message)
        return {"time": event.time_unix_nano, "name": event.name, "attributes": attributes_of(event.attributes)}

    rows, places, sizes = _lists(texts, body, table, faults, read)
    offsets, lengths = np.full(len(faults.bad), texts.add(b"[]")), np.full(len(faults.bad), 2)
    offsets[rows], lengths[rows] = places, sizes
    return texts.cut(offsets, lengths)


def _add_links(entries: Entries, texts: Texts, body: bytes, table: Table, faults: Faults) -> None:
    """The links of each span as one more attribute: a JSON list of trace_id, span_id and attributes."""

    def read(message: bytes) -> object:
        link = Span.Link.FromString(message)
        return {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": attributes_of(link.attributes)}

    rows, offsets, lengths = _lists(texts, body, table, faults, read)
    entries.add_named(texts, rows, "otel.links", (offsets, lengths))


def _lists(texts: Texts, body: bytes, table: Table, faults: Faults, read: Callable[[bytes], object]) -> tuple[Ints, Ints, Ints]:
    """One JSON list for each span that has such parts: the spans, offsets and lengths; spans with a malformed part are marked."""
    found: dict[int, list[object]] = {}
    bad = np.zeros(len(faults.bad), np.bool_)
    for row, message in zip(table.parent.tolist(), table.slices(body), strict=True):
        try:
            found.setdefault(row, []).append(read(message))
        except DecodeError:
            bad[row] = True
    faults.mark(bad, "an event or a link is malformed")
    return np.fromiter(found, np.int64), *texts.add_all([orjson.dumps(parts) for parts in found.values()])


def response(signal: str, decoded: Decoded, content_type: str) -> bytes:
    """The answer to an Export request of metrics, logs or traces, in its encoding; `partial_success` is set if rows were rejected."""
    message, field = _RESPONSES[signal]
    answer = message()
    if decoded.rejected:
        setattr(answer.partial_success, field, decoded.rejected)
        answer.partial_success.error_message = decoded.reason
    return _encode(answer, content_type)


def error_status(message: str, code: int, content_type: str) -> bytes:
    """A `google.rpc.Status` with a gRPC code, as OTLP wants errors told, in the encoding of the request."""
    return _encode(Status(code=code, message=message), content_type)


def _encode(message: object, content_type: str) -> bytes:
    if content_type == _JSON:
        return json_format.MessageToJson(message, indent=None).encode()  # type: ignore[arg-type]
    return message.SerializeToString()  # type: ignore[attr-defined,no-any-return]


class OtlpHttp(Source):
    """OTLP/HTTP: ``/v1/metrics``, ``/v1/logs``, ``/v1/traces``, protobuf or JSON; errors are told as a `google.rpc.Status`."""

    kind = "otlp"
    title = "OpenTelemetry (OTLP/HTTP)"
    extraction = "push"
    signals = frozenset(("metric", "log", "span"))
    always = True
    Config = Strict

    def __init__(self, name: str, config: Strict, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self.decoder: Otlp = lent.share(Otlp)

    def doors(self) -> list[Door]:
        """One door a signal."""
        return [self._door(signal) for signal in _RESPONSES]

    def _door(self, signal: str) -> Door:
        decode = getattr(self.decoder, signal)

        def accept(asked: Asked) -> Decoded:
            decoded: Decoded = decode(asked.body, asked.media_type, asked.source, asked.received)
            return decoded

        def answer(asked: Asked, decoded: Decoded) -> Answer:
            return Answer(200, response(signal, decoded, asked.media_type), asked.media_type)

        return Door(f"/v1/{signal}", accept, answer, _refuse, self.forget, (_PROTOBUF, _JSON))

    def forget(self, batches: Sequence[Batch]) -> None:
        """Describe the series of these batches again."""
        self.decoder.forget(described(batches))


def _refuse(asked: Asked, status: int, message: str) -> Answer | None:
    if asked.media_type not in (_PROTOBUF, _JSON):
        return None
    code = {400: 3, 401: 16, 403: 7, 413: 8, 415: 3, 503: 14}.get(status, 13)
    return Answer(status, error_status(message, code, asked.media_type), asked.media_type)
