"""Brings the records' tables up to date at every start, in one transaction.

A developer who changed a record makes the next version with ``python -m ninefold.store.records.migrate "what changed"``.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ninefold.ground.errors import ConfigError, Unavailable
from ninefold.store.records import access, alerts, incidents, mutes, oncall, regrouping, sources, workflows
from ninefold.store.records.base import Base, Records

TABLES = (access, alerts, incidents, mutes, oncall, regrouping, sources, workflows)
"""The modules that define records: importing them is what fills ``Base.metadata``."""
_LOCK = 0x39666F6C64  # any fixed number: two programs that start together must not migrate at once


def upgrade(records: Records, version: str = "head") -> None:
    """Run the migrations that are missing; nothing happens when there are none.

    Raises:
        ConfigError: a newer Ninefold wrote the database.
        Unavailable: the database cannot be reached or written.
    """
    try:
        with records.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            command.upgrade(_config(connection), version)
    except CommandError as error:
        raise ConfigError(f"the records database cannot be used by this Ninefold, a newer one may have written it: {error}") from error
    except DBAPIError as error:
        raise Unavailable(f"the records database cannot be opened or changed: {error.orig}; check `records.url` and the disk") from error


def write_version(message: str) -> Path:
    """Write the migration from the last version to what the records' classes say now; returns its file."""
    with tempfile.TemporaryDirectory() as folder:
        records = Records(f"sqlite:///{folder}/records.db")
        upgrade(records)
        with records.engine.begin() as connection:
            config = _config(connection)
            number = len(list((Path(str(config.get_main_option("script_location"))) / "versions").glob("[0-9]*.py"))) + 1
            made = command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
        records.close()
    assert made is not None
    assert not isinstance(made, list)
    return Path(made.path)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("ninefold.store") / "migrations").replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes.update(connection=connection, metadata=Base.metadata)
    return config


if __name__ == "__main__":
    print(write_version(sys.argv[1]))
