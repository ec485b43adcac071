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
from ninefold.analytics.logs.keys import numpy_keys
from ninefold.analytics.logs.known import Known
from ninefold.analytics.logs.masking import Masking
from ninefold.analytics.logs.mining import LogTemplates, mine, pattern_keys
from ninefold.analytics.logs.templates import Miner
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import LOG, Batch

DATA = Path(os.environ.get("NINEFOLD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SYSTEMS = ("Apache", "BGL", "HDFS", "Hadoop", "HealthApp", "Linux", "OpenSSH", "Zookeeper")
START = 1_700_000_000 * SECOND // MINUTE * MINUTE
BATCH, REPEATS = 8_000, 12
BATCHES_A_MINUTE = 60
"""How fast the lines come in event time: 8,000 a second."""
PASSES, MILLION = 3, 63
"""How often the warm stream is repeated, so that minutes end in it."""
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


def stream(repeats: int = REPEATS) -> list[pa.StringArray]:
    """Batches of lines: so many times all systems interleaved, every run of digits redrawn."""
    rng = random.Random(5)
    lines = [line for system in SYSTEMS for line in labelled(system)[0]]
    rng.shuffle(lines)

    def redraw(match: re.Match[str]) -> str:
        return "".join(rng.choices("0123456789", k=len(match.group())))

    drawn = [re.sub(r"\d+", redraw, line) for _ in range(repeats) for line in lines]
    return [pa.array(drawn[i : i + BATCH]) for i in range(0, len(drawn), BATCH)]


def records(bodies: pa.StringArray, at: int) -> Batch:
    """Log rows as a receiver makes them, keys not yet known."""
    size = len(bodies)
    empty, none = pa.array([""] * size), pa.array([[]] * size, LOG.field("attributes").type)
    times = pa.array(np.linspace(at, at + MINUTE // BATCHES_A_MINUTE - 1, size).astype(np.int64), LOG.field("time").type)
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


def resident() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(batches: Sequence[pa.StringArray]) -> float:
    """Megabytes that a table of 100,000 keys and what they lead to take: every line ends in a word of its own."""
    rng, known = random.Random(8), Known()
    lines = [f"{line} by {''.join(rng.choices('abcdefghijklmnopqrst', k=9))}" for some in batches for line in some.to_pylist()][:100_000]
    keys = [(pattern_keys(pa.array(lines[i : i + BATCH])), pa.array(lines[i : i + BATCH])) for i in range(0, len(lines), BATCH)]
    zeros, before = np.zeros(BATCH, np.int64), resident()
    for some, bodies in keys:
        known.learn(some, bodies, zeros[: len(some)], zeros[: len(some)])
    return (resident() - before) / len(known.keys) * 100_000 / 1e6


def changed(batches: Sequence[pa.StringArray]) -> float:
    """The share of lines that get another template when they are read again and no key is remembered."""
    known = Known()

    def learn() -> np.ndarray[Any, Any]:
        zeros = np.zeros(BATCH, np.int64)
        return np.concatenate([known.learn(pattern_keys(some), some, zeros[: len(some)], zeros[: len(some)])[0] for some in batches])

    first = learn()
    first = known.roots()[first]
    known.keep(np.arange(0))
    again = learn()
    return float(np.mean(known.roots()[first] != known.roots()[again]))


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
    technique = LogTemplates()
    minutes = [
        [records(bodies, START + (part * len(batches) + i) * MINUTE // BATCHES_A_MINUTE) for i, bodies in enumerate(batches)]
        for part in range(1 + PASSES)
    ]

    def process(*parts: int) -> None:
        for batch in (batch for part in parts for batch in minutes[part]):
            technique.process(batch)

    def fallback() -> None:
        for bodies in batches:
            text = bodies.cast(pa.large_string())
            _, offsets, data = text.buffers()
            numpy_keys(np.frombuffer(data, np.uint8), np.frombuffer(offsets, np.int64, len(text) + 1))

    cold = rate(lambda: process(0), lines)
    keys = len(technique._known.keys)
    masks = Masking("secrets"), Masking("personal")
    return [
        figure("pattern keys, compiled scan", rate(lambda: [pattern_keys(bodies) for bodies in batches], lines), "lines/CPU-s", 3_000_000),
        figure("pattern keys, before anything is compiled", rate(fallback, lines), "lines/CPU-s", 100_000),
        figure("keys, templates, counts, cold", cold, "lines/CPU-s", 300_000, naive),
        figure(
            "the same, all keys known",
            rate(lambda: process(*range(1, 1 + PASSES)), PASSES * lines),
            "lines/CPU-s",
            1_000_000,
            naive,
        ),
        figure("miner alone, no keys", rate(lambda: mine(batches[0].to_pylist()), BATCH), "lines/CPU-s", None, naive),
        figure(
            f"templates of {lines:,} lines with {keys:,} keys",
            technique.templates(limit=0)[1],
            "templates",
            None,
        ),
        figure("memory of 100,000 keys", memory(batches), "MB", 200, lower=True),
        figure("lines of a million whose template changes on a replay", changed(stream(MILLION)), "share", 0.005, lower=True),
        figure("secrets looked for", rate(lambda: [masks[0].texts(bodies) for bodies in batches], lines), "lines/CPU-s", 1_000_000),
        figure(
            "secrets and personal data looked for",
            rate(lambda: [masks[1].texts(bodies) for bodies in batches], lines),
            "lines/CPU-s",
            200_000,
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
