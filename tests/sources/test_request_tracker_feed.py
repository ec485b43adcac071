"""Request Tracker's feed: the captured answers of a real one, and (slow) a real one itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peers
import pytest

from ninefold.ground.clock import parse
from ninefold.ground.errors import Refused
from ninefold.sources.request_tracker_feed import RequestTrackerFeed
from ninefold.sources.webhook import Reader


def captured(data: Path, name: str) -> Any:
    return json.loads((data / f"payloads/request_tracker/{name}").read_text().partition("\n\n")[2])


def desk(data: Path) -> Any:
    """RT as it answered: its transactions behind a number in pages, its tickets."""
    items = captured(data, "POST_transactions_feed.http.txt")["items"]
    ticket = captured(data, "GET_ticket.http.txt")

    def answer(asked: peers.Asked) -> peers.Given:
        if asked.headers.get("authorization") != "token t":
            return 401, {}, {"message": "Unauthorized"}
        path = asked.path.removeprefix("/REST/2.0")
        if path == "/transactions":
            after = next(item["value"] for item in asked.json() if item["field"] == "id")
            found = [item | {"Creator": {"id": "alice"}} for item in items if int(item["id"]) > after]
            found = found[::-1] if asked.query["order"] == "DESC" else found
            return 200, {}, {"items": found[: int(asked.query["per_page"])]}
        if path.startswith("/ticket/"):
            return 200, {}, ticket
        if path.startswith("/queue/"):
            return 200, {}, {"Name": "General"}
        if path.endswith("/attachments"):
            return 200, {}, {"items": [{"ContentType": "text/plain", "Content": "the disk is full"}]}
        return 404, {}, {"message": "?"}

    return answer


def source(url: str, kept: peers.Kept, **more: Any) -> RequestTrackerFeed:
    return RequestTrackerFeed("desk", RequestTrackerFeed.Config(**{"url": url, "token": "t", "every_s": 0.02} | more), kept.lent())


def events(journal: peers.Journal) -> list[dict[str, Any]]:
    return [Reader("desk").to_event(row["payload"], parse("2026-11-22T14:00:00Z")) for row in journal.rows("raw")]


def test_transactions_become_ticket_events_once_each(data: Path) -> None:
    kept, journal = peers.Kept(), peers.Journal(full=2)
    last = int(captured(data, "POST_transactions_feed.http.txt")["items"][-1]["id"])
    with peers.http_server(desk(data)) as url:
        assert peers.run(peers.crashing(source(url, kept, history=True)))
        assert kept.position == {}
        peers.run(peers.while_running(source(url, kept, history=True), journal, lambda: kept.position.get("after") == last))
    found = events(journal)
    created, priority, status = found[:3]
    assert (created["kind"], created["title"], created["source_id"], created["body"]) == (
        "ticket",
        "alice opened ticket 1",
        "1",
        "the disk is full",
    )
    assert (priority["title"], priority["time"]) == ("alice changed ticket 1: Priority 40 → 90", parse("2026-11-22T12:39:38Z"))
    assert status["attributes"]["new"] == "open"
    assert status["attributes"]["queue"] == "General"
    assert created["fingerprint"] == priority["fingerprint"] == status["fingerprint"]
    assert len({event["id"] for event in found}) == len(found)
    assert "EmailRecord" not in {event["attributes"]["change"] for event in found}


def test_the_first_round_begins_now_and_a_wrong_token_is_refused(data: Path) -> None:
    with peers.http_server(desk(data)) as url:
        page = peers.run(source(url, peers.Kept()).page({}))
        assert page.batches == ()
        assert page.position["after"] > 33
        with pytest.raises(Refused, match="401"):
            peers.run(source(url, peers.Kept(), token="wrong").check())


@pytest.mark.real
@pytest.mark.slow
def test_a_real_request_tracker() -> None:
    import rt_server

    if reason := rt_server.missing():
        pytest.skip(reason)
    with rt_server.request_tracker() as tracker, tracker.person() as person:
        kept, journal = peers.Kept(), peers.Journal()
        feed = source(tracker.url, kept, token=tracker.token)
        kept.position = peers.run(feed.page({})).position
        number = person.post("/ticket", json={"Queue": "General", "Subject": "disk full", "Content": "help"}).json()["id"]
        person.put(f"/ticket/{number}", json={"Status": "resolved"})
        feed = source(tracker.url, kept, token=tracker.token)
        peers.run(peers.while_running(feed, journal, lambda: any(event["status"] == "resolved" for event in events(journal)), 60))
        (first, *_) = events(journal)
        assert (first["title"], first["attributes"]["subject"]) == (f"root opened ticket {number}", "disk full")
        assert first["attributes"]["queue"] == "General"


def test_what_this_token_may_not_see_stops_nothing_and_late_transactions_are_found(data: Path) -> None:
    rt, hidden = desk(data), {"3"}

    def answer(asked: peers.Asked) -> peers.Given:
        if asked.path.endswith("/attachments") or asked.path.startswith("/REST/2.0/queue/"):
            return 403, {}, {"message": "Forbidden"}
        status, headers, body = rt(asked)
        if asked.path.endswith("/transactions"):
            body = {"items": [item for item in body["items"] if str(item["id"]) not in hidden]}
        return status, headers, body

    with peers.http_server(answer) as url:
        feed = source(url, peers.Kept(), history=True)
        items = [int(item["id"]) for item in captured(data, "POST_transactions_feed.http.txt")["items"]]
        hidden.clear()
        hidden.add(str(items[-2]))
        first = peers.run(feed.page({}))
        assert first.batches[0].rows.num_rows > 0
        hidden.clear()
        again = peers.run(feed.page(first.position))
        assert sum(batch.rows.num_rows for batch in again.batches) <= 1
        assert set(again.position["seen"]) - set(first.position["seen"]) == {items[-2]}
        assert peers.run(feed.page(again.position)).batches == []
