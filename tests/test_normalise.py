"""Normalisation: what was accepted becomes events, patterns and severities, or goes to quarantine with its reason; nothing is lost."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold import normalise
from ninefold.config import WebhookConfig
from ninefold.ground.clock import SECOND, parse
from ninefold.ground.errors import ConfigError
from ninefold.model.entity import vnode_of
from ninefold.model.signal import SCHEMAS, Batch, batch_of
from ninefold.normalise import FUTURE, VERSION, Normaliser
from ninefold.sources import alertmanager
from ninefold.sources.body import decompress
from ninefold.sources.reading import raw_batch

RECEIVED = parse("2026-11-22T15:00:00Z")
DAY = 86400 * SECOND


def raw(format_: str, *records: Any, position: int = 0) -> Batch:
    payloads = [record if isinstance(record, bytes) else orjson.dumps(record) for record in records]
    return replace(raw_batch(format_, "src", RECEIVED, payloads), position=position)


def rows(batches: list[Batch], signal: str) -> list[dict[str, Any]]:
    return [row for batch in batches if batch.signal == signal for row in batch.rows.to_pylist(maps_as_pydicts="lossy")]


def event(**fields: Any) -> dict[str, Any]:
    return {"time": RECEIVED, "kind": "alert", "title": "t", "severity": "info"} | fields


def test_captured_alerts_become_event_rows(data: Path) -> None:
    body = (data / "payloads/alertmanager/POST_webhook_01.body.json").read_bytes()
    (batch,) = alertmanager.accept_webhook(body, "am", RECEIVED).batches
    (done,) = Normaliser({}).normalise(replace(batch, position=7))
    assert (done.signal, done.source, done.received, done.position) == ("event", "am", RECEIVED, 7)
    assert done.rows.schema == SCHEMAS["event"]
    (row,) = rows([done], "event")
    assert row["vnode"] == vnode_of("service:checkout")
    assert (row["source"], row["received"].value, row["time"].value) == ("am", RECEIVED, parse("2026-11-22T12:32:24.709Z"))
    assert (row["title"], row["severity"], row["status"], row["fingerprint"]) == (
        "deadsvc on 127.0.0.1:21999 is down", "critical", "firing", "6ad6c3c5de3c5a8c",
    )  # fmt: skip
    assert row["attributes"]["team"] == "sre"
    assert row["attributes"]["ninefold.normaliser"] == f"{VERSION} alertmanager"
    assert orjson.loads(row["raw"])["alert"]["fingerprint"] == "6ad6c3c5de3c5a8c"


def test_a_half_bad_batch_keeps_its_good_rows_and_quarantines_the_rest() -> None:
    batch = raw("webhook:x", {"title": "a"}, {"a": 1}, b"{not json", [1], {"title": "b"})
    done = Normaliser({}).normalise(batch)
    assert [row["title"] for row in rows(done, "event")] == ["a", "b"]
    bad = rows(done, "quarantine")
    assert [row["payload"] for row in bad] == [b'{"a":1}', b"{not json", b"[1]"]
    assert {(row["signal"], row["format"], row["source"]) for row in bad} == {("event", "webhook:x", "src")}
    assert all(row["reason"] and row["id"] for row in bad)
    assert len({row["id"] for row in bad}) == 3


def test_formats_may_be_mixed_and_unknown_ones_are_kept() -> None:
    one, two, three = raw("webhook:x", {"title": "a"}), raw("cloudevents", {"id": "1"}), raw("smoke-signal", {"title": "a"})
    merged = pa.Table.from_batches([one.rows, two.rows, three.rows]).combine_chunks().to_batches()[0]
    done = Normaliser({}).normalise(replace(one, rows=merged))
    assert len(rows(done, "event")) == 1
    assert {row["format"]: row["reason"].split(";")[0] for row in rows(done, "quarantine")}.keys() == {"cloudevents", "smoke-signal"}


def test_configured_mappings_are_used_and_checked_at_start() -> None:
    normaliser = Normaliser({"shop": WebhookConfig(kind="business", fields={"title": "what"})})
    assert rows(normaliser.normalise(raw("webhook:shop", {"what": "low"})), "event")[0]["kind"] == "business"
    with pytest.raises(ConfigError, match=r"webhooks\.x"):
        Normaliser({"x": WebhookConfig(fields={"title": "["})})


KEYS = [
    "title", "labels", "time", "status", "severity", "id", "entity", "host", "alert", "data", "specversion", "source", "type", "startsAt",
    "endsAt", "annotations", "value", "key", "tags", "commits", "repository",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=6), JSON, max_size=5) | JSON, max_size=6),
    st.sampled_from(["alertmanager", "cloudevents", "webhook:x"]),
)
def test_any_json_ends_as_event_or_in_quarantine(records: list[Any], format_: str) -> None:
    done = Normaliser({}).normalise(raw(format_, *records))
    assert len(rows(done, "event")) + len(rows(done, "quarantine")) == len(records)
    for batch in done:
        assert batch.rows.schema == SCHEMAS[batch.signal]
        batch.rows.validate(full=True)
    for row in rows(done, "event"):
        assert row["id"]
        assert row["fingerprint"]
        assert row["kind"]
        assert row["severity"] in ("critical", "high", "warning", "info")


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=6), st.text(max_size=6), min_size=1, max_size=4), JSON, JSON, JSON)
def test_any_alert_with_a_label_is_an_event(labels: dict[str, str], start: Any, end: Any, notes: Any) -> None:
    alert = {"labels": labels | {"alertname": "A"}, "startsAt": start, "endsAt": end, "annotations": notes, "fingerprint": notes}
    (batch,) = alertmanager.accept_alerts(orjson.dumps([alert]), "am", RECEIVED).batches
    first, second = Normaliser({}).normalise(batch), Normaliser({}).normalise(batch)
    assert len(rows(first, "event")) + len(rows(first, "quarantine")) == 1
    assert [batch.rows for batch in first] == [batch.rows for batch in second], "a pure function"


def test_events_are_completed_and_whole_ones_are_not_copied() -> None:
    whole = batch_of("event", "own", RECEIVED, [event(id="1", fingerprint="f", entity="service:a")])
    assert Normaliser({}).normalise(whole)[0].rows is whole.rows
    partial = batch_of(
        "event", "own", RECEIVED,
        [
            event(attributes={"service.name": "cart", "alertname": "Slow"}, severity="P2", title="cart is slow: 3 s"),
            event(attributes={"service.name": "cart", "alertname": "Slow"}, severity="P2", title="cart is slow: 4 s"),
            event(id="keep", fingerprint="mine", title="", entity="host:a"),
        ],
    )  # fmt: skip
    first, second, third = rows(Normaliser({}).normalise(partial), "event")
    assert (first["entity"], first["severity"], first["severity_raw"]) == ("service:cart", "high", "P2")
    assert first["fingerprint"] == second["fingerprint"]
    assert first["id"] != third["id"] == "keep"
    assert third["fingerprint"] == "mine"
    again = rows(Normaliser({}).normalise(partial), "event")[0]
    assert again["id"] == first["id"], "ids are deterministic"


def test_an_event_that_nothing_identifies_goes_to_quarantine() -> None:
    batch = batch_of("event", "own", RECEIVED, [event(title="", severity=""), event()])
    done = Normaliser({}).normalise(batch)
    assert len(rows(done, "event")) == 1
    (bad,) = rows(done, "quarantine")
    assert "no title, entity or id" in bad["reason"]
    assert bad["format"] == "rows.event"


@pytest.mark.parametrize("signal", ["metric", "span", "log", "event"])
def test_times_that_cannot_be_true_are_quarantined_and_the_rest_passes(signal: str) -> None:
    base: dict[str, Any] = {"metric": {"series": 1, "value": 2.0}, "event": event(id="1", fingerprint="f", entity="e:f")}.get(
        signal, {"body": "x"}
    )
    times = [RECEIVED, RECEIVED + FUTURE, RECEIVED + FUTURE + 1, 0, parse("1971-01-02T00:00:00Z"), parse("1970-12-31T00:00:00Z")]
    done = Normaliser({}).normalise(replace(batch_of(signal, "s", RECEIVED, [base | {"time": moment} for moment in times]), position=3))
    kept, bad = rows(done, signal), rows(done, "quarantine")
    assert [row["time"].value for row in kept] == [times[0], times[1], times[4]]
    assert {batch.position for batch in done} == {3}
    (entry,) = bad
    assert entry["reason"].startswith(f"3 {signal} rows")
    assert [row["time"] for row in orjson.loads(entry["payload"])] == [times[2], times[3], times[5]]


@pytest.mark.parametrize("signal", ["metric", "span"])
def test_good_telemetry_passes_untouched(signal: str) -> None:
    batch = batch_of(signal, "s", RECEIVED, [{"time": RECEIVED - i} for i in range(10)])
    (same,) = Normaliser({}).normalise(batch)
    assert same is batch
    assert Normaliser({}).normalise(replace(batch, rows=batch.rows.slice(0, 0))) == []


def test_logs_get_patterns_and_severities() -> None:
    bodies = {
        "19:38:52.053 INFO  t.c.Travel2Controller#115 TraceID: cf96 [query]": 9,
        "2026/11/22 13:03:48 [error] 24422#24422: *2 connect() failed": 17,
        'level=warn msg="disk"': 13,
        '{"level":"Debug","msg":"x"}': 5,
        "081109 203615 148 WARNING dfs.X: y": 13,
        "information about nothing": 0,
        "INFOMERCIAL": 0,
        "handled ERRORS fine": 0,
        "": 0,
    }
    given = [{"body": body, "time": RECEIVED} for body in bodies] + [
        {"body": "ERROR x", "time": RECEIVED, "severity_number": 9, "severity_text": "INFO"},
        {"body": "INFO x", "time": RECEIVED, "severity_text": "fatal"},
        {"body": "kept", "time": RECEIVED, "pattern": 42, "severity_number": 1},
    ]
    (done,) = Normaliser({}).normalise(batch_of("log", "s", RECEIVED, given))
    found = rows([done], "log")
    assert [row["severity_number"] for row in found] == [*bodies.values(), 9, 21, 1]
    assert (found[0]["severity_text"], found[1]["severity_text"], found[-2]["severity_text"]) == ("INFO", "error", "fatal")
    assert found[-1]["pattern"] == 42
    assert all(row["pattern"] for row in found[:-1])
    same = ["job 17 took 3 ms", "job 18 took 4 ms"]
    (lines,) = Normaliser({}).normalise(batch_of("log", "s", RECEIVED, [{"body": body, "time": RECEIVED} for body in same]))
    assert len(set(lines.rows.column("pattern").to_pylist())) == 1


def test_several_readers_pay_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    read = alertmanager.to_event

    def slow(payload: bytes, received: int) -> dict[str, Any]:
        calls.append(1)
        time.sleep(0.01)
        return read(payload, received)

    monkeypatch.setattr(normalise.alertmanager, "to_event", slow)
    normaliser = Normaliser({})
    batches = [raw("alertmanager", {"alert": {"labels": {"alertname": str(i)}}}, position=i) for i in range(1, 11)]
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append([normaliser.normalise(batch)[0].rows["id"][0].as_py() for batch in batches]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 10
    assert len(results) == 4
    assert all(result == results[0] for result in results)


def test_the_cache_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise, "_CACHE_BATCHES", 64)
    normaliser = Normaliser({})
    for position in range(1, 200):
        normaliser.normalise(raw("webhook:x", {"title": "a"}, position=position))
    assert len(normaliser._cache) == len(normaliser._sizes) == 64
    assert min(normaliser._cache) == 136


def test_a_record_that_trips_a_defect_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise.cloudevents, "to_event", lambda payload, received: 1 // 0)
    done = Normaliser({}).normalise(raw("cloudevents", {"id": 1}))
    assert "division" in rows(done, "quarantine")[0]["reason"]


def test_why() -> None:
    normaliser = Normaliser({"shop": WebhookConfig(fields={"title": "what"})})
    (sent,) = rows(normaliser.normalise(raw("webhook:shop", {"what": "low", "service": "web"})), "event")
    assert normaliser.explain(sent) == [
        f"Read by normaliser {VERSION} as webhook:shop, mapping 'shop' from the configuration.",
        f"Fingerprint {sent['fingerprint']} is made of kind, entity and title.",
        "Entity service:web comes from service.",
    ]
    (alert,) = rows(normaliser.normalise(raw("alertmanager", {"alert": {"labels": {"alertname": "A"}, "fingerprint": "ab"}})), "event")
    assert normaliser.explain(alert) == [
        f"Read by normaliser {VERSION} as alertmanager.",
        "Fingerprint ab is given by the sender.",
        "No entity: no attribute names a service, pod, host or instance.",
    ]
    (own,) = rows([batch_of("event", "own", RECEIVED, [event(id="1", fingerprint="f", entity="service:a")])], "event")
    assert normaliser.explain(own)[0].startswith("Sent as a complete event")
    assert "named by the sender" in normaliser.explain(own)[2]


def quarantined(batches: list[Batch]) -> pa.Table:
    return pa.Table.from_batches([batch.rows for batch in batches if batch.signal == "quarantine"])


def test_replay_brings_records_back_in() -> None:
    broken, mended = Normaliser({"x": WebhookConfig(fields={"time": "when"})}), Normaliser({"x": WebhookConfig(fields={"time": "at"})})
    table = quarantined(broken.normalise(raw("webhook:x", {"title": "a", "when": "soon", "at": 1795000000})))
    assert table.num_rows == 1
    (again,) = mended.replay(table, RECEIVED + 5)
    assert (again.signal, again.source, again.received, again.position) == ("raw", "src", RECEIVED + 5, 0)
    assert rows(mended.normalise(again), "event")[0]["time"].value == 1795000000 * SECOND


def test_replay_of_rows_with_times_ahead_waits_for_that_time() -> None:
    ahead = RECEIVED + 3 * DAY
    table = quarantined(Normaliser({}).normalise(batch_of("metric", "s", RECEIVED, [{"series": 9, "time": ahead, "value": float("nan")}])))
    early = Normaliser({}).replay(table, RECEIVED)
    assert [batch.signal for one in early for batch in Normaliser({}).normalise(one)] == ["quarantine"]
    (late,) = Normaliser({}).normalise(Normaliser({}).replay(table, ahead)[0])
    assert late.signal == "metric"
    assert late.rows.column("series").to_pylist() == [9]
    assert np.isnan(late.rows.column("value").to_pylist()[0])


def test_replay_of_decoders_requests_and_of_what_has_no_way_back(data: Path) -> None:
    write = (data / "payloads/prometheus/POST_api_v1_write_01.body.bin.snappy").read_bytes()
    traces = (data / "payloads/otlp_http/POST_v1_traces_01.body.pb").read_bytes()
    rows_ = [
        {"id": "1", "signal": "metric", "format": "remote_write", "payload": decompress(write, "snappy", 1 << 24)},
        {"id": "2", "signal": "span", "format": "otlp_proto", "payload": traces},
        {"id": "3", "signal": "span", "format": "otlp_proto", "payload": b"\xff"},
        {"id": "4", "signal": "log", "format": "file", "payload": b"x"},
        {"id": "5", "signal": "event", "format": "rows.event", "payload": b"[3]"},
    ]
    done = Normaliser({}).replay(pa.Table.from_batches([batch_of("quarantine", "s", RECEIVED, rows_).rows]), RECEIVED)
    assert {batch.signal for batch in done} == {"series", "metric", "span", "quarantine"}
    bad = rows(done, "quarantine")
    assert [(row["format"], row["payload"]) for row in bad] == [("otlp_proto", b"\xff"), ("file", b"x"), ("rows.event", b"[3]")]
    assert "correct it at its sender" in bad[1]["reason"]


@pytest.mark.slow
def test_ten_thousand_alerts_take_less_than_a_cpu_second() -> None:
    alert = {
        "labels": {"alertname": "A", "severity": "warning", "job": "node", "team": "sre"},
        "annotations": {"summary": "s", "description": "d"},
    }
    alerts = [
        {**alert, "labels": {**alert["labels"], "instance": f"10.0.0.{i}"}, "startsAt": "2026-11-22T14:00:00Z"} for i in range(10_000)
    ]
    (batch,) = alertmanager.accept_alerts(orjson.dumps(alerts), "am", RECEIVED).batches
    started = time.process_time()
    (done,) = Normaliser({}).normalise(batch)
    assert done.rows.num_rows == 10_000
    assert time.process_time() - started < 1.0


def test_what_is_planned_is_an_event_of_now_that_says_when_it_starts() -> None:
    """A holiday next month and a maintenance next week are known ahead; an alert of next week has a wrong clock."""
    days = {"holiday": 30, "maintenance": 7, "alert": 7, "change": 500}
    given = [
        event(kind=kind, id=kind, time=RECEIVED + ahead * FUTURE, attributes={"until": "2027-01-01T00:00:00Z"})
        for kind, ahead in days.items()
    ]
    done = Normaliser({}).normalise(batch_of("event", "calendar", RECEIVED, given))
    kept = {row["kind"]: row for row in rows(done, "event")}
    assert kept.keys() == {"holiday", "maintenance"}
    assert {row["time"].value for row in kept.values()} == {RECEIVED}
    assert parse(kept["maintenance"]["attributes"]["start"]) == RECEIVED + 7 * FUTURE // 1000 * 1000
    assert kept["holiday"]["attributes"]["until"] == "2027-01-01T00:00:00Z"
    (bad,) = rows(done, "quarantine")
    assert [row["kind"] for row in orjson.loads(bad["payload"])] == ["alert", "change"]


def test_spans_that_failed_without_saying_so_have_failed() -> None:
    """HTTP and gRPC codes count where the sender set no status; a client's 4xx is its failure, a server's is not."""
    given = {
        ("server", "unset", "http.response.status_code", "503"): "error", ("server", "unset", "http.status_code", "500"): "error",
        ("server", "unset", "http.status_code", "404"): "unset", ("client", "unset", "http.status_code", "404"): "error",
        ("server", "ok", "http.status_code", "500"): "ok", ("server", "unset", "rpc.grpc.status_code", "14"): "error",
        ("server", "unset", "rpc.grpc.status_code", "5"): "unset", ("server", "unset", "other", "500"): "unset",
        ("server", "unset", "http.status_code", "5000"): "unset",
    }  # fmt: skip
    spans = [{"time": RECEIVED, "kind": kind, "status": status, "attributes": {"a": "b", key: code}} for kind, status, key, code in given]
    (done,) = Normaliser({}).normalise(batch_of("span", "s", RECEIVED, spans))
    assert done.rows.column("status").to_pylist() == list(given.values())
    part = batch_of("span", "s", RECEIVED, spans)
    (done,) = Normaliser({}).normalise(replace(part, rows=part.rows.slice(3, 3)))
    assert done.rows.column("status").to_pylist() == list(given.values())[3:6], "of a part of a batch, too"
    plain = batch_of("span", "s", RECEIVED, [{"time": RECEIVED, "status": "unset"}])
    assert Normaliser({}).normalise(plain) == [plain]
