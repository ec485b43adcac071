"""Templates: typed holes, ids that do not depend on the order of lines, aliases, what surges have in common, what vanishes, forgetting."""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ninefold.analytics.logs.holes import Hole, type_of
from ninefold.analytics.logs.keys import pattern_keys
from ninefold.analytics.logs.known import FORGET_DAYS, Known
from ninefold.analytics.logs.mining import LogTemplates, session_keys
from ninefold.analytics.logs.templates import Miner
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import Batch, batch_of

START = 1_700_000_000 * SECOND // MINUTE * MINUTE
DAY = 1440 * MINUTE


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("17", "int"), ("-3", "int"), ("4.25", "float"), ("1e-5", "float"), ("93%", "percent"), ("10.1.2.3:80", "ip"), ("::1:2", "ip"),
        ("fe80::1ff:fe23:4567:890a", "ip"), ("123e4567-e89b-12d3-a456-426614174000", "uuid"), ("00:1b:44:11:3a:b7", "mac"),
        ("2005-06-17T07:07:00Z", "time"), ("12.5ms", "duration"), ("3 hours", "duration"), ("4.2 GiB", "bytes"), ("17 bytes", "bytes"),
        ("http://a.b/c", "url"), ("/var/log/x", "path"), ("0x7ffe", "hex"), ("66ea0735", "hex"), ("db-1.example.com:5432", "host"),
        ("alice", "word"), ("two words", "text"), ("", "text"),
    ],
)  # fmt: skip
def test_values_have_types(value: str, kind: str) -> None:
    assert type_of(value) == kind


def test_a_hole_counts_different_values_in_any_order() -> None:
    values = [f"user-{i % 300}" for i in range(3000)]
    one, other = Hole(), Hole()
    for value in values:
        one.add(value)
    random.Random(1).shuffle(values)
    for value in values:
        other.add(value)
    assert one.distinct == other.distinct
    assert 100 <= one.distinct <= 900
    assert set(one.values) == set(other.values)
    assert Hole(*one.state()).state() == one.state()
    few = Hole()
    for value in ("7", "8", "7"):
        few.add(value)
    assert (few.type, few.distinct, few.looked, few.examples()) == ("int", 2, 3, ["7", "8"])


@pytest.mark.parametrize(
    ("values", "kind"),
    [(("1", "2.5"), "float"), (("10", "a1b2c3"), "hex"), (("x", "y z"), "text"), (("root", "10.0.0.1"), "word"), ((), "*")],
)
def test_mixed_values_widen_the_type(values: Sequence[str], kind: str) -> None:
    hole = Hole()
    for value in values:
        hole.add(value)
    assert hole.type == kind


def labelled(folder: Path, system: str) -> list[str]:
    path = folder / "logs" / "loghub_2k" / system / f"{system}_2k.log_structured_corrected.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
        return [row["Content"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("system", ["HDFS", "OpenSSH", "Linux", "Zookeeper"])
def test_two_nodes_give_the_same_ids_whatever_the_order(data: Path, system: str) -> None:
    lines = labelled(data, system)
    mixed = random.Random(7).sample(lines, len(lines))
    one, other = Miner(), Miner()
    for first, second in zip(lines, mixed, strict=True):
        one.add(first)
        other.add(second)
    here, there = ({miner.tokens[miner.find(t)]: miner.id(t) for t in range(len(miner.parent))} for miner in (one, other))
    assert all(there[tokens] == identity for tokens, identity in here.items() if tokens in there)
    assert sum(one.id(one.add(line)) == other.id(other.add(line)) for line in lines) >= 0.99 * len(lines)


def test_ids_of_merged_templates_lead_to_the_merged_one() -> None:
    miner = Miner()
    before = [miner.id(miner.add(f"cannot open device {name} now")) for name in ("red", "green", "blue", "pink")]
    template = miner.add("cannot open device black now")
    assert miner.id(template) not in before
    assert {miner.by_id(identity) for identity in (*before, miner.id(template))} == {miner.find(template)}
    assert set(before) <= set(miner.aliases()[miner.find(template)])
    assert miner.by_id("0" * 16) is None


def test_values_are_found_in_the_holes_of_a_merged_template() -> None:
    miner = Miner()
    for name in ("eth_a", "eth_b"):
        template = miner.add(f"device {name} failed after 3 retries at 10.0.0.1")
    assert miner.values(template, "device lo failed after 17 retries at 10.9.8.7") == ["lo", "17", "10.9.8.7"]
    assert miner.values(template, "something else") is None


def learn(known: Known, lines: Sequence[str], at: int) -> list[int]:
    bodies, size = pa.array(lines), len(lines)
    templates, _ = known.learn(pattern_keys(bodies), bodies, np.full(size, at), np.full(size, 9))
    return [known.miner.find(template) for template in templates.tolist()]


def test_templates_nobody_sees_any_more_are_forgotten() -> None:
    known = Known()
    merged = [f"cannot open device {name} now" for name in ("eth_a", "eth_b", "lo_c")]
    learn(known, ["old line one", "old line two of 7", *merged], START)
    late = START + (FORGET_DAYS + 2) * DAY
    (kept, _) = learn(known, [merged[0], "a new line"], late)
    identity, text = known.miner.id(kept), known.text(kept)
    places = known.forget(late // MINUTE, set())
    assert places is not None
    assert (places < 0).sum() == 2
    assert len(known.keys) == len(known.figures) == 4
    number = known.miner.by_id(identity)
    assert number == known.miner.find(int(places[kept]))
    assert known.text(number or 0) == text
    assert learn(known, merged, late) == [number] * 3
    assert known.seen[:, 0].sum() == 3 + 2 + 3
    assert known.forget(late // MINUTE, set()) is None


def log(at: int, body: str, **fields: Any) -> dict[str, Any]:
    return {"time": at, "body": body, "entity": "service:shop", "severity_number": 9} | fields


def events(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows.sort(key=lambda row: row["time"])
    outputs = LogTemplates().process(batch_of("log", "test", rows[-1]["time"], rows))
    return [row for output in outputs if output.signal == "event" for row in output.rows.to_pylist(maps_as_pydicts="lossy")]


def steady(minutes: int, seed: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        log(START + m * MINUTE + int(rng.integers(MINUTE)), f"GET /item/{rng.integers(999)} for {name}", attributes={"customer": name})
        for m in range(minutes)
        for name in rng.choice(["ann", "bob", "cid", "dan", "eve"], rng.poisson(20))
    ]


def test_a_surge_names_what_its_lines_have_in_common() -> None:
    rows = steady(50)
    rows += [
        log(START + 40 * MINUTE + i * SECOND // 5, f"GET /item/{i} for mallory", attributes={"customer": "mallory"}) for i in range(250)
    ]
    (surge,) = [row for row in events(rows) if row["attributes"]["reason"] == "surge" and row["status"] == "firing"]
    assert surge["attributes"]["why"].startswith("customer = mallory in ")
    assert "before in 0%" in surge["body"]


def test_a_surge_of_everybody_names_nobody() -> None:
    rows = steady(50)
    rows += [row | {"time": START + 40 * MINUTE + i * SECOND // 5} for i, row in enumerate(steady(20, 9)[:250])]
    (surge,) = [row for row in events(rows) if row["attributes"]["reason"] == "surge" and row["status"] == "firing"]
    assert surge["attributes"]["why"] == ""


def test_a_regular_line_that_stops_has_vanished_until_it_is_back() -> None:
    beats = [m for m in range(160) if not 100 <= m < 130]
    rows = steady(160) + [log(START + m * MINUTE + 5 * SECOND, "heartbeat of scheduler ok") for m in beats]
    found = [(row["status"], row["title"]) for row in events(rows) if row["attributes"]["reason"] == "vanished"]
    assert [status for status, _ in found] == ["firing", "resolved"]
    assert found[0][1] == "shop no longer logs: heartbeat of scheduler ok"


def test_nothing_vanishes_when_the_whole_entity_falls_quiet_or_a_line_was_never_regular() -> None:
    rng = np.random.default_rng(4)
    rows = steady(100) + [log(START + m * MINUTE, "heartbeat ok") for m in range(100)]
    rows += [row | {"body": f"POST /order/{i}"} for i, row in enumerate(steady(100, 5))]
    rows += [log(START + int(at) * MINUTE, "now and then") for at in np.sort(rng.choice(100, 12, replace=False))]
    rows += [log(START + m * MINUTE, "still here") for m in range(100, 200)]
    assert [row for row in events(rows) if row["attributes"]["reason"] == "vanished"] == []


def test_the_session_of_a_line_is_its_trace_or_the_first_telling_attribute() -> None:
    rows = [
        log(1, "a", trace_id="0af7651916cd43dd8448eb211c80319c", attributes={"session.id": "s1"}),
        log(2, "b", attributes={"request_id": "r1", "session.id": "s1"}),
        log(3, "c", attributes={"x": "y", "session.id": "s1"}),
        log(4, "d", attributes={"request_id": "r1"}),
        log(5, "e"),
    ]
    batch: Batch = batch_of("log", "test", 9, rows)
    keys = session_keys(batch.rows).tolist()
    assert len(set(keys)) == 4
    assert keys[1] == keys[2]
    assert keys[4] == 0
    assert session_keys(batch.rows.slice(2, 2)).tolist() == keys[2:4]


def test_a_technique_that_forgets_templates_goes_on_and_restarts_alike() -> None:
    technique = LogTemplates()
    early = [log(START + i * MINUTE, f"early {word} line", trace_id=f"{i + 1:032x}") for i in range(30) for word in ("one", "two")]
    technique.process(batch_of("log", "test", early[-1]["time"], early))
    for day in (FORGET_DAYS - 5, FORGET_DAYS + 3, FORGET_DAYS + 5):
        rows = [log(START + day * DAY + i * MINUTE, f"late line {i}", trace_id=f"{day * 100 + i:032x}") for i in range(30)]
        technique.process(batch_of("log", "test", rows[-1]["time"], rows))
    assert [row["text"] for row in technique.templates()[0]] == ["late line <int>"]
    assert technique.templates()[0][0]["count"] == 90
    state, again = technique.snapshot(), LogTemplates()
    again.restore(state)
    assert again.snapshot() == state
    assert again.templates() == technique.templates()
