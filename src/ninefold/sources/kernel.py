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
SKIP, VARINT, FIXED, BYTES, RUN, LEAF, ONE, ROW = range(8)
"""What to do with a field, see `ninefold.sources.protobuf.Plan`."""
_HALF = 1 << 62
_MASK = (1 << 62) - 1
_HALF_WORD = (1 << 32) - 1
_ONE, _TWO = 0x1E3779B97F4A7C15, 0x165667B19E3779F9
SECRETS = 264
"""How many secret numbers of 32 bits a digest needs; longer keys are hashed in blocks of a kilobyte."""


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
    """Walk a protobuf message once and write a row (parent's place in `out`, offset, length, cells of the plan) for each message wanted;
    `plan` holds 32 actions a state, ``kind | cell << 8 | choice << 16 | next state << 24``. (code, offset, state)."""
    end, position, depth, state, row = len(buffer), 0, 0, 0, int(bases[0])
    while True:
        if position == end:
            if depth == 0:
                return OK, position, state
            depth -= 1
            end, state, row = stack[3 * depth], stack[3 * depth + 1], stack[3 * depth + 2]
            continue
        start, tag, position = position, int(buffer[position]), position + 1
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
            target, inside = action >> 24, row
            if kind != ONE:
                table = tables[target]
                if counts[table] == capacity:
                    return TOO_MANY, start, target
                place = position - size if kind == LEAF else position
                inside = _open(out, bases[table] + counts[table] * widths[table], widths[table], row, place, size)
                counts[table] += 1
            if kind != LEAF:
                stack[3 * depth], stack[3 * depth + 1], stack[3 * depth + 2] = end, state, row
                depth, end, state, row = depth + 1, position + size, target, inside


def _term(word: int, secret: Ints, place: int) -> int:
    """One term of NH, the universal hash of UMAC: both halves of a word, each added to a secret one, multiplied."""
    return ((word + int(secret[place])) & _HALF_WORD) * (((word >> 32) + int(secret[place + 1])) & _HALF_WORD)


def _folded(digest: int, total: int, multiplier: int) -> int:
    """62 bits of the digest so far and the sum of one more block; one to one in the sum's upper bits."""
    key = ((digest ^ ((total >> 2) & _MASK)) * multiplier) & _MASK
    return key ^ key >> 31


def _digest(buffer: Bytes, offsets: Ints, lengths: Ints, groups: Ints, secret: Ints, out: npt.NDArray[np.int64]) -> None:
    """124 bits of every key, which is a group number and bytes: two passes of NH with secrets of their own, so that equal digests mean
    equal keys; two that differ collide with a probability below 2^-58, whoever chose them."""
    for i in range(len(offsets)):
        position, length, group = int(offsets[i]), int(lengths[i]), int(groups[i])
        end, place, first, second = position + length, 4, 0, 0
        one = _term(length, secret, 0) + _term(group, secret, 2)
        two = _term(length, secret, 2) + _term(group, secret, 4)
        while position + 8 <= end:
            word = _word(buffer, position)
            one += _term(word, secret, place)
            two += _term(word, secret, place + 2)
            position, place = position + 8, place + 2
            if place == SECRETS - 4:
                first, second, one, two, place = _folded(first, one, _ONE), _folded(second, two, _TWO), 0, 0, 4
        rest = 0
        while position < end:
            rest = rest << 8 | int(buffer[position])
            position += 1
        one += _term(rest, secret, place)
        two += _term(rest, secret, place + 2)
        out[i, 0], out[i, 1] = _folded(first, one, _ONE), _folded(second, two, _TWO)


def _find(digests: npt.NDArray[np.int64], slots: npt.NDArray[np.int32], entries: npt.NDArray[np.int64], found: Ints) -> None:
    """Look digests up in an open-addressing hash table: `slots` (its size a power of two) holds rows of `entries`, whose first two
    cells are a digest, or -1. `found` gets the row or -1."""
    last = len(slots) - 1
    for i in range(len(digests)):
        slot = digests[i, 0] & last
        found[i] = -1
        while slots[slot] >= 0:
            entry = slots[slot]
            if entries[entry, 0] == digests[i, 0] and entries[entry, 1] == digests[i, 1]:
                found[i] = entry
                break
            slot = (slot + 1) & last


def _place(slots: npt.NDArray[np.int32], entries: npt.NDArray[np.int64], first: int, end: int) -> None:
    """Give the entries from `first` to `end` a slot each."""
    last = len(slots) - 1
    for entry in range(first, end):
        slot = entries[entry, 0] & last
        while slots[slot] >= 0:
            slot = (slot + 1) & last
        slots[slot] = entry


def _unpack(buffer: Bytes, offsets: Ints, lengths: Ints, out: Ints, ends: Ints) -> int:
    """The varints of packed fields one behind the other; `ends[i + 1]` is where those of field i end. OK, or what is wrong."""
    place = 0
    ends[0] = 0
    for i in range(len(offsets)):
        position, end = int(offsets[i]), int(offsets[i] + lengths[i])
        while position < end:
            value, position = _varint(buffer, position, end)
            if position < 0:
                return -position
            out[place] = value
            place += 1
        ends[i + 1] = place
    return OK


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
    """The loops, interpreted or compiled; `syslog` and `exposition` are there only when compiled."""

    scan: Callable[..., tuple[int, int, int]]
    digest: Callable[..., None]
    find: Callable[..., None]
    place: Callable[..., None]
    unpack: Callable[..., int]
    gather: Callable[..., None]
    syslog: Callable[..., None] | None = None
    exposition: Callable[..., int] | None = None


interpreted = Kernels(_scan, _digest, _find, _place, _unpack, _gather)
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
