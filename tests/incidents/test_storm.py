"""An alert storm is folded without loss, however it arrives, and is the same after a restart."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from room import T0, Room, event
from sqlalchemy import select

from ninefold.store.records.incidents import AlertState, Incident, IncidentEvent

ENTITIES, RULES, SYSTEM = 500, 16, 10
ALERTS = ENTITIES * RULES
RECEIVED_S = 70


def storm() -> list[dict[str, Any]]:
    """Every rule of every service within a minute, out of order and each tenth told twice."""
    told = [
        event(60 * n / ALERTS, f"service:s{n % ENTITIES}", f"rule {n // ENTITIES}", severity=("critical", "high", "warning")[n % 3])
        for n in range(ALERTS)
    ]
    told += told[::10]
    Random(7).shuffle(told)
    return told


def kept(room: Room) -> tuple[dict[str, tuple[str, int | None, int]], dict[str, int], dict[int, int]]:
    """State, incident and count of every alert; the incident of every alert event; the alerts each incident says it has."""
    with room.records.reading() as session:
        columns = (AlertState.fingerprint, AlertState.state, AlertState.incident, AlertState.count)
        states = {mark: (state, number, count) for mark, state, number, count in session.execute(select(*columns))}
        events = session.execute(select(IncidentEvent.event_id, IncidentEvent.incident).where(IncidentEvent.role == "alert")).all()
        assert max(Counter(row.event_id for row in events).values()) == 1, "an event is in two incidents"
        whole = session.execute(select(Incident.id, Incident.alerts).where(Incident.merged_into.is_(None))).all()
    return states, {row.event_id: row.incident for row in events}, {row.id: row.alerts for row in whole}


def test_a_storm_is_folded_without_loss_and_stands_after_a_restart(room: Room) -> None:
    pairs = [(n, n + 1) for n in range(ENTITIES - 1) if (n + 1) % SYSTEM]
    room.feed(*({"from_entity": f"service:s{a}", "to_entity": f"service:s{b}", "kind": "calls", "time": T0} for a, b in pairs))
    told = storm()
    for first in range(0, len(told), 2200):
        room.feed(*told[first : first + 2200], received_s=RECEIVED_S)

    states, events, incidents = kept(room)
    assert states.keys() == {row["fingerprint"] for row in told}
    assert {(state, count) for state, _, count in states.values()} == {("firing", 1)}
    assert events.keys() == {row["id"] for row in told}
    assert all(events[row["id"]] == states[row["fingerprint"]][1] for row in told)
    assert incidents == dict(Counter(events.values()))
    assert sum(incidents.values()) == ALERTS
    assert len(incidents) < ALERTS / 50
    sizes = room.sizes()

    room.restart()
    room.feed(*told[:1000], received_s=RECEIVED_S)
    assert kept(room) == (states, events, incidents)
    assert {name: size for name, size in room.sizes().items() if name != "outbox"} == {k: v for k, v in sizes.items() if k != "outbox"}

    ended = [event(80, row["entity"], row["title"], status="resolved") for row in {row["id"]: row for row in told[:300]}.values()]
    room.feed(*ended, received_s=85)
    after, ends, sums = kept(room)
    for row in ended:
        mark = row["fingerprint"]
        assert after[mark] == ("resolved", states[mark][1], 2)
        assert ends[row["id"]] == states[mark][1]
    firing = {mark for mark, (state, _, _) in after.items() if state == "firing"}
    assert firing == states.keys() - {row["fingerprint"] for row in ended}
    assert sums == incidents
