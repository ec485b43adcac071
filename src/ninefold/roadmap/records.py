"""Step 2: which system is authoritative for each kind of record, how complete the records are, where systems disagree."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import func, select

from ninefold.plugin import Store
from ninefold.roadmap.answer import OWN, Figure, Gap, StepResult, count, names, percent, rows, score
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import RESOLVED, Incident, Ticket

KINDS = ("incident", "ticket", "change", "asset")
CLOSED = frozenset(("resolved", "closed", "done", "rejected", "deleted", "cancelled"))
"""A ticket's words for being over."""
_HINTS = {
    "incident": "let alerts flow; Ninefold opens the incidents",
    "ticket": "configure a connector to your tracker under `connectors:`; its tickets then come back as records",
    "change": "POST deployments and changes to /webhook/changes",
    "asset": "send traces or metrics with service.name, host.name or k8s.pod.name; they name your assets",
}
_DELIVERED = """
SELECT if(kind = 'deployment', 'change', kind) AS record, source, count() AS records, countIf(entity != '' AND title != '') AS complete
FROM event WHERE kind IN ('ticket', 'change', 'deployment') GROUP BY record, source ORDER BY records DESC, source
"""
_SEEN = """
SELECT DISTINCT source, entity FROM (
    SELECT source, entity FROM series UNION ALL SELECT source, entity FROM log UNION ALL SELECT source, entity FROM span
) WHERE entity != '' AND NOT startsWith(source, {own:String})
"""
_ASSETS = f"SELECT source, uniqExact(entity) AS records FROM ({_SEEN}) GROUP BY source ORDER BY records DESC, source"  # noqa: S608 - our own text
_SHARED = (
    f"SELECT count() AS assets, countIf(systems > 1) AS shared FROM (SELECT uniqExact(source) AS systems FROM ({_SEEN}) GROUP BY entity)"  # noqa: S608 - our own text
)
_STRANGERS = f"""
SELECT uniqExact(entity) AS alerted, uniqExactIf(entity, entity IN (SELECT entity FROM ({_SEEN}))) AS known
FROM event WHERE kind = 'alert' AND entity != ''
"""  # noqa: S608 - our own text


def measure(store: Store, records: Records) -> StepResult:
    """The systems of record that showed themselves, and what they agree on."""
    systems, complete, delivered = _systems(store, records)
    figures = [_system(kind, systems[kind]) for kind in KINDS if systems[kind]]
    if delivered:
        figures.append(
            Figure(
                "Complete records",
                percent(complete, delivered),
                "%",
                f"{complete:,} of {count(delivered, 'change or ticket record')} name what they are about and have a title.",
                "Change and ticket events with an entity and a title / all change and ticket events.",
            )
        )
    figures += _shared_assets(store)
    agreement = _tickets(records)
    if agreement is not None:
        figures.append(agreement)
    settled = sum({0: 0.0, 1: 1.0}.get(len(systems[kind]), 0.5) for kind in KINDS) / len(KINDS)
    agreed = agreement.value / 100 if agreement is not None and isinstance(agreement.value, float) else None
    missing = [Gap(f"No system of record for {kind}s has shown itself.", _HINTS[kind]) for kind in KINDS if not systems[kind]]
    missing += [
        Gap(f"{count(len(systems[kind]), 'system')} deliver {kind}s: {names(list(systems[kind]))}.", "agree on one, or say which wins")
        for kind in ("ticket", "change")
        if len(systems[kind]) > 1
    ]
    return StepResult(
        2,
        "records",
        "Reach consensus on system records",
        "early",
        "Which system has the last word on which record, and do they agree?",
        score(settled, agreed) if any(systems.values()) else None,
        "The mean of the share of record kinds with one system (half for several) and the share of tickets that agree.",
        figures,
        missing,
    )


def _systems(store: Store, records: Records) -> tuple[dict[str, dict[str, int]], int, int]:
    """kind -> system -> records, and how many change and ticket records are complete out of how many."""
    systems: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    complete = delivered = 0
    for row in rows(store, _DELIVERED):
        systems[row["record"]][row["source"]] = row["records"]
        complete, delivered = complete + row["complete"], delivered + row["records"]
    with records.reading() as session:
        incidents = session.scalar(select(func.count()).where(~Incident.pending, Incident.merged_into.is_(None))) or 0
        tickets = dict(session.execute(select(Ticket.system, func.count()).group_by(Ticket.system)).all())
    if incidents:
        systems["incident"] = {"Ninefold": incidents}
    for system, number in tickets.items():
        systems["ticket"].setdefault(system, number)
    assets = rows(store, _ASSETS, own=OWN)
    if assets:
        # Many sources name assets; the one that knows most of them is where they are read.
        systems["asset"] = {assets[0]["source"]: assets[0]["records"]}
    return systems, complete, delivered


def _system(kind: str, systems: dict[str, int]) -> Figure:
    first = next(iter(systems))
    others = [name for name in systems if name != first]
    text = f"{first} has {count(systems[first], kind)}" + (f"; also delivered by {names(others)}." if others else ".")
    how = "The source that delivered most; incidents are Ninefold's own, assets the distinct entities its telemetry names."
    return Figure(
        f"System of record for {kind}s", first, "", text if kind != "asset" else f"{first} names {count(systems[first], 'asset')}.", how
    )


def _shared_assets(store: Store) -> list[Figure]:
    (seen,) = rows(store, _SHARED, own=OWN)
    (alerted,) = rows(store, _STRANGERS, own=OWN)
    made = []
    if seen["assets"]:
        made.append(
            Figure(
                "Assets known to several sources",
                percent(seen["shared"], seen["assets"]),
                "%",
                f"{seen['shared']} of {count(seen['assets'], 'asset')} carry the same name in two or more sources.",
                "Entities named by telemetry of at least two sources / all entities named by telemetry.",
            )
        )
    if alerted["alerted"]:
        made.append(
            Figure(
                "Alerts about known assets",
                percent(alerted["known"], alerted["alerted"]),
                "%",
                f"{alerted['known']} of {count(alerted['alerted'], 'alerted asset')} also appear in metrics, logs or traces.",
                "Entities of alert events that telemetry names too / entities of alert events.",
            )
        )
    return made


def _tickets(records: Records) -> Figure | None:
    """How far tickets and their incidents say the same."""
    states: dict[bool, int] = defaultdict(int)
    with records.reading() as session:
        joined = select(Ticket.status, Incident.status).join(Incident, Incident.id == Ticket.incident)
        for ticket, incident in session.execute(joined):
            states[(ticket.lower() in CLOSED) == (incident == RESOLVED)] += 1
    total = states[True] + states[False]
    if not total:
        return None
    text = f"{states[True]} of {count(total, 'ticket')} are open or closed just as their incident is."
    return Figure(
        "Tickets that agree", percent(states[True], total), "%", text, "Tickets whose being over matches their incident's / all tickets."
    )
