"""What flows in: rows, rates and delays of every source, counted where batches become durable and read by the Sources page."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.clock import MINUTE, SECOND, now

LIMIT = 500
"""Sources that are told apart: a sender may call itself whatever it likes. The others are counted together."""
OTHERS = "(others)"
_DELAYS = 1024
_BUCKET = 5 * SECOND
_BUCKETS = MINUTE // _BUCKET
_FLOWING, _QUIET = MINUTE, 15 * MINUTE
_UNTIMED = frozenset(("series", "relation", "raw", "quarantine"))


class Arrived(Protocol):
    """What is counted: `model.signal.Batch` is one."""

    @property
    def signal(self) -> str:
        """The signal's name."""

    @property
    def source(self) -> str:
        """Who sent it."""

    @property
    def received(self) -> int:
        """When it came, in ns."""

    @property
    def rows(self) -> pa.RecordBatch:
        """The rows."""


@dataclass(slots=True)
class SignalTraffic:
    """One signal of one source: rows since the beginning, and rows a second over the last minute."""

    rows: int = 0
    rate_per_s: float = 0.0


@dataclass(slots=True)
class SourceTraffic:
    """One source. Times in ns; delays (receipt minus the newest event time of a batch) in seconds, None when nothing tells them;
    below 0 the sender's clock is ahead, or its times are of another zone than they are taken for.

    `state`: flowing (something came within a minute), quiet (within fifteen), silent.
    """

    name: str
    kind: str
    signals: dict[str, SignalTraffic]
    first_seen: int
    last_seen: int
    delay_p50_s: float | None
    delay_p99_s: float | None
    state: str


@dataclass(slots=True)
class _Source:
    kind: str
    first: int
    last: int
    rows: dict[str, int] = field(default_factory=dict)
    recent: dict[tuple[int, str], int] = field(default_factory=dict)
    """(bucket number, signal) -> rows, oldest first, about a minute of them."""
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS))


class Traffic:
    """Counts batches by source and signal; may be called from any thread."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._lock = threading.Lock()

    def record(self, batch: Arrived, kind: str = "push") -> None:
        """Count a batch that has become durable; `kind` says how it came: push, poll, file or own."""
        rows, received = batch.rows.num_rows, batch.received
        if not rows:
            return
        delay_s = _delay_s(batch)
        with self._lock:
            source = self._sources.get(batch.source)
            if source is None:
                name = batch.source if self._room(received) else OTHERS
                source = self._sources.setdefault(name, _Source(kind, received, received))
            source.last = max(source.last, received)
            source.rows[batch.signal] = source.rows.get(batch.signal, 0) + rows
            _add_recent(source.recent, received // _BUCKET, batch.signal, rows)
            if delay_s is not None:
                source.delays.append(delay_s)

    def _room(self, at: int) -> bool:
        """Whether there is room for one more source; the one silent for longest makes some."""
        if len(self._sources) < LIMIT:
            return True
        oldest = min(self._sources, key=lambda name: self._sources[name].last)
        if at - self._sources[oldest].last < _QUIET:
            return False
        del self._sources[oldest]
        return True

    def kind(self, name: str) -> str:
        """How a source comes: push, poll, file or own; "" when it is not known."""
        with self._lock:
            source = self._sources.get(name)
            return source.kind if source else ""

    def table(self, at: int = 0) -> list[SourceTraffic]:
        """Every source as it stands at `at` (ns; 0 = now), by name."""
        at = at or now()
        with self._lock:
            return [_summary(name, source, at) for name, source in sorted(self._sources.items())]

    def snapshot(self) -> dict[str, Any]:
        """What `restore` takes after a restart, as plain JSON values; rates and delays begin anew."""
        with self._lock:
            return {
                name: {"kind": source.kind, "first": source.first, "last": source.last, "rows": dict(source.rows)}
                for name, source in self._sources.items()
            }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from a snapshot, adding what has come since."""
        with self._lock:
            for name, saved in sorted(snapshot.items(), key=lambda item: -item[1]["last"])[:LIMIT]:
                source = self._sources.setdefault(name, _Source(saved["kind"], saved["first"], saved["last"]))
                source.first, source.last = min(source.first, saved["first"]), max(source.last, saved["last"])
                for signal, rows in saved["rows"].items():
                    source.rows[signal] = source.rows.get(signal, 0) + rows


def _delay_s(batch: Arrived) -> float | None:
    if batch.signal in _UNTIMED:
        return None
    newest = int(pc.max(batch.rows.column("time").cast(pa.int64())).as_py())
    return (batch.received - newest) / SECOND


def _add_recent(recent: dict[tuple[int, str], int], bucket: int, signal: str, rows: int) -> None:
    recent[bucket, signal] = recent.get((bucket, signal), 0) + rows
    while (oldest := next(iter(recent)))[0] <= bucket - _BUCKETS:
        del recent[oldest]


def _summary(name: str, source: _Source, at: int) -> SourceTraffic:
    oldest = at // _BUCKET - _BUCKETS
    seconds = min(MINUTE, max(at - source.first, _BUCKET)) / SECOND
    signals = {signal: SignalTraffic(rows) for signal, rows in sorted(source.rows.items())}
    for (bucket, signal), rows in source.recent.items():
        if bucket > oldest:
            signals[signal].rate_per_s += rows / seconds
    age = at - source.last
    delays = sorted(source.delays)
    return SourceTraffic(
        name,
        source.kind,
        signals,
        source.first,
        source.last,
        _quantile(delays, 0.5),
        _quantile(delays, 0.99),
        "flowing" if age < _FLOWING else "quiet" if age < _QUIET else "silent",
    )


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
