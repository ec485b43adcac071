"""Who is on call and who was paged: what people arranged, overrides, calendars, escalations, pages. Times are ns since the epoch."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ninefold.ground.clock import now
from ninefold.store.records.base import Base, BigId

RUNNING = "running"
DUE, SENDING, DELIVERED, FAILED, UNKNOWN, CANCELLED = "due", "sending", "delivered", "failed", "unknown", "cancelled"


class Arrangement(Base):
    """Something people arranged: a team, a person's contact methods, a schedule or an escalation policy."""

    __tablename__ = "oncall_arrangement"
    kind: Mapped[str] = mapped_column(String, primary_key=True)
    """team, person, schedule, policy"""
    name: Mapped[str] = mapped_column(String, primary_key=True)
    body: Mapped[dict[str, Any]]
    """As the models of `ninefold.oncall.plans` read it."""
    changed: Mapped[int] = mapped_column(default=now)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's declarative form


class Override(Base):
    """Somebody stands in for whoever a schedule names."""

    __tablename__ = "oncall_override"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    schedule: Mapped[str] = mapped_column(String)
    person: Mapped[str] = mapped_column(String)
    starts: Mapped[int]
    ends: Mapped[int]
    reason: Mapped[str] = mapped_column(Text, default="")
    actor: Mapped[str] = mapped_column(String)
    __table_args__ = (Index("oncall_override_of", "schedule", "ends"),)


class Calendar(Base):
    """The iCalendar sides of a schedule: the one it is read from, and the secret address it is read at by others."""

    __tablename__ = "oncall_calendar"
    schedule: Mapped[str] = mapped_column(String, primary_key=True)
    url: Mapped[str] = mapped_column(Text, default="")
    """Where it is fetched from; a secret, for who knows it may read it."""
    text: Mapped[str] = mapped_column(Text, default="")
    read: Mapped[int | None] = mapped_column(default=None)
    """When `text` was last taken over."""
    tried: Mapped[int] = mapped_column(default=0)
    problem: Mapped[str] = mapped_column(Text, default="")
    digest: Mapped[str] = mapped_column(String, default="")
    """SHA-256 of the secret of its own address; "" while it has none."""


class Escalation(Base):
    """The paging of people about one incident, from its opening (or reopening) to the first who acknowledges."""

    __tablename__ = "escalation"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    incident: Mapped[int] = mapped_column(index=True)
    policy: Mapped[str] = mapped_column(String)
    rules: Mapped[dict[str, Any]]
    """The policy as it was when it began: it goes on by that, whatever the policy says by then."""
    status: Mapped[str] = mapped_column(String, default=RUNNING)
    """running; acknowledged, resolved, merged, reopened: why it ended; unanswered: all steps were taken and nobody acknowledged"""
    step: Mapped[int] = mapped_column(default=0)
    """The step that is taken next; the number of steps when all were."""
    round: Mapped[int] = mapped_column(default=0)
    due: Mapped[int]
    """When the next step is taken unless somebody acknowledges before."""
    started: Mapped[int] = mapped_column(default=now)
    ended: Mapped[int | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's declarative form
    __table_args__ = (Index("escalation_due", "status", "due"),)


class Page(Base):
    """One message to one person by one contact method. It is marked before it is sent."""

    __tablename__ = "page"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    escalation: Mapped[int | None]
    """None for a test."""
    incident: Mapped[int | None] = mapped_column(index=True)
    round: Mapped[int] = mapped_column(default=0)
    step: Mapped[int] = mapped_column(default=0)
    person: Mapped[str] = mapped_column(String)
    contact: Mapped[str] = mapped_column(String, default="")
    """The contact method by its name; "" when the person has none."""
    uses: Mapped[str] = mapped_column(String, default="")
    """connector.action"""
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why this person: ``on call by schedule primary``."""
    status: Mapped[str] = mapped_column(String, default=DUE)
    """due, sending (marked; no answer yet), delivered, failed, unknown (it may have been delivered), cancelled"""
    due: Mapped[int]
    lease_until: Mapped[int] = mapped_column(default=0)
    """A page that is `sending` for longer than this has lost its sender."""
    attempts: Mapped[int] = mapped_column(default=0)
    sent: Mapped[int | None] = mapped_column(default=None)
    finished: Mapped[int | None] = mapped_column(default=None)
    error: Mapped[str] = mapped_column(Text, default="")
    __table_args__ = (
        UniqueConstraint("escalation", "round", "step", "person", "contact", name="page_once"),
        Index("page_status", "status", "due"),
    )
