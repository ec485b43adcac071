"""What the records let go of by age: the details of incidents long resolved, and changes that every reader has passed.

An incident itself stays, with its cause and what fixed it, so that similar ones can be found; so do runs and approvals. Deletion is
in small transactions, each in order of a key, so that nobody waits long for the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import delete, exists, func, or_, select
from sqlalchemy.orm import Session

from ninefold.ground.clock import MINUTE
from ninefold.store.records.base import Audit, Outbox, Position, Records
from ninefold.store.records.incidents import RESOLVED, SUPPRESSED, AlertState, Change, Incident, IncidentEvent, Ledger, Timeline
from ninefold.store.records.mutes import Mute
from ninefold.store.records.oncall import Escalation, Override, Page
from ninefold.store.records.regrouping import Regrouped, Regrouping
from ninefold.store.records.sources import SourceDrift
from ninefold.store.records.workflows import Dispatch

DAY = 1440 * MINUTE
FEED_DAYS = 30
"""How long a change stays in the feed when all have read it."""
READERS = ("own", "workflows", "oncall")
"""Whose positions are in the feed."""
_ROWS, _INCIDENTS = 5000, 100


def forget(records: Records, at: int, days: int) -> int:
    """Delete what is older than `days` at the time `at` (ns), and what of the feed is older than `FEED_DAYS`; returns how many rows.

    Raises:
        Unavailable: the database cannot be written now; the rest is deleted the next time.
    """
    before = at - days * DAY
    with records.reading() as session:
        floor = _floor(session)
    gone = _aged(records, Outbox, at - min(days, FEED_DAYS) * DAY, floor)
    gone += sum(_aged(records, record, before) for record in (Audit, Dispatch))
    gone += _chunks(records, Change.event_id, Change.time < before)
    gone += _chunks(records, SourceDrift.id, SourceDrift.since < before)
    gone += _chunks(records, Ledger.id, Ledger.incident.is_(None), Ledger.time < before)
    aside = (AlertState.incident.is_(None), AlertState.last < before, AlertState.due.is_(None))
    gone += _chunks(records, AlertState.fingerprint, *aside, AlertState.status != SUPPRESSED)
    gone += _chunks(records, Page.id, Page.finished < before)
    gone += _chunks(records, Escalation.id, Escalation.ended < before)
    aged = select(Regrouping.id).where(Regrouping.time < before)
    gone += _chunks(records, Regrouped.id, Regrouped.regrouping.in_(aged))
    gone += _chunks(records, Regrouping.id, Regrouping.time < before)
    gone += _chunks(records, Override.id, Override.ends < before)
    gone += _chunks(records, Mute.id, Mute.ends < before)
    for number in _long_over(records, before):
        for key, owner in ((IncidentEvent.id, IncidentEvent.incident), (Timeline.id, Timeline.incident), (Ledger.id, Ledger.incident)):
            gone += _chunks(records, key, owner == number)
        gone += _chunks(records, AlertState.fingerprint, AlertState.incident == number, AlertState.last < before)
    return gone


def _floor(session: Session) -> int:
    """The id below which nobody reads the feed again. Its newest row stays, for ids are counted on from there."""
    positions = {row.reader: row.position for row in session.scalars(select(Position).where(Position.reader.in_(READERS)))}
    newest = session.scalar(select(func.max(Outbox.id))) or 0
    return min(newest, *(positions.get(reader, 0) for reader in READERS))


def _aged(records: Records, record: Any, before: int, floor: int = 1 << 62) -> int:
    """Delete the oldest rows of a table that is written in order of time."""
    gone, more = 0, True
    while more:
        with records.session() as session:
            rows = session.execute(select(record.id, record.time).order_by(record.id).limit(_ROWS)).all()
            old = [number for number, time in rows if time < before and number < floor]
            if old:
                session.execute(delete(record).where(record.id <= old[-1], record.id < floor, record.time < before))
        gone, more = gone + len(old), len(old) == _ROWS
    return gone


def _chunks(records: Records, key: Any, *wanted: Any) -> int:
    gone, more = 0, True
    while more:
        with records.session() as session:
            found = session.scalars(select(key).where(*wanted).limit(_ROWS)).all()
            if found:
                session.execute(delete(key.class_).where(key.in_(found)))
        gone, more = gone + len(found), len(found) == _ROWS
    return gone


def _long_over(records: Records, before: int) -> Iterator[int]:
    """The resolved incidents of which there are still details, until there are none."""
    details = [exists().where(record.incident == Incident.id) for record in (IncidentEvent, Timeline, Ledger)]
    over = select(Incident.id).where(Incident.status == RESOLVED, Incident.resolved < before, or_(*details)).limit(_INCIDENTS)
    while True:
        with records.reading() as session:
            numbers = session.scalars(over).all()
        if not numbers:
            return
        yield from numbers
