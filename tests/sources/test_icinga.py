"""Icinga 2: the event stream as a real one sent it, served again by a local server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import pyarrow as pa
import pytest

from ninefold.ground.clock import parse
from ninefold.ground.errors import Refused, Unavailable
from ninefold.sources.icinga import Icinga, perfdata
from ninefold.sources.webhook import Reader

RECEIVED = parse("2026-11-22T14:00:00Z")
CATCH_UP = {
    "results": [{
        "name": "db-1!disk", "attrs": {
            "name": "disk", "host_name": "db-1", "state": 2, "last_hard_state_change": 1795353000.5, "acknowledgement": 1,
            "downtime_depth": 0, "last_check_result": {"output": "DISK CRITICAL", "state": 2},
        },
    }]
}  # fmt: skip


def served(stream: bytes, *, hold: threading.Event | None = None, filters: list[str] | None = None) -> Callable[[peers.Asked], peers.Given]:
    def parts() -> Iterator[bytes]:
        for start in range(0, len(stream), 777):
            yield stream[start : start + 777]
        if hold is not None:
            hold.wait(30)

    def answer(asked: peers.Asked) -> peers.Given:
        if asked.headers.get("authorization") != "Basic dTpw":
            return 401, {}, b"<h1>Unauthorized</h1>"
        if asked.path == "/v1":
            return 200, {}, {"results": [{"user": "u"}]}
        if asked.path == "/v1/events":
            return 200, {}, parts()
        if filters is not None:
            filters.append(asked.json()["filter"])
        return 200, {}, CATCH_UP if asked.path.endswith("services") else {"results": []}

    return answer


def source(url: str, kept: peers.Kept, **more: Any) -> Icinga:
    return Icinga("icinga", Icinga.Config(**{"url": url, "user": "u", "password": "p"} | more), kept.lent())


@pytest.fixture
def stream(data: Path) -> bytes:
    return (data / "payloads/icinga2/event_stream.jsonl").read_bytes()


def events(journal: peers.Journal) -> list[dict[str, Any]]:
    return [Reader("icinga").to_event(row["payload"], RECEIVED) for row in journal.rows("raw")]


def read(stream: bytes, **more: Any) -> peers.Journal:
    """What a source makes of a stream from its beginning to its end."""
    kept, journal, hold = peers.Kept(), peers.Journal(full=1), threading.Event()
    with peers.http_server(served(stream, hold=hold)) as url:
        last = max(json.loads(line)["timestamp"] for line in stream.splitlines() if b'"timestamp"' in line)
        peers.run(peers.while_running(source(url, kept, **more), journal, lambda: kept.position.get("time") == last))
        hold.set()
    return journal


def test_state_changes_notifications_and_acknowledgements_are_one_alert(stream: bytes) -> None:
    passive = [event for event in events(read(stream)) if event["attributes"].get("check") == "passive"]
    assert [(event["title"], event["status"], event["severity"], event["entity"]) for event in passive] == [
        ("passive on web-1 is CRITICAL", "firing", "critical", "host:web-1"),
        ("passive on web-1 is CRITICAL", "firing", "critical", "host:web-1"),
        *[("passive on web-1 acknowledged by aiops: INC-42", "acknowledged", "critical", "host:web-1")] * 2,
        ("passive on web-1 is OK", "resolved", "info", "host:web-1"),
        ("passive on web-1 is OK", "resolved", "info", "host:web-1"),
    ]
    assert len({event["fingerprint"] for event in passive}) == 1
    assert passive[0]["body"] == "CRITICAL checkout 5xx"
    assert passive[0]["time"] == 1795353440720809000


def test_soft_states_only_on_wish_and_downtimes_are_changes(stream: bytes) -> None:
    http = [(event["kind"], event["title"]) for event in events(read(stream)) if event["attributes"].get("check") == "http"]
    assert http[0] == ("change", "downtime added for http on web-1: chg (aiops)")
    assert http[1:] == [("alert", "http on web-1 is CRITICAL"), ("alert", "http on web-1 is OK")]
    soft = [event for event in events(read(stream, soft=True)) if event["attributes"].get("check") == "http"]
    assert len(soft) == len(http) + 1


def test_check_results_are_metrics_in_base_units(stream: bytes) -> None:
    journal = read(stream)
    series = {row["series"]: row for row in journal.rows("series")}
    found = {
        (series[row["series"]]["name"], dict(series[row["series"]]["attributes"]).get("icinga.check")): row
        for row in reversed(journal.rows("metric"))
    }
    point = found["icinga.perf.time", "http"]
    assert (point["value"], point["time"].value) == (0.002484, 1795353440372749000)
    assert found["icinga.perf.size", "http"]["value"] == 148.0
    assert found["icinga.perf.latency", "passive"]["value"] == 3.2
    assert found["icinga.check.state", None]["value"] == 0.0
    assert {(row["name"], row["unit"], row["entity"]) for row in series.values()} >= {
        ("icinga.perf.time", "s", "host:web-1"), ("icinga.perf.size", "By", "host:web-1"), ("icinga.check.latency", "s", "host:web-1"),
    }  # fmt: skip
    assert len(series) == len(journal.rows("series")), "each series is described once"


def test_what_was_missed_is_asked_for_and_the_position_follows_the_journal(stream: bytes) -> None:
    kept, filters = peers.Kept(), list[str]()
    with peers.http_server(served(b"", filters=filters)) as url:
        assert peers.run(peers.crashing(source(url, kept)))
        assert kept.position == {}
        journal = peers.Journal()
        with pytest.raises(Unavailable, match="ended"):
            peers.run(peers.while_running(source(url, kept), journal, lambda: False))
        (event,) = events(journal)
        assert (event["title"], event["status"], event["time"]) == ("disk on db-1 is CRITICAL", "firing", 1795353000500000000)
        with pytest.raises(Unavailable):
            peers.run(peers.while_running(source(url, kept), journal, lambda: False))
        assert filters[-2:] == ["host.last_hard_state_change > 1795353000.5", "service.last_hard_state_change > 1795353000.5"]


def test_a_line_that_is_no_event_is_quarantined(stream: bytes) -> None:
    journal = read(b'no json\n{"a": 1}\n' + stream)
    assert [row["payload"] for row in journal.rows("quarantine")] == [b"no json", b'{"a": 1}']
    assert journal.rows("metric")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"state": 0', '"state": 0, "execution_end": 1e30'),
        ('"state": 0', '"state": 0, "performance_data": ["a=1", {"label": "b"}]'),
        *[("1795353000.5", time) for time in ("1e999", "1e30", "-1", "true", "null")],
    ],
)
def test_a_check_result_that_cannot_be_is_quarantined_whole(old: str, new: str) -> None:
    good = '{"type": "CheckResult", "timestamp": 1795353000.5, "host": "db-1", "check_result": {"state": 0}}'
    bad = good.replace(old, new)
    batches, latest = source("http://127.0.0.1", peers.Kept())._read([bad.encode(), good.encode()], RECEIVED)
    rows = {batch.signal: batch.rows for batch in batches}
    assert rows["quarantine"].column("payload").to_pylist() == [bad.encode()]
    assert rows["metric"].column("time").cast(pa.int64()).to_pylist() == [1795353000500000000]
    assert latest == 1795353000.5


def test_check_says_who_we_are_and_a_wrong_password_is_refused(stream: bytes) -> None:
    with peers.http_server(served(stream)) as url:
        reached = peers.run(source(url, peers.Kept()).check())
        assert "knows us as u; it has 1 problems" in reached.said
        with pytest.raises(Refused, match="401"):
            peers.run(source(url, peers.Kept(), password="x").check())


@pytest.mark.parametrize(("text", "expected"), [
    ("time=0.5s;1;2;0;10", [("p.time", 0.5, "s", "gauge")]),
    ("'/ used'=12MB;;;; 'it''s'=3%", [("p./ used", 12e6, "By", "gauge"), ("p.it's", 3.0, "%", "gauge")]),
    ("rta=1.5ms;; pl=U;; in=7c", [("p.rta", 0.0015, "s", "gauge"), ("p.in", 7.0, "", "counter")]),
    ("a=1,5 b=-2e3 c=", [("p.a", 1.5, "", "gauge"), ("p.b", -2000.0, "", "gauge")]),
    ("nonsense = ; = '", []),
])  # fmt: skip
def test_performance_data(text: str, expected: list[tuple[str, float, str, str]]) -> None:
    assert [(sample.name, sample.value, sample.unit, sample.kind) for sample in perfdata(text, "p.", {}, 0)] == expected
