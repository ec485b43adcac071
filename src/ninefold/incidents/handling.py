"""What persons say of an incident besides acknowledging and resolving it: mitigated, of another severity, of these teams.

Each function gives a deed for `Incidents.handle`: it changes the incident and returns the line of its story.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ninefold.ground.clock import now
from ninefold.ground.errors import Conflict, Refused
from ninefold.model.severity import SEVERITIES
from ninefold.store.records.incidents import MITIGATED, RESOLVED, Incident, incident_key

Deed = Callable[[Incident, str], str]
"""Takes the incident and the name of who does it."""


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
