"""Roles are a ladder, secrets are never kept, and a browser's session only acts from the console itself."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from ninefold.ground.errors import BadData, Conflict, NotFound, Refused, TooLarge, Unavailable
from ninefold.store.records.access import ROLES, Tokens, create_token
from ninefold.store.records.base import Base, Records
from ninefold.web import problems
from ninefold.web.api import session
from ninefold.web.auth import Admin, Operator, Viewer


@pytest.fixture
def records(tmp_path: Path):
    made = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(made.engine)
    yield made
    made.close()


@pytest.fixture
def secrets(records: Records) -> dict[str, str]:
    with records.session() as open_session:
        return {role: create_token(open_session, role, role) for role in ROLES}


@pytest.fixture
def client(records: Records) -> TestClient:
    api = FastAPI()
    api.state.ninefold = SimpleNamespace(records=records, tokens=Tokens(records))
    problems.install(api)
    api.include_router(session.router, prefix="/api/v1")

    @api.get("/see")
    def see(actor: Viewer) -> str:
        return actor.name

    @api.post("/do")
    def do(actor: Operator) -> str:
        return actor.name

    @api.post("/manage")
    def manage(actor: Admin) -> str:
        return actor.name

    @api.get("/fail/{kind}")
    def fail(kind: str) -> None:
        raise {
            "bad": BadData("no", "field a"), "large": TooLarge("no"), "later": Unavailable("no", 7), "gone": NotFound("no"),
            "refused": Refused("no"), "conflict": Conflict("no"), "bug": RuntimeError("secret inside"),
        }[kind]  # fmt: skip

    return TestClient(api, raise_server_exceptions=False)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_every_role_may_do_its_own_and_what_is_below(client: TestClient, secrets: dict[str, str]) -> None:
    def statuses(secret: str) -> list[int]:
        headers = bearer(secret)
        return [client.get("/see", headers=headers).status_code, *(client.post(p, headers=headers).status_code for p in ("/do", "/manage"))]

    assert statuses(secrets["ingest"]) == [403, 403, 403]
    assert statuses(secrets["viewer"]) == [200, 403, 403]
    assert statuses(secrets["operator"]) == [200, 200, 403]
    assert statuses(secrets["admin"]) == [200, 200, 200]
    assert statuses("n9_wrong") == [401, 401, 401]


def test_basic_auth_carries_the_token_as_password(client: TestClient, secrets: dict[str, str]) -> None:
    good = base64.b64encode(f"prometheus:{secrets['viewer']}".encode()).decode()
    assert client.get("/see", headers={"Authorization": f"Basic {good}"}).json() == "viewer"
    for bad in ("!!!", base64.b64encode(b"only-a-name").decode(), base64.b64encode(b"\xff\xfe").decode()):
        assert client.get("/see", headers={"Authorization": f"Basic {bad}"}).status_code == 401


def test_a_password_the_browser_sends_by_itself_acts_only_from_here(client: TestClient, secrets: dict[str, str]) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(f":{secrets['operator']}".encode()).decode()}
    assert client.post("/do", headers=basic).status_code == 200
    assert client.post("/do", headers={**basic, "Origin": "http://testserver"}).status_code == 200
    for origin in ("http://evil.example", "null"):
        assert client.post("/do", headers={**basic, "Origin": origin}).status_code == 403
        assert client.post("/do", headers={**bearer(secrets["operator"]), "Origin": origin}).status_code == 200


def test_a_browser_is_not_made_to_ask_for_a_password_for_the_api(client: TestClient) -> None:
    assert client.get("/api/v1/me").headers["www-authenticate"] == 'Bearer realm="ninefold"'
    assert "Basic" in client.get("/see").headers["www-authenticate"]


def test_the_consoles_session_is_a_strict_cookie_that_other_sites_cannot_use(client: TestClient, secrets: dict[str, str]) -> None:
    opened = client.post("/api/v1/session", json={"token": secrets["operator"]})
    assert opened.json() == {"name": "operator", "role": "operator"}
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/see").json() == "operator"
    assert client.post("/do", headers={"Origin": "http://testserver"}).status_code == 200
    assert client.post("/do", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.delete("/api/v1/session").status_code == 204
    client.cookies.clear()
    assert client.get("/see").status_code == 401
    assert client.post("/api/v1/session", json={"token": secrets["ingest"]}).status_code == 401


def test_tokens_are_made_listed_and_revoked_and_never_stored(client: TestClient, secrets: dict[str, str], records: Records) -> None:
    headers = bearer(secrets["admin"])
    made = client.post("/api/v1/tokens", json={"name": "shop", "role": "viewer"}, headers=headers).json()
    assert client.get("/see", headers=bearer(made["token"])).json() == "shop"
    assert client.post("/api/v1/tokens", json={"name": "shop", "role": "viewer"}, headers=headers).status_code == 409
    assert client.post("/api/v1/tokens", json={"name": "x", "role": "king"}, headers=headers).status_code == 422
    assert client.post("/api/v1/tokens", json={"name": "y", "role": "viewer"}, headers=bearer(secrets["operator"])).status_code == 403
    assert {row["name"] for row in client.get("/api/v1/tokens", headers=headers).json()} == {*ROLES, "shop"}
    assert client.delete("/api/v1/tokens/shop", headers=headers).status_code == 204
    assert client.get("/see", headers=bearer(made["token"])).status_code == 401
    with records.reading() as open_session:
        dump = str(open_session.execute(text("select * from token")).all())
    assert not any(secret in dump for secret in [*secrets.values(), made["token"]])


@pytest.mark.parametrize("name", ["a/b", "", ".", "..", "a b", "a%2Fb", "-x", "x" * 81, "a\n"])
def test_a_token_has_a_name_that_every_command_can_say(client: TestClient, secrets: dict[str, str], name: str) -> None:
    made = client.post("/api/v1/tokens", json={"name": name, "role": "viewer"}, headers=bearer(secrets["admin"]))
    assert made.status_code == 422


def test_a_token_with_an_older_name_can_be_revoked(client: TestClient, secrets: dict[str, str], records: Records) -> None:
    with records.session() as open_session:
        old = create_token(open_session, "a/b c", "viewer")
    assert client.get("/see", headers=bearer(old)).status_code == 200
    assert client.delete("/api/v1/tokens/a%2Fb%20c", headers=bearer(secrets["admin"])).status_code == 204
    assert client.get("/see", headers=bearer(old)).status_code == 401


def test_errors_are_problems_and_tell_nothing_of_the_inside(client: TestClient) -> None:
    answers: dict[str, httpx.Response] = {
        kind: client.get(f"/fail/{kind}") for kind in ("bad", "large", "later", "gone", "refused", "conflict", "bug")
    }
    assert {k: a.status_code for k, a in answers.items()} == {
        "bad": 400, "large": 413, "later": 503, "gone": 404, "refused": 403, "conflict": 409, "bug": 500,
    }  # fmt: skip
    assert all(a.headers["content-type"] == "application/problem+json" for a in answers.values())
    assert answers["bad"].json()["where"] == "field a"
    assert answers["later"].headers["retry-after"] == "7"
    assert "secret inside" not in answers["bug"].text
