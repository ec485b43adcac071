"""Alertmanager: the webhook (version 4) as a receiver, and the API that Prometheus posts alerts to (``POST /api/v2/alerts``).

An accepted alert becomes an event; its text is kept as ``{"alert": {...}}`` with the grouping of its webhook beside it, so that what
Alertmanager already put together stays together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ninefold.ground.errors import BadData
from ninefold.model.entity import entity_of, fingerprint
from ninefold.model.severity import severity_of
from ninefold.model.signal import Decoded, event_id
from ninefold.plugin import Answer, Asked, Door, Source, Strict
from ninefold.sources.reading import keep, load_json, text_of, time_of

FORMAT = "alertmanager"
_ALERT_CONTEXT = (("startsAt", "alertmanager.starts_at"), ("generatorURL", "alertmanager.generator_url"))
_GROUP_CONTEXT = (
    ("receiver", "alertmanager.receiver"), ("groupKey", "alertmanager.group_key"), ("externalURL", "alertmanager.external_url"),
)  # fmt: skip
_GROUP = ("receiver", "groupKey", "groupLabels", "externalURL", "truncatedAlerts", "version")


def accept_webhook(body: bytes, source: str, received: int) -> Decoded:
    """The alerts of one webhook body as `raw` rows; unknown fields are kept, alerts without labels go to quarantine.

    Raises:
        BadData: the body is not JSON, has no list of alerts, or an alert is nested too deeply.
    """
    document = load_json(body)
    if not isinstance(document, dict) or not isinstance(document.get("alerts"), list):
        raise BadData("an Alertmanager webhook body is an object with a list of alerts; check the sender's URL", "alerts")
    group = {key: document[key] for key in _GROUP if key in document}
    return _accept(document["alerts"], group, source, received)


def accept_alerts(body: bytes, source: str, received: int) -> Decoded:
    """The postable alerts of one ``POST /api/v2/alerts`` body as `raw` rows; alerts without labels go to quarantine.

    Raises:
        BadData: the body is not JSON or not a list.
    """
    document = load_json(body)
    if not isinstance(document, list):
        raise BadData("the body of /api/v2/alerts is a list of alerts; send [] around a single one", "top level")
    return _accept(document, {}, source, received)


def _accept(alerts: Iterable[Any], group: Mapping[str, Any], source: str, received: int) -> Decoded:
    checked = (({"alert": alert, **group}, _problem(alert), f"alerts[{place}]") for place, alert in enumerate(alerts))
    return keep(FORMAT, source, received, checked)


def _problem(alert: Any) -> str:
    if not isinstance(alert, dict):
        return "an alert is an object; this one is not"
    labels = alert.get("labels")
    if not isinstance(labels, dict) or not any(labels.values()):
        return "an alert needs at least one label; this one has none"
    return ""


def to_event(payload: bytes, received: int) -> dict[str, Any]:
    """The event row of one accepted alert.

    A firing alert's time is its start, a resolved one's its end. The id is made from fingerprint, start and status (and end, once
    resolved), so every repetition of a firing alert is the same event.

    Raises:
        BadData: the payload is not an alert.
    """
    document = load_json(payload)
    alert = document.get("alert") if isinstance(document, dict) else None
    problem = _problem(alert)
    if problem or not isinstance(alert, dict):
        raise BadData(problem, "alert")
    labels = {key: value if type(value) is str else text_of(value) for key, value in alert["labels"].items()}
    notes = alert.get("annotations")
    annotations = {key: text_of(value) for key, value in notes.items()} if isinstance(notes, dict) else {}
    start = time_of(alert.get("startsAt")) or received
    end = time_of(alert.get("endsAt"))
    status = alert.get("status")
    if status not in ("firing", "resolved"):
        status = "resolved" if end is not None and end <= received else "firing"
    time = end or received if status == "resolved" else start
    own = alert.get("fingerprint")
    mark = own if isinstance(own, str) and own else fingerprint(labels)
    raw_severity = labels.get("severity", "")
    name = labels.get("alertname", "")
    return {
        "id": event_id(FORMAT, mark, str(start), status, str(end) if status == "resolved" else ""),
        "time": time, "kind": "alert", "source_id": mark, "entity": entity_of(labels),
        "title": annotations.pop("summary", "") or name or ", ".join(f"{k}={v}" for k, v in labels.items()),
        "body": annotations.pop("description", "") or annotations.get("message", ""),
        "severity": severity_of(raw_severity), "severity_raw": raw_severity, "status": status, "fingerprint": mark,
        "attributes": labels | _context(document, alert, annotations), "raw": payload.decode(),
        "why": ("alertmanager", "sender" if mark is own else f"labels {', '.join(sorted(labels))}"),
    }  # fmt: skip


def _context(document: Mapping[str, Any], alert: Mapping[str, Any], annotations: Mapping[str, str]) -> dict[str, str]:
    found = {f"annotation.{key}": value for key, value in annotations.items()}
    for place, keys in ((alert, _ALERT_CONTEXT), (document, _GROUP_CONTEXT)):
        for key, name in keys:
            value = place.get(key)
            if value:
                found[name] = value if type(value) is str else text_of(value)
    return found


class Alertmanager(Source):
    """Prometheus and Alertmanager: ``POST /api/v2/alerts`` as Prometheus sends to an Alertmanager, and ``/webhook/alertmanager``."""

    kind = "alertmanager"
    title = "Prometheus Alertmanager"
    extraction = "push"
    signals = frozenset(("event",))
    always = True
    Config = Strict

    def doors(self) -> list[Door]:
        """The alerts API and the webhook receiver."""
        json = ("application/json",)
        return [
            Door("/api/v2/alerts", _alerts, lambda asked, decoded: Answer(200), media_types=json, source="prometheus-alerts"),
            Door("/webhook/alertmanager", _webhook, media_types=json),
        ]


def _alerts(asked: Asked) -> Decoded:
    return accept_alerts(asked.body, asked.source, asked.received)


def _webhook(asked: Asked) -> Decoded:
    return accept_webhook(asked.body, asked.source, asked.received)
