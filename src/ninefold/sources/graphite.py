"""Graphite: the plaintext protocol over UDP and TCP on one port, as Carbon speaks it: ``path value time`` a line.

Point collectd's write_graphite, Netdata's exporting engine, Telegraf, or any client of Carbon at it. Tags
(``path;host=a;dc=b 1 1700000000``) become attributes, the path before them is the metric's name. Where no tag names whom it measures,
`host_part` says which part of the path is the host: 1 for Netdata, whose tags do not. The kind is unknown, as the protocol does not tell
gauges from counters. The time -1 or N means now.

Lines that cannot be read are in quarantine, as is a last line without a newline over TCP, which may be cut short; a value that is not a
number (NaN) measures nothing and is left out. Carbon's pickle protocol is not spoken: reading it would run what a sender wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData
from ninefold.model.entity import entity_of, series_id
from ninefold.model.signal import Decoded, batch_of, quarantine
from ninefold.plugin import Lent
from ninefold.sources.columns import Mask, Texts
from ninefold.sources.kernel import Ints
from ninefold.sources.listening import Lines, Listen, Listener, Listening, Port, whole
from ninefold.sources.series import Known, points

FORMAT = "graphite"
_LATEST_S = 9_223_372_036
_NOW = (b"-1", b"N", b"-1.0")

Floats = npt.NDArray[np.float64]


class GraphiteConfig(Listen):
    """Where Graphite's plaintext protocol is received."""

    port: int = Field(2003, ge=0, le=65535, description="Port for UDP and TCP; 0 takes a free one.")
    host_part: int | None = Field(
        None, description="Which part of a path is the host, 0 being the first, where no tag names one: 1 for ``servers.web-1.cpu``."
    )


class Plaintext:
    """The decoder; it remembers which series were described. Thread-safe."""

    def __init__(self, host_part: int | None = None) -> None:
        self._host_part = host_part
        self._known = Known()

    def decode(self, body: bytes, source: str, received: int, rest: Sequence[bytes] = ()) -> Decoded:
        """Points and new series of a block of lines; lines that cannot be read, and the `rest`, go to quarantine, one entry a reason."""
        ends, starts, sizes, ragged = _tokens(body)
        texts = Texts(body)
        value, no_value = _floats(texts.cut(starts[1], sizes[1]))
        time, no_time = _times(texts.cut(starts[2], sizes[2]), received)
        described: dict[int, dict[str, Any]] = {}
        series, no_path = self._identify(body, starts[0], sizes[0], described)
        bad = no_value | no_time | no_path
        entries = [("the line is cut short or too long", [*rest])] if rest else []
        for reason, which in (
            ("the value is not a number", no_value), ("the time is not between 1970 and 2262, in seconds", no_time & ~no_value),
            ("the path or a tag is empty or not UTF-8", no_path & ~no_time & ~no_value),
        ):  # fmt: skip
            if which.any():
                places = np.stack((starts[0][which], (starts[2] + sizes[2])[which]), 1).tolist()
                entries.append((reason, [body[start:end] for start, end in places]))
        if ragged.any():
            edges = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
            places = np.stack((edges[ragged], ends[ragged]), 1).tolist()
            entries.append(("a line is `path value time`", [body[start:end] for start, end in places]))
        batches = []
        if described:
            batches.append(batch_of("series", source, received, [{**row, "seen": received} for row in described.values()]))
        kept = ~bad & ~np.isnan(value)
        if kept.any():
            batches.append(points(source, received, series[kept], time[kept], value[kept]))
        if entries:
            told = [(f"{reason} ({len(lines)} lines)", "", b"\n".join(lines)) for reason, lines in entries]
            batches.append(quarantine(source, received, "metric", FORMAT, told))
        return Decoded(batches, sum(len(lines) for _, lines in entries), "; ".join(reason for reason, _ in entries))

    def forget(self, series: Iterable[int]) -> None:
        """Describe these series again with their next points: the batch that described them was not kept."""
        self._known.forget(series)

    def _identify(
        self, body: bytes, offsets: Ints, lengths: Ints, described: dict[int, dict[str, Any]]
    ) -> tuple[npt.NDArray[np.uint64], Mask]:
        """The series of each path and which paths are bad; new series go to `described`."""
        ids, known = self._known.find(body, offsets, lengths, np.zeros(len(offsets), np.int64))
        bad = np.zeros(len(offsets), np.bool_)
        new: dict[bytes, int] = {}
        for row in np.flatnonzero(~known).tolist():
            key = body[offsets[row] : offsets[row] + lengths[row]]
            if key not in new:
                try:
                    description = describe(key, self._host_part)
                except BadData:
                    bad[row] = True
                    continue
                new[key] = description["series"]
                described[description["series"]] = description
            ids[row] = new[key]
        if new:
            zeros = [0] * len(new)
            self._known.add(list(new), list(new.values()), zeros, zeros)
        return ids, bad


def describe(path: bytes, host_part: int | None = None) -> dict[str, Any]:
    """The series row of a path with its tags.

    Raises:
        BadData: it has no name, a tag has no name or value, or it is not UTF-8.
    """
    try:
        name, *tags = path.decode().split(";")
    except UnicodeDecodeError:
        raise BadData("the path is not UTF-8") from None
    pairs = [tag.partition("=") for tag in tags]
    if not name or not all(key and value for key, _, value in pairs):
        raise BadData("the path has no name, or a tag has no name or value")
    attributes = {key: value for key, _, value in pairs}
    parts = name.split(".")
    if host_part is not None and not entity_of(attributes) and -len(parts) <= host_part < len(parts):
        attributes["host.name"] = parts[host_part]
    return {
        "series": series_id(name, attributes), "name": name, "kind": "unknown", "entity": entity_of(attributes), "attributes": attributes,
    }  # fmt: skip


def _tokens(body: bytes) -> tuple[Ints, Ints, Ints, Mask]:
    """Where each line ends; offsets and lengths of the three words of lines that have three; which lines have another number."""
    data = np.frombuffer(body, np.uint8)
    blank = np.ones(len(data) + 2, np.bool_)
    np.less_equal(data, 32, out=blank[1:-1])
    edges = np.flatnonzero(blank[1:] != blank[:-1])
    starts, ends = edges[::2], edges[1::2]
    lines = np.append(np.flatnonzero(data == 10), len(data))
    words = np.bincount(np.searchsorted(lines, starts), minlength=len(lines))
    first = (np.cumsum(words) - words)[words == 3]
    place = first + np.arange(3)[:, None]
    return lines, starts[place], ends[place] - starts[place], (words > 0) & (words != 3)


def _floats(texts: pa.StringArray) -> tuple[Floats, Mask]:
    """Numbers, and which are none."""
    try:
        return texts.cast(pa.float64()).to_numpy(), np.zeros(len(texts), np.bool_)
    except pa.ArrowInvalid:
        found = [_float(text) for text in texts.view(pa.binary()).to_pylist()]
        return np.array([0.0 if number is None else number for number in found]), np.array([number is None for number in found], np.bool_)


def _float(text: bytes) -> float | None:
    try:
        return None if b"_" in text else float(text)
    except ValueError:
        return None


def _times(texts: pa.StringArray, received: int) -> tuple[Ints, Mask]:
    """Times in ns, and which are none; -1 and N are when they were received."""
    seconds, bad = _floats(texts)
    unset = seconds == -1
    if bad.any():
        unset |= np.array([text in _NOW for text in texts.view(pa.binary()).to_pylist()], np.bool_)
    bad = (bad & ~unset) | ~((seconds >= 0) & (seconds < _LATEST_S) | unset)
    sane = np.where(bad | unset, 0.0, seconds)
    whole_s = np.floor(sane)
    time = whole_s.astype(np.int64) * SECOND + np.round((sane - whole_s) * 1e6).astype(np.int64) * 1000
    return np.where(unset, received, time), bad


class Graphite(Listening):
    """Graphite's plaintext protocol over UDP and TCP."""

    kind = "graphite"
    title = "Graphite"
    extraction = "push"
    signals = frozenset(("metric",))
    Config = GraphiteConfig

    def __init__(self, name: str, config: GraphiteConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._decoder = Plaintext(config.host_part)
        self.listener = Listener(self, config.host, [Port(config.port)], self._decode, reader=lambda write: Lines(), datagram=whole)

    def _decode(self, blocks: Sequence[bytes], rest: Sequence[bytes], received: int) -> Decoded:
        return self._decoder.decode(b"\n".join(blocks), self.name, received, rest)
