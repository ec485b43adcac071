"""Logs: templates against the labels of eight systems, sessions against labelled sequences.

Templates are found in one pass and one configuration; GA, FGA, PA and FTA as Loghub-2.0 defines them (Jiang et al., ISSTA 2024), on
the corrected labels; *normalised* PA and FTA compare template texts after both went through the same masks and tokens, since labels and
parsers disagree about what a hole may span. Peers are the published scores of Drain and of the best of fifteen parsers per figure.

Sessions are judged by a model that learned the training sessions only, by one that goes on learning those it does not find odd, and by
one that has learned nothing before; for these two the anomalies are as rare as in reality. Peers of the same run: the event an n-gram
of three leads to among the nine most frequent (what DeepLog learns, Du et al., CCS 2017), and PCA of the event counts (Xu et al.,
SOSP 2009). The threshold lies on a plateau (3 to 4) of both.

    python -m bench.evaluations.logs        prints Markdown tables
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.data import DATA
from bench.logs import SYSTEMS, agreement, labelled
from ninefold.analytics.logs.sequences import LEARNED, ODD, Model, judged, shape
from ninefold.analytics.logs.templates import Miner, tokens_of

MEASURES = ("GA", "FGA", "PA", "FTA", "normalised PA", "normalised FTA")
TARGETS = {"GA": 0.93, "FGA": 0.92, "normalised PA": 0.84}
PREVALENCE = {"hdfs": 0.029, "openstack": 0.117}
F1_TARGETS = {"hdfs": 0.95, "openstack": 0.95}
_HISTORY, _TOP, _VARIANCE = 3, 9, 0.95


def scores(system: str) -> dict[str, float]:
    """The six measures of one system."""
    lines, truth = labelled(system)
    miner = Miner()
    numbers = [miner.add(line) for line in lines]
    found = [miner.find(number) for number in numbers]
    texts = [miner.text(number) for number in found]
    ours = [miner.tokens[number] for number in found]
    theirs = [tokens_of(text.replace("<*>", "\0")) for text in truth]
    ga, fga = agreement(found, truth)
    return {
        "GA": ga, "FGA": fga, "PA": _same(texts, truth), "FTA": _templates(found, texts, truth, truth),
        "normalised PA": _same(ours, theirs), "normalised FTA": _templates(found, ours, truth, theirs),
    }  # fmt: skip


def _same(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> float:
    return float(np.mean([one == other for one, other in zip(ours, theirs, strict=True)]))


def _templates(found: Sequence[Hashable], ours: Sequence[Hashable], truth: Sequence[Hashable], theirs: Sequence[Hashable]) -> float:
    """F1 of templates whose lines are exactly those of a true one, and whose text is its text."""
    groups, true = defaultdict[Hashable, list[int]](list), defaultdict[Hashable, list[int]](list)
    for i, (one, other) in enumerate(zip(found, truth, strict=True)):
        groups[one].append(i)
        true[other].append(i)
    right = {tuple(rows) for rows in true.values()}
    hits = sum(tuple(rows) in right and ours[rows[0]] == theirs[rows[0]] for rows in groups.values())
    return 2 * hits / (len(groups) + len(true))


def published() -> dict[tuple[str, str], dict[str, float]]:
    """By system and measure, the published score of each parser; the mean as system `Average`."""
    with (DATA / "logs" / "loghub_2k" / "published_scores_2k.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {
        (row["system"], row["metric"]): {name: float(value) for name, value in row.items() if name not in ("system", "metric") and value}
        for row in rows
    }
    for measure in {metric for _, metric in found}:  # the published mean is of other systems too
        parsers = found[SYSTEMS[0], measure]
        found["Average", measure] = {
            name: float(np.mean([found[system, measure].get(name, np.nan) for system in SYSTEMS])) for name in parsers
        }
    return found


def templates() -> list[dict[str, Any]]:
    """The measures of each system and their means."""
    known, by_system = published(), {system: scores(system) for system in SYSTEMS}
    by_system["Average"] = {name: float(np.mean([one[name] for one in by_system.values()])) for name in MEASURES}
    rows = []
    for system in ("Average", *SYSTEMS):
        for name in MEASURES if system == "Average" else MEASURES[:5]:
            peers = known.get((system, name), {})
            best = max((peer for peer in peers if peers[peer] == peers[peer]), key=lambda peer: peers[peer], default="")
            value, peer = by_system[system][name], peers.get("Drain")
            rows.append({
                "name": f"{'mean of eight systems' if system == 'Average' else system}: {name}", "value": value, "unit": "share",
                "target": TARGETS.get(name) if system == "Average" else None,
                "peer": f"Drain {peer:.3f}, {best} {peers[best]:.3f}" if peer is not None else None,
                "ratio": value / peer if peer else None,
            })  # fmt: skip
    return rows


def load(name: str) -> tuple[list[list[int]], list[list[int]], np.ndarray[Any, Any]]:
    """Training sessions, test sessions in a fixed random order, and which of those are anomalies."""
    rows = pq.read_table(DATA / "logs" / f"{name}_sequences" / "sequences.parquet").to_pylist()
    train = [list(map(int, row["events"].split())) for row in rows if row["split"] == "train"]
    rest = [row for row in rows if row["split"] == "test"]
    rest = [rest[i] for i in np.random.default_rng(1).permutation(len(rest))]
    return train, [list(map(int, row["events"].split())) for row in rest], np.array([row["label"] == "anomaly" for row in rest])


def odd(model: Model, events: Sequence[int]) -> bool:
    """Whether a session is odd, as the technique decides it."""
    return model.n >= LEARNED[0] and model.shapes.get(shape(events), 0.0) < 2.0 and model.score(*judged(events))[0] >= ODD[0]


def ours(train: Sequence[Sequence[int]], test: Sequence[Sequence[int]], *, live: bool = False) -> np.ndarray[Any, Any]:
    """Which test sessions are odd; a live model goes on learning those that are not."""
    model, found = Model(), []
    for events in train:
        model.learn(*judged(events), shape(events), 1)
    for events in test:
        found.append(odd(model, events))
        if live and not found[-1]:
            model.learn(*judged(events), shape(events), 1)
    return np.array(found)


def n_grams(train: Sequence[Sequence[int]], test: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
    """Sessions with an event that is not among the most frequent after the ones before it."""
    follow = defaultdict[tuple[int, ...], Counter[int]](Counter)
    for events in train:
        padded = [0] * _HISTORY + list(events)
        for i in range(_HISTORY, len(padded)):
            follow[tuple(padded[i - _HISTORY : i])][padded[i]] += 1
    likely = {before: {event for event, _ in counts.most_common(_TOP)} for before, counts in follow.items()}

    def strange(events: Sequence[int]) -> bool:
        padded = [0] * _HISTORY + list(events)
        return any(padded[i] not in likely.get(tuple(padded[i - _HISTORY : i]), ()) for i in range(_HISTORY, len(padded)))

    return np.array([strange(events) for events in test])


def principal(train: Sequence[Sequence[int]], test: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
    """Sessions whose counts lie further from the main components than all but a thousandth of the training ones."""
    size = 1 + max(event for events in [*train, *test] for event in events)
    known, asked = (np.array([np.bincount(events, minlength=size) for events in some], float) for some in (train, test))
    centre = known.mean(axis=0)
    _, strengths, axes = np.linalg.svd(known - centre, full_matrices=False)
    kept = axes[: 1 + int(np.searchsorted(np.cumsum(strengths**2) / max((strengths**2).sum(), 1e-9), _VARIANCE))]

    def distance(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        residual = (rows - centre) - (rows - centre) @ kept.T @ kept
        return np.asarray((residual**2).sum(axis=1))

    return np.asarray(distance(asked) > np.quantile(distance(known), 0.999) + 1e-9)


def figures(found: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> tuple[float, float, float, float]:
    """Precision, recall, F1 and the share of normal sessions that were called odd."""
    right = float((found & truth).sum())
    precision, recall = right / max(found.sum(), 1), right / max(truth.sum(), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9), float(found[~truth].mean())


def sessions(name: str) -> list[dict[str, Any]]:
    """Rows about the sessions of one system."""
    train, test, truth = load(name)
    title = {"hdfs": "HDFS blocks", "openstack": "OpenStack instances"}[name]
    precision, recall, f1, false = figures(ours(train, test), truth)
    grams, components = figures(n_grams(train, test), truth), figures(principal(train, test), truth)
    rare = np.sort(np.r_[np.flatnonzero(~truth), np.flatnonzero(truth)[: int(PREVALENCE[name] / (1 - PREVALENCE[name]) * (~truth).sum())]])
    scratch, after = (figures(ours(known, [test[i] for i in rare], live=True), truth[rare]) for known in ([], train))

    def row(what: str, value: float, place: int, target: float | None = None, *, lower: bool = False) -> dict[str, Any]:
        peers = f"n-gram {grams[place]:.3f}, PCA {components[place]:.3f}"
        return {
            "name": f"{title}, {len(train):,} learned: {what}", "value": value, "unit": "share", "target": target, "peer": peers,
            "ratio": value / grams[place] if grams[place] else None, "lower": lower,
        }  # fmt: skip

    return [
        row("F1", f1, 2, F1_TARGETS[name]), row("precision", precision, 0), row("recall", recall, 1),
        row("normal sessions called odd", false, 3, lower=True),
        {
            "name": f"{title}, {len(train):,} learned and learning on, {PREVALENCE[name]:.1%} anomalies: F1", "value": after[2],
            "unit": "share", "target": None, "peer": None, "ratio": None,
        },
        {
            "name": f"{title}, none learned before, {PREVALENCE[name]:.1%} anomalies from the first: F1", "value": scratch[2],
            "unit": "share", "target": None, "peer": None, "ratio": None,
        },
    ]  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All rows."""
    return [*templates(), *sessions("hdfs"), *sessions("openstack")]


def main() -> None:
    """Print the table."""
    print("| figure | here | target | peers |\n|---|---:|---:|---|")
    for row in run():
        print(f"| {row['name']} | {row['value']:.3f} | {row['target'] or ''} | {row['peer'] or ''} |")


if __name__ == "__main__":
    main()
