"""Who may do what: API tokens, kept only as hashes."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from ninefold.ground.clock import now
from ninefold.store.records.base import Base

ROLES = ("ingest", "viewer", "operator", "admin")
"""Least to most: `ingest` only delivers data; `viewer` reads; `operator` also acts, approves and mutes; `admin` also manages."""


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


def find_token(session: Session, secret: str) -> Token | None:
    """The live token with this secret, or None."""
    return session.scalars(select(Token).where(Token.digest == _digest(secret), Token.revoked.is_(None))).one_or_none()
