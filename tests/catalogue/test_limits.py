"""Limits let in what is alive and fair, announce what they leave out, and leave everything else untouched."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operating import START

from ninefold.catalogue.limits import Limits
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import METRIC, TIME, Batch, batch_of


def points(first: int, count: int, at: int, source: str = "app") -> Batch:
    ids = pa.array(np.arange(first, first + count, dtype=np.uint64))
    columns = [ids, pa.array(np.full(count, at)).cast(TIME), pa.array(np.ones(count))]
    return Batch("metric", source, at, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def test_below_the_limit_a_batch_is_the_same_object() -> None:
    limits = Limits(100)
    batch = points(1, 100, START)
    assert limits.admit(batch) == (batch, None)
    assert limits.admit(batch)[0] is batch
    assert limits.active() == {"app": 100}


def test_what_is_alive_stays_and_new_ones_wait_until_others_are_quiet() -> None:
    limits = Limits(100)
    limits.admit(points(1, 100, START))
    kept, notice = limits.admit(points(51, 100, START + MINUTE))
    assert kept.rows.column("series").to_pylist() == list(range(51, 101)), "the known ones pass"
    assert notice is not None
    assert (notice["kind"], notice["entity"], notice["attributes"]["now"]) == ("drift", "source:app", "50 left out")
    assert limits.admit(points(101, 50, START + 2 * MINUTE))[1] is None, "announced once"
    kept, over = limits.admit(points(101, 50, START + 17 * MINUTE))
    assert kept.rows.num_rows == 50, "those of the first batch are quiet by now"
    assert limits.active() == {"app": 100}
    assert over is not None
    assert (over["status"], over["source_id"]) == ("resolved", notice["source_id"])
    assert over["title"] == "everything of app is kept again; 100 were left out"


def test_an_event_row_of_a_notice_is_an_event() -> None:
    limits = Limits(1)
    _, notice = limits.admit(points(1, 5, START))
    assert notice is not None
    row = batch_of("event", "ninefold.watch", START, [notice]).rows.to_pylist(maps_as_pydicts="lossy")[0]
    assert row["attributes"]["source"] == "app"
    assert row["status"] == "firing"


def test_a_source_below_its_share_gets_in_at_the_cost_of_the_largest() -> None:
    limits = Limits(1000, total=1000)
    limits.admit(points(1, 1000, START, "hog"))
    kept, notice = limits.admit(points(5001, 300, START + SECOND, "small"))
    assert (kept.rows.num_rows, notice) == (300, None)
    assert limits.active() == {"hog": 700, "small": 300}
    kept, _ = limits.admit(points(9001, 900, START + SECOND, "small"))
    assert limits.active() == {"hog": 500, "small": 500}
    assert kept.rows.num_rows == 200


def logs(count: int, at: int, severity: int = 9) -> Batch:
    rows = [{"time": at + i, "body": "x", "severity_number": severity, "trace_id": f"{i // 10 + 1:032x}"} for i in range(count)]
    return batch_of("log", "app", at, rows)


def test_under_pressure_errors_and_whole_traces_are_kept() -> None:
    full = 0.0
    limits = Limits(pressure=lambda: full)
    batch = logs(1000, START)
    assert limits.admit(batch)[0] is batch
    full = 0.825
    kept, notice = limits.admit(batch)
    assert kept.rows.num_rows == pytest.approx(525, abs=120)
    counts = np.unique(kept.rows.column("trace_id").to_pylist(), return_counts=True)[1]
    assert set(counts.tolist()) == {10}
    assert notice is not None
    assert notice["attributes"]["what"] == "sampling"
    assert limits.admit(batch)[0].rows.equals(kept.rows), "a repeat meets the same decision"
    errors = logs(1000, START, 17)
    assert limits.admit(errors)[0] is errors
    assert limits.admit(points(1, 10, START))[1] is None, "numbers are not thinned"


def test_ninefolds_own_data_always_passes() -> None:
    batch = points(1, 10, START, "ninefold")
    assert Limits(1).admit(batch) == (batch, None)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60), st.integers(1, 40), st.integers(0, 20)), max_size=25))
def test_limits_hold_and_nothing_is_left_out_without_a_word(steps: list[tuple[str, int, int, int]]) -> None:
    limits, at, told = Limits(30, total=50), START, set()
    for source, first, count, minutes in steps:
        at += minutes * MINUTE
        batch = points(first, count, at, source)
        kept, notice = limits.admit(batch)
        active = limits.active()
        assert max(active.values()) <= 30
        assert sum(active.values()) <= 50
        assert set(kept.rows.column("series").to_pylist()) <= set(batch.rows.column("series").to_pylist())
        if notice is not None:
            (told.add if notice["status"] == "firing" else told.discard)(source)
        assert kept.rows.num_rows == count or source in told
