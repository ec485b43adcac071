"""SNMP notifications: captured datagrams of net-snmp value by value, pysnmp as a peer in all versions, protection, bytes that are wrong."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sockets import Journal, Meters, lent, make, running, send, until

from ninefold.ground.errors import BadData, Refused
from ninefold.sources import snmp_message
from ninefold.sources.snmp import Datagram, Notifications, Snmp, SnmpConfig
from ninefold.sources.snmp_message import Item, wrap, wrap_number, wrap_oid
from ninefold.sources.snmp_usm import Engine, Report, User

PUBLIC = SnmpConfig.model_validate({"communities": ["public"]})
ENGINE = b"\x80\0\0\0\x04test"
AIOPS = User("sha", b"authpass123", "aes", b"privpass123")
encrypting = pytest.mark.skipif(importlib.util.find_spec("cryptography") is None, reason="cryptography is not installed")


def captured(data: Path, name: str) -> bytes:
    return (data / "payloads" / "snmp" / name).read_bytes()


def read(datagram: bytes, config: SnmpConfig = PUBLIC, users: dict[bytes, User] | None = None) -> tuple[dict[str, Any], Datagram]:
    note = Datagram(datagram, "192.0.2.1", lambda data: None)
    row = Notifications(config, Engine(ENGINE, 1, users or {})).read(note, 7)
    assert row is not None
    return row, note


@pytest.mark.parametrize(
    ("name", "kind", "title", "severity", "status", "attributes"),
    [
        ("traps_v1v2c_v3.raw.dgram01.bin", "alert", "linkDown on 10.0.0.9 eth0", "high", "firing",
         {"host.name": "10.0.0.9", "host.ip": "10.0.0.9", "network.peer.address": "192.0.2.1", "snmp.version": "1", "snmp.uptime": "12345",
          "snmp.trap_oid": "1.3.6.1.6.3.1.1.5.3", "ifIndex.3": "3", "ifDescr.3": "eth0", "snmpTrapEnterprise.0": "1.3.6.1.4.1.8072.2.3"}),
        ("traps_v1v2c_v3.raw.dgram02.bin", "alert", "linkDown on 192.0.2.1 Gi0/3", "high", "firing",
         {"host.name": "192.0.2.1", "host.ip": "192.0.2.1", "network.peer.address": "192.0.2.1", "snmp.version": "2c",
          "snmp.uptime": "188786", "snmp.trap_oid": "1.3.6.1.6.3.1.1.5.3", "ifIndex.3": "3", "ifOperStatus.3": "2", "ifName.3": "Gi0/3"}),
        ("traps_v1v2c_v3.raw.dgram03.bin", "event", "coldStart on 192.0.2.1", "warning", "", None),
        ("snmpd_disman_and_coldstart_traps.raw.dgram01.bin", "event", "coldStart on 192.0.2.1", "warning", "", None),
        ("snmpd_disman_and_coldstart_traps.raw.dgram02.bin", "event", "authenticationFailure on 192.0.2.1", "warning", "", None),
        ("snmpd_disman_and_coldstart_traps.raw.dgram03.bin", "event", "1.3.6.1.4.1.8072.4.0.2 on 192.0.2.1", "info", "", None),
    ],
)  # fmt: skip
def test_captured_traps(
    data: Path, name: str, kind: str, title: str, severity: str, status: str, attributes: dict[str, str] | None
) -> None:
    row, note = read(captured(data, name))
    assert (row["kind"], row["title"], row["severity"], row["status"], row["time"]) == (kind, title, severity, status, 7)
    assert row["entity"] == f"host:{row['attributes']['host.ip']}"
    assert note.reply == b""
    if attributes is not None:
        assert row["attributes"] == attributes
    assert read(captured(data, name))[0]["id"] == row["id"]


def test_a_captured_inform_is_answered_with_itself_as_response(data: Path) -> None:
    inform = captured(data, "traps_v1v2c_v3.raw.dgram05.bin")
    row, note = read(inform)
    assert row["title"] == "linkDown on 192.0.2.1"
    at = inform.index(b"\xa6")
    assert note.reply == inform[:at] + b"\xa2" + inform[at + 1 :]


@encrypting
def test_a_captured_trap_of_version_3(data: Path) -> None:
    trap = captured(data, "traps_v1v2c_v3.raw.dgram04.bin")
    row, note = read(trap, users={b"aiops": AIOPS})
    assert (row["title"], row["attributes"]["snmp.version"], note.reply) == ("linkUp on 192.0.2.1", "3", b"")
    assert (row["status"], row["severity"]) == ("resolved", "info")
    for user, why in (
        (User("sha", b"otherpass123", "aes", b"privpass123"), "wrong authentication"), (User("sha", b"authpass123"), "configured"),
        (User(), "configured"), (User("md5", b"authpass123", "aes", b"privpass123"), "wrong authentication"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=why):
            read(trap, users={b"aiops": user})
    with pytest.raises(BadData):
        read(trap, users={b"aiops": User("sha", b"authpass123", "aes", b"otherpass123")})


def v2(trap: str, *binds: tuple[str, bytes], request: int = 1, tag: int = snmp_message.TRAP) -> bytes:
    pairs = [wrap(0x30, wrap_oid(snmp_message.TRAP_OID), wrap_oid(trap)), *(wrap(0x30, wrap_oid(oid), value) for oid, value in binds)]
    pdu = wrap(tag, wrap_number(request), wrap_number(0), wrap_number(0), wrap(0x30, *pairs))
    return wrap(0x30, wrap_number(1), wrap(4, b"public"), pdu)


def test_link_up_resolves_link_down_of_the_same_interface() -> None:
    def link(state: int, index: int) -> dict[str, Any]:
        return read(v2(f"1.3.6.1.6.3.1.1.5.{state}", (f"1.3.6.1.2.1.2.2.1.1.{index}", wrap_number(index))))[0]

    down, up, other = link(3, 300), link(4, 300), link(3, 4)
    assert down["fingerprint"] == up["fingerprint"] != other["fingerprint"]
    assert [row["status"] for row in (down, up, other)] == ["firing", "resolved", "firing"]


def test_what_the_settings_add() -> None:
    config = SnmpConfig.model_validate({
        "communities": ["public"], "hosts": {"192.0.2.9": "core-1"}, "names": {"1.3.6.1.4.1.9.9.13.1": "envmon"},
        "traps": {"1.3.6.1.4.1.9.9.13.3.0.1": {"name": "overheated", "severity": "critical"}},
    })  # fmt: skip
    row, _ = read(v2(
        "1.3.6.1.4.1.9.9.13.3.0.1", ("1.3.6.1.6.3.18.1.3.0", wrap(0x40, b"\xc0\0\2\x09")), ("1.3.6.1.6.3.18.1.4.0", wrap(4, b"secret")),
        ("1.3.6.1.4.1.9.9.13.1.7", wrap(0x42, b"\x5a")), ("1.3.6.1.4.1.9.1", wrap(4, b"\0\x1b\xff")),
        ("1.3.6.1.4.1.9.2", wrap(4, b"text\0")),
        ("1.3.6.1.4.1.9.3", wrap(0x46, b"\0" + b"\xff" * 8)), ("1.3.6.1.4.1.9.4", wrap(0x81)), ("1.3.6.1.4.1.9.5", wrap(2, b"\xff")),
    ), config)  # fmt: skip
    assert (row["kind"], row["title"], row["severity"], row["entity"]) == ("alert", "overheated on core-1", "critical", "host:core-1")
    values = {key: value for key, value in row["attributes"].items() if key.startswith(("1.3", "envmon"))}
    assert values == {
        "envmon.7": "90", "1.3.6.1.4.1.9.1": "00:1b:ff", "1.3.6.1.4.1.9.2": "text", "1.3.6.1.4.1.9.3": str(2**64 - 1),
        "1.3.6.1.4.1.9.4": "noSuchInstance", "1.3.6.1.4.1.9.5": "-1",
    }  # fmt: skip
    assert "secret" not in repr(row)


@pytest.mark.parametrize(
    "user",
    [{"auth": "sha"}, {"auth": "sha", "auth_password": "short"}, {"privacy": "aes", "privacy_password": "longenough"}, {"auth": "rot13"}],
)
def test_users_that_cannot_be(user: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SnmpConfig.model_validate({"users": {"u": user}})


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(datagram: bytes) -> None:
    quietly(datagram)


_trap = v2("1.3.6.1.6.3.1.1.5.3", ("1.3.6.1.2.1.2.2.1.1.3", wrap_number(3)))
_pdu = snmp_message.opened(_trap)[1][2]
_v3 = wrap(
    0x30, wrap_number(3), wrap(0x30, wrap_number(1), wrap_number(65507), wrap(4, b"\4"), wrap_number(3)),
    wrap(4, wrap(0x30, wrap(4, ENGINE), wrap_number(1), wrap_number(0), wrap(4, b"u"), wrap(4), wrap(4))),
    wrap(0x30, wrap(4, ENGINE), wrap(4), wrap(snmp_message.INFORM, snmp_message.content(_trap, _pdu))),
)  # fmt: skip


@given(st.sampled_from([_trap, _v3]), st.integers(0, 200), st.integers(0, 255), st.booleans())
@settings(max_examples=300)
def test_no_changed_byte_breaks_the_reader(datagram: bytes, place: int, value: int, cut: bool) -> None:
    place %= len(datagram)
    quietly(datagram[:place] + (b"" if cut else bytes([value]) + datagram[place + 1 :]))


def quietly(datagram: bytes) -> None:
    note = Datagram(datagram, "192.0.2.1", lambda data: None)
    with contextlib.suppress(BadData, Refused):
        Notifications(PUBLIC, Engine(ENGINE, 1, {b"u": User()})).read(note, 7)


def test_object_identifiers_and_lengths_there_and_back() -> None:
    for dotted in ("0.0", "1.3.6.1.4.1.8072.3.2.10", "2.999.3", "1.3.127.128.16383.16384.4294967295"):
        raw = wrap_oid(dotted)
        assert snmp_message.oid(raw, snmp_message.item_at(raw, 0, len(raw))) == dotted
    for size in (0, 127, 128, 255, 256, 70_000):
        assert snmp_message.item_at(wrap(4, bytes(size)), 0, size + 8).stop == len(wrap(4, bytes(size)))
    assert isinstance(snmp_message.item_at(wrap_number(128), 0, 4), Item)


class Peer:
    """pysnmp as the sender of notifications."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def notify(self, auth: Any, kind: str = "trap", trap: str = "1.3.6.1.6.3.1.1.5.3") -> str:
        """Send; what went wrong, "" when nothing did."""
        from pysnmp.hlapi.v3arch import asyncio as hlapi

        engine = hlapi.SnmpEngine()
        try:
            target = await hlapi.UdpTransportTarget.create(("127.0.0.1", self._port), timeout=3, retries=0)
            bind = hlapi.ObjectType(hlapi.ObjectIdentity("1.3.6.1.2.1.2.2.1.1.3"), hlapi.Integer(3))
            what = hlapi.NotificationType(hlapi.ObjectIdentity(trap)).add_varbinds(bind)
            problem, *_ = await hlapi.send_notification(engine, auth, target, hlapi.ContextData(), kind, what)
            return str(problem) if problem else ""
        finally:
            engine.close_dispatcher()


def protocols(hlapi: Any) -> list[tuple[dict[str, str], tuple[Any, ...]]]:
    """Users as they are configured here and there."""
    words = {"auth_password": "authpass123", "privacy_password": "privpass123"}
    auths = {"md5": hlapi.usmHMACMD5AuthProtocol, "sha": hlapi.usmHMACSHAAuthProtocol, "sha256": hlapi.usmHMAC192SHA256AuthProtocol,
             "sha512": hlapi.usmHMAC384SHA512AuthProtocol}  # fmt: skip
    privacies = {"des": hlapi.usmDESPrivProtocol, "aes": hlapi.usmAesCfb128Protocol, "aes256": hlapi.usmAesBlumenthalCfb256Protocol}
    found: list[tuple[dict[str, str], tuple[Any, ...]]] = [({}, ())]
    for name, protocol in auths.items():
        found.append(({"auth": name, "auth_password": words["auth_password"]}, ("authpass123", None, protocol)))
    if importlib.util.find_spec("cryptography") is not None:
        for name, protocol in privacies.items():
            found.append(({"auth": "sha", "privacy": name, **words}, ("authpass123", "privpass123", auths["sha"], protocol)))
    return found


def test_pysnmp_delivers_in_all_versions() -> None:
    hlapi = pytest.importorskip("pysnmp.hlapi.v3arch.asyncio")

    async def scenario() -> None:
        journal, users = Journal(), protocols(hlapi)
        settings = {"port": 0, "communities": ["public"], "users": {f"u{i}": user for i, (user, _) in enumerate(users)}}
        async with running(make(Snmp, settings), journal) as source:
            peer, expected = Peer(source.port), 0
            for version in (0, 1):
                assert await peer.notify(hlapi.CommunityData("public", mpModel=version)) == ""
            assert await peer.notify(hlapi.CommunityData("public", mpModel=1), "inform") == ""
            await until(lambda: len(journal.rows("event")) == 3)
            for i, (_, secrets) in enumerate(users):
                assert await peer.notify(hlapi.UsmUserData(f"u{i}", *secrets), "inform") == "", users[i][0]
                expected = 4 + i
                assert len(journal.rows("event")) == expected, "acknowledged before it was durable"
        assert {(row["title"], row["status"]) for row in journal.rows("event")} == {("linkDown on 127.0.0.1", "firing")}
        assert journal.kept == {"boots": 1}
        assert journal.rows("quarantine") == []

    asyncio.run(scenario())


def test_an_inform_is_acknowledged_only_when_it_is_durable() -> None:
    async def scenario() -> None:
        journal = Journal()
        journal.open = False
        inform = v2("1.3.6.1.6.3.1.1.5.1", tag=snmp_message.INFORM)
        async with running(make(Snmp, {"port": 0, "communities": ["public"]}), journal) as source:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.setblocking(False)
                udp.sendto(inform, ("127.0.0.1", source.port))
                await until(lambda: journal.refused > 2)
                with pytest.raises(BlockingIOError):
                    udp.recv(1000)
                journal.open = True
                answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(udp, 1000), 30)
        assert len(journal.rows("event")) == 1
        at = inform.index(b"\xa6")
        assert answer == inform[:at] + b"\xa2" + inform[at + 1 :]

    asyncio.run(scenario())


def test_who_may_not_send_is_counted_and_gets_no_answer() -> None:
    async def scenario() -> None:
        journal, meters = Journal(), Meters()
        async with running(make(Snmp, {"port": 0, "communities": ["other"]}, lent(meters)), journal) as source:
            send(source.port, _trap, b"no snmp")
            await until(lambda: meters["ninefold_snmp_refused_total"] == 2)
        assert journal.batches == [], "what anybody can send is not stored"

    asyncio.run(scenario())


def test_communities_are_not_in_quarantine() -> None:
    secret = wrap(0x30, wrap_oid("1.3.6.1.6.3.18.1.4.0"), wrap(4, b"hidden"))
    pdu = wrap(snmp_message.TRAP, wrap_number(1), wrap_number(0), wrap_number(0), wrap(0x30, secret))
    trap = wrap(0x30, wrap_number(1), wrap(4, b"public"), pdu)

    async def scenario() -> None:
        journal = Journal()
        async with running(make(Snmp, {"port": 0, "communities": ["public"]}), journal) as source:
            send(source.port, trap)
            await until(lambda: len(journal.rows("quarantine")) == 1)
        (row,) = journal.rows("quarantine")
        assert row["payload"] == trap.replace(b"public", b"******").replace(b"hidden", b"******")
        assert "does not name its trap" in row["reason"]

    asyncio.run(scenario())
    assert b"publi" not in bytes(Datagram(trap[:-1], "192.0.2.1", lambda data: None))


def test_an_old_message_says_nothing() -> None:
    clock = [1000.0]
    user = User("sha", b"authpass123")
    receiver = Engine(ENGINE, 5, {b"u": user}, lambda: clock[0])
    sender = Engine(b"device", 3, {b"u": user}, lambda: clock[0])
    first = _sent(sender, user)
    receiver.open(first)
    receiver.open(first)
    clock[0] += 151
    receiver.open(_sent(sender, user))
    with pytest.raises(Refused, match="old message"):
        receiver.open(first)
    receiver.open(_sent(Engine(b"device", 4, {}, lambda: clock[0]), user))
    with pytest.raises(Refused, match="old message"):
        receiver.open(_sent(sender, user))


def test_who_asks_learns_the_engine_first() -> None:
    receiver = Engine(ENGINE, 5, {b"u": User()})
    for datagram in (_v3.replace(ENGINE, b"\0\0\0\0\0test"), _v3.replace(wrap(4, b"u"), wrap(4, b"x"))):
        with pytest.raises(Report) as report:
            receiver.open(datagram)
        assert ENGINE in report.value.answer
    assert receiver.open(_v3).data == _v3


def _sent(sender: Engine, user: User) -> bytes:
    """A trap of an engine, sealed as it would send it."""
    from ninefold.sources import snmp_usm

    head = snmp_usm._Header(1, 0, b"", 0, 0, b"u", Item(4, 0, 0), b"")
    return sender._seal(head, user, wrap(0x30, wrap(4, b"device"), wrap(4), _trap[_pdu.start - 2 : _pdu.stop]))


@pytest.mark.real
def test_snmptrap_and_snmpinform_deliver() -> None:
    program = shutil.which("snmptrap")
    if program is None:
        pytest.skip("snmptrap is not installed; apt-get install snmp")
    user = {"auth": "sha", "auth_password": "authpass123"}
    users = {"aiops": user}
    plain = ["-v3", "-l", "authNoPriv", "-u", "aiops", "-a", "SHA", "-A", "authpass123"]
    sent = [["-v2c", "-c", "public"], ["-v2c", "-c", "public", "-Ci"], [*plain, "-e", "0x8000000001020304"], [*plain, "-Ci"]]
    if importlib.util.find_spec("cryptography") is not None:
        users["secret"] = {**user, "privacy": "aes", "privacy_password": "privpass123"}
        private = ["-v3", "-l", "authPriv", "-u", "secret", "-a", "SHA", "-A", "authpass123", "-x", "AES", "-X", "privpass123"]
        sent += [[*private, "-e", "0x8000000001020304"], [*private, "-Ci"]]

    async def scenario() -> None:
        journal = Journal()
        async with running(make(Snmp, {"port": 0, "communities": ["public"], "users": users}), journal) as source:
            for number, flags in enumerate(sent, 1):
                target = f"udp:127.0.0.1:{source.port}"
                bind = ["1.3.6.1.2.1.2.2.1.1.3", "i", "3"]
                environment = {**os.environ, "MIBS": ""}
                run = await asyncio.create_subprocess_exec(program, *flags, target, "", "1.3.6.1.6.3.1.1.5.3", *bind, env=environment)
                assert await run.wait() == 0, flags
                await until(lambda number=number: len(journal.rows("event")) == number)  # type: ignore[misc]
        assert {(row["title"], row["attributes"][-1]) for row in journal.rows("event")} == {("linkDown on 127.0.0.1", ("ifIndex.3", "3"))}

    asyncio.run(scenario())
