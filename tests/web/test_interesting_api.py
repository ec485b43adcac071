"""The API over the ranking: what is interesting now, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ninefold.analytics.metrics.baseline import Baseline
from ninefold.ground.clock import MINUTE, SECOND, iso
from ninefold.model.signal import METRIC, Batch, batch_of
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Base, Records
from ninefold.web import problems
from ninefold.web.api import interesting

START = 1_700_000_000 * SECOND // MINUTE * MINUTE
SIZE = 400


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("interesting")
    records = Records(f"sqlite:///{folder}/records.db")
    Base.metadata.create_all(records.engine)
    with records.session() as session:
        secret = create_token(session, "someone", "viewer")
    technique = Baseline()
    rows = [
        {"series": i, "name": "latency", "unit": "ms", "kind": "gauge", "entity": f"service:{name}", "source": "test"}
        for i, name in ((1, "shop"), (2, "cart"))
    ]
    technique.process(batch_of("series", "test", START, rows))
    values = 100 + 5 * np.random.default_rng(1).normal(size=(SIZE, 2))
    values[-2:, 1] = 290
    times = np.repeat(START + np.arange(SIZE) * MINUTE, 2)
    columns = [pa.array([1, 2] * SIZE, pa.uint64()), pa.array(times, METRIC.field("time").type), pa.array(values.reshape(-1))]
    technique.process(Batch("metric", "test", int(times[-1]), pa.RecordBatch.from_arrays(columns, schema=METRIC)))
    runner = SimpleNamespace(ask=lambda name, question: question({"baseline": technique}[name]))
    api = FastAPI()
    api.state.ninefold = SimpleNamespace(records=records, tokens=Tokens(records), runner=runner)
    problems.install(api)
    api.include_router(interesting.router, prefix="/api/v1")
    yield TestClient(api, headers={"Authorization": f"Bearer {secret}"})
    records.close()


def test_the_strangest_series_comes_first_with_its_band_and_in_words(client: TestClient) -> None:
    first = client.get("/api/v1/interesting").json()["items"][0]
    assert (first["series"], first["name"], first["entity"], first["unit"], first["value"]) == ("2", "latency", "service:cart", "ms", 290)
    assert first["lower"] < first["expected"] < first["upper"] < 290
    assert iso(START) < first["since"] <= iso(START + (SIZE - 2) * MINUTE)
    assert first["time"] == iso(START + (SIZE - 1) * MINUTE)
    assert "level" in first["kinds"]
    assert "latency of cart is 2.9x its usual" in first["text"]
    assert first["deviation"]


def test_an_entity_and_a_limit(client: TestClient) -> None:
    assert [row["series"] for row in client.get("/api/v1/interesting", params={"limit": 1}).json()["items"]] == ["2"]
    assert "2" not in [row["series"] for row in client.get("/api/v1/interesting", params={"entity": "service:shop"}).json()["items"]]
    assert client.get("/api/v1/interesting", params={"limit": 0}).status_code == 422
