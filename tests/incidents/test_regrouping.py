"""Merging and splitting by persons: carried out as events, kept against what the machine thinks later, taken back exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from room import T0, Room, event
from sqlalchemy import select
from starlette.testclient import TestClient

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import Conflict, NotFound, Refused
from ninefold.incidents import regroup
from ninefold.incidents.regroup import FACTS, Wish
from ninefold.model.signal import Batch, event_id
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Audit
from ninefold.store.records.incidents import AlertState, Incident, IncidentEvent
from ninefold.store.records.regrouping import Regrouping
from ninefold.web import problems
from ninefold.web.api import regroupings

A, B, C = (event(0, f"service:{name}", f"{name} is down")["fingerprint"] for name in "abc")


def down(at_s: float, name: str, **more: Any) -> dict[str, Any]:
    return event(at_s, f"service:{name}", f"{name} is down", severity="critical", **more)


def wish(room: Room, deed: str, at_s: float = 100, **said: Any) -> Regrouping:
    """A deed through the front door; what became of it."""
    asked = Wish(deed, "ann", **said)
    number = event_id(regroup.KIND, str(at_s), *asked.attributes().values())
    told = {"id": number, "time": T0 + int(at_s * SECOND), "kind": regroup.KIND, "attributes": asked.attributes()}
    room.feed(told, received_s=at_s, source="ninefold")
    with room.records.reading() as session:
        return session.scalars(select(Regrouping).where(Regrouping.event_id == number)).one()


def state(room: Room) -> dict[str, Any]:
    """Everything that makes up the incidents: their facts, their events, where their alerts are."""
    with room.records.reading() as session:
        facts = {i.id: {name: getattr(i, name) for name in FACTS} for i in session.scalars(select(Incident).order_by(Incident.id))}
        events = session.execute(select(IncidentEvent.incident, IncidentEvent.event_id).order_by(IncidentEvent.id)).all()
        alerts = {one.fingerprint: one.incident for one in session.scalars(select(AlertState))}
    return {"facts": facts, "events": events, "alerts": alerts}


def shown(room: Room) -> dict[str, tuple[str, int, str | None]]:
    return {one["id"]: (one["status"], one["alerts"], one["merged_into"]) for one in sorted(room.list(), key=lambda one: one["id"])}


def test_a_merge_makes_one_incident_and_is_taken_back_exactly(room: Room) -> None:
    room.feed(down(0, "a"), down(5, "a"), down(10, "b"), event(12, "service:b", "b is slow"))
    before = state(room)
    done = wish(room, "merge", incident="INC-1", others=("INC-2",), note="one outage")
    assert (done.problem, done.alerts) == ("", 2)
    assert shown(room) == {"INC-1": ("open", 4, None)}, "what is part of another is no incident of its own"
    assert set(state(room)["alerts"].values()) == {1}
    reasons = [item["text"] for item in room.why("INC-1") if "moved" in item["text"]]
    assert reasons == ["moved from INC-2 to INC-1 by ann: one outage"] * 2, "every alert says why it is there"
    assert any(line["title"] == "INC-2 merged into INC-1 by ann" for line in room.timeline("INC-1"))
    assert ("INC-2", "merged") in room.told()
    assert wish(room, "undo", 200, number=done.id).problem == ""
    assert state(room) == before
    with room.records.reading() as session:
        audits = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [(a.actor, a.action, a.target) for a in audits] == [("ann", "incident merge", "INC-1"), ("ann", "incident undo", "INC-1")]
    assert audits[0].detail["before"]["INC-2"]["alerts"] == 2
    assert audits[0].detail["after"]["INC-2"]["merged_into"] == 1


def test_a_split_makes_another_incident_and_is_taken_back_exactly(room: Room) -> None:
    room.chain("a", "b")
    room.feed(down(0, "a"), down(5, "b"), down(9, "b"))
    before = state(room)
    done = wish(room, "split", incident="INC-1", alerts=(B,))
    assert shown(room) == {"INC-1": ("open", 1, None), "INC-2": ("open", 2, None)}
    assert room.whole("INC-2")["entity"] == "service:b"
    assert ("INC-2", "opened") in room.told()
    wish(room, "undo", 200, number=done.id)
    after = state(room)
    assert after["facts"].pop(2)["merged_into"] == 1
    assert after == before


@pytest.mark.parametrize("restart", [False, True])
def test_what_the_machine_thinks_later_never_undoes_a_split(room: Room, restart: bool) -> None:
    room.chain("a", "b", "c")
    room.feed(down(0, "a"), down(5, "b"), down(8, "c"))
    wish(room, "split", 10, incident="INC-1", alerts=(B,))
    if restart:
        room.restart()
    room.feed(down(12, "b", status="resolved"), down(2, "a"))
    room.feed(*(down(30 + 20 * i, "a") for i in range(25)))
    room.feed(down(4, "b"), down(500, "b"), down(510, "c"))
    assert state(room)["alerts"] == {A: 1, B: 2, C: 1}, "late ones, repeats, and one that fires again after it had ended"
    room.incidents.resolve("INC-2", "ann")
    room.feed(down(520, "b"))
    assert state(room)["alerts"] == {A: 1, B: 3, C: 1}, "it still does not belong there"


@pytest.mark.parametrize("restart", [False, True])
def test_what_the_machine_thinks_later_never_undoes_a_merge(room: Room, restart: bool) -> None:
    room.feed(down(0, "a"), down(5, "b"))
    wish(room, "merge", 10, incident="INC-1", others=("INC-2",))
    if restart:
        room.restart()
    room.feed(down(20, "b", status="resolved"), down(3, "b"))
    room.feed(*(down(30 + 20 * i, "a") for i in range(25)))
    room.feed(down(500, "b"), down(501, "b", status="resolved"), down(520, "a", status="resolved"))
    assert state(room)["alerts"] == {A: 1, B: 1}
    room.tick(1000)
    room.feed(down(1100, "b"), down(1090, "b"))
    assert state(room)["alerts"] == {A: 1, B: 3}, "the merged incident is over: this is a new one"


def test_what_came_after_a_merge_follows_its_alert_back(room: Room) -> None:
    room.feed(down(0, "a"), down(5, "b"))
    done = wish(room, "merge", 10, incident="INC-1", others=("INC-2",))
    room.feed(down(20, "b"), down(25, "a"), down(30, "b"))
    room.incidents.acknowledge("INC-1", "bob")
    wish(room, "undo", 40, number=done.id)
    assert shown(room) == {"INC-1": ("acknowledged", 2, None), "INC-2": ("open", 3, None)}, "what persons did since stays"
    room.feed(down(50, "b"))
    assert shown(room)["INC-2"][1] == 4


def test_a_replay_of_the_journal_gives_the_same_however_it_is_read(tmp_path: Path) -> None:
    rooms = [Room(tmp_path / name) for name in ("once", "again")]
    batches = []
    first = rooms[0]
    real = first.incidents.consume
    first.incidents.consume = lambda some, position: (batches.extend(some), real(some, position))[1]  # type: ignore[method-assign, func-returns-value, assignment]
    first.chain("a", "b")
    first.feed(down(0, "a"), down(5, "b"))
    first.feed(down(7, "c"))
    wish(first, "split", 10, incident="INC-1", alerts=(B,))
    first.feed(down(11, "b"), down(12, "a"))
    done = wish(first, "merge", 20, incident="INC-3", others=("INC-2",))
    first.feed(down(22, "b"), down(23, "c"))
    wish(first, "undo", 30, number=done.id)
    first.feed(down(33, "b"))
    rooms[1].incidents.consume(batches, first.position)
    assert state(rooms[1]) == state(first)
    rooms[1].incidents.consume(batches, first.position)
    assert state(rooms[1]) == state(first), "again is the same as once"
    for one in rooms:
        one.records.close()


def test_what_makes_no_sense_is_refused_with_its_reason(room: Room) -> None:
    room.feed(down(0, "a"), down(5, "b"), down(6, "c"))
    room.incidents.resolve("INC-3", "ann")

    def problem(deed: str, **said: Any) -> type[Exception]:
        with room.records.reading() as session, pytest.raises((Conflict, NotFound, Refused)) as caught:
            regroup.check(session, Wish(deed, "ann", **said))
        return caught.type

    assert problem("merge", incident="INC-1", others=("INC-1",)) is Refused
    assert problem("merge", incident="INC-1", others=("INC-9",)) is NotFound
    assert problem("merge", incident="INC-3", others=("INC-1",)) is Conflict
    assert problem("split", incident="INC-1", alerts=(B,)) is NotFound
    assert problem("split", incident="INC-1", alerts=(A,)) is Refused
    assert problem("undo", number=7) is NotFound
    first = wish(room, "merge", 10, incident="INC-1", others=("INC-2",))
    assert problem("merge", incident="INC-2", others=("INC-1",)) is Conflict
    wish(room, "split", 11, incident="INC-1", alerts=(B,))
    assert problem("undo", number=first.id) is Conflict, "the later one comes first"
    assert "already" in wish(room, "merge", 12, incident="INC-2", others=("INC-1",)).problem, "what came too late is kept with its reason"


def test_nobody_else_can_regroup(room: Room) -> None:
    room.feed(down(0, "a"), down(5, "b"))
    said = Wish("merge", "eve", "INC-1", ("INC-2",)).attributes()
    room.feed({"id": "e", "time": T0, "kind": regroup.KIND, "attributes": said}, source="webhook")
    assert len(room.list()) == 2


@pytest.fixture
def client(room: Room) -> TestClient:
    with room.records.session() as session:
        token = create_token(session, "ann", "operator")

    async def emit(batches: list[Batch], kind: str) -> None:
        room.position += 1
        room.incidents.consume([replace(batch, position=room.position) for batch in batches], room.position)

    api = FastAPI()
    workflows = SimpleNamespace(wake=lambda: None)
    api.state.ninefold = SimpleNamespace(records=room.records, tokens=Tokens(room.records), emit=emit, workflows=workflows)
    problems.install(api)
    api.include_router(regroupings.router, prefix="/api/v1")
    return TestClient(api, headers={"Authorization": f"Bearer {token}"})


def test_merging_and_splitting_over_http(room: Room, client: TestClient) -> None:
    room.feed(down(0, "a"), down(5, "b"))
    done = client.post("/api/v1/incidents/INC-1/merge", json={"incidents": ["INC-2"], "note": "one outage"}).json()["done"]
    assert (done["into"], done["incidents"], done["alerts"], done["undone"]) == ("INC-1", ["INC-2"], 1, "")
    new = client.post("/api/v1/incidents/INC-1/split", json={"alerts": [B]}).json()["done"]
    assert new["into"] == "INC-3"
    refused = client.post(f"/api/v1/regroupings/{done['id']}/undo")
    assert (refused.status_code, "take that back first" in refused.json()["detail"]) == (409, True)
    for one in (new, done):
        assert client.post(f"/api/v1/regroupings/{one['id']}/undo").json()["done"]["undone"] == "ann"
    assert shown(room) == {"INC-1": ("open", 1, None), "INC-2": ("open", 1, None)}
    items = client.get("/api/v1/regroupings", params={"incident": "INC-2"}).json()["items"]
    assert [(one["deed"], one["undone"]) for one in items] == [("merge", "ann")]
    assert client.post("/api/v1/incidents/INC-1/merge", json={"incidents": ["INC-9"]}).status_code == 404
