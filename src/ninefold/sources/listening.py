"""What everything that listens on UDP, TCP and TLS shares: binding, blocks of records, back-pressure, acknowledging, an orderly end.

Records wait in one queue, limited in number and bytes, and leave it in blocks. Senders over TCP and TLS wait while the queue is full, as
reading from them pauses. UDP has no such brake: datagrams that find the queue full are dropped, counted in
``ninefold_<kind>_dropped_total`` and logged as an error. A block is offered until the journal takes it; only then are its senders answered.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import Field

from ninefold.ground import log
from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, ConfigError, Unavailable
from ninefold.model.signal import Batch, Decoded, quarantine
from ninefold.plugin import Emit, Source, Strict

EMPTY = b"\r\n\0 "
_BATCH_RECORDS = 5_000
_BATCH_BYTES = 16 << 20
_BATCH_WAIT_S = 0.05
_QUEUE_RECORDS = 100_000
_QUEUE_BYTES = 64 << 20
_SOCKET_BYTES = 4 << 20
_CONNECTIONS = 4096
_LAST_WAIT_S = 5.0

Write = Callable[[bytes], None]
"""Answers the sender of a record."""


class Record(Protocol):
    """What waits in the queue: bytes, or something that stands for bytes."""

    def __len__(self) -> int: ...

    def __bytes__(self) -> bytes: ...


R = TypeVar("R", bound=Record)


class Reader(Protocol[R]):
    """Cuts the stream of one connection into records."""

    def feed(self, data: bytes) -> tuple[list[R], list[bytes]]:
        """Take what was read: (complete records, pieces that can only be set aside).

        Raises:
            BadData: the stream cannot be followed any further; the connection is closed.
        """
        ...

    def close(self) -> list[R]:
        """What the end of the stream makes complete."""
        ...

    def tail(self) -> list[bytes]:
        """What the end of the stream cut short and `close` does not take, to be set aside."""
        ...


class Lines:
    """A stream of lines, handed on in blocks of whole ones.

    Args:
        limit: the most bytes a line may have.
    """

    def __init__(self, limit: int = 64 << 10) -> None:
        self._limit = limit
        self._rest = b""
        self._broken = False

    def feed(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        """Everything up to the last newline; the beginning of a line that is too long is set aside.

        Raises:
            BadData: a line before did not end.
        """
        if self._broken:
            raise BadData(f"a line is longer than {self._limit} bytes; end lines with a newline")
        block, newline, rest = data.rpartition(b"\n")
        if not newline:
            block, self._rest = b"", self._rest + rest
        else:
            block, self._rest = self._rest + block, rest
        self._broken = len(self._rest) > self._limit
        return ([block] if block else []), self.tail() if self._broken else []

    def close(self) -> list[bytes]:
        """Nothing: whether a line without a newline is whole cannot be told; it is the `tail`."""
        return []

    def tail(self) -> list[bytes]:
        """The line that was cut short, to be set aside."""
        rest, self._rest = self._rest, b""
        return [rest] if rest.strip(EMPTY) else []


class Listen(Strict):
    """Where a source listens."""

    host: str = Field("127.0.0.1", description="Address to bind; 0.0.0.0 lets other machines send.")


class Tls(Strict):
    """TLS on a port of its own."""

    port: int = Field(ge=0, le=65535, description="Port for TLS.")
    certificate: Path = Field(description="PEM file with the server's certificate and those between it and its authority.")
    key: Path = Field(description="PEM file with the certificate's private key.")
    client_ca: Path | None = Field(None, description="PEM file of the authorities of client certificates; set, every client needs one.")
    permitted_names: tuple[str, ...] = Field(
        (), description="Names (``*.`` at the beginning stands for one label) a client certificate may have; empty: any name."
    )

    def context(self) -> ssl.SSLContext:
        """The server's side of TLS 1.2 and later.

        Raises:
            ConfigError: a file cannot be read or does not fit.
        """
        if self.permitted_names and self.client_ca is None:
            raise ConfigError("tls.permitted_names: names are read from client certificates; set tls.client_ca")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # SSLError is one
            raise ConfigError(f"tls: the certificate, its key or client_ca cannot be used: {error.strerror or error}") from error
        return context

    def permits(self, certificate: dict[str, Any]) -> bool:
        """Whether a client's certificate carries a permitted name."""
        names = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
        names += [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        wildcards = {f"*.{name.partition('.')[2]}" for name in names}
        return not self.permitted_names or not {*names, *wildcards}.isdisjoint(self.permitted_names)


@dataclass(frozen=True, slots=True)
class Port:
    """A port to bind; 0 takes a free one. With `tls` it is for TLS alone."""

    number: int
    tcp: bool = True
    udp: bool = True
    tls: Tls | None = None


def whole(data: bytes, address: str, write: Write) -> Sequence[bytes]:
    """A datagram that is a record."""
    return [data] if data.strip(EMPTY) else []


class Listener(Generic[R]):
    """The sockets of one source and the queue behind them.

    Args:
        source: whose name, kind and meter are used.
        host: the address to bind.
        ports: what to bind there.
        decode: a block of records, and of pieces set aside, to batches, or one after the other to several parts; runs in a thread.
        reader: makes the reader of one connection, given a way to answer.
        datagram: the records of one datagram, given who sent it and a way to answer.
        done: told the records of a block once it is durable; this is where they are acknowledged.

    Attributes:
        ports: the bound ports once `started` is set, in the order of the wishes.
    """

    def __init__(
        self,
        source: Source,
        host: str,
        ports: Sequence[Port],
        decode: Callable[[Sequence[R], Sequence[bytes], int], Decoded | Iterator[Decoded]],
        *,
        reader: Callable[[Write], Reader[R]] | None = None,
        datagram: Callable[[bytes, str, Write], Sequence[R]] | None = None,
        done: Callable[[Sequence[R]], None] = lambda records: None,
    ) -> None:
        self.ports: list[int] = []
        self.started = asyncio.Event()
        self.reader, self.datagram = reader, datagram
        self.streams: set[_Stream[R]] = set()
        self.log = log.get(source.kind)
        self._source, self._host, self._wanted, self._decode, self._done = source, host, ports, decode, done
        meter = source.lent.meter
        self._received = meter.counter(f"ninefold_{source.kind}_received_total", f"{source.title}: records received, by transport.")
        self._dropped = meter.counter(
            f"ninefold_{source.kind}_dropped_total", f"{source.title}: datagrams dropped while the queue was full."
        )
        self._records: list[R] = []
        self._rest: list[bytes] = []
        self._size_bytes = 0
        self._lost = 0
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()
        self._closing = False

    async def run(self, emit: Emit) -> None:
        """Listen until cancelled; what was received by then is still delivered.

        Raises:
            OSError: a port cannot be bound.
            ConfigError: the TLS settings cannot be used.
        """
        self._closing = False
        servers: list[asyncio.AbstractServer] = []
        datagrams: list[asyncio.DatagramTransport] = []
        await self._bind(servers, datagrams)
        self.started.set()
        delivery = asyncio.create_task(self._deliver_all(emit))
        try:
            await asyncio.shield(delivery)
        finally:
            self.started.clear()
            for server in servers:
                server.close()
            for stream in list(self.streams):
                stream.finish()
            self._closing = True
            self._wake.set()
            self._enough.set()
            try:
                await delivery
            finally:
                for stream in self.streams:
                    stream.close()
                for socket_ in datagrams:
                    socket_.close()

    async def _bind(self, servers: list[asyncio.AbstractServer], datagrams: list[asyncio.DatagramTransport]) -> None:
        self.ports = []
        try:
            for port in self._wanted:
                self.ports.append(await self._open(port, servers, datagrams))
        except BaseException:
            for server in servers:
                server.close()
            for socket_ in datagrams:
                socket_.close()
            raise

    async def _open(self, port: Port, servers: list[asyncio.AbstractServer], datagrams: list[asyncio.DatagramTransport]) -> int:
        """One port for TCP and UDP; a free one may be taken for TCP and not be free for UDP, then another is tried."""
        loop = asyncio.get_running_loop()
        context = port.tls.context() if port.tls else None
        for attempts_left in reversed(range(10 if port.number == 0 else 1)):
            number, server = port.number, None
            if port.tcp and self.reader:
                server = await loop.create_server(partial(_Stream, self, port.tls), self._host, number, ssl=context)
                number = server.sockets[0].getsockname()[1]
            try:
                if port.udp and self.datagram and not port.tls:
                    transport, _ = await loop.create_datagram_endpoint(partial(_Datagrams, self), (self._host, number))
                    bound = transport.get_extra_info("socket")
                    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
                    number = bound.getsockname()[1]
                    datagrams.append(transport)
            except OSError:
                if server:
                    server.close()
                if not attempts_left:
                    raise
                continue
            servers += [server] if server else []
            return int(number)
        raise AssertionError("unreachable: the last attempt returns or raises")

    @property
    def full(self) -> bool:
        """Whether more is waiting for the journal than may wait."""
        return len(self._records) >= _QUEUE_RECORDS or self._size_bytes >= _QUEUE_BYTES

    @property
    def closing(self) -> bool:
        """Whether the end has come."""
        return self._closing

    def take(self, transport: str, records: Sequence[R], rest: Sequence[bytes] = ()) -> None:
        """Queue records; called by the transports."""
        if not records and not rest:
            return
        self._received.add(len(records), transport=transport)
        self._records += records
        self._rest += rest
        self._size_bytes += sum(map(len, records)) + sum(map(len, rest))
        self._wake.set()
        if len(self._records) >= _BATCH_RECORDS or self._size_bytes >= _BATCH_BYTES:
            self._enough.set()

    def drop(self) -> None:
        """Count a datagram that finds the queue full."""
        self._dropped.add()
        self._lost += 1

    async def _deliver_all(self, emit: Emit) -> None:
        while not self._closing or self._records or self._rest:
            await self._wake.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), _BATCH_WAIT_S)
            records, rest = self._block()
            if records or rest:
                if await self._deliver(emit, records, rest):
                    self._done(records)
                else:
                    self.log.error("%d records are lost: the journal did not take them before the end", len(records))
            del self._records[: len(records)], self._rest[: len(rest)]
            self._size_bytes -= sum(map(len, records)) + sum(map(len, rest))
            if self._lost:
                self.log.error("%d datagrams were dropped because the journal is full; senders over TCP are made to wait", self._lost)
                self._lost = 0
            if not self._closing:
                self._after_delivery()

    def _block(self) -> tuple[list[R], list[bytes]]:
        """The next records, at least one, and no more than a batch should have."""
        records = self._records[:_BATCH_RECORDS]
        if self._size_bytes > _BATCH_BYTES:
            sizes = list(accumulate(map(len, records)))
            records = records[: bisect_left(sizes, _BATCH_BYTES) + 1]
        return records, self._rest[:_BATCH_RECORDS]

    async def _deliver(self, emit: Emit, records: Sequence[R], rest: Sequence[bytes]) -> bool:
        parts = self._read(records, rest)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            if not await deliver(emit, part.batches, lambda: self._closing):
                return False
        return True

    def _read(self, records: Sequence[R], rest: Sequence[bytes]) -> Iterator[Decoded]:
        received = now()
        try:
            found = self._decode(records, rest, received)
            yield from (found,) if isinstance(found, Decoded) else found
        except Exception as error:  # a block that trips a defect must not hold up all behind it for ever
            self.log.error("a block of %d records could not be read and is in quarantine", len(records), exc_info=error)
            reason = f"reading it failed: {error}; report this block"
            payload = b"\n".join([*map(bytes, records), *rest])
            signal = min(self._source.signals)
            yield Decoded([quarantine(self._source.name, received, signal, self._source.kind, [(reason, "", payload)])], len(records))

    def _after_delivery(self) -> None:
        """Let waiting senders go on."""
        if len(self._records) < _BATCH_RECORDS and self._size_bytes < _BATCH_BYTES:
            self._enough.clear()
        if not self._records and not self._rest:
            self._wake.clear()
        if not self.full:
            for stream in self.streams:
                stream.resume()


class Listening(Source):
    """A source that is one listener: `listener` is made by `__init__`. `port` is the bound one once `started` is set."""

    listener: Listener[Any]

    @property
    def started(self) -> asyncio.Event:
        """Set while it listens."""
        return self.listener.started

    @property
    def port(self) -> int:
        """The first port."""
        return self.listener.ports[0]

    async def run(self, emit: Emit) -> None:
        """Listen until cancelled; what was received by then is still delivered."""
        await self.listener.run(emit)


async def deliver(emit: Emit, batches: Sequence[Batch], closing: Callable[[], bool]) -> bool:
    """Hand batches over, again and again until the journal takes them; at the end of the program only for a few seconds, then False."""
    last = float("inf")
    while True:
        try:
            await emit(batches)
            return True
        except Unavailable as error:
            if closing():
                last = min(last, time.monotonic() + _LAST_WAIT_S)
            if time.monotonic() > last:
                return False
            await asyncio.sleep(min(error.retry_after_s, 0.2 if closing() else _LAST_WAIT_S))


class _Stream(asyncio.Protocol, Generic[R]):
    """One TCP or TLS connection."""

    def __init__(self, listener: Listener[R], tls: Tls | None) -> None:
        self._listener, self._tls = listener, tls
        self._word = "tls" if tls else "tcp"
        self._paused = False
        self._reader: Reader[R] | None = None

    def connection_made(self, transport: Any) -> None:
        assert self._listener.reader is not None
        self._transport = transport
        if len(self._listener.streams) >= _CONNECTIONS:
            self._refuse(f"there are {_CONNECTIONS} connections already")
        elif self._tls and not self._tls.permits(transport.get_extra_info("peercert") or {}):
            self._refuse("its certificate has no permitted name")
        else:
            self._reader = self._listener.reader(self._write)
            self._listener.streams.add(self)
            self._brake()

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            return
        try:
            records, rest = self._reader.feed(data)
            self._listener.take(self._word, records, rest)
            if rest:
                self._reader.feed(b"")  # raises when the stream cannot be followed any further
        except BadData as error:
            self._reader = None
            self._refuse(str(error))
            return
        self._brake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.finish()
        self._listener.streams.discard(self)

    def resume(self) -> None:
        """Read on."""
        if self._paused and self._reader is not None:
            self._paused = False
            self._transport.resume_reading()

    def finish(self) -> None:
        """Read no more, and take what is complete enough."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._listener.take(self._word, reader.close(), reader.tail())

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _refuse(self, why: str) -> None:
        self._listener.log.warning("the connection of %s is closed: %s", self._transport.get_extra_info("peername"), why)
        self._transport.close()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _brake(self) -> None:
        if self._listener.full and not self._paused:
            self._paused = True
            self._transport.pause_reading()


class _Datagrams(asyncio.DatagramProtocol, Generic[R]):
    """The UDP socket."""

    def __init__(self, listener: Listener[R]) -> None:
        self._listener = listener

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert self._listener.datagram is not None
        if self._listener.full or self._listener.closing:
            self._listener.drop()
        else:
            self._listener.take("udp", self._listener.datagram(data, str(addr[0]), partial(self._answer, addr)))

    def _answer(self, address: Any, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, address)
