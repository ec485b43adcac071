"""Finding series by matchers and loading their samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from promql_parser import MatchOp

from ninefold.ground.errors import BadData
from ninefold.plugin import Store
from ninefold.promql import histograms, rolled
from ninefold.promql.histograms import Part
from ninefold.promql.matrix import NAME, Labels, Samples, newest, runs

SAMPLES = 20_000_000
"""Most samples one query may load."""
_SERIES = 200_000
_OTHER = re.compile(r"[^a-zA-Z0-9_]")
_OTHER_IN_NAME = re.compile(r"[^a-zA-Z0-9_:]")
_NAME_SQL = "replaceRegexpAll(name, '[^a-zA-Z0-9_:]', '_')"
_LABEL_SQL = (
    "if(mapContains(attributes, {l}), attributes[{l}], "
    "attributes[arrayFirst(k -> replaceRegexpAll(k, '[^a-zA-Z0-9_]', '_') = {l}, mapKeys(attributes))])"
)
_TESTS = {"=": "{a} = {b}", "!=": "{a} != {b}", "=~": "match({a}, {b})", "!~": "NOT match({a}, {b})"}
_OPS = {str(MatchOp.Equal): "=", str(MatchOp.NotEqual): "!=", str(MatchOp.Re): "=~", str(MatchOp.NotRe): "!~"}


class Match(NamedTuple):
    """One condition on a label: `op` is =, !=, =~ or !~."""

    label: str
    op: str
    value: str


def matches_of(selector: Any) -> list[Match]:
    """The conditions of a parsed selector, its name among them.

    Raises:
        BadData: the selector uses ``or`` between matchers, which is not supported.
    """
    if selector.matchers.or_matchers:
        raise BadData("`or` between matchers is not supported; write a regular expression or use the operator `or`")
    named = [Match(NAME, "=", selector.name)] if selector.name else []
    return named + [Match(m.name, _OPS[str(m.op)], m.value) for m in selector.matchers.matchers]


class Selector:
    """Reads series and samples of one store.

    Attributes:
        store: it.
        warnings: what whoever asked should know about what was read.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.warnings: list[str] = []

    def series(self, wanted: Sequence[Sequence[Match]], begin: int = 0, end: int = 0) -> list[tuple[int, Labels]]:
        """Series that fulfil all conditions of any of the groups in `wanted` (all series when there is none), as (id, labels).

        `begin` and `end` (ms) leave out series without a sample in between; 0 and 0 keep all.

        Raises:
            BadData: a regular expression is wrong, or more series match than one query may touch.
        """
        where, parameters = _where(wanted, begin, end)
        found = self.store.query(f"SELECT series, name, attributes FROM series WHERE {where} LIMIT {_SERIES + 1}", parameters)  # noqa: S608 - parameters
        if found.num_rows > _SERIES:
            raise BadData(f"more than {_SERIES:,} series match; narrow the selector")
        rows = zip(found["series"].to_pylist(), found["name"].to_pylist(), found["attributes"].to_pylist(), strict=True)
        return sorted(((series, labels_of(name, attributes)) for series, name, attributes in rows), key=lambda row: sorted(row[1].items()))

    def label_names(self, wanted: Sequence[Sequence[Match]], begin: int = 0, end: int = 0) -> list[str]:
        """The names of all labels of the series that `series` would find, however many they are."""
        where, parameters = _where(wanted, begin, end)
        found = self.store.query(f"SELECT DISTINCT arrayJoin(mapKeys(attributes)) AS name FROM series WHERE {where}", parameters)  # noqa: S608 - parameters
        return sorted({NAME, *(_OTHER.sub("_", name) for name in found["name"].to_pylist())})

    def label_values(self, label: str, wanted: Sequence[Sequence[Match]], begin: int = 0, end: int = 0) -> list[str]:
        """All values of a label of the series that `series` would find, however many they are."""
        where, parameters = _where(wanted, begin, end)
        value = _NAME_SQL if label == NAME else _LABEL_SQL.replace("{l}", "{label:String}")
        found = self.store.query(f"SELECT DISTINCT {value} AS word FROM series WHERE {where}", {**parameters, "label": label})  # noqa: S608 - parameters
        return sorted(word for word in found["word"].to_pylist() if word)

    def samples(self, wanted: Sequence[Match], begin: int, end: int, want: rolled.Want = "last", part: Part = "") -> Samples:
        """The samples of the matching series after `begin` and up to `end` (ms); `want` of a roll-up where they are no longer kept; or
        a `part` of their native histograms.

        Raises:
            BadData: as `series`, or there are more samples than one query may load, or there are native histograms in their place.
        """
        known = self.series([wanted])
        if part:
            return histograms.read(self.store, dict(known), begin, end, part)
        parameters: dict[str, Any] = {"ids": [series for series, _ in known]}
        found = self.store.query(
            "SELECT series, intDiv(toUnixTimestamp64Nano(time), 1000000) AS at, value FROM metric "  # noqa: S608 - parameters
            f"WHERE series IN {{ids:Array(UInt64)}} AND {_between(begin, end, parameters)} ORDER BY series, time LIMIT {SAMPLES + 1}",
            parameters,
        )
        if found.num_rows > SAMPLES:
            raise BadData(f"the query would load more than {SAMPLES:,} samples; narrow the selector or shorten the range")
        owner, times, values = (found[name].to_numpy() for name in ("series", "at", "value"))
        once = newest(owner, times)
        owner, times, values = owner[once], times[once].astype(np.int64), values[once]
        raw = rolled.Points(owner, times, values, np.ones(len(owner)))
        points = rolled.complete(self.store, parameters["ids"], raw, begin, end, want, SAMPLES)
        if points is not raw and rolled.WARNING not in self.warnings:
            self.warnings.append(rolled.WARNING)
        self._refuse_histograms(known, np.unique(points.owner), begin, end)
        starts, edges = runs(points.owner)
        labels, weights = dict(known), None if points is raw else points.weights
        return Samples([labels[int(series)] for series in points.owner[starts]], points.times, points.values, edges, weights)

    def _refuse_histograms(self, known: Sequence[tuple[int, Labels]], answered: Any, begin: int, end: int) -> None:
        """Native histograms among series that have no samples: alone they are refused, beside others they are left out with a warning.

        Raises:
            BadData: there is nothing else.
        """
        lacking = np.setdiff1d(np.array([series for series, _ in known], np.uint64), answered).tolist()
        if not histograms.exist(self.store, lacking, begin, end):
            return
        how = "ask histogram_quantile(), _count(), _sum() or _avg() of it"
        name = known[0][1].get(NAME, "")
        if not len(answered):
            raise BadData(f"{name} is a native histogram; {how}")
        warning = f"series of {name} that are native histograms were left out; {how}"
        if warning not in self.warnings:
            self.warnings.append(warning)


def labels_of(name: str, attributes: Any) -> Labels:
    """Prometheus' labels of a series; where two attributes become the same label, the first stays."""
    labels = {NAME: _OTHER_IN_NAME.sub("_", name)} if name else {}
    for key, value in attributes.items() if isinstance(attributes, dict) else attributes:
        if value:
            labels.setdefault(_OTHER.sub("_", key), value)
    return labels


def _where(wanted: Sequence[Sequence[Match]], begin: int, end: int) -> tuple[str, dict[str, Any]]:
    """The condition on series, and its parameters."""
    parameters: dict[str, Any] = {}
    groups = [" AND ".join(_condition(match, parameters) for match in group) or "1" for group in wanted]
    where = " OR ".join(f"({group})" for group in groups) or "1"
    if end:
        hours = (
            "time >= toStartOfHour(fromUnixTimestamp64Nano({begin:Int64}, 'UTC')) AND time <= fromUnixTimestamp64Nano({end:Int64}, 'UTC')"
        )
        parameters |= {"begin": begin * 1_000_000, "end": end * 1_000_000}
        where = f"({where}) AND series IN (SELECT series FROM metric_1h WHERE {hours})"  # noqa: S608 - parameters
    return where, parameters


def _condition(match: Match, parameters: dict[str, Any]) -> str:
    value = match.value
    if match.op in ("=~", "!~"):
        value = f"^(?s:{value})$"
        try:
            pc.match_substring_regex(pa.array([""]), value)  # the store's kind of regular expression, too
        except pa.ArrowInvalid as error:
            raise BadData(f"{match.value!r} is not a regular expression: {error}", match.label) from None
    place = len(parameters)
    parameters[f"v{place}"] = value
    if match.label == NAME:
        left = _NAME_SQL
    else:
        parameters[f"l{place}"] = match.label
        left = _LABEL_SQL.replace("{l}", f"{{l{place}:String}}")
    return _TESTS[match.op].replace("{a}", left).replace("{b}", f"{{v{place}:String}}")


def _between(begin: int, end: int, parameters: dict[str, Any]) -> str:
    parameters |= {"begin": begin * 1_000_000, "end": end * 1_000_000 + 999_999}
    return "time > fromUnixTimestamp64Nano({begin:Int64}, 'UTC') AND time <= fromUnixTimestamp64Nano({end:Int64}, 'UTC')"
