"""From an incident to the people who are paged, step after step, until somebody acknowledges; without a lost or doubled page."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from switchboard import T0, MakeBoard, Switchboard, person

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData, Conflict, Refused


def test_who_does_not_answer_in_time_is_followed_by_the_next(board: Switchboard) -> None:
    board.policy(person("anna"), person("ben", 300), wait_s=600)
    board.incident()
    assert board.turn() == ["anna"]
    assert board.turn(299) == ["anna"]
    assert board.turn(1) == ["anna", "ben"]
    assert board.turn(600) == ["anna", "ben", "office"], "nobody acknowledged: the administrators hear of it"
    assert board.escalations() == ["unanswered"]
    assert board.room.unanswered() == ["INC-1"]
    assert [kind for kind, _ in board.told()] == ["paged", "paged", "nobody", "paged"]
    assert board.told()[0][1] == "Paged anna by pager (named by the policy)"
    assert board.turn(100_000) == ["anna", "ben", "office"]


def test_acknowledging_stops_and_reopening_starts_again(board: Switchboard) -> None:
    board.policy(person("anna"), person("ben", 300))
    number = board.incident()
    board.turn()
    board.incident("acknowledged", number, status="acknowledged")
    assert board.turn(1000) == ["anna"]
    assert board.escalations() == ["acknowledged"]
    board.incident("resolved", number, status="resolved")
    board.incident("reopened", number, status="open")
    assert board.turn() == ["anna", "anna"]
    assert board.turn(300) == ["anna", "anna", "ben"]
    assert board.escalations() == ["acknowledged", "running"]


def test_an_acknowledgement_not_yet_followed_stops_a_page_too(board: Switchboard) -> None:
    board.policy(person("anna"), person("ben", 10))
    number = board.incident()
    board.turn()
    board.at += 11 * SECOND
    with board.records.session() as session:
        from ninefold.store.records.incidents import Incident

        session.get_one(Incident, number).status = "acknowledged"
    assert board.turn() == ["anna"]


def test_steps_repeat_and_schedules_tell_who(board: Switchboard) -> None:
    layer = {"people": ["anna", "ben"], "starts": "2025-01-01", "rrule": "FREQ=DAILY"}
    board.save("schedule", "primary", layers=[layer])
    board.policy({"targets": [{"kind": "schedule", "name": "primary"}]}, wait_s=86_400, repeat=1)
    board.incident()
    (first,) = board.turn()
    assert board.turn(86_400) == [first, {"anna": "ben", "ben": "anna"}[first]], "whoever is on call by then"


def test_nobody_on_call_is_told_loudly_and_the_next_step_does_not_wait(board: Switchboard) -> None:
    board.save("schedule", "empty")
    board.policy({"targets": [{"kind": "schedule", "name": "empty"}]}, person("ben", 3600))
    board.incident()
    board.turn()
    assert set(board.turn()) == {"office", "ben"}
    assert ("nobody", "Nobody can be paged for step 1 of standard (schedule empty)") in board.told()


@pytest.mark.parametrize(("trouble", "status"), [("no", "failed"), ("lost", "unknown")])
def test_a_step_that_reached_nobody_does_not_wait(make_board: MakeBoard, trouble: str, status: str) -> None:
    board = make_board(anna=trouble)
    board.policy(person("anna"), person("ben", 3600))
    board.incident()
    board.turn()
    board.turn()
    assert board.pages()[0] == ("anna", status)
    assert "ben" in board.reached()
    assert board.reached().count("anna") == (trouble == "lost"), "what may have arrived is not sent twice"


def test_what_was_not_delivered_is_tried_again_and_its_secret_is_not_told(make_board: MakeBoard) -> None:
    board = make_board(anna="down")
    board.policy(person("anna"), wait_s=3600)
    board.incident()
    board.turn()
    assert board.pages() == [("anna", "due")]
    board.turn(5)
    board.pagers["anna"].trouble = ""
    assert board.turn(20) == ["anna"]
    board.pagers["anna"].trouble = "down"
    board.incident()
    for wait_s in (0, 5, 20):
        board.turn(wait_s)
    assert board.pages()[1] == ("anna", "failed")
    assert "•••" in dict(board.told())["failed"]
    with pytest.raises(Conflict):
        board.room.paging.again(1, "admin")
    board.pagers["anna"].trouble = ""
    board.room.paging.again(2, "admin")
    assert board.turn().count("anna") == 2


def test_the_policy_is_chosen_by_team_entity_and_severity(board: Switchboard) -> None:
    board.save("team", "shop", members=["cleo"], matchers=[{"name": "entity", "op": "=~", "value": "service:(cart|checkout)"}])
    board.policy({"targets": [{"kind": "team", "name": "shop"}]}, order=1, name="shop", matchers=[{"name": "team", "value": "shop"}])
    board.policy(person("anna"), order=2, name="rest", matchers=[{"name": "severity", "value": "critical"}])
    board.incident()
    assert board.turn() == ["cleo"]
    board.incident(entity="host:db")
    assert board.turn() == ["cleo", "anna"]
    board.incident(entity="host:db", severity="warning")
    assert board.turn() == ["cleo", "anna"]
    assert board.decided()[-1] == "nobody is paged: no escalation policy matches it"


def test_nobody_is_woken_for_the_past_or_for_what_is_not_shown(board: Switchboard) -> None:
    board.policy(person("anna"))
    board.incident(last_event=T0 - 2 * 86_400 * SECOND)
    board.incident(pending=True)
    assert board.turn() == []
    assert "more than a day before" in board.decided()[0]


def test_a_person_is_reached_by_several_methods_in_turn_and_without_any_it_is_said(board: Switchboard) -> None:
    contacts = [
        {"name": "mail", "uses": "anna.send"},
        {"name": "call", "uses": "ben.put", "ask": {"body": "{incident} {url}"}, "after_s": 60},
    ]
    board.save("person", "anna", contacts=contacts)
    board.save("person", "cleo", contacts=[])
    board.policy({"targets": [{"kind": "person", "name": "anna"}, {"kind": "person", "name": "cleo"}]})
    number = board.incident()
    assert board.turn() == ["anna"]
    assert ("failed", "cleo (named by the policy) could not be paged: no contact method is known") in board.told()
    assert board.turn(60) == ["anna", "ben"]
    board.incident("acknowledged", number, status="acknowledged")
    board.incident()
    board.turn()
    board.incident("acknowledged", 2, status="acknowledged")
    assert board.turn(60) == ["anna", "ben", "anna"], "the second method is not needed any more"
    board.pagers["anna"].trouble = "no"
    board.incident()
    board.turn()
    assert board.turn() == ["anna", "ben", "anna", "ben"], "what failed is made up for by the second at once"


def test_what_cannot_work_is_refused_when_it_is_arranged(board: Switchboard) -> None:
    with pytest.raises(Refused, match="dangerous"):
        board.save("person", "anna", contacts=[{"name": "x", "uses": "anna.blow"}])
    with pytest.raises(Refused, match="no action"):
        board.save("person", "anna", contacts=[{"name": "x", "uses": "anna.sing"}])
    with pytest.raises(Refused, match="do not fit"):
        board.save("person", "anna", contacts=[{"name": "x", "uses": "anna.send", "ask": {"boddy": "x"}}])
    with pytest.raises(BadData, match="nobody is named dora"):
        board.policy(person("dora"))
    with pytest.raises(BadData, match="no schedule"):
        board.save("team", "a", schedules=["none"])


def test_a_test_page_says_that_it_is_one(board: Switchboard) -> None:
    (page,) = board.room.paging.test("anna", "", "admin")
    assert board.turn() == ["anna"]
    assert "Test page" in (board.folder / "reached.log").read_text()
    with pytest.raises(Conflict, match="delivered"):
        board.room.paging.again(page, "admin")


def test_a_restart_goes_on_where_it_was(board: Switchboard) -> None:
    board.policy(person("anna"), person("ben", 300))
    board.incident()
    board.turn()
    board.restart()
    assert board.turn(299) == ["anna"]
    board.incident()  # while nobody looks
    board.restart()
    assert board.turn(1) == ["anna", "ben", "anna"]


def test_a_kill_in_the_middle_of_a_page_neither_loses_nor_doubles_it(board: Switchboard) -> None:
    board.policy(person("anna"), person("ben", 3600))
    board.incident()
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("paging_worker.py")), str(board.folder)])
    deadline = time.monotonic() + 60
    while board.reached() != ["anna"]:
        assert time.monotonic() < deadline, "the worker paged nobody"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert board.pages() == [("anna", "sending")]
    board.turn(46)
    board.turn()
    assert board.reached().count("anna") == 1
    assert board.pages()[0] == ("anna", "unknown")
    assert "ben" in board.reached(), "what may be lost goes on to the next at once"


def test_a_page_that_may_be_repeated_is_sent_again_when_its_sender_died(board: Switchboard) -> None:
    board.save("person", "anna", contacts=[{"name": "pager", "uses": "anna.put"}])
    board.policy(person("anna"), person("ben", 3600))
    board.incident()
    (job,) = board.room.turn()  # marked, and then nobody sends it
    board.restart()
    assert board.turn(44) == []
    assert board.turn(2) == ["anna"]
    asyncio.run(board.room.paging.send(job))  # the sender was not dead but slow
    assert board.pages() == [("anna", "delivered")]
    assert [kind for kind, _ in board.told()] == ["paged"]
