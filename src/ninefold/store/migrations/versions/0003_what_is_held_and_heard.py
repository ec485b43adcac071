"""Incidents that a person holds open, and when an alert was last told.

Follows: 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what is there is not held, and was heard of when it last changed."""
    op.add_column("incident", sa.Column("held", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("alert_state", sa.Column("heard", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Remove them."""
    op.drop_column("alert_state", "heard")
    op.drop_column("incident", "held")
