"""Correlation: how well alerts are folded into incidents, beside the simple baselines in the same run, and how fast.

`accuracy()` belongs to `make evaluate`, `run()`, the speed, to `make bench`.

Two labelled inputs. `boutique_cloudbed1`: 18,779 recorded alerts of 70 faults with a topology. `replay`: threshold rules over
the real pod metrics of the Nezha faults (4 robust sigma, 12 rules; 40 % of the alerts repeat) put on one time axis with
Poisson gaps, together with false alarms the same rules raise in quiet times; three settings: mostly one incident at a time,
a storm of overlapping ones, and 20 systems at once. False alarms are labelled as incidents of their own.

    python -m bench.correlate        prints a Markdown table of both
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.data import DATA
from ninefold.analytics.alerts.correlate import Correlator
from ninefold.analytics.alerts.groups import Alert
from ninefold.config import AlertRule, AlertsConfig, CorrelationConfig, Inhibition
from ninefold.ground.clock import SECOND
from ninefold.ground.meter import Meter
from ninefold.incidents import Incidents
from ninefold.incidents.inhibition import Inhibitions
from ninefold.incidents.rules import parsed
from ninefold.model.matcher import Finder, Matcher
from ninefold.model.signal import Batch, batch_of
from ninefold.model.topology import Relation, Topology
from ninefold.store.records.base import Records
from ninefold.store.records.migrate import upgrade

SYSTEMS = ("nezha_trainticket_0129", "nezha_trainticket_0130", "nezha_boutique_0822")
RULES = (
    "CpuUsageRate(%)", "MemoryUsageRate(%)", "SyscallRead", "SyscallWrite", "NetworkReceiveBytes", "NetworkTransmitBytes",
    "PodClientLatencyP90(s)", "PodServerLatencyP90(s)", "PodClientLatencyP99(s)", "PodServerLatencyP99(s)", "PodWorkload(Ops)",
    "PodSuccessRate(%)",
)  # fmt: skip
WARM_UP = 0.3


class Labelled(NamedTuple):
    """Alerts in order of time with the incident each belongs to, and the topology they live in."""

    alerts: list[Alert]
    truth: list[Hashable]
    topology: Topology


def cloudbed() -> Labelled:
    """The recorded alerts of `boutique_cloudbed1`; a trace alert is about its caller."""
    folder = DATA / "alerts" / "boutique_cloudbed1"
    frame = pd.read_parquet(folder / "alerts.parquet")
    frame = frame[frame.ts_ms > 0].sort_values("ts_ms", kind="stable")
    graph = json.loads((folder / "topology.json").read_text())
    topology = Topology(Relation(e["source"], e["target"], str(e.get("type") or e.get("relation") or "calls")) for e in graph["edges"])
    alerts = []
    for i, row in enumerate(frame.itertuples()):
        rule = f"{row.modality}:{row.name}:{row.value}"
        fingerprint = f"{row.entity}|{row.peer_or_host}|{rule}"
        alerts.append(Alert(f"{i:08d}", int(row.ts_ms) * 1_000_000, fingerprint, str(row.entity), rule, rule))
    return Labelled(alerts, list(frame.fault_id), topology)


class Burst(NamedTuple):
    """Alerts of one fault or one false alarm, seconds after its beginning."""

    system: str
    alerts: list[tuple[float, str, str]]


def _fired(folder: str) -> tuple[list[Burst], list[Burst], list[tuple[str, str]]]:
    """The bursts of a folder's faults, its false alarms, and its service edges."""
    base = DATA / "rca" / folder
    system = folder.rpartition("_")[0]
    metrics = pd.read_parquet(base / "metrics.parquet")
    metrics["service"] = metrics.pod.str.replace(r"-[0-9a-f]+-[0-9a-z]+$", "", regex=True)
    faults = pd.read_csv(base / "faults.csv")
    starts = np.sort(faults.inject_ts.to_numpy())
    fired: list[tuple[int, str, str]] = []
    for service, rows in metrics.groupby("service"):
        ts = rows.ts.to_numpy()
        for rule in RULES:
            values = rows[rule].to_numpy(float)
            middle = np.median(values)
            spread = max(1.4826 * np.median(np.abs(values - middle)), 0.05 * abs(middle), 1e-3)
            fired += [(int(t), str(service), rule) for t in ts[np.abs(values - middle) > 4 * spread]]
    inside: dict[int, list[tuple[float, str, str]]] = defaultdict(list)
    noise: list[Burst] = []
    for t, service, rule in sorted(fired):
        k = int(np.searchsorted(starts, t, "right")) - 1
        if k >= 0 and t - starts[k] <= 240:
            inside[k].append((float(t - starts[k]), service, rule))
        elif k < 0 or t - starts[k] > 400:
            noise.append(Burst(system, [(0.0, service, rule)]))
    edges = _edges(base)
    return [Burst(system, sorted(a)) for a in inside.values() if len({(s, r) for _, s, r in a}) >= 2], noise, edges


def _edges(base: Path) -> list[tuple[str, str]]:
    spans = pd.read_parquet(base / "traces.parquet", columns=["trace_no", "span_no", "parent_no", "pod", "window"])
    spans["service"] = spans.pod.str.replace(r"-[0-9a-f]+-[0-9a-z]+$", "", regex=True)
    both = spans.merge(
        spans, left_on=["window", "trace_no", "parent_no"], right_on=["window", "trace_no", "span_no"], suffixes=("", "_parent")
    )
    calls = both[both.service != both.service_parent]
    return [(str(a), str(b)) for a, b in calls.groupby(["service_parent", "service"]).size().index]


def replays(gap_s: float, copies: int, noise_per_hour: float, seed: int, span_h: float = 40.0) -> Labelled:
    """One stream of the faults, each used as often as `span_h` hours at this mean gap per pair of systems ask for."""
    rng = np.random.default_rng(seed)
    bursts: list[Burst] = []
    noise: list[Burst] = []
    edges: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for folder in SYSTEMS:
        found, false, calls = _fired(folder)
        bursts += found
        noise += false
        edges[folder.rpartition("_")[0]] |= set(calls)
    order = rng.permutation(np.repeat(np.arange(len(bursts)), max(1, copies // 2)))
    times = np.cumsum(rng.exponential(gap_s, len(order)))
    rows: list[tuple[float, str, str, str, Hashable]] = []
    for k, (index, start) in enumerate(zip(order, times, strict=True)):
        system = f"{bursts[index].system}#{rng.integers(max(1, copies // 2))}"
        for offset, service, rule in bursts[index].alerts:
            at = start + offset + rng.uniform(0, 15)
            rows.append((at, system, service, rule, k))
            if rng.random() < 0.4:
                rows += [(at + rng.uniform(20, 60) * (j + 1), system, service, rule, k) for j in range(rng.integers(1, 3))]
    count = rng.poisson(noise_per_hour * times[-1] / 3600)
    for k, (index, at) in enumerate(zip(rng.integers(len(noise), size=count), rng.uniform(0, times[-1], count), strict=True)):
        system = f"{noise[index].system}#{rng.integers(max(1, copies // 2))}"
        for offset, service, rule in noise[index].alerts:
            rows.append((at + offset, system, service, rule, f"noise {k}"))
    rows.sort(key=lambda row: row[0])
    relations = [
        Relation(f"{s}#{c}/{a}", f"{s}#{c}/{b}") for s, pairs in edges.items() for c in range(max(1, copies // 2)) for a, b in pairs
    ]
    alerts = [
        Alert(f"{i:08d}", int(at * SECOND), f"{system}/{service}|{rule}", f"{system}/{service}", rule, rule)
        for i, (at, system, service, rule, _) in enumerate(rows)
    ]
    return Labelled(alerts, [row[4] for row in rows], Topology(relations))


def ninefold(case: Labelled, **options: Any) -> list[Hashable]:
    """The group of every alert, fed one by one."""
    correlator = Correlator(case.topology, **options)
    found = []
    for alert in case.alerts:
        outcome = correlator.feed([alert])
        found.append(outcome.decisions[-1].group.number)  # type: ignore[union-attr]
        if len(found) % 50 == 0:
            for group in correlator.finished(alert.time):
                correlator.close(group.number)
    return found


def session(case: Labelled, key: Callable[[Alert], str], idle_s: float) -> list[Hashable]:
    """A session by key: a new group after a quiet time."""
    last: dict[str, tuple[int, int]] = {}
    found: list[Hashable] = []
    for i, alert in enumerate(case.alerts):
        name = key(alert)
        before, group = last.get(name, (-(1 << 62), i))
        group = i if alert.time - before > idle_s * SECOND else group
        last[name] = alert.time, group
        found.append((name, group))
    return found


def scores(truth: Sequence[Hashable], found: Sequence[Hashable]) -> dict[str, float]:
    """Adjusted Rand index, pairwise F1, compression, share of groups that mix incidents, share of incidents recovered."""
    cells = Counter(zip(truth, found, strict=True))
    rows, columns = Counter(truth), Counter(found)
    pairs = sum(n * (n - 1) / 2 for n in cells.values())
    a, b = (sum(n * (n - 1) / 2 for n in c.values()) for c in (rows, columns))
    expected, n = a * b / (len(truth) * (len(truth) - 1) / 2), len(truth)
    real = Counter({t: c for t, c in rows.items() if c > 1})
    best: dict[Hashable, float] = defaultdict(float)
    mixed: dict[Hashable, set[Hashable]] = defaultdict(set)
    for (t, f), c in cells.items():
        mixed[f].add(t)
        if t in real and c >= 0.8 * rows[t] and c >= 0.8 * columns[f]:
            best[t] = 1.0
    wrong = sum(1 for ts in mixed.values() if len({t for t in ts if t in real}) > 1)
    return {
        "ARI": (pairs - expected) / ((a + b) / 2 - expected),
        "F1": 2 * pairs / (a + b),
        "compression": 1 - len(columns) / n,
        "wrong merges": wrong / len(columns),
        "recovered": len(best) / max(1, len(real)),
    }


def _evaluate(name: str, cases: Iterable[Labelled], skip: float) -> list[dict[str, Any]]:
    totals: dict[str, list[dict[str, float]]] = defaultdict(list)
    for case in cases:
        first = int(skip * len(case.alerts))
        topology = case.topology
        answers = {
            "ninefold": ninefold(case),
            "session": session(case, lambda a, t=topology: t.component(a.entity), 60),
            "fingerprint": session(case, lambda a: a.fingerprint, 300),
        }
        for method, found in answers.items():
            totals[method].append(scores(case.truth[first:], found[first:]))
    rows = []
    for metric in ("ARI", "F1", "compression", "wrong merges", "recovered"):
        mean = {method: float(np.mean([r[metric] for r in runs])) for method, runs in totals.items()}
        peer = f"component session {mean['session']:.3f}, fingerprint only {mean['fingerprint']:.3f}"
        rows.append({"name": f"{name}: {metric}", "value": round(mean["ninefold"], 3), "unit": "", "target": "", "peer": peer,
                     "ratio": round(mean["ninefold"] / mean["session"], 2) if mean["session"] else None})  # fmt: skip
    return rows


def speed() -> dict[str, Any]:
    """Alerts per CPU-second through the correlator alone, in batches of 500, one in ten out of order by up to 5 s."""
    case = replays(5.0, 20, 600, 3)
    rng = np.random.default_rng(1)
    late = rng.random(len(case.alerts)) < 0.1
    alerts = [replace(a, time=a.time - int(rng.uniform(0, 5) * SECOND)) if j else a for a, j in zip(case.alerts, late, strict=True)]
    correlator = Correlator(case.topology)
    started = time.process_time()
    for i in range(0, len(alerts), 500):
        correlator.feed(alerts[i : i + 500])
        for group in correlator.finished(alerts[min(i + 499, len(alerts) - 1)].time):
            correlator.close(group.number)
    return _rate("correlator alone", len(alerts), time.process_time() - started, 5000)


def room(count: int = 20_000, size: int = 500, *, ruled: bool = False) -> dict[str, Any]:
    """Alert events per CPU-second through the whole incident room: fold, write incidents, timeline, ledger, outbox, position; `ruled`:
    with a rule that fits every alert."""
    rng = np.random.default_rng(1)
    services, rules = rng.integers(200, size=count), rng.integers(50, size=count)
    begin = 1_700_000_000 * SECOND
    with tempfile.TemporaryDirectory() as folder:
        records = Records(f"sqlite:///{folder}/records.db")
        upgrade(records)
        asked = {"all": AlertRule(matchers=["job=bench"], keep_firing_for_s=60, flapping=6)} if ruled else {}
        incidents = Incidents(records, NoStore(), CorrelationConfig(), Meter(), alerts=AlertsConfig(rules=asked))
        edges = [{"from_entity": f"service:s{i}", "to_entity": f"service:s{i // 2}", "kind": "calls", "time": begin} for i in range(1, 200)]
        incidents.consume([batch_of("relation", "bench", begin, edges)], 1)
        batches = []
        for first in range(0, count, size):
            rows = [
                {"id": f"{i:016x}", "time": begin + i * 200_000, "kind": "alert", "entity": f"service:s{services[i]}", "status": "firing",
                 "title": f"Rule {rules[i]} of service {services[i]}", "severity": "warning", "fingerprint": f"{services[i]}/{rules[i]}",
                 "attributes": {"alertname": f"Rule{rules[i]}", "service": f"s{services[i]}", "job": "bench", "severity": "warning"}}
                for i in range(first, first + size)
            ]  # fmt: skip
            batches.append(replace(batch_of("event", "bench", begin, rows), position=first + 2))
        started = time.process_time()
        for batch in batches:
            incidents.consume([batch], batch.position)
        took = time.process_time() - started
        records.close()
    name = "alert event to incident, records written" + (", a rule fits every alert" if ruled else "")
    return _rate(name, count, took, 2000)


def mutes(alerts: int = 10_000, mutes: int = 1_000) -> list[dict[str, Any]]:
    """How long it takes to find what mutes hide, and the same asked matcher by matcher (a tenth of the alerts) in the same run."""
    rng = np.random.default_rng(5)
    labels = [
        {"alertname": f"Rule{i % 60}", "service": f"s{i % 200}", "instance": f"10.0.{i % 50}.{i % 200}:9100", "severity": "warning",
         "job": "node", "env": str(rng.choice(["prod", "stage"]))}
        for i in range(alerts)
    ]  # fmt: skip
    sets = {
        number: (
            (Matcher("alertname", "=", f"Rule{number % 60}"), Matcher("service", "=", f"s{number % 200}")),
            (Matcher("instance", "=~", f"10\\.0\\.{number % 50}\\..*"), Matcher("env", "!=", "stage")),
            (Matcher("severity", "=", "warning"), Matcher("service", "=~", f"s{number % 200}|s{number % 77}")),
        )[number % 3]
        for number in range(mutes)
    }
    found: dict[str, float] = {}
    for name in ("first", "again"):
        if name == "first":
            finder = Finder(sets)
        started = time.process_time()
        ours = finder.find(labels)
        found[name] = time.process_time() - started
    started = time.process_time()
    theirs = [[key for key, asked in sets.items() if all(m.holds(each.get(m.name, "")) for m in asked)] for each in labels[::10]]
    plain = 10 * (time.process_time() - started)
    assert ours[::10] == theirs
    return [
        {"name": f"{alerts:,} alerts against {mutes:,} mutes, {text}", "value": round(1000 * found[name]), "unit": "CPU-ms", "target": 50,
         "peer": f"matcher by matcher {1000 * plain:,.0f}", "ratio": round(plain / found[name], 1), "lower": True}
        for name, text in (("first", "all values new"), ("again", "values seen before"))
    ]  # fmt: skip


def inhibitions(alerts: int = 10_000, rules: int = 1_000) -> list[dict[str, Any]]:
    """How long it takes to note which alerts fire as sources and to say what inhibits each of them, by rules that all ask for equal
    labels; and the same asked rule by rule of every pair (a hundredth of the alerts) in the same run."""
    labels = [
        {"alertname": f"Rule{i % 60}", "service": f"s{i % 200}", "node": f"n{i % 500}", "severity": "critical" if i % 7 == 0 else "warning"}
        for i in range(alerts)
    ]  # fmt: skip
    asked = {
        f"r{n}": Inhibition(
            source_matchers=[f"alertname=Rule{n % 60}", "severity=critical"],
            target_matchers=[f"service=~s{n % 200}|s{n % 77}", "severity=warning"],
            equal=["node"] if n % 2 else ["service", "node"],
        )
        for n in range(rules)
    }  # fmt: skip
    room = Inhibitions()
    room.take(asked)
    started = time.process_time()
    sides = room.sides(labels)
    for i, (one, hits) in enumerate(zip(labels, sides, strict=True)):
        room.fire(str(i), "", one, hits)
    found = room.ask(labels, sides)
    took = time.process_time() - started
    started = time.process_time()
    again = room.ask(labels, room.sides(labels))
    active = time.process_time() - started
    started = time.process_time()
    plain = [(parsed(r.source_matchers), parsed(r.target_matchers), r.equal) for r in asked.values()]
    holds = [[all(m.holds(one.get(m.name, "")) for m in source) for source, _, _ in plain] for one in labels[::100]]
    theirs = 100 * (time.process_time() - started)
    assert found == again
    assert any(found)
    assert any(map(any, holds))
    return [
        {"name": f"{alerts:,} alerts against {rules:,} inhibitions, {text}", "value": round(1000 * value), "unit": "CPU-ms", "target": 50,
         "peer": f"sources rule by rule {1000 * theirs:,.0f}", "ratio": round(theirs / value, 1), "lower": True}
        for text, value in (("all told at once", took), ("asked again", active))
    ]  # fmt: skip


class NoStore:
    """A telemetry store nobody asks."""

    def append(self, batches: Sequence[Batch], token: str) -> int:
        raise NotImplementedError

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        raise NotImplementedError


def _rate(name: str, count: int, seconds: float, target: int) -> dict[str, Any]:
    rate = count / seconds
    peer = "Keep 0.54 4 to 16/s, Alerta 250/s" if "incident" in name else ""
    return {"name": name, "value": round(rate), "unit": "alerts/CPU-s", "target": target, "peer": peer, "ratio": round(rate / target, 1)}


def accuracy() -> list[dict[str, Any]]:
    """Agreement of groups with incidents."""
    rows = _evaluate("cloudbed1, recorded", [cloudbed()], 0.0)
    rows += _evaluate("replay, one at a time (gap 600 s)", (replays(600, 2, 12, seed) for seed in (1, 2)), WARM_UP)
    rows += _evaluate("replay, storm (gap 120 s)", (replays(120, 2, 60, seed) for seed in (1, 2)), WARM_UP)
    rows += _evaluate("replay, 20 systems", (replays(60, 20, 600, seed) for seed in (1, 2)), WARM_UP)
    return rows


def run() -> list[dict[str, Any]]:
    """Speed."""
    return [speed(), room(), room(ruled=True), *mutes(), *inhibitions()]


def main() -> None:
    """Print the table."""
    print("| figure | Ninefold | unit | target | baselines, same run | ratio |\n|---|---|---|---|---|---|")
    for row in [*accuracy(), *run()]:
        print(f"| {row['name']} | {row['value']} | {row['unit']} | {row['target']} | {row['peer']} | {row['ratio'] or ''} |")


if __name__ == "__main__":
    main()
