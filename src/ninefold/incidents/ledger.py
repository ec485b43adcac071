"""What one transaction writes beside the incidents themselves: their events, the timeline, the decision ledger, the outbox.

Rows are gathered in plain lists and inserted together; a storm of alerts costs a handful of statements.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from ninefold.analytics.alerts.groups import Addend, Considered, Decision
from ninefold.ground.clock import iso, now
from ninefold.incidents.intake import Row
from ninefold.store.records.base import Outbox, write_many
from ninefold.store.records.incidents import Incident, IncidentEvent, Ledger, Timeline, incident_key


@dataclass
class Pages:
    """Rows to be written, by table."""

    events: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def event(self, incident: int, row: Row, role: str) -> None:
        """An event belongs to an incident."""
        self.events.append(
            {"incident": incident, "event_id": row.id, "time": row.time, "kind": row.kind, "role": role, "fingerprint": row.fingerprint,
             "event": row.event()}
        )  # fmt: skip

    def line(self, incident: int, time: int, kind: str, title: str, **more: str) -> None:
        """One line of an incident's story; `more` is body, actor, source, entity, severity, event_id."""
        line = {"incident": incident, "time": time, "kind": kind, "title": title, **_BLANK}
        line.update(more)
        self.lines.append(line)

    def told(self, incident: int, row: Row, kind: str = "", actor: str = "") -> None:
        """An event as a line of the story."""
        self.line(
            incident, row.time, kind or row.kind, row.title, body=row.body, actor=actor, source=row.source, entity=row.entity,
            severity=row.severity, event_id=row.id,
        )  # fmt: skip

    def decided(self, incident: int | None, event_id: str, time: int, step: str, text: str, **detail: Any) -> None:
        """One decision and its reason."""
        self.decisions.append(
            {"incident": incident, "event_id": event_id, "time": time, "step": step, "text": text, "detail": detail, "fingerprint": ""}
        )

    def stated(self, fingerprint: str, event_id: str, time: int, state: str, text: str) -> None:
        """What state an alert is in from now on, or why an event of it does not count, and the reason."""
        self.decided(None, event_id, time, "state", f"{state}: {text}" if state else text)
        self.decisions[-1]["fingerprint"] = fingerprint

    def muted(self, fingerprint: str, event_id: str, time: int, text: str, **detail: Any) -> None:
        """What hides an alert, or that nothing does any more."""
        self.decided(None, event_id, time, "mute", text, fingerprint=fingerprint, **detail)
        self.decisions[-1]["fingerprint"] = fingerprint

    def correlated(self, decision: Decision) -> None:
        """What the correlator did with an alert: a `dedup` row for a known alert, a `correlate` row for a new one."""
        alert, group = decision.alert, decision.group
        number = group.number if group else None
        if decision.verdict in ("duplicate", "resolved", "unknown"):
            self.decided(number, alert.id, alert.time, "dedup", f"{decision.verdict}: {decision.text}", fingerprint=alert.fingerprint)
            return
        assert number is not None
        verb = "opened" if decision.verdict == "opened" else "joined"
        moved = f", moved from {incident_key(decision.moved_from)} by a late alert" if decision.moved_from else ""
        addends = [considered.addends for considered in decision.considered]
        text = f"{verb} {incident_key(number)}{moved}: {decision.reason(addends)}"
        groups = [_considered(c, terms) for c, terms in zip(decision.considered, addends, strict=True)]
        self.decided(number, alert.id, alert.time, "correlate", text, fingerprint=alert.fingerprint, groups=groups)

    def changed(self, kind: str, incident: Incident, **more: Any) -> None:
        """A change of an incident that others must see."""
        data = {
            "incident": incident_key(incident.id), "title": incident.title, "status": incident.status, "severity": incident.severity,
            "entity": incident.entity, "alerts": incident.alerts, "opened": iso(incident.opened), **more,
        }  # fmt: skip
        if incident.cause:
            data["cause"] = incident.cause.get("entity", "")
        self.changes.append({"time": now(), "topic": "incident", "kind": kind, "key": incident_key(incident.id), "data": data})

    def write(self, session: Session) -> None:
        """Insert everything gathered; what comes later is written by the next call."""
        for statement, rows in zip(_INSERTS, (self.events, self.lines, self.decisions, self.changes), strict=True):
            if rows:
                write_many(session, statement, rows)
                rows.clear()


_INSERTS = tuple(insert(record) for record in (IncidentEvent, Timeline, Ledger, Outbox))


_BLANK = {"body": "", "actor": "", "source": "", "entity": "", "severity": "", "event_id": ""}


def _considered(considered: Considered, addends: Iterable[Addend]) -> dict[str, Any]:
    return {
        "incident": incident_key(considered.group.number),
        "score": round(considered.score, 2),
        "because": [{"text": addend.text, "weight": round(addend.weight, 2)} for addend in addends],
    }
