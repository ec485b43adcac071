"""What inhibits a hidden alert; mutes that tickets opened; which window of a mute has been told of.

Follows: 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
_MUTE = ("origin", "plan", "planned", "told")


def upgrade() -> None:
    """Add the columns."""
    op.add_column("hidden_alert", sa.Column("inhibitions", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("mute", sa.Column("origin", sa.String, nullable=False, server_default=""))
    op.add_column("mute", sa.Column("plan", sa.Text, nullable=False, server_default=""))
    for name in ("planned", "told"):
        op.add_column("mute", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    some = sa.text("origin <> ''")
    op.create_index("mute_origin", "mute", ["origin"], sqlite_where=some, postgresql_where=some)


def downgrade() -> None:
    """Remove them: tickets' mutes are silences like any other then."""
    op.drop_index("mute_origin", "mute")
    for name in reversed(_MUTE):
        op.drop_column("mute", name)
    op.drop_column("hidden_alert", "inhibitions")
