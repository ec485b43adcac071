"""`ninefold workflow`."""

from __future__ import annotations

from typing import Annotated

import typer

from ninefold.cli import show
from ninefold.cli.client import Client

app = typer.Typer(no_args_is_help=True, help="List and start workflows, follow runs, decide approvals.")
Note = Annotated[str, typer.Option("--note", "-m", help="Why; it stands on the timeline.")]


@app.command("list")
def list_workflows() -> None:
    """List workflows and how their runs ended."""
    items = Client().get("workflows")["items"]
    show.rows(items, ["name", "mode", "enabled", "trigger", "runs", "last_run", "problem"])


@app.command("run")
def run(name: str, incident: Annotated[str, typer.Option(help="The incident to run it for.")] = "") -> None:
    """Start a workflow by hand."""
    show.rows([Client().post(f"workflows/{name}/run", {"incident": incident or None})], ["id", "workflow", "incident", "status"])


@app.command("runs")
def runs(workflow: str = "", status: str = "", limit: int = 50) -> None:
    """List runs, newest first."""
    items = Client().get("runs", workflow=workflow, status=status, limit=limit)["items"]
    show.rows(items, ["id", "workflow", "incident", "status", "started", "finished", "error"])


@app.command("show")
def show_run(run: str) -> None:
    """Show one run, step by step."""
    item = Client().get(f"runs/{run}")
    if not show.out.is_terminal:
        show.thing(item)
        return
    show.rows(item["steps"], ["id", "uses", "risk", "status", "attempts", "output", "error"], f"Run {item['id']}: {item['status']}")


@app.command("approvals")
def approvals(status: str = "waiting") -> None:
    """List approvals that wait for a decision."""
    show.rows(
        Client().get("approvals", status=status)["items"],
        ["id", "question", "workflow", "step", "risk", "incident", "ask", "expires"],
    )


@app.command("approve")
def approve(approval: str, note: Note = "") -> None:
    """Let a waiting step go on."""
    show.rows([Client().post(f"approvals/{approval}", {"decision": "approve", "note": note})], ["id", "status", "actor", "note"])


@app.command("reject")
def reject(approval: str, note: Note = "") -> None:
    """Stop a waiting step."""
    show.rows([Client().post(f"approvals/{approval}", {"decision": "reject", "note": note})], ["id", "status", "actor", "note"])


@app.command("skip")
def skip(approval: str, note: Note = "") -> None:
    """Go on without a step that may or may not have been carried out."""
    show.rows([Client().post(f"approvals/{approval}", {"decision": "skip", "note": note})], ["id", "status", "actor", "note"])
