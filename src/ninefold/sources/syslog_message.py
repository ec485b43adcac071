"""Syslog messages: RFC 5424, RFC 3164 as it is really sent, and the JSON lines of syslog-ng; a block of them becomes log rows.

HOSTNAME is ``host.name``, APP-NAME or TAG is ``service.name``; PROCID, MSGID, facility and structured data are ``syslog.*``
attributes. RFC 3164 names neither year nor zone: the zone is given, the year the one that brings the time closest to its receipt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ninefold.ground.clock import SECOND
from ninefold.model.severity import SYSLOG_NUMBER
from ninefold.model.signal import LOG, Batch, Decoded, quarantine
from ninefold.sources import kernel
from ninefold.sources.columns import Entries, Texts, is_utf8, same, times
from ninefold.sources.origin import Origin, origin_columns, origin_of
from ninefold.sources.syslog_kernel import (
    APP,
    BODY,
    CELLS,
    FACILITY,
    HOST,
    MSGID,
    PROCID,
    SEVERITY,
    STATE,
    STRUCTURED,
    SURE,
    TIME,
    UNSURE,
)
from ninefold.sources.wall_time import moved_to

Cells = npt.NDArray[np.int64]
_BSD_LINE = re.compile(rb"<\d{1,3}>[A-Z][a-z]{2} ")
_QUARTER = 900 * SECOND
FORMAT = "syslog"
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit",
    "console", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
_DAY = 86400 * SECOND
_LATEST_S = 9_200_000_000

_ELEMENT = r'\[[^ =\]"]++(?: [^ =\]"]++="(?:[^"\\]|\\.)*+")*+\]'
_HEADER = rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[^ ]++|-) ([^ ]++) ([^ ]++) ([^ ]++) ([^ ]++)(?: ((?:{_ELEMENT})++|-))?(?: |$)(.*)"
_STAMP = r"[A-Z][a-z]{2} [ 0-9][0-9] (?:[0-9]{4} )?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]++"
_RFC5424 = re.compile(rf"<([0-9]{{1,3}})>1 {_HEADER}", re.DOTALL)
_WRAPPED = re.compile(_HEADER, re.DOTALL)
_RFC3164 = re.compile(rf"<([0-9]{{1,3}})>(?:({_STAMP})(?::| ([^ ]++))(?: |$))?(.*)", re.DOTALL)
_TAG = re.compile(r"([^ \t:\[\]{}\"'=<>,;]{1,48})(?:\[([^\] ]{0,64})\])?(:?)(?: |$)(.*)", re.DOTALL)
_STRUCTURED = re.compile(rf"(?:{_ELEMENT})++", re.DOTALL)
_PARAMETER = re.compile(r'\[([^ =\]"]+)|([^ =\]"]+)="((?:[^"\\]|\\.)*+)"', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\\]])')
_ISO = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]{1,9})[0-9]*)?(Z|[+-][0-9]{2}:?[0-9]{2})?")
_MONTHS = {name: i for i, name in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1)}
_BSD = re.compile(r"([A-Z][a-z]{2}) ([ 0-9][0-9]) (?:([0-9]{4}) )?([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9})[0-9]*)?")


class Message(NamedTuple):
    """One syslog message: facility and severity by number (one more than the last when unknown), time in ns (0 when it has none
    that can be read), absent texts "".
    """

    facility: int
    severity: int
    time: int
    host: str
    app: str
    procid: str
    msgid: str
    structured: str
    body: str


def parse(lines: Sequence[bytes], source: str, received: int, cut: Sequence[bytes] = (), zone: tzinfo | None = UTC) -> Decoded:
    """Log rows of a block of messages; lines that are not syslog, and what was `cut` off overlong ones, go to quarantine.

    `zone` is that of times without one, None the machine's.
    """
    body = b"\n".join(lines)
    texts = Texts(body)
    cells = _well_formed(body, lines, received)
    if zone is not UTC:
        _move(cells, lines, zone)
    bad: list[bytes] = []
    read_one: list[tuple[int, Message]] = []
    for row in np.flatnonzero(cells[:, STATE] != SURE).tolist():
        message = read(lines[row], received, zone)
        if message is None:
            bad.append(lines[row])
        else:
            read_one.append((row, message))
    _fill(cells, texts, read_one)
    cells = cells[cells[:, STATE] == SURE]
    batches = [Batch("log", source, received, _rows(cells, texts, source, received))] if len(cells) else []
    entries = []
    if bad:
        entries.append((f"not a syslog message ({len(bad)} lines)", "the beginning of the line", b"\n".join(bad)))
    if cut:
        entries.append((f"the rest of messages that are too long ({len(cut)} pieces)", "", b"\n".join(cut)))
    if entries:
        batches.append(quarantine(source, received, "log", FORMAT, entries))
    return Decoded(batches, len(bad), "; ".join(reason for reason, _, _ in entries))


def _well_formed(body: bytes, lines: Sequence[bytes], received: int) -> Cells:
    """The cells of `syslog_kernel` for lines joined to `body`; those it is not sure of, or that are not UTF-8, are left UNSURE."""
    cells = np.zeros((len(lines), CELLS), np.int64)
    loop = kernel.kernels().syslog
    if loop is None:
        return cells
    ends = np.cumsum(np.fromiter((len(line) + 1 for line in lines), np.int64, len(lines))) - 1
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
    noon = received // _DAY * 86400 + 43200
    loop(np.frombuffer(body, np.uint8), starts, ends, datetime.fromtimestamp(noon, UTC).year, noon, cells.reshape(-1))
    try:
        body.decode()
    except UnicodeDecodeError:
        cells[[not is_utf8(line) for line in lines], STATE] = UNSURE
    structured = _text(cells[cells[:, STATE] == SURE], Texts(body), STRUCTURED).dictionary_encode()
    odd = np.array([_parameters(text) is None for text in structured.dictionary.to_pylist()], np.bool_)
    sure = np.flatnonzero(cells[:, STATE] == SURE)
    cells[sure[odd[structured.indices.to_numpy()]], STATE] = UNSURE
    return cells


def _move(cells: Cells, lines: Sequence[bytes], zone: tzinfo | None) -> None:
    """Read the RFC 3164 times among what the loop was sure of as those of a zone; a zone's offset is asked once a quarter of an hour."""
    rows = np.flatnonzero((cells[:, STATE] == SURE) & [_BSD_LINE.match(line) is not None for line in lines])
    quarters, which = np.unique(cells[rows, TIME] // _QUARTER, return_inverse=True)
    offsets = np.array([moved_to(quarter * _QUARTER, zone) - quarter * _QUARTER for quarter in quarters.tolist()], np.int64)
    cells[rows, TIME] += offsets[which]


def _fill(cells: Cells, texts: Texts, messages: Sequence[tuple[int, Message]]) -> None:
    """Put messages that were read one by one into their rows."""
    if not messages:
        return
    rows = np.array([row for row, _ in messages])
    words = [(m.host, m.app, m.procid, m.msgid, m.structured, m.body) for _, m in messages]
    places = np.stack(texts.add_all([word.encode() for line in words for word in line]), 1)
    cells[rows, HOST:CELLS] = places.reshape(len(messages), CELLS - HOST)
    cells[rows, STATE] = SURE
    cells[rows, FACILITY : TIME + 1] = [(m.facility, m.severity, m.time) for _, m in messages]


def read(line: bytes, received: int, zone: tzinfo | None = UTC) -> Message | None:
    """One message; None when the line is not syslog. Text that is not UTF-8 is read as Latin-1, in which every byte is a letter."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    text = text.removeprefix("\ufeff").rstrip("\r\n\0")
    if match := _RFC5424.fullmatch(text):
        priority, *header = match.groups("")
        return _modern(priority, header, received)
    if match := _RFC3164.fullmatch(text):
        priority, time, host, rest = match.groups("")
        return _classic(priority, time, host, rest, received, zone)
    return _json(text, received) if text.startswith("{") else None


def _priority(digits: str) -> tuple[int, int] | None:
    return divmod(int(digits), 8) if int(digits) < 8 * len(FACILITIES) else None


def _modern(priority: str, header: Sequence[str], received: int, inside: bool = False) -> Message | None:
    """RFC 5424; `header` is time, host, app, procid, msgid, structured data, body; `inside` another one it is not unwrapped again."""
    about = _priority(priority)
    if about is None:
        return None
    time, host, app, procid, msgid, structured, body = header
    body = body.removeprefix("\ufeff").removeprefix(" ")
    if app == "1" and not inside and (inner := _WRAPPED.fullmatch(body)):
        # rsyslog's imuxsock reads a whole RFC 5424 message as the old format and wraps it once more: its version becomes the name.
        return _modern(priority, inner.groups(""), received, inside=True)
    host, app, procid, msgid, structured = ("" if field == "-" else field for field in (host, app, procid, msgid, structured))
    return Message(*about, _time(time, received), host, app, procid, msgid, structured, body)


def _classic(priority: str, time: str, host: str, rest: str, received: int, zone: tzinfo | None) -> Message | None:
    """RFC 3164; without a time and a host everything is body, after a tag if it has one."""
    about = _priority(priority)
    if about is None:
        return None
    app = procid = ""
    tag = _TAG.fullmatch(rest)
    if tag and (time or tag[3]):
        app, procid, rest = tag[1], tag[2] or "", tag[4]
    if app == "1" and (inner := _WRAPPED.fullmatch(rest.removeprefix(" "))):
        return _modern(priority, inner.groups(""), received, inside=True)
    return Message(*about, _time(time, received, zone), host, app, procid, "", "", rest.removeprefix("\ufeff"))


def _json(text: str, received: int) -> Message | None:
    """A JSON line as syslog-ng writes it; the whole line stays the body."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    words = {name: value for name, value in found.items() if isinstance(value, str)}
    facility, severity = words.get("FACILITY", ""), words.get("PRIORITY", "")
    return Message(
        FACILITIES.index(facility) if facility in FACILITIES else len(FACILITIES),
        SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES), _time(words.get("ISODATE", ""), received),
        words.get("HOST", ""), words.get("PROGRAM", ""), words.get("PID", ""), words.get("MSGID", ""), "", text,
    )  # fmt: skip


def _time(text: str, received: int, zone: tzinfo | None = UTC) -> int:
    """The time in ns of an RFC 3339 or RFC 3164 time stamp, whose zone is `zone`; 0 when it is neither."""
    if match := _ISO.fullmatch(text):
        seconds = _iso_seconds(match[1], match[3] or "Z")
        fraction = match[2]
    elif match := _BSD.fullmatch(text):
        seconds = moved_to(_bsd_seconds(*match.groups()[:6], received // _DAY) * SECOND, zone) // SECOND
        fraction = match[7]
    else:
        return 0
    return seconds * SECOND + int((fraction or "0").ljust(9, "0")) if 0 < seconds < _LATEST_S else 0


@lru_cache(maxsize=4096)
def _iso_seconds(moment: str, zone: str) -> int:
    try:
        return int(datetime.fromisoformat(moment + zone).timestamp())
    except (ValueError, OverflowError):
        return 0


@lru_cache(maxsize=4096)
def _bsd_seconds(month: str, day: str, year: str | None, hour: str, minute: str, second: str, today: int) -> int:
    """Seconds since the epoch; without a year the one that brings the time closest to `today` (days since the epoch)."""
    noon = today * 86400 + 43200
    this_year = datetime.fromtimestamp(noon, UTC).year
    found = []
    for candidate in [int(year)] if year else [this_year - 1, this_year, this_year + 1]:
        try:
            moment = datetime(candidate, _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
        except (ValueError, KeyError):
            continue  # no such day in that year
        found.append(int(moment.timestamp()))
    return min(found, key=lambda seconds: abs(seconds - noon), default=0)


@lru_cache(maxsize=8192)
def _origin(host: str, app: str) -> Origin:
    return origin_of({name: value for name, value in (("host.name", host), ("service.name", app)) if value})


@lru_cache(maxsize=4096)
def _parameters(structured: str) -> tuple[tuple[str, str], ...] | None:
    """The attributes in structured data; None when it is not well-formed."""
    if structured and not _STRUCTURED.fullmatch(structured):
        return None
    found = []
    element = ""
    for begin, name, value in _PARAMETER.findall(structured):
        if begin:
            element = begin
        else:
            found.append((f"syslog.{element}.{name}", _ESCAPED.sub(r"\1", value) if "\\" in value else value))
    return tuple(found)


def _rows(cells: Cells, texts: Texts, source: str, received: int) -> pa.RecordBatch:
    time = np.where(cells[:, TIME] != 0, cells[:, TIME], received)
    columns = _origins(cells, texts) | {
        "time": times(time),
        "received": times(np.full(len(cells), received)),
        "source": same(source, len(cells)),
        "severity_number": pa.array(np.array((*SYSLOG_NUMBER, 0), np.uint8)[cells[:, SEVERITY]]),
        "severity_text": pa.array((*SEVERITIES, "")).take(pa.array(cells[:, SEVERITY])),
        "body": _text(cells, texts, BODY),
        "pattern": pa.array(np.zeros(len(cells), np.uint64)),
        "trace_id": same("", len(cells)),
        "span_id": same("", len(cells)),
        "attributes": _attributes(cells, texts),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in LOG.names], schema=LOG)


def _text(cells: Cells, texts: Texts, cell: int) -> pa.StringArray:
    return texts.cut(cells[:, cell], cells[:, cell + 1])


def _origins(cells: Cells, texts: Texts) -> dict[str, pa.Array]:
    """The columns that host and program decide."""
    host, app = _text(cells, texts, HOST).dictionary_encode(), _text(cells, texts, APP).dictionary_encode()
    both = host.indices.to_numpy().astype(np.int64) * len(app.dictionary) + app.indices.to_numpy()
    pairs, index = np.unique(both, return_inverse=True)
    hosts, apps = host.dictionary.to_pylist(), app.dictionary.to_pylist()
    return origin_columns([_origin(hosts[pair // len(apps)], apps[pair % len(apps)]) for pair in pairs.tolist()], index)


def _attributes(cells: Cells, texts: Texts) -> pa.MapArray:
    entries = Entries()
    offsets, lengths = texts.add_all([word.encode() for word in (*FACILITIES, "")])
    facility = cells[:, FACILITY]
    for name, where, size in (
        ("facility", offsets[facility], lengths[facility]),
        ("procid", cells[:, PROCID], cells[:, PROCID + 1]),
        ("msgid", cells[:, MSGID], cells[:, MSGID + 1]),
    ):
        rows = np.flatnonzero(size)
        entries.add_named(texts, rows, f"syslog.{name}", (where[rows], size[rows]))
    structured = _text(cells, texts, STRUCTURED).dictionary_encode()
    which = structured.indices.to_numpy()
    parameters = [_parameters(text) or () for text in structured.dictionary.to_pylist()]
    counts = np.array([len(found) for found in parameters])
    keys = texts.add_all([key.encode() for found in parameters for key, _ in found])
    values = texts.add_all([value.encode() for found in parameters for _, value in found])
    first, count = (np.cumsum(counts) - counts)[which], counts[which]
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first, count)
    entries.add(np.repeat(np.arange(len(cells)), count), (keys[0][place], keys[1][place]), (values[0][place], values[1][place]))
    return entries.column(texts, len(cells))[0]
