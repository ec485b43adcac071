"""Splunk's HTTP Event Collector: events, metrics, raw lines, and Splunk's own answers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, NinefoldError, TooLarge
from ninefold.model.signal import Decoded
from ninefold.plugin import Answer, Asked, Door, Lent, Strict
from ninefold.sources.splunk_hec import SplunkHec

RECEIVED = parse("2026-11-22T15:00:00Z")
TIME = 1795354777 * 10**9
EVENT = {
    "time": 1795354777.25, "host": "web-1", "source": "/var/log/app.log", "sourcetype": "_json", "index": "main",
    "event": {"message": "payment failed", "severity": "ERROR", "http": {"status": 502}}, "fields": {"region": "eu", "trace_id": "ab" * 16},
}  # fmt: skip


def doors(source: SplunkHec | None = None) -> dict[str, Door]:
    return {door.path: door for door in (source or SplunkHec("splunk_hec", Strict(), Lent())).doors()}


def send(body: bytes, path: str = "", source: SplunkHec | None = None, **query: str) -> tuple[Decoded, Answer]:
    door = doors(source)[f"/services/collector{path}"]
    assert door.open or door.token_keywords == ("Splunk",)
    asked = Asked("splunk_hec", RECEIVED, body, query=query)
    decoded = door.accept(asked)
    return decoded, door.answer(asked, decoded)


def rows(decoded: Decoded, signal: str = "log") -> list[dict[str, Any]]:
    return [row for batch in decoded.batches if batch.signal == signal for row in batch.rows.to_pylist()]


def test_an_event_value_by_value() -> None:
    decoded, answer = send(orjson.dumps(EVENT))
    (row,) = rows(decoded)
    assert (row["body"], row["time"].value, row["entity"]) == ("payment failed", TIME + 250_000_000, "host:web-1")
    assert (row["severity_text"], row["severity_number"], row["trace_id"]) == ("ERROR", 17, "ab" * 16)
    assert dict(row["attributes"]) == {"http.status": "502", "region": "eu"}
    assert dict(row["resource"]) == {
        "host.name": "web-1", "com.splunk.source": "/var/log/app.log", "com.splunk.sourcetype": "_json", "com.splunk.index": "main",
    }  # fmt: skip
    assert (answer.status, json.loads(answer.body)) == (200, {"text": "Success", "code": 0})


@pytest.mark.parametrize("between", [b"", b" ", b"\n", b"\r\n\r\n", b"\n  "])
def test_events_stand_one_behind_the_other(between: bytes) -> None:
    events = [{"event": "a } { \n b", "time": "1795354777.5"}, {"event": {"n": 1}}, {"event": 7}, {"event": ["x"]}]
    decoded, answer = send(between.join(map(orjson.dumps, events)))
    assert [row["body"] for row in rows(decoded)] == ["a } { \n b", '{"n":1}', "7", '["x"]']
    assert [row["time"].value for row in rows(decoded)][:2] == [TIME + 500_000_000, RECEIVED]
    assert answer.status == 200
    assert [row["body"] for row in rows(send(orjson.dumps(events), "/event/1.0")[0])] == ["a } { \n b", '{"n":1}', "7", '["x"]']


def test_pretty_printed_events() -> None:
    body = b"\n".join(json.dumps(event, indent=2).encode() for event in (EVENT, EVENT))
    assert [row["body"] for row in rows(send(body)[0])] == ["payment failed"] * 2


def test_metrics_value_by_value() -> None:
    one = {
        "time": 1795354777, "event": "metric", "host": "web-1", "source": "collectd",
        "fields": {"metric_name:cpu.usr": 11.12, "metric_name:cpu.sys": "12", "region": "eu"},
    }  # fmt: skip
    two = {"event": "metric", "fields": {"metric_name": "orders", "_value": 3, "region": "eu"}}
    source = SplunkHec("splunk_hec", Strict(), Lent())
    decoded, answer = send(orjson.dumps(one) + orjson.dumps(two), "/event", source)
    series = {row["series"]: row for row in rows(decoded, "series")}
    assert [(series[row["series"]]["name"], row["time"].value, row["value"]) for row in rows(decoded, "metric")] == [
        ("cpu.usr", TIME, 11.12), ("cpu.sys", TIME, 12.0), ("orders", RECEIVED, 3.0),
    ]  # fmt: skip
    first = next(iter(series.values()))
    assert (first["name"], dict(first["attributes"]), first["entity"]) == (
        "cpu.usr", {"region": "eu", "host.name": "web-1", "com.splunk.source": "collectd"}, "host:web-1",
    )  # fmt: skip
    assert answer.status == 200
    again, _ = send(orjson.dumps(one), "/event", source)
    assert [batch.signal for batch in again.batches] == ["metric"], "a known series is not described again"
    doors(source)["/services/collector"].forget(decoded.batches)  # type: ignore[misc]
    assert [batch.signal for batch in send(orjson.dumps(one), "/event", source)[0].batches] == ["series", "metric"]


def test_raw_lines() -> None:
    decoded, answer = send(b"line one\r\n\nline \xff two", "/raw", host="web-1", sourcetype="syslog", channel="abc")
    assert [row["body"] for row in rows(decoded)] == ["line one", "line � two"]
    assert dict(rows(decoded)[0]["resource"]) == {"host.name": "web-1", "com.splunk.sourcetype": "syslog"}
    assert answer.status == 200
    with pytest.raises(BadData, match="No data"):
        send(b"\n \n", "/raw")


@pytest.mark.parametrize(
    ("event", "code", "text"),
    [
        ({"host": "a"}, 12, "Event field is required"), ({"event": ""}, 13, "Event field cannot be blank"),
        ({"event": "x", "time": "soon"}, 6, "Invalid data format"), ({"event": "x", "fields": [1]}, 15, "Error in handling indexed fields"),
        ({"event": "metric"}, 15, "Error in handling indexed fields"), (3, 6, "Invalid data format"),
        ({"event": "metric", "fields": {"metric_name:a": "x"}}, 15, "Error in handling indexed fields"),
        ({"event": "metric", "fields": {"region": "eu"}}, 15, "Error in handling indexed fields"),
    ],
)  # fmt: skip
def test_a_bad_event_is_numbered_and_the_others_are_kept(event: Any, code: int, text: str) -> None:
    decoded, answer = send(b"".join(map(orjson.dumps, ({"event": "one"}, event, {"event": "two"}))))
    assert [row["body"] for row in rows(decoded)] == ["one", "two"]
    assert (answer.status, json.loads(answer.body)) == (400, {"text": text, "code": code, "invalid-event-number": 1})
    (row,) = rows(decoded, "quarantine")
    assert (row["reason"], row["payload"]) == (text, orjson.dumps(event))


def test_where_the_json_breaks_the_rest_is_in_quarantine() -> None:
    decoded, answer = send(b'{"event": "one"}{"event": "tw')
    assert [row["body"] for row in rows(decoded)] == ["one"]
    assert rows(decoded, "quarantine")[0]["payload"] == b'{"event": "tw'
    assert json.loads(answer.body) == {"text": "Invalid data format", "code": 6, "invalid-event-number": 1}


def test_refusals_in_splunks_shape() -> None:
    refuse = doors()["/services/collector"].refuse
    assert refuse is not None

    def told(status: int, reason: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
        answer = refuse(Asked("", RECEIVED, b"", headers=headers), status, reason)
        assert answer is not None
        return answer.status, json.loads(answer.body)

    assert told(401) == (401, {"text": "Token is required", "code": 2})
    assert told(401, authorization="Splunk nonsense") == (403, {"text": "Invalid token", "code": 4})
    assert told(503) == (503, {"text": "Server is busy", "code": 9})
    assert told(400, "No data (at body)") == (400, {"text": "No data", "code": 5})
    assert told(413, "too long")[0] == 413
    with pytest.raises(BadData, match="No data"):
        send(b" \n")
    with pytest.raises(BadData, match="flatten"):
        send(b'{"event":' + b"[" * 300 + b"]" * 300 + b"}")


def test_dimensions_cannot_grow_in_memory() -> None:
    fields = {"dimension": "x" * 1_000_000} | {f"metric_name:m{i}": 1 for i in range(300)}
    with pytest.raises(TooLarge):
        send(orjson.dumps({"event": "metric", "fields": fields}))


def test_health() -> None:
    decoded, answer = send(b"", "/health")
    assert (decoded.batches, answer.status, json.loads(answer.body)["code"]) == ([], 200, 17)
    assert doors()["/services/collector/health/1.0"].methods == ("GET",)


@given(
    st.lists(st.sampled_from([b'{"event":"a"}', b"{", b"}", b"\n", b"\xff", b"[", b"]", b"1", b'"\\ud800"', b"NaN", b'{"event":"metric"}']))
)
def test_any_bytes_are_read_or_refused(parts: list[bytes]) -> None:
    for path in ("", "/raw"):
        with contextlib.suppress(NinefoldError):
            send(b"".join(parts), path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.floats() | st.text(max_size=4) | st.just("metric"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["metric_name:a", "metric_name", "_value", "x"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["event", "time", "host", "fields", "source"]), _JSON))
def test_any_event_is_read_or_quarantined(event: dict[str, Any]) -> None:
    decoded, _ = send(orjson.dumps(event))
    assert decoded.batches
