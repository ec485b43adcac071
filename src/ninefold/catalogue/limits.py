"""Limits on series: a source may keep so many active ones, and under pressure logs and spans are thinned; announced, never silent.

At the limit, room is made by forgetting the series that were not heard for longest, so a deployment that renames everything gets in
while an explosion does not push out what is alive: series heard within the last quarter of an hour are never forgotten for new ones of
their own source, which are left out until there is room. Among sources the total is shared fairly: a source below its share is let in
at the cost of what others use beyond theirs (max-min fairness).

Under pressure (the journal fills up) a share of logs below error and of spans without error is kept, chosen by trace or by time, so a
trace is kept or left out as a whole and a repeat meets the same decision.

Every row left out is counted (``ninefold_limits_left_out_total``) and announced; both hold only once what was let in is durable, so a batch
that could not be kept, and comes again, is neither counted twice nor announced in vain. The description of a series that was left out is
held, up to 20,000 of a source, and passes with its first points when there is room; one beyond them has to be described again first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.clock import MINUTE, iso
from ninefold.ground.meter import Meter
from ninefold.model.entity import fingerprint, hash64
from ninefold.model.signal import Batch, event_id

U64 = np.ndarray[Any, np.dtype[np.uint64]]
_ALIVE = 15 * MINUTE
_CALM = 10 * MINUTE
_ERROR = 17
_BELOW, _FULL = 0.7, 0.95
_LEAST = 0.05
_THINNED = ("log", "span")
_HELD, _UNDESCRIBED = 20_000, 1 << 20
_BLOCK = 64
"""A 64th of the series goes at once, because looking for the quietest costs as much for one as for many."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True)
class _Episode:
    """Since when (ns) something of a source is left out, when that was last so, how many rows it was, and whether it was announced."""

    since: int
    signal: str
    last: int = 0
    out: int = 0
    told: bool = False
    text: str = ""


@dataclass(slots=True)
class _Known:
    """The series of one source: ids in order, and when each was last heard (ns); `oldest` is not above any of these times.

    `held` are descriptions that were left out, by their series; `undescribed` the series whose description is not even held
    (of more than a million, some are let go and may pass without one).
    """

    ids: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    heard: np.ndarray[Any, np.dtype[np.int64]] = field(default_factory=lambda: np.zeros(0, np.int64))
    oldest: int = 0
    held: pa.Table | None = None
    undescribed: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))

    def holds(self) -> U64:
        """The series whose description is held."""
        return np.zeros(0, np.uint64) if self.held is None else _ids(self.held)

    def hold(self, rows: pa.RecordBatch) -> None:
        """Keep descriptions for when there is room."""
        rows = rows.filter(pa.array(~np.isin(_ids(rows), self.holds())))
        if not rows.num_rows:
            return
        new = pa.Table.from_batches([rows])
        both = (new if self.held is None else pa.concat_tables([self.held, new])).combine_chunks()
        over = max(0, both.num_rows - _HELD)  # the oldest go: what came and went must not take the place of what is there
        self.undescribed = np.union1d(self.undescribed, _ids(both.slice(0, over)))[-_UNDESCRIBED:]
        self.held = both.slice(over)

    def release(self, ids: U64) -> None:
        """The descriptions of these series are durable."""
        self.undescribed = np.setdiff1d(self.undescribed, ids, assume_unique=True)
        if self.held is not None:
            rest = self.held.filter(pa.array(~np.isin(_ids(self.held), ids)))
            self.held = rest if rest.num_rows else None


@dataclass(slots=True)
class Passed:
    """What may pass: `batches`, the rows of ``drift`` events about ``source:<name>`` in `notices`, and how many rows were left `out` by
    source and reason. It counts once `Limits.kept` has heard that it is durable."""

    batches: list[Batch] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    out: dict[tuple[str, str], int] = field(default_factory=dict)
    ended: dict[tuple[str, str], int] = field(default_factory=dict)
    """Episodes that are over, and when (ns) something was last left out."""


class Limits:
    """What may pass the front door. May be called from any thread.

    Args:
        per_source: most active series of a source.
        total: most active series of all sources together.
        pressure: how full the journal is, 0 to 1.
        meter: where rows left out are counted.
    """

    def __init__(
        self, per_source: int = 1_000_000, total: int = 1_200_000, pressure: Callable[[], float] = lambda: 0.0, meter: Meter | None = None
    ) -> None:
        self._per_source, self._total, self._pressure = per_source, total, pressure
        self._sources: dict[str, _Known] = {}
        self._episodes: dict[tuple[str, str], _Episode] = {}
        self._lock = threading.Lock()
        self._left_out = (meter or Meter()).counter("ninefold_limits_left_out_total", "Rows left out by the limits, by source and reason.")

    def admit(self, batches: Sequence[Batch]) -> Passed:
        """What of some batches may pass, with a notice when leaving out begins (firing) or when nothing was left out for ten minutes
        (resolved). A notice is given again until one was kept; its id is the same.

        A batch of which everything passes is passed on as it is, an empty one is not.
        """
        share = _share(self._pressure()) if any(batch.signal in _THINNED for batch in batches) else 1.0
        passed = Passed()
        with self._lock:
            for batch in batches:
                if batch.rows.num_rows:
                    passed.batches += [found for found in self._admitted(batch, share, passed) if found.rows.num_rows]
            if self._episodes and batches:
                self._announce(passed, max(batch.received for batch in batches))
        return passed

    def kept(self, passed: Passed) -> None:
        """What had passed is durable, its notices too: what was left out of it counts."""
        described = [batch for batch in passed.batches if batch.signal == "series" and self._lacks(batch.source)]
        if not (passed.out or passed.ended or described):
            return
        with self._lock:
            for key, out in passed.out.items():
                self._left_out.add(out, source=key[0], reason=key[1])
                if key in self._episodes:
                    self._episodes[key].out += out
                    self._episodes[key].told = True
            for key, last in passed.ended.items():
                if (episode := self._episodes.pop(key, None)) is not None and episode.last != last:
                    self._episodes[key] = _Episode(episode.last, episode.signal, episode.last, text=episode.text)
            for batch in described:
                self._sources[batch.source].release(np.unique(_ids(batch.rows)))

    @property
    def busy(self) -> bool:
        """Whether somebody is being let in now, so that `admit` would wait."""
        return self._lock.locked()

    def active(self) -> dict[str, int]:
        """How many series are known of every source."""
        with self._lock:
            return {source: len(known.ids) for source, known in self._sources.items()}

    def _lacks(self, source: str) -> bool:
        """Whether descriptions of a source were left out."""
        known = self._sources.get(source)
        return known is not None and (known.held is not None or len(known.undescribed) > 0)

    def _admitted(self, batch: Batch, share: float, passed: Passed) -> list[Batch]:
        if batch.source.partition(".")[0] == "ninefold":
            return [batch]
        if batch.signal in ("metric", "series", "exemplar", "histogram"):
            return self._series(batch, passed)
        return [self._thinned(batch, share, passed)] if share < 1 and batch.signal in _THINNED else [batch]

    def _series(self, batch: Batch, passed: Passed) -> list[Batch]:
        known = self._sources.setdefault(batch.source, _Known())
        ids, describes = _ids(batch.rows), batch.signal == "series"
        places, there = _find(known.ids, ids)
        known.heard[places[there]] = batch.received
        if not there.all():
            new = np.unique(ids[~there])
            if not describes and len(known.undescribed):
                new = np.setdiff1d(new, known.undescribed, assume_unique=True)
            admitted = new[: self._room(batch.source, known, len(new), batch.received)]
            if len(admitted):
                between = np.searchsorted(known.ids, admitted)
                known.ids, known.heard = np.insert(known.ids, between, admitted), np.insert(known.heard, between, batch.received)
            keep = there | np.isin(ids, admitted)
            if not keep.all():
                if describes:
                    known.hold(batch.rows.filter(pa.array(~keep)))
                text = f"{batch.source} has more series than the limit: {len(known.ids):,} are kept, new ones are left out"
                self._leave(passed, batch, "limit", int(np.count_nonzero(~keep)), text)
                ids, batch = ids[keep], replace(batch, rows=batch.rows.filter(pa.array(keep)))
        if describes or known.held is None:
            return [batch]
        about = known.held.filter(pa.array(np.isin(_ids(known.held), ids)))
        return [*(replace(batch, signal="series", rows=part) for part in about.to_batches()), batch]

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
                taken += _drop(other, min(excess, max(wanted - taken, excess // _BLOCK)))
        return taken

    def _thinned(self, batch: Batch, share: float, passed: Passed) -> Batch:
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
            return batch
        text = f"the journal is filling up: of {batch.source} errors and {100 * share:.0f} % of the other {batch.signal}s are kept"
        self._leave(passed, batch, "sampling", int(np.count_nonzero(~keep)), text)
        return replace(batch, rows=rows.filter(pa.array(keep)))

    def _leave(self, passed: Passed, batch: Batch, what: str, out: int, text: str) -> None:
        key = batch.source, what
        passed.out[key] = passed.out.get(key, 0) + out
        episode = self._episodes.setdefault(key, _Episode(batch.received, batch.signal))
        episode.last, episode.text = max(episode.last, batch.received), text

    def _announce(self, passed: Passed, at: int) -> None:
        for key, episode in list(self._episodes.items()):
            if not episode.told and key in passed.out:
                passed.notices.append(_notice(*key, episode, passed.out[key], at, "firing", episode.text))
            elif at - episode.last >= _CALM:
                if not episode.told:
                    del self._episodes[key]  # nothing of it was accepted
                    continue
                passed.ended[key] = episode.last
                text = f"everything of {key[0]} is kept again; {episode.out:,} rows were left out"
                passed.notices.append(_notice(*key, episode, episode.out, at, "resolved", text))


def _notice(source: str, what: str, episode: _Episode, out: int, at: int, status: str, text: str) -> dict[str, Any]:
    identity = {"source": source, "what": what}
    mark = fingerprint({"technique": "limits", **identity})
    attributes = {**identity, "signal": episode.signal, "technique": "limits", "since": iso(episode.since)}
    attributes |= {"usual": "everything is kept", "now": f"{out:,} left out"}
    return {
        "id": event_id("limits", mark, str(episode.since), status), "time": at, "kind": "drift",
        "source_id": f"{mark}-{episode.since}", "entity": f"source:{source}", "title": text, "severity": "warning",
        "severity_raw": "warning", "status": status, "fingerprint": mark, "attributes": attributes,
    }  # fmt: skip


def _ids(rows: pa.RecordBatch | pa.Table) -> U64:
    """The column of series."""
    found: U64 = rows.column("series").to_numpy() if isinstance(rows, pa.Table) else rows.column("series").to_numpy(zero_copy_only=False)
    return found


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
    """Forget up to so many series that are quiet, the longest quiet first, or a few more; returns how many."""
    if known.oldest >= at - _ALIVE or not len(known.ids):
        return 0
    quiet = int(np.count_nonzero(known.heard < at - _ALIVE))
    known.oldest = int(known.heard.min())
    return _drop(known, min(max(wanted, len(known.ids) // _BLOCK), quiet))


def _drop(known: _Known, count: int) -> int:
    """Forget the series that were not heard for longest."""
    if count <= 0:
        return 0
    keep = np.ones(len(known.ids), bool)
    keep[np.argpartition(known.heard, count - 1)[:count]] = False
    known.ids, known.heard = known.ids[keep], known.heard[keep]
    return count


def _share(pressure: float) -> float:
    """The share of plain logs and spans that is kept: all below 70 % full, a twentieth above 95 %."""
    return 1.0 if pressure <= _BELOW else max(_LEAST, 1 - (1 - _LEAST) * (pressure - _BELOW) / (_FULL - _BELOW))
