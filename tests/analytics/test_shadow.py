"""The shadow: off without a candidate, compares fairly, forgets with it, and goes on after a restart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.baseline import Baseline
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


def of(kind: str, said: dict[str, str], **more: Any) -> Batch:
    row = {"id": kind, "time": START, "kind": kind, "attributes": said, **more}
    return batch_of("event", "ninefold.console", START, [row])


def described() -> Batch:
    rows = [{"series": i, "name": "latency", "kind": "gauge", "entity": f"service:shop-{i}", "source": "test"} for i in [*SERIES, 5]]
    return batch_of("series", "test", START, rows)


def sides(technique: Shadow) -> list[list[tuple[float, bool]]]:
    """Factor on the thresholds and hold of each series, on both sides."""
    found = []
    for side in technique._sides:
        ids, _, _, cells = side.known()
        found.append([(round(float(cells[i, c.BAR] or 1.0), 3), bool(cells[i, c.HOLD])) for i in np.argsort(ids)])
    return found


def test_both_sides_hear_words_verdicts_holds_and_undo_as_the_current_detection_does() -> None:
    technique, current = Shadow(), Baseline()
    entity = f"service:shop-{SERIES[0]}"
    verdict = {"fingerprint": fingerprint_of(SERIES[1]), "verdict": "noise", "series": str(SERIES[1]), "metric": "latency"}
    before = [
        described(),
        of("setting", {"detection": "sensitivity", "scope": "entity", "name": entity, "word": "calm"}),
        of("incident", {"ninefold.incident": "INC-1"}, status="opened", entity=entity),
        of("verdict", verdict),
    ]
    after = [
        of("setting", {"detection": "sensitivity", "scope": "series", "name": str(SERIES[2]), "word": "keen"}),
        of("setting", {"detection": "undo", "move": "1", "scope": "series"}),
        of("incident", {"ninefold.incident": "INC-1"}, status="resolved", entity=entity),
    ]

    def asked() -> list[tuple[float, bool]]:
        ids, _, _, cells = current.known()
        rows = {int(ids[i]): (round(float(cells[i, c.BAR] or 1.0), 3), bool(cells[i, c.HOLD])) for i in range(len(ids))}
        return [rows[series] for series in SERIES]

    for batch in before:
        technique.process(batch)
        current.process(batch)
    technique.process(setting("shadow", sure="6"))
    assert sides(technique) == [asked(), asked()]
    assert {hold for _, hold in asked()} == {True, False}
    for batch in after:
        technique.process(batch)
        current.process(batch)
        again = Shadow()
        again.restore(technique.snapshot())
        assert sides(technique) == sides(again) == [asked(), asked()]
    assert not any(hold for _, hold in asked())


def test_settings_taken_back_are_not_what_is_compared_with() -> None:
    technique = Shadow()
    technique.process(setting("settings", sure="8"))
    technique.process(setting("shadow", alone="9"))
    technique.process(setting("settings", sure="7"))
    technique.process(setting("shadow", alone="9"))
    technique.process(of("setting", {"detection": "undo", "move": "2", "scope": "settings"}))
    found = compared(technique)
    assert found["candidate"] == {"alone": 9.0}
    assert [float(side._settings[c.S_SURE]) for side in technique._sides] == [8.0, 8.0]
    assert [float(side._settings[c.S_ALONE]) for side in technique._sides][1] == 9.0


def test_a_restart_changes_nothing() -> None:
    whole, other = Shadow(), Shadow()
    for technique in (whole, other):
        technique.process(described())
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
