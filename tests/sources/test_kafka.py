"""Kafka against librdkafka's mock cluster: the real protocol, offsets committed only when durable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import peers
import pytest

from ninefold.ground.errors import Refused, Unavailable
from ninefold.plugin import Lent
from ninefold.sources.kafka import Kafka

confluent_kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

_GROUP = {"session.timeout.ms": "2500", "heartbeat.interval.ms": "500"}
"""The mock cluster admits nobody to a group that was left before the session of the one who left has timed out."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A producer that carries a cluster of three brokers inside."""
    producer = confluent_kafka.Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "mock"})
    yield producer
    producer.flush(5)


@pytest.fixture(scope="module")
def brokers(cluster: Any) -> list[str]:
    return [f"{broker.host}:{broker.port}" for broker in cluster.list_topics(timeout=10).brokers.values()]


def fill(cluster: Any, topic: str, *bodies: bytes, **more: Any) -> None:
    for body in bodies:
        cluster.produce(topic, body, **more)
    assert cluster.flush(10) == 0


def source(brokers: list[str], *topics: str, options: dict[str, str] = {}, **more: Any) -> Kafka:  # noqa: B006
    return Kafka(
        "bus", Kafka.Config(brokers=brokers, topics=list(topics), group=f"g-{topics[0]}", options=_GROUP | options, **more), Lent()
    )


def committed(brokers: list[str], topic: str) -> int:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": ",".join(brokers), "group.id": f"g-{topic}"})
    places = [confluent_kafka.TopicPartition(topic, number) for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions]
    offsets = [place.offset for place in consumer.committed(places, timeout=10)]
    consumer.close()
    return sum(max(offset, 0) for offset in offsets)


def records(journal: peers.Journal) -> list[dict[str, Any]]:
    return [json.loads(row["payload"]) for row in journal.rows("raw")]


def titled(count: int) -> list[bytes]:
    return [json.dumps({"title": str(i)}).encode() for i in range(count)]


def test_a_crash_and_a_full_journal_lose_nothing_and_offsets_follow_the_journal(cluster: Any, brokers: list[str]) -> None:
    fill(cluster, "orders", *titled(2000))
    fill(cluster, "alarms", b"\xff", b'{"title": "hot"}', headers={"content-type": b"application/json"})
    offered = peers.run(peers.crashing(source(brokers, "orders", "alarms")))
    assert offered
    assert committed(brokers, "orders") == 0
    journal = peers.Journal(full=2)

    def done() -> bool:
        return len(records(journal)) >= 2001 and bool(journal.rows("quarantine"))

    peers.run(peers.while_running(source(brokers, "orders", "alarms", batch=700), journal, done))
    orders = [record for record in records(journal) if record["messaging.destination.name"] == "orders"]
    assert sorted(int(record["title"]) for record in orders) == list(range(2000))
    assert all(record["messaging.message.id"].startswith("orders/") and record["timestamp"] for record in orders)
    assert committed(brokers, "orders") > 0
    again = {bytes(payload) for batch in offered if batch.signal == "raw" for payload in batch.rows.column("payload").to_pylist()}
    assert again <= {row["payload"] for row in journal.rows("raw")}, "what came again is byte for byte the same record"


def test_check_shows_the_newest_and_commits_nothing(cluster: Any, brokers: list[str]) -> None:
    fill(cluster, "look", *titled(10), partition=0)
    reached = peers.run(source(brokers, "look").check())
    assert "10 messages in look" in reached.said
    shown = [json.loads(payload) for payload in reached.batches[0].rows.column("payload").to_pylist()]
    assert [record["title"] for record in shown] == ["7", "8", "9"]
    assert committed(brokers, "look") == 0


def test_a_missing_cluster_is_unavailable_and_a_setting_that_does_not_exist_named(
    brokers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ninefold.sources.kafka._TIMEOUT_S", 0.5)
    from ninefold.ground.errors import ConfigError

    with pytest.raises(ConfigError, match=r"no\.such\.setting"):
        peers.run(source(brokers, "a", options={"no.such.setting": "1"}).check())
    with pytest.raises((Unavailable, Refused)):
        peers.run(source([f"127.0.0.1:{peers.free_port()}"], "a").check())
