"""Saved mappings, drifts of sources with their blast radius, and what was last measured of each source.

Follows: 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = sa.MetaData()

sa.Table(
    "mapping",
    _TABLES,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("definition", sa.JSON, nullable=False),
    sa.Column("author", sa.String, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
)
sa.Table(
    "source_drift",
    _TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("mark", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("signal", sa.String, nullable=False),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("usual", sa.Text, nullable=False),
    sa.Column("now", sa.Text, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=True),
    sa.Column("ending", sa.Text, nullable=False),
    sa.Column("radius", sa.JSON, nullable=False),
    sa.Column("notice", sa.String, nullable=False),
    sa.Index("source_drift_of", "source", "since"),
    sa.Index("source_drift_mark", "mark"),
)
sa.Table(
    "source_facts",
    _TABLES,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
)


def upgrade() -> None:
    """Make the tables."""
    _TABLES.create_all(op.get_bind())


def downgrade() -> None:
    """Drop the tables."""
    _TABLES.drop_all(op.get_bind())
