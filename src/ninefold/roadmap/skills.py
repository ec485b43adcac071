"""Step 8: people as auditors: how many machine decisions were checked, and how often people (or labels) agree."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select

from ninefold.ground.clock import SECOND
from ninefold.plugin import Store
from ninefold.roadmap.answer import Figure, Gap, StepResult, count, middle, names, percent, score, span
from ninefold.roadmap.kpis import SHOWN
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import Incident, Timeline
from ninefold.store.records.workflows import Approval

_BY_PEOPLE = ("acknowledged", "assigned", "mitigated", "severity", "teams", "resolved", "reopened", "verdict")
_OWN = ("", "ninefold")


def measure(store: Store, records: Records) -> StepResult:
    """Verdicts and agreement with causes, causes against labels where the data has them, approvals decided, who took part."""
    with records.reading() as session:
        incidents = session.scalars(select(Incident).where(*SHOWN)).all()
        acted = select(Timeline.actor).where(Timeline.kind.in_(_BY_PEOPLE), Timeline.actor.not_in(_OWN)).distinct()
        people = set(session.scalars(acted))
        asked = select(Approval).where(Approval.status.in_(("approved", "rejected", "skipped")))
        decided = session.scalars(asked).all()
    people |= {approval.actor for approval in decided if approval.actor not in _OWN}
    verdicts = Counter(i.feedback for i in incidents if i.feedback)
    labelled = [i for i in incidents if i.truth]
    checked = sum(bool(i.feedback or i.truth) for i in incidents)
    figures = [*_verdicts(verdicts, len(incidents)), *_labels(labelled)]
    if decided:
        approved = sum(approval.status == "approved" for approval in decided)
        wait = middle((approval.decided - approval.requested) / SECOND for approval in decided if approval.decided)
        text = f"{approved} approved, {len(decided) - approved} not" + (f"; half within {span(wait)}." if wait is not None else ".")
        figures.append(Figure("Approvals decided", len(decided), "", text, "Questions of workflows answered by a person."))
    if people:
        text = f"{names(sorted(people))} acted on incidents or approvals."
        figures.append(
            Figure("People taking part", len(people), "", text, "Distinct actors of acknowledgements, verdicts, resolutions and approvals.")
        )
    missing = []
    if not verdicts:
        missing.append(
            Gap("Nobody has judged an incident yet.", "press Useful, Noise or Wrong cause on an incident; each verdict is a label")
        )
    if not decided:
        missing.append(Gap("Nobody has decided an approval yet.", "mark a workflow's step as dangerous, or set its mode to approve"))
    value = score(checked / len(incidents)) if incidents and checked else None
    return StepResult(
        8,
        "skills",
        "Help the organization adopt new skill sets",
        "late",
        "Do people check what the machine decides, and do they agree?",
        value,
        "Incidents with a verdict or a label / incidents.",
        figures,
        missing,
    )


def _verdicts(verdicts: Counter[str], incidents: int) -> list[Figure]:
    given = sum(verdicts.values())
    if not given:
        return []
    words = ", ".join(f"{number} {verdict.replace('_', ' ')}" for verdict, number in verdicts.most_common())
    about_causes = verdicts["useful"] + verdicts["wrong_cause"]
    made = [
        Figure("Verdicts given", given, "", f"On {count(incidents, 'incident')}: {words}.", "Incidents with a person's verdict."),
        Figure(
            "Not noise",
            percent(given - verdicts["noise"], given),
            "%",
            f"{verdicts['noise']} of {count(given, 'verdict')} said noise.",
            "1 - verdicts of noise / verdicts.",
        ),
    ]
    if about_causes:
        text = f"People agreed with {verdicts['useful']} of {count(about_causes, 'machine cause')}."
        made.append(Figure("Agreement on causes", percent(verdicts["useful"], about_causes), "%", text, "Useful / (useful + wrong cause)."))
    return made


def _labels(labelled: list[Incident]) -> list[Figure]:
    """Labelled data knows the truth without asking anybody; the label is never used to find the cause."""
    if not labelled:
        return []
    named = [i for i in labelled if i.cause]
    right = sum((i.cause or {}).get("entity") == (i.truth or {}).get("entity") for i in named)
    silent = len(labelled) - len(named)
    text = f"The cause named first is the true one in {right} of {count(len(labelled), 'labelled incident')}; {silent} undetermined."
    how = "Incidents whose probable cause is the entity of the data set's true fault / incidents with a known true fault."
    return [Figure("Causes that match the labels", percent(right, len(labelled)), "%", text, how)]
