"""What expressions see: the incident as it is now, and the change that started the run. Times are RFC 3339 text, absent ones ""."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso
from ninefold.store.records.base import Outbox
from ninefold.store.records.incidents import Incident, Ticket, incident_key

_NO_CAUSE = {"entity": "", "kind": "", "summary": ""}


def incident_view(session: Session, number: int | None) -> dict[str, Any]:
    """The `incident` of expressions: id, title, status, severity, entity, teams, alerts, entities, opened, acknowledged, mitigated,
    resolved, last_event, owner, verdict, reason, confidence (0 before the analysis), cause {entity, kind, summary}, candidates,
    tickets [{system, id, url, status, owner}]. An empty map without an incident.
    """
    incident = session.get(Incident, number) if number is not None else None
    if incident is None:
        return {}
    tickets = session.scalars(select(Ticket).where(Ticket.incident == incident.id).order_by(Ticket.system, Ticket.id))
    return {
        "id": incident_key(incident.id),
        "title": incident.title,
        "status": incident.status,
        "severity": incident.severity,
        "entity": incident.entity,
        "teams": incident.teams,
        "alerts": incident.alerts,
        "entities": incident.entities,
        "opened": iso(incident.opened),
        "acknowledged": iso(incident.acknowledged) if incident.acknowledged else "",
        "mitigated": iso(incident.mitigated) if incident.mitigated else "",
        "resolved": iso(incident.resolved) if incident.resolved else "",
        "last_event": iso(incident.last_event),
        "owner": incident.owner,
        "verdict": incident.verdict,
        "reason": incident.reason,
        "confidence": incident.confidence or 0.0,
        "cause": {**_NO_CAUSE, **(incident.cause or {})},
        "candidates": incident.analysis.get("candidates", []),
        "tickets": [{"system": t.system, "id": t.id, "url": t.url, "status": t.status, "owner": t.owner} for t in tickets],
    }


def event_view(change: Outbox) -> dict[str, Any]:
    """The `event` of expressions: the change that started the run, with its data."""
    return {"kind": change.kind, "key": change.key, "time": iso(change.time), "data": change.data}
