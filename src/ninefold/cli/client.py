"""Talking to a running server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx

from ninefold.ground.errors import Conflict, NinefoldError, NotFound, Refused, Unavailable

DEFAULT_URL = "http://127.0.0.1:9900"


def credentials_path() -> Path:
    """Where `ninefold login` keeps the address and the token, readable by their owner only."""
    return Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "ninefold" / "credentials.json"


def keep_credentials(url: str, token: str) -> Path:
    """Write the credentials file with mode 0600 and return its path."""
    path = credentials_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"url": url, "token": token}, file)
    path.chmod(0o600)
    return path


class Client:
    """The API of one server.

    Args:
        url: the server's address; by default NINEFOLD_URL, then what `ninefold login` kept, then this machine's default port.
        token: the API token; by default NINEFOLD_TOKEN, then what `ninefold login` kept.
    """

    def __init__(self, url: str = "", token: str = "") -> None:
        path = credentials_path()
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        self.url = (url or os.environ.get("NINEFOLD_URL") or kept.get("url") or DEFAULT_URL).rstrip("/")
        secret = token or os.environ.get("NINEFOLD_TOKEN") or kept.get("token") or ""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def get(self, path: str, **params: Any) -> Any:
        """GET ``/api/v1/<path>``."""
        return self.call("GET", f"/api/v1/{path}", params={k: v for k, v in params.items() if v not in (None, "")})

    def post(self, path: str, body: Any) -> Any:
        """POST JSON to ``/api/v1/<path>``."""
        return self.call("POST", f"/api/v1/{path}", json=body)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request; the answer's JSON, None when it has no body.

        Raises:
            Unavailable: the server is not there or cannot answer now.
            Refused, NotFound, Conflict: it said no, in its own words.
        """
        response = self._send(method, path, options)
        return response.json() if response.content else None

    def fetch(self, path: str, body: Any, accept: str) -> bytes:
        """POST JSON to ``/api/v1/<path>``; the answer's bytes in the form `accept` (a media type).

        Raises:
            Unavailable, Refused, NotFound, Conflict: as `call`.
        """
        return self._send("POST", f"/api/v1/{path}", {"json": body, "headers": {"Accept": accept}, "timeout": None}).content

    def _send(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unavailable(
                f"no Ninefold answers at {self.url} ({error}); start one with `ninefold serve` or set NINEFOLD_URL"
            ) from error
        if response.is_success:
            return response
        raise _error(response)


def _error(response: httpx.Response) -> NinefoldError:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text[:200] or response.reason_phrase
    if response.status_code == 401:
        detail += "; run `ninefold login` or set NINEFOLD_TOKEN"
    if response.status_code >= 500:
        return Unavailable(f"the server answered {response.status_code}: {detail}")
    kinds: dict[int, type[NinefoldError]] = {404: NotFound, 409: Conflict}
    return kinds.get(response.status_code, Refused)(detail)
