"""What changed in operations: latencies, kinds of errors, critical paths; the same however spans are cut, ordered or interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ninefold.analytics import warm
from ninefold.analytics.traces import shifts
from ninefold.analytics.traces.critical import KEPT, CriticalPaths, paths_of
from ninefold.analytics.traces.operations import LIMIT, NAME_LIMIT, Operations
from ninefold.ground.clock import MINUTE, SECOND, iso
from ninefold.model.signal import Batch, batch_of

START = 1_700_000_040 * SECOND
MS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm.warm()


def span(minute: int, number: int, ms: float, entity: str = "shop", name: str = "GET", **more: Any) -> dict[str, Any]:
    at = START + minute * MINUTE + number * SECOND // 4
    return {
        "time": at, "entity": f"service:{entity}", "trace_id": f"{minute:016x}{number + 1:016x}", "span_id": f"{1:016x}", "name": name,
        "duration": int(ms * MS), "status": "ok", **more,
    }  # fmt: skip


def batch(rows: Sequence[dict[str, Any]]) -> Batch:
    return batch_of("span", "test", max(row["time"] for row in rows), rows)


def clock(minute: int) -> Batch:
    at = START + minute * MINUTE
    return batch_of("metric", "test", at, [{"series": 1, "time": at, "value": 0.0}])


def events(outputs: Sequence[Batch]) -> list[dict[str, Any]]:
    return [row for output in outputs for row in output.rows.to_pylist(maps_as_pydicts="lossy")]


def played(technique: Operations, minutes: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    outputs = [output for rows in minutes for output in technique.process(batch(rows))]
    last = max(row["time"] for row in minutes[-1])
    return events([*outputs, *technique.process(clock((last - START) // MINUTE + 4))])


def usual(minutes: range, seed: int = 0, calls: int = 60, **more: Any) -> list[list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    return [[span(m, i, float(20 * rng.lognormal(0, 0.4)), **more) for i in range(calls)] for m in minutes]


def slowed(minutes: Sequence[list[dict[str, Any]]], factor: float, share: float = 1.0) -> list[list[dict[str, Any]]]:
    return [
        [{**row, "duration": int(row["duration"] * (factor if i < share * len(rows) else 1))} for i, row in enumerate(rows)]
        for rows in minutes
    ]


def test_a_body_that_moves_is_told_from_its_first_minute_to_its_last() -> None:
    found = played(Operations(), [*usual(range(20)), *slowed(usual(range(20, 26), 1), 3), *usual(range(26, 34), 2)])
    assert [(row["status"], row["attributes"]["reason"]) for row in found] == [("firing", "latency shift"), ("resolved", "latency shift")]
    fired, resolved = found
    assert fired["title"].startswith("latency p50 of GET in shop is 3.")
    about = fired["attributes"]
    assert about["moved"] == "body"
    assert float(about["value"]) == pytest.approx(60, rel=0.15)
    assert float(about["expected"]) == pytest.approx(20, rel=0.1)
    assert about["since"] == resolved["attributes"]["since"]
    assert fired["time"].value <= START + 22 * MINUTE
    assert fired["fingerprint"] == resolved["fingerprint"]


def test_a_tail_that_grows_is_told_though_the_median_stays() -> None:
    found = played(Operations(), [*usual(range(30)), *slowed(usual(range(30, 36), 1), 20, 0.12)])
    assert [row["attributes"]["moved"] for row in found] == ["tail"]
    assert "while half of its calls take" in found[0]["title"]


@pytest.mark.parametrize("factor", [1.0, 1.15, 0.3])
def test_noise_small_changes_and_faster_calls_are_no_findings(factor: float) -> None:
    rng = np.random.default_rng(5)
    drifting = [slowed([rows], float(rng.lognormal(0, 0.1)))[0] for rows in usual(range(40), 3)]
    assert played(Operations(), [*drifting, *slowed(usual(range(40, 50), 4), factor)]) == []


def test_what_stays_becomes_usual() -> None:
    found = played(Operations(), [*usual(range(20)), *slowed(usual(range(20, 110), 1), 3)])
    assert [row["status"] for row in found] == ["firing", "resolved"]


def test_false_alarms_are_rare() -> None:
    minutes = [
        [row for op in range(20) for row in usual(range(m, m + 1), 100 * m + op, 25, name=f"op{op}")[0]] for m in range(60)
    ]  # fmt: skip
    assert len(played(Operations(), [sorted(rows, key=lambda row: row["time"]) for rows in minutes])) == 0


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"attributes": {"exception.type": "TimeoutError", "http.status_code": "500"}}, "TimeoutError"),
        ({"events": '[{"name":"exception","attributes":{"exception.type":"java.io.IOException"}}]'}, "java.io.IOException"),
        ({"attributes": {"http.response.status_code": "503"}, "status_message": "no"}, "HTTP 503"),
        ({"attributes": {"rpc.grpc.status_code": "14"}}, "gRPC 14"),
        ({"status_message": "order 4711 of 0xdeadbeef failed"}, "order * of * failed"),
        ({}, "error"),
    ],
)
def test_a_kind_of_error_that_never_was_is_told_by_its_name(more: dict[str, Any], kind: str) -> None:
    minutes = usual(range(14))
    for rows in minutes[10:]:
        rows[:9] = [{**row, "status": "error", **more} for row in rows[:9]]
    found = played(Operations(), minutes)
    assert [(row["attributes"]["reason"], row["attributes"]["kind"]) for row in found] == [("new error kind", kind)]
    assert kind in found[0]["title"]


def test_a_surge_of_a_known_kind_is_told_and_its_usual_share_is_not() -> None:
    minutes = usual(range(60))
    rng = np.random.default_rng(8)
    for m, rows in enumerate(minutes):
        for i in range(int(rng.poisson(2.0 if m < 50 else 25.0))):
            rows[i] = {**rows[i], "status": "error", "attributes": {"http.status_code": "500"}}
    found = played(Operations(), minutes)
    assert [row["attributes"]["reason"] for row in found] == ["error kind surge"]
    assert found[0]["time"].value > START + 50 * MINUTE


def failing(minutes: list[list[dict[str, Any]]], first: int, calls: int) -> list[list[dict[str, Any]]]:
    for rows in minutes[first:]:
        rows[:calls] = [{**row, "status": "error", "attributes": {"http.status_code": "500"}} for row in rows[:calls]]
    return minutes


def test_a_kind_of_error_that_stays_becomes_usual_though_latencies_never_moved() -> None:
    technique = Operations()
    found = played(technique, failing(usual(range(110)), 20, 9))
    assert [row["status"] for row in found] == ["firing", "resolved"]
    assert START + 80 * MINUTE <= found[1]["time"].value <= START + 95 * MINUTE
    (row,) = technique.table()
    assert row["usual_error_share"] == pytest.approx(0.15, abs=0.08)
    assert row["errors"][0]["usual_share"] == row["usual_error_share"]


def test_what_stays_becomes_usual_by_the_clock_however_rare_the_calls_are() -> None:
    found = played(Operations(), [*usual(range(120), calls=4), *slowed(usual(range(120, 260), 1, calls=4), 6)])
    assert [row["status"] for row in found] == ["firing", "resolved"]
    assert found[1]["time"].value <= START + 225 * MINUTE


def test_of_maintenance_nothing_is_learned() -> None:
    technique = Operations()
    played(technique, usual(range(20)))
    (before,) = technique.table()
    at = START + 24 * MINUTE
    window = {"kind": "maintenance", "id": "m", "time": at, "entity": "service:shop", "attributes": {"end": iso(at + 120 * MINUTE)}}
    technique.process(batch_of("event", "desk", at, [window]))
    found = played(technique, failing(slowed(usual(range(25, 125), 1), 3), 0, 9))
    assert {row["attributes"]["reason"] for row in found if row["status"] == "firing"} == {"latency shift", "new error kind"}
    (after,) = technique.table()
    assert after["usual"] == before["usual"]
    assert after["usual_error_share"] == 0
    assert after["usual_calls_per_min"] == before["usual_calls_per_min"]


def test_a_kind_not_seen_for_a_week_is_forgotten() -> None:
    technique = Operations()
    played(technique, failing(usual(range(30)), 5, 3))
    for day in (1, 6, 9):
        played(technique, usual(range(day * 1440, day * 1440 + 1)))
        assert bool(technique.table()[0]["errors"]) == (day < 7)


def trace(minute: int, number: int, db_ms: float, rng: np.random.Generator, way_ms: float = 2) -> list[dict[str, Any]]:
    db = float(db_ms * rng.lognormal(0, 0.2))
    root = span(minute, number, 30 + db + way_ms, name="GET")
    begin = root["time"] + 10 * MS
    call = {**root, "span_id": f"{2:016x}", "parent_span_id": root["span_id"], "name": "call", "time": begin}
    inside = {**call, "span_id": f"{3:016x}", "parent_span_id": call["span_id"], "entity": "service:db", "name": "SELECT"}
    call["duration"], inside["duration"] = int((db + way_ms) * MS), int(db * MS)
    return [root, call, inside]


def traces(minutes: range, db_ms: float, way_ms: float = 2, seed: int = 0) -> list[list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    return [[row for n in range(40) for row in trace(m, n, db_ms, rng, way_ms)] for m in minutes]


def test_a_contributor_that_takes_more_of_the_critical_path_is_named() -> None:
    found = played(Operations(), [*traces(range(15), 20), *traces(range(15, 20), 80, seed=1)])
    paths = [row for row in found if row["attributes"]["reason"] == "critical path"]
    assert [(row["entity"], row["attributes"]["root"], row["attributes"]["contributor"]) for row in paths] == [
        ("service:db", "service:shop", "SELECT")
    ]
    assert float(paths[0]["attributes"]["expected"]) == pytest.approx(0.38, abs=0.03)
    assert float(paths[0]["attributes"]["value"]) == pytest.approx(0.71, abs=0.05)


def test_time_on_the_way_is_the_callees() -> None:
    found = played(Operations(), [*traces(range(15), 20), *traces(range(15, 20), 20, way_ms=60, seed=1)])
    assert {
        (row["entity"], row["attributes"].get("in_transit", "")) for row in found if row["attributes"]["reason"] == "critical path"
    } == {("service:db", "True")}
    assert any(row["entity"] == "service:db" and row["attributes"]["operation"] == "(on the way)" for row in found)


def keyed(rows: list[tuple[int, int, int, int, int]]) -> np.ndarray:
    """(span, parent, slot, start, duration) of one trace in one entity."""
    return np.array([[7, s, p, slot, 1, start, length] for s, p, slot, start, length in rows], np.int64).T


def test_the_critical_path_is_the_last_finishing_child_all_the_way_down() -> None:
    rows = [
        (1, 0, 10, 0, 100),
        (2, 1, 11, 10, 30),  # ended before the next began: on the path
        (3, 1, 12, 20, 30),  # beside it, and ended later: takes its place
        (4, 1, 13, 50, 40),
        (5, 4, 14, 60, 100),  # outlives its parent: cut at its end
        (6, 1, 15, 55, 20),  # parallel to the one that ended last: not on the path
    ]
    for order in (rows, rows[::-1]):
        found = paths_of(keyed(order), 1000)
        own = dict(zip((found.contributors // 2).tolist(), found.own.tolist(), strict=True))
        assert own == {10: 10 + 20, 12: 30, 13: 10, 14: 30}
        assert found.shares.sum() == pytest.approx(1.0)
    assert len(paths_of(keyed(rows), 99).roots) == 0, "it ends after the minute"
    assert len(paths_of(keyed([*rows, (9, 8, 16, 5, 5)]), 1000).roots) == 0, "a parent is missing"


def test_what_is_kept_of_a_busy_minute_does_not_depend_on_its_order() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(1, 2**62, 3 * KEPT), *(np.arange(3 * KEPT) for _ in range(6))])
    states = []
    for order, cut in ((slice(None), 100), (slice(None, None, -1), 1000)):
        paths = CriticalPaths()
        some = rows[:, order]
        for first in range(0, some.shape[1], cut):
            part = np.ascontiguousarray(some[:, first : first + cut])
            paths.add(5, part[:, paths.wanted(5, part[0].view(np.uint64))])
        ((_, level, kept),) = paths.state()["open"]
        states.append((level, sorted(kept[0])))
    assert states[0] == states[1]
    assert KEPT / 4 < len(states[0][1]) <= KEPT


def story() -> list[dict[str, Any]]:
    minutes = [*traces(range(12), 20), *traces(range(12, 18), 90, seed=1), *traces(range(18, 24), 20, seed=2)]
    for rows in minutes[14:18]:
        rows[::9] = [{**row, "status": "error", "attributes": {"http.status_code": "502"}} for row in rows[::9]]
    returns = [span(m, 0, 5, "night") for m in (1, 3000)]  # within one batch, behind the day's end at which it is forgotten
    return [*(row for rows in minutes for row in rows), *returns, *(row for rows in traces(range(3010, 3014), 20, seed=3) for row in rows)]


@pytest.mark.parametrize("size", [37, 500])
@pytest.mark.parametrize("restart", [False, True])
def test_findings_do_not_depend_on_how_batches_are_cut_nor_on_restarts(size: int, restart: bool) -> None:
    rows, received = story(), START + 3100 * MINUTE
    whole = Operations()
    expected = events([*whole.process(batch_of("span", "test", received, rows)), *whole.process(clock(3130))])
    technique, outputs = Operations(), []
    for first in range(0, len(rows), size):
        outputs += technique.process(batch_of("span", "test", received, rows[first : first + size]))
        if restart and first // size % (1 + 1000 // size) == 0:
            state, technique = technique.snapshot(), Operations()
            technique.restore(state)
            assert technique.snapshot() == state
    outputs += technique.process(clock(3130))
    assert len(expected) >= 6
    assert events(outputs) == expected
    assert technique.table() == whole.table()


def test_latencies_of_any_scale_are_judged_alike() -> None:
    found = []
    for factor in (1, 64):
        minutes = slowed([*usual(range(20)), *slowed(usual(range(20, 26), 1), 4)], factor)
        found.append([(row["id"], row["time"], row["attributes"]["score"]) for row in played(Operations(), minutes)])
    assert found[0] == found[1] != []


def test_state_is_bounded_and_what_is_not_heard_is_forgotten() -> None:
    technique = Operations()
    technique.process(batch([span(0, 0, 5, "shop", f"GET /{i}") for i in range(NAME_LIMIT + 20)]))
    assert len(technique.table(limit=1000)) == NAME_LIMIT + 1
    technique.process(batch([span(0, 0, 5, f"pod{i}") for i in range(LIMIT)]))
    assert len(technique.table(limit=2 * LIMIT)) == LIMIT
    for hour in range(1, 50):
        technique.process(batch([span(60 * hour, 0, 5, "shop", "GET /1")]))
    assert [row["operation"] for row in technique.table()] == ["GET /1"]
    technique.process(batch([span(3000, 0, 5, "new")]))
    assert {row["entity"] for row in technique.table()} == {"service:shop", "service:new"}


def test_quantiles_of_a_histogram_are_those_of_the_data() -> None:
    rng = np.random.default_rng(1)
    durations = (rng.lognormal(17, 1.5, 100_000)).astype(np.int64)
    histogram = np.bincount(shifts.bins_of(durations), minlength=shifts.BINS)[None].astype(np.float32)
    found = shifts.quantiles(histogram, (0.01, 0.5, 0.95, 0.999))[0]
    assert found == pytest.approx(np.quantile(durations, (0.01, 0.5, 0.95, 0.999)), rel=0.05)


def test_scores_are_calibrated() -> None:
    rng = np.random.default_rng(2)
    usual_ = np.zeros((2000, shifts.BINS), np.float32)
    now = np.zeros_like(usual_)
    for table, calls in ((usual_, 2000), (now, 50)):
        for row in table:
            row[:] = np.bincount(shifts.bins_of((rng.lognormal(17, 0.5, calls)).astype(np.int64)), minlength=shifts.BINS)
    scores = shifts.judge(now, usual_, np.ones(len(now))).slower
    for level in (1.0, 2.0):
        assert np.mean(scores >= level) <= 1.5 * 10**-level
