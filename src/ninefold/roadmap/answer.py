"""What a step of the roadmap answers: figures with their arithmetic, gaps with a hint, and one score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from ninefold.plugin import Store

OWN = "ninefold"
"""Sources of this name, or that begin with it, are the program itself: its doings are data, but they are nobody's readiness."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number: `text` says it in plain words, `how` is the definition with its arithmetic. Spans are in seconds."""

    name: str
    value: int | float | str | None
    unit: str
    text: str
    how: str


@dataclass(frozen=True, slots=True)
class Gap:
    """What is not measured yet, and what to do about it."""

    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step as it stands: `score` is 0 to 100, None when nothing of it can be measured yet; `how` is its arithmetic."""

    number: int
    key: str
    title: str
    stage: Literal["early", "middle", "late"]
    question: str
    score: float | None = None
    how: str = ""
    figures: list[Figure] = field(default_factory=list)
    missing: list[Gap] = field(default_factory=list)


def rows(store: Store, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of a query as dictionaries."""
    return store.query(sql, parameters).to_pylist()  # type: ignore[no-any-return]


def percent(part: float, whole: float) -> float | None:
    """`part` of `whole` in percent with one decimal, None of nothing."""
    return round(100 * part / whole, 1) if whole else None


def score(*shares: float | None) -> float | None:
    """The mean of the shares (0 to 1) that are known, as 0 to 100; None when none is."""
    known = [share for share in shares if share is not None]
    return round(100 * sum(known) / len(known), 1) if known else None


def middle(values: Iterable[float]) -> float | None:
    """The median, None of nothing."""
    found = list(values)
    return round(median(found), 3) if found else None


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 incident``, ``3 incidents``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def names(values: Sequence[str], most: int = 4) -> str:
    """A few names for people: ``a, b, c and 4 more``."""
    shown = ", ".join(values[:most])
    return f"{shown} and {len(values) - most} more" if len(values) > most else shown


def span(seconds: float) -> str:
    """A span of time for people: ``350 ms``, ``42 s``, ``7 min``, ``3.5 h``, ``2 days``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit, below in ((1, "s", 120), (60, "min", 7200), (3600, "h", 2 * DAY_S)):
        if seconds < below:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / DAY_S:.3g} days"
