"""Mutes and inhibitions: what they hide now, and what one would have hidden."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.config import Inhibition
from ninefold.ground.clock import MINUTE, iso, now, parse
from ninefold.ground.errors import BadData
from ninefold.incidents import preview as before
from ninefold.incidents.mutes import Wish, kind_of, matchers_of, state_of
from ninefold.incidents.rules import INHIBITION
from ninefold.incidents.windows import window
from ninefold.model.matcher import Matcher, checked
from ninefold.store.records.mutes import HiddenAlert, Mute
from ninefold.web.auth import AUDITED, Operator, Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["mutes"])
Json = dict[str, Any]
_EXAMPLES, _LISTED = 20, 5000


class Condition(BaseModel):
    """A condition on a label; `alertname`, `entity`, `severity`, `source` and `kind` are there for every alert."""

    name: str = Field(min_length=1, max_length=500)
    op: Literal["=", "!=", "=~", "!~"] = "="
    value: str = Field(max_length=10_000)


class Scope(BaseModel):
    """The alerts that are meant: all conditions hold."""

    matchers: list[Condition] = Field(min_length=1, max_length=50)


class Wanted(Scope):
    """A mute: once from `starts` to `ends`, or, with an `rrule`, for `duration_s` again and again between them."""

    starts: str = Field("", description="RFC 3339; now when left out.")
    ends: str = Field(description="RFC 3339.")
    rrule: str = Field(
        "", max_length=500, description="RFC 5545, daily or rarer, e.g. FREQ=WEEKLY;BYDAY=SU; the first one begins at `starts`."
    )
    duration_s: int = Field(0, ge=0)
    timezone: str = Field("UTC", max_length=100, description="Whose wall clock a recurring mute follows.")
    owner: str = Field("", max_length=200, description="Whom to ask; who sends it when left out.")
    reason: str = Field(min_length=1, max_length=2000)


class WantedInhibition(Inhibition):
    """An inhibition as somebody wants it."""

    version: int | None = Field(None, description="As it was read, 0 for a new one; a change since then is a conflict.")


Name = Annotated[str, InPath(min_length=1, max_length=100, pattern=r"^[^\s/][^/]*$")]


@router.get("/mutes")
def mutes(
    actor: Viewer,
    app: TheApp,
    state: Literal["active", "pending", "expired", "all"] = "all",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Json:
    """Mutes, those first that hold now, with what each hides now."""
    with app.records.reading() as session:
        return listed(session, now(), state, limit)


def listed(session: Session, at: int, state: str, limit: int) -> Json:
    """Mutes by their state at a time (ns) in the API's form."""
    found = session.scalars(select(Mute).order_by(Mute.ends.desc(), Mute.id).limit(_LISTED)).all()
    aside = session.scalars(select(HiddenAlert)).all()
    hides: dict[str, list[HiddenAlert]] = {}
    for each in aside:
        for key in each.mutes:
            hides.setdefault(key, []).append(each)
    items = [_shown(mute, at, hides.get(mute.id, [])) for mute in found]
    counts = {word: sum(item["state"] == word for item in items) for word in ("active", "pending", "expired")}
    items.sort(key=lambda item: ("active", "pending", "expired").index(item["state"]))
    return {"items": [item for item in items if state in ("all", item["state"])][:limit], "counts": counts, "hidden": len(aside)}


@router.post("/mutes", dependencies=[AUDITED], status_code=201)
def create(wanted: Wanted, actor: Operator, app: TheApp) -> Json:
    """Mute something."""
    return _shown(app.incidents.mutes.create(_wish(wanted, actor.name), actor.name), now(), [])


@router.put("/mutes/{key}", dependencies=[AUDITED])
def change(key: str, wanted: Wanted, actor: Operator, app: TheApp) -> Json:
    """Change a mute; other matchers, or a mute that is over, make a new one."""
    return _shown(app.incidents.mutes.change(key, _wish(wanted, actor.name), actor.name), now(), [])


@router.delete("/mutes/{key}", dependencies=[AUDITED])
def expire(key: str, actor: Operator, app: TheApp) -> Json:
    """End a mute now; what still fires is seen again."""
    return _shown(app.incidents.mutes.expire(key, actor.name), now(), [])


@router.get("/inhibitions")
def inhibitions(actor: Viewer, app: TheApp) -> Json:
    """Inhibitions with what each hides now, those people saved before those of the configuration."""
    with app.records.reading() as session:
        hides: dict[str, list[HiddenAlert]] = {}
        for each in session.scalars(select(HiddenAlert)):
            for one in each.inhibitions:
                hides.setdefault(one["rule"], []).append(each)
        items = app.incidents.states.rules.listed(session, INHIBITION)
    found = [(item, hides.get(item["name"], [])) for item in items]
    return {"items": [item | {"hides": len(aside), "examples": _examples(aside)} for item, aside in found]}


@router.put("/inhibitions/{name}", dependencies=[AUDITED])
def save_inhibition(name: Name, wanted: WantedInhibition, actor: Operator, app: TheApp) -> Json:
    """Save an inhibition; what it would hide and is in no open incident is hidden when it is told again."""
    body = Inhibition.model_validate(wanted.model_dump(exclude={"version"}))
    return app.incidents.states.rules.save(INHIBITION, name, body, actor.name, wanted.version)


@router.delete("/inhibitions/{name}", dependencies=[AUDITED])
def remove_inhibition(name: Name, actor: Operator, app: TheApp) -> Json:
    """Take an inhibition away; what it hid and still fires is seen again."""
    app.incidents.states.rules.remove(INHIBITION, name, actor.name)
    return {"name": name}


@router.post("/mutes/preview")
def preview(scope: Scope, actor: Viewer, app: TheApp, days: Annotated[int, Query(ge=1, le=90)] = 7) -> Json:
    """What these matchers would have hidden in the last days."""
    with app.records.reading() as session:
        return before.preview(app.store.query, session, checked(_matchers(scope)), now() - days * 1440 * MINUTE)


def _matchers(scope: Scope) -> list[Matcher]:
    return [Matcher(condition.name, condition.op, condition.value) for condition in scope.matchers]


def _wish(wanted: Wanted, actor: str) -> Wish:
    try:
        starts, ends = parse(wanted.starts) if wanted.starts else now(), parse(wanted.ends)
    except ValueError as error:
        raise BadData(f"a time cannot be read ({error}); write RFC 3339, e.g. 2026-01-02T03:04:05Z") from error
    return Wish(
        matchers=_matchers(wanted), starts=starts, ends=ends, owner=wanted.owner or actor, reason=wanted.reason, rrule=wanted.rrule,
        duration_s=wanted.duration_s, timezone=wanted.timezone,
    )  # fmt: skip


def _shown(mute: Mute, at: int, hides: list[HiddenAlert]) -> Json:
    held = window(mute, at)
    return {
        "id": mute.id, "kind": kind_of(mute), "origin": mute.origin, "state": state_of(mute, at),
        "matchers": mute.matchers, "text": ", ".join(map(str, matchers_of(mute))), "starts": iso(mute.starts), "ends": iso(mute.ends),
        "rrule": mute.rrule, "duration_s": mute.duration_s, "timezone": mute.timezone, "until": iso(held[1]) if held else None,
        "owner": mute.owner, "reason": mute.reason, "created": iso(mute.created), "changed": iso(mute.changed), "hides": len(hides),
        "examples": _examples(hides),
    }  # fmt: skip


def _examples(hides: list[HiddenAlert]) -> list[Json]:
    return [
        {"fingerprint": each.fingerprint, "title": each.row["title"], "entity": each.row["entity"], "severity": each.row["severity"],
         "since": iso(each.since)} for each in hides[:_EXAMPLES]
    ]  # fmt: skip
