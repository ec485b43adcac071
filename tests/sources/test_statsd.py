"""StatsD and DogStatsD: sums of an interval value by value, events and checks, limits, both transports."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sockets import Journal, Meters, lent, make, rows, running, send, until

from ninefold.ground.clock import SECOND
from ninefold.model.signal import Decoded
from ninefold.sources import statsd
from ninefold.sources.statsd import Aggregator, Statsd

RECEIVED = 1_780_000_000 * SECOND


def flush(aggregator: Aggregator, time: int = RECEIVED, known: dict[int, Any] | None = None) -> dict[str, float]:
    """name{tags} -> value."""
    decoded = Decoded(aggregator.flush(time, time))
    known = {} if known is None else known
    known.update({row["series"]: row for row in rows(decoded, "series")})
    points = rows(decoded, "metric")
    assert {row["time"] for row in points} <= {time}
    names = {number: row["name"] + "".join(f",{k}={v}" for k, v in row["attributes"]) for number, row in known.items()}
    return {names[row["series"]]: row["value"] for row in points}


def summed(*lines: str) -> dict[str, float]:
    aggregator = Aggregator("statsd")
    decoded = aggregator.fold("\n".join(lines).encode(), RECEIVED)
    assert decoded.batches == [], decoded.reason
    return flush(aggregator)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["a:1|c", "a:2|c", "a:3|c|@0.5"], {"a": 9}),
        (["a:1|c|#env:prod,canary", "a:2|c|#env:test"], {"a,env=prod,canary=true": 1, "a,env=test": 2}),
        (["a:5|g", "a:+2|g", "a:-3|g"], {"a": 4}),
        (["a:-3|g"], {"a": -3}),
        (["a:x|s", "a:y|s", "a:x|s", "a:z:y|s"], {"a": 3}),
        (["a:1:2:3|c|c:container|T1656581400"], {"a": 6}),
        (["a:0|g|@0.1"], {"a": 0}),
    ],
)
def test_counters_gauges_and_sets(lines: list[str], found: dict[str, float]) -> None:
    assert summed(*lines) == found


def test_timers_and_their_percentiles() -> None:
    values = [random.Random(7).lognormvariate(3, 1) for _ in range(2000)]
    found = summed(*(f"t:{value!r}|ms" for value in values))
    exact = sorted(values)
    assert (found["t.count"], found["t.min"], found["t.max"]) == (2000, exact[0], exact[-1])
    assert found["t.sum"] == pytest.approx(sum(values))
    for percent in (50, 95, 99):
        assert found[f"t.p{percent}"] == pytest.approx(exact[percent * 20 - 1], rel=0.003)
    assert summed("d:-4|d", "d:0|d", "d:8|d|@0.1", "d:8|h")["d.p50"] == 8
    assert summed("d:-4|d", "d:0|d", "d:8|d") == {"d.count": 3, "d.sum": 4, "d.min": -4, "d.max": 8, "d.p50": 0, "d.p95": 8, "d.p99": 8}
    assert summed("r:10|ms|@0.25")["r.count"] == 4


def test_an_interval_begins_anew_and_a_gauge_stays() -> None:
    aggregator, known = Aggregator("statsd"), {}  # type: ignore[var-annotated]
    aggregator.fold(b"c:1|c\ng:5|g\ns:x|s\nt:2|ms", RECEIVED)
    first = flush(aggregator, RECEIVED, known)
    assert {row["name"]: (row["kind"], row["unit"]) for row in known.values() if row["name"] in ("c", "g", "s", "t.sum", "t.count")} == {
        "c": ("delta", ""), "g": ("gauge", ""), "s": ("gauge", ""), "t.sum": ("delta", "ms"), "t.count": ("delta", ""),
    }  # fmt: skip
    assert aggregator.flush(RECEIVED + 1, RECEIVED + 1) == []
    aggregator.fold(b"c:1|c\ng:+1|g\ns:x|s\nt:2|ms", RECEIVED)
    batches = aggregator.flush(RECEIVED + 2, RECEIVED)
    assert [batch.signal for batch in batches] == ["metric"], "what is known is not described again"
    names = {number: row["name"] for number, row in known.items()}
    assert {names[row["series"]]: row["value"] for row in rows(Decoded(batches), "metric")} == first | {"g": 6}


@given(st.lists(st.sampled_from(["a:1|c", "a:2|c|@0.5", "b:3|ms", "b:9|ms", "s:x|s", "s:y|s|#t:1"]), max_size=20), st.randoms())
def test_order_and_cuts_do_not_matter(lines: list[str], chance: random.Random) -> None:
    whole, cut = Aggregator("statsd"), Aggregator("statsd")
    whole.fold("\n".join(lines).encode(), RECEIVED)
    shuffled = list(lines)
    chance.shuffle(shuffled)
    for line in shuffled:
        cut.fold(line.encode(), RECEIVED)
    assert flush(whole) == pytest.approx(flush(cut))


@given(st.one_of(st.binary(max_size=60), st.text("_esc{}:|@#,1.5gmsdh\n+-T", max_size=60).map(str.encode)))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    aggregator = Aggregator("statsd")
    rows(aggregator.fold(body, RECEIVED), "event")
    flush(aggregator)


_NAMES = st.text(st.characters(exclude_characters=":|\n\r\0 ,#", exclude_categories=["Cs"]), min_size=1, max_size=4)
_SENT = st.tuples(_NAMES.filter(lambda name: not name.startswith("_")), st.dictionaries(_NAMES, _NAMES, max_size=2))
_BAD = [b"no type", b"a:x|c", b"a:1|q", b"\xff:1|c", b"a:1|c|@2", b"_sc|x|9"]


@given(st.lists(st.one_of(st.tuples(_SENT, st.integers(-9, 9), st.sampled_from("cg")), st.sampled_from(_BAD)), max_size=12))
@settings(max_examples=30, deadline=None)
def test_what_was_sent_comes_out_and_no_bad_line_is_lost(sent: list[Any]) -> None:
    lines, expected = [], dict[tuple[str, str, frozenset[tuple[str, str]]], float]()
    for one in sent:
        if isinstance(one, bytes):
            lines.append(one)
            continue
        (name, tags), value, type_ = one
        value = abs(value) if type_ == "g" else value
        lines.append(f"{name}:{value}|{type_}|#{','.join(f'{k}:{v}' for k, v in tags.items())}".encode())
        key = name, {"c": "delta", "g": "gauge"}[type_], frozenset(tags.items())
        expected[key] = value + (expected.get(key, 0) if type_ == "c" else 0)
    aggregator = Aggregator("statsd")
    decoded = aggregator.fold(b"\n".join(lines), RECEIVED)
    refused = [line for row in rows(decoded, "quarantine") for line in row["payload"].split(b"\n")]
    assert sorted(refused) == sorted(line for line in sent if isinstance(line, bytes))
    assert decoded.rejected == len(refused)
    flushed = Decoded(aggregator.flush(RECEIVED + 1, RECEIVED + 1))
    found = [(row["series"], row["kind"], row["name"], dict(row["attributes"])) for row in rows(flushed, "series")]
    assert {(name, kind, frozenset(tags.items())) for _, kind, name, tags in found} == set(expected)
    values = sorted((row["series"], row["value"]) for row in rows(flushed, "metric"))
    numbers = {(name, kind, frozenset(tags.items())): number for number, kind, name, tags in found}
    assert values == sorted((numbers[key], value) for key, value in expected.items())
    assert {row["time"] for row in rows(flushed, "metric")} <= {RECEIVED + 1}


def test_what_is_wrong_is_set_apart_and_the_rest_is_kept() -> None:
    aggregator = Aggregator("statsd")
    decoded = aggregator.fold(b"a:1|c\nno type\na:x|c\na:nan|g\na:1|q\n\xff:1|c\na:1|c|@2\n:1|c\n_e{3,1}:ab|c\n_sc|x|9\r\n", RECEIVED)
    assert {row["reason"]: row["payload"] for row in rows(decoded, "quarantine")} == {
        "a line is `name:value|type` (2 lines)": b"no type\n:1|c",
        "the value is not a number (2 lines)": b"a:x|c\na:nan|g",
        "the type is none of c, g, s, ms, h, d (1 lines)": b"a:1|q",
        "the name or a tag is not UTF-8 (1 lines)": b"\xff:1|c",
        "the sample rate is not between 0 and 1 (1 lines)": b"a:1|c|@2",
        "an event is `_e{length of title,length of text}:title|text` (1 lines)": b"_e{3,1}:ab|c",
        "a service check is `_sc|name|0, 1, 2 or 3` (1 lines)": b"_sc|x|9",
    }
    assert flush(aggregator) == {"a": 1}


def test_events_and_service_checks() -> None:
    lines = "\n".join((
        "_e{21,27}:An exception occurred|Cannot parse|from\\n10.0.0.1|d:1780000000|h:web-1|p:low|t:warning|k:csv|#err_type:bad_file",
        "_e{6,0}:deploy||#service:shop",
        "_sc|redis|2|d:1780000001|h:db-1|#env:prod|m:timed out|after 10 s",
        "_sc|redis|0|d:1780000002|h:db-1|#env:prod",
    ))  # fmt: skip
    found = rows(Aggregator("statsd").fold(lines.encode(), RECEIVED), "event")
    keys = ("kind", "title", "body", "severity", "severity_raw", "status", "entity", "time")
    assert [tuple(row[key] for key in keys) for row in found] == [
        ("alert", "An exception occurred", "Cannot parse|from\n10.0.0.1", "warning", "warning", "firing", "host:web-1", RECEIVED),
        ("event", "deploy", "", "info", "", "", "service:shop", RECEIVED),
        ("alert", "redis is CRITICAL", "timed out|after 10 s", "critical", "CRITICAL", "firing", "host:db-1", RECEIVED + SECOND),
        ("alert", "redis is OK", "", "info", "OK", "resolved", "host:db-1", RECEIVED + 2 * SECOND),
    ]
    assert dict(found[0]["attributes"]) == {
        "err_type": "bad_file", "host.name": "web-1", "statsd.priority": "low", "statsd.key": "csv",
    }  # fmt: skip
    assert found[2]["fingerprint"] == found[3]["fingerprint"] != found[0]["fingerprint"]
    again = rows(Aggregator("statsd").fold(lines.encode(), RECEIVED + 5), "event")
    assert [row["id"] for row in again if row["kind"] == "alert"] == [row["id"] for row in found if row["kind"] == "alert"]


def test_limits_hold_and_what_they_cost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    aggregator = Aggregator("statsd", limit=2)
    aggregator.fold(b"a:1|c\nb:1|c\nc:1|c\na:1|c", RECEIVED)
    assert (aggregator.dropped, flush(aggregator)) == (1, {"a": 2, "b": 1})
    aggregator.fold(b"c:1|c", RECEIVED)
    assert flush(aggregator) == {"c": 1}
    monkeypatch.setattr(statsd, "_MEMBERS", 10)
    aggregator = Aggregator("statsd")
    aggregator.fold(b"\n".join(b"s:%d|s" % i for i in range(100)) + b"\na:1|c", RECEIVED)
    assert (aggregator.dropped, flush(aggregator)) == (89, {"s": 11, "a": 1})


def test_a_gauge_keeps_its_value_while_there_is_no_room_and_is_forgotten_only_after_long_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsd, "_IDLE", 2)
    aggregator, known = Aggregator("statsd", limit=1), {}  # type: ignore[var-annotated]
    aggregator.fold(b"g:5|g", RECEIVED)
    flush(aggregator, known=known)
    aggregator.fold(b"new:1|c\nnew:1|c\ng:+1|g", RECEIVED)
    assert (aggregator.dropped, aggregator.forgotten, flush(aggregator, known=known)) == (2, 0, {"g": 6})
    for forgotten in (0, 0, 1):
        aggregator.fold(b"new:1|c", RECEIVED)
        assert aggregator.forgotten == forgotten
        found = flush(aggregator, known=known)
    assert found == {"new": 1}


def test_at_the_limit_room_is_sought_once_an_interval() -> None:
    aggregator = Aggregator("statsd", limit=20_000)
    aggregator.fold(b"\n".join(b"a%d:1|c" % i for i in range(20_000)), RECEIVED)
    begin = time.process_time()
    aggregator.fold(b"\n".join(b"b%d:1|c" % i for i in range(2_000)), RECEIVED)
    assert aggregator.dropped == 2_000
    assert time.process_time() - begin < 0.5  # 2,000 rebuilds took 2 s


def test_over_udp_and_tcp_until_the_end() -> None:
    async def scenario() -> None:
        journal, meters = Journal(), Meters()
        async with running(make(Statsd, {"port": 0, "interval_s": 0.05}, lent(meters)), journal) as source:
            send(source.port, b"udp:1|c\nudp:2|c", b"_sc|check|1")
            _, writer = await asyncio.open_connection("127.0.0.1", source.port)
            writer.write(b"tcp:4|c\ntcp:5|")
            await until(lambda: len(journal.rows("metric")) >= 2 and len(journal.rows("event")) == 1)
            writer.write(b"c\nlast:1|c\n")
            await writer.drain()
            await until(lambda: meters["ninefold_statsd_received_total"] >= 4)
            writer.close()
        names = {row["series"]: row["name"] for row in journal.rows("series")}
        sums: dict[str, float] = {}
        for row in journal.rows("metric"):
            sums[names[row["series"]]] = sums.get(names[row["series"]], 0) + row["value"]
        assert sums == {"udp": 3, "tcp": 9, "last": 1}

    asyncio.run(scenario())


def test_a_full_journal_makes_one_longer_interval() -> None:
    async def scenario() -> None:
        journal = Journal()
        journal.open = False
        async with running(make(Statsd, {"port": 0, "interval_s": 0.02}), journal) as source:
            for _ in range(3):
                refused = journal.refused
                send(source.port, b"a:1|c")
                await until(lambda refused=refused: journal.refused > refused + 1)  # type: ignore[misc]
            journal.open = True
            await until(lambda: sum(row["value"] for row in journal.rows("metric")) == 3)

    asyncio.run(scenario())
