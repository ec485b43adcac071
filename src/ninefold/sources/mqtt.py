"""MQTT: a subscription at a broker (Mosquitto, EMQX, HiveMQ, RabbitMQ's plug-in), protocol 3.1.1 or 5, QoS 1.

```yaml
sources:
  plant:
    type: mqtt
    host: broker.example.org
    topics: ["plant/+/alarms", "plant/+/orders"]
    format: json
```

A message is acknowledged (PUBACK) when what it holds is durable. The session persists: while Ninefold is away, the broker keeps the
messages of QoS 1 and 2 under `client_id` for `session_s` (MQTT 5; with 3.1.1 as long as the broker likes) and delivers them then. Two
subscriptions need two client ids. While the journal is full nothing is acknowledged, so the broker stops at its limit of messages in
flight (`in_flight` with MQTT 5) and queues. What is published with QoS 0 cannot wait: above 10,000 such messages they are dropped
and counted (``ninefold_mqtt_dropped_total``).

A message's topic becomes the attribute ``messaging.destination.name``. MQTT 5 user properties are headers (for CloudEvents and
``content-encoding``). The retain flag is not kept. What the messages may hold is said under [payloads](payload.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, SecretStr

from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.plugin import Emit, Extraction, Lent, Reached, Source
from ninefold.sources.client_tls import ClientTls
from ninefold.sources.payload import Intake, Message, PayloadConfig

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

_log = get("mqtt")
_WAITING = 10_000
_CONNECT_S = 10.0
_LISTEN_S = 2.0
_BAD_LOGIN = ("Bad user name or password", "Not authorized", "Bad authentication method", "Client identifier not valid", "Banned")


class _Link:
    """One connection: paho's network thread on one side, the messages that came on the other."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self.messages: deque[MQTTMessage] = deque()
        self.dropped = 0
        self.subscribed = self._loop.create_future()
        self.failure: Exception | None = None

    def tie(self, client: Client, topics: list[tuple[str, int]]) -> None:
        """Take part in what happens to the client; the callbacks run in its thread."""

        def connected(client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
            if reason.is_failure:
                kind = Refused if str(reason) in _BAD_LOGIN else Unavailable
                self._say(self._fail, kind(f"{self._where} refused the connection: {reason}"))
            else:
                client.subscribe(topics)

        def subscribed(client: Client, data: Any, mid: int, reasons: list[Any], properties: Any) -> None:
            refused = [topic for (topic, _), reason in zip(topics, reasons, strict=False) if reason.is_failure]
            if refused:
                self._say(self._fail, Refused(f"{self._where} refused the subscription to {', '.join(refused)}"))
            else:
                self._say(self._ready)

        client.on_connect = connected
        client.on_subscribe = subscribed
        client.on_message = lambda client, data, message: self._say(self._arrived, message)
        client.on_disconnect = lambda client, data, flags, reason, properties: self._say(
            self._fail, Unavailable(f"{self._where} closed the connection: {reason}")
        )

    async def take(self, size: int) -> list[MQTTMessage]:
        """The next messages, at least one.

        Raises:
            Unavailable, Refused: the connection is gone.
        """
        while not self.messages:
            self.check()
            self._wake.clear()
            await self._wake.wait()
        return [self.messages.popleft() for _ in range(min(size, len(self.messages)))]

    def check(self) -> None:
        """Raise what ended the connection, if anything did."""
        if self.failure is not None:
            raise self.failure

    def _say(self, what: Any, *about: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(what, *about)

    def _ready(self) -> None:
        if not self.subscribed.done():
            self.subscribed.set_result(None)

    def _arrived(self, message: MQTTMessage) -> None:
        if message.qos == 0 and len(self.messages) >= _WAITING:
            self.dropped += 1
            return
        self.messages.append(message)
        self._wake.set()

    def _fail(self, error: Exception) -> None:
        self.failure = self.failure or error
        self._ready()
        self._wake.set()


class Mqtt(Source):
    """A subscription at an MQTT broker."""

    kind = "mqtt"
    title = "MQTT"
    extraction: ClassVar[Extraction] = "stream"
    signals = frozenset(("metric", "log", "span", "event"))

    class Config(PayloadConfig):
        """Which broker, which topics, and how much at once."""

        host: str = Field(description="The broker's name or address.")
        port: int = Field(0, ge=0, le=65535, description="Its port; 1883, or 8883 with TLS, by default.")
        topics: list[str] = Field(min_length=1, description="Topic filters; + and # as in MQTT, ``$share/<group>/<filter>`` to share.")
        protocol: Literal["3.1.1", "5"] = Field("5", description="The protocol's version.")
        qos: Literal[0, 1, 2] = Field(1, description="At least once with 1; with 0 the broker keeps nothing for us.")
        client_id: str = Field("", description="The session's name at the broker; ``ninefold-<source>`` by default.")
        session_s: int = Field(7 * 86400, ge=0, description="MQTT 5: how long the broker keeps the session while we are away.")
        in_flight: int = Field(500, ge=1, le=65535, description="MQTT 5: how many messages may be unacknowledged.")
        batch: int = Field(1000, ge=1, le=100_000, description="Most messages handed over together.")
        user: str = Field("", description="The user's name.")
        password: SecretStr | None = Field(None, description="The user's password.")
        tls: ClientTls = Field(default_factory=ClientTls, description="TLS.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._intake = Intake(config, name, lent)
        self._dropped = lent.meter.counter("ninefold_mqtt_dropped_total", "QoS 0 messages dropped because too many were waiting.")

    @property
    def _where(self) -> str:
        return f"the MQTT broker {self.config.host}:{self._port}"

    @property
    def _port(self) -> int:
        return int(self.config.port) or (8883 if self.config.tls.enabled else 1883)

    async def run(self, emit: Emit) -> None:
        """Subscribe and deliver until cancelled or disconnected."""
        async with self._connected(self.config.client_id or f"ninefold-{self.name}", keep=True) as (client, link):
            _log.info("%s reads %s of %s", self.name, ", ".join(self.config.topics), self._where)
            while True:
                messages = await link.take(self.config.batch)
                await self._intake.take(emit, [_message(message) for message in messages])
                for message in messages:
                    if message.qos:
                        client.ack(message.mid, message.qos)
                if link.dropped:
                    self._dropped.add(link.dropped, source=self.name)
                    link.dropped = 0

    async def check(self) -> Reached:
        """Subscribe in a session of its own, which takes nothing from the real one, and show what comes within two seconds."""
        async with self._connected(f"ninefold-check-{time.time_ns():x}", keep=False) as (_, link):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LISTEN_S):
                    while len(link.messages) < 5:
                        link.check()
                        await asyncio.sleep(0.02)
            shown = [_message(message) for message in list(link.messages)[:5]]
        return Reached(f"{self._where} took the subscription to {', '.join(self.config.topics)}.", await self._intake.show(shown))

    @contextlib.asynccontextmanager
    async def _connected(self, client_id: str, *, keep: bool) -> Any:
        link = _Link(self._where)
        client = self._client(client_id, keep)
        link.tie(client, [(topic, self.config.qos) for topic in self.config.topics])
        try:
            await asyncio.to_thread(self._open, client, keep)
        except OSError as error:
            raise Unavailable(f"{self._where} cannot be reached: {error}") from error
        client.loop_start()
        try:
            async with asyncio.timeout(_CONNECT_S):
                await link.subscribed
            link.check()
            yield client, link
        except TimeoutError as error:
            raise Unavailable(f"{self._where} did not answer within {_CONNECT_S:.0f} s") from error
        finally:
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    def _client(self, client_id: str, keep: bool) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        except ImportError:
            raise ConfigError(f"sources.{self.name}: MQTT needs paho-mqtt; install ninefold[mqtt]") from None
        five = self.config.protocol == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if five else not keep,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if self.config.user:
            client.username_pw_set(self.config.user, self.config.password.get_secret_value() if self.config.password else None)
        context = self.config.tls.context(f"sources.{self.name}.tls")
        if context is not None:
            client.tls_set_context(context)
        return client

    def _open(self, client: Client, keep: bool) -> None:
        if self.config.protocol != "5":
            client.connect(self.config.host, self._port, keepalive=30)
            return
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self.config.session_s if keep else 0
        properties.ReceiveMaximum = self.config.in_flight
        client.connect(self.config.host, self._port, keepalive=30, clean_start=not keep, properties=properties)


def _message(message: MQTTMessage) -> Message:
    said = message.properties
    headers = {str(key).lower(): str(value) for key, value in getattr(said, "UserProperty", ())}
    if "specversion" in headers:  # a CloudEvent in binary mode: MQTT's binding has no prefix
        headers = {f"ce-{key}": value for key, value in headers.items()}
    if kind := getattr(said, "ContentType", ""):
        headers.setdefault("content-type", kind)
    return Message(bytes(message.payload), message.topic, headers=headers)
