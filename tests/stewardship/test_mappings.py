"""Mappings are suggested from data, kept in versions, tried without consequence, and applied to what is stored."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson
import pytest

from ninefold.config import WebhookConfig
from ninefold.ground.clock import SECOND, now, parse
from ninefold.ground.errors import BadData, ConfigError
from ninefold.normalise import Normaliser
from ninefold.sources.reading import raw_batch
from ninefold.stewardship import Stewardship
from ninefold.stewardship.mapping import Mappings, checked, suggested
from ninefold.store.records.base import Records
from ninefold.store.telemetry import Telemetry

_TOKENS = count()


def deliver(store: Telemetry, normaliser: Normaliser, name: str, records: list[dict[str, Any]], received: int = 0) -> None:
    batch = raw_batch(f"webhook:{name}", name, received or now(), [orjson.dumps(record) for record in records])
    store.append(normaliser.normalise(batch), f"mapping {next(_TOKENS)}")


def stored(store: Telemetry, name: str) -> list[dict[str, Any]]:
    sql = "SELECT *, toUnixTimestamp64Nano(time) AS at FROM event WHERE source = {name:String} ORDER BY source_id, kind"
    return store.query(sql, {"name": name}).to_pylist(maps_as_pydicts="lossy")


def order(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"o{number}", "what": f"order {number} failed", "name": "shop", "when": "2026-11-01T10:00:00Z", "level": "bad", **more}


def test_a_suggestion_names_a_path_that_gives_what_was_found() -> None:
    records = [
        {
            "labels": {"alertname": "DiskFull", "k8s.node.name": f"n{i}", "severity": "critical"},
            "startsAt": "2026-11-01T10:00:00Z",
            "a": [1],
        }
        for i in range(9)
    ] + [{"labels": {}}]
    found = {suggestion.target: suggestion for suggestion in suggested(records)}
    assert (found["title"].path, found["title"].confidence) == ("labels.alertname", 0.9)
    assert (found["time"].path, found["time"].example) == ("startsAt", "2026-11-01T10:00:00Z")
    assert found["severity"].path == "labels.severity"
    assert suggested([{"host": "db1", "message": "down"}])[-1].path == "join('', ['host:', host])"
    (placed,) = [s for s in suggested([{"placed": "2026-11-22 10:00:00", "note": "2026"}]) if s.target == "time"]
    assert (placed.path, placed.confidence) == ("placed", 0.8), "a time under a name of its own"
    assert suggested([]) == []
    (said,) = suggested([{"message": "down"}])
    assert (said.target, said.path) == ("title", "message"), "no body that says the title again"
    both = {s.target: s.path for s in suggested([{"summary": "down", "message": "the disk is full"}])}
    assert both == {"title": "summary", "body": "message"}


def test_versions_override_the_file_and_survive_a_restart(steward: Stewardship, normaliser: Normaliser) -> None:
    mappings = steward.mappings
    assert mappings.current("tickets") is not None
    assert mappings.version("tickets") == 0
    assert mappings.save("tickets", WebhookConfig(kind="ticket", fields={"title": "what"}), "ada", "titles were empty") == 1
    assert mappings.save("tickets", WebhookConfig(kind="ticket", fields={"title": "name"}), "bob") == 2
    assert [(v["version"], v["author"], v["note"]) for v in mappings.versions("tickets")] == [
        (2, "bob", ""),
        (1, "ada", "titles were empty"),
    ]
    with pytest.raises(ConfigError, match="not a JMESPath"):
        mappings.save("tickets", WebhookConfig(fields={"title": "a["}), "eve")
    with pytest.raises(BadData, match="nonsense"):
        checked({"nonsense": 1})
    again = Normaliser({})
    fresh = type(mappings)(steward.records, None, again, {})  # type: ignore[arg-type]
    fresh.load()
    assert fresh.version("tickets") == 2
    event = again.normalise(raw_batch("webhook:tickets", "tickets", now(), [orjson.dumps(order(1))]))[0].rows.to_pylist(
        maps_as_pydicts="lossy"
    )[0]
    assert (event["title"], event["attributes"]["ninefold.mapping"]) == ("shop", "tickets v2")
    assert "mapping tickets v2" in again.explain(event)[0]


def test_a_preview_shows_both_readings_and_keeps_nothing(steward: Stewardship, store: Telemetry, normaliser: Normaliser) -> None:
    deliver(store, normaliser, "orders1", [order(i) for i in range(3)])
    before = stored(store, "orders1")
    tried = steward.mappings.preview("orders1", WebhookConfig(kind="business", fields={"title": "what", "time": "when"}), 2)
    assert len(tried) == 2
    assert tried[0].changed[:2] == ["kind", "title"]
    assert tried[0].after is not None
    assert (tried[0].after["title"][:5], tried[0].after["time"], tried[0].before["title"]) == (
        "order",
        "2026-11-01T10:00:00.000000Z",
        "shop",
    )
    (bad,) = steward.mappings.preview("orders1", WebhookConfig(fields={"time": "what"}), 1)
    assert bad.after is None
    assert "is not a time" in bad.error
    assert stored(store, "orders1") == before
    assert {s.target for s in steward.mappings.suggest("orders1")} >= {"title", "severity", "source_id"}


def test_what_is_stored_is_read_again(steward: Stewardship, store: Telemetry, normaliser: Normaliser) -> None:
    start = now() - 100 * SECOND
    for i in range(3):
        deliver(store, normaliser, "orders2", [order(i), order(10 + i, timestamp="2026-11-02T00:00:00Z")], start + i)
    before = {row["source_id"]: row for row in stored(store, "orders2")}
    config = WebhookConfig(kind="business", fields={"title": "what", "severity": "level", "entity": "name"})
    steward.mappings.save("orders2", config, "ada")
    done = steward.mappings.apply("orders2", start, now())
    assert (done.read, done.replaced, done.superseded, done.unreadable) == (6, 6, 0, 0)
    after = {row["source_id"]: row for row in stored(store, "orders2")}
    assert [row["id"] for row in after.values()] == [row["id"] for row in before.values()], "the same records under the same ids"
    assert {(row["kind"], row["entity"], row["attributes"]["ninefold.mapping"]) for row in after.values()} == {
        ("business", "service:shop", "orders2 v1")
    }
    assert after["o1"]["title"] == "order 1 failed"
    assert after["o1"]["received"] == before["o1"]["received"]
    assert steward.mappings.apply("orders2", start, now()).read == 0, "all of it is read by this version"
    assert stored(store, "orders2") == list(after.values())


def test_a_reading_that_needs_another_id_supersedes(steward: Stewardship, store: Telemetry, normaliser: Normaliser) -> None:
    start = now() - 100 * SECOND
    deliver(store, normaliser, "orders3", [order(1), {"id": "o2", "name": "no time"}], start)
    ids = {row["source_id"]: row["id"] for row in stored(store, "orders3")}
    steward.mappings.save("orders3", WebhookConfig(fields={"time": "when", "title": "what"}), "ada")
    done = steward.mappings.apply("orders3", start, start)
    assert (done.replaced, done.superseded) == (1, 1)
    rows = {row["id"]: row for row in stored(store, "orders3")}
    old = rows.pop(ids["o1"])
    assert old["kind"] == "superseded"
    new = rows[old["attributes"]["ninefold.superseded_by"]]
    assert (new["title"], new["at"]) == ("order 1 failed", parse("2026-11-01T10:00:00Z"))
    assert len(rows) == 2


def test_what_cannot_be_read_so_stays_as_it_was(steward: Stewardship, store: Telemetry, normaliser: Normaliser) -> None:
    start = now() - 100 * SECOND
    deliver(store, normaliser, "orders4", [order(1), order(2, when="soon")], start)
    steward.mappings.save("orders4", WebhookConfig(kind="business", fields={"time": "when"}), "ada")
    done = steward.mappings.apply("orders4", start, start, "orders4")
    assert (done.read, done.unreadable) == (2, 1)
    assert list(done.reasons.values()) == [1]
    assert {row["source_id"]: row["kind"] for row in stored(store, "orders4") if row["kind"] != "superseded"} == {
        "o1": "business",
        "o2": "alert",
    }
    assert steward.mappings.apply("orders4", start, start, "somebody else").read == 0


def test_another_text_in_the_file_is_read_again_too(
    steward: Stewardship, store: Telemetry, records: Records, normaliser: Normaliser
) -> None:
    start = now() - 100 * SECOND
    deliver(store, normaliser, "orders9", [order(1, timestamp="2026-11-02T00:00:00Z")], start)
    for title in ("what", "name", "what"):  # the first one comes back
        files = {"orders9": WebhookConfig(fields={"title": title})}
        Mappings(records, store, Normaliser(files), files).apply("orders9", start, start)
        assert [row["title"] for row in stored(store, "orders9")] == [order(1)[title]]
