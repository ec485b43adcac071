"""What a mute would have hidden, asked of the alerts that are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso
from ninefold.incidents.folding import chunks
from ninefold.incidents.intake import rule_of
from ninefold.model.matcher import Finder, Matcher
from ninefold.store.records.incidents import AlertState, IncidentEvent, incident_key

EVENTS = 100_000
"""The most alert events, the newest, that one preview looks at."""
_SHOWN = 50
_ALERTS = """
SELECT id, toUnixTimestamp64Nano(time) AS at, toString(kind) AS kind, toString(source) AS source, entity, title,
  toString(severity) AS severity, toString(status) AS status, if(fingerprint = '', id, fingerprint) AS mark, attributes
FROM event WHERE kind IN ('alert', 'anomaly') AND received >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
ORDER BY received DESC LIMIT {limit:UInt32}"""
Query = Callable[[str, Mapping[str, Any] | None], pa.Table]


def preview(query: Query, session: Session, matchers: Sequence[Matcher], since: int) -> dict[str, Any]:
    """What matchers would have hidden since `since` (ns), if nothing else decided.

    Returns how many alert events and alerts they fit and of how many, which of them fire now, the rules behind them, and the incidents
    that would not have been opened, for all their alerts would have been hidden.

    Raises:
        BadData: the matchers cannot be used.
    """
    table = query(_ALERTS, {"since": since, "limit": EVENTS})
    events = table.to_pylist()
    labels = []
    for event in events:
        event["attributes"] = dict(event["attributes"])
        own = {key: event[key] for key in ("entity", "severity", "source", "kind")}
        labels.append({"alertname": rule_of(event["attributes"], event["title"]), **own, **event["attributes"]})
    hits = Finder({0: matchers}).find(labels)
    chosen = [(event, label) for event, label, hit in zip(events, labels, hits, strict=True) if hit]
    marks = {event["mark"]: event for event, _ in reversed(chosen)}
    firing: set[str] = set()
    for some in chunks(list(marks)):
        asked = select(AlertState.fingerprint).where(AlertState.fingerprint.in_(some), AlertState.status.in_(("firing", "suppressed")))
        firing.update(session.scalars(asked))
    rules = Counter(label["alertname"] for _, label in chosen)
    shown = sorted(marks.values(), key=lambda event: (event["mark"] not in firing, -event["at"]))[:_SHOWN]
    return {
        "since": iso(max(since, min((event["at"] for event in events), default=since) if len(events) == EVENTS else since)),
        "events": len(chosen), "of_events": len(events), "alerts": len(marks), "of_alerts": len({event["mark"] for event in events}),
        "firing": len(firing), "rules": [{"rule": rule, "events": number} for rule, number in rules.most_common(_SHOWN)],
        "incidents": _unopened(session, {event["id"] for event, _ in chosen}),
        "examples": [
            {"fingerprint": e["mark"], "title": e["title"], "entity": e["entity"], "severity": e["severity"], "time": iso(e["at"]),
             "firing": e["mark"] in firing} for e in shown
        ],
    }  # fmt: skip


def _unopened(session: Session, ids: set[str]) -> list[str]:
    """The incidents all of whose alert events are among these."""
    hidden: Counter[int] = Counter()
    for some in chunks(sorted(ids)):
        asked = select(IncidentEvent.incident, func.count()).where(IncidentEvent.event_id.in_(some), IncidentEvent.role == "alert")
        hidden.update(dict(session.execute(asked.group_by(IncidentEvent.incident)).all()))
    whole: dict[int, int] = {}
    for some in chunks(sorted(hidden)):
        asked = select(IncidentEvent.incident, func.count()).where(IncidentEvent.incident.in_(some), IncidentEvent.role == "alert")
        whole.update(dict(session.execute(asked.group_by(IncidentEvent.incident)).all()))
    return [incident_key(number) for number in sorted(whole, reverse=True) if whole[number] == hidden[number]][:_SHOWN]
