"""Forecasts, thresholds and change points over a real store: what runs full is told, ranked, kept and judged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ninefold.config import ForecastConfig, ThresholdConfig
from ninefold.foresight import Foresight
from ninefold.foresight.judging import judge
from ninefold.foresight.looking import View, look, windows
from ninefold.ground.clock import SECOND, iso, now, parse
from ninefold.ground.meter import Meter
from ninefold.model.signal import METRIC, TIME, Batch, batch_of
from ninefold.store.records.access import ROLES, Tokens, create_token
from ninefold.store.records.base import Base, Records
from ninefold.store.telemetry import Telemetry
from ninefold.web import problems
from ninefold.web.api import change_points, forecasts

HOUR = 3600 * SECOND
END = now() // HOUR * HOUR
COUNT = 20 * 24
DISK, FREE, USED, LIMIT, CALM, CERTIFICATE, COUNTER = range(101, 108)
HOST = "host:db1"


def metric(series: int, values: np.ndarray) -> Batch:
    times = END - np.arange(len(values), dtype=np.int64)[::-1] * HOUR
    columns = [pa.array(np.full(len(values), series, np.uint64)), pa.array(times).cast(TIME), pa.array(values.astype(float))]
    return Batch("metric", "prometheus", END, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def about(series: int, name: str, unit: str, kind: str = "gauge", **attributes: str) -> dict[str, object]:
    return {"series": series, "name": name, "kind": kind, "unit": unit, "entity": HOST, "attributes": attributes, "seen": END}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    store = Telemetry(f"chdb://{tmp_path_factory.mktemp('forecasts') / 'store'}")
    store.open()
    rng, hours = np.random.default_rng(5), np.arange(COUNT)
    noise = rng.normal(0, 0.1, COUNT)
    descriptions = [
        about(DISK, "system.filesystem.utilization", "1", mount="/"),
        about(FREE, "node_filesystem_avail_bytes", "By", mount="/data"),
        about(USED, "kubelet_volume_stats_used_bytes", "By", claim="pg"),
        about(LIMIT, "kubelet_volume_stats_capacity_bytes", "By", claim="pg"),
        about(CALM, "memory_used_percent", "%"),
        about(CERTIFICATE, "probe_ssl_earliest_cert_expiry", "s"),
        about(COUNTER, "http_requests_total", "1", "counter"),
    ]
    calm = 40 + 5 * np.sin(hours * 2 * np.pi / 24) + 5 * noise
    calm[240:] += 20
    store.append(
        [
            batch_of("series", "prometheus", END, descriptions),
            metric(DISK, 0.9 + (hours - COUNT) * 0.0005 + noise / 500),  # 0.1 left at 0.012 a day: 8.3 days
            metric(FREE, 1e9 * (48 - (hours - COUNT) + noise)),  # 2 days left
            metric(USED, 1e9 * (80 + (hours - COUNT) * 0.2 + noise)),  # 20 left at 4.8 a day: 4.2 days
            metric(LIMIT, np.full(COUNT, 100e9)),
            metric(CALM, calm),
            metric(CERTIFICATE, np.full(COUNT, END / SECOND + 5 * 86400)),
            metric(COUNTER, np.cumsum(rng.poisson(30, COUNT))),
        ],
        "fill",
    )
    yield store
    store.close()


@pytest.fixture
def foresight(store: Telemetry) -> Foresight:
    return Foresight(store, ForecastConfig(), dict, Meter())


@pytest.fixture
def client(store: Telemetry, foresight: Foresight, tmp_path: Path) -> Iterator[TestClient]:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(records.engine)
    with records.session() as session:
        secret = {role: create_token(session, role, role) for role in ROLES}["viewer"]
    api = FastAPI()
    api.state.ninefold = SimpleNamespace(store=store, records=records, tokens=Tokens(records), foresight=foresight)
    problems.install(api)
    for noun in (forecasts, change_points):
        api.include_router(noun.router, prefix="/api/v1")
    yield TestClient(api, headers={"Authorization": f"Bearer {secret}"})
    records.close()


def test_thresholds_are_found_and_ranked_by_the_time_they_are_met(store: Telemetry, foresight: Foresight, client: TestClient) -> None:
    at = now()
    batches, firing = foresight.once(at, {})
    store.append(batches, "round")
    assert set(firing) == {str(series) for series in (DISK, FREE, USED, CERTIFICATE)}
    answer = client.get("/api/v1/forecasts").json()
    assert [int(item["series"]) for item in answer["items"]] == [FREE, USED, CERTIFICATE, DISK]
    days = [(parse(item["breach"]["likely"]) - at) / SECOND / 86400 for item in answer["items"]]
    assert np.allclose(days, [2, 4.2, 5, 8.3], rtol=0.2)
    for item in answer["items"]:
        assert item["breach"]["earliest"] <= item["breach"]["likely"]
        assert item["breach"]["chance"] > 0.8
    assert "reaches 100 % in 8 days" in answer["items"][3]["title"]
    everything = client.get("/api/v1/forecasts", params={"all": True}).json()["items"]
    assert {int(item["series"]) for item in everything} == {DISK, FREE, USED, CERTIFICATE, CALM}
    (batch,) = batches
    rows = batch.rows.to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    assert {dict(row["attributes"])["reason"] for row in rows if row["kind"] == "anomaly"} == {"time-to-threshold"}
    again, same = foresight.once(at, firing)
    assert same == firing
    assert [row["kind"] for batch in again for row in batch.rows.to_pylist()] == ["forecast"] * 5, "what fires is told once"


def test_a_warning_ends_when_the_threshold_is_no_longer_near(foresight: Foresight) -> None:
    batches, firing = foresight.once(now(), {str(CALM): END})
    assert str(CALM) not in firing
    ended = [row for batch in batches for row in batch.rows.to_pylist() if row["kind"] == "anomaly" and row["status"] == "resolved"]
    assert [row["source_id"].endswith(f"-{END}") for row in ended] == [True]


def test_a_warning_ends_when_nobody_hears_of_its_series_any_more(foresight: Foresight) -> None:
    batches, firing = foresight.once(END + 4 * 86400 * SECOND, {str(DISK): END, "77": END})
    assert firing == {}
    ended = {row["title"].partition(" is ")[0]: row["status"] for batch in batches for row in batch.rows.to_pylist()}
    assert ended == {"system.filesystem.utilization of db1": "resolved", "series 77": "resolved"}


def test_one_series_that_cannot_be_forecast_does_not_end_the_round(foresight: Foresight, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **more: Any) -> View:
        if int(args[1]["series"]) == FREE:
            raise ZeroDivisionError("a defect")
        return look(*args, **more)

    monkeypatch.setattr("ninefold.foresight.look", fail)
    _, firing = foresight.once(now(), {str(FREE): END})
    assert set(firing) == {str(series) for series in (DISK, USED, CERTIFICATE, FREE)}, "one failure ends nothing"
    foresight.once(now(), firing)
    batches, firing = foresight.once(now(), firing)
    assert str(FREE) not in firing, "but nobody knows any more whether it is true"
    told = [row for batch in batches for row in batch.rows.to_pylist() if row["kind"] == "anomaly"]
    assert [(row["status"], "cannot be forecast" in row["title"]) for row in told] == [("resolved", True)]


def test_a_holiday_announced_long_ago_is_known_when_it_comes(store: Telemetry) -> None:
    day = 86400 * SECOND
    said = {"start": iso(END - 3600 * SECOND), "until": iso(END + day)}
    rows = [
        {"id": "ahead", "time": END - 30 * day, "kind": "holiday", "title": "New Year", "attributes": said},
        {"id": "past", "time": END - 30 * day, "kind": "holiday", "title": "over", "attributes": {"until": iso(END - 29 * day)}},
        {"id": "odd", "time": END, "kind": "holiday", "title": "no time", "attributes": {"until": "soon"}},
    ]
    store.append([batch_of("event", "calendar", END - 30 * day, rows)], "holidays")
    ((entity, window),) = windows(store, END - 14 * day)
    assert (entity, window.begin, window.label) == ("", parse(said["start"]), "holiday")


def test_hours_of_data_warn_of_no_weeks(store: Telemetry) -> None:
    """A disk that fills in 8 days: known for 20 days it is a warning, known for 30 hours it is none."""
    assert str(DISK) in Foresight(store, ForecastConfig(series=1), dict, Meter()).once(now(), {})[1]
    young = Foresight(store, ForecastConfig(series=1, history_days=1.25), dict, Meter()).once(now(), {})[1]
    assert str(DISK) not in young


def test_forecasts_of_rates_are_not_judged_by_the_height_of_their_counters(store: Telemetry) -> None:
    threshold = ThresholdConfig(metric="http_requests_total", above=1000)
    counting = Foresight(store, ForecastConfig(series=1, thresholds=[threshold]), dict, Meter())
    batches, _ = counting.once(END - 2 * 86400 * SECOND, {})
    told = [dict(row["attributes"]) for batch in batches for row in batch.rows.to_pylist() if row["kind"] == "forecast"]
    assert [row["metric"] for row in told] == ["http_requests_total"]
    store.append(batches, "of a rate")
    assert judge(store, now(), COUNTER) == []


def test_a_round_goes_through_the_front_door_and_a_restart_tells_nothing_twice(store: Telemetry) -> None:
    kept: dict[str, Any] = {}
    told: list[str] = []

    async def emit(batches: Sequence[Batch], keep: Mapping[str, Any] | None = None) -> None:
        told.extend(row["kind"] for batch in batches for row in batch.rows.to_pylist())
        kept.update(keep or {})
        raise asyncio.CancelledError

    for expected in (4, 0):
        told.clear()
        looking = Foresight(store, ForecastConfig(first_after_s=0), lambda: dict(kept), Meter())
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(looking.run(emit))
        assert (told.count("anomaly"), told.count("forecast")) == (expected, 5)


def test_one_series_ahead_with_its_threshold(client: TestClient) -> None:
    answer = client.get(f"/api/v1/series/{USED}/forecast", params={"horizon_s": 6 * 86400, "history_s": 20 * 86400}).json()
    assert answer["threshold"] == 100e9
    assert answer["why"] == "its limit is reached"
    assert len(answer["time"]) == len(answer["centre"]) == len(answer["upper"]) >= 6 * 24
    for lower, inner, centre, upper in zip(answer["lower"], answer["lower_80"], answer["centre"], answer["upper"], strict=True):
        assert lower <= inner <= centre <= upper
    assert answer["breach"]["earliest"] <= answer["breach"]["likely"] <= answer["breach"]["latest"]
    rates = client.get(f"/api/v1/series/{COUNTER}/forecast", params={"horizon_s": 3600}).json()
    assert abs(rates["centre"][0] - 30 / 3600) < 0.003
    assert client.get("/api/v1/series/9/forecast").status_code == 404


def test_past_forecasts_are_judged_by_what_came(store: Telemetry, client: TestClient) -> None:
    only_the_disk = Foresight(store, ForecastConfig(series=1), dict, Meter())
    for back in (2, 3, 8, 9):
        batches, _ = only_the_disk.once(END - back * 86400 * SECOND, {})
        store.append(batches, f"past {back}")
    quality = {one["lead"]: one for one in client.get(f"/api/v1/series/{DISK}/forecast").json()["quality"]}
    assert quality["1d"]["judged"] == 4
    assert quality["1d"]["relative_error"] < 0.3, "a line is foretold far better than by its last value"
    assert quality["7d"]["judged"] == 2
    assert quality["1d"]["coverage_95"] >= 0.5
    overall = {one["lead"]: one for one in client.get("/api/v1/forecasts").json()["quality"]}
    assert overall["1d"]["judged"] >= 4


def test_change_points_of_a_series(client: TestClient) -> None:
    (change,) = client.get(f"/api/v1/series/{CALM}/change-points").json()["items"]
    assert change["kind"] == "level"
    assert parse(change["earliest"]) <= END - (COUNT - 1 - 240) * HOUR <= parse(change["latest"])
    assert change["size"] == pytest.approx(20, abs=1)
    assert client.get(f"/api/v1/series/{CALM}/change-points", params={"from": "yesterday"}).status_code == 400
