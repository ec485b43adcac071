"""Techniques that fail are set aside, one signal at a time, while all others go on; what they miss is counted and told.

The first failure costs a technique the batch it failed on; when it fails again soon, it is given that signal's batches again only after
a while, which grows. Other signals still reach it: what people set, or how a series is described, comes but once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ninefold.ground.clock import iso
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.model.entity import fingerprint
from ninefold.model.signal import Batch, batch_of, event_id

_log = get("engine")
_ASIDE_S = (0.0, 1.0, 5.0, 30.0, 120.0, 600.0)
_WELL_S = 60.0
"""What has not failed for so long works again."""
_SOURCE, _ENTITY = "ninefold.engine", "service:ninefold"


@dataclass(slots=True)
class Aside:
    """A technique that failed on a signal: since when (ns of receipt), why, how often, until when it gets none (monotonic s), and what
    it has missed."""

    technique: str
    signal: str
    since: int
    reason: str
    failures: int = 0
    failed_s: float = 0.0
    until_s: float = 0.0
    batches: int = 0
    rows: int = 0


class Asides:
    """Who is set aside."""

    def __init__(self, meter: Meter) -> None:
        self._found: dict[tuple[str, str], Aside] = {}
        self._failures = meter.counter("ninefold_techniques_failures_total", "Batches a technique failed on, by technique and signal.")
        self._missed = meter.counter("ninefold_techniques_missed_total", "Rows that did not reach a technique, by technique and signal.")

    def waits(self, technique: str, batch: Batch) -> bool:
        """Whether the technique is not to get this batch, which is counted then."""
        aside = self._found.get((technique, batch.signal))
        if aside is None or time.monotonic() >= aside.until_s:
            return False
        self._miss(aside, batch)
        return True

    def failed(self, technique: str, batch: Batch, error: Exception) -> tuple[int, list[Batch]]:
        """The technique failed on a batch and misses it; how often in a row it did, and what is to be told when it is the first time."""
        reason = f"{type(error).__name__}: {error}"
        aside = self._found.setdefault((technique, batch.signal), Aside(technique, batch.signal, batch.received, reason))
        wait_s = _ASIDE_S[min(aside.failures, len(_ASIDE_S) - 1)]
        aside.reason, aside.failures, aside.failed_s = reason, aside.failures + 1, time.monotonic()
        aside.until_s = aside.failed_s + wait_s
        self._failures.add(1, technique=technique, signal=batch.signal)
        self._miss(aside, batch)
        _log.error(
            "the technique %s failed on batch %d (%s) and goes on without it in %g s", technique, batch.position, batch.signal, wait_s,
            exc_info=error,
        )  # fmt: skip
        return aside.failures, [_event(aside, batch.received, firing=True)] if aside.failures == 1 else []

    def worked(self, technique: str, batch: Batch) -> list[Batch]:
        """The technique took in a batch; what is to be told when it has not failed for a while now."""
        aside = self._found.get((technique, batch.signal))
        if aside is None or time.monotonic() - aside.failed_s < _WELL_S:
            return []
        del self._found[technique, batch.signal]
        _log.warning("%s", _works(aside))
        return [_event(aside, batch.received, firing=False)]

    def notices(self) -> dict[str, str]:
        """What an administrator must know, by technique."""
        return {
            f"technique {aside.technique}": f"failed {aside.failures} times on {aside.signal} data since {iso(aside.since)}"
            f" and missed {aside.rows:,} rows: {aside.reason}"
            for aside in list(self._found.values())
        }

    def _miss(self, aside: Aside, batch: Batch) -> None:
        aside.batches, aside.rows = aside.batches + 1, aside.rows + batch.rows.num_rows
        self._missed.add(batch.rows.num_rows, technique=aside.technique, signal=batch.signal)


def _works(aside: Aside) -> str:
    return (
        f"the technique {aside.technique} works again; since {iso(aside.since)} it missed"
        f" {aside.rows:,} rows of {aside.signal} data in {aside.batches:,} batches"
    )


def _event(aside: Aside, received: int, *, firing: bool) -> Batch:
    identity = {"technique": "engine", "failing": aside.technique, "signal": aside.signal}
    mark, status = fingerprint(identity), "firing" if firing else "resolved"
    row: dict[str, Any] = {
        "id": event_id("engine", mark, str(aside.since), status), "time": received, "kind": "anomaly", "source_id": f"{mark}-{aside.since}",
        "entity": _ENTITY, "severity": "warning", "severity_raw": "warning", "status": status, "fingerprint": mark,
        "title": f"the technique {aside.technique} failed on {aside.signal} data; all others go on" if firing else _works(aside),
        "body": aside.reason, "attributes": {**identity, "reason": "technique failed", "since": iso(aside.since)},
    }  # fmt: skip
    return batch_of("event", _SOURCE, received, [row])
