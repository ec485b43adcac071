"""The only wiring: configuration -> components -> run -> drain -> stop.

``async with App(config) as app`` is the whole program without its HTTP server; the server, the CLI, the demo and the tests
all use it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from pydantic import ValidationError

from ninefold.analytics import warm
from ninefold.config import Config
from ninefold.engine.local import EventFollower, Follower, StoreWriter, TechniqueRunner
from ninefold.ground.clock import now
from ninefold.ground.errors import ConfigError, NinefoldError, Unavailable
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.ground.traffic import Traffic
from ninefold.incidents import Incidents
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch
from ninefold.normalise import Normaliser
from ninefold.plugin import Connector, Feed, Lent, Source, plugins
from ninefold.sources import kernel
from ninefold.sources.files import FileFollow
from ninefold.sources.own import OwnEvents, OwnMetrics
from ninefold.sources.syslog import Syslog
from ninefold.store.records.base import Position, Records, Setting
from ninefold.store.records.migrate import upgrade
from ninefold.store.telemetry import Telemetry
from ninefold.workflows.engine import Workflows
from ninefold.workflows.language import load_folder

_log = get("app")
_READERS = ("store", "techniques", "incidents")
_RESTART_S = (0.5, 1.0, 5.0, 15.0, 60.0)
_ANALYSE_EVERY_S = 1.0
_TRIM_EVERY_S = 10.0
_TRAFFIC = "traffic"


class App:
    """The running program.

    Args:
        config: the checked configuration.

    Attributes:
        config, meter, journal, store, records, normaliser, incidents, workflows, connectors, traffic, syslog.

    Raises:
        ConfigError: on entering, when a part refuses its configuration.
        Unavailable: on entering, when the data folder is in use by another process or cannot be written.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.meter = Meter()
        self.traffic = Traffic()
        self.normaliser = Normaliser(config.webhooks)
        self.connectors = build_connectors(config)
        self.sources = build_sources(config, self._lend)
        self.ready = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._followers: list[Follower] = []
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> App:
        try:
            await asyncio.to_thread(self._open)
            self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        self.ready.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.ready.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connector in self.connectors.values():
            await connector.close()
        await asyncio.to_thread(self._drain)
        await self._exit.aclose()

    async def emit(self, batches: Sequence[Batch], kind: str = "push") -> None:
        """Make batches durable; returns when they are on disk.

        Raises:
            Unavailable: the journal is full or cannot write.
        """
        if not batches:
            return
        await asyncio.wrap_future(self.journal.append(batches))
        for batch in batches:
            self.traffic.record(batch, kind)

    def problems(self) -> dict[str, str]:
        """What does not work right now: component -> the last error."""
        return {follower.name: follower.problem for follower in self._followers if follower.problem}

    def _open(self) -> None:
        config = self.config
        config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.records = Records(config.records_url)
        self._exit.callback(self.records.close)
        upgrade(self.records)
        self.traffic.restore(self._setting(_TRAFFIC))
        self.journal = SqliteJournal(config.data / "journal.db", _READERS, config.journal.size_limit_bytes, self.meter)
        self._exit.callback(self.journal.close)
        self.store = Telemetry(config.store_url, config.store.database, config.store.retention_days, config.store.memory_limit_bytes)
        self._exit.callback(self.store.close)
        self.store.open()
        self.incidents = Incidents(
            self.records, self.store, config.correlation, self.meter, store_position=lambda: self.journal.position("store")
        )
        folders = [config.workflows.path] if config.workflows.path else []
        workflows = [workflow for folder in folders for workflow in load_folder(folder)]
        self.workflows = Workflows(self.records, self.connectors, workflows, config.workflows, self.meter)

    def _start(self) -> None:
        threading.Thread(target=compile_ahead, name="compile", daemon=True).start()
        normalise = self.normaliser.normalise
        techniques = [technique() for technique in plugins("techniques").values()]
        self.runner = TechniqueRunner(self.journal, techniques, normalise, self.meter)
        self._followers = [
            StoreWriter(self.journal, self.store, normalise, self.meter),
            self.runner,
            EventFollower(
                self.journal,
                normalise,
                self.incidents.consume,
                lambda: self._position("incidents"),
                lambda: self.incidents.tick(self.runner.watermark),
                self.meter,
            ),
        ]
        for follower in self._followers:
            follower.start()
        server = self.config.server
        self.syslog = Syslog(server.host, server.syslog_port, self.meter) if server.syslog_port else None
        own = OwnEvents(self.records.outbox, lambda: self._position("own"), lambda position: self._advance("own", position))
        feeds: list[tuple[Feed, str]] = [(own, "own"), (OwnMetrics(self.meter), "own")]
        feeds += [
            (FileFollow(file, lambda name: self._setting(f"file:{name}"), lambda name, value: self._keep(f"file:{name}", value)), "file")
            for file in self.config.files
        ]
        if self.syslog is not None:
            feeds.append((self.syslog, "push"))
        feeds += [(source, source.extraction) for source in self.sources]
        for feed, kind in feeds:
            self._supervise(f"source {feed.name}", partial(feed.run, partial(self.emit, kind=kind)))
        self._supervise("workflows", self.workflows.run)
        self._supervise("ticket changes", partial(self.workflows.poll_changes, partial(self.emit, kind="poll")))
        self._supervise("causes", self._analyse)
        self._supervise("memory", self._trim)

    def _drain(self) -> None:
        for follower in self._followers:
            follower.stop()
        if self._followers:
            self._keep(_TRAFFIC, self.traffic.snapshot())

    async def _analyse(self) -> None:
        while True:
            await asyncio.sleep(_ANALYSE_EVERY_S)
            if await asyncio.to_thread(self.incidents.analyse_due):
                self.workflows.wake()

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(_TRIM_EVERY_S)
            await asyncio.to_thread(self.store.trim)

    def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.create_task(self._keep_running(name, work), name=name))

    async def _keep_running(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        failures, started = 0, now()
        while True:
            try:
                started = now()
                await work()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - one failed component must not take its neighbours down
                failures = 0 if now() - started > 60e9 else failures + 1
                wait_s = _RESTART_S[min(failures, len(_RESTART_S) - 1)]
                known = isinstance(error, NinefoldError)
                _log.warning("%s stopped and starts again in %s s: %s", name, wait_s, error, exc_info=None if known else error)
                await asyncio.sleep(wait_s)
            else:
                raise Unavailable(f"{name} ended by itself; it should only end when it is cancelled")

    def _position(self, reader: str) -> int:
        with self.records.reading() as session:
            row = session.get(Position, reader)
            return row.position if row else 0

    def _advance(self, reader: str, position: int) -> None:
        with self.records.session() as session:
            session.merge(Position(reader=reader, position=position))

    def _lend(self, name: str) -> Lent:
        """What a source gets from the program; its position is kept under its name."""
        key = f"source:{name}"
        return Lent(lambda: self._setting(key), lambda position: self._keep(key, position), self.meter, self.config.webhooks.get)

    def _setting(self, key: str) -> dict[str, Any]:
        with self.records.reading() as session:
            row = session.get(Setting, key)
            return dict(row.value) if row else {}

    def _keep(self, key: str, value: dict[str, Any]) -> None:
        with self.records.session() as session:
            session.merge(Setting(key=key, value=value))


def compile_ahead() -> None:
    """Compile what Numba compiles, or load it from its cache; installation calls this, and every start in the background."""
    kernel.warm()
    warm.warm()


def build_connectors(config: Config) -> dict[str, Connector]:
    """The configured connectors by name.

    Raises:
        ConfigError: a type is unknown or its settings are wrong; secrets are not repeated in the message.
    """
    kinds = plugins("connectors")
    return {
        name: kinds[kind](checked) for name, kind, checked in _checked("connectors", config.connectors, kinds)
    }  # fmt: skip


def build_sources(config: Config, lend: Callable[[str], Lent]) -> list[Source]:
    """The configured sources, and those that run without being configured.

    Raises:
        ConfigError: a type is unknown or its settings are wrong; secrets are not repeated in the message.
    """
    kinds = plugins("sources")
    found: list[Source] = [kinds[kind](name, checked, lend(name)) for name, kind, checked in _checked("sources", config.sources, kinds)]
    configured = {source.kind for source in found}
    return found + [cls(kind, cls.Config(), lend(kind)) for kind, cls in kinds.items() if cls.always and kind not in configured]


def _checked(group: str, given: dict[str, dict[str, Any]], kinds: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(name, kind, checked settings) of every configured plug-in of a group."""
    for name, settings in given.items():
        kind = settings.get("type", "")
        if kind not in kinds:
            raise ConfigError(f"{group}.{name}.type: {kind!r} is not one of the {group}; they are {', '.join(sorted(kinds))}")
        try:
            checked = kinds[kind].Config.model_validate({key: value for key, value in settings.items() if key != "type"})
        except ValidationError as error:
            problems = "; ".join(f"{group}.{name}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            raise ConfigError(problems) from error
        yield name, kind, checked
