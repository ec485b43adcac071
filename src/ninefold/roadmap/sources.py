"""Data freedom, the second half of step 1: which sources flow, how fresh their records are, how often they come."""

from __future__ import annotations

from dataclasses import dataclass, field

from ninefold.plugin import Store
from ninefold.roadmap.answer import OWN, Figure, count, middle, names, percent, rows, span

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
