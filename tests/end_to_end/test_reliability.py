"""The whole program on a full disk and before a store that stands still: what was acknowledged is kept once, senders are told to wait,
and nobody has to start anything again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Program, until

ROOT = Path(__file__).resolve().parents[2]
CLICKHOUSE = os.environ.get("NINEFOLD_CLICKHOUSE_PYTHON", str(ROOT / ".venv-clickhouse" / "bin" / "python"))


class Sender:
    """Sends numbered log records and remembers which were acknowledged."""

    def __init__(self, program: Program, size: int = 50) -> None:
        self.program, self.size, self.number = program, size, 0
        self.acknowledged: set[int] = set()

    def send(self) -> httpx.Response:
        """One request of `size` records; what is refused is not sent again."""
        numbers = range(self.number, self.number + self.size)
        self.number += self.size
        records = [
            {"timeUnixNano": str(time.time_ns()), "severityNumber": 9, "body": {"stringValue": f"number {number} {os.urandom(200).hex()}"}}
            for number in numbers
        ]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "reliable"}}]}
        answer = self.program.http.post("/v1/logs", json={"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]})
        if answer.status_code == 200:
            self.acknowledged |= set(numbers)
        return answer

    def refused(self) -> httpx.Response | None:
        """An answer of 503, if the next request brings one."""
        answer = self.send()
        assert answer.status_code in (200, 503), answer.text
        return answer if answer.status_code == 503 else None

    def stored(self) -> list[int]:
        """The numbers the store has."""
        rows = self.program.query("select splitByChar(' ', body)[2] from log where entity = 'service:reliable'")
        return sorted(int(row[0]) for row in rows)

    def expect_all(self, timeout_s: float = 60) -> None:
        """Everything acknowledged is there, and no number twice."""
        until(lambda: self.acknowledged <= set(self.stored()), timeout_s, "all that was acknowledged in the store")
        stored = self.stored()
        assert len(stored) == len(set(stored))


def ready(program: Program) -> str:
    """What /-/ready complains about; empty when it is ready."""
    answer = program.http.get("/-/ready")
    return "" if answer.status_code == 200 else answer.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_left_behind(make_program: Any, small_disk: Path) -> None:
    program: Program = make_program(data=str(small_disk / "data")).start()
    sender = Sender(program)
    for _ in range(20):
        assert sender.send().status_code == 200
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
    refusal = until(sender.refused, 30, "the refusal on a full disk")
    assert int(refusal.headers["retry-after"]) >= 1
    assert "disk" in refusal.text
    until(lambda: "disk" in ready(program), 30, "/-/ready to name the disk")
    for _ in range(5):  # what is left of the disk may take some, and some may be taken by halves
        sender.refused()
    ballast.unlink()
    until(lambda: sender.send().status_code == 200, 30, "the recovery")
    for _ in range(10):
        assert sender.send().status_code == 200
    sender.expect_all()
    until(lambda: not ready(program), 60, "/-/ready to be content")


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[Any]:
    """A ClickHouse server of this test's own, which may be stopped and continued."""
    if not Path(CLICKHOUSE).exists():
        pytest.skip("no ClickHouse server: see tests/store/clickhouse_server.py")
    sys.path.append(str(ROOT / "tests" / "store"))
    from clickhouse_process import Server

    server = Server(CLICKHOUSE, tmp_path / "clickhouse")
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.kill()


@pytest.mark.slow
@pytest.mark.real
def test_a_store_that_stands_still_is_waited_for(make_program: Any, clickhouse: Any) -> None:
    url = f"http://default:@127.0.0.1:{clickhouse.port}"
    program: Program = make_program(store={"url": url}, journal={"size_limit_bytes": 3_000_000}).start()
    sender = Sender(program)
    assert sender.send().status_code == 200
    sender.expect_all()
    clickhouse.process.send_signal(signal.SIGSTOP)
    for _ in range(20):  # the journal takes what the store does not
        assert sender.send().status_code == 200
    refusal = until(sender.refused, 60, "the refusal by a full journal")
    assert "store" in refusal.text
    assert int(refusal.headers["retry-after"]) >= 1
    lag = [
        line for line in program.http.get("/metrics").text.splitlines() if line.startswith('ninefold_journal_lag_batches{reader="store"}')
    ]
    assert float(lag[0].split()[-1]) >= 20
    assert "store" in until(lambda: ready(program), 30, "/-/ready to name the store")
    clickhouse.process.send_signal(signal.SIGCONT)
    until(lambda: sender.send().status_code == 200, 60, "the recovery")
    sender.expect_all()
    until(lambda: not ready(program), 60, "/-/ready to be content")
