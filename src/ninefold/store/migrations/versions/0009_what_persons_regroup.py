"""What persons decide on incidents: merges and splits, with what they carried; the true cause; what was learned.

Follows: 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "regrouping",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String, nullable=False, unique=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("deed", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("into", sa.BigInteger, nullable=False),
        sa.Column("incidents", sa.JSON, nullable=False),
        sa.Column("alerts", sa.BigInteger, nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("after", sa.JSON, nullable=False),
        sa.Column("newest", sa.BigInteger, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("undone", sa.String, nullable=False),
    )
    op.create_index("regrouping_into", "regrouping", ["into"])
    op.create_table(
        "regrouped",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("regrouping", sa.BigInteger, nullable=False),
        sa.Column("what", sa.String, nullable=False),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.String, nullable=False),
        sa.Column("origin", sa.BigInteger, nullable=False),
    )
    op.create_index("regrouped_of", "regrouped", ["regrouping", "what", "row"])
    op.create_table(
        "lesson",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("step", sa.Double, nullable=False),
        sa.Column("before", sa.Double, nullable=False),
        sa.Column("after", sa.Double, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("undone", sa.Boolean, nullable=False),
        sa.Column("followed", sa.Boolean, nullable=False),
    )
    op.create_index("ix_lesson_fingerprint", "lesson", ["fingerprint"])
    op.add_column("incident", sa.Column("right_cause", sa.String, nullable=False, server_default=""))


def downgrade() -> None:
    """Remove them; incidents stay as they were put."""
    op.drop_column("incident", "right_cause")
    op.drop_table("lesson")
    op.drop_table("regrouped")
    op.drop_table("regrouping")
