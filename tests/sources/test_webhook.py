"""The generic webhook: configured mappings, and the usual keys of real tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from ninefold.config import WebhookConfig
from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, ConfigError
from ninefold.sources import webhook
from ninefold.sources.guessing import guess, status_of
from ninefold.sources.reading import leaves, time_of

RECEIVED = parse("2026-11-22T15:00:00Z")


def read(name: str, body: Any, config: WebhookConfig | None = None) -> list[dict[str, Any]]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    (batch,) = webhook.accept(name, raw, config, name, RECEIVED).batches
    reader = webhook.Reader(name, config)
    return [reader.to_event(payload, RECEIVED) for payload in batch.rows.column("payload").to_pylist()]


def tool_payloads(data: Path) -> dict[str, list[Any]]:
    """The payloads of each of the 17 tools; a mock with variants has them under names, each in `payload`."""
    found: dict[str, list[Any]] = {}
    for tool, mock in json.loads((data / "alerts/webhook_payloads/payloads.json").read_text()).items():
        alerts = mock.get("ALERTS", mock.get("ALERT"))
        variants = alerts.values() if isinstance(alerts, dict) else alerts
        named = isinstance(alerts, dict) and all(isinstance(one, dict) and "payload" in one for one in variants)
        found[tool] = [one["payload"] for one in variants] if named else alerts if isinstance(alerts, list) else [alerts]
    return found


def test_every_payload_of_17_tools_gives_a_titled_event_with_no_mapping(data: Path) -> None:
    payloads = tool_payloads(data)
    assert len(payloads) == 17
    events = {tool: [event for body in bodies for event in read(tool, body)] for tool, bodies in payloads.items()}
    assert sum(map(len, events.values())) == 31
    assert all(event["title"] and event["fingerprint"] for found in events.values() for event in found)
    assert {tool: found[0]["kind"] for tool, found in events.items()} == dict.fromkeys(payloads, "alert") | {"netbox": "change"}
    seen = {
        tool: tuple(found[0][field] for field in ("title", "entity", "severity", "status", "severity_raw"))
        for tool, found in events.items()
    }
    assert seen == {
        "axiom": ("Triggered: New monitor", "", "info", "firing", ""),
        "checkly": ("API Check #1", "", "info", "resolved", ""),
        "checkmk": ("CheckMK server1 - DOWN -> UP", "host:server1", "info", "resolved", "OK"),
        "cloudwatch": ("HighCPUUsage", "", "warning", "firing", "P3"),
        "coralogix": ("Keep", "", "high", "firing", "ERROR"),
        "dash0": ("This is a summay", "service:my-first-observable-service", "info", "resolved", ""),
        "datadog": ("High CPU Usage", "", "warning", "firing", "P3"),
        "gcpmonitoring": (
            "High rate of 5XX errors detected in production environment", "resource:Production Web Cluster",
            "critical", "firing", "critical",
        ),
        "grafana": ("High Memory Usage", "", "warning", "firing", "warning"),
        "graylog": ("Event - 1", "", "warning", "firing", "3"),
        "libre_nms": ("Device 10.10.1.147 recovered from Devices up/down", "host:10.10.1.147", "info", "resolved", "ok"),
        "netbox": ("site Test created", "site:Test", "info", "", ""),
        "prometheus": ("CPU usage is over 90%", "instance:example2/example1", "critical", "firing", "critical"),
        "sentry": ("Failed to fetch user profile", "service:frontend-app", "high", "firing", "error"),
        "signalfx": ("Manually resolved: logs (logs)", "", "critical", "firing", "Critical"),
        "thousandeyes": ("Default Agent Offline Notification", "host:te", "info", "firing", "Info"),
        "wazuh": ("New dpkg (Debian Package) installed.", "", "info", "firing", "info"),
    }  # fmt: skip
    times = {tool: found[0]["time"] for tool, found in events.items()}
    assert times["axiom"] == parse("2025-02-15T14:59:03Z")
    assert times["coralogix"] == parse("2024-08-14T21:28:56Z")
    assert times["sentry"] == parse("2024-03-09T13:34:45.873Z")
    assert times["wazuh"] == parse("2025-02-03T21:41:42.853014+01:00")
    assert times["dash0"] == parse("2025-02-03T07:24:17.474101621Z"), "a resolved alert's time is its end"
    assert times["gcpmonitoring"] == RECEIVED, "started_at 0 is no time"


def test_captured_tools_read_value_by_value(data: Path) -> None:
    def one(name: str) -> dict[str, Any]:
        tool = name.split("/")[0]
        return read(tool, (data / "payloads" / f"{name}.body.json").read_bytes())[0]

    problem, recovery = one("zabbix/POST_webhook_01"), one("zabbix/POST_webhook_02")
    assert (problem["title"], problem["entity"], problem["severity"]) == ("checkout p95 high on web-1", "service:checkout", "high")
    assert (problem["status"], recovery["status"]) == ("firing", "resolved")
    assert problem["fingerprint"] == recovery["fingerprint"]
    trigger, acknowledge, resolve = (one(f"pagerduty/POST_v2_enqueue_0{i}") for i in (1, 2, 3))
    assert (trigger["title"], trigger["entity"], trigger["severity"]) == ("checkout 5xx", "service:checkout", "critical")
    assert [event["status"] for event in (trigger, acknowledge, resolve)] == ["firing", "acknowledged", "resolved"]
    assert len({event["fingerprint"] for event in (trigger, acknowledge, resolve)}) == 1
    icinga = [one(f"icinga2/POST_notification_command_0{i}") for i in (1, 2, 3)]
    assert [event["status"] for event in icinga] == ["firing", "acknowledged", "resolved"]
    assert len({event["fingerprint"] for event in icinga}) == 1
    assert (icinga[0]["entity"], icinga[0]["severity"]) == ("host:web-1", "critical")
    push = one("git/POST_post_receive_push_01")
    assert (push["kind"], push["title"], push["entity"]) == ("change", "timeout 30s -> 3s", "service:checkout")
    assert push["time"] == parse("2026-11-22T13:44:24Z")
    tickets = [one(f"request_tracker/POST_scrip_webhook_0{i}") for i in (1, 2, 3)]
    assert {(event["kind"], event["source_id"], event["title"], event["status"]) for event in tickets} == {
        ("ticket", "82", "[AIOps] db down", "")
    }
    assert len({event["id"] for event in tickets}) == 3
    build = one("buildbot/POST_http_status_push_01")
    assert (build["kind"], build["title"], build["time"]) == ("deployment", "deploy #1 started: starting", parse("2026-11-22T13:24:22Z"))


MAPPING = WebhookConfig(
    records="data.items",
    kind="business",
    fields={
        "title": "join(' ', [what, currency])", "time": "at", "severity": "prio", "source_id": "nr", "entity": "shop",
        "status": "state", "attributes.amount": "amount", "attributes.tags": "tags",
    },
    fingerprint=["entity", "attributes.currency_code", "title"],
)  # fmt: skip


def test_a_configured_mapping_decides() -> None:
    record = {
        "what": "orders low",
        "currency": "EUR",
        "at": 1795000000,
        "prio": "P2",
        "nr": 17,
        "shop": "web",
        "state": "closed",
        "amount": 3.5,
    }
    (event,) = read("shop", {"data": {"items": [record | {"tags": ["a", "b"], "summary": "not this"}]}}, MAPPING)
    assert {key: value for key, value in event.items() if key not in ("id", "raw", "fingerprint")} == {
        "time": 1795000000 * 10**9, "kind": "business", "source_id": "17", "entity": "service:web", "title": "orders low EUR",
        "body": "", "severity": "high", "severity_raw": "P2", "status": "resolved",
        "attributes": {"amount": "3.5", "tags": '["a","b"]'},
        "why": ("webhook:shop", "configured entity, attributes.currency_code, title"),
    }  # fmt: skip


def test_a_path_that_finds_nothing_falls_back_to_the_usual_keys() -> None:
    config = WebhookConfig(fields={"title": "nowhere", "severity": "nor.here"})
    (event,) = read("x", {"summary": "hot", "priority": "P1"}, config)
    assert (event["title"], event["severity"]) == ("hot", "critical")


def test_mapping_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"webhooks\.x\.fields\.title"):
        webhook.Reader("x", WebhookConfig(fields={"title": "a["}))
    with pytest.raises(ConfigError, match="colour"):
        webhook.Reader("x", WebhookConfig(fields={"colour": "a"}))
    with pytest.raises(BadData, match="no record"):
        webhook.accept("x", b'{"data": {}}', MAPPING, "x", RECEIVED)
    with pytest.raises(BadData, match="fingerprint"):
        read("x", {"title": "t"}, WebhookConfig(fingerprint=["attributes.rule"]))
    with pytest.raises(BadData, match="not a time"):
        read("x", {"title": "t", "at": "soon"}, WebhookConfig(fields={"time": "at"}))
    with pytest.raises(BadData, match="cannot be applied"):
        read("x", {"title": "t", "n": 1}, WebhookConfig(fields={"body": "join(',', n)"}))


def test_lists_of_records_and_half_bad_bodies() -> None:
    around = read("x", {"version": "1", "cluster": "c1", "status": "firing", "alerts": [{"title": "a"}, {"title": "b", "status": "ok"}]})
    assert [(event["title"], event["status"], event["attributes"]["cluster"]) for event in around] == [
        ("a", "firing", "c1"),
        ("b", "resolved", "c1"),
    ]
    decoded = webhook.accept("x", b'[{"title": "a"}, 3, null, {"title": "b"}]', None, "x", RECEIVED)
    assert (decoded.batches[0].rows.num_rows, decoded.rejected, decoded.batches[1].rows.num_rows) == (2, 2, 2)
    for body in (b"3", b"[]", b"[1, 2]", b'"x"', b"null"):
        with pytest.raises(BadData):
            webhook.accept("x", body, None, "x", RECEIVED)


def test_identity() -> None:
    timed = {"title": "disk full", "host": "db-1", "time": "2026-11-22T14:00:00Z"}
    first, again = read("x", timed)[0], read("x", timed)[0]
    assert first["id"] == again["id"]
    reader = webhook.Reader("x")
    bare = orjson.dumps({"title": "disk full", "host": "db-1"})
    assert reader.to_event(bare, RECEIVED)["id"] != reader.to_event(bare, RECEIVED + 1)["id"], "without a time, each receipt is an event"
    assert reader.to_event(bare, RECEIVED)["fingerprint"] == first["fingerprint"]
    assert read("y", timed)[0]["fingerprint"] != first["fingerprint"], "keys of different senders never meet"


def test_nothing_to_title_is_refused() -> None:
    for record in ({"a": 1}, {"host": "db-1"}, {}):
        with pytest.raises(BadData, match="title"):
            read("x", record)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-11-22T13:00:00Z", "2026-11-22T13:00:00Z"), ("2026-11-22 13:00:00", "2026-11-22T13:00:00Z"),
        ("2026-11-22T14:00:00.5+01:00", "2026-11-22T13:00:00.5Z"), ("2025-02-15 14:59:03 +0000 UTC", "2025-02-15T14:59:03Z"),
        ("2025-02-15 14:59:03.266529825 +0000 UTC", "2025-02-15T14:59:03.266529825Z"), ("2024/08/14 21:28:56 GMT", "2024-08-14T21:28:56Z"),
        ("Sat Oct 26 23:20:39 UTC 2024", "2024-10-26T23:20:39Z"), ("Thu, 29 Feb 2024 11:48:32 GMT", "2024-02-29T11:48:32Z"),
        (1709991285.873, "2024-03-09T13:34:45.873Z"), (1723670936254, "2024-08-14T21:28:56.254Z"), ("1723670936", "2024-08-14T21:28:56Z"),
        (1723670936254000, "2024-08-14T21:28:56.254Z"), (1723670936254000001, "2024-08-14T21:28:56.254000001Z"),
    ],
)  # fmt: skip
def test_times_as_senders_write_them(value: Any, time: str) -> None:
    assert time_of(value) == parse(time)


@pytest.mark.parametrize(
    "value", ["", "soon", 0, -5, True, None, [], "0001-01-01T00:00:00Z", 1e300, float("inf"), "9999-12-31T00:00:00Z", "12:30"]
)
def test_what_is_no_time(value: Any) -> None:
    assert time_of(value) is None


def test_status_words() -> None:
    assert [status_of(text) for text in ("DOWN -> UP", "ALERT_RECOVERY", "Open", "alert.resolved", "ack", "7", "")] == [
        "resolved", "resolved", "firing", "resolved", "acknowledged", "", "",
    ]  # fmt: skip


def test_name_value_lists_and_wrapped_json_read_as_objects() -> None:
    found = leaves(
        {
            "labels": [{"key": "service.name", "value": {"stringValue": "cart"}}],
            "tags": [["browser", "Chrome"], ["environment", "prod"]],
            "Message": '{"AlarmName": "CPU"}',
            "list": [1, 2],
        }
    )
    assert {leaf.path: leaf.value for leaf in found} == {
        "labels.service.name": "cart", "tags.browser": "Chrome", "tags.environment": "prod", "Message.AlarmName": "CPU", "list": "[1,2]",
    }  # fmt: skip
    assert guess(found).entity() == "service:cart"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-11-22T14:30:00", "2026-11-22T13:30:00Z"),
        ("2026-07-01 14:30:00.25", "2026-07-01T12:30:00.25Z"),
        ("2026-07-01T14:30:00Z", "2026-07-01T14:30:00Z"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),  # comes twice: the first
        ("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),  # is skipped
    ],
)
def test_a_time_without_a_zone_is_one_of_the_mappings(written: str, expected: str) -> None:
    for record, fields in (({"title": "a", "when": written}, {"time": "when"}), ({"title": "a", "time": written}, {})):
        (event,) = read("x", record, WebhookConfig(fields=fields, timezone="Europe/Berlin"))
        assert event["time"] == parse(expected)
    (event,) = read("x", {"title": "a", "time": written})
    assert event["time"] == parse(written.removesuffix("Z").replace(" ", "T") + "Z")


def test_a_products_time_without_a_zone_is_one_of_the_mappings() -> None:
    record = {"number": "INC1", "sys_id": "1", "short_description": "x", "sys_updated_on": "2026-11-22 14:30:00"}
    (event,) = read("servicenow", record, WebhookConfig(timezone="Europe/Berlin"))
    assert event["time"] == parse("2026-11-22T13:30:00Z")


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="'Berlin' is no name of the time zone database"):
        webhook.Reader("x", WebhookConfig(timezone="Berlin"))


def test_what_is_cut_from_a_large_record_is_counted() -> None:
    (event,) = read("x", {"title": "a", "rows": [{"n": place} for place in range(20)]})
    assert event["attributes"]["rows.15.n"] == "15"
    assert event["attributes"]["ninefold.attributes_left_out"] == "4"
    (event,) = read("x", {"title": "a"} | {f"k{place}": place for place in range(1999)})
    assert event["attributes"]["ninefold.attributes_left_out"] == str(2000 - 256)
