"""Tickets: mirrored when a step answers with one; their changes come back as events, at least once, never out of sight."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from workshop import Workshop, finished, until, workflow

from ninefold.ground.errors import Unavailable
from ninefold.model.signal import Batch, event_id
from ninefold.plugin import Changes, Connector, Strict, action
from ninefold.store.records.base import Setting
from ninefold.store.records.incidents import Ticket
from ninefold.workflows.tickets import TicketChanges


class Open(Strict):
    subject: str


class Opened(Strict):
    ticket: str
    url: str
    status: str


class Pad(Connector):
    """A desk that keeps its tickets' changes in a list."""

    kind: ClassVar[str] = "pad"

    class Config(Strict):
        poll_s: float = 0.01

    def __init__(self, config: Pad.Config) -> None:
        super().__init__(config)
        self.log: list[tuple[str, str]] = []
        self.broken = False

    @action(risk="write", idempotent=True)
    async def create(self, ask: Open) -> Opened:
        """Open a ticket."""
        self.log.append(("7", "opened"))
        return Opened(ticket="7", url="http://pad/7", status="new")

    async def changes(self, cursor: str) -> Changes:
        if self.broken:
            raise Unavailable("the pad is closed")
        start = int(cursor or len(self.log))
        rows = [
            {
                "id": event_id("pad", str(n)),
                "time": n + 1,
                "kind": "ticket",
                "source_id": ticket,
                "title": what,
                "attributes": {"actor": "eve"},
            }
            for n, (ticket, what) in enumerate(self.log[start : start + 2], start)
        ]
        return Changes(rows, str(start + len(rows)))


def test_a_tickets_story(shop: Workshop) -> None:
    pad, deaf = Pad(Pad.Config()), Pad(Pad.Config())
    deaf.broken = True
    shop.connectors |= {"pad": pad, "deaf": deaf}
    rows: list[dict[str, Any]] = []
    full = True

    async def emit(batches: Sequence[Batch]) -> None:
        if full:
            raise Unavailable("the journal is full")
        for batch in batches:
            rows.extend(batch.rows.to_pylist())

    async def main() -> None:
        nonlocal full
        say = "- {id: say, uses: bench.put, with: {text: '${{ incident.tickets[0].url }}'}}"
        text = workflow(f"- {{id: open, uses: pad.create, with: {{subject: x}}}}\n{say}")
        async with shop.running(text) as engine:
            poll = asyncio.create_task(engine.poll_changes(emit))
            await until(lambda: shop.rows(Setting, Setting.key == "connector:pad"))
            shop.incident()
            await until(finished(shop))
            pad.log += [("7", "changed"), ("8", "somebody else's"), ("7", "closed")]
            await until(lambda: shop.meter.counter("ninefold_tickets_errors_total").values.get((("connector", "pad"),)))
            assert shop.rows(Setting, Setting.key == "connector:pad")[0].value == {"cursor": "0"}
            full = False
            await until(lambda: len(rows) >= 4)
            poll.cancel()
            with suppress(asyncio.CancelledError):
                await poll

    asyncio.run(main())
    assert shop.done() == ["put http://pad/7"]
    (ticket,) = shop.rows(Ticket)
    assert (ticket.system, ticket.id, ticket.incident, ticket.status) == ("pad", "7", 1, "new")
    assert [(row["source_id"], row["title"], row["source"], dict(row["attributes"])) for row in rows] == [
        ("7", "opened", "pad", {"actor": "eve", "ninefold.incident": "INC-1"}),
        ("7", "changed", "pad", {"actor": "eve", "ninefold.incident": "INC-1"}),
        ("8", "somebody else's", "pad", {"actor": "eve"}),
        ("7", "closed", "pad", {"actor": "eve", "ninefold.incident": "INC-1"}),
    ]
    assert shop.meter.counter("ninefold_tickets_errors_total").values[(("connector", "deaf"),)] >= 1


def test_a_connector_with_a_defect_holds_up_no_other_and_is_told_about(shop: Workshop) -> None:
    pad, odd = Pad(Pad.Config()), Pad(Pad.Config())
    odd.log = None  # type: ignore[assignment] - a TypeError from inside the connector
    rows: list[dict[str, Any]] = []

    async def emit(batches: Sequence[Batch]) -> None:
        rows.extend(row for batch in batches for row in batch.rows.to_pylist())

    def about(source: str) -> list[str]:
        return [row["title"] for row in rows if row["source"] == source]

    async def main() -> None:
        poll = asyncio.create_task(TicketChanges(shop.records, {"odd": odd, "pad": pad}, shop.meter).run(emit))
        await until(lambda: about("ninefold"))
        pad.log.append(("7", "changed"))
        await until(lambda: about("pad"))
        odd.log = []
        await until(lambda: len(about("ninefold")) == 2)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)

    asyncio.run(main())
    assert about("pad") == ["changed"]
    assert about("ninefold") == [
        "The ticket changes of odd cannot be read: object of type 'NoneType' has no len()",
        "The ticket changes of odd are read again",
    ]


def test_the_cursor_moves_only_behind_what_is_durable(shop: Workshop) -> None:
    pad = Pad(Pad.Config())
    changes = TicketChanges(shop.records, {"pad": pad}, shop.meter)
    seen: list[str] = []

    async def keep(batches: Sequence[Batch]) -> None:
        seen.extend(title for batch in batches for title in batch.rows.column("title").to_pylist())

    async def refuse(batches: Sequence[Batch]) -> None:
        raise Unavailable("the journal is full")

    async def main() -> None:
        assert await changes.poll("pad", pad, keep) == 0
        pad.log += [("1", "a"), ("1", "b"), ("1", "c")]
        with suppress(Unavailable):
            await changes.poll("pad", pad, refuse)
        assert [await changes.poll("pad", pad, keep) for _ in range(3)] == [2, 1, 0]

    asyncio.run(main())
    assert seen == ["a", "b", "c"]


def test_without_a_connector_that_has_changes_there_is_nothing_to_do_and_no_error(shop: Workshop) -> None:
    async def emit(batches: Sequence[Batch]) -> None:
        raise AssertionError

    async def main() -> None:
        task = asyncio.create_task(shop.engine().poll_changes(emit))
        done, _ = await asyncio.wait([task], timeout=0.1)
        assert not done
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(main())
