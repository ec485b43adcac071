"""The state of all techniques as the journal keeps it: valid at once by one commit, and never held in memory whole when it is large.

What is small lies in the state that is committed with the position. Large techniques go into parts of a few megabytes beside it, unless
together they are small too. Two sets of parts take turns: while one is written the other is what a restart would read, until the
committed state names the new one by its number, which every part carries; so a snapshot is never seen half or mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from ninefold.ground.errors import Unavailable
from ninefold.ground.log import get
from ninefold.plugin import Journal, LargeTechnique, Technique

_log = get("engine")
_PART_BYTES = 4 << 20
_SCHEMA = pa.schema({"name": pa.string(), "state": pa.large_binary()})
Piece = tuple[str, bytes]


class Unkept(Exception):
    """A technique cannot say its state."""

    def __init__(self, technique: Technique) -> None:
        super().__init__(f"the technique {technique.name} cannot say its state")
        self.technique = technique


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
        self._number = self.parts = 0
        self._next = (0, 0)
        self._lost = ""

    def restore(self, techniques: Sequence[Technique]) -> list[Technique]:
        """Give every technique the state committed with the position; returns those that start afresh, having none or one they cannot
        read."""
        by_name = {technique.name: technique for technique in techniques}
        self._lost, afresh = "", list[Technique]()
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
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a technique cannot read, it must not keep all of them from going on
                _log.warning("the technique %s learns afresh: %s", technique.name, self._lost or error)
                afresh.append(technique)
        if self._lost and by_name:
            _log.warning("the techniques %s learn afresh: %s", ", ".join(by_name), self._lost)
        afresh += by_name.values()
        for technique in afresh:
            empty(technique)
        return afresh

    def write(self, techniques: Sequence[Technique]) -> bytes:
        """Write the parts of a new snapshot; returns the state that makes it valid when it is committed.

        Raises:
            Unavailable: the journal cannot be written; the old snapshot stands.
            Unkept: a technique cannot say its state; the old snapshot stands.
        """
        number, size, parts = self._number + 1, 0, 0
        small, waiting = list[Piece](), list[Piece]()
        for technique in techniques:
            if not isinstance(technique, LargeTechnique):
                small += [(technique.name, state) for state in _states(technique)]
                continue
            for state in _states(technique):
                waiting.append((technique.name, state))
                size += len(state)
                if size >= _PART_BYTES:
                    self._put(number, parts, _pack(waiting, number=number))
                    waiting, size, parts = [], 0, parts + 1
        if parts and waiting:
            self._put(number, parts, _pack(waiting, number=number))
            waiting, parts = [], parts + 1
        self._shrink(number, parts)
        self._next = (number, parts)
        return _pack([*small, *waiting], number=number, parts=parts)

    def written(self) -> None:
        """What `write` returned has been committed, so the next snapshot takes the other turn."""
        self._number, self.parts = self._next

    def _kept(self) -> Iterator[Piece]:
        """The pieces of the committed snapshot; they end early, and `_lost` says why, when a part is not what belongs to it."""
        state = self._journal.state(self._reader)
        self._number, self.parts, pieces = _unpack(state) if state else (0, 0, [])
        yield from pieces
        for part in range(self.parts):
            blob = self._journal.part(self._reader, _place(self._number, part))
            number, _, pieces = _unpack(blob) if blob else (0, 0, [])
            if number != self._number:
                self._lost = f"part {part} of the snapshot is lost"
                return
            yield from pieces

    def _put(self, number: int, part: int, blob: bytes) -> None:
        self._journal.put(self._reader, _place(number, part), blob).result()

    def _shrink(self, number: int, parts: int) -> None:
        """Let go of what an older, longer snapshot left behind the parts of this turn."""
        while self._journal.part(self._reader, _place(number, parts)):
            self._put(number, parts, b"")
            parts += 1


def empty(technique: Technique) -> None:
    """Let a technique start afresh; one that cannot even do that is left as it is, and will fail on what comes."""
    try:
        technique.restore(b"")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one technique, it must not keep all of them from going on
        _log.error("the technique %s cannot start afresh", technique.name, exc_info=error)


def _states(technique: Technique) -> Iterator[bytes]:
    try:
        yield from technique.parts() if isinstance(technique, LargeTechnique) else [technique.snapshot()]
    except Exception as error:  # whatever is wrong with one technique, the others must be kept
        raise Unkept(technique) from error


def _place(number: int, part: int) -> int:
    return 2 * part + number % 2


def _pack(pieces: Sequence[Piece], **numbers: int) -> bytes:
    names, states = [name for name, _ in pieces], [state for _, state in pieces]
    schema = _SCHEMA.with_metadata({name: str(number) for name, number in numbers.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array(names, pa.string()), pa.array(states, pa.large_binary())], schema=schema))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _unpack(blob: bytes) -> tuple[int, int, list[Piece]]:
    """Number, count of parts beside it (both 0 of a state from before there were parts), and pieces."""
    with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
        table = reader.read_all()
    numbers = table.schema.metadata or {}
    pieces = list(zip(table.column("name").to_pylist(), table.column("state").to_pylist(), strict=True))
    return int(numbers.get(b"number", 0)), int(numbers.get(b"parts", 0)), pieces
