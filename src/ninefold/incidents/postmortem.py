"""A post-mortem draft: the facts of an incident as Markdown, from the records alone. The same records give the same text.

What only people know (why the checks did not catch it, what is to be done) stands as headings to be filled in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.ground.clock import SECOND, iso, parse
from ninefold.incidents.similar import alike
from ninefold.store.records.incidents import Incident, IncidentEvent, Ticket, Timeline, incident_key
from ninefold.store.records.oncall import Page
from ninefold.store.records.workflows import Run

_SPECIAL = re.compile(r"([\\`*\[\]|<>])")
_CANDIDATES, _EVIDENCE, _ENTITIES, _ALERTS, _LINES = 3, 6, 50, 30, 400
_ALERT_KINDS = ("alert", "anomaly", "alert resolved")
_TO_WRITE = ("What users noticed", "What went well", "What went badly", "Where we were lucky")


def draft(session: Session, incident: Incident) -> str:
    """The Markdown of one incident; for one that goes on, as far as it has come."""
    key, lines = incident_key(incident.id), _story(session, incident)
    parts = [
        [f"# Post-mortem of {key}: {plain(incident.title)}", "", "*A draft: the facts are from the record, the rest is to be written.*"],
        _facts(incident, lines),
        _impact(incident),
        _cause(incident),
        _changes(session, incident),
        _done(session, incident, lines),
        _pages(session, incident),
        _timeline(lines),
        _similar(session, incident),
        *([f"## {heading}", "", "*To be written.*"] for heading in _TO_WRITE),
        ["## Actions", "", "- [ ] *What is to be done, by whom, until when.*"],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def plain(text: str) -> str:
    """A text that stands for itself in a line of Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _story(session: Session, incident: Incident) -> list[Timeline]:
    wanted = select(Timeline).where(Timeline.incident == incident.id).order_by(Timeline.time, Timeline.id)
    return list(session.scalars(wanted.limit(2000)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    return [line(head), line(["---"] * len(head)), *map(line, rows)]


def _facts(incident: Incident, lines: Sequence[Timeline]) -> list[str]:
    def first(kind: str) -> str:
        return next((f" by {plain(line.actor)}" for line in lines if line.kind == kind and line.actor not in ("", "ninefold")), "")

    def when(time: int | None, kind: str) -> str:
        return f"{iso(time)}{first(kind)}, {_span(time - incident.opened)} after opening" if time else "not yet"

    rows = [
        ("Status", incident.status), ("Severity", incident.severity), ("Owner", plain(incident.owner) or "nobody"),
        ("Teams", plain(", ".join(incident.teams)) or "none"), ("First alert", iso(incident.first_event)), ("Opened", iso(incident.opened)),
        ("Acknowledged", when(incident.acknowledged, "acknowledged")), ("Mitigated", when(incident.mitigated, "mitigated")),
        ("Resolved", when(incident.resolved, "resolved")),
    ]  # fmt: skip
    return ["## Summary", "", *_table(("", ""), rows)]


def _impact(incident: Incident) -> list[str]:
    entities = sorted({pair.partition("|")[0] for pair in incident.rules} - {""})
    end = incident.resolved or incident.last_event
    more = f", and {len(entities) - _ENTITIES} more" if len(entities) > _ENTITIES else ""
    named = ", ".join(f"`{_code(entity)}`" for entity in entities[:_ENTITIES]) or "no entity is known"
    so_far = "" if incident.resolved else " so far"
    return [
        "## Impact", "",
        f"- Duration{so_far}: {_span(end - incident.first_event)}, from {iso(incident.first_event)} to {iso(end)}",
        f"- Alerts: {incident.alerts}", f"- Entities ({len(entities)}): {named}{more}",
    ]  # fmt: skip


def _cause(incident: Incident) -> list[str]:
    found = ["## Cause", ""]
    if incident.cause:
        sure = f" (confidence {incident.confidence:.2f})" if incident.confidence is not None else ""
        summary = plain(str(incident.cause.get("summary", "")))
        found.append(f"Probable cause: `{_code(str(incident.cause.get('entity', '')))}`{sure}. {summary}".rstrip())
    else:
        found.append(f"Undetermined: {plain(incident.reason) or 'it was not analysed'}.")
    if incident.feedback:
        found.append(f"What people said of it: {incident.feedback.replace('_', ' ')}.")
    for candidate in incident.analysis.get("candidates", [])[:_CANDIDATES]:
        found += ["", f"### `{_code(candidate['entity'])}`", ""]
        for evidence in candidate.get("evidence", [])[:_EVIDENCE]:
            at = f" ({evidence['time']})" if evidence.get("time") else ""
            found.append(f"- {plain(evidence['text'])}{at}")
    return found


def _changes(session: Session, incident: Incident) -> list[str]:
    wanted = select(IncidentEvent.event).where(IncidentEvent.incident == incident.id, IncidentEvent.role == "change")
    events = session.scalars(wanted.order_by(IncidentEvent.time, IncidentEvent.event_id)).all()
    rows = [
        (event["time"], _before(incident, event), plain(event["kind"]), f"`{_code(event['entity'])}`" if event["entity"] else "",
         plain(event["title"]))
        for event in events
    ]  # fmt: skip
    table = _table(("Time", "", "Kind", "Entity", "What"), rows) if rows else ["No change is known shortly before."]
    return ["## Changes", "", *table]


def _before(incident: Incident, event: dict[str, Any]) -> str:
    gap = incident.first_event - parse(event["time"])
    return f"{_span(abs(gap))} {'before' if gap >= 0 else 'after'} the first alert"


def _done(session: Session, incident: Incident, lines: Sequence[Timeline]) -> list[str]:
    found = []
    for line in lines:
        if line.actor not in ("", "ninefold") and line.kind not in _ALERT_KINDS:
            found.append(f"- {iso(line.time)} {plain(line.title)}{f': {plain(line.body)}' if line.body else ''}")
    for run in session.scalars(select(Run).where(Run.incident == incident.id).order_by(Run.id)):
        said = f": {plain(run.error)}" if run.error else ""
        found.append(f"- {iso(run.started or run.created)} Workflow {plain(run.workflow)} {run.status} ({plain(run.trigger)}){said}")
    for ticket in session.scalars(select(Ticket).where(Ticket.incident == incident.id).order_by(Ticket.system, Ticket.id)):
        found.append(f"- Ticket {plain(ticket.system)} {plain(ticket.id)}, {plain(ticket.status)}: {plain(ticket.url)}")
    if incident.fixed_by:
        found.append(f"- What fixed it: {plain(incident.fixed_by)}")
    return ["## What was done", "", *(found or ["Nothing is on record."])]


def _pages(session: Session, incident: Incident) -> list[str]:
    wanted = select(Page).where(Page.incident == incident.id).order_by(Page.due, Page.id)
    rows = [
        (iso(page.sent or page.due), plain(page.person), plain(page.contact), plain(page.reason), page.status, plain(page.error))
        for page in session.scalars(wanted)
    ]
    return ["## Who was paged", "", *_table(("Time", "Who", "How", "Why", "Outcome", "Said"), rows)] if rows else []


def _timeline(lines: Sequence[Timeline]) -> list[str]:
    rows, alerts = [], 0
    for line in lines:
        alerts += line.kind in _ALERT_KINDS
        if line.kind not in _ALERT_KINDS or alerts <= _ALERTS:
            rows.append((iso(line.time), plain(line.kind), plain(line.title), plain(line.actor or line.source)))
    left = [f"{alerts - _ALERTS} more alerts are in the record."] if alerts > _ALERTS else []
    left += [f"{len(rows) - _LINES} more lines are in the record."] if len(rows) > _LINES else []
    return ["## Timeline", "", *_table(("Time", "Kind", "What", "Who"), rows[:_LINES]), *(["", *left] if left else [])]


def _similar(session: Session, incident: Incident) -> list[str]:
    return ["## Similar incidents", "", *(_likeness(alike(session, incident)) or ["None is known."])]


def _likeness(others: Iterable[dict[str, Any]]) -> list[str]:
    found = []
    for other in others:
        cause = f", cause `{_code(other['cause'])}`" if other["cause"] else ""
        fixed = f", fixed by {plain(other['fixed_by'])}" if other["fixed_by"] else ""
        found.append(f"- {other['id']} of {other['opened']} ({round(100 * other['score'])} % alike): {plain(other['title'])}{cause}{fixed}")
    return found


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "/").split())


def _span(ns: int) -> str:
    seconds = ns // SECOND
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    named = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{value} {unit}" for value, unit in named if value) or "0 s"
