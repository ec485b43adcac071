"""Alerts: their state, why each is where it is, and the rules and heartbeats that say when one counts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from ninefold.config import AlertRule, HeartbeatConfig
from ninefold.incidents import alerts as room
from ninefold.incidents import heartbeats
from ninefold.incidents.rules import HEARTBEAT, RULE
from ninefold.web.auth import AUDITED, Operator, Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["alerts"])
Json = dict[str, Any]
Name = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[^/\s][^/]*$")]
_VERSION = Field(None, description="The version that was read, 0 for one that is new; left out, what is there is replaced.")


class WantedRule(AlertRule):
    """A rule as somebody wants it."""

    version: int | None = _VERSION


class WantedHeartbeat(HeartbeatConfig):
    """A heartbeat as somebody wants it."""

    version: int | None = _VERSION


@router.get("/alerts")
def alerts(
    actor: Viewer,
    app: TheApp,
    state: Literal["firing", "acknowledged", "pending", "suppressed", "resolved", "expired", "all"] = "firing",
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    after: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Json:
    """Alerts, those that changed last first; `after` is the `next` of the page before."""
    with app.records.reading() as session:
        return room.page(session, state, q.strip(), limit, after)


@router.get("/alerts/rules")
def rules(actor: Viewer, app: TheApp) -> Json:
    """The rules in the order in which they are asked, those people saved before those of the configuration."""
    with app.records.reading() as session:
        return {"items": app.incidents.states.rules.listed(session, RULE)}


@router.put("/alerts/rules/{name}", dependencies=[AUDITED])
def save_rule(name: Name, wanted: WantedRule, actor: Operator, app: TheApp) -> Json:
    """Save a rule; it is asked of every event of an alert that comes from now on."""
    body = AlertRule.model_validate(wanted.model_dump(exclude={"version"}))
    return app.incidents.states.rules.save(RULE, name, body, actor.name, wanted.version)


@router.delete("/alerts/rules/{name}", dependencies=[AUDITED])
def remove_rule(name: Name, actor: Operator, app: TheApp) -> Json:
    """Take a rule away."""
    app.incidents.states.rules.remove(RULE, name, actor.name)
    return {"name": name}


@router.get("/alerts/heartbeats")
def beats(actor: Viewer, app: TheApp) -> Json:
    """Heartbeats with what was heard of each: waiting (not heard yet), beating, late."""
    with app.records.reading() as session:
        return {"items": heartbeats.shown(session, app.incidents.states.rules.listed(session, HEARTBEAT))}


@router.put("/alerts/heartbeats/{name}", dependencies=[AUDITED])
def save_heartbeat(name: Name, wanted: WantedHeartbeat, actor: Operator, app: TheApp) -> Json:
    """Save a heartbeat; it is waited for from now on."""
    body = HeartbeatConfig.model_validate(wanted.model_dump(exclude={"version"}))
    return app.incidents.states.rules.save(HEARTBEAT, name, body, actor.name, wanted.version)


@router.delete("/alerts/heartbeats/{name}", dependencies=[AUDITED])
def remove_heartbeat(name: Name, actor: Operator, app: TheApp) -> Json:
    """Wait for a heartbeat no longer; an alert that it was late ends."""
    app.incidents.states.rules.remove(HEARTBEAT, name, actor.name)
    return {"name": name}


@router.get("/alerts/{fingerprint}")
def alert(fingerprint: str, actor: Viewer, app: TheApp) -> Json:
    """One alert, and every decision on it in `why`."""
    with app.records.reading() as session:
        return room.whole(session, fingerprint)
