"""Errors as RFC 9457 problems: a type, a title, a sentence; never a stack trace."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ninefold.ground.errors import BadData, Conflict, NinefoldError, NotFound, Refused, TooLarge, Unavailable
from ninefold.ground.log import get

_log = get("web")
_STATUS: tuple[tuple[type[NinefoldError], int], ...] = (
    (TooLarge, 413),
    (BadData, 400),
    (Unavailable, 503),
    (NotFound, 404),
    (Refused, 403),
    (Conflict, 409),
)
_TITLES = {
    400: "Bad request", 401: "Not authenticated", 403: "Refused", 404: "Not found", 405: "Method not allowed", 409: "Conflict",
    413: "Too large", 415: "Unsupported media type", 422: "Invalid input", 500: "Internal error", 503: "Unavailable",
}  # fmt: skip


def status_of(error: NinefoldError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def headers_of(error: NinefoldError) -> dict[str, str]:
    """The extra headers of an error: `Retry-After` where trying again can help."""
    return {"Retry-After": str(max(1, round(error.retry_after_s)))} if isinstance(error, Unavailable) else {}


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **extra: Any) -> Response:
    """An `application/problem+json` response."""
    body = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "detail": detail, **extra}
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


def mistake(request: Request, error: Exception) -> Response:
    """The answer to what nobody expected; what it was goes into the log."""
    _log.error("%s %s failed: %s", request.method, request.url.path, error, exc_info=error)
    return problem(500, "the server made a mistake, which is in its log; the request was not carried out or only in part")


def install(api: FastAPI) -> None:
    """Make every error of `api` a problem."""

    @api.exception_handler(NinefoldError)
    async def known(_: Request, error: NinefoldError) -> Response:
        extra = {"where": error.where} if isinstance(error, BadData) and error.where else {}
        return problem(status_of(error), str(error), headers_of(error), **extra)

    @api.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        faults = [{"where": ".".join(map(str, e["loc"])), "reason": e["msg"]} for e in error.errors()]
        return problem(422, "; ".join(f"{f['where']}: {f['reason']}" for f in faults), errors=faults)

    @api.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        return mistake(request, error)
