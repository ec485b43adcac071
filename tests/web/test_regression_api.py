"""Regression over the API: fitted to stored series, saved, told to the technique through the front door, removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from ninefold.analytics.metrics.regressing import Regressions
from ninefold.analytics.traces.operations import Operations
from ninefold.ground.clock import MINUTE, SECOND, iso
from ninefold.model.signal import METRIC, TIME, Batch, batch_of
from ninefold.sources.own import OwnEvents
from ninefold.store.records.access import ROLES, Tokens, create_token
from ninefold.store.records.base import Audit, Base, Records
from ninefold.store.telemetry import Telemetry
from ninefold.web import problems
from ninefold.web.api import operations, regression

START = 1_700_000_040 * SECOND
COUNT = 600
LATENCY, LOAD, ROWS, SPARSE = 2**63 + 5, 22, 33, 44


def points(series: int, times: np.ndarray, values: np.ndarray) -> Batch:
    columns = [pa.array(np.full(len(times), series, np.uint64)), pa.array(times).cast(TIME), pa.array(values.astype(float))]
    return Batch("metric", "prometheus", int(times[-1]), pa.RecordBatch.from_arrays(columns, schema=METRIC))


def about(series: int, name: str, kind: str, unit: str = "1") -> dict[str, Any]:
    return {"series": series, "name": name, "kind": kind, "unit": unit, "entity": "service:shop", "seen": START}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    store = Telemetry(f"chdb://{tmp_path_factory.mktemp('regression') / 'store'}", retention_days=dict.fromkeys(("metric",), 9999))
    store.open()
    rng = np.random.default_rng(4)
    times = START + np.arange(COUNT) * MINUTE
    load = 50 + 10 * np.sin(np.arange(COUNT) / 30) + rng.normal(0, 2, COUNT)
    rows = np.cumsum(60 * (5 + rng.normal(0, 1, COUNT)))
    rates = np.diff(rows, prepend=0) / 60
    latency = 20 + 2 * np.roll(load, 5) + 3 * rates + rng.normal(0, 1, COUNT)
    told = [about(LATENCY, "latency", "gauge", "ms"), about(LOAD, "load", "gauge"), about(ROWS, "rows_total", "counter"),
            about(SPARSE, "sparse", "gauge")]  # fmt: skip
    parts = [points(LATENCY, times, latency), points(LOAD, times, load), points(ROWS, times, rows), points(SPARSE, times[::30], load[::30])]
    store.append([batch_of("series", "prometheus", START, told), *parts], "fill")
    yield store
    store.close()


@pytest.fixture
def program(store: Telemetry, tmp_path: Path) -> Iterator[SimpleNamespace]:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(records.engine)
    techniques = {"regression": Regressions(), "operations": Operations()}
    runner = SimpleNamespace(ask=lambda name, question: question(techniques[name]))
    yield SimpleNamespace(store=store, records=records, tokens=Tokens(records), runner=runner, techniques=techniques)
    records.close()


@pytest.fixture
def client(program: SimpleNamespace) -> TestClient:
    api = FastAPI()
    api.state.ninefold = program
    problems.install(api)
    for noun in (regression, operations):
        api.include_router(noun.router, prefix="/api/v1")
    with program.records.session() as session:
        secrets = {role: create_token(session, role, role) for role in ROLES}
    client = TestClient(api, headers={"Authorization": f"Bearer {secrets['operator']}"})
    client.viewer = {"Authorization": f"Bearer {secrets['viewer']}"}  # type: ignore[attr-defined]
    return client


def ask(**more: Any) -> dict[str, Any]:
    end = START + (COUNT - 1) * MINUTE
    drivers = [{"series": str(LOAD), "lag_s": 300}, {"series": str(ROWS)}]
    return {"target": str(LATENCY), "drivers": drivers, "from": iso(START), "to": iso(end), **more}


@pytest.mark.parametrize("method", ["robust", "recursive"])
def test_what_made_a_series_is_found_again(client: TestClient, method: str) -> None:
    answer = client.post("/api/v1/regression", json=ask(method=method)).json()
    constant, load, rows = answer["coefficients"]
    assert (constant["name"], load["name"], rows["name"]) == ("constant", "load of shop, 300 s before", "rows_total of shop")
    assert load["lower"] < 2 < load["upper"]
    assert rows["lower"] < 3 < rows["upper"]
    assert load["upper"] - load["lower"] < 0.2
    assert load["effect"] > rows["effect"] > 0
    assert answer["explained"] > 0.95
    assert answer["out_of_time"]["model"] < 0.5 * answer["out_of_time"]["mean"]
    assert (answer["points"], answer["left_out"]) == (COUNT - 5, 5), "the first five minutes have no load before them"
    assert len(answer["time"]) == len(answer["value"]) == len(answer["fitted"]) == len(answer["residual"]) == COUNT - 5
    assert answer["alarms"] == []
    history = answer["history"]
    assert len(history["time"]) == len(history["values"]) == (500 if method == "recursive" else 0)
    assert any("left out" in word for word in answer["words"])


@pytest.mark.parametrize(
    ("more", "status", "word"),
    [
        ({"target": "7"}, 404, "no series"),
        ({"drivers": []}, 422, ""),
        ({"drivers": [{"series": str(SPARSE)}]}, 400, "were all series measured"),
        ({"step_s": 1}, 400, "ask for 1 to 5,000"),
        ({"from": "yesterday"}, 400, "is not a time"),
        ({"from": iso(START + COUNT * MINUTE)}, 400, "ask for 1 to"),
    ],
)
def test_what_cannot_be_fitted_is_said(client: TestClient, more: dict[str, Any], status: int, word: str) -> None:
    answer = client.post("/api/v1/regression", json=ask(**more))
    assert answer.status_code == status
    assert word in answer.text


def follow(program: SimpleNamespace) -> None:
    """What the program's own events and the journal do: changes of records become events, which techniques see."""
    own = OwnEvents(program.records.outbox, lambda: 0, lambda position: None)
    for batch in own._after(0)[1]:
        program.techniques["regression"].process(batch)


def test_a_saved_regression_is_told_watched_and_removed(client: TestClient, program: SimpleNamespace) -> None:
    wanted = {"name": "latency by load", "target": str(LATENCY), "drivers": [{"series": str(LOAD)}], "step_s": 60}
    assert client.post("/api/v1/regressions", json=wanted, headers=client.viewer).status_code == 403  # type: ignore[attr-defined]
    made = client.post("/api/v1/regressions", json=wanted).json()
    assert (made["state"], made["drivers"], made["series"]) == ("learning", ["load of shop"], str(LATENCY))
    follow(program)
    rng = np.random.default_rng(0)
    for i in range(80):
        load = float(rng.normal(50, 5))
        rows = [{"series": LOAD, "time": START + i * MINUTE, "value": load}]
        rows.append({"series": LATENCY, "time": START + i * MINUTE, "value": 2 * load + 7 + float(rng.normal())})
        program.techniques["regression"].process(batch_of("metric", "prometheus", START + i * MINUTE, rows))
    (now,) = client.get("/api/v1/regressions").json()["items"]
    assert (now["state"], now["points"]) == ("as explained", 78)
    assert now["coefficients"] == pytest.approx([7, 2], abs=3)
    steps = client.get(f"/api/v1/regressions/{made['id']}").json()
    assert len(steps["time"]) == len(steps["coefficients"]) == 78
    assert client.delete(f"/api/v1/regressions/{made['id']}").status_code == 204
    follow(program)
    assert client.get("/api/v1/regressions").json() == {"items": []}
    assert client.delete(f"/api/v1/regressions/{made['id']}").status_code == 404
    assert program.techniques["regression"].told() == {}
    with program.records.reading() as session:
        assert [row.action for row in session.scalars(select(Audit))] == ["regression saved", "regression removed"]


def test_operations_and_their_critical_path(client: TestClient, program: SimpleNamespace) -> None:
    technique = program.techniques["operations"]
    for minute in range(9):
        rows = []
        for trace in range(30):
            at = START + minute * MINUTE + trace * SECOND
            one = {"time": at, "trace_id": f"{minute:016x}{trace:016x}", "status": "ok"}
            rows += [
                {**one, "span_id": "01", "entity": "service:shop", "name": "GET /cart", "duration": 100_000_000},
                {**one, "span_id": "02", "parent_span_id": "01", "entity": "service:shop", "name": "call", "duration": 80_000_000},
                {**one, "span_id": "03", "parent_span_id": "02", "entity": "service:db", "name": "SELECT", "duration": 60_000_000,
                 "status": "error" if trace == 0 else "ok", "attributes": {"db.response.status_code": "42P01"}},
            ]  # fmt: skip
        technique.process(batch_of("span", "otlp", rows[-1]["time"], rows))
    items = client.get("/api/v1/operations").json()["items"]
    assert {(item["entity"], item["operation"]) for item in items} == {
        ("service:shop", "GET /cart"), ("service:shop", "call"), ("service:db", "SELECT"), ("service:db", "(on the way)")
    }  # fmt: skip
    (select_,) = [item for item in items if item["operation"] == "SELECT"]
    assert select_["calls_per_min"] == 30
    assert select_["p50_ms"] == pytest.approx(60, rel=0.05)
    assert select_["error_share"] == pytest.approx(1 / 30)
    assert select_["usual_error_share"] == pytest.approx(1 / 30, rel=0.1)
    assert [kind["kind"] for kind in select_["errors"]] == ["database 42P01"]
    assert select_["shifted_since"] is None
    path = client.get("/api/v1/operations/critical-path", params={"entity": "service:shop", "operation": "GET /cart"}).json()
    shares = {(part["entity"], part["in_transit"]): part["usual_share"] for part in path["contributors"]}
    assert shares == pytest.approx({("service:db", False): 0.6, ("service:db", True): 0.2, ("service:shop", False): 0.2})
    assert len(client.get("/api/v1/operations", params={"entity": "service:db"}).json()["items"]) == 2
    assert client.get("/api/v1/operations/critical-path", params={"entity": "x", "operation": "y"}).status_code == 404
