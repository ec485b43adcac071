"""Scores by point, by range and by event, on cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from bench.scores.points import auc_pr, events
from bench.scores.vus import range_auc_pr, segments, softened, vus_pr


def labels(size: int, *ranges: tuple[int, int]) -> np.ndarray:
    marked = np.zeros(size)
    for first, last in ranges:
        marked[first : last + 1] = 1.0
    return marked


def test_labels_get_shoulders_that_fall_as_a_square_root() -> None:
    soft = softened(labels(10, (4, 5)), 4)
    assert soft == pytest.approx([0, 0, 0.5**0.5, 0.75**0.5, 1, 1, 0.75**0.5, 0.5**0.5, 0, 0])
    assert softened(labels(10, (0, 1), (3, 4)), 4).max() == 1.0, "shoulders that meet do not rise above a label"
    assert segments(soft) == [(2, 7)]


def test_without_a_buffer_it_is_average_precision_times_the_share_of_ranges_touched() -> None:
    marked = labels(8, (1, 1), (5, 5))
    scores = np.array([0, 8, 7, 0, 0, 6, 0, 0.0])
    # the first alarm is right: recall 1/2 of points, 1/2 of ranges; the third finds the other: precision 2/3
    assert range_auc_pr(marked, scores, 0) == pytest.approx(0.25 * 1 + 0.75 * 2 / 3)
    assert vus_pr(marked, scores, 0) == range_auc_pr(marked, scores, 0)


def test_a_buffer_forgives_an_alarm_that_is_one_point_late() -> None:
    marked, late = labels(20, (8, 9)), np.zeros(20)
    late[10] = 1.0
    strict, kind = range_auc_pr(marked, late, 0), range_auc_pr(marked, late, 4)
    assert strict == pytest.approx(2 / 20), "the late point is wrong; then all points alarm together"
    # 0.866 of a label is met; the labelled mass is the mean of 2 and of 2 + 0.866; then all alarm: 2 + 2 x (0.866 + 0.707) of 20
    first = 0.75**0.5 / ((2 + 2 + 0.75**0.5) / 2)
    rest = min((2 + 2 * (0.75**0.5 + 0.5**0.5)) / ((2 + 2 + 2 * (0.75**0.5 + 0.5**0.5)) / 2), 1.0) - first
    assert kind == pytest.approx(first * 0.75**0.5 + rest * (2 + 2 * (0.75**0.5 + 0.5**0.5)) / 20)
    assert strict < vus_pr(marked, late, 4) < kind


def surface(marked: np.ndarray, scores: np.ndarray, buffer: int) -> float:
    """The area by the letter of the definition: every threshold in turn, every point looked at."""
    soft = marked.copy()
    for first, last in segments(marked):
        for step in range(1, buffer // 2 + 1):
            for place in (first - step, last + step):
                if 0 <= place < len(soft):
                    soft[place] = min(1.0, soft[place] + (1 - step / buffer) ** 0.5)
    area = before = 0.0
    for threshold in sorted(set(scores), reverse=True):
        alarm = scores >= threshold
        met = soft * alarm
        mass = (marked.sum() + np.where(soft == 1.0, 1.0, met).sum()) / 2
        touched = np.mean([met[first : last + 1].any() for first, last in segments(soft)])
        recall = min(met.sum() / mass, 1.0) * touched
        area, before = area + (recall - before) * met.sum() / alarm.sum(), recall
    return area


@pytest.mark.parametrize("buffer", [0, 1, 7, 20])
def test_the_area_is_that_of_the_definition(buffer: int) -> None:
    rng, marked = np.random.default_rng(buffer), labels(240, (20, 31), (36, 36), (120, 150), (236, 239))
    scores = np.round(rng.random(240) + 0.4 * marked, 2)
    assert range_auc_pr(marked, scores, buffer) == pytest.approx(surface(marked, scores, buffer))


def test_scores_are_only_compared() -> None:
    rng = np.random.default_rng(3)
    marked, scores = labels(500, (100, 120), (300, 310)), rng.random(500)
    assert vus_pr(marked, scores, 20) == pytest.approx(vus_pr(marked, np.exp(5 * scores), 20))
    assert vus_pr(marked, marked, 0) == pytest.approx(1.0)
    assert np.isnan(vus_pr(np.zeros(5), np.arange(5.0)))


def test_average_precision_takes_equal_scores_together() -> None:
    assert auc_pr(np.array([1.0, 0, 1, 0]), np.array([4.0, 3, 2, 1])) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert auc_pr(np.array([1.0, 0, 1, 0]), np.ones(4)) == pytest.approx(0.5)
    assert np.isnan(auc_pr(np.zeros(3), np.arange(3.0)))


def test_events_count_a_burst_of_alarms_once() -> None:
    found = events([(10, 20), (50, 60)], np.array([12, 13, 14, 30, 31, 90]), apart=5)
    assert found == (pytest.approx(1 / 3), 0.5, 3)
    assert np.isnan(events([], np.array([], np.int64), 5).precision)
