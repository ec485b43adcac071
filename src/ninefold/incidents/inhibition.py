"""Inhibition, as Alertmanager means it: while one alert fires, others are hidden.

A rule has matchers for its sources, matchers for its targets, and labels that must have the same value in both; a label missing in both is
the same. What fits both sides of a rule is not inhibited by what does, too, so nothing inhibits itself. A source inhibits whether it is
hidden or not.

Rules are bits of one integer, and the alerts that fire as sources stand at places: equal labels with their values. A target is asked at one
place for each set of equal labels, whatever the number of rules and sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.config import Inhibition
from ninefold.incidents.alerts import told
from ninefold.incidents.folding import chunks
from ninefold.incidents.intake import rule_of
from ninefold.incidents.rules import parsed
from ninefold.model.matcher import Finder
from ninefold.store.records.incidents import FIRING, SUPPRESSED, AlertState

Labels = Mapping[str, str]
_NAMED = 5
"""So many rules of those that hide an alert are named, for each set of equal labels."""


class Inhibited(NamedTuple):
    """That a rule hides an alert, for another one fires."""

    rule: str
    by: str
    """The fingerprint of the alert that fires."""
    title: str


class Sides(NamedTuple):
    """The rules an alert fits, as bits."""

    source: int
    target: int


class _Place:
    """The sources with the same values of the same labels."""

    def __init__(self) -> None:
        self.firing: dict[str, tuple[str, Sides]] = {}
        self._known: dict[tuple[int, int], list[Inhibited]] = {}
        self._any = self._apart = 0

    def put(self, mark: str, title: str, sides: Sides) -> None:
        self.firing[mark] = title, sides
        self._known = {}

    def gone(self, mark: str) -> None:
        del self.firing[mark]
        self._known = {}

    def by(self, source: int, target: int, names: Finder[str]) -> list[Inhibited]:
        """What inhibits an alert that fits these sides of rules."""
        if not self._known:
            self._any = self._apart = 0
            for _, one in self.firing.values():
                self._any |= one.source
                self._apart |= one.source & ~one.target
            self._known[0, 0] = []
        holds = target & (self._any & ~source | self._apart)
        key = source & holds, holds
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = [self._first(rule, names) for rule in _bits(*key)]
        return found

    def _first(self, rule: Sides, names: Finder[str]) -> Inhibited:
        """The first source of a rule by its fingerprint, of those that are no targets of it when the alert is a source of it."""
        mark = min(m for m, (_, one) in self.firing.items() if one.source & rule.target and not one.target & rule.source)
        return Inhibited(names.listed(rule.target)[0], mark, self.firing[mark][0])


def _bits(source: int, target: int) -> Iterable[Sides]:
    """Rule by rule, the first ones; a hidden alert need not know all that hide it."""
    left = target
    for _ in range(_NAMED):
        if not left:
            return
        bit = left & -left
        left ^= bit
        yield Sides(source & bit, bit)


class Inhibitions:
    """The rules and the alerts that fire as their sources. Used under the lock of the incidents."""

    def __init__(self) -> None:
        self._version = -1
        self.take({})

    def __bool__(self) -> bool:
        """Whether there are any rules."""
        return bool(self._rules)

    def forget(self) -> None:
        """Read the records again at the next question."""
        self._version = -1

    def read(self, session: Session, rules: Mapping[str, Inhibition], version: int) -> bool:
        """Take over the rules, if they are others than before, with the alerts that fire by the records; whether they are."""
        if version == self._version:
            return False
        before, self._version = self._rules, version
        self.take(rules)
        for states in _firing(session) if rules else ():
            events = told(session, states)
            known = [(state, labelled(events[state.fingerprint])) for state in states if state.fingerprint in events]
            for (state, labels), sides in zip(known, self.sides([labels for _, labels in known]), strict=True):
                self.fire(state.fingerprint, state.title, labels, sides)
        return bool(before or rules)

    def take(self, rules: Mapping[str, Inhibition]) -> None:
        """Take over rules; no source fires."""
        self._rules = dict(rules)
        self._sources = Finder({name: parsed(rule.source_matchers) for name, rule in rules.items()})
        self._targets = Finder({name: parsed(rule.target_matchers) for name, rule in rules.items()})
        self._equal: dict[tuple[str, ...], int] = {}
        for number, rule in enumerate(rules.values()):
            names = tuple(sorted(set(rule.equal)))
            self._equal[names] = self._equal.get(names, 0) | 1 << number
        self._where: dict[str, tuple[Sides, list[tuple[str, ...]]]] = {}
        self._places: dict[tuple[str, ...], _Place] = {}

    def sides(self, labels: Sequence[Labels]) -> list[Sides]:
        """Which sides of which rules alerts with these labels fit."""
        return list(map(Sides, self._sources.bits(labels), self._targets.bits(labels)))

    def concerns(self, mark: str, sides: Sides) -> bool:
        """Whether an alert that fits these sides is or was a source."""
        return bool(sides.source) or mark in self._where

    def fires(self, rule: str, mark: str) -> bool:
        """Whether an alert fires as a source of a rule that there is."""
        return rule in self._rules and mark in self._where

    def ask(self, labels: Sequence[Labels], sides: Sequence[Sides]) -> list[list[Inhibited]]:
        """What inhibits alerts with these labels, which fit these sides: of the first rules the first source by fingerprint each."""
        found: list[list[Inhibited]] = [[]] * len(labels)
        for names, rules in self._equal.items():
            for number, (source, target) in enumerate(sides):
                asked = target & rules
                place = self._places.get(_place(names, labels[number])) if asked else None
                hits = place.by(source & rules, asked, self._sources) if place is not None else None
                if hits:
                    found[number] = [*found[number], *hits]
        return found

    def fire(self, mark: str, title: str, labels: Labels, sides: Sides) -> None:
        """An alert fires, which inhibits others where it fits the source side."""
        places = [_place(names, labels) for names, rules in self._equal.items() if sides.source & rules]
        if self._where.get(mark, (Sides(0, 0), [])) == (sides, places):
            return
        self.end(mark)
        if places:
            self._where[mark] = sides, places
        for place in places:
            self._places.setdefault(place, _Place()).put(mark, title, sides)

    def end(self, mark: str) -> bool:
        """An alert fires no longer; whether it was a source."""
        _, places = self._where.pop(mark, (None, None))
        for place in places or ():
            self._places[place].gone(mark)
            if not self._places[place].firing:
                del self._places[place]
        return places is not None


def _place(names: tuple[str, ...], labels: Labels) -> tuple[str, ...]:
    return (*names, *[labels.get(name, "") for name in names])


def labelled(event: Mapping[str, Any]) -> Labels:
    """What matchers are asked about an event in the API's form: its attributes, and what every alert has whatever its sender calls it."""
    named = {key: event[key] for key in ("entity", "severity", "source", "kind")}
    return {"alertname": rule_of(event["attributes"], event["title"]), **named, **event["attributes"]}


def _firing(session: Session) -> Iterable[Sequence[AlertState]]:
    """The alerts that fire, hidden ones too."""
    marks = session.scalars(select(AlertState.fingerprint).where(AlertState.state.in_((FIRING, SUPPRESSED)))).all()
    for some in chunks(marks):
        states = session.scalars(select(AlertState).where(AlertState.fingerprint.in_(some))).all()
        yield [state for state in states if state.status not in ("", "resolved")]


def over(session: Session, marks: Sequence[str]) -> set[str]:
    """Which of these alerts do not fire any more by the records."""
    fire: set[str] = set()
    for some in chunks(marks):
        asked = select(AlertState.fingerprint).where(AlertState.fingerprint.in_(some), AlertState.state.in_((FIRING, SUPPRESSED)))
        fire.update(session.scalars(asked))
    return set(marks) - fire
