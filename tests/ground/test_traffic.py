"""What the Sources page says about a source follows from what came in, and outlives a restart."""

from __future__ import annotations

import threading

import pytest

from ninefold.ground.clock import MINUTE, SECOND
from ninefold.ground.traffic import LIMIT, OTHERS, Traffic
from ninefold.model.signal import Batch, batch_of

AT = 1_800_000_000 * SECOND


def logs(received: int, rows: int = 10, delay_s: float = 0.0, source: str = "syslog") -> Batch:
    return batch_of("log", source, received, [{"time": received - int(delay_s * SECOND), "body": "x"}] * rows)


def test_rows_rates_and_times_by_source_and_signal() -> None:
    traffic = Traffic()
    for second in range(120):
        traffic.record(logs(AT + second * SECOND, rows=5))
    traffic.record(batch_of("raw", "am", AT + 119 * SECOND, [{"format": "alertmanager", "payload": b"{}"}] * 3), "poll")
    am, syslog = traffic.table(AT + 119 * SECOND)
    assert (am.name, am.kind, am.signals["raw"].rows, am.delay_p50_s) == ("am", "poll", 3, None), "a raw record has no time yet"
    assert (syslog.kind, syslog.signals["log"].rows, syslog.first_seen, syslog.last_seen) == ("push", 600, AT, AT + 119 * SECOND)
    assert syslog.signals["log"].rate_per_s == pytest.approx(5, rel=0.1)


def test_delay_is_receipt_minus_event_time() -> None:
    traffic = Traffic()
    for i in range(100):
        traffic.record(logs(AT + i * SECOND, delay_s=30 if i % 20 == 0 else 2))
    (source,) = traffic.table(AT + 100 * SECOND)
    assert source.delay_p50_s == pytest.approx(2)
    assert source.delay_p99_s == pytest.approx(30)


@pytest.mark.parametrize(("age", "state"), [(30 * SECOND, "flowing"), (5 * MINUTE, "quiet"), (60 * MINUTE, "silent")])
def test_state_and_rate_fade(age: int, state: str) -> None:
    traffic = Traffic()
    traffic.record(logs(AT))
    (source,) = traffic.table(AT + age)
    assert source.state == state
    assert (source.signals["log"].rate_per_s > 0) == (age < MINUTE)


def test_a_snapshot_goes_on_after_a_restart() -> None:
    before, after = Traffic(), Traffic()
    before.record(logs(AT, rows=7), "file")
    after.record(logs(AT + MINUTE, rows=1), "file")
    after.record(logs(AT + MINUTE, rows=2, source="new"))
    after.restore(before.snapshot())
    new, old = after.table(AT + MINUTE)
    assert (old.name, old.kind, old.first_seen, old.last_seen, old.signals["log"].rows) == ("syslog", "file", AT, AT + MINUTE, 8)
    assert new.signals["log"].rows == 2


def test_threads_lose_nothing() -> None:
    traffic = Traffic()

    def work(source: str) -> None:
        for i in range(500):
            traffic.record(logs(AT + i * SECOND, rows=2, source=source))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {source.name: source.signals["log"].rows for source in traffic.table(AT)} == {"a": 2000, "b": 1000}


def test_senders_that_make_up_names_are_counted_together() -> None:
    traffic = Traffic()
    for n in range(LIMIT + 50):
        traffic.record(logs(AT, rows=1, source=f"made up {n}"))
    table = {source.name: source for source in traffic.table(AT)}
    assert len(table) <= LIMIT + 1
    assert table[OTHERS].signals["log"].rows == 50
    traffic.record(logs(AT + 60 * MINUTE, rows=3, source="a new one"))
    assert "a new one" in {source.name for source in traffic.table(AT)}, "what has been silent for long makes room"
    after = Traffic()
    after.restore({**traffic.snapshot(), "long ago": {"kind": "push", "first": 0, "last": 0, "rows": {}}})
    assert len(after.table(AT)) == LIMIT


def test_times_ahead_of_their_receipt_are_a_delay_below_zero() -> None:
    traffic = Traffic()
    traffic.record(logs(AT, delay_s=-7200))
    (source,) = traffic.table(AT)
    assert source.delay_p50_s == source.delay_p99_s == pytest.approx(-7200)
