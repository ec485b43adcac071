"""Every figure of the roadmap is what a plain recount of the rows gives."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

import pytest

from ninefold import roadmap
from ninefold.ground.clock import SECOND
from ninefold.roadmap import automation, data_models, kpis, processes, records, skills, sources, techniques, use_cases, value
from ninefold.roadmap.answer import StepResult


def by_name(step: StepResult) -> dict[str, Any]:
    return {figure.name: figure.value for figure in step.figures}


def test_use_cases_are_ready_when_their_data_flows(history: Any) -> None:
    step = use_cases.measure(history.store, history.records)
    have = use_cases.present(history.store, history.records)
    figures = by_name(step)
    assert have["metrics"] == 6
    assert have["logs"] == 220
    assert have["changes"] == 4
    assert have["alerts"] == 45
    assert have["verdicts"] == 3
    for case in use_cases.USE_CASES:
        assert figures[case.name] == pytest.approx(100 * sum(need in have for need in case.needs) / len(case.needs))
    assert not step.missing
    # All nine kinds of data are there; of the five sources with a delay only one streams.
    assert step.score == pytest.approx(100 * (1 + 1 / 5) / 2)


def test_freedom_is_measured_per_source(history: Any) -> None:
    flows = {flow.name: flow for flow in sources.flowing(history.store)}
    assert list(flows) == ["alertmanager", "ci", "edge-gateway", "otel", "prometheus", "rt", "syslog"]
    assert flows["prometheus"].interval_s == 15
    assert flows["edge-gateway"].interval_s == 300
    syslog = [(row["received"] - row["time"]) / SECOND for row in history.rows["log"] if row["source"] == "syslog"]
    assert flows["syslog"].delay_s == pytest.approx(median(syslog), rel=1e-6)
    spans = [(row["received"] - row["time"]) / SECOND for row in history.rows["span"]]
    assert flows["otel"].delay_s == pytest.approx(median(spans), rel=1e-3)
    delays = [flow.delay_s for flow in flows.values() if flow.delay_s is not None]
    figures = {figure.name: figure.value for figure in sources.figures(list(flows.values()))}
    assert figures["Streaming sources"] == pytest.approx(100 * sum(d <= 10 for d in delays) / len(delays), abs=0.05)
    assert figures["Collection interval"] == pytest.approx(157.5)


def test_systems_of_record_and_their_conflicts(history: Any) -> None:
    step = records.measure(history.store, history.records)
    figures = by_name(step)
    assert [figures[f"System of record for {kind}s"] for kind in records.KINDS] == ["Ninefold", "rt", "ci", "prometheus"] or (
        figures["System of record for assets"] == "otel"
    )
    assert figures["Complete records"] == pytest.approx(100 * 5 / 6, abs=0.05)
    assert figures["Tickets that agree"] == 50.0
    named = {(row["source"], row["entity"]) for signal in ("series", "log", "span") for row in history.rows[signal] if row["entity"]}
    shared = Counter(entity for _, entity in named)
    assert figures["Assets known to several sources"] == pytest.approx(100 * sum(n > 1 for n in shared.values()) / len(shared))
    alerted = {row["entity"] for row in history.rows["event"] if row["kind"] == "alert"}
    assert figures["Alerts about known assets"] == pytest.approx(100 * len(alerted & set(shared)) / len(alerted))
    assert step.score == pytest.approx(75.0)


def test_kpis_are_the_definitions_they_print(history: Any) -> None:
    step = kpis.measure(history.store, history.records)
    figures = by_name(step)
    assert figures["Time to acknowledge"] == median([60, 120, 180])
    assert figures["Time to resolve"] == median([480, 720, 960, 1200])
    assert figures["Noise reduction"] == pytest.approx(100 * (45 - 5) / 45, abs=0.05)
    assert figures["Change failure rate"] == 25.0
    assert figures["Time to detect"] == median([20, 40])
    assert step.score == 100.0
    assert not step.missing


def test_data_models_count_fields_and_what_fits(history: Any) -> None:
    step = data_models.measure(history.store, history.records)
    figures = by_name(step)
    assert figures["Fields of prometheus"] == 3
    assert figures["Fields of otel"] == 2
    every = [
        row for signal in ("series", "log", "span", "event") for row in history.rows[signal] if not row["source"].startswith("ninefold")
    ]
    assert figures["Records that name an entity"] == pytest.approx(100 * sum(bool(r["entity"]) for r in every) / len(every), abs=0.05)
    assert figures["Log lines with a severity"] == pytest.approx(100 * 200 / 220, abs=0.05)
    kept = sum(len(history.rows[signal]) for signal in ("metric", "log", "span", "event"))
    assert figures["Quarantined"] == pytest.approx(100 * 3 / (3 + kept), abs=0.05)
    assert figures["Finest granularity"] == 15


def test_the_mined_graph_is_the_timelines(history: Any) -> None:
    found = processes.traces(history.records)
    waits = processes.follows(found.values())
    assert {edge: len(times) for edge, times in waits.items()} == {
        ("opened", "acknowledged"): 3, ("acknowledged", "workflow"): 2, ("workflow", "resolved"): 2, ("acknowledged", "resolved"): 1,
        ("opened", "resolved"): 1, ("resolved", "reopened"): 1,
    }  # fmt: skip
    assert waits["opened", "acknowledged"] == [60, 120, 180]
    figures = by_name(processes.measure(history.store, history.records))
    assert figures["Paths"] == len({tuple(kind for kind, _ in trace) for trace in found.values()}) == 4
    assert figures["opened → acknowledged"] == 3
    assert figures["Handling on record"] == 75.0
    assert figures["Reopened"] == 20.0
    slowest = max(waits, key=lambda edge: sum(waits[edge]))
    assert figures["Where time goes"] == median(waits[slowest])


def test_automation_counts_runs_and_what_they_touch(history: Any) -> None:
    step = automation.measure(history.store, history.records)
    figures = by_name(step)
    assert figures["Workflows"] == 1
    assert figures["Runs"] == 4
    assert figures["Success rate"] == pytest.approx(66.7)
    assert figures["Incidents touched"] == 60.0
    assert figures["Actions carried out"] == 2
    assert figures["Triggers considered"] == 5
    assert figures["Approvals asked"] == 3
    assert step.score == pytest.approx(100 * 3 / 5 * 2 / 3, abs=0.05)


def test_a_cause_that_comes_back_counts_against_the_workflow(history: Any) -> None:
    step = value.measure(history.store, history.records)
    assert by_name(step)["restart"] == pytest.approx(66.7)
    # Incidents 1 to 3 have the same cause, so both runs that succeeded were followed by another of them.
    assert step.missing[-1].text == "restart: 2 of 3 runs succeed and 2 causes came back."
    assert step.score == 0.0


def test_skills_are_verdicts_labels_and_people(history: Any) -> None:
    step = skills.measure(history.store, history.records)
    figures = by_name(step)
    assert figures["Verdicts given"] == 3
    assert figures["Not noise"] == pytest.approx(66.7)
    assert figures["Agreement on causes"] == 50.0
    assert figures["Causes that match the labels"] == 50.0
    assert figures["Approvals decided"] == 2
    assert figures["People taking part"] == 2
    assert step.score == 80.0


def test_techniques_are_counted_by_what_they_found(history: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(techniques, "registered", lambda: {"baseline": "ninefold", "queueing": "acme-analytics"})
    step = techniques.measure(history.store, history.records)
    figures = by_name(step)
    assert figures["Techniques registered"] == 2
    assert step.score == 50.0
    assert [gap.text for gap in step.missing] == ["queueing has put nothing out yet."]
    assert figures["baseline"] == 5
    assert figures["Log templates"] == 5
    assert figures["Topology edges"] == 2
    text = next(figure.text for figure in step.figures if figure.name == "baseline")
    # Two of the three alert states are in incidents people saw; the third is in a pending one.
    assert text == "5 anomaly events on 3 entities; 2 of 5 distinct findings belong to an incident shown."


def test_every_figure_explains_itself(history: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(techniques, "registered", lambda: {"baseline": "ninefold"})
    for step in roadmap.measure(history.store, history.records):
        assert step.score is not None, step.title
        assert 0 <= step.score <= 100
        assert step.how.endswith("."), step.title
        for figure in step.figures:
            assert figure.text.endswith("."), figure
            assert figure.how.endswith("."), figure
