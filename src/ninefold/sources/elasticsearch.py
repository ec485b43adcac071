"""Elasticsearch's bulk API, as Filebeat, Logstash, Fluent Bit, Vector and the client libraries send documents.

Use ``https://<this server>/elasticsearch`` as Elasticsearch's address (Filebeat: ``hosts: ["https://ninefold/elasticsearch"]``,
``setup.ilm.enabled: false``, ``setup.template.enabled: false``; Fluent Bit: ``Path /elasticsearch``, ``Suppress_Type_Name On``). The token
is an API key (``Authorization: ApiKey …``), the password of Basic authentication, or a bearer token.

| document (ECS or plain) | log record |
|---|---|
| `@timestamp`, `timestamp`, `time`, `ts` | time; without one, the receipt |
| `message`, `msg`, `log` (text), `event.original` | body; without one, the whole document as JSON |
| `log.level`, `level`, `severity` | severity |
| `trace.id`, `span.id` (also ``trace_id``, ``traceId``) | trace and span |
| `host.*`, `service.*`, `cloud.*`, `container.*`, `kubernetes.*`, `agent.*`, `orchestrator.*`, `data_stream.*` | the resource; `host` and `service` as text, `kubernetes.*` and `service.environment` by OpenTelemetry's names |
| any other field | attribute, with its dotted name |
| index | attribute of the resource, `elasticsearch.index` |

`index` and `create` are kept, each as a new record; `update` and `delete` have no meaning for logs and are answered with 400, as are
documents that are no JSON objects or have a time that is none; these go to quarantine and the rest is kept. What senders set up beforehand
(index templates, pipelines, life cycles) is acknowledged and not kept. Document ids are answered, not kept.
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from ninefold.ground.errors import BadData
from ninefold.model.entity import hash64
from ninefold.model.signal import Decoded, quarantine
from ninefold.plugin import Answer, Asked, Door, Source, Strict
from ninefold.sources.log_rows import LogRows, flat
from ninefold.sources.reading import time_of

_ROOT = "/elasticsearch"
_FORMAT = "elasticsearch"
_VERSION = "8.15.0"
_PRODUCT = {"X-elastic-product": "Elasticsearch"}
"""Without it Elastic's clients refuse to go on."""
_KEEPS, _OTHERS = ("index", "create"), ("update", "delete")
_TIMES = ("@timestamp", "timestamp", "time", "ts")
_BODIES = ("message", "msg", "log", "event.original")
_LEVELS = ("log.level", "level", "severity", "severity_text", "loglevel")
_IDS = {"trace.id": "trace_id", "span.id": "span_id", "traceId": "trace_id", "spanId": "span_id", "transaction.id": "transaction.id"}
_RESOURCE = ("host", "service", "cloud", "container", "kubernetes", "k8s", "agent", "orchestrator", "data_stream")
_NAMES = {
    "host": "host.name", "hostname": "host.name", "service": "service.name", "service.environment": "deployment.environment.name",
    "service.node.name": "service.instance.id", "kubernetes.pod.name": "k8s.pod.name", "kubernetes.pod.uid": "k8s.pod.uid",
    "kubernetes.pod_name": "k8s.pod.name", "kubernetes.namespace": "k8s.namespace.name", "kubernetes.namespace_name": "k8s.namespace.name",
    "kubernetes.node.name": "k8s.node.name", "kubernetes.host": "k8s.node.name", "kubernetes.container.name": "k8s.container.name",
    "kubernetes.container_name": "k8s.container.name", "kubernetes.deployment.name": "k8s.deployment.name",
}  # fmt: skip


@dataclass(slots=True)
class Bulk(Decoded):
    """A bulk request's records, and what is said of each of its items: (action, index, id, what is wrong with it or "")."""

    items: list[tuple[str, str, str, str]] = field(default_factory=list)


def decode(body: bytes, index: str, source: str, received: int) -> Bulk:
    """The documents of a bulk body; `index` is the path's, which items without one of their own go to.

    Raises:
        BadData: a line that should name an action does not; nothing is kept then, as in Elasticsearch.
    """
    rows, found, bad = LogRows(), Bulk(), list[tuple[str, str, bytes]]()
    lines = body.split(b"\n")
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if not line.strip():
            continue
        action, about = _action(line, position)
        name, number = str(about.get("_index") or index), str(about.get("_id") or "")
        if action == "delete":
            document, problem = b"", "delete has no meaning for log records"
        else:
            if position >= len(lines) or not lines[position].strip():
                raise BadData(f"Malformed action/metadata line [{position}]: its document is missing", f"line {position}")
            document, place = lines[position], position
            position += 1
            problem = "update has no meaning for log records" if action == "update" else _add(rows, document, name, received)
        if problem:
            bad.append((problem, f"line {position}", line + b"\n" + document + b"\n"))
        elif not number:
            number = f"{hash64((str(received), str(place), str(len(document)))):016x}"
        found.items.append((action, name, number, problem))
    if not found.items:
        raise BadData("request body is required", "body")
    found.batches = rows.batch(source, received)
    if bad:
        found.batches.append(quarantine(source, received, "log", _FORMAT, bad))
    found.rejected, found.reason = len(bad), bad[0][0] if bad else ""
    return found


def _action(line: bytes, number: int) -> tuple[str, Mapping[str, Any]]:
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        said = None
    if isinstance(said, dict) and len(said) == 1:
        (action, about) = next(iter(said.items()))
        if action in (*_KEEPS, *_OTHERS) and isinstance(about, dict):
            return action, about
    raise BadData(f"Malformed action/metadata line [{number}], expected index, create, update or delete with an object", f"line {number}")


def _add(rows: LogRows, document: bytes, index: str, received: int) -> str:
    """One document as a log record; what is wrong with it."""
    try:
        fields = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        return f"failed to parse: {error.msg}"
    if not isinstance(fields, dict):
        return "failed to parse: a document is an object"
    time = received
    for key in _TIMES:
        if fields.get(key) not in (None, ""):
            parsed = time_of(fields[key])
            if parsed is not None:
                time = parsed
                del fields[key]
                break
            if key == "@timestamp":
                return f"failed to parse field [@timestamp] of type [date]: {str(fields[key])[:60]!r}"
    try:
        attributes = flat(fields)
    except BadData as error:
        return error.reason
    key = next((key for key in _BODIES if key in attributes), "")
    text = attributes.pop(key) if key else document.decode()
    level = next((attributes.pop(key) for key in _LEVELS if key in attributes), "")
    resource = {"elasticsearch.index": index} if index else {}
    for name, known in [(name, known) for name in attributes if (known := _resource_name(name))]:
        resource[name if known in resource or (known != name and known in attributes) else known] = attributes.pop(name)
    for name in _IDS.keys() & attributes.keys():
        attributes[_IDS[name]] = attributes.pop(name)
    rows.add(rows.origin(resource), time, text, attributes, level)
    return ""


@lru_cache(maxsize=16384)
def _resource_name(name: str) -> str:
    """How a field of the resource is called here, "" for one of the record."""
    return _NAMES.get(name) or (name if name.partition(".")[0] in _RESOURCE else "")


class Elasticsearch(Source):
    """Elasticsearch's bulk API below ``/elasticsearch``."""

    kind = "elasticsearch"
    title = "Elasticsearch bulk"
    extraction = "push"
    signals = frozenset(("log",))
    always = True
    Config = Strict

    def doors(self) -> list[Door]:
        """The bulk endpoints, the probes, and the acknowledgement of what senders set up."""
        keywords = ("ApiKey",)
        bulks = [
            Door(f"{_ROOT}{path}", _accept, _answer, _refuse, methods=("POST", "PUT"), source="elasticsearch", token_keywords=keywords)
            for path in ("/_bulk", "/{index}/_bulk")
        ]
        probes = [
            Door(f"{_ROOT}{path}", _nothing, _says(said), _refuse, methods=("GET",), token_keywords=keywords) for path, said in _PROBES
        ]
        setups = [
            Door(
                f"{_ROOT}{path}", _nothing, _says({"acknowledged": True}), _refuse, methods=("GET", "PUT", "POST"), token_keywords=keywords
            )
            for path in _SETUPS
        ]
        return [*bulks, *probes, *setups]


_BANNER: Mapping[str, Any] = {
    "name": "ninefold", "cluster_name": "ninefold", "cluster_uuid": "ninefold", "tagline": "You Know, for Search",
    "version": {
        "number": _VERSION, "build_flavor": "default", "build_type": "tar", "build_hash": "ninefold",
        "build_date": "2024-08-05T00:00:00.000000000Z", "build_snapshot": False, "lucene_version": "9.11.1",
        "minimum_wire_compatibility_version": "7.17.0", "minimum_index_compatibility_version": "7.0.0",
    },
}  # fmt: skip
_LICENSE = {"uid": "ninefold", "type": "basic", "mode": "basic", "status": "active"}
_HEALTH = {"cluster_name": "ninefold", "status": "green", "timed_out": False, "number_of_nodes": 1, "number_of_data_nodes": 1}
_PROBES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("", _BANNER), ("/", _BANNER), ("/_license", {"license": _LICENSE}), ("/_cluster/health", _HEALTH), ("/_nodes/http", {"nodes": {}}),
    ("/_xpack", {"license": _LICENSE, "features": {"ilm": {"available": False, "enabled": False}}, "build": {}, "tagline": ""}),
)  # fmt: skip
_SETUPS = (
    "/_ilm/policy/{name}", "/_index_template/{name}", "/_component_template/{name}", "/_template/{name}", "/_ingest/pipeline/{name}",
    "/_data_stream/{name}", "/_alias/{name}",
)  # fmt: skip


def _nothing(asked: Asked) -> Decoded:
    return Decoded()


def _json(status: int, value: Any) -> Answer:
    return Answer(status, orjson.dumps(value), "application/json", _PRODUCT)


def _says(value: Mapping[str, Any]) -> Callable[[Asked, Decoded], Answer]:
    return lambda asked, decoded: _json(200, value)


def _accept(asked: Asked) -> Bulk:
    return decode(asked.body, asked.path.get("index", ""), asked.source, asked.received)


def _answer(asked: Asked, decoded: Decoded) -> Answer:
    items = decoded.items if isinstance(decoded, Bulk) else []
    return _json(200, {"took": 1, "errors": decoded.rejected > 0, "items": [_item(place, *item) for place, item in enumerate(items)]})


def _item(place: int, action: str, index: str, number: str, problem: str) -> dict[str, Any]:
    about: dict[str, Any] = {"_index": index, "_id": number}
    if problem:
        about |= {"status": 400, "error": {"type": "document_parsing_exception", "reason": problem}}
    else:
        shards = {"total": 1, "successful": 1, "failed": 0}
        about |= {"_version": 1, "result": "created", "_shards": shards, "_seq_no": place, "_primary_term": 1, "status": 201}
    return {action: about}


_TYPES = {
    400: "illegal_argument_exception", 401: "security_exception", 403: "security_exception", 413: "content_too_long_exception",
    503: "unavailable_shards_exception",
}  # fmt: skip


def _refuse(asked: Asked, status: int, reason: str) -> Answer:
    cause = {"type": _TYPES.get(status, "exception"), "reason": reason}
    return _json(status, {"error": {"root_cause": [cause], **cause}, "status": status})
