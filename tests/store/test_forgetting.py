"""The records do not grow for ever: what is deleted by age, and what never is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from ninefold.ground.clock import now
from ninefold.store.records import forgetting, migrate
from ninefold.store.records.base import Audit, Outbox, Position, Records
from ninefold.store.records.forgetting import DAY, READERS, forget
from ninefold.store.records.incidents import AlertState, Change, Incident, IncidentEvent, Ledger, Timeline
from ninefold.store.records.mutes import Mute
from ninefold.store.records.oncall import Escalation, Override, Page

AT = now()
OLD, YOUNG = AT - 500 * DAY, AT - 100 * DAY


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    monkeypatch.setattr(forgetting, "_ROWS", 7)
    monkeypatch.setattr(forgetting, "_INCIDENTS", 2)
    made = Records(f"sqlite:///{tmp_path / 'records.db'}")
    migrate.upgrade(made)
    yield made
    made.close()


def count(records: Records, record: type) -> int:
    with records.reading() as session:
        return session.scalar(select(func.count()).select_from(record)) or 0


def incident(records: Records, number: int, resolved: int | None) -> None:
    with records.session() as session:
        status = "resolved" if resolved else "open"
        session.add(Incident(id=number, title="x", status=status, opened=OLD, first_event=OLD, last_event=OLD, resolved=resolved))
        for i in range(10):
            session.add(IncidentEvent(incident=number, event_id=f"{number}.{i}", time=OLD, kind="alert", role="alert", event={}))
            session.add(Timeline(incident=number, time=OLD, kind="alert", title="x"))
            session.add(Ledger(incident=number, event_id="", time=OLD, step="dedup", text="x"))
        state = AlertState(fingerprint=str(number), entity="", kind="alert", rule="", title="", severity="info", status="resolved")
        state.first, state.last, state.count, state.incident, state.last_event = OLD, OLD, 1, number, ""
        session.add(state)


def test_details_of_incidents_long_resolved_are_deleted_and_the_incidents_stay(records: Records) -> None:
    for number, resolved in enumerate((OLD, OLD, OLD, YOUNG, None), 1):
        incident(records, number, resolved)
    assert forget(records, AT, 400) == 3 * 31
    assert {record.__name__: count(records, record) for record in (Incident, IncidentEvent, Timeline, Ledger, AlertState)} == {
        "Incident": 5, "IncidentEvent": 20, "Timeline": 20, "Ledger": 20, "AlertState": 2,
    }  # fmt: skip
    assert forget(records, AT, 400) == 0


def test_the_feed_is_deleted_behind_all_its_readers_and_its_newest_row_stays(records: Records) -> None:
    with records.session() as session:
        session.add_all(Outbox(topic="incident", kind="opened", key="INC-1", time=OLD) for _ in range(30))
    assert forget(records, AT, 400) == 0, "nobody has read it"
    with records.session() as session:
        session.add_all(Position(reader=reader, position=20 if reader == "workflows" else 30) for reader in READERS)
    assert forget(records, AT, 400) == 19
    with records.session() as session:
        session.get_one(Position, "workflows").position = 30
    forget(records, AT, 400)
    assert [change.id for change in records.outbox(0)] == [30], "numbers are counted on from it"
    with records.session() as session:
        session.add_all(Outbox(topic="incident", kind="opened", key="INC-1", time=YOUNG) for _ in range(3))
        session.add(Outbox(topic="incident", kind="opened", key="INC-1"))
        for reader in READERS:
            session.get_one(Position, reader).position = 34
    assert forget(records, AT, 400) == 4, "a month is enough for the feed"
    assert [change.id for change in records.outbox(0)] == [34]


def test_pages_and_overrides_are_deleted_by_age(records: Records) -> None:
    with records.session() as session:
        for time in (OLD, YOUNG):
            session.add(Page(person="ann", due=time, status="delivered", finished=time))
            session.add(Escalation(incident=1, policy="p", rules={}, due=time, ended=time))
            session.add(Override(schedule="s", person="ann", starts=time - 1, ends=time, actor="ann"))
        session.add(Page(person="ann", due=OLD, status="due"))
    assert forget(records, AT, 400) == 3
    assert [count(records, record) for record in (Page, Escalation, Override)] == [2, 1, 1]


def test_other_history_is_deleted_by_age(records: Records) -> None:
    with records.session() as session:
        for time in (*[OLD] * 20, YOUNG):
            session.add(Audit(actor="ann", action="x", time=time))
            session.add(Ledger(event_id="", time=time, step="dedup", text="unknown"))
            session.add(Change(event_id=f"{time}", time=time, kind="change", entity="", title="", event={})) if time == YOUNG else None
        session.add(Change(event_id="old", time=OLD, kind="change", entity="", title="", event={}))
    assert forget(records, AT, 400) == 41
    assert [count(records, record) for record in (Audit, Ledger, Change)] == [1, 1, 1]


def test_mutes_that_were_over_long_ago_are_deleted(records: Records) -> None:
    with records.session() as session:
        for key, ends in (("old", OLD), ("young", YOUNG), ("coming", AT + DAY)):
            session.add(Mute(id=key, matchers=[], starts=OLD - DAY, ends=ends, owner="ann", reason="x"))
    assert forget(records, AT, 400) == 1
    with records.reading() as session:
        assert set(session.scalars(select(Mute.id))) == {"young", "coming"}
