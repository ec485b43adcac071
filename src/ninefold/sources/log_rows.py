"""Log batches from records that JSON protocols send one by one: rows are gathered as columns, what a sender says once is kept once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ninefold.model.severity import log_severity_number
from ninefold.model.signal import LOG, MAP, Batch
from ninefold.sources.columns import same, times
from ninefold.sources.origin import Origin, origin_columns, origin_of
from ninefold.sources.reading import dump_json, text_of

LATEST = (1 << 63) - 1
"""The last time in ns that a column can hold."""
LEVEL_KEYS = ("level", "severity", "detected_level", "severity_text", "log.level", "loglevel", "lvl")
"""Where log levels stand in the flat attributes of the usual senders."""
TRACE_KEYS, SPAN_KEYS = ("trace_id", "traceid", "traceID", "trace.id"), ("span_id", "spanid", "spanID", "span.id")
_TAKEN = frozenset((*LEVEL_KEYS, *TRACE_KEYS, *SPAN_KEYS))
_HEX = re.compile(r"[0-9a-f]+")
_DEPTH, _NAME = 32, 128


class LogRows:
    """Gathers log records and makes one batch of them."""

    def __init__(self) -> None:
        self._origins: dict[tuple[tuple[str, str], ...], int] = {}
        self._found: list[Origin] = []
        self._index: list[int] = []
        self._times: list[int] = []
        self._texts: dict[str, list[str]] = {"body": [], "severity_text": [], "trace_id": [], "span_id": []}
        self._attributes: list[Mapping[str, str]] = []

    def __len__(self) -> int:
        return len(self._times)

    def origin(self, resource: Mapping[str, str]) -> int:
        """The number of a resource within this batch, for `add`."""
        key = tuple(resource.items())
        number = self._origins.get(key)
        if number is None:
            number = self._origins[key] = len(self._found)
            self._found.append(origin_of(dict(resource)))
        return number

    def add(self, origin: int, time: int, body: str, attributes: dict[str, str], level: str = "") -> None:
        """One record; trace and span id, and the level unless it is given, are taken out of the attributes."""
        self._index.append(origin)
        self._times.append(time)
        self._attributes.append(attributes)
        trace = span = ""
        if attributes and not _TAKEN.isdisjoint(attributes):
            trace, span = _take_id(attributes, TRACE_KEYS, 32), _take_id(attributes, SPAN_KEYS, 16)
            if not level:
                level = next((attributes.pop(key) for key in LEVEL_KEYS if key in attributes), "")
        texts = self._texts
        texts["body"].append(body)
        texts["severity_text"].append(level)
        texts["trace_id"].append(trace)
        texts["span_id"].append(span)

    def batch(self, source: str, received: int) -> list[Batch]:
        """The batch, in a list that is empty when there is no record."""
        rows = len(self._times)
        if not rows:
            return []
        levels = self._texts["severity_text"]
        number_of = {level: log_severity_number(level) for level in set(levels)}
        columns: dict[str, pa.Array] = origin_columns(self._found, np.array(self._index, np.int64))
        columns |= {name: pa.array(texts, pa.string()) for name, texts in self._texts.items()}
        columns |= {
            "time": times(np.array(self._times, np.int64)), "received": times(np.full(rows, received)), "source": same(source, rows),
            "severity_number": pa.array([number_of[level] for level in levels], pa.uint8()),
            "pattern": pa.array(np.zeros(rows, np.uint64)),
            "attributes": _maps(self._attributes),
        }  # fmt: skip
        return [Batch("log", source, received, pa.RecordBatch.from_arrays([columns[name] for name in LOG.names], schema=LOG))]


def _maps(attributes: list[Mapping[str, str]]) -> pa.MapArray:
    keys: list[str] = []
    values: list[str] = []
    edges = [0]
    for row in attributes:
        if row:
            keys.extend(row)
            values.extend(row.values())
        edges.append(len(keys))
    return pa.MapArray.from_arrays(pa.array(edges, pa.int32()), pa.array(keys, pa.string()), pa.array(values, pa.string()), MAP)


def _take_id(attributes: dict[str, str], keys: tuple[str, ...], size: int) -> str:
    """An id out of the attributes; one that is not hexadecimal of the right size stays there."""
    for key in keys:
        value = attributes.get(key)
        if value is not None:
            found = value if len(value) == size else value.replace("-", "")
            found = found if found.islower() else found.lower()
            if len(found) == size and _HEX.fullmatch(found):
                del attributes[key]
                return found
    return ""


def flat(document: Mapping[str, Any]) -> dict[str, str]:
    """A JSON object as flat text attributes with dotted names; lists, and what lies deeper than 32 levels or below
    names of 128 characters, as JSON, so that a small document stays small; empty values go.

    Raises:
        BadData: it is nested too deeply (254 levels).
    """
    found: dict[str, str] = {}
    _flatten("", document, found, 0)
    return found


def _flatten(prefix: str, document: Mapping[str, Any], found: dict[str, str], depth: int) -> None:
    for key, value in document.items():
        if isinstance(value, dict) and depth < _DEPTH and len(prefix) + len(key) < _NAME:
            _flatten(f"{prefix}{key}.", value, found, depth + 1)
        elif value is not None and value != "":
            found[prefix + key] = value if type(value) is str else as_text(value)


def as_text(value: Any) -> str:
    """A value of JSON as text: text as it is, anything else as compact JSON.

    Raises:
        BadData: it is nested too deeply (254 levels).
    """
    return dump_json(value).decode() if isinstance(value, dict | list) else text_of(value)
