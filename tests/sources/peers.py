"""Real peers for tests: each function starts a program on a free port in a folder, and stops it by its own process at the end.

A program that is not installed skips the test with the package's name as the reason.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from ninefold.ground.errors import Unavailable
from ninefold.model.signal import Batch
from ninefold.plugin import Emit, Lent, Source

POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
START_S = 60.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str, package: str) -> str:
    """The path of a program; the test is skipped without it."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/lib/rabbitmq/bin")
    if found is None:
        pytest.skip(f"{name} is not installed (apt package {package})")
    return found


def until(condition: Callable[[], bool], what: str, seconds: float = START_S) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.02)


def listening(port: int) -> bool:
    """Whether somebody listens on this port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: Sequence[str], folder: Path, port: int, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, ready when it listens on `port`; its output is in ``<folder>/output``."""
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, env={**os.environ, **(env or {})}, start_new_session=True
        )
    try:
        until(lambda: listening(port) or process.poll() is not None, f"{command[0]} on port {port}")
        assert process.poll() is None, (folder / "output").read_text(errors="replace")[-2000:]
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break


@contextmanager
def mosquitto(folder: Path, settings: str = "allow_anonymous true", port: int = 0) -> Iterator[int]:
    """An MQTT broker that keeps its sessions in the folder; gives its port."""
    path, port = program("mosquitto", "mosquitto"), port or free_port()
    folder.chmod(0o777)
    (folder / "m.conf").write_text(
        f"listener {port} 127.0.0.1\npersistence true\npersistence_location {folder}/\nuser root\nautosave_interval 1\n{settings}\n"
    )
    with running([path, "-c", str(folder / "m.conf")], folder, port):
        yield port


@contextmanager
def nats_server(folder: Path) -> Iterator[int]:
    """A NATS server with JetStream; gives its port."""
    path, port = program("nats-server", "nats-server"), free_port()
    with running([path, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder / "js")], folder, port):
        yield port


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """A Redis server without persistence; gives its port."""
    path, port = program("redis-server", "redis-server"), free_port()
    with running([path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)], folder, port):
        yield port


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[int]:
    """A RabbitMQ node with an epmd of its own; gives its AMQP port."""
    path = program("rabbitmq-server", "rabbitmq-server")
    path = path if path.startswith("/usr/lib") else "/usr/lib/rabbitmq/bin/rabbitmq-server"
    port, epmd, dist = free_port(), free_port(), free_port()
    (folder / "plugins").write_text("[].")
    env = {
        "HOME": str(folder), "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"), "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_NODENAME": f"t{port}@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(epmd),
        "RABBITMQ_DIST_PORT": str(dist), "RABBITMQ_CONFIG_FILE": str(folder / "none"), "ERL_MAX_PORTS": "1024",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false",
    }  # fmt: skip
    with running([program("epmd", "erlang-base"), "-port", str(epmd)], folder, epmd), running([path], folder, port, env):
        yield port


@contextmanager
def postgresql(folder: Path, *settings: str) -> Iterator[str]:
    """A PostgreSQL 15 cluster; gives the address of its database ``postgres`` without a driver's name (``user@host:port/database``)."""
    if not (POSTGRESQL / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed (apt package postgresql-15)")
    cluster, port = folder / "pg", free_port()
    cluster.mkdir()
    for parent in [cluster, *cluster.parents][:-2]:
        parent.chmod(parent.stat().st_mode | 0o711)
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(cluster, "postgres", "postgres")
    data = str(cluster / "data")
    subprocess.run(
        [*as_user, str(POSTGRESQL / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "--no-instructions"],
        check=True, capture_output=True, cwd=cluster,
    )  # fmt: skip
    wishes = (f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={cluster}", "fsync=off", *settings)
    options = [part for wish in wishes for part in ("-c", wish)]
    with running([*as_user, str(POSTGRESQL / "postgres"), "-D", data, *options], folder, port):
        ready = [str(POSTGRESQL / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL's readiness")
        yield f"postgres@127.0.0.1:{port}/postgres"


@dataclass
class Asked:
    """A request at `http_server`."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


Given = tuple[int, dict[str, str], Any]
"""What `http_server` answers: status, headers, and bytes, an iterator of bytes (sent as they come), or what JSON is made of."""


@contextmanager
def http_server(answer: Callable[[Asked], Given]) -> Iterator[str]:
    """A server of HTTP on a free port that answers as the function says; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, content = answer(Asked(self.command, url.path, dict(parse_qsl(url.query, keep_blank_values=True)), headers, body))
            parts = [content] if isinstance(content, bytes) else content if hasattr(content, "__next__") else [json.dumps(content).encode()]
            self.send_response(status)
            for name, value in {"content-type": "application/json", "connection": "close", **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = True
            with suppress(OSError):
                for part in parts:
                    self.wfile.write(part)
                    self.wfile.flush()

        do_GET = do_POST = _serve  # noqa: N815 - the names the base class looks for

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Journal:
    """Stands in for the journal: keeps what it is given, and is full for its first `full` calls."""

    full: int = 0
    batches: list[Batch] = field(default_factory=list)
    refused: list[Batch] = field(default_factory=list)
    before: Callable[[], Awaitable[None]] | None = None

    async def emit(self, batches: Sequence[Batch]) -> None:
        """Keep, or refuse as a full journal does; `before` looks at the peer while the batches are not kept yet."""
        if self.before is not None:
            await self.before()
        if self.full > 0:
            self.full -= 1
            self.refused += batches
            raise Unavailable("the journal is full", 0.05)
        self.batches += batches

    def rows(self, signal: str) -> list[dict[str, Any]]:
        """All rows kept of a signal."""
        return [row for batch in self.batches if batch.signal == signal for row in batch.rows.to_pylist()]


@dataclass
class Kept:
    """The position a source keeps, as the program lends it, and how often it was kept."""

    position: dict[str, Any] = field(default_factory=dict)
    saves: int = 0

    def lent(self) -> Lent:
        """What a source is lent."""
        return LentBy(lambda: dict(self.position), keeper=self)

    def take(self, position: Mapping[str, Any]) -> None:
        """Keep a position."""
        self.position = dict(position)
        self.saves += 1


@dataclass(frozen=True)
class LentBy(Lent):
    """What a source is lent, and by whom."""

    keeper: Kept = field(default_factory=Kept)


def emit_of(source: Source, journal: Journal) -> Emit:
    """Batches go to the journal and with them positions to whom lent the source what it has."""

    async def emit(batches: Sequence[Batch], keep: Mapping[str, Any] | None = None) -> None:
        await journal.emit(batches)
        if keep is not None:
            source.lent.keeper.take(keep)

    return emit


async def true(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something to become true while the loop runs."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another program
            await asyncio.sleep(0.01)


async def while_running(source: Source, journal: Journal, enough: Callable[[], bool], seconds: float = 30.0) -> None:
    """Run a source until `enough`, then cancel it; what ends it earlier is raised."""
    task = asyncio.create_task(source.run(emit_of(source, journal)))
    try:
        await true(lambda: task.done() or enough(), seconds)
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def crashing(source: Source, *, seconds: float = 30.0) -> list[Batch]:
    """Run a source whose journal never answers, end it in the middle of that, and give what it had offered."""
    offered: list[Batch] = []
    reached = asyncio.Event()

    async def emit(batches: Sequence[Batch], keep: Mapping[str, Any] | None = None) -> None:
        offered.extend(batches)
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(source.run(emit))
    async with asyncio.timeout(seconds):
        await asyncio.wait({task, asyncio.create_task(reached.wait())}, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return offered


async def bereft(source: Source, stop: Callable[[], None], seconds: float = 20.0) -> None:
    """Run a source, stop its peer once it had time to connect, and raise what ends the source then."""
    task = asyncio.create_task(source.run(Journal().emit))
    await asyncio.wait({task}, timeout=0.5)
    assert not task.done(), task.exception()
    await asyncio.to_thread(stop)
    async with asyncio.timeout(seconds):
        await task


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine."""
    return asyncio.run(work)
