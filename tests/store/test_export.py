"""Cold export: what other tools read is what the store had, once, and stays when retention has deleted it."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import ConfigError, Conflict, Unavailable
from ninefold.model.signal import SCHEMAS, batch_of
from ninefold.store.export import DAILY, export
from ninefold.store.telemetry import Telemetry
from ninefold.store.upkeep import Upkeep

DAY = 86400 * SECOND
MIDNIGHT = now() // DAY * DAY
NOON = MIDNIGHT + DAY // 2


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Telemetry]:
    store = Telemetry(f"chdb://{tmp_path / 'store'}")
    store.open()
    log = [{"time": NOON - days * DAY, "body": f"{days}; “x”", "attributes": {"day": str(days)}} for days in (1, 2, 2, 3)]
    store.append(
        [
            batch_of("log", "s", NOON, log),
            batch_of("series", "s", NOON, [{"series": 2**63 + 1, "name": "load", "seen": NOON, "attributes": {"a": "b"}}]),
            batch_of("metric", "s", NOON, [{"series": 2**63 + 1, "time": NOON - 2 * DAY, "value": 1.5}]),
            batch_of("histogram", "s", NOON, [{"series": 1, "time": NOON - 2 * DAY, "positive_index": [1], "positive_count": [2.0]}]),
            batch_of("exemplar", "s", NOON, [{"series": 1, "time": NOON - 2 * DAY, "value": 2.5, "trace_id": "ab"}]),
            batch_of("span", "s", NOON, [{"time": NOON - 2 * DAY, "trace_id": "ab", "span_id": "cd", "duration": 5}]),
            *(batch_of("event", "s", at, [{"id": "e", "time": NOON - 2 * DAY, "title": "t"}]) for at in (NOON, NOON + 1)),
        ],
        "fill",
    )
    yield store
    store.close()


def test_days_before_are_written_once_as_the_store_has_them(filled: Telemetry, tmp_path: Path) -> None:
    to = tmp_path / "cold"
    written = {file.path: file.rows for file in export(filled, to, MIDNIGHT - DAY)}
    two, three = (f"{(pa.scalar(NOON - days * DAY, pa.timestamp('ns')).as_py()):%Y-%m-%d}" for days in (2, 3))
    assert written == {
        **{f"{signal}/date={two}/{signal}.parquet": 2 if signal == "log" else 1 for signal in DAILY},
        f"log/date={three}/log.parquet": 1, "series.parquet": 1, "relation.parquet": 0,
    }  # fmt: skip
    assert export(filled, to, MIDNIGHT - DAY) == [], "a second run writes nothing again"
    (manifest := to / "manifest.json").write_text(manifest.read_text().replace('"beside"', '"unknown"'))  # as if it had ended before
    assert [file.path for file in export(filled, to, MIDNIGHT - DAY)] == ["series.parquet", "relation.parquet"]
    for path, about in json.loads((to / "manifest.json").read_text())["files"].items():
        assert hashlib.sha256((to / path).read_bytes()).hexdigest() == about["sha256"]
        assert pq.read_schema(to / path).equals(SCHEMAS[about["signal"]])
        assert pq.read_metadata(to / path).num_rows == about["rows"]
    assert not list(to.rglob("*.part"))
    for signal in DAILY:
        back = ds.dataset(to / signal, partitioning="hive").to_table()
        columns = ", ".join(f"`{name}`" for name in SCHEMAS[signal].names)
        stored = filled.query(f"SELECT {columns} FROM {signal} WHERE toDate(time) <= '{two}'")
        assert sorted(back.drop_columns("date").to_pylist(), key=str) == sorted(stored.cast(SCHEMAS[signal]).to_pylist(), key=str)


def test_late_rows_are_taken_in_and_what_is_deleted_stays(filled: Telemetry, tmp_path: Path) -> None:
    to = tmp_path / "cold"
    export(filled, to, MIDNIGHT)
    filled.append([batch_of("log", "s", NOON, [{"time": NOON - 2 * DAY, "body": "late"}])], "late")
    assert [(file.rows) for file in export(filled, to, MIDNIGHT) if file.path.startswith("log/")] == [1], "only what is new"
    with filled._writers.client() as client:
        client.command("TRUNCATE TABLE log")
    filled.append([batch_of("log", "s", NOON, [{"time": NOON - 2 * DAY, "body": "very late"}])], "very late")
    export(filled, to, MIDNIGHT)
    assert ds.dataset(to / "log", partitioning="hive").to_table().num_rows == 6
    assert len([path for path in json.loads((to / "manifest.json").read_text())["files"] if path.startswith("log/")]) == 5


def test_two_exports_to_one_folder_do_not_run_at_once(filled: Telemetry, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another export"):
            export(filled, tmp_path, MIDNIGHT)


def test_the_hourly_round_exports_whole_days(filled: Telemetry, tmp_path: Path) -> None:
    Upkeep(filled, tmp_path / "cold", 2).once()
    assert ds.dataset(tmp_path / "cold" / "log", partitioning="hive").to_table().num_rows == 3, "yesterday is one day old"
    Upkeep(filled, tmp_path / "cold", 1).once()
    assert ds.dataset(tmp_path / "cold" / "log", partitioning="hive").to_table().num_rows == 4
    Upkeep(filled).once()


@pytest.mark.parametrize(("days", "sources"), [(7, {}), (2, {"firewall": {"log": 2}})])
def test_what_would_be_deleted_before_it_is_exported_is_a_wrong_configuration(days: int, sources: dict[str, dict[str, int]]) -> None:
    store = Telemetry("chdb:///nowhere", retention_days={"metric": 30}, source_retention_days=sources)
    with pytest.raises(ConfigError, match=r"(span|log of firewall) is kept for . days.*export after fewer"):
        Upkeep(store, Path("/nowhere"), days)
    Upkeep(store, Path("/nowhere"), days - 1)
    Upkeep(store, None, days)


def test_a_folder_that_cannot_be_used_says_so(filled: Telemetry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="the export to"):
        export(filled, tmp_path / "file", MIDNIGHT)
    (tmp_path / "cold").mkdir()
    (tmp_path / "cold" / "manifest.json").write_text("{")
    with pytest.raises(Unavailable, match="remove it"):
        export(filled, tmp_path / "cold", MIDNIGHT)
