"""Alertmanager's API, version 2, for `amtool` and other clients: alerts, groups (incidents), and silences to read and to write.

``POST /api/v2/alerts`` is a door of the source `alertmanager`. Recurring mutes are shown as silences while they hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ninefold import __version__
from ninefold.app import App
from ninefold.ground.clock import MINUTE, iso, now, parse
from ninefold.ground.errors import BadData, NinefoldError, NotFound
from ninefold.incidents import alerts as room
from ninefold.incidents.mutes import Wish, matchers_of, state_of
from ninefold.incidents.windows import window
from ninefold.model.matcher import Matcher
from ninefold.store.records.base import Audit
from ninefold.store.records.incidents import SUPPRESSED, AlertState, incident_key
from ninefold.store.records.mutes import Mute
from ninefold.web.auth import authenticate
from ninefold.web.problems import headers_of, status_of
from ninefold.web.state import app_of

_ALERTS = 10_000
_BODY = 1 << 20
_RECEIVERS = [{"name": "ninefold"}]
_OWN = ("alertmanager.", "ninefold.", "annotation.")
_OPS = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}
Handle = Callable[[App, Request, str, Any], Any]


def routes() -> list[Route]:
    """All routes of the API but the one that takes alerts in."""
    return [
        Route("/api/v2/status", _route(_status), methods=["GET"]),
        Route("/api/v2/receivers", _route(lambda *_: _RECEIVERS), methods=["GET"]),
        Route("/api/v2/alerts", _route(_alerts), methods=["GET"]),
        Route("/api/v2/alerts/groups", _route(_groups), methods=["GET"]),
        Route("/api/v2/silences", _route(_silences), methods=["GET"]),
        Route("/api/v2/silences", _route(_keep), methods=["POST"]),
        Route("/api/v2/silence/{id}", _route(_silence), methods=["GET"]),
        Route("/api/v2/silence/{id}", _route(_expire), methods=["DELETE"]),
    ]


def _route(handle: Handle) -> Callable[[Request], Awaitable[Response]]:
    """A handler behind authentication; errors are JSON texts, as Alertmanager's clients expect them."""

    async def serve(request: Request) -> Response:
        actor = authenticate(request, "viewer")
        app, document = app_of(request), None
        try:
            if request.method != "GET":
                actor = authenticate(request, "operator")
            if request.method == "POST":
                document = await _document(request)
            answer = await run_in_threadpool(handle, app, request, actor.name, document)
        except HTTPException as error:
            await run_in_threadpool(_refused, app, actor.name, request, error.status_code)
            raise
        except NinefoldError as error:
            return Response(orjson.dumps(str(error)), status_of(error), headers_of(error), "application/json")
        return Response(orjson.dumps(answer) if answer is not None else b"", 200, media_type="application/json")

    return serve


async def _document(request: Request) -> Any:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY:
            raise BadData(f"the body is larger than {_BODY} bytes")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadData(f"the body is not JSON: {error}") from error


def _refused(app: App, actor: str, request: Request, status: int) -> None:
    with app.records.session() as session:
        session.add(Audit(actor=actor, action=request.method, target=request.url.path, outcome=f"refused ({status})"))


def _status(*_: Any) -> Any:
    return {
        "cluster": {"status": "disabled", "peers": []},
        "config": {"original": ""},
        "uptime": iso(now()),
        "versionInfo": dict.fromkeys(("branch", "buildDate", "buildUser", "goVersion", "revision"), "") | {"version": __version__},
    }


def _filter(request: Request) -> list[Matcher]:
    return [Matcher.parse(text) for text in request.query_params.getlist("filter")]


def _alerts(app: App, request: Request, actor: str, document: Any) -> Any:
    return [alert for _, alert in _wanted(app, request)]


def _groups(app: App, request: Request, actor: str, document: Any) -> Any:
    groups: dict[int | None, list[Any]] = {}
    for number, alert in _wanted(app, request):
        groups.setdefault(number, []).append(alert)
    return [
        {"labels": {"incident": incident_key(number)} if number else {}, "receiver": _RECEIVERS[0], "alerts": alerts}
        for number, alerts in groups.items()
    ]


def _wanted(app: App, request: Request) -> list[tuple[int | None, Any]]:
    """The alerts a request asks for, each with the number of its incident."""
    asked, matchers = request.query_params, _filter(request)
    wanted = ["firing"] * (asked.get("active", "true") != "false") + [SUPPRESSED]
    refused = {name for name in ("silenced", "inhibited") if asked.get(name) == "false"}
    with app.records.reading() as session:
        states = session.scalars(
            select(AlertState).where(AlertState.status.in_(wanted)).order_by(AlertState.last.desc()).limit(_ALERTS)
        ).all()
        events = room.told(session, states)
    found = []
    for state in states:
        labels, annotations = _split(state, events.get(state.fingerprint, {}).get("attributes", {}))
        if all(matcher.holds(labels.get(matcher.name, "")) for matcher in matchers):
            event = events.get(state.fingerprint, {})
            by = {"silenced": event.get("mutes", []), "inhibited": [each["by"] for each in event.get("inhibitions", [])]}
            if not any(by[name] for name in refused):
                found.append((state.incident, _alert(state, labels, annotations, by)))
    return found


def _split(state: AlertState, attributes: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations of an alert."""
    labels = {key: value for key, value in attributes.items() if not key.startswith(_OWN)}
    notes = {key.removeprefix("annotation."): value for key, value in attributes.items() if key.startswith("annotation.")}
    named = {"alertname": state.rule, "severity": state.severity, "entity": state.entity}
    return {key: value for key, value in {**named, **labels}.items() if value}, {"summary": state.title, **notes}


def _alert(state: AlertState, labels: dict[str, str], annotations: dict[str, str], by: dict[str, list[str]]) -> Any:
    heard = max(state.heard, state.last)
    return {
        "labels": labels, "annotations": annotations, "fingerprint": state.fingerprint, "receivers": _RECEIVERS, "generatorURL": "",
        "startsAt": iso(state.first), "endsAt": iso(heard + 5 * MINUTE), "updatedAt": iso(heard),
        "status": {
            "state": "suppressed" if any(by.values()) else "active", "silencedBy": by["silenced"], "inhibitedBy": by["inhibited"],
        },
    }  # fmt: skip


def _silences(app: App, request: Request, actor: str, document: Any) -> Any:
    matchers, at = _filter(request), now()
    with app.records.reading() as session:
        mutes = session.scalars(select(Mute).order_by(Mute.ends.desc())).all()
    shown = []
    for mute in mutes:
        values = {matcher.name: matcher.value for matcher in matchers_of(mute)}
        if all(matcher.holds(values.get(matcher.name, "")) for matcher in matchers):
            shown.append(_as_silence(mute, at))
    return shown


def _silence(app: App, request: Request, actor: str, document: Any) -> Any:
    with app.records.reading() as session:
        mute = session.get(Mute, _id(request.path_params["id"]))
    if mute is None:
        raise NotFound(f"there is no silence {request.path_params['id']}")
    return _as_silence(mute, now())


def _expire(app: App, request: Request, actor: str, document: Any) -> Any:
    app.incidents.mutes.expire(_id(request.path_params["id"]), actor)


def _keep(app: App, request: Request, actor: str, document: Any) -> Any:
    if not isinstance(document, dict) or not isinstance(document.get("matchers"), list):
        raise BadData("a silence is an object with matchers, startsAt, endsAt, createdBy and comment")
    wish = Wish(
        matchers=[_matcher(each) for each in document["matchers"]],
        starts=max(_time(document, "startsAt"), now()) if not document.get("id") else _time(document, "startsAt"),
        ends=_time(document, "endsAt"),
        owner=_text(document, "createdBy") or actor,
        reason=_text(document, "comment"),
    )
    key = _text(document, "id")
    mutes = app.incidents.mutes
    return {"silenceID": (mutes.change(_id(key), wish, actor) if key else mutes.create(wish, actor)).id}


def _id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise BadData(f"{text!r} is not the id of a silence") from error


def _matcher(each: Any) -> Matcher:
    if not isinstance(each, dict) or not isinstance(each.get("name"), str) or not isinstance(each.get("value"), str):
        raise BadData("a matcher is an object with name, value, isRegex and isEqual")
    return Matcher(each["name"], _OPS[each.get("isRegex") is True, each.get("isEqual", True) is not False], each["value"])


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name) or ""
    if not isinstance(value, str):
        raise BadData(f"{name} of a silence is a text")
    return value


def _time(document: dict[str, Any], name: str) -> int:
    try:
        return parse(_text(document, name))
    except ValueError as error:
        raise BadData(f"{name} of a silence is a time such as 2026-01-02T03:04:05Z") from error


def _as_silence(mute: Mute, at: int) -> Any:
    held = window(mute, at)
    starts, ends = held or (mute.starts, mute.ends)
    return {
        "id": mute.id, "status": {"state": state_of(mute, at)}, "updatedAt": iso(mute.changed), "startsAt": iso(starts),
        "endsAt": iso(ends), "createdBy": mute.owner, "comment": mute.reason,
        "matchers": [
            {"name": m.name, "value": m.value, "isRegex": m.op in ("=~", "!~"), "isEqual": m.op in ("=", "=~")} for m in matchers_of(mute)
        ],
    }  # fmt: skip
