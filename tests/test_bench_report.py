"""The report of the benchmarks says plainly what was missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import all as report
from bench import evaluate


@pytest.mark.parametrize(
    ("row", "missed"),
    [
        ({"value": 9, "target": 10}, True),
        ({"value": 10, "target": 10}, False),
        ({"value": 460.0, "target": 450, "lower": True}, True),
        ({"value": 440.0, "target": 450, "lower": True}, False),
        ({"value": 0.4, "target": "≤ 0.5"}, False),
        ({"value": 900_000, "target": "≥ 1,000,000"}, True),
        ({"value": 1, "target": None}, False),
        ({"value": 1, "target": ""}, False),
    ],
)
def test_a_missed_target_is_told_from_a_met_one(row: dict[str, Any], missed: bool) -> None:
    assert report.missed(row) is missed


def test_a_table_names_what_was_missed_and_why() -> None:
    rows = [
        {"name": "decode", "value": 1_234_567.8, "unit": "samples/s", "target": 1_000_000, "peer": 191_000.0, "ratio": 6.464},
        {
            "name": "memory",
            "value": 500,
            "unit": "MB",
            "target": 450,
            "peer": None,
            "ratio": None,
            "lower": True,
            "note": "the engine's caches",
        },
    ]
    lines = report.table(rows).splitlines()
    assert lines[2] == "| decode | 1,234,568 | samples/s | 1,000,000 | met | 191,000 | 6.464 |"
    assert "**missed**" in lines[3]
    assert lines[-1] == "- memory: the engine's caches"


def test_what_was_not_measured_now_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = report.BENCH._replace(results=tmp_path / "RESULTS.md")
    row = {"name": "size", "value": 3, "unit": "MB", "target": None, "peer": None, "ratio": None}
    monkeypatch.setattr(report, "measure", lambda folder, name: ([{**row, "name": f"{name} size"}], ""))
    assert report.publish(here, ["store", "logs"]) == 0
    monkeypatch.setattr(report, "measure", lambda folder, name: ([], "no disk"))
    assert report.publish(here, ["logs"]) == 1
    text = here.results.read_text()
    assert "store size" in text
    assert "Not measured: no disk" in text
    assert "logs size" not in text
    assert text.index("<!-- logs -->") < text.index("<!-- store -->")


def test_every_evaluation_is_a_part_with_a_title(tmp_path: Path) -> None:
    (tmp_path / "weather.py").write_text('"""Forecasts of rain: how often it rained when it was said to."""\n')
    (tmp_path / "__init__.py").write_text("")
    assert evaluate.parts(tmp_path) == {"weather": "Forecasts of rain"}
    assert {"detection", "correlation", "root_cause"} <= evaluate.EVALUATIONS.titles.keys()


def test_a_module_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    row = {"name": "size", "value": 3.0}
    (tmp_path / "good.py").write_text(f"from bench.data import DATA\ndef run(): return [{row!r}]\n")
    (tmp_path / "bad.py").write_text("def run(): raise SystemExit('no data')\n")
    assert report.measure(tmp_path, "good") == ([row], "")
    assert report.measure(tmp_path, "bad") == ([], "no data")
