"""Who may do what: API tokens, kept only as hashes."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from ninefold.ground.clock import now
from ninefold.ground.errors import Conflict, NotFound, Refused
from ninefold.store.records.base import Audit, Base, Records

ROLES = ("ingest", "viewer", "operator", "admin")
"""Least to most: `ingest` only delivers data; `viewer` reads; `operator` also acts, approves and mutes; `admin` also manages."""
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,79}"
"""What a token may be called: what a path, a command line and a log can hold without quoting."""
_CACHE_S = 5.0
_CACHE_SIZE = 4096


class Token(Base):
    """An API token: a name, a role, and the SHA-256 of the secret (256 random bits, so no salt or slow hash is needed)."""

    __tablename__ = "token"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    role: Mapped[str] = mapped_column(String)
    digest: Mapped[str] = mapped_column(String, unique=True)
    created: Mapped[int] = mapped_column(default=now)
    revoked: Mapped[int | None] = mapped_column(default=None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def create_token(session: Session, name: str, role: str) -> str:
    """Make a token and return its secret, which is shown this once and never stored.

    Raises:
        ValueError: the role is not one of ROLES.
    """
    if role not in ROLES:
        raise ValueError(f"role must be one of {', '.join(ROLES)}")
    secret = f"n9_{secrets.token_urlsafe(32)}"
    session.add(Token(name=name, role=role, digest=_digest(secret)))
    return secret


def make_token(session: Session, name: str, role: str, actor: str) -> str:
    """Make a token as somebody's doing, with its audit row; returns the secret.

    Raises:
        Refused: the name has other characters than it may have.
        Conflict: there is a token of this name, or there was.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise Refused(f"the name {name!r} must be 1 to 80 letters, digits and ._@- and begin with a letter or a digit")
    if session.get(Token, name) is not None:
        raise Conflict(f"a token named {name!r} exists; choose another name")
    session.add(Audit(actor=actor, action="token created", target=name, detail={"role": role}))
    return create_token(session, name, role)


def revoke_token(session: Session, name: str, actor: str) -> None:
    """Revoke a token, with its audit row.

    Raises:
        NotFound: there is none of this name.
    """
    token = session.get(Token, name)
    if token is None:
        raise NotFound(f"there is no token named {name!r}")
    token.revoked = token.revoked or now()
    session.add(Audit(actor=actor, action="token revoked", target=name))


def find_token(session: Session, secret: str) -> Token | None:
    """The live token with this secret, or None."""
    return session.scalars(select(Token).where(Token.digest == _digest(secret), Token.revoked.is_(None))).one_or_none()


@dataclass(frozen=True, slots=True)
class Actor:
    """The holder of a token."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether this actor stands on `role`'s rung of the ladder or above."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Tokens:
    """Looks tokens up for every door of a program, remembering answers for five seconds so that ingest does not ask the database for each
    request. Thread-safe."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: dict[str, tuple[float, Actor | None]] = {}

    def actor(self, secret: str) -> Actor | None:
        """The actor behind a secret, None when there is none or it was revoked."""
        now_s = time.monotonic()
        memory = self._known  # an answer that was under way when `forget` is called goes to what is forgotten
        known = memory.get(secret)
        if known and known[0] > now_s:
            return known[1]
        if len(memory) >= _CACHE_SIZE:
            self._known = memory = {}
        with self._records.reading() as session:
            token = find_token(session, secret)
            actor = Actor(token.name, token.role) if token else None
        memory[secret] = (now_s + _CACHE_S, actor)
        return actor

    def forget(self) -> None:
        """Ask the database again, after a token was made or revoked."""
        self._known = {}
