"""Root cause on a system of 200 services and 20,000 series: time and accuracy, beside the simple rules on the same rows.

Faults of five kinds at random services, a quarter of an hour apart, and quiet windows asked about as if they were incidents, go
through the product's own path: queries to the store, evidence, ranking. What is made here is easier than recorded faults
(`make evaluate`); it is the size that counts.

    python -m bench.rootcause        prints the table
"""

from __future__ import annotations

import tempfile
import time
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bench.evaluations.root_cause import columns_of
from bench.scores.causes import Asked, accuracy, nsigma, place, simple
from ninefold.ground.clock import SECOND
from ninefold.incidents.cause import Case, explain
from ninefold.incidents.gather import Gather
from ninefold.model.entity import series_id
from ninefold.model.signal import LOG, METRIC, SPAN, Batch, batch_of
from ninefold.model.topology import Topology
from ninefold.store.telemetry import Telemetry

SERVICES, METRICS, TRACES = 200, 100, 200
"""Services, series of each, traces a minute."""
START, QUIET, GAP, LASTS, AT_ONCE = 1_700_000_000 // 60 * 60, 40, 15, 5, 40
KINDS = ("cpu", "slow", "network", "errors", "stops calling")
NOTHING = "nothing"
SEED = 7


class Fault(NamedTuple):
    """What goes wrong where, from which minute on."""

    kind: str
    service: int
    minute: int


def plan(rng: np.random.Generator) -> list[Fault]:
    """A fault of each kind at services others need, and some quiet windows."""
    kinds = [*KINDS, *[NOTHING] * 3]
    return [Fault(kind, int(rng.integers(1, SERVICES // 2 - 1)), QUIET + GAP * i) for i, kind in enumerate(kinds)]


def name(service: int) -> str:
    """The entity of a service."""
    return f"service:shop/s{service:03d}"


def metrics(faults: list[Fault], minutes: int, rng: np.random.Generator) -> list[Batch]:
    """A gauge each minute for every series; the first of a service is its CPU."""
    ids = [series_id("m", {"s": str(s), "m": str(m)}) for s in range(SERVICES) for m in range(METRICS)]
    series = [
        {"series": number, "name": "cpu" if i % METRICS == 0 else f"metric_{i % METRICS}", "unit": "%" if i % METRICS == 0 else "By",
         "kind": "gauge", "entity": name(i // METRICS), "seen": START * SECOND}
        for i, number in enumerate(ids)
    ]  # fmt: skip
    out = [batch_of("series", "bench", 1, series)]
    level = rng.uniform(20, 40, len(ids))
    for minute in range(minutes):
        values = level * rng.normal(1, 0.05, len(ids)) * np.where(rng.random(len(ids)) < 0.002, 4, 1)
        for fault in faults:
            if fault.kind == "cpu" and 0 <= minute - fault.minute < LASTS:
                values[fault.service * METRICS] = 95
        times = pa.array(np.full(len(ids), (START + 60 * minute) * SECOND)).cast(pa.timestamp("ns", "UTC"))
        columns = [pa.array(ids, pa.uint64()), times, pa.array(values)]
        out.append(Batch("metric", "bench", 0, pa.RecordBatch.from_arrays(columns, schema=METRIC)))
    return out


def minute_of_calls(faults: list[Fault], minute: int, rng: np.random.Generator) -> list[Batch]:
    """Requests walk down a tree of services; each server span is the child of a client span, and says one line."""
    wrong = [fault for fault in faults if 0 <= minute - fault.minute < LASTS]
    spans: list[tuple[int, int, int, str, float, str]] = []
    logs: list[tuple[int, int, str, int]] = []
    for trace in range(TRACES):
        way = [0]
        while 2 * way[-1] + 2 < SERVICES:
            if any(fault.kind == "stops calling" and fault.service == way[-1] for fault in wrong):
                break
            way.append(2 * way[-1] + 1 + int(rng.integers(2)))
        took, number = 0.0, len(way) * 2
        for depth in range(len(way) - 1, -1, -1):
            service = way[depth]
            mine = {fault.kind for fault in wrong if fault.service == service}
            took += rng.uniform(4, 6) * (20 if "slow" in mine else 1)
            failed = "errors" in mine and rng.random() < 0.7
            spans.append((trace, 2 * depth + 1, 2 * depth, name(service), took, "error" if failed else "ok"))
            logs.append((trace, service, f"request {number} of {service} failed: no such thing" if failed else f"request {number} served",
                         17 if failed else 9))  # fmt: skip
            if depth:
                took += rng.uniform(1, 2) + (80 if "network" in mine else 0)
                spans.append((trace, 2 * depth, 2 * depth - 1, name(way[depth - 1]), took, "ok"))
    traces, ids, parents, entities, durations, states = zip(*spans, strict=True)
    at = (START + 60 * minute) * SECOND
    stamps = pa.array([at + trace * SECOND // 4 for trace in traces]).cast(pa.timestamp("ns", "UTC"))
    key = {trace: f"{minute:016x}{trace:016x}" for trace in range(TRACES)}
    calls = {
        "time": stamps, "received": stamps, "entity": pa.array(entities), "name": pa.array(["work" if i % 2 else "call" for i in ids]),
        "trace_id": pa.array([key[trace] for trace in traces]), "span_id": pa.array([f"{i:016x}" for i in ids]),
        "parent_span_id": pa.array([f"{i:016x}" if i else "" for i in parents]), "status": pa.array(states),
        "duration": pa.array([int(ms * 1e6) for ms in durations]),
    }  # fmt: skip
    of, services, bodies, severities = zip(*logs, strict=True)
    stamps = pa.array([at + trace * SECOND // 4 for trace in of]).cast(pa.timestamp("ns", "UTC"))
    lines = {
        "time": stamps, "received": stamps, "entity": pa.array([name(service) for service in services]), "body": pa.array(bodies),
        "pattern": pa.array([2 if severity > 9 else 1 for severity in severities]), "trace_id": pa.array([key[trace] for trace in of]),
        "severity_number": pa.array(severities),
    }  # fmt: skip
    return [
        Batch("span", "bench", 0, columns_of(SPAN, len(spans), calls)),
        Batch("log", "bench", 0, columns_of(LOG, len(logs), lines)),
    ]


def ask(store: Telemetry, faults: list[Fault]) -> list[Asked]:
    """Every fault and quiet window, each with all entities in sight and the windows of the others known."""
    asked = []
    for fault in faults:
        onset = (START + 60 * fault.minute + 60) * SECOND
        busy = [
            ((START + 60 * (other.minute - 1)) * SECOND, (START + 60 * (other.minute + LASTS)) * SECOND)
            for other in faults if other.minute < fault.minute and other.kind != NOTHING
        ]  # fmt: skip
        case = Case(0, onset, onset + 120 * SECOND, {name(service): 0.0 for service in range(SERVICES)}, busy=busy)
        started, cpu = time.monotonic(), time.process_time()
        finding = explain(store.query, case, Topology())
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        gather = Gather(store.query, case.start, case.end, busy, [], {})
        rows, spans, logs = gather.metrics(), gather.spans(), gather.logs()[0]
        named, truth = [candidate["entity"] for candidate in finding.candidates], name(fault.service)
        places = place(named, truth), place(nsigma(rows), truth), place(simple(rows, spans, logs), truth)
        sure = finding.candidates[0]["confidence"] if named else 0.0
        asked.append(Asked("200 services", fault.kind, truth, *places, finding.verdict, sure, seconds, cpu))
    return asked


def run() -> list[dict[str, Any]]:
    """All figures."""
    rng = np.random.default_rng(SEED)
    faults = plan(rng)
    minutes = QUIET + GAP * len(faults)
    with tempfile.TemporaryDirectory() as scratch:
        store = Telemetry(f"chdb://{scratch}/store", retention_days=dict.fromkeys(("metric", "log", "span", "event"), 9999))
        store.open()
        try:
            measured = metrics(faults, minutes, rng)
            called = [batch for minute in range(minutes) for batch in minute_of_calls(faults, minute, rng)]
            for start in range(0, max(len(measured), len(called)), AT_ONCE):
                store.append([*measured[start : start + AT_ONCE], *called[start : start + AT_ONCE]], f"{start}")
            asked = ask(store, faults)
        finally:
            store.close()
    real = [one for one in asked if one.fault != NOTHING]
    quiet = [one.verdict == "determined" for one in asked if one.fault == NOTHING]
    spent, slow = (float(np.quantile([getattr(one, which) for one in asked], 0.95)) for which in ("cpu", "seconds"))
    return [
        {"name": f"CPU time an incident, p95 ({SERVICES * METRICS:,} series)", "value": round(spent, 3), "unit": "s", "target": "< 1",
         "peer": "Nezha about 8 s for 46 services", "ratio": round(spent / 8, 2)},
        {"name": "time an incident, p95", "value": round(slow, 3), "unit": "s", "lower": True},
        *accuracy(real, "200 services", {"AC@1": 0.9}),
        {"name": "a cause named where nothing is wrong", "value": round(float(np.mean(quiet)), 3), "unit": f"of {len(quiet)}",
         "target": "< 0.2"},
    ]  # fmt: skip


if __name__ == "__main__":
    from bench.all import table

    print(table(run()))
