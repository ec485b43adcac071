"""What the correlator works with: alerts, the groups they are folded into, and decisions with their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

from ninefold.ground.clock import SECOND
from ninefold.model.severity import SEVERITIES

_Key = TypeVar("_Key")
_RANK = {word: rank for rank, word in enumerate(SEVERITIES)}

FAR = 4
"""So many hops and more are all the same."""

Verdict = Literal["opened", "joined", "duplicate", "resolved", "unknown"]


@dataclass(frozen=True, slots=True)
class Alert:
    """What the correlator needs of an alert event.

    `stateful` alerts say themselves when they end; others end by silence. `interval_s` is the usual distance of the
    samples behind it, 0 when not known. `links` are trace and change ids it shares with others. `received` is when it was told,
    0 for what is told only once however long it lasts. `traits` say where it runs and whose it is (node, zone, version, team).
    """

    id: str
    time: int
    fingerprint: str
    entity: str
    rule: str
    title: str = ""
    severity: str = "warning"
    firing: bool = True
    stateful: bool = False
    interval_s: float = 0.0
    links: tuple[str, ...] = ()
    received: int = 0
    traits: tuple[str, ...] = ()


@dataclass(slots=True)
class Member:
    """One fingerprint inside a group."""

    alert: Alert
    first: int
    last: int
    count: int = 1


@dataclass(slots=True, eq=False)
class Group:
    """An incident to be: its number is 0 until one is given."""

    number: int
    component: str
    first: int
    last: int
    lead: Alert
    """The first of its worst alerts; names the group."""
    members: dict[str, Member] = field(default_factory=dict)
    count: int = 0
    entities: dict[str, int] = field(default_factory=dict)
    """Members by entity, in order of appearance."""
    pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    """Members by (entity, rule)."""
    severities: dict[str, int] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    traits: dict[str, int] = field(default_factory=dict)
    idle: int = 0
    """Its own quiet time in ns, when its alerts come from slow series."""
    heard: int = 0
    """Time of the newest event of any status."""
    held: bool = False
    """A person reopened it: it is not finished before something new fires."""

    @property
    def severity(self) -> str:
        """The worst severity of any member."""
        return min(self.severities, key=rank, default="info")

    def count_in(self, alert: Alert) -> None:
        """A new member's entity, rule, severity, links and traits."""
        _more(self.entities, alert.entity)
        _more(self.pairs, (alert.entity, alert.rule))
        _more(self.severities, alert.severity)
        for link in alert.links:
            _more(self.links, link)
        for trait in alert.traits:
            _more(self.traits, trait)

    def count_out(self, alert: Alert) -> None:
        """Undo `count_in`."""
        _less(self.entities, alert.entity)
        _less(self.pairs, (alert.entity, alert.rule))
        _less(self.severities, alert.severity)
        for link in alert.links:
            _less(self.links, link)
        for trait in alert.traits:
            _less(self.traits, trait)


class Addend(NamedTuple):
    """One term of a score, in words and in numbers."""

    text: str
    weight: float


class Considered(NamedTuple):
    """A group that was looked at for an alert, and what its score is the sum of: nearness in time and in the topology, how long it has
    gone on, and what else each strategy found (`more`).

    Most words are made when they are asked for: an alert that comes late has many others decided again, with nothing new to tell.
    """

    group: Group
    gap: int
    """ns from the group's time to the alert, 0 while it was going on."""
    later: bool
    """The alert came after the group's last one, or with it."""
    soon: float
    hops: int
    nearest: str
    """The entity at the group's core that the alert's is nearest to, "" without one."""
    place: float
    age: int
    """ns since the group began."""
    late: float
    """What speaks against it because it has gone on for longer than usual."""
    more: tuple[Addend, ...]

    @property
    def score(self) -> float:
        """How well the alert fits."""
        score = self.soon + self.place - self.late
        for addend in self.more:
            score += addend.weight
        return score

    @property
    def addends(self) -> tuple[Addend, ...]:
        """The terms of the score."""
        when = f"{self.gap / SECOND:.0f} s after its last alert" if self.later else "while it was going on"
        if self.hops == 0:
            where = f"the same {self.nearest.partition(':')[0] or 'entity'}"
        elif self.hops < FAR:
            where = f"{self.hops} hop{'s' if self.hops > 1 else ''} from {self.nearest}"
        else:
            where = f"far from {self.nearest or 'where it began'}"
        terms = Addend(when, self.soon), Addend(where, self.place), *self.more
        aged = f"{self.age / (60 * SECOND):.0f} min after it began, longer than usual"
        return (*terms, Addend(aged, -self.late)) if self.late else terms


@dataclass(slots=True)
class Decision:
    """What became of an alert and why. `moved_from` is the group it was in before a late alert changed the order."""

    alert: Alert
    verdict: Verdict
    group: Group | None
    considered: tuple[Considered, ...] = ()
    said: str = ""
    """The reason in words, where it is not the score of the group it joined."""
    moved_from: int | None = None

    @property
    def text(self) -> str:
        """The reason in words."""
        return self.reason([c.addends for c in self.considered] if not self.said else [])

    def reason(self, addends: Sequence[tuple[Addend, ...]]) -> str:
        """The reason in words, with the terms of each group considered at hand."""
        scored = (addend for c, terms in zip(self.considered, addends, strict=False) if c.group is self.group for addend in terms)
        return self.said or ", ".join(f"{addend.text} {addend.weight:+.2g}" for addend in scored)


@dataclass(slots=True)
class Outcome:
    """The decisions of one call, the groups that changed, and the groups that ceased to be (number -> successor)."""

    decisions: list[Decision] = field(default_factory=list)
    touched: dict[int, Group] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)


def rank(severity: str) -> int:
    """The place of a severity word, 0 for the worst; unknown ones come last."""
    return _RANK.get(severity, len(_RANK))


def _more(counts: dict[_Key, int], key: _Key) -> None:
    counts[key] = counts.get(key, 0) + 1


def _less(counts: dict[_Key, int], key: _Key) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1
