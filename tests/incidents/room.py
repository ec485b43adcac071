"""An incident room over a database of its own, fed with events as a normaliser would hand them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import func, select

from ninefold.config import AlertsConfig, CorrelationConfig
from ninefold.ground.clock import SECOND
from ninefold.ground.meter import Meter
from ninefold.incidents import Incidents, view
from ninefold.model.entity import fingerprint
from ninefold.model.signal import Batch, batch_of, event_id
from ninefold.store.records.base import Base, Outbox, Records
from ninefold.store.records.incidents import AlertState, Incident, IncidentEvent, Ledger, Timeline

T0 = 1_700_000_000 * SECOND
TABLES = (Incident, AlertState, IncidentEvent, Timeline, Ledger, Outbox)


class EmptyStore:
    """A telemetry store in which nothing is."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        wanted = {"bucket": pa.int32(), "rows": pa.int64(), "series": pa.uint64(), "name": pa.string()}
        return pa.table({name: pa.array([], kind) for name, kind in wanted.items()})

    def append(self, batches: Sequence[Batch], token: str) -> int:
        raise NotImplementedError


class Room:
    """`feed` is one consume of the next journal position."""

    def __init__(self, folder: Path, store: Any = None, alerts: Mapping[str, Any] | None = None, **config: Any) -> None:
        self.records = Records(f"sqlite:///{folder}/records.db")
        Base.metadata.create_all(self.records.engine)
        self.config, self.store, self.stored = CorrelationConfig(**config), store or EmptyStore(), 1 << 62
        self.alerts = AlertsConfig.model_validate(alerts or {})
        self.position = 0
        self.restart()

    def restart(self) -> None:
        self.incidents = Incidents(self.records, self.store, self.config, Meter(), lambda: self.stored, self.alerts)

    def feed(self, *rows: Mapping[str, Any], received_s: float = 0, source: str = "am") -> list[Batch]:
        self.position += 1
        received = T0 + int(received_s * SECOND)
        signal = "relation" if rows and "from_entity" in rows[0] else "event"
        batches = [replace(batch_of(signal, source, received, rows), position=self.position)] if rows else []
        self.incidents.consume(batches, self.position)
        return batches

    def chain(self, *services: str) -> None:
        edges = ((f"service:{a}", f"service:{b}") for a, b in pairwise(services))
        self.feed(*({"from_entity": a, "to_entity": b, "kind": "calls", "time": T0} for a, b in edges))

    def tick(self, at_s: float) -> None:
        self.feed()  # a reader's turn with nothing new; after it the watermark counts in full
        self.incidents.tick(T0)
        self.incidents.tick(T0 + int(at_s * SECOND))

    def list(self, status: str = "all") -> list[dict[str, Any]]:
        with self.records.reading() as session:
            return view.page(session, status, "", 1000, 0)["items"]

    def whole(self, key: str) -> dict[str, Any]:
        topology = self.incidents.topology()
        with self.records.reading() as session:
            return view.whole(session, view.find(session, key), topology)

    def timeline(self, key: str) -> list[dict[str, Any]]:
        with self.records.reading() as session:
            return view.timeline(session, view.find(session, key))

    def why(self, key: str) -> list[dict[str, Any]]:
        with self.records.reading() as session:
            return view.decisions(session, view.find(session, key))

    def told(self) -> list[tuple[str, str]]:
        with self.records.reading() as session:
            return [(row.key, row.kind) for row in session.scalars(select(Outbox).order_by(Outbox.id))]

    def sizes(self) -> dict[str, int]:
        with self.records.reading() as session:
            return {t.__tablename__: session.scalar(select(func.count()).select_from(t)) or 0 for t in TABLES}


def event(
    at_s: float, entity: str = "service:cart", title: str = "slow", kind: str = "alert", status: str = "firing",
    severity: str = "warning", **attributes: str,
) -> dict[str, Any]:  # fmt: skip
    """An alert event; the same entity and title is the same alert."""
    return {
        "id": event_id(kind, entity, title, status, str(at_s)), "time": T0 + int(at_s * SECOND), "kind": kind, "entity": entity,
        "title": title, "status": status, "severity": severity, "fingerprint": fingerprint({"entity": entity, "title": title}),
        "attributes": attributes,
    }  # fmt: skip
