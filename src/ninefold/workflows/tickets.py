"""Tickets of other systems: remembered when a step opens one, and what people do to them brought back as events.

The answer of any connector that has `ticket` (its id there), `url` and `status`, and where it has one `owner` ("" for nobody), is a
ticket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from ninefold.ground.clock import now
from ninefold.ground.errors import NinefoldError
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.model.signal import Batch, batch_of, event_id
from ninefold.plugin import Changes, Connector, Emit
from ninefold.sources.own import ENTITY, SOURCE
from ninefold.store.records.base import Records, Setting
from ninefold.store.records.incidents import Ticket, incident_key

_log = get("workflows.tickets")
_POLL_S = 15.0
_LONGEST_WAIT_S = 300.0
_TELL_AFTER = 5
"""Failures in a row after which a connector's trouble is an event of its own."""


def mirror(session: Session, system: str, incident: int | None, output: Mapping[str, Any]) -> None:
    """Remember the ticket a step answered with, if it did, as one of the incident's."""
    ticket, url = output.get("ticket"), output.get("url")
    if incident is None or not isinstance(ticket, str) or not ticket or not isinstance(url, str):
        return
    known = session.get(Ticket, (system, ticket))
    if known is None:
        known = Ticket(system=system, id=ticket, incident=incident, status="open", owner="")
        session.add(known)
    known.url, known.status, known.owner = url, str(output.get("status", known.status)), str(output.get("owner", known.owner))


class TicketChanges:
    """Asks each connector for changes since its cursor and emits them; the cursor moves on after they are durable.

    Args:
        records: keeps the cursors.
        connectors: by name; those that bring no changes are left out.
        meter: counts events and errors.
    """

    def __init__(self, records: Records, connectors: Mapping[str, Connector], meter: Meter) -> None:
        self._records = records
        self._connectors = {name: c for name, c in connectors.items() if type(c).changes is not Connector.changes}
        self._received = meter.counter("ninefold_tickets_received_total", "Ticket changes brought in, by connector.")
        self._errors = meter.counter("ninefold_tickets_errors_total", "Failed questions for ticket changes, by connector.")

    async def run(self, emit: Emit) -> None:
        """Poll every connector until cancelled; one that fails waits longer each time and does not hold up the others."""
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())  # without any connector there is nothing to do, for ever
            for name, connector in self._connectors.items():
                group.create_task(self._follow(name, connector, emit))

    async def poll(self, name: str, connector: Connector, emit: Emit) -> int:
        """Ask once; returns the number of events emitted.

        Raises:
            NinefoldError: the system cannot be asked, or the journal is full; the cursor stays.
        """
        before = await asyncio.to_thread(self._cursor, name)
        changes = await connector.changes(before)
        if changes.events:
            rows = await asyncio.to_thread(self._rows, name, changes)
            await emit([batch_of("event", name, now(), rows)])
        if changes.cursor != before:
            await asyncio.to_thread(self._keep, name, changes.cursor)
        self._received.add(len(changes.events), connector=name)
        return len(changes.events)

    async def _follow(self, name: str, connector: Connector, emit: Emit) -> None:
        pause_s = float(getattr(connector.config, "poll_s", _POLL_S))
        failures = 0
        while True:
            try:
                found = await self.poll(name, connector, emit)
                if failures >= _TELL_AFTER:
                    await emit([_told(name, f"The ticket changes of {name} are read again", "info")])
                failures = 0
                if found:
                    continue  # there may be more
            except Exception as error:  # noqa: BLE001 - a connector is a plug-in: its defect is its own, not the other connectors'
                failures += 1
                wait_s = max(pause_s, min(_LONGEST_WAIT_S, pause_s * 2.0 ** min(failures - 1, 16)))
                self._errors.add(connector=name)
                defect = None if isinstance(error, NinefoldError) else error
                _log.warning("the changes of %s could not be read, the next try is in %g s: %s", name, wait_s, error, exc_info=defect)
                if failures == _TELL_AFTER:
                    with contextlib.suppress(NinefoldError):  # a journal that is full is told about by others
                        await emit([_told(name, f"The ticket changes of {name} cannot be read: {error}", "warning")])
                await asyncio.sleep(wait_s)
            else:
                await asyncio.sleep(pause_s)

    def _cursor(self, name: str) -> str:
        with self._records.reading() as session:
            kept = session.get(Setting, f"connector:{name}")
            return str(kept.value["cursor"]) if kept else ""

    def _rows(self, name: str, changes: Changes) -> list[dict[str, Any]]:
        with self._records.reading() as session:
            tickets = {str(row["source_id"]): session.get(Ticket, (name, str(row["source_id"]))) for row in changes.events}
        rows = []
        for row in changes.events:
            ticket = tickets[str(row["source_id"])]
            known = {"ninefold.incident": incident_key(ticket.incident)} if ticket else {}
            rows.append({**row, "source": name, "attributes": {**row.get("attributes", {}), **known}})
        return rows

    def _keep(self, name: str, cursor: str) -> None:
        with self._records.session() as session:
            session.merge(Setting(key=f"connector:{name}", value={"cursor": cursor}))


def _told(connector: str, title: str, severity: str) -> Batch:
    time = now()
    row = {
        "id": event_id(SOURCE, "tickets", connector, str(time)), "time": time, "kind": "event", "source_id": connector,
        "entity": ENTITY, "title": title, "severity": severity,
    }  # fmt: skip
    return batch_of("event", SOURCE, time, [row])
