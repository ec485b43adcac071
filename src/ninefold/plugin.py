"""The contracts a plug-in fulfils, and the registry that finds it: built-ins register by the same entry points.

Groups: ``ninefold.sources`` (classes with a `Config` model), ``ninefold.connectors`` and ``ninefold.techniques``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_type_hints, runtime_checkable

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from ninefold.ground.errors import ConfigError
from ninefold.ground.meter import Meter
from ninefold.model.signal import Batch, Decoded

Risk = Literal["read", "write", "dangerous"]
Extraction = Literal["push", "stream", "poll", "file"]


class Emit(Protocol):
    """Hands batches to the journal; returns once they are durable; raises `Unavailable` while the journal is full."""

    def __call__(self, batches: Sequence[Batch], keep: Mapping[str, Any] | None = None) -> Awaitable[None]:
        """`keep` is a source's position behind these batches (JSON values): both are durable, or neither."""
        ...


class Strict(BaseModel):
    """A configuration model: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Journal(Protocol):
    """The durable log in front of everything. Positions grow from 1; methods may be called from any thread.

    Attributes:
        id: tells this journal's positions from those of another one.
    """

    id: str

    def append(self, batches: Sequence[Batch], keep: tuple[str, bytes] | None = None) -> Future[int]:
        """Queue batches for the next group commit; the future holds the last position once they are on disk.

        `keep` is a sender's name and its state, which `state` gives back: batches and state are durable together, or neither.

        Raises:
            Unavailable: the journal is full.
        """
        ...

    def read(self, after: int, limit: int = 64, signals: Sequence[str] = (), size_bytes: int = 32 << 20) -> list[Batch]:
        """Up to `limit` batches (and about `size_bytes`) behind position `after`, in order, of `signals` only if any are named."""
        ...

    def position(self, reader: str) -> int:
        """The committed position of a reader, 0 for a new one."""
        ...

    def state(self, reader: str) -> bytes:
        """The state a reader committed with its position, b"" for a new one."""
        ...

    def commit(self, reader: str, position: int, state: bytes | None = None, outputs: Sequence[Batch] = ()) -> Future[int]:
        """Set a reader's position, its state and its outputs in one transaction."""
        ...

    def put(self, reader: str, number: int, blob: bytes) -> Future[int]:
        """Keep a part of a state that is too large for one blob, in place of the part that had its number; an empty one gives
        its room back. What is whole only the state that is committed afterwards can say."""
        ...

    def part(self, reader: str, number: int) -> bytes:
        """The part of a reader's state that has this number, b"" where there is none."""
        ...

    def head(self) -> int:
        """The last durable position."""
        ...

    def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until something lies behind position `after`; False when the time is over."""
        ...


class Store(Protocol):
    """The telemetry store: columns in, SQL out. One client per calling thread inside; times in ns."""

    def append(self, batches: Sequence[Batch], token: str) -> int:
        """Insert batches; a second call with the same token changes nothing. Returns the rows inserted."""
        ...

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run trusted SQL (``{name:Type}`` parameters) and return an Arrow table."""
        ...


@runtime_checkable
class Technique(Protocol):
    """A streaming analytic: no I/O, no wall clock, no asyncio. The same batches give the same outputs, however they are cut."""

    name: ClassVar[str]
    signals: ClassVar[frozenset[str]]

    def process(self, batch: Batch) -> list[Batch]:
        """Learn from one normalised batch and return what was found; output ids are deterministic."""
        ...

    def snapshot(self) -> bytes:
        """The whole state, versioned; a technique restored from it continues with identical output."""
        ...

    def restore(self, state: bytes) -> None:
        """Take over a snapshot.

        Raises:
            BadData: the snapshot is of a version this technique cannot read.
        """
        ...


@runtime_checkable
class LargeTechnique(Technique, Protocol):
    """A technique whose state may become too large to be held twice: it is written and read again in parts of a few megabytes."""

    def parts(self) -> Iterator[bytes]:
        """The whole state in parts; nothing is processed before the last one was taken."""
        ...

    def assemble(self, parts: Iterable[bytes]) -> None:
        """Take over the parts in their order; none start afresh.

        Raises:
            BadData: they are of a version this technique cannot read.
        """
        ...


class Feed(Protocol):
    """Something that brings data in by itself and needs no configuration of its own."""

    name: str

    async def run(self, emit: Emit) -> None:
        """Deliver until cancelled; `emit` waits while the journal is full."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One request at a door, its body read and decompressed. Header names are in lower case; `received` in ns."""

    source: str
    received: int
    body: bytes
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; "" when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a door answers."""

    status: int = 202
    body: bytes = b""
    media_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def _accepted(asked: Asked, decoded: Decoded) -> Answer:
    return Answer()


@dataclass(frozen=True, slots=True)
class Door:
    """One HTTP route of a source. The server checks token, size and media type and decompresses the body; what `accept` gives is durable
    before `answer` is asked.

    Attributes:
        path: as in Starlette: ``/loki/api/v1/push``, ``/webhook/{name}``.
        accept: bytes to batches; it runs in a thread when the body is large. Raises `BadData` or `TooLarge`.
        answer: the answer in the protocol's own form, 202 without a body by default.
        refuse: an error in the protocol's own form (status, one sentence); None, as by default, makes an RFC 9457 problem.
        forget: told what a journal that was full did not keep, so that series are described again.
        media_types: the accepted content types; empty accepts any.
        encoding: the body's compression when the request does not name one.
        methods: GET doors are the probes that a protocol's clients send first.
        source: the name of who sends when the request does not say (``X-Ninefold-Source``), which may use path parameters (``{name}``);
            by default the source's own.
        token_keywords: besides Bearer and Basic, the schemes of the Authorization header that carry the token (``Splunk``, ``Token``).
        token_headers: other headers that carry the token (``x-api-key``).
        open: whether it answers without a token; for probes that tell nothing and take nothing.
    """

    path: str
    accept: Callable[[Asked], Decoded]
    answer: Callable[[Asked, Decoded], Answer] = _accepted
    refuse: Callable[[Asked, int, str], Answer | None] | None = None
    forget: Callable[[Sequence[Batch]], None] | None = None
    media_types: tuple[str, ...] = ()
    encoding: str = ""
    methods: tuple[str, ...] = ("POST",)
    source: str = ""
    token_keywords: tuple[str, ...] = ()
    token_headers: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True, slots=True)
class Lent:
    """What the program lends a source: the position it kept with what it emitted (``{}`` the first time), meters, the mapping
    (`config.WebhookConfig`) of a name, None when that name has none, whether a secret may send data, and the one instance of a class
    that all sources of the program have in common (a decoder that remembers which series were described).
    """

    load: Callable[[], dict[str, Any]] = dict
    meter: Meter = field(default_factory=Meter)
    mapping: Callable[[str], Any] = lambda name: None
    authorise: Callable[[str], bool] = lambda secret: False
    share: Callable[[type[Any]], Any] = lambda kind: kind()


@dataclass(frozen=True, slots=True)
class Reached:
    """What trying a source gave: a sentence saying what was reached, and a few records as they would come in."""

    said: str
    batches: Sequence[Batch] = ()


class Source:
    """A protocol or product that data comes from. One file each: the module's docstring is its page in the documentation, `Config` its
    reference. A source brings data by HTTP doors, by running (listening, subscribing, polling), or both.

    Attributes:
        kind: the word in configuration (``sources.<name>.type``), equal to the entry point's name.
        title: what people call it.
        extraction: how the data leaves the other system: it is pushed, streamed (a subscription), polled, or read from files.
        signals: what can come of it.
        always: whether it runs without being configured.
        Config: its settings; a model whose every field has a description.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    extraction: ClassVar[Extraction]
    signals: ClassVar[frozenset[str]]
    always: ClassVar[bool] = False
    Config: ClassVar[type[Strict]]

    def __init__(self, name: str, config: Any, lent: Lent) -> None:
        self.name, self.config, self.lent = name, config, lent

    def doors(self) -> Sequence[Door]:
        """The HTTP routes it serves."""
        return ()

    async def run(self, emit: Emit) -> None:
        """Deliver until cancelled. The default waits: a source of doors has nothing to do by itself.

        Raises:
            Unavailable, OSError: it is started again after a while.
            ConfigError: something in its settings can never work.
        """
        await asyncio.Event().wait()

    async def check(self) -> Reached:
        """Try the connection with these settings, take nothing away, and show what would come.

        Raises:
            Unavailable: it cannot be reached.
            Refused: it can, and the credentials or permissions are not enough.
        """
        return Reached(f"{self.title} waits for senders; nothing to try.")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a connector can do: its name, its risk, the model of what it is asked and of what it answers."""

    name: str
    risk: Risk
    ask: type[BaseModel]
    answer: type[BaseModel]
    call: Callable[..., Awaitable[BaseModel]]
    idempotent: bool = False


_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Any]])


def action(*, risk: Risk, idempotent: bool = False) -> Callable[[_Method], _Method]:
    """Mark a connector method ``async def name(self, ask: Ask) -> Answer`` as an action.

    `idempotent` says that repeating it with the same ask after a crash is harmless.
    """

    def mark(method: _Method) -> _Method:
        method.__ninefold_action__ = (risk, idempotent)  # type: ignore[attr-defined]
        return method

    return mark


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in the other system since the cursor: event rows for `model.signal.batch_of`, and the next cursor."""

    events: list[dict[str, Any]]
    cursor: str


class Connector:
    """A system that is acted on. A subclass has a `Config` model and methods marked `@action`; one file each.

    Raises from actions: `Unavailable` (retry), `Refused` (do not), `Conflict` (reread).
    """

    kind: ClassVar[str]
    Config: ClassVar[type[Strict]]

    def __init__(self, config: Any) -> None:
        self.config = config

    async def check(self) -> str:
        """Try the connection and the permissions; a sentence saying what was reached.

        Raises:
            Unavailable: it cannot be reached.
            Refused: it can, and the credentials or permissions are not enough.
        """
        raise NotImplementedError

    async def changes(self, cursor: str) -> Changes:
        """What people did there since `cursor` ("" = from now on). Of a ticket: kind ``ticket``, `source_id` its id there, `status` its
        new state, attribute ``ticket.owner`` its new owner ("" for nobody), each where it changed."""
        return Changes([], cursor)

    async def close(self) -> None:
        """Let go of connections."""

    @classmethod
    def actions(cls) -> dict[str, Action]:
        """The actions of this connector by name, read from the methods' own types."""
        found: dict[str, Action] = {}
        for name, method in inspect.getmembers(cls, inspect.isfunction):
            mark = getattr(method, "__ninefold_action__", None)
            if mark is None:
                continue
            hints = get_type_hints(method)
            answer = hints.pop("return")
            (ask,) = (hint for key, hint in hints.items() if key != "self")
            found[name] = Action(name, mark[0], ask, answer, method, mark[1])
        return found


def plugins(group: Literal["sources", "connectors", "techniques"]) -> dict[str, Any]:
    """Every registered plug-in class of a group by name.

    Raises:
        ConfigError: one cannot be imported; the message names it and its package.
    """
    found: dict[str, Any] = {}
    for entry in entry_points(group=f"ninefold.{group}"):
        try:
            found[entry.name] = entry.load()
        except ImportError as error:
            package = entry.dist.name if entry.dist else "?"
            raise ConfigError(f"the {group[:-1]} {entry.name!r} of package {package!r} cannot be imported: {error}") from error
    return found


def names(batches: Iterable[Batch]) -> str:
    """A short text of signals and row counts, for log lines: ``metric 500, log 20``."""
    return ", ".join(f"{b.signal} {b.rows.num_rows}" for b in batches)
