"""The Request Tracker connector against a real Request Tracker 5."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from pydantic import ValidationError
from rt_server import Tracker

from ninefold.connectors.request_tracker import Comment, Create, Find, RequestTracker, Resolve, Update
from ninefold.ground.clock import now
from ninefold.ground.errors import Conflict, NotFound, Refused, Unavailable
from ninefold.model.signal import batch_of

T = TypeVar("T")
pytestmark = [pytest.mark.real, pytest.mark.slow]


def use(tracker: Tracker, work: Callable[[RequestTracker], Awaitable[T]], **config: Any) -> T:
    async def main() -> T:
        settings = {"url": tracker.url, "token": tracker.token, **config}
        connector = RequestTracker(RequestTracker.Config.model_validate(settings))
        try:
            return await work(connector)
        finally:
            await connector.close()

    return asyncio.run(main())


def reference() -> str:
    return f"http://ninefold.example/incidents/INC-{os.urandom(4).hex()}"


def test_check_with_a_token_and_with_a_password(tracker: Tracker) -> None:
    assert use(tracker, lambda desk: desk.check()).startswith("Request Tracker 5")
    assert use(tracker, lambda desk: desk.check(), token=None, user="root", password="password").endswith("queue General")
    with pytest.raises(Refused, match="401"):
        use(tracker, lambda desk: desk.check(), token="1-2-wrong")
    with pytest.raises(NotFound):
        use(tracker, lambda desk: desk.check(), queue="Nowhere")


def test_a_ticket_from_open_to_closed(tracker: Tracker) -> None:
    about = reference()

    async def story(desk: RequestTracker) -> None:
        made = await desk.create(Create(subject="db down – checkout", text="first → message", reference=about, priority=50))
        assert (made.status, made.subject, made.priority, made.queue, made.created) == ("new", "db down – checkout", 50, "1", True)
        assert made.url == f"{tracker.url}/Ticket/Display.html?id={made.ticket}"
        again = await desk.create(Create(subject="something else", reference=about))
        assert (again.ticket, again.subject, again.created) == (made.ticket, "db down – checkout", False)
        commented = await desk.comment(Comment(ticket=made.ticket, text="probable cause: ts-order-service"))
        assert commented.version != made.version
        updated = await desk.update(Update(ticket=made.ticket, status="open", owner="root", subject="db is slow", priority=80))
        assert (updated.status, updated.owner, updated.subject, updated.priority) == ("open", "root", "db is slow", 80)
        closed = await desk.resolve(Resolve(ticket=made.ticket, text="all alerts ended"))
        assert closed.status == "resolved"
        assert await desk.resolve(Resolve(ticket=made.ticket, text="all alerts ended")) == closed
        assert (await desk.read(Find(ticket=made.ticket))).status == "resolved"

    use(tracker, story)


def test_what_rt_refuses_with_a_200_is_found_out(tracker: Tracker) -> None:
    async def story(desk: RequestTracker) -> None:
        made = await desk.create(Create(subject="x", reference=reference()))
        with pytest.raises(Refused, match=f"did not take status of ticket {made.ticket}: .*isn't a valid status"):
            await desk.update(Update(ticket=made.ticket, status="nonsense"))
        with pytest.raises(Refused, match=r"did not take owner .*That user does not exist"):
            await desk.update(Update(ticket=made.ticket, owner="nobody-here"))
        with pytest.raises(Refused, match="custom field missing"):
            await desk.update(Update(ticket=made.ticket, fields={"missing": "x"}))
        with pytest.raises(Refused, match=r"did not take status .*isn't a valid status"):
            await desk.resolve(Resolve(ticket=made.ticket, status="nonsense"))
        with pytest.raises(Refused, match="No permission to create tickets in the queue"):
            await desk.create(Create(subject="x", reference=reference(), queue="Nowhere"))

    use(tracker, story)


def test_a_ticket_that_was_opened_otherwise_than_asked_is_there_all_the_same(tracker: Tracker) -> None:
    async def story(desk: RequestTracker) -> None:
        with pytest.raises(Refused, match="custom field missing") as told:
            await desk.create(Create(subject="x", reference=reference(), fields={"missing": "x"}))
        assert told.value.carried_out
        assert told.value.answer is not None
        ticket = told.value.answer["ticket"]
        assert told.value.answer["url"] == f"{tracker.url}/Ticket/Display.html?id={ticket}"
        assert (await desk.read(Find(ticket=ticket))).subject == "x"

    use(tracker, story)


def test_a_change_meanwhile_is_a_conflict(tracker: Tracker) -> None:
    async def story(desk: RequestTracker) -> None:
        made = await desk.create(Create(subject="x", reference=reference()))
        await desk.comment(Comment(ticket=made.ticket, text="somebody was faster"))
        with pytest.raises(Conflict, match="412"):
            await desk.update(Update(ticket=made.ticket, subject="y", version=made.version))
        assert (await desk.update(Update(ticket=made.ticket, subject="y"))).subject == "y"

    use(tracker, story)


def test_what_does_not_exist_is_not_found(tracker: Tracker) -> None:
    with pytest.raises(NotFound):
        use(tracker, lambda desk: desk.read(Find(ticket="99999")))
    with pytest.raises(NotFound):
        use(tracker, lambda desk: desk.resolve(Resolve(ticket="99999")))


def test_what_people_do_comes_back_as_events(tracker: Tracker) -> None:
    async def story(desk: RequestTracker) -> None:
        start = (await desk.changes("")).cursor
        made = await desk.create(Create(subject="db down", reference=reference()))
        with tracker.person() as person:
            assert person.put(f"/ticket/{made.ticket}", json={"Owner": "root", "Status": "open"}).status_code == 200
            content = {"Content": "restarted the pool", "ContentType": "text/plain"}
            assert person.post(f"/ticket/{made.ticket}/comment", json=content).status_code == 201
        found = await desk.changes(start)
        assert [(event["attributes"]["ticket.change"], event["title"]) for event in found.events] == [
            ("Create", f"root opened ticket {made.ticket}"),
            ("Set", f"root changed ticket {made.ticket}: Owner Nobody → root"),
            ("Status", f"root changed ticket {made.ticket}: Status new → open"),
            ("Comment", f"root commented on ticket {made.ticket}"),
        ]
        status, comment = found.events[2], found.events[3]
        assert (status["status"], status["kind"], status["source_id"]) == ("open", "ticket", made.ticket)
        assert {key: status["attributes"][key] for key in ("actor", "ticket.field", "ticket.old", "ticket.new")} == {
            "actor": "root", "ticket.field": "Status", "ticket.old": "new", "ticket.new": "open",
        }  # fmt: skip
        assert comment["body"] == "restarted the pool"
        assert abs(status["time"] - now()) < 120e9
        assert batch_of("event", "tracker", now(), found.events).rows.num_rows == 4
        assert (await desk.changes(start)).events == found.events  # asked again, the same events with the same ids
        nothing = await desk.changes(found.cursor)
        assert (nothing.events, nothing.cursor) == ([], found.cursor)

    use(tracker, story)


def test_a_reference_cannot_change_the_search(tracker: Tracker) -> None:
    with pytest.raises(Refused, match="quote"):
        use(tracker, lambda desk: desk.create(Create(subject="x", reference="x' OR id > 0 OR Subject = '")))


def test_no_tracker_is_unavailable() -> None:
    gone = Tracker("http://127.0.0.1:9", "t")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
        use(gone, lambda desk: desk.create(Create(subject="x", reference="x")))


@pytest.mark.parametrize("config", [{}, {"token": "a", "password": "b", "user": "c"}, {"password": "b"}, {"token": "a", "url": "ftp://x"}])
def test_credentials_are_checked_at_the_start(config: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        RequestTracker.Config.model_validate({"url": "http://x", **config})
