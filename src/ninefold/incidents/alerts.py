"""Alerts as people and other programs ask for them: their state, what hides them, why each of their events is where it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso
from ninefold.ground.errors import NotFound
from ninefold.incidents.folding import chunks
from ninefold.incidents.intake import Row
from ninefold.incidents.view import decision
from ninefold.store.records.incidents import SUPPRESSED, AlertState, IncidentEvent, Ledger, incident_key
from ninefold.store.records.mutes import HiddenAlert

Json = dict[str, Any]
_EVENTS, _DECISIONS = 200, 1000


def page(session: Session, status: str, q: str, limit: int, after: int) -> Json:
    """A page of alerts, those that changed last first, with how many there are of each status.

    Args:
        session: a reading one.
        status: firing, suppressed, resolved, or all.
        q: words that are in title, rule or entity.
        limit, after: how many, and how many before them.
    """
    wanted = _matching(q)
    if status != "all":
        wanted = [*wanted, AlertState.status == status]
    order = AlertState.last.desc(), AlertState.fingerprint
    found = session.scalars(select(AlertState).where(*wanted).order_by(*order).offset(after).limit(limit + 1)).all()
    counted = select(AlertState.status, func.count()).where(*_matching(q)).group_by(AlertState.status)
    counts: Json = {"firing": 0, SUPPRESSED: 0, "resolved": 0} | {word: number for word, number in session.execute(counted) if word}
    return {
        "items": list(_shown(session, found[:limit])),
        "next": str(after + limit) if len(found) > limit else None,
        "counts": counts | {"all": sum(counts.values())},
    }


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
    rows: list[Ledger] = []
    for some in chunks(sorted(ids)):
        rows += session.scalars(select(Ledger).where(Ledger.event_id.in_(some)).order_by(Ledger.id).limit(_DECISIONS))
    (shown,) = _shown(session, [state])
    return {**shown, "why": [decision(row) for row in sorted(rows, key=lambda row: (row.time, row.id))]}


def told(session: Session, states: Sequence[AlertState]) -> dict[str, Json]:
    """The last event of each alert, by fingerprint."""
    found: dict[str, Json] = {}
    for some in chunks([state.fingerprint for state in states if state.status == SUPPRESSED]):
        aside = session.scalars(select(HiddenAlert).where(HiddenAlert.fingerprint.in_(some)))
        found.update((each.fingerprint, Row(**each.row).event() | {"mutes": each.mutes}) for each in aside)
    by_event = {state.last_event: state.fingerprint for state in states if state.fingerprint not in found}
    for some in chunks(list(by_event)):
        events = select(IncidentEvent.event_id, IncidentEvent.event).where(IncidentEvent.event_id.in_(some))
        found.update((by_event[key], event) for key, event in session.execute(events))
    return found


def _shown(session: Session, states: Sequence[AlertState]) -> Iterable[Json]:
    events = told(session, states)
    for state in states:
        event = events.get(state.fingerprint, {})
        yield {
            "fingerprint": state.fingerprint, "title": state.title, "entity": state.entity, "kind": state.kind, "rule": state.rule,
            "severity": state.severity, "status": state.status or "told once", "first": iso(state.first), "last": iso(state.last),
            "heard": iso(state.heard) if state.heard else None, "count": state.count,
            "incident": incident_key(state.incident) if state.incident else None, "mutes": event.get("mutes", []),
            "source": event.get("source", ""), "attributes": event.get("attributes", {}),
        }  # fmt: skip


def _matching(q: str) -> list[ColumnElement[bool]]:
    columns = AlertState.title, AlertState.rule, AlertState.entity
    return [or_(*(column.icontains(q, autoescape=True) for column in columns))] if q else []
