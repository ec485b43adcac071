"""Step 4: what the data of each source looks like, how much of it fits the common model, how fine it is."""

from __future__ import annotations

from typing import Any

from ninefold.plugin import Store
from ninefold.roadmap import sources
from ninefold.roadmap.answer import OWN, Figure, Gap, StepResult, count, names, percent, rows, score, span
from ninefold.store.records.base import Records

_FIELDS = """
SELECT source, uniqExact(field) AS fields, groupUniqArray(6)(field) AS examples FROM (
    SELECT source, arrayJoin(mapKeys(attributes)) AS field FROM series
    UNION ALL SELECT source, arrayJoin(arrayConcat(mapKeys(attributes), mapKeys(resource))) FROM log
        WHERE time > (SELECT max(time) FROM log) - INTERVAL 1 HOUR
    UNION ALL SELECT source, arrayJoin(arrayConcat(mapKeys(attributes), mapKeys(resource))) FROM span
        WHERE time > (SELECT max(time) FROM span) - INTERVAL 1 HOUR
    UNION ALL SELECT source, arrayJoin(mapKeys(attributes)) FROM event WHERE time > (SELECT max(time) FROM event) - INTERVAL 1 DAY
) WHERE NOT startsWith(source, {own:String}) AND NOT startsWith(field, 'ninefold.') GROUP BY source ORDER BY fields DESC, source
"""
_MAPPED = """
SELECT 'metric series' AS what, count() AS records, countIf(entity != '') AS named FROM series WHERE NOT startsWith(source, {own:String})
UNION ALL SELECT 'log lines', count(), countIf(entity != '') FROM log WHERE NOT startsWith(source, {own:String})
UNION ALL SELECT 'spans', count(), countIf(entity != '') FROM span WHERE NOT startsWith(source, {own:String})
UNION ALL SELECT 'events', count(), countIf(entity != '') FROM event WHERE NOT startsWith(source, {own:String})
"""
_LEVELS = "SELECT count() AS records, countIf(severity_number > 0) AS levelled FROM log WHERE NOT startsWith(source, {own:String})"
_KINDS = """
SELECT count() AS records, countIf(kind != 'unknown') AS kinds, countIf(unit != '') AS units
FROM series WHERE NOT startsWith(source, {own:String})
"""
_REFUSED = """
SELECT (SELECT count() FROM quarantine) AS refused, (SELECT count() FROM quarantine WHERE state = 'waiting') AS waiting,
       (SELECT count() FROM metric) + (SELECT count() FROM log) + (SELECT count() FROM span) + (SELECT count() FROM event) AS kept
"""


def measure(store: Store, records: Records) -> StepResult:
    """Fields discovered, shares that map to the common model, quarantine, granularity."""
    figures = [
        Figure(
            f"Fields of {row['source']}",
            row["fields"],
            "",
            f"Among them {names(sorted(row['examples']))}.",
            "Distinct attribute names: of all its series, its newest hour of logs and spans, its newest day of events.",
        )
        for row in rows(store, _FIELDS, own=OWN)[:6]
    ]
    mapped = [row for row in rows(store, _MAPPED, own=OWN) if row["records"]]
    if mapped:
        parts = [f"{percent(row['named'], row['records']):g} % of {row['what']}" for row in mapped]
        total, named = sum(row["records"] for row in mapped), sum(row["named"] for row in mapped)
        figures.append(
            Figure(
                "Records that name an entity",
                percent(named, total),
                "%",
                f"{', '.join(parts)}.",
                "Records with a service, pod, host or instance / all records; without one they cannot be grouped or related.",
            )
        )
    figures += _typed(store)
    refused, kept = _refused(store, figures)
    known = sources.facts(records)
    figures += _discovered(known) + _granularity(store, known)
    fits = sum(row["named"] / row["records"] for row in mapped) / len(mapped) if mapped else None
    missing = [] if mapped else [Gap("No data model can be read before data flows.", "see step 1 for the first source to connect")]
    missing += [
        Gap(
            f"Only {percent(row['named'], row['records']):g} % of {row['what']} name an entity.",
            "set service.name, host.name or instance at the sender",
        )
        for row in mapped
        if row["named"] < 0.9 * row["records"]
    ]
    return StepResult(
        4,
        "data_models",
        "Evaluate current and future data models",
        "middle",
        "Does the data of every source fit one common model?",
        score(fits, 1 - refused / (refused + kept)) if mapped else None,
        "The mean of the share of records that name an entity (each signal counts the same) and the share not quarantined.",
        figures,
        missing,
    )


def _typed(store: Store) -> list[Figure]:
    (levels,), (kinds,) = rows(store, _LEVELS, own=OWN), rows(store, _KINDS, own=OWN)
    made = []
    if levels["records"]:
        text = f"{levels['levelled']:,} of {count(levels['records'], 'log line')} have a severity, sent or read from their text."
        share = percent(levels["levelled"], levels["records"])
        made.append(Figure("Log lines with a severity", share, "%", text, "Log lines with severity_number > 0 / all log lines."))
    if kinds["records"]:
        text = f"{kinds['kinds']:,} of {kinds['records']:,} series say whether they are gauge or counter; {kinds['units']:,} carry a unit."
        made.append(
            Figure("Series of known kind", percent(kinds["kinds"], kinds["records"]), "%", text, "Series whose kind is known / all series.")
        )
    return made


def _refused(store: Store, figures: list[Figure]) -> tuple[int, int]:
    (row,) = rows(store, _REFUSED)
    refused, kept = int(row["refused"]), int(row["kept"])
    if refused + kept:
        text = f"{count(refused, 'record')} could not be understood beside {kept:,} kept; {row['waiting']} wait to be replayed."
        how = "Quarantined records / (quarantined + kept metric points, log lines, spans and events)."
        figures.append(Figure("Quarantined", percent(refused, refused + kept), "%", text, how))
    return refused, kept


def _discovered(known: dict[str, dict[str, Any]]) -> list[Figure]:
    """How many types of records have a model that has settled, and how stable those are."""
    models = [(source, model) for source, found in known.items() for model in found["models"]]
    if not models:
        return []
    settled = [(source, model) for source, model in models if model["version"]]
    text = f"{len(settled)} of {count(len(models), 'type')} of records of {count(len(known), 'source')} have a settled model"
    text += f", with {sum(model['fields'] for _, model in settled):,} fields." if settled else "; a model learns for an hour."
    how = "Types (source, signal, kind and format) whose model is version 1 or later / all types seen by the source watch."
    made = [Figure("Data models discovered", percent(len(settled), len(models)), "%", text, how)]
    if settled:
        later = [f"{source} ({model['signal']} {model['type']}".strip() + f", version {model['version']})" for source, model in settled
                 if model["version"] > 1]  # fmt: skip
        text = f"Changed since they settled: {names(later)}." if later else "None has changed since it settled."
        share = percent(len(settled) - len(later), len(settled))
        made.append(Figure("Stable data models", share, "%", text, "Settled models that are still version 1 / settled models."))
    return made


def _granularity(store: Store, known: dict[str, dict[str, Any]]) -> list[Figure]:
    measured = [flow for flow in sources.flowing(store) if flow.finest_s is not None]
    if not measured:
        return []
    finest = min(measured, key=lambda flow: flow.finest_s or 0.0)
    coarsest = max(measured, key=lambda flow: flow.interval_s or 0.0)
    text = f"The finest series of {finest.name} has a point every {span(finest.finest_s or 0)}"
    text += "." if coarsest is finest else f"; those of {coarsest.name} have one every {span(coarsest.interval_s or 0)}."
    made = [
        Figure(
            "Finest granularity",
            finest.finest_s,
            "s",
            text,
            "Smallest median time between two points of a series (up to 50 series a source).",
        )
    ]
    watched = {
        name: found["completeness"] for name, found in known.items() if "metric" in found["types"] and found["completeness"] is not None
    }
    if watched:
        worst = min(watched, key=lambda name: watched[name])
        text = f"{worst} has most gaps: {100 * (1 - watched[worst]):.2g} % of what should have come." if watched[worst] < 1 else "No gaps."
        share = round(100 * sum(watched.values()) / len(watched), 2)
        how = "Per source of metrics the points that came / (came + missing in the series followed) x records that could be read; the mean."
        made.append(Figure("Points measured, not missing", share, "%", text, how))
    return made
