"""The own scorer of the Numenta Anomaly Benchmark gives the scores that were published."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from bench.scores import nab
from scipy.special import erfc

WEIGHTS = {
    "standard": nab.Weights(1.0, 0.11, 1.0),
    "reward_low_FP_rate": nab.Weights(1.0, 0.22, 1.0),
    "reward_low_FN_rate": nab.Weights(1.0, 0.11, 2.0),
}


@pytest.fixture(scope="module")
def corpus(data: Path) -> nab.Corpus:
    return nab.load(data / "timeseries" / "nab")


@pytest.fixture(scope="module")
def published(data: Path) -> dict[str, dict[str, float]]:
    return json.loads((data / "timeseries" / "nab" / "published_scores.json").read_text())


def one_file() -> nab.Corpus:
    """100 rows, the first 15 on probation, a window of rows 40 to 49."""
    return nab.Corpus([nab.Series("a/one", np.arange(100), np.zeros(100), [(40, 49)])], WEIGHTS)


def at(rows: dict[int, float]) -> nab.F64:
    scores = np.zeros(100)
    scores[list(rows)] = list(rows.values())
    return scores


def test_the_sigmoid_as_published() -> None:
    found = nab.sigmoid(np.array([-1.0, -0.5, 0.0, 1.0, 2.99, 3.0, 7.0]))
    assert found == pytest.approx([0.98661, 0.84828, 0.0, -0.98661, -1.0, -1.0, -1.0], abs=1e-5)


def test_probation_is_a_share_up_to_a_limit() -> None:
    assert [nab.probation(rows) for rows in (10, 1000, 5000, 20_000)] == [1, 150, 750, 750]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({}, 0.0),
        ({40: 1.0}, 100.0),  # the first row of the window
        ({10: 1.0}, 0.0),  # on probation
        ({49: 1.0}, 100 * (1 + 0.2449187 / 0.9866143) / 2),  # its last row: 2 / (1 + exp(-0.5)) - 1
        ({44: 1.0, 47: 1.0}, 100 * (1 + 0.9051483 / 0.9866143) / 2),  # only the best within a window counts: place -0.6
        ({40: 1.0, 20: 1.0}, 100 * (2 - 0.11) / 2),  # a false alarm before any window
        ({40: 1.0, 58: 1.0}, 100 * (2 - 0.11 * 0.9866143) / 2),  # nine rows behind a window of ten
    ],
)
def test_one_file_by_hand(rows: dict[int, float], expected: float) -> None:
    corpus = one_file()
    assert corpus.at(corpus.curves(at(rows)), "standard", 1.0) == pytest.approx(expected, abs=1e-4)


def test_the_sweep_finds_the_best_threshold_and_points_of_one_score_alarm_together() -> None:
    corpus = one_file()
    curves = corpus.curves(at({41: 0.6, 20: 0.7, 70: 0.6}))
    assert list(curves.thresholds) == [np.inf, 0.7, 0.6, 0.0]
    score, threshold = corpus.best(curves, "standard")
    assert threshold == 0.6
    assert score == corpus.at(curves, "standard", 0.65 - 0.05) > corpus.at(curves, "standard", 0.65)
    assert curves.false[2] == pytest.approx(-1.0 + float(nab.sigmoid(np.array(21 / 9))))


def test_nothing_and_everything(corpus: nab.Corpus, published: dict[str, dict[str, float]]) -> None:
    assert len(corpus.series) == 58
    assert len(corpus.of_window) == 116
    nothing = corpus.curves(np.full(len(corpus.worth), 0.5))
    perfect = corpus.curves((corpus.inside >= 0).astype(float))
    for profile in nab.PROFILES:
        assert corpus.at(nothing, profile, 0.6) == published["null"][profile] == 0.0
        assert corpus.best(perfect, profile) == (pytest.approx(100.0), 1.0)


def test_the_random_detector_scores_as_published(corpus: nab.Corpus, published: dict[str, dict[str, float]]) -> None:
    """Its generator is seeded with 42 for every file; the threshold is the one in the benchmark's own configuration."""
    drawn = []
    for series in corpus.series:
        draw = random.Random(42)
        drawn += [draw.uniform(0, 1) for _ in series.times]
    curves = corpus.curves(np.array(drawn))
    assert corpus.at(curves, "standard", 0.9984497070312507) == pytest.approx(published["random"]["standard"], abs=1e-6)


def gaussian(values: nab.F64, size: int = 6400, step: int = 100) -> nab.F64:
    """The benchmark's windowed Gaussian: one less the tail probability beside a window that grows, then moves on every hundred points."""
    shifted = (values - values[0]).astype(np.longdouble)
    last = np.arange(1, len(values))  # the window of a point ends before it
    last = np.where(last > size, size + (last - size) // step * step, last)
    first = np.maximum(last - size, 0)
    once, twice = (np.concatenate(([0.0], np.cumsum(part))) for part in (shifted, shifted**2))
    mean = (once[last] - once[first]) / (last - first)
    spread = np.sqrt(np.maximum((twice[last] - twice[first]) / (last - first) - mean**2, 0.0))
    spread = np.where(spread <= 1e-9 * (1.0 + np.abs(mean)), 1e-6, spread)
    off = np.abs(shifted[1:] - mean) / spread
    return np.concatenate(([0.0], 1.0 - 0.5 * erfc((off / np.sqrt(2.0)).astype(float))))


def test_the_windowed_gaussian_scores_as_published(corpus: nab.Corpus, published: dict[str, dict[str, float]]) -> None:
    """Published scores were swept over results written with twelve digits, so what is closer to 1 than that counts as 1."""
    scores = np.round(np.concatenate([gaussian(series.values) for series in corpus.series]), 12)
    curves = corpus.curves(scores)
    alarms = corpus.counts & (scores >= 1.0)
    assert (int((alarms & (corpus.inside >= 0)).sum()), int((alarms & (corpus.inside < 0)).sum())) == (521, 409)
    for profile in nab.PROFILES:
        assert corpus.best(curves, profile) == (pytest.approx(published["windowedGaussian"][profile], abs=1e-5), 1.0)


def test_a_threshold_from_the_other_half_is_never_better(corpus: nab.Corpus) -> None:
    first, second = corpus.halves()
    assert (int(first.sum()), int(second.sum())) == (29, 29)
    scores = np.random.default_rng(1).random(len(corpus.worth))
    own = sum(corpus.best(corpus.curves(scores, half), "standard")[0] * half[corpus.of_window].sum() for half in (first, second)) / 116
    assert corpus.crossed(scores, "standard") <= own
    low, high = corpus.interval(scores, "standard", 0.999, draws=200)
    assert low < corpus.at(corpus.curves(scores), "standard", 0.999) < high
