"""Forecasts follow trend and season, their bounds hold what comes, and thresholds are met when they should be."""

from __future__ import annotations

import numpy as np
import pytest

from ninefold.analytics.metrics.forecast import Forecast, Window, breach, forecast, natural_bounds

HOUR = 3600 * 10**9
BEGIN = 1_700_006_400 * 10**9
DAY = 86400


def times(count: int) -> np.ndarray:
    return BEGIN + np.arange(count, dtype=np.int64) * HOUR


def ahead(values: np.ndarray, horizon_s: float = DAY, **options: object) -> Forecast:
    found = forecast(times(len(values)), values, horizon_s, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def noise(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


def season(count: int) -> np.ndarray:
    hours = np.arange(count)
    return 50 + 8 * np.sin(hours * 2 * np.pi / 24) + np.where(hours // 24 % 7 >= 5, -10.0, 0.0)


def test_a_season_of_day_and_week_is_foretold() -> None:
    truth = season(5 * 168)
    found = ahead(truth[: 4 * 168] + noise(4 * 168), 7 * DAY)
    assert np.abs(found.centre - truth[4 * 168 :]).mean() < 0.8
    assert "week" in found.model


def test_a_trend_is_followed_and_bounds_widen() -> None:
    x = 10 + 0.1 * np.arange(500) + noise(500)
    found = ahead(x, 10 * DAY)
    assert found.centre[-1] == pytest.approx(10 + 0.1 * 740, rel=0.05)
    for level in (0, 1):
        width = found.upper[level] - found.lower[level]
        assert (width > 0).all()
        assert width[-1] >= width[0]
    assert ((found.lower[1] <= found.lower[0]) & (found.lower[0] <= found.centre) & (found.upper[0] <= found.upper[1])).all()


def test_bounds_hold_about_what_they_say() -> None:
    inside = np.zeros(2)
    count = 0
    for seed in range(12):
        x = season(600) + 2 * noise(600, seed)
        found = ahead(x[:500], 2 * DAY)
        inside += ((x[500:548] >= found.lower) & (x[500:548] <= found.upper)).sum(axis=1)
        count += 48
    assert np.allclose(inside / count, (0.8, 0.95), atol=0.06)


def test_after_a_change_of_level_only_the_new_one_counts() -> None:
    x = 20 + noise(600)
    x[500:] += 40
    found = ahead(x)
    assert found.centre == pytest.approx(np.full(24, 60.0), abs=1.5)
    assert abs((found.trained_from - BEGIN) // HOUR - 500) <= 3


def test_wild_values_and_gaps_do_no_harm() -> None:
    x = 20 + noise(400)
    x[[100, 200, 398]] = 5000.0
    x[250:300] = np.nan
    found = ahead(x)
    assert found.centre == pytest.approx(np.full(24, 20.0), abs=2.0)


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, 0.0), (-2.0, 300.0)])
def test_scale_and_offset_change_nothing_else(scale: float, shift: float) -> None:
    x = season(400) + noise(400)
    plain, other = ahead(x), ahead(x * scale + shift)
    assert other.centre == pytest.approx(plain.centre * scale + shift, rel=1e-6)
    bounds = (plain.lower, plain.upper) if scale > 0 else (plain.upper, plain.lower)
    for mine, theirs in zip((other.lower, other.upper), bounds, strict=True):
        assert mine == pytest.approx(theirs * scale + shift, rel=1e-6)


def test_from_twenty_points_to_a_year_of_hours() -> None:
    assert forecast(times(19), noise(19), DAY) is None
    assert forecast(times(30), np.full(30, np.nan), DAY) is None
    few = ahead(np.arange(20) + 0.1 * noise(20), 5 * 3600)
    assert few.centre == pytest.approx(np.arange(20, 25), abs=1.0)
    many = ahead(season(8760) + noise(8760), 14 * DAY)
    assert len(many.centre) == 14 * 24
    still = ahead(np.full(50, 7.0))
    assert (still.centre == 7.0).all()


def test_a_holiday_is_left_out_and_comes_again() -> None:
    x = season(4 * 168) + noise(4 * 168)
    last, next_ = 4 * 168 - 72, 4 * 168 + 24
    x[last : last + 24] -= 30
    windows = [Window(int(times(10_000)[at]), int(times(10_000)[at + 24]), "holiday") for at in (last, next_)]
    plain, told = ahead(x, 3 * DAY, windows=windows[:1]), ahead(x, 3 * DAY, windows=windows)
    lift = told.centre - plain.centre
    assert lift[24:48] == pytest.approx(np.full(24, -30.0), abs=4)
    assert (lift[:23] == 0).all()
    assert (lift[49:] == 0).all()


def test_when_a_threshold_is_met() -> None:
    x = 50 + 0.1 * np.arange(400) + 0.5 * noise(400)
    found = ahead(x, 10 * DAY)
    met = breach(found, 100.0)
    assert met.earliest is not None
    assert met.likely is not None
    assert met.latest is not None
    assert met.earliest <= met.likely <= met.latest
    assert (met.likely - int(times(401)[-1])) / HOUR == pytest.approx(100, abs=15)
    assert met.chance > 0.95
    never = breach(found, 1000.0)
    assert (never.earliest, never.likely, never.latest) == (None, None, None)
    assert never.chance < 0.01
    falling = breach(ahead(100 - 0.2 * np.arange(400), 10 * DAY), 0.0, above=False)
    assert falling.likely is not None


def test_natural_bounds() -> None:
    assert natural_bounds("%", np.array([10.0, 99.0])) == (0.0, 100.0)
    assert natural_bounds("By", np.array([10.0, np.nan])) == (0.0, np.inf)
    assert natural_bounds("Cel", np.array([-10.0, 5.0])) == (-np.inf, np.inf)
    count = np.cumsum(np.random.default_rng(2).poisson(3, 300)).astype(float)
    found = ahead(count, 5 * DAY)
    assert (found.within(0.0, 1000.0).upper <= 1000.0).all()
