"""The example `ticket` workflow on a real Request Tracker and a real mail receiver: from an incident to a closed ticket and back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from rt_server import Tracker
from sqlalchemy import select

from ninefold.config import CorrelationConfig, WorkflowsConfig
from ninefold.connectors.notify import Notify
from ninefold.connectors.request_tracker import Create, RequestTracker
from ninefold.ground.clock import now
from ninefold.ground.meter import Meter
from ninefold.incidents import Incidents
from ninefold.model.signal import Batch
from ninefold.plugin import Connector
from ninefold.store.records.base import Base, Outbox, Records, Setting
from ninefold.store.records.incidents import Incident, Ticket, incident_key
from ninefold.store.records.workflows import Run, Step
from ninefold.workflows.engine import Workflows
from ninefold.workflows.language import load

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "workflows" / "ticket.yaml"
STATE = EXAMPLE.with_name("ticket_state.yaml")
T = TypeVar("T")


class Inbox:
    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append((envelope.content or b"").decode() if isinstance(envelope.content, bytes) else str(envelope.content))
        return "250 OK"


class Desk:
    """An incident's life as the incidents' part writes it, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.records = Records(f"sqlite:///{folder / 'records.db'}")
        Base.metadata.create_all(self.records.engine)

    def change(self, kind: str, **fields: Any) -> None:
        with self.records.session() as session:
            incident = session.get(Incident, 1)
            if incident is None:
                incident = Incident(title="checkout is slow", severity="critical", opened=now(), first_event=now(), last_event=now())
                session.add(incident)
            for name, value in fields.items():
                setattr(incident, name, value)
            session.flush()
            session.add(Outbox(topic="incident", kind=kind, key=incident_key(incident.id)))

    def runs(self, count: int) -> Callable[[], list[Run]]:
        def look() -> list[Run]:
            with self.records.reading() as session:
                over = list(session.scalars(select(Run).where(Run.finished.is_not(None))))
                return over if len(over) >= count else []

        return look

    def all(self, table: type[T]) -> list[T]:
        with self.records.reading() as session:
            return list(session.scalars(select(table)))


async def until(what: Callable[[], T], timeout_s: float = 90.0) -> T:
    async with asyncio.timeout(timeout_s):
        while not (found := await asyncio.to_thread(what)):  # noqa: ASYNC110 - what is waited for happens in another program
            await asyncio.sleep(0.05)
    return found


@pytest.mark.real
@pytest.mark.slow
def test_from_incident_to_ticket_and_back(tracker: Tracker, tmp_path: Path) -> None:
    desk, inbox = Desk(tmp_path), Inbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mail = Controller(inbox, hostname="127.0.0.1", port=port)
    mail.start()
    rows: list[dict[str, Any]] = []

    async def emit(batches: Sequence[Batch]) -> None:
        for batch in batches:
            rows.extend(batch.rows.to_pylist())

    async def main() -> None:
        team = f"mailto://127.0.0.1:{port}?from=ninefold@example.org&to=oncall@example.org&mode=insecure"
        connectors: dict[str, Connector] = {
            "tracker": RequestTracker(RequestTracker.Config.model_validate({"url": tracker.url, "token": tracker.token, "poll_s": 0.5})),
            "team": Notify(Notify.Config.model_validate({"urls": [team]})),
        }
        engine = Workflows(desk.records, connectors, [load(EXAMPLE)], WorkflowsConfig(), Meter())
        assert engine.problems == {}
        tasks = [asyncio.create_task(engine.run()), asyncio.create_task(engine.poll_changes(emit))]
        try:
            await until(lambda: desk.all(Setting))  # the first question for changes says from when on they count
            desk.change("opened", entity="service:checkout", alerts=3)
            await until(desk.runs(1))
            desk.change(
                "explained", verdict="determined", cause={"entity": "service:db", "kind": "latency", "summary": "the database is slow"}
            )
            await until(desk.runs(2))
            (ticket,) = desk.all(Ticket)
            with tracker.person() as person:
                answer = await asyncio.to_thread(person.put, f"/ticket/{ticket.id}", json={"Owner": "root", "Status": "open"})
                assert answer.status_code == 200
            desk.change("explained")
            desk.change("resolved", status="resolved", resolved=now())
            await until(desk.runs(3))
            await until(lambda: any(row["status"] == "resolved" for row in rows))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for connector in connectors.values():
                with contextlib.suppress(NotImplementedError):
                    await connector.close()

    try:
        asyncio.run(main())
    finally:
        mail.stop()
    assert [(run.trigger, run.status, run.error) for run in desk.all(Run)] == [
        ("INC-1 opened", "succeeded", ""),
        ("INC-1 explained", "succeeded", ""),
        ("INC-1 resolved", "succeeded", ""),
    ]
    (ticket,) = desk.all(Ticket)
    assert (ticket.system, ticket.incident, ticket.status) == ("tracker", 1, "resolved")
    with tracker.person() as person:
        data = person.get(f"/ticket/{ticket.id}").json()
    assert (data["Subject"], data["Status"], data["Priority"]) == ("INC-1 checkout is slow", "resolved", "90")
    (body,) = inbox.mails
    assert "Subject: INC-1 checkout is slow" in body
    assert all(row["kind"] == "ticket" and row["source"] == "tracker" and row["source_id"] == ticket.id for row in rows)
    changes = [(row["title"], dict(row["attributes"]).get("ninefold.incident"), row["body"].strip()) for row in rows]
    assert (f"root changed ticket {ticket.id}: Status new → open", "INC-1", "") in changes
    assert (f"root commented on ticket {ticket.id}", "INC-1", "Probable cause: the database is slow (service:db)") in changes
    assert any(title == f"root changed ticket {ticket.id}: Status open → resolved" for title, _, _ in changes)
    assert tracker.token not in repr([(step.input, step.output, step.error) for step in desk.all(Step)])
    desk.records.close()


@pytest.mark.real
@pytest.mark.slow
def test_owner_and_state_go_both_ways(tracker: Tracker, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    incidents = Incidents(desk.records, None, CorrelationConfig(), Meter())  # type: ignore[arg-type]
    connector = RequestTracker(RequestTracker.Config.model_validate({"url": tracker.url, "token": tracker.token, "poll_s": 0.2}))

    async def emit(batches: Sequence[Batch]) -> None:
        await asyncio.to_thread(incidents.consume, batches, 0)

    def incident() -> Incident:
        return desk.all(Incident)[0]

    async def main() -> None:
        engine = Workflows(desk.records, {"tracker": connector}, [load(STATE)], WorkflowsConfig(), Meter())
        assert engine.problems == {}
        tasks = [asyncio.create_task(engine.run()), asyncio.create_task(engine.poll_changes(emit))]
        try:
            await until(lambda: desk.all(Setting))
            made = await connector.create(Create(subject="both ways", reference="urn:both-ways"))
            desk.change("opened")
            with desk.records.session() as session:
                session.add(Ticket(system="tracker", id=made.ticket, url=made.url, incident=1, status=made.status))
            with tracker.person() as person:
                answer = await asyncio.to_thread(person.put, f"/ticket/{made.ticket}", json={"Owner": "root", "Status": "open"})
                assert answer.status_code == 200
            await until(lambda: incident().owner == "root" and desk.all(Ticket)[0].status == "open")
            await until(desk.runs(1))
            desk.change("assigned", owner="")
            await until(desk.runs(2))
            desk.change("mitigated", status="mitigated")
            await until(desk.runs(3))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connector.close()

    asyncio.run(main())
    assert [(run.trigger, run.status, run.error) for run in desk.all(Run)] == [
        ("INC-1 assigned", "succeeded", ""), ("INC-1 assigned", "succeeded", ""), ("INC-1 mitigated", "succeeded", ""),
    ]  # fmt: skip
    steps = [(step.run, step.id, step.status) for step in desk.all(Step)]
    assert (1, "owner", "skipped") in steps, "what came from the ticket does not go back to it"
    assert (2, "owner", "succeeded") in steps
    (ticket,) = desk.all(Ticket)
    with tracker.person() as person:
        data = person.get(f"/ticket/{ticket.id}").json()
    assert (ticket.owner, data["Owner"]["id"], data["Status"]) == ("", "Nobody", "open")
    desk.records.close()
