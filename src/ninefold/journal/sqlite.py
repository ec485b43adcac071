"""The journal in one SQLite file: write-ahead log, ``synchronous=FULL``, group commit.

One thread writes. While it waits for the disk, appends from all other threads queue up and share the next commit, so
many small senders cost one fsync together. A reader's position, its state and what it produced are set in one
transaction, which makes every reader exactly-once without a coordinator; so are a sender's batches and the place up to which it had sent.
Consumed batches are deleted and their pages used again, so the file is as large as the largest backlog ever was.

Every batch and every state has a checksum. A file that is damaged is salvaged when it is opened (`salvage`); a batch that turns out to be
damaged when it is read is passed over, counted and reported.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from secrets import token_hex
from typing import Any, Literal

import pyarrow as pa

from ninefold.ground.errors import Unavailable
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.journal.mark import SHORT_STATE_BYTES, Mark, MarkFile
from ninefold.journal.salvage import GAP, Row, batch_sum, is_damage, mend, placed, prepare, row_of, row_sum, state_sum, sync
from ninefold.model.signal import Batch, from_ipc

_log = get("journal")
_IN_FLIGHT_LIMIT_BYTES = 256 << 20
_TRIM_ROWS = 256
_TRIM_EVERY_S = 1.0
_RESTART = "; restart Ninefold, which saves what can be read"


@dataclass(slots=True)
class _Job:
    rows: list[Row]
    size: int
    reader: str = ""
    position: int | None = None
    """Where the reader is; None: at the end of these rows, as a sender that keeps its place."""
    state: bytes | None = None
    part: int | None = None
    """`state` is this part of the reader's, not the whole."""
    done: Future[int] = field(default_factory=Future)


class SqliteJournal:
    """The default journal; see `plugin.Journal` for the contract.

    Args:
        path: the file; its folder is made.
        readers: the readers that must have passed a batch before it is deleted.
        size_limit_bytes: the backlog at which `append` refuses.
        meter: where figures go.
        floor: a position that is known elsewhere; new ones lie behind it, also when this file is new.

    Attributes:
        id: made with the file, so that its positions are never taken for another journal's.
        loss: what a salvage at opening saved and lost; None when the file was whole.

    Raises:
        Unavailable: the file is locked by another process or the folder cannot be written.
    """

    def __init__(self, path: Path, readers: Sequence[str], size_limit_bytes: int, meter: Meter, floor: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._limit = path, size_limit_bytes
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._arrived = threading.Condition()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._in_flight = 0
        self._closed = False
        self._error = ""
        self._broken = False
        self._mark_file = MarkFile(path.with_suffix(".mark"))
        mark = self._mark_file.read()
        self.loss, self._size = mend(path, mark, readers, floor)
        self._write = self._open()
        prepare(self._write)
        self.id = self._identify()
        self._readers = {name: self._read_position(name) for name in readers}
        top = self._write.execute("select max(position) from log").fetchone()[0] or 0
        own = mark if mark is not None and mark.id == self.id else None
        head = max(top, own.head if own else 0, *self._readers.values())
        self._head = max(head, floor)
        if self.loss is not None:
            self._base = self.loss.head - 1
        elif own and head == self._head and top < own.head + GAP:
            self._base = own.base
        else:  # behind a floor, or behind a salvage after which no mark was written, positions begin anew
            self._base = max(top, floor)
        self._short: dict[str, str] = {}
        self._kept = {name: place for name, (place, _) in own.readers.items() if name not in self._readers} if own else {}
        self._trimmed, self._trimmed_to = time.monotonic(), 0
        self._received = meter.counter("ninefold_journal_received_total", "Rows made durable, by signal and source.")
        self._commit_s = meter.histogram("ninefold_journal_commit_seconds", "Duration of one group commit.")
        self._depth = meter.gauge("ninefold_journal_size_bytes", "Bytes waiting for the slowest reader.")
        self._damaged: set[int] = set()
        self._lost = meter.counter("ninefold_journal_lost_batches_total", "Batches that could not be read back from the disk.")
        if self.loss is not None:
            self._lost.add(self.loss.lost)
        for name in self._readers:
            self._note_state(name, self.state(name))
        self._note("open", durable=True)
        sync(path.parent)
        self._behind = meter.gauge("ninefold_journal_lag_batches", "Batches between a reader's committed position and the head.")
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """What is wrong now: why nothing can be appended, with the reader that is furthest behind when it is full, or that the file is
        damaged; empty when all is well."""
        if self._error:
            return f"nothing can be written to {self._path}: {self._error}{_RESTART if self._broken else ''}"
        if self._broken:
            return f"{self._path} is damaged{_RESTART}"
        if self._size <= self._limit:
            return ""
        slowest = min(self._readers, key=self._readers.__getitem__, default="nobody")
        return f"the journal is full because the reader {slowest} is {self._head - self._readers.get(slowest, 0)} batches behind"

    def append(self, batches: Sequence[Batch], keep: tuple[str, bytes] | None = None) -> Future[int]:
        """Queue batches for the next group commit; see `plugin.Journal.append`."""
        if self._size > self._limit and batches:
            raise Unavailable(f"{self.problem}; send again later", retry_after_s=5)
        if self._in_flight > _IN_FLIGHT_LIMIT_BYTES:
            raise Unavailable("the journal is busy; send again later", retry_after_s=1)
        job = _job(batches)
        if keep is not None:
            job.reader, job.state = keep
        return self._submit(job)

    def commit(self, reader: str, position: int, state: bytes | None = None, outputs: Sequence[Batch] = ()) -> Future[int]:
        """Set a reader's position, state and outputs in one transaction; see `plugin.Journal.commit`."""
        job = _job(outputs)
        job.reader, job.position, job.state = reader, position, state
        return self._submit(job)

    def put(self, reader: str, number: int, blob: bytes) -> Future[int]:
        """Keep a part of a reader's state by its number; see `plugin.Journal.put`."""
        return self._submit(_Job([], 0, reader, state=blob, part=number))

    def part(self, reader: str, number: int) -> bytes:
        """A part of a reader's state; see `plugin.Journal.part`."""
        name = f"part {number} of {reader}"
        return self._checked(name, self._row(name, "select blob, crc from part where reader = ? and number = ?", reader, number))

    def read(self, after: int, limit: int = 64, signals: Sequence[str] = (), size_bytes: int = 32 << 20) -> list[Batch]:
        """Batches behind `after`, in order; see `plugin.Journal.read`."""
        where = f" and signal in ({','.join('?' * len(signals))})" if signals else ""
        found: list[Batch] = []
        last = after
        sql = f"select position, signal, source, received, blob, crc from log where position > ?{where} order by position limit ?"  # noqa: S608
        try:
            with closing(self._reading().execute(sql, (after, *signals, limit))) as rows:
                for position, signal, source, received, blob, crc in rows:
                    last = position
                    try:
                        if crc is not None and crc != row_sum(position, batch_sum(signal, source, received, blob)):
                            raise ValueError("its checksum is wrong")
                        found.append(Batch(signal, source, received, from_ipc(blob), position))
                    except (pa.ArrowException, ValueError, OSError) as error:
                        self._lose(position, f"{signal} from {source}", error)
                    size_bytes -= len(blob)
                    if size_bytes <= 0:
                        break
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._broken = True
            if last == after and limit > 1:  # the cursor was a row ahead, so the first one may be well
                return self.read(after, 1, signals, size_bytes)
            if last == after:
                last = self._pass_over(after, where, signals, error)
        if not found and last > after:  # nothing but damage: an empty answer would say that there is nothing more
            return self.read(last, limit, signals, size_bytes)
        return found

    def position(self, reader: str) -> int:
        """The committed position of a reader."""
        return self._readers.get(reader, 0) or self._read_position(reader) or self._kept.get(reader, 0)

    def state(self, reader: str) -> bytes:
        """The committed state of a reader."""
        short = self._short.get(reader)
        if short is not None:  # no damage to the file can reach it there
            return bytes.fromhex(short)
        return self._checked(reader, self._row(reader, "select state, crc from reader where name = ?", reader))

    def head(self) -> int:
        """The last durable position."""
        return self._head

    def size_bytes(self) -> int:
        """Bytes that wait for the slowest reader."""
        return int(self._size)

    def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until something lies behind `after`."""
        with self._arrived:
            return self._arrived.wait_for(lambda: self._head > after or self._closed, timeout_s) and self._head > after

    def close(self) -> None:
        """Commit what is queued and close the file."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        self._jobs.put(None)
        self._thread.join()
        with self._arrived:
            self._arrived.notify_all()
        for connection in self._connections:
            connection.close()
        self._note("closed", durable=True)
        self._mark_file.close()

    def _submit(self, job: _Job) -> Future[int]:
        with self._guard:
            if self._closed:
                raise Unavailable("the journal is closed because the program is stopping; send again later")
            job.done.set_running_or_notify_cancel()  # from here on a caller who gives up no longer stops the job
            self._in_flight += job.size
            self._jobs.put(job)
        return job.done

    def _pass_over(self, after: int, where: str, signals: Sequence[str], error: sqlite3.Error) -> int:
        """The position of the batch behind `after`, which cannot be read.

        Raises:
            Unavailable: not even that can be read.
        """
        try:
            sql = f"select position from log where position > ?{where} order by position limit 1"  # noqa: S608
            row = self._reading().execute(sql, (after, *signals)).fetchone()
        except sqlite3.DatabaseError:
            row = None
        if row is None:
            raise Unavailable(f"nothing can be read behind position {after} ({error}): {self.problem}", retry_after_s=30) from error
        self._lose(row[0], "unreadable", error)
        return int(row[0])

    def _row(self, name: str, sql: str, *keys: str | int) -> tuple[Any, ...] | None:
        """The row of a reader or of a part; None when there is none, or none that can be read, which the next start mends."""
        try:
            row: tuple[Any, ...] | None = self._reading().execute(sql, keys).fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._broken = True
            _log.error("the state of %s cannot be read from %s (%s) and begins anew, so something may come twice", name, self._path, error)
            return None
        return row

    def _checked(self, name: str, row: tuple[Any, ...] | None) -> bytes:
        """A state of a (state, checksum) row; b"" when there is none that is as it was written."""
        if row and row[1] is not None and row[1] != state_sum(name, row[0]):
            _log.error("the state of %s is damaged in %s and is lost; it begins anew, so something may come twice", name, self._path)
            return b""
        return bytes(row[0]) if row else b""

    def _lose(self, position: int, what: str, error: Exception) -> None:
        """Pass over a batch whose bytes on disk are damaged, and say so once."""
        with self._guard:
            known = position in self._damaged
            self._damaged.add(position)
        if not known:
            self._lost.add()
            _log.error("batch %d (%s) is damaged in %s and is lost: %s", position, what, self._path, error)

    def _note_state(self, reader: str, state: bytes) -> None:
        self._short.pop(reader, None)
        if len(state) <= SHORT_STATE_BYTES:
            self._short[reader] = state.hex()

    def _note(self, condition: Literal["open", "closed"], durable: bool = False) -> None:
        """Write the mark."""
        readers = {name: (position, self._short.get(name)) for name, position in (*self._kept.items(), *self._readers.items())}
        self._mark_file.write(Mark(self.id, self._head, self._base, "damaged" if self._broken else condition, readers), durable)

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_TRIM_EVERY_S)
            except Empty:  # a full journal gets no appends, so what was consumed must go without one
                if min(self._readers.values(), default=0) > self._trimmed_to:
                    self._commit_group([])
                continue
            stop = job is None
            group = [job] if job is not None else []
            while not self._jobs.empty():  # everybody who came during the last commit goes into this one
                job = self._jobs.get()
                stop = stop or job is None
                if job is not None:
                    group.append(job)
            if group:
                self._commit_group(group)
            if stop:
                return

    def _commit_group(self, group: list[_Job]) -> None:
        started = time.monotonic()
        head, ends = self._head, []
        write = self._write
        try:
            write.execute("begin immediate")
            for job in group:
                for row in job.rows:
                    head += 1
                    write.execute("insert into log values(?,?,?,?,?,?,?)", placed(head, row))
                if job.reader:
                    self._set(job, head)
                ends.append(head)
            freed = self._trim(started)
            write.execute("commit")
        except Exception as error:  # noqa: BLE001 - whatever it is, everybody who waits is told, and the only writer lives on
            with suppress(sqlite3.Error):  # a disk that fails may refuse this as well; the next "begin" tells
                if write.in_transaction:
                    write.execute("rollback")
            self._fail(group, error)
            return
        if self._error:
            _log.info("%s can be written again", self._path)
            self._error = ""
        self._size += sum(job.size for job in group) - freed
        for job, end in zip(group, ends, strict=True):
            self._remember(job, end)
        with self._arrived:
            self._head = head
            self._arrived.notify_all()
        self._note("open")
        for name, position in self._readers.items():
            self._behind.set(float(head - position), reader=name)
        self._settle(group)
        self._commit_s.observe(time.monotonic() - started)
        self._depth.set(self._size)
        for job, end in zip(group, ends, strict=True):
            job.done.set_result(end)

    def _set(self, job: _Job, head: int) -> None:
        """Write a reader's position and state, or a part of its state."""
        state = job.state or b""
        if job.part is not None:  # an empty one stays as a row, so that row ids only grow: by them a salvage knows the newest
            sum_ = state_sum(f"part {job.part} of {job.reader}", state)
            self._write.execute("insert or replace into part values(?,?,?,?)", (job.reader, job.part, state, sum_))
            return
        self._write.execute(
            "insert into reader values(?,?,?,?) on conflict(name) do update set position = excluded.position"
            + ("" if job.state is None else ", state = excluded.state, crc = excluded.crc"),
            (job.reader, head if job.position is None else job.position, state, state_sum(job.reader, state)),
        )

    def _remember(self, job: _Job, end: int) -> None:
        """Take over what was committed."""
        if job.reader and job.part is None:
            known = self._readers if job.reader in self._readers else self._kept
            known[job.reader] = end if job.position is None else job.position
            if known is self._readers and job.state is not None:
                self._note_state(job.reader, job.state)
        for signal, source, _, rows, _, _ in job.rows:
            self._received.add(rows, signal=signal, source=source)

    def _trim(self, now_s: float) -> int:
        """Delete a bounded number of batches that every reader has passed; returns the bytes freed."""
        if now_s - self._trimmed < _TRIM_EVERY_S:
            return 0
        passed = min(self._readers.values(), default=0)
        last, count, size = self._write.execute(
            "select max(position), count(*), coalesce(sum(length(blob)), 0) from"
            " (select position, blob from log where position <= ? order by position limit ?)",
            (passed, _TRIM_ROWS),
        ).fetchone()
        if last is not None:
            self._write.execute("delete from log where position <= ?", (last,))
        if count < _TRIM_ROWS:
            self._trimmed, self._trimmed_to = now_s, passed
        return int(size)

    def _settle(self, group: list[_Job]) -> None:
        with self._guard:
            self._in_flight -= sum(job.size for job in group)

    def _fail(self, group: list[_Job], error: Exception) -> None:
        self._settle(group)
        if isinstance(error, sqlite3.Error) and is_damage(error) and not self._broken:
            self._broken = True
            self._note("open", durable=True)
        if str(error) != self._error:
            self._error = str(error)
            _log.error("nothing can be made durable: %s; senders are refused until %s can be written", error, self._path)
        refusal = Unavailable(f"the journal cannot write to disk ({error}); send again later", retry_after_s=5)
        for job in group:
            job.done.set_exception(refusal)

    def _identify(self) -> str:
        if self._write.execute("select count(*) from meta").fetchone()[0] == 0:
            self._write.execute("insert into meta values(?)", (token_hex(8),))
        return str(self._write.execute("select id from meta").fetchone()[0])

    def _read_position(self, reader: str) -> int:
        row = self._row(reader, "select position from reader where name = ?", reader)
        return int(row[0]) if row else 0

    def _reading(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open()
        return connection

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30, check_same_thread=False)
            connection.executescript("pragma page_size=16384; pragma journal_mode=wal; pragma synchronous=full; pragma mmap_size=0;")
        except sqlite3.Error as error:
            raise Unavailable(f"the journal {self._path} cannot be opened: {error}; check the folder and its owner") from error
        with self._guard:
            self._connections.append(connection)
        return connection


def _job(batches: Sequence[Batch]) -> _Job:
    rows = [row_of(batch) for batch in batches if batch.rows.num_rows]
    return _Job(rows, sum(len(row[4]) for row in rows))
