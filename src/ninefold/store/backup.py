"""Backup while the program runs, and the restore into an empty folder.

A backup is what a power cut would have left at one moment. For that moment the store writer rests, so that the store has exactly what lies
before the journal's committed position, and both SQLite files are locked for the blink it takes to begin reading them; each is then copied
as it was. A program that is started on the restored folder therefore does what it does after a power cut, which loses and doubles nothing:
every reader goes on where it had committed.

While the store's files are copied what arrives waits in the journal, and senders notice nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from ninefold.ground.clock import iso, now
from ninefold.ground.errors import BadData, Conflict, NotFound, Refused, Unavailable
from ninefold.store.records.base import Records
from ninefold.store.telemetry import Telemetry

_MANIFEST = "manifest.json"
_VERSION = 1
_LOCK_S = 5.0
_running = threading.Lock()
"""Two at once would hold the writer longer and read the store twice; one process has one store."""


def back_up(
    to: Path, journal: Path, records: Records, store: Telemetry, resting: AbstractContextManager[None], store_target: str = ""
) -> dict[str, Any]:
    """Write a backup into the new folder `to`; it appears there when it is whole.

    Args:
        to: a folder that is not there yet, or is empty.
        journal: the journal's file.
        records: the records, in SQLite.
        store: the open store.
        resting: holds the store writer at a committed position.
        store_target: where the store writes its part, in ClickHouse's words with ``{name}`` for the backup's name; by default ``to``.

    Returns:
        The manifest.

    Raises:
        Conflict: there is something at `to` already, or another backup is running.
        Refused: the records are in another database than SQLite.
        Unavailable: the folder cannot be written, or a part of the program is too busy to hold still.
    """
    if records.engine.dialect.name != "sqlite":
        raise Refused("the records are not in SQLite: back up journal, records and store with their own tools while the program is stopped")
    if not _running.acquire(blocking=False):
        raise Conflict("another backup is running; wait until it has finished")
    try:
        return _back_up(to, journal, records, store, resting, store_target)
    finally:
        _running.release()


def _back_up(
    to: Path, journal: Path, records: Records, store: Telemetry, resting: AbstractContextManager[None], store_target: str
) -> dict[str, Any]:
    unfinished = _new(to)
    target = (store_target or f"File('{_quoted(unfinished / 'store')}')").replace("{name}", to.name)
    try:
        with ExitStack() as stack:
            with resting:
                copies = stack.enter_context(_frozen([journal, Path(str(records.engine.url.database))]))
                taken = now()
                store.backup(target)
            names = ("journal.db", "records.db")
            for name, source in zip(names, copies, strict=True):
                with closing(sqlite3.connect(unfinished / name)) as copy:
                    source.backup(copy)
        files = {name: {"bytes": (unfinished / name).stat().st_size, "sha256": _hash(unfinished / name)} for name in names}
        manifest = {"version": _VERSION, "time": iso(taken), "store": store_target and target, "files": files}
        _write(unfinished / _MANIFEST, manifest)
        if to.exists():
            to.rmdir()
        unfinished.rename(to)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"the backup could not be written to {to}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def restore(source: Path, data: Path, store_url: str, database: str, memory_limit_bytes: int = 2 << 30) -> dict[str, Any]:
    """Make the data folder of a backup; it appears at `data` when it is whole.

    Args:
        source: the backup's folder.
        data: a folder that is not there yet, or is empty.
        store_url: a ClickHouse server that has no such database; "" for the embedded store below `data`.
        database: the store's database.
        memory_limit_bytes: what the embedded engine may use.

    Returns:
        The manifest.

    Raises:
        NotFound: there is no backup in `source`.
        BadData: a file of it is not as it was written.
        Conflict: there is something at `data` already.
        Unavailable: the folder cannot be written, or the store cannot take it.
    """
    try:
        manifest: dict[str, Any] = json.loads((source / _MANIFEST).read_text())
    except (OSError, ValueError):
        raise NotFound(f"there is no backup in {source}: it has no {_MANIFEST}") from None
    if manifest.get("version") != _VERSION:
        raise BadData(f"the backup in {source} has version {manifest.get('version')}, this Ninefold reads {_VERSION}")
    for name, about in manifest["files"].items():
        if not (source / name).is_file() or _hash(source / name) != about["sha256"]:
            raise BadData(f"{source / name} is not as it was written; use another backup", name)
    unfinished = _new(data)
    try:
        for name in manifest["files"]:
            shutil.copyfile(source / name, unfinished / name)
        url = store_url or f"chdb://{(unfinished / 'store').absolute()}"
        Telemetry(url, database, memory_limit_bytes=memory_limit_bytes).restore(manifest["store"] or f"File('{_quoted(source / 'store')}')")
        if data.exists():
            data.rmdir()
        unfinished.rename(data)
    except OSError as error:
        raise Unavailable(f"the backup could not be restored to {data}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def _new(folder: Path) -> Path:
    """An empty folder beside `folder` to make it in."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already and is not empty; name a new folder")
    unfinished = folder.absolute().with_name(f".{folder.name}.{secrets.token_hex(4)}.unfinished")
    try:
        unfinished.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be made: {error.strerror}; check the owner of the folder above it") from error
    return unfinished


@contextmanager
def _frozen(files: Sequence[Path]) -> Iterator[list[sqlite3.Connection]]:
    """Connections that see all these databases as they were at one moment."""
    with ExitStack() as stack:
        readers = [_open(stack, file) for file in files]
        try:
            with ExitStack() as locks:
                for file in files:
                    _open(locks, file).execute("begin immediate")  # nobody writes until all readers have begun
                for reader in readers:
                    reader.execute("begin")
                    reader.execute("select count(*) from sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the program is too busy to be backed up now: {error}; try again", retry_after_s=10) from error
        yield readers


def _open(stack: ExitStack, file: Path) -> sqlite3.Connection:
    return stack.enter_context(closing(sqlite3.connect(file, isolation_level=None, timeout=_LOCK_S)))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("\\", "\\\\").replace("'", "\\'")
