"""PostgreSQL (12 and later): its statistics as metrics, and its log as log records, read over one connection.

```yaml
sources:
  shop_db:
    type: postgresql
    dsn: "host=db.example.org dbname=shop user=ninefold password=${DB_PASSWORD}"
    service: shop-db
```

The user needs ``GRANT pg_monitor TO ninefold``; the log also ``GRANT pg_read_server_files TO ninefold`` (or ``EXECUTE ON FUNCTION
pg_read_binary_file``) and ``log_destination = 'jsonlog'`` or ``'csvlog'`` with the logging collector on. What it may not see, or what is
not installed, is left out and said once in Ninefold's log.

| from | metrics (``postgresql.…``) |
|---|---|
| pg_stat_database | backends, commits, rollbacks, blocks.read, blocks.hit, rows.returned … rows.deleted, deadlocks, conflicts, temp.files, temp.bytes, session.time, db.size |
| pg_stat_activity | connections by state, connections.max, transaction.longest, query.longest, blocked |
| pg_locks | locks by mode and whether granted |
| pg_stat_replication, pg_replication_slots | replication.lag, replication.delay, slot.retained, slot.active; on a standby standby.delay |
| pg_stat_statements | statement.calls, statement.time, statement.rows, statement.blocks.read of the `statements` costliest |

Every series has ``service.name``, and where it applies ``db.namespace``. Log records are described under
[postgresql_log](postgresql_log.md); they begin with what is written after the first start. Questions are read-only and end after
`timeout_s`. Repeats: after a crash points are read anew, the log goes on where it was durable.
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, SecretStr

from ninefold.ground.clock import now
from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.model.signal import Batch
from ninefold.plugin import Lent
from ninefold.sources.measured import Measured, Sample
from ninefold.sources.polling import Page, PollConfig, Poller
from ninefold.sources.postgresql_log import PostgresqlLog

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_log = get("postgresql")
_BLOCK = 1 << 20


class Question(NamedTuple):
    """A query whose text columns are attributes and whose numbers are metrics; `counters` only grow."""

    sql: str
    counters: frozenset[str] = frozenset()
    units: Mapping[str, str] = {}


def _question(sql: str, counters: str = "", **units: str) -> Question:
    return Question(sql, frozenset(counters.split()), {name.replace("__", "."): unit for name, unit in units.items()})


_QUESTIONS: dict[str, Question] = {
    "pg_stat_database": _question(
        'SELECT datname AS "db.namespace", numbackends AS backends, xact_commit AS commits, xact_rollback AS rollbacks,'
        ' blks_read AS "blocks.read", blks_hit AS "blocks.hit", tup_returned AS "rows.returned", tup_fetched AS "rows.fetched",'
        ' tup_inserted AS "rows.inserted", tup_updated AS "rows.updated", tup_deleted AS "rows.deleted", deadlocks, conflicts,'
        ' temp_files AS "temp.files", temp_bytes AS "temp.bytes" FROM pg_stat_database WHERE datname IS NOT NULL',
        "commits rollbacks blocks.read blocks.hit rows.returned rows.fetched rows.inserted rows.updated rows.deleted deadlocks conflicts"
        " temp.files temp.bytes",
        temp__bytes="By",
    ),
    "pg_stat_database (sessions)": _question(
        'SELECT datname AS "db.namespace", session_time / 1000 AS "session.time", active_time / 1000 AS "session.active",'
        ' sessions AS "session.count", sessions_fatal AS "session.fatal" FROM pg_stat_database WHERE datname IS NOT NULL',
        "session.time session.active session.count session.fatal",
        session__time="s",
        session__active="s",
    ),
    "pg_database_size": _question(
        'SELECT datname AS "db.namespace", pg_database_size(oid) AS "db.size" FROM pg_database WHERE datallowconn'
        " AND has_database_privilege(oid, 'CONNECT')",
        db__size="By",
    ),
    "pg_stat_activity": _question(
        "SELECT datname AS \"db.namespace\", coalesce(state, 'unknown') AS state, count(*) AS connections,"
        ' max(extract(epoch FROM now() - xact_start)) AS "transaction.longest",'
        " max(extract(epoch FROM now() - query_start)) FILTER (WHERE state = 'active') AS \"query.longest\","
        " count(*) FILTER (WHERE wait_event_type = 'Lock') AS blocked"
        " FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid() GROUP BY 1, 2",
        transaction__longest="s",
        query__longest="s",
    ),
    "max_connections": _question("SELECT current_setting('max_connections')::int AS \"connections.max\""),
    "pg_locks": _question(
        'SELECT d.datname AS "db.namespace", l.mode, l.granted::text AS granted, count(*) AS locks'
        " FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.pid <> pg_backend_pid() GROUP BY 1, 2, 3"
    ),
    "pg_stat_replication": _question(
        'SELECT application_name AS replica, client_addr::text AS "client.address", state,'
        ' pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) AS "replication.lag",'
        ' extract(epoch FROM replay_lag) AS "replication.delay" FROM pg_stat_replication WHERE NOT pg_is_in_recovery()',
        replication__lag="By",
        replication__delay="s",
    ),
    "pg_replication_slots": _question(
        'SELECT slot_name AS slot, slot_type AS type, active::int AS "slot.active",'
        ' pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS "slot.retained" FROM pg_replication_slots WHERE NOT pg_is_in_recovery()',
        slot__retained="By",
    ),
    "standby": _question(
        'SELECT extract(epoch FROM now() - pg_last_xact_replay_timestamp()) AS "standby.delay" WHERE pg_is_in_recovery()',
        standby__delay="s",
    ),
}
_STATEMENTS = _question(
    'SELECT d.datname AS "db.namespace", s.queryid::text AS "postgresql.query_id", left(min(s.query), 300) AS "db.query.text",'
    ' sum(s.calls) AS "statement.calls", sum(s.total_exec_time) / 1000 AS "statement.time", sum(s.rows) AS "statement.rows",'
    ' sum(s.shared_blks_read) AS "statement.blocks.read"'
    " FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
    # Only of these are the literals masked; of others, as ALTER ROLE … PASSWORD, the text would tell them.
    r" WHERE s.query ~* '^(\s|/\*[^*]*\*/|--[^\n]*\n|\()*(select|insert|update|delete|merge|with|values|table)\y'"
    " GROUP BY 1, 2 ORDER BY 5 DESC LIMIT {limit}",
    "statement.calls statement.time statement.rows statement.blocks.read",
    statement__time="s",
)
_FILE = "SELECT coalesce(pg_current_logfile('jsonlog'), pg_current_logfile('csvlog'))"
_OLD_FILE = "SELECT pg_current_logfile('csvlog')"
_NEXT_FILE = (
    "SELECT left(%(file)s, -length(done.name)) || found.name FROM (SELECT regexp_replace(%(file)s, '.*/', '') AS name) AS done"
    " LEFT JOIN pg_ls_logdir() AS before ON before.name = done.name CROSS JOIN pg_ls_logdir() AS found"
    " WHERE CASE WHEN before.name IS NULL THEN found.name > done.name"
    " ELSE (found.modification, found.name) > (before.modification, before.name) END"
    " AND found.name LIKE '%%' || regexp_replace(%(file)s, '.*\\.', '.') ORDER BY found.modification, found.name LIMIT 1"
)
"""The file written after a finished one. By time, as names may come round (``postgresql-%a.log``); by name when it is gone."""


class Postgresql(Poller):
    """A PostgreSQL server's statistics and log."""

    kind = "postgresql"
    title = "PostgreSQL"
    signals = frozenset(("metric", "log"))

    class Config(PollConfig):
        """Which server, and what of it."""

        dsn: SecretStr = Field(description="How to connect: libpq's ``host=… dbname=… user=… password=… sslmode=verify-full`` or its URL.")
        service: str = Field("", description="The server's name as a service; the source's name by default.")
        statements: int = Field(50, ge=0, le=1000, description="How many of the costliest statements to follow; 0 for none.")
        sizes: bool = Field(True, description="Measure the databases' sizes, which reads their directories.")
        log: bool = Field(True, description="Read the server's log, where it is written as jsonlog or csvlog and we may.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._service = config.service or name
        self._measured = Measured(name)
        self._parser = PostgresqlLog("", "", "", name, f"service:{self._service}")
        self._without: set[str] = set()
        self._texts: dict[tuple[str, str], str] = {}

    async def page(self, position: dict[str, Any]) -> Page:
        """Everything measured now, and what the log says since; more of a long log at once."""
        async with self._connected() as connection:
            batches = [] if position.get("behind") else await self._measure(connection)
            if not self.config.log:
                return Page(batches, position)
            logs, after = await self._read_log(connection, {key: value for key, value in position.items() if key != "behind"})
        more = bool(after.pop("behind", False))
        return Page([*batches, *logs], after | ({"behind": True} if more else {}), more)

    def forget(self, batches: Any) -> None:
        """Told which batches were not kept."""
        self._measured.forget(batches)

    async def _measure(self, connection: AsyncConnection[Any]) -> list[Batch]:
        questions = {name: question for name, question in _QUESTIONS.items() if self.config.sizes or name != "pg_database_size"}
        if self.config.statements:
            questions["pg_stat_statements"] = _STATEMENTS._replace(sql=_STATEMENTS.sql.format(limit=self.config.statements))
        time, samples = now(), list[Sample]()
        for name, question in questions.items():
            for row in await self._try(connection, name, question.sql):
                samples += self._samples(row, question, time)
        return self._measured.batches(samples, time)

    def _samples(self, row: Mapping[str, Any], question: Question, time: int) -> Iterator[Sample]:
        attributes = {"service.name": self._service} | {name: value for name, value in row.items() if isinstance(value, str) and value}
        if "db.query.text" in attributes:  # one statement, one series, however its text is spaced today
            key = attributes["db.namespace"], attributes.get("postgresql.query_id", "")
            attributes["db.query.text"] = self._texts.setdefault(key, attributes["db.query.text"])
        for name, value in row.items():
            if value is not None and not isinstance(value, str):
                kind = "counter" if name in question.counters else "gauge"
                yield Sample(f"postgresql.{name}", attributes, time, float(value), kind, question.units.get(name, ""))

    async def _read_log(self, connection: AsyncConnection[Any], position: dict[str, Any]) -> tuple[list[Batch], dict[str, Any]]:
        """The next block of the log and the position behind it; a file that was rotated away is read to its end first."""
        current = await self._one(connection, "log file", _FILE if connection.info.server_version >= 150000 else _OLD_FILE)
        if not current:
            return [], position
        file, offset = position.get("file", current), position.get("offset")
        found = await self._try(connection, "log", "SELECT size FROM pg_stat_file(%(file)s, true)", {"file": file})
        size = int(found[0]["size"]) if found and found[0]["size"] is not None else 0
        if offset is None:
            return [], {"file": file, "offset": size}
        offset = offset if offset <= size else 0  # the file was cut
        block = await self._one(
            connection, "log", "SELECT pg_read_binary_file(%(file)s, %(offset)s, %(length)s, true)",
            {"file": file, "offset": offset, "length": _BLOCK},
        )  # fmt: skip
        data = bytes(block or b"")
        ended = file != current and offset + len(data) >= size  # its last line may lack the end
        whole = self._parser.complete(data, ended) or (len(data) if len(data) == _BLOCK else 0)
        if whole:
            decoded = self._parser.parse(data[:whole], offset, now())
            return decoded.batches, {"file": file, "offset": offset + whole, "behind": offset + len(data) < size or file != current}
        if file == current or data:
            return [], {"file": file, "offset": offset}
        following = await self._one(connection, "log", _NEXT_FILE, {"file": file}) or current
        return [], {"file": following, "offset": 0, "behind": True}

    async def _one(self, connection: AsyncConnection[Any], name: str, sql: str, about: Mapping[str, Any] | None = None) -> Any:
        rows = await self._try(connection, name, sql, about)
        return next(iter(rows[0].values())) if rows else None

    async def _try(
        self, connection: AsyncConnection[Any], name: str, sql: str, about: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a question, none where we may not ask it or the server does not know it, which is said once."""
        from psycopg import Error, OperationalError

        try:
            return await (await connection.execute(sql.encode(), about)).fetchall()
        except OperationalError:
            raise
        except Error as error:
            if name not in self._without:
                self._without.add(name)
                _log.warning("%s goes without %s: %s", self.name, name, " ".join(str(error).split())[:200])
            return []

    @asynccontextmanager
    async def _connected(self) -> Any:
        try:
            from psycopg import AsyncConnection, OperationalError, ProgrammingError
            from psycopg.rows import dict_row
        except ImportError:
            raise ConfigError(f"sources.{self.name}: PostgreSQL needs psycopg; install ninefold[postgresql]") from None
        limit = int(self.config.timeout_s * 1000)
        options = f"-c statement_timeout={limit} -c default_transaction_read_only=on -c client_encoding=UTF8"
        try:
            connection = await AsyncConnection.connect(
                self.config.dsn.get_secret_value(), autocommit=True, row_factory=dict_row, options=options,
                application_name="ninefold", connect_timeout=max(2, int(min(self.config.timeout_s, 10))),
            )  # fmt: skip
            async with connection:
                yield connection
        except ProgrammingError as error:
            raise ConfigError(f"sources.{self.name}.dsn: {error}") from error
        except OperationalError as error:
            said = " ".join(str(error).split())[:300]
            kind = Refused if "authentication" in said or "permission" in said or "does not exist" in said else Unavailable
            raise kind(f"PostgreSQL of {self.name}: {said}") from error
