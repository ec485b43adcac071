"""The API over behaviour: an entity's metrics beside each other, and itself beside its siblings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ninefold.analytics.findings import described
from ninefold.analytics.metrics.peers import Peers
from ninefold.analytics.metrics.together import Together
from ninefold.ground.clock import MINUTE
from ninefold.model.signal import METRIC, Batch, batch_of
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Base, Records
from ninefold.web import problems
from ninefold.web.api import behaviour

START = 1_700_000_040 * 10**9


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("behaviour")
    records = Records(f"sqlite:///{folder}/records.db")
    Base.metadata.create_all(records.engine)
    with records.session() as session:
        secret = create_token(session, "someone", "viewer")
    techniques = {"together": Together(), "peers": Peers()}
    about = [described(name, "", "gauge", f"pod:shop/web-{pod}", {}, START) for pod in range(5) for name in ("cpu", "load", "rate")]
    ids, rng = pa.array([one["series"] for one in about], pa.uint64()), np.random.default_rng(1)
    for technique in techniques.values():
        technique.process(batch_of("series", "test", START, about))
    for minute in range(200):
        times = pa.array(np.full(15, START + minute * MINUTE), METRIC.field("time").type)
        values = pa.array(np.tile(rng.normal(50, 5) * np.array([1.0, 0.1, 7.0]), 5) * rng.normal(1, 0.02, 15))
        rows = pa.RecordBatch.from_arrays([ids, times, values], schema=METRIC)
        for technique in techniques.values():
            technique.process(Batch("metric", "test", START + minute * MINUTE, rows))
    runner = SimpleNamespace(ask=lambda name, question: question(techniques[name]))
    api = FastAPI()
    api.state.ninefold = SimpleNamespace(records=records, tokens=Tokens(records), runner=runner)
    problems.install(api)
    api.include_router(behaviour.router, prefix="/api/v1")
    yield TestClient(api, headers={"Authorization": f"Bearer {secret}"})
    records.close()


def test_both_views_of_an_entity_with_a_slash_in_its_name(client: TestClient) -> None:
    body = client.get("/api/v1/entities/pod:shop/web-3/behaviour").json()
    together, peers = body["together"], body["peers"]
    assert together["judged"]
    assert together["since"] is None
    assert {one["metric"] for one in together["metrics"]} == {"cpu", "load", "rate"}
    assert abs(sum(one["contribution"] for one in together["metrics"]) - 1) < 1e-6
    assert all(abs(one["value"] / one["usual"] - 1) < 0.3 for one in together["metrics"])
    assert peers["group"] == "pod:shop/web"
    assert [one["siblings"] for one in peers["metrics"]] == [4, 4, 4]


def test_an_unknown_entity_is_not_found(client: TestClient) -> None:
    answer = client.get("/api/v1/entities/pod:shop/nobody/behaviour")
    assert answer.status_code == 404
    assert "nobody" in answer.json()["detail"]
