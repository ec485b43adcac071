"""Sequences of log templates: which sessions of an entity leave its beaten track, and what in them is missing or unexpected.

A session is what an entity logs under one trace id (or request, session, block id); what it logs without any is taken a minute
at a time. A finished session is judged by how many of the `n` learned ones were as extreme as it is (``k``):

    score = sum over templates of max(0, log10((n + 1) / (k + 1/2)) - 1)  +  half the same sum over its pairs of neighbours

where for a template the sessions count that had it as often or more often (as seldom or more seldom, whichever are fewer), and for a
pair of neighbours those that had the pair. So only what nine sessions in ten do not do counts, and it takes more evidence the less
was learned. A session with counts that were seen before is normal whatever its score. Sessions that are odd are not learned, until they
have kept coming for `ADAPT` minutes. An entity is told of when it has more odd sessions than its usual share of them explains.

It is the event-count vectors and the 2-grams of Landauer et al., "A Critical Review of Common Log Data Sets Used for Evaluation of
Sequence-based Anomaly Detection Techniques" (FSE 2024, doi:10.1145/3660768), made probabilistic and incremental.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import exp, log10, sqrt
from typing import Any, NamedTuple

import numpy as np

from ninefold.analytics.minutes import I64
from ninefold.ground.clock import MINUTE

LEARNED, ODD = (50, 120), (4.0, 6.0)
"""Sessions (windows) of an entity before others are judged, and the score from which they are odd."""
IDLE, LONGEST, ADAPT, QUIET = 2, 60, 360, 5
"""Minutes: after this silence a session is over; it is cut off when it lasts longer; an odd habit is learned; an episode ends."""
EVENTS, OPEN = 512, 200_000
"""Lines of a session that are looked at; lines of open sessions that are kept."""
TEMPLATES, PAIRS, SHAPES, ENTITIES = 256, 1024, 512, 2000
_SCORED, _NAMED = 500, 5
_UNLIKELY, _RARELY = 0.005, 0.001
_EDGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 25, 41, 81, 161)
_END = -1
_FULL = 10_000.0
_YOUNG = 50.0
"""Sessions after which a template that others have merged into is judged again: how often those came together was never counted."""
_MIX = 0x9E3779B97F4A7C1


class Part(NamedTuple):
    """A reason why a session is odd: a template (and the one it follows, where that is the point), how often it came, and how often it
    usually does."""

    template: int
    after: int | None
    found: int
    usual: int
    score: float


class Odd(NamedTuple):
    """An episode that begins or ends: entity, whether it is about windows, odd sessions among those finished, the worst one's reasons."""

    entity: int
    window: bool
    firing: bool
    odd: int
    finished: int
    score: float
    since: int
    parts: tuple[Part, ...]


class Model:
    """What the sessions of one entity are like."""

    def __init__(self) -> None:
        self.n = self.odd = self.judged = 0.0
        self.counts: dict[int, list[float]] = {}
        self.pairs: dict[tuple[int, int], float] = {}
        self.shapes: dict[int, float] = {}
        self.young: dict[int, float] = {}
        self.since = self.until = self.heard = 0

    def score(self, counts: Mapping[int, int], pairs: Sequence[tuple[int, int]]) -> tuple[float, tuple[Part, ...]]:
        """How odd a session is, and the reasons, the strongest first."""
        parts = []
        for template in (self.counts.keys() | counts.keys()) - self.young.keys():
            seen, found = self.counts.get(template), counts.get(template, 0)
            bucket = bisect_right(_EDGES, found) - 1
            fewer = min(sum(seen[bucket:]), sum(seen[: bucket + 1])) if seen else 0.0
            surprise = log10((self.n + 1.0) / (fewer + 0.5)) - 1.0
            if surprise > 0:
                parts.append(Part(template, None, found, _EDGES[seen.index(max(seen))] if seen else 0, surprise))
        for pair in (pair for pair in pairs if pair[0] not in self.young and pair[1] not in self.young):
            surprise = 0.5 * (log10((self.n + 1.0) / (self.pairs.get(pair, 0.0) + 0.5)) - 1.0)
            if surprise > 0:
                parts.append(Part(pair[1], pair[0], 1, 0, surprise))
        parts.sort(key=lambda part: (-part.score, part.template, part.after or 0))
        return sum(part.score for part in parts), tuple(parts[:_NAMED])

    def learn(self, counts: Mapping[int, int], pairs: Sequence[tuple[int, int]], shape: int, times: float) -> None:
        """Take in so many sessions of the same counts, one of which had these pairs."""
        for template in self.counts.keys() | counts.keys():
            seen = self.counts.get(template)
            if seen is None:
                seen = self.counts[template] = [self.n, *[0.0] * (len(_EDGES) - 1)]
            seen[bisect_right(_EDGES, counts.get(template, 0)) - 1] += times
        for pair in pairs:
            self.pairs[pair] = self.pairs.get(pair, 0.0) + times
        self.shapes[shape] = self.shapes.get(shape, 0.0) + times
        self.n += times
        if self.young:
            self._grow_up(times)
        if self.n > _FULL:
            self._fade()
        for table, limit in ((self.pairs, PAIRS), (self.shapes, SHAPES)):
            if len(table) > limit:
                _shrink(table, limit // 2)
        if len(self.counts) > TEMPLATES:
            seldom = sorted(self.counts, key=lambda template: (self.n - self.counts[template][0], template))
            for template in seldom[: TEMPLATES // 2]:
                del self.counts[template]
                self.young.pop(template, None)

    def renamed(self, places: I64) -> None:
        """Take over that templates have merged or been forgotten: `places` by number, -1 for what is gone."""
        counts: dict[int, list[float]] = {}
        young = {int(places[template]): left for template, left in self.young.items() if places[template] >= 0}
        for template, seen in self.counts.items():
            place = int(places[template])
            if place in counts:
                counts[place], young[place] = [0.0] * len(_EDGES), _YOUNG
            elif place >= 0:
                counts[place] = seen
        pairs: dict[tuple[int, int], float] = {}
        for (a, b), times in self.pairs.items():
            one, other = (int(places[t]) if t != _END else _END for t in (a, b))
            if (one >= 0 or a == _END) and (other >= 0 or b == _END):
                pairs[one, other] = pairs.get((one, other), 0.0) + times
        self.counts, self.pairs, self.young = counts, pairs, young

    def _grow_up(self, times: float) -> None:
        """What has been learned anew for long enough counts as if it had been learned all the time."""
        for template in list(self.young):
            self.young[template] -= times
            if self.young[template] <= 0:
                del self.young[template]
                share = self.n / sum(self.counts[template])
                self.counts[template] = [value * share for value in self.counts[template]]

    def state(self) -> list[Any]:
        """All of it as plain data."""
        pairs = [[a, b, times] for (a, b), times in self.pairs.items()]
        numbers = [self.n, self.odd, self.judged, self.since, self.until, self.heard]
        return [numbers, list(self.counts.items()), pairs, list(self.shapes.items()), list(self.young.items())]

    @classmethod
    def of(cls, state: Sequence[Any]) -> Model:
        """The model that had this state."""
        model = cls()
        (model.n, model.odd, model.judged, model.since, model.until, model.heard), counts, pairs, shapes, young = state
        model.counts, model.shapes, model.young = dict(counts), dict(shapes), dict(young)
        model.pairs = {(a, b): times for a, b, times in pairs}
        return model

    def _fade(self) -> None:
        self.n /= 2
        self.counts = {template: [value / 2 for value in seen] for template, seen in self.counts.items()}
        self.pairs = {pair: times / 2 for pair, times in self.pairs.items()}
        self.shapes = {shape: times / 2 for shape, times in self.shapes.items() if times >= 1.0}


class Sequences:
    """The open sessions (`rows`: entity, session, template, time, a column a line) and a model an entity."""

    def __init__(self, rows: I64 | None = None, models: Sequence[Sequence[Any]] = ()) -> None:
        self.rows = np.empty((4, 0), np.int64) if rows is None else rows
        self.models = {(entity, bool(window)): Model.of(state) for entity, window, state in models}

    def state(self) -> list[Any]:
        """The models as plain data."""
        return [[entity, window, model.state()] for (entity, window), model in self.models.items()]

    def close(self, minute: int, rows: I64, held: Collection[int] = ()) -> list[Odd]:
        """Take in the lines of a minute (columns as in `rows`, session 0: none, templates as roots) and judge what is finished; of
        entities that are held nothing is learned."""
        entities, sessions, templates = rows[:3]
        free = sessions == 0
        windows = np.unique(entities[free] << 32 | templates[free])
        self.rows = np.concatenate((self.rows, rows[:, ~free]), axis=1)
        result = self._judge(minute, True, _grouped(windows >> 32, windows & 0xFFFFFFFF), held)
        done = self._finished(minute)
        if not done.shape[1]:
            return result + self._judge(minute, False, [], held)
        order = np.lexsort((done[3], done[1], done[0]))
        entities, sessions, templates = done[:3, order]
        begins = np.flatnonzero(np.r_[True, (entities[1:] != entities[:-1]) | (sessions[1:] != sessions[:-1])]).tolist()
        found = [
            (int(entities[begin]), templates[begin : min(end, begin + EVENTS)].tolist())
            for begin, end in zip(begins, [*begins[1:], len(entities)], strict=True)
        ]
        return result + self._judge(minute, False, found, held)

    def renamed(self, places: I64) -> None:
        """Take over new numbers of templates (merged or forgotten)."""
        kept = places[self.rows[2]] >= 0
        self.rows = self.rows[:, kept]
        self.rows[2] = places[self.rows[2]]
        for model in self.models.values():
            model.renamed(places)

    def renumber(self, places: I64) -> None:
        """Take over new numbers of entities: `places` by old number, -1 for those that are forgotten."""
        self.rows = self.rows[:, places[self.rows[0]] >= 0]
        self.rows[0] = places[self.rows[0]]
        self.models = {(int(places[entity]), window): model for (entity, window), model in self.models.items() if places[entity] >= 0}

    def running(self) -> set[int]:
        """The entities of episodes that go on."""
        return {entity for (entity, _), model in self.models.items() if model.since}

    def _finished(self, minute: int) -> I64:
        """Take the lines of sessions that are over out of `rows`."""
        if not self.rows.shape[1]:
            return self.rows
        _, inverse = np.unique(self.rows[0] * _MIX ^ self.rows[1], return_inverse=True)
        at = self.rows[3] // MINUTE
        first = np.full(inverse.max() + 1, np.iinfo(np.int64).max)
        last = np.zeros(len(first), np.int64)
        np.minimum.at(first, inverse, at)
        np.maximum.at(last, inverse, at)
        over = (last <= minute - IDLE) | (first <= minute - LONGEST)
        lines = np.bincount(inverse)
        if (excess := int(lines[~over].sum()) - OPEN) > 0:  # the oldest are judged as they stand
            oldest = np.flatnonzero(~over)[np.argsort(first[~over], kind="stable")]
            over[oldest[: int(np.searchsorted(np.cumsum(lines[oldest]), excess)) + 1]] = True
        done = self.rows[:, over[inverse]]
        self.rows = self.rows[:, ~over[inverse]]
        return done

    def _judge(self, minute: int, window: bool, found: Sequence[tuple[int, list[int]]], held: Collection[int]) -> list[Odd]:
        """Judge and learn finished sessions; begin and end episodes."""
        by_entity: dict[int, dict[int, tuple[list[int], int]]] = {}
        for entity, templates in found:
            form, shapes = shape(templates), by_entity.setdefault(entity, {})
            first, times = shapes.get(form, (templates, 0))
            shapes[form] = first, times + 1
        result: list[Odd] = []
        for entity, shapes in by_entity.items():
            model = self.models.get((entity, window))
            if model is None:
                model = self.models[entity, window] = Model()
            model.heard = minute
            result += self._entity(minute, entity, window, model, shapes, held=entity in held)
        for (entity, kind), model in self.models.items():
            if kind == window and model.since and minute - model.until >= QUIET:
                result.append(Odd(entity, window, False, 0, 0, 0.0, model.since, ()))
                model.since = 0
        if len(self.models) > ENTITIES:
            oldest = sorted((key for key, model in self.models.items() if not model.since), key=lambda key: (self.models[key].heard, key))
            for key in oldest[: ENTITIES // 4]:
                del self.models[key]
        return result

    @staticmethod
    def _entity(
        minute: int, entity: int, window: bool, model: Model, shapes: Mapping[int, tuple[list[int], int]], *, held: bool
    ) -> list[Odd]:
        finished = sum(times for _, times in shapes.values())
        odd, worst, reasons = 0, 0.0, tuple[Part, ...]()
        for i, (form, (templates, times)) in enumerate(shapes.items()):
            counts, pairs = judged(templates, window=window)
            if model.n >= LEARNED[window] and model.shapes.get(form, 0.0) < 2.0:
                if i >= _SCORED:
                    continue
                score, parts = model.score(counts, pairs)
                if score >= ODD[window]:
                    odd += times
                    if score > worst:
                        worst, reasons = score, parts
                    if not (model.since and minute - model.since >= ADAPT):
                        continue
            if not held:
                model.learn(counts, pairs, form, times)
        if model.n < LEARNED[window]:
            return []
        expected = finished * max(_RARELY, model.odd / max(model.judged, 1.0))
        if not held:
            model.odd, model.judged = model.odd + odd, model.judged + finished
        if model.judged > _FULL:
            model.odd, model.judged = model.odd / 2, model.judged / 2
        if not odd or _at_least(odd, expected) > _UNLIKELY:
            return []
        model.until = minute
        if model.since:
            return []
        model.since = minute
        return [Odd(entity, window, True, odd, finished, worst, minute, reasons)]


def _grouped(entities: I64, templates: I64) -> list[tuple[int, list[int]]]:
    """Templates by entity, of columns ordered by entity."""
    if not len(entities):
        return []
    begins = np.flatnonzero(np.r_[True, entities[1:] != entities[:-1]]).tolist()
    return [(int(entities[begin]), templates[begin:end].tolist()) for begin, end in zip(begins, [*begins[1:], len(entities)], strict=True)]


def judged(templates: Sequence[int], *, window: bool = False) -> tuple[Mapping[int, int], list[tuple[int, int]]]:
    """What is looked at of a session: how often each template occurs, and which are neighbours, begin and end included."""
    return Counter(templates), [] if window else sorted(set(zip([_END, *templates], [*templates, _END], strict=True)))


def shape(templates: Sequence[int]) -> int:
    """A hash of how often each template occurs, in whatever order."""
    return hash(tuple(sorted(templates)))


def _shrink(table: dict[Any, float], size: int) -> None:
    """Drop the smallest entries but so many."""
    for key in sorted(table, key=lambda key: (table[key], key))[: len(table) - size]:
        del table[key]


def _at_least(count: int, mean: float) -> float:
    """P(X >= count) of a Poisson distribution."""
    if mean > 500:
        return 0.0 if count > mean + 5.0 * sqrt(mean) else 1.0
    term = total = exp(-mean)
    for i in range(1, count):
        term *= mean / i
        total += term
        if i > mean and term < 1e-12:
            break
    return 1.0 - total
