"""Log templates: lines per CPU-second on a warm and on a cold start, and agreement with the labels of Loghub-2k.

The stream is the labelled lines of eight systems, interleaved, with every number redrawn; the peer is the miner most people
write first, in the same process: mask each line with a chain of regular expressions, look the rest up in a dictionary.
GA (lines in exactly right groups) and FGA (F1 of groups) as Loghub-2.0 defines them, mean of the eight systems, one configuration.

    python bench/logs.py        prints a Markdown table
"""

from __future__ import annotations

import csv
import gzip
import os
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ninefold.analytics import warm
from ninefold.analytics.keys import numpy_keys
from ninefold.analytics.logs import LogTemplates, mine, pattern_keys
from ninefold.analytics.templates import Miner
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import LOG, Batch

DATA = Path(os.environ.get("NINEFOLD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SYSTEMS = ("Apache", "BGL", "HDFS", "Hadoop", "HealthApp", "Linux", "OpenSSH", "Zookeeper")
START = 1_700_000_000 * SECOND // MINUTE * MINUTE
BATCH, REPEATS = 8_000, 12
_CHAIN = [
    re.compile(pattern)
    for pattern in (
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?",
        r"/?\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?",
        r"(?:/[\w.-]+){2,}",
        r"\b0x[0-9a-fA-F]+\b",
        r"\b(?=\w*\d)[0-9a-fA-F]{6,}\b",
        r"(?<![A-Za-z])[-+]?\d+(?:\.\d+)?",
    )
]


def plain(lines: Sequence[str]) -> list[int]:
    """The peer's template of each line."""
    known: dict[str, int] = {}
    found = []
    for line in lines:
        masked = line
        for pattern in _CHAIN:
            masked = pattern.sub("<*>", masked)
        found.append(known.setdefault(masked, len(known)))
    return found


def labelled(system: str) -> tuple[list[str], list[str]]:
    """Lines and their true templates (corrected labels)."""
    path = DATA / "logs" / "loghub_2k" / system / f"{system}_2k.log_structured_corrected.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["Content"] for row in rows], [row["EventTemplate"] for row in rows]


def agreement(found: Sequence[Hashable], truth: Sequence[Hashable]) -> tuple[float, float]:
    """GA and FGA."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    true: dict[Hashable, list[int]] = defaultdict(list)
    for i, (ours, theirs) in enumerate(zip(found, truth, strict=True)):
        groups[ours].append(i)
        true[theirs].append(i)
    right = {tuple(rows) for rows in true.values()}
    hits = [rows for rows in groups.values() if tuple(rows) in right]
    return sum(map(len, hits)) / len(found), 2 * len(hits) / (len(groups) + len(true))


def accuracy() -> list[dict[str, Any]]:
    """Mean agreement with the labels."""
    ours, theirs = [], []
    for system in SYSTEMS:
        lines, truth = labelled(system)
        ours.append(agreement(mine(lines), truth))
        theirs.append(agreement(plain(lines), truth))
    (ga, fga), (peer_ga, peer_fga) = np.mean(ours, axis=0), np.mean(theirs, axis=0)
    return [figure("grouping accuracy (GA)", ga, "share", 0.93, peer_ga), figure("F1 of groups (FGA)", fga, "share", 0.92, peer_fga)]


def stream() -> list[pa.StringArray]:
    """Batches of lines: all systems interleaved, every run of digits redrawn."""
    rng = random.Random(5)
    lines = [line for system in SYSTEMS for line in labelled(system)[0]]
    rng.shuffle(lines)

    def redraw(match: re.Match[str]) -> str:
        return "".join(rng.choices("0123456789", k=len(match.group())))

    drawn = [re.sub(r"\d+", redraw, line) for _ in range(REPEATS) for line in lines]
    return [pa.array(drawn[i : i + BATCH]) for i in range(0, len(drawn), BATCH)]


def records(bodies: pa.StringArray, at: int) -> Batch:
    """Log rows as a receiver makes them, keys not yet known."""
    size = len(bodies)
    empty, none = pa.array([""] * size), pa.array([[]] * size, LOG.field("attributes").type)
    times = pa.array(np.linspace(at, at + MINUTE - 1, size).astype(np.int64), LOG.field("time").type)
    columns = {
        "vnode": pa.array(np.zeros(size, np.uint16)), "time": times, "received": times, "source": empty,
        "entity": pa.array(["service:a", "service:b"] * (size // 2)), "severity_number": pa.array(np.full(size, 9, np.uint8)),
        "severity_text": empty, "body": bodies, "pattern": pa.array(np.zeros(size, np.uint64)), "trace_id": empty, "span_id": empty,
        "attributes": none, "resource": none,
    }  # fmt: skip
    return Batch("log", "bench", at + MINUTE, pa.RecordBatch.from_arrays([columns[name] for name in LOG.names], schema=LOG))


def rate(work: Callable[[], object], lines: int) -> float:
    """Lines per CPU-second of one call."""
    started = time.process_time()
    work()
    return lines / (time.process_time() - started)


def slowest() -> float:
    """Milliseconds of the slowest of some long lines, best of three each."""
    worst = 0.0
    for unit in ("word ", "a.b ", "10.0.0.1:80 ", "/usr/lib/x", "id=7f3a9c ", '{"k":"v","n":1},', "x-1."):
        miner, best = Miner(), 1.0
        for end in "abc":
            started = time.thread_time()
            miner.add(unit * (10_000 // len(unit)) + end)
            best = min(best, time.thread_time() - started)
        worst = max(worst, best)
    return worst * 1000


def figure(name: str, value: float, unit: str, target: float | None, peer: float | None = None, *, lower: bool = False) -> dict[str, Any]:
    """One row of the results."""
    return {
        "name": name, "value": float(value), "unit": unit, "target": target, "peer": peer, "ratio": value / peer if peer else None,
        "lower": lower,
    }  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All figures; the peer's are in the same unit."""
    warm.warm()
    batches = stream()
    lines = sum(map(len, batches))
    naive = rate(lambda: plain(batches[0].to_pylist()), BATCH)
    rows = [records(bodies, START + i * MINUTE // 4) for i, bodies in enumerate(batches)]
    technique = LogTemplates()

    def all_rows() -> None:
        for batch in rows:
            technique.process(batch)

    def fallback() -> None:
        for bodies in batches:
            text = bodies.cast(pa.large_string())
            _, offsets, data = text.buffers()
            numpy_keys(np.frombuffer(data, np.uint8), np.frombuffer(offsets, np.int64, len(text) + 1))

    cold = rate(all_rows, lines)
    keys = int(technique.templates().num_rows)
    return [
        figure("pattern keys, compiled scan", rate(lambda: [pattern_keys(bodies) for bodies in batches], lines), "lines/CPU-s", 3_000_000),
        figure("pattern keys, before anything is compiled", rate(fallback, lines), "lines/CPU-s", 100_000),
        figure("keys, templates, counts, cold", cold, "lines/CPU-s", 300_000, naive),
        figure("the same, all keys known", rate(all_rows, lines), "lines/CPU-s", 1_000_000, naive),
        figure("miner alone, no keys", rate(lambda: mine(batches[0].to_pylist()), BATCH), "lines/CPU-s", None, naive),
        figure(
            f"templates of {lines:,} lines with {keys:,} keys",
            len(set(technique.templates().column("template").to_pylist())),
            "templates",
            None,
        ),
        figure("slowest line of 10 kB", slowest(), "ms", 1.0, lower=True),
        *accuracy(),
    ]


def main() -> None:
    """Print the table."""
    print("| figure | here | unit | target | plain masks | ratio |\n|---|---:|---|---:|---:|---:|")
    for row in run():
        value, target, peer = (
            "" if row[key] is None else f"{row[key]:,.0f}" if row[key] >= 1000 else f"{row[key]:.3g}" for key in ("value", "target", "peer")
        )
        ratio = f"{row['ratio']:.2f}×" if row["ratio"] else ""
        print(f"| {row['name']} | {value} | {row['unit']} | {'≤ ' if row['lower'] and target else ''}{target} | {peer} | {ratio} |")


if __name__ == "__main__":
    main()
