"""The API of workflows, runs and approvals: who may do what, and what they get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from workshop import Workshop, finished, until, workflow

from ninefold.store.records.access import Tokens, create_token
from ninefold.web import problems
from ninefold.web.api import workflows
from ninefold.workflows.engine import Workflows

STEPS = """
- {id: a, uses: bench.put, with: {text: a}}
- {id: b, uses: bench.blow, with: {text: "b ${{ steps.a.result.count }}"}}
"""
TEXT = workflow(STEPS, extra="description: tidies up", on="[opened], when: incident.severity == 'critical'")


def talk(shop: Workshop, story: Callable[[Any, Workflows], None], *texts: str) -> None:
    """Run the engine, and a story of API calls beside it in a thread: ``call(role, method, path, json) -> response``."""
    tokens = {}
    with shop.records.session() as session:
        for role in ("ingest", "viewer", "operator", "admin"):
            tokens[role] = create_token(session, role, role)
    api = FastAPI()
    problems.install(api)
    api.include_router(workflows.router, prefix="/api/v1")

    async def main() -> None:
        async with shop.running(*texts) as engine:
            api.state.ninefold = SimpleNamespace(records=shop.records, tokens=Tokens(shop.records), workflows=engine)
            client = TestClient(api)

            def call(role: str, method: str, path: str, json: Any = None) -> Any:
                headers = {"Authorization": f"Bearer {tokens[role]}"} if role else {}
                return client.request(method, f"/api/v1/{path}", headers=headers, json=json)

            await asyncio.to_thread(story, call, engine)

    asyncio.run(main())


def soon(what: Callable[[], Any]) -> Any:
    return asyncio.run(until(what))


def test_from_the_list_to_a_run_an_approval_and_its_result(shop: Workshop) -> None:
    def story(call: Any, engine: Workflows) -> None:
        (item,) = call("viewer", "GET", "workflows").json()["items"]
        assert item == {
            "name": "flow", "description": "tidies up", "enabled": True, "mode": "auto", "problem": "", "last_run": None,
            "trigger": "incident opened when incident.severity == 'critical'",
            "steps": [{"id": "a", "uses": "bench.put", "risk": "write"}, {"id": "b", "uses": "bench.blow", "risk": "dangerous"}],
            "runs": {"succeeded": 0, "failed": 0, "waiting": 0},
        }  # fmt: skip
        shop.incident()
        soon(shop.waiting)
        (approval,) = call("viewer", "GET", "approvals?status=waiting").json()["items"]
        assert approval | {
            "run": 1, "workflow": "flow", "step": "b", "incident": "INC-1", "incident_title": "checkout is slow", "uses": "bench.blow",
            "risk": "dangerous", "ask": {"text": "b 1"}, "status": "waiting",
        } == approval  # fmt: skip
        assert approval["expires"] > approval["requested"]
        assert call("viewer", "GET", "runs?status=waiting&incident=INC-1&workflow=flow").json()["items"][0]["id"] == 1
        answer = call("operator", "POST", f"approvals/{approval['id']}", {"decision": "approve", "note": "go"})
        assert (answer.status_code, answer.json()["status"], answer.json()["actor"], answer.json()["note"]) == (
            200,
            "approved",
            "operator",
            "go",
        )
        again = call("admin", "POST", f"approvals/{approval['id']}", {"decision": "reject"})
        assert (again.status_code, again.json()["detail"]) == (409, "approval 1 was already approved by operator")
        soon(finished(shop))
        run = call("viewer", "GET", "runs/1").json()
        assert (run["status"], run["trigger"], run["incident"]) == ("succeeded", "INC-1 opened", "INC-1")
        assert [(step["id"], step["status"], step["attempts"], step["output"]["count"]) for step in run["steps"]] == [
            ("a", "succeeded", 1, 1),
            ("b", "succeeded", 1, 1),
        ]
        assert run["finished"] >= run["started"]
        assert call("viewer", "GET", "workflows").json()["items"][0]["runs"]["succeeded"] == 1

    talk(shop, story, TEXT)


def test_starting_cancelling_and_stopping(shop: Workshop) -> None:
    def story(call: Any, engine: Workflows) -> None:
        number = shop.incident(severity="info")
        started = call("operator", "POST", "workflows/flow/run", {"incident": f"INC-{number}"})
        assert (started.status_code, started.json()["trigger"]) == (201, "started by operator")
        assert call("operator", "POST", "workflows/flow/run", {}).json()["incident"] is None
        soon(lambda: len(shop.waiting()) == 2)
        assert call("operator", "POST", "runs/1/cancel").json()["status"] == "cancelled"
        assert call("operator", "POST", "runs/1/cancel").status_code == 409
        assert call("operator", "POST", "workflows/stop", {"reason": "too many"}).status_code == 204
        assert call("viewer", "GET", "workflows").json()["stopped"] == "stopped by operator: too many"
        refused = call("operator", "POST", "workflows/flow/run", {})
        assert (refused.status_code, "stopped by operator: too many" in refused.json()["detail"]) == (403, True)
        assert call("operator", "DELETE", "workflows/stop").status_code == 204
        assert call("viewer", "GET", "workflows").json()["stopped"] == ""

    talk(shop, story, TEXT)


@pytest.mark.parametrize(
    ("role", "method", "path", "json", "status"),
    [
        ("", "GET", "workflows", None, 401),
        ("ingest", "GET", "runs", None, 403),
        ("viewer", "POST", "workflows/flow/run", {}, 403),
        ("viewer", "POST", "approvals/1", {"decision": "approve"}, 403),
        ("viewer", "POST", "workflows/stop", {}, 403),
        ("viewer", "POST", "runs/1/cancel", None, 403),
        ("viewer", "GET", "runs/99", None, 404),
        ("viewer", "GET", "runs/0", None, 422),
        ("viewer", "GET", "runs/99999999999999999999", None, 422),
        ("viewer", "GET", "runs?incident=nonsense", None, 404),
        ("viewer", "GET", "runs?status=nonsense", None, 422),
        ("viewer", "GET", "runs?limit=0", None, 422),
        ("operator", "POST", "workflows/none/run", {}, 404),
        ("operator", "POST", "workflows/flow/run", {"incident": "INC-7"}, 404),
        ("operator", "POST", "approvals/99", {"decision": "approve"}, 404),
        ("operator", "POST", "approvals/99", {"decision": "maybe"}, 422),
        ("operator", "POST", "runs/99/cancel", None, 404),
    ],
)
def test_who_may_not_and_what_is_not(shop: Workshop, role: str, method: str, path: str, json: Any, status: int) -> None:
    def story(call: Any, engine: Workflows) -> None:
        answer = call(role, method, path, json)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"

    talk(shop, story, TEXT)


def test_an_approval_may_ask_for_an_admin(shop: Workshop) -> None:
    def story(call: Any, engine: Workflows) -> None:
        shop.incident()
        soon(shop.waiting)
        answer = call("operator", "POST", "approvals/1", {"decision": "approve"})
        assert (answer.status_code, answer.json()["detail"]) == (403, "approval 1 needs the role admin, operator has operator")
        assert call("admin", "POST", "approvals/1", {"decision": "approve"}).status_code == 200
        soon(finished(shop))

    talk(shop, story, workflow("- {id: a, uses: bench.look, with: {text: x}, approval: {role: admin}}"))
