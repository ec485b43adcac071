"""The state of all techniques as the journal keeps it: written in parts of a few megabytes, valid at once by one commit.

Two sets of parts take turns. While one is written the other is what a restart would read, until the state that is committed with the
position names the new one; so a snapshot is never seen half, never held in memory whole, and no blob comes near SQLite's limit. What is
small enough lies in the committed state itself, and no part is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from ninefold.ground.errors import BadData
from ninefold.ground.log import get
from ninefold.plugin import Journal, LargeTechnique, Technique

_log = get("engine")
_PART_BYTES = 4 << 20
_SCHEMA = pa.schema({"name": pa.string(), "state": pa.large_binary()})
Piece = tuple[str, bytes]


class Snapshots:
    """Reads and writes the snapshots of one reader of the journal.

    Args:
        journal: where they are kept.
        reader: whose state they are.

    Attributes:
        parts: how many parts the last snapshot read or written has beside the committed state.
    """

    def __init__(self, journal: Journal, reader: str) -> None:
        self._journal, self._reader = journal, reader
        self._turn = self.parts = 0
        self._next = (0, 0)

    def restore(self, techniques: Sequence[Technique]) -> None:
        """Give every technique the state committed with the position; one that cannot read its own starts afresh."""
        by_name = {technique.name: technique for technique in techniques}
        try:
            self._restore(by_name)
        except BadData as error:  # a damaged journal lost a part
            _log.error("the techniques %s learn afresh: %s", ", ".join(by_name), error)
        for technique in by_name.values():
            technique.restore(b"")

    def _restore(self, by_name: dict[str, Technique]) -> None:
        """Restore what can be, and leave the others in `by_name`."""
        for name, pieces in groupby(self._kept(), itemgetter(0)):
            technique = by_name.pop(name, None)
            if technique is None:
                continue
            states = (state for _, state in pieces)
            try:
                if isinstance(technique, LargeTechnique):
                    technique.assemble(states)
                else:
                    technique.restore(next(states))
            except BadData as error:
                _log.warning("the technique %s learns afresh: %s", technique.name, error)
                technique.restore(b"")

    def write(self, techniques: Sequence[Technique]) -> bytes:
        """Write the parts of a new snapshot; returns the state that makes it valid when it is committed.

        Raises:
            Unavailable: the journal cannot be written; the old snapshot stands.
        """
        turn, waiting, size, parts = 1 - self._turn, list[Piece](), 0, 0
        for technique in techniques:
            for state in technique.parts() if isinstance(technique, LargeTechnique) else [technique.snapshot()]:
                waiting.append((technique.name, state))
                size += len(state)
                if size >= _PART_BYTES:
                    self._journal.put(self._reader, 2 * parts + turn, _pack(waiting)).result()
                    waiting, size, parts = [], 0, parts + 1
        self._next = (turn, parts)
        return _pack(waiting, turn=turn, parts=parts)

    def written(self) -> None:
        """What `write` returned has been committed, so the next snapshot takes the other turn."""
        self._turn, self.parts = self._next

    def _kept(self) -> Iterator[Piece]:
        state = self._journal.state(self._reader)
        self._turn, self.parts, last = _unpack(state) if state else (0, 0, [])
        for part in range(self.parts):
            blob = self._journal.part(self._reader, 2 * part + self._turn)
            if not blob:
                raise BadData(f"part {part} of its snapshot is lost")
            yield from _unpack(blob)[2]
        yield from last


def _pack(pieces: Sequence[Piece], **numbers: int) -> bytes:
    names, states = [name for name, _ in pieces], [state for _, state in pieces]
    schema = _SCHEMA.with_metadata({name: str(number) for name, number in numbers.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array(names, pa.string()), pa.array(states, pa.large_binary())], schema=schema))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _unpack(blob: bytes) -> tuple[int, int, list[Piece]]:
    """Turn, number of parts beside it (both 0 of a state from before there were parts), and pieces."""
    with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
        table = reader.read_all()
    numbers = table.schema.metadata or {}
    pieces = list(zip(table.column("name").to_pylist(), table.column("state").to_pylist(), strict=True))
    return int(numbers.get(b"turn", 0)), int(numbers.get(b"parts", 0)), pieces
