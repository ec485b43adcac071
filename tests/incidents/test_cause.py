"""From an alert to its explained incident, through the real store: what the queries gather and what is written down."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from room import T0, Room, event

from ninefold.ground.clock import SECOND, iso, parse
from ninefold.incidents.cause import Case, explain
from ninefold.incidents.gather import Gather
from ninefold.model.entity import series_id
from ninefold.model.signal import batch_of
from ninefold.model.topology import Relation, Topology
from ninefold.store.telemetry import Telemetry

MINUTE = 60
CPU, REQUESTS = series_id("cpu", {"s": "cart"}), series_id("requests", {"s": "cart"})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    made = Telemetry(
        f"chdb://{tmp_path_factory.mktemp('cause')}/store", retention_days=dict.fromkeys(("metric", "log", "span", "event"), 9999)
    )
    made.open()
    fill(made)
    yield made
    made.close()


def fill(store: Telemetry) -> None:
    """web calls cart, whose pod reports CPU; from T0 on cart burns CPU, is slow and writes an error line."""
    rng = random.Random(5)
    spans: list[dict[str, Any]] = []
    logs: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    total = 0
    for minute in range(-40, 6):
        wrong = minute >= 0
        for n in range(12):
            at, trace = T0 + int((minute * MINUTE + n * 5) * SECOND), f"{minute + 100:016x}{n:016x}"
            own = int(rng.uniform(4e6, 6e6)) * (30 if wrong else 1)
            for span, parent, entity, name, duration in (
                ("a", "", "service:web", "GET /", own + 9_000_000), ("b", "a", "service:web", "call", own + 2_000_000),
                ("c", "b", "service:cart", "GET /cart", own),
            ):  # fmt: skip
                spans.append(
                    {"time": at, "trace_id": trace, "span_id": span * 16, "parent_span_id": parent * 16, "entity": entity, "name": name,
                     "kind": "server", "duration": duration, "status": "ok"}
                )  # fmt: skip
            line = {"time": at, "entity": "service:cart", "trace_id": trace, "span_id": "c" * 16}
            logs.append({**line, "body": f"cart {n} served", "pattern": 11, "severity_number": 9})
            if wrong:
                logs.append({**line, "body": f"lock {n} timed out", "pattern": 12, "severity_number": 17})
            total += 5
            metrics.append({"series": REQUESTS, "time": at, "value": float(total)})
        metrics.append({"series": CPU, "time": T0 + minute * MINUTE * SECOND, "value": rng.uniform(18, 22) * (4 if wrong else 1)})
    series = [
        {"series": CPU, "name": "cpu", "unit": "%", "kind": "gauge", "entity": "pod:shop/cart-1", "seen": T0},
        {"series": REQUESTS, "name": "requests", "unit": "", "kind": "counter", "entity": "service:cart", "seen": T0},
    ]
    rows = (("series", series), ("metric", metrics), ("span", spans), ("log", logs))
    store.append([batch_of(signal, "test", T0, some) for signal, some in rows], "once")


def explained(room: Room) -> dict[str, Any]:
    assert room.incidents.analyse_due() == 1
    return room.whole("INC-1")


def open_incident(room: Room) -> None:
    room.chain("web", "cart")
    room.feed({"from_entity": "service:cart", "to_entity": "pod:shop/cart-1", "kind": "runs_on", "time": T0})
    room.feed(event(-200, "service:cart", "cart v2", kind="deployment"))
    room.feed(event(90, "service:web", "web is slow"), event(95, "service:web", "web errors"), event(150, "service:cart", "cart is slow"))


def test_an_incident_is_explained_with_evidence_a_person_can_check(tmp_path: Path, store: Telemetry) -> None:
    room = Room(tmp_path, store)
    open_incident(room)
    found = explained(room)
    assert (found["verdict"], found["cause"]["entity"]) == ("determined", "service:cart")
    assert found["confidence"] > 0.7
    best = found["candidates"][0]
    texts = {item["kind"]: item["text"] for item in best["evidence"]}
    assert texts["metric"].startswith("cpu is "), "the pod's figures count for its service"
    assert "spends" in texts["span"]
    assert "error line written" in texts["log"]
    assert "lock <*> timed out" in texts["log"]
    assert texts["change"] == "changed 5 min before: cart v2"
    assert best["score"] == pytest.approx(sum(item["weight"] for item in best["evidence"]), abs=0.05)
    assert all(T0 - 200 * SECOND <= parse(item["time"]) <= T0 + 300 * SECOND for item in best["evidence"] if item["time"])
    assert found["patterns"][0] | {"count": 0} == {
        "pattern": "12", "template": "lock <*> timed out", "count": 0, "usual": 0.0, "severity": "high", "entity": "service:cart"
    }  # fmt: skip
    assert {"series": str(CPU), "title": "cpu", "unit": "%", "entity": "pod:shop/cart-1"} in found["charts"]
    assert room.told()[-1] == ("INC-1", "explained")
    assert any(line["kind"] == "cause" and "cart" in line["title"] for line in room.timeline("INC-1"))
    assert [item["detail"]["candidates"][0]["entity"] for item in room.why("INC-1") if item["step"] == "cause"] == ["service:cart"]
    assert {node["id"]: node["state"] for node in found["map"]["nodes"]}["service:cart"] == "cause"


def test_causes_wait_until_the_store_has_come_as_far(tmp_path: Path, store: Telemetry) -> None:
    room = Room(tmp_path, store)
    open_incident(room)
    room.stored = room.position - 1
    assert room.incidents.analyse_due() == 0
    room.stored = room.position
    assert room.incidents.analyse_due() == 1
    assert room.incidents.analyse_due() == 0, "nothing has changed since"


def test_an_incident_about_nothing_that_is_measured_is_undetermined(tmp_path: Path, store: Telemetry) -> None:
    room = Room(tmp_path, store)
    room.chain("x", "y")
    room.feed(event(90, "service:x", "a"), event(91, "service:y", "b"))
    found = explained(room)
    assert (found["verdict"], found["cause"], found["confidence"]) == ("undetermined", None, None)
    assert "only the alerts themselves are known" in found["reason"]
    assert {c["entity"] for c in found["candidates"]} == {"service:x", "service:y"}


def test_alerts_without_entity_have_nowhere_to_look(tmp_path: Path, store: Telemetry) -> None:
    room = Room(tmp_path, store)
    room.feed(event(90, "", "something", severity="critical"))
    assert "name no entity" in explained(room)["reason"]


def gather(store: Telemetry, **more: Any) -> Gather:
    start = T0 - 30 * SECOND
    return Gather(
        more.get("query", store.query), start, T0 + 150 * SECOND, more.get("busy", []), more.get("entities", []), more.get("homes", {})
    )


def test_counters_are_read_as_increases(store: Telemetry) -> None:
    rows = [row for row in gather(store).metrics().to_pylist() if row["name"] == "requests"]
    assert {row["value"] for row in rows} == {60.0}
    assert len(rows) > 20


def test_minutes_of_other_incidents_are_not_quiet(store: Telemetry) -> None:
    ahead, behind = T0 - 20 * MINUTE * SECOND, T0 - 5 * MINUTE * SECOND
    buckets = {row["bucket"] for row in gather(store, busy=[(ahead, behind)]).spans().to_pylist()}
    assert not buckets & set(range(-19, -5))
    assert min(buckets) < -20
    assert len(buckets & {0, 1, 2}) == 3
    everything = {row["bucket"] for row in gather(store, busy=[(0, T0)]).spans().to_pylist()}
    assert min(everything) < -20, "better a busy minute to compare with than none"


def test_a_pod_counts_for_its_service(store: Telemetry) -> None:
    entities = {row["entity"] for row in gather(store, homes={"pod:shop/cart-1": "service:cart"}).metrics().to_pylist()}
    assert entities == {"service:cart"}


def test_the_same_telemetry_gives_the_same_answer(store: Telemetry) -> None:
    asked: list[str] = []

    def gathered(seed: int) -> tuple[Any, ...]:
        def query(sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
            asked.append(sql)
            found = store.query(sql, parameters)
            order = list(range(found.num_rows))
            if "ORDER BY" not in sql:
                random.Random(seed).shuffle(order)  # as the store's threads happen to finish
            return found.take(order)

        found = gather(store, query=query)
        return found.spans().to_pylist(), found.logs(), found.metrics().to_pylist()

    first, second = gathered(1), gathered(2)
    assert (first[0], first[2]) == (second[0], second[2])
    assert first[1][0].to_pylist() == second[1][0].to_pylist()
    assert first[1][1] == second[1][1]
    assert any("min(body)" in sql and "lines DESC, pattern" in sql for sql in asked), "templates are mined in one order"


def test_other_components_are_left_out(store: Telemetry) -> None:
    topology = Topology([Relation("service:other", "service:thing")])
    case = Case(1, T0 + 90 * SECOND, T0 + 150 * SECOND, {"service:other": 1})
    found = explain(store.query, case, topology)
    assert found.verdict == "undetermined", "nothing was measured there"
    assert [c["entity"] for c in found.candidates] == ["service:other"]


def test_a_finding_says_until_when_it_looked(store: Telemetry) -> None:
    case = Case(1, T0 + 90 * SECOND, T0 + 3600 * SECOND, {"service:cart": 1})
    assert iso(explain(store.query, case, Topology()).until) == iso(case.start + 600 * SECOND)


def test_a_defect_in_one_analysis_is_said_and_passed_over(tmp_path: Path, store: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(tmp_path, store)
    open_incident(room)

    def breaks(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("ninefold.analytics.alerts.rootcause.rank", breaks)
    found = explained(room)
    assert (found["verdict"], found["reason"]) == ("undetermined", "the analysis failed (a defect); the log says where")
    assert room.incidents.analyse_due() == 0


def test_a_lone_high_alert_is_shown_when_the_telemetry_bears_it_out(tmp_path: Path, store: Telemetry) -> None:
    room = Room(tmp_path, store)
    room.chain("web", "cart")
    room.feed({"from_entity": "service:cart", "to_entity": "pod:shop/cart-1", "kind": "runs_on", "time": T0})
    room.chain("x", "y")
    room.feed(event(90, "service:web", "web is slow", severity="high"), event(90, "service:x", "x is slow", severity="high"))
    assert room.list() == []
    assert room.incidents.analyse_due() == 2
    assert [(i["id"], i["cause"]["entity"]) for i in room.list()] == [("INC-1", "service:cart")]
    assert room.told() == [("INC-1", "opened"), ("INC-1", "explained")]
    room.feed(event(100, "service:web", "web is slow", severity="high"))
    assert room.told()[-1] == ("INC-1", "updated"), "it stays shown"
