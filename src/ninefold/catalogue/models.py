"""The data model of a source, discovered from its records: one model for each source and type (signal, and kind and format of events).

A sample of the records is read: the first 64 of a window of five minutes, every 256th after them and every 8,192nd behind 65,536, so the
cost does not grow with the stream. A model learns for an hour and is then version 1; from there a field that is new, has vanished, came
back or has another type makes the next version, and the difference is told once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa

from ninefold.catalogue.masking import masked
from ninefold.catalogue.sketch import Distinct
from ninefold.ground.clock import MINUTE
from ninefold.model.signal import Batch

LEARNING, LEARNING_ROWS = 60 * MINUTE, 200
"""A model is version 1 after this long (ns) and so many sampled records."""
WIDTH, EXAMPLES, KEPT_VERSIONS = 400, 5, 50
_OFTEN, _SURE, _ABSENT_ROWS, _TYPED_ROWS = 0.5, 0.9, 200, 50
_MEMORY = 200_000
_DEPTH, _ITEMS = 6, 4

_PLAIN = {
    "log": ("entity", "severity_text", "body", "trace_id", "span_id"),
    "span": ("entity", "name", "kind", "duration", "status", "status_message", "trace_id", "parent_span_id"),
    "series": ("entity", "name", "unit", "kind"),
    "event": ("entity", "title", "body", "severity_raw", "status", "source_id"),
}
MODELLED = frozenset(_PLAIN)
_FAMILIES = {"integer": "number", "number": "number", "boolean": "boolean", "time": "time", "list": "list", "object": "object"}
_UNITS = (
    ("ms", re.compile(r"(?i)(?:[._]ms|millis|milliseconds)$")),
    ("s", re.compile(r"(?i)(?:[._](?:s|secs?)|seconds?)$")),
    ("ns", re.compile(r"(?i)(?:[._]ns|nanos|nanoseconds)$")),
    ("By", re.compile(r"(?i)bytes?$")),
    ("%", re.compile(r"(?i)(?:percent|pct)$")),
    ("Cel", re.compile(r"(?i)celsius$")),
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")


@dataclass(slots=True)
class Field:
    """One field as found. `path` begins with ``attributes.``, ``resource.`` or ``raw.``, or is a column's name; times in ns."""

    path: str
    first: int
    last: int = 0
    seen: float = 0.0
    types: dict[str, float] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    distinct: Distinct = field(default_factory=Distinct)
    unit: str = ""
    known: bool = False
    """It is part of the current version."""
    gone: bool = False
    lately: int = 0
    windows: int = 0
    lacking: int = 0
    typed: dict[str, int] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The type most of its values have."""
        return max(self.types, key=lambda name: self.types[name]) if self.types else "empty"

    def learn(self, value: Any, at: int) -> None:
        """Take one value that is there."""
        text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        kind = type_of(value)
        self.types[kind] = self.types.get(kind, 0.0) + 1
        family = _FAMILIES.get(kind, "text")
        self.typed[family] = self.typed.get(family, 0) + 1
        self.seen += 1
        self.lately += 1
        self.last = at
        new = self.distinct.add(text)
        if new and len(self.examples) < EXAMPLES and (shown := masked(self.path, text)) not in self.examples:
            self.examples.append(shown)


class Model:
    """The fields of one type of records of one source, with the versions it went through."""

    def __init__(self, source: str, signal: str, type: str, first: int) -> None:
        self.source, self.signal, self.type, self.first = source, signal, type, first
        self.rows, self.lately, self.overflow, self.version = 0.0, 0, 0, 0
        self.last = first
        self.fields: dict[str, Field] = {}
        self.versions: list[dict[str, Any]] = []
        """``{version, since, changes: [{field, change, was, now}]}``, newest last."""

    def learn(self, leaves: Iterator[tuple[str, Any]], at: int) -> None:
        """Take one record as its leaves, received at `at`."""
        self.rows += 1
        self.lately += 1
        self.last = at
        for path, value in leaves:
            if value is None or value == "":
                continue
            found = self.fields.get(path)
            if found is None:
                if len(self.fields) >= WIDTH:
                    self.overflow += 1
                    continue
                found = self.fields[path] = Field(path, at, unit=_unit(path))
            found.learn(value, at)
        if self.rows > _MEMORY:
            self.rows /= 2
            for found in self.fields.values():
                found.seen /= 2
                found.types = {kind: count / 2 for kind, count in found.types.items()}

    def close(self, at: int) -> list[dict[str, str]]:
        """A window is over at `at`: the differences it showed, which are the next version; none while learning."""
        rows, self.lately = self.lately, 0
        if not rows:
            return []
        if not self.version:
            if at - self.first >= LEARNING and self.rows >= LEARNING_ROWS:
                self._settle(at)
            else:
                for found in self.fields.values():
                    found.lately = 0
            return []
        changes = [change for found in self.fields.values() if (change := self._judge(found, rows))]
        if changes:
            self.version += 1
            self.versions = [*self.versions, {"version": self.version, "since": at, "changes": changes}][-KEPT_VERSIONS:]
        return changes

    def _settle(self, at: int) -> None:
        self.version = 1
        self.versions.append({"version": 1, "since": at, "changes": []})
        for found in self.fields.values():
            found.known, found.lately, found.typed = True, 0, {}

    def _judge(self, found: Field, rows: int) -> dict[str, str] | None:
        here, found.lately = found.lately, 0
        found.windows += here > 0
        found.lacking = 0 if here else found.lacking + rows
        if not found.known:
            if not here or (here < 0.05 * rows and found.windows < 3):
                return None
            found.known, found.typed = True, {}
            return {"field": found.path, "change": "new", "was": "", "now": found.type}
        if found.gone and here:
            found.gone = False
            return {"field": found.path, "change": "returned", "was": "", "now": found.type}
        if not found.gone and found.seen >= _OFTEN * self.rows and found.lacking >= max(_ABSENT_ROWS, 20 * self.rows / max(found.seen, 1)):
            found.gone = True
            return {"field": found.path, "change": "vanished", "was": found.type, "now": ""}
        return _retyped(found)

    def table(self) -> list[dict[str, Any]]:
        """The fields as people see them, most frequent first."""
        order = sorted(self.fields.values(), key=lambda found: (found.gone, -found.seen, found.path))
        return [
            {
                "path": found.path, "type": found.type, "types": {k: round(v) for k, v in found.types.items()}, "unit": found.unit,
                "examples": found.examples, "distinct": len(found.distinct), "distinct_exact": found.distinct.exact,
                "null_rate": round(max(0.0, 1 - found.seen / self.rows), 4) if self.rows else 0.0, "first_seen": found.first,
                "last_seen": found.last, "gone": found.gone,
            }
            for found in order
        ]  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Everything, as plain data."""
        kept = dict(self.__dict__)
        kept["fields"] = [
            {**{name: getattr(found, name) for name in Field.__dataclass_fields__}, "distinct": found.distinct.state()}
            for found in self.fields.values()
        ]
        return kept

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Model:
        """Continue from a state."""
        model = cls(state["source"], state["signal"], state["type"], state["first"])
        model.__dict__.update({name: value for name, value in state.items() if name != "fields"})
        for kept in state["fields"]:
            found = Field(**{**kept, "distinct": Distinct(**kept["distinct"])})
            model.fields[found.path] = found
        return model


def _retyped(found: Field) -> dict[str, str] | None:
    """A field whose recent values are of another family than those before; looked at every 50 values."""
    recent = sum(found.typed.values())
    if recent < _TYPED_ROWS:
        return None
    family = max(found.typed, key=lambda name: found.typed[name])
    sure = found.typed[family] >= _SURE * recent
    found.typed = {}
    before: dict[str, float] = {}
    for kind, count in found.types.items():
        name = _FAMILIES.get(kind, "text")
        before[name] = before.get(name, 0.0) + count
    before[family] -= recent if sure else 0
    usual = max(before, key=lambda name: before[name])
    if not sure or usual == family or before[usual] < _SURE * sum(max(0.0, count) for count in before.values()):
        return None
    found.types = {kind: count for kind, count in found.types.items() if _FAMILIES.get(kind, "text") == family}
    return {"field": found.path, "change": "retyped", "was": usual, "now": family}


def sampled(before: int, rows: int) -> list[int]:
    """Which of `rows` rows that follow the first `before` of a window are read; the same however the rows are cut into batches."""
    places = list(range(min(rows, max(0, 64 - before))))
    for step, low, high in ((256, 64, 65536), (8192, 65536, 1 << 62)):
        start = max(before, low)
        start += -start % step
        places += range(start - before, min(rows, high - before), step)
    return places


def leaves_of(batch: Batch, rows: pa.RecordBatch) -> Iterator[tuple[str, Iterator[tuple[str, Any]]]]:
    """(type, leaves) of each row; events are typed by kind and, where they were read from a raw record, its format."""
    plain = _PLAIN[batch.signal]
    told = rows.select([name for name in rows.schema.names if not pa.types.is_timestamp(rows.schema.field(name).type)])
    for row in told.to_pylist():
        if batch.signal != "event":
            yield "", _leaves(row, plain)
            continue
        attributes = dict(row["attributes"])
        read_by = attributes.get("ninefold.normaliser", "").partition(" ")[2]
        yield f"{row['kind']} {read_by}".strip(), _leaves(row, plain)


def _leaves(row: Mapping[str, Any], plain: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name in plain:
        yield name, row[name]
    document = _document(row.get("raw", ""))
    if document is not None:
        yield from _walk("raw", document, 0)
        return
    for part in ("attributes", "resource"):
        for key, value in row.get(part) or ():
            if not key.startswith("ninefold."):
                yield f"{part}.{key}", value


def _document(raw: str) -> Any:
    if raw[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _walk(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value and depth < _DEPTH:
        for key, item in value.items():
            yield from _walk(f"{path}.{key}", item, depth + 1)
    elif isinstance(value, list) and value and depth < _DEPTH and isinstance(value[0], dict):
        for item in value[:_ITEMS]:
            yield from _walk(f"{path}[]", item, depth + 1)
    else:
        yield path, value


def type_of(value: Any) -> str:
    """boolean, integer, number, list, object; text is looked at: integer, number, boolean, time or text."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, list | dict):
        return "list" if isinstance(value, list) else "object"
    return _text_type(value[:40])


@lru_cache(maxsize=16384)
def _text_type(text: str) -> str:
    if _NUMBER.fullmatch(text):
        return "integer" if text.lstrip("+-").isdigit() else "number"
    if text in ("true", "false", "True", "False"):
        return "boolean"
    return "time" if _TIME.match(text) else "text"


@lru_cache(maxsize=4096)
def _unit(path: str) -> str:
    if path == "duration":
        return "ns"
    return next((unit for unit, ending in _UNITS if ending.search(path)), "")
