"""The API over log templates: listed by kind, one with its holes and its rates from the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ninefold.analytics.logs.mining import LogTemplates
from ninefold.ground.clock import MINUTE, SECOND, now
from ninefold.model.signal import batch_of
from ninefold.normalise import Normaliser
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Base, Records
from ninefold.store.telemetry import Telemetry
from ninefold.web import problems
from ninefold.web.api import templates

START = now() // MINUTE * MINUTE - 30 * MINUTE


def line(at: int, body: str, number: int = 9) -> dict[str, object]:
    return {"time": at, "entity": "service:shop", "body": body, "severity_number": number}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("templates")
    store = Telemetry(f"chdb://{folder / 'store'}")
    store.open()
    records = Records(f"sqlite:///{folder}/records.db")
    Base.metadata.create_all(records.engine)
    with records.session() as session:
        secret = create_token(session, "someone", "viewer")
    rows = [line(START + i * 10 * SECOND, f"order {i} of 10.0.0.{i % 9} took {i}.5 ms") for i in range(120)]
    rows.append(line(START + 20 * MINUTE, "disk 3 is on fire", 17))
    rows.append(line(START + 25 * MINUTE, "order 120 of 10.0.0.3 took 1.5 ms"))  # ends the minutes before
    batch = batch_of("log", "test", START + 26 * MINUTE, rows)
    technique = LogTemplates()
    for normal in Normaliser({}).normalise(batch):
        store.append([normal], "fill")
        technique.process(normal)
    runner = SimpleNamespace(ask=lambda name, question: question({"logs": technique}[name]))
    api = FastAPI()
    api.state.ninefold = SimpleNamespace(store=store, records=records, tokens=Tokens(records), runner=runner)
    problems.install(api)
    api.include_router(templates.router, prefix="/api/v1")
    yield TestClient(api, headers={"Authorization": f"Bearer {secret}"})
    records.close()
    store.close()


def listed(client: TestClient, **asked: Any) -> list[str]:
    return [row["text"] for row in client.get("/api/v1/log-templates", params=asked).json()["items"]]


ORDER, FIRE = "order <int> of <ip> took <duration>", "disk <int> is on fire"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [ORDER, FIRE]),
        ({"limit": 1}, [ORDER]),
        ({"q": "FIRE disk"}, [FIRE]),
        ({"kind": "new"}, [FIRE]),
        ({"kind": "rare"}, [FIRE]),
        ({"kind": "vanished"}, []),
        ({"entity": "service:shop"}, [ORDER, FIRE]),
        ({"entity": "service:else"}, []),
    ],
)
def test_templates_are_listed(client: TestClient, asked: dict[str, Any], found: list[str]) -> None:
    assert listed(client, **asked) == found


def test_one_template_has_holes_and_rates(client: TestClient) -> None:
    first = client.get("/api/v1/log-templates").json()["items"][0]
    one = client.get(f"/api/v1/log-templates/{first['id']}").json()
    assert first.items() <= one.items()
    assert [hole["type"] for hole in one["holes"]] == ["int", "ip", "duration"]
    assert "10.0.0.1" in one["holes"][1]["examples"]
    assert sum(minute["lines"] for minute in one["rate"]) == one["count"] == 121
    assert len(one["rate"]) == 21


def test_an_unknown_template_is_not_found(client: TestClient) -> None:
    assert client.get("/api/v1/log-templates/00000000deadbeef").status_code == 404
    assert client.get("/api/v1/log-templates/nonsense").status_code == 422
