"""Mutes that tickets open: approved changes hide their entities' alerts while they last."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from room import T0, Room, event
from sqlalchemy import select
from test_mutes import reasons, statuses

from ninefold.ground.clock import SECOND, iso
from ninefold.store.records.base import Audit
from ninefold.store.records.mutes import Mute


def at(second: float) -> str:
    return iso(T0 + int(second * SECOND))


def change(told_s: float, status: str = "approved", starts: float = 100, ends: float = 700, **attributes: str) -> dict[str, Any]:
    """What the ticket CHG-7 says."""
    said = {"start": at(starts), "end": at(ends), **attributes}
    return event(told_s, title="new database", kind="change", status=status, severity="info", **said) | {"source_id": "CHG-7"}


def fails(at_s: float, entity: str = "service:cart") -> dict[str, Any]:
    return event(at_s, entity, f"{entity} fails at {at_s}", severity="critical")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path, alerts={"change_windows": {"sources": ["snow*"]}})
    yield made
    made.records.close()


def mutes(room: Room) -> list[Mute]:
    with room.records.reading() as session:
        return list(session.scalars(select(Mute).order_by(Mute.ends)))


def test_an_approved_change_hides_its_entities_alerts_while_it_lasts(desk: Room) -> None:
    desk.feed(change(0, entities="service:web, host:db"), received_s=0, source="snow")
    (mute,) = mutes(desk)
    assert (mute.origin, mute.reason) == ("snow CHG-7", "change CHG-7 of snow: new database")
    for second in (50, 300, 750):
        desk.feed(fails(second), fails(second, "host:db"), fails(second, "host:other"), received_s=second)
    shown = {title for title, status in statuses(desk).items() if status == "firing"}
    assert sorted(shown) == sorted(
        [
            *(f"{e} fails at {s}" for e in ("service:cart", "host:db") for s in (50, 750)),
            *(f"host:other fails at {s}" for s in (50, 300, 750)),
        ]
    )
    assert reasons(desk)[0] == f"created a mute until {iso(mute.ends)} by the ticket CHG-7 of snow"
    assert any(f"hidden by change {mute.id} of snow" in reason for reason in reasons(desk))
    with desk.records.reading() as session:
        assert [(row.actor, row.action) for row in session.scalars(select(Audit))] == [("snow", "mute created")]


def test_nothing_is_muted_unless_the_source_is_named_and_the_change_approved(room: Room, desk: Room) -> None:
    room.feed(change(0), source="snow")
    assert mutes(room) == []
    desk.feed(change(0), source="stranger")
    desk.feed(change(0, status="draft"), source="snow")
    desk.feed(change(0, end="tomorrow"), source="snow")
    desk.feed(change(0) | {"entity": ""}, source="snow")
    desk.feed(change(0) | {"kind": "deployment", "id": "x"}, source="snow")
    assert mutes(desk) == []


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_it_is_extended_and_called_off_in_whatever_order_that_is_told(desk: Room, order: tuple[int, ...]) -> None:
    said = [change(0), change(10, ends=1500), change(20, status="cancelled", ends=1500)]
    for i in order[:2]:
        desk.feed(said[i], received_s=30, source="snow")
    alive = [mute for mute in mutes(desk) if mute.ends > T0 + 30 * SECOND]
    if 2 in order[:2]:
        assert alive == []
    else:
        assert [mute.ends for mute in alive] == [T0 + 1500 * SECOND]
    desk.feed(said[order[2]], received_s=40, source="snow")
    desk.feed(fails(300), received_s=300)
    assert list(statuses(desk).values()) == ["firing"]


def test_other_entities_make_another_mute_and_both_are_in_the_audit(desk: Room) -> None:
    desk.feed(change(0), source="snow")
    desk.feed(change(5, entities="host:db"), received_s=5, source="snow")
    assert [(mute.ends - T0) // SECOND for mute in mutes(desk)] == [5, 700]
    with desk.records.reading() as session:
        assert [row.action for row in session.scalars(select(Audit))] == ["mute created", "mute expired", "mute created"]


def test_the_status_may_be_the_tickets_own_word(desk: Room) -> None:
    desk.feed(change(0, status="", **{"ticket.status": "Scheduled"}), source="snow")
    assert len(mutes(desk)) == 1
    desk.feed(change(5, status="resolved", **{"ticket.status": "Scheduled"}), received_s=5, source="snow")
    assert mutes(desk)[0].ends == T0 + 5 * SECOND


def test_a_plan_told_again_is_newer_than_what_called_it_off(desk: Room) -> None:
    for told_s, status in ((0, "approved"), (20, "approved"), (10, "cancelled")):
        desk.feed(change(told_s, status), received_s=30, source="snow")
    assert [mute.ends for mute in mutes(desk)] == [T0 + 700 * SECOND]


def test_what_it_hid_is_seen_when_it_is_called_off(desk: Room) -> None:
    desk.feed(change(0), source="snow")
    desk.feed(fails(200), received_s=200)
    desk.restart()
    desk.feed(change(250, status="closed"), received_s=250, source="snow")
    desk.tick(251)
    assert list(statuses(desk).values()) == ["firing"]


def test_a_persons_word_stands_until_the_ticket_plans_something_new(desk: Room) -> None:
    def still(told_s: float, ends: float) -> dict[str, Any]:
        return change(told_s, ends=ends, start=at(0))

    far = 40 * 365 * 86_400
    desk.feed(still(0, far), source="snow")
    first = mutes(desk)[0]
    assert first.ends == T0 + 86_400 * SECOND, "no longer than the configuration allows"
    with desk.records.session() as session:
        session.get_one(Mute, first.id).ends = T0 + 60 * SECOND
    desk.incidents.mutes.forget()
    desk.feed(still(70, far), received_s=70, source="snow")
    assert len(mutes(desk)) == 1
    desk.feed(still(80, 5000), received_s=80, source="snow")
    assert [mute.ends for mute in mutes(desk)] == [T0 + 60 * SECOND, T0 + 5000 * SECOND]
