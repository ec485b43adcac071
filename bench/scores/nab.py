"""The score of the Numenta Anomaly Benchmark (Lavin & Ahmad 2015, doi:10.1109/ICMLA.2015.141), vectorised.

Within a labelled window only the best alarm counts, by a scaled sigmoid of its place; outside, every alarm costs, the more the
farther it lies behind the last window; a window without an alarm costs. The first 15 % of a series (750 points at most) do not
count. A score is what remains between a detector that never alarms (0) and a perfect one (100). At every threshold it is a sum of
three terms, which is what `Curves` holds; the three profiles only weigh them differently. One sweep over the corpus is one sort.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

F64 = np.ndarray[Any, np.dtype[np.float64]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

PROFILES = ("standard", "reward_low_FP_rate", "reward_low_FN_rate")
SHARE, MOST = 0.15, 750.0


class Weights(NamedTuple):
    """What a profile gives for a window found, takes for a false alarm, and takes for a window missed."""

    hit: float
    false: float
    miss: float


class Series(NamedTuple):
    """One file: times (ns), values, and the windows as first and last row."""

    name: str
    times: I64
    values: F64
    windows: list[tuple[int, int]]


class Curves(NamedTuple):
    """By descending threshold, from one above all scores: worth of the windows found, how many were, worth of the false alarms."""

    thresholds: F64
    worth: F64
    found: F64
    false: F64
    windows: int


def sigmoid(place: F64) -> F64:
    """The scaled sigmoid: 0.987 at a window's left edge (-1), 0 at its right edge, -1 from three widths behind it."""
    return np.where(place >= 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(place, 3.0))) - 1.0)


def probation(rows: int) -> float:
    """How many of the first rows of a series do not count."""
    return float(min(np.floor(SHARE * rows), MOST))


def places(rows: int, windows: list[tuple[int, int]]) -> tuple[I64, F64]:
    """For every row the window it lies in (-1 outside), and what an alarm there is worth before weighing."""
    inside, place = np.full(rows, -1), np.full(rows, 3.0)
    at = np.arange(rows)
    for number, (first, last) in enumerate(windows):
        width = last - first + 1
        place[last + 1 :] = (at[last + 1 :] - last) / (width - 1)
        place[first : last + 1] = -(last - at[first : last + 1] + 1) / width
        inside[first : last + 1] = number
    worth = sigmoid(place)
    return inside, np.where(inside >= 0, worth / float(sigmoid(np.array(-1.0))), worth)


class Corpus:
    """The labelled series laid out one behind the other, once for all detectors."""

    def __init__(self, series: list[Series], weights: Mapping[str, Weights]) -> None:
        self.series, self.weights = series, weights
        inside, worth, file, counts, first = [], [], [], [], 0
        for number, one in enumerate(series):
            rows = len(one.times)
            window, value = places(rows, one.windows)
            inside.append(np.where(window >= 0, window + first, -1))
            worth.append(value)
            file.append(np.full(rows, number))
            counts.append(np.arange(rows) >= probation(rows))
            first += len(one.windows)
        self.inside, self.worth, self.file, self.counts = (np.concatenate(part) for part in (inside, worth, file, counts))
        self.of_window = np.array([number for number, one in enumerate(series) for _ in one.windows])

    def curves(self, scores: F64, files: Mask | None = None) -> Curves:
        """Sweep all thresholds over the rows of these files (a mask over `series`; all when left out)."""
        chosen = np.ones(len(self.series), np.bool_) if files is None else files
        rows = np.flatnonzero(self.counts & chosen[self.file])
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        ranked, worth, inside = scores[rows], self.worth[rows], self.inside[rows]
        gain, first = np.zeros(len(rows)), np.zeros(len(rows))
        within = np.flatnonzero(inside >= 0)
        for here in np.split(within[np.argsort(inside[within], kind="stable")], np.flatnonzero(np.diff(np.sort(inside[within]))) + 1):
            if len(here):
                gain[here] = np.diff(np.maximum.accumulate(worth[here]), prepend=0.0)
                first[here[0]] = 1.0
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # all points of one score alarm together
        best, hit, false = (np.append(0.0, np.cumsum(part)[last]) for part in (gain, first, np.where(inside < 0, worth, 0.0)))
        return Curves(np.append(np.inf, ranked[last]), best, hit, false, int(chosen[self.of_window].sum()))

    def profile(self, curves: Curves, profile: str) -> F64:
        """The normalised score at every threshold of the curves."""
        weights = self.weights[profile]
        gained = weights.hit * curves.worth + weights.miss * curves.found + weights.false * curves.false
        return np.asarray(100.0 * gained / (curves.windows * (weights.hit + weights.miss)))

    def best(self, curves: Curves, profile: str) -> tuple[float, float]:
        """The best score and its threshold."""
        scores = self.profile(curves, profile)
        at = int(np.argmax(scores))
        return float(scores[at]), float(curves.thresholds[at])

    def at(self, curves: Curves, profile: str, threshold: float) -> float:
        """The score when every point of at least the threshold is an alarm."""
        return float(self.profile(curves, profile)[np.searchsorted(-curves.thresholds, -threshold, "right") - 1])

    def halves(self) -> tuple[Mask, Mask]:
        """Two halves of the files: their sorted names alternate."""
        first = np.zeros(len(self.series), np.bool_)
        first[sorted(range(len(self.series)), key=lambda number: self.series[number].name)[::2]] = True
        return first, ~first

    def crossed(self, scores: F64, profile: str) -> float:
        """The score of both halves, each with the threshold that is best on the other."""
        halves, gained, windows = self.halves(), 0.0, 0
        for here, there in (halves, halves[::-1]):
            curves = self.curves(scores, here)
            gained += self.at(curves, profile, self.best(self.curves(scores, there), profile)[1]) * curves.windows
            windows += curves.windows
        return gained / windows

    def interval(self, scores: F64, profile: str, threshold: float, draws: int = 2000, seed: int = 1) -> tuple[float, float]:
        """A 95 % interval of the score at a threshold: files drawn with replacement."""
        terms = []
        for number in range(len(self.series)):
            curves = self.curves(scores, np.arange(len(self.series)) == number)
            at = int(np.searchsorted(-curves.thresholds, -threshold, "right")) - 1
            terms.append((curves.worth[at], curves.found[at], curves.false[at], curves.windows))
        weights = self.weights[profile]
        drawn = np.random.default_rng(seed).integers(len(terms), size=(draws, len(terms)))
        worth, found, false, windows = np.array(terms)[drawn].sum(axis=1).T
        gained = weights.hit * worth + weights.miss * found + weights.false * false
        low, high = np.quantile(100.0 * gained / (windows * (weights.hit + weights.miss)), (0.025, 0.975))
        return float(low), float(high)


def load(folder: Path) -> Corpus:
    """The corpus in a folder with `series.parquet`, `combined_windows.json` and `scoring_profiles.json`."""
    labels = json.loads((folder / "combined_windows.json").read_text())
    matrices = {name: found["CostMatrix"] for name, found in json.loads((folder / "scoring_profiles.json").read_text()).items()}
    series = []
    for name, rows in pd.read_parquet(folder / "series.parquet").groupby("series_id", sort=True):
        times = rows.timestamp.to_numpy().astype("datetime64[ns]").astype(np.int64)
        at = {int(time): row for row, time in reversed(list(enumerate(times)))}  # the first row of a time that comes twice
        windows = [(at[pd.Timestamp(a).value], at[pd.Timestamp(b).value]) for a, b in labels[f"{name}.csv"]]
        series.append(Series(str(name), times, rows.value.to_numpy(float), windows))
    return Corpus(series, {name: Weights(m["tpWeight"], m["fpWeight"], m["fnWeight"]) for name, m in matrices.items()})
