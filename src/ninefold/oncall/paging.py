"""Pages on their way. Each is marked before it is sent and its answer written after; one whose sender died is sent again only if that
does no harm, otherwise it counts as not delivered, somebody else is paged, and a person may send it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ninefold.ground.clock import SECOND, iso
from ninefold.ground.errors import Conflict, NinefoldError, NotFound, OutcomeUnknown, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.oncall.escalation import ADMINISTRATORS, Escalations, reached_nobody, tell, waits
from ninefold.oncall.plans import Contact, Person
from ninefold.oncall.reach import Call, call_of
from ninefold.oncall.roster import Roster
from ninefold.plugin import Connector
from ninefold.store.records.base import Audit, Records
from ninefold.store.records.incidents import Incident, incident_key
from ninefold.store.records.oncall import CANCELLED, DELIVERED, DUE, FAILED, RUNNING, SENDING, UNKNOWN, Escalation, Page

TIMEOUT_S = 30.0
_LEASE = 45 * SECOND
"""Longer than any answer is waited for: whoever sent a page whose lease is over is gone."""
_AGAIN_S = (5, 20)
_AT_ONCE = 20
_log = get("oncall")


@dataclass(frozen=True, slots=True)
class Job:
    """A marked page and what to call for it; a fault in place of the call when that cannot be worked out."""

    page: int
    attempt: int
    call: Call | None
    fault: str = ""


class Paging:
    """Sends pages. All but `send` block.

    Args:
        records: the database.
        connectors: by name.
        escalations: told when nobody was reached.
        mask: takes secrets out of texts.
        url: address of the console, "" if pages shall name none.
        meter: counts pages by status.
        clock: the time in ns.
    """

    def __init__(
        self,
        records: Records,
        connectors: Mapping[str, Connector],
        escalations: Escalations,
        mask: Callable[[Any], Any],
        url: str,
        meter: Meter,
        clock: Callable[[], int],
    ) -> None:
        self._records, self._connectors, self._escalations = records, connectors, escalations
        self._mask, self._url, self._clock = mask, url.rstrip("/"), clock
        self._sent = meter.counter("ninefold_oncall_pages_total", "Pages, by what became of them.")

    def claim(self) -> list[Job]:
        """Mark the pages that are due; from here until its answer is written nobody knows whether one was delivered."""
        with self._records.reading() as session:
            if session.scalar(self._ready().limit(1)) is None:
                return []
        jobs = []
        with self._records.session() as session:
            roster, at = Roster(session), self._clock()
            for page in session.scalars(self._ready().order_by(Page.due, Page.id).limit(_AT_ONCE)):
                if self._idle(session, page, at):
                    continue
                page.status, page.attempts, page.sent, page.lease_until = SENDING, page.attempts + 1, page.sent or at, at + _LEASE
                jobs.append(self._job(session, roster, page))
        return jobs

    def lapsed(self) -> int:
        """Take up pages whose sender died; returns how many."""
        gone = select(Page).where(Page.status == SENDING, Page.lease_until < self._clock())
        with self._records.reading() as session:
            if session.scalar(gone.limit(1)) is None:
                return 0
        with self._records.session() as session:
            roster, pages = Roster(session), list(session.scalars(gone))
            for page in pages:
                job = self._job(session, roster, page)
                if job.call is not None and job.call.repeatable:
                    page.status, page.due = DUE, self._clock()
                else:
                    self._close(session, page, UNKNOWN, "Ninefold ended before the answer came; it may have been delivered")
            return len(pages)

    async def send(self, job: Job) -> None:
        """Send one marked page and write down what became of it."""
        if job.call is None:
            await asyncio.to_thread(self._settle, job, FAILED, job.fault)
            return
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await job.call.action.call(job.call.connector, job.call.ask)
        except (OutcomeUnknown, TimeoutError) as error:
            status, said = UNKNOWN, str(error) or f"no answer within {TIMEOUT_S:g} s; it may have been delivered"
        except (Unavailable, Conflict) as error:
            status, said = DUE, str(error)
        except Refused as error:
            status, said = UNKNOWN if error.carried_out else FAILED, str(error)
        except NinefoldError as error:
            status, said = FAILED, str(error)
        except Exception as error:  # noqa: BLE001 - a connector is a plug-in: its defect fails the page, not the paging
            _log.warning("the connector of page %d has a defect", job.page, exc_info=error)
            status, said = UNKNOWN, f"the connector failed: {type(error).__name__}: {error}"
        else:
            status, said = DELIVERED, ""
        await asyncio.to_thread(self._settle, job, status, said)

    def test(self, person: str, contact: str, actor: str) -> list[int]:
        """Page a person as a test, by one contact method or ("") all; returns the pages.

        Raises:
            NotFound: the person has no such contact method.
        """
        with self._records.session() as session:
            known = Roster(session).all(Person).get(person, Person())
            contacts = [each for each in known.contacts if contact in ("", each.name)]
            if not contacts:
                raise NotFound(f"{person} has no contact method {contact!r}" if contact else f"{person} has no contact method yet")
            pages = [
                Page(person=person, contact=each.name, uses=each.uses, reason=f"test by {actor}", due=self._clock()) for each in contacts
            ]
            session.add_all(pages)
            session.add(Audit(actor=actor, action="test page", target=person, detail={"contacts": [each.name for each in contacts]}))
            session.flush()
            return [page.id for page in pages]

    def again(self, number: int, actor: str) -> None:
        """Send a page again that failed, or whose outcome is unknown.

        Raises:
            NotFound: there is no such page.
            Conflict: it is on its way or was delivered, or its incident does not wait for anybody any more.
        """
        with self._records.session() as session:
            page = session.get(Page, number)
            if page is None:
                raise NotFound(f"there is no page {number}")
            if page.status not in (FAILED, UNKNOWN) or not page.uses:
                raise Conflict(f"page {number} is {page.status} and is not sent again")
            incident = session.get(Incident, page.incident) if page.incident else None
            if incident is not None and not waits(incident):
                raise Conflict(f"{incident_key(incident.id)} waits for nobody any more")
            page.status, page.due, page.attempts, page.sent = DUE, self._clock(), 0, None
            page.error, page.reason = "", f"sent again by {actor}"
            session.add(Audit(actor=actor, action="page again", target=str(number), detail={"person": page.person, "uses": page.uses}))

    def _ready(self) -> Any:
        return select(Page).where(Page.status == DUE, Page.due <= self._clock())

    def _idle(self, session: Session, page: Page, at: int) -> bool:
        """Whether a page need not be sent any more: somebody was faster."""
        if page.escalation is None or page.person == ADMINISTRATORS:
            return False
        incident, escalation = session.get(Incident, page.incident), session.get(Escalation, page.escalation)
        if incident is not None and waits(incident) and escalation is not None and escalation.status in (RUNNING, "unanswered"):
            return False
        page.status, page.finished, page.error = CANCELLED, at, "the incident waits for nobody any more"
        return True

    def _job(self, session: Session, roster: Roster, page: Page) -> Job:
        try:
            return Job(page.id, page.attempts, call_of(self._contact(roster, page), self._connectors, self._words(session, page)))
        except NinefoldError as error:
            return Job(page.id, page.attempts, None, str(error))

    def _contact(self, roster: Roster, page: Page) -> Contact:
        if page.person == ADMINISTRATORS:
            return Contact(name=page.contact, uses=page.uses)
        for contact in roster.all(Person).get(page.person, Person()).contacts:
            if contact.name == page.contact and contact.uses == page.uses:
                return contact
        raise Refused(f"{page.person} is no longer reached by {page.contact} ({page.uses})")

    def _words(self, session: Session, page: Page) -> dict[str, str]:
        incident = session.get(Incident, page.incident) if page.incident else None
        if incident is None:
            title, body = "Test page of Ninefold", f"{page.reason}: this is how you are paged. Nothing needs to be done."
            return {"title": title, "body": body, "person": page.person, "severity": "info", "url": self._url}
        key = incident_key(incident.id)
        url = f"{self._url}/incidents/{key}" if self._url else ""
        cause = str((incident.cause or {}).get("summary", ""))
        alerts = f"{incident.alerts} alert{'s' if incident.alerts != 1 else ''}"
        lines = [
            incident.title,
            f"{incident.severity} on {incident.entity or 'an unknown entity'}, {alerts} since {iso(incident.opened)}",
            f"Probable cause: {cause}" if cause else "",
            f"You are paged: {page.reason}." if page.person != ADMINISTRATORS else f"{page.reason}. Somebody must take it.",
            f"Acknowledge: {url}" if url else f"Acknowledge {key} in Ninefold",
        ]
        return {
            "title": f"[{incident.severity}] {key}: {incident.title}"[:200], "body": "\n".join(filter(None, lines)), "incident": key,
            "severity": incident.severity, "entity": incident.entity, "person": page.person, "url": url,
        }  # fmt: skip

    def _settle(self, job: Job, status: str, said: str) -> None:
        with self._records.session() as session:
            page = session.get_one(Page, job.page)
            if page.status != SENDING or page.attempts != job.attempt:
                return  # its lease was over, and somebody else has taken it up
            if status == DUE:
                if job.attempt <= len(_AGAIN_S):
                    page.status, page.error = DUE, self._mask(said)
                    page.due = self._clock() + _AGAIN_S[job.attempt - 1] * SECOND
                    return
                status = FAILED
            self._close(session, page, status, said)

    def _close(self, session: Session, page: Page, status: str, said: str) -> None:
        at = self._clock()
        page.status, page.finished, page.error = status, at, self._mask(said)
        self._sent.add(status=status)
        incident = session.get(Incident, page.incident) if page.incident else None
        how = f"{page.person} by {page.contact} ({page.reason})"
        title = {DELIVERED: f"Paged {how}", FAILED: f"Could not page {how}: {page.error}"}.get(
            status, f"Paged {how}, outcome unknown: {page.error}"
        )
        tell(
            session, incident, "paged" if status == DELIVERED else status, title, at, person=page.person, uses=page.uses,
            page=str(page.id), severity="info" if status == DELIVERED else "warning",
        )  # fmt: skip
        if status == DELIVERED or page.escalation is None or page.person == ADMINISTRATORS or incident is None:
            return
        # Another way to the same person need not wait any more.
        same = (Page.escalation == page.escalation, Page.round == page.round, Page.step == page.step, Page.person == page.person)
        session.execute(update(Page).where(*same, Page.status == DUE, Page.due > at).values(due=at))
        escalation = session.get(Escalation, page.escalation)
        if escalation is None or escalation.status != RUNNING or not reached_nobody(session, page):
            return
        self._escalations.nobody(
            session, escalation, incident, page.step, f"None of step {page.step + 1} of {escalation.policy} was reached"
        )
        current = page.round == escalation.round and escalation.step == page.step + 1
        if current and escalation.step < len(escalation.rules["steps"]):
            escalation.due = min(escalation.due, at)
