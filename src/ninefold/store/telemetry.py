"""The telemetry store: batches in, SQL out, on embedded chDB or on any ClickHouse server, with the same statements.

Every append carries a token, and the engine ignores a token it has seen, so whoever fills the store from the journal may repeat
an append after a crash. Queries run on a few connections of their own and never wait for the writer.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Literal, NamedTuple

import orjson
import pyarrow as pa

from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, ConfigError, Unavailable
from ninefold.ground.log import get
from ninefold.model.signal import SCHEMAS, Batch
from ninefold.store import readonly, schema
from ninefold.store.client import Client, Pool, connect, in_our_words, mend
from ninefold.store.retention import Retention

_log = get("store")
_READERS = 6
_RESULT_BYTES = 32 << 20
_EXACT = 1 << 53
_PATIENT = {"max_execution_time": "0"}
"""For what may take as long as there is data."""
_UNHURRIED = {"lightweight_deletes_sync": "0"}
_MALLOC_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""What gives free memory of the C library back to the system; not every C library has it."""
_FORMATS = {"arrow": "ArrowStream", "csv": "CSVWithNames"}


class Selection(NamedTuple):
    """The answer to a person's query: columns as ``{"name", "type"}`` in ClickHouse's types, rows of JSON values, and whether rows
    were cut off. Times are RFC 3339 texts; 64-bit integers are numbers where a whole column is exact in JSON, else texts; NaN is None.
    """

    columns: list[dict[str, str]]
    rows: list[list[Any]]
    truncated: bool


class Telemetry:
    """The store of metrics, logs, spans, events, relations and what is in quarantine; see `plugin.Store`.

    Args:
        url: ``chdb:///path`` (embedded; one path a process, one process a path) or ``http://user:password@host:8123``.
        database: the database that holds the tables; it is made.
        retention_days: days to keep `metric`, `log`, `span`, `event` and the roll-ups; what is missing has its default.
        memory_limit_bytes: what the embedded engine may use.
        source_retention_days: source -> signal -> days, where a source's rows are kept for another time; `expire` sees to it.

    Attributes:
        retention: how long rows are kept.
    """

    def __init__(
        self,
        url: str,
        database: str = "ninefold",
        retention_days: Mapping[Any, int] | None = None,
        memory_limit_bytes: int = 2 << 30,
        source_retention_days: Mapping[str, Mapping[Any, int]] | None = None,
    ) -> None:
        self._url, self._database, self._memory = url, database, memory_limit_bytes
        self.retention = Retention(retention_days or {}, source_retention_days or {})
        self._writers = Pool(self._connect, 1, wait_s=600)
        self._readers = Pool(self._connect, _READERS, wait_s=30)
        self._anchor: Client = None  # an embedded engine lives as long as one connection to it
        self._opening = threading.Lock()
        self._words: tuple[frozenset[str], frozenset[str], tuple[str, ...]] | None = None

    def open(self) -> None:
        """Connect, and bring the tables and their retention up to date; doing it again changes nothing.

        Raises:
            ConfigError: the URL is wrong, the credentials are refused, or a newer Ninefold wrote the store.
            Unavailable: the store cannot be reached, or another process has it.
        """
        with self._opening:
            if self._anchor is None:
                mend(self._url)
                self._anchor = connect(self._url, self._memory)
            try:
                with _translated():
                    self._upgrade(self._anchor)
                    self._keep(self._anchor)
            except BaseException:
                self._anchor.close()
                self._anchor = None
                raise

    def append(self, batches: Sequence[Batch], token: str) -> int:
        """Insert batches, one insert a signal; a second call with the same token changes nothing.

        Rows are on disk when this returns. `raw` batches are passed over: the store keeps their normalised form.

        Returns:
            The number of rows given to the engine, counted again for a repeated token.

        Raises:
            BadData: a batch is of no known signal or has other columns than its signal.
            Unavailable: the store cannot take it now; repeat it with the same token.
        """
        tables = _by_table(batches)
        try:
            with _translated(), self._writers.client() as client:
                for name, rows in tables.items():
                    once = {"insert_deduplication_token": f"{token}:{name}"}
                    client.raw_insert(f"{self._database}.{name}", rows.schema.names, _stream(rows), once, "ArrowStream")
        except (BadData, OSError) as error:  # its columns were checked, so it is the engine or the disk: worth repeating
            raise Unavailable(f"the store did not take the rows: {error}", retry_after_s=5) from error
        return sum(rows.num_rows for rows in tables.values())

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run trusted SQL (``{name:Type}`` parameters, our tables without a prefix) and return an Arrow table.

        Raises:
            BadData: the statement is wrong.
            Unavailable: the store cannot answer now.
        """
        with _translated(), self._readers.client() as client:
            return _ask(client, sql, parameters)

    def select(self, sql: str, *, limit: int = 1000, timeout_s: float = 10.0, memory_bytes: int = 512 << 20) -> Selection:
        """Run a person's SQL: reading only, our tables only, within limits of rows, time and memory.

        Raises:
            BadData: the statement is wrong.
            Refused: the statement does more than read our tables, or exceeds a limit.
            Unavailable: the store cannot answer now.
        """
        answer = orjson.loads(self._guarded(sql, "JSONCompact", limit + 1, timeout_s, memory_bytes) or b'{"meta": [], "data": []}')
        rows = answer["data"]
        for place, column in enumerate(answer["meta"]):
            if column["type"] in ("UInt64", "Int64", "Nullable(UInt64)", "Nullable(Int64)"):
                _as_numbers(rows, place)
        return Selection(answer["meta"], rows[:limit], len(rows) > limit)

    def export(
        self, sql: str, format: Literal["arrow", "csv"], *, limit: int = 100_000, timeout_s: float = 30.0, memory_bytes: int = 512 << 20
    ) -> bytes:
        """As `select`, as an Arrow IPC stream or as CSV with a header line.

        Raises:
            BadData, Refused, Unavailable: as `select`.
        """
        return self._guarded(sql, _FORMATS[format], limit, timeout_s, memory_bytes)

    def mark_replayed(self, ids: Sequence[str]) -> None:
        """Note that quarantined records were sent through again.

        Raises:
            Unavailable: the store cannot take it now.
        """
        names = ", ".join(f"`{name}`" for name in SCHEMAS["quarantine"].names)
        sql = (
            f"INSERT INTO quarantine ({names}, replayed) SELECT {names}, fromUnixTimestamp64Nano({{at:Int64}}, 'UTC') "  # noqa: S608 - our names
            "FROM quarantine WHERE id IN {ids:Array(String)} AND replayed = 0"
        )
        with _translated(), self._writers.client() as client:
            client.command(sql, {"at": now(), "ids": list(ids)})

    def expire(self) -> list[str]:
        """Have the rows deleted that are too old for their source; the tables in which there were any. Whole days go by themselves.

        The engine does it in the background and inserts go on; the rows are gone a while later. A table whose last deletion is still
        running is passed over, so that they do not queue up; its rows go another time.

        Raises:
            Unavailable: the store cannot take it now.
        """
        touched = []
        running = self.query(
            "SELECT DISTINCT table FROM system.mutations WHERE database = {name:String} AND NOT is_done", {"name": self._database}
        )
        busy = set(running["table"].to_pylist())
        for table, condition, days, names in self.retention.deletions(self._database):
            if table in busy:
                continue
            asked = {"days": days, "names": list(names)}
            sql = f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1 SETTINGS final = 0"  # noqa: S608 - our names
            if self.query(sql, asked).num_rows == 0:
                continue
            with _translated(), closing(self._connect()) as client:
                client.command(f"DELETE FROM {table} WHERE {condition}", asked, settings=_UNHURRIED)  # noqa: S608 - our names
            touched.append(table)
        return touched

    def backup(self, target: str) -> None:
        """Write the database to `target`, in the engine's words: ``File('/new/folder')``, ``Disk('backups', 'name')``, ``S3(…)``.

        Raises:
            BadData, Unavailable: it cannot be written there.
        """
        with _translated(), self._readers.client() as client:
            _finish(client, f"BACKUP DATABASE {self._database} TO {target}")

    def restore(self, source: str) -> None:
        """Make the database from a backup. It must not be there: this comes before the first `open`.

        Raises:
            BadData, Unavailable: there is such a database already, or the backup cannot be read.
        """
        client = connect(self._url, self._memory)
        try:
            with _translated():
                _finish(client, f"RESTORE DATABASE {self._database} FROM {source}")
        finally:
            client.close()

    def trim(self) -> None:
        """Give memory that is free back to the system; for quiet times after a busy one. A server minds its own.

        Raises:
            Unavailable: the store is not open.
        """
        pa.default_memory_pool().release_unused()
        if _MALLOC_TRIM is not None:
            _MALLOC_TRIM(0)
        if self._url.startswith("chdb:"):
            with _translated(), self._readers.client() as client:
                client.command("SYSTEM JEMALLOC PURGE")

    def close(self) -> None:
        """Let go of all connections, after what runs on them; an embedded store's path is free afterwards."""
        self._readers.close()
        self._writers.close()
        with self._opening:
            if self._anchor is not None:
                self._anchor.close()
                self._anchor = None

    def _connect(self) -> Client:
        if self._anchor is None:
            raise Unavailable("the store is not open yet; ask again later")
        return connect(self._url, self._memory, self._database)

    def _upgrade(self, client: Client) -> None:
        name = self._database
        client.command(f"CREATE DATABASE IF NOT EXISTS {name}" + (" ENGINE = Atomic" if self._url.startswith("chdb:") else ""))
        client.command(
            f"CREATE TABLE IF NOT EXISTS {name}.schema_version (version UInt32, time DateTime('UTC') DEFAULT now()) "
            "ENGINE = MergeTree ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
        )
        (version,) = _ask(client, f"SELECT max(version) AS v FROM {name}.schema_version")["v"].to_pylist()  # noqa: S608 - our name
        latest = len(schema.UPGRADES)
        if version > latest:
            raise ConfigError(f"the store has schema version {version} and this Ninefold knows {latest}; start the newer Ninefold again")
        for step in range(version + 1, latest + 1):
            for statement in schema.statements(step, name, self.retention.ttl_days):
                client.command(statement)
            client.command(f"INSERT INTO {name}.schema_version (version) VALUES ({step})")  # noqa: S608 - our name
            _log.info("the store %s has schema version %d", name, step)

    def _keep(self, client: Client) -> None:
        """Change the retention of the tables that have another one."""
        kept = _ask(
            client,
            r"SELECT name, toInt64OrZero(extract(create_table_query, 'toIntervalDay\\((\\d+)')) AS days FROM system.tables "
            "WHERE database = {database:String}",
            {"database": self._database},
        ).to_pydict()
        for name, days in zip(kept["name"], kept["days"], strict=True):
            wanted = self.retention.ttl(name)
            if wanted and wanted[0] != days:
                client.command(f"ALTER TABLE {self._database}.{name} MODIFY TTL {wanted[1]}")
                _log.info("%s is now kept for %d days (before: %d)", name, wanted[0], days)

    def _guarded(self, sql: str, format: str, limit: int, timeout_s: float, memory_bytes: int) -> bytes:
        statement = readonly.read(sql, self._database, schema.READABLE)
        limits = (
            f"readonly = 1, limit = {limit:d}, max_execution_time = {timeout_s:f}, max_memory_usage = {memory_bytes:d}, "
            f"max_result_bytes = {_RESULT_BYTES}, result_overflow_mode = 'throw'"
        )
        with _translated(asked=True), self._readers.client() as client:
            if statement.select:
                tree = client.raw_query(f"EXPLAIN AST {statement.select}", fmt="TSVRaw").decode("utf-8", "replace")
                readonly.check(tree, self._database, *self._vocabulary(client))
            answer: bytes = client.raw_query(f"{statement.text}\nFORMAT {format} SETTINGS {limits}")
        return answer

    def _vocabulary(self, client: Client) -> tuple[frozenset[str], frozenset[str], tuple[str, ...]]:
        """In lower case: the other databases, the function names and the aggregate combinators."""
        if self._words is None:
            databases, functions, combinators = (
                [str(name).lower() for name in _ask(client, f"SELECT name FROM system.{what}")["name"].to_pylist()]  # noqa: S608 - below
                for what in ("databases", "functions WHERE origin = 'System'", "aggregate_function_combinators WHERE NOT is_internal")
            )
            self._words = frozenset(databases) - {self._database.lower()}, frozenset(functions), tuple(combinators)
        return self._words


def _by_table(batches: Sequence[Batch]) -> dict[str, pa.Table]:
    groups: dict[str, list[pa.RecordBatch]] = {name: [] for name in schema.TABLES}
    for batch in batches:
        if batch.signal == "raw":
            continue
        if batch.signal not in groups:
            raise BadData(f"the store has no table for the signal {batch.signal!r}; it keeps {', '.join(schema.TABLES)}", "signal")
        if not batch.rows.schema.equals(SCHEMAS[batch.signal]):
            raise BadData(f"a batch of {batch.signal} from {batch.source!r} has other columns than its signal", "rows")
        groups[batch.signal].append(batch.rows)
    return {name: pa.Table.from_batches(rows) for name, rows in groups.items() if any(part.num_rows for part in rows)}


def _stream(table: pa.Table) -> pa.Buffer:
    """Arrow IPC stream bytes in one batch, which the engine takes as one block: the token then stands for all of it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def _ask(client: Client, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
    answer = client.raw_query(sql, dict(parameters or {}), fmt="ArrowStream")
    with pa.ipc.open_stream(pa.py_buffer(answer)) as reader:
        return _with_bytes(reader.read_all())


def _with_bytes(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("payload")  # the one column of bytes; the engine has one type for texts and bytes
    return table if place < 0 else table.set_column(place, "payload", table.column(place).cast(pa.binary()))


def _finish(client: Client, order: str) -> None:
    """Begin a backup or a restore, which may take longer than any request may, and wait for its end."""
    (name, *_) = client.command(f"{order} ASYNC", settings=_PATIENT)
    while True:
        (state,) = _ask(
            client, "SELECT toString(status) AS word, error FROM system.backups WHERE id = {id:String}", {"id": name}
        ).to_pylist()
        if state["word"] in ("BACKUP_CREATED", "RESTORED"):
            return
        if not state["word"].startswith(("CREATING", "RESTORING")):
            raise Unavailable(f"the store did not finish {order.partition(' ')[0]}: {' '.join(state['error'].split())[:400]}")
        time.sleep(0.05)


def _as_numbers(rows: list[list[Any]], place: int) -> None:
    values = [None if row[place] is None else int(row[place]) for row in rows]
    if all(value is None or -_EXACT <= value <= _EXACT for value in values):
        for row, value in zip(rows, values, strict=True):
            row[place] = value


@contextmanager
def _translated(*, asked: bool = False) -> Iterator[None]:
    from clickhouse_connect.driver.exceptions import Error

    try:
        yield
    except Error as error:
        raise in_our_words(error, asked=asked) from error
