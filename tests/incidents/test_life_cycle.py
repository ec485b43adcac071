"""The life of incidents: opened, shown, fed, merged, resolved, handled by people; exactly once whatever is repeated or breaks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from room import T0, Room, event
from sqlalchemy import select

from ninefold.ground.clock import SECOND, iso
from ninefold.ground.errors import Conflict, NotFound, Refused
from ninefold.incidents import folding
from ninefold.model.signal import Batch, batch_of
from ninefold.normalise import Normaliser
from ninefold.store.records.base import Audit, Outbox, Position
from ninefold.store.records.incidents import AlertState, Incident, Ticket
from ninefold.store.records.workflows import Approval, Run


def test_two_alerts_of_one_component_become_one_shown_incident(room: Room) -> None:
    room.chain("web", "cart", "db")
    room.feed(event(0, "service:cart", "cart is slow"))
    assert room.list() == [], "one alert below critical is kept and not shown"
    assert room.told() == []
    room.feed(event(20, "service:db", "db has no connections left", severity="high"))
    (incident,) = room.list("open")
    assert incident | {"version": 0} == {
        "id": "INC-1", "title": "db has no connections left", "status": "open", "severity": "high", "entity": "service:cart",
        "alerts": 2, "entities": 2, "opened": iso(T0), "acknowledged": None, "resolved": None, "last_event": iso(T0 + 20 * SECOND),
        "owner": "", "teams": [], "mitigated": None, "confidence": None, "cause": None, "needs": "acknowledge", "truth": None,
        "feedback": "", "version": 0, "merged_into": None,
    }  # fmt: skip
    room.feed(event(30, "service:web", "web is slow"), event(31, "service:web", "web fails"))
    assert room.told() == [("INC-1", "opened"), ("INC-1", "updated")], "one change a call, not one an alert"


def test_one_critical_alert_is_shown_at_once(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    assert [incident["id"] for incident in room.list()] == ["INC-1"]


def test_the_story_and_the_reasons_are_written_down(room: Room) -> None:
    room.chain("web", "cart")
    room.feed(event(0, "service:cart", "cart is slow", **{"ninefold.normaliser": "1 alertmanager", "ninefold.fingerprint": "sender"}))
    room.feed(event(20, "service:web", "web is slow"), event(25, "service:cart", "cart is slow"))
    room.feed(event(40, "service:cart", "cart is slow", status="resolved"))
    lines = [(line["kind"], line["title"]) for line in room.timeline("INC-1")]
    assert lines == [
        ("alert", "cart is slow"), ("opened", "INC-1 opened: cart is slow"), ("alert", "web is slow"), ("alert resolved", "cart is slow"),
    ]  # fmt: skip
    steps = [(item["step"], item["text"]) for item in room.why("INC-1")]
    assert steps[0] == ("normalise", "cart is slow: read by normaliser 1 as alertmanager; it is about service:cart")
    assert steps[1][1].endswith("is given by the sender")
    assert ("correlate", "opened INC-1: nothing else is open in this component") in steps
    joined = "joined INC-1: 20 s after its last alert +0.91, 1 hop from service:cart +0.6, its text is like the first alert's +0.1"
    assert ("correlate", joined) in steps
    assert ("dedup", "duplicate: the same alert, seen 2 times") in steps
    assert ("dedup", "resolved: the alert ended") in steps
    joined = next(item for item in room.why("INC-1") if item["text"].startswith("joined"))
    assert joined["detail"]["groups"][0]["incident"] == "INC-1"
    assert joined["detail"]["groups"][0]["score"] == pytest.approx(1.61, abs=0.01)


def test_an_incident_resolves_when_its_alerts_ended_and_it_was_quiet(room: Room) -> None:
    room.feed(event(0), event(1, title="other"), event(60, status="resolved"))
    room.tick(390)
    assert [i["status"] for i in room.list()] == ["open"], "one alert still fires"
    room.feed(event(100, title="other", status="resolved"))
    room.tick(399)
    assert [i["status"] for i in room.list()] == ["open"]
    room.tick(401)
    (incident,) = room.list()
    assert (incident["status"], incident["resolved"]) == ("resolved", iso(T0 + 100 * SECOND))
    assert room.told()[-1] == ("INC-1", "resolved")
    room.feed(event(405), event(406, title="other"))
    assert [i["id"] for i in room.list("open")] == ["INC-2"], "a resolved incident takes nothing in"


HOUR = 3600


def test_an_alert_that_is_told_again_and_again_goes_on(room: Room) -> None:
    firing = event(0, severity="critical")
    for minute in range(0, 8 * 60, 10):
        room.feed(firing, received_s=minute * 60)
    before = room.sizes()
    room.feed(firing, received_s=8 * HOUR)
    assert room.sizes() == before, "that it still fires is nothing to write down again"
    room.restart()
    room.tick(12 * HOUR)
    assert [i["status"] for i in room.list()] == ["open"], "the last repeat was four hours ago"
    room.tick(13 * HOUR)
    assert [i["status"] for i in room.list()] == ["resolved"], "nothing for five hours: its end must have been lost"
    room.feed(firing, received_s=14 * HOUR)
    room.tick(15 * HOUR)
    assert [i["status"] for i in room.list()] == ["open"], "it was the sender that had been silent"
    assert room.told()[-1] == ("INC-1", "reopened")
    room.incidents.resolve("INC-1", "ann")
    room.feed(firing, received_s=15 * HOUR)
    assert [i["status"] for i in room.list()] == ["resolved"], "what a person resolved stays so until the alert fires anew"


def test_an_alert_that_fired_for_hours_before_it_was_first_told_is_open(room: Room) -> None:
    room.feed(event(0, severity="critical"), received_s=6 * HOUR)
    room.tick(6 * HOUR + 2)
    assert [i["status"] for i in room.list()] == ["open"]
    room.feed(event(6 * HOUR + 60, severity="critical", status="resolved"), received_s=6 * HOUR + 60)
    room.tick(7 * HOUR)
    assert [i["status"] for i in room.list()] == ["resolved"]


def test_an_anomaly_of_long_ago_is_over_however_late_it_was_found(room: Room) -> None:
    room.feed(event(0, kind="anomaly", severity="critical"), received_s=6 * HOUR)
    room.tick(6 * HOUR)
    assert [i["status"] for i in room.list()] == ["resolved"], "anomalies are told once: receipt says nothing about how long they last"


def test_what_a_person_reopened_stays_open(room: Room) -> None:
    room.feed(event(0, severity="critical"), event(60, severity="critical", status="resolved"))
    room.tick(400)
    room.incidents.reopen("INC-1", "ann")
    room.tick(460)
    room.restart()
    room.tick(1000)
    assert [i["status"] for i in room.list()] == ["open"]
    assert [kind for _, kind in room.told()][-1] == "reopened"
    room.incidents.resolve("INC-1", "ann")
    room.restart()
    room.incidents.reopen("INC-1", "ann")
    room.feed(event(1010, severity="critical"), event(1020, severity="critical", status="resolved"))
    room.restart()
    room.tick(1330)
    assert [(i["id"], i["status"]) for i in room.list()] == [("INC-1", "resolved")], "something fired and ended since"


def test_a_watermark_ahead_of_unread_alerts_resolves_nothing(room: Room) -> None:
    room.feed(event(0, severity="critical"), event(10, severity="critical", status="resolved"), received_s=20)
    room.incidents.tick(T0 + 10_000 * SECOND)
    assert [i["status"] for i in room.list()] == ["open"], "alerts received after the last one read may still be in the journal"
    room.incidents.tick(T0 + 10_000 * SECOND)
    assert [i["status"] for i in room.list()] == ["resolved"]


def test_delivery_again_changes_nothing(room: Room) -> None:
    room.chain("web", "cart")
    rows = [event(0), event(5, "service:web", "down", severity="critical"), event(9, status="resolved")]
    batches = room.feed(*rows)
    before = room.sizes()
    room.incidents.consume(batches, room.position)
    assert room.sizes() == before, "the same position again"
    room.feed(*rows)
    assert room.sizes() == before, "the same events again, at a later position"
    with room.records.reading() as session:
        assert session.get_one(Position, "incidents").position == room.position
        assert {s.title: s.count for s in session.scalars(select(AlertState))} == {"slow": 2, "down": 1}


def test_a_crash_in_the_middle_leaves_nothing_and_is_made_good(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.feed(event(0))
    before = room.sizes()

    def breaks(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(folding, "write_alerts", breaks)
        with pytest.raises(OSError, match="disk full"):
            room.feed(event(5, title="other"))
    assert room.sizes() == before
    room.position -= 1
    room.feed(event(5, title="other"))
    assert [(i["id"], i["alerts"]) for i in room.list()] == [("INC-1", 2)]


def test_a_restart_goes_on_where_it_was(room: Room) -> None:
    room.chain("web", "cart")
    room.feed(event(0), event(10, "service:web", "down"))
    room.restart()
    room.feed(event(30, "service:web", "worse"), event(31))
    assert [(i["id"], i["alerts"], i["entities"]) for i in room.list()] == [("INC-1", 4, 2)]
    room.feed(
        *(event(100, e, t, status="resolved") for e, t in (("service:cart", "slow"), ("service:web", "down"), ("service:web", "worse")))
    )
    room.restart()
    room.tick(500)
    assert [i["status"] for i in room.list()] == ["resolved"]


def test_a_late_alert_merges_what_it_joins(room: Room) -> None:
    room.feed(event(0), event(1, title="b"))
    room.feed(event(100, title="c"), event(101, title="d"))
    room.incidents.acknowledge("INC-2", "ann")
    room.feed(event(50, title="late"))
    (incident,) = room.list()
    assert (incident["id"], incident["alerts"], incident["status"], incident["owner"]) == ("INC-1", 5, "acknowledged", "ann")
    assert len(room.whole("INC-1")["events"]) == 5
    assert room.whole("INC-2")["merged_into"] == "INC-1"
    assert room.told()[-2:] == [("INC-1", "updated"), ("INC-2", "merged")]
    assert "INC-2 is part of INC-1: a late alert joined them" in [line["title"] for line in room.timeline("INC-1")]
    with pytest.raises(Refused, match="reopen that one"):
        room.incidents.reopen("INC-2", "ann")


def test_what_was_begun_for_a_merged_incident_goes_on_for_the_other(room: Room) -> None:
    room.feed(event(0), event(1, title="b"))
    room.feed(event(100, title="c"), event(101, title="d"))
    with room.records.session() as session:
        session.add(Ticket(system="rt", id="77", incident=2))
        session.add(Run(workflow="w", digest="d", key="w:1", incident=2, trigger="INC-2 opened", triggered=T0))
        session.add(Approval(run=1, step="", kind="run", workflow="w", incident=2, risk="write", role="operator", question="?"))
    room.feed(event(50, title="late"))
    with room.records.reading() as session:
        assert [session.scalars(select(record.incident)).all() for record in (Ticket, Run, Approval)] == [[1], [1], [1]]
        (merged,) = session.scalars(select(Outbox).where(Outbox.kind == "merged"))
        assert (merged.key, merged.data["merged_into"]) == ("INC-2", "INC-1")


@pytest.mark.parametrize("restart", [False, True])
def test_a_component_that_was_renamed_is_found_after_a_restart(room: Room, restart: bool) -> None:
    room.feed(event(0, severity="critical"))
    room.chain("aaa", "cart")
    with room.records.reading() as session:
        assert session.get_one(Incident, 1).component == room.incidents.topology().component("service:cart")
    if restart:
        with room.records.session() as session:
            session.get_one(Incident, 1).component = "service:cart"  # as an older version left it
        room.restart()
    room.feed(event(10, title="other", severity="critical"))
    assert [(i["id"], i["alerts"]) for i in room.list()] == [("INC-1", 2)]


def test_the_order_of_arrival_does_not_matter(tmp_path: Path) -> None:
    rows = [event(t, f"service:{'abc'[t % 3]}", f"rule {t % 7}") for t in range(0, 280, 3)]
    outcomes = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        room = Room(folder)
        room.chain("a", "b", "c")
        shuffled = list(rows)
        if seed:
            random.Random(seed).shuffle(shuffled)
        for i in range(0, len(shuffled), 5 + seed):
            room.feed(*shuffled[i : i + 5 + seed])
        outcomes.append([(i["alerts"], i["entities"], i["opened"], i["last_event"], i["title"], i["severity"]) for i in room.list()])
        with room.records.reading() as session:
            events = len(room.whole(room.list()[0]["id"])["events"])
            assert events == sum(incident.alerts for incident in session.scalars(select(Incident)))
        room.records.close()
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_alerts_that_name_no_entity_stay_alone(room: Room) -> None:
    room.feed(event(0, "", "a", severity="critical"), event(1, "", "b", severity="critical"))
    assert len(room.list()) == 2


def test_own_kinds_and_strangers_never_make_incidents(room: Room) -> None:
    room.feed(
        *(
            event(t, kind=kind, severity="critical")
            for t, kind in enumerate(("incident", "workflow", "approval", "ticket", "business", "drift"))
        )
    )
    assert room.sizes()["incident"] == 0


def test_changes_before_an_incident_stand_beside_it(room: Room) -> None:
    room.chain("web", "cart")
    room.feed(event(-4000, "service:cart", "too long ago", kind="deployment"), event(-600, "service:cart", "cart v2", kind="deployment"))
    room.feed(event(-60, "service:elsewhere", "other team", kind="change"))
    room.feed(event(0, "service:web"), event(1, "service:web", "b"))
    room.feed(event(-30, "service:web", "flag on", kind="change"), event(20, "service:web", "too late", kind="change"))
    assert [change["title"] for change in room.whole("INC-1")["changes"]] == ["cart v2", "flag on"]
    assert [line["title"] for line in room.timeline("INC-1")][:2] == ["cart v2", "flag on"]


@pytest.mark.parametrize("first", ["truth", "alerts"])
def test_the_truth_of_labelled_data_is_shown_whenever_it_comes(room: Room, first: str) -> None:
    room.chain("web", "cart")
    truth = event(-100, "service:cart", "cpu injected into cart", kind="truth", fault_type="cpu")
    alerts = [event(0, "service:web"), event(1, "service:web", "b")]
    for rows in ([truth], alerts) if first == "truth" else (alerts, [truth]):
        room.feed(*rows)
    room.feed(event(2000, "service:web", "c"), event(2001, "service:web", "d"))
    newest, labelled = room.list()
    assert labelled["truth"] == {"entity": "service:cart", "kind": "cpu", "text": "cpu injected into cart"}
    assert newest["truth"] is None


def test_tickets_and_results_come_back_to_the_timeline(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    with room.records.session() as session:
        session.add(Ticket(system="am", id="77", url="http://rt/77", incident=1))
    answered = event(50, "", "ann replied", kind="ticket", status="stalled") | {"source_id": "77"}
    step = event(60, "", "step restart succeeded", kind="workflow", **{"ninefold.incident": "INC-1", "actor": "ann"})
    room.feed(answered)
    room.feed(step, source="ninefold")
    room.feed(event(61, "", "INC-1 opened", kind="incident", **{"ninefold.incident": "INC-1"}), source="ninefold")
    room.feed(answered)
    titles = [line["title"] for line in room.timeline("INC-1")]
    assert titles == ["slow", "INC-1 opened: slow", "ann replied", "step restart succeeded"], "our own echo is not told twice"
    assert room.whole("INC-1")["tickets"] == [{"system": "am", "id": "77", "url": "http://rt/77", "status": "stalled", "owner": ""}]


@pytest.mark.parametrize("kind", ["approval", "workflow", "incident", "event", "ticket"])
def test_nobody_else_writes_into_an_incidents_story(room: Room, kind: str) -> None:
    room.feed(event(0, severity="critical"))
    forged = event(50, "", "approved by admin", kind=kind, **{"ninefold.incident": "INC-1", "actor": "admin"})
    room.feed(forged, source="ninefold-like")
    assert "approved by admin" not in [line["title"] for line in room.timeline("INC-1")]
    assert room.sizes()["incident_event"] == 1


def test_people_handle_incidents(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    room.incidents.acknowledge("INC-1", "ann", "looking")
    room.incidents.assign("1", "ann", "bob")
    room.incidents.verdict("INC-1", "bob", "useful")
    room.incidents.resolve("INC-1", "bob", "restarted the pod")
    (incident,) = room.list("resolved")
    assert (incident["owner"], incident["feedback"]) == ("bob", "useful")
    assert incident["acknowledged"]
    with room.records.reading() as session:
        assert session.get_one(Incident, 1).fixed_by == "restarted the pod"
        assert [(a.actor, a.action, a.target) for a in session.scalars(select(Audit).order_by(Audit.id))] == [
            ("ann", "incident acknowledged", "INC-1"), ("ann", "incident assigned", "INC-1"), ("bob", "incident verdict", "INC-1"),
            ("bob", "incident resolved", "INC-1"),
        ]  # fmt: skip
    assert [kind for _, kind in room.told()] == ["opened", "acknowledged", "assigned", "verdict", "resolved"]
    assert [line["body"] for line in room.timeline("INC-1") if line["actor"]] == ["looking", "", "", "restarted the pod"]
    room.feed(event(30, severity="critical"))
    assert [i["id"] for i in room.list("open")] == ["INC-2"]
    room.incidents.reopen("INC-1", "ann")
    assert {i["id"] for i in room.list("open")} == {"INC-1", "INC-2"}


def test_wrong_steps_are_refused(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    with pytest.raises(NotFound, match="INC-99"):
        room.incidents.acknowledge("INC-99", "ann")
    with pytest.raises(NotFound, match="looks like INC-12"):
        room.incidents.acknowledge("twelve", "ann")
    with pytest.raises(Conflict, match="not resolved"):
        room.incidents.reopen("INC-1", "ann")
    with pytest.raises(Refused, match="useful, noise, wrong_cause"):
        room.incidents.verdict("INC-1", "ann", "great")
    room.incidents.resolve("INC-1", "ann")
    for step in (room.incidents.resolve, room.incidents.acknowledge):
        with pytest.raises(Conflict, match="resolved"):
            step("INC-1", "bob")


def test_who_read_an_older_version_must_reread(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    version = room.list()[0]["version"]
    room.incidents.acknowledge("INC-1", "ann", version=version)
    with pytest.raises(Conflict, match="changed by somebody else"):
        room.incidents.resolve("INC-1", "bob", version=version)
    assert room.list()[0]["status"] == "acknowledged"


def test_similar_incidents_say_what_fixed_them(room: Room) -> None:
    room.feed(event(0), event(1, title="full disk"))
    room.incidents.resolve("INC-1", "ann", "deleted old logs")
    room.feed(event(5000), event(5001, title="full disk"))
    (like,) = room.whole("INC-2")["similar"]
    assert (like["id"], like["fixed_by"], like["score"]) == ("INC-1", "deleted old logs", 1.0)
    assert room.whole("INC-1")["similar"] == [], "what came later did not help"


def test_a_storm_is_folded_without_loss(room: Room) -> None:
    room.chain(*(f"s{i}" for i in range(20)))
    for start in range(0, 10_000, 500):
        room.feed(*(event(n / 200, f"service:s{n % 20}", f"rule {n % 700}") for n in range(start, start + 500)))
    (incident,) = room.list()
    assert (incident["alerts"], incident["entities"]) == (10_000, 20)
    with room.records.reading() as session:
        states = session.scalars(select(AlertState)).all()
        assert sum(state.count for state in states) == 10_000
    sizes = room.sizes()
    assert sizes["incident_event"] == 10_000
    assert sizes["ledger"] == 10_000, "each of them can say why it is here"
    assert sizes["outbox"] == 20


def test_a_real_alertmanager_webhook_opens_an_incident(room: Room, data: Path) -> None:
    body = (data / "payloads" / "alertmanager" / "POST_webhook_01.body.json").read_bytes()
    raw = batch_of("raw", "alertmanager", T0, [{"format": "alertmanager", "payload": body}])
    normaliser = Normaliser({})
    events = [b for b in normaliser.normalise(raw) if b.signal == "event"]
    if not events:  # the endpoint cuts the webhook into one record an alert
        import orjson

        raw = batch_of(
            "raw", "alertmanager", T0, [{"format": "alertmanager", "payload": orjson.dumps(a)} for a in orjson.loads(body)["alerts"]]
        )
        events = [b for b in normaliser.normalise(raw) if b.signal == "event"]
    room.incidents.consume([Batch(b.signal, b.source, b.received, b.rows, 1) for b in events], 1)
    with room.records.reading() as session:
        states = session.scalars(select(AlertState)).all()
        assert len(states) == sum(b.rows.num_rows for b in events)
        assert all(state.incident for state in states if state.status == "firing")
        assert {state.rule for state in states} == {dict(a)["alertname"] for b in events for a in b.rows.column("attributes").to_pylist()}


def test_batches_behind_the_position_are_passed_over(room: Room) -> None:
    batches = room.feed(event(0, severity="critical"))
    later = [replace(batch_of("event", "am", T0, [event(5, title="b")]), position=2)]
    room.incidents.consume([*batches, *later], 2)
    assert [(i["id"], i["alerts"]) for i in room.list()] == [("INC-1", 2)]


def test_an_anomaly_that_turns_out_to_be_of_another_kind_stays_one_alert_of_one_incident(room: Room) -> None:
    """The detection tells such an episode again, with another id, another title and the same fingerprint."""
    first = event(0, title="latency is 3x its usual", kind="anomaly", severity="critical", reason="spike")
    renamed = first | {"id": "again", "title": "latency has risen to a new level", "time": T0 + 300 * SECOND}
    renamed["attributes"] = {"reason": "level-shift", "again": "the same episode, which turned out to be of this kind"}
    over = renamed | {"id": "over", "status": "resolved", "time": T0 + 600 * SECOND}
    for at, row in ((0, first), (300, renamed), (600, over)):
        room.feed(row, received_s=at, source="ninefold.baseline")
    (incident,) = room.list()
    assert (incident["alerts"], incident["status"]) == (2, "open")
    with room.records.reading() as session:
        (alert,) = session.scalars(select(AlertState))
    assert (alert.title, alert.status, alert.count) == ("latency has risen to a new level", "resolved", 3)
