"""The life of incidents: opened and fed by alerts, explained, handled by people, resolved when their alerts have ended.

`Incidents` follows the journal's events. Each call of `consume` is one transaction of the records: incidents, alert states,
timeline, ledger, outbox and the reader's position change together or not at all, so a repeat after a crash changes nothing.
"""

from __future__ import annotations

import threading
import time as wall
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from ninefold.analytics.alerts.correlate import Correlator
from ninefold.config import AlertsConfig, CorrelationConfig
from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import Conflict, NinefoldError, NotFound, Refused
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.incidents import cause, folding, intake, regroup, tickets
from ninefold.incidents.handling import Deed, judge, outcome, standing
from ninefold.incidents.intake import Row
from ninefold.incidents.ledger import Pages
from ninefold.incidents.mutes import Mutes
from ninefold.incidents.states import States
from ninefold.incidents.teaching import Teaching
from ninefold.model.signal import Batch
from ninefold.model.topology import Topology
from ninefold.plugin import Store
from ninefold.store.records.base import Audit, Position, Records
from ninefold.store.records.incidents import (
    ACKNOWLEDGED,
    OPEN,
    RESOLVED,
    Change,
    Incident,
    Ticket,
    incident_key,
    incident_number,
)  # fmt: skip

READER = "incidents"
NO_RULES = AlertsConfig()
_log = get("incidents")
BEFORE_NS = 3600 * SECOND
"""How long before an incident a change can have caused it."""
_TRUTH_BEFORE, _TRUTH_AFTER = 300 * SECOND, 60 * SECOND
_SETTLED_NS = 90 * SECOND
_AGAIN_S = 10.0
_BORNE_OUT = 0.8
"""How sure the cause of a lone high alert must be for its incident to be shown."""


class Incidents:
    """Alerts and anomalies in, incidents with causes out. Thread-safe; one object per records database.

    Args:
        records: where incidents are kept.
        store: telemetry, for finding causes.
        config: how alerts are folded.
        meter: self-metrics.
        store_position: how far the telemetry store has come in the journal; causes are sought only behind it.
        alerts: rules that say when alerts count, and heartbeats.
    """

    def __init__(
        self, records: Records, store: Store, config: CorrelationConfig, meter: Meter,
        store_position: Callable[[], int] = lambda: 1 << 62, alerts: AlertsConfig = NO_RULES,
    ) -> None:  # fmt: skip
        self._records, self._store, self._config, self._store_position = records, store, config, store_position
        self._lock = threading.RLock()
        self._correlator: Correlator | None = None
        self.states = States(records, alerts)
        self.teaching = Teaching()
        self.mutes = Mutes(records, self.states.rules, alerts.change_windows)
        self._received = self._ticked = 0
        self._settled: dict[int, int] = {}
        self._analysed: dict[int, float] = {}
        self._alerts = meter.counter("ninefold_incidents_received_total", "Alert events, by what became of them.")
        self._explained = meter.histogram("ninefold_incidents_explain_seconds", "Time to find the cause of one incident.")

    def topology(self) -> Topology:
        """The topology as it is now (a copy)."""
        with self._lock:
            return Topology(self._ready().topology.relations.values())

    def consume(self, batches: Sequence[Batch], position: int) -> None:
        """Take in normalised event and relation batches that reach `position` in the journal; again is the same as once."""
        with self._lock:
            correlator = self._ready()
            try:
                with self._records.session() as session:
                    for piece, reached in regroup.pieces(batches, position):
                        self._take(session, correlator, piece, reached)
            except BaseException:
                self._forget()
                raise
            self._received = max([self._received, *(batch.received for batch in batches)])

    def tick(self, watermark: int) -> None:
        """Resolve what has ended, by event time: `watermark` (ns) says how far the telemetry has come."""
        with self._lock:
            # Straight after a consume there may be unread alerts in the journal, received later than those just read.
            if self._received:
                watermark, self._received = min(watermark, self._received), 0
            if watermark - self._ticked < SECOND:
                return
            self._ticked = watermark
            correlator = self._ready()
            finished = {group.number for group in correlator.finished(watermark)}
            quiet = [
                group.number
                for group in correlator.groups()
                if watermark - group.heard > _SETTLED_NS and self._settled.get(group.number) != group.heard
            ]
            if finished or quiet:
                self._close(correlator, finished, quiet)
            if self.mutes.due(watermark) or self.states.due(watermark):
                self._wake(correlator, watermark)

    def _wake(self, correlator: Correlator, at: int) -> None:
        """Take in what mutes hid until now, and what counts since now."""
        pages = Pages()
        try:
            with self._records.session() as session:
                reader = session.get(Position, READER)
                position = reader.position if reader else 0
                fallen = self.states.advance(session, at, correlator.patience, pages)
                self._take_alerts(session, correlator, fallen, position, pages)
                self._fold(session, correlator, self.mutes.release(session, at, pages), position, pages)
                self.states.keep(session, at)
                pages.write(session)
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        """What is known in memory is ahead of the records: read them again."""
        self._correlator = None
        self.mutes.forget()
        self.states.forget()
        self.teaching.forget()

    def _close(self, correlator: Correlator, finished: set[int], quiet: Sequence[int]) -> None:
        pages = Pages()
        with self._records.session() as session:
            for some in folding.chunks([*finished, *(n for n in quiet if n not in finished)]):
                for incident in session.scalars(select(Incident).where(Incident.id.in_(some))):
                    incident.due = True
                    if incident.id in finished:
                        self._end(session, incident, pages)
            pages.write(session)
        for number in quiet:
            group = correlator.group(number)
            if group is not None:
                self._settled[number] = group.heard
        for number in finished:
            correlator.close(number)
            self._settled.pop(number, None)
            self._analysed.pop(number, None)

    def _end(self, session: Session, incident: Incident, pages: Pages) -> None:
        incident.status, incident.resolved = RESOLVED, incident.last_event
        text = f"all alerts ended and nothing new came for {self._config.resolve_after_s:.0f} s"
        pages.decided(incident.id, "", incident.last_event, "correlate", f"resolved {incident_key(incident.id)}: {text}")
        if not incident.pending:
            pages.line(incident.id, incident.last_event, "resolved", f"Resolved: {text}", actor="ninefold")
            pages.changed("resolved", incident, **outcome(session, incident))

    def _ready(self) -> Correlator:
        if self._correlator is None:
            with self._records.reading() as session:
                self._correlator = folding.restore(session, self._config.idle_s, self._config.resolve_after_s)
                regroup.remember(session, self._correlator)
                self.teaching.log(session)
                self.teaching.steer(self._correlator)
        return self._correlator

    def _take(self, session: Session, correlator: Correlator, batches: Sequence[Batch], position: int) -> None:
        reader = session.get(Position, READER)
        done = reader.position if reader else 0
        if position and position <= done:
            return
        fresh = [batch for batch in batches if batch.position == 0 or batch.position > done]
        pages = Pages()
        folding.write_relations(session, self._relate(session, correlator, fresh, pages))
        told = intake.rows(fresh)
        seen = folding.known(session, list({row.id for row in told}))
        sifted = self.states.sift(session, told, seen, correlator.patience, pages)
        rows = intake.once(sifted.plain)
        for incident in folding.hear(session, correlator, [*(row for row in rows if row.id in seen), *sifted.again]):
            self._again(session, correlator, incident, pages)
        rows = [row for row in rows if row.id not in seen] + sifted.passed
        self.mutes.plan(session, told, pages)
        self._take_changes(session, correlator, [row for row in rows if row.kind in intake.CHANGES or row.kind == intake.TRUTH], pages)
        self._take_alerts(session, correlator, [row for row in rows if row.kind in intake.CORRELATED], position, pages)
        self.states.keep(session)
        self._take_own(session, [row for row in rows if row.kind not in intake.CORRELATED], pages)
        regroup.take(session, correlator, rows, position, pages)
        if self.teaching.take(session, rows):
            self.teaching.steer(correlator)
        pages.write(session)
        session.merge(Position(reader=READER, position=max(position, done)))

    def _again(self, session: Session, correlator: Correlator, incident: Incident, pages: Pages) -> None:
        """An incident that was given up after hours of silence is open again: one of its alerts is told as before."""
        incident.status, incident.resolved = OPEN, None
        folding.readopt(session, correlator, incident)
        text = "its alerts had not been told of for hours, and now one is told again"
        pages.decided(incident.id, "", now(), "correlate", f"reopened {incident_key(incident.id)}: {text}")
        if not incident.pending:
            pages.line(incident.id, now(), "reopened", f"Reopened: {text}", actor="ninefold")
            pages.changed("reopened", incident)

    def _relate(self, session: Session, correlator: Correlator, batches: Sequence[Batch], pages: Pages) -> list[Any]:
        relations = intake.relations(batches)
        before = {group.number: group.component for group in correlator.groups()} if relations else {}
        fresh = correlator.relate(relations)
        for group in correlator.groups() if fresh else ():
            if before[group.number] != group.component:
                text = f"the topology grew: its component is now {group.component}; open incidents there stay apart"
                pages.decided(group.number, "", group.last, "correlate", text)
                session.execute(update(Incident).where(Incident.id == group.number).values(component=group.component))
        return relations

    def _take_alerts(self, session: Session, correlator: Correlator, rows: Sequence[Row], position: int, pages: Pages) -> None:
        shown = self.mutes.hide(session, rows, correlator.holds, pages)
        if len(shown) < len(rows):
            self._alerts.add(len(rows) - len(shown), verdict="muted")
        self._fold(session, correlator, shown, position, pages)

    def _fold(self, session: Session, correlator: Correlator, rows: Sequence[Row], position: int, pages: Pages) -> None:
        if not rows:
            return
        outcome = correlator.feed(row.alert() for row in rows)
        by_id = {row.id: row for row in rows}
        verdicts: dict[str, int] = {}
        for decision in outcome.decisions:
            pages.correlated(decision)
            if decision.moved_from is not None:
                continue
            verdicts[decision.verdict] = verdicts.get(decision.verdict, 0) + 1
            row = by_id[decision.alert.id]
            if decision.group is not None:
                pages.event(decision.group.number, row, "alert")
                if decision.verdict != "duplicate":
                    pages.told(decision.group.number, row, "alert resolved" if decision.verdict == "resolved" else row.kind)
        folding.move(session, outcome.decisions)
        folding.write_alerts(session, by_id, outcome.decisions, correlator.patience)
        fresh = folding.reflect(session, outcome, self._config.min_alerts, position, pages, self.teaching.grade)
        for incident in fresh:
            self.teaching.told(incident, outcome.touched[incident.id], pages)
        folding.merge(session, outcome.merged, pages)
        if fresh:
            self._look_back(session, correlator, fresh, pages)
        for verdict, count in verdicts.items():
            self._alerts.add(count, verdict=verdict)

    def _take_changes(self, session: Session, correlator: Correlator, rows: Sequence[Row], pages: Pages) -> None:
        for row in rows:
            if session.get(Change, row.id) is not None:
                continue
            change = Change(event_id=row.id, time=row.time, kind=row.kind, entity=row.entity, title=row.title, event=row.event())
            session.add(change)
            if row.kind == intake.TRUTH:
                near = Incident.first_event.between(row.time - _TRUTH_AFTER, row.time + _TRUTH_BEFORE)
                for incident in session.scalars(select(Incident).where(near, Incident.merged_into.is_(None))):
                    _label(correlator.topology, incident, change)
                continue
            correlator.changed(row.entity, row.time, row.title)
            for group in correlator.groups():
                if 0 <= group.first - row.time <= BEFORE_NS and _touches(correlator.topology, row.entity, group.component):
                    pages.event(group.number, row, "change")
                    pages.told(group.number, row)
        session.flush()

    def _look_back(self, session: Session, correlator: Correlator, fresh: Sequence[Incident], pages: Pages) -> None:
        first, last = min(i.first_event for i in fresh), max(i.first_event for i in fresh)
        near = list(session.scalars(select(Change).where(Change.time.between(first - BEFORE_NS, last + _TRUTH_AFTER))))
        for incident in fresh:
            for change in near:
                ago = incident.first_event - change.time
                if change.kind == intake.TRUTH:
                    if -_TRUTH_AFTER <= ago <= _TRUTH_BEFORE:
                        _label(correlator.topology, incident, change)
                elif 0 <= ago <= BEFORE_NS and _touches(correlator.topology, change.entity, incident.component):
                    pages.events.append(
                        {"incident": incident.id, "event_id": change.event_id, "time": change.time, "kind": change.kind, "role": "change",
                         "fingerprint": "", "event": change.event}
                    )  # fmt: skip
                    pages.line(incident.id, change.time, change.kind, change.title, source=change.event["source"], entity=change.entity)

    def _take_own(self, session: Session, rows: Sequence[Row], pages: Pages) -> None:
        for row in rows:
            if row.kind == "incident" or row.kind == intake.TRUTH or row.kind in intake.CHANGES:
                continue
            number = self._incident_of(session, row, pages)
            if number is not None and session.get(Incident, number) is not None:
                pages.event(number, row, "other")
                pages.told(number, row, actor=row.attributes.get("actor", ""))

    def _incident_of(self, session: Session, row: Row, pages: Pages) -> int | None:
        """The incident an event reports on. Only Ninefold itself and the trackers of its own tickets are believed: whoever may
        send data could otherwise write into anybody's story."""
        ticket = session.get(Ticket, (row.source, row.source_id)) if row.kind == "ticket" else None
        if ticket is not None:
            tickets.follow(session, ticket, row, pages)
            return ticket.incident
        try:
            return incident_number(row.attributes[intake.INCIDENT]) if row.ours else None
        except (KeyError, NotFound):
            return None

    def analyse_due(self) -> int:
        """Seek the cause of incidents whose events changed and whose telemetry has reached the store; returns how many."""
        done, stored, rested = 0, self._store_position(), wall.monotonic() - _AGAIN_S
        self._analysed = {number: when for number, when in list(self._analysed.items()) if when > rested}
        with self._records.reading() as session:
            wanted = select(Incident).where(Incident.due, Incident.merged_into.is_(None), Incident.position <= stored)
            likely = or_(~Incident.pending, Incident.severity == "high")
            # In a storm those that were just explained must not crowd out the others.
            ready = or_(Incident.id.not_in(list(self._analysed)), Incident.status == RESOLVED)
            due = list(session.scalars(wanted.where(likely, ready).order_by(Incident.last_event.desc()).limit(20)))
        for incident in due:
            self._analysed[incident.id] = wall.monotonic()
            self._explain(incident)
            done += 1
        return done

    def _explain(self, seen: Incident) -> None:
        started = wall.monotonic()
        with self._records.reading() as session:
            case = cause.case_of(session, seen)
        try:
            with self._lock:
                priors = self.teaching.priors()
            finding = cause.explain(self._store.query, case, self.topology(), priors)
        except NinefoldError:
            raise
        except Exception as error:  # noqa: BLE001 - telemetry that trips a defect must not keep all other incidents from being explained
            _log.error("the cause of %s could not be sought", incident_key(seen.id), exc_info=error)
            finding = cause.Finding("undetermined", f"the analysis failed ({error}); the log says where", case.end)
        pages = Pages()
        with self._records.session() as session:
            incident = session.get_one(Incident, seen.id)
            before = (incident.verdict, (incident.cause or {}).get("entity"))
            cause.keep(incident, finding)
            # Events that came while the cause was sought make it due again.
            incident.due = incident.position != seen.position
            if incident.pending and (finding.confidence or 0.0) >= _BORNE_OUT:
                self._show(incident, pages)
            after = (incident.verdict, (incident.cause or {}).get("entity"))
            if before != after:
                title = f"Probable cause: {finding.summary}" if finding.cause else f"Cause undetermined: {finding.reason}"
                pages.line(incident.id, now(), "cause", title, actor="ninefold")
            pages.decided(incident.id, "", now(), "cause", finding.summary or finding.reason, candidates=finding.scores())
            if not incident.pending:
                # Workflows act on "explained": it is said once, and again only when the answer has changed.
                pages.changed("explained" if before != after else "updated", incident, confidence=finding.confidence)
            pages.write(session)
        self._explained.observe(wall.monotonic() - started)

    def _show(self, incident: Incident, pages: Pages) -> None:
        """A lone alert that the telemetry bears out is an incident after all."""
        incident.pending = False
        title = f"{incident_key(incident.id)} opened: {incident.title}; it is one alert, but the telemetry bears it out"
        pages.line(incident.id, incident.first_event, "opened", title, severity=incident.severity)
        pages.changed("opened", incident)
        if incident.status == RESOLVED:
            pages.changed("resolved", incident)

    def acknowledge(self, key: str, actor: str, note: str = "", version: int | None = None) -> Incident:
        """Somebody is on it. The first to acknowledge becomes its owner unless it has one.

        Raises:
            NotFound: there is no such incident.
            Conflict: it is resolved, or `version` is given and somebody changed it since.
        """

        def change(incident: Incident) -> str:
            if incident.status == RESOLVED:
                raise Conflict(f"{key} is resolved; reopen it first")
            incident.status, incident.acknowledged = ACKNOWLEDGED, incident.acknowledged or now()
            incident.owner = incident.owner or actor
            return f"Acknowledged by {actor}"

        return self._act(key, actor, "acknowledged", note, version, change)

    def resolve(self, key: str, actor: str, note: str = "", version: int | None = None) -> Incident:
        """It is over; the note says what fixed it. New alerts open a new incident.

        Raises:
            NotFound, Conflict: as for `acknowledge`.
        """

        def change(incident: Incident) -> str:
            if incident.status == RESOLVED:
                raise Conflict(f"{key} is already resolved")
            incident.status, incident.resolved, incident.fixed_by = RESOLVED, now(), note or incident.fixed_by
            incident.held = False
            return f"Resolved by {actor}"

        with self._lock:
            incident = self._act(key, actor, "resolved", note, version, change)
            self._ready().close(incident.id)
            return incident

    def reopen(self, key: str, actor: str, note: str = "", version: int | None = None) -> Incident:
        """It is not over after all; its alerts find it again. It stays open until a person resolves it, or until something new
        fires and ends.

        Raises:
            NotFound, Conflict: as for `acknowledge`; Conflict also when it is open.
            Refused: it has become part of another incident.
        """

        def change(incident: Incident) -> str:
            if incident.merged_into is not None:
                raise Refused(f"{key} is part of {incident_key(incident.merged_into)}; reopen that one")
            if incident.status != RESOLVED:
                raise Conflict(f"{key} is not resolved")
            incident.status, incident.resolved, incident.mitigated, incident.held = OPEN, None, None, True
            return f"Reopened by {actor}"

        with self._lock:
            incident = self._act(key, actor, "reopened", note, version, change)
            correlator = self._ready()
            if correlator.group(incident.id) is None:
                with self._records.reading() as session:
                    folding.readopt(session, correlator, incident)
            return incident

    def assign(self, key: str, actor: str, owner: str, note: str = "", version: int | None = None) -> Incident:
        """Give it an owner, "" for none.

        Raises:
            NotFound, Conflict: as for `acknowledge`.
        """

        def change(incident: Incident) -> str:
            incident.owner = owner
            return f"Assigned to {owner} by {actor}" if owner else f"Owner removed by {actor}"

        return self._act(key, actor, "assigned", note, version, change)

    def verdict(self, key: str, actor: str, verdict: str, note: str = "", version: int | None = None, entity: str = "") -> Incident:
        """What a person thinks of it: useful, noise, wrong_cause, then also which `entity` was the cause.

        Raises:
            NotFound, Conflict: as for `acknowledge`.
            Refused: the verdict is not one of these words.
        """
        return self.handle(key, actor, "verdict", judge(verdict, entity), note, version)

    def handle(self, key: str, actor: str, kind: str, deed: Deed, note: str = "", version: int | None = None) -> Incident:
        """Do what a deed of `handling` does; `kind` is the word for it: mitigated, severity, teams.

        Raises:
            NotFound, Conflict: as for `acknowledge`.
            Refused: by the deed.
        """
        return self._act(key, actor, kind, note, version, lambda incident: deed(incident, actor))

    def _act(self, key: str, actor: str, kind: str, note: str, version: int | None, change: Callable[[Incident], str]) -> Incident:
        pages = Pages()
        with self._records.session() as session:
            incident = session.get(Incident, incident_number(key))
            if incident is None:
                raise NotFound(f"there is no incident {key!r}")
            if version is not None and version != incident.version:
                raise Conflict(f"{key} was changed by somebody else; reread it and decide again")
            before = standing(incident)
            title = change(incident)
            pages.line(incident.id, now(), kind, title, body=note, actor=actor)
            pages.changed(kind, incident, actor=actor, note=note, **outcome(session, incident))
            detail = {"note": note, "before": before, "after": standing(incident)}
            session.add(Audit(actor=actor, action=f"incident {kind}", target=incident_key(incident.id), detail=detail))
            pages.write(session)
            session.flush()
            return incident


def _touches(topology: Topology, entity: str, component: str) -> bool:
    return not entity or topology.component(entity) == component


def _label(topology: Topology, incident: Incident, change: Change) -> None:
    """Note the truth of a labelled data set, when it is about the incident's part of the topology."""
    known = topology.component(change.entity) != change.entity
    if known and topology.component(change.entity) != incident.component:
        return
    attributes = change.event["attributes"]
    incident.truth = {"entity": change.entity, "kind": attributes.get("fault_type", ""), "text": change.title}
