"""Log analytics: templates, new errors, surges and what explains them, vanished lines, odd sessions, and log rates as series.

A line costs one look at its pattern key (`known`). Per entity and minute, templates are counted against their own history
(`surges`), samples of their lines tell what a surge has in common (`lift`), finished sessions are compared with those before
(`sequences`), and records by severity leave as the series ``ninefold.log.records``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.analytics import keeping
from ninefold.analytics.findings import described, points
from ninefold.analytics.holds import Holds
from ninefold.analytics.logs import log_findings, log_view
from ninefold.analytics.logs.keys import pattern_keys, text_keys
from ninefold.analytics.logs.known import ERROR, U64, Fresh, Known
from ninefold.analytics.logs.lift import Lift, Profiles
from ninefold.analytics.logs.sequences import Sequences
from ninefold.analytics.logs.surges import Surge, Surges
from ninefold.analytics.logs.templates import Miner
from ninefold.analytics.minutes import FORGET, I64, Minutes, Names, times_of
from ninefold.ground.clock import MINUTE
from ninefold.model.signal import Batch, batch_of, from_ipc, to_ipc

__all__ = ["LogTemplates", "mine", "pattern_keys"]

LEARNING = 10 * MINUTE
"""Event time after the first line before a new error template is news."""
SESSIONS = pa.array(
    ["session.id", "session_id", "sessionId", "request.id", "request_id", "requestId", "correlation.id", "correlation_id", "correlationId",
     "transaction.id", "transaction_id", "block_id", "job.id", "job_id"]
)  # fmt: skip
"""Attributes that say to which session a line without a trace id belongs, the first that is there."""
_SOURCE = "ninefold.logs"
_VERSION = 3
_CLASSES = ("unspecified", "debug", "info", "warning", "error")
_NEWS_A_MINUTE = 3
_NEWS_OVER = 5
_EXPLAINED = 200
Mask = np.ndarray[Any, np.dtype[np.bool_]]


class LogTemplates:
    """The technique over logs. It looks at metrics only for their clock, so that a quiet stream's last minute is closed too."""

    name: ClassVar[str] = log_findings.NAME
    signals: ClassVar[frozenset[str]] = frozenset({"log", "metric", "event"})

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._minutes = Minutes()
        self._entities = Names()
        self._known = Known()
        self._merges = self._first = self._lines = self._day = 0
        self._open: dict[int, list[I64]] = defaultdict(list)
        self._open_sessions: dict[int, list[I64]] = defaultdict(list)
        self._surges, self._profiles, self._sequences = Surges(), Profiles(), Sequences()
        self._holds = Holds()
        self._rated: dict[tuple[int, int], int] = {}
        self._heard: dict[int, int] = {}
        self._news: dict[int, int] = {}
        self._news_at: dict[tuple[int, int], int] = {}
        self._told: dict[tuple[int, int, str], tuple[str, int]] = {}
        self._why: dict[tuple[int, int], list[Lift]] = {}

    def process(self, batch: Batch) -> list[Batch]:
        """Learn from lines; returns events of new errors, and series and findings of the minutes that are over."""
        if batch.rows.num_rows == 0:
            return []
        if batch.signal == "event":
            self._holds.hear(batch)
            return []
        self._holds.due(batch.received)
        if batch.signal != "log":
            self._minutes.watch(batch)
            return list(self._close(batch.received, self._minutes.open()))
        rows, times = batch.rows, times_of(batch)
        self._first = self._first or min(int(times[0]), batch.received)
        severities = rows.column("severity_number").to_numpy(zero_copy_only=False).astype(np.int64)
        keys = rows.column("pattern").to_numpy(zero_copy_only=False)
        if not keys.all():
            keys = np.where(keys == 0, pattern_keys(rows.column("body")), keys)
        minutes, first_open = self._minutes.admit(times, batch.received)
        outputs: list[Batch] = []
        edges = [0, *(np.flatnonzero(np.diff(first_open)) + 1).tolist(), len(times)]
        for begin, end in pairwise(edges):  # a minute ends between the very lines between which it would in smaller batches
            outputs += self._close(batch.received, int(first_open[begin]))
            part = slice(begin, end)
            piece = rows.slice(begin, end - begin) if len(edges) > 2 else rows
            entities = self._entities.encode(piece.column("entity"))  # only now: names may have been forgotten with the minute before
            keep = (minutes[part] >= first_open[begin]) & (entities > 0)
            outputs += self._take(piece, keep, minutes[part], entities, keys[part], severities[part], times[part], batch.received)
        return [*outputs, *self._close(batch.received, self._minutes.open())]

    def _take(
        self, rows: pa.RecordBatch, keep: Mask, minutes: I64, entities: I64, keys: U64, severities: I64, times: I64, received: int
    ) -> list[Batch]:
        """Learn from lines between which no minute ends, and count those of minutes that are open."""
        templates, fresh = self._known.learn(keys, rows.column("body"), times, severities)
        events = [event for one in fresh for event in self._new(one, int(entities[one.row]), min(int(times[one.row]), received))]
        ordinals = np.arange(self._lines, self._lines + len(times))
        self._lines += len(times)
        if keep.any():
            kept = slice(None) if keep.all() else np.flatnonzero(keep)
            self._count(rows, kept, minutes, entities, templates, severities, times, ordinals)
        return [batch_of("event", _SOURCE, received, events)] if events else []

    def templates(
        self, *, entity: str = "", q: str = "", kind: str = "", only: int | None = None, limit: int = 1_000_000
    ) -> tuple[list[dict[str, Any]], int]:
        """The templates known, as plain data, and how many there are in all; see `log_view.listed`."""
        return log_view.listed(
            self._known, self._surges, self._entities.names, self._first + LEARNING, self._minutes.own, entity=entity, q=q, kind=kind,
            only=only, limit=limit,
        )  # fmt: skip

    def template(self, identity: str) -> dict[str, Any] | None:
        """All that is known of the template with this id, or that had it before it merged; None if there is none."""
        root = self._known.miner.by_id(identity)
        if root is None:
            return None
        (row,), _ = self.templates(only=root)
        return log_view.detailed(root, row, self._known, self._entities.names, self._why)

    def snapshot(self) -> bytes:
        """All state; the miner as the lines that taught it something."""
        usual, samples = self._profiles.state()
        texts = self._known.texts() | {
            "entities": self._entities.names, "first": self._first, "lines": self._lines, "day": self._day, "merges": self._merges,
            "clock": self._minutes.state(), "rated": [[*key, series] for key, series in self._rated.items()],
            "heard": list(self._heard.items()), "news": list(self._news.items()),
            "news_at": [[*key, count] for key, count in self._news_at.items()],
            "told": [[*key, *value] for key, value in self._told.items()], "why": [[*key, lifts] for key, lifts in self._why.items()],
            "usual": usual, "models": self._sequences.state(),
            "holds": self._holds.state(), "holds clock": self._holds.now,
        }  # fmt: skip
        batches = samples.combine_chunks().to_batches() if samples is not None and samples.num_rows else []
        return keeping.pack(
            self.name, _VERSION, texts, keys=self._known.keys, figures=self._known.figures, seen=self._known.seen,
            pairs=self._surges.pairs, moments=self._surges.moments, by_entity=self._surges.entities, open=_flat(self._open, 5),
            sessions=_flat(self._open_sessions, 5), waiting=self._sequences.rows,
            samples=np.frombuffer(to_ipc(batches[0]) if batches else b"", np.uint8),
        )  # fmt: skip

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; empty bytes start afresh.

        Raises:
            BadData: it is of another version.
        """
        self._reset()
        if not state:
            return
        texts, arrays = keeping.unpack(self.name, _VERSION, state)
        self._known.restore(texts, arrays["keys"], arrays["figures"], arrays["seen"])
        self._entities, self._minutes = Names(texts["entities"]), Minutes(*texts["clock"])
        self._first, self._lines, self._day, self._merges = (texts[name] for name in ("first", "lines", "day", "merges"))
        self._rated = {(entity, level): series for entity, level, series in texts["rated"]}
        self._heard, self._news = dict(texts["heard"]), dict(texts["news"])
        self._news_at = {(entity, minute): count for entity, minute, count in texts["news_at"]}
        self._told = {(entity, template, reason): (identity, since) for entity, template, reason, identity, since in texts["told"]}
        self._why = {(entity, template): [Lift(*lift) for lift in lifts] for entity, template, lifts in texts["why"]}
        self._holds = Holds(texts["holds"], texts["holds clock"])
        self._surges = Surges(arrays["pairs"], arrays["moments"], arrays["by_entity"])
        self._sequences = Sequences(arrays["waiting"], texts["models"])
        samples = arrays["samples"].tobytes()
        self._profiles = Profiles(texts["usual"], pa.table(from_ipc(samples)) if samples else None)
        for opened, name in ((self._open, "open"), (self._open_sessions, "sessions")):
            for minute in np.unique(arrays[name][0]).tolist():
                opened[minute].append(arrays[name][1:, arrays[name][0] == minute])

    def _count(
        self, rows: pa.RecordBatch, kept: Any, minutes: I64, entities: I64, templates: I64, severities: I64, times: I64, ordinals: I64
    ) -> None:
        """Put lines of open minutes where they wait for the minute's end."""
        if not isinstance(kept, slice):
            rows = rows.take(pa.array(kept))
        minutes, entities, templates, times = minutes[kept], entities[kept], templates[kept], times[kept]
        sessions = session_keys(rows)
        level = np.searchsorted([1, 9, 13, 17], severities[kept], "right")
        self._profiles.offer(rows, minutes, entities, templates, times, ordinals[kept])
        lines = np.stack((entities, sessions, templates, np.where(sessions != 0, times, 0)))
        for minute in np.unique(minutes).tolist():
            here = slice(None) if minutes[0] == minute == minutes[-1] and (minutes == minute).all() else minutes == minute
            counted = _counted(entities[here], templates[here], level[here])
            self._open[minute].append(counted)
            some = lines[:, here]
            if (some[1] == 0).all():
                some = np.stack((counted[0], np.zeros_like(counted[0]), counted[1], np.zeros_like(counted[0])))
            self._open_sessions[minute].append(some)

    def _new(self, fresh: Fresh, entity: int, time: int) -> list[dict[str, Any]]:
        place, template = (entity, time // MINUTE), fresh.template
        if fresh.level < ERROR or time - self._first < LEARNING or self._news_at.get(place, 0) >= _NEWS_A_MINUTE:
            return []
        self._news_at[place] = self._news_at.get(place, 0) + 1
        self._news[template] = time // MINUTE
        self._told[entity, template, "new-template"] = fresh.id, time
        name, line = self._entities.names[entity], self._known.miner.examples[template]
        return [log_findings.new_error(name, fresh.id, fresh.text, line=line, level=fresh.level, time=time)]

    def _close(self, received: int, opened: int) -> Iterator[Batch]:
        """Series and events of every minute before `opened`, oldest first."""
        held = set(np.flatnonzero(self._holds.covers(self._entities.names)).tolist()) if self._holds.active else set()
        for minute in sorted(m for m in self._open if m < opened):
            entities, templates, levels, counts = _summed(np.concatenate(self._open.pop(minute), axis=1))
            yield from self._rates(minute, entities, levels, counts, received)
            roots = self._known.roots()
            if self._known.miner.merges != self._merges:
                self._merges = self._known.miner.merges
                self._surges.merge(roots)
                self._sequences.renamed(roots)
                self._profiles.renamed(roots)
            pairs = _summed(np.stack((entities, roots[templates], np.zeros_like(levels), counts)))
            wrong = self._known.seen[:, 3] >= ERROR
            found = self._surges.count(minute, pairs[0], pairs[1], pairs[3], wrong, held)
            events = self._surging(minute, found, roots) + self._stale(minute, set(pairs[1].tolist()))
            sessions = np.concatenate(self._open_sessions.pop(minute), axis=1)
            sessions[2] = roots[sessions[2]]
            for odd in self._sequences.close(minute, sessions, held):
                events.append(log_findings.odd(self._entities.names[odd.entity], odd, self._known.text, minute=minute))
            if minute // FORGET != self._day:
                self._day = minute // FORGET
                events += self._forget(minute)
            if events:
                yield batch_of("event", _SOURCE, received, events)

    def _surging(self, minute: int, found: Sequence[Surge], roots: I64) -> list[dict[str, Any]]:
        """Events of surges and absences that begin and end."""
        begun = {(one.entity, one.template): (one.found, one.expected) for one in found if one.firing and not one.vanished}
        lifts = self._profiles.close(minute, roots, begun, lambda template, line: self._known.miner.values(template, line) or ())
        self._why |= {pair: lifts.get(pair, []) for pair in begun}
        for pair in list(self._why)[: max(len(self._why) - _EXPLAINED, 0)]:
            del self._why[pair]
        events = []
        for one in found:
            reason = "vanished" if one.vanished else "surge"
            if not one.firing:
                events += self._over(one.entity, one.template, reason, minute)
                continue
            name, example = self._entities.names[one.entity], self._known.miner.examples[one.template]
            identity, text = self._known.miner.id(one.template), self._known.text(one.template)
            self._told[one.entity, one.template, reason] = identity, one.since * MINUTE
            if one.vanished:
                events.append(log_findings.vanished(name, identity, text, one, minute=minute, example=example))
                continue
            level, why = int(self._known.seen[one.template, 3]), self._why[one.entity, one.template]
            events.append(log_findings.surge(name, identity, text, one, minute=minute, level=level, example=example, lifts=why))
        return events

    def _over(self, entity: int, template: int, reason: str, minute: int) -> list[dict[str, Any]]:
        """Ends what was told of a template or of those that have merged into it, under the ids it was told with."""
        find, events = self._known.miner.find, []
        for key in [key for key in self._told if (key[0], key[2]) == (entity, reason) and find(key[1]) == find(template)]:
            identity, since = self._told.pop(key)
            text = self._known.text(template)
            events.append(log_findings.over(self._entities.names[entity], identity, text, reason, since=since, time=minute * MINUTE))
        return events

    def _stale(self, minute: int, seen: set[int]) -> list[dict[str, Any]]:
        """Resolves news that have not been seen for some minutes."""
        events = []
        for template, last in list(self._news.items()):
            if self._known.miner.find(template) in seen:
                self._news[template] = minute
            elif minute - last >= _NEWS_OVER:
                del self._news[template]
                for entity, number, reason in list(self._told):
                    if (number, reason) == (template, "new-template"):
                        events += self._over(entity, template, reason, minute)
        self._news_at = {place: count for place, count in self._news_at.items() if place[1] >= minute - 1}
        return events

    def _forget(self, minute: int) -> list[dict[str, Any]]:
        """Let go of entities not heard for a day and of templates not seen for long; ends what nobody will hear of again."""
        running = self._surges.going()
        events = []
        for entity, template, reason in list(self._told):
            if reason != "new-template" and (entity, self._known.miner.find(template), reason) not in running:
                events += self._over(entity, template, reason, minute)
        needed = {template for _, template, _ in self._told} | set(self._news)
        needed |= {t for chunks in self._open.values() for chunk in chunks for t in chunk[1].tolist()}
        places = self._known.forget(minute, {self._known.miner.find(template) for template in needed})
        if places is not None:
            self._merges = self._known.miner.merges
            self._surges.move(places)
            self._sequences.renamed(places)
            self._profiles.renamed(places)
            for opened, row in ((self._open, 1), (self._open_sessions, 2)):
                for chunk in (chunk for chunks in opened.values() for chunk in chunks):
                    chunk[row] = places[chunk[row]]
            self._news = {int(places[template]): last for template, last in self._news.items()}
            self._told = {(entity, int(places[t]), reason): told for (entity, t, reason), told in self._told.items()}
            self._why = {(entity, int(places[t])): why for (entity, t), why in self._why.items() if places[t] >= 0}
        self._forget_entities(minute)
        return events

    def _forget_entities(self, minute: int) -> None:
        kept = {n for n in range(len(self._entities.names)) if self._heard.setdefault(n, minute) >= minute - FORGET}
        kept |= {n for chunks in self._open.values() for chunk in chunks for n in np.unique(chunk[0]).tolist()}
        kept |= {entity for entity, _, _ in self._told} | self._surges.running() | self._sequences.running()
        if len(kept | {0}) == len(self._entities.names):
            return
        place = self._entities.keep(kept)
        self._surges.renumber(place)
        self._sequences.renumber(place)
        self._profiles.renumber(place)
        self._heard = {int(place[n]): heard for n, heard in self._heard.items() if place[n] >= 0}
        self._rated = {(int(place[n]), level): series for (n, level), series in self._rated.items() if place[n] >= 0}
        self._news_at = {(int(place[n]), at): count for (n, at), count in self._news_at.items() if place[n] >= 0}
        self._told = {(int(place[n]), template, reason): told for (n, template, reason), told in self._told.items()}
        self._why = {(int(place[n]), template): why for (n, template), why in self._why.items() if place[n] >= 0}
        for opened in (self._open, self._open_sessions):
            for chunk in (chunk for chunks in opened.values() for chunk in chunks):
                chunk[0] = place[chunk[0]]

    def _rates(self, minute: int, entities: I64, levels: I64, counts: I64, received: int) -> Iterator[Batch]:
        """Records by entity and severity; a severity once seen of an entity counts 0 while the entity says other things."""
        by_class: dict[tuple[int, int], int] = defaultdict(int)
        for entity, level, count in zip(entities.tolist(), levels.tolist(), counts.tolist(), strict=True):
            by_class[entity, level] += count
        news = []
        active = {entity for entity, _ in by_class}
        back = {entity for entity in active if minute - self._heard.get(entity, minute) > FORGET}
        self._heard.update(dict.fromkeys(active, minute))
        if back:  # others may have forgotten what was told of them
            self._rated = {key: series for key, series in self._rated.items() if key[0] not in back}
        for entity, level in sorted(set(by_class) - set(self._rated)):
            name, attributes = self._entities.names[entity], {"severity": _CLASSES[level]}
            news.append(described("ninefold.log.records", "{record}", "delta", name, attributes, minute * MINUTE))
            self._rated[entity, level] = news[-1]["series"]
        if news:
            yield batch_of("series", _SOURCE, received, news)
        told = [(series, by_class.get(key, 0)) for key, series in self._rated.items() if key[0] in active]
        ids, values = zip(*told, strict=True)
        yield points(_SOURCE, received, np.array(ids, np.uint64), minute * MINUTE, np.array(values, np.float64))


def mine(lines: Sequence[str]) -> list[int]:
    """Template numbers of lines, after all have been seen: equal number, same template."""
    miner = Miner()
    found = [miner.add(line) for line in lines]
    return [miner.find(template) for template in found]


def session_keys(rows: pa.RecordBatch) -> I64:
    """A key of the session of each log row: of its trace id, else of the first attribute of `SESSIONS` that it has; 0 without."""
    keys: I64 = text_keys(rows.column("trace_id")).view(np.int64)
    attributes = rows.column("attributes")
    offsets = attributes.offsets.to_numpy()
    names = attributes.keys.slice(offsets[0], offsets[-1] - offsets[0])
    if not len(names):
        return keys
    rank = pc.fill_null(pc.index_in(names, SESSIONS), -1).to_numpy(zero_copy_only=False)
    if not (rank >= 0).any():
        return keys
    places = np.flatnonzero(rank >= 0)
    owners = np.searchsorted(offsets, places + offsets[0], "right") - 1
    order = np.lexsort((rank[places], owners))
    owners, first = np.unique(owners[order], return_index=True)
    texts = attributes.items.take(pa.array(places[order][first] + offsets[0]))
    keys[owners] = np.where(keys[owners] == 0, text_keys(texts).view(np.int64), keys[owners])
    return keys


def _flat(opened: dict[int, list[I64]], columns: int) -> I64:
    """The chunks of open minutes as one array, the minute first."""
    chunks = [np.vstack((np.full(chunk.shape[1], minute), chunk)) for minute, some in opened.items() for chunk in some]
    return np.concatenate(chunks, axis=1) if chunks else np.empty((columns, 0), np.int64)


def _counted(entities: I64, templates: I64, levels: I64) -> I64:
    """(entity, template, level) rows as distinct (entity, template, level, count)."""
    distinct, counts = np.unique(entities << 40 | templates << 8 | levels, return_counts=True)
    return np.stack((distinct >> 40, distinct >> 8 & 0xFFFFFFFF, distinct & 0xFF, counts))


def _summed(rows: I64) -> I64:
    """(entity, template, level, count) rows with counts of equal rows added."""
    distinct, inverse = np.unique(rows[0] << 40 | rows[1] << 8 | rows[2], return_inverse=True)
    counts = np.bincount(inverse, weights=rows[3]).astype(np.int64)
    return np.stack((distinct >> 40, distinct >> 8 & 0xFFFFFFFF, distinct & 0xFF, counts))
