"""Connections to the engine: embedded chDB or a ClickHouse server, a few of each, and their errors in our own words."""

from __future__ import annotations

import fcntl
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ninefold.ground.errors import BadData, ConfigError, NinefoldError, Refused, Unavailable
from ninefold.store.unfinished import take_back

_SETTINGS = {
    "final": "1",  # what arrived twice is seen once, without every query having to say so
    "max_partitions_per_insert_block": "0",  # a file with a year of history is one insert
    "max_execution_time": "120",
    "timeout_before_checking_execution_speed": "0",  # stop by the clock, not by an estimate
    "output_format_arrow_compression_method": "none",
    "output_format_json_quote_64bit_integers": "1",
    "date_time_output_format": "iso",
}
# Caches are capped because an idle program should be small and its working set is the last hours; two merge threads and few
# schedulers are enough for one machine.
_ENGINE = """<clickhouse>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
  <mark_cache_size>{cache}</mark_cache_size>
  <primary_index_cache_size>{cache}</primary_index_cache_size>
  <index_mark_cache_size>33554432</index_mark_cache_size>
  <text_index_tokens_cache_size>33554432</text_index_tokens_cache_size>
  <text_index_header_cache_size>33554432</text_index_header_cache_size>
  <text_index_postings_cache_size>67108864</text_index_postings_cache_size>
  <query_condition_cache_size>16777216</query_condition_cache_size>
  <compiled_expression_cache_size>16777216</compiled_expression_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <backups><allowed_path>/</allowed_path></backups>
</clickhouse>
"""
_CACHE_BYTES = 128 << 20
_PARALLEL_SINCE = (26, 9)
"""The embedded engine 26.5 sometimes waits for ever where several threads group one query's rows; 26.9 does not."""
_RETRY_CODES = frozenset((3, 76, 159, 160, 173, 198, 202, 203, 209, 210, 225, 236, 241, 242, 243, 252, 279, 319, 394, 425, 999))
"""ClickHouse error codes after which the same statement can succeed: busy, out of memory or disk, cancelled, not connected."""
_LIMIT_CODES = {
    158: "reads too many rows", 159: "takes too long", 160: "takes too long", 241: "needs too much memory", 307: "reads too much data",
    396: "returns too much data",
}  # fmt: skip
_NOISE = re.compile(
    r"\(version [^)]*\)+|\(for url [^)]*\)|[. ]+in scope .*(?=\([A-Z_]+\))|FORMAT (JSONCompact|Arrow|CSV|TSV).*(?=\([A-Z_]+\))",
    re.DOTALL | re.IGNORECASE,
)
_AUTH_CODES = frozenset((192, 193, 194, 497, 516))

Client = Any
"""A `clickhouse_connect` client; the library has no types."""


def connect(url: str, memory_limit_bytes: int, database: str = "") -> Client:
    """A client for ``chdb:///path``, ``http://…`` or ``https://…``.

    Raises:
        ConfigError: the URL is none of these, or the credentials are refused.
        Unavailable: the server cannot be reached, or the folder is in use by another process.
    """
    import clickhouse_connect

    parts = urlsplit(url)
    try:
        if parts.scheme == "chdb" and parts.path.startswith("/") and not parts.netloc:
            options = {"config-file": str(_engine_file(Path(parts.path), memory_limit_bytes))}
            client = clickhouse_connect.get_client(interface="chdb", path=parts.path, chdb_options=options, settings=dict(_SETTINGS))
            if tuple(map(int, str(client.server_version).split(".")[:2])) < _PARALLEL_SINCE:
                client.set_client_setting("max_threads", "1")
        elif parts.scheme in ("http", "https") and parts.hostname:
            client = clickhouse_connect.get_client(
                dsn=url,
                interface=parts.scheme,
                settings=dict(_SETTINGS),
                connect_timeout=5,
                send_receive_timeout=180,
                autogenerate_session_id=False,
                dedicated_pool=True,
            )
        else:
            raise ConfigError(f"store.url: {_without_password(url)!r} is not chdb:///path, http://host:port or https://host:port")
    except clickhouse_connect.driver.exceptions.Error as error:
        if getattr(error, "code", None) in _AUTH_CODES:
            raise ConfigError(f"store.url: {_without_password(url)} refuses the user or the password: {_clean(error)}") from error
        if parts.scheme == "chdb" and _in_use(Path(parts.path)):
            raise Unavailable(f"the store {parts.path} is in use by another process; stop that or use another data folder") from error
        raise Unavailable(f"the store {_without_password(url)} cannot be opened: {_clean(error)}", retry_after_s=5) from error
    client.database = database or None
    return client


def mend(url: str) -> None:
    """Mend what a kill left in the folder of an embedded engine that does not run; anything else is left alone.

    Raises:
        Unavailable: the folder cannot be read or written.
    """
    parts = urlsplit(url)
    if parts.scheme != "chdb" or _in_use(Path(parts.path)):
        return
    try:
        take_back(Path(parts.path))
    except OSError as error:
        raise Unavailable(f"the store's folder {parts.path} cannot be mended: {error.strerror}; check its owner and the disk") from error


def _engine_file(path: Path, memory_limit_bytes: int) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = path / "engine.xml"
        file.write_text(_ENGINE.format(memory=memory_limit_bytes, cache=min(_CACHE_BYTES, memory_limit_bytes // 8)))
    except OSError as error:
        raise Unavailable(f"the store's folder {path} cannot be written: {error.strerror}; check its owner and the disk") from error
    return file


def _in_use(path: Path) -> bool:
    """Whether another process has the engine's folder; the engine itself only says that it failed."""
    try:
        with (path / "status").open("r+") as status:
            fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


class Pool:
    """Up to `limit` clients, each used by one thread at a time: a chDB connection does one thing at once.

    Args:
        make: opens one more client.
        limit: how many there may be.
        wait_s: how long a thread waits for a free one.
    """

    def __init__(self, make: Callable[[], Client], limit: int, wait_s: float) -> None:
        self._make, self._limit, self._wait_s = make, limit, wait_s
        self._free: list[Client] = []
        self._open = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client for this thread, given back afterwards. One on which the engine failed is closed instead: a chDB connection
        puts what a failed query had already written in front of the next query's answer.

        Raises:
            Unavailable: all are busy for too long, the store is closed, or a new one cannot be opened.
        """
        client = self._take()
        sound = False
        try:
            yield client
            sound = True
        except NinefoldError:
            sound = True
            raise
        finally:
            self._give_back(client, sound)

    def close(self) -> None:
        """Close every client, waiting for those that are in use."""
        with self._changed:
            self._closed = True
            for client in self._free:
                client.close()
            self._open -= len(self._free)
            self._free.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open == 0, timeout=180)

    def _take(self) -> Client:
        with self._changed:
            ready = self._changed.wait_for(lambda: self._closed or self._free or self._open < self._limit, timeout=self._wait_s)
            if self._closed:
                raise Unavailable("the store is closed because the program is stopping; ask again later")
            if not ready:
                raise Unavailable("the store is busy with other queries; ask again in a moment", retry_after_s=2)
            if self._free:
                return self._free.pop()
            self._open += 1
        try:
            return self._make()
        except BaseException:
            with self._changed:
                self._open -= 1
                self._changed.notify()
            raise

    def _give_back(self, client: Client, sound: bool) -> None:
        with self._changed:
            if sound and not self._closed:
                self._free.append(client)
            else:
                client.close()
                self._open -= 1
            self._changed.notify_all()


def in_our_words(error: Exception, *, asked: bool = False) -> NinefoldError:
    """The error of ours that says what an engine's error means.

    Args:
        error: what `clickhouse_connect` raised.
        asked: a person wrote the statement, so that its limits are theirs to keep.
    """
    from clickhouse_connect.driver.exceptions import OperationalError

    code, text = getattr(error, "code", None), _clean(error)
    if asked and code in _LIMIT_CODES:
        return Refused(f"the query {_LIMIT_CODES[code]}; ask for a shorter time range or fewer columns ({text})")
    if code in _RETRY_CODES or (code is None and isinstance(error, OperationalError)):
        return Unavailable(f"the store cannot answer now: {text}", retry_after_s=5)
    return BadData(f"the store does not understand the statement: {text}")


def _clean(error: Exception) -> str:
    """What ClickHouse said, on one line, without codes, versions, nesting and the statement it was asked."""
    text = " ".join(_NOISE.sub(" ", str(error).split("DB::Exception: ")[-1]).split())
    named = re.match(r".*?\([A-Z_]{4,}\)", text)
    return (named[0] if named else text)[:400] or type(error).__name__


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//", url)
