"""InfluxDB line protocol, as Telegraf and every other writer of InfluxDB 1 and 2 sends it.

Point the sender at this server as if it were InfluxDB:

- **v1** ``/write?db=telegraf&precision=ns``: password = the token (user name is free), as Basic authentication. ``/query`` answers
  ``CREATE DATABASE``, which Telegraf sends first, and nothing else.
- **v2** ``/api/v2/write?org=…&bucket=…&precision=ns``: ``Authorization: Token <token>``.
- ``/ping`` answers as InfluxDB does.

| line protocol | here |
|---|---|
| number or truth value | a point of the series ``<measurement>_<field>``, just ``<measurement>`` when the field is ``value``; true is 1 |
| tag | an attribute of the series; ``host`` becomes ``host.name``, and the entity |
| text | the line as one log record: ``message`` (or the only text) is its body, tags, other texts and numbers its attributes |
| timestamp | the time, in the precision that was asked for; without one, the receipt |
| database, bucket, organisation, retention policy | not kept |

Numbers are stored as 64-bit floats: integers beyond 2^53 lose their last digits. A line that breaks the protocol goes to quarantine, the
others are kept, and the answer is InfluxDB's own for a partial write (400), upon which senders go on with the next lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs

import numpy as np
import orjson

from ninefold.ground.errors import BadData, TooLarge
from ninefold.model.signal import Batch, Decoded, quarantine
from ninefold.plugin import Answer, Asked, Door, Lent, Source, Strict
from ninefold.sources.influx_line import Fields, Flags, scan, tags_of, unescape
from ninefold.sources.kernel import Ints
from ninefold.sources.keyed import Identified, Keyed, Row, metric_batches, series_row
from ninefold.sources.log_rows import LogRows

LIMIT_BYTES = 25_000_000
"""InfluxDB's own limit of a body."""
_FORMAT = "influx"
_SCALES = {
    "": 1, "n": 1, "ns": 1, "u": 1000, "µ": 1000, "us": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_NAMES = {"host": "host.name", "hostname": "host.name", "service": "service.name"}
_BODIES = ("message", "msg", "value", "text")
_VERSION = {"X-Influxdb-Version": "1.8.10", "X-Influxdb-Build": "OSS"}
_SHOWN = 80


class Influx:
    """The decoder; one instance a source, because it remembers which series were described. Thread-safe."""

    def __init__(self) -> None:
        self._series, self._fields = Keyed(), Keyed()

    def parse(self, body: bytes, source: str, received: int, precision: str = "ns") -> Decoded:
        """The points and log records of a body; lines that break the protocol are in quarantine, the first of them is the `reason`.

        Raises:
            BadData: the precision is not one of InfluxDB's.
            TooLarge: the body is longer than InfluxDB takes, or repeats so many tags that they would fill the memory.
        """
        if len(body) > LIMIT_BYTES:
            raise TooLarge(f"the body is longer than {LIMIT_BYTES} bytes; send smaller batches")
        scale = _SCALES.get(precision)
        if scale is None:
            raise BadData(f"invalid precision {precision[:20]!r} (use n, u, ms, s, m or h)", "precision")
        found = scan(body)
        times = _times(found, scale, received)
        ids, rows, bad = self._identify(body, found)
        for cell, reason in bad:
            found.errors.setdefault(int(found.line[cell]), reason)
        wrong = np.zeros(len(found.starts), np.bool_)
        wrong[list(found.errors)] = True
        good = ~wrong[found.line]
        batches = metric_batches(source, received, rows, ids[good], times[found.line[good]], found.value[good])
        batches += self._logs(body, found, times, wrong).batch(source, received)
        lines = [(found.errors[row], body[found.starts[row] : found.ends[row]], row) for row in sorted(found.errors)]
        if lines:
            format_ = _FORMAT if scale == 1 else f"{_FORMAT}:{precision}"
            batches.append(quarantine(source, received, "metric", format_, ((why, f"line {row + 1}", line) for why, line, row in lines)))
        said = [f"unable to parse '{line[:_SHOWN].decode('utf-8', 'replace')}': {why}" for why, line, _ in lines[:5]]
        return Decoded(batches, len(lines), "\n".join(said))

    def forget(self, batches: Iterable[Batch]) -> None:
        """Describe the series of these batches again with their next points: they were not kept."""
        self._series.forget(batches)

    def _identify(self, body: bytes, found: Fields) -> Identified:
        """The series of every cell: known by the bytes of its line's head, and by the number that the bytes of its field's key have."""
        heads, ends = found.starts[found.line], found.key_ends[found.line]
        none = np.zeros(len(found.line), np.int64)

        def name(cell: int) -> bytes:
            return body[found.key[cell] : found.key[cell] + found.key_size[cell]]

        groups, _, unread = self._fields.identify(body, found.key, found.key_size, none, lambda cell: series_row(_text(name(cell)), {}))

        def describe(cell: int) -> Row:
            measurement, tags = tags_of(body[heads[cell] : ends[cell]])
            field = unescape(_text(name(cell)))
            return series_row(measurement if field == "value" else f"{measurement}_{field}", _renamed(tags))

        ids, rows, bad = self._series.identify(body, heads, ends - heads, groups.view(np.int64) & _GROUP, describe)
        return ids, rows, [*unread, *bad]

    def _logs(self, body: bytes, found: Fields, times: Ints, wrong: Flags) -> LogRows:
        """A log record of every line that holds text; lines whose head cannot be read are marked in `errors`."""
        logs = LogRows()
        by_line: dict[int, dict[str, str]] = {}
        for text in found.texts:
            by_line.setdefault(text.line, {})[text.key] = text.value
        if not by_line:
            return logs
        cells: dict[int, list[int]] = {line: [] for line in by_line}
        for cell in np.flatnonzero(np.isin(found.line, list(by_line))).tolist():
            cells[int(found.line[cell])].append(cell)
        for line, texts in by_line.items():
            try:
                measurement, tags = tags_of(body[found.starts[line] : found.key_ends[line]])
            except BadData as error:
                found.errors.setdefault(line, error.reason)
                wrong[line] = True
            if wrong[line]:
                continue
            resource = _renamed(tags)
            key = next((key for key in _BODIES if key in texts), next(iter(texts)) if len(texts) == 1 else "")
            said = texts.pop(key) if key else orjson.dumps(texts).decode()
            attributes = {"event.name": measurement, **texts}
            for cell in cells[line]:
                name = unescape(_text(body[found.key[cell] : found.key[cell] + found.key_size[cell]]))
                attributes[name] = repr(float(found.value[cell])).removesuffix(".0")
            logs.add(logs.origin(resource), int(times[line]), said, attributes, resource.get("severity") or resource.get("level") or "")
        return logs


_GROUP = (1 << 62) - 1
"""A key's group number is a positive number of 62 bits."""


def _renamed(tags: dict[str, str]) -> dict[str, str]:
    return {key if _NAMES.get(key, key) in tags else _NAMES.get(key, key): value for key, value in tags.items()}


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadData("not UTF-8") from None


def _times(found: Fields, scale: int, received: int) -> Ints:
    """The time of every line in ns; those outside of what 64 bits hold are marked in `errors`."""
    limit = ((1 << 63) - 1) // scale
    late = found.timed & ((found.times > limit) | (found.times < 0))
    for row in np.flatnonzero(late).tolist():
        found.errors.setdefault(row, "time outside range 1970 - 2262")
    return np.where(found.timed & ~late, np.where(late, 0, found.times) * scale, received)


class InfluxDb(Source):
    """InfluxDB 1 (``/write``) and 2 (``/api/v2/write``), line protocol."""

    kind = "influx"
    title = "InfluxDB line protocol"
    extraction = "push"
    signals = frozenset(("metric", "log"))
    always = True
    Config = Strict

    def __init__(self, name: str, config: Strict, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._decoder = Influx()

    def doors(self) -> list[Door]:
        """Both write endpoints, the ping and the query that makes a database."""
        tokens = ("Token",)
        return [
            Door("/write", self._accept, _written_v1, _refused_v1, self._decoder.forget, source="influx", token_keywords=tokens),
            Door("/api/v2/write", self._accept, _written_v2, _refused_v2, self._decoder.forget, source="influx", token_keywords=tokens),
            Door(
                "/ping",
                lambda asked: Decoded(),
                lambda asked, decoded: Answer(204, headers=_VERSION),
                methods=("GET",),
                open=True,
            ),
            Door("/query", _query, _asked, _refused_v1, methods=("GET", "POST"), token_keywords=tokens),
        ]

    def _accept(self, asked: Asked) -> Decoded:
        return self._decoder.parse(asked.body, asked.source, asked.received, asked.query.get("precision", "ns"))


def _partial(decoded: Decoded) -> str:
    kept = any(batch.signal != "quarantine" for batch in decoded.batches)
    return f"partial write: {decoded.reason} dropped={decoded.rejected}" if kept else decoded.reason


def _json(status: int, value: Mapping[str, object], headers: Mapping[str, str] = {}) -> Answer:
    return Answer(status, orjson.dumps(value) + b"\n", "application/json", {**_VERSION, **headers})


def _refused_v1(asked: Asked, status: int, reason: str) -> Answer:
    return _json(status, {"error": reason}, {"X-Influxdb-Error": reason.splitlines()[0].encode("latin-1", "replace").decode("latin-1")})


_CODES = {400: "invalid", 401: "unauthorized", 403: "forbidden", 404: "not found", 413: "request too large", 503: "unavailable"}


def _refused_v2(asked: Asked, status: int, reason: str) -> Answer:
    return _json(status, {"code": _CODES.get(status, "internal error"), "message": reason})


def _written_v1(asked: Asked, decoded: Decoded) -> Answer:
    return _refused_v1(asked, 400, _partial(decoded)) if decoded.rejected else Answer(204, headers=_VERSION)


def _written_v2(asked: Asked, decoded: Decoded) -> Answer:
    return _refused_v2(asked, 400, _partial(decoded)) if decoded.rejected else Answer(204, headers=_VERSION)


def _query(asked: Asked) -> Decoded:
    statement = asked.query.get("q") or "".join(parse_qs(asked.body.decode("utf-8", "replace")).get("q", []))
    if statement.strip().upper().startswith(("CREATE DATABASE", "CREATE RETENTION POLICY")):
        return Decoded()
    raise BadData("queries are not answered here; use Ninefold's own API", "q")


def _asked(asked: Asked, decoded: Decoded) -> Answer:
    return _json(200, {"results": [{"statement_id": 0}]})
