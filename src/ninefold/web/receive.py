"""The front door for pushed data: every route checks token, size and content type, decodes, and answers 2xx only when the
journal has the data on disk.

A full or failing journal answers 503 with `Retry-After`, not 429: Prometheus drops what was refused with 429.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ninefold.app import App
from ninefold.config import FileFormat
from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, NinefoldError, TooLarge
from ninefold.model.signal import Batch, Decoded
from ninefold.sources import alertmanager, cloudevents, files, webhook
from ninefold.sources.body import decompress
from ninefold.sources.otlp import Otlp, error_status, response
from ninefold.sources.remote_write import RemoteWrite
from ninefold.web import problems
from ninefold.web.auth import authenticate

_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_FILE_FORMATS: dict[str, FileFormat] = {"csv": "csv", "jsonl": "jsonl", "log": "log", "metrics": "metrics"}
_INLINE_BYTES = 4096
"""Bodies up to this size are decoded on the loop: handing them to a thread costs more than decoding them."""

Decode = Callable[[bytes], Decoded]


class Receivers:
    """The receiving routes of one App."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._limit = app.config.server.body_limit_bytes
        self._pool = ThreadPoolExecutor(2, "decode")
        self._otlp_decoder = Otlp()
        self._write_decoder = RemoteWrite()
        self._received = app.meter.counter("ninefold_receive_requests_total", "Requests at the front door, by route and status.")
        self._seconds = app.meter.histogram("ninefold_receive_seconds", "From the whole body read to the answer, by route.")

    def routes(self) -> list[Route]:
        """All receiving routes."""
        return [
            Route("/v1/metrics", partial(self._otlp, signal="metrics"), methods=["POST"]),
            Route("/v1/logs", partial(self._otlp, signal="logs"), methods=["POST"]),
            Route("/v1/traces", partial(self._otlp, signal="traces"), methods=["POST"]),
            Route("/api/v1/write", self._remote_write, methods=["POST"]),
            Route("/api/v2/alerts", self._alerts, methods=["POST"]),
            Route("/webhook/alertmanager", self._alertmanager, methods=["POST"]),
            Route("/webhook/{name}", self._webhook, methods=["POST"]),
            Route("/cloudevents", self._cloudevents, methods=["POST"]),
            Route("/files", self._files, methods=["POST"]),
        ]

    async def _otlp(self, request: Request, signal: str) -> Response:
        content_type = _media_type(request)
        try:
            authenticate(request, "ingest")
            _expect(content_type, _PROTOBUF, _JSON)
            source = _source(request, "otlp")
            decoder = {"metrics": self._otlp_decoder.metrics, "logs": self._otlp_decoder.logs, "traces": self._otlp_decoder.traces}[signal]
            decoded = await self._take(request, f"otlp.{signal}", lambda body: decoder(body, content_type, source, now()))
        except HTTPException as error:
            return self._otlp_error(content_type, error.status_code, str(error.detail), dict(error.headers or {}))
        except NinefoldError as error:
            return self._otlp_error(content_type, problems.status_of(error), str(error), problems.headers_of(error))
        return Response(response(signal, decoded, content_type), media_type=content_type)

    def _otlp_error(self, content_type: str, status: int, message: str, headers: dict[str, str]) -> Response:
        if content_type not in (_PROTOBUF, _JSON):
            return problems.problem(status, message, headers)
        code = {400: 3, 401: 16, 403: 7, 413: 8, 415: 3, 503: 14}.get(status, 13)
        return Response(error_status(message, code, content_type), status, headers, content_type)

    async def _remote_write(self, request: Request) -> Response:
        authenticate(request, "ingest")
        _expect(_media_type(request), _PROTOBUF)
        if "io.prometheus.write.v2" in request.headers.get("content-type", ""):
            raise HTTPException(415, "remote write 2.0 is not spoken here; use the message prometheus.WriteRequest (1.0)")
        source = _source(request, "prometheus")
        await self._take(request, "remote_write", lambda body: self._write_decoder.decode(body, source, now()), default_encoding="snappy")
        return Response(status_code=204)

    async def _alerts(self, request: Request) -> Response:
        authenticate(request, "ingest")
        _expect(_media_type(request), _JSON)
        source = _source(request, "prometheus-alerts")
        await self._take(request, "alertmanager", lambda body: alertmanager.accept_alerts(body, source, now()))
        return Response(status_code=200)

    async def _alertmanager(self, request: Request) -> Response:
        authenticate(request, "ingest")
        _expect(_media_type(request), _JSON)
        source = _source(request, "alertmanager")
        await self._take(request, "alertmanager", lambda body: alertmanager.accept_webhook(body, source, now()))
        return Response(status_code=202)

    async def _webhook(self, request: Request) -> Response:
        authenticate(request, "ingest")
        _expect(_media_type(request), _JSON)
        name = request.path_params["name"]
        mapping = self._app.config.webhooks.get(name)
        await self._take(request, "webhook", lambda body: webhook.accept(name, body, mapping, _source(request, name), now()))
        return Response(status_code=202)

    async def _cloudevents(self, request: Request) -> Response:
        authenticate(request, "ingest")
        source = _source(request, "cloudevents")
        headers = dict(request.headers)
        await self._take(request, "cloudevents", lambda body: cloudevents.accept(headers, body, source, now()))
        return Response(status_code=202)

    async def _files(self, request: Request) -> Response:
        authenticate(request, "ingest")
        _expect(_media_type(request), "text/csv", "application/x-ndjson", "text/plain")
        source, format_ = _source(request, "file"), request.query_params.get("format", "")
        if format_ not in _FILE_FORMATS:
            raise BadData(f"the format {format_!r} is none of {', '.join(_FILE_FORMATS)}", "query parameter format")
        mapping = request.query_params.get("mapping", "")
        await self._take(request, "files", lambda body: files.accept(body, _FILE_FORMATS[format_], mapping, source, now()))
        return Response(status_code=202)

    async def _take(self, request: Request, route: str, decode: Decode, default_encoding: str = "") -> Decoded:
        """Body -> decoded -> durable.

        Raises:
            BadData, TooLarge: nothing was kept.
            Unavailable: nothing was kept; sending again later can succeed.
        """
        started = now()
        try:
            body = await self._body(request)
            encoding = request.headers.get("content-encoding", default_encoding).strip().lower()
            decoded = await self._decode(lambda: decode(decompress(body, encoding, self._limit)), len(body))
            try:
                await self._app.emit(decoded.batches)
            except BaseException:  # also when the sender hangs up: what was not kept must be described again
                self._forget(decoded.batches)
                raise
        except NinefoldError as error:
            self._received.add(route=route, status=str(problems.status_of(error)))
            raise
        self._received.add(route=route, status="2xx")
        self._seconds.observe((now() - started) / 1e9, route=route)
        return decoded

    async def _decode(self, work: Callable[[], Decoded], size: int) -> Decoded:
        if size <= _INLINE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _forget(self, batches: list[Batch]) -> None:
        """A series is described once, with its first points; when those were refused it must be described again."""
        for batch in batches:
            if batch.signal == "series":
                numbers = batch.rows.column("series").to_pylist()
                self._otlp_decoder.forget(numbers)
                self._write_decoder.forget(numbers)

    async def _body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._limit:
            raise TooLarge(f"the body is {declared} bytes and the limit is {self._limit}; send smaller batches")
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._limit:
                raise TooLarge(f"the body is longer than the limit of {self._limit} bytes; send smaller batches")
            parts.append(part)
        return b"".join(parts)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _expect(media_type: str, *allowed: str) -> None:
    if media_type not in allowed:
        raise HTTPException(415, f"the content type {media_type or '(none)'!r} is not understood here; send {' or '.join(allowed)}")


def _source(request: Request, default: str) -> str:
    name = request.headers.get("x-ninefold-source", "").strip() or default
    if len(name) > 80 or not name.isprintable():
        raise BadData("X-Ninefold-Source must be at most 80 printable characters", "header X-Ninefold-Source")
    return name
