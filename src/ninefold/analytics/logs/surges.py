"""Counts of log templates per entity and minute against their own history: which are surging, and which have vanished.

The expected count is an exponentially weighted mean over the minutes in which the entity logged anything at all, scaled by how
much the entity's other templates have grown, so that traffic is not an anomaly. The variance is learned too and never
below Poisson's, for lines printed once a call have almost none of their own; a count is judged by the tail of the
negative binomial distribution with these moments.

A template has vanished when its entity goes on logging at half its usual rate or more without it for so many minutes that it is
out of the question at the share of minutes in which it was seen, and twice as long as it was ever silent before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from ninefold.analytics.minutes import FORGET

I64 = np.ndarray[Any, np.dtype[np.int64]]
F64 = np.ndarray[Any, np.dtype[np.float64]]

LEARNED = 10
"""Minutes of an entity before its counts are judged."""
LIMIT = 50_000
"""Pairs of entity and template that are followed; the half not seen for longest is forgotten."""
_SLOWEST = 1 / 60
_QUIET = 3
_SURE, _SURE_OF_ERRORS = 6.0, 4.5
_AT_ONCE = 3


_REGULAR, _ABSENT, _IMPOSSIBLE = 20, 5, 6.0
ENTITY, TEMPLATE, LAST, SINCE, UNTIL, SEEN, ABSENT, LONGEST, GONE = range(9)
"""Columns of `Surges.pairs`: the last minute seen, the minutes of the surge's start and end, how many minutes it was seen in, for how
many active ones it has been absent, the most it ever was, and the minute it vanished in (0 otherwise)."""
N, MEAN, VARIANCE, NOW = range(4)
"""Columns of `Surges.moments`: active minutes, mean and variance of the count, the count of the entity's last active minute."""


class Surge(NamedTuple):
    """A surge or an absence that begins or ends: a pair of entity and template, what was counted and expected, since which minute."""

    entity: int
    template: int
    firing: bool
    found: float
    expected: float
    score: float
    since: int
    vanished: bool = False
    others: int = 0
    """How many more of the entity began with it and are not told of one by one."""
    spread: float = 0.0
    """The standard deviation of what was expected."""


class Surges:
    """The histories, as columns over pairs of entity and template."""

    def __init__(self, pairs: I64 | None = None, moments: F64 | None = None, entities: F64 | None = None) -> None:
        self.pairs = np.empty((0, 9), np.int64) if pairs is None else pairs
        self.moments = np.empty((0, 4)) if moments is None else moments
        self.entities = np.zeros((0, 2)) if entities is None else entities  # minutes, mean of all counts
        self._index()

    def _index(self) -> None:
        self._rows = {(entity, template): row for row, (entity, template) in enumerate(self.pairs[:, :2].tolist())}

    def count(
        self, minute: int, entities: I64, templates: I64, counts: I64, errors: np.ndarray[Any, Any], held: Collection[int] = ()
    ) -> list[Surge]:
        """Judge and learn the counts of one minute.

        Args:
            minute: its number since the epoch; minutes come in order.
            entities, templates, counts: one row a pair, each pair once, entities above 0.
            errors: by template number, whether its lines are errors.
            held: entities of which nothing is learned.
        """
        rows = self._find(entities, templates)
        size = max(int(entities.max(initial=0)) + 1, len(self.entities))
        self.entities = np.concatenate((self.entities, np.zeros((size - len(self.entities), 2))))
        total = np.bincount(entities, weights=counts, minlength=size)
        found = np.zeros(len(self.pairs))
        found[rows] = counts
        entity, template, *_ = self.pairs.T
        n, mean, variance, _ = self.moments.T
        active = total[entity] > 0
        others, usual = total[entity] - found, self.entities[entity, 1] - mean
        growth = np.where(usual > 0, others / np.maximum(usual, 1e-9), 1.0)
        expected = mean * np.clip(growth, 1.0, 10.0)
        spread = _spread(self.moments, expected)
        wrong = errors[template]
        likely = active & (n >= LEARNED) & (found >= np.where(wrong, 3, 5)) & (found > 2.0 * expected)
        score = np.zeros(len(found))
        if likely.any():
            score[likely] = _tail(found[likely], np.maximum(expected[likely], 0.1), spread[likely])
        surging = score >= np.where(wrong, _SURE_OF_ERRORS, _SURE)
        result = self._begin(minute, np.flatnonzero(surging), found, expected, score) + self._end(minute, surging, found, expected)
        learns = ~np.isin(np.arange(size), list(held))
        result += self._absent(minute, found, others >= np.maximum(0.5 * usual, 1.0), learns[entity])
        learned = np.where(n >= LEARNED, np.minimum(found, expected + 3.0 * np.sqrt(spread)), found)
        learning = active & learns[entity]
        weight = np.where(learning, np.maximum(1.0 / (n + 1.0), _SLOWEST), 0.0)
        self.moments[:, 2] = (1.0 - weight) * (variance + weight * (learned - mean) ** 2)
        self.moments[:, 1] += weight * (learned - mean)
        self.moments[:, N] += learning
        self.moments[active, NOW] = found[active]
        self.pairs[rows, LAST] = minute
        seen = (total > 0) & learns
        self.entities[seen, 0] += 1
        self.entities[seen, 1] += (total[seen] - self.entities[seen, 1]) * np.maximum(1.0 / self.entities[seen, 0], _SLOWEST)
        self._forget()
        return result

    def merge(self, roots: I64) -> None:
        """Take over that templates have merged: `roots` by template number. Means and variances of a pair add up."""
        self.pairs[:, 1] = roots[self.pairs[:, 1]]
        keys, first, inverse = np.unique(self.pairs[:, :2], axis=0, return_index=True, return_inverse=True)
        if len(keys) == len(self.pairs):
            self._index()
            return
        inverse = inverse.ravel()
        moments: F64 = np.stack([np.bincount(inverse, weights=self.moments[:, i]) for i in range(4)], axis=1)
        moments[:, 0] = 0.0
        np.maximum.at(moments[:, 0], inverse, self.moments[:, 0])
        pairs: I64 = self.pairs[first]
        for column in (LAST, SINCE, UNTIL, SEEN):
            pairs[:, column] = 0
            np.maximum.at(pairs[:, column], inverse, self.pairs[:, column])
        for column in (ABSENT, LONGEST, GONE):
            np.minimum.at(pairs[:, column], inverse, self.pairs[:, column])
        order = np.argsort(first)
        self.pairs, self.moments = pairs[order], moments[order]
        self._index()

    def running(self) -> set[int]:
        """The entities of surges that go on."""
        return set(self.pairs[self.pairs[:, SINCE] > 0, ENTITY].tolist())

    def going(self) -> set[tuple[int, int, str]]:
        """Entity, template and reason (surge, vanished) of all that go on."""
        found = {(entity, template, "surge") for entity, template in self.pairs[self.pairs[:, SINCE] > 0, :2].tolist()}
        return found | {(entity, template, "vanished") for entity, template in self.pairs[self.pairs[:, GONE] > 0, :2].tolist()}

    def move(self, places: I64) -> None:
        """Take over new numbers of templates: `places` by old number, -1 for those that are forgotten."""
        keep = places[self.pairs[:, TEMPLATE]] >= 0
        self.pairs, self.moments = self.pairs[keep], self.moments[keep]
        self.merge(places)

    def renumber(self, places: I64) -> None:
        """Take over new numbers of entities: `places` by old number, -1 for those that are forgotten."""
        known = places[: len(self.entities)]
        entities = np.zeros((int(places.max()) + 1, 2))
        entities[known[known >= 0]] = self.entities[: len(known)][known >= 0]
        keep = places[self.pairs[:, 0]] >= 0
        self.pairs, self.moments, self.entities = self.pairs[keep], self.moments[keep], entities
        self.pairs[:, 0] = places[self.pairs[:, 0]]
        self._index()

    def _find(self, entities: I64, templates: I64) -> I64:
        """The row of each pair; a new pair is taken to have counted 0 in all minutes of its entity."""
        rows = np.empty(len(entities), np.int64)
        new: list[tuple[int, int]] = []
        for i, pair in enumerate(zip(entities.tolist(), templates.tolist(), strict=True)):
            row = self._rows.get(pair)
            if row is None:
                row = self._rows[pair] = len(self.pairs) + len(new)
                new.append(pair)
            rows[i] = row
        if new:
            pairs = np.zeros((len(new), 9), np.int64)
            pairs[:, :2] = new
            moments = np.zeros((len(new), 4))
            known = pairs[:, 0] < len(self.entities)
            moments[known, 0] = self.entities[pairs[known, 0], 0]
            self.pairs, self.moments = np.concatenate((self.pairs, pairs)), np.concatenate((self.moments, moments))
        return rows

    def _begin(self, minute: int, rows: I64, found: F64, expected: F64, score: F64) -> list[Surge]:
        """New surges, at most a few an entity at once: a restart makes many, and says the same with three. Those that begin together,
        or right after, are one flood."""
        self.pairs[rows, UNTIL] = minute
        rows = rows[self.pairs[rows, SINCE] == 0]
        flood = self.pairs[(self.pairs[:, SINCE] > 0) & (minute - self.pairs[:, SINCE] < _QUIET), ENTITY]
        self.pairs[rows, SINCE] = minute
        return self._told(rows[np.argsort(-score[rows], kind="stable")], Counter(flood.tolist()), found, expected, score)

    def _told(self, rows: I64, before: Mapping[int, int], found: F64, expected: F64, score: F64, *, vanished: bool = False) -> list[Surge]:
        """The first few of an entity's rows that begin now, the first with how many others there are; `before` them so many had begun."""
        result: list[Surge] = []
        here = Counter(self.pairs[rows, ENTITY].tolist())
        told: dict[int, int] = {}
        for row in rows.tolist():
            entity, template = self.pairs[row, :2].tolist()
            since = int(self.pairs[row, GONE if vanished else SINCE])
            room = max(_AT_ONCE - before.get(entity, 0), 0)
            told[entity] = told.get(entity, 0) + 1
            if told[entity] <= room:
                others = max(here[entity] - room, 0) if told[entity] == 1 else 0
                numbers = (float(found[row]), float(expected[row]), float(score[row]))
                spread = float(np.sqrt(_spread(self.moments[row : row + 1], expected[row : row + 1])[0]))
                result.append(Surge(entity, template, True, *numbers, since, vanished=vanished, others=others, spread=spread))
        return result

    def _end(self, minute: int, surging: np.ndarray[Any, Any], found: F64, expected: F64) -> list[Surge]:
        over = np.flatnonzero((self.pairs[:, 3] > 0) & ~surging & (minute - self.pairs[:, 4] >= _QUIET))
        result = []
        for row in over.tolist():
            entity, template, _, since = self.pairs[row, : SINCE + 1].tolist()
            result.append(Surge(entity, template, False, float(found[row]), float(expected[row]), 0.0, since))
            self.pairs[row, 3] = 0
        return result

    def _absent(self, minute: int, found: F64, usual: np.ndarray[Any, Any], learns: np.ndarray[Any, Any]) -> list[Surge]:
        """Templates that have just vanished, and those that are back; `usual` says whose entity logs as it does, `learns` of whose
        silence something is learned."""
        pairs, n = self.pairs, self.moments[:, N]
        here = found > 0
        result = []
        for row in np.flatnonzero((pairs[:, GONE] > 0) & (here | (minute - pairs[:, GONE] >= FORGET))).tolist():
            entity, template = pairs[row, :2].tolist()
            mean, since = float(self.moments[row, MEAN]), int(pairs[row, GONE])
            result.append(Surge(entity, template, False, float(found[row]), mean, 0.0, since, vanished=True))
        gap = np.where(here & (pairs[:, SEEN] > 0) & (pairs[:, GONE] == 0), pairs[:, ABSENT], 0)
        pairs[:, LONGEST] = np.maximum(pairs[:, LONGEST], gap)
        given_up = ~here & (pairs[:, GONE] > 0) & (minute - pairs[:, GONE] >= FORGET)
        pairs[given_up, SEEN] = 0
        pairs[here, SEEN] += 1
        pairs[here | given_up, GONE] = pairs[here | given_up, ABSENT] = 0
        pairs[:, ABSENT] += ~here & usual & learns
        share = np.minimum((pairs[:, SEEN] + 0.5) / np.maximum(n - pairs[:, ABSENT] + 1.0, pairs[:, SEEN] + 1.0), 1.0)
        long = (pairs[:, ABSENT] >= _ABSENT) & (pairs[:, ABSENT] > 2 * pairs[:, LONGEST]) & (pairs[:, SEEN] >= _REGULAR)
        rows = np.flatnonzero(long & usual & (pairs[:, GONE] == 0) & (-np.log10(1.0 - share) * pairs[:, ABSENT] >= _IMPOSSIBLE))
        pairs[rows, GONE] = minute - pairs[rows, ABSENT] + 1
        score, means = -np.log10(1.0 - share) * pairs[:, ABSENT], self.moments[:, MEAN]
        return result + self._told(rows[np.argsort(-means[rows], kind="stable")], {}, np.zeros(len(pairs)), means, score, vanished=True)

    def _forget(self) -> None:
        if len(self.pairs) > LIMIT:
            keep = np.sort(np.argsort(self.pairs[:, 2], kind="stable")[-LIMIT // 2 :])
            self.pairs, self.moments = self.pairs[keep], self.moments[keep]
            self._index()


def _spread(moments: F64, expected: F64) -> F64:
    """The variance of counts, never below Poisson's; more while little is known."""
    known: F64 = np.maximum(moments[:, VARIANCE], np.maximum(expected, 0.1)) * (1.0 + LEARNED / np.maximum(moments[:, N], 1.0))
    return known


def _tail(count: F64, mean: F64, variance: F64) -> F64:
    """-log10 P(X >= count) of the negative binomial with these moments; of Poisson where the variance does not exceed the mean."""
    from scipy.special import betainc, gammainc  # here, since importing it takes longer than most processes need it

    size = mean * mean / np.maximum(variance - mean, 1e-9)
    chance = np.where(size < 1e6, betainc(count, np.minimum(size, 1e6), mean / (mean + np.minimum(size, 1e6))), gammainc(count, mean))
    result: F64 = -np.log10(np.maximum(chance, 1e-30))
    return result
