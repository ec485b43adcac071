"""Topology and RED series from spans: exact against a plain recount, in whatever order and pieces the spans arrive."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics import warm
from ninefold.analytics.minutes import Minutes
from ninefold.analytics.traces.spans import NAME_LIMIT, Spans
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.entity import series_id
from ninefold.model.signal import Batch, batch_of

START = 1_700_000_000 * SECOND // MINUTE * MINUTE
MS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm.warm()


def span(
    number: int, parent: int, entity: str, at: int = START, ms: float = 10, name: str = "work", kind: str = "server", **more: Any
) -> dict[str, Any]:
    return {
        "time": at, "entity": f"service:{entity}" if entity else "", "trace_id": f"{7:032x}", "span_id": f"{number:016x}",
        "parent_span_id": f"{parent:016x}" if parent else "", "name": name, "kind": kind, "duration": int(ms * MS), "status": "unset",
        **more,
    }  # fmt: skip


def batch(rows: Sequence[Mapping[str, Any]], received: int = 0) -> Batch:
    return batch_of("span", "test", received or max(row["time"] for row in rows), rows)


def clock(at: int) -> Batch:
    return batch_of("metric", "test", at, [{"series": 1, "time": at, "value": 0.0}])


def rows_of(outputs: Sequence[Batch], signal: str) -> list[dict[str, Any]]:
    found = [row for output in outputs if output.signal == signal for row in output.rows.to_pylist(maps_as_pydicts="lossy")]
    return sorted(found, key=repr)


def calls(outputs: Sequence[Batch]) -> list[tuple[str, str]]:
    return [(row["from_entity"], row["to_entity"]) for row in rows_of(outputs, "relation")]


SHOP_CALLS_DB = ("service:shop", "service:db")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["parent first", "child first"])
@pytest.mark.parametrize("together", [True, False])
def test_a_child_in_another_entity_is_a_call(order: tuple[int, int], together: bool) -> None:
    pair = [span(1, 0, "shop", kind="client"), span(2, 1, "db")]
    rows = [pair[i] for i in order]
    technique = Spans()
    batches = [batch(rows)] if together else [batch([row]) for row in rows]
    assert calls([output for one in batches for output in technique.process(one)]) == [SHOP_CALLS_DB]


def test_calls_within_an_entity_or_without_one_are_none() -> None:
    rows = [span(1, 0, "shop"), span(2, 1, "shop"), span(3, 1, ""), span(4, 3, "db"), span(5, 99, "db")]
    assert calls(Spans().process(batch(rows))) == []


def test_one_parent_waits_for_all_its_children() -> None:
    technique = Spans()
    technique.process(batch([span(i, 1, f"part{i}") for i in range(2, 6)]))
    assert len(calls(technique.process(batch([span(1, 0, "shop")])))) == 4


def test_a_call_is_told_again_after_five_minutes_of_event_time() -> None:
    technique, times = Spans(), []
    for minute in range(12):
        at = START + minute * MINUTE
        outputs = technique.process(batch([span(10 * minute + 1, 0, "shop", at), span(10 * minute + 2, 10 * minute + 1, "db", at)]))
        times += [row["time"].value for row in rows_of(outputs, "relation")]
    assert times == [START, START + 5 * MINUTE, START + 10 * MINUTE]


@pytest.mark.parametrize(
    ("attributes", "callee"),
    [
        ({"peer.service": "bank", "server.address": "10.0.0.1"}, "service:bank"),
        ({"server.address": "api.bank.example:443"}, "service:api.bank.example"),
        ({"server.address": "db.prod.svc.cluster.local"}, "service:db"),
        ({"db.system": "postgresql", "server.address": "10.0.0.1"}, "service:postgresql"),
        ({"db.system.name": "postgresql", "server.address": "orders-db"}, "service:orders-db"),
        ({"server.address": "known"}, "service:eu/known"),
        ({"server.address": "10.0.0.1"}, None),
        ({"net.peer.name": "localhost"}, None),
        ({"messaging.system": "kafka"}, "service:kafka"),
        ({"http.method": "GET"}, None),
    ],
)
def test_a_client_span_names_its_peer(attributes: dict[str, str], callee: str | None) -> None:
    technique = Spans()
    technique.process(batch([span(9, 0, "eu/known")]))
    rows = [span(1, 0, "shop", kind="client", attributes=attributes), span(2, 0, "idle", kind="server", attributes=attributes)]
    assert calls(technique.process(batch(rows))) == ([("service:shop", callee)] if callee else [])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_short_name_means_who_bears_it_from_when_that_is_heard(size: int) -> None:
    known: dict[str, Any] = {"kind": "client", "attributes": {"server.address": "known"}}
    rows = [span(1, 0, "shop", **known), span(2, 0, "eu/known"), span(3, 0, "desk", **known)]
    technique = Spans()
    outputs = [output for first in range(0, 3, size) for output in technique.process(batch(rows[first : first + size], START))]
    assert set(calls(outputs)) == {("service:shop", "service:known"), ("service:desk", "service:eu/known")}


@pytest.mark.parametrize("size", [1, 7])
def test_what_is_forgotten_does_not_depend_on_how_batches_are_cut(size: int) -> None:
    rows = []
    for hour in range(60):
        at = START + hour * 60 * MINUTE
        rows += [span(10 * hour + 1, 0, "shop", at, kind="client"), span(10 * hour + 2, 10 * hour + 1, "db", at)]
        rows += [span(10 * hour + 3, 0, "night", at, name="work")] if hour in (0, 49) else []
    found = []
    for step in (len(rows), size):
        technique, outputs = Spans(), []
        for first in range(0, len(rows), step):
            outputs += technique.process(batch(rows[first : first + step], START + 90 * 60 * MINUTE))
        found.append([rows_of(outputs, signal) for signal in ("series", "metric", "relation")])
    assert found[0] == found[1]


def recount(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], float]:
    """The RED series by the definition: (series, minute) -> value."""
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["entity"], row["name"], row["time"] // MINUTE].append(row)
    found = {}
    for (entity, name, minute), some in groups.items():
        durations = sorted(row["duration"] for row in some)
        values = {
            "calls": len(some),
            "errors": sum(row["status"] == "error" for row in some),
            "duration.p95": durations[math.ceil(0.95 * len(some)) - 1] / MS,
            "duration.mean": sum(durations) / len(some) / MS,
        }
        for measure, value in values.items():
            series = series_id(f"ninefold.span.{measure}", {"ninefold.entity": entity, "span.name": name})
            found[series, minute * MINUTE] = value
    return found


SPANS = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from("abc"), st.sampled_from(["get", "put"]), st.integers(0, 10**9), st.booleans()),
    min_size=1, max_size=80,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(SPANS, st.integers(1, 30), st.booleans())
def test_red_series_are_those_of_a_plain_recount(drawn: list[Any], size: int, restart: bool) -> None:
    rows = [
        span(i + 1, i // 3, entity, START + minute * MINUTE + i, name=name, status="error" if bad else "ok") | {"duration": duration}
        for i, (minute, entity, name, duration, bad) in enumerate(sorted(drawn, key=lambda one: one[0]))
    ]
    received = START + 60 * MINUTE
    technique, outputs = Spans(), []
    for i in range(0, len(rows), size):
        outputs += technique.process(batch(rows[i : i + size], received))
        if restart:
            state, technique = technique.snapshot(), Spans()
            technique.restore(state)
    outputs += technique.process(clock(received + 5 * MINUTE))
    whole = Spans()
    at_once = whole.process(batch(rows, received)) + whole.process(clock(received + 5 * MINUTE))
    gap = {row["series"] for row in rows_of(at_once, "series") if "gap" in row["name"]}
    found = {(row["series"], row["time"].value): row["value"] for row in rows_of(outputs, "metric") if row["series"] not in gap}
    assert found == pytest.approx(recount(rows))
    for signal in ("metric", "series", "relation"):
        assert rows_of(outputs, signal) == rows_of(at_once, signal)


def test_a_minute_is_told_once_and_spans_after_that_are_left_out() -> None:
    technique = Spans()
    first = technique.process(batch([span(1, 0, "shop")]))
    late = technique.process(batch([span(2, 0, "shop", START + 119 * SECOND)]))
    still = technique.process(batch([span(3, 0, "shop", START + 1)], START + 119 * SECOND))
    closing = technique.process(batch([span(4, 0, "shop", START + 120 * SECOND)]))
    after = technique.process(batch([span(5, 0, "shop", START + 2)], START + 121 * SECOND))
    assert [rows_of(outputs, "metric") for outputs in (first, late, still, after)] == [[], [], [], []]
    series = series_id("ninefold.span.calls", {"ninefold.entity": "service:shop", "span.name": "work"})
    assert [row["value"] for row in rows_of(closing, "metric") if row["series"] == series] == [2.0]


def test_a_sender_with_a_wrong_clock_does_not_close_the_minutes_of_others() -> None:
    technique = Spans()
    technique.process(batch([span(1, 0, "ahead", START + 3600 * SECOND)], START))
    minutes, first_open = Minutes(own=START).admit(np.array([START + 3600 * SECOND, START]), START + SECOND)
    assert minutes[1] >= first_open[1]
    outputs = technique.process(batch([span(2, 0, "shop", START)], START)) + technique.process(clock(START + 10 * MINUTE))
    assert any(row["entity"] == "service:shop" for row in rows_of(outputs, "series"))


def test_the_time_between_client_and_server_is_the_callees_series() -> None:
    rows = []
    for i, gap in enumerate((3, 5, 2000), 1):
        rows += [span(10 * i, 0, "shop", ms=20 + gap, kind="client"), span(10 * i + 1, 10 * i, "db", ms=20)]
    technique = Spans()
    technique.process(batch(rows))
    outputs = technique.process(clock(START + 10 * MINUTE))
    series = series_id("ninefold.span.gap.p50", {"ninefold.entity": "service:db"})
    assert [row["value"] for row in rows_of(outputs, "metric") if row["series"] == series] == [5.0]


def test_names_without_end_are_counted_together() -> None:
    technique = Spans()
    technique.process(batch([span(i, 0, "shop", name=f"GET /user/{i}") for i in range(1, NAME_LIMIT + 51)]))
    outputs = technique.process(clock(START + 10 * MINUTE))
    names = {row["attributes"]["span.name"] for row in rows_of(outputs, "series")}
    assert len(names) == NAME_LIMIT + 1
    other = series_id("ninefold.span.calls", {"ninefold.entity": "service:shop", "span.name": "(other)"})
    assert [row["value"] for row in rows_of(outputs, "metric") if row["series"] == other] == [50.0]


def test_the_calls_of_a_real_application_are_found(data: Path) -> None:
    frame = pd.read_parquet(data / "rca" / "nezha_trainticket_0130" / "traces.parquet")
    frame["service"] = frame.pod.str.rsplit("-", n=2).str[0]
    key = ["trace_no", "span_no"]
    joined = frame.merge(frame, left_on=["trace_no", "parent_no"], right_on=key, suffixes=("", "_parent"))
    across = joined[joined.service != joined.service_parent]
    truth = {(f"service:{a}", f"service:{b}") for a, b in zip(across.service_parent, across.service, strict=True)}
    frame = frame.sort_values(["window", "pod", "start_us"])
    technique, found = Spans(), set()
    for _, some in frame.groupby("window"):
        rows = [
            span(r.span_no + 1, r.parent_no + 1 if r.parent_no >= 0 else 0, r.service, r.start_us * 1000, r.duration_us / 1000, r.operation)
            | {"trace_id": f"{r.trace_no:032x}"}
            for r in some.itertuples()
        ]
        for i in range(0, len(rows), 2000):
            found |= set(calls(technique.process(batch(rows[i : i + 2000]))))
    assert found == truth


def test_history_played_beside_live_metrics_is_counted_minute_by_minute() -> None:
    technique, outputs = Spans(), []
    for minute in range(10):  # an hour behind, while the program's own metrics are of now
        time, received = START + minute * MINUTE, START + 60 * MINUTE + minute * SECOND
        span = {
            "time": time,
            "entity": "service:a",
            "trace_id": f"{minute:032x}",
            "span_id": f"{minute:016x}",
            "name": "GET",
            "duration": 5,
        }
        outputs += technique.process(batch([span], received)) + technique.process(clock(received))
    counted = {row["time"].value // MINUTE for row in rows_of(outputs, "metric")}
    assert counted == {START // MINUTE + minute for minute in range(8)}
    outputs = technique.process(clock(START + 70 * MINUTE))  # nothing more comes: the last minutes are over too
    assert {row["time"].value // MINUTE for row in rows_of(outputs, "metric")} == {START // MINUTE + 8, START // MINUTE + 9}


def test_who_is_not_heard_for_a_day_is_forgotten_and_described_anew() -> None:
    technique = Spans()
    first_day = [span(10 * pod + 1, 0, f"pod-{pod}", name=f"work {pod}") for pod in range(50)]
    outputs = technique.process(batch([*first_day, span(1001, 0, "shop", kind="client"), span(1002, 1001, "db")]))
    outputs += technique.process(clock(START + 10 * MINUTE))
    told = {row["series"] for row in rows_of(outputs, "series")}
    for hour in range(1, 49):
        at = START + hour * 60 * MINUTE
        rows = [span(2 * hour + 2001, 0, "shop", at, kind="client"), span(2 * hour + 2002, 2 * hour + 2001, "db", at)]
        technique.process(batch(rows))
    assert sorted(technique._entities.names) == ["", "service:db", "service:shop"]
    assert len(technique._groups) == len(technique._pairs) == 2
    assert {kind for kind, _ in technique._told} == {"", "gap"}
    state, again = technique.snapshot(), Spans()
    again.restore(state)
    assert again.snapshot() == state
    at = START + 49 * 60 * MINUTE
    rows = [span(5001, 0, "pod-7", at, name="work 7"), span(5002, 0, "shop", at, 5, kind="client"), span(5003, 5002, "db", at, 3)]
    for one in (technique, again):
        outputs = [*one.process(batch(rows)), *one.process(clock(at + 10 * MINUTE))]
        assert calls(outputs) == [SHOP_CALLS_DB]
        assert {row["entity"] for row in rows_of(outputs, "series")} == {"service:pod-7"}, "the others are known"
        assert {row["series"] for row in rows_of(outputs, "series")} < told
        values = {row["series"]: row["value"] for row in rows_of(outputs, "metric")}
        expected = recount(rows)
        assert {series: values[series] for series, _ in expected} == {series: value for (series, _), value in expected.items()}
    silent = START + 75 * 60 * MINUTE
    again.process(batch([span(6001, 0, "shop", silent)]))
    assert rows_of(again.process(clock(silent + 10 * MINUTE)), "series"), "after a day of silence others may have forgotten them"
