"""RabbitMQ (AMQP 0-9-1): a consumer of a queue.

```yaml
sources:
  shop:
    type: rabbitmq
    url: "amqp://ninefold:${SHOP_PASSWORD}@rabbit.example.org/"
    queue: ninefold.events
    exchange: events
    routing_keys: ["order.#", "alarm.#"]
```

A message is acknowledged when what it holds is durable; the broker hands over at most `prefetch` ahead of that. While the journal is
full nothing is acknowledged and so nothing more comes; messages are held, not sent back: a quorum queue counts every return and
drops a message after its delivery limit. After a crash or a lost connection the broker delivers again what was not acknowledged.

With `exchange` the queue is made durable and bound to it; without, the queue must exist. The routing key becomes
``messaging.destination.name``; the message's id and timestamp, when the sender set them, are its place and time; headers serve
CloudEvents, the content encoding is honoured. What the messages may hold is said under [payloads](payload.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, SecretStr

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import ConfigError, NinefoldError, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.plugin import Emit, Extraction, Lent, Reached, Source
from ninefold.sources.client_tls import ClientTls
from ninefold.sources.delivery import heed_cancel
from ninefold.sources.payload import Intake, Message, PayloadConfig

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

_log = get("rabbitmq")
_CONNECT_S = 10.0


class RabbitMq(Source):
    """A consumer of a RabbitMQ queue."""

    kind = "rabbitmq"
    title = "RabbitMQ"
    extraction: ClassVar[Extraction] = "stream"
    signals = frozenset(("metric", "log", "span", "event"))

    class Config(PayloadConfig):
        """Which server and queue, and how much at once."""

        url: SecretStr = Field(description="``amqp://user:password@host:port/vhost``, ``amqps://`` for TLS.")
        queue: str = Field(description="The queue to read.")
        exchange: str = Field("", description="An existing exchange to bind the queue to; the queue is then made if it does not exist.")
        routing_keys: list[str] = Field(default_factory=lambda: ["#"], description="The bindings' routing keys.")
        prefetch: int = Field(500, ge=1, le=65535, description="How many messages may be unacknowledged.")
        tls: ClientTls = Field(default_factory=ClientTls, description="Certificates for ``amqps://``.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._intake = Intake(config, name, lent)

    @property
    def _where(self) -> str:
        return f"RabbitMQ at {self.config.url.get_secret_value().rpartition('@')[2]}"

    async def run(self, emit: Emit) -> None:
        """Deliver until cancelled or disconnected."""
        async with self._connected() as connection:
            channel = await connection.channel()
            await channel.set_qos(self.config.prefetch)
            queue = await self._queue(channel)
            arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()  # prefetch bounds it
            connection.close_callbacks.add(lambda *_: arrived.put_nowait(None))
            channel.close_callbacks.add(lambda *_: arrived.put_nowait(None))
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(lambda _: arrived.put_nowait(None))  # the queue was deleted, or moved
            await queue.consume(arrived.put)
            _log.info("%s reads queue %s of %s", self.name, self.config.queue, self._where)
            while True:
                heed_cancel()
                found = [await arrived.get()]
                while not arrived.empty() and len(found) < self.config.prefetch:
                    found.append(arrived.get_nowait())
                messages = [message for message in found if message is not None]
                if len(messages) < len(found):
                    raise Unavailable(f"{self._where} closed the connection or ended our reading of queue {self.config.queue}")
                await self._intake.take(emit, [_message(message) for message in messages])
                await messages[-1].ack(multiple=True)  # one channel, one consumer: everything up to it

    async def check(self) -> Reached:
        """Count the messages. None is taken to be shown: a quorum queue counts every return, and drops a message returned too often."""
        async with self._connected() as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(self.config.queue)
            count = queue.declaration_result.message_count
        return Reached(f"{self._where} has {count} messages in queue {self.config.queue}.")

    async def _queue(self, channel: AbstractChannel) -> AbstractQueue:
        if not self.config.exchange:
            return await channel.get_queue(self.config.queue)
        queue = await channel.declare_queue(self.config.queue, durable=True)
        exchange = await channel.get_exchange(self.config.exchange)
        for key in self.config.routing_keys:
            await queue.bind(exchange, key)
        return queue

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AbstractConnection]:
        try:
            import aio_pika
            from aiormq.exceptions import AMQPError, ChannelNotFoundEntity, ProbableAuthenticationError
        except ImportError:
            raise ConfigError(f"sources.{self.name}: RabbitMQ needs aio-pika; install ninefold[rabbitmq]") from None
        context = self.config.tls.context(f"sources.{self.name}.tls")
        connection: AbstractConnection | None = None
        try:
            connection = await aio_pika.connect(self.config.url.get_secret_value(), ssl_context=context, timeout=_CONNECT_S)
            yield connection
        except NinefoldError:
            raise
        except (ProbableAuthenticationError, ChannelNotFoundEntity) as error:
            raise Refused(f"{self._where}: {error}") from error
        except (AMQPError, OSError, TimeoutError) as error:
            raise Unavailable(f"{self._where}: {error or type(error).__name__}") from error
        finally:
            if connection is not None:
                with contextlib.suppress(AMQPError, OSError):
                    await connection.close()


def _message(message: AbstractIncomingMessage) -> Message:
    headers = {str(key).lower(): str(value) for key, value in (message.headers or {}).items()}
    for name, value in (("content-type", message.content_type), ("content-encoding", message.content_encoding)):
        if value:
            headers[name] = value
    time = int(message.timestamp.timestamp()) * SECOND if message.timestamp else 0
    return Message(message.body, message.routing_key or "", message.message_id or "", time, headers)
