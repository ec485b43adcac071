"""What the time of whole traces is spent on: the share of every operation in the critical path of each root operation, and who takes more.

Of a minute so many spans are kept that the rest stays cheap, whole traces, chosen by their id: the choice depends on how many came in all,
never on their order. A trace counts when its root began and ended within the minute and no parent is missing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from ninefold.analytics import warm
from ninefold.ground.clock import MINUTE

I64 = np.ndarray[Any, np.dtype[np.int64]]
F64 = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
U64 = np.ndarray[Any, np.dtype[np.uint64]]

KEPT = 8192
"""Spans of a minute that are looked at."""
CONTRIBUTORS, ROOTS = 64, 512
_TRACES, _PATIENCE, _FEW = 10, 5, 4
"""A window of a root ends with so many traces, or after so many minutes with a few."""
_LEARNED, _MEMORY = 30.0, 5000.0
"""Traces from which on a root is judged, and the most that what was learned counts as."""
_MOVED, _GROWN, _LEAST_NS = 0.15, 1.25, 2e6
_STUCK = 60
"""After so many minutes of nothing but odd windows what is new is usual."""


class Moved(NamedTuple):
    """A root whose window was judged, and the contributor whose share grew most.

    A contributor is ``2 * slot``, or ``2 * slot + 1`` for the way to the operation in that slot; -1 when none grew enough.
    """

    root: int
    contributor: int
    score: float
    begin: int
    share: float
    usual: float
    own_ns: float
    usual_ns: float


class CriticalPaths:
    """Windows of every root operation, and what was learned of it."""

    def __init__(self, state: Any = None) -> None:
        state = state or {"open": [], "windows": [], "usual": []}
        self._open: dict[int, tuple[int, list[I64]]] = {
            minute: (level, [np.array(rows, np.int64).reshape(7, -1)]) for minute, level, rows in state["open"]
        }
        self.transit: dict[int, tuple[I64, I64]] = {}
        """Of each minute just closed the operations called from other entities, by slot, and the time on the way (ns)."""
        self._windows: dict[int, list[Any]] = {root: [n, minute, dict(sums)] for root, n, minute, sums in state["windows"]}
        self._usual: dict[int, list[Any]] = {root: [*facts, dict(parts)] for root, facts, parts in state["usual"]}

    def state(self) -> Any:
        """Plain data from which the constructor continues."""
        return {
            "open": [[minute, level, np.concatenate(parts, axis=1).tolist()] for minute, (level, parts) in self._open.items()],
            "windows": [[root, n, minute, list(sums.items())] for root, (n, minute, sums) in self._windows.items()],
            "usual": [[root, facts, list(parts.items())] for root, (*facts, parts) in self._usual.items()],
        }

    def wanted(self, minute: int, traces: U64) -> Bools:
        """Which spans of a minute are looked at, by the keys of their traces."""
        level = self._open[minute][0] if minute in self._open else 0
        chosen: Bools = (traces & np.uint64((1 << level) - 1) == 0) & (traces != 0)
        return chosen

    def add(self, minute: int, rows: I64) -> None:
        """Take in wanted spans: keys of trace, span and parent (0: none), slot, entity's number, start and duration (ns), shape (7, n)."""
        level, parts = self._open.get(minute, (0, []))
        parts = [*parts, rows]
        while sum(part.shape[1] for part in parts) > KEPT:
            level += 1
            whole = np.concatenate(parts, axis=1)
            parts = [whole[:, whole[0] & ((1 << level) - 1) == 0]]
        self._open[minute] = level, parts

    def close(self, before: int, held: Collection[int] = ()) -> dict[int, list[Moved]]:
        """Judge the windows that end with minutes that are over; by minute. Of operations whose slots are held nothing is learned."""
        found = {}
        self.transit.clear()
        for minute in sorted(m for m in self._open if m < before):
            _, parts = self._open.pop(minute)
            if rows := sum(part.shape[1] for part in parts):
                self._gather(minute, np.concatenate(parts, axis=1)[:, :rows])
            found[minute] = self._judge(minute, held)
        return found

    def usual(self, root: int) -> tuple[float, dict[int, tuple[float, float, float, int]]]:
        """Traces learned from, and of each contributor its usual share and ns, its share in the last window, and when it was first seen."""
        if root not in self._usual:
            return 0.0, {}
        traces, _, _, _, parts = self._usual[root]
        return traces, {c: (mean, ns, last, int(first)) for c, (mean, _, ns, last, first) in parts.items()}

    def forget(self, gone: Collection[int]) -> None:
        """Let go of operations whose slots are given up."""
        for root in [root for root in self._usual if root in gone]:
            del self._usual[root]
        for root in [root for root in self._windows if root in gone]:
            del self._windows[root]
        for parts in (*(facts[-1] for facts in self._usual.values()), *(facts[-1] for facts in self._windows.values())):
            for contributor in [c for c in parts if c >> 1 in gone]:
                del parts[contributor]

    def _gather(self, minute: int, rows: I64) -> None:
        """Add the traces of a minute to the windows of their roots."""
        root, contributor, place, share, own, callees, transit = paths_of(rows, (minute + 1) * MINUTE)
        self.transit[minute] = callees, transit
        _, first = np.unique(place, return_index=True)
        for r, n in zip(*(a.tolist() for a in np.unique(root[first], return_counts=True)), strict=True):
            if r in self._windows or len(self._windows) < ROOTS:
                self._windows.setdefault(r, [0, minute, {}])[0] += n
        pair, at = np.unique(root << 32 | contributor, return_inverse=True)
        sums = np.stack([np.bincount(at, share), np.bincount(at, share * share), np.bincount(at, own)], axis=1)
        for code, values in zip(pair.tolist(), sums.tolist(), strict=True):
            window = self._windows.get(code >> 32)
            parts = window[2] if window else {}
            if code & 0xFFFFFFFF in parts or len(parts) < CONTRIBUTORS:
                old = parts.get(code & 0xFFFFFFFF, (0.0, 0.0, 0.0))
                parts[code & 0xFFFFFFFF] = tuple(a + b for a, b in zip(old, values, strict=True))

    def _judge(self, minute: int, held: Collection[int]) -> list[Moved]:
        found = []
        for root, (n, begin, _) in sorted(self._windows.items()):
            age = minute - begin
            if n >= _TRACES or (age >= _PATIENCE - 1 and n >= _FEW):
                sums = self._windows.pop(root)[2]
                if root in self._usual or len(self._usual) < ROOTS:
                    found += self._compare(root, n, begin, minute, sums, held)
            elif age >= 12 * _PATIENCE:
                del self._windows[root]
        return found

    def _compare(
        self, root: int, n: int, begin: int, minute: int, sums: dict[int, tuple[float, float, float]], held: Collection[int]
    ) -> list[Moved]:
        """Judge one window of a root; learn from it unless it is odd or held."""
        from scipy.special import log_ndtr  # here, since importing it takes longer than most processes need it

        usual = self._usual.setdefault(root, [0.0, 0.0, 0.0, 0, {}])
        m, noise, noises, since, parts = usual
        best = Moved(root, -1, 0.0, begin, 0.0, 0.0, 0.0, 0.0)
        z_sum, tests = 0.0, max(1, len(parts.keys() | sums.keys()))
        dispersion = max(1.0, (6.0 + noise) / (3.0 + noises))
        for contributor in sorted(parts.keys() | sums.keys()):
            total, square, spent = sums.get(contributor, (0.0, 0.0, 0.0))
            share, ns = total / n, spent / n
            mean, variance, usual_ns, _, _ = parts.get(contributor, (0.0, 0.0, 0.0, 0.0, 0))
            spread = max(variance, square / n - share * share, 0.0025)
            z = (share - mean) / np.sqrt(spread * (1 / n + 1 / max(m, 1.0)))
            z_sum += min(z * z, 30.0)
            if m >= _LEARNED and share - mean >= max(_MOVED, best.share - best.usual) and ns >= _GROWN * usual_ns + _LEAST_NS:
                score = max(0.0, float(-log_ndtr(-z / np.sqrt(dispersion))) / np.log(10) - np.log10(tests))
                best = Moved(root, contributor, score, begin, share, mean, ns, usual_ns)
            if contributor in parts:
                parts[contributor][3] = share
        odd = best.score >= 5.0
        usual[3] = (since or minute) if odd else 0
        stuck = odd and minute - usual[3] >= _STUCK
        if (not odd or stuck) and root not in held and best.contributor >> 1 not in held:
            if stuck:
                usual[0] = min(m, float(n))
            elif m >= _LEARNED:
                usual[1], usual[2] = 0.99 * noise + z_sum / tests, 0.99 * noises + 1.0
            _learn(usual, n, sums, begin)
        return [best] if m >= _LEARNED else []


def _learn(usual: list[Any], n: int, sums: dict[int, tuple[float, float, float]], begin: int) -> None:
    """Fold a window into what is usual, old windows counting less."""
    usual[0] = min(usual[0] + n, _MEMORY)
    weight, parts = n / usual[0], usual[4]
    for contributor in sorted(parts.keys() | sums.keys()):
        total, square, spent = sums.get(contributor, (0.0, 0.0, 0.0))
        known = parts.get(contributor)
        if known is None:
            if len(parts) >= CONTRIBUTORS:
                continue
            known = parts[contributor] = [0.0, 0.0, 0.0, total / n, begin * MINUTE]
        share = total / n
        known[1] += weight * (square / n - share * share + (1 - weight) * (share - known[0]) ** 2 - known[1])
        known[0] += weight * (share - known[0])
        known[2] += weight * (spent / n - known[2])
        if known[0] < 1e-4:
            del parts[contributor]


class Paths(NamedTuple):
    """The critical paths of whole traces: one entry for each contributor of a trace, and one for each call to another entity.

    Attributes:
        roots, contributors: slot of the trace's root, and who contributes.
        traces: the trace's place among those that count.
        shares, own: of its duration, and in ns.
        callees, transit: slot of an operation that was called from another entity by a span that did nothing else, and the ns by which
            that span took longer.
    """

    roots: I64
    contributors: I64
    traces: I64
    shares: F64
    own: F64
    callees: I64
    transit: I64


def paths_of(rows: I64, end: int) -> Paths:
    """Follow the critical paths.

    Args:
        rows: of keys of trace, span and parent, slot, entity's number, start and duration, shape (7, n), n at least 1.
        end: traces whose root ends later are left out (ns).
    """
    trace, span, parent, slot, home, start, duration = np.ascontiguousarray(rows[:, np.argsort(rows[1], kind="stable")])
    place = np.minimum(np.searchsorted(span, parent), len(span) - 1)
    mother = np.where((span[place] == parent) & (parent != 0), place, -1)
    broken = np.unique(trace[(mother < 0) & (parent != 0)])
    roots = np.flatnonzero((parent == 0) & (start + duration <= end) & (duration > 0) & ~np.isin(trace, broken))
    children, last = np.flatnonzero(mother >= 0), start + duration
    children = children[np.lexsort((-last[children], mother[children]))]
    count = np.bincount(mother[children], minlength=len(span))
    first = np.cumsum(count) - count
    own, tree, stack = np.zeros(len(span), np.int64), np.full(len(span), -1, np.int64), np.empty((len(span) + 1, 3), np.int64)
    warm.loops("traces.paths").walk(start, last, roots, children, first, count, own, tree, stack)
    only = children[np.minimum(first, len(children) - 1)] if len(children) else np.zeros(len(span), np.int64)
    way = (count == 1) & (home[only] != home)  # a span that only waits for one of another entity is the way there
    contributor = np.where(way, 2 * slot[only] + 1, 2 * slot)
    on = np.flatnonzero((tree >= 0) & (own > 0))
    pair, at = np.unique(tree[on] << 33 | contributor[on], return_inverse=True)
    which, spent = pair >> 33, np.bincount(at, own[on]).astype(np.float64)
    calls = np.flatnonzero(way)
    transit = np.maximum(duration[calls] - duration[only[calls]], 0)
    return Paths(slot[roots[which]], pair & 0x1FFFFFFFF, which, spent / duration[roots[which]], spent, slot[only[calls]], transit)
