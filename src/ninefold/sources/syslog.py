"""Syslog over UDP and TCP on one port: framing, batching, back-pressure. What a message says is read by `syslog_message`.

TCP senders wait while the journal is full, as reading from them pauses. UDP has no such brake: datagrams that find the queue full are
dropped, counted in `ninefold_syslog_dropped_total` and logged as an error.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from ninefold.ground import log
from ninefold.ground.clock import now
from ninefold.ground.errors import Unavailable
from ninefold.ground.meter import Meter
from ninefold.model.signal import Batch
from ninefold.plugin import Emit
from ninefold.sources.syslog_message import parse

LINE_LIMIT = 64 << 10
_COUNTED = re.compile(rb"([1-9][0-9]{0,8}) [<{]")
_COUNT = re.compile(rb"[1-9][0-9]{0,8} ?")
_EMPTY = b"\r\n\0 "
_BATCH_LINES = 5_000
_BATCH_WAIT_S = 0.05
_QUEUE_LINES = 100_000
_QUEUE_BYTES = 64 << 20
_SOCKET_BYTES = 4 << 20
_LAST_WAIT_S = 5.0
_log = log.get("syslog")


class Framer:
    """Cuts a TCP stream into messages: octet-counted (RFC 6587) and newline-terminated ones, mixed as they come.

    A message longer than `limit` bytes is cut: its beginning is a message, the rest comes out apart.
    """

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._buffer = b""
        self._skip = 0
        """How many bytes of an overlong message are still to come; -1: all up to the next newline."""

    def feed(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        """Take what was read; (complete messages, pieces of the rest of overlong ones)."""
        buffer, position = self._buffer + data, 0
        lines: list[bytes] = []
        cut: list[bytes] = []
        while position < len(buffer):
            if self._skip:
                piece, position = self._rest_of_overlong(buffer, position)
                cut.append(piece)
                continue
            found = self._next(buffer, position)
            if found is None:
                break
            line, position, self._skip = found
            if line.strip(_EMPTY):
                lines.append(line)
        self._buffer = buffer[position:]
        return lines, cut

    def close(self) -> list[bytes]:
        """The message that the end of the stream cut short, if there is one."""
        rest, self._buffer = self._buffer, b""
        counted = _COUNTED.match(rest)
        line = rest[counted.end() - 1 :] if counted else rest
        return [line] if line.strip(_EMPTY) else []

    def _next(self, buffer: bytes, position: int) -> tuple[bytes, int, int] | None:
        """The message at `position`, where it ends and what is to be skipped behind it; None when it is not complete."""
        if counted := _COUNTED.match(buffer, position):
            size, start = int(counted[1]), counted.end() - 1
            stop = start + min(size, self._limit)
            return (buffer[start:stop], stop, size - (stop - start)) if stop <= len(buffer) else None
        if (count := _COUNT.match(buffer, position)) and count.end() == len(buffer):
            return None  # a count, or the first digits of one
        stop = buffer.find(b"\n", position, position + self._limit + 1)
        if stop >= 0:
            return buffer[position:stop], stop + 1, 0
        stop = position + self._limit
        return (buffer[position:stop], stop, -1) if len(buffer) > stop else None

    def _rest_of_overlong(self, buffer: bytes, position: int) -> tuple[bytes, int]:
        if self._skip > 0:
            stop = min(position + self._skip, len(buffer))
            self._skip -= stop - position
            return buffer[position:stop], stop
        stop = buffer.find(b"\n", position)
        if stop < 0:
            return buffer[position:], len(buffer)
        self._skip = 0
        return buffer[position:stop], stop + 1


class Syslog:
    """The listener, a `Source`. `port` is the one it has bound once `started` is set, which differs from the wish when that was 0."""

    name = "syslog"

    def __init__(self, host: str, port: int, meter: Meter | None = None) -> None:
        meter = meter or Meter()
        self.port = port
        self.started = asyncio.Event()
        self._host = host
        self._received = meter.counter("ninefold_syslog_received_total", "Syslog messages received, by transport.")
        self._dropped = meter.counter("ninefold_syslog_dropped_total", "Syslog messages lost: datagrams dropped while the queue was full.")
        self._lines: list[bytes] = []
        self._cut: list[bytes] = []
        self._size_bytes = 0
        self._lost = 0
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()
        self._closing = False
        self.streams: set[_Stream] = set()
        """The open TCP connections."""

    async def run(self, emit: Emit) -> None:
        """Listen until cancelled; what was received by then is still delivered.

        Raises:
            OSError: the port cannot be bound.
        """
        self._closing = False
        listeners = await self._bind()
        self.started.set()
        delivery = asyncio.create_task(self._deliver_all(emit))
        try:
            await asyncio.shield(delivery)
        finally:
            self.started.clear()
            for listener in listeners:
                listener.close()
            for stream in list(self.streams):
                stream.finish()
            self._closing = True
            self._wake.set()
            self._enough.set()
            await delivery

    async def _bind(self) -> tuple[asyncio.Server, asyncio.DatagramTransport]:
        """One port for both; a free one may be taken for TCP and not be free for UDP, then another is tried."""
        loop = asyncio.get_running_loop()
        for attempts_left in reversed(range(10 if self.port == 0 else 1)):
            server = await loop.create_server(lambda: _Stream(self), self._host, self.port)
            port = server.sockets[0].getsockname()[1]
            try:
                datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (self._host, port))
            except OSError:
                server.close()
                if not attempts_left:
                    raise
                continue
            datagrams.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
            self.port = port
            return server, datagrams
        raise AssertionError("unreachable: the last attempt returns or raises")

    @property
    def full(self) -> bool:
        """Whether more is waiting for the journal than may wait."""
        return len(self._lines) >= _QUEUE_LINES or self._size_bytes >= _QUEUE_BYTES

    def take(self, transport: str, lines: Sequence[bytes], cut: Sequence[bytes] = ()) -> None:
        """Queue messages; called by the transports."""
        self._received.add(len(lines), transport=transport)
        self._lines += lines
        self._cut += cut
        self._size_bytes += sum(map(len, lines)) + sum(map(len, cut))
        self._wake.set()
        if len(self._lines) >= _BATCH_LINES:
            self._enough.set()

    def drop(self) -> None:
        """Count a datagram that finds the queue full."""
        self._dropped.add()
        self._lost += 1

    async def _deliver_all(self, emit: Emit) -> None:
        while not self._closing or self._lines or self._cut:
            await self._wake.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), _BATCH_WAIT_S)
            lines, cut = self._lines[:_BATCH_LINES], self._cut[:_BATCH_LINES]
            if lines or cut:
                decoded = await asyncio.to_thread(parse, lines, self.name, now(), cut)
                await self._deliver(emit, decoded.batches, len(lines))
            del self._lines[: len(lines)], self._cut[: len(cut)]
            self._size_bytes -= sum(map(len, lines)) + sum(map(len, cut))
            if not self._closing:
                self._after_delivery()

    async def _deliver(self, emit: Emit, batches: Sequence[Batch], lines: int) -> None:
        """Hand over one block, again and again until the journal takes it; at the end of the program a few seconds long."""
        last = float("inf")
        while True:
            try:
                await emit(batches)
                return
            except Unavailable as error:
                if self._closing:
                    last = min(last, time.monotonic() + _LAST_WAIT_S)
                if time.monotonic() > last:
                    _log.error("%d syslog messages are lost: the journal did not take them before the end (%s)", lines, error)
                    return
                await asyncio.sleep(min(error.retry_after_s, 0.2 if self._closing else _LAST_WAIT_S))

    def _after_delivery(self) -> None:
        """Let waiting senders go on, and tell what was lost meanwhile."""
        if len(self._lines) < _BATCH_LINES:
            self._enough.clear()
        if not self._lines and not self._cut:
            self._wake.clear()
        if self._lost:
            _log.error("%d syslog datagrams were dropped because the journal is full; send over TCP to make senders wait", self._lost)
            self._lost = 0
        if not self.full:
            for stream in self.streams:
                stream.resume()


class _Stream(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, listener: Syslog) -> None:
        self._listener = listener
        self._framer = Framer()
        self._paused = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._listener.streams.add(self)
        self._brake()

    def data_received(self, data: bytes) -> None:
        self._listener.take("tcp", *self._framer.feed(data))
        self._brake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.finish()

    def resume(self) -> None:
        """Read on."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def finish(self) -> None:
        """Deliver what is complete enough, and close."""
        if self in self._listener.streams:
            self._listener.streams.discard(self)
            self._listener.take("tcp", self._framer.close())
            if self._transport is not None:
                self._transport.close()

    def _brake(self) -> None:
        if self._listener.full and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP socket: a datagram is a message."""

    def __init__(self, listener: Syslog) -> None:
        self._listener = listener

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self._listener.full:
            self._listener.drop()
        elif data.strip(_EMPTY):
            self._listener.take("udp", [data])
