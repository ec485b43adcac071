"""Why an event is where it is, in one call."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from ninefold.incidents import why as room
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["events"])
Json = dict[str, Any]
EventId = Annotated[str, InPath(min_length=1, max_length=200)]


class Belongs(BaseModel):
    """An incident the event is in."""

    id: str
    role: str = Field(description="alert, change, other")
    title: str
    status: str
    severity: str
    shown: bool = Field(description="false for one that is below the threshold of being shown")


class Fingerprint(BaseModel):
    """What makes it the same as others."""

    value: str
    made_of: list[str] = Field(description="the fields; none when the sender gave it")
    text: str


class Dedup(BaseModel):
    """Whether it is news."""

    verdict: str = Field(description='new, duplicate, resolved, unknown, single (not an alert), "" when something decided before')
    text: str


class Group(BaseModel):
    """An incident that was considered."""

    incident: str
    score: float
    because: list[Json] = Field(description="text and weight of each reason")


class Groups(BaseModel):
    """Where it was put, and what else was considered."""

    text: str
    items: list[Group]


class Muted(BaseModel):
    """A mute that fitted it."""

    id: str
    text: str = Field(description="its matchers")
    owner: str
    reason: str
    until: str
    state: str = Field(description="when the event came: active, pending, expired")
    hid: bool


class Mutes(BaseModel):
    """What hid it, or could have."""

    text: str
    items: list[Muted]


class Inhibited(BaseModel):
    """That another alert hid it while it fired."""

    rule: str
    by: str = Field(description="the fingerprint of the alert that fired")
    title: str


class Asked(BaseModel):
    """A workflow that was asked about its incident."""

    workflow: str
    incident: str
    change: str
    verdict: str = Field(description="started, observed, not_matched, skipped")
    reason: str
    run: int | None
    time: str


class Workflows(BaseModel):
    """What was done about it."""

    text: str
    items: list[Asked]


class Decision(BaseModel):
    """A row of the ledger."""

    time: str
    step: str
    text: str
    detail: Json


class Why(BaseModel):
    """The answer, by question."""

    event: Json = Field(description="as it is stored, with when it was received")
    outcome: str = Field(description="where it is and why, in one sentence")
    reading: list[str] = Field(description="normaliser and its version, fingerprint, entity, in words")
    normaliser: str = Field(description='"" for an event that came complete')
    format: str
    incidents: list[Belongs]
    fingerprint: Fingerprint
    dedup: Dedup
    groups: Groups
    mutes: Mutes
    inhibitions: list[Inhibited]
    workflows: Workflows
    decisions: list[Decision] = Field(description="all that were written down about this event, oldest first")


@router.get("/events/{key}/why")
def why(key: EventId, actor: Viewer, app: TheApp) -> Why:
    """How an event was read and recognised, which incidents were considered, what hid it, what workflows did; for every kind of event."""
    with app.records.reading() as session:
        row = room.find(app.store.query, session, key)
        found = room.why(session, row)
    version, _, format_ = row.attributes.get("ninefold.normaliser", "").partition(" ")
    return Why(reading=app.normaliser.explain(found["event"]), normaliser=version, format=format_, **found)
