"""Every call that changes something, or tried to, has its row: who, what, to what, with what result."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from ninefold.config import Config, WorkflowsConfig
from ninefold.ground.clock import now
from ninefold.ground.meter import Meter
from ninefold.store.records.access import ROLES, Tokens, create_token
from ninefold.store.records.base import Audit, Base, Records
from ninefold.store.records.workflows import Approval, Run
from ninefold.web.server import build
from ninefold.workflows.engine import Workflows
from ninefold.workflows.language import parse

FLOW = "name: flow\nmode: auto\ntrigger: {manual: true}\nsteps:\n- {id: a, uses: host.run, with: {command: x}}\n"


class House:
    """The API over records and workflows alone."""

    def __init__(self, folder: Path) -> None:
        self.records = Records(f"sqlite:///{folder}/records.db")
        Base.metadata.create_all(self.records.engine)
        with self.records.session() as session:
            self.tokens = {role: create_token(session, role, role) for role in ROLES}
        self.workflows = Workflows(self.records, {}, [parse(FLOW)], WorkflowsConfig(), Meter())
        self.workflows.problems.clear()
        app: Any = SimpleNamespace(
            records=self.records, tokens=Tokens(self.records), workflows=self.workflows, sources=[], config=Config(), meter=Meter()
        )
        self.http = TestClient(build(app), raise_server_exceptions=False)

    def call(self, role: str, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.tokens[role]}", **options.pop("headers", {})}
        return self.http.request(method, f"/api/v1/{path}", headers=headers, **options)

    def rows(self) -> list[tuple[str, str, str, str, dict[str, Any]]]:
        with self.records.reading() as session:
            return [(a.actor, a.action, a.target, a.outcome, a.detail) for a in session.scalars(select(Audit).order_by(Audit.id))]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.records.close()


def test_what_was_done_stands_there_with_its_details(house: House) -> None:
    assert house.call("admin", "POST", "tokens", json={"name": "shop", "role": "viewer"}).status_code == 201
    assert house.call("admin", "DELETE", "tokens/shop").status_code == 204
    assert house.call("operator", "POST", "workflows/stop", json={"reason": "too many"}).status_code == 204
    assert house.call("operator", "DELETE", "workflows/stop").status_code == 204
    assert house.call("operator", "POST", "workflows/flow/run", json={}).status_code == 201
    with house.records.session() as session:
        common = {"run": 1, "step": "a", "kind": "step", "workflow": "flow", "incident": None, "risk": "write", "role": "operator"}
        session.add(Approval(**common, question="?", ask={}, expires=now() + 10**12))
        session.get_one(Run, 1).status = "waiting"
    assert house.call("operator", "POST", "approvals/1", json={"decision": "approve", "note": "go"}).status_code == 200
    assert house.call("operator", "POST", "runs/1/cancel").status_code == 200
    assert house.http.post("/api/v1/session", json={"token": house.tokens["viewer"]}).status_code == 200
    assert house.http.delete("/api/v1/session").status_code == 204
    assert house.rows() == [
        ("admin", "token created", "shop", "ok", {"role": "viewer"}),
        ("admin", "token revoked", "shop", "ok", {}),
        ("operator", "workflows stopped", "", "ok", {"reason": "stopped by operator: too many"}),
        ("operator", "workflows resumed", "", "ok", {}),
        ("operator", "workflow started", "flow", "ok", {"run": 1, "incident": ""}),
        ("operator", "approval approved", "1", "ok", {"run": 1, "workflow": "flow", "step": "a", "note": "go"}),
        ("operator", "run cancelled", "1", "ok", {"workflow": "flow", "incident": ""}),
        ("viewer", "session opened", "", "ok", {}),
        ("viewer", "session closed", "", "ok", {}),
    ]


def test_what_was_refused_stands_there_too(house: House) -> None:
    assert house.call("viewer", "POST", "workflows/stop", json={}).status_code == 403
    assert house.call("operator", "POST", "workflows/none/run", json={}).status_code == 404
    assert house.call("operator", "POST", "approvals/1", json={"decision": "perhaps"}).status_code == 422
    assert [row[:4] for row in house.rows()] == [
        ("viewer", "POST", "/api/v1/workflows/stop", "refused (403)"),
        ("operator", "POST", "/api/v1/workflows/none/run", "refused (404)"),
        ("operator", "POST", "/api/v1/approvals/1", "refused (422)"),
    ]


def test_a_mistake_of_the_server_has_its_row_and_the_security_headers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(house.workflows, "stop", fail)
    answer = house.call("operator", "POST", "workflows/stop", json={})
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (500, "nosniff")
    assert (answer.headers["content-type"], "secret inside" in answer.text) == ("application/problem+json", False)
    assert [row[:4] for row in house.rows()] == [("operator", "POST", "/api/v1/workflows/stop", "failed (500)")]


def test_a_refusal_that_cannot_be_written_down_is_still_a_refusal(house: House, tmp_path: Path) -> None:
    house.call("viewer", "GET", "me")  # the token is known now, for five seconds
    other = sqlite3.connect(tmp_path / "records.db", isolation_level=None)
    other.execute("DROP TABLE audit")
    assert house.call("viewer", "POST", "workflows/stop", json={}).status_code == 403
    other.close()


def test_a_path_with_a_null_byte_is_nothing(house: House) -> None:
    assert house.http.get("/%00").status_code == 404


def test_a_done_action_is_not_done_without_its_row(house: House, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "records.db", isolation_level=None)
    other.execute("DROP TABLE audit")
    other.close()
    assert house.call("operator", "POST", "workflows/stop", json={}).status_code >= 500
    assert house.workflows.stopped() == ""
