"""collectd's write_http: captured bytes in all three formats, notifications, and what cannot be read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, NinefoldError
from ninefold.model.signal import Decoded
from ninefold.plugin import Asked, Door, Lent
from ninefold.sources.collectd_http import CollectdConfig, CollectdHttp
from ninefold.sources.webhook import Reader

RECEIVED = parse("2026-11-22T15:00:00Z")
TIME = 1795351521929 * 10**6


def door(store_rates: bool = False) -> Door:
    (found,) = CollectdHttp("collectd_http", CollectdConfig(store_rates=store_rates), Lent()).doors()
    return found


def read(body: bytes, at: Door | None = None) -> Decoded:
    at = at or door()
    asked = Asked("collectd", RECEIVED, body)
    decoded = at.accept(asked)
    assert at.answer(asked, decoded).status == 202
    return decoded


def rows(decoded: Decoded, signal: str) -> list[dict[str, Any]]:
    return [row for batch in decoded.batches if batch.signal == signal for row in batch.rows.to_pylist()]


def points(decoded: Decoded) -> dict[tuple[str, ...], tuple[int, float]]:
    """Time and value by name and attribute values; a later point of a series replaces the earlier."""
    series = {row["series"]: (row["name"], *dict(row["attributes"]).values()) for row in rows(decoded, "series")}
    return {series[row["series"]]: (row["time"].value, row["value"]) for row in reversed(rows(decoded, "metric"))}


def captured(data: Path, name: str) -> bytes:
    (path,) = (data / "payloads/collectd").glob(f"POST_write_http_{name}.body.*")
    return path.read_bytes()


FIRST = {
    ("collectd_memory", "web-1", "used"): (TIME, 1753559040.0),
    ("collectd_df_df_complex", "web-1", "root", "free"): (TIME, 57716117504.0),
    ("collectd_load_shortterm", "web-1"): (TIME, 10.1982421875),
    ("collectd_load_longterm", "web-1"): (TIME, 8.12158203125),
}


def test_each_format_tells_the_same_series(data: Path) -> None:
    putval = points(read(captured(data, "putval_01")))
    kairos = points(read(b"[" + b",".join(captured(data, f"kairosdb_0{i}").strip()[1:-1] for i in (1, 2, 3)) + b"]"))
    values = points(read(b"[" + b",".join(captured(data, f"json_0{i}").strip()[1:-1] for i in (2, 3)) + b"]"))
    assert {key: putval[key] for key in FIRST} == FIRST
    assert {key: kairos[key] for key in FIRST} == FIRST
    shared = set(putval) & set(kairos) & set(values)
    assert len(shared) > 15
    assert all(putval[key] == kairos[key] == values[key] for key in shared if putval[key][0] == kairos[key][0] == values[key][0] == TIME)


def test_what_json_says_of_a_series(data: Path) -> None:
    at = door()
    decoded = read(captured(data, "json_02"), at)
    told = {row["name"]: row for row in rows(decoded, "series")}
    memory = told["collectd_memory"]
    assert (memory["kind"], memory["entity"]) == ("gauge", "host:web-1")
    cpu = next(item for item in json.loads(captured(data, "json_03")) if item["type"] == "cpu" and item["type_instance"] == "user")
    for kind, store_rates, expected in (("derive", False, "counter"), ("absolute", False, "delta"), ("derive", True, "gauge")):
        item = cpu | {"values": [90863], "dstypes": [kind]}
        (row,) = rows(read(orjson.dumps([item]), door(store_rates)), "series")
        assert (row["name"], row["kind"], dict(row["attributes"])["type_instance"]) == ("collectd_cpu", expected, "user")
    assert decoded.rejected == 0
    assert [batch.signal for batch in read(captured(data, "json_02"), at).batches] == ["metric"], "described once"
    assert at.forget is not None
    at.forget(decoded.batches)
    assert [batch.signal for batch in read(captured(data, "json_02"), at).batches] == ["series", "metric"]


def test_a_notification_becomes_an_alert_and_okay_resolves_it(data: Path) -> None:
    body = captured(data, "json_01")
    (alert,) = json.loads(body)
    okay = alert | {"labels": alert["labels"] | {"severity": "OKAY"}, "startsAt": "2026-11-22T12:50:00Z"}
    reader = Reader("collectd")
    events = []
    for raw in (body, orjson.dumps([okay])):
        (batch,) = read(raw).batches
        assert (batch.signal, batch.rows.column("format").to_pylist()) == ("raw", ["webhook:collectd"])
        events.append(reader.to_event(batch.rows.column("payload").to_pylist()[0], RECEIVED))
    raised, ended = events
    assert (raised["kind"], raised["status"], raised["severity"], raised["severity_raw"]) == ("alert", "firing", "critical", "FAILURE")
    assert (raised["entity"], raised["time"]) == ("host:web-1", parse("2026-11-22T12:45:21.929142912Z"))
    assert (ended["status"], ended["severity"], ended["fingerprint"]) == ("resolved", "info", raised["fingerprint"])


def test_commands_with_quotes_options_and_now() -> None:
    body = (
        b'PUTVAL "web 1/interface-eth0/if_octets" interval=10.000 meta:x=1 N:1:2\r\n'
        b"PUTVAL h/exec-a/foo-b-c 1795351521.5:U\nputval h/p/t 1795351521:3:4"
    )
    decoded = read(body)
    assert points(decoded) == {
        ("collectd_interface_if_octets_rx", "web 1", "eth0"): (RECEIVED, 1.0),
        ("collectd_interface_if_octets_tx", "web 1", "eth0"): (RECEIVED, 2.0),
        ("collectd_p_t_0", "h"): (1795351521 * 10**9, 3.0),
        ("collectd_p_t_1", "h"): (1795351521 * 10**9, 4.0),
    }
    assert decoded.rejected == 0


def test_bad_records_are_in_quarantine_and_the_rest_is_kept(data: Path) -> None:
    good = json.loads(captured(data, "json_02"))[:2]
    broken = [3, {}, good[0] | {"values": []}, good[0] | {"time": "x"}, good[0] | {"values": ["x"]}, good[0] | {"plugin": ""}]
    broken += [{"name": "a", "datapoints": [[1]], "tags": {}}, {"name": "", "datapoints": [], "tags": {}}]
    decoded = read(orjson.dumps([*broken, *good]))
    assert len(rows(decoded, "metric")) == 2
    assert [row["where"] for row in rows(decoded, "quarantine")] == [f"record {place}" for place in range(len(broken))]
    assert orjson.loads(rows(decoded, "quarantine")[3]["payload"])["time"] == "x"
    assert rows(read(orjson.dumps([good[0] | {"values": [None]}])), "metric") == [], "a value that is not there is no point"
    for odd in (good[0] | {"host": "h" * 2000}, good[0] | {"values": [1] * 1001, "dsnames": ["a"] * 1001}):
        assert read(orjson.dumps([odd])).rejected == 1, "no collectd sends this"
    lines = read(b"PUTVAL h/p/t 1795351521:1\nPUTVAL h/p 1:2\nGETVAL h\n\xff\nPUTVAL h/p/t soon:1\nPUTVAL h/p/t 1795351521:x")
    assert (len(rows(lines, "metric")), lines.rejected) == (1, 5)


def test_what_cannot_be_read_at_all() -> None:
    for body in (b"", b"\n \n", b"[", b"{"):
        with pytest.raises(BadData):
            read(body)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 1 << 62) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["host", "ds", "type", "x"]), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ["values", "dsnames", "dstypes", "time", "plugin", "type", "name", "datapoints", "tags", "labels", "host"]


@given(st.lists(st.dictionaries(st.sampled_from(_KEYS), _VALUES), max_size=3))
def test_any_json_is_read_or_quarantined(items: list[Any]) -> None:
    with contextlib.suppress(NinefoldError):
        read(orjson.dumps(items))


@given(st.text('PUTVAL h/p-"t:1.N=\n', max_size=40))
def test_any_commands_are_read_or_quarantined(text: str) -> None:
    with contextlib.suppress(NinefoldError):
        read(b"PUTVAL " + text.encode())
