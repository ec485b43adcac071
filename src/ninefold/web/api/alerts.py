"""Alerts: their state, and why each is where it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from ninefold.incidents import alerts as room
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["alerts"])
Json = dict[str, Any]


@router.get("/alerts")
def alerts(
    actor: Viewer,
    app: TheApp,
    status: Literal["firing", "suppressed", "resolved", "all"] = "firing",
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    after: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Json:
    """Alerts, those that changed last first; `after` is the `next` of the page before."""
    with app.records.reading() as session:
        return room.page(session, status, q.strip(), limit, after)


@router.get("/alerts/{fingerprint}")
def alert(fingerprint: str, actor: Viewer, app: TheApp) -> Json:
    """One alert, and every decision on it in `why`."""
    with app.records.reading() as session:
        return room.whole(session, fingerprint)
