"""Detection: how fast series are judged, how many faults are found and how many alarms are false.

Speed over 10,000 series, everything included (Arrow in, state, severity, band, events out), beside a plain per-series loop with an
exponentially weighted mean and deviation in the same process. Quality on the packaged recording (eight injected faults, 77
minutes, so an hour of history at most), on NAB (58 series, 116 windows; episodes, alarms within six hours being one) and on
generated fleets of which nothing is wrong, beside the same loop alarming at four deviations.

    python bench/detect.py        prints a Markdown table
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.signal import lfilter

from ninefold.analytics import warm
from ninefold.analytics.logs.mining import LogTemplates
from ninefold.analytics.metrics import cells
from ninefold.analytics.metrics.baseline import Baseline, band
from ninefold.analytics.traces.spans import Spans
from ninefold.demo.recording import Fault, Recording
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import METRIC, Batch
from ninefold.normalise import Normaliser
from ninefold.sources.otlp import Otlp

DATA = Path(os.environ.get("NINEFOLD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
START = 1_700_000_000 * SECOND // MINUTE * MINUTE
END = START + 10_000 * MINUTE
SERIES, STEPS = 10_000, 60
WEEK, EPISODE = 7 * 24 * 60 * MINUTE, 360 * MINUTE
ONSET = 5
"""Minutes that the estimated onset of a shift may lie before it."""
AROUND = (-60 * SECOND, 300 * SECOND)
Times = np.ndarray[Any, np.dtype[np.int64]]
Values = np.ndarray[Any, np.dtype[np.float64]]
Detector = Callable[[Times, Values], Times]


class Plain:
    """The peer: exponentially weighted mean and deviation, an alarm beyond four deviations after twelve points."""

    def __init__(self) -> None:
        self.mean = self.deviation = 0.0
        self.count = 0

    def update(self, value: float) -> bool:
        """Judge and learn one value."""
        error = abs(value - self.mean)
        alarm = self.count >= cells.WARM_UP and error > 4 * 1.25 * self.deviation
        weight = max(1 / (self.count + 1), 0.02)
        self.mean += weight * (value - self.mean)
        self.deviation += weight * (error - self.deviation)
        self.count += 1
        return alarm


def plain(times: Times, values: Values) -> Times:
    """Alarm times of the peer."""
    state = Plain()
    return np.array([t for t, v in zip(times.tolist(), values.tolist(), strict=True) if state.update(v)], np.int64)


def ours(times: Times, values: Values) -> Times:
    """Alarm times of the baseline."""
    return np.array([finding.time for finding in band(times, values, "gauge")[3]], np.int64)


def episodes(alarms: Times) -> int:
    """Alarms, those within six hours of the last counting as one."""
    return int((np.diff(alarms) > EPISODE).sum()) + 1 if len(alarms) else 0


def tick(step: int, ids: pa.Array, values: Values) -> Batch:
    """One point of every series."""
    times = pa.array(np.full(len(values), START + step * MINUTE), METRIC.field("time").type)
    return Batch("metric", "bench", START + step * MINUTE, pa.RecordBatch.from_arrays([ids, times, pa.array(values)], schema=METRIC))


def speed() -> list[dict[str, Any]]:
    """Points per CPU-second: the compiled fold alone, the whole technique, the peer."""
    rng = np.random.default_rng(1)
    ids = pa.array(rng.integers(1, 2**63, SERIES, dtype=np.uint64))
    ticks = [tick(step, ids, rng.normal(100, 5, SERIES)) for step in range(STEPS)]
    technique = Baseline()
    best = []
    for batch in ticks:
        started = time.process_time()
        technique.process(batch)
        best.append(time.process_time() - started)
    whole = SERIES / float(np.median(best[20:]))

    kernel = warm.loops("metrics.kernel")
    state, weeks, clock = cells.state(SERIES), cells.weeks(0), np.zeros(cells.CLOCK, np.int64)
    slots, out = (
        np.arange(SERIES, dtype=np.int32),
        (np.empty((SERIES, cells.BAND)), np.empty((4 * SERIES, 5)), np.empty((4 * SERIES, cells.INTEGERS), np.int64)),
    )
    best = []
    for batch in ticks:
        times = batch.rows.column("time").cast(pa.int64()).to_numpy()
        values = batch.rows.column("value").to_numpy()
        started = time.process_time()
        kernel.fold(state, weeks, clock, SERIES, cells.settings(), slots, times, values, batch.received, *out)
        best.append(time.process_time() - started)
    alone = SERIES / float(np.median(best[20:]))

    peers = [Plain() for _ in range(SERIES)]
    started = time.process_time()
    for batch in ticks[:10]:
        for peer, value in zip(peers, batch.rows.column("value").to_pylist(), strict=True):
            peer.update(value)
    naive = 10 * SERIES / (time.process_time() - started)
    row = sum(part[0].nbytes for part in state)
    return [
        figure("Arrow in, events out, 10,000 series", whole, "points/CPU-s", 1_000_000, naive),
        figure("the compiled fold alone", alone, "points/CPU-s", 8_000_000, naive),
        figure("state of a series", row, "bytes", 500, lower=True),
        figure("snapshot of 10,000 series", rate(technique.snapshot, 5) * 1000, "ms", None),
    ]


def rate(work: Callable[[], object], times: int) -> float:
    """Mean CPU seconds of one call."""
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def compiling() -> list[dict[str, Any]]:
    """CPU seconds to compile everything with an empty cache, and to load it from the cache."""
    call = "import time; s = time.process_time(); from ninefold.analytics import warm; warm.warm(); print(time.process_time() - s)"
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"NUMBA_CACHE_DIR": folder}
        cold, cached = (float(subprocess.run([sys.executable, "-c", call], env=env, capture_output=True, check=True).stdout) for _ in "ab")
    return [
        figure("compiling all kernels, empty cache", cold, "CPU-s", 15, lower=True),
        figure("loading them from the cache (imports included)", cached, "CPU-s", 1.0, lower=True),
    ]


def recorded() -> Iterator[Batch]:
    """The packaged recording through the real decoder and normaliser."""
    otlp, normaliser = Otlp(), Normaliser({})
    for step in Recording(END).requests():
        for request in step:
            for batch in getattr(otlp, request.signal)(request.body, "application/x-protobuf", "bench", END + SECOND).batches:
                yield from normaliser.normalise(batch)


def recording() -> list[dict[str, Any]]:
    """Faults whose own service alarmed within five minutes, alarms that belong to no fault, and spans per CPU-second."""
    techniques = [Baseline(), Spans(), LogTemplates()]
    fired: list[tuple[int, str]] = []
    spans, cpu_s = 0, 0.0
    for first in recorded():
        queue = deque([first])
        while queue:
            batch = queue.popleft()
            if batch.signal == "event":
                rows = batch.rows.filter(pa.compute.equal(batch.rows.column("status"), "firing"))
                fired += zip(rows.column("time").cast(pa.int64()).to_pylist(), rows.column("entity").to_pylist(), strict=True)
            for technique in techniques:
                if batch.signal in technique.signals:
                    started = time.process_time()
                    queue.extend(technique.process(batch))
                    if technique.name == "spans" and batch.signal == "span":
                        spans, cpu_s = spans + batch.rows.num_rows, cpu_s + time.process_time() - started
    faults = Recording(END).faults()

    def near(fault: Fault, at: int) -> bool:
        return AROUND[0] <= at - fault.time <= AROUND[1]

    found = sum(any(near(fault, at) and entity == f"service:{fault.service}" for at, entity in fired) for fault in faults)
    outside = sum(not any(near(fault, at) for fault in faults) for at, _ in fired)
    return [
        figure("recording: faults whose service alarmed", found, f"of {len(faults)}", len(faults)),
        figure("recording: alarms a fault, all entities", (len(fired) - outside) / len(faults), "alarms", None),
        figure("recording: alarms near no fault", outside, f"in 77 min of {len(techniques[0])} series", 30, lower=True),  # type: ignore[arg-type]
        figure("spans: topology and RED series", spans / cpu_s, "spans/CPU-s", None),
    ]


def nab(detect: Detector) -> tuple[int, int, float]:
    """Windows hit, windows, and false-alarm episodes a series and week on NAB."""
    frame = pd.read_parquet(DATA / "timeseries" / "nab" / "series.parquet")
    windows = json.loads((DATA / "timeseries" / "nab" / "combined_windows.json").read_text())
    hit = total = false = 0
    weeks = 0.0
    for name, some in frame.groupby("series_id"):
        times = some.timestamp.to_numpy().astype("datetime64[ns]").astype(np.int64)
        order = np.argsort(times, kind="stable")
        times, alarms = times[order], detect(times[order], some.value.to_numpy()[order])
        spans = [(pd.Timestamp(a).value, pd.Timestamp(b).value) for a, b in windows[f"{name}.csv"]]
        inside = np.zeros(len(alarms), bool)
        for first, last in spans:
            here = (alarms >= first) & (alarms <= last)
            inside |= here
            hit += bool(here.any())
        total += len(spans)
        false += episodes(alarms[~inside])
        weeks += (times[-1] - times[0] - sum(b - a for a, b in spans)) / WEEK
    return hit, total, false / weeks


def benchmark() -> list[dict[str, Any]]:
    """NAB, here and the peer."""
    hit, total, false = nab(ours)
    peer_hit, _, peer_false = nab(plain)
    return [
        figure("NAB: windows hit", hit, f"of {total}", None, peer_hit),
        figure("NAB: false-alarm episodes", false, "a series-week", 0.6, peer_false, lower=True),
    ]


def generated(kind: str, rng: np.random.Generator, size: int) -> Values:
    """Values of one series with nothing wrong in it."""
    draw = rng.normal(size=size)
    if kind == "normal":
        return 100 + 10 * draw
    if kind == "autocorrelated":
        return 100 + 10 * lfilter([np.sqrt(1 - 0.81)], [1, -0.9], draw)
    if kind == "daily":
        return 100 + 40 * np.sin(2 * np.pi * np.arange(size) / 1440) + 5 * draw
    return 100 * np.exp(0.8 * draw)


def fleets() -> list[dict[str, Any]]:
    """False-alarm episodes a series and week (one point a minute, two weeks), spikes and level shifts found."""
    rng, size, series = np.random.default_rng(7), 14 * 1440, 24
    times = START + np.arange(size) * MINUTE
    rows, spikes, shifts = [], 0, 0
    targets = {"normal": 0.07, "autocorrelated": 0.1, "daily": 0.07, "heavy-tailed": 0.45}
    for kind, target in targets.items():
        false = peer_false = 0
        for _ in range(series):
            values = generated(kind, rng, size)
            false += episodes(ours(times, values))
            peer_false += episodes(plain(times, values))
            wide = np.quantile(values, 0.999) - np.median(values)
            spike, shift = int(size * 0.55), int(size * 0.8)
            values[spike : spike + 2] += 2 * wide
            values[shift : shift + 60] += 1.2 * wide
            at = (ours(times, values) - START) // MINUTE
            spikes += bool(((at >= spike) & (at < spike + 4)).any())
            shifts += bool(((at >= shift - ONSET) & (at < shift + 60)).any())
        rows.append(figure(f"false alarms, {kind}", false / (2 * series), "a series-week", target, peer_false / (2 * series), lower=True))
    count = series * len(targets)
    return [
        *rows,
        figure("spikes of two points found", spikes / count, "share", 0.85),
        figure("level shifts of an hour found", shifts / count, "share", 0.5),
    ]


def figure(name: str, value: float, unit: str, target: float | None, peer: float | None = None, *, lower: bool = False) -> dict[str, Any]:
    """One row of the results."""
    ratio = value / peer if peer else None
    return {"name": name, "value": value, "unit": unit, "target": target, "peer": peer, "ratio": ratio, "lower": lower}


def run() -> list[dict[str, Any]]:
    """All figures; the peer's are in the same unit."""
    warm.warm()
    return [*speed(), *compiling(), *recording(), *benchmark(), *fleets()]


def main() -> None:
    """Print the table."""
    print("| figure | here | unit | target | plain loop | ratio |\n|---|---:|---|---:|---:|---:|")
    for row in run():
        cell = [
            f"{row[key]:,.3g}" if row[key] is not None and row[key] < 1000 else f"{row[key] or 0:,.0f}"
            for key in ("value", "target", "peer")
        ]
        target, peer = (text if row[key] is not None else "" for key, text in (("target", cell[1]), ("peer", cell[2])))
        ratio = f"{row['ratio']:.2f}×" if row["ratio"] else ""
        print(f"| {row['name']} | {cell[0]} | {row['unit']} | {'≤ ' if row['lower'] and target else ''}{target} | {peer} | {ratio} |")


if __name__ == "__main__":
    main()
