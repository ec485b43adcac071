"""OTLP/gRPC: captured requests of the OpenTelemetry SDK over a real channel, and every way a call can be refused."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from sockets import Journal, Meters, certificates, lent, make, rows, running, until

from ninefold.ground.clock import now
from ninefold.ground.errors import ConfigError
from ninefold.sources import otlp_grpc
from ninefold.sources.otlp import Otlp
from ninefold.sources.otlp_grpc import OtlpGrpc

grpc = pytest.importorskip("grpc")
SIGNALS = {"metrics": "metrics.v1.MetricsService", "logs": "logs.v1.LogsService", "traces": "trace.v1.TraceService"}
TOKEN = (("authorization", "Bearer right"),)

Call = Callable[..., Coroutine[Any, Any, bytes]]


def captured(data: Path, signal: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((data / "payloads" / "otlp_grpc").glob(f"{SIGNALS[signal]}_Export_*.body.pb"))]


def serve(scenario: Callable[[Call, Journal, Meters], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def main() -> None:
        journal, meters = Journal(), Meters()
        source = make(OtlpGrpc, {"port": 0, **settings}, lent(meters, authorise=lambda secret: secret == "right"))
        async with running(source, journal), grpc.aio.insecure_channel(f"127.0.0.1:{source.port}") as channel:

            async def call(signal: str, body: bytes, metadata: Any = TOKEN, **options: Any) -> bytes:
                method = channel.unary_unary(f"/opentelemetry.proto.collector.{SIGNALS[signal]}/Export")
                answer: bytes = await method(body, metadata=metadata, timeout=10, **options)
                return answer

            await scenario(call, journal, meters)

    asyncio.run(main())


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_captured_requests_become_the_rows_they_become_over_http(data: Path, signal: str, compression: Any) -> None:
    name = {"metrics": "metric", "logs": "log", "traces": "span"}[signal]

    async def scenario(call: Call, journal: Journal, meters: Meters) -> None:
        decoder, expected = Otlp(), []
        for body in captured(data, signal):
            assert await call(signal, body, compression=compression) == b""
            expected += rows(getattr(decoder, signal)(body, "application/x-protobuf", "otlp_grpc", now()), name)
        found = journal.rows(name)
        for row in (*found, *expected):
            row.pop("received", None)
        assert found == expected != []
        assert {batch.source for batch in journal.batches} == {"otlp_grpc"}
        assert meters["ninefold_receive_requests_total"] == len(captured(data, signal))

    serve(scenario)


def test_the_sender_may_name_itself(data: Path) -> None:
    async def scenario(call: Call, journal: Journal, meters: Meters) -> None:
        await call("logs", captured(data, "logs")[0], (*TOKEN, ("x-ninefold-source", "shop")))
        assert {batch.source for batch in journal.batches} == {"shop"}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("logs", captured(data, "logs")[0], (*TOKEN, ("x-ninefold-source", "x" * 81)))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    serve(scenario)


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),), (("authorization", "right"),)])
def test_without_a_token_nothing_is_kept(data: Path, metadata: Any) -> None:
    async def scenario(call: Call, journal: Journal, meters: Meters) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("logs", captured(data, "logs")[0], metadata)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert journal.batches == []

    serve(scenario)


def test_a_full_journal_asks_to_try_again_and_series_are_described_then(data: Path) -> None:
    async def scenario(call: Call, journal: Journal, meters: Meters) -> None:
        journal.open = False
        body = captured(data, "metrics")[0]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("metrics", body)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        told = Status.FromString(dict(refused.value.trailing_metadata())["grpc-status-details-bin"])
        wait = RetryInfo()
        assert told.details[0].Unpack(wait)
        assert wait.retry_delay.ToMilliseconds() == 10
        journal.open = True
        await call("metrics", body)
        assert {row["series"] for row in journal.rows("series")} == {row["series"] for row in journal.rows("metric")} != set()

    serve(scenario)


def test_a_call_that_is_cancelled_while_it_is_decoded_describes_nothing_for_good(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_grpc, "_INLINE_BYTES", 0)
    begun, go_on, decode = threading.Event(), threading.Event(), Otlp.metrics

    def slowly(self: Otlp, *arguments: Any) -> Any:
        found = decode(self, *arguments)
        begun.set()
        go_on.wait(10)
        return found

    async def main() -> None:
        journal, body = Journal(), captured(data, "metrics")[0]
        source = make(OtlpGrpc, {"port": 0})
        monkeypatch.setattr(Otlp, "metrics", slowly)
        call = asyncio.create_task(source._take("metrics", journal.emit, body, "a"))
        await until(begun.is_set)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        go_on.set()
        monkeypatch.setattr(Otlp, "metrics", decode)
        await until(lambda: source._decoding._value == 2)
        await source._take("metrics", journal.emit, body, "a")
        assert {row["series"] for row in journal.rows("series")} == {row["series"] for row in journal.rows("metric")} != set()

    asyncio.run(main())


def test_without_a_token_no_message_is_read() -> None:
    async def never() -> Any:
        await asyncio.sleep(60)
        yield b""

    async def main() -> None:
        source = make(OtlpGrpc, {"port": 0}, lent(authorise=lambda secret: False))
        async with running(source, Journal()), grpc.aio.insecure_channel(f"127.0.0.1:{source.port}") as channel:
            call = channel.stream_unary(f"/opentelemetry.proto.collector.{SIGNALS['logs']}/Export")(never(), timeout=10)
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(main())


def test_while_too_much_is_waiting_calls_are_asked_to_come_back(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = captured(data, "logs")[0]
    monkeypatch.setattr(otlp_grpc, "_WAITING_BYTES", len(body))

    async def main() -> None:
        go_on, waiting = asyncio.Event(), 0

        class Slow(Journal):
            async def emit(self, batches: Any) -> None:
                nonlocal waiting
                waiting += 1
                await go_on.wait()
                await super().emit(batches)

        journal = Slow()
        source = make(OtlpGrpc, {"port": 0}, lent(authorise=lambda secret: True))
        async with running(source, journal), grpc.aio.insecure_channel(f"127.0.0.1:{source.port}") as channel:
            method = channel.unary_unary(f"/opentelemetry.proto.collector.{SIGNALS['logs']}/Export")
            first = asyncio.ensure_future(method(body, metadata=TOKEN, timeout=10))
            await until(lambda: waiting == 1)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await method(body, metadata=TOKEN, timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert Status.FromString(dict(refused.value.trailing_metadata())["grpc-status-details-bin"]).details
            go_on.set()
            await first
            await method(body, metadata=TOKEN, timeout=10)
        assert len(journal.batches) == 2

    asyncio.run(main())


def test_what_is_refused_in_part_is_told(data: Path) -> None:
    async def scenario(call: Call, journal: Journal, meters: Meters) -> None:
        request = ExportLogsServiceRequest.FromString(captured(data, "logs")[0])
        request.resource_logs[0].scope_logs[0].log_records[0].trace_id = b"short"
        answer = ExportLogsServiceResponse.FromString(await call("logs", request.SerializeToString()))
        assert (answer.partial_success.rejected_log_records, len(journal.rows("quarantine"))) == (1, 1)
        assert "trace_id" in answer.partial_success.error_message
        assert ExportMetricsServiceResponse.FromString(await call("metrics", b"")) == ExportMetricsServiceResponse()

    serve(scenario)


@pytest.mark.parametrize(
    ("body", "compression", "code"),
    [
        (b"\xff\xff\xff", None, "INVALID_ARGUMENT"), (b"\0" * 5000, None, "RESOURCE_EXHAUSTED"),
        (b"\0" * 500_000, grpc.Compression.Gzip, "RESOURCE_EXHAUSTED"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_is_too_large_is_not_to_be_repeated(body: bytes, compression: Any, code: str) -> None:
    async def scenario(call: Call, journal: Journal, meters: Meters) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("logs", body, compression=compression)
        assert refused.value.code().name == code
        details = dict(refused.value.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        assert not Status.FromString(details).details

    serve(scenario, message_limit_bytes=4096)


def test_tls(tmp_path: Path, data: Path) -> None:
    certificates(tmp_path)
    files = {"certificate": tmp_path / "server.pem", "key": tmp_path / "server.key", "client_ca": tmp_path / "ca.pem"}

    async def main() -> None:
        journal = Journal()
        source = make(OtlpGrpc, {"port": 0, **files}, lent(authorise=lambda secret: True))
        async with running(source, journal):
            for client in ("client", "stranger-client"):
                parts = [(tmp_path / name).read_bytes() for name in ("ca.pem", f"{client}.key", f"{client}.pem")]
                target = f"localhost:{source.port}"
                override = (("grpc.ssl_target_name_override", "server.lab"),)
                async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(*parts), override) as channel:
                    method = channel.unary_unary(f"/opentelemetry.proto.collector.{SIGNALS['logs']}/Export")
                    with contextlib.nullcontext() if client == "client" else pytest.raises(grpc.aio.AioRpcError):
                        await method(captured(data, "logs")[0], metadata=TOKEN, timeout=10)
        assert len(journal.batches) == 1

    asyncio.run(main())


def test_settings_that_cannot_work(tmp_path: Path) -> None:
    certificates(tmp_path)

    async def main() -> None:
        with pytest.raises(ConfigError, match="key"):
            await make(OtlpGrpc, {"port": 0, "certificate": tmp_path / "server.pem"}).run(Journal().emit)
        taken = make(OtlpGrpc, {"port": 0})
        async with running(taken, Journal()):
            with pytest.raises(OSError, match="cannot be bound"):
                await make(OtlpGrpc, {"port": taken.port}).run(Journal().emit)

    asyncio.run(main())
