"""The first records: incidents and what they are made of, workflows at work, tokens, and what all records share.

Follows: nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = sa.MetaData()
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

sa.Table(
    "alert_state",
    _TABLES,
    sa.Column("fingerprint", sa.String, primary_key=True),
    sa.Column("entity", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("incident", sa.BigInteger, nullable=True),
    sa.Column("last_event", sa.String, nullable=False),
    sa.Index("alert_state_incident", "incident", "status"),
)
sa.Table(
    "approval",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("run", sa.BigInteger, nullable=False),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("workflow", sa.String, nullable=False),
    sa.Column("incident", sa.BigInteger, nullable=True),
    sa.Column("uses", sa.String, nullable=False),
    sa.Column("risk", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("ask", sa.JSON, nullable=False),
    sa.Column("requested", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=True),
    sa.Column("decided", sa.BigInteger, nullable=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Index("approval_status", "status", "expires"),
    sa.Index("ix_approval_incident", "incident"),
    sa.Index("ix_approval_run", "run"),
)
sa.Table(
    "audit",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("target", sa.String, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Index("ix_audit_time", "time"),
)
sa.Table(
    "change",
    _TABLES,
    sa.Column("event_id", sa.String, primary_key=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("entity", sa.String, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("event", sa.JSON, nullable=False),
    sa.Index("ix_change_time", "time"),
)
sa.Table(
    "dispatch",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("workflow", sa.String, nullable=False),
    sa.Column("outbox", sa.BigInteger, nullable=True),
    sa.Column("verdict", sa.String, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("incident", sa.BigInteger, nullable=True),
    sa.Column("run", sa.BigInteger, nullable=True),
    sa.UniqueConstraint("workflow", "outbox"),
    sa.Index("dispatch_incident", "incident"),
)
sa.Table(
    "incident",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("pending", sa.Boolean, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("entity", sa.String, nullable=False),
    sa.Column("component", sa.String, nullable=False),
    sa.Column("opened", sa.BigInteger, nullable=False),
    sa.Column("first_event", sa.BigInteger, nullable=False),
    sa.Column("last_event", sa.BigInteger, nullable=False),
    sa.Column("acknowledged", sa.BigInteger, nullable=True),
    sa.Column("resolved", sa.BigInteger, nullable=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("alerts", sa.BigInteger, nullable=False),
    sa.Column("entities", sa.BigInteger, nullable=False),
    sa.Column("rules", sa.JSON, nullable=False),
    sa.Column("verdict", sa.String, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("confidence", sa.Double, nullable=True),
    sa.Column("cause", sa.JSON, nullable=True),
    sa.Column("analysis", sa.JSON, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("due", sa.Boolean, nullable=False),
    sa.Column("analysed_until", sa.BigInteger, nullable=False),
    sa.Column("truth", sa.JSON, nullable=True),
    sa.Column("feedback", sa.String, nullable=False),
    sa.Column("fixed_by", sa.Text, nullable=False),
    sa.Column("merged_into", sa.BigInteger, nullable=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Index("incident_due", "due", sqlite_where=sa.text("due"), postgresql_where=sa.text("due")),
    sa.Index("incident_first", "first_event"),
    sa.Index("incident_status", "pending", "status", "last_event"),
)
sa.Table(
    "incident_event",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("incident", sa.BigInteger, nullable=False),
    sa.Column("event_id", sa.String, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Column("event", sa.JSON, nullable=False),
    sa.Index("incident_event_id", "event_id"),
    sa.Index("incident_event_of", "incident", "time"),
)
sa.Table(
    "ledger",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("incident", sa.BigInteger, nullable=True),
    sa.Column("event_id", sa.String, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Index("ledger_event", "event_id"),
    sa.Index("ledger_of", "incident", "time"),
)
sa.Table(
    "outbox",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("topic", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Index("ix_outbox_topic", "topic"),
)
sa.Table(
    "position",
    _TABLES,
    sa.Column("reader", sa.String, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)
sa.Table(
    "relation",
    _TABLES,
    sa.Column("from_entity", sa.String, primary_key=True),
    sa.Column("to_entity", sa.String, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
)
sa.Table(
    "run",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("workflow", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("incident", sa.BigInteger, nullable=True),
    sa.Column("entity", sa.String, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("change", sa.String, nullable=False),
    sa.Column("triggered", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=True),
    sa.Column("finished", sa.BigInteger, nullable=True),
    sa.Column("context", sa.JSON, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("lease_owner", sa.String, nullable=False),
    sa.Column("lease_until", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("key"),
    sa.Index("run_incident", "incident", "workflow"),
    sa.Index("run_status", "status", "workflow"),
    sa.Index("run_workflow", "workflow", "created"),
)
sa.Table(
    "setting",
    _TABLES,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)
sa.Table(
    "step",
    _TABLES,
    sa.Column("run", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("uses", sa.String, nullable=False),
    sa.Column("risk", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("sent", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=True),
    sa.Column("finished", sa.BigInteger, nullable=True),
    sa.Column("input", sa.JSON, nullable=False),
    sa.Column("output", sa.JSON, nullable=True),
    sa.Column("error", sa.Text, nullable=False),
)
sa.Table(
    "ticket",
    _TABLES,
    sa.Column("system", sa.String, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("incident", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Index("ix_ticket_incident", "incident"),
)
sa.Table(
    "timeline",
    _TABLES,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("incident", sa.BigInteger, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("entity", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("event_id", sa.String, nullable=False),
    sa.Index("timeline_of", "incident", "time"),
)
sa.Table(
    "token",
    _TABLES,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("revoked", sa.BigInteger, nullable=True),
    sa.UniqueConstraint("digest"),
)
sa.Table(
    "workflow_definition",
    _TABLES,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("workflow", sa.String, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Index("ix_workflow_definition_workflow", "workflow"),
)


def upgrade() -> None:
    """Make the tables."""
    _TABLES.create_all(op.get_bind())


def downgrade() -> None:
    """Drop the tables."""
    _TABLES.drop_all(op.get_bind())
