"""The generic webhook: any tool's records become events, by a configured mapping (JMESPath), by the shapes of the products
below, or by reading the usual keys. JSON is taken, and forms: their fields are a record, or the JSON in a field ``payload``
is the body, as Slack-style senders and GitHub write it.

Each record of an accepted body becomes one event, and its text is kept with it, so that it can be read again by another mapping. A field
the mapping does not name, or whose path finds nothing, is read as if there were no mapping. A time without a zone is one of the mapping's
``timezone``, by default UTC.

Products that are recognised by the shape of their records:

| product | record | event |
|---|---|---|
| GitHub, GitLab, Gitea, plain git | push | change: newest commit, repository, revision, branch, author |
| GitHub | `workflow_run`, `deployment`, `deployment_status` | change or deployment with its result |
| GitLab | `pipeline`, `deployment` | change or deployment with its result |
| Buildbot | HttpStatusPush | change, or deployment when the builder's name says so |
| NetBox | object created, updated, deleted | change of that device, service or object |
| Request Tracker, Redmine, Jira, ServiceNow | scrip, webhook, API issue, table record | ticket with number, status, priority |
| Nagios, Icinga, Checkmk | notification command | alert on the host; a check's problem and its recovery are one problem |
| Netdata | argument list of alarm-notify | alert on the host |
| collectd | threshold notification | alert on the host |
| Wazuh, PagerDuty (v3), Slack | alert, incident webhook, message | alert |

Attributes carry OpenTelemetry's names (``vcs.*``, ``cicd.*``, ``deployment.*``, ``user.name``); a ticket's own words are ``ticket.status``,
``ticket.priority`` and ``ticket.owner``, and its event is resolved once the ticket is done. GitLab's secret token is accepted as the token.

A monitoring system's notification command posts a form with curl; the file ``token`` holds the line ``Authorization: Bearer …``. Nagios:

```
define command {
  command_name ninefold
  command_line curl -sf -H @/etc/nagios4/token --data-urlencode "type=$NOTIFICATIONTYPE$" --data-urlencode "host=$HOSTNAME$" --data-urlencode "service=$SERVICEDESC$" --data-urlencode "state=$SERVICESTATE$" --data-urlencode "time=$TIMET$" --data-urlencode "output=$SERVICEOUTPUT$" https://ninefold.example.org/webhook/nagios
}
```

Icinga 2 (its event stream, see [icinga](icinga.md), tells more):

```
object NotificationCommand "ninefold" {
  command = [ "curl", "-sf", "-H", "@/etc/icinga2/token", "https://ninefold.example.org/webhook/icinga",
    "--data-urlencode", "type=$notification.type$", "--data-urlencode", "host=$host.name$", "--data-urlencode", "service=$service.name$",
    "--data-urlencode", "state=$service.state$", "--data-urlencode", "output=$service.output$", "--data-urlencode", "time=$icinga.timet$" ]
}
```

Netdata, in ``health_alarm_notify.conf``:

```
SEND_CUSTOM="YES"
DEFAULT_RECIPIENT_CUSTOM="ninefold"
custom_sender() {
  local fields=() name
  for name in host unique_id when name chart family status old_status value value_string info calc_expression; do
    fields+=(--data-urlencode "$name=${!name}")
  done
  curl -sf -H @/etc/netdata/token "${fields[@]}" https://ninefold.example.org/webhook/netdata
}
```

Buildbot, in ``master.cfg``:

```python
reporters.HttpStatusPush(serverUrl="https://ninefold.example.org/webhook/buildbot", headers={"Authorization": "Bearer …"})
```
"""  # noqa: E501 - a command is one line

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any
from urllib.parse import parse_qsl

import jmespath
from jmespath.exceptions import JMESPathError

from ninefold.config import WebhookConfig
from ninefold.ground.errors import BadData, ConfigError
from ninefold.model.entity import fingerprint
from ninefold.model.signal import Decoded, event_id
from ninefold.plugin import Asked, Door, Source, Strict
from ninefold.sources.guessing import Guess, event_row, guess, mark_of
from ninefold.sources.reading import Leaf, attributes_of, keep, leaves, load_json, text_of, time_of
from ninefold.sources.shapes import listed, shape_of
from ninefold.sources.wall_time import is_wall_time, moved_to, zone_of

_LISTS = ("alerts", "events", "records", "items", "problems", "issues")
_FORM = "application/x-www-form-urlencoded"
_FORM_FIELDS = 1000
_MEDIA_TYPES = ("application/json", _FORM, "text/plain")
"""Amazon's SNS calls its JSON plain text."""
_TOKEN_HEADERS = ("x-gitlab-token",)
"""Where products put the secret that they are given for a webhook."""
_KINDS = ("alert", "deployment", "change", "ticket", "business", "verdict", "truth")
_HINTS = {
    "deploy": "deployment", "release": "deployment", "change": "change", "git": "change", "build": "change", "ticket": "ticket",
    "jira": "ticket", "servicenow": "ticket", "request_tracker": "ticket", "redmine": "ticket", "truth": "truth",
}  # fmt: skip
_OF_GROUP = ("title", "message", "state")
"""What Grafana says about a group of alerts; each of them has labels and annotations of its own."""
_NO_OBJECT = "a record is a JSON object; this one is not"
_TEXTS = ("title", "body", "severity", "status", "source_id", "entity")


def accept(name: str, body: bytes, config: WebhookConfig | None, source: str, received: int, media_type: str = "") -> Decoded:
    """The records of one body as `raw` rows; a record that is not an object goes to quarantine.

    Without a configured path the records are the body's list, the list under ``alerts``, ``events``, ``records``, ``items`` or
    ``problems`` (each with the scalars around it), or the body itself.

    Raises:
        BadData: the body is not JSON or a form, or no record is found in it.
    """
    document = _form(body) if media_type == _FORM and body.lstrip()[:1] not in (b"{", b"[") else load_json(body)
    records = records_of(document, name, config)
    if not any(isinstance(record, dict) for record in records):
        raise BadData("no record was found in the body; send an object or a list of objects, or set `records`", name)
    checked = ((record, "" if isinstance(record, dict) else _NO_OBJECT, f"records[{place}]") for place, record in enumerate(records))
    return keep(f"webhook:{name}", source, received, checked)


def _form(body: bytes) -> Any:
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS)
    except ValueError as error:
        raise BadData(f"the body is not a form of at most {_FORM_FIELDS} fields: {error}") from None
    document = dict(fields)
    return load_json(document["payload"].encode()) if document.keys() == {"payload"} else document


def records_of(document: Any, name: str, config: WebhookConfig | None) -> list[Any]:
    """The records in a body, as `accept` says."""
    if config is not None and config.records != "@":
        found = _search(_compile(config.records, f"webhooks.{name}.records"), document, "records")
        return found if isinstance(found, list) else [found] if found is not None else []
    if isinstance(document, list):
        record = listed(document)
        return document if record is None else [record]
    if not isinstance(document, dict):
        return []
    if config is None:
        for key in _LISTS:
            items = document.get(key)
            if isinstance(items, list) and items and all(isinstance(item, dict) for item in items):
                around = {k: v for k, v in document.items() if k not in ("status", key) and not isinstance(v, dict | list)}
                alone = {k: v for k, v in around.items() if k not in _OF_GROUP}
                return [(alone if isinstance(item.get("labels"), dict) else around) | item for item in items]
    return [document]


def _compile(path: str, where: str) -> Any:
    try:
        return jmespath.compile(path)
    except JMESPathError as error:
        raise ConfigError(f"{where}: {path!r} is not a JMESPath: {str(error).splitlines()[0]}") from None


def _search(path: Any, record: Any, field: str) -> Any:
    try:
        return path.search(record)
    except JMESPathError as error:
        raise BadData(f"the mapping of {field} cannot be applied: {str(error).splitlines()[0]}", field) from None


class Reader:
    """The mapping of one webhook name, compiled once. Without a configuration every field is read by the usual keys.

    Raises:
        ConfigError: a path is not JMESPath, a field has an unknown name, or the zone is not known.
    """

    def __init__(self, name: str, config: WebhookConfig | None = None) -> None:
        self.name, self.config = name, config
        try:
            self._zone = zone_of(config.timezone) if config else UTC
        except ValueError as error:
            raise ConfigError(f"webhooks.{name}.timezone: {error}") from None
        self._paths: dict[str, Any] = {}
        for field, path in (config.fields if config else {}).items():
            if field not in (*_TEXTS, "time", "kind") and not field.startswith("attributes."):
                raise ConfigError(f"webhooks.{name}.fields.{field} is unknown; use {', '.join(_TEXTS)}, time, kind or attributes.<name>")
            self._paths[field] = _compile(path, f"webhooks.{name}.fields.{field}")

    def to_event(self, payload: bytes, received: int) -> dict[str, Any]:
        """The event row of one record.

        The id is made from the name, the record's content and, when it holds no time, the time of its receipt: a second delivery of
        a timed record is the same event.

        Raises:
            BadData: the payload is not an object, a mapped value cannot be read, or nothing in it can serve as title or identity.
        """
        record = load_json(payload)
        if not isinstance(record, dict):
            raise BadData(_NO_OBJECT, "top level")
        mapped = {field: _search(path, record, field) for field, path in self._paths.items()}
        mapped = {field: value for field, value in mapped.items() if value is not None and value != ""}
        found = leaves(record)
        seen, walls = guess(found), self._walls(found)
        seen.values.update({field: walls[time] for field in ("time", "end") if (time := seen.values.get(field)) in walls})
        own = {field.removeprefix("attributes."): text_of(value) for field, value in mapped.items() if field.startswith("attributes.")}
        shaped = shape_of(record)
        kind = text_of(mapped["kind"]) if "kind" in mapped else self.config.kind if self.config else ""
        kind = kind or (shaped.kind if shaped else _kind(self.name, seen))
        texts = (shaped.texts if shaped else {}) | {field: text_of(mapped[field]) for field in _TEXTS if field in mapped}
        time = self._time(mapped) or (walls.get(shaped.time, shaped.time) if shaped and shaped.time else None)
        row = event_row(kind, seen, own or attributes_of(found), received, texts, time)
        if shaped:
            row["attributes"] |= {} if own else shaped.attributes
            row["source_id"] = texts.get("source_id", "")
            row["severity"] = shaped.severity if shaped.severity and "severity" not in mapped else row["severity"]
        mark, why = self._mark(row, seen, shaped.mark if shaped else {})
        identity = event_id("webhook", self.name, payload.decode(), "" if row.pop("timed") else str(received))
        return row | {"id": identity, "fingerprint": mark, "why": (f"webhook:{self.name}", why), "raw": payload.decode()}

    def _time(self, mapped: Mapping[str, Any]) -> int | None:
        if "time" not in mapped:
            return None
        time = time_of(mapped["time"])
        if time is None:
            raise BadData(f"the mapped time {text_of(mapped['time'])[:60]!r} is not a time", "time")
        return moved_to(time, self._zone) if is_wall_time(mapped["time"]) else time

    def _walls(self, found: Sequence[Leaf]) -> dict[int, int]:
        """What the times without a zone in a record are when read as UTC, and what they are in the mapping's zone."""
        if self._zone is UTC:
            return {}
        times = (time_of(leaf.value) for leaf in found if is_wall_time(leaf.value))
        return {time: moved_to(time, self._zone) for time in times if time is not None}

    def _mark(self, row: Mapping[str, Any], seen: Guess, same: Mapping[str, str]) -> tuple[str, str]:
        if self.config and self.config.fingerprint:
            fields = {
                key: text_of(row.get(key) or row["attributes"].get(key.removeprefix("attributes."))) for key in self.config.fingerprint
            }
            try:
                return fingerprint(fields), f"configured {', '.join(fields)}"
            except ValueError:
                raise BadData(f"none of the fingerprint fields {', '.join(fields)} is in the record", "fingerprint") from None
        if any(same.values()):
            return fingerprint({"webhook": self.name, **{f"of.{key}": value for key, value in same.items()}}), " and ".join(same)
        return mark_of(self.name, row, seen)


def _kind(name: str, seen: Guess) -> str:
    said = seen.text("kind").lower()
    if said in _KINDS:
        return said
    for hint, kind in _HINTS.items():
        if hint in name.lower():
            return kind
    return "alert"


class Webhook(Source):
    """Any tool's JSON or form at ``/webhook/<name>``, read by the mapping of that name or, without one, by the usual keys."""

    kind = "webhook"
    title = "Webhook (JSON or form)"
    extraction = "push"
    signals = frozenset(("event",))
    always = True
    Config = Strict

    def doors(self) -> list[Door]:
        """One door; the last part of its path is the mapping's name."""
        return [Door("/webhook/{name}", self._accept, media_types=_MEDIA_TYPES, source="{name}", token_headers=_TOKEN_HEADERS)]

    def _accept(self, asked: Asked) -> Decoded:
        name = asked.path["name"]
        return accept(name, asked.body, self.lent.mapping(name), asked.source, asked.received, asked.media_type)
