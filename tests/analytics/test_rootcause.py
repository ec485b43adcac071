"""Root cause on made-up systems whose culprit is known, and, marked slow, on real recorded faults."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics.alerts.deviation import calibrated, deviation, medians, surprise
from ninefold.analytics.alerts.evidence import LOGS, METRICS
from ninefold.analytics.alerts.invocations import SPANS, Evidence, Invocations
from ninefold.analytics.alerts.rootcause import Changed, Ranking, _candidates, rank

CHAIN = ("service:web", "service:cart", "service:db")
BUCKETS = [*range(-12, 0), 0, 1, 2]
NOTHING = {"metrics": METRICS.empty_table(), "spans": SPANS.empty_table(), "logs": LOGS.empty_table()}


class System:
    """web calls cart calls db, 20 requests a minute; what is wrong is said per entity, for the incident's minutes."""

    def __init__(
        self, slow: str = "", lossy: str = "", failing: str = "", silent: str = "", hot: str = "", seed: int = 1, quiet: bool = True,
        clients: bool = True,
    ) -> None:  # fmt: skip
        rng = random.Random(seed)
        self.spans: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        number = 0
        for bucket in BUCKETS if quiet else [0, 1, 2]:
            wrong = bucket >= 0
            for place, entity in enumerate(CHAIN):
                for k, (name, usual) in enumerate((("cpu", 20.0), ("latency", 0.1))):
                    value = usual * rng.uniform(0.9, 1.1) * (6 if wrong and hot == entity and name == "cpu" else 1)
                    unit = "%" if name == "cpu" else "s"
                    self.metrics.append(
                        {"series": place * 10 + k + 1, "entity": entity, "name": name, "unit": unit, "bucket": bucket, "value": value}
                    )
            for _ in range(20):
                took: dict[str, tuple[float, float]] = {}
                way = 0.0
                for entity in reversed(CHAIN):
                    way += rng.uniform(4e6, 6e6) * (20 if wrong and slow == entity else 1)
                    server = way
                    way += rng.uniform(1e6, 2e6) * (100 if wrong and lossy == entity else 1)
                    took[entity] = server, way
                above = 0
                for caller, entity in zip(("", *CHAIN), CHAIN, strict=False):
                    server, client = took[entity]
                    row = {"name": "serve", "bucket": bucket, "error": wrong and failing == entity}
                    if caller and clients:
                        number += 1
                        self.spans.append({**row, "id": number, "parent": above, "entity": caller, "name": "call", "duration": int(client)})
                        above = number
                    number += 1
                    self.spans.append({**row, "id": number, "parent": above, "entity": entity, "duration": int(server)})
                    above = number
                    line = {"entity": entity, "span": number, "bucket": bucket, "count": 1}
                    if not (wrong and silent == entity):
                        self.logs.append({**line, "pattern": 7, "severity": 9})
                    if row["error"]:
                        self.logs.append({**line, "pattern": 8, "severity": 17})

    def rank(self, **more: Any) -> Ranking:
        tables = [pa.Table.from_pylist(rows, schema) for rows, schema in ((self.metrics, METRICS), (self.spans, SPANS), (self.logs, LOGS))]
        return rank(*tables, texts={7: "request served", 8: "cannot reach <*>"}, **more)


def leading(ranking: Ranking) -> str:
    return ranking.candidates[0].items[0].text


def test_a_service_that_is_slow_by_itself() -> None:
    found = System(slow="service:cart").rank()
    assert (found.verdict, found.candidates[0].entity, found.candidates[0].kind) == ("determined", "service:cart", "slow")
    assert "serve spends" in leading(found)
    assert "usually" in leading(found)


def test_without_client_spans_a_slow_service_is_still_found() -> None:
    found = System(slow="service:cart", clients=False).rank()
    assert (found.candidates[0].entity, found.candidates[0].kind) == ("service:cart", "slow")


def test_a_slow_network_is_told_from_a_slow_service() -> None:
    found = System(lossy="service:db").rank()
    assert (found.candidates[0].entity, found.candidates[0].kind) == ("service:db", "network")
    assert leading(found).startswith("calls from service:cart to service:db lose 1")


def test_errors_are_blamed_on_the_end_of_the_chain() -> None:
    """All three fail; only what nobody further down explains is the cause."""
    system = System(failing="service:db")
    for row in system.spans:
        row["error"] = row["bucket"] >= 0
    found = system.rank()
    assert found.candidates[0].entity == "service:db"
    assert any(
        item.kind == "graph" and item.weight < 0 and "db" in item.text
        for c in found.candidates
        for item in c.items
        if c.entity != "service:db"
    )
    assert sum(1 for item in found.candidates[0].items if item.source in ("errors", "failures")) == 1, "one symptom counts once"


def test_lines_that_are_no_longer_written() -> None:
    found = System(silent="service:cart").rank()
    assert found.candidates[0].entity == "service:cart"
    assert leading(found).startswith("line written 0 times, usually 60: request served")
    assert found.surges[0].usual == 60


def test_a_resource_that_is_used_up() -> None:
    found = System(hot="service:web").rank()
    assert (found.candidates[0].entity, found.candidates[0].kind) == ("service:web", "cpu")
    assert found.candidates[0].items[0].series == 1


def test_every_term_is_visible_and_adds_up() -> None:
    found = System(slow="service:cart", hot="service:cart").rank(
        changes=[Changed("service:cart", 300, "cart v2", 1)], alerts={"service:web": 3, "service:cart": 1}
    )
    for candidate in found.candidates:
        assert candidate.score == pytest.approx(sum(item.weight for item in candidate.items))
    kinds = {item.kind for item in found.candidates[0].items}
    assert {"span", "metric", "change", "alert"} <= kinds
    assert all(0 <= c.confidence <= 1 for c in found.candidates)
    assert sum(c.confidence for c in found.candidates) <= 1.001


def test_a_fresh_change_counts_more_than_an_old_one() -> None:
    def weight(ago_s: float) -> float:
        found = System(slow="service:cart").rank(changes=[Changed("service:cart", ago_s, "v2", 1)])
        return next(item.weight for item in found.candidates[0].items if item.kind == "change")

    assert weight(60) > 2 * weight(900) > 0


def test_nothing_wrong_is_undetermined() -> None:
    found = System().rank(alerts={"service:web": 2, "service:cart": 1})
    assert found.verdict == "undetermined"
    assert "no entity deviates from its quiet minutes" in found.reason


def test_without_quiet_minutes_nothing_is_claimed() -> None:
    found = System(slow="service:cart", quiet=False).rank(alerts={"service:web": 2, "service:cart": 1})
    assert found.verdict == "undetermined"
    assert "no telemetry from before" in found.reason


def test_alerts_alone_determine_nothing() -> None:
    alone = rank(**NOTHING, alerts={"host:a": 2})
    assert (alone.verdict, alone.candidates[0].entity) == ("undetermined", "host:a")
    changes = [Changed("host:b", 60, "rolled out", 1), Changed("host:a", 120, "rebooted", 1)]
    changed = rank(**NOTHING, alerts={"host:a": 2}, changes=changes)
    assert changed.verdict == "undetermined"
    assert changed.reason.endswith("only the alerts themselves are known; a changed 2 min before: rebooted"), "no more than a suggestion"
    both = rank(**NOTHING, alerts={"host:a": 2, "host:b": 2})
    assert (both.verdict, len(both.candidates)) == ("undetermined", 2)
    assert rank(**NOTHING).candidates == []


@pytest.mark.parametrize("order", [("service:b", "service:c"), ("service:c", "service:b")])
def test_of_equal_culprits_the_same_is_blamed_every_time(order: tuple[str, str]) -> None:
    evidence = Evidence({"service:a": 2.0, "service:b": 2.0, "service:c": 2.0})
    graph: Any = {"service:a": order}  # a set in either order
    found = {c.entity: c.items for c in _candidates({"failures": evidence}, graph, set(), (), {}, {})}
    assert [item.text for item in found["service:a"] if item.kind == "graph"] == ["b, which it needs, explains part of this"]


def test_two_equally_good_candidates_are_at_best_even() -> None:
    system = System(hot="service:web")
    for row in system.metrics:
        if row["entity"] == "service:db" and row["name"] == "cpu":
            row["value"] = next(
                o["value"] for o in system.metrics if o["entity"] == "service:web" and o["name"] == "cpu" and o["bucket"] == row["bucket"]
            )
    assert all(candidate.confidence <= 0.55 for candidate in system.rank().candidates)


def test_broken_traces_do_no_harm() -> None:
    """Parents that are missing, point at themselves or in a circle."""
    rows = [
        {"id": i + 1, "parent": parent, "entity": f"service:{i % 3}", "name": "x", "bucket": bucket, "duration": 5, "error": False}
        for bucket in range(-3, 3)
        for i, parent in enumerate((1, 3, 2, 999, 0))
    ]
    traced = Invocations(pa.Table.from_pylist(rows, SPANS))
    assert traced.usable() is False
    assert traced.entry.sum() > 0
    assert rank(METRICS.empty_table(), pa.Table.from_pylist(rows * 10, SPANS), LOGS.empty_table()).verdict == "undetermined"


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    system = System(lossy="service:db", seed=3)
    expected = system.rank()
    rng = random.Random(seed)
    for rows in (system.spans, system.logs, system.metrics):
        rng.shuffle(rows)
    found = system.rank()
    assert [(c.entity, round(c.score, 9)) for c in found.candidates] == [(c.entity, round(c.score, 9)) for c in expected.candidates]


def test_deviation_is_robust_and_has_a_floor() -> None:
    quiet = np.array([True] * 6 + [False])
    z, base = deviation(np.array([[10, 10, 10, 10, 10, 1e6, 13.0], [5.0] * 7]), quiet, 0.1, 1.0)
    assert base[:, 0].tolist() == [10, 5]
    assert z[0, 6] == pytest.approx(3.0), "one wild quiet value does not hide what comes"
    assert z[1].tolist() == [0.0] * 7


def test_counts_that_are_exact_need_few_misses_and_bursty_ones_many() -> None:
    quiet = np.array([True] * 8 + [False])
    exposure = np.full((2, 9), 20.0)
    exact, bursty = [20] * 8 + [12], [5, 40, 12, 33, 3, 25, 38, 8, 12]
    z, expected = surprise(np.array([exact, bursty], float), exposure, quiet)
    assert z[0, 8] < -3
    assert abs(z[1, 8]) < 1
    assert expected[0, 8] == 20


def test_what_is_usual_is_no_evidence() -> None:
    buckets = np.array([*range(-8, 0), 1, 2])
    noisy = np.array([[3.0, 0, 3, 3, 0, 3, 3, 3, 3, 3]])
    calm = np.array([[0.0] * 8 + [3, 3]])
    assert calibrated(noisy, buckets)[0] == 0
    assert calibrated(calm, buckets)[0] == 3


def test_medians_by_key_and_bucket() -> None:
    found = medians(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), np.array([1.0, 3.0, 5.0, 7.0]), (2, 2))
    assert found[0, 0] == 2
    assert np.isnan(found[[0, 1, 1], [1, 0, 1]]).all(), "one value is no median"


def bench(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "bench" / "evaluations" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_real_faults_are_found(data: Path) -> None:
    """The eight TrainTicket faults of 30 January: far above the simple baseline, and right when it claims to be."""
    asked = bench("root_cause").ask(data / "rca" / "nezha_trainticket_0130", "TrainTicket")
    ranks = [one.rank for one in asked]
    assert sum(rank == 1 for rank in ranks) >= 6
    assert sum(0 < rank <= 3 for rank in ranks) >= 7
    assert sum(one.nsigma == 1 for one in asked) <= 2
