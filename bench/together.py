"""Metrics judged together and peers at scale: points a CPU-second through `process`, and what their state weighs with 100,000 series.

The entities are generated: hosts with 20 gauges, one batch of all points a minute; for peers all hosts are siblings.

    python bench/together.py        prints a Markdown table
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.evaluations.multivariate import START, played, speed
from ninefold.analytics.findings import described
from ninefold.analytics.metrics.peers import Peers
from ninefold.analytics.metrics.together import Together
from ninefold.model.signal import batch_of

HOSTS, GAUGES, MINUTES, BODY = 5000, 20, 12, 10_000


def large(technique: Together | Peers) -> list[dict[str, Any]]:
    """Speed with 100,000 series, CPU time to learn of them, and the snapshot."""
    about = [described(f"m{j}", "", "gauge", f"host:h{i}", {"host.name": f"h{i}"}, START) for i in range(HOSTS) for j in range(GAUGES)]
    batches = [batch_of("series", "bench", START, about[first : first + BODY]) for first in range(0, len(about), BODY)]
    started = time.process_time()
    for batch in batches:
        technique.process(batch)
    learned = time.process_time() - started
    values = np.random.default_rng(0).normal(50, 5, (MINUTES, len(about)))
    played(technique, about, values[:2], 0)
    started = time.process_time()
    played(technique, about, values[2:], 2)
    rate = values[2:].size / (time.process_time() - started) / 1e6
    started = time.process_time()
    sizes = [len(part) for part in technique.parts()]
    written = time.process_time() - started
    name = f"{technique.name}, {len(about):,} series"
    return [
        {"name": f"{name}: speed", "value": rate, "unit": "M points/CPU-s", "target": "≥ 3"},
        {"name": f"{name}: taking in their descriptions", "value": learned, "unit": "CPU-s", "lower": True},
        {"name": f"{name}: snapshot", "value": sum(sizes) / 1e6, "unit": "MB"},
        {"name": f"{name}: its largest part", "value": max(sizes) / 1e6, "unit": "MB", "target": "≤ 5"},
        {"name": f"{name}: writing it", "value": written, "unit": "CPU-s"},
    ]


def run() -> list[dict[str, Any]]:
    """All figures."""
    return [
        {"name": "together, 200 entities of 15 metrics: speed", "value": speed(Together()), "unit": "M points/CPU-s", "target": "≥ 3"},
        {"name": "peers, 15 groups of 200: speed", "value": speed(Peers()), "unit": "M points/CPU-s", "target": "≥ 3"},
        *large(Together()),
        *large(Peers()),
    ]


if __name__ == "__main__":
    for row in run():
        print(f"| {row['name']} | {row['value']:.4g} {row['unit']} | target {row.get('target', '')} |")
