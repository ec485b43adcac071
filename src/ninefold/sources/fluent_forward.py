"""The Forward protocol of Fluentd and Fluent Bit over TCP and TLS, in all its modes: Message, Forward, PackedForward, compressed.

Point Fluentd at it with ``<match **> @type forward … <server> host …, port 24224``, Fluent Bit with ``[OUTPUT] Name forward``. With
`shared_key` (and `users`) here, senders must know them (``<security>`` in Fluentd, ``Shared_Key`` in Fluent Bit). Chunks whose sender wants
to know (``require_ack_response``) are acknowledged once they are on disk.

| of an entry | becomes |
|---|---|
| time | time, to the nanosecond with EventTime |
| `log`, `message`, `msg` or `MESSAGE` | body; without one, the whole record as JSON |
| `level`, `severity`, `trace_id`, `span_id` and their other spellings | severity and ids |
| `host`, `hostname`, `service`, `ident`, `kubernetes.*` | the resource, by OpenTelemetry's names |
| all else | attributes, nested ones with dotted names |
| tag | attribute ``fluent.tag`` |

Entries that cannot be read are in quarantine. Not read: the metrics and traces that Fluent Bit sends this way; send those by OTLP.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from pydantic import Field, SecretStr

from ninefold.ground.errors import BadData, ConfigError
from ninefold.model.signal import Decoded, quarantine
from ninefold.plugin import Emit, Lent
from ninefold.sources.body import decompress
from ninefold.sources.columns import is_utf8
from ninefold.sources.listening import Listen, Listener, Listening, Port, Tls, Write
from ninefold.sources.log_rows import LATEST, LogRows, flat
from ninefold.sources.reading import dump_json

FORMAT = "fluent_forward"
_SECOND = 10**9
_PLAIN_BYTES = 64 << 20
_PART_BYTES = 32 << 20
"""Unpacked bytes that are emitted at once, each entry with what it needs beside its own."""
_ENTRY_BYTES = 256
_ARRAYS = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
_BODIES = ("log", "message", "msg", "MESSAGE")
_RESOURCE = {
    "host": "host.name", "hostname": "host.name", "host.name": "host.name", "service": "service.name", "service.name": "service.name",
    "ident": "service.name", "kubernetes.pod_name": "k8s.pod.name", "kubernetes.pod_id": "k8s.pod.uid",
    "kubernetes.namespace_name": "k8s.namespace.name", "kubernetes.container_name": "k8s.container.name",
    "kubernetes.host": "k8s.node.name", "kubernetes.docker_id": "container.id", "kubernetes.container_image": "container.image.name",
}  # fmt: skip
_RANK = {key: rank for rank, key in enumerate(_RESOURCE)}
_SALT = 16
_DEPTH = 64


class FluentTls(Tls):
    """The Forward protocol over TLS."""

    port: int = Field(24225, ge=0, le=65535, description="Port for TLS.")


class FluentForwardConfig(Listen):
    """Where the Forward protocol is received, and from whom."""

    port: int = Field(24224, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    tls: FluentTls | None = Field(None, description="Certificate, key and port for TLS; without it TLS is off.")
    shared_key: SecretStr | None = Field(None, description="The key every sender must know; without one anybody may send.")
    users: dict[str, SecretStr] = Field(default_factory=dict, description="Password of each user; set, senders must be one of them too.")
    self_hostname: str = Field("ninefold", description="The name this server gives in the handshake.")
    message_limit_bytes: int = Field(20 << 20, ge=1024, description="Largest message; compressed entries may be 64 MiB when unpacked.")


class _Moment(int):
    """A time in ns, as opposed to a number of seconds."""


class Message:
    """One message of the protocol, still packed. `chunk` is set when its sender wants it acknowledged."""

    __slots__ = ("chunk", "data", "write")

    def __init__(self, data: bytes, write: Write) -> None:
        self.data, self.write, self.chunk = data, write, ""

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return self.data


class Session:
    """One connection: the handshake if there is one, then messages.

    Args:
        config: keys and limits.
        write: answers the sender.
    """

    def __init__(self, config: FluentForwardConfig, write: Write) -> None:
        import msgpack

        self._msgpack, self._config, self._write = msgpack, config, write
        self._unpacker = msgpack.Unpacker(max_buffer_size=config.message_limit_bytes)
        self._buffer = bytearray()
        self._start = 0
        self._broken = False
        self._nonce, self._salt = os.urandom(_SALT), os.urandom(_SALT) if config.users else b""
        self._welcome = config.shared_key is None
        if not self._welcome:
            write(msgpack.packb(["HELO", {"nonce": self._nonce, "auth": self._salt, "keepalive": True}]))

    def feed(self, data: bytes) -> tuple[list[Message], list[bytes]]:
        """Whole messages; from the first byte that is none on, the rest is set aside.

        Raises:
            BadData: this is not the Forward protocol, or the sender may not send.
        """
        if self._broken:
            raise BadData("the stream is not MessagePack from some point on; the sender has to connect again")
        self._buffer += data
        found: list[Message] = []
        try:
            self._unpacker.feed(data)
            while True:
                if self._buffer and self._buffer[0] not in _ARRAYS:
                    raise BadData("a message of the Forward protocol is an array")
                self._unpacker.skip()
                size = self._unpacker.tell() - self._start
                packed = bytes(self._buffer[:size])
                del self._buffer[:size]
                self._start += size
                if self._welcome:
                    found.append(Message(packed, self._write))
                else:
                    self._greet(packed)
        except self._msgpack.OutOfData:
            return found, []
        except (ValueError, self._msgpack.UnpackException, BadData) as error:
            if not found:
                raise BadData(f"the connection does not speak the Forward protocol: {error}") from None
            self._broken = True
            return found, [bytes(self._buffer)]

    def close(self) -> list[Message]:
        """A message that is cut short is the sender's to send again."""
        return []

    def tail(self) -> list[bytes]:
        """Nothing."""
        return []

    def _greet(self, packed: bytes) -> None:
        """Check a PING and answer with PONG.

        Raises:
            BadData: the sender does not know the key or its password.
        """
        ping = self._msgpack.unpackb(packed, raw=True)
        if len(ping) != 6 or ping[0] != b"PING" or not all(isinstance(part, bytes) for part in ping):
            raise BadData("the handshake has to begin with PING; configure the shared key at the sender")
        _, host, salt, digest, user, password = ping
        assert self._config.shared_key is not None
        key = self._config.shared_key.get_secret_value().encode()
        why = ""
        if not hmac.compare_digest(_hex(salt, host, self._nonce, key), digest):
            why = "shared_key mismatch"
        elif self._config.users:
            known = self._config.users.get(user.decode(errors="replace"))
            secret = known.get_secret_value().encode() if known else os.urandom(_SALT)
            why = "" if hmac.compare_digest(_hex(self._salt, user, secret), password) else "username/password mismatch"
        name = self._config.self_hostname
        proof = "" if why else _hex(salt, name.encode(), self._nonce, key).decode()
        self._write(self._msgpack.packb(["PONG", not why, why, name, proof]))
        if why:
            raise BadData(f"the sender {host[:80].decode(errors='replace')!r} may not send: {why}")
        self._welcome = True


def _hex(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).hexdigest().encode()


class _Torn(NamedTuple):
    """Where entries cannot be followed any further: why, and what is left."""

    reason: str
    rest: bytes


class _Part:
    """What has been read and is to be emitted at once."""

    def __init__(self, bad: list[tuple[str, str, bytes]]) -> None:
        self.rows, self.bad, self.size_bytes = LogRows(), bad, 0

    def taken(self, source: str, received: int) -> Decoded:
        """What was read; then a new part begins."""
        rows, bad = self.rows, self.bad
        self.rows, self.bad, self.size_bytes = LogRows(), [], 0
        batches = rows.batch(source, received)
        if bad:
            batches.append(quarantine(source, received, "log", FORMAT, bad))
        return Decoded(batches, len(bad), bad[0][0] if bad else "")


class Entries:
    """The decoder of messages."""

    def __init__(self) -> None:
        import msgpack

        self._msgpack = msgpack
        options = {"strict_map_key": False, "unicode_errors": "backslashreplace", "ext_hook": self._ext}
        self._unpack: Callable[[bytes], Any] = partial(msgpack.unpackb, **options)
        self._unpacker: Callable[[], Any] = partial(msgpack.Unpacker, max_buffer_size=_PLAIN_BYTES, **options)

    def decode(self, messages: Sequence[Message], rest: Sequence[bytes], source: str, received: int) -> Decoded:
        """All `parts` as one."""
        parts = list(self.parts(messages, rest, source, received))
        batches = [batch for part in parts for batch in part.batches]
        return Decoded(batches, sum(part.rejected for part in parts), next((part.reason for part in parts if part.reason), ""))

    def parts(self, messages: Sequence[Message], rest: Sequence[bytes], source: str, received: int) -> Iterator[Decoded]:
        """Log rows of messages; what cannot be read goes to quarantine, single entries as messages of their own. What is packed can be
        a thousand times larger when unpacked, so it comes in parts."""
        part = _Part([("the rest of a connection that is not MessagePack", "", piece) for piece in rest])
        for message in messages:
            try:
                for _ in self._read(message, part):
                    yield part.taken(source, received)
            except BadData as error:
                part.bad.append((error.reason, error.where, message.data))
        yield part.taken(source, received)

    def _read(self, message: Message, part: _Part) -> Iterator[None]:
        """Add the entries of one message; stops each time the part is full.

        Raises:
            BadData: the message cannot be read at all.
        """
        try:
            whole = self._unpack(message.data)
        except (TypeError, ValueError, self._msgpack.UnpackException) as error:
            raise BadData(f"the message is not MessagePack: {error}") from None
        tag, *parts = whole if isinstance(whole, list) and whole else [None]
        single = bool(parts) and not isinstance(parts[0], list | bytes | str)
        last = parts[1 + single] if len(parts) == 2 + single else {}
        option: dict[Any, Any] = last if isinstance(last, dict) else {}
        if not isinstance(tag, str) or not 1 + single <= len(parts) <= 2 + single:
            raise BadData("a message is [tag, entries] or [tag, time, record], and an option behind them")
        message.chunk = str(option.get("chunk") or "")
        if option.get("fluent_signal"):
            raise BadData("metrics and traces of Fluent Bit are not read in this form; send them by OTLP")
        listed = [[parts[0], parts[1]]] if single else parts[0]
        if isinstance(listed, list):
            entries: Iterable[tuple[int, Any]] = zip(repeat(len(message.data) // max(len(listed), 1)), listed, strict=False)
        else:
            entries = self._packed(message.data, listed, str(option.get("compressed") or "text"))
        bad: dict[str, list[tuple[int, Any]]] = {}
        for place, (size, entry) in enumerate(entries):
            if isinstance(entry, _Torn):
                part.bad += [*self._told(tag, bad), (entry.reason, f"entries[{place}]", self._pack([tag, entry.rest]))]
                return
            if problem := _add(entry, tag, part.rows):
                bad.setdefault(problem, []).append((place, entry))
            part.size_bytes += size + _ENTRY_BYTES
            if part.size_bytes >= _PART_BYTES:
                part.bad += self._told(tag, bad)
                bad = {}
                yield
        part.bad += self._told(tag, bad)

    def _told(self, tag: str, bad: dict[str, list[tuple[int, Any]]]) -> list[tuple[str, str, bytes]]:
        return [
            (f"{reason} ({len(found)} entries)", f"entries[{found[0][0]}]", self._pack([tag, [entry for _, entry in found]]))
            for reason, found in bad.items()
        ]

    def _packed(self, data: bytes, entries: Any, compressed: str) -> Iterator[tuple[int, Any]]:
        """The entries of a PackedForward message and their sizes, unpacked one by one; the last is `_Torn` when they cannot all be read.

        Raises:
            BadData: they cannot be decompressed.
        """
        if isinstance(entries, str):  # so old senders call what is not text
            entries = self._msgpack.unpackb(data, raw=True, strict_map_key=False)[1]
        plain = decompress(entries, "" if compressed == "text" else compressed, _PLAIN_BYTES)
        unpacker, end, problem = self._unpacker(), 0, "the entries end too early"
        unpacker.feed(plain)
        try:
            for entry in unpacker:
                begin, end = end, unpacker.tell()
                yield end - begin, entry
        except (TypeError, ValueError, self._msgpack.UnpackException) as error:
            problem = f"the entries are not MessagePack: {error}"
        if end < len(plain):
            yield len(plain) - end, _Torn(problem, plain[end:])

    def _ext(self, code: int, data: bytes) -> Any:
        """EventTime is extension 0: seconds and less than a second's nanoseconds."""
        if code == 0 and len(data) == 8 and (nanos := int.from_bytes(data[4:], "big")) < _SECOND:
            return _Moment(int.from_bytes(data[:4], "big") * _SECOND + nanos)
        return self._msgpack.ExtType(code, data)

    def _pack(self, value: Any) -> bytes:
        def moment(found: Any) -> Any:
            return self._msgpack.ExtType(0, (found // _SECOND).to_bytes(4, "big") + (found % _SECOND).to_bytes(4, "big"))

        packed: bytes = self._msgpack.packb(value, default=moment, strict_types=True, unicode_errors="surrogatepass")
        return packed


def _add(entry: Any, tag: str, rows: LogRows) -> str:
    """Add one entry; what is wrong with it, "" when nothing is."""
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], dict):
        return "an entry is [time, record]"
    time = _time(entry[0][0] if isinstance(entry[0], list) and entry[0] else entry[0])
    if time is None:
        return "the time is not between 1970 and 2262"
    try:
        record = _plain(entry[1])
        attributes = flat(record)
        body = next((attributes.pop(key) for key in _BODIES if isinstance(record.get(key), str) and key in attributes), "")
        body = body or dump_json(record).decode()
    except BadData as error:
        return error.reason
    resource: dict[str, str] = {}
    for key in sorted((key for key in attributes if key in _RESOURCE), key=_RANK.__getitem__):
        if _RESOURCE[key] not in resource:
            resource[_RESOURCE[key]] = attributes.pop(key)
    attributes["fluent.tag"] = tag
    rows.add(rows.origin(resource), time, body.rstrip("\r\n"), attributes)
    return ""


def _time(value: Any) -> int | None:
    if isinstance(value, _Moment):
        time = int(value)
    elif isinstance(value, bool):
        return None
    elif hasattr(value, "to_unix_nano"):  # MessagePack's own time
        time = value.to_unix_nano()
    elif isinstance(value, int):
        time = value * _SECOND
    elif isinstance(value, float) and 0 <= value < LATEST / _SECOND:
        time = round(value * 1e6) * 1000
    else:
        return None
    return time if 0 <= time <= LATEST else None


def _plain(value: Any, depth: int = 0) -> Any:
    """A value of MessagePack as one of JSON: bytes that are no text in hexadecimal.

    Raises:
        BadData: it is nested too deeply.
    """
    if depth > _DEPTH:
        raise BadData(f"a record is nested more than {_DEPTH} levels deep; flatten it")
    if isinstance(value, dict):
        return {str(key): item if type(item) is str else _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, bytes):
        return value.decode() if is_utf8(value) else value.hex()
    return value if value is None or type(value) in (str, int, float, bool) else str(value)


class FluentForward(Listening):
    """The Forward protocol over TCP and TLS. `tls_port` is the bound port for TLS."""

    kind = "fluent_forward"
    title = "Fluentd and Fluent Bit (Forward)"
    extraction = "push"
    signals = frozenset(("log",))
    Config = FluentForwardConfig

    def __init__(self, name: str, config: FluentForwardConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        ports = [Port(config.port)] + ([Port(config.tls.port, tls=config.tls)] if config.tls else [])
        self.listener = Listener(self, config.host, ports, self._decode, reader=partial(Session, config), done=self._acknowledge)

    @property
    def tls_port(self) -> int:
        """The port for TLS; only with `tls` configured."""
        return self.listener.ports[1]

    async def run(self, emit: Emit) -> None:
        """Listen until cancelled.

        Raises:
            ConfigError: msgpack is not installed, the TLS files cannot be used, or there are users without a key.
        """
        if self.config.users and self.config.shared_key is None:
            raise ConfigError(f"sources.{self.name}.users: the handshake needs a shared_key as well")
        try:
            import msgpack
        except ImportError as error:
            raise ConfigError(f"sources.{self.name}: the Forward protocol needs msgpack; install ninefold[fluent]") from error
        self._entries, self._pack = Entries(), msgpack.packb
        await super().run(emit)

    def _decode(self, messages: Sequence[Message], rest: Sequence[bytes], received: int) -> Iterator[Decoded]:
        return self._entries.parts(messages, rest, self.name, received)

    def _acknowledge(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.chunk:
                message.write(self._pack({"ack": message.chunk}))
