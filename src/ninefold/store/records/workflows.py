"""Workflows at work: their versions, what was decided about each change, runs, steps, approvals.

A run is an operational record like an incident: it is created in the transaction that records why, and each of its transitions
is one transaction with the outbox row that tells others. Times are ns since the epoch.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ninefold.ground.clock import now
from ninefold.store.records.base import Base, BigId

RUN_STATUSES = ("queued", "running", "waiting", "succeeded", "failed", "rejected", "cancelled")
UNFINISHED = ("queued", "running", "waiting")


class Definition(Base):
    """One version of a workflow, as text: a run goes on with the version it began with, whatever the file says by then."""

    __tablename__ = "workflow_definition"
    digest: Mapped[str] = mapped_column(String, primary_key=True)
    workflow: Mapped[str] = mapped_column(String, index=True)
    source: Mapped[str] = mapped_column(Text)
    time: Mapped[int] = mapped_column(default=now)
    since: Mapped[int]
    """Outbox id behind which this version is responsible for changes."""


class Dispatch(Base):
    """What was decided about one change for one workflow, so that nothing is skipped in silence."""

    __tablename__ = "dispatch"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    time: Mapped[int] = mapped_column(default=now)
    workflow: Mapped[str] = mapped_column(String)
    outbox: Mapped[int | None]
    """The change; null when a person started the run."""
    verdict: Mapped[str] = mapped_column(String)
    """started, observed (mode observe), not_matched (the condition is false), skipped (a brake)"""
    reason: Mapped[str] = mapped_column(Text, default="")
    incident: Mapped[int | None]
    run: Mapped[int | None] = mapped_column(default=None)
    __table_args__ = (UniqueConstraint("workflow", "outbox"), Index("dispatch_incident", "incident"))


class Run(Base):
    """One execution of a workflow. Whoever holds the lease works on it."""

    __tablename__ = "run"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    workflow: Mapped[str] = mapped_column(String)
    digest: Mapped[str] = mapped_column(String)
    key: Mapped[str] = mapped_column(String, unique=True)
    """Workflow and trigger: the same change never starts the same workflow twice."""
    incident: Mapped[int | None]
    entity: Mapped[str] = mapped_column(String, default="")
    trigger: Mapped[str] = mapped_column(Text)
    """For people: ``INC-12 opened``, ``started by alice``."""
    change: Mapped[str] = mapped_column(String, default="")
    """The kind of change: opened, resolved, …; manual."""
    triggered: Mapped[int]
    """When the change happened that started it."""
    status: Mapped[str] = mapped_column(String, default="queued")
    created: Mapped[int] = mapped_column(default=now)
    started: Mapped[int | None] = mapped_column(default=None)
    finished: Mapped[int | None] = mapped_column(default=None)
    context: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """``{event, vars, ending}``: what expressions see of the trigger; `ending` is the verdict while steps are taken back."""
    error: Mapped[str] = mapped_column(Text, default="")
    lease_owner: Mapped[str] = mapped_column(String, default="")
    lease_until: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's declarative form
    __table_args__ = (
        Index("run_status", "status", "workflow"),
        Index("run_incident", "incident", "workflow"),
        Index("run_workflow", "workflow", "created"),
    )


class Step(Base):
    """One step of one run. A step that is taken back has a second row, ``<id>.rollback``."""

    __tablename__ = "step"
    run: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int]
    uses: Mapped[str] = mapped_column(String)
    risk: Mapped[str] = mapped_column(String)
    status: Mapped[str] = mapped_column(String)
    """waiting (for a person), running (sent, no answer yet), retrying (not carried out), unknown (sent, answer lost; waits for a
    person), verifying (answered), succeeded, failed, skipped, rejected"""
    sent: Mapped[bool] = mapped_column(default=False)
    """The action was, or may have been, carried out: there is something to take back."""
    attempts: Mapped[int] = mapped_column(default=0)
    started: Mapped[int | None] = mapped_column(default=None)
    finished: Mapped[int | None] = mapped_column(default=None)
    input: Mapped[dict[str, Any]] = mapped_column(default=dict)
    output: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    error: Mapped[str] = mapped_column(Text, default="")


class Approval(Base):
    """A question to a person. It is answered once: every answer is a compare-and-set on ``waiting``."""

    __tablename__ = "approval"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    run: Mapped[int] = mapped_column(index=True)
    step: Mapped[str] = mapped_column(String)
    """The step's id, "" for the whole run."""
    kind: Mapped[str] = mapped_column(String)
    """step (may it run?), run (may the workflow start?), unknown (it may have run already: again?)"""
    workflow: Mapped[str] = mapped_column(String)
    incident: Mapped[int | None] = mapped_column(index=True)
    uses: Mapped[str] = mapped_column(String, default="")
    risk: Mapped[str] = mapped_column(String)
    role: Mapped[str] = mapped_column(String)
    """The lowest role that may answer."""
    question: Mapped[str] = mapped_column(Text)
    ask: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Exactly what will be sent; a step whose values have changed since is asked about again."""
    requested: Mapped[int] = mapped_column(default=now)
    expires: Mapped[int | None] = mapped_column(default=None)
    decided: Mapped[int | None] = mapped_column(default=None)
    status: Mapped[str] = mapped_column(String, default="waiting")
    """waiting, approved, rejected, skipped (an unknown outcome: go on without), expired, cancelled"""
    actor: Mapped[str] = mapped_column(String, default="")
    note: Mapped[str] = mapped_column(Text, default="")
    __table_args__ = (Index("approval_status", "status", "expires"),)
