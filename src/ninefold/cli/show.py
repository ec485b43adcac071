"""Printing: a table on a terminal, JSON when piped."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

out = Console()
err = Console(stderr=True)
_COLOURS = {
    "critical": "bold red", "high": "red", "warning": "yellow", "open": "red", "acknowledged": "yellow", "mitigated": "cyan",
    "resolved": "green",
    "failed": "red", "rejected": "red", "waiting": "yellow", "running": "cyan", "succeeded": "green", "ok": "green", "bad": "red",
}  # fmt: skip


def rows(items: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
    """Print `items`: the named columns as a table on a terminal, everything as JSON when piped."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(orjson.dumps(list(items), option=orjson.OPT_INDENT_2) + b"\n")
        return
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for item in items:
        cells = [_text(item.get(column)) for column in columns]
        table.add_row(*(f"[{_COLOURS[cell]}]{cell}[/]" if cell in _COLOURS else cell for cell in cells))
    out.print(table)


def thing(item: Mapping[str, Any]) -> None:
    """Print one thing: its fields on a terminal, JSON when piped."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(orjson.dumps(item, option=orjson.OPT_INDENT_2) + b"\n")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in item.items():
        table.add_row(f"[bold]{key.replace('_', ' ')}[/]", _text(value))
    out.print(table)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return str(value)
