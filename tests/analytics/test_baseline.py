"""Baselines: what alarms, what does not, and that streaming, replay and restart give the same bits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import START, described, events, metric, noise, reasons, stream

from ninefold.analytics import warm
from ninefold.analytics.findings import quantity
from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.baseline import Baseline, band
from ninefold.analytics.metrics.describing import rate
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.ground.errors import BadData
from ninefold.model.signal import batch_of


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm.warm()


def test_a_clear_fault_alarms_after_twelve_points_and_resolves() -> None:
    found = stream([*noise(12), 610, 590, 620, *noise(8, seed=1)])
    assert reasons(found) == [("firing", "spike"), ("resolved", "spike")]
    fired, resolved = found
    assert fired["time"].value == START + 13 * MINUTE
    assert fired["attributes"]["since"].startswith(pd.Timestamp(START + 12 * MINUTE).strftime("%Y-%m-%dT%H:%M:%S"))
    assert fired["kind"] == "anomaly"
    assert fired["entity"] == "service:shop"
    assert fired["severity"] == "warning"
    assert fired["title"] == "latency of shop is 4.8x its usual 123 ms"
    assert {"series", "metric", "unit", "value", "expected", "lower", "upper", "reason", "score", "since"} <= set(fired["attributes"])
    assert fired["attributes"]["series"] == "1"
    assert fired["fingerprint"] == resolved["fingerprint"]
    assert fired["id"] != resolved["id"]
    assert stream([*noise(12), 610, 590, 620, *noise(8, seed=1)]) == found


def test_a_fall_alarms_too() -> None:
    found = stream([*noise(40, 1000, 40), 20, 15, 18, 22], name="requests", unit="{request}/s")
    assert reasons(found) == [("firing", "spike")]
    assert found[0]["title"].startswith("requests of shop fell to 15, usually ")


def test_a_lone_point_must_be_extreme_and_history_must_be_there() -> None:
    assert stream([*noise(13), 300, *noise(30, seed=1)]) == []
    assert reasons(stream([*noise(300), 900, *noise(30, seed=1)])) == [("firing", "spike"), ("resolved", "spike")]


def test_a_small_lasting_shift_is_told_as_a_shift_and_becomes_normal() -> None:
    values = [*noise(600, width=3), *noise(300, 135, 3, 1)]
    assert reasons(stream(values, unit="")) == [("firing", "level-shift"), ("resolved", "level-shift")]
    centre, lower, upper, _ = band(START + np.arange(900) * MINUTE, np.array(values), "gauge")
    assert centre[-1] == pytest.approx(135, abs=6)
    assert lower[-1] < 135 < upper[-1]


def test_a_slow_drift_is_a_drift() -> None:
    values = np.array(noise(2000, 100, 5, seed=2))
    values[1600:] += np.linspace(0, 100, 400)
    assert {("firing", "drift"), ("firing", "trend")} & set(reasons(stream(values.tolist(), unit="")))


def test_a_lively_series_that_stands_still_is_told_once() -> None:
    found = stream([*noise(100), *[118.0] * 60, *noise(5, seed=2)])
    assert reasons(found) == [("firing", "flat-line"), ("resolved", "flat-line")]
    assert found[0]["title"].startswith("latency of shop has not moved from 118 ms since ")


def test_a_series_that_is_usually_still_may_stand_still() -> None:
    assert stream([4.0] * 500, name="replicas", unit="") == []
    assert stream([0.0] * 500, name="errors", unit="") == []


def test_zeros_then_activity_alarms_only_when_it_lasts() -> None:
    assert stream([0.0] * 200 + [1.0] + [0.0] * 50, name="errors", kind="delta", unit="{error}") == []
    assert reasons(stream([0.0] * 200 + [40.0, 35.0, 50.0], name="errors", kind="delta", unit="{error}")) == [("firing", "spike")]


def test_a_counter_is_judged_by_its_rate_and_a_reset_is_none() -> None:
    rates = np.array([*noise(60, 50, 2), *noise(4, 500, 5, 1), *noise(10, 50, 2, 2)])
    totals = np.cumsum(rates * 60)
    calm = np.cumsum(np.array(noise(80, 50, 2)) * 60)
    reset = np.concatenate((calm, calm[:40]))
    for name, kind in (("requests", "counter"), ("requests_total", "unknown")):
        found = stream(totals.tolist(), name=name, kind=kind, unit="{request}")
        assert reasons(found) == [("firing", "spike"), ("resolved", "spike")]
        assert float(found[0]["attributes"]["value"]) == pytest.approx(500, rel=0.1)
        assert found[0]["attributes"]["unit"] == "/s"
        assert stream(reset.tolist(), name=name, kind=kind, unit="{request}") == []
    times = START + np.arange(3) * MINUTE
    assert rate(times, np.array([60.0, 180.0, 60.0])).tolist()[1:] == pytest.approx([2.0, 1.0])


def test_buckets_of_a_histogram_are_not_judged_one_by_one() -> None:
    assert stream([*noise(40), *[5000.0] * 10], name="latency_bucket", kind="counter") == []


def test_what_is_not_a_number_or_not_new_changes_nothing() -> None:
    clean, dirty = Baseline(), Baseline()
    values = noise(60)
    for technique in (clean, dirty):
        technique.process(described(1))
    for i, value in enumerate(values):
        at = START + i * MINUTE
        clean.process(metric([1], [at], [value]))
        dirty.process(metric([1, 1, 1, 1], [at, at, at - MINUTE, at + 1], [value, 1e9, 1e9, float("nan")], received=at))
    assert clean.snapshot() == dirty.snapshot()


def test_a_point_ahead_of_time_does_not_hide_those_that_follow() -> None:
    technique, values = Baseline(), noise(60)
    technique.process(described(1))
    for i, value in enumerate(values):
        at = START + i * MINUTE
        ahead = [at + 720 * MINUTE] if i == 20 else [at]
        technique.process(metric([1], ahead, [value], received=at))
    assert technique._state.cells[0, c.COUNT] == 59
    technique._state.times[0, c.LAST] = START + 720 * MINUTE  # as a version before this one would have left it
    technique.process(metric([1, 1], [START + 60 * MINUTE, START + 61 * MINUTE], [120.0, 121.0], received=START + 61 * MINUTE))
    assert technique._state.cells[0, c.COUNT] == 61
    assert technique._state.times[0, c.LAST] == START + 61 * MINUTE


def test_times_keep_their_nanoseconds() -> None:
    technique = Baseline()
    technique.process(described(1))
    technique.process(metric([1, 1], [START, START + 1], [1.0, 2.0]))
    assert technique._state.times[0, c.LAST] == START + 1
    assert technique._state.cells[0, c.COUNT] == 2


def test_quiet_series_do_not_flood() -> None:
    rng = np.random.default_rng(11)
    series, steps = 300, 720
    walk = np.cumsum(rng.normal(0, 1, (steps, series)), axis=0) + 500
    kinds = (
        rng.normal(100, 10, (steps, series)),
        50 * np.exp(0.6 * rng.normal(size=(steps, series))),
        walk,
        rng.poisson(3, (steps, series)),
    )
    alarms = 0
    for values in kinds:
        technique, ids = Baseline(), list(range(1, series + 1))
        for i in range(steps):
            alarms += sum(e["status"] == "firing" for e in events(technique.process(metric(ids, [START + i * MINUTE] * series, values[i]))))
    weeks = len(kinds) * series * steps / (7 * 1440)
    print(f"{alarms / weeks:.2f} alarms a series and week in the first twelve hours")
    assert alarms / weeks < 1.0


def test_a_daily_pattern_is_learned_and_its_absence_found() -> None:
    day, days = 288, 12
    times = START + np.arange(day * days) * 5 * MINUTE
    rng = np.random.default_rng(2)
    values = 100 + 60 * np.sin(2 * np.pi * np.arange(day * days) / day) + rng.normal(0, 2, day * days)
    calm = band(times, values, "gauge")[3]
    assert len([f for f in calm if f.time > times[3 * day]]) == 0
    broken = values.copy()
    top = int(np.argmax(values[10 * day : 11 * day])) + 10 * day
    broken[top - 10 : top + 10] = 95
    assert any(times[top - 12] <= f.time <= times[top + 10] for f in band(times, broken, "gauge")[3])


def shapes(seed: int, steps: int, series: int) -> np.ndarray[Any, Any]:
    """Values with everything in them: noise, spikes, shifts, standing still, gaps, not numbers."""
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 5, (steps, series)) * rng.choice([1, 1, 1e-3, 1e6, 0], series)
    for column in range(series):
        at, length = int(rng.integers(10, steps)), int(rng.integers(1, 40))
        values[at : at + length, column] *= rng.choice([0.0, 5.0, 1.3])
    values[rng.random(values.shape) < 0.02] = np.nan
    return values


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 700), st.booleans())
def test_streaming_however_cut_restored_and_replayed_is_the_same(seed: int, size: int, restart: bool) -> None:
    steps, series = 160, 4
    values = shapes(seed, steps, series)
    times = np.repeat(START + np.arange(steps) * MINUTE, series)
    ids = np.tile(np.arange(1, series + 1), steps)
    flat = values.ravel()
    about = [described(i, kind=kind, unit="s") for i, kind in enumerate(("gauge", "counter", "delta", "unknown"), 1)]

    whole, technique = Baseline(), Baseline()
    for description in about:
        whole.process(description)
        technique.process(description)
    expected = events(whole.process(metric(ids.tolist(), times.tolist(), flat)))
    found = []
    for i in range(0, len(flat), size):
        part = slice(i, i + size)
        found += events(technique.process(metric(ids[part].tolist(), times[part].tolist(), flat[part], received=int(times[-1]))))
        if restart:
            state, technique = technique.snapshot(), Baseline()
            technique.restore(state)
    assert found == [row | {"received": found[0]["received"]} for row in expected]
    assert technique.snapshot() == whole.snapshot()

    for i, kind in enumerate(("gauge", "counter", "delta", "unknown"), 1):
        replayed = band(times[::series], np.ascontiguousarray(values[:, i - 1]), kind, "s")[3]
        told = [row for row in expected if row["attributes"]["series"] == str(i) and row["status"] == "firing"]
        last = {row["source_id"]: row["attributes"]["reason"] for row in told}
        fired = [row for row in told if "again" not in row["attributes"]]
        assert [f.reason for f in replayed] == [last[row["source_id"]] for row in fired]
        assert [f"{f.expected:.6g}" for f in replayed] == [row["attributes"]["expected"] for row in fired]


def passages(seed: int) -> tuple[list[tuple[int, int, float]], int]:
    """Points of twelve series of three entities, in order of time, of which many fall silent and come back, one alone or those of an
    entity together; and how many of them come before the first series is described as a counter."""
    rng, rows = np.random.default_rng(seed), []
    off = [sorted(rng.integers(31, 62, 2).tolist()) if rng.random() < 0.5 else [60, 60] for _ in range(12)]
    off[4:8] = [[31, 60], [31, 46], [32, 48], [32, 60]]
    for step in range(60):
        for i in (i for i in range(12) if i == 11 or not off[i][0] <= step < off[i][1]):
            rows.append(
                (i + 1, START + step * 10 * SECOND + i, 900.0 if i % 3 == 0 and off[i][0] - 3 <= step else float(rng.normal(100, 2)))
            )
    return rows, int(rng.integers(len(rows)))


def passed(rows: list[tuple[int, int, float]], at: int, size: int, *, restart: bool) -> tuple[list[dict[str, Any]], bytes]:
    technique, found = Baseline(), []
    for i in range(12):
        technique.process(described(i + 1, entity=f"service:{i // 4}"))
    for begin in sorted({*range(0, len(rows), size), at}):
        if begin == at:
            found += events(technique.process(described(1, kind="counter")))
        end = min((begin // size + 1) * size, at if begin < at else len(rows), len(rows))
        ids, times, values = zip(*rows[begin:end], strict=True)
        found += events(technique.process(metric(ids, times, values, received=rows[-1][1])))
        if restart:
            state, technique = technique.snapshot(), Baseline()
            technique.restore(state)
    return [row | {"received": None} for row in found], technique.snapshot()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 200), st.booleans())
def test_silences_forgetting_and_descriptions_are_the_same_however_cut(seed: int, size: int, restart: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ninefold.analytics.metrics.baseline._FORGET", 2)
        patch.setattr("ninefold.analytics.metrics.baseline._DAY", 2)
        rows, at = passages(seed)
        expected, state = passed(rows, at, len(rows), restart=False)
        assert "missing" in {row["attributes"]["reason"] for row in expected}
        found, again = passed(rows, at, size, restart=restart)
        assert found == expected
        assert again == state
        told: dict[str, str] = {}
        for row in expected:
            if "again" not in row["attributes"]:
                assert told.get(row["fingerprint"], "resolved") != row["status"], "every alarm begins and ends in turn"
                told[row["fingerprint"]] = row["status"]


def test_the_band_is_bit_equal_however_the_fold_is_cut() -> None:
    values = shapes(5, 400, 1)[:, 0]
    times = START + np.arange(400) * MINUTE
    whole = np.stack(band(times, values, "gauge")[:3], axis=1)
    state, weeks, clock = c.state(1), c.weeks(1), np.zeros(c.CLOCK, np.int64)
    bounds = np.empty((400, c.BAND))
    for i in range(0, 400, 7):
        part = slice(i, min(i + 7, 400))
        size = part.stop - part.start
        warm.loops("metrics.kernel").fold(
            state, weeks, clock, 1, c.settings(), np.zeros(size, np.int32), times[part], values[part], int(times[-1]), bounds[part],
            np.empty((20, 5)), np.empty((20, c.INTEGERS), np.int64),
        )  # fmt: skip
    assert whole.tobytes() == np.ascontiguousarray(bounds[:, :3]).tobytes()
    assert np.isnan(whole[: c.WARM_UP]).all()


def test_a_series_described_as_another_kind_ends_its_alarm() -> None:
    technique = Baseline()
    fired = stream([*noise(40), 900.0, 950.0], technique=technique)
    ended = events(technique.process(described(1, kind="counter")))
    assert reasons(fired + ended) == [("firing", "spike"), ("resolved", "spike")]
    assert ended[0]["fingerprint"] == fired[0]["fingerprint"]
    assert ended[0]["attributes"]["since"] == fired[0]["attributes"]["since"]
    assert ended[0]["title"] == "latency of shop is described as another kind of metric and learned anew"
    assert technique.process(described(1, kind="counter", unit="s")) == []


def test_history_that_is_loaded_late_is_not_missing() -> None:
    technique = Baseline()
    now = START + 1000 * MINUTE
    for series in (1, 2):
        times = [START + i * MINUTE for i in range(100)]
        assert technique.process(metric([series] * 100, times, noise(100, seed=series), received=now)) == []
    later = [now + i * MINUTE for i in range(60)]
    assert technique.process(metric([3] * 60, later, noise(60), received=later[-1])) == []


def test_series_that_are_gone_for_days_are_forgotten_and_their_episodes_end() -> None:
    technique, found = Baseline(), []
    names = {1: "lives", 2: "gone", 3: "lives_too_bucket", 4: "gone_in_a_spike", 5: "weekly"}
    for series, name in names.items():
        technique.process(described(series, name, "", entity=f"service:{series}"))
    rng = np.random.default_rng(4)

    def minute(number: int, some: dict[int, float]) -> None:
        at = START + number * MINUTE
        found.extend(events(technique.process(metric(list(some), [at] * len(some), list(some.values()), received=at))))

    for i in range(60):
        values = dict(zip((1, 2, 3, 4), rng.normal(100, 2, 4).tolist(), strict=True))
        minute(i, values | ({4: 900.0 + i} if i > 57 else {}) | ({5: 1.0} if i == 0 else {}))
    technique._state.cells[4, c.INTERVAL] = 7 * 86400.0  # its points come once a week
    for i in range(60, 3 * 1440 + 60):
        minute(i, {1: float(rng.normal(100, 2))} | ({3: 5.0} if i % 1000 == 0 else {}))
    assert sorted(technique._of(slot).metric for slot in range(len(technique))) == ["lives", "lives_too_bucket", "weekly"]
    of_the_gone = [(row["status"], row["attributes"]["reason"]) for row in found if row["attributes"]["series"] in "24"]
    assert sorted(of_the_gone) == [("firing", "missing"), ("firing", "spike"), ("resolved", "missing"), ("resolved", "spike")]
    ended = [row for row in found if row["status"] == "resolved" and row["attributes"]["series"] == "2"]
    assert ended[0]["title"] == "gone of 2 has not been reported for days and is not expected any more"
    fired = next(row for row in found if row["fingerprint"] == ended[0]["fingerprint"] and row["status"] == "firing")
    assert fired["attributes"]["since"] == ended[0]["attributes"]["since"]
    state, again = technique.snapshot(), Baseline()
    again.restore(state)
    assert again.snapshot() == state
    minute(4400, {1: 100.0, 2: 7.0})
    assert technique._state.exact[:4, c.VALUE].tolist() == [100.0, 0.0, 1.0, 7.0], "everybody finds their own state"


def test_descriptions_may_come_after_points() -> None:
    technique = Baseline()
    technique.process(metric([1], [START], [5.0]))
    technique.process(described(1, kind="counter"))
    assert technique._state.cells[0, c.KIND] == c.COUNTER
    assert technique._state.cells[0, c.COUNT] == 0
    assert len(technique) == 1


def test_thousands_of_series_find_their_own_state() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(1, 2**63, 5000, dtype=np.uint64)
    technique = Baseline()
    for i in range(3):
        order = rng.permutation(5000)
        technique.process(metric(ids[order].tolist(), [START + i * MINUTE] * 5000, ids[order].astype(float)))
    used = len(technique)
    assert used == 5000
    assert (technique._state.exact[:used, c.VALUE] == technique._ids[:used].astype(float)).all()
    assert (technique._state.cells[:used, c.COUNT] == 3).all()


def test_a_snapshot_of_another_version_is_refused_and_none_starts_afresh() -> None:
    technique = Baseline()
    technique.process(metric([1], [START], [5.0]))
    with pytest.raises(BadData):
        technique.restore(b"nothing of ours")
    technique.restore(b"")
    assert len(technique) == 0


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6, 1e18])
def test_the_scale_of_the_values_does_not_matter(scale: float) -> None:
    values = shapes(3, 300, 1)[:, 0]
    times = START + np.arange(300) * MINUTE
    plain, scaled = (band(times, values * factor, "gauge") for factor in (1.0, scale))
    assert [(f.time, f.reason) for f in scaled[3]] == [(f.time, f.reason) for f in plain[3]]
    assert len(plain[3]) > 0
    np.testing.assert_allclose(scaled[0] / scale, plain[0], rtol=1e-3)


def test_values_beyond_single_precision_do_no_harm() -> None:
    technique = Baseline()
    found = stream([*noise(30), 1e300, -1e300, 1e308, *noise(30, seed=1)], technique=technique)
    assert reasons(found)[0] == ("firing", "spike")
    assert np.isfinite(technique._state.cells[0]).all()


def test_points_are_counted_for_ever() -> None:
    technique = Baseline()
    stream(noise(60), technique=technique)
    technique._state.cells[0, c.COUNT] = 9_599_999
    for i, value in enumerate(noise(3), 60):
        technique.process(metric([1], [START + i * MINUTE], [value]))
    assert technique._state.cells[0, c.COUNT] == 4_800_002


def test_a_large_number_that_moves_a_little_does_not_stand_still() -> None:
    assert stream([1.7e9 + 15 * i for i in range(300)], step=15 * SECOND, unit="s") == []
    totals = (1e15 + np.cumsum(noise(300, 50, 2))).tolist()
    assert stream(totals, kind="counter", name="requests", unit="") == []


def test_many_series_are_kept_in_parts_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninefold.analytics.metrics.baseline._BLOCK", 100)
    technique, again = Baseline(), Baseline()
    for first in range(0, 350, 50):
        rows = [
            {"series": i, "name": f"m{i % 7}", "kind": "gauge", "entity": f"host:{i}", "source": "test"} for i in range(first, first + 50)
        ]
        technique.process(batch_of("series", "test", START, rows))
    technique.process(metric(list(range(400)), [START] * 400, np.arange(400.0)))
    parts = list(technique.parts())
    assert len(parts) == 5
    again.assemble(parts)
    assert list(again.parts()) == parts
    assert again._of(349) == technique._of(349)
    assert (again._of(399).label, len(again._texts)) == ("series 399", len(technique._texts))
    with pytest.raises(BadData, match="has 300 of 400 series"):
        again.assemble(parts[:-1])


def test_the_compiler_is_asked_once_by_many_threads() -> None:
    modules: list[object] = []
    threads = [threading.Thread(target=lambda: modules.append(warm.loops("metrics.kernel"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(modules) == 8
    assert len(set(map(id, modules))) == 1
    assert warm.ready("metrics.kernel")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.12, "s", "120 ms"),
        (3.2e9, "By", "3.2 GB"),
        (12.0, "%", "12 %"),
        (1234.0, "{call}", "1,234"),
        (0.0, "ms", "0 ms"),
        (0.0004, "1", "0.0004"),
    ],
)
def test_quantities_are_said_as_people_say_them(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_recorded_faults_of_the_processor_are_found_and_quiet_pods_stay_quiet(data: Path) -> None:
    folder = data / "rca" / "nezha_trainticket_0130"
    frame = pd.read_parquet(folder / "metrics.parquet").sort_values("ts", kind="stable")
    faults = pd.read_csv(folder / "faults.csv")
    technique, fired = Baseline(), []
    pods = sorted(frame.pod.unique())
    for i, pod in enumerate(pods):
        technique.process(described(i, "cpu", "m{cpu}", entity=f"service:{pod.rsplit('-', 2)[0]}"))
    for ts, some in frame.groupby("ts"):
        ids = [pods.index(pod) for pod in some.pod]
        fired += events(technique.process(metric(ids, [ts * SECOND] * len(ids), some["CpuUsage(m)"])))
    fired = [row for row in fired if row["status"] == "firing"]
    for fault in faults[faults.fault_type == "cpu_contention"].itertuples():
        assert any(
            row["entity"] == f"service:{fault.service}" and 0 <= row["time"].value // SECOND - fault.inject_ts <= 180 for row in fired
        )
    assert len({row["entity"] for row in fired}) <= 8
