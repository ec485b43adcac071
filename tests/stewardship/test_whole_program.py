"""A source that falls silent, followed through the whole program: event, record with its radius, notice, cool-down, recovery; and what a
source of five minutes looks like by the minute, through the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_drifts import Administrators

from ninefold.app import App
from ninefold.config import Config
from ninefold.ground.clock import SECOND, iso, now
from ninefold.model.signal import Batch, batch_of
from ninefold.stewardship import drifts
from ninefold.store.records.access import create_token
from ninefold.web.server import build

LEARNED, QUIET = 4500, 300
"""Seconds in which the source delivers every 30 s, and in which it does not."""


def line(source: str, at: int) -> Batch:
    return batch_of("log", source, at, [{"time": at - SECOND, "body": "done", "severity_number": 9, "pattern": 7}])


def gauge(at: int) -> Batch:
    return batch_of("metric", "meter", at, [{"series": 5, "time": at, "value": at / SECOND % 7}])


def hours(first: int, start: int, seconds: int, *sources: str) -> list[Batch]:
    """Batches of some sources every 30 s, and a point of a meter every 5 min; `first` s after the start."""
    times = [start + second * SECOND for second in range(first, first + seconds, 30)]
    return [
        batch for at in times for batch in (*(line(source, at) for source in sources), *([gauge(at)] if at % (300 * SECOND) == 0 else []))
    ]


async def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.02)


async def played(folder: Path, administrators: Administrators) -> None:
    app = App(Config.model_validate({"data": folder}))
    app.sources.clear()  # no ports
    app.connectors["team"] = administrators
    start = now() // (300 * SECOND) * 300 * SECOND + 300 * SECOND  # ahead of the program's own metrics, which would move the clock
    async with app:
        about = {"name": "load", "kind": "gauge", "entity": "host:h1", "seen": start}
        told = [batch_of("series", name, start, [{**about, "series": number}]) for name, number in (("meter", 5), ("shop", 6))]
        await app.emit([*told, *hours(0, start, LEARNED, "shop", "other")])
        await app.emit(hours(LEARNED, start, QUIET, "other"))
        await until(lambda: administrators.of("shop"), "the notice")
        (drift,) = app.stewardship.drifts.history("shop")
        (said,) = administrators.of("shop")
        assert (said.title, drift["what"], drift["until"]) == ("Source shop: silence", "silence", None)
        assert said.body.startswith("shop has sent no lines for 2.5 min, usually every ")
        assert f", since {iso(start + (LEARNED - 30) * SECOND)}. It feeds 1 series with their detectors" in said.body
        assert (drift["radius"]["series"], drift["radius"]["entities"]) == (1, 1)
        await app.emit(hours(LEARNED + QUIET, start, 300, "shop", "other"))
        await until(lambda: len(administrators.of("shop")) == 2, "the recovery notice")
        await app.emit(hours(LEARNED + QUIET + 300, start, 300, "other"))
        await until(lambda: len(app.stewardship.drifts.history("shop")) == 2, "the second silence")
        assert await app.stewardship.drifts.tell() == 0
        assert [one.title for one in administrators.of("shop")] == ["Source shop: silence", "Source shop: silence is over"]
        assert [one["notice"] for one in app.stewardship.drifts.history("shop")] == ["waiting", "recovered"], "within the cool-down"
        await asyncio.to_thread(app.stewardship.keep_now)
        await coarse(app, start)


async def coarse(app: App, start: int) -> None:
    """Five minutes asked by the minute."""
    with app.records.session() as session:
        secret = create_token(session, "viewer", "viewer")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build(app)), base_url="http://test") as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        asked = {"from": iso(start), "to": iso(start + 3600 * SECOND), "step": "60"}
        drawn = (await client.get("/api/v1/series/5/points", params=asked)).json()
        steps = {step["number"]: step for step in (await client.get("/api/v1/roadmap")).json()["steps"]}
        found = (await client.get("/api/v1/sources/meter")).json()
    assert drawn["measured"][:11] == [True, *[False] * 4, True, *[False] * 4, True]
    value = drawn["value"]
    assert value[1] == pytest.approx(value[0] + (value[5] - value[0]) / 5), "a step between two points lies on their line"
    assert {figure["name"]: figure["value"] for figure in steps[1]["figures"]}["Collection interval"] == 300
    figures = {figure["name"]: figure["value"] for figure in steps[4]["figures"]}
    assert (figures["Finest granularity"], figures["Points measured, not missing"]) == (300, 100)
    assert found["freedom"]["frequency_s"] == pytest.approx(300, rel=0.1)
    assert found["streams"][0]["step_s"] == pytest.approx(300, rel=0.1)


def test_a_silence_and_five_minutes_through_the_whole_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drifts, "_EVERY_S", 0.05)
    monkeypatch.setattr("ninefold.app.compile_ahead", lambda: None)
    asyncio.run(played(tmp_path, Administrators()))
