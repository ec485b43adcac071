"""What speaks for an alert belonging to an open group: each strategy proposes with a weight, and the sum decides.

Nearness in time and hops in the topology come first; a trace or change that both share, having begun after one change, persons'
verdicts, kinds that fired together in past incidents, equal attributes and like texts add to them. Against it speaks that the group has
gone on for longer than incidents of its component do.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right, insort
from functools import lru_cache
from itertools import islice

from ninefold.analytics.alerts.affinity import Affinity
from ninefold.analytics.alerts.groups import FAR, Addend, Alert, Considered, Group
from ninefold.ground.clock import SECOND
from ninefold.model.topology import Topology

CORE = 3
"""How many entities, the first ones, a group's place is judged by."""
CHANGE_NS = 600 * SECOND
"""How long after a change an alert may begin and still be counted as following it."""
IDLE_CAP_NS = 900 * SECOND
INTERVALS = 2.5
"""So many intervals of a series without a word are a silence."""
_SOON, _FADE = 1.5, 2 / 3
_HOPS = (1.0, 0.6, 0.4, 0.3, 0.2)
_SHARED, _CHANGED, _TOLD, _TOGETHER, _TRAIT, _TEXT = 2.0, 1.0, 1.5, 0.3, 0.1, 0.2
_STRONGEST, _RECENT, _LIFT_CAP, _TRAITS = 3, 8, 1.5, 3
_REACH_IDLES = 5
_LATE, _LATE_MOST = 6.0, 1.25
_CHANGES, _CHANGED_ENTITIES = 16, 10_000
_WORD = re.compile(r"[^\W\d_]{2,}")


class Proposals:
    """Scores of alerts against groups.

    Args:
        topology: who needs whom; silent entities are part of it.
        affinity: what past incidents and persons taught.
        idle_ns: the quiet time that ends a session.
    """

    def __init__(self, topology: Topology, affinity: Affinity, idle_ns: int) -> None:
        self._topology = topology
        self._affinity = affinity
        self._idle = idle_ns
        self._distances: dict[str, dict[str, int]] = {}
        self._changes: dict[str, list[tuple[int, str]]] = {}

    def related(self) -> None:
        """The topology is another one."""
        self._distances.clear()

    def changed(self, entity: str, time: int, title: str) -> None:
        """Something was changed at an entity: alerts there or next to it that begin soon after have that in common."""
        if not entity:
            return
        changes = self._changes.pop(entity, [])
        if (time, title) not in changes:
            insort(changes, (time, title))
        self._changes[entity] = changes[-_CHANGES:]
        if len(self._changes) > _CHANGED_ENTITIES:
            del self._changes[next(iter(self._changes))]

    def idle_of(self, alert: Alert) -> int:
        """The quiet time (ns) that ends a session for this alert: longer for slow series."""
        return min(IDLE_CAP_NS, max(self._idle, int(INTERVALS * alert.interval_s * SECOND)))

    def near(self, alert: Alert, group: Group) -> bool:
        """Whether a group is still going on when an alert fires."""
        return _gap(alert, group) <= max(group.idle, self.idle_of(alert))

    def late(self, alert: Alert, group: Group) -> float:
        """What speaks against a group because it has gone on for so long: 0 within its reach."""
        reach = max(self._affinity.reach(group.component), _REACH_IDLES * max(group.idle, self.idle_of(alert)))
        age = alert.time - group.first
        return min(_LATE_MOST, _LATE * (age / reach - 1)) if age > reach else 0.0

    def consider(self, alert: Alert, group: Group) -> Considered:
        """The score of an alert against a group, term by term."""
        gap = _gap(alert, group)
        soon = _SOON * math.exp(-gap / (_FADE * max(group.idle, self.idle_of(alert))))
        hops, nearest = self._hops(alert, group)
        age, late = alert.time - group.first, self.late(alert, group)
        return Considered(group, gap, alert.time >= group.last, soon, hops, nearest, _HOPS[hops], age, late, self._more(alert, group))

    def _more(self, alert: Alert, group: Group) -> tuple[Addend, ...]:
        found = []
        link = next((link for link in alert.links if link in group.links), "") if alert.links else ""
        if link:
            found.append(Addend(f"shares {link}", _SHARED))
        if self._changes and (change := self._change(alert.entity, alert.time)) is not None:
            first = next(iter(group.entities), "")
            if change == self._change(first, group.first):
                found.append(Addend(f"both after the change {change[1] or 'without a title'}", _CHANGED))
        if self._affinity.taught:
            factor, rule = self._affinity.told((alert.entity, alert.rule), islice(reversed(group.pairs), _RECENT))
            if factor:
                words = "belongs with" if factor > 0 else "does not belong with"
                found.append(Addend(f"people said it {words} {rule}", _TOLD * factor))
        if self._affinity.knows(group.component):
            found += self._together(alert, group)
        if alert.traits:
            shared = [trait for trait in alert.traits if trait in group.traits][:_TRAITS]
            if shared:
                found.append(Addend(f"same {', '.join(shared)}", _TRAIT * len(shared)))
        like = _likeness(alert.title, group.lead.title) if alert.title and group.lead.title else 0.0
        if like:
            found.append(Addend("its text is like the first alert's", _TEXT * like))
        return tuple(found)

    def _together(self, alert: Alert, group: Group) -> list[Addend]:
        kind, component, lift = (alert.entity, alert.rule), group.component, self._affinity.lift
        lifts = sorted(((lift(component, kind, other), other) for other in islice(reversed(group.pairs), _RECENT)), reverse=True)
        best = lifts[:_STRONGEST]
        if not best or not best[0][0]:
            return []
        mean = sum(value for value, _ in best) / len(best)
        entity, rule = best[0][1]
        return [Addend(f"has often fired together with {rule} of {entity}", _TOGETHER * min(_LIFT_CAP, mean))]

    def _change(self, entity: str, time: int) -> tuple[int, str] | None:
        """The newest change at an entity, or else next to it, that came shortly before a time."""
        newest: tuple[int, str] | None = None
        for place in (entity, *self._topology.needs.get(entity, ()), *self._topology.needed_by.get(entity, ())):
            changes = self._changes.get(place)
            if changes:
                at = bisect_right(changes, time, key=lambda change: change[0])
                if at and time - changes[at - 1][0] <= CHANGE_NS and (newest is None or changes[at - 1] > newest):
                    newest = changes[at - 1]
        return newest

    def _hops(self, alert: Alert, group: Group) -> tuple[int, str]:
        """How far the alert's entity is from the group's core, at most FAR, and the entity of the core it is nearest to."""
        distances = self._distances.get(alert.entity)
        if distances is None:
            distances = self._distances[alert.entity] = self._topology.distances(alert.entity)
        best, nearest = FAR, ""
        for entity in islice(group.entities, CORE):
            hops = min(FAR, distances.get(entity, FAR))
            if not nearest or (hops, entity) < (best, nearest):
                best, nearest = hops, entity
        return best, nearest


@lru_cache(8192)
def _words(title: str) -> frozenset[str]:
    return frozenset(_WORD.findall(title.lower()))


@lru_cache(8192)
def _likeness(title: str, other: str) -> float:
    """The share of words two titles have in common (Jaccard 1901); numbers and single letters are no words."""
    a, b = _words(title), _words(other)
    return len(a & b) / len(a | b) if a and b else 0.0


def _gap(alert: Alert, group: Group) -> int:
    return max(group.first - alert.time, alert.time - group.last, 0)
