"""What spans say beside themselves: who calls whom, and how often, how long and how wrong, a minute at a time.

*Topology*: a span whose parent belongs to another entity is a call; so is a client span whose attributes name its peer. A call
is told when first seen and every five minutes of event time after.

*RED*: per entity and span name and minute, the calls, the errors, the mean and the 95th percentile of the duration; and per
entity, the median time between a caller's client span and its own server span (the network and the queue before it), which is
where network faults show: half of its calls must be late, so one odd caller does not count. These leave as ordinary series
when the minute is over.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.analytics import keeping, warm
from ninefold.analytics.findings import described, points
from ninefold.analytics.logs.keys import text_keys
from ninefold.analytics.minutes import FORGET, I64, Minutes, Names, times_of
from ninefold.ground.clock import MINUTE
from ninefold.model.signal import Batch, batch_of

RECENT, WAITING, KNOWN = 1 << 18, 1 << 13, 1 << 12
NAME_LIMIT = 200
"""Span names an entity may have; the rest are counted together as ``(other)``."""
REFRESH = 5 * MINUTE
_SOURCE = "ninefold.spans"
_VERSION = 1
_KINDS = pa.array(["client", "server", "producer"])
_PEER_KEYS = pa.array(["peer.service", "server.address", "net.peer.name", "db.system.name", "db.system", "messaging.system"])
"""Attributes that name the other side, the most telling first."""
_ADDRESS = re.compile(r"^[\d.]+$|:.*:|^localhost$|^$")
_MEASURES = (
    ("ninefold.span.calls", "{call}", "delta"), ("ninefold.span.errors", "{call}", "delta"),
    ("ninefold.span.duration.p95", "ms", "gauge"), ("ninefold.span.duration.mean", "ms", "gauge"),
)  # fmt: skip
_GAP = ("ninefold.span.gap.p50", "ms", "gauge")


class Spans:
    """The technique over spans. It looks at metrics only for their clock, so that a quiet stream's last minute is closed too."""

    name: ClassVar[str] = "spans"
    signals: ClassVar[frozenset[str]] = frozenset({"span", "metric"})

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._minutes = Minutes()
        self._entities = Names()
        self._short: dict[str, int] = {}
        self._groups: dict[tuple[int, str], int] = {}
        self._pairs: list[tuple[int, str]] = []
        self._names_of: dict[int, int] = defaultdict(int)
        self._told: dict[tuple[str, int], list[int]] = {}
        self._heard: dict[tuple[str, int], int] = {}
        self._day = 0
        self._calls: dict[tuple[int, int], int] = {}
        self._open: dict[int, list[I64]] = defaultdict(list)
        self._open_gaps: dict[int, list[I64]] = defaultdict(list)
        self._keys, self._facts = np.zeros(RECENT, np.uint64), np.zeros(RECENT, np.int64)
        self._waiting, self._facts_waiting = np.zeros((WAITING, 4), np.uint64), np.zeros((WAITING, 4, 2), np.int64)
        self._known = np.zeros((KNOWN, 2), np.int64)

    def process(self, batch: Batch) -> list[Batch]:
        """Learn from spans; returns new and refreshed relations, and the series of the minutes that are over."""
        if batch.rows.num_rows == 0:
            return []
        if batch.signal != "span":
            self._minutes.watch(batch)
            return list(self._close(batch.received))
        return [output for piece in self._minutes.days(batch) for output in (*self._take(piece), *self._close(batch.received))]

    def _take(self, batch: Batch) -> Iterator[Batch]:
        """Take in spans; returns new and refreshed relations."""
        rows, times = batch.rows, times_of(batch)
        entities = self._entities.encode(rows.column("entity"))
        durations = rows.column("duration").to_numpy(zero_copy_only=False)
        kinds = pc.fill_null(pc.index_in(rows.column("kind"), _KINDS), -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        minutes, first_open = self._minutes.admit(times, batch.received)
        errors = pc.equal(rows.column("status"), "error").to_numpy(zero_copy_only=False)
        groups = self._group(entities, rows.column("name"))
        _collect(self._open, minutes, (minutes >= first_open) & (entities > 0), np.stack((groups, durations, errors)))
        edges, gaps = self._link(rows, entities, kinds, durations, times)
        gap_minutes = gaps[:, 2] // MINUTE
        _collect(self._open_gaps, gap_minutes, gap_minutes >= first_open[gaps[:, 0]], gaps[:, [1, 3]].T)
        return self._relations(edges, batch.received)

    def snapshot(self) -> bytes:
        """All state: names, calls, open minutes, and the recent spans that wait for company."""
        texts = {
            "entities": self._entities.names, "short": self._short, "groups": list(self._groups), "told": list(self._told.items()),
            "calls": [[a, b, t] for (a, b), t in self._calls.items()], "clock": self._minutes.state(),
            "heard": list(self._heard.items()), "day": self._day,
        }  # fmt: skip
        return keeping.pack(
            self.name, _VERSION, texts, keys=self._keys, facts=self._facts, waiting=self._waiting, facts_waiting=self._facts_waiting,
            known=self._known, open=_flat(self._open, 3), gaps=_flat(self._open_gaps, 2),
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
        self._minutes = Minutes(*texts["clock"])
        self._entities, self._short = Names(texts["entities"]), texts["short"]
        for entity, name in texts["groups"]:
            self._new_group(entity, name)
        self._told = {(kind, number): series for (kind, number), series in texts["told"]}
        self._heard = {(kind, number): minute for (kind, number), minute in texts.get("heard", ())}
        self._day = texts.get("day", 0)
        self._calls = {(a, b): t for a, b, t in texts["calls"]}
        self._keys, self._facts, self._known = arrays["keys"], arrays["facts"], arrays["known"]
        self._waiting, self._facts_waiting = arrays["waiting"], arrays["facts_waiting"]
        for opened, flat in ((self._open, arrays["open"]), (self._open_gaps, arrays["gaps"])):
            _collect(opened, flat[0], np.ones(flat.shape[1], bool), flat[1:])

    def _group(self, entities: I64, names: pa.Array) -> I64:
        """The number of each row's (entity, span name)."""
        coded = names.dictionary_encode()
        words = coded.dictionary.to_pylist()
        pairs, first, inverse = np.unique(
            entities << 32 | coded.indices.to_numpy(zero_copy_only=False).astype(np.int64), return_index=True, return_inverse=True
        )
        numbers = np.zeros(len(pairs), np.int64)
        for i in np.argsort(first).tolist():
            entity, name = int(pairs[i]) >> 32, words[int(pairs[i]) & 0xFFFFFFFF]
            found = self._groups.get((entity, name))
            if found is None and self._names_of[entity] >= NAME_LIMIT:
                name = "(other)"
                found = self._groups.get((entity, name))
            numbers[i] = self._new_group(entity, name) if found is None else found
        return numbers[inverse]

    def _new_group(self, entity: int, name: str) -> int:
        self._groups[entity, name] = len(self._pairs)
        self._pairs.append((entity, name))
        self._names_of[entity] += 1
        return len(self._pairs) - 1

    def _link(self, rows: pa.RecordBatch, entities: I64, kinds: I64, durations: I64, times: I64) -> tuple[I64, I64]:
        """Calls (caller, callee, time) and gaps (row, callee, time, ns) found by joining the rows with their parents."""
        trace = text_keys(rows.column("trace_id"))
        own, parent = text_keys(rows.column("span_id")), text_keys(rows.column("parent_span_id"))
        edges, gaps = np.empty((6 * len(own), 3), np.int64), np.empty((5 * len(own), 4), np.int64)
        peers = self._peers(rows.column("attributes"), kinds, self._appearing(entities))
        made, measured = warm.loops("traces.joining").link(
            own ^ trace, np.where(parent == 0, 0, parent ^ trace).astype(np.uint64), entities, kinds, durations, times, peers,
            self._keys, self._facts, self._waiting, self._facts_waiting, self._known, edges, gaps,
        )  # fmt: skip
        return edges[:made], gaps[:measured]

    def _appearing(self, entities: I64) -> dict[str, tuple[int, int]]:
        """Short names that are heard first in these rows: the row, and the entity's number."""
        numbers, rows = np.unique(entities, return_index=True)
        found: dict[str, tuple[int, int]] = {}
        for row, number in sorted(zip(rows.tolist(), numbers.tolist(), strict=True)):
            short = re.split("[:/]", self._entities.names[number])[-1]
            if short not in self._short:
                self._short[short] = number
                found[short] = row, number
        return found

    def _peers(self, attributes: pa.MapArray, kinds: I64, appearing: Mapping[str, tuple[int, int]]) -> I64:
        """The entity that a client or producer span's attributes name as its peer, 0 for none. An address is not a name, and a short
        name means an entity from the row on in which that is `appearing`."""
        peers = np.zeros(len(kinds), np.int64)
        edges = attributes.offsets.to_numpy(zero_copy_only=False)
        keys = attributes.keys.slice(edges[0], edges[-1] - edges[0])
        codes = pc.fill_null(pc.index_in(keys, _PEER_KEYS), -1).to_numpy(zero_copy_only=False)
        hits = np.flatnonzero(codes >= 0)
        row = np.searchsorted(edges - edges[0], hits, "right") - 1
        mine = (kinds[row] == 1) | (kinds[row] == 3)
        hits, row, codes = hits[mine], row[mine], codes[hits[mine]]
        coded = attributes.items.take(pa.array(hits + edges[0])).dictionary_encode()
        names = [_short(text) for text in coded.dictionary.to_pylist()]
        numbers = np.array([self._peer(name) for name in names], np.int64)
        place = coded.indices.to_numpy(zero_copy_only=False)
        found = numbers[place] if len(place) else np.empty(0, np.int64)
        for i in (i for i, name in enumerate(names) if name in appearing):
            early = (place == i) & (row < appearing[names[i]][0])
            if early.any():
                found[early] = self._entities.number(f"service:{names[i]}")
        for code in reversed(range(len(_PEER_KEYS))):
            at = (codes == code) & (found > 0)
            peers[row[at]] = found[at]
        return peers

    def _peer(self, name: str) -> int:
        return (self._short.get(name) or self._entities.number(f"service:{name}")) if name else 0

    def _relations(self, edges: I64, received: int) -> Iterator[Batch]:
        names, found = self._entities.names, []
        for caller, callee, time in edges.tolist():
            last = self._calls.get((caller, callee))
            if last is None or time - last >= REFRESH:
                self._calls[caller, callee] = time
                found.append({"time": time, "from_entity": names[caller], "to_entity": names[callee], "kind": "calls"})
        if found:
            yield batch_of("relation", _SOURCE, received, found)

    def _close(self, received: int) -> Iterator[Batch]:
        """The series of every minute that is over, oldest first."""
        opened = self._minutes.open()
        for minute in sorted(m for m in {*self._open, *self._open_gaps} if m < opened):
            time = minute * MINUTE
            news: list[dict[str, Any]] = []
            ids: list[int] = []
            values: list[np.ndarray[Any, Any]] = []
            if minute in self._open:
                numbers, table = _summary(np.concatenate(self._open.pop(minute), axis=1))
                for number in numbers:
                    ids += self._tell(number, time, news)
                values.append(table.ravel())
            if minute in self._open_gaps:
                callees, medians = _medians(np.concatenate(self._open_gaps.pop(minute), axis=1))
                for callee in callees:
                    ids += self._tell_gap(callee, time, news)
                values.append(medians)
            if news:
                yield batch_of("series", _SOURCE, received, news)
            yield points(_SOURCE, received, np.array(ids, np.uint64), time, np.concatenate(values))
        if opened // FORGET != self._day:
            self._day = opened // FORGET
            self._forget(self._day * FORGET)

    def _series(self, key: tuple[str, int], time: int) -> list[int] | None:
        """What was told under a key, unless that is so long ago that others may have forgotten it."""
        minute = time // MINUTE
        last, self._heard[key] = self._heard.get(key, minute), minute
        return self._told.get(key) if minute - last <= FORGET else None

    def _tell(self, number: int, time: int, news: list[dict[str, Any]]) -> list[int]:
        """The series ids of a group's four measures; their descriptions go to `news` the first time, and after a day of silence."""
        told = self._series(("", number), time)
        if told is None:
            entity, name = self._pairs[number]
            rows = [described(m, unit, kind, self._entities.names[entity], {"span.name": name}, time) for m, unit, kind in _MEASURES]
            told = self._told["", number] = [row["series"] for row in rows]
            news += rows
        return told

    def _tell_gap(self, entity: int, time: int, news: list[dict[str, Any]]) -> list[int]:
        told = self._series(("gap", entity), time)
        if told is None:
            row = described(*_GAP, self._entities.names[entity], {}, time)
            told = self._told["gap", entity] = [row["series"]]
            news.append(row)
        return told

    def _forget(self, minute: int) -> None:
        """Let go of span names and entities not heard for a day; the others are numbered anew."""
        oldest = minute - FORGET
        busy, gapped = (_numbers(opened) for opened in (self._open, self._open_gaps))
        kept = [n for n in range(len(self._pairs)) if n in busy or self._heard.setdefault(("", n), minute) >= oldest]
        self._calls = {pair: time for pair, time in self._calls.items() if time >= oldest * MINUTE}
        entities = {self._pairs[n][0] for n in kept} | {entity for pair in self._calls for entity in pair} | gapped
        if len(kept) == len(self._pairs) and len(entities | {0}) == len(self._entities.names):
            return
        place, group = self._entities.keep(entities), np.full(len(self._pairs), -1, np.int64)
        group[kept] = np.arange(len(kept))
        pairs, self._groups, self._pairs = self._pairs, {}, []
        self._names_of.clear()
        for n in kept:
            self._new_group(int(place[pairs[n][0]]), pairs[n][1])
        where = {"": group, "gap": place}
        moved = [(kind, n, int(where[kind][n])) for kind, n in self._heard if self._heard[kind, n] >= oldest and where[kind][n] >= 0]
        self._told = {(kind, new): self._told[kind, n] for kind, n, new in moved if (kind, n) in self._told}
        self._heard = {(kind, new): self._heard[kind, n] for kind, n, new in moved}
        self._calls = {(int(place[a]), int(place[b])): time for (a, b), time in self._calls.items()}
        self._short = {name: int(place[n]) for name, n in self._short.items() if place[n] > 0}
        for opened, numbers in ((self._open, group), (self._open_gaps, place)):
            for chunk in (chunk for chunks in opened.values() for chunk in chunks):
                chunk[0] = numbers[chunk[0]]
        for table in (self._keys, self._facts, self._waiting, self._facts_waiting, self._known):
            table[:] = 0  # spans under way hold old numbers: once a day their company is not found


def _short(peer: str) -> str:
    """The name that a peer's attribute gives it; empty for an address."""
    name = re.sub(r":\d+$", "", peer)
    if _ADDRESS.search(name):
        return ""
    return name.partition(".")[0] if ".svc" in name else name


def _collect(opened: dict[int, list[I64]], minutes: I64, keep: np.ndarray[Any, Any], columns: np.ndarray[Any, Any]) -> None:
    """Put the kept columns into the list of their minute."""
    for minute in np.unique(minutes[keep]).tolist():
        opened[minute].append(columns[:, keep & (minutes == minute)].astype(np.int64))


def _numbers(opened: Mapping[int, list[I64]]) -> set[int]:
    """What the rows of open minutes are about."""
    return {n for chunks in opened.values() for chunk in chunks for n in np.unique(chunk[0]).tolist()}


def _flat(opened: dict[int, list[I64]], width: int) -> I64:
    """Everything in open minutes as one array, the minute in front."""
    parts = [np.vstack((np.full(chunk.shape[1], minute), chunk)) for minute, chunks in opened.items() for chunk in chunks]
    return np.concatenate(parts, axis=1) if parts else np.empty((width + 1, 0), np.int64)


def _summary(columns: I64) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Group numbers, and calls, errors, p95 and mean (ms) of each, from rows of (group, duration ns, error)."""
    group, duration, error = columns[:, np.lexsort((columns[1], columns[0]))]
    numbers, start, count = np.unique(group, return_index=True, return_counts=True)
    p95 = duration[start + np.ceil(0.95 * count).astype(np.int64) - 1]
    table = (count, np.add.reduceat(error, start), p95 / 1e6, np.add.reduceat(duration, start) / count / 1e6)
    return numbers.tolist(), np.stack(table, axis=1)


def _medians(columns: I64) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Entities, and the median gap (ms, not below 0) of each, from rows of (entity, gap ns)."""
    entity, gap = columns[:, np.lexsort((columns[1], columns[0]))]
    numbers, start, count = np.unique(entity, return_index=True, return_counts=True)
    return numbers.tolist(), np.maximum(gap[start + count // 2] / 1e6, 0.0)
