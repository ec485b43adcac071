"""Who is calling, and whether they may: bearer token, basic auth with the token as password, or the console's cookie.

The roles are a ladder (ingest, viewer, operator, admin); a handler names the rung it needs by the type of a parameter:
``def acknowledge(actor: Operator) -> …``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request

from ninefold.store.records.access import Actor
from ninefold.web.state import app_of

COOKIE = "ninefold_session"
_SAFE = ("GET", "HEAD", "OPTIONS")


def find_actor(connection: HTTPConnection, secret: str) -> Actor | None:
    """The actor behind a secret in this program's records."""
    return app_of(connection).tokens.actor(secret)


def authenticate(connection: HTTPConnection, role: str, keywords: Sequence[str] = (), headers: Sequence[str] = ()) -> Actor:
    """The actor of a request, who must stand at least on `role`'s rung.

    Args:
        connection: the request.
        role: the rung.
        keywords: schemes of the Authorization header that carry the token besides Bearer and Basic.
        headers: other headers that carry the token.

    Raises:
        HTTPException: 401 without a valid token, 403 when the role is too low, or when a browser sends for another site what it
            keeps by itself (a cookie, a password).
    """
    actor, ambient = _identify(connection, keywords, headers)
    _allow(connection, actor, ambient, role)
    return actor


def secret_of(connection: HTTPConnection) -> str:
    """The secret a request comes with, "" without one."""
    return _secret(connection, (), ())[0]


def _identify(connection: HTTPConnection, keywords: Sequence[str] = (), headers: Sequence[str] = ()) -> tuple[Actor, bool]:
    """Who calls, and whether a browser may have sent the token by itself."""
    secret, ambient = _secret(connection, keywords, headers)
    actor = find_actor(connection, secret) if secret else None
    if actor is None:
        detail = "the token is not known or was revoked" if secret else "a token is needed: send `Authorization: Bearer <token>`"
        # A browser that is told of Basic asks its user for a password and sends it by itself from then on.
        basic = "" if connection.url.path.startswith("/api/v1/") else ', Basic realm="ninefold"'
        raise HTTPException(401, detail, {"WWW-Authenticate": f'Bearer realm="ninefold"{basic}'})
    return actor, ambient


def _allow(connection: HTTPConnection, actor: Actor, ambient: bool, role: str) -> None:
    if ambient and not _same_site(connection):
        raise HTTPException(403, "the request comes from another site; a console session only acts from the console itself")
    if not actor.may(role):
        raise HTTPException(403, f"the token {actor.name!r} has the role {actor.role}; this needs {role}")


def _secret(connection: HTTPConnection, keywords: Sequence[str], headers: Sequence[str]) -> tuple[str, bool]:
    """The secret, and whether a browser may have sent it by itself."""
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "apikey" and "ApiKey" in keywords:
        return _api_key(value.strip()), False
    if scheme.lower() in ("bearer", *(keyword.lower() for keyword in keywords)):
        return value.strip(), False
    for header in headers:
        if header in connection.headers:
            return connection.headers[header].strip(), False
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2], True
        except (binascii.Error, UnicodeDecodeError):
            return "", False
    cookie = connection.cookies.get(COOKIE, "")
    return cookie, bool(cookie)


def _api_key(value: str) -> str:
    """Elasticsearch's clients send base64 of ``id:key``; the key is the token. Anything else is the token itself."""
    try:
        _, colon, key = base64.b64decode(value, validate=True).decode().rpartition(":")
    except (binascii.Error, UnicodeDecodeError):
        return value
    return key if colon else value


def _same_site(connection: HTTPConnection) -> bool:
    if connection.scope["type"] == "http" and connection.scope["method"] in _SAFE:
        return True
    origin = connection.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == connection.headers.get("host")


def _require(role: str) -> Callable[[HTTPConnection], Actor]:
    def check(connection: HTTPConnection) -> Actor:
        actor, ambient = _identify(connection)
        connection.state.actor = actor  # before the verdict: a refusal is audited too
        _allow(connection, actor, ambient, role)
        return actor

    return check


def _audits(connection: HTTPConnection) -> None:
    connection.state.audited = True


AUDITED = Depends(_audits)
"""A route whose success writes its own audit row, in the transaction of the change."""

Viewer = Annotated[Actor, Depends(_require("viewer"))]
Operator = Annotated[Actor, Depends(_require("operator"))]
Admin = Annotated[Actor, Depends(_require("admin"))]


def tell(request: Request, action: str, target: str, **detail: Any) -> None:
    """What the audit is to say of this call, for a handler that has no transaction to write its own row in."""
    request.state.tells = action, target, detail
