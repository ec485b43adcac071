"""The only wiring: configuration -> components -> run -> drain -> stop.

``async with App(config) as app`` is the whole program without its HTTP server; the server, the CLI, the demo and the tests
all use it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from pydantic import ValidationError

from ninefold.analytics import warm
from ninefold.analytics.logs.masking import Masking
from ninefold.catalogue.limits import Limits
from ninefold.catalogue.watch import SourceWatch
from ninefold.config import Config, WebhookConfig
from ninefold.engine.local import EventFollower, Follower, StoreWriter
from ninefold.engine.techniques import TechniqueRunner
from ninefold.foresight import Foresight
from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, ConfigError, NinefoldError, Unavailable
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.ground.traffic import Traffic
from ninefold.incidents import Incidents
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch, batch_of
from ninefold.normalise import Normaliser
from ninefold.oncall import OnCall
from ninefold.plugin import Connector, Emit, Feed, Lent, Source, plugins
from ninefold.roadmap.use_cases import USE_CASES
from ninefold.sources import kernel
from ninefold.sources.own import OwnEvents, OwnMetrics
from ninefold.stewardship import Stewardship
from ninefold.stewardship.settings import in_force
from ninefold.store.records.access import Tokens
from ninefold.store.records.base import Position, Records, Setting
from ninefold.store.records.forgetting import forget
from ninefold.store.records.migrate import upgrade
from ninefold.store.schema import RETENTION_DAYS
from ninefold.store.telemetry import Telemetry
from ninefold.store.upkeep import Upkeep
from ninefold.workflows.engine import Workflows
from ninefold.workflows.language import load_folder
from ninefold.workflows.mask import Mask, secrets_of

_log = get("app")
_READERS = ("store", "techniques", "incidents")
_RESTART_S = (0.5, 1.0, 5.0, 15.0, 60.0)
_ANALYSE_EVERY_S = 1.0
_TRIM_EVERY_S = 10.0
_FORGET_EVERY_S = 3600.0
_TRAFFIC = "traffic"
_ADMITTED_HERE = 1024
"""Up to so many rows pass the limits on the event loop, in well below a millisecond; more do in a thread of their own."""
_TOPICS = {
    "alert": "alert", "anomaly": "detection", "observation": "detection", "verdict": "detection", "setting": "detection",
    "forecast": "forecast",
}  # fmt: skip
"""What tabs look at again when an event of this kind came."""
_HEALTHY_S = 10.0
"""A component that failed counts as well again after this long."""


class App:
    """The running program.

    Args:
        config: the checked configuration.

    Attributes:
        config, meter, journal, store, records, tokens, normaliser, incidents, workflows, connectors, sources, traffic, watch, stewardship,
        limits, foresight, oncall.
        moved: how often events came that change what a topic of the live view shows.

    Raises:
        ConfigError: on entering, when a part refuses its configuration.
        Unavailable: on entering, when the data folder is in use by another process or cannot be written.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.meter = Meter()
        self.traffic = Traffic()
        self.moved: Counter[str] = Counter()
        self.normaliser = Normaliser(
            config.webhooks, Masking(config.logs.mask, addresses=config.logs.mask_addresses, patterns=config.logs.mask_patterns)
        )
        self._shared: dict[type[Any], Any] = {}
        self.connectors = build_connectors(config)
        self._trusted = {name for name, one in self.connectors.items() if type(one).changes is not Connector.changes}
        self.sources = build_sources(config, self._lend)
        self.ready = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._followers: list[Follower] = []
        self._faults: dict[str, str] = {}
        self._exit = AsyncExitStack()
        self._admission = ThreadPoolExecutor(1, "admission")
        self._exit.callback(self._admission.shutdown)

    async def __aenter__(self) -> App:
        opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            await asyncio.shield(opening)
            self._start()
        except BaseException:
            await asyncio.wait({opening})  # what is being opened in its thread must not be closed beside it
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

    async def emit(self, batches: Sequence[Batch], kind: str = "push", keep: tuple[str, bytes] | None = None) -> None:
        """Make batches durable, within the limits on series, and with them the state that a sender keeps under its name; returns when
        they are on disk.

        Raises:
            BadData: a sender calls itself Ninefold, or as a connector that brings changes of tickets: what those say is believed.
            Unavailable: the journal is full or cannot write.
        """
        if kind == "push":
            for name in {batch.source for batch in batches}:
                if name in self._trusted or name.partition(".")[0].lower() == "ninefold":
                    raise BadData(f"a sender cannot be called {name!r}; choose another name", "source")
        large = self.limits.busy or sum(batch.rows.num_rows for batch in batches) > _ADMITTED_HERE
        admit = partial(self.limits.admit, batches)
        passed = await asyncio.get_running_loop().run_in_executor(self._admission, admit) if large else admit()
        told = [batch_of("event", "ninefold.limits", now(), passed.notices)] if passed.notices else []
        durable = [*passed.batches, *told]
        if durable or keep is not None:
            await asyncio.wrap_future(self.journal.append(durable, keep))
        self.limits.kept(passed)
        for batch in durable:
            self.traffic.record(batch, kind)

    def problems(self) -> dict[str, str]:
        """What does not work right now: component -> the last error."""
        found = {follower.name: follower.problem for follower in self._followers if follower.problem} | self._faults
        return found | ({"journal": self.journal.problem} if self.journal.problem else {})

    def notices(self) -> dict[str, str]:
        """What an administrator must know though everything works: component -> what happened before this start."""
        found = self.runner.notices() if self.ready.is_set() else {}
        found |= {"on-call": self.oncall.notice} if self.oncall.notice else {}
        return found | ({"journal": str(self.journal.loss)} if self.journal.loss else {})

    def _open(self) -> None:
        config = self.config
        config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._exit.callback(_lock(config.data))
        self.records = Records(config.records_url)
        self._exit.callback(self.records.close)
        upgrade(self.records)
        self.tokens = Tokens(self.records)
        self.traffic.restore(self._setting(_TRAFFIC))
        floor = self._position("incidents")  # an older journal's may be known there
        self.journal = SqliteJournal(config.data / "journal.db", _READERS, config.journal.size_limit_bytes, self.meter, floor)
        self._exit.callback(self.journal.close)
        kept = config.store
        self.store = Telemetry(config.store_url, kept.database, kept.retention_days, kept.memory_limit_bytes, kept.source_retention_days)
        self._exit.callback(self.store.close)
        cold = kept.export
        self._upkeep = Upkeep(self.store, cold.to if cold else None, cold.older_than_days if cold else 1)
        self.store.open()
        self.incidents = Incidents(
            self.records, self.store, config.correlation, self.meter, store_position=lambda: self.journal.position("store"),
            alerts=config.alerts,
        )  # fmt: skip
        folders = [config.workflows.path] if config.workflows.path else []
        workflows = [workflow for folder in folders for workflow in load_folder(folder)]
        self.workflows = Workflows(self.records, self.connectors, workflows, config.workflows, self.meter)
        self.oncall = OnCall(self.records, self.connectors, config.oncall, Mask(secrets_of(self.connectors)), self.meter)
        self.foresight = Foresight(self.store, config.forecast, partial(self._place, Foresight.name), self.meter)
        self.watch = SourceWatch()
        self.stewardship = Stewardship(
            self.watch, self.store, self.records, self.normaliser, connectors=self.connectors, sources=self.sources,
            configured=config.webhooks, workflows=workflows, cases={case.name: case.needs for case in USE_CASES}, meter=self.meter,
            traffic=self.traffic, notify=config.stewardship.notify, cool_down_s=config.stewardship.cool_down_s,
        )  # fmt: skip
        self.stewardship.mappings.load()
        pressure = self._pressure if config.limits.sample_under_pressure else lambda: 0.0
        self.limits = Limits(config.limits.series_per_source, config.limits.series, pressure, self.meter)

    def _pressure(self) -> float:
        return self.journal.size_bytes() / self.config.journal.size_limit_bytes

    def _start(self) -> None:
        threading.Thread(target=compile_ahead, name="compile", daemon=True).start()
        normalise = self.normaliser.normalise
        techniques = [self.watch, *(technique() for technique in plugins("techniques").values())]
        self.runner = TechniqueRunner(self.journal, techniques, normalise, self.meter, settings=partial(in_force, self.store))
        self.writer = StoreWriter(self.journal, self.store, normalise, self.meter)
        self._followers = [
            self.writer,
            self.runner,
            EventFollower(
                self.journal,
                normalise,
                self._consume,
                lambda: self._position("incidents"),
                lambda: self.incidents.tick(self.runner.watermark),
                self.meter,
            ),
        ]
        for follower in self._followers:
            follower.start()
        own = OwnEvents(self.records.outbox, lambda: self._position("own"), lambda position: self._advance("own", position))
        feeds: list[tuple[Feed, str]] = [(own, "own"), (OwnMetrics(self.meter), "own")]
        feeds += [(self.foresight, "own")] if self.config.forecast.enabled else []
        feeds += [(source, source.extraction) for source in self.sources]
        for feed, kind in feeds:
            self._supervise(f"source {feed.name}", partial(feed.run, self._emit_of(feed.name, kind)))
        self._supervise("workflows", self.workflows.run)
        self._supervise("ticket changes", partial(self.workflows.poll_changes, self._emit_of("ticket changes", "poll")))
        self._supervise("on-call", self.oncall.run)
        self._supervise("calendars", self.oncall.fetching.run)
        self._supervise("causes", self._analyse)
        self._supervise("memory", self._trim)
        self._supervise("records", self._forget)
        self._supervise("upkeep", self._upkeep.run)
        self._supervise("stewardship", self.stewardship.run)
        self._supervise("source facts", self.stewardship.keep)

    def _consume(self, batches: Sequence[Batch], position: int) -> None:
        self.incidents.consume(batches, position)
        for batch in batches:
            kinds = pc.unique(batch.rows.column("kind")).to_pylist() if batch.signal == "event" else []
            self.moved.update({_TOPICS[kind] for kind in kinds if kind in _TOPICS})

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

    async def _forget(self) -> None:
        days = self.config.store.retention_days.get("event", RETENTION_DAYS["event"])
        while True:
            await asyncio.to_thread(forget, self.records, now(), days)
            await asyncio.sleep(_FORGET_EVERY_S)

    def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.create_task(self._keep_running(name, work), name=name))

    async def _keep_running(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        failures, started = 0, now()
        while True:
            try:
                started = now()
                healthy = asyncio.get_running_loop().call_later(_HEALTHY_S, self._faults.pop, name, None)
                try:
                    await work()
                finally:
                    healthy.cancel()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - one failed component must not take its neighbours down
                failures = 0 if now() - started > 60e9 else failures + 1
                wait_s = _RESTART_S[min(failures, len(_RESTART_S) - 1)]
                known = isinstance(error, NinefoldError)
                _log.warning("%s stopped and starts again in %s s: %s", name, wait_s, error, exc_info=None if known else error)
                self._faults[name] = str(error) or type(error).__name__
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

    def _emit_of(self, name: str, kind: str) -> Emit:
        async def emit(batches: Sequence[Batch], keep: Mapping[str, Any] | None = None) -> None:
            await self.emit(batches, kind, None if keep is None else (f"source:{name}", json.dumps(keep).encode()))

        return emit

    def _place(self, name: str) -> dict[str, Any]:
        """The position that a source kept; an older version kept it in the records."""
        key = f"source:{name}"
        kept = self.journal.state(key)
        return dict(json.loads(kept)) if kept else self._setting(key)

    def _lend(self, name: str) -> Lent:
        """What a source gets from the program; its position is kept under its name."""
        return Lent(lambda: self._place(name), self.meter, self._mapping, self._may_send, self._share)

    def _mapping(self, name: str) -> WebhookConfig | None:
        return self.stewardship.mappings.current(name)

    def _may_send(self, secret: str) -> bool:
        """Whether a token may send data, as every role may."""
        return self.tokens.actor(secret) is not None

    def _share(self, kind: type[Any]) -> Any:
        if kind not in self._shared:
            self._shared[kind] = kind()
        return self._shared[kind]

    def _setting(self, key: str) -> dict[str, Any]:
        with self.records.reading() as session:
            row = session.get(Setting, key)
            return dict(row.value) if row else {}

    def _keep(self, key: str, value: dict[str, Any]) -> None:
        with self.records.session() as session:
            session.merge(Setting(key=key, value=value))


def _lock(folder: Path) -> Callable[[], None]:
    """Take the data folder for this process; what lets go of it.

    Raises:
        Unavailable: another process has it.
    """
    file = (folder / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Unavailable(f"the data folder {folder} is in use by another Ninefold; stop that one or use another folder") from None
    return file.close


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
    configured = {settings.get("type", name) for name, settings in config.sources.items()}
    for kind, cls in kinds.items():
        if cls.always and kind not in configured:
            here = {"host": config.server.host} if "host" in cls.Config.model_fields else {}
            found.append(cls(kind, cls.Config(**here), lend(kind)))
    return found


def _checked(group: str, given: dict[str, dict[str, Any]], kinds: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(name, kind, checked settings) of every configured plug-in of a group."""
    for name, settings in given.items():
        kind = settings.get("type", name)
        if kind not in kinds:
            raise ConfigError(f"{group}.{name}.type: {kind!r} is not one of the {group}; they are {', '.join(sorted(kinds))}")
        if settings.get("enabled") is False:
            continue
        try:
            checked = kinds[kind].Config.model_validate({key: value for key, value in settings.items() if key not in ("type", "enabled")})
        except ValidationError as error:
            problems = "; ".join(f"{group}.{name}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            raise ConfigError(problems) from error
        yield name, kind, checked
