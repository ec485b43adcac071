"""From the correlator's decisions to records, within one transaction, and back into the correlator after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Insert, String, Table, and_, bindparam, case, func, literal_column, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ninefold.analytics.alerts.correlate import EXPIRE_NS, Correlator
from ninefold.analytics.alerts.groups import Alert, Decision, Group, Member, Outcome
from ninefold.incidents.intake import TRUTH, Row
from ninefold.incidents.ledger import Pages
from ninefold.model.topology import Relation, Topology
from ninefold.store.records.base import write_many
from ninefold.store.records.incidents import (
    ACKNOWLEDGED,
    EXPIRED,
    FIRING,
    MITIGATED,
    OPEN,
    PENDING,
    RESOLVED,
    SUPPRESSED,
    UNRESOLVED,
    AlertState,
    Change,
    Incident,
    IncidentEvent,
    Ledger,
    RelationRow,
    Ticket,
    Timeline,
    incident_key,
)  # fmt: skip
from ninefold.store.records.workflows import Approval, Run

RULES_KEPT = 200
INCIDENTS_RECALLED = 2000
CHANGES_RECALLED = 1000
_CHUNK = 800
_ALERTS: Table = AlertState.__table__  # type: ignore[assignment]
_EVENTS: Table = IncidentEvent.__table__  # type: ignore[assignment]
_LINES: Table = Timeline.__table__  # type: ignore[assignment]
_DECISIONS: Table = Ledger.__table__  # type: ignore[assignment]
_RELATIONS: Table = RelationRow.__table__  # type: ignore[assignment]


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """`values` in pieces small enough for an IN list on every database."""
    return (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))


def known(session: Session, ids: Sequence[str]) -> set[str]:
    """The event ids among `ids` that are already in an incident."""
    found: set[str] = set()
    for some in chunks(ids):
        found.update(session.scalars(select(IncidentEvent.event_id).where(IncidentEvent.event_id.in_(some))))
    return found


def write_alerts(session: Session, rows: Mapping[str, Row], decisions: Iterable[Decision], patience: Callable[[Alert], int]) -> None:
    """Count every alert event in its alert's state; the newest event decides the status. `rows` are the new events by id, `patience`
    says how long (ns) an alert counts after it was told."""
    told = []
    for decision in decisions:
        alert = decision.alert
        row = rows.get(alert.id)
        if row is not None:
            state = RESOLVED if row.status == RESOLVED else FIRING
            over = None if state == RESOLVED else row.received + patience(alert)
            told.append((row, alert.rule, row.status, state, over, decision.group.number if decision.group else None))
    _write_states(session, told)


def write_hidden(session: Session, rows: Iterable[Row]) -> None:
    """Note alerts that mutes hide: they are `suppressed`."""
    _write_states(session, [(row, row.alert().rule, SUPPRESSED, SUPPRESSED, None, None) for row in rows])


def expire(session: Session, at: int, fingerprints: Sequence[str]) -> None:
    """Nobody tells of these alerts any more, and nobody said that they ended."""
    for some in chunks(fingerprints):
        session.execute(update(_ALERTS).where(_ALERTS.c.fingerprint.in_(some)).values(state=EXPIRED, since=at, due=None))


def _write_states(session: Session, told: Iterable[tuple[Row, str, str, str, int | None, int | None]]) -> None:
    states: dict[str, dict[str, Any]] = {}
    for row, rule, status, now_is, over, number in told:
        fingerprint = row.fingerprint or row.id
        state = states.get(fingerprint)
        if state is None:
            state = states[fingerprint] = {
                "fingerprint": fingerprint, "entity": row.entity, "kind": row.kind, "rule": rule, "title": row.title,
                "severity": row.severity, "status": status, "first": row.time, "last": row.time, "count": 0,
                "incident": number, "last_event": row.id, "heard": 0, "state": now_is, "since": row.time, "due": over, "memory": None,
            }  # fmt: skip
        state["count"] += 1
        state["heard"] = max(state["heard"], row.received)
        state["first"] = min(state["first"], row.time)
        if row.time >= state["last"]:
            state.update(status=status, severity=row.severity, title=row.title, last=row.time, last_event=row.id, due=over)
            state["incident"] = number or state["incident"]
            if now_is != state["state"]:
                state.update(state=now_is, since=row.time)
    if states:
        write_many(session, _keep_alerts(session.get_bind().dialect.name), list(states.values()))


def write_watched(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Keep the states of alerts that rules fit, behind what was written of those of their events that count."""
    if rows:
        write_many(session, _keep_watched(session.get_bind().dialect.name), rows)


@cache
def _keep_watched(dialect: str) -> Insert:
    statement = _upsert(dialect)(_ALERTS)
    new, old = statement.excluded, _ALERTS.c
    words = (FIRING, PENDING, RESOLVED, SUPPRESSED)
    firing, pending, resolved, suppressed = (literal_column(f"'{word}'", String) for word in words)  # kept, so without parameters
    hidden = and_(old.status == suppressed, new.state == firing)
    uncounted = or_(new.state == pending, new.state == resolved)
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=["fingerprint"],
        set_={
            "count": old.count + new.count,
            "first": case((new.first < old.first, new.first), else_=old.first),
            "heard": case((new.heard > old.heard, new.heard), else_=old.heard),
            "status": case((uncounted, resolved), else_=old.status),
            "due": new.due,
            "memory": new.memory,
            **{name: case((hidden, old[name]), else_=new[name]) for name in ("state", "since")},
        },
    )


@cache
def _keep_alerts(dialect: str) -> Insert:
    statement = _upsert(dialect)(_ALERTS)
    new, old = statement.excluded, _ALERTS.c
    newer = new.last >= old.last
    turned = or_(new.state != old.state, new.since > new.first)
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=["fingerprint"],
        set_={
            "count": old.count + new.count,
            "first": case((new.first < old.first, new.first), else_=old.first),
            "last": case((newer, new.last), else_=old.last),
            "incident": func.coalesce(new.incident, old.incident),
            "heard": case((new.heard > old.heard, new.heard), else_=old.heard),
            **{name: case((newer, new[name]), else_=old[name]) for name in ("status", "severity", "title", "last_event", "state", "due")},
            "since": case((and_(newer, turned), new.since), else_=old.since),
        },
    )


def hear(session: Session, correlator: Correlator, rows: Iterable[Row]) -> list[Incident]:
    """Alerts told again in the events already known: they still fire, and nothing else is to be written down. Returns incidents that
    were given up although one of these alerts goes on."""
    told: dict[str, int] = {}
    for row in rows:
        if row.kind == "alert" and row.status and row.status != "resolved":
            mark = row.fingerprint or row.id
            told[mark] = max(told.get(mark, 0), row.received)
    if not told:
        return []
    later = update(_ALERTS).where(_ALERTS.c.fingerprint == bindparam("mark"), _ALERTS.c.heard < bindparam("at"))
    back, counts = _ALERTS.c.state == EXPIRED, or_(_ALERTS.c.state == FIRING, _ALERTS.c.state == EXPIRED)
    heard = later.values(
        heard=bindparam("at"), due=case((counts, bindparam("at") + EXPIRE_NS), else_=_ALERTS.c.due),
        state=case((back, FIRING), else_=_ALERTS.c.state), since=case((back, bindparam("at")), else_=_ALERTS.c.since),
    )  # fmt: skip
    session.execute(heard, [{"mark": mark, "at": received} for mark, received in told.items()])
    lost = [mark for mark, received in told.items() if not correlator.hear(mark, received)]
    by_itself = (Incident.status == RESOLVED, Incident.resolved == Incident.last_event, Incident.merged_into.is_(None))
    found: dict[int, Incident] = {}
    for some in chunks(lost):
        firing = select(AlertState.incident).where(AlertState.fingerprint.in_(some), AlertState.status != "resolved")
        found.update((incident.id, incident) for incident in session.scalars(select(Incident).where(*by_itself, Incident.id.in_(firing))))
    return list(found.values())


def readopt(session: Session, correlator: Correlator, incident: Incident) -> None:
    """Put a resolved incident that is open again back into the correlator."""
    states = session.scalars(select(AlertState).where(AlertState.incident == incident.id).order_by(AlertState.first))
    adopt(correlator, incident, list(states))


def write_relations(session: Session, relations: Sequence[Relation]) -> None:
    """Keep edges of the topology with their first and last time."""
    if not relations:
        return
    statement = _upsert(session.get_bind().dialect.name)(_RELATIONS)
    new, old = statement.excluded, _RELATIONS.c
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["from_entity", "to_entity", "kind"],
            set_={
                "first": case((new.first < old.first, new.first), else_=old.first),
                "last": case((new.last > old.last, new.last), else_=old.last),
            },
        ),
        [
            {"from_entity": r.from_entity, "to_entity": r.to_entity, "kind": r.kind, "first": r.first_seen, "last": r.last_seen}
            for r in relations
        ],
    )


def _upsert(dialect: str) -> Any:
    return postgresql.insert if dialect == "postgresql" else sqlite.insert


def move(session: Session, decisions: Iterable[Decision]) -> None:
    """Carry the events, lines and decisions of alerts that a late alert put elsewhere."""
    moved = [
        {"old": d.moved_from, "new": d.group.number, "alert": d.alert.id, "mark": d.alert.fingerprint}
        for d in decisions
        if d.moved_from is not None and d.group is not None
    ]
    if not moved:
        return
    for table in (_EVENTS, _LINES):
        place = update(table).where(table.c.incident == bindparam("old"), table.c.event_id == bindparam("alert"))
        session.execute(place.values(incident=bindparam("new")), moved)
    state = update(_ALERTS).where(_ALERTS.c.fingerprint == bindparam("mark"), _ALERTS.c.incident == bindparam("old"))
    session.execute(state.values(incident=bindparam("new")), moved)


def merge(session: Session, merged: dict[int, int], pages: Pages) -> None:
    """Dissolve incidents whose alerts all belong to another since a late alert arrived."""
    for old, new in merged.items():
        for table in (_EVENTS, _LINES, _DECISIONS):
            session.execute(update(table).where(table.c.incident == old).values(incident=new))
        session.execute(update(_ALERTS).where(_ALERTS.c.incident == old).values(incident=new))
        gone, into = session.get(Incident, old), session.get(Incident, new)
        if gone is None or into is None:
            continue
        if gone.status in (ACKNOWLEDGED, MITIGATED) and into.status == OPEN:
            into.status, into.acknowledged, into.owner = ACKNOWLEDGED, gone.acknowledged, into.owner or gone.owner
        gone.status, gone.merged_into, gone.resolved, gone.alerts, gone.due = RESOLVED, new, gone.last_event, 0, False
        title = f"{incident_key(old)} is part of {incident_key(new)}: a late alert joined them"
        for number in (old, new):
            pages.line(number, gone.last_event, "merged", title)
        for record in (Ticket, Run, Approval):
            # Whoever works on the dissolved incident works on the other one now.
            session.execute(update(record).where(record.incident == old).values(incident=new))
        if not gone.pending:
            pages.changed("merged", gone, merged_into=incident_key(new))


def reflect(
    session: Session, outcome: Outcome, min_alerts: int, position: int, pages: Pages, grade: Callable[[Group], str]
) -> list[Incident]:
    """Bring the incidents of touched groups up to date, each of the severity that `grade` gives; returns those that are new."""
    numbers = list(outcome.touched)
    stored: dict[int, Incident] = {}
    for some in chunks(numbers):
        stored.update((incident.id, incident) for incident in session.scalars(select(Incident).where(Incident.id.in_(some))))
    fresh: list[Incident] = []
    for number, group in outcome.touched.items():
        incident = stored.get(number)
        shown = incident is not None and not incident.pending
        if incident is None:
            incident = Incident(id=number, status=OPEN, pending=True, opened=group.first)
            fresh.append(incident)
        before = incident.title, incident.severity, incident.entity
        _copy(group, incident, grade(group))
        grown = {"grown": True} if shown and before == (incident.title, incident.severity, incident.entity) else {}
        incident.pending = not shown and len(group.pairs) < min_alerts and group.severity != "critical"
        incident.position, incident.due = position, True
        if not incident.pending:
            pages.changed("updated" if shown else "opened", incident, **grown)
        if not shown and not incident.pending:
            pages.line(number, group.first, "opened", f"{incident_key(number)} opened: {incident.title}", severity=incident.severity)
    session.add_all(fresh)
    session.flush()
    return fresh


def _copy(group: Group, incident: Incident, severity: str) -> None:
    incident.title, incident.entity = group.lead.title or group.lead.rule, next(iter(group.entities), "")
    if not incident.rated:
        incident.severity = severity
    incident.component, incident.opened, incident.first_event = group.component, group.first, group.first
    incident.last_event, incident.alerts, incident.entities = group.heard, group.count, len(group.entities)
    incident.held = group.held
    rules = [f"{entity}|{rule}" for (entity, rule), _ in zip(group.pairs, range(RULES_KEPT), strict=False)]
    if rules != incident.rules:
        incident.rules = rules


def restore(session: Session, idle_s: float, resolve_after_s: float) -> Correlator:
    """A correlator with the stored topology and the open incidents."""
    edges = session.scalars(select(RelationRow))
    topology = Topology(Relation(e.from_entity, e.to_entity, e.kind, e.first, e.last) for e in edges)
    correlator = Correlator(topology, idle_s, resolve_after_s, (session.scalar(select(func.max(Incident.id))) or 0) + 1)
    unresolved = Incident.pending.in_((True, False)) & Incident.status.in_(UNRESOLVED)
    members: dict[int, list[AlertState]] = {}
    states = select(AlertState).where(AlertState.incident.in_(select(Incident.id).where(unresolved))).order_by(AlertState.first)
    for state in session.scalars(states):
        members.setdefault(state.incident or 0, []).append(state)
    for incident in session.scalars(select(Incident).where(unresolved).order_by(Incident.first_event)):
        adopt(correlator, incident, members.get(incident.id, []))
    recall(session, correlator)
    return correlator


def recall(session: Session, correlator: Correlator) -> None:
    """Teach a new correlator what the last resolved incidents and changes taught the one before."""
    over = (Incident.status == RESOLVED, Incident.merged_into.is_(None))
    past = session.execute(
        select(Incident.component, Incident.first_event, Incident.last_event, Incident.rules)
        .where(*over)
        .order_by(Incident.resolved.desc(), Incident.id.desc())
        .limit(INCIDENTS_RECALLED)
    )
    for component, first, last, rules in reversed(past.all()):
        kinds = [(entity, rule) for entity, _, rule in (text.partition("|") for text in rules)]
        correlator.affinity.learn(component, first, last, kinds)
    changes = (
        select(Change.entity, Change.time, Change.title).where(Change.kind != TRUTH).order_by(Change.time.desc()).limit(CHANGES_RECALLED)
    )
    for entity, time, title in reversed(session.execute(changes).all()):
        correlator.changed(entity, time, title)


def adopt(correlator: Correlator, incident: Incident, states: Sequence[AlertState]) -> None:
    """Put one stored incident with its alerts into the correlator."""
    alerts = [_alert(state) for state in states] or [
        Alert(f"incident {incident.id}", incident.first_event, f"incident {incident.id}", incident.entity, incident.title, incident.title)
    ]
    lead = min(alerts, key=lambda alert: (alert.severity != incident.severity, alert.time))
    last = max([incident.first_event, *(state.first for state in states)])
    # The topology may have renamed the component since the incident was written.
    component = correlator.topology.component(incident.entity) if incident.entity else incident.component
    group = Group(incident.id, component, incident.first_event, last, lead)
    group.heard, group.count, group.held = incident.last_event, incident.alerts, incident.held
    for alert, state in zip(alerts, states, strict=False):
        group.members[alert.fingerprint] = Member(alert, state.first, state.last, state.count)
        group.count_in(alert)
    heard = {state.fingerprint: state.heard for state in states}
    correlator.adopt(group, {state.fingerprint: (state.last, state.status != "resolved") for state in states}, heard)


def _alert(state: AlertState) -> Alert:
    return Alert(
        state.last_event, state.first, state.fingerprint, state.entity, state.rule, state.title, state.severity,
        state.status != "resolved", bool(state.status),
    )  # fmt: skip
