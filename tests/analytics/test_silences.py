"""Series that fall silent: told once an entity, over when the last of them speaks, and not the fault of entities when a source stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from playing import START, described, events, metric, reasons

from ninefold.analytics import warm
from ninefold.analytics.metrics.baseline import Baseline
from ninefold.ground.clock import MINUTE, SECOND


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm.warm()


def fleet(minutes: int, silent: Sequence[int], series: int, since: int) -> list[dict[str, Any]]:
    """Events of a fleet of which some fall silent; odd series belong to one entity, even ones to another."""
    technique, found = Baseline(), []
    rng = np.random.default_rng(1)
    for i in range(series):
        found += technique.process(described(i, entity=f"service:{'ab'[i % 2]}"))
    for minute in range(minutes):
        ids = [i for i in range(series) if minute < since or i not in silent]
        at = START + minute * MINUTE
        if ids:
            found += technique.process(metric(ids, [at] * len(ids), rng.normal(100, 2, len(ids)), received=at + SECOND))
    return events(found)


def test_silence_is_told_once_an_entity_and_ends_when_it_speaks_again() -> None:
    found = fleet(120, [1, 3, 5], 10, 60)
    assert reasons(found) == [("firing", "missing")]
    assert found[0]["entity"] == "service:b"
    assert found[0]["title"].endswith("is not reported any more and 2 more series")
    assert 5 <= (found[0]["time"].value - START) // MINUTE - 60 <= 9


def test_a_silence_whose_end_comes_in_the_same_batch_is_over() -> None:
    rows = [(i, START + 10 * n * SECOND, float(100 + n * i % 5)) for n in range(58) for i in range(1, 7) if i != 2 or not 35 <= n < 55]
    ids, times, values = zip(*rows, strict=True)
    found = events(Baseline().process(metric(ids, times, values)))
    assert reasons(found) == [("firing", "missing"), ("resolved", "missing")]


def test_the_silence_of_an_entity_lasts_until_the_last_of_its_series_speaks() -> None:
    technique, found = Baseline(), []
    for i in range(10):
        technique.process(described(i, f"m{i}", entity=f"service:{'ab'[i % 2]}"))
    rng = np.random.default_rng(1)
    for minute in range(160):
        silent = {1: 60 <= minute < 90 or minute >= 100, 3: 60 <= minute < 120, 5: 60 <= minute < 130}
        ids = [i for i in range(10) if not silent.get(i)]
        values = rng.normal(100, 2, len(ids))
        found += events(technique.process(metric(ids, [START + minute * MINUTE] * len(ids), values)))
    assert [(row["status"], row["title"]) for row in found] == [
        ("firing", "m1 of b is not reported any more and 2 more series"),
    ], "the first series spoke, stopped again and stays away: its alarm goes on"
    found += events(technique.process(metric([1], [START + 160 * MINUTE], [100.0])))
    assert (found[1]["status"], found[1]["fingerprint"], found[1]["title"]) == (
        "resolved",
        found[0]["fingerprint"],
        "m1 of b is reported again",
    )


def test_a_source_that_stops_altogether_is_not_the_fault_of_its_entities() -> None:
    assert fleet(120, range(1, 10), 10, 60) == []
