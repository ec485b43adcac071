"""The values PromQL computes with: samples as stored, vectors over a grid of steps, scalars over the same grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ninefold.sources.series import STALE

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Labels = dict[str, str]
NAME = "__name__"
_STALE_BITS = np.array([STALE]).view(np.int64)[0]


@dataclass(frozen=True)
class Grid:
    """The times at which an expression is evaluated: from `start` to `end` (both included) every `step`, in ms."""

    start: int
    end: int
    step: int

    @cached_property
    def times(self) -> I64:
        """All of them."""
        return np.arange(self.start, self.end + 1, self.step, dtype=np.int64)

    def shifted(self, by: int) -> Grid:
        """The grid `by` ms later."""
        return Grid(self.start + by, self.end + by, self.step)


def newest(owner: npt.NDArray[Any], times: npt.NDArray[Any]) -> Mask:
    """Which rows, ordered by owner and time, are the last of their owner and time: what was sent twice counts once."""
    return np.append((np.diff(owner) != 0) | (np.diff(times) != 0), True)[: len(owner)]


def runs(owner: npt.NDArray[Any]) -> tuple[I64, I64]:
    """Where the rows of each owner begin, and these places with the end behind them, as `Samples.edges`."""
    starts = np.flatnonzero(np.append(True, np.diff(owner) != 0)[: len(owner)])
    return starts, np.append(starts, len(owner)).astype(np.int64)


@dataclass
class Samples:
    """Stored samples of some series, one series behind the other, each in time order; series i owns ``edges[i]:edges[i + 1]``.

    `weights` are how many samples each stands for; None: one each.
    """

    labels: list[Labels]
    times: I64
    values: F64
    edges: I64
    weights: F64 | None = None

    @cached_property
    def owner(self) -> I64:
        """Which series each sample belongs to."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.edges))

    @cached_property
    def stale(self) -> Mask:
        """Which samples are markers that a series has ended."""
        return np.asarray(np.ascontiguousarray(self.values).view(np.int64) == _STALE_BITS)

    def living(self) -> Samples:
        """Without the staleness markers, as ranges see them."""
        if not self.stale.any():
            return self
        keep = ~self.stale
        counts = np.bincount(self.owner[keep], minlength=len(self.labels))
        weights = None if self.weights is None else self.weights[keep]
        return Samples(self.labels, self.times[keep], self.values[keep], np.concatenate(([0], np.cumsum(counts))), weights)

    def up_to(self, times: I64) -> I64:
        """For every series (rows) and time (columns): the index behind the last sample at or before it."""
        if not len(self.times) or not len(self.labels):
            return np.zeros((len(self.labels), len(times)), np.int64)
        first = int(self.times.min())
        span = int(self.times.max()) - first + 3
        keys = self.owner * span + (self.times - first + 1)
        wanted = np.arange(len(self.labels))[:, None] * span + np.clip(times - first + 1, 0, span - 1)[None, :]
        return np.searchsorted(keys, wanted.ravel(), side="right").reshape(wanted.shape).astype(np.int64)


@dataclass
class Vector:
    """One row of values a series, one column a step; where `present` is False there is no value."""

    labels: list[Labels]
    values: F64
    present: Mask

    @classmethod
    def empty(cls, steps: int) -> Vector:
        """A vector of no series."""
        return cls([], np.empty((0, steps)), np.empty((0, steps), np.bool_))

    def with_values(self, values: F64, present: Mask | None = None, drop_name: bool = True) -> Vector:
        """The same series with other values, without their names unless told to keep them."""
        labels = [without(row, (NAME,)) for row in self.labels] if drop_name else self.labels
        return Vector(labels, values, self.present if present is None else present)

    def chosen(self, rows: Sequence[int] | I64) -> Vector:
        """Some of the series, in this order."""
        picked = np.asarray(rows, np.int64)
        return Vector([self.labels[i] for i in picked], self.values[picked], self.present[picked])


def filled(labels: list[Labels], values: F64, present: Mask) -> Vector:
    """A vector of the series that have a value at any step."""
    return Vector(labels, values, present).chosen(np.flatnonzero(present.any(axis=1)))


Value = Vector | F64 | str
"""A vector, a scalar (one number a step) or a text."""


def without(labels: Labels, names: Iterable[str]) -> Labels:
    """Labels without some of them."""
    gone = frozenset(names)
    return {key: value for key, value in labels.items() if key not in gone}


def only(labels: Labels, names: Iterable[str]) -> Labels:
    """Only some of the labels."""
    return {key: labels[key] for key in names if key in labels}


def signature(labels: Labels) -> tuple[tuple[str, str], ...]:
    """What makes two label sets the same."""
    return tuple(sorted(labels.items()))


def grouped(labels: Sequence[Labels], key: Callable[[Labels], Labels]) -> tuple[list[Labels], I64]:
    """The distinct label sets that `key` makes, in order of appearance, and which of them each row belongs to."""
    found: dict[tuple[tuple[str, str], ...], int] = {}
    groups: list[Labels] = []
    number = np.empty(len(labels), np.int64)
    for place, row in enumerate(labels):
        made = key(row)
        mark = signature(made)
        if mark not in found:
            found[mark] = len(groups)
            groups.append(made)
        number[place] = found[mark]
    return groups, number
