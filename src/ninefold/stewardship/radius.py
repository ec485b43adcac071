"""The blast radius of a source: everything that would be blind, late or wrong when the source is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import select

from ninefold.ground.clock import MINUTE
from ninefold.plugin import Store
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import Timeline
from ninefold.store.records.workflows import Dispatch

_MONTH = 30 * 24 * 60 * MINUTE
_MOST = 20
KPIS: Mapping[str, tuple[str, ...]] = {
    "alerts": ("Time to detect", "Time to acknowledge", "Time to resolve", "Noise reduction"), "changes": ("Change failure rate",),
    "tickets": ("Time to resolve",), "verdicts": ("Verdicts",),
}  # fmt: skip
"""KPIs of the roadmap by the kind of data they are computed from."""
_SERIES = "SELECT count() AS series, uniqExact(entity) AS entities FROM series WHERE source = {source:String}"
_RULES = """
SELECT kind, count() AS records, groupUniqArray(21)(if(attributes['alertname'] != '', attributes['alertname'], title)) AS rules
FROM event WHERE source = {source:String} AND received > now64(9) - INTERVAL 31 DAY AND time > now64(9) - INTERVAL 30 DAY
GROUP BY kind
"""
_OTHERS = """
SELECT DISTINCT source, need FROM (
    SELECT source, 'metrics' AS need FROM series GROUP BY source
    UNION ALL SELECT source, 'logs' FROM log WHERE time > now64(9) - INTERVAL 1 DAY GROUP BY source
    UNION ALL SELECT source, 'traces' FROM span WHERE time > now64(9) - INTERVAL 1 DAY GROUP BY source
    UNION ALL SELECT source, multiIf(kind = 'alert', 'alerts', kind = 'ticket', 'tickets', kind = 'verdict', 'verdicts', 'changes')
        FROM event WHERE kind IN ('alert', 'change', 'deployment', 'ticket', 'verdict')
        AND received > now64(9) - INTERVAL 31 DAY AND time > now64(9) - INTERVAL 30 DAY
        GROUP BY source, kind
) WHERE NOT startsWith(source, 'ninefold')
"""


class Described(Protocol):
    """The part of a workflow that is needed."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def source(self) -> str:
        """Its text."""


class Radius:
    """Answers what depends on a source.

    Args:
        store, records: what has flowed and what was made of it.
        workflows: those that are loaded.
        cases: use case -> the kinds of data it needs, as on the roadmap.
    """

    def __init__(self, store: Store, records: Records, workflows: Iterable[Described], cases: Mapping[str, Sequence[str]]) -> None:
        self._store, self._records, self._workflows, self._cases = store, records, list(workflows), cases

    def of(self, source: str, at: int) -> dict[str, Any]:
        """What depends on a source at a time (ns); every list has at most 20 names.

        Raises:
            Unavailable: the store or the records cannot answer now.
        """
        (series,) = self._store.query(_SERIES, {"source": source}).to_pylist()
        kinds = {row["kind"]: row for row in self._store.query(_RULES, {"source": source}).to_pylist()}
        rules = sorted({rule for kind in ("alert", "anomaly") if kind in kinds for rule in kinds[kind]["rules"]})
        flows = self._store.query(_OTHERS).to_pylist()
        mine = {row["need"] for row in flows if row["source"] == source}
        alone = mine - {row["need"] for row in flows if row["source"] != source}
        incidents, used = self._used(source, at - _MONTH)
        named = {workflow.name for workflow in self._workflows if source and source in workflow.source}
        return {
            "series": series["series"], "detectors": series["series"], "entities": series["entities"], "rules": rules[:_MOST],
            "incidents_30d": incidents, "workflows": sorted(named | used)[:_MOST],
            "kpis": sorted({kpi for need in mine for kpi in KPIS.get(need, ())}),
            "use_cases": {
                case: "lost" if set(needs) & alone else "weaker" for case, needs in sorted(self._cases.items()) if set(needs) & mine
            },
            "only_source_of": sorted(alone),
        }  # fmt: skip

    def _used(self, source: str, since: int) -> tuple[int, set[str]]:
        """How many incidents had something of this source on their timeline, and which workflows looked at them."""
        with self._records.reading() as session:
            numbers = set(session.scalars(select(Timeline.incident).where(Timeline.source == source, Timeline.time > since).distinct()))
            found: set[str] = set()
            some = sorted(numbers, reverse=True)[:500]
            if some:
                started = Dispatch.verdict.in_(("started", "observed"))
                found = set(session.scalars(select(Dispatch.workflow).where(Dispatch.incident.in_(some), started).distinct()))
        return len(numbers), found


def sentence(radius: Mapping[str, Any]) -> str:
    """The radius for people: ``It feeds 400 series with their detectors, 3 alert rules; lost without it: Explain causes.``"""
    parts = [f"{radius['series']:,} series with their detectors"] if radius["series"] else []
    parts += [f"{len(radius[key])} {word}{'' if len(radius[key]) == 1 else 's'}" for key, word in (
        ("rules", "alert rule"), ("workflows", "workflow"), ("kpis", "KPI")) if radius[key]]  # fmt: skip
    lost = [case for case, how in radius["use_cases"].items() if how == "lost"]
    text = f"It feeds {', '.join(parts)}" if parts else "Nothing is known to depend on it"
    return f"{text}; lost without it: {', '.join(lost)}." if lost else f"{text}."
