"""Rows of a query or records of an API, as what they are: events, log records, or metric points.

| `shape` | a row becomes |
|---|---|
| `events` (default) | an event, by the webhook mapping named in `mapping`, or by the usual keys |
| `logs` | a log record: the message's column is the body, the rest are attributes; time, severity, trace and entity by the usual names |
| `metrics` | a point for each column in `values` (all numeric columns by default); the columns in `labels` (all texts by default) are its attributes |

A metric's name is `prefix` and the column's name; its time is the column `time`, or the moment of asking.
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any, Literal

import orjson
from pydantic import Field

from ninefold.ground.errors import BadData
from ninefold.model.entity import hash64
from ninefold.model.severity import log_severity_number
from ninefold.model.signal import Batch, batch_of, quarantine
from ninefold.plugin import Strict
from ninefold.sources.guessing import guess
from ninefold.sources.measured import Measured, Sample
from ninefold.sources.reading import attributes_of, leaves, raw_batch, text_of, time_of

Row = Mapping[str, Any]
_DEPTH = 100


class RowsConfig(Strict):
    """What rows become; part of the settings of sources that give rows."""

    shape: Literal["events", "logs", "metrics"] = Field("events", description="What a row becomes; the table above.")
    mapping: str = Field("", description="For events: the name in `webhooks` whose mapping reads each row; the source's name by default.")
    entity: str = Field("", description="For logs and metrics: what they are about when the row does not say, as ``type:name``.")
    time: str = Field("", description="The column that holds the time; for events and logs found by its usual names.")
    values: list[str] = Field(default_factory=list, description="For metrics: the columns that hold values.")
    labels: list[str] = Field(default_factory=list, description="For metrics: the columns that tell series apart.")
    prefix: str = Field("", description="For metrics: what stands before each column's name.")
    counters: list[str] = Field(default_factory=list, description="For metrics: the values that only grow.")


class Rows:
    """Makes batches of rows."""

    def __init__(self, config: RowsConfig, source: str) -> None:
        self._config, self._source = config, source
        self._measured = Measured(source)
        self._format = f"webhook:{config.mapping or source}"
        make: dict[str, Callable[[Sequence[Row], int], list[Batch]]] = {
            "events": self._events,
            "logs": self._logs,
            "metrics": self._metrics,
        }
        self._make = make[config.shape]

    def batches(self, rows: Sequence[Row], received: int) -> list[Batch]:
        """The batches of these rows; rows that cannot be read go to quarantine."""
        good: list[Row] = []
        bad: list[tuple[str, str, bytes]] = []
        for place, row in enumerate(rows):
            try:
                good.append({name: plain(value) for name, value in row.items()})
            except BadData as error:
                bad.append((error.reason, f"row {place}", orjson.dumps([str(name) for name in row])))
        batches = self._make(good, received) if good else []
        return [*batches, quarantine(self._source, received, "event", "rows", bad)] if bad else batches

    def forget(self, batches: Sequence[Batch]) -> None:
        """Told which batches were not kept."""
        self._measured.forget(batches)

    def _events(self, rows: Sequence[Row], received: int) -> list[Batch]:
        if self._config.time:
            rows = [row if "timestamp" in row else {**row, "timestamp": row.get(self._config.time)} for row in rows]
        return [raw_batch(self._format, self._source, received, [orjson.dumps(row) for row in rows])]

    def _logs(self, rows: Sequence[Row], received: int) -> list[Batch]:
        return [batch_of("log", self._source, received, [self._log(row, received) for row in rows])]

    def _log(self, row: Row, received: int) -> dict[str, Any]:
        found = leaves(row)
        seen = guess(found)
        attributes = attributes_of(found)
        where = seen.paths.get("body")
        body = next((text_of(leaf.value) for leaf in found if leaf.path == where), "")
        attributes.pop(where or "", None)
        level = seen.text("severity")
        own = time_of(row.get(self._config.time)) if self._config.time else None
        return {
            "time": own or seen.values.get("time") or received, "entity": seen.entity() or self._config.entity,
            "body": body or orjson.dumps(row).decode(), "severity_text": level, "severity_number": log_severity_number(level),
            "trace_id": attributes.pop("trace_id", ""), "span_id": attributes.pop("span_id", ""), "attributes": attributes,
        }  # fmt: skip

    def _metrics(self, rows: Sequence[Row], received: int) -> list[Batch]:
        samples: list[Sample] = []
        bad: list[tuple[str, str, bytes]] = []
        for place, row in enumerate(rows):
            try:
                samples += self._samples(row, received)
            except BadData as error:
                bad.append((error.reason, f"row {place}: {error.where}", orjson.dumps(row)))
        batches = self._measured.batches(samples, received)
        return [*batches, quarantine(self._source, received, "metric", "rows", bad)] if bad else batches

    def _samples(self, row: Row, received: int) -> Iterator[Sample]:
        config = self._config
        time = time_of(row.get(config.time)) if config.time else received
        if time is None:
            raise BadData(f"{text_of(row.get(config.time))[:60]!r} is not a time", config.time)
        values = config.values or [name for name, value in row.items() if _is_number(value) and name not in (config.time, *config.labels)]
        labels = config.labels or [name for name, value in row.items() if isinstance(value, str) and name not in (config.time, *values)]
        attributes = {name: text_of(row[name]) for name in labels if row.get(name) not in (None, "")}
        for name in values:
            value = _number(row.get(name), name)
            if value is not None:
                kind = "counter" if name in config.counters else "gauge"
                yield Sample(config.prefix + name, attributes, time, value, kind, entity=config.entity)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadData(f"{text_of(value)[:60]!r} is not a number", name) from None
    return number if not math.isnan(number) else None


def plain(value: Any, depth: int = 0) -> Any:
    """A database's value as JSON has it; a time without a zone is UTC, bytes are text or base64.

    Raises:
        BadData: it is nested too deeply.
    """
    if depth > _DEPTH:
        raise BadData(f"the row is nested more than {_DEPTH} levels deep; flatten it in the query")
    if value is None or isinstance(value, str | bool | int):
        return value if not isinstance(value, int) or -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date | clock_time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return plain(int(value) if value.is_finite() and value == value.to_integral_value() else float(value))
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return b64encode(data).decode()
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    return [plain(item, depth + 1) for item in value] if isinstance(value, list | tuple | set) else str(value)


def mark(row: Row) -> str:
    """Which row this is, by its whole content: how a row that is read a second time is known.

    Raises:
        BadData: it is nested too deeply.
    """
    return f"{hash64((orjson.dumps({name: plain(value) for name, value in row.items()}, option=orjson.OPT_SORT_KEYS).decode(),)):016x}"
