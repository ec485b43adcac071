"""InfluxDB line protocol as columns: ``measurement,tag=value field=1.5,other=2i 1465839830100400200``.

Lines without quotes and backslashes, which is nearly all of them, are cut by their separators all at once; the others are read one
after the other. Both give the same fields, see `Fields`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.errors import BadData
from ninefold.sources.columns import Texts, invalid
from ninefold.sources.kernel import Ints

_NEWLINE, _SPACE, _COMMA, _EQUALS, _QUOTE, _BACKSLASH, _HASH = b'\n ,="\\#'
_KEY_END, _FIELD_END = re.compile(rb"(?<!\\) "), re.compile(rb"(?<!\\)=")
_BLANKS = re.compile(rb" *")
_PLAIN = re.compile(rb"[^, \n]+")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_TRUE, _FALSE = ("t", "T", "true", "True", "TRUE"), ("f", "F", "false", "False", "FALSE")
_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_INTEGER = r"^(?:-?[0-9]{1,19}i|[0-9]{1,20}u)$"
_ONE_NUMBER = re.compile(f"{_NUMBER}|{_INTEGER}".encode())
_TRUTHS = {word.encode(): number for words, number in ((_TRUE, 1.0), (_FALSE, 0.0)) for word in words}
_ESCAPED = re.compile(rb"\\([,= \\])")
_IN_STRING = re.compile(rb'\\(["\\])')
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

Flags = npt.NDArray[np.bool_]


class Text(NamedTuple):
    """A field that is text: its line, its key and its value as they were meant."""

    line: int
    key: str
    value: str


@dataclass(slots=True)
class Fields:
    """What a body says: its lines, and the numbers in them as columns.

    Attributes:
        starts, ends: where each line that says something begins and ends; a line may hold line breaks inside a text.
        key_ends: where its measurement and tags end.
        times: its timestamp in the sender's precision; `timed` says whether it has one.
        line, key, key_size, value: of each field that is a number or a truth value (1 or 0): its line, where its key stands and its value.
        texts: the fields that are text.
        errors: the lines that cannot be read, with the reason; none of their fields is in the columns.
    """

    starts: Ints
    ends: Ints
    key_ends: Ints
    times: Ints
    timed: Flags
    line: Ints
    key: Ints
    key_size: Ints
    value: npt.NDArray[np.float64]
    texts: list[Text]
    errors: dict[int, str]


def scan(body: bytes) -> Fields:
    """The fields of a body; empty lines and comments are left out. Nothing is raised: a line is read or is in `errors`."""
    buffer = np.frombuffer(body, np.uint8)
    starts, ends = _lines(body, buffer)
    odd = _holding(buffer, starts, ends, (_QUOTE, _BACKSLASH))
    starts, ends, special, read = _join(body, starts, ends, odd)
    plain = _Plain(body, buffer, starts, ends, ~special)
    found = plain.fields()
    _merge(found, read)
    bad = np.zeros(len(starts), np.bool_)
    bad[list(found.errors)] = True
    good = ~bad[found.line]
    found.line, found.key, found.key_size = found.line[good], found.key[good], found.key_size[good]
    found.value = found.value[good]
    found.texts = [text for text in found.texts if not bad[text.line]]
    return found


def tags_of(key: bytes) -> tuple[str, dict[str, str]]:
    """The measurement and the tags of a line's head.

    Raises:
        BadData: it breaks the protocol's rules.
    """
    try:
        parts = [part.decode() for part in (_split(key, _COMMA) if b"\\" in key else key.split(b","))]
        pairs = [_cut_escaped(part) if "\\" in part else part.split("=") for part in parts[1:]]
    except UnicodeDecodeError:
        raise BadData("not UTF-8") from None
    if not parts[0]:
        raise BadData("missing measurement")
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise BadData("missing tag key or value")
    tags = {unescape(name): unescape(value) for name, value in pairs}
    if len(tags) < len(pairs):
        raise BadData("duplicate tags")
    return unescape(parts[0]), tags


def unescape(text: str) -> str:
    """A name without the backslashes that keep separators from separating."""
    return _ESCAPED.sub(rb"\1", text.encode()).decode() if "\\" in text else text


def _split(data: bytes, separator: int) -> list[bytes]:
    """Cut at a separator that no backslash stands before."""
    return re.split(rb"(?<!\\)" + re.escape(bytes([separator])), data)


def _cut_escaped(part: str) -> list[str]:
    return [piece.decode() for piece in _split(part.encode(), _EQUALS)]


def _skip(body: bytes, buffer: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> Ints:
    """Where something else than a blank stands from these places on."""
    starts = starts.copy()
    inside = np.flatnonzero(starts < ends)
    for row in inside[buffer[starts[inside]] == _SPACE].tolist():
        blanks = _BLANKS.match(body, starts[row], ends[row])
        starts[row] = blanks.end() if blanks else starts[row]
    return starts


def _lines(body: bytes, buffer: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    breaks = np.flatnonzero(buffer == _NEWLINE)
    starts, ends = np.concatenate(([0], breaks + 1)), np.append(breaks, len(buffer))
    filled = ends > starts
    starts, ends = starts[filled], ends[filled]
    ends = ends - (buffer[ends - 1] == 13)
    starts = _skip(body, buffer, starts, ends)
    for row in np.flatnonzero((starts < ends) & (buffer[ends - 1] == _SPACE)).tolist():
        ends[row] = starts[row] + len(body[starts[row] : ends[row]].rstrip(b" "))
    kept = starts < ends
    return starts[kept], ends[kept]


def _holding(buffer: npt.NDArray[np.uint8], starts: Ints, ends: Ints, marks: tuple[int, ...]) -> Flags:
    """Which lines hold one of these bytes."""
    places = np.flatnonzero(np.isin(buffer, np.array(marks, np.uint8)))
    held: Flags = np.searchsorted(places, starts) < np.searchsorted(places, ends)
    return held


class _Line(NamedTuple):
    """A line read by itself: where its key ends, its fields, its time, what is wrong with it."""

    key_end: int
    numbers: list[tuple[int, int, float]]
    texts: list[tuple[str, str]]
    time: int | None
    error: str


def _join(body: bytes, starts: Ints, ends: Ints, odd: Flags) -> tuple[Ints, Ints, Flags, dict[int, _Line]]:
    """Read the lines with quotes or backslashes; one whose text holds line breaks swallows the lines it runs over, and comments go."""
    comment = np.frombuffer(body, np.uint8)[starts] == _HASH if len(starts) else np.zeros(0, np.bool_)
    keep, ends = ~comment, ends.copy()
    read: dict[int, _Line] = {}
    reached = -1
    for row in np.flatnonzero(odd).tolist():
        start = int(starts[row])
        if start < reached or (comment[row] and start >= reached):
            continue
        line, end = _read(body, start, int(ends[row]))
        read[row] = line
        if end > ends[row]:
            last = int(np.searchsorted(starts, end))
            keep[row + 1 : last] = False
            ends[row], reached = end, end
    numbers = np.cumsum(keep) - 1
    return starts[keep], ends[keep], odd[keep], {int(numbers[row]): line for row, line in read.items() if keep[row]}


def _read(body: bytes, start: int, end: int) -> tuple[_Line, int]:
    """One line by itself, and where it ends: behind `end` when one of its texts holds line breaks."""
    head = _KEY_END.search(body, start, end)
    if head is None:
        return _Line(end, [], [], None, "missing fields"), end
    position, numbers, texts = head.end(), list[tuple[int, int, float]](), list[tuple[str, str]]()

    def fail(reason: str) -> tuple[_Line, int]:
        return _Line(head.start(), [], [], None, reason), end

    blanks = _BLANKS.match(body, position, end)
    position = blanks.end() if blanks else position
    while True:
        equals = _FIELD_END.search(body, position, end)
        if equals is None or equals.start() == position or _KEY_END.search(body, position, equals.start()):
            return fail("missing field key" if equals is not None else "missing fields" if position >= end else "invalid field format")
        key, place = body[position : equals.start()], equals.end()
        if body[place : place + 1] == b'"':
            string = _STRING.match(body, place)
            if string is None:
                return fail("unbalanced quotes")
            stop = string.end()
            if stop > end:
                end = body.find(b"\n", stop)
                end = len(body) if end < 0 else end
            try:
                texts.append((unescape(key.decode()), _IN_STRING.sub(rb"\1", string[0][1:-1]).decode()))
            except UnicodeDecodeError:
                return fail("not UTF-8")
        else:
            plain = _PLAIN.match(body, place, end)
            number = _number(plain[0]) if plain else None
            if plain is None or number is None:
                return fail("missing field value" if plain is None else "invalid number")
            numbers.append((position, len(key), number))
            stop = plain.end()
        position = stop + 1
        if stop >= end or body[stop] != _COMMA:
            break
    rest = body[stop:end].strip(b" \r")
    if stop < end and body[stop] not in b" \r":
        return fail("invalid field format")
    time = _time(rest)
    if rest and time is None:
        return fail("bad timestamp")
    return _Line(head.start(), numbers, texts, time, ""), end


def _time(text: bytes) -> int | None:
    digits = text.removeprefix(b"-")
    value = int(text) if digits.isdigit() and len(digits) < 20 else None
    return value if value is not None and _LEAST <= value <= _MOST else None


def _number(text: bytes) -> float | None:
    """One field value, by the rules of `_values`."""
    if text in _TRUTHS:
        return _TRUTHS[text]
    if not _ONE_NUMBER.fullmatch(text):
        return None
    value = float(text.rstrip(b"iu"))
    return value if math.isfinite(value) else None


class _Plain:
    """The lines without quotes and backslashes, cut by their separators."""

    def __init__(self, body: bytes, buffer: npt.NDArray[np.uint8], starts: Ints, ends: Ints, which: Flags) -> None:
        self._texts, self._body, self._buffer = Texts(body), body, buffer
        self._starts, self._ends, self._which = starts, ends, which
        self._errors: dict[int, str] = {}

    def _mark(self, rows: Ints, reason: str) -> None:
        for row in rows.tolist():
            self._errors.setdefault(row, reason)

    def _separators(self, mark: int) -> tuple[Ints, Ints]:
        """Where a separator stands in these lines, and in which of them."""
        places = np.flatnonzero(self._buffer == mark)
        if not len(places) or not len(self._starts):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        rows = np.searchsorted(self._starts, places, "right") - 1
        inside = (rows >= 0) & (places < self._ends[rows]) & self._which[rows]
        return places[inside], rows[inside]

    def fields(self) -> Fields:
        """All fields of these lines; lines of another kind are left empty."""
        lines = len(self._starts)
        spaces, rows = self._separators(_SPACE)
        follows = np.zeros(len(spaces), np.bool_)
        follows[1:] = (np.diff(spaces) == 1) & (np.diff(rows) == 0)
        spaces, rows = spaces[~follows], rows[~follows]  # several blanks count as one
        counts = np.bincount(rows, minlength=lines)
        first = np.cumsum(counts) - counts
        self._mark(np.flatnonzero(self._which & (counts == 0)), "missing fields")
        self._mark(np.flatnonzero(counts > 2), "invalid field format")
        padded = np.append(spaces, [0, 0])
        ok = self._which & (counts > 0) & (counts < 3)
        key_ends = np.where(ok, padded[np.minimum(first, len(spaces))], self._ends)
        timed = ok & (counts == 2)
        field_ends = np.where(timed, padded[np.minimum(first + 1, len(spaces))], self._ends)
        line, key, key_size, value_at, value_size = self._cells(ok, key_ends, field_ends)
        value, good = _values(self._texts.cut(value_at, value_size))
        self._mark(line[~good], "invalid number")
        return Fields(
            self._starts, self._ends, key_ends, self._times(timed, field_ends), timed, line, key, key_size, value, [], self._errors
        )  # fmt: skip

    def _cells(self, ok: Flags, key_ends: Ints, field_ends: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """The line of each field, and where its key and its value stand."""
        starts = _skip(self._body, self._buffer, key_ends + 1, np.where(ok, field_ends, 0))
        commas, rows = self._separators(_COMMA)
        inside = ok[rows] & (commas > starts[rows] - 1) & (commas < field_ends[rows])
        commas, rows = commas[inside], rows[inside]
        lines = np.flatnonzero(ok)
        begin, line = np.concatenate((starts[lines], commas + 1)), np.concatenate((lines, rows))
        order = np.argsort(begin, kind="stable")
        begin, line = begin[order], line[order]
        last = np.append(line[1:] != line[:-1], True)[: len(line)]
        end = np.where(last, field_ends[line], np.append(begin[1:], 1)[: len(line)] - 1)
        equals, _ = self._separators(_EQUALS)
        place = np.searchsorted(equals, begin)
        count = np.searchsorted(equals, end) - place
        at = np.append(equals, 0)[np.minimum(place, len(equals))]
        bad = (count != 1) | (at == begin) | (at + 1 >= end)
        self._mark(line[bad], "invalid field format")
        good = ~bad
        begin, end, at = begin[good], end[good], at[good]
        return line[good], begin, at - begin, at + 1, end - at - 1

    def _times(self, timed: Flags, field_ends: Ints) -> Ints:
        rows = np.flatnonzero(timed)
        times = np.zeros(len(timed), np.int64)
        starts = _skip(self._body, self._buffer, field_ends[rows] + 1, self._ends[rows])
        texts = self._texts.cut(starts, self._ends[rows] - starts)
        numbers, good = _integers(texts)
        self._mark(rows[~good], "bad timestamp")
        times[rows] = numbers
        return times


def _integers(texts: pa.StringArray) -> tuple[Ints, Flags]:
    """Texts as 64-bit integers, and which of them are."""
    try:
        return texts.cast(pa.int64()).to_numpy(), _digits(texts)
    except pa.ArrowInvalid:
        found = [_time(text) for text in texts.view(pa.binary()).to_pylist()]
        return np.array([value or 0 for value in found], np.int64), np.array([value is not None for value in found], np.bool_)


def _digits(texts: pa.StringArray) -> Flags:
    """Arrow also reads 0x1f and +5, which the protocol does not."""
    return pc.match_substring_regex(texts.view(pa.binary()), r"^-?[0-9]+$").to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _values(texts: pa.StringArray) -> tuple[npt.NDArray[np.float64], Flags]:
    """Field values (``1.5``, ``2i``, ``3u``, ``t``) as numbers, and which of them are values at all."""
    values, good = np.zeros(len(texts)), np.zeros(len(texts), np.bool_)
    wrong = invalid(texts)
    if wrong.any():
        texts = pc.if_else(pa.array(wrong), "", texts)
    for words, number in ((_TRUE, 1.0), (_FALSE, 0.0)):
        said = pc.is_in(texts, pa.array(words)).to_numpy(zero_copy_only=False)
        values[said], good = number, good | said
    whole = pc.match_substring_regex(texts, _INTEGER).to_numpy(zero_copy_only=False)
    plain = pc.match_substring_regex(texts, _NUMBER).to_numpy(zero_copy_only=False)
    for which, digits in ((whole, pc.utf8_slice_codeunits(texts, 0, -1)), (plain, pc.utf8_ltrim(texts, "+"))):
        rows = np.flatnonzero(which)
        if len(rows):
            values[rows] = digits.take(pa.array(rows)).cast(pa.float64()).to_numpy(zero_copy_only=False)
            good[rows] = True
    return values, good & np.isfinite(values)


def _merge(found: Fields, read: dict[int, _Line]) -> None:
    """Put the lines that were read one by one among the others."""
    cells: list[tuple[int, int, int, float]] = []
    for row, line in read.items():
        found.key_ends[row] = line.key_end
        if line.error:
            found.errors[row] = line.error
        if line.time is not None:
            found.times[row], found.timed[row] = line.time, True
        cells += ((row, *number) for number in line.numbers)
        found.texts += (Text(row, key, value) for key, value in line.texts)
    if cells:
        rows, keys, sizes, values = zip(*cells, strict=True)
        found.line, found.key = np.append(found.line, rows), np.append(found.key, keys)
        found.key_size, found.value = np.append(found.key_size, sizes), np.append(found.value, values)
