"""CloudEvents 1.0 over HTTP: binary, structured and batched content mode.

Each event is kept in its structured JSON form, whichever way it came in.
(source, id) is its identity: a second delivery is the same event.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ninefold.ground.errors import BadData
from ninefold.model.signal import Decoded, event_id
from ninefold.plugin import Door, Source, Strict
from ninefold.sources.guessing import event_row, guess, mark_of
from ninefold.sources.reading import attributes_of, keep, leaves, load_json, text_of, time_of

FORMAT = "cloudevents"
_REQUIRED = ("specversion", "id", "source", "type")
_CORE = (*_REQUIRED, "subject", "time", "datacontenttype", "dataschema", "data", "data_base64")
_OWN = "ninefold."
_OURS = ("incident", "workflow", "approval")
"""Kinds in which Ninefold tells of its own doings; nobody else can."""


def accept(headers: Mapping[str, str], body: bytes, source: str, received: int) -> Decoded:
    """The events of one HTTP request as `raw` rows. `headers` has lower-case names.

    Raises:
        BadData: the request is no CloudEvent, or its only event lacks a required attribute. In a batch, such events go to
            quarantine and the rest is kept.
    """
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/cloudevents-batch+json":
        items = load_json(body)
        if not isinstance(items, list):
            raise BadData("a CloudEvents batch is a JSON list; send [] around a single event", "top level")
        return keep(FORMAT, source, received, ((item, _problem(item), f"events[{place}]") for place, item in enumerate(items)))
    event = load_json(body) if kind == "application/cloudevents+json" else _from_headers(headers, kind, body)
    problem = _problem(event)
    if problem:
        raise BadData(problem, "attributes")
    return keep(FORMAT, source, received, [(event, "", "")])


def _problem(event: Any) -> str:
    if not isinstance(event, dict):
        return "a CloudEvent is a JSON object; this is not"
    missing = [name for name in _REQUIRED if not isinstance(event.get(name), str) or not event[name]]
    if missing:
        return f"a CloudEvent needs {', '.join(_REQUIRED)} as text; this one lacks {', '.join(missing)}"
    if not event["specversion"].startswith("1."):
        return f"CloudEvents {event['specversion'][:20]} is not supported; send specversion 1.0"
    return ""


def _from_headers(headers: Mapping[str, str], kind: str, body: bytes) -> dict[str, Any]:
    if "ce-specversion" not in headers:
        raise BadData("the request is no CloudEvent: it has neither ce-specversion nor the content type application/cloudevents+json")
    event: dict[str, Any] = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    if kind:
        event["datacontenttype"] = kind
    if not body:
        return event
    if kind in ("", "application/json", "text/json") or kind.endswith("+json"):
        event["data"] = load_json(body)
        return event
    try:
        event["data"] = body.decode()
    except UnicodeDecodeError:
        event["data_base64"] = base64.b64encode(body).decode()
    return event


def to_event(payload: bytes, received: int) -> dict[str, Any]:
    """The event row of one CloudEvent: its type decides the kind, its data the title, severity, status and entity.

    ``ninefold.<kind>`` sets any kind but those of Ninefold's own doings; else a type that speaks of an alert, a deployment or a
    change is one, and the rest is "event".

    Raises:
        BadData: the payload is not a CloudEvent.
    """
    event = load_json(payload)
    problem = _problem(event)
    if problem:
        raise BadData(problem, "attributes")
    data = event.get("data")
    extensions = {key: value for key, value in event.items() if key not in _CORE}
    found = leaves(extensions) + leaves(data if isinstance(data, dict) else {"data": data})
    seen = guess(found)
    subject = text_of(event.get("subject"))
    texts = {"source_id": event["id"], "title": seen.text("title") or subject or event["type"]}
    if isinstance(data, str) and "\n" not in data and not seen.text("title"):
        texts["title"] = data[:500] or texts["title"]
    if not seen.entity() and ":" in subject:
        texts["entity"] = subject
    time = time_of(event.get("time"))
    if time is None and event.get("time"):
        raise BadData(f"time {text_of(event['time'])[:60]!r} is not RFC 3339", "time")
    row = event_row(_kind(event["type"]), seen, attributes_of(found), received, texts, time)
    row.pop("timed")
    mark, why = mark_of(f"{FORMAT}:{event['source']}", row, seen)
    row["attributes"] |= {
        f"cloudevents.{key}": text_of(event[key]) for key in ("source", "type", "subject", "dataschema") if event.get(key)
    }
    return row | {
        "id": event_id(FORMAT, event["source"], event["id"]), "fingerprint": mark, "why": (FORMAT, why), "raw": payload.decode(),
    }  # fmt: skip


def _kind(type_: str) -> str:
    if type_.startswith(_OWN) and type_ != _OWN:
        kind = type_.removeprefix(_OWN)
        return kind if kind not in _OURS else "event"
    lower = type_.lower()
    for word, kind in (("alert", "alert"), ("deploy", "deployment"), ("change", "change")):
        if word in lower:
            return kind
    return "event"


class CloudEvents(Source):
    """CloudEvents 1.0 at ``/cloudevents``, in any content mode."""

    kind = "cloudevents"
    title = "CloudEvents"
    extraction = "push"
    signals = frozenset(("event",))
    always = True
    Config = Strict

    def doors(self) -> list[Door]:
        """The endpoint."""
        return [Door("/cloudevents", lambda asked: accept(asked.headers, asked.body, asked.source, asked.received))]
