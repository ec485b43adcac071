"""What pollers share: cursor after the journal, back-off, pages at once; and the settings of all sources that go out."""

from __future__ import annotations

import asyncio
from typing import Any

import peers
import pytest

from ninefold.ground.errors import Refused, Unavailable
from ninefold.model.signal import batch_of
from ninefold.plugin import Source
from ninefold.sources.icinga import Icinga
from ninefold.sources.kafka import Kafka
from ninefold.sources.mqtt import Mqtt
from ninefold.sources.nats import Nats
from ninefold.sources.polling import Page, PollConfig, Poller
from ninefold.sources.postgresql import Postgresql
from ninefold.sources.rabbitmq import RabbitMq
from ninefold.sources.redis_streams import RedisStreams
from ninefold.sources.request_tracker_feed import RequestTrackerFeed
from ninefold.sources.rest import Rest
from ninefold.sources.sql import Sql

SOURCES: list[type[Source]] = [Mqtt, Nats, RedisStreams, RabbitMq, Kafka, Sql, Rest, Postgresql, RequestTrackerFeed, Icinga]


class Counting(Poller):
    """Gives one event a page, three pages a round; fails when told."""

    kind = title = "counting"
    signals = frozenset(("event",))
    Config = PollConfig

    def __init__(self, kept: peers.Kept, fails: list[Exception], **more: Any) -> None:
        super().__init__("counting", PollConfig(**{"every_s": 0.01, "longest_wait_s": 0.05} | more), kept.lent())
        self.fails, self.forgotten, self.asked = fails, 0, 0

    async def page(self, position: dict[str, Any]) -> Page:
        self.asked += 1
        if self.fails:
            raise self.fails.pop()
        number = position.get("n", 0) + 1
        return Page([batch_of("event", "counting", 1, [{"id": str(number), "time": 1}])], {"n": number}, number % 3 != 0)

    def forget(self, batches: Any) -> None:
        self.forgotten += len(batches)


def test_pages_come_at_once_and_failures_cost_nothing() -> None:
    kept, journal = peers.Kept(), peers.Journal(full=1)
    poller = Counting(kept, [Unavailable("away"), Refused("no"), OSError("gone")])
    peers.run(peers.while_running(poller, journal, lambda: kept.position.get("n", 0) >= 7))
    assert [row["id"] for row in journal.rows("event")][:7] == [str(i) for i in range(1, 8)]
    counted = {name: value for name, _, labels, value in poller.lent.meter.samples() if ("source", "counting") in labels}
    assert counted["ninefold_source_requests_total"] == poller.asked, "the load it puts on the other side"
    assert counted["ninefold_source_bytes_total"] > 0


def test_a_page_that_was_not_kept_is_forgotten_and_asked_for_again() -> None:
    kept = peers.Kept({"n": 4})
    poller = Counting(kept, [])
    assert [batch.rows.column("id")[0].as_py() for batch in peers.run(peers.crashing(poller))] == ["5"]
    assert (kept.position, poller.forgotten) == ({"n": 4}, 1)


def test_waits_double_up_to_the_longest_and_heed_what_the_other_side_asks_for() -> None:
    poller = Counting(peers.Kept(), [], every_s=10, longest_wait_s=100, jitter=0)
    waits = [poller._after(OSError("x"), failures) for failures in (1, 2, 3, 4, 5, 50)]
    assert waits == [10, 20, 40, 80, 100, 100]
    assert poller._after(Unavailable("busy", 60), 1) == 60
    assert poller._after(Unavailable("busy", 9999), 1) == 100


@pytest.mark.parametrize("cls", SOURCES, ids=lambda cls: cls.kind)
def test_every_setting_is_described_and_secrets_are_secret(cls: type[Source]) -> None:
    for name, field in cls.Config.model_fields.items():
        assert field.description, f"{cls.kind}.{name}"
        if name in ("password", "token", "dsn") or (name == "url" and cls in (Sql, RabbitMq, RedisStreams)):
            assert "SecretStr" in str(field.annotation), f"{cls.kind}.{name}"
    assert cls.__doc__
    assert cls.title
    assert cls.extraction in ("poll", "stream")


def test_an_answer_without_end_is_given_up() -> None:
    class Dripping(Counting):
        async def page(self, position: dict[str, Any]) -> Page:
            await asyncio.sleep(60)
            raise AssertionError

    with pytest.raises(Unavailable, match="did not finish"):
        peers.run(Dripping(peers.Kept(), [], timeout_s=0.01).check())
