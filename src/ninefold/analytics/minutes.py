"""Windows of a minute in event time: when a minute is over, and which rows came too late for it.

The decision is taken row by row in the order of the journal, so the result does not depend on how batches are cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ninefold.ground.clock import MINUTE
from ninefold.model.signal import Batch

I64 = np.ndarray[Any, np.dtype[np.int64]]

GRACE, PATIENCE = MINUTE, 3 * MINUTE
"""A minute is over this long (ns) after its end on the clock of its own signal, or on that of another signal: a stream that falls
quiet would never close its last minute otherwise, and one that is merely behind the others must not be cut off."""


class Minutes:
    """Two clocks in event time (ns), one of the signal that is counted and one of the others, and what they close.

    A clock never runs ahead of the time of receipt, so a sender with a wrong clock cannot close the others' minutes.
    """

    def __init__(self, own: int = 0, other: int = 0) -> None:
        self.own, self.other = own, other

    def watch(self, batch: Batch) -> None:
        """Advance the other clock by a batch of another signal."""
        if batch.rows.num_rows:
            self.other = max(self.other, min(int(times_of(batch).max()), batch.received))

    def admit(self, times: I64, received: int) -> tuple[I64, I64]:
        """The minute (number since the epoch) of each row, and the first minute still open when that row came.

        A row is too late if its minute is before that. Advances the own clock.
        """
        clock = np.maximum.accumulate(np.concatenate((np.array([self.own]), np.minimum(times, received))))
        self.own = int(clock[-1])
        return times // MINUTE, np.maximum(clock[:-1] - GRACE, self.other - PATIENCE) // MINUTE

    def open(self) -> int:
        """The first minute that is still open now."""
        return max(self.own - GRACE, self.other - PATIENCE) // MINUTE


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
