"""OTLP metrics: kinds, histograms, summaries, stale and bad points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from plain_otlp import (
    NOW,
    PROTOBUF,
    RECEIVED,
    attribute_maps,
    bits,
    captured,
    check,
    decode,
    key_values,
    points,
    rows,
)

from ninefold.ground.errors import TooLarge
from ninefold.sources import kernel
from ninefold.sources.otlp import Otlp, response
from ninefold.sources.protobuf import frame


@pytest.fixture(scope="module", autouse=True)
def compiled() -> kernel.Kernels:
    kernel.warm()
    return kernel.kernels()


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


def test_exponential_histograms_are_histogram_rows_beside_their_count_and_sum() -> None:
    request = metric()
    histogram = only_metric(request).exponential_histogram
    histogram.aggregation_temporality = 1
    point = histogram.data_points.add(time_unix_nano=NOW, count=11, sum=20, scale=1, zero_count=2, zero_threshold=0.25)
    point.positive.offset = 1
    point.positive.bucket_counts.extend([3, 0, 2])
    point.negative.offset = -1
    point.negative.bucket_counts.extend([1, 3])
    point.exemplars.add(as_double=2.5, trace_id=bytes(range(16)), time_unix_nano=NOW - 1)
    histogram.data_points.add(time_unix_nano=NOW + 1, flags=1)
    otlp, known = Otlp(), {}
    decoded = decode(otlp, "metrics", request.SerializeToString())
    found = {(name, kind): value for name, _, kind, _, time, value in points(decoded, known) if time == NOW}
    assert found == {("m_count", "delta"): bits(11.0), ("m_sum", "delta"): bits(20.0)}
    (row,) = rows(decoded, "histogram")
    assert known[row.pop("series")]["name"] == "m"
    assert row == {
        "time": NOW, "count": 11, "sum": 20, "scale": 1, "zero_threshold": 0.25, "zero_count": 2, "positive_index": [1, 3],
        "positive_count": [3, 2], "negative_index": [-1, 0], "negative_count": [1, 3], "bounds": [],
    }  # fmt: skip
    (one,) = rows(decoded, "exemplar")
    assert (known[one["series"]]["name"], one["time"], one["value"], one["trace_id"]) == ("m", NOW - 1, 2.5, bytes(range(16)).hex())
    assert rows(decode(otlp, "metrics", request.SerializeToString()), "series") == []


def test_exemplars_belong_to_their_point_or_their_bucket() -> None:
    request = metric()
    value = only_metric(request).sum.data_points.add(time_unix_nano=NOW, as_int=3)
    value.exemplars.add(as_int=2, span_id=bytes(range(8)), filtered_attributes=[KeyValue(key="user", value=AnyValue(string_value="x"))])
    value.exemplars.add(trace_id=b"no value")
    histogram = request.resource_metrics[0].scope_metrics[0].metrics.add(name="h").histogram
    buckets = histogram.data_points.add(time_unix_nano=NOW, count=3, bucket_counts=[1, 1, 1], explicit_bounds=[0.5, 2])
    for at in (0.5, 1.5, 9):
        buckets.exemplars.add(as_double=at)
    decoded = decode(Otlp(), "metrics", request.SerializeToString())
    known: dict[int, dict[str, Any]] = {}
    points(decoded, known)
    found = [
        (known[row["series"]]["name"], dict(known[row["series"]]["attributes"]).get("le"), row["value"])
        for row in rows(decoded, "exemplar")
    ]
    assert found == [("m", None, 2.0), ("h_bucket", "0.5", 0.5), ("h_bucket", "2", 1.5), ("h_bucket", "+Inf", 9.0)]
    first = rows(decoded, "exemplar")[0]
    assert (first["time"], first["trace_id"], first["span_id"], dict(first["attributes"])) == (
        NOW,
        "",
        bytes(range(8)).hex(),
        {"user": "x"},
    )


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


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=2), attribute_maps, st.floats(), st.integers(1, 2**63 - 1)), max_size=8))
@settings(max_examples=60, deadline=None)
def test_whatever_points_are_sent_come_out(sent: list[tuple[str, dict[str, AnyValue], float, int]]) -> None:
    request = ExportMetricsServiceRequest()
    part = request.resource_metrics.add().scope_metrics.add()
    for name, attributes, value, time in sent:
        part.metrics.add(name=name).gauge.data_points.add(time_unix_nano=time, as_double=value, attributes=key_values(attributes))
    otlp, known = Otlp(), {}
    for _ in range(2):
        check(otlp, known, "metrics", request)


def test_a_large_resource_is_not_repeated_in_too_many_series() -> None:
    wide = metric()
    wide.resource_metrics[0].resource.attributes.add(key="big", value=AnyValue(string_value="x" * 1_000_000))
    for i in range(400):
        wide.resource_metrics[0].scope_metrics[0].metrics.add(name=f"g{i}").gauge.data_points.add(time_unix_nano=NOW, as_int=1)
    otlp = Otlp()
    with pytest.raises(TooLarge):
        decode(otlp, "metrics", wide.SerializeToString())
    del wide.resource_metrics[0].scope_metrics[0].metrics[20:]
    assert len(rows(decode(otlp, "metrics", wide.SerializeToString()), "series")) == 19


POINT = st.fixed_dictionaries(
    {"scale": st.integers(-12, 22), "zero_count": st.integers(0, 2**64 - 1), "zero_threshold": st.floats(0, 1), "flags": st.integers(0, 1)},
    optional={"sum": st.floats(allow_nan=False), "min": st.floats(allow_nan=False), "max": st.floats(allow_nan=False)},
)
SIDE = st.tuples(st.integers(-(2**31), 2**31 - 1), st.lists(st.integers(0, 2**63), max_size=5), st.booleans())


@given(st.lists(st.tuples(POINT, SIDE, SIDE, st.booleans()), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_exponential_histograms_that_are_scanned_are_read_as_one_by_one(found: list[Any]) -> None:
    request = metric()
    histogram = only_metric(request).exponential_histogram
    histogram.aggregation_temporality = 2
    for place, (fields, *sides, odd) in enumerate(found):
        point = histogram.data_points.add(time_unix_nano=NOW + place, **fields)
        point.attributes.add(key="place").value.int_value = place % 3
        total = fields["zero_count"] + odd
        for side, (offset, counts, tail) in zip((point.positive, point.negative), sides, strict=True):
            side.offset = offset
            side.bucket_counts.extend(counts)
            total += sum(counts)
            if tail:  # numbers that are not packed, which a parser has to take as well
                side.MergeFromString(b"\x10\x03")
                total += 3
        point.count = total % 2**64
    otlp, body = Otlp(), request.SerializeToString()
    first, second, alone = decode(otlp, "metrics", body), decode(otlp, "metrics", body), Otlp()
    for signal in ("metric", "histogram", "quarantine"):
        one, other = (sorted(map(repr, rows(decoded, signal))) for decoded in (first, second))
        assert one == other, signal
    assert rows(second, "series") == []
    otlp.forget([row["series"] for row in rows(first, "series")])
    assert len(rows(decode(otlp, "metrics", body), "series")) == len(rows(decode(alone, "metrics", body), "series"))


def test_known_exponential_histograms_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    request = metric()
    point = only_metric(request).exponential_histogram.data_points.add(time_unix_nano=NOW, count=3, sum=4, scale=2)
    point.positive.bucket_counts.extend([1, 0, 2])
    otlp, body = Otlp(), request.SerializeToString()
    decode(otlp, "metrics", body)
    monkeypatch.setattr("ninefold.sources.otlp_metrics._READERS", {})
    again = decode(otlp, "metrics", body)
    (row,) = rows(again, "histogram")
    assert (row["count"], row["sum"], row["positive_index"], row["positive_count"]) == (3, 4, [0, 2], [1, 2])
    assert len(rows(again, "metric")) == 2


EXPLICIT = st.fixed_dictionaries(
    {"bounds": st.sampled_from([[], [0.5], [0.5, 1], [0.5, 2], [1, 0.5], list(range(40))]), "count": st.integers(0, 2**64 - 1)},
    optional={"sum": st.floats(), "min": st.floats(), "max": st.floats(), "flags": st.integers(0, 2), "start_time_unix_nano": st.just(1)},
)
# what a parser has to take as well: pieces of packed fields, numbers that are not packed, a field twice, one that is not known, an exemplar
ODD = st.sampled_from([
    b"", b"", b"", b"\x32\x08" + b"\0" * 8, b"\x31" + b"\0" * 8, b"\x3a\x08" + b"\0" * 6 + b"\x44\x40", b"\x19" + b"\1" * 8,
    b"\x3a\x08" + b"\0" * 6 + b"\x44\x40\x32\x08" + b"\1" + b"\0" * 7, b"\x78\1", b"\x42\x09\x19" + b"\0" * 8,
    b"\x4a\0", b"\x32\0", b"\x0a\0",
])  # fmt: skip
COUNTS = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1)), min_size=41, max_size=41)


def histograms(found: list[Any], plain: bool) -> bytes:
    """A request of these histograms; plain ones are of the same series, with nothing odd and other values."""
    request = metric()
    histogram = only_metric(request).histogram
    histogram.aggregation_temporality = 2
    for place, (fields, counts, _, more) in enumerate(found):
        bounds = fields["bounds"]
        others = {name: value for name, value in fields.items() if name != "bounds" and not (plain and name == "flags")}
        point = histogram.data_points.add(time_unix_nano=NOW + place, explicit_bounds=bounds, **others)
        point.attributes.add(key="place").value.int_value = place % 3
        point.bucket_counts.extend([1] * (len(bounds) + 1) if plain else counts[: len(bounds) + more])
    if plain:
        return request.SerializeToString()
    # a message writes in order what it was given, so what is odd is put in as bytes
    points = [frame(1, point.SerializeToString() + odd) for point, (_, _, odd, _) in zip(histogram.data_points, found, strict=True)]
    named = b"\x0a\x01m\x12\x01s" + frame(9, b"".join(points) + b"\x10\x02")
    return frame(1, frame(1, request.resource_metrics[0].resource.SerializeToString()) + frame(2, frame(2, named)))


@given(st.lists(st.tuples(EXPLICIT, COUNTS, ODD, st.sampled_from([1, 1, 1, 0])), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_histograms_with_bounds_that_are_read_as_columns_are_read_as_one_by_one(found: list[Any]) -> None:
    otlp, body = Otlp(), histograms(found, False)
    decode(otlp, "metrics", histograms(found, True))
    alone = Otlp()
    general = decode(alone, "metrics", body)
    for decoded in (decode(otlp, "metrics", body), decode(otlp, "metrics", body)):
        for signal in ("metric", "exemplar", "quarantine"):
            one, other = (sorted(map(repr, rows(each, signal))) for each in (decoded, general))
            assert one == other, signal
    described = [row["series"] for row in rows(general, "series")]
    for each in (otlp, alone):
        each.forget(described)
    assert sorted(row["series"] for row in rows(decode(otlp, "metrics", body), "series")) == sorted(described)
    assert rows(decode(otlp, "metrics", body), "series") == []


def test_known_histograms_with_bounds_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    request = metric()
    add = only_metric(request).histogram.data_points.add
    add(time_unix_nano=NOW, count=3, sum=4, bucket_counts=[1, 0, 2], explicit_bounds=[0.5, 1])
    add(time_unix_nano=NOW, count=400, max=4, bucket_counts=[2] * 200, explicit_bounds=list(range(199)))
    otlp, body = Otlp(), request.SerializeToString()
    first = rows(decode(otlp, "metrics", body), "metric")
    monkeypatch.setattr("ninefold.sources.otlp_metrics._READERS", {})
    assert sorted(map(repr, rows(decode(otlp, "metrics", body), "metric"))) == sorted(map(repr, first))
    assert len(first) == 5 + 202
    monkeypatch.undo()
    for point in only_metric(request).histogram.data_points:
        point.ClearField("sum")
        point.min = 1
    changed = request.SerializeToString()
    assert sorted(map(repr, rows(decode(otlp, "metrics", changed), "metric"))) == sorted(
        map(repr, rows(decode(Otlp(), "metrics", changed), "metric"))
    )
