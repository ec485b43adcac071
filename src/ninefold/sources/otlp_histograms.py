"""Histograms and summaries of OTLP as the series Prometheus would make of them: ``_count``, ``_sum``, ``_bucket{le}``, quantiles.

Buckets are cumulative over `le`. An exponential histogram's bounds are ``2^((i + 1) / 2^scale)``, written with twelve digits so that
they are the same text on every machine; its empty buckets are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint, HistogramDataPoint, SummaryDataPoint

from ninefold.ground.errors import BadData

Member = tuple[str, str, str]
"""One series of a compound point: what is appended to the metric's name, and one more attribute with its value."""
_SCALES = range(-10, 21)
_MOST_BUCKETS = 4096


class Sample(NamedTuple):
    """One value of a compound point; `counts` says that it only grows, as the metric's temporality has it."""

    member: Member
    value: float
    counts: bool


def histogram(point: HistogramDataPoint) -> Iterator[Sample]:
    """The samples of a histogram with explicit bounds.

    Raises:
        BadData: bounds and counts do not fit together.
    """
    bounds, counts = point.explicit_bounds, point.bucket_counts
    if len(counts) != len(bounds) + 1 and (counts or bounds):
        raise BadData("a histogram needs one more bucket count than bounds")
    if not all(one < other for one, other in pairwise(bounds)):
        raise BadData("the bounds of a histogram do not rise")
    yield from _totals(point)
    total = 0
    for i, count in enumerate(counts):
        total += count
        yield _bucket(number_text(bounds[i]) if i < len(bounds) else "+Inf", total)


def exponential(point: ExponentialHistogramDataPoint) -> Iterator[Sample]:
    """The samples of an exponential histogram.

    Raises:
        BadData: the scale is outside -10 to 20, or there are thousands of buckets.
    """
    if point.scale not in _SCALES:
        raise BadData("the scale of an exponential histogram is outside -10 to 20")
    if len(point.positive.bucket_counts) + len(point.negative.bucket_counts) > _MOST_BUCKETS:
        raise BadData(f"an exponential histogram has more than {_MOST_BUCKETS} buckets")
    yield from _totals(point)
    total = 0
    negative = point.negative
    for i in reversed(range(len(negative.bucket_counts))):
        if negative.bucket_counts[i]:
            total += negative.bucket_counts[i]
            yield _bucket(f"{-_bound(negative.offset + i, point.scale):.12g}", total)
    if point.zero_count:
        total += point.zero_count
        yield _bucket(number_text(point.zero_threshold), total)
    for i, count in enumerate(point.positive.bucket_counts):
        if count:
            total += count
            yield _bucket(f"{_bound(point.positive.offset + i + 1, point.scale):.12g}", total)
    yield _bucket("+Inf", total)


def summary(point: SummaryDataPoint) -> Iterator[Sample]:
    """The samples of a summary: count, sum, and the value at each quantile."""
    yield Sample(("_count", "", ""), float(point.count), True)
    yield Sample(("_sum", "", ""), point.sum, True)
    for at in point.quantile_values:
        yield Sample(("", "quantile", number_text(at.quantile)), at.value, False)


def number_text(number: float) -> str:
    """The shortest text of a number, whole ones without a point: 0.005, 10, 2.5."""
    return repr(number).removesuffix(".0")


def _totals(point: HistogramDataPoint | ExponentialHistogramDataPoint) -> Iterator[Sample]:
    yield Sample(("_count", "", ""), float(point.count), True)
    if point.HasField("sum"):
        yield Sample(("_sum", "", ""), point.sum, True)
    for name in ("min", "max"):
        if point.HasField(name):
            yield Sample((f"_{name}", "", ""), getattr(point, name), False)


def _bucket(bound: str, total: int) -> Sample:
    return Sample(("_bucket", "le", bound), float(total), True)


def _bound(index: int, scale: int) -> float:
    exponent = index * 2.0**-scale
    return 2.0**exponent if exponent < 1024 else float("inf")
