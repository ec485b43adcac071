"""What people ask of alerts, and the heartbeats that are expected. Times are ns since the epoch."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from ninefold.ground.clock import now
from ninefold.store.records.base import Base


class AlertSetting(Base):
    """A rule for alerts, or a heartbeat, that somebody saved."""

    __tablename__ = "alert_setting"
    kind: Mapped[str] = mapped_column(String, primary_key=True)
    """rule, heartbeat, inhibition"""
    name: Mapped[str] = mapped_column(String, primary_key=True)
    body: Mapped[dict[str, Any]]
    """As `config.AlertRule`, `config.HeartbeatConfig` or `config.Inhibition`."""
    author: Mapped[str] = mapped_column(String)
    changed: Mapped[int] = mapped_column(default=now)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's declarative form


class Heartbeat(Base):
    """What was heard of a heartbeat."""

    __tablename__ = "heartbeat"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    entity: Mapped[str] = mapped_column(String)
    """What the alert is about that it is late."""
    since: Mapped[int]
    """When it was first waited for, by the clock of receipt, as are all."""
    last: Mapped[int | None] = mapped_column(default=None)
    late: Mapped[int | None] = mapped_column(default=None)
    """Since when it has been late."""
    beats: Mapped[int] = mapped_column(default=0)
    event: Mapped[str] = mapped_column(String, default="")
    """The last one's id."""
