"""The front door answers as its protocols say, keeps what it acknowledged, and loses nothing of what it cannot understand."""

from __future__ import annotations

import base64
import gzip
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from served import Program, until

_PROTOBUF = {"Content-Type": "application/x-protobuf"}


def logs_body(*records: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": list(records)}]}]}


def record(body: str, **more: Any) -> dict[str, Any]:
    return {"timeUnixNano": str(time.time_ns()), "severityNumber": 17, "body": {"stringValue": body}, **more}


def test_the_front_door(program: Program, data: Path) -> None:
    """One server, many callers: status by status."""
    http = program.http

    def answer(path: str, **options: Any) -> httpx.Response:
        return http.post(path, **options)

    # who and what
    nobody = httpx.post(f"{program.url}/v1/logs", json=logs_body(), trust_env=False)
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    assert answer("/v1/logs", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert answer("/api/v1/write", json={}).status_code == 415
    basic = base64.b64encode(f"any:{program.token}".encode()).decode()
    assert (
        httpx.post(f"{program.url}/api/v2/alerts", json=[], headers={"Authorization": f"Basic {basic}"}, trust_env=False).status_code == 200
    )

    # too large, also after decompression: 200 MB of zeros are 200 kB of gzip
    assert answer("/v1/logs", content=bytes(21 << 20), headers=_PROTOBUF).status_code == 413
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(200)) + squeeze.flush()
    assert answer("/v1/logs", content=bomb, headers={**_PROTOBUF, "Content-Encoding": "gzip"}).status_code == 413

    # malformed
    bad = answer("/webhook/any", content=b'{"title": nope}', headers={"Content-Type": "application/json"})
    assert bad.status_code == 400
    assert "10" in bad.json()["detail"]
    assert bad.headers["content-type"] == "application/problem+json"
    assert answer("/v1/logs", content=b"\xff\xff\xff", headers=_PROTOBUF).status_code == 400
    assert answer("/api/v1/write", content=b"\x05nope", headers=_PROTOBUF).status_code == 400

    # the answer has the request's encoding
    empty = answer("/v1/logs", content=b"", headers=_PROTOBUF)
    assert (empty.status_code, empty.content, empty.headers["content-type"]) == (200, b"", "application/x-protobuf")
    compressed = gzip.compress(orjson.dumps(logs_body(record("gzip and JSON"))))
    fine = answer("/v1/logs", content=compressed, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert (fine.status_code, fine.json()) == (200, {})

    # half bad: the good half is kept, the bad half is told, quarantined and visible
    half = answer("/v1/logs", json=logs_body(record("good half"), record("bad half", traceId="abc")))
    assert half.status_code == 200
    assert int(half.json()["partialSuccess"]["rejectedLogRecords"]) == 1
    assert half.json()["partialSuccess"]["errorMessage"]
    program.wait_for_row("select count() from log where body = 'good half' and entity = 'service:shop'")
    bad_rows = until(lambda: program.get("quarantine")["items"], what="the quarantined record")
    assert any("bad half" in row["payload"] and row["reason"] for row in bad_rows)
    assert {source["name"] for source in program.get("sources")["items"]} >= {"otlp"}

    # every captured OTLP body is taken as it was sent
    for path in sorted((data / "payloads" / "otlp_http_gzip").glob("*.bin.gzip")):
        kind = path.name.split("_")[2]
        sent = answer(f"/v1/{kind}", content=path.read_bytes(), headers={**_PROTOBUF, "Content-Encoding": "gzip"})
        assert sent.status_code == 200, (path.name, sent.text)
    request = ExportLogsServiceRequest.FromString(
        gzip.decompress((data / "payloads/otlp_http_gzip/POST_v1_logs_01.body.bin.gzip").read_bytes())
    )
    body = request.resource_logs[0].scope_logs[0].log_records[0].body.string_value
    escaped = body.replace("\\", "\\\\").replace("'", "\\'")
    program.wait_for_row(f"select count() from log where body = '{escaped}'")
    ExportLogsServiceResponse.FromString(sent.content)


def test_a_full_journal_refuses_with_retry_after_and_recovers(make_program: Any) -> None:
    program = make_program(journal={"size_limit_bytes": 200_000}).start()
    body = logs_body(*[record("x" * 1000) for _ in range(100)])
    statuses = []
    for _ in range(60):
        answer = program.http.post("/v1/logs", json=body)
        statuses.append(answer.status_code)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            break
    assert 503 in statuses
    kept = statuses.count(200) * 100
    until(lambda: program.http.post("/v1/logs", json=logs_body(record("after"))).status_code == 200, what="the recovery")
    program.wait_for_row("select count() from log where body = 'after'")
    assert program.query("select count() from log where body != 'after'") == [[kept]]


def test_nobody_may_call_itself_ninefold(program: Program) -> None:
    for name in ("ninefold", "Ninefold.watch"):
        answer = program.http.post("/v1/logs", json=logs_body(record("x")), headers={"X-Ninefold-Source": name})
        assert (answer.status_code, "another name" in answer.text) == (400, True)
    assert program.http.post("/webhook/ninefold", json={"title": "x"}).status_code == 400
