"""Settings outlive the state of the techniques they are for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ninefold.analytics.metrics.baseline import Baseline
from ninefold.analytics.metrics.regressing import Regressions
from ninefold.engine.techniques import TechniqueRunner
from ninefold.ground.clock import now
from ninefold.ground.meter import Meter
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import batch_of
from ninefold.stewardship.settings import in_force
from ninefold.store.telemetry import Telemetry

SPEC = {"id": "abc", "name": "load", "step_s": 60, "target": {"series": "1", "name": "a", "unit": "", "entity": "", "counter": False},
        "drivers": [{"series": "2", "name": "b", "lag_s": 0, "counter": False}]}  # fmt: skip
SAID = (
    ("ninefold.console", {"detection": "sensitivity", "scope": "everything", "name": "", "word": "keen"}),
    ("ninefold.console", {"detection": "sensitivity", "scope": "entity", "name": "service:a", "word": "calm"}),
    ("ninefold.console", {"detection": "sensitivity", "scope": "everything", "name": "", "word": "normal"}),
    ("ninefold.console", {"detection": "settings", "sure": "5"}),
    ("ninefold.console", {"detection": "settings", "sure": "7"}),
    ("ninefold.console", {"detection": "undo", "move": "2", "scope": "settings"}),
    ("ninefold.console", {"detection": "undo", "move": "1", "scope": "series"}),
    ("ninefold", {"setting": "regression", "ninefold.key": "abc", "ninefold.change": "saved", "value": json.dumps(SPEC)}),
    ("webhook", {"detection": "sensitivity", "scope": "everything", "name": "", "word": "calm"}),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Telemetry]:
    made = Telemetry(f"chdb://{tmp_path / 'store'}")
    made.open()
    for number, (source, said) in enumerate(SAID):
        row = {"id": str(number), "time": now(), "kind": "setting", "attributes": said}
        made.append([batch_of("event", source, now(), [row])], str(number))
    yield made
    made.close()


def test_a_technique_that_starts_afresh_is_told_what_people_set(store: Telemetry, tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db", ("techniques",), 1 << 30, Meter())
    baseline, regressions = Baseline(), Regressions()
    runner = TechniqueRunner(journal, [baseline, regressions], lambda batch: [batch], Meter(), settings=lambda: in_force(store))
    runner.begin()
    assert baseline.steering.words == {("everything", ""): "normal", ("entity", "service:a"): "calm"}
    assert baseline.steering.settings["sure"] == 5, "the second was taken back; nobody else may set anything"
    assert regressions.told().keys() == {"abc"}
    runner.settle()
    told = []
    again = TechniqueRunner(journal, [Baseline(), Regressions()], lambda batch: [batch], Meter(), settings=lambda: told.append(1) or [])
    again.begin()
    assert told == [], "whoever has its state is told nothing"
    assert len(again.ask("baseline", lambda technique: technique.steering.moves)) == 1
    journal.close()
