"""collectd's binary network protocol over UDP: what its plug-in ``network`` sends, plain, signed or encrypted.

Point collectd at it with ``<Plugin network> Server "host" "25826" </Plugin>``; with ``SecurityLevel``, ``Username`` and ``Password`` there,
name the user under `users` or in an `auth_file` here. A packet below `security_level`, of an unknown user or with a wrong signature is
dropped, counted in ``ninefold_collectd_network_refused_total`` and logged.

Values become points named as over [HTTP](collectd_http.md): counters and derives are counters, absolutes deltas, gauges gauges; a gauge
that is not a number measures nothing and is left out. Notifications become alerts. The protocol does not send the names of data sources:
those of common types are known, others are numbered unless `types_db` names them. Not kept: intervals, meta data of notifications.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, SecretStr

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData, ConfigError, Refused
from ninefold.model.signal import Decoded, batch_of, quarantine
from ninefold.plugin import Emit, Lent
from ninefold.sources import ciphers, collectd_names
from ninefold.sources.listening import Listen, Listener, Listening, Port, whole
from ninefold.sources.series import points

FORMAT = "collectd_network"
_HOST, _TIME, _PLUGIN, _PLUGIN_INSTANCE, _TYPE, _TYPE_INSTANCE, _VALUES, _TIME_HR = 0, 1, 2, 3, 4, 5, 6, 8
_MESSAGE, _SEVERITY, _SIGNATURE, _ENCRYPTION = 0x100, 0x101, 0x200, 0x210
_TEXTS = frozenset((_HOST, _PLUGIN, _PLUGIN_INSTANCE, _TYPE, _TYPE_INSTANCE))
_NUMBERS = frozenset((_TIME, _TIME_HR, _SEVERITY))
_KINDS = ("counter", "gauge", "derive", "absolute")
_PACKED = (struct.Struct(">Q"), struct.Struct("<d"), struct.Struct(">q"), struct.Struct(">Q"))
_HEAD, _NUMBER = struct.Struct(">HH"), struct.Struct(">Q")
_SEVERITIES = {1: "FAILURE", 2: "WARNING", 4: "OKAY"}
_LATEST = (1 << 63) - 1
_KNOWN_LIMIT = 500_000
_LEVELS = ("none", "sign", "encrypt")

Identity = tuple[bytes, bytes, bytes, bytes, bytes]


class CollectdNetworkConfig(Listen):
    """Where collectd's network protocol is received, and from whom."""

    port: int = Field(25826, ge=0, le=65535, description="UDP port; 0 takes a free one.")
    security_level: Literal["none", "sign", "encrypt"] = Field("none", description="The least protection a packet must have.")
    users: dict[str, SecretStr] = Field(default_factory=dict, description="Password of each user who signs or encrypts.")
    auth_file: Path | None = Field(None, description="File of further users as collectd's AuthFile: ``user: password`` a line.")
    types_db: tuple[Path, ...] = Field((), description="Files as collectd's types.db, which name the data sources of types.")


class Guard:
    """Checks signatures, decrypts, and lets through what is protected well enough.

    Args:
        level: the least protection.
        users: passwords by user name.
    """

    def __init__(self, level: str = "none", users: dict[bytes, bytes] | None = None) -> None:
        self._level, self._users = _LEVELS.index(level), users or {}

    def open(self, packet: bytes) -> bytes:
        """The parts in a packet.

        Raises:
            Refused: it is not protected well enough, or the protection does not hold.
            BadData: it is cut short.
        """
        kind, size = _HEAD.unpack_from(packet) if len(packet) >= _HEAD.size else (-1, 0)
        if kind == _ENCRYPTION:
            return self._decrypt(packet[:size])
        if kind == _SIGNATURE:
            return self._verify(packet, size)
        if self._level > 0:
            raise Refused("plain")
        return packet

    def _verify(self, packet: bytes, size: int) -> bytes:
        if self._level > 1:
            raise Refused("not encrypted")
        if not 36 < size <= len(packet):
            raise BadData("the signature is cut short", "byte 0")
        if self._level or self._users:
            password = self._password(packet[36:size])
            if not hmac.compare_digest(hmac.digest(password, packet[36:], "sha256"), packet[4:36]):
                raise Refused("wrong signature")
        return packet[size:]

    def _decrypt(self, packet: bytes) -> bytes:
        start = 6 + int.from_bytes(packet[4:6], "big")
        if len(packet) < start + 36:
            raise BadData("the encrypted part is cut short", "byte 0")
        key = hashlib.sha256(self._password(packet[6:start])).digest()
        try:
            plain = ciphers.ofb(key, packet[start : start + 16], packet[start + 16 :])
        except ImportError:
            raise Refused("the library cryptography is not installed") from None
        if not hmac.compare_digest(hashlib.sha1(plain[20:], usedforsecurity=False).digest(), plain[:20]):
            raise Refused("wrong password")
        return plain[20:]

    def _password(self, user: bytes) -> bytes:
        if user not in self._users:
            raise Refused("unknown user")
        return self._users[user]


class Packets:
    """The decoder; it remembers which series were described.

    Args:
        guard: opens packets.
        types: the data sources of types.
        refused: told why a packet is refused.
    """

    def __init__(self, guard: Guard, types: dict[str, tuple[str, ...]], refused: Callable[[str], None] = lambda why: None) -> None:
        self._guard, self._types, self._refused = guard, types, refused
        self._known: dict[tuple[Identity, bytes], list[int]] = {}

    def decode(self, packets: Sequence[bytes], source: str, received: int) -> Decoded:
        """Points, new series and notifications of packets; what follows the first part that cannot be read goes to quarantine."""
        found = _Found(received)
        bad: list[tuple[str, str, bytes]] = []
        for packet in packets:
            data = packet
            try:
                data = self._guard.open(packet)
                self._read(data, found)
            except Refused as error:
                self._refused(str(error))
            except BadData as error:
                bad.append((error.reason, error.where, data))  # opened, so that it can be read again without its password
        batches = []
        if found.described:
            batches.append(batch_of("series", source, received, [{**row, "seen": received} for row in found.described.values()]))
        if found.series:
            columns = np.array(found.series, np.uint64), np.array(found.times), np.array(found.values, np.float64)
            batches.append(points(source, received, *columns))
        if found.events:
            batches.append(batch_of("event", source, received, found.events))
        if bad:
            batches.append(quarantine(source, received, "metric", FORMAT, bad))
        return Decoded(batches, len(bad), bad[0][0] if bad else "")

    def _read(self, data: bytes, found: _Found) -> None:
        """Follow the parts of a packet: each changes what is being said, a values or a message part says it.

        Raises:
            BadData: a part cannot be read.
        """
        texts = dict.fromkeys(_TEXTS, b"")
        time, severity, place = found.received, 0, 0
        while place < len(data):
            if len(data) - place < _HEAD.size:
                raise BadData("the packet ends inside a part", f"byte {place}")
            kind, size = _HEAD.unpack_from(data, place)
            part = data[place + 4 : place + size]
            if size < 4 or len(part) != size - 4 or (kind in _NUMBERS and size != 12):
                raise BadData(f"a part of type {kind} has the wrong length {size}", f"byte {place}")
            if kind in _TEXTS:
                texts[kind] = part.rstrip(b"\0")
            elif kind in _NUMBERS:
                (number,) = _NUMBER.unpack(part)
                if kind == _SEVERITY:
                    severity = number
                else:
                    time = _time(number, kind, place)
            elif kind == _VALUES:
                self._values(_identity(texts), part, time, found, place)
            elif kind == _MESSAGE:
                message = _text(part.rstrip(b"\0"), place)
                word = _SEVERITIES.get(severity, str(severity))
                found.events.append(collectd_names.notification(*_names(_identity(texts), place), word, message, time))
            place += size

    def _values(self, identity: Identity, part: bytes, time: int, found: _Found, place: int) -> None:
        count = int.from_bytes(part[:2], "big")
        kinds = part[2 : 2 + count]
        if not count or len(part) != 2 + 9 * count or max(kinds) >= len(_KINDS):
            raise BadData("a part of values has the wrong length, or a value an unknown type", f"byte {place}")
        numbers = self._known.get((identity, kinds))
        if numbers is None:
            numbers = self._describe(identity, kinds, found, place)
        for i, (number, kind) in enumerate(zip(numbers, kinds, strict=True)):
            (value,) = _PACKED[kind].unpack_from(part, 2 + count + 8 * i)
            if not math.isnan(value):
                found.series.append(number)
                found.times.append(time)
                found.values.append(value)

    def _describe(self, identity: Identity, kinds: bytes, found: _Found, place: int) -> list[int]:
        names = _names(identity, place)
        if not names[1] or not names[3]:
            raise BadData("values have no plug-in or no type", f"byte {place}")
        sources = collectd_names.data_sources(names[3], len(kinds), self._types)
        rows = [collectd_names.series_of(*names, name, _KINDS[kind]) for name, kind in zip(sources, kinds, strict=True)]
        found.described |= {row["series"]: row for row in rows}
        if len(self._known) >= _KNOWN_LIMIT:
            self._known.clear()  # what is still alive is described once more
        numbers = self._known[identity, kinds] = [row["series"] for row in rows]
        return numbers


class _Found:
    """What packets said."""

    def __init__(self, received: int) -> None:
        self.received = received
        self.series: list[int] = []
        self.times: list[int] = []
        self.values: list[float] = []
        self.events: list[dict[str, Any]] = []
        self.described: dict[int, dict[str, Any]] = {}


def _identity(texts: dict[int, bytes]) -> Identity:
    return texts[_HOST], texts[_PLUGIN], texts[_PLUGIN_INSTANCE], texts[_TYPE], texts[_TYPE_INSTANCE]


def _time(number: int, kind: int, place: int) -> int:
    """The time in ns: seconds, or with high resolution 2**-30 s."""
    time = number * SECOND if kind == _TIME else number * SECOND >> 30
    if time > _LATEST:
        raise BadData("the time is after 2262", f"byte {place}")
    return time


def _names(identity: Identity, place: int) -> tuple[str, str, str, str, str]:
    host, plugin, plugin_instance, type_, type_instance = (_text(text, place) for text in identity)
    return host, plugin, plugin_instance, type_, type_instance


def _text(text: bytes, place: int) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise BadData("a name is not UTF-8", f"byte {place}") from None


class CollectdNetwork(Listening):
    """collectd's network protocol over UDP."""

    kind = "collectd_network"
    title = "collectd network protocol"
    extraction = "push"
    signals = frozenset(("event", "metric"))
    Config = CollectdNetworkConfig

    def __init__(self, name: str, config: CollectdNetworkConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._refusals = lent.meter.counter("ninefold_collectd_network_refused_total", "collectd packets not let in, by reason.")
        self.listener = Listener(self, config.host, [Port(config.port, tcp=False)], self._decode, datagram=whole)
        self._told: set[str] = set()

    async def run(self, emit: Emit) -> None:
        """Listen until cancelled.

        Raises:
            ConfigError: a file cannot be read, or packets must be encrypted and cryptography is not installed.
        """
        where = f"sources.{self.name}"
        if self.config.security_level == "encrypt":
            ciphers.need(where)
        try:
            lines = self.config.auth_file.read_text().splitlines() if self.config.auth_file else []
            types = dict(collectd_names.DATA_SOURCES)
            for path in self.config.types_db:
                types |= collectd_names.types_of(path.read_text())
        except OSError as error:
            raise ConfigError(f"{where}: {error.filename} cannot be read: {error.strerror}") from error
        pairs = (line.partition(":") for line in lines if ":" in line and not line.startswith("#"))
        users = {user.strip(): password.strip() for user, _, password in pairs}
        users |= {user: secret.get_secret_value() for user, secret in self.config.users.items()}
        if self.config.security_level != "none" and not users:
            raise ConfigError(f"{where}.security_level: packets must be protected; name users or an auth_file")
        guard = Guard(self.config.security_level, {user.encode(): password.encode() for user, password in users.items()})
        self._packets = Packets(guard, types, self._refuse)
        await super().run(emit)

    def _refuse(self, why: str) -> None:
        self._refusals.add(reason=why)
        if why not in self._told:
            self._told.add(why)
            self.listener.log.warning("collectd packets are refused: %s; compare SecurityLevel, Username and Password", why)

    def _decode(self, packets: Sequence[bytes], rest: Sequence[bytes], received: int) -> Decoded:
        return self._packets.decode(packets, self.name, received)
