"""Alertmanager's API and our own for mutes and alerts: shapes, who may, what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from ninefold.config import CorrelationConfig
from ninefold.ground.clock import MINUTE, SECOND, iso, now
from ninefold.ground.meter import Meter
from ninefold.incidents import Incidents
from ninefold.model.signal import batch_of
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Audit, Base, Records
from ninefold.web import problems
from ninefold.web.api import alertmanager, alerts, mutes

LABELS = {"alertname": "HighLatency", "service": "cart", "annotation.summary": "slow", "ninefold.normaliser": "1 alertmanager"}


class Desk:
    def __init__(self, folder: Path) -> None:
        self.records = Records(f"sqlite:///{folder}/records.db")
        Base.metadata.create_all(self.records.engine)
        with self.records.session() as session:
            self.tokens = {role: create_token(session, f"a {role}", role) for role in ("viewer", "operator")}
        self.events: list[dict[str, Any]] = []
        store = SimpleNamespace(query=self.query)
        self.incidents = Incidents(self.records, store, CorrelationConfig(), Meter())  # type: ignore[arg-type]
        api = FastAPI()
        api.state.ninefold = SimpleNamespace(records=self.records, tokens=Tokens(self.records), incidents=self.incidents, store=store)
        problems.install(api)
        for noun in (alerts, mutes):
            api.include_router(noun.router, prefix="/api/v1")
        api.router.routes.extend(alertmanager.routes())
        self.client, self.start = TestClient(api), now()

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        names = {"id": "id", "at": "time", "kind": "kind", "source": "source", "entity": "entity", "title": "title", "severity": "severity",
                 "status": "status", "mark": "fingerprint", "attributes": "attributes"}  # fmt: skip
        rows = [{name: event.get(key, "") for name, key in names.items()} for event in self.events]
        return pa.Table.from_pylist([row | {"attributes": list(row["attributes"].items())} for row in rows])

    def fire(self, mark: str, status: str = "firing", **labels: str) -> None:
        row = {
            "id": f"{mark} {status}", "time": self.start, "kind": "alert", "source": "am", "entity": "service:cart",
            "title": "cart is slow", "severity": "critical", "status": status, "fingerprint": mark, "attributes": LABELS | labels,
        }  # fmt: skip
        self.events.append(row)
        self.incidents.consume([batch_of("event", "am", now(), [row])], 0)

    def ask(self, method: str, path: str, body: Any = None, expected: int = 200, role: str = "operator", **query: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        answer = self.client.request(method, path, json=body, params=query, headers=headers)
        assert answer.status_code == expected, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def silence(desk: Desk, **more: Any) -> dict[str, Any]:
    return {
        "matchers": [{"name": "service", "value": "cart", "isRegex": False, "isEqual": True}], "startsAt": iso(desk.start - SECOND),
        "endsAt": iso(desk.start + 60 * MINUTE), "createdBy": "anna", "comment": "known", **more,
    }  # fmt: skip


def test_a_silence_is_made_read_changed_and_expired(desk: Desk) -> None:
    key = desk.ask("POST", "/api/v2/silences", silence(desk))["silenceID"]
    shown = desk.ask("GET", f"/api/v2/silence/{key}", role="viewer")
    assert shown["status"] == {"state": "active"}
    assert (shown["createdBy"], shown["comment"], shown["matchers"]) == ("anna", "known", silence(desk)["matchers"])
    longer = {**shown, "endsAt": iso(desk.start + 90 * MINUTE)}
    assert desk.ask("POST", "/api/v2/silences", longer)["silenceID"] == key, "an extension is the same silence"
    other = desk.ask("POST", "/api/v2/silences", {**longer, "matchers": [{"name": "a", "value": "b.*", "isRegex": True}]})["silenceID"]
    states = {each["id"]: each["status"]["state"] for each in desk.ask("GET", "/api/v2/silences")}
    assert states == {key: "expired", other: "active"}
    assert [each["id"] for each in desk.ask("GET", "/api/v2/silences", filter="service=cart")] == [key]
    desk.ask("DELETE", f"/api/v2/silence/{other}")
    assert desk.ask("GET", f"/api/v2/silence/{other}")["status"]["state"] == "expired"
    assert "over already" in desk.ask("DELETE", f"/api/v2/silence/{other}", expected=409)


def test_what_is_no_silence_is_refused_in_a_sentence(desk: Desk) -> None:
    for change, words in (
        ({"matchers": []}, "at least one matcher"), ({"matchers": [{"name": "a"}]}, "a matcher is"), ({"matchers": "x"}, "a silence is"),
        ({"endsAt": "soon"}, "endsAt"), ({"comment": ""}, "reason"), ({"endsAt": iso(desk.start - MINUTE)}, "ends after"),
        ({"id": "no"}, "not the id"), ({"matchers": [{"name": "a", "value": "(", "isRegex": True}]}, "regular expression"),
    ):  # fmt: skip
        assert words in desk.ask("POST", "/api/v2/silences", silence(desk, **change), 400)
    assert "no mute" in desk.ask("POST", "/api/v2/silences", silence(desk, id="00000000-0000-0000-0000-000000000000"), 404)
    assert "cannot be read" in desk.ask("GET", "/api/v2/alerts", expected=400, filter="service")


def test_a_viewer_may_look_and_not_silence_and_both_are_in_the_audit(desk: Desk) -> None:
    desk.ask("POST", "/api/v2/silences", silence(desk), 403, role="viewer")
    desk.ask("POST", "/api/v2/silences", silence(desk))
    assert len(desk.ask("GET", "/api/v2/silences", role="viewer")) == 1
    with desk.records.reading() as session:
        rows = [(row.actor, row.action, row.outcome) for row in session.scalars(select(Audit).order_by(Audit.id))]
    assert rows == [("a viewer", "POST", "refused (403)"), ("a operator", "mute created", "ok")]


def test_alerts_are_shown_as_alertmanager_does(desk: Desk) -> None:
    desk.fire("a1")
    desk.ask("POST", "/api/v2/silences", silence(desk))
    desk.fire("a2", pod="cart-1")
    shown = {each["fingerprint"]: each for each in desk.ask("GET", "/api/v2/alerts")}
    assert shown["a1"]["status"]["state"] == "active"
    assert shown["a2"]["status"] == {
        "state": "suppressed", "inhibitedBy": [], "silencedBy": [each["id"] for each in desk.ask("GET", "/api/v2/silences")]
    }  # fmt: skip
    assert shown["a2"]["labels"]["alertname"] == "HighLatency"
    assert shown["a2"]["annotations"]["summary"] == "slow"
    assert "ninefold.normaliser" not in shown["a2"]["labels"]
    assert [each["fingerprint"] for each in desk.ask("GET", "/api/v2/alerts", filter='pod=~"cart-.*"')] == ["a2"]
    assert [each["fingerprint"] for each in desk.ask("GET", "/api/v2/alerts", silenced="false")] == ["a1"]
    assert [each["labels"] for each in desk.ask("GET", "/api/v2/alerts/groups", silenced="false")] == [{"incident": "INC-1"}]
    assert desk.ask("GET", "/api/v2/status")["cluster"]["status"] == "disabled"


def test_our_own_api_tells_what_a_mute_hides_and_would_have_hidden(desk: Desk) -> None:
    desk.fire("a1")
    scope = {"matchers": [{"name": "alertname", "op": "=~", "value": "High.*"}]}
    asked = desk.ask("POST", "/api/v1/mutes/preview", scope, role="viewer")
    assert (asked["events"], asked["of_alerts"], asked["firing"], asked["incidents"]) == (1, 1, 1, ["INC-1"])
    assert asked["rules"] == [{"rule": "HighLatency", "events": 1}]
    made = desk.ask("POST", "/api/v1/mutes", scope | {"ends": iso(now() + 60 * MINUTE), "reason": "known"}, 201)
    desk.fire("a2")
    (shown,) = desk.ask("GET", "/api/v1/mutes", role="viewer")["items"]
    assert (shown["id"], shown["state"], shown["hides"], shown["owner"]) == (made["id"], "active", 1, "a operator")
    assert shown["text"] == 'alertname=~"High.*"'
    page = desk.ask("GET", "/api/v1/alerts", role="viewer", state="suppressed")
    assert {word: count for word, count in page["counts"].items() if count} == {"firing": 1, "suppressed": 1, "all": 2}
    (alert,) = page["items"]
    assert (alert["fingerprint"], alert["mutes"], alert["incident"]) == ("a2", [made["id"]], None)
    (why,) = desk.ask("GET", "/api/v1/alerts/a2")["why"]
    assert why["step"] == "mute"
    assert "of a operator until" in why["text"]
    assert desk.ask("GET", "/api/v1/alerts/a1")["why"][0]["step"] == "correlate"
    desk.ask("GET", "/api/v1/alerts/none", expected=404)
    desk.ask("DELETE", f"/api/v1/mutes/{made['id']}", role="viewer", expected=403)
    assert desk.ask("DELETE", f"/api/v1/mutes/{made['id']}")["state"] == "expired"
    assert desk.ask("GET", "/api/v1/mutes", state="active")["items"] == []
    desk.ask("POST", "/api/v1/mutes", scope | {"ends": "later", "reason": "x"}, 400)


def test_an_inhibition_is_saved_tells_what_it_hides_and_amtool_sees_by_what(desk: Desk) -> None:
    rule = {"source_matchers": ["alertname=HighLatency"], "target_matchers": ["alertname=Slow"], "equal": ["service"]}
    desk.ask("PUT", "/api/v1/inhibitions/latency", rule, 403, role="viewer")
    made = desk.ask("PUT", "/api/v1/inhibitions/latency", rule | {"version": 0})
    assert (made["origin"], made["author"], made["version"]) == ("saved", "a operator", 1)
    assert "changed by somebody else" in desk.ask("PUT", "/api/v1/inhibitions/latency", rule | {"version": 0}, 409)["detail"]
    desk.ask("PUT", "/api/v1/inhibitions/all", rule | {"source_matchers": ["a!=b"]}, 422)
    desk.fire("a1")
    desk.fire("a2", alertname="Slow")
    desk.fire("a3", alertname="Slow", service="web")
    (shown,) = desk.ask("GET", "/api/v1/inhibitions", role="viewer")["items"]
    assert (shown["name"], shown["hides"], shown["examples"][0]["fingerprint"]) == ("latency", 1, "a2")
    states = {each["fingerprint"]: each["status"] for each in desk.ask("GET", "/api/v2/alerts")}
    assert states["a2"] == {"state": "suppressed", "silencedBy": [], "inhibitedBy": ["a1"]}
    assert states["a3"]["state"] == "active"
    assert {each["fingerprint"] for each in desk.ask("GET", "/api/v2/alerts", inhibited="false")} == {"a1", "a3"}
    assert desk.ask("GET", "/api/v1/alerts/a2")["inhibitions"] == [{"rule": "latency", "by": "a1", "title": "cart is slow"}]
    desk.ask("DELETE", "/api/v1/inhibitions/latency")
    assert desk.ask("GET", "/api/v1/inhibitions")["items"] == []
