"""What is muted as a whole is not learned: mutes that name a place reach those who learn, as events of maintenance."""

from __future__ import annotations

from typing import Any

import pytest
from room import T0, Room
from sqlalchemy import select
from test_mutes import present, wish

from ninefold.analytics.holds import Holds
from ninefold.ground.clock import SECOND
from ninefold.incidents.places import places
from ninefold.model.matcher import Matcher
from ninefold.sources.own import OwnEvents
from ninefold.store.records.base import Outbox


def learner(room: Room, at_s: float) -> Holds:
    """Who has heard everything told so far through the front door."""
    with room.records.reading() as session:
        changes = list(session.scalars(select(Outbox).order_by(Outbox.id)))
    holds = Holds()
    for change in changes:
        _, batches = OwnEvents(lambda _, one=change: [one], lambda: 0, lambda _: None)._after(0)  # type: ignore[misc]
        for batch in batches:
            holds.hear(type(batch)(batch.signal, batch.source, change.time, batch.rows, batch.position))
    holds.due(T0 + int(at_s * SECOND))
    return holds


def covered(room: Room, at_s: float, *entities: str) -> list[bool]:
    return [bool(one) for one in learner(room, at_s).covers(entities or ("service:cart",))]


def told(room: Room) -> list[str]:
    with room.records.reading() as session:
        return list(session.scalars(select(Outbox.kind).where(Outbox.topic == "maintenance").order_by(Outbox.id)))


def test_a_muted_place_is_held_while_the_mute_holds_and_no_longer(room: Room) -> None:
    room.incidents.mutes.create(wish(100, 4000), "anna")
    room.tick(50)
    assert told(room) == []
    room.tick(100)
    assert covered(room, 101, "service:cart", "service:web") == [True, False]
    room.restart()
    room.tick(200)
    assert told(room) == ["planned"], "said once"
    assert covered(room, 4001) == [False]


def test_a_mute_extended_holds_longer_and_one_ended_holds_no_more(room: Room) -> None:
    start = present()
    mutes = room.incidents.mutes
    mute = mutes.create(wish(0, start + 600), "anna")
    room.tick(start + 1)
    mutes.change(mute.id, wish(0, start + 1200), "anna")
    room.tick(start + 2)
    assert told(room) == ["planned", "planned"]
    assert covered(room, start + 900) == [True]
    mutes.expire(mute.id, "ben")
    room.tick(present() + 3)
    assert told(room)[-1] == "ended"
    assert covered(room, present() + 4) == [False]


def test_each_window_of_a_maintenance_is_told_when_it_begins(room: Room) -> None:
    room.incidents.mutes.create(wish(0, 10 * 86_400, rrule="FREQ=DAILY", duration_s=3600), "anna")
    for at in (10, 7200, 86_400 + 10, 86_400 + 20):
        room.tick(at)
    assert told(room) == ["planned", "planned"]
    assert covered(room, 86_400 + 30) == [True]


@pytest.mark.parametrize(
    ("matchers", "named"),
    [
        ([("entity", "=", "service:a")], ["service:a"]),
        ([("entity", "=~", "service:(a|b)")], ["service:a", "service:b"]),
        ([("entity", "=~", r"host:db-.*|service:a\.b")], ["host:db-*", "service:a.b"]),
        ([("service", "=", "cart")], ["service:cart", "service:*/cart"]),
        ([("pod", "=", "p"), ("namespace", "=", "shop")], ["pod:shop/p"]),
        ([("service", "=", "cart"), ("alertname", "=", "Slow")], []),
        ([("entity", "=", "service:a"), ("severity", "=", "warning")], []),
        ([("entity", "!=", "service:a")], []),
        ([("entity", "=~", "service:[ab]")], []),
        ([("alertname", "=", "Slow")], []),
    ],
)
def test_only_a_mute_that_names_a_place_and_nothing_else_holds_it(matchers: list[Any], named: list[str]) -> None:
    assert places([Matcher(*each) for each in matchers]) == named
