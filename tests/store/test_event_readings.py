"""An event that is read again counts as it was read last, wherever its time went, and stores of the version before are carried over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ninefold.ground.clock import SECOND, now
from ninefold.model.signal import batch_of
from ninefold.store import schema
from ninefold.store.telemetry import Telemetry

OpenStore = Callable[..., Telemetry]

DAY = 86400 * SECOND
AT = now() // SECOND * SECOND
MOVED = AT - 92 * DAY


def read(store: Telemetry, id_: str, time: int, mapping: str = "") -> None:
    """Store a reading of an event that was received once."""
    row = {"id": id_, "time": time, "title": mapping or "first", "attributes": {"ninefold.mapping": mapping} if mapping else {}}
    store.append([batch_of("event", "s", AT, [row])], f"{id_} {time} {mapping}")


def stored(store: Telemetry, where: str = "1", table: str = "event") -> list[tuple[str, int, str]]:
    rows = store.query(f"SELECT id, toUnixTimestamp64Nano(time) AS at, title FROM {table} WHERE {where} ORDER BY id")
    return [(row["id"], row["at"], row["title"]) for row in rows.to_pylist()]


def command(store: Telemetry, *statements: str) -> None:
    with store._writers.client() as client:
        for statement in statements:
            client.command(statement)


@pytest.mark.parametrize(("first", "then"), [(AT, MOVED), (MOVED, AT)], ids=["moved later", "moved back"])
def test_a_reading_with_another_time_replaces_the_one_before(store: Telemetry, first: int, then: int) -> None:
    read(store, "e", first)
    read(store, "e", then, "m v1")
    inside, outside = (f"abs(toUnixTimestamp64Nano(time) - {at}) < {DAY}" for at in (then, first))
    windows = (f"time > fromUnixTimestamp64Nano({AT - DAY})", f"time < fromUnixTimestamp64Nano({AT - DAY})")
    for _ in range(2):
        for table in ("event", "v_event"):
            assert stored(store, table=table) == stored(store, inside, table) == [("e", then, "m v1")]
            assert stored(store, outside, table) == []
            assert [stored(store, window, table) for window in windows].count([("e", then, "m v1")]) == 1
        command(store, "OPTIMIZE TABLE event FINAL")
    assert store.query("SELECT count() AS n FROM event SETTINGS final = 0")["n"].to_pylist() == [1]
    assert "revision" not in store.query("SELECT * FROM event").column_names


def test_events_of_the_version_before_are_carried_over_whatever_interrupts_it(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [("a", AT, "first"), ("b", MOVED, "m v10"), ("c", AT, "m v2")]
    for step in (0, 3, 4, 5):  # not begun, copied, exchanged, done and not noted
        monkeypatch.setattr(schema, "UPGRADES", schema.UPGRADES[:2])
        store = open_store()
        if step:
            make = next(text for text in schema.statements(1, store._database, store.retention.ttl_days) if ".event (" in text)
            command(store, "DROP TABLE event", make)
        _fill_the_version_before(store, step)
        monkeypatch.undo()
        command(store, *schema.statements(3, store._database, store.retention.ttl_days)[:step])
        store.close()
        store = open_store()
        assert stored(store) == expected, step
        assert store.query("SELECT count() AS n FROM event SETTINGS final = 0")["n"].to_pylist() == [3]
        made = store.query("SELECT name, create_table_query AS made FROM system.tables WHERE database = currentDatabase()").to_pylist()
        tables = {row["name"]: row["made"] for row in made}
        assert "event_next" not in tables
        assert all(words in tables["event"] for words in ("ReplacingMergeTree(revision)", "toYYYYMM(received)", "toIntervalDay(400)"))
        read(store, "c", MOVED, "m v3")
        assert stored(store, "id = 'c'") == [("c", MOVED, "m v3")]
        command(store, "ALTER TABLE schema_version DELETE WHERE version > 2 SETTINGS mutations_sync = 2")
        store.close()


def _fill_the_version_before(store: Telemetry, step: int) -> None:
    readings: Sequence[tuple[Any, ...]] = (
        ("a", AT, ""), ("b", AT, "m v9"), ("b", MOVED, "m v10"), ("c", MOVED, ""), ("c", AT, "m v2"),
    )  # fmt: skip
    for id_, time, mapping in readings[:: -1 if step % 2 else 1]:  # whichever was inserted last
        read(store, id_, time, mapping)
