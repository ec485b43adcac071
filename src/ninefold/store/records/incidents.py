"""Incidents and what they are made of: alerts, their events, the timeline, the decision ledger, tickets, changes, topology.

An incident's key is ``INC-<id>`` wherever people or other programs see it (API, outbox, events); tables hold the number.
Event times are ns since the epoch.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, Text, false
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from ninefold.ground.errors import NotFound
from ninefold.store.records.base import Base, BigId

OPEN, ACKNOWLEDGED, MITIGATED, RESOLVED = "open", "acknowledged", "mitigated", "resolved"
STATUSES = (OPEN, ACKNOWLEDGED, MITIGATED, RESOLVED)
UNRESOLVED = (OPEN, ACKNOWLEDGED, MITIGATED)
PENDING, FIRING, SUPPRESSED, EXPIRED = "pending", "firing", "suppressed", "expired"
ALERT_STATES = (FIRING, ACKNOWLEDGED, PENDING, SUPPRESSED, RESOLVED, EXPIRED)
"""The states of an alert: it counts from firing on; suppressed ones are hidden, expired ones were told of no more."""


def incident_key(number: int) -> str:
    """The key people see: ``INC-12``."""
    return f"INC-{number}"


def incident_number(key: str) -> int:
    """The number behind ``INC-12`` or ``12``.

    Raises:
        NotFound: the text is neither.
    """
    digits = key.strip().upper().removeprefix("INC-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise NotFound(f"there is no incident {key!r}; an incident's id looks like INC-12")
    return int(digits)


class Incident(Base):
    """A handful of alerts that are one problem. `pending` ones are below the threshold of being shown."""

    __tablename__ = "incident"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    title: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String, default=OPEN)
    pending: Mapped[bool] = mapped_column(default=False)
    severity: Mapped[str] = mapped_column(String, default="info")
    entity: Mapped[str] = mapped_column(String, default="")
    """Where it was first seen; the cause may be elsewhere."""
    component: Mapped[str] = mapped_column(String, default="")
    opened: Mapped[int]
    """Event time of the alert that opened it."""
    first_event: Mapped[int]
    last_event: Mapped[int]
    acknowledged: Mapped[int | None] = mapped_column(default=None)
    resolved: Mapped[int | None] = mapped_column(default=None)
    held: Mapped[bool] = mapped_column(default=False)
    """A person reopened it and nothing new has fired since: it does not resolve by itself."""
    owner: Mapped[str] = mapped_column(String, default="")
    teams: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    """Names of the teams it belongs to: those whose conditions it met when it opened, or what a person said."""
    rated: Mapped[bool] = mapped_column(default=False, server_default=false())
    """A person set the severity: alerts do not change it any more."""
    mitigated: Mapped[int | None] = mapped_column(default=None)
    """When somebody said that users feel it no longer."""
    alerts: Mapped[int] = mapped_column(default=0)
    """Alert events folded in, repeats included."""
    entities: Mapped[int] = mapped_column(default=0)
    rules: Mapped[list[Any]] = mapped_column(default=list)
    """Up to 200 distinct ``entity|rule`` texts: the shape by which similar incidents are found."""
    verdict: Mapped[str] = mapped_column(String, default="")
    """determined, undetermined, or "" before the first analysis."""
    reason: Mapped[str] = mapped_column(Text, default="")
    confidence: Mapped[float | None] = mapped_column(default=None)
    cause: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """``{entity, kind, summary}``"""
    analysis: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """``{candidates, patterns, charts}`` in the API's form."""
    position: Mapped[int] = mapped_column(default=0)
    """Journal position of its newest event; analysis waits until the telemetry store has come as far."""
    due: Mapped[bool] = mapped_column(default=False)
    """Its events have changed since the last analysis."""
    analysed_until: Mapped[int] = mapped_column(default=0)
    truth: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """``{entity, kind, text}`` of a labelled data set; shown beside the cause, never used to find it."""
    feedback: Mapped[str] = mapped_column(String, default="")
    """A person's verdict: useful, noise, wrong_cause."""
    right_cause: Mapped[str] = mapped_column(String, default="", server_default="")
    """The entity that was it, when a person said wrong_cause and which."""
    fixed_by: Mapped[str] = mapped_column(Text, default="")
    merged_into: Mapped[int | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's declarative form
    __table_args__ = (
        Index("incident_status", "pending", "status", "last_event"),
        Index("incident_due", "due", sqlite_where=sql("due"), postgresql_where=sql("due")),
        Index("incident_first", "first_event"),
    )


class AlertState(Base):
    """What is known of one alert (one fingerprint) over all its events."""

    __tablename__ = "alert_state"
    fingerprint: Mapped[str] = mapped_column(String, primary_key=True)
    entity: Mapped[str] = mapped_column(String)
    kind: Mapped[str] = mapped_column(String)
    rule: Mapped[str] = mapped_column(String)
    title: Mapped[str] = mapped_column(Text)
    severity: Mapped[str] = mapped_column(String)
    status: Mapped[str] = mapped_column(String)
    first: Mapped[int]
    last: Mapped[int]
    count: Mapped[int]
    incident: Mapped[int | None]
    last_event: Mapped[str] = mapped_column(String)
    heard: Mapped[int] = mapped_column(default=0)
    """When it was last told, by the clock of receipt; a firing alert is told again and again in the same event."""
    state: Mapped[str] = mapped_column(String, default=FIRING, server_default=FIRING)
    """One of `ALERT_STATES`; `status` is what its sender said last that counted, or that mutes hide it; one pending is resolved."""
    since: Mapped[int] = mapped_column(default=0, server_default="0")
    due: Mapped[int | None] = mapped_column(default=None)
    """When its state may change by itself, by the clock of receipt."""
    memory: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """What `incidents.condition` remembers of it."""
    __table_args__ = (
        Index("alert_state_incident", "incident", "status"),
        Index("alert_state_status", "status", "last"),
        Index("alert_state_state", "state", "last"),
        Index("alert_state_due", "due", sqlite_where=sql("due is not null"), postgresql_where=sql("due is not null")),
    )


class IncidentEvent(Base):
    """An event that belongs to an incident; `role` is alert, change or other. The same event is never counted twice."""

    __tablename__ = "incident_event"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    incident: Mapped[int]
    event_id: Mapped[str] = mapped_column(String)
    time: Mapped[int]
    kind: Mapped[str] = mapped_column(String)
    role: Mapped[str] = mapped_column(String)
    fingerprint: Mapped[str] = mapped_column(String, default="")
    event: Mapped[dict[str, Any]]
    """The event in the API's form."""
    __table_args__ = (Index("incident_event_of", "incident", "time"), Index("incident_event_id", "event_id"))


class Timeline(Base):
    """One line of an incident's story."""

    __tablename__ = "timeline"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    incident: Mapped[int]
    time: Mapped[int]
    kind: Mapped[str] = mapped_column(String)
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text, default="")
    actor: Mapped[str] = mapped_column(String, default="")
    source: Mapped[str] = mapped_column(String, default="")
    entity: Mapped[str] = mapped_column(String, default="")
    severity: Mapped[str] = mapped_column(String, default="")
    event_id: Mapped[str] = mapped_column(String, default="")
    __table_args__ = (Index("timeline_of", "incident", "time"),)


class Ledger(Base):
    """One decision and its reason: why an event is, or is not, in an incident."""

    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    incident: Mapped[int | None]
    event_id: Mapped[str] = mapped_column(String)
    time: Mapped[int]
    step: Mapped[str] = mapped_column(String)
    """normalise, fingerprint, state, dedup, correlate, mute, cause, workflow"""
    text: Mapped[str] = mapped_column(Text)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    fingerprint: Mapped[str] = mapped_column(String, default="", server_default="")
    """The alert whose state it is about."""
    __table_args__ = (
        Index("ledger_of", "incident", "time"),
        Index("ledger_event", "event_id"),
        Index("ledger_alert", "fingerprint", "time", sqlite_where=sql("fingerprint <> ''"), postgresql_where=sql("fingerprint <> ''")),
    )


class Ticket(Base):
    """A ticket in another system that mirrors an incident; `system` is the connector's name, as in its events' source."""

    __tablename__ = "ticket"
    system: Mapped[str] = mapped_column(String, primary_key=True)
    id: Mapped[str] = mapped_column(String, primary_key=True)
    url: Mapped[str] = mapped_column(Text, default="")
    incident: Mapped[int] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(String, default="open")
    owner: Mapped[str] = mapped_column(String, default="", server_default="")


class Change(Base):
    """A recent change, deployment or (labelled data only) truth: looked up when an incident opens near it."""

    __tablename__ = "change"
    event_id: Mapped[str] = mapped_column(String, primary_key=True)
    time: Mapped[int] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String)
    entity: Mapped[str] = mapped_column(String)
    title: Mapped[str] = mapped_column(Text)
    event: Mapped[dict[str, Any]]


class RelationRow(Base):
    """An edge of the topology: `from_entity` needs `to_entity`."""

    __tablename__ = "relation"
    from_entity: Mapped[str] = mapped_column(String, primary_key=True)
    to_entity: Mapped[str] = mapped_column(String, primary_key=True)
    kind: Mapped[str] = mapped_column(String, primary_key=True)
    first: Mapped[int]
    last: Mapped[int]
