"""Protobuf messages as columns: one scan of the bytes, no object per record.

A `Plan` says which fields of which messages are wanted; `Plan.scan` gives a `Table` a message type, with a row for each
message in the order of the body. Texts stay where they are: a table holds their offsets and lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from ninefold.ground.errors import BadData, TooLarge
from ninefold.sources import kernel
from ninefold.sources.kernel import Ints

_KINDS = {
    "varint": kernel.VARINT, "fixed": kernel.FIXED, "bytes": kernel.BYTES, "run": kernel.RUN, "leaf": kernel.LEAF, "one": kernel.ONE,
    "row": kernel.ROW,
}  # fmt: skip
_CELLS = {"varint": 1, "fixed": 1, "bytes": 2, "run": 3}
_HEAD = 3
_DEPTH = 16
_WHY = {
    kernel.TRUNCATED: "a field ends behind the end of its message",
    kernel.BAD_VARINT: "a number is longer than ten bytes",
    kernel.BAD_FIELD: "a field has the number 0 or one too large",
    kernel.BAD_WIRE: "a field has a wire type that is not used",
}


class Table:
    """The messages of one type: a row each, with the cells the plan asked for (0 where the field was absent)."""

    def __init__(self, rows: npt.NDArray[np.int64], cells: Mapping[str, slice], parent: Ints) -> None:
        self._rows, self._cells = rows, cells
        self.parent = parent
        """The row of the message each lies in, in that message's own table."""

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> Ints:
        """A column of numbers: a varint or a fixed64 as int64, the field number of a choice."""
        return self._rows[:, self._cells[name].start].copy()

    def text(self, name: str) -> tuple[Ints, Ints]:
        """The offsets and lengths of a bytes field, or of a run: the stretch of the body that holds all its repetitions."""
        start = self._cells[name].start
        return self._rows[:, start].copy(), self._rows[:, start + 1].copy()

    def torn(self, name: str) -> npt.NDArray[np.bool_]:
        """Where a run's repetitions do not lie together: its stretch misses some of them, or holds other fields as well."""
        torn: npt.NDArray[np.bool_] = self._rows[:, self._cells[name].stop - 1] != 0
        return torn

    def cells(self, *names: str) -> list[list[int]]:
        """The cells of some fields, for a walk over few rows: a number each, offset and length of bytes."""
        columns = [i for name in names for i in range(self._cells[name].start, self._cells[name].stop)]
        found: list[list[int]] = self._rows[:, columns].tolist()
        return found

    def places(self) -> tuple[Ints, Ints]:
        """The offsets and lengths of the messages themselves."""
        return self._rows[:, 1].copy(), self._rows[:, 2].copy()

    def slices(self, body: bytes, rows: Iterable[int] | None = None) -> list[bytes]:
        """The bytes of the messages, all or those of `rows`."""
        wanted = self._rows if rows is None else self._rows[np.fromiter(rows, np.int64)]
        return [body[start : start + size] for start, size in wanted[:, 1:3].tolist()]


class Plan:
    """What to take from which message.

    ``{"message": {field number: "kind name [choice]"}}``, the first message being the body itself. Kinds: ``varint``,
    ``fixed`` (64 bits), ``bytes``, ``run`` (the stretch of a repeated field), ``row name`` (a repeated message, a table of its
    own), ``leaf name`` (a repeated text, or a message whose fields are not looked at: a table without cells), ``one name`` (a singular
    message whose fields become cells of the row it lies in). `choice` names a cell that receives the field's number: which member of a
    oneof was set.
    """

    def __init__(self, messages: Mapping[str, Mapping[int, str]]) -> None:
        self._states = list(messages)
        fields = [(state, number, *_words(spec)) for state, specs in messages.items() for number, spec in specs.items()]
        root = self._states[0]
        table, above = {root: root}, {root: root}
        for state, _, kind, name, _ in fields:
            if kind in ("row", "leaf"):
                table[name], above[name] = name, table[state]
            elif kind == "one":
                table[name] = table[state]
        self._tables = list(above)
        self._cells = {name: _layout([f[2:] for f in fields if table[f[0]] == name]) for name in self._tables}
        self._widths = np.array([max((c.stop for c in cells.values()), default=_HEAD) for cells in self._cells.values()], np.int64)
        self._table_of = np.array([self._tables.index(table[state]) for state in self._states], np.int64)
        self._above = [self._tables.index(above[name]) for name in self._tables]
        self._plan = np.zeros(32 * len(self._states), np.int64)
        for state, number, kind, name, choice in fields:
            cells = self._cells[table[state]]
            target, cell = (0, cells[name].start) if kind in _CELLS else (self._states.index(name), 0)
            action = _KINDS[kind] | cell << 8 | (cells[choice].start if choice else 0) << 16 | target << 24
            self._plan[self._states.index(state) << 5 | number] = action

    def scan(self, body: bytes) -> dict[str, Table]:
        """The tables of a body, by message name.

        Raises:
            BadData: the body is not a protobuf message; `where` names the message and the offset of the field.
            TooLarge: it holds more messages than one for every eight bytes, which no sender has reason to send.
        """
        capacity = len(body) // 8 + 1024
        bases = np.concatenate(([0], np.cumsum(self._widths) * capacity))
        out = np.empty(int(bases[-1]), np.int64)
        out[: self._widths[0]] = 0
        counts = np.zeros(len(self._tables), np.int64)
        counts[0] = 1
        stack = np.empty(3 * _DEPTH, np.int64)
        buffer = np.frombuffer(body, np.uint8)
        code, offset, state = kernel.kernels().scan(
            buffer, self._plan, self._table_of, self._widths, bases[:-1], capacity, out, counts, stack
        )
        if code == kernel.TOO_MANY:
            raise TooLarge(f"the body holds more than {capacity} {self._states[state]} parts; send smaller batches", f"byte {offset}")
        if code != kernel.OK:
            raise BadData(f"the body is not protobuf: {_WHY[code]}", f"{self._states[state]}, byte {offset}")
        tables = {}
        for i, name in enumerate(self._tables):
            rows = out[bases[i] : bases[i] + counts[i] * self._widths[i]].reshape(-1, self._widths[i])
            above = self._above[i]
            tables[name] = Table(rows, self._cells[name], (rows[:, 0] - bases[above]) // self._widths[above])
        return tables


def _words(spec: str) -> tuple[str, str, str]:
    kind, name, *choice = spec.split()
    return kind, name, choice[0] if choice else ""


def _layout(fields: Iterable[tuple[str, str, str]]) -> dict[str, slice]:
    """Where each named cell stands in the rows of a table with these fields (kind, name, choice)."""
    sizes: dict[str, int] = {}
    for kind, name, choice in fields:
        if kind in _CELLS:
            sizes[name] = max(_CELLS[kind], sizes.get(name, 0))
        if choice:
            sizes[choice] = 1
    ends = accumulate(sizes.values(), initial=_HEAD)
    return {name: slice(start, start + size) for (name, size), start in zip(sizes.items(), ends, strict=False)}


def frame(number: int, data: bytes) -> bytes:
    """`data` as the length-delimited field `number` of a message."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)
