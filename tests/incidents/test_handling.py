"""What persons say of an incident: mitigated, how bad, whose; and the pages that come back into its story."""

from __future__ import annotations

import pytest
from room import Room, event

from ninefold.ground.errors import Conflict, Refused
from ninefold.incidents import handling
from ninefold.store.records.incidents import Ticket


def test_mitigated_stands_between_acknowledged_and_resolved(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    room.incidents.handle("INC-1", "ann", "mitigated", handling.mitigate, "rolled back")
    (incident,) = room.list("mitigated")
    assert (incident["owner"], incident["needs"]) == ("ann", "")
    assert incident["mitigated"] == incident["acknowledged"]
    with pytest.raises(Conflict):
        room.incidents.handle("INC-1", "ann", "mitigated", handling.mitigate)
    room.restart()
    room.feed(event(30, "service:cart", "more"))
    assert [i["alerts"] for i in room.list("mitigated")] == [2], "it is not over: new alerts join it, after a restart too"
    room.incidents.resolve("INC-1", "ann")
    assert room.list("resolved")[0]["mitigated"], "when it was stays known"
    room.incidents.reopen("INC-1", "ann")
    assert room.list("open")[0]["mitigated"] is None
    assert [kind for _, kind in room.told()] == ["opened", "mitigated", "updated", "resolved", "reopened"]


def test_a_severity_said_by_a_person_holds(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    room.incidents.handle("INC-1", "ann", "severity", handling.rate("warning"))
    room.restart()
    room.feed(event(30, "service:cart", "worse", severity="critical"))
    assert room.list()[0]["severity"] == "warning"
    with pytest.raises(Refused):
        room.incidents.handle("INC-1", "ann", "severity", handling.rate("dreadful"))
    assert room.timeline("INC-1")[-1]["title"] == "Severity changed from critical to warning by ann"


def test_teams_are_given_and_pages_are_told(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    room.incidents.handle("INC-1", "ann", "teams", handling.give_to(["shop", "payments", "shop"]))
    assert room.list()[0]["teams"] == ["shop", "payments"]
    page = event(40, "service:cart", "Paged ann by phone", kind="page", **{"ninefold.incident": "INC-1"})
    room.feed(page, source="somebody")
    assert "Paged ann by phone" not in [line["title"] for line in room.timeline("INC-1")], "only Ninefold itself is believed"
    room.feed({**page, "id": "1"}, source="ninefold")
    assert ("page", "Paged ann by phone") in [(line["kind"], line["title"]) for line in room.timeline("INC-1")]


def test_the_owner_of_a_ticket_becomes_the_incidents_unless_people_said_otherwise(room: Room) -> None:
    room.feed(event(0, severity="critical"))
    with room.records.session() as session:
        session.add(Ticket(system="rt", id="7", incident=1))

    def taken(at_s: float, owner: str) -> None:
        told = event(at_s, "", f"{owner} took ticket 7", kind="ticket", status="", **{"ticket.owner": owner, "actor": owner})
        room.feed(told | {"source_id": "7"}, source="rt")

    taken(10, "bob")
    taken(11, "bob")
    assert room.list()[0]["owner"] == "bob"
    assert [kind for _, kind in room.told()] == ["opened", "assigned"], "what is known already says nothing new"
    taken(20, "")
    assert room.list()[0]["owner"] == ""
    room.incidents.assign("INC-1", "ann", "cleo")
    taken(30, "bob")
    assert room.list()[0]["owner"] == "cleo"
    assert room.whole("INC-1")["tickets"][0]["owner"] == "bob"
