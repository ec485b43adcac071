"""Who owns a ticket.

Follows: 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("ticket", sa.Column("owner", sa.String, nullable=False, server_default=""))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("ticket", "owner")
