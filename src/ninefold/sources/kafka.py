"""Apache Kafka and what speaks its protocol (Redpanda, WarpStream, Event Hubs, Confluent Cloud): a consumer group over topics.

```yaml
sources:
  telemetry:
    type: kafka
    brokers: ["kafka-1.example.org:9092"]
    topics: [otlp_logs]
    format: otlp_logs
```

Offsets are committed when what the messages hold is durable, so a crash or a rebalance brings back at most the batch in work. While
the journal is full nothing is read; after `poll_limit_s` of that the group gives our partitions to its other members, and Ninefold joins
again by itself. Several Ninefolds with the same `group` share the partitions. Offsets are only ever stored in Kafka.

A message's place (``topic/partition/offset``) and timestamp make a JSON record without a time the same event when it comes again. The
topic becomes ``messaging.destination.name``; headers serve CloudEvents and ``content-encoding``; keys and tombstones (messages
without a value) are not kept. Every compression Kafka knows is understood. Avro and Protobuf with a schema registry are not read.
What the messages may hold is said under [payloads](payload.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, SecretStr

from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.plugin import Emit, Extraction, Lent, Reached, Source
from ninefold.sources.client_tls import ClientTls
from ninefold.sources.payload import Intake, Message, PayloadConfig

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from confluent_kafka import Message as Record

_log = get("kafka")
_WAIT_S = 0.5
_TIMEOUT_S = 5.0
_SHOWN = 3
_MILLISECOND = 1_000_000


class Kafka(Source):
    """A consumer group over Kafka topics."""

    kind = "kafka"
    title = "Apache Kafka"
    extraction: ClassVar[Extraction] = "stream"
    signals = frozenset(("metric", "log", "span", "event"))

    class Config(PayloadConfig):
        """Which brokers, topics and group, and how much at once."""

        brokers: list[str] = Field(min_length=1, description="Some brokers, ``host:port``.")
        topics: list[str] = Field(min_length=1, description="The topics; one that begins with ^ is a regular expression.")
        group: str = Field("ninefold", description="The consumer group.")
        start: Literal["earliest", "latest"] = Field("earliest", description="Where a new group begins.")
        batch: int = Field(2000, ge=1, le=100_000, description="Most messages handed over together.")
        poll_limit_s: int = Field(300, ge=10, description="How long the journal may be full before the group takes our partitions away.")
        sasl: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("", description="How we log in.")
        user: str = Field("", description="The user's name.")
        password: SecretStr | None = Field(None, description="The user's password.")
        tls: ClientTls = Field(default_factory=ClientTls, description="TLS.")
        options: dict[str, str] = Field(default_factory=dict, description="Any other setting of librdkafka by its name.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._intake = Intake(config, name, lent)
        self._trouble = ""

    @property
    def _where(self) -> str:
        return f"Kafka at {', '.join(self.config.brokers)}"

    async def run(self, emit: Emit) -> None:
        """Deliver until cancelled."""
        async with self._consumer(self.config.group) as (consumer, call):
            await call(consumer.subscribe, self.config.topics)
            _log.info("%s reads %s of %s as group %s", self.name, ", ".join(self.config.topics), self._where, self.config.group)
            while True:
                records = await call(consumer.consume, self.config.batch, _WAIT_S)
                good = self._good(records)
                if good:
                    await self._intake.take(emit, _messages(good))
                    await call(self._commit, consumer, good)

    async def check(self) -> Reached:
        """Ask for the topics and read a few of the newest messages, without the group and without committing."""
        async with self._consumer(f"{self.config.group}-check") as (consumer, call):
            reached: Reached = await call(self._look, consumer, asyncio.get_running_loop())
            return reached

    def _look(self, consumer: Consumer, loop: asyncio.AbstractEventLoop) -> Reached:
        from confluent_kafka import KafkaException, TopicPartition

        try:
            known = consumer.list_topics(timeout=_TIMEOUT_S).topics
        except KafkaException as error:
            kind = Refused if "uthentication" in f"{error} {self._trouble}" else Unavailable
            raise kind(f"{self._where}: {self._trouble or error}") from error
        missing = [topic for topic in self.config.topics if not topic.startswith("^") and (topic not in known or known[topic].error)]
        if missing:
            raise Refused(f"{self._where} has no topic {', '.join(missing)}, or we may not see it")
        places, count, wanted = [], 0, 0
        topics = [
            topic for topic in known if any(re.match(wish, topic) if wish[0] == "^" else wish == topic for wish in self.config.topics)
        ]
        for topic in topics:
            for partition in known[topic].partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), _TIMEOUT_S)
                count += high - low
                if high > low:
                    places.append(TopicPartition(topic, partition, max(low, high - _SHOWN)))
                    wanted += min(high - low, _SHOWN)
        records: list[Record] = []
        if places:
            consumer.assign(places)
            records = consumer.consume(min(wanted, 2 * _SHOWN), _TIMEOUT_S)
        shown = asyncio.run_coroutine_threadsafe(self._intake.show(_messages(self._good(records))), loop).result()
        return Reached(f"{self._where} has {count} messages in {', '.join(topics) or 'no topic'}.", shown)

    def _good(self, records: Sequence[Record]) -> list[Record]:
        """The records that are messages; what the client has to say instead is logged."""
        good = []
        for record in records:
            error = record.error()
            if error is None:
                good.append(record)
            elif error.fatal():
                raise Unavailable(f"{self._where}: {error.str()}")
            else:
                _log.warning("%s: %s", self.name, error.str())
        return good

    def _commit(self, consumer: Consumer, records: Sequence[Record]) -> None:
        """Commit behind the last record of each partition; a group that has moved on meanwhile reads them again, which is harmless."""
        from confluent_kafka import KafkaException, TopicPartition

        last = {(record.topic(), record.partition()): record.offset() or 0 for record in records}
        offsets = [TopicPartition(topic or "", partition or 0, offset + 1) for (topic, partition), offset in last.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            _log.warning("%s: the offsets were not committed and these messages may come again: %s", self.name, error)

    @contextlib.asynccontextmanager
    async def _consumer(self, group: str) -> AsyncIterator[Any]:
        """A consumer, and a way to call it in the one thread that it may be used from."""
        try:
            from confluent_kafka import Consumer, KafkaException
        except ImportError:
            raise ConfigError(f"sources.{self.name}: Kafka needs confluent-kafka; install ninefold[kafka]") from None
        try:
            consumer = Consumer(self._settings(group))
        except (KafkaException, ValueError) as error:
            raise ConfigError(f"sources.{self.name}: {error}") from error
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, f"kafka {self.name}") as thread:

            async def call(work: Any, *about: Any) -> Any:
                return await loop.run_in_executor(thread, work, *about)

            try:
                yield consumer, call
            except KafkaException as error:
                raise Unavailable(f"{self._where}: {error}") from error
            finally:
                await asyncio.shield(call(consumer.close))

    def _settings(self, group: str) -> dict[str, Any]:
        config, tls = self.config, self.config.tls
        files = {"ssl.ca.location": tls.ca, "ssl.certificate.location": tls.certificate, "ssl.key.location": tls.key}
        login = {"sasl.mechanism": config.sasl, "sasl.username": config.user} if config.sasl else {}
        if config.sasl and config.password:
            login["sasl.password"] = config.password.get_secret_value()
        return {
            "bootstrap.servers": ",".join(config.brokers), "group.id": group, "client.id": f"ninefold-{self.name}",
            "enable.auto.commit": False, "enable.auto.offset.store": False, "auto.offset.reset": config.start,
            "max.poll.interval.ms": config.poll_limit_s * 1000, "session.timeout.ms": min(45_000, config.poll_limit_s * 1000),
            "queued.max.messages.kbytes": 65_536, "error_cb": self._noticed,
            "security.protocol": f"{'sasl_' if config.sasl else ''}{'ssl' if tls.enabled else 'plaintext'}",
            **{key: str(path) for key, path in files.items() if path}, **login,
            **({} if tls.verify else {"enable.ssl.certificate.verification": False}), **config.options,
        }  # fmt: skip

    def _noticed(self, error: Any) -> None:
        self._trouble = error.str()
        _log.warning("%s: %s", self.name, self._trouble)


def _messages(records: Sequence[Record]) -> list[Message]:
    return [_message(record) for record in records if record.value() is not None]


def _message(record: Record) -> Message:
    kind, taken = record.timestamp()
    headers = {name.lower(): _text(value) for name, value in dict(record.headers() or ()).items()}
    place = f"{record.topic()}/{record.partition()}/{record.offset()}"
    body = record.value()
    return Message(
        body if isinstance(body, bytes) else str(body).encode(), record.topic() or "", place, taken * _MILLISECOND if kind else 0, headers
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
