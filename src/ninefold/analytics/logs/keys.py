"""Pattern keys: a stateless 64-bit key per log line that does not see numbers, ids and hex, by one pass over the bytes.

The normal form of a line, of which the key is a hash: separators stand as they are; a run of letters and digits without a
digit stands as it is; a run with a digit becomes one wildcard if it is all hex (``0x`` counted in), else its letters stand,
its digits go and a wildcard follows. Bytes of other alphabets count as letters. Only the first `LIMIT` bytes are read.
The hash is a polynomial over a random table, modulo 2**64, closed by the splitmix64 finaliser; 0 is never a key.

Two forms give the same keys: a compiled scan (`kernel.scan`) and the NumPy form here, used until the first is compiled.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ninefold.analytics import warm

U64 = np.ndarray[tuple[int], np.dtype[np.uint64]]
I64 = np.ndarray[tuple[int], np.dtype[np.int64]]
U8 = np.ndarray[tuple[int], np.dtype[np.uint8]]

LIMIT = 4096
"""Bytes of a line that are read."""
SEPARATOR, DIGIT, HEX, LETTER = 0, 1, 2, 3
MULTIPLIER = 0x9E3779B97F4A7C15
SEED = 0x243F6A8885A308D3
_BLOCK = 1 << 17


def _classes() -> U8:
    table = np.zeros(256, np.uint8)
    table[128:] = LETTER
    for byte in range(128):
        char = chr(byte)
        if char.isdigit():
            table[byte] = DIGIT
        elif char in "abcdefABCDEF":
            table[byte] = HEX
        elif char.isalpha():
            table[byte] = LETTER
    return table


CLASS = _classes()
SYMBOL: U64 = np.random.Generator(np.random.PCG64(9)).integers(1, 1 << 63, 257, np.uint64) * np.uint64(2) + np.uint64(1)
"""The hash table of the 256 bytes and, last, of the wildcard."""
_POWERS = np.full(2 * LIMIT + 1, MULTIPLIER, np.uint64)
_POWERS[0] = 1
_POWERS = np.multiply.accumulate(_POWERS)


def pattern_keys(bodies: pa.Array | pa.ChunkedArray) -> U64:
    """The pattern key of every line of a text array, in order; a null counts as an empty line.

    Raises:
        pyarrow.ArrowNotImplementedError: the array is not text.
    """
    if isinstance(bodies, pa.ChunkedArray):
        parts = [pattern_keys(chunk) for chunk in bodies.chunks]
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)
    if len(bodies) == 0:
        return np.empty(0, np.uint64)
    bodies = bodies.cast(pa.large_string())
    if bodies.null_count:
        bodies = bodies.fill_null("")
    _, offset_bytes, data_bytes = bodies.buffers()
    edges = np.frombuffer(offset_bytes, np.int64, len(bodies) + 1, bodies.offset * 8)
    data = np.frombuffer(data_bytes, np.uint8) if data_bytes is not None else np.empty(0, np.uint8)
    if warm.ready("logs.scanning"):
        keys = np.empty(len(bodies), np.uint64)
        warm.loops("logs.scanning").scan(data, edges, keys)
        return keys
    return numpy_keys(data, edges)


def text_keys(texts: pa.Array) -> U64:
    """A 64-bit key per text, for joining ids; equal texts have equal keys and the empty text has 0.

    Texts of one length are hashed together as words of eight bytes, so columns of ids cost a few ns a row.
    """
    texts = texts.cast(pa.large_string())
    keys = np.zeros(len(texts), np.uint64)
    _, offset_bytes, data_bytes = texts.buffers()
    if len(texts) == 0 or data_bytes is None:
        return keys
    edges = np.frombuffer(offset_bytes, np.int64, len(texts) + 1, texts.offset * 8)
    data = np.frombuffer(data_bytes, np.uint8)
    lengths = np.minimum(np.diff(edges), LIMIT)
    for length in np.flatnonzero(np.bincount(lengths)).tolist():
        if length == 0:
            continue
        rows = np.flatnonzero(lengths == length)
        padded = np.zeros((len(rows), -(-length // 8) * 8), np.uint8)
        padded[:, :length] = np.lib.stride_tricks.sliding_window_view(data, length)[edges[:-1][rows]]
        words = padded.view(np.uint64)
        keys[rows] = _finish((words * _POWERS[1 : words.shape[1] + 1]).sum(axis=1, dtype=np.uint64) + np.uint64(length))
    return keys


def numpy_keys(data: U8, edges: I64) -> U64:
    """`pattern_keys` without a compiler: lines are ``data[edges[i]:edges[i + 1]]``, taken in blocks that stay in the cache."""
    keys = np.empty(len(edges) - 1, np.uint64)
    first = 0
    while first < len(keys):
        last = max(first + 1, int(np.searchsorted(edges, edges[first] + _BLOCK, "right")) - 1)
        keys[first:last] = _block(data, edges[first : last + 1])
        first = last
    return keys


def _block(data: U8, edges: I64) -> U64:
    starts, lengths = edges[:-1], np.minimum(np.diff(edges), LIMIT)
    first = np.concatenate(([0], np.cumsum(lengths)))
    line = np.repeat(np.arange(len(lengths)), lengths)
    whole = edges[-1] - edges[0] == first[-1]
    text = data[edges[0] : edges[-1]] if whole else data[np.arange(first[-1]) + (starts - first[:-1])[line]]
    symbols, place = _symbols(text, line)
    ends = place[first]
    counts = np.diff(ends)
    exponent = np.repeat(ends[1:], counts) - 1 - np.arange(len(symbols))
    total = np.concatenate((np.zeros(1, np.uint64), np.cumsum(symbols * _POWERS[exponent], dtype=np.uint64)))
    return _finish(total[ends[1:]] - total[ends[:-1]] + np.uint64(SEED) * _POWERS[counts])


def _symbols(text: U8, line: I64) -> tuple[U64, I64]:
    """The symbols of the normal forms, one after another, and for each byte (and the end) where its symbols begin."""
    kind = CLASS[text]
    word = kind != SEPARATOR
    joined = np.zeros(len(text), bool)
    joined[1:] = word[1:] & word[:-1] & (line[1:] == line[:-1])
    start = word & ~joined
    run = np.cumsum(start) - 1
    runs = int(run[-1]) + 1 if len(run) else 0
    plain = kind == LETTER
    plain[1:] &= ~(start[:-1] & joined[1:] & (text[:-1] == ord("0")) & (text[1:] == ord("x")))
    digit = kind == DIGIT
    marked = np.bincount(run[digit], minlength=runs) > 0
    wild = marked & (np.bincount(run[plain], minlength=runs) == 0)
    keep = ~digit
    keep[word] &= ~wild[run[word]]
    end = word.copy()
    end[:-1] &= ~joined[1:]
    end[word] &= marked[run[word]]
    place = np.concatenate(([0], np.cumsum(keep.astype(np.int64) + end)))
    symbols = np.empty(int(place[-1]), np.uint64)
    symbols[place[:-1][keep]] = SYMBOL[text[keep]]
    symbols[place[1:][end] - 1] = SYMBOL[256]
    return symbols, place


def _finish(value: U64) -> U64:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    value[value == 0] = 1
    return value
