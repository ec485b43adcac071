"""Root cause: how often the true service comes first, per system and fault, beside two simple baselines of the same run.

The labelled faults of the Nezha data are put into a telemetry store as a live system would have sent them, and each is asked
about through the product's own path (queries, evidence, ranking) as if its alerts had come 60 to 120 s after the injection;
nothing later than a minute after those is seen. Each system begins with a quiet quarter of an hour made of its own fault-free
minutes, because the data set has traces and logs around faults only. Known marks of the data: some faults have no traces, and
some show up to a minute before their label says.

    python -m bench.evaluations.root_cause        prints Markdown tables and what was missed
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.data import DATA
from bench.scores.causes import Asked, accuracy, nsigma, place, reliability, simple
from ninefold.analytics.logs.mining import pattern_keys
from ninefold.demo.recording import METRICS
from ninefold.ground.clock import SECOND
from ninefold.incidents.cause import Case, explain
from ninefold.incidents.gather import Gather
from ninefold.model.entity import series_id
from ninefold.model.signal import LOG, METRIC, SPAN, Batch, batch_of
from ninefold.model.topology import Topology
from ninefold.store.telemetry import Telemetry

SYSTEMS = {"TrainTicket": ("nezha_trainticket_0129", "nezha_trainticket_0130"), "Boutique": ("nezha_boutique_0822",)}
TARGETS = {"TrainTicket": {"AC@1": 0.85, "AC@3": 0.95}, "Boutique": {"AC@1": 0.90}}
PUBLISHED = {
    "TrainTicket": {"AC@1": "Nezha 0.867", "AC@3": "Nezha 0.978"},
    "Boutique": {"AC@1": "Nezha 0.929", "AC@3": "Nezha 0.964"},
}
"""What Nezha (Yu et al., FSE 2023) reports for all faults of the data set, of which some are here."""
NOTES = {
    "TrainTicket": "quiet minutes to compare with are few (at most 18), and some faults leave nothing that differs from them",
    "Boutique": "the data has no traces of four faults' minutes and no logs, in which alone one exception shows",
}
ALERT_S, FAULT_S = 60, 300
_BEFORE_S = 20 * 60


def service_of(pod: pd.Series) -> pd.Series:
    """The service of a pod name."""
    return pod.str.replace(r"-[0-9a-f]+-[0-9a-z]+$", "", regex=True)


def load(folder: Path, store: Telemetry, token: str) -> pd.DataFrame:
    """Fill a store with one folder of the Nezha data; returns its faults."""
    faults = pd.read_csv(folder / "faults.csv")
    spans = _read(folder, "traces")
    spans["trace"] = [f"{w & 0xFFFFFFFFFF:012x}{t:020x}" for w, t in zip(spans.window, spans.trace_no, strict=True)]
    logs = _read(folder, "logs") if (folder / "logs.parquet").exists() else None
    starts = faults.inject_ts.to_numpy()
    for i, frame in enumerate(_spread(spans, "start_us", starts)):
        store.append([_spans(frame)], f"{token} spans {i}")
    if logs is not None:
        logs["trace"] = [f"{w & 0xFFFFFFFFFF:012x}{t:020x}" if t >= 0 else "" for w, t in zip(logs.window, logs.trace_no, strict=True)]
        for i, frame in enumerate(_spread(logs, "ts_us", starts)):
            store.append([_logs(frame)], f"{token} logs {i}")
    store.append(_metrics(pq.read_table(folder / "metrics.parquet").to_pandas()), f"{token} metrics")
    return faults


def _read(folder: Path, name: str) -> pd.DataFrame:
    frames = [pd.read_parquet(folder / f"{name}.parquet")]
    if (folder / f"normal_{name}.parquet").exists():
        frames.append(pd.read_parquet(folder / f"normal_{name}.parquet").assign(window=1))
    return pd.concat(frames, ignore_index=True)


def _spread(frame: pd.DataFrame, column: str, starts: Any) -> Iterator[pd.DataFrame]:
    """The recorded rows, then the fault-free windows once more, a minute each, before the first fault."""
    yield frame
    middle = frame.groupby("window")[column].median() / 1e6
    begin = frame.groupby("window")[column].min()
    first = int(starts.min()) - _BEFORE_S
    minute = 0
    for window, at in middle.items():
        since = at - starts[starts <= at].max() if (starts <= at).any() else 1e9
        if since > FAULT_S:
            rows = frame[frame.window == window].copy()
            rows[column] += (first + 60 * minute) * 1_000_000 - int(begin[window])
            rows["trace"] = [f"f{minute:02x}{text[3:]}" if text else "" for text in rows.trace]
            minute += 1
            yield rows


def _times(us: pd.Series) -> pa.Array:
    return pa.array(us.to_numpy() * 1000, pa.int64()).cast(pa.timestamp("ns", "UTC"))


def columns_of(schema: pa.Schema, rows: int, given: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """A record batch of a signal: the columns given, all others empty."""
    defaults: dict[Any, Any] = {pa.string(): "", pa.uint16(): 0, pa.uint8(): 0, pa.int64(): 0}
    made = []
    for field in schema:
        if field.name in given:
            column = given[field.name].cast(field.type)
            made.append(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
        elif pa.types.is_map(field.type):
            made.append(pa.array([[]] * rows, field.type))
        else:
            made.append(pa.array(np.full(rows, defaults[field.type])).cast(field.type))
    return pa.RecordBatch.from_arrays(made, schema=schema)


def _spans(frame: pd.DataFrame) -> Batch:
    columns = {
        "time": _times(frame.start_us), "received": _times(frame.start_us), "entity": pa.array("service:" + service_of(frame.pod)),
        "trace_id": pa.array(frame.trace), "span_id": pa.array([f"{n:016x}" for n in frame.span_no]),
        "parent_span_id": pa.array([f"{n:016x}" if n >= 0 else "" for n in frame.parent_no]), "name": pa.array(frame.operation),
        "duration": pa.array(frame.duration_us * 1000),
    }  # fmt: skip
    return Batch("span", "bench", 0, columns_of(SPAN, len(frame), columns))


def _logs(frame: pd.DataFrame) -> Batch:
    error = frame.message.str.contains(r"\bERROR\b", regex=True)
    body = frame.message.str.replace(r"^\S+ +", "", regex=True).str.replace(r"TraceID: \S+ SpanID: \S+ ", "", regex=True)
    bodies = pa.array(body)
    columns = {
        "time": _times(frame.ts_us), "received": _times(frame.ts_us), "entity": pa.array("service:" + service_of(frame.pod)),
        "severity_number": pa.array(np.where(error, 17, 9).astype(np.uint8)), "body": bodies, "pattern": pa.array(pattern_keys(bodies)),
        "trace_id": pa.array(frame.trace), "span_id": pa.array([f"{n:016x}" if n >= 0 else "" for n in frame.span_no]),
    }  # fmt: skip
    return Batch("log", "bench", 0, columns_of(LOG, len(frame), columns))


def _metrics(frame: pd.DataFrame) -> list[Batch]:
    series, parts = [], []
    for pod, rows in frame.groupby("pod"):
        service = service_of(pd.Series([pod]))[0]
        for column, (name, unit) in METRICS.items():
            number = series_id(name, {"pod": str(pod)})
            series.append({"series": number, "name": name, "unit": unit, "kind": "gauge", "entity": f"service:{service}", "seen": 1})
            values = rows[column].to_numpy(float)
            parts.append((np.full(len(rows), number, np.uint64), rows.ts.to_numpy() * SECOND, values))
    numbers, times, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    good = np.isfinite(values)
    columns = [pa.array(numbers[good]), pa.array(times[good]).cast(pa.timestamp("ns", "UTC")), pa.array(values[good])]
    return [batch_of("series", "bench", 1, series), Batch("metric", "bench", 0, pa.RecordBatch.from_arrays(columns, schema=METRIC))]


def ask(folder: Path, system: str) -> list[Asked]:
    """Every fault of a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Telemetry(f"chdb://{scratch}/store", retention_days=dict.fromkeys(("metric", "log", "span", "event"), 9999))
        store.open()
        try:
            return _ask(folder, system, store)
        finally:
            store.close()


def _ask(folder: Path, system: str, store: Telemetry) -> list[Asked]:
    faults = load(folder, store, folder.name)
    everything = {f"service:{name}": 0.0 for name in service_of(pd.read_parquet(folder / "metrics.parquet", columns=["pod"]).pod).unique()}
    asked = []
    for fault in faults.itertuples():
        onset = (int(fault.inject_ts) + ALERT_S) * SECOND
        before = faults.inject_ts[faults.inject_ts < fault.inject_ts]
        busy = [((int(t) - ALERT_S) * SECOND, (int(t) + FAULT_S) * SECOND) for t in before]
        case = Case(0, onset, onset + 60 * SECOND, everything, busy=busy)
        started, cpu = time.monotonic(), time.process_time()
        finding = explain(store.query, case, Topology())
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        gather = Gather(store.query, case.start, case.end, busy, [], {})
        metrics, spans, logs = gather.metrics(), gather.spans(), gather.logs()[0]
        truth = f"service:{fault.service}"
        named = [candidate["entity"] for candidate in finding.candidates]
        sure = finding.candidates[0]["confidence"] if named else 0.0
        places = place(named, truth), place(nsigma(metrics), truth), place(simple(metrics, spans, logs), truth)
        asked.append(Asked(system, fault.fault_type, fault.service, *places, finding.verdict, sure, seconds, cpu))
    return asked


def cases() -> list[Asked]:
    """All faults of all systems."""
    return [one for system, folders in SYSTEMS.items() for folder in folders for one in ask(DATA / "rca" / folder, system)]


def table(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """The figures of `run`."""
    rows = [row for system in SYSTEMS for row in accuracy(asked, system, TARGETS[system], PUBLISHED[system], NOTES[system])]
    spent, slow = (float(np.quantile([getattr(one, which) for one in asked], 0.95)) for which in ("cpu", "seconds"))
    return [
        *rows,
        *reliability(asked, "both"),
        {"name": "CPU time an incident, p95", "value": round(spent, 3), "unit": "s", "target": "< 1", "peer": "Nezha about 8 s",
         "ratio": round(spent / 8, 2)},
        {"name": "time an incident, p95", "value": round(slow, 3), "unit": "s", "lower": True,
         "note": "by the wall clock, so other work on the machine counts; the gate stands on CPU time, of all threads"},
    ]  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All figures."""
    return table(cases())


def main() -> None:
    """Print the tables, and every fault whose service did not come first."""
    asked = cases()
    print("| figure | Ninefold | of | target | peers |\n|---|---|---|---|---|")
    for row in table(asked):
        print(f"| {row['name']} | {row['value']} | {row.get('unit', '')} | {row.get('target') or ''} | {row.get('peer', '')} |")
    for one in asked:
        if one.rank != 1:
            print(f"missed: {one.system} {one.fault} of {one.service}: place {one.rank}, {one.verdict}, confidence {one.confidence:.2f}")


if __name__ == "__main__":
    main()
