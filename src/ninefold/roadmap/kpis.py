"""Step 3: success criteria, computed from incidents, alerts and changes as they happened."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ninefold.ground.clock import SECOND
from ninefold.plugin import Store
from ninefold.roadmap.answer import Figure, Gap, StepResult, count, middle, percent, score, span
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import Change, Incident, IncidentEvent

SHOWN = (~Incident.pending, Incident.merged_into.is_(None))
_NEAR_S, _FAULTS = 600, 200


def measure(store: Store, records: Records) -> StepResult:
    """The five built-in KPIs with their definitions; a KPI without data is a gap, not a zero."""
    with records.reading() as session:
        incidents = session.scalars(select(Incident).where(*SHOWN)).all()
        alerts = session.scalar(select(func.sum(Incident.alerts)).where(Incident.merged_into.is_(None))) or 0
        changes = session.scalar(select(func.count()).where(Change.kind.in_(("change", "deployment")))) or 0
        near = select(func.count(IncidentEvent.event_id.distinct())).join(Incident, Incident.id == IncidentEvent.incident)
        failed = session.scalar(near.where(IncidentEvent.role == "change", *SHOWN)) or 0
        detection = _detection(session, incidents)
    kpis = [
        detection,
        _time("Time to acknowledge", "acknowledged", [(i.opened, i.acknowledged) for i in incidents]),
        _time("Time to resolve", "resolved", [(i.opened, i.resolved) for i in incidents]),
        _noise(alerts, len(incidents)),
        _change_failures(failed, changes),
    ]
    figures = [kpi for kpi in kpis if isinstance(kpi, Figure)]
    return StepResult(
        3,
        "kpis",
        "Define success criteria and start tracking them",
        "early",
        "What counts as success, and is it measured?",
        score(len(figures) / len(kpis)) if figures else None,
        "KPIs that can be computed / the five built in.",
        figures,
        [kpi for kpi in kpis if isinstance(kpi, Gap)],
    )


def _detection(session: Session, incidents: Sequence[Incident]) -> Figure | Gap:
    """From each known fault to the first alert after it in an incident that is labelled with it."""
    faults = session.scalars(select(Change).where(Change.kind == "truth").order_by(Change.time.desc()).limit(_FAULTS)).all()
    alerts = select(func.min(IncidentEvent.time)).where(IncidentEvent.role == "alert")
    spans = []
    for fault in faults:
        label = (fault.entity, fault.title)
        labelled = [i.id for i in incidents if i.truth and (i.truth.get("entity"), i.truth.get("text")) == label]
        window = IncidentEvent.time.between(fault.time, fault.time + _NEAR_S * SECOND)
        first = session.scalar(alerts.where(IncidentEvent.incident.in_(labelled), window))
        if first is not None:
            spans.append((first - fault.time) / SECOND)
    if not spans:
        return Gap("Time to detect is not measured yet: nothing says when a fault began.", "POST known faults to /webhook/truth")
    text = f"{len(spans)} of {count(len(faults), 'known fault')} led to an incident, half of them sooner than this."
    how = "Median of the time from a known fault to the next alert of its incident; faults come from labelled data or post-mortems."
    return Figure("Time to detect", middle(spans), "s", text, how)


def _time(name: str, verb: str, ends: Sequence[tuple[int, int | None]]) -> Figure | Gap:
    spans = [max(0.0, (end - start) / SECOND) for start, end in ends if end is not None]
    if not spans:
        return Gap(f"{name} is not measured yet.", f"no incident has been {verb}; use the console or `ninefold incident`")
    text = f"Half of {count(len(spans), f'{verb} incident')} took less; the mean is {span(mean(spans))}"
    text += f"; {len(ends) - len(spans)} not {verb} yet."
    return Figure(name, middle(spans), "s", text, f"Median of the time from opened to {verb}, over all incidents that were {verb}.")


def _noise(alerts: int, incidents: int) -> Figure | Gap:
    if not alerts:
        return Gap("Noise reduction is not measured yet.", "send alerts to /api/v2/alerts or /webhook/alertmanager")
    text = f"{count(alerts, 'alert')} became {count(incidents, 'incident')}."
    how = "1 - incidents shown / alert events (repeats included)."
    return Figure("Noise reduction", percent(alerts - incidents, alerts), "%", text, how)


def _change_failures(failed: int, changes: int) -> Figure | Gap:
    if not changes:
        return Gap("Change failure rate is not measured yet.", "POST deployments and changes to /webhook/changes")
    text = f"{failed} of {count(changes, 'change')} preceded an incident on the same part of the system."
    how = "Changes and deployments within the hour before an incident of their part of the topology / all changes and deployments."
    return Figure("Change failure rate", percent(failed, changes), "%", text, how)
