"""What messages of brokers hold: every format, a bad message apart, the same record when it comes again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.config import WebhookConfig
from ninefold.ground.clock import parse
from ninefold.model.signal import Decoded
from ninefold.plugin import Lent
from ninefold.sources.payload import Format, Message, PayloadConfig, Payloads
from ninefold.sources.webhook import Reader

RECEIVED = parse("2026-11-22T15:00:00Z")
TAKEN = parse("2026-11-22T14:00:00Z")
FORMATS: list[Format] = ["json", "text", "syslog", "otlp_metrics", "otlp_logs", "otlp_traces", "remote_write", "cloudevents"]


def decode(format_: Format, *messages: Message | bytes, mapping: Any = None, **more: Any) -> Decoded:
    payloads = Payloads(PayloadConfig(format=format_, **more), "bus", Lent(mapping=lambda name: mapping))
    return payloads.decode([message if isinstance(message, Message) else Message(message, "topic") for message in messages], RECEIVED)


def rows(decoded: Decoded, signal: str) -> list[dict[str, Any]]:
    return [row for batch in decoded.batches if batch.signal == signal for row in batch.rows.to_pylist()]


def test_json_records_of_many_messages_are_one_batch_and_say_where_they_came_from() -> None:
    decoded = decode(
        "json", b'{"title": "a", "time": "2026-11-22T13:00:00Z"}', b'[{"title": "b"}, 7]', b'{"events": [{"title": "c"}]}', b"{"
    )
    assert [batch.signal for batch in decoded.batches] == ["raw", "quarantine"]
    records = [json.loads(row["payload"]) for row in rows(decoded, "raw")]
    assert [(record["title"], record["messaging.destination.name"]) for record in records] == [(t, "topic") for t in "abc"]
    assert {row["format"] for row in rows(decoded, "raw")} == {"webhook:bus"}
    assert decoded.rejected == 2
    assert {row["payload"] for row in rows(decoded, "quarantine")} == {b"7", b"{"}


@pytest.mark.parametrize("timed", [True, False])
def test_a_message_delivered_again_is_the_same_event_with_or_without_a_time_of_its_own(timed: bool) -> None:
    record = {"title": "disk full", "severity": "critical"} | ({"startsAt": "2026-11-22T13:00:00Z"} if timed else {})
    message = Message(json.dumps(record).encode(), "alarms", "alarms/0/7", TAKEN)
    payload = rows(decode("json", message), "raw")[0]["payload"]
    first, again = (Reader("bus").to_event(payload, RECEIVED + later) for later in (0, 10**9))
    assert first["id"] == again["id"]
    assert first["time"] == (parse("2026-11-22T13:00:00Z") if timed else TAKEN)
    assert first["attributes"]["messaging.destination.name"] == "alarms"
    assert ("messaging.message.id" in first["attributes"]) is not timed


def test_a_mapping_with_a_path_to_the_records_and_its_own_time_is_used() -> None:
    mapping = WebhookConfig(records="data.rows", fields={"title": "what", "time": "at"})
    body = json.dumps({"data": {"rows": [{"what": "order 1", "at": 1795353440}]}}).encode()
    (row,) = rows(decode("json", Message(body, "t", "t/1", TAKEN), mapping=mapping), "raw")
    event = Reader("bus", mapping).to_event(row["payload"], RECEIVED)
    assert (event["title"], event["time"]) == ("order 1", 1795353440 * 10**9)


def test_text_keeps_a_stack_trace_with_its_line() -> None:
    body = b"2026-11-22T13:00:00Z ERROR boom\n\tat a\n\tat b\n2026-11-22T13:00:01Z INFO on\n"
    found = rows(decode("text", Message(body, "logs"), b"no time", entity="service:shop"), "log")
    assert [row["body"].count("\n") for row in found] == [2, 0, 0]
    assert [row["time"].value for row in found] == [parse("2026-11-22T13:00:00Z"), parse("2026-11-22T13:00:01Z"), RECEIVED]
    assert {row["entity"] for row in found} == {"service:shop"}
    assert dict(found[0]["attributes"]) == {"messaging.destination.name": "logs"}


def test_syslog_and_what_is_none(data: Path) -> None:
    message = (data / "payloads/syslog/rsyslog_udp_rfc5424.raw.dgram01.bin").read_bytes()
    decoded = decode("syslog", message + b"\n" + message, b"\x00")
    assert len(rows(decoded, "log")) == 2
    assert len(rows(decoded, "quarantine")) == 1


@pytest.mark.parametrize(("format_", "name", "signal"), [
    ("otlp_metrics", "metrics", "metric"), ("otlp_logs", "logs", "log"), ("otlp_traces", "traces", "span"),
])  # fmt: skip
def test_otlp_as_a_collector_writes_it_is_the_same_in_any_compression(data: Path, format_: Format, name: str, signal: str) -> None:
    body = (data / f"payloads/otlp_http/POST_v1_{name}_01.body.pb").read_bytes()
    plain = decode(format_, body, b"\xff\xff")
    packed = decode(format_, Message(gzip.compress(body), "topic", headers={"content-encoding": "gzip"}))
    assert rows(plain, signal) == rows(packed, signal) != []
    assert len(rows(plain, "quarantine")) == 1


def test_remote_write_is_snappy_unless_said_otherwise(data: Path) -> None:
    body = (data / "payloads/prometheus/POST_api_v1_write_01.body.bin.snappy").read_bytes()
    plain = bytes(cramjam.snappy.decompress_raw(body))
    first = decode("remote_write", body)
    assert rows(first, "metric") == rows(decode("remote_write", plain, encoding="identity"), "metric") != []
    assert next(batch.signal for batch in first.batches) == "series"


def test_series_that_were_not_kept_are_described_again(data: Path) -> None:
    body = (data / "payloads/prometheus/POST_api_v1_write_01.body.bin.snappy").read_bytes()
    payloads = Payloads(PayloadConfig(format="remote_write"), "bus", Lent())
    first = payloads.decode([Message(body)], RECEIVED)
    assert rows(payloads.decode([Message(body)], RECEIVED), "series") == []
    payloads.forget(first.batches)
    assert rows(payloads.decode([Message(body)], RECEIVED), "series") == rows(first, "series")


@pytest.mark.parametrize("prefix", ["ce_", "cloudEvents:", "ce-"])
def test_cloudevents_in_both_modes_and_any_brokers_header_names(prefix: str) -> None:
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    headers = {f"{prefix}{name}".lower(): value for name, value in attributes.items()} | {"content-type": "application/json"}
    binary = decode("cloudevents", Message(b'{"title": "x"}', "t", headers=headers))
    structured = decode("cloudevents", json.dumps(attributes | {"data": {"title": "x"}}).encode())
    found = [json.loads(rows(decoded, "raw")[0]["payload"]) for decoded in (binary, structured)]
    assert [(event["id"], event["data"]) for event in found] == [("1", {"title": "x"})] * 2


@given(st.sampled_from(FORMATS), st.lists(st.binary(max_size=60) | st.text(max_size=40).map(str.encode), max_size=4))
def test_any_bytes_are_decoded_or_quarantined(format_: Format, bodies: list[bytes]) -> None:
    decoded = decode(format_, *bodies, encoding="identity")
    assert bool(decoded.rejected) == bool(rows(decoded, "quarantine"))
    assert {batch.source for batch in decoded.batches} <= {"bus"}


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(-9, 9), min_size=1, max_size=3), min_size=1, max_size=6), st.data())
def test_however_messages_are_cut_into_lots_the_rows_are_the_same(records: list[dict[str, int]], data: st.DataObject) -> None:
    messages = [Message(json.dumps(record).encode(), "t", f"t/{i}", TAKEN) for i, record in enumerate(records)]
    cut = data.draw(st.integers(0, len(messages)))
    payloads = Payloads(PayloadConfig(), "bus", Lent())
    parts = [payloads.decode(part, RECEIVED) for part in (messages[:cut], messages[cut:])]
    assert rows(payloads.decode(messages, RECEIVED), "raw") == [row for part in parts for row in rows(part, "raw")]
