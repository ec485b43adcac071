"""The front door for pushed data: every door of every source, behind one check of token, media type and size. An answer of success
leaves when the journal has the data on disk.

A full or failing journal answers 503 with `Retry-After`, not 429: Prometheus drops what was refused with 429.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ninefold.app import App
from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, NinefoldError, TooLarge, Unavailable
from ninefold.model.signal import Decoded
from ninefold.plugin import Answer, Asked, Door, Source
from ninefold.sources.body import decompress
from ninefold.web import problems
from ninefold.web.auth import authenticate

_INLINE_BYTES = 4096
"""Plain bodies up to this size are decoded on the loop: handing them to a thread costs more than decoding them."""

_WAITING_BYTES = 128 << 20
"""Bodies that were read and are not durable yet; beyond this, senders are asked to wait."""


class Receivers:
    """The receiving routes of one App."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._limit = app.config.server.body_limit_bytes
        self._waiting = 0
        self._pool = ThreadPoolExecutor(2, "decode")
        self._received = app.meter.counter("ninefold_receive_requests_total", "Requests at the front door, by route and status.")
        self._seconds = app.meter.histogram("ninefold_receive_seconds", "From the whole body read to the answer, by route.")

    def routes(self) -> list[Route]:
        """All receiving routes; fixed paths before those with parameters, which would hide them."""
        doors = [(source, door) for source in self._app.sources for door in source.doors()]
        doors.sort(key=lambda pair: "{" in pair[1].path)
        return [Route(door.path, partial(self._serve, source=source, door=door), methods=list(door.methods)) for source, door in doors]

    async def _serve(self, request: Request, source: Source, door: Door) -> Response:
        asked = Asked("", now(), b"", request.path_params, dict(request.query_params), dict(request.headers))
        try:
            if not door.open:
                authenticate(request, "ingest", door.token_keywords, door.token_headers)
            if door.media_types and request.method != "GET":
                _expect(asked.media_type, door.media_types)
            asked = replace(asked, source=_source(request, door.source.format_map(request.path_params) or source.name))
            answer = await self._take(request, asked, source, door)
        except HTTPException as error:
            self._received.add(route=source.kind, status=str(error.status_code))
            refused = door.refuse(asked, error.status_code, str(error.detail)) if door.refuse else None
            if refused is None:
                raise
            answer = replace(refused, headers={**(error.headers or {}), **refused.headers})
        except NinefoldError as error:
            status = problems.status_of(error)
            self._received.add(route=source.kind, status=str(status))
            refused = door.refuse(asked, status, str(error)) if door.refuse else None
            if refused is None:
                raise
            answer = replace(refused, headers={**problems.headers_of(error), **refused.headers})
        return Response(answer.body, answer.status, dict(answer.headers), answer.media_type or None)

    async def _take(self, request: Request, asked: Asked, source: Source, door: Door) -> Answer:
        """Body -> decoded -> durable -> the answer.

        Raises:
            BadData, TooLarge: nothing was kept.
            Unavailable: nothing was kept; sending again later can succeed.
        """
        started = now()
        body = await self._body(request)
        if self._waiting + len(body) > _WAITING_BYTES:
            raise Unavailable("too many bodies wait to be read; send again later")
        self._waiting += len(body)
        try:
            answer = await self._keep(asked, source, door, body)
        finally:
            self._waiting -= len(body)
        self._received.add(route=source.kind, status="2xx")
        self._seconds.observe((now() - started) / 1e9, route=source.kind)
        return answer

    async def _keep(self, asked: Asked, source: Source, door: Door, body: bytes) -> Answer:
        encoding = asked.headers.get("content-encoding", door.encoding).strip().lower()

        def decode() -> tuple[Asked, Decoded]:
            whole = replace(asked, body=decompress(body, encoding, self._limit))
            return whole, door.accept(whole)

        small = len(body) <= _INLINE_BYTES and encoding in ("", "identity")
        loop = asyncio.get_running_loop()
        asked, decoded = decode() if small else await loop.run_in_executor(self._pool, decode)
        try:
            await self._app.emit(decoded.batches, source.extraction)
        except BaseException:  # also when the sender hangs up: what was not kept must be described again
            if door.forget is not None:
                door.forget(decoded.batches)
            raise
        return door.answer(asked, decoded)

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


def _expect(media_type: str, allowed: tuple[str, ...]) -> None:
    if media_type not in allowed:
        raise HTTPException(415, f"the content type {media_type or '(none)'!r} is not understood here; send {' or '.join(allowed)}")


def _source(request: Request, default: str) -> str:
    name = request.headers.get("x-ninefold-source", "").strip() or default
    if len(name) > 80 or not name.isprintable():
        raise BadData("X-Ninefold-Source must be at most 80 printable characters", "header X-Ninefold-Source")
    return name
