"""Step 9: the analytical techniques at work, what each put out, and how much of it mattered."""

from __future__ import annotations

from importlib.metadata import entry_points

from sqlalchemy import select

from ninefold.plugin import Store
from ninefold.roadmap.answer import OWN, Figure, Gap, StepResult, count, percent, rows, score
from ninefold.roadmap.kpis import SHOWN
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import AlertState, Incident

_FOUND = """
SELECT attributes['technique'] AS technique, count() AS findings, uniqExact(entity) AS entities, groupUniqArray(fingerprint) AS marks
FROM event WHERE kind = 'anomaly' AND status != 'resolved' AND attributes['technique'] != '' GROUP BY technique ORDER BY technique
"""
_EMITTED = """
SELECT s.attributes['technique'] AS technique, max(m.value) AS emitted FROM metric AS m
INNER JOIN (SELECT series, attributes FROM series WHERE name = 'ninefold_techniques_sent_total') AS s ON m.series = s.series
WHERE m.series IN (SELECT series FROM series WHERE name = 'ninefold_techniques_sent_total') GROUP BY technique
"""
_LEARNED = """
SELECT (SELECT uniqExact(pattern) FROM log WHERE pattern != 0) AS templates, (SELECT count() FROM log) AS lines,
       (SELECT count() FROM relation) AS edges
"""


def registered() -> dict[str, str]:
    """technique -> the package that brought it."""
    return {entry.name: entry.dist.name if entry.dist else "" for entry in entry_points(group="ninefold.techniques")}


def measure(store: Store, records: Records) -> StepResult:
    """Techniques registered, their findings, and the share of these that people got to see in an incident."""
    packages = registered()
    found = {row["technique"]: row for row in rows(store, _FOUND)}
    emitted = {row["technique"]: int(row["emitted"]) for row in rows(store, _EMITTED)}
    with records.reading() as session:
        shown = select(AlertState.fingerprint).join(Incident, Incident.id == AlertState.incident)
        marks = set(session.scalars(shown.where(AlertState.kind == "anomaly", *SHOWN)))
    every = sorted({*packages, *found, *emitted})
    custom = [name for name in every if packages.get(name, OWN) != OWN]
    figures = [
        Figure(
            "Techniques registered",
            len(packages),
            "",
            f"{count(len(packages) - len(custom), 'technique')} built in, {len(custom)} of your own.",
            "Entry points of the group ninefold.techniques.",
        )
    ]
    for name in every:
        row = found.get(name)
        if row is None and name not in emitted:
            continue
        seen = [mark for mark in row["marks"] if mark in marks] if row else []
        text = f"{count(row['findings'] if row else 0, 'anomaly event')} on {count(row['entities'] if row else 0, 'entity')}".replace(
            "entitys", "entities"
        )
        text += f"; {len(seen)} of {count(len(row['marks']), 'distinct finding')} belong to an incident shown." if row else "."
        how = "Rows put out by the technique (findings, bands, templates, edges) since the program started; findings are kept for good."
        figures.append(Figure(name, emitted.get(name, row["findings"] if row else 0), "rows", text, how))
    figures += _learned(store)
    missing = [
        Gap(f"{name} has put nothing out yet.", "it needs more data, or data of another kind")
        for name in sorted(packages)
        if name not in found and name not in emitted
    ]
    if not custom:
        missing.append(
            Gap(
                "No technique of your own runs yet.",
                "a class with process, snapshot and restore under the entry point ninefold.techniques is one",
            )
        )
    working = sum(name in found or name in emitted for name in packages)
    return StepResult(
        9,
        "techniques",
        "Customize various analytical techniques",
        "late",
        "Which analyses run on this data, and what do they find?",
        score(working / len(packages)) if packages and working else None,
        "Techniques that put something out / techniques registered.",
        figures,
        missing,
    )


def _learned(store: Store) -> list[Figure]:
    (row,) = rows(store, _LEARNED)
    made = []
    if row["templates"]:
        text = f"{row['lines']:,} log lines follow {count(row['templates'], 'template')}."
        made.append(
            Figure(
                "Log templates",
                row["templates"],
                "",
                text,
                f"Distinct patterns of stored log lines; {percent(row['templates'], row['lines']):g} % of the lines.",
            )
        )
    if row["edges"]:
        made.append(
            Figure(
                "Topology edges",
                row["edges"],
                "",
                f"{count(row['edges'], 'relation')} between entities are known.",
                "Distinct relations, learned from spans or sent in.",
            )
        )
    return made
