"""REST polling against a local server: cursors, every kind of page, presets on a real Redmine's bytes, nothing lost or twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peers
import pytest

from ninefold.ground.clock import parse
from ninefold.ground.errors import ConfigError, Refused, Unavailable
from ninefold.sources.rest import Rest
from ninefold.sources.rest_presets import PRESETS
from ninefold.sources.webhook import Reader

Answer = Callable[[peers.Asked], peers.Given]


def source(url: str, kept: peers.Kept, name: str = "shop", **more: Any) -> Rest:
    return Rest(name, Rest.Config(**{"url": url, "every_s": 0.02, "longest_wait_s": 0.1} | more), kept.lent())


def records(journal: peers.Journal) -> list[dict[str, Any]]:
    return [json.loads(row["payload"]) for row in journal.rows("raw")]


def order(number: int, at: str = "") -> dict[str, Any]:
    return {"id": number, "title": f"order {number}", "updated": at or f"2026-11-22T13:00:{number % 60:02d}Z"}


class Shop:
    """An API of orders that knows every kind of page; `asked` keeps the questions."""

    def __init__(self, orders: list[dict[str, Any]], size: int = 10) -> None:
        self.orders, self.size = orders, size
        self.asked: list[peers.Asked] = []
        self.fails = 0

    def __call__(self, asked: peers.Asked) -> peers.Given:
        self.asked.append(asked)
        if self.fails:
            self.fails -= 1
            return 503, {"retry-after": "0"}, {"message": "later"}
        since = asked.query.get("since", "")
        found = [order for order in self.orders if order["updated"] >= since]
        start = (
            int(asked.query.get("offset") or 0) or (int(asked.query.get("page") or 1) - 1) * self.size or int(asked.query.get("token") or 0)
        )
        part, after = found[start : start + self.size], start + self.size
        more = after < len(found)
        token = str(after) if more else None
        link = f'</orders?since={since}&offset={after}>; rel="next", </orders>; rel="first"' if more else ""
        return (
            200,
            {"link": link, "x-cursor": "c7"},
            {"data": part, "next": token, "url": f"/orders?since={since}&offset={after}" if more else None},
        )


BASE = {"params": {"since": "{cursor}"}, "records": "data", "cursor": "updated", "page_size": 10}
PAGING = [
    {"paging": "link"}, {"paging": "next", "next": "next", "next_param": "token"}, {"paging": "next", "next": "url"}, {"paging": "page"},
    {"paging": "offset"},
]  # fmt: skip


@pytest.mark.parametrize("paging", PAGING, ids=lambda paging: "-".join(paging.values()))
def test_every_kind_of_page_gives_every_record_once(paging: dict[str, str]) -> None:
    shop, kept, journal = Shop([order(i) for i in range(35)]), peers.Kept(), peers.Journal(full=2)
    with peers.http_server(shop) as url:
        peers.run(
            peers.while_running(
                source(f"{url}/orders", kept, **BASE, **paging), journal, lambda: kept.position.get("cursor") == "2026-11-22T13:00:34Z"
            )
        )
        shop.orders += [order(35), order(34) | {"title": "order 34 again", "id": 34}]
        peers.run(peers.while_running(source(f"{url}/orders", kept, **BASE, **paging), journal, lambda: len(records(journal)) >= 37))
    assert [record["title"] for record in records(journal)[:35]] == [f"order {i}" for i in range(35)]
    assert sorted(record["title"] for record in records(journal)[35:]) == ["order 34 again", "order 35"]
    assert "since" not in shop.asked[0].query
    assert shop.asked[-1].query["since"] in ("2026-11-22T13:00:34Z", "2026-11-22T13:00:35Z")


def test_after_a_crash_within_a_round_it_goes_on_at_its_page() -> None:
    """Newest first, as many APIs answer: the cursor may only move at the end of the round."""
    shop, kept, journal = Shop([order(i) for i in range(30)][::-1]), peers.Kept(), peers.Journal()

    async def hang() -> None:
        if journal.batches:
            await asyncio.Event().wait()

    journal.before = hang
    with peers.http_server(shop) as url:
        peers.run(peers.while_running(source(f"{url}/orders", kept, **BASE, paging="offset"), journal, lambda: "next" in kept.position))
        assert "cursor" not in kept.position
        kept.position = json.loads(json.dumps(kept.position))
        journal.before = None
        peers.run(peers.while_running(source(f"{url}/orders", kept, **BASE, paging="offset"), journal, lambda: "cursor" in kept.position))
    assert [record["id"] for record in records(journal)] == list(range(30))[::-1]
    assert kept.position["cursor"] == order(29)["updated"]


def test_nothing_of_a_page_is_kept_as_position_before_the_journal_has_it() -> None:
    kept = peers.Kept()
    with peers.http_server(Shop([order(1)])) as url:
        assert peers.run(peers.crashing(source(f"{url}/orders", kept, **BASE)))
        assert kept.position == {}


def test_a_server_that_fails_is_asked_again_and_caught_up_with() -> None:
    shop, kept, journal = Shop([order(1), order(2)]), peers.Kept(), peers.Journal()
    shop.fails = 3
    with peers.http_server(shop) as url:
        peers.run(peers.while_running(source(f"{url}/orders", kept, **BASE), journal, lambda: len(records(journal)) >= 2))
    assert len(shop.asked) >= 4


def test_post_with_a_body_a_header_cursor_and_secrets_in_headers() -> None:
    shop, kept, journal = Shop([order(1)]), peers.Kept(), peers.Journal()
    settings = {
        "method": "POST", "body": {"query": {"after": "{cursor}"}}, "records": "data", "cursor_header": "x-cursor", "start": "c0",
        "secret_headers": {"X-Api-Key": "k"}, "token": "t",
    }  # fmt: skip
    with peers.http_server(shop) as url:
        peers.run(peers.while_running(source(f"{url}/orders", kept, **settings), journal, lambda: len(shop.asked) >= 3))
    assert [asked.json()["query"]["after"] for asked in shop.asked[:2]] == ["c0", "c7"]
    assert (shop.asked[0].headers["x-api-key"], shop.asked[0].headers["authorization"]) == ("k", "Bearer t")
    assert len(records(journal)) == 1


def test_the_cursor_is_written_as_the_api_wants_it_and_goes_back_a_little() -> None:
    shop = Shop([order(1)])
    with peers.http_server(shop) as url:
        rest = source(f"{url}/orders", peers.Kept(), **BASE, cursor_format="%Y/%m/%d %H:%M", back_s=120)
        peers.run(rest.page({"cursor": "2026-11-22T13:00:01.000+0000"}))
    assert shop.asked[0].query["since"] == "2026/11/22 12:58"


def test_records_as_metrics_are_measured_each_time() -> None:
    answer = {"queues": [{"name": "mail", "depth": 7, "ok": True}, {"name": "jobs", "depth": 0}, 3]}
    journal = peers.Journal()
    with peers.http_server(lambda asked: (200, {}, answer)) as url:
        queues = source(url, peers.Kept(), records="queues", shape="metrics", prefix="app.queue.", values=["depth"])
        peers.run(peers.while_running(queues, journal, lambda: len(journal.rows("metric")) >= 4))
    assert {(row["name"], dict(row["attributes"])["name"]) for row in journal.rows("series")} == {
        ("app.queue.depth", "mail"),
        ("app.queue.depth", "jobs"),
    }
    assert len(journal.rows("quarantine")) >= 1


@pytest.mark.parametrize(("answer", "error"), [
    ((401, {}, {"message": "bad token"}), Refused), ((429, {"retry-after": "7"}, {}), Unavailable), ((500, {}, {}), Unavailable),
    ((302, {"location": "http://elsewhere/"}, b""), Refused), ((200, {}, b"<html>"), Refused),
    ((200, {"link": '<http://elsewhere.example/>; rel="next"'}, [{"id": 1}]), Refused),
])  # fmt: skip
def test_answers_that_help_nobody(answer: peers.Given, error: type[Exception]) -> None:
    with peers.http_server(lambda asked: answer) as url, pytest.raises(error):
        peers.run(source(url, peers.Kept(), paging="link").check())


def test_records_of_any_depth_and_kind_are_events_or_quarantine() -> None:
    deep = b'{"id": 1, "x": ' + b"[" * 500 + b"]" * 500 + b"}"
    journal = peers.Journal()
    with peers.http_server(lambda asked: (200, {}, b'[{"id": 2, "title": "good"}, 7, null, ' + deep + b"]")) as url:
        peers.run(peers.while_running(source(url, peers.Kept()), journal, lambda: bool(journal.batches)))
    assert [record["title"] for record in records(journal)] == ["good"]
    assert len(journal.rows("quarantine")) == 3


def test_mistakes_in_the_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="JMESPath"):
        source("http://127.0.0.1:1", peers.Kept(), records="[[")
    with pytest.raises(ValueError, match="there are redmine"):
        source("http://127.0.0.1:1", peers.Kept(), preset="lotus")
    with pytest.raises(Unavailable):
        peers.run(source(f"http://127.0.0.1:{peers.free_port()}", peers.Kept()).check())


def test_redmine_as_a_real_one_answered(data: Path) -> None:
    body = json.loads((data / "payloads/redmine/GET_issues.http.txt").read_text().partition("\n\n")[2])
    asked: list[peers.Asked] = []

    def answer(question: peers.Asked) -> peers.Given:
        asked.append(question)
        return 200, {}, body

    kept, journal = peers.Kept(), peers.Journal()
    with peers.http_server(answer) as url:
        desk = source(url, kept, "desk", preset="redmine", params={"project_id": "ops"}, secret_headers={"X-Redmine-API-Key": "k"})
        peers.run(peers.while_running(desk, journal, lambda: len(asked) >= 3))
    assert asked[0].path == "/issues.json"
    assert asked[1].query == {
        "updated_on": ">=2026-11-22T12:50:22Z",
        "status_id": "*",
        "sort": "updated_on:asc",
        "limit": "100",
        "project_id": "ops",
    }
    (row,) = journal.rows("raw")
    event = Reader("desk").to_event(row["payload"], parse("2026-11-22T14:00:00Z"))
    assert (event["kind"], event["title"], event["severity"], event["time"]) == (
        "ticket", "[AIOps] checkout 5xx", "high", parse("2026-11-22T12:50:22Z"),
    )  # fmt: skip
    assert event["attributes"]["fields.incident_id"] == "INC-42"


TIMES = {"created_at": "2026-11-22T12:00:00Z", "updated_at": "2026-11-22T13:00:00Z"}
ISSUE = {"id": 1, "title": "checkout slow", **TIMES}
JIRA = {
    "summary": "checkout slow", "description": "p95", "status": {"name": "Done"}, "priority": {"name": "High"}, "project": {"key": "OPS"},
    "issuetype": {"name": "Bug"}, "creator": {"displayName": "Alice"}, "labels": ["shop"], "updated": "2026-11-22T13:00:00.000+0000",
}  # fmt: skip
SERVICENOW = {
    "number": "INC0010001", "short_description": "checkout slow", "state": "2", "severity": "2", "business_service": "shop",
    "sys_created_on": "2026-11-22 12:00:00", "sys_updated_on": "2026-11-22 13:00:00",
}  # fmt: skip
DEPLOYMENT = {"id": 9, "sha": "abc", "ref": "main", **TIMES}
ANSWERS: dict[str, Any] = {
    "jira": {"issues": [{"key": "OPS-7", "fields": JIRA}]},
    "servicenow": {"result": [SERVICENOW]},
    "github": [ISSUE | {"number": 3, "html_url": "https://x/3", "state": "closed", "user": {"login": "a"}, "labels": [{"name": "bug"}]}],
    "gitlab": [ISSUE | {"iid": 3, "web_url": "https://x/3", "state": "opened", "author": {"username": "a"}, "labels": ["bug"]}],
    "github_deployments": [DEPLOYMENT | {"environment": "prod", "creator": {"login": "a"}}],
    "gitlab_deployments": [DEPLOYMENT | {"environment": {"name": "prod"}, "user": {"username": "a"}, "status": "success"}],
}
"""Records as the products' documentation shows them, cut down."""


@pytest.mark.parametrize("preset", ANSWERS)
def test_presets_read_tickets_and_deployments(preset: str) -> None:
    asked: list[peers.Asked] = []

    def answer(question: peers.Asked) -> peers.Given:
        asked.append(question)
        return 200, {}, ANSWERS[preset]

    kept, journal = peers.Kept(), peers.Journal()
    with peers.http_server(answer) as url:
        peers.run(peers.while_running(source(url, kept, preset=preset, repository="o/r"), journal, lambda: len(asked) >= 3))
    (row,) = journal.rows("raw")
    event = Reader("shop").to_event(row["payload"], parse("2026-11-22T14:00:00Z"))
    assert event["time"] == parse("2026-11-22T13:00:00Z")
    if preset.endswith("deployments"):
        assert (event["kind"], event["title"]) == ("deployment", "deployed main to prod")
    else:
        assert (event["kind"], event["title"]) == ("ticket", "checkout slow")
    if preset == "jira":
        assert asked[1].query["jql"] == 'updated >= "2026/11/22 13:00" ORDER BY updated ASC'
    if preset == "gitlab":
        assert asked[0].path.startswith("/api/v4/projects/o%2Fr")


def test_every_preset_is_a_valid_configuration() -> None:
    for preset in PRESETS:
        source("https://example.org", peers.Kept(), preset=preset)


@pytest.mark.parametrize(("given", "error"), [
    ((403, {"retry-after": "7"}, {}), Unavailable), ((403, {"x-ratelimit-remaining": "0"}, {}), Unavailable), ((403, {}, {}), Refused),
    ((400, {}, {}), Refused),
])  # fmt: skip
def test_a_page_that_is_refused_is_asked_for_again_later(given: peers.Given, error: type[Exception]) -> None:
    with peers.http_server(lambda asked: given) as url, pytest.raises(error):
        peers.run(source(url, peers.Kept(), paging="page").page({"next": {"params": {"page": 2}, "number": 2}}))


def test_a_page_that_is_gone_begins_the_round_anew_but_not_at_once() -> None:
    with peers.http_server(lambda asked: (410, {}, {})) as url:
        page = peers.run(source(url, peers.Kept(), paging="page").page({"cursor": 5, "next": {"params": {"page": 2}, "number": 2}}))
    assert (page.position, page.more) == ({"cursor": 5}, False)


@pytest.mark.parametrize("paging", ["offset", "page"])
def test_a_record_that_changes_between_two_pages_hides_no_other(paging: str) -> None:
    equal = [order(100 + i, "2026-11-22T13:00:20Z") for i in range(25)]
    shop, kept = Shop([order(i) for i in range(20)] + equal + [order(i) for i in range(21, 40)]), peers.Kept()
    titles, position, more = set[str](), dict[str, Any](), True
    with peers.http_server(shop) as url:
        rest = source(f"{url}/orders", kept, **BASE, paging=paging, ascending=True)
        while more:
            page = peers.run(rest.page(json.loads(json.dumps(position))))
            titles |= {json.loads(row["payload"])["title"] for batch in page.batches for row in batch.rows.to_pylist()}
            if not position:
                shop.orders.append(shop.orders.pop(3) | {"updated": "2026-11-22T13:00:59Z"})
            position, more = page.position, page.more
    assert titles == {record["title"] for record in shop.orders}
    assert position["cursor"] == "2026-11-22T13:00:59Z"
