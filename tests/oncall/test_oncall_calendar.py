"""Calendars in and out: other people's read with their recurrences, ours read back by the same, none from where it must not come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from zoneinfo import ZoneInfo

import pytest
from switchboard import T0, Switchboard

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData, Refused, Unavailable
from ninefold.oncall import arranging, calendar
from ninefold.oncall.roster import Roster
from ninefold.oncall.rotation import Shift

BERLIN = ZoneInfo("Europe/Berlin")
TEXT = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//some//calendar//EN
BEGIN:VEVENT
UID:1
SUMMARY:Anna / ben
DTSTART;TZID=Europe/Berlin:20261019T090000
DTEND;TZID=Europe/Berlin:20261020T090000
RRULE:FREQ=WEEKLY;COUNT=4
EXDATE;TZID=Europe/Berlin:20261102T090000
END:VEVENT
BEGIN:VEVENT
UID:1
RECURRENCE-ID;TZID=Europe/Berlin:20261109T090000
SUMMARY:cleo
DTSTART;TZID=Europe/Berlin:20261110T090000
DTEND;TZID=Europe/Berlin:20261110T180000
END:VEVENT
BEGIN:VEVENT
UID:2
SUMMARY:whole days
ATTENDEE;CN=Cleo:mailto:cleo
DTSTART;VALUE=DATE:20261024
DTEND;VALUE=DATE:20261026
END:VEVENT
BEGIN:VEVENT
UID:3
SUMMARY:Dentist
DTSTART:20261021T090000Z
DURATION:PT1H
END:VEVENT
BEGIN:VEVENT
UID:4
SUMMARY:ben
DTSTART:20261022T090000Z
DTEND:20261022T100000Z
RRULE:FREQ=SECONDLY
END:VEVENT
BEGIN:VEVENT
UID:5
SUMMARY:ben
DTSTART:20261023T090000Z
DTEND:20261023T100000Z
STATUS:CANCELLED
END:VEVENT
END:VCALENDAR
"""


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def test_recurrences_exceptions_and_whole_days_are_read_by_their_own_clock() -> None:
    found = calendar.read(TEXT, ["anna", "ben", "cleo"], BERLIN, ns("2026-10-01"), ns("2026-12-01"))
    times = [(s.person, s.start, s.end) for s in found.shifts]
    assert times == [
        ("anna", ns("2026-10-19T07:00"), ns("2026-10-20T07:00")), ("ben", ns("2026-10-19T07:00"), ns("2026-10-20T07:00")),
        ("cleo", ns("2026-10-23T22:00"), ns("2026-10-25T23:00")),  # 49 hours: the clocks change in between
        ("anna", ns("2026-10-26T08:00"), ns("2026-10-27T08:00")), ("ben", ns("2026-10-26T08:00"), ns("2026-10-27T08:00")),
        ("cleo", ns("2026-11-10T08:00"), ns("2026-11-10T17:00")),
    ]  # fmt: skip
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "the event 'Dentist' names nobody who is known here", "the event 'ben' cannot be used",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["nonsense", "BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR", "", "BEGIN:VCALENDAR\n" + "X" * (1 << 20)])
def test_what_is_no_calendar_is_refused(text: str) -> None:
    with pytest.raises(BadData):
        calendar.read(text, [], BERLIN, 0, 1)


def test_what_is_written_can_be_read() -> None:
    given = [Shift(ns("2026-10-19"), ns("2026-10-20"), "anna", "rotation"), Shift(ns("2026-10-20"), ns("2026-10-21"), "ben", "override")]
    text = calendar.write("primary", "Primary, Berlin; \\ \n day", given, T0).decode()
    found = calendar.read(text, ["anna", "ben"], BERLIN, ns("2026-10-01"), ns("2026-11-01"))
    assert [(s.person, s.start, s.end) for s in found.shifts] == [(s.person, s.start, s.end) for s in given]
    assert found.problems == []
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))


def test_a_schedule_follows_its_calendar_before_its_layers_and_after_its_overrides(board: Switchboard) -> None:
    board.save("schedule", "primary", layers=[{"people": ["anna"], "starts": "2020-01-01"}], timezone="Europe/Berlin")
    with board.records.session() as session:
        arranging.take_calendar(session, "primary", "", TEXT, "admin", T0)
        arranging.stand_in(session, "primary", "anna", ns("2026-11-10T09:00"), ns("2026-11-10T10:00"), "dentist", "admin")
    with board.records.reading() as session:
        roster = Roster(session)
        assert roster.on_call("primary", ns("2026-10-18")) == ["anna"]
        assert roster.on_call("primary", ns("2026-10-25")) == ["cleo"]
        assert roster.on_call("primary", ns("2026-10-19T08:00")) == ["anna", "ben"]
        assert roster.on_call("primary", ns("2026-11-10T08:30")) == ["cleo"]
        assert roster.on_call("primary", ns("2026-11-10T09:30")) == ["anna"]


def test_a_link_is_known_by_its_secret_only_until_it_is_revoked(board: Switchboard) -> None:
    board.save("schedule", "primary")
    with board.records.session() as session:
        first, second = arranging.link(session, "primary", "admin"), arranging.link(session, "primary", "admin")
        assert not arranging.linked(session, "primary", first)
        assert arranging.linked(session, "primary", second)
        assert not arranging.linked(session, "primary", "")
        arranging.unlink(session, "primary", "admin")
        assert not arranging.linked(session, "primary", second)


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, str]]]:
    answers = {"/a.ics": TEXT, "/large.ics": "x" * (2 << 20)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(302 if body is None else 200)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


def test_a_calendar_is_fetched_and_stays_when_it_cannot_be(board: Switchboard, served: tuple[str, dict[str, str]]) -> None:
    url, answers = served
    board.save("schedule", "primary")
    with board.records.session() as session:
        arranging.take_calendar(session, "primary", f"{url}/a.ics", "", "admin", T0)
    fetching = board.room.fetching
    assert asyncio.run(fetching.refresh("primary")) == ""
    answers["/a.ics"] = "gone"
    assert "iCalendar" in asyncio.run(fetching.refresh("primary"))
    with board.records.reading() as session:
        roster = Roster(session)
        assert roster.on_call("primary", ns("2026-10-25")) == ["cleo"]
        assert "iCalendar" in roster.times("primary", T0, T0 + 1).problems[-1]
    for path in ("large.ics", "moved.ics"):
        with pytest.raises((Refused, Unavailable)):
            asyncio.run(fetching.fetch(f"{url}/{path}"))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.ics", "file:///etc/passwd", "https://localhost/a.ics", "https://[::1]/a.ics", "https://10.0.0.7/a.ics",
        "https://169.254.169.254/latest", "https://[::ffff:127.0.0.1]/a", "https://anna:secret@example.org/a.ics", "https://0.0.0.0/",
        "https://100.64.1.1/", "https://[64:ff9b::a00:7]/", "https://[2002:7f00:1::]/", "https://224.0.0.1/", "webcal://127.1/a.ics",
    ],
)  # fmt: skip
def test_no_calendar_is_fetched_from_where_only_this_machine_can_reach(board: Switchboard, url: str) -> None:
    with pytest.raises(Refused):
        asyncio.run(board.room.fetching.fetch(url))
