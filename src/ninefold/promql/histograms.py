"""Native histograms as PromQL reads them: as cumulative buckets with ``le`` labels, or as their counts or sums.

Rates and sums of histograms are those of each bucket by itself, so an expression over native histograms is computed like one over classic
ones, with ``le`` kept by every aggregation. All histograms of a selector are brought to the coarsest scale among them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.errors import BadData
from ninefold.plugin import Store
from ninefold.promql.matrix import F64, I64, Labels, Samples, newest, runs

Part = Literal["", "buckets", "count", "sum"]
"""What of a selector's series is read: "" its samples, else a part of its native histograms."""
PARTS: dict[str, Part] = {"histogram_count": "count", "histogram_sum": "sum"}
AVERAGE: tuple[Part, Part] = ("sum", "count")
CELLS = 20_000_000
"""Most bucket values of one selector."""
_MOST = 200_000
_BUCKETS = "scale, zero_threshold, zero_count, positive_index, positive_count, negative_index, negative_count, bounds"
_READ = """SELECT series, intDiv(toUnixTimestamp64Nano(time), 1000000) AS at, count, sum <more> FROM histogram
    WHERE series IN {ids:Array(UInt64)} AND time > fromUnixTimestamp64Milli({begin:Int64}, 'UTC')
    AND time < fromUnixTimestamp64Milli({end:Int64} + 1, 'UTC') ORDER BY series, time LIMIT {limit:UInt64}"""


def exist(store: Store, ids: list[int], begin: int, end: int) -> bool:
    """Whether one of the series has a native histogram after `begin` and up to `end` (ms)."""
    return bool(ids) and store.query(_READ.replace("<more>", ""), {"ids": ids, "begin": begin, "end": end, "limit": 1}).num_rows > 0


def read(store: Store, known: dict[int, Labels], begin: int, end: int, part: Part) -> Samples:
    """The native histograms of some series after `begin` and up to `end` (ms) as samples of their counts, sums or buckets.

    Raises:
        BadData: there are more than one query may load.
    """
    asked = {"ids": list(known), "begin": begin, "end": end, "limit": _MOST + 1}
    found = store.query(_READ.replace("<more>", f", {_BUCKETS}" if part == "buckets" else ""), asked)
    if found.num_rows > _MOST:
        raise BadData(f"the query would load more than {_MOST:,} native histograms; narrow the selector or shorten the range")
    owner, times = found["series"].to_numpy(), found["at"].to_numpy().astype(np.int64)
    once = newest(owner, times)
    found, owner, times = found.filter(pa.array(once)), owner[once], times[once]
    starts, edges = runs(owner)
    labels = [known[int(series)] for series in owner[starts]]
    if part != "buckets" or not len(owner):
        return Samples(labels, times, found[part if part != "buckets" else "count"].to_numpy(), edges)
    bounds, heights = _cumulative(found.combine_chunks())
    pieces = [slice(*ends) for ends in pairwise(edges.tolist())]
    return Samples(
        [{**row, "le": repr(float(bound)) if np.isfinite(bound) else "+Inf"} for row in labels for bound in bounds],
        np.concatenate([np.tile(times[piece], len(bounds)) for piece in pieces]),
        np.concatenate([heights[piece].T.ravel() for piece in pieces]),
        np.concatenate(([0], np.cumsum(np.repeat(np.diff(edges), len(bounds))))).astype(np.int64),
    )


def _cumulative(found: pa.Table) -> tuple[F64, F64]:
    """The upper bounds of all buckets, and (row, bound) how many values lie at or below each."""
    zero, threshold = (found[name].to_numpy() for name in ("zero_count", "zero_threshold"))
    every = np.arange(len(zero))
    # As Prometheus has it, the zero bucket ends at 0 on the side on which there are no others while there are some on the other side.
    above, below = (
        pc.list_value_length(_list(found, f"{side}_count")).to_numpy(zero_copy_only=False) > 0 for side in ("positive", "negative")
    )
    least, most = np.where(above & ~below, 0.0, -threshold), np.where(below & ~above, 0.0, threshold)
    rows, low, high, counts = ([part] for part in (every[zero > 0], least[zero > 0], most[zero > 0], zero[zero > 0]))
    for side in ("positive", "negative"):
        row, lower, upper, count = _side(found, side)
        if side == "negative":
            lower, upper = -upper, -lower
        for parts, part in zip((rows, low, high, counts), (row, lower, upper, count), strict=True):
            parts.append(part)
    uppers = np.concatenate(high)
    ends = np.concatenate((uppers, np.concatenate(low)))
    bounds = np.append(np.unique(ends[np.isfinite(ends)]), np.inf)
    if len(every) * len(bounds) > CELLS:
        raise BadData(
            f"native histograms of {len(bounds):,} buckets are more than {CELLS:,} values; narrow the selector or shorten the range"
        )
    heights = np.zeros((len(every), len(bounds)))
    np.add.at(heights, (np.concatenate(rows), np.searchsorted(bounds, uppers)), np.concatenate(counts))
    heights = np.cumsum(heights, axis=1)
    heights[:, -1] = found["count"].to_numpy()
    return bounds, heights


def _side(found: pa.Table, side: str) -> tuple[I64, F64, F64, F64]:
    """Of each bucket of one side its row, the bounds of its magnitude, and its count."""
    lists = [_list(found, f"{side}_{what}") for what in ("index", "count")]
    index, count = (pc.list_flatten(part).to_numpy(zero_copy_only=False) for part in lists)
    row = np.repeat(np.arange(len(lists[0])), pc.list_value_length(lists[0]).to_numpy(zero_copy_only=False))
    own = _list(found, "bounds")
    size = pc.list_value_length(own).to_numpy(zero_copy_only=False)
    exponential = size == 0
    scales = found["scale"].to_numpy().astype(np.int64)
    scale = int(scales[exponential].min()) if exponential.any() else 0
    step = index.astype(np.int64) >> np.where(exponential, scales - scale, 0)[row]
    with np.errstate(over="ignore"):
        lower, upper = (np.exp2(place * 2.0**-scale) for place in (step, step + 1))
    if not exponential.all():
        flat, begin = np.append(pc.list_flatten(own).to_numpy(zero_copy_only=False), 0.0), np.cumsum(size) - size
        custom = ~exponential[row]
        at, most = begin[row] + step, size[row]
        lower = np.where(custom, np.where(step > 0, flat[np.clip(at - 1, 0, len(flat) - 1)], -np.inf), lower)
        upper = np.where(custom, np.where(step < most, flat[np.clip(at, 0, len(flat) - 1)], np.inf), upper)
    return row, lower, upper, count


def _list(found: pa.Table, name: str) -> Any:
    column = found[name]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
