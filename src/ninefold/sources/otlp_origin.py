"""What the records of an OTLP body share: where they come from (resource and scope), and how the bad ones are set apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from ninefold.ground.errors import BadData, TooLarge
from ninefold.sources.columns import Mask
from ninefold.sources.kernel import Ints
from ninefold.sources.origin import Origin, origin_of
from ninefold.sources.otlp_values import attributes_of
from ninefold.sources.protobuf import Table, frame

_CACHE_BYTES = 32 << 20
_READ_BYTES = 256 << 20


class Origins:
    """Remembers origins by their bytes, so that a resource is read once and not once a request."""

    def __init__(self) -> None:
        self._cache: dict[tuple[bytes, bytes], Origin] = {}
        self._size_bytes = 0

    def read(self, body: bytes, resources: Table, scopes: Table) -> tuple[list[Origin], Ints]:
        """The origins in a body, and which of them each row of `scopes` has.

        Raises:
            BadData: a resource or a scope is malformed.
            TooLarge: large resources are shared by so many scopes that reading them would never end.
        """
        if int(resources.text("resource")[1][scopes.parent].sum()) > _READ_BYTES:
            raise TooLarge("the resource attributes are too large for so many scopes; send smaller batches", "resource")
        found: dict[Origin, int] = {}
        index = np.empty(len(scopes), np.int64)
        resource_cells = resources.cells("resource")
        for row, (parent, (start, size)) in enumerate(zip(scopes.parent.tolist(), scopes.cells("scope"), strict=True)):
            place, length = resource_cells[parent]
            key = body[place : place + length], body[start : start + size]
            origin = self._cache.get(key)
            if origin is None:
                origin = self._parse(key, f"resource {parent}, scope {row}, byte {place}")
            index[row] = found.setdefault(origin, len(found))
        return list(found), index

    def _parse(self, key: tuple[bytes, bytes], where: str) -> Origin:
        try:
            resource, scope = Resource.FromString(key[0]), InstrumentationScope.FromString(key[1])
        except DecodeError:
            raise BadData("a resource or a scope is malformed, or its text is not UTF-8", where) from None
        about = {"name": scope.name, "version": scope.version, **attributes_of(scope.attributes)}
        named = {f"otel.scope.{name}": value for name, value in about.items() if value}
        origin, size = origin_of(attributes_of(resource.attributes), named), sum(map(len, key))
        if self._size_bytes + size > _CACHE_BYTES:
            self._cache.clear()
            self._size_bytes = 0
        self._cache[key] = origin
        self._size_bytes += size
        return origin


class Faults:
    """Which of some records are bad and why; the first reason found stands."""

    def __init__(self, records: int) -> None:
        self.bad: Mask = np.zeros(records, np.bool_)
        self.reasons: list[tuple[str, list[int]]] = []

    def mark(self, which: Mask, reason: str) -> None:
        """Set records apart for a reason."""
        new = which & ~self.bad
        if new.any():
            self.bad |= new
            self.reasons.append((reason, np.flatnonzero(new).tolist()))


def excerpt(body: bytes, resources: Table, scopes: Table, records: Mapping[int, Sequence[bytes]]) -> bytes:
    """An Export request of its own with some records only, given by the row of their scope: what the replay sends again."""
    inner: dict[int, bytes] = {}
    scope_cells, resource_cells = scopes.cells("scope"), resources.cells("resource")
    for row, messages in records.items():
        start, size = scope_cells[row]
        part = frame(1, body[start : start + size]) + b"".join(frame(2, message) for message in messages)
        parent = int(scopes.parent[row])
        inner[parent] = inner.get(parent, b"") + frame(2, part)
    parts = []
    for row, part in inner.items():
        start, size = resource_cells[row]
        parts.append(frame(1, frame(1, body[start : start + size]) + part))
    return b"".join(parts)


def refusal(noun: str, reason: str, rows: Sequence[int], payload: bytes) -> tuple[str, str, bytes]:
    """One quarantine entry for all records set apart for one reason; `where` counts the records through the body."""
    where = f"{noun} " + ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
    return f"{reason} ({len(rows)} {noun})", where, payload
