"""VUS-PR: the volume under the range-based precision-recall surface (Paparrizos et al. 2022, doi:10.14778/3551793.3551830).

Labels get soft shoulders of up to half a buffer on both sides, falling as a square root, so that an alarm a little early or late is
not simply wrong; recall is also multiplied by the share of the labelled ranges that were touched at all. The area under precision
over recall is taken for every buffer length from 0 to `longest` and averaged. Free of thresholds and of any point adjustment.
"""

from __future__ import annotations

from typing import Any

import numpy as np

F64 = np.ndarray[Any, np.dtype[np.float64]]
LEVELS = 250
"""At so many score levels, evenly spread over the ranks, precision and recall are taken."""


def segments(labels: F64) -> list[tuple[int, int]]:
    """First and last index of every run of labels above 0."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0.0], labels > 0, [0.0]))))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def softened(labels: F64, buffer: int) -> F64:
    """Labels of 0 and 1 with shoulders of `buffer // 2` points: sqrt(1 - distance / buffer)."""
    soft = labels.astype(float).copy()
    half = buffer // 2
    for first, last in segments(labels):
        before, after = np.arange(max(first - half, 0), first), np.arange(last + 1, min(last + half + 1, len(labels)))
        soft[before] += np.sqrt(1.0 - (first - before) / buffer)
        soft[after] += np.sqrt(1.0 - (after - last) / buffer)
    return np.asarray(np.minimum(soft, 1.0))


def range_auc_pr(labels: F64, scores: F64, buffer: int) -> float:
    """The area under the range-based precision-recall curve for one buffer length."""
    rank = np.argsort(-scores, kind="stable")
    ranked = scores[rank]
    last = np.searchsorted(-ranked, -ranked[np.linspace(0, len(ranked) - 1, LEVELS).astype(int)], "right") - 1
    return _area(softened(labels, buffer), float(labels.sum()), rank, np.unique(last))


def vus_pr(labels: F64, scores: F64, longest: int = 100) -> float:
    """The mean of `range_auc_pr` over all buffer lengths up to `longest`; NaN when nothing is labelled.

    Args:
        labels: 0 or 1 a point.
        scores: a score a point, higher is stranger.
        longest: the longest buffer, in points.
    """
    total = float(labels.sum())
    if total == 0:
        return float("nan")
    rank = np.argsort(-scores, kind="stable")
    ranked = scores[rank]
    levels = ranked[np.linspace(0, len(ranked) - 1, LEVELS).astype(int)]
    last = np.unique(np.searchsorted(-ranked, -levels, "right") - 1)
    return float(np.mean([_area(softened(labels, buffer), total, rank, last) for buffer in range(longest + 1)]))


def _area(soft: F64, total: float, rank: np.ndarray[Any, Any], last: np.ndarray[Any, Any]) -> float:
    """Average precision where the `last + 1` highest ranked points are alarms, for each of `last` in turn.

    The labelled mass lies between that of the original labels and that of the softened ones met so far; recall divides by their mean.
    """
    label = soft[rank]
    hit = np.cumsum(label)[last]
    mass = (total + np.cumsum(np.where(label < 1.0, label, 0.0))[last] + np.count_nonzero(soft == 1.0)) / 2.0
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    touched = np.sort([place[first : end + 1].min() for first, end in segments(soft)])
    share = np.searchsorted(touched, last, "right") / len(touched)
    recall = np.minimum(hit / mass, 1.0) * share
    return float(np.sum(np.diff(recall, prepend=0.0) * hit / (last + 1)))
