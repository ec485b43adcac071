"""The ranking of series: what surprises, what stops surprising, and that streaming, replay and restart give the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from ninefold.analytics import warm
from ninefold.analytics.metrics import ranking
from ninefold.analytics.metrics.baseline import Baseline
from ninefold.analytics.metrics.interest import interest
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import METRIC, Batch, batch_of

START = 1_700_000_000 * SECOND // MINUTE * MINUTE
DAY = 1440


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm.warm()


def at(size: int, step: int = MINUTE) -> np.ndarray:
    return START + np.arange(size) * step


def noise(size: int, seed: int = 1) -> np.ndarray:
    return 100 + 10 * np.random.default_rng(seed).normal(size=size)


def metric(series: Sequence[int], times: Sequence[int], values: Sequence[float]) -> Batch:
    columns = [pa.array(series, pa.uint64()), pa.array(times, METRIC.field("time").type), pa.array(values, pa.float64())]
    return Batch("metric", "test", max(times), pa.RecordBatch.from_arrays(columns, schema=METRIC))


def described(series: int, entity: str, name: str = "latency", kind: str = "gauge") -> Batch:
    row = {"series": series, "name": name, "unit": "ms", "kind": kind, "entity": entity, "source": "test"}
    return batch_of("series", "test", START, [row])


def test_a_value_never_seen_before_stands_out_and_the_state_decays() -> None:
    values = noise(2000)
    values[1500] = 300
    score, state = interest(at(2000), values, "gauge")
    assert score.argmax() == state.argmax() == 1500
    assert score[1500] > 3 * score[200:1500].max()
    assert (score[1501:1600] == 0).all(), "after a peak only a higher one is new"
    assert state[1501] > state[1540] > 0.2 * state[1501]


def test_records_of_mere_noise_become_rare() -> None:
    found = [interest(at(8000), noise(8000, seed), "gauge")[0] for seed in range(8)]
    early, late = (np.mean([(score[some] > 2.0).sum() for score in found]) for some in (slice(100, 1000), slice(4000, 8000)))
    assert late <= early, "although it is more than four times as long"


def test_a_series_that_keeps_surprising_loses_its_rank() -> None:
    values = noise(6000)
    values[1000::150] += np.linspace(300, 900, len(values[1000::150]))  # each spike a record
    score, _ = interest(at(6000), values, "gauge")
    spikes = score[1000::150]
    assert spikes[-5:].mean() < 0.5 * spikes[0]


def test_a_usual_value_at_an_unusual_hour_is_seen() -> None:
    rng, size = np.random.default_rng(2), 10 * DAY
    times = at(size)
    hour = times // (60 * MINUTE) % 24
    values = 150 - 100 * np.cos(2 * np.pi * (times / (DAY * MINUTE))) + 5 * rng.normal(size=size)
    night = int(np.flatnonzero((hour == 2) & (np.arange(size) > 9 * DAY))[0])
    values[night : night + 20] = 200.0
    score, _ = interest(times, values, "gauge")
    assert score[night : night + 20].max() > 2 * score[7 * DAY : night - 1].max()


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**10, 2.0**40])
def test_the_unit_does_not_matter(factor: float) -> None:
    values = noise(1500)
    values[1200:1210] += 100
    plain, scaled = interest(at(1500), values, "gauge"), interest(at(1500), factor * values, "gauge")
    assert np.allclose(plain[0], scaled[0], rtol=1e-3, atol=1e-3)


def test_gaps_late_points_and_nonsense_do_no_harm() -> None:
    values = noise(1500)
    values[700] = np.nan
    values[701] = np.inf
    times = at(1500)
    times[900:] += 3 * DAY * MINUTE
    score, state = interest(times, values, "gauge")
    assert np.isfinite(score).all()
    assert np.isfinite(state).all()
    assert score[700] == score[701] == 0
    twice = np.concatenate([times, times[::-1]])
    again, _ = interest(twice, np.concatenate([values, values[::-1] + 1000]), "gauge")
    assert np.array_equal(again[:1500], score), "a point that comes again is passed over"


def run(cuts: Sequence[int], technique: Baseline, values: np.ndarray, restart: bool = False) -> Baseline:
    """Three series, cut into batches at these places; with `restart` each batch meets a technique restored from a snapshot."""
    for series in (1, 2, 3):
        technique.process(described(series, f"service:{'ab'[series % 2]}"))
    edges = [0, *cuts, len(values)]
    for first, last in pairwise(edges):
        if restart:
            state, technique = technique.snapshot(), Baseline()
            technique.restore(state)
        times = np.repeat(at(len(values))[first:last], 3)
        technique.process(metric([1, 2, 3] * (last - first), times.tolist(), values[first:last].reshape(-1).tolist()))
    return technique


def test_the_same_bits_however_batches_are_cut_and_after_a_restart() -> None:
    values = np.stack([noise(800, seed) for seed in (1, 2, 3)], axis=1)
    values[780:790, 1] += 100
    whole, cut, restarted = run([], Baseline(), values), run([7, 100, 101], Baseline(), values), run([50, 150], Baseline(), values, True)

    def told(technique: Baseline) -> list[object]:
        return [(about, series, one.strength, one.kinds, one.since, one.time, one.last.tolist())
                for about, series, one in technique.interesting(10)]  # fmt: skip

    assert told(whole) == told(cut) == told(restarted)
    about, series, first = whole.interesting(10)[0]
    assert (series, about.entity) == (2, "service:a")
    assert first.since == START + 780 * MINUTE
    assert "level" in first.kinds
    assert set(first.kinds) <= set(ranking.VIEWS)
    assert first.last[0] == values[799, 1]
    assert [series for _, series, _ in whole.interesting(10, "service:a")] == [2]
    assert whole.interesting(10, "service:nobody") == []


def test_a_series_that_fell_silent_is_forgotten_while_others_go_on() -> None:
    technique = run([], Baseline(), np.stack([noise(200, 1), np.r_[noise(199, 2), 400.0], noise(200, 3)], axis=1))
    assert technique.interesting(1)[0][1] == 2
    before = technique.interesting(1)[0][2].strength
    for minute in range(200, 262):
        technique.process(metric([1], [int(START + minute * MINUTE)], [100.0]))
        if minute == 210:
            later = [one.strength for _, series, one in technique.interesting(10) if series == 2]
            assert later
            assert later[0] < before
    assert 2 not in [series for _, series, _ in technique.interesting(10)]


def test_a_counter_is_ranked_by_its_rate() -> None:
    raw = np.cumsum(np.random.default_rng(1).poisson(600, 1000)).astype(float)
    raw[800:] += 20_000
    score, _ = interest(at(1000), raw, "counter", name="requests_total")
    assert score.argmax() == 800


def test_one_that_came_back_into_its_band_is_less_interesting() -> None:
    state, one = np.ones(3), np.ones(3)
    found = ranking.strength(state, np.array([1.0, 3.0, np.nan]), one, 0 * one, 2 * one)
    assert found.tolist() == [1.0, 3.0, 1.0]


def test_of_a_held_series_the_ranking_learns_nothing_and_still_says_that_it_is_odd() -> None:
    technique = Baseline()
    technique.process(described(1, "service:shop"))
    technique.process(metric([1] * 300, at(300).tolist(), noise(300).tolist()))
    now = START + 300 * MINUTE
    said = {
        "id": "i",
        "time": now,
        "kind": "incident",
        "status": "opened",
        "entity": "service:shop",
        "attributes": {"ninefold.incident": "INC-1"},
    }
    technique.process(batch_of("event", "ninefold", now, [said]))
    before = technique._state.ranks[0].copy()
    technique.process(metric([1] * 60, (START + np.arange(300, 360) * MINUTE).tolist(), (noise(60) + 500).tolist()))
    after = technique._state.ranks[0]
    assert (after[: ranking.PEAK] == before[: ranking.PEAK]).all()
    assert after[ranking.STATE] > 3 * max(before[ranking.STATE], 1.0)
