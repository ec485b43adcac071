"""Aggregation and binary operators over vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ninefold.ground.errors import BadData
from ninefold.promql import bounds
from ninefold.promql.matrix import F64, I64, NAME, Labels, Mask, Value, Vector, filled, grouped, only, signature, without
from ninefold.promql.windows import quantile

ARITHMETIC: dict[str, Callable[[F64, F64], F64]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod, "^": np.power, "atan2": np.arctan2,
}  # fmt: skip
COMPARISON: dict[str, Callable[[F64, F64], Mask]] = {
    "==": np.equal, "!=": np.not_equal, ">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal,
}  # fmt: skip
SETS = ("and", "or", "unless")


@dataclass(frozen=True)
class Matching:
    """How two vectors meet: `labels` that count (`on`) or do not (ignoring); which side may have many; labels it takes from the other."""

    on: bool = False
    labels: tuple[str, ...] = ()
    many: Literal["", "left", "right"] = ""
    include: tuple[str, ...] = ()

    def key(self, labels: Labels) -> Labels:
        """The part of a series' labels that must be equal on both sides."""
        return only(labels, self.labels) if self.on else without(labels, (*self.labels, NAME))


# ---- aggregation -------------------------------------------------------------------------------------------------------


def aggregate(how: str, vector: Vector, by: bool, labels: Sequence[str], parameter: F64 | str | None) -> Vector:
    """Aggregate the series of each group at each step.

    Args:
        how: sum, avg, min, max, count, group, stddev, stdvar, quantile, topk, bottomk or count_values.
        vector: what is aggregated.
        by: whether `labels` are those that stay, or those that go.
        labels: see `by`.
        parameter: of quantile, topk, bottomk (one number a step) and count_values (the label's name).

    Raises:
        BadData: the aggregation is not known or lacks its parameter.
    """

    def key(row: Labels) -> Labels:
        return only(row, labels) if by else without(row, (*labels, NAME))

    groups, number = grouped(vector.labels, key)
    if how in ("topk", "bottomk") and isinstance(parameter, np.ndarray):
        return _ranked(vector, number, parameter, how == "topk")
    if how == "count_values" and isinstance(parameter, str):
        return _count_values(vector, groups, number, parameter)
    steps = vector.values.shape[1]
    values, present = np.zeros((len(groups), steps)), np.zeros((len(groups), steps), np.bool_)
    for group in range(len(groups)):
        bounds.in_time()
        rows = np.flatnonzero(number == group)
        there = vector.present[rows]
        present[group] = there.any(axis=0)
        with np.errstate(all="ignore"):
            values[group] = _reduce(how, np.where(there, vector.values[rows], np.nan), there, vector.values[rows], parameter)
    return Vector(groups, values, present)


def _reduce(how: str, holes: F64, there: Mask, values: F64, parameter: F64 | str | None) -> F64:
    count: I64 = there.sum(axis=0)
    total = np.asarray(np.where(there, values, 0.0).sum(axis=0), np.float64)
    match how:
        case "sum":
            return total
        case "count":
            return count.astype(np.float64)
        case "group":
            return np.ones(len(count))
        case "avg":
            return np.asarray(total / count)
        case "min" | "max":
            return np.asarray((np.fmin if how == "min" else np.fmax).reduce(holes, axis=0))
        case "stdvar" | "stddev":
            mean = total / count
            variance = np.where(there, (values - mean) ** 2, 0.0).sum(axis=0) / count
            return np.asarray(variance if how == "stdvar" else np.sqrt(variance))
        case "quantile" if isinstance(parameter, np.ndarray):
            return np.array([quantile(float(parameter[step]), values[there[:, step], step]) for step in range(len(count))])
    raise BadData(f"the aggregation {how} is not supported or lacks its parameter")


def _ranked(vector: Vector, number: I64, limit: F64, largest: bool) -> Vector:
    present = np.zeros_like(vector.present)
    with np.errstate(all="ignore"):
        rank = np.where(vector.present, -vector.values if largest else vector.values, np.nan)
    for group in np.unique(number):
        bounds.in_time()
        rows = np.flatnonzero(number == group)
        for step in range(vector.values.shape[1]):
            here = rows[vector.present[rows, step]]
            keep = here[np.argsort(rank[here, step], kind="stable")][: max(0, int(np.nan_to_num(limit[step])))]
            present[keep, step] = True
    made = filled(vector.labels, vector.values, present)
    if made.values.shape[1] != 1:
        return made
    return made.chosen(np.argsort(-made.values[:, 0] if largest else made.values[:, 0], kind="stable"))


def _count_values(vector: Vector, groups: list[Labels], number: I64, label: str) -> Vector:
    counted: dict[tuple[int, str], F64] = {}
    steps = vector.values.shape[1]
    for row, step in zip(*np.nonzero(vector.present), strict=True):
        place = (int(number[row]), number_text(float(vector.values[row, step])))
        counted.setdefault(place, np.zeros(steps))[step] += 1
    labels = [{**groups[group], label: value} for group, value in counted]
    values = np.array(list(counted.values())).reshape(len(labels), steps)
    return Vector(labels, values, values > 0)


def number_text(value: float) -> str:
    """A number as Prometheus writes it: ``1``, ``0.5``, ``1e+21``, ``+Inf``, ``NaN``."""
    if value != value:
        return "NaN"
    if value in (np.inf, -np.inf):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    return text.removesuffix(".0")


# ---- binary operators --------------------------------------------------------------------------------------------------


def binary(op: str, left: Value, right: Value, matching: Matching, as_bool: bool) -> Value:
    """Apply a binary operator.

    Raises:
        BadData: the operands do not fit the operator, or a series finds more than one partner.
    """
    if isinstance(left, str) or isinstance(right, str):
        raise BadData(f"the operator {op} does not take texts")
    with np.errstate(all="ignore"):
        if op in SETS:
            if not isinstance(left, Vector) or not isinstance(right, Vector):
                raise BadData(f"the operator {op} needs two vectors")
            return _sets(op, left, right, matching)
        if isinstance(left, Vector) and isinstance(right, Vector):
            return _joined(op, left, right, matching, as_bool)
        if isinstance(left, Vector):
            return _with_scalar(op, left, np.asarray(right), as_bool, swapped=False)
        if isinstance(right, Vector):
            return _with_scalar(op, right, left, as_bool, swapped=True)
        if op in ARITHMETIC:
            return ARITHMETIC[op](left, right)
        if not as_bool:
            raise BadData(f"{op} between two scalars needs `bool`")
        return COMPARISON[op](left, right).astype(np.float64)


def _with_scalar(op: str, vector: Vector, scalar: F64, as_bool: bool, swapped: bool) -> Vector:
    a, b = (scalar[None, :], vector.values) if swapped else (vector.values, scalar[None, :])
    if op in ARITHMETIC:
        return vector.with_values(ARITHMETIC[op](a, b))
    holds = COMPARISON[op](a, b)
    if as_bool:
        return vector.with_values(holds.astype(np.float64))
    return filled(vector.labels, vector.values, vector.present & holds)


def _sets(op: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    _, number = grouped([*left.labels, *right.labels], matching.key)
    mine, theirs = number[: len(left.labels)], number[len(left.labels) :]
    steps = left.values.shape[1] if len(left.labels) else right.values.shape[1]
    there = np.zeros((int(number.max()) + 1 if len(number) else 0, steps), np.bool_)
    if op == "or":
        np.logical_or.at(there, mine, left.present)
        rest = right.present & ~there[theirs] if len(theirs) else right.present
        return _merged([*left.labels, *right.labels], [*left.values, *right.values], [*left.present, *rest], steps)
    np.logical_or.at(there, theirs, right.present)
    keep = there[mine] if len(mine) else left.present
    return filled(left.labels, left.values, left.present & (keep if op == "and" else ~keep))


def _joined(op: str, left: Vector, right: Vector, matching: Matching, as_bool: bool) -> Vector:
    """One-to-one, many-to-one or one-to-many: every series of the many side meets the partner with its key."""
    swapped = matching.many == "right"
    many, one = (right, left) if swapped else (left, right)
    _, number = grouped([*many.labels, *one.labels], matching.key)
    partners = _partners(one, number[len(many.labels) :])
    labels: list[Labels] = []
    values: list[F64] = []
    present: list[Mask] = []
    for row, key in enumerate(number[: len(many.labels)].tolist()):
        bounds.in_time()
        for other in partners.get(key, ()):
            a, b = (one.values[other], many.values[row]) if swapped else (many.values[row], one.values[other])
            there = many.present[row] & one.present[other]
            result = ARITHMETIC[op](a, b) if op in ARITHMETIC else COMPARISON[op](a, b)
            if op in COMPARISON and not as_bool:
                there, result = there & result.astype(np.bool_), a
            labels.append(_result_labels(op, many.labels[row], one.labels[other], matching, as_bool))
            values.append(result.astype(np.float64))
            present.append(there)
    return _merged(labels, values, present, left.values.shape[1])


def _partners(one: Vector, keys: I64) -> dict[int, list[int]]:
    partners: dict[int, list[int]] = {}
    taken: dict[int, Mask] = {}
    for row, key in enumerate(keys.tolist()):
        if key in taken and (taken[key] & one.present[row]).any():
            raise BadData("many-to-many matching is not allowed: more than one series of the one side has the same matching labels")
        taken[key] = taken.get(key, np.zeros_like(one.present[row])) | one.present[row]
        partners.setdefault(key, []).append(row)
    return partners


def _result_labels(op: str, many: Labels, one: Labels, matching: Matching, as_bool: bool) -> Labels:
    labels = without(many, (NAME,)) if op in ARITHMETIC or as_bool else dict(many)
    if not matching.many:
        return only(labels, matching.labels) if matching.on else without(labels, matching.labels)
    for name in matching.include:
        if one.get(name):
            labels[name] = one[name]
        else:
            labels.pop(name, None)
    return labels


def _merged(labels: list[Labels], values: list[F64], present: list[Mask], steps: int) -> Vector:
    """Rows with the same labels as one series; they must not overlap."""
    place: dict[tuple[tuple[str, str], ...], int] = {}
    made = Vector.empty(steps)
    rows: list[F64] = []
    there: list[Mask] = []
    for row, value, here in zip(labels, values, present, strict=True):
        if not here.any():
            continue
        known = place.setdefault(signature(row), len(rows))
        if known == len(rows):
            made.labels.append(row)
            rows.append(np.where(here, value, 0.0))
            there.append(here.copy())
        elif (there[known] & here).any():
            raise BadData("several series would get the same labels; use group_left or group_right, or match on more labels")
        else:
            rows[known] = np.where(here, value, rows[known])
            there[known] |= here
    return Vector(made.labels, np.array(rows), np.array(there)) if rows else made
