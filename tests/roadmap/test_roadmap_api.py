"""The API of the roadmap: who may read it, its shape, and that many readers cost one measurement."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ninefold import roadmap
from ninefold.store.records.access import Tokens, create_token
from ninefold.web import problems
from ninefold.web.api import roadmap as api


async def ask(server: FastAPI, tokens: list[str]) -> list[httpx.Response]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://ninefold") as client:
        return await asyncio.gather(*(client.get("/api/v1/roadmap", headers={"Authorization": f"Bearer {token}"}) for token in tokens))


def test_viewers_get_nine_steps_measured_once(history: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with history.records.session() as session:
        viewer, ingest = create_token(session, "vera", "viewer"), create_token(session, "probe", "ingest")
    server = FastAPI()
    server.state.ninefold = SimpleNamespace(store=history.store, records=history.records, tokens=Tokens(history.records))
    problems.install(server)
    server.include_router(api.router, prefix="/api/v1")
    calls: list[int] = []
    measure = roadmap.measure
    monkeypatch.setattr(roadmap, "measure", lambda *both: calls.append(1) or measure(*both))
    answers = asyncio.run(ask(server, ["unknown", ingest, viewer, viewer, viewer]))
    assert [answer.status_code for answer in answers] == [401, 403, 200, 200, 200]
    steps = answers[2].json()["steps"]
    assert [step["number"] for step in steps] == list(range(1, 10))
    assert steps[0].keys() == {"number", "key", "title", "stage", "question", "score", "how", "figures", "missing"}
    assert steps[0]["figures"][0].keys() == {"name", "value", "unit", "text", "how"}
    assert len(calls) == 1
