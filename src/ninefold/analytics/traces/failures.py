"""The kinds of failures of each operation: counted by minute, put together into windows, and held against how often each usually is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ninefold.analytics.episodes import ALARM
from ninefold.analytics.minutes import FORGET, I64
from ninefold.analytics.traces import shifts
from ninefold.analytics.traces.errorkinds import kinds_of
from ninefold.ground.clock import MINUTE

KIND_LIMIT = 32
"""Kinds of an operation; what is beyond is counted together."""
STUCK = 60
"""After so many minutes without a usual window, what is new is usual."""
_LEARNED, _MEMORY = 30.0, float(shifts.ENOUGH * 720)
_ERRORS, _SURGE, _NOISE = 3, 2.0, 3.0
_KEPT = 7 * FORGET
"""A kind that was not seen for so many minutes is let go of."""
# What is known of a kind.
_COUNT, _NOISE_OF, _FIRST, _LAST, _SHARE, _SINCE = range(6)


class Judged(NamedTuple):
    """A kind in a window: how many calls failed so, the usual share, whether it is new, and -log10 of the chance of so many."""

    kind: str
    failed: int
    usual: float
    new: bool
    score: float


class Failures:
    """Failures by operation (a slot) and kind.

    Args:
        state: what `state()` gave, to continue there.
    """

    def __init__(self, state: Any = None) -> None:
        state = state or {"open": [], "windows": [], "kinds": []}
        self._open: dict[int, dict[tuple[int, str], int]] = {
            minute: {(slot, kind): n for slot, kind, n in counts} for minute, counts in state["open"]
        }
        self._windows: dict[int, dict[str, int]] = {slot: dict(kinds) for slot, kinds in state["windows"]}
        self._kinds: dict[int, dict[str, list[float]]] = {
            slot: {kind: list(facts) for kind, facts in kinds} for slot, kinds in state["kinds"]
        }
        """Of each kind: failures learned, noise, first and last seen (ns), its share in the last window, and the minute since when it
        is not as usual (0: it is)."""

    def state(self) -> Any:
        """Plain data from which the constructor continues."""
        return {
            "open": [[minute, [[slot, kind, n] for (slot, kind), n in counts.items()]] for minute, counts in self._open.items()],
            "windows": [[slot, list(kinds.items())] for slot, kinds in self._windows.items()],
            "kinds": [[slot, list(kinds.items())] for slot, kinds in self._kinds.items()],
        }

    def take(self, rows: pa.RecordBatch, failed: I64, minutes: I64, slots: I64) -> None:
        """Count the failed rows of a batch of spans; `failed` are their places, `minutes` and `slots` those of all rows."""
        told = rows.select(["status_message", "attributes", "events"]).take(failed)
        for row, kind in zip(failed.tolist(), kinds_of(told), strict=True):
            counts = self._open.setdefault(int(minutes[row]), {})
            key = int(slots[row]), kind
            counts[key] = counts.get(key, 0) + 1

    def close(self, minute: int) -> None:
        """Put what a minute counted into the present windows."""
        for (slot, kind), n in self._open.pop(minute, {}).items():
            counts = self._windows.setdefault(slot, {})
            counts[kind] = counts.get(kind, 0) + n

    def share(self, slot: int, calls: float) -> float:
        """The share of the present window's calls that failed in any way."""
        return sum(self._windows.get(slot, {}).values()) / calls

    def judge(self, slot: int, calls: float, learned: float, begin: int, minute: int, *, held: bool) -> Iterator[Judged]:
        """Judge each kind in the present window, learn from it, and begin a new one.

        Args:
            slot: the operation.
            calls: in the window.
            learned: calls that were learned from, the weight of the window's included only afterwards.
            begin, minute: when the window began (ns), and the minute that is over.
            held: nothing is learned just now.
        """
        counts, kinds = self._windows.pop(slot, {}), self._kinds.get(slot, {})
        for kind in sorted({*counts} - {*kinds})[max(0, KIND_LIMIT - len(kinds)) :]:
            counts["(other)"] = counts.get("(other)", 0) + counts.pop(kind)
        for kind in sorted({*kinds, *counts}):
            count = counts.get(kind, 0)
            if kind not in kinds:
                kinds = self._kinds.setdefault(slot, {})
                kinds[kind] = [0.0, 0.0, float(begin), 0.0, 0.0, 0.0]
            facts = kinds[kind]
            usual = facts[_COUNT] / max(learned, 1.0)
            enough = learned >= _LEARNED and count >= _ERRORS and count >= _SURGE * usual * calls
            score = _score(facts, count, calls, learned) if enough else 0.0
            yield Judged(kind, count, usual, facts[_COUNT] == 0, score)
            facts[_LAST], facts[_SHARE] = float((minute + 1) * MINUTE) if count else facts[_LAST], count / calls
            facts[_SINCE] = 0.0 if score < ALARM else facts[_SINCE] or float(minute)
            if held:
                continue
            if facts[_SINCE] == 0:
                _learn(facts, count, calls, usual)
            elif minute - facts[_SINCE] >= STUCK:
                facts[_COUNT] += 0.5 * (count / calls * learned - facts[_COUNT])

    def table(self, slot: int, learned: float) -> list[dict[str, Any]]:
        """What is known of an operation's kinds, those of the largest share first; times in ns."""
        return [
            {"kind": kind, "share": facts[_SHARE], "usual_share": facts[_COUNT] / max(learned, 1.0), "first_seen": int(facts[_FIRST]),
             "last_seen": int(facts[_LAST])}
            for kind, facts in sorted(self._kinds.get(slot, {}).items(), key=lambda item: (-item[1][_SHARE], item[0]))
        ]  # fmt: skip

    def forget(self, gone: Collection[int], minute: int) -> None:
        """Let go of operations whose slots are given up, and of kinds that were not seen for a week before a minute."""
        for slot in gone:
            self._kinds.pop(slot, None)
            self._windows.pop(slot, None)
        before = float((minute - _KEPT) * MINUTE)
        for slot, kinds in list(self._kinds.items()):
            kept = {kind: facts for kind, facts in kinds.items() if facts[_LAST] >= before}
            if kept:
                self._kinds[slot] = kept
            else:
                del self._kinds[slot]


def usual_share(kinds: list[dict[str, Any]]) -> float:
    """The usual share of calls that fail in any way, of what `Failures.table` told."""
    return float(min(1.0, sum(kind["usual_share"] for kind in kinds)))


def _score(facts: list[float], count: int, calls: float, learned: float) -> float:
    """-log10 of the chance of so many: a binomial tail, widened by how much the counts of windows scatter."""
    share = np.array([(facts[_COUNT] + 0.5) / (learned + 1.0)])
    loose = max(1.0, facts[_NOISE_OF]) * max(1.0, calls / shifts.ENOUGH) if facts[_COUNT] else 1.0
    return float(shifts.tail(np.array([count / loose]), np.array([calls / loose]), share).item())


def _learn(facts: list[float], count: int, calls: float, usual: float) -> None:
    """Fold a usual window into what is known of a kind."""
    weight = min(1.0, shifts.ENOUGH / calls)
    expected = max(calls * usual * (1 - usual), 0.5)
    far = min((count - calls * usual) ** 2 / expected, 30.0)
    facts[_NOISE_OF] = facts[_NOISE_OF] + 0.02 * (far - facts[_NOISE_OF]) if facts[_COUNT] else _NOISE
    facts[_COUNT] = facts[_COUNT] * (1 - weight * calls / _MEMORY) + count * weight
