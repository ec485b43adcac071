"""The shadow: off without a candidate, compares fairly, forgets with it, and goes on after a restart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ninefold.analytics.metrics.shadow import SAMPLE, Shadow, interval
from ninefold.analytics.metrics.steering import fingerprint_of
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import METRIC, Batch, batch_of

START = 1_700_000_000 * SECOND // MINUTE * MINUTE
SERIES = [SAMPLE * i for i in range(1, 7)]


def setting(what: str, source: str = "ninefold.console", **said: str) -> Batch:
    return batch_of("event", source, START, [{"id": what, "time": START, "kind": "setting", "attributes": {"detection": what, **said}}])


def run(technique: Shadow, hours: int = 60, begin: int = 0) -> Shadow:
    rng = np.random.default_rng(11)
    for hour in range(hours):
        values = rng.normal(100, 5, 60 * 7) + 40 * (rng.random(60 * 7) < 0.006)
        if hour < begin:
            continue
        at = START + hour * 60 * MINUTE
        times = np.repeat(at + np.arange(60) * MINUTE, 7)
        columns = [pa.array([*SERIES, 5] * 60, pa.uint64()), pa.array(times, METRIC.field("time").type), pa.array(values)]
        technique.process(Batch("metric", "test", at + 60 * MINUTE, pa.RecordBatch.from_arrays(columns, schema=METRIC)))
    return technique


def compared(technique: Shadow) -> dict[str, Any]:
    found = technique.comparison()
    assert found is not None
    return found


def test_it_is_off_without_a_candidate_and_whoever_sends_cannot_set_one() -> None:
    technique = Shadow()
    technique.process(setting("shadow", source="webhook", sure="6"))
    assert run(technique, 2).comparison() is None
    technique.process(setting("shadow", sure="100"))
    assert technique.comparison() is None


def test_it_tells_a_quieter_candidate_from_a_louder_one() -> None:
    counts = {}
    for name, said in (("calm", {"sure": "8", "alone": "11"}), ("same", {"sure": "4.5"}), ("keen", {"sure": "3", "alone": "4"})):
        technique = Shadow()
        technique.process(setting("shadow", **said))
        found = compared(run(technique))
        counts[name] = found["candidate_side"]["alarms"] - found["current"]["alarms"]
        assert found["series"] == len(SERIES)
        assert found["both"] + found["only_current"] == found["current"]["alarms"]
        assert found["both"] + found["only_candidate"] == found["candidate_side"]["alarms"]
        if name == "same":
            assert (found["chance"], found["earlier"], found["later"]) == (1.0, 0, 0)
    assert counts["calm"] < counts["same"] == 0 < counts["keen"]


def test_verdicts_are_counted_and_what_is_promoted_ends_it() -> None:
    technique = Shadow()
    technique.process(setting("shadow", sure="3", alone="4"))
    run(technique, 30)
    said = {"fingerprint": " ".join(fingerprint_of(series) for series in SERIES), "verdict": "noise"}
    technique.process(batch_of("event", "ninefold.console", START, [{"id": "v", "time": START, "kind": "verdict", "attributes": said}]))
    assert compared(technique)["candidate_side"]["noise"] >= 1
    technique.process(setting("settings", sure="3", alone="4"))
    assert technique.comparison() is None


def test_a_restart_changes_nothing() -> None:
    whole, other = Shadow(), Shadow()
    for technique in (whole, other):
        technique.process(setting("shadow", sure="3.5"))
    run(whole)
    kept = run(other, 30).snapshot()
    again = Shadow()
    again.restore(kept)
    run(again, begin=30)
    assert again.snapshot() == whole.snapshot()
    again.restore(b"")
    assert again.comparison() is None


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39)])
def test_intervals_are_exact(count: int, low: float, high: float) -> None:
    assert interval(count) == pytest.approx((low, high), rel=1e-3, abs=1e-3)
