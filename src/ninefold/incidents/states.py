"""Between what senders say and the correlator: which events of alerts count, by the rules people made; which are heartbeats.

An alert no rule fits goes by untouched. Of the others `AlertState.memory` keeps the condition, in the transaction of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import null, select
from sqlalchemy.orm import Session

from ninefold.analytics.alerts.correlate import EXPIRE_NS, LATE_NS
from ninefold.analytics.alerts.groups import Alert
from ninefold.config import AlertsConfig
from ninefold.ground.clock import iso
from ninefold.incidents import folding
from ninefold.incidents.condition import Condition, Course, Limits, Telling, Turn, Verdict
from ninefold.incidents.heartbeats import Heartbeats
from ninefold.incidents.intake import CORRELATED, Row
from ninefold.incidents.ledger import Pages
from ninefold.incidents.mutes import labels_of, mark
from ninefold.incidents.rules import DEFAULT, Rules
from ninefold.model.signal import event_id
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import EXPIRED, FIRING, RESOLVED, SUPPRESSED, AlertState

Patience = Callable[[Alert], int]
_AT_ONCE = 2000
"""How many deadlines fall in one transaction."""


@dataclass(slots=True)
class Told:
    """What becomes of events: `plain` are nobody's business here, `passed` count as alerts, `again` still fire."""

    plain: list[Row] = field(default_factory=list)
    passed: list[Row] = field(default_factory=list)
    again: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class Watched:
    """An alert some rule fits, or fitted a while ago."""

    fingerprint: str
    condition: Condition
    row: Row
    """Its newest event."""
    used: bool = False
    """That event has been passed on under its own id."""
    counted: bool = False
    """It was last passed on as firing."""
    passed: int = 0
    """The time of the last event that was passed on for a change; none after it may seem older."""
    limits: Limits = DEFAULT
    patience: int = EXPIRE_NS
    held: int = 0
    """Events not passed on and not counted yet."""

    @property
    def due(self) -> int:
        """When it must be looked at again: its next deadline, or when it can be forgotten."""
        deadline = self.condition.due(self.limits, self.patience)
        told = max(self.condition.heard, self.condition.course.since)
        return deadline or told + max(LATE_NS, self.limits.flapping_within)

    @property
    def over(self) -> bool:
        """Nothing can become of it but by a new event."""
        return self.condition.due(self.limits, self.patience) is None and not self.counted

    @property
    def memory(self) -> dict[str, Any]:
        """What `recall` needs, as JSON."""
        own = {
            "row": {name: getattr(self.row, name) for name in Row.__slots__},
            "used": self.used,
            "counted": self.counted,
            "passed": self.passed,
        }
        return {"condition": self.condition.memory, **own}

    @classmethod
    def recall(cls, state: AlertState) -> Watched:
        """An alert whose memory was kept."""
        memory = state.memory or {}
        condition, row = Condition.recall(memory["condition"]), Row(**memory["row"])
        return cls(state.fingerprint, condition, row, memory["used"], memory["counted"], memory["passed"])

    @classmethod
    def of(cls, state: AlertState | None, row: Row, used: bool) -> Watched:
        """What is known of an alert by its state; `row` is an event of it, `used` whether that is in an incident."""
        if state is None:
            return cls(mark(row), Condition(), row)
        if state.memory:
            return cls.recall(state)
        fires = state.status != RESOLVED and state.state != EXPIRED
        course = Course(FIRING if fires else state.state, state.since, fires, state.heard)
        floor = min(state.last, state.heard)
        return cls(state.fingerprint, Condition(course, floor, heard=state.heard), row, used, fires, state.last)


class States:
    """The states of the alerts of one records database. All but `rules` is called under the lock of the incidents.

    Args:
        records: where they are kept.
        config: rules and heartbeats of the configuration.
    """

    def __init__(self, records: Records, config: AlertsConfig) -> None:
        self._records = records
        self.rules = Rules(records, config)
        self._heartbeats = Heartbeats()
        self._known: set[str] | None = None
        self._open: dict[str, Watched] = {}

    def forget(self) -> None:
        """Read the records again: what was written to them was not kept."""
        self._known = None
        self._open = {}
        self._heartbeats.forget()

    def sift(self, session: Session, rows: Sequence[Row], seen: Collection[str], patience: Patience, pages: Pages) -> Told:
        """What becomes of events, those told again among them.

        Args:
            session: the transaction it belongs to.
            rows: events of all kinds, in order of receipt.
            seen: ids of events that are in incidents already.
            patience: how long (ns) an alert counts after it was told, where no rule says it.
            pages: takes the decisions.
        """
        if not rows:
            return Told()
        known = self._read(session, max(row.received for row in rows))
        if not (self.rules.some or self.rules.heartbeats or known):
            return Told(list(rows))
        told, alerts = Told(), [row for row in rows if row.kind in CORRELATED]
        told.plain = [row for row in rows if row.kind not in CORRELATED]
        beats = self._heartbeats.beats(session, rows, pages)
        alerts = [row for row in alerts if row.id not in beats]
        watched: dict[str, list[tuple[Row, Limits]]] = {}
        for row, limits in zip(alerts, self.rules.limits([labels_of(row) for row in alerts]), strict=True):
            if limits is DEFAULT and mark(row) not in known:
                told.plain.append(row)
            else:
                watched.setdefault(mark(row), []).append((row, limits))
        states = _states(session, watched)
        for key, some in watched.items():
            state = states.get(key)
            one = Watched.of(state, some[0][0], some[0][0].id in seen)
            one.limits = some[-1][1]
            one.patience = one.limits.expire or patience(some[-1][0].alert())
            self._tell(one, [row for row, _ in some], seen, told, pages)
        return told

    def due(self, at: int) -> bool:
        """Whether `advance` may have something to do at the time `at` (ns) of the clock of receipt."""
        with self._records.reading() as session:
            version = self.rules.read(session)
            some = session.scalar(select(AlertState.fingerprint).where(AlertState.due <= at).limit(1))
        return some is not None or self._heartbeats.stale(version) or self._heartbeats.due <= at

    def advance(self, session: Session, at: int, patience: Patience, pages: Pages) -> list[Row]:
        """Let the deadlines up to `at` (ns) fall; returns the events that count from now on."""
        self._read(session, at)
        self._heartbeats.advance(session, at)
        fallen = (AlertState.due <= at,)
        _expire(session, session.scalars(select(AlertState).where(*fallen, AlertState.memory.is_(null())).limit(_AT_ONCE)).all(), at, pages)
        told = Told()
        mine = select(AlertState).where(*fallen, AlertState.memory.is_not(null())).order_by(AlertState.due)
        ones = [Watched.recall(state) for state in session.scalars(mine.limit(_AT_ONCE))]
        for one, limits in zip(ones, self.rules.limits([labels_of(one.row) for one in ones]), strict=True):
            one.limits, one.patience = limits, limits.expire or patience(one.row.alert())
            self._judged(one, one.condition.tell([], at, one.limits, one.patience), {}, told, pages)
        return told.passed

    def keep(self, session: Session, at: int = 0) -> None:
        """Write what was sifted, behind what the correlator made of it; `at` (ns) says which can be forgotten."""
        rows = []
        for key, one in self._open.items():
            gone = one.over and one.due <= at
            (self._known.discard if gone else self._known.add)(key) if self._known is not None else None
            rows.append(_record(one, gone))
        self._open = {}
        folding.write_watched(session, rows)

    def _read(self, session: Session, at: int) -> set[str]:
        version = self.rules.read(session)
        self._heartbeats.read(session, self.rules.heartbeats, version, at)
        if self._known is None:
            self._known = set(session.scalars(select(AlertState.fingerprint).where(AlertState.memory.is_not(null()))))
        return self._known

    def _tell(self, one: Watched, rows: Iterable[Row], seen: Collection[str], told: Told, pages: Pages) -> None:
        known = {one.row.id if one.condition.tellings else "", *(telling.event for telling in one.condition.tellings)}
        tellings: dict[Telling, Row] = {}
        for row in rows:
            again, ends = row.id in known or row.id in seen, row.status == RESOLVED
            known.add(row.id)
            if not (again and ends):
                time = row.received if again else min(row.time, row.received)
                tellings[Telling(time, ends, row.id, again, row.received)] = row
        verdict = one.condition.tell(list(tellings), max((row.received for row in tellings.values()), default=0), one.limits, one.patience)
        new = {telling: row for telling, row in tellings.items() if not telling.again}
        newest = max(new, default=None)
        if newest is not None and (newest.time >= one.row.time or one.row.id == newest.event):
            one.row, one.used = new[newest], False
        told.again += [tellings[telling] for telling in verdict.counts if telling.again]
        self._judged(one, verdict, new, told, pages)

    def _judged(self, one: Watched, verdict: Verdict, new: Mapping[Telling, Row], told: Told, pages: Pages) -> None:
        """Pass on what counts, and write down why."""
        rows = {row.id: row for row in new.values()}
        used: set[str] = set()
        for turn in verdict.turns:
            counts = turn.state == FIRING
            if counts != one.counted:
                one.counted = counts
                if turn.state != EXPIRED or one.limits.expire:  # else the correlator gives it up by itself
                    told.passed.append(self._passed(one, turn, rows.get(turn.event, one.row), used))
            pages.stated(one.fingerprint, turn.event or one.row.id, turn.time, turn.state, turn.text)
        course = one.condition.course
        if (course.state == FIRING) != one.counted:
            one.counted = not one.counted
            text = "an event came late; with it, in order of time, this is so"
            turn = Turn(course.since, course.state, "", text)
            told.passed.append(self._passed(one, turn, one.row, used))
            pages.stated(one.fingerprint, one.row.id, turn.time, turn.state, text)
        late = [telling for telling in verdict.late if one.counted != telling.ends and not course.calm_at]
        for telling in (*verdict.counts, *late):
            if telling in new and telling.event not in used:
                used.add(telling.event)
                told.passed.append(rows[telling.event])
        said = {turn.event for turn in verdict.turns}
        for key, row in rows.items():
            if key not in used:
                one.held += 1
                if key not in said:
                    since = f"{course.state} since {iso(course.since)}"
                    pages.stated(one.fingerprint, key, row.time, "", f"it changes nothing: the alert is {since}")
        one.used = one.used or one.row.id in used
        self._open[one.fingerprint] = one

    @staticmethod
    def _passed(one: Watched, turn: Turn, row: Row, used: set[str]) -> Row:
        """A change as an event, no older than the one before it."""
        one.passed = time = max(turn.time, row.time if row.id == turn.event else 0, one.passed)
        status = RESOLVED if turn.state != FIRING else FIRING if row.status == RESOLVED else row.status
        key = row.id
        if key in used or (one.used and key == one.row.id):
            key = event_id("state", one.fingerprint, turn.state, str(time))
        used.add(key)
        return replace(row, id=key, time=time, status=status, received=max(row.received, turn.time))


def _states(session: Session, keys: Collection[str]) -> dict[str, AlertState]:
    found: dict[str, AlertState] = {}
    for some in folding.chunks(list(keys)):
        found.update((state.fingerprint, state) for state in session.scalars(select(AlertState).where(AlertState.fingerprint.in_(some))))
    return found


def _expire(session: Session, states: Sequence[AlertState], at: int, pages: Pages) -> None:
    """Alerts no rule fits of which nobody has told for as long as one counts."""
    for state in states:
        if state.status and state.status != SUPPRESSED:
            text = f"nobody has told of it since {iso(state.heard)}, and nobody said that it ended"
            pages.stated(state.fingerprint, state.last_event, at, EXPIRED, text)
    folding.expire(session, at, [state.fingerprint for state in states])


def _record(one: Watched, gone: bool) -> dict[str, Any]:
    row, course = one.row, one.condition.course
    return {
        "fingerprint": one.fingerprint, "entity": row.entity, "kind": row.kind, "rule": row.alert().rule, "title": row.title,
        "severity": row.severity, "status": FIRING if course.state == FIRING else RESOLVED, "first": row.time, "last": row.time,
        "count": one.held, "incident": None, "last_event": row.id, "heard": one.condition.heard, "state": course.state,
        "since": course.since, "due": None if gone else one.due, "memory": None if gone else one.memory,
    }  # fmt: skip
