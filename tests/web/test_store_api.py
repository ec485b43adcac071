"""The API over the telemetry store: SQL, series with their band, sources, quarantine and its replay."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ninefold.ground.clock import SECOND, iso, now
from ninefold.ground.traffic import Traffic
from ninefold.model.signal import METRIC, TIME, Batch, batch_of, quarantine
from ninefold.normalise import Normaliser
from ninefold.store import points
from ninefold.store.records.access import ROLES, Tokens, create_token
from ninefold.store.records.base import Base, Records
from ninefold.store.telemetry import Telemetry
from ninefold.web import problems
from ninefold.web.api import query, series, sources

STEP = 15 * SECOND
COUNT = 5760
END = now() // (60 * SECOND) * 60 * SECOND
GAUGE, COUNTER = 2**63 + 77, 12
SPIKE = 5000


def metric(identity: int, values: np.ndarray) -> Batch:
    times = END - np.arange(COUNT, dtype=np.int64)[::-1] * STEP
    columns = [pa.array(np.full(COUNT, identity, np.uint64)), pa.array(times).cast(TIME), pa.array(values)]
    return Batch("metric", "prometheus", END, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def about(identity: int, name: str, kind: str, unit: str, entity: str, attributes: dict[str, str]) -> dict[str, object]:
    return {"series": identity, "name": name, "kind": kind, "unit": unit, "entity": entity, "attributes": attributes, "seen": END}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    store = Telemetry(f"chdb://{tmp_path_factory.mktemp('api') / 'store'}")
    store.open()
    rng = np.random.default_rng(3)
    gauge = np.round(50e6 + rng.normal(0, 1e6, COUNT))
    gauge[SPIKE : SPIKE + 12] = 400e6
    counter = np.cumsum(rng.poisson(30, COUNT)).astype(float)
    store.append(
        [
            batch_of(
                "series", "prometheus", END,
                [
                    about(GAUGE, "process_resident_memory_bytes", "gauge", "By", "service:shop/cart", {"job": "cart", "zone": "Zürich"}),
                    about(COUNTER, "http_requests_total", "counter", "1", "service:shop/front", {"job": "front"}),
                ],
            ),
            metric(GAUGE, gauge),
            metric(COUNTER, counter),
            batch_of("event", "ci", END, [
                {"id": "d1", "time": END - 3600 * SECOND, "kind": "deployment", "title": "cart 1.2.3", "entity": "service:shop/cart"},
                {"id": "a1", "time": END - 3600 * SECOND, "kind": "alert", "title": "not a change"},
            ]),
        ],
        "fill",
    )  # fmt: skip
    yield store
    store.close()


class Program(SimpleNamespace):
    """The parts of the App that these handlers use, with a front door that keeps what passes it."""

    async def emit(self, batches: Sequence[Batch], kind: str = "push") -> None:
        self.emitted += batches


@pytest.fixture
def program(store: Telemetry, tmp_path: Path) -> Iterator[Program]:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(records.engine)
    yield Program(
        store=store, records=records, tokens=Tokens(records), traffic=Traffic(), normaliser=Normaliser({}), emitted=[],
        stewardship=SimpleNamespace(kept=dict),
    )  # fmt: skip
    records.close()


@pytest.fixture
def secrets(program: Program) -> dict[str, str]:
    with program.records.session() as session:
        return {role: create_token(session, role, role) for role in ROLES}


@pytest.fixture
def client(program: Program, secrets: dict[str, str]) -> TestClient:
    api = FastAPI()
    api.state.ninefold = program
    problems.install(api)
    for noun in (query, series, sources):
        api.include_router(noun.router, prefix="/api/v1")
    return TestClient(api, headers={"Authorization": f"Bearer {secrets['viewer']}"})


def test_sql_answers_with_types_and_says_when_rows_are_missing(client: TestClient) -> None:
    answer = client.post("/api/v1/query", json={"sql": "SELECT series, name FROM series ORDER BY name", "limit": 1}).json()
    assert answer["columns"] == [{"name": "series", "type": "UInt64"}, {"name": "name", "type": "LowCardinality(String)"}]
    assert answer["rows"] == [["12", "http_requests_total"]], "ids wider than 53 bits make the column text"
    assert answer["truncated"] is True
    assert answer["elapsed_s"] >= 0


def test_sql_as_csv_and_arrow(client: TestClient) -> None:
    question = {"sql": "SELECT name FROM series ORDER BY name"}
    as_csv = client.post("/api/v1/query", json=question, headers={"Accept": "text/csv"})
    assert as_csv.headers["content-type"].startswith("text/csv")
    assert list(csv.reader(io.StringIO(as_csv.text))) == [["name"], ["http_requests_total"], ["process_resident_memory_bytes"]]
    as_arrow = client.post("/api/v1/query", json=question, headers={"Accept": query.ARROW})
    assert pa.ipc.open_stream(as_arrow.content).read_all().num_rows == 2


@pytest.mark.parametrize(
    ("sql", "status"), [("DROP TABLE log", 403), ("SELECT * FROM system.tables", 403), ("SELECT", 400), ("SELECT nope", 400), ("", 422)]
)
def test_sql_that_may_not_run_is_a_problem(client: TestClient, sql: str, status: int) -> None:
    answer = client.post("/api/v1/query", json={"sql": sql})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "DB::Exception" not in answer.text


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [COUNTER, GAUGE]),
        ({"q": "memory"}, [GAUGE]),
        ({"q": "MEMORY cart"}, [GAUGE]),
        ({"q": "zürich"}, [GAUGE]),
        ({"q": "memory front"}, []),
        ({"q": "shop"}, [COUNTER, GAUGE]),
        ({"entity": "service:shop/front"}, [COUNTER]),
        ({"limit": 1}, [COUNTER]),
        ({"q": "%' OR 1=1 --"}, []),
    ],
)
def test_series_are_found_by_words(client: TestClient, asked: dict[str, str], found: list[int]) -> None:
    items = client.get("/api/v1/series", params=asked).json()["items"]
    assert [item["series"] for item in items] == [str(identity) for identity in found]


def test_points_have_their_band_extremes_findings_and_changes(client: TestClient) -> None:
    begin = END - 4 * 3600 * SECOND
    answer = client.get(f"/api/v1/series/{GAUGE}/points", params={"from": iso(begin), "to": iso(END), "points": 200}).json()
    assert (answer["series"], answer["unit"], answer["entity"]) == (str(GAUGE), "By", "service:shop/cart")
    columns = [answer[name] for name in ("time", "value", "lower", "upper", "centre")]
    assert {len(column) for column in columns} == {len(answer["time"])}
    assert 100 <= len(answer["time"]) <= 200
    assert (answer["samples"], answer["step_s"]) == (4 * 240 + 1, 15.0)
    assert answer["time"] == sorted(answer["time"])
    assert answer["time"][0] * SECOND == pytest.approx(begin)
    assert max(answer["value"]) == 400e6, "the spike survives"
    ordinary = [i for i, value in enumerate(answer["value"]) if value < 60e6]
    inside = [answer["lower"][i] <= answer["value"][i] <= answer["upper"][i] for i in ordinary if answer["lower"][i] is not None]
    assert len(inside) > 80
    assert np.mean(inside) > 0.9
    assert answer["changes"] == [{"time": iso(END - 3600 * SECOND), "title": "cart 1.2.3"}]
    spike = END - (COUNT - 1 - SPIKE) * STEP
    assert any(found["time"] <= iso(spike + 12 * STEP) and (found["until"] or "9") >= iso(spike) for found in answer["findings"])


def test_a_counter_is_drawn_as_its_rate(client: TestClient) -> None:
    answer = client.get(f"/api/v1/series/{COUNTER}/points", params={"from": iso(END - 3600 * SECOND)}).json()
    assert answer["unit"] == "/s"
    assert np.mean(answer["value"]) == pytest.approx(2.0, rel=0.1), "30 in 15 s"
    assert answer["samples"] == 241


def test_without_a_window_everything_stored_is_drawn(client: TestClient) -> None:
    answer = client.get(f"/api/v1/series/{GAUGE}/points", params={"points": 100}).json()
    assert answer["samples"] == COUNT
    assert len(answer["time"]) <= 100


def test_a_step_says_what_is_measured(client: TestClient) -> None:
    asked = {"from": iso(END - 1800 * SECOND), "step": 5}
    answer = client.get(f"/api/v1/series/{GAUGE}/points", params=asked).json()
    assert (answer["resolution"], answer["samples"], answer["step_s"]) == ("raw", 121, 15.0)
    assert len(answer["time"]) == 361
    assert answer["measured"] == [True, *([False, False, True] * 120)]
    assert None not in answer["value"]
    value, low, high = (answer[name] for name in ("value", "low", "high"))
    assert all(a <= b <= c for a, b, c in zip(low, value, high, strict=True))
    whole = client.get(f"/api/v1/series/{GAUGE}/points", params={**asked, "step": 300}).json()
    assert all(whole["measured"])
    assert len(whole["time"]) == 7
    too_many = client.get(f"/api/v1/series/{GAUGE}/points", params={"step": 1})
    assert (too_many.status_code, too_many.json()["where"]) == (400, "step")


def test_more_samples_than_can_be_judged_come_from_the_roll_ups(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points.read, "__kwdefaults__", {**(points.read.__kwdefaults__ or {}), "rows": 1000})
    answer = client.get(f"/api/v1/series/{GAUGE}/points", params={"points": 200}).json()
    assert (answer["resolution"], answer["step_s"]) == ("1h", 3600.0)
    assert answer["samples"] == COUNT
    assert max(answer["high"]) == 400e6, "the spike survives"
    counter = client.get(f"/api/v1/series/{COUNTER}/points").json()
    assert counter["resolution"] == "1h"
    assert np.mean(counter["value"][1:]) == pytest.approx(2.0, rel=0.1), "30 in 15 s"


def test_a_query_may_be_given_less_time(client: TestClient) -> None:
    slow = {"sql": "SELECT sum(cityHash64(number)) FROM numbers(100000000000)", "timeout_s": 0.3}
    for accept in ("application/json", "text/csv"):
        answer = client.post("/api/v1/query", json=slow, headers={"Accept": accept})
        assert answer.status_code == 403
        assert "takes too long" in answer.text
    assert client.post("/api/v1/query", json={"sql": "SELECT 1", "timeout_s": 1000}).status_code == 422


def test_an_empty_window_is_empty_and_an_unknown_series_is_not_found(client: TestClient) -> None:
    past = {"from": "2001-01-01T00:00:00Z", "to": "2001-01-02T00:00:00Z"}
    answer = client.get(f"/api/v1/series/{GAUGE}/points", params=past).json()
    assert (answer["time"], answer["samples"], answer["changes"]) == ([], 0, [])
    assert client.get("/api/v1/series/424242/points").status_code == 404
    assert client.get(f"/api/v1/series/{2**64}/points").status_code == 404
    assert client.get(f"/api/v1/series/{GAUGE}/points", params={"from": "yesterday"}).json()["where"] == "from"


def test_sources_show_what_flowed_and_what_waits(client: TestClient, program: Program) -> None:
    at = now()
    program.traffic.record(batch_of("log", "syslog-1", at, [{"time": at - 2 * SECOND, "body": "x"}] * 30))
    program.store.append([quarantine("syslog-1", at, "log", "rows.log", [("bad", "time", b"[]")])], f"q{at}")
    (item,) = client.get("/api/v1/sources").json()["items"]
    assert (item["name"], item["kind"], item["state"], item["quarantined"]) == ("syslog-1", "push", "flowing", 1)
    assert item["signals"]["log"]["rows"] == 30
    assert item["signals"]["log"]["rate_per_s"] > 0
    assert item["delay_p50_s"] == pytest.approx(2)


def test_quarantine_is_shown_and_replayed_once(client: TestClient, program: Program, secrets: dict[str, str]) -> None:
    at = now()
    good = b'{"title": "disk full", "host": "db1", "severity": "high"}'
    bad = [("the mapping was wrong", "title", good), ("not JSON", "0", b"\xff\x00\x01"), ("too long", "", "ä".encode() * 5000)]
    program.store.append([quarantine("hook", at, "event", "webhook:ops", bad)], f"w{at}")
    shown = client.get("/api/v1/quarantine", params={"source": "hook"}).json()
    assert shown["total"] == 3
    payloads = {item["reason"]: item["payload"] for item in shown["items"]}
    assert payloads["the mapping was wrong"] == good.decode()
    assert payloads["not JSON"] == "ff 00 01"
    assert set(payloads["too long"]) == {"ä"}
    assert len(payloads["too long"]) == 2048
    assert {item["state"] for item in shown["items"]} == {"waiting"}

    assert client.post("/api/v1/quarantine/replay", json={"source": "hook"}).status_code == 403, "a viewer may not"
    operator = {"Authorization": f"Bearer {secrets['operator']}"}
    answer = client.post("/api/v1/quarantine/replay", json={"source": "hook"}, headers=operator).json()
    assert answer == {"replayed": 3, "still_bad": 2}
    assert sum(batch.rows.num_rows for batch in program.emitted) == 3
    assert {item["state"] for item in client.get("/api/v1/quarantine", params={"source": "hook"}).json()["items"]} == {"replayed"}
    again = client.post("/api/v1/quarantine/replay", json={"source": "hook"}, headers=operator).json()
    assert again == {"replayed": 0, "still_bad": 0}


def test_one_record_is_replayed_by_its_id(client: TestClient, program: Program, secrets: dict[str, str]) -> None:
    at = now()
    batch = quarantine("two", at, "event", "webhook:ops", [("a", "", b'{"title": "x", "host": "h"}'), ("b", "", b"{}")])
    program.store.append([batch], f"t{at}")
    operator = {"Authorization": f"Bearer {secrets['operator']}"}
    wanted = {"ids": [batch.rows.column("id")[0].as_py()]}
    assert client.post("/api/v1/quarantine/replay", json=wanted, headers=operator).json() == {"replayed": 1, "still_bad": 0}
    states = {item["reason"]: item["state"] for item in client.get("/api/v1/quarantine", params={"source": "two"}).json()["items"]}
    assert states == {"a": "replayed", "b": "waiting"}
    both = {"ids": ["x"], "source": "two"}
    assert client.post("/api/v1/quarantine/replay", json=both, headers=operator).status_code == 400
