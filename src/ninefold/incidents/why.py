"""Why one event is where it is: recognised as what, put where, hidden by what, followed by which workflows, with every decision on it.

The answer is made of what was written down when it was decided, and of what is known now; it is there for events of every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso, parse
from ninefold.ground.errors import NotFound
from ninefold.incidents import intake
from ninefold.incidents.intake import Row
from ninefold.incidents.mutes import labels_of, mark, matchers_of, state_of
from ninefold.incidents.view import decision
from ninefold.incidents.windows import window
from ninefold.store.records.base import Outbox
from ninefold.store.records.incidents import AlertState, Change, Incident, IncidentEvent, Ledger, Ticket, incident_key
from ninefold.store.records.mutes import HiddenAlert, Mute
from ninefold.store.records.workflows import Dispatch

Json = dict[str, Any]
Query = Callable[[str, Mapping[str, Any] | None], pa.Table]
_DECISIONS, _MUTES, _WORKFLOWS = 200, 2000, 200
_EVENT = """
SELECT id, toUnixTimestamp64Nano(time) AS at, toUnixTimestamp64Nano(received) AS heard, toString(kind) AS kind,
  toString(source) AS source, toString(severity) AS severity, toString(status) AS status,
  source_id, entity, title, body, fingerprint, attributes
FROM event WHERE id = {id:String} ORDER BY received DESC LIMIT 1"""


def find(query: Query, session: Session, key: str) -> Row:
    """An event by its id, from the store or, before it has come there, from what the incidents keep.

    Raises:
        NotFound: there is none.
    """
    for event in query(_EVENT, {"id": key}).to_pylist():
        attributes = dict(event.pop("attributes"))
        time, received = event.pop("at"), event.pop("heard")
        ours = event["source"].partition(".")[0] == "ninefold"
        return Row(**event, attributes=attributes, time=time, received=received, position=0, ours=ours)
    hidden = session.scalar(select(HiddenAlert).where(HiddenAlert.event_id == key).limit(1))
    if hidden is not None:
        return Row(**hidden.row)
    kept = session.scalar(select(IncidentEvent.event).where(IncidentEvent.event_id == key).limit(1))
    change = session.get(Change, key) if kept is None else None
    event = kept or (change.event if change else None)
    if event is None:
        raise NotFound(f"there is no event {key!r}; it is older than what is kept, or has not been stored yet")
    return _row(event)


def _row(event: Json) -> Row:
    time = parse(event["time"])
    given = {"body": "", "source_id": "", **event, "time": time, "received": time}
    return Row(**given, position=0, ours=event["source"].partition(".")[0] == "ninefold")


def why(session: Session, row: Row) -> Json:
    """Everything that was decided on an event, by question."""
    decisions = list(session.scalars(select(Ledger).where(Ledger.event_id == row.id).order_by(Ledger.id).limit(_DECISIONS)))
    found = _incidents(session, row)
    numbers = [number for number, _ in found]
    outcome = _outcome(session, row, found, decisions)
    if row.kind not in intake.CORRELATED:
        outcome = " ".join([outcome, *(f"It {each.text}." for each in decisions if each.step == "mute")])
    return {
        "event": row.event() | {"received": iso(row.received)},
        "outcome": outcome,
        "incidents": [_brief(session, number, role) for number, role in found],
        "fingerprint": _fingerprint(row),
        "dedup": _dedup(session, row, decisions),
        "groups": _groups(row, decisions),
        "mutes": _mutes(session, row, decisions),
        "inhibitions": [one for each in decisions if each.step == "mute" for one in each.detail.get("inhibitions", [])],
        "workflows": _workflows(session, numbers),
        "decisions": [decision(each) for each in decisions],
    }


def _incidents(session: Session, row: Row) -> list[tuple[int, str]]:
    """The incidents an event is in, with its role in each; a ticket and what Ninefold says of an incident are in it by their names."""
    asked = select(IncidentEvent.incident, IncidentEvent.role).where(IncidentEvent.event_id == row.id).order_by(IncidentEvent.incident)
    return [(number, role) for number, role in session.execute(asked.distinct())]


def _brief(session: Session, number: int, role: str) -> Json:
    incident = session.get_one(Incident, number)
    return {
        "id": incident_key(number), "role": role, "title": incident.title, "status": incident.status, "severity": incident.severity,
        "shown": not incident.pending,
    }  # fmt: skip


def _outcome(session: Session, row: Row, found: Sequence[tuple[int, str]], decisions: Sequence[Ledger]) -> str:
    """One sentence: where the event is and why."""
    if found:
        keys = ", ".join(incident_key(number) for number, _ in found)
        hidden = [number for number, _ in found if session.get_one(Incident, number).pending]
        lone = "; it is not shown, for one alert below critical is no incident until others or the telemetry bear it out" if hidden else ""
        how = {"alert": "It is one of the alerts of", "change": "It is a change shortly before"}.get(found[0][1], "It is told of in")
        return f"{how} {keys}{lone}."
    if row.kind in intake.CORRELATED:
        if decisions:
            return f"It is in no incident: {decisions[-1].text}."
        known = session.get(AlertState, mark(row))
        if known is not None and known.state != "firing":
            return f"It is in no incident: its alert is {known.state} since {iso(known.since)}."
        return "It is in no incident, and no decision on it is on record: it waits to be read, or the decision is older than what is kept."
    if row.kind in intake.CHANGES:
        return "It is in no incident: none began within the hour after it where it happened."
    if row.kind == "ticket":
        ticket = session.get(Ticket, (row.source, row.source_id))
        return f"It is a ticket of {incident_key(ticket.incident)}." if ticket else "It is in no incident: its ticket was opened for none."
    if row.kind in ("maintenance", "holiday"):
        return "It is in no incident: it tells of a time of which nothing is learned."
    return (
        f"It is in no incident: only alerts and anomalies open one, and an event of kind {row.kind or 'event'} is kept and can be searched."
    )


def _fingerprint(row: Row) -> Json:
    made_of = row.attributes.get("ninefold.fingerprint", "")
    if not row.fingerprint:
        return {"value": "", "made_of": [], "text": "It has no fingerprint: it is like no other event."}
    if made_of in ("", "sender"):
        return {"value": row.fingerprint, "made_of": [], "text": "The sender gave the fingerprint."}
    fields = [name.strip() for name in made_of.removeprefix("labels ").replace(" and ", ",").split(",")]
    return {"value": row.fingerprint, "made_of": fields, "text": f"The fingerprint is made of {made_of}."}


def _dedup(session: Session, row: Row, decisions: Sequence[Ledger]) -> Json:
    said = [each for each in decisions if each.step == "dedup"]
    if said:
        verdict, _, text = said[-1].text.partition(": ")
        return {"verdict": verdict, "text": text}
    if row.kind not in intake.CORRELATED:
        return {"verdict": "single", "text": "Events of this kind are told apart by their ids alone; one that is sent again is the same."}
    state = session.get(AlertState, mark(row))
    told = f"; {_told(state.count)} of its alert since {iso(state.first)}" if state is not None else ""
    if any(each.step == "correlate" for each in decisions):
        return {"verdict": "new", "text": f"No alert of this fingerprint was firing when it came{told}."}
    return {"verdict": "", "text": f"It was not compared with others{told}."}


def _told(count: int) -> str:
    return "this is the only event" if count == 1 else f"there were {count} events"


def _groups(row: Row, decisions: Sequence[Ledger]) -> Json:
    """The incidents it was weighed against, by the newest decision that did."""
    said = next((each for each in reversed(decisions) if each.step == "correlate"), None)
    if said is not None:
        return {"text": said.text, "items": said.detail.get("groups", [])}
    if row.kind in intake.CORRELATED:
        return {"text": "It was not weighed against incidents: something before that decided.", "items": []}
    return {"text": "Only alerts and anomalies are weighed against incidents.", "items": []}


def _mutes(session: Session, row: Row, decisions: Sequence[Ledger]) -> Json:
    """The mutes that fit it and held when it came, and those that hid it whatever they are now."""
    if row.kind not in intake.CORRELATED:
        return {"text": "Only alerts and anomalies are muted.", "items": []}
    hid = {key for each in decisions if each.step == "mute" for key in each.detail.get("mutes", [])}
    labels = labels_of(row)
    asked = select(Mute).where(Mute.starts <= row.received, Mute.ends > row.received).order_by(Mute.ends.desc(), Mute.id).limit(_MUTES)
    fitting = {mute.id: mute for mute in session.scalars(asked) if all(m.holds(labels.get(m.name, "")) for m in matchers_of(mute))}
    for key in hid - fitting.keys():
        mute = session.get(Mute, key)
        if mute is not None:
            fitting[key] = mute
    items = []
    for mute in fitting.values():
        held = window(mute, row.received)
        if held is None and mute.id not in hid:
            continue
        items.append(
            {"id": mute.id, "text": ", ".join(map(str, matchers_of(mute))), "owner": mute.owner, "reason": mute.reason,
             "until": iso(held[1] if held else mute.ends), "state": state_of(mute, row.received), "hid": mute.id in hid}
        )  # fmt: skip
    if not items:
        return {"text": "No mute fitted it when it came.", "items": []}
    if any(item["hid"] for item in items):
        return {"text": "It was hidden.", "items": items}
    return {"text": "It fits a mute but was not hidden: it was in an open incident already, or came before the mute.", "items": items}


def _workflows(session: Session, numbers: Sequence[int]) -> Json:
    """What workflows decided about its incidents."""
    if not numbers:
        return {"text": "No workflow was asked: they follow incidents, and it is in none.", "items": []}
    asked = select(Dispatch, Outbox.kind).outerjoin(Outbox, Outbox.id == Dispatch.outbox).where(Dispatch.incident.in_(numbers))
    items = [
        {"workflow": each.workflow, "change": kind or "manual", "verdict": each.verdict, "reason": each.reason, "run": each.run,
         "incident": incident_key(each.incident or 0), "time": iso(each.time)}
        for each, kind in session.execute(asked.order_by(Dispatch.id).limit(_WORKFLOWS))
    ]  # fmt: skip
    ran = sum(item["run"] is not None for item in items)
    if not items:
        return {"text": "No workflow listens to what happened to its incident.", "items": []}
    return {"text": f"Asked {len(items)} times, workflows ran {ran} times.", "items": items}
