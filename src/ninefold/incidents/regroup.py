"""Merging incidents and splitting alerts out of one, by persons: carried out in the order of the journal, and taken back exactly.

A deed comes as an event of kind ``regrouping`` through the front door, so that a replay of the journal gives the same incidents. Every row
that changes its incident is noted with where it was. What the correlator thinks later never undoes a deed: alerts that a person placed
go there as long as that incident is open, and those split out of one do not return to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, insert, literal, select, update
from sqlalchemy.orm import Session

from ninefold.analytics.alerts.correlate import Correlator
from ninefold.analytics.alerts.groups import rank
from ninefold.ground.errors import Conflict, NotFound, Refused
from ninefold.incidents import folding
from ninefold.incidents.intake import Row
from ninefold.incidents.ledger import Pages
from ninefold.model.signal import Batch
from ninefold.store.records.base import Audit
from ninefold.store.records.incidents import (
    ACKNOWLEDGED,
    MITIGATED,
    OPEN,
    RESOLVED,
    AlertState,
    Incident,
    IncidentEvent,
    Ledger,
    Ticket,
    Timeline,
    incident_key,
    incident_number,
)  # fmt: skip
from ninefold.store.records.regrouping import Regrouped, Regrouping
from ninefold.store.records.workflows import Approval, Run

KIND = "regrouping"
_NUMBER = re.compile(r"[0-9]{1,18}")
FACTS = (
    "title", "status", "pending", "severity", "entity", "component", "opened", "first_event", "last_event", "acknowledged", "resolved",
    "held", "owner", "mitigated", "alerts", "entities", "rules", "verdict", "reason", "confidence", "cause", "analysis", "merged_into",
)  # fmt: skip
"""What a regrouping can change of an incident, and taking it back restores."""
_AUDITED = ("title", "status", "severity", "alerts", "merged_into")
_DERIVED = ("alerts", "first_event", "last_event")
_PLACES: tuple[tuple[str, Any], ...] = (("event", IncidentEvent), ("line", Timeline), ("decision", Ledger))
_MARK = case((IncidentEvent.fingerprint != "", IncidentEvent.fingerprint), else_=IncidentEvent.event_id)
_ALONG: tuple[Any, ...] = (Run, Approval)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants: `deed` is merge, split or undo.

    Attributes:
        incident: the incident that stays (merge), or that alerts are split out of.
        others: the incidents that become part of it.
        alerts: fingerprints of the alerts that are split out.
        number: the regrouping that is taken back.
    """

    deed: str
    actor: str
    incident: str = ""
    others: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    number: int = 0
    note: str = ""

    def attributes(self) -> dict[str, str]:
        """As the attributes of its event."""
        return {
            "deed": self.deed, "actor": self.actor, "incident": self.incident, "others": " ".join(self.others),
            "alerts": " ".join(self.alerts), "number": str(self.number), "note": self.note,
        }  # fmt: skip

    @classmethod
    def of(cls, said: dict[str, str]) -> Wish:
        """From the attributes of its event.

        Raises:
            NotFound: what should be a number is none.
        """
        others, alerts = (tuple(said.get(name, "").split()) for name in ("others", "alerts"))
        number, note = said.get("number") or "0", said.get("note", "")
        if not _NUMBER.fullmatch(number):
            raise NotFound(f"{number!r} is not the number of a merge or split")
        return cls(said.get("deed", ""), said.get("actor", ""), said.get("incident", ""), others, alerts, int(number), note)


def pieces(batches: Sequence[Batch], position: int) -> Iterator[tuple[Sequence[Batch], int]]:
    """Batches cut before and behind those that regroup, each with the position it reaches: however the journal is read, a person's deed
    falls between the same alerts."""
    start = 0
    for i, batch in enumerate(batches):
        if i and batch.position > batches[i - 1].position and (_regroups(batch) or _regroups(batches[i - 1])):
            yield batches[start:i], batches[i - 1].position
            start = i
    yield batches[start:], position


def _regroups(batch: Batch) -> bool:
    return batch.signal == "event" and batch.source.startswith("ninefold") and KIND in batch.rows.column("kind").to_pylist()


def take(session: Session, correlator: Correlator, rows: Iterable[Row], position: int, pages: Pages) -> None:
    """Carry out the deeds among events; one that cannot be is kept with the reason."""
    for row in rows:
        if row.kind != KIND or not row.ours:
            continue
        if session.scalar(select(Regrouping.id).where(Regrouping.event_id == row.id)) is not None:
            continue
        wish = Wish(row.attributes.get("deed", ""), row.attributes.get("actor", ""), note=row.attributes.get("note", ""))
        try:
            wish = Wish.of(row.attributes)
            check(session, wish)
        except (Conflict, NotFound, Refused) as error:
            kept = Regrouping(event_id=row.id, time=row.time, deed=wish.deed, actor=wish.actor, note=wish.note, problem=str(error))
            session.add(kept)
            continue
        # What is gathered so far must be in the tables before rows change their incident.
        pages.write(session)
        _Deed(session, correlator, row, wish, position, pages).do()
    session.flush()


def check(session: Session, wish: Wish) -> None:
    """Whether a deed is possible now.

    Raises:
        NotFound: an incident, an alert or a regrouping is not there.
        Conflict: something happened since that must be decided on first.
        Refused: it makes no sense.
    """
    if wish.deed == "undo":
        _check_undo(session, wish.number)
        return
    stays = _whole(session, wish.incident)
    if wish.deed == "merge":
        others = [_whole(session, key) for key in wish.others]
        if not others or stays.id in {other.id for other in others} or len({other.id for other in others}) < len(others):
            raise Refused("a merge needs two or more different incidents; name each once")
        if stays.status == RESOLVED and any(other.status != RESOLVED for other in others):
            raise Conflict(f"{incident_key(stays.id)} is resolved and the others are not; reopen it first, or merge into one that is open")
    elif wish.deed == "split":
        marks = set(session.scalars(select(_MARK).where(_of(stays.id)).distinct()))
        unknown = [mark for mark in wish.alerts if mark not in marks]
        if unknown:
            raise NotFound(f"the alert {unknown[0]} is not in {incident_key(stays.id)}; its events name the fingerprints")
        if not wish.alerts or marks <= set(wish.alerts):
            raise Refused(f"{incident_key(stays.id)} must keep some of its alerts and give up others; name those that do not belong to it")
    else:
        raise Refused(f"{wish.deed!r} is not known; use merge, split or undo")


def _check_undo(session: Session, number: int) -> None:
    found = session.get(Regrouping, number)
    if found is None or found.problem or found.deed == "undo":
        raise NotFound(f"there is no merge or split {number}; GET /regroupings lists them")
    if found.undone:
        raise Conflict(f"{found.deed} {number} was taken back already")
    mine = {found.into, *found.incidents}
    for later in session.scalars(_in_force().where(Regrouping.id > number)):
        if mine & {later.into, *later.incidents}:
            raise Conflict(f"{later.deed} {later.id} came later and is about the same incidents; take that back first")


def _whole(session: Session, key: str) -> Incident:
    incident = session.get(Incident, incident_number(key))
    if incident is None:
        raise NotFound(f"there is no incident {key!r}")
    if incident.merged_into is not None:
        raise Conflict(f"{key} is part of {incident_key(incident.merged_into)} already; name that one")
    return incident


def _in_force() -> Any:
    return select(Regrouping).where(Regrouping.problem == "", Regrouping.undone == "", Regrouping.deed != "undo").order_by(Regrouping.id)


def _of(number: int) -> ColumnElement[bool]:
    return (IncidentEvent.incident == number) & (IncidentEvent.role == "alert")


class _Deed:
    """One deed while it is carried out."""

    def __init__(self, session: Session, correlator: Correlator, row: Row, wish: Wish, position: int, pages: Pages) -> None:
        self._session, self._correlator, self._row, self._wish, self._pages = session, correlator, row, wish, pages
        self._position = position

    def do(self) -> None:
        """Change the records, then what the correlator knows."""
        deeds: dict[str, Callable[[], Iterable[Incident]]] = {"merge": self._merge, "split": self._split, "undo": self._undo}
        touched = list(deeds[self._wish.deed]())
        for incident in touched:
            incident.position = self._position
            incident.due = incident.merged_into is None
        self._session.flush()
        for incident in touched:
            self._correlator.close(incident.id, learn=False)
            self._correlator.next_number = max(self._correlator.next_number, incident.id + 1)
        for incident in touched:
            if incident.status != RESOLVED:
                folding.readopt(self._session, self._correlator, incident)
        remember(self._session, self._correlator)

    def _merge(self) -> list[Incident]:
        into = self._session.get_one(Incident, incident_number(self._wish.incident))
        others = [self._session.get_one(Incident, incident_number(key)) for key in self._wish.others]
        kept = self._begin(into, others)
        along = kept.before["along"]
        for gone in others:
            self._note(kept, gone.id, into.id)
            self._carry(kept, gone.id)
            for name, number in self._follow(gone.id, into.id):
                along.append([name, number, gone.id])
            if gone.status in (ACKNOWLEDGED, MITIGATED) and into.status == OPEN:
                into.status, into.acknowledged, into.owner = ACKNOWLEDGED, gone.acknowledged, into.owner or gone.owner
            into.pending = into.pending and gone.pending
            gone.status, gone.merged_into, gone.resolved, gone.alerts = RESOLVED, into.id, gone.resolved or gone.last_event, 0
        derive(self._session, into)
        keys = ", ".join(incident_key(gone.id) for gone in others)
        title = f"{keys} merged into {incident_key(into.id)} by {self._wish.actor}"
        self._end(kept, [into, *others], "merged", title)
        for gone in others:
            if not gone.pending:
                self._pages.changed("merged", gone, merged_into=incident_key(into.id), actor=self._wish.actor)
        self._pages.changed("updated", into, actor=self._wish.actor)
        return [into, *others]

    def _split(self) -> list[Incident]:
        source = self._session.get_one(Incident, incident_number(self._wish.incident))
        number = max(self._correlator.next_number, (self._session.scalar(select(func.max(Incident.id))) or 0) + 1)
        facts = {name: getattr(source, name) for name in ("status", "component", "opened", "first_event", "last_event", "resolved")}
        new = Incident(id=number, title="", pending=False, **facts)
        new.status = RESOLVED if source.status == RESOLVED else OPEN
        self._session.add(new)
        kept = self._begin(new, [source])
        self._note(kept, source.id, new.id, self._wish.alerts)
        self._carry(kept, source.id, self._wish.alerts)
        for incident in (source, new):
            derive(self._session, incident)
        some = f"{len(self._wish.alerts)} alert{'s' if len(self._wish.alerts) > 1 else ''}"
        title = f"{some} split out of {incident_key(source.id)} as {incident_key(number)} by {self._wish.actor}"
        self._end(kept, [source, new], "split", title)
        self._pages.changed("opened", new, actor=self._wish.actor, split_from=incident_key(source.id))
        self._pages.changed("updated", source, actor=self._wish.actor)
        return [source, new]

    def _undo(self) -> list[Incident]:
        kept = self._session.get_one(Regrouping, self._wish.number)
        kept.undone = self._wish.actor
        into = self._session.get_one(Incident, kept.into)
        others = [self._session.get_one(Incident, number) for number in kept.incidents]
        self._session.add(Regrouping(
            event_id=self._row.id, time=self._row.time, deed="undo", actor=self._wish.actor, note=self._wish.note,
            into=kept.into, incidents=kept.incidents, before={"number": kept.id},
        ))  # fmt: skip
        self._back(kept, others)
        for name, number, origin in kept.before.get("along", ()):
            self._lead(name, number, origin)
        for incident in [into, *others]:
            self._restore(incident, kept)
        if kept.deed == "split":
            into.status, into.merged_into, into.resolved, into.alerts = RESOLVED, others[0].id, into.resolved or into.last_event, 0
        now_is = {str(incident.id): _facts(incident) for incident in (into, *others)}
        self._audit(kept, kept.after, now_is)
        title = f"{self._wish.actor} took back: {kept.before['title']}"
        for incident in [into, *others]:
            self._pages.line(incident.id, self._row.time, "regrouped", title, body=self._wish.note, actor=self._wish.actor)
            self._pages.decided(incident.id, "", self._row.time, "correlate", title)
            kind = "merged" if incident.merged_into else "updated" if incident is into else "reopened"
            if not incident.pending and (kind != "reopened" or (kept.deed == "merge" and incident.status != RESOLVED)):
                self._pages.changed(kind, incident, actor=self._wish.actor)
        return [into, *others]

    def _begin(self, into: Incident, others: Sequence[Incident]) -> Regrouping:
        self._session.flush()
        before: dict[str, Any] = {str(incident.id): _facts(incident) for incident in (into, *others)}
        kept = Regrouping(
            event_id=self._row.id, time=self._row.time, deed=self._wish.deed, actor=self._wish.actor, note=self._wish.note, into=into.id,
            incidents=[other.id for other in others], before=before | {"along": []},
            newest=self._session.scalar(select(func.max(IncidentEvent.id))) or 0,
        )  # fmt: skip
        self._session.add(kept)
        self._session.flush()
        return kept

    def _end(self, kept: Regrouping, incidents: Sequence[Incident], kind: str, title: str) -> None:
        kept.before = {**kept.before, "title": title}
        kept.after = {str(incident.id): _facts(incident) for incident in incidents}
        self._audit(kept, kept.before, kept.after)
        for incident in incidents:
            self._pages.line(incident.id, self._row.time, kind, title, body=self._wish.note, actor=self._wish.actor, event_id=self._row.id)

    def _audit(self, kept: Regrouping, before: dict[str, Any], after: dict[str, Any]) -> None:
        numbers = [kept.into, *kept.incidents]
        detail: dict[str, Any] = {
            word: {incident_key(number): {name: facts[str(number)][name] for name in _AUDITED} for number in numbers}
            for word, facts in (("before", before), ("after", after))
        }
        detail |= {"regrouping": kept.id, "note": self._wish.note}
        self._session.add(
            Audit(
                time=self._row.time,
                actor=self._wish.actor,
                action=f"incident {self._wish.deed}",
                target=incident_key(kept.into),
                detail=detail,
            )
        )

    def _note(self, kept: Regrouping, old: int, new: int, only: Sequence[str] = ()) -> None:
        """A decision for each alert that changes its incident."""
        asked = select(AlertState.fingerprint, AlertState.last_event).where(AlertState.incident == old)
        found = [pair for pair in self._session.execute(asked) if not only or pair[0] in set(only)]
        kept.alerts += len(found)
        reason = f": {self._wish.note}" if self._wish.note else ""
        text = f"moved from {incident_key(old)} to {incident_key(new)} by {self._wish.actor}{reason}"
        for mark, event in found:
            self._pages.decided(new, event, self._row.time, "correlate", text, fingerprint=mark, regrouping=kept.id)

    def _carry(self, kept: Regrouping, old: int, only: Sequence[str] = ()) -> None:
        """Carry rows of an incident to `kept.into`, all of them or those of some alerts, and note where they were."""
        some = (_of(old), _MARK.in_(only))
        events = select(IncidentEvent.event_id).where(*some)
        states = [AlertState.incident == old, *([AlertState.fingerprint.in_(only)] if only else [])]
        source = select(literal(kept.id), literal("alert"), literal(0), AlertState.fingerprint, literal(old)).where(*states)
        columns = ["regrouping", "what", "row", "mark", "origin"]
        self._session.execute(insert(Regrouped).from_select(columns, source))
        self._session.execute(update(AlertState).where(*states).values(incident=kept.into).execution_options(synchronize_session=False))
        for what, table in reversed(_PLACES):
            mine: Sequence[Any] = (table.incident == old, *([table.event_id.in_(events)] if only else []))
            if only and table is IncidentEvent:
                mine = some
            source = select(literal(kept.id), literal(what), table.id, literal(""), literal(old)).where(*mine)
            self._session.execute(insert(Regrouped).from_select(columns, source))
            self._session.execute(update(table).where(*mine).values(incident=kept.into).execution_options(synchronize_session=False))

    def _back(self, kept: Regrouping, others: Sequence[Incident]) -> None:
        """Carry everything back to where it was; what came since follows its alert."""
        quiet = {"synchronize_session": False}
        if kept.deed == "split":
            for table in (IncidentEvent, Timeline, Ledger, AlertState):
                moved = update(table).where(table.incident == kept.into)
                self._session.execute(moved.values(incident=others[0].id).execution_options(**quiet))
            return
        for other in others:
            mine = (Regrouped.regrouping == kept.id, Regrouped.origin == other.id)
            marks = select(Regrouped.mark).where(*mine, Regrouped.what == "alert")
            since = (_of(kept.into), IncidentEvent.id > kept.newest, _MARK.in_(marks))
            events = select(IncidentEvent.event_id).where(*since)
            for what, table in reversed(_PLACES):
                rows = select(Regrouped.row).where(*mine, Regrouped.what == what)
                new = since if table is IncidentEvent else (table.incident == kept.into, table.event_id.in_(events))
                for wanted in ((table.id.in_(rows),), new):
                    self._session.execute(update(table).where(*wanted).values(incident=other.id).execution_options(**quiet))
            states = update(AlertState).where(AlertState.incident == kept.into, AlertState.fingerprint.in_(marks))
            self._session.execute(states.values(incident=other.id).execution_options(**quiet))

    def _restore(self, incident: Incident, kept: Regrouping) -> None:
        """What nobody changed since is as it was before; what persons changed since stays."""
        before, after = kept.before[str(incident.id)], kept.after[str(incident.id)]
        for name in FACTS:
            if getattr(incident, name) == after[name]:
                setattr(incident, name, before[name])
        if incident.merged_into is None and tuple(_told(self._session, incident.id)) != tuple(before[name] for name in _DERIVED):
            derive(self._session, incident)

    def _follow(self, old: int, new: int) -> Iterator[tuple[str, Any]]:
        """Whoever works on the dissolved incident works on the other one now."""
        for ticket in self._session.scalars(select(Ticket).where(Ticket.incident == old)):
            ticket.incident = new
            yield "ticket", [ticket.system, ticket.id]
        for record in _ALONG:
            for row in self._session.scalars(select(record).where(record.incident == old)):
                row.incident = new
                yield record.__tablename__, row.id

    def _lead(self, name: str, number: Any, origin: int) -> None:
        record: Any = {"ticket": Ticket, **{record.__tablename__: record for record in _ALONG}}[name]
        row = self._session.get(record, tuple(number) if name == "ticket" else number)
        if row is not None:
            row.incident = origin


def _facts(incident: Incident) -> dict[str, Any]:
    return {name: getattr(incident, name) for name in FACTS}


def _told(session: Session, number: int) -> tuple[int, int, int]:
    fired = IncidentEvent.event["status"].as_string() != RESOLVED
    count, first = session.execute(select(func.count(), func.min(IncidentEvent.time)).where(_of(number), fired)).one()
    last = session.scalar(select(func.max(IncidentEvent.time)).where(_of(number)))
    return count, first or last or 0, last or 0


def derive(session: Session, incident: Incident) -> None:
    """Bring an incident in line with the alerts it has now; what persons said of it stays."""
    session.flush()
    alerts, first, last = _told(session, incident.id)
    if not alerts:
        return
    marks = select(_MARK).where(_of(incident.id))
    states = list(session.scalars(select(AlertState).where(AlertState.fingerprint.in_(marks)).order_by(AlertState.first)))
    incident.alerts, incident.first_event, incident.opened, incident.last_event = alerts, first, first, last
    if not states:  # long forgotten
        return
    incident.entities = len({state.entity for state in states})
    incident.rules = list(dict.fromkeys(f"{state.entity}|{state.rule}" for state in states))[: folding.RULES_KEPT]
    lead = min(states, key=lambda state: (rank(state.severity), state.first))
    incident.title, incident.entity = lead.title or lead.rule, states[0].entity
    if not incident.rated:
        incident.severity = lead.severity


def remember(session: Session, correlator: Correlator) -> None:
    """Tell the correlator which alerts persons placed in open incidents, and which they took out of one."""
    placed: dict[str, int] = {}
    barred: dict[str, set[int]] = {}
    asked = select(Regrouping.id, Regrouped.mark, Regrouped.origin, Regrouping.into, Regrouping.deed).join(
        Regrouped, Regrouping.id == Regrouped.regrouping
    )
    asked = asked.where(Regrouping.undone == "", Regrouped.what == "alert")
    found: set[tuple[Any, ...]] = set()
    for some in folding.chunks([group.number for group in correlator.groups()]):
        for place in (Regrouping.into, Regrouped.origin):
            found.update(tuple(entry) for entry in session.execute(asked.where(place.in_(some))))
    for _, mark, origin, into, deed in sorted(found):
        placed[mark] = into
        out = barred.setdefault(mark, set())
        out.discard(into)
        if deed == "split":
            out.add(origin)
    correlator.placed, correlator.barred = placed, {mark: numbers for mark, numbers in barred.items() if numbers}


def listed(session: Session, limit: int = 100, touching: Collection[int] = ()) -> list[Regrouping]:
    """Merges and splits, the newest first; `touching` some incidents, or all."""
    wanted = select(Regrouping).where(Regrouping.problem == "", Regrouping.deed != "undo").order_by(Regrouping.id.desc())
    if not touching:
        return list(session.scalars(wanted.limit(limit)))
    return [one for one in session.scalars(wanted) if set(touching) & {one.into, *one.incidents}][:limit]
