"""The kinds of change, what is learned beside levels (weeks, tails, sums), and how a series is steered from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playing import START, events, metric, noise, reasons, stream

from ninefold.analytics import keeping, warm
from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.baseline import Baseline, band
from ninefold.ground.clock import MINUTE, SECOND


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm.warm()


def test_a_series_on_hold_is_judged_but_nothing_is_learned_until_the_hold_is_too_old() -> None:
    technique, held = Baseline(), Baseline(c.settings(hold=7200.0))
    stream(noise(200), technique=technique)
    held.restore(technique.snapshot())
    held._state.cells[0, c.HOLD] = 1.0
    before = held._state.cells[0].copy()
    at = START + 200 * MINUTE
    found = [row for i in range(60) for row in events(held.process(metric([1], [at + i * MINUTE], [300.0 + i % 7])))]
    assert reasons(found) == [("firing", "spike")]
    learned = [c.COUNT, c.INTERVAL, c.LEVEL, c.FAST, c.ERR_LEVEL, c.FATIGUE, c.RECENT, *range(c.TAILS, c.TAILS + 32)]
    assert held._state.cells[0, learned].tolist() == before[learned].tolist()
    for i in range(60, 300):
        held.process(metric([1], [at + i * MINUTE], [300.0 + i % 7]))
    assert held._state.cells[0, c.LEVEL] == pytest.approx(303, abs=5)


def test_a_higher_bar_and_other_settings_alarm_less() -> None:
    values = [*noise(300), 175.0, 172.0, *noise(20, seed=1)]
    assert reasons(stream(values))[:1] == [("firing", "spike")]
    assert stream(values, technique=Baseline(c.settings(sure=12.0, alone=20.0, lasting=12.0))) == []
    technique = Baseline()
    technique.process(metric([1], [START - MINUTE], [120.0]))
    technique._state.cells[0, c.BAR] = 3.0
    assert stream(values, technique=technique) == []


def test_a_snapshot_of_the_version_before_is_taken_over() -> None:
    technique, again = Baseline(), Baseline()
    stream(noise(100), technique=technique)
    state = {name: part[:1] for name, part in technique._state._asdict().items()} | {"cells": technique._state.cells[:1, :64]}
    texts, about = technique._texts.extract(technique._about[:1])
    again.assemble(
        [
            keeping.pack("baseline", 2, {"series": 1, "announced": []}, clock=technique._clock[:2]),
            keeping.pack("baseline", 2, texts, ids=technique._ids[:1], about=about, **state),
        ]
    )
    for one in (technique, again):
        assert reasons(events(one.process(metric([1, 1], [START + i * MINUTE for i in (100, 101)], [400.0, 420.0])))) == [
            ("firing", "spike")
        ]


def test_a_line_that_stays_flat_for_a_day_is_the_new_normal() -> None:
    technique = Baseline()
    found = stream([*noise(300), *[118.0] * 1500], technique=technique)
    assert reasons(found) == [("firing", "flat-line"), ("resolved", "flat-line")]
    assert found[1]["title"] == "latency of shop has stood at 118 ms for so long that this is usual now"
    assert 1440 <= (found[1]["time"].value - START) // MINUTE - 300 <= 1441
    assert technique._state.cells[0, c.LONGEST] >= 1440
    more = [events(technique.process(metric([1], [START + (1800 + i) * MINUTE], [118.0]))) for i in range(300)]
    assert not any(more)


def kinds(values: np.ndarray[Any, Any], step: int = MINUTE, since: int = 0, **more: Any) -> list[str]:
    """The reasons of the episodes of a gauge from a point on."""
    times = START + np.arange(len(values)) * step
    return [f.reason for f in band(times, values, "gauge", **more)[3] if f.time >= times[since]]


def test_the_kinds_of_change_are_told_apart() -> None:
    rng, size = np.random.default_rng(5), 4000
    calm = 100 + 5 * rng.normal(size=size)
    wide = calm.copy()
    wide[3700:] = 100 + 4 * (wide[3700:] - 100)
    assert "variance" in kinds(wide, since=3650)
    climbing = calm.copy()
    climbing[3500:] += np.linspace(0, 60, 500)
    assert "trend" in kinds(climbing, since=3450)


def daily(days: int, seed: int, step: int) -> np.ndarray[Any, Any]:
    """A gauge with a course of the day, a point every `step` minutes."""
    at = np.arange(days * 1440 // step) * step
    return 100 + 40 * np.sin(2 * np.pi * at / 1440) + 5 * np.random.default_rng(seed).normal(size=len(at))


@pytest.mark.parametrize("broken", ["flat", "moved", "no peak"])
def test_a_course_of_the_day_that_is_not_followed_is_told_within_hours(broken: str) -> None:
    at, clean = 11 * 720 + 60, daily(12, 1, 2)
    usual = daily(12, 1, 2) - 5 * np.random.default_rng(1).normal(size=len(clean))
    changed = {"flat": np.full(len(clean), 100.0), "moved": np.roll(usual, -180), "no peak": np.minimum(usual, 100.0)}[broken]
    values = np.where(np.arange(len(clean)) < at, clean, clean - usual + changed)
    times = START // (1440 * MINUTE) * 1440 * MINUTE + np.arange(len(values)) * 2 * MINUTE
    found = [f for f in band(times, values, "gauge")[3] if times[at] <= f.time <= times[at] + 540 * MINUTE]
    assert "season" in [f.reason for f in found]
    assert [f for f in band(times, clean, "gauge")[3] if f.time > times[720]] == []


@pytest.mark.parametrize("by", [-40.0, 40.0])
def test_a_shifted_level_that_follows_its_course_is_no_broken_season(by: float) -> None:
    values = daily(12, 2, 2)
    values[11 * 720 + 60 :] += by
    found = kinds(values, 2 * MINUTE, since=11 * 720)
    assert found
    assert "season" not in found


def test_a_shift_that_goes_on_growing_is_told_again_as_a_trend() -> None:
    values = np.array(noise(2000, 100, 5, seed=1))
    values[1500:1620] += 2.0 * np.arange(120)
    told = [row for row in stream(values.tolist(), unit="") if row["status"] == "firing"]
    assert [row["attributes"]["reason"] for row in told[:2]] == ["level-shift", "trend"]
    trend = next(row for row in told if row["attributes"]["reason"] == "trend")
    assert "again" not in told[0]["attributes"]
    assert "again" in trend["attributes"]
    assert trend["fingerprint"] == told[0]["fingerprint"]
    assert trend["source_id"] == told[0]["source_id"]
    assert trend["id"] != told[0]["id"]
    assert kinds(values, since=1490)[0] == "trend"


def test_weekends_that_were_seen_surprise_nobody_though_the_day_predicts_as_well_between_them() -> None:
    at = np.arange(22 * 288)
    rng, false = np.random.default_rng(5), 0
    times = START + at * 5 * MINUTE
    for _ in range(4):
        values = 100 + 40 * np.sin(2 * np.pi * at / 288) - 25 * (at // 288 % 7 >= 5) + 5 * rng.normal(size=len(at))
        false += sum(f.time >= times[13 * 288] for f in band(times, values, "gauge")[3])
    assert false == 0


def test_a_small_shift_is_summed_up_and_its_onset_estimated() -> None:
    values = np.array(noise(5000, 100, 10, seed=8))
    values[4000:] += 9.0
    times = START + np.arange(5000) * MINUTE
    found = [f for f in band(times, values, "gauge")[3] if f.time > times[3900]]
    assert found[0].reason in ("level-shift", "drift")
    assert found[0].horizon in ("12", "48", "sum")
    assert abs(found[0].time - times[4000]) <= 25 * MINUTE


def test_bursts_are_seen_through_a_logarithm_and_told_in_their_unit() -> None:
    rng = np.random.default_rng(11)
    values = 100 * np.exp(0.8 * rng.normal(size=8000))
    assert len(kinds(values, since=1500)) <= 1
    values[7000:7003] = 6000.0
    times = START + np.arange(8000) * MINUTE
    centre, lower, upper, found = band(times, values, "gauge", "ms")
    assert [f.time for f in found if times[6990] <= f.time <= times[7005]] == [times[7000]]
    assert 60 < centre[6990] < 200
    assert 0 <= lower[6990] < 40
    assert 500 < upper[6990] < 2500
    normal = np.array(noise(8000, 1000, 30))
    assert abs(band(times, normal, "gauge")[2][-1] - 1000) < 150, "what is not heavy-tailed is left as it is"


def test_a_week_is_learned_only_where_it_explains_more_than_a_day() -> None:
    rng, step, days = np.random.default_rng(2), 10 * MINUTE, 42
    at = np.arange(days * 144)
    hour, day = at // 6 % 24, at // 144 % 7
    weekly = 100 + 80.0 * ((day < 5) & (hour >= 8) & (hour < 18)) + 60.0 * ((day == 6) & (hour < 6)) + 3 * rng.normal(size=len(at))
    technique = Baseline()
    ids = np.arange(1, 4)
    plain = 100 + 3 * rng.normal(size=len(at))
    daily = 100 + 40 * np.sin(2 * np.pi * at / 144) + 3 * rng.normal(size=len(at))
    late: list[dict[str, Any]] = []
    restored = Baseline()
    for first in range(0, len(at), 1008):
        some = slice(first, first + 1008)
        times = np.repeat(START + at[some] * step, 3)
        values = np.stack((weekly[some], plain[some], daily[some]), axis=1).ravel()
        batch = metric(np.tile(ids, 1008).tolist(), times.tolist(), values)
        found = events(technique.process(batch))
        assert found == events(restored.process(batch))
        state, restored = restored.snapshot(), Baseline()
        restored.restore(state)
        late += [row for row in found if first >= 4 * 1008]
    assert restored.snapshot() == technique.snapshot()
    cells, means = technique._state.cells, technique._weeks.means
    assert cells[0, c.WEEK] > 0
    assert means[int(cells[0, c.WEEK]) - 1, c.W_WINS] > 0.5
    assert cells[1:3, c.WEEK].tolist() == [0.0, 0.0]
    assert len(late) <= 2


def test_rows_of_weeks_are_freed_and_given_again() -> None:
    technique = Baseline(c.settings(weeks=1))
    technique.process(metric([1, 2], [START] * 2, [1.0, 2.0]))
    technique._state.cells[:2, c.WEEK] = c.ASKED
    technique.process(metric([1, 2], [START + MINUTE] * 2, [1.0, 2.0]))
    assert technique._state.cells[0, c.WEEK] == 1.0
    assert technique._state.cells[1, c.WEEK] < -1.0, "there is room for one: the other may ask again in some weeks"
    technique._release(np.array([0]))
    technique._state.cells[0, c.WEEK], technique._state.cells[1, c.WEEK] = 0.0, c.ASKED
    technique.process(metric([2], [START + 2 * MINUTE], [2.0]))
    assert technique._state.cells[1, c.WEEK] == 1.0


def test_what_alarms_often_and_no_worse_is_demoted() -> None:
    values = np.array(noise(1500, 100, 2, seed=3))
    for at in range(300, 1500, 30):
        values[at : at + 4] += 400.0
    found = [row for row in stream(values.tolist(), unit="") if row["status"] == "firing"]
    assert "demoted" not in found[0]["attributes"]
    demoted = [row for row in found[1:] if "demoted" in row["attributes"]]
    assert {row["severity"] for row in demoted} == {"info"}
    assert demoted[0]["attributes"]["demoted"] == "2 alarms lately, this one no worse than those before"


def test_findings_say_what_spoke_and_how_far_it_is() -> None:
    found = stream([*noise(200), 610, 590, 620])
    assert found[0]["attributes"]["horizon"] in ("point", "pair")
    assert "times the usual margin" in found[0]["attributes"]["deviation"]


@pytest.mark.parametrize("rhythm", ["rare", "irregular", "gaps"])
def test_sparse_and_irregular_series_are_judged_and_do_not_go_missing(rhythm: str) -> None:
    rng = np.random.default_rng(4)
    steps = {"rare": np.full(300, 3600), "irregular": rng.exponential(300, 300) + 1, "gaps": np.where(np.arange(300) % 50 == 49, 20000, 60)}
    times = START + (np.cumsum(steps[rhythm]) * SECOND).astype(np.int64)
    values = np.array(noise(300, 100, 3))
    technique = Baseline()
    clean = [row for t, v in zip(times.tolist(), values.tolist(), strict=True) for row in events(technique.process(metric([1], [t], [v])))]
    assert [row for row in clean if row["attributes"]["reason"] != "missing"] == []
    values[250:253] += 200.0
    assert [f.time for f in band(times, values, "gauge")[3]] == [times[250]]


def test_the_order_of_series_in_a_batch_does_not_matter() -> None:
    one, other = Baseline(), Baseline()
    rng = np.random.default_rng(9)
    for minute in range(80):
        values, at = rng.normal(100, 3, 6) + (80 if 60 < minute < 65 else 0), START + minute * MINUTE
        order = rng.permutation(6)
        first = events(one.process(metric(range(6), [at] * 6, values)))
        second = events(other.process(metric(order.tolist(), [at] * 6, values[order])))
        assert sorted(row["id"] for row in first) == sorted(row["id"] for row in second)


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 500.0), (250.0, 0.0), (0.01, 3.0)])
def test_another_unit_or_zero_gives_the_same_alarms(factor: float, shift: float) -> None:
    values = np.random.default_rng(6).normal(0, 10, 2000) + 100
    values[1500:1503] += 150
    values[1800:] += 60
    times = START + np.arange(2000) * MINUTE
    plain, other = (band(times, some, "gauge")[3] for some in (values, factor * values + shift))
    assert [f.reason for f in plain] == [f.reason for f in other]
    assert max(abs(f.time - g.time) for f, g in zip(plain, other, strict=True)) <= 3 * MINUTE, "floors depend on the level"
