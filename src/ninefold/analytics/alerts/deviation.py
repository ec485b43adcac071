"""How far something is from its usual self: robust deviations of values and counts, and what of them lasts beyond the usual.

Buckets of time are columns: some are quiet, the others are the incident's. Robust deviation with floors after BARO (Pham et al.,
FSE 2024); counts per invocation against several normal windows after Nezha (Yu et al., FSE 2023).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
Bool = np.ndarray[Any, np.dtype[np.bool_]]

_NOISE, _CAP = 2.0, 30.0
"""Deviations below 2 spreads are nothing, beyond 32 all the same."""
_EARLY = 0.4
"""What the incident's first bucket counts, which ends a minute before the first alert."""


def grid(keys: I64, buckets: I64, shape: tuple[int, int], weights: Any = None) -> F64:
    """Counts (or sums of `weights`) by key and bucket."""
    flat = np.bincount(keys * shape[1] + buckets, weights, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.float64)


def medians(keys: I64, buckets: I64, values: F64, shape: tuple[int, int], least: int = 2) -> F64:
    """Medians of values by key and bucket, NaN where there are fewer than `least`."""
    cell = keys * shape[1] + buckets
    order = np.lexsort((values, cell))
    cell, values = cell[order], values[order]
    places, starts, counts = np.unique(cell, return_index=True, return_counts=True)
    middle = (values[starts + (counts - 1) // 2] + values[starts + counts // 2]) / 2
    out = np.full(shape[0] * shape[1], np.nan)
    out[places] = np.where(counts >= least, middle, np.nan)
    return out.reshape(shape)


def median(values: F64) -> F64:
    """Median along the last axis, kept, of what is finite; 0 where nothing is."""
    with np.errstate(all="ignore"):
        some = np.isfinite(values).any(axis=-1, keepdims=True)
        return np.where(some, np.nanmedian(np.where(some, values, 0.0), axis=-1, keepdims=True), 0.0)


def squash(z: F64) -> F64:
    """Deviations as evidence: 0 up to the noise, then logarithmic, capped."""
    return np.log1p(np.clip(np.abs(z) - _NOISE, 0.0, _CAP))


def deviation(values: F64, quiet: Bool, relative: float, floor: float | F64, shares: Bool | None = None) -> tuple[F64, F64]:
    """Signed robust deviation of each value from its row's quiet median, in spreads, and that median; NaN counts as usual.

    A spread is at least `relative` times the median (of percentages, rows in `shares`: times the distance to the nearer bound, so
    that 100 % has little room to vary) and at least `floor`.
    """
    base = median(values[:, quiet])
    size = np.abs(base)
    if shares is not None:
        size = np.where(shares[:, None] & (base >= 0) & (base <= 100), np.minimum(base, 100 - base), size)
    spread = np.maximum(1.4826 * median(np.abs(values[:, quiet] - base)), np.maximum(relative * size, floor))
    known = np.isfinite(values[:, quiet]).any(axis=1, keepdims=True)
    return np.where(known & np.isfinite(values), (values - base) / spread, 0.0), base


def surprise(counts: F64, exposure: F64, quiet: Bool) -> tuple[F64, F64]:
    """Signed deviation of counts from what their exposure (invocations) lets expect, and the expected counts.

    The rate is the median over quiet buckets; the variance is Poisson's times the dispersion seen there, so that a line written
    exactly once per call needs few misses, and a bursty one many, to stand out.
    """
    c, n = counts[:, quiet], exposure[:, quiet]
    rates = np.where(n >= 2, c / np.maximum(n, 1), np.nan)
    total = n.sum(axis=1, keepdims=True)
    rate = np.where((n >= 2).sum(axis=1, keepdims=True) >= 3, median(rates), c.sum(axis=1, keepdims=True) / np.maximum(total, 1))
    residual = np.where(n >= 1, (c - rate * n) ** 2 / np.maximum(rate * n, 0.3), np.nan)
    seen = (n >= 1).sum(axis=1, keepdims=True)
    dispersion = np.maximum((median(residual) / 0.455 * seen + 1) / (seen + 1), 0.1)
    wobble = 1.4826 * median(np.abs(rates - rate))
    expected = rate * exposure
    unsure = dispersion * expected * exposure / np.maximum(total, 1) + exposure / np.maximum(total, 1)
    z = (counts - expected) / np.sqrt(dispersion * expected + (exposure * wobble) ** 2 + unsure + (0.05 * expected) ** 2 + 0.5)
    z = np.where(total < 3, np.minimum(np.sqrt(counts), 3.0), z)
    return np.where((exposure < 1) & (counts == 0), 0.0, z), expected


_STEADIER, _BUCKETS, _LEAST, _GROUP = 0.6, 5, 10, 60


def companions(counts: F64, exposure: F64, group: I64, quiet: Bool) -> F64:
    """The exposure of each count: that given, or the count of a companion in its group that it keeps a steadier ratio with.

    Two lines of one routine are written as often as one another however often the routine runs, so what was thrown between them
    shows where the ratio breaks, even if calls of the operation take many ways (pairs of events after Nezha: Yu et al., FSE 2023).
    """
    out, usual = exposure.copy(), counts[:, quiet]
    total = usual.sum(axis=1)
    for members in np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]):
        rows = members[total[members] >= _LEAST]
        if not 2 <= len(rows) <= _GROUP:
            continue
        own = _stray(usual[rows][:, None], exposure[rows][:, None, quiet])[:, 0]
        other = _stray(usual[rows][:, None], usual[rows][None, :])
        other[np.eye(len(rows), dtype=bool) | (total[rows][:, None] > 1.05 * total[rows])] = np.inf
        best = other.argmin(axis=1)
        better = (other[np.arange(len(rows)), best] < _STEADIER * own) & (own > 0.3)
        out[rows[better]] = counts[rows[best[better]]]
    return out


def _stray(counts: F64, exposure: F64) -> F64:
    """How far counts stray from their usual ratio to the exposure, over the last axis; infinite where that is hardly known."""
    with np.errstate(all="ignore"):
        rates = np.where(exposure > 0, counts / exposure, np.nan)
        known = np.isfinite(rates).sum(axis=-1) >= _BUCKETS
        rate = median(rates)
        stray = np.where(exposure > 0, np.abs(counts - rate * exposure) / np.sqrt(rate * exposure + 0.5), 0.0)
        mean = stray.sum(axis=-1) / np.maximum((exposure > 0).sum(axis=-1), 1)
    return np.where(known, mean, np.inf)


def without_gaps(scores: F64, values: F64, quiet: Bool) -> F64:
    """Scores in which incident buckets without a value count as the row's other incident buckets do: that nobody called says nothing."""
    known = np.isfinite(values) & ~quiet
    mean = np.where(known, scores, 0.0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(~known & ~quiet, mean, scores)


def lasting(scores: F64, buckets: I64) -> F64:
    """One score per row: the mean of the worst incident buckets (two fifths of them, at least two).

    The first bucket lies a minute or more before the first alert: what shows only there was over before anything was wrong, and
    counts half.
    """
    weights = np.where(buckets == 0, _EARLY, 1.0)
    loud = (scores * weights)[:, buckets >= 0]
    keep = min(loud.shape[1], max(2, int(np.ceil(0.4 * loud.shape[1]))))
    return np.sort(loud, axis=1)[:, ::-1][:, :keep].mean(axis=1) if loud.shape[1] else np.zeros(len(scores))


def calibrated(scores: F64, buckets: I64) -> F64:
    """What a row scores in the incident beyond what it, and rows like it, score in quiet buckets."""
    usual = scores[:, buckets < 0]
    if usual.shape[1] < 3:
        return np.maximum(lasting(scores, buckets) - 0.3, 0.0)
    own = np.quantile(usual, 0.75, axis=1)
    return np.maximum(lasting(scores, buckets) - np.maximum(own, 0.5 * np.quantile(usual, 0.75)), 0.0)


def worst(owners: I64, scores: F64, count: int, top: int = 2) -> F64:
    """Per owner and bucket the mean of its `top` highest feature scores."""
    out = np.zeros((count, scores.shape[1]))
    if not len(owners):
        return out
    order = np.argsort(owners, kind="stable")
    edges = np.searchsorted(owners[order], np.arange(count + 1))
    for owner in range(count):
        rows = scores[order[edges[owner] : edges[owner + 1]]]
        if len(rows) > top:
            rows = np.partition(rows, len(rows) - top, axis=0)[-top:]
        if len(rows):
            out[owner] = rows.sum(axis=0) / top
    return out


def first_bucket(scores: F64, buckets: I64) -> int:
    """The first incident bucket in which a feature deviates."""
    late = (buckets >= 0) & (scores > 0)
    return int(buckets[late][0]) if late.any() else 0


def codes(column: pa.ChunkedArray | pa.Array) -> tuple[I64, list[str]]:
    """A text column as numbers and their texts."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    if isinstance(array, pa.ChunkedArray):
        array = array.unify_dictionaries().combine_chunks()
    return array.indices.to_numpy(zero_copy_only=False).astype(np.int64), array.dictionary.to_pylist()


def pack(*columns: I64) -> tuple[I64, I64]:
    """Combined keys as dense numbers, and the rows where each first occurs."""
    key = columns[0]
    for column in columns[1:]:
        key = key * (int(column.max(initial=0)) + 1) + column
    _, first, dense = np.unique(key, return_index=True, return_inverse=True)
    return dense.astype(np.int64), first.astype(np.int64)
