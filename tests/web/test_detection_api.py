"""The API over anomalies: listed, judged, explained; sensitivity, the log of what was learned, the shadow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from ninefold.analytics.findings import anomaly
from ninefold.analytics.metrics.baseline import Baseline
from ninefold.analytics.metrics.shadow import Shadow
from ninefold.analytics.metrics.steering import fingerprint_of
from ninefold.ground.clock import MINUTE, now
from ninefold.model.signal import Batch, batch_of
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Audit, Base, Records
from ninefold.store.telemetry import Telemetry
from ninefold.web import problems
from ninefold.web.api import detection

START = now() - 30 * MINUTE
MARK = fingerprint_of(7)
ABOUT = {
    "metric": "latency",
    "unit": "ms",
    "reason": "spike",
    "value": "250",
    "expected": "100",
    "lower": "80",
    "upper": "120",
    "score": "7",
}


class Program:
    """What the routes need of an App: what is emitted reaches the store and the techniques at once."""

    def __init__(self, folder: Path) -> None:
        self.store = Telemetry(f"chdb://{folder / 'store'}")
        self.store.open()
        self.records = Records(f"sqlite:///{folder}/records.db")
        Base.metadata.create_all(self.records.engine)
        self.tokens = Tokens(self.records)
        self.techniques = {"baseline": Baseline(), "shadow": Shadow()}
        self.runner = SimpleNamespace(ask=self._ask)
        self._count = 0

    def _ask(self, name: str, question: Callable[[Any], Any]) -> Any:
        return question(self.techniques[name])

    async def emit(self, batches: list[Batch], kind: str = "push") -> None:
        assert kind == "own"
        await asyncio.to_thread(self.take, batches)

    def take(self, batches: list[Batch]) -> None:
        self._count += 1
        self.store.append(batches, f"take{self._count}")
        for batch in batches:
            for technique in self.techniques.values():
                technique.process(batch)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.records.close()
    made.store.close()


@pytest.fixture
def client(program: Program) -> Iterator[TestClient]:
    with program.records.session() as session:
        secret = create_token(session, "someone", "operator")
        viewer = create_token(session, "onlooker", "viewer")
    rows = [
        anomaly(
            "baseline",
            {"series": "7"},
            entity="service:shop",
            time=START,
            since=START,
            firing=True,
            title="latency is 2.5x",
            attributes=ABOUT,
        ),
        anomaly("peers", {"metric": "cpu"}, entity="host:a", time=START + 1, since=START, firing=True, title="unlike", attributes={}),
        anomaly(
            "peers", {"metric": "cpu"}, entity="host:a", time=START + MINUTE, since=START, firing=False, title="like again", attributes={}
        ),
    ]
    series = {"series": 7, "name": "latency", "unit": "ms", "kind": "gauge", "entity": "service:shop", "source": "test", "seen": START}
    program.take([batch_of("series", "test", START, [series]), batch_of("event", "ninefold.baseline", START, rows)])
    api = FastAPI()
    api.state.ninefold = program
    problems.install(api)
    api.include_router(detection.router, prefix="/api/v1")
    with TestClient(api, headers={"Authorization": f"Bearer {secret}"}) as opened:
        opened.viewer = {"Authorization": f"Bearer {viewer}"}  # type: ignore[attr-defined]
        yield opened


def test_anomalies_are_listed_judged_and_explained(client: TestClient) -> None:
    firing, ended = client.get("/api/v1/anomalies").json()["items"]
    assert (firing["fingerprint"], firing["status"], firing["until"], firing["value"]) == (MARK, "firing", None, 250.0)
    assert (ended["technique"], ended["status"], ended["title"]) == ("peers", "resolved", "unlike")
    assert ended["until"] > ended["since"]
    assert [row["entity"] for row in client.get("/api/v1/anomalies", params={"status": "resolved"}).json()["items"]] == ["host:a"]
    assert client.get("/api/v1/anomalies", params={"reason": "drift"}).json()["items"] == []
    before = client.get(f"/api/v1/anomalies/{MARK}/why").json()
    assert (before["expected_band"], before["deviation"]) == ([80, 120], 150)
    assert before["deviation_words"] == "150 ms above the 100 ms that was expected, 7.5 times the usual margin"
    assert (before["thresholds"]["word"], before["thresholds"]["verdict_factor"]) == ("normal", 1.0)
    other = client.get(f"/api/v1/anomalies/{ended['fingerprint']}/why").json()
    assert other["deviation_words"] == ""
    assert (other["thresholds"], other["anomaly"]["technique"]) == (None, "peers"), "why is answered for every technique"
    assert client.get(f"/api/v1/anomalies/{MARK}").json() == firing
    demoted = {text: client.get("/api/v1/anomalies", params={"demoted": text}).json()["items"] for text in ("true", "false")}
    assert [len(items) for items in demoted.values()] == [0, 2]
    assert client.post(f"/api/v1/anomalies/{MARK}/verdict", json={"verdict": "noise"}, headers=client.viewer).status_code == 403  # type: ignore[attr-defined]
    assert client.post(f"/api/v1/anomalies/{MARK}/verdict", json={"verdict": "noise"}).status_code == 200
    after = client.get(f"/api/v1/anomalies/{MARK}/why").json()
    assert after["thresholds"]["threshold"] > before["thresholds"]["threshold"]
    assert after["anomaly"]["verdict"] == "noise"
    assert {move["scope"] for move in after["thresholds"]["learned"]} == {"series", "metric"}
    assert client.post("/api/v1/anomalies/0123456789abcdef/verdict", json={"verdict": "noise"}).status_code == 404


def test_what_was_learned_can_be_undone(client: TestClient) -> None:
    client.post(f"/api/v1/anomalies/{MARK}/verdict", json={"verdict": "noise"})
    for move in client.get("/api/v1/detection/learned").json()["items"]:
        assert client.post(f"/api/v1/detection/learned/{move['id']}/undo").status_code == 200
        assert client.post(f"/api/v1/detection/learned/{move['id']}/undo").status_code == 404
    assert client.get(f"/api/v1/anomalies/{MARK}/why").json()["thresholds"]["verdict_factor"] == 1.0


def test_sensitivity_is_set_shown_and_taken_back(client: TestClient) -> None:
    url = "/api/v1/detection/sensitivity"
    assert client.put(url, json={"scope": "entity", "name": "service:*", "word": "calm"}).status_code == 200
    everything, services = client.get(url).json()["items"]
    assert (everything["word"], everything["series"], everything["alarms"]) == ("normal", 1, 1)
    assert (services["word"], services["target"], services["name"]) == ("calm", 0.01, "service:*")
    assert client.get(f"/api/v1/anomalies/{MARK}/why").json()["thresholds"]["scope_name"] == "service:*"
    assert client.delete(url, params={"scope": "entity", "name": "service:*"}).status_code == 200
    assert len(client.get(url).json()["items"]) == 1
    assert client.delete(url, params={"scope": "entity", "name": "service:*"}).status_code == 404
    for name in ("not a number", "9" * 60, "٣", str(1 << 64)):
        assert client.put(url, json={"scope": "series", "name": name, "word": "calm"}).status_code == 400


def test_who_changed_detection_is_in_the_audit_with_what(client: TestClient, program: Program) -> None:
    client.put("/api/v1/detection/sensitivity", json={"scope": "entity", "name": "service:*", "word": "keen"})
    client.post(f"/api/v1/anomalies/{MARK}/verdict", json={"verdict": "noise"})
    with program.records.reading() as session:
        rows = list(session.scalars(select(Audit).order_by(Audit.id)))
    assert [(row.action, row.target) for row in rows] == [("detection setting", "sensitivity"), ("detection verdict", MARK)]
    assert rows[0].detail | {"word": "keen", "name": "service:*"} == rows[0].detail
    assert (rows[0].detail["before"], rows[0].detail["after"]) == ({"word": ""}, {"word": "keen"})
    assert (rows[1].detail["before"], rows[1].detail["after"]) == ({"verdict": ""}, {"verdict": "noise"})


def test_what_others_call_anomalies_is_not_ours_and_breaks_nothing(client: TestClient, program: Program) -> None:
    odd = {"technique": "baseline", "series": "9" * 30, "since": "2026-01-01T00:00:00Z"}
    row = {"id": "odd", "time": START, "kind": "anomaly", "fingerprint": MARK, "source_id": "x", "status": "firing", "attributes": odd}
    program.store.append([batch_of("event", "webhook", now(), [row])], "odd")
    program.store.append([batch_of("event", "ninefold", now(), [row | {"id": "own", "fingerprint": "00000000000000ff"}])], "own")
    assert client.get(f"/api/v1/anomalies/{MARK}").json()["series"] == "7"
    assert client.get("/api/v1/anomalies/00000000000000ff/why").json()["thresholds"] is None


def test_a_candidate_is_set_promoted_and_discarded(client: TestClient) -> None:
    url = "/api/v1/detection/shadow"
    assert client.get(url).json() == {"comparison": None}
    assert client.post(f"{url}/promote").status_code == 404
    assert client.post(url, json={"sure": 6}).status_code == 200
    found = client.get(url).json()["comparison"]
    assert (found["candidate"], found["current"]["alarms"]) == ({"sure": 6.0}, 0)
    assert client.post(f"{url}/promote").status_code == 200
    assert client.get(url).json() == {"comparison": None}
    assert client.get(f"/api/v1/anomalies/{MARK}/why").json()["thresholds"]["base"] == 6.0
    (move,) = client.get("/api/v1/detection/learned").json()["items"]
    assert (move["scope"], move["after"]) == ("settings", {"sure": 6.0})
    client.post(url, json={"fatigue": 1})
    assert client.delete(url).status_code == 200
    assert client.get(url).json() == {"comparison": None}
