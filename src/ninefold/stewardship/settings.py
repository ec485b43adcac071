"""What people have set, read back from the events that told of it, for a technique that starts afresh."""

from __future__ import annotations

from typing import Any

from ninefold.ground.clock import now
from ninefold.model.signal import Batch, batch_of
from ninefold.plugin import Store

_MOST = 100_000
_SETTINGS = """
SELECT id, toUnixTimestamp64Nano(time) AS at, kind, source, source_id, entity, title, severity, status, fingerprint, attributes
FROM event WHERE kind = 'setting' AND startsWith(source, 'ninefold')
    AND (attributes['setting'] != '' OR attributes['detection'] IN ('sensitivity', 'settings', 'shadow', 'undo'))
ORDER BY time DESC, id DESC LIMIT {most:UInt32}"""


def in_force(store: Store) -> list[Batch]:
    """The settings that are in force, as the events that made them, in their order: none at a first start.

    What verdicts moved is not among them, and so neither is taking such a move back.

    Raises:
        Unavailable: the store cannot be read now.
    """
    rows: list[dict[str, Any]] = []
    for row in reversed(store.query(_SETTINGS, {"most": _MOST}).to_pylist(maps_as_pydicts="lossy")):
        said = row["attributes"]
        if said.get("detection") != "undo":
            rows.append(row)
        elif said.get("scope") == "settings":
            last = max((i for i, one in enumerate(rows) if one["attributes"].get("detection") == "settings"), default=None)
            del rows[slice(last, last + 1) if last is not None else slice(0)]
    return [batch_of("event", row["source"], now(), [{**row, "time": row["at"]}]) for row in rows]
