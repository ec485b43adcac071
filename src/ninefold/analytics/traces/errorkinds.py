"""The kind of a failed span in a few words: what was thrown, the code it ended with, or what its message says beside its numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SAYS = (
    ("exception.type", ""), ("error.type", ""), ("rpc.grpc.status_code", "gRPC "), ("rpc.response.status_code", "RPC "),
    ("http.response.status_code", "HTTP "), ("http.status_code", "HTTP "), ("db.response.status_code", "database "),
)  # fmt: skip
"""Attributes that name the kind, the most telling first, and what is put before their value."""
_KEYS = pa.array([key for key, _ in _SAYS])
_THROWN = re.compile(r'"exception\.type":\s?"([^"\\]{1,200})"')
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b|\d+")
_LENGTH = 100


def kinds_of(rows: pa.RecordBatch) -> list[str]:
    """The kind of each row of a batch of failed spans."""
    messages = rows.column("status_message").dictionary_encode()
    words = np.array([_template(text) for text in messages.dictionary.to_pylist()] or [""], object)
    kinds: np.ndarray[Any, Any] = words[messages.indices.to_numpy(zero_copy_only=False)]
    attributes = rows.column("attributes")
    edges = attributes.offsets.to_numpy(zero_copy_only=False)
    codes = pc.fill_null(pc.index_in(attributes.keys.slice(edges[0], edges[-1] - edges[0]), _KEYS), -1).to_numpy(zero_copy_only=False)
    hits = np.flatnonzero(codes >= 0)
    owner, codes = np.searchsorted(edges - edges[0], hits, "right") - 1, codes[hits]
    said = np.array(attributes.items.take(pa.array(hits + edges[0])).to_pylist(), object)
    for code in reversed(range(2, len(_SAYS))):
        at = codes == code
        kinds[owner[at]] = [_SAYS[code][1] + text for text in said[at]]
    for row, events in enumerate(rows.column("events").to_pylist()):
        if len(events) > 2 and (thrown := _THROWN.search(events)):
            kinds[row] = thrown[1]
    for code in (1, 0):
        at = codes == code
        kinds[owner[at]] = said[at]
    return [str(kind)[:_LENGTH] or "error" for kind in kinds]


def _template(message: str) -> str:
    return _VARYING.sub("*", message)[:_LENGTH].strip() or "error"
