"""Alerts as people and other programs ask for them: their state, what hides them, why each of their events is where it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso
from ninefold.ground.errors import NotFound
from ninefold.incidents.folding import chunks
from ninefold.incidents.intake import Row
from ninefold.incidents.view import decision
from ninefold.store.records.incidents import (
    ACKNOWLEDGED,
    ALERT_STATES,
    FIRING,
    MITIGATED,
    PENDING,
    SUPPRESSED,
    AlertState,
    Incident,
    IncidentEvent,
    Ledger,
    incident_key,
)  # fmt: skip
from ninefold.store.records.mutes import HiddenAlert

Json = dict[str, Any]
_EVENTS, _DECISIONS = 200, 1000
_HANDLED = func.coalesce(Incident.acknowledged, Incident.mitigated)
# Both values of `pending` are named so that the index on it serves.
_IN_HAND = (Incident.pending.in_((True, False)), Incident.status.in_((ACKNOWLEDGED, MITIGATED)), AlertState.since <= _HANDLED)
_TAKEN = exists().where(Incident.id == AlertState.incident, *_IN_HAND)


def page(session: Session, state: str, q: str, limit: int, after: int) -> Json:
    """A page of alerts, those that changed last first, with how many there are of each state.

    Args:
        session: a reading one.
        state: one of `ALERT_STATES`, or all. An alert that fires is acknowledged once somebody has its incident in hand.
        q: words that are in title, rule or entity.
        limit, after: how many, and how many before them.
    """
    wanted = _matching(q)
    if state in (FIRING, ACKNOWLEDGED):
        wanted = [*wanted, AlertState.state == FIRING, _TAKEN if state == ACKNOWLEDGED else ~_TAKEN]
    elif state != "all":
        wanted = [*wanted, AlertState.state == state]
    order = AlertState.last.desc(), AlertState.fingerprint
    found = session.scalars(select(AlertState).where(*wanted).order_by(*order).offset(after).limit(limit + 1)).all()
    return {
        "items": list(_shown(session, found[:limit])),
        "next": str(after + limit) if len(found) > limit else None,
        "counts": _counts(session, q),
    }


def _counts(session: Session, q: str) -> Json:
    counted = select(AlertState.state, func.count()).where(*_matching(q)).group_by(AlertState.state)
    counts: Json = dict.fromkeys(ALERT_STATES, 0)
    for word, number in session.execute(counted):
        counts[word] = number
    mine = select(func.count()).select_from(AlertState).join(Incident, Incident.id == AlertState.incident)
    taken = session.scalar(mine.where(*_matching(q), AlertState.state == FIRING, *_IN_HAND)) or 0
    counts |= {FIRING: counts[FIRING] - taken, ACKNOWLEDGED: taken}
    return counts | {"all": sum(counts.values())}


def whole(session: Session, fingerprint: str) -> Json:
    """One alert with its last event and every decision on it: how it was read and recognised, what hid it, where it was put.

    Raises:
        NotFound: no alert has this fingerprint.
    """
    state = session.get(AlertState, fingerprint)
    if state is None:
        raise NotFound(f"there is no alert {fingerprint!r}")
    events = select(IncidentEvent.event_id).where(IncidentEvent.fingerprint == fingerprint, IncidentEvent.incident == state.incident)
    ids = {state.last_event, *session.scalars(events.order_by(IncidentEvent.time.desc()).limit(_EVENTS))}
    about = select(Ledger).where(Ledger.fingerprint == fingerprint).order_by(Ledger.id.desc()).limit(_DECISIONS)
    rows = {row.id: row for row in session.scalars(about)} if fingerprint else {}
    for some in chunks(sorted(ids)):
        decided = select(Ledger).where(Ledger.event_id.in_(some)).order_by(Ledger.id).limit(_DECISIONS)
        rows.update((row.id, row) for row in session.scalars(decided))
    (shown,) = _shown(session, [state])
    return {**shown, "why": [decision(row) for row in sorted(rows.values(), key=lambda row: (row.time, row.id))]}


def told(session: Session, states: Sequence[AlertState]) -> dict[str, Json]:
    """The last event of each alert, by fingerprint."""
    found: dict[str, Json] = {}
    for some in chunks([state.fingerprint for state in states if state.status == SUPPRESSED]):
        aside = session.scalars(select(HiddenAlert).where(HiddenAlert.fingerprint.in_(some)))
        found.update((each.fingerprint, Row(**each.row).event() | {"mutes": each.mutes, "inhibitions": each.inhibitions}) for each in aside)
    by_event = {state.last_event: state.fingerprint for state in states if state.fingerprint not in found}
    for some in chunks(list(by_event)):
        events = select(IncidentEvent.event_id, IncidentEvent.event).where(IncidentEvent.event_id.in_(some))
        found.update((by_event[key], event) for key, event in session.execute(events))
    return found


def _shown(session: Session, states: Sequence[AlertState]) -> Iterable[Json]:
    events, taken = told(session, states), _taken(session, states)
    for state in states:
        event = events.get(state.fingerprint) or ((state.memory or {}).get("row") or {})
        since = taken.get(state.fingerprint, state.since)
        yield {
            "fingerprint": state.fingerprint, "title": state.title, "entity": state.entity, "kind": state.kind, "rule": state.rule,
            "severity": state.severity, "state": ACKNOWLEDGED if state.fingerprint in taken else state.state, "since": iso(since),
            "until": iso(state.due) if state.due and state.state == PENDING else None, "first": iso(state.first), "last": iso(state.last),
            "heard": iso(state.heard) if state.heard else None, "count": state.count,
            "incident": incident_key(state.incident) if state.incident else None, "mutes": event.get("mutes", []),
            "inhibitions": event.get("inhibitions", []),
            "event": state.last_event, "source": event.get("source", ""), "source_id": event.get("source_id", ""),
            "attributes": event.get("attributes", {}),
        }  # fmt: skip


def _taken(session: Session, states: Sequence[AlertState]) -> dict[str, int]:
    """Those that fire and whose incident somebody has in hand, with since when (ns)."""
    found: dict[str, int] = {}
    for some in chunks([state.fingerprint for state in states if state.state == FIRING and state.incident]):
        mine = select(AlertState.fingerprint, _HANDLED).join(Incident, Incident.id == AlertState.incident)
        for mark, at in session.execute(mine.where(AlertState.fingerprint.in_(some), *_IN_HAND)):
            found[mark] = at
    return found


def _matching(q: str) -> list[ColumnElement[bool]]:
    columns = AlertState.title, AlertState.rule, AlertState.entity
    return [or_(*(column.icontains(q, autoescape=True) for column in columns))] if q else []
