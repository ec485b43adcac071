"""Prometheus remote write at ``/api/v1/write``: versions 1.0 (``prometheus.WriteRequest``) and 2.0 (``io.prometheus.write.v2.Request``).

Point a server here with ``remote_write: [{url: http://ninefold:9900/api/v1/write}]``; 2.0 with ``protobuf_message:
io.prometheus.write.v2.Request``, ``send_exemplars: true`` and ``send_native_histograms: true`` for those.

Samples become points, with Prometheus' staleness markers kept; what a series is (labels, kind, unit) is described when it is first seen
and when its metadata says something new. Exemplars become `exemplar` rows, native histograms `histogram` rows of the series, and beside
them points of its ``_count`` and ``_sum``. Help texts and created timestamps are not kept. Series that break Prometheus' rules go to
quarantine; 2.0 is told so with 400 and the counts of what was written, 1.0 has no words for it and is answered 204.

The digest of a series' label bytes is the key to its id, so a known series costs one look-up and its labels are never read again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ninefold.ground.errors import BadData
from ninefold.model.entity import hash64, series_id
from ninefold.model.signal import Batch, Decoded, batch_of, quarantine
from ninefold.plugin import Answer, Asked, Door, Lent, Source, Strict
from ninefold.sources import native_histograms, remote_write_wire
from ninefold.sources.columns import Mask
from ninefold.sources.kernel import Ints
from ninefold.sources.remote_write_wire import Labels, Request
from ninefold.sources.series import Descriptions, Ids, Known, described, points

_MILLISECOND = 1_000_000
_LATEST_MS = (1 << 63) // _MILLISECOND
_COUNTER, _HISTOGRAM, _SUMMARY = 1, 3, 5
_TOTALS = ("_total", "_count", "_sum", "_bucket")
_OUTSIDE = "a time is before 1970 or after 2262"
_FORMAT = "remote_write"
_TOGETHER = 1024
"""New series whose labels are read at once, which bounds the memory a request of new series takes."""
_TRACE, _SPAN = ("trace_id", "traceID", "traceId"), ("span_id", "spanID", "spanId")

Row = dict[str, Any]


@dataclass(slots=True)
class Written(Decoded):
    """What was made of a request, with the counts remote write 2.0 wants to hear."""

    samples: int = 0
    histograms: int = 0
    exemplars: int = 0


class _Work:
    """One request on its way: what it describes for the first time and what it holds that is wrong."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.described = Descriptions()
        self.refused: dict[str, list[int]] = {}

    def refuse(self, reason: str, rows: Ints) -> None:
        """Set series apart for a reason."""
        if rows.size:
            self.refused.setdefault(reason, []).extend(np.unique(rows).tolist())


class RemoteWrite:
    """The decoder; one instance a program, because it remembers which series were described. Thread-safe."""

    def __init__(self) -> None:
        self._known = Known()
        self._families: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()

    def decode(self, body: bytes, source: str, received: int) -> Written:
        """The batches of an uncompressed request of either version: points, exemplars, histograms, new or changed series, and a
        quarantine of what cannot be kept.

        `rejected` counts the samples and histograms of series whose labels break Prometheus' rules, those at a time that no store can
        hold, and malformed histograms.

        Raises:
            BadData: the body is not a request; `where` names message and offset.
            TooLarge: it is made of more parts than any sender has reason to send.
        """
        request = remote_write_wire.read(body)
        work = _Work(request)
        self._learn(request.families())
        ids, good = self._identify(work, "")
        time, parent = request.samples["time"], request.samples.parent
        late = (time < 0) | (time >= _LATEST_MS)
        work.refuse(_OUTSIDE, parent[late & good[parent]])
        kept = good[parent] & ~late
        which = slice(None) if kept.all() else kept
        value = request.samples["value"].view(np.float64)
        parts = [(ids[parent[which]], time[which] * _MILLISECOND, value[which])]
        batches = []
        rejected = len(kept) - int(kept.sum())
        histograms = 0
        if len(request.histograms):
            more, found, bad = self._histograms(work, good, ids, source, received)
            parts += more
            batches += found
            histograms, rejected = len(request.histograms) - bad, rejected + bad
        exemplars = _exemplars(work, good, ids, received)
        if exemplars:
            batches.append(batch_of("exemplar", source, received, exemplars))
        series, when, values = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        if len(series):
            batches.insert(0, points(source, received, series, when, values))
        batches[:0] = work.described.batch(source, received)
        entries = [_refusal(request, reason, rows) for reason, rows in work.refused.items()]
        if entries:
            batches.append(quarantine(source, received, "metric", _FORMAT, entries))
        reason = "; ".join(reason for reason, _, _ in entries)
        return Written(batches, rejected, reason, int(kept.sum()), histograms, len(exemplars))

    def forget(self, series: Iterable[int]) -> None:
        """Describe these series again with their next points: the batch that described them was not kept."""
        self._known.forget(series)

    def _identify(self, work: _Work, suffix: str, wanted: Mask | None = None) -> tuple[Ids, Mask]:
        """The ids of all series (or of those `wanted`), or of the series that stand beside them with a suffix to their name; and which of
        them are good. New ones are described, bad ones refused."""
        request = work.request
        groups = request.groups + len(suffix)
        ids, good = self._known.find(request.buffer, request.offsets, request.lengths, groups)
        good &= ~request.torn
        if wanted is not None:
            good |= ~wanted
        new = np.flatnonzero(~good)
        tags = np.zeros(len(good), np.int64)
        for some in np.split(new, range(_TOGETHER, len(new), _TOGETHER)):
            for row, labels in zip(some.tolist(), request.labels(some), strict=True):
                try:
                    if isinstance(labels, str):
                        raise BadData(labels)
                    ids[row], tags[row] = self._describe(work, labels, request.about(row), suffix)
                except BadData as error:
                    work.refused.setdefault(error.reason, []).append(row)
                else:
                    good[row] = True
        kept = new[good[new] & ~request.torn[new]]
        if kept.size:
            self._known.add_found(request.buffer, request.offsets[kept], request.lengths[kept], groups[kept], ids[kept], tags[kept])
        return ids, good

    def _describe(self, work: _Work, labels: Labels, about: tuple[int, str], suffix: str) -> tuple[int, int]:
        """The id of a label set's series, which is described by the way, and the tag of its name.

        Raises:
            BadData: the labels break Prometheus' rules.
        """
        names = [name for name, _ in labels]
        if names != sorted(set(names)):
            raise BadData("the labels are not sorted by name, or a name occurs twice")
        try:
            attributes = {name.decode(): value.decode() for name, value in labels}
        except UnicodeDecodeError:
            raise BadData("a label is not UTF-8") from None
        name = attributes.pop("__name__", "")
        if not name or "" in attributes:
            raise BadData("the label __name__ is missing" if not name else "a label has no name")
        kind, unit = self._nature(name, about)
        if suffix:
            kind, unit = "gauge" if suffix.startswith("_gauge") else "counter", unit if suffix.endswith("_sum") else ""
            name += suffix.removeprefix("_gauge")
        number = series_id(name, attributes)
        work.described.add(number, name, unit, kind, attributes)
        return number, _tag(name)

    def _nature(self, name: str, about: tuple[int, str] = (0, "")) -> tuple[str, str]:
        """The kind and unit of a metric: what metadata says of it or of its family, else what the ending of its name says."""
        suffix = next((ending for ending in _TOTALS if name.endswith(ending)), "")
        type_, unit = about if about[0] else self._families.get(name) or self._families.get(name.removesuffix(suffix), about)
        if type_ == 0:
            return "counter" if suffix else "unknown", unit
        return "counter" if type_ in (_COUNTER, _HISTOGRAM) or (suffix and type_ == _SUMMARY) else "gauge", unit

    def _learn(self, told: dict[str, tuple[int, str]]) -> None:
        """Take in metadata; series about which it says something new are described again with their next points."""
        if not told:
            return
        with self._lock:
            news = {family: about for family, about in told.items() if self._families.get(family) != about}
            names = [family + ending for family in news for ending in ("", *_TOTALS)]
            before = [self._nature(name) for name in names]
            self._families.update(news)
            changed = [name for name, nature in zip(names, before, strict=True) if self._nature(name) != nature]
        if changed:
            self._known.forget_tagged(map(_tag, changed))

    def _histograms(
        self, work: _Work, good: Mask, ids: Ids, source: str, received: int
    ) -> tuple[list[tuple[Ids, Ints, npt.NDArray[np.float64]]], list[Batch], int]:
        """The points of native histograms' counts and sums, their batch, and how many are not kept."""
        table = work.request.histograms
        parent = table.parent
        found = native_histograms.read(table.slices(work.request.body))
        found.faults.mark((found.time < 0) | (found.time >= _LATEST_MS), _OUTSIDE)
        for reason, faulty in found.faults.reasons:
            work.refuse(reason, parent[faulty][good[parent[faulty]]])
        kept = good[parent] & ~found.faults.bad
        parts = []
        for gauge in (False, True):
            rows = np.flatnonzero(kept & (found.gauge == gauge))
            if rows.size:
                wanted = np.zeros(len(good), np.bool_)
                wanted[parent[rows]] = True
                for suffix, values in (("_count", np.where(found.stale, found.sum, found.count)), ("_sum", found.sum)):
                    beside, _ = self._identify(work, ("_gauge" if gauge else "") + suffix, wanted)
                    parts.append((beside[parent[rows]], found.time[rows] * _MILLISECOND, values[rows]))
        rows = np.flatnonzero(kept & ~found.stale)
        batches = [found.batch(source, received, ids[parent], rows)] if rows.size else []
        return parts, batches, len(kept) - int(kept.sum())


@lru_cache(maxsize=4096)
def _tag(name: str) -> int:
    """The number by which the known series of a name are found."""
    return hash64((name,)) >> 1


def _exemplars(work: _Work, good: Mask, ids: Ids, received: int) -> list[Row]:
    """The exemplars of good series. One whose labels cannot be read, or whose time cannot be held, sends its series to quarantine."""
    request = work.request
    rows: list[Row] = []
    for parent, time, value, labels in request.exemplars():
        if not good[parent]:
            continue
        try:
            if isinstance(labels, str) or not 0 <= time < _LATEST_MS:
                raise BadData(labels if isinstance(labels, str) else _OUTSIDE)
            attributes = {name.decode(): text.decode() for name, text in labels}
        except (BadData, UnicodeDecodeError) as error:
            reason = error.reason if isinstance(error, BadData) else "a label of an exemplar is not UTF-8"
            work.refused.setdefault(reason, []).append(parent)
            continue
        rows.append({
            "series": int(ids[parent]), "time": time * _MILLISECOND or received, "value": value,
            "trace_id": _taken(attributes, _TRACE), "span_id": _taken(attributes, _SPAN), "attributes": attributes,
        })  # fmt: skip
    return rows


def _taken(attributes: dict[str, str], names: Sequence[str]) -> str:
    """An id under one of its spellings, taken out of the attributes."""
    return next((attributes.pop(name).lower() for name in names if name in attributes), "")


def _refusal(request: Request, reason: str, rows: list[int]) -> tuple[str, str, bytes]:
    """One quarantine entry for all series refused for one reason: a request of its own, to be replayed as it is."""
    rows = sorted(set(rows))
    where = ", ".join(f"timeseries[{row}]" for row in rows[:5]) + (", …" if len(rows) > 5 else "")
    return f"{reason} ({len(rows)} series)", where, request.excerpt(rows)


class PrometheusRemoteWrite(Source):
    """Prometheus remote write at ``/api/v1/write``."""

    kind = "remote_write"
    title = "Prometheus remote write"
    extraction = "push"
    signals = frozenset(("metric",))
    always = True
    Config = Strict

    def __init__(self, name: str, config: Strict, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._decoder = RemoteWrite()

    def doors(self) -> list[Door]:
        """The write endpoint."""
        protobuf = ("application/x-protobuf",)
        return [Door("/api/v1/write", self._accept, _answer, _refuse, self._forget, protobuf, "snappy", source="prometheus")]

    def _accept(self, asked: Asked) -> Decoded:
        if _unknown(asked):
            raise BadData("the protobuf message is not understood", "Content-Type")
        return self._decoder.decode(asked.body, asked.source, asked.received)

    def _forget(self, batches: Sequence[Batch]) -> None:
        self._decoder.forget(described(batches))


_MESSAGES = ("", "prometheus.writerequest", "io.prometheus.write.v2.request")


def _message(asked: Asked) -> str:
    """The protobuf message the content type names, in lower case; "" for the first one there was."""
    parameters = (part.partition("=") for part in asked.headers.get("content-type", "").lower().split(";")[1:])
    return next((value.strip().strip('"') for name, _, value in parameters if name.strip() == "proto"), "")


def _unknown(asked: Asked) -> bool:
    return _message(asked) not in _MESSAGES


def _counts(written: Written) -> dict[str, str]:
    counts = {"Samples": written.samples, "Histograms": written.histograms, "Exemplars": written.exemplars}
    return {f"X-Prometheus-Remote-Write-{noun}-Written": str(number) for noun, number in counts.items()}


def _answer(asked: Asked, decoded: Decoded) -> Answer:
    if _message(asked) != _MESSAGES[2] or not isinstance(decoded, Written):
        return Answer(204)
    if not decoded.rejected:
        return Answer(204, headers=_counts(decoded))
    text = f"{decoded.rejected} samples or histograms are in quarantine: {decoded.reason}\n"
    return Answer(400, text.encode(), "text/plain; charset=utf-8", _counts(decoded))


def _refuse(asked: Asked, status: int, message: str) -> Answer | None:
    if _unknown(asked):
        known = " or ".join(("prometheus.WriteRequest", "io.prometheus.write.v2.Request"))
        return Answer(415, f"the protobuf message is not understood; send {known}\n".encode(), "text/plain; charset=utf-8")
    if _message(asked) == _MESSAGES[2]:
        return Answer(status, f"{message}\n".encode(), "text/plain; charset=utf-8", _counts(Written()))
    return None
