"""Functions over instant vectors and scalars."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.ground.errors import BadData
from ninefold.promql import bounds
from ninefold.promql.matrix import F64, NAME, Grid, Labels, Mask, Value, Vector, filled, grouped, without

_LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
_CAPTURES = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P?<(\w+)>|\((?!\?)")
_NUMBERED = re.compile(r"\$(?:(\d+)|\{(\w+)\}|(\w+))")


def _round(values: F64, to: F64 | float = 1.0) -> F64:
    with np.errstate(all="ignore"):
        return np.asarray(np.floor(values / to + 0.5) * to)


def _clamp(values: F64, low: F64 | float, high: F64 | float) -> F64:
    return np.asarray(np.where(np.asarray(low) > np.asarray(high), np.nan, np.fmax(low, np.fmin(high, values))))


SIMPLE: dict[str, Callable[..., F64]] = {
    "abs": np.abs, "ceil": np.ceil, "floor": np.floor, "exp": np.exp, "ln": np.log, "log2": np.log2, "log10": np.log10, "sqrt": np.sqrt,
    "sgn": np.sign, "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atanh": np.arctanh, "cos": np.cos, "cosh": np.cosh, "sin": np.sin, "sinh": np.sinh, "tan": np.tan, "tanh": np.tanh,
    "deg": np.degrees, "rad": np.radians, "round": _round, "clamp": _clamp,
    "clamp_min": np.fmax, "clamp_max": np.fmin,
}  # fmt: skip
"""Functions of each value by itself, with scalars behind the vector."""


def _calendar(part: Callable[[datetime], float]) -> Callable[[F64], F64]:
    def apply(values: F64) -> F64:
        flat = [part(datetime.fromtimestamp(value, UTC)) if np.isfinite(value) else np.nan for value in values.ravel()]
        return np.array(flat).reshape(values.shape)

    return apply


def _month_days(moment: datetime) -> float:
    first = moment.replace(day=1)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return (following - first).days


CALENDAR: dict[str, Callable[[F64], F64]] = {
    "minute": _calendar(lambda t: t.minute), "hour": _calendar(lambda t: t.hour), "month": _calendar(lambda t: t.month),
    "year": _calendar(lambda t: t.year), "day_of_month": _calendar(lambda t: t.day), "days_in_month": _calendar(_month_days),
    "day_of_week": _calendar(lambda t: t.isoweekday() % 7), "day_of_year": _calendar(lambda t: t.timetuple().tm_yday),
}  # fmt: skip
"""Parts of a time that is given in epoch seconds; without an argument, of the step's own time."""


def scalar(vector: Vector) -> F64:
    """The one value of each step; NaN where there is none or more than one."""
    one = vector.present.sum(axis=0) == 1
    return np.where(one, np.where(vector.present, vector.values, 0.0).sum(axis=0), np.nan)


def vector_of(values: F64) -> Vector:
    """A scalar as a vector of one series without labels."""
    return Vector([{}], values[None, :], np.ones((1, len(values)), np.bool_))


def absent(labels: Labels, present: Mask) -> Vector:
    """1 with `labels` at the steps at which nothing is present."""
    nothing = ~np.any(present, axis=0, keepdims=True)
    return filled([labels], nothing.astype(np.float64), nothing)


def label_replace(vector: Vector, target: str, replacement: str, source: str, pattern: str) -> Vector:
    """Set a label from a regular expression (RE2's, anchored at both ends) over another one.

    Raises:
        BadData: the pattern is not a regular expression or the label's name is not allowed.
    """
    _checked(target)
    values = pa.array([labels.get(source, "") for labels in vector.labels], pa.string())
    anchored = f"^(?s:{pattern})$"
    try:
        found = pc.match_substring_regex(values, anchored).to_pylist()
        made = pc.replace_substring_regex(values, anchored, _rewrite(replacement, pattern)).to_pylist()
    except pa.ArrowInvalid as error:
        raise BadData(f"label_replace: {pattern!r} is not a regular expression: {error}") from None
    relabelled = []
    for labels, hit, value in zip(vector.labels, found, made, strict=True):
        set_ = {**labels, target: value} if value else without(labels, (target,))
        relabelled.append(set_ if hit else labels)
    return _relabelled(vector, relabelled)


def _rewrite(replacement: str, pattern: str) -> str:
    """A replacement as RE2 writes it: ``$1``, ``${1}`` and ``$name`` become ``\\1``; what the pattern does not capture is empty."""
    names = [match[1] or "" for match in _CAPTURES.finditer(pattern) if match[0].startswith("(")]

    def numbered(match: re.Match[str]) -> str:
        word = match[1] or match[2] or match[3]
        number = int(word) if word.isdigit() else names.index(word) + 1 if word in names else -1
        return f"\\{number}" if 0 <= number <= min(len(names), 9) else ""

    return _NUMBERED.sub(numbered, replacement.replace("\\", "\\\\"))


def label_join(vector: Vector, target: str, separator: str, *sources: str) -> Vector:
    """Set a label to the values of others, joined.

    Raises:
        BadData: a label's name is not allowed.
    """
    _checked(target)
    joined = [separator.join(labels.get(source, "") for source in sources) for labels in vector.labels]
    pairs = zip(vector.labels, joined, strict=True)
    return _relabelled(vector, [{**labels, target: value} if value else without(labels, (target,)) for labels, value in pairs])


def _checked(label: str) -> None:
    if not _LABEL.match(label):
        raise BadData(f"{label!r} cannot be the name of a label")


def _relabelled(vector: Vector, labels: list[Labels]) -> Vector:
    if len(grouped(labels, lambda row: row)[0]) < len(labels):
        raise BadData("two series would get the same labels")
    return Vector(labels, vector.values, vector.present)


def histogram_quantile(shares: F64, vector: Vector) -> Vector:
    """Quantiles of classic histograms: series with cumulative counts in ``le`` buckets, linear within a bucket."""
    readable = [place for place, labels in enumerate(vector.labels) if _bound(labels) is not None]
    vector = vector.chosen(readable)
    groups, number = grouped(vector.labels, lambda labels: without(labels, (NAME, "le")))
    steps = vector.values.shape[1]
    values, present = np.full((len(groups), steps), np.nan), np.zeros((len(groups), steps), np.bool_)
    edges = np.array([_bound(labels) for labels in vector.labels], np.float64)
    for group in range(len(groups)):
        bounds.in_time()
        rows = np.flatnonzero(number == group)
        rows = rows[np.argsort(edges[rows], kind="stable")]
        for step in range(steps):
            here = rows[vector.present[rows, step]]
            if len(here):
                present[group, step] = True
                values[group, step] = _bucket_quantile(float(shares[step]), edges[here], vector.values[here, step])
    return Vector(groups, values, present)


def _bound(labels: Labels) -> float | None:
    try:
        return float(labels["le"])
    except (KeyError, ValueError):
        return None


def _bucket_quantile(share: float, bounds: F64, counts: F64) -> float:
    if np.isnan(share):
        return np.nan
    if share < 0 or share > 1:
        return -np.inf if share < 0 else np.inf
    if not np.isposinf(bounds[-1]) or len(bounds) < 2:
        return np.nan
    edges, place = np.unique(bounds, return_inverse=True)
    counts = np.maximum.accumulate(np.bincount(place, weights=counts))
    total = counts[-1]
    if not total > 0:
        return np.nan
    rank = share * total
    bucket = int(np.searchsorted(counts, rank))
    if bucket >= len(edges) - 1:
        return float(edges[-2])
    if bucket == 0 and edges[0] <= 0:
        return float(edges[0])
    start = edges[bucket - 1] if bucket else 0.0
    below = counts[bucket - 1] if bucket else 0.0
    return float(start + (edges[bucket] - start) * ((rank - below) / (counts[bucket] - below)))


def ordered(vector: Vector, descending: bool) -> Vector:
    """Series by the value of the last step, NaN last."""
    last = vector.values[:, -1] if vector.values.shape[1] else np.zeros(len(vector.labels))
    return vector.chosen(np.argsort(-last if descending else last, kind="stable"))


def step_times(grid: Grid) -> F64:
    """The steps in epoch seconds."""
    return grid.times / 1000


def as_vector(value: Value, where: str) -> Vector:
    """The value, which must be a vector.

    Raises:
        BadData: it is a scalar or a text.
    """
    if not isinstance(value, Vector):
        raise BadData(f"{where} needs a vector")
    return value
