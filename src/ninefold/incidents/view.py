"""What people see of incidents: plain dictionaries in the API's form, read from the records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.orm import Session

from ninefold.analytics.layout import layout
from ninefold.ground.clock import SECOND, iso, now
from ninefold.ground.errors import NotFound
from ninefold.model.severity import SEVERITIES
from ninefold.model.topology import Topology
from ninefold.store.records.incidents import (
    ACKNOWLEDGED,
    OPEN,
    RESOLVED,
    AlertState,
    Incident,
    IncidentEvent,
    Ledger,
    Ticket,
    Timeline,
    incident_key,
    incident_number,
)
from ninefold.store.records.workflows import Approval

_EVENTS, _LINES, _DECISIONS = 500, 1000, 1000
_MAP_NODES = 40
_SIMILAR = 5
_LOOK_BACK = 500
_WEEK_NS = 7 * 86400 * SECOND


def shown() -> ColumnElement[bool]:
    """The condition for incidents people see: neither below the threshold nor merged into another."""
    return ~Incident.pending & Incident.merged_into.is_(None)


def page(session: Session, status: str, search: str, limit: int, offset: int) -> dict[str, Any]:
    """A page of incidents: those that wait for an approval first, then open ones by severity, then the newest."""
    waiting = select(Approval.incident).where(Approval.status == "waiting")
    rank = case(
        (Incident.id.in_(waiting) & (Incident.status != RESOLVED), 0),
        (Incident.status == OPEN, 1 + case({word: i for i, word in enumerate(SEVERITIES)}, value=Incident.severity, else_=len(SEVERITIES))),
        (Incident.status == ACKNOWLEDGED, 8),
        else_=9,
    )
    wanted = select(Incident).where(shown()).order_by(rank, Incident.opened.desc(), Incident.id.desc()).limit(limit + 1).offset(offset)
    if status != "all":
        wanted = wanted.where(Incident.status == status)
    if search:
        like = f"%{search.replace('%', '').replace('_', r'_')}%"
        number = search.upper().removeprefix("INC-")
        matches = [Incident.title.ilike(like), Incident.entity.ilike(like)] + ([Incident.id == int(number)] if number.isdecimal() else [])
        wanted = wanted.where(or_(*matches))
    found = list(session.scalars(wanted))
    counts = dict(session.execute(select(Incident.status, func.count()).where(shown()).group_by(Incident.status)).all())
    return {
        "items": _briefs(session, found[:limit]),
        "next": str(offset + limit) if len(found) > limit else None,
        "counts": {name: counts.get(name, 0) for name in (OPEN, ACKNOWLEDGED, RESOLVED)} | {"all": sum(counts.values())},
    }


def find(session: Session, key: str) -> Incident:
    """An incident by ``INC-12``; one that was merged gives the incident it went into.

    Raises:
        NotFound: there is none.
    """
    incident = session.get(Incident, incident_number(key))
    while incident is not None and incident.merged_into is not None:
        incident = session.get(Incident, incident.merged_into)
    if incident is None:
        raise NotFound(f"there is no incident {key}")
    return incident


def brief(session: Session, incident: Incident) -> dict[str, Any]:
    """One incident as it stands in a list."""
    return _briefs(session, [incident])[0]


def whole(session: Session, incident: Incident, topology: Topology) -> dict[str, Any]:
    """One incident with its cause, its events, its map, its tickets and what it resembles."""
    of = select(IncidentEvent.event).where(IncidentEvent.incident == incident.id).order_by(IncidentEvent.time)
    tickets = session.scalars(select(Ticket).where(Ticket.incident == incident.id))
    return brief(session, incident) | {
        "verdict": incident.verdict or "undetermined",
        "reason": incident.reason or "The cause has not been looked for yet.",
        "candidates": incident.analysis.get("candidates", []),
        "patterns": incident.analysis.get("patterns", []),
        "charts": incident.analysis.get("charts", []),
        "events": list(session.scalars(of.where(IncidentEvent.role == "alert").limit(_EVENTS))),
        "changes": list(session.scalars(of.where(IncidentEvent.role == "change").limit(_EVENTS))),
        "map": incident_map(session, incident, topology),
        "similar": similar(session, incident),
        "tickets": [{"system": t.system, "id": t.id, "url": t.url, "status": t.status} for t in tickets],
    }


def timeline(session: Session, incident: Incident) -> list[dict[str, Any]]:
    """The incident's story, oldest first."""
    rows = session.scalars(select(Timeline).where(Timeline.incident == incident.id).order_by(Timeline.time, Timeline.id).limit(_LINES))
    names = ("kind", "title", "body", "actor", "source", "entity", "severity")
    return [{"time": iso(row.time), **{name: getattr(row, name) for name in names}} for row in rows]


def decisions(session: Session, incident: Incident) -> list[dict[str, Any]]:
    """Every decision that made this incident what it is, oldest first."""
    rows = session.scalars(select(Ledger).where(Ledger.incident == incident.id).order_by(Ledger.time, Ledger.id).limit(_DECISIONS))
    return [{"time": iso(row.time), "step": row.step, "text": row.text, "detail": row.detail} for row in rows]


def similar(session: Session, incident: Incident) -> list[dict[str, Any]]:
    """Earlier incidents of the same shape: the Jaccard similarity of their (entity, rule) pairs, best first."""
    mine = set(incident.rules)
    others = select(Incident).where(shown(), Incident.id != incident.id, Incident.opened <= incident.opened)
    found = []
    for other in session.scalars(others.order_by(Incident.opened.desc()).limit(_LOOK_BACK)):
        theirs = set(other.rules)
        if common := len(mine & theirs):
            found.append((common / len(mine | theirs), other))
    found.sort(key=lambda pair: (-pair[0], -pair[1].opened))
    return [
        {
            "id": incident_key(other.id), "title": other.title, "opened": iso(other.opened),
            "resolved": iso(other.resolved) if other.resolved else None, "cause": other.cause, "fixed_by": other.fixed_by,
            "score": round(score, 2),
        }
        for score, other in found[:_SIMILAR]
    ]  # fmt: skip


def incident_map(session: Session, incident: Incident, topology: Topology) -> dict[str, Any]:
    """The affected part of the topology: what alerted, the cause, and their neighbours."""
    alerting = set(session.scalars(select(AlertState.entity).where(AlertState.incident == incident.id).distinct())) - {""}
    cause = str(incident.cause["entity"]) if incident.cause else ""
    core = alerting | ({cause} if cause else set())
    around = {other for name in core for other in (*topology.needs.get(name, ()), *topology.needed_by.get(name, ()))} - core
    between = sorted(around, key=lambda name: (-len(core & (topology.needs.get(name, set()) | topology.needed_by.get(name, set()))), name))
    named = [cause] * bool(cause) + sorted(alerting - {cause}) + between
    states = {name: "cause" if name == cause else "affected" if name in alerting else "silent" for name in named[:_MAP_NODES]}
    return drawn(topology, states)


def drawn(topology: Topology, states: Mapping[str, str]) -> dict[str, Any]:
    """The edges among some entities, laid out; `states` maps entity -> cause, affected, silent or healthy."""
    edges = [key for key in topology.relations if key[0] in states and key[1] in states]
    places = layout(states, [(a, b) for a, b, _ in edges])
    hit = {name for name, state in states.items() if state in ("cause", "affected")}
    return {
        "nodes": [
            {"id": name, "label": name.partition(":")[2], "x": round(place.x, 4), "y": round(place.y, 4), "state": states[name]}
            for name, place in places.items()
        ],
        "edges": [{"from": a, "to": b, "kind": kind, "affected": a in hit and b in hit} for a, b, kind in edges],
    }


def overview(session: Session, topology: Topology) -> dict[str, Any]:
    """The whole topology with what alerts now; the busiest entities when it is large."""
    active = select(AlertState.entity).join(Incident, Incident.id == AlertState.incident)
    alerting = set(session.scalars(active.where(AlertState.status == "firing", Incident.status != RESOLVED).distinct()))
    degree = {name: len(topology.needs[name]) + len(topology.needed_by[name]) for name in topology.entities()}
    names = sorted(degree, key=lambda name: (name not in alerting, -degree[name], name))[: 4 * _MAP_NODES]
    return drawn(topology, {name: "affected" if name in alerting else "healthy" for name in names})


def summary(session: Session) -> dict[str, Any]:
    """The figures above the list; times are medians over the last seven days."""
    counts = dict(session.execute(select(Incident.status, func.count()).where(shown()).group_by(Incident.status)).all())
    total = sum(counts.values())
    alerts = session.scalar(select(func.coalesce(func.sum(Incident.alerts), 0)).where(Incident.merged_into.is_(None))) or 0
    recent = session.execute(
        select(Incident.opened, Incident.acknowledged, Incident.resolved).where(shown(), Incident.opened > now() - _WEEK_NS)
    ).all()
    return {
        "open": counts.get(OPEN, 0), "acknowledged": counts.get(ACKNOWLEDGED, 0), "resolved": counts.get(RESOLVED, 0), "all": total,
        "alerts": alerts, "incidents": total, "noise_cut": 1 - total / alerts if alerts else None,
        "time_to_acknowledge_s": _median((row[1] - row[0]) for row in recent if row[1]),
        "time_to_resolve_s": _median((row[2] - row[0]) for row in recent if row[2]),
        "approvals_waiting": session.scalar(select(func.count()).select_from(Approval).where(Approval.status == "waiting")) or 0,
    }  # fmt: skip


def _median(durations: Iterable[int]) -> float | None:
    values = [duration / SECOND for duration in durations if duration >= 0]
    return round(median(values), 3) if values else None


def _briefs(session: Session, incidents: Sequence[Incident]) -> list[dict[str, Any]]:
    numbers = [incident.id for incident in incidents]
    asked = set(session.scalars(select(Approval.incident).where(Approval.status == "waiting", Approval.incident.in_(numbers))))
    return [_brief(incident, incident.id in asked) for incident in incidents]


def _brief(incident: Incident, asked: bool) -> dict[str, Any]:
    needs = "approval" if asked else "acknowledge" if incident.status == OPEN else ""
    return {
        "id": incident_key(incident.id), "title": incident.title, "status": incident.status, "severity": incident.severity,
        "entity": incident.entity, "alerts": incident.alerts, "entities": incident.entities, "opened": iso(incident.opened),
        "acknowledged": iso(incident.acknowledged) if incident.acknowledged else None,
        "resolved": iso(incident.resolved) if incident.resolved else None, "last_event": iso(incident.last_event),
        "owner": incident.owner, "confidence": incident.confidence, "cause": incident.cause, "needs": needs, "truth": incident.truth,
        "feedback": incident.feedback, "version": incident.version,
    }  # fmt: skip
