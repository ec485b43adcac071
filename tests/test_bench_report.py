"""The report of the benchmarks says plainly what was missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench import all as report


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
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    row = {"name": "size", "value": 3, "unit": "MB", "target": None, "peer": None, "ratio": None}
    monkeypatch.setattr(report, "measure", lambda name: ([{**row, "name": f"{name} size"}], ""))
    assert report.main(["store", "logs"]) == 0
    monkeypatch.setattr(report, "measure", lambda name: ([], "no disk"))
    assert report.main(["logs"]) == 1
    text = report.RESULTS.read_text()
    assert "store size" in text
    assert "Not measured: no disk" in text
    assert "logs size" not in text
    assert text.index("<!-- logs -->") < text.index("<!-- store -->")
