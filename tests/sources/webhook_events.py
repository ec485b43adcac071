"""Posting to the webhook's door and looking at the events, for the tests of what products send."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ninefold.ground.clock import parse
from ninefold.plugin import Asked, Lent, Strict
from ninefold.sources.webhook import Reader, Webhook

RECEIVED = parse("2026-11-22T15:00:00Z")
FORM = "application/x-www-form-urlencoded"


def read(name: str, body: Any, media_type: str = "application/json") -> list[dict[str, Any]]:
    """The events of a body that was posted to the door of that name."""
    (door,) = Webhook("webhook", Strict(), Lent()).doors()
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    asked = Asked(name, RECEIVED, raw, {"name": name}, headers={"content-type": f"{media_type}; charset=utf-8"})
    assert media_type in door.media_types
    decoded = door.accept(asked)
    assert door.answer(asked, decoded).status == 202
    reader = Reader(name)
    return [reader.to_event(payload, RECEIVED) for payload in decoded.batches[0].rows.column("payload").to_pylist()]


class Seen(NamedTuple):
    """What is asserted of an event."""

    kind: str
    title: str
    severity: str
    severity_raw: str
    status: str
    entity: str
    source_id: str
    time: int


def seen(event: dict[str, Any]) -> Seen:
    return Seen(**{field: event[field] for field in Seen._fields})


def alert(title: str, severity: str, raw: str, status: str, entity: str, source_id: str, time: str = "") -> Seen:
    return Seen("alert", title, severity, raw, status, entity, source_id, parse(time) if time else RECEIVED)


def captured(data: Path, name: str) -> dict[str, Any]:
    """The event of a captured request."""
    (path,) = (data / "payloads").glob(f"{name}.body.*")
    (event,) = read(name.partition("/")[0], path.read_bytes(), FORM if path.suffix == ".txt" else "application/json")
    return event
