"""Functions over ranges: for every series and step, the samples of a window that ends there.

A window is open on its left: a sample exactly `range` before the step is not in it (as in Prometheus 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ninefold.promql import bounds
from ninefold.promql.matrix import F64, I64, Mask, Samples, Vector, filled

Compute = Callable[["Windows"], tuple[F64, Mask]]


class Windows:
    """The windows of some samples on a grid: `low` and `high` are (series, step) arrays of indices into the samples.

    Args:
        samples: without staleness markers.
        times: the steps at which windows end, in ms.
        length: of the windows, in ms.
        parameters: the function's scalar arguments, each one number a step.
    """

    def __init__(self, samples: Samples, times: I64, length: int, parameters: Sequence[F64] = ()) -> None:
        self.samples, self.times, self.length, self.parameters = samples, times, length, parameters
        self.low = samples.up_to(times - length)
        self.high = samples.up_to(times)
        self.count = self.high - self.low

    def at(self, index: I64, least: int = 1) -> tuple[F64, I64, Mask]:
        """Values and times at indices where a window has at least so many samples; zeros elsewhere."""
        enough = self.count >= least
        safe = np.where(enough, index, 0)
        if not len(self.samples.times):
            return np.zeros(safe.shape), np.zeros(safe.shape, np.int64), enough
        return self.samples.values[safe], self.samples.times[safe], enough

    def reduce(self, how: np.ufunc, values: F64) -> tuple[F64, Mask]:
        """`how` (add, minimum, …) over the values of each window."""
        present = self.count > 0
        out = np.zeros(self.low.shape)
        if present.any():
            bounds = np.column_stack((self.low[present], self.high[present])).ravel()
            out[present] = how.reduceat(np.append(values, 0.0), bounds)[::2]
        return out, present

    def each(self, compute: Callable[[F64, F64, int], float], least: int = 1) -> tuple[F64, Mask]:
        """`compute(values, times in s before the step, step)` for each window with at least so many samples."""
        present = self.count >= least
        out = np.zeros(self.low.shape)
        for row, step in zip(*np.nonzero(present), strict=True):
            bounds.in_time()
            piece = slice(self.low[row, step], self.high[row, step])
            seconds = (self.samples.times[piece] - self.times[step]) / 1000
            out[row, step] = compute(self.samples.values[piece], seconds, int(step))
        return out, present


def _extrapolated(windows: Windows, counter: bool, per_second: bool) -> tuple[F64, Mask]:
    """Prometheus' extrapolatedRate: the difference over a window, stretched to its edges where samples come close to them."""
    first, first_at, enough = windows.at(windows.low, 2)
    last, last_at, _ = windows.at(windows.high - 1, 2)
    change = last - first
    if counter:
        values = windows.samples.values
        before = np.concatenate(([0.0], values[:-1])) if len(values) else values
        same = np.concatenate(([False], np.diff(windows.samples.owner) == 0)) if len(values) else np.empty(0, np.bool_)
        lost = np.cumsum(np.where(same & (values < before), before, 0.0))
        if len(lost):
            low, high = np.where(enough, windows.low, 0), np.where(enough, windows.high - 1, 0)
            change = change + lost[high] - lost[low]
    with np.errstate(all="ignore"):
        sampled = (last_at - first_at) / 1000
        usual = sampled / (windows.count - 1)
        start = (first_at - (windows.times - windows.length)[None, :]) / 1000
        stop = (windows.times[None, :] - last_at) / 1000
        start = np.where(start >= usual * 1.1, usual / 2, start)
        stop = np.where(stop >= usual * 1.1, usual / 2, stop)
        if counter:
            to_zero = np.where((change > 0) & (first >= 0), sampled * (first / change), start)
            start = np.minimum(start, to_zero)
        factor = (sampled + start + stop) / sampled
        result = change * factor / (windows.length / 1000 if per_second else 1)
    return np.where(enough, result, 0.0), enough & (sampled > 0)


def _last_two(windows: Windows, per_second: bool) -> tuple[F64, Mask]:
    last, last_at, enough = windows.at(windows.high - 1, 2)
    before, before_at, _ = windows.at(windows.high - 2, 2)
    change = last - before
    if not per_second:
        return change, enough
    change = np.where(last < before, last, change)
    with np.errstate(all="ignore"):
        return np.where(enough, change / ((last_at - before_at) / 1000), 0.0), enough & (last_at > before_at)


def _changes(windows: Windows, resets: bool) -> tuple[F64, Mask]:
    values, owner = windows.samples.values, windows.samples.owner
    if not len(values):
        return np.zeros(windows.low.shape), windows.count > 0
    differs = values[1:] < values[:-1] if resets else (values[1:] != values[:-1]) & ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
    total = np.concatenate(([0], np.cumsum(differs & (np.diff(owner) == 0))))
    present = windows.count > 0
    low, high = np.where(present, windows.low, 0), np.where(present, windows.high - 1, 0)
    return (total[high] - total[low]).astype(np.float64), present


def _line(values: F64, seconds: F64) -> tuple[float, float]:
    """Slope a second and value at the step (seconds = 0) of the least-squares line."""
    if np.all(values == values[0]):
        return 0.0, float(values[0])
    centre = seconds.mean()
    spread = seconds - centre
    slope = float((spread * (values - values.mean())).sum() / (spread * spread).sum())
    return slope, float(values.mean() - slope * centre)


def quantile(share: float, values: F64) -> float:
    """Prometheus' quantile: linear between ranks, infinite outside 0..1, NaN of nothing; NaN values sort first."""
    if not len(values) or np.isnan(share):
        return np.nan
    if share < 0 or share > 1:
        return -np.inf if share < 0 else np.inf
    ordered = np.sort(values)
    holes = int(np.isnan(ordered).sum())
    ordered = np.concatenate((ordered[len(ordered) - holes :], ordered[: len(ordered) - holes]))
    rank = share * (len(ordered) - 1)
    low = int(np.floor(rank))
    high = min(low + 1, len(ordered) - 1)
    weight = rank - low
    return float(ordered[low] * (1 - weight) + ordered[high] * weight) if weight else float(ordered[low])


def _total(windows: Windows) -> tuple[F64, Mask]:
    values, weights = windows.samples.values, windows.samples.weights
    return windows.reduce(np.add, values if weights is None else values * weights)


def _number(windows: Windows) -> tuple[F64, Mask]:
    weights = windows.samples.weights
    return (windows.count.astype(np.float64), windows.count > 0) if weights is None else windows.reduce(np.add, weights)


def _average(windows: Windows) -> tuple[F64, Mask]:
    (total, present), (number, _) = _total(windows), _number(windows)
    return np.divide(total, number, out=np.zeros(total.shape), where=present), present


def _predict(windows: Windows) -> tuple[F64, Mask]:
    def ahead(values: F64, seconds: F64, step: int) -> float:
        slope, level = _line(values, seconds)
        return level + slope * float(windows.parameters[0][step])

    return windows.each(ahead, 2)


FUNCTIONS: dict[str, Compute] = {
    "rate": lambda w: _extrapolated(w, counter=True, per_second=True),
    "increase": lambda w: _extrapolated(w, counter=True, per_second=False),
    "delta": lambda w: _extrapolated(w, counter=False, per_second=False),
    "irate": lambda w: _last_two(w, per_second=True),
    "idelta": lambda w: _last_two(w, per_second=False),
    "deriv": lambda w: w.each(lambda values, seconds, step: _line(values, seconds)[0], 2),
    "predict_linear": _predict,
    "changes": lambda w: _changes(w, resets=False),
    "resets": lambda w: _changes(w, resets=True),
    "sum_over_time": _total,
    "avg_over_time": _average,
    "min_over_time": lambda w: w.reduce(np.fmin, w.samples.values),
    "max_over_time": lambda w: w.reduce(np.fmax, w.samples.values),
    "count_over_time": _number,
    "last_over_time": lambda w: w.at(w.high - 1)[::2],
    "first_over_time": lambda w: w.at(w.low)[::2],
    "present_over_time": lambda w: (np.ones(w.count.shape), w.count > 0),
    "stddev_over_time": lambda w: w.each(lambda values, seconds, step: float(np.std(values))),
    "stdvar_over_time": lambda w: w.each(lambda values, seconds, step: float(np.var(values))),
    "mad_over_time": lambda w: w.each(lambda values, seconds, step: quantile(0.5, np.abs(values - quantile(0.5, values)))),
    "quantile_over_time": lambda w: w.each(lambda values, seconds, step: quantile(float(w.parameters[0][step]), values)),
}
"""Range functions by name. Parameters of a function come in `Windows.parameters`, in their order without the range."""
KEEP_NAME = frozenset(("last_over_time", "first_over_time"))


def apply(name: str, windows: Windows) -> Vector:
    """The vector that a range function makes; series without any value are left out."""
    values, present = FUNCTIONS[name](windows)
    made = filled(windows.samples.labels, values, np.asarray(present))
    return made if name in KEEP_NAME else made.with_values(made.values)
