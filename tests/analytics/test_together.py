"""Metrics judged together: what each alone would not show, the same however batches are cut, and after a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ninefold.analytics.findings import described
from ninefold.analytics.metrics.together import Together
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData
from ninefold.model.signal import METRIC, Batch, batch_of

START = 1_700_000_040 * 10**9
HOST = "host:web-1"
NAMES = ("load", "requests", "cpu", "memory")


def descriptions(kind: str = "gauge", entity: str = HOST) -> list[dict[str, Any]]:
    return [described(name, "", kind, entity, {}, START) for name in NAMES]


def machine(minutes: int = 600, seed: int = 3) -> np.ndarray:
    """A host in which load drives requests and cpu; memory goes its own way. [minutes, 4]"""
    rng = np.random.default_rng(seed)
    load = 50 + 20 * np.sin(np.arange(minutes) / 40) + rng.normal(0, 3, minutes)
    return np.stack(
        (load, 10 * load + rng.normal(0, 5, minutes), load / 100 + rng.normal(0, 0.01, minutes), rng.normal(8, 0.2, minutes)), axis=1
    )


def batch(rows: list[tuple[int, int, float]]) -> Batch:
    columns = [pa.array([r[0] for r in rows], pa.uint64()), pa.array([r[1] for r in rows], METRIC.field("time").type)]
    table = pa.RecordBatch.from_arrays([*columns, pa.array([r[2] for r in rows], pa.float64())], schema=METRIC)
    return Batch("metric", "test", max(r[1] for r in rows), table)


def points(values: np.ndarray, about: list[dict[str, Any]]) -> list[tuple[int, int, float]]:
    return [
        (one["series"], START + minute * MINUTE + place, float(values[minute, place]))
        for minute in range(len(values))
        for place, one in enumerate(about)
        if np.isfinite(values[minute, place])
    ]


def play(technique: Any, rows: list[tuple[int, int, float]], size: int = 40) -> list[dict[str, Any]]:
    found = [out for first in range(0, len(rows), size) for out in technique.process(batch(rows[first : first + size]))]
    return [row for out in found for row in out.rows.to_pylist()]


@pytest.fixture
def fresh() -> Callable[[], Together]:
    def make() -> Together:
        technique = Together()
        technique.process(batch_of("series", "test", START, descriptions()))
        return technique

    return make


def broken() -> np.ndarray:
    """Requests stay at a value they often have, while load and cpu go on: nothing is outside its own bounds."""
    values = machine(700)
    values[600:660, 1] = 450.0 + np.random.default_rng(1).normal(0, 5, 60)
    values[600:660, 0] += 12
    values[600:660, 2] += 0.12
    return values


def test_a_broken_relation_is_one_episode_that_names_its_metrics(fresh: Callable[[], Together]) -> None:
    found = play(fresh(), points(broken(), descriptions()))
    assert [row["status"] for row in found] == ["firing", "resolved"]
    fired = found[0]
    attributes = dict(fired["attributes"])
    assert fired["entity"] == HOST
    assert fired["kind"] == "anomaly"
    assert attributes["reason"] == "combination"
    since = (int(np.datetime64(attributes["since"].rstrip("Z"), "ns").astype(np.int64)) - START) // MINUTE
    assert 599 <= since <= 606
    assert "requests" in attributes["metrics"]
    assert not attributes["metrics"].endswith("memory")
    assert "let expect" in fired["body"]
    assert found[0]["fingerprint"] == found[1]["fingerprint"]


def test_ordinary_behaviour_is_quiet(fresh: Callable[[], Together]) -> None:
    assert play(fresh(), points(machine(1500, seed=9), descriptions()), 200) == []


def test_batches_may_be_cut_anywhere_and_a_restart_changes_nothing(fresh: Callable[[], Together]) -> None:
    rows = points(broken(), descriptions())
    whole, pieces, restarted = fresh(), fresh(), fresh()
    expected = play(whole, rows, 311)
    half = len(rows) * 6 // 7 + 3
    early = play(restarted, rows[:half], 311)
    again = Together()
    again.restore(restarted.snapshot())
    assert expected
    assert [r["id"] for r in play(pieces, rows, 7)] == [r["id"] for r in expected]
    assert [r["id"] for r in early + play(again, rows[half:], 311)] == [r["id"] for r in expected]
    assert whole.snapshot() == pieces.snapshot()


def test_scale_does_not_matter(fresh: Callable[[], Together]) -> None:
    scaled = play(fresh(), points(broken() * np.array([1e6, 1e-3, 100.0, 7.0]), descriptions()))
    assert [row["time"] for row in scaled] == [row["time"] for row in play(fresh(), points(broken(), descriptions()))]


def test_gaps_are_no_news(fresh: Callable[[], Together]) -> None:
    values = machine(1200, seed=5)
    values[np.random.default_rng(2).random(values.shape) < 0.2] = np.nan
    values[700:730] = np.nan
    values[800:900, 1] = np.nan
    assert play(fresh(), points(values, descriptions()), 100) == []


def test_counters_are_judged_by_their_rate() -> None:
    technique, about = Together(), descriptions("counter")
    technique.process(batch_of("series", "test", START, about))
    values = np.cumsum(np.abs(broken()) * 60, axis=0)
    values[300:] -= values[300] - 5.0  # a restart
    found = play(technique, points(values, about))
    assert [row["status"] for row in found] == ["firing", "resolved"]
    assert technique.behaviour(HOST) is not None


def test_an_open_incident_is_not_learned(fresh: Callable[[], Together]) -> None:
    technique, rows = fresh(), points(machine(400), descriptions())
    play(technique, rows[:800])
    known = technique.behaviour(HOST)
    said = {"ninefold.incident": "INC-1"}
    event = {"kind": "incident", "entity": HOST, "status": "opened", "time": rows[800][1], "id": "1", "attributes": said}
    technique.process(batch_of("event", "ninefold", rows[800][1], [event]))
    play(technique, rows[800:1200])
    later = technique.behaviour(HOST)
    play(technique, rows[1200:])
    at_last = technique.behaviour(HOST)
    assert known is not None
    assert later is not None
    assert at_last is not None
    assert later["learned_minutes"] - known["learned_minutes"] <= 1
    assert at_last["learned_minutes"] > later["learned_minutes"] + 50, "an incident that nobody ends is learned of after two hours"


@pytest.mark.parametrize(("source", "status"), [("webhook", "opened"), ("ninefold", "verdict")])
def test_only_an_open_incident_of_ninefold_keeps_from_learning(fresh: Callable[[], Together], source: str, status: str) -> None:
    technique, rows = fresh(), points(machine(400), descriptions())
    play(technique, rows[:800])
    known = technique.behaviour(HOST)
    event = {"kind": "incident", "entity": HOST, "status": status, "time": rows[800][1], "id": "1"}
    technique.process(batch_of("event", source, rows[800][1], [event]))
    play(technique, rows[800:])
    later = technique.behaviour(HOST)
    assert known is not None
    assert later is not None
    assert later["learned_minutes"] - known["learned_minutes"] > 100


def test_what_is_unheard_for_days_is_forgotten(fresh: Callable[[], Together]) -> None:
    technique = fresh()
    about = descriptions(entity="host:other")
    technique.process(batch_of("series", "test", START, about))
    play(technique, points(machine(100), descriptions()))
    later = [(one["series"], START + (day * 1440 + minute) * MINUTE, 1.0) for day in range(1, 5) for minute in range(3) for one in about]
    play(technique, later, 4)
    assert technique.behaviour(HOST) is None
    assert technique.behaviour("host:other") is not None


def test_an_entity_grows_into_a_wider_table() -> None:
    technique = Together()
    about = [described(f"m{i}", "", "gauge", HOST, {}, START) for i in range(12)]
    technique.process(batch_of("series", "test", START, about[:4]))
    play(technique, points(machine(100), about[:4]))
    technique.process(batch_of("series", "test", START, about[4:]))
    known = technique.behaviour(HOST)
    assert known is not None
    assert known["learned_minutes"] >= 98
    assert len(known["metrics"]) == 12


def test_repeated_and_late_points_change_little_and_wild_ones_nothing(fresh: Callable[[], Together]) -> None:
    rows = points(broken(), descriptions())
    rng = np.random.default_rng(4)
    noisy = [again for row in rows for again in ((row, row) if rng.random() < 0.1 else (row,))]
    wild = [(series, time, value) for series, time, _ in rows[::9] for value in (np.nan, np.inf, -np.inf)]
    late = [(series, time - 10 * MINUTE, 1e6) for series, time, _ in rows[400::11]]
    swapped = [noisy[place ^ 1] if (place ^ 1) < len(noisy) else noisy[place] for place in range(len(noisy))]
    merged = sorted([*swapped, *wild], key=lambda row: row[1] // MINUTE) + late
    expected = [(row["status"], row["time"]) for row in play(fresh(), rows)]
    assert expected
    assert [(row["status"], row["time"]) for row in play(fresh(), merged)] == expected


def test_a_repeated_point_of_a_counter_is_no_rate() -> None:
    one, two, about = Together(), Together(), descriptions("counter")
    rows = points(np.cumsum(np.abs(broken()) * 60, axis=0), about)
    for technique in (one, two):
        technique.process(batch_of("series", "test", START, about))
    play(one, rows)
    play(two, [again for row in rows for again in (row, row)])
    assert one.behaviour(HOST) == two.behaviour(HOST)


def test_a_metric_that_appears_later_is_no_news_and_is_judged_in_time(fresh: Callable[[], Together]) -> None:
    technique = fresh()
    values = machine(3000, seed=8)
    assert play(technique, points(values[:2000], descriptions()), 400) == []
    more = descriptions()[:1]
    more[0] = described("threads", "", "gauge", HOST, {}, START)
    technique.process(batch_of("series", "test", START + 2000 * MINUTE, more))
    about = [*descriptions(), *more]
    threads = 200 + 2 * values[2000:, 0] + np.random.default_rng(6).normal(0, 1, 1000)
    threads[950:] += 400
    both = np.column_stack((values[2000:], threads))
    rows = [(series, time + 2000 * MINUTE, value) for series, time, value in points(both, about)]
    found = play(technique, rows, 400)
    assert [row["status"] for row in found[:1]] == ["firing"]
    since = dict(found[0]["attributes"])["since"].rstrip("Z")
    assert (int(np.datetime64(since, "ns").astype(np.int64)) - START) // MINUTE >= 2950
    assert dict(found[0]["attributes"])["metrics"].startswith("threads")


def test_a_metric_that_vanishes_is_no_news(fresh: Callable[[], Together]) -> None:
    values = machine(1500, seed=8)
    values[900:, 2] = np.nan
    assert play(fresh(), points(values, descriptions()), 200) == []


def test_an_entity_of_one_metric_is_left_to_the_others() -> None:
    technique, about = Together(), descriptions()[:1]
    technique.process(batch_of("series", "test", START, about))
    values = machine(400)[:, :1]
    values[300:] *= 50
    assert play(technique, points(values, about)) == []


def test_a_snapshot_comes_in_parts_and_one_that_is_missing_is_noticed() -> None:
    technique = Together()
    hosts = [f"host:h{number}" for number in range(700)]
    about = [described(f"m{j}", "", "gauge", host, {"rack": host[-1]}, START) for host in hosts for j in range(3 + 15 * (host < "host:h2"))]
    technique.process(batch_of("series", "test", START, about))
    rng = np.random.default_rng(0)
    for minute in range(70):
        play(technique, [(one["series"], START + minute * MINUTE, float(rng.normal())) for one in about], len(about))
    parts = list(technique.parts())
    assert max(len(part) for part in parts) < 5 << 20
    again = Together()
    again.assemble(parts)
    assert list(again.parts()) == parts
    assert again.behaviour("host:h150") == technique.behaviour("host:h150")
    for missing in range(1, len(parts)):
        with pytest.raises(BadData):
            Together().assemble(parts[:missing])


def test_a_foreign_snapshot_is_refused() -> None:
    with pytest.raises(BadData):
        Together().restore(b"nonsense")
