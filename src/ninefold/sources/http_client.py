"""HTTP as a client: one way to ask, with Ninefold's errors, for the sources that poll or stream over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import Field, SecretStr

from ninefold.ground.errors import BadData, Refused, Unavailable
from ninefold.plugin import Strict
from ninefold.sources.client_tls import ClientTls
from ninefold.sources.reading import load_json

LIMIT_BYTES = 64 << 20
_LONGEST_ASKED_S = 3600.0


class HttpConfig(Strict):
    """Who we are to an HTTP server; part of the settings of sources that ask one."""

    user: str = Field("", description="User name, for Basic authentication.")
    password: SecretStr | None = Field(None, description="The user's password.")
    token: SecretStr | None = Field(None, description="A token, sent as ``Authorization: <token_keyword> <token>``.")
    token_keyword: str = Field("Bearer", description="What stands before the token.")
    secret_headers: dict[str, SecretStr] = Field(default_factory=dict, description="Headers that hold secrets, such as ``X-Api-Key``.")
    tls: ClientTls = Field(default_factory=lambda: ClientTls(enabled=True), description="Certificates for https addresses.")


class Http:
    """One server's client, opened at the first question. Redirects are not followed, so credentials go nowhere else."""

    def __init__(self, what: str, where: str, config: HttpConfig, timeout_s: float) -> None:
        self._what, self._where, self._config, self._timeout_s = what, where, config, timeout_s
        self._client: httpx.AsyncClient | None = None

    async def ask(self, method: str, url: str | httpx.URL, **more: Any) -> tuple[Any, httpx.Response]:
        """The JSON of an answer, and the answer.

        Raises:
            Unavailable: it is not there, answered 429 or 5xx.
            Refused: any other answer than 2xx, an answer that is no JSON, or one above 64 MiB.
        """
        async with self.stream(method, url, **more) as response:
            parts, size = [], 0
            async for part in response.aiter_bytes():
                size += len(part)
                if size > LIMIT_BYTES:
                    raise Refused(f"{self._what} answered more than {LIMIT_BYTES} bytes to {_path(url)}; ask for smaller pages")
                parts.append(part)
        try:
            return load_json(b"".join(parts)), response
        except BadData as error:
            raise Refused(f"{self._what} did not answer JSON to {_path(url)}: {error.reason}") from error

    @asynccontextmanager
    async def stream(self, method: str, url: str | httpx.URL, **more: Any) -> AsyncIterator[httpx.Response]:
        """A good answer whose body is still to be read; errors as with `ask`."""
        if self._client is None:
            self._client = self._open()
        try:
            async with self._client.stream(method, url, **more) as response:
                if not response.is_success:
                    raise self._error(method, url, response, (await response.aread())[:2000])
                yield response
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unavailable(f"{self._what}: {_path(url)} cannot be reached ({error or type(error).__name__})") from error
        except httpx.InvalidURL as error:
            raise Refused(f"{self._what}: {str(url)[:200]!r} is not an address: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _open(self) -> httpx.AsyncClient:
        config = self._config
        headers = {name: secret.get_secret_value() for name, secret in config.secret_headers.items()}
        if config.token:
            headers["Authorization"] = f"{config.token_keyword} {config.token.get_secret_value()}"
        auth = (config.user, config.password.get_secret_value()) if config.password else None
        verify = config.tls.model_copy(update={"enabled": True}).context(f"{self._where}.tls")
        return httpx.AsyncClient(headers=headers, auth=auth, timeout=self._timeout_s, verify=verify or True, follow_redirects=False)

    def _error(self, method: str, url: str | httpx.URL, response: httpx.Response, body: bytes) -> Exception:
        status = response.status_code
        reason = " ".join(body.decode("utf-8", "replace").split())[:300]
        said = f"{self._what} answered {status} to {method} {_path(url)}: {reason or 'no reason given'}"
        if status == 429 or status >= 500:
            after = response.headers.get("retry-after", "")
            return Unavailable(said, min(float(after), _LONGEST_ASKED_S) if after.isdigit() else 1.0)
        if status in (301, 302, 303, 307, 308):
            return Refused(f"{said}; it redirects to {response.headers.get('location', '?')[:200]}: name that address instead")
        return Refused(said)


def _path(url: str | httpx.URL) -> str:
    parsed = httpx.URL(url)
    return f"{parsed.host}:{parsed.port}{parsed.path}" if parsed.port else f"{parsed.host}{parsed.path}"
