"""Log analytics: keys that do not see numbers, templates that match the labels, events and series that do not depend on cutting."""

from __future__ import annotations

import csv
import gzip
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics import warm
from ninefold.analytics.logs import log_findings
from ninefold.analytics.logs.keys import numpy_keys, text_keys
from ninefold.analytics.logs.mining import LogTemplates, mine, pattern_keys
from ninefold.analytics.logs.surges import Surge, Surges
from ninefold.analytics.logs.templates import Miner, mask
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, batch_of

SYSTEMS = ("Apache", "BGL", "HDFS", "Hadoop", "HealthApp", "Linux", "OpenSSH", "Zookeeper")
START = 1_700_000_000 * SECOND // MINUTE * MINUTE


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    warm.warm()


def without_compiler(lines: Sequence[str | None]) -> list[int]:
    text = pa.array(lines, pa.large_string()).fill_null("")
    _, offsets, data = text.buffers()
    edges = np.frombuffer(offsets, np.int64, len(lines) + 1)
    return numpy_keys(np.frombuffer(data or b"", np.uint8), edges).tolist()


WORDS = st.sampled_from(
    ["user", "0x1f", "0x", "a0xff", "deadbeef", "dead1", "12", "1a2x", "é1", "x7", "-", " ", "=", "10.0.0.1", "00x1", "\n"]
)
LINES = st.lists(st.one_of(st.text(), st.lists(WORDS).map("".join), st.none()), min_size=1)


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_both_forms_of_the_scan_give_the_same_keys(lines: list[str | None]) -> None:
    encoded = [line if line is None else line.encode("utf-8", "replace").decode() for line in lines]
    assert pattern_keys(pa.array(encoded, pa.string())).tolist() == without_compiler(encoded)


def test_long_lines_and_blocks_have_the_same_keys_in_both_forms() -> None:
    rng = random.Random(3)
    lines = ["".join(rng.choices("abc1 -x0\u00e9", k=rng.choice((0, 5, 80, 4095, 4096, 9000)))) for _ in range(400)]
    assert pattern_keys(pa.array(lines)).tolist() == without_compiler(lines)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("user 12 took 5 ms", "user 7 took 88123 ms", True),
        ("id=0x1f", "id=0xdeadbeef12", True),
        ("trace 66ea073509f4c213 ok", "trace 12aa073509f4c2ff ok", True),
        ("10.0.0.1:80 up", "192.168.7.13:8080 up", True),
        ("host-12a up", "host-7a up", True),
        ("user logged in", "user logged out", False),
        ("user logged in", "user1 logged in", False),
        ("a b", "a  b", False),
        ("", " ", False),
    ],
)
def test_a_key_sees_words_and_not_numbers(one: str, other: str, same: bool) -> None:
    first, second = pattern_keys(pa.array([one, other])).tolist()
    assert (first == second) is same
    assert first != 0
    assert second != 0


def test_keys_of_slices_chunks_and_large_text_are_those_of_the_lines() -> None:
    lines = [f"line {i} of part {'ab'[i % 2]}" for i in range(50)] + [""]
    whole = pattern_keys(pa.array(lines))
    assert (pattern_keys(pa.array(lines).slice(7, 20)) == whole[7:27]).all()
    assert (pattern_keys(pa.chunked_array([lines[:9], lines[9:]])) == whole).all()
    assert (pattern_keys(pa.array(lines, pa.large_string())) == whole).all()
    assert len(pattern_keys(pa.array([], pa.string()))) == 0


@settings(deadline=None)
@given(st.lists(st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace").decode())))
def test_id_keys_are_equal_exactly_for_equal_texts(texts: list[str]) -> None:
    keys = text_keys(pa.array(texts, pa.string())).tolist()
    by_text: dict[str, int] = dict(zip(texts, keys, strict=True))
    assert [by_text[text] for text in texts] == keys
    assert len(set(by_text.values())) == len(by_text)
    assert all((key == 0) == (text == "") for text, key in by_text.items())


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("at 2005-06-17T07:07:00.123Z from 10.1.2.3:80", "at <*> from <*>"),
        ("Fri Jun 17 07:07:00 2005 up", "<*> up"),
        ("GET http://a.b/c?d=1 took 12.5ms", "GET <*> took <*>"),
        ("mac 00:1b:44:11:3a:b7, file /var/log/messages.1", "mac <*>, file <*>"),
        ("id 123e4567-e89b-12d3-a456-426614174000 at 0x7ffe", "id <*> at <*>"),
        ("read 67108864 bytes, 4.2 GiB free, 93%", "read <*>, <*> free, <*>"),
        ("peer fe80::1ff:fe23:4567:890a left", "peer <*> left"),
        ("db-1.example.com:5432 refused", "<*> refused"),
        ("plain words stay, ssh2 too", "plain words stay, ssh2 too"),
    ],
)
def test_typed_values_are_masked(line: str, masked: str) -> None:
    assert mask(line) == masked


def labelled(folder: Path, system: str) -> tuple[list[str], list[str]]:
    path = folder / "logs" / "loghub_2k" / system / f"{system}_2k.log_structured_corrected.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["Content"] for row in rows], [row["EventTemplate"] for row in rows]


def grouping_accuracy(found: Sequence[int], truth: Sequence[str]) -> tuple[float, float]:
    """GA (share of lines in groups that are exactly right) and FGA (F1 of groups), as Loghub-2.0 defines them."""
    groups: dict[int, list[int]] = defaultdict(list)
    true: dict[str, list[int]] = defaultdict(list)
    for i, (ours, theirs) in enumerate(zip(found, truth, strict=True)):
        groups[ours].append(i)
        true[theirs].append(i)
    right = {tuple(rows) for rows in true.values()}
    hits = [rows for rows in groups.values() if tuple(rows) in right]
    return sum(map(len, hits)) / len(found), 2 * len(hits) / (len(groups) + len(true))


def by_key(lines: list[str]) -> list[int]:
    """Templates as the stream finds them: only a key's first line reaches the miner."""
    miner, known = Miner(), {}
    keys = pattern_keys(pa.array(lines)).tolist()
    for key, line in zip(keys, lines, strict=True):
        if key not in known:
            known[key] = miner.add(line)
    return [miner.find(known[key]) for key in keys]


@pytest.mark.parametrize("find", [mine, by_key], ids=["every line", "by key"])
def test_templates_agree_with_the_labels_of_eight_systems(data: Path, find: object) -> None:
    scores = []
    for system in SYSTEMS:
        lines, truth = labelled(data, system)
        scores.append(grouping_accuracy(find(lines), truth))  # type: ignore[operator]
        print(f"{system:10} GA {scores[-1][0]:.3f} FGA {scores[-1][1]:.3f}")
    ga, fga = np.mean(scores, axis=0)
    print(f"mean GA {ga:.3f} FGA {fga:.3f}")
    assert ga >= 0.93
    assert fga >= 0.92


def test_mining_is_deterministic_and_its_lines_bring_the_miner_back(data: Path) -> None:
    lines = labelled(data, "OpenSSH")[0]
    first, again = Miner(), Miner()
    ids = [first.add(line) for line in lines]
    for line in first.examples:
        again.add(line)
    assert len(again.parent) == len(first.parent)
    assert [again.find(again.add(line)) for line in lines] == [first.find(i) for i in ids]


def test_merged_templates_stay_resolvable_and_say_where_values_vary() -> None:
    miner = Miner()
    ids = [miner.add(f"cannot open device {name} now") for name in ("eth_a", "eth_b", "lo_c")]
    assert {miner.find(i) for i in ids} == {ids[0]}
    assert miner.text(ids[2]) == "cannot open device <*> now"
    assert miner.find(miner.add("cannot close device eth_a now")) != ids[0]


def test_past_its_limit_the_miner_counts_the_rest_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Miner, "LIMIT", 4)
    miner = Miner()
    ids = [miner.add(text) for text in ("ape", "bee", "cat", "dog", "eel", "ape")]
    assert ids == [0, 1, 2, 3, 3, 0]


@pytest.mark.parametrize(
    "unit", ["a", "1", "1.", "a-", "/a", ":", "f:", "0x", "Jan 1 ", "Mon, ", "a ", "10.0.0.1:80 ", "h-1.", "+1e", "http://", "ab-cd."]
)
def test_no_line_is_slow(unit: str) -> None:
    line, miner, best = unit * (10_000 // len(unit)), Miner(), 1.0
    for end in ("x", "y", "z"):
        started = time.thread_time()
        miner.add(line + end)
        best = min(best, time.thread_time() - started)
    assert best < 0.02


def log(time_ns: int, body: str, entity: str = "service:shop", number: int = 9) -> dict[str, object]:
    return {"time": time_ns, "body": body, "entity": entity, "severity_number": number, "pattern": 0}


def traffic(minutes: int, seed: int = 1) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    rows = []
    for minute in range(minutes):
        at = START + minute * MINUTE
        for _ in range(rng.poisson(20)):
            rows.append(log(at + int(rng.integers(MINUTE)), f"order {rng.integers(9999)} placed in {rng.integers(80)} ms"))
        for _ in range(rng.poisson(4)):
            rows.append(log(at + int(rng.integers(MINUTE)), f"slow query {rng.integers(99)}", "service:db", 13))
        if minute == 30:
            rows += [log(at + i * SECOND, f"payment {i} refused by bank {i}", "service:shop", 17) for i in range(40)]
        if minute == 40:
            rows += [log(at + i * SECOND // 8, f"slow query {i}", "service:db", 13) for i in range(300)]
    return sorted(rows, key=lambda row: row["time"])  # type: ignore[arg-type, return-value]


def orders(minutes: int, seed: int = 2) -> list[dict[str, object]]:
    """Lines of orders, each with an id; from minute 30 on many are never shipped."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(minutes * 8):
        at = START + number * MINUTE // 8
        steps = ["cart opened", f"paid {rng.integers(99)} EUR", "parcel packed", "parcel shipped"]
        for i, step in enumerate(steps if number < 240 or rng.random() < 0.5 else steps[:2]):
            trace = f"{number + 1:032x}"
            rows.append(log(at + i * SECOND, step, "service:orders") | {"trace_id": trace, "attributes": {"shop": f"s{number % 3}"}})
    return rows


def play(technique: LogTemplates, batches: Sequence[Batch]) -> list[Batch]:
    return [output for batch in batches for output in technique.process(batch)]


def rows_of(outputs: Sequence[Batch], signal: str) -> list[dict[str, object]]:
    found = [row for output in outputs if output.signal == signal for row in output.rows.to_pylist(maps_as_pydicts="lossy")]
    return sorted(found, key=repr)


def cut(rows: Sequence[dict[str, object]], size: int) -> list[Batch]:
    received = int(rows[-1]["time"])  # type: ignore[call-overload]
    return [batch_of("log", "test", received, rows[i : i + size]) for i in range(0, len(rows), size)]


def test_a_new_error_and_a_surge_become_events_and_resolve() -> None:
    events = rows_of(play(LogTemplates(), cut(traffic(60), 500)), "event")
    told = {(event["status"], event["attributes"]["reason"], event["entity"]) for event in events}  # type: ignore[index]
    assert told == {
        ("firing", "new-template", "service:shop"),
        ("resolved", "new-template", "service:shop"),
        ("firing", "surge", "service:db"),
        ("resolved", "surge", "service:db"),
        ("firing", "surge", "service:shop"),
        ("resolved", "surge", "service:shop"),
    }
    (new,) = [event for event in events if event["title"].startswith("new error")]  # type: ignore[attr-defined]
    assert new["title"] == "new error in shop: payment <int> refused by bank <int>"
    assert new["body"] == "payment 0 refused by bank 0"


def test_large_counts_are_numbers_for_programs_and_grouped_for_people_only() -> None:
    told = log_findings.surge(
        "service:db", "t", "x", Surge(1, 2, True, 12345.0, 1234.5, 9.0, 5, spread=10.0), minute=6, level=9, example="x"
    )
    gone = log_findings.vanished("service:db", "t", "x", Surge(1, 2, True, 0.0, 1234.5, 9.0, 5, True), minute=6, example="x")
    assert "12,345 a minute, usually 1,234" in told["title"]
    assert [float(told["attributes"][name]) for name in ("value", "expected")] == [12345, 1234.5]
    assert float(gone["attributes"]["expected"]) == 1234.5
    assert [told["attributes"][name] for name in ("lower", "upper", "unit", "horizon")] == ["1204.5", "1264.5", "{line}/min", "minute"]


def test_a_tenfold_of_all_traffic_is_not_a_surge_of_each_template() -> None:
    surges, rng = Surges(), np.random.default_rng(5)
    entities, templates, errors = np.ones(6, np.int64), np.arange(6), np.zeros(6, bool)
    found = []
    for minute in range(60):
        scale = 8 if minute >= 50 else 1
        found += surges.count(minute, entities, templates, rng.poisson(10 * scale * np.arange(1, 7)), errors)
    assert found == []


def test_what_surges_or_vanishes_at_once_is_one_flood_that_ends() -> None:
    surges, rng = Surges(), np.random.default_rng(5)
    entities, templates, errors = np.ones(20, np.int64), np.arange(20), np.zeros(20, bool)
    found = []
    for minute in range(90):
        counts = rng.poisson(np.where(templates < 12, 3 if minute < 50 or minute >= 56 else 40, 200))
        found += [(minute, one) for one in surges.count(minute, entities, templates, counts, errors)]
    begun = [(minute, one.others) for minute, one in found if one.firing]
    assert begun == [(50, 9), (50, 0), (50, 0)]
    assert not surges.going()


def test_of_an_open_incident_nothing_is_learned() -> None:
    rates = []
    for status in ("opened", "noted"):
        technique = LogTemplates()
        play(technique, cut(traffic(25), 500))
        (before,) = technique.templates(entity="service:db")[0]
        at, said = START + 25 * MINUTE, {"ninefold.incident": "INC-1"}
        row = {"id": "i", "time": at, "kind": "incident", "status": status, "entity": "service:db", "attributes": said}
        technique.process(batch_of("event", "ninefold", at, [row]))
        play(technique, cut([log(at + i * SECOND, f"slow query {i}", "service:db", 13) for i in range(1200)], 500))
        (after,) = technique.templates(entity="service:db")[0]
        rates.append(after["rate_usual"] / before["rate_usual"])
    assert rates[0] == 1.0
    assert rates[1] > 1.2


def test_a_first_line_dated_far_ahead_silences_no_new_error() -> None:
    technique = LogTemplates()
    technique.process(batch_of("log", "test", START, [log(START + 600 * MINUTE, "ready")]))
    at = START + 20 * MINUTE
    outputs = technique.process(batch_of("log", "test", at, [log(at, "cannot write to disk", number=17)]))
    assert [row["title"] for row in rows_of(outputs, "event")] == ["new error in shop: cannot write to disk"]


def test_log_rates_are_counted_by_minute_and_severity_with_zeros() -> None:
    rows = [log(START, "a 1"), log(START + 1, "b", number=17), log(START + MINUTE, "a 2"), log(START + 4 * MINUTE, "end")]
    outputs = play(LogTemplates(), cut(rows, 2))
    names = {row["series"]: row["attributes"]["severity"] for row in rows_of(outputs, "series")}  # type: ignore[index]
    points = [(row["time"].value, names[row["series"]], row["value"]) for row in rows_of(outputs, "metric")]  # type: ignore[attr-defined]
    assert sorted(points) == [
        (START, "error", 1.0),
        (START, "info", 1.0),
        (START + MINUTE, "error", 0.0),
        (START + MINUTE, "info", 1.0),
    ]


@settings(max_examples=6, deadline=None)
@given(st.integers(10, 900), st.integers(0, 3))
def test_outputs_do_not_depend_on_how_batches_are_cut_or_on_a_restart(size: int, restart: int) -> None:
    rows = traffic(45) + orders(45)  # and beyond them two days' ends, at which what is silent is forgotten
    rows += [log(START + m * MINUTE, f"night {m}", "service:night", 17) for m in (3, 1500, 1501, 3000)]
    rows += [log(START + m * MINUTE, f"order {m} placed in 7 ms") for m in range(2900, 3010)]
    rows.sort(key=lambda row: row["time"])  # type: ignore[arg-type, return-value]
    whole = play(LogTemplates(), cut(rows, len(rows)))
    technique, outputs = LogTemplates(), []
    for i, batch in enumerate(cut(rows, size)):
        if restart and i % (restart * 5) == 3:
            state, technique = technique.snapshot(), LogTemplates()
            technique.restore(state)
        outputs += technique.process(batch)
    assert "sequence" in {row["attributes"]["reason"] for row in rows_of(whole, "event")}  # type: ignore[index]
    for signal in ("event", "metric", "series"):
        assert rows_of(outputs, signal) == rows_of(whole, signal)


def test_the_table_of_templates_counts_every_line() -> None:
    rows = traffic(10)
    technique = LogTemplates()
    play(technique, cut(rows, 37))
    table, total = technique.templates()
    assert total == len(table)
    assert sum(row["count"] for row in table) == len(rows)
    first = table[0]
    assert first["text"] == "order <int> placed in <duration>"
    assert first["first_seen"] == min(int(str(row["time"])) for row in rows if str(row["body"]).startswith("order"))
    one = technique.template(first["id"])
    assert one is not None
    assert int(pattern_keys(pa.array([first["example"]]))[0]) in one["patterns"]


def test_a_quiet_stream_is_closed_by_the_clock_of_metrics() -> None:
    technique = LogTemplates()
    assert play(technique, cut([log(START, "hello")], 1)) == []
    later = START + 10 * MINUTE
    outputs = technique.process(batch_of("metric", "test", later, [{"series": 1, "time": later, "value": 1.0}]))
    assert [output.signal for output in outputs] == ["series", "metric"]


def test_a_foreign_snapshot_is_refused_and_none_starts_afresh() -> None:
    technique = LogTemplates()
    with pytest.raises(BadData):
        technique.restore(b"something else")
    technique.restore(b"")
    assert technique.templates() == ([], 0)


def test_entities_not_heard_for_a_day_are_forgotten_and_described_anew() -> None:
    def lines(entity: str, at: int, count: int = 1) -> Batch:
        return batch_of("log", "test", at, [{"time": at, "entity": entity, "body": "all is well", "severity_number": 9}] * count)

    def told(outputs: Sequence[Batch]) -> list[str]:
        return [name for output in outputs if output.signal == "series" for name in output.rows.column("entity").to_pylist()]

    technique = LogTemplates()
    for pod in range(50):
        technique.process(lines(f"pod:{pod}", START))
    outputs: list[Batch] = []
    for hour in range(1, 49):
        outputs += technique.process(lines("service:shop", START + hour * 60 * MINUTE))
    assert told(outputs)[50:] == ["service:shop"]
    assert technique._entities.names == ["", "service:shop"]
    assert {entity for entity, _ in technique._rated} == {1}
    assert set(technique._surges.pairs[:, 0].tolist()) == {1}
    state, again = technique.snapshot(), LogTemplates()
    again.restore(state)
    assert again.snapshot() == state
    at = START + 49 * 60 * MINUTE
    outputs = [
        *again.process(lines("pod:7", at, 3)),
        *again.process(lines("service:shop", at)),
        *again.process(lines("x:y", at + 9 * MINUTE)),
    ]
    assert told(outputs) == ["pod:7"], "the shop is known"
    again.process(lines("service:shop", at + 1500 * MINUTE))
    outputs = again.process(lines("service:shop", at + 1510 * MINUTE))
    assert told(outputs) == ["service:shop"], "after a day of silence others may have forgotten it"
