"""Scores by point and by event, without point adjustment: average precision, and what alarms found and how many were right."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

F64 = np.ndarray[Any, np.dtype[np.float64]]


class Events(NamedTuple):
    """Share of alarms within a labelled range, share of ranges with an alarm, and alarms in all."""

    precision: float
    recall: float
    alarms: int


def auc_pr(labels: F64, scores: F64) -> float:
    """Average precision over points; points of one score are taken together. NaN when nothing is labelled."""
    rank = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[rank])
    last = np.append(np.flatnonzero(np.diff(scores[rank])), len(rank) - 1)
    if not hits[-1]:
        return float("nan")
    recall = hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits[last] / (last + 1)))


def events(ranges: list[tuple[int, int]], alarms: np.ndarray[Any, np.dtype[np.int64]], apart: int) -> Events:
    """Precision and recall of alarms against labelled ranges (first and last inclusive).

    Args:
        ranges: labelled ranges, in the unit of the alarms.
        alarms: places of alarms, ascending.
        apart: alarms within this distance of the one before are one.
    """
    alarms = alarms[np.diff(alarms, prepend=-(1 << 62)) > apart]
    inside = [(alarms >= first) & (alarms <= last) for first, last in ranges]
    right = np.any(inside, axis=0) if inside else np.zeros(len(alarms), bool)
    found = sum(bool(here.any()) for here in inside)
    return Events(float(right.mean()) if len(alarms) else float("nan"), found / len(ranges) if ranges else float("nan"), len(alarms))
