"""A made-up operation: sources that deliver at a rhythm, seen by a source watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ninefold.catalogue.watch import SourceWatch
from ninefold.ground.clock import SECOND
from ninefold.model.signal import TIME, Batch, batch_of

START = 1_800_000_000 * SECOND


def tick(at: int) -> Batch:
    """Ninefold's own metrics, which move the clock."""
    return batch_of("metric", "ninefold", at, [{"series": 1, "time": at, "value": 1.0}])


_KNOWN: dict[str, Batch] = {}


def lines(source: str, at: int, count: int, **more: Any) -> Batch:
    """Log lines of one receipt."""
    key = repr((source, count, more))
    if key not in _KNOWN:
        row = {"severity_number": 9, "body": "request done", "entity": "service:shop/cart", "attributes": {"http.route": "/cart"}}
        _KNOWN[key] = batch_of("log", source, 0, [{**row, "time": i, "pattern": 1 + i % 7, **more} for i in range(count)])
    rows = _KNOWN[key].rows
    times = pc.add(rows.column("time").cast(pa.int64()), at - SECOND).cast(TIME)
    place = rows.schema.get_field_index("time")
    return Batch("log", source, at, rows.set_column(place, rows.schema.field(place), times))


Deliver = Callable[[int], Iterable[Batch]]


class Operation:
    """Plays sources into a watch, 15 seconds at a time, and collects the drift events."""

    def __init__(self) -> None:
        self.watch = SourceWatch()
        self.at = START
        self.events: list[dict[str, Any]] = []
        self.batches: list[Batch] = []

    def play(self, hours: float, deliver: Deliver = lambda at: ()) -> list[dict[str, Any]]:
        """The events of some hours in which `deliver` gives what arrives at a time."""
        before = len(self.events)
        for _ in range(round(hours * 240)):
            self.at += 15 * SECOND
            for batch in (tick(self.at), *deliver(self.at)):
                self.batches.append(batch)
                for found in self.watch.process(batch):
                    self.events += found.rows.to_pylist(maps_as_pydicts="lossy")
        return self.events[before:]
