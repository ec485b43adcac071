"""RabbitMQ against a real node: acknowledged only when durable, delivered again after a crash."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import aio_pika
import peers
import pytest

from ninefold.ground.errors import Refused, Unavailable
from ninefold.plugin import Lent
from ninefold.sources.rabbitmq import RabbitMq

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with peers.rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as port:
        yield f"amqp://guest:guest@127.0.0.1:{port}/"


def source(server: str, queue: str, **more: Any) -> RabbitMq:
    return RabbitMq(queue, RabbitMq.Config(url=server, queue=queue, **more), Lent())  # type: ignore[arg-type]


async def fill(server: str, queue: str, *bodies: bytes, quorum: bool = False, **more: Any) -> None:
    async with await aio_pika.connect(server) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"} if quorum else None)
        for body in bodies:
            await channel.default_exchange.publish(aio_pika.Message(body, **more), queue)


async def left(server: str, queue: str) -> int:
    """Messages that are ready; those handed over and not acknowledged are not."""
    async with await aio_pika.connect(server) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return int(declared.declaration_result.message_count or 0)


def titled(count: int) -> list[bytes]:
    return [json.dumps({"title": str(i)}).encode() for i in range(count)]


def records(journal: peers.Journal) -> list[dict[str, Any]]:
    return [json.loads(row["payload"]) for row in journal.rows("raw")]


def test_a_full_journal_loses_nothing_not_even_from_a_quorum_queue_that_counts_returns(server: str) -> None:
    peers.run(fill(server, "full", *titled(300), quorum=True, timestamp=1795353440, message_id="m"))
    journal = peers.Journal(full=25)
    peers.run(peers.while_running(source(server, "full", prefetch=100), journal, lambda: len(records(journal)) >= 300))
    found = records(journal)
    assert [record["title"] for record in found] == [str(i) for i in range(300)]
    assert found[0] | {"title": ""} == {
        "title": "", "messaging.destination.name": "full", "timestamp": "2026-11-22T13:17:20.000000Z", "messaging.message.id": "m",
    }  # fmt: skip


def test_a_crash_before_the_journal_answered_brings_all_again(server: str) -> None:
    peers.run(fill(server, "crash", *titled(5), b"{"))
    assert peers.run(peers.crashing(source(server, "crash")))
    journal = peers.Journal()
    peers.run(
        peers.while_running(source(server, "crash"), journal, lambda: len(records(journal)) >= 5 and bool(journal.rows("quarantine")))
    )
    assert peers.run(left(server, "crash")) == 0


def test_a_bound_queue_is_made_and_check_takes_nothing_from_it(server: str) -> None:
    bound = source(server, "bound", exchange="amq.topic", routing_keys=["alarm.#"])
    with pytest.raises(Refused):
        peers.run(bound.check())
    with pytest.raises(TimeoutError):
        peers.run(peers.while_running(bound, peers.Journal(), lambda: False, 0.5))

    async def publish() -> None:
        async with await aio_pika.connect(server) as connection:
            exchange = await (await connection.channel()).get_exchange("amq.topic")
            for key in ("alarm.a", "other", "alarm.b"):
                await exchange.publish(aio_pika.Message(json.dumps({"title": key}).encode()), key)

    peers.run(publish())
    reached = peers.run(bound.check())
    assert "2 messages" in reached.said
    assert reached.batches == ()
    assert peers.run(left(server, "bound")) == 2
    journal = peers.Journal()
    peers.run(peers.while_running(bound, journal, lambda: len(records(journal)) >= 2))
    assert [record["messaging.destination.name"] for record in records(journal)] == ["alarm.a", "alarm.b"]


def test_a_wrong_password_is_refused_and_a_missing_server_unavailable(server: str) -> None:
    with pytest.raises(Refused):
        peers.run(source(server.replace("guest:guest", f"guest:{os.getpid()}"), "a").check())
    with pytest.raises(Unavailable):
        peers.run(source(f"amqp://guest:guest@127.0.0.1:{peers.free_port()}/", "a").check())


def test_a_queue_that_is_deleted_ends_the_run(server: str) -> None:
    peers.run(fill(server, "doomed", *titled(1)))
    journal = peers.Journal()

    async def doom() -> None:
        task = asyncio.create_task(source(server, "doomed").run(journal.emit))
        await peers.true(lambda: bool(journal.batches))
        async with await aio_pika.connect(server) as connection:
            await (await connection.channel()).queue_delete("doomed")
        await asyncio.wait_for(task, 30)

    with pytest.raises(Unavailable, match="ended our reading"):
        peers.run(doom())
