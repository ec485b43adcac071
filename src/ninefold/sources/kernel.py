"""The loops over bytes that decoding consists of: scan a protobuf message, look series up, cut texts out.

They are plain functions that run as they are, and that `warm()` has compiled by Numba: the same source twice, so both give the
same result. Integers stay below 2^62 or are two's complement int64, which keeps Python's and Numba's arithmetic equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

OK, TRUNCATED, BAD_VARINT, BAD_FIELD, BAD_WIRE, TOO_MANY = range(6)
SKIP, VARINT, FIXED, BYTES, RUN, ONE, ROW = range(7)
"""What to do with a field, see `ninefold.sources.protobuf.Plan`."""
_HALF = 1 << 62
_MASK = (1 << 62) - 1
_MULTIPLIER = 0x1E3779B97F4A7C15


def _varint(buffer: Bytes, position: int, end: int) -> tuple[int, int]:
    """A varint as two's complement int64 and the offset behind it; the offset is ``-code`` when there is none."""
    value = shift = 0
    while position < end:
        byte = int(buffer[position])
        position += 1
        if shift == 63:
            if byte > 127:
                return 0, -BAD_VARINT
            return (value - _HALF - _HALF if byte & 1 else value), position
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
    return 0, -TRUNCATED


def _word(buffer: Bytes, position: int) -> int:
    """Eight little-endian bytes as two's complement int64; compiled it is one load instruction."""
    return int.from_bytes(buffer[position : position + 8].tobytes(), "little", signed=True)


def _copy(source: Bytes, target: Bytes) -> None:
    """Copy a slice; compiled it is a loop, which Numba makes faster than the assignment."""
    target[:] = source


def _run(buffer: Bytes, start: int, position: int, end: int, out: Ints, cell: int) -> int:
    """Add the field at `start` that ends at `position` to a run, with the equal short ones that follow at once; where they end."""
    if out[cell + 1] == 0:
        out[cell] = start
    elif out[cell] + out[cell + 1] != start:
        out[cell + 2] = 1
    while position + 1 < end and buffer[position] == buffer[start] and buffer[position] < 128:
        length = int(buffer[position + 1])
        if length > 127 or length > end - position - 2:
            break
        position += 2 + length
    out[cell + 1] = position - out[cell]
    return position


def _open(out: Ints, row: int, width: int, parent: int, position: int, size: int) -> int:
    """Begin the row of a message."""
    out[row], out[row + 1], out[row + 2] = parent, position, size
    for i in range(row + 3, row + width):
        out[i] = 0
    return row


def _scan(
    buffer: Bytes, plan: Ints, tables: Ints, widths: Ints, bases: Ints, capacity: int, out: Ints, counts: Ints, stack: Ints
) -> tuple[int, int, int]:
    """Walk a protobuf message once and write a row (parent's place in `out`, offset, length, cells of the plan) for every message
    the plan asks for; `plan` holds 32 actions a state, ``kind | cell << 8 | choice << 16 | next state << 24``. (code, offset, state).
    """
    end, position, depth, state, row = len(buffer), 0, 0, 0, int(bases[0])
    while True:
        if position == end:
            if depth == 0:
                return OK, position, state
            depth -= 1
            end, state, row = stack[3 * depth], stack[3 * depth + 1], stack[3 * depth + 2]
            continue
        start = position
        tag = int(buffer[position])
        position += 1
        if tag > 127:
            tag, position = _varint(buffer, start, end)
        if position < 0:
            return -position, start, state
        field, wire = tag >> 3, tag & 7
        if field <= 0 or field > 0x1FFFFFFF:
            return BAD_FIELD, start, state
        action = plan[state << 5 | field] if field < 32 else 0
        kind, cell, choice, value = action & 255, row + (action >> 8 & 255), action >> 16 & 255, 0
        if wire == 0 or wire == 2:
            if position < end and buffer[position] < 128:
                value = int(buffer[position])
                position += 1
            else:
                value, position = _varint(buffer, position, end)
            if position < 0:
                return -position, start, state
        size = 0 if wire == 0 else value if wire == 2 else 8 if wire == 1 else 4 if wire == 5 else -1
        if size < 0 or size > end - position:
            return BAD_WIRE if wire in (3, 4, 6, 7) else TRUNCATED, start, state
        wanted = kind >= BYTES if wire == 2 else (kind == VARINT and wire == 0) or (kind == FIXED and wire == 1)
        if wanted and choice:
            out[row + choice] = field
        if not wanted or kind < ONE:
            position += size
        if not wanted:
            continue
        if kind < BYTES:
            out[cell] = value if kind == VARINT else _word(buffer, position - 8)
        elif kind == BYTES:
            out[cell], out[cell + 1] = position - size, size
        elif kind == RUN:
            position = _run(buffer, start, position, end, out, cell)
        else:
            stack[3 * depth], stack[3 * depth + 1], stack[3 * depth + 2] = end, state, row
            depth, end, state = depth + 1, position + size, action >> 24
            if kind == ROW:
                table = tables[state]
                if counts[table] == capacity:
                    return TOO_MANY, start, state
                row = _open(out, bases[table] + counts[table] * widths[table], widths[table], row, position, size)
                counts[table] += 1


def _hash(buffer: Bytes, start: int, length: int, group: int) -> int:
    """62 bits that depend on every byte of a key and on its group."""
    key = ((length + 1) * _MULTIPLIER + group) & _MASK
    position, end = start, start + length
    while position + 8 <= end:
        key = ((key ^ _word(buffer, position)) * _MULTIPLIER) & _MASK
        key ^= key >> 29
        position += 8
    rest = 0
    while position < end:
        rest = rest << 8 | int(buffer[position])
        position += 1
    key = ((key ^ rest) * _MULTIPLIER) & _MASK
    return key ^ key >> 31


def _equal(one: Bytes, start: int, other: Bytes, place: int, length: int) -> bool:
    """Whether `length` bytes are the same in both."""
    differ = i = 0
    while i + 8 <= length:
        differ |= _word(one, start + i) ^ _word(other, place + i)  # no early return: this becomes vector instructions
        i += 8
    while i < length:
        differ |= int(one[start + i]) ^ int(other[place + i])
        i += 1
    return differ == 0


def _find(buffer: Bytes, offsets: Ints, lengths: Ints, groups: Ints, slots: Ints, entries: Ints, arena: Bytes, found: Ints) -> None:
    """Look keys up in an open-addressing hash table; a key is a group number and bytes, and every byte is compared.

    `slots` (its size a power of two) holds rows of `entries` (hash, group, offset and length in `arena`) or -1. `found` gets
    the row, or ``-1 - hash`` when the key is not there.
    """
    last = len(slots) - 1
    for i in range(len(offsets)):
        start, length, group = int(offsets[i]), int(lengths[i]), int(groups[i])
        key = _hash(buffer, start, length, group)
        slot = key & last
        found[i] = -1 - key
        while slots[slot] >= 0:
            entry = slots[slot]
            same = entries[entry, 0] == key and entries[entry, 1] == group and entries[entry, 3] == length
            if same and _equal(buffer, start, arena, entries[entry, 2], length):
                found[i] = entry
                break
            slot = (slot + 1) & last


def _gather(buffer: Bytes, offsets: Ints, lengths: Ints, out: Bytes, ends: npt.NDArray[np.int32]) -> None:
    """Copy slices of `buffer` one behind the other into `out`; `ends[i + 1]` is where slice i ends."""
    place = 0
    ends[0] = 0
    for i in range(len(offsets)):
        start, length = offsets[i], lengths[i]
        _copy(buffer[start : start + length], out[place : place + length])
        place += length
        ends[i + 1] = place


class Kernels(NamedTuple):
    """The loops, interpreted or compiled; `syslog` is there only when compiled, as interpreted it would be no help."""

    scan: Callable[..., tuple[int, int, int]]
    find: Callable[..., None]
    gather: Callable[..., None]
    syslog: Callable[..., None] | None = None


interpreted = Kernels(_scan, _find, _gather)
_current = interpreted


def kernels() -> Kernels:
    """The compiled loops once `warm()` has returned, before that the interpreted ones."""
    return _current


def warm() -> None:
    """Compile the loops (seconds) or load them from Numba's cache; from then on decoding is some hundred times faster.

    The app calls it in a thread at start; ``python -m ninefold.sources.kernel`` fills the cache at installation.
    """
    global _current
    from ninefold.sources.compiled import compiled  # imported here: Numba takes half a second that nothing should wait for

    _current = compiled()


if __name__ == "__main__":
    warm()
