"""Alertmanager's webhook and the API Prometheus posts to, with the captured payloads of the real programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from ninefold.ground.clock import SECOND, parse
from ninefold.ground.errors import BadData
from ninefold.model.entity import fingerprint
from ninefold.sources import alertmanager

RECEIVED = parse("2026-11-22T12:33:20Z")
LABELS = {
    "alertname": "JobQueueDeep", "cluster": "lab", "instance": "w1", "job": "batch", "queue": "mail", "replica": "a", "severity": "warning",
}  # fmt: skip


def read(body: bytes, accept: Any = alertmanager.accept_webhook, received: int = RECEIVED) -> list[dict[str, Any]]:
    (batch,) = accept(body, "am", received).batches
    assert batch.signal == "raw"
    assert set(batch.rows.column("format").to_pylist()) == {"alertmanager"}
    return [alertmanager.to_event(payload, received) for payload in batch.rows.column("payload").to_pylist()]


def capture(data: Path, name: str) -> bytes:
    return (data / "payloads" / name).read_bytes()


def test_a_firing_webhook_reads_value_by_value(data: Path) -> None:
    (event,) = read(capture(data, "alertmanager/POST_webhook_01.body.json"))
    raw = event.pop("raw")
    assert orjson.loads(raw)["groupKey"] == '{}:{alertname="TargetDown", cluster="lab"}'
    event.pop("id")
    assert event == {
        "time": parse("2026-11-22T12:32:24.709Z"),
        "kind": "alert",
        "source_id": "6ad6c3c5de3c5a8c",
        "fingerprint": "6ad6c3c5de3c5a8c",
        "entity": "service:checkout",
        "title": "deadsvc on 127.0.0.1:21999 is down",
        "body": "up==0",
        "severity": "critical",
        "severity_raw": "critical",
        "status": "firing",
        "attributes": {
            "alertname": "TargetDown", "cluster": "lab", "instance": "127.0.0.1:21999", "job": "deadsvc", "replica": "a",
            "service": "checkout", "severity": "critical", "team": "sre",
            "annotation.runbook_url": "https://wiki.example/target-down",
            "alertmanager.starts_at": "2026-11-22T12:32:24.709Z",
            "alertmanager.generator_url": "http://vm:21090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
            "alertmanager.receiver": "us",
            "alertmanager.group_key": '{}:{alertname="TargetDown", cluster="lab"}',
            "alertmanager.external_url": "http://vm:21093",
        },
        "why": ("alertmanager", "sender"),
    }  # fmt: skip


def test_firing_and_resolved_are_one_alert_and_two_events(data: Path) -> None:
    (firing,) = read(capture(data, "alertmanager/POST_webhook_02.body.json"))
    (resolved,) = read(capture(data, "alertmanager/POST_webhook_03.body.json"))
    assert firing["fingerprint"] == resolved["fingerprint"] == "2ee1b0a9c69f5461"
    assert (firing["status"], firing["time"]) == ("firing", parse("2026-11-22T12:32:26.709Z"))
    assert (resolved["status"], resolved["time"]) == ("resolved", parse("2026-11-22T12:33:18.709Z"))
    assert firing["id"] != resolved["id"]
    assert firing["entity"] == "instance:batch/w1"
    assert (firing["title"], firing["severity"]) == ("queue mail depth 250", "warning")


def test_every_capture_of_prometheus_as_a_client_reads_value_by_value(data: Path) -> None:
    expected = {
        "01": ("JobQueueDeep", "queue mail depth 250", "", "resolved", "2026-11-22T12:33:18.709Z", "instance:batch/w1", "warning"),
        "02": (
            "TargetDown", "deadsvc on 127.0.0.1:21999 is down", "up==0", "firing", "2026-11-22T12:32:24.709Z", "service:checkout",
            "critical",
        ),
        "03": ("JobQueueDeep", "queue mail depth 250", "", "resolved", "2026-11-22T12:33:18.709Z", "instance:batch/w1", "warning"),
    }  # fmt: skip
    for number, (name, title, text, status, time, entity, severity) in expected.items():
        body = capture(data, f"prometheus_as_am_client/POST_api_v2_alerts_{number}.body.json")
        (event,) = read(body, alertmanager.accept_alerts)
        labels = orjson.loads(body)[0]["labels"]
        assert event["attributes"].items() >= labels.items()
        assert (labels["alertname"], event["title"], event["body"], event["status"]) == (name, title, text, status)
        assert (event["time"], event["entity"], event["severity"]) == (parse(time), entity, severity)
        assert event["fingerprint"] == event["source_id"] == fingerprint(labels)
        assert event["why"][1].startswith("labels alertname, cluster")


def test_an_end_still_ahead_is_firing_and_its_repeats_are_the_same_event(data: Path) -> None:
    body = capture(data, "prometheus_as_am_client/POST_api_v2_alerts_01.body.json")
    before = parse("2026-11-22T12:33:00Z")
    (first,) = read(body, alertmanager.accept_alerts, before)
    later = orjson.loads(body)
    later[0]["endsAt"] = "2026-11-22T12:34:18.709Z"
    (again,) = read(orjson.dumps(later), alertmanager.accept_alerts, before + 15 * SECOND)
    assert first["status"] == again["status"] == "firing"
    assert first["id"] == again["id"]


def test_missing_times_default_to_the_receipt() -> None:
    (event,) = read(orjson.dumps([{"labels": LABELS}]), alertmanager.accept_alerts)
    assert (event["time"], event["status"], event["title"]) == (RECEIVED, "firing", "JobQueueDeep")


def test_alerts_without_labels_go_to_quarantine_and_the_rest_is_kept() -> None:
    body = [
        {"labels": LABELS},
        {"labels": {}},
        {"annotations": {"summary": "x"}},
        "text",
        {"labels": {"a": ""}},
        {"labels": LABELS | {"a": "b"}},
    ]
    decoded = alertmanager.accept_alerts(orjson.dumps(body), "am", RECEIVED)
    raw, quarantined = decoded.batches
    assert (raw.rows.num_rows, decoded.rejected, quarantined.rows.num_rows) == (2, 4, 4)
    rows = quarantined.rows.to_pylist()
    assert [row["where"] for row in rows] == ["alerts[1]", "alerts[2]", "alerts[3]", "alerts[4]"]
    assert all("label" in row["reason"] or "object" in row["reason"] for row in rows)
    assert orjson.loads(rows[1]["payload"]) == {"alert": {"annotations": {"summary": "x"}}}


def test_unknown_fields_and_odd_types_are_accepted() -> None:
    body = {
        "version": "5", "new": [1], "receiver": "r",
        "alerts": [{"labels": {"alertname": "A", "n": 3, "b": True, "z": None}, "annotations": None, "startsAt": 17, "more": {}}],
    }  # fmt: skip
    (event,) = read(orjson.dumps(body))
    assert {key: event["attributes"][key] for key in ("alertname", "n", "b", "z")} == {"alertname": "A", "n": "3", "b": "true", "z": ""}


@pytest.mark.parametrize(
    ("accept", "body", "where"),
    [
        (alertmanager.accept_webhook, b'{"alerts": [', "offset"),
        (alertmanager.accept_webhook, b"[]", "alerts"),
        (alertmanager.accept_webhook, b'{"alerts": {}}', "alerts"),
        (alertmanager.accept_alerts, b'{"labels": {}}', "top level"),
        (alertmanager.accept_alerts, b"", "offset"),
        (alertmanager.accept_alerts, b'[{"labels": {"a": "\xff"}}]', "offset"),
    ],
)
def test_a_body_of_another_shape_is_refused_with_the_place(accept: Any, body: bytes, where: str) -> None:
    with pytest.raises(BadData) as caught:
        accept(body, "am", RECEIVED)
    assert where in caught.value.where


def test_a_body_nested_too_deeply_is_refused() -> None:
    body = b'[{"labels": {"a": "b"}, "x": ' + b"[" * 600 + b"]" * 600 + b"}]"
    with pytest.raises(BadData, match="Recursion"):
        alertmanager.accept_alerts(body, "am", RECEIVED)
