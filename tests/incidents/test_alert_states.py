"""The states of alerts: what rules ask of them, in whatever order and however cut their events come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from room import T0, Room, event
from sqlalchemy import select
from starlette.testclient import TestClient

from ninefold.config import AlertRule, HeartbeatConfig
from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import Conflict, Refused
from ninefold.incidents import alerts
from ninefold.incidents.condition import Condition, Limits, Telling, Turn
from ninefold.incidents.mutes import Wish
from ninefold.model.matcher import Matcher
from ninefold.store.records.access import Tokens, create_token
from ninefold.store.records.alerts import Heartbeat
from ninefold.store.records.base import Audit, Outbox
from ninefold.store.records.incidents import AlertState
from ninefold.web import problems
from ninefold.web.api import alerts as api

ALL = ["kind=alert"]


def asked(tmp_path: Path, **rule: Any) -> Room:
    return Room(tmp_path, alerts={"rules": {"one": {"matchers": ALL, **rule}}}, min_alerts=1)


def tell(room: Room, at_s: float, status: str = "firing", received_s: float | None = None, **more: Any) -> None:
    room.feed(event(at_s, status=status, **more), received_s=at_s if received_s is None else received_s)


def state(room: Room) -> tuple[str, float]:
    with room.records.reading() as session:
        (one,) = session.scalars(select(AlertState))
        return one.state, (one.since - T0) / SECOND


def why(room: Room) -> str:
    with room.records.reading() as session:
        one = session.scalars(select(AlertState)).one()
        return "\n".join(each["text"] for each in alerts.whole(session, one.fingerprint)["why"])


def test_without_rules_an_alert_is_what_its_sender_says(room: Room) -> None:
    tell(room, 0)
    assert state(room) == ("firing", 0)
    tell(room, 30)
    assert state(room) == ("firing", 0)
    tell(room, 60, "resolved")
    assert state(room) == ("resolved", 60)
    with room.records.reading() as session:
        assert session.scalars(select(AlertState.memory)).all() == [None]


def test_an_alert_nobody_tells_of_for_hours_is_expired_and_comes_back_when_it_is_told(room: Room) -> None:
    tell(room, 0)
    room.tick(4.9 * 3600)
    assert state(room) == ("firing", 0)
    room.tick(5 * 3600 + 1)
    assert state(room) == ("expired", 5 * 3600 + 1)
    assert "nobody said that it ended" in why(room)
    tell(room, 0, received_s=6 * 3600)
    assert state(room) == ("firing", 6 * 3600)


def test_an_alert_is_pending_until_it_has_held(tmp_path: Path) -> None:
    room = asked(tmp_path, for_s=60)
    tell(room, 0)
    tell(room, 20)
    room.tick(59)
    assert state(room) == ("pending", 0)
    assert not room.list()
    room.tick(61)
    assert state(room) == ("firing", 60)
    assert [incident["status"] for incident in room.list()] == ["open"]
    tell(room, 100, "resolved")
    assert state(room) == ("resolved", 100)
    room.tick(500)
    assert [incident["status"] for incident in room.list()] == ["resolved"]


def test_one_that_ends_before_never_counts_and_says_why(tmp_path: Path) -> None:
    room = asked(tmp_path, for_s=60)
    tell(room, 0)
    tell(room, 30, "resolved")
    room.tick(100)
    assert state(room) == ("resolved", 30)
    assert not room.list()
    assert "it ended after 30 s; it would have counted when it has held for 60 s, says the rule one" in why(room)


def test_an_end_counts_once_it_has_lasted(tmp_path: Path) -> None:
    room = asked(tmp_path, keep_firing_for_s=60)
    tell(room, 0)
    tell(room, 10, "resolved")
    room.tick(50)
    tell(room, 60)
    room.tick(120)
    assert state(room) == ("firing", 0)
    tell(room, 130, "resolved")
    room.tick(191)
    assert state(room) == ("resolved", 190)
    (incident,) = room.list()
    assert incident["alerts"] == 2


def test_an_alert_is_pending_until_it_was_told_often_enough(tmp_path: Path) -> None:
    room = asked(tmp_path, samples=3, samples_within_s=100)
    tell(room, 0)
    tell(room, 0, received_s=60)
    tell(room, 0, received_s=140)
    assert state(room) == ("pending", 0)
    tell(room, 0, received_s=150)
    assert state(room) == ("firing", 150)
    assert len(room.list()) == 1


def test_a_flapping_alert_is_told_once(tmp_path: Path) -> None:
    room = asked(tmp_path, flapping=4, flapping_within_s=600)
    for turn in range(40):
        tell(room, turn * 60, "resolved" if turn % 2 else "firing")
    assert state(room) == ("firing", 240)
    assert "flapping: it changed more than 4 times within 600 s" in why(room)
    (incident,) = room.list()
    assert incident["alerts"] == 3
    room.tick(39 * 60 + 599)
    assert state(room)[0] == "firing"
    room.tick(39 * 60 + 601)
    assert state(room) == ("resolved", 39 * 60 + 600)
    assert "calm" in why(room)


def test_a_rule_says_when_silence_is_the_end(tmp_path: Path) -> None:
    room = asked(tmp_path, expire_after_s=300)
    tell(room, 0)
    tell(room, 0, received_s=200)
    room.tick(499)
    assert state(room) == ("firing", 0)
    room.tick(501)
    assert state(room) == ("expired", 500)
    room.tick(1000)
    assert [incident["status"] for incident in room.list()] == ["resolved"]
    tell(room, 0, received_s=1100)
    assert state(room) == ("firing", 1100)
    assert sorted(incident["status"] for incident in room.list()) == ["open", "resolved"]


def test_what_is_remembered_outlasts_a_restart_and_is_forgotten_when_nothing_can_come_of_it(tmp_path: Path) -> None:
    room = asked(tmp_path, for_s=60)
    tell(room, 0)
    room.restart()
    room.tick(61)
    assert state(room) == ("firing", 60)
    tell(room, 90, "resolved")
    room.restart()
    room.tick(2000)
    with room.records.reading() as session:
        one = session.scalars(select(AlertState)).one()
        assert (one.state, one.memory, one.due) == ("resolved", None, None)


def test_one_that_is_pending_again_keeps_no_incident_open(tmp_path: Path) -> None:
    room = asked(tmp_path, for_s=600)
    tell(room, 0)
    room.tick(601)
    tell(room, 700, "resolved")
    tell(room, 800)
    assert state(room) == ("pending", 800)
    room.restart()
    room.tick(1300)
    assert [incident["status"] for incident in room.list()] == ["resolved"]
    assert state(room) == ("pending", 800)


def test_any_event_can_be_a_heartbeat(tmp_path: Path) -> None:
    room = Room(tmp_path, alerts={"heartbeats": {"backup": {"matchers": ["job=backup"], "every_s": 60}}})
    room.feed(event(0, kind="change", title="backup done", job="backup"), received_s=0)
    room.feed(event(50, kind="change", title="backup done", job="backup"), received_s=50)
    room.tick(109)
    assert not raised(room)
    room.tick(111)
    assert raised(room) == [("firing", 110)]


def test_a_failed_transaction_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = asked(tmp_path, samples=2)
    tell(room, 0)
    with monkeypatch.context() as broken:
        broken.setattr("ninefold.incidents.folding.write_watched", lambda *_: (_ for _ in ()).throw(RuntimeError))
        with pytest.raises(RuntimeError):
            tell(room, 10)
    assert state(room) == ("pending", 0)
    tell(room, 10)
    assert state(room) == ("firing", 10)


def test_a_rule_takes_over_an_alert_that_is_in_an_incident(room: Room) -> None:
    tell(room, 0, severity="critical")
    rules = room.incidents.states.rules
    rules.save("rule", "late", AlertRule(matchers=ALL, keep_firing_for_s=100), "ann", None)
    tell(room, 50, "resolved", severity="critical")
    assert state(room) == ("firing", 0)
    room.tick(151)
    assert state(room) == ("resolved", 150)


KEEP = Limits(hold=30 * SECOND, keep=20 * SECOND)
LIMITS = (
    Limits(hold=30 * SECOND),
    Limits(keep=20 * SECOND),
    KEEP,
    Limits(samples=3, samples_within=40 * SECOND),
    Limits(flapping=3, flapping_within=60 * SECOND),
    Limits(hold=10 * SECOND, keep=10 * SECOND, samples=2, flapping=3, flapping_within=50 * SECOND),
)


def course(told: Sequence[Telling], cuts: Sequence[int], limits: Limits, end: int) -> tuple[Condition, list[Turn]]:
    condition, turns, first = Condition(), [], 0
    for last in [*sorted(cuts), len(told)]:
        some = told[first:last]
        newest = max((telling.heard for telling in some), default=0)
        turns += condition.tell(some, newest, limits).turns
        condition = Condition.recall(condition.memory)
        first = last
    turns += condition.tell([], end, limits).turns
    return condition, turns


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(LIMITS))
def test_the_order_of_events_and_how_they_are_cut_changes_nothing(data: st.DataObject, limits: Limits) -> None:
    steps = data.draw(st.lists(st.tuples(st.integers(1, 25), st.booleans()), min_size=1, max_size=20))
    time, ordered = 1000, []
    for number, (gap, ends) in enumerate(steps):
        time += gap
        ordered.append(Telling(time * SECOND, ends, f"e{number:02}", again=False, heard=time * SECOND))
    ordered = [telling for telling in ordered if telling.time > ordered[-1].time - 300 * SECOND]
    end = ordered[-1].time + 500 * SECOND
    expected, turns = course(ordered, (), limits, end)
    cut, again = course(ordered, data.draw(st.lists(st.integers(0, len(ordered)))), limits, end)
    assert (cut.course, again) == (expected.course, turns)
    shuffled = data.draw(st.permutations(ordered))
    other, _ = course(shuffled, data.draw(st.lists(st.integers(0, len(ordered)))), limits, end)
    assert (other.course.state, other.course.since, other.turned) == (expected.course.state, expected.course.since, expected.turned)


@pytest.mark.parametrize("seed", [1, 2])
def test_shuffled_events_leave_the_same_states_and_incidents(tmp_path: Path, seed: int) -> None:
    random, found = Random(seed), []
    steps = [(at, f"service:s{random.randrange(4)}", random.choice(("firing", "resolved"))) for at in range(0, 200, 5)]
    for name in ("ordered", "shuffled"):
        room = asked(tmp_path / name, for_s=15, keep_firing_for_s=10)
        rows = [event(at, entity, status=status) for at, entity, status in steps]
        if name == "shuffled":
            random.shuffle(rows)
        for first in range(0, len(rows), 7):
            room.feed(*rows[first : first + 7], received_s=200)
        room.tick(1000)
        with room.records.reading() as session:
            states = {one.entity: (one.state, one.since) for one in session.scalars(select(AlertState))}
        found.append((states, sorted((incident["entity"], incident["status"]) for incident in room.list())))
    assert found[0][0] == found[1][0]
    assert {entity for entity, _ in found[0][1]} == {entity for entity, _ in found[1][1]}
    assert {status for _, status in found[1][1]} <= {"resolved"} or any(state == "firing" for state, _ in found[0][0].values())


def test_a_heartbeat_that_stays_away_raises_an_alert_which_ends_when_it_is_heard(tmp_path: Path) -> None:
    beat = {"matchers": ["alertname=Watchdog"], "every_s": 60, "grace_s": 10, "entity": "service:prometheus"}
    room = Room(tmp_path, alerts={"heartbeats": {"prometheus": beat}})
    watchdog = event(0, title="Watchdog", alertname="Watchdog")
    for at in (0, 60, 120):
        room.feed(watchdog, received_s=at)
    room.tick(189)
    assert not raised(room)
    room.tick(191)
    room.tick(300)
    assert raised(room) == [("firing", 190)]
    room.feed(watchdog, received_s=310)
    assert raised(room) == [("firing", 190), ("resolved", 310)]
    room.tick(381)
    assert raised(room)[2:] == [("firing", 380)]
    assert not room.list()
    with room.records.reading() as session:
        assert not session.scalars(select(AlertState)).all()


def test_what_would_have_come_while_the_program_was_down_is_not_late(tmp_path: Path) -> None:
    room = Room(tmp_path, alerts={"heartbeats": {"one": {"matchers": ["alertname=Watchdog"], "every_s": 60}}})
    room.feed(event(0, title="Watchdog", alertname="Watchdog"), received_s=0)
    room.restart()
    room.feed(event(1), received_s=1000)
    room.tick(1059)
    assert not raised(room)
    room.tick(1061)
    assert raised(room) == [("firing", 1060)]


def test_starting_again_and_again_hides_no_heartbeat_that_stays_away(tmp_path: Path) -> None:
    room = Room(tmp_path, alerts={"heartbeats": {"backup": {"matchers": ["alertname=Backup"], "every_s": 86_400}}})
    room.feed(event(0, title="Backup", alertname="Backup"), received_s=0)
    for hour in (20, 40, 60):
        room.restart()
        room.feed(event(hour, title=f"other {hour}"), received_s=3600 * hour)
        room.tick(3600 * hour + 301)
    assert raised(room) == [("firing", 40 * 3600 + 300)]


def test_a_heartbeat_that_is_waited_for_no_longer_is_late_no_more(room: Room) -> None:
    rules = room.incidents.states.rules
    rules.save("heartbeat", "one", HeartbeatConfig(matchers=["alertname=Watchdog"], every_s=60, entity="host:a"), "ann", None)
    room.tick(1)
    room.tick(100)
    rules.remove("heartbeat", "one", "ann")
    room.tick(200)
    with room.records.reading() as session:
        told = session.scalars(select(Outbox).where(Outbox.topic == "heartbeat").order_by(Outbox.id)).all()
        assert not session.scalars(select(Heartbeat)).all()
    assert [(row.kind, row.data["entity"], row.data["alertname"]) for row in told] == [
        ("firing", "host:a", "heartbeat one"), ("resolved", "host:a", "heartbeat one"),
    ]  # fmt: skip


def raised(room: Room) -> list[tuple[str, float]]:
    with room.records.reading() as session:
        rows = session.scalars(select(Outbox).where(Outbox.topic == "heartbeat").order_by(Outbox.id))
        return [(row.kind, (row.time - T0) / SECOND) for row in rows]


def test_rules_are_saved_with_what_was_before_and_those_of_the_configuration_stay(tmp_path: Path) -> None:
    room = asked(tmp_path, for_s=60)
    rules = room.incidents.states.rules
    saved = rules.save("rule", "mine", AlertRule(matchers=["service=cart"], for_s=10), "ann", None)
    rules.save("rule", "mine", AlertRule(matchers=["service=cart"], for_s=20), "bob", saved["version"])
    with pytest.raises(Conflict):
        rules.save("rule", "mine", AlertRule(matchers=["service=cart"], for_s=30), "cid", saved["version"] - 1)
    with pytest.raises(Refused):
        rules.remove("rule", "one", "ann")
    rules.remove("rule", "mine", "ann")
    with room.records.reading() as session:
        rows = [(row.action, row.detail["before"], row.detail["after"]) for row in session.scalars(select(Audit).order_by(Audit.id))]
    old, new = ({"matchers": ["service=cart"], "for_s": seconds} for seconds in (10.0, 20.0))
    assert rows == [("alert rule made", None, old), ("alert rule changed", old, new), ("alert rule removed", new, None)]


def test_a_mute_hides_what_was_pending_and_the_state_says_so(tmp_path: Path) -> None:
    room = asked(tmp_path, for_s=60)
    tell(room, 0)
    mutes = room.incidents.mutes
    wish = Wish(matchers=[Matcher("kind", "=", "alert")], starts=T0, ends=T0 + 3000 * SECOND, owner="ann", reason="known")
    mutes.create(wish, "ann")
    room.tick(61)
    assert state(room)[0] == "suppressed"
    tell(room, 70)
    assert state(room)[0] == "suppressed"
    assert not room.list()
    for at in range(100, 3000, 250):
        tell(room, at)
    room.tick(3001)
    assert state(room)[0] == "firing"
    assert len(room.list()) == 1


def test_an_alert_is_acknowledged_with_its_incident_and_a_new_one_of_it_is_not(room: Room) -> None:
    tell(room, 0, severity="critical")
    with room.records.reading() as session:
        assert alerts.page(session, "acknowledged", "", 10, 0)["items"] == []
    room.incidents.acknowledge("INC-1", "ann")
    room.feed(event((now() - T0) / SECOND + 10, title="another", severity="critical"), received_s=(now() - T0) / SECOND)
    with room.records.reading() as session:
        page = alerts.page(session, "acknowledged", "", 10, 0)
        firing = alerts.page(session, "firing", "", 10, 0)
    assert [(one["title"], one["state"]) for one in page["items"]] == [("slow", "acknowledged")]
    assert [(one["title"], one["state"]) for one in firing["items"]] == [("another", "firing")]
    assert (page["counts"]["firing"], page["counts"]["acknowledged"], page["counts"]["all"]) == (1, 1, 2)
    room.incidents.resolve("INC-1", "ann")
    room.incidents.reopen("INC-1", "ann")
    with room.records.reading() as session:
        assert alerts.page(session, "all", "slow", 10, 0)["items"][0]["state"] == "firing"


def test_rules_over_the_api(room: Room) -> None:
    with room.records.session() as session:
        tokens = {role: create_token(session, role, role) for role in ("viewer", "operator")}
    app = FastAPI()
    app.state.ninefold = SimpleNamespace(records=room.records, tokens=Tokens(room.records), incidents=room.incidents)
    problems.install(app)
    app.include_router(api.router, prefix="/api/v1")
    client = TestClient(app)

    def ask(method: str, path: str, role: str, body: Any = None) -> Any:
        return client.request(method, f"/api/v1/alerts/{path}", json=body, headers={"Authorization": f"Bearer {tokens[role]}"})

    rule = {"matchers": ["service=cart"], "for_s": 60}
    assert ask("PUT", "rules/slow", "viewer", rule).status_code == 403
    assert ask("PUT", "rules/slow", "operator", rule | {"matchers": ["x!=y"]}).status_code == 422
    assert ask("PUT", "rules/slow", "operator", rule).json()["version"] == 1
    assert ask("PUT", "rules/slow", "operator", rule | {"version": 0}).status_code == 409
    assert ask("GET", "rules", "viewer").json()["items"] == [
        {"name": "slow", "origin": "saved", "author": "operator", "version": 1, **rule}
    ]
    beat = {"matchers": ["alertname=Watchdog"], "every_s": 60}
    assert ask("PUT", "heartbeats/dog", "operator", beat).status_code == 200
    room.feed(event(0, title="Watchdog", alertname="Watchdog"), received_s=0)
    (shown,) = ask("GET", "heartbeats", "viewer").json()["items"]
    assert (shown["name"], shown["state"], shown["beats"]) == ("dog", "beating", 1)
    assert ask("DELETE", "rules/slow", "operator").status_code == 200
    assert ask("DELETE", "rules/slow", "operator").status_code == 404
    assert ask("GET", "?state=pending", "viewer").json()["items"] == []
