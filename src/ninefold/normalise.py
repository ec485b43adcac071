"""Normalisation: what was accepted becomes what is kept. Raw records turn into events, log lines lose their secrets and get their
pattern and severity, and what cannot be true (an impossible time, an event that names nothing) goes to quarantine with its reason.

It is a pure function of the batch, so every reader of the journal sees the same rows; a small cache lets them share the work.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.analytics.logs.masking import Masking
from ninefold.analytics.logs.mining import pattern_keys
from ninefold.config import WebhookConfig
from ninefold.ground.clock import SECOND, iso
from ninefold.ground.errors import BadData
from ninefold.ground.log import get
from ninefold.model.entity import entity_of, fingerprint, vnode_of
from ninefold.model.severity import SEVERITIES, log_severity_number, severity_of
from ninefold.model.signal import EVENT, MAP, TIME, Batch, event_id, quarantine
from ninefold.sources import alertmanager, cloudevents, replay
from ninefold.sources.reading import EARLIEST
from ninefold.sources.webhook import Reader

VERSION = "2"
"""Part of every event ("ninefold.normaliser"); it changes when the same record would be read differently."""
FUTURE = 86400 * SECOND
"""A record's time may be at most this far ahead of its receipt."""
PLANNED = frozenset(("change", "deployment", "maintenance", "holiday"))
"""Kinds of events that are announced long before they begin, by at most `AHEAD`."""
AHEAD = 400 * 86400 * SECOND
_BY, _MADE_OF, _MAPPED = "ninefold.normaliser", "ninefold.fingerprint", "ninefold.mapping"
_TIMED = frozenset(("metric", "exemplar", "histogram", "log", "span", "event"))
_CACHE_BATCHES, _CACHE_BYTES = 1024, 64 << 20
_BAD_ROWS = 1000

_log = get("normalise")
ToEvent = Callable[[bytes, int], dict[str, Any]]


class Normaliser:
    """Turns accepted batches into canonical ones. May be called from several threads; each batch of the journal is read once.

    Args:
        webhooks: the configured mappings by name; any other name is read by the usual keys.
        mask: takes out of log lines what must not be kept; by default secrets.

    Raises:
        ConfigError: a mapping has a path that is not JMESPath or a field that does not exist.
    """

    def __init__(self, webhooks: Mapping[str, WebhookConfig], mask: Masking | None = None) -> None:
        self._mask = mask or Masking()
        self._readers = {name: (Reader(name, config), "") for name, config in webhooks.items()}
        self._cache: OrderedDict[int, Future[list[Batch]]] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._lock = threading.Lock()

    def remap(self, name: str, config: WebhookConfig, version: int) -> None:
        """Read records of this name by another mapping from now on; the events say which version read them.

        Raises:
            ConfigError: the mapping has a path that is not JMESPath or a field that does not exist.
        """
        self._readers[name] = Reader(name, config), f"{name} v{version}"

    def read(self, format_: str, payload: bytes, received: int) -> dict[str, Any]:
        """The event row of one raw record, as it is read now; `received` in ns.

        Raises:
            BadData: no reader is known for the format, or the record cannot be read.
        """
        return self._reader(format_)(payload, received)

    def event_batch(self, rows: Sequence[Mapping[str, Any]], source: str, received: int) -> Batch:
        """Rows of `read` as a batch; a row's own `received` and `source` come before those given."""
        return Batch("event", source, received, _event_rows(rows, source, received))

    def normalise(self, batch: Batch) -> list[Batch]:
        """The canonical batches of one accepted batch, in its place and time; nothing is lost: every row comes out or is quarantined."""
        if batch.rows.num_rows == 0:
            return []
        if batch.position == 0 or batch.signal not in ("raw", "log", "event"):
            return self._normalise(batch)
        with self._lock:
            future = self._cache.get(batch.position)
            mine = future is None
            if future is None:
                future = self._cache[batch.position] = Future()
            self._cache.move_to_end(batch.position)
        if mine:
            try:
                future.set_result(self._normalise(batch))
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    self._cache.pop(batch.position, None)
                raise
            self._trim(batch.position, future.result())
        return future.result()

    def _trim(self, position: int, done: Sequence[Batch]) -> None:
        with self._lock:
            self._sizes[position] = sum(batch.rows.nbytes for batch in done)
            while len(self._cache) > 1 and (len(self._cache) > _CACHE_BATCHES or sum(self._sizes.values()) > _CACHE_BYTES):
                oldest, _ = self._cache.popitem(last=False)
                self._sizes.pop(oldest, None)

    def _normalise(self, batch: Batch) -> list[Batch]:
        if batch.signal == "log":  # before anything is kept of it, in quarantine too
            batch = replace(batch, rows=self._mask(batch.rows))
        done = self._events(batch) if batch.signal == "raw" else _complete(batch) if batch.signal == "event" else [batch]
        done = [piece for part in done for piece in (_in_time(part) if part.signal in _TIMED else (part,))]
        return [_with_patterns(part) if part.signal == "log" else _with_failures(part) if part.signal == "span" else part for part in done]

    def _events(self, batch: Batch) -> list[Batch]:
        rows: list[dict[str, Any]] = []
        bad: dict[str, list[tuple[str, str, bytes]]] = {}
        readers: dict[str, ToEvent] = {}
        for format_, payload in zip(batch.rows.column("format").to_pylist(), batch.rows.column("payload").to_pylist(), strict=True):
            try:
                read = readers.get(format_)
                if read is None:
                    read = readers[format_] = self._reader(format_)
                rows.append(read(payload, batch.received))
            except BadData as error:
                bad.setdefault(format_, []).append((error.reason, error.where, payload))
            except Exception as error:  # noqa: BLE001 - one record that trips a defect must not stop every reader behind it
                _log.error("a %s record could not be read and is in quarantine", format_, exc_info=error)
                bad.setdefault(format_, []).append((f"reading it failed: {error}; report this record", "", payload))
        done = [replace(batch, signal="event", rows=_event_rows(rows, batch.source, batch.received))] if rows else []
        return done + [_bad(batch, "event", format_, found) for format_, found in bad.items()]

    def _reader(self, format_: str) -> ToEvent:
        if format_ == alertmanager.FORMAT:
            return alertmanager.to_event
        if format_ == cloudevents.FORMAT:
            return cloudevents.to_event
        kind, _, name = format_.partition(":")
        if kind != "webhook":
            raise BadData(f"no reader is known for the format {format_!r}; upgrade Ninefold or discard the record", "format")
        reader, version = self._readers.get(name) or (Reader(name), "")
        read = reader.to_event
        if not version:
            return read
        return lambda payload, received: read(payload, received) | {"mapping": version}

    def replay(self, quarantine_rows: pa.Table, received: int) -> list[Batch]:
        """Stored quarantine rows as batches for the front door, read again as if just received; what is still wrong comes back as a
        quarantine batch."""
        return replay.batches(quarantine_rows, received)

    def explain(self, event: Mapping[str, Any]) -> list[str]:
        """Why an event row looks as it does: normaliser and mapping, what the fingerprint is made of, where the entity came from."""
        attributes = dict(event["attributes"])
        version, _, format_ = attributes.get(_BY, "").partition(" ")
        name = format_.partition(":")[2]
        saved = attributes.get(_MAPPED, "")
        configured = f", mapping {name!r} from the configuration" if name in self._readers else ", read by the usual keys" if name else ""
        mapping = f", mapping {saved}" if saved else configured
        read = (
            f"Read by normaliser {version} as {format_}{mapping}."
            if version
            else "Sent as a complete event; nothing had to be read from it."
        )
        made_of = attributes.get(_MADE_OF, "")
        how = "given by the sender" if made_of in ("", "sender") else f"made of {made_of}"
        return [read, f"Fingerprint {event['fingerprint']} is {how}.", _why_entity(event["entity"], attributes)]


def _why_entity(entity: str, attributes: Mapping[str, str]) -> str:
    if not entity:
        return "No entity: no attribute names a service, pod, host or instance."
    names = entity.partition(":")[2].split("/")
    keys = [key for key, value in attributes.items() if value and value in (*names, entity, entity.partition(":")[2])]
    return f"Entity {entity} comes from {', '.join(keys[:3])}." if keys else f"Entity {entity} was named by the sender."


def _event_rows(rows: Sequence[Mapping[str, Any]], source: str, received: int) -> pa.RecordBatch:
    """Event rows as columns; `why` (format, fingerprint's make-up) becomes two attributes."""
    keys: list[str] = []
    values: list[str] = []
    offsets = [0]
    for row in rows:
        attributes = row["attributes"]
        keys.extend(attributes)
        values.extend(attributes.values())
        why = row.get("why")
        if why:
            keys += (_BY, _MADE_OF)
            values += (f"{VERSION} {why[0]}", why[1])
        if "mapping" in row:
            keys.append(_MAPPED)
            values.append(row["mapping"])
        offsets.append(len(keys))
    vnodes = {entity: vnode_of(entity) for entity in {row["entity"] or row["fingerprint"] for row in rows}}
    columns: dict[str, pa.Array] = {
        "vnode": pa.array([vnodes[row["entity"] or row["fingerprint"]] for row in rows], pa.uint16()),
        "received": pa.array([row.get("received", received) for row in rows], TIME),
        "source": pa.array([row.get("source", source) for row in rows], pa.string()),
        "attributes": pa.MapArray.from_arrays(
            pa.array(offsets, pa.int32()), pa.array(keys, pa.string()), pa.array(values, pa.string()), MAP
        ),
    }
    for field in EVENT:
        if field.name not in columns:
            columns[field.name] = pa.array([row[field.name] for row in rows], field.type)
    return pa.RecordBatch.from_arrays([columns[field.name] for field in EVENT], schema=EVENT)


def _bad(batch: Batch, signal: str, format_: str, found: Sequence[tuple[str, str, bytes]]) -> Batch:
    return replace(quarantine(batch.source, batch.received, signal, format_, found), position=batch.position)


def _in_time(batch: Batch) -> list[Batch]:
    """The rows whose time can be true, untouched when that is all of them, and a quarantine batch with the others."""
    times = batch.rows.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    latest = batch.received + FUTURE
    if times.min() >= EARLIEST and times.max() <= latest:
        return [batch]
    if batch.signal == "event":
        batch = _announced(batch, times)
        times = batch.rows.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    good = (times >= EARLIEST) & (times <= latest)
    rows = _dicts(batch.rows.filter(pa.array(~good)))
    reason = f"the time is before 1971 or more than a day after the receipt at {iso(batch.received)}; set the sender's clock"
    bad = [
        (f"{len(some)} {batch.signal} rows: {reason}", "time", orjson.dumps(some))
        for some in (rows[i : i + _BAD_ROWS] for i in range(0, len(rows), _BAD_ROWS))
    ]
    kept = [replace(batch, rows=batch.rows.filter(pa.array(good)))] if good.any() else []
    return [*kept, _bad(batch, batch.signal, f"rows.{batch.signal}", bad)]


def _announced(batch: Batch, times: np.ndarray[Any, Any]) -> Batch:
    """What is planned for later is an event of now, which says when it starts: nobody's clock goes ahead with it."""
    rows = _dicts(batch.rows)
    for row, time in zip(rows, times.tolist(), strict=True):
        if row["kind"] in PLANNED and batch.received + FUTURE < time <= batch.received + AHEAD:
            row["time"] = batch.received
            row["attributes"].setdefault("start", iso(time))
    return replace(batch, rows=_event_rows(rows, batch.source, batch.received))


def _dicts(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as dictionaries, times as ns."""
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in rows.columns]
    return pa.RecordBatch.from_arrays(columns, rows.schema.names).to_pylist(maps_as_pydicts="lossy")  # type: ignore[no-any-return]


def _complete(batch: Batch) -> list[Batch]:
    """Events with id, entity, severity word and fingerprint filled in where the sender left them out."""
    rows = batch.rows
    known = pc.is_in(rows.column("severity"), pa.array(SEVERITIES))
    filled = [pc.not_equal(rows.column(name), "") for name in ("id", "fingerprint", "entity")]
    if all(pc.all(column).as_py() for column in (known, *filled)):
        return [batch]
    good: list[dict[str, Any]] = []
    bad: list[tuple[str, str, bytes]] = []
    for row in _dicts(rows):
        try:
            good.append(_filled(row))
        except ValueError:
            bad.append(("the event has no title, entity or id that could tell it from another; send one", "title", orjson.dumps([row])))
    kept = [replace(batch, rows=_event_rows(good, batch.source, batch.received))] if good else []
    return [*kept, _bad(batch, "event", "rows.event", bad)] if bad else kept


def _filled(row: dict[str, Any]) -> dict[str, Any]:
    """Raises: ValueError: nothing identifies the event."""
    attributes = row["attributes"]
    row["entity"] = row["entity"] or entity_of(attributes)
    if row["severity"] not in SEVERITIES:
        row["severity_raw"] = row["severity_raw"] or row["severity"]
        row["severity"] = severity_of(row["severity_raw"])
    if not row["fingerprint"]:
        fields = {"entity": row["entity"], "title": attributes.get("alertname") or row["title"] or row["source_id"]}
        fingerprint(fields)
        row["fingerprint"] = fingerprint({"kind": row["kind"], **fields})
        attributes[_MADE_OF] = "kind, entity and title"
    row["id"] = row["id"] or event_id(row["source"], row["kind"], row["source_id"], row["fingerprint"], row["status"], str(row["time"]))
    return row


_CODES = pa.array(["http.response.status_code", "http.status_code", "rpc.grpc.status_code"])
_GRPC = 2
_GRPC_FAILS = pa.array(["2", "4", "12", "13", "14", "15"])


def _with_failures(batch: Batch) -> Batch:
    """Spans whose sender set no status, but an HTTP or gRPC code that means failure: they have failed.

    By OpenTelemetry's conventions: HTTP from 500 on, of a client from 400 on; of gRPC unknown, deadline exceeded, unimplemented,
    internal, unavailable and data loss.
    """
    rows = batch.rows
    unset = pc.equal(rows.column("status"), "unset").to_numpy(zero_copy_only=False)
    if not unset.any():
        return batch
    attributes = rows.column("attributes")
    which = pc.fill_null(pc.index_in(attributes.keys, _CODES), -1).to_numpy(zero_copy_only=False)
    place = np.flatnonzero(which >= 0)
    owner = np.searchsorted(attributes.offsets.to_numpy(), place, side="right") - 1
    inside = (owner >= 0) & (owner < len(rows))
    place, owner = place[inside], owner[inside]
    mine = unset[owner]
    place, owner = place[mine], owner[mine]
    if not len(place):
        return batch
    codes, grpc = attributes.items.take(pa.array(place)), which[place] == _GRPC
    client = pc.equal(rows.column("kind"), "client").to_numpy(zero_copy_only=False)[owner]
    served, asked = (pc.match_substring_regex(codes, f"^{first}[0-9]{{2}}$").to_numpy(zero_copy_only=False) for first in "54")
    failed = np.where(grpc, pc.is_in(codes, _GRPC_FAILS).to_numpy(zero_copy_only=False), served | (asked & client))
    if not failed.any():
        return batch
    found = np.zeros(len(rows), np.bool_)
    found[owner[failed]] = True
    return replace(batch, rows=_set(rows, "status", pc.if_else(pa.array(found), "error", rows.column("status"))))


_LEVELS = "TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|EMERGENCY|EMERG|PANIC"
_LEVEL = (
    rf"(?:^|[^A-Za-z0-9_])(?P<shouted>{_LEVELS})(?:[^A-Za-z0-9_]|$)"
    rf"|(?i:(?:level|severity|lvl)[\"']?\s*[=:]\s*[\"']?|\[)(?P<said>(?i:{_LEVELS}))(?:[^A-Za-z0-9_]|$)"
)
_HEAD = 200


def _with_patterns(batch: Batch) -> Batch:
    """Log rows with the key of their template, and with severities found in the text where the sender set none."""
    rows = batch.rows
    patterns = rows.column("pattern").to_numpy(zero_copy_only=False)
    if not patterns.all():
        patterns = np.where(patterns == 0, pattern_keys(rows.column("body")), patterns)
        rows = _set(rows, "pattern", pa.array(patterns, pa.uint64()))
    numbers = rows.column("severity_number").to_numpy(zero_copy_only=False)
    unset = numbers == 0
    if unset.any():
        some = rows.filter(pa.array(unset)) if not unset.all() else rows
        words = _level_words(some.column("severity_text"), some.column("body"))
        numbers, texts = numbers.copy(), rows.column("severity_text").to_numpy(zero_copy_only=False).copy()
        numbers[unset] = _numbers(words)
        texts[unset] = np.where(texts[unset] == "", words.to_numpy(zero_copy_only=False), texts[unset])
        rows = _set(rows, "severity_number", pa.array(numbers, pa.uint8()))
        rows = _set(rows, "severity_text", pa.array(texts, pa.string()))
    return batch if rows is batch.rows else replace(batch, rows=rows)


def _set(rows: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    place = rows.schema.get_field_index(name)
    return pa.RecordBatch.from_arrays([column if i == place else rows.column(i) for i in range(rows.num_columns)], schema=rows.schema)


def _level_words(texts: pa.Array, bodies: pa.Array) -> pa.Array:
    found = pc.extract_regex(pc.utf8_slice_codeunits(bodies, 0, _HEAD), pattern=_LEVEL)
    shouted, said = pc.struct_field(found, "shouted"), pc.struct_field(found, "said")
    from_body = pc.fill_null(pc.if_else(pc.equal(shouted, ""), said, shouted), "")
    return pc.if_else(pc.equal(texts, ""), from_body, texts)


def _numbers(words: pa.Array) -> Any:
    coded = words.dictionary_encode()
    table = np.array([log_severity_number(word) for word in coded.dictionary.to_pylist()] or [0], np.uint8)
    return table[coded.indices.to_numpy(zero_copy_only=False)]
