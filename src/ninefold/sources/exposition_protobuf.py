"""Prometheus' protobuf exposition: delimited ``io.prometheus.client.MetricFamily`` messages, native histograms among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from ninefold.ground.errors import BadData
from ninefold.sources.exposition import Exemplar, Page, key_of
from ninefold.sources.otlp_histograms import number_text

_MESSAGES = {
    "LabelPair": "string name 1, string value 2",
    "Gauge": "double value 1",
    "Timestamp": "int64 seconds 1, int32 nanos 2",
    "Exemplar": "*LabelPair label 1, double value 2, Timestamp timestamp 3",
    "Counter": "double value 1, Exemplar exemplar 2, Timestamp created_timestamp 3",
    "Quantile": "double quantile 1, double value 2",
    "Summary": "uint64 sample_count 1, double sample_sum 2, *Quantile quantile 3, Timestamp created_timestamp 4",
    "Bucket": "uint64 cumulative_count 1, double upper_bound 2, Exemplar exemplar 3, double cumulative_count_float 4",
    "BucketSpan": "sint32 offset 1, uint32 length 2",
    "Histogram": (
        "uint64 sample_count 1, double sample_sum 2, *Bucket bucket 3, double sample_count_float 4, sint32 schema 5,"
        "double zero_threshold 6, uint64 zero_count 7, double zero_count_float 8, *BucketSpan negative_span 9, *sint64 negative_delta 10,"
        "*double negative_count 11, *BucketSpan positive_span 12, *sint64 positive_delta 13, *double positive_count 14,"
        "Timestamp created_timestamp 15, *Exemplar exemplars 16"
    ),
    "Metric": (
        "*LabelPair label 1, Gauge gauge 2, Counter counter 3, Summary summary 4, Gauge untyped 5, int64 timestamp_ms 6,"
        "Histogram histogram 7"
    ),
    "MetricFamily": "string name 1, string help 2, int32 type 3, *Metric metric 4, string unit 5",
    "Native": (
        "uint64 count_int 1, double count_float 2, double sum 3, sint32 schema 4, double zero_threshold 5, uint64 zero_count_int 6,"
        "double zero_count_float 7, *BucketSpan negative_spans 8, *sint64 negative_deltas 9, *double negative_counts 10,"
        "*BucketSpan positive_spans 11, *sint64 positive_deltas 12, *double positive_counts 13, int32 reset_hint 14, int64 timestamp 15"
    ),
}
"""The messages of io.prometheus.client as "[*]type name number", ``*`` for repeated fields; and prometheus.Histogram."""
_SCALARS = {"double": 1, "int64": 3, "uint64": 4, "int32": 5, "string": 9, "uint32": 13, "sint32": 17, "sint64": 18}
_TYPES = ("counter", "gauge", "summary", "untyped", "histogram", "gaugehistogram")
_GAUGE_HINT = 3


def _classes() -> tuple[Any, Any]:
    """The classes of MetricFamily and of prometheus.Histogram."""
    file = descriptor_pb2.FileDescriptorProto(name="ninefold_exposition.proto", package="ninefold.exposition", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for spec in fields.split(","):
            kind, field, number = spec.split()
            made = message.field.add(name=field, number=int(number), label=3 if kind.startswith("*") else 1)
            kind = kind.lstrip("*")
            if kind in _SCALARS:
                made.type = _SCALARS[kind]  # type: ignore[assignment]
            else:
                made.type, made.type_name = 11, f".ninefold.exposition.{kind}"  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ninefold.exposition.{name}")) for name in ("MetricFamily", "Native")
    ]
    return found[0], found[1]


_FAMILY, _NATIVE = _classes()


class _Rows:
    """The samples that come up while families are read."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[float] = []
        self.times: list[int] = []
        self.exemplars: list[Exemplar] = []
        self.native: list[tuple[bytes, int, bytes]] = []

    def add(self, name: str, labels: list[tuple[str, str]], value: float, time: int, exemplar: Any = None) -> None:
        if exemplar is not None:
            when = exemplar.timestamp.seconds * 10**9 + exemplar.timestamp.nanos
            self.exemplars.append(Exemplar(len(self.keys), {pair.name: pair.value for pair in exemplar.label}, exemplar.value, when))
        self.keys.append(key_of(name, labels))
        self.values.append(value)
        self.times.append(time)


def protobuf(body: bytes) -> Page:
    """A page of delimited messages.

    Raises:
        BadData: it is not made of MetricFamily messages.
    """
    rows, families = _Rows(), {}
    for family in _delimited(body):
        type_ = _TYPES[family.type] if 0 <= family.type < len(_TYPES) else "unknown"
        families[family.name] = type_, family.unit
        for metric in family.metric:
            labels = [(pair.name, pair.value) for pair in metric.label]
            time = metric.timestamp_ms * 1_000_000 if 0 < metric.timestamp_ms < 9_223_372_036_854 else 0
            if metric.HasField("histogram"):
                _histogram(rows, family.name, labels, metric.histogram, time, type_ == "gaugehistogram")
            elif metric.HasField("summary"):
                _summary(rows, family.name, labels, metric.summary, time)
            elif metric.HasField("counter"):
                counter = metric.counter
                rows.add(family.name, labels, counter.value, time, counter.exemplar if counter.HasField("exemplar") else None)
                _created(rows, family.name, labels, counter, time)
            else:
                rows.add(family.name, labels, (metric.gauge if metric.HasField("gauge") else metric.untyped).value, time)
    lengths = np.fromiter(map(len, rows.keys), np.int64, len(rows.keys))
    times, values = np.array(rows.times, np.int64), np.array(rows.values, np.float64)
    offsets = np.cumsum(lengths) - lengths
    return Page(b"".join(rows.keys), offsets, lengths, times, values, families, rows.exemplars, rows.native)


def _delimited(body: bytes) -> Iterator[Any]:
    position = 0
    while position < len(body):
        start, size, shift = position, 0, 0
        while True:
            if position == len(body) or shift > 28:
                raise BadData("the page ends within the length of a message", f"byte {start}")
            byte = body[position]
            position += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if size > len(body) - position:
            raise BadData("the page ends within a message", f"byte {start}")
        try:
            yield _FAMILY.FromString(body[position : position + size])
        except DecodeError:
            raise BadData("a message is no MetricFamily, or its text is not UTF-8", f"byte {start}") from None
        position += size


def _created(rows: _Rows, name: str, labels: list[tuple[str, str]], of: Any, time: int) -> None:
    if of.HasField("created_timestamp"):
        rows.add(f"{name.removesuffix('_total')}_created", labels, of.created_timestamp.seconds + of.created_timestamp.nanos / 1e9, time)


def _summary(rows: _Rows, name: str, labels: list[tuple[str, str]], summary: Any, time: int) -> None:
    for at in summary.quantile:
        rows.add(name, [*labels, ("quantile", number_text(at.quantile))], at.value, time)
    rows.add(f"{name}_sum", labels, summary.sample_sum, time)
    rows.add(f"{name}_count", labels, float(summary.sample_count), time)
    _created(rows, name, labels, summary, time)


def _histogram(rows: _Rows, name: str, labels: list[tuple[str, str]], histogram: Any, time: int, gauge: bool) -> None:
    count = histogram.sample_count_float or float(histogram.sample_count)
    last = None
    for bucket in histogram.bucket:
        last = bucket.upper_bound
        bound = "+Inf" if last == float("inf") else number_text(last)
        value = bucket.cumulative_count_float or float(bucket.cumulative_count)
        exemplar = bucket.exemplar if bucket.HasField("exemplar") else None
        rows.add(f"{name}_bucket", [*labels, ("le", bound)], value, time, exemplar)
    if last is not None and last != float("inf"):
        rows.add(f"{name}_bucket", [*labels, ("le", "+Inf")], count, time)
    rows.add(f"{name}_sum", labels, histogram.sample_sum, time)
    rows.add(f"{name}_count", labels, count, time)
    _created(rows, name, labels, histogram, time)
    if not (histogram.positive_span or histogram.negative_span or histogram.zero_threshold or histogram.zero_count):
        return
    native = _NATIVE(sum=histogram.sample_sum, schema=histogram.schema, zero_threshold=histogram.zero_threshold)
    whole = not (histogram.sample_count_float or histogram.zero_count_float or histogram.positive_count or histogram.negative_count)
    if whole:
        native.count_int, native.zero_count_int = histogram.sample_count, histogram.zero_count
    else:
        native.count_float, native.zero_count_float = count, histogram.zero_count_float or float(histogram.zero_count)
    for side in ("positive", "negative"):
        for span in getattr(histogram, f"{side}_span"):
            getattr(native, f"{side}_spans").add(offset=span.offset, length=span.length)
        getattr(native, f"{side}_deltas").extend(getattr(histogram, f"{side}_delta"))
        getattr(native, f"{side}_counts").extend(getattr(histogram, f"{side}_count"))
    native.reset_hint = _GAUGE_HINT if gauge else 0
    for exemplar in histogram.exemplars:
        when = exemplar.timestamp.seconds * 10**9 + exemplar.timestamp.nanos
        rows.exemplars.append(Exemplar(len(rows.keys) - 1, {pair.name: pair.value for pair in exemplar.label}, exemplar.value, when))
    rows.native.append((key_of(name, labels), time, native.SerializeToString()))
