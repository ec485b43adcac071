"""Mutes: what is hidden and why, what comes back, what people may do with them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from room import T0, Room, event
from sqlalchemy import select

from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import BadData, Conflict, NotFound
from ninefold.incidents import alerts
from ninefold.incidents.mutes import Wish, state_of
from ninefold.incidents.windows import edge, window
from ninefold.model.matcher import Finder, Matcher
from ninefold.store.records.base import Audit
from ninefold.store.records.incidents import AlertState, Ledger
from ninefold.store.records.mutes import HiddenAlert, Mute

CART = (Matcher("entity", "=", "service:cart"),)


def present() -> float:
    """Seconds from T0 to now: what people do is done now."""
    return (now() - T0) / SECOND


def wish(starts_s: float = 0, ends_s: float = 3600, *matchers: Matcher, **more: Any) -> Wish:
    """A mute of the cart, times in seconds after T0."""
    times = {"starts": T0 + int(starts_s * SECOND), "ends": T0 + int(ends_s * SECOND)}
    return Wish(**{"matchers": matchers or CART, "owner": "ops", "reason": "known defect", **times, **more})


def statuses(room: Room) -> dict[str, str]:
    with room.records.reading() as session:
        return {state.title: state.status for state in session.scalars(select(AlertState))}


def hidden(room: Room) -> int:
    with room.records.reading() as session:
        return len(session.scalars(select(HiddenAlert)).all())


def reasons(room: Room) -> list[str]:
    with room.records.reading() as session:
        return list(session.scalars(select(Ledger.text).where(Ledger.step == "mute").order_by(Ledger.id)))


def test_a_muted_alert_opens_nothing_and_the_ledger_says_whose_mute_it_was(room: Room) -> None:
    mute = room.incidents.mutes.create(wish(), "anna")
    room.feed(event(0, severity="critical"), event(0, "service:web", "web fails", severity="critical"))
    assert [incident["entity"] for incident in room.list()] == ["service:web"]
    assert statuses(room) == {"slow": "suppressed", "web fails": "firing"}
    assert reasons(room) == [f"hidden by silence {mute.id} of ops until 2023-11-14T23:13:20.000000Z: known defect"]
    room.feed(event(0, severity="critical"), received_s=60)
    assert len(reasons(room)) == 1, "told again, it is no news"
    with room.records.reading() as session:
        (row,) = session.scalars(select(Audit))
        assert (row.actor, row.action, row.target) == ("anna", "mute created", mute.id)
        assert row.detail["after"]["matchers"] == 'entity="service:cart"'


def test_what_still_fires_comes_back_when_the_mute_ends_as_one_incident(room: Room) -> None:
    room.chain("web", "cart")
    room.incidents.mutes.create(wish(0, 600, Matcher("entity", "=~", "service:(cart|web)")), "anna")
    room.feed(event(0), received_s=5)
    room.feed(event(300, "service:web", "web fails"), received_s=300)
    room.feed(event(310, "service:web", "web is slow"), received_s=310)
    room.feed(event(400, "service:web", "web is slow", status="resolved"), received_s=400)
    room.tick(599)
    assert room.list() == []
    room.restart()
    room.tick(601)
    (incident,) = room.list()
    assert (incident["alerts"], incident["entities"]) == (2, 2), "far apart they began, together they are seen"
    assert statuses(room) == {"slow": "firing", "web fails": "firing", "web is slow": "resolved"}
    assert hidden(room) == 0
    room.tick(700)
    assert len(room.list()) == 1


def test_the_story_of_an_alert_tells_of_the_mute_when_all_is_over(room: Room) -> None:
    room.incidents.mutes.create(wish(0, 600), "anna")
    room.feed(event(0), received_s=0)
    room.feed(event(50, status="resolved"), received_s=50)
    with room.records.reading() as session:
        why = alerts.whole(session, event(0)["fingerprint"])["why"]
    assert [each["step"] for each in why] == ["mute", "dedup"]


def test_an_alert_told_after_the_mute_is_seen_at_once(room: Room) -> None:
    room.incidents.mutes.create(wish(0, 600), "anna")
    room.feed(event(0, severity="critical"), received_s=5)
    room.feed(event(0, severity="critical"), received_s=605)
    assert len(room.list()) == 1
    assert hidden(room) == 0


def test_what_is_in_an_open_incident_stays_there(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    room.incidents.mutes.create(wish(), "anna")
    room.feed(event(60, severity="critical"), event(61, title="fails", severity="critical"), received_s=60)
    (incident,) = room.list()
    assert incident["alerts"] == 2, "the same alert again; the new one is hidden"
    room.feed(event(90, status="resolved"), received_s=90)
    room.tick(1000)
    assert room.list()[0]["status"] == "resolved"


def test_an_end_told_before_its_beginning_hides_nothing(room: Room) -> None:
    room.incidents.mutes.create(wish(), "anna")
    room.feed(event(50, status="resolved"))
    room.feed(event(0), received_s=60)
    assert hidden(room) == 0
    assert statuses(room) == {"slow": "resolved"}


def test_what_nobody_tells_of_any_more_is_dropped(room: Room) -> None:
    room.incidents.mutes.create(wish(0, 100 * 3600), "anna")
    room.feed(event(0), received_s=0)
    room.tick(5 * 3600 - 60)
    assert hidden(room) == 1
    room.tick(5 * 3600 + 700)
    assert hidden(room) == 0
    room.tick(101 * 3600)
    assert room.list() == []


def test_expiring_a_mute_shows_what_it_hid(room: Room) -> None:
    told = present()
    mute = room.incidents.mutes.create(wish(0, told + 9000), "anna")
    room.feed(event(told, severity="critical"), received_s=told)
    assert room.list() == []
    room.incidents.mutes.expire(mute.id, "ben")
    room.tick(present() + 60)
    assert len(room.list()) == 1
    with pytest.raises(Conflict, match="over already"):
        room.incidents.mutes.expire(mute.id, "ben")
    with pytest.raises(NotFound):
        room.incidents.mutes.expire("no such", "ben")


def test_other_matchers_make_another_mute_and_a_longer_one_is_the_same(room: Room) -> None:
    mutes = room.incidents.mutes
    mute = mutes.create(wish(0, present() + 9000), "anna")
    assert mutes.change(mute.id, wish(0, present() + 99_000), "anna").id == mute.id
    other = mutes.change(mute.id, wish(0, present() + 9000, Matcher("entity", "=", "service:web")), "anna")
    assert other.id != mute.id
    with room.records.reading() as session:
        assert state_of(session.get_one(Mute, mute.id), now()) == "expired"


def test_what_cannot_be_muted_is_refused(room: Room) -> None:
    mutes = room.incidents.mutes
    for mistaken, words in (
        (wish(10, 5), "ends after"), (wish(owner=" "), "owner"), (wish(reason=""), "reason"), (wish(timezone="Mars/Olympus"), "time zone"),
        (wish(rrule="FREQ=MINUTELY", duration_s=60), "daily"), (wish(rrule="FREQ=DAILY;INTERVAL=0", duration_s=60), "daily"),
        (wish(rrule="FREQ=DAILY;BYDAY=ZZ", duration_s=60), "cannot be read"), (wish(rrule="FREQ=DAILY"), "duration"),
        (wish(rrule="FREQ=DAILY;BYSECOND=1", duration_s=60), "daily"),
        (wish(rrule="DTSTART:20260101T000000 RRULE:FREQ=DAILY", duration_s=60), "daily"),
        (wish(rrule="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", duration_s=60), "no day"),
        (wish(0, 10, Matcher("entity", "=~", ".*")), "at least one matcher"), (wish(0, 10, Matcher("entity", "!=", "a")), "at least one"),
    ):  # fmt: skip
        with pytest.raises(BadData, match=words):
            mutes.create(mistaken, "anna")
    for name, op, value in (("", "=", "a"), ("a", "==", "b"), ("a", "=~", "("), ("a", "=~", "b)|(c")):
        with pytest.raises(BadData):
            Matcher(name, op, value)
    room.feed(event(0, severity="critical"))
    assert len(room.list()) == 1


def test_a_failed_transaction_leaves_no_trace_in_memory(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.incidents.mutes.create(wish(), "anna")
    with monkeypatch.context() as patch:
        patch.setattr("ninefold.incidents.ledger.Pages.write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            room.feed(event(0))
    assert hidden(room) == 0
    room.feed(event(0))
    assert (hidden(room), len(reasons(room))) == (1, 1)


def _at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[misc]


def test_a_maintenance_recurs_by_the_wall_clock() -> None:
    """Sundays at 02:30 in Berlin: 00:30 UTC in summer, 01:30 UTC from 25 October 2026 on."""
    mute = Mute(
        matchers=[], starts=_at(2026, 10, 11, 0, 30), ends=_at(2027, 1, 1), rrule="FREQ=WEEKLY", duration_s=3600, timezone="Europe/Berlin"
    )
    assert window(mute, _at(2026, 10, 18, 1, 0)) == (_at(2026, 10, 18, 0, 30), _at(2026, 10, 18, 1, 30))
    assert window(mute, _at(2026, 10, 18, 1, 30)) is None
    assert window(mute, _at(2026, 11, 1, 1, 0)) is None
    assert window(mute, _at(2026, 11, 1, 2, 0)) == (_at(2026, 11, 1, 1, 30), _at(2026, 11, 1, 2, 30))
    assert edge(mute, _at(2026, 10, 26)) == _at(2026, 11, 1, 1, 30)
    assert edge(mute, _at(2026, 11, 1, 1, 30)) == _at(2026, 11, 1, 2, 30)
    assert edge(mute, _at(2026, 10, 1)) == mute.starts
    assert state_of(mute, _at(2026, 10, 26)) == "pending"
    assert state_of(mute, _at(2026, 12, 31)) == "expired", "no occurrence is left"


def test_alerts_are_hidden_in_the_windows_of_a_maintenance_only(room: Room) -> None:
    room.incidents.mutes.create(wish(0, 10 * 86_400, rrule="FREQ=DAILY", duration_s=3600), "anna")
    for day in range(3):
        room.feed(event(day * 86_400 + 60, title=f"in {day}", severity="critical"), received_s=day * 86_400 + 60)
        room.feed(event(day * 86_400 + 90, title=f"in {day}", status="resolved"), received_s=day * 86_400 + 90)
        room.feed(event(day * 86_400 + 7200, title=f"out {day}", severity="critical"), received_s=day * 86_400 + 7200)
    assert sorted(incident["title"] for incident in room.list()) == ["out 0", "out 1", "out 2"]


_NAMES, _VALUES = st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "x", "y", "xy", "x\ny", "x|y"])
_PATTERNS = ["x|y", ".*", ".+", "", "x.*", "[xy]", "(?i)X", "x|", "x\\|y", "x\\|y|y"]
_MATCHERS = st.lists(
    st.one_of(
        st.builds(Matcher, _NAMES, st.sampled_from(["=", "!="]), _VALUES),
        st.builds(Matcher, _NAMES, st.sampled_from(["=~", "!~"]), st.sampled_from(_PATTERNS)),
    ),
    min_size=1, max_size=4,
).filter(lambda matchers: any(matcher.needs_label for matcher in matchers))  # fmt: skip


@given(st.lists(_MATCHERS, max_size=8), st.lists(st.dictionaries(_NAMES, _VALUES), max_size=6))
def test_the_finder_finds_what_asking_each_matcher_finds(sets: list[list[Matcher]], labels: list[dict[str, str]]) -> None:
    finder = Finder(dict(enumerate(sets)))
    wanted = [[i for i, matchers in enumerate(sets) if all(m.holds(each.get(m.name, "")) for m in matchers)] for each in labels]
    assert finder.find(labels) == wanted
    assert finder.find(labels[::-1]) == wanted[::-1], "what is remembered is the same"


def test_a_matcher_holds_for_the_whole_value() -> None:
    assert Matcher("a", "=~", "x|y").holds("x")
    assert not Matcher("a", "=~", "x|y").holds("xy")
    assert not Matcher("a", "=~", "x").holds("x\n")
    assert replace(Matcher("a", "!~", "x|y"), value="z").holds("x")
    assert str(Matcher("a", "!=", "b")) == 'a!="b"'


def test_a_maintenance_in_the_hours_the_clock_repeats_or_leaps_over_holds_once() -> None:
    """02:30 in Berlin for an hour: it comes twice on 25 October 2026 and not at all on 28 March 2027."""
    starts, ends = _at(2026, 10, 4, 0, 30), _at(2028, 1, 1)
    mute = Mute(matchers=[], starts=starts, ends=ends, rrule="FREQ=WEEKLY", duration_s=3600, timezone="Europe/Berlin")
    for around, first in ((_at(2026, 10, 25), _at(2026, 10, 25, 0, 30)), (_at(2027, 3, 28), _at(2027, 3, 28, 1, 30))):
        for minute in range(0, 300, 5):
            at = around + minute * 60 * SECOND
            held = window(mute, at)
            assert held == ((first, first + 3600 * SECOND) if first <= at < first + 3600 * SECOND else None), minute
            assert edge(mute, at) > at


@given(st.integers(0, 3 * 365 * 24 * 4), st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]))
def test_a_window_lasts_until_its_edge(quarter: int, zone: str) -> None:
    mute = Mute(matchers=[], starts=T0, ends=T0 + 3000 * 86_400 * SECOND, rrule="FREQ=DAILY", duration_s=5400, timezone=zone)
    at = T0 + quarter * 900 * SECOND
    held, turn = window(mute, at), edge(mute, at)
    assert turn > at
    assert held is None or held[0] <= at < held[1] <= turn
    assert window(mute, turn - 1) == held
