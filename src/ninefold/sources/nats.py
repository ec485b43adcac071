"""NATS: a durable pull consumer of a JetStream stream, or a plain subscription.

```yaml
sources:
  orders:
    type: nats
    servers: ["nats://nats.example.org:4222"]
    subject: "orders.>"
    stream: ORDERS
```

With `stream` set, Ninefold reads by a durable pull consumer (made when it does not exist, named `durable`) and acknowledges each message
when what it holds is durable; meanwhile it tells the server that it is still working, so a full journal causes no redelivery. Several
Ninefolds with the same `durable` share the stream. A redelivery (a crash before the acknowledgement) holds the same stream sequence
and time, so a JSON record is the same event.

Without `stream` it is NATS as such, at most once: what is published while Ninefold is away is not seen, and when more waits than
`waiting`, the newest is dropped and counted (``ninefold_nats_dropped_total``).

The subject becomes ``messaging.destination.name``, headers are used for CloudEvents and ``content-encoding``.
What the messages may hold is said under [payloads](payload.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, SecretStr

from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.plugin import Emit, Extraction, Lent, Reached, Source
from ninefold.sources.client_tls import ClientTls
from ninefold.sources.delivery import heed_cancel
from ninefold.sources.payload import Intake, Message, PayloadConfig

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

_log = get("nats")
_WAIT_S = 1.0


class Nats(Source):
    """A JetStream consumer or a plain NATS subscription."""

    kind = "nats"
    title = "NATS and JetStream"
    extraction: ClassVar[Extraction] = "stream"
    signals = frozenset(("metric", "log", "span", "event"))

    class Config(PayloadConfig):
        """Which servers, subject and stream, and how much at once."""

        servers: list[str] = Field(min_length=1, description="Addresses, ``nats://host:4222`` or ``tls://…``.")
        subject: str = Field(description="The subject; * and > as in NATS.")
        stream: str = Field("", description="The JetStream stream; empty for a plain subscription.")
        durable: str = Field("", description="The durable consumer's name; ``ninefold-<source>`` by default.")
        group: str = Field("", description="Queue group of a plain subscription: its members share the messages.")
        batch: int = Field(500, ge=1, le=10_000, description="Most messages handed over together.")
        waiting: int = Field(50_000, ge=100, description="Plain subscription: how many messages may wait before they are dropped.")
        ack_wait_s: float = Field(60.0, ge=1, description="After this long without a word of us, the server delivers a message again.")
        user: str = Field("", description="The user's name.")
        password: SecretStr | None = Field(None, description="The user's password.")
        token: SecretStr | None = Field(None, description="A token instead.")
        credentials: str = Field("", description="Path of a .creds file (JWT and NKey) instead.")
        tls: ClientTls = Field(default_factory=ClientTls, description="TLS.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._intake = Intake(config, name, lent)
        self._dropped = lent.meter.counter(
            "ninefold_nats_dropped_total", "Messages of plain subscriptions dropped because too many waited."
        )

    @property
    def _where(self) -> str:
        return f"NATS at {', '.join(server.rpartition('@')[2] for server in self.config.servers)}"

    async def run(self, emit: Emit) -> None:
        """Deliver until cancelled or disconnected."""
        async with self._connected() as client:
            if self.config.stream:
                await self._consume(client, emit)
            else:
                await self._subscribe(client, emit)

    async def check(self) -> Reached:
        """Look at the stream's newest messages as they lie there, or listen to a plain subject for two seconds."""
        async with self._connected() as client:
            if self.config.stream:
                said, messages = await self._peek(client.jetstream())
            else:
                subscription = await client.subscribe(self.config.subject)
                messages = [_message(message) for message in await _within(subscription, 5, 2.0)]
                said = f"{self._where} took the subscription to {self.config.subject}."
        return Reached(said, await self._intake.show(messages))

    async def _consume(self, client: Client, emit: Emit) -> None:
        from nats.errors import TimeoutError as NothingThere
        from nats.js.api import AckPolicy, ConsumerConfig

        durable = self.config.durable or f"ninefold-{self.name}"
        wish = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=self.config.ack_wait_s, max_ack_pending=4 * self.config.batch)
        pull = await client.jetstream().pull_subscribe(self.config.subject, durable, self.config.stream, wish)
        _log.info("%s reads %s of stream %s as %s", self.name, self.config.subject, self.config.stream, durable)
        while True:
            heed_cancel()
            try:
                messages = await pull.fetch(self.config.batch, timeout=_WAIT_S)
            except NothingThere:
                if client.is_closed:
                    raise Unavailable(f"{self._where} closed the connection") from None
                continue

            async def still_working(messages: Sequence[Msg] = messages) -> None:
                for message in messages:
                    await message.in_progress()

            await self._intake.take(emit, [_message(message) for message in messages], still_working)
            for message in messages:
                await message.ack()

    async def _subscribe(self, client: Client, emit: Emit) -> None:
        dropped = 0
        subscription = await client.subscribe(self.config.subject, self.config.group, pending_msgs_limit=self.config.waiting)
        while True:
            heed_cancel()
            messages = await _within(subscription, self.config.batch, _WAIT_S)
            if client.is_closed:
                raise Unavailable(f"{self._where} closed the connection")
            if messages:
                await self._intake.take(emit, [_message(message) for message in messages])
            if (lost := self._slow - dropped) > 0:
                self._dropped.add(lost, source=self.name)
                dropped = self._slow

    async def _peek(self, stream: JetStreamContext) -> tuple[str, list[Message]]:
        from nats.js.errors import NotFoundError

        info = await stream.stream_info(self.config.stream)
        last, found = info.state.last_seq, []
        for number in range(max(info.state.first_seq, last - 4), last + 1):
            with contextlib.suppress(NotFoundError):  # a deleted message leaves a hole in the sequence
                raw = await stream.get_msg(self.config.stream, number)
                found.append(Message(raw.data or b"", raw.subject or "", f"{self.config.stream}/{raw.seq}", 0, _headers(raw.headers)))
        return f"{self._where} has {info.state.messages} messages in stream {self.config.stream}.", found

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        try:
            import nats
            from nats.errors import Error, SlowConsumerError
        except ImportError:
            raise ConfigError(f"sources.{self.name}: NATS needs nats-py; install ninefold[nats]") from None
        self._slow = 0

        async def noticed(error: Exception) -> None:
            if isinstance(error, SlowConsumerError):
                self._slow += 1
            else:
                _log.warning("%s: %s", self.name, error)

        client: Client | None = None
        try:
            client = await nats.connect(
                self.config.servers, error_cb=noticed, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0, **self._who()
            )
            yield client
        except (Error, OSError) as error:
            kind = Refused if "authorization" in str(error).lower() or "permissions" in str(error).lower() else Unavailable
            raise kind(f"{self._where}: {error or type(error).__name__}") from error
        finally:
            if client is not None:
                await client.close()

    def _who(self) -> dict[str, Any]:
        secrets = {"password": self.config.password, "token": self.config.token}
        who: dict[str, Any] = {key: secret.get_secret_value() for key, secret in secrets.items() if secret}
        if self.config.user:
            who["user"] = self.config.user
        if self.config.credentials:
            who["user_credentials"] = self.config.credentials
        context = self.config.tls.context(f"sources.{self.name}.tls")
        return who | ({"tls": context} if context else {}) | {"name": f"ninefold {self.name}", "connect_timeout": 5}


async def _within(subscription: Any, size: int, seconds: float) -> list[Msg]:
    """Up to `size` messages that come within this time; what is there already is not waited for."""
    from nats.errors import ConnectionClosedError
    from nats.errors import TimeoutError as NothingThere

    found: list[Msg] = []
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while len(found) < size:
        waiting = subscription.pending_msgs
        if found and not waiting:
            break
        try:
            found.append(await subscription.next_msg(max(end - loop.time(), 0.001)))
        except (NothingThere, ConnectionClosedError):
            break
    return found


def _headers(headers: Any) -> dict[str, str]:
    return {str(key).lower(): str(value) for key, value in (headers or {}).items()}


def _message(message: Msg) -> Message:
    if not message.reply.startswith("$JS.ACK."):
        return Message(message.data, message.subject, headers=_headers(message.headers))
    about = message.metadata
    taken = int(message.reply.split(".")[-2 if message.reply.count(".") == 8 else 9])
    return Message(message.data, message.subject, f"{about.stream}/{about.sequence.stream}", taken, _headers(message.headers))
