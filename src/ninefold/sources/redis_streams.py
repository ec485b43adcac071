"""Redis Streams (Redis 6.2 or later, Valkey, KeyDB): a consumer group over one or more streams.

```yaml
sources:
  payments:
    type: redis_streams
    url: "redis://redis.example.org:6379/0"
    streams: [payments, refunds]
```

The group is made when it does not exist and starts at `start`. An entry is acknowledged (XACK) when what it holds is durable. After a
restart a consumer first reads what it had taken and not acknowledged; what another consumer of the group left behind for `claim_s`
seconds is taken over (XAUTOCLAIM). While the journal is full the entries taken are kept alive, so that nobody else takes them over.

The value of the field `field`, or of the only one there is, is the message; without such (for `json`: when it is no object or list)
all fields are, as one JSON object of texts. The stream becomes ``messaging.destination.name``; an entry's id holds its time. What
the messages may hold is said under [payloads](payload.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

import orjson
from pydantic import Field, SecretStr

from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.plugin import Emit, Extraction, Lent, Reached, Source
from ninefold.sources.client_tls import ClientTls
from ninefold.sources.delivery import heed_cancel
from ninefold.sources.payload import Intake, Message, PayloadConfig

_BLOCK_MS = 2000
_TIMEOUT_S = 10.0
_MILLISECOND = 1_000_000
Entries = Sequence[tuple[bytes, Mapping[bytes, bytes] | None]]
Client = Any
"""redis-py types its asynchronous client as either kind, which says nothing of an answer; so it stays untyped here."""


class RedisStreams(Source):
    """A consumer group over Redis streams."""

    kind = "redis_streams"
    title = "Redis Streams"
    extraction: ClassVar[Extraction] = "stream"
    signals = frozenset(("metric", "log", "span", "event"))

    class Config(PayloadConfig):
        """Which server, streams and group, and how much at once."""

        url: SecretStr = Field(
            description="``redis://[user:password@]host:port/database``, ``rediss://`` for TLS, ``unix://`` for a socket."
        )
        streams: list[str] = Field(min_length=1, description="The streams' keys.")
        group: str = Field("ninefold", description="The consumer group.")
        consumer: str = Field(
            "", description="Our name in the group; the host's name by default. Two of the same name share what is pending."
        )
        start: str = Field("0", description="Where a new group begins: 0 for all that is there, $ for what comes from now on.")
        field: str = Field("", description="The field that holds the message.")
        batch: int = Field(500, ge=1, le=10_000, description="Most entries handed over together.")
        claim_s: float = Field(300.0, ge=1, description="Entries that a consumer took and left for so long are taken over.")
        tls: ClientTls = Field(default_factory=ClientTls, description="Certificates for ``rediss://``.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._intake = Intake(config, name, lent)
        self._consumer = config.consumer or socket.gethostname()

    @property
    def _where(self) -> str:
        return f"Redis at {self.config.url.get_secret_value().rpartition('@')[2].rpartition('//')[2]}"

    async def run(self, emit: Emit) -> None:
        """Deliver until cancelled or disconnected: first what was left, then what comes."""
        async with self._connected() as redis:
            await self._join(redis)
            for stream in self.config.streams:
                await self._left_by_me(redis, stream, emit)
            claimed = float("-inf")
            while True:
                heed_cancel()
                if time.monotonic() - claimed > self.config.claim_s / 2:
                    for stream in self.config.streams:
                        await self._left_by_others(redis, stream, emit)
                    claimed = time.monotonic()
                wanted = dict.fromkeys(self.config.streams, ">")
                block = min(_BLOCK_MS, int(self.config.claim_s * 500))
                found = await redis.xreadgroup(self.config.group, self._consumer, wanted, self.config.batch, block)
                for stream, entries in found or ():
                    await self._take(redis, stream.decode(), entries, emit)

    async def check(self) -> Reached:
        """Look at the newest entries as they lie there; the group is not touched."""
        async with self._connected() as redis:
            length, messages = 0, list[Message]()
            for stream in self.config.streams:
                length += await redis.xlen(stream)
                messages += [self._message(stream, *entry) for entry in await redis.xrevrange(stream, count=3)]
        return Reached(f"{self._where} has {length} entries in {', '.join(self.config.streams)}.", await self._intake.show(messages))

    async def _join(self, redis: Client) -> None:
        from redis.exceptions import ResponseError

        for stream in self.config.streams:
            try:
                await redis.xgroup_create(stream, self.config.group, self.config.start, mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def _left_by_me(self, redis: Client, stream: str, emit: Emit) -> None:
        last: bytes | str = "0"
        while True:
            found = await redis.xreadgroup(self.config.group, self._consumer, {stream: last}, self.config.batch)
            entries = found[0][1] if found else []
            if not entries:
                return
            await self._take(redis, stream, entries, emit)
            last = entries[-1][0]

    async def _left_by_others(self, redis: Client, stream: str, emit: Emit) -> None:
        last: bytes | str = "0-0"
        idle = int(self.config.claim_s * 1000)
        while True:
            last, entries, *_ = await redis.xautoclaim(stream, self.config.group, self._consumer, idle, last, self.config.batch)
            there = [entry for entry in entries if entry[0] is not None]
            await self._take(redis, stream, there, emit)
            if len(there) < len(entries):  # Redis 6 does not name those that were deleted, but claims them: now they are ours
                await self._left_by_me(redis, stream, emit)
            if last in (b"0-0", "0-0"):
                return

    async def _take(self, redis: Client, stream: str, entries: Entries, emit: Emit) -> None:
        """Deliver and acknowledge; an entry that was deleted while it was pending has no fields and is acknowledged only."""
        heed_cancel()
        if not entries:
            return
        ids = [entry for entry, _ in entries]

        async def still_working() -> None:
            await redis.xclaim(stream, self.config.group, self._consumer, 0, ids, justid=True)

        messages = [self._message(stream, entry, fields) for entry, fields in entries if fields]
        await self._intake.take(emit, messages, still_working)
        await redis.xack(stream, self.config.group, *ids)

    def _message(self, stream: str, entry: bytes, fields: Mapping[bytes, bytes] | None) -> Message:
        fields = fields or {}
        body = fields.get(self.config.field.encode()) if self.config.field else None
        if body is None and len(fields) == 1 and not self.config.field:
            (body,) = fields.values()
        if body is None or (self.config.format == "json" and not self.config.field and body.lstrip()[:1] not in (b"{", b"[")):
            body = orjson.dumps({key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in fields.items()})
        return Message(body, stream, f"{stream}/{entry.decode()}", int(entry.partition(b"-")[0]) * _MILLISECOND)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        try:
            from redis.asyncio import Redis
            from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
        except ImportError:
            raise ConfigError(f"sources.{self.name}: Redis Streams need redis; install ninefold[redis]") from None
        redis: Client = Redis.from_url(
            self.config.url.get_secret_value(), protocol=2, socket_connect_timeout=5, socket_timeout=_TIMEOUT_S, **self._tls()
        )
        try:
            yield redis
        except (AuthenticationError, NoPermissionError) as error:
            raise Refused(f"{self._where}: {error}") from error
        except (RedisError, OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable(f"{self._where}: {error}") from error
        finally:
            await redis.aclose()

    def _tls(self) -> dict[str, Any]:
        tls = self.config.tls
        if not self.config.url.get_secret_value().startswith("rediss://"):
            return {}
        files = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
        wish: dict[str, Any] = {key: str(path) for key, path in files.items() if path}
        return wish | ({} if tls.verify else {"ssl_cert_reqs": "none", "ssl_check_hostname": False})
