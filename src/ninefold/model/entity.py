"""Entities: the things telemetry and alerts speak about, named ``type:name``.

One function decides the entity of every record, so a span, a log line, a Prometheus sample and an alert about the same
service meet under one name. Attribute names are OpenTelemetry's; the common Prometheus labels are accepted beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

VNODES = 4096
"""Virtual partitions: fixed for ever, stored with the data, the unit of scaling out."""
_SHORT = 64


def hash64(fields: Iterable[str]) -> int:
    """A 64-bit BLAKE2b hash of length-framed fields, so ("ab", "c") and ("a", "bc") differ."""
    framed = [_short(field) if len(field) <= _SHORT else _framed(field) for field in fields]
    return int.from_bytes(hashlib.blake2b(b"".join(framed), digest_size=8).digest(), "little")


def _framed(field: str) -> bytes:
    data = field.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(4, "little") + data


_short = lru_cache(maxsize=8192)(_framed)
"""Names of attributes and most of their values come again and again, and framing them costs more than hashing them."""


def vnode_of(entity: str) -> int:
    """The virtual partition (0 to 4095) of an entity name."""
    return hash64((entity,)) % VNODES


def series_id(name: str, attributes: Mapping[str, str]) -> int:
    """The identity of a metric series: a 64-bit hash of its name and its sorted attributes. Its vnode is ``id % 4096``."""
    fields = [name]
    for key in sorted(attributes):
        fields += (key, attributes[key])
    return hash64(fields)


def fingerprint(fields: Mapping[str, str]) -> str:
    """The identity of an alert: 16 hex digits over its length-framed present fields, sorted by name.

    Raises:
        ValueError: every field is empty; such alerts must never be folded together.
    """
    present = [(key, value) for key, value in sorted(fields.items()) if value]
    if not present:
        raise ValueError("no fingerprint field is present")
    return f"{hash64(part for pair in present for part in pair):016x}"


def _first(attributes: Mapping[str, str], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = attributes.get(key)
        if value:
            return value
    return ""


def entity_of(attributes: Mapping[str, str]) -> str:
    """The entity a record is about, from its resource attributes or labels; "" when nothing names one.

    The order is: service, pod, host, instance, job. A service in a namespace is ``service:namespace/name``.
    """
    service = _first(attributes, ("service.name", "service", "service_name", "app", "app_kubernetes_io_name"))
    if service and not service.startswith("unknown_service"):
        namespace = attributes.get("service.namespace", "")
        return f"service:{namespace}/{service}" if namespace else f"service:{service}"
    pod = _first(attributes, ("k8s.pod.name", "pod", "pod_name"))
    if pod:
        namespace = _first(attributes, ("k8s.namespace.name", "namespace"))
        return f"pod:{namespace}/{pod}" if namespace else f"pod:{pod}"
    host = _first(attributes, ("host.name", "host", "hostname", "node", "nodename"))
    if host:
        return f"host:{host}"
    job, instance = attributes.get("job", ""), attributes.get("instance", "")
    if instance:
        return f"instance:{job}/{instance}" if job else f"instance:{instance}"
    return f"service:{job}" if job else ""


def environment_of(attributes: Mapping[str, str]) -> str:
    """The deployment environment, by its new and its older OpenTelemetry name."""
    return _first(attributes, ("deployment.environment.name", "deployment.environment", "environment", "env"))
