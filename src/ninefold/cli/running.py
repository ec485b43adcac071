"""The long-running side of the command line: the server, the demo, the check."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Coroutine, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import delete, select

from ninefold.app import App, build_connectors
from ninefold.cli import show
from ninefold.config import Config, load
from ninefold.demo import recording, script
from ninefold.ground import log
from ninefold.ground.errors import NinefoldError
from ninefold.plugin import Connector
from ninefold.store.records.access import Token, create_token, make_token
from ninefold.store.records.base import Records
from ninefold.store.records.migrate import upgrade
from ninefold.web.server import serve as serve_http
from ninefold.workflows.binding import faults
from ninefold.workflows.language import load_folder


def serve(config: Path | None, data: Path | None, host: str | None, port: int | None) -> None:
    """Serve until stopped.

    Raises:
        ConfigError: the configuration is wrong, or a port is taken.
        Unavailable: the data folder is in use by another process.
    """
    settings = settings_of(config, data, host, port)
    log.setup(settings.log_level)
    _run(_serve(settings))


def demo(data: Path | None, port: int, otlp_port: int, once: bool) -> None:
    """Play the demo in `data`, or in a temporary folder that is removed at the end.

    Raises:
        ConfigError: a port is taken.
    """
    log.setup("WARNING")
    with contextlib.ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ninefold-demo-")))
        _run(_demo(folder, port, otlp_port, once))


def check(config: Path | None, data: Path | None) -> bool:
    """Print what works and what does not; True when everything does.

    Raises:
        ConfigError: the configuration or a workflow is wrong.
    """
    settings = settings_of(config, data)
    results = [{"what": "configuration", "result": "ok", "detail": str(config or "defaults")}]
    connectors = build_connectors(settings)
    for name, connector in connectors.items():
        detail, result = asyncio.run(_try(connector))
        results.append({"what": f"connector {name}", "result": result, "detail": detail})
    for workflow in load_folder(settings.workflows.path) if settings.workflows.path else []:
        problem = "; ".join(faults(workflow, connectors))
        detail, result = (problem, "bad") if problem else (workflow.description, "ok")
        results.append({"what": f"workflow {workflow.name}", "result": result, "detail": detail})
    show.rows(results, ["what", "result", "detail"])
    return all(row["result"] == "ok" for row in results)


async def _try(connector: Connector) -> tuple[str, str]:
    """What a connector says about itself, and whether that is ok or bad."""
    try:
        return await connector.check(), "ok"
    except NinefoldError as error:
        return str(error), "bad"
    except Exception as error:  # noqa: BLE001 - a connector is a plug-in: its defect is one bad row, not the end of the check
        return f"the check failed: {type(error).__name__}: {error}", "bad"
    finally:
        await connector.close()


def settings_of(config: Path | None, data: Path | None, host: str | None = None, port: int | None = None) -> Config:
    """The configuration of a file (by default `ninefold.yaml` in this folder, if it is there) and of the command line.

    Raises:
        ConfigError: the file cannot be read or is wrong.
    """
    path = config or (Path("ninefold.yaml") if Path("ninefold.yaml").exists() else None)
    settings = load(path)
    server = settings.server.model_copy(update={k: v for k, v in (("host", host), ("port", port)) if v is not None})
    return settings.model_copy(update={"server": server, **({"data": data} if data else {})})


@contextlib.contextmanager
def _uvloop() -> Iterator[asyncio.Runner]:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run until the end, or until SIGTERM or Ctrl+C, which cancel it: requests are answered and everything is kept, then it is over."""

    async def main() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows has none; Ctrl+C cancels there too, by asyncio.Runner
                loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    with _uvloop() as runner:
        runner.run(main())


def _first_token(app: App) -> str:
    """The secret of a new admin token when nobody has one, else ""."""
    with app.records.session() as session:
        if session.scalar(select(Token.name).where(Token.role == "admin", Token.revoked.is_(None)).limit(1)):
            return ""
        taken = set(session.scalars(select(Token.name)))
        name = next(name for name in chain(["admin"], (f"admin-{n}" for n in count(2))) if name not in taken)
        return make_token(session, name, "admin", "ninefold")


async def _serve(settings: Config) -> None:
    started = time.monotonic()
    async with App(settings) as app:

        def ready(ports: list[int]) -> None:
            secret = _first_token(app)  # not earlier: a start that fails at its ports must not keep a secret nobody was told
            address = f"http://{settings.server.host}:{ports[0]}"
            show.err.print(f"Ninefold is ready after {time.monotonic() - started:.1f} s: {address}")
            if secret:
                show.err.print(f"The admin token, shown this once: [bold]{secret}[/]")
                show.err.print(f"Open {address}/#token={secret}", soft_wrap=True)

        await serve_http(app, ready)


def _demo_settings(folder: Path, port: int, otlp_port: int) -> tuple[str, Config]:
    """A fresh token for the person who looks on, and a configuration whose workflows have one of their own."""
    settings = script.settings(folder, port, otlp_port, "")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    records = Records(settings.records_url)
    try:
        upgrade(records)
        with records.session() as session:
            session.execute(delete(Token).where(Token.name.in_(("demo", "workflows"))))
            secret = create_token(session, "demo", "admin")
            return secret, script.settings(folder, port, otlp_port, create_token(session, "workflows", "viewer"))
    finally:
        records.close()


async def _demo(folder: Path, port: int, otlp_port: int, once: bool) -> None:
    secret, settings = _demo_settings(folder, port, otlp_port)
    ports: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    show.err.print(f"[bold]Ninefold demo[/]: {recording.DESCRIPTION}")
    async with App(settings) as app:
        server = asyncio.create_task(serve_http(app, ports.set_result))
        try:
            first: set[asyncio.Future[Any]] = {server, ports}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if server.done():
                await server
            console, otlp = ports.result()
            await _play(console, otlp, secret, once)
            if not once:
                await server
        finally:
            server.cancel()
            await asyncio.wait({server})


async def _play(console: int, otlp: int, secret: str, once: bool) -> None:
    address = f"http://127.0.0.1:{console}"
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=show.err,
    )
    with bar:
        task = bar.add_task("Playing", total=1)
        summary = await script.play(
            address,
            f"http://127.0.0.1:{otlp}",
            secret,
            lambda text, done, total: bar.update(task, description=text, completed=done, total=total),
        )
    script.report(summary, show.err)
    show.err.print(f"\nOpen  [bold]{address}/#token={secret}[/]", soft_wrap=True)
    show.err.print(
        "Try   the waiting approval on the Workflows page, then the Roadmap page; on another terminal:\n"
        f"      export NINEFOLD_URL={address} NINEFOLD_TOKEN={secret}",
        soft_wrap=True,
    )
    show.err.print("      ninefold incident list --status all")
    show.err.print('      ninefold query "select entity, count() from span group by entity order by 2 desc limit 5"')
    if not once:
        show.err.print("Stop with Ctrl+C.")
