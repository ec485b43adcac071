"""The loop over bytes that finds the samples in Prometheus' text formats; like `ninefold.sources.kernel` it runs as it is and compiled.

A line is ``name{label="value", …} value [time] [# {labels} value [time]]``, a comment, or nothing.
"""

from __future__ import annotations

from ninefold.sources.kernel import Bytes, Ints

CELLS = 13
KEY, VALUE, TIME, EXEMPLAR, EXEMPLAR_VALUE, EXEMPLAR_TIME, STATE = 0, 2, 4, 6, 8, 10, 12
"""The cells of a row: offset and length of the name with its labels, of the value, the time, and the exemplar's three parts; a STATE."""
SAMPLE, COMMENT, BAD = 0, 1, 2
_SPACE, _TAB, _QUOTE, _BACKSLASH, _OPEN, _CLOSE, _HASH = 32, 9, 34, 92, 123, 125, 35


def _blank(byte: int) -> bool:
    return byte in (_SPACE, _TAB)


def _skip(buffer: Bytes, position: int, end: int) -> int:
    """The first place from `position` that is not blank."""
    while position < end and _blank(int(buffer[position])):
        position += 1
    return position


def _labels(buffer: Bytes, position: int, end: int) -> int:
    """The place behind the closing brace of labels whose opening one stands at `position`; -1 when there is none."""
    quoted = False
    position += 1
    while position < end:
        byte = int(buffer[position])
        if quoted and byte == _BACKSLASH:
            position += 1
        elif byte == _QUOTE:
            quoted = not quoted
        elif byte == _CLOSE and not quoted:
            return position + 1
        position += 1
    return -1


def _token(buffer: Bytes, position: int, end: int, out: Ints, cell: int) -> int:
    """Note the word at `position` in two cells; where it ends."""
    out[cell] = position
    while position < end and not _blank(int(buffer[position])):
        position += 1
    out[cell + 1] = position - out[cell]
    return position


def _sample(buffer: Bytes, position: int, end: int, out: Ints, row: int) -> int:
    """Read the line from `position` to `end` into the cells from `row` on; its state."""
    out[row] = position
    while position < end and not _blank(int(buffer[position])) and buffer[position] != _OPEN:
        position += 1
    behind = _skip(buffer, position, end)
    if behind < end and buffer[behind] == _OPEN:
        position = _labels(buffer, behind, end)
        if position < 0:
            return BAD
    out[row + 1] = position - out[row]
    if out[row + 1] == 0:
        return BAD
    position = _token(buffer, _skip(buffer, position, end), end, out, row + VALUE)
    if out[row + VALUE + 1] == 0:
        return BAD
    position = _skip(buffer, position, end)
    if position < end and buffer[position] != _HASH:
        position = _skip(buffer, _token(buffer, position, end, out, row + TIME), end)
    if position == end:
        return SAMPLE
    position = _skip(buffer, position + 1, end) if buffer[position] == _HASH else end
    if position == end or buffer[position] != _OPEN:
        return BAD
    behind = _labels(buffer, position, end)
    if behind < 0:
        return BAD
    out[row + EXEMPLAR], out[row + EXEMPLAR + 1] = position, behind - position
    position = _skip(buffer, _token(buffer, _skip(buffer, behind, end), end, out, row + EXEMPLAR_VALUE), end)
    position = _skip(buffer, _token(buffer, position, end, out, row + EXEMPLAR_TIME), end)
    return SAMPLE if position == end and out[row + EXEMPLAR_VALUE + 1] else BAD


def read_lines(buffer: Bytes, out: Ints) -> int:
    """A row of cells for every line that is not empty; how many. `out` has room for a row a newline, and one."""
    position, size, row = 0, len(buffer), 0
    while position < size:
        start = position
        while position < size and buffer[position] != 10:
            position += 1
        end = position - 1 if position > start and buffer[position - 1] == 13 else position
        position += 1
        start = _skip(buffer, start, end)
        if start == end:
            continue
        for cell in range(row, row + CELLS):
            out[cell] = 0
        if buffer[start] == _HASH:
            out[row], out[row + 1], out[row + STATE] = start, end - start, COMMENT
        else:
            out[row + STATE] = _sample(buffer, start, end, out, row)
            if out[row + STATE] == BAD:
                out[row], out[row + 1] = start, end - start
        row += CELLS
    return row // CELLS
