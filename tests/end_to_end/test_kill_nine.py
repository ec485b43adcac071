"""kill -9 at any moment of mixed traffic loses no acknowledged record and doubles none. NINEFOLD_KILLS says how often (6)."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served import Program, until

ROUNDS = int(os.environ.get("NINEFOLD_KILLS", "6"))


class Sender(threading.Thread):
    """Sends numbered log records, points, spans and alerts until the server dies, and remembers what was acknowledged."""

    def __init__(self, program: Program, start: int) -> None:
        super().__init__(daemon=True)
        self.program, self.number = program, start
        self.acknowledged: list[int] = []

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.program.token}"}
        with httpx.Client(base_url=self.program.url, headers=headers, timeout=10, trust_env=False) as http:
            while True:
                self.number += 1
                try:
                    if all(http.post(path, json=body).status_code == 200 for path, body in self._bodies()):
                        self.acknowledged.append(self.number)
                except httpx.TransportError:
                    return

    def _bodies(self) -> Iterator[tuple[str, Any]]:
        number, at = self.number, str(time.time_ns())
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "chaos"}}]}
        log = {"timeUnixNano": at, "severityNumber": 9, "body": {"stringValue": f"number {number}"}}
        point = {"timeUnixNano": at, "asDouble": number}
        span = {
            "traceId": f"{number + 1:032x}",
            "spanId": f"{number + 1:016x}",
            "name": "chaos",
            "startTimeUnixNano": at,
            "endTimeUnixNano": at,
        }
        metric = {"name": "chaos", "gauge": {"dataPoints": [point]}}
        yield "/v1/logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [log]}]}]}
        yield "/v1/metrics", {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}
        yield "/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
        yield "/api/v2/alerts", [{"labels": {"alertname": f"chaos{number}", "service": "chaos"}, "startsAt": "2026-01-01T00:00:00Z"}]


@pytest.mark.slow
@pytest.mark.timeout(400 + 10 * ROUNDS)
def test_kill_9_at_any_moment(make_program: Any) -> None:
    program: Program = make_program()
    acknowledged: set[int] = set()
    for round_ in range(ROUNDS):
        program.start()
        senders = [Sender(program, round_ * 1_000_000 + i * 100_000) for i in range(3)]
        for sender in senders:
            sender.start()
        wanted = random.randint(20, 150)
        until(lambda senders=senders, wanted=wanted: sum(len(s.acknowledged) for s in senders) >= wanted, what="traffic")
        program.kill()
        for sender in senders:
            sender.join()
            acknowledged |= set(sender.acknowledged)
    program.start()

    # What was under way at a kill may be stored without an answer, so only the acknowledged numbers themselves say when all is there.
    def logs() -> list[int]:
        return [int(row[0].split()[1]) for row in program.query("select body from log where entity = 'service:chaos'")]

    def alerts() -> list[int]:
        return [int(row[0].removeprefix("chaos")) for row in program.query("select title from event final where kind = 'alert'")]

    def points() -> list[int]:
        return [
            int(row[0]) for row in program.query("select value from metric m join series s on m.series = s.series where s.name = 'chaos'")
        ]

    def spans() -> list[int]:
        return [int(row[0], 16) - 1 for row in program.query("select span_id from span where name = 'chaos'")]

    for stored in (logs, points, spans, alerts):
        until(lambda stored=stored: acknowledged <= set(stored()), 90, what=f"acknowledged {stored.__name__}")
        numbers = stored()
        assert len(numbers) == len(set(numbers))
    folded = program.get("summary")["alerts"]
    assert folded >= len(acknowledged)
