"""Grafana Loki's push API, as Promtail, Alloy, Fluent Bit, Vector and every Loki client library send it: ``POST /loki/api/v1/push``.

Use this server's address as Loki's (Promtail: ``clients: [{url: https://ninefold/loki/api/v1/push, bearer_token: …}]``; Basic
authentication with the token as password works as well). JSON and snappy-compressed protobuf are read; ``/ready`` and
``/loki/api/v1/status/buildinfo`` answer senders that ask first.

| Loki | log record |
|---|---|
| stream labels | the resource; `service_name`, `host`, `hostname`, `namespace`, `pod`, `container`, `filename` by OpenTelemetry's names |
| line | body |
| timestamp | time |
| structured metadata | attributes; `trace_id`, `span_id` and the level become columns |
| label or metadata `level`, `detected_level`, `severity` | severity |
| tenant (``X-Scope-OrgID``) | attribute of the resource, `loki.tenant` |

Streams without labels, entries without a time or a line, and what is not UTF-8 go to quarantine; the rest is kept, and the answer is then
400 with a sentence, as Loki gives it, upon which its clients go on with the next batch. Not kept: the stream's hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from ninefold.ground.errors import BadData
from ninefold.model.signal import Decoded, quarantine
from ninefold.plugin import Answer, Asked, Door, Source, Strict
from ninefold.sources.body import decompress
from ninefold.sources.log_rows import LATEST, LEVEL_KEYS, LogRows, as_text
from ninefold.sources.protobuf import Plan, frame
from ninefold.sources.reading import dump_json, load_json

LIMIT_BYTES = 64 << 20
"""A protobuf body may be this long when decompressed here."""
_FORMAT = "loki"
_JSON = "application/json"
_PUSH = Plan({
    "push": {1: "row streams"},
    "streams": {1: "bytes labels", 2: "row entries"},
    "entries": {1: "one timestamp", 2: "bytes line", 3: "row metadata"},
    "timestamp": {1: "varint seconds", 2: "varint nanos"},
    "metadata": {1: "bytes name", 2: "bytes value"},
})  # fmt: skip
_LABEL = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_.:]*)\s*=\s*("(?:[^"\\]|\\.)*"|`[^`]*`)\s*(,|$)', re.DOTALL)
_NAMES = {
    "service_name": "service.name", "host": "host.name", "hostname": "host.name", "namespace": "k8s.namespace.name",
    "pod": "k8s.pod.name", "container": "k8s.container.name", "filename": "log.file.path",
}  # fmt: skip
_NO_LABELS = "error at least one label pair is required per stream"
_SECOND = 10**9

Bad = list[tuple[str, str, bytes]]


def decode_json(body: bytes, tenant: str, source: str, received: int) -> Decoded:
    """The entries of a JSON push.

    Raises:
        BadData: the body is not JSON, or not an object with a list of streams.
    """
    document = load_json(body)
    streams = document.get("streams") if isinstance(document, dict) else None
    if not isinstance(streams, list):
        raise BadData("a push is an object with a list of streams; check the sender's URL", "streams")
    rows, bad = LogRows(), Bad()
    for place, stream in enumerate(streams):
        where = f"streams[{place}]"
        labels = stream.get("stream") if isinstance(stream, dict) else None
        values = stream.get("values") if isinstance(stream, dict) else None
        if not isinstance(labels, dict) or not labels or not isinstance(values, list):
            bad.append((_NO_LABELS if isinstance(values, list) else "a stream is labels and a list of values", where, _push(stream)))
            continue
        resource, level = _resource({key: as_text(value) for key, value in labels.items()}, tenant)
        origin = rows.origin(resource)
        for number, entry in enumerate(values):
            problem = _add(rows, origin, level, entry)
            if problem:
                bad.append((problem, f"{where}.values[{number}]", _push({"stream": labels, "values": [entry]})))
    return _decoded(rows, bad, _FORMAT, source, received)


def _push(stream: Any) -> bytes:
    return dump_json({"streams": [stream]})


def _add(rows: LogRows, origin: int, level: str, entry: Any) -> str:
    """One entry of JSON; what is wrong with it."""
    if not isinstance(entry, list) or not 2 <= len(entry) <= 3 or not isinstance(entry[1], str):
        return "an entry is a time, a line and perhaps metadata"
    time = as_text(entry[0])
    if len(time) > 19 or not time.isdecimal() or not 0 < int(time) <= LATEST:
        return "the time is not nanoseconds since 1970, as text"
    metadata = entry[2] if len(entry) == 3 else {}
    if not isinstance(metadata, dict):
        return "structured metadata is an object"
    rows.add(origin, int(time), entry[1], {key: as_text(value) for key, value in metadata.items()}, level)
    return ""


def decode_protobuf(body: bytes, tenant: str, source: str, received: int) -> Decoded:
    """The entries of an uncompressed ``logproto.PushRequest``.

    Raises:
        BadData: the body is no PushRequest.
        TooLarge: it is made of more parts than any sender has reason to send.
    """
    tables = _PUSH.scan(body)
    streams, entries, metadata = tables["streams"], tables["entries"], tables["metadata"]
    rows, bad = LogRows(), Bad()
    origins: dict[int, tuple[int, str]] = {}
    refused: dict[int, str] = {}
    labels = [body[start : start + size] for start, size in streams.cells("labels")]
    for number, text in enumerate(labels):
        try:
            resource, level = _resource(_labels(text), tenant)
            origins[number] = rows.origin(resource), level
        except BadData as error:
            refused[number] = error.reason
            bad.append((error.reason, f"streams[{number}]", frame(1, streams.slices(body, [number])[0])))
    about = _metadata(body, metadata.cells("name", "value"), metadata.parent.tolist())
    cells = entries.cells("seconds", "nanos", "line")
    for row, (parent, (seconds, nanos, start, size)) in enumerate(zip(entries.parent.tolist(), cells, strict=True)):
        if parent in refused:
            continue
        time = seconds * _SECOND + nanos
        origin, level = origins[parent]
        attributes = about.get(row, {})
        try:
            line = body[start : start + size].decode()
            problem = "" if 0 < time <= LATEST else "the time is not between 1970 and 2262"
        except UnicodeDecodeError:
            problem, line = "the line is not UTF-8", ""
        if attributes is None or problem:
            stream = frame(1, labels[parent]) + frame(2, entries.slices(body, [row])[0])
            bad.append((problem or "structured metadata is not UTF-8", f"entries[{row}]", frame(1, stream)))
        else:
            rows.add(origin, time, line, attributes, level)
    return _decoded(rows, bad, f"{_FORMAT}_proto", source, received)


def _metadata(body: bytes, cells: Iterable[list[int]], parents: Iterable[int]) -> dict[int, dict[str, str] | None]:
    """The structured metadata of entries by row; None where it is not UTF-8."""
    found: dict[int, dict[str, str] | None] = {}
    for row, (name, name_size, value, value_size) in zip(parents, cells, strict=True):
        pairs = found.setdefault(row, {})
        if pairs is None:
            continue
        try:
            pairs[body[name : name + name_size].decode()] = body[value : value + value_size].decode()
        except UnicodeDecodeError:
            found[row] = None
    return found


@lru_cache(maxsize=4096)
def _pairs(text: bytes) -> tuple[tuple[str, str], ...]:
    return tuple(_label_pairs(text))


def _labels(text: bytes) -> dict[str, str]:
    """The labels of a stream, written ``{name="value", …}``.

    Raises:
        BadData: they are not, or there are none.
    """
    return dict(_pairs(text) if len(text) <= 1024 else _label_pairs(text))


def _label_pairs(text: bytes) -> Iterator[tuple[str, str]]:
    try:
        inner = text.decode().strip()
    except UnicodeDecodeError:
        raise BadData("the labels are not UTF-8") from None
    if inner[:1] != "{" or inner[-1:] != "}":
        raise BadData(f"error parsing labels {inner[:80]!r}")
    inner = inner[1:-1].strip()
    if not inner:
        raise BadData(_NO_LABELS)
    position = 0
    while position < len(inner):
        match = _LABEL.match(inner, position)
        if match is None:
            raise BadData(f"error parsing labels {text.decode()[:80]!r}")
        yield match[1], _unquote(match[2])
        position = match.end()


def _unquote(quoted: str) -> str:
    if quoted[0] == "`" or "\\" not in quoted:
        return quoted[1:-1]
    try:
        value = orjson.loads(quoted)  # Go quotes as JSON does, but for \\a, \\v, \\x and octal, which labels hardly have
    except orjson.JSONDecodeError:
        return quoted[1:-1]
    return value if isinstance(value, str) else quoted[1:-1]


def _resource(labels: dict[str, str], tenant: str) -> tuple[Mapping[str, str], str]:
    """The resource that labels name, and their level."""
    level = next((labels.pop(key) for key in LEVEL_KEYS if key in labels), "")
    resource = {key if _NAMES.get(key, key) in labels else _NAMES.get(key, key): value for key, value in labels.items()}
    return (resource | {"loki.tenant": tenant} if tenant else resource), level


def _decoded(rows: LogRows, bad: Bad, format_: str, source: str, received: int) -> Decoded:
    batches = rows.batch(source, received)
    if bad:
        batches.append(quarantine(source, received, "log", format_, bad))
    return Decoded(batches, len(bad), "; ".join(dict.fromkeys(f"{reason} ({where})" for reason, where, _ in bad[:5])))


class Loki(Source):
    """Grafana Loki's push API."""

    kind = "loki"
    title = "Grafana Loki push"
    extraction = "push"
    signals = frozenset(("log",))
    always = True
    Config = Strict

    def doors(self) -> list[Door]:
        """The push endpoint, by its new and its old name, and what senders ask first."""
        pushes = [
            Door(path, _accept, _answer, _refuse, media_types=(_JSON, "application/x-protobuf"), source="loki")
            for path in ("/loki/api/v1/push", "/api/prom/push")
        ]
        ready = Answer(200, b"ready\n", "text/plain")
        build = Answer(200, orjson.dumps({"version": "3.0.0", "revision": "ninefold", "branch": "", "goVersion": ""}), _JSON)
        return [
            *pushes,
            *(
                Door(path, lambda asked: Decoded(), lambda asked, decoded, said=said: said, methods=("GET",), open=True)  # type: ignore[misc]
                for path, said in (("/ready", ready), ("/loki/ready", ready), ("/loki/api/v1/status/buildinfo", build))
            ),
        ]


def _accept(asked: Asked) -> Decoded:
    tenant = asked.headers.get("x-scope-orgid", "")
    if asked.media_type == _JSON:
        return decode_json(asked.body, tenant, asked.source, asked.received)
    plain = "content-encoding" in asked.headers
    body = asked.body if plain else decompress(asked.body, "snappy", LIMIT_BYTES)  # Loki's clients compress without saying so
    return decode_protobuf(body, tenant, asked.source, asked.received)


def _answer(asked: Asked, decoded: Decoded) -> Answer:
    return Answer(400, f"{decoded.reason}\n".encode(), "text/plain; charset=utf-8") if decoded.rejected else Answer(204)


def _refuse(asked: Asked, status: int, reason: str) -> Answer:
    return Answer(status, f"{reason}\n".encode(), "text/plain; charset=utf-8")
