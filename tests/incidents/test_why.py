"""Why an event is where it is: one call, for events of every kind, whether they made an incident or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from fastapi import FastAPI
from room import T0, Room, event
from starlette.testclient import TestClient

from ninefold.ground.clock import SECOND
from ninefold.incidents.mutes import Wish
from ninefold.model.matcher import Matcher
from ninefold.normalise import Normaliser
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Outbox
from ninefold.store.records.incidents import Ticket
from ninefold.store.records.workflows import Dispatch
from ninefold.web import problems
from ninefold.web.api import why


class Desk:
    """A room whose events are stored, too."""

    def __init__(self, folder: Path) -> None:
        self.room = Room(folder)
        self.events: dict[str, dict[str, Any]] = {}
        with self.room.records.session() as session:
            token = create_token(session, "a viewer", "viewer")
        api = FastAPI()
        store = SimpleNamespace(query=self.query)
        api.state.ninefold = SimpleNamespace(
            records=self.room.records, tokens=Tokens(self.room.records), store=store, normaliser=Normaliser({})
        )  # fmt: skip
        problems.install(api)
        api.include_router(why.router, prefix="/api/v1")
        self.client, self.headers = TestClient(api), {"Authorization": f"Bearer {token}"}

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        row = self.events.get((parameters or {})["id"])
        return pa.Table.from_pylist([row] if row else [], schema=_SCHEMA)

    def tell(self, row: dict[str, Any], received_s: float = 0, source: str = "am", stored: bool = True) -> str:
        self.room.feed(row, received_s=received_s, source=source)
        if stored:
            kept = dict.fromkeys(_SCHEMA.names, "") | {name: value for name, value in row.items() if name != "time"}
            times = {"at": row["time"], "heard": T0 + int(received_s * SECOND)}
            self.events[row["id"]] = kept | {"source": source, "attributes": list(row["attributes"].items()), **times}
        return str(row["id"])

    def why(self, key: str, expected: int = 200) -> Any:
        answer = self.client.get(f"/api/v1/events/{key}/why", headers=self.headers)
        assert answer.status_code == expected, answer.text
        return answer.json()


_TEXTS = ("id", "kind", "source", "severity", "status", "source_id", "entity", "title", "body", "fingerprint")
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("at", pa.int64()),
        ("heard", pa.int64()),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    made = Desk(tmp_path)
    yield made
    made.room.records.close()


READ = {"ninefold.normaliser": "7 alertmanager", "ninefold.fingerprint": "alertname, service"}


def test_an_alert_that_opened_an_incident_answers_every_question(desk: Desk) -> None:
    desk.room.chain("web", "cart")
    first = desk.tell(event(0, severity="critical", **READ))
    second = desk.tell(event(5, "service:web", "web fails"), received_s=5)
    again = desk.tell(event(9, severity="critical"), received_s=9)
    with desk.room.records.session() as session:
        session.add_all([Outbox(topic="incident", kind="opened", key="INC-1", data={}), Dispatch(
            workflow="page", outbox=None, verdict="skipped", reason="it cools down", incident=1)])  # fmt: skip
    found = desk.why(first)
    assert found["outcome"] == "It is one of the alerts of INC-1."
    assert (found["normaliser"], found["format"]) == ("7", "alertmanager")
    assert found["fingerprint"]["made_of"] == ["alertname", "service"]
    assert found["dedup"]["verdict"] == "new"
    assert found["groups"]["text"].startswith("opened INC-1")
    assert found["mutes"]["items"] == []
    assert [(each["workflow"], each["verdict"], each["reason"]) for each in found["workflows"]["items"]] == [
        ("page", "skipped", "it cools down")
    ]
    joined = desk.why(second)["groups"]
    assert [each["incident"] for each in joined["items"]] == ["INC-1"]
    assert joined["items"][0]["because"], "the reasons have words and weights"
    assert desk.why(again)["dedup"]["verdict"] == "duplicate"


def test_a_hidden_alert_names_the_mute_whose_it_is_and_until_when(desk: Desk) -> None:
    mutes = desk.room.incidents.mutes
    cart = [Matcher("entity", "=", "service:cart")]
    mute = mutes.create(Wish(matchers=cart, starts=T0, ends=T0 + 600 * SECOND, owner="ops", reason="known defect"), "anna")
    for stored in (True, False):
        key = desk.tell(event(stored, title=f"{stored}", severity="critical"), received_s=1, stored=stored)
        found = desk.why(key)
        (shown,) = found["mutes"]["items"]
        assert (shown["id"], shown["owner"], shown["until"], shown["hid"]) == (mute.id, "ops", "2023-11-14T22:23:20.000000Z", True)
        assert found["outcome"].startswith("It is in no incident: hidden by silence")
        assert found["workflows"]["items"] == []
        assert [each["step"] for each in found["decisions"]] == ["mute"]


def test_events_that_are_no_alerts_answer_too(desk: Desk) -> None:
    change = desk.tell(event(0, kind="change", title="deploy 7", status=""))
    assert "none began within the hour" in desk.why(change)["outcome"]
    desk.tell(event(60, severity="critical"), received_s=60)
    found = desk.why(change)
    assert found["outcome"] == "It is a change shortly before INC-1."
    assert (found["dedup"]["verdict"], found["incidents"][0]["role"]) == ("single", "change")
    with desk.room.records.session() as session:
        session.add(Ticket(system="rt", id="12", incident=1))
    ticket = desk.tell(event(70, kind="ticket", title="t", status="open") | {"source_id": "12"}, source="rt")
    assert [each["role"] for each in desk.why(ticket)["incidents"]] == ["other"]
    stranger = desk.tell(event(80, kind="ticket", title="t2", status="open") | {"source_id": "13"}, source="rt")
    assert "opened for none" in desk.why(stranger)["outcome"]
    assert "kept and can be searched" in desk.why(desk.tell(event(90, kind="login", title="x")))["outcome"]


def test_an_alert_below_the_threshold_and_one_that_ended_unknown_say_so(desk: Desk) -> None:
    lone = desk.why(desk.tell(event(0)))
    assert "is not shown" in lone["outcome"]
    assert not lone["incidents"][0]["shown"]
    ended = desk.why(desk.tell(event(5, title="other", status="resolved")))
    assert ended["dedup"]["verdict"] == "unknown"
    assert ended["outcome"].startswith("It is in no incident: unknown")
    assert "older than what is kept" in desk.why("no such event", 404)["detail"]
