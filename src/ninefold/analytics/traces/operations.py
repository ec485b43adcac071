"""What operations are like, and what changed: the distribution of latency, the kinds of errors, and the critical path, from spans.

An operation is an entity and a span name. Of each minute its latencies are a histogram and its failures are counted by kind; minutes are
put together until there are calls enough to judge. A window is held against what was learned of the operation (`shifts`, a binomial
tail for kinds of errors, `critical` for whole traces), and two odd windows in a row, or one that leaves no doubt, are a finding. Odd
windows are not learned from, until for an hour nothing else came; nor is what happens while `holds` says so.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc

from ninefold.analytics import keeping
from ninefold.analytics.episodes import ALARM, SURE, Episodes
from ninefold.analytics.findings import anomaly, quantity
from ninefold.analytics.holds import Holds
from ninefold.analytics.logs.keys import text_keys
from ninefold.analytics.minutes import FORGET, I64, Minutes, times_of
from ninefold.analytics.traces import shifts
from ninefold.analytics.traces.critical import CriticalPaths, Moved
from ninefold.analytics.traces.failures import STUCK, Failures, Judged, usual_share
from ninefold.analytics.traces.shifts import BINS, F32, F64
from ninefold.ground.clock import MINUTE
from ninefold.model.entity import hash64
from ninefold.model.signal import Batch, batch_of

LIMIT, NAME_LIMIT = 4096, 200
"""Operations in all, names of an entity; what is beyond is counted together or, in all, left out."""
KIND = "observation"
"""The findings' kind of event: kept, queried and shown beside what else happened, while incidents are made of alerts and anomalies."""
TRANSIT = "(on the way)"
"""The operation of an entity that stands for the time between its callers' client spans and its own spans, in sampled traces."""
_CALLS, _FEW, _PATIENCE, _EARLY = 20, 5, 5, 3
"""A window ends with so many calls, after so many minutes with a few, or as soon as a handful leave no doubt."""
_LEARNED, _LEARNED_WINDOWS, _MEMORY = 30.0, 5, 720
_GROWN, _LEAST_NS = 1.3, 2e6
"""A quantile that grew by less, as a ratio or in ns, is no finding however sure it is."""
_SILENT = 15
_AHEAD, _NEVER = MINUTE, 2**62
_SHARES = (0.5, 0.95, 0.99)
_VERSION = 2
# Columns of the figures of an operation; `_HELD` is the minute since when its windows are odd, 0 when they are not.
_NOISE, _NOISES, _WINDOWS, _HELD, _LEARNT_CALLS, _RATE, _USUAL_RATE, _ERROR_SHARE, _P50 = range(9)
_FIGURES = _P50 + 3


class Operations:
    """The technique over spans. It looks at metrics only for their clock, so that a quiet stream's last minute is closed too."""

    name: ClassVar[str] = "operations"
    signals: ClassVar[frozenset[str]] = frozenset({"span", "metric", "event"})

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._minutes = Minutes()
        self._slots: dict[tuple[str, str], int] = {}
        self._who: list[tuple[str, str] | None] = []
        self._free: list[int] = []
        self._names_of: dict[str, int] = defaultdict(int)
        self._usual, self._now = np.zeros((64, BINS), np.float32), np.zeros((64, BINS), np.float32)
        self._figures = np.zeros((64, _FIGURES))
        self._seen: I64 = np.zeros((64, 3), np.int64)
        """First and last seen (ns), and the minute in which the present window began."""
        self._home: I64 = np.zeros(64, np.int64)
        self._open: dict[int, F32] = {}
        self._failures, self._holds = Failures(), Holds()
        self._paths, self._episodes, self._day = CriticalPaths(), Episodes(), 0

    def process(self, batch: Batch) -> list[Batch]:
        """Learn from spans; returns what changed in the minutes that are over."""
        if batch.rows.num_rows == 0:
            return []
        if batch.signal == "event":
            self._holds.hear(batch)
            return []
        self._holds.due(batch.received)
        rows: list[dict[str, Any]] = []
        if batch.signal == "span":
            for piece in self._minutes.days(batch):
                self._take(piece)
                rows += self._close()
        else:
            self._minutes.watch(batch)
            rows += self._close()
        return [batch_of("event", f"ninefold.{self.name}", batch.received, rows)] if rows else []

    def snapshot(self) -> bytes:
        """All state."""
        texts = {
            "clock": self._minutes.state(), "who": self._who, "free": self._free, "episodes": self._episodes.state(),
            "paths": self._paths.state(), "day": self._day, "failures": self._failures.state(), "holds": self._holds.state(),
            "holds clock": self._holds.now,
        }  # fmt: skip
        used = len(self._who)
        arrays: dict[str, np.ndarray[Any, Any]] = {"figures": self._figures[:used], "seen": self._seen[:used], "home": self._home[:used]}
        for name, table in (
            ("usual", self._usual[:used]),
            ("now", self._now[:used]),
            *((f"@{m}", t[:used]) for m, t in self._open.items()),
        ):
            at = np.flatnonzero(table)  # most bins are empty
            arrays |= {f"{name} at": at, name: table.ravel()[at]}
        return keeping.pack(self.name, _VERSION, texts, **arrays)

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
        self._who = [None if who is None else (who[0], who[1]) for who in texts["who"]]
        self._free, self._day = texts["free"], texts["day"]
        self._slots = {who: slot for slot, who in enumerate(self._who) if who is not None}
        for entity, _ in self._slots:
            self._names_of[entity] += 1
        used = len(self._who)
        self._open = {int(name[1:]): np.zeros(self._usual.shape, np.float32) for name in arrays if name[0] == "@" and " " not in name}
        while len(self._usual) < used:
            self._grow()
        self._figures[:used], self._seen[:used], self._home[:used] = arrays["figures"], arrays["seen"], arrays["home"]
        for name, table in (("usual", self._usual), ("now", self._now), *((f"@{m}", t) for m, t in self._open.items())):
            table.reshape(-1)[arrays[f"{name} at"]] = arrays[name]
        self._failures, self._holds = Failures(texts["failures"]), Holds(texts["holds"], texts["holds clock"])
        self._paths, self._episodes = CriticalPaths(texts["paths"]), Episodes(texts["episodes"])

    def table(self, entity: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """What is known of the operations (of one entity), those that changed first, then the busiest; times in ns, latencies in ms."""
        slots = [slot for (of, _), slot in self._slots.items() if entity in ("", of)]
        usual = shifts.quantiles(self._usual[slots], _SHARES) / 1e6
        rows = []
        for slot, before in zip(slots, usual.tolist(), strict=True):
            who, figures = self._who[slot] or ("", ""), self._figures[slot].tolist()
            judged = figures[_RATE] > 0 or figures[_WINDOWS] > 0
            kinds = self._failures.table(slot, figures[_LEARNT_CALLS])
            for kind in kinds:
                kind["since"] = self._episodes.since(("error", *who, kind["kind"]))
            rows.append({
                "entity": who[0], "operation": who[1], "calls_per_min": figures[_RATE], "usual_calls_per_min": figures[_USUAL_RATE],
                "error_share": figures[_ERROR_SHARE], "usual_error_share": usual_share(kinds),
                "now": figures[_P50 : _P50 + 3] if judged else None,
                "usual": before if before[0] == before[0] else None, "errors": kinds, "first_seen": int(self._seen[slot, 0]),
                "last_seen": int(self._seen[slot, 1]), "shifted_since": self._episodes.since(("latency", *who)),
            })  # fmt: skip
        rows.sort(key=lambda row: (not row["shifted_since"], -row["calls_per_min"], row["entity"], row["operation"]))
        return rows[:limit]

    def critical_path(self, entity: str, operation: str) -> dict[str, Any] | None:
        """The contributors to the critical path of traces that begin with an operation, the largest first; None when it is not known."""
        slot = self._slots.get((entity, operation))
        if slot is None:
            return None
        traces, parts = self._paths.usual(slot)
        rows = []
        for contributor, (usual, ns, share, first) in parts.items():
            who, way = self._who[contributor >> 1] or ("", ""), bool(contributor & 1)
            since = self._episodes.since(("path", entity, operation, *who, str(way)))
            rows.append({
                "entity": who[0], "operation": who[1], "in_transit": way, "share": share, "usual_share": usual, "usual_ms": ns / 1e6,
                "first_seen": first, "since": since,
            })  # fmt: skip
        return {"traces": traces, "contributors": sorted(rows, key=lambda row: (-row["share"], row["entity"], row["operation"]))}

    def _take(self, batch: Batch) -> None:
        rows, times = batch.rows, times_of(batch)
        minutes, first_open = self._minutes.admit(times, batch.received)
        slots = self._encode(rows.column("entity"), rows.column("name"))
        good = (minutes >= first_open) & (slots >= 0) & (minutes <= (batch.received + _AHEAD) // MINUTE)
        if not good.any():
            return
        durations = rows.column("duration").to_numpy(zero_copy_only=False)
        codes = slots * BINS + shifts.bins_of(durations)
        np.minimum.at(self._seen[:, 0], slots[good], times[good])
        np.maximum.at(self._seen[:, 1], slots[good], times[good])
        failed = pc.equal(rows.column("status"), "error").to_numpy(zero_copy_only=False) & good
        traces = text_keys(rows.column("trace_id"))
        for minute in np.unique(minutes[good]).tolist():
            here = good & (minutes == minute)
            table = self._open.setdefault(minute, np.zeros(self._usual.shape, np.float32))
            np.add.at(table.reshape(-1), codes[here], np.float32(1))
            chosen = np.flatnonzero(here & self._paths.wanted(minute, traces))
            if len(chosen):
                own, parent = (text_keys(rows.column(name).take(chosen)) for name in ("span_id", "parent_span_id"))
                trace, slot = traces[chosen], slots[chosen]
                parent = np.where(parent == 0, np.uint64(0), parent ^ trace)
                facts = (trace, own ^ trace, parent, slot, self._home[slot], times[chosen], np.maximum(durations[chosen], 0))
                self._paths.add(minute, np.stack([column.view(np.int64) for column in facts]))
        if failed.any():
            self._failures.take(rows, np.flatnonzero(failed), minutes, slots)

    def _encode(self, entities: Any, names: Any) -> I64:
        """The slot of each row's operation, -1 for those that are left out."""
        who, what = entities.dictionary_encode(), names.dictionary_encode()
        labels, words = who.dictionary.to_pylist(), what.dictionary.to_pylist()
        codes = who.indices.to_numpy(zero_copy_only=False).astype(np.int64) * len(words) + what.indices.to_numpy(zero_copy_only=False)
        used = np.arange(len(labels) * len(words))
        if len(used) > 1 << 20:
            used, codes = np.unique(codes, return_inverse=True)
        first = np.full(len(used), len(codes), np.int64)
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        slots = np.empty(len(used), np.int64)
        there = np.flatnonzero(first < len(codes))
        for i in there[np.argsort(first[there])].tolist():
            slots[i] = self._slot(labels[used[i] // len(words)], words[used[i] % len(words)])
        numbers: I64 = slots[codes]
        return numbers

    def _slot(self, entity: str, name: str) -> int:
        found = self._slots.get((entity, name))
        if found is not None or not entity:
            return -1 if found is None else found
        if self._names_of[entity] >= NAME_LIMIT:
            name = "(other)"
            if (entity, name) in self._slots:
                return self._slots[entity, name]
        if not self._free and len(self._who) >= LIMIT:
            return -1
        if self._free:
            slot = self._free.pop()
            self._who[slot] = entity, name
        else:
            slot = len(self._who)
            self._who.append((entity, name))
            if slot >= len(self._usual):
                self._grow()
        self._slots[entity, name], self._home[slot], self._seen[slot, 0] = slot, hash64((entity,)) >> 1, _NEVER
        self._names_of[entity] += 1
        return slot

    def _grow(self) -> None:
        def double(table: Any) -> Any:
            return np.concatenate((table, np.zeros_like(table)))

        self._usual, self._now, self._figures = double(self._usual), double(self._now), double(self._figures)
        self._seen, self._home = double(self._seen), double(self._home)
        self._open = {minute: double(table) for minute, table in self._open.items()}

    def _close(self) -> Iterator[dict[str, Any]]:
        """The findings of every minute that is over, oldest first."""
        opened = self._minutes.open()
        over = sorted(minute for minute in self._open if minute < opened)
        moved = self._paths.close(opened, self._held()) if over else {}
        for minute in over:
            table = self._open.pop(minute)
            slots = np.flatnonzero(table.any(axis=1))
            self._failures.close(minute)
            self._seen[slots, 2] = np.where(self._seen[slots, 2] == 0, minute, self._seen[slots, 2])
            self._now[slots] += table[slots]
            self._travel(minute, *self._paths.transit.get(minute, (slots[:0], slots[:0])))
            yield from self._silent(minute)
            yield from self._judge(minute)
            for one in moved.get(minute, []):
                yield from self._path(one, minute)
        if opened // FORGET != self._day:
            self._day = opened // FORGET
            self._forget(self._day * FORGET)

    def _held(self) -> set[int]:
        """The slots of which nothing is learned now."""
        if not self._holds.active:
            return set()
        slots = list(self._slots.values())
        return {slots[i] for i in np.flatnonzero(self._holds.covers([entity for entity, _ in self._slots])).tolist()}

    def _travel(self, minute: int, callees: I64, transit: I64) -> None:
        """Put the time on the way to an entity into a window of its own, as if it were one more operation of it."""
        ways = {slot: self._slot((self._who[slot] or ("", ""))[0], TRANSIT) for slot in np.unique(callees).tolist()}
        slots = np.array([ways[slot] for slot in callees.tolist()], np.int64)
        np.add.at(self._now, (slots[slots >= 0], shifts.bins_of(transit[slots >= 0])), np.float32(1))
        there = np.unique(slots[slots >= 0])
        seen = self._seen
        seen[there, 0], seen[there, 1] = np.minimum(seen[there, 0], minute * MINUTE), np.maximum(seen[there, 1], minute * MINUTE)
        seen[there, 2] = np.where(seen[there, 2] == 0, minute, seen[there, 2])

    def _judge(self, minute: int) -> Iterator[dict[str, Any]]:
        """Judge the windows that are full, old enough or beyond doubt, learn from those that are as usual, and begin new ones."""
        slots = np.flatnonzero(self._seen[:, 2])
        calls, age = self._now[slots].sum(axis=1, dtype=np.float64), minute - self._seen[slots, 2] + 1
        some = calls >= _EARLY
        slots, calls, age = slots[some], calls[some], age[some]
        if not len(slots):
            return
        now, usual, figures = self._now[slots], self._usual[slots], self._figures[slots]
        learned = usual.sum(axis=1, dtype=np.float64)
        known = (figures[:, _WINDOWS] >= _LEARNED_WINDOWS) & (learned >= _LEARNED)
        # Calls of one window are alike, so the dispersion grows with their number (Kish's design effect).
        excess = (3.0 + figures[:, _NOISE]) / (2.0 + figures[:, _NOISES]) - 1.0
        like = np.minimum(1.0, calls * figures[:, _WINDOWS] / np.maximum(learned, 1.0))
        shift = shifts.judge(now, np.where(known[:, None], usual, now), 1.0 + np.maximum(excess, 0.0) * like)
        score = np.where(known & _grown(now, usual, shift.edge), shift.slower, 0.0)
        full = (calls >= _CALLS) | ((age >= _PATIENCE) & (calls >= _FEW)) | (score >= SURE + 1.0)
        odd = known & (np.maximum(score, shift.faster) >= ALARM)
        slots, now, calls, score, usual = slots[full], now[full], calls[full], score[full], usual[full]
        held = np.isin(slots, list(self._held()))
        self._learn(slots, now, calls, known[full], odd[full], shift.noise[full], held, minute)
        at, before, begins = shifts.quantiles(now, _SHARES), shifts.quantiles(usual, _SHARES), self._seen[slots, 2] * MINUTE
        self._figures[slots, _RATE], self._figures[slots, _P50 : _P50 + 3] = calls / age[full], at / 1e6
        for i, slot in enumerate(slots.tolist()):
            yield from self._latency(slot, float(score[i]), int(begins[i]), minute, at[i], before[i])
            yield from self._errors(slot, float(calls[i]), int(begins[i]), minute, held=bool(held[i]))
        self._now[slots], self._seen[slots, 2] = 0, 0

    def _learn(self, slots: I64, now: F32, calls: F64, known: Any, odd: Any, noise: F64, held: Any, minute: int) -> None:
        """Fold windows into what is usual: those that are odd only after an hour of nothing else, and none that are held."""
        figures, usual = self._figures[slots], self._usual[slots]
        figures[:, _HELD] = np.where(odd, np.where(figures[:, _HELD] > 0, figures[:, _HELD], minute), 0)
        stuck = odd & (minute - figures[:, _HELD] >= STUCK)
        learn = (~odd | stuck) & ~held
        weight = np.minimum(1.0, shifts.ENOUGH / calls)
        total = usual.sum(axis=1)
        most = np.where(stuck, 200.0, float(shifts.ENOUGH * _MEMORY))
        kept = np.minimum(1.0, most / np.maximum(total, 1.0))
        usual[learn] = (usual * kept[:, None] + now * weight[:, None])[learn]
        calm = learn & known & ~stuck
        figures[calm, _NOISE] = 0.995 * figures[calm, _NOISE] + np.minimum(noise[calm], 30.0)
        figures[calm, _NOISES] = 0.995 * figures[calm, _NOISES] + 1.0
        figures[learn, _WINDOWS] += 1
        self._figures[slots], self._usual[slots] = figures, usual.astype(np.float32)

    def _latency(self, slot: int, score: float, begin: int, minute: int, now: F64, before: F64) -> Iterator[dict[str, Any]]:
        """Judge the latencies of a window; quantiles now and before in ns."""
        entity, name = self._who[slot] or ("", "")
        key = ("latency", entity, name)
        change = self._said(key, score, begin, minute, entity)
        if change:
            since, firing = change
            body = bool(now[0] >= _GROWN * before[0])
            place = 0 if body else 1 if now[1] >= _GROWN * before[1] else 2
            what = ("p50", "p95", "p99")[place]
            title = f"latency {what} of {name} in {_short(entity)} is " + _ratio(now[place], before[place])
            if not body:
                title += f" while half of its calls take {quantity(now[0] / 1e9, 's')} (usually {quantity(before[0] / 1e9, 's')})"
            if not firing:
                title = (
                    f"latency of {name} in {_short(entity)} is back at {quantity(now[0] / 1e9, 's')} (p95 {quantity(now[1] / 1e9, 's')})"
                )
            moved = {"moved": "body" if body else "tail"} | {q: f"{n / 1e6:.6g}" for q, n in zip(("p50", "p95", "p99"), now, strict=True)}
            moved |= {f"usual_{q}": f"{n / 1e6:.6g}" for q, n in zip(("p50", "p95", "p99"), before, strict=True)}
            yield _event(
                {"operation": name}, entity, minute, since, firing, title, "latency shift", score, now[place] / 1e6, before[place] / 1e6,
                {"unit": "ms", **moved},
            )  # fmt: skip

    def _errors(self, slot: int, calls: float, begin: int, minute: int, *, held: bool) -> Iterator[dict[str, Any]]:
        """Judge the kinds of errors of a window."""
        figures = self._figures[slot]
        learned = float(figures[_LEARNT_CALLS])
        figures[_ERROR_SHARE] = self._failures.share(slot, calls)
        for judged in self._failures.judge(slot, calls, learned, begin, minute, held=held):
            yield from self._kind(slot, judged, calls, begin, minute)
        if held:
            return
        figures[_LEARNT_CALLS] = min(learned + calls * min(1.0, shifts.ENOUGH / calls), float(shifts.ENOUGH * _MEMORY))
        usual, rate = figures[_USUAL_RATE], figures[_RATE]
        figures[_USUAL_RATE] = rate if not usual else usual + 0.02 * (rate - usual)

    def _kind(self, slot: int, judged: Judged, calls: float, begin: int, minute: int) -> Iterator[dict[str, Any]]:
        """What is to be told of one kind of errors."""
        entity, name = self._who[slot] or ("", "")
        kind, count, usual, new, score = judged
        change = self._said(("error", entity, name, kind), score, begin, minute, entity)
        if change:
            since, firing = change
            title = f"{name} in {_short(entity)} fails with {kind}: {count:,} of {calls:,.0f} calls"
            title += ", which it never did before" if new else f", usually {100 * usual:.2g} %"
            if not firing:
                title = f"{name} in {_short(entity)} fails with {kind} no more than usual"
            yield _event(
                {"operation": name, "kind": kind}, entity, minute, since, firing, title,
                "new error kind" if new else "error kind surge", score, count / calls, usual, {"unit": "1"},
            )  # fmt: skip

    def _path(self, moved: Moved, minute: int) -> Iterator[dict[str, Any]]:
        """Judge the critical path of a root operation's window."""
        entity, name = self._who[moved.root] or ("", "")
        culprit: tuple[str, ...] = ()
        if moved.contributor >= 0:
            culprit = (*(self._who[moved.contributor >> 1] or ("", "")), str(bool(moved.contributor & 1)))
        keys = {key for key in self._episodes.unusual() if key[:3] == ("path", entity, name)}
        for key in sorted(keys | ({("path", entity, name, *culprit)} if culprit else set())):
            mine = key[3:] == culprit
            change = self._said(key, moved.score if mine else 0.0, moved.begin * MINUTE, minute, key[3])
            if change:
                since, firing = change
                where = f"the way to {key[4]} in {_short(key[3])}" if key[5] == "True" else f"{key[4]} in {_short(key[3])}"
                title = f"{where} takes no more than its usual share of {name} in {_short(entity)}"
                if firing:
                    usual = f"usually {100 * moved.usual:.0f} % ({quantity(moved.usual_ns / 1e9, 's')})"
                    title = f"{where} takes {100 * moved.share:.0f} % of the time of {name} in {_short(entity)}"
                    title += f" ({quantity(moved.own_ns / 1e9, 's')}), {usual if moved.usual else 'where it never was before'}"
                identity = {"operation": name, "root": entity, "contributor": key[4], "in_transit": key[5]}
                yield _event(
                    identity, key[3], minute, since, firing, title, "critical path", moved.score if mine else 0.0, moved.share, moved.usual,
                    {"unit": "1"},
                )  # fmt: skip

    def _said(self, key: tuple[str, ...], score: float, begin: int, minute: int, entity: str) -> tuple[int, bool] | None:
        """When an episode began, and whether it does now or is over; None when there is nothing to tell."""
        since = self._episodes.since(key)
        change = self._episodes.judge(key, score, begin, (minute + 1) * MINUTE, (entity, key[2]))
        return (since or self._episodes.since(key), change == "fired") if change else None

    def _silent(self, minute: int) -> Iterator[dict[str, Any]]:
        """End the episodes of what was hardly called for a while."""
        for key, since, (entity, name) in self._episodes.silent((minute - _SILENT) * MINUTE):
            identity = {"operation": key[2]}
            if key[0] == "error":
                identity["kind"] = key[3]
            if key[0] == "path":
                identity |= {"root": key[1], "contributor": key[4], "in_transit": key[5]}
            reason = {"latency": "latency shift", "error": "error kind surge", "path": "critical path"}[key[0]]
            yield _event(
                identity, entity, minute, since, False, f"{name} in {_short(key[1])} is hardly called any more", reason, 0, 0, 0, {}
            )

    def _forget(self, minute: int) -> None:
        """Let go of operations not heard for a day."""
        gone = {slot for slot in self._slots.values() if self._seen[slot, 1] < (minute - FORGET) * MINUTE}
        for slot in sorted(gone, reverse=True):
            who = self._who[slot]
            if who is not None:
                del self._slots[who]
                self._names_of[who[0]] -= 1
            self._who[slot] = None
            self._free.append(slot)
            for table in (self._usual, self._now, self._figures, self._seen, self._home):
                table[slot] = 0
        self._paths.forget(gone)
        self._failures.forget(gone, minute)


def _grown(now: F32, usual: F32, edge: I64) -> Any:
    """Whether the part of the calls that the edge cuts off has become slower by enough to matter."""
    above = 1.0 - np.take_along_axis(np.cumsum(now, axis=1, dtype=np.float64), edge[:, None], 1)[:, 0] / now.sum(axis=1)
    share = np.clip(1.0 - above / 2, 0.02, 0.995)  # the middle of what lies above
    at = [
        [shifts.quantiles(table[i : i + 1], (float(share[i]),))[0, 0] for table in (now, usual)] if usual[i].any() else [0.0, 1.0]
        for i in range(len(edge))
    ]
    after, before = np.array(at).reshape(-1, 2).T
    return (after >= _GROWN * before) & (after - before >= _LEAST_NS)


def _short(entity: str) -> str:
    return entity.partition(":")[2] or entity


def _ratio(now: float, usual: float) -> str:
    if now >= 1.5 * usual:
        return f"{now / usual:.1f}x its usual {quantity(usual / 1e9, 's')}"
    return f"{quantity(now / 1e9, 's')}, usually {quantity(usual / 1e9, 's')}"


def _event(
    identity: dict[str, str], entity: str, minute: int, since: int, firing: bool, title: str, reason: str, score: float, value: float,
    expected: float, more: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    attributes = {"reason": reason, "horizon": "minutes", "score": f"{score:.4g}", "value": f"{value:.6g}", "expected": f"{expected:.6g}"}
    what = {"about": reason.partition(" ")[0] if "error" not in reason else "error", "entity": entity}
    row = anomaly(
        Operations.name, {**what, **identity}, entity=entity, time=(minute + 1) * MINUTE, since=since, firing=firing,
        title=re.sub(r"\s+", " ", title), severity="high" if score >= 15 else "warning", attributes={**attributes, **more},
    )  # fmt: skip
    return row | {"kind": KIND}
