"""The states of alerts with what they remember, rules for them, heartbeats.

Follows: 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the columns; what is known of the alerts there are gives their states."""
    op.add_column("alert_state", sa.Column("state", sa.String, nullable=False, server_default="firing"))
    op.add_column("alert_state", sa.Column("since", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("alert_state", sa.Column("due", sa.BigInteger, nullable=True))
    op.add_column("alert_state", sa.Column("memory", sa.JSON, nullable=True))
    op.execute("update alert_state set since = last, state = status where status <> ''")
    op.execute("update alert_state set since = last, state = 'expired' where status = ''")
    op.create_index("alert_state_state", "alert_state", ["state", "last"])
    op.execute("update alert_state set due = 18000000000000 + case when heard > last then heard else last end where status = 'firing'")
    timed = sa.text("due is not null")
    op.create_index("alert_state_due", "alert_state", ["due"], sqlite_where=timed, postgresql_where=timed)
    op.add_column("ledger", sa.Column("fingerprint", sa.String, nullable=False, server_default=""))
    some = sa.text("fingerprint <> ''")
    op.create_index("ledger_alert", "ledger", ["fingerprint", "time"], sqlite_where=some, postgresql_where=some)
    op.create_table(
        "alert_setting",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("author", sa.String, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "heartbeat",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("entity", sa.String, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=True),
        sa.Column("late", sa.BigInteger, nullable=True),
        sa.Column("beats", sa.BigInteger, nullable=False),
        sa.Column("event", sa.String, nullable=False),
    )


def downgrade() -> None:
    """Remove them; alerts are what their senders say again."""
    op.drop_table("heartbeat")
    op.drop_table("alert_setting")
    op.drop_index("ledger_alert", "ledger")
    op.drop_column("ledger", "fingerprint")
    for index in ("alert_state_due", "alert_state_state"):
        op.drop_index(index, "alert_state")
    for column in ("memory", "due", "since", "state"):
        op.drop_column("alert_state", column)
