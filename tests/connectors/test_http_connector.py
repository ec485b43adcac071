"""The HTTP connector against a real server: only allowed addresses, clear meaning of each answer."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ninefold.connectors.http import Get, Http, Send
from ninefold.ground.errors import Conflict, NotFound, OutcomeUnknown, Refused, Unavailable


class Handler(BaseHTTPRequestHandler):
    seen: ClassVar[list[dict[str, Any]]] = []

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        self.seen.append(
            {"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}, "body": body}
        )
        name = self.path.partition("?")[0].rpartition("/")[2]
        status = int(name) if name.isdigit() else 200
        content = (
            b"x" * 5000
            if name == "large"
            else b"plain"
            if name == "text"
            else json.dumps({"path": self.path, "message": "told why"}).encode()
        )
        if name == "hangup":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        if status == 429:
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.seen.clear()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def call(site: str, verb: str, ask: dict[str, Any], **config: Any) -> Any:
    settings = {"allowed_urls": [f"{site}/api/"], "methods": ["GET", "POST", "PUT", "PATCH", "DELETE"], **config}

    async def main() -> Any:
        connector = Http(Http.Config.model_validate(settings))
        action = connector.actions()[verb]
        try:
            return await action.call(connector, action.ask.model_validate(ask))
        finally:
            await connector.close()

    return asyncio.run(main())


def test_reading_gives_status_json_text_and_headers(site: str) -> None:
    reply = call(site, "get", {"url": f"{site}/api/thing", "query": {"q": "a b&c", "n": 3, "on": True}, "headers": {"X-One": "1"}})
    assert (reply.status, reply.json_) == (200, {"path": "/api/thing?q=a+b%26c&n=3&on=true", "message": "told why"})
    assert reply.elapsed_s > 0
    assert Handler.seen[0]["headers"]["x-one"] == "1"
    assert reply.text == ""
    plain = call(site, "get", {"url": f"{site}/api/text"})
    assert (plain.text, plain.model_dump(by_alias=True)["json"]) == ("plain", None)


@pytest.mark.parametrize("verb", ["post", "put", "patch"])
def test_writing_sends_json_or_text(site: str, verb: str) -> None:
    call(site, verb, {"url": f"{site}/api/x", "json": {"a": [1, None]}})
    call(site, verb, {"url": f"{site}/api/x", "text": "héllo", "headers": {"Content-Type": "text/plain"}})
    first, second = Handler.seen
    assert (first["method"], json.loads(first["body"]), first["headers"]["content-type"]) == (
        verb.upper(),
        {"a": [1, None]},
        "application/json",
    )
    assert (second["body"], second["headers"]["content-type"]) == ("héllo", "text/plain")
    with pytest.raises(Refused, match="not both"):
        call(site, verb, {"url": f"{site}/api/x", "json": 1, "text": "x"})


def test_configured_headers_are_sent_and_kept_secret(site: str) -> None:
    config = {"headers": {"Authorization": "Bearer s3cret"}}
    call(site, "delete", {"url": f"{site}/api/x"}, **config)
    assert Handler.seen[0]["headers"]["authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(Http.Config.model_validate({"allowed_urls": [site], **config}))


def test_configured_headers_go_to_the_base_url_only(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # what the environment says is not the configuration
    config = {"base_url": f"{site}/api", "allowed_urls": [f"{site}/more"], "headers": {"Authorization": "Bearer s3cret"}}
    for url in ("/x", f"{site}/api/x", f"{site}/more/x"):
        call(site, "get", {"url": url, "headers": {"X-One": "1"}}, **config)
    assert [(seen["headers"].get("authorization"), seen["headers"]["x-one"]) for seen in Handler.seen] == [
        ("Bearer s3cret", "1"), ("Bearer s3cret", "1"), (None, "1"),
    ]  # fmt: skip


@pytest.mark.parametrize(("verb", "carried_out"), [("get", False), ("post", True)])
def test_an_answer_too_large_says_whether_something_happened(site: str, verb: str, carried_out: bool) -> None:
    with pytest.raises(Refused, match="more than 1000 bytes") as told:
        call(site, verb, {"url": f"{site}/api/large"}, limit_bytes=1000)
    assert told.value.carried_out == carried_out


@pytest.mark.parametrize(
    "path",
    [
        "/other", "/apix", "/api/../admin", "/api/%2e%2e/admin", "/api/%252e%252e/admin", "/api/x%5c..", "//evil/api/", "/api/a%00b",
        "/api/a%0d%0aX: y",
    ],
)  # fmt: skip
def test_addresses_outside_the_allowed_ones_are_never_asked(site: str, path: str) -> None:
    with pytest.raises(Refused):
        call(site, "get", {"url": site + path})
    assert Handler.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "http://127.0.0.1.evil.example/api/", "http://user:pw@{host}/api/", "http://127.0.0.1:1/api/", "{host}/api/",
        "", "https://{host}/api/", "http://[::1]/api/", "gopher://{host}/api/", "http://evil.example\\@{host}/api/",
    ],
)  # fmt: skip
def test_other_hosts_ports_schemes_and_users_are_refused(site: str, url: str) -> None:
    with pytest.raises(Refused):
        call(site, "get", {"url": url.format(host=site.removeprefix("http://"))})
    assert Handler.seen == []


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_text_leads_out_of_the_allowed_prefix(text: str) -> None:
    connector = Http(Http.Config(allowed_urls=("http://127.0.0.1:9/api/",)))
    try:
        url = connector._url(f"http://127.0.0.1:9/api/{text}")
    except Refused:
        return
    assert (url.host, url.port) == ("127.0.0.1", 9)
    assert url.path.startswith("/api/")
    assert ".." not in url.path.split("/")


def test_a_path_alone_is_below_the_base_url(site: str) -> None:
    base = {"base_url": f"{site}/api", "allowed_urls": [f"{site}/more"]}
    assert call(site, "get", {"url": "/x/y?z=1"}, **base).json_["path"] == "/api/x/y?z=1"
    assert call(site, "get", {"url": f"{site}/more/x"}, **base).json_["path"] == "/more/x"
    for url in ("/../admin", "//../../admin", "x/y", f"{site}/x"):
        with pytest.raises(Refused):
            call(site, "get", {"url": url}, **base)


def test_methods_are_allowed_by_name(site: str) -> None:
    with pytest.raises(Refused, match="POST is not allowed"):
        call(site, "post", {"url": f"{site}/api/x"}, methods=["GET"])


@pytest.mark.parametrize(
    ("verb", "name", "error", "message"),
    [
        ("get", "404", NotFound, "answered 404 to GET .*: told why"),
        ("get", "409", Conflict, "told why"),
        ("put", "412", Conflict, "told why"),
        ("get", "403", Refused, "answered 403"),
        ("get", "302", Refused, "it redirects to http://127.0.0.1:1/elsewhere"),
        ("get", "500", Unavailable, "answered 500"),
        ("post", "503", Unavailable, "answered 503"),
        ("post", "500", OutcomeUnknown, "answered 500"),
        ("post", "504", OutcomeUnknown, "answered 504"),
        ("put", "502", Unavailable, "answered 502"),
        ("get", "large", Refused, "more than 4000 bytes"),
        ("get", "hangup", Unavailable, "no answer"),
        ("post", "hangup", OutcomeUnknown, "it may have been carried out"),
    ],
)
def test_what_an_answer_means(site: str, verb: str, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(site, verb, {"url": f"{site}/api/{name}"}, limit_bytes=4000)


def test_a_peer_that_says_when_to_come_back_is_believed(site: str) -> None:
    with pytest.raises(Unavailable) as caught:
        call(site, "post", {"url": f"{site}/api/429"})
    assert caught.value.retry_after_s == 7


def test_an_expected_status_is_an_answer(site: str) -> None:
    assert call(site, "get", {"url": f"{site}/api/404", "expect": [404]}).status == 404


def test_nobody_there_is_unavailable_for_every_method() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    for verb in ("get", "post"):
        with pytest.raises(Unavailable, match="cannot be reached"):
            call(dead, verb, {"url": f"{dead}/api/x"})


def test_check_says_what_was_reached(site: str) -> None:
    async def main(path: str) -> str:
        connector = Http(Http.Config(allowed_urls=(site + path,)))
        try:
            return await connector.check()
        finally:
            await connector.close()

    assert asyncio.run(main("/api/")) == f"{site}/api/ answers 200"
    assert asyncio.run(main("/api/404")).endswith("answers 404")
    with pytest.raises(Refused):
        asyncio.run(main("/api/401"))


@pytest.mark.parametrize("url", ["ftp://a/b", "http://", "http://u:p@a/", "http://a/?q=1", "a/b"])
def test_a_prefix_must_be_a_plain_address(url: str) -> None:
    with pytest.raises(ValidationError, match="must be http"):
        Http.Config.model_validate({"allowed_urls": [url]})
    with pytest.raises(ValidationError, match="without them no request is allowed"):
        Http.Config.model_validate({"methods": ["GET"]})


def test_risks_and_repeatability_are_those_of_the_methods() -> None:
    assert {name: (action.risk, action.idempotent) for name, action in Http.actions().items()} == {
        "get": ("read", True), "post": ("write", False), "put": ("write", True), "patch": ("write", False), "delete": ("write", True),
    }  # fmt: skip
    assert Get(url="http://a/").query == {}
    assert Send(url="http://a/", json={"a": 1}).json_ == {"a": 1}
