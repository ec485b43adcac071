"""Thinning out a line must not change what it looks like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ninefold.store.downsample import on_grid, pick


def test_few_points_stay_all() -> None:
    times = np.arange(10, dtype=np.int64)
    assert pick(times, np.zeros(10), 10).tolist() == list(range(10))
    assert pick(times[:0], np.zeros(0), 10).tolist() == []


def test_one_spike_in_a_million_is_kept() -> None:
    times = np.arange(1_000_000, dtype=np.int64) * 1_000_000_000
    values = np.sin(times / 1e13)
    values[[123_456, 654_321]] = 50.0, -50.0
    chosen = pick(times, values, 600)
    assert len(chosen) <= 600
    assert {0, 123_456, 654_321, 999_999} <= set(chosen.tolist())


def test_a_gap_and_missing_values_do_not_disturb() -> None:
    times = np.concatenate([np.arange(1000), np.arange(90_000, 91_000)]).astype(np.int64)
    values = np.full(2000, np.nan)
    values[5], values[1500] = 7.0, -7.0
    chosen = pick(times, values, 100)
    assert {0, 5, 1500, 1999} <= set(chosen.tolist())


@pytest.mark.filterwarnings("error")
@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=300, unique=True),
    st.integers(4, 60),
    st.data(),
)
def test_extremes_and_order_survive(times: list[int], points: int, data: st.DataObject) -> None:
    at = np.array(sorted(times), np.int64)
    values = data.draw(arrays(np.float64, len(at), elements=st.floats(-1e9, 1e9)))
    chosen = pick(at, values, points)
    assert len(chosen) <= max(points, 4)
    assert (np.diff(chosen) > 0).all()
    assert values[chosen].max() == values.max()
    assert values[chosen].min() == values.min()
    assert chosen[0] == 0
    assert chosen[-1] == len(at) - 1


SEC = 1_000_000_000


def grid(times: list[int], values: list[float], step: int) -> tuple[list[int], list[float], list[bool]]:
    """Seconds in, seconds out."""
    at, line = np.array(times, np.int64) * SEC, np.array(values, np.float64)
    points, (drawn,), low, high, measured = on_grid(at, [line], line, line, np.ones(len(at), np.int64), step * SEC)
    assert not ((low > drawn) | (high < drawn)).any()
    return (points // SEC).tolist(), np.round(drawn, 9).tolist(), measured.tolist()


def test_five_minutes_asked_by_the_minute_say_what_is_measured() -> None:
    times, values, measured = grid([0, 300, 600, 1500, 1800], [10, 20, 0, 5, 6], 60)
    assert times == list(range(0, 1801, 60))
    assert [t for t, known in zip(times, measured, strict=True) if known] == [0, 300, 600, 1500, 1800]
    assert values[:11] == [10, 12, 14, 16, 18, 20, 16, 12, 8, 4, 0]
    assert np.isnan(values[11:25]).all(), "nothing is invented in a gap"
    assert values[25:] == [5, 5.2, 5.4, 5.6, 5.8, 6]


def test_samples_within_a_step_are_averaged() -> None:
    assert grid([0, 15, 30, 45, 60], [1, 2, 3, 6, 9], 60) == ([0, 60], [3, 9], [True, True])
    times, values, measured = grid([0, 10, 20], [1, np.nan, 3], 30)
    assert (times, values, measured) == ([0], [2], [True])
    assert grid([7], [1.5], 60) == ([0], [1.5], [True])


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60, unique=True), st.integers(1, 400))
def test_every_sample_is_in_a_measured_step_and_no_point_leaves_its_neighbours(seconds: list[int], step: int) -> None:
    seconds.sort()
    times, values, measured = grid(seconds, [float(second % 17) for second in seconds], step)
    assert np.diff(times).tolist() == [step] * (len(times) - 1)
    assert {second // step * step for second in seconds} == {t for t, known in zip(times, measured, strict=True) if known}
    shown = np.array(values)[~np.isnan(values)]
    assert shown.min() >= 0
    assert shown.max() <= 16
