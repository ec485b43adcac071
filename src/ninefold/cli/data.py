"""`ninefold query` and `ninefold replay`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ninefold.cli import show
from ninefold.cli.client import Client
from ninefold.ground.errors import BadData, NotFound

_BLOCK_BYTES = 4 << 20


class Format(StrEnum):
    """What a file holds."""

    CSV = "csv"
    JSONL = "jsonl"
    LOG = "log"
    METRICS = "metrics"


_MEDIA_TYPE = {Format.CSV: "text/csv", Format.JSONL: "application/x-ndjson", Format.LOG: "text/plain", Format.METRICS: "text/csv"}


def query(sql: str, limit: Annotated[int, typer.Option(help="Most rows to return.")] = 1000) -> None:
    """Run read-only SQL over everything stored, e.g. "select name, count() from series group by name"."""
    answer = Client().post("query", {"sql": sql, "limit": limit})
    names = [column["name"] for column in answer["columns"]]
    show.rows([dict(zip(names, row, strict=True)) for row in answer["rows"]], names)
    if answer["truncated"]:
        show.err.print(f"Only the first {limit} rows are shown; ask for more with --limit.")


def replay(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files to send through the front door.")] = None,
    format: Annotated[Format | None, typer.Option(help="What the files hold; by default what their ending says.")] = None,
    mapping: Annotated[str, typer.Option(help="The webhook mapping that reads CSV and JSON Lines rows as events.")] = "",
    source: Annotated[str, typer.Option(help="The source's name; by default the file's.")] = "",
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Send everything quarantined (of --source) through again.")] = False,
) -> None:
    """Send files, or what was quarantined, through the front door."""
    client = Client()
    if quarantine:
        show.thing(client.post("quarantine/replay", {"source": source or None}))
        return
    if not paths:
        raise BadData("nothing to replay: name files, or --quarantine")
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=show.err
    ) as progress:
        for path in paths:
            kind = format or _by_ending(path)
            task = progress.add_task(path.name, total=path.stat().st_size)
            options = {"format": kind.value, "mapping": mapping}
            headers = {"Content-Type": _MEDIA_TYPE[kind], "X-Ninefold-Source": source or path.stem}
            for block, size in _blocks(path, kind):
                client.call("POST", "/files", params=options, headers=headers, content=block)
                progress.advance(task, size)


def _by_ending(path: Path) -> Format:
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    return {".csv": Format.CSV, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}.get(path.suffix.lower(), Format.LOG)


def _blocks(path: Path, kind: Format) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines, each with the CSV header, and how far each gets in the file."""
    with path.open("rb") as file:
        header = file.readline() if kind in (Format.CSV, Format.METRICS) else b""
        size = len(header)
        while lines := file.readlines(_BLOCK_BYTES):
            block = b"".join(lines)
            yield header + block, size + len(block)
            size = 0
