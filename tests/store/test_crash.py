"""kill -9 at any moment: what was acknowledged is there, and repeating the unsure part with its token doubles nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from clickhouse_process import Server
from store_writer import ROWS, batches

from ninefold.ground.clock import now
from ninefold.ground.errors import NinefoldError
from ninefold.store.telemetry import Telemetry

WRITER = Path(__file__).with_name("store_writer.py")


def run_until_killed(url: str, first: int, begin: int, kills: random.Random) -> tuple[int, int]:
    """Append from token `first` on in another process, kill it at a random moment; returns (acknowledged, maybe begun) token ends."""
    command = [sys.executable, str(WRITER), url, "ninefold", str(first), str(begin)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = first
        stop_at = first + kills.randrange(1, 25)
        for line in process.stdout:
            acknowledged = int(line) + 1
            if acknowledged >= stop_at:
                break
        process.kill()
        acknowledged = max([acknowledged, *(int(line) + 1 for line in process.stdout if line.endswith("\n"))])
    return acknowledged, acknowledged + 1


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    url, kills, done = f"chdb://{tmp_path / 'store'}", random.Random(20261122), 0
    begin = now()
    for _ in range(5):
        acknowledged, unsure = run_until_killed(url, done, begin, kills)
        assert acknowledged > done, "the writer never acknowledged anything"
        store = Telemetry(url)
        store.open()
        try:
            for token in range(acknowledged - 1, unsure):  # the last sure one and the one that may have been on its way
                store.append(batches(token, begin), f"token-{token}")
            done = unsure
            for table in ("metric", "log"):
                rows = store.query(f"SELECT count() AS n, uniqExact(time) AS u FROM {table}").to_pylist()[0]
                assert rows == {"n": done * ROWS, "u": done * ROWS}, table
            for table in ("metric_1m", "metric_1h"):
                rows = store.query(f"SELECT sum(count) AS n, round(sum(sum), 6) AS s FROM {table}").to_pylist()[0]
                assert rows == store.query("SELECT count() AS n, round(sum(value), 6) AS s FROM metric").to_pylist()[0], table
        finally:
            store.close()


@pytest.mark.slow
@pytest.mark.real
def test_a_killed_server_loses_nothing(clickhouse_python: str, tmp_path: Path) -> None:
    server = Server(clickhouse_python, tmp_path / "server")
    database = f"test_{uuid.uuid4().hex[:12]}"
    begin = now()
    try:
        store = Telemetry(server.url, database)
        store.open()
        acknowledged = 0
        for token in range(12):
            store.append(batches(token, begin), f"token-{token}")
            acknowledged = token + 1
        server.kill()
        with pytest.raises(NinefoldError):
            store.append(batches(acknowledged, begin), f"token-{acknowledged}")
        server.start()
        for token in range(acknowledged - 1, acknowledged + 1):
            store.append(batches(token, begin), f"token-{token}")
        (rows,) = store.query("SELECT count() AS n FROM metric").to_pylist()
        assert rows == {"n": (acknowledged + 1) * ROWS}
        (rows,) = store.query("SELECT sum(count) AS n FROM metric_1h").to_pylist()
        assert rows == {"n": (acknowledged + 1) * ROWS}
        store.close()
    finally:
        server.kill()
