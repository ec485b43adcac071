"""OTLP metrics: kinds, histograms, summaries, stale and bad points."""

from __future__ import annotations

import math
import struct
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
