"""The records' engine, session and common tables: reader positions, the outbox (change feed), the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import orjson
from sqlalchemy import JSON, BigInteger, Engine, Insert, Integer, String, create_engine, event, func, select
from sqlalchemy.engine.interfaces import Compiled
from sqlalchemy.exc import OperationalError, TimeoutError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from ninefold.ground.clock import now
from ninefold.ground.errors import ConfigError, Conflict, Unavailable

BigId = BigInteger().with_variant(Integer, "sqlite")
"""An auto-incrementing 64-bit key on both databases."""
_WAIT_MS = 10_000
"""How long a writer waits for the one before it."""
_WRITER = 0x39666F72  # any fixed number


class Base(DeclarativeBase):
    """The parent of every record. JSON columns hold plain dictionaries and lists; times are ns integers."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[Any]: JSON, int: BigInteger}


class Position(Base):
    """How far a journal reader that writes records has come; committed with what it wrote."""

    __tablename__ = "position"
    reader: Mapped[str] = mapped_column(String, primary_key=True)
    position: Mapped[int] = mapped_column(default=0)


class Outbox(Base):
    """The change feed: one row per change, written in the transaction of the change. Workflows, the live view and the
    front door (as events) follow it by `id`."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    time: Mapped[int] = mapped_column(default=now)
    topic: Mapped[str] = mapped_column(String, index=True)
    """incident, alert, run, approval, source, quarantine"""
    kind: Mapped[str] = mapped_column(String)
    """opened, updated, acknowledged, resolved, reopened, merged, started, finished, requested, decided, …"""
    key: Mapped[str] = mapped_column(String)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Audit(Base):
    """Every mutating call: who did what to what, and whether it was allowed."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    time: Mapped[int] = mapped_column(default=now, index=True)
    actor: Mapped[str] = mapped_column(String)
    action: Mapped[str] = mapped_column(String)
    target: Mapped[str] = mapped_column(String, default="")
    outcome: Mapped[str] = mapped_column(String, default="ok")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Setting(Base):
    """Small named values the program itself keeps, such as connector cursors."""

    __tablename__ = "setting"
    key: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Records:
    """The database of records. `session()` is one transaction.

    Args:
        url: an SQLAlchemy URL, ``sqlite:///path`` or ``postgresql+psycopg://…``.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            self.engine: Engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        except Exception as error:  # SQLAlchemy raises many kinds for a bad URL or a missing driver
            raise ConfigError(f"the records database cannot be opened: {error}; check `records.url`") from error
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _sqlite_pragmas)
            event.listen(self.engine, "begin", _sqlite_begin)
        else:
            event.listen(self.engine, "begin", _server_begin)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._readers = sessionmaker(self.engine.execution_options(ninefold_read=True), expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session in one transaction: committed at the end, rolled back on any error.

        Raises:
            Conflict: another transaction changed a versioned row first.
            Unavailable: the database cannot be reached or written now.
        """
        with _there(), self._sessions() as session:
            try:
                with session.begin():
                    yield session
            except StaleDataError as error:
                raise Conflict("the record was changed by somebody else; reread it and try again") from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading only: a snapshot that never waits for a writer; nothing is committed.

        Raises:
            Unavailable: the database cannot be reached now.
        """
        with _there(), self._readers() as session:
            yield session

    def outbox(self, after: int, limit: int = 500) -> list[Outbox]:
        """Changes behind `after`, in order."""
        with self.reading() as session:
            return list(session.scalars(select(Outbox).where(Outbox.id > after).order_by(Outbox.id).limit(limit)))

    def last_change(self) -> int:
        """The id of the newest change, 0 when there is none."""
        with self.reading() as session:
            return session.scalar(select(func.max(Outbox.id))) or 0

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def write_many(session: Session, statement: Insert, rows: Sequence[dict[str, Any]]) -> None:
    """Execute an insert once a row, with the rows as the driver takes them: in a storm, binding each value through SQLAlchemy would
    cost more than the insert.

    Args:
        statement: one that is kept, for what is made of it is kept too; it may not hold values of its own.
        rows: each with a value for the same columns, those the statement writes; dicts become JSON.
    """
    connection = session.connection()
    key = statement, connection.dialect.name
    compiled = _COMPILED.get(key)
    if compiled is None:
        compiled = _COMPILED[key] = statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    places = cast("list[str] | None", getattr(compiled, "positiontup", None))
    order = places or list(rows[0])
    documents = {column.name for column in statement.table.columns if isinstance(column.type, JSON)}
    columns = ([row[name] for row in rows] for name in order)
    plain = zip(*(map(_document, some) if name in documents else some for name, some in zip(order, columns, strict=True)), strict=True)
    values: Any = list(plain) if places else [dict(zip(order, row, strict=True)) for row in plain]
    connection.exec_driver_sql(str(compiled), values)


def _document(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict) else value


_COMPILED: dict[tuple[Insert, str], Compiled] = {}


@contextmanager
def _there() -> Iterator[None]:
    """A database that is locked, gone or full is a reason to try again, never the fault of what was to be written."""
    try:
        yield
    except (OperationalError, TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise Unavailable(f"the records database cannot be used now: {cause}; try again", retry_after_s=2) from error


def _sqlite_pragmas(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself; _sqlite_begin does
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_WAIT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:
    # A writer takes the write lock first, so two transactions never deadlock by both upgrading from reading.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("ninefold_read") else "BEGIN IMMEDIATE")


def _server_begin(connection: Any) -> None:
    # One writer at a time here too: a row's number is given when it is written, and whoever follows the feed by number would pass a
    # row that is committed after a later one.
    if connection.dialect.name == "postgresql" and not connection.get_execution_options().get("ninefold_read"):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_WAIT_MS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER})")
