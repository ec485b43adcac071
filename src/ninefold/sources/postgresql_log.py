"""PostgreSQL's own log, as ``jsonlog`` (15 and later) or ``csvlog`` writes it: log records with what matters in fields.

| of the line | becomes |
|---|---|
| message | the body |
| error_severity | the severity as written; LOG is info |
| state_code | ``db.response.status_code`` (SQLSTATE) |
| statement, query_id | ``db.query.text``, ``postgresql.query_id`` |
| detail, hint, context | ``postgresql.detail`` … |
| dbname, user, remote_host, pid | ``db.namespace``, ``user.name``, ``client.address``, ``process.pid`` |
| application_name, backend_type, session_id | ``postgresql.application_name`` … |

``postgresql.event`` names what an operator looks for: ``deadlock``, ``lock_wait``, ``slow_query`` (a statement that took a second or
more), ``temporary_file``, ``crash``, ``out_of_memory``, ``disk_full``, ``too_many_connections``, ``login_failed``. A statement's duration
is ``postgresql.duration_ms``. Set ``log_timezone = 'UTC'``: PostgreSQL writes only the abbreviation of other zones, which names none; a
followed file reads such a time in its ``timezone``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

import orjson

from ninefold.model.signal import Batch, Decoded, batch_of, quarantine
from ninefold.sources.reading import text_of, time_of
from ninefold.sources.tables import whole_rows
from ninefold.sources.wall_time import moved_to

_CSV = (
    "timestamp", "user", "dbname", "pid", "connection", "session_id", "line_num", "ps", "session_start", "vxid", "txid", "error_severity",
    "state_code", "message", "detail", "hint", "internal_query", "internal_position", "context", "statement", "cursor_position",
    "location", "application_name", "backend_type", "leader_pid", "query_id",
)  # fmt: skip
_FEWEST = 23  # PostgreSQL 12 ends with application_name
_NAMES = {
    "state_code": "db.response.status_code", "statement": "db.query.text", "query_id": "postgresql.query_id", "dbname": "db.namespace",
    "user": "user.name", "remote_host": "client.address", "pid": "process.pid", "detail": "postgresql.detail", "hint": "postgresql.hint",
    "context": "postgresql.context", "application_name": "postgresql.application_name", "backend_type": "postgresql.backend_type",
    "session_id": "postgresql.session_id", "ps": "postgresql.command",
}  # fmt: skip
_NUMBER = {"PANIC": 21, "FATAL": 19, "ERROR": 17, "WARNING": 13, "NOTICE": 10, "INFO": 9, "LOG": 9}
_BY_STATE = {
    "40P01": "deadlock", "53100": "disk_full", "53200": "out_of_memory", "53300": "too_many_connections", "28P01": "login_failed",
    "28000": "login_failed",
}  # fmt: skip
_BY_TEXT = (("still waiting for", "lock_wait"), ("terminated by signal", "crash"), ("temporary file: path", "temporary_file"))
_DURATION = re.compile(r"duration: ([0-9.]+) ms(?:  (?:statement|parse|bind|execute)[^:]*: (.*))?", re.DOTALL)
_SLOW_MS = 1000.0
_ABBREVIATED = re.compile(r" (?!UTC$|GMT$)[A-Z]{3,5}$")
"""A zone that only its abbreviation names, at the end of a time."""


class PostgresqlLog:
    """Parses blocks of a log file of either format; arguments and methods as of `text.TextParser`."""

    def __init__(self, name: str, path: str, mapping: str, source: str, entity: str, zone: tzinfo | None = UTC) -> None:
        self._source, self._entity, self._zone = source, entity, zone

    def start(self, first_line: bytes) -> None:
        """Neither format has a header."""

    def complete(self, buffer: bytes, final: bool) -> int:
        """How many bytes are whole records: a newline within the quotes of a CSV field ends none."""
        if final:
            return len(buffer)
        if buffer.lstrip()[:1] == b"{":
            return buffer.rfind(b"\n") + 1
        return whole_rows(buffer)

    def parse(self, block: bytes, offset: int, received: int) -> Decoded:
        """Log rows of a block of whole records; a line that is none goes to quarantine."""
        rows, bad = list[dict[str, Any]](), list[tuple[str, str, bytes]]()
        for entry, line in _json(block) if block.lstrip()[:1] == b"{" else _csv(block):
            time = self._time(entry.get("timestamp")) if entry else None
            if time is None:
                bad.append(("the line is no record of a PostgreSQL log", f"block at byte {offset}", line))
            else:
                rows.append(self._row(entry, time))
        batches: list[Batch] = [batch_of("log", self._source, received, rows)] if rows else []
        if bad:
            batches.append(quarantine(self._source, received, "log", "postgresql", bad))
        return Decoded(batches, len(bad), bad[0][0] if bad else "")

    def _time(self, value: Any) -> int | None:
        time = time_of(value)
        if time is None or not isinstance(value, str) or not _ABBREVIATED.search(value):
            return time
        return moved_to(time, self._zone)

    def _row(self, entry: Mapping[str, Any], time: int) -> dict[str, Any]:
        attributes = {name: text_of(entry[key]) for key, name in _NAMES.items() if entry.get(key) not in (None, "", 0)}
        message, severity = text_of(entry.get("message")), text_of(entry.get("error_severity"))
        event = _BY_STATE.get(text_of(entry.get("state_code"))) or next((name for words, name in _BY_TEXT if words in message), "")
        if match := _DURATION.match(message):
            attributes["postgresql.duration_ms"] = match[1]
            if match[2]:
                attributes.setdefault("db.query.text", match[2])
            event = event or ("slow_query" if float(match[1]) >= _SLOW_MS else "")
        if event:
            attributes["postgresql.event"] = event
        number = _NUMBER.get(severity, 5 if severity.startswith("DEBUG") else 0)
        return {
            "time": time, "entity": self._entity, "body": message, "severity_text": severity, "severity_number": number,
            "attributes": attributes,
        }  # fmt: skip


def _json(block: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    for line in block.split(b"\n"):
        if line.strip():
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                entry = None
            yield entry if isinstance(entry, dict) else {}, line


def _csv(block: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    try:
        for cells in csv.reader(io.StringIO(block.decode("utf-8", "replace").replace("\0", ""), newline=""), strict=False):
            if cells:
                yield _named(cells) if len(cells) >= _FEWEST else {}, ",".join(cells).encode()
    except csv.Error:
        yield {}, block


def _named(cells: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = dict(zip(_CSV, cells, strict=False))
    entry["remote_host"] = str(entry["connection"]).rpartition(":")[0] or entry["connection"]
    return entry
