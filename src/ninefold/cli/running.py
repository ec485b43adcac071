"""The long-running side of the command line: the server, the demo, the check."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import delete, func, select

from ninefold.app import App, build_connectors
from ninefold.cli import show
from ninefold.config import Config, load
from ninefold.demo import recording, script
from ninefold.ground import log
from ninefold.ground.errors import NinefoldError
from ninefold.store.records.access import Token, create_token
from ninefold.store.records.base import Records
from ninefold.store.records.migrate import upgrade
from ninefold.web.server import serve as serve_http
from ninefold.workflows.language import load_folder


def serve(config: Path | None, data: Path | None, host: str | None, port: int | None) -> None:
    """Serve until stopped.

    Raises:
        ConfigError: the configuration is wrong, or a port is taken.
        Unavailable: the data folder is in use by another process.
    """
    settings = _settings(config, data, host, port)
    log.setup(settings.log_level)
    with _uvloop() as runner:
        runner.run(_serve(settings))


def demo(data: Path | None, port: int, otlp_port: int, once: bool) -> None:
    """Play the demo in `data`, or in a temporary folder that is removed at the end.

    Raises:
        ConfigError: a port is taken.
    """
    log.setup("WARNING")
    with contextlib.ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ninefold-demo-")))
        runner = stack.enter_context(_uvloop())
        runner.run(_demo(folder, port, otlp_port, once))


def check(config: Path | None, data: Path | None) -> bool:
    """Print what works and what does not; True when everything does.

    Raises:
        ConfigError: the configuration or a workflow is wrong.
    """
    settings = _settings(config, data, None, None)
    results = [{"what": "configuration", "result": "ok", "detail": str(config or "defaults")}]
    for name, connector in build_connectors(settings).items():
        try:
            detail, result = asyncio.run(connector.check()), "ok"
        except NinefoldError as error:
            detail, result = str(error), "bad"
        results.append({"what": f"connector {name}", "result": result, "detail": detail})
    if settings.workflows.path:
        for workflow in load_folder(settings.workflows.path):
            results.append({"what": f"workflow {workflow.name}", "result": "ok", "detail": workflow.description})
    show.rows(results, ["what", "result", "detail"])
    return all(row["result"] == "ok" for row in results)


def _settings(config: Path | None, data: Path | None, host: str | None, port: int | None) -> Config:
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


def _first_token(app: App) -> str:
    """The secret of a new admin token when there is no token yet, else ""."""
    with app.records.session() as session:
        if session.scalar(select(func.count()).select_from(Token)):
            return ""
        return create_token(session, "admin", "admin")


async def _serve(settings: Config) -> None:
    started = time.monotonic()
    async with App(settings) as app:
        secret = _first_token(app)

        def ready(ports: list[int]) -> None:
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
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=show.err,
    )
    ports: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    show.err.print(f"[bold]Ninefold demo[/]: {recording.DESCRIPTION}")
    async with App(settings) as app:
        server = asyncio.create_task(serve_http(app, ports.set_result))
        server.add_done_callback(lambda done: ports.cancel())
        try:
            console, otlp = await ports
        except asyncio.CancelledError:
            await server
            return
        address = f"http://127.0.0.1:{console}"
        with bar:
            task = bar.add_task("Playing", total=1)
            playing = script.play(
                address,
                f"http://127.0.0.1:{otlp}",
                secret,
                lambda text, done, total: bar.update(task, description=text, completed=done, total=total),
            )
            summary = await playing
        script.report(summary, show.err)
        show.err.print(f"\nOpen  [bold]{address}/#token={secret}[/]", soft_wrap=True)
        show.err.print(
            "Try   the waiting approval on the Workflows page, then the Roadmap page; on another terminal:\n"
            f"      export NINEFOLD_URL={address} NINEFOLD_TOKEN={secret}",
            soft_wrap=True,
        )
        show.err.print("      ninefold incident list --status all")
        show.err.print('      ninefold query "select entity, count() from span group by entity order by 2 desc limit 5"')
        if once:
            server.cancel()
            await asyncio.wait({server})
            return
        show.err.print("Stop with Ctrl+C.")
        await server
