"""Redis Streams against redis-server: XACK after the journal, own and others' pending entries taken up again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peers
import pytest
import redis

from ninefold.ground.errors import Unavailable
from ninefold.plugin import Lent
from ninefold.sources.redis_streams import RedisStreams

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with peers.redis_server(tmp_path_factory.mktemp("redis")) as port:
        client = redis.Redis(port=port, decode_responses=True)
        yield client
        client.close()


def source(server: redis.Redis, *streams: str, **more: Any) -> RedisStreams:
    port = server.get_connection_kwargs()["port"]
    return RedisStreams("shop", RedisStreams.Config(url=f"redis://127.0.0.1:{port}/0", streams=list(streams), **more), Lent())


def records(journal: peers.Journal) -> list[dict[str, Any]]:
    return [json.loads(row["payload"]) for row in journal.rows("raw")]


def pending(server: redis.Redis, stream: str) -> int:
    found: Any = server.xpending(stream, "ninefold")
    return int(found["pending"])


def test_entries_are_acknowledged_when_durable_and_fields_become_the_record(server: redis.Redis) -> None:
    for i in range(700):
        server.xadd("orders", {"title": f"order {i}", "amount": i})
    server.xadd("alarms", {"payload": json.dumps({"title": "hot", "severity": "critical"})})
    seen: list[int] = []

    async def look() -> None:
        seen.append(pending(server, "orders") + pending(server, "alarms"))

    journal = peers.Journal(full=2, before=look)
    shop = source(server, "orders", "alarms")
    peers.run(peers.while_running(shop, journal, lambda: len(records(journal)) >= 701 and not pending(server, "orders")))
    orders = [record for record in records(journal) if record["messaging.destination.name"] == "orders"]
    assert [record["amount"] for record in orders] == [str(i) for i in range(700)]
    (alarm,) = [record for record in records(journal) if record["messaging.destination.name"] == "alarms"]
    assert (alarm["title"], alarm["severity"], alarm["messaging.message.id"].split("/")[0]) == ("hot", "critical", "alarms")
    assert seen[0] == seen[1] == seen[2] > 0


def test_a_crashed_consumer_reads_again_what_it_had_taken(server: redis.Redis) -> None:
    for i in range(3):
        server.xadd("crash", {"title": str(i)})
    assert peers.run(peers.crashing(source(server, "crash")))
    assert pending(server, "crash") == 3
    first = server.xrange("crash", count=1)[0][0]
    server.xdel("crash", first)
    journal = peers.Journal()
    peers.run(peers.while_running(source(server, "crash"), journal, lambda: not pending(server, "crash")))
    assert [record["title"] for record in records(journal)] == ["1", "2"]


def test_what_a_dead_consumer_left_is_taken_over(server: redis.Redis) -> None:
    server.xadd("dead", {"a": "1", "title": "left"})
    peers.run(peers.crashing(source(server, "dead", consumer="gone")))
    journal = peers.Journal()
    peers.run(
        peers.while_running(
            source(server, "dead", consumer="alive", claim_s=1), journal, lambda: bool(journal.batches) and not pending(server, "dead")
        )
    )
    assert records(journal)[0]["title"] == "left"


def test_while_the_journal_is_full_nobody_else_takes_the_entries_over(server: redis.Redis) -> None:
    server.xadd("held", {"a": "1", "title": "mine"})
    full, other = peers.Journal(full=30), peers.Journal()

    async def both() -> None:
        one = asyncio.create_task(source(server, "held", consumer="one", claim_s=1).run(full.emit))
        await peers.true(lambda: bool(full.refused))
        two = asyncio.create_task(source(server, "held", consumer="two", claim_s=1).run(other.emit))
        await peers.true(lambda: bool(full.batches))
        for task in (one, two):
            task.cancel()
        await asyncio.gather(one, two, return_exceptions=True)

    peers.run(asyncio.wait_for(both(), 20))
    assert (len(full.batches), other.batches) == (1, [])


def test_check_makes_no_group(server: redis.Redis) -> None:
    server.xadd("look", {"title": "x"})
    reached = peers.run(source(server, "look").check())
    assert "1 entries in look" in reached.said
    assert reached.batches[0].rows.num_rows == 1
    assert server.xinfo_groups("look") == []


def test_a_missing_server_is_unavailable() -> None:
    config = RedisStreams.Config(url=f"redis://u:secret@127.0.0.1:{peers.free_port()}", streams=["a"])  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as caught:
        peers.run(RedisStreams("shop", config, Lent()).check())
    assert "secret" not in str(caught.value)


def test_a_server_that_dies_ends_the_run(tmp_path: Path) -> None:
    with contextlib.ExitStack() as peer:
        client = redis.Redis(port=peer.enter_context(peers.redis_server(tmp_path)), decode_responses=True)
        with pytest.raises(Unavailable):
            peers.run(peers.bereft(source(client, "x"), peer.close))


def test_pending_entries_that_were_trimmed_are_skipped_and_cleared_as_redis_6_tells_them() -> None:
    class Six:
        """Claims entries that are gone without their names, and names them when the own pending ones are read."""

        def __init__(self) -> None:
            self.acknowledged: list[bytes] = []

        async def xautoclaim(self, *_: Any) -> Any:
            return b"0-0", [(None, None), (b"2-0", {b"title": b"there"})]

        async def xreadgroup(self, *_: Any) -> Any:
            return [] if b"1-0" in self.acknowledged else [[b"s", [(b"1-0", None)]]]

        async def xack(self, stream: str, group: str, *ids: bytes) -> None:
            self.acknowledged += ids

    redis_6, journal = Six(), peers.Journal()
    config = RedisStreams.Config(url="redis://127.0.0.1", streams=["s"])  # type: ignore[arg-type]
    peers.run(RedisStreams("shop", config, Lent())._left_by_others(redis_6, "s", journal.emit))
    assert redis_6.acknowledged == [b"2-0", b"1-0"]
    assert [record["title"] for record in records(journal)] == ["there"]
