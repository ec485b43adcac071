"""`ninefold incident`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ninefold.cli import show
from ninefold.cli.client import Client

app = typer.Typer(no_args_is_help=True, help="List, show and handle incidents.")
Note = Annotated[str, typer.Option("--note", "-m", help="Why; it stands on the timeline.")]


@app.command("list")
def list_incidents(
    status: Annotated[str, typer.Option(help="open, acknowledged, resolved or all.")] = "open",
    search: Annotated[str, typer.Option("--search", "-q", help="Text in title, entity or id.")] = "",
    limit: int = 50,
) -> None:
    """List incidents, those that need you first."""
    items = Client().get("incidents", status=status, q=search, limit=limit)["items"]
    for item in items:
        item["probable_cause"] = item["cause"]["entity"] if item.get("cause") else "undetermined"
    show.rows(items, ["id", "severity", "status", "title", "probable_cause", "confidence", "alerts", "opened"])


@app.command("show")
def show_incident(incident: str) -> None:
    """Show one incident: its probable cause with the evidence, and what was folded into it."""
    item = Client().get(f"incidents/{incident}")
    if not show.out.is_terminal:
        show.thing(item)
        return
    show.thing(
        {key: item.get(key) for key in ("id", "title", "status", "severity", "entity", "opened", "resolved", "alerts", "verdict", "reason")}
    )
    candidates = [
        {"entity": c["entity"], "confidence": c["confidence"], "evidence": "; ".join(e["text"] for e in c["evidence"][:3])}
        for c in item["candidates"][:5]
    ]
    show.rows(candidates, ["entity", "confidence", "evidence"], "Probable causes")
    show.rows(item["runs"], ["id", "workflow", "status", "started"], "Workflow runs")


@app.command("timeline")
def timeline(incident: str) -> None:
    """What happened, in order."""
    show.rows(Client().get(f"incidents/{incident}/timeline")["items"], ["time", "kind", "title", "actor", "source"])


@app.command("why")
def why(incident: str) -> None:
    """Why these alerts are one incident: every decision with its reasons."""
    show.rows(Client().get(f"incidents/{incident}/why")["items"], ["time", "step", "text"])


def _act(incident: str, action: str, body: dict[str, Any]) -> None:
    item = Client().post(f"incidents/{incident}/{action}", body)
    show.rows([item], ["id", "status", "title", "owner"])


@app.command("ack")
def acknowledge(incident: str, note: Note = "") -> None:
    """Acknowledge an incident: you are on it."""
    _act(incident, "acknowledge", {"note": note})


@app.command("resolve")
def resolve(incident: str, note: Note = "") -> None:
    """Resolve an incident."""
    _act(incident, "resolve", {"note": note})


@app.command("reopen")
def reopen(incident: str, note: Note = "") -> None:
    """Open a resolved incident again."""
    _act(incident, "reopen", {"note": note})


@app.command("verdict")
def verdict(incident: str, verdict: Annotated[str, typer.Argument(help="useful, noise or wrong_cause.")], note: Note = "") -> None:
    """Say what this incident was worth; verdicts teach."""
    _act(incident, "verdict", {"verdict": verdict, "note": note})
