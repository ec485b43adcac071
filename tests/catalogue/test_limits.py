"""Limits let in what is alive and fair, announce what they leave out, and leave everything else untouched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operating import START

from ninefold.catalogue.limits import Limits
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.ground.meter import Meter
from ninefold.model.signal import METRIC, TIME, Batch, batch_of


def points(first: int, count: int, at: int, source: str = "app") -> Batch:
    ids = pa.array(np.arange(first, first + count, dtype=np.uint64))
    columns = [ids, pa.array(np.full(count, at)).cast(TIME), pa.array(np.ones(count))]
    return Batch("metric", source, at, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def let(limits: Limits, batch: Batch) -> tuple[Batch, dict[str, Any] | None]:
    """What of a batch passes and was kept, and the notice given with it."""
    passed = limits.admit([batch])
    limits.kept(passed)
    assert len(passed.notices) <= 1
    return (passed.batches or [replace(batch, rows=batch.rows.slice(0, 0))])[-1], next(iter(passed.notices), None)


def test_below_the_limit_a_batch_is_the_same_object() -> None:
    limits = Limits(100)
    batch = points(1, 100, START)
    assert let(limits, batch) == (batch, None)
    assert let(limits, batch)[0] is batch
    assert limits.active() == {"app": 100}


def test_what_is_alive_stays_and_new_ones_wait_until_others_are_quiet() -> None:
    limits = Limits(100)
    let(limits, points(1, 100, START))
    kept, notice = let(limits, points(51, 100, START + MINUTE))
    assert kept.rows.column("series").to_pylist() == list(range(51, 101)), "the known ones pass"
    assert notice is not None
    assert (notice["kind"], notice["entity"], notice["attributes"]["now"]) == ("drift", "source:app", "50 left out")
    assert let(limits, points(101, 50, START + 2 * MINUTE))[1] is None, "announced once"
    kept, over = let(limits, points(101, 50, START + 17 * MINUTE))
    assert kept.rows.num_rows == 50, "those of the first batch are quiet by now"
    assert limits.active() == {"app": 100}
    assert over is not None
    assert (over["status"], over["source_id"]) == ("resolved", notice["source_id"])
    assert over["title"] == "everything of app is kept again; 100 rows were left out"


def test_an_event_row_of_a_notice_is_an_event() -> None:
    limits = Limits(1)
    _, notice = let(limits, points(1, 5, START))
    assert notice is not None
    row = batch_of("event", "ninefold.watch", START, [notice]).rows.to_pylist(maps_as_pydicts="lossy")[0]
    assert row["attributes"]["source"] == "app"
    assert row["status"] == "firing"


def test_a_source_below_its_share_gets_in_at_the_cost_of_the_largest() -> None:
    limits = Limits(1000, total=1000)
    let(limits, points(1, 1000, START, "hog"))
    kept, notice = let(limits, points(5001, 300, START + SECOND, "small"))
    assert (kept.rows.num_rows, notice) == (300, None)
    assert limits.active() == {"hog": 700, "small": 300}
    kept, _ = let(limits, points(9001, 900, START + SECOND, "small"))
    assert limits.active() == {"hog": 500, "small": 500}
    assert kept.rows.num_rows == 200


def logs(count: int, at: int, severity: int = 9) -> Batch:
    rows = [{"time": at + i, "body": "x", "severity_number": severity, "trace_id": f"{i // 10 + 1:032x}"} for i in range(count)]
    return batch_of("log", "app", at, rows)


def test_under_pressure_errors_and_whole_traces_are_kept() -> None:
    full = 0.0
    limits = Limits(pressure=lambda: full)
    batch = logs(1000, START)
    assert let(limits, batch)[0] is batch
    full = 0.825
    kept, notice = let(limits, batch)
    assert kept.rows.num_rows == pytest.approx(525, abs=120)
    counts = np.unique(kept.rows.column("trace_id").to_pylist(), return_counts=True)[1]
    assert set(counts.tolist()) == {10}
    assert notice is not None
    assert notice["attributes"]["what"] == "sampling"
    assert let(limits, batch)[0].rows.equals(kept.rows), "a repeat meets the same decision"
    errors = logs(1000, START, 17)
    assert let(limits, errors)[0] is errors
    assert let(limits, points(1, 10, START))[1] is None, "numbers are not thinned"


def test_ninefolds_own_data_always_passes() -> None:
    batch = points(1, 10, START, "ninefold")
    assert let(Limits(1), batch) == (batch, None)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60), st.integers(1, 40), st.integers(0, 20)), max_size=25))
def test_limits_hold_and_nothing_is_left_out_without_a_word(steps: list[tuple[str, int, int, int]]) -> None:
    limits, at, told = Limits(30, total=50), START, set()
    for source, first, count, minutes in steps:
        at += minutes * MINUTE
        batch = points(first, count, at, source)
        passed = limits.admit([batch])
        limits.kept(passed)
        kept = passed.batches[0].rows.column("series").to_pylist() if passed.batches else []
        active = limits.active()
        assert max(active.values()) <= 30
        assert sum(active.values()) <= 50
        assert set(kept) <= set(batch.rows.column("series").to_pylist())
        for notice in passed.notices:
            (told.add if notice["status"] == "firing" else told.discard)(notice["attributes"]["source"])
        assert len(kept) + passed.out.get((source, "limit"), 0) == count, "every row passes or is counted"
        assert len(kept) == count or source in told


def test_a_notice_is_given_until_it_was_kept_and_only_what_was_kept_counts() -> None:
    meter = Meter()
    limits = Limits(10, meter=meter)
    lost = limits.admit([points(1, 15, START)])
    again = limits.admit([points(1, 15, START + SECOND)])
    assert [notice["id"] for notice in lost.notices] == [notice["id"] for notice in again.notices]
    limits.kept(again)
    third = limits.admit([points(1, 15, START + 2 * SECOND)])
    assert (third.notices, third.out) == ([], {("app", "limit"): 5})
    limits.kept(third)
    assert meter.counter("ninefold_limits_left_out_total").values == {(("reason", "limit"), ("source", "app")): 10}
    quiet = START + 11 * MINUTE
    lost, over = (limits.admit([points(1, 1, at, "other")]) for at in (quiet, quiet + SECOND))
    assert [notice["title"] for notice in over.notices] == ["everything of app is kept again; 10 rows were left out"]
    assert [notice["id"] for notice in lost.notices] == [notice["id"] for notice in over.notices], "it is over though the source is quiet"
    limits.kept(over)
    assert limits.admit([points(1, 1, quiet + 2 * SECOND, "other")]).notices == []


def about(first: int, count: int, at: int) -> Batch:
    rows = [{"series": i, "name": f"m{i}", "kind": "gauge", "seen": at} for i in range(first, first + count)]
    return batch_of("series", "app", at, rows)


def test_a_description_left_out_passes_with_its_first_points_once_there_is_room() -> None:
    limits = Limits(10)
    limits.kept(limits.admit([about(1, 12, START), points(1, 12, START)]))
    limits.kept(limits.admit([points(1, 8, START + 10 * MINUTE)]))
    later = START + 16 * MINUTE
    for _ in range(2):
        passed = limits.admit([points(11, 2, later)])
        assert [(batch.signal, batch.rows.column("series").to_pylist()) for batch in passed.batches] == [
            ("series", [11, 12]), ("metric", [11, 12]),
        ], "told again as long as it is not durable"  # fmt: skip
        assert passed.batches[0].rows.column("name").to_pylist() == ["m11", "m12"]
    limits.kept(passed)
    assert [batch.signal for batch in limits.admit([points(11, 2, later + SECOND)]).batches] == ["metric"]


def test_a_series_whose_description_could_not_even_be_held_waits_to_be_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninefold.catalogue.limits._HELD", 1)
    limits = Limits(2)
    limits.kept(limits.admit([about(1, 4, START)]))
    later = START + 16 * MINUTE
    passed = limits.admit([points(3, 2, later)])
    assert [batch.rows.column("series").to_pylist() for batch in passed.batches] == [[4], [4]], (
        "the newest description is the one that is held"
    )
    assert passed.out == {("app", "limit"): 1}
    passed = limits.admit([about(3, 1, later), points(3, 1, later)])
    assert [batch.rows.column("series").to_pylist() for batch in passed.batches] == [[3], [3]]
    limits.kept(passed)
    assert limits.admit([points(3, 1, later + SECOND)]).out == {}
