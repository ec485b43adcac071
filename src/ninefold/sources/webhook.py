"""The generic JSON webhook: any tool's records become events, by a configured mapping (JMESPath) or by reading the usual keys.

Each record of an accepted body is one `raw` row of format ``webhook:<name>``; `Reader.to_event` maps it at normalisation. A field the
mapping does not name, or whose path finds nothing, is read as if there were no mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from ninefold.config import WebhookConfig
from ninefold.ground.errors import BadData, ConfigError
from ninefold.model.entity import fingerprint
from ninefold.model.signal import Decoded, event_id
from ninefold.plugin import Asked, Door, Source, Strict
from ninefold.sources.guessing import Guess, event_row, guess, mark_of
from ninefold.sources.reading import attributes_of, keep, leaves, load_json, text_of, time_of

_LISTS = ("alerts", "events", "records", "items", "problems")
_KINDS = ("alert", "deployment", "change", "ticket", "business", "verdict", "truth")
_HINTS = {
    "deploy": "deployment", "release": "deployment", "change": "change", "git": "change", "build": "change", "ticket": "ticket",
    "jira": "ticket", "servicenow": "ticket", "request_tracker": "ticket", "redmine": "ticket", "truth": "truth",
}  # fmt: skip
_NO_OBJECT = "a record is a JSON object; this one is not"
_TEXTS = ("title", "body", "severity", "status", "source_id", "entity")


def accept(name: str, body: bytes, config: WebhookConfig | None, source: str, received: int) -> Decoded:
    """The records of one body as `raw` rows; a record that is not an object goes to quarantine.

    Without a configured path the records are the body's list, the list under ``alerts``, ``events``, ``records``, ``items`` or
    ``problems`` (each with the scalars around it), or the body itself.

    Raises:
        BadData: the body is not JSON, or no record is found in it.
    """
    document = load_json(body)
    records = _records(document, name, config)
    if not any(isinstance(record, dict) for record in records):
        raise BadData("no record was found in the body; send an object or a list of objects, or set `records`", name)
    checked = ((record, "" if isinstance(record, dict) else _NO_OBJECT, f"records[{place}]") for place, record in enumerate(records))
    return keep(f"webhook:{name}", source, received, checked)


def _records(document: Any, name: str, config: WebhookConfig | None) -> list[Any]:
    if config is not None and config.records != "@":
        found = _search(_compile(config.records, f"webhooks.{name}.records"), document, "records")
        return found if isinstance(found, list) else [found] if found is not None else []
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return []
    if config is None:
        for key in _LISTS:
            items = document.get(key)
            if isinstance(items, list) and items and all(isinstance(item, dict) for item in items):
                around = {k: v for k, v in document.items() if k not in ("status", key) and not isinstance(v, dict | list)}
                return [around | item for item in items]
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
        ConfigError: a path is not JMESPath, or a field has an unknown name.
    """

    def __init__(self, name: str, config: WebhookConfig | None = None) -> None:
        self.name, self.config = name, config
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
        seen = guess(found)
        own = {field.removeprefix("attributes."): text_of(value) for field, value in mapped.items() if field.startswith("attributes.")}
        kind = text_of(mapped["kind"]) if "kind" in mapped else self.config.kind if self.config else _kind(self.name, record, seen)
        texts = _push(record) | {field: text_of(mapped[field]) for field in _TEXTS if field in mapped}
        row = event_row(kind, seen, own or attributes_of(found), received, texts, self._time(mapped, seen))
        mark, why = self._mark(row, seen)
        identity = event_id("webhook", self.name, payload.decode(), "" if row.pop("timed") else str(received))
        return row | {"id": identity, "fingerprint": mark, "why": (f"webhook:{self.name}", why), "raw": payload.decode()}

    def _time(self, mapped: Mapping[str, Any], seen: Guess) -> int | None:
        if "time" not in mapped:
            return None
        time = time_of(mapped["time"])
        if time is None:
            raise BadData(f"the mapped time {text_of(mapped['time'])[:60]!r} is not a time", "time")
        return time

    def _mark(self, row: Mapping[str, Any], seen: Guess) -> tuple[str, str]:
        if self.config and self.config.fingerprint:
            fields = {
                key: text_of(row.get(key) or row["attributes"].get(key.removeprefix("attributes."))) for key in self.config.fingerprint
            }
            try:
                return fingerprint(fields), f"configured {', '.join(fields)}"
            except ValueError:
                raise BadData(f"none of the fingerprint fields {', '.join(fields)} is in the record", "fingerprint") from None
        return mark_of(self.name, row, seen)


def _kind(name: str, record: Mapping[str, Any], seen: Guess) -> str:
    said = seen.text("kind").lower()
    if said in _KINDS:
        return said
    for hint, kind in _HINTS.items():
        if hint in name.lower():
            return kind
    return "change" if isinstance(record.get("commits"), list) else "alert"


def _push(record: Mapping[str, Any]) -> dict[str, str]:
    """What a git push (as GitHub, GitLab and Gitea send it) says about its change: the newest commit's message, and the repository."""
    commits, repository = record.get("commits"), record.get("repository")
    if not isinstance(commits, list) or not isinstance(repository, dict):
        return {}
    head = record.get("head_commit") or (commits[-1] if commits else None)
    name = text_of(repository.get("name"))
    found = {"title": text_of(head.get("message")) if isinstance(head, dict) else "", "entity": f"service:{name}" if name else ""}
    return {key: value for key, value in found.items() if value}


class Webhook(Source):
    """Any tool's JSON at ``/webhook/<name>``, read by the mapping of that name or, without one, by the usual keys."""

    kind = "webhook"
    title = "JSON webhook"
    extraction = "push"
    signals = frozenset(("event",))
    always = True
    Config = Strict

    def doors(self) -> list[Door]:
        """One door; the last part of its path is the mapping's name."""
        return [Door("/webhook/{name}", self._accept, media_types=("application/json",), source="{name}")]

    def _accept(self, asked: Asked) -> Decoded:
        name = asked.path["name"]
        return accept(name, asked.body, self.lent.mapping(name), asked.source, asked.received)
