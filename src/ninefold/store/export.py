"""Cold export: what is old as Parquet files, one a signal and day, that any tool reads without Ninefold.

The folder is hive-partitioned (``log/date=2026-11-20/log.parquet``), so DuckDB, Spark, pandas, pyarrow (``pyarrow.dataset.dataset(folder /
"log", partitioning="hive")``) and ClickHouse's ``file()`` read it as one table a signal. ``series.parquet`` and ``relation.parquet`` say
what the series are and what depends on what; they are written anew when a day's file has been, so that they know what is in it, and whole,
because only how things stand is of use. ``manifest.json`` holds each file's rows, size and hash; a file is there whole or not at all.
No file of a day is rewritten: late rows become a further one (``log-2.parquet``), so that what retention
has deleted meanwhile stays exported.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ninefold.ground.clock import SECOND, parse
from ninefold.ground.errors import Conflict, Unavailable
from ninefold.model.signal import SCHEMAS
from ninefold.store.telemetry import Telemetry

DAILY = ("metric", "exemplar", "histogram", "log", "span", "event")
WHOLE = ("series", "relation")
_MANIFEST = "manifest.json"
_GROUP_ROWS = 500_000
_HOUR = 3600 * SECOND


class Written(NamedTuple):
    """A file that was written, relative to the folder."""

    path: str
    rows: int
    bytes: int


def export(store: Telemetry, to: Path, before: int) -> list[Written]:
    """Write what is not exported yet of the days that end at or before `before` (ns, UTC).

    Raises:
        Conflict: another export to the folder is running.
        Unavailable: the folder cannot be written, or the store cannot answer now; what is whole stays.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        with (to / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"another export to {to} is running; wait until it has finished") from None
            return list(_export(store, to, before))
    except OSError as error:
        raise Unavailable(f"the export to {to} stopped: {error}; check the folder and the disk") from error


def _export(store: Telemetry, to: Path, before: int) -> Iterator[Written]:
    known = _known(to)
    for signal in DAILY:
        for day, stored in _days(store, signal, before):
            yield from _day(store, to, known, signal, day, stored)
    beside = sum(about["rows"] for path, about in known.items() if "/" in path)
    for signal in WHOLE:
        if known.get(f"{signal}.parquet", {}).get("beside") != beside:
            table = store.query(f"SELECT {_columns(signal)} FROM {signal}")  # noqa: S608 - our names
            yield from _write(to, known, f"{signal}.parquet", signal, [table], {"beside": beside})


def _day(store: Telemetry, to: Path, known: dict[str, Any], signal: str, day: str, stored: list[int]) -> Iterator[Written]:
    """Write the rows of a day that none of its files has, as one more file."""
    folder = to / signal / f"date={day}"
    files = sorted(folder.glob("*.parquet"))
    first = f"{signal}/date={day}/{signal}.parquet"
    listed = {path for path in known if path.startswith(f"{signal}/date={day}/")}
    if listed == {str(file.relative_to(to)) for file in files} and known.get(first, {}).get("stored") == stored:
        return
    for path in listed:
        del known[path]
    for file in files:  # also one that a run wrote and could not note
        known[str(file.relative_to(to))] = _about(file, signal)
    number = 1
    while (path := f"{signal}/date={day}/{signal}{f'-{number}' if number > 1 else ''}.parquet") in known:
        number += 1
    yield from _write(to, known, path, signal, _slices(store, signal, day, files), {"stored": stored})
    if first in known:
        known[first]["stored"] = stored
    _note(to, known)


def _slices(store: Telemetry, signal: str, day: str, files: Sequence[Path]) -> Iterator[pa.Table]:
    """A day by the hour, so that memory never holds more than that, without the rows that are in `files`."""
    begin = parse(f"{day}T00:00:00Z")
    for hour in range(begin, begin + 24 * _HOUR, _HOUR):
        table = store.query(
            f"SELECT {_columns(signal)} FROM {signal} WHERE toDate(time) = '{day}' AND time >= fromUnixTimestamp64Nano({{a:Int64}}, 'UTC') "  # noqa: S608 - our names
            "AND time < fromUnixTimestamp64Nano({b:Int64}, 'UTC')",
            {"a": hour, "b": hour + _HOUR},
        ).cast(SCHEMAS[signal])
        if files and table.num_rows:
            kind = SCHEMAS[signal].field("time").type
            within = (ds.field("time") >= pa.scalar(hour, kind)) & (ds.field("time") < pa.scalar(hour + _HOUR, kind))
            had = Counter(row for file in files for row in _rows(pq.read_table(file, filters=within, partitioning=None)))
            table = table.filter(pa.array([_is_new(row, had) for row in _rows(table)], pa.bool_()))
        if table.num_rows:
            yield table


def _rows(table: pa.Table) -> list[str]:
    return [repr(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


def _is_new(row: str, had: Counter[str]) -> bool:
    had[row] -= 1
    return had[row] < 0


def _columns(signal: str) -> str:
    return ", ".join(f"`{name}`" for name in SCHEMAS[signal].names)


def _days(store: Telemetry, signal: str, before: int) -> list[tuple[str, list[int]]]:
    """Days, and what changes when rows come or go: their count and, where rows say so, when the last one was received."""
    last = "toUnixTimestamp64Nano(max(received))" if "received" in SCHEMAS[signal].names else "toInt64(0)"
    found = store.query(
        f"SELECT toString(toDate(time)) AS day, count() AS rows, {last} AS last FROM {signal} "  # noqa: S608 - our names
        "WHERE toDate(time) < toDate(fromUnixTimestamp64Nano({before:Int64}, 'UTC')) GROUP BY day ORDER BY day",
        {"before": before},
    ).to_pydict()
    return [(day, [rows, last]) for day, rows, last in zip(found["day"], found["rows"], found["last"], strict=True)]


def _write(
    to: Path, known: dict[str, Any], path: str, signal: str, tables: Iterable[pa.Table], more: Mapping[str, Any]
) -> Iterator[Written]:
    """Write one file under another name, give it its own, and note it; a day's further file without rows is not kept."""
    schema = SCHEMAS[signal]
    final, part = to / path, to / f"{path}.part"
    final.parent.mkdir(parents=True, exist_ok=True)
    rows = 0
    with part.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table.cast(schema), _GROUP_ROWS)
                rows += table.num_rows
        file.flush()
        os.fsync(file.fileno())
    if signal in DAILY and not rows:
        part.unlink()
        return
    part.replace(final)
    known[path] = {**_about(final, signal), **more}
    _note(to, known)
    yield Written(path, rows, known[path]["bytes"])


def _about(file: Path, signal: str) -> dict[str, Any]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"signal": signal, "rows": pq.read_metadata(file).num_rows, "bytes": file.stat().st_size, "sha256": digest}


def _note(to: Path, known: Mapping[str, Any]) -> None:
    noted = to / f"{_MANIFEST}.part"
    noted.write_text(json.dumps({"version": 1, "files": known}, indent=1))
    noted.replace(to / _MANIFEST)


def _known(to: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((to / _MANIFEST).read_text())["files"])
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"{to / _MANIFEST} cannot be read; remove it to export everything again") from None
