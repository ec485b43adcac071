"""How long rows are kept: by signal, and for single sources longer or shorter than their signal.

The engine's TTL drops whole parts, which costs nothing, and can only know a row's age. So a table's TTL is the longest time that any source
asks for, and what must go earlier is deleted by `Retention.deletions`, which run now and then and ask for rows of certain sources. Points
carry no source: theirs is that of their series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ninefold.store.schema import KEPT, RETENTION_DAYS

_BY_SERIES = frozenset(("metric", "exemplar", "histogram", "metric_1m", "metric_1h"))


class Deletion(NamedTuple):
    """Rows that are too old for their source: a condition with ``{days}`` and ``{names}`` as parameters."""

    table: str
    condition: str
    days: int
    names: tuple[str, ...]


class Retention:
    """The days to keep rows.

    Args:
        days: by signal (`metric`, `log`, `span`, `event`) and roll-up (`metric_1m`, `metric_1h`); what is missing has its default.
        sources: source -> signal -> days, where a source's rows are kept for another time than its signal's.
    """

    def __init__(self, days: Mapping[str, int], sources: Mapping[str, Mapping[str, int]]) -> None:
        self._days = {**RETENTION_DAYS, **days}
        self._sources = {name: dict(own) for name, own in sources.items()}

    @property
    def ttl_days(self) -> dict[str, int]:
        """Signal or roll-up -> the days of its tables' TTL: the longest that any source asks for."""
        return {signal: max([days, *self._own(signal).values()]) for signal, days in self._days.items()}

    def shortest(self, signals: Iterable[str]) -> tuple[int, str]:
        """The days after which the first rows of these signals go, and which: a signal, or a signal of a source."""
        own = [(days, f"{signal} of {name}") for signal in signals for name, days in self._own(signal).items()]
        return min([*((self._days[signal], signal) for signal in signals), *own])

    def ttl(self, table: str) -> tuple[int, str] | None:
        """The days of a table's TTL and the expression that says so; None when it is kept for good."""
        if table not in KEPT:
            return None
        signal, column = KEPT[table]
        days = self.ttl_days[signal]
        return days, f"toDateTime({column}) + toIntervalDay({days})"

    def deletions(self, database: str) -> Iterator[Deletion]:
        """What the TTL leaves although it is too old for its source."""
        for table, (signal, column) in KEPT.items():
            own, ttl = self._own(signal), self.ttl_days[signal]
            if table == "relation" or not own:  # a relation may be seen by several sources
                continue
            aged = f"{column} < now() - toIntervalDay({{days:UInt32}}) AND "
            for days in sorted({d for d in own.values() if d < ttl}):
                names = tuple(sorted(name for name, d in own.items() if d == days))
                yield Deletion(table, aged + _of_sources(table, database, "IN"), days, names)
            if self._days[signal] < ttl:
                yield Deletion(table, aged + _of_sources(table, database, "NOT IN"), self._days[signal], tuple(sorted(own)))

    def _own(self, signal: str) -> dict[str, int]:
        return {name: days[signal] for name, days in self._sources.items() if signal in days}


def _of_sources(table: str, database: str, is_in: str) -> str:
    if table not in _BY_SERIES:
        return f"source {is_in} {{names:Array(String)}}"
    # Points whose series is unknown belong to no source and keep their signal's time.
    of_them = f"(SELECT series FROM {database}.series WHERE source IN {{names:Array(String)}})"  # noqa: S608 - our names
    return f"series {is_in} {of_them}"
