"""What past incidents teach about the next: which alerts fire together, and how long incidents of a component go on.

An alert's kind is its (entity, rule). For two kinds that were together in at least three incidents, the lift is
log((together + 1) / (expected + 1)), expected being what chance alone would bring (pointwise mutual information, Church & Hanks
1990, with one pseudo-count on either side so that rare kinds do not shine). Below log 2 it counts as nothing. Counts halve in 14
days. How long incidents go on is the 10th percentile of the component's last 32 sessions: sessions that are several
incidents in one are longer, never shorter, so a low percentile is the one they do not spoil.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from ninefold.ground.clock import SECOND

Kind = tuple[str, str]
"""Entity and rule."""

HALF_LIFE_NS = 14 * 86400 * SECOND
KINDS = 64
"""How many kinds of one incident are learned from, the first ones."""
PAIRS = 100_000
COMPONENTS = 10_000
REACH_NS = 300 * SECOND
"""How long an incident goes on where nothing else is known."""
_TOGETHER = 3.0
_LIFT = math.log(2)
_SESSIONS, _FEWEST, _SHARE = 32, 6, 0.1
_SESSION_KINDS = 5
_INFLATED = 40.0


@dataclass(slots=True)
class _Past:
    """A component: how many incidents (discounted), the session that may go on, the lengths of those that ended (ns)."""

    incidents: float = 0.0
    first: int = 0
    last: int = 0
    kinds: int = 0
    lengths: deque[int] = field(default_factory=lambda: deque(maxlen=_SESSIONS))
    reach: int = REACH_NS


class Pair(NamedTuple):
    """Two kinds that fire together: in how many incidents (discounted), how many chance would bring, and the lift."""

    a: Kind
    b: Kind
    together: float
    expected: float
    lift: float


def taught_key(kind: Kind, other: Kind) -> tuple[Kind, Kind]:
    """The key of two kinds in `Affinity.taught`, whatever their order."""
    return (kind, other) if kind <= other else (other, kind)


class Affinity:
    """Counts of kinds and pairs of kinds in closed incidents, bounded and forgetting; what persons said of rules."""

    def __init__(self, idle_ns: int = 60 * SECOND) -> None:
        self.taught: Mapping[tuple[Kind, Kind], float] = {}
        """What verdicts made of pairs of kinds (`taught_key`): above 1 they belong together, below 1 they do not."""
        self._idle = idle_ns
        self._origin = 0
        self._scale = 1.0
        self._one: dict[Kind, float] = {}
        self._two: dict[tuple[Kind, Kind], float] = {}
        self._past: dict[str, _Past] = {}

    def learn(self, component: str, first: int, last: int, kinds: Iterable[Kind]) -> None:
        """Take in a closed incident: its component, its first and last time (ns), its kinds in order of appearance."""
        known = list(kinds)
        some = sorted(set(known[:KINDS]))
        weight = self._weigh(last)
        past = self._past.pop(component, None) or _Past()
        self._past[component] = past  # the component learned of last stands last
        past.incidents += weight
        if past.kinds and first <= past.last + self._idle and last >= past.first - self._idle:
            past.first, past.last, past.kinds = min(past.first, first), max(past.last, last), past.kinds + len(known)
        else:
            _ended(past)
            past.first, past.last, past.kinds = first, last, len(known)
        for i, kind in enumerate(some):
            self._one[kind] = self._one.get(kind, 0.0) + weight
            for other in some[i + 1 :]:
                self._two[kind, other] = self._two.get((kind, other), 0.0) + weight
        self._forget()

    def reach(self, component: str) -> int:
        """How long (ns) an incident of this component goes on taking in new kinds: not less than `REACH_NS`."""
        past = self._past.get(component)
        return past.reach if past else REACH_NS

    def knows(self, component: str) -> bool:
        """Whether any incident of the component was learned from."""
        return component in self._past

    def lift(self, component: str, a: Kind, b: Kind) -> float:
        """How much oftener than by chance two kinds fire together, as a logarithm; 0 when too little is known."""
        together = self._two.get((a, b) if a <= b else (b, a), 0.0)
        if together < _TOGETHER * self._scale:
            return 0.0
        lift = math.log((together / self._scale + 1) / (self._expected(component, a, b) + 1))
        return lift if lift >= _LIFT else 0.0

    def told(self, kind: Kind, others: Iterable[Kind]) -> tuple[float, str]:
        """What persons said of a kind among others: the logarithm that is furthest from 0, and the rule it is about."""
        best, about = 0.0, ""
        for other in others:
            factor = math.log(self.taught.get(taught_key(kind, other), 1.0))
            if abs(factor) > abs(best):
                best, about = factor, other[1]
        return best, about

    def pairs(self, component: str, limit: int = 100) -> list[Pair]:
        """The kinds of a component that fire together oftener than by chance, the strongest first."""
        found = [
            Pair(a, b, together / self._scale, self._expected(component, a, b), lift)
            for (a, b), together in self._two.items()
            if (lift := self.lift(component, a, b)) > 0
        ]
        return sorted(found, key=lambda pair: (-pair.lift, -pair.together, pair.a, pair.b))[:limit]

    def _expected(self, component: str, a: Kind, b: Kind) -> float:
        past = self._past.get(component)
        # Where components grew together, the new one knows of fewer incidents than either kind was in.
        incidents = max(past.incidents if past else 0.0, self._one.get(a, 0.0), self._one.get(b, 0.0))
        return self._one.get(a, 0.0) * self._one.get(b, 0.0) / incidents / self._scale if incidents else 0.0

    def _weigh(self, time: int) -> float:
        """The weight of an incident of this time: later ones weigh more, which is the same as older ones fading."""
        self._origin = self._origin or time
        exponent = (time - self._origin) / HALF_LIFE_NS
        if exponent > _INFLATED:
            self._deflate(math.exp2(-exponent))
            self._origin, exponent = time, 0.0
        weight = math.exp2(exponent)
        self._scale = max(self._scale, weight)
        return weight

    def _deflate(self, by: float) -> None:
        self._one = {kind: count * by for kind, count in self._one.items()}
        self._two = {pair: count * by for pair, count in self._two.items()}
        for past in self._past.values():
            past.incidents *= by
        self._scale = 1.0

    def _forget(self) -> None:
        if len(self._two) > PAIRS or len(self._one) > PAIRS:
            self._two = dict(sorted(self._two.items(), key=lambda item: (-item[1], item[0]))[: PAIRS // 2])
            self._one = dict(sorted(self._one.items(), key=lambda item: (-item[1], item[0]))[: PAIRS // 2])
        for name in list(islice(self._past, max(0, len(self._past) - COMPONENTS))):
            del self._past[name]


def _ended(past: _Past) -> None:
    if past.kinds >= _SESSION_KINDS:
        past.lengths.append(past.last - past.first)
    if len(past.lengths) >= _FEWEST:
        past.reach = max(REACH_NS, sorted(past.lengths)[int(_SHARE * len(past.lengths))])
