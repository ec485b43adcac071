"""`ninefold serve`, `ninefold demo` and `ninefold check`.

What they run is imported when they run: the other commands answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Path of ninefold.yaml; everything has a default.", envvar="NINEFOLD_CONFIG")
]
DataFolder = Annotated[Path | None, typer.Option("--data", help="Folder of everything that is kept; overrides the file.")]
Host = Annotated[str | None, typer.Option(help="Address to bind; 0.0.0.0 serves other machines.")]
Port = Annotated[int | None, typer.Option(help="Port of console, API and receivers.")]


class _WithoutPandas:
    """PyArrow looks for pandas when it first makes an array, and the engine's wheel brings pandas along though nothing here uses it:
    35 MB of memory and a third of a second. PyArrow looks once, while this hides it; plug-ins can import pandas afterwards."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden while PyArrow starts")

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)


def serve(config: ConfigFile = None, data: DataFolder = None, host: Host = None, port: Port = None) -> None:
    """Run Ninefold: console, API and receivers, until it is stopped."""
    _running().serve(config, data, host, port)


def demo(
    port: Annotated[int, typer.Option(help="Port of console and API.")] = 9900,
    otlp_port: Annotated[int, typer.Option(help="Port of OTLP/HTTP.")] = 4318,
    data: Annotated[Path | None, typer.Option("--data", help="Keep the demo's data here; by default in a new temporary folder.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when the recording has been played.")] = False,
) -> None:
    """Replay a real recorded set of faults through the real front door and explain it."""
    _running().demo(data, port, otlp_port, once)


def check(config: ConfigFile = None, data: DataFolder = None) -> None:
    """Check the configuration, the workflows and every connector, without starting anything."""
    if not _running().check(config, data):
        raise typer.Exit(1)


def _running() -> ModuleType:
    # Arrow's own allocator keeps what a busy time needed; the system's gives it back (`Telemetry.trim`).
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with _WithoutPandas():
        import pyarrow

        pyarrow.array([0])
    from ninefold.cli import running

    return running
