"""Merging incidents and splitting alerts out of one, by persons, and taking it back."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from sqlalchemy import select

from ninefold.app import App
from ninefold.ground.clock import iso, now
from ninefold.ground.errors import Conflict
from ninefold.incidents import regroup
from ninefold.incidents.regroup import Wish
from ninefold.model.signal import batch_of, event_id
from ninefold.store.records.incidents import incident_key, incident_number
from ninefold.store.records.regrouping import Regrouping
from ninefold.web.auth import AUDITED, Operator, Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["incidents"])
_SOURCE = "ninefold.console"
_EVERY_S, _TURNS = 0.05, 100
Key = Annotated[str, Field(pattern=r"^(INC-)?[0-9]{1,18}$")]
Mark = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S+$")]


class Merge(BaseModel):
    """Incidents that are the same problem."""

    incidents: list[Key] = Field(min_length=1, max_length=100, description="They become part of the one in the path.")
    note: str = Field("", max_length=2000)


class Split(BaseModel):
    """Alerts that are another problem."""

    alerts: list[Mark] = Field(min_length=1, max_length=500, description="Fingerprints of alerts of the incident.")
    note: str = Field("", max_length=2000)


class Regrouped(BaseModel):
    """A merge or a split."""

    id: int
    time: str
    deed: str = Field(description="merge or split")
    actor: str
    note: str
    into: str = Field(description="The incident the alerts are in since: the one that stays of a merge, the new one of a split.")
    incidents: list[str] = Field(description="Those they came from.")
    alerts: int = Field(description="How many alerts changed their incident.")
    title: str
    undone: str = Field(description='Who took it back, "" while it stands.')


class Accepted(BaseModel):
    """Kept in the journal; `done` says what came of it, null when it has not been its turn within 5 s."""

    event: str
    done: Regrouped | None


class Regroupings(BaseModel):
    """Merges and splits, the newest first."""

    items: list[Regrouped]


@router.post("/incidents/{key}/merge", dependencies=[AUDITED])
async def merge(key: Key, wanted: Merge, actor: Operator, app: TheApp) -> Accepted:
    """Make other incidents part of this one; `POST /regroupings/{id}/undo` gives exactly those of before."""
    others = tuple(incident_key(incident_number(other)) for other in wanted.incidents)
    wish = Wish("merge", actor.name, incident_key(incident_number(key)), others, note=wanted.note)
    return await _carry_out(app, wish)


@router.post("/incidents/{key}/split", dependencies=[AUDITED])
async def split(key: Key, wanted: Split, actor: Operator, app: TheApp) -> Accepted:
    """Put alerts of this incident into one of their own; they do not come back by themselves."""
    alerts = tuple(dict.fromkeys(wanted.alerts))
    return await _carry_out(app, Wish("split", actor.name, incident_key(incident_number(key)), alerts=alerts, note=wanted.note))


@router.get("/regroupings")
def regroupings(
    actor: Viewer,
    app: TheApp,
    incident: Annotated[str, Query(max_length=30, description="Only those about this incident.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Regroupings:
    """What persons merged and split."""
    touching = [incident_number(incident)] if incident else []
    with app.records.reading() as session:
        return Regroupings(items=[_shown(one) for one in regroup.listed(session, limit, touching)])


@router.post("/regroupings/{number}/undo", dependencies=[AUDITED])
async def undo(number: Annotated[int, Path(ge=1, lt=1 << 62)], actor: Operator, app: TheApp) -> Accepted:
    """Take a merge or a split back: the incidents are those of before; what came since follows its alert."""
    return await _carry_out(app, Wish("undo", actor.name, number=number))


async def _carry_out(app: App, wish: Wish) -> Accepted:
    """Through the front door, and wait for its turn: the follower decides in the order of the journal."""
    await asyncio.to_thread(_check, app, wish)
    time, said = now(), wish.attributes()
    number = event_id(_SOURCE, regroup.KIND, str(time), *said.values())
    title = f"{wish.actor} wants to {wish.deed} {wish.incident or wish.number}"
    row = {"id": number, "time": time, "kind": regroup.KIND, "source_id": number, "severity": "info", "title": title, "attributes": said}
    await app.emit([batch_of("event", _SOURCE, time, [row])], "own")
    for _ in range(_TURNS):
        found = await asyncio.to_thread(_found, app, number, wish.number)
        if found is not None:
            app.workflows.wake()
            return Accepted(event=number, done=found)
        await asyncio.sleep(_EVERY_S)
    return Accepted(event=number, done=None)


def _check(app: App, wish: Wish) -> None:
    with app.records.reading() as session:
        regroup.check(session, wish)


def _found(app: App, event: str, undone: int) -> Regrouped | None:
    with app.records.reading() as session:
        found = session.scalar(select(Regrouping).where(Regrouping.event_id == event))
        if found is None:
            return None
        if found.problem:
            raise Conflict(found.problem)
        return _shown(session.get_one(Regrouping, undone) if undone else found)


def _shown(one: Regrouping) -> Regrouped:
    return Regrouped(
        id=one.id, time=iso(one.time), deed=one.deed, actor=one.actor, note=one.note, into=incident_key(one.into),
        incidents=[incident_key(number) for number in one.incidents], alerts=one.alerts, title=one.before["title"], undone=one.undone,
    )  # fmt: skip
