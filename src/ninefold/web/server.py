"""The HTTP server: one application on the console's port and on OTLP's, and the run of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from ninefold import __version__
from ninefold.app import App
from ninefold.ground.clock import now
from ninefold.ground.errors import ConfigError, NinefoldError
from ninefold.ground.log import get
from ninefold.store.records.base import Audit
from ninefold.web import problems
from ninefold.web.api import (
    alertmanager,
    alerts,
    behaviour,
    change_points,
    detection,
    forecasts,
    incidents,
    interesting,
    mutes,
    oncall,
    operations,
    prometheus,
    query,
    regression,
    regroupings,
    roadmap,
    series,
    session,
    similar,
    sources,
    templates,
    upkeep,
    why,
    workflows,
)
from ninefold.web.auth import authenticate, secret_of
from ninefold.web.live import Live
from ninefold.web.receive import Receivers

_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_NOUNS = (
    incidents,
    regroupings,
    similar,
    alerts,
    mutes,
    why,
    oncall,
    workflows,
    series,
    behaviour,
    operations,
    regression,
    change_points,
    interesting,
    detection,
    forecasts,
    sources,
    query,
    roadmap,
    session,
    templates,
    upkeep,
)
_SAFE = ("GET", "HEAD", "OPTIONS")
_log = get("web")


def build(app: App) -> FastAPI:
    """The ASGI application of a running App."""
    live = Live(app)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(live.run(), name="live")
        yield
        task.cancel()

    api = FastAPI(
        title="Ninefold",
        version=__version__,
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # Ninefold meters itself
        description="Incidents, workflows, sources, queries and the roadmap. Authenticate with `Authorization: Bearer <token>`.",
    )
    api.state.ninefold = app
    problems.install(api)
    for noun in _NOUNS:
        api.include_router(noun.router, prefix="/api/v1")
    receivers = Receivers(app)
    api.router.routes.extend(receivers.routes())
    api.router.routes.extend(prometheus.routes())
    api.router.routes.extend(alertmanager.routes())

    async def live_socket(socket_: WebSocket) -> None:
        authenticate(socket_, "viewer")
        await live.serve(socket_, secret_of(socket_))

    api.router.routes.extend(
        [
            WebSocketRoute("/api/v1/live", live_socket),
            Route("/-/healthy", _healthy, methods=["GET", "HEAD"]),
            Route("/-/ready", _ready, methods=["GET", "HEAD"]),
            Route("/metrics", _metrics, methods=["GET"]),
            Route("/{path:path}", _console, methods=["GET", "HEAD"]),
        ]
    )
    api.add_middleware(_Guard)
    return api


async def serve(app: App, started: Callable[[list[int]], None] | None = None) -> None:
    """Serve until cancelled; requests under way are answered first.

    Args:
        app: a running App.
        started: called with the bound ports once requests are answered.

    Raises:
        ConfigError: a port is in use or may not be bound.
    """
    config = app.config.server
    ports = [config.port] + ([config.otlp_port] if config.otlp_port else [])
    sockets = [_bind(config.host, port) for port in ports]
    server = _Server(
        uvicorn.Config(
            build(app), log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5, ws="websockets-sansio"
        )
    )
    running = asyncio.create_task(server.serve(sockets=sockets))
    try:
        while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn tells that it has started by a flag only
            await asyncio.sleep(0.01)
        if started is not None and not running.done():
            started([bound.getsockname()[1] for bound in sockets])
        await asyncio.shield(running)
    finally:
        server.should_exit = True
        await running


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: they end the process when the server ends, before the App has been drained."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"server: port {port} on {host} cannot be used ({error.strerror}); choose another one") from error
    return bound


class _Guard:
    """Security headers on every answer, an audit row for every mutating API call that has not written one itself."""

    def __init__(self, follow: ASGIApp) -> None:
        self._follow = follow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; the row is written before the answer starts."""
        if scope["type"] != "http":
            await self._follow(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                await _account(scope, message["status"])
                MutableHeaders(scope=message).update(_SECURITY)
            await send(message)

        try:
            await self._follow(scope, receive, answer)
        except Exception as error:  # a mistake of a handler is audited and answered like anything else
            if started:
                raise
            await problems.mistake(Request(scope), error)(scope, receive, answer)


async def _account(scope: Scope, status: int) -> None:
    """Write down a mutating call and what became of it, unless its handler has."""
    state, path = scope.get("state", {}), scope["path"]
    actor, told = state.get("actor"), status < 400 and state.get("audited", False)
    if scope["method"] not in _SAFE and path.startswith("/api/v1/") and actor is not None and not told:
        action, target, detail = state.get("tells", (scope["method"], path, {}))
        outcome = "ok" if status < 400 else f"refused ({status})" if status < 500 else f"failed ({status})"
        row = Audit(time=now(), actor=actor.name, action=action, target=target, outcome=outcome, detail=detail)
        await asyncio.to_thread(_audit, scope["app"].state.ninefold, row)


def _audit(app: App, row: Audit) -> None:
    said = f"{row.action} {row.target} by {row.actor}, {row.outcome}"
    try:
        with app.records.session() as session_:
            session_.add(row)
    except (NinefoldError, SQLAlchemyError) as error:  # the answer is true whether or not it can be written down
        _log.error("no audit row for %s: %s", said, error)


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("Ninefold is healthy.\n")


async def _ready(request: Request) -> Response:
    app: App = request.app.state.ninefold
    faults = app.problems()
    if app.ready.is_set() and not faults:
        return PlainTextResponse("Ninefold is ready.\n" + "".join(f"{name}: {notice}\n" for name, notice in app.notices().items()))
    return PlainTextResponse("".join(f"{name}: {fault}\n" for name, fault in faults.items()) or "starting or stopping\n", 503)


async def _metrics(request: Request) -> Response:
    authenticate(request, "viewer")
    app: App = request.app.state.ninefold
    return Response(app.meter.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _console(request: Request) -> Response:
    folder = Path(str(files("ninefold.web"))) / "static"
    path = request.path_params["path"]
    if path.startswith(("api/", "v1/")) or "\0" in path:
        return problems.problem(404, f"there is nothing at /{path}")
    index = folder / "index.html"
    if not index.exists():
        return PlainTextResponse("The console is not built; run `python build_console.py` in the checkout.\n", 503)
    wanted = (folder / path).resolve()
    if path and wanted.is_file() and wanted.is_relative_to(folder.resolve()):
        return FileResponse(wanted, headers={"Cache-Control": "public, max-age=31536000, immutable"} if "-" in wanted.stem else {})
    return FileResponse(index, headers={"Cache-Control": "no-cache"})
