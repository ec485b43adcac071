"""MQTT against Mosquitto: acknowledged only when durable, kept while away, delivered again after a crash."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import peers
import pytest
from paho.mqtt import publish
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.plugin import Lent
from ninefold.sources.mqtt import Mqtt

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninefold.sources.mqtt._LISTEN_S", 0.3)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with peers.mosquitto(tmp_path_factory.mktemp("mosquitto")) as port:
        yield port


def send(port: int, topic: str, *bodies: bytes | dict[str, Any], qos: int = 1, **more: Any) -> None:
    payloads = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    publish.multiple([(topic, payload, qos, False) for payload in payloads], "127.0.0.1", port, **more)


def source(port: int, topic: str, protocol: Literal["3.1.1", "5"] = "5", **more: Any) -> Mqtt:
    return Mqtt(topic, Mqtt.Config(host="127.0.0.1", port=port, topics=[f"{topic}/#"], protocol=protocol, **more), Lent())


def records(journal: peers.Journal) -> list[dict[str, Any]]:
    return [json.loads(row["payload"]) for row in journal.rows("raw")]


async def join(port: int, topic: str, protocol: Literal["3.1.1", "5"] = "5", **more: Any) -> None:
    """Make the session at the broker."""
    async with source(port, topic, protocol, **more)._connected(f"ninefold-{topic}", keep=True):
        pass


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_what_is_sent_while_ninefold_is_away_or_its_journal_full_arrives_once(broker: int, protocol: Literal["3.1.1", "5"]) -> None:
    topic, journal = f"away{protocol[0]}", peers.Journal(full=3)
    peers.run(join(broker, topic, protocol))
    send(broker, f"{topic}/alarms", *({"title": f"alarm {i}", "id": i} for i in range(200)))
    peers.run(peers.while_running(source(broker, topic, protocol), journal, lambda: len(records(journal)) >= 200))
    found = records(journal)
    assert [record["id"] for record in found] == list(range(200))
    assert {record["messaging.destination.name"] for record in found} == {f"{topic}/alarms"}
    assert journal.refused


def test_after_a_crash_before_the_journal_answered_the_broker_delivers_again(broker: int) -> None:
    peers.run(join(broker, "crash"))
    send(broker, "crash/a", *({"title": str(i)} for i in range(20)))
    assert peers.run(peers.crashing(source(broker, "crash")))
    journal = peers.Journal()
    peers.run(peers.while_running(source(broker, "crash"), journal, lambda: len(records(journal)) >= 20))
    assert [record["title"] for record in records(journal)] == [str(i) for i in range(20)]

    def delivers() -> bool:
        again = peers.Journal()
        try:
            peers.run(peers.while_running(source(broker, "crash"), again, lambda: bool(again.batches), 0.5))
        except TimeoutError:
            return False
        return True

    # A source that ends as soon as the last record is durable may end before its acknowledgement is read: once more, then never again.
    assert not (delivers() and delivers())


def test_a_message_that_is_no_json_is_quarantined_and_acknowledged(broker: int) -> None:
    peers.run(join(broker, "bad"))
    send(broker, "bad/a", b"\xff", {"title": "good"})
    journal = peers.Journal()
    peers.run(peers.while_running(source(broker, "bad"), journal, lambda: len(journal.rows("raw")) == 1))
    assert [(row["payload"], row["where"].split()[0]) for row in journal.rows("quarantine")] == [(b"\xff", "bad/a")]


def test_a_cloudevent_in_binary_mode_has_its_attributes_in_user_properties(broker: int) -> None:
    journal = peers.Journal()
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/json"
    properties.UserProperty = [("specversion", "1.0"), ("id", "7"), ("source", "/plant"), ("type", "plant.alert")]

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.connect("127.0.0.1", broker)
    client.loop_start()
    peers.run(join(broker, "ce"))
    client.publish("ce/a", b'{"title": "hot"}', 1, properties=properties).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
    peers.run(peers.while_running(source(broker, "ce", format="cloudevents"), journal, lambda: bool(journal.batches)))
    (event,) = records(journal)[:1]
    assert (event["id"], event["source"], event["type"], event["data"]) == ("7", "/plant", "plant.alert", {"title": "hot"})


def test_check_shows_retained_messages_and_leaves_the_session_alone(broker: int) -> None:
    publish.single("seen/a", b'{"title": "kept"}', 1, True, "127.0.0.1", broker)
    reached = peers.run(source(broker, "seen").check())
    assert "took the subscription to seen/#" in reached.said
    assert reached.batches[0].rows.num_rows == 1


def test_tls_with_our_own_certificate_and_without_the_right_authority(tmp_path: Path) -> None:
    request = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", *request, *names, "-keyout", "key.pem", "-out", "cert.pem"], cwd=tmp_path, check=True, capture_output=True
    )
    files = f"cafile {tmp_path}/cert.pem\ncertfile {tmp_path}/cert.pem\nkeyfile {tmp_path}/key.pem\nrequire_certificate true\n"
    ours = {"enabled": True, "ca": tmp_path / "cert.pem", "certificate": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    with peers.mosquitto(tmp_path, f"allow_anonymous true\n{files}") as port:
        assert "took the subscription" in peers.run(source(port, "a", tls=ours).check()).said
        with pytest.raises(Unavailable, match="certificate"):
            peers.run(source(port, "a", tls={"enabled": True}).check())
    with pytest.raises(ConfigError, match=r"sources\.a\.tls"):
        peers.run(source(port, "a", tls={"enabled": True, "ca": tmp_path / "none.pem"}).check())


def test_a_wrong_password_is_refused_and_a_missing_broker_unavailable(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    with peers.mosquitto(tmp_path, f"allow_anonymous false\npassword_file {tmp_path}/users") as port, pytest.raises(Refused):
        peers.run(source(port, "a", user="x", password="y").check())
    with pytest.raises(Unavailable):
        peers.run(source(peers.free_port(), "a").check())


def test_a_broker_that_dies_ends_the_run(tmp_path: Path) -> None:
    with contextlib.ExitStack() as peer:
        port = peer.enter_context(peers.mosquitto(tmp_path))
        with pytest.raises(Unavailable, match="closed the connection"):
            peers.run(peers.bereft(source(port, "x"), peer.close))


def test_the_session_outlives_the_broker(tmp_path: Path) -> None:
    with peers.mosquitto(tmp_path) as port:
        peers.run(join(port, "kept"))
        send(port, "kept/a", {"title": "before"})
    journal = peers.Journal()
    with peers.mosquitto(tmp_path, port=port):
        peers.run(peers.while_running(source(port, "kept"), journal, lambda: bool(journal.batches)))
    assert records(journal)[0]["title"] == "before"
