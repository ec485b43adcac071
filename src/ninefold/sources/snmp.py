"""SNMP traps and informs of versions 1, 2c and 3 over UDP.

Point devices at it with ``trap2sink host:1162 community`` or their own command. Versions 1 and 2c need a community named in `communities`;
version 3 a user in `users`, whose messages must be protected exactly as configured there (MD5 and SHA, DES and AES). What is sent otherwise
is dropped, counted in ``ninefold_snmp_refused_total`` and logged. An inform is acknowledged once its event is on disk.

Each notification becomes an event: linkDown is an alert which linkUp resolves; the other traps every device knows have their names and a
severity; any other is an event with its object identifier as title, unless `traps` says more of it. Variables become attributes under their
names without MIB files (``ifDescr.3``), or object identifiers where `names` does not know them. The entity is the host: the address that
sent it or that a version 1 trap names, or what `hosts` calls it. Communities are not kept, and
what cannot be read is in quarantine only when its sender may send; anything else is dropped and counted as above.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from ninefold.ground.errors import BadData, Refused
from ninefold.model.entity import entity_of, fingerprint
from ninefold.model.signal import Decoded, batch_of, event_id, quarantine
from ninefold.plugin import Emit, Lent, Strict
from ninefold.sources import ciphers
from ninefold.sources.delivery import deliver
from ninefold.sources.listening import Listen, Listener, Listening, Port, Write
from ninefold.sources.snmp_message import (
    INFORM,
    OCTETS,
    SEQUENCE,
    TRAP_V1,
    Item,
    Notification,
    acknowledged,
    content,
    item_at,
    notification,
    opened,
    wrap,
    wrap_number,
    wrap_oid,
)
from ninefold.sources.snmp_usm import Engine, Report, User

FORMAT = "snmp"
_VERSIONS = {0: "1", 1: "2c", 3: "3"}
_GENERIC = "1.3.6.1.6.3.1.1.5"
_TRAP_ADDRESS, _TRAP_COMMUNITY, _SYS_NAME = "1.3.6.1.6.3.18.1.3.0", "1.3.6.1.6.3.18.1.4.0", "1.3.6.1.2.1.1.5.0"
_COMMUNITY_NAME = re.compile(re.escape(wrap_oid(_TRAP_COMMUNITY)[2:]))
NAMES = {
    "1.3.6.1.2.1.1.1": "sysDescr", "1.3.6.1.2.1.1.2": "sysObjectID", "1.3.6.1.2.1.1.4": "sysContact", "1.3.6.1.2.1.1.5": "sysName",
    "1.3.6.1.2.1.1.6": "sysLocation", "1.3.6.1.2.1.2.2.1.1": "ifIndex", "1.3.6.1.2.1.2.2.1.2": "ifDescr", "1.3.6.1.2.1.2.2.1.3": "ifType",
    "1.3.6.1.2.1.2.2.1.7": "ifAdminStatus", "1.3.6.1.2.1.2.2.1.8": "ifOperStatus", "1.3.6.1.2.1.31.1.1.1.1": "ifName",
    "1.3.6.1.2.1.31.1.1.1.18": "ifAlias", "1.3.6.1.6.3.1.1.4.3": "snmpTrapEnterprise", "1.3.6.1.6.3.18.1.3": "snmpTrapAddress",
}  # fmt: skip
"""Objects that come with traps of every device."""


class Trap(Strict):
    """What a notification means."""

    name: str = Field("", description="Its name, the title of its events.")
    kind: str = Field("alert", description="The kind of its events.")
    severity: Literal["critical", "high", "warning", "info"] = Field("warning", description="Their severity.")
    resolves: str = Field("", description="Object identifier of the notification whose alert this one resolves.")
    key: tuple[str, ...] = Field((), description="Names of variables that tell alerts of one host apart: ifIndex for those of links.")


TRAPS = {
    f"{_GENERIC}.1": Trap(name="coldStart", kind="event"), f"{_GENERIC}.2": Trap(name="warmStart", kind="event"),
    f"{_GENERIC}.3": Trap(name="linkDown", severity="high", key=("ifIndex",)),
    f"{_GENERIC}.4": Trap(name="linkUp", severity="info", key=("ifIndex",), resolves=f"{_GENERIC}.3"),
    f"{_GENERIC}.5": Trap(name="authenticationFailure", kind="event"),
    f"{_GENERIC}.6": Trap(name="egpNeighborLoss", severity="high"),
}  # fmt: skip
"""The notifications every device knows (RFC 3418, RFC 2863)."""


class SnmpUser(Strict):
    """A user of version 3."""

    auth: Literal["md5", "sha", "sha224", "sha256", "sha384", "sha512"] | None = Field(None, description="Authentication protocol.")
    auth_password: SecretStr | None = Field(None, min_length=8, description="Its password.")
    privacy: Literal["des", "aes", "aes192", "aes256"] | None = Field(None, description="Encryption; it needs authentication too.")
    privacy_password: SecretStr | None = Field(None, min_length=8, description="Its password.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.auth is None) != (self.auth_password is None) or (self.privacy is None) != (self.privacy_password is None):
            raise ValueError("a protocol and its password belong together")
        if self.privacy is not None and self.auth is None:
            raise ValueError("privacy needs authentication")
        return self

    def plain(self) -> User:
        """The user with its secrets."""
        passwords = [secret.get_secret_value().encode() if secret else b"" for secret in (self.auth_password, self.privacy_password)]
        return User(self.auth or "", passwords[0], self.privacy or "", passwords[1])


class SnmpConfig(Listen):
    """Where notifications are received, from whom, and what they mean."""

    port: int = Field(1162, ge=0, le=65535, description="UDP port; 0 takes a free one. Devices send to 162, which only root may bind.")
    communities: tuple[SecretStr, ...] = Field((), description="Communities of versions 1 and 2c; none: these versions are refused.")
    users: dict[str, SnmpUser] = Field(default_factory=dict, description="Users of version 3 by name.")
    engine_id: str = Field("80000000046e696e65666f6c64", pattern="^(?:[0-9a-f]{2}){5,32}$", description="This receiver's engine, in hex.")
    hosts: dict[str, str] = Field(default_factory=dict, description="Names of hosts by address.")
    names: dict[str, str] = Field(default_factory=dict, description="Names of further objects by object identifier.")
    traps: dict[str, Trap] = Field(default_factory=dict, description="What further notifications mean, by object identifier.")


class Datagram:
    """A datagram that waits to be read; `reply` goes back to its sender once what it says is durable; it is
    `trusted` once its sender has proved that it may send."""

    __slots__ = ("address", "data", "reply", "trusted", "write")

    def __init__(self, data: bytes, address: str, write: Write) -> None:
        self.data, self.address, self.write, self.reply = data, address, write, b""
        self.trusted = False

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        """The datagram as it may be kept: without its communities; nothing where they cannot be found."""
        try:
            version, inside = opened(self.data)
        except BadData:
            return b""
        secrets = [] if version == 3 else [inside[1]]
        for name in _COMMUNITY_NAME.finditer(self.data):
            try:
                secrets.append(item_at(self.data, name.end(), len(self.data)))
            except BadData:
                secrets.append(Item(OCTETS, name.end(), len(self.data)))
        kept = bytearray(self.data)
        for secret in secrets:
            kept[secret.start : secret.stop] = b"*" * (secret.stop - secret.start)
        return bytes(kept)


class Notifications:
    """Reads datagrams.

    Args:
        config: who may send, and what notifications mean.
        engine: reads those of version 3.
    """

    def __init__(self, config: SnmpConfig, engine: Engine) -> None:
        self._engine = engine
        self._communities = frozenset(secret.get_secret_value().encode() for secret in config.communities)
        self._hosts = config.hosts
        self._names, self._traps = NAMES | config.names, TRAPS | config.traps

    def read(self, datagram: Datagram, received: int) -> dict[str, Any] | None:
        """The event row in a datagram; None when it only asks for what its sender has to know first.

        Raises:
            BadData: it is not a notification.
            Refused: its sender may not send.
        """
        data = datagram.data
        version, inside = opened(data)
        if version == 3:
            try:
                opening = self._engine.open(data)
            except Report as report:
                datagram.reply = report.answer
                return None
            except ImportError:
                raise Refused("encrypted, and the library cryptography is not installed") from None
            datagram.trusted = True
            said = notification(opening.data, opening.pdu)
            if opening.pdu.tag == INFORM:
                datagram.reply = opening.answer(acknowledged(opening.data, opening.pdu))
        elif version in (0, 1) and len(inside) == 3 and inside[1].tag == OCTETS:
            if content(data, inside[1]) not in self._communities:
                raise Refused("unknown community")
            datagram.trusted = True
            if (inside[2].tag == TRAP_V1) != (version == 0):
                raise BadData("the notification is of another version than its message", "byte 0")
            said = notification(data, inside[2])
            if inside[2].tag == INFORM:
                community = wrap(OCTETS, content(data, inside[1]))
                datagram.reply = wrap(SEQUENCE, wrap_number(version), community, acknowledged(data, inside[2]))
        else:
            raise BadData("the datagram is not an SNMP message", "byte 0")
        return self._row(said, _VERSIONS[version], datagram.address, received)

    def _row(self, said: Notification, version: str, sender: str, received: int) -> dict[str, Any]:
        trap = self._traps.get(said.oid) or Trap(kind="event", severity="info")
        binds = dict(said.binds)
        address = said.agent or binds.get(_TRAP_ADDRESS) or sender
        host = self._hosts.get(address) or binds.get(_SYS_NAME) or address
        named = {self._name(oid): value for oid, value in said.binds if oid not in (_TRAP_ADDRESS, _TRAP_COMMUNITY)}
        attributes = {
            "host.name": host, "host.ip": address, "network.peer.address": sender, "snmp.version": version, "snmp.trap_oid": said.oid,
            "snmp.uptime": str(said.uptime), **named,
        }  # fmt: skip
        entity = entity_of({"host.name": host})
        key = {name: value for name, value in named.items() if name.partition(".")[0] in trap.key}
        where = ", ".join(value for name, value in named.items() if name.partition(".")[0] in ("ifName", "ifDescr")) if trap.key else ""
        title = " ".join(filter(None, (trap.name or said.oid, "on", host, where)))
        identity = (address, said.oid, str(said.uptime), str(said.request), *(part for pair in said.binds for part in pair))
        status = "" if trap.kind != "alert" else "resolved" if trap.resolves else "firing"
        return {
            "id": event_id("snmp", *identity), "time": received, "kind": trap.kind, "source_id": said.oid, "entity": entity, "title": title,
            "body": "\n".join(f"{name} = {value}" for name, value in named.items()), "severity": trap.severity, "severity_raw": "",
            "status": status, "fingerprint": fingerprint({**key, "snmp": trap.resolves or said.oid, "entity": entity}),
            "attributes": attributes,
        }  # fmt: skip

    def _name(self, oid: str) -> str:
        """An object identifier with its longest known beginning replaced by a name."""
        head = oid
        while head:
            if head in self._names:
                return self._names[head] + oid[len(head) :]
            head = head.rpartition(".")[0]
        return oid


class Snmp(Listening):
    """SNMP traps and informs over UDP."""

    kind = "snmp"
    title = "SNMP traps"
    extraction = "push"
    signals = frozenset(("event",))
    Config = SnmpConfig

    def __init__(self, name: str, config: SnmpConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._refusals = lent.meter.counter("ninefold_snmp_refused_total", "SNMP messages not let in, by reason.")
        self._told: set[str] = set()
        self.listener = Listener(
            self, config.host, [Port(config.port, tcp=False)], self._decode,
            datagram=lambda data, address, write: [Datagram(data, address, write)], done=_answer,
        )  # fmt: skip

    async def run(self, emit: Emit) -> None:
        """Listen until cancelled.

        Raises:
            ConfigError: a user encrypts and the library cryptography is not installed.
        """
        config: SnmpConfig = self.config
        if any(user.privacy for user in config.users.values()):
            ciphers.need(f"sources.{self.name}.users")
        boots = int((await asyncio.to_thread(self.lent.load)).get("boots", 0)) + 1
        await deliver(emit, (), keep={"boots": boots})
        users = {name.encode(): user.plain() for name, user in config.users.items()}
        self._notifications = Notifications(config, Engine(bytes.fromhex(config.engine_id), boots, users))
        await super().run(emit)

    def _decode(self, datagrams: Sequence[Datagram], rest: Sequence[bytes], received: int) -> Decoded:
        events: list[dict[str, Any]] = []
        bad: list[tuple[str, str, bytes]] = []
        for datagram in datagrams:
            try:
                row = self._notifications.read(datagram, received)
            except Refused as error:
                self._refuse(str(error), datagram.address)
            except BadData as error:
                if datagram.trusted:
                    bad.append((error.reason, error.where, bytes(datagram)))
                else:  # anybody can send this, so it is not stored
                    self._refuse(error.reason, datagram.address)
            else:
                events += [row] if row else []
        batches = [batch_of("event", self.name, received, events)] if events else []
        if bad:
            batches.append(quarantine(self.name, received, "event", FORMAT, bad))
        return Decoded(batches, len(bad), bad[0][0] if bad else "")

    def _refuse(self, why: str, address: str) -> None:
        self._refusals.add(reason=why)
        if why not in self._told:
            self._told.add(why)
            self.listener.log.warning("SNMP messages are refused, the first from %s: %s", address, why)


def _answer(datagrams: Sequence[Datagram]) -> None:
    for datagram in datagrams:
        if datagram.reply:
            datagram.write(datagram.reply)
