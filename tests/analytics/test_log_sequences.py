"""Sessions of log templates: the labelled sequences, episodes, what is missing or unexpected, forgetting and bounds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ninefold.analytics.logs import sequences
from ninefold.analytics.logs.sequences import IDLE, LEARNED, ODD, Model, Odd, Sequences, judged
from ninefold.ground.clock import MINUTE

CART, PAID, PACKED, SHIPPED, REFUSED = range(5)
USUAL = [CART, PAID, PACKED, SHIPPED]


def minute(number: int, sessions: list[list[int]], entity: int = 1) -> np.ndarray:
    """Lines of some sessions that all lie in one minute."""
    rows = [
        (entity, 1 + number * 1000 + i, template, number * MINUTE + place)
        for i, templates in enumerate(sessions)
        for place, template in enumerate(templates)
    ]
    return np.array(rows, np.int64).reshape(-1, 4).T


def play(model: Sequences, days: list[list[list[int]]], first: int = 0) -> list[Odd]:
    return [odd for number, sessions in enumerate(days, first) for odd in model.close(number, minute(number, sessions))]


def test_missing_and_unexpected_lines_are_named_and_the_episode_ends() -> None:
    bad = [CART, PAID, REFUSED, REFUSED]
    found = play(Sequences(), [[USUAL] * 8] * 100 + [[USUAL] * 5 + [bad] * 3] * 3 + [[USUAL] * 8] * 20)
    assert [(odd.firing, odd.window) for odd in found] == [(True, False), (False, False)]
    assert (found[0].odd, found[0].finished, found[0].since) == (3, 8, 100 + IDLE)
    named = {(part.template, part.found, part.usual) for part in found[0].parts if part.after is None}
    assert {(PACKED, 0, 1), (SHIPPED, 0, 1), (REFUSED, 2, 0)} <= named


def test_a_known_variant_is_not_odd_and_neither_is_anything_before_enough_was_learned() -> None:
    variant = [CART, REFUSED]
    assert play(Sequences(), [[USUAL] * 20 + [variant]] * 60) == []
    assert play(Sequences(), [[USUAL]] * (LEARNED[0] - IDLE - 5) + [[variant]] * 3) == []


def test_a_habit_that_lasts_is_learned() -> None:
    new = [CART, REFUSED, SHIPPED, SHIPPED]
    days = [[USUAL] * 8] * 60 + [[new] * 8] * (sequences.ADAPT + 60)
    found = play(Sequences(), days)
    assert [odd.firing for odd in found] == [True, False]
    assert found[1].since < 60 + 10


def test_a_restart_changes_nothing_and_names_may_change() -> None:
    days = [[USUAL] * 8] * 70 + [[[CART, PAID]] * 4] * 3 + [[USUAL] * 8] * 9
    whole = play(Sequences(), days)
    first = Sequences()
    found = play(first, days[:71])
    again = Sequences(first.rows, first.state())
    assert found + play(again, days[71:], 71) == whole
    places = np.array([10, 11, 12, 13, 14])
    again.renamed(places)
    assert set(again.models[1, False].counts) == {10, 11, 12, 13}
    again.renumber(np.array([0, -1]))
    assert again.models == {}


def test_after_templates_have_merged_sessions_are_as_usual_and_others_are_still_odd() -> None:
    model = Sequences()
    assert play(model, [[USUAL] * 8] * 80) == []
    merged = np.array([CART, PAID, PACKED, PAID, REFUSED])
    model.renamed(merged)
    now = [merged[template].item() for template in USUAL]
    assert play(model, [[now] * 8] * 40, 80) == []
    assert [odd.firing for odd in play(model, [[now] * 5 + [[CART, REFUSED, REFUSED]] * 3] * 3, 120)] == [True]
    twice = Sequences(model.rows, model.state())
    found = play(twice, [[now] * 8] * 20 + [[now] * 5 + [[CART, PACKED]] * 3] * 3, 123)
    assert [odd.firing for odd in found] == [False, True], "a line that is missing of those that merged is missed again"


def test_a_long_session_is_cut_off_and_open_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Sequences()
    for number in range(sequences.LONGEST + 5):
        model.close(number, np.array([[1, 7, CART, number * MINUTE]]).T)
    assert model.rows.shape[1] < sequences.LONGEST
    monkeypatch.setattr(sequences, "OPEN", 10)
    model.close(sequences.LONGEST + 5, minute(sequences.LONGEST + 5, [USUAL] * 30))
    assert model.rows.shape[1] <= 10


def test_a_model_stays_bounded() -> None:
    model = Model()
    for i in range(3000):
        model.learn(Counter({i: 1, i + 1: 2}), [(i, i + 1)], i, 1)
    assert len(model.counts) <= sequences.TEMPLATES
    assert len(model.pairs) <= sequences.PAIRS
    assert len(model.shapes) <= sequences.SHAPES


@pytest.mark.parametrize(("name", "least"), [("hdfs", 0.99), ("openstack", 0.97)])
def test_labelled_sequences(data: Path, name: str, least: float) -> None:
    rows = pq.read_table(data / "logs" / f"{name}_sequences" / "sequences.parquet").to_pylist()
    train = [[int(event) for event in row["events"].split()] for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"][::7]
    model = Model()
    for events in train:
        model.learn(*judged(events), sequences.shape(events), 1)
    right = wrong = missed = 0
    for row in test:
        events = [int(event) for event in row["events"].split()]
        odd = model.shapes.get(sequences.shape(events), 0.0) < 2.0 and model.score(*judged(events))[0] >= ODD[0]
        right += odd and row["label"] == "anomaly"
        wrong += odd and row["label"] == "normal"
        missed += not odd and row["label"] == "anomaly"
    assert 2 * right / (2 * right + wrong + missed) >= least
