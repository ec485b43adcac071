"""Any relational database by polling a query: for the database that cannot stream. Every database SQLAlchemy has a driver for works
(PostgreSQL, MySQL and MariaDB, Oracle, SQL Server, SQLite, Db2, SAP HANA, Snowflake, …); install the driver beside Ninefold.

```yaml
sources:
  orders:
    type: sql
    url: "postgresql+psycopg://reader:${SHOP_PASSWORD}@db.example.org/shop"
    query: SELECT id, created_at, customer, status, amount FROM orders WHERE id > :cursor ORDER BY id
    cursor: id
    every_s: 30
```

**The cursor.** `:cursor` in the query is the largest value of the column `cursor` seen so far, `start` the first time. Order by it; a
page is never cut between rows of equal value, so it need not be unique. Rows that are committed late, with a smaller value than others
that were visible already, are found by `late`: the query then asks again from so far back (seconds for a time, a number for a number),
and rows that were delivered already, unchanged, are left out. A row that was changed meanwhile comes again, as it is now. A query
without `:cursor` is run whole each time, as for counts and sums (`shape: metrics`).

**Care for the database.** Each question is one transaction that is rolled back; where the database knows how, it is read-only and ends
after `timeout_s` (PostgreSQL, MySQL, MariaDB, SQLite, Oracle's read-only). One connection, closed between rounds. At most `page_rows` rows
are fetched at a time. Give Ninefold a user that may only read; the best cursor is an indexed column.

**Order and repeats.** Rows come in the cursor's order. The cursor is kept in one transaction with its page, so a crash brings none twice.
What a row becomes is said under [rows](rows.md). Deleted rows are not noticed; logical replication would notice them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any
from unicodedata import combining, normalize
from uuid import UUID

from pydantic import Field, SecretStr
from sqlalchemy import URL, Connection, CursorResult, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, ConfigError, Refused, Unavailable
from ninefold.model.signal import Batch
from ninefold.plugin import Lent
from ninefold.sources.polling import Page, PollConfig, Poller
from ninefold.sources.rows import Rows, RowsConfig, mark

_LIMITS: dict[str, tuple[str, ...]] = {
    "postgresql": (
        "SET TRANSACTION READ ONLY",
        "SET LOCAL statement_timeout = {ms}",
        "SET LOCAL idle_in_transaction_session_timeout = {ms}",
    ),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION MAX_EXECUTION_TIME = {ms}"),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION max_statement_time = {s}"),
    "sqlite": ("PRAGMA query_only = ON",),
    "oracle": ("SET TRANSACTION READ ONLY",),
}
_STEPS = 20_000
_PLAIN = (bool, int, float, str)
_READ: dict[type, Callable[[str], Any]] = {
    datetime: datetime.fromisoformat, date: date.fromisoformat, clock_time: clock_time.fromisoformat, Decimal: Decimal, UUID: UUID,
    bytes: bytes.fromhex,
}  # fmt: skip
"""The other types a cursor may have, and how each is read again."""
_WRITTEN: dict[type, Callable[[Any], str]] = {bytes: bytes.hex, datetime: datetime.isoformat}
_COLLATED = (str, bytes, UUID)
"""What databases order by rules of their own."""


class Sql(Poller):
    """Rows of a query, polled with a cursor."""

    kind = "sql"
    title = "SQL database"
    signals = frozenset(("metric", "log", "event"))

    class Config(PollConfig, RowsConfig):
        """Which database, which query, and where to go on."""

        url: SecretStr = Field(description="The address as SQLAlchemy writes it: ``dialect+driver://user:password@host/database``.")
        query: str = Field(min_length=1, description="The query; ``:cursor`` stands for where to go on.")
        cursor: str = Field("", description="The column that grows: an id, a version, a time of change.")
        start: int | float | str = Field(0, description="The cursor's first value; a time as ISO 8601 text.")
        late: float = Field(0.0, ge=0, description="How far back to look for rows that were committed late.")
        page_rows: int = Field(5000, ge=1, le=1_000_000, description="Most rows handed over together.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._rows = Rows(config, name)
        self._engine: Engine | None = None
        self._asking: asyncio.Future[Page] | None = None
        if (":cursor" in config.query) != bool(config.cursor):
            raise ConfigError(f"sources.{name}: a query with :cursor needs `cursor`, the column it is taken from, and the other way round")

    async def page(self, position: dict[str, Any]) -> Page:
        """The next rows. A driver that hangs keeps its thread; it is waited for again, so that it is never more than one."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(asyncio.to_thread(self._ask, position))
        asking = self._asking
        try:
            return await asyncio.shield(asking)
        finally:
            if asking.done():
                self._asking = None

    def forget(self, batches: Any) -> None:
        """Told which batches were not kept."""
        self._rows.forget(batches)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.dispose)
            self._engine = None

    def _ask(self, position: dict[str, Any]) -> Page:
        last = _unpacked(position["cursor"]) if "cursor" in position else self.config.start
        known = set(position.get("seen", ()))
        with self._limited() as connection:
            statement = text(self.config.query)
            bound = {"cursor": _back(last, self.config.late)} if self.config.cursor else {}
            result = connection.execution_options(stream_results=True).execute(statement, bound)
            if self.config.cursor and self.config.cursor not in list(result.keys()):
                raise ConfigError(f"sources.{self.name}: the query gives no column {self.config.cursor!r} for the cursor")
            rows, seen, last, more = self._read(result, last, known)
        if not self.config.cursor:
            return Page(self._batches(rows), {})
        after = {"cursor": _packed(last)} | ({"seen": seen} if self.config.late else {})
        return Page(self._batches(rows), after if rows else position, more)

    def _read(self, result: CursorResult[Any], last: Any, known: set[str]) -> tuple[list[dict[str, Any]], list[str], Any, bool]:
        """New rows, the marks of all rows read, the cursor behind them, and whether there are more."""
        column, rows, seen, value = self.config.cursor, list[dict[str, Any]](), list[str](), None
        for found in result.mappings():
            row = dict(found)
            if column and row[column] is not None:
                before, value = value, row[column]
                self._keepable(value)
                if before is not None and not isinstance(value, _COLLATED) and value < before:
                    raise ConfigError(f"sources.{self.name}: the query must ORDER BY {column}")
                if len(rows) >= self.config.page_rows and not _same(value, before):
                    return rows, seen, last, True
            if self.config.late:
                with suppress(BadData):  # a row nested too deeply is said so about each time it is read
                    seen.append(mark(row))
                    if seen[-1] in known:
                        continue
            rows.append(row)
            if column and value is not None and (self._is_collated(value) or not isinstance(value, type(last)) or value > last):
                last = value
        return rows, seen, last, False

    def _is_collated(self, value: Any) -> bool:
        """Whether only the database knows the order; a text one may go back from (`late`) is a time and has Python's."""
        return isinstance(value, _COLLATED) and not (self.config.late and isinstance(value, str))

    def _keepable(self, value: Any) -> None:
        """Refuse a cursor we could not keep before anything of its page is delivered."""
        if not isinstance(value, _PLAIN) and type(value) not in _READ:
            raise ConfigError(
                f"sources.{self.name}: a {type(value).__name__} cannot be a cursor; CAST({self.config.cursor} AS …) to a text"
            )

    def _url(self) -> URL:
        try:
            return make_url(self.config.url.get_secret_value())
        except (ArgumentError, ValueError):  # whose text shows a part of it, maybe of the password
            raise ConfigError(f"sources.{self.name}.url: the address cannot be read; percent-encode the password") from None

    def _batches(self, rows: list[dict[str, Any]]) -> list[Batch]:
        return self._rows.batches(rows, now())

    @contextmanager
    def _limited(self) -> Iterator[Connection]:
        """A connection in a transaction that is read-only, limited in time and rolled back."""
        try:
            if self._engine is None:
                self._engine = create_engine(self._url(), poolclass=NullPool)
            with self._engine.connect() as connection:
                limits = _LIMITS.get("mariadb" if getattr(connection.dialect, "is_mariadb", False) else connection.dialect.name, ())
                for statement in limits:
                    connection.execute(text(statement.format(ms=int(self.config.timeout_s * 1000), s=self.config.timeout_s)))
                if isinstance(driver := connection.connection.driver_connection, sqlite3.Connection):
                    end = time.monotonic() + self.config.timeout_s
                    driver.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
                yield connection
                connection.rollback()
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise ConfigError(f"sources.{self.name}.url: {error}; is the database's driver installed?") from error
        except (OperationalError, InterfaceError) as error:
            raise Unavailable(f"{self._where}: {_said(error)}") from error
        except SQLAlchemyError as error:
            raise Refused(f"{self._where}: {_said(error)}") from error

    @property
    def _where(self) -> str:
        return f"the database {self._engine.url.render_as_string(hide_password=True)}" if self._engine is not None else "the database"


def _said(error: SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())[:300]


def _back(value: Any, late: float) -> Any:
    """The cursor so far back; a text is one when it is a time."""
    if not late:
        return value
    if isinstance(value, datetime):
        return value - timedelta(seconds=late)
    if isinstance(value, date):
        return value - timedelta(days=-(-late // 86400))
    if isinstance(value, str):
        try:
            return (datetime.fromisoformat(value) - timedelta(seconds=late)).isoformat("T" if "T" in value else " ")
        except ValueError:
            return value
    return type(value)(value - type(value)(late))


def _same(value: Any, other: Any) -> bool:
    """Whether a database may take two values for equal: its collation may heed neither case, accents nor blanks at the end."""
    if isinstance(value, str) and isinstance(other, str):
        return _folded(value) == _folded(other)
    return bool(value == other)


def _folded(value: str) -> str:
    return "".join(letter for letter in normalize("NFKD", value.casefold()) if not combining(letter)).rstrip()


def _packed(value: Any) -> Any:
    """A cursor as JSON keeps it."""
    return value if isinstance(value, _PLAIN) else [type(value).__name__, _WRITTEN.get(type(value), str)(value)]


def _unpacked(value: Any) -> Any:
    return next(read for kind, read in _READ.items() if kind.__name__ == value[0])(value[1]) if isinstance(value, list) else value
