"""Windows of a minute in event time: when a minute is over, and which rows came too late for it.

The decision is taken row by row in the order of the journal, so the result does not depend on how batches are cut.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ninefold.ground.clock import MINUTE
from ninefold.model.signal import Batch

I64 = np.ndarray[Any, np.dtype[np.int64]]

FORGET = 1440
"""After so many minutes of silence a name is let go of, and what is said of it then is described as if it were new."""
GRACE, PATIENCE = MINUTE, 3 * MINUTE
"""A minute is over this long (ns) after its end on its signal's own clock, or when nothing of its signal has come for so long: a
stream that falls quiet would never close its last minute otherwise."""


class Minutes:
    """The clock of one signal in event time (ns), and which minutes it has closed.

    The clock never runs ahead of the time of receipt, so a sender with a wrong clock cannot close the others' minutes; and it is the
    signal's own, so that history played in beside live data is counted like any other.
    """

    def __init__(self, own: int = 0, received: int = 0, closed: int = 0) -> None:
        self.own, self.received, self.closed = own, received, closed

    def state(self) -> list[int]:
        """What the constructor takes to continue here."""
        return [self.own, self.received, self.closed]

    def watch(self, batch: Batch) -> None:
        """Notice by a batch of another signal that time passes: after a while of silence the last minutes that had rows are over."""
        if self.own and batch.received - self.received >= PATIENCE:
            silent = (self.own + batch.received - self.received - PATIENCE) // MINUTE
            self.closed = max(self.closed, min(silent, self.own // MINUTE + 1))

    def admit(self, times: I64, received: int) -> tuple[I64, I64]:
        """The minute (number since the epoch) of each row, and the first minute still open when that row came.

        A row is too late if its minute is before that. Advances the clock.
        """
        clock = np.maximum.accumulate(np.concatenate((np.array([self.own]), np.minimum(times, received))))
        first_open = np.maximum((clock[:-1] - GRACE) // MINUTE, self.closed)
        self.own, self.received = int(clock[-1]), max(self.received, received)
        return times // MINUTE, first_open

    def days(self, batch: Batch) -> list[Batch]:
        """The batch in pieces, each up to and with the row that ends a day: what is forgotten then does not depend on how batches are
        cut. `admit` is to be asked of one piece after the other, and what is over to be closed behind each."""
        times = times_of(batch)
        clock = np.maximum.accumulate(np.concatenate((np.array([self.own]), np.minimum(times, batch.received))))
        ends = np.flatnonzero(np.diff(np.maximum((clock - GRACE) // MINUTE, self.closed) // FORGET)) + 1
        edges = sorted({0, *ends.tolist(), len(times)})
        return [replace(batch, rows=batch.rows.slice(a, b - a)) for a, b in pairwise(edges)] if len(edges) > 2 else [batch]

    def open(self) -> int:
        """The first minute that is still open now."""
        self.closed = max(self.closed, (self.own - GRACE) // MINUTE)
        return self.closed


def times_of(batch: Batch) -> I64:
    """The `time` column in ns."""
    times: I64 = batch.rows.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    return times


class Names:
    """Small numbers for strings, in order of appearance; the empty string is 0."""

    def __init__(self, names: list[str] | None = None) -> None:
        self.names = names or [""]
        self._numbers = {name: i for i, name in enumerate(self.names)}

    def number(self, name: str) -> int:
        """The number of a name, a new one at its first appearance."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self.names)
            self.names.append(name)
        return found

    def encode(self, column: pa.Array) -> I64:
        """The numbers of a text column."""
        coded = column.dictionary_encode()
        table = np.array([self.number(name) for name in coded.dictionary.to_pylist()], np.int64)
        return table[coded.indices.to_numpy(zero_copy_only=False)] if len(column) else np.empty(0, np.int64)

    def keep(self, numbers: set[int]) -> I64:
        """Forget all names but those of these numbers and the empty one; returns the new number of each old one, -1 of the others."""
        kept = sorted({0, *numbers})
        places = np.full(len(self.names), -1, np.int64)
        places[kept] = np.arange(len(kept))
        self.names = [self.names[number] for number in kept]
        self._numbers = {name: i for i, name in enumerate(self.names)}
        return places
