"""The demo's script: play the recording through the HTTP endpoints, then compare what Ninefold found with what was true."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from rich.console import Console
from rich.table import Table

from ninefold.config import Config, CorrelationConfig, ServerConfig, WebhookConfig, WorkflowsConfig
from ninefold.demo import automation
from ninefold.demo.recording import Fault, Recording, Request
from ninefold.ground.clock import SECOND, iso, now, parse
from ninefold.ground.errors import Refused, Unavailable

Progress = Callable[[str, float, float], None]
"""Told what is going on, how much is done and out of how much."""

_RESPONSES: dict[str, tuple[Any, str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}
_RECORDS = {"traces": "spans", "logs": "log lines", "metrics": "metric points"}
_BUSY = (429, 502, 503, 504)
_GIVE_UP_S = 60.0
_ANALYSIS_S = 60.0
_SETTLED_S = 8.0
_AROUND_NS = (60 * SECOND, 300 * SECOND)
"""Alerts from a minute before to five minutes after an injection are taken as its own."""


@dataclass
class Outcome:
    """What Ninefold said about one true fault. `rank` is the place of the true entity among the candidates, 0 when it is not there."""

    fault: Fault
    incident: str = ""
    title: str = ""
    verdict: str = ""
    cause: str = ""
    confidence: float | None = None
    rank: int = 0


@dataclass
class Summary:
    """What was played and what came of it."""

    outcomes: list[Outcome]
    sent: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    """The API's own summary after the play."""
    runs: Counter[str] = field(default_factory=Counter)
    """Workflow runs by status."""
    seconds: float = 0.0

    @property
    def top1(self) -> int:
        """Faults whose true entity is the probable cause."""
        return sum(outcome.rank == 1 for outcome in self.outcomes)

    @property
    def top3(self) -> int:
        """Faults whose true entity is among the first three candidates."""
        return sum(1 <= outcome.rank <= 3 for outcome in self.outcomes)


def settings(folder: Path, port: int, otlp_port: int, token: str) -> Config:
    """The configuration of the demo: defaults, its own data folder, its workflows and what they may do.

    Args:
        folder: where everything is kept.
        port: of console and API, which the workflows read, and to which their notes are sent.
        otlp_port: of OTLP/HTTP.
        token: what the workflows show at the API's door.
    """
    return Config(
        data=folder,
        server=ServerConfig(port=port, otlp_port=otlp_port),
        sources={"syslog": {"type": "syslog", "enabled": False}, "otlp_grpc": {"type": "otlp_grpc", "enabled": False}},
        webhooks={"notes": WebhookConfig.model_validate(automation.NOTES)},
        connectors=automation.connectors(f"http://127.0.0.1:{port}", token),
        # The recording injects a fault every seven minutes or so, often into the same service: two quiet minutes end an incident.
        correlation=CorrelationConfig(resolve_after_s=120),
        workflows=WorkflowsConfig(path=Path(str(files("ninefold.demo") / "workflows"))),
    )


async def play(base_url: str, otlp_url: str, token: str, progress: Progress) -> Summary:
    """Send the whole recording, minute by minute in time order, then the true faults, and wait for what Ninefold makes of it.

    Args:
        base_url: where console and API are.
        otlp_url: where OTLP/HTTP is received.
        token: an API token that may deliver data and read.
        progress: told of every minute played and of the waiting.

    Raises:
        Refused: the server does not take the data.
        Unavailable: the server was busy or gone for a minute.
    """
    started = monotonic()
    recording = await asyncio.to_thread(Recording, now())
    minutes = recording.requests()
    summary = Summary([Outcome(fault) for fault in recording.faults()])
    total = recording.steps + _ANALYSIS_S / 2
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}", "X-Ninefold-Source": "trainticket"}, timeout=60) as client:
        minute = 0
        while (requests := await asyncio.to_thread(next, minutes, None)) is not None:
            progress(f"Playing minute {minute + 1} of {recording.steps}", minute, total)
            for rejected in await asyncio.gather(*(_export(client, otlp_url, request) for request in requests)):
                summary.rejected += rejected
            summary.sent.update({request.signal: request.records for request in requests})
            minute += 1
        for outcome in summary.outcomes:
            await _post(client, f"{base_url}/cloudevents", truth(outcome.fault), "application/cloudevents+json")
        await _wait(client, base_url, summary, lambda share: progress("Waiting for the analysis", minute + share * _ANALYSIS_S / 2, total))
    progress("Played", total, total)
    summary.seconds = monotonic() - started
    return summary


def truth(fault: Fault) -> bytes:
    """The CloudEvent (structured mode) that tells the console what really happened; it is shown beside the cause, never used to find it."""
    data = {"title": f"{fault.kind} injected into {fault.service}", "fault_type": fault.kind, "pod": fault.pod, "service": fault.service}
    event = {
        "specversion": "1.0", "id": f"2023-01-30/{fault.number}/{fault.time}", "source": "https://github.com/IntelligentDDS/Nezha",
        "type": "ninefold.truth", "subject": f"service:{fault.service}", "time": iso(fault.time), "data": data,
    }  # fmt: skip
    return orjson.dumps(event)


async def _export(client: httpx.AsyncClient, url: str, request: Request) -> int:
    """Send one OTLP request; returns how many of its records were rejected."""
    answer = await _post(client, f"{url}/v1/{request.signal}", request.body, "application/x-protobuf")
    message, name = _RESPONSES[request.signal]
    return int(getattr(message.FromString(answer).partial_success, name))


async def _post(client: httpx.AsyncClient, url: str, body: bytes, content_type: str) -> bytes:
    """Raises: Refused: an answer that repeating will not change. Unavailable: busy or gone for too long."""
    deadline = monotonic() + _GIVE_UP_S
    while True:
        try:
            answer = await client.post(url, content=body, headers={"Content-Type": content_type})
        except httpx.TransportError as error:
            problem, wait_s = f"{type(error).__name__}: {error}", 1.0
        else:
            if answer.is_success:
                return answer.content
            problem, wait_s = f"{answer.status_code} {answer.text[:200]}", float(answer.headers.get("retry-after", 1))
            if answer.status_code not in _BUSY:
                raise Refused(f"{url} does not take the recording: {problem}")
        if monotonic() + wait_s > deadline:
            raise Unavailable(f"{url} did not take the recording for {_GIVE_UP_S:.0f} s: {problem}; look at the server's log")
        await asyncio.sleep(wait_s)


async def _get(client: httpx.AsyncClient, url: str, **params: str) -> Any:
    answer = await client.get(url, params=params)
    answer.raise_for_status()
    return answer.json()


async def _wait(client: httpx.AsyncClient, base_url: str, summary: Summary, told: Callable[[float], None]) -> None:
    """Until every fault has an analysed incident and nothing has changed for a while, at most a minute."""
    started = changed = monotonic()
    before: Any = None
    while (elapsed := monotonic() - started) < _ANALYSIS_S:
        told(elapsed / _ANALYSIS_S)
        incidents = (await _get(client, f"{base_url}/api/v1/incidents", status="all", limit="1000"))["items"]
        summary.figures = await _get(client, f"{base_url}/api/v1/summary")
        runs = (await _get(client, f"{base_url}/api/v1/runs", limit="1000"))["items"]
        summary.runs = Counter(run["status"] for run in runs)
        state = ([(item["id"], item["alerts"], item["cause"], item["confidence"]) for item in incidents], summary.runs)
        if state != before:
            before, changed = state, monotonic()
            details = [await _get(client, f"{base_url}/api/v1/incidents/{item['id']}") for item in incidents]
            for outcome in summary.outcomes:
                _judge(outcome, details)
        settled = monotonic() - changed
        if (settled > _SETTLED_S and all(outcome.verdict for outcome in summary.outcomes)) or settled > 3 * _SETTLED_S:
            return
        await asyncio.sleep(1.0)


def _judge(outcome: Outcome, incidents: Sequence[Mapping[str, Any]]) -> None:
    """Note what the incident about the fault says: the one with the most alerts in the minutes around the injection."""
    fault = outcome.fault
    early, late = fault.time - _AROUND_NS[0], fault.time + _AROUND_NS[1]
    alerts = [sum(early <= parse(event["time"]) <= late for event in incident["events"]) for incident in incidents]
    if not any(alerts):
        return
    incident = incidents[alerts.index(max(alerts))]
    names = [candidate["entity"] for candidate in incident["candidates"]]
    outcome.incident, outcome.title, outcome.verdict = incident["id"], incident["title"], incident["verdict"]
    outcome.cause = (incident["cause"] or {}).get("entity", "")
    outcome.confidence = incident["confidence"]
    outcome.rank = next((place for place, name in enumerate(names, 1) if _same(name, fault)), 0)


def _same(entity: str, fault: Fault) -> bool:
    return entity in (f"service:{fault.service}", f"pod:{fault.pod}")


def report(summary: Summary, console: Console) -> None:
    """Print what was found beside what was true."""
    table = Table(title="Probable cause beside the true fault of the data set")
    for name in ("true fault", "incident", "probable cause", "confidence", "true entity ranks"):
        table.add_column(name)
    for outcome in summary.outcomes:
        fault = outcome.fault
        table.add_row(
            f"{fault.kind} in {fault.service}",
            outcome.incident or "none",
            outcome.cause.removeprefix("service:") or outcome.verdict or "-",
            "" if outcome.confidence is None else f"{outcome.confidence:.0%}",
            str(outcome.rank) if outcome.rank else "not among the candidates",
        )
    console.print(table)
    total = len(summary.outcomes)
    console.print(f"True cause first for {summary.top1} of {total} faults, among the first three for {summary.top3}.")
    console.print(_figures(summary.figures, summary.runs))
    sent = ", ".join(f"{count:,} {_RECORDS[signal]}" for signal, count in summary.sent.items())
    console.print(
        f"Played {sent} in {summary.seconds:.0f} s." + (f" {summary.rejected} records were rejected." if summary.rejected else "")
    )


def _figures(figures: Mapping[str, Any], runs: Mapping[str, int]) -> str:
    cut = figures.get("noise_cut")
    done = ", ".join(f"{count} {status}" for status, count in sorted(runs.items())) or "none"
    noise = "" if cut is None else f" ({cut:.0%} less to look at)"
    return f"{figures.get('alerts', 0)} alerts became {figures.get('incidents', 0)} incidents{noise}; workflow runs: {done}."
