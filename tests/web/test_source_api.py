"""The API of one source: what it delivers, how freely, its mapping edited, tried and applied; and the kinds of sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import yaml
from fastapi import FastAPI
from pydantic import Field, SecretStr
from starlette.testclient import TestClient

from ninefold import plugin
from ninefold.catalogue.watch import Episode, SourceWatch
from ninefold.config import WebhookConfig
from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import Unavailable
from ninefold.ground.meter import Meter
from ninefold.ground.traffic import Traffic
from ninefold.model.signal import Batch, batch_of
from ninefold.normalise import Normaliser
from ninefold.plugin import Reached, Source, Strict
from ninefold.sources.reading import raw_batch
from ninefold.stewardship import Stewardship, trying
from ninefold.store.records.access import ROLES, Tokens, create_token
from ninefold.store.records.base import Base, Records
from ninefold.store.telemetry import Telemetry
from ninefold.web import problems
from ninefold.web.api import sources

CONFIGURED = {"shop": WebhookConfig(kind="business", fields={"title": "what"})}


class Orders(Source):
    """Asks a shop."""

    kind, title, extraction, signals = "orders", "Orders of a shop", "poll", frozenset(("event",))

    class Config(Strict):
        """Where the shop is."""

        url: str = Field(description="Its address.")
        password: SecretStr = Field(SecretStr(""), description="Opens it.")
        interval_s: float = Field(60.0, gt=0, description="How often to ask.")

    async def check(self) -> Reached:
        """Shows two orders."""
        if "nobody" in self.config.url:
            raise Unavailable("nobody answers there")
        rows = [{"subject": "late", "token": "n9_" + "x" * 30, "at": 1_790_000_000 + i} for i in range(2)]
        times = [{"time": (1_790_000_000 + 20 * i) * SECOND, "title": "late"} for i in range(3)]
        raw = raw_batch("webhook:orders", self.name, now(), [orjson.dumps(row) for row in rows])
        return Reached("A shop with 2 orders.", [raw, batch_of("event", self.name, now(), times)])


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugin.plugins
    monkeypatch.setattr(trying, "plugins", lambda group: {**real(group), "orders": Orders})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    store = Telemetry(f"chdb://{tmp_path_factory.mktemp('source-api') / 'store'}")
    store.open()
    yield store
    store.close()


class Program(SimpleNamespace):
    """The parts of the App that these handlers use."""

    def deliver(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self.traffic.record(batch)
            for normal in self.normaliser.normalise(batch):
                self.stewardship.watch.process(normal)
                self.store.append([normal], f"{now()}")


@pytest.fixture
def program(store: Telemetry, tmp_path: Path) -> Iterator[Program]:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(records.engine)
    normaliser = Normaliser(CONFIGURED)
    traffic = Traffic()
    steward = Stewardship(
        SourceWatch(), store, records, normaliser, connectors={}, sources=[Orders("asked", Orders.Config(url="x"), plugin.Lent())],
        configured=CONFIGURED, workflows=[], cases={"Fold alerts": ("alerts",)}, meter=Meter(), traffic=traffic,
    )  # fmt: skip
    yield Program(store=store, records=records, tokens=Tokens(records), traffic=traffic, normaliser=normaliser, stewardship=steward)
    records.close()


@pytest.fixture
def clients(program: Program) -> dict[str, TestClient]:
    with program.records.session() as session:
        secrets = {role: create_token(session, role, role) for role in ROLES}
    api = FastAPI()
    api.state.ninefold = program
    problems.install(api)
    api.include_router(sources.router, prefix="/api/v1")
    return {role: TestClient(api, headers={"Authorization": f"Bearer {secret}"}) for role, secret in secrets.items()}


def orders(count: int, at: int, **more: Any) -> Batch:
    rows = [{"id": i, "what": f"order {i} failed", "level": "critical", "card": {"token": "secret-1"}, **more} for i in range(count)]
    return raw_batch("webhook:shop", "shop", at, [orjson.dumps(row) for row in rows])


def test_a_source_in_depth(program: Program, clients: dict[str, TestClient]) -> None:
    start = now() - 600 * SECOND
    for i in range(30):
        row = {"time": start + i * 15 * SECOND - SECOND, "body": "x", "severity_number": 9, "pattern": 5, "attributes": {"ms": "3"}}
        program.deliver([batch_of("log", "app", start + i * 15 * SECOND, [row]), orders(2, start + i * 15 * SECOND)])
    answer = clients["viewer"].get("/api/v1/sources/app").json()
    assert answer["name"] == "app"
    assert answer["freedom"]["score"] > 50
    assert sum(term["most"] for term in answer["freedom"]["terms"]) == 100
    (stream,) = answer["streams"]
    assert (stream["signal"], stream["rows"], stream["regular"], stream["variety"]) == ("log", 30, False, 1)
    assert stream["silent_after_s"] is None, "within its first hour nobody can tell"
    (model,) = answer["models"]
    assert {field["path"]: field["type"] for field in model["fields"]}["attributes.ms"] == "integer"
    assert model["learning"] is True
    assert (answer["drifting"], answer["drifts"], answer["mapping"]) == ([], [], "")
    assert answer["radius"]["use_cases"] == {}
    shop = clients["viewer"].get("/api/v1/sources/shop").json()
    assert shop["mapping"] == "shop"
    (model,) = shop["models"]
    fields = {field["path"]: field for field in model["fields"]}
    assert model["type"] == "business webhook:shop"
    assert fields["raw.level"]["examples"] == ["critical"]
    assert fields["raw.card.token"]["examples"] == ["•••"], "secrets are not shown"
    assert clients["viewer"].get("/api/v1/sources/nobody").status_code == 404
    assert clients["ingest"].get("/api/v1/sources/app").status_code == 403


def test_a_mapping_is_edited_tried_and_applied(program: Program, clients: dict[str, TestClient]) -> None:
    at = now() - 60 * SECOND
    program.deliver([orders(3, at, batch="edit")])
    viewer, operator = clients["viewer"], clients["operator"]
    info = viewer.get("/api/v1/sources/shop/mapping").json()
    assert (info["name"], info["origin"], info["version"], info["mapping"]["kind"]) == ("shop", "configuration", 0, "business")
    assert yaml.safe_load(info["yaml"]) == info["mapping"]
    assert {item["target"]: item["path"] for item in info["suggestions"]}["severity"] == "level"
    table = {"kind": "alert", "fields": {"title": "what", "severity": "level", "entity": "'service:shop'"}}
    tried = viewer.post("/api/v1/sources/shop/mapping/preview", json={"mapping": table, "count": 3}).json()
    assert (len(tried["items"]), tried["changed"], tried["failed"]) == (3, 3, 0)
    assert "entity" in tried["items"][0]["changed"]
    assert viewer.put("/api/v1/sources/shop/mapping", json={"mapping": table}).status_code == 403
    saved = operator.put("/api/v1/sources/shop/mapping", json={"yaml": yaml.safe_dump(table), "note": "they are alerts"}).json()
    assert (saved["origin"], saved["version"], saved["versions"][0]["note"], saved["versions"][0]["author"]) == (
        "saved", 1, "they are alerts", "operator",
    )  # fmt: skip
    done = operator.post("/api/v1/sources/shop/mapping/replay", json={"from": "2020-01-01T00:00:00Z", "source": "shop"}).json()
    assert done["read"] == done["replaced"] >= 3
    sql = "SELECT DISTINCT kind, entity, attributes['ninefold.mapping'] AS v FROM event WHERE source = 'shop'"
    assert program.store.query(sql).to_pylist() == [{"kind": "alert", "entity": "service:shop", "v": "shop v1"}]


@pytest.mark.parametrize(
    ("body", "said"),
    [({"mapping": {"nope": 1}}, "nope"), ({"yaml": "a: ["}, "not YAML"), ({}, "table"), ({"yaml": "[1]"}, "table")],
)  # fmt: skip
def test_a_mapping_that_is_none_is_refused(clients: dict[str, TestClient], body: dict[str, Any], said: str) -> None:
    answer = clients["operator"].put("/api/v1/sources/shop/mapping", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


def test_times_of_a_replay_are_checked(clients: dict[str, TestClient]) -> None:
    answer = clients["operator"].post("/api/v1/sources/shop/mapping/replay", json={"from": "yesterday"})
    assert answer.status_code == 400
    assert "not a time" in answer.json()["detail"]


def test_kinds_are_described_and_can_be_tried(clients: dict[str, TestClient]) -> None:
    items = {item["kind"]: item for item in clients["viewer"].get("/api/v1/source-kinds").json()["items"]}
    assert (items["orders"]["title"], items["orders"]["extraction"]) == ("Orders of a shop", "poll")
    assert items["orders"]["schema"]["properties"]["password"]["format"] == "password"
    assert items["otlp"]["docs"]
    admin = clients["admin"]
    assert clients["operator"].post("/api/v1/source-kinds/orders/check", json={"settings": {}}).status_code == 403
    answer = admin.post("/api/v1/source-kinds/orders/check", json={"settings": {"url": "http://shop", "password": "open sesame"}}).json()
    assert answer["said"] == "A shop with 2 orders."
    assert [sample["signal"] for sample in answer["samples"]] == ["raw", "event"]
    assert "n9_x" not in orjson.dumps(answer).decode()
    assert {item["target"]: item["path"] for item in answer["suggestions"]}["title"] == "subject"
    assert (answer["cadence"], answer["settings"]) == (
        "Its records are 20 s apart: asking every 10 s sees each one soon.", {"interval_s": 10},
    )  # fmt: skip
    wrong = admin.post("/api/v1/source-kinds/orders/check", json={"settings": {"url": 1, "password": "open sesame"}})
    assert wrong.status_code == 400
    assert "sesame" not in wrong.text
    assert admin.post("/api/v1/source-kinds/orders/check", json={"settings": {"url": "http://nobody"}}).status_code == 503
    assert admin.post("/api/v1/source-kinds/nothing/check", json={}).status_code == 404


def test_a_name_may_hold_slashes_and_spaces(program: Program, clients: dict[str, TestClient]) -> None:
    rows = [orjson.dumps({"id": i, "what": f"order {i}"}) for i in range(3)]
    program.deliver([raw_batch("webhook:shop", "a/b c", now() - 60 * SECOND, rows)])
    path = "/api/v1/sources/a%2Fb%20c"
    assert clients["viewer"].get(path).json()["name"] == "a/b c"
    assert clients["viewer"].get(f"{path}/mapping").json()["name"] == "shop"
    given = {"mapping": {"fields": {"title": "what"}}}
    assert len(clients["viewer"].post(f"{path}/mapping/preview", json=given).json()["items"]) >= 3
    assert clients["operator"].put(f"{path}/mapping", json=given).json()["version"] == 1
    done = clients["operator"].post(f"{path}/mapping/replay", json={"source": "a/b c"}).json()
    assert (done["read"], done["unreadable"]) == (3, 0)


def test_the_list_says_how_free_a_source_is_and_whether_it_drifts(program: Program, clients: dict[str, TestClient]) -> None:
    """As last kept: nothing is measured for a request."""
    row = {"time": now(), "body": "x"}
    program.deliver([batch_of("log", "app", now(), [row])])

    def listed() -> dict[str, Any]:
        (item,) = clients["viewer"].get("/api/v1/sources").json()["items"]
        return {key: item[key] for key in ("name", "score", "drifting")}

    assert listed() == {"name": "app", "score": None, "drifting": 0}
    steward: Stewardship = program.stewardship
    steward.watch._episodes["app", "log", "lag"] = Episode("app", "log", "lag", now(), fired=True)
    steward.keep_now()
    kept = steward.kept()["app"]["score"]
    assert kept > 50
    assert listed() == {"name": "app", "score": kept, "drifting": 1}
    steward.watch.restore(b"")
    steward.keep_now()
    assert listed() == {"name": "app", "score": kept, "drifting": 0}, "what the watch has forgotten does not drift"
