"""Thinning out a line must not change what it looks like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ninefold.store.downsample import pick


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
