"""Spans put together into invocations, and what they give away: vanished and new calls, failures, time lost in the network.

Network time as the median of client minus server duration per pair of entities, and the rule that the culprit is the one whose
edges are all late, are what tells a slow network from a slow service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ninefold.analytics.alerts.deviation import (
    F64,
    I64,
    calibrated,
    codes,
    deviation,
    first_bucket,
    grid,
    lasting,
    medians,
    pack,
    squash,
    surprise,
    without_gaps,
    worst,
)  # fmt: skip
from ninefold.analytics.findings import quantity

SPANS = pa.schema(
    {"id": pa.uint64(), "parent": pa.uint64(), "entity": pa.string(), "name": pa.string(), "bucket": pa.int32(), "duration": pa.int64(),
     "error": pa.bool_()}
)  # fmt: skip
"""One row a span: `id` and `parent` identify spans across traces (parent 0: none), duration in ns."""


class Line(NamedTuple):
    """One piece of evidence in words: `score` orders the lines of an entity, `bucket` is the first that deviates."""

    score: float
    text: str
    series: int = 0
    pattern: int = 0
    bucket: int = 0


@dataclass(slots=True)
class Evidence:
    """One kind of evidence: how much of it each entity shows, and the words for it, best first."""

    scores: dict[str, float] = field(default_factory=dict)
    lines: dict[str, list[Line]] = field(default_factory=dict)


class Invocations:
    """Spans put together: who called whom, and which operation each span belongs to.

    An entry is a span without parent, or whose parent is another entity's: one invocation of an operation of its entity. A
    span inside belongs to the invocation of the entry above it. Built in a few passes over arrays, no recursion.
    """

    def __init__(self, spans: pa.Table) -> None:
        ids = spans.column("id").to_numpy()
        order = np.argsort(ids, kind="stable")
        self.ids, self.order = ids[order], order
        self.buckets, at = np.unique(spans.column("bucket").to_numpy(), return_inverse=True)
        self.at = at.astype(np.int64)
        self.quiet = self.buckets < 0
        self.entity, self.entities = codes(spans.column("entity"))
        self.name, self.names = codes(spans.column("name"))
        self.duration = spans.column("duration").to_numpy().astype(np.float64)
        self.error = spans.column("error").to_numpy(zero_copy_only=False)
        parent = self.find(spans.column("parent").to_numpy())
        self.parent = parent
        above = np.maximum(parent, 0)
        self.entry = (parent < 0) | (self.entity[above] != self.entity)
        self.call = self.entry & (parent >= 0)
        # A client span does nothing but wait for its one server span; without it, a caller's time cannot be told from the way's.
        children = np.bincount(parent[parent >= 0], minlength=len(ids))
        self.client = self.call & ~self.entry[above] & (children[above] == 1)
        top = np.where(self.entry, np.arange(len(ids)), parent)
        for _ in range(24):  # each round doubles the depth covered; a cycle of broken ids ends here too
            top = top[top]
        self.top = top
        self.operation, first = pack(self.entity, self.name[top])
        self.operation_entity, self.operation_name = self.entity[first], self.name[top][first]
        self.invoked = grid(self.operation[self.entry], self.at[self.entry], self.shape(len(first)))

    def shape(self, rows: int) -> tuple[int, int]:
        """The shape of a grid of `rows` keys over the buckets."""
        return rows, len(self.buckets)

    def find(self, wanted: np.ndarray[Any, np.dtype[np.uint64]]) -> I64:
        """The rows of spans by id, -1 for unknown ones (0 is never known)."""
        if not len(self.ids):
            return np.full(len(wanted), -1, np.int64)
        place = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return np.where((self.ids[place] == wanted) & (wanted != 0), self.order[place], -1)

    def usable(self) -> bool:
        """Whether there is enough on both sides to compare."""
        loud = self.at[~self.quiet[self.at]] if len(self.at) else self.at
        return len(loud) >= 20 and len(self.at) - len(loud) >= 20

    def label(self, operation: int) -> str:
        """The words for an operation."""
        return str(self.names[self.operation_name[operation]])

    def needs(self) -> dict[str, set[str]]:
        """Callers and what they call, as seen in these spans."""
        pairs = np.unique(np.stack([self.entity[self.parent[self.call]], self.entity[self.call]]), axis=1)
        found: dict[str, set[str]] = {}
        for a, b in pairs.T:
            found.setdefault(self.entities[a], set()).add(self.entities[b])
        return found

    def _gather(self, owners: I64, scores: F64, lines: Sequence[tuple[int, Line]], top: int = 2) -> Evidence:
        total = calibrated(worst(owners, scores, len(self.entities), top), self.buckets)
        found = Evidence({self.entities[e]: float(total[e]) for e in np.flatnonzero(total > 0)})
        for owner, line in lines:
            found.lines.setdefault(self.entities[owner], []).append(line)
        return found

    def _loudest(self, scores: F64, limit: int = 200) -> list[tuple[int, float]]:
        loud = lasting(scores, self.buckets)
        return [(int(i), float(loud[i])) for i in np.argsort(-loud, kind="stable")[:limit] if loud[i] > 0]

    def _counted(self, keys: I64, rows: I64, operations: I64) -> tuple[F64, F64, F64]:
        """z, counts and expected counts of features: `keys` of the spans `rows`, `operations` of each feature."""
        counts = grid(keys, self.at[rows], self.shape(len(operations)))
        z, expected = surprise(counts, self.invoked[operations], self.quiet)
        return z, counts, expected

    def calls(self) -> Evidence:
        """Calls to others per invocation: new ones, vanished ones."""
        rows = np.flatnonzero(self.call)
        if not len(rows):
            return Evidence()
        caller = self.operation[self.parent[rows]]
        keys, first = pack(caller, self.operation[rows])
        operations, targets = caller[first], self.operation[rows][first]
        z, counts, expected = self._counted(keys, rows, operations)
        scores = squash(z)
        lines = []
        for i, score in self._loudest(scores):
            callee = self.entities[self.operation_entity[targets[i]]]
            text = f"{self.label(operations[i])} calls {callee} {self.label(targets[i])} {self._against(counts[i], expected[i])}"
            lines.append((int(self.operation_entity[operations[i]]), Line(score, text, bucket=first_bucket(scores[i], self.buckets))))
        return self._gather(self.operation_entity[operations], scores, lines)

    def inner(self) -> Evidence:
        """Steps inside an invocation: new ones, vanished ones."""
        rows = np.flatnonzero(~self.entry)
        if not len(rows):
            return Evidence()
        keys, first = pack(self.operation[rows], self.name[rows])
        operations, steps = self.operation[rows][first], self.name[rows][first]
        z, counts, expected = self._counted(keys, rows, operations)
        scores = squash(z)
        lines = []
        for i, score in self._loudest(scores):
            text = f"{self.label(operations[i])} does {self.names[steps[i]]} {self._against(counts[i], expected[i])}"
            lines.append((int(self.operation_entity[operations[i]]), Line(score, text, bucket=first_bucket(scores[i], self.buckets))))
        return self._gather(self.operation_entity[operations], scores, lines)

    def failures(self) -> Evidence:
        """Invocations that end in an error, more often than usual."""
        rows = np.flatnonzero(self.entry & self.error)
        if not len(rows):
            return Evidence()
        keys, first = pack(self.operation[rows])
        operations = self.operation[rows][first]
        z, counts, expected = self._counted(keys, rows, operations)
        scores = squash(np.maximum(z, 0))
        lines = []
        for i, score in self._loudest(scores):
            tried = self.invoked[operations[i], ~self.quiet].sum()
            failed, usual = counts[i, ~self.quiet].sum(), expected[i, ~self.quiet].sum()
            text = f"{self.label(operations[i])} fails {failed:.0f} of {tried:.0f} times, usually {usual:.0f}"
            lines.append((int(self.operation_entity[operations[i]]), Line(score, text, bucket=first_bucket(scores[i], self.buckets))))
        return self._gather(self.operation_entity[operations], scores, lines, 1)

    def network(self) -> Evidence:
        """Time lost between client and server, per pair of entities. The culprit is the one whose edges are all late."""
        rows = np.flatnonzero(self.client)
        if not len(rows):
            return Evidence()
        above = self.parent[rows]
        keys, first = pack(self.entity[above], self.entity[rows])
        caller, callee = self.entity[above][first], self.entity[rows][first]
        gap = medians(keys, self.at[rows], self.duration[above] - self.duration[rows], self.shape(len(first)))
        z, base = deviation(gap, self.quiet, 0.25, 1.5e6)
        seen = grid(keys, self.at[rows], self.shape(len(first)))
        late = without_gaps(squash(np.maximum(z, 0)) * seen / (seen + 1), gap, self.quiet)
        scores = np.zeros(self.shape(len(self.entities)))
        for e in range(len(self.entities)):
            into, out = callee == e, caller == e
            sums = late[into].sum(axis=0), late[out].sum(axis=0)
            shares = sums[0] / (into.sum() + 1), sums[1] / (out.sum() + 2), (sums[0] + sums[1]) / (into.sum() + out.sum() + 1)
            scores[e] = 2 * np.maximum.reduce(shares)
        total = calibrated(scores, self.buckets)
        found = Evidence({self.entities[e]: float(total[e]) for e in np.flatnonzero(total > 0)})
        for i, score in self._loudest(late):
            now = np.nanmax(gap[i, ~self.quiet])
            a, b = self.entities[caller[i]], self.entities[callee[i]]
            text = f"calls from {a} to {b} lose {quantity(now / 1e9, 's')} on the way, usually {quantity(base[i, 0] / 1e9, 's')}"
            for end in (a, b):
                found.lines.setdefault(end, []).append(Line(score, text, bucket=first_bucket(late[i], self.buckets)))
        return found

    def own_time(self) -> Evidence:
        """Time an operation spends in its own entity, not waiting for others."""
        calls = np.flatnonzero(self.call)
        away = np.where(self.client[calls], self.duration[self.parent[calls]], self.duration[calls])
        waiting = np.bincount(self.top[self.parent[calls]], away, minlength=len(self.entity))
        rows = np.flatnonzero(self.entry)
        own = np.maximum(self.duration[rows] - waiting[rows], 0.0)
        operations = self.operation[rows]
        spent = medians(operations, self.at[rows], own, self.invoked.shape)
        z, base = deviation(spent, self.quiet, 0.3, 2e6)
        slow = squash(np.maximum(z, 0))
        weight, owner = self.invoked, self.operation_entity
        total = np.zeros(self.shape(len(self.entities)))
        share = np.zeros(self.shape(len(self.entities)))
        np.add.at(total, owner, slow * weight)
        np.add.at(share, owner, weight)
        scores = calibrated(total / np.maximum(share, 1), self.buckets)
        found = Evidence({self.entities[e]: float(scores[e]) for e in np.flatnonzero(scores > 0)})
        for i, score in self._loudest(slow):
            now = np.nanmax(spent[i, ~self.quiet])
            text = f"{self.label(i)} spends {quantity(now / 1e9, 's')} by itself, usually {quantity(base[i, 0] / 1e9, 's')}"
            line = Line(score * float(weight[i, ~self.quiet].sum()), text, bucket=first_bucket(slow[i], self.buckets))
            found.lines.setdefault(self.entities[owner[i]], []).append(line)
        return found

    def _against(self, counts: F64, expected: F64) -> str:
        return f"{counts[~self.quiet].sum():.0f} times, usually {expected[~self.quiet].sum():.0f}"
