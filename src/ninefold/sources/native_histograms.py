"""Prometheus' native histograms (``prometheus.Histogram``, the same in remote write 1.0 and 2.0) as columns of `histogram` rows.

Integer and float histograms, exponential buckets (schema -4 to 8) and buckets with bounds of their own (schema -53). Prometheus numbers
exponential buckets one higher than OpenTelemetry, whose numbers are kept. A marker of staleness has no buckets and gives no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ninefold.ground.errors import BadData
from ninefold.model.signal import HISTOGRAM, TIME, Batch
from ninefold.sources import kernel
from ninefold.sources.columns import Mask
from ninefold.sources.kernel import Ints
from ninefold.sources.otlp_origin import Faults
from ninefold.sources.protobuf import Plan, Table, frame
from ninefold.sources.series import STALE

_SIDE = {1: "varint offset", 2: "varint length"}
_PLAN = Plan({
    "body": {1: "row histograms"},
    "histograms": {
        1: "varint count count_kind", 2: "fixed count count_kind", 3: "fixed sum", 4: "varint schema", 5: "fixed zero_threshold",
        6: "varint zero_count zero_kind", 7: "fixed zero_count zero_kind",
        8: "row negative_spans", 9: "bytes negative_deltas", 10: "bytes negative_counts",
        11: "row positive_spans", 12: "bytes positive_deltas", 13: "bytes positive_counts",
        14: "varint reset", 15: "varint time", 16: "bytes bounds",
    },
    "negative_spans": _SIDE,
    "positive_spans": _SIDE,
})  # fmt: skip
CUSTOM = -53
_COUNT_INT, _COUNT_FLOAT, _ZERO_INT = 1, 2, 6
_GAUGE = 3
_MOST_BUCKETS = 1 << 20
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Side:
    """The buckets of one side of all histograms, one behind the other; those of row i lie between ``edges[i]`` and ``edges[i + 1]``."""

    index: Ints
    count: Floats
    edges: Ints

    def lists(self, rows: Ints) -> tuple[pa.ListArray, pa.ListArray]:
        """The two list columns of some rows."""
        sizes = np.diff(self.edges)[rows]
        which = np.repeat(self.edges[rows] - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes) + np.arange(int(sizes.sum()))
        return _lists(self.index[which].astype(np.int32), sizes), _lists(self.count[which], sizes)


@dataclass(frozen=True, slots=True)
class Histograms:
    """What some histogram messages say, a row each: `time` in ms, `gauge` where the counts may fall, `faults` where one is wrong."""

    time: Ints
    count: Floats
    sum: Floats
    gauge: Mask
    stale: Mask
    faults: Faults
    schema: Ints
    zero: tuple[Floats, Floats]
    positive: Side
    negative: Side
    bounds: tuple[Floats, Ints]

    def batch(self, source: str, received: int, series: npt.NDArray[np.uint64], rows: Ints) -> Batch:
        """A `histogram` batch of some rows, which are not stale and have no fault; `series` names the series of all."""
        custom = self.schema[rows] == CUSTOM
        sizes = np.diff(self.bounds[1])[rows]
        bounds = np.concatenate([self.bounds[0][self.bounds[1][row] : self.bounds[1][row + 1]] for row in rows] or [np.empty(0)])
        columns = {
            "series": pa.array(series[rows]), "time": pa.array(self.time[rows] * 1_000_000).cast(TIME), "count": pa.array(self.count[rows]),
            "sum": pa.array(self.sum[rows]), "scale": pa.array(np.where(custom, 0, self.schema[rows]).astype(np.int8)),
            "zero_threshold": pa.array(self.zero[0][rows]), "zero_count": pa.array(self.zero[1][rows]), "bounds": _lists(bounds, sizes),
        }  # fmt: skip
        for name, side in (("positive", self.positive), ("negative", self.negative)):
            columns[f"{name}_index"], columns[f"{name}_count"] = side.lists(rows)
        rows_ = pa.RecordBatch.from_arrays([columns[name] for name in HISTOGRAM.names], schema=HISTOGRAM)
        return Batch("histogram", source, received, rows_)


def read(messages: Sequence[bytes]) -> Histograms:
    """The histograms in some ``prometheus.Histogram`` messages.

    Raises:
        BadData: one is not a protobuf message.
    """
    body = b"".join(frame(1, message) for message in messages)
    tables = _PLAN.scan(body)
    table = tables["histograms"]
    faults = Faults(len(table))
    schema = signed(table["schema"])
    custom = schema == CUSTOM
    faults.mark(~custom & ((schema < -4) | (schema > 8)), "the schema of a native histogram is neither -4 to 8 nor -53")
    whole = table["count_kind"] != _COUNT_FLOAT
    positive = _side(body, table, tables, "positive", whole, faults)
    negative = _side(body, table, tables, "negative", whole, faults)
    bounds = _doubles(body, table, "bounds")
    _check_bounds(bounds, positive, custom, faults)
    positive.index[:] -= ~np.repeat(custom, np.diff(positive.edges))
    negative.index[:] -= 1
    count = _either(table["count"], whole)
    zero = _either(table["zero_count"], table["zero_kind"] == _ZERO_INT)
    total = table["sum"]
    stale = total == np.float64(STALE).view(np.int64)
    faults.mark(~stale & ~((count >= 0) & (zero >= 0)), "a native histogram counts less than nothing")
    thresholds = table["zero_threshold"].view(np.float64)
    gauge = table["reset"] == _GAUGE
    return Histograms(
        table["time"], count, total.view(np.float64), gauge, stale, faults, schema, (thresholds, zero), positive, negative, bounds
    )


def _side(body: bytes, table: Table, tables: dict[str, Table], name: str, whole: Mask, faults: Faults) -> Side:
    """The buckets of one side; a histogram whose spans and counts do not fit has none and is at fault."""
    deltas, edges = unpack(body, *_where(table, f"{name}_deltas", whole))
    counts = np.cumsum(signed(deltas))
    before = np.concatenate(([0], counts))[edges[:-1]]
    exact = (counts - np.repeat(before, np.diff(edges))).astype(np.float64)
    floats, float_edges = _doubles(body, table, f"{name}_counts", ~whole)
    edges = edges + float_edges
    order = np.repeat(whole, np.diff(edges))
    count = np.empty(int(edges[-1]), np.float64)
    count[order], count[~order] = exact, floats
    spans = tables[f"{name}_spans"]
    parent, offset, length = spans.parent, signed(spans["offset"]), spans["length"]
    first = np.concatenate(([True], parent[1:] != parent[:-1])) if len(parent) else np.empty(0, np.bool_)
    wrong = (length < 0) | (length > _MOST_BUCKETS) | (abs(offset) > 1 << 30) | (~first & (offset < 0))
    lengths = np.where(wrong, 0, length)
    sums = np.bincount(parent, lengths, len(table)).astype(np.int64)
    bad = (np.bincount(parent, wrong, len(table)) > 0) | (sums != np.diff(edges))
    bad |= np.bincount(np.repeat(np.arange(len(table)), np.diff(edges)), ~(count >= 0), len(table)) > 0
    faults.mark(bad, f"the {name} spans and counts of a native histogram do not fit together")
    good = ~bad[parent]
    parent, offset, lengths = parent[good], offset[good], lengths[good]
    keep = np.repeat(~bad, np.diff(edges))
    edges = np.concatenate(([0], np.cumsum(np.where(bad, 0, np.diff(edges)))))
    steps = np.cumsum(offset + lengths)
    start = np.concatenate(([0], steps))[np.searchsorted(parent, parent)]
    begin = steps - lengths - start
    index = np.repeat(begin - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))
    return Side(index, count[keep], edges)


def _check_bounds(bounds: tuple[Floats, Ints], positive: Side, custom: Mask, faults: Faults) -> None:
    """Mark histograms whose own bounds do not rise, or whose buckets lie outside of them."""
    values, edges = bounds
    sizes = np.diff(edges)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    falls = np.zeros(len(values), np.bool_)
    falls[1:] = (owner[1:] == owner[:-1]) & ~(values[1:] > values[:-1])
    wrong = (np.bincount(owner, falls, len(sizes)) > 0) | (~custom & (sizes > 0))
    counts = np.diff(positive.edges)
    owner = np.repeat(np.arange(len(sizes)), counts)
    outside = custom[owner] & ((positive.index < 0) | (positive.index > sizes[owner]))
    wrong |= np.bincount(owner, outside, len(sizes)) > 0
    faults.mark(wrong, "the bounds of a native histogram do not rise, or its buckets lie outside of them")


def unpack(body: bytes, offsets: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """The numbers in packed varint fields one behind the other, and the edges between the fields.

    Raises:
        BadData: one of them is cut off.
    """
    out, edges = np.empty(int(lengths.sum()), np.int64), np.empty(len(offsets) + 1, np.int64)
    code = kernel.kernels().unpack(np.frombuffer(body, np.uint8), offsets, lengths, out, edges)
    if code != kernel.OK:
        raise BadData("the body is not protobuf: a packed field is cut off")
    return out[: edges[-1]], edges


def _where(table: Table, name: str, rows: Mask) -> tuple[Ints, Ints]:
    offsets, lengths = table.text(name)
    lengths[~rows] = 0
    return offsets, lengths


def _doubles(body: bytes, table: Table, name: str, rows: Mask | None = None) -> tuple[Floats, Ints]:
    """The numbers of a packed field of doubles, and the edges between the messages."""
    offsets, lengths = table.text(name)
    sizes = lengths // 8 * (1 if rows is None else rows)
    edges = np.concatenate(([0], np.cumsum(sizes)))
    parts = [body[start : start + 8 * size] for start, size in zip(offsets.tolist(), sizes.tolist(), strict=True) if size]
    return np.frombuffer(b"".join(parts), np.float64), edges


def signed(values: Ints) -> Ints:
    """Zigzag numbers as they are meant."""
    return (values >> 1 & 0x7FFFFFFFFFFFFFFF) ^ -(values & 1)


def _either(values: Ints, whole: Mask) -> Floats:
    """Cells that hold a uint64 where `whole` and the bits of a double elsewhere."""
    return np.where(whole, values.view(np.uint64).astype(np.float64), values.view(np.float64))


def _lists(values: npt.NDArray[np.int32] | Floats, sizes: Ints) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)), pa.array(values))
