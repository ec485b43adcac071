"""Detection in metric series: the Numenta benchmark, labelled telemetry and generated fleets, one set of parameters for all.

Two channels of one fold. Ranking ("interesting now") gives every point a score; severity decides what pages somebody. Peers in the same
run: a rolling median with the median absolute deviation, and NAB's own windowed mean and deviation; published scores stand in the notes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bench.data import DATA
from bench.scores import nab
from bench.scores.points import auc_pr, events
from bench.scores.vus import segments, vus_pr
from ninefold.analytics import warm
from ninefold.analytics.metrics.baseline import band
from ninefold.analytics.metrics.interest import interest
from ninefold.ground.clock import MINUTE

F64 = nab.F64
I64 = nab.I64
FOLDER = DATA / "timeseries"
START = 1_700_000_000_000_000_000 // MINUTE * MINUTE
PUBLISHED = ("ARTime", "contextOSE", "numenta", "htmjava", "earthgeckoSkyline", "randomCutForest", "twitterADVec", "windowedGaussian")
TARGETS = {"standard": 71, "reward_low_FP_rate": 66, "reward_low_FN_rate": 75}
WORDS = {"standard": "standard", "reward_low_FP_rate": "few false alarms", "reward_low_FN_rate": "few misses"}
WINDOW = 288
_HOURS_6 = 360 * MINUTE


def rolling(values: F64) -> F64:
    """The peer: distance from the median of the last `WINDOW` points, in median absolute deviations of that window."""
    series = pd.Series(values)
    middle = series.rolling(WINDOW, min_periods=12).median().shift(1)
    off = (series - middle).abs()
    spread = off.rolling(WINDOW, min_periods=12).median().shift(1)
    floor = 0.01 * series.abs().expanding().mean() + 1e-9
    return np.asarray((off / np.maximum(spread.fillna(0.0), floor)).fillna(0.0))


def cooled(scores: F64, points: int = 100) -> F64:
    """A score of which only new heights within so many points are kept."""
    before = pd.Series(scores).rolling(points, min_periods=1).max().shift(1).fillna(-np.inf).to_numpy()
    return np.where(scores > before, scores, 0.0)


def row(name: str, value: float, unit: str, target: float | None = None, peer: float | str | None = None, **more: Any) -> dict[str, Any]:
    """One row of the table."""
    ratio = value / peer if isinstance(peer, float) and peer > 0 else None  # a ratio to a negative score says nothing
    return {"name": name, "value": float(value), "unit": unit, "target": target, "peer": peer, "ratio": ratio, **more}


@cache
def corpus() -> nab.Corpus:
    """The benchmark."""
    return nab.load(FOLDER / "nab")


@cache
def ranked() -> tuple[F64, F64]:
    """Score and state of ours over the corpus."""
    parts = [interest(series.times, series.values, "gauge") for series in corpus().series]
    return np.concatenate([score for score, _ in parts]), np.concatenate([state for _, state in parts])


def paged() -> F64:
    """The severity of every alarm of the paging channel at the point where it was raised."""
    found = []
    for series in corpus().series:
        order = np.argsort(series.times, kind="stable")
        scores = np.zeros(len(order))
        for finding in band(series.times[order], series.values[order], "gauge")[3]:
            scores[order[np.searchsorted(series.times[order], finding.time)]] = finding.score
        found.append(scores)
    return np.concatenate(found)


def benchmark() -> list[dict[str, Any]]:
    """NAB, both channels and a peer; thresholds from all files (as every published score) and from the other half of the files."""
    ours, (score, _) = corpus(), ranked()
    peer, alarms = np.concatenate([cooled(rolling(series.values)) for series in ours.series]), paged()
    curves = {name: ours.curves(scores) for name, scores in (("ours", score), ("peer", peer), ("paging", alarms))}
    published = json.loads((FOLDER / "nab" / "published_scores.json").read_text())
    rows = []
    for profile in nab.PROFILES:
        (best, threshold), (theirs, _) = ours.best(curves["ours"], profile), ours.best(curves["peer"], profile)
        low, high = ours.interval(score, profile, threshold)
        said = ", ".join(f"{name} {published[name][profile]:.1f}" for name in PUBLISHED)
        note = f"95 % of draws of the files lie between {low:.0f} and {high:.0f}. Published: {said}."
        rows.append(row(f"NAB {WORDS[profile]}: ranking, threshold from all files", best, "of 100", TARGETS[profile], theirs, note=note))
        target = 70 if profile == "standard" else None
        across = ours.crossed(score, profile)
        rows.append(
            row(f"NAB {WORDS[profile]}: ranking, threshold from the other half", across, "of 100", target, ours.crossed(peer, profile))
        )
    first, second = ours.halves()
    tuned = ours.best(ours.curves(score, first), "standard")[1]
    held = ours.at(ours.curves(score, second), "standard", tuned)
    own = ours.best(ours.curves(score, second), "standard")[0]
    note = f"parameters were looked for on half A only; half B reaches {own:.1f} with a threshold of its own"
    rows.append(row("NAB standard: half B, parameters and threshold from half A", held, "of 100", 64, note=note))
    rows.append(row("NAB standard: paging channel", ours.best(curves["paging"], "standard")[0], "of 100"))
    return [*rows, *_alarms(ours, score)]


def _alarms(ours: nab.Corpus, score: F64) -> list[dict[str, Any]]:
    """False alarms at the threshold of the standard profile, those within six hours being one."""
    threshold = ours.best(ours.curves(score), "standard")[1]
    found = false = 0.0
    weeks, first = 0.0, 0
    for series in ours.series:
        here = slice(first, first + len(series.times))
        first = here.stop
        alarms = (score[here] >= threshold) & ours.counts[here]
        inside = ours.inside[here]
        found += len(np.unique(inside[alarms & (inside >= 0)]))
        false += events([], np.sort(series.times[alarms & (inside < 0)]), _HOURS_6).alarms
        weeks += (series.times.max() - series.times.min()) / (7 * 1440 * MINUTE)
    return [
        row("NAB: windows found by ranking", found, "of 116"),
        row("NAB: false alarms of ranking", false / weeks, "a series-week", lower=True),
    ]


def volumes() -> list[dict[str, Any]]:
    """VUS-PR over the windows of NAB, the mean over the series that have any, without their probation."""
    state, totals, first = ranked()[1], [], 0
    for series in corpus().series:
        here = slice(first, first + len(series.times))
        first = here.stop
        counts = corpus().counts[here]
        labels = (corpus().inside[here] >= 0).astype(float)[counts]
        if labels.any():
            methods = (state[here][counts], rolling(series.values)[counts], np.random.default_rng(1).random(int(counts.sum())))
            totals.append([vus_pr(labels, scores) for scores in methods])
    ours, theirs, chance = np.mean(totals, axis=0)
    note = f"buffers of 0 to 100 points; a random score reaches {chance:.3f}"
    return [row("NAB windows: VUS-PR of the anomalous state", ours, f"mean of {len(totals)}", None, float(theirs), note=note)]


def labelled() -> Iterator[tuple[str, str, I64, F64, F64, int]]:
    """Labelled telemetry: set, group, times, values, labels, and the first point that counts; a multivariate row is told by its metrics."""
    frame = pd.read_parquet(FOLDER / "ms_cloud_monitoring" / "series.parquet")
    frame = frame.drop_duplicates(["domain", "series_id", "timestamp"]).sort_values("timestamp")
    for name, rows in frame.groupby(["domain", "series_id"]):
        times = rows.timestamp.dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
        yield "MS Cloud", str(name), times, rows.value.to_numpy(float), rows.label.to_numpy(float), 0
    for folder, name, minutes in (("asd", "ASD", 5), ("smd", "SMD", 1)):
        frame = pd.read_parquet(FOLDER / folder / "series.parquet")
        for entity, rows in frame.groupby("entity"):
            times, labels = START + np.arange(len(rows)) * minutes * MINUTE, rows.label.to_numpy(float)
            for column in [column for column in rows.columns if column.startswith("m")]:
                yield name, str(entity), times, rows[column].to_numpy(float), labels, int((rows.split == "train").sum())


def telemetry() -> list[dict[str, Any]]:
    """Point AUC-PR of the strength of a series; of an entity with many, of their sum."""
    scores: dict[tuple[str, str], list[tuple[F64, F64]]] = {}
    truths: dict[tuple[str, str], F64] = {}
    for name, group, times, values, labels, first in labelled():
        ours, theirs = interest(times, values, "gauge")[1][first:], rolling(values)[first:]
        scores.setdefault((name, group), []).append((ours, np.log1p(np.minimum(theirs, 1e6))))
        truths[name, group] = labels[first:]
    rows = []
    for name in ("MS Cloud", "ASD", "SMD"):
        areas, found = [], []
        for key in [key for key in truths if key[0] == name and truths[key].any()]:
            ours, theirs = (np.sum(part, axis=0) for part in zip(*scores[key], strict=True))
            areas.append((auc_pr(truths[key], ours), auc_pr(truths[key], theirs), float(truths[key].mean())))
            ranges = segments(truths[key])
            alarms = np.flatnonzero(ours >= np.sort(ours)[-max(int(0.01 * len(ours)), 1)])
            found.append(events(ranges, alarms, 10)[:2])
        (ours_mean, peer, chance), (precision, recall) = np.mean(areas, axis=0), np.nanmean(found, axis=0)
        note = f"a random score reaches {chance:.3f}; the highest 1 % of points: precision of events {precision:.2f}, recall {recall:.2f}"
        rows.append(row(f"{name}: point AUC-PR of ranking", ours_mean, f"mean of {len(areas)}", None, float(peer), note=note))
    return rows


def generated(kind: str, rng: np.random.Generator, size: int) -> F64:
    """A series with nothing wrong in it, a point every five minutes."""
    draw = rng.normal(size=size)
    if kind == "autocorrelated":
        values = np.zeros(size)
        for i in range(1, size):
            values[i] = 0.9 * values[i - 1] + np.sqrt(0.19) * draw[i]
        return 100 + 10 * values
    if kind == "daily and weekly":
        at = np.arange(size) / 288
        return np.asarray(100 + 40 * np.sin(2 * np.pi * at) - 25 * (at % 7 >= 5) + 5 * draw)
    return np.asarray(100 * np.exp(0.8 * draw) if kind == "heavy-tailed" else 100 + 10 * draw)


def injected(kind: str, values: F64, at: int, rng: np.random.Generator) -> F64:
    """The series with something wrong from a place on, for an hour's to half a day's points."""
    changed = values.copy()
    wide = np.quantile(values, 0.999) - np.median(values)
    if kind == "spike":
        changed[at : at + 2] += 2 * wide
    elif kind == "shift":
        changed[at : at + 60] += 1.2 * wide
    elif kind == "variance":
        middle = pd.Series(values).rolling(13, center=True, min_periods=1).median().to_numpy()
        changed[at : at + 144] += 2 * (values - middle)[at : at + 144]
    else:
        changed[at : at + 144] = rng.permutation(values[at - 288 : at])[:144]
    return changed


FAULTS = {"spike": 4, "shift": 60, "variance": 144, "season broken": 144}
NOISES = {"normal": 0.07, "autocorrelated": 0.07, "daily and weekly": 0.07, "heavy-tailed": 0.45}


def fleets(series: int = 12, size: int = 21 * 288) -> list[dict[str, Any]]:
    """Generated fleets (21 days, a week of warm-up), both channels: false alarms of what is clean, and what was found of what is not."""
    rng, times = np.random.default_rng(11), START + np.arange(size) * 5 * MINUTE
    at, rows = int(size * 0.8), []
    found: dict[str, list[bool]] = {fault: [] for fault in FAULTS}
    above: dict[str, list[bool]] = {fault: [] for fault in FAULTS}
    for noise, target in NOISES.items():
        false = theirs = 0
        clean = []
        for _ in range(series):
            values = generated(noise, rng, size)
            alarms = np.array([one.time for one in band(times, values, "gauge")[3]], np.int64)
            false += events([], alarms[alarms > times[7 * 288]], _HOURS_6).alarms
            theirs += events([], times[7 * 288 :][rolling(values)[7 * 288 :] > 8.0], _HOURS_6).alarms
            clean.append(interest(times, values, "gauge")[1][at : at + 144])
            for fault, points in FAULTS.items():
                if fault == "season broken" and noise != "daily and weekly":
                    continue
                changed = injected(fault, values, at, rng)
                first, last = times[at], times[at + points]
                found[fault].append(any(first <= one.time <= last for one in band(times, changed, "gauge")[3]))
                peak = interest(times, changed, "gauge")[1][at : at + points].max()
                above[fault].append(bool(peak > np.quantile([other[:points].max() for other in clean], 0.9)))
        weeks = 2 * series
        rows.append(row(f"paging, {noise}: false alarms", false / weeks, "a clean series-week", target, theirs / weeks, lower=True))
    goals = {"spike": 0.85, "shift": 0.55}
    for fault in FAULTS:
        rows.append(row(f"paging: {fault} found", float(np.mean(found[fault])), f"of {len(found[fault])}", goals.get(fault)))
    for fault in FAULTS:
        rows.append(row(f"ranking: {fault} above nine in ten clean series", float(np.mean(above[fault])), f"of {len(above[fault])}"))
    return rows


def run() -> list[dict[str, Any]]:
    """All figures."""
    warm.warm()
    return [*benchmark(), *volumes(), *telemetry(), *fleets()]
