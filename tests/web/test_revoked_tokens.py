"""A revoked token is refused at once by every door, whatever protocol it came by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ninefold.app import App
from ninefold.config import Config
from ninefold.plugin import Door
from ninefold.sources.otlp import OtlpHttp
from ninefold.sources.otlp_grpc import OtlpGrpc
from ninefold.store.records import access
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Base, Records
from ninefold.web.server import build


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """The program with its records and its doors, and nothing behind them."""
    sources = {"influx": {"type": "influx"}, "upload": {"type": "upload"}}
    made = App(Config.model_validate({"data": tmp_path, "sources": sources}))
    made.records = Records(f"sqlite:///{tmp_path}/records.db")
    made.tokens = Tokens(made.records)
    Base.metadata.create_all(made.records.engine)
    yield made
    made.records.close()


def ways(door: Door, secret: str) -> Iterator[dict[str, str]]:
    """Every header by which a token may come to a door."""
    for keyword in ("Bearer", *door.token_keywords):
        yield {"Authorization": f"{keyword} {secret}"}
    for header in door.token_headers:
        yield {header: secret}


def test_every_door_refuses_a_token_the_moment_it_is_revoked(app: App) -> None:
    with app.records.session() as session:
        admin, sender = create_token(session, "root", "admin"), create_token(session, "sender", "ingest")
    client = TestClient(build(app), raise_server_exceptions=False)
    calls = [
        (door.methods[-1], door.path.replace("{name}", "a").replace("{index}", "a"), headers)
        for source in app.sources
        for door in source.doors()
        if not door.open
        for headers in ways(door, sender)
    ]
    listeners = [source for source in app.sources if isinstance(source, OtlpGrpc)]

    def let_in() -> list[bool]:
        answers = [client.request(method, path, headers=headers).status_code not in (401, 403) for method, path, headers in calls]
        return answers + [source.lent.authorise(sender) for source in listeners]

    assert len(calls) > 20
    assert len(listeners) == 1
    assert all(let_in())
    assert client.delete("/api/v1/tokens/sender", headers={"Authorization": f"Bearer {admin}"}).status_code == 204
    assert not any(let_in())


def test_an_answer_that_was_under_way_when_a_token_was_revoked_is_not_remembered(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.records.session() as session:
        sender = create_token(session, "sender", "ingest")
    find = access.find_token

    def overtaken(*about: object) -> object:
        found = find(*about)  # type: ignore[arg-type]
        app.tokens.forget()
        return found

    monkeypatch.setattr(access, "find_token", overtaken)
    assert app.tokens.actor(sender) is not None
    monkeypatch.setattr(access, "find_token", lambda *about: None)
    assert app.tokens.actor(sender) is None


def test_a_series_that_comes_by_http_and_by_grpc_is_described_once(app: App) -> None:
    decoders = {source.decoder for source in app.sources if isinstance(source, OtlpHttp | OtlpGrpc)}
    assert len(decoders) == 1
