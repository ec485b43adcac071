"""CloudEvents in their three HTTP modes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData
from ninefold.sources import cloudevents

RECEIVED = parse("2026-11-22T12:00:00Z")
EVENT = {
    "specversion": "1.0", "id": "A-1", "source": "/ci/deployer", "type": "com.example.deployment.finished", "time": "2026-11-22T11:59:00Z",
    "datacontenttype": "application/json", "data": {"summary": "checkout 1.4.2 rolled out", "service": "checkout", "version": "1.4.2"},
    "region": "eu",
}  # fmt: skip
BINARY = {
    "content-type": "application/json; charset=utf-8", "ce-specversion": "1.0", "ce-id": "A-1", "ce-source": "/ci/deployer",
    "ce-type": "com.example.deployment.finished", "ce-time": "2026-11-22T11:59:00Z", "ce-region": "eu",
}  # fmt: skip


def read(headers: dict[str, str], body: bytes) -> list[dict[str, Any]]:
    (batch,) = cloudevents.accept(headers, body, "ce", RECEIVED).batches
    return [cloudevents.to_event(payload, RECEIVED) for payload in batch.rows.column("payload").to_pylist()]


def structured(event: dict[str, Any]) -> list[dict[str, Any]]:
    return read({"content-type": "application/cloudevents+json"}, orjson.dumps(event))


def test_the_three_modes_give_the_same_event() -> None:
    (one,) = structured(EVENT)
    (two,) = read({"content-type": "application/cloudevents-batch+json; charset=utf-8"}, orjson.dumps([EVENT]))
    (three,) = read(BINARY, orjson.dumps(EVENT["data"]))
    for event in (one, two, three):
        assert {key: event[key] for key in ("time", "kind", "source_id", "entity", "title", "severity", "status")} == {
            "time": parse("2026-11-22T11:59:00Z"), "kind": "deployment", "source_id": "A-1", "entity": "service:checkout",
            "title": "checkout 1.4.2 rolled out", "severity": "info", "status": "",
        }  # fmt: skip
        assert event["attributes"] == {
            "region": "eu", "summary": "checkout 1.4.2 rolled out", "service": "checkout", "version": "1.4.2",
            "cloudevents.source": "/ci/deployer", "cloudevents.type": "com.example.deployment.finished",
        }  # fmt: skip
    assert one["id"] == two["id"] == three["id"]
    assert one["fingerprint"] == two["fingerprint"] == three["fingerprint"]


@pytest.mark.parametrize(
    ("type_", "kind", "status"),
    [
        ("com.acme.Alert.raised", "alert", "firing"), ("deploy.done", "deployment", ""), ("repo.changed", "change", ""),
        ("ninefold.truth", "truth", ""), ("ninefold.business", "business", ""), ("order.paid", "event", ""), ("ninefold.", "event", ""),
        ("ninefold.approval", "event", ""), ("ninefold.incident", "event", ""), ("ninefold.workflow", "event", ""),
    ],
)  # fmt: skip
def test_the_type_decides_the_kind(type_: str, kind: str, status: str) -> None:
    (event,) = structured(EVENT | {"type": type_})
    assert (event["kind"], event["status"]) == (kind, status)


def test_source_and_id_are_the_identity() -> None:
    (first,) = structured(EVENT)
    (other_data,) = structured(EVENT | {"data": None})
    (other_id,) = structured(EVENT | {"id": "A-2"})
    (shifted,) = structured(EVENT | {"source": "/ci/deployerA", "id": "-1"})
    assert first["id"] == other_data["id"]
    assert len({first["id"], other_id["id"], shifted["id"]}) == 3


def test_data_of_other_kinds() -> None:
    (text,) = read(BINARY | {"content-type": "text/plain"}, b"disk full")
    assert text["title"] == "disk full"
    (xml,) = read(BINARY | {"content-type": "application/octet-stream"}, b"\xff\x00")
    assert xml["title"] == "com.example.deployment.finished"
    (encoded,) = read(BINARY | {"ce-subject": "caf%C3%A9"}, b"")
    assert encoded["title"] == "café"
    (subject,) = structured(EVENT | {"data": {}, "subject": "service:cart", "time": None})
    assert (subject["entity"], subject["time"]) == ("service:cart", RECEIVED)


def test_a_bad_event_in_a_batch_goes_to_quarantine_alone() -> None:
    batch = [EVENT, {"id": "x"}, 7, EVENT | {"specversion": "2.0"}, EVENT | {"id": "A-9"}]
    decoded = cloudevents.accept({"content-type": "application/cloudevents-batch+json"}, orjson.dumps(batch), "ce", RECEIVED)
    raw, quarantined = decoded.batches
    assert (raw.rows.num_rows, decoded.rejected) == (2, 3)
    reasons = quarantined.rows.column("reason").to_pylist()
    assert "specversion, source, type" in reasons[0]
    assert "2.0" in reasons[2]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "application/cloudevents+json"}, b'{"id": "1"}'),
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"content-type": "application/cloudevents-batch+json"}, orjson.dumps(EVENT)),
        (BINARY, b"{not json"),
    ],
)
def test_what_is_no_cloud_event_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadData):
        cloudevents.accept(headers, body, "ce", RECEIVED)


def test_a_time_that_is_none_names_the_field() -> None:
    with pytest.raises(BadData) as caught:
        cloudevents.to_event(orjson.dumps(EVENT | {"time": "yesterday"}), RECEIVED)
    assert caught.value.where == "time"
