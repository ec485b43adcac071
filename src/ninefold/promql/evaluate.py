"""Walking a parsed PromQL expression over a grid of steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import promql_parser as parser

from ninefold.ground.errors import BadData
from ninefold.promql import bounds, functions, histograms, rolled, windows
from ninefold.promql.histograms import Part
from ninefold.promql.matrix import F64, I64, Grid, Samples, Value, Vector, filled
from ninefold.promql.operators import Matching, aggregate, binary
from ninefold.promql.select import Selector, matches_of

LOOKBACK_MS = 300_000
"""How old a sample may be and still be a series' value."""
_SUBQUERY_STEP_MS = 60_000
_STEPS = 50_000


def parse(text: str) -> Any:
    """The parsed expression.

    Raises:
        BadData: it is not PromQL, or too large.
    """
    bounds.measure(text)
    try:
        return parser.parse(text)
    except ValueError as error:
        raise BadData(f"the expression is not PromQL: {error}", "query") from None


class Evaluation:
    """One evaluation of one expression.

    Args:
        selector: where series come from.
        grid: the steps of the query; ``@ start()`` and ``@ end()`` mean its ends.
    """

    def __init__(self, selector: Selector, grid: Grid) -> None:
        self._selector, self._whole = selector, grid
        self._part: Part = ""

    def evaluate(self, node: Any, grid: Grid | None = None) -> Value:
        """The value of an expression on a grid (the query's by default).

        Raises:
            BadData: the expression does not make sense, is not supported, or touches too much.
            Refused: it takes too long.
        """
        bounds.in_time()
        grid = grid or self._whole
        match node:
            case parser.NumberLiteral():
                return np.full(len(grid.times), float(node.val))
            case parser.StringLiteral():
                return str(node.val)
            case parser.ParenExpr():
                return self.evaluate(node.expr, grid)
            case parser.UnaryExpr():
                inner = self.evaluate(node.expr, grid)
                return inner.with_values(-inner.values) if isinstance(inner, Vector) else -self._scalar(node.expr, grid)
            case parser.VectorSelector():
                return self._instant(node, grid)
            case parser.AggregateExpr():
                return self._aggregate(node, grid)
            case parser.BinaryExpr():
                left, right = self.evaluate(node.lhs, grid), self.evaluate(node.rhs, grid)
                return binary(str(node.op), left, right, _matching(node.modifier), bool(node.modifier and node.modifier.return_bool))
            case parser.Call():
                return self._call(node, grid)
        raise BadData("a range such as x[5m] only stands inside a function such as rate()")

    def _instant(self, node: Any, grid: Grid, when: bool = False) -> Vector:
        """The newest living sample of each series at each step, or (`when`) its time in epoch seconds."""
        at = self._moved(node, grid)
        samples = self._selector.samples(matches_of(node), int(at.min()) - LOOKBACK_MS, int(at.max()), part=self._part)
        if not len(samples.times):
            return Vector.empty(len(grid.times))
        bounds.affordable(len(samples.labels), len(at))
        high = samples.up_to(at)
        present = high > samples.up_to(at - LOOKBACK_MS)
        index = np.where(present, high - 1, 0)
        present &= ~samples.stale[index]
        made = filled(samples.labels, samples.times[index] / 1000 if when else samples.values[index], present)
        return made.with_values(made.values) if when else made

    def _moved(self, node: Any, grid: Grid) -> I64:
        """The times a selector looks at: the steps, pinned by ``@`` and moved by ``offset``."""
        times = grid.times
        if node.at is not None:
            ends = {"Start": self._whole.start, "End": self._whole.end}
            kind = str(node.at.type).rpartition(".")[2]
            times = np.full(len(times), ends[kind] if kind in ends else round(node.at.at.timestamp() * 1000), np.int64)
        return times - (_milliseconds(node.offset) if node.offset is not None else 0)

    def _range(self, node: Any, grid: Grid, parameters: list[F64], want: rolled.Want = "last") -> windows.Windows:
        if isinstance(node, parser.ParenExpr):
            return self._range(node.expr, grid, parameters, want)
        length = _milliseconds(node.range)
        if isinstance(node, parser.MatrixSelector):
            at = self._moved(node.vector_selector, grid)
            begin, end = int(at.min()) - length, int(at.max())
            samples = self._selector.samples(matches_of(node.vector_selector), begin, end, want, self._part).living()
        else:
            at = self._moved(node, grid)
            samples = self._inner(node, int(at.min()) - length, int(at.max()))
        bounds.affordable(len(samples.labels), len(at))
        return windows.Windows(samples, at, length, parameters)

    def _inner(self, node: Any, begin: int, end: int) -> Samples:
        """A subquery's values as if they were stored samples; its steps are whole multiples of its step."""
        step = _milliseconds(node.step) if node.step is not None else _SUBQUERY_STEP_MS
        start = begin // step * step + step
        if (end - start) // step > _STEPS:
            raise BadData(f"a subquery has more than {_STEPS:,} steps; make its step longer")
        if start > end:
            return Samples([], np.empty(0, np.int64), np.empty(0), np.zeros(1, np.int64))
        grid = Grid(start, end, step)
        value = self.evaluate(node.expr, grid)
        vector = value if isinstance(value, Vector) else functions.vector_of(self._number(value))
        rows, steps = np.nonzero(vector.present)
        edges = np.concatenate(([0], np.cumsum(vector.present.sum(axis=1)))).astype(np.int64)
        return Samples(vector.labels, grid.times[steps], vector.values[rows, steps], edges)

    def _aggregate(self, node: Any, grid: Grid) -> Vector:
        vector = functions.as_vector(self.evaluate(node.expr, grid), str(node.op))
        parameter = None if node.param is None else self.evaluate(node.param, grid)
        if isinstance(parameter, Vector):
            raise BadData(f"the parameter of {node.op} is a number or a text")
        labels = tuple(node.modifier.labels) if node.modifier else ()
        by = node.modifier is None or str(node.modifier.type).endswith("By")
        if self._part == "buckets":
            labels = (*labels, "le") if by else tuple(label for label in labels if label != "le")
        return aggregate(str(node.op), vector, by, labels, parameter)

    def _call(self, node: Any, grid: Grid) -> Value:
        name, arguments = str(node.func.name), list(node.args)
        if name in windows.FUNCTIONS:
            ranges = [a for a in arguments if _is_range(a)]
            parameters = [self._scalar(a, grid) for a in arguments if not _is_range(a)]
            return windows.apply(name, self._range(ranges[0], grid, parameters, rolled.WANTS.get(name, "last")))
        if name == "absent_over_time":
            found = windows.apply("present_over_time", self._range(arguments[0], grid, []))
            return functions.absent(_equal_labels(arguments[0]), found.present.reshape(-1, len(grid.times)))
        if name in functions.SIMPLE:
            vector = functions.as_vector(self.evaluate(arguments[0], grid), name)
            scalars = [self._scalar(a, grid)[None, :] for a in arguments[1:]]
            with np.errstate(all="ignore"):
                return vector.with_values(functions.SIMPLE[name](vector.values, *scalars))
        if name in functions.CALENDAR:
            of = self.evaluate(arguments[0], grid) if arguments else functions.vector_of(functions.step_times(grid))
            vector = functions.as_vector(of, name)
            return vector.with_values(functions.CALENDAR[name](np.where(vector.present, vector.values, 0.0)))
        return self._special(name, arguments, grid)

    def _special(self, name: str, arguments: list[Any], grid: Grid) -> Value:
        """Functions whose arguments or result are not simply vector to vector."""
        if name == "time":
            return functions.step_times(grid)
        if name == "pi":
            return np.full(len(grid.times), np.pi)
        if name == "vector":
            return functions.vector_of(self._scalar(arguments[0], grid))
        if name == "timestamp" and isinstance(arguments[0], parser.VectorSelector):
            return self._instant(arguments[0], grid, when=True)
        texts = [str(a.val) for a in arguments if isinstance(a, parser.StringLiteral)]
        if name == "histogram_quantile":
            native = functions.as_vector(self._of_histograms(arguments[1], grid, "buckets"), name)
            vector = (
                native if any("le" in labels for labels in native.labels) else functions.as_vector(self.evaluate(arguments[1], grid), name)
            )
            return functions.histogram_quantile(self._scalar(arguments[0], grid), vector)
        if name in histograms.PARTS:
            vector = functions.as_vector(self._of_histograms(arguments[0], grid, histograms.PARTS[name]), name)
            return vector.with_values(vector.values)
        if name == "histogram_avg":
            total, number = (self._of_histograms(arguments[0], grid, part) for part in histograms.AVERAGE)
            return binary("/", total, number, Matching(), False)
        if not arguments:
            raise BadData(f"the function {name} is not supported")
        vector = functions.as_vector(self.evaluate(arguments[0], grid), name)
        match name:
            case "scalar":
                return functions.scalar(vector)
            case "absent":
                return functions.absent(_equal_labels(arguments[0]), vector.present.reshape(-1, len(grid.times)))
            case "timestamp":
                return vector.with_values(np.broadcast_to(functions.step_times(grid), vector.values.shape))
            case "label_replace":
                return functions.label_replace(vector, *texts)
            case "label_join":
                return functions.label_join(vector, *texts)
            case "sort" | "sort_desc":
                return functions.ordered(vector, name == "sort_desc")
        raise BadData(f"the function {name} is not supported")

    def _of_histograms(self, node: Any, grid: Grid, part: Part) -> Value:
        """The value of an expression over a part of the native histograms that it selects."""
        before, self._part = self._part, part
        try:
            return self.evaluate(node, grid)
        finally:
            self._part = before

    def _scalar(self, node: Any, grid: Grid) -> F64:
        return self._number(self.evaluate(node, grid))

    def _number(self, value: Value) -> F64:
        if isinstance(value, Vector | str):
            raise BadData("a number is needed here; scalar() makes one of a vector of one series")
        return value


def _is_range(node: Any) -> bool:
    return _is_range(node.expr) if isinstance(node, parser.ParenExpr) else isinstance(node, parser.MatrixSelector | parser.SubqueryExpr)


def _equal_labels(node: Any) -> dict[str, str]:
    """The labels an absent series would have had: those that the selector asks to be equal, each once."""
    while isinstance(node, parser.ParenExpr):
        node = node.expr
    selector = node.vector_selector if isinstance(node, parser.MatrixSelector) else node
    if not isinstance(selector, parser.VectorSelector):
        return {}
    asked = [match for match in matches_of(selector) if match.label != "__name__"]
    names = [match.label for match in asked]
    return {match.label: match.value for match in asked if match.op == "=" and names.count(match.label) == 1}


def _matching(modifier: Any) -> Matching:
    if modifier is None:
        return Matching()
    given = modifier.matching
    card = str(modifier.card)
    return Matching(
        on=given is not None and str(given.type).endswith("Include"),
        labels=tuple(given.labels) if given is not None else (),
        many="left" if card.endswith("ManyToOne") else "right" if card.endswith("OneToMany") else "",
        include=tuple(modifier.group_labels or ()),
    )


def _milliseconds(length: timedelta) -> int:
    return round(length.total_seconds() * 1000)
