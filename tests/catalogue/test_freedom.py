"""Freedom is arithmetic on what was measured, and every weakness has an advice."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from operating import Operation, lines

from ninefold.catalogue import advice
from ninefold.catalogue.freedom import Freedom, Load, freedom
from ninefold.ground.clock import SECOND
from ninefold.model.signal import Batch, batch_of


def measured(operation: Operation, source: str, kind: str, extraction: str, load: Load | None = None) -> Freedom:
    watch = operation.watch
    return freedom(source, kind, extraction, watch.streams(source), watch.models(source), watch.refused(source), watch.clock, load)


def gauge(source: str, at: int, behind_s: int = 1) -> Batch:
    return batch_of("metric", source, at, [{"series": 7, "time": at - behind_s * SECOND, "value": 1.0}])


def test_a_streaming_source_is_free(operation: Operation) -> None:
    operation.play(2, lambda at: [gauge("app", at), lines("app", at, 10)])
    found = measured(operation, "app", "otlp", "push")
    assert (found.types, found.programmatic, found.extraction) == (["log", "metric"], True, "push")
    assert (found.frequency_s, found.jitter) == (pytest.approx(15, rel=0.15), 1.0)
    assert found.delay_p50_s == pytest.approx(1, rel=0.2)
    assert (found.completeness, found.schema_changes) == (1.0, 0)
    assert found.score is not None
    assert found.score > 90
    assert [item["term"] for item in found.advice] == ["history"], "only two hours are known"


def test_the_score_is_the_sum_of_its_terms(operation: Operation) -> None:
    operation.play(6, lambda at: [gauge("export", at, 400)] if at // SECOND % 300 == 0 else [])
    found = measured(operation, "export", "sql", "poll", Load(120, 5e6))
    had = sum(term.points for term in found.terms if term.points is not None)
    most = sum(term.most for term in found.terms if term.points is not None)
    assert sum(term.most for term in found.terms) == 100
    assert found.score == pytest.approx(100 * had / most, abs=0.05)
    assert str(found.score) in found.arithmetic
    points = {term.name: term.points for term in found.terms}
    assert points["extraction"] == 9
    assert points["frequency"] == 6
    assert points["delay"] == 3
    assert points["load"] == 0
    told = {item["term"]: item["text"] for item in found.advice}
    assert "Debezium" in told["extraction"]
    assert "Debezium" in told["load"]
    assert "incremental" in told["frequency"]
    assert asdict(found)["terms"][0]["how"]


def test_missing_points_and_refused_records_are_gaps(operation: Operation) -> None:
    operation.play(4, lambda at: [gauge("app", at)] if at // SECOND // 15 % 10 else [])
    operation.watch.process(batch_of("quarantine", "app", operation.at, [{"id": "1", "signal": "metric"}]))
    found = measured(operation, "app", "remote_write", "push")
    assert found.completeness == pytest.approx(0.9, abs=0.01)
    assert "points missing" in next(term.measured for term in found.terms if term.name == "completeness")
    assert any("WAL" in item["text"] and "quarantine" in item["text"] for item in found.advice)


def test_what_people_hand_over_is_not_programmatic(operation: Operation) -> None:
    operation.play(0.1, lambda at: [lines("report", at, 3)] if at // SECOND % 120 == 0 else [])
    found = measured(operation, "report", "upload", "file")
    assert not found.programmatic
    assert any("/files on a schedule" in item["text"] for item in found.advice)


def test_nothing_measured_has_no_score(operation: Operation) -> None:
    assert measured(operation, "nobody", "", "push").score is None


def test_history_and_load_are_measured(operation: Operation) -> None:
    """The history is what the records themselves span, however short the source is known; the load is counted where it is asked."""
    days = 12 * 86400
    operation.play(0.5, lambda at: [gauge("old", at, days if at % (60 * SECOND) == 0 else 1)])
    found = measured(operation, "old", "kafka", "poll", Load(30, 120_000))
    terms = {term.name: term for term in found.terms}
    assert found.history_days == pytest.approx(12, abs=0.1)
    assert (terms["history"].points, terms["history"].measured) == (2.0, "12.0 days")
    assert (terms["load"].points, terms["load"].measured) == (3, "30 requests and 120 kB a minute")
    assert {item["term"]: item["text"] for item in found.advice}["history"] == "begin a new consumer group at the earliest offset"
    assert measured(operation, "old", "scrape", "poll").load is None, "nothing is made up before it is counted"


def test_an_advice_names_what_that_product_has() -> None:
    named = {
        ("snmp", "push", "completeness"): "informs", ("syslog", "push", "completeness"): "RFC 5425",
        ("zabbix", "push", "history"): "trend.get",
        ("jira", "poll", "extraction"): "webhook", ("remote_write", "push", "completeness"): "WAL", ("sql", "poll", "history"): "cursor",
        ("servicenow", "poll", "frequency"): "business rule", ("mqtt", "stream", "completeness"): "QoS 1",
    }  # fmt: skip
    for (kind, extraction, term), word in named.items():
        assert word in advice.advice(kind, extraction, term), (kind, term)


def test_every_term_has_an_advice(operation: Operation) -> None:
    terms = [term.name for term in measured(operation, "nobody", "", "push").terms]
    for kind in ("", "zabbix", "unheard-of"):
        for extraction in ("push", "poll", "file"):
            assert all(advice.advice(kind, extraction, term) for term in terms)
