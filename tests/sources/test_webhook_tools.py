"""What each product's JSON means, value by value, with no mapping configured; a problem and its end are one problem."""

from __future__ import annotations

import contextlib
import json
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webhook_events import FORM, RECEIVED, Seen, alert, captured, read, seen

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, NinefoldError
from ninefold.plugin import Lent, Strict
from ninefold.sources.webhook import Webhook


def mocks(data: Path, tool: str) -> Any:
    """The first payload of one of the 17 tools."""
    mock = json.loads((data / "alerts/webhook_payloads/payloads.json").read_text())[tool]
    alerts = mock.get("ALERTS", mock.get("ALERT"))
    if isinstance(alerts, list):
        return alerts[0]
    first = next(iter(alerts.values()))
    return first["payload"] if isinstance(first, dict) and "payload" in first else alerts


TOOLS = {
    "axiom": alert("Triggered: New monitor", "info", "", "firing", "", "Rxg89nIwu9WwrOsJKA", "2025-02-15T14:59:03Z"),
    "checkly": alert("API Check #1", "info", "", "resolved", "", "4583208e-0bca-48c6-8dc8-d14faf6102b3", "2025-01-26T11:19:40.544Z"),
    "checkmk": alert("CheckMK server1 - DOWN -> UP", "info", "OK", "resolved", "host:server1", "18", "2024-10-26T23:20:39Z"),
    "cloudwatch": alert("HighCPUUsage", "warning", "P3", "firing", "", ""),
    "coralogix": alert("Keep", "high", "ERROR", "firing", "", "36fa9188-d097-439f-aad8-eb492169ac87", "2024-08-14T21:28:56Z"),
    "dash0": alert(
        "This is a summay", "info", "", "resolved", "service:my-first-observable-service", "b9a9da0b-7a79-4a1d-abf3-5cd07649e80a",
        "2025-02-03T07:24:17.474101621Z",
    ),
    "datadog": alert("High CPU Usage", "warning", "P3", "firing", "", "1234567890"),
    "gcpmonitoring": alert(
        "High rate of 5XX errors detected in production environment", "critical", "critical", "firing",
        "resource:Production Web Cluster", "prod-5xx-123",
    ),
    "grafana": alert("High Memory Usage", "warning", "warning", "firing", "", ""),
    "graylog": alert("Event - 1", "warning", "3", "firing", "", "01JAZZJAKS82TDZAE82E0WAENT", "2024-10-24T10:22:04.556Z"),
    "libre_nms": alert(
        "Device 10.10.1.147 recovered from Devices up/down", "info", "ok", "resolved", "host:10.10.1.147", "38", "2025-03-04T11:01:41Z"
    ),
    "netbox": Seen(
        "change", "site Test created", "info", "", "", "site:Test", "7886b12c-593d-46bb-a781-5da0e5be255b",
        parse("2025-02-02T11:10:24.231786Z"),
    ),
    "prometheus": alert("CPU usage is over 90%", "critical", "critical", "firing", "instance:example2/example1", ""),
    "sentry": alert(
        "Failed to fetch user profile", "high", "error", "firing", "service:frontend-app", "4616132097", "2024-03-09T13:34:45.873Z"
    ),
    "signalfx": alert("Manually resolved: logs (logs)", "critical", "Critical", "firing", "", "1234"),
    "thousandeyes": alert(
        "Default Agent Offline Notification", "info", "Info", "firing", "host:te", "562949953436734-562949955000593", "2025-03-24T17:28:40Z"
    ),
    "wazuh": alert("New dpkg (Debian Package) installed.", "info", "info", "firing", "", "", "2025-02-03T20:41:42.853014Z"),
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_each_of_the_17_tools(tool: str, data: Path) -> None:
    (event,) = read(tool, mocks(data, tool))
    assert seen(event) == TOOLS[tool]


OTHER_SIDE: dict[str, tuple[dict[str, Any], str]] = {
    "axiom": ({"action": "Closed", "event.title": "Resolved: New monitor", "event.timestamp": "2025-02-15 15:09:03 +0000 UTC"}, "resolved"),
    "checkly": ({"alert_type": "ALERT_FAILURE", "event": "API Check #1 has failed", "uuid": "x"}, "firing"),
    "checkmk": (
        {"status": "DOWN", "event": "UP -> DOWN", "notification_type": "PROBLEM", "summary": "CheckMK server1 - UP -> DOWN", "id": "17"},
        "firing",
    ),
    "cloudwatch": ({"Message.NewStateValue": "OK", "Message.NewStateReason": "Threshold no longer crossed"}, "resolved"),
    "coralogix": ({"alert_action": "resolve"}, "resolved"),
    "dash0": ({"type": "alert.ongoing", "data.issue.status": "open", "data.issue.end": None}, "firing"),
    "datadog": ({"title": "[Recovered] High CPU Usage", "alert_transition": "Recovered"}, "resolved"),
    "gcpmonitoring": ({"incident.state": "CLOSED", "incident.ended_at": 1795000000}, "resolved"),
    "libre_nms": ({"severity": "critical", "state": "1", "title": "Alert for device 10.10.1.147", "id": "37", "uid": "40"}, "firing"),
    "prometheus": ({"status": "resolved"}, "resolved"),
    "signalfx": ({"statusExtended": "ok", "messageTitle": "Cleared: logs (logs)"}, "resolved"),
    "thousandeyes": ({"eventType": "ALERT_NOTIFICATION_CLEAR", "eventId": "another", "alert.dateEnd": "2025-03-24 18:00:00"}, "resolved"),
}  # fmt: skip
"""The other message about the same problem, as each product's documentation words it: what differs, and its status."""


@pytest.mark.parametrize("tool", OTHER_SIDE)
def test_firing_and_resolved_are_one_problem(tool: str, data: Path) -> None:
    changes, status = OTHER_SIDE[tool]
    body = mocks(data, tool)
    other = deepcopy(body)
    for path, value in changes.items():
        *above, last = path.split(".")
        place = other
        for key in above:
            place = place[key]
        place[last] = value
    one, two = read(tool, body)[0], read(tool, other)[0]
    assert two["status"] == status != one["status"]
    assert one["fingerprint"] == two["fingerprint"]
    assert one["entity"] == two["entity"]
    assert one["id"] != two["id"]


def test_grafana_alerting_keeps_the_alerts_own_words() -> None:
    labels = {"alertname": "High memory", "severity": "critical", "service": "api"}
    base = {
        "labels": labels,
        "annotations": {"summary": "Memory of api"},
        "startsAt": "2026-11-22T14:00:00Z",
        "fingerprint": "c6eadffa33fcdf37",
    }
    body = {
        "receiver": "ninefold", "status": "firing", "state": "alerting", "title": "[FIRING:1, RESOLVED:1] group", "message": "**Firing**",
        "groupKey": "{}:{}", "alerts": [
            base | {"status": "firing", "endsAt": "0001-01-01T00:00:00Z"},
            base | {"status": "resolved", "endsAt": "2026-11-22T14:30:00Z"},
        ],
    }  # fmt: skip
    firing, resolved = read("grafana", body)
    assert seen(firing) == alert(
        "Memory of api", "critical", "critical", "firing", "service:api", "c6eadffa33fcdf37", "2026-11-22T14:00:00Z"
    )
    assert seen(resolved)[4:] == ("resolved", "service:api", "c6eadffa33fcdf37", parse("2026-11-22T14:30:00Z"))
    assert firing["fingerprint"] == resolved["fingerprint"]
    assert firing["attributes"]["receiver"] == "ninefold"


def test_cloudwatch_by_sns_which_calls_its_json_plain_text() -> None:
    def notify(state: str, time: str) -> dict[str, Any]:
        alarm = {
            "AlarmName": "HighCPU", "AlarmDescription": "CPU above 90 %", "NewStateValue": state, "OldStateValue": "OK",
            "StateChangeTime": time, "Trigger": {"Dimensions": [{"name": "InstanceId", "value": "i-0abc"}], "MetricName": "CPUUtilization"},
        }  # fmt: skip
        envelope = {
            "Type": "Notification",
            "MessageId": f"m-{state}",
            "Subject": f'{state}: "HighCPU" in EU',
            "Message": json.dumps(alarm),
            "Timestamp": time,
        }
        (event,) = read("cloudwatch", orjson.dumps(envelope), "text/plain")
        return event

    raised, ended = notify("ALARM", "2026-11-22T13:00:00.000Z"), notify("OK", "2026-11-22T13:10:00.000Z")
    assert (raised["title"], raised["status"], raised["entity"], raised["time"]) == (
        'ALARM: "HighCPU" in EU', "firing", "instance:i-0abc", parse("2026-11-22T13:00:00Z"),
    )  # fmt: skip
    assert (ended["status"], ended["fingerprint"]) == ("resolved", raised["fingerprint"])


def test_gitlab_sends_the_token_in_a_header_of_its_own() -> None:
    (door,) = Webhook("webhook", Strict(), Lent()).doors()
    assert door.token_headers == ("x-gitlab-token",)


CAPTURED = {
    "zabbix/POST_webhook_01": alert("checkout p95 high on web-1", "high", "High", "firing", "service:checkout", "16"),
    "zabbix/POST_webhook_02": alert("checkout p95 high on web-1", "high", "High", "resolved", "service:checkout", "16"),
    "nagios/POST_notify_01": alert(
        "passive on web-1 is CRITICAL", "critical", "CRITICAL", "firing", "host:web-1", "1", "2026-11-22T13:39:37Z"
    ),
    "nagios/POST_notify_02": alert(
        "http on web-1 is CRITICAL", "critical", "CRITICAL", "firing", "host:web-1", "2", "2026-11-22T13:39:38Z"
    ),
    "icinga2/POST_notification_command_01": alert("passive on web-1 is CRITICAL", "critical", "CRITICAL", "firing", "host:web-1", ""),
    "icinga2/POST_notification_command_02": alert("passive on web-1 is CRITICAL", "critical", "CRITICAL", "acknowledged", "host:web-1", ""),
    "icinga2/POST_notification_command_03": alert("passive on web-1 is OK", "info", "OK", "resolved", "host:web-1", ""),
    "netdata/POST_alarm_script_args_01": alert(
        "lab_load = 9.35 load", "warning", "WARNING", "firing", "host:web-1", "1795351771", "2026-11-22T12:49:05Z"
    ),
    "pagerduty/POST_v2_enqueue_01": alert("checkout 5xx", "critical", "critical", "firing", "service:checkout", "inc-42"),
    "pagerduty/POST_v2_enqueue_02": alert("inc-42", "info", "", "acknowledged", "", "inc-42"),
    "pagerduty/POST_v2_enqueue_03": alert("inc-42", "info", "", "resolved", "", "inc-42"),
    "buildbot/POST_http_status_push_01": Seen(
        "deployment", "deploy #1 started: starting", "info", "started", "", "service:checkout", "1", parse("2026-11-22T13:24:22Z")
    ),
    "buildbot/POST_http_status_push_02": Seen(
        "deployment", "deploy #1 failure: failed 'sh -c ...' (failure)", "warning", "failure", "", "service:checkout", "1",
        parse("2026-11-22T13:24:43Z"),
    ),
    "git/POST_post_receive_push_01": Seen(
        "change", "timeout 30s -> 3s", "info", "", "", "service:checkout", "fba3a3545a6eaeb68e75bca5d5f547973205a08e",
        parse("2026-11-22T13:44:24Z"),
    ),
    "request_tracker/POST_scrip_webhook_01": Seen("ticket", "[AIOps] db down", "high", "80", "", "", "82", parse("2026-11-22T13:35:08Z")),
    "request_tracker/POST_scrip_webhook_02": Seen("ticket", "[AIOps] db down", "high", "80", "", "", "82", parse("2026-11-22T13:35:11Z")),
    "jira/POST_rest_api_2_issue_01": Seen("ticket", "INC-42", "info", "", "", "", "", RECEIVED),
    "servicenow/POST_api_now_table_incident_01": Seen("ticket", "INC-42", "critical", "1", "", "", "INC-42", RECEIVED),
    "slack/POST_incoming_webhook_01": alert("INC-42", "info", "", "firing", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_bytes(name: str, data: Path) -> None:
    assert seen(captured(data, name)) == CAPTURED[name]


def test_captured_bytes_about_one_thing_share_a_fingerprint(data: Path) -> None:
    for names in (
        ("zabbix/POST_webhook_01", "zabbix/POST_webhook_02"),
        tuple(f"icinga2/POST_notification_command_0{i}" for i in (1, 2, 3)),
        tuple(f"pagerduty/POST_v2_enqueue_0{i}" for i in (1, 2, 3)),
        ("buildbot/POST_http_status_push_01", "buildbot/POST_http_status_push_02"),
        tuple(f"request_tracker/POST_scrip_webhook_0{i}" for i in (1, 2, 3)),
        ("nagios/POST_notify_02", "nagios/POST_notify_03"),
    ):
        events = [captured(data, name) for name in names]
        assert len({event["fingerprint"] for event in events}) == 1, names
        assert len({event["id"] for event in events}) == len(names), names
    assert captured(data, "nagios/POST_notify_01")["fingerprint"] != captured(data, "nagios/POST_notify_02")["fingerprint"]
    assert (
        captured(data, "buildbot/POST_http_status_push_02")["fingerprint"]
        != captured(data, "buildbot/POST_http_status_push_03")["fingerprint"]
    )


def test_nagios_recovery_has_no_problem_id_and_is_the_same_problem(data: Path) -> None:
    problem = captured(data, "nagios/POST_notify_01")
    form = {
        "type": "RECOVERY",
        "host": "web-1",
        "service": "passive",
        "state": "OK",
        "problemid": "0",
        "time": "1795354900",
        "output": "OK",
    }
    (recovery,) = read("nagios", urlencode(form).encode(), FORM)
    assert seen(recovery) == alert("passive on web-1 is OK", "info", "OK", "resolved", "host:web-1", "", "2026-11-22T13:41:40Z")
    assert recovery["fingerprint"] == problem["fingerprint"]
    (down,) = read("nagios", urlencode({"type": "PROBLEM", "host": "web-1", "state": "DOWN", "output": "no ping"}).encode(), FORM)
    assert (down["title"], down["severity"], down["body"]) == ("web-1 is DOWN", "critical", "no ping")


def test_netdata_clear_is_the_same_problem(data: Path) -> None:
    arguments = json.loads((data / "payloads/netdata/POST_alarm_script_args_03.body.json").read_bytes())
    raised = read("netdata", arguments)[0]
    cleared = list(arguments)
    cleared[2], cleared[5], cleared[9], cleared[10], cleared[18] = "1795351999", "1795351999", "CLEAR", "WARNING", "0.3 load"
    (event,) = read("netdata", cleared)
    assert seen(event)[:5] == ("alert", "load_average_5 = 0.3 load", "info", "CLEAR", "resolved")
    assert event["fingerprint"] == raised["fingerprint"]
    assert (raised["body"], raised["attributes"]["chart"]) == ("system five-minute load average", "system.load")


def test_wazuh_integrator_and_pagerduty_v3() -> None:
    body = {
        "timestamp": "2026-11-22T13:00:00.123+0000", "full_log": "Failed password", "location": "/var/log/auth.log",
        "rule": {"level": 12, "description": "sshd: brute force", "id": "5712", "groups": ["sshd"]},
        "agent": {"id": "001", "name": "web-1", "ip": "10.0.0.5"}, "id": "1795354777.1234",
    }  # fmt: skip
    (event,) = read("wazuh", body)
    assert seen(event) == alert("sshd: brute force", "high", "12", "firing", "host:web-1", "1795354777.1234", "2026-11-22T13:00:00.123Z")
    data = {
        "id": "PGR0VU2",
        "type": "incident",
        "title": "checkout 5xx",
        "status": "triggered",
        "urgency": "high",
        "service": {"summary": "checkout"},
    }
    message = {"event": {"id": "a", "event_type": "incident.triggered", "occurred_at": "2026-11-22T13:00:00Z", "data": data}}
    (fired,) = read("pagerduty", message)
    assert seen(fired) == alert("checkout 5xx", "high", "high", "firing", "service:checkout", "PGR0VU2", "2026-11-22T13:00:00Z")
    data["status"] = "resolved"
    (ended,) = read("pagerduty", message)
    assert (ended["status"], ended["fingerprint"]) == ("resolved", fired["fingerprint"])


def test_slack_style_forms() -> None:
    message = {"text": "checkout 5xx", "attachments": [{"color": "danger", "text": "p95 is 3.2 s", "ts": 1795354777}]}
    (event,) = read("slack", urlencode({"payload": json.dumps(message)}).encode(), FORM)
    assert seen(event) == alert("checkout 5xx", "critical", "danger", "firing", "", "", "2026-11-22T13:39:37Z")
    message["attachments"][0]["color"] = "good"  # type: ignore[index]
    (ended,) = read("slack", urlencode({"payload": json.dumps(message)}).encode(), FORM)
    assert (ended["status"], ended["fingerprint"]) == ("resolved", event["fingerprint"])
    (sent_as_form,) = read("x", b'{"title": "curl says it is a form"}', FORM)
    assert sent_as_form["title"] == "curl says it is a form"


def test_collectd_notification(data: Path) -> None:
    (fired,) = read("collectd", (data / "payloads/collectd/POST_write_http_json_01.body.json").read_bytes())
    assert seen(fired)[2:] == ("critical", "FAILURE", "firing", "host:web-1", "collectd_load", parse("2026-11-22T12:45:21.929142912Z"))
    assert fired["title"].startswith("Host web-1, plugin load type load: Data source")


@given(st.binary(max_size=200) | st.text('payload={}[]"&=%+:,abc', max_size=80).map(str.encode))
def test_any_form_gives_events_or_a_clear_error(body: bytes) -> None:
    with contextlib.suppress(NinefoldError):
        read("x", body, FORM)


def test_what_is_no_form_is_refused() -> None:
    for body in (b"\xff=1", b"payload=no json", b"&".join(b"a%d=1" % i for i in range(1001))):
        with pytest.raises(BadData):
            read("x", body, FORM)


_SHAPED: list[dict[str, Any]] = [
    {"workflow_run": {}}, {"deployment": {}}, {"object_kind": "pipeline", "object_attributes": {}}, {"commits": [], "ref": ""},
    {"builder": {}, "buildid": None, "state_string": 1}, {"event": "created", "model": "x", "data": {}},
    {"issue": {"tracker": {}, "subject": 1}},
    {"fields": {"summary": None}}, {"short_description": []}, {"type": "x", "host": "h", "state": 1, "output": None},
    {"rule": {"level": 1, "description": "d"}, "agent": {}}, {"attachments": [{"color": 1}], "text": 1},
    {"event": {"event_type": "incident.", "data": {"a": 1}}}, {"object_kind": "deployment"},
]  # fmt: skip


_KEYS = st.sampled_from(["repository", "properties", "buildset", "project", "builds", "head_commit", "user", "owners", "sourcestamps"])
_VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(_SHAPED), st.dictionaries(_KEYS, _VALUES))
def test_a_shape_with_odd_parts_is_an_event_or_a_clear_error(record: dict[str, Any], more: dict[str, Any]) -> None:
    with contextlib.suppress(NinefoldError):
        read("x", record | more)
