"""An entity against its siblings: pods of one workload, instances of one job, hosts, doing the same work and one of them not alike.

Series of one metric name and the same other attributes, of entities of one kind and group, are compared at each minute in which at least
four have a value: the distance from their median in units of their own spread (1.4826 MAD, never below a fiftieth of the median's size).
Each member's usual distance, and how much the distance smoothed over five minutes wanders, are learned slowly and drawn in, so one that
always carries more is no news; what counts is how far it is from its usual place. An entity has one alarm for all its metrics.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np

from ninefold.analytics import keeping
from ninefold.analytics.episodes import ALARM, Episodes
from ninefold.analytics.findings import anomaly, quantity
from ninefold.analytics.metrics import gathering
from ninefold.analytics.metrics.gathering import About, Gathering, Minute
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, batch_of

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

FEWEST = 4
"""Members that must have a value in a minute."""
WARM_UP = 60
"""Minutes of a member among its siblings before it is judged."""
_SLOWEST, _SMOOTH, _REACH = 1 / 1440, 0.3, 3.0
_LEAST, _CALM, _SLOW_SPREAD, _FAR, _CARE = 0.02, 0.1, 0.01, 60.0, 0.05
_ONSET, _STEP = 3.0, 0.9
_TOP, _SILENT, _DAY = 3, 30 * MINUTE, 1440
_HIGH, _VERSION = 10.0, 1
SEEN, PLACE, WANDER, SMOOTH, VALUE, USUAL, OFF, WHEN = range(8)
"""Columns of the state by slot: minutes compared, usual distance from the median in spreads, variance of the smoothed departure from it,
that departure, the last value, the value expected of it then, how far off it is in its own terms, and the minute of it."""
_ORDINAL = re.compile(r"(-[0-9a-f]{6,10}-[a-z0-9]{5}|-[a-z0-9]{5}|[-_.]?\d+)$")


def group_of(about: About) -> str:
    """Whose siblings a series' entity has: the job of an instance, the workload of a pod, all hosts of an environment; "" for none.

    A pod's workload is what its attributes say, else its name without the ending that a controller gave it.
    """
    kind, _, name = about.entity.partition(":")
    said = about.attributes
    if kind == "instance":
        return f"instance:{said.get('job') or name.partition('/')[0]}" if "job" in said or "/" in name else ""
    if kind == "pod":
        owner = next((said[key] for key in _OWNERS if said.get(key)), "")
        space, _, pod = name.rpartition("/")
        return f"pod:{space}/{owner or _ORDINAL.sub('', pod)}"
    if kind == "host":
        return f"host:{said.get('deployment.environment.name', said.get('env', ''))}"
    return ""


_OWNERS = (
    "k8s.replicaset.name", "k8s.statefulset.name", "k8s.daemonset.name", "k8s.deployment.name", "statefulset", "daemonset", "deployment",
    "replicaset", "created_by_name",
)  # fmt: skip


class Peers:
    """The technique over all series that have siblings."""

    name: ClassVar[str] = "peers"
    signals: ClassVar[frozenset[str]] = frozenset({"metric", "series", "event"})

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._gathered, self._episodes = Gathering(), Episodes()
        self._group: I64 = np.empty(0, np.int64)
        self._groups: dict[str, int] = {}
        self._state, self._spreads = np.zeros((0, 8)), np.zeros((0, 2))
        self._day = 0

    def process(self, batch: Batch) -> list[Batch]:
        """Learn what series are, compare the minutes a `metric` batch closes; returns at most one batch of anomaly events."""
        rows: list[dict[str, Any]] = []
        if batch.signal == "series":
            self._place(self._gathered.describe(batch))
        else:
            closed = self._gathered.add(batch) if batch.signal == "metric" else self._gathered.watch(batch)
            for minute in closed:
                rows += self._judge(minute)
        return [batch_of("event", f"ninefold.{self.name}", batch.received, rows)] if rows else []

    def snapshot(self) -> bytes:
        """All state in one."""
        texts = {"groups": list(self._groups), "numbers": list(self._groups.values()), "episodes": self._episodes.state(), "day": self._day}
        mine = keeping.pack(self.name, _VERSION, texts, group=self._group, state=self._state, spreads=self._spreads)
        return keeping.joined((self._gathered.state(), mine))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; empty bytes start afresh.

        Raises:
            BadData: it is of another version, or not whole.
        """
        self._reset()
        parts = list(keeping.separated(state))
        if not parts:
            return
        if len(parts) != 2:
            raise BadData(f"the snapshot of {self.name} has {len(parts)} parts, expected 2; start afresh")
        self._gathered.restore(parts[0])
        texts, arrays = keeping.unpack(self.name, _VERSION, parts[1])
        self._groups = dict(zip(texts["groups"], texts["numbers"], strict=True))
        self._episodes, self._day = Episodes(texts["episodes"]), texts["day"]
        self._group, self._state, self._spreads = arrays["group"], arrays["state"], arrays["spreads"]

    def standing(self, entity: str) -> dict[str, Any] | None:
        """An entity among its siblings now: since when it is unlike them, and its metrics, the furthest off first. Copies."""
        slots = [slot for slot, about in enumerate(self._gathered.about) if about.entity == entity and self._state[slot, SEEN]]
        if not slots:
            return None
        metrics = []
        for slot in sorted(slots, key=lambda one: -abs(float(self._state[one, OFF]))):
            about, row = self._gathered.about[slot], self._state[slot]
            alike = (self._group == self._group[slot]) & (self._state[:, WHEN] == row[WHEN])
            metrics.append({
                "metric": gathering.label(about), "unit": gathering.unit(about), "value": float(row[VALUE]), "usual": float(row[USUAL]),
                "siblings": int(np.count_nonzero(alike)) - 1, "median": float(np.median(self._state[alike, VALUE])),
                "deviation": float(row[OFF]),
            })  # fmt: skip
        return {"group": group_of(self._gathered.about[slots[0]]), "since": self._episodes.since((entity,)), "metrics": metrics}

    def _place(self, new: list[int]) -> None:
        more = len(self._gathered.about) - len(self._group)
        self._group = np.concatenate((self._group, np.full(more, -1, np.int64)))
        self._state = np.concatenate((self._state, np.zeros((more, 8))))
        for slot in new:
            about = self._gathered.about[slot]
            group = group_of(about)
            if group:
                key = "\x1f".join((group, about.name, about.unit, *(part for pair in gathering.plain(about) for part in pair)))
                self._group[slot] = self._groups.setdefault(key, len(self._groups))
        self._spreads = np.concatenate((self._spreads, np.zeros((len(self._groups) - len(self._spreads), 2))))

    def _judge(self, minute: Minute) -> list[dict[str, Any]]:
        here = self._group[minute.slots] >= 0
        score = self._compare(minute.number, minute.slots[here], minute.values[here])
        found, going = [], {key[0] for key in self._episodes.unusual()}
        by_entity: dict[str, list[int]] = {}
        slots = minute.slots[here]
        loud = {self._gathered.about[slot].entity for slot in slots[score >= ALARM].tolist()}
        for place in np.flatnonzero(score > 0).tolist() if loud else ():
            by_entity.setdefault(self._gathered.about[slots[place]].entity, []).append(place)
        heard = {self._gathered.about[slot].entity for slot in slots.tolist()} & going if going else set()
        for entity in sorted(heard | loud):
            worst = sorted(by_entity.get(entity, []), key=lambda place: -score[place])
            found += self._tell(entity, [int(slots[place]) for place in worst], max([float(score[place]) for place in worst] or [0.0]),
                                minute.number * MINUTE)  # fmt: skip
        for key, since, _ in self._episodes.silent((minute.number * MINUTE) - _SILENT):
            found.append(self._event(key[0], minute.number * MINUTE, since, False, 0.0, []))
        if minute.number // _DAY != self._day:
            self._day = minute.number // _DAY
            self._forget(minute.number)
        return found

    def _compare(self, number: int, slots: I64, values: F64) -> F64:
        """Judge and learn one minute; the score by slot, 0 where there are too few siblings."""
        score = np.zeros(len(slots))
        order = np.argsort(self._group[slots], kind="stable")
        group = self._group[slots[order]]
        first = np.flatnonzero(np.diff(group, prepend=-1))
        count = np.diff(np.append(first, len(group)))
        enough = np.repeat(count >= FEWEST, count)
        if not enough.any():
            return score
        middle = np.repeat(_medians(values[order], first, count), count)
        away = np.abs(values[order] - middle)
        spread = np.repeat(self._usual_spread(group[first], 1.4826 * _medians(away, first, count), count >= FEWEST), count)
        spread = np.maximum(spread, _LEAST * np.abs(middle)) + 1e-12
        z = (values[order] - middle) / spread
        keep = order[enough]
        rows, z, middle, spread = slots[keep], z[enough], middle[enough], spread[enough]
        score[keep] = self._learn(number, rows, values[keep], np.clip(z, -1e3, 1e3), middle, spread)
        return score

    def _usual_spread(self, groups: I64, spread: F64, enough: np.ndarray[Any, Any]) -> F64:
        """The larger of each group's spread now and usually: of few members a single minute's is hardly an estimate."""
        seen, usual = self._spreads[groups].T
        weight = np.where(enough, np.maximum(1.0 / (seen + 1.0), _SLOW_SPREAD), 0.0)
        usual = usual + weight * (spread - usual)
        self._spreads[groups] = np.stack((seen + enough, usual), axis=1)
        larger: F64 = np.maximum(spread, usual)
        return larger

    def _learn(self, number: int, rows: I64, values: F64, z: F64, middle: F64, spread: F64) -> F64:
        state = np.ascontiguousarray(self._state[rows].T)
        seen, place = state[SEEN], state[PLACE]
        own = np.sqrt(np.maximum(state[WANDER], _CALM))
        smooth = state[SMOOTH] + _SMOOTH * (np.clip(z - place, -_FAR * own, _FAR * own) - state[SMOOTH])
        smooth = np.where(seen > 0, smooth, 0.0)
        judged = seen >= WARM_UP
        off = np.where(judged, smooth / own, 0.0)
        state[USUAL] = np.where(judged, middle + place * spread, middle)
        state[SMOOTH], state[VALUE], state[OFF], state[WHEN] = smooth, values, off, number
        # Beyond so many spreads a minute teaches little, so a departure is not learned while it lasts for hours.
        reach = np.where(judged, _REACH * own, np.inf)
        weight = np.maximum(1.0 / (seen + 1.0), _SLOWEST) * np.where(np.abs(off) > _ONSET, _CARE, 1.0)
        state[PLACE] += weight * np.clip(z - place, -2.0 * reach, 2.0 * reach)
        state[WANDER] += weight * (np.clip(smooth, -reach, reach) ** 2 - state[WANDER])
        state[SEEN] += 1.0
        self._state[rows] = state.T
        result: F64 = _STEP * np.maximum(np.abs(off) - _ONSET, 0.0)
        return result

    def _tell(self, entity: str, slots: list[int], score: float, time: int) -> list[dict[str, Any]]:
        since = self._episodes.since((entity,))
        said = self._episodes.judge((entity,), score, time, time + MINUTE, (entity, ""))
        if not said:
            return []
        return [self._event(entity, time, since or self._episodes.since((entity,)), said == "fired", score, slots)]

    def _event(self, entity: str, time: int, since: int, firing: bool, score: float, slots: list[int]) -> dict[str, Any]:
        what = entity.partition(":")[2] or entity
        words, names = [], []
        figures: dict[str, str] = {}
        for slot in slots[:_TOP]:
            about, row = self._gathered.about[slot], self._state[slot]
            name, measure = gathering.label(about), gathering.unit(about)
            names.append(name)
            words.append(f"{name} is {quantity(row[VALUE], measure)} where its siblings let expect {quantity(row[USUAL], measure)}")
            figures = figures or {"value": f"{row[VALUE]:.6g}", "expected": f"{row[USUAL]:.6g}"}
        title = f"{what} is unlike its siblings: {', '.join(names)}" if firing else f"{what} is like its siblings again"
        return anomaly(
            self.name, {"peers": entity}, entity=entity, time=time, since=since, firing=firing, title=title,
            body="\n".join(words) if firing else "", severity="high" if score >= _HIGH else "warning",
            attributes={"reason": "peers", "score": f"{score:.1f}", **figures, **({"metrics": ", ".join(names)} if names else {})},
        )  # fmt: skip

    def _forget(self, minute: int) -> None:
        places = self._gathered.forget(minute)
        if places is None:
            return
        self._group, self._state = self._group[places >= 0], self._state[places >= 0]
        living = np.unique(self._group[self._group >= 0])
        names = {number: key for key, number in self._groups.items()}
        self._groups = {names[number]: place for place, number in enumerate(living.tolist())}
        self._spreads = self._spreads[living]
        self._group = np.where(self._group >= 0, np.searchsorted(living, self._group), -1)


def _medians(values: F64, first: I64, count: I64) -> F64:
    """The median of each run of `values`; runs of like length are sorted as rows of one table."""
    result = np.empty(len(first))
    room = 1 << np.ceil(np.log2(count)).astype(np.int64)
    for width in np.unique(room).tolist():
        runs = np.flatnonzero(room == width)
        inside = np.arange(width) < count[runs, None]
        table = np.where(inside, values[np.minimum(first[runs, None] + np.arange(width), len(values) - 1)], np.inf)
        table.sort(axis=1)
        row, size = np.arange(len(runs)), count[runs]
        result[runs] = 0.5 * (table[row, (size - 1) // 2] + table[row, size // 2])
    return result
