"""Past incidents like this one: what makes them alike, what does not, and what fixed them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from room import Room, event
from starlette.testclient import TestClient

from ninefold.ground.clock import SECOND
from ninefold.incidents import view
from ninefold.incidents.similar import ALIKE, similar
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.incidents import Change, Incident
from ninefold.store.records.workflows import Run
from ninefold.web import problems
from ninefold.web.api import similar as noun


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def happened(room: Room, at_s: float, *alerts: tuple[str, str]) -> None:
    """An incident of its own with these alerts (service, title), resolved."""
    room.feed(*(event(at_s + i, f"service:{service}", title, severity="critical") for i, (service, title) in enumerate(alerts)))
    room.incidents.resolve(newest(room), "ann", f"fix {at_s:.0f}")


def newest(room: Room) -> str:
    return max((item["id"] for item in room.list()), key=lambda key: int(key.removeprefix("INC-")))


def likes(room: Room, key: str) -> list[tuple[str, float, list[str]]]:
    with room.records.reading() as session:
        found = similar(session, view.find(session, key))
        return [(f"INC-{like.incident.id}", like.score, like.reasons) for like in found]


def test_the_most_alike_come_first_with_reasons(room: Room) -> None:
    happened(room, 0, ("cart", "disk full"), ("cart", "slow"))
    happened(room, 10_000, ("cart", "slow"), ("cart", "queue long"))
    happened(room, 20_000, ("mail", "certificate expired"))
    room.feed(event(30_000, "service:cart", "disk full", severity="critical"), event(30_001, "service:cart", "slow"))
    found = likes(room, "INC-4")
    assert [key for key, _, _ in found] == ["INC-1", "INC-2"]
    assert found[0][1] == 1.0
    assert ALIKE <= found[1][1] < 0.7
    assert found[0][2][0] == "2 of 2 alerts the same: disk full, slow", "what is rare is said first"


def test_the_alert_everybody_has_makes_nothing_alike(room: Room) -> None:
    for i in range(12):
        happened(room, 1000.0 * i, ("gateway", "watchdog"), (f"s{i}", f"rule {i}"))
    room.feed(event(50_000, "service:gateway", "watchdog", severity="critical"), event(50_001, "service:other", "another rule"))
    assert likes(room, newest(room)) == []


def test_the_same_rule_elsewhere_is_alike_with_the_same_cause(room: Room) -> None:
    happened(room, 0, ("cart", "slow"))
    happened(room, 5000, ("mail", "odd"))
    room.feed(event(9000, "service:web", "slow", severity="critical"))
    with room.records.session() as session:
        for number in (1, 3):
            session.get_one(Incident, number).cause = {"entity": "service:db", "kind": "cpu", "summary": "db"}
    ((key, score, reasons),) = likes(room, "INC-3")
    assert (key, reasons[:2]) == ("INC-1", ["the same cause: db", "the same rules on other entities: slow"])
    assert score > 0.3


def test_an_incident_that_says_nothing_is_like_nothing(room: Room) -> None:
    happened(room, 0, ("cart", "slow"))
    with room.records.session() as session:
        session.add(Incident(title="", opened=1 << 62, first_event=1 << 62, last_event=1 << 62, pending=False))
    assert likes(room, "INC-2") == []


def answer(room: Room, path: str) -> Any:
    with room.records.session() as session:
        token = create_token(session, f"who asks for {path}", "viewer")
    api = FastAPI()
    api.state.ninefold = SimpleNamespace(records=room.records, tokens=Tokens(room.records))
    problems.install(api)
    api.include_router(noun.router, prefix="/api/v1")
    return TestClient(api).get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})


def test_what_fixed_it_is_told_in_order(room: Room) -> None:
    room.feed(event(0, "service:cart", "slow", severity="critical"))
    room.incidents.acknowledge("INC-1", "ann", "looking")
    with room.records.session() as session:
        first = session.get_one(Incident, 1)
        done = {"workflow": "restart", "digest": "d", "key": "k", "trigger": "INC-1 opened", "status": "succeeded"}
        session.add(Run(**done, incident=1, triggered=first.opened, created=first.opened + SECOND, started=first.opened + SECOND))
        for name, entity in (("rolled back", "service:cart"), ("elsewhere", "service:mail")):
            about = {"event_id": name, "kind": "deployment", "entity": entity, "title": name, "event": {"source": "ci"}}
            session.add(Change(time=first.opened + 2 * SECOND, **about))
    room.incidents.resolve("INC-1", "ann", "rolled the release back")
    room.incidents.verdict("INC-1", "bob", "useful")
    room.feed(event(5000, "service:cart", "slow", severity="critical"))
    (like,) = answer(room, "incidents/INC-2/similar").json()["items"]
    assert (like["id"], like["score"], like["fixed_by"]) == ("INC-1", 1.0, "rolled the release back")
    assert [(done["kind"], done["text"]) for done in like["remedies"]] == [
        ("run", "restart"), ("change", "rolled back"), ("acknowledged", "Acknowledged by ann: looking"),
        ("resolved", "Resolved by ann: rolled the release back"), ("verdict", "bob says: useful"),
    ]  # fmt: skip
    assert like["remedies"][0]["status"] == "succeeded"
    assert answer(room, "incidents/INC-99/similar").status_code == 404
