"""What a Prometheus target exposes: the text format 0.0.4, OpenMetrics 1.0, and delimited protobuf, read into one shape.

A sample's name with its labels, as its bytes stand in the page, is the key of its series; labels are read only of series not yet known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData
from ninefold.sources import exposition_kernel as cells
from ninefold.sources import kernel
from ninefold.sources.columns import Mask, Texts
from ninefold.sources.kernel import Ints

_LATEST_S = (1 << 63) / SECOND
_LABEL = re.compile(
    r'\s*(?:([A-Za-z_:][A-Za-z0-9_:.]*)\s*=\s*"((?:[^"\\]|\\.)*)"|"((?:[^"\\]|\\.)*)"(?:\s*=\s*"((?:[^"\\]|\\.)*)")?)\s*(,|$)', re.S
)
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:.]*$")
_ESCAPE = re.compile(r"\\(.)", re.S)
_LABELS_BYTES = 65_536
_ENDINGS = ("_total", "_bucket", "_count", "_sum", "_created", "_gcount", "_gsum", "_info")
_COUNTING = ("_total", "_bucket", "_count", "_sum")

Entry = tuple[str, str, bytes]
Labels = dict[str, str]


@dataclass(slots=True)
class Exemplar:
    """An exemplar of the sample in row `row`; `time` in ns, 0 when it has none."""

    row: int
    labels: Labels
    value: float
    time: int


@dataclass(slots=True)
class Page:
    """The samples of a page.

    Attributes:
        buffer, offsets, lengths: where the key of each sample stands: ``name{label="value"}``.
        time: ns, 0 where the page does not say.
        value: the samples' values.
        families: type and unit by name.
        exemplars: those with a sample in this page.
        native: native histograms: key, time, and a ``prometheus.Histogram`` message.
        bad: what could not be read.
    """

    buffer: bytes
    offsets: Ints
    lengths: Ints
    time: Ints
    value: npt.NDArray[np.float64]
    families: dict[str, tuple[str, str]] = field(default_factory=dict)
    exemplars: list[Exemplar] = field(default_factory=list)
    native: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    bad: list[Entry] = field(default_factory=list)

    def key(self, row: int) -> bytes:
        """The key of a sample."""
        return self.buffer[self.offsets[row] : self.offsets[row] + self.lengths[row]]

    def nature(self, name: str) -> tuple[str, str]:
        """Kind and unit of a series by its name."""
        ending = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
        family = name if name in self.families else name.removesuffix(ending)
        type_, unit = self.families.get(family, ("unknown", ""))
        if ending in ("_count", "_bucket", "_info"):
            unit = ""
        if type_ in ("unknown", "untyped"):
            return ("counter" if ending in _COUNTING else "unknown"), unit
        counts = (type_ == "counter" and ending != "_created") or (type_ in ("histogram", "summary") and ending in _COUNTING)
        if type_ == "histogram" and not ending:
            counts = True  # a native histogram
        return ("counter" if counts else "gauge"), "seconds" if ending == "_created" else unit


def text(body: bytes, openmetrics: bool) -> Page:
    """A page in the text format, or in OpenMetrics. A line that cannot be read is set apart.

    Raises:
        BadData: the end of an OpenMetrics page is missing.
    """
    out = np.empty((body.count(b"\n") + 1) * cells.CELLS, np.int64)
    count = (kernel.kernels().exposition or cells.read_lines)(np.frombuffer(body, np.uint8), out)
    rows = out[: count * cells.CELLS].reshape(-1, cells.CELLS)
    state = rows[:, cells.STATE]
    comments = rows[state == cells.COMMENT]
    if openmetrics and not (count and body[rows[-1, 0] : rows[-1, 0] + rows[-1, 1]].rstrip() == b"# EOF"):
        raise BadData("the page does not end with # EOF; it was cut off")
    bad = [("the line is no sample", f"byte {row[0]}", body[row[0] : row[0] + row[1]]) for row in rows[state == cells.BAD].tolist()]
    samples = rows[state == cells.SAMPLE]
    value, wrong = _numbers(body, samples, cells.VALUE)
    given = samples[:, cells.TIME + 1] > 0
    time = np.zeros(len(samples), np.int64)
    if given.any():
        when, unread = _numbers(body, samples[given], cells.TIME)
        when *= 1.0 if openmetrics else 0.001
        unread |= ~((when >= 0) & (when < _LATEST_S))
        time[given] = np.where(unread, 0, np.round(when * 1e6)).astype(np.int64) * 1000
        wrong[np.flatnonzero(given)[unread]] = True
    bad += [("the value or the time of a line is no number", f"byte {row[0]}", _line(body, row[0])) for row in samples[wrong].tolist()]
    samples, value, time = samples[~wrong], value[~wrong], time[~wrong]
    offsets, lengths = samples[:, cells.KEY].copy(), samples[:, cells.KEY + 1].copy()
    page = Page(body, offsets, lengths, time, value, _families(body, comments), bad=bad)
    for row in np.flatnonzero(samples[:, cells.EXEMPLAR + 1]).tolist():
        _add_exemplar(page, row, samples[row].tolist())
    return page


def _line(body: bytes, start: int) -> bytes:
    end = body.find(b"\n", start)
    return body[start : end if end >= 0 else len(body)]


def _numbers(body: bytes, rows: npt.NDArray[np.int64], cell: int) -> tuple[npt.NDArray[np.float64], Mask]:
    """The numbers in some cells, and which of them are none."""
    texts = Texts(body).cut(rows[:, cell].copy(), rows[:, cell + 1].copy())
    try:
        return pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False).copy(), np.zeros(len(rows), np.bool_)
    except pa.ArrowInvalid:
        found = [_number(value) for value in texts.view(pa.binary()).to_pylist()]
        return np.array([value or 0.0 for value in found]), np.array([value is None for value in found], np.bool_)


def _number(value: bytes) -> float | None:
    try:
        return None if b"_" in value else float(value)
    except ValueError:
        return None


def _families(body: bytes, comments: npt.NDArray[np.int64]) -> dict[str, tuple[str, str]]:
    """Type and unit by family, from the comments that say so."""
    found: dict[str, tuple[str, str]] = {}
    for start, size in comments[:, :2].tolist():
        if body[start + 1 : start + 7] not in (b" TYPE ", b" UNIT "):
            continue
        words = body[start : start + size].decode("utf-8", "replace").split()
        if len(words) == 4:
            name = words[2].strip('"')
            type_, unit = found.get(name, ("unknown", ""))
            found[name] = (words[3], unit) if words[1] == "TYPE" else (type_, words[3])
    return found


def _add_exemplar(page: Page, row: int, line: Sequence[int]) -> None:
    start, size = line[cells.EXEMPLAR : cells.EXEMPLAR + 2]
    place, length = line[cells.EXEMPLAR_VALUE : cells.EXEMPLAR_VALUE + 2]
    when, digits = line[cells.EXEMPLAR_TIME : cells.EXEMPLAR_TIME + 2]
    value, time = _number(page.buffer[place : place + length]), _number(page.buffer[when : when + digits]) if digits else 0.0
    try:
        labels = labels_of(page.buffer[start + 1 : start + size - 1].decode())
    except (BadData, UnicodeDecodeError):
        value = None
    if value is None or time is None or not 0 <= time < _LATEST_S:
        page.bad.append(("the exemplar of a line cannot be read", f"byte {start}", _line(page.buffer, line[0])))
    else:
        page.exemplars.append(Exemplar(row, labels, value, round(time * 1e6) * 1000))


def labels_of(inner: str) -> Labels:
    """The labels between braces; a quoted name that stands alone is the metric's (``__name__``).

    Raises:
        BadData: they are not labels, or one occurs twice.
    """
    if len(inner) > _LABELS_BYTES:
        raise BadData(f"the labels of a sample are longer than {_LABELS_BYTES} bytes")
    found: Labels = {}
    position = 0
    while inner[position:].strip():
        match = _LABEL.match(inner, position)
        if match is None or match.end() == position:
            raise BadData("the labels of a sample cannot be read")
        name, value, quoted, its_value, _ = match.groups()
        if name is None:
            name, value = (_unescape(quoted), its_value) if its_value is not None else ("__name__", quoted)
        if name in found:
            raise BadData(f"the label {name} occurs twice")
        found[name] = _unescape(value)
        position = match.end()
    return found


def parts_of(key: bytes) -> tuple[str, Labels]:
    """Name and labels of a key.

    Raises:
        BadData: it is not UTF-8, or not a name with labels.
    """
    try:
        decoded = key.decode()
    except UnicodeDecodeError:
        raise BadData("a label is not UTF-8") from None
    name, brace, inner = decoded.partition("{")
    labels = labels_of(inner.rstrip()[:-1]) if brace else {}
    name = name.strip() or labels.pop("__name__", "")
    if not name or "__name__" in labels or (not brace and not _NAME.match(name)):
        raise BadData("the sample has no name")
    return name, labels


def key_of(name: str, labels: Sequence[tuple[str, str]]) -> bytes:
    """The key of a series that was not read from text."""
    inner = ",".join(f'"{_escape(label)}"="{_escape(value)}"' for label, value in labels)
    return f'{{"{_escape(name)}"{"," if inner else ""}{inner}}}'.encode()


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _unescape(value: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], value) if "\\" in value else value
