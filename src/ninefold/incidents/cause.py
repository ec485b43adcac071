"""The cause of one incident: its telemetry out of the store in a few aggregated queries, ranked, and put into words for the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ninefold.analytics.alerts import rootcause
from ninefold.analytics.alerts.rarity import at_home, rarity
from ninefold.analytics.alerts.rootcause import LEAD, Candidate, Changed, Ranking
from ninefold.ground.clock import SECOND, iso, parse
from ninefold.incidents.gather import BACK_NS, GUARD_NS, STEP_NS, Gather, Query
from ninefold.model.severity import severity_of_number
from ninefold.model.topology import Topology
from ninefold.store.records.incidents import Incident, IncidentEvent

_LEAD_NS = LEAD * STEP_NS
"""Alerts come after what they tell of: the incident's minutes begin this long before its first alert."""
_TAIL_NS, _LONGEST_NS = 60 * SECOND, 600 * SECOND
_ENTITIES = 2000
_PAST = 200
"""Earlier incidents that say how rare an alert is."""
_CHARTS = 6


@dataclass(slots=True)
class Case:
    """An incident as the search for its cause sees it: `onset` and `last` are its first and last firing alert, `busy` the
    windows of other incidents, never taken as quiet."""

    number: int
    onset: int
    last: int
    alerts: Mapping[str, float]
    """The entities of its alerts, and how telling those are."""
    changes: list[Changed] = field(default_factory=list)
    busy: list[tuple[int, int]] = field(default_factory=list)
    series: list[tuple[str, str, str]] = field(default_factory=list)
    """Series behind its anomalies: (series, name, entity)."""

    @property
    def start(self) -> int:
        """The beginning of bucket 0, ns."""
        return self.onset - _LEAD_NS

    @property
    def end(self) -> int:
        """Until when telemetry is looked at, ns."""
        return min(max(self.last + _TAIL_NS, self.start + 4 * STEP_NS), self.start + _LONGEST_NS)


@dataclass(slots=True)
class Finding:
    """What is kept of a ranking, in the API's form."""

    verdict: str
    reason: str
    until: int
    cause: dict[str, Any] | None = None
    confidence: float | None = None
    summary: str = ""
    candidates: list[dict[str, Any]] = field(default_factory=list)
    patterns: list[dict[str, Any]] = field(default_factory=list)
    charts: list[dict[str, Any]] = field(default_factory=list)

    def scores(self) -> list[dict[str, Any]]:
        """The candidates without their evidence, for the ledger."""
        return [{"entity": c["entity"], "score": c["score"], "confidence": c["confidence"]} for c in self.candidates]


def case_of(session: Session, incident: Incident) -> Case:
    """What the records know of an incident."""
    known = select(Incident.rules).where(~Incident.pending, Incident.merged_into.is_(None), Incident.first_event < incident.first_event)
    past = [_alerts(rules) for rules in session.scalars(known.order_by(Incident.first_event.desc()).limit(_PAST))]
    alerts = rarity(_alerts(incident.rules), past)
    fired = IncidentEvent.event["status"].as_string() != "resolved"
    last = select(func.max(IncidentEvent.time)).where(IncidentEvent.incident == incident.id, IncidentEvent.role == "alert", fired)
    case = Case(incident.id, incident.first_event, session.scalar(last) or incident.last_event, alerts)
    events = select(IncidentEvent.event).where(IncidentEvent.incident == incident.id)
    for change in session.scalars(events.where(IncidentEvent.role == "change")):
        time = parse(change["time"])
        case.changes.append(Changed(change["entity"], (case.onset - time) / SECOND, change["title"], time))
    for event in session.scalars(events.where(IncidentEvent.kind == "anomaly").order_by(IncidentEvent.time).limit(100)):
        if series := event["attributes"].get("series"):
            case.series.append((series, event["attributes"].get("metric", ""), event["entity"]))
    others = select(Incident.first_event, Incident.last_event).where(
        Incident.id != incident.id, ~Incident.pending, Incident.merged_into.is_(None),
        Incident.first_event.between(case.start - 2 * BACK_NS, case.start), Incident.last_event > case.start - BACK_NS,
    )  # fmt: skip
    case.busy = [(first - _LEAD_NS - GUARD_NS, last + _TAIL_NS) for first, last in session.execute(others)]
    return case


def _alerts(rules: Sequence[str]) -> list[tuple[str, str]]:
    """Entity and rule of each of an incident's texts ``entity|rule`` that name an entity."""
    pairs = (text.partition("|") for text in rules)
    return [(entity, rule) for entity, _, rule in pairs if entity]


def explain(query: Query, case: Case, topology: Topology, priors: Mapping[str, float] | None = None) -> Finding:
    """Gather the telemetry around an incident and rank the causes; `priors` is what verdicts make of kinds of evidence.

    Raises:
        Unavailable: the store cannot be asked.
    """
    if not case.alerts:
        return Finding("undetermined", "its alerts name no entity, so there is nowhere to look", case.end)
    homes = _homes(topology)
    gather = Gather(query, case.start, case.end, case.busy, _neighbours(case, topology), homes)
    spans = gather.spans()
    logs, texts = gather.logs()
    needs: dict[str, set[str]] = {}
    for a, others in topology.needs.items():
        needs.setdefault(homes.get(a, a), set()).update(homes.get(b, b) for b in others)
    alerts = at_home(case.alerts, homes)
    ranking = rootcause.rank(gather.metrics(), spans, logs, texts=texts, needs=needs, changes=case.changes, alerts=alerts, priors=priors)
    return _finding(case, ranking, texts, gather.series)


def keep(incident: Incident, finding: Finding) -> None:
    """Write a finding into the incident's record."""
    incident.verdict, incident.reason, incident.analysed_until = finding.verdict, finding.reason, finding.until
    incident.cause, incident.confidence = finding.cause, finding.confidence
    incident.analysis = {"candidates": finding.candidates, "patterns": finding.patterns, "charts": finding.charts}


def _neighbours(case: Case, topology: Topology) -> list[str]:
    """The entities whose telemetry may matter: the alerts' own and their components; none means all."""
    components = {topology.component(entity) for entity in case.alerts}
    found = sorted({entity for entity in topology.entities() if topology.component(entity) in components} | set(case.alerts))
    return found if len(found) <= _ENTITIES else []


def _homes(topology: Topology) -> dict[str, str]:
    """The service of each pod or instance that belongs to exactly one."""
    owners: dict[str, set[str]] = {}
    for a, b, kind in topology.relations:
        if kind == "runs_on" and a.startswith("service:") and b.startswith(("pod:", "instance:")):
            owners.setdefault(b, set()).add(a)
        elif kind == "member_of" and b.startswith("service:"):
            owners.setdefault(a, set()).add(b)
    return {entity: next(iter(services)) for entity, services in owners.items() if len(services) == 1}


def _finding(case: Case, ranking: Ranking, texts: Mapping[int, str], series: Mapping[int, tuple[str, str, str]]) -> Finding:
    finding = Finding(ranking.verdict, ranking.reason, case.end)
    finding.candidates = [_candidate(case, candidate) for candidate in ranking.candidates]
    if ranking.verdict == "determined":
        best = ranking.candidates[0]
        finding.cause = {"entity": best.entity, "kind": best.kind, "summary": best.summary}
        finding.confidence, finding.summary = round(best.confidence, 2), best.summary
    finding.patterns = [
        {"pattern": str(s.pattern), "template": texts.get(s.pattern, ""), "count": round(s.count), "usual": round(s.usual, 1),
         "severity": severity_of_number(s.severity), "entity": s.entity}
        for s in ranking.surges
    ]  # fmt: skip
    wanted = [item.series for candidate in ranking.candidates[:3] for item in candidate.items if item.series]
    known = {str(number): about for number, about in series.items()}
    charts: dict[str, tuple[str, str, str]] = {}
    leading = [candidate.entity for candidate in ranking.candidates[:3]]
    for number, name, entity in sorted(case.series, key=lambda s: leading.index(s[2]) if s[2] in leading else len(leading)):
        charts.setdefault(number, known.get(number, (name, "", entity)))
    for number in filter(known.__contains__, map(str, wanted)):
        charts.setdefault(number, known[number])
    finding.charts = [
        {"series": n, "title": name, "unit": unit, "entity": entity} for n, (name, unit, entity) in list(charts.items())[:_CHARTS]
    ]
    return finding


def _candidate(case: Case, candidate: Candidate) -> dict[str, Any]:
    evidence = []
    for item in candidate.items:
        time = item.time if item.time is not None else case.start + item.bucket * STEP_NS if item.bucket is not None else None
        evidence.append(
            {"kind": item.kind, "text": item.text, "weight": round(item.weight, 2), "series": str(item.series) if item.series else None,
             "time": iso(time) if time is not None else None}
        )  # fmt: skip
    return {
        "entity": candidate.entity, "score": round(candidate.score, 2), "confidence": round(candidate.confidence, 2),
        "kind": candidate.kind, "summary": candidate.summary, "evidence": evidence,
    }  # fmt: skip
