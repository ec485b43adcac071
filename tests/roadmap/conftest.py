"""A store and records filled with a small, known history: two days of three services, their alerts, changes, tickets and runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ninefold.ground.clock import MINUTE, SECOND, now
from ninefold.model.entity import series_id
from ninefold.model.signal import batch_of
from ninefold.store.records.base import Base, Records
from ninefold.store.records.incidents import AlertState, Change, Incident, IncidentEvent, Ticket, Timeline
from ninefold.store.records.workflows import Approval, Definition, Dispatch, Run, Step
from ninefold.store.telemetry import Telemetry

SERVICES = ("service:shop/cart", "service:shop/checkout", "service:shop/payment")


@dataclass
class History:
    """The store and the records, and every row that was put into them, for the recount."""

    store: Telemetry
    records: Records
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, signal: str, source: str, rows: list[dict[str, Any]]) -> None:
        received = now()
        self.store.append([batch_of(signal, source, received, rows)], token=f"{signal} {source} {len(self.rows.get(signal, []))}")
        self.rows.setdefault(signal, []).extend({"source": source, "received": received, **row} for row in rows)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    folder: Path = tmp_path_factory.mktemp("roadmap")
    store, records = Telemetry(f"chdb://{folder / 'store'}"), Records(f"sqlite:///{folder / 'records.db'}")
    store.open()
    Base.metadata.create_all(records.engine)
    yield History(store, records)
    store.close()
    records.close()


@pytest.fixture(scope="module")
def history(empty: History) -> History:
    _telemetry(empty)
    _events(empty)
    _incidents(empty.records)
    _automation(empty.records)
    return empty


def _telemetry(history: History) -> None:
    rng, at = random.Random(9), now() - 60 * MINUTE
    for source, interval_s, named in (("prometheus", 15, True), ("edge-gateway", 300, False)):
        series, points = [], []
        for service in SERVICES:
            attributes = {"job": service.rpartition("/")[2], "instance": "10.0.0.1:9100", "zone": "a"}
            number = series_id(f"http_requests_{source}", attributes)
            series.append(
                {
                    "series": number,
                    "name": "http_requests",
                    "kind": "counter" if named else "unknown",
                    "unit": "",
                    "seen": at,
                    "entity": service if named else "",
                    "attributes": attributes,
                }
            )
            points += [{"series": number, "time": at + i * interval_s * SECOND, "value": float(i)} for i in range(3600 // interval_s)]
        history.add("series", source, series)
        history.add("metric", source, points)
    logs = [
        {
            "time": now() - (i % 7) * SECOND,
            "entity": SERVICES[i % 3],
            "severity_number": 17 if i % 10 == 0 else 9,
            "body": f"request {i} done",
            "pattern": 1 + i % 4,
            "attributes": {"http.route": "/cart"},
            "resource": {"service.name": "cart"},
        }
        for i in range(200)
    ]
    history.add("log", "otel", logs)
    old = [{"time": now() - 40 * MINUTE, "entity": "", "severity_number": 0, "body": "link up", "pattern": 9} for _ in range(20)]
    history.add("log", "syslog", old)
    spans = [
        {
            "time": now() - SECOND,
            "entity": SERVICES[i % 3],
            "trace_id": f"{i:032x}",
            "span_id": f"{i:016x}",
            "name": "GET /cart",
            "kind": "server",
            "duration": rng.randrange(10**6, 10**8),
            "status": "ok",
            "resource": {"service.name": "cart"},
        }
        for i in range(50)
    ]
    history.add("span", "otel", spans)
    edges = [("checkout", "payment"), ("checkout", "cart")]
    history.add(
        "relation",
        "otel",
        [{"time": at, "from_entity": f"service:shop/{a}", "to_entity": f"service:shop/{b}", "kind": "calls"} for a, b in edges],
    )
    bad = [
        {"id": f"q{i}", "received": now(), "signal": "event", "format": "webhook:ci", "reason": "not JSON", "payload": b"{"}
        for i in range(3)
    ]
    history.add("quarantine", "ci", bad)


def _events(history: History) -> None:
    at = now() - 50 * MINUTE
    alerts = [
        {
            "id": f"a{i}",
            "time": at + i * SECOND,
            "kind": "alert",
            "entity": SERVICES[i % 3] if i % 4 else "host:unknown-7",
            "title": "HighErrorRate",
            "severity": "critical",
            "status": "firing",
            "fingerprint": f"f{i % 6}",
            "attributes": {"alertname": "HighErrorRate"},
        }
        for i in range(40)
    ]
    history.add("event", "alertmanager", alerts)
    changes = [
        {
            "id": f"c{i}",
            "time": at - (i + 1) * 5 * MINUTE,
            "kind": "deployment" if i else "change",
            "entity": SERVICES[i] if i < 3 else "",
            "title": f"release {i}",
        }
        for i in range(4)
    ]
    history.add("event", "ci", changes)
    tickets = [
        {"id": f"t{i}", "time": at, "kind": "ticket", "entity": SERVICES[0], "title": "Cart is slow", "source_id": str(i)} for i in range(2)
    ]
    history.add("event", "rt", tickets)
    found = [
        {
            "id": f"n{i}",
            "time": at,
            "kind": "anomaly",
            "entity": SERVICES[i % 3],
            "title": "above its band",
            "status": "firing",
            "fingerprint": f"n{i}",
            "attributes": {"technique": "baseline"},
        }
        for i in range(5)
    ]
    history.add("event", "ninefold.baseline", found)


def _incidents(records: Records) -> None:
    start = now() - 50 * MINUTE
    with records.session() as session:
        for i in range(6):
            opened = start + i * 5 * MINUTE
            incident = Incident(
                id=i + 1,
                title="HighErrorRate",
                opened=opened,
                first_event=opened,
                last_event=opened + MINUTE,
                alerts=10 - i,
                entity=SERVICES[i % 2],
                pending=i == 5,
                status="resolved" if i < 4 else "open",
                acknowledged=opened + (i + 1) * MINUTE if i < 3 else None,
                resolved=opened + (i + 2) * 4 * MINUTE if i < 4 else None,
                feedback=("useful", "wrong_cause", "noise", "", "", "")[i],
                cause={"entity": SERVICES[2], "kind": "service", "summary": "slow"} if i < 3 else None,
                verdict="determined" if i < 3 else "undetermined",
                truth={"entity": SERVICES[2 if i < 2 else 0], "kind": "cpu", "text": "cpu"} if i < 4 else None,
            )
            session.add(incident)
            lines = [("opened", 0, "ninefold")]
            lines += [("acknowledged", (i + 1) * MINUTE, "ada")] if i < 3 else []
            lines += [("workflow", (i + 1) * MINUTE + SECOND, "")] if i < 2 else []
            lines += [("resolved", (i + 2) * 4 * MINUTE, "ninefold")] if i < 4 else []
            lines += [("reopened", 40 * MINUTE, "bob")] if i == 3 else []
            session.add_all(
                Timeline(incident=i + 1, time=opened + after, kind=kind, title=kind, actor=actor) for kind, after, actor in lines
            )
        session.add_all(
            AlertState(
                fingerprint=f"n{i}",
                entity=SERVICES[0],
                kind="anomaly",
                rule="band",
                title="above",
                severity="warning",
                status="firing",
                first=start,
                last=start,
                count=1,
                incident=i + 1,
                last_event=f"n{i}",
            )
            for i in (0, 1, 5)
        )
        session.add_all(
            Change(event_id=f"c{i}", time=start, kind="deployment", entity=SERVICES[0], title="release", event={}) for i in range(4)
        )
        fault = {"kind": "truth", "entity": SERVICES[2], "title": "cpu", "event": {}}
        session.add_all(Change(event_id=f"u{i}", time=start + i * 5 * MINUTE - (i + 1) * 20 * SECOND, **fault) for i in range(2))
        # An alert before the fault cannot have told of it; the next one counts.
        session.add_all(
            IncidentEvent(
                incident=i + 1, event_id=f"e{i}{after}", time=start + i * 5 * MINUTE + after * SECOND, kind="alert", role="alert", event={}
            )
            for i in range(2)
            for after in (-90, 0, 30)
        )
        session.add(IncidentEvent(incident=1, event_id="c0", time=start, kind="deployment", role="change", event={}))
        session.add_all(
            [Ticket(system="rt", id="1", incident=1, status="resolved"), Ticket(system="rt", id="2", incident=2, status="open")]
        )


def _automation(records: Records) -> None:
    start = now() - 50 * MINUTE
    with records.session() as session:
        session.add_all(Definition(digest=f"d{i}", workflow="restart", source="", since=0) for i in range(2))
        for i, (status, incident) in enumerate((("succeeded", 1), ("succeeded", 2), ("failed", 2), ("waiting", 3))):
            done = start + (incident - 1) * 5 * MINUTE + 3 * MINUTE
            run = Run(
                workflow="restart",
                digest="d1",
                key=f"k{i}",
                incident=incident,
                trigger="opened",
                change="opened",
                triggered=start,
                status=status,
                started=start,
                finished=done if status != "waiting" else None,
            )
            session.add(run)
            session.flush()
            state = "succeeded" if status == "succeeded" else status
            session.add(Step(run=run.id, id="restart", number=1, uses="host.run", risk="dangerous", status=state))
            session.add(Dispatch(workflow="restart", outbox=i + 1, verdict="started", incident=incident, run=run.id))
        session.add(Dispatch(workflow="restart", outbox=9, verdict="skipped", reason="cool down", incident=4))
        session.add_all(
            Approval(
                run=n,
                step="restart",
                kind="step",
                workflow="restart",
                incident=n,
                risk="dangerous",
                role="operator",
                question="Restart?",
                requested=start,
                decided=start + n * MINUTE if n < 3 else None,
                status=("approved", "rejected", "waiting")[n - 1],
                actor="ada" if n < 3 else "",
            )
            for n in (1, 2, 3)
        )
