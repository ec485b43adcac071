"""Past incidents like this one, with the reasons and what fixed them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from ninefold.incidents import view
from ninefold.incidents.similar import brief, remedies, similar
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["incidents"])


class Remedy(BaseModel):
    """One thing that was done about an incident."""

    time: str = Field(description="when, RFC 3339")
    kind: str = Field(description="run, change, or what somebody did: acknowledged, mitigated, resolved, verdict, ...")
    text: str = Field(description="the workflow, the change's title, or what was said")
    actor: str = Field(description="who or what did it")
    status: str = Field(description="how a run ended; empty for the rest")


class Similar(BaseModel):
    """An earlier incident."""

    id: str
    title: str
    opened: str
    resolved: str | None
    cause: str = Field(description="the entity it was laid to; empty when undetermined")
    fixed_by: str = Field(description="what was said to have fixed it when it was resolved")
    score: float = Field(description="how alike, 0 to 1; rare things in common count more", ge=0, le=1)
    reasons: list[str] = Field(description="why, in words")
    remedies: list[Remedy] = Field(description="what was done until it was resolved, in order")


class Similars(BaseModel):
    """Most alike first."""

    items: list[Similar]


@router.get("/incidents/{key}/similar")
def incidents_like(key: str, actor: Viewer, app: TheApp, limit: Annotated[int, Query(ge=1, le=20)] = 5) -> Similars:
    """The incidents before this one that are most like it, why, and what fixed them; the last 500 are compared."""
    with app.records.reading() as session:
        found = similar(session, view.find(session, key), limit)
        items = [Similar(**brief(like), remedies=[Remedy(**done) for done in remedies(session, like.incident)]) for like in found]
    return Similars(items=items)
