"""Data freedom, the second half of step 1: which sources flow, how fresh their records are, how often they come, how free they are.

The freedom score and the data models of a source are measured by the source watch and read from the records; the rest is SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from ninefold.plugin import Store
from ninefold.roadmap.answer import OWN, Figure, Gap, count, middle, names, percent, rows, span
from ninefold.store.records.base import Records
from ninefold.store.records.sources import SourceFacts

STREAMING_S = 10.0
"""A source whose median delay is at most this streams; a slower one delivers in batches."""

_TIMED = """
SELECT source, '{table}' AS signal, count() AS records,
       quantile(0.5)(greatest(toUnixTimestamp64Nano(received) - toUnixTimestamp64Nano(time), 0)) / 1e9 AS delay_s
FROM {table} WHERE received > now64(9) - INTERVAL 1 DAY AND NOT startsWith(source, {{own:String}}) GROUP BY source
"""
_DELAYS = " UNION ALL ".join(_TIMED.format(table=table) for table in ("log", "span", "event"))
_SERIES = "SELECT source, count() AS records FROM series WHERE NOT startsWith(source, {own:String}) GROUP BY source"
_INTERVALS = """
SELECT source, median(gap) AS interval_s, min(gap) AS finest_s FROM (
    SELECT any(s.source) AS source, arraySort(groupUniqArray(toUnixTimestamp64Nano(m.time))) AS times,
           arrayReduce('median', arrayMap((a, b) -> b - a, arrayPopBack(times), arrayPopFront(times))) / 1e9 AS gap
    FROM metric AS m INNER JOIN (
        SELECT series, source FROM series WHERE NOT startsWith(source, {own:String}) ORDER BY series LIMIT 50 BY source
    ) AS s ON m.series = s.series
    WHERE m.time > (SELECT max(time) FROM metric) - INTERVAL 1 DAY
      AND m.series IN (SELECT series FROM series WHERE NOT startsWith(source, {own:String}) ORDER BY series LIMIT 50 BY source)
    GROUP BY m.series HAVING length(times) > 1
) GROUP BY source
"""


@dataclass(slots=True)
class Flow:
    """One source: records (series for metrics) by signal, median delay and median collection interval in seconds where known."""

    name: str
    records: dict[str, int] = field(default_factory=dict)
    delay_s: float | None = None
    interval_s: float | None = None
    finest_s: float | None = None


def flowing(store: Store) -> list[Flow]:
    """Every source but the program itself, by name; logs, spans and events of the last 24 hours, metric series as long as known."""
    found: dict[str, Flow] = {}
    for row in rows(store, _SERIES, own=OWN):
        found.setdefault(row["source"], Flow(row["source"])).records["metric"] = row["records"]
    for row in rows(store, _DELAYS, own=OWN):
        flow = found.setdefault(row["source"], Flow(row["source"]))
        flow.records[row["signal"]] = row["records"]
        flow.delay_s = min(row["delay_s"], flow.delay_s if flow.delay_s is not None else row["delay_s"])
    for row in rows(store, _INTERVALS, own=OWN):
        found[row["source"]].interval_s, found[row["source"]].finest_s = row["interval_s"], row["finest_s"]
    return sorted(found.values(), key=lambda flow: flow.name)


def streaming(flows: list[Flow]) -> float | None:
    """The share of sources with a known delay that stream, None when no delay is known."""
    known = [flow.delay_s for flow in flows if flow.delay_s is not None]
    return sum(delay <= STREAMING_S for delay in known) / len(known) if known else None


def facts(records: Records) -> dict[str, dict[str, Any]]:
    """What was last measured of every source, as the source watch keeps it, by name."""
    with records.reading() as session:
        return {row.source: row.facts for row in session.scalars(select(SourceFacts).order_by(SourceFacts.source))}


def free(known: dict[str, dict[str, Any]]) -> float | None:
    """The mean freedom of the sources that have a score, 0 to 1; None when none has."""
    scores = [found["score"] for found in known.values() if found["score"] is not None]
    return sum(scores) / len(scores) / 100 if scores else None


def freedoms(known: dict[str, dict[str, Any]]) -> list[Figure]:
    """The freedom of each source, least free first, with its own arithmetic."""
    scored = sorted((found for found in known.values() if found["score"] is not None), key=lambda found: (found["score"], found["source"]))
    made = []
    if scored:
        text = f"The least free is {scored[0]['source']} with {scored[0]['score']:g}, the freest {scored[-1]['source']} with "
        mean = middle([found["score"] for found in scored])
        how = "The median of the sources' freedom scores (0 to 100); each source's arithmetic is shown beside it."
        made.append(Figure("Freedom of the data", mean, "of 100", f"{text}{scored[-1]['score']:g}.", how))
    for found in scored[:6]:
        worst = next(iter(found["advice"]), None)
        text = f"It loses most by {worst['term']}: {worst['text']}." if worst else "Nothing has to be changed there."
        made.append(Figure(f"Freedom of {found['source']}", found["score"], "of 100", text, found["arithmetic"]))
    return made


def unfree(known: dict[str, dict[str, Any]], below: float = 60.0) -> list[Gap]:
    """Sources whose score is low, with the first advice."""
    return [
        Gap(f"The data of {found['source']} is not free: {found['score']:g} of 100.", found["advice"][0]["text"])
        for found in known.values()
        if found["score"] is not None and found["score"] < below and found["advice"]
    ]


def figures(flows: list[Flow]) -> list[Figure]:
    """What can be said about freedom of data."""
    made = [
        Figure(
            "Sources",
            len(flows),
            "",
            f"{count(len(flows), 'source')} delivered: {names([flow.name for flow in flows])}."
            if flows
            else "Nothing has been delivered yet.",
            "Distinct sources of logs, spans and events of the last 24 hours and of metric series; Ninefold's own data is left out.",
        )
    ]
    delays = {flow.name: flow.delay_s for flow in flows if flow.delay_s is not None}
    if delays:
        slowest = max(delays, key=lambda name: delays[name])
        fresh = sum(delay <= STREAMING_S for delay in delays.values())
        made += [
            Figure(
                "Median delay",
                middle(delays.values()),
                "s",
                f"From event to receipt; the slowest is {slowest} with {span(delays[slowest])}.",
                "Receive time minus event time over the last 24 hours: the median of each source (its fastest signal), then of these.",
            ),
            Figure(
                "Streaming sources",
                percent(fresh, len(delays)),
                "%",
                f"{fresh} of {count(len(delays), 'source')} deliver within {STREAMING_S:.0f} s"
                + ("." if fresh == len(delays) else "; the rest in batches."),
                f"Sources whose median delay is at most {STREAMING_S:.0f} s / sources with a delay.",
            ),
        ]
    intervals = {flow.name: flow.interval_s for flow in flows if flow.interval_s is not None}
    if intervals:
        rarest = max(intervals, key=lambda name: intervals[name])
        made.append(
            Figure(
                "Collection interval",
                middle(intervals.values()),
                "s",
                f"Metrics arrive this often; the rarest are from {rarest}, every {span(intervals[rarest])}.",
                "Per source the median time between two points of a series (up to 50 series, newest day); then the median of these.",
            )
        )
    return made
