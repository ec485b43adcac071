"""Live updates: nothing after the hello is missed, nothing is sent to whom it is no longer for, and no error ends them."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ninefold.app import _TOPICS
from ninefold.config import Config
from ninefold.ground.errors import Unavailable
from ninefold.ground.meter import Meter
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.base import Base, Outbox, Records
from ninefold.web import live
from ninefold.web.server import build


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(made.engine)
    yield made
    made.close()


@pytest.fixture
def tokens(records: Records) -> dict[str, str]:
    with records.session() as session:
        return {name: create_token(session, name, name) for name in ("viewer", "admin")}


@pytest.fixture
def http(records: Records) -> Iterator[TestClient]:
    app: Any = SimpleNamespace(records=records, tokens=Tokens(records), sources=[], config=Config(), meter=Meter(), moved=Counter())
    with TestClient(build(app)) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def change(records: Records, key: str) -> None:
    with records.session() as session:
        session.add(Outbox(topic="incident", kind="opened", key=key))


def keys(socket: Any, count: int) -> list[str]:
    """The next `count` keys of incidents."""
    found: list[str] = []
    while len(found) < count:
        found += [row["key"] for row in socket.receive_json().get("changes", []) if row["topic"] == "incident"]
    return found


def test_a_tab_is_told_of_every_change_since_its_hello(http: TestClient, records: Records, tokens: dict[str, str]) -> None:
    change(records, "before")
    with http.websocket_connect("/api/v1/live", headers=bearer(tokens["viewer"])) as tab:
        assert tab.receive_json()["hello"] == "ninefold"
        change(records, "first")
        change(records, "second")
        assert keys(tab, 2) == ["first", "second"]
        tab.send_text("ping")
        while "pong" not in tab.receive_json():
            pass


def test_sources_move_without_anybody_changing_them(http: TestClient, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_SOURCES_EVERY_S", 0.05)
    with http.websocket_connect("/api/v1/live", headers=bearer(tokens["viewer"])) as tab:
        tab.receive_json()
        for _ in range(2):
            assert [row["topic"] for row in tab.receive_json()["changes"]] == ["source"]


def test_findings_and_forecasts_are_told_once_when_they_came(
    http: TestClient, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_MOVED_EVERY_S", 0.0)
    moved: Counter[str] = http.app.state.ninefold.moved  # type: ignore[attr-defined]
    with http.websocket_connect("/api/v1/live", headers=bearer(tokens["viewer"])) as socket:
        socket.receive_json()
        moved["detection"] += 3
        topics: list[str] = []
        while "detection" not in topics:
            topics += [row["topic"] for row in socket.receive_json().get("changes", [])]
        moved["forecast"] += 1
        while "forecast" not in topics:
            topics += [row["topic"] for row in socket.receive_json().get("changes", [])]
    assert topics.count("detection") == 1


def test_an_error_of_the_records_ends_no_updates(
    http: TestClient, records: Records, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = records.outbox
    failed: list[int] = []

    def outbox(after: int, limit: int = 500) -> list[Outbox]:
        if len(failed) < 2:
            failed.append(after)
            raise Unavailable("the records database cannot be used now") if len(failed) == 1 else RuntimeError("a defect")
        return read(after, limit)

    monkeypatch.setattr(live, "_PAUSE_S", 0.01)
    monkeypatch.setattr(records, "outbox", outbox)
    with http.websocket_connect("/api/v1/live", headers=bearer(tokens["viewer"])) as tab:
        tab.receive_json()
        change(records, "meanwhile")
        assert keys(tab, 1) == ["meanwhile"]
    assert len(failed) == 2


def test_a_revoked_token_has_no_live_view(http: TestClient, records: Records, tokens: dict[str, str]) -> None:
    with http.websocket_connect("/api/v1/live", headers=bearer(tokens["viewer"])) as tab:
        tab.receive_json()
        assert http.delete("/api/v1/tokens/viewer", headers=bearer(tokens["admin"])).status_code == 204
        with pytest.raises(WebSocketDisconnect) as closed:
            keys(tab, 1)
    assert closed.value.code == 4401


def test_another_site_gets_no_live_view_with_a_password_the_browser_knows(http: TestClient, tokens: dict[str, str]) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(f":{tokens['viewer']}".encode()).decode()}
    with pytest.raises(WebSocketDisconnect), http.websocket_connect("/api/v1/live", headers={**basic, "Origin": "https://evil.example"}):
        pass
    with http.websocket_connect("/api/v1/live", headers={**basic, "Origin": "http://testserver"}) as tab:
        assert tab.receive_json()["hello"] == "ninefold"


def test_every_topic_is_documented_and_known_to_the_console() -> None:
    """Those that the program writes, those of the page for people, and those that the console listens to."""
    root = Path(__file__).resolve().parents[2]
    code = "\n".join(path.read_text() for path in (root / "src" / "ninefold").rglob("*.py"))
    told = set(re.findall(r"""topic(?:=|": )"([a-z]+)\"""", code)) | set(_TOPICS.values()) | {"run"}
    documented = set(re.findall(r"^\| `([a-z]+)` \|", (root / "docs" / "live.md").read_text(), re.MULTILINE))
    assert documented == told
    known = re.search(r"TOPICS = \[(.*?)\]", (root / "console" / "src" / "core" / "types.ts").read_text())
    assert known is not None
    assert set(re.findall(r"'([a-z]+)'", known[1])) <= told
