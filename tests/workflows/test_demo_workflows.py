"""The demo's workflows work with the connectors the demo gives them, and its restart is a dry run that a person allows."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from workshop import Workshop, finished, until

from ninefold.connectors.http import Http
from ninefold.connectors.notify import Notify
from ninefold.connectors.shell import Shell
from ninefold.demo.automation import connectors
from ninefold.plugin import Connector
from ninefold.workflows.binding import faults
from ninefold.workflows.language import load_folder

FOLDER = Path(str(files("ninefold.demo") / "workflows"))
KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in (Http, Notify, Shell)}


def made() -> dict[str, Connector]:
    found: dict[str, Connector] = {}
    for name, settings in connectors("http://127.0.0.1:9900", "n9_secret").items():
        kind = KINDS[settings.pop("type")]
        found[name] = kind(kind.Config.model_validate(settings))
    return found


def test_they_fit_the_demos_connectors() -> None:
    workflows = load_folder(FOLDER)
    assert [workflow.name for workflow in workflows] == ["restart", "triage"]
    assert [list(faults(workflow, made())) for workflow in workflows] == [[], []]
    assert all(workflow.limits.max_runs_per_hour <= 6 and workflow.limits.cool_down for workflow in workflows)


def test_the_look_at_the_machine_is_real() -> None:
    shell = made()["shell"]
    action = shell.actions()["inspect"]
    output = asyncio.run(action.call(shell, action.ask(command="machine")))  # type: ignore[call-arg]
    assert re.fullmatch(r"\S+ \S+, \d+ cores, load [\d.]+, \d+% of the disk free\n", output.model_dump()["stdout"])


def test_restart_waits_for_a_person_and_only_prints(shop: Workshop) -> None:
    shop.connectors = made()
    text = (FOLDER / "restart.yaml").read_text()

    async def main() -> None:
        async with shop.running(text) as engine:
            shop.incident("explained", verdict="undetermined")
            cause = {"entity": "service:shop/cart", "kind": "latency", "summary": "slow"}
            shop.incident("explained", verdict="determined", cause=cause)
            shop.incident("explained", verdict="determined", cause=cause)
            (approval,) = await until(shop.waiting)
            assert (approval.risk, approval.ask) == ("dangerous", {"command": "restart_dry_run", "arguments": {"service": "shop/cart"}})
            await asyncio.to_thread(engine.decide, approval.id, "approve", "alice", "operator")
            await until(finished(shop))

    asyncio.run(main())
    assert shop.runs()[0].status == "succeeded"
    output = shop.steps()["restart"].output
    assert output is not None
    assert output["stdout"] == "dry run: would restart shop/cart\n"
    assert [verdict for _, verdict, _ in shop.verdicts()] == ["not_matched", "started", "skipped"]
