"""`ninefold query`, `replay`, `export`, `backup` and `restore`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ninefold.cli import show
from ninefold.cli.client import Client
from ninefold.cli.run import ConfigFile
from ninefold.ground.errors import BadData, NotFound

_BLOCK_BYTES = 4 << 20


class Format(StrEnum):
    """What a file holds."""

    CSV = "csv"
    JSONL = "jsonl"
    LOG = "log"
    METRICS = "metrics"


_MEDIA_TYPE = {Format.CSV: "text/csv", Format.JSONL: "application/x-ndjson", Format.LOG: "text/plain", Format.METRICS: "text/csv"}


class Form(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    ARROW = "arrow"


_ACCEPT = {Form.CSV: "text/csv", Form.ARROW: "application/vnd.apache.arrow.stream"}


def query(
    sql: str,
    limit: Annotated[int, typer.Option(help="Most rows to return.")] = 1000,
    format: Annotated[Form, typer.Option(help="A table (JSON when piped), CSV with a header, or an Arrow IPC stream.")] = Form.TABLE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write CSV or Arrow here; by default standard output.")] = None,
    timeout: Annotated[float, typer.Option(help="Most seconds it may take.")] = 10.0,
) -> None:
    """Run read-only SQL over everything stored, e.g. "select name, count() from series group by name"."""
    question = {"sql": sql, "limit": limit, "timeout_s": timeout}
    if format is not Form.TABLE:
        rows = Client().fetch("query", question, _ACCEPT[format])
        if output is not None:
            output.write_bytes(rows)
        elif sys.stdout.isatty() and format is Form.ARROW:
            raise BadData("an Arrow stream is not for the terminal; name a file with --output")
        else:
            sys.stdout.buffer.write(rows)
        return
    if output is not None:
        raise BadData("a table is not written to a file; choose --format csv or arrow")
    answer = Client().call("POST", "/api/v1/query", json=question, timeout=timeout + 30)
    names = [column["name"] for column in answer["columns"]]
    show.rows([dict(zip(names, row, strict=True)) for row in answer["rows"]], names)
    if answer["truncated"]:
        show.err.print(f"Only the first {limit} rows are shown; ask for more with --limit.")


def export(
    to: Annotated[Path, typer.Option(help="Folder on the server's machine; it is made, or added to.")],
    before: Annotated[str, typer.Option(help="A day, as 2026-11-01: days before it are exported.")] = "",
    older_than: Annotated[int | None, typer.Option(help="Days that are at least so many days old are exported.", min=1)] = None,
) -> None:
    """Write old days as Parquet files, one a signal and day, on the server's machine."""
    if bool(before) == bool(older_than):
        raise BadData("say which days: either --before 2026-11-01 or --older-than 30")
    try:
        day = datetime.fromisoformat(before).replace(tzinfo=UTC) if before else datetime.now(UTC) - timedelta(days=(older_than or 1) - 1)
    except ValueError:
        raise BadData(f"{before!r} is not a day; write it as 2026-11-01") from None
    order = {"to": str(to.absolute()), "before": day.isoformat()}
    answer = Client().call("POST", "/api/v1/export", json=order, timeout=None)
    show.rows(answer["files"], ["path", "rows", "bytes"])


def backup(to: Annotated[Path, typer.Argument(help="A new folder on the server's machine.")]) -> None:
    """Back up everything while the program runs."""
    show.thing(Client().call("POST", "/api/v1/backup", json={"to": str(to.absolute())}, timeout=None))


def restore(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="The folder of a backup.")],
    data: Annotated[Path, typer.Option("--data", help="The data folder to make; it must not be there, or be empty.")],
    config: ConfigFile = None,
) -> None:
    """Make a data folder from a backup; start the program on it afterwards."""
    from ninefold import config as configuration  # these two bring the engine along; the other commands answer at once
    from ninefold.store import backup as kept

    settings = configuration.load(config)
    if settings.records.url:
        raise BadData("records.url is set: a backup is restored to SQLite in the data folder; leave it out and move the records afterwards")
    store = settings.store
    manifest = kept.restore(source, data, store.url, store.database, store.memory_limit_bytes)
    show.err.print(f"{data} is as it was at {manifest['time']}; start it with `ninefold serve --data {data}`.")


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
