"""Limits on series: a source may keep so many active ones, and under pressure logs and spans are thinned; announced, never silent.

At the limit, room is made by forgetting the series that were not heard for longest, so a deployment that renames everything gets in
while an explosion does not push out what is alive: series heard within the last quarter of an hour are never forgotten for new ones of
their own source, which are left out until there is room. Among sources the total is shared fairly: a source below its share is let in
at the cost of what others use beyond theirs (max-min fairness).

Under pressure (the journal fills up) a share of logs below error and of spans without error is kept, chosen by trace or by time, so a
trace is kept or left out as a whole and a repeat meets the same decision.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.clock import MINUTE, iso
from ninefold.model.entity import fingerprint, hash64
from ninefold.model.signal import Batch, event_id

U64 = np.ndarray[Any, np.dtype[np.uint64]]
_ALIVE = 15 * MINUTE
_CALM = 10 * MINUTE
_ERROR = 17
_BELOW, _FULL = 0.7, 0.95
_LEAST = 0.05
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True)
class _Episode:
    """Since when (ns) something of a source is left out, when that was last so, and how much it was."""

    since: int
    last: int = 0
    out: int = 0


@dataclass(slots=True)
class _Known:
    """The series of one source: ids in order, and when each was last heard (ns)."""

    ids: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    heard: np.ndarray[Any, np.dtype[np.int64]] = field(default_factory=lambda: np.zeros(0, np.int64))
    episodes: dict[str, _Episode] = field(default_factory=dict)


class Limits:
    """What may pass the front door. May be called from any thread.

    Args:
        per_source: most active series of a source.
        total: most active series of all sources together.
        pressure: how full the journal is, 0 to 1.
    """

    def __init__(self, per_source: int = 1_000_000, total: int = 2_000_000, pressure: Callable[[], float] = lambda: 0.0) -> None:
        self._per_source, self._total, self._pressure = per_source, total, pressure
        self._sources: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def admit(self, batch: Batch) -> tuple[Batch, dict[str, Any] | None]:
        """What of a batch may pass, and the row of a ``drift`` event about ``source:<name>`` when leaving out begins (firing) or when
        nothing was left out for ten minutes (resolved).

        A batch of which everything passes is returned as it is.
        """
        if not batch.rows.num_rows or batch.source.partition(".")[0] == "ninefold":
            return batch, None
        if batch.signal in ("metric", "series", "exemplar", "histogram"):
            with self._lock:
                return self._series(batch)
        if batch.signal in ("log", "span"):
            share = _share(self._pressure())
            with self._lock:
                return self._thinned(batch, share) if share < 1 else (batch, self._over(batch, "sampling"))
        return batch, None

    def active(self) -> dict[str, int]:
        """How many series are known of every source."""
        with self._lock:
            return {source: len(known.ids) for source, known in self._sources.items()}

    def _series(self, batch: Batch) -> tuple[Batch, dict[str, Any] | None]:
        known = self._sources.setdefault(batch.source, _Known())
        ids = batch.rows.column("series").to_numpy(zero_copy_only=False)
        places, there = _find(known.ids, ids)
        known.heard[places[there]] = batch.received
        if there.all():
            return batch, self._over(batch, "limit")
        new = np.unique(ids[~there])
        admitted = new[: self._room(batch.source, known, len(new), batch.received)]
        if len(admitted):
            between = np.searchsorted(known.ids, admitted)
            known.ids, known.heard = np.insert(known.ids, between, admitted), np.insert(known.heard, between, batch.received)
        if len(admitted) == len(new):
            return batch, self._over(batch, "limit")
        keep = there | np.isin(ids, admitted)
        text = f"{batch.source} has more series than the limit: {len(known.ids):,} are kept, new ones are left out"
        notice = self._begun(batch, "limit", len(new) - len(admitted), text)
        return replace(batch, rows=batch.rows.filter(pa.array(keep))), notice

    def _room(self, source: str, known: _Known, wanted: int, at: int) -> int:
        """How many new series a source may have, after what is quiet was forgotten."""
        own = self._per_source - len(known.ids)
        if own < wanted:
            own += _forget(known, wanted - own, at)
        used = sum(len(other.ids) for other in self._sources.values())
        free = self._total - used
        if free < wanted:
            for other in sorted(self._sources.values(), key=lambda other: -len(other.ids)):
                free += _forget(other, wanted - free, at)
                if free >= wanted:
                    break
        if free < wanted:
            free += self._taken(source, known, wanted - max(free, 0))
        return max(0, min(own, free, wanted))

    def _taken(self, source: str, known: _Known, wanted: int) -> int:
        """Room taken from sources that use more than their fair share, for one that uses less."""
        fair = self._total // max(1, len(self._sources))
        wanted = min(wanted, fair - len(known.ids))
        taken = 0
        for name, other in sorted(self._sources.items(), key=lambda item: -len(item[1].ids)):
            excess = len(other.ids) - fair
            if name != source and excess > 0 and taken < wanted:
                taken += _drop(other, min(excess, wanted - taken))
        return taken

    def _thinned(self, batch: Batch, share: float) -> tuple[Batch, dict[str, Any] | None]:
        rows = batch.rows
        times = rows.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False).view(np.uint64)
        traces = rows.column("trace_id").dictionary_encode()
        hashes = np.array([hash64((text,)) if text else 0 for text in traces.dictionary.to_pylist()], np.uint64)
        keys = hashes[traces.indices.to_numpy(zero_copy_only=False)]
        drawn = (np.where(keys == 0, times, keys) * _MIX) >> np.uint64(32)
        keep = drawn < np.uint64(round(share * 2**32))
        if batch.signal == "log":
            keep |= rows.column("severity_number").to_numpy(zero_copy_only=False) >= _ERROR
        else:
            keep |= pc.equal(rows.column("status"), "error").to_numpy(zero_copy_only=False)
        if keep.all():
            return batch, None
        text = f"the journal is filling up: of {batch.source} errors and {100 * share:.0f} % of the other {batch.signal}s are kept"
        notice = self._begun(batch, "sampling", int(np.count_nonzero(~keep)), text)
        return replace(batch, rows=rows.filter(pa.array(keep))), notice

    def _begun(self, batch: Batch, what: str, out: int, text: str) -> dict[str, Any] | None:
        episodes = self._sources.setdefault(batch.source, _Known()).episodes
        begins = what not in episodes
        episode = episodes.setdefault(what, _Episode(batch.received))
        episode.last, episode.out = max(episode.last, batch.received), episode.out + out
        return _notice(batch, what, episode, "firing", text) if begins else None

    def _over(self, batch: Batch, what: str) -> dict[str, Any] | None:
        known = self._sources.get(batch.source)
        episode = known.episodes.get(what) if known else None
        if known is None or episode is None or batch.received - episode.last < _CALM:
            return None
        del known.episodes[what]
        return _notice(batch, what, episode, "resolved", f"everything of {batch.source} is kept again; {episode.out:,} were left out")


def _notice(batch: Batch, what: str, episode: _Episode, status: str, text: str) -> dict[str, Any]:
    identity = {"source": batch.source, "what": what}
    mark = fingerprint({"technique": "limits", **identity})
    attributes = {**identity, "signal": batch.signal, "technique": "limits", "since": iso(episode.since)}
    attributes |= {"usual": "everything is kept", "now": f"{episode.out:,} left out"}
    return {
        "id": event_id("limits", mark, str(episode.since), status), "time": batch.received, "kind": "drift",
        "source_id": f"{mark}-{episode.since}", "entity": f"source:{batch.source}", "title": text, "severity": "warning",
        "severity_raw": "warning", "status": status, "fingerprint": mark, "attributes": attributes,
    }  # fmt: skip


def _find(ids: U64, wanted: U64) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where each wanted id stands among the ordered ids, and whether it is there."""
    if not len(ids):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
    order = np.argsort(wanted)  # looked up in their order, neighbours meet the same cache lines: three times faster than at random
    places = np.empty(len(wanted), np.intp)
    places[order] = np.searchsorted(ids, wanted[order])
    places[places == len(ids)] = 0
    return places, ids[places] == wanted


def _forget(known: _Known, wanted: int, at: int) -> int:
    """Forget up to so many series that are quiet, the longest quiet first; returns how many."""
    return _drop(known, min(wanted, int(np.count_nonzero(known.heard < at - _ALIVE))))


def _drop(known: _Known, count: int) -> int:
    if count <= 0:
        return 0
    keep = np.ones(len(known.ids), bool)
    keep[np.argsort(known.heard, kind="stable")[:count]] = False
    known.ids, known.heard = known.ids[keep], known.heard[keep]
    return count


def _share(pressure: float) -> float:
    """The share of plain logs and spans that is kept: all below 70 % full, a twentieth above 95 %."""
    return 1.0 if pressure <= _BELOW else max(_LEAST, 1 - (1 - _LEAST) * (pressure - _BELOW) / (_FULL - _BELOW))
