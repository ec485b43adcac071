"""Who is on call when: turns, hours, layers, overrides, gaps, and the days on which the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ninefold.ground.clock import SECOND
from ninefold.oncall.plans import Schedule
from ninefold.oncall.rotation import Shift, gaps, on_call, shifts

HOUR = 3600 * SECOND
DAY = 24 * HOUR


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def schedule(*layers: dict[str, Any], zone: str = "UTC") -> Schedule:
    return Schedule.model_validate({"timezone": zone, "layers": list(layers)})


def weekly(*people: str, **more: Any) -> dict[str, Any]:
    return {"people": list(people), "starts": "2026-01-05T09:00", "rrule": "FREQ=WEEKLY", **more}


def test_people_take_turns() -> None:
    found = shifts(schedule(weekly("anna", "ben", "cleo")), ns("2026-01-05"), ns("2026-01-29"))
    assert [(s.person, (s.end - s.start) // HOUR) for s in found] == [("anna", 168), ("ben", 168), ("cleo", 168), ("anna", 63)]
    assert gaps(found, ns("2026-01-05"), ns("2026-01-29")) == [(ns("2026-01-05"), ns("2026-01-05T09:00"))]
    later = shifts(schedule(weekly("anna", "ben", "cleo")), ns("2026-12-28T10:00"), ns("2026-12-28T11:00"))
    assert [s.person for s in later] == ["anna"], "the fifty-second turn, wherever one looks from"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-28", 23), ("2026-10-24", 25), ("2026-06-01", 24)])
def test_a_hand_over_at_nine_is_at_nine_when_the_clocks_change(day: str, hours: int) -> None:
    daily = {"people": ["anna", "ben"], "starts": "2026-01-01T09:00", "rrule": "FREQ=DAILY"}
    noon = ns(f"{day}T12:00")
    (now,) = on_call(shifts(schedule(daily, zone="Europe/Berlin"), noon - DAY, noon + 2 * DAY), noon)
    assert (now.end - now.start) // HOUR == hours


def test_business_hours_and_nights_of_two_layers() -> None:
    hours = [{"days": ["MO", "TU", "WE", "TH", "FR"], "starts": "09:00", "ends": "17:00"}]
    nights = [{"starts": "22:00", "ends": "06:00"}]
    plan = schedule(weekly("anna", restrictions=hours), weekly("ben", restrictions=nights))
    found = shifts(plan, ns("2026-01-09T00:00"), ns("2026-01-11T00:00"))  # a Friday and a Saturday
    at = lambda text: [s.person for s in on_call(found, ns(text))]  # noqa: E731 - as short as it is
    assert (at("2026-01-09T10:00"), at("2026-01-09T18:00"), at("2026-01-09T23:00")) == (["anna"], [], ["ben"])
    assert (at("2026-01-10T05:59"), at("2026-01-10T06:00"), at("2026-01-10T10:00")) == (["ben"], [], [])
    assert len(gaps(found, ns("2026-01-09T00:00"), ns("2026-01-11T00:00"))) == 3


def test_an_override_counts_before_everything() -> None:
    plan = schedule(weekly("anna", "ben"))
    start, end = ns("2026-01-05T09:00"), ns("2026-01-12T09:00")
    override = Shift(ns("2026-01-06T00:00"), ns("2026-01-07T00:00"), "cleo", "override")
    found = shifts(plan, start, end, overrides=[override])
    assert [s.person for s in found] == ["anna", "cleo", "anna"]
    assert gaps(found, start, end) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"rrule": "FREQ=SECONDLY"}, {"rrule": "FREQ=DAILY;INTERVAL=0"}, {"rrule": "FREQ=HOURLY;BYDAY=MO"}, {"rrule": "every monday"},
        {"starts": "2026-01-05T09:00Z"}, {"ends": "2025-01-01"}, {"people": []}, {"rrule": "FREQ=WEEKLY;BYDAY=XX"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schedule(weekly("anna") | wrong)


@settings(max_examples=40, deadline=None)
@given(
    rule=st.sampled_from(["FREQ=WEEKLY", "FREQ=DAILY;INTERVAL=3", "FREQ=HOURLY;INTERVAL=12", "FREQ=WEEKLY;BYDAY=MO,TH", "FREQ=MONTHLY"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    offset=st.integers(0, 700 * 24),
    length=st.integers(1, 40 * 24),
)
def test_a_layer_without_hours_leaves_no_gap_and_never_two_people(rule: str, zone: str, offset: int, length: int) -> None:
    plan = schedule({"people": ["anna", "ben", "cleo"], "starts": "2025-12-31T09:30", "rrule": rule}, zone=zone)
    start = ns("2026-01-02") + offset * HOUR
    found = shifts(plan, start, start + length * HOUR)
    assert gaps(found, start, start + length * HOUR) == []
    assert all(a.end == b.start for a, b in pairwise(found))
    middle = start + length * HOUR // 2
    whole = shifts(plan, middle - timedelta(days=90) // timedelta(seconds=1) * SECOND, middle + DAY)
    assert [s.person for s in on_call(found, middle)] == [s.person for s in on_call(whole, middle)], "wherever one looks from"
