"""Every decoder that reads what strangers send, by name: bytes in; anything but a `NinefoldError` coming out is a defect.

What a decoder makes of the bytes is normalised as well, since mappings and the reading of events are decoders too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import readers

from ninefold.model.signal import Batch, Decoded
from ninefold.normalise import Normaliser
from ninefold.plugin import Asked, Door, Lent, Source, plugins
from ninefold.sources.body import decompress

Decode = Callable[[bytes], Any]
_FOLDERS = {
    "otlp": ("otlp_http", "otlp_grpc"), "payload otlp": ("otlp_grpc",), "remote_write": ("prometheus",), "payload remote": ("prometheus",),
    "alertmanager": ("alertmanager", "prometheus_as_am_client"), "collectd_network": ("collectd",), "graphite": ("collectd",),
    "webhook": ("git", "zabbix", "icinga2", "netdata", "pagerduty", "buildbot", "request_tracker"),
    "payload json": ("git", "zabbix", "icinga2", "netdata"), "rows": ("zabbix",), "icinga": ("icinga2",), "postgresql": ("postgresql",),
    "collectd": ("collectd",), "syslog": ("syslog",), "payload syslog": ("syslog",), "snmp": ("snmp",),
    "exposition": ("prometheus_scrape", "rabbitmq"), "file": ("nginx", "postgresql", "syslog", "victoriametrics"),
}  # fmt: skip
_SUFFIXES = {"collectd_network": ".bin", "snmp": ".bin", "graphite": ".raw", "exposition protobuf": ".bin"}
_LARGEST = 20_000


def doors() -> Iterator[tuple[str, Door]]:
    """Every door of every source that can be made without settings."""
    for kind, cls in sorted(plugins("sources").items()):
        if any(field.is_required() for field in cls.Config.model_fields.values()):
            continue
        source: Source = cls(kind, cls.Config(), Lent())
        seen: list[object] = []
        for door in source.doors():
            if "POST" in door.methods and door.accept not in seen:
                seen.append(door.accept)
                yield f"{kind} {door.path}", door


def through(door: Door, media_type: str, body: bytes) -> Any:
    """What a door makes of a body, as the server asks it, and the answer to it."""
    plain = decompress(body, "snappy", 1 << 20) if door.encoding == "snappy" and body[:1] != b"\n" else body
    path = dict.fromkeys(("name", "index"), "fuzz")
    asked = Asked("fuzz", readers.RECEIVED, plain, path, {"format": "csv"}, {"content-type": media_type})
    decoded = door.accept(asked)
    door.answer(asked, decoded)
    return decoded


def decoders() -> dict[str, Decode]:
    """All of them."""
    found: dict[str, Decode] = {}
    for name, door in doors():
        for media_type in door.media_types or ("application/json",):
            found[f"{name} {media_type}"] = lambda body, door=door, media_type=media_type: through(door, media_type, body)
    for encoding in ("gzip", "deflate", "snappy"):
        found[f"body {encoding}"] = lambda body, encoding=encoding: decompress(body, encoding, 1 << 20)
    found |= readers.readers()
    return {name: lambda body, decode=decode: normalise(decode(body)) for name, decode in found.items()}


@cache
def _normaliser() -> Normaliser:
    return Normaliser({})


def normalise(found: object) -> None:
    """Read on what a decoder found; raw records one by one, because a batch of them takes a defect for bad data."""
    batches: Iterable[object] = found.batches if isinstance(found, Decoded) else found if isinstance(found, list) else ()
    for batch in batches:
        if not isinstance(batch, Batch):
            continue
        _normaliser().normalise(batch)
        if batch.signal == "raw":
            for format_, payload in zip(*(batch.rows.column(name).to_pylist() for name in ("format", "payload")), strict=True):
                readers.refusing(_normaliser().read, format_, payload, batch.received)


def seeds(data: Path, name: str) -> list[bytes]:
    """Captured bytes to begin with; a decoder without any of its own begins with a little of everything."""
    starts = sorted((start for start in _FOLDERS if name.startswith(start)), key=len)
    found: list[bytes] = []
    for folder in _FOLDERS[starts[-1]] if starts else ():
        suffix = next((suffix for start, suffix in _SUFFIXES.items() if name.startswith(start)), "")
        for file in sorted((data / "payloads" / folder).glob("*")):
            if file.name.endswith((".headers.txt", ".envelope.txt")) or not file.name.endswith(suffix):
                continue
            body = file.read_bytes()
            if ".http." in file.name:
                body = body.partition(b"\r\n\r\n")[2] or body.partition(b"\n\n")[2]
            found.append(body[: body.rfind(b"\n", 0, _LARGEST) + 1] if len(body) > _LARGEST else body)
    return readers.seeds(name) + [body for body in found if body][:12] or readers.ANY
