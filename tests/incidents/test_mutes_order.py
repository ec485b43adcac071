"""Mutes when events come late or shuffled: what is known in the end does not depend on the order in which it was told."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from room import Room, event
from sqlalchemy import select
from test_mutes import hidden, statuses, wish

from ninefold.store.records.incidents import AlertState
from ninefold.store.records.mutes import HiddenAlert


def state(room: Room) -> AlertState:
    with room.records.reading() as session:
        return session.scalars(select(AlertState)).one()


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_it_fires_again_after_an_end_in_any_order(room: Room, order: tuple[int, ...], together: bool) -> None:
    room.incidents.mutes.create(wish(0, 600), "anna")
    rows: list[dict[str, Any]] = [event(0), event(50, status="resolved"), event(100)]
    told = [rows[i] for i in order]
    for some in [told] if together else [[row] for row in told]:
        room.feed(*some, received_s=120)
    assert hidden(room) == 1, "the newest word is that it fires"
    with room.records.reading() as session:
        assert session.scalars(select(HiddenAlert.event_id)).one() == rows[2]["id"]
    room.tick(601)
    assert statuses(room) == {"slow": "firing"}


def test_an_end_and_its_beginning_told_together_hide_nothing(room: Room) -> None:
    room.incidents.mutes.create(wish(), "anna")
    room.feed(event(50, status="resolved"), event(0), received_s=60)
    assert hidden(room) == 0
    assert statuses(room) == {"slow": "resolved"}


@pytest.mark.parametrize("restart", [True, False])
def test_an_alert_that_ended_while_its_mute_did_ends(room: Room, restart: bool) -> None:
    """Its end of 598 s is told at 605 s, when it has been shown again since 601 s."""
    room.incidents.mutes.create(wish(0, 600), "anna")
    room.feed(event(10, severity="critical"), received_s=10)
    room.tick(601)
    assert statuses(room) == {"slow": "firing"}
    if restart:
        room.restart()
    room.feed(event(598, status="resolved"), received_s=605)
    assert (state(room).status, state(room).state) == ("resolved", "resolved")
    room.tick(2000)
    assert room.list()[0]["status"] == "resolved"


def test_an_end_from_before_it_was_hidden_is_old_news(room: Room) -> None:
    room.incidents.mutes.create(wish(0, 600), "anna")
    room.feed(event(300, severity="critical"), received_s=300)
    room.tick(601)
    room.feed(event(200, status="resolved"), received_s=605)
    assert statuses(room) == {"slow": "firing"}
