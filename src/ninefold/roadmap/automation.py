"""Step 6: which workflows run, how they end, how much they touch, who is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import func, select

from ninefold.ground.clock import SECOND
from ninefold.plugin import Store
from ninefold.roadmap.answer import Figure, Gap, StepResult, count, middle, percent, score, span
from ninefold.roadmap.kpis import SHOWN
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import Incident
from ninefold.store.records.workflows import UNFINISHED, Approval, Definition, Dispatch, Run, Step


class Tally(NamedTuple):
    """What the records say about automation: counts by status, verdict and risk; `asked` is (status, seconds to the answer or None)."""

    workflows: int
    runs: dict[str, int]
    decisions: dict[str, int]
    risks: dict[str, int]
    asked: list[tuple[str, float | None]]
    incidents: int
    touched: int

    @property
    def ended(self) -> int:
        """Runs that are over."""
        return sum(number for status, number in self.runs.items() if status not in UNFINISHED)


def tally(records: Records) -> Tally:
    """Count everything once."""
    with records.reading() as session:

        def by(column: Any, *where: Any) -> dict[str, int]:
            return {str(value): number for value, number in session.execute(select(column, func.count()).where(*where).group_by(column))}

        approvals = session.execute(select(Approval.status, Approval.requested, Approval.decided)).all()
        incidents = select(func.count()).select_from(Incident).where(*SHOWN)
        touched = select(func.count(Run.incident.distinct())).join(Incident, Incident.id == Run.incident).where(*SHOWN)
        return Tally(
            session.scalar(select(func.count(Definition.workflow.distinct()))) or 0,
            by(Run.status),
            by(Dispatch.verdict),
            by(Step.risk, Step.status == "succeeded"),
            [(status, (decided - requested) / SECOND if decided else None) for status, requested, decided in approvals],
            session.scalar(incidents) or 0,
            session.scalar(touched) or 0,
        )


def measure(store: Store, records: Records) -> StepResult:
    """Runs and their results, approvals, actions by risk, the share of incidents that automation touched."""
    found = tally(records)
    missing = []
    if not found.workflows:
        missing.append(Gap("No workflow is loaded.", "put a YAML file into the folder named by `workflows.path`"))
    elif not found.runs:
        missing.append(Gap("No workflow has run yet.", "start one with `ninefold workflow run NAME --incident INC-1`"))
    if found.incidents > found.touched:
        text = f"{count(found.incidents - found.touched, 'incident')} saw no workflow."
        missing.append(Gap(text, "loosen a trigger, or write a workflow for what they have in common"))
    known = found.incidents and found.ended
    value = score(found.touched / found.incidents * found.runs.get("succeeded", 0) / found.ended) if known else None
    return StepResult(
        6,
        "automation",
        "Begin automation implementation",
        "middle",
        "What runs by itself, does it succeed, and how much does it touch?",
        value,
        "The share of incidents touched times the success rate.",
        _figures(found),
        missing,
    )


def _figures(found: Tally) -> list[Figure]:
    succeeded = found.runs.get("succeeded", 0)
    made = [Figure("Workflows", found.workflows, "", f"{count(found.workflows, 'workflow')} loaded.", "Distinct workflows ever loaded.")]
    if found.runs:
        made.append(
            Figure("Runs", sum(found.runs.values()), "", f"Of these {_words(found.runs)}.", "All runs ever started, by their status now.")
        )
    if found.ended:
        text = f"{succeeded} of {count(found.ended, 'finished run')} did what they were for."
        made.append(Figure("Success rate", percent(succeeded, found.ended), "%", text, "Runs succeeded / runs that ended."))
    if found.incidents:
        text = f"A workflow ran for {found.touched} of {count(found.incidents, 'incident')}."
        share = percent(found.touched, found.incidents)
        made.append(Figure("Incidents touched", share, "%", text, "Incidents with at least one run / incidents shown."))
    if found.risks:
        text = f"By risk: {_words(found.risks)}."
        made.append(
            Figure("Actions carried out", sum(found.risks.values()), "", text, "Steps that succeeded, by the risk of their action.")
        )
    if found.decisions:
        how = "One recorded decision for each change and workflow."
        made.append(Figure("Triggers considered", sum(found.decisions.values()), "", f"{_words(found.decisions).capitalize()}.", how))
    return made + ([_approvals(found.asked)] if found.asked else [])


def _words(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sorted(numbers.items()))


def _approvals(asked: list[tuple[str, float | None]]) -> Figure:
    states = Counter(status for status, _ in asked)
    wait = middle(seconds for _, seconds in asked if seconds is not None)
    text = f"{_words(states).capitalize()}." + (f" Half were answered within {span(wait)}." if wait is not None else "")
    return Figure("Approvals asked", len(asked), "", text, "Questions put to a person before a step or a run, by their answer.")
