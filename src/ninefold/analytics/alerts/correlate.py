"""Folding alerts into groups (incidents to be), one alert at a time, with the reason for every decision.

The strong baseline in this field is a session: alerts of one connected component of the topology belong together while no
quiet time longer than `idle_s` passes. This correlator is that session plus a score (`proposals`): the farther away an alert
is, the sooner it must come to belong. With 60 s, an alert of the same entity has the whole minute, one hop away 36 s, far away
16 s; and a group that has gone on for longer than usual takes in no new kinds of alert.

Late and out-of-order alerts give the same groups as ordered ones: every component remembers its last decisions; an alert that
is older than some of them takes those back, and they are decided again in order of event time. No I/O, no wall clock.
The cost per alert is proportional to the open groups of its component.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ninefold.analytics.alerts.affinity import Affinity
from ninefold.analytics.alerts.groups import Alert, Considered, Decision, Group, Member, Outcome, rank
from ninefold.analytics.alerts.proposals import INTERVALS, Proposals
from ninefold.ground.clock import SECOND
from ninefold.model.topology import Relation, Topology

LATE_NS = 300 * SECOND
"""How much older than the newest alert of its component an alert may be and still be put in order."""
TAIL = 4096
"""How many decisions a component can take back."""
EXPIRE_NS = 5 * 3600 * SECOND
"""An alert that should say when it ends and was not heard of for so long is over: Alertmanager repeats every 4 h."""
_ENDS = 32
_JOIN = 1.2


@dataclass(slots=True)
class _Entry:
    """A decision that can be taken back: what the group was, and where the fingerprint was, `before`."""

    decision: Decision
    group: Group
    member: Member | None
    before: Group | None
    first: int
    last: int
    lead: Alert
    idle: int
    member_times: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class _Stream:
    groups: list[Group] = field(default_factory=list)
    tail: deque[_Entry] = field(default_factory=deque)
    floor: tuple[int, str] = (0, "")
    """The newest decision that can no longer be taken back."""


class Correlator:
    """The open groups and the topology they live in.

    Args:
        topology: who needs whom; `relate` extends it.
        idle_s: the quiet time that ends a session.
        resolve_after_s: how long a group stays open after its last alert ended; also how long an alert that never says
            when it ends counts as firing.
        next_number: the number of the next new group.
    """

    def __init__(self, topology: Topology, idle_s: float = 60.0, resolve_after_s: float = 300.0, next_number: int = 1) -> None:
        self.topology = topology
        self.next_number = next_number
        self._quiet = int(resolve_after_s * SECOND)
        self._streams: dict[str, _Stream] = {}
        self._groups: dict[int, Group] = {}
        self._where: dict[str, Group] = {}
        self._state: dict[str, tuple[int, bool]] = {}
        self._heard: dict[str, int] = {}
        self._ends: dict[str, list[int]] = {}
        self.affinity = Affinity(int(idle_s * SECOND))
        """What past incidents and persons taught."""
        self._proposals = Proposals(topology, self.affinity, int(idle_s * SECOND))
        self.placed: dict[str, int] = {}
        """The group a person put an alert (its fingerprint) in: it goes there as long as that is open."""
        self.barred: dict[str, set[int]] = {}
        """The groups a person took an alert out of: it does not come back."""

    def groups(self) -> Iterator[Group]:
        """The open groups."""
        return iter(self._groups.values())

    def group(self, number: int) -> Group | None:
        """The open group of this number."""
        return self._groups.get(number)

    def holds(self, fingerprint: str) -> bool:
        """Whether an alert is in an open group."""
        return fingerprint in self._where

    def feed(self, alerts: Iterable[Alert]) -> Outcome:
        """Decide on alerts that arrived together, in any order."""
        outcome = Outcome()
        firing: dict[str, list[Alert]] = {}
        ended: list[Alert] = []
        since: dict[str, tuple[int, str]] = {}
        for alert in alerts:
            component = self.component(alert)
            if alert.firing:
                firing.setdefault(component, []).append(alert)
                continue
            ended.append(alert)
            ends = self._ends.setdefault(alert.fingerprint, [])
            insort(ends, alert.time)
            del ends[:-_ENDS]
            since[component] = min(since.get(component, _order(alert)), _order(alert))
        for component in {**firing, **{name: () for name in since if name in self._streams}}:
            self._feed_stream(component, firing.get(component, []), since.get(component), outcome)
        for alert in ended:
            outcome.decisions.append(self._end(alert, outcome))
        return outcome

    def component(self, alert: Alert) -> str:
        """Where an alert can find company; an alert without an entity never finds any but its own repeats."""
        return self.topology.component(alert.entity) if alert.entity else f"?{alert.fingerprint}"

    def relate(self, relations: Iterable[Relation]) -> list[Relation]:
        """Extend the topology; returns the edges that are new. Groups of components that grew together stay apart."""
        fresh = [relation for relation in relations if self.topology.add(relation)]
        if fresh:
            self._proposals.related()
            self._rekey()
        return fresh

    def changed(self, entity: str, time: int, title: str) -> None:
        """Something was changed at an entity; alerts that begin soon after it have that in common."""
        self._proposals.changed(entity, time, title)

    def hear(self, fingerprint: str, received: int) -> bool:
        """An alert is told, perhaps in an event already known: it still fires, however long ago it began. Says whether it is in an
        open group."""
        if fingerprint not in self._where:
            return False
        self._heard[fingerprint] = max(self._heard.get(fingerprint, 0), received)
        return True

    def adopt(self, group: Group, states: dict[str, tuple[int, bool]], heard: dict[str, int]) -> None:
        """Take over a stored group, its members' states (time, firing), and when they were last told, after a restart."""
        self._state.update(states)
        self._heard.update(heard)
        self._groups[group.number] = group
        self._where.update(dict.fromkeys(group.members, group))
        self._streams.setdefault(group.component, _Stream()).groups.append(group)
        self.next_number = max(self.next_number, group.number + 1)

    def close(self, number: int, *, learn: bool = True) -> None:
        """Forget a group: it was resolved, and what fired together in it is learned; or, without that, it is adopted again as another."""
        group = self._groups.pop(number, None)
        if group is None:
            return
        if learn:
            self.affinity.learn(group.component, group.first, group.heard, group.pairs)
        for fingerprint in group.members:
            if self._where.get(fingerprint) is group:
                del self._where[fingerprint]
                self._state.pop(fingerprint, None)
                self._heard.pop(fingerprint, None)
                self._ends.pop(fingerprint, None)
        stream = self._streams[group.component]
        stream.groups.remove(group)
        last = max((i for i, entry in enumerate(stream.tail) if group in (entry.group, entry.before)), default=-1)
        if last >= 0:
            # What is closed cannot be decided again, nor can what was decided before it.
            stream.floor = max(stream.floor, _order(stream.tail[last].decision.alert))
            stream.tail = deque(list(stream.tail)[last + 1 :])
        if not stream.groups and not stream.tail:
            del self._streams[group.component]

    def finished(self, watermark: int) -> list[Group]:
        """The groups whose alerts have all ended and that have been quiet for `resolve_after_s` of event time; a held one never is."""
        return [
            group
            for group in self._groups.values()
            if not group.held
            and watermark - group.heard >= self._quiet
            and not any(self._burns(group, m, watermark) for m in group.members.values())
        ]

    def _burns(self, group: Group, member: Member, watermark: int) -> bool:
        fingerprint = member.alert.fingerprint
        if self._where.get(fingerprint) is not group or not self._state[fingerprint][1]:
            return False
        told = max(member.last, self._heard.get(fingerprint, 0)) if member.alert.stateful else member.last
        return watermark - told < self.patience(member.alert)

    def patience(self, alert: Alert) -> int:
        """How long (ns) an alert counts as firing after it was told."""
        return EXPIRE_NS if alert.stateful else max(self._quiet, int(INTERVALS * alert.interval_s * SECOND))

    def _feed_stream(self, component: str, arrived: list[Alert], ended: tuple[int, str] | None, outcome: Outcome) -> None:
        stream = self._streams.setdefault(component, _Stream())
        arrived.sort(key=_order)
        undone = self._rewind(stream, min([*map(_order, arrived[:1]), *([ended] if ended else [])]))
        before = {entry.decision.alert.id: entry.group.number for entry in undone}
        again = [entry.decision.alert for entry in undone]
        made: list[_Entry] = []
        for alert in sorted([*again, *arrived], key=_order) if again else arrived:
            entry = self._apply(stream, component, alert)
            made.append(entry)
            if _order(alert) > stream.floor and all(g is None or g.component == component for g in (entry.group, entry.before)):
                stream.tail.append(entry)  # what persons carried over from other components is not taken back here
        self._number(made, before)
        for entry in made:
            number = entry.group.number
            old = before.get(entry.decision.alert.id)
            outcome.touched[number] = entry.group
            if old == number:
                continue
            entry.decision.moved_from = old
            outcome.decisions.append(entry.decision)
            if old is not None and old in self._groups:
                outcome.touched[old] = self._groups[old]
            elif old is not None:
                outcome.merged[old] = number
        self._forget(stream)

    def _number(self, made: list[_Entry], before: dict[str, int]) -> None:
        """New groups inherit a number their alerts had before the order changed, so that a group keeps its name."""
        inherited: dict[Group, list[int]] = {entry.group: [] for entry in made if entry.group.number == 0}
        for entry in made:
            if entry.group in inherited and entry.decision.alert.id in before:
                inherited[entry.group].append(before[entry.decision.alert.id])
        for group, numbers in inherited.items():
            group.number = min((number for number in numbers if number not in self._groups), default=self.next_number)
            self.next_number = max(self.next_number, group.number + 1)
            self._groups[group.number] = group

    def _rewind(self, stream: _Stream, key: tuple[int, str]) -> list[_Entry]:
        undone: list[_Entry] = []
        if key > stream.floor:
            while stream.tail and _order(stream.tail[-1].decision.alert) > key:
                undone.append(stream.tail.pop())
                self._undo(stream, undone[-1])
        return undone

    def _undo(self, stream: _Stream, entry: _Entry) -> None:
        group, alert = entry.group, entry.decision.alert
        group.first, group.last, group.lead, group.idle = entry.first, entry.last, entry.lead, entry.idle
        group.count -= 1
        if entry.before is None:
            del self._where[alert.fingerprint]
        else:
            self._where[alert.fingerprint] = entry.before
        if entry.member is not None:
            entry.member.count -= 1
            entry.member.first, entry.member.last = entry.member_times
            return
        del group.members[alert.fingerprint]
        group.count_out(alert)
        if not group.members:
            stream.groups.remove(group)
            del self._groups[group.number]

    def _forget(self, stream: _Stream) -> None:
        while len(stream.tail) > TAIL or (
            stream.tail and stream.tail[-1].decision.alert.time - stream.tail[0].decision.alert.time > LATE_NS
        ):
            stream.floor = _order(stream.tail.popleft().decision.alert)

    def _apply(self, stream: _Stream, component: str, alert: Alert) -> _Entry:
        before = self._where.get(alert.fingerprint)
        group = before
        considered: tuple[Considered, ...] = ()
        if before is None or not self._sticks(before.members[alert.fingerprint], alert):
            group, considered = self._choose(stream, alert)
        elif not alert.stateful and len(stream.groups) > 1 and self._proposals.late(alert, before):
            # It fired in a group that has gone on for long: this time it may be the doing of a younger one, never a reason for a new one.
            group, considered = self._choose(stream, alert)
            group = group or before
        if group is None:
            group = Group(0, component, alert.time, alert.time, alert)
            stream.groups.append(group)
            text = "no open incident of this component is near enough" if considered else "nothing else is open in this component"
            entry = _Entry(Decision(alert, "opened", group, considered, text), group, None, before, *_limits(group))
            self._join(group, alert)
        elif alert.fingerprint in group.members:
            member = group.members[alert.fingerprint]
            again = self._ended(member, alert) is not None
            text = "the same alert fires again" if again else f"the same alert, seen {member.count + 1} times"
            entry = _Entry(Decision(alert, "duplicate", group, considered, text), group, member, before, *_limits(group))
            entry.member_times = member.first, member.last
            member.count += 1
            member.first, member.last = min(member.first, alert.time), max(member.last, alert.time)
        else:
            entry = _Entry(Decision(alert, "joined", group, considered), group, None, before, *_limits(group))
            self._join(group, alert)
        self._extend(group, alert, new=entry.member is None)
        return entry

    def _sticks(self, member: Member, alert: Alert) -> bool:
        if not alert.stateful:
            return alert.time - member.last <= self._proposals.idle_of(alert)
        ended = self._ended(member, alert)
        return ended is None or alert.time - ended <= self._quiet

    def _ended(self, member: Member, alert: Alert) -> int | None:
        """When the alert ended since it last fired, None when it has been burning on."""
        ends = self._ends.get(alert.fingerprint, ())
        place = bisect_right(ends, alert.time)
        return ends[place - 1] if place and ends[place - 1] >= member.last else None

    def _choose(self, stream: _Stream, alert: Alert) -> tuple[Group | None, tuple[Considered, ...]]:
        placed = self._groups.get(self.placed.get(alert.fingerprint, 0))
        if placed is not None:
            return placed, ()
        barred = self.barred.get(alert.fingerprint, ())
        near = (group for group in stream.groups if self._proposals.near(alert, group) and group.number not in barred)
        considered = tuple(self._proposals.consider(alert, group) for group in near)
        best = max(considered, key=lambda c: (c.score, -c.group.first), default=None)
        return (best.group if best is not None and best.score >= _JOIN else None), considered

    def _join(self, group: Group, alert: Alert) -> None:
        group.members[alert.fingerprint] = Member(alert, alert.time, alert.time)
        group.count_in(alert)

    def _extend(self, group: Group, alert: Alert, *, new: bool) -> None:
        self._where[alert.fingerprint] = group
        if alert.time >= self._state.get(alert.fingerprint, (0, False))[0]:
            self._state[alert.fingerprint] = (alert.time, True)
        self.hear(alert.fingerprint, alert.received)
        group.held = False
        group.count += 1
        if new or self._proposals.near(alert, group):  # the repeat of an old alert does not keep a session alive for others
            group.first, group.last = min(group.first, alert.time), max(group.last, alert.time)
        group.heard = max(group.heard, alert.time)
        group.idle = max(group.idle, self._proposals.idle_of(alert))
        if (rank(alert.severity), alert.time) < (rank(group.lead.severity), group.lead.time):
            group.lead = alert

    def _end(self, alert: Alert, outcome: Outcome) -> Decision:
        group = self._where.get(alert.fingerprint)
        if group is None:
            self._ends.pop(alert.fingerprint, None)
            return Decision(alert, "unknown", None, (), "an alert ended that belongs to no open incident")
        if alert.time >= self._state.get(alert.fingerprint, (0, False))[0]:
            self._state[alert.fingerprint] = (alert.time, False)
        group.heard = max(group.heard, alert.time)
        outcome.touched[group.number] = group
        return Decision(alert, "resolved", group, (), "the alert ended")

    def _rekey(self) -> None:
        old, self._streams = self._streams, {}
        for name, stream in old.items():
            component = name if name.startswith("?") else self.topology.component(name)
            target = self._streams.setdefault(component, _Stream())
            target.groups += stream.groups
            target.tail = deque(sorted([*target.tail, *stream.tail], key=lambda entry: _order(entry.decision.alert)))
            target.floor = max(target.floor, stream.floor)
            for group in stream.groups:
                group.component = component


def _order(alert: Alert) -> tuple[int, str]:
    return alert.time, alert.id


def _limits(group: Group) -> tuple[int, int, Alert, int]:
    return group.first, group.last, group.lead, group.idle
