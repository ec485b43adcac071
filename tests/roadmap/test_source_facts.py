"""The roadmap's figures of freedom and data models are those the source watch has measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ninefold.catalogue.freedom import freedom
from ninefold.roadmap import data_models, sources
from ninefold.store.records.base import Base, Records
from ninefold.store.records.sources import SourceFacts


def fact(source: str, score: float | None, *models: tuple[str, int, int], **more: Any) -> SourceFacts:
    found = {
        "source": source, "score": score, "arithmetic": f"sums to {score}", "types": ["metric"], "completeness": 1.0,
        "advice": [{"term": "delay", "lost": "9", "text": "send each record when it happens"}] if score and score < 90 else [],
        "models": [{"signal": "log", "type": kind, "version": version, "fields": fields, "named": []} for kind, version, fields in models],
        **more,
    }  # fmt: skip
    return SourceFacts(source=source, facts=found)


@pytest.fixture
def known(tmp_path: Path) -> dict[str, dict[str, Any]]:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(records.engine)
    with records.session() as session:
        session.add_all([
            fact("app", 95.0, ("", 1, 12)), fact("export", 40.0, ("", 3, 8), ("alert x", 0, 4), completeness=0.9), fact("new", None),
        ])  # fmt: skip
    found = sources.facts(records)
    records.close()
    return found


def test_freedom(known: dict[str, dict[str, Any]]) -> None:
    assert sources.free(known) == pytest.approx(0.675)
    assert sources.free({}) is None
    first, least, most = sources.freedoms(known)
    assert (first.name, first.value) == ("Freedom of the data", 67.5)
    assert (least.name, least.value, least.how) == ("Freedom of export", 40.0, "sums to 40.0")
    assert "send each record when it happens" in least.text
    assert most.text == "Nothing has to be changed there."
    (gap,) = sources.unfree(known)
    assert gap.text == "The data of export is not free: 40 of 100."
    assert sources.freedoms({}) == []


def test_data_models(known: dict[str, dict[str, Any]]) -> None:
    discovered, stable = data_models._discovered(known)
    assert (discovered.value, stable.value) == (66.7, 50.0)
    assert discovered.text == "2 of 3 types of records of 3 sources have a settled model, with 20 fields."
    assert stable.text == "Changed since they settled: export (log, version 3)."
    assert data_models._discovered({}) == []


def test_the_facts_have_what_the_roadmap_reads() -> None:
    """Names are shared by agreement between the steward and the roadmap."""
    fields = set(type(freedom("x", "", "push", [], [], 0, 0)).__dataclass_fields__)
    assert {"source", "score", "arithmetic", "types", "completeness", "advice"} <= fields
