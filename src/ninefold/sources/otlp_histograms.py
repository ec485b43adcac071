"""Histograms and summaries of OTLP as the series Prometheus would make of them: ``_count``, ``_sum``, ``_bucket{le}``, quantiles.

Buckets with explicit bounds are cumulative over `le`. Those of an exponential histogram are a `histogram` row beside its count and sum,
because their bounds change with its scale; the empty ones are left out. Exemplars are rows of the series they were measured for: of the
bucket that holds their value, or of the exponential histogram.

Exponential histograms are read as columns (`scan`); what is odd about one in any way is left to the reading of one point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, SummaryDataPoint

from ninefold.ground.errors import BadData
from ninefold.model.signal import HISTOGRAM, TIME, Batch
from ninefold.sources.columns import Mask
from ninefold.sources.kernel import Ints
from ninefold.sources.native_histograms import Floats, Side, signed, unpack
from ninefold.sources.otlp_values import attributes_of
from ninefold.sources.protobuf import Table

Member = tuple[str, str, str]
"""One series of a compound point: what is appended to the metric's name, and one more attribute with its value."""
_SCALES = range(-10, 21)
_MOST_BUCKETS = 4096
_LARGEST = (1 << 31) - 1
WHOLE: Member = ("", "", "")
"""The series of an exponential histogram itself."""
MEMBERS: tuple[Member, ...] = (WHOLE, ("_count", "", ""), ("_sum", "", ""), ("_min", "", ""), ("_max", "", ""))
"""The series of an exponential histogram and what stands beside it."""
EXPONENTIAL = {
    "exponential_points": {
        1: "run attributes", 3: "fixed time", 4: "fixed count", 5: "fixed sum sum_kind", 6: "varint scale", 7: "fixed zero_count",
        8: "one positive", 9: "one negative", 10: "varint flags", 11: "run exemplars", 12: "fixed min min_kind", 13: "fixed max max_kind",
        14: "fixed zero_threshold",
    },
    "positive": {1: "varint positive_offset", 2: "bytes positive_counts"},
    "negative": {1: "varint negative_offset", 2: "bytes negative_counts"},
}  # fmt: skip
"""What a plan takes from an ExponentialHistogramDataPoint."""


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
    """The samples of an exponential histogram without its buckets, which are `buckets`.

    Raises:
        BadData: the scale is outside -10 to 20, there are thousands of buckets, or they lie where no number is.
    """
    if point.scale not in _SCALES:
        raise BadData("the scale of an exponential histogram is outside -10 to 20")
    if len(point.positive.bucket_counts) + len(point.negative.bucket_counts) > _MOST_BUCKETS:
        raise BadData(f"an exponential histogram has more than {_MOST_BUCKETS} buckets")
    if any(side.offset + len(side.bucket_counts) > _LARGEST for side in (point.positive, point.negative)):
        raise BadData("the buckets of an exponential histogram lie where no number is")
    yield from _totals(point)


@dataclass(frozen=True, slots=True)
class Exponentials:
    """Exponential histograms as columns, a row each. The rows that are `sure` say what `exponential` and `buckets` would say."""

    sure: Mask
    time: Ints
    scale: Ints
    zero: tuple[Floats, Floats]
    positive: Side
    negative: Side
    values: dict[Member, tuple[Mask, Floats]]
    """Which rows have a member's value, and the values."""

    def batch(self, source: str, received: int, series: npt.NDArray[np.uint64], rows: Ints) -> Batch:
        """The `histogram` batch of some rows; `series` names the series of all."""
        has_sum, total = self.values["_sum", "", ""]
        columns = {
            "series": pa.array(series[rows]), "time": pa.array(self.time[rows]).cast(TIME),
            "count": pa.array(self.values["_count", "", ""][1][rows]), "sum": pa.array(np.where(has_sum, total, np.nan)[rows]),
            "scale": pa.array(self.scale[rows].astype(np.int8)), "zero_threshold": pa.array(self.zero[0][rows]),
            "zero_count": pa.array(self.zero[1][rows]), "bounds": pa.array([[]] * len(rows), HISTOGRAM.field("bounds").type),
        }  # fmt: skip
        for name, side in (("positive", self.positive), ("negative", self.negative)):
            columns[f"{name}_index"], columns[f"{name}_count"] = side.lists(rows)
        found = pa.RecordBatch.from_arrays([columns[name] for name in HISTOGRAM.names], schema=HISTOGRAM)
        return Batch("histogram", source, received, found)


def scan(body: bytes, table: Table) -> Exponentials | None:
    """The exponential histograms of a table; None when nobody can be sure of any."""
    try:
        (positive, inside, positives), (negative, within, negatives) = (_side(body, table, name) for name in ("positive", "negative"))
    except BadData:  # a packed field is cut off, which is found out one by one
        return None
    count, zero, scale = table["count"], table["zero_count"], signed(table["scale"])
    values = {
        member: (table[f"{name}_kind"] != 0, table[name].view(np.float64))
        for name in ("sum", "min", "max")
        for member in [(f"_{name}", "", "")]
    }
    always = np.ones(len(table), np.bool_)
    counts = {WHOLE: (always, _whole(count)), ("_count", "", ""): (always, _whole(count))}
    sure = inside & within & (scale >= _SCALES.start) & (scale < _SCALES.stop) & (table["flags"] == 0) & (table.text("exemplars")[1] == 0)
    sure &= ~table.torn("attributes") & (count == zero + positives + negatives)  # else a field is written in some rare way
    thresholds = table["zero_threshold"].view(np.float64)
    return Exponentials(sure, table["time"], scale, (thresholds, _whole(zero)), positive, negative, counts | values)


def _side(body: bytes, table: Table, name: str) -> tuple[Side, Mask, Ints]:
    """The filled buckets of one side, where they lie within limits, and how much they hold together."""
    counts, edges = unpack(body, *table.text(f"{name}_counts"))
    sizes, offset = np.diff(edges), signed(table[f"{name}_offset"])
    inside = (sizes <= _MOST_BUCKETS // 2) & (offset >= -_LARGEST) & (offset + sizes <= _LARGEST)
    index = np.repeat(offset - edges[:-1], sizes) + np.arange(len(counts))
    filled = counts != 0
    total = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(filled)))
    return Side(index[filled], _whole(counts[filled]), before[edges]), inside, np.diff(total[edges])


def _whole(values: Ints) -> Floats:
    """Cells that hold uint64 as floats."""
    return values.view(np.uint64).astype(np.float64)


def buckets(point: ExponentialHistogramDataPoint) -> dict[str, Any]:
    """The cells of an exponential histogram's row, without its series and time."""
    row: dict[str, Any] = {
        "count": float(point.count), "sum": point.sum if point.HasField("sum") else float("nan"), "scale": point.scale,
        "zero_threshold": point.zero_threshold, "zero_count": float(point.zero_count),
    }  # fmt: skip
    for name, side in (("positive", point.positive), ("negative", point.negative)):
        filled = [(side.offset + i, float(count)) for i, count in enumerate(side.bucket_counts) if count]
        row[f"{name}_index"], row[f"{name}_count"] = [index for index, _ in filled], [count for _, count in filled]
    return row


def exemplars(found: Iterable[Exemplar], time: int) -> Iterator[dict[str, Any]]:
    """The cells of exemplars' rows, without their series; one without a time has that of its point."""
    for one in found:
        kind = one.WhichOneof("value")
        if kind is not None:
            yield {
                "time": one.time_unix_nano if 0 < one.time_unix_nano < 1 << 63 else time, "value": float(getattr(one, kind)),
                "trace_id": one.trace_id.hex() if any(one.trace_id) else "", "span_id": one.span_id.hex() if any(one.span_id) else "",
                "attributes": attributes_of(one.filtered_attributes),
            }  # fmt: skip


def bucket_of(point: HistogramDataPoint, value: float) -> Member:
    """The series an exemplar with this value belongs to: that of its bucket, of the count where there are no buckets."""
    if not point.bucket_counts:
        return "_count", "", ""
    bound = next((number_text(bound) for bound in point.explicit_bounds if value <= bound), "+Inf")
    return "_bucket", "le", bound


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
