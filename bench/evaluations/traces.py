"""Findings from traces: how many faults with spans are told of at the right service, beside the p95 series alone in the same run.

The labelled faults of the Nezha data (FSE 2023) have spans of the minutes around them, and of some fault-free minutes. Half of the
fault-free minutes of a system are played twice, one after another, as what is usual; from there each fault's minutes and each
minute of the other half are played by themselves; then the halves change places. A fault is told of when a finding of its
service, or of the way to it, begins within five minutes of the first spans after the injection. The baseline is what the band
over ``ninefold.span.duration.p95`` finds in the same minutes.

    python -m bench.evaluations.traces        prints every fault
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.data import DATA
from ninefold.analytics import warm
from ninefold.analytics.metrics.baseline import Baseline
from ninefold.analytics.traces.operations import Operations
from ninefold.analytics.traces.spans import Spans
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import SPAN, Batch, batch_of

SYSTEMS = {"TrainTicket": ("nezha_trainticket_0129", "nezha_trainticket_0130"), "Boutique": ("nezha_boutique_0822",)}
FAULT_S, QUIET_S, LEAST_S = 300, 400, 20
ROUNDS = 2
START = 1_700_000_040 * SECOND
Finding = tuple[int, str, str, str]
"""Time (ns), entity, what kind it is, and its words."""


class Played(NamedTuple):
    """Findings of one fault, or of one fault-free minute (no service), by us and by the baseline."""

    system: str
    service: str
    fault: str
    ours: list[Finding]
    theirs: list[Finding]
    minutes: int


def read(folder: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Spans and faults of a folder; spans of the published fault-free minute are a window of their own."""
    path = DATA / "rca" / folder
    frames = [pd.read_parquet(path / "traces.parquet")]
    if (path / "normal_traces.parquet").exists():
        frames.append(pd.read_parquet(path / "normal_traces.parquet").assign(window=1))
    spans = pd.concat(frames, ignore_index=True)
    spans["entity"] = "service:" + spans.pod.str.replace(r"-[0-9a-f]+-[0-9a-z]+$", "", regex=True)
    return spans, pd.read_csv(path / "faults.csv")


def windows(spans: pd.DataFrame, faults: pd.DataFrame) -> tuple[list[pd.DataFrame], list[tuple[Any, list[pd.DataFrame]]]]:
    """The fault-free windows, and those of each fault that has any: the five minutes from an injection on. Some faults last longer than
    that, so what follows counts as fault-free only later."""
    starts = np.sort(faults.inject_ts.to_numpy()) * 1_000_000
    before = np.concatenate(([-QUIET_S * 1_000_000], starts))[np.searchsorted(starts, spans.start_us, "right")]
    spans = spans.assign(since=spans.start_us - before, inject=before // 1_000_000)
    free = spans[spans.since > QUIET_S * 1_000_000]
    quiet = [frame.sort_values("start_us") for _, frame in free.groupby("window")]
    quiet = [frame for frame in quiet if LEAST_S * 1_000_000 < np.ptp(frame.start_us) < 2 * 60_000_000]
    cases = []
    for fault in faults.itertuples():
        during = spans[(spans.inject == fault.inject_ts) & (spans.since <= FAULT_S * 1_000_000)]
        if len(during):
            cases.append((fault, [frame.sort_values("start_us") for _, frame in during.groupby("window")]))
    return quiet, cases


def batch(frame: pd.DataFrame, shift: int) -> Batch:
    """A frame as spans, moved by `shift` (ns)."""
    times = frame.start_us.to_numpy() * 1000 + shift
    given = {
        "time": pa.array(times), "entity": pa.array(frame.entity), "name": pa.array(frame.operation),
        "duration": pa.array(frame.duration_us.to_numpy() * 1000),
        "trace_id": pa.array([f"{w & 0xFFFFFFFF:012x}{t:020x}" for w, t in zip(frame.window, frame.trace_no, strict=True)]),
        "span_id": pa.array([f"{n + 1:016x}" for n in frame.span_no]),
        "parent_span_id": pa.array(["" if n == -1 else f"{n + 1 if n >= 0 else 2**40:016x}" for n in frame.parent_no]),
    }  # fmt: skip
    columns = []
    for field in SPAN:
        empty: Any = pa.array([[]] * len(frame), field.type) if pa.types.is_map(field.type) else None
        if empty is None:
            blank = pa.array([""] * len(frame)) if field.type == pa.string() else pa.array(np.zeros(len(frame), np.int64))
            empty = given.get(field.name, blank).cast(field.type)
        columns.append(empty)
    return Batch("span", "bench", int(times[-1]), pa.RecordBatch.from_arrays(columns, schema=SPAN))


class Watcher:
    """A set of techniques that can be set back to what they had learned; `rest` (ns) is the silence after that, in which episodes end."""

    def __init__(self, make: Callable[[], list[Any]], rest: int) -> None:
        self.make, self.techniques, self.rest = make, make(), rest

    def snapshot(self) -> list[bytes]:
        """The state."""
        return [technique.snapshot() for technique in self.techniques]

    def restore(self, states: Sequence[bytes]) -> None:
        """Back to a state."""
        self.techniques = self.make()
        for technique, state in zip(self.techniques, states, strict=True):
            technique.restore(state)

    def play(self, one: Batch) -> Iterator[Finding]:
        """Findings that a batch makes begin."""
        outputs = [one]
        for technique in self.techniques:
            outputs += [found for output in outputs if output.signal in technique.signals for found in technique.process(output)]
        for output in outputs:
            if output.signal == "event":
                for row in output.rows.to_pylist(maps_as_pydicts="lossy"):
                    about = row["attributes"]
                    if row["status"] == "firing" and about.get("metric", "ninefold.span.duration.p95") == "ninefold.span.duration.p95":
                        yield row["time"].value, row["entity"], about["reason"], row["title"]


def clock(at: int) -> Batch:
    """A metric point, from which techniques see that time passes."""
    return batch_of("metric", "bench", at, [{"series": 1, "time": at, "value": 0.0}])


def minutes(watcher: Watcher, frames: Sequence[pd.DataFrame], begin: int) -> tuple[list[Finding], int]:
    """Play windows from a minute's begin on, keeping their distances; returns what was found and the next minute's begin."""
    shift = begin - int(frames[0].start_us.iloc[0]) * 1000
    found = [finding for frame in frames for finding in watcher.play(batch(frame, shift))]
    return found, (int(frames[-1].start_us.max()) * 1000 + shift) // MINUTE * MINUTE + MINUTE


def evaluate(system: str, fold: int) -> list[Played]:
    """All faults, and the fault-free minutes of one half after learning from the other."""
    read_in = [windows(*read(folder)) for folder in SYSTEMS[system]]
    quiet = [frame for some, _ in read_in for frame in some]
    learn, rest = quiet[fold::2], quiet[1 - fold :: 2]
    # A silent series is an alarm for the baseline; in ours, silence of an hour ends what the learning part left open.
    watchers = [Watcher(lambda: [Operations()], 70 * MINUTE), Watcher(lambda: [Spans(), Baseline()], 10 * MINUTE)]
    states, begins = [], []
    for watcher in watchers:
        begin = START
        for frame in learn * ROUNDS:
            begin = minutes(watcher, [frame], begin)[1]
        for step in range(10):
            list(watcher.play(clock(begin + step * MINUTE)))
        begins.append(begin + watcher.rest)
        states.append(watcher.snapshot())
    played = []
    for fault, frames in [*((None, [frame]) for frame in rest), *(case for _, cases in read_in for case in cases)]:
        both = []
        for watcher, state, begin in zip(watchers, states, begins, strict=True):
            watcher.restore(state)
            found, end = minutes(watcher, frames, begin)
            found += [f for step in range(1, 5) for f in watcher.play(clock(end + step * MINUTE))]
            last = begin + FAULT_S * SECOND if fault else end
            both.append([f for f in found if begin < f[0] <= last and f[2] != "missing data"])
        played.append(Played(system, fault.service if fault else "", fault.fault_type if fault else "", both[0], both[1], len(frames)))
    return played


def told(findings: Sequence[Finding], service: str) -> bool:
    """Whether a finding is about a service or the way to it."""
    return any(entity == f"service:{service}" for _, entity, _, _ in findings)


def table(played: Sequence[Played]) -> list[dict[str, Any]]:
    """The figures of `run`."""
    rows: list[dict[str, Any]] = []
    for system in SYSTEMS:
        faults = [one for one in played if one.system == system and one.service]
        quiet = [one for one in played if one.system == system and not one.service]
        share = [np.mean([told(found, one.service) for one in faults for found in (side(one),)]) for side in _SIDES]
        alarmed = [np.mean([bool(side(one)) for one in faults]) for side in _SIDES]
        precise = [_precision(faults, side) for side in _SIDES]
        false = [np.mean([bool(side(one)) for one in quiet]) for side in _SIDES]
        for name, unit, (ours, theirs), lower in (
            ("faults told of at their service", f"of {len(faults) // 2}, two halves", share, False),
            ("faults with any finding", "", alarmed, False),
            ("findings of a fault that are about its service", "", precise, False),
            ("fault-free minutes with a finding", f"of {len(quiet)}", false, True),
        ):  # fmt: skip
            target = f"≥ {theirs:.3g}" if name.startswith("faults told") else None
            row = {"name": f"{system}: {name}", "value": round(float(ours), 3), "unit": unit, "target": target, "lower": lower}
            row |= {"peer": f"p95 series {theirs:.3f}", "ratio": round(float(ours / theirs), 2) if theirs else None}
            rows.append({**row, "note": _NOTES[system] if lower else ""})
    return rows


def _precision(faults: Sequence[Played], side: Callable[[Played], list[Finding]]) -> float:
    about = [entity == f"service:{one.service}" for one in faults for _, entity, _, _ in side(one)]
    return float(np.mean(about)) if about else 0.0


_NOTES = {
    "TrainTicket": "in one of them a call takes 700 times as long: labels are up to a minute late",
    "Boutique": "in one of them a call takes 300 times as long: labels are up to a minute late",
}
_SIDES: tuple[Callable[[Played], list[Finding]], ...] = (lambda one: one.ours, lambda one: one.theirs)


def cases() -> list[Played]:
    """Everything played."""
    warm.warm()
    return [one for system in SYSTEMS for fold in (0, 1) for one in evaluate(system, fold)]


def run() -> list[dict[str, Any]]:
    """All figures."""
    return table(cases())


def main() -> None:
    """Print what was found for every fault, then the table."""
    played = cases()
    for one in played:
        print(f"\n{one.system} {one.service or 'fault-free'} {one.fault} ({one.minutes} min) p95 series: {len(one.theirs)}")
        for _, _entity, reason, text in one.ours:
            print(f"   {'*' if _entity == f'service:{one.service}' else ' '} {reason}: {text}")
    for row in table(played):
        print(f"| {row['name']} | {row['value']} | {row['unit']} | {row['peer']} | {row['ratio'] or ''} |")


if __name__ == "__main__":
    main()
