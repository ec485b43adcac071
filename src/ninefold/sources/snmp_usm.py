"""SNMP version 3: users, authentication and privacy (RFC 3414, RFC 3826, RFC 7860).

The sender of a trap is the authority on its time, the receiver of an inform is on its own; keys belong to a password and an authority.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ninefold.ground.errors import BadData, Refused
from ninefold.sources import ciphers
from ninefold.sources.snmp_message import (
    COUNTER,
    INTEGER,
    OCTETS,
    REPORT,
    SEQUENCE,
    Item,
    content,
    item_at,
    number,
    opened,
    parts,
    wrap,
    wrap_number,
    wrap_oid,
)

AUTH = {
    "md5": ("md5", 12), "sha": ("sha1", 12), "sha224": ("sha224", 16), "sha256": ("sha256", 24), "sha384": ("sha384", 32),
    "sha512": ("sha512", 48),
}  # fmt: skip
"""Hash and length of the digest of each authentication protocol."""
PRIVACY = {"des": 16, "aes": 16, "aes192": 24, "aes256": 32}
"""Length of the key of each privacy protocol."""
_AUTH, _PRIVATE, _REPORTABLE = 1, 2, 4
_USM = 3
_STATS = "1.3.6.1.6.3.15.1.1"
_NOT_IN_TIME, _UNKNOWN_USER, _UNKNOWN_ENGINE = 2, 3, 4
_WINDOW_S = 150
_ENGINES = 10_000
_STRETCHED = 1 << 20
_SIZE = 65507


@dataclass(frozen=True, slots=True)
class User:
    """One who may send: how messages are authenticated and encrypted; "" means not at all."""

    auth: str = ""
    auth_password: bytes = b""
    privacy: str = ""
    privacy_password: bytes = b""

    @property
    def flags(self) -> int:
        """The protection that every message of this user has."""
        return (_AUTH if self.auth else 0) | (_PRIVATE if self.privacy else 0)


class Opened(NamedTuple):
    """An opened message: the bytes in which its PDU stands, where, and how to answer it."""

    data: bytes
    pdu: Item
    answer: Callable[[bytes], bytes]


class _Header(NamedTuple):
    message: int
    flags: int
    engine: bytes
    boots: int
    time: int
    user: bytes
    digest: Item
    salt: bytes


class Report(Exception):
    """The message cannot be taken yet; its sender needs to be told `answer` first."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("the sender has to learn engine or time first")
        self.answer = answer


class Engine:
    """This receiver as an SNMP engine.

    Args:
        engine_id: its name.
        boots: how often it was started.
        users: who may send.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, engine_id: bytes, boots: int, users: dict[bytes, User], clock: Callable[[], float] = time.monotonic) -> None:
        self._id, self._boots, self._users, self._clock = engine_id, boots, users, clock
        self._started = clock()
        self._seen: dict[bytes, tuple[int, int]] = {}
        self._salt = int.from_bytes(os.urandom(8), "big")

    def open(self, data: bytes) -> Opened:
        """Check and decrypt a message of version 3.

        Raises:
            Report: its sender has to learn this engine's name or time.
            Refused: the user is not known, or the protection does not hold or is too weak.
            BadData: it is malformed.
            ImportError: it is encrypted and the library is not installed.
        """
        _, head, security, payload = _shape(data)
        header = _header(data, head, security)
        if header.flags & _REPORTABLE and header.engine != self._id:
            raise Report(self._report(header, _UNKNOWN_ENGINE))
        user = self._users.get(header.user)
        if user is None:
            if header.flags & _REPORTABLE:
                raise Report(self._report(header, _UNKNOWN_USER))
            raise Refused("unknown user")
        if header.flags & (_AUTH | _PRIVATE) != user.flags:
            raise Refused("not protected as the user is configured")
        if user.auth:
            self._authenticate(data, header, user)
            self._check_time(header, user)
        if user.privacy:
            data = _decrypt(user, header, content(data, payload))
            payload = item_at(data, 0, len(data))
        _, name, pdu = parts(data, payload, OCTETS, OCTETS, -1)
        context = data[payload.start : name.stop]

        def answer(response: bytes) -> bytes:
            return self._seal(header, user, wrap(SEQUENCE, context, response))

        return Opened(data, pdu, answer)

    def _authenticate(self, data: bytes, header: _Header, user: User) -> None:
        place = header.digest
        blank = data[: place.start] + bytes(place.stop - place.start) + data[place.stop :]
        if not hmac.compare_digest(_digest(user, header.engine, blank), content(data, place)):
            raise Refused("wrong authentication")

    def _check_time(self, header: _Header, user: User) -> None:
        """A message must be of now: an old one that comes again says nothing.

        Raises:
            Report: this engine is the authority, and its sender has to learn its time.
            Refused: its sender is, and has said later things already.
        """
        if header.engine == self._id:
            if header.boots != self._boots or abs(header.time - self._time()) > _WINDOW_S:
                raise Report(self._report(header, _NOT_IN_TIME, user))
            return
        boots, latest = self._seen.get(header.engine, (0, 0))
        if header.boots < boots or (header.boots == boots and header.time < latest - _WINDOW_S):
            raise Refused("an old message again")
        if len(self._seen) >= _ENGINES and header.engine not in self._seen:
            self._seen.pop(next(iter(self._seen)))
        self._seen[header.engine] = max((boots, latest), (header.boots, header.time))

    def _time(self) -> int:
        return int(self._clock() - self._started)

    def _report(self, header: _Header, statistic: int, user: User | None = None) -> bytes:
        """A report, authenticated when the user is known."""
        bind = wrap(SEQUENCE, wrap_oid(f"{_STATS}.{statistic}.0"), wrap_number(1, COUNTER))
        zero = wrap_number(0)
        scoped = wrap(SEQUENCE, wrap(OCTETS, self._id), wrap(OCTETS), wrap(REPORT, zero, zero, zero, wrap(SEQUENCE, bind)))
        known = User(user.auth, user.auth_password) if user else User()
        return self._seal(header, known, scoped)

    def _seal(self, header: _Header, user: User, scoped: bytes) -> bytes:
        """A message of this engine to whom a header came from, protected as the user is configured."""
        now_s, salt = self._time(), b""
        if user.privacy:
            self._salt = (self._salt + 1) % (1 << 64)
            salt = self._salt.to_bytes(8, "big")
            start = header._replace(engine=self._id, boots=self._boots, time=now_s, salt=salt)
            scoped = wrap(OCTETS, _encrypt(user, start, scoped))
        digest = bytes(AUTH[user.auth][1] if user.auth else 0)
        tail = wrap(OCTETS, salt)
        numbers = wrap_number(self._boots) + wrap_number(now_s)
        security = wrap(SEQUENCE, wrap(OCTETS, self._id), numbers, wrap(OCTETS, header.user), wrap(OCTETS, digest), tail)
        head = wrap(SEQUENCE, wrap_number(header.message), wrap_number(_SIZE), wrap(OCTETS, bytes([user.flags])), wrap_number(_USM))
        message = wrap(SEQUENCE, wrap_number(_USM), head, wrap(OCTETS, security), scoped)
        if not user.auth:
            return message
        stop = len(message) - len(scoped) - len(tail)
        return message[: stop - len(digest)] + _digest(user, self._id, message) + message[stop:]


def _shape(data: bytes) -> list[Item]:
    _, inside = opened(data)
    if len(inside) != 4 or inside[1].tag != SEQUENCE or inside[2].tag != OCTETS or inside[3].tag not in (OCTETS, SEQUENCE):
        raise BadData("the datagram is not an SNMP version 3 message", "byte 0")
    return inside


def _header(data: bytes, head: Item, security: Item) -> _Header:
    message, _, flags, model = parts(data, head, INTEGER, INTEGER, OCTETS, INTEGER)
    if number(data, model) != _USM or flags.stop - flags.start != 1:
        raise BadData("the security model is not the user-based one", f"byte {head.start}")
    engine, boots, seconds, user, digest, salt = parts(
        data, parts(data, security, SEQUENCE)[0], OCTETS, INTEGER, INTEGER, OCTETS, OCTETS, OCTETS
    )
    texts = content(data, engine), number(data, boots), number(data, seconds), content(data, user)
    if not 0 <= min(texts[1:3]) <= max(texts[1:3]) < 1 << 31 or not 0 <= number(data, message) < 1 << 31:
        raise BadData("a number of the header is out of range", f"byte {head.start}")
    return _Header(number(data, message), data[flags.start], *texts, digest, content(data, salt))


def _digest(user: User, engine: bytes, message: bytes) -> bytes:
    name, size = AUTH[user.auth]
    return hmac.digest(_localised(name, user.auth_password, engine), message, name)[:size]


def _decrypt(user: User, header: _Header, data: bytes) -> bytes:
    if len(header.salt) != 8 or not data or (user.privacy == "des" and len(data) % 8):
        raise BadData("the encrypted part is cut short", "privacy parameters")
    key, start = _cipher(user, header)
    return ciphers.des_decrypt(key, start, data) if user.privacy == "des" else ciphers.cfb_decrypt(key, start, data)


def _encrypt(user: User, header: _Header, data: bytes) -> bytes:
    key, start = _cipher(user, header)
    return ciphers.des_encrypt(key, start, data) if user.privacy == "des" else ciphers.cfb_encrypt(key, start, data)


def _cipher(user: User, header: _Header) -> tuple[bytes, bytes]:
    """Key and initialisation vector."""
    name = AUTH[user.auth][0]
    key, size = _localised(name, user.privacy_password, header.engine), PRIVACY[user.privacy]
    while len(key) < size:
        key += hashlib.new(name, key, usedforsecurity=False).digest()
    if user.privacy == "des":
        return key[:8], bytes(a ^ b for a, b in zip(key[8:16], header.salt, strict=True))
    return key[:size], header.boots.to_bytes(4, "big") + header.time.to_bytes(4, "big") + header.salt


@lru_cache(maxsize=4096)
def _localised(name: str, password: bytes, engine: bytes) -> bytes:
    """The key of a password at one authority."""
    key = _stretched(name, password)
    return hashlib.new(name, key + engine + key, usedforsecurity=False).digest()


@lru_cache(maxsize=256)
def _stretched(name: str, password: bytes) -> bytes:
    """The key of a password, which is repeated to a mebibyte first."""
    return hashlib.new(name, (password * (_STRETCHED // len(password) + 1))[:_STRETCHED], usedforsecurity=False).digest()
