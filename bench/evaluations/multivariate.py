"""Metrics judged together, and peers: beside PCA and rolling median and MAD, computed in the same run.

ASD and SMD: the rows of an entity are streamed once, train then test; what is scored is the test part. Point AUC-PR is the mean over
entities of average precision, without point adjustment. PCA is fitted on the train part (standardised, 90 % of the variance) and scores by
the squared reconstruction error; rolling median and MAD by the mean over metrics of |x - median| / MAD of the 100 rows before. Alarms are
those the technique would send; an alarm is right when it begins in a labelled segment or at most 2 rows after it. Hit@k: one of the k
metrics blamed most over a segment is among those labelled as its roots (SMD's interpretation labels); beside it what a random order would
hit. No parameter was fitted by file, but the few there are, the form of the rank among them, were chosen with the figures of all these 14
entities in view: treat them as development figures.

The fleet is generated: 40 pods in four groups with three metrics each, a shared daily curve, habits of their own, a week at a minute's
interval; then one deviates for an hour.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.data import DATA
from bench.scores.points import auc_pr
from ninefold.analytics.findings import described
from ninefold.analytics.metrics.peers import Peers
from ninefold.analytics.metrics.together import Replayed, Together, replay
from ninefold.ground.clock import MINUTE
from ninefold.model.signal import METRIC, Batch, batch_of
from ninefold.plugin import Technique

_SETS = (
    ("ASD", "asd", 5, 0.368, ""),
    (
        "SMD",
        "smd",
        1,
        0.872,
        "two machines, and one segment of 53 hours makes up half of the labelled rows: whether it is learned decides the figure.",
    ),
)
_LATE, _TOP = 2, (1, 3, 5)
START = 1_700_006_400 * 10**9


def pca(values: np.ndarray, train: np.ndarray, variance: float = 0.9) -> np.ndarray:
    """Squared reconstruction error by row."""
    unit = (values - values[train].mean(axis=0)) / (values[train].std(axis=0) + 1e-8)
    sizes, vectors = np.linalg.eigh(np.cov(unit[train].T))
    sizes, vectors = sizes[::-1], vectors[:, ::-1]
    kept = vectors[:, : int(np.searchsorted(np.cumsum(sizes) / sizes.sum(), variance)) + 1]
    error: np.ndarray = ((unit - unit @ kept @ kept.T) ** 2).sum(axis=1)
    return error


def rolling(values: np.ndarray, rows: int = 100) -> np.ndarray:
    """Mean over metrics of the distance from the median of the rows before, in their MAD."""
    table = pd.DataFrame(values)
    median = table.rolling(rows, min_periods=10).median().shift(1)
    mad = (table - median).abs().rolling(rows, min_periods=10).median().shift(1)
    far: np.ndarray = ((table - median).abs() / (1.4826 * mad + 1e-3)).clip(upper=20).mean(axis=1).fillna(0).to_numpy()
    return far


def entities(folder: str) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]]:
    """Name, values, whether train, labels, segments of every entity."""
    table = pd.read_parquet(DATA / "timeseries" / folder / "series.parquet")
    segments = pd.read_csv(DATA / "timeseries" / folder / "segments.csv")
    metrics = [column for column in table.columns if column[0] == "m" and column[1:].isdigit()]
    return [
        (str(name), rows[metrics].to_numpy(np.float64), (rows["split"] == "train").to_numpy(), rows["label"].to_numpy(),
         segments[segments["entity"] == name])
        for name, rows in table.groupby("entity", sort=True)
    ]  # fmt: skip


def judged(found: Replayed, train: np.ndarray, segments: pd.DataFrame, firsts: tuple[str, str]) -> dict[str, float]:
    """Alarms in the test part, how many are right; segments, how many were found, and how many have a root metric among the first k."""
    begin, end = (segments[name].to_numpy(int) for name in firsts)
    alarms = [told for _, told in found.alarms if not train[told]]
    right = sum(bool(np.any((told >= begin) & (told <= end + _LATE))) for told in alarms)
    counts: dict[str, float] = {"alarms": len(alarms), "right": right, "segments": len(segments), "seen": 0, "rows": int((~train).sum())}
    for first, last, roots in zip(begin, end, segments["root_metrics"], strict=True):
        counts["seen"] += any(first <= told <= last + _LATE for told in alarms)
        order = [f"m{place + 1:02d}" for place in np.argsort(-found.shares[first : last + 1].mean(axis=0)).tolist()]
        labelled = set(str(roots).split())
        for k in _TOP:
            counts[f"hit@{k}"] = counts.get(f"hit@{k}", 0) + bool(labelled & set(order[:k]))
            missed = np.prod([max(len(order) - len(labelled) - place, 0) / (len(order) - place) for place in range(k)])
            counts[f"chance@{k}"] = counts.get(f"chance@{k}", 0) + 1 - float(missed)
    return counts


def together() -> list[dict[str, Any]]:
    """The rows of ASD and SMD."""
    rows: list[dict[str, Any]] = []
    for title, folder, minutes, target, note in _SETS:
        scores: dict[str, list[float]] = {"ours": [], "surprise": [], "chance": [], "pca": [], "rolling": []}
        total: dict[str, float] = {}
        for _, values, train, labels, segments in entities(folder):
            found = replay(values)
            test = ~train
            for name, score in (
                ("ours", found.rank),
                ("surprise", found.surprise),
                ("chance", found.score),
                ("pca", pca(values, train)),
                ("rolling", rolling(values)),
            ):
                scores[name].append(auc_pr(labels[test].astype(float), score[test]))
            for name, count in judged(found, train, segments, ("start_t", "end_t")).items():
                total[name] = total.get(name, 0) + count
        mean = {name: float(np.mean(values)) for name, values in scores.items()}
        days = total["rows"] * minutes / 1440
        rows += [
            {"name": f"{title}: point AUC-PR of the rank, streamed", "value": mean["ours"], "target": target,
             "peer": f"PCA {mean['pca']:.3f}, rolling median/MAD {mean['rolling']:.3f}", "ratio": mean["ours"] / mean["pca"], "note": note},
            {"name": f"{title}: the same, every second entity", "value": float(np.mean(scores["ours"][1::2])),
             "peer": f"PCA {np.mean(scores['pca'][1::2]):.3f}"},
            {"name": f"{title}: point AUC-PR of the surprise, which alarms", "value": mean["surprise"]},
            {"name": f"{title}: point AUC-PR of its chance", "value": mean["chance"]},
            {"name": f"{title}: alarms that are right", "value": 100 * total["right"] / max(total["alarms"], 1), "unit": "%"},
            {"name": f"{title}: segments with an alarm", "value": 100 * total["seen"] / total["segments"], "unit": "%"},
            {"name": f"{title}: alarms a day and entity", "value": total["alarms"] / days, "lower": True},
            *({"name": f"{title}: hit@{k}, a root metric among the first {k} blamed", "value": 100 * total[f"hit@{k}"] / total["segments"],
               "unit": "%", "peer": f"random order {100 * total[f'chance@{k}'] / total['segments']:.0f} %"} for k in _TOP),
        ]  # fmt: skip
    return [
        *rows,
        {
            "name": "judging together, 200 entities of 15 metrics",
            "value": speed(Together()),
            "unit": "M points/CPU-s",
            "target": "≥ 3",
        },
    ]


def speed(technique: Technique, entities: int = 200, metrics: int = 15, minutes: int = 400) -> float:
    """M points a CPU-second through `process`, one batch a minute."""
    rng = np.random.default_rng(0)
    about = [described(f"m{j}", "", "gauge", f"host:h{i}", {}, START) for i in range(entities) for j in range(metrics)]
    technique.process(batch_of("series", "bench", START, about))
    values = rng.normal(50, 5, (minutes, len(about)))
    played(technique, about, values[:50], 0)
    start = time.process_time()
    played(technique, about, values[50:], 50)
    return values[50:].size / (time.process_time() - start) / 1e6


def fleet(days: int = 7, pods: int = 40, seed: int = 7) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Descriptions and values [minutes, series] of pods with habits."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(days * 1440)
    about, values = [], []
    for pod in range(pods):
        name = f"app{pod % 4}-5d4f8c7b9-{'bcdfghjklm'[pod // 4] * 4}2"
        habit = rng.lognormal(0, 0.15)
        for metric, base, noise in (("cpu", 40.0, 0.08), ("requests", 900.0, 0.05), ("memory", 500.0, 0.03)):
            curve = base * (1 + 0.5 * np.sin(minutes * 2 * np.pi / 1440 + pod % 4))
            wander = np.exp(0.03 * np.sin(minutes / rng.uniform(200, 900) + rng.uniform(0, 6)))
            about.append(described(metric, "", "gauge", f"pod:shop/{name}", {"k8s.pod.name": name}, START))
            values.append(habit * curve * wander * rng.lognormal(0, noise, len(minutes)))
    return about, np.stack(values, axis=1)


def played(technique: Technique, about: list[dict[str, Any]], values: np.ndarray, first: int) -> list[dict[str, Any]]:
    """The events of so many minutes, one batch a minute."""
    ids, found = pa.array([one["series"] for one in about], pa.uint64()), []
    for minute, row in enumerate(values):
        time_ns = START + (first + minute) * MINUTE
        times = pa.array(np.full(len(row), time_ns), METRIC.field("time").type)
        batch = Batch("metric", "bench", time_ns, pa.RecordBatch.from_arrays([ids, times, pa.array(row)], schema=METRIC))
        found += [event for out in technique.process(batch) for event in out.rows.to_pylist()]
    return found


def peers() -> list[dict[str, Any]]:
    """False alarms of a quiet week, deviants found afterwards, speed."""
    about, values = fleet()
    technique = Peers()
    technique.process(batch_of("series", "bench", START, about))
    quiet = played(technique, about, values, 0)
    state, found, others = technique.snapshot(), 0, 0
    deviations = ((1.3, "a third more"), (1.6, "60 % more"), (0.5, "half"))
    rows: list[dict[str, Any]] = []
    for factor, words in deviations:
        found = others = 0
        for pod in range(0, 40, 4):
            again = Peers()
            again.restore(state)
            hour = values[:90].copy()
            hour[20:80, 3 * pod : 3 * pod + 2] *= factor
            fired = {event["entity"] for event in played(again, about, hour, len(values)) if event["status"] == "firing"}
            found += about[3 * pod]["entity"] in fired
            others += len(fired - {about[3 * pod]["entity"]})
        rows.append(
            {"name": f"fleet: deviants of {words} found", "value": 10.0 * found, "unit": "%", "target": 90 if factor != 1.3 else None}
        )
    alarms = sum(event["status"] == "firing" for event in quiet)
    rows.append({"name": "fleet: false alarms of 40 pods in a quiet week", "value": alarms, "target": "≤ 1"})
    return [
        *rows,
        {
            "name": "comparing peers, 15 groups of 200",
            "value": speed(Peers()),
            "unit": "M points/CPU-s",
            "target": "≥ 3",
        },
    ]


def run() -> list[dict[str, Any]]:
    """The table's rows."""
    return [*together(), *peers()]
