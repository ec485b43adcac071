"""Episodes: from scores, window by window, to one alarm that begins and ends, for things that are judged a window at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ninefold.ground.clock import MINUTE

ALARM, SURE = 5.0, 10.0
"""-log10 of a chance: two windows in a row beyond the first, or one beyond the second, are an alarm."""
CALM = 3 * MINUTE
"""Quiet windows that reach so long beyond the last odd one end it."""


class Episodes:
    """What is not as usual right now, by key (a tuple of texts). One that is unusual but not an alarm yet is in doubt."""

    def __init__(self, state: Iterable[tuple[list[str], list[int], list[str]]] = ()) -> None:
        self._open: dict[tuple[str, ...], list[int]] = {}
        self._said: dict[tuple[str, ...], list[str]] = {}
        for key, numbers, said in state:
            self._open[tuple(key)], self._said[tuple(key)] = list(numbers), list(said)

    def state(self) -> list[Any]:
        """What the constructor takes to continue here."""
        return [[list(key), numbers, self._said[key]] for key, numbers in self._open.items()]

    def since(self, key: tuple[str, ...]) -> int:
        """When a firing episode began (ns), 0 when there is none."""
        since, _, _, firing, _ = self._open.get(key, (0, 0, 0, 0, 0))
        return since if firing else 0

    def unusual(self) -> list[tuple[str, ...]]:
        """What is unusual now, firing or not yet."""
        return list(self._open)

    def judge(self, key: tuple[str, ...], score: float, time: int, end: int, what: tuple[str, str] = ("", "")) -> str:
        """Take in a window's score: ``fired``, ``resolved``, or "" when nothing is to be told.

        Args:
            key: whose window it is.
            score: -log10 of the chance of this window.
            time, end: the window's, ns.
            what: entity and name of it, for `silent`.
        """
        known = self._open.get(key)
        if score < ALARM:
            if known is None:
                return ""
            known[1], known[4] = 0, end
            if known[3] and end - known[2] < CALM:
                return ""
            self._drop(key)
            return "resolved" if known[3] else ""
        if known is None:
            known = self._open[key] = [time, 0, end, 0, end]
            self._said[key] = list(what)
        known[1], known[2], known[4] = known[1] + 1, end, end
        if known[3] or (known[1] < 2 and score < SURE):
            return ""
        known[3] = 1
        return "fired"

    def silent(self, before: int) -> list[tuple[tuple[str, ...], int, list[str]]]:
        """Let go of what was not judged since `before` (ns); returns key, begin and `what` of those that were firing."""
        quiet = [key for key, numbers in self._open.items() if numbers[4] < before]
        told = [(key, self._open[key][0], self._said[key]) for key in quiet if self._open[key][3]]
        for key in quiet:
            self._drop(key)
        return told

    def _drop(self, key: tuple[str, ...]) -> None:
        del self._open[key], self._said[key]
