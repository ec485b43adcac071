"""Elasticsearch's bulk API: documents value by value, items that are refused, what senders ask first."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.ground.clock import parse
from ninefold.ground.errors import BadData, NinefoldError
from ninefold.model.signal import Decoded
from ninefold.plugin import Answer, Asked, Door, Lent, Strict
from ninefold.sources.elasticsearch import Elasticsearch

RECEIVED = parse("2026-11-22T15:00:00Z")
FILEBEAT = (
    b'{"create":{"_index":"filebeat-8.15.0"}}\n'
    b'{"@timestamp":"2026-11-22T13:39:37.123Z","log":{"offset":0,"file":{"path":"/var/log/app.log"}},"message":"payment failed",'
    b'"input":{"type":"filestream"},"agent":{"id":"a1","name":"web-1","type":"filebeat","version":"8.15.0"},"ecs":{"version":"8.0.0"},'
    b'"host":{"name":"web-1"},"tags":["shop","prod"]}\n'
)
"""In the form of a Filebeat 8 event."""
ECS = (
    b'{"index":{"_index":"logs-checkout-prod","_id":"d1"}}\n'
    b'{"@timestamp":"2026-11-22T13:39:37.123456789Z","log.level":"ERROR","message":"boom","service.name":"checkout",'
    b'"service.environment":"prod","trace.id":"0af7651916cd43dd8448eb211c80319c","span.id":"b7ad6b7169203331","error.type":"E","process.pid":7}\n'
)
"""As the ECS logging libraries write a line."""
CLIENT = (
    b'{"create":{"_index":"logs-checkout-prod"}}\n'
    b'{"@timestamp":"2026-11-22T13:39:37.123Z","message":"payment failed \xe2\x80\x94 Z\xc3\xbcrich",'
    b'"log":{"level":"error"},"service":{"name":"checkout"},"trace":{"id":"0af7651916cd43dd8448eb211c80319c"}}\n'
    b'{"index":{"_index":"metrics","_id":"d1"}}\n{"value":1.5,"tags":["a"]}\n'
)
"""What elasticsearch-py 9.5 sent."""
FLUENT_BIT = (
    b'{"create":{"_index":"fluent-bit"}}\n'
    b'{"@timestamp":"2026-11-22T13:39:37.500Z","log":"GET / 200\\n","stream":"stdout",'
    b'"kubernetes":{"pod_name":"cart-1","namespace_name":"shop","container_name":"cart","labels":{"app":"cart"}},"empty":null}\n'
)


def doors() -> list[Door]:
    return list(Elasticsearch("elasticsearch", Strict(), Lent()).doors())


def bulk(body: bytes, index: str = "") -> tuple[Decoded, dict[str, Any]]:
    path = "/elasticsearch/{index}/_bulk" if index else "/elasticsearch/_bulk"
    (door,) = (door for door in doors() if door.path == path)
    asked = Asked("elasticsearch", RECEIVED, body, {"index": index} if index else {}, headers={"content-type": "application/x-ndjson"})
    decoded = door.accept(asked)
    answer = door.answer(asked, decoded)
    assert (answer.status, answer.headers["X-elastic-product"]) == (200, "Elasticsearch")
    return decoded, json.loads(answer.body)


def rows(decoded: Decoded, signal: str = "log") -> list[dict[str, Any]]:
    return [row for batch in decoded.batches if batch.signal == signal for row in batch.rows.to_pylist()]


def test_filebeat_value_by_value() -> None:
    decoded, said = bulk(FILEBEAT)
    (row,) = rows(decoded)
    assert (row["body"], row["entity"], row["time"].value, row["source"]) == (
        "payment failed", "host:web-1", parse("2026-11-22T13:39:37.123Z"), "elasticsearch",
    )  # fmt: skip
    assert dict(row["resource"]) == {
        "elasticsearch.index": "filebeat-8.15.0", "host.name": "web-1", "agent.id": "a1", "agent.name": "web-1", "agent.type": "filebeat",
        "agent.version": "8.15.0",
    }  # fmt: skip
    assert dict(row["attributes"]) == {
        "log.offset": "0", "log.file.path": "/var/log/app.log", "input.type": "filestream", "ecs.version": "8.0.0",
        "tags": '["shop","prod"]',
    }  # fmt: skip
    (item,) = said["items"]
    assert (said["errors"], list(item), item["create"]["status"], item["create"]["result"]) == (False, ["create"], 201, "created")
    assert item["create"]["_index"] == "filebeat-8.15.0"
    assert item["create"]["_id"]


def test_ecs_logging_value_by_value() -> None:
    decoded, said = bulk(ECS)
    (row,) = rows(decoded)
    assert (row["body"], row["severity_text"], row["severity_number"], row["entity"]) == ("boom", "ERROR", 17, "service:checkout")
    assert (row["trace_id"], row["span_id"]) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert row["time"].value == parse("2026-11-22T13:39:37.123456789Z")
    assert dict(row["resource"]) == {
        "elasticsearch.index": "logs-checkout-prod", "service.name": "checkout", "deployment.environment.name": "prod",
    }  # fmt: skip
    assert dict(row["attributes"]) == {"error.type": "E", "process.pid": "7"}
    assert said["items"][0]["index"]["_id"] == "d1"


def test_captured_bytes_of_the_client_library() -> None:
    decoded, said = bulk(CLIENT)
    first, second = rows(decoded)
    assert (first["body"], first["severity_number"], first["entity"]) == ("payment failed — Zürich", 17, "service:checkout")
    assert first["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert (second["body"], dict(second["attributes"])) == ('{"value":1.5,"tags":["a"]}', {"value": "1.5", "tags": '["a"]'})
    assert [(action, about["_id"] == "d1") for item in said["items"] for action, about in item.items()] == [
        ("create", False),
        ("index", True),
    ]


def test_fluent_bit_in_kubernetes() -> None:
    (row,) = rows(bulk(FLUENT_BIT)[0])
    assert (row["body"], row["entity"]) == ("GET / 200\n", "pod:shop/cart-1")
    assert dict(row["resource"])["k8s.container.name"] == "cart"
    assert dict(row["resource"])["kubernetes.labels.app"] == "cart"
    assert dict(row["attributes"]) == {"stream": "stdout"}


def test_the_index_of_the_path_and_plain_documents() -> None:
    decoded, said = bulk(
        b'{"index":{}}\n{"level":"warn","host":"db-1","n":1.5,"timestamp":1795354777123}\n\n{"create":{}}\r\n{"msg":"x"}', "logs"
    )
    plain, second = rows(decoded)
    assert (plain["body"], plain["entity"], plain["severity_number"], plain["time"].value) == (
        '{"level":"warn","host":"db-1","n":1.5,"timestamp":1795354777123}', "host:db-1", 13, 1795354777123 * 10**6,
    )  # fmt: skip
    assert (second["body"], second["time"].value) == ("x", RECEIVED)
    assert [next(iter(item.values()))["_index"] for item in said["items"]] == ["logs", "logs"]


def test_bad_items_are_told_one_by_one_and_the_rest_is_kept() -> None:
    body = FILEBEAT + b'{"index":{"_index":"a"}}\n{broken\n' + b'{"index":{"_index":"a"}}\n[1]\n' + b'{"delete":{"_index":"a","_id":"1"}}\n'
    body += b'{"update":{"_index":"a","_id":"1"}}\n{"doc":{}}\n{"index":{}}\n{"@timestamp":"soon","message":"x"}\n' + ECS
    decoded, said = bulk(body)
    assert [row["body"] for row in rows(decoded)] == ["payment failed", "boom"]
    assert said["errors"] is True
    items = [(action, about["status"]) for item in said["items"] for action, about in item.items()]
    assert items == [("create", 201), ("index", 400), ("index", 400), ("delete", 400), ("update", 400), ("index", 400), ("index", 201)]
    assert said["items"][1]["index"]["error"]["type"] == "document_parsing_exception"
    refused = rows(decoded, "quarantine")
    assert [row["where"] for row in refused] == ["line 4", "line 6", "line 7", "line 9", "line 11"]
    assert refused[0]["payload"] == b'{"index":{"_index":"a"}}\n{broken\n', "a bulk body of its own, which can be sent again"
    assert decoded.rejected == 5


def test_a_bulk_that_is_none_is_refused_in_elasticsearchs_shape() -> None:
    for body in (b"", b"\n\n", b"hello\n", b'{"index":{}}\n', b'{"index":3}\n{}\n', b'{"a":{}}\n{}\n', b'{"index":{},"create":{}}\n{}\n'):
        with pytest.raises(BadData):
            bulk(body)
    refuse = doors()[0].refuse
    assert refuse is not None
    answer = refuse(Asked("", RECEIVED, b""), 400, "Malformed action/metadata line [1]")
    assert answer is not None
    told = json.loads(answer.body)
    assert (told["status"], told["error"]["type"], told["error"]["root_cause"][0]["reason"]) == (
        400, "illegal_argument_exception", "Malformed action/metadata line [1]",
    )  # fmt: skip


def ask(path: str) -> Answer:
    (door,) = (door for door in doors() if door.path == f"/elasticsearch{path}")
    assert "GET" in door.methods
    assert "ApiKey" in door.token_keywords
    asked = Asked("elasticsearch", RECEIVED, b"")
    return door.answer(asked, door.accept(asked))


def test_what_senders_ask_first() -> None:
    banner = ask("/")
    assert banner.headers["X-elastic-product"] == "Elasticsearch"
    assert json.loads(banner.body)["version"]["number"].startswith("8.")
    assert json.loads(banner.body)["tagline"] == "You Know, for Search"
    assert json.loads(ask("/_license").body)["license"]["status"] == "active"
    assert json.loads(ask("/_cluster/health").body)["status"] == "green"
    assert json.loads(ask("/_xpack").body)["license"]["type"] == "basic"
    assert json.loads(ask("/_index_template/{name}").body) == {"acknowledged": True}


def test_nesting_and_names_have_an_end() -> None:
    deep = b'{"a":' * 30 + b"[" * 300 + b"]" * 300 + b"}" * 30
    decoded, said = bulk(b'{"index":{}}\n' + deep + b"\n" + ECS)
    assert [next(iter(item.values()))["status"] for item in said["items"]] == [400, 201]
    assert rows(decoded, "quarantine")[0]["payload"].count(b"[") == 300
    named: dict[str, Any] = {"message": "m", "n" * 200: {str(i): i for i in range(1000)}}
    (row,) = rows(bulk(b'{"index":{}}\n' + orjson.dumps(named))[0])
    assert len(row["attributes"]) == 1, "a long name is not repeated for everything below it"


@given(
    st.lists(
        st.sampled_from([b'{"index":{}}', b'{"create":{"_index":5}}', b'{"delete":{}}', b"{}", b'{"message":1}', b"", b"x", b"[]", b"\xff"])
    )
)
def test_any_lines_are_read_or_refused(lines: list[bytes]) -> None:
    with contextlib.suppress(NinefoldError):
        decoded, said = bulk(b"\n".join(lines))
        assert len(rows(decoded)) + len(rows(decoded, "quarantine")) == len(said["items"])


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["@timestamp", "time", "message", "log", "level", "host", "service", "trace.id", "kubernetes", "x"])


@given(st.dictionaries(_KEYS, _VALUES))
def test_any_document_is_a_record_or_an_item_that_is_refused(document: dict[str, Any]) -> None:
    decoded, _ = bulk(b'{"index":{}}\n' + orjson.dumps(document))
    assert len(rows(decoded)) + decoded.rejected == 1


_TEXTS = st.text(max_size=5)
_KEPT = st.tuples(
    st.integers(1_000_000_000_000, 4_000_000_000_000),
    _TEXTS,
    st.dictionaries(st.text("ab", min_size=1, max_size=3), _TEXTS.filter(bool), max_size=3),
)
_REFUSED = [b"{broken", b"[1]", b"7", b'{"@timestamp":"soon"}', b'{"a":"\xff"}']


@given(st.lists(st.one_of(_KEPT, st.sampled_from(_REFUSED)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_what_was_sent_comes_out_and_no_refused_document_is_lost(sent: list[Any]) -> None:
    documents = [
        one if isinstance(one, bytes) else orjson.dumps({"@timestamp": one[0], "message": one[1], "nested": {"in": one[2]}}) for one in sent
    ]
    decoded, said = bulk(b"".join(b'{"index":{"_index":"i"}}\n' + document + b"\n" for document in documents))
    found = [(row["time"].value, row["body"], dict(row["attributes"]), dict(row["resource"])) for row in rows(decoded)]
    assert found == [
        (time * 10**6, text or document.decode(), {f"nested.in.{key}": value for key, value in more.items()}, {"elasticsearch.index": "i"})
        for document, (time, text, more) in ((document, one) for document, one in zip(documents, sent, strict=True) if one is not document)
    ]
    refused = [row["payload"].split(b"\n")[1] for row in rows(decoded, "quarantine")]
    assert refused == [one for one in sent if isinstance(one, bytes)]
    assert [item["index"]["status"] for item in said["items"]] == [400 if isinstance(one, bytes) else 201 for one in sent]
