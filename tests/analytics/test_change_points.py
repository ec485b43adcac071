"""Lasting changes are found where they are, nothing is found in noise, and the answer does not depend on scale or length."""

from __future__ import annotations

import numpy as np
import pytest

from ninefold.analytics import warm
from ninefold.analytics.metrics.change_points import ChangePoint, change_points, onset

STEP = 900 * 10**9
BEGIN = 1_700_006_400 * 10**9


def times(count: int) -> np.ndarray:
    return BEGIN + np.arange(count, dtype=np.int64) * STEP


def found(values: np.ndarray) -> list[ChangePoint]:
    return change_points(times(len(values)), values)


def place(time: int) -> int:
    return (time - BEGIN) // STEP


def noise(count: int = 800, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


def dependent(phi: float, seed: int) -> np.ndarray:
    x = noise(1500, seed)
    for i in range(1, len(x)):
        x[i] += phi * x[i - 1]
    return x


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["normal", "dependent", "heavy", "season", "trend", "counts", "constant"])
def test_nothing_is_found_where_nothing_changes(kind: str, seed: int) -> None:
    rng, k = np.random.default_rng(seed), np.arange(1500)
    series = {
        "normal": noise(1500, seed), "dependent": dependent(0.8, seed), "heavy": rng.standard_t(3, 1500),
        "season": 8 * np.sin(k * 2 * np.pi / 96) + rng.normal(size=1500), "trend": 0.05 * k + rng.normal(size=1500),
        "counts": rng.poisson(4, 1500).astype(float), "constant": np.full(1500, 3.0),
    }  # fmt: skip
    sure = [change for change in found(series[kind]) if change.confidence > 0.95]
    assert not sure


@pytest.mark.parametrize(("at", "size"), [(100, 2.0), (400, -1.5), (700, 3.0)])
def test_a_change_of_level_has_its_onset_size_and_interval(at: int, size: float) -> None:
    x = noise()
    x[at:] += size
    (change,) = found(x)
    assert change.kind == "level"
    assert abs(place(change.time) - at) <= 8
    assert place(change.earliest) <= at <= place(change.latest)
    assert change.size == pytest.approx(size, abs=0.35)
    assert change.confidence > 0.99


def test_a_season_does_not_hide_a_change() -> None:
    x = 8 * np.sin(np.arange(1200) * 2 * np.pi / 96) + noise(1200)
    x[700:] += 4
    (change,) = found(x)
    assert abs(place(change.time) - 700) <= 2


@pytest.mark.parametrize("seed", range(3))
def test_daily_business_figures_with_a_week_and_a_campaign(seed: int) -> None:
    """Orders a day: a shop that is half empty on Sundays, from a day on a fifth fewer; one day of a campaign is no change for good."""
    rng, days = np.random.default_rng(seed), np.arange(120)
    usual = 1000 * np.array([1.0, 1.05, 1.1, 1.1, 1.2, 0.8, 0.5])[days % 7]
    orders = rng.poisson(np.where(days < 70, usual, 0.8 * usual)).astype(float)
    orders[30] *= 1.6
    at = BEGIN + days.astype(np.int64) * 86400 * 10**9
    (change,) = [change for change in change_points(at, orders) if change.confidence > 0.9]
    assert change.kind == "level"
    assert abs((change.time - BEGIN) // (86400 * 10**9) - 70) <= 3
    assert change.earliest <= at[70] <= change.latest
    assert change.size == pytest.approx(-0.2 * 965, rel=0.25)


def test_slope_and_spread_are_told_apart() -> None:
    bent = noise() + np.maximum(np.arange(800) - 400, 0) * 0.05
    (change,) = found(bent)
    assert change.kind == "slope"
    assert place(change.earliest) <= 400 <= place(change.latest)
    assert change.size == pytest.approx(0.05 * 4, rel=0.15), "a rise of 0.05 a quarter of an hour"
    wide = noise()
    wide[500:] *= 4
    ratio = wide[500:].std() / wide[:500].std()
    (change,) = found(wide)
    assert change.kind == "spread"
    assert abs(place(change.time) - 500) <= 10
    assert change.size == pytest.approx(ratio, rel=0.12)


def test_a_wild_value_is_no_change_and_gaps_do_no_harm() -> None:
    x = noise()
    x[[50, 300, 301, 650]] = 80.0
    assert not found(x)
    x[400:] += 3
    x[100:130] = np.nan
    (change,) = found(x)
    assert abs(place(change.time) - 400) <= 3


@pytest.mark.parametrize(("scale", "shift"), [(1e-9, 0.0), (1e9, 0.0), (-3.0, 1e4)])
def test_scale_and_offset_change_only_the_sizes(scale: float, shift: float) -> None:
    x = noise()
    x[300:] += 2
    plain, other = found(x), found(x * scale + shift)
    assert [(c.time, c.earliest, c.latest, c.kind) for c in plain] == [(c.time, c.earliest, c.latest, c.kind) for c in other]
    assert other[0].size == pytest.approx(plain[0].size * scale, rel=1e-6)


def test_a_long_series_is_located_among_its_own_points() -> None:
    x = noise(30_000)
    x[17_123:] += 2
    (change,) = found(x)
    assert abs(place(change.time) - 17_123) <= 6
    assert place(change.earliest) <= 17_123 <= place(change.latest)


def test_too_little_to_judge() -> None:
    assert found(np.arange(5.0)) == []
    assert found(np.full(100, np.nan)) == []
    assert onset(np.arange(5.0)) is None


@pytest.mark.parametrize("lasts", [4, 10, 60])
def test_onset_of_a_running_shift(lasts: int) -> None:
    x = noise(300)
    x[-lasts:] += 4
    said = onset(x)
    assert said is not None
    assert said.earliest <= 300 - lasts <= said.latest
    assert said.confidence > 0.9
    assert said.shift == pytest.approx(4, abs=1.2)
    still = onset(noise(300))
    assert still is not None
    assert still.confidence < 0.5


def test_pruning_loses_nothing() -> None:
    """The compiled cut costs what the best of all cuts costs, found without pruning."""
    cut = warm.loops("metrics.segmenting").cut
    rng = np.random.default_rng(3)
    for trial in range(6):
        n = 60
        x = rng.normal(size=n) + np.repeat(rng.normal(0, 3, 4), 15)
        cost, begins = cut(x, trial % 2 == 1, False, 5, 6.0)
        best = [-6.0, *[np.inf] * n]
        for end in range(5, n + 1):
            for begin in [0, *range(5, end - 4)]:
                piece, k = x[begin:end], np.arange(end - begin)
                rest = piece - (np.polyval(np.polyfit(k, piece, 1), k) if trial % 2 else piece.mean())
                best[end] = min(best[end], best[begin] + (rest**2).sum() + 6.0 + np.log((end - begin) / n))
        assert cost == pytest.approx(best[n])
        assert begins[n] < n
