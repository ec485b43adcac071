"""On-call: arrangements, overrides, calendars, escalations, pages; the teams of an incident, and when it was mitigated.

Follows: 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the tables and the columns."""
    op.add_column("incident", sa.Column("teams", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("incident", sa.Column("rated", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("incident", sa.Column("mitigated", sa.BigInteger, nullable=True))
    op.create_table(
        "oncall_arrangement",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "oncall_override",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("schedule", sa.String, nullable=False),
        sa.Column("person", sa.String, nullable=False),
        sa.Column("starts", sa.BigInteger, nullable=False),
        sa.Column("ends", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Index("oncall_override_of", "schedule", "ends"),
    )
    op.create_table(
        "oncall_calendar",
        sa.Column("schedule", sa.String, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("read", sa.BigInteger, nullable=True),
        sa.Column("tried", sa.BigInteger, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
    )
    _paging()


def _paging() -> None:
    op.create_table(
        "escalation",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("incident", sa.BigInteger, nullable=False, index=True),
        sa.Column("policy", sa.String, nullable=False),
        sa.Column("rules", sa.JSON, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger, nullable=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Index("escalation_due", "status", "due"),
    )
    op.create_table(
        "page",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("escalation", sa.BigInteger, nullable=True),
        sa.Column("incident", sa.BigInteger, nullable=True, index=True),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("person", sa.String, nullable=False),
        sa.Column("contact", sa.String, nullable=False),
        sa.Column("uses", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("sent", sa.BigInteger, nullable=True),
        sa.Column("finished", sa.BigInteger, nullable=True),
        sa.Column("error", sa.Text, nullable=False),
        sa.UniqueConstraint("escalation", "round", "step", "person", "contact", name="page_once"),
        sa.Index("page_status", "status", "due"),
    )


def downgrade() -> None:
    """Remove them; who is on call is forgotten."""
    for table in ("page", "escalation", "oncall_calendar", "oncall_override", "oncall_arrangement"):
        op.drop_table(table)
    op.drop_column("incident", "mitigated")
    op.drop_column("incident", "rated")
    op.drop_column("incident", "teams")
