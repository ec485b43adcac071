"""Series that fell silent: one alarm for those of an entity that stop together, which lasts until the last of them is heard again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ninefold.analytics.metrics.describing import I64, About


@dataclass(slots=True)
class Silence:
    """An alarm in the name of the first of its series, which may speak again or be forgotten before the others.

    Attributes:
        series, about: in whose name it is told, and what was known of that series then.
        level: its level then.
        since: its last point's time then (ns).
        slots: the series that are silent still.
    """

    series: int
    about: About
    level: float
    since: int
    slots: set[int]


class Silences:
    """Those that are told and not over.

    Args:
        state: what `state()` gave, to continue there.
    """

    def __init__(self, state: Iterable[tuple[int, list[str], float, int, list[int]]] = ()) -> None:
        self._told = {
            series: Silence(series, About(*about), level, since, set(slots)) for series, about, level, since, slots in state
        }  # fmt: skip
        self._of = {slot: one for one in self._told.values() for slot in one.slots}

    def state(self) -> list[Any]:
        """Everything, as plain data."""
        return [[one.series, list(one.about), one.level, one.since, sorted(one.slots)] for one in self._told.values()]

    def rejoin(self, slots: Mapping[int, int]) -> list[int]:
        """Series that stopped, by slot, with their ids: one that spoke and stopped again while the alarm in its name went on is part of
        that again; returns the slots of the others."""
        rest = []
        for slot, series in slots.items():
            if (told := self._told.get(series)) is None:
                rest.append(slot)
            else:
                told.slots.add(slot)
                self._of[slot] = told
        return rest

    def begin(self, silence: Silence) -> None:
        """Take note of an alarm."""
        self._told[silence.series] = silence
        self._of |= dict.fromkeys(silence.slots, silence)

    def heard(self, slot: int) -> Silence | None:
        """A series is heard again, or not expected any more; the alarm that is over by that."""
        one = self._of.pop(slot, None)
        if one is None:
            return None
        one.slots.discard(slot)
        return None if one.slots else self._told.pop(one.series)

    def move(self, places: I64) -> None:
        """Series have other slots now: of each old one the new one."""
        for one in self._told.values():
            one.slots = {int(places[slot]) for slot in one.slots}
        self._of = {slot: one for one in self._told.values() for slot in one.slots}
