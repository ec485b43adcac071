"""Log analytics: pattern keys, templates, new errors, surges, and log rates as series.

A line costs one look at its pattern key; only a key never seen before goes to the miner. Per entity and minute, templates are
counted against their own history (`surges`), and records by severity leave as the series ``ninefold.log.records``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ninefold.analytics import keeping
from ninefold.analytics.findings import anomaly, described, number, points
from ninefold.analytics.keys import pattern_keys
from ninefold.analytics.minutes import FORGET, I64, Minutes, Names, times_of
from ninefold.analytics.surges import Surge, Surges
from ninefold.analytics.templates import Miner
from ninefold.ground.clock import MINUTE
from ninefold.model.signal import TIME, Batch, batch_of

__all__ = ["LogTemplates", "mine", "pattern_keys"]

KEY_LIMIT = 200_000
"""Pattern keys that are remembered; the half not seen for longest is forgotten (its templates are not)."""
LEARNING = 10 * MINUTE
"""Event time after the first line before a new error template is news."""
_SOURCE = "ninefold.logs"
_VERSION = 1
_CLASSES = ("unspecified", "debug", "info", "warning", "error")
_ERROR, _FATAL = 17, 21
_WRONG = re.compile(r"\b(?:ERROR|FATAL|CRITICAL|PANIC)\b|\b\w{0,60}(?:Exception|Error)\b|^Traceback")
_NEWS_A_MINUTE = 3
_NEWS_OVER = 5


class LogTemplates:
    """The technique over logs. It looks at metrics only for their clock, so that a quiet stream's last minute is closed too."""

    name: ClassVar[str] = "logs"
    signals: ClassVar[frozenset[str]] = frozenset({"log", "metric"})

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._minutes = Minutes()
        self._entities = Names()
        self._miner = Miner()
        self._merges = 0
        self._severity: list[int] = []
        self._slots: dict[int, int] = {}
        self._keys = np.zeros((0, 5), np.int64)
        self._first = 0
        self._open: dict[int, list[I64]] = defaultdict(list)
        self._surges = Surges()
        self._told: dict[tuple[int, int], int] = {}
        self._news: dict[int, list[int]] = {}
        self._news_at: dict[tuple[int, int], int] = {}
        self._heard: dict[int, int] = {}
        self._day = 0

    def process(self, batch: Batch) -> list[Batch]:
        """Learn from lines; returns events of new errors, and series and surges of the minutes that are over."""
        if batch.rows.num_rows == 0:
            return []
        if batch.signal != "log":
            self._minutes.watch(batch)
            return list(self._close(batch.received))
        rows, times = batch.rows, times_of(batch)
        self._first = self._first or int(times[0])
        entities = self._entities.encode(rows.column("entity"))
        severities = rows.column("severity_number").to_numpy(zero_copy_only=False).astype(np.int64)
        keys = rows.column("pattern").to_numpy(zero_copy_only=False)
        if not keys.all():
            keys = np.where(keys == 0, pattern_keys(rows.column("body")), keys)
        templates, events = self._learn(keys, rows.column("body"), times, entities, severities)
        minutes, first_open = self._minutes.admit(times, batch.received)
        level = np.searchsorted([1, 9, 13, 17], severities, "right")
        keep = (minutes >= first_open) & (entities > 0)
        for minute in np.unique(minutes[keep]).tolist():
            here = keep & (minutes == minute)
            self._open[minute].append(_counted(np.stack((entities[here], templates[here], level[here]))))
        news = [batch_of("event", _SOURCE, batch.received, events)] if events else []
        return news + list(self._close(batch.received))

    def templates(self) -> pa.Table:
        """One row a pattern key: pattern, template, text, count, first_seen, last_seen, example; most frequent first."""
        order = np.argsort(-self._keys[:, 2], kind="stable")
        table = self._keys[order]
        roots = [self._miner.find(template) for template in table[:, 1].tolist()]
        return pa.table({
            "pattern": pa.array(table[:, 0].view(np.uint64)),
            "template": pa.array(roots, pa.int64()),
            "text": pa.array([self._miner.text(root) for root in roots], pa.string()),
            "count": pa.array(table[:, 2]),
            "first_seen": pa.array(table[:, 3], TIME),
            "last_seen": pa.array(table[:, 4], TIME),
            "example": pa.array([self._miner.examples[template] for template in table[:, 1].tolist()], pa.string()),
        })  # fmt: skip

    def snapshot(self) -> bytes:
        """All state; the miner as the lines that taught it something."""
        texts = {
            "examples": self._miner.examples, "entities": self._entities.names, "first": self._first,
            "clock": self._minutes.state(), "told": [[*key, series] for key, series in self._told.items()],
            "news": list(self._news.items()), "news_at": [[*key, count] for key, count in self._news_at.items()],
            "heard": list(self._heard.items()), "day": self._day,
        }  # fmt: skip
        opened = [np.vstack((np.full(chunk.shape[1], m), chunk)) for m, chunks in self._open.items() for chunk in chunks]
        return keeping.pack(
            self.name, _VERSION, texts, keys=self._keys, severity=np.array(self._severity, np.int64), pairs=self._surges.pairs,
            moments=self._surges.moments, by_entity=self._surges.entities,
            open=np.concatenate(opened, axis=1) if opened else np.empty((5, 0), np.int64),
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
        for line in texts["examples"]:
            self._miner.add(line)
        self._merges = self._miner.merges
        self._entities, self._first, self._minutes = Names(texts["entities"]), texts["first"], Minutes(*texts["clock"])
        self._told = {(entity, level): series for entity, level, series in texts["told"]}
        self._news = dict(texts["news"])
        self._news_at = {(entity, minute): count for entity, minute, count in texts["news_at"]}
        self._heard, self._day = dict(texts.get("heard", ())), texts.get("day", 0)
        self._keys, self._severity = arrays["keys"], arrays["severity"].tolist()
        self._slots = {key: slot for slot, key in enumerate(self._keys[:, 0].view(np.uint64).tolist())}
        self._surges = Surges(arrays["pairs"], arrays["moments"], arrays["by_entity"])
        for minute in np.unique(arrays["open"][0]).tolist():
            self._open[minute].append(arrays["open"][1:, arrays["open"][0] == minute])

    def _learn(
        self, keys: np.ndarray[Any, Any], bodies: pa.Array, times: I64, entities: I64, severities: I64
    ) -> tuple[I64, list[dict[str, Any]]]:
        """The template of each row, and events for new error templates."""
        distinct, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        slots = np.empty(len(distinct), np.int64)
        events: list[dict[str, Any]] = []
        new: list[list[int]] = []
        known = distinct.tolist()
        for i in np.argsort(first).tolist():
            slot = self._slots.get(known[i])
            if slot is None:
                row = int(first[i])
                line = bodies[row].as_py() or ""
                before = len(self._miner.parent)
                template = self._miner.add(line)
                if len(self._miner.parent) > before:
                    level = int(severities[row]) or (_ERROR if _WRONG.search(line) else 0)
                    self._severity.append(level)
                    events += self._new(template, line, level, int(entities[row]), int(times[row]))
                slot = self._slots[known[i]] = len(self._keys) + len(new)
                new.append([known[i], template, 0, int(times[row]), 0])
            slots[i] = slot
        if new:
            fresh = np.array(new, np.uint64).view(np.int64)
            self._keys = np.concatenate((self._keys, fresh))
        self._keys[slots, 2] += counts
        latest = np.full(len(distinct), np.iinfo(np.int64).min)
        np.maximum.at(latest, inverse, times)
        self._keys[slots, 4] = np.maximum(self._keys[slots, 4], latest)
        templates = self._keys[slots, 1][inverse]
        if len(self._keys) > KEY_LIMIT:
            self._keys = self._keys[np.sort(np.argsort(self._keys[:, 4], kind="stable")[-KEY_LIMIT // 2 :])]
            self._slots = {key: slot for slot, key in enumerate(self._keys[:, 0].view(np.uint64).tolist())}
        return templates, events

    def _new(self, template: int, line: str, level: int, entity: int, time: int) -> list[dict[str, Any]]:
        place = entity, time // MINUTE
        if level < _ERROR or time - self._first < LEARNING or self._news_at.get(place, 0) >= _NEWS_A_MINUTE:
            return []
        self._news_at[place] = self._news_at.get(place, 0) + 1
        self._news[template] = [entity, time, time // MINUTE, level]
        return [self._news_event(template, firing=True, time=time, line=line)]

    def _news_event(self, template: int, *, firing: bool, time: int, line: str = "") -> dict[str, Any]:
        entity, since, _, level = self._news[template]
        text, name = self._miner.text(template), self._entities.names[entity]
        title = f"new error in {_short(name)}: {text[:120]}" if firing else f"no longer seen in {_short(name)}: {text[:120]}"
        return anomaly(
            self.name, {"entity": name, "template": str(template)}, entity=name, time=time, since=since, firing=firing, title=title,
            body=line, severity="high" if level >= _FATAL else "warning", attributes={"reason": "new-template", "text": text},
        )  # fmt: skip

    def _close(self, received: int) -> Iterator[Batch]:
        """Series and events of every minute that is over, oldest first."""
        opened = self._minutes.open()
        for minute in sorted(m for m in self._open if m < opened):
            entities, templates, levels, counts = _summed(np.concatenate(self._open.pop(minute), axis=1))
            yield from self._rates(minute, entities, levels, counts, received)
            roots = np.array([self._miner.find(template) for template in range(len(self._miner.parent))], np.int64)
            if self._miner.merges != self._merges:
                self._merges = self._miner.merges
                self._surges.merge(roots)
            pairs = _summed(np.stack((entities, roots[templates], np.zeros_like(levels), counts)))
            wrong = np.array(self._severity, np.int64) >= _ERROR
            events = [self._surge(surge, minute) for surge in self._surges.count(minute, pairs[0], pairs[1], pairs[3], wrong)]
            events += self._stale(minute, set(pairs[1].tolist()))
            if events:
                yield batch_of("event", _SOURCE, received, events)
            if minute // FORGET != self._day:
                self._day = minute // FORGET
                self._forget(minute)

    def _forget(self, minute: int) -> None:
        """Let go of entities not heard for a day; the others are numbered anew."""
        kept = {n for n in range(len(self._entities.names)) if self._heard.setdefault(n, minute) >= minute - FORGET}
        kept |= {n for chunks in self._open.values() for chunk in chunks for n in np.unique(chunk[0]).tolist()}
        kept |= {news[0] for news in self._news.values()} | self._surges.running()
        if len(kept | {0}) == len(self._entities.names):
            return
        place = self._entities.keep(kept)
        self._surges.renumber(place)
        self._heard = {int(place[n]): heard for n, heard in self._heard.items() if place[n] >= 0}
        self._told = {(int(place[n]), level): series for (n, level), series in self._told.items() if place[n] >= 0}
        self._news_at = {(int(place[n]), at): count for (n, at), count in self._news_at.items() if place[n] >= 0}
        for news in self._news.values():
            news[0] = int(place[news[0]])
        for chunk in (chunk for chunks in self._open.values() for chunk in chunks):
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
            self._told = {key: series for key, series in self._told.items() if key[0] not in back}
        for entity, level in sorted(set(by_class) - set(self._told)):
            name, attributes = self._entities.names[entity], {"severity": _CLASSES[level]}
            news.append(described("ninefold.log.records", "{record}", "delta", name, attributes, minute * MINUTE))
            self._told[entity, level] = news[-1]["series"]
        if news:
            yield batch_of("series", _SOURCE, received, news)
        told = [(series, by_class.get(key, 0)) for key, series in self._told.items() if key[0] in active]
        ids, values = zip(*told, strict=True)
        yield points(_SOURCE, received, np.array(ids, np.uint64), minute * MINUTE, np.array(values, np.float64))

    def _surge(self, surge: Surge, minute: int) -> dict[str, Any]:
        name, text = self._entities.names[surge.entity], self._miner.text(surge.template)
        usual = number(surge.expected)
        title = f"{_short(name)} logs {number(surge.found)} a minute, usually {usual}: {text[:120]}"
        if not surge.firing:
            title = f"{_short(name)} is back to {usual} a minute: {text[:120]}"
        level = self._severity[surge.template]
        return anomaly(
            self.name, {"entity": name, "template": str(surge.template)}, entity=name, time=minute * MINUTE, since=surge.since * MINUTE,
            firing=surge.firing, title=title, body=self._miner.examples[surge.template],
            severity="high" if level >= _ERROR and surge.score >= 10 else "warning",
            attributes={
                "reason": "surge", "text": text, "value": number(surge.found), "expected": usual, "score": f"{surge.score:.3g}",
            },
        )  # fmt: skip

    def _stale(self, minute: int, seen: set[int]) -> list[dict[str, Any]]:
        """Resolves news that have not been seen for some minutes."""
        events = []
        for template, news in list(self._news.items()):
            if self._miner.find(template) in seen:
                news[2] = minute
            elif minute - news[2] >= _NEWS_OVER:
                events.append(self._news_event(template, firing=False, time=minute * MINUTE))
                del self._news[template]
        self._news_at = {place: count for place, count in self._news_at.items() if place[1] >= minute - 1}
        return events


def mine(lines: Sequence[str]) -> list[int]:
    """Template numbers of lines, after all have been seen: equal number, same template."""
    miner = Miner()
    found = [miner.add(line) for line in lines]
    return [miner.find(template) for template in found]


def _short(entity: str) -> str:
    return entity.partition(":")[2] or entity or "an unknown sender"


def _counted(rows: I64) -> I64:
    """(entity, template, level) rows as distinct (entity, template, level, count)."""
    distinct, counts = np.unique(rows[0] << 40 | rows[1] << 8 | rows[2], return_counts=True)
    return np.stack((distinct >> 40, distinct >> 8 & 0xFFFFFFFF, distinct & 0xFF, counts))


def _summed(rows: I64) -> I64:
    """(entity, template, level, count) rows with counts of equal rows added."""
    distinct, inverse = np.unique(rows[0] << 40 | rows[1] << 8 | rows[2], return_inverse=True)
    counts = np.bincount(inverse, weights=rows[3]).astype(np.int64)
    return np.stack((distinct >> 40, distinct >> 8 & 0xFFFFFFFF, distinct & 0xFF, counts))
