"""Taking care of sources: what they deliver and how freely, what depends on them, and what to do when they change."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from ninefold.catalogue.freedom import Freedom, Load, freedom
from ninefold.catalogue.watch import Known, SourceWatch
from ninefold.config import WebhookConfig
from ninefold.ground.clock import now
from ninefold.ground.meter import Meter
from ninefold.ground.traffic import Traffic
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
_Counted = dict[str, dict[str, float]]


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
        traffic: how the sources without a class come.
        notify: names of the connectors to use; all of kind `notify` by default.
        cool_down_s: see `Drifts`.
    """

    def __init__(
        self, watch: SourceWatch, store: Store, records: Records, normaliser: Reads, *, connectors: Mapping[str, Connector],
        sources: Sequence[Source], configured: Mapping[str, WebhookConfig], workflows: Sequence[Described],
        cases: Mapping[str, Sequence[str]], meter: Meter, traffic: Traffic, notify: Sequence[str] = (), cool_down_s: float = 3600.0,
    ) -> None:  # fmt: skip
        self.watch, self.records = watch, records
        self.mappings = Mappings(records, store, normaliser, configured)
        self.radius = Radius(store, records, workflows, cases)
        self.drifts = Drifts(store, records, self.radius, notifiers(connectors, notify), cool_down_s)
        self._sources = {source.name: source for source in sources}
        self._meter, self._traffic = meter, traffic
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
        counted = self._counted()
        facts = {known.source: self._facts(known, counted) for known in self.watch.known()}
        with self.records.session() as session:
            kept = {row.source: row for row in session.scalars(select(SourceFacts))}
            for source, found in facts.items():
                if source in kept:
                    kept[source].time, kept[source].facts = now(), found
                else:
                    session.add(SourceFacts(source=source, time=now(), facts=found))
            for source in kept.keys() - facts.keys():  # the watch has forgotten it, and with it what had drifted
                if kept[source].facts["drifting"]:
                    kept[source].facts = {**kept[source].facts, "drifting": 0}

    def kept(self) -> dict[str, dict[str, Any]]:
        """What was last kept of every source, by name: see `facts`."""
        with self.records.reading() as session:
            return {row.source: row.facts for row in session.scalars(select(SourceFacts))}

    def freedom(self, source: str) -> Freedom:
        """The freedom of a source now."""
        return self._freedom(self.watch.of(source), self._counted())

    def format(self, source: str) -> str:
        """The name by which a source's raw records are mapped: of its most read model; "" when it sends none."""
        return _format(self.watch.of(source))

    def facts(self, source: str) -> dict[str, Any]:
        """What is kept of a source: freedom, models without their examples, and how many of its drifts are not over."""
        return self._facts(self.watch.of(source), self._counted())

    def _freedom(self, known: Known, counted: _Counted) -> Freedom:
        """By its class; a source that has none (a sender at the front door) is of the kind by which its batches came."""
        cls = self._sources.get(known.source)
        came = self._traffic.kind(known.source)
        extraction = cls.extraction if cls else "push" if came == "own" else came  # only what was pushed is sent through again
        return freedom(
            known.source, cls.kind if cls else extraction, extraction, known.streams, known.models, known.refused, self.watch.clock,
            self._load(known.source, counted), "" if cls else _format(known),
        )  # fmt: skip

    def _facts(self, known: Known, counted: _Counted) -> dict[str, Any]:
        models = [
            {
                "signal": model["signal"], "type": model["type"], "version": model["version"], "fields": len(model["fields"]),
                "named": [found["path"] for found in model["fields"][:12]],
            }
            for model in known.models
        ]  # fmt: skip
        return {**asdict(self._freedom(known, counted)), "models": models, "drifting": len(known.drifts)}

    def _counted(self) -> _Counted:
        """What polling sources have asked so far: source -> counter -> value."""
        counted: _Counted = defaultdict(dict)
        for name, _, labels, value in self._meter.samples():
            if name in (REQUESTS, BYTES):
                counted[dict(labels).get("source", "")][name] = value
        return counted

    def _load(self, source: str, every: _Counted) -> Load | None:
        """Requests and bytes a minute since a minute ago or more."""
        counted = every.get(source, {})
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


def _format(known: Known) -> str:
    read_by = [(model["sampled"], model["type"].partition(" ")[2]) for model in known.models if model["signal"] == "event"]
    return max(read_by, default=(0, ""))[1].removeprefix("webhook:")
