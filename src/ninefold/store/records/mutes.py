"""What is muted, by whom and until when, and the alerts that are hidden by it. Times are ns since the epoch."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from ninefold.ground.clock import now
from ninefold.store.records.base import Base


class Mute(Base):
    """A silence (once, from `starts` to `ends`) or, with an `rrule`, a maintenance that recurs between them."""

    __tablename__ = "mute"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    matchers: Mapped[list[Any]]
    """Objects with name, op and value; all must hold."""
    starts: Mapped[int]
    ends: Mapped[int] = mapped_column(index=True)
    rrule: Mapped[str] = mapped_column(Text, default="")
    """RFC 5545; the first occurrence begins at `starts`, by the wall clock of `timezone`."""
    duration_s: Mapped[int] = mapped_column(default=0)
    timezone: Mapped[str] = mapped_column(String, default="UTC")
    owner: Mapped[str] = mapped_column(String)
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[int] = mapped_column(default=now)
    changed: Mapped[int] = mapped_column(default=now)
    origin: Mapped[str] = mapped_column(String, default="", server_default="")
    """The ticket that opened it, as ``source id``; "" for a person's."""
    plan: Mapped[str] = mapped_column(Text, default="", server_default="")
    """What the ticket said last; only what is new changes the mute, so a person's word stands."""
    planned: Mapped[int] = mapped_column(default=0, server_default="0")
    """When the ticket said it."""
    told: Mapped[int] = mapped_column(default=0, server_default="0")
    """The end of the window that was told last to those who learn from telemetry; 0 when none was, or its early end was told."""
    __table_args__ = (Index("mute_origin", "origin", sqlite_where=sql("origin <> ''"), postgresql_where=sql("origin <> ''")),)


class HiddenAlert(Base):
    """An alert that fires and is in no incident, because mutes hide it."""

    __tablename__ = "hidden_alert"
    fingerprint: Mapped[str] = mapped_column(String, primary_key=True)
    mutes: Mapped[list[Any]]
    """Their ids."""
    inhibitions: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    """Objects with rule, by (the fingerprint of the alert that inhibits it) and title (that alert's)."""
    event_id: Mapped[str] = mapped_column(String)
    since: Mapped[int]
    """When it was first told while muted, by the clock of receipt, as is `heard`."""
    heard: Mapped[int]
    row: Mapped[dict[str, Any]]
    """The event as the incident room reads it."""
    __table_args__ = (Index("hidden_alert_event", "event_id"),)
