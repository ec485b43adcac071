"""Regression: coefficients against their definition, intervals that cover, alarms; live models the same however points are cut."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics.metrics import regression
from ninefold.analytics.metrics.regressing import LIMIT, Regressions
from ninefold.analytics.metrics.regression import Alarms, Recursive, recursive, robust
from ninefold.ground.clock import SECOND
from ninefold.model.signal import Batch, batch_of

START = 1_700_000_040 * SECOND
TARGET, DRIVER, COUNTER = 2**63 + 1, 2, 3


def data(seed: int, count: int = 300, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    drivers = np.column_stack((rng.normal(50, 10, count), rng.normal(0, 1, count)))
    return drivers, 5 + drivers @ [2.0, -3.0] + noise * rng.normal(size=count)


def test_without_forgetting_it_is_least_squares() -> None:
    drivers, target = data(0)
    fit = recursive(drivers, target, 1.0)
    exact = np.linalg.lstsq(np.column_stack((np.ones(300), drivers)), target, rcond=None)[0]
    assert fit.coefficients == pytest.approx(exact, abs=0.05), "the prior and what is pulled in weigh next to nothing"
    assert fit.history.shape == fit.history_errors.shape == (300, 3)


def test_with_forgetting_it_is_weighted_least_squares() -> None:
    drivers, target = data(1, noise=0.1)
    fit = recursive(drivers, target, 0.98)
    weight = np.sqrt(0.98 ** np.arange(299, -1, -1))
    table = np.column_stack((np.ones(300), drivers)) * weight[:, None]
    exact = np.linalg.lstsq(table, target * weight, rcond=None)[0]
    assert fit.coefficients == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("fit_of", [robust, lambda drivers, target: recursive(drivers, target, 1.0)], ids=["robust", "recursive"])
def test_intervals_cover_as_often_as_they_say(fit_of: Any) -> None:
    truth, inside = np.array([5.0, 2.0, -3.0]), []
    for seed in range(50):
        fit = fit_of(*data(seed, 120))
        inside.append(np.abs(fit.coefficients - truth) <= 1.96 * fit.errors)
    assert 0.88 <= np.mean(inside) <= 0.99


def test_intervals_allow_for_residuals_that_follow_one_another() -> None:
    wide, narrow = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drivers = np.cumsum(rng.normal(size=(400, 1)), axis=0) * 0.3
        for kept, phi in ((wide, 0.8), (narrow, 0.0)):
            noise = rng.normal(size=400)
            for i in range(1, 400):
                noise[i] += phi * noise[i - 1]
            kept.append(robust(drivers, drivers[:, 0] + noise / noise.std()).errors[1])
    assert np.mean(wide) > 1.5 * np.mean(narrow)


def test_wild_points_do_not_move_the_robust_fit() -> None:
    drivers, target = data(2)
    clean = robust(drivers, target)
    target[::20] += 500
    fit = robust(drivers, target)
    assert np.all(np.abs(fit.coefficients - clean.coefficients) < 3 * clean.errors)
    assert np.all(np.abs(fit.residuals[::20]) > 100)


def test_coefficients_that_drift_are_followed() -> None:
    rng = np.random.default_rng(3)
    drivers = rng.normal(size=(800, 1))
    truth = np.linspace(1, 5, 800)
    target = truth * drivers[:, 0] + 0.3 * rng.normal(size=800)
    fit = recursive(drivers, target)
    assert 0.9 <= fit.forgetting < 0.999
    late = slice(100, None)
    assert np.mean(np.abs(fit.history[late, 1] - truth[late])) < 0.3 * np.mean(
        np.abs(robust(drivers, target).coefficients[1] - truth[late])
    )
    assert np.mean(np.abs(fit.history[late, 1] - truth[late]) <= 1.96 * fit.history_errors[late, 1]) > 0.85
    assert any("drift" in word for word in regression.words(fit, ["load"], "latency"))


def test_intervals_include_that_the_discount_is_not_known() -> None:
    inside = []
    for seed in (100, 101, 103):  # of a discount that is a little too close to 1 for coefficients that walk so fast
        rng = np.random.default_rng(seed)
        drivers = rng.normal(size=(1000, 3))
        for i in range(1, 1000):
            drivers[i] += 0.8 * drivers[i - 1]
        truth = np.tile([1.0, -2.0, 0.5], (1000, 1)) + np.cumsum(rng.normal(0, 0.03, (1000, 3)), axis=0)
        noise = rng.normal(size=1000)
        noise[rng.random(1000) < 0.02] *= 20
        fit = recursive(drivers, 3 + (drivers * truth).sum(axis=1) + noise)
        assert fit.forgetting == 0.98
        inside.append(np.abs(fit.history[100:, 1:] - truth[100:]) <= 1.96 * fit.history_errors[100:, 1:])
    assert np.mean(inside) > 0.86  # 0.77 of that discount alone


def test_what_cannot_be_told_apart_is_said_and_stays_finite() -> None:
    rng = np.random.default_rng(4)
    one = rng.normal(size=200)
    drivers = np.column_stack((one, 2 * one, np.full(200, 7.0), rng.normal(size=200)))
    target = 3 * one + rng.normal(size=200)
    for fit in (robust(drivers, target), recursive(drivers, target)):
        assert np.all(np.isfinite(fit.coefficients))
        assert np.all(np.isfinite(fit.fitted))
        assert fit.coefficients[1] + 2 * fit.coefficients[2] == pytest.approx(3, abs=0.4)
        said = " ".join(regression.words(fit, ["a", "b", "c", "d"], "t"))
        assert "a stands still or is made of the other drivers" in said
        assert "c stands still or is made of the other drivers" in said
        assert "d has no effect" in said
    assert robust(drivers, target).ridge > 0


def test_what_is_not_excited_for_long_does_not_run_wild() -> None:
    rng = np.random.default_rng(5)
    drivers = rng.normal(size=(3000, 2))
    drivers[500:2500, 1] = 0.0
    target = drivers @ [1.0, 4.0] + 0.1 * rng.normal(size=3000)
    fit = recursive(drivers[:2600], target[:2600], 0.95)
    assert np.all(np.isfinite(fit.history))
    assert np.all(np.abs(fit.history[600:2500, 2] - 4) < 1), "nothing was learned against it"


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_units_do_not_matter(scale: float, offset: float, of_target: float) -> None:
    drivers, target = data(6, 80)
    offset *= scale
    for fit_of in (robust, lambda x, y: recursive(x, y, 0.98)):
        plain, moved = fit_of(drivers, target), fit_of(drivers * scale + offset, target * of_target)
        assert moved.coefficients[1:] * scale / of_target == pytest.approx(plain.coefficients[1:], rel=1e-4)
        assert moved.residuals == pytest.approx(plain.residuals, abs=1e-3)


def test_alarms_want_a_consensus() -> None:
    def said(residuals: list[float]) -> list[str]:
        alarms = Alarms()
        return [alarms.judge(residual) for residual in residuals]

    assert set(said([5, 0, -5, 0, 5, 0, 0])) == {""}
    assert said([0, 5, 5, 0, 5, 0, 0, 0, 0, 0]) == ["", "", "", "", "fired", "", "", "", "", "resolved"]
    assert said([9, 0, 0, 0, 0, 0]) == ["fired", "", "", "", "", "resolved"]


def test_a_filter_continues_where_its_state_was_taken() -> None:
    drivers, target = data(7, 60)
    whole = Recursive(np.zeros(3), np.ones(3))
    for i in range(60):
        if i == 30:
            again = Recursive.resume(json.loads(json.dumps(whole.state())))
        step = whole.step(drivers[i], target[i])
        if i >= 30:
            other = again.step(drivers[i], target[i])
            assert np.array_equal(step.residual, other.residual)
            assert np.array_equal(whole.coefficients()[1], again.coefficients()[1])


def test_lags_shift() -> None:
    values = np.arange(5.0)
    assert regression.shifted(values, 2)[2:].tolist() == [0, 1, 2]
    assert regression.shifted(values, -1)[:4].tolist() == [1, 2, 3, 4]
    assert np.isnan(regression.shifted(values, 9)).all()


def setting(change: str = "saved", key: str = "m1", source: str = "ninefold", **more: Any) -> Batch:
    spec = {
        "id": key, "name": "latency by load", "step_s": 60,
        "target": {"series": str(TARGET), "name": "latency", "unit": "ms", "entity": "service:shop", "counter": False},
        "drivers": [{"series": str(DRIVER), "name": "load", "lag_s": 120, "counter": False},
                    {"series": str(COUNTER), "name": "rows", "lag_s": 0, "counter": True}],
        **more,
    }  # fmt: skip
    attributes = {"setting": "regression", "ninefold.change": change, "ninefold.key": key, "value": json.dumps(spec)}
    return batch_of("event", source, START, [{"id": "s", "time": START, "kind": "setting", "attributes": attributes}])


def stream(count: int = 150, broken: range = range(0)) -> list[dict[str, Any]]:
    """A point every 30 s of two series, every 60 s of a counter; latency = 3 load(two minutes before) + 2 rows/s + noise."""
    rng = np.random.default_rng(9)
    load = rng.normal(40, 5, count + 3)
    rows, total, found = rng.normal(10, 2, count + 3), 0.0, []
    for i in range(count):
        at, total = START + i * 60 * SECOND, total + 60 * rows[i]
        latency = 3 * load[max(i - 2, 0)] + 2 * rows[i] + rng.normal() + (60 if i in broken else 0)
        found += [{"series": DRIVER, "time": at + s * SECOND, "value": load[i]} for s in (0, 30)]
        found.append({"series": COUNTER, "time": at + 59 * SECOND, "value": total})
        found += [{"series": TARGET, "time": at + s * SECOND, "value": latency} for s in (5, 35)]
    return sorted(found, key=lambda row: row["time"])


def run(rows: list[dict[str, Any]], size: int, *, restart: bool = False) -> tuple[Regressions, list[dict[str, Any]]]:
    technique, outputs = Regressions(), []
    technique.process(setting())
    received = rows[-1]["time"]
    for first in range(0, len(rows), size):
        outputs += technique.process(batch_of("metric", "test", received, rows[first : first + size]))
        if restart:
            state, technique = technique.snapshot(), Regressions()
            technique.restore(state)
            assert technique.snapshot() == state
    return technique, [row for output in outputs for row in output.rows.to_pylist(maps_as_pydicts="lossy")]


def test_a_live_model_learns_and_tells_when_its_drivers_do_not_explain_the_target() -> None:
    technique, found = run(stream(150, range(100, 106)), 50)
    told = technique.told()["m1"]
    assert told["coefficients"][1:] == pytest.approx([3, 2], abs=0.4)
    assert [row["status"] for row in found] == ["firing", "resolved"]
    fired = found[0]
    assert fired["entity"] == "service:shop"
    assert fired["attributes"]["since"] == "2023-11-14T23:54:00.000000Z"
    assert fired["title"].startswith("latency is ")
    assert "where load, rows explain" in fired["title"]
    about = {name: float(fired["attributes"][name]) for name in ("value", "expected", "lower", "upper", "score")}
    assert about["value"] > about["upper"] > about["expected"] > about["lower"]
    assert about["score"] > 8


@pytest.mark.parametrize(("size", "restart"), [(1, False), (7, True), (10_000, False)])
def test_however_points_are_cut_the_findings_are_the_same(size: int, restart: bool) -> None:
    rows = stream(90, range(70, 80))
    technique, found = run(rows, size, restart=restart)
    whole, expected = run(rows, 64)
    assert found == expected != []
    assert technique.told() == whole.told()


def test_an_alarm_ends_when_its_model_is_removed_or_saved_anew_or_its_target_falls_silent() -> None:
    rows = stream(105, range(100, 110))
    kinds = {"removed": setting("removed"), "saved": setting(step_s=60)}
    for change, batch in kinds.items():
        technique, found = run(rows, 50)
        assert [row["status"] for row in found] == ["firing"]
        (told,) = technique.process(Batch(batch.signal, batch.source, rows[-1]["time"] + SECOND, batch.rows))
        (end,) = told.rows.to_pylist(maps_as_pydicts="lossy")
        assert (end["status"], end["fingerprint"], end["source_id"]) == ("resolved", found[0]["fingerprint"], found[0]["source_id"])
        assert change in end["title"]
    technique, found = run(rows, 50)
    last, ended = rows[-1]["time"], []
    for minute in range(1, 20):
        at = last + minute * 60 * SECOND
        ended += technique.process(batch_of("metric", "test", at, [{"series": DRIVER, "time": at, "value": 40.0}]))
        state, technique = technique.snapshot(), Regressions()
        technique.restore(state)
    (row,) = [row for output in ended for row in output.rows.to_pylist(maps_as_pydicts="lossy")]
    assert (row["status"], row["fingerprint"]) == ("resolved", found[0]["fingerprint"])
    assert "something is not measured" in row["title"]
    assert not technique.told()["m1"]["firing"]


def test_steps_in_which_something_is_missing_are_left_out() -> None:
    rows = [row for row in stream(120) if not (row["series"] == DRIVER and 50 <= (row["time"] - START) // (60 * SECOND) < 60)]
    technique, found = run(rows, 100)
    told = technique.told()["m1"]
    assert told["skipped"] == 10 + 2, "and the first two, before which no load is known"
    assert told["points"] == 118 - 12
    assert found == []
    assert told["coefficients"][1:] == pytest.approx([3, 2], abs=0.4)


def test_a_counter_without_a_value_or_told_late_rises_by_what_it_rose() -> None:
    rows = stream(150)
    _, expected = run(rows, 50)
    at = START + 100 * 60 * SECOND
    odd = [{"series": COUNTER, "time": at + 59 * SECOND + 1, "value": float("nan")}]
    late = [{"series": COUNTER, "time": at - 600 * SECOND, "value": 1.0}]
    place = next(i for i, row in enumerate(rows) if row["time"] > at + 59 * SECOND)
    technique, found = run([*rows[:place], *odd, *late, *rows[place:]], 50)
    assert found == expected == []
    assert technique.told()["m1"]["coefficients"][1:] == pytest.approx([3, 2], abs=0.4)


def test_models_are_replaced_removed_bounded_and_only_the_program_itself_makes_them() -> None:
    technique = Regressions()
    technique.process(setting(source="intruder"))
    assert technique.told() == {}
    technique.process(setting())
    technique.process(setting("removed"))
    assert technique.told() == {}
    for i in range(LIMIT + 5):
        technique.process(setting(key=f"m{i}"))
    assert len(technique.told()) == LIMIT
