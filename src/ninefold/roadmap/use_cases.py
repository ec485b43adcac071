"""Step 1: the use cases at hand, and whether the data they need flows freely."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from ninefold.plugin import Store
from ninefold.roadmap import sources
from ninefold.roadmap.answer import OWN, Figure, Gap, StepResult, rows, score
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import Incident
from ninefold.store.records.workflows import Run


@dataclass(frozen=True, slots=True)
class UseCase:
    """Something an operations team wants, and the kinds of data without which it is not to be had."""

    name: str
    outcome: str
    needs: tuple[str, ...]


USE_CASES = (
    UseCase("Detect anomalies", "Trouble is seen before somebody calls", ("metrics", "logs", "traces")),
    UseCase("Fold alerts", "Few incidents in place of many alerts", ("alerts", "topology")),
    UseCase("Explain causes", "Every incident names its probable cause", ("metrics", "logs", "traces", "topology", "changes")),
    UseCase("Automate", "What is known to help is done at once", ("alerts", "tickets", "workflow runs")),
    UseCase("Measure success", "The trend of each KPI is known", ("alerts", "changes", "tickets", "verdicts")),
)
WORDS = {
    "metrics": "metric series", "logs": "log lines", "traces": "spans", "alerts": "alerts and anomalies", "topology": "relations",
}  # fmt: skip
HINTS = {
    "metrics": "let Prometheus remote_write to /api/v1/write, or an OpenTelemetry SDK export to port 4318",
    "logs": "send syslog to port 5514, OTLP logs to port 4318, or follow files with a source of type `file`",
    "traces": "set OTEL_EXPORTER_OTLP_ENDPOINT of your services to port 4318",
    "alerts": "point Prometheus' alerting at Ninefold, or Alertmanager's webhook at /webhook/alertmanager",
    "topology": "send traces (calls between services become edges)",
    "changes": "POST deployments and changes to /webhook/changes, e.g. from the CI/CD pipeline",
    "tickets": "configure a connector to your tracker under `connectors:`",
    "workflow runs": "put a workflow into the folder named by `workflows.path`",
    "verdicts": "tell Ninefold on an incident whether it was useful, noise, or had the wrong cause",
}
_EVENTS = """
SELECT multiIf(kind IN ('alert', 'anomaly'), 'alerts', kind = 'ticket', 'tickets', 'changes') AS need, count() AS records
FROM event WHERE kind IN ('alert', 'anomaly', 'change', 'deployment', 'ticket') GROUP BY need
"""
_SIGNALS = """
SELECT 'metrics' AS need, count() AS records FROM series WHERE NOT startsWith(source, {own:String})
UNION ALL SELECT 'logs', count() FROM log WHERE NOT startsWith(source, {own:String})
UNION ALL SELECT 'traces', count() FROM span WHERE NOT startsWith(source, {own:String})
UNION ALL SELECT 'topology', count() FROM relation
"""


def present(store: Store, records: Records) -> dict[str, int]:
    """How much there is of every kind of data a use case can need; what is missing is left out."""
    found = {row["need"]: row["records"] for row in rows(store, _EVENTS) + rows(store, _SIGNALS, own=OWN)}
    with records.reading() as session:
        found["verdicts"] = session.scalar(select(func.count()).where(Incident.feedback != "")) or 0
        found["workflow runs"] = session.scalar(select(func.count()).select_from(Run)) or 0
    return {need: number for need, number in found.items() if number}


def measure(store: Store, records: Records) -> StepResult:
    """Readiness of every built-in use case, and how freely the data flows."""
    have, flows = present(store, records), sources.flowing(store)
    ready = {case: sum(need in have for need in case.needs) / len(case.needs) for case in USE_CASES}
    known = sources.facts(records)
    figures = [_figure(case, share, have) for case, share in ready.items()] + sources.figures(flows) + sources.freedoms(known)
    wanted = dict.fromkeys(need for case in USE_CASES for need in case.needs if need not in have)
    missing = []
    for need in wanted:
        cases = ", ".join(case.name.lower() for case in USE_CASES if need in case.needs)
        missing.append(Gap(f"No {need} yet; needed to {cases}.", HINTS[need]))
    missing += sources.unfree(known)
    free = sources.free(known)
    value = score(sum(ready.values()) / len(ready), sources.streaming(flows) if free is None else free) if have else None
    return StepResult(
        1,
        "use_cases",
        "Identify current use cases",
        "early",
        "Which use cases can start today, and does the data for them flow freely?",
        value,
        "The mean of the share of needed data that flows, over the use cases, and the share of sources that stream.",
        figures,
        missing,
    )


def _figure(case: UseCase, share: float, have: dict[str, int]) -> Figure:
    there = [f"{have[need]:,} {WORDS.get(need, need)}" for need in case.needs if need in have]
    lacking = [need for need in case.needs if need not in have]
    text = f"{case.outcome}: has {', '.join(there) or 'nothing yet'}" + (f"; lacks {', '.join(lacking)}." if lacking else ".")
    how = f"Kinds of data that flow out of the {len(case.needs)} needed: {', '.join(case.needs)}."
    return Figure(case.name, round(100 * share, 1), "% ready", text, how)
