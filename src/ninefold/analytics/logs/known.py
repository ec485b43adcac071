"""What is known of log lines: the table of pattern keys, the templates they lead to, and the values in the templates' holes.

A line costs one look into a table of keys; only a key never seen before goes to the miner. The first line of a template, the 2^k-th
of each of its keys and every 1,024th show the values in the holes, so that types and examples cost next to nothing a line and do not
depend on how batches are cut. A template that nobody has seen for `FORGET_DAYS` is forgotten with its keys.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ninefold.analytics import warm
from ninefold.analytics.logs.holes import Hole
from ninefold.analytics.logs.templates import WILD, Miner
from ninefold.analytics.minutes import I64
from ninefold.ground.clock import MINUTE

KEY_LIMIT = 200_000
"""Pattern keys that are remembered; the half not seen for longest is forgotten (its templates are not)."""
FORGET_DAYS = 30
CROWDED = 50_000
"""Above so many mined templates the fourth not seen for longest is forgotten too."""
ERROR = 17
_WRONG = re.compile(r"\b(?:ERROR|FATAL|CRITICAL|PANIC)\b|\b\w{0,60}(?:Exception|Error)\b|^Traceback")
_ENOUGH, _OFTEN = 8, 64
"""A template of which so many lines were looked at is only looked at again in every so manieth line of a key, or later."""
_DAY = 1440 * MINUTE
U64 = np.ndarray[Any, np.dtype[np.uint64]]
I32 = np.ndarray[Any, np.dtype[np.int32]]


class Fresh(NamedTuple):
    """A template that is new: its number, the row and severity number of its first line; of an error also its id and text."""

    template: int
    row: int
    level: int
    id: str
    text: str


class Known:
    """Keys, templates and holes.

    Attributes:
        miner: the templates.
        keys: the known pattern keys.
        figures: a row a key: template number, lines, first and last time (ns).
        seen: a row a template number: lines, first and last time (ns), severity number of its first line.
        holes: by template number (a root), the skeleton's id and its holes.
    """

    def __init__(self) -> None:
        self.miner = Miner()
        self.keys: U64 = np.zeros(0, np.uint64)
        self.figures = np.zeros((0, 4), np.int64)
        self.seen = np.zeros((0, 4), np.int64)
        self.holes: dict[int, tuple[str, list[Hole]]] = {}
        self._table: tuple[U64, I32] = (np.zeros(0, np.uint64), np.zeros(0, np.int32))
        self._filled = 0

    def learn(self, keys: U64, bodies: pa.Array, times: I64, severities: I64) -> tuple[I64, list[Fresh]]:
        """The template number of each line, and the templates that are new."""
        slots = self._find(keys)
        firsts = np.zeros(0, np.int64)
        if (unknown := np.flatnonzero(slots < 0)).size:
            _, first = np.unique(keys[unknown], return_index=True)
            firsts = unknown[np.sort(first)]
            self.keys = np.concatenate((self.keys, keys[firsts]))
            begun = np.stack((np.zeros_like(firsts), np.zeros_like(firsts), times[firsts], np.zeros_like(firsts)), axis=1)
            self.figures = np.concatenate((self.figures, begun))
            slots = self._find(keys)
        before = self.figures[slots, 1]
        np.add.at(self.figures[:, 1], slots, 1)
        np.maximum.at(self.figures[:, 3], slots, times)
        told, ordinals = _telling(slots, before, self.figures[slots, 1])
        fresh = self._read(firsts, told, ordinals, slots, bodies, times, severities)
        templates = self.figures[slots, 0]
        np.add.at(self.seen[:, 0], templates, 1)
        np.maximum.at(self.seen[:, 2], templates, times)
        if len(self.keys) > KEY_LIMIT:
            self.keep(np.sort(np.argsort(self.figures[:, 3], kind="stable")[-KEY_LIMIT // 2 :]))
        return templates, fresh

    def roots(self) -> I64:
        """By template number, the template it has merged into."""
        return np.array([self.miner.find(template) for template in range(len(self.miner.parent))], np.int64)

    def types(self, template: int) -> list[str]:
        """The types of the holes of a template (a root); ``*`` where nothing is known."""
        identity, holes = self.holes.get(template, ("", []))
        if identity == self.miner.id(template):
            return [hole.type for hole in holes]
        return ["*"] * self.miner.tokens[template].count(WILD)

    def text(self, template: int) -> str:
        """A template with typed holes."""
        root = self.miner.find(template)
        return self.miner.text(root, self.types(root))

    def forget(self, minute: int, needed: set[int]) -> I64 | None:
        """Let go of templates that nobody has seen for long, but not of those (roots) that are needed.

        Returns:
            The new number of each old one, -1 where it is gone; None where all stay.
        """
        roots = self.roots()
        last = np.zeros(len(roots), np.int64)
        np.maximum.at(last, roots, self.seen[:, 2])
        limit = minute * MINUTE - FORGET_DAYS * _DAY
        if len(roots) > CROWDED:
            limit = max(limit, int(np.partition(last[roots], len(roots) // 4)[len(roots) // 4]))
        gone = set(np.flatnonzero((last < limit) & (roots == np.arange(len(roots)))).tolist()) - needed
        if not gone:
            return None
        self.miner, moved = self.miner.without(gone)
        places = np.array(moved, np.int64)
        seen = np.zeros((len(self.miner.parent), 4), np.int64)
        seen[:, 1] = np.iinfo(np.int64).max
        kept = places >= 0
        np.add.at(seen[:, 0], places[kept], self.seen[kept, 0])
        np.minimum.at(seen[:, 1], places[kept], self.seen[kept, 1])
        for column in (2, 3):
            np.maximum.at(seen[:, column], places[kept], self.seen[kept, column])
        self.seen = seen
        self.holes = {int(places[template]): known for template, known in self.holes.items() if places[template] >= 0}
        self.keep(np.flatnonzero(places[self.figures[:, 0]] >= 0))
        self.figures[:, 0] = places[self.figures[:, 0]]
        return places

    def texts(self) -> dict[str, Any]:
        """What of the state is text."""
        holes = [[template, identity, [hole.state() for hole in some]] for template, (identity, some) in self.holes.items()]
        return {"examples": self.miner.examples, "holes": holes}

    def restore(self, texts: dict[str, Any], keys: U64, figures: I64, seen: I64) -> None:
        """Take over what `texts` and the arrays of the same names were."""
        for line in texts["examples"]:
            self.miner.add(line)
        self.holes = {template: (identity, [Hole(*hole) for hole in some]) for template, identity, some in texts["holes"]}
        self.keys, self.figures, self.seen = keys, figures, seen

    def _read(self, firsts: I64, told: I64, ordinals: I64, slots: I32, bodies: pa.Array, times: I64, severities: I64) -> list[Fresh]:
        """Mine the first line of each new key and look at the values of some others, in the order of the rows."""
        fresh: list[Fresh] = []
        seen = []
        unknown, counted = set(firsts.tolist()), dict(zip(told.tolist(), ordinals.tolist(), strict=True))
        for row in sorted(unknown | counted.keys()):
            line = bodies[row].as_py() or ""
            if row not in unknown:
                self._look(int(self.figures[slots[row], 0]), line, counted[row])
                continue
            size, merges = len(self.miner.parent), self.miner.merges
            template = self.figures[slots[row], 0] = self.miner.add(line)
            new = len(self.miner.parent) > size
            if new or self.miner.merges != merges:
                self._look(template, line, 1)
            if new:
                level = int(severities[row]) or (ERROR if _WRONG.search(line) else 0)
                seen.append([0, int(times[row]), 0, level])
                wrong = level >= ERROR
                fresh.append(Fresh(size, row, level, self.miner.id(size) if wrong else "", self.text(size) if wrong else ""))
        if seen:
            self.seen = np.concatenate((self.seen, np.array(seen, np.int64)))
        return fresh

    def _look(self, template: int, line: str, ordinal: int) -> None:
        """Learn the values in the holes of one line, the `ordinal`-th of its key."""
        root = self.miner.find(template)
        identity, holes = self.holes.get(root, ("", []))
        if holes and ordinal < _OFTEN and holes[0].looked >= _ENOUGH and identity == self.miner.id(root):
            return
        values = self.miner.values(root, line)
        if not values:
            return
        if identity != self.miner.id(root):  # it has merged since: its holes are others
            holes = [Hole() for _ in values]
            self.holes[root] = self.miner.id(root), holes
        for hole, value in zip(holes, values, strict=True):
            hole.add(value)

    def keep(self, slots: I64) -> None:
        """Remember only the keys in these slots."""
        self.keys, self.figures = self.keys[slots], self.figures[slots]
        self._filled = 0

    def _find(self, keys: U64) -> I32:
        """The slot of each key, -1 of those not known."""
        slots = np.full(len(keys), -1, np.int32)
        if not len(self.keys):
            return slots
        if not warm.ready("tables"):
            order = np.argsort(self.keys)
            place = np.minimum(np.searchsorted(self.keys, keys, sorter=order), len(order) - 1)
            found = order[place]
            return np.where(self.keys[found] == keys, found, -1).astype(np.int32)
        tables = warm.loops("tables")
        if self._filled == 0 or 2 * len(self.keys) > len(self._table[0]):
            size = max(4096, 1 << (2 * len(self.keys)).bit_length())
            self._table, self._filled = (np.zeros(size, np.uint64), np.full(size, -1, np.int32)), 0
        if self._filled < len(self.keys):
            added = np.arange(self._filled, len(self.keys), dtype=np.int32)
            tables.insert(self.keys[self._filled :], added, *self._table)
            self._filled = len(self.keys)
        tables.lookup(keys, *self._table, slots)
        return slots


def _telling(slots: I32, before: I64, after: I64) -> tuple[I64, I64]:
    """The rows whose values are looked at (the 2^k-th of a key, k > 0, and every 1,024th) with these numbers."""
    rows = np.flatnonzero(((before ^ after) > before) | (before >> 10 != after >> 10))
    if not rows.size:
        return rows, rows
    order = rows[np.argsort(slots[rows], kind="stable")]
    begins = np.flatnonzero(np.r_[True, slots[order][1:] != slots[order][:-1]])
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
    ordinals = before[order] + rank + 1
    chosen = (ordinals > 1) & ((ordinals & (ordinals - 1) == 0) | (ordinals & 1023 == 0))
    return order[chosen], ordinals[chosen]
