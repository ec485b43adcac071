"""The post-mortem draft: the facts of the record, the same each time, and nothing in them that Markdown would take for its own."""

from __future__ import annotations

from room import T0, Room, event

from ninefold.ground.clock import SECOND, iso
from ninefold.incidents import handling
from ninefold.incidents.postmortem import draft
from ninefold.store.records.incidents import Incident, Ticket
from ninefold.store.records.oncall import Page
from ninefold.store.records.workflows import Run


def text_of(room: Room, number: int) -> str:
    with room.records.reading() as session:
        return draft(session, session.get_one(Incident, number))


def section(text: str, heading: str) -> list[str]:
    return text.partition(f"## {heading}\n\n")[2].partition("\n\n## ")[0].splitlines()


def story(room: Room) -> None:
    room.chain("web", "cart", "db")
    room.feed(event(-240, "service:db", "deploy 7 of db", kind="deployment", status=""))
    room.feed(event(0, "service:cart", "cart | is <b>slow</b>", severity="critical"), event(20, "service:web", "web is slow"))
    room.incidents.acknowledge("INC-1", "ann", "looking\ninto [it]")
    room.incidents.handle("INC-1", "ann", "mitigated", handling.mitigate)
    room.incidents.resolve("INC-1", "bob", "rolled back")
    cause = {"entity": "service:db", "kind": "deployment", "summary": "deploy 7 four minutes before"}
    evidence = [{"kind": "change", "text": "deploy 7 was rolled out", "weight": 1.8, "series": None, "time": iso(T0)}]
    with room.records.session() as session:
        incident = session.get_one(Incident, 1)
        incident.opened, incident.acknowledged, incident.mitigated = T0, T0 + 60 * SECOND, T0 + 600 * SECOND
        incident.resolved = T0 + 3661 * SECOND
        incident.cause, incident.confidence = cause, 0.91
        incident.analysis = {"candidates": [{"entity": "service:db", "score": 4.2, "confidence": 0.91, "evidence": evidence}]}
        session.add(
            Page(escalation=1, incident=1, person="ann", contact="phone", uses="a.send", reason="on call", status="delivered", due=T0)
        )
        run = Run(workflow="roll back", digest="d", key="k", incident=1, trigger="t", change="opened", triggered=T0, created=T0)
        session.add_all([run, Ticket(system="tracker", id="7", url="https://rt.example.org/7", incident=1)])


def test_the_facts_are_there(room: Room) -> None:
    story(room)
    text = text_of(room, 1)
    assert text == text_of(room, 1)
    assert text.startswith("# Post-mortem of INC-1: cart \\| is \\<b\\>slow\\</b\\>\n")
    summary = "\n".join(section(text, "Summary"))
    assert f"| Acknowledged | {iso(T0 + 60 * SECOND)} by ann, 1 min after opening |" in summary
    assert f"| Resolved | {iso(T0 + 3661 * SECOND)} by bob, 1 h 1 min 1 s after opening |" in summary
    assert section(text, "Impact") == [
        f"- Duration: 1 h 1 min 1 s, from {iso(T0)} to {iso(T0 + 3661 * SECOND)}", "- Alerts: 2",
        "- Entities (2): `service:cart`, `service:web`",
    ]  # fmt: skip
    assert section(text, "Cause")[0] == "Probable cause: `service:db` (confidence 0.91). deploy 7 four minutes before"
    assert f"- deploy 7 was rolled out ({iso(T0)})" in section(text, "Cause")
    assert section(text, "Changes")[-1].endswith("| 4 min before the first alert | deployment | `service:db` | deploy 7 of db |")
    done = "\n".join(section(text, "What was done"))
    assert "Acknowledged by ann: looking into \\[it\\]" in done
    assert "Workflow roll back queued (t)" in done
    assert "Ticket tracker 7, open: https://rt.example.org/7" in done
    assert "What fixed it: rolled back" in done
    assert section(text, "Who was paged")[-1].endswith("| ann | phone | on call | delivered |  |")
    assert "- [ ]" in text


def test_one_that_goes_on_and_an_undetermined_cause_say_so(room: Room) -> None:
    room.feed(*(event(n, "service:a", f"a {n}", severity="critical") for n in range(40)))
    text = text_of(room, 1)
    assert "| Resolved | not yet |" in text
    assert "- Duration so far: 39 s" in text
    assert section(text, "Cause") == ["Undetermined: it was not analysed."]
    assert section(text, "Changes") == ["No change is known shortly before."]
    assert section(text, "Timeline")[-1] == "10 more alerts are in the record."
    assert "Who was paged" not in text
