"""Resident memory of the whole program with many active series.

``python bench/memory.py`` starts `ninefold serve` with its default limits on a temporary folder, sends every series by Prometheus remote
write (500 metrics of as many hosts as it takes, each point with a value of its own) at four scrapes 15 s apart, waits until all points are
stored and the program is quiet, and reads its resident memory. A million series take some minutes and 1 GB of disk.
"""

from __future__ import annotations

import re
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import cramjam

sys.path.insert(0, str(Path(__file__).resolve().parent))
from end_to_end import framed, server, varint
from ingest import post_all, settled_cpu_s

TICKS, BODY = 4, 10_000
TARGETS = {100_000: None, 1_000_000: 1500}


def labels(i: int) -> bytes:
    """The labels of a series on the wire."""
    pairs = {"__name__": f"metric_{i % 500}", "instance": f"host-{i // 500}:9100", "job": "node", "mode": "user"}
    return b"".join(framed(1, framed(1, k.encode()) + framed(2, v.encode())) for k, v in pairs.items())


def bodies(series: int, time_ms: int, draw: Random) -> Iterator[bytes]:
    """Requests with a point of every series at one time."""
    stamp = b"\x10" + varint(time_ms)
    for first in range(0, series, BODY):
        values = (struct.pack("<d", round(draw.gauss(100, 5), 2)) for _ in range(BODY))
        points = (labels(i) + framed(2, b"\x09" + value + stamp) for i, value in enumerate(values, first))
        yield bytes(cramjam.snappy.compress_raw(b"".join(framed(1, point) for point in points)))


def resident(series: int) -> dict[str, Any]:
    """Memory when so many series are active and the program is quiet."""
    start, draw = int(time.time() * 1000) - TICKS * 15_000, Random(1)
    with server() as one:
        for tick in range(TICKS):
            for body in bodies(series, start + tick * 15_000, draw):
                post_all(one.http, "/api/v1/write", [body])
        asked = "select count() from metric where series in (select series from series where source = 'prometheus')"
        while (stored := one.value(asked)) < series * TICKS:
            time.sleep(2.0)
        settled_cpu_s(one.process.pid)
        time.sleep(15.0)  # what is free is given back every ten seconds
        status = Path(f"/proc/{one.process.pid}/status").read_text()
        peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]
        return {
            "name": f"memory with {series:,} active series", "value": one.memory_mb(), "unit": "MB", "target": TARGETS[series],
            "peer": None, "ratio": None, "lower": True, "note": f"{stored:,} points were sent; at its highest {peak:,.0f} MB",
        }  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All figures."""
    return [resident(series) for series in TARGETS]


if __name__ == "__main__":
    for row in run():
        print(f"| {row['name']} | {row['value']:,.0f} {row['unit']} | target {row['target']} | {row['note']} |")
