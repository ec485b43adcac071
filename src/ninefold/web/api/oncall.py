"""On-call: who it is now, what was arranged, overrides, calendars in and out, pages."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from ninefold.ground.clock import MINUTE, now, parse
from ninefold.ground.errors import BadData, NotFound
from ninefold.oncall import arranging, calendar, view
from ninefold.oncall.plans import NAME_PATTERN, Contact, Person, Plan, Policy, Schedule, Team
from ninefold.oncall.roster import Roster
from ninefold.store.records.incidents import incident_number
from ninefold.store.records.oncall import Arrangement, Page
from ninefold.web.auth import AUDITED, Admin, Operator, Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["on-call"])
Json = dict[str, Any]
Name = Annotated[str, Path(pattern=NAME_PATTERN)]
Version = Annotated[int | None, Query(description="Refuses the change if somebody else came first; 0 for something new.")]
Days = Annotated[int, Query(ge=1, le=366, description="How far ahead.")]
_DAY = 1440 * MINUTE
_BEFORE, _AHEAD = 30 * _DAY, 180 * _DAY
"""What a calendar link shows."""


class ContactWanted(Contact):
    """A contact method; without `ask` that of the same name and action stays."""

    ask: dict[str, Any] | None = None  # type: ignore[assignment]


class PersonWanted(BaseModel):
    """How a person is reached."""

    contacts: list[ContactWanted] = Field(max_length=10)


class OverrideWanted(BaseModel):
    """Who stands in, and when."""

    person: str = Field(min_length=1, max_length=80)
    starts: str = Field("", description="RFC 3339; now when left out.")
    ends: str = Field(description="RFC 3339.")
    reason: str = Field("", max_length=500)


class CalendarWanted(BaseModel):
    """A calendar to read the schedule from; none when both are empty."""

    url: str = Field("", max_length=2000, description="Read every 15 minutes; it is not told again.")
    text: str = Field("", max_length=calendar.LIMIT_BYTES, description="An iCalendar file, read this once.")


class PageWanted(BaseModel):
    """Whom to page as a test."""

    person: str = Field(min_length=1, max_length=80)
    contact: str = Field("", max_length=80, description="All contact methods when left out.")


@router.get("/oncall")
def overview(actor: Viewer, app: TheApp, at: str = "", days: Days = 14) -> Json:
    """Who is on call now (or `at`) and in the coming days, with everything that was arranged."""
    start = _time(at) if at else now()
    with app.records.reading() as session:
        return view.overview(session, start, start + days * _DAY)


@router.get("/oncall/schedules/{name}.ics")
def shared(name: str, app: TheApp, token: Annotated[str, Query(max_length=100)] = "") -> Response:
    """A schedule as iCalendar, for whoever has its secret address."""
    at = now()
    with app.records.reading() as session:
        if not arranging.linked(session, name, token):
            raise NotFound("there is no such calendar, or its address was revoked")
        roster = Roster(session)
        plan, times = roster.all(Schedule)[name], roster.times(name, at - _BEFORE, at + _AHEAD)
    text = calendar.write(name, plan.title, times.shifts, at)
    return Response(text, media_type="text/calendar; charset=utf-8", headers={"Cache-Control": "no-store"})


@router.get("/oncall/schedules/{name}")
def schedule(name: str, actor: Viewer, app: TheApp, start: str = "", days: Days = 14) -> Json:
    """One schedule: its shifts, gaps and overrides."""
    at = now()
    begin = _time(start) if start else at
    with app.records.reading() as session:
        return view.schedule(session, name, begin, begin + days * _DAY, at)


@router.put("/oncall/schedules/{name}", dependencies=[AUDITED])
def save_schedule(name: Name, wanted: Schedule, actor: Admin, app: TheApp, version: Version = None) -> Json:
    """Make or change a schedule."""
    return _save(app, name, wanted, actor.name, version)


@router.put("/oncall/teams/{name}", dependencies=[AUDITED])
def save_team(name: Name, wanted: Team, actor: Admin, app: TheApp, version: Version = None) -> Json:
    """Make or change a team."""
    return _save(app, name, wanted, actor.name, version)


@router.put("/oncall/policies/{name}", dependencies=[AUDITED])
def save_policy(name: Name, wanted: Policy, actor: Admin, app: TheApp, version: Version = None) -> Json:
    """Make or change an escalation policy; escalations under way go on by what it was."""
    return _save(app, name, wanted, actor.name, version)


@router.put("/oncall/people/{name}", dependencies=[AUDITED])
def save_person(name: Name, wanted: PersonWanted, actor: Admin, app: TheApp, version: Version = None) -> Json:
    """Say how a person is reached."""
    with app.records.reading() as session:
        row = session.get(Arrangement, ("person", name))
        known = {(each["name"], each["uses"]): each["ask"] for each in (row.body["contacts"] if row else ())}
    contacts = tuple(
        Contact(**{**each.model_dump(), "ask": known.get((each.name, each.uses), {}) if each.ask is None else each.ask})
        for each in wanted.contacts
    )
    _save(app, name, Person(contacts=contacts), actor.name, version)
    with app.records.reading() as session:
        return next(each for each in view.people(session, Roster(session)) if each["name"] == name)


@router.delete("/oncall/{kind}/{name}", dependencies=[AUDITED], status_code=204)
def remove(kind: Annotated[str, Path(pattern="^(teams|schedules|policies|people)$")], name: Name, actor: Admin, app: TheApp) -> Response:
    """Take an arrangement away that nothing else needs."""
    words = {"teams": "team", "schedules": "schedule", "policies": "policy", "people": "person"}
    with app.records.session() as session:
        arranging.remove(session, words[kind], name, actor.name)
    return Response(status_code=204)


@router.post("/oncall/schedules/{name}/overrides", dependencies=[AUDITED], status_code=201)
def stand_in(name: str, wanted: OverrideWanted, actor: Operator, app: TheApp) -> Json:
    """Put somebody in place of whoever is on call."""
    starts = _time(wanted.starts) if wanted.starts else now()
    with app.records.session() as session:
        made = arranging.stand_in(session, name, wanted.person, starts, _time(wanted.ends), wanted.reason, actor.name)
        return view.override(made)


@router.delete("/oncall/schedules/{name}/overrides/{number}", dependencies=[AUDITED], status_code=204)
def stand_down(name: str, number: int, actor: Operator, app: TheApp) -> Response:
    """Take an override back."""
    with app.records.session() as session:
        arranging.stand_down(session, name, number, actor.name, now())
    return Response(status_code=204)


@router.put("/oncall/schedules/{name}/calendar", dependencies=[AUDITED])
async def take_calendar(name: str, wanted: CalendarWanted, actor: Admin, app: TheApp) -> Json:
    """Read a schedule from a calendar, at a URL from now on or once from a text."""
    if wanted.url and wanted.text:
        raise BadData("give a calendar's url or its text, not both")
    if wanted.url:
        app.oncall.fetching.checked(wanted.url)
    await asyncio.to_thread(_take_calendar, app, name, wanted, actor.name)
    problem = await app.oncall.fetching.refresh(name) if wanted.url else ""
    return {"schedule": name, "problem": problem}


@router.post("/oncall/schedules/{name}/link", dependencies=[AUDITED], status_code=201)
def link(name: str, actor: Operator, app: TheApp) -> Json:
    """Give a schedule a secret address for calendars; the one before ends. It is shown this once."""
    with app.records.session() as session:
        secret = arranging.link(session, name, actor.name)
    return {"path": f"/api/v1/oncall/schedules/{name}.ics?token={secret}"}


@router.delete("/oncall/schedules/{name}/link", dependencies=[AUDITED], status_code=204)
def unlink(name: str, actor: Operator, app: TheApp) -> Response:
    """End the secret address of a schedule."""
    with app.records.session() as session:
        arranging.unlink(session, name, actor.name)
    return Response(status_code=204)


@router.get("/oncall/pages")
def pages(actor: Viewer, app: TheApp, incident: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 50) -> Json:
    """The newest pages, of one incident or of all."""
    with app.records.reading() as session:
        return {"items": view.pages(session, incident_number(incident) if incident else None, limit)}


@router.post("/oncall/pages", dependencies=[AUDITED], status_code=202)
def test_page(wanted: PageWanted, actor: Operator, app: TheApp) -> Json:
    """Page somebody as a test."""
    numbers = app.oncall.paging.test(wanted.person, wanted.contact, actor.name)
    app.oncall.wake()
    with app.records.reading() as session:
        return {"items": [view.page(session.get_one(Page, number)) for number in numbers]}


@router.post("/oncall/pages/{number}/again", dependencies=[AUDITED], status_code=202)
def again(number: int, actor: Operator, app: TheApp) -> Json:
    """Send a page again that failed, or of which nobody knows whether it was delivered."""
    app.oncall.paging.again(number, actor.name)
    app.oncall.wake()
    with app.records.reading() as session:
        return view.page(session.get_one(Page, number))


def _save(app: TheApp, name: str, plan: Plan, actor: str, version: int | None) -> Json:
    with app.records.session() as session:
        row = arranging.save(session, name, plan, actor, app.connectors, version)
        return {"name": name, "version": row.version, **({} if plan.kind == "person" else row.body)}


def _take_calendar(app: TheApp, name: str, wanted: CalendarWanted, actor: str) -> None:
    if wanted.text:  # taken apart, and refused, before others wait for this transaction
        with app.records.reading() as session:
            view.readable(session, name, wanted.text)
    with app.records.session() as session:
        arranging.take_calendar(session, name, wanted.url, wanted.text, actor, now())


def _time(text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise BadData(f"a time cannot be read ({error}); write RFC 3339, e.g. 2026-01-02T03:04:05Z") from error
