"""Verdicts on incidents move what rules, pairs and evidence are worth: logged, bounded, taken back exactly, the same in a replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from room import T0, Room, event
from sqlalchemy import select

from ninefold.analytics.alerts.affinity import taught_key
from ninefold.analytics.alerts.evidence import LOGS, METRICS
from ninefold.analytics.alerts.invocations import SPANS
from ninefold.analytics.alerts.rootcause import Changed, rank
from ninefold.analytics.metrics.moves import Move
from ninefold.ground.clock import SECOND
from ninefold.ground.errors import NotFound, Refused
from ninefold.incidents import teaching
from ninefold.incidents.regroup import KIND, Wish
from ninefold.incidents.teaching import LEAN, contrast
from ninefold.sources.own import _event
from ninefold.store.records.base import Outbox
from ninefold.store.records.incidents import Incident

seen: dict[int, int] = {}


def own(room: Room) -> None:
    """Ninefold's own events since the last time come back through the front door."""
    with room.records.reading() as session:
        changes = session.scalars(select(Outbox).where(Outbox.id > seen.get(id(room), 0)).order_by(Outbox.id)).all()
    if changes:
        seen[id(room)] = changes[-1].id
        room.feed(*(_event(change) for change in changes), source="ninefold")


def say(room: Room, number: int, verdict: str, entity: str = "") -> None:
    room.incidents.verdict(f"INC-{number}", "ann", verdict, entity=entity)
    own(room)


def log(room: Room) -> list[Move]:
    with room.records.reading() as session:
        return room.incidents.teaching.log(session).log


def alone(room: Room, number: int, severity: str = "high") -> dict[str, Any]:
    """An incident of two alerts of the rules CPU and Disk, in a component of its own; returns it."""
    at, entity = 1000.0 * number, f"service:s{number}"
    pair = [event(at + i, entity, rule, severity=severity, rule=rule) for i, rule in enumerate(("CPU", "Disk"))]
    room.feed(*pair)
    return next(one for one in room.list() if one["id"] == f"INC-{number}")


def test_noise_lowers_the_severity_of_what_only_such_rules_open(room: Room) -> None:
    assert alone(room, 1)["severity"] == "high"
    say(room, 1, "noise")
    assert alone(room, 2)["severity"] == "high", "one word is not enough"
    say(room, 2, "noise")
    assert alone(room, 3)["severity"] == "warning"
    assert any(item["step"] == "lesson" and "high" in item["text"] for item in room.why("INC-3"))
    assert alone(room, 4, "critical")["severity"] == "critical", "what is critical stays so"
    room.feed(event(5000, "service:s5", "CPU", severity="high", rule="CPU"), event(5001, "service:s5", "other", severity="high"))
    assert room.list("all")[0]["severity"] == "high" or next(o for o in room.list() if o["id"] == "INC-5")["severity"] == "high"
    room.restart()
    assert alone(room, 6)["severity"] == "warning", "it is kept"
    (last,) = {move.fingerprint for move in log(room) if move.fingerprint.startswith("INC-2")}
    for move in [move for move in log(room) if move.fingerprint == last]:
        undo(room, move.id)
    assert alone(room, 7)["severity"] == "high", "taken back"


def undo(room: Room, number: int) -> None:
    said = {"detection": "lesson", "move": str(number), "actor": "ann"}
    room.feed({"id": f"undo {number}", "time": T0, "kind": "setting", "attributes": said}, source="ninefold.console")


def test_the_newest_word_on_an_incident_counts_and_repeats_do_not(room: Room) -> None:
    alone(room, 1)
    for _ in range(5):
        say(room, 1, "noise")
    noisy = [move for move in log(room) if move.target == "CPU" and not move.undone]
    assert [move.step for move in noisy] == [0.25]
    say(room, 1, "useful")
    assert [move.step for move in log(room) if move.target == "CPU" and not move.undone] == [-0.15]
    assert all(move.actor == "ann" for move in log(room))


def test_what_becomes_of_incidents_by_itself_steps_less(room: Room) -> None:
    alone(room, 1)
    alone(room, 2)
    room.incidents.acknowledge("INC-2", "ann")
    ends = [event(2100 + n, f"service:s{n}", rule, status="resolved", rule=rule) for n in (1, 2) for rule in ("CPU", "Disk")]
    room.feed(*ends)
    room.tick(9000)
    own(room)
    steps = {(move.fingerprint, move.step, move.followed) for move in log(room)}
    assert steps == {("INC-1 outcome", 0.03, True), ("INC-2 outcome", -0.03, True)}


def test_merging_and_splitting_teach_what_belongs_together(room: Room) -> None:
    room.feed(event(0, "service:a", "x", severity="critical", rule="CPU"), event(5, "service:b", "y", severity="critical", rule="Disk"))
    wish = Wish("merge", "ann", "INC-1", ("INC-2",))
    row = {"id": "m", "time": T0 + 10 * SECOND, "kind": KIND, "attributes": wish.attributes()}
    room.feed(row, source="ninefold.console")
    assert taught(room) == {taught_key(("service:b", "Disk"), ("service:a", "CPU")): pytest.approx(1.284, abs=0.001)}
    room.restart()
    assert taught(room) == {taught_key(("service:b", "Disk"), ("service:a", "CPU")): pytest.approx(1.284, abs=0.001)}
    room.feed(row, source="ninefold.console")
    assert len(log(room)) == 1, "again is the same as once"
    back = Wish("undo", "ann", number=1)
    room.feed({**row, "id": "u", "attributes": back.attributes()}, source="ninefold.console")
    assert taught(room) == {}
    assert log(room)[0].undone


def taught(room: Room) -> Mapping[Any, float]:
    return room.incidents._ready().affinity.taught


def candidate(entity: str, **weights: float) -> dict[str, Any]:
    return {"entity": entity, "evidence": [{"kind": kind, "weight": weight} for kind, weight in weights.items()]}


def test_a_wrong_cause_moves_the_evidence_that_misled_and_never_far(room: Room) -> None:
    for number in range(1, 14):
        alone(room, number)
        with room.records.session() as session:
            listed = [candidate("pod:a", metric=2.0, alert=0.2), candidate("service:b", change=1.2, metric=0.5, alert=0.2)]
            session.get_one(Incident, number).analysis = {"candidates": listed}
        say(room, number, "wrong_cause", "service:b")
    priors = room.incidents.teaching.priors()
    assert priors == {"metric": 1 / LEAN, "on pod": 1 / LEAN, "change": LEAN, "on service": LEAN}, "what was the same for both stays"
    with pytest.raises(Refused):
        room.incidents.verdict("INC-1", "ann", "noise", entity="service:b")


def test_a_right_answer_teaches_nothing_of_evidence() -> None:
    listed = [candidate("a", metric=1.0), candidate("b", log=1.0)]
    assert contrast(listed, "a") == contrast(listed, "elsewhere") == {}


def test_priors_change_who_comes_first() -> None:
    empty = METRICS.empty_table(), SPANS.empty_table(), LOGS.empty_table()
    asked = {"changes": [Changed("service:a", 300.0, "deploy", T0)], "alerts": {"pod:b": 60.0}}
    first = [rank(*empty, **asked, priors=priors).candidates[0].entity for priors in (None, {"on pod": 1.25, "change": 0.8})]
    assert first == ["service:a", "pod:b"]


def test_only_ninefold_itself_is_believed(room: Room) -> None:
    alone(room, 1)
    said = {"ninefold.incident": "INC-1", "feedback": "noise", "rules": "CPU"}
    room.feed({"id": "x", "time": T0, "kind": "incident", "status": "verdict", "attributes": said}, source="webhook")
    assert log(room) == []


def test_what_was_learned_is_listed_with_its_way_back(room: Room) -> None:
    alone(room, 1)
    say(room, 1, "noise")
    with room.records.reading() as session:
        listed = teaching.listed(session, 10)
    assert [(one["target"], one["why"], one["actor"], one["before"], one["after"]) for one in listed] == [
        (rule, "INC-1: noise", "ann", 1.0, 1.284) for rule in ("Disk", "CPU")
    ]
    undo(room, listed[0]["id"])
    with room.records.reading() as session:
        assert [one["undone"] for one in teaching.listed(session, 10)] == [True, False]
        with pytest.raises(NotFound):
            teaching.one(session, listed[0]["id"])
