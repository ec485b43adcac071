"""Any HTTP API: requests to addresses that the configuration allows, and to no others.

```yaml
connectors:
  api:
    type: http
    base_url: https://deploy.example.org/api
    methods: [GET, POST]
    headers: {Authorization: "Bearer ${DEPLOY_TOKEN}"}
```

`base_url` is allowed and its paths may be written alone; `allowed_urls` lists further prefixes. A workflow then says ``uses:
api.get`` (risk read) or ``api.post``, ``api.put``, ``api.patch``, ``api.delete`` (risk write).
An answer below 300 is a success; others become errors unless the step lists them in `expect`.
"""

from __future__ import annotations

import re
import time
from typing import Any, ClassVar, Literal, Self
from urllib.parse import unquote

import httpx
import orjson
from pydantic import Field, JsonValue, SecretStr, model_validator

from ninefold.connectors.wire import Wire
from ninefold.ground.errors import Refused
from ninefold.plugin import Connector, Strict, action

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
_PORTS = {"http": 80, "https": 443}
_UNSAFE = re.compile(r"[\\\x00-\x20\x7f]")


class Get(Strict):
    """What to ask for."""

    url: str = Field(max_length=8192, description="A path below `base_url`, or an address below one of `allowed_urls`.")
    query: dict[str, str | int | float | bool] = Field(default_factory=dict, description="Query parameters, encoded for you.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers beside the connector's own.")
    expect: list[int] = Field(default_factory=list, description="Statuses of 300 and above that are no error here.")


class Send(Get):
    """What to send: `json` or `text`."""

    json_: JsonValue = Field(None, alias="json", description="A JSON body.")
    text: str | None = Field(None, description="A text body; set its Content-Type in `headers`.")


class Reply(Strict):
    """What came back: `json` when the body is JSON, else `text`."""

    status: int
    headers: dict[str, str]
    json_: JsonValue = Field(None, alias="json")
    text: str
    elapsed_s: float


class Http(Connector):
    """Requests to allowed addresses. Redirects are not followed and large answers are refused."""

    kind: ClassVar[str] = "http"

    class Config(Strict):
        """Where requests may go."""

        base_url: str = Field("", description="Where addresses that begin with a slash are; always allowed.")
        allowed_urls: tuple[str, ...] = Field((), description="Prefixes; a path prefix ends at a slash boundary.")
        methods: tuple[Method, ...] = Field(("GET",), description="Methods that may be used.")
        headers: dict[str, SecretStr] = Field(
            default_factory=dict,
            description="Sent below `base_url` (without one: below the first of `allowed_urls`); kept out of runs and logs.",
        )
        timeout_s: float = Field(30.0, gt=0, le=600)
        limit_bytes: int = Field(256 << 10, ge=1, le=1 << 20, description="Largest answer read.")

        @model_validator(mode="after")
        def _checked(self) -> Self:
            if not self.prefixes:
                raise ValueError("give `base_url` or `allowed_urls`: without them no request is allowed")
            for url in self.prefixes:
                parsed = httpx.URL(url)
                if parsed.scheme not in _PORTS or not parsed.host or parsed.query or parsed.userinfo:
                    raise ValueError(f"{url!r} must be http(s)://host[:port]/path without user, password or query")
            return self

        @property
        def prefixes(self) -> tuple[str, ...]:
            """All allowed prefixes, `base_url` first."""
            return (self.base_url, *self.allowed_urls) if self.base_url else self.allowed_urls

    def __init__(self, config: Http.Config) -> None:
        super().__init__(config)
        self._allowed = [httpx.URL(url) for url in config.prefixes]
        self._wire = Wire("the HTTP API", timeout_s=config.timeout_s, limit_bytes=config.limit_bytes)

    @action(risk="read", idempotent=True)
    async def get(self, ask: Get) -> Reply:
        """Read something."""
        return await self._call("GET", ask, {}, repeatable=True)

    @action(risk="write")
    async def post(self, ask: Send) -> Reply:
        """Create something or start something; after a lost answer a person decides whether to repeat it."""
        return await self._call("POST", ask, _body(ask), repeatable=False)

    @action(risk="write", idempotent=True)
    async def put(self, ask: Send) -> Reply:
        """Put something in place; repeating it changes nothing more (RFC 9110)."""
        return await self._call("PUT", ask, _body(ask), repeatable=True)

    @action(risk="write")
    async def patch(self, ask: Send) -> Reply:
        """Change something in part."""
        return await self._call("PATCH", ask, _body(ask), repeatable=False)

    @action(risk="write", idempotent=True)
    async def delete(self, ask: Get) -> Reply:
        """Remove something; repeating it changes nothing more (RFC 9110)."""
        return await self._call("DELETE", ask, {}, repeatable=True)

    async def check(self) -> str:
        """GET the first allowed address: any answer but a server error or a missing permission will do."""
        url = self._allowed[0]
        expect = (*range(300, 400), 400, *range(404, 500))
        answer = await self._wire.call("GET", url, repeatable=True, expect=expect, headers=self._headers(url))
        return f"{url} answers {answer.status}"

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def _call(self, method: Method, ask: Get, body: dict[str, Any], *, repeatable: bool) -> Reply:
        if method not in self.config.methods:
            raise Refused(f"{method} is not allowed by this connector; add it to its `methods`")
        url = self._url(ask.url)
        if ask.query:
            url = url.copy_merge_params({key: _text(value) for key, value in ask.query.items()})
        started = time.perf_counter()
        headers = httpx.Headers(self._headers(url))
        headers.update(ask.headers)
        answer = await self._wire.call(method, url, repeatable=repeatable, expect=tuple(ask.expect), headers=headers, **body)
        data = _json(answer.body)
        return Reply.model_validate(
            {
                "status": answer.status,
                "headers": dict(answer.headers),
                "json": data,
                "text": answer.text if data is None else "",
                "elapsed_s": round(time.perf_counter() - started, 6),
            }
        )

    def _headers(self, url: httpx.URL) -> dict[str, str]:
        """The configured headers, for the address they were written for: another one is not told this one's secrets."""
        mine = _below(url, unquote(url.path), self._allowed[0])
        return {name: value.get_secret_value() for name, value in self.config.headers.items()} if mine else {}

    def _url(self, text: str) -> httpx.URL:
        """The parsed address, if a prefix allows it; the same object is checked and requested, so no two parsers can disagree."""
        if text.startswith("/") and self.config.base_url:
            text = self.config.base_url.rstrip("/") + text
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise Refused(f"{text!r} is not a URL: {error}") from error
        path = unquote(url.path)
        if url.scheme not in _PORTS or url.userinfo or _UNSAFE.search(path) or {".", ".."} & set(path.split("/")):
            raise Refused(f"{text!r} is not a plain http(s) address (no user, no dot segments, no control characters)")
        if not any(_below(url, path, prefix) for prefix in self._allowed):
            raise Refused(f"{text!r} is not below this connector's base_url or allowed_urls")
        return url


def _below(url: httpx.URL, path: str, prefix: httpx.URL) -> bool:
    if (url.scheme, url.host, url.port or _PORTS[url.scheme]) != (prefix.scheme, prefix.host, prefix.port or _PORTS[prefix.scheme]):
        return False
    root = prefix.path.rstrip("/")
    return path == root or path.startswith(root + "/")


def _body(ask: Send) -> dict[str, Any]:
    if ask.text is not None and ask.json_ is not None:
        raise Refused("a request has `json` or `text`, not both")
    if ask.text is not None:
        return {"content": ask.text.encode()}
    return {"json": ask.json_} if ask.json_ is not None else {}


def _json(body: bytes) -> JsonValue:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
