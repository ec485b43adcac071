"""Prometheus' protobuf messages as protoc would make them, and the straightforward reading the decoder is compared with."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ninefold.model.entity import series_id
from ninefold.model.signal import SCHEMAS, Decoded

RECEIVED = 1_795_350_900_000_000_000
STALE = 0x7FF0000000000002
_KINDS = {
    "double": 1, "int64": 3, "uint64": 4, "int32": 5, "string": 9, "uint32": 13, "sint32": 17, "sint64": 18,
}  # fmt: skip
_HISTOGRAM = (
    "uint64 count_int 1, double count_float 2, double sum 3, sint32 schema 4, double zero_threshold 5, uint64 zero_count_int 6,"
    "double zero_count_float 7, *BucketSpan negative_spans 8, *sint64 negative_deltas 9, *double negative_counts 10,"
    "*BucketSpan positive_spans 11, *sint64 positive_deltas 12, *double positive_counts 13, int32 reset_hint 14, int64 timestamp 15,"
    "*double custom_values 16"
)
_SHARED = {"Sample": "double value 1, int64 timestamp 2", "BucketSpan": "sint32 offset 1, uint32 length 2", "Histogram": _HISTOGRAM}
_ONEOFS = {"count_int": "count", "count_float": "count", "zero_count_int": "zero_count", "zero_count_float": "zero_count"}
_FIRST = {
    "Label": "string name 1, string value 2",
    "Exemplar": "*Label labels 1, double value 2, int64 timestamp 3",
    "TimeSeries": "*Label labels 1, *Sample samples 2, *Exemplar exemplars 3, *Histogram histograms 4",
    "MetricMetadata": "int32 type 1, string metric_family_name 2, string help 4, string unit 5",
    "WriteRequest": "*TimeSeries timeseries 1, *MetricMetadata metadata 3",
}
_SECOND = {
    "Exemplar": "*uint32 labels_refs 1, double value 2, int64 timestamp 3",
    "Metadata": "int32 type 1, uint32 help_ref 3, uint32 unit_ref 4",
    "TimeSeries": (
        "*uint32 labels_refs 1, *Sample samples 2, *Histogram histograms 3, *Exemplar exemplars 4, Metadata metadata 5, int64 created 6"
    ),
    "Request": "*string symbols 4, *TimeSeries timeseries 5",
}


def generated(package: str, messages: dict[str, str], root: str) -> Any:
    """The class of a message; fields are "[*]type name number", ``*`` for repeated ones."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field in fields.split(","):
            kind, field_name, number = field.split()
            made = message.field.add(name=field_name, number=int(number), label=3 if kind[0] == "*" else 1)
            kind = kind.lstrip("*")
            made.type = _KINDS.get(kind, 11)  # type: ignore[assignment]
            if kind not in _KINDS:
                made.type_name = f".{package}.{kind}"
            if name == "Histogram" and field_name in _ONEOFS:
                names = [one.name for one in message.oneof_decl]
                if _ONEOFS[field_name] not in names:
                    message.oneof_decl.add(name=_ONEOFS[field_name])
                    names.append(_ONEOFS[field_name])
                made.oneof_index = names.index(_ONEOFS[field_name])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{root}"))


WriteRequest = generated("first", _SHARED | _FIRST, "WriteRequest")
Request = generated("second", _SHARED | _SECOND, "Request")


def bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def number(value_bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", value_bits))[0])


def rows(decoded: Decoded, signal: str) -> list[dict[str, Any]]:
    for batch in decoded.batches:
        assert batch.rows.schema == SCHEMAS[batch.signal]
        batch.rows.validate(full=True)
    return [row for batch in decoded.batches if batch.signal == signal for row in batch.rows.to_pylist()]


Name = tuple[str, tuple[tuple[str, str], ...]]


def resolved(decoded: Decoded, known: dict[int, Name]) -> dict[str, list[Any]]:
    """Points, exemplars and histograms with their series spelled out; floats as their bits."""
    for row in rows(decoded, "series"):
        assert row["series"] == series_id(row["name"], dict(row["attributes"]))
        known[row["series"]] = (row["name"], tuple(sorted(row["attributes"])))
    found: dict[str, list[Any]] = {"metric": [], "exemplar": [], "histogram": []}
    for batch in decoded.batches:
        if batch.signal == "metric":
            values = np.asarray(batch.rows.column("value")).view(np.int64).tolist()
            for row, value in zip(batch.rows.to_pylist(), values, strict=True):
                found["metric"].append((known[row["series"]], row["time"].value, value))
    for row in rows(decoded, "exemplar"):
        attributes = tuple(sorted(row["attributes"]))
        found["exemplar"].append((known[row["series"]], row["time"].value, bits(row["value"]), row["trace_id"], row["span_id"], attributes))
    for row in rows(decoded, "histogram"):
        cells = {name: value for name, value in row.items() if name not in ("series", "time", "sum")}
        found["histogram"].append((known[row["series"]], row["time"].value, bits(row["sum"]), cells))
    return {signal: sorted(items, key=repr) for signal, items in found.items()}


def buckets(spans: Any, deltas: Any, counts: Any, shift: int) -> tuple[list[int], list[float]]:
    index: list[int] = []
    place = 0
    for span in spans:
        place += span.offset
        for _ in range(span.length):
            index.append(place - shift)
            place += 1
    if not counts:
        counts = np.cumsum(list(deltas)).tolist()
    return index, [float(count) for count in counts]


def expected(series: list[tuple[dict[str, str], Any, list[tuple[dict[str, str], Any]]]]) -> dict[str, list[Any]]:
    """What (labels, TimeSeries, [(labels, Exemplar)]) come to."""
    found: dict[str, list[Any]] = {"metric": [], "exemplar": [], "histogram": []}
    for labels, one, exemplars in series:
        name = labels["__name__"]
        rest = tuple(sorted((key, value) for key, value in labels.items() if key != "__name__"))
        found["metric"] += [((name, rest), sample.timestamp * 1_000_000, bits(sample.value)) for sample in one.samples]
        for about, exemplar in exemplars:
            trace, span = about.get("trace_id", "").lower(), about.get("span_id", "").lower()
            more = tuple(sorted((key, value) for key, value in about.items() if key not in ("trace_id", "span_id")))
            time = exemplar.timestamp * 1_000_000 or RECEIVED
            found["exemplar"].append(((name, rest), time, bits(exemplar.value), trace, span, more))
        for histogram in one.histograms:
            time, stale = histogram.timestamp * 1_000_000, bits(histogram.sum) == STALE
            whole = histogram.WhichOneof("count") != "count_float"
            count = float(histogram.count_int if whole else histogram.count_float)
            found["metric"].append(((name + "_count", rest), time, STALE if stale else bits(count)))
            found["metric"].append(((name + "_sum", rest), time, bits(histogram.sum)))
            if stale:
                continue
            custom = histogram.schema == -53
            positive = buckets(histogram.positive_spans, histogram.positive_deltas, histogram.positive_counts, 0 if custom else 1)
            negative = buckets(histogram.negative_spans, histogram.negative_deltas, histogram.negative_counts, 1)
            zero = histogram.zero_count_int if histogram.WhichOneof("zero_count") != "zero_count_float" else histogram.zero_count_float
            cells = {
                "count": count, "scale": 0 if custom else histogram.schema, "zero_threshold": histogram.zero_threshold,
                "zero_count": float(zero), "positive_index": positive[0], "positive_count": positive[1],
                "negative_index": negative[0], "negative_count": negative[1], "bounds": list(histogram.custom_values),
            }  # fmt: skip
            found["histogram"].append(((name, rest), time, bits(histogram.sum), cells))
    return {signal: sorted(items, key=repr) for signal, items in found.items()}
