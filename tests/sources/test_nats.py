"""NATS against nats-server: JetStream acknowledged only when durable, plain subscriptions as they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import peers
import pytest
from nats.js.api import ConsumerInfo

from ninefold.ground.errors import Unavailable
from ninefold.plugin import Lent
from ninefold.sources.nats import Nats

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with peers.nats_server(tmp_path_factory.mktemp("nats")) as port:
        yield f"nats://127.0.0.1:{port}"


def source(server: str, subject: str, stream: str = "", **more: Any) -> Nats:
    return Nats(stream or subject, Nats.Config(servers=[server], subject=subject, stream=stream, **more), Lent())


async def fill(server: str, stream: str, *records: dict[str, Any] | bytes) -> None:
    client = await nats.connect(server)
    stream_context = client.jetstream()
    await stream_context.add_stream(name=stream, subjects=[f"{stream}.>"])
    for record in records:
        body = record if isinstance(record, bytes) else json.dumps(record).encode()
        await stream_context.publish(f"{stream}.a", body)
    await client.close()


async def consumer(server: str, stream: str) -> ConsumerInfo:
    client = await nats.connect(server)
    info = await client.jetstream().consumer_info(stream, f"ninefold-{stream}")
    await client.close()
    return info


def records(journal: peers.Journal) -> list[dict[str, Any]]:
    return [json.loads(row["payload"]) for row in journal.rows("raw")]


def test_nothing_is_acknowledged_before_it_is_durable_and_a_full_journal_loses_nothing(server: str) -> None:
    peers.run(fill(server, "full", *({"title": str(i)} for i in range(1200))))
    unacknowledged: list[int] = []
    delivered: list[int] = []

    async def look() -> None:
        info = await consumer(server, "full")
        unacknowledged.append(info.num_ack_pending or 0)
        delivered.append(info.ack_floor.stream_seq if info.ack_floor else 0)

    journal = peers.Journal(full=2, before=look)
    peers.run(peers.while_running(source(server, "full.>", "full"), journal, lambda: len(records(journal)) >= 1200))
    assert [record["title"] for record in records(journal)] == [str(i) for i in range(1200)]
    assert delivered[:3] == [0, 0, 0]
    assert unacknowledged[0] == unacknowledged[2] > 0

    peers.until(lambda: not peers.run(consumer(server, "full")).num_ack_pending, "the last acknowledgement", 5)


def test_after_a_crash_the_same_records_come_again_with_the_time_and_place_they_had(server: str) -> None:
    peers.run(fill(server, "crash", {"title": "one"}, {"title": "two"}))
    offered = peers.run(peers.crashing(source(server, "crash.>", "crash", ack_wait_s=1)))
    journal = peers.Journal()
    peers.run(peers.while_running(source(server, "crash.>", "crash", ack_wait_s=1), journal, lambda: len(records(journal)) >= 2))
    before = [bytes(payload) for batch in offered for payload in batch.rows.column("payload").to_pylist()]
    assert before == [row["payload"] for row in journal.rows("raw")]
    assert [(record["messaging.message.id"], "timestamp" in record) for record in records(journal)] == [
        ("crash/1", True),
        ("crash/2", True),
    ]


def test_a_plain_subscription_delivers_what_comes_while_it_listens(server: str) -> None:
    journal = peers.Journal(full=1)

    async def both() -> None:
        client = await nats.connect(server)
        task = asyncio.create_task(source(server, "plain.*").run(journal.emit))
        while len(journal.batches) < 3:
            await client.publish("plain.x", b'{"title": "x"}')
            await asyncio.sleep(0.02)
            assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()

    peers.run(asyncio.wait_for(both(), 20))
    assert records(journal)[0] == {"title": "x", "messaging.destination.name": "plain.x"}


def test_check_looks_at_the_newest_and_makes_no_consumer(server: str) -> None:
    peers.run(fill(server, "look", b"no json", *({"title": str(i)} for i in range(4))))
    reached = peers.run(source(server, "look.>", "look").check())
    assert "5 messages in stream look" in reached.said
    assert {batch.signal: batch.rows.num_rows for batch in reached.batches} == {"raw": 4, "quarantine": 1}
    with pytest.raises(nats.js.errors.NotFoundError):
        peers.run(consumer(server, "look"))


def test_a_missing_server_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        peers.run(source(f"nats://127.0.0.1:{peers.free_port()}", "x").check())


@pytest.mark.parametrize("stream", ["", "dying"])
def test_a_server_that_dies_ends_the_run(tmp_path: Path, stream: str) -> None:
    with contextlib.ExitStack() as peer:
        url = f"nats://127.0.0.1:{peer.enter_context(peers.nats_server(tmp_path))}"
        if stream:
            peers.run(fill(url, stream))
        with pytest.raises(Unavailable):
            peers.run(peers.bereft(source(url, "dying.>", stream), peer.close))
