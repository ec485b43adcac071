"""Arrow columns cut out of the bytes of a body: texts, hexadecimal ids, maps. No object per value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ninefold.model.signal import TIME
from ninefold.sources import kernel
from ninefold.sources.kernel import Ints

Mask = npt.NDArray[np.bool_]
_HEX = np.frombuffer("".join(f"{i:02x}" for i in range(256)).encode(), np.uint16)


class Texts:
    """Cuts text columns out of a body. Texts that do not stand in it are added behind it and cut in the same way."""

    def __init__(self, body: bytes) -> None:
        self._parts = [body]
        self._size = len(body)

    def add(self, data: bytes) -> int:
        """Put bytes behind the body; their offset."""
        self._parts.append(data)
        self._size += len(data)
        return self._size - len(data)

    def add_all(self, texts: Sequence[bytes]) -> tuple[Ints, Ints]:
        """Put several texts behind the body; their offsets and lengths."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return self.add(b"".join(texts)) + np.cumsum(lengths) - lengths, lengths

    def add_numbers(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Put integers behind the body as decimal text; their offsets and lengths."""
        _, ends, data = pa.array(numbers).cast(pa.string()).buffers()
        edges = np.frombuffer(ends, np.int32)[: len(numbers) + 1].astype(np.int64)
        return self.add(data.to_pybytes()) + edges[:-1], np.diff(edges)

    def bytes_of(self, offsets: Ints, lengths: Ints) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """The bytes at these places one behind the other, and the edges between them."""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        out = np.empty(int(lengths.sum()), np.uint8)
        edges = np.empty(len(offsets) + 1, np.int32)
        buffer = np.frombuffer(self._parts[0], np.uint8)
        kernel.kernels().gather(buffer, np.ascontiguousarray(offsets), np.ascontiguousarray(lengths), out, edges)
        return out, edges

    def cut(self, offsets: Ints, lengths: Ints) -> pa.StringArray:
        """A text column; whether it is UTF-8 is not checked, see `invalid`."""
        out, edges = self.bytes_of(offsets, lengths)
        return pa.Array.from_buffers(pa.string(), len(offsets), [None, pa.py_buffer(edges), pa.py_buffer(out)])

    def ids(self, offsets: Ints, lengths: Ints, size: int) -> tuple[pa.StringArray, Mask, Mask]:
        """Ids of `size` bytes as lower-case hex, "" where absent or all zero; which are present; which have a wrong length."""
        present = lengths == size
        raw, _ = self.bytes_of(offsets[present], lengths[present])
        raw = raw.reshape(-1, size)
        real = raw.any(axis=1)
        wrong = ~present & (lengths > 0)
        present[present] = real
        edges = np.zeros(len(offsets) + 1, np.int32)
        np.cumsum(present * (2 * size), out=edges[1:])
        text = pa.py_buffer(np.take(_HEX, raw[real]))
        return pa.Array.from_buffers(pa.string(), len(offsets), [None, pa.py_buffer(edges), text]), present, wrong


def invalid(texts: pa.StringArray) -> Mask:
    """Which values of a text column are not UTF-8."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return np.array([not is_utf8(value.as_py()) for value in texts.view(pa.binary())], np.bool_)
    return np.zeros(len(texts), np.bool_)


def is_utf8(value: bytes) -> bool:
    """Whether bytes are UTF-8 text."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class Entries:
    """The entries of a map column, gathered in any order; those of one row keep the order in which they were added."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Ints, Ints, Ints]] = []

    def add(self, rows: Ints, keys: tuple[Ints, Ints], values: tuple[Ints, Ints]) -> None:
        """Entries of some rows: offsets and lengths of their keys and values."""
        self._parts.append((rows, *keys, *values))

    def add_named(self, texts: Texts, rows: Ints, key: str, values: tuple[Ints, Ints]) -> None:
        """Entries with the same key."""
        if len(rows):
            name = key.encode()
            self.add(rows, (np.full(len(rows), texts.add(name)), np.full(len(rows), len(name))), values)

    def column(self, texts: Texts, rows: int) -> tuple[pa.MapArray, Mask]:
        """The column of `rows` maps, and which of them hold text that is not UTF-8."""
        row, *cells = self._parts[0] if len(self._parts) == 1 else map(np.concatenate, zip(*self._parts, strict=True))
        if len(self._parts) > 1:
            order = np.argsort(row, kind="stable")
            row, cells = row[order], [column[order] for column in cells]
        keys, values = texts.cut(cells[0], cells[1]), texts.cut(cells[2], cells[3])
        bad = np.bincount(row[invalid(keys) | invalid(values)], minlength=rows) > 0
        edges = np.zeros(rows + 1, np.int32)
        np.cumsum(np.bincount(row, minlength=rows), out=edges[1:])
        return pa.MapArray.from_arrays(pa.array(edges), keys, values), bad


def times(values: Ints) -> pa.TimestampArray:
    """A time column of ns since the epoch."""
    return pa.Array.from_buffers(TIME, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def same(value: str, rows: int) -> pa.StringArray:
    """A text column that says the same in every row."""
    return pa.array([value]).take(pa.array(np.zeros(rows, np.int64)))
