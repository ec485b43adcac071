"""Quarantined records on their way back in: each becomes what the front door would have journalled for it.

A record that is still wrong comes back as a quarantine row with its new reason; one bad record never holds up the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import orjson
import pyarrow as pa

from ninefold.ground.errors import BadData
from ninefold.model.signal import SCHEMAS, Batch, Decoded, batch_of, from_ipc, quarantine
from ninefold.sources import collectd_names, elasticsearch, loki, syslog_message
from ninefold.sources.collectd_http import Collectd
from ninefold.sources.collectd_network import Guard, Packets
from ninefold.sources.fluent_forward import Entries, Message
from ninefold.sources.graphite import Plaintext
from ninefold.sources.influx import Influx
from ninefold.sources.otlp import Otlp
from ninefold.sources.reading import raw_batch
from ninefold.sources.remote_write import RemoteWrite
from ninefold.sources.splunk_hec import Hec

_RAW = ("alertmanager", "cloudevents")
_ROWS = "rows."
"""Formats of canonical rows that were refused: ``rows.<signal>``, a JSON list of rows with times in ns."""
_BATCH = "batch."
"""Formats of whole batches that a reader of the journal could not digest: ``batch.<signal>``, Arrow IPC."""
_LEARNING = "techniques."
"""Formats of whole batches that are in the store and only the analytics could not digest."""
_MEDIA_TYPES = {"otlp_proto": "application/x-protobuf", "otlp_json": "application/json"}

Decode = Callable[[bytes], Decoded]


def batches(rows: pa.Table, received: int) -> list[Batch]:
    """The batches of quarantine rows (columns source, signal, format, and payload as bytes or text), as if received now."""
    groups: dict[tuple[str, str, str], list[bytes]] = defaultdict(list)
    columns = [rows.column(name).to_pylist() for name in ("source", "signal", "format", "payload")]
    for source, signal, format_, payload in zip(*columns, strict=True):
        groups[source, signal, format_].append(payload.encode() if isinstance(payload, str) else payload)
    return [batch for key, payloads in groups.items() for batch in _group(*key, payloads, received)]


def _group(source: str, signal: str, format_: str, payloads: Sequence[bytes], received: int) -> list[Batch]:
    if format_ in _RAW or format_.startswith("webhook:"):
        return [raw_batch(format_, source, received, payloads)]
    decode = _decoder(source, signal, format_, received)
    found: list[Batch] = []
    bad: list[tuple[str, str, bytes]] = []
    for payload in payloads:
        try:
            found += decode(payload).batches
        except BadData as error:
            bad.append((error.reason, error.where, payload))
    return [*found, quarantine(source, received, signal, format_, bad)] if bad else found


def _decoder(source: str, signal: str, format_: str, received: int) -> Decode:
    if format_ in _MEDIA_TYPES and signal in ("metric", "log", "span"):
        otlp = Otlp()
        method = {"metric": otlp.metrics, "log": otlp.logs, "span": otlp.traces}[signal]
        return partial(method, content_type=_MEDIA_TYPES[format_], source=source, received=received)
    if format_ == "remote_write":
        return partial(RemoteWrite().decode, source=source, received=received)
    if format_ == "syslog":
        return lambda payload: syslog_message.parse(payload.split(b"\n"), source, received)
    word, _, detail = format_.partition(":")
    if word == "influx":
        return partial(Influx().parse, source=source, received=received, precision=detail or "ns")
    if word in _DOORS:
        return partial(_DOORS[word], source, received)
    if format_ == "graphite":
        return partial(Plaintext().decode, source=source, received=received)
    if format_ == "fluent_forward":
        return lambda payload: Entries().decode([Message(payload, lambda _: None)], [], source, received)
    if format_.startswith(_BATCH):
        return partial(_whole, signal, source, received)
    if format_.startswith(_LEARNING):
        return _stored_already
    kind = format_.removeprefix(_ROWS)
    if format_.startswith(_ROWS) and kind in SCHEMAS:
        return partial(_rows, kind, source, received)
    return partial(_no_way_back, format_)


_DOORS: dict[str, Callable[[str, int, bytes], Decoded]] = {
    "loki": lambda source, received, payload: loki.decode_json(payload, "", source, received),
    "loki_proto": lambda source, received, payload: loki.decode_protobuf(payload, "", source, received),
    "elasticsearch": lambda source, received, payload: elasticsearch.decode(payload, "", source, received),
    "splunk_hec": lambda source, received, payload: Hec().events(payload, source, received),
    "collectd": lambda source, received, payload: Collectd().decode(payload, source, received),
    "collectd_network": lambda source, received, payload: Packets(Guard(), collectd_names.DATA_SOURCES, _sealed).decode(
        [payload], source, received
    ),
}
"""Formats that one product's door reads by itself."""


def _sealed(why: str) -> None:
    raise BadData(f"the packet cannot be opened: {why}; its sender has to send it anew")


def _whole(signal: str, source: str, received: int, payload: bytes) -> Decoded:
    try:
        return Decoded([Batch(signal, source, received, from_ipc(payload))])
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise BadData(f"the batch cannot be read: {error}; it was changed since") from None


def _rows(signal: str, source: str, received: int, payload: bytes) -> Decoded:
    try:
        rows = orjson.loads(payload)
        for row in rows:
            row.pop("received", None)
            if signal == "metric" and row["value"] is None:  # JSON has no NaN
                row["value"] = float("nan")
        return Decoded([batch_of(signal, source, received, rows)])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, pa.ArrowException) as error:
        raise BadData(f"the rows cannot be read: {error}; correct them at their sender") from None


def _stored_already(payload: bytes) -> Decoded:
    raise BadData("the batch is in the store; only the analytics could not learn from it, and sending it again would double it", "format")


def _no_way_back(format_: str, payload: bytes) -> Decoded:
    raise BadData(f"a record of format {format_!r} cannot be read again by itself; correct it at its sender and send it anew", "format")
