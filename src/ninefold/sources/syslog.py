"""Syslog over UDP, TCP and TLS. Messages are RFC 5424, RFC 3164 as it is really sent, or JSON lines.

UDP and TCP share one port; on TCP octet-counted and newline-terminated messages may be mixed (RFC 6587). TLS (RFC 5425) has a port of its
own and is on once a certificate is configured; with ``client_ca`` only clients with a certificate of that authority may send. Point rsyslog
at it with ``*.* @@host:5514`` (TCP) or ``*.* @host:5514`` (UDP).

HOSTNAME becomes ``host.name``, APP-NAME or TAG ``service.name``; PROCID, MSGID, facility and each parameter of the structured data become
attributes ``syslog.procid``, ``syslog.msgid``, ``syslog.facility``, ``syslog.<element>.<parameter>``. A line that is not syslog, and what
goes beyond 64 KiB of a message, is in quarantine. RFC 3164 names no zone: ``timezone`` says which one its times are of.
Senders over TCP wait while the journal is full; datagrams are dropped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import Field, field_validator

from ninefold.model.signal import Decoded
from ninefold.plugin import Lent
from ninefold.sources.listening import EMPTY, Listen, Listener, Listening, Port, Tls, whole
from ninefold.sources.syslog_message import parse
from ninefold.sources.wall_time import checked_zone, zone_of

LINE_LIMIT = 64 << 10
_COUNTED = re.compile(rb"([1-9][0-9]{0,8}) [<{]")
_COUNT = re.compile(rb"[1-9][0-9]{0,8} ?")


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
            if line.strip(EMPTY):
                lines.append(line)
        self._buffer = buffer[position:]
        return lines, cut

    def close(self) -> list[bytes]:
        """The message that the end of the stream cut short, if there is one."""
        rest, self._buffer = self._buffer, b""
        counted = _COUNTED.match(rest)
        line = rest[counted.end() - 1 :] if counted else rest
        return [line] if line.strip(EMPTY) else []

    def tail(self) -> list[bytes]:
        """Nothing."""
        return []

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


class SyslogTls(Tls):
    """Syslog over TLS (RFC 5425)."""

    port: int = Field(6514, ge=0, le=65535, description="Port for TLS.")


class SyslogConfig(Listen):
    """Where syslog is received."""

    port: int = Field(5514, ge=0, le=65535, description="Port for UDP and TCP; 0 takes a free one.")
    tls: SyslogTls | None = Field(None, description="Certificate, key and port for TLS; without it TLS is off.")
    timezone: str = Field("UTC", description="Zone of RFC 3164 times, which name none, such as Europe/Berlin; empty: this machine's.")

    _known_zone = field_validator("timezone")(checked_zone)


class Syslog(Listening):
    """Syslog over UDP, TCP and TLS. `port` and `tls_port` are the bound ones once `started` is set."""

    kind = "syslog"
    title = "Syslog"
    extraction = "push"
    signals = frozenset(("log",))
    always = True
    Config = SyslogConfig

    def __init__(self, name: str, config: SyslogConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._zone = zone_of(config.timezone)
        ports = [Port(config.port)] + ([Port(config.tls.port, tls=config.tls)] if config.tls else [])
        self.listener = Listener(self, config.host, ports, self._decode, reader=lambda write: Framer(), datagram=whole)

    @property
    def tls_port(self) -> int:
        """The port for TLS; only with `tls` configured."""
        return self.listener.ports[1]

    def _decode(self, lines: Sequence[bytes], cut: Sequence[bytes], received: int) -> Decoded:
        return parse(lines, self.name, received, cut, self._zone)
