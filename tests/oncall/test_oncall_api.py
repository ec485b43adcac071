"""On-call over HTTP: who may do what, what is told and what never is, calendars by a secret address."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient
from switchboard import Switchboard, person

from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Audit
from ninefold.web import problems
from ninefold.web.api import oncall

ICS = (
    "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:cleo\r\nDTSTART:20200101T000000Z\r\nDTEND:20200101T120000Z\r\n"
    "RRULE:FREQ=DAILY\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


class Desk:
    """A client with a token of each role."""

    def __init__(self, board: Switchboard) -> None:
        self.board = board
        with board.records.session() as session:
            self.tokens = {role: create_token(session, f"{role}-token", role) for role in ("viewer", "operator", "admin")}
        api = FastAPI()
        api.state.ninefold = SimpleNamespace(
            records=board.records, tokens=Tokens(board.records), connectors=board.pagers, oncall=board.room
        )  # fmt: skip
        problems.install(api)
        api.include_router(oncall.router, prefix="/api/v1")
        self.client = TestClient(api)

    def call(self, method: str, path: str, body: Any = None, status: int = 200, role: str = "admin") -> Any:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        answer = self.client.request(method, f"/api/v1/oncall{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text


@pytest.fixture
def desk(board: Switchboard) -> Desk:
    return Desk(board)


def test_what_was_arranged_is_shown_and_secrets_are_not(desk: Desk) -> None:
    layer = {"people": ["anna", "ben"], "starts": "2026-01-05T09:00", "rrule": "FREQ=WEEKLY"}
    made = desk.call("PUT", "/schedules/primary?version=0", {"timezone": "Europe/Berlin", "layers": [layer]})
    desk.call("PUT", "/teams/shop", {"members": ["anna", "ben"], "schedules": ["primary"]})
    desk.call("PUT", "/policies/standard", {"steps": [{"targets": [{"kind": "schedule", "name": "primary"}]}]})
    ask = {"title": "{title}", "body": "{body} +49 170 1234567"}
    desk.call("PUT", "/people/anna", {"contacts": [{"name": "phone", "uses": "anna.send", "ask": ask}]})
    desk.call("PUT", "/people/anna", {"contacts": [{"name": "phone", "uses": "anna.send", "after_s": 60}]})
    whole = desk.call("GET", "?at=2026-01-06T00:00:00Z", role="viewer")
    (shown,) = whole["schedules"]
    assert (shown["on_call"], shown["until"], shown["next"]) == (["anna"], "2026-01-12T08:00:00.000000Z", ["ben"])
    assert [shift["person"] for shift in shown["shifts"]] == ["anna", "ben", "anna"]
    assert whole["teams"][0]["on_call"][0]["people"] == ["anna"]
    assert {each["name"] for each in whole["people"]} >= {"anna", "ben", "cleo", "admin-token"}
    anna = next(each for each in whole["people"] if each["name"] == "anna")
    assert anna["contacts"] == [{"name": "phone", "uses": "anna.send", "after_s": 60, "asks": ["body", "title"]}], "the ask stayed"
    desk.call("PUT", f"/schedules/primary?version={made['version'] + 1}", {"layers": []}, 409)
    desk.call("DELETE", "/schedules/primary", status=403)
    assert "policy standard, team shop" in desk.call("DELETE", "/schedules/primary", status=403)["detail"]
    desk.call("DELETE", "/policies/standard", status=204)
    with desk.board.records.reading() as session:
        audits = list(session.scalars(select(Audit).order_by(Audit.id)))
        told = "".join(str(audit.detail) for audit in audits) + str(whole)
    assert "1234567" not in told
    assert audits[-1].detail["before"]["steps"]
    assert audits[-1].actor == "admin-token"


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("PUT", "/teams/a", "operator"), ("PUT", "/people/anna", "operator"), ("DELETE", "/teams/a", "operator"),
        ("PUT", "/schedules/a/calendar", "operator"), ("POST", "/schedules/a/overrides", "viewer"), ("POST", "/pages", "viewer"),
        ("POST", "/schedules/a/link", "viewer"),
    ],
)  # fmt: skip
def test_who_may_not_is_refused(desk: Desk, method: str, path: str, role: str) -> None:
    assert desk.call(method, path, {}, 403, role)["status"] == 403
    assert desk.call(method, path, {}, 401, "")["status"] == 401


def test_somebody_stands_in_and_stops(desk: Desk) -> None:
    desk.board.save("schedule", "primary", layers=[{"people": ["anna"], "starts": "2020-01-01"}])
    wanted = {"person": "ben", "ends": "2099-01-01T00:00:00Z"}
    assert "within a year" in desk.call("POST", "/schedules/primary/overrides", wanted, 400, "operator")["detail"]
    wanted |= {"starts": "2098-12-01T00:00:00Z", "reason": "holiday"}
    made = desk.call("POST", "/schedules/primary/overrides", wanted, 201, "operator")
    shown = desk.call("GET", "/schedules/primary?start=2098-12-31T00:00:00Z&days=2", role="viewer")
    assert [shift["person"] for shift in shown["shifts"]] == ["ben", "anna"]
    assert shown["overrides"] == [made]
    desk.call("DELETE", f"/schedules/other/overrides/{made['id']}", None, 404, "operator")
    desk.call("DELETE", f"/schedules/primary/overrides/{made['id']}", None, 204, "operator")
    assert desk.call("GET", "/schedules/primary", role="viewer")["overrides"] == []


def test_a_calendar_comes_in_and_goes_out_by_a_secret_address(desk: Desk) -> None:
    desk.board.save("schedule", "primary")
    desk.call("PUT", "/schedules/primary/calendar", {"text": "nonsense"}, 400)
    assert "https" in desk.call("PUT", "/schedules/primary/calendar", {"url": "http://example.org"}, 403)["detail"]
    assert desk.call("PUT", "/schedules/primary/calendar", {"text": ICS})["problem"] == ""
    path = desk.call("POST", "/schedules/primary/link", None, 201, "operator")["path"].removeprefix("/api/v1/oncall")
    text = desk.call("GET", path, role="")
    assert text.startswith("BEGIN:VCALENDAR")
    assert text.count("SUMMARY:cleo") > 200
    desk.call("GET", path[:-1] + ("a" if path[-1] != "a" else "b"), status=404, role="")
    desk.call("GET", "/schedules/primary.ics", status=404, role="")
    assert desk.call("GET", "/schedules/primary")["calendar"]["linked"]
    desk.call("DELETE", "/schedules/primary/link", None, 204, "operator")
    desk.call("GET", path, status=404, role="")


def test_pages_are_listed_tested_and_sent_again(desk: Desk) -> None:
    desk.board.policy(person("anna"))
    desk.board.incident()
    desk.board.pagers["anna"].trouble = "no"
    desk.board.turn()
    office, page = desk.call("GET", "/pages?incident=INC-1", role="viewer")["items"]
    assert (office["person"], office["uses"]) == ("administrators", "office.send")
    assert (page["person"], page["status"], page["error"]) == ("anna", "failed", "the number is not in service")
    desk.board.pagers["anna"].trouble = ""
    assert desk.call("POST", f"/pages/{page['id']}/again", None, 202, "operator")["status"] == "due"
    (test,) = desk.call("POST", "/pages", {"person": "ben"}, 202, "operator")["items"]
    assert (test["incident"], test["reason"]) == (None, "test by operator-token")
    assert sorted(desk.board.turn()) == ["anna", "ben", "office"]
    desk.call("POST", "/pages", {"person": "nobody"}, 404, "operator")
