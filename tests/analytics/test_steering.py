"""Steering: words, verdicts and holds move thresholds within bounds, come back exactly, and do not depend on cutting or a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics.findings import anomaly
from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.baseline import Baseline
from ninefold.analytics.metrics.moves import LEAST, MOST
from ninefold.analytics.metrics.steering import WORDS, Steering, experts, fingerprint_of, tuned
from ninefold.ground.clock import MINUTE, SECOND, iso
from ninefold.ground.errors import BadData
from ninefold.model.signal import METRIC, Batch, batch_of

START = 1_700_000_000 * SECOND // MINUTE * MINUTE
DAY = 86_400 * SECOND


def told(kind: str, said: dict[str, str], at: int = START, source: str = "ninefold.console", **more: Any) -> Batch:
    return batch_of("event", source, at, [{"id": f"{kind}{at}", "time": at, "kind": kind, "attributes": said, **more}])


def alarm(series: int, at: int = START, metric: str = "latency") -> Batch:
    return alarms({series: metric}, at)


def alarms(metrics: Mapping[int, str], at: int = START) -> Batch:
    shared: dict[str, Any] = {"entity": "service:shop", "time": at, "since": at, "firing": True, "title": "t"}
    rows = [
        anomaly("baseline", {"series": str(series)}, **shared, attributes={"metric": metric, "reason": "spike"})
        for series, metric in metrics.items()
    ]
    return batch_of("event", "ninefold.baseline", at, rows)


def judged(series: int, verdict: str, at: int = START, **more: str) -> Batch:
    return told("verdict", {"fingerprint": fingerprint_of(series), "verdict": verdict, **more}, at)


def known(series: int, verdict: str, at: int = START) -> Batch:
    """A verdict that says itself what it is about."""
    return told("verdict", {"fingerprint": fingerprint_of(series), "verdict": verdict, "series": str(series), "metric": "latency"}, at)


def word(scope: str, name: str, chosen: str, at: int = START) -> Batch:
    return told("setting", {"detection": "sensitivity", "scope": scope, "name": name, "word": chosen}, at)


def fleet(*series: int) -> Baseline:
    technique = Baseline()
    for i in series:
        row = {"series": i, "name": "latency" if i < 10 else "errors", "kind": "gauge", "entity": f"service:shop-{i}", "source": "test"}
        technique.process(batch_of("series", "test", START, [row]))
    return technique


def points(series: Sequence[int], times: Sequence[int], values: Sequence[float], received: int = 0) -> Batch:
    columns = [pa.array(series, pa.uint64()), pa.array(times, METRIC.field("time").type), pa.array(values, pa.float64())]
    return Batch("metric", "test", received or max(times), pa.RecordBatch.from_arrays(columns, schema=METRIC))


def bars(technique: Baseline) -> list[float]:
    return [round(float(bar), 4) for bar in technique.known()[3][:, c.BAR]]


def held(technique: Baseline) -> list[bool]:
    return [bool(hold) for hold in technique.known()[3][:, c.HOLD]]


def test_the_narrowest_word_wins() -> None:
    technique = fleet(1, 2, 10)
    orders = [("series", "1", "keen"), ("metric", "latency", "normal"), ("entity", "service:shop-*", "calm"), ("everything", "", "keen")]
    for order in orders:
        technique.process(word(*order))
    calm, keen = WORDS["calm"].factor, WORDS["keen"].factor
    assert bars(technique) == [keen, 1.0, calm]
    technique.process(word("series", "1", ""))
    assert bars(technique) == [1.0, 1.0, calm]
    technique.process(word("entity", "service:shop-10", "keen"))  # narrower than the glob
    assert bars(technique)[2] == keen


def test_a_word_holds_for_series_that_come_later() -> None:
    technique = fleet()
    technique.process(word("entity", "service:shop-1", "calm"))
    technique.process(points([1], [START], [1.0]))
    assert bars(technique) == [1.0]
    technique.process(batch_of("series", "test", START, [{"series": 1, "name": "latency", "kind": "gauge", "entity": "service:shop-1"}]))
    assert bars(technique) == [WORDS["calm"].factor]


def test_verdicts_move_the_series_and_a_little_its_like() -> None:
    technique = fleet(1, 2, 10)
    for batch in (alarm(1), judged(1, "noise")):
        technique.process(batch)
    first, like, other = bars(technique)
    assert first > like > other == 1.0
    technique.process(judged(1, "useful"))
    assert bars(technique)[0] < first


def test_senders_cannot_steer() -> None:
    technique = fleet(1)
    technique.process(alarm(1))
    said = {"fingerprint": fingerprint_of(1), "verdict": "noise"}
    technique.process(told("verdict", said, source="webhook"))
    technique.process(told("setting", {"detection": "sensitivity", "scope": "everything", "word": "calm"}, source="webhook"))
    assert bars(technique) == [0.0]  # never set: 0 is 1


@given(st.lists(st.sampled_from(["useful", "noise", "expected"]), max_size=40))
@settings(max_examples=40, deadline=None)
def test_bounds_hold_and_undoing_all_restores(verdicts: list[str]) -> None:
    steering = Steering()
    steering.hear(alarm(7))
    for i, verdict in enumerate(verdicts):
        steering.hear(judged(7, verdict, START + i * MINUTE))
        assert LEAST - 1e-9 <= steering.learned("series", "7") <= MOST + 1e-9
    for move in steering.moves:
        steering.hear(told("setting", {"detection": "undo", "move": str(move.id)}, START + DAY))
    assert steering.learned("series", "7") == steering.learned("metric", "latency") == 1.0


@given(st.lists(st.tuples(st.sampled_from(["useful", "noise", "expected"]), st.integers(0, 40)), min_size=1, max_size=25), st.data())
@settings(max_examples=25, deadline=None)
def test_to_undo_any_is_as_if_it_had_not_been(said: list[tuple[str, int]], data: st.DataObject) -> None:
    with_it, without = Steering(), Steering()
    chosen = data.draw(st.integers(0, len(said) - 1))
    when = data.draw(st.integers(chosen, len(said) - 1))
    at = START
    numbers: list[int] = []
    for i, (verdict, days) in enumerate(said):
        at += days * DAY
        for steering in (with_it, without):
            steering.hear(known(7, verdict, at) if steering is with_it or i != chosen else alarm(8, at))
        if i == chosen:
            numbers = [move.id for move in with_it.moves[-2:]]
        if i == when:
            for number in numbers:
                with_it.hear(told("setting", {"detection": "undo", "move": str(number)}, at))
    for later in (0, 30, 90):
        for steering in (with_it, without):
            steering.due(at + later * DAY)
        for scope, target in (("series", "7"), ("metric", "latency")):
            assert with_it.learned(scope, target) == without.learned(scope, target)
    again = Steering(with_it.state())
    assert again.learned("series", "7") == with_it.learned("series", "7")


def test_a_huge_incident_neither_drives_verdicts_out_nor_moves_a_metric_more_than_once() -> None:
    steering = Steering()
    steering.hear(known(7, "noise"))
    steering.hear(alarms({series: f"m{series % 2}" for series in range(100, 8100)}))
    marks = [fingerprint_of(series) for series in range(100, 8100)]
    began = time.process_time()
    for i, status in enumerate(("acknowledged", "resolved")):
        said = {"ninefold.incident": "INC-1", "fingerprints": " ".join(marks), "handled": "yes"}
        steering.hear(told("incident", said, START + i, status=status, entity="service:shop"))
    assert time.process_time() - began < 1.5
    assert steering.learned("series", "7") > 1.2
    assert [move.target for move in steering.moves if move.scope == "metric"].count("m1") == 1
    assert steering.learned("series", "8099") == pytest.approx(np.exp(-0.03))
    assert steering.learned("metric", "m1") == pytest.approx(np.exp(-0.006))
    assert len(steering.moves) < 5200


def test_what_was_learned_fades() -> None:
    technique = fleet(1)
    for batch in (alarm(1), judged(1, "noise")):
        technique.process(batch)
    first = bars(technique)[0]
    technique.process(points([1], [START + 60 * DAY], [1.0]))
    assert bars(technique)[0] == pytest.approx(1 + (first - 1) / 2, abs=0.03)
    technique.process(points([1], [START + 400 * DAY], [1.0]))
    assert bars(technique) == [1.0]
    assert not technique.steering.moves


def test_outcomes_of_incidents_count_once() -> None:
    technique = fleet(1)
    technique.process(alarm(1))
    said = {"ninefold.incident": "INC-1", "fingerprints": fingerprint_of(1), "handled": ""}
    technique.process(told("incident", said, status="resolved", entity="service:shop-1"))
    ignored = bars(technique)[0]
    technique.process(told("incident", said, START + 1, status="resolved", entity="service:shop-1"))
    assert bars(technique)[0] == ignored > 1.0
    technique.process(told("incident", said | {"feedback": "noise"}, START + 2, status="verdict", entity="service:shop-1"))
    assert bars(technique)[0] > ignored


def test_nothing_is_learned_while_an_incident_is_open_but_not_for_ever() -> None:
    technique = fleet(1, 2)
    technique.process(told("incident", {"ninefold.incident": "INC-1"}, status="opened", entity="service:shop-1"))
    assert held(technique) == [True, False]
    technique.process(points([2], [START + 7200 * SECOND], [1.0]))
    assert held(technique) == [False, False]
    technique.process(told("incident", {"ninefold.incident": "INC-2"}, START + DAY, status="opened", entity="service:shop-2"))
    technique.process(told("incident", {"ninefold.incident": "INC-2"}, START + DAY + MINUTE, status="resolved", entity="service:shop-2"))
    assert held(technique) == [False, False]


@pytest.mark.parametrize("kind", ["change", "maintenance"])
def test_a_maintenance_window(kind: str) -> None:
    technique = fleet(1)
    said = {"start": iso(START + 10 * MINUTE), "end": iso(START + 20 * MINUTE)}
    technique.process(told(kind, said, source="webhook", entity="service:shop-1"))
    assert held(technique) == [False]
    technique.process(points([1], [START + 12 * MINUTE], [1.0]))
    assert held(technique) == [True]
    technique.process(points([1], [START + 21 * MINUTE], [1.0]))
    assert held(technique) == [False]


def test_a_window_whose_own_time_is_its_start_holds_then_and_not_now() -> None:
    technique = fleet(1)
    said = {"end": iso(START + 90 * MINUTE)}
    row = {"id": "m", "time": START + 60 * MINUTE, "kind": "maintenance", "attributes": said, "entity": "service:shop-1"}
    technique.process(batch_of("event", "webhook", START, [row]))
    technique.process(points([1], [START + 12 * MINUTE], [1.0]))
    assert held(technique) == [False]
    technique.process(points([1], [START + 65 * MINUTE], [1.0]))
    assert held(technique) == [True]


def test_a_change_without_a_window_or_with_odd_times_holds_nothing() -> None:
    technique = fleet(1)
    technique.process(told("change", {}, entity="service:shop-1"))
    technique.process(told("change", {"start": "soon", "end": "later"}, START + 1, entity="service:shop-1"))
    assert held(technique) == [False]


def script(rng: np.random.Generator) -> Iterator[Batch]:
    """Two days of three series, with alarms, verdicts, words and an incident between."""
    for hour in range(48):
        at = START + hour * 60 * MINUTE
        times = np.repeat(at + np.arange(60) * MINUTE, 3)
        values = rng.normal(100, 5, 180) + 60 * (rng.random(180) < 0.01)
        yield points([1, 2, 10] * 60, times.tolist(), values.tolist(), at + 60 * MINUTE)
        if hour == 12:
            yield alarm(1, at + 60 * MINUTE)
            yield judged(1, "noise", at + 60 * MINUTE)
        if hour == 20:
            yield told("incident", {"ninefold.incident": "INC-1"}, at + 60 * MINUTE, status="opened", entity="service:shop-2")
        if hour == 30:
            yield word("metric", "errors", "keen", at + 60 * MINUTE)


def test_cutting_and_restarts_change_nothing() -> None:
    whole, cut = fleet(1, 2, 10), fleet(1, 2, 10)
    one: list[Any] = []
    other: list[Any] = []
    for i, batch in enumerate(script(np.random.default_rng(3))):
        one += [row for out in whole.process(batch) for row in out.rows.to_pylist()]
        for first in range(0, batch.rows.num_rows, 50):
            piece = Batch(batch.signal, batch.source, batch.received, batch.rows.slice(first, 50))
            other += [row for out in cut.process(piece) for row in out.rows.to_pylist()]
        if i % 10 == 0:
            kept, cut = cut.snapshot(), Baseline()
            cut.restore(kept)
    assert one == other
    assert one
    assert whole.snapshot() == cut.snapshot()


def test_a_calm_series_alarms_less_than_a_keen_one() -> None:
    counts = {}
    for chosen in ("calm", "keen"):
        technique = fleet(1, 2, 10)
        technique.process(word("everything", "", chosen))
        counts[chosen] = sum(
            row["status"] == "firing"
            for batch in script(np.random.default_rng(5))
            for out in technique.process(batch)
            for row in out.rows.to_pylist()
        )
    assert counts["calm"] < counts["keen"]


def test_settings_within_bounds_are_in_force_and_come_back() -> None:
    technique = fleet(1)
    for name in ("6.0", "5.0"):
        technique.process(told("setting", {"detection": "settings", "sure": name}))
    assert technique.thresholds(1)["base"] == 5.0
    technique.process(told("setting", {"detection": "undo", "move": "2"}))
    assert technique.thresholds(1)["base"] == 6.0
    technique.process(told("setting", {"detection": "undo", "move": "1"}))
    assert technique.thresholds(1)["base"] == c.settings()[c.S_SURE]
    technique.process(told("setting", {"detection": "settings", "sure": "0.1"}))
    assert technique.thresholds(1)["base"] == c.settings()[c.S_SURE]
    with pytest.raises(BadData, match="3 to 9"):
        tuned({"sure": 0.1})


def test_measured_and_experts() -> None:
    technique = fleet(1, 2)
    technique.process(points([1], [START], [1.0]))
    technique.process(alarm(1, START + 7 * DAY // 2))
    technique.process(points([2], [START + 7 * DAY // 2], [1.0]))
    ids = technique.known()[0]
    assert technique.steering.measured(ids) == (1, 0, 1.0)
    technique.process(judged(1, "useful", START + 7 * DAY // 2))
    assert technique.steering.measured(ids)[1] == 1
    assert experts(technique.known()[3]) == {"daily": 0, "fast": 0, "level": 0, "learning": 2}
