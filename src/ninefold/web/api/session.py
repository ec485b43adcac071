"""Who am I, the console's session, and tokens."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.exceptions import HTTPException

from ninefold.ground.clock import iso
from ninefold.store.records import access
from ninefold.store.records.access import NAME_PATTERN, Token
from ninefold.store.records.base import Audit
from ninefold.web.auth import AUDITED, COOKIE, Admin, Viewer, find_actor
from ninefold.web.state import TheApp

router = APIRouter(tags=["access"])
_MONTH_S = 30 * 24 * 3600


class Secret(BaseModel):
    """A token's secret."""

    token: str = Field(max_length=200)


class Me(BaseModel):
    """The caller."""

    name: str
    role: str


class NewToken(BaseModel):
    """A token to make."""

    name: str = Field(pattern=f"^{NAME_PATTERN}$")
    role: Literal["ingest", "viewer", "operator", "admin"]


class TokenInfo(BaseModel):
    """A token without its secret."""

    name: str
    role: str
    created: str
    revoked: str | None


class MadeToken(BaseModel):
    """A new token; its secret is shown this once."""

    name: str
    role: str
    token: str


@router.get("/me")
def me(actor: Viewer) -> Me:
    """The caller's name and role."""
    return Me(name=actor.name, role=actor.role)


@router.post("/session")
def open_session(secret: Secret, request: Request, response: Response, app: TheApp) -> Me:
    """Begin a console session: a valid token becomes an HttpOnly cookie of this site."""
    actor = find_actor(request, secret.token)
    if actor is None or not actor.may("viewer"):
        raise HTTPException(401, "the token is not known, was revoked, or may not read")
    with app.records.session() as session:
        session.add(Audit(actor=actor.name, action="session opened"))
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, secret.token, max_age=_MONTH_S, httponly=True, samesite="strict", secure=secure)
    return Me(name=actor.name, role=actor.role)


@router.delete("/session", status_code=204)
def close_session(request: Request, response: Response, app: TheApp) -> None:
    """End the console session of this browser."""
    secret = request.cookies.get(COOKIE, "")
    actor = find_actor(request, secret) if secret else None
    if actor is not None:
        with app.records.session() as session:
            session.add(Audit(actor=actor.name, action="session closed"))
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


@router.get("/tokens")
def tokens(actor: Admin, app: TheApp) -> list[TokenInfo]:
    """All tokens, without their secrets."""
    with app.records.reading() as session:
        rows = session.scalars(select(Token).order_by(Token.name)).all()
        return [TokenInfo(name=t.name, role=t.role, created=iso(t.created), revoked=iso(t.revoked) if t.revoked else None) for t in rows]


@router.post("/tokens", status_code=201, dependencies=[AUDITED])
def create_token(wanted: NewToken, actor: Admin, app: TheApp) -> MadeToken:
    """Make a token; the answer is the only place its secret ever appears."""
    with app.records.session() as session:
        secret = access.make_token(session, wanted.name, wanted.role, actor.name)
    return MadeToken(name=wanted.name, role=wanted.role, token=secret)


@router.delete("/tokens/{name:path}", status_code=204, dependencies=[AUDITED])
def revoke_token(name: str, actor: Admin, app: TheApp) -> None:
    """Revoke a token; it stops working at once at every door of this program."""
    with app.records.session() as session:
        access.revoke_token(session, name, actor.name)
    app.tokens.forget()
