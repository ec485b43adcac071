"""An entity against its siblings: pods of one workload, instances of one job, hosts, doing the same work and one of them not alike.

Series of one metric name and the same other attributes, of entities of one kind and group, are compared at each minute in which at least
four have a value: the distance from their median in units of their own spread (1.4826 MAD, never below a fiftieth of the median's size).
Each member's usual distance, and how much the distance smoothed over five minutes wanders, are learned slowly and drawn in, so one that
always carries more is no news; what counts is how far it is from its usual place. An entity has one alarm for all its metrics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from ninefold.analytics import keeping, warm
from ninefold.analytics.episodes import ALARM, Episodes
from ninefold.analytics.findings import anomaly, figures, quantity
from ninefold.analytics.holds import Holds
from ninefold.analytics.metrics import gathering
from ninefold.analytics.metrics.gathering import About, Gathering, Minute
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, batch_of

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]

_TOP, _SILENT, _DAY = 3, 30 * MINUTE, 1440
_HIGH, _BLOCK, _VERSION = 10.0, 32_768, 3
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
        self._loops = warm.loops("metrics.likening")
        self._gathered, self._episodes, self._holds = Gathering(), Episodes(), Holds()
        self._group: I64 = np.empty(0, np.int64)
        self._groups: dict[str, int] = {}
        self._of: dict[str, list[int]] = {}
        self._state, self._spreads = np.zeros((0, self._loops.CELLS)), np.zeros((0, 2))
        self._day = 0
        self._line_up()

    def process(self, batch: Batch) -> list[Batch]:
        """Learn what series are, compare the minutes a `metric` batch closes; returns at most one batch of anomaly events."""
        rows: list[dict[str, Any]] = []
        if batch.signal == "event":
            self._holds.hear(batch)
        else:
            self._holds.due(batch.received)
        if batch.signal == "series":
            self._place(*self._gathered.describe(batch))
            rows += self._gathered.full(self.name, batch.received)
        else:
            closed = self._gathered.add(batch) if batch.signal == "metric" else self._gathered.watch(batch)
            for minute in closed:
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
        texts = {"groups": list(self._groups), "episodes": self._episodes.state(), "day": self._day}
        texts |= {"holds": self._holds.state(), "clock of holds": self._holds.now}
        yield keeping.pack(self.name, _VERSION, texts, group=self._group, spreads=self._spreads)
        for first in range(0, len(self._state), _BLOCK):
            yield keeping.pack(self.name, _VERSION, {}, state=self._state[first : first + _BLOCK])

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
        self._groups = {key: number for number, key in enumerate(texts["groups"])}
        self._episodes, self._day = Episodes(texts["episodes"]), texts["day"]
        self._holds = Holds(texts["holds"], texts["clock of holds"])
        self._group, self._spreads = arrays["group"], arrays["spreads"]
        while len(self._state) < len(self._group):
            self._state = np.concatenate((self._state, self._unpacked(rest)[1]["state"]))
        self._line_up()

    def _unpacked(self, parts: Iterator[bytes]) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
        part = next(parts, None)
        if part is None:
            raise BadData(f"the snapshot of {self.name} is not whole; start afresh")
        return keeping.unpack(self.name, _VERSION, part)

    def standing(self, entity: str) -> dict[str, Any] | None:
        """An entity among its siblings now: since when it is unlike them, and its metrics, the furthest off first. Copies."""
        seen, off, value, usual, when = (getattr(self._loops, name) for name in ("SEEN", "OFF", "VALUE", "USUAL", "WHEN"))
        slots = [slot for slot in self._of.get(entity, ()) if self._state[slot, seen]]
        if not slots:
            return None
        metrics = []
        for slot in sorted(slots, key=lambda one: -abs(float(self._state[one, off]))):
            about, row = self._gathered[slot], self._state[slot]
            alike = (self._group == self._group[slot]) & (self._state[:, when] == row[when])
            metrics.append({
                "metric": gathering.label(about), "unit": gathering.unit(about), "value": float(row[value]), "usual": float(row[usual]),
                "siblings": int(np.count_nonzero(alike)) - 1, "median": float(np.median(self._state[alike, value])),
                "deviation": float(row[off]),
            })  # fmt: skip
        return {"group": group_of(self._gathered[slots[0]]), "since": self._episodes.since((entity,)), "metrics": metrics}

    def _place(self, new: list[int], changed: list[int]) -> None:
        more = len(self._gathered) - len(self._group)
        self._group = np.concatenate((self._group, np.full(more, -1, np.int32)))
        self._state = np.concatenate((self._state, np.zeros((more, self._loops.CELLS))))
        self._group[changed], self._state[changed] = -1, 0.0
        for slot in new + changed:
            about = self._gathered[slot]
            group = group_of(about)
            if group:
                key = "\x1f".join((group, about.name, about.unit, *(part for pair in gathering.plain(about) for part in pair)))
                self._group[slot] = self._groups.setdefault(key, len(self._groups))
        self._spreads = np.concatenate((self._spreads, np.zeros((len(self._groups) - len(self._spreads), 2))))
        self._line_up()

    def _line_up(self) -> None:
        """Put the members of each group side by side, and the slots of each entity."""
        inside = np.flatnonzero(self._group >= 0)
        self._members = inside[np.argsort(self._group[inside], kind="stable")]
        self._first = np.searchsorted(self._group[self._members], np.arange(len(self._groups) + 1))
        self._of = {}
        for slot in inside.tolist():
            self._of.setdefault(self._gathered.entity(slot), []).append(slot)

    def _judge(self, minute: Minute) -> list[dict[str, Any]]:
        found, going = [], {key[0] for key in self._episodes.unusual()}
        values, score = np.full(len(self._group), np.nan), np.zeros(len(self._group))
        values[minute.slots] = minute.values
        self._loops.compare(minute.number, values, self._members, self._first, self._held(), self._state, self._spreads, score)
        loud = {self._gathered.entity(slot) for slot in np.flatnonzero(score >= ALARM).tolist()}
        heard = {entity for entity in going if not np.isnan(values[self._of.get(entity, [])]).all()}
        for entity in sorted(heard | loud):
            worst = sorted((slot for slot in self._of[entity] if score[slot] > 0), key=lambda slot: -score[slot])
            found += self._tell(entity, worst, float(score[worst[0]]) if worst else 0.0, minute.number * MINUTE)
        for key, since, _ in self._episodes.silent((minute.number * MINUTE) - _SILENT):
            found.append(self._event(key[0], minute.number * MINUTE, since, False, 0.0, []))
        if minute.number // _DAY != self._day:
            self._day = minute.number // _DAY
            self._forget(minute.number)
        return found

    def _held(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Of which slots nothing is learned now."""
        held = np.zeros(len(self._group), bool)
        if self._holds:
            names = list(self._of)
            for place in np.flatnonzero(self._holds.covers(names)).tolist():
                held[self._of[names[place]]] = True
        return held

    def _tell(self, entity: str, slots: list[int], score: float, time: int) -> list[dict[str, Any]]:
        since = self._episodes.since((entity,))
        said = self._episodes.judge((entity,), score, time, time + MINUTE, (entity, ""))
        if not said:
            return []
        return [self._event(entity, time, since or self._episodes.since((entity,)), said == "fired", score, slots)]

    def _event(self, entity: str, time: int, since: int, firing: bool, score: float, slots: list[int]) -> dict[str, Any]:
        what = entity.partition(":")[2] or entity
        words, names, value, usual = [], [], self._loops.VALUE, self._loops.USUAL
        said: dict[str, str] = {}
        for slot in slots[:_TOP]:
            about, row = self._gathered[slot], self._state[slot]
            name, measure = gathering.label(about), gathering.unit(about)
            names.append(name)
            words.append(f"{name} is {quantity(row[value], measure)} where its siblings let expect {quantity(row[usual], measure)}")
            said = said or figures(row[value], row[usual], row[self._loops.OFF], measure)
        if names:
            said["metrics"] = ", ".join(names)
        title = f"{what} is unlike its siblings: {', '.join(names)}" if firing else f"{what} is like its siblings again"
        return anomaly(
            self.name, {"peers": entity}, entity=entity, time=time, since=since, firing=firing, title=title,
            body="\n".join(words) if firing else "", severity="high" if score >= _HIGH else "warning",
            attributes={"reason": "peers", "horizon": "siblings", "score": f"{score:.1f}", **said},
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
        self._line_up()
