"""The live line of the console: nothing slips between a page's first look and its opening, and a lost right ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_api import FakeServer
from playwright.sync_api import expect
from starlette.websockets import WebSocket

from conftest import Open

pytestmark = pytest.mark.real


def test_what_changes_before_the_line_is_open_is_seen_too(server: FakeServer, visit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FakeServer._live

    async def late(self: FakeServer, tab: WebSocket) -> None:
        while "GET /api/v1/incidents" not in " ".join(self.requests):  # noqa: ASYNC110 - told by another request
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        self.incidents[0]["title"] = "changed while nobody could be told"
        await real(self, tab)

    monkeypatch.setattr(FakeServer, "_live", late)
    server.stop()
    server.start()  # its routes are made when it starts
    page = visit(server, "/incidents")
    expect(page.locator(".grid-row").first).to_contain_text("changed while nobody could be told")


def test_a_revoked_token_ends_the_session_at_once(server: FakeServer, visit: Open) -> None:
    page = visit(server, "/incidents")
    expect(page.get_by_role("status", name="live")).to_be_visible()
    page.route("**/api/v1/me", lambda route: route.fulfill(status=401, json={"detail": "the token is not known or was revoked"}))

    async def end() -> None:
        for tab in list(server._tabs):
            await tab.close(4401)

    asyncio.run_coroutine_threadsafe(end(), server._loop).result(5)
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_workflow_that_only_observes_is_not_offered(server: FakeServer, visit: Open) -> None:
    seen: dict[str, Any] = server.workflows[0]
    seen["mode"] = "observe"
    page = visit(server, "/incidents/INC-8140")
    page.get_by_role("button", name="Run workflow").click()
    expect(page.get_by_role("dialog").locator("strong", has_text=server.workflows[1]["name"])).to_be_visible()
    expect(page.get_by_role("dialog").locator("strong", has_text=seen["name"])).to_have_count(0)
