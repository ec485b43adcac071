"""Metrics of one entity judged together: a minute in which each is within its bounds and their combination is not.

Per entity the metrics are aligned by minute and standardised by their own slow level and spread; an exponentially weighted covariance,
shrunk towards its diagonal, gives for each metric what the others let expect of it. What is left of a metric beyond that, in its own
conditional spreads r, is its surprise log(1 + r^2); the mean over metrics, smoothed over about five minutes, is the entity's. Its chance is
read off its own tail beyond the 98 % quantile (peaks over threshold). A minute beyond teaches the less the longer it lasts, so an outage is
not learned; after two days it is the new normal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ninefold.analytics import keeping, warm
from ninefold.analytics.episodes import ALARM, Episodes
from ninefold.analytics.findings import anomaly, figures, quantity
from ninefold.analytics.holds import Holds
from ninefold.analytics.metrics import gathering
from ninefold.analytics.metrics.gathering import Gathering, Minute
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, batch_of

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

WIDTHS = (4, 8, 16, 24, 32, 48, 64)
"""Tables of entities by how many metrics they have; of an entity with more than the last, the first so many are judged."""
LIMIT = 20_000
"""Entities that are followed."""
_TOP, _SILENT = 3, 30 * MINUTE
_DAY = 1440
_HIGH = 10.0
_BLOCK = 1 << 17
"""Places of a covariance in one part of a snapshot."""
_VERSION = 3


class Table:
    """Entities of at most `width` metrics: the state of `jointly.judge`, row by row."""

    def __init__(self, width: int, rows: int = 0) -> None:
        cells = warm.loops("metrics.jointly").CELLS
        self.width = width
        self.slots = np.full((rows, width), -1, np.int64)
        self.when, self.last, self.level, self.spread, self.seen, self.rest, self.usual = (np.zeros((rows, width)) for _ in range(7))
        self.cov, self.inverse = np.zeros((rows, width, width), np.float32), np.tile(np.eye(width, dtype=np.float32), (rows, 1, 1))
        self.cells = np.zeros((rows, cells))

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """All of it by name."""
        return {name: array for name, array in vars(self).items() if name != "width"}

    def reserve(self, rows: int) -> None:
        """Have room for so many rows."""
        if (have := len(self.slots)) < rows:
            more = Table(self.width, max(rows, have + have // 4) - have).arrays()
            for name, array in self.arrays().items():
                setattr(self, name, np.concatenate((array, more[name])))

    def clear(self, gone: np.ndarray[Any, Any]) -> None:
        """Forget the metrics in these places, [rows, width]."""
        self.slots[gone] = -1
        for array in (self.when, self.last, self.level, self.spread, self.seen, self.rest, self.usual):
            array[gone] = 0.0
        for row, column in np.argwhere(gone).tolist():
            self.cov[row, column, :] = self.cov[row, :, column] = 0.0
            self.inverse[row, column, :] = self.inverse[row, :, column] = 0.0
            self.inverse[row, column, column] = 1.0

    def copy_row(self, row: int, other: Table, place: int) -> None:
        """Row `place` of a table that is not wider becomes this table's `row`."""
        for name, array in other.arrays().items():
            mine = getattr(self, name)
            mine[(row, *(slice(0, size) for size in array.shape[1:]))] = array[place]


class Together:
    """The technique over all entities with at least three metrics."""

    name: ClassVar[str] = "together"
    signals: ClassVar[frozenset[str]] = frozenset({"metric", "series", "event"})

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._gathered, self._episodes = Gathering(), Episodes()
        self._tables = {width: Table(width) for width in WIDTHS}
        self._entities: dict[str, tuple[int, int]] = {}
        self._names: dict[int, list[str]] = {width: [] for width in WIDTHS}
        self._width, self._row, self._column = (np.empty(0, np.int64) for _ in range(3))
        self._holds = Holds()
        self._day = 0

    def process(self, batch: Batch) -> list[Batch]:
        """Learn what series are, judge the minutes a `metric` batch closes; returns at most one batch of anomaly events."""
        rows: list[dict[str, Any]] = []
        if batch.signal == "event":
            self._holds.hear(batch)
        else:
            self._holds.due(batch.received)
        if batch.signal == "series":
            new, changed = self._gathered.describe(batch)
            if changed:
                self._leave(changed)
            self._place(new + changed)
            rows += self._gathered.full(self.name, batch.received)
        else:
            for minute in self._gathered.add(batch) if batch.signal == "metric" else self._gathered.watch(batch):
                rows += self._judge(minute)
        return [batch_of("event", f"ninefold.{self.name}", batch.received, rows)] if rows else []

    def snapshot(self) -> bytes:
        """All state in one."""
        return keeping.joined(self.parts())

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; empty bytes start afresh.

        Raises:
            BadData: it is of another version, or not whole.
        """
        self.assemble(keeping.separated(state))

    def parts(self) -> Iterator[bytes]:
        """All state in parts of a few megabytes; nothing may be processed before the last part was taken."""
        yield from self._gathered.parts()
        texts = {
            "names": [self._names[width] for width in WIDTHS], "episodes": self._episodes.state(), "day": self._day,
            "holds": self._holds.state(), "clock of holds": self._holds.now,
        }  # fmt: skip
        yield keeping.pack(self.name, _VERSION, texts, width=self._width, row=self._row, column=self._column)
        for width, table in self._tables.items():
            for first in range(0, len(self._names[width]), _BLOCK // width**2):
                last = min(first + _BLOCK // width**2, len(self._names[width]))
                yield keeping.pack(self.name, _VERSION, {}, **{name: array[first:last] for name, array in table.arrays().items()})

    def assemble(self, parts: Iterable[bytes]) -> None:
        """Take over the parts of a snapshot in their order; none start afresh.

        Raises:
            BadData: they are of another version, or some are missing.
        """
        self._reset()
        rest = iter(parts)
        head = next(rest, b"")
        if not head:
            return
        self._gathered.assemble(chain((head,), rest))
        texts, arrays = self._unpacked(rest)
        self._names = dict(zip(WIDTHS, texts["names"], strict=True))
        self._entities = {name: (width, row) for width, names in self._names.items() for row, name in enumerate(names)}
        self._episodes, self._holds = Episodes(texts["episodes"]), Holds(texts["holds"], texts["clock of holds"])
        self._day = texts["day"]
        self._width, self._row, self._column = arrays["width"], arrays["row"], arrays["column"]
        for width, table in self._tables.items():
            table.reserve(len(self._names[width]))
            for first in range(0, len(self._names[width]), _BLOCK // width**2):
                for name, array in self._unpacked(rest)[1].items():
                    getattr(table, name)[first : first + len(array)] = array

    def _unpacked(self, parts: Iterator[bytes]) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
        part = next(parts, None)
        if part is None:
            raise BadData(f"the snapshot of {self.name} is not whole; start afresh")
        return keeping.unpack(self.name, _VERSION, part)

    def behaviour(self, entity: str) -> dict[str, Any] | None:
        """What is known of an entity now: score, since when it is unusual, and its metrics, the most surprising first. Copies."""
        if entity not in self._entities:
            return None
        width, row = self._entities[entity]
        table, cells = self._tables[width], warm.loops("metrics.jointly")
        judged = bool(table.cells[row, cells.SEEN] > cells.WARM_UP + 2 * np.count_nonzero(table.seen[row]))
        share = _shares(table.rest[row])
        order = [column for column in np.argsort(-share, kind="stable").tolist() if table.slots[row, column] >= 0]
        metrics = []
        for column in order:
            about = self._gathered[table.slots[row, column]]
            heard = bool(table.when[row, column])
            metrics.append({
                "metric": gathering.label(about), "unit": gathering.unit(about), "value": float(table.last[row, column]) if heard else None,
                "usual": float(table.usual[row, column]) if heard and judged else None, "deviation": float(table.rest[row, column]),
                "contribution": float(share[column]),
            })  # fmt: skip
        since = self._episodes.since((entity,))
        minutes = int(table.cells[row, cells.SEEN])
        score, rank = table.cells[row, [cells.SCORE, cells.RANK]].tolist()
        return {"learned_minutes": minutes, "judged": judged, "score": score, "rank": rank, "since": since, "metrics": metrics}

    def _place(self, new: list[int]) -> None:
        """Give each series a column of its entity."""
        more = np.full((3, len(self._gathered) - len(self._width)), -1, np.int64)
        self._width, self._row, self._column = (
            np.concatenate((array, part)) for array, part in zip((self._width, self._row, self._column), more, strict=True)
        )  # fmt: skip
        by_entity: dict[str, list[int]] = {}
        for slot in new:
            by_entity.setdefault(self._gathered.entity(slot), []).append(slot)
        for entity, slots in by_entity.items():
            if entity not in self._entities and len(self._entities) >= LIMIT:
                continue
            width, row = self._entities.get(entity, (0, -1))
            have = int(np.count_nonzero(self._tables[width].slots[row] >= 0)) if width else 0
            need = next((one for one in WIDTHS if one >= have + len(slots)), WIDTHS[-1])
            if need > width:
                row = self._move(entity, width, row, need)
            self._fill(need if need > width else width, row, slots)

    def _move(self, entity: str, width: int, row: int, wider: int) -> int:
        """Give an entity a row in a wider table (from `width`, 0: it is new); returns the row."""
        table, names = self._tables[wider], self._names[wider]
        place = len(names)
        names.append(entity)
        table.reserve(place + 1)
        if width:
            table.copy_row(place, self._tables[width], row)
            self._drop(width, row)
        self._settle(wider, place, entity)
        return place

    def _drop(self, width: int, row: int) -> None:
        """Take a row out of a table; the last one takes its place."""
        table, names = self._tables[width], self._names[width]
        last, name = len(names) - 1, names.pop()
        if row < last:
            names[row] = name
            table.copy_row(row, table, last)
            self._settle(width, row, name)
        table.copy_row(last, Table(width, 1), 0)

    def _settle(self, width: int, row: int, entity: str) -> None:
        """Note where an entity is."""
        self._entities[entity] = (width, row)
        slots = self._tables[width].slots[row]
        slots = slots[slots >= 0]
        self._width[slots], self._row[slots] = width, row

    def _fill(self, width: int, row: int, slots: list[int]) -> None:
        table = self._tables[width]
        free = np.flatnonzero(table.slots[row] < 0).tolist()
        for slot, column in zip(slots, free, strict=False):
            table.slots[row, column] = slot
            self._width[slot], self._row[slot], self._column[slot] = width, row, column

    def _judge(self, minute: Minute) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for width, table in self._tables.items():
            active, x = np.empty(len(table.last), np.int64), np.empty(table.last.shape)
            number = warm.loops("metrics.jointly").gather(
                minute.slots, minute.values, minute.number, width, self._width, self._row, self._column, table.last, table.when, active, x
            )  # fmt: skip
            if not number:
                continue
            active, x, names = active[:number], x[:number], self._names[width]
            teach = np.ones(len(active), bool)
            if self._holds:
                teach = ~self._holds.covers([names[row] for row in active.tolist()])
            score = self._score(table, active, x, teach)
            going = {key[0] for key in self._episodes.unusual()}
            loud = score >= ALARM
            if going:
                loud |= np.array([names[row] in going for row in active.tolist()], bool)
            for place in np.flatnonzero(loud).tolist():
                found += self._tell(width, int(active[place]), float(score[place]), minute.number * MINUTE)
        found += self._quiet(minute.number * MINUTE)
        if minute.number // _DAY != self._day:
            self._day = minute.number // _DAY
            self._forget(minute.number)
        return found

    def _score(self, table: Table, rows: I64, x: F64, teach: np.ndarray[Any, Any]) -> F64:
        """-log10 of the chance of this minute, by row."""
        loops = warm.loops("metrics.jointly")
        usual, rest = np.empty_like(x), np.empty_like(x)
        loops.judge(
            rows, x, teach, table.level, table.spread, table.seen, table.cov, table.inverse, table.cells, usual, rest
        )  # fmt: skip
        table.usual[rows], table.rest[rows] = usual, rest
        score: F64 = table.cells[rows, loops.SCORE]
        return score

    def _tell(self, width: int, row: int, score: float, time: int) -> list[dict[str, Any]]:
        entity = self._names[width][row]
        since = self._episodes.since((entity,))
        said = self._episodes.judge((entity,), score, time, time + MINUTE, (entity, ""))
        if not said:
            return []
        words, figures = self._words(self._tables[width], row)
        return [self._event(entity, time, since or self._episodes.since((entity,)), said == "fired", score, words, figures)]

    def _words(self, table: Table, row: int) -> tuple[list[str], dict[str, str]]:
        """The metrics that are most to blame, in words; and the first one's figures."""
        share = _shares(table.rest[row])
        words: list[str] = []
        said: dict[str, str] = {}
        for column in np.argsort(-share, kind="stable")[:_TOP].tolist():
            if table.slots[row, column] < 0 or share[column] <= 0:
                continue
            about = self._gathered[table.slots[row, column]]
            name, measure = gathering.label(about), gathering.unit(about)
            value, usual, rest = float(table.last[row, column]), float(table.usual[row, column]), float(table.rest[row, column])
            words.append(
                f"{name} is {quantity(value, measure)} where the others let expect {quantity(usual, measure)} ({abs(rest):.0f} spreads "
                f"{'above' if rest > 0 else 'below'}, {100 * share[column]:.0f} % of it)"
            )  # fmt: skip
            said |= {} if said else figures(value, usual, rest, measure)
            said["metrics"] = ", ".join(filter(None, (said.get("metrics", ""), name)))
        return words, said

    def _event(
        self, entity: str, time: int, since: int, firing: bool, score: float, words: list[str], figures: Mapping[str, str]
    ) -> dict[str, Any]:  # fmt: skip
        what = entity.partition(":")[2] or entity
        names = figures.get("metrics", "")
        title = f"{what} behaves unlike itself: {names} do not go together as usual" if firing else f"{what} behaves like itself again"
        return anomaly(
            self.name, {"behaviour": entity}, entity=entity, time=time, since=since, firing=firing, title=title,
            body="\n".join(words) if firing else "", severity="high" if score >= _HIGH else "warning",
            attributes={"reason": "combination", "horizon": "metrics", "score": f"{score:.1f}", **figures},
        )  # fmt: skip

    def _quiet(self, time: int) -> list[dict[str, Any]]:
        """The ends of episodes of entities that have fallen silent."""
        return [
            self._event(key[0], time, since, False, 0.0, [], {}) | {"title": f"{key[0].partition(':')[2]} is not heard of any more"}
            for key, since, _ in self._episodes.silent(time - _SILENT)
        ]

    def _forget(self, minute: int) -> None:
        """Let go of series not heard for days, and of entities without any."""
        places = self._gathered.forget(minute)
        if places is None:
            return
        kept = places >= 0
        self._width, self._row, self._column = self._width[kept], self._row[kept], self._column[kept]
        for table in self._tables.values():
            here = table.slots >= 0
            gone = here & (places[table.slots] < 0)
            table.slots = np.where(here, places[table.slots], -1)
            table.clear(gone)
        self._drop_empty()

    def _leave(self, slots: list[int]) -> None:
        """Take series out of their entities."""
        for width, table in self._tables.items():
            table.clear(np.isin(table.slots, [slot for slot in slots if self._width[slot] == width]))
        self._width[slots] = self._row[slots] = self._column[slots] = -1
        self._drop_empty()

    def _drop_empty(self) -> None:
        """Let go of entities without series."""
        for width, table in self._tables.items():
            empty = (table.slots[: len(self._names[width])] < 0).all(axis=1)
            for row in np.flatnonzero(empty)[::-1].tolist():
                del self._entities[self._names[width][row]]
                self._drop(width, row)


class Replayed(NamedTuple):
    """A history judged minute by minute: rank, surprise and score (-log10 of its chance) [minutes], the metrics' parts in the surprise
    [minutes, metrics], and the alarms as pairs of first minute and the minute it was told in."""

    rank: F64
    surprise: F64
    score: F64
    shares: F64
    alarms: list[tuple[int, int]]


def replay(values: F64) -> Replayed:
    """Judge the history of one entity, [minutes, metrics] with NaN where there is none, as the technique does."""
    minutes, width = values.shape
    loops, episodes = warm.loops("metrics.jointly"), Episodes()
    table = Table(width, 1)
    found = Replayed(np.zeros(minutes), np.zeros(minutes), np.zeros(minutes), np.zeros((minutes, width)), [])
    rows, usual, rest = np.zeros(1, np.int64), np.empty((1, width)), np.empty((1, width))
    for minute, x in enumerate(np.ascontiguousarray(values[:, None, :], np.float64)):
        loops.judge(rows, x, _LEARN, table.level, table.spread, table.seen, table.cov, table.inverse, table.cells, usual, rest)
        found.rank[minute], found.surprise[minute], found.score[minute] = table.cells[0, [loops.RANK, loops.SMOOTH, loops.SCORE]]
        found.shares[minute] = _shares(rest[0])
        if episodes.judge(("",), float(found.score[minute]), (minute + 1) * MINUTE, (minute + 2) * MINUTE) == "fired":
            found.alarms.append((episodes.since(("",)) // MINUTE - 1, minute))
    return found


_LEARN = np.ones(1, bool)


def _shares(rest: F64) -> F64:
    """The part of each metric in what is not expected, 0 to 1."""
    away = np.abs(rest)
    shares: F64 = away / max(float(away.sum()), 1e-12)
    return shares
