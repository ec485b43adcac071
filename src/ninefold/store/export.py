"""Cold export: what is old as Parquet files, one a signal and day, that any tool reads without Ninefold.

The folder is hive-partitioned (``log/date=2026-11-20/log.parquet``), so DuckDB, Spark, pandas, pyarrow (``pyarrow.dataset.dataset(folder /
"log", partitioning="hive")``) and ClickHouse's ``file()`` read it as one table a signal. ``series.parquet`` and ``relation.parquet`` say
what the series are and what depends on what, as of the last run. ``manifest.json`` holds each file's rows, size and hash; a file is there
whole or not at all. A day is written again only when it has more rows than before: late rows are taken in, and what retention has deleted
meanwhile stays exported.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ninefold.ground.errors import Unavailable
from ninefold.model.signal import SCHEMAS
from ninefold.store.telemetry import Telemetry

DAILY = ("metric", "exemplar", "histogram", "log", "span", "event")
WHOLE = ("series", "relation")
_MANIFEST = "manifest.json"
_GROUP_ROWS = 500_000


class Written(NamedTuple):
    """A file that was written, relative to the folder."""

    path: str
    rows: int
    bytes: int


def export(store: Telemetry, to: Path, before: int) -> list[Written]:
    """Write the days that end at or before `before` (ns, UTC) and are not exported yet.

    Raises:
        Unavailable: the folder cannot be written, or the store cannot answer now; what is whole stays.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        return list(_export(store, to, before))
    except OSError as error:
        raise Unavailable(f"the export to {to} stopped: {error}; check the folder and the disk") from error


def _export(store: Telemetry, to: Path, before: int) -> Iterator[Written]:
    known = _known(to)
    for signal in DAILY:
        for day, rows in _days(store, signal, before):
            path = f"{signal}/date={day}/{signal}.parquet"
            if rows > known.get(path, {}).get("rows", 0) or not (to / path).exists():
                yield _one(store, to, known, path, signal, f"WHERE toDate(time) = '{day}'")
    for signal in WHOLE:
        yield _one(store, to, known, f"{signal}.parquet", signal, "")


def _days(store: Telemetry, signal: str, before: int) -> list[tuple[str, int]]:
    found = store.query(
        f"SELECT toString(toDate(time)) AS day, count() AS rows FROM {signal} "  # noqa: S608 - our names
        "WHERE toDate(time) < toDate(fromUnixTimestamp64Nano({before:Int64}, 'UTC')) GROUP BY day ORDER BY day",
        {"before": before},
    ).to_pydict()
    return list(zip(found["day"], found["rows"], strict=True))


def _one(store: Telemetry, to: Path, known: dict[str, Any], path: str, signal: str, where: str) -> Written:
    """Write one file under another name, give it its own, and note it."""
    schema = SCHEMAS[signal]
    columns = ", ".join(f"`{name}`" for name in schema.names)
    final, part, rows = to / path, to / f"{path}.part", 0
    final.parent.mkdir(parents=True, exist_ok=True)
    with part.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in store.stream(f"SELECT {columns} FROM {signal} {where}"):  # noqa: S608 - our names
                writer.write_table(pa.Table.from_batches([batch]).cast(schema), _GROUP_ROWS)
                rows += batch.num_rows
        file.flush()
        os.fsync(file.fileno())
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = part.stat().st_size
    part.replace(final)
    known[path] = {"signal": signal, "rows": rows, "bytes": size, "sha256": digest}
    noted = to / f"{_MANIFEST}.part"
    noted.write_text(json.dumps({"version": 1, "files": known}, indent=1))
    noted.replace(to / _MANIFEST)
    return Written(path, rows, size)


def _known(to: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((to / _MANIFEST).read_text())["files"])
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"{to / _MANIFEST} cannot be read; remove it to export everything again") from None
