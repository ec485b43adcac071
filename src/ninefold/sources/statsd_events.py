"""What DogStatsD adds to StatsD: events and service checks, each a line of its own."""

from __future__ import annotations

import re
from typing import Any

from ninefold.ground.errors import BadData
from ninefold.model.entity import entity_of, fingerprint
from ninefold.model.severity import severity_of
from ninefold.model.signal import event_id
from ninefold.sources.reading import time_of

_EVENT = re.compile(rb"_e\{([0-9]{1,6}),([0-9]{1,6})\}:")
_CHECK_STATES = {"0": "OK", "1": "WARNING", "2": "CRITICAL", "3": "UNKNOWN"}
_FIELDS = {"d": "time", "h": "host", "p": "priority", "t": "type", "k": "key", "s": "source_type", "m": "message"}
_WIDTH = 256


def tags_of(text: str) -> dict[str, str]:
    """The attributes in ``a:b,c:d,e``; a tag without a value is "true"."""
    pairs = [tag.partition(":") for tag in text.split(",")[:_WIDTH] if tag]
    return {key: value if colon else "true" for key, colon, value in pairs}


def event_of(line: bytes, received: int) -> dict[str, Any]:
    """The event row of an event or a service check.

    Raises:
        BadData: the line cannot be read.
    """
    try:
        return _event(line, received) if line.startswith(b"_e{") else _check(line.decode(), received)
    except UnicodeDecodeError:
        raise BadData("an event or a service check is not UTF-8") from None


def _event(line: bytes, received: int) -> dict[str, Any]:
    match = _EVENT.match(line)
    sizes = (int(match[1]), int(match[2])) if match else (0, 0)
    middle = match.end() + sizes[0] if match else 0
    end = middle + 1 + sizes[1]
    if not match or not sizes[0] or line[middle : middle + 1] != b"|" or len(line) < end or line[end : end + 1] not in (b"", b"|"):
        raise BadData("an event is `_e{length of title,length of text}:title|text`")
    title, text = line[match.end() : middle].decode(), line[middle + 1 : end].decode()
    about, tags = _rest(line[end:].decode())
    alert_type = about.get("type", "")
    status = {"error": "firing", "warning": "firing", "success": "resolved"}.get(alert_type, "")
    row = _row(about, tags, line.decode(), received, alert_type)
    identity = {"key": about.get("key", ""), "title": "" if "key" in about else title, "entity": row["entity"]}
    return row | {
        "kind": "alert" if status else "event", "title": title.replace("\\n", " "), "body": text.replace("\\n", "\n"),
        "status": status, "fingerprint": fingerprint({"statsd": "event", **identity}),
    }  # fmt: skip


def _check(line: str, received: int) -> dict[str, Any]:
    _, name, state, rest = (*line.split("|", 3), "", "", "")[:4]
    if not name or state not in _CHECK_STATES:
        raise BadData("a service check is `_sc|name|0, 1, 2 or 3`")
    about, tags = _rest(f"|{rest}")
    word = _CHECK_STATES[state]
    row = _row(about, tags, line, received, word)
    mark = fingerprint(
        {"statsd": "check", "name": name, "host": about.get("host", ""), "tags": ",".join(sorted(map("=".join, tags.items())))}
    )
    return row | {
        "kind": "alert", "title": f"{name} is {word}", "body": about.get("message", ""), "source_id": name,
        "status": "resolved" if word == "OK" else "firing", "fingerprint": mark,
    }  # fmt: skip


def _rest(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The fields and the tags behind an event's or a check's own words; a message is the last field and may hold anything."""
    about: dict[str, str] = {}
    tags: dict[str, str] = {}
    head, _, message = text.partition("|m:")
    for part in head.split("|"):
        key, colon, value = part.partition(":")
        if part.startswith("#"):
            tags = tags_of(part[1:])
        elif colon and key in _FIELDS and value:
            about[_FIELDS[key]] = value
    return about | ({"message": message} if message else {}), tags


def _row(about: dict[str, str], tags: dict[str, str], line: str, received: int, severity: str) -> dict[str, Any]:
    attributes = tags | ({"host.name": about["host"]} if "host" in about else {})
    attributes |= {f"statsd.{key}": about[key] for key in ("priority", "key", "source_type") if key in about}
    time = time_of(about.get("time"))
    return {
        "id": event_id("statsd", line, "" if time else str(received)), "time": time or received, "entity": entity_of(attributes),
        "severity": severity_of(severity), "severity_raw": severity, "attributes": attributes, "raw": line,
    }  # fmt: skip
