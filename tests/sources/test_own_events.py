"""Ninefold's own doings as events: what is worth keeping, once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ninefold.ground.errors import Unavailable
from ninefold.model.signal import Batch
from ninefold.sources.own import OwnEvents


@dataclass
class Row:
    id: int
    topic: str
    kind: str
    key: str
    data: dict[str, Any] = field(default_factory=dict)
    time: int = 1_700_000_000_000_000_000


CHANGES = [
    Row(1, "incident", "opened", "INC-1", {"title": "disk full", "entity": "host:a", "severity": "high", "alerts": 1}),
    Row(2, "incident", "updated", "INC-1", {"title": "disk full", "alerts": 2, "grown": True}),
    Row(3, "alert", "firing", "x"),
    Row(4, "run", "progress", "RUN-1", {"incident": "INC-1"}),
    Row(5, "incident", "updated", "INC-1", {"title": "disk and log full", "severity": "critical"}),
    Row(6, "run", "succeeded", "RUN-1", {"incident": "INC-1", "title": "Workflow clean-up succeeded"}),
    Row(
        7,
        "heartbeat",
        "firing",
        "dog",
        {"title": "The heartbeat dog is late", "alertname": "heartbeat dog", "entity": "", "severity": "high"},
    ),
]


def followed(emit_fails: int = 0) -> tuple[list[Batch], list[int]]:
    """What is emitted until every change is passed, and the ids that were kept."""
    emitted: list[Batch] = []
    kept = [0]
    fails = iter(range(emit_fails))

    async def emit(batches: Sequence[Batch], kind: str = "own") -> None:
        if next(fails, None) is not None:
            raise Unavailable("the journal is full", retry_after_s=0)
        emitted.extend(batches)

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def keep(position: int) -> None:
            kept.append(position)
            if position == CHANGES[-1].id:
                loop.call_soon_threadsafe(done.set)

        own = OwnEvents(lambda after: [row for row in CHANGES if row.id > after][:4], lambda: kept[-1], keep)
        task = asyncio.create_task(own.run(emit))
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()

    asyncio.run(main())
    return emitted, kept


@pytest.mark.parametrize("emit_fails", [0, 3])
def test_what_somebody_can_learn_from_later_becomes_an_event_once(emit_fails: int) -> None:
    emitted, kept = followed(emit_fails)
    events = [row for batch in emitted for row in batch.rows.select(["source_id", "status", "title", "kind"]).to_pylist()]
    assert [(event["source_id"], event["status"]) for event in events] == [
        ("INC-1", "opened"), ("INC-1", "updated"), ("RUN-1", "succeeded"), ("dog", "firing"),
    ]  # fmt: skip
    assert [event["kind"] for event in events] == ["incident", "incident", "workflow", "alert"]
    assert events[1]["title"] == "disk and log full"
    assert kept == [0, 4, 7]
