"""Series that a technique has no room for: about how many they are, and the events that say so once and that there is room again."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Any

from ninefold.ground.clock import iso
from ninefold.model.entity import fingerprint
from ninefold.model.signal import event_id

_KEPT = 1024


class LeftOut:
    """The smallest of the ids that were left out. Ids are hashes, so how far the smallest reach says how many there are, within about 3 %
    (Bar-Yossef et al. 2002, k minimum values).

    Args:
        kept, since: what `state()` gave, to continue there.
    """

    def __init__(self, kept: Iterable[int] = (), since: int = 0) -> None:
        self._kept, self._since = list(kept), since

    def state(self) -> list[Any]:
        """Everything, as plain data."""
        return [self._kept, self._since]

    def __len__(self) -> int:
        """About how many different ones were left out."""
        return len(self._kept) if len(self._kept) < _KEPT else round((_KEPT - 1) * 2.0**64 / (self._kept[-1] + 1))

    def add(self, series: int) -> None:
        """One was left out."""
        if len(self._kept) == _KEPT and series >= self._kept[-1]:
            return
        if (place := bisect_left(self._kept, series)) == len(self._kept) or self._kept[place] != series:
            insort(self._kept, series)
            del self._kept[_KEPT:]

    def told(self, technique: str, limit: int, now: int, *, full: bool) -> list[dict[str, Any]]:
        """The event to tell now (ns), if any: that some are left out by a technique which follows `limit`, or that it is full no more."""
        if self._kept and not self._since:
            self._since = now
            title = f"{technique} follows {limit:,} series, as many as it may; others are left out of it"
            return [self._event(technique, now, "firing", title)]
        if not full and self._since:
            row = self._event(
                technique, now, "resolved", f"{technique} has room again for series, of which about {len(self):,} were left out"
            )
            self._kept, self._since = [], 0
            return [row]
        return []

    def _event(self, technique: str, now: int, status: str, title: str) -> dict[str, Any]:
        identity = {"technique": technique, "what": "series"}
        mark = fingerprint({"limit": technique})
        return {
            "id": event_id("limit", mark, str(self._since), status), "time": now, "kind": "drift", "source_id": f"{mark}-{self._since}",
            "entity": "source:ninefold", "title": title, "severity": "warning", "severity_raw": "warning", "status": status,
            "fingerprint": mark,
            "attributes": {**identity, "since": iso(self._since), "usual": "every series is followed", "now": f"{len(self):,} left out"},
        }  # fmt: skip
