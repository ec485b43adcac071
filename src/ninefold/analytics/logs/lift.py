"""Why a template surges: which attribute, resource or parameter value has a larger share of its lines than before.

Of each pair of entity and template, a fair sample of `SAMPLE` lines a minute is kept while the minute is open (the smallest hashes of
time and ordinal), and `USUAL` of them become its profile when it is over: how many lines had each field's value, halved when
there are many, so that it is always about the last hour or so. When the pair surges, the lines of its minute are compared with the profile:

    lift = share of the value now / share before,   explained = (found · share now - usual · share before) / (found - usual)

A value is named when it stands in at least `SUPPORT` sampled lines and has doubled its share or explains nearly all of the surge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ninefold.analytics.minutes import I64

SAMPLE, USUAL, SUPPORT = 16, 4, 5
BUDGET = 300
"""Lines a minute that are learned from, beside those of surges."""
PROFILES, VALUES, FIELD_LIMIT = 2000, 64, 60
_FULL, _LIFT, _NAMED = 200, 2.0, 3
_ROWS, _PIECES, _SLOTS, _TOP = 1 << 14, 4, 0xFFFF, 1 << 18
_MIX = np.uint64(0x9E3779B97F4A7C15)
_COLUMNS = ("severity_text", "body", "attributes", "resource")


class Lift(NamedTuple):
    """A field's value with its shares (0 to 1) of the lines of the surge and before, and the part of the surge it explains."""

    field: str
    value: str
    now: float
    before: float
    lines: int
    explained: float


class Profiles:
    """Samples of the open minutes, and the usual values of the fields of each pair (entity, template)."""

    def __init__(self, usual: Iterable[Sequence[Any]] = (), opened: pa.Table | None = None) -> None:
        self.usual: dict[tuple[int, int], tuple[int, int, Counter[tuple[str, str]]]] = {
            (entity, template): (heard, n, Counter({(field, value): count for field, value, count in values}))
            for entity, template, heard, n, values in usual
        }
        self.opened: list[pa.Table] = [] if opened is None or not opened.num_rows else [opened]
        self._bars = np.full(_SLOTS + 1, _TOP)

    def state(self) -> tuple[list[Any], pa.Table | None]:
        """What the constructor takes to continue here."""
        usual = [
            [*pair, heard, n, [[field, value, count] for (field, value), count in values.items()]]
            for pair, (heard, n, values) in self.usual.items()
        ]
        return usual, _best(self.opened) if self.opened else None

    def offer(self, rows: pa.RecordBatch, minutes: I64, entities: I64, templates: I64, times: I64, ordinals: I64) -> None:
        """Sample lines of open minutes; `ordinals` number all lines ever seen."""
        ranks = _ranks(times, ordinals)
        pairs = _codes(entities, templates)
        low = np.flatnonzero(ranks <= self._bars[pairs & _SLOTS])
        pieces = [low[minutes[low] == minute] for minute in np.unique(minutes[low]).tolist()]
        for some in (piece[first : first + _ROWS] for piece in pieces for first in range(0, len(piece), _ROWS)):
            chosen = some[_smallest(pairs[some], ranks[some])]
            taken = rows.select(_COLUMNS).take(pa.array(chosen))
            marks = {"minute": minutes, "entity": entities, "template": templates, "rank": ranks, "ordinal": ordinals}
            arrays = [pa.array(column[chosen]) for column in marks.values()]
            self.opened.append(pa.table([*arrays, *taken.columns], names=[*marks, *_COLUMNS]))
        if len(self.opened) >= _PIECES:
            self.opened = [_best(self.opened)]
            self._raise()

    def close(
        self, minute: int, roots: I64, surges: Mapping[tuple[int, int], tuple[float, float]], values: Callable[[int, str], Sequence[str]]
    ) -> dict[tuple[int, int], list[Lift]]:
        """Explain the surges that begin in a minute, and learn what is usual.

        Args:
            minute: its number; minutes come in order.
            roots: by template number, the template it has merged into.
            surges: what was found and expected of each pair that begins to surge.
            values: the values in the holes of a template (root) in a line.
        """
        if not self.opened:
            return {}
        table = _best(self.opened)
        self._bars[:] = _TOP
        at = table.column("minute").to_numpy()
        self.opened = [table.filter(pa.array(at > minute))] if (at > minute).any() else []
        rows = table.filter(pa.array(at == minute))
        wanted = self._wanted(rows, roots, surges)
        lines = iter(
            rows.select(_COLUMNS)
            .take(pa.array([i for some in wanted.values() for i in some], pa.int64()))
            .to_pylist(maps_as_pydicts="lossy")
        )
        result: dict[tuple[int, int], list[Lift]] = {}
        for pair, places in wanted.items():
            seen = [_fields(line, values(pair[1], line["body"])) for line in islice(lines, len(places))]
            _, n, usual = self.usual.get(pair, (0, 0, Counter()))
            if pair in surges and n >= USUAL:
                result[pair] = _lifts(seen, n, usual, *surges[pair])
            self._learn(pair, minute, n, usual, seen[:USUAL])
        if len(self.usual) >= PROFILES:
            self._forget()
        return result

    def renamed(self, places: I64) -> None:
        """Take over new numbers of templates: `places` by number, -1 for what is gone."""
        self._move(lambda entity, template: (entity, int(places[template])))
        self.opened = [_placed(table, "template", places) for table in self.opened]

    def renumber(self, places: I64) -> None:
        """Take over new numbers of entities: `places` by old number, -1 for those that are forgotten."""
        self._move(lambda entity, template: (int(places[entity]), template))
        self.opened = [_placed(table, "entity", places) for table in self.opened]

    def _wanted(self, rows: pa.Table, roots: I64, surges: Collection[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
        """The rows to look at, by pair: all of surges, a few of others, the less is known of them the sooner."""
        ranks, ordinals = rows.column("rank").to_numpy(), rows.column("ordinal").to_numpy()
        entities, templates = rows.column("entity").to_pylist(), roots[rows.column("template").to_numpy()].tolist()
        by_pair: dict[tuple[int, int], list[int]] = {}
        for row in np.lexsort((ordinals, ranks)).tolist():
            by_pair.setdefault((entities[row], templates[row]), []).append(row)
        wanted = {pair: by_pair[pair][:SAMPLE] for pair in surges if pair in by_pair}
        room = BUDGET
        for pair in sorted(by_pair, key=lambda pair: (self.usual.get(pair, (0, 0))[1], pair)):
            if room <= 0 or (pair not in self.usual and len(self.usual) >= PROFILES):
                continue
            if pair not in wanted:
                known = self.usual.get(pair, (0, 0))[1]
                wanted[pair] = by_pair[pair][: USUAL if known < 4 * USUAL else 1]
                room -= len(wanted[pair])
        return wanted

    def _raise(self) -> None:
        """Know from which rank on a line cannot be among the smallest of its pair any more, whatever comes."""
        table = self.opened[0]
        minutes, entities, templates, ranks = (table.column(name).to_numpy() for name in ("minute", "entity", "template", "rank"))
        self._bars[:] = _TOP
        if not (minutes == minutes[0]).all():
            return
        pairs, counts = np.unique(_codes(entities, templates), return_counts=True)
        last = ranks[np.cumsum(counts) - 1]
        slots = pairs & _SLOTS
        self._bars[slots] = 0
        np.maximum.at(self._bars, slots, np.where(counts >= SAMPLE, last, _TOP))

    def _move(self, to: Callable[[int, int], tuple[int, int]]) -> None:
        old, self.usual = self.usual, {}
        for pair, (heard, n, values) in old.items():
            place = to(*pair)
            if min(place) < 0:
                continue
            other = self.usual.get(place)
            self.usual[place] = (heard, n, values) if other is None else (max(heard, other[0]), n + other[1], values + other[2])

    def _learn(
        self, pair: tuple[int, int], minute: int, n: int, usual: Counter[tuple[str, str]], seen: Sequence[set[tuple[str, str]]]
    ) -> None:
        for fields in seen:
            usual.update(fields)
        n += len(seen)
        if n > _FULL:
            n, usual = n // 2, Counter({field: count // 2 for field, count in usual.items() if count > 1})
        if len(usual) > 2 * VALUES:
            usual = Counter(dict(sorted(usual.items(), key=lambda one: (-one[1], one[0]))[:VALUES]))
        self.usual[pair] = minute, n, usual

    def _forget(self) -> None:
        oldest = sorted(self.usual, key=lambda pair: (self.usual[pair][0], pair))
        for pair in oldest[: PROFILES // 4]:
            del self.usual[pair]


def _fields(line: Mapping[str, Any], values: Sequence[str]) -> set[tuple[str, str]]:
    fields = [*line["attributes"].items(), *line["resource"].items(), ("severity", line["severity_text"])]
    fields += [(f"#{i}", value) for i, value in enumerate(values, 1)]
    return {(field, value) for field, value in fields if value and len(value) <= FIELD_LIMIT}


def _lifts(seen: Sequence[set[tuple[str, str]]], n: int, usual: Counter[tuple[str, str]], found: float, expected: float) -> list[Lift]:
    """The values that explain a surge, the one that explains most first; of a field, and of a value, the first only."""
    lifts = []
    for (field, value), lines in Counter(one for fields in seen for one in fields).items():
        now, before = lines / len(seen), usual[field, value] / n
        explained = (found * now - expected * before) / max(found - expected, 1.0)
        if lines >= SUPPORT and explained >= 0.3 and now >= _LIFT * (before + 0.5 / n):
            lifts.append(Lift(field, value, now, before, lines, min(explained, 1.0)))
    lifts.sort(key=lambda lift: (-lift.explained, lift.before, lift.field[0] == "#", lift.field, lift.value))
    first = {lift.field: lift for lift in reversed(lifts)}
    same = {(lift.value, lift.lines): lift for lift in reversed(lifts)}  # a parameter is often an attribute too
    return [lift for lift in lifts if first[lift.field] is lift is same[lift.value, lift.lines]][:_NAMED]


def _codes(entities: I64, templates: I64) -> I64:
    """A number below 2**31 a pair; distinct entities may share one, which costs them a part of their samples."""
    return (entities & 0x3FFF) << 17 | templates & 0x1FFFF


def _ranks(times: I64, ordinals: I64) -> I64:
    """A hash of 18 bits a line."""
    mixed = (times.view(np.uint64) * _MIX + ordinals.view(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
    ranks: I64 = (mixed >> np.uint64(46)).view(np.int64)
    return ranks


def _smallest(pairs: I64, ranks: I64) -> I64:
    """The rows (at most `_ROWS`) with the `SAMPLE` smallest ranks of each pair, earlier rows first where ranks are equal."""
    packed = np.sort(pairs << 32 | ranks << 14 | np.arange(len(pairs)))
    group = packed >> 32
    begins = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    place = np.arange(len(packed)) - np.repeat(begins, np.diff(np.r_[begins, len(packed)]))
    return packed[place < SAMPLE] & (_ROWS - 1)


def _best(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all with the smallest ranks of each minute and pair, in the order of minute, pair and rank."""
    table = pa.concat_tables(tables).combine_chunks()
    minutes, entities, templates, ranks = (table.column(name).to_numpy() for name in ("minute", "entity", "template", "rank"))
    pairs = (minutes - minutes.min()) << 31 | _codes(entities, templates)
    order = np.argsort(pairs << 18 | ranks, kind="stable")  # rows of equal rank stand in the order in which they came
    begins = np.flatnonzero(np.r_[True, pairs[order][1:] != pairs[order][:-1]])
    place = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
    return table.take(pa.array(order[place < SAMPLE]))


def _placed(table: pa.Table, name: str, places: I64) -> pa.Table:
    numbers = places[table.column(name).to_numpy()]
    moved = table.set_column(table.schema.get_field_index(name), name, pa.array(numbers))
    return moved.filter(pa.array(numbers >= 0))
