"""Step 5: how incidents are really handled, mined from their timelines as a directly-follows graph (van der Aalst, *Process
Mining*, 2016): which activity follows which, how often, after how long."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from sqlalchemy import select

from ninefold.ground.clock import SECOND
from ninefold.plugin import Store
from ninefold.roadmap.answer import Figure, Gap, StepResult, count, middle, percent, score, span
from ninefold.roadmap.kpis import SHOWN
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import Incident, Timeline

NEWEST = 2000
"""Incidents mined, the newest first."""
ACTIVITIES = (
    "opened",
    "cause",
    "acknowledged",
    "assigned",
    "page",
    "mitigated",
    "ticket",
    "workflow",
    "approval",
    "verdict",
    "resolved",
    "reopened",
)
HANDLING = frozenset(ACTIVITIES) - {"opened", "cause", "resolved", "reopened"}
"""Activities that show somebody, or a workflow, at work."""
_EDGES_SHOWN = 5

Trace = Sequence[tuple[str, int]]
"""The activities of one incident in order of time (ns); the same activity in a row is one."""


def traces(records: Records) -> dict[int, list[tuple[str, int]]]:
    """incident -> its trace."""
    found: dict[int, list[tuple[str, int]]] = {}
    with records.reading() as session:
        newest = select(Incident.id).where(*SHOWN).order_by(Incident.id.desc()).limit(NEWEST)
        lines = select(Timeline.incident, Timeline.kind, Timeline.time)
        lines = lines.where(Timeline.incident.in_(newest), Timeline.kind.in_(ACTIVITIES)).order_by(Timeline.time, Timeline.id)
        for incident, kind, time in session.execute(lines):
            trace = found.setdefault(incident, [])
            if not trace or trace[-1][0] != kind:
                trace.append((kind, time))
    return found


def follows(found: Iterable[Trace]) -> dict[tuple[str, str], list[float]]:
    """(activity, next activity) -> the waits between them in seconds."""
    waits: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trace in found:
        for (before, at), (after, then) in pairwise(trace):
            waits[before, after].append((then - at) / SECOND)
    return waits


def measure(store: Store, records: Records) -> StepResult:
    """Paths, their waits, rework, and how much of the handling is visible at all."""
    found = traces(records)
    title, question = "Analyze existing workflows", "How are incidents really handled, and where do they wait?"
    if not found:
        gap = Gap("No incident has been handled yet.", "let alerts flow; every incident's timeline is mined as it grows")
        return StepResult(5, "processes", title, "middle", question, missing=[gap])
    waits = follows(found.values())
    over = {incident: trace for incident, trace in found.items() if any(kind == "resolved" for kind, _ in trace)}
    handled = sum(any(kind in HANDLING for kind, _ in trace) for trace in over.values())
    figures = [*_paths(found), *_edges(waits), *_rework(found)]
    missing = []
    if over:
        figures.append(
            Figure(
                "Handling on record",
                percent(handled, len(over)),
                "%",
                f"{handled} of {count(len(over), 'resolved incident')} show a person or a workflow at work.",
                "Resolved incidents with an acknowledgement, owner, ticket, workflow, approval or verdict / resolved incidents.",
            )
        )
    if handled < len(over):
        missing.append(
            Gap(
                f"Nothing is known of how {count(len(over) - handled, 'incident')} ended.",
                "acknowledge incidents, or connect the tracker where they are handled",
            )
        )
    if not any(kind == "ticket" for trace in found.values() for kind, _ in trace):
        missing.append(Gap("What happens in tickets is not seen.", "configure a connector to your tracker under `connectors:`"))
    return StepResult(
        5,
        "processes",
        title,
        "middle",
        question,
        score(handled / len(over)) if over else None,
        "Resolved incidents whose handling is on record / resolved incidents.",
        figures,
        missing,
    )


def _paths(found: Mapping[int, Trace]) -> list[Figure]:
    paths = Counter(" → ".join(kind for kind, _ in trace) for trace in found.values())
    path, times = paths.most_common(1)[0]
    lengths = [len(trace) for trace in found.values()]
    return [
        Figure(
            "Paths",
            len(paths),
            "",
            f"{count(len(found), 'incident')} took {count(len(paths), 'different path')} of {median(lengths):g} steps in the median.",
            f"Distinct sequences of {', '.join(ACTIVITIES)} on the newest {NEWEST:,} timelines; repeats count once.",
        ),
        Figure(
            "Most common path",
            percent(times, len(found)),
            "%",
            f"{path}: {count(times, 'incident')}.",
            "Incidents on the most frequent path / all.",
        ),
    ]


def _edges(waits: Mapping[tuple[str, str], list[float]]) -> list[Figure]:
    if not waits:
        return []
    often = sorted(waits, key=lambda edge: (-len(waits[edge]), edge))[:_EDGES_SHOWN]
    slow = max((edge for edge in waits if edge[0] != "resolved"), key=lambda edge: (sum(waits[edge]), edge))
    made = [
        Figure(
            f"{before} → {after}",
            len(waits[before, after]),
            "times",
            f"Follows after {span(max(0.0, median(waits[before, after])))} in the median.",
            "How often the second activity came directly after the first, over all incidents.",
        )
        for before, after in often
    ]
    text = f"{slow[0]} → {slow[1]} took {span(max(0.0, sum(waits[slow])))} in all, over {count(len(waits[slow]), 'passage')}."
    how = "The pair of activities with the largest sum of waits, from opened to resolved; the value is their median wait."
    return [*made, Figure("Where time goes", middle(waits[slow]), "s", text, how)]


def _rework(found: Mapping[int, Trace]) -> list[Figure]:
    again = sum(any(kind == "reopened" for kind, _ in trace) for trace in found.values())
    text = f"{again} of {count(len(found), 'incident')} had to be opened again."
    return [Figure("Reopened", percent(again, len(found)), "%", text, "Incidents with a reopening / all incidents.")]
