"""Incidents as people and programs see them: plain JSON values, times as RFC 3339 text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.orm import Session

from ninefold.analytics.alerts import layout
from ninefold.ground.clock import SECOND, iso
from ninefold.ground.errors import NotFound
from ninefold.incidents.similar import alike
from ninefold.model.severity import SEVERITIES
from ninefold.model.topology import Topology
from ninefold.store.records.incidents import (
    OPEN,
    RESOLVED,
    STATUSES,
    UNRESOLVED,
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

Json = dict[str, Any]

_EVENTS, _LINES, _DECISIONS, _EXPLAINED = 500, 2000, 2000, 200
_STEPS = ("normalise", "fingerprint", "dedup", "correlate", "mute", "cause", "page", "workflow")
_SHOWN = (~Incident.pending, Incident.merged_into.is_(None))


def find(session: Session, key: str) -> Incident:
    """The incident with this key, ``INC-12`` or ``12``.

    Raises:
        NotFound: there is none.
    """
    incident = session.get(Incident, incident_number(key))
    if incident is None:
        raise NotFound(f"there is no incident {key!r}")
    return incident


def brief(session: Session, incident: Incident) -> Json:
    """One incident as it stands in a list."""
    return _briefs(session, [incident])[0]


def _briefs(session: Session, incidents: Sequence[Incident]) -> list[Json]:
    waiting = _waiting(session, [incident.id for incident in incidents])
    return [_brief(incident, incident.id in waiting) for incident in incidents]


def _waiting(session: Session, numbers: Sequence[int]) -> set[int]:
    asked = select(Approval.incident).where(Approval.status == "waiting", Approval.incident.in_(numbers))
    return {number for number in session.scalars(asked) if number is not None}


def _brief(incident: Incident, waiting: bool) -> Json:
    return {
        "id": incident_key(incident.id), "title": incident.title, "status": incident.status, "severity": incident.severity,
        "entity": incident.entity, "alerts": incident.alerts, "entities": incident.entities, "opened": iso(incident.opened),
        "acknowledged": _time(incident.acknowledged), "resolved": _time(incident.resolved), "last_event": iso(incident.last_event),
        "owner": incident.owner, "teams": incident.teams, "mitigated": _time(incident.mitigated),
        "confidence": incident.confidence, "cause": incident.cause,
        "needs": "approval" if waiting else "acknowledge" if incident.status == OPEN else "",
        "truth": incident.truth, "feedback": incident.feedback, "version": incident.version,
        "merged_into": incident_key(incident.merged_into) if incident.merged_into else None,
    }  # fmt: skip


def _time(time: int | None) -> str | None:
    return iso(time) if time else None


def page(session: Session, status: str, q: str, limit: int, after: int) -> Json:
    """A page of incidents, those that need somebody first: waiting approvals, open ones by severity, then the newest."""
    wanted = [*_SHOWN, *_matching(q)]
    if status != "all":
        wanted.append(Incident.status == status)
    asked = select(Approval.incident).where(Approval.status == "waiting", Approval.incident.is_not(None))
    rank = case({word: place for place, word in enumerate(SEVERITIES)}, value=Incident.severity, else_=len(SEVERITIES))
    stage = case({word: place for place, word in enumerate(STATUSES)}, value=Incident.status, else_=len(STATUSES))
    order = (
        case((Incident.id.in_(asked), 0), else_=1),
        stage,
        case((Incident.status == OPEN, rank), else_=0),
        Incident.last_event.desc(),
        Incident.id.desc(),
    )
    found = session.scalars(select(Incident).where(*wanted).order_by(*order).offset(after).limit(limit + 1)).all()
    more = str(after + limit) if len(found) > limit else None
    return {"items": _briefs(session, found[:limit]), "next": more, "counts": _counts(session, q)}


def _matching(q: str) -> list[ColumnElement[bool]]:
    if not q:
        return []
    text = [column.icontains(q, autoescape=True) for column in (Incident.title, Incident.entity, Incident.owner)]
    with suppress(NotFound):
        text.append(Incident.id == incident_number(q))
    return [or_(*text)]


def _counts(session: Session, q: str) -> Json:
    rows = session.execute(select(Incident.status, func.count()).where(*_SHOWN, *_matching(q)).group_by(Incident.status))
    counts = dict.fromkeys(STATUSES, 0) | dict(rows.all())
    return counts | {"all": sum(counts.values())}


def summary(session: Session) -> Json:
    """The figures of all incidents: how many, how much noise was cut, how fast people and problems were.

    `noise_cut` is 1 - incidents shown / alert events; both counts stand beside it. Mean times are over incidents that were
    acknowledged or resolved.
    """
    counts = _counts(session, "")
    alerts = session.scalar(select(func.sum(Incident.alerts)).where(Incident.merged_into.is_(None))) or 0
    means = []
    for moment in (Incident.acknowledged, Incident.resolved):
        mean = session.scalar(select(func.avg(moment - Incident.opened)).where(*_SHOWN, moment >= Incident.opened))
        means.append(float(mean) / SECOND if mean is not None else None)
    waiting = session.scalar(select(func.count()).select_from(Approval).where(Approval.status == "waiting")) or 0
    return {
        **counts, "incidents": counts["all"], "alerts": alerts, "noise_cut": 1 - counts["all"] / alerts if alerts else None,
        "time_to_acknowledge_s": means[0], "time_to_resolve_s": means[1], "approvals_waiting": waiting,
    }  # fmt: skip


def whole(session: Session, incident: Incident, topology: Topology) -> Json:
    """One incident with everything about it but its runs and approvals."""
    affected = {pair.partition("|")[0] for pair in incident.rules} - {""}
    cause = (incident.cause or {}).get("entity", "")
    tickets = session.scalars(select(Ticket).where(Ticket.incident == incident.id).order_by(Ticket.system, Ticket.id))
    return {
        **brief(session, incident),
        "verdict": incident.verdict or "undetermined",
        "reason": incident.reason or ("" if incident.verdict else "the analysis has not come this far yet"),
        "candidates": incident.analysis.get("candidates", []),
        "patterns": incident.analysis.get("patterns", []),
        "charts": incident.analysis.get("charts", []),
        "events": _events(session, incident.id, "alert"),
        "changes": _events(session, incident.id, "change"),
        "map": layout.draw(topology, affected | ({cause} if cause else set()), cause),
        "similar": alike(session, incident),
        "tickets": [{"system": t.system, "id": t.id, "url": t.url, "status": t.status, "owner": t.owner} for t in tickets],
    }


def _events(session: Session, number: int, role: str) -> list[Json]:
    rows = select(IncidentEvent.event).where(IncidentEvent.incident == number, IncidentEvent.role == role)
    return list(session.scalars(rows.order_by(IncidentEvent.time, IncidentEvent.id).limit(_EVENTS)))


def timeline(session: Session, incident: Incident) -> list[Json]:
    """What happened, in order of event time."""
    rows = session.scalars(select(Timeline).where(Timeline.incident == incident.id).order_by(Timeline.time, Timeline.id).limit(_LINES))
    return [
        {"time": iso(row.time), "kind": row.kind, "title": row.title, "body": row.body, "actor": row.actor, "source": row.source,
         "entity": row.entity, "severity": row.severity}
        for row in rows
    ]  # fmt: skip


def decisions(session: Session, incident: Incident) -> list[Json]:
    """Every decision behind an incident, with its reason: how its events were read and recognised, and where they were put."""
    rows = session.scalars(select(Ledger).where(Ledger.incident == incident.id).order_by(Ledger.time, Ledger.id).limit(_DECISIONS))
    items = [(row.time, _STEPS.index(row.step) if row.step in _STEPS else len(_STEPS), decision(row)) for row in rows]
    events = select(IncidentEvent).where(IncidentEvent.incident == incident.id, IncidentEvent.role == "alert").order_by(IncidentEvent.time)
    for event in session.scalars(events.limit(_EXPLAINED)):
        items += [(event.time, place, item) for place, item in enumerate(_read(event.event))]
    return [item for _, _, item in sorted(items, key=lambda entry: entry[:2])]


def decision(row: Ledger) -> Json:
    """One decision in the API's form."""
    return {"time": iso(row.time), "step": row.step, "text": row.text, "detail": {"event": row.event_id, **row.detail}}


def _read(event: Json) -> Iterable[Json]:
    attributes = event["attributes"]
    version, _, format_ = attributes.get("ninefold.normaliser", "").partition(" ")
    how = f"read by normaliser {version} as {format_}" if version else "came as a complete event"
    where = f"it is about {event['entity']}" if event["entity"] else "it names no entity, so it is never grouped with others"
    made_of = attributes.get("ninefold.fingerprint", "")
    parts = "given by the sender" if made_of in ("", "sender") else f"made of {made_of}"
    texts = (f"{event['title']}: {how}; {where}", f"fingerprint {event.get('fingerprint', '')} is {parts}")
    for step, text in zip(_STEPS, texts, strict=False):
        yield {"time": event["time"], "step": step, "text": text, "detail": {"event": event["id"]}}


def overview(session: Session, topology: Topology) -> Json:
    """The whole topology (its first entities when it is large), with what has open alerts."""
    unresolved = Incident.status.in_(UNRESOLVED) & ~Incident.pending
    alerting = select(AlertState.entity).join(Incident, Incident.id == AlertState.incident)
    affected = set(session.scalars(alerting.where(unresolved, AlertState.status != RESOLVED).distinct())) - {""}
    known = [entity for entity in topology.entities() if entity not in affected]
    drawn = layout.draw(topology, affected | set(known[: max(0, 200 - len(affected))]), limit=200)
    for node in drawn["nodes"]:
        node["state"] = "affected" if node["id"] in affected else "healthy"
    seen: dict[str, tuple[int, int]] = {}
    for relation in topology.relations.values():
        for entity in (relation.from_entity, relation.to_entity):
            first, last = seen.get(entity, (relation.first_seen, relation.last_seen))
            seen[entity] = min(first, relation.first_seen), max(last, relation.last_seen)
    pairs = {(r.from_entity, r.to_entity, r.kind): (r.first_seen, r.last_seen) for r in topology.relations.values()}
    for edge in drawn["edges"]:
        edge["affected"] = edge["from"] in affected and edge["to"] in affected
        edge["first_seen"], edge["last_seen"] = map(_time, pairs.get((edge["from"], edge["to"], edge["kind"]), (0, 0)))
    for node in drawn["nodes"]:
        node["first_seen"], node["last_seen"] = map(_time, seen.get(node["id"], (0, 0)))
    return drawn
