"""kill -9 at any moment loses no acknowledged record and doubles none."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import httpx
import pytest
from served import Program, until

ROUNDS = 6


class Sender(threading.Thread):
    """Sends numbered log records and alerts until the server dies, and remembers what was acknowledged."""

    def __init__(self, program: Program, start: int) -> None:
        super().__init__(daemon=True)
        self.program, self.number = program, start
        self.acknowledged: list[int] = []

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.program.token}"}
        with httpx.Client(base_url=self.program.url, headers=headers, timeout=10, trust_env=False) as http:
            while True:
                self.number += 1
                record = {"timeUnixNano": str(time.time_ns()), "severityNumber": 9, "body": {"stringValue": f"number {self.number}"}}
                resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "chaos"}}]}
                logs = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
                alert = [{"labels": {"alertname": f"chaos{self.number}", "service": "chaos"}, "startsAt": "2026-01-01T00:00:00Z"}]
                try:
                    if http.post("/v1/logs", json=logs).status_code == 200 and http.post("/api/v2/alerts", json=alert).status_code == 200:
                        self.acknowledged.append(self.number)
                except httpx.TransportError:
                    return


@pytest.mark.slow
@pytest.mark.timeout(400)
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

    for stored in (logs, alerts):
        until(lambda stored=stored: acknowledged <= set(stored()), 90, what=f"acknowledged {stored.__name__}")
        numbers = stored()
        assert len(numbers) == len(set(numbers))
    folded = program.get("summary")["alerts"]
    assert folded >= len(acknowledged)
