"""Times of which nothing is learned, for every technique alike: open incidents, windows of maintenance, holidays, and anomalies found
useful while they last. What is held is judged as ever; what it does then is not taken for usual.

`Holds` hears the events that tell of them. Its clock is the time of receipt of the batches it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.clock import SECOND, parse
from ninefold.model.signal import Batch

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Row = dict[str, Any]

HOLD = 7200 * SECOND
"""An open incident, or an anomaly found useful, holds what it is about for so long: then it counts as the way things are now."""
_LONGEST_WINDOW = 86_400 * SECOND * 2
_LIMIT = 2000
_OURS = frozenset(("anomaly", "verdict", "incident"))
"""Only Ninefold itself is believed of these."""
_WINDOWS = frozenset(("change", "deployment", "maintenance", "holiday"))
_KINDS = pa.array(sorted(_OURS | _WINDOWS))
_GLOB = frozenset("*?[")
_CALLED_OFF = frozenset(("cancelled", "canceled", "closed", "completed", "ended", "rejected", "resolved"))


@dataclass(slots=True)
class Hold:
    """An entity or a glob of them (scope "entity"), or a series by its number as text (scope "series"), from `begin` to `end` (ns).

    Attributes:
        key: who tells of it; told again under the same key it takes the place of what was told before.
        event: the id of the event that told it last, which may be delivered twice.
        why: the reason in words.
    """

    key: str
    event: str
    scope: str
    target: str
    begin: int
    end: int
    why: str


class Holds:
    """What is held.

    Args:
        state: what `state()` gave, and the time then, to continue there.
    """

    def __init__(self, state: Sequence[Mapping[str, Any]] = (), now: int = 0) -> None:
        self._kept = {hold["key"]: Hold(**hold) for hold in state}
        self.now = now

    def state(self) -> list[dict[str, Any]]:
        """Everything but the time, as plain data."""
        return [asdict(hold) for hold in self._kept.values()]

    def __bool__(self) -> bool:
        """Whether there is any, now or announced."""
        return bool(self._kept)

    @property
    def active(self) -> list[Hold]:
        """Those of now."""
        return [hold for hold in self._kept.values() if hold.begin <= self.now < hold.end]

    def due(self, received: int) -> bool:
        """Take note of the time (ns); whether a hold begins or ends with it."""
        before, self.now = self.now, max(self.now, received)
        if not self._kept or before == self.now:
            return False
        crossed = any(before < at <= self.now for hold in self._kept.values() for at in (hold.begin, hold.end))
        if crossed:
            self._kept = {key: hold for key, hold in self._kept.items() if hold.end > self.now}
        return crossed

    def hear(self, batch: Batch) -> bool:
        """Take in a batch of events; whether anything is held that was not, or the other way round."""
        changed = self.due(batch.received)
        rows = batch.rows.filter(pc.is_in(batch.rows.column("kind"), _KINDS))
        if not rows.num_rows:
            return changed
        ours = batch.source.partition(".")[0] == "ninefold"
        rows = rows.set_column(rows.schema.get_field_index("time"), "time", rows.column("time").cast(pa.int64()))
        for row in rows.drop_columns(["received"]).to_pylist(maps_as_pydicts="lossy"):
            if row["kind"] in _WINDOWS:
                changed |= self._window(row)
            elif ours:
                changed |= self._told(row)
        return changed

    def covers(self, entities: Sequence[str]) -> Mask:
        """Which of these entities are held now, shape (n,)."""
        names = {hold.target for hold in self.active if hold.scope == "entity"}
        if not names:
            return np.zeros(len(entities), bool)
        globs = [name for name in names if set(name) & _GLOB]
        held = (entity in names or any(fnmatchcase(entity, glob) for glob in globs) for entity in entities)
        return np.fromiter(held, bool, len(entities))

    def _told(self, row: Row) -> bool:
        """What Ninefold says of its incidents, of people's verdicts, and of the ends of anomalies."""
        said, status = row["attributes"], row["status"]
        if row["kind"] == "incident":
            key = said.get("ninefold.incident", "")
            if status in ("opened", "reopened"):
                return self._hold(Hold(f"incident {key}", row["id"], "entity", row["entity"], self.now, self.now + HOLD, f"{key} is open"))
            return status in ("resolved", "merged") and self._release(f"incident {key}")
        mark = said.get("fingerprint") or row["fingerprint"]
        if row["kind"] == "anomaly":
            return status == "resolved" and self._release(f"anomaly {mark}")
        if said.get("verdict") != "useful" or said.get("status") != "firing":
            return False
        scope, target = ("series", said["series"]) if said.get("series") else ("entity", row["entity"])
        return self._hold(Hold(f"anomaly {mark}", row["id"], scope, target, self.now, self.now + HOLD, "an anomaly found useful lasts"))

    def _window(self, row: Row) -> bool:
        """A window: from `start`, else its own time, to `end` or `until` (RFC 3339); two hours of what has no end but says by its kind
        or by the attribute `maintenance` that it is one, a day of a holiday. A holiday of nobody in particular is everybody's."""
        said, time, kind = row["attributes"], row["time"], row["kind"]
        key = f"{row['source']} {row['source_id'] or (row['entity'], row['title'], said.get('start', time))}"
        if row["status"].lower() in _CALLED_OFF:
            return self._release(key)
        ends, target = said.get("end") or said.get("until", ""), row["entity"] or ("*" if kind == "holiday" else "")
        if not (ends or "maintenance" in said or kind in ("maintenance", "holiday")):
            return False
        try:
            begin = parse(said["start"]) if "start" in said else time
            end = parse(ends) if ends else begin + (HOLD if kind != "holiday" else 12 * HOLD)
        except ValueError:
            return False  # whoever sent it wrote no time there: it names no window
        # Lengths count, not dates: a history that is played in has its windows, too. What is announced for later counts from now.
        told = min(time, self.now) if self.now else time
        first = self.now + max(0, begin - told)
        last = min(self.now + end - told, first + _LONGEST_WINDOW)
        if last <= first:
            return self._release(key)
        return self._hold(Hold(key, row["id"], "entity", target, first, last, row["title"] or kind))

    def _hold(self, hold: Hold) -> bool:
        known = self._kept.get(hold.key)
        if not hold.target or (known is None and len(self._kept) >= _LIMIT) or (known and known.event == hold.event):
            return False
        self._kept[hold.key] = hold
        return bool(min(hold.begin, known.begin if known else hold.begin) <= self.now)

    def _release(self, key: str) -> bool:
        return self._kept.pop(key, None) is not None


def fits(entity: str, name: str) -> bool:
    """Whether a name means an entity: it is a glob, or the entity itself, which may have brackets."""
    return entity == name or fnmatchcase(entity, name)
