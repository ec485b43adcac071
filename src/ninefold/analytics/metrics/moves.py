"""What moved thresholds: a log of steps, and the factors that follow from it.

The logarithm of a factor halves every 60 days and each step is added to it, within bounds. A factor is always what a replay of the steps
that were not undone gives, so to undo any of them leaves exactly what would be without it. What follows from incidents as a whole is
kept apart from what somebody said of one anomaly: a huge incident cannot push verdicts out of the log.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ninefold.ground.clock import SECOND

LEAST, MOST = 0.7, 2.0
"""Bounds of what verdicts can make of a threshold."""
_LOW, _HIGH = math.log(LEAST), math.log(MOST)
DAY, _HALF_LIFE = 86_400 * SECOND, 60
_KEPT_DAYS = 6 * _HALF_LIFE
_KEPT = {"said": 5000, "followed series": 5000, "followed metric": 1000, "settings": 500}
_KEPT_ELSE = 2000
_SETTINGS = "settings"


@dataclass(slots=True)
class Move:
    """One change of thresholds, or of the settings of all (`scope` "settings"), and why; times in ns of receipt.

    Attributes:
        step: what it adds to the logarithm of the factor; 0 of settings.
        before, after: the factor (or the settings) as they were then.
        followed: from an incident as a whole, of which the anomaly was a part.
    """

    id: int
    time: int
    scope: str
    target: str
    step: float
    before: Any
    after: Any
    why: str
    fingerprint: str
    actor: str
    undone: bool = False
    followed: bool = False


class Moves:
    """The log, the oldest first, and the factors in force.

    Args:
        kept: the log as plain data, to continue there.
        last: the highest number a move has had.
    """

    def __init__(self, kept: Iterable[Mapping[str, Any]] = (), last: int = 0) -> None:
        self.log = [Move(**move) for move in kept]
        self.last = last
        self._replay()

    def state(self) -> list[dict[str, Any]]:
        """The log as plain data."""
        return [asdict(move) for move in self.log]

    def __bool__(self) -> bool:
        """Whether anything was moved."""
        return bool(self.log)

    def factor(self, scope: str, target: str, now: int) -> float:
        """The factor of a series (number as text) or a metric name at a time (ns)."""
        return math.exp(_faded(self._sums.get((scope, target)), now // DAY))

    def factors(self, scope: str, now: int) -> dict[str, float]:
        """All factors of a scope that were moved, by target."""
        return {target: self.factor(of, target, now) for of, target in self._sums if of == scope}

    def step(self, now: int, scope: str, target: str, size: float, *, why: str, mark: str, actor: str, followed: bool) -> None:
        """Move a factor by `size` of its logarithm."""
        before = self.factor(scope, target, now)
        move = Move(0, now, scope, target, size, round(before, 4), 0.0, why, mark, actor, followed=followed)
        self._append(move)
        move.after = round(self.factor(scope, target, now), 4)

    def set(self, now: int, before: dict[str, float], after: dict[str, float], why: str, actor: str) -> None:
        """Note that the settings of all series are others."""
        self._append(Move(0, now, _SETTINGS, "", 0.0, dict(before), dict(after), why, "", actor))

    def undo(self, number: str) -> Move | None:
        """Take a move back; None when there is no such one in force."""
        move = next((move for move in self.log if str(move.id) == number and not move.undone), None)
        if move is not None:
            move.undone = True
            self._replay((move.scope, move.target))
        return move

    def settings(self) -> dict[str, float]:
        """The settings that were set last and not undone."""
        return next((dict(move.after) for move in reversed(self.log) if move.scope == _SETTINGS and not move.undone), {})

    def forget(self, now: int) -> None:
        """Let go of steps of which next to nothing is left."""
        self._keep([move for move in self.log if move.scope == _SETTINGS or now - move.time < _KEPT_DAYS * DAY])

    def _append(self, move: Move) -> None:
        self.last += 1
        move.id = self.last
        self.log.append(move)
        self._take(move)
        kind = _kind(move)
        self._counts[kind] += 1
        if self._counts[kind] > _KEPT.get(kind, _KEPT_ELSE):
            # A tenth at once, so that a storm of them does not go through the log each time.
            gone = {one.id for one in [one for one in self.log if _kind(one) == kind][: _KEPT.get(kind, _KEPT_ELSE) // 10]}
            self._keep([one for one in self.log if one.id not in gone])

    def _keep(self, log: list[Move]) -> None:
        if len(log) != len(self.log):
            self.log = log
            self._replay()

    def _replay(self, only: tuple[str, str] | None = None) -> None:
        """Make the sums (of one scope and target, or all) anew from the log."""
        if only is None:
            self._sums: dict[tuple[str, str], tuple[int, float]] = {}
            self._counts: defaultdict[str, int] = defaultdict(int)
            for move in self.log:
                self._counts[_kind(move)] += 1
        else:
            self._sums.pop(only, None)
        for move in self.log:
            if only is None or (move.scope, move.target) == only:
                self._take(move)

    def _take(self, move: Move) -> None:
        if move.undone or move.scope == _SETTINGS:
            return
        day, key = move.time // DAY, (move.scope, move.target)
        self._sums[key] = (day, min(max(_faded(self._sums.get(key), day) + move.step, _LOW), _HIGH))


def _kind(move: Move) -> str:
    return _SETTINGS if move.scope == _SETTINGS else f"followed {move.scope}" if move.followed else "said"


def _faded(total: tuple[int, float] | None, day: int) -> float:
    return total[1] * 0.5 ** ((day - total[0]) / _HALF_LIFE) if total else 0.0
