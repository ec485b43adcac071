"""The demo's script against a server that only captures: what is sent, in which order, and what is made of the answers."""

from __future__ import annotations

import asyncio
import io
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ninefold.demo import script
from ninefold.demo.recording import Recording
from ninefold.ground.clock import SECOND, iso, now, parse
from ninefold.ground.errors import Refused, Unavailable
from ninefold.sources import cloudevents

MINUTES = 14


class Capture:
    """A server that notes every request; `busy` first posts are answered 429, and one log record is said to be rejected."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, str, bytes]] = []
        self.tokens: set[str] = set()
        self.busy = 2
        self.status = 200
        self.blind = False
        self.incidents: list[dict[str, Any]] = []

    async def otlp(self, request: Request) -> Response:
        body = await request.body()
        self.tokens.add(request.headers["authorization"])
        if self.busy:
            self.busy -= 1
            return Response(status_code=429, headers={"Retry-After": "0"})
        self.posts.append((request.url.path, request.headers["content-type"], body))
        answer = ExportLogsServiceResponse()
        if request.url.path.endswith("logs") and sum(path.endswith("logs") for path, _, _ in self.posts) == 1:
            answer.partial_success.rejected_log_records = 1
        return Response(answer.SerializeToString(), self.status, media_type="application/x-protobuf")

    async def list(self, request: Request) -> Response:
        return JSONResponse({"items": self.incidents})

    async def one(self, request: Request) -> Response:
        return JSONResponse(next(item for item in self.incidents if item["id"] == request.path_params["id"]))

    async def truth(self, request: Request) -> Response:
        body = await request.body()
        self.posts.append((request.url.path, request.headers["content-type"], body))
        if self.blind:
            return Response(status_code=202)
        event = orjson.loads(body)
        number, moment = len(self.incidents) + 1, parse(event["time"])
        entities = ["service:other"] * (number % 3) + [event["subject"]]
        self.incidents.append({
            "id": f"INC-{number}", "title": f"incident {number}", "alerts": 5, "events": [{"time": iso(moment + 30 * SECOND)}],
            "opened": iso(moment + 30 * SECOND), "confidence": 0.8,
            "verdict": "determined", "cause": {"entity": entities[0]}, "candidates": [{"entity": entity} for entity in entities],
        })  # fmt: skip
        return Response(status_code=202)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                *(Route(f"/v1/{signal}", self.otlp, methods=["POST"]) for signal in ("traces", "logs", "metrics")),
                Route("/cloudevents", self.truth, methods=["POST"]),
                Route("/api/v1/incidents", self.list),
                Route("/api/v1/incidents/{id}", self.one),
                Route("/api/v1/summary", lambda _: JSONResponse({"alerts": 40, "incidents": 8, "noise_cut": 0.8})),
                Route("/api/v1/runs", lambda _: JSONResponse({"items": [{"status": "succeeded"}, {"status": "waiting"}]})),
            ]
        )


@pytest.fixture
def served() -> Iterator[tuple[Capture, str]]:
    capture = Capture()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(capture.app(), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield capture, f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(autouse=True)
def first_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Recording.requests
    monkeypatch.setattr(Recording, "requests", lambda self: itertools.islice(whole(self), MINUTES))
    monkeypatch.setattr(script, "_SETTLED_S", 0.2)


def test_the_play_and_its_summary(served: tuple[Capture, str]) -> None:
    capture, url = served
    told: list[tuple[str, float, float]] = []
    summary = asyncio.run(script.play(url, url, "secret", lambda *news: told.append(news)))
    assert capture.tokens == {"Bearer secret"}
    otlp = [(path, kind, body) for path, kind, body in capture.posts if path.startswith("/v1/")]
    assert {kind for _, kind, _ in otlp} == {"application/x-protobuf"}
    assert len(otlp) == MINUTES * 3 - 1, "the first minute has no metrics; a busy answer loses nothing"
    begins = [
        min(
            record.time_unix_nano
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs
            for record in resource.scope_logs[0].log_records
        )
        for path, _, body in otlp
        if path == "/v1/logs"
    ]
    assert begins == sorted(begins)
    assert summary.sent["traces"] > 50_000
    assert summary.rejected == 1
    assert [told[0][1], told[-1][1]] == [0, told[-1][2]]
    assert all(one[1] <= other[1] for one, other in itertools.pairwise(told))

    truths = [orjson.loads(body) for path, _, body in capture.posts if path == "/cloudevents"]
    assert [truth["subject"] for truth in truths[:2]] == ["service:ts-contacts-service", "service:ts-basic-service"]
    assert (summary.top1, summary.top3) == (2, 8)
    assert [outcome.rank for outcome in summary.outcomes] == [2, 3, 1, 2, 3, 1, 2, 3]
    assert summary.outcomes[2].incident == "INC-3"
    out = io.StringIO()
    script.report(summary, Console(file=out, width=160))
    text = out.getvalue()
    assert "True cause first for 2 of 8 faults, among the first three for 8." in text
    assert "40 alerts became 8 incidents (80% less to look at); workflow runs: 1 succeeded, 1 waiting." in text
    assert "1 records were rejected" in text


def test_a_fault_nobody_noticed_is_said_so(served: tuple[Capture, str], monkeypatch: pytest.MonkeyPatch) -> None:
    capture, url = served
    monkeypatch.setattr(Recording, "requests", lambda self: iter(()))
    capture.blind = True
    summary = asyncio.run(script.play(url, url, "secret", lambda *_: None))
    assert [outcome.incident for outcome in summary.outcomes] == [""] * 8
    out = io.StringIO()
    script.report(summary, Console(file=out, width=160))
    assert out.getvalue().count("not among the candidates") == 8


def test_a_refusal_ends_the_play_with_its_reason(served: tuple[Capture, str], monkeypatch: pytest.MonkeyPatch) -> None:
    capture, url = served
    capture.status = 415
    with pytest.raises(Refused, match="415"):
        asyncio.run(script.play(url, url, "secret", lambda *_: None))
    capture.status = 503
    monkeypatch.setattr(script, "_GIVE_UP_S", 0.1)
    with pytest.raises(Unavailable, match="503"):
        asyncio.run(script.play(url, url, "secret", lambda *_: None))


def test_a_truth_reads_as_an_event_of_kind_truth() -> None:
    fault = Recording(now()).faults()[0]
    headers = {"content-type": "application/cloudevents+json"}
    (batch,) = cloudevents.accept(headers, script.truth(fault), "trainticket", now()).batches
    event = cloudevents.to_event(batch.rows.column("payload")[0].as_py(), now())
    assert (event["kind"], event["entity"], event["time"]) == ("truth", "service:ts-contacts-service", fault.time)
    assert event["title"] == "network_delay injected into ts-contacts-service"
    assert (event["attributes"]["fault_type"], event["attributes"]["pod"]) == ("network_delay", fault.pod)


def test_settings_keep_to_their_folder(tmp_path: Path) -> None:
    settings = script.settings(tmp_path, 0, 0, "n9_test")
    assert settings.data == tmp_path
    assert settings.server.host == "127.0.0.1"
