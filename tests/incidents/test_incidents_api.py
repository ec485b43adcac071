"""Incidents over HTTP: who may do what, lists and their order, and what one incident carries."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from fastapi import FastAPI
from room import Room, event
from starlette.testclient import TestClient

from ninefold.ground.traffic import Traffic
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.workflows import Approval, Run
from ninefold.web import problems
from ninefold.web.api import incidents


class Desk:
    """A client with a token of each role."""

    def __init__(self, room: Room) -> None:
        self.room, self.woken = room, 0
        with room.records.session() as session:
            self.tokens = {role: create_token(session, f"a {role}", role) for role in ("viewer", "operator")}
        store = SimpleNamespace(query=lambda sql: pa.table({"n": [3]}))
        workflows = SimpleNamespace(wake=self.wake)
        api = FastAPI()
        api.state.ninefold = SimpleNamespace(
            records=room.records, tokens=Tokens(room.records), incidents=room.incidents, store=store, traffic=Traffic(), workflows=workflows
        )  # fmt: skip
        problems.install(api)
        api.include_router(incidents.router, prefix="/api/v1")
        self.client = TestClient(api)

    def wake(self) -> None:
        self.woken += 1

    def get(self, path: str, expected: int = 200, **query: object):  # type: ignore[no-untyped-def]
        answer = self.client.get(f"/api/v1/{path}", params=query, headers={"Authorization": f"Bearer {self.tokens['viewer']}"})
        assert answer.status_code == expected, answer.text
        return answer.json()

    def post(self, path: str, body: dict[str, object], status: int = 200, role: str = "operator"):  # type: ignore[no-untyped-def]
        answer = self.client.post(f"/api/v1/{path}", json=body, headers={"Authorization": f"Bearer {self.tokens[role]}"})
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def desk(room: Room) -> Desk:
    return Desk(room)


def three(room: Room) -> None:
    """INC-1 warning, INC-2 critical, INC-3 high, each in its own component."""
    room.feed(event(0, "service:a", "a"), event(1, "service:a", "b"))
    room.feed(event(10, "service:b", "b is down", severity="critical"))
    room.feed(event(20, "service:c", "c", severity="high"), event(21, "service:c", "d", severity="high"))


def test_those_that_need_you_come_first(room: Room, desk: Desk) -> None:
    three(room)
    assert [i["id"] for i in desk.get("incidents")["items"]] == ["INC-2", "INC-3", "INC-1"]
    with room.records.session() as session:
        run = Run(workflow="w", digest="d", key="k", incident=1, trigger="t", change="opened", triggered=1)
        session.add(run)
        session.flush()
        session.add(Approval(run=run.id, step="s", kind="step", workflow="w", incident=1, risk="dangerous", role="operator", question="?"))
    first, *_ = desk.get("incidents")["items"]
    assert (first["id"], first["needs"]) == ("INC-1", "approval")
    assert [approval["step"] for approval in desk.get("incidents/INC-1")["approvals"]] == ["s"]
    assert [run["workflow"] for run in desk.get("incidents/INC-1")["runs"]] == ["w"]
    assert desk.get("summary")["approvals_waiting"] == 1


def test_lists_are_paged_searched_and_counted(room: Room, desk: Desk) -> None:
    three(room)
    room.incidents.resolve("INC-3", "ann")
    page = desk.get("incidents", status="all", limit=2)
    assert [i["id"] for i in page["items"]] == ["INC-2", "INC-1"]
    assert [i["id"] for i in desk.get("incidents", status="all", limit=2, after=page["next"])["items"]] == ["INC-3"]
    assert page["counts"] == {"open": 2, "acknowledged": 0, "mitigated": 0, "resolved": 1, "all": 3}
    assert [i["id"] for i in desk.get("incidents", q="IS DOWN")["items"]] == ["INC-2"]
    assert [i["id"] for i in desk.get("incidents", q="inc-1")["items"]] == ["INC-1"]
    assert desk.get("incidents", q="100%")["items"] == [], "a percent sign is a percent sign"


def test_operators_act_and_viewers_look(room: Room, desk: Desk) -> None:
    three(room)
    assert desk.post("incidents/INC-2/acknowledge", {"note": "on it"})["status"] == "acknowledged"
    assert desk.post("incidents/INC-2/assign", {"owner": "bob"})["owner"] == "bob"
    assert desk.post("incidents/INC-2/verdict", {"verdict": "useful"})["feedback"] == "useful"
    assert desk.post("incidents/INC-2/resolve", {"note": "restarted"})["status"] == "resolved"
    assert desk.post("incidents/INC-2/reopen", {})["status"] == "open"
    assert desk.woken == 5, "workflows hear of it at once"
    desk.post("incidents/INC-2/acknowledge", {}, 403, role="viewer")
    assert [line["actor"] for line in desk.get("incidents/INC-2/timeline")["items"] if line["actor"]] == ["a operator"] * 5


def test_wrong_requests_are_answered_in_words(room: Room, desk: Desk) -> None:
    three(room)
    assert "INC-12" in desk.get("incidents/nothing", 404)["detail"]
    desk.get("incidents/INC-99/why", 404)
    desk.post("incidents/INC-1/verdict", {"verdict": "great"}, 422)
    desk.post("incidents/INC-1/reopen", {}, 409)
    version = desk.get("incidents/INC-1")["version"]
    desk.post("incidents/INC-1/acknowledge", {"version": version})
    assert "reread" in desk.post("incidents/INC-1/resolve", {"version": version}, 409)["detail"]
    desk.get("incidents", 422, status="burning")


def test_the_figures_add_up(room: Room, desk: Desk) -> None:
    assert desk.get("summary")["noise_cut"] is None
    three(room)
    room.feed(event(30, "service:lonely", "one warning"))
    figures = desk.get("summary")
    assert (figures["open"], figures["all"], figures["incidents"], figures["alerts"]) == (3, 3, 3, 6)
    assert figures["noise_cut"] == pytest.approx(0.5)
    assert figures["quarantined"] == 3
    assert figures["time_to_acknowledge_s"] is None
    room.incidents.acknowledge("INC-1", "ann")
    assert desk.get("summary")["time_to_acknowledge_s"] > 0


def test_the_topology_shows_what_alerts_now(room: Room, desk: Desk) -> None:
    room.chain("web", "cart", "db")
    room.feed(event(0, "service:cart", severity="critical"))
    states = {node["id"]: node["state"] for node in desk.get("topology")["nodes"]}
    assert states == {"service:web": "healthy", "service:cart": "affected", "service:db": "healthy"}
    drawn = desk.get("topology")
    assert all(part["first_seen"] <= part["last_seen"] for part in (*drawn["nodes"], *drawn["edges"]))
    room.incidents.resolve("INC-1", "ann")
    assert {node["state"] for node in desk.get("topology")["nodes"]} == {"healthy"}


@pytest.mark.slow
def test_a_status_change_among_a_million_alerts_is_quick(tmp_path: Path) -> None:
    import time

    room = Room(tmp_path)
    room.feed(event(0, "service:a", severity="critical"))
    with room.records.engine.begin() as connection:
        rows = "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
        rows += "INSERT INTO {table} SELECT {values} FROM n"
        alert = "'f' || i, 'service:' || (i % 5000), 'alert', 'r' || (i % 100), 't', 'high', 'firing', 1, 2, 1, 2 + i % 20000, 'e' || i"
        alert += ", 2, 'firing', 1, NULL, NULL"
        connection.exec_driver_sql(rows.format(first=0, last=999_999, table="alert_state", values=alert))
        columns = "id, title, status, pending, severity, entity, component, opened, first_event, last_event, owner, alerts, entities, rules"
        columns += ", verdict, reason, analysis, position, due, analysed_until, feedback, fixed_by, version, held"
        values = "i, 't', 'resolved', 0, 'high', 'service:a', 'c', 1, 1, 2, '', 50, 1, '[]', '', '', '{}', 1, 0, 0, '', '', 1, 0"
        connection.exec_driver_sql(rows.format(first=2, last=20_001, table=f"incident ({columns})", values=values))
    room.restart()
    took = []
    for step in (room.incidents.acknowledge, room.incidents.resolve, room.incidents.reopen, room.incidents.acknowledge):
        started = time.process_time()
        step("INC-1", "ann")
        took.append(time.process_time() - started)
    room.records.close()
    assert sorted(took)[2] < 0.05, took
