"""collectd's network protocol: captured packets against what the same collectd said in PUTVAL, protection, and bytes that are wrong."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib.util
import math
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sockets import Journal, Meters, lent, make, rows, running, send, until

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import ConfigError
from ninefold.model.signal import Decoded
from ninefold.sources import collectd_names, replay
from ninefold.sources.collectd_network import CollectdNetwork, Guard, Packets

RECEIVED = 1_795_351_600 * SECOND
USERS = {b"u": b"secret"}
encrypting = pytest.mark.skipif(importlib.util.find_spec("cryptography") is None, reason="cryptography is not installed")


def captured(data: Path, kind: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((data / "payloads" / "collectd").glob(f"network_{kind}.raw.dgram*.bin"))]


def read(packets: list[bytes], level: str = "none", users: dict[bytes, bytes] | None = None) -> tuple[Decoded, list[str]]:
    refused: list[str] = []
    return Packets(Guard(level, users), collectd_names.DATA_SOURCES, refused.append).decode(packets, "collectd", RECEIVED), refused


def values(decoded: Decoded) -> dict[tuple[Any, ...], float]:
    """(metric, instances, time) -> value."""
    known = {row["series"]: (row["name"], *row["attributes"]) for row in rows(decoded, "series")}
    return {(*known[row["series"]], row["time"]): row["value"] for row in rows(decoded, "metric")}


def part(kind: int, body: bytes) -> bytes:
    return struct.pack(">HH", kind, len(body) + 4) + body


def said(plugin: str, type_: str, packed: list[tuple[int, bytes]], time: int = 1) -> bytes:
    kinds, numbers = bytes(kind for kind, _ in packed), b"".join(number for _, number in packed)
    texts = part(0, b"h\0") + part(1, struct.pack(">Q", time)) + part(2, plugin.encode() + b"\0") + part(4, type_.encode() + b"\0")
    return texts + part(6, struct.pack(">H", len(packed)) + kinds + numbers)


def test_captured_values_are_those_of_putval(data: Path) -> None:
    """The same collectd wrote the first round of its readings in both forms; names are put together here on their own."""
    decoded, _ = read(captured(data, "plain"))
    first: dict[tuple[Any, ...], float] = {}
    for key, value in values(decoded).items():
        first.setdefault(key[:-1], value)
    checked = 0
    for path in sorted((data / "payloads" / "collectd").glob("POST_write_http_putval_*.body.txt")):
        for line in path.read_text().split("\n"):
            match = re.fullmatch(r"PUTVAL web-1/([^/]+)/([^ ]+) interval=\S+ (?:[0-9.]+):(\S+)\r?", line)
            if match is None or ":" in match[3] or match[3] == "nan":
                continue
            plugin, _, instance = match[1].partition("-")
            type_, _, type_instance = match[2].partition("-")
            name = "_".join(["collectd", plugin] + ([type_] if type_ != plugin else []))
            attributes = [("host.name", "web-1"), ("plugin_instance", instance), ("type_instance", type_instance)]
            key = (name, *((key, value) for key, value in attributes if value))
            if first.get(key) == float(match[3]):
                checked += 1
    assert checked > 20
    assert min(key[-1] for key in values(decoded)) == pytest.approx(1795351521.929 * SECOND, abs=SECOND / 500)
    assert ("collectd_load_shortterm", ("host.name", "web-1")) in first
    assert {row["entity"] for row in rows(decoded, "series")} == {"host:web-1"}


@pytest.mark.parametrize(("kind", "level"), [("signed", "sign"), pytest.param("encrypted", "encrypt", marks=encrypting)])
def test_protected_packets_say_the_same_as_plain_ones(data: Path, kind: str, level: str) -> None:
    plain, refused = read(captured(data, "plain"))
    protected, none = read(captured(data, kind), level, USERS)
    assert values(protected) == values(plain) != {}
    assert refused == none == []
    event, = rows(protected, "event")  # fmt: skip
    assert (event["kind"], event["severity"], event["severity_raw"], event["status"]) == ("alert", "critical", "FAILURE", "firing")
    assert (event["entity"], event["time"]) == ("host:web-1", 1795351521929142911)
    assert event["title"].startswith('Host web-1, plugin load type load: Data source "shortterm" is currently 10.198242.')
    assert event["id"] == rows(plain, "event")[0]["id"]


@pytest.mark.parametrize(
    ("kind", "level", "users", "why"),
    [
        ("plain", "sign", USERS, "plain"), ("plain", "encrypt", USERS, "plain"), ("signed", "encrypt", USERS, "not encrypted"),
        ("signed", "sign", {b"u": b"other"}, "wrong signature"), ("signed", "none", {b"u": b"other"}, "wrong signature"),
        ("signed", "sign", {b"v": b"secret"}, "unknown user"), ("encrypted", "none", {}, "unknown user"),
        pytest.param("encrypted", "encrypt", {b"u": b"other"}, "wrong password", marks=encrypting),
    ],
)  # fmt: skip
def test_what_is_not_protected_well_enough_is_refused(data: Path, kind: str, level: str, users: dict[bytes, bytes], why: str) -> None:
    decoded, refused = read(captured(data, kind), level, users)
    assert decoded.batches == []
    assert set(refused) == {why}


def test_without_users_a_signature_is_only_read_over(data: Path) -> None:
    assert values(read(captured(data, "signed"))[0]) == values(read(captured(data, "plain"))[0])


def test_every_kind_of_value_and_data_sources() -> None:
    numbers = [(0, struct.pack(">Q", 2**60)), (1, struct.pack("<d", 0.5)), (2, struct.pack(">q", -3)), (3, struct.pack(">Q", 7))]
    packet = (
        said("p", "many", numbers) + said("if", "if_octets", [numbers[2], numbers[0]]) + said("g", "g", [(1, struct.pack("<d", math.nan))])
    )
    decoded, _ = read([packet])
    found = {key[0]: value for key, value in values(decoded).items()}
    assert found == {
        "collectd_p_many_0": 2.0**60, "collectd_p_many_1": 0.5, "collectd_p_many_2": -3, "collectd_p_many_3": 7,
        "collectd_if_if_octets_rx": -3, "collectd_if_if_octets_tx": 2.0**60,
    }  # fmt: skip
    kinds = {row["name"].removeprefix("collectd_"): row["kind"] for row in rows(decoded, "series")}
    assert kinds == {
        "p_many_0": "counter", "p_many_1": "gauge", "p_many_2": "counter", "p_many_3": "delta", "if_if_octets_rx": "counter",
        "if_if_octets_tx": "counter", "g": "gauge",
    }  # fmt: skip
    assert collectd_names.types_of("# types\nmany  a:GAUGE:0:U, b:DERIVE:0:U\n\none value:GAUGE:U:U") == {
        "many": ("a", "b"),
        "one": ("value",),
    }


def test_what_fails_and_recovers_has_one_fingerprint() -> None:
    def told(severity: int) -> bytes:
        return said("load", "load", [(1, struct.pack("<d", 1))]) + part(0x101, struct.pack(">Q", severity)) + part(0x100, b"text\0")

    events = rows(read([told(1), told(2), told(4)])[0], "event")
    assert [(row["severity"], row["status"]) for row in events] == [("critical", "firing"), ("warning", "firing"), ("info", "resolved")]
    assert len({row["fingerprint"] for row in events}) == 1
    assert len({row["id"] for row in events}) == 3


@pytest.mark.parametrize(
    "tail",
    [
        b"\0", part(6, b"\0\1\1"), part(6, b"\0\1\x09" + b"0" * 8), part(1, b"0"), part(2, b"\xff") + part(6, b"\0"),
        struct.pack(">HH", 9, 3), part(1, b"\xff" * 8),
    ],
)  # fmt: skip
def test_what_precedes_a_broken_part_is_kept(tail: bytes) -> None:
    packet = said("p", "t", [(1, struct.pack("<d", 1))]) + tail
    decoded, _ = read([packet, said("q", "t", [(1, struct.pack("<d", 2))])])
    assert sorted(values(decoded).values()) == [1, 2]
    (bad,) = rows(decoded, "quarantine")
    assert bad["payload"] == packet


def test_what_is_in_quarantine_can_be_read_again_without_its_password() -> None:
    good = said("p", "t", [(1, struct.pack("<d", 1))])
    packet = good + part(1, b"0")
    signed = part(0x200, hmac.digest(b"secret", b"u" + packet, hashlib.sha256) + b"u") + packet
    decoded, _ = read([signed], "sign", USERS)
    (batch,) = (batch for batch in decoded.batches if batch.signal == "quarantine")
    (again,) = (found for found in replay.batches(pa.Table.from_batches([batch.rows]), 7) if found.signal == "quarantine")
    assert again.rows.to_pylist()[0]["reason"] == batch.rows.to_pylist()[0]["reason"]
    assert (again.rows.to_pylist()[0]["format"], again.rows.to_pylist()[0]["payload"]) == ("collectd_network", packet)
    corrected = batch.rows.to_pylist()[0] | {"payload": good}
    assert {found.signal for found in replay.batches(pa.Table.from_pylist([corrected]), 7)} == {"series", "metric"}
    (sealed,) = replay.batches(pa.Table.from_pylist([corrected | {"payload": b"\x02\x10\0\x40\0\1u" + bytes(80)}]), 7)
    assert "cannot be opened" in sealed.rows.to_pylist()[0]["reason"]


@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    kind = st.one_of(st.sampled_from([0, 1, 2, 4, 6, 8, 0x100, 0x101, 0x200, 0x210]), st.integers(0, 0xFFFF))
    parts = st.lists(st.tuples(kind, st.binary(max_size=24)).map(lambda pair: part(*pair)), max_size=6).map(b"".join)
    packet = data.draw(st.one_of(parts, st.binary(max_size=80)))
    values(read([packet])[0])
    values(read([packet], "sign", USERS)[0])


def test_over_udp() -> None:
    async def scenario() -> None:
        journal, meters = Journal(), Meters()
        settings = {"port": 0, "security_level": "sign", "users": {"u": "secret"}}
        packet = said("p", "t", [(1, struct.pack("<d", 1))])
        signed = part(0x200, hmac.digest(b"secret", b"u" + packet, hashlib.sha256) + b"u") + packet
        async with running(make(CollectdNetwork, settings, lent(meters)), journal) as source:
            send(source.port, packet, signed)
            await until(lambda: len(journal.rows("metric")) == 1 and meters["ninefold_collectd_network_refused_total"] == 1)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"security_level": "sign"}, "users"),
        ({"auth_file": "/nowhere/at/all"}, "cannot be read"),
        ({"types_db": ["/nowhere"]}, "cannot be read"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        asyncio.run(make(CollectdNetwork, {"port": 0, **settings}).run(Journal().emit))


@pytest.mark.real
def test_collectd_delivers(tmp_path: Path) -> None:
    program = shutil.which("collectd") or shutil.which("collectd", path="/usr/sbin")
    if program is None:
        pytest.skip("collectd is not installed; apt-get install collectd-core")

    async def scenario() -> None:
        journal = Journal()
        (tmp_path / "users").write_text("u: secret\n")
        async with running(
            make(CollectdNetwork, {"port": 0, "security_level": "sign", "auth_file": tmp_path / "users"}), journal
        ) as source:
            (tmp_path / "collectd.conf").write_text(
                f'Hostname "web-1"\nFQDNLookup false\nBaseDir "{tmp_path}"\nPIDFile "{tmp_path}/pid"\nInterval 0.05\n'
                f"LoadPlugin load\nLoadPlugin memory\nLoadPlugin network\n<Plugin network>\n"
                f'<Server "127.0.0.1" "{source.port}">\nSecurityLevel "Sign"\n'
                'Username "u"\nPassword "secret"\n</Server>\n</Plugin>\n'
            )
            daemon = await asyncio.create_subprocess_exec(program, "-f", "-C", str(tmp_path / "collectd.conf"))
            try:
                await until(lambda: any(row["name"] == "collectd_load_shortterm" for row in journal.rows("series")))
            finally:
                daemon.terminate()
                await daemon.wait()

    asyncio.run(scenario())
