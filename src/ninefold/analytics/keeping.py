"""Snapshots of techniques: named arrays in one blob with a kind and a version, no code in it, equal bytes for equal state."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ninefold.ground.errors import BadData

_SCHEMA = pa.schema({"name": pa.string(), "type": pa.string(), "shape": pa.list_(pa.int64()), "data": pa.large_binary()})
_LENGTH = struct.Struct("<Q")


def pack(kind: str, version: int, texts: Any, **arrays: np.ndarray[Any, Any]) -> bytes:
    """One blob (an Arrow IPC stream) of `arrays` and of `texts`, which is plain data (JSON)."""
    rows = {
        "name": list(arrays),
        "type": [array.dtype.str for array in arrays.values()],
        "shape": [list(array.shape) for array in arrays.values()],
        "data": [array.tobytes() for array in arrays.values()],
    }
    schema = _SCHEMA.with_metadata({"kind": kind, "version": str(version), "texts": json.dumps(texts)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table(rows, schema=schema))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def unpack(kind: str, version: int, blob: bytes) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    """The texts and the arrays of a blob, arrays writable.

    Raises:
        BadData: it is no snapshot of this kind and version.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
            table = reader.read_all()
        head = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    except pa.ArrowInvalid as error:
        raise BadData(f"the snapshot of {kind} cannot be read: {error}") from error
    if (head.get("kind"), head.get("version")) != (kind, str(version)):
        found = f"{head.get('kind', 'something else')} version {head.get('version', '?')}"
        raise BadData(f"the snapshot is of {found}, expected {kind} version {version}; start afresh")
    arrays = {row["name"]: np.frombuffer(row["data"], row["type"]).reshape(row["shape"]).copy() for row in table.to_pylist()}
    return json.loads(head["texts"]), arrays


def joined(parts: Iterable[bytes]) -> bytes:
    """Several blobs as one."""
    return b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part))


def separated(blob: bytes) -> Iterator[bytes]:
    """The blobs that were joined; what is no such thing comes back as it is, to be refused by who reads it."""
    place = 0
    while place + _LENGTH.size <= len(blob) and place + _LENGTH.size + (length := _LENGTH.unpack_from(blob, place)[0]) <= len(blob):
        place += _LENGTH.size
        yield blob[place : place + length]
        place += length
    if place < len(blob):
        yield blob[place:]
