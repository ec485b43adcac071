"""What persons say of an incident besides acknowledging and resolving it: mitigated, of another severity, of these teams.

Each function gives a deed for `Incidents.handle`: it changes the incident and returns the line of its story.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.ground.clock import now
from ninefold.ground.errors import Conflict, Refused
from ninefold.incidents.teaching import lessons_of
from ninefold.model.severity import SEVERITIES
from ninefold.store.records.incidents import MITIGATED, RESOLVED, Incident, IncidentEvent, incident_key

VERDICTS = ("useful", "noise", "wrong_cause")
_MARKS = 50
"""Of an incident of more anomalies no more than so many are told to those who learn from its outcome."""
Deed = Callable[[Incident, str], str]
"""Takes the incident and the name of who does it."""


def standing(incident: Incident) -> dict[str, Any]:
    """What persons change of an incident, as it is now."""
    return {name: getattr(incident, name) for name in ("status", "owner", "severity", "teams", "verdict", "fixed_by")}


def mitigate(incident: Incident, actor: str) -> str:
    """Users feel it no longer; what caused it may still be there. Who says so has seen it, so it counts as acknowledged.

    Raises:
        Conflict: it is mitigated or resolved already.
    """
    if incident.status in (MITIGATED, RESOLVED):
        raise Conflict(f"{incident_key(incident.id)} is {incident.status} already")
    at = now()
    incident.status, incident.mitigated, incident.acknowledged = MITIGATED, at, incident.acknowledged or at
    incident.owner = incident.owner or actor
    return f"Mitigated by {actor}"


def rate(severity: str) -> Deed:
    """Another severity, which alerts no longer change."""

    def deed(incident: Incident, actor: str) -> str:
        if severity not in SEVERITIES:
            raise Refused(f"the severity {severity!r} is not known; use one of {', '.join(SEVERITIES)}")
        before, incident.severity, incident.rated = incident.severity, severity, True
        return f"Severity changed from {before} to {severity} by {actor}"

    return deed


def give_to(teams: Sequence[str]) -> Deed:
    """The teams it belongs to from now on."""

    def deed(incident: Incident, actor: str) -> str:
        incident.teams = list(dict.fromkeys(teams))
        return f"Given to {', '.join(incident.teams)} by {actor}" if teams else f"Taken from its teams by {actor}"

    return deed


def judge(verdict: str, entity: str = "") -> Deed:
    """What a person thinks of it; of a wrong cause also which entity it was, "" when nobody knows.

    Raises:
        Refused: the verdict is not one of these words, or an entity is named that does not go with it.
    """
    if verdict not in VERDICTS:
        raise Refused(f"the verdict {verdict!r} is not known; use one of {', '.join(VERDICTS)}")
    if entity and verdict != "wrong_cause":
        raise Refused(f"the verdict {verdict} names no entity; leave it out, or say wrong_cause")

    def deed(incident: Incident, actor: str) -> str:
        incident.feedback, incident.right_cause = verdict, entity
        return f"{actor} says: {verdict.replace('_', ' ')}{f', it was {entity}' if entity else ''}"

    return deed


def outcome(session: Session, incident: Incident) -> dict[str, Any]:
    """What became of an incident, for those who learn from it: the anomalies in it, what people said, whether anybody took it up."""
    wanted = select(IncidentEvent.fingerprint).where(
        IncidentEvent.incident == incident.id, IncidentEvent.kind == "anomaly", IncidentEvent.fingerprint != ""
    )
    marks = session.scalars(wanted.distinct().order_by(IncidentEvent.fingerprint).limit(_MARKS))
    handled = bool(incident.acknowledged or incident.owner or incident.feedback)
    return {"fingerprints": " ".join(marks), "feedback": incident.feedback, "handled": "yes" if handled else "", **lessons_of(incident)}
