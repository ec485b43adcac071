"""Splunk's HTTP Event Collector, as Splunk's forwarders and loggers, Docker, Fluent Bit, Vector and OpenTelemetry collectors send to it.

Use this server's address as the collector's, ``/services/collector`` (also ``/event``, ``/event/1.0``, ``/raw``, ``/raw/1.0``) and the
token as the HEC token (``Authorization: Splunk <token>``).

| Splunk | here |
|---|---|
| `event` text | the body of a log record |
| `event` object | its ``message``, ``msg`` or ``log`` is the body (else its JSON), its other fields are attributes |
| `fields` | attributes |
| `time` (seconds) | time; without one, the receipt |
| `host`, `source`, `sourcetype`, `index` | ``host.name``, ``com.splunk.source``, ``com.splunk.sourcetype``, ``com.splunk.index`` of the resource |
| `severity`, `level` in event or fields | severity |
| ``"event": "metric"`` | a point for each field ``metric_name:<name>``, or ``metric_name`` with ``_value``; other fields are the series' attributes |
| raw lines | a log record each, host, source, sourcetype and index from the query |

Events stand one behind the other in a body, as Splunk wants them, or in a list. One without `event` goes to quarantine, and so does all
that follows a place where the JSON breaks; the others are kept, and the answer is Splunk's 400 with the number of the first bad event.
Acknowledgement by channel is not needed: an answer of success means that everything is on disk. ``/health`` answers probes.
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, Decoded, quarantine
from ninefold.plugin import Answer, Asked, Door, Lent, Source, Strict
from ninefold.sources.keyed import Cells, Keyed, Row, series_row
from ninefold.sources.log_rows import LogRows, as_text, flat
from ninefold.sources.reading import dump_json, time_of

_FORMAT = "splunk_hec"
_KEYWORDS = ("Splunk",)
_ABOUT = (("host", "host.name"), ("source", "com.splunk.source"), ("sourcetype", "com.splunk.sourcetype"), ("index", "com.splunk.index"))
_BODIES = ("message", "msg", "log", "line")
_METRIC = "metric_name:"
_BLANK = " \t\r\n"
_SUCCESS, _NO_TOKEN, _BAD_TOKEN, _NO_DATA, _BAD_FORMAT, _BUSY, _NO_EVENT, _BLANK_EVENT, _BAD_FIELDS = 0, 2, 4, 5, 6, 9, 12, 13, 15
_TEXTS = {
    _SUCCESS: "Success", _NO_TOKEN: "Token is required", _BAD_TOKEN: "Invalid token", _NO_DATA: "No data",
    _BAD_FORMAT: "Invalid data format", _BUSY: "Server is busy", _NO_EVENT: "Event field is required",
    _BLANK_EVENT: "Event field cannot be blank", _BAD_FIELDS: "Error in handling indexed fields",
}  # fmt: skip
_decoder = json.JSONDecoder()

Entry = tuple[str, str, bytes]


@dataclass(slots=True)
class Collected(Decoded):
    """What a body held, with Splunk's code of the first bad event and its number."""

    code: int = _SUCCESS
    first_bad: int = 0


class Hec:
    """The decoder; one instance a source, because it remembers which series were described. Thread-safe."""

    def __init__(self) -> None:
        self._series = Keyed()

    def events(self, body: bytes, source: str, received: int) -> Collected:
        """The log records and points of a body of events.

        Raises:
            BadData: it is empty, not UTF-8 or nested too deeply.
            TooLarge: its metrics repeat so many dimensions that they would fill the memory.
        """
        if not body.strip():
            raise BadData(_TEXTS[_NO_DATA], "body")
        found, rows, cells, bad = Collected(), LogRows(), Cells(), list[Entry]()
        for place, event in enumerate(_split(body)):
            code = _BAD_FORMAT
            if isinstance(event, dict):
                code = _measure(event, cells, received) if event.get("event") == "metric" else _record(event, rows, received)
            if code:
                payload = event if isinstance(event, bytes) else dump_json(event)
                bad.append((_TEXTS[code], f"event {place}", payload))
                if not found.code:
                    found.code, found.first_bad = code, place
        found.batches = [*rows.batch(source, received), *self._series.batches(cells, _described, source, received)]
        if bad:
            found.batches.append(quarantine(source, received, "log", _FORMAT, bad))
        found.rejected, found.reason = len(bad), bad[0][0] if bad else ""
        return found

    def forget(self, batches: Sequence[Batch]) -> None:
        """Describe the series of these batches again: they were not kept."""
        self._series.forget(batches)


def _described(key: bytes) -> Row:
    name, attributes = orjson.loads(key)
    return series_row(name, attributes)


def _split(body: bytes) -> Iterator[Any]:
    """The JSON values that stand one behind the other in a body; from where that breaks, the rest as bytes."""
    try:
        values = [orjson.loads(line) for line in body.split(b"\n") if line.strip()]
    except orjson.JSONDecodeError:
        yield from _split_text(body)
        return
    for value in values:
        yield from value if isinstance(value, list) else (value,)


def _split_text(body: bytes) -> Iterator[Any]:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadData(_TEXTS[_BAD_FORMAT], f"byte {error.start}") from None
    position, end = 0, len(text)
    while True:
        while position < end and text[position] in _BLANK:
            position += 1
        if position >= end:
            return
        try:
            _, stop = _decoder.raw_decode(text, position)
            value = orjson.loads(text[position:stop])  # Python's reader lets pass what is no JSON: NaN, lone surrogates
        except (ValueError, RecursionError):
            yield text[position:].encode()
            return
        yield from value if isinstance(value, list) else (value,)
        position = stop


def _resource(about: Mapping[str, Any]) -> dict[str, str]:
    return {known: as_text(about[key]) for key, known in _ABOUT if about.get(key) not in (None, "")}


def _time(event: Mapping[str, Any], received: int) -> int | None:
    said = event.get("time")
    return received if said in (None, "") else time_of(said)


def _record(event: Mapping[str, Any], rows: LogRows, received: int) -> int:
    """One event as a log record; Splunk's code of what is wrong with it."""
    said, fields, time = event.get("event"), event.get("fields") or {}, _time(event, received)
    if said is None:
        return _NO_EVENT
    if said == "" or said == {}:
        return _BLANK_EVENT
    if not isinstance(fields, dict):
        return _BAD_FIELDS
    if time is None:
        return _BAD_FORMAT
    attributes = flat(fields)
    if isinstance(said, dict):
        own = flat(said)
        key = next((key for key in _BODIES if key in own), "")
        text = own.pop(key) if key else as_text(said)
        attributes = own | attributes
    else:
        text = as_text(said)
    rows.add(rows.origin(_resource(event)), time, text, attributes)
    return _SUCCESS


def _measure(event: Mapping[str, Any], cells: Cells, received: int) -> int:
    """The points of one metric event; Splunk's code of what is wrong with it."""
    fields, time = event.get("fields"), _time(event, received)
    if time is None:
        return _BAD_FORMAT
    if not isinstance(fields, dict):
        return _BAD_FIELDS
    values = {key.removeprefix(_METRIC): value for key, value in fields.items() if key.startswith(_METRIC)}
    if "metric_name" in fields and "_value" in fields:
        values[as_text(fields["metric_name"])] = fields["_value"]
    numbers = {name: _number(value) for name, value in values.items()}
    if not numbers or "" in numbers or None in numbers.values():
        return _BAD_FIELDS
    about = {key: value for key, value in fields.items() if key not in ("metric_name", "_value") and not key.startswith(_METRIC)}
    attributes = flat(about) | _resource(event)
    for name, value in numbers.items():
        cells.add(orjson.dumps((name, attributes), option=orjson.OPT_SORT_KEYS), time, float(value or 0))
    return _SUCCESS


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _raw(asked: Asked) -> Decoded:
    """Lines as they are, a log record each; what is not UTF-8 is replaced.

    Raises:
        BadData: there is none.
    """
    rows = LogRows()
    origin = rows.origin(_resource(asked.query))
    for line in asked.body.split(b"\n"):
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        if text.strip():
            rows.add(origin, asked.received, text, {})
    if not len(rows):
        raise BadData(_TEXTS[_NO_DATA], "body")
    return Collected(rows.batch(asked.source, asked.received))


class SplunkHec(Source):
    """Splunk's HTTP Event Collector below ``/services/collector``."""

    kind = "splunk_hec"
    title = "Splunk HTTP Event Collector"
    extraction = "push"
    signals = frozenset(("log", "metric"))
    always = True
    Config = Strict

    def __init__(self, name: str, config: Strict, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._decoder = Hec()

    def doors(self) -> list[Door]:
        """The collector's endpoints and its health."""
        root = "/services/collector"
        events = [
            Door(root + path, self._events, _answer, _refuse, self._decoder.forget, source="splunk_hec", token_keywords=_KEYWORDS)
            for path in ("", "/event", "/event/1.0")
        ]
        raws = [Door(root + path, _raw, _answer, _refuse, source="splunk_hec", token_keywords=_KEYWORDS) for path in ("/raw", "/raw/1.0")]
        probes = [
            Door(root + path, lambda asked: Decoded(), _healthy, _refuse, methods=("GET",), open=True)
            for path in ("/health", "/health/1.0")
        ]
        return [*events, *raws, *probes]

    def _events(self, asked: Asked) -> Decoded:
        return self._decoder.events(asked.body, asked.source, asked.received)


def _say(status: int, code: int, **more: Any) -> Answer:
    return Answer(status, orjson.dumps({"text": _TEXTS[code], "code": code, **more}), "application/json")


def _answer(asked: Asked, decoded: Decoded) -> Answer:
    if isinstance(decoded, Collected) and decoded.code:
        return _say(400, decoded.code, **{"invalid-event-number": decoded.first_bad})
    return _say(200, _SUCCESS)


def _healthy(asked: Asked, decoded: Decoded) -> Answer:
    return Answer(200, b'{"text":"HEC is healthy","code":17}', "application/json")


def _refuse(asked: Asked, status: int, reason: str) -> Answer:
    if status == 401:
        known = bool(asked.headers.get("authorization"))
        return _say(403 if known else 401, _BAD_TOKEN if known else _NO_TOKEN)
    if status == 503:
        return _say(503, _BUSY)
    if status == 400:
        return _say(400, _NO_DATA) if reason.startswith(_TEXTS[_NO_DATA]) else _say(400, _BAD_FORMAT, **{"invalid-event-number": 0})
    return Answer(status, orjson.dumps({"text": reason, "code": 8 if status >= 500 else _BAD_FORMAT}), "application/json")
