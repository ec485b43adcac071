"""The process that test_crash.py kills: appends one token after another and says so on standard output.

Usage: store_writer.py URL DATABASE FIRST_TOKEN BEGIN_NS
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa

from ninefold.ground.clock import SECOND
from ninefold.model.signal import METRIC, TIME, Batch, batch_of
from ninefold.store.telemetry import Telemetry

ROWS = 500


def batches(token: int, begin: int) -> list[Batch]:
    """What belongs to a token: the same metric points and log lines every time, over three days, with times no other token has."""
    at = np.arange(ROWS, dtype=np.int64)
    times = begin + (token * ROWS + at) * 1000 - at % 3 * 86400 * SECOND
    columns = [
        pa.array(np.full(ROWS, token, np.uint64)),
        pa.array(times).cast(TIME),
        pa.array(np.random.default_rng(token).normal(size=ROWS)),
    ]
    lines = [{"time": int(time), "entity": "host:a", "body": f"line {time}"} for time in times]
    return [Batch("metric", "test", begin, pa.RecordBatch.from_arrays(columns, schema=METRIC)), batch_of("log", "test", begin, lines)]


def main(url: str, database: str, first: int, begin: int) -> None:
    store = Telemetry(url, database)
    store.open()
    for token in range(first, first + 10_000):
        store.append(batches(token, begin), f"token-{token}")
        print(token, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
