"""Measures of the accuracy evaluation, on cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from bench.all import missed
from bench.correlate import scores
from bench.evaluations import change_points, correlation, forecasts, logs, regression
from bench.scores import causes


def test_the_four_measures_of_log_templates() -> None:
    """Ten lines, four true templates; ours are right in the first, split the second, and join the last two."""
    truth = ["a <*>"] * 4 + ["b <*>"] * 3 + ["c d"] * 2 + ["c e"]
    texts = ["a <*>"] * 4 + ["b <*>"] * 2 + ["b 7"] + ["c <*>"] * 3
    found = logs.measures([1, 1, 1, 1, 2, 2, 3, 4, 4, 4], texts, truth)
    assert found["GA"] == pytest.approx(4 / 10), "only the lines of the first are a group"
    assert found["FGA"] == pytest.approx(2 * 1 / (4 + 4))
    assert found["PA"] == pytest.approx(6 / 10)
    assert found["FTA"] == pytest.approx(2 * 2 / (4 + 4)), "all lines of ours called b <*> are that, though some of its lines are missing"


def test_grouping_does_not_ask_for_the_text_and_the_text_not_for_the_whole_group() -> None:
    found = logs.measures([1, 1, 2], ["x", "x", "q <*>"], ["p <*>", "p <*>", "q <*>"])
    assert (found["GA"], found["FGA"]) == (1.0, 1.0)
    assert (found["PA"], found["FTA"]) == (pytest.approx(1 / 3), pytest.approx(2 * 1 / (2 + 2)))


def test_normalised_texts_forgive_what_a_hole_spans_and_nothing_else() -> None:
    same = logs.measures([1], ["user=<*> from <*>"], ["user=<*> from <*>:<*>"])
    assert (same["PA"], same["normalised PA"]) == (0.0, 1.0)
    assert logs.measures([1], ["user=<*> left"], ["user=<*> came"])["normalised PA"] == 0.0


def test_precision_recall_and_f1_of_sessions() -> None:
    found = logs.figures(np.array([True, True, False, False, True]), np.array([True, False, True, False, True]))
    assert found == (pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(1 / 2))


def test_rare_anomalies_have_the_share_they_should_and_lie_anywhere() -> None:
    truth = np.r_[np.ones(800, bool), np.zeros(200, bool)]
    places = logs.as_rare(truth, 0.2)
    assert (len(places), int(truth[places].sum())) == (250, 50)
    assert np.all(np.diff(places) > 0)
    assert places[truth[places]].max() > 400, "not merely the first ones"


def case(past: list[float], came: list[float]) -> forecasts.Case:
    return forecasts.Case("one", np.arange(len(past)), np.array(past), np.array(came), 3600, 2)


def test_errors_are_measured_in_steps_of_the_past() -> None:
    """Steps of the past: 2, 2, 4, so 8/3 in the mean; errors of the last value: 1 and 3, of which the missing point is none."""
    one = case([1.0, 3.0, 5.0, 9.0], [10.0, np.nan, 12.0])
    found = forecasts.score(forecasts.naive, [one])
    assert found["mase"] == pytest.approx([2 / (8 / 3)])
    assert found["wape"] == pytest.approx(2 / 11)
    assert forecasts.score(forecasts.seasonal, [one])["mase"] == pytest.approx([(5 + 7) / 2 / (8 / 3)]), "5 and 5: two steps before"


def test_coverage_counts_points_not_forecasts() -> None:
    def said(one: forecasts.Case) -> forecasts.Said:
        size = len(one.came)
        return forecasts.Said(np.zeros(size), np.array([[-1.0] * size, [-2.0] * size]), np.array([[1.0] * size, [2.0] * size]))

    found = forecasts.score(said, [case([0.0, 1.0], [0.5]), case([0.0, 1.0], [0.5, 1.5, 2.5])])
    assert found["coverage"] == pytest.approx([2 / 4, 3 / 4])
    assert found["width"] == pytest.approx(4.0)


def test_change_points_within_a_margin_and_each_counts_once() -> None:
    """Of three true ones two are found: one by the nearer of two reports, one at the margin; 500 is too far from 515."""
    said = {1.0: [98, 104, 310, 500], 0.0: [7]}
    cases = [change_points.Case(np.array([1.0]), [100, 300, 515]), change_points.Case(np.array([0.0]), [])]
    found = change_points.score(lambda values: said[float(values[0])], cases, within=10)
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 5), pytest.approx(2 / 3))
    assert found["f1"] == pytest.approx(2 * (2 / 5) * (2 / 3) / (2 / 5 + 2 / 3))
    assert (found["away"], found["false"]) == (6.0, 1.0)


def test_ranks_and_wilson_intervals() -> None:
    assert [causes.hits([1, 2, 0, 4], k) for k in (1, 2, 4)] == [0.25, 0.5, 0.75]
    assert causes.interval(0.5, 10) == "0.24 to 0.76"


def recorded(**values: list[float]) -> pa.Table:
    """Metrics of entities, a value a bucket: eight before the incident, two in it."""
    rows = [
        {"entity": entity, "series": series, "bucket": bucket, "value": value}
        for series, (entity, many) in enumerate(values.items())
        for bucket, value in enumerate(many, -8)
    ]
    return pa.Table.from_pylist(rows)


def test_the_baselines_of_root_causes_ask_for_the_largest_deviation_and_for_the_most_rules_broken() -> None:
    """a rises by 1 beyond a mean of 11 and a deviation of 1.07, b by 19; of c nothing is known before."""
    calm = [10.0, 12.0] * 4
    told = recorded(a=[*calm, 12.0, 12.0], b=[*calm, 30.0, 30.0])
    assert causes.nsigma(told) == ["b", "a"]
    none = pa.table({"entity": pa.array([], pa.string())})
    assert causes.simple(told, none, none) == ["b", "a"]
    only = pa.Table.from_pylist([{"entity": "c", "series": 9, "bucket": bucket, "value": 5.0} for bucket in (0, 1)])
    assert causes.nsigma(only) == [], "nothing was seen before"


@pytest.mark.parametrize(("value", "target", "is_missed"), [(2, "≤ 1.5", True), (1, "≤ 1.5", False), (1, "≥ 1.5", True), (1, None, False)])
def test_which_side_of_a_gate_is_missed(value: float, target: str | None, is_missed: bool) -> None:
    assert missed({"value": value, "target": target}) is is_missed


def test_gates_of_correlation_stand_on_the_session_of_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = "component session 0.400, fingerprint only -0.010"
    names = ("replay, storm (gap 120 s): ARI", "replay, 20 systems: ARI", "replay, one at a time (gap 600 s): ARI")
    rows = [{"name": name, "value": 0.41, "peer": peer} for name in names]
    monkeypatch.setattr(correlation, "accuracy", lambda: [*rows, {"name": "replay, storm (gap 120 s): F1", "value": 0.1, "peer": peer}])
    found = correlation.run()
    assert [row.get("target") for row in found] == ["≥ 0.550", "≥ 0.430", "≥ 0.390", None]
    assert [missed(row) for row in found] == [True, True, False, False]


def test_the_corrected_rand_index_of_groups_by_hand() -> None:
    """Six alerts of two incidents, one in the wrong group: pairs together in both 4, in truth 6, in ours 7, of 15."""
    found = scores(["a"] * 3 + ["b"] * 3, [1, 1, 1, 1, 2, 2])
    expected = 6 * 7 / 15
    assert found["ARI"] == pytest.approx((4 - expected) / (6.5 - expected))
    assert found["F1"] == pytest.approx(2 * 4 / (6 + 7))
    assert (found["compression"], found["wrong merges"]) == (pytest.approx(1 - 2 / 6), 0.5)


def test_refitted_least_squares_know_only_what_lies_before() -> None:
    rng = np.random.default_rng(5)
    drivers = rng.normal(size=(400, 2))
    target = 3.0 + drivers @ np.array([2.0, -1.0])
    found = regression.expanding(drivers, target)
    assert found[40:] == pytest.approx(target[40:])
    later = np.r_[target[:300], 99.0 + target[300:]]
    assert regression.expanding(drivers, later)[:340] == pytest.approx(found[:340])
