"""What closed incidents and changes teach the correlator is still known after a restart."""

from __future__ import annotations

from room import Room, event

SLOW, ERRORS, FULL = ("service:web", "web is slow"), ("service:cart", "cart has errors"), ("service:db", "db is full")


def test_an_alert_joins_the_incident_that_began_after_the_same_change(room: Room) -> None:
    room.chain("web", "cart", "pay", "db")
    room.feed(event(0, "service:web", "web 7 released", kind="deployment", status=""))
    room.feed(event(30, *SLOW))
    room.restart()
    room.feed(event(78, *ERRORS))
    (joined,) = [item["text"] for item in room.why("INC-1") if item["text"].startswith("joined")]
    assert "both after the change web 7 released +1" in joined


def test_kinds_that_fire_together_are_known_after_a_restart(room: Room) -> None:
    room.chain("web", "cart", "pay", "db")
    for i in range(16):
        at = 2000 * i
        told = (SLOW, ERRORS) if i % 4 == 0 else (FULL,)
        room.feed(*(event(at + j, *kind) for j, kind in enumerate(told)), *(event(at + 9, *kind, status="resolved") for kind in told))
        room.tick(at + 1000)
    before = room.incidents._ready().affinity.pairs("service:cart")
    room.restart()
    (pair,) = room.incidents._ready().affinity.pairs("service:cart")
    assert {pair.a, pair.b} == {SLOW, ERRORS}
    assert [pair] == before
