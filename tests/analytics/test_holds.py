"""Times of which nothing is learned: who is believed, when they begin and end, and that being told twice is being told once."""

from __future__ import annotations

from typing import Any

import pytest

from ninefold.analytics.holds import HOLD, Holds
from ninefold.ground.clock import MINUTE, iso
from ninefold.model.signal import Batch, batch_of

START = 1_700_000_000 * 10**9
HOUR = 60 * MINUTE
SHOP, DESK = "service:shop", "service:desk"


def told(at: int = START, source: str = "desk", **row: Any) -> Batch:
    return batch_of("event", source, at, [{"id": f"{at} {row}", "time": at, "entity": SHOP, **row}])


def window(at: int, begin: int, end: int, **row: Any) -> Batch:
    given: dict[str, Any] = {"kind": "maintenance", "source_id": "CHG-7", "attributes": {"start": iso(begin), "end": iso(end)}}
    return told(at, **(given | row))


def held(holds: Holds, at: int) -> list[bool]:
    holds.due(at)
    return [bool(one) for one in holds.covers([SHOP, DESK])]


def test_a_window_holds_its_entity_from_its_start_to_its_end() -> None:
    holds = Holds()
    assert not holds.hear(window(START, START + HOUR, START + 2 * HOUR))
    assert [held(holds, START + minutes * MINUTE) for minutes in (59, 60, 119, 120)] == [
        [False, False], [True, False], [True, False], [False, False],
    ]  # fmt: skip
    assert not holds


def test_a_window_is_extended_and_called_off_by_the_number_it_has_where_it_comes_from() -> None:
    holds = Holds()
    holds.hear(window(START, START, START + HOUR))
    holds.hear(window(START, START + 3 * HOUR, START + 4 * HOUR, source_id="CHG-8"))
    assert len(holds.state()) == 2, "two windows of one entity and title are two"
    holds.hear(window(START + 50 * MINUTE, START, START + 2 * HOUR))
    assert held(holds, START + 61 * MINUTE) == [True, False]
    assert holds.hear(told(START + 62 * MINUTE, kind="maintenance", source_id="CHG-7", status="cancelled"))
    assert held(holds, START + 63 * MINUTE) == [False, False]
    assert held(holds, START + 3 * HOUR) == [True, False]


def test_windows_without_a_number_are_told_apart_by_their_start() -> None:
    holds = Holds()
    for day in (0, 1):
        holds.hear(window(START, START + day * 24 * HOUR, START + day * 24 * HOUR + HOUR, source_id="", title="backup"))
    assert [held(holds, START + hours * HOUR)[0] for hours in (0, 2, 24, 26)] == [True, False, True, False]


def test_an_event_delivered_again_later_moves_no_window() -> None:
    holds, again = Holds(), window(START, START + HOUR, START + 2 * HOUR)
    holds.hear(again)
    holds.hear(Batch(again.signal, again.source, START + 30 * MINUTE, again.rows))
    assert held(holds, START + 121 * MINUTE) == [False, False]


def test_a_holiday_of_nobody_in_particular_is_everybodys() -> None:
    holds = Holds()
    assert holds.hear(told(kind="holiday", entity="", title="New Year"))
    assert [held(holds, START + hours * HOUR) for hours in (1, 23, 25)] == [[True, True], [True, True], [False, False]]


@pytest.mark.parametrize("attributes", [{}, {"end": "soon"}, {"end": iso(START - HOUR)}])
@pytest.mark.parametrize("kind", ["change", "deployment"])
def test_a_change_without_a_window_holds_nothing(kind: str, attributes: dict[str, str]) -> None:
    holds = Holds()
    assert not holds.hear(told(kind=kind, attributes=attributes))
    assert not holds


def test_an_incident_holds_until_it_is_resolved_and_no_longer_than_two_hours() -> None:
    holds = Holds()
    said: dict[str, Any] = {"kind": "incident", "attributes": {"ninefold.incident": "INC-1"}}
    assert holds.hear(told(source="ninefold", status="opened", **said))
    assert held(holds, START + MINUTE) == [True, False]
    assert holds.hear(told(START + 2 * MINUTE, "ninefold", status="resolved", **said))
    assert held(holds, START + 3 * MINUTE) == [False, False]
    holds.hear(told(START + HOUR, "ninefold", status="reopened", **said))
    assert [held(holds, START + HOUR + wait)[0] for wait in (MINUTE, HOLD)] == [True, False]
    assert not holds.hear(told(START + 9 * HOUR, "somebody", status="opened", **said)), "only Ninefold is believed of incidents"


def test_an_anomaly_found_useful_holds_what_it_is_about_while_it_lasts() -> None:
    holds = Holds()
    about: dict[str, Any] = {"fingerprint": "f" * 16, "entity": DESK}
    verdict = {"verdict": "useful", "status": "firing", "fingerprint": "f" * 16}
    assert holds.hear(told(source="ninefold.console", kind="verdict", attributes=verdict, **about))
    assert held(holds, START + MINUTE) == [False, True]
    assert holds.hear(told(START + 2 * MINUTE, "ninefold.operations", kind="anomaly", status="resolved", **about))
    assert held(holds, START + 3 * MINUTE) == [False, False]


def test_a_restart_changes_nothing() -> None:
    holds = Holds()
    holds.hear(window(START, START + HOUR, START + 2 * HOUR))
    again = Holds(holds.state(), holds.now)
    assert held(again, START + HOUR) == held(holds, START + HOUR) == [True, False]
    assert again.state() == holds.state()
