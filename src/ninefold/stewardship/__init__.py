"""Taking care of sources: what they deliver and how freely, what depends on them, and what to do when they change."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ninefold.catalogue.freedom import Freedom, Load, freedom
from ninefold.catalogue.watch import SourceWatch
from ninefold.config import WebhookConfig
from ninefold.ground.clock import now
from ninefold.ground.meter import Meter
from ninefold.plugin import Connector, Source, Store
from ninefold.stewardship.drifts import Drifts, notifiers
from ninefold.stewardship.mapping import Mappings, Reads
from ninefold.stewardship.radius import Described, Radius
from ninefold.store.records.base import Records
from ninefold.store.records.sources import SourceFacts

__all__ = ["Stewardship"]

REQUESTS, BYTES = "ninefold_source_requests_total", "ninefold_source_bytes_total"
"""The counters in which polling sources say what they ask of the other side, by label `source`."""
_KEEP_S = 60.0


class Stewardship:
    """The steward of a running program's sources.

    Args:
        watch: the technique that measures them.
        store, records, normaliser: of the program.
        connectors: those of kind `notify` reach administrators.
        sources: the configured ones, and those that run by themselves.
        configured: the mappings of ninefold.yaml.
        workflows: those that are loaded.
        cases: use case -> the kinds of data it needs.
        meter: where polling sources count what they ask.
        notify: names of the connectors to use; all of kind `notify` by default.
        cool_down_s: see `Drifts`.
    """

    def __init__(
        self, watch: SourceWatch, store: Store, records: Records, normaliser: Reads, *, connectors: Mapping[str, Connector],
        sources: Sequence[Source], configured: Mapping[str, WebhookConfig], workflows: Sequence[Described],
        cases: Mapping[str, Sequence[str]], meter: Meter, notify: Sequence[str] = (), cool_down_s: float = 3600.0,
    ) -> None:  # fmt: skip
        self.watch, self.records = watch, records
        self.mappings = Mappings(records, store, normaliser, configured)
        self.radius = Radius(store, records, workflows, cases)
        self.drifts = Drifts(store, records, self.radius, notifiers(connectors, notify), cool_down_s)
        self._sources = {source.name: source for source in sources}
        self._meter = meter
        self._asked: dict[str, tuple[int, float, float, Load | None]] = {}
        self._lock = threading.Lock()

    async def run(self) -> None:
        """Follow drifts until cancelled."""
        await self.drifts.run()

    async def keep(self) -> None:
        """Keep what is measured for the roadmap and for later, every minute until cancelled."""
        while True:
            await asyncio.to_thread(self.keep_now)
            await asyncio.sleep(_KEEP_S)

    def keep_now(self) -> None:
        """Keep what is measured now.

        Raises:
            Unavailable: the records cannot be written now.
        """
        facts = {source: self.facts(source) for source in self.watch.sources()}
        with self.records.session() as session:
            for source, found in facts.items():
                session.merge(SourceFacts(source=source, time=now(), facts=found))

    def freedom(self, source: str, kind: str = "") -> Freedom:
        """The freedom of a source now; `kind` (push, poll, file) is how it came, where no class tells."""
        known = self._sources.get(source)
        extraction = known.extraction if known else {"own": "push", "": "push"}.get(kind, kind)
        word = known.kind if known else self.format(source)
        return freedom(
            source, word, extraction, self.watch.streams(source), self.watch.models(source), self.watch.refused(source), self.watch.clock,
            self._load(source),
        )  # fmt: skip

    def format(self, source: str) -> str:
        """The name by which a source's raw records are mapped: of its most read model; "" when it sends none."""
        read_by = [(model["sampled"], model["type"].partition(" ")[2]) for model in self.watch.models(source) if model["signal"] == "event"]
        return max(read_by, default=(0, ""))[1].removeprefix("webhook:")

    def facts(self, source: str) -> dict[str, Any]:
        """What is kept of a source: freedom without its words, models without their examples."""
        free = asdict(self.freedom(source))
        models = [
            {
                "signal": model["signal"], "type": model["type"], "version": model["version"], "fields": len(model["fields"]),
                "named": [found["path"] for found in model["fields"][:12]],
            }
            for model in self.watch.models(source)
        ]  # fmt: skip
        return {**free, "models": models, "drifting": len(self.watch.drifts(source))}

    def _load(self, source: str) -> Load | None:
        """Requests and bytes a minute since a minute ago or more."""
        counted: dict[str, float] = {
            name: value for name, _, labels, value in self._meter.samples() if name in (REQUESTS, BYTES) and ("source", source) in labels
        }
        if REQUESTS not in counted:
            return None
        with self._lock:
            at, requests, size = now(), counted[REQUESTS], counted.get(BYTES, 0.0)
            before = self._asked.get(source)
            minutes = (at - before[0]) / 60e9 if before else 0.0
            if before is not None and minutes < 1:
                return before[3]
            load = Load((requests - before[1]) / minutes, (size - before[2]) / minutes) if before else None
            self._asked[source] = at, requests, size, load
            return load
