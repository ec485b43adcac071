"""Step 7: what each workflow is worth: does it succeed, is the incident over sooner, does the same cause come back after it?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select

from ninefold.ground.clock import SECOND
from ninefold.plugin import Store
from ninefold.roadmap.answer import DAY_S, Figure, Gap, StepResult, count, middle, names, percent, score, span
from ninefold.roadmap.kpis import SHOWN
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import Incident
from ninefold.store.records.workflows import UNFINISHED, Run

AGAIN_S = 7 * DAY_S
"""A cause that comes back within this after a run has not been cured by it."""
_SUCCESS, _AGAIN, _OFTEN, _SHOWN = 0.8, 0.5, 2, 8


@dataclass(slots=True)
class Worth:
    """One workflow: runs that ended, those that succeeded, incidents they were for, and how many of these came back."""

    ended: int = 0
    succeeded: int = 0
    incidents: set[int] = field(default_factory=set)
    again: int = 0

    def proven(self) -> bool:
        """Whether four of five runs succeed and at most half of the causes come back."""
        return self.succeeded >= _SUCCESS * self.ended and self.again <= _AGAIN * max(1, self.succeeded)


def cause_of(incident: Incident) -> str:
    """What makes two incidents the same: the entity of the probable cause, else where it was first seen."""
    return str((incident.cause or {}).get("entity") or "") or incident.entity


def worth(runs: Iterable[Run], incidents: dict[int, Incident]) -> dict[str, Worth]:
    """workflow -> its worth. A run counts as come back when an incident of the same cause opens within seven days after it."""
    by_cause: dict[str, list[Incident]] = defaultdict(list)
    for known in incidents.values():
        by_cause[cause_of(known)].append(known)
    found: dict[str, Worth] = defaultdict(Worth)
    for run in runs:
        if run.status in UNFINISHED:
            continue
        one = found[run.workflow]
        one.ended += 1
        one.succeeded += run.status == "succeeded"
        incident = incidents.get(run.incident or 0)
        if incident is None:
            continue
        one.incidents.add(incident.id)
        cause = cause_of(incident)
        end = run.finished or run.created
        if run.status == "succeeded" and cause:
            one.again += any(end < other.opened <= end + AGAIN_S * SECOND for other in by_cause[cause] if other is not incident)
    return dict(found)


def measure(store: Store, records: Records) -> StepResult:
    """The worth of every workflow that ran, and frequent causes that no workflow touches."""
    with records.reading() as session:
        incidents = {incident.id: incident for incident in session.scalars(select(Incident).where(*SHOWN))}
        runs = session.scalars(select(Run)).all()
    found = worth(runs, incidents)
    figures = [_figure(name, one, incidents) for name, one in sorted(found.items(), key=lambda item: -item[1].ended)[:_SHOWN]]
    touched = {number for one in found.values() for number in one.incidents}
    unaided = Counter(cause_of(i) for i in incidents.values() if i.id not in touched and cause_of(i))
    frequent = [(cause, times) for cause, times in unaided.most_common(5) if times >= _OFTEN]
    if frequent:
        text = f"Without any workflow: {names([f'{cause} ({times} times)' for cause, times in frequent])}."
        how = "Causes of at least two incidents that no workflow ran for; the next workflows to write."
        figures.append(Figure("Repeating causes to automate", len(frequent), "", text, how))
    missing = (
        []
        if found
        else [Gap("No workflow has finished, so none has a value yet.", "let a workflow run to its end, by a trigger or by hand")]
    )
    missing += [
        Gap(
            f"{name}: {one.succeeded} of {one.ended} runs succeed and {one.again} causes came back.",
            "look at its failed runs and change it",
        )
        for name, one in found.items()
        if not one.proven()
    ]
    value = score(sum(one.proven() for one in found.values()) / len(found)) if found else None
    return StepResult(
        7,
        "workflows",
        "Develop new analytical workflows",
        "late",
        "Which workflows are worth their keep, and which are still to write?",
        value,
        "Workflows of which four of five runs succeed and at most half of the causes come back / workflows that ran.",
        figures,
        missing,
    )


def _figure(name: str, one: Worth, incidents: dict[int, Incident]) -> Figure:
    spans: dict[bool, list[float]] = {True: [], False: []}
    for incident in incidents.values():
        if incident.resolved:
            spans[incident.id in one.incidents].append(max(0, incident.resolved - incident.opened) / SECOND)
    helped, other = middle(spans[True]), middle(spans[False])
    text = f"{one.succeeded} of {count(one.ended, 'run')} succeeded, for {count(len(one.incidents), 'incident')}; {one.again} came back."
    if helped is not None and other is not None:
        text += f" Its incidents last {span(helped)} in the median, others {span(other)}."
    how = "Runs succeeded / runs ended; come back = an incident of the same cause opened within 7 days after a run that succeeded."
    return Figure(name, percent(one.succeeded, one.ended), "% succeed", text, how)
