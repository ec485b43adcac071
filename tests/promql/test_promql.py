"""PromQL computed by hand: the rules Prometheus documents, on samples small enough to check with a pencil."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.ground.errors import BadData, Refused
from ninefold.promql import bounds
from ninefold.promql.evaluate import Evaluation, parse
from ninefold.promql.matrix import NAME, Grid, Labels, Samples, Vector
from ninefold.promql.select import Match, labels_of
from ninefold.promql.windows import quantile
from ninefold.sources.series import STALE

T = 1_700_000_000_000
"""Sample n of each series lies at T + n * 10 s."""


class Shelf:
    """Series in memory, found as the store finds them."""

    def __init__(self, rows: dict[tuple[tuple[str, str], ...], Sequence[float | None]]) -> None:
        self.rows = rows

    def samples(self, wanted: Sequence[Match], begin: int, end: int, want: str = "last", part: str = "") -> Samples:
        labels: list[Labels] = []
        times: list[int] = []
        values: list[float] = []
        edges = [0]
        for key, row in self.rows.items():
            found = dict(key)
            if part or not all((found.get(m.label, "") == m.value) == (m.op == "=") for m in wanted):
                continue
            here = [
                (T + place * 10_000, value) for place, value in enumerate(row) if value is not None and begin < T + place * 10_000 <= end
            ]
            if here:
                labels.append(found)
                times += [at for at, _ in here]
                values += [value for _, value in here]
                edges.append(len(times))
        return Samples(labels, np.array(times, np.int64), np.array(values, np.float64), np.array(edges, np.int64))


def series(name: str, /, *values: float | None, **labels: str) -> tuple[tuple[tuple[str, str], ...], Sequence[float | None]]:
    return tuple({NAME: name, **labels}.items()), values


SHELF = Shelf(
    dict([
        series("up", 1, 1, 1, job="a", instance="1"),
        series("up", 1, 1, 0, job="a", instance="2"),
        series("up", 1, 1, 1, job="b", instance="3"),
        series("requests_total", 0, 10, 20, 5, 15, 25, job="a", code="200"),
        series("requests_total", 0, 1, 2, 3, 4, 5, job="a", code="500"),
        series("gone", 1, 2, STALE, job="a"),
        series("load", 3, 1, 4, 1, 5, 9, job="a"),
        series("le_bucket", 1, 1, 1, 1, 1, 1, le="1"),
        series("le_bucket", 3, 3, 3, 3, 3, 3, le="2"),
        series("le_bucket", 4, 4, 4, 4, 4, 4, le="+Inf"),
        series("owner", 1, 1, 1, 1, 1, 1, job="a", team="red"),
        series("owner", 1, 1, 1, 1, 1, 1, job="b", team="blue"),
    ])
)  # fmt: skip


def at(text: str, sample: int = 2) -> Any:
    """The value of an expression at a sample's time: a number, or ``{labels as text: number}``."""
    when = T + sample * 10_000
    value = Evaluation(SHELF, Grid(when, when, 1)).evaluate(parse(text))  # type: ignore[arg-type]
    if not isinstance(value, Vector):
        return float(value[0]) if not isinstance(value, str) else value
    rows = zip(value.labels, value.values[:, 0].tolist(), value.present[:, 0], strict=True)
    return {",".join(f"{key}={text}" for key, text in sorted(labels.items())): number for labels, number, there in rows if there}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 ^ 2", 19.0),
        ("-(7 % 4)", -3.0),
        ("1 > bool 2", 0.0),
        ("time()", T / 1000 + 20),
        ("scalar(up{job='b'})", 1.0),
        ("sum(up)", {"": 2.0}),
        ("sum by (job) (up)", {"job=a": 1.0, "job=b": 1.0}),
        ("count without (instance) (up)", {"job=a": 2.0, "job=b": 1.0}),
        ("avg(up)", {"": pytest.approx(2 / 3)}),
        ("max(up) - min(up)", {"": 1.0}),
        ("stddev(up{job='a'})", {"": 0.5}),
        ("quantile(0.5, up)", {"": 1.0}),
        ("topk(1, load or up{job='b'})", {"__name__=load,job=a": 4.0}),
        ("count_values('state', up)", {"state=1": 2.0, "state=0": 1.0}),
        ("up == 0", {"__name__=up,instance=2,job=a": 0.0}),
        ("up == bool 0", {"instance=1,job=a": 0.0, "instance=2,job=a": 1.0, "instance=3,job=b": 0.0}),
        ("up * on(job) group_left(team) owner",
         {"instance=1,job=a,team=red": 1.0, "instance=2,job=a,team=red": 0.0, "instance=3,job=b,team=blue": 1.0}),
        ("owner + on(job) sum by (job)(up)", {"job=a": 2.0, "job=b": 2.0}),
        ("up and on(job) owner{team='red'}", {"__name__=up,instance=1,job=a": 1.0, "__name__=up,instance=2,job=a": 0.0}),
        ("up unless on(job) owner{team='red'}", {"__name__=up,instance=3,job=b": 1.0}),
        ("up{job='b'} or on(job) owner", {"__name__=up,instance=3,job=b": 1.0, "__name__=owner,job=a,team=red": 1.0}),
        ("up offset 10s == 0", {}),
        ("gone", {}),
        ("gone offset 10s", {"__name__=gone,job=a": 2.0}),
        ("absent(nothing{job='x', instance!='y'})", {"job=x": 1.0}),
        ("absent(up)", {}),
        ("histogram_quantile(0.5, le_bucket)", {"": 1.5}),
        ("histogram_quantile(0.9, le_bucket)", {"": 2.0}),
        ("label_replace(owner, 'colour', '$1', 'team', '(r.*)')",
         {"__name__=owner,colour=red,job=a,team=red": 1.0, "__name__=owner,job=b,team=blue": 1.0}),
        ("label_join(owner{job='a'}, 'both', '-', 'job', 'team')", {"__name__=owner,both=a-red,job=a,team=red": 1.0}),
        ("day_of_week(vector(0))", {"": 4.0}),
        ("clamp_max(load, 2)", {"job=a": 2.0}),
        ("timestamp(load)", {"job=a": T / 1000 + 20}),
        ("'text'", "text"),
    ],
)  # fmt: skip
def test_instant_expressions(text: str, expected: Any) -> None:
    assert at(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 20 s behind sample 5, open on the left: samples 4 and 5; the extrapolation doubles their 10 s.
        ("increase(requests_total{code='500'}[20s])", 2.0),
        ("rate(requests_total{code='500'}[20s])", 0.1),
        # Samples 1..5: 10, 20, 5 (a reset), 15, 25. 10 + 5 + 10 + 10 = 35 over 40 s, and 10 s more to the window's start.
        ("increase(requests_total{code='200'}[50s])", 35 * 50 / 40),
        ("irate(requests_total{code='500'}[1m])", 0.1),
        ("delta(load[20s])", 8.0),
        ("changes(load[1m])", 5.0),
        ("resets(requests_total{code='200'}[1m])", 1.0),
        ("sum_over_time(load[30s])", 15.0),
        ("avg_over_time(load[1m])", 23 / 6),
        ("min_over_time(load[40s])", 1.0),
        ("max_over_time(load[1m])", 9.0),
        ("last_over_time(load[1m])", 9.0),
        ("count_over_time(load[30s])", 3.0),
        ("quantile_over_time(0.5, load[1m])", 3.5),
        ("stdvar_over_time(load[20s])", 4.0),
        ("deriv(requests_total{code='500'}[1m])", 0.1),
        ("predict_linear(requests_total{code='500'}[1m], 100)", 15.0),
        ("max_over_time(sum(load)[30s:10s])", 9.0),
    ],
)
def test_range_functions(text: str, expected: float) -> None:
    (value,) = at(text, sample=5).values()
    assert value == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "up[5m]",
        "sum(",
        "up + on(job) owner",
        "owner + on() up",
        "rate(up)",
        "'a' + 1",
        "1 == 2",
        "label_replace(up, '1', '', '', '')",
        "up + 'x'",
    ],
)
def test_what_makes_no_sense_is_said(text: str) -> None:
    with pytest.raises(BadData):
        at(text)


def test_a_range_query_follows_the_steps_and_a_series_that_ends() -> None:
    grid = Grid(T, T + 50_000, 10_000)
    value = Evaluation(SHELF, grid).evaluate(parse("gone"))  # type: ignore[arg-type]
    assert isinstance(value, Vector)
    assert value.values[0][value.present[0]].tolist() == [1.0, 2.0]
    total = Evaluation(SHELF, grid).evaluate(parse("sum(requests_total @ end()) - sum(requests_total @ start())"))  # type: ignore[arg-type]
    assert isinstance(total, Vector)
    assert total.values.tolist() == [[30.0] * 6]


def test_names_and_attributes_become_labels_prometheus_allows() -> None:
    assert labels_of("http.server.duration", {"service.name": "a", "empty": "", "le": "1"}) == {
        NAME: "http_server_duration", "service_name": "a", "le": "1",
    }  # fmt: skip


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values: list[float], share: float) -> None:
    ours = quantile(share, np.array(values))
    assert math.isclose(ours, float(np.quantile(values, share)), rel_tol=1e-9, abs_tol=1e-6)


@pytest.mark.parametrize(
    "text", ["(" * 20_000 + "1" + ")" * 20_000, "+".join(["1"] * 20_000), "^".join(["1"] * 1000), "-" * 5000 + "1", "x" * 20_000]
)
def test_what_the_parser_must_not_see_is_refused_before(text: str) -> None:
    with pytest.raises(BadData):
        at(text)


def test_a_regular_expression_without_end_ends() -> None:
    vector = f"label_replace(vector(1), 'x', '{'a' * 60}!', '', '')"
    assert list(at(f"label_replace({vector}, 'y', '$1', 'x', '(a+)+')")) == [f"x={'a' * 60}!"]


def test_captures_by_number_and_by_name() -> None:
    vector = "label_replace(owner{job='a'}, 'y', '${1}-$second.$3', 'team', '(r)[(](?P<second>e)?.*|(r)(e)(d)')"
    assert list(at(vector)) == ["__name__=owner,job=a,team=red,y=-.r"]
    assert list(at("label_replace(owner{job='a'}, 'y', '$last', 'team', '(?:r)(e)(?P<last>.)')")) == ["__name__=owner,job=a,team=red,y=d"]


def test_too_many_values_and_too_much_time_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "CELLS", 5)
    with pytest.raises(BadData, match="steps"):
        Evaluation(SHELF, Grid(T, T + 50_000, 10_000)).evaluate(parse("up"))  # type: ignore[arg-type]
    monkeypatch.setattr(bounds, "CELLS", 5_000_000)
    bounds.allow(-1)
    try:
        with pytest.raises(Refused, match="too long"):
            at("up")
    finally:
        bounds.allow(1e9)
