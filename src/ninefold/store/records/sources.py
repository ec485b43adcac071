"""What is known of sources beside their data: saved mappings, drifts with their blast radius, the last measured facts.

Times are ns since the epoch.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from ninefold.ground.clock import now
from ninefold.store.records.base import Base


class Mapping(Base):
    """One version of a saved mapping; the newest of a name is in force and overrides the one in ninefold.yaml."""

    __tablename__ = "mapping"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    definition: Mapped[dict[str, Any]]
    """As `config.WebhookConfig`."""
    author: Mapped[str] = mapped_column(String)
    note: Mapped[str] = mapped_column(Text, default="")
    time: Mapped[int] = mapped_column(default=now)


class SourceDrift(Base):
    """A change in how a source delivers, and what depends on that source. `id` is the event that told of it."""

    __tablename__ = "source_drift"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    mark: Mapped[str] = mapped_column(String)
    """The event's `source_id`: the same when it is resolved."""
    source: Mapped[str] = mapped_column(String)
    signal: Mapped[str] = mapped_column(String)
    what: Mapped[str] = mapped_column(String)
    title: Mapped[str] = mapped_column(Text)
    severity: Mapped[str] = mapped_column(String)
    usual: Mapped[str] = mapped_column(Text, default="")
    now: Mapped[str] = mapped_column(Text, default="")
    since: Mapped[int]
    until: Mapped[int | None] = mapped_column(default=None)
    ending: Mapped[str] = mapped_column(Text, default="")
    radius: Mapped[dict[str, Any]] = mapped_column(default=dict)
    notice: Mapped[str] = mapped_column(String, default="waiting")
    """waiting (to be sent, also for the cool-down), sent, none (nobody to tell, no warning, or over before it was sent); recovered once
    the end was told, too."""
    __table_args__ = (Index("source_drift_of", "source", "since"), Index("source_drift_mark", "mark"))


class SourceFacts(Base):
    """What was last measured of a source: freedom, models and granularity, as the API gives them."""

    __tablename__ = "source_facts"
    source: Mapped[str] = mapped_column(String, primary_key=True)
    time: Mapped[int] = mapped_column(default=now)
    facts: Mapped[dict[str, Any]]


def newest_mappings(session: Session) -> list[Mapping]:
    """The mapping in force of every name, by name."""
    found = {row.name: row for row in session.scalars(select(Mapping).order_by(Mapping.name, Mapping.version))}
    return list(found.values())
