"""HTTP calls of connectors: httpx underneath, Ninefold's errors and limits above. Redirects are never followed, and proxies and
passwords of the environment (HTTP_PROXY, .netrc) play no part: a connector goes where its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from ninefold.ground.errors import BadData, Conflict, NotFound, OutcomeUnknown, Refused, Unavailable

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_TRY_LATER = (429, 503)
_READING = ("GET", "HEAD", "OPTIONS")
_RETRY_AFTER_S = 5.0
_REASON_CHARS = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer (status below 300, or one the caller expects)."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            BadData: it is not JSON.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise BadData(f"the answer is not JSON: {error}", "answer") from error


class Wire:
    """One peer's HTTP client, opened at the first call.

    Args:
        peer: what messages call the peer, e.g. the connector's kind.
        headers, auth: sent with every request.
        timeout_s: for connecting and for each silence while reading or writing.
        limit_bytes: largest body read.
    """

    def __init__(
        self,
        peer: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout_s: float = 30.0,
        limit_bytes: int = 1 << 20,
    ) -> None:
        self._peer, self._limit_bytes = peer, limit_bytes
        self._headers, self._auth, self._timeout_s = dict(headers or {}), auth, timeout_s
        self._client: httpx.AsyncClient | None = None

    async def call(
        self,
        method: str,
        url: str | httpx.URL,
        *,
        repeatable: bool,
        expect: tuple[int, ...] = (),
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Answer:
        """Send one request and read its answer.

        Args:
            method: the HTTP method.
            url: the absolute URL.
            repeatable: whether sending it twice is harmless; decides what a lost answer means.
            expect: statuses of 300 and above that are answers, not errors.
            headers: for this request.
            body: httpx's `params`, `json`, `content`.

        Raises:
            Unavailable: it was not carried out, or repeating it is harmless: try again.
            OutcomeUnknown: it was sent, is not repeatable, and no clear answer came.
            NotFound, Conflict, Refused: the peer says so.
        """
        if self._client is None:
            self._client = httpx.AsyncClient(
                headers=self._headers, auth=self._auth, timeout=self._timeout_s, follow_redirects=False, trust_env=False
            )
        try:
            async with self._client.stream(method, url, headers=headers, **body) as response:
                content = await self._read(response, expect)
        except _NOT_SENT as error:
            raise Unavailable(f"{self._peer} at {_host(url)} cannot be reached ({error or type(error).__name__})") from error
        except httpx.TransportError as error:
            raise _lost(self._peer, method, url, repeatable, str(error) or type(error).__name__) from error
        answer = Answer(response.status_code, response.headers, content)
        if answer.status >= 300 and answer.status not in expect:
            raise self._error(method, url, repeatable, answer)
        return answer

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _read(self, response: httpx.Response, expect: tuple[int, ...]) -> bytes:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > self._limit_bytes:
                if response.status_code >= 300 and response.status_code not in expect:
                    break  # an error is told by its beginning
                told = f"{self._peer} answered more than {self._limit_bytes} bytes; ask for less or raise the limit"
                raise Refused(told, carried_out=response.request.method not in _READING)
            chunks.append(chunk)
        return b"".join(chunks)

    def _error(self, method: str, url: str | httpx.URL, repeatable: bool, answer: Answer) -> Exception:
        status = answer.status
        said = f"{self._peer} answered {status} to {method} {_path(url)}: {_reason(answer)}"
        if status in _TRY_LATER:
            return Unavailable(said, _retry_after(answer.headers))
        if status >= 500:
            return Unavailable(said) if repeatable else OutcomeUnknown(said)
        if status == 404:
            return NotFound(said)
        if status in (409, 412):
            return Conflict(said)
        if status < 400:
            return Refused(f"{said} (it redirects to {answer.headers.get('location', '?')}; name that address instead)")
        return Refused(said)


def _lost(peer: str, method: str, url: str | httpx.URL, repeatable: bool, reason: str) -> Exception:
    said = f"no answer of {peer} to {method} {_path(url)} ({reason})"
    return Unavailable(said) if repeatable else OutcomeUnknown(f"{said}; it may have been carried out")


def _reason(answer: Answer) -> str:
    text = answer.text
    try:
        data = orjson.loads(answer.body)
        if isinstance(data, dict):
            text = str(data.get("message") or data.get("detail") or data.get("error") or text)
    except orjson.JSONDecodeError:
        pass
    return " ".join(text.split())[:_REASON_CHARS] or "no reason given"


def _retry_after(headers: httpx.Headers) -> float:
    value = headers.get("retry-after", "")
    return float(value) if value.isdigit() else _RETRY_AFTER_S


def _host(url: str | httpx.URL) -> str:
    parsed = httpx.URL(url)
    return f"{parsed.host}:{parsed.port}" if parsed.port else parsed.host


def _path(url: str | httpx.URL) -> str:
    parsed = httpx.URL(url)
    return f"{_host(parsed)}{parsed.path}"
