"""From a change of an incident to the people who are paged about it, step after step, until somebody acknowledges.

The change feed is followed from a position that is committed in the transaction of the escalations it led to. What an incident needs is
judged by how it stands, not by what the change says, so a change that is read twice, or late, does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from ninefold.ground.clock import SECOND, iso
from ninefold.ground.log import get
from ninefold.oncall.plans import Person, Policy, Step
from ninefold.oncall.roster import Roster
from ninefold.store.records.base import Outbox, Position, Records
from ninefold.store.records.incidents import ACKNOWLEDGED, OPEN, RESOLVED, Incident, Ledger, incident_key, incident_number
from ninefold.store.records.oncall import CANCELLED, DELIVERED, DUE, FAILED, RUNNING, SENDING, Escalation, Page

READER = "oncall"
ADMINISTRATORS = "administrators"
_ROWS = 500
_STALE = 86_400 * SECOND
"""An incident whose newest event is this much older than its opening tells of the past: nobody is woken for it."""
_BEGINS = frozenset(("opened", "reopened"))
_log = get("oncall")


class Escalations:
    """Decides who is to be paged and when; what it writes, `Paging` sends. Its methods block.

    Args:
        records: the database.
        fallback: connectors of kind notify that are told when nobody can be paged.
        clock: the time in ns.
    """

    def __init__(self, records: Records, fallback: Sequence[str], clock: Callable[[], int]) -> None:
        self._records, self._fallback, self._clock = records, fallback, clock
        self._after = self._committed = 0

    def open(self) -> None:
        """Read the position; the first time ever it is the feed's end, for nobody is paged about the past."""
        with self._records.session() as session:
            position = session.get(Position, READER)
            if position is None:
                position = Position(reader=READER, position=session.scalar(select(func.max(Outbox.id))) or 0)
                session.add(position)
            self._after = self._committed = position.position

    def keep(self) -> None:
        """Write down the position if it has moved."""
        if self._after > self._committed:
            with self._records.session() as session:
                session.merge(Position(reader=READER, position=self._after))
            self._committed = self._after

    def follow(self) -> int:
        """Judge the incidents that changed; returns how many changes were read."""
        with self._records.reading() as session:
            wanted = select(Outbox.id, Outbox.topic, Outbox.kind, Outbox.key).where(Outbox.id > self._after)
            changes = session.execute(wanted.order_by(Outbox.id).limit(_ROWS)).all()
        if not changes:
            return 0
        last = changes[-1].id
        kinds: dict[int, set[str]] = {}
        for change in changes:
            if change.topic == "incident":
                kinds.setdefault(incident_number(change.key), set()).add(change.kind)
        if kinds:
            with self._records.session() as session:
                kept = session.get(Position, READER)
                if kept is None or kept.position < last:  # else another process was here first
                    roster = Roster(session)
                    for number, said in kinds.items():
                        self._judge(session, roster, number, said)
                    session.merge(Position(reader=READER, position=last))
            self._committed = last
        self._after = last
        return len(changes)

    def advance(self) -> int:
        """Take the steps that are due; returns how many."""
        with self._records.reading() as session:
            due = select(Escalation.id).where(Escalation.status == RUNNING, Escalation.due <= self._clock())
            numbers = session.scalars(due.order_by(Escalation.due).limit(_ROWS)).all()
        for number in numbers:
            with self._records.session() as session:
                escalation = session.get_one(Escalation, number)
                if escalation.status == RUNNING and escalation.due <= self._clock():
                    self._step(session, escalation)
        return len(numbers)

    def _judge(self, session: Session, roster: Roster, number: int, said: Collection[str]) -> None:
        incident = session.get(Incident, number)
        if incident is None:
            return
        running = session.scalars(select(Escalation).where(Escalation.incident == number, Escalation.status == RUNNING)).first()
        if not waits(incident):
            if running is not None:
                end(session, running, incident, self._clock())
            return
        if running is not None and "reopened" in said:
            end(session, running, incident, self._clock(), "reopened")
            running = None
        fresh = bool(_BEGINS & set(said))
        if running is None and (fresh or session.scalar(select(Escalation.id).where(Escalation.incident == number)) is None):
            self._begin(session, roster, incident, fresh)

    def _begin(self, session: Session, roster: Roster, incident: Incident, fresh: bool) -> None:
        at = self._clock()
        teams = roster.teams_of(incident)
        if teams and not incident.teams:
            incident.teams = teams
            _decided(session, incident, at, f"it belongs to {', '.join(teams)}, whose conditions it meets")
        found = roster.policy_of(incident)
        if found is None:
            if roster.all(Policy) and fresh:
                _decided(session, incident, at, "nobody is paged: no escalation policy matches it")
            return
        name, policy = found
        if incident.opened - incident.last_event > _STALE:
            _decided(session, incident, at, f"nobody is paged: its newest event is of {iso(incident.last_event)}, more than a day before")
            return
        _decided(session, incident, at, f"escalation policy {name} is followed: it is the first that matches", policy=name)
        rules = policy.model_dump(mode="json")
        due = at + policy.steps[0].after_s * SECOND
        session.add(Escalation(incident=incident.id, policy=name, rules=rules, due=due, started=at))

    def _step(self, session: Session, escalation: Escalation) -> None:
        """Take the step that is due, or see what comes after the last one."""
        incident, at = session.get(Incident, escalation.incident), self._clock()
        if incident is None or not waits(incident):
            end(session, escalation, incident, at)
            return
        policy = Policy.model_validate(escalation.rules)
        if escalation.step >= len(policy.steps):
            if escalation.round >= policy.repeat:
                self._give_up(session, escalation, incident)
                return
            escalation.round, escalation.step = escalation.round + 1, 0
        step, number = policy.steps[escalation.step], escalation.step
        escalation.step = number + 1
        rest = policy.steps[number + 1 :]
        escalation.due = at + (rest[0].after_s if rest else policy.wait_s) * SECOND
        if not self._page(session, escalation, incident, step, number) and rest:
            escalation.due = at

    def _page(self, session: Session, escalation: Escalation, incident: Incident, step: Step, number: int) -> bool:
        """Write down whom a step pages; False when that is nobody."""
        roster, at = Roster(session), self._clock()
        persons, reached = roster.all(Person), False
        meant = roster.meant(step.targets, at)
        for person, reason in meant.items():
            contacts = persons[person].contacts if person in persons else ()
            for contact in contacts:
                reached = True
                session.add(
                    Page(escalation=escalation.id, incident=incident.id, round=escalation.round, step=number, person=person,
                         contact=contact.name, uses=contact.uses, reason=reason, due=at + contact.after_s * SECOND)
                )  # fmt: skip
            if not contacts:
                page = Page(escalation=escalation.id, incident=incident.id, round=escalation.round, step=number, person=person,
                            reason=reason, status=FAILED, due=at, finished=at, error="no contact method is known")  # fmt: skip
                session.add(page)
                title = f"{person} ({reason}) could not be paged: no contact method is known"
                tell(session, incident, "failed", title, at, person=person, severity="warning")
        if not reached:
            wanted = ", ".join(f"{target.kind} {target.name}" for target in step.targets)
            self.nobody(
                session, escalation, incident, number, f"Nobody can be paged for step {number + 1} of {escalation.policy} ({wanted})"
            )
        return reached

    def nobody(self, session: Session, escalation: Escalation, incident: Incident, number: int, title: str) -> None:
        """Say loudly that nobody was reached: in the incident's story, in the log, and to the administrators."""
        at = self._clock()
        _log.error("%s: %s", incident_key(incident.id), title)
        tell(session, incident, "nobody", title, at, severity="critical")
        for name in self._fallback:
            known = select(Page.id).where(
                Page.escalation == escalation.id, Page.round == escalation.round, Page.step == number, Page.contact == name
            )
            if session.scalar(known) is None:
                session.add(
                    Page(escalation=escalation.id, incident=incident.id, round=escalation.round, step=number, person=ADMINISTRATORS,
                         contact=name, uses=f"{name}.send", reason=title, due=at)
                )  # fmt: skip

    def _give_up(self, session: Session, escalation: Escalation, incident: Incident) -> None:
        escalation.status, escalation.ended = "unanswered", self._clock()
        title = f"Nobody acknowledged: all steps of {escalation.policy} were taken {escalation.round + 1}×"
        self.nobody(session, escalation, incident, escalation.step, title)


def waits(incident: Incident) -> bool:
    """Whether an incident waits for somebody to acknowledge it."""
    return incident.status == OPEN and not incident.pending and incident.merged_into is None


def end(session: Session, escalation: Escalation, incident: Incident | None, at: int, why: str = "") -> None:
    """End an escalation, and with it the pages not sent yet; `why` by how the incident stands unless given."""
    if not why:
        merged = incident is None or incident.merged_into is not None
        why = "merged" if merged else RESOLVED if incident and incident.status == RESOLVED else ACKNOWLEDGED
    escalation.status, escalation.ended = why, at
    waiting = (Page.escalation == escalation.id, Page.status == DUE, Page.person != ADMINISTRATORS)
    session.execute(update(Page).where(*waiting).values(status=CANCELLED, finished=at, error=f"the incident was {why}"))


def reached_nobody(session: Session, page: Page) -> bool:
    """Whether a page that just failed was the last of its step, and none of the others was delivered."""
    same = (Page.escalation == page.escalation, Page.round == page.round, Page.step == page.step, Page.person != ADMINISTRATORS)
    return session.scalar(select(Page.id).where(*same, Page.status.in_((DUE, SENDING, DELIVERED))).limit(1)) is None


def tell(session: Session, incident: Incident | None, kind: str, title: str, at: int, **more: str) -> None:
    """Add the outbox row by which others hear of it; it comes back through the front door as an event of the incident."""
    key = incident_key(incident.id) if incident is not None else ""
    about = {"incident": key, "entity": incident.entity if incident is not None else "", "title": title}
    session.add(Outbox(time=at, topic="page", kind=kind, key=key, data=about | dict(more)))


def _decided(session: Session, incident: Incident, at: int, text: str, **detail: object) -> None:
    row: Mapping[str, object] = {**detail}
    session.add(Ledger(incident=incident.id, event_id="", time=at, step="page", text=text, detail=dict(row)))
