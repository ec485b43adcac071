"""Mutes, the alerts they hide, and alerts by their status.

Follows: 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the index."""
    op.create_table(
        "mute",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("matchers", sa.JSON, nullable=False),
        sa.Column("starts", sa.BigInteger, nullable=False),
        sa.Column("ends", sa.BigInteger, nullable=False, index=True),
        sa.Column("rrule", sa.Text, nullable=False),
        sa.Column("duration_s", sa.BigInteger, nullable=False),
        sa.Column("timezone", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "hidden_alert",
        sa.Column("fingerprint", sa.String, primary_key=True),
        sa.Column("mutes", sa.JSON, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("heard", sa.BigInteger, nullable=False),
        sa.Column("row", sa.JSON, nullable=False),
        sa.Index("hidden_alert_event", "event_id"),
    )
    op.create_index("alert_state_status", "alert_state", ["status", "last"])


def downgrade() -> None:
    """Remove them; what was hidden is forgotten."""
    op.drop_index("alert_state_status", "alert_state")
    op.drop_table("hidden_alert")
    op.drop_table("mute")
