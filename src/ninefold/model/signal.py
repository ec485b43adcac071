"""The signals and their Arrow columns: the one shape in which data travels.

Five signals: metric, log, span, event, relation. A metric is two batches: `series` (what the series is, sent when it is
first seen) and `metric` (its points); `exemplar` (a point's trace) and `histogram` (points that are whole distributions) stand
beside them. An event is anything that happened: an alert, a deployment, a change, a ticket's
transition, an approval, a verdict, a workflow's result, an anomaly. Two more batches carry what is not a signal yet: `raw` (accepted
bodies that normalisation turns into events) and `quarantine` (what could not be understood, with the reason).

All times are ns since the epoch, UTC. Maps are text to text. Every row but a metric point carries its `vnode`; a metric
point's is ``series % 4096``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pyarrow as pa

from ninefold.model.entity import hash64, vnode_of

TIME = pa.timestamp("ns", "UTC")
MAP = pa.map_(pa.string(), pa.string())
_INDEXES, _COUNTS = pa.list_(pa.int32()), pa.list_(pa.float64())


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


METRIC = _schema(series=pa.uint64(), time=TIME, value=pa.float64())
SERIES = _schema(
    vnode=pa.uint16(), series=pa.uint64(), name=pa.string(), unit=pa.string(), kind=pa.string(), entity=pa.string(),
    source=pa.string(), attributes=MAP, seen=TIME,
)  # fmt: skip
"""`kind` is gauge, counter (cumulative and monotonic), delta or unknown; `seen` is when the series was first received."""
EXEMPLAR = _schema(series=pa.uint64(), time=TIME, value=pa.float64(), trace_id=pa.string(), span_id=pa.string(), attributes=MAP)
"""A single measurement behind a point, with the trace it was made in; ids are lower-case hex, "" when absent."""
HISTOGRAM = _schema(
    series=pa.uint64(), time=TIME, count=pa.float64(), sum=pa.float64(), scale=pa.int8(), zero_threshold=pa.float64(),
    zero_count=pa.float64(), positive_index=_INDEXES, positive_count=_COUNTS, negative_index=_INDEXES, negative_count=_COUNTS,
    bounds=_COUNTS,
)  # fmt: skip
"""A native (exponential) histogram: bucket i of `scale` s holds values in (b**i, b**(i+1)] with b = 2**(2**-s), as in OpenTelemetry
(Prometheus' bucket i is (b**(i-1), b**i], one less here). Counts are per bucket, not cumulative over buckets; `bounds` is set instead of
`scale` for histograms with buckets of their own."""
LOG = _schema(
    vnode=pa.uint16(), time=TIME, received=TIME, source=pa.string(), entity=pa.string(), severity_number=pa.uint8(),
    severity_text=pa.string(), body=pa.string(), pattern=pa.uint64(), trace_id=pa.string(), span_id=pa.string(),
    attributes=MAP, resource=MAP,
)  # fmt: skip
"""`pattern` is the key of the line's template (0 before normalisation); ids are lower-case hex, "" when absent."""
SPAN = _schema(
    vnode=pa.uint16(), time=TIME, received=TIME, source=pa.string(), entity=pa.string(), trace_id=pa.string(),
    span_id=pa.string(), parent_span_id=pa.string(), name=pa.string(), kind=pa.string(), duration=pa.int64(),
    status=pa.string(), status_message=pa.string(), attributes=MAP, resource=MAP, events=pa.string(),
)  # fmt: skip
"""`duration` in ns; `kind` is internal, server, client, producer, consumer; `status` is unset, ok, error; `events` is JSON."""
EVENT = _schema(
    vnode=pa.uint16(), id=pa.string(), time=TIME, received=TIME, kind=pa.string(), source=pa.string(), source_id=pa.string(),
    entity=pa.string(), title=pa.string(), body=pa.string(), severity=pa.string(), severity_raw=pa.string(),
    status=pa.string(), fingerprint=pa.string(), attributes=MAP, raw=pa.string(),
)  # fmt: skip
"""`kind`: alert, anomaly, change, deployment, ticket, approval, verdict, workflow, incident, drift, business or a sender's own
word; `status`: firing, resolved, acknowledged, "" where it has none; `id` is deterministic, so a second delivery is the same event."""
RELATION = _schema(vnode=pa.uint16(), time=TIME, source=pa.string(), from_entity=pa.string(), to_entity=pa.string(), kind=pa.string())
"""`kind`: calls, runs_on, depends_on, member_of; `from_entity` needs `to_entity`."""
RAW = _schema(vnode=pa.uint16(), received=TIME, source=pa.string(), format=pa.string(), payload=pa.binary())
"""One accepted body or record; `format` names the mapping that reads it, e.g. ``alertmanager``, ``cloudevents``, ``webhook:jira``."""
QUARANTINE = _schema(
    id=pa.string(), received=TIME, source=pa.string(), signal=pa.string(), format=pa.string(), reason=pa.string(),
    where=pa.string(), payload=pa.binary(),
)  # fmt: skip
"""What could not be understood: `reason` and `where` for people, `format` and `payload` for the replay."""

SCHEMAS: Mapping[str, pa.Schema] = {
    "metric": METRIC, "series": SERIES, "exemplar": EXEMPLAR, "histogram": HISTOGRAM,
    "log": LOG, "span": SPAN, "event": EVENT, "relation": RELATION, "raw": RAW,
    "quarantine": QUARANTINE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one signal from one source, received together. `received` in ns; `position` is its place in the journal, 0 before."""

    signal: str
    source: str
    received: int
    rows: pa.RecordBatch
    position: int = 0


@dataclass(slots=True)
class Decoded:
    """What a decoder made of a body: the good rows as batches, the bad ones with their reason (a `quarantine` batch)."""

    batches: list[Batch] = field(default_factory=list)
    rejected: int = 0
    reason: str = ""


def batch_of(signal: str, source: str, received: int, rows: Sequence[Mapping[str, Any]]) -> Batch:
    """A batch from row dictionaries (not for hot paths): missing text is "", missing maps are empty, `vnode`, `source` and
    `received` are filled in, times are ns integers.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its column.
    """
    schema = SCHEMAS[signal]
    columns = []
    for column in schema:
        if column.name == "vnode":
            values: list[Any] = [_vnode(signal, row) for row in rows]
        elif column.name in ("source", "received"):
            default: Any = source if column.name == "source" else received
            values = [row.get(column.name, default) for row in rows]
        elif pa.types.is_map(column.type):
            columns.append(_maps([row.get(column.name, {}) for row in rows]))
            continue
        else:
            values = [row.get(column.name, _EMPTY.get(column.type, 0)) for row in rows]
        columns.append(pa.array(values, column.type))
    return Batch(signal, source, received, pa.RecordBatch.from_arrays(columns, schema=schema))


def _maps(maps: Sequence[Mapping[str, str]]) -> pa.MapArray:
    """A column of maps: their keys and values in two flat columns, which spares a tuple for each pair."""
    offsets = pa.array(accumulate(map(len, maps), initial=0), pa.int32())
    keys = pa.array([key for one in maps for key in one], pa.string())
    return pa.MapArray.from_arrays(offsets, keys, pa.array([value for one in maps for value in one.values()], pa.string()), MAP)


_EMPTY: dict[pa.DataType, Any] = {pa.string(): "", pa.binary(): b"", _INDEXES: [], _COUNTS: []}


def _vnode(signal: str, row: Mapping[str, Any]) -> int:
    if "vnode" in row:
        return int(row["vnode"])
    if signal == "series":
        return int(row["series"]) % 4096
    return vnode_of(str(row.get("entity") or row.get("from_entity") or row.get("fingerprint") or ""))


def quarantine(source: str, received: int, signal: str, format_: str, bad: Iterable[tuple[str, str, bytes]]) -> Batch:
    """A quarantine batch from ``(reason, where, payload)`` triples; ids are deterministic over content and time."""
    rows = [
        {
            "id": f"{hash64((source, str(received), str(i), reason, payload.hex())):016x}",
            "signal": signal, "format": format_, "reason": reason, "where": where, "payload": payload,
        }
        for i, (reason, where, payload) in enumerate(bad)
    ]  # fmt: skip
    return batch_of("quarantine", source, received, rows)


def event_id(*fields: str) -> str:
    """A deterministic event id: 16 hex digits over length-framed fields."""
    return f"{hash64(fields):016x}"


def to_ipc(rows: pa.RecordBatch) -> bytes:
    """Arrow IPC stream bytes of one record batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def from_ipc(blob: bytes) -> pa.RecordBatch:
    """The record batch of Arrow IPC stream bytes (zero copy).

    Raises:
        pyarrow.ArrowInvalid: the bytes are not one Arrow IPC stream.
    """
    with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
        return reader.read_next_batch()
