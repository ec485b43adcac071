"""What persons decided on incidents: which alerts belong together, and what was learned from it. Times are ns since the epoch."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ninefold.store.records.base import Base, BigId


class Regrouping(Base):
    """Incidents merged, or alerts split out of one, by a person: `deed` is merge or split."""

    __tablename__ = "regrouping"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    event_id: Mapped[str] = mapped_column(String, unique=True)
    """The event that carried it through the front door."""
    time: Mapped[int]
    deed: Mapped[str] = mapped_column(String)
    actor: Mapped[str] = mapped_column(String)
    note: Mapped[str] = mapped_column(Text, default="")
    into: Mapped[int] = mapped_column(default=0)
    """The incident the alerts are in since: the one that stays of a merge, the new one of a split."""
    incidents: Mapped[list[Any]] = mapped_column(default=list)
    """The numbers of the incidents the alerts came from."""
    alerts: Mapped[int] = mapped_column(default=0)
    """How many alerts changed their incident."""
    before: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The incidents as they were, by number, and the tickets, runs and approvals that went along."""
    after: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The same incidents straight after it."""
    newest: Mapped[int] = mapped_column(default=0)
    """The newest event any incident had then, by row."""
    problem: Mapped[str] = mapped_column(Text, default="")
    """Why it was not carried out, "" when it was."""
    undone: Mapped[str] = mapped_column(String, default="")
    """Who took it back."""
    __table_args__ = (Index("regrouping_into", "into"),)


class Regrouped(Base):
    """One row that a regrouping carried to another incident, and where it was."""

    __tablename__ = "regrouped"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    regrouping: Mapped[int]
    what: Mapped[str] = mapped_column(String)
    """event, line, decision (by `row`), or alert (by `mark`)"""
    row: Mapped[int] = mapped_column(default=0)
    mark: Mapped[str] = mapped_column(String, default="")
    origin: Mapped[int]
    __table_args__ = (Index("regrouped_of", "regrouping", "what", "row"),)


class Lesson(Base):
    """A step of what was learned from verdicts on incidents, as `analytics.metrics.moves.Move`; `scope` is rule, pair or cause."""

    __tablename__ = "lesson"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    time: Mapped[int]
    scope: Mapped[str] = mapped_column(String)
    target: Mapped[str] = mapped_column(Text)
    """Of a rule its name, of a pair two lines ``entity|rule``, of a cause a kind of evidence or of entity."""
    step: Mapped[float]
    before: Mapped[float]
    after: Mapped[float]
    why: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String, index=True)
    """What it was learned from: an incident's key with the word for it, or the event of a regrouping."""
    actor: Mapped[str] = mapped_column(String)
    undone: Mapped[bool] = mapped_column(default=False)
    followed: Mapped[bool] = mapped_column(default=False)
    """Nobody said it: it follows from what became of an incident."""
