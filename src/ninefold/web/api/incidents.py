"""Incidents, their story and their reasons; the topology; the figures above the list."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse, Response

from ninefold import __version__
from ninefold.incidents import handling, view
from ninefold.incidents.postmortem import draft
from ninefold.oncall.view import escalation
from ninefold.store.records.incidents import Incident, incident_key
from ninefold.web.api.workflows import approvals_of, runs_of
from ninefold.web.auth import AUDITED, Operator, Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["incidents"])
Json = dict[str, Any]


class Note(BaseModel):
    """A word for the timeline; `version` refuses the change if somebody else came first."""

    note: str = Field("", max_length=2000)
    version: int | None = None


class Assignment(Note):
    """Whose incident it is."""

    owner: str = Field(max_length=200)


class Rating(Note):
    """How bad it is."""

    severity: Literal["critical", "high", "warning", "info"]


class Ownership(Note):
    """Which teams it belongs to."""

    teams: list[str] = Field(max_length=20)


class Verdict(Note):
    """What the incident was worth."""

    verdict: Literal["useful", "noise", "wrong_cause"]
    entity: str = Field("", max_length=500, description="Of a wrong cause: which entity it was.")


@router.get("/summary")
def summary(actor: Viewer, app: TheApp) -> Json:
    """The figures of the whole installation."""
    with app.records.reading() as session:
        figures = view.summary(session)
    sources = app.traffic.table()
    delays = sorted(source.delay_p50_s for source in sources if source.delay_p50_s is not None and source.kind == "push")
    quarantined = app.store.query("select count() as n from quarantine where state = 'waiting'").column("n")[0].as_py()
    delay = delays[len(delays) // 2] if delays else None
    return figures | {"sources": len(sources), "quarantined": quarantined, "delay_s": delay, "version": __version__}


@router.get("/incidents")
def incidents(
    actor: Viewer,
    app: TheApp,
    status: Literal["open", "acknowledged", "mitigated", "resolved", "all"] = "open",
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    after: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Json:
    """Incidents, those that need you first; `after` is the `next` of the page before."""
    with app.records.reading() as session:
        return view.page(session, status, q.strip(), limit, after)


@router.get("/incidents/{key}")
def incident(key: str, actor: Viewer, app: TheApp) -> Json:
    """One incident with everything about it."""
    topology = app.incidents.topology()
    with app.records.reading() as session:
        found = view.find(session, key)
        return view.whole(session, found, topology) | {
            "runs": runs_of(session, found.id),
            "approvals": approvals_of(session, found.id),
            "escalation": escalation(session, found.id),
        }


@router.get("/incidents/{key}/timeline")
def timeline(key: str, actor: Viewer, app: TheApp) -> Json:
    """What happened, in order."""
    with app.records.reading() as session:
        return {"items": view.timeline(session, view.find(session, key))}


@router.get("/incidents/{key}/why")
def why(key: str, actor: Viewer, app: TheApp) -> Json:
    """Every decision behind this incident, with its reasons."""
    with app.records.reading() as session:
        return {"items": view.decisions(session, view.find(session, key))}


@router.get("/incidents/{key}/postmortem", response_class=PlainTextResponse)
def postmortem(key: str, actor: Viewer, app: TheApp) -> Response:
    """A post-mortem draft with the facts, as Markdown."""
    with app.records.reading() as session:
        found = view.find(session, key)
        text = draft(session, found)
    name = f'inline; filename="{incident_key(found.id)}.md"'
    return Response(text, media_type="text/markdown; charset=utf-8", headers={"Content-Disposition": name})


@router.post("/incidents/{key}/acknowledge", dependencies=[AUDITED])
def acknowledge(key: str, note: Note, actor: Operator, app: TheApp) -> Json:
    """Somebody is on it."""
    return _answer(app, app.incidents.acknowledge(key, actor.name, note.note, note.version))


@router.post("/incidents/{key}/resolve", dependencies=[AUDITED])
def resolve(key: str, note: Note, actor: Operator, app: TheApp) -> Json:
    """It is over."""
    return _answer(app, app.incidents.resolve(key, actor.name, note.note, note.version))


@router.post("/incidents/{key}/reopen", dependencies=[AUDITED])
def reopen(key: str, note: Note, actor: Operator, app: TheApp) -> Json:
    """It was not over."""
    return _answer(app, app.incidents.reopen(key, actor.name, note.note, note.version))


@router.post("/incidents/{key}/assign", dependencies=[AUDITED])
def assign(key: str, wanted: Assignment, actor: Operator, app: TheApp) -> Json:
    """Give it to somebody."""
    return _answer(app, app.incidents.assign(key, actor.name, wanted.owner, wanted.note, wanted.version))


@router.post("/incidents/{key}/mitigate", dependencies=[AUDITED])
def mitigate(key: str, note: Note, actor: Operator, app: TheApp) -> Json:
    """Users feel it no longer."""
    return _answer(app, app.incidents.handle(key, actor.name, "mitigated", handling.mitigate, note.note, note.version))


@router.post("/incidents/{key}/severity", dependencies=[AUDITED])
def severity(key: str, wanted: Rating, actor: Operator, app: TheApp) -> Json:
    """Say how bad it is; alerts do not change it any more."""
    return _answer(app, app.incidents.handle(key, actor.name, "severity", handling.rate(wanted.severity), wanted.note, wanted.version))


@router.post("/incidents/{key}/teams", dependencies=[AUDITED])
def teams(key: str, wanted: Ownership, actor: Operator, app: TheApp) -> Json:
    """Say which teams it belongs to."""
    return _answer(app, app.incidents.handle(key, actor.name, "teams", handling.give_to(wanted.teams), wanted.note, wanted.version))


@router.post("/incidents/{key}/verdict", dependencies=[AUDITED])
def verdict(key: str, wanted: Verdict, actor: Operator, app: TheApp) -> Json:
    """Say what it was worth: rules, and the search for causes, learn from it; `GET /detection/learned` shows what."""
    return _answer(app, app.incidents.verdict(key, actor.name, wanted.verdict, wanted.note, wanted.version, wanted.entity))


@router.get("/topology")
def topology(actor: Viewer, app: TheApp) -> Json:
    """Who needs whom, laid out, with what alerts now."""
    graph = app.incidents.topology()
    with app.records.reading() as session:
        return view.overview(session, graph)


def _answer(app: TheApp, changed: Incident) -> Json:
    app.workflows.wake()
    with app.records.reading() as session:
        return view.brief(session, changed)
