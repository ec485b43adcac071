"""OTLP over gRPC on port 4317, where OpenTelemetry SDKs and collectors send by default: metrics, logs and traces, plain or gzip.

Point an SDK at it with ``OTEL_EXPORTER_OTLP_ENDPOINT=http://host:4317``, ``OTEL_EXPORTER_OTLP_PROTOCOL=grpc`` and
``OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20<token>``; the token needs the role `ingest`. What becomes of each field is the same as
over HTTP. Metadata ``x-ninefold-source`` names who sends.

An Export call is answered once its data is on disk. Rows that were refused are told as `partial_success`; a journal that is full as
UNAVAILABLE with `RetryInfo`, on which every exporter waits and sends again. Messages may have 20 MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from pydantic import Field

from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, ConfigError, NinefoldError, TooLarge, Unavailable
from ninefold.model.signal import Decoded
from ninefold.plugin import Emit, Lent, Source
from ninefold.sources.listening import Listen
from ninefold.sources.otlp import Otlp, response
from ninefold.sources.series import described

if TYPE_CHECKING:
    import grpc

_SERVICES = {"metrics": "metrics.v1.MetricsService", "logs": "logs.v1.LogsService", "traces": "trace.v1.TraceService"}
_PROTOBUF = "application/x-protobuf"
_INLINE_BYTES = 4096
_NAME_LENGTH = 80
_LAST_WAIT_S = 5.0
_FULL_WAIT_S = 1.0
_WAITING_BYTES = 128 << 20
"""Bodies that are held at once; each call beyond is asked to come back."""
_CALLS = 1024


class OtlpGrpcConfig(Listen):
    """Where OTLP/gRPC is received."""

    port: int = Field(4317, ge=0, le=65535, description="Port; 0 takes a free one.")
    message_limit_bytes: int = Field(20 << 20, ge=1024, description="Largest message, before and after decompression.")
    certificate: Path | None = Field(None, description="PEM file with the server's certificate; set, the port speaks TLS only.")
    key: Path | None = Field(None, description="PEM file with the certificate's private key.")
    client_ca: Path | None = Field(None, description="PEM file of the authorities of client certificates; set, every client needs one.")


class OtlpGrpc(Source):
    """OTLP/gRPC. `port` is the bound one once `started` is set."""

    kind = "otlp_grpc"
    title = "OpenTelemetry (OTLP/gRPC)"
    extraction = "push"
    signals = frozenset(("metric", "log", "span"))
    always = True
    Config = OtlpGrpcConfig

    def __init__(self, name: str, config: OtlpGrpcConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self.port = config.port
        self.started = asyncio.Event()
        self.decoder: Otlp = lent.share(Otlp)
        self._decoding = asyncio.Semaphore(2)
        self._waiting_bytes = 0
        self._received = lent.meter.counter("ninefold_receive_requests_total", "Requests at the front door, by route and status.")

    async def run(self, emit: Emit) -> None:
        """Serve until cancelled; calls under way may finish.

        Raises:
            OSError: the port cannot be bound.
            ConfigError: grpcio is not installed, or the TLS files cannot be used.
        """
        try:
            import grpc
        except ImportError as error:
            raise ConfigError(f"sources.{self.name}: OTLP over gRPC needs grpcio; install ninefold[grpc]") from error
        limit = self.config.message_limit_bytes
        options = [
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_concurrent_streams", 64),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.max_ping_strikes", 5),
        ]
        handlers = [self._handler(grpc, signal, service, emit) for signal, service in _SERVICES.items()]
        server = grpc.aio.server(handlers=handlers, options=options, maximum_concurrent_rpcs=_CALLS)
        self.port = self._bind(grpc, server)
        await server.start()
        self.started.set()
        try:
            await server.wait_for_termination()
        finally:
            self.started.clear()
            await server.stop(_LAST_WAIT_S)

    def _bind(self, grpc: Any, server: Any) -> int:
        config, address = self.config, f"{self.config.host}:{self.config.port}"
        try:
            if config.certificate is None:
                return int(server.add_insecure_port(address))
            if config.key is None:
                raise ConfigError(f"sources.{self.name}.key: the key of the certificate is missing")
            ca = config.client_ca.read_bytes() if config.client_ca else None
            pair = (config.key.read_bytes(), config.certificate.read_bytes())
            return int(server.add_secure_port(address, grpc.ssl_server_credentials([pair], ca, ca is not None)))
        except RuntimeError as error:
            raise OSError(f"{address} cannot be bound: {error}") from error

    def _handler(self, grpc: Any, signal: str, service: str, emit: Emit) -> grpc.GenericRpcHandler:
        """The Export method of one signal on raw bytes; as a stream of one message, which is read only when it is asked for."""
        method = grpc.stream_unary_rpc_method_handler(partial(self._export, grpc.StatusCode, signal, emit))
        return grpc.method_handlers_generic_handler(f"opentelemetry.proto.collector.{service}", {"Export": method})

    async def _export(
        self, codes: Any, signal: str, emit: Emit, bodies: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
    ) -> bytes:
        about = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        scheme, _, secret = about.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self.lent.authorise(secret.strip()):
            await self._abort(
                context, codes.UNAUTHENTICATED, "a token that may send data is needed: metadata `authorization: Bearer <token>`"
            )
        try:
            answer = await self._wait(signal, emit, bodies, about.get("x-ninefold-source", "").strip() or self.name)
        except Unavailable as error:
            wait = Duration()
            wait.FromNanoseconds(int(error.retry_after_s * 1e9))
            detail = AnyMessage()
            detail.Pack(RetryInfo(retry_delay=wait))
            await self._abort(context, codes.UNAVAILABLE, str(error), [detail])
        except TooLarge as error:  # without RetryInfo this means: do not send it again
            await self._abort(context, codes.RESOURCE_EXHAUSTED, str(error))
        except BadData as error:
            await self._abort(context, codes.INVALID_ARGUMENT, str(error))
        except NinefoldError as error:
            await self._abort(context, codes.INTERNAL, str(error))
        self._received.add(route=self.kind, status="OK")
        return answer

    async def _wait(self, signal: str, emit: Emit, bodies: AsyncIterator[bytes], source: str) -> bytes:
        """Read the body and take it, unless too much is waiting already.

        Raises:
            BadData, TooLarge: nothing was kept.
            Unavailable: nothing was kept; sending again later can succeed.
        """
        full = Unavailable(f"more than {_WAITING_BYTES >> 20} MiB are waiting for the journal; send again later", _FULL_WAIT_S)
        if self._waiting_bytes >= _WAITING_BYTES:
            raise full
        body = await anext(bodies, None)
        if body is None:
            raise BadData("the call has no message")
        if self._waiting_bytes and self._waiting_bytes + len(body) > _WAITING_BYTES:
            raise full
        self._waiting_bytes += len(body)
        try:
            return await self._take(signal, emit, body, source)
        finally:
            self._waiting_bytes -= len(body)

    async def _take(self, signal: str, emit: Emit, body: bytes, source: str) -> bytes:
        """Body -> decoded -> durable -> the answer.

        Raises:
            BadData, TooLarge: nothing was kept.
            Unavailable: nothing was kept; sending again later can succeed.
        """
        if len(source) > _NAME_LENGTH or not source.isprintable():
            raise BadData(f"x-ninefold-source must be at most {_NAME_LENGTH} printable characters", "metadata x-ninefold-source")
        if len(body) > self.config.message_limit_bytes:
            raise TooLarge(f"the message has {len(body)} bytes and the limit is {self.config.message_limit_bytes}; send smaller batches")
        decode: Callable[[bytes, str, str, int], Decoded] = getattr(self.decoder, signal)
        if len(body) <= _INLINE_BYTES:
            decoded = decode(body, _PROTOBUF, source, now())
        else:
            decoded = await self._decode(partial(decode, body, _PROTOBUF, source, now()))
        try:
            await emit(decoded.batches)
        except BaseException:  # also when the sender hangs up: what was not kept must be described again
            self.decoder.forget(described(decoded.batches))
            raise
        return response(signal, decoded, _PROTOBUF)

    async def _decode(self, decode: Callable[[], Decoded]) -> Decoded:
        """Decode in a thread, which goes on when the sender hangs up: what it describes then was not kept and must be described again."""
        await self._decoding.acquire()
        work = asyncio.get_running_loop().run_in_executor(None, decode)
        work.add_done_callback(lambda _: self._decoding.release())
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._forget)
            raise

    def _forget(self, work: asyncio.Future[Decoded]) -> None:
        if not work.cancelled() and work.exception() is None:
            self.decoder.forget(described(work.result().batches))

    async def _abort(
        self, context: grpc.aio.ServicerContext[Any, Any], code: Any, message: str, details: Sequence[AnyMessage] = ()
    ) -> NoReturn:
        """End the call with a `google.rpc.Status`."""
        self._received.add(route=self.kind, status=code.name)
        status = Status(code=code.value[0], message=message, details=details)
        await context.abort(code, message, (("grpc-status-details-bin", status.SerializeToString()),))
        raise AssertionError("unreachable: abort raises")
